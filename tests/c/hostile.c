/*
 * Clients that do anything: beside an honest one, whose account must come out exactly.
 *
 * One core and one worker. An honest client serves its device's faults through a ring of its own and checks, after every
 * pass, that the right pages are there and no others. Two hostile ones live short lives in which each has a ring, a
 * thread that makes calls (enters, registers, closes, resizes), a thread and a process of its own that write over every
 * word of the ring, the SQEs, the buffers and the page tables, and punch holes into the memory. The process is killed at
 * some moment, and the ring is freed with whatever it has under way. Their devices fault too, into queues that they read
 * and answer as it comes, and through page tables that say anything.
 *
 * Some lives leave the CQEs and the results that they ask for alone: there every errno must be one that Linux could give.
 * Some leave the indices alone: there `dropped` must count exactly the bad ones.
 *
 * The kernel's mappings of rings and page tables lie between guard pages, so that an access outside ends the program.
 *
 * What separates clients of one core is what separates threads of a process: the table of descriptors is one. The honest
 * client's descriptor is therefore a number that hostile ones never name.
 *
 * Arguments: seconds (for both drivers together), seed. (The processes are this program again, with other arguments.)
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "errnos.h"
#include "guard.h"
#include "hardware/walk.h"
#include "scribble.h"

#define HOSTILES 2
#define ROWS 3000
#define CREDITS 128
#define GROUP_MOST 4
#define FIRST_CHILD_FD 20
#define MOST_PENDING 65536
#define MOST_BACKLOG (1u << 20)

extern char **environ;

/* ---- a process of its own: this program again ---- */

#define CHILD_ARGUMENTS 10

static int child(char **argv)
{
	uint64_t n[CHILD_ARGUMENTS], random, i;
	struct prey p = { .fd = { FIRST_CHILD_FD, FIRST_CHILD_FD + 1, FIRST_CHILD_FD + 2 } };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (i = 0; i < CHILD_ARGUMENTS; i++)
		n[i] = strtoull(argv[2 + i], NULL, 0);
	random = n[0];
	p.ring_size = n[1];
	p.arena_size = n[2];
	p.tables_size = n[3];
	p.sqes_offset = (uint32_t)n[4];
	p.array = (uint32_t)n[5];
	p.life = (enum life)n[6];
	p.ring_fd = (int)n[7];
	p.queue_fd = (int)n[8];
	map_prey(&p);
	for (i = 0;; i++) {
		scribble_once(&p, &random);
		if (i == 100)	/* it is at work: it may be killed from now on */
			CHECK_EQ(write((int)n[9], "", 1), 1);
	}
}

