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
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "allocations.h"
#include "check.h"
#include "faults/faultq.h"
#include "faults/iopf.h"
#include "rings/attachable.h"
#include "rings/completion.h"

/* ---- counting ---- */

static uint64_t steps, allocated;

/* A buffer ring that its client fills again while a request goes through it, from so many steps on. */
#define REFILLED 64u
static struct io_uring_buf *refilled;
static uint64_t refilled_from;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
	uint32_t i;

	steps++;
	for (i = 0; refilled && steps >= refilled_from && i < REFILLED; i++)
		WRITE_ONCE(&refilled[i].len, 1);
	if (refilled)
		CHECK(steps < 100000);
}

static bool may_allocate(uint64_t bytes)
{
	allocated += bytes;
	return true;
}

/* ---- a client of another process ---- */

#define DATA_AT 0x7000000000ull
#define DATA_SIZE 0x400000u
#define HALF (DATA_SIZE / 2)
#define MOST_TURNS 200u
#define SQES 256u
#define A_TURN 32u	/* pieces of task work, reads of a multishot, timers */
#define WAITING 64u	/* groups, each with a fault, whose answers are asked for */

enum { QUEUE, PIPE_OUT, PIPE_IN, ENDLESS, FILES };

struct client {
	struct uiopf_core *core;
	struct uiopf_mock *mock;
	struct uiopf_faultq *queue;
	struct uiopf_device *device;
	struct uiopf_engine *engine;
	struct uiopf_file endless;
	int pipe[2], fd[FILES];
	uint64_t steps, allocated;	/* of the last turns: of the longest, and in all */
	uint32_t turns, posted, calls;	/* completions, and calls of `endless`, in one turn */
};

/* A file that always has one byte more, and room for one: the other side never stops. */
static uint32_t calls;

static int64_t one_byte(struct uiopf_file *file, uint8_t *to, uint64_t length, int64_t position)
{
	(void)file;
	(void)position;
	calls++;
	if (length)
		uiopf_copy_to_client(to, "x", 1);
	return length != 0;
}

static int64_t one_byte_received(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int *flags)
{
	(void)count;
	*flags = 0;
	return one_byte(file, piece->iov_base, piece->iov_len, 0);
}

static int64_t one_byte_sent(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int flags,
			     const void *address, uint32_t address_length)
{
	(void)file;
	(void)count;
	(void)flags;
	(void)address;
	(void)address_length;
	calls++;
	return piece->iov_len != 0;
}

static uint32_t always(struct uiopf_file *file)
{
	(void)file;
	return POLLIN | POLLOUT;
}

static const struct uiopf_file_ops endless_ops = {
	.read = one_byte,
	.poll = always,
	.arm = uiopf_file_arm,
	.cancel = uiopf_file_cancel,
	.receive = one_byte_received,
	.send = one_byte_sent,
};

static void open_client(struct client *c)
{
	const struct uiopf_attachable config = { .groups = 1, .group_entries = 4096, .data_size = DATA_SIZE };
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
	c->endless.ops = &endless_ops;
	c->endless.mode = UIOPF_FILE_READ | UIOPF_FILE_WRITE | UIOPF_FILE_POLL | UIOPF_FILE_ITER | UIOPF_FILE_HINTS;
	c->fd[ENDLESS] = uiopf_core_install(c->core, &c->endless);
	CHECK_EQ(uiopf_setup_attachable(c->core, SQES, &p, &config, &c->engine), 0);
	CHECK_EQ(uiopf_register(c->engine, IORING_REGISTER_FILES, c->fd, FILES), 0);
	CHECK_EQ(uiopf_engine_attach(c->engine, DATA_AT, 1), 0);
	for (i = 0; i < WAITING; i++)
		CHECK_EQ(uiopf_device_report(c->device, 1 | 2, 5, i, 1, i << 12), 0);
}

