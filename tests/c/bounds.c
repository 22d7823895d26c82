/*
 * What one request can cost, counted: bytes that are allocated, and steps, which are the edges of the library's code that
 * are run through (gcc's trace-pc). Neither depends on the machine or on who else uses it. Each case is the worst that a
 * client can ask for with a kind of request; its limit is the one that docs/explanation/memory-and-trust.md has.
 *
 * All on one thread, with a clock that stands still: a turn is what an SQPOLL worker does before others have theirs. Under
 * the address sanitizer no steps are counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "check.h"
#include "faults/faultq.h"
#include "faults/iopf.h"
#include "rings/attachable.h"
#include "rings/completion.h"

/* ---- counting ---- */

static uint64_t steps, allocated;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
	steps++;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
	allocated += size;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	allocated += n * size;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	allocated += size;
	return __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	allocated += n * size;
	return __real_reallocarray(p, n, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	allocated += size;
	return __real_aligned_alloc(alignment, size);
}

/* ---- a client of another process ---- */

#define DATA_AT 0x7000000000ull
#define DATA_SIZE 0x400000u
#define HALF (DATA_SIZE / 2)
#define MOST_TURNS 100u
#define WAITING 64u	/* groups, each with a fault, whose answers are asked for */

enum { QUEUE, PIPE_OUT, PIPE_IN, FILES };

struct client {
	struct uiopf_core *core;
	struct uiopf_mock *mock;
	struct uiopf_faultq *queue;
	struct uiopf_device *device;
	struct uiopf_engine *engine;
	int pipe[2], fd[FILES];
	uint64_t steps, allocated;	/* of the last turns */
	uint32_t turns;
};