static pid_t spawn_child(const struct prey *p, uint64_t seed)
{
	char text[CHILD_ARGUMENTS][24], *argv[CHILD_ARGUMENTS + 3] = { (char *)"hostile", (char *)"child" }, byte;
	const uint64_t n[CHILD_ARGUMENTS] = {
		seed, p->ring_size, p->arena_size, p->tables_size, p->sqes_offset, p->array, p->life, (uint64_t)p->ring_fd,
		(uint64_t)p->queue_fd, FIRST_CHILD_FD + 3,
	};
	posix_spawn_file_actions_t actions;
	struct pollfd ready;
	int pipe_fd[2], i;
	pid_t pid;

	CHECK_EQ(pipe2(pipe_fd, O_CLOEXEC), 0);
	for (i = 0; i < CHILD_ARGUMENTS; i++) {
		snprintf(text[i], sizeof text[i], "%" PRIu64, n[i]);
		argv[2 + i] = text[i];
	}
	CHECK_EQ(posix_spawn_file_actions_init(&actions), 0);
	/* First out of the way of each other, then where they belong, which also takes off CLOEXEC. */
	for (i = 0; i < 4; i++)
		CHECK_EQ(posix_spawn_file_actions_adddup2(&actions, i < 3 ? p->fd[i] : pipe_fd[1], 900 + i), 0);
	for (i = 0; i < 4; i++)
		CHECK_EQ(posix_spawn_file_actions_adddup2(&actions, 900 + i, FIRST_CHILD_FD + i), 0);
	for (i = 0; i < 4; i++)
		CHECK_EQ(posix_spawn_file_actions_addclose(&actions, 900 + i), 0);
	CHECK_EQ(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(pipe_fd[1]);
	ready = (struct pollfd){ pipe_fd[0], POLLIN, 0 };
	CHECK(poll(&ready, 1, 60000) == 1 && read(pipe_fd[0], &byte, 1) == 1);
	close(pipe_fd[0]);
	return pid;
}

/* It must not have ended by itself: that is how it would say that a seal did not hold. */
static void kill_child(pid_t pid)
{
	int status;

	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- the world ---- */

struct site {			/* a device, and what its faults come to */
	struct uiopf_space *space;
	struct uiopf_endpoint *endpoint;
	struct uiopf_device *device;
	struct uiopf_faultq *queue;
};

struct hostile {
	struct world *world;
	struct site site;
	pthread_t thread;
	uint64_t random;
	uint32_t number;
	struct uiopf_region arena;
	struct prey prey;
	struct uiopf_engine *engine;
	uint32_t setup_flags;
	int pipe[2], socket[2], eventfd;
	uint64_t scribbled;
	uint64_t lives, calls, cqes, errors, dropped, killed;
};

struct world {
	struct uiopf_core *core;
	enum uiopf_driver driver;
	struct uiopf_model *vtd;
	struct site honest;
	struct uiopf_channel *channel;
	pthread_t honest_thread;
	uint64_t random, passes;
	uint32_t stop;
	struct hostile hostile[HOSTILES];
};

static struct uiopf_access row[ROWS];

static void make_rows(uint64_t *random)
{
	uint32_t i;

	for (i = 0; i < ROWS; i++)
		row[i] = (struct uiopf_access){
			.address = 0x4000000 + 8192ull * below(random, 1024),	/* every second page: the others stay away */
			.pasid = below(random, 8) ? row[i ? i - 1 : 0].pasid : below(random, PASIDS),
			.access = 1 + below(random, 3),
		};
}

static void open_site(struct world *w, struct site *s, uint32_t n)
{
	s->space = uiopf_space_new(PASIDS, 64);
	s->endpoint = uiopf_endpoint_new(w->core, uiopf_model_port(w->vtd), (uint16_t)(0x100 + n), CREDITS, GROUP_MOST);
	s->device = uiopf_device_new(w->core, uiopf_model_iommu(w->vtd), n + 1, 0x100 + n, 2 * CREDITS, 0);
	s->queue = uiopf_faultq_new(w->core, UIOPF_COMMANDS);
	CHECK(s->space && s->endpoint && s->device && s->queue);
	s->space->region.map = guard_mapping(s->space->region.map, s->space->region.size);
	CHECK_EQ(uiopf_model_bind(w->vtd, s->endpoint, s->device), 0);
	uiopf_endpoint_set_tables(s->endpoint, s->space);
	CHECK_EQ(uiopf_endpoint_set_rows(s->endpoint, row, ROWS), 0);
	CHECK_EQ(uiopf_endpoint_enable_pri(s->endpoint, CREDITS), 0);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->queue, 1), 0);
}

static void close_site(struct world *w, struct site *s)
{
	uint8_t *map = s->space->region.map;
	uint64_t size = s->space->region.size;

	CHECK_EQ(uiopf_faultq_free(s->queue), 0);
	uiopf_model_unbind(w->vtd, s->device);
	uiopf_device_free(s->device);
	uiopf_endpoint_free(s->endpoint);
	uiopf_space_free(s->space);
	unguard_mapping(map, size);
}

/* ---- the honest client ---- */

