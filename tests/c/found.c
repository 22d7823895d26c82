/*
 * What hostile clients and the fuzzer found once, step by step: on one thread and a clock that stands still, so that it
 * fails in the same way each time.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "check.h"
#include "rings/attachable.h"
#include "rings/engine.h"

#define ARENA_AT 0x7000000000ull

struct found {
	struct uiopf_core *core;
	struct uiopf_engine *engine[2];
	uint8_t *memory;
	int fd[2], pipe[2];
};

static void queue_sqe(struct uiopf_engine *e, const struct io_uring_sqe *sqe)
{
	uint32_t *tail = uiopf_ring_word(&e->ring, RING_SQ_TAIL);

	e->ring.sq_array[*tail & e->ring.sq_mask] = *tail & e->ring.sq_mask;
	memcpy(uiopf_sqe_at(&e->ring, *tail), sqe, sizeof *sqe);
	STORE_RELEASE(tail, *tail + 1);
}

static int32_t result(struct uiopf_engine *e)
{
	uint32_t *head = uiopf_ring_word(&e->ring, RING_CQ_HEAD);

	CHECK(*head != LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_CQ_TAIL)));
	return (int32_t)uiopf_cqe_at(&e->ring, (*head)++)[1];
}

static void open_found(struct found *f)
{
	uint32_t i;

	f->core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 1);
	f->memory = aligned_alloc(4096, 4096);
	CHECK(f->core && f->memory);
	memset(f->memory, 0, 4096);
	CHECK_EQ(pipe2(f->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	for (i = 0; i < 2; i++) {
		struct io_uring_params p = { .flags = 0 };

		uiopf_core_set_kernel(f->core, 6, 18);
		CHECK_EQ(uiopf_setup(f->core, 8, &p, &f->engine[i]), 0);
		CHECK_EQ(uiopf_engine_add_window(f->engine[i], ARENA_AT, 4096, f->memory), 0);
		f->fd[i] = uiopf_core_install(f->core, uiopf_engine_file(f->engine[i]));
	}
}

static void close_found(struct found *f)
{
	uint32_t i;

	for (i = 0; i < 2; i++) {
		if (f->engine[i])
			uiopf_engine_free(f->engine[i]);
		if (f->pipe[i] >= 0)
			close(f->pipe[i]);
	}
	CHECK_EQ(uiopf_core_free(f->core), 0);
	free(f->memory);
}

/* The pipe is open, readable and watched no more: nobody looks at what was freed. */
static void a_closed_host_descriptor_is_forgotten(void)
{
	struct found f;
	int fd, other;

	open_found(&f);
	fd = uiopf_core_install_host(f.core, f.pipe[0]);
	other = uiopf_core_install_host(f.core, f.pipe[0]);
	CHECK(fd >= 3 && other >= 3);
	uiopf_core_uninstall(f.core, fd, NULL);
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .fd = other, .poll32_events = POLLIN });
	CHECK_EQ(uiopf_enter(f.engine[0], 1, 0, 0, 0), 1);
	CHECK_EQ(write(f.pipe[1], "", 1), 1);
	CHECK_EQ(uiopf_enter(f.engine[0], 0, 1, IORING_ENTER_GETEVENTS, 0), 0);
	CHECK_EQ(result(f.engine[0]), POLLIN);
	uiopf_core_uninstall(f.core, other, NULL);
	close_found(&f);
}

/* A vector, and a registered buffer whose tag is told of, behind a request that never ends: the sanitizer counts. */
static void a_freed_ring_frees_what_waits_in_chains(void)
{
	const struct iovec { void *base; size_t length; } buffer = { (void *)(uintptr_t)ARENA_AT, 4096 };
	struct found f;
	int fd;

	open_found(&f);
	fd = uiopf_core_install_host(f.core, f.pipe[0]);
	CHECK_EQ(uiopf_register(f.engine[0], IORING_REGISTER_BUFFERS, (void *)(uintptr_t)&buffer, 1), 0);
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .fd = fd, .flags = IOSQE_IO_LINK });
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_READV, .fd = fd, .flags = IOSQE_IO_LINK,
						       .addr = ARENA_AT, .len = 2 });
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED, .fd = fd, .addr = ARENA_AT, .len = 8 });
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_READV, .fd = fd, .flags = IOSQE_IO_DRAIN,
						       .addr = ARENA_AT, .len = 2 });
	CHECK_EQ(uiopf_enter(f.engine[0], 4, 0, 0, 0), 4);
	CHECK_EQ(uiopf_engine_pending(f.engine[0]), 4);
	uiopf_engine_free(f.engine[0]);
	f.engine[0] = NULL;
	uiopf_core_uninstall(f.core, fd, NULL);
	close_found(&f);
}

