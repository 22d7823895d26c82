/*
 * The table of operations, and what is checked before an operation is asked: io_issue_defs and io_init_req.
 *
 * It has all of Linux's opcodes. Those without a prepare do not work here: they are refused with what Linux says when it
 * was built without them, after the same checks as all others.
 */
#include "rings/requests/requests.h"

#define SELECT 1u	/* takes BUFFER_SELECT … */
#define SELECT_7 2u	/* … since 6.18 */
#define IOPRIO 4u	/* has a use for ioprio */
#define FILE_NEEDED 8u
#define POLLED 16u	/* may be asked of an IOPOLL ring */
#define WIDE 32u	/* is an SQE of 128 bytes */

struct operation {
	int (*prepare)(struct uiopf_request *, const struct io_uring_sqe *);
	enum uiopf_issue (*issue)(struct uiopf_request *);
	uint32_t flags;
	uint16_t since;		/* 0: in 6.12 */
};

static const struct operation operation[IORING_OP_LAST] = {
	[IORING_OP_NOP] = { uiopf_nop_prepare, uiopf_nop_issue, POLLED, 0 },
	[IORING_OP_READV] = { uiopf_rw_vector_prepare, uiopf_rw_issue, SELECT | IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_WRITEV] = { uiopf_rw_vector_prepare, uiopf_write_issue, IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_FSYNC] = { .flags = FILE_NEEDED },
	[IORING_OP_READ_FIXED] = { uiopf_rw_fixed_prepare, uiopf_rw_issue, IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_WRITE_FIXED] = { uiopf_rw_fixed_prepare, uiopf_write_issue, IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_POLL_ADD] = { uiopf_poll_add_prepare, uiopf_poll_add_issue, FILE_NEEDED, 0 },
	[IORING_OP_POLL_REMOVE] = { uiopf_poll_remove_prepare, uiopf_poll_remove_issue, 0, 0 },
	[IORING_OP_SYNC_FILE_RANGE] = { .flags = FILE_NEEDED },
	[IORING_OP_SENDMSG] = { .flags = IOPRIO | FILE_NEEDED },
	[IORING_OP_RECVMSG] = { .flags = SELECT | IOPRIO | FILE_NEEDED },
	[IORING_OP_TIMEOUT] = { uiopf_timeout_prepare, uiopf_timeout_issue, 0, 0 },
	[IORING_OP_TIMEOUT_REMOVE] = { uiopf_timeout_remove_prepare, uiopf_timeout_remove_issue, 0, 0 },
	[IORING_OP_ACCEPT] = { .flags = IOPRIO | FILE_NEEDED },
	[IORING_OP_ASYNC_CANCEL] = { uiopf_cancel_prepare, uiopf_cancel_issue, 0, 0 },
	[IORING_OP_LINK_TIMEOUT] = { uiopf_link_timeout_prepare, uiopf_link_timeout_issue, 0, 0 },
	[IORING_OP_CLOSE] = { uiopf_close_prepare, uiopf_close_issue, 0, 0 },
	[IORING_OP_FILES_UPDATE] = { uiopf_files_update_prepare, uiopf_files_update_issue, POLLED, 0 },
	[IORING_OP_READ] = { uiopf_rw_prepare, uiopf_rw_issue, SELECT | IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_WRITE] = { uiopf_rw_prepare, uiopf_write_issue, IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_SEND] = { uiopf_send_prepare, uiopf_send_issue, SELECT | IOPRIO | FILE_NEEDED, 0 },
	[IORING_OP_RECV] = { uiopf_receive_prepare, uiopf_receive_issue, SELECT | IOPRIO | FILE_NEEDED, 0 },
	[IORING_OP_PROVIDE_BUFFERS] = { uiopf_provide_buffers_prepare, uiopf_provide_buffers_issue, POLLED, 0 },
	[IORING_OP_REMOVE_BUFFERS] = { uiopf_remove_buffers_prepare, uiopf_remove_buffers_issue, POLLED, 0 },
	[IORING_OP_MSG_RING] = { uiopf_message_prepare, uiopf_message_issue, FILE_NEEDED | POLLED, 0 },
	[IORING_OP_URING_CMD] = { uiopf_command_prepare, uiopf_command_issue, SELECT_7 | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_SEND_ZC] = { .flags = IOPRIO | FILE_NEEDED },
	[IORING_OP_SENDMSG_ZC] = { .flags = IOPRIO | FILE_NEEDED },
	[IORING_OP_READ_MULTISHOT] = { uiopf_read_multishot_prepare, uiopf_read_multishot_issue, SELECT | FILE_NEEDED, 0 },
	[IORING_OP_RECV_ZC] = { .flags = IOPRIO | FILE_NEEDED, .since = UIOPF_LINUX(6, 15) },
	[IORING_OP_EPOLL_WAIT] = { .flags = FILE_NEEDED, .since = UIOPF_LINUX(6, 15) },
	[IORING_OP_READV_FIXED] = { uiopf_rw_vector_prepare, uiopf_rw_issue, IOPRIO | FILE_NEEDED | POLLED,
				    UIOPF_LINUX(6, 15) },
	[IORING_OP_WRITEV_FIXED] = { uiopf_rw_vector_prepare, uiopf_write_issue, IOPRIO | FILE_NEEDED | POLLED,
				     UIOPF_LINUX(6, 15) },
	[IORING_OP_PIPE] = { .since = UIOPF_LINUX(6, 16) },
	[IORING_OP_NOP128] = { uiopf_nop_prepare, uiopf_nop_issue, POLLED | WIDE, UIOPF_LINUX(6, 19) },
	[IORING_OP_URING_CMD128] = { uiopf_command_prepare, uiopf_command_issue, SELECT_7 | FILE_NEEDED | POLLED | WIDE,
				     UIOPF_LINUX(6, 19) },
};

