/*
 * Rings with a side in each of two threads: what goes in comes out, in order, through small rings that wrap and
 * overflow. Then a client that writes anything, anywhere in its memory, at any time: nothing falls over, and the ring
 * beside it does not notice.
 *
 * The hostile thread writes through the engine's own mapping, so that the thread sanitizer sees every access to shared
 * memory that is not a named atomic.
 *
 * Arguments: NOPs to stream, seconds of hostility, seed.
 */
#include <errno.h>
#include <pthread.h>

#include "check.h"
#include "engine.h"

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

	while (!LOAD_ACQUIRE(&s->finished))
		CHECK(uiopf_enter(s->client.engine, 64, 0, 0, 0) >= 0 &&
		      uiopf_enter(s->client.engine, 0, 0, IORING_ENTER_GETEVENTS, 0) >= 0);
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

#define ARENA 0x10000u
#define ARENA_AT 0x7000000000ull

struct hostile {
	struct uiopf_core *core;
	struct client victim, bystander;	/* the first is written over */
	struct uiopf_mock *mock;
	struct uiopf_faultq *queue;
	struct uiopf_device *device;
	uint8_t *arena;
	uint64_t random;
	int fd, ring_fd;
	bool drains;
	uint32_t stop;
	uint64_t written, passed;
};

static void scribble_word(uint64_t *at, uint64_t value)
{
	WRITE_ONCE(at, value);
}

/* An SQE that gets past the first checks more often than noise would. */
static void scribble_sqe(struct hostile *h, uint64_t *at)
{
	static const uint8_t ops[] = {
		IORING_OP_NOP, IORING_OP_READ, IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READ_MULTISHOT,
		IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_NOP, 255, IORING_OP_TIMEOUT, IORING_OP_TIMEOUT_REMOVE,
		IORING_OP_LINK_TIMEOUT, IORING_OP_POLL_REMOVE, IORING_OP_READV, IORING_OP_WRITE_FIXED, IORING_OP_READ_FIXED,
		IORING_OP_MSG_RING, IORING_OP_PROVIDE_BUFFERS, IORING_OP_REMOVE_BUFFERS, IORING_OP_FILES_UPDATE,
	};
	uint64_t *r = &h->random, word[8] = { 0 };
	uint32_t opcode = ops[below(r, sizeof ops)], i;

	uint32_t flags = below(r, 4) ? 0x20 * (opcode == IORING_OP_READ_MULTISHOT) : below(r, 256);

	if (!h->drains)		/* one request that waits for ever, and everything behind a drain does */
		flags &= ~(uint32_t)IOSQE_IO_DRAIN;
	word[0] = opcode | (uint64_t)flags << 8 | (uint64_t)(uint32_t)(below(r, 8) ? h->fd : (int)below(r, 5) - 2) << 32;
	switch (opcode) {
	case IORING_OP_READ:
	case IORING_OP_WRITE:
	case IORING_OP_READ_FIXED:
	case IORING_OP_WRITE_FIXED:
		word[1] = below(r, 4) ? 0 : next_random(r);
		word[2] = ARENA_AT + below(r, ARENA + 64);
		word[3] = below(r, 4) ? 40 * below(r, 4) : below(r, 200);
		word[5] = below(r, 3);
		break;
	case IORING_OP_READV:
		word[2] = ARENA_AT + below(r, ARENA + 64);
		word[3] = below(r, 5);
		break;
	case IORING_OP_ASYNC_CANCEL:
		word[2] = below(r, 4);
		word[3] = (uint64_t)below(r, 64) << 32;
		break;
	case IORING_OP_POLL_ADD:
		word[3] = below(r, 2) | (uint64_t)below(r, 256) << 32;
		break;
	case IORING_OP_POLL_REMOVE:
	case IORING_OP_TIMEOUT_REMOVE:
		word[2] = below(r, 4);
		word[3] = opcode == IORING_OP_POLL_REMOVE ? below(r, 8) : (uint64_t)below(r, 32) << 32;
		break;
	case IORING_OP_TIMEOUT:
	case IORING_OP_LINK_TIMEOUT:
		word[1] = opcode == IORING_OP_TIMEOUT ? below(r, 4) : 0;
		word[2] = ARENA_AT + 8 * below(r, ARENA / 8);
		word[3] = 1 | (uint64_t)(below(r, 2) ? 0 : below(r, 128)) << 32;
		break;
	case IORING_OP_MSG_RING:
		word[0] = opcode | (uint64_t)flags << 8 | (uint64_t)(uint32_t)h->ring_fd << 32;
		break;
	case IORING_OP_PROVIDE_BUFFERS:
		word[0] = opcode | (uint64_t)flags << 8 | (uint64_t)below(r, 5) << 32;
		word[2] = ARENA_AT + below(r, ARENA);
		word[3] = below(r, 80);
		word[5] = 1;
		break;
	case IORING_OP_REMOVE_BUFFERS:
		word[0] = opcode | (uint64_t)flags << 8 | (uint64_t)below(r, 5) << 32;
		word[5] = 1;
		break;
	case IORING_OP_FILES_UPDATE:
		word[1] = below(r, 4);
		word[2] = ARENA_AT + 4 * below(r, ARENA / 4);
		word[3] = below(r, 4);
		break;
	}
	word[4] = below(r, 4);
	for (i = 0; i < 8; i++)
		scribble_word(&at[i], below(r, 60) ? word[i] : next_random(r));
}

