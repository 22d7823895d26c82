/*
 * A thread that waits in io_uring_enter returns once what it waits for is there, whatever made it.
 *
 * Every way by which completions come while somebody waits, times every kind of ring, times everybody that can wait, times
 * every driver: each cell of that table is played, and most of them again with the two sides met at another moment. The
 * one rule: of n completions, whoever waits for no more than n returns with 0, and nobody sleeps on.
 *
 * Nothing here depends on time but the limit after which a waiter is given up.
 *
 * Arguments: rounds, seed, and a share N: a round plays every Nth cell, the next round those after them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "abi/iommufd.h"
#include "check.h"
#include "rings/engine.h"

#define MOST_WAITERS 4
#define MOST_MADE 4u
#define LIMIT_S 20.0	/* of this thread's own work: a machine that stands still for a while wakes nobody either */
#define TAG 1000u

static double worked_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char *const driver_name[] = { "inline", "enter", "sqpoll" };

enum kind { PLAIN, POLLED, DEFERRED, KINDS };
static const char *const kind_name[] = { "plain", "SQPOLL", "DEFER_TASKRUN" };

struct bench {
	struct uiopf_core *core;
	enum uiopf_driver driver;
	enum kind kind;
	struct uiopf_engine *mine, *other, *idle;
	struct uiopf_client_ring *mine_ring, *other_ring, *idle_ring;
	struct uiopf_mock *mock;
	struct uiopf_device *device;
	struct uiopf_faultq *queue;
	struct uiopf_eventq *events;
	int pipe[2], quiet[2];
	int32_t pipe_fd, quiet_fd, queue_fd, events_fd, mine_fd, other_fd;
	uint64_t random;
	/* In the clients' window. */
	struct memory {
		struct __kernel_timespec soon, never;
		int32_t files[MOST_MADE];
		uint64_t tags[MOST_MADE];
		uint8_t bytes[4096];
	} *memory;
};

/* ---- requests ---- */

static void push(struct uiopf_client_ring *ring, struct io_uring_sqe sqe)
{
	CHECK(uiopf_client_push(ring, &sqe) >= 0);
}

static void submit(struct bench *b, struct uiopf_engine *e, struct uiopf_client_ring *ring)
{
	uint32_t n = uiopf_client_publish(ring);
	int rc;

	if (!(e->setup_flags & IORING_SETUP_SQPOLL)) {
		while ((rc = uiopf_enter(e, n, 0, 0, 0)) == -EINTR)
			;
		CHECK_EQ(rc, n);
	} else if (b->driver == UIOPF_INLINE) {
		while (uiopf_core_consume(b->core) == -EINTR)
			;
	} else if (uiopf_client_needs_wakeup(ring)) {
		while ((rc = uiopf_enter(e, 0, 0, IORING_ENTER_SQ_WAKEUP, 0)) == -EINTR)
			;
		CHECK_EQ(rc, 0);
	}
	while (b->driver == UIOPF_SQPOLL && uiopf_client_load(ring, RING_SQ_HEAD) != ring->sq_published)
		sched_yield();
}