static void *honest_thread(void *arg)
{
	struct world *w = arg;
	struct site *s = &w->honest;
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 24, .group = GROUP_MOST };

	while (!LOAD_ACQUIRE(&w->stop)) {
		const double deadline = seconds_now() + 60;
		struct uiopf_served served = { 0 };
		uint32_t i, page, pasid;

		CHECK_EQ(uiopf_client_replay(w->channel, s->space, s->endpoint, &load, ROWS, 60000000000ull, &served), 0);
		/* It comes back early where others had the kernel's side for long, and is called again. */
		while (served.faults < ROWS && seconds_now() < deadline)
			CHECK_EQ(uiopf_client_serve(w->channel, s->space, ROWS - served.faults, 60000000000ull, &served), 0);
		CHECK_EQ(served.faults, ROWS);
		CHECK_EQ(uiopf_endpoint_wait(s->endpoint, (uint32_t)++w->passes, 60000000000ull), 1);
		for (i = 0; i < ROWS; i++)
			CHECK(uiopf_space_present(s->space, row[i].pasid, row[i].address, row[i].access));
		for (page = 0; page < 2048; page++)
			for (pasid = 0; pasid < PASIDS; pasid++)
				if (page & 1)
					CHECK(!uiopf_space_present(s->space, pasid, 0x4000000 + 4096ull * page, 0));
		uiopf_space_reset(s->space);
	}
	return NULL;
}

static void check_honest(struct world *w, uint64_t *served)
{
	struct uiopf_endpoint_counts counts;
	struct uiopf_faultq_counts queue;
	struct uiopf_cost cost;

	uiopf_endpoint_get_counts(w->honest.endpoint, &counts);
	uiopf_faultq_counts(w->honest.queue, &queue);
	uiopf_channel_cost(w->channel, &cost);
	CHECK(w->passes);
	CHECK_EQ(counts.sent, ROWS * w->passes);
	CHECK_EQ(counts.succeeded, counts.sent);
	CHECK_EQ(counts.unmapped + counts.invalid + counts.failed + counts.unexpected + counts.outstanding, 0);
	CHECK_EQ(queue.answered_faults, counts.sent);
	CHECK_EQ(queue.auto_answered_faults + queue.lost_groups + queue.waiting_groups + queue.unanswered_groups, 0);
	CHECK_EQ(cost.answer_errors, 0);
	*served = counts.sent;
}

/* ---- a hostile client's life ---- */

/* How far CQEs were looked at; the engine's own words are the kernel's business. */
struct reader {
	uint32_t head;
};

static void reap(struct hostile *h, struct reader *reader)
{
	const struct uiopf_ring *ring = &h->engine->ring;
	uint32_t tail;

	if (h->prey.life == ANYTHING)
		return;
	tail = LOAD_ACQUIRE(uiopf_ring_word(ring, RING_CQ_TAIL));
	if (tail - reader->head > ring->cq_entries) {	/* its head was written over: some it has never seen */
		CHECK(h->prey.life != CLEAN_INDICES);
		reader->head = tail - ring->cq_entries;
	}
	for (; reader->head != tail; reader->head++) {
		const int32_t res = (int32_t)READ_ONCE(&uiopf_cqe_at(ring, reader->head)[1]);

		h->cqes++;
		if (res >= 0)
			continue;
		h->errors++;
		if (!known_errno(-res)) {
			fprintf(stderr, "a result is %d, with user_data %" PRIx64 "\n", res,
				READ_ONCE(&uiopf_cqe_at(ring, reader->head)[0]));
			abort();
		}
	}
	STORE_RELEASE(uiopf_ring_word(ring, RING_CQ_HEAD), reader->head);
}

struct scribbler {		/* a thread's own: nothing here is shared but when to stop */
	pthread_t thread;
	struct prey prey;
	uint64_t random, written;
	uint32_t stop;
};

static void *scribbler_thread(void *arg)
{
	struct scribbler *s = arg;

	map_prey(&s->prey);
	while (!LOAD_ACQUIRE(&s->stop)) {
		scribble_once(&s->prey, &s->random);
		s->written++;
	}
	unmap_prey(&s->prey);
	return NULL;
}