static void a_ring_may_go_before_who_polls_it(void)
{
	struct found f;

	open_found(&f);
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .fd = f.fd[1], .poll32_events = POLLIN,
						       .user_data = 7 });
	CHECK_EQ(uiopf_enter(f.engine[0], 1, 0, 0, 0), 1);
	uiopf_engine_free(f.engine[1]);
	f.engine[1] = NULL;
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_ASYNC_CANCEL, .addr = 7 });
	CHECK_EQ(uiopf_enter(f.engine[0], 1, 0, 0, 0), 1);
	CHECK_EQ(result(f.engine[0]), 0);
	CHECK_EQ(result(f.engine[0]), -ECANCELED);
	CHECK_EQ(uiopf_engine_pending(f.engine[0]), 0);
	close_found(&f);
}

/* Nobody waits for the client, and its descriptor is as it was. */
static void a_full_eventfd_holds_up_nobody(void)
{
	struct found f;
	int fd = eventfd(0, EFD_CLOEXEC);
	eventfd_t value;

	open_found(&f);
	CHECK(fd >= 0 && eventfd_write(fd, UINT64_MAX - 1) == 0);
	CHECK_EQ(uiopf_register(f.engine[0], IORING_REGISTER_EVENTFD, &fd, 1), 0);
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_NOP });
	CHECK_EQ(uiopf_enter(f.engine[0], 1, 0, 0, 0), 1);
	CHECK_EQ(result(f.engine[0]), 0);
	CHECK(eventfd_read(fd, &value) == 0 && value == UINT64_MAX - 1);
	CHECK(!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	close(fd);
	close_found(&f);
}

static void a_broken_pipe_is_an_errno(void)
{
	struct found f;
	int fd;

	open_found(&f);
	signal(SIGPIPE, SIG_DFL);
	fd = uiopf_core_install_host(f.core, f.pipe[1]);
	close(f.pipe[0]);
	f.pipe[0] = -1;
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_WRITE, .fd = fd, .addr = ARENA_AT, .len = 8 });
	CHECK_EQ(uiopf_enter(f.engine[0], 1, 0, 0, 0), 1);
	CHECK_EQ(result(f.engine[0]), -EPIPE);
	uiopf_core_uninstall(f.core, fd, NULL);
	close_found(&f);
}

/* 2^20 in all groups together, as a charge; giving some back makes room. */
static void classic_buffers_are_charged(void)
{
	struct found f;
	uint32_t i;

	open_found(&f);
	for (i = 0; i <= 18; i++) {
		struct io_uring_sqe sqe = { .opcode = IORING_OP_PROVIDE_BUFFERS, .fd = 65536, .addr = ARENA_AT, .len = 1,
					    .buf_group = (uint16_t)(i % 17) };

		if (i == 17) {
			sqe = (struct io_uring_sqe){ .opcode = IORING_OP_REMOVE_BUFFERS, .fd = 1 };
		} else if (i == 18) {
			sqe.fd = 1;
			sqe.buf_group = 0;
		}
		queue_sqe(f.engine[0], &sqe);
		CHECK_EQ(uiopf_enter(f.engine[0], 1, 0, 0, 0), 1);
		CHECK_EQ(result(f.engine[0]), i == 16 ? -ENOMEM : i == 17 ? 1 : 0);
	}
	close_found(&f);
}

