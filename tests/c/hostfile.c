/*
 * Descriptors of the host under a ring, with a thread on the other end: every byte that goes into a pipe or a socket
 * comes out once and in order, through reads that wait, a multishot receive, time-outs beside them, and whoever turns
 * the engine. Two clients wait at once, so that one finds the other's readiness.
 *
 * Arguments: bytes through each, seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "rings/engine.h"

#define ARENA 0x10000u
#define ARENA_AT 0x7000000000ull
#define BUFFERS 8u
#define LENGTH 64u
#define READ_DATA 1
#define TIME_DATA 2

struct stream {
	struct uiopf_core *core;
	struct uiopf_engine *engine;
	struct uiopf_client_ring *mapped, here, *ring;
	uint8_t *arena;
	uint64_t n, random, client_random, received, timeouts;
	int to, fd;
	bool sqpoll, multishot, armed;
	uint16_t tail;
};

static void *writer_thread(void *arg)
{
	struct stream *s = arg;
	uint64_t sent = 0;

	while (sent < s->n) {
		uint8_t bytes[200];
		uint32_t i, n = 1 + below(&s->random, sizeof bytes);
		ssize_t done;

		for (i = 0; i < n; i++)
			bytes[i] = (uint8_t)((sent + i) * 7);
		done = write(s->to, bytes, sent + n > s->n ? s->n - sent : n);
		CHECK(done > 0);
		sent += (uint64_t)done;
		if (below(&s->random, 4) == 0) {
			const struct timespec pause = { 0, below(&s->random, 60000) };

			nanosleep(&pause, NULL);
		}
	}
	return NULL;
}

static void provide(struct stream *s, uint16_t id)
{
	struct io_uring_buf *ring = (struct io_uring_buf *)(void *)s->arena, *buf = &ring[s->tail++ & (BUFFERS - 1)];

	WRITE_ONCE(&buf->addr, ARENA_AT + 4096 + id * LENGTH);
	WRITE_ONCE(&buf->len, LENGTH);
	WRITE_ONCE(&buf->bid, id);
	STORE_RELEASE(&ring->resv, s->tail);
}

static void push(struct stream *s, const struct io_uring_sqe *sqe)
{
	while (uiopf_client_push(s->ring, sqe) < 0)
		uiopf_enter(s->engine, s->sqpoll ? 0 : 64, 0, IORING_ENTER_SQ_WAKEUP, 0);
	uiopf_client_submit(s->ring);
}

static void arm(struct stream *s)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_READ, .fd = s->fd, .addr = ARENA_AT + 4096, .len = LENGTH,
				    .user_data = READ_DATA };

	if (s->multishot)
		sqe = (struct io_uring_sqe){ .opcode = IORING_OP_RECV, .fd = s->fd, .flags = IOSQE_BUFFER_SELECT,
					     .ioprio = IORING_RECV_MULTISHOT, .user_data = READ_DATA };
	push(s, &sqe);
	s->armed = true;
}

static void arm_timeout(struct stream *s)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_TIMEOUT, .addr = ARENA_AT + 8192, .len = 1, .user_data = TIME_DATA };

	WRITE_ONCE((uint64_t *)(void *)(s->arena + 8192), 0);
	WRITE_ONCE((uint64_t *)(void *)(s->arena + 8200), below(&s->client_random, 100000));
	push(s, &sqe);
}

static void take(struct stream *s, const struct io_uring_cqe *cqe)
{
	const uint8_t *bytes = s->arena + 4096;
	uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	int32_t i;

	if (cqe->user_data == TIME_DATA) {
		CHECK_EQ(cqe->res, -ETIME);
		s->timeouts++;
		arm_timeout(s);
		return;
	}
	if (!(cqe->flags & IORING_CQE_F_MORE))
		s->armed = false;
	if (cqe->res == -ENOBUFS)
		return;
	CHECK(cqe->res > 0);
	if (s->multishot)
		bytes += id * LENGTH;
	for (i = 0; i < cqe->res; i++)
		CHECK_EQ(READ_ONCE(&bytes[i]), (uint8_t)((s->received + (uint64_t)i) * 7));
	s->received += (uint64_t)cqe->res;
	if (s->multishot)
		provide(s, id);
}

static void *client_thread(void *arg)
{
	struct stream *s = arg;
	struct io_uring_cqe cqe[16];
	uint32_t i, n;

	arm_timeout(s);
	while (s->received < s->n) {
		if (!s->armed)
			arm(s);
		if (s->sqpoll && uiopf_client_needs_wakeup(s->ring))
			uiopf_enter(s->engine, 0, 0, IORING_ENTER_SQ_WAKEUP, 0);
		uiopf_enter(s->engine, s->sqpoll ? 0 : s->ring->sq_tail - uiopf_client_load(s->ring, RING_SQ_HEAD), 1,
			    IORING_ENTER_GETEVENTS, 0);
		n = uiopf_client_reap(s->ring, cqe, 16);
		for (i = 0; i < n; i++)
			take(s, &cqe[i]);
	}
	return NULL;
}

/*
 * The client's ring by way of the engine's mapping: that two mappings are one memory the thread sanitizer cannot know, nor
 * that a word of one orders what is read after it in the other.
 */