static void stop_scribbler(struct hostile *h, struct scribbler *s)
{
	STORE_RELEASE(&s->stop, 1);
	pthread_join(s->thread, NULL);
	h->scribbled += s->written;
}

static void open_ring(struct hostile *h)
{
	struct uiopf_core *core = h->world->core;
	static const uint32_t some[] = {
		0, IORING_SETUP_NO_SQARRAY, IORING_SETUP_CQE32, IORING_SETUP_SQE128, IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_R_DISABLED, IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	};
	struct io_uring_params p = { .flags = IORING_SETUP_CQSIZE, .cq_entries = 32u << below(&h->random, 4) };
	uint32_t i;

	for (i = below(&h->random, 3); i; i--)
		p.flags |= some[below(&h->random, sizeof some / sizeof some[0])];
	if (h->world->driver == UIOPF_SQPOLL && !(p.flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN)))
		p.flags |= IORING_SETUP_SQPOLL;
	if (h->prey.life == CLEAN_INDICES)
		p.flags &= ~(uint32_t)(IORING_SETUP_NO_SQARRAY | IORING_SETUP_R_DISABLED);
	h->setup_flags = p.flags;
	uiopf_control_begin(core);
	CHECK_EQ(uiopf_setup(core, 16u << below(&h->random, 2), &p, &h->engine), 0);
	guard_ring(h->engine);
	uiopf_control_end(core);
	CHECK_EQ(uiopf_engine_add_window(h->engine, ARENA_AT, ARENA, h->arena.map), 0);
	h->prey.ring_fd = uiopf_core_install(core, uiopf_engine_file(h->engine));
	CHECK(h->prey.ring_fd >= 3 && h->prey.ring_fd < 900);
	h->prey.fd[0] = fcntl(uiopf_engine_fd(h->engine), F_DUPFD_CLOEXEC, 3);
	CHECK(h->prey.fd[0] >= 0);
	h->prey.ring_size = uiopf_engine_size(h->engine);
	h->prey.sqes_offset = uiopf_engine_sqes_offset(h->engine);
	h->prey.array = p.sq_off.array ? p.sq_off.array : RING_CQES;
	if (!p.sq_off.array && h->prey.life != ANYTHING)
		h->prey.array = h->prey.sqes_offset - 4;	/* there is none: no CQE may be taken for it */
}

static void close_ring(struct hostile *h)
{
	CHECK(uiopf_engine_pending(h->engine) <= MOST_PENDING);
	uiopf_control_begin(h->world->core);
	CHECK(h->engine->backlog_capacity <= MOST_BACKLOG && h->engine->request_count <= MOST_PENDING);
	uiopf_control_end(h->world->core);
	free_guarded_ring(h->engine);
}