/*
 * Linux says it to a wait that finds no CQE, and clears it where the call returns it (io_cqring_wait, io_uring_enter). A
 * call that has submitted says how many, and a wait that has enough, or anything to read, returns 0.
 */
static void a_lost_completion_is_not_forgotten_by_a_call_that_submits(void)
{
	struct found f;

	open_found(&f);
	WRITE_ONCE(&f.engine[0]->lost_unreported, true);	/* 2^20 completions that nobody read would take a minute */
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_NOP });
	CHECK_EQ(uiopf_enter(f.engine[0], 1, 2, IORING_ENTER_GETEVENTS, 0), 1);
	CHECK_EQ(uiopf_enter(f.engine[0], 0, 1, IORING_ENTER_GETEVENTS, 0), 0);
	CHECK_EQ(uiopf_enter(f.engine[0], 0, 2, IORING_ENTER_GETEVENTS, 0), 0);
	CHECK_EQ(result(f.engine[0]), 0);
	CHECK_EQ(uiopf_enter(f.engine[0], 0, 0, IORING_ENTER_GETEVENTS, 0), 0);
	CHECK_EQ(uiopf_enter(f.engine[0], 0, 1, IORING_ENTER_GETEVENTS, 0), -EBADR);
	CHECK_EQ(uiopf_enter(f.engine[0], 0, 1, IORING_ENTER_GETEVENTS, 0), -EDEADLK);	/* once; and nobody else is there */
	close_found(&f);
}

/* Both slots of an SQE of 128 bytes are among those that are submitted, whatever else is in the ring. */
static void a_wide_sqe_is_submitted_whole_or_not_at_all(void)
{
	static const struct { uint32_t to_submit; int submitted, res; uint32_t head; } cases[] = {
		{ 1, 1, -EINVAL, 1 }, { 2, 2, 0, 2 },
	};
	uint32_t i;

	for (i = 0; i < 2; i++) {
		struct io_uring_params p = { .flags = IORING_SETUP_SQE_MIXED | IORING_SETUP_NO_SQARRAY };
		struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
		struct uiopf_client_ring *ring;
		struct uiopf_engine *engine;

		uiopf_core_set_kernel(core, 6, 19);
		CHECK_EQ(uiopf_setup(core, 8, &p, &engine), 0);
		ring = uiopf_client_ring_map(uiopf_engine_fd(engine), &p, uiopf_engine_size(engine),
					     uiopf_engine_sqes_offset(engine));
		CHECK(ring);
		CHECK(uiopf_client_push(ring, &(struct io_uring_sqe){ .opcode = IORING_OP_NOP128 }) >= 0);
		CHECK(uiopf_client_push(ring, &(struct io_uring_sqe){ 0 }) >= 0);
		uiopf_client_submit(ring);
		CHECK_EQ(uiopf_enter(engine, cases[i].to_submit, 0, 0, 0), cases[i].submitted);
		CHECK_EQ(uiopf_client_ready(ring), 1);
		CHECK_EQ(uiopf_client_cqe(ring, 0)->res, cases[i].res);
		CHECK_EQ(uiopf_client_load(ring, RING_SQ_HEAD), cases[i].head);
		uiopf_client_ring_unmap(ring);
		uiopf_engine_free(engine);
		CHECK_EQ(uiopf_core_free(core), 0);
	}
}

static void *clone_from_the_second(void *arg)
{
	struct found *f = arg;
	struct io_uring_clone_buffers clone = { .src_fd = (uint32_t)f->fd[1] };

	CHECK_EQ(uiopf_register(f->engine[0], IORING_REGISTER_CLONE_BUFFERS, &clone, 1), -EEXIST);
	return NULL;
}