static void open_client(struct client *c)
{
	const struct uiopf_attachable config = { .data_size = DATA_SIZE };
	struct io_uring_params p = { .flags = IORING_SETUP_CQSIZE, .cq_entries = 4096 };
	uint32_t i;

	*c = (struct client){ .core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 1) };
	c->mock = uiopf_mock_new(c->core);
	c->queue = uiopf_faultq_new(c->core, UIOPF_PROPOSED);
	c->device = uiopf_device_new(c->core, uiopf_mock_iommu(c->mock), 7, 0, WAITING, 1);
	CHECK_EQ(uiopf_attach(c->device, UIOPF_NO_PASID, c->queue, UIOPF_USER_MANAGED), 0);
	CHECK_EQ(pipe2(c->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	c->fd[QUEUE] = uiopf_core_install(c->core, uiopf_faultq_file(c->queue));
	c->fd[PIPE_OUT] = uiopf_core_install_host(c->core, c->pipe[0]);
	c->fd[PIPE_IN] = uiopf_core_install_host(c->core, c->pipe[1]);
	CHECK_EQ(uiopf_setup_attachable(c->core, 8, &p, &config, &c->engine), 0);
	CHECK_EQ(uiopf_register(c->engine, IORING_REGISTER_FILES, c->fd, FILES), 0);
	CHECK_EQ(uiopf_engine_attach(c->engine, DATA_AT, 1), 0);
	for (i = 0; i < WAITING; i++)
		CHECK_EQ(uiopf_device_report(c->device, 1 | 2, 5, i, 1, i << 12), 0);
}

static void close_client(struct client *c)
{
	uint32_t i;

	for (i = 0; i < FILES; i++)
		uiopf_core_uninstall(c->core, c->fd[i]);
	uiopf_engine_free(c->engine);
	uiopf_detach(c->device, UIOPF_NO_PASID);
	CHECK_EQ(uiopf_faultq_free(c->queue), 0);
	uiopf_device_free(c->device);
	uiopf_mock_free(c->mock);
	CHECK_EQ(uiopf_core_free(c->core), 0);
	close(c->pipe[0]);
	close(c->pipe[1]);
}

static void push(struct client *c, const struct io_uring_sqe *sqe)
{
	struct uiopf_ring *ring = &c->engine->ring;
	uint32_t *tail = uiopf_ring_word(ring, RING_SQ_TAIL);

	memcpy(uiopf_sqe_at(ring, *tail), sqe, sizeof *sqe);
	STORE_RELEASE(tail, *tail + 1);
}

/* Turns of the worker while there is something to do: the most steps of one, and what they allocated in all. */
static void turn(struct client *c)
{
	uint32_t turns = 0;

	c->steps = allocated = 0;
	do {
		steps = 0;
		if (!uiopf_consume(c->core))
			break;
		if (steps > c->steps)
			c->steps = steps;
	} while (++turns < MOST_TURNS);
	c->allocated = allocated;
	c->turns = turns;
}

/* The next completion, of which there is one: its result. */
static int32_t result(struct client *c)
{
	uint32_t *head = uiopf_ring_word(&c->engine->ring, RING_CQ_HEAD);

	CHECK(*head != LOAD_ACQUIRE(uiopf_ring_word(&c->engine->ring, RING_CQ_TAIL)));
	return (int32_t)uiopf_cqe_at(&c->engine->ring, (*head)++)[1];
}

static void within(const struct client *c, const char *what, uint64_t most_steps, uint64_t most_allocated)
{
	printf("%-48s %8" PRIu64 " steps, %8" PRIu64 " bytes\n", what, c->steps, c->allocated);
	fflush(stdout);
	CHECK(c->steps <= most_steps);
	CHECK(c->allocated <= most_allocated);
}

/* ---- vectors ---- */

#define VECTOR (1024 * sizeof(struct iovec) + 64)	/* its copy */

/* As many segments as can be, all of them the same half of the client's memory: 2 GiB. */
static void largest_vector(struct client *c, uint8_t opcode, int file)
{
	const struct io_uring_sqe sqe = {
		.opcode = opcode, .flags = IOSQE_FIXED_FILE, .fd = file, .addr = DATA_AT + HALF, .len = 1024,
	};
	struct iovec *v = (struct iovec *)(void *)(c->engine->data.map + HALF);
	uint32_t i;

	for (i = 0; i < 1024; i++)
		v[i] = (struct iovec){ (void *)(uintptr_t)DATA_AT, HALF };
	push(c, &sqe);
	turn(c);
}

static void vectors(void)
{
	struct client c;

	open_client(&c);
	turn(&c);	/* the pool of requests is made with the first */
	push(&c, &(struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .flags = IOSQE_FIXED_FILE, .fd = PIPE_OUT, .poll32_events = 1 });
	turn(&c);
	largest_vector(&c, IORING_OP_READV, QUEUE);
	CHECK_EQ(result(&c), -ESPIPE);	/* no whole number of messages */
	within(&c, "READV of 2 GiB from a fault queue", 60000, VECTOR);
	largest_vector(&c, IORING_OP_WRITEV, QUEUE);
	CHECK_EQ(result(&c), -EINVAL);	/* no answer to any group */
	within(&c, "WRITEV of 2 GiB to a fault queue", 60000, VECTOR);
	largest_vector(&c, IORING_OP_WRITEV, PIPE_IN);
	CHECK_EQ(result(&c), 65536);
	within(&c, "WRITEV of 2 GiB to a pipe", 60000, VECTOR);
	largest_vector(&c, IORING_OP_READV, PIPE_OUT);
	CHECK_EQ(result(&c), 1);	/* the poll's */
	CHECK_EQ(result(&c), 65536);
	within(&c, "READV of 2 GiB from a pipe", 60000, VECTOR);
	close_client(&c);
}

/* ---- cancelling ---- */

#define EACH 2048u	/* time-outs that match, behind as many that do not */

static void push_all(struct client *c, const struct io_uring_sqe *sqe, uint32_t n)
{
	for (; n; n--) {
		push(c, sqe);
		if (n % 8 == 1)
			turn(c);
	}
}

/* One pass of what is under way, not one for each that matches. */
static void cancels(void)
{
	const struct { uint64_t user_data; uint8_t opcode; const char *what; } kind[] = {
		{ 2, IORING_OP_TIMEOUT, "ASYNC_CANCEL of 2,048 time-outs of 4,095" },
		{ 3, IORING_OP_POLL_ADD, "ASYNC_CANCEL of 2,048 polls of 4,095" },
	};
	uint32_t k, i;

	for (k = 0; k < 2; k++) {
		struct io_uring_sqe sqe = { .opcode = kind[k].opcode, .addr = DATA_AT, .user_data = 1 };
		struct client c;

		open_client(&c);
		((struct __kernel_timespec *)(void *)c.engine->data.map)->tv_sec = 3600;
		if (sqe.opcode == IORING_OP_TIMEOUT)
			sqe.len = 1;
		else
			sqe = (struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .flags = IOSQE_FIXED_FILE, .fd = PIPE_OUT,
						     .poll32_events = 1, .user_data = 1 };
		push_all(&c, &sqe, EACH - 1);
		sqe.user_data = kind[k].user_data;
		push_all(&c, &sqe, EACH);
		CHECK_EQ(c.engine->alive, 2 * EACH - 1);
		push(&c, &(struct io_uring_sqe){ .opcode = IORING_OP_ASYNC_CANCEL, .addr = kind[k].user_data, .cancel_flags = IORING_ASYNC_CANCEL_ALL });
		turn(&c);
		CHECK_EQ(result(&c), EACH);
		for (i = 0; i < EACH; i++)
			CHECK_EQ(result(&c), -ECANCELED);
		within(&c, kind[k].what, EACH * 200, 0);
		close_client(&c);
	}
}

int main(void)
{
	vectors();
	cancels();
	return 0;
}