uint32_t uiopf_opcodes(const struct uiopf_engine *e)
{
	uint32_t last = IORING_OP_LAST;

	while (last > IORING_OP_LAST_6_12 && operation[last - 1].since > e->kernel)
		last--;
	return last;
}

bool uiopf_opcode_supported(const struct uiopf_engine *e, uint32_t opcode)
{
	return opcode < uiopf_opcodes(e) && operation[opcode].prepare;
}

#define FLAGS_KNOWN (IOSQE_FIXED_FILE | IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_ASYNC | \
		     IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS)

/* An SQE of 128 bytes in a ring of 64: two neighbours that do not wrap, where the ring has both kinds. */
static int take_second_half(struct uiopf_engine *e)
{
	struct uiopf_ring *ring = &e->ring;

	if (e->setup_flags & IORING_SETUP_SQE128)
		return 0;
	if (!(e->setup_flags & IORING_SETUP_SQE_MIXED) || !uiopf_sq_ready(ring) || !(ring->sq_head & ring->sq_mask))
		return -EINVAL;
	ring->sq_head++;
	e->second_halves++;
	return 0;
}

static void on_wake(struct uiopf_wait *wait, uint32_t events)
{
	struct uiopf_request *r = container_of(wait, struct uiopf_request, wait);

	if (events && !(events & r->events))
		return;
	/* Multishots keep their place in the file's list; others leave it, and go to its head if they wait again. */
	if (!r->multishot)
		r->file->ops->cancel(r->file, wait);
	/* One wake is believed: what it said is not checked again. After more, or a hint, only the file knows. */
	r->woken = r->working || (r->file->mode & UIOPF_FILE_HINTS) ? 0 : events & r->events;
	uiopf_engine_add_work(r);
}

int uiopf_request_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	struct uiopf_engine *e = r->engine;
	const uint8_t flags = sqe->flags;
	const struct operation *op;
	int rc;

	r->file = NULL;
	r->wait.link = NULL;
	r->wait.wake = on_wake;
	r->link = NULL;
	r->file_node = r->buffer_node = NULL;
	r->user_data = sqe->user_data;
	r->opcode = sqe->opcode;
	r->sqe_flags = flags;
	r->fd = sqe->fd;
	r->ioprio = sqe->ioprio;
	r->cqe_flags = 0;
	r->timer = UIOPF_NO_TIMER;
	r->events = r->woken = r->expected = 0;
	r->fruitless = 0;
	__builtin_memset(&r->listed, 0, sizeof *r - offsetof(struct uiopf_request, listed));
	if (unlikely(sqe->opcode >= uiopf_opcodes(e))) {
		r->opcode = IORING_OP_NOP;
		return -EINVAL;
	}
	op = &operation[sqe->opcode];
	if (unlikely(op->flags & WIDE)) {
		rc = take_second_half(e);
		if (rc < 0)
			return rc;
	}
	if (flags & ~FLAGS_KNOWN)
		return -EINVAL;
	if ((flags & IOSQE_BUFFER_SELECT) &&
	    !(op->flags & (e->kernel >= UIOPF_LINUX(6, 18) ? SELECT | SELECT_7 : SELECT)))
		return -EOPNOTSUPP;
	if (unlikely(e->unusual || (flags & (IOSQE_IO_DRAIN | IOSQE_CQE_SKIP_SUCCESS)))) {
		rc = uiopf_request_admit(r);
		if (rc < 0)
			return rc;
	}
	if (sqe->ioprio && !(op->flags & IOPRIO))
		return -EINVAL;
	if (unlikely(e->setup_flags & IORING_SETUP_IOPOLL) && !(op->flags & POLLED))
		return -EINVAL;
	if (unlikely(sqe->personality) && !(e->personality[sqe->personality / 8] >> sqe->personality % 8 & 1))
		return -EINVAL;
	if (unlikely(!op->prepare))
		return -EOPNOTSUPP;
	return op->prepare(r, sqe);
}

/* The file is looked up before anything else, so that every later error is that of a descriptor which is open. */
static bool assign_file(struct uiopf_request *r)
{
	struct uiopf_node *node;

	if (likely(!(r->sqe_flags & IOSQE_FIXED_FILE))) {
		r->file = uiopf_find_file(r->engine, r->fd, false);
	} else {
		node = uiopf_fixed_file(r->engine, (uint32_t)r->fd);
		if (node) {
			node->users++;
			r->file_node = node;
			r->file = node->file;
		}
	}
	if (!r->file)
		return false;
	r->file->users++;
	return true;
}

enum uiopf_issue uiopf_request_issue(struct uiopf_request *r)
{
	const struct operation *op = &operation[r->opcode];
	enum uiopf_issue issue;

	if ((op->flags & FILE_NEEDED) && !r->file && unlikely(!assign_file(r)))
		return uiopf_done(r, -EBADF);
	issue = op->issue(r);
	r->started = true;
	return issue;
}