/* Buffers of a ring that belongs to one thread are copied by that thread alone (since Linux 6.18; seen on 6.18). */
static void buffers_of_a_single_issuers_ring_are_its_threads(void)
{
	struct io_uring_clone_buffers clone = { 0 };
	struct iovec buffer = { (void *)ARENA_AT, 64 };
	struct found f;
	pthread_t thread;

	open_found(&f);
	f.engine[1]->has_submitter = true;
	f.engine[1]->submitter = pthread_self();
	f.engine[0]->kernel = UIOPF_LINUX(6, 18);
	CHECK_EQ(uiopf_register(f.engine[1], IORING_REGISTER_BUFFERS, &buffer, 1), 0);
	CHECK_EQ(pthread_create(&thread, NULL, clone_from_the_second, &f), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	clone.src_fd = (uint32_t)f.fd[1];
	CHECK_EQ(uiopf_register(f.engine[0], IORING_REGISTER_CLONE_BUFFERS, &clone, 1), 0);
	close_found(&f);
}

/* ---- an SQPOLL ring's turn, and what is kept for a client of another process ---- */

struct polled {
	struct uiopf_core *core;
	struct uiopf_engine *engine;
	struct uiopf_client_ring *ring;
	struct io_uring_params p;
};

static void open_polled(struct polled *t, uint32_t kernel_minor, uint32_t entries, uint32_t flags)
{
	*t = (struct polled){ .core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0), .p.flags = IORING_SETUP_SQPOLL | flags };
	uiopf_core_set_kernel(t->core, 6, kernel_minor);
	CHECK_EQ(uiopf_setup(t->core, entries, &t->p, &t->engine), 0);
	t->ring = uiopf_client_ring_map(uiopf_engine_fd(t->engine), &t->p, uiopf_engine_size(t->engine),
					uiopf_engine_sqes_offset(t->engine));
	CHECK(t->ring);
}

static void close_polled(struct polled *t)
{
	uiopf_client_ring_unmap(t->ring);
	uiopf_engine_free(t->engine);
	CHECK_EQ(uiopf_core_free(t->core), 0);
}

static void push(struct polled *t, struct io_uring_sqe sqe)
{
	CHECK(uiopf_client_push(t->ring, &sqe) >= 0);
}

/* A chain is not cut where a turn's share of SQEs ends: what is behind a member that fails is cancelled to its end. */
static void a_turn_goes_on_to_the_end_of_a_chain(void)
{
	struct polled t;
	uint32_t i;

	open_polled(&t, 18, 64, 0);
	push(&t, (struct io_uring_sqe){ .opcode = IORING_OP_NOP, .flags = IOSQE_IO_LINK, .len = (uint32_t)-5,
					.nop_flags = IORING_NOP_INJECT_RESULT });
	for (i = 1; i < 60; i++)
		push(&t, (struct io_uring_sqe){ .opcode = IORING_OP_NOP, .flags = i < 59 ? IOSQE_IO_LINK : 0 });
	push(&t, (struct io_uring_sqe){ .opcode = IORING_OP_NOP });
	uiopf_client_submit(t.ring);
	for (i = 0; i < 10; i++)
		uiopf_core_consume(t.core);
	CHECK_EQ(uiopf_client_ready(t.ring), 61);
	for (i = 0; i < 61; i++)	/* the NOP behind the chain does not wait for it */
		CHECK(uiopf_client_cqe(t.ring, i)->res == -ECANCELED || i == 0 || uiopf_client_cqe(t.ring, i)->res == 0);
	for (i = 0; i < 61; i++)
		t.p.resv[0] += uiopf_client_cqe(t.ring, i)->res == -ECANCELED;
	CHECK_EQ(t.p.resv[0], 59);
	close_polled(&t);
}

/* An SQE of 128 bytes is not cut there either. */
static void a_turn_takes_both_halves_of_a_wide_sqe(void)
{
	struct polled t;
	uint32_t i;

	open_polled(&t, 19, 64, IORING_SETUP_SQE_MIXED | IORING_SETUP_NO_SQARRAY);
	for (i = 0; i < 23; i++)
		push(&t, (struct io_uring_sqe){ .opcode = IORING_OP_NOP });
	push(&t, (struct io_uring_sqe){ .opcode = IORING_OP_NOP128 });
	push(&t, (struct io_uring_sqe){ .opcode = IORING_OP_LAST });
	push(&t, (struct io_uring_sqe){ .opcode = IORING_OP_NOP });
	uiopf_client_submit(t.ring);
	for (i = 0; i < 10; i++)
		uiopf_core_consume(t.core);
	CHECK_EQ(uiopf_client_ready(t.ring), 25);
	for (i = 0; i < 25; i++)
		CHECK_EQ(uiopf_client_cqe(t.ring, i)->res, 0);
	close_polled(&t);
}

