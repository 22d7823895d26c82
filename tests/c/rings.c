/*
 * Rings with a side in each of two threads: what goes in comes out, in order, through small rings that wrap and
 * overflow. Then a client that writes anything, anywhere in its memory, at any time: nothing falls over, and the ring
 * beside it does not notice.
 *
 * The hostile thread writes through the engine's own mapping, so that the thread sanitizer sees every access to shared
 * memory that is not a named atomic. (Those of hostile.c write the same things through mappings and processes of their
 * own: there it sees none.)
 *
 * Arguments: NOPs to stream, seconds of hostility, seed.
 */
#include <errno.h>
#include <pthread.h>

#include "check.h"
#include "rings/cancel.h"
#include "rings/completion.h"
#include "rings/engine.h"
#include "scribble.h"

struct client {
	struct uiopf_engine *engine;
	struct uiopf_client_ring *ring;
	struct io_uring_params p;
};

static void open_client(struct client *c, struct uiopf_core *core, uint32_t entries, uint32_t cq_entries,
			uint32_t flags)
{
	memset(c, 0, sizeof *c);
	c->p.flags = flags | IORING_SETUP_CQSIZE;
	c->p.cq_entries = cq_entries;
	CHECK_EQ(uiopf_setup(core, entries, &c->p, &c->engine), 0);
	c->ring = uiopf_client_ring_map(uiopf_engine_fd(c->engine), &c->p, uiopf_engine_size(c->engine),
					uiopf_engine_sqes_offset(c->engine));
	CHECK(c->ring);
}

static void close_client(struct client *c)
{
	uiopf_client_ring_unmap(c->ring);
	uiopf_engine_free(c->engine);
}

/* ---- a stream through small rings ---- */

struct stream {
	struct client client;
	uint64_t n;
	uint32_t finished;
};

/* Where there is no worker, this thread is the kernel. */
static void *kernel_thread(void *arg)
{
	struct stream *s = arg;

	while (!LOAD_ACQUIRE(&s->finished)) {
		int took = BEGUN(uiopf_enter(s->client.engine, 64, 0, 0, 0));

		CHECK(took >= 0 && BEGUN(uiopf_enter(s->client.engine, 0, 0, IORING_ENTER_GETEVENTS, 0)) >= 0);
		if (!took)
			sched_yield();	/* the client may have no other processor */
	}
	return NULL;
}

static void stream(enum uiopf_driver driver, uint64_t n, uint64_t random, uint32_t flags)
{
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	struct stream s = { .n = n };
	uint64_t pushed = 0, reaped = 0, overflows = 0;
	struct io_uring_cqe cqe[16];
	pthread_t kernel;

	if (driver == UIOPF_SQPOLL)
		flags |= IORING_SETUP_SQPOLL;
	if (driver != UIOPF_INLINE)
		CHECK_EQ(uiopf_core_start(core, driver, -1, 50000), 0);
	open_client(&s.client, core, 4, 8, flags);
	if (driver != UIOPF_SQPOLL)
		CHECK_EQ(pthread_create(&kernel, NULL, kernel_thread, &s), 0);
	while (reaped < n) {
		uint32_t burst = below(&random, 40), i, got;

		for (i = 0; i < burst && pushed < n; i++) {
			struct io_uring_sqe sqe = {
				.opcode = IORING_OP_NOP,
				.nop_flags = IORING_NOP_INJECT_RESULT,
				.len = (uint32_t)pushed & 0x7fffffff,
				.user_data = pushed,
			};

			if (uiopf_client_push(s.client.ring, &sqe) < 0)
				break;
			pushed++;
			if (below(&random, 2))
				uiopf_client_submit(s.client.ring);
		}
		uiopf_client_submit(s.client.ring);
		if (driver == UIOPF_SQPOLL && uiopf_client_needs_wakeup(s.client.ring))
			uiopf_enter(s.client.engine, 0, 0, IORING_ENTER_SQ_WAKEUP, 0);
		if (i < burst)
			sched_yield();	/* the queue is full, and the kernel may have no other processor */
		overflows += uiopf_client_load(s.client.ring, RING_SQ_FLAGS) & IORING_SQ_CQ_OVERFLOW ? 1 : 0;
		if (pushed < n && pushed - reaped < 1000 && below(&random, 8))
			continue;	/* lets completions pile up */
		got = uiopf_client_reap(s.client.ring, cqe, 1 + below(&random, 16));
		for (i = 0; i < got; i++, reaped++) {
			CHECK_EQ(cqe[i].user_data, reaped);
			CHECK_EQ(cqe[i].res, reaped & 0x7fffffff);
			CHECK_EQ(cqe[i].flags, 0);
		}
	}
	STORE_RELEASE(&s.finished, 1);
	if (driver != UIOPF_SQPOLL)
		pthread_join(kernel, NULL);
	CHECK(overflows);
	CHECK_EQ(uiopf_client_load(s.client.ring, RING_CQ_OVERFLOW), 0);
	CHECK_EQ(uiopf_client_load(s.client.ring, RING_SQ_DROPPED), 0);
	close_client(&s.client);
	CHECK_EQ(uiopf_core_free(core), 0);
}