static void register_something(struct hostile *h)
{
	struct uiopf_engine *e = h->engine;
	uint64_t *r = &h->random, argument[512] = { 0 };
	const struct uiopf_region before = e->ring.region;
	uint32_t opcode = below(r, IORING_REGISTER_LAST + 1), n = below(r, 8), i;
	int rc;

	switch (opcode) {
	case IORING_REGISTER_BUFFERS:
		for (i = 0; i < 2 * n; i += 2) {
			argument[i] = ARENA_AT + below(r, ARENA);
			argument[i + 1] = below(r, 8192);
		}
		break;
	case IORING_REGISTER_FILES:
		for (i = 0; i < n; i++)
			((int32_t *)(void *)argument)[i] = below(r, 3) ? h->prey.queue_fd : (int32_t)below(r, 16) - 1;
		break;
	case IORING_REGISTER_PBUF_RING: {
		struct io_uring_buf_reg *reg = (void *)argument;

		reg->ring_addr = ARENA_AT + 4096 * below(r, 4);
		reg->ring_entries = 16;
		reg->bgid = (uint16_t)below(r, 3);
		reg->flags = below(r, 2) ? IOU_PBUF_RING_INC : 0;
		if (below(r, 4) == 0) {
			reg->ring_addr = 0;
			reg->flags |= IOU_PBUF_RING_MMAP;
		}
		n = 1;
		break;
	}
	case IORING_UNREGISTER_PBUF_RING:
		((struct io_uring_buf_reg *)(void *)argument)->bgid = (uint16_t)below(r, 3);
		n = 1;
		break;
	case IORING_REGISTER_EVENTFD:
	case IORING_REGISTER_EVENTFD_ASYNC:
		*(int *)(void *)argument = h->eventfd;
		n = 1;
		break;
	case IORING_REGISTER_RESIZE_RINGS: {
		struct io_uring_params *p = (void *)argument;

		p->sq_entries = 16u << below(r, 3);
		p->cq_entries = 32u << below(r, 3);
		p->flags = below(r, 2) ? IORING_SETUP_CQSIZE : 0;
		n = 1;
		if (h->prey.life != ANYTHING)	/* what is read of it and counted stays where it is */
			return;
		break;
	}
	case IORING_REGISTER_RESTRICTIONS:
		if (below(r, 8))
			return;		/* nothing would be left */
		break;
	default:
		for (i = 0; i < 4; i++)
			argument[i] = below(r, 2) ? below(r, 8) : any_word(r);
		if (below(r, 2))
			n = sizeof(struct io_uring_rsrc_register);
	}
	/* What has room for n of something is counted in bytes by none that takes more than 512 words. */
	uiopf_control_begin(h->world->core);
	rc = uiopf_register(e, opcode, below(r, 6) ? argument : NULL, n);
	if (rc == 0 && opcode == IORING_REGISTER_RESIZE_RINGS) {
		unguard_mapping(before.map, before.size);
		guard_ring(e);
	}
	uiopf_control_end(h->world->core);
}

static void enter(struct hostile *h)
{
	uint32_t flags = below(&h->random, 16) & ~(uint32_t)IORING_ENTER_SQ_WAIT;	/* whose words lie would wait for ever */
	int rc;

	rc = uiopf_enter(h->engine, below(&h->random, 40), below(&h->random, 3), flags | IORING_ENTER_EXT_ARG,
			 1000ull * below(&h->random, 200));
	/* EINVAL: EXT_ARG_REG. */
	CHECK(rc >= 0 || rc == -ETIME || rc == -EAGAIN || rc == -EBADFD || rc == -EBADR || rc == -EEXIST || rc == -EINVAL ||
	      rc == -EINTR);
}

/* Descriptors of the host: data for requests that wait, and room for them. */
static void use_host(struct hostile *h)
{
	uint8_t data[64] = { 0 };
	ssize_t n = 0;

	switch (below(&h->random, 4)) {
	case 0:
		n = write(h->pipe[1], data, 1 + below(&h->random, 64));
		break;
	case 1:
		n = read(h->pipe[0], data, 64);
		break;
	case 2:
		n = write(h->socket[1], data, 1 + below(&h->random, 64));
		break;
	default:
		n = read(h->socket[1], data, 64);
	}
	(void)n;
}

/* A descriptor that a CLOSE has taken is opened again; and one that requests wait for is closed under them. */
static void reopen(struct hostile *h)
{
	struct uiopf_core *core = h->world->core;
	const int host[4] = { h->pipe[0], h->pipe[1], h->socket[0], h->eventfd };
	int fd;

	fd = 3 + (int)below(&h->random, 20);
	if (fd != h->prey.ring_fd && below(&h->random, 2))
		uiopf_core_uninstall(core, fd, NULL);
	if (below(&h->random, 2)) {
		fd = uiopf_core_install_host(core, host[below(&h->random, 4)]);
	} else {
		fd = uiopf_core_install(core, uiopf_faultq_file(h->site.queue));
		if (fd >= 0)
			h->prey.queue_fd = fd;
	}
	if (fd > 40)
		uiopf_core_uninstall(core, fd, NULL);
}