static void open_attached(struct polled *t, uint32_t entries)
{
	struct uiopf_attachable config = { 0 };
	struct uiopf_attachment has;

	*t = (struct polled){ .core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0) };
	CHECK_EQ(uiopf_setup_attachable(t->core, entries, &t->p, &config, &t->engine), 0);
	uiopf_engine_attachment(t->engine, &has);
	t->ring = uiopf_client_ring_map(has.ring_fd, &t->p, has.ring_size, uiopf_engine_sqes_offset(t->engine));
	CHECK(t->ring);
	CHECK_EQ(uiopf_engine_attach(t->engine, 0, 1), 0);
}

static uint32_t kept(const struct polled *t)
{
	return t->engine->alive + t->engine->backlog_count;
}

/* Submits n alike, as far as they are taken; how many are left in the SQ. */
static uint32_t submit_alike(struct polled *t, uint32_t n, struct io_uring_sqe sqe)
{
	uint32_t turns;

	for (; n && uiopf_client_push(t->ring, &sqe) >= 0; n--)
		;
	for (turns = 0; n && turns < 10000; turns++) {
		uiopf_client_submit(t->ring);
		uiopf_core_consume(t->core);
		CHECK(kept(t) <= UIOPF_ATTACHED_MOST);
		for (; n && uiopf_client_push(t->ring, &sqe) >= 0; n--)
			;
	}
	uiopf_client_submit(t->ring);
	for (turns = 0; turns < 1000; turns++) {
		uiopf_core_consume(t->core);
		CHECK(kept(t) <= UIOPF_ATTACHED_MOST);
	}
	return uiopf_sq_ready(&t->engine->ring);
}

/* Requests under way and completions kept count together, and a time that ends them all makes no more of them. */
static void what_is_kept_for_an_attached_client_is_bounded(void)
{
	struct io_uring_sqe nop = { .opcode = IORING_OP_NOP };
	struct __kernel_timespec hour = { .tv_sec = 3600 };
	struct polled t;
	uint32_t i, n;

	open_attached(&t, 64);
	CHECK_EQ(uiopf_engine_add_window(t.engine, ARENA_AT, sizeof hour, &hour), 0);
	CHECK_EQ(submit_alike(&t, 4090, (struct io_uring_sqe){ .opcode = IORING_OP_TIMEOUT, .addr = ARENA_AT, .len = 1 }), 0);
	CHECK_EQ(t.engine->alive, 4090);
	CHECK(submit_alike(&t, t.p.cq_entries + 60, nop) == 54);	/* the CQ holds the first */
	CHECK_EQ(kept(&t), UIOPF_ATTACHED_MOST);
	uiopf_core_tick(t.core, 2 * 3600 * 1000000000ull);
	for (i = 0; i < 200; i++) {	/* some of them a turn */
		uiopf_core_consume(t.core);
		CHECK(kept(&t) <= UIOPF_ATTACHED_MOST);
	}
	CHECK_EQ(t.engine->backlog_count, UIOPF_ATTACHED_MOST);
	for (n = 0; (i = uiopf_client_ready(t.ring)) || n < 4000; n += i) {	/* and all of it comes */
		uiopf_client_seen(t.ring, i);
		uiopf_core_consume(t.core);
	}
	CHECK_EQ(n, 4090 + t.p.cq_entries + 60);
	CHECK_EQ(kept(&t), 0);
	close_polled(&t);
}

/* A worker looks again and again for a client that does not kick it: from when there is one. */
static void nobody_looks_for_a_client_that_is_not_there_yet(void)
{
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	const struct uiopf_attachable config = { 0 };
	struct io_uring_params p = { .flags = 0 };
	struct uiopf_engine *e;

	CHECK_EQ(uiopf_setup_attachable(core, 8, &p, &config, &e), 0);
	CHECK(!e->consumer.ops->needs_looks(&e->consumer));
	CHECK_EQ(uiopf_engine_attach(e, 0, 0), 0);
	CHECK(e->consumer.ops->needs_looks(&e->consumer));
	uiopf_engine_free(e);
	CHECK_EQ(uiopf_core_free(core), 0);
}

