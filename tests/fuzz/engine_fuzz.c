/*
 * A fuzz target for the ring engine: bytes are a program of a hostile client's steps, on one thread and a clock that
 * stands still, so that the same bytes always do the same. Two rings of one core, a fault queue with a device behind
 * it, and (if the program says so) a pipe, a socket and an eventfd of the host.
 *
 * What must hold, besides what the sanitizers see: results are errnos that Linux could give, nothing of the engine's is
 * outside its mappings (there are guard pages around the ring, and the client's memory is a block of the heap), what is
 * closed gives back every descriptor and all memory, and a queue and a core that nobody uses any more can be freed.
 *
 * With libFuzzer: clang -fsanitize=fuzzer,address,undefined -DUIOPF_LIBFUZZER. Without: a main() that runs each file, and
 * the files in each directory, that it is given.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../c/check.h"
#include "../c/errnos.h"
#include "../c/guard.h"
#include "rings/engine.h"

#define ARENA 0x4000u
#define ARENA_AT 0x7000000000ull
#define RINGS 2
#define STEPS 400
#define ARGUMENT 8192u

/* ---- the program ---- */

struct program {
	const uint8_t *at, *end;
};

static uint64_t take(struct program *p, uint32_t bytes)
{
	uint64_t value = 0;
	uint32_t i;

	for (i = 0; i < bytes && p->at < p->end; i++)
		value |= (uint64_t)*p->at++ << 8 * i;
	return value;
}

/* A word of a struct: small numbers, the client's memory and extremes are more useful than noise. */
static uint64_t take_word(struct program *p)
{
	uint32_t kind = (uint32_t)take(p, 1);

	switch (kind & 7) {
	case 0:
		return 0;
	case 1:
	case 2:
		return kind >> 3;
	case 3:
		return ARENA_AT + (take(p, 2) & ~7u) % (ARENA + 64);
	case 4:
		return ARENA_AT + take(p, 2) % (ARENA + 64);
	case 5:
		return UINT64_MAX - (kind >> 3);
	case 6:
		return take(p, 4);
	default:
		return take(p, 8);
	}
}

/* ---- the world ---- */

struct world {
	struct uiopf_core *core;
	struct uiopf_mock *mock;
	struct uiopf_device *device;
	struct uiopf_faultq *queue;
	struct uiopf_engine *ring[RINGS];
	int ring_fd[RINGS];
	bool attached, host, scribbled;
	uint8_t *arena;
	int fd[6];			/* the core's: the queue, a pipe's ends, a socket, an eventfd */
	int pipe[2], socket[2], eventfd;
	uint64_t now;
	uint32_t reported;
};

static int fd_of(const struct world *w, uint32_t which)
{
	if (which < 6)
		return w->fd[which];
	if (which < 8)
		return w->ring_fd[which - 6];
	return (int)(which & 63) - 10;	/* nothing, and slots */
}

static const uint16_t kernels[] = { 0x60c, 0x60d, 0x60f, 0x610, 0x611, 0x612, 0x613, 0x700, 0x702 };

static void open_ring(struct world *w, struct program *p, uint32_t which)
{
	struct io_uring_params params = { .flags = (uint32_t)take(p, 3) };
	const uint32_t sizes = (uint32_t)take(p, 1);

	/* Noise is refused nearly always: first flags that go together, then anything. */
	if (!(params.flags >> 23))
		params.flags &= IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQE32 | IORING_SETUP_SQE128 | IORING_SETUP_NO_SQARRAY |
				IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SQPOLL |
				IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_IOPOLL |
				IORING_SETUP_CQE_MIXED | IORING_SETUP_SQE_MIXED | IORING_SETUP_CQSIZE;
	params.cq_entries = 1u << (sizes >> 4 & 7);
	if (uiopf_setup(w->core, 1u << (sizes & 7), &params, &w->ring[which]) < 0) {
		w->ring[which] = NULL;
		return;
	}
	guard_ring(w->ring[which]);
	CHECK_EQ(uiopf_engine_add_window(w->ring[which], ARENA_AT, ARENA, w->arena), 0);
	w->ring_fd[which] = uiopf_core_install(w->core, uiopf_engine_file(w->ring[which]));
	CHECK(w->ring_fd[which] >= 3);
}