/* One SQE at a time, by an index that is good or bad; scribblers change what it says, not how it is counted. */
static bool submit_counted(struct hostile *h, struct reader *reader, uint32_t *bad)
{
	const struct uiopf_ring *ring = &h->engine->ring;
	const uint32_t tail = READ_ONCE(uiopf_ring_word(ring, RING_SQ_TAIL));
	const bool good = below(&h->random, 4);
	double deadline = seconds_now() + 60;
	uint32_t looks = 0;
	int rc;

	WRITE_ONCE(&ring->sq_array[tail & ring->sq_mask],
		   good ? below(&h->random, ring->sq_entries) : ring->sq_entries + (uint32_t)(next_random(&h->random) >> 33));
	STORE_SEQ(uiopf_ring_word(ring, RING_SQ_TAIL), tail + 1);
	rc = BEGUN(uiopf_enter(h->engine, 1, 0, IORING_ENTER_SQ_WAKEUP, 0));
	if (rc == -EAGAIN)
		return false;
	if (h->setup_flags & IORING_SETUP_SQPOLL) {
		CHECK_EQ(rc, 1);
		while (LOAD_ACQUIRE(uiopf_ring_word(ring, RING_SQ_HEAD)) != tail + 1) {
			if (++looks % 4096 == 0 && uiopf_engine_pending(h->engine) >= MOST_PENDING)
				return false;	/* so many are under way: it is not taken */
			CHECK(seconds_now() < deadline);
			reap(h, reader);
		}
	} else {
		CHECK_EQ(rc, good);
		CHECK_EQ(LOAD_ACQUIRE(uiopf_ring_word(ring, RING_SQ_HEAD)), tail + 1);
	}
	*bad += !good;
	CHECK_EQ(LOAD_ACQUIRE(uiopf_ring_word(ring, RING_SQ_DROPPED)), *bad);
	CHECK_EQ(LOAD_ACQUIRE(uiopf_ring_word(ring, RING_CQ_OVERFLOW)), 0);
	return true;
}

static void live(struct hostile *h)
{
	struct world *w = h->world;
	struct reader reader = { 0 };
	uint64_t *r = &h->random;
	double end;
	const bool has_child = below(r, 2), dies_first = below(r, 2);
	struct scribbler scribbler = { .stop = 0 };
	uint32_t bad = 0;
	pid_t pid = 0;

	h->prey.life = (enum life)below(r, LIVES);
	open_ring(h);
	scribbler.prey = h->prey;
	scribbler.random = next_random(r);
	CHECK_EQ(pthread_create(&scribbler.thread, NULL, scribbler_thread, &scribbler), 0);
	if (has_child) {
		pid = spawn_child(&h->prey, next_random(r));
		h->killed++;
	}
	end = seconds_now() + 0.02 + 0.0005 * below(r, 200);
	while (seconds_now() < end && !LOAD_ACQUIRE(&w->stop)) {
		h->calls++;
		switch (below(r, 16)) {
		case 0:
			register_something(h);
			break;
		case 1:
			use_host(h);
			break;
		case 2:
			reopen(h);
			break;
		case 3:
			uiopf_engine_pending(h->engine);
			uiopf_faultq_poll(h->site.queue);
			break;
		default:
			if (h->prey.life == CLEAN_INDICES) {
				if (!submit_counted(h, &reader, &bad))
					end = 0;
			} else {
				enter(h);
			}
		}
		reap(h, &reader);
	}
	h->dropped += bad;
	if (pid && dies_first)
		kill_child(pid);
	if (below(r, 2)) {	/* the ring goes while they still write over its memory */
		close_ring(h);
		stop_scribbler(h, &scribbler);
	} else {
		stop_scribbler(h, &scribbler);
		close_ring(h);
	}
	if (pid && !dies_first)
		kill_child(pid);
	close(h->prey.fd[0]);
	h->lives++;
}