static void map_here(struct stream *s)
{
	uint8_t *map = s->engine->ring.region.map;
	const struct uiopf_client_ring *mapped = s->mapped;

	s->here = *mapped;
	s->here.map = map;
	s->here.sqes = (struct io_uring_sqe *)(void *)s->engine->ring.sqes;
	s->here.cqes = map + (mapped->cqes - mapped->map);
	s->here.sq_array = (uint32_t *)(void *)(map + ((uint8_t *)mapped->sq_array - mapped->map));
	s->ring = &s->here;
}

static void open_stream(struct stream *s, struct uiopf_core *core, bool multishot, bool sqpoll, uint64_t n, uint64_t random)
{
	struct io_uring_params p = { .flags = sqpoll ? IORING_SETUP_SQPOLL : 0 };
	struct io_uring_buf_reg reg = { .ring_addr = ARENA_AT, .ring_entries = BUFFERS };
	int end[2];
	uint16_t id;

	*s = (struct stream){
		.core = core, .n = n, .random = random, .client_random = ~random, .multishot = multishot, .sqpoll = sqpoll,
	};
	CHECK_EQ(multishot ? socketpair(AF_UNIX, SOCK_STREAM, 0, end) : pipe(end), 0);
	s->to = end[1];
	s->fd = uiopf_core_install_host(core, end[0]);
	CHECK(s->fd >= 0);
	close(end[0]);
	CHECK_EQ(uiopf_setup(core, 8, &p, &s->engine), 0);
	s->mapped = uiopf_client_ring_map(uiopf_engine_fd(s->engine), &p, uiopf_engine_size(s->engine),
					  uiopf_engine_sqes_offset(s->engine));
	s->arena = aligned_alloc(4096, ARENA);
	CHECK(s->mapped && s->arena);
	map_here(s);
	memset(s->arena, 0, ARENA);
	CHECK_EQ(uiopf_engine_add_window(s->engine, ARENA_AT, ARENA, s->arena), 0);
	CHECK_EQ(uiopf_register(s->engine, IORING_REGISTER_PBUF_RING, &reg, 1), 0);
	for (id = 0; multishot && id < BUFFERS; id++)
		provide(s, id);
}

static void close_stream(struct stream *s)
{
	uiopf_core_uninstall(s->core, s->fd, NULL);	/* while a request may hold it */
	uiopf_client_ring_unmap(s->mapped);
	uiopf_engine_free(s->engine);
	close(s->to);
	free(s->arena);
}

static void streams(enum uiopf_driver driver, uint64_t n, uint64_t seed)
{
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	struct stream s[2];
	pthread_t writer[2], client[2];
	int i;

	for (i = 0; i < 2; i++)
		open_stream(&s[i], core, i, driver == UIOPF_SQPOLL, n, seed + (uint64_t)i);
	CHECK_EQ(uiopf_core_start(core, driver, -1, 20000), 0);
	for (i = 0; i < 2; i++) {
		CHECK_EQ(pthread_create(&writer[i], NULL, writer_thread, &s[i]), 0);
		CHECK_EQ(pthread_create(&client[i], NULL, client_thread, &s[i]), 0);
	}
	for (i = 0; i < 2; i++) {
		pthread_join(client[i], NULL);
		pthread_join(writer[i], NULL);
		CHECK_EQ(s[i].received, n);
	}
	CHECK(s[0].timeouts + s[1].timeouts);
	for (i = 0; i < 2; i++)
		close_stream(&s[i]);
	printf("driver %d: %" PRIu64 " bytes each, %" PRIu64 " and %" PRIu64 " time-outs\n", (int)driver, n, s[0].timeouts,
	       s[1].timeouts);
	CHECK_EQ(uiopf_core_free(core), 0);
}

int main(int argc, char **argv)
{
	uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000, seed = seed_from(argc, argv, 2);

	streams(UIOPF_ENTER, n, seed);
	streams(UIOPF_SQPOLL, n, seed + 10);
	return 0;
}