/* Requests carry their opcode; what a NOP was told to say and what a message carries may be anything. */
static void check_cqe(uint64_t user_data, int32_t res)
{
	const uint32_t opcode = user_data >> 56;

	if (res >= 0 || opcode == IORING_OP_NOP || opcode == IORING_OP_MSG_RING || opcode == IORING_OP_NOP128 ||
	    !(user_data >> 55 & 1))
		return;
	if (!known_errno(-res)) {
		fprintf(stderr, "opcode %u ends with %d\n", opcode, res);
		abort();
	}
}

static void reap(struct world *w, uint32_t which, uint32_t most)
{
	const struct uiopf_ring *ring = &w->ring[which]->ring;
	uint32_t *head = uiopf_ring_word(ring, RING_CQ_HEAD), tail = LOAD_ACQUIRE(uiopf_ring_word(ring, RING_CQ_TAIL));

	while (most-- && *head != tail) {
		const uint64_t *cqe = uiopf_cqe_at(ring, *head);

		if (!w->scribbled)
			check_cqe(cqe[0], (int32_t)cqe[1]);
		*head += 1;
	}
}

/* ---- steps ---- */

static void append(struct world *w, struct program *p, uint32_t which, const struct io_uring_sqe *sqe, bool spoil)
{
	const struct uiopf_ring *ring = &w->ring[which]->ring;
	const uint32_t tail = *uiopf_ring_word(ring, RING_SQ_TAIL);
	uint64_t words[16] = { 0 };
	uint32_t i;

	memcpy(words, sqe, sizeof *sqe);
	if (spoil)
		words[take(p, 1) & 7] = take_word(p);
	for (i = 0; i < ring->sqe_words; i++)
		uiopf_sqe_at(ring, tail)[i] = words[i];
	if (ring->sq_array)
		ring->sq_array[tail & ring->sq_mask] = tail & ring->sq_mask;
	*uiopf_ring_word(ring, RING_SQ_TAIL) = tail + 1;
}