static uint64_t address_of(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static struct io_uring_sqe timeout_in(const struct __kernel_timespec *t, uint8_t flags)
{
	return (struct io_uring_sqe){ .opcode = IORING_OP_TIMEOUT, .addr = address_of(t), .len = 1, .flags = flags };
}

static struct io_uring_sqe poll_of(int32_t fd)
{
	return (struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .fd = fd, .poll32_events = POLLIN };
}

/* ---- what makes completions: `prepare` in the first waiter's thread, `make` in another while all wait ---- */

static void prepare_nothing(struct bench *b, uint32_t n)
{
	(void)b;
	(void)n;
}

static void make_nothing(struct bench *b, uint32_t n)
{
	(void)b;
	(void)n;
}

static void make_batch(struct bench *b, uint32_t n)
{
	while (n--)
		push(b->mine_ring, (struct io_uring_sqe){ .opcode = IORING_OP_NOP });
	submit(b, b->mine, b->mine_ring);
}

static void make_one_by_one(struct bench *b, uint32_t n)
{
	while (n--)
		make_batch(b, 1);
}

static void make_workers_batch(struct bench *b, uint32_t n)
{
	while (n--)
		push(b->mine_ring, (struct io_uring_sqe){ .opcode = IORING_OP_NOP, .flags = IOSQE_ASYNC });
	submit(b, b->mine, b->mine_ring);
}

static void make_messages(struct bench *b, uint32_t n)
{
	while (n--)
		push(b->other_ring, (struct io_uring_sqe){ .opcode = IORING_OP_MSG_RING, .fd = b->mine_fd, .off = 7 });
	submit(b, b->other, b->other_ring);
}

static void prepare_polls(struct bench *b, uint32_t n, int32_t fd)
{
	while (n--)
		push(b->mine_ring, poll_of(fd));
	submit(b, b->mine, b->mine_ring);
}

static void prepare_polls_of_ring(struct bench *b, uint32_t n)
{
	prepare_polls(b, n, b->other_fd);
}

static void make_other_complete(struct bench *b, uint32_t n)
{
	(void)n;
	push(b->other_ring, (struct io_uring_sqe){ .opcode = IORING_OP_NOP });
	submit(b, b->other, b->other_ring);
}

static void make_others_timer(struct bench *b, uint32_t n)
{
	(void)n;
	push(b->other_ring, timeout_in(&b->memory->soon, 0));
	submit(b, b->other, b->other_ring);
}

/* mine polls other, which polls mine: a circle, which ends as each poll is called by a ring once. */
static void prepare_circle(struct bench *b, uint32_t n)
{
	struct io_uring_sqe sqe = poll_of(b->mine_fd);

	sqe.len = IORING_POLL_ADD_MULTI;
	prepare_polls(b, n, b->other_fd);
	push(b->other_ring, sqe);
	submit(b, b->other, b->other_ring);
}

static void prepare_polls_of_pipe(struct bench *b, uint32_t n)
{
	prepare_polls(b, n, b->pipe_fd);
}

static void make_write(struct bench *b, uint32_t n)
{
	(void)n;
	CHECK_EQ(write(b->pipe[1], "x", 1), 1);
}

static void make_hangup(struct bench *b, uint32_t n)
{
	(void)n;
	close(b->pipe[1]);
	b->pipe[1] = -1;
}

static void prepare_reads_of_pipe(struct bench *b, uint32_t n)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_READ, .fd = b->pipe_fd, .addr = address_of(b->memory->bytes), .len = 1,
				    .off = UINT64_MAX };

	while (n--)
		push(b->mine_ring, sqe);
	submit(b, b->mine, b->mine_ring);
}

static void make_writes(struct bench *b, uint32_t n)
{
	CHECK_EQ(write(b->pipe[1], "xxxxxxxx", n), n);
}

static void prepare_timeouts(struct bench *b, uint32_t n)
{
	while (n--)
		push(b->mine_ring, timeout_in(&b->memory->soon, 0));
	submit(b, b->mine, b->mine_ring);
}

static void make_timeouts(struct bench *b, uint32_t n)
{
	prepare_timeouts(b, n);
}

/* It ends waits, whatever they are for, and says nothing. */
static void make_silent_timeout(struct bench *b, uint32_t n)
{
	struct io_uring_sqe sqe = timeout_in(&b->memory->soon, IOSQE_CQE_SKIP_SUCCESS);

	(void)n;
	sqe.timeout_flags = IORING_TIMEOUT_ETIME_SUCCESS;
	push(b->mine_ring, sqe);
	submit(b, b->mine, b->mine_ring);
}

/* n CQEs: each a poll that its link time-out cancels, and in silence the link time-out. */
static void prepare_link_timeouts(struct bench *b, uint32_t n)
{
	while (n--) {
		struct io_uring_sqe sqe = poll_of(b->quiet_fd);
		struct io_uring_sqe link = timeout_in(&b->memory->soon, 0);

		sqe.flags = IOSQE_IO_LINK;
		link.opcode = IORING_OP_LINK_TIMEOUT;
		push(b->mine_ring, sqe);
		push(b->mine_ring, link);
	}
	submit(b, b->mine, b->mine_ring);
}

static void prepare_polls_of_nothing(struct bench *b, uint32_t n)
{
	prepare_polls(b, n, b->quiet_fd);
}

static void make_sync_cancel(struct bench *b, uint32_t n)
{
	struct io_uring_sync_cancel_reg reg = { .flags = IORING_ASYNC_CANCEL_ANY, .timeout = { -1, -1 } };

	CHECK_EQ(uiopf_register(b->mine, IORING_REGISTER_SYNC_CANCEL, &reg, 1), n);
}

static void make_cancel(struct bench *b, uint32_t n)
{
	(void)n;
	push(b->mine_ring, (struct io_uring_sqe){ .opcode = IORING_OP_ASYNC_CANCEL, .flags = IOSQE_CQE_SKIP_SUCCESS,
						  .cancel_flags = IORING_ASYNC_CANCEL_ALL });
	submit(b, b->mine, b->mine_ring);
}