static void scribble_buffer(struct hostile *h, uint32_t entry)
{
	uint64_t *r = &h->random, *at = (uint64_t *)(void *)(h->arena + 16ull * entry);
	uint64_t tail = h->written + below(r, 12);

	scribble_word(&at[0], below(r, 8) ? ARENA_AT + below(r, ARENA) : next_random(r));
	scribble_word(&at[1], (below(r, 8) ? 40 * below(r, 4) : next_random(r) & 0xffffffff) | tail << 48);
}

static void *hostile_thread(void *arg)
{
	struct hostile *h = arg;
	struct uiopf_ring *ring = &h->victim.engine->ring;	/* the kernel's mapping; only the memory is ours */
	uint64_t *r = &h->random;

	while (!LOAD_ACQUIRE(&h->stop)) {
		uint32_t i;

		switch (below(r, 8)) {
		case 0:		/* any word of the header, the CQEs and the array */
			for (i = 0; i < 4; i++) {
				uint32_t *at = uiopf_ring_word(ring, 4 * below(r, ring->sqes_offset / 4));

				WRITE_ONCE(at, below(r, 2) ? (uint32_t)next_random(r) : below(r, 16));
			}
			break;
		case 1:		/* heads and tails that look right */
			WRITE_ONCE(uiopf_ring_word(ring, RING_SQ_TAIL),
				   READ_ONCE(uiopf_ring_word(ring, RING_SQ_HEAD)) + below(r, 20));
			WRITE_ONCE(uiopf_ring_word(ring, RING_CQ_HEAD),
				   READ_ONCE(uiopf_ring_word(ring, RING_CQ_TAIL)) - below(r, 4));
			break;
		case 2:
			scribble_buffer(h, below(r, 8));
			break;
		case 3:		/* what is being read and answered */
			scribble_word((uint64_t *)(void *)(h->arena + 8 * below(r, ARENA / 8)),
				      below(r, 2) ? 1 + below(r, 64) : next_random(r));
			break;
		case 4:
			if (below(r, 64) == 0) {
				uint32_t flags = below(r, 16) | IORING_ENTER_EXT_ARG;

				/* Waiting for room in a queue whose words lie would be waiting for ever. */
				uiopf_enter(h->victim.engine, below(r, 64), below(r, 4),
					    flags & ~(uint32_t)IORING_ENTER_SQ_WAIT, 1000);
			}
			break;
		default:
			scribble_sqe(h, uiopf_sqe_at(ring, below(r, ring->sq_entries)));
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
			CHECK(uiopf_enter(c->engine, 8, 0, IORING_ENTER_GETEVENTS, 0) >= 0);
		}
		n = uiopf_client_reap(c->ring, cqe, 16);
		for (i = 0; i < n; i++, h->passed++) {
			CHECK_EQ(cqe[i].user_data, h->passed);
			CHECK_EQ(cqe[i].res, 0);
		}
	}
	return NULL;
}

/* Registered: a buffer, and a few slots for files of which the first has the queue. */
static void register_resources(struct hostile *h)
{
	const struct iovec { void *base; size_t length; } buffer = { (void *)(uintptr_t)ARENA_AT, ARENA / 2 };
	int32_t fds[4] = { h->fd, -1, -1, -1 };

	CHECK_EQ(uiopf_register(h->victim.engine, IORING_REGISTER_BUFFERS, (void *)(uintptr_t)&buffer, 1), 0);
	CHECK_EQ(uiopf_register(h->victim.engine, IORING_REGISTER_FILES, fds, 4), 0);
}

static void hostility(enum uiopf_driver driver, double seconds, uint64_t seed, bool drains)
{
	struct hostile h = { .random = seed, .drains = drains };
	struct io_uring_buf_reg reg = { .ring_addr = ARENA_AT, .ring_entries = 8 };
	uint32_t flags = driver == UIOPF_SQPOLL ? IORING_SETUP_SQPOLL : 0;
	uint64_t random = seed ^ 1, reported = 0;
	struct uiopf_faultq_counts counts;
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
	h.fd = uiopf_core_install(h.core, uiopf_faultq_file(h.queue));
	open_client(&h.victim, h.core, 16, 32, flags | IORING_SETUP_SUBMIT_ALL);
	open_client(&h.bystander, h.core, 8, 16, flags);
	CHECK_EQ(uiopf_engine_add_window(h.victim.engine, ARENA_AT, ARENA, h.arena), 0);
	CHECK_EQ(uiopf_register(h.victim.engine, IORING_REGISTER_PBUF_RING, &reg, 1), 0);
	register_resources(&h);
	h.ring_fd = uiopf_core_install(h.core, uiopf_engine_file(h.victim.engine));
	CHECK_EQ(uiopf_core_start(h.core, driver, -1, 1000000), 0);
	CHECK_EQ(pthread_create(&hostile, NULL, hostile_thread, &h), 0);
	CHECK_EQ(pthread_create(&bystander, NULL, bystander_thread, &h), 0);
	while (seconds_now() < end) {
		const struct timespec pause = { 0, 100000 };
		struct uiopf_mock_response answers[64];
		uint32_t i;

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
	CHECK(h.passed > 100);		/* not starved, however slow the sanitizer and the machine; nothing lost */
	close_client(&h.victim);	/* with whatever it has under way */
	close_client(&h.bystander);
	CHECK_EQ(uiopf_detach(h.device, UIOPF_NO_PASID), 0);
	uiopf_faultq_counts(h.queue, &counts);
	CHECK_EQ(counts.answered_faults + counts.auto_answered_faults, reported);
	CHECK(counts.delivered_groups);
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