/* A request that passes the checks of its operation, or nearly: which, to what, and two bytes that say how. */
static void push_valid(struct world *w, struct program *p, uint32_t which)
{
	static const uint8_t opcodes[] = {
		IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED,
		IORING_OP_READ_MULTISHOT, IORING_OP_RECV, IORING_OP_SEND, IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE,
		IORING_OP_TIMEOUT, IORING_OP_TIMEOUT_REMOVE, IORING_OP_LINK_TIMEOUT, IORING_OP_ASYNC_CANCEL, IORING_OP_MSG_RING,
		IORING_OP_FILES_UPDATE, IORING_OP_CLOSE, IORING_OP_URING_CMD, IORING_OP_NOP,
	};
	static const uint8_t flags[] = {
		0, 0, IOSQE_IO_LINK, IOSQE_IO_HARDLINK, IOSQE_ASYNC, IOSQE_IO_DRAIN, IOSQE_CQE_SKIP_SUCCESS, IOSQE_FIXED_FILE,
	};
	const uint32_t first = (uint32_t)take(p, 1), to = (uint32_t)take(p, 1), how = (uint32_t)take(p, 1),
		       more = (uint32_t)take(p, 1);
	struct io_uring_sqe sqe;

	memset(&sqe, 0, sizeof sqe);
	sqe.opcode = opcodes[first % sizeof opcodes];
	sqe.flags = flags[to >> 3 & 7];
	sqe.fd = sqe.flags & IOSQE_FIXED_FILE ? (int32_t)(to & 7) : fd_of(w, to & 7);
	sqe.user_data = (uint64_t)sqe.opcode << 56 | 1ull << 55 | (more & 3);
	switch (sqe.opcode) {
	case IORING_OP_RECV:
		sqe.ioprio = (uint16_t)(how & 3 ? 0 : IORING_RECV_MULTISHOT);
		sqe.ioprio |= how & 4 ? IORING_RECVSEND_POLL_FIRST : 0;
		sqe.msg_flags = how & 8 ? 0x100 : 0;	/* MSG_WAITALL */
		/* fall through */
	case IORING_OP_READ:
	case IORING_OP_READV:
	case IORING_OP_SEND:
	case IORING_OP_WRITE:
	case IORING_OP_WRITEV:
	case IORING_OP_READ_FIXED:
	case IORING_OP_WRITE_FIXED:
		sqe.addr = ARENA_AT + 8ull * more;
		sqe.len = sqe.opcode == IORING_OP_READV || sqe.opcode == IORING_OP_WRITEV ? how >> 5 : how & 0xf8;
		if (to & 64 || sqe.ioprio & IORING_RECV_MULTISHOT) {
			sqe.flags |= IOSQE_BUFFER_SELECT;
			sqe.buf_group = (uint16_t)(more & 3);
			if (sqe.opcode != IORING_OP_READV)
				sqe.addr = 0;
			if (sqe.ioprio & IORING_RECV_MULTISHOT)
				sqe.len = 0;
		}
		break;
	case IORING_OP_READ_MULTISHOT:
		sqe.flags |= IOSQE_BUFFER_SELECT;
		sqe.off = UINT64_MAX;
		sqe.buf_group = (uint16_t)(more & 3);
		break;
	case IORING_OP_POLL_ADD:
		sqe.len = how & 1;
		sqe.poll32_events = how & 6 ? 1 : 4;	/* POLLIN, POLLOUT */
		break;
	case IORING_OP_POLL_REMOVE:
		sqe.addr = (uint64_t)IORING_OP_POLL_ADD << 56 | 1ull << 55 | (more & 3);
		sqe.len = how & 7;
		sqe.poll32_events = how & 2 ? how >> 4 : 0;
		sqe.off = how & 4 ? (sqe.addr ^ 1) : 0;
		break;
	case IORING_OP_TIMEOUT:
	case IORING_OP_LINK_TIMEOUT:
		sqe.addr = ARENA_AT + 0x3000 + 16 * (how & 7);
		sqe.len = 1;
		sqe.timeout_flags = how & 128 ? 1u << (how >> 4 & 7) : 0;
		sqe.off = sqe.opcode == IORING_OP_TIMEOUT ? more >> 2 & 7 : 0;
		break;
	case IORING_OP_TIMEOUT_REMOVE:
		sqe.addr = (uint64_t)(how & 1 ? IORING_OP_TIMEOUT : IORING_OP_LINK_TIMEOUT) << 56 | 1ull << 55 | (more & 3);
		sqe.timeout_flags = how & 2 ? IORING_TIMEOUT_UPDATE | (how & 1 ? 0 : IORING_LINK_TIMEOUT_UPDATE) : 0;
		sqe.off = ARENA_AT + 0x3000 + 16 * (how >> 2 & 7);
		if (!sqe.timeout_flags)
			sqe.off = 0;
		break;
	case IORING_OP_ASYNC_CANCEL:
		sqe.addr = (uint64_t)opcodes[how >> 3 & 15] << 56 | 1ull << 55 | (more & 3);
		sqe.cancel_flags = more >> 2;
		sqe.len = opcodes[how >> 3 & 15];
		break;
	case IORING_OP_MSG_RING:
		sqe.fd = w->ring_fd[how & 1];
		sqe.addr = how >> 1 & 1;
		sqe.addr3 = sqe.addr ? how >> 2 & 3 : 0;
		sqe.len = sqe.addr ? 0 : more;
		sqe.off = more;
		sqe.file_index = sqe.addr ? how >> 4 : 0;
		sqe.msg_ring_flags = how == 255 ? 1 : 0;
		break;
	case IORING_OP_FILES_UPDATE:
		sqe.off = how & 1 ? UINT32_MAX : how >> 4;
		sqe.addr = ARENA_AT + 0x2000 + 4 * (more & 15);
		sqe.len = 1 + (how >> 1 & 3);
		break;
	case IORING_OP_CLOSE:
		sqe.file_index = how & 3 ? more & 15 : 0;
		if (sqe.file_index)
			sqe.fd = 0;
		break;
	case IORING_OP_URING_CMD:
		sqe.cmd_op = how & 8 ? UIOPF_CMD_RECEIVE + (how & 7) : how & 3;
		if (how & 16) {
			sqe.addr = ARENA_AT + 8ull * more;
			sqe.len = how & 32 ? 40 : 8;
		}
		if (how & 64)
			sqe.addr3 = more | (uint64_t)(how >> 5 & 1) << 32;
		if (to & 64) {
			sqe.flags |= IOSQE_BUFFER_SELECT;
			sqe.uring_cmd_flags = IORING_URING_CMD_MULTISHOT;
			sqe.buf_group = (uint16_t)(more & 3);
		}
		break;
	default:	/* NOP, also of newer kernels */
		sqe.nop_flags = how;
		sqe.buf_index = (uint16_t)(more & 3);
	}
	append(w, p, which, &sqe, to & 128);
}