/* A chain that does not fit yet waits; one that never would is cut. */
static void a_chain_of_an_attached_client_is_taken_when_it_fits(void)
{
	struct io_uring_sqe nop = { .opcode = IORING_OP_NOP }, link = { .opcode = IORING_OP_NOP, .flags = IOSQE_IO_LINK };
	struct polled t;
	uint32_t i, n;

	open_attached(&t, 8192);
	CHECK_EQ(submit_alike(&t, t.p.cq_entries + UIOPF_ATTACHED_MOST - 40, nop), 0);
	CHECK_EQ(t.engine->backlog_count, UIOPF_ATTACHED_MOST - 40);
	for (i = 0; i < 5; i++)
		push(&t, nop);
	for (i = 0; i < 50; i++)
		push(&t, i < 49 ? link : nop);
	CHECK_EQ(submit_alike(&t, 0, nop), 50);
	uiopf_client_ready(t.ring);
	uiopf_client_seen(t.ring, 14);
	CHECK_EQ(submit_alike(&t, 0, nop), 50);		/* room for 49 */
	uiopf_client_seen(t.ring, 1);
	CHECK_EQ(submit_alike(&t, 0, nop), 0);
	CHECK_EQ(kept(&t), UIOPF_ATTACHED_MOST);
	for (i = 0; (n = uiopf_client_ready(t.ring)) || i < 10; i++) {
		uiopf_client_seen(t.ring, n);
		uiopf_core_consume(t.core);
	}
	CHECK_EQ(kept(&t), 0);
	for (i = 0; i < 5000; i++)
		push(&t, link);
	CHECK_EQ(submit_alike(&t, 0, nop), 0);
	for (i = 0; i < 5000; i++)	/* a member a turn */
		uiopf_core_consume(t.core);
	CHECK_EQ(kept(&t), 0);
	CHECK_EQ(uiopf_client_ready(t.ring), 5000);
	close_polled(&t);
}

/* Times that end where no clock gets to, on a clock that is moved there: none wraps round, and none comes. */
static void a_time_beyond_all_others_never_comes(void)
{
	static const struct __kernel_timespec far[] = {
		{ INT64_MAX, 0 }, { INT64_MAX, INT64_MAX }, { 9223372035, INT64_MAX }, { 0, INT64_MAX },
	};
	static const uint64_t now[] = { 0, 1000, INT64_MAX - 1, (uint64_t)INT64_MAX + 1, UINT64_MAX - 1 };
	struct found f;
	uint32_t i, j;

	for (j = 0; j < sizeof now / sizeof now[0]; j++) {
		open_found(&f);
		uiopf_core_tick(f.core, now[j]);
		for (i = 0; i < sizeof far / sizeof far[0]; i++) {
			memcpy(f.memory, &far[i], sizeof far[i]);
			queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_TIMEOUT, .addr = ARENA_AT, .len = 1 });
			CHECK_EQ(uiopf_enter(f.engine[0], 1, 0, IORING_ENTER_GETEVENTS, 0), 1);
		}
		CHECK_EQ(f.engine[0]->alive, sizeof far / sizeof far[0]);
		CHECK_EQ(f.core->timer_ns, UINT64_MAX);
		uiopf_core_tick(f.core, UINT64_MAX);
		CHECK_EQ(uiopf_enter(f.engine[0], 0, 0, IORING_ENTER_GETEVENTS, 0), 0);
		CHECK_EQ(f.engine[0]->alive, sizeof far / sizeof far[0]);
		close_found(&f);
	}
}

/*
 * A call that waits does the work of its core meanwhile, and that may have no end. The call returns, so that its program
 * can run signal handlers.
 */