static void prepare_tags(struct bench *b, uint32_t n)
{
	struct io_uring_rsrc_register reg = { .nr = n, .data = address_of(b->memory->files), .tags = address_of(b->memory->tags) };
	uint32_t i;

	for (i = 0; i < n; i++) {
		b->memory->files[i] = b->pipe_fd;
		b->memory->tags[i] = TAG + i;
	}
	CHECK_EQ(uiopf_register(b->mine, IORING_REGISTER_FILES2, &reg, sizeof reg), 0);
}

static void make_unregister(struct bench *b, uint32_t n)
{
	(void)n;
	CHECK_EQ(uiopf_register(b->mine, IORING_UNREGISTER_FILES, NULL, 0), 0);
}

static void produce(struct bench *b)
{
	if (b->driver == UIOPF_INLINE)
		while (uiopf_core_produce(b->core) == -EINTR)
			;
}

static void prepare_polls_of_faults(struct bench *b, uint32_t n)
{
	prepare_polls(b, n, b->queue_fd);
}

static void prepare_reads_of_faults(struct bench *b, uint32_t n)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_READ, .fd = b->queue_fd, .addr = address_of(b->memory->bytes),
				    .len = sizeof(struct iommu_hwpt_pgfault), .off = UINT64_MAX };

	while (n--)
		push(b->mine_ring, sqe);
	submit(b, b->mine, b->mine_ring);
}

static void make_fault(struct bench *b, uint32_t n)
{
	(void)n;
	CHECK_EQ(uiopf_device_report(b->device, 3, 1, 5, 1, 0x1000), 0);
	produce(b);
}

static void make_faults(struct bench *b, uint32_t n)
{
	while (n--)
		make_fault(b, 1);
}

/* A queue with a depth says so when it has lost something: the control plane puts the limit there while all wait. */
static void make_replaced_queue(struct bench *b, uint32_t n)
{
	CHECK_EQ(uiopf_detach(b->device, UIOPF_NO_PASID), 0);
	CHECK_EQ(uiopf_attach(b->device, UIOPF_NO_PASID, b->queue, UIOPF_USER_MANAGED), 0);
	make_faults(b, n);
}

static void prepare_polls_of_events(struct bench *b, uint32_t n)
{
	prepare_polls(b, n, b->events_fd);
}

static void make_event(struct bench *b, uint32_t n)
{
	(void)n;
	CHECK_EQ(uiopf_eventq_report(b->events, "event", 6), 0);
}

/* A ring that goes, while others wait: nothing of theirs goes with it. */
static void make_messages_and_exit(struct bench *b, uint32_t n)
{
	struct io_uring_params p = { 0 };
	struct uiopf_engine *third;
	struct uiopf_client_ring *ring;

	CHECK_EQ(uiopf_setup(b->core, 8, &p, &third), 0);
	ring = uiopf_client_ring_map(uiopf_engine_fd(third), &p, uiopf_engine_size(third), uiopf_engine_sqes_offset(third));
	while (n--)
		push(ring, (struct io_uring_sqe){ .opcode = IORING_OP_MSG_RING, .fd = b->mine_fd, .off = 7 });
	push(ring, poll_of(b->mine_fd));
	submit(b, third, ring);
	uiopf_client_ring_unmap(ring);
	uiopf_engine_free(third);
}

/* Another thread may not resize a ring on which somebody waits: only rings of one thread can be. */
static void make_resize(struct bench *b, uint32_t n)
{
	struct io_uring_params p = { .sq_entries = 16 };

	CHECK_EQ(uiopf_register(b->mine, IORING_REGISTER_RESIZE_RINGS, &p, 1), b->kind == DEFERRED ? -EEXIST : -EINVAL);
	make_messages(b, n);
}

#define SILENT 1u	/* makes no CQE, and ends every wait */
#define BY_OTHERS 2u	/* makes a call on the ring that a ring of one thread takes from that alone */