/* ---- hostility ---- */

struct hostile {
	struct uiopf_core *core;
	struct client victim, bystander;	/* the first is written over */
	struct uiopf_mock *mock;
	struct uiopf_faultq *queue;
	struct uiopf_device *device;
	uint8_t *arena;
	struct prey prey;
	uint64_t random;
	uint32_t stop;
	uint64_t written, passed;
};

static void *hostile_thread(void *arg)
{
	struct hostile *h = arg;
	uint64_t *r = &h->random;

	while (!LOAD_ACQUIRE(&h->stop)) {
		switch (below(r, 8)) {
		case 0:
		case 1:
			write_header(&h->prey, r);
			break;
		case 2:
		case 3:
			write_arena(&h->prey, r);
			break;
		case 4:
			if (below(r, 24) == 0) {
				uint32_t flags = below(r, 16) | IORING_ENTER_EXT_ARG;

				/* Waiting for room in a queue whose words lie would be waiting for ever. */
				uiopf_enter(h->victim.engine, below(r, 64), below(r, 4),
					    flags & ~(uint32_t)IORING_ENTER_SQ_WAIT, 1000);
			}
			break;
		default:
			write_sqe(&h->prey, r);
		}
		h->written++;
	}
	return NULL;
}

/* An honest client on the same worker. */
static void *bystander_thread(void *arg)
{
	struct hostile *h = arg;
	struct client *c = &h->bystander;
	struct io_uring_cqe cqe[16];
	uint64_t pushed = 0;

	while (!LOAD_ACQUIRE(&h->stop) || h->passed < pushed) {
		struct io_uring_sqe sqe = { .opcode = IORING_OP_NOP, .user_data = pushed };
		uint32_t i, n;

		if (!LOAD_ACQUIRE(&h->stop) && uiopf_client_push(c->ring, &sqe) >= 0)
			pushed++;
		uiopf_client_submit(c->ring);
		if (c->p.flags & IORING_SETUP_SQPOLL) {
			if (uiopf_client_needs_wakeup(c->ring))
				uiopf_enter(c->engine, 0, 0, IORING_ENTER_SQ_WAKEUP, 0);
		} else {
			CHECK(BEGUN(uiopf_enter(c->engine, 8, 0, IORING_ENTER_GETEVENTS, 0)) >= 0);
		}
		n = uiopf_client_reap(c->ring, cqe, 16);
		for (i = 0; i < n; i++) {
			CHECK_EQ(cqe[i].user_data, h->passed);
			CHECK_EQ(cqe[i].res, 0);
			STORE_RELEASE(&h->passed, h->passed + 1);
		}
	}
	return NULL;
}