static void close_client(struct client *c)
{
	uint32_t i;

	for (i = 0; i < FILES; i++)
		uiopf_core_uninstall(c->core, c->fd[i], NULL);
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

	c->steps = allocated = c->posted = c->calls = 0;
	do {
		const uint32_t tail = c->engine->ring.cq_tail;

		steps = calls = 0;
		if (!uiopf_consume(c->core))
			break;
		if (steps > c->steps)
			c->steps = steps;
		if (calls > c->calls)
			c->calls = calls;
		if (c->engine->ring.cq_tail - tail > c->posted)
			c->posted = c->engine->ring.cq_tail - tail;
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
		if (n % SQES == 1)
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

/* ---- a whole turn ---- */

static void reap(struct client *c)
{
	STORE_RELEASE(uiopf_ring_word(&c->engine->ring, RING_CQ_HEAD), c->engine->ring.cq_tail);
}

static uint64_t *time_at(struct client *c)
{
	return (uint64_t *)(void *)c->engine->data.map;
}

/* As many SQEs as there is room for, each of which looks at all that is under way. */
static void searches(void)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_POLL_ADD, .flags = IOSQE_FIXED_FILE, .fd = PIPE_OUT, .poll32_events = 1 };
	const uint8_t opcode[] = { IORING_OP_ASYNC_CANCEL, IORING_OP_POLL_REMOVE, IORING_OP_TIMEOUT_REMOVE };
	struct client c;
	uint32_t i;

	open_client(&c);
	push_all(&c, &sqe, 3000);
	sqe = (struct io_uring_sqe){ .opcode = IORING_OP_TIMEOUT, .addr = DATA_AT, .len = 1 };
	time_at(&c)[0] = 3600;
	push_all(&c, &sqe, 1000);
	CHECK_EQ(c.engine->alive, 4000);
	for (i = 0; i < 3; i++) {
		sqe = (struct io_uring_sqe){ .opcode = opcode[i], .addr = 99 };
		push_all(&c, &sqe, SQES);
		reap(&c);
		within(&c, "256 SQEs, each of which looks for another request", 24 * 4000 * 30, 0);
		CHECK_EQ(c.posted, 24);
	}
	close_client(&c);
}

/* All that waits for one file is called at once, and goes on in turns. */
static void one_wake(void)
{
	const struct io_uring_sqe poll = { .opcode = IORING_OP_POLL_ADD, .flags = IOSQE_FIXED_FILE, .fd = PIPE_OUT, .poll32_events = 1 };
	struct client c;

	open_client(&c);
	push_all(&c, &poll, 4000);
	CHECK_EQ(write(c.pipe[1], "x", 1), 1);
	turn(&c);
	within(&c, "4,000 polls that one wake calls", 4000 * 30, 0);
	CHECK_EQ(c.posted, A_TURN);
	CHECK_EQ(c.engine->alive, 0);
	close_client(&c);
}

/* All at one time: TIMEOUTs, and LINK_TIMEOUTs, each of which looks for the request that it is to stop. */
static void times(void)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_TIMEOUT, .addr = DATA_AT, .len = 1 };
	struct client c;
	uint32_t i;

	open_client(&c);
	time_at(&c)[0] = 1;
	push_all(&c, &sqe, 4000);
	uiopf_core_tick(c.core, 2000000000);
	turn(&c);
	CHECK_EQ(c.posted, A_TURN);
	within(&c, "4,000 time-outs that fire together", 32 * 600, 0);
	CHECK_EQ(c.engine->alive, 0);
	reap(&c);
	for (i = 0; i < 2000; i++) {
		sqe = (struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .flags = IOSQE_FIXED_FILE | IOSQE_IO_LINK, .fd = PIPE_OUT,
					     .poll32_events = 1, .user_data = i };
		push(&c, &sqe);
		sqe = (struct io_uring_sqe){ .opcode = IORING_OP_LINK_TIMEOUT, .addr = DATA_AT, .len = 1, .user_data = 5000 };
		push(&c, &sqe);
		if (i % 12 == 11)
			turn(&c);
	}
	turn(&c);
	reap(&c);
	CHECK_EQ(c.engine->alive, 4000);
	uiopf_core_tick(c.core, 5000000000);
	turn(&c);
	within(&c, "2,000 link time-outs that fire together", 32 * 4000 * 30, 0);
	CHECK(c.posted <= 2 * A_TURN);
	close_client(&c);
}

/* ---- who is fed ---- */