/* A header byte says which fields follow, so that short programs make requests that mean something. */
static void push(struct world *w, struct program *p, uint32_t which)
{
	struct io_uring_sqe sqe;
	uint32_t fields, i;

	memset(&sqe, 0, sizeof sqe);
	sqe.opcode = (uint8_t)(take(p, 1) % (IORING_OP_LAST + 2));
	sqe.flags = (uint8_t)take(p, 1);
	i = (uint32_t)take(p, 1);
	sqe.fd = sqe.flags & IOSQE_FIXED_FILE ? (int32_t)(i & 7) : fd_of(w, i);
	fields = (uint32_t)take(p, 1);
	sqe.user_data = (uint64_t)sqe.opcode << 56 | 1ull << 55 | (take(p, 1) & 7);
	if (sqe.opcode == IORING_OP_PROVIDE_BUFFERS || sqe.opcode == IORING_OP_REMOVE_BUFFERS)
		sqe.fd = (int32_t)(i & 31);	/* how many */
	if (fields & 1)
		sqe.addr = take_word(p);
	if (fields & 2)
		sqe.len = (uint32_t)take(p, 2);
	if (fields & 4)
		sqe.off = take_word(p);
	if (fields & 8)
		sqe.rw_flags = (int32_t)take(p, 2);
	if (fields & 16)
		sqe.buf_index = (uint16_t)(take(p, 1) & 7);
	if (fields & 32)
		sqe.ioprio = (uint16_t)take(p, 1);
	if (fields & 64) {
		sqe.file_index = (uint32_t)take_word(p);
		sqe.addr3 = take_word(p);
		sqe.personality = (uint16_t)take(p, 1);
	}
	append(w, p, which, &sqe, fields & 128);
}

static void enter(struct world *w, struct program *p, uint32_t which)
{
	struct uiopf_engine *e = w->ring[which];
	const uint32_t n = (uint32_t)take(p, 1), flags = n >> 5;
	int rc;

	/* On this clock a wait for the host would have no end; one for what the core knows says that nothing can come. */
	rc = uiopf_enter(e, n & 31, w->host ? 0 : n & 1,
			 (flags & 1 ? IORING_ENTER_GETEVENTS : 0) | (flags & 2 ? IORING_ENTER_SQ_WAKEUP : 0) |
			 (flags & 4 ? IORING_ENTER_EXT_ARG : 0), 1000);
	CHECK(rc >= 0 || rc == -EDEADLK || rc == -ETIME || rc == -EAGAIN || rc == -EBADFD || rc == -EBADR || rc == -EEXIST ||
	      rc == -EINTR);	/* the other ring's work has no end */
}