/* The ring as the kernel has it mapped; what lies behind its SQEs nobody reads. */
static void open_prey(struct hostile *h, bool drains)
{
	/* What reads faults comes often; nothing closes the queue's descriptor: nobody would open it again. */
	static const uint8_t opcodes[] = {
		IORING_OP_NOP, IORING_OP_READ, IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READ_MULTISHOT,
		IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_NOP, 255, IORING_OP_TIMEOUT, IORING_OP_TIMEOUT_REMOVE,
		IORING_OP_LINK_TIMEOUT, IORING_OP_POLL_REMOVE, IORING_OP_READV, IORING_OP_WRITE_FIXED, IORING_OP_READ_FIXED,
		IORING_OP_MSG_RING, IORING_OP_PROVIDE_BUFFERS, IORING_OP_REMOVE_BUFFERS, IORING_OP_FILES_UPDATE,
	};
	const struct uiopf_ring *ring = &h->victim.engine->ring;

	h->prey = (struct prey){
		.ring = ring->region.map,
		.arena = h->arena,
		.ring_size = ring->sqes_offset + 64ull * ring->sq_entries,
		.sqes_offset = ring->sqes_offset,
		.array = h->victim.p.sq_off.array,
		.life = ANYTHING,
		.queue_fd = uiopf_core_install(h->core, uiopf_faultq_file(h->queue)),
		.ring_fd = uiopf_core_install(h->core, uiopf_engine_file(h->victim.engine)),
		.opcodes = opcodes,
		.opcodes_count = sizeof opcodes,
		/* One request that waits for ever, and everything behind a drain does too: see let_go_on(). */
		.flags_never = drains ? 0 : IOSQE_IO_DRAIN,
	};
}

/* Registered: a buffer, and a few slots for files of which the first has the queue. */
static void register_resources(struct hostile *h)
{
	const struct iovec { void *base; size_t length; } buffer = { (void *)(uintptr_t)ARENA_AT, ARENA / 2 };
	int32_t fds[4] = { h->prey.queue_fd, -1, -1, -1 };

	CHECK_EQ(uiopf_register(h->victim.engine, IORING_REGISTER_BUFFERS, (void *)(uintptr_t)&buffer, 1), 0);
	CHECK_EQ(uiopf_register(h->victim.engine, IORING_REGISTER_FILES, fds, 4), 0);
}

/* All that waits is cancelled, and with it what waits behind drains: else nothing may be read from the start. */
static void let_go_on(struct uiopf_engine *e)
{
	const struct uiopf_cancel all = { .flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL };

	uiopf_control_begin(e->core);
	uiopf_cancel_matching(e, &all);
	uiopf_publish_cqes(e);
	uiopf_control_end(e->core);
}