static void fed(void)
{
	const struct {
		struct io_uring_sqe sqe;
		const char *what;
		uint32_t calls;
	} kind[] = {
		{ { .opcode = IORING_OP_READ_MULTISHOT, .flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT, .fd = ENDLESS },
		  "READ_MULTISHOT of a file that never ends", A_TURN },
		{ { .opcode = IORING_OP_RECV, .flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT, .fd = ENDLESS,
		    .ioprio = IORING_RECV_MULTISHOT }, "multishot RECV of a socket that never ends", A_TURN },
		{ { .opcode = IORING_OP_RECV, .flags = IOSQE_FIXED_FILE, .fd = ENDLESS, .addr = DATA_AT, .len = DATA_SIZE,
		    .msg_flags = MSG_WAITALL }, "RECV of 4 MiB in bytes, MSG_WAITALL", 1 },
		{ { .opcode = IORING_OP_SEND, .flags = IOSQE_FIXED_FILE, .fd = ENDLESS, .addr = DATA_AT, .len = DATA_SIZE,
		    .msg_flags = MSG_WAITALL }, "SEND of 4 MiB in bytes, MSG_WAITALL", 1 },
	};
	uint32_t k, i;

	for (k = 0; k < sizeof kind / sizeof kind[0]; k++) {
		struct io_uring_buf *ring;
		struct client c;

		open_client(&c);
		ring = (struct io_uring_buf *)(void *)(c.engine->ring.region.map + IORING_OFF_PBUF_RING);
		for (i = 0; i < 4096; i++) {
			ring[i].addr = DATA_AT + i;
			ring[i].len = 1;
			ring[i].bid = (uint16_t)i;
		}
		STORE_RELEASE(&ring[0].resv, 4096);
		push(&c, &kind[k].sqe);
		turn(&c);
		within(&c, kind[k].what, 6000, UINT64_MAX);
		CHECK(c.calls && c.calls <= kind[k].calls);
		CHECK_EQ(c.turns, kind[k].calls == 1 ? MOST_TURNS : c.turns);
		close_client(&c);
	}
}

/*
 * A client's own call does all of its task work, as on Linux; one that never ends lets go of the kernel's side now and then.
 * A wait comes back to it by itself, a call that does not wait is made again.
 */
static void own_calls(void)
{
	const struct io_uring_sqe sqe = { .opcode = IORING_OP_SEND, .addr = DATA_AT, .len = 500000, .msg_flags = MSG_WAITALL };
	struct io_uring_params p = { .flags = 0 };
	struct client c, own;
	uint32_t way, n;
	uint8_t *memory;

	open_client(&c);
	own = c;
	memory = calloc(1, sqe.len);
	CHECK(memory);
	CHECK_EQ(uiopf_setup(c.core, SQES, &p, &own.engine), 0);
	CHECK_EQ(uiopf_engine_add_window(own.engine, DATA_AT, sqe.len, memory), 0);
	for (way = 0; way < 2; way++) {
		struct io_uring_sqe send = sqe;

		send.fd = c.fd[ENDLESS];
		push(&own, &send);
		own.engine->ring.sq_array[way] = way;
		calls = 0;
		CHECK_EQ(uiopf_enter(own.engine, 1, way, way ? IORING_ENTER_GETEVENTS : 0, 0), 1);
		for (n = 1; !way && calls < sqe.len; n++) {
			CHECK(calls <= n * ((1u << 17) + 1));
			CHECK_EQ(uiopf_enter(own.engine, 0, 0, 0, 0), 0);
		}
		CHECK_EQ(calls, sqe.len);
		CHECK_EQ(result(&own), sqe.len);
	}
	uiopf_engine_free(own.engine);
	free(memory);
	close_client(&c);
}

/* ---- what is kept ---- */

/* A ring of this process, with a thread, whose SQEs are pushed as the client's are. */
static struct uiopf_engine *open_other(struct client *c, struct client *other)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQPOLL | IORING_SETUP_CQSIZE, .cq_entries = 16384 };
	uint32_t i;

	*other = *c;
	CHECK_EQ(uiopf_setup(c->core, SQES, &p, &other->engine), 0);
	for (i = 0; i < SQES; i++)
		other->engine->ring.sq_array[i] = i;
	return other->engine;
}

#define ONE_CLASSIC 64u