static void enter_with_argument(struct world *w, struct program *p, uint32_t which)
{
	struct io_uring_getevents_arg arg = { 0 };
	const uint32_t kind = (uint32_t)take(p, 1);

	arg.sigmask = kind & 1;
	arg.sigmask_sz = kind >> 1 & 8;
	arg.min_wait_usec = kind & 2 ? 1 : 0;
	arg.ts = kind & 4 ? ARENA_AT + take(p, 2) : 0;
	uiopf_enter_ext(w->ring[which], kind >> 6, 0,
			IORING_ENTER_GETEVENTS | (kind & 16 ? 0 : IORING_ENTER_EXT_ARG) | (kind & 32 ? IORING_ENTER_ABS_TIMER : 0),
			&arg, sizeof arg);
}

/* What io_uring_register is given is memory of the caller's: it has room for as much as he says. */
static void make_register(struct world *w, struct program *p, uint32_t which)
{
	const uint32_t opcode = (uint32_t)take(p, 1) % (IORING_REGISTER_LAST + 2), how = (uint32_t)take(p, 1);
	uint64_t *arg = calloc(1, ARGUMENT), word[4];
	const struct uiopf_region before = w->ring[which]->ring.region;
	uint32_t n = how & 63, i;
	int rc;

	CHECK(arg);
	switch (opcode) {
	case IORING_REGISTER_PBUF_RING: {
		struct io_uring_buf_reg *reg = (void *)arg;

		reg->ring_addr = how & 64 ? 0 : ARENA_AT + 4096 * (take(p, 1) % 5);
		reg->ring_entries = 1u << (how & 15);
		reg->flags = (uint16_t)((how & 64 ? IOU_PBUF_RING_MMAP : 0) | (how & 128 ? IOU_PBUF_RING_INC : 0));
		reg->bgid = (uint16_t)(how >> 4 & 3);
		reg->min_left = how & 128 ? (uint32_t)take(p, 1) : 0;
		n = 1;
		break;
	}
	case IORING_UNREGISTER_PBUF_RING:
		((struct io_uring_buf_reg *)(void *)arg)->bgid = (uint16_t)(how & 7);
		n = 1;
		break;
	case IORING_REGISTER_BUFFERS:
		n = how & 7;
		for (i = 0; i < 2 * n; i += 2) {
			arg[i] = take_word(p);
			arg[i + 1] = take(p, 2);
		}
		break;
	case IORING_REGISTER_FILES:
		n = how & 15;
		for (i = 0; i < n; i++)
			((int32_t *)(void *)arg)[i] = fd_of(w, (uint32_t)take(p, 1));
		break;
	case IORING_REGISTER_EVENTFD:
	case IORING_REGISTER_EVENTFD_ASYNC:
		*(int *)(void *)arg = how & 1 ? w->eventfd : how & 2 ? w->pipe[0] : -1;
		n = 1;
		break;
	case IORING_REGISTER_RESTRICTIONS:
		n = how & 15;
		for (i = 0; i < n; i++)
			arg[2 * i] = take(p, 4);
		break;
	case IORING_REGISTER_RESIZE_RINGS: {
		struct io_uring_params *params = (void *)arg;

		params->sq_entries = 1u << (how & 7);
		params->cq_entries = 1u << (how >> 3 & 7);
		params->flags = how & 64 ? IORING_SETUP_CQSIZE : how & 128 ? (uint32_t)take(p, 2) : 0;
		n = 1;
		break;
	}
	case IORING_REGISTER_CLONE_BUFFERS: {
		struct io_uring_clone_buffers *c = (void *)arg;

		c->src_fd = (uint32_t)w->ring_fd[how & 1];
		c->flags = how >> 1 & 3;
		c->src_off = how >> 3 & 3;
		c->dst_off = how >> 5 & 3;
		c->nr = (uint32_t)take_word(p);
		n = 1;
		break;
	}
	default:
		for (i = 0; i < 4; i++)
			word[i] = i < (how >> 6) + 1 ? take_word(p) : 0;
		memcpy(arg, word, sizeof word);
		if (how >> 6 == 3)	/* the structs that come with their size; otherwise n of something */
			n = sizeof(struct io_uring_rsrc_register);
	}
	/* As with a NULL pointer. The ones that count bytes are refused by their size, not read. */
	rc = uiopf_register(w->ring[which], opcode, (how & 63) == 63 && opcode != IORING_REGISTER_PBUF_RING ? NULL : arg, n);
	if (rc == 0 && opcode == IORING_REGISTER_RESIZE_RINGS) {
		unguard_mapping(before.map, before.size);
		guard_ring(w->ring[which]);
	}
	free(arg);
}