static const struct maker {
	const char *name;
	void (*prepare)(struct bench *b, uint32_t n);
	void (*make)(struct bench *b, uint32_t n);
	uint32_t flags;
} makers[] = {
	{ "a batch of another thread", prepare_nothing, make_batch, BY_OTHERS },
	{ "another thread, one by one", prepare_nothing, make_one_by_one, BY_OTHERS },
	{ "a batch for a worker thread", prepare_nothing, make_workers_batch, BY_OTHERS },
	{ "messages", prepare_nothing, make_messages, 0 },
	{ "messages of a ring that goes", prepare_nothing, make_messages_and_exit, 0 },
	{ "a poll of another ring", prepare_polls_of_ring, make_other_complete, 0 },
	{ "a poll of another ring, by its timer", prepare_polls_of_ring, make_others_timer, 0 },
	{ "polls in a circle", prepare_circle, make_other_complete, 0 },
	{ "a pipe's poll", prepare_polls_of_pipe, make_write, 0 },
	{ "a pipe's hangup", prepare_polls_of_pipe, make_hangup, 0 },
	{ "reads of a pipe", prepare_reads_of_pipe, make_writes, 0 },
	{ "time-outs", prepare_timeouts, make_nothing, 0 },
	{ "time-outs of another thread", prepare_nothing, make_timeouts, BY_OTHERS },
	{ "a silent time-out", prepare_nothing, make_silent_timeout, BY_OTHERS | SILENT },
	{ "link time-outs", prepare_link_timeouts, make_nothing, 0 },
	{ "SYNC_CANCEL", prepare_polls_of_nothing, make_sync_cancel, BY_OTHERS },
	{ "ASYNC_CANCEL of another thread", prepare_polls_of_nothing, make_cancel, BY_OTHERS },
	{ "tags of files that are unregistered", prepare_tags, make_unregister, BY_OTHERS },
	{ "a fault, polled", prepare_polls_of_faults, make_fault, 0 },
	{ "faults, read", prepare_reads_of_faults, make_faults, 0 },
	{ "faults behind another attachment", prepare_reads_of_faults, make_replaced_queue, 0 },
	{ "an event, polled", prepare_polls_of_events, make_event, 0 },
	{ "a refused resize", prepare_nothing, make_resize, 0 },
};

/* ---- who waits ---- */

static const struct crowd {
	const char *name;
	uint32_t count, wants[MOST_WAITERS], made;
	bool timed, least;
} crowds[] = {
	{ "one for 1", 1, { 1 }, 1, false, false },
	{ "one for 3", 1, { 3 }, 3, false, false },
	{ "one for 2 of 3, with a time-out", 1, { 2 }, 3, true, false },
	{ "four for 1", 4, { 1, 1, 1, 1 }, 1, false, false },
	{ "four for 1 to 4", 4, { 1, 2, 3, 4 }, 4, false, false },
	{ "three for 4, 1 and 2, with time-outs", 3, { 4, 1, 2 }, 4, true, false },
	{ "two for 4 with a minimum of time, of 1", 2, { 4, 4 }, 1, true, true },
};

struct waiter {
	struct bench *bench;
	const struct maker *maker;
	const struct crowd *crowd;
	uint32_t wants, first;
	int rc;
	uint32_t ready, done;
	pthread_t thread;
};

static void *wait_thread(void *arg)
{
	struct waiter *w = arg;
	struct bench *b = w->bench;
	const struct io_uring_getevents_arg ext = {
		.min_wait_usec = w->crowd->least ? 100 : 0, .ts = address_of(&b->memory->never),
	};

	if (w->first) {
		if (b->kind == DEFERRED)
			CHECK_EQ(uiopf_register(b->mine, IORING_REGISTER_ENABLE_RINGS, NULL, 0), 0);
		w->maker->prepare(b, w->crowd->made);
	}
	STORE_RELEASE(&w->ready, 1);
	do {
		w->rc = w->crowd->timed ? uiopf_enter_ext(b->mine, 0, w->wants, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
							  &ext, sizeof ext) :
					  uiopf_enter(b->mine, 0, w->wants, IORING_ENTER_GETEVENTS, 0);
	} while (w->rc == -EINTR);	/* the quiescent point was somebody else's for long */
	STORE_RELEASE(&w->done, 1);
	return NULL;
}

static void await(const uint32_t *word, const char *what)
{
	const double limit = worked_s() + LIMIT_S;

	while (!LOAD_ACQUIRE(word)) {
		if (worked_s() > limit) {
			fprintf(stderr, "%s\n", what);
			abort();
		}
		sched_yield();
	}
}

static uint32_t returned(const struct waiter *w, uint32_t count)
{
	uint32_t n = 0;

	while (count--)
		n += LOAD_ACQUIRE(&w[count].done);
	return n;
}

/* ---- a cell of the table ---- */