/* As a driver would: what stopped is started again, and what is never answered is given up now and then. */
static void restart_device(struct hostile *h)
{
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 32, .group = 1 + below(&h->random, GROUP_MOST) };
	struct uiopf_endpoint_counts counts;

	uiopf_endpoint_get_counts(h->site.endpoint, &counts);
	if (counts.pri_status & PCIE_PRI_STATUS_STOPPED || below(&h->random, 4) == 0) {
		CHECK_EQ(uiopf_replace(h->site.device, UIOPF_NO_PASID, h->site.queue, 1), 0);
		uiopf_endpoint_disable_pri(h->site.endpoint);
		CHECK_EQ(uiopf_endpoint_reset_pri(h->site.endpoint), 0);
		CHECK_EQ(uiopf_endpoint_enable_pri(h->site.endpoint, CREDITS), 0);
	}
	uiopf_endpoint_start(h->site.endpoint, &load);
}

static void *hostile_thread(void *arg)
{
	struct hostile *h = arg;

	while (!LOAD_ACQUIRE(&h->world->stop)) {
		restart_device(h);
		live(h);
	}
	return NULL;
}

static void open_hostile(struct world *w, struct hostile *h, uint32_t number)
{
	h->world = w;
	h->number = number;
	h->random = next_random(&w->random);
	open_site(w, &h->site, number + 1);
	CHECK_EQ(uiopf_region_open(&h->arena, "hostile-arena", ARENA), 0);
	h->arena.map = guard_mapping(h->arena.map, ARENA);
	h->prey = (struct prey){
		.arena_size = ARENA,
		.tables_size = h->site.space->region.size,
		.fd = { -1, h->arena.fd, uiopf_space_fd(h->site.space) },
	};
	CHECK_EQ(pipe2(h->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, h->socket), 0);
	/* One that blocks, and has no room left: who just wrote to it would wait until the client pleases. */
	h->eventfd = eventfd(0, EFD_CLOEXEC);
	CHECK(h->eventfd >= 0 && eventfd_write(h->eventfd, UINT64_MAX - 1) == 0);
	h->prey.queue_fd = uiopf_core_install(w->core, uiopf_faultq_file(h->site.queue));
	CHECK(h->prey.queue_fd >= 3);
}

static void close_hostile(struct world *w, struct hostile *h)
{
	struct uiopf_endpoint_counts counts;
	uint8_t *map = h->arena.map;
	double deadline = seconds_now() + 60;
	int i;

	uiopf_endpoint_cancel(h->site.endpoint);
	CHECK_EQ(uiopf_detach(h->site.device, UIOPF_NO_PASID), 0);
	do {
		CHECK(seconds_now() < deadline);
		uiopf_endpoint_get_counts(h->site.endpoint, &counts);
	} while (counts.outstanding);
	/* Whatever was done to its tables and answers, every fault has ended in one way. */
	CHECK_EQ(counts.succeeded + counts.unmapped + counts.invalid + counts.failed + counts.cleared, counts.sent);
	printf("  hostile %" PRIu32 ": %" PRIu64 " lives, %" PRIu64 " processes killed, %" PRIu64 " calls, %" PRIu64
	       " writes of its thread, %" PRIu64 " CQEs looked at (%" PRIu64 " errors), %" PRIu64 " dropped, %" PRIu64
	       " faults\n", h->number, h->lives, h->killed, h->calls, h->scribbled, h->cqes, h->errors, h->dropped,
	       (uint64_t)counts.sent);
	for (i = 0; i < 2; i++) {
		close(h->pipe[i]);
		close(h->socket[i]);
	}
	close(h->eventfd);
	uiopf_region_close(&h->arena);
	unguard_mapping(map, ARENA);
	close_site(w, &h->site);
}

/* ---- the whole ---- */