static void scribble_ring(struct world *w, struct program *p, uint32_t which)
{
	const struct uiopf_ring *ring = &w->ring[which]->ring;
	const uint32_t kind = (uint32_t)take(p, 1);
	uint32_t offset = kind & 15;

	if (kind & 16)
		offset = (uint32_t)take(p, 2) % (uint32_t)(ring->region.size / 4);
	*uiopf_ring_word(ring, 4 * offset) = kind & 32 ? (uint32_t)take(p, 4) :
		*uiopf_ring_word(ring, 4 * offset) + (uint32_t)take(p, 1) - (kind & 64 ? 128 : 0);
	w->scribbled = true;
}

static void scribble_arena(struct world *w, struct program *p)
{
	const uint32_t at = (uint32_t)take(p, 2) % (ARENA - 8);
	const uint64_t value = take_word(p);

	memcpy(w->arena + at, &value, sizeof value);
}

/* A buffer for a buffer ring, and its tail. */
static void give_buffer(struct world *w, struct program *p)
{
	const uint32_t at = (uint32_t)take(p, 1), page = at >> 6;
	struct io_uring_buf *ring = (void *)(w->arena + 4096 * page), *buf = &ring[at & 15];

	buf->addr = take_word(p);
	buf->len = (uint32_t)take(p, 1) * 8;
	buf->bid = (uint16_t)take(p, 1);
	ring[0].resv = (uint16_t)(ring[0].resv + (at >> 4 & 3));
}

static void move_device(struct world *w, uint32_t how)
{
	if (!w->attached)
		CHECK_EQ(uiopf_attach(w->device, UIOPF_NO_PASID, w->queue, 1), 0);
	else if (how & 1)
		CHECK_EQ(uiopf_replace(w->device, UIOPF_NO_PASID, w->queue, 1), 0);
	else
		CHECK_EQ(uiopf_detach(w->device, UIOPF_NO_PASID), 0);
	w->attached = !w->attached || how & 1;
}

static void use_host(struct world *w, struct program *p)
{
	static const uint8_t data[64] = "what comes from the other end";
	uint8_t from[64];
	const uint32_t how = (uint32_t)take(p, 1);
	ssize_t n = 0;

	if (!w->host)
		return;
	switch (how & 7) {
	case 0:
		n = write(w->pipe[1], data, how >> 3);
		break;
	case 1:
		n = read(w->pipe[0], from, 1 + (how >> 3));
		break;
	case 2:
		n = send(w->socket[1], data, how >> 3, MSG_NOSIGNAL);
		break;
	case 3:
		n = read(w->socket[1], from, 1 + (how >> 3));
		break;
	case 4:
		n = eventfd_write(w->eventfd, how >> 3);
		break;
	case 5:
		n = eventfd_write(w->eventfd, UINT64_MAX - 1);
		break;
	case 6:
		shutdown(w->socket[1], SHUT_RDWR);
		break;
	default:	/* who is armed for the pipe has it taken away by the core's own side */
		if (w->fd[1 + (how >> 3 & 1)] >= 0 && w->core->file[w->fd[1 + (how >> 3 & 1)]])
			uiopf_core_uninstall(w->core, w->fd[1 + (how >> 3 & 1)], NULL);
	}
	(void)n;
}