static void buffers(void)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_PROVIDE_BUFFERS, .fd = 65536, .addr = DATA_AT, .len = 1, .buf_group = 1 };
	struct client c, other;
	uint32_t i;

	open_client(&c);
	open_other(&c, &other);
	push(&c, &sqe);
	turn(&c);
	CHECK_EQ(result(&c), -EACCES);	/* nobody could charge the client for them */
	for (i = 0; i < 16; i++) {
		push(&other, &sqe);
		turn(&other);
		CHECK_EQ(result(&other), 0);
		CHECK(other.steps <= 65536 * 20 && other.allocated <= 65536 * ONE_CLASSIC);
	}
	within(&other, "PROVIDE_BUFFERS of 65,536", 65536 * 20, 65536 * ONE_CLASSIC);
	push(&other, &sqe);
	turn(&other);
	CHECK_EQ(result(&other), -ENOMEM);
	within(&other, "PROVIDE_BUFFERS, where there is room for no more", 1000, 0);
	sqe = (struct io_uring_sqe){ .opcode = IORING_OP_REMOVE_BUFFERS, .fd = 65536, .buf_group = 1 };
	push(&other, &sqe);
	turn(&other);
	CHECK_EQ(result(&other), 65536);
	within(&other, "REMOVE_BUFFERS of 65,536", 65536 * 20, 0);
	uiopf_engine_free(other.engine);
	close_client(&c);
}

/* A SEND has selected 4 GiB, and its client writes the lengths again: once round the ring, and no more. */
static void lengths(void)
{
	const struct io_uring_sqe send = {
		.opcode = IORING_OP_SEND, .flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT, .fd = ENDLESS,
	};
	struct io_uring_buf_reg reg = { .ring_addr = DATA_AT, .ring_entries = REFILLED, .flags = IOU_PBUF_RING_INC };
	struct io_uring_buf_status status = { 0 };
	struct client c, other;
	uint32_t head, most = 0, i;
	uint8_t *memory;
	uint64_t from;

	open_client(&c);
	open_other(&c, &other);
	memory = aligned_alloc(4096, 8192);
	CHECK(memory != NULL);
	memset(memory, 0, 8192);
	CHECK_EQ(uiopf_engine_add_window(other.engine, DATA_AT, 8192, memory), 0);
	CHECK_EQ(uiopf_register(other.engine, IORING_REGISTER_FILES, c.fd, FILES), 0);
	steps = 0;
	refilled = (struct io_uring_buf *)(void *)memory;
	for (i = 0; i < REFILLED; i++)
		refilled[i] = (struct io_uring_buf){ .addr = DATA_AT + 4096, .bid = (uint16_t)i };
	CHECK_EQ(uiopf_register(other.engine, IORING_REGISTER_PBUF_RING, &reg, 1), 0);
	for (from = 1; from < 1000; from++) {
		steps = 0;
		CHECK_EQ(uiopf_register(other.engine, IORING_REGISTER_PBUF_STATUS, &status, 1), 0);
		head = status.head;
		for (i = 0; i < REFILLED; i++)
			refilled[i].len = UINT32_MAX;
		refilled[0].resv = (uint16_t)(head + REFILLED);
		refilled_from = from;
		steps = 0;
		push(&other, &send);
		turn(&other);
		CHECK_EQ(uiopf_register(other.engine, IORING_REGISTER_PBUF_STATUS, &status, 1), 0);
		if ((uint16_t)(status.head - head) > most)
			most = (uint16_t)(status.head - head);
		result(&other);
	}
	refilled = NULL;
	printf("%u entries of a ring of %u in one request\n", most, REFILLED);
	CHECK(most <= REFILLED);
	uiopf_engine_free(other.engine);
	free(memory);
	close_client(&c);
}

/* Another ring of the same core sends more than its client will ever take: what is kept has the same limit. */
static void messages(void)
{
	struct client c, sender;
	uint32_t i, refused = 0;
	int fd;

	open_client(&c);
	open_other(&c, &sender);
	fd = uiopf_core_install(c.core, uiopf_engine_file(c.engine));
	for (i = 0; i < 10000; i++) {
		push(&sender, &(struct io_uring_sqe){ .opcode = IORING_OP_MSG_RING, .fd = fd });
		turn(&sender);
		refused += result(&sender) == -EOVERFLOW;
	}
	printf("%u of 10,000 messages refused, %u kept\n", refused, c.engine->backlog_count);
	CHECK_EQ(c.engine->backlog_count, UIOPF_ATTACHED_MOST);
	CHECK_EQ(refused, 10000 - 4096 - UIOPF_ATTACHED_MOST);
	CHECK_EQ(*uiopf_ring_word(&c.engine->ring, RING_CQ_OVERFLOW), refused);
	uiopf_core_uninstall(c.core, fd, NULL);
	uiopf_engine_free(sender.engine);
	close_client(&c);
}

int main(void)
{
	vectors();
	cancels();
	searches();
	one_wake();
	times();
	fed();
	own_calls();
	buffers();
	lengths();
	messages();
	return 0;
}