static void work_without_an_end_does_not_hold_up_a_wait(void)
{
	static const uint32_t published[2] = { 1, UINT32_MAX };	/* four billion SQEs, on an inline core */
	struct found f;
	uint32_t i, j;

	open_found(&f);
	for (i = 0; i < 2; i++) {
		struct io_uring_params p = { .flags = IORING_SETUP_SQPOLL };

		uiopf_engine_free(f.engine[i]);
		CHECK_EQ(uiopf_setup(f.core, 8, &p, &f.engine[i]), 0);
		for (j = 0; j < 8; j++)		/* there is no such SQE: each is dropped */
			f.engine[i]->ring.sq_array[j] = UINT32_MAX;
		STORE_RELEASE(uiopf_ring_word(&f.engine[i]->ring, RING_SQ_TAIL), published[i]);
	}
	/* The first has something to do, so it looks again, and works for the other. */
	CHECK_EQ(uiopf_enter(f.engine[0], 0, 1, IORING_ENTER_GETEVENTS, 0), -EINTR);
	for (i = 0; i < 3; i++)
		CHECK_EQ(uiopf_enter(f.engine[1], 0, 1, IORING_ENTER_GETEVENTS, 0), -EINTR);
	close_found(&f);
}

static void queue_nops(struct uiopf_engine *e, uint32_t n)
{
	while (n--)
		queue_sqe(e, &(struct io_uring_sqe){ .opcode = IORING_OP_NOP });
}

/*
 * A poll of its own ring that ends in the middle of a batch, as the CQ is full by then. The batch has completed the head of
 * a chain before, and that is shown first, which calls the poll: were it added to the task work, it would be gone by then.
 */
static void a_poll_of_its_own_ring_that_is_called_while_it_runs_may_end(void)
{
	struct io_uring_sqe put_off = { .opcode = IORING_OP_NOP, .nop_flags = IORING_NOP_TW, .flags = IOSQE_IO_LINK };
	struct found f;
	uint32_t i;

	open_found(&f);
	for (i = 8; i; i -= 4) {
		queue_nops(f.engine[0], i);
		CHECK_EQ(uiopf_enter(f.engine[0], i, 0, 0, 0), i);
	}
	queue_sqe(f.engine[0], &put_off);
	queue_nops(f.engine[0], 1);
	queue_sqe(f.engine[0], &(struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .fd = f.fd[0], .poll32_events = POLLIN,
						       .len = IORING_POLL_ADD_MULTI });	/* ready when it is armed */
	queue_nops(f.engine[0], 3);
	CHECK_EQ(uiopf_enter(f.engine[0], 6, 0, 0, 0), 6);	/* with three and the head of the chain, all 16 are taken */
	for (i = 0; i < 16; i++)
		result(f.engine[0]);
	CHECK_EQ(uiopf_enter(f.engine[0], 0, 0, IORING_ENTER_GETEVENTS, 0), 0);
	CHECK_EQ(uiopf_cqes_ready(f.engine[0]), 2);	/* its last, and the end of the chain */
	CHECK_EQ(uiopf_engine_pending(f.engine[0]), 0);
	close_found(&f);
}

int main(void)
{
	a_poll_of_its_own_ring_that_is_called_while_it_runs_may_end();
	a_closed_host_descriptor_is_forgotten();
	a_freed_ring_frees_what_waits_in_chains();
	a_ring_may_go_before_who_polls_it();
	a_full_eventfd_holds_up_nobody();
	a_broken_pipe_is_an_errno();
	classic_buffers_are_charged();
	a_lost_completion_is_not_forgotten_by_a_call_that_submits();
	a_wide_sqe_is_submitted_whole_or_not_at_all();
	buffers_of_a_single_issuers_ring_are_its_threads();
	a_time_beyond_all_others_never_comes();
	a_turn_goes_on_to_the_end_of_a_chain();
	a_turn_takes_both_halves_of_a_wide_sqe();
	what_is_kept_for_an_attached_client_is_bounded();
	a_chain_of_an_attached_client_is_taken_when_it_fits();
	nobody_looks_for_a_client_that_is_not_there_yet();
	work_without_an_end_does_not_hold_up_a_wait();
	return 0;
}