static void step(struct world *w, struct program *p)
{
	const uint32_t op = (uint32_t)take(p, 1), which = op >> 7;
	struct uiopf_mock_response answers[8];
	struct uiopf_engine *e = w->ring[which];

	if (!e) {
		open_ring(w, p, which);
		return;
	}
	switch ((op & 127) % 20) {
	case 0:
		push(w, p, which);
		break;
	case 1:
	case 2:
	case 3:
		push_valid(w, p, which);
		break;
	case 4:
	case 5:
		enter(w, p, which);
		break;
	case 6:
	case 7:
		make_register(w, p, which);
		break;
	case 8:
		scribble_ring(w, p, which);
		break;
	case 9:
		scribble_arena(w, p);
		break;
	case 10:
		give_buffer(w, p);
		break;
	case 11: {
		const uint32_t how = (uint32_t)take(p, 1);

		if (w->attached)
			uiopf_device_report(w->device, 1 | (how & 1 ? 0 : 2), how >> 1 & 3, w->reported & 511, how >> 3 & 3,
					    (uint64_t)w->reported << 12);
		w->reported++;
		break;
	}
	case 12:
		uiopf_core_consume(w->core);
		break;
	case 13:
		w->now += take(p, 1) << (4 * take(p, 1) % 32);
		uiopf_core_tick(w->core, w->now);
		uiopf_core_produce(w->core);
		break;
	case 14:
		reap(w, which, (uint32_t)take(p, 1) % 32);
		break;
	case 15:
		use_host(w, p);
		break;
	case 16:
		move_device(w, (uint32_t)take(p, 1));
		uiopf_mock_take(w->mock, answers, 8);
		break;
	case 17:
		enter_with_argument(w, p, which);
		break;
	case 18: {	/* an answer, ready to be written */
		const uint32_t words[2] = { (uint32_t)take(p, 1), (uint32_t)take(p, 1) % 3 };

		memcpy(w->arena + 8 * (take(p, 1) % 64), words, sizeof words);
		break;
	}
	default: {
		const uint32_t how = (uint32_t)take(p, 1);
		uint64_t at, length;
		int fd;

		if (how < 16) {
			free_guarded_ring(e);
			w->ring[which] = NULL;
		} else if (uiopf_engine_mmap(e, take_word(p), &fd, &at, &length) == 0) {
			struct stat status;

			CHECK(fstat(fd, &status) == 0 && at + length <= (uint64_t)status.st_size);
		}
	}
	}
}

static void open_host(struct world *w)
{
	CHECK_EQ(pipe2(w->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, w->socket), 0);
	w->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(w->eventfd >= 0);
	w->fd[1] = uiopf_core_install_host(w->core, w->pipe[0]);
	w->fd[2] = uiopf_core_install_host(w->core, w->pipe[1]);
	w->fd[3] = uiopf_core_install_host(w->core, w->socket[0]);
	w->fd[4] = uiopf_core_install_host(w->core, w->eventfd);
	CHECK(w->fd[1] > 0 && w->fd[2] > 0 && w->fd[3] > 0 && w->fd[4] > 0);
}

static void close_host(struct world *w)
{
	int i;

	for (i = 1; i < 5; i++)
		if (w->core->file[w->fd[i]])
			uiopf_core_uninstall(w->core, w->fd[i], NULL);
	for (i = 0; i < 2; i++) {
		close(w->pipe[i]);
		close(w->socket[i]);
	}
	close(w->eventfd);
}

/* What requests find until something else is written: vectors, a few buffers for each ring, descriptors and times. */
static void furnish(uint8_t *arena)
{
	uint64_t *word = (uint64_t *)(void *)arena;
	uint32_t i;

	for (i = 0; i < 256; i++) {	/* as vectors and as entries: address, length with the id above */
		word[2 * i] = ARENA_AT + 0x1000 + 64 * (i & 31);
		word[2 * i + 1] = 40 + (uint64_t)(i == 0 ? 3 : 0) * (1ull << 48);
	}
	for (i = 0; i < 16; i++)
		((int32_t *)(void *)(arena + 0x2000))[i] = 3 + (int32_t)(i & 7);
	for (i = 0; i < 8; i++)
		word[0x3000 / 8 + 2 * i + 1] = 1ull << (4 * i);
}