static void open_ring(struct bench *b, uint32_t flags, struct uiopf_engine **e, struct uiopf_client_ring **ring, int32_t *fd)
{
	struct io_uring_params p = { .flags = flags };

	CHECK_EQ(uiopf_setup(b->core, 16, &p, e), 0);
	*ring = uiopf_client_ring_map(uiopf_engine_fd(*e), &p, uiopf_engine_size(*e), uiopf_engine_sqes_offset(*e));
	CHECK(*ring);
	CHECK_EQ(uiopf_engine_add_window(*e, address_of(b->memory), 2 * UIOPF_PAGE, b->memory), 0);
	*fd = uiopf_core_install(b->core, uiopf_engine_file(*e));
	CHECK(*fd >= 0);
}

static void open_bench(struct bench *b, bool live)
{
	const uint32_t flags[] = {
		[PLAIN] = 0, [POLLED] = IORING_SETUP_SQPOLL,
		[DEFERRED] = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_R_DISABLED,
	};
	int32_t unused;

	b->core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, live);
	uiopf_core_set_kernel(b->core, 6, 18);
	b->memory = aligned_alloc(UIOPF_PAGE, 2 * UIOPF_PAGE);
	memset(b->memory, 0, 2 * UIOPF_PAGE);
	b->memory->soon.tv_nsec = 200000;
	b->memory->never.tv_sec = 1000000;
	CHECK_EQ(pipe2(b->pipe, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQ(pipe2(b->quiet, O_NONBLOCK | O_CLOEXEC), 0);
	b->pipe_fd = uiopf_core_install_host(b->core, b->pipe[0]);
	b->quiet_fd = uiopf_core_install_host(b->core, b->quiet[0]);
	b->mock = uiopf_mock_new(b->core);
	b->device = uiopf_device_new(b->core, uiopf_mock_iommu(b->mock), 1, 0, 256, 0);
	b->queue = uiopf_faultq_new(b->core, UIOPF_PROPOSED);
	CHECK_EQ(uiopf_attach(b->device, UIOPF_NO_PASID, b->queue, UIOPF_USER_MANAGED), 0);
	b->queue_fd = uiopf_core_install(b->core, uiopf_faultq_file(b->queue));
	b->events = uiopf_eventq_new(b->core, 16);
	b->events_fd = uiopf_core_install(b->core, uiopf_eventq_file(b->events));
	if (b->driver != UIOPF_INLINE)
		CHECK_EQ(uiopf_core_start(b->core, b->driver, -1, below(&b->random, 2) ? 0 : 20000), 0);
	open_ring(b, flags[b->kind], &b->mine, &b->mine_ring, &b->mine_fd);
	open_ring(b, below(&b->random, 2) ? IORING_SETUP_SQPOLL : 0, &b->other, &b->other_ring, &b->other_fd);
	/* So that a wait inline is for something that may come from outside. */
	open_ring(b, 0, &b->idle, &b->idle_ring, &unused);
	push(b->idle_ring, poll_of(b->quiet_fd));
	submit(b, b->idle, b->idle_ring);
}

static void close_bench(struct bench *b)
{
	uiopf_core_stop(b->core);
	uiopf_client_ring_unmap(b->mine_ring);
	uiopf_client_ring_unmap(b->other_ring);
	uiopf_client_ring_unmap(b->idle_ring);
	uiopf_engine_free(b->other);
	uiopf_engine_free(b->mine);
	uiopf_engine_free(b->idle);
	CHECK_EQ(uiopf_detach(b->device, UIOPF_NO_PASID), 0);
	uiopf_device_free(b->device);
	CHECK_EQ(uiopf_faultq_free(b->queue), 0);
	CHECK_EQ(uiopf_eventq_free(b->events), 0);
	uiopf_mock_free(b->mock);
	CHECK_EQ(uiopf_core_free(b->core), 0);
	if (b->pipe[1] >= 0)
		close(b->pipe[1]);
	close(b->pipe[0]);
	close(b->quiet[0]);
	close(b->quiet[1]);
	free(b->memory);
}

static void cell(enum uiopf_driver driver, enum kind kind, const struct maker *maker, const struct crowd *crowd, bool asleep,
		 uint64_t *random)
{
	struct bench b = { .driver = driver, .kind = kind, .random = next_random(random) };
	struct waiter w[MOST_WAITERS];
	char what[200];
	uint32_t i;

	snprintf(what, sizeof what, "driver %s, a ring that is %s, %s: somebody sleeps on, of %s", driver_name[driver],
		 kind_name[kind], maker->name, crowd->name);
	open_bench(&b, below(random, 8));
	for (i = 0; i < crowd->count; i++) {
		w[i] = (struct waiter){
			.bench = &b, .maker = maker, .crowd = crowd, .wants = crowd->wants[i], .first = i == 0,
		};
		CHECK_EQ(pthread_create(&w[i].thread, NULL, wait_thread, &w[i]), 0);
		if (i == 0)
			await(&w[0].ready, what);
	}
	/* All of them sleep, or are about to, in half of the rounds. */
	while (asleep && LOAD_SEQ(&b.mine->cq_waiters) + returned(w, crowd->count) < crowd->count)
		sched_yield();
	for (i = asleep ? 0 : below(random, 2000); i; i--)
		cpu_relax();
	maker->make(&b, crowd->made);
	for (i = 0; i < crowd->count; i++) {
		await(&w[i].done, what);
		pthread_join(w[i].thread, NULL);
		CHECK_EQ(w[i].rc, 0);
	}
	CHECK_EQ(b.mine->cq_waiters, 0);
	CHECK_EQ(b.core->waiters, 0);
	CHECK_EQ(b.core->sleepers_count, 0);
	close_bench(&b);
}

/* ---- what ends a wait besides ---- */

static void on_signal(int number)
{
	(void)number;
}

/* A time that is over and a signal each end the wait of one, and nobody else's. */
static void time_and_signals(enum uiopf_driver driver, enum kind kind, uint64_t *random)
{
	static const struct crowd once = { "three for 1", 3, { 1, 1, 1 }, 1, false, false };
	struct bench b = { .driver = driver, .kind = kind, .random = next_random(random) };
	struct io_uring_getevents_arg ext = { 0 };
	const double limit = worked_s() + LIMIT_S;
	struct waiter w[3];
	uint32_t i;
	int rc;

	open_bench(&b, true);
	for (i = 0; i < 2; i++) {
		w[i] = (struct waiter){ .bench = &b, .maker = &makers[3], .crowd = &once, .wants = 1, .first = i == 0 };
		CHECK_EQ(pthread_create(&w[i].thread, NULL, wait_thread, &w[i]), 0);
		await(&w[i].ready, "it does not begin");
	}
	while (LOAD_SEQ(&b.mine->cq_waiters) < 2)
		sched_yield();
	/* Signals: wait_thread begins again each time. */
	for (i = 0; i < 100; i++) {
		CHECK_EQ(pthread_kill(w[i % 2].thread, SIGUSR1), 0);
		sched_yield();
	}
	if (kind != DEFERRED) {
		ext.ts = address_of(&b.memory->soon);
		for (i = 0; i < 3; i++) {
			/* -EINTR without a signal: a thread that waits had the consumer's side, and no processor, for a slice. */
			do
				rc = uiopf_enter_ext(b.mine, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &ext,
						     sizeof ext);
			while (rc == -EINTR);
			CHECK_EQ(rc, -ETIME);
		}
	}
	CHECK_EQ(returned(w, 2), 0);
	make_messages(&b, 1);
	for (i = 0; i < 2; i++) {
		await(&w[i].done, "asleep after signals");
		pthread_join(w[i].thread, NULL);
		CHECK_EQ(w[i].rc, 0);
	}
	CHECK(worked_s() < limit);
	close_bench(&b);
}

/* A worker that goes, or comes, takes nobody's wait with it: what is waited for may still come, and is made afterwards. */
static void the_worker_changes(enum uiopf_driver driver, enum uiopf_driver next, enum kind kind, bool asleep, uint64_t *random)
{
	static const struct maker maker = { "a pipe's poll", prepare_polls_of_pipe, make_write, 0 };
	static const struct crowd crowd = { "two for 1", 2, { 1, 1 }, 1, false, false };
	const uint32_t count = kind == DEFERRED ? 1 : 2;
	struct bench b = { .driver = driver, .kind = kind, .random = next_random(random) };
	struct waiter w[2];
	char what[200];
	uint32_t i;

	snprintf(what, sizeof what, "the driver was %s, and is %s, a ring that is %s: somebody sleeps on", driver_name[driver],
		 driver_name[next], kind_name[kind]);
	open_bench(&b, true);
	for (i = 0; i < count; i++) {
		w[i] = (struct waiter){ .bench = &b, .maker = &maker, .crowd = &crowd, .wants = 1, .first = i == 0 };
		CHECK_EQ(pthread_create(&w[i].thread, NULL, wait_thread, &w[i]), 0);
		if (i == 0)
			await(&w[0].ready, what);
	}
	while (asleep && LOAD_SEQ(&b.mine->cq_waiters) < count)
		sched_yield();
	for (i = asleep ? 0 : below(random, 2000); i; i--)
		cpu_relax();
	CHECK_EQ(uiopf_core_stop(b.core), 0);
	if (next != UIOPF_INLINE)
		CHECK_EQ(uiopf_core_start(b.core, next, -1, below(random, 2) ? 0 : 20000), 0);
	CHECK_EQ(returned(w, count), 0);
	make_write(&b, 1);
	for (i = 0; i < count; i++) {
		await(&w[i].done, what);
		pthread_join(w[i].thread, NULL);
		CHECK_EQ(w[i].rc, 0);
	}
	CHECK_EQ(b.core->waiters, 0);
	close_bench(&b);
}

struct left {
	struct uiopf_engine *engine;
	pthread_t thread;
	int rc;
};

static void *wait_for_nothing(void *arg)
{
	struct left *l = arg;

	do {
		l->rc = uiopf_enter(l->engine, 0, 1, IORING_ENTER_GETEVENTS, 0);
	} while (l->rc == -EINTR);
	return NULL;
}

/* Where nothing can come any more, since the worker has gone, the wait ends as one that begins then is refused. */
static void the_worker_leaves_nothing(enum uiopf_driver driver, uint32_t flags)
{
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	struct io_uring_params p = { .flags = flags };
	struct left left[2];
	uint32_t i;

	CHECK_EQ(uiopf_core_start(core, driver, -1, 0), 0);
	CHECK_EQ(uiopf_setup(core, 16, &p, &left[0].engine), 0);
	left[1] = left[0];
	for (i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&left[i].thread, NULL, wait_for_nothing, &left[i]), 0);
	while (LOAD_SEQ(&left[0].engine->cq_waiters) < 2)
		sched_yield();
	CHECK_EQ(uiopf_core_stop(core), 0);
	for (i = 0; i < 2; i++) {
		pthread_join(left[i].thread, NULL);
		CHECK_EQ(left[i].rc, -EDEADLK);
	}
	uiopf_engine_free(left[0].engine);
	CHECK_EQ(uiopf_core_free(core), 0);
}