/* A channel whose descriptor is HONEST_FD: what is free below is taken for the time. */
static void open_channel(struct world *w)
{
	const struct uiopf_channel_config config = { .wait = UIOPF_WAIT_SLEEP, .in_flight = 512, .group_most = GROUP_MOST };
	uint32_t design = 0;
	int fd;

	while (strcmp(uiopf_design_info(design)->name, "uring-multishot"))
		design++;
	do
		fd = uiopf_core_install(w->core, uiopf_faultq_file(w->honest.queue));
	while (fd < HONEST_FD - 1);
	CHECK_EQ(fd, HONEST_FD - 1);
	CHECK_EQ(uiopf_channel_open(w->core, w->honest.queue, design, &config, NULL, &w->channel), 0);
	CHECK(w->core->file[HONEST_FD]);
	for (fd = 3; fd < HONEST_FD; fd++)
		uiopf_core_uninstall(w->core, fd, NULL);
}

static void run(enum uiopf_driver driver, double seconds, uint64_t seed)
{
	struct world w = { .driver = driver, .random = seed };
	const struct timespec pause = { 0, 5000000 };
	double end = seconds_now() + seconds;
	struct uiopf_model_counts vtd;
	uint64_t served, lives = 0;
	uint32_t i;
	int fd;

	w.core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	CHECK(w.core);
	if (w.driver == UIOPF_SQPOLL)	/* its rings have commands that go on */
		uiopf_core_set_kernel(w.core, 7, 2);
	w.vtd = uiopf_model_make(w.core, 0, 0);
	CHECK(w.vtd);
	make_rows(&w.random);
	open_site(&w, &w.honest, 0);
	/* The channel looks at the driver, to know who turns its ring. */
	CHECK_EQ(uiopf_core_start(w.core, driver, -1, 200000), 0);
	open_channel(&w);
	for (i = 0; i < HOSTILES; i++)
		open_hostile(&w, &w.hostile[i], i);
	CHECK_EQ(pthread_create(&w.honest_thread, NULL, honest_thread, &w), 0);
	for (i = 0; i < HOSTILES; i++)
		CHECK_EQ(pthread_create(&w.hostile[i].thread, NULL, hostile_thread, &w.hostile[i]), 0);
	while (seconds_now() < end)
		nanosleep(&pause, NULL);
	STORE_RELEASE(&w.stop, 1);
	for (i = 0; i < HOSTILES; i++) {
		pthread_join(w.hostile[i].thread, NULL);
		lives += w.hostile[i].lives;
	}
	pthread_join(w.honest_thread, NULL);	/* its last pass was served after all that */
	check_honest(&w, &served);
	uiopf_model_get_counts(w.vtd, &vtd);
	CHECK_EQ(vtd.overflowed + vtd.commands_lost, 0);
	CHECK(lives);
	printf("driver %d: %" PRIu64 " honest faults in %" PRIu64 " passes, all served; beside it:\n", (int)driver, served,
	       w.passes);
	uiopf_channel_close(w.channel);
	for (fd = 3; fd < UIOPF_MAX_FILES; fd++)
		uiopf_core_uninstall(w.core, fd, NULL);
	for (i = 0; i < HOSTILES; i++)
		close_hostile(&w, &w.hostile[i]);
	CHECK_EQ(uiopf_detach(w.honest.device, UIOPF_NO_PASID), 0);
	close_site(&w, &w.honest);
	uiopf_model_free(w.vtd);
	CHECK_EQ(uiopf_core_free(w.core), 0);	/* and joins the worker */
}

int main(int argc, char **argv)
{
	double seconds;
	struct rusage usage;
	uint64_t seed;

	if (argc == 2 + CHILD_ARGUMENTS && !strcmp(argv[1], "child"))
		return child(argv);
	seconds = seconds_from(argc, argv, 1, 6);
	seed = seed_from(argc, argv, 2);
	run(UIOPF_SQPOLL, seconds / 2, seed);
	run(UIOPF_ENTER, seconds / 2, seed + 1);
	/* Requests, backlogs and buffers have limits; the sanitizers' own memory is several times what they watch. */
	CHECK_EQ(getrusage(RUSAGE_SELF, &usage), 0);
	printf("%ld MiB at most\n", usage.ru_maxrss / 1024);
	CHECK(usage.ru_maxrss < 3 << 20);
	return 0;
}