static int next_descriptor(void)
{
	int fd = dup(2);

	CHECK(fd >= 0);
	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program p = { data, data + size };
	const uint32_t how = (uint32_t)take(&p, 1), kernel = kernels[how % 9];
	struct world w = { .fd = { -1, -1, -1, -1, -1, -1 }, .ring_fd = { -1, -1 }, .host = how & 128 };
	const int first = next_descriptor();
	struct uiopf_faultq_counts counts;
	uint32_t steps, i;

	signal(SIGPIPE, SIG_DFL);	/* a client's write to a pipe that nobody reads must not end the emulator */
	w.core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, how & 64 ? 1 : 0);
	CHECK(w.core);
	uiopf_core_set_kernel(w.core, kernel >> 8, kernel & 255);
	w.mock = uiopf_mock_new(w.core);
	w.queue = uiopf_faultq_new(w.core, how & 32 ? UIOPF_MERGED : UIOPF_COMMANDS);
	w.device = uiopf_device_new(w.core, uiopf_mock_iommu(w.mock), 1, 0, 16, 1);
	w.arena = aligned_alloc(4096, ARENA);
	CHECK(w.mock && w.queue && w.device && w.arena);
	memset(w.arena, 0, ARENA);
	w.fd[0] = uiopf_core_install(w.core, uiopf_faultq_file(w.queue));
	furnish(w.arena);
	if (how & 16)
		uiopf_core_set_nonblock(w.core, uiopf_faultq_file(w.queue), 1);
	if (w.host)
		open_host(&w);
	move_device(&w, 0);
	open_ring(&w, &p, 0);
	for (steps = 0; steps < STEPS && p.at < p.end; steps++)
		step(&w, &p);
	for (i = 0; i < RINGS; i++)
		if (w.ring[i]) {
			CHECK(uiopf_engine_pending(w.ring[i]) <= 65536);
			CHECK(w.ring[i]->backlog_count <= 1u << 20);
			if (!w.scribbled)
				CHECK_EQ(*uiopf_ring_word(&w.ring[i]->ring, RING_CQ_OVERFLOW), 0);
			free_guarded_ring(w.ring[i]);
		}
	if (w.attached)
		CHECK_EQ(uiopf_detach(w.device, UIOPF_NO_PASID), 0);
	uiopf_faultq_counts(w.queue, &counts);
	CHECK_EQ(counts.waiting_groups + counts.unanswered_groups, 0);
	if (w.core->file[w.fd[0]])
		uiopf_core_uninstall(w.core, w.fd[0], NULL);
	if (w.host)
		close_host(&w);
	CHECK_EQ(uiopf_faultq_free(w.queue), 0);
	uiopf_device_free(w.device);
	uiopf_mock_free(w.mock);
	CHECK_EQ(uiopf_core_free(w.core), 0);
	free(w.arena);
	CHECK_EQ(next_descriptor(), first);
	return 0;
}

#ifndef UIOPF_LIBFUZZER
static void run_file(const char *path)
{
	static uint8_t data[1 << 16];
	FILE *file = fopen(path, "rb");
	size_t size, given;
	uint8_t *copy;

	CHECK(file);
	size = fread(data, 1, sizeof data, file);
	fclose(file);
	given = size ? size : 1;
	copy = malloc(given);	/* of its size exactly, for the sanitizer */
	CHECK(copy);
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static uint32_t run_path(const char *path)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;
	char name[4096];
	uint32_t n = 0;

	if (!directory) {
		run_file(path);
		return 1;
	}
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		CHECK(snprintf(name, sizeof name, "%s/%s", path, entry->d_name) < (int)sizeof name);
		n += run_path(name);
	}
	closedir(directory);
	return n;
}

int main(int argc, char **argv)
{
	uint32_t n = 0;
	int i;

	for (i = 1; i < argc; i++)
		n += run_path(argv[i]);
	CHECK(n);
	printf("%" PRIu32 " inputs\n", n);
	return 0;
}
#endif