/* Without a descriptor left, waiters look by themselves. */
static void without_descriptors(enum uiopf_driver driver, enum kind kind, uint64_t *random)
{
	static const struct crowd crowd = { "three for 1", 3, { 1, 1, 1 }, 1, false, false };
	struct bench b = { .driver = driver, .kind = kind, .random = next_random(random) };
	struct waiter w[3];
	int fds[4096], n = 0, i;

	open_bench(&b, true);
	while (n < 4096 && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	CHECK(n < 4096 && errno == EMFILE);
	for (i = 0; i < 3; i++) {
		w[i] = (struct waiter){ .bench = &b, .maker = &makers[0], .crowd = &crowd, .wants = 1, .first = i == 0 };
		CHECK_EQ(pthread_create(&w[i].thread, NULL, wait_thread, &w[i]), 0);
	}
	while (LOAD_SEQ(&b.mine->cq_waiters) < 3)
		sched_yield();
	make_batch(&b, 1);
	for (i = 0; i < 3; i++) {
		await(&w[i].done, "without a descriptor");
		pthread_join(w[i].thread, NULL);
		CHECK_EQ(w[i].rc, 0);
	}
	while (n)
		close(fds[--n]);
	close_bench(&b);
}

/* SQ_WAIT over a full queue: it is emptied, whoever does that; and over indices that lie, nobody waits for good. */
static void wait_for_room(enum uiopf_driver driver, uint32_t flags, uint64_t *random)
{
	struct bench b = { .driver = driver, .kind = POLLED, .random = next_random(random) };
	const double limit = worked_s() + LIMIT_S;
	uint32_t i, n, tail;
	int rc;

	open_bench(&b, true);
	if (driver == UIOPF_ENTER)
		CHECK(uiopf_client_needs_wakeup(b.mine_ring));
	for (n = 0; n < 3; n++) {
		for (i = 0; i < 16; i++)
			push(b.mine_ring, (struct io_uring_sqe){ .opcode = IORING_OP_NOP });
		uiopf_client_publish(b.mine_ring);
		while ((rc = uiopf_enter(b.mine, 5, 0, flags, 0)) == -EINTR)
			CHECK(worked_s() < limit);
		CHECK_EQ(rc, 5);
		CHECK(uiopf_client_load(b.mine_ring, RING_SQ_HEAD) != b.mine_ring->sq_published - 16);
		while (uiopf_client_load(b.mine_ring, RING_CQ_TAIL) != 16 * (n + 1))	/* the rest is taken too */
			CHECK(worked_s() < limit && (driver != UIOPF_INLINE || uiopf_core_consume(b.core) >= 0));
		uiopf_client_ready(b.mine_ring);
		uiopf_client_seen(b.mine_ring, 16);
	}
	tail = uiopf_client_load(b.mine_ring, RING_SQ_TAIL);
	STORE_RELEASE(uiopf_client_word(b.mine_ring, RING_SQ_HEAD), tail - 16);
	CHECK_EQ(uiopf_enter(b.mine, 5, 0, flags, 0), driver == UIOPF_INLINE ? -EDEADLK : -EINTR);
	/* Linux compares for equality: further ahead than the queue is long is not full. */
	STORE_RELEASE(uiopf_client_word(b.mine_ring, RING_SQ_HEAD), tail - 17);
	CHECK_EQ(uiopf_enter(b.mine, 5, 0, flags, 0), 5);
	close_bench(&b);
}

/*
 * The worker looks at who waits in the turn after the one that published. A turn that flushed the backlog and did nothing
 * else says that there is such a turn to come: the worker would sleep before it.
 */
static void a_flush_owes_a_look(uint64_t *random)
{
	struct bench b = { .driver = UIOPF_SQPOLL, .kind = POLLED, .random = next_random(random) };
	uint32_t i, n;

	open_bench(&b, true);
	for (n = 0; n < 3; n++) {	/* 48 of them into a CQ of 32 */
		for (i = 0; i < 16; i++)
			push(b.mine_ring, (struct io_uring_sqe){ .opcode = IORING_OP_NOP });
		submit(&b, b.mine, b.mine_ring);
	}
	uiopf_control_begin(b.core);
	b.mine->may_sleep = true;
	CHECK_EQ(b.mine->backlog_count, 16);
	CHECK_EQ(b.mine->consumer.ops->run(&b.mine->consumer), 0);
	CHECK_EQ(uiopf_client_ready(b.mine_ring), 32);
	uiopf_client_seen(b.mine_ring, 32);
	CHECK(b.mine->consumer.ops->run(&b.mine->consumer));
	CHECK_EQ(b.mine->backlog_count, 0);
	CHECK_EQ(b.mine->consumer.ops->run(&b.mine->consumer), 0);
	uiopf_control_end(b.core);
	close_bench(&b);
}

int main(int argc, char **argv)
{
	const uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 10;
	uint64_t random = seed_from(argc, argv, 2);
	const uint32_t share = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 0) : 1;
	uint32_t round, driver, next, kind, m, c, turn = 0, cells = 0;
	struct sigaction action = { .sa_handler = on_signal };
	struct rlimit few = { 256, 256 };

	CHECK(share);
	CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (round = 0; round < rounds; round++, turn = round)
		for (driver = UIOPF_INLINE; driver <= UIOPF_SQPOLL; driver++)
			for (kind = 0; kind < KINDS; kind++) {
				for (m = 0; m < sizeof makers / sizeof makers[0]; m++)
					for (c = 0; c < sizeof crowds / sizeof crowds[0]; c++) {
						/* A ring of one thread has one waiter, and others make no call on it. */
						if (kind == DEFERRED && (makers[m].flags & BY_OTHERS || crowds[c].count > 1))
							continue;
						if (turn++ % share)
							continue;
						/* What leaves no CQE ends the waits that have begun. */
						cell(driver, kind, &makers[m], &crowds[c],
						     round / share % 2 == 0 || makers[m].flags & SILENT, &random);
						cells++;
					}
				if (kind != DEFERRED)
					time_and_signals(driver, kind, &random);
				for (next = UIOPF_INLINE; next <= UIOPF_SQPOLL; next++) {
					the_worker_changes(driver, next, kind, true, &random);
					the_worker_changes(driver, next, kind, false, &random);
				}
			}
	for (driver = UIOPF_INLINE; driver <= UIOPF_SQPOLL; driver++) {
		wait_for_room(driver, IORING_ENTER_SQ_WAIT, &random);
		wait_for_room(driver, IORING_ENTER_SQ_WAIT | IORING_ENTER_SQ_WAKEUP, &random);
	}
	for (driver = UIOPF_ENTER; driver <= UIOPF_SQPOLL; driver++) {
		the_worker_leaves_nothing(driver, 0);
		the_worker_leaves_nothing(driver, IORING_SETUP_SQPOLL);
	}
	without_descriptors(UIOPF_ENTER, PLAIN, &random);
	without_descriptors(UIOPF_SQPOLL, POLLED, &random);
	a_flush_owes_a_look(&random);
	printf("%u cells\n", cells);
	return 0;
}