static void hostility(enum uiopf_driver driver, double seconds, uint64_t seed, bool drains)
{
	struct hostile h = { .random = seed };
	struct io_uring_buf_reg reg = { .ring_addr = ARENA_AT, .ring_entries = 8 };
	uint32_t flags = driver == UIOPF_SQPOLL ? IORING_SETUP_SQPOLL : 0;
	uint64_t random = seed ^ 1, reported = 0;
	struct uiopf_faultq_counts counts = { 0 };
	double end = seconds_now() + seconds;
	pthread_t hostile, bystander;

	h.core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	CHECK(h.core);
	h.mock = uiopf_mock_new(h.core);
	h.queue = uiopf_faultq_new(h.core, UIOPF_PROPOSED);
	h.device = uiopf_device_new(h.core, uiopf_mock_iommu(h.mock), 1, 0, 256, 0);
	h.arena = aligned_alloc(4096, ARENA);
	CHECK(h.mock && h.queue && h.device && h.arena);
	memset(h.arena, 0, ARENA);
	CHECK_EQ(uiopf_attach(h.device, UIOPF_NO_PASID, h.queue, 1), 0);
	/* As many SQEs as write_header() makes up indices: a bad one ends a batch, and little would be read. */
	open_client(&h.victim, h.core, 32, 32, flags | IORING_SETUP_SUBMIT_ALL);
	open_client(&h.bystander, h.core, 8, 16, flags);
	CHECK_EQ(uiopf_engine_add_window(h.victim.engine, ARENA_AT, ARENA, h.arena), 0);
	CHECK_EQ(uiopf_register(h.victim.engine, IORING_REGISTER_PBUF_RING, &reg, 1), 0);
	open_prey(&h, drains);
	register_resources(&h);
	CHECK_EQ(uiopf_core_start(h.core, driver, -1, 1000000), 0);
	CHECK_EQ(pthread_create(&hostile, NULL, hostile_thread, &h), 0);
	CHECK_EQ(pthread_create(&bystander, NULL, bystander_thread, &h), 0);
	/* However slow the sanitizer and the machine are: nobody is starved, and something is read. */
	while (seconds_now() < end || LOAD_ACQUIRE(&h.passed) <= 100 || !counts.delivered_groups) {
		const struct timespec pause = { 0, 100000 };
		struct uiopf_mock_response answers[64];
		uint32_t i;

		CHECK(seconds_now() < end + 60);
		if (drains && below(&random, 50) == 0)
			let_go_on(h.victim.engine);
		uiopf_faultq_counts(h.queue, &counts);
		for (i = 0; i < 16 && counts.waiting_groups + counts.unanswered_groups + i < 200; i++, reported++)
			CHECK_EQ(uiopf_device_report(h.device, 3, below(&random, 4), (uint32_t)reported, 1, reported << 12), 0);
		if (counts.unanswered_groups > 100 && below(&random, 20) == 0)	/* a guest that resets its device */
			CHECK_EQ(uiopf_replace(h.device, UIOPF_NO_PASID, h.queue, 1), 0);
		while (uiopf_mock_take(h.mock, answers, 64))
			;
		nanosleep(&pause, NULL);
	}
	STORE_RELEASE(&h.stop, 1);
	pthread_join(hostile, NULL);
	pthread_join(bystander, NULL);
	close_client(&h.victim);	/* with whatever it has under way */
	close_client(&h.bystander);
	CHECK_EQ(uiopf_detach(h.device, UIOPF_NO_PASID), 0);
	uiopf_faultq_counts(h.queue, &counts);
	CHECK_EQ(counts.answered_faults + counts.auto_answered_faults, reported);
	printf("driver %d%s: %" PRIu64 " writes, %" PRIu64 " faults of which %" PRIu64 " were read and %" PRIu64
	       " answered, %" PRIu64 " NOPs beside it\n", (int)driver, drains ? ", draining" : "", h.written, reported,
	       (uint64_t)counts.delivered_groups, (uint64_t)counts.answered_groups, h.passed);
	CHECK_EQ(uiopf_faultq_free(h.queue), 0);
	uiopf_device_free(h.device);
	uiopf_mock_free(h.mock);
	free(h.arena);
	CHECK_EQ(uiopf_core_free(h.core), 0);
}

int main(int argc, char **argv)
{
	uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000;
	double seconds = seconds_from(argc, argv, 2, 2);
	uint64_t seed = seed_from(argc, argv, 3);

	stream(UIOPF_INLINE, n, seed, 0);
	stream(UIOPF_ENTER, n, seed + 1, IORING_SETUP_NO_SQARRAY);
	stream(UIOPF_SQPOLL, n, seed + 2, 0);
	stream(UIOPF_SQPOLL, n, seed + 3, IORING_SETUP_NO_SQARRAY);
	hostility(UIOPF_ENTER, seconds / 4, seed + 4, false);
	hostility(UIOPF_SQPOLL, seconds / 4, seed + 5, false);
	hostility(UIOPF_ENTER, seconds / 4, seed + 6, true);
	hostility(UIOPF_SQPOLL, seconds / 4, seed + 7, true);
	return 0;
}
