#include "rings/operation.h"

#include <sys/epoll.h>

#include "rings/request.h"
#include "rings/resources.h"

uint32_t uiopf_opcodes(const struct uiopf_engine *e)
{
	uint32_t last = IORING_OP_LAST;

	while (last > IORING_OP_LAST_6_12 && e->operations[last - 1].since > e->kernel)
		last--;
	return last;
}

bool uiopf_opcode_supported(const struct uiopf_engine *e, uint32_t opcode)
{
	return opcode < uiopf_opcodes(e) && e->operations[opcode].prepare;
}

#define FLAGS_KNOWN (IOSQE_FIXED_FILE | IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_ASYNC | \
		     IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS)

/*
 * An SQE of 128 bytes in a ring of 64: two neighbours that do not wrap, where the ring has both kinds. Both are among those
 * that the call submits (io_init_req, Linux 6.19). A worker's batch is no call: there the ring has them or not.
 */
static int take_second_half(struct uiopf_engine *e)
{
	struct uiopf_ring *ring = &e->ring;

	if (e->setup_flags & IORING_SETUP_SQE128)
		return 0;
	if (!(e->setup_flags & IORING_SETUP_SQE_MIXED) || !(ring->sq_head & ring->sq_mask) ||
	    !(e->setup_flags & IORING_SETUP_SQPOLL ? uiopf_sq_ready(ring) : e->others_left))
		return -EINVAL;
	ring->sq_head++;
	e->second_halves++;
	return 0;
}

static bool on_wake(struct uiopf_wait *wait, uint32_t events)
{
	struct uiopf_request *r = container_of(wait, struct uiopf_request, wait);

	if (events && !(events & r->events))
		return false;
	/* Its own completion may have called it, by way of whatever number of rings: it is its last (io_poll_wake). */
	if (unlikely(events & UIOPF_WAKE_BY_RING) && r->opcode == IORING_OP_POLL_ADD && !r->working)
		r->multishot = false;
	/* Multishots keep their place in the file's list; others leave it, and go to its head if they wait again. */
	if (!r->multishot)
		r->file->ops->cancel(r->file, wait);
	/*
	 * One wake is believed: what it said is not checked again. After more, or a hint, only the file knows; that a ring
	 * has signalled an eventfd is no hint.
	 */
	if (r->working || ((r->file->mode & UIOPF_FILE_HINTS) && !(events & UIOPF_WAKE_BY_RING)))
		r->woken = 0;
	else
		r->woken = events & r->events;
	r->called = unlikely(r->events & EPOLLEXCLUSIVE) && r->opcode != IORING_OP_POLL_ADD;
	uiopf_engine_add_work(r);
	return unlikely(r->events & EPOLLEXCLUSIVE);
}

int uiopf_request_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	struct uiopf_engine *e = r->engine;
	const uint8_t flags = sqe->flags;
	const struct uiopf_operation *op;
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
	op = &e->operations[sqe->opcode];
	if (unlikely(op->flags & UIOPF_OP_WIDE)) {
		rc = take_second_half(e);
		if (rc < 0)
			return rc;
	}
	if (flags & ~FLAGS_KNOWN)
		return -EINVAL;
	if ((flags & IOSQE_BUFFER_SELECT) &&
	    !(op->flags & (e->kernel >= UIOPF_LINUX(6, 18) ? UIOPF_OP_SELECT | UIOPF_OP_SELECT_7 : UIOPF_OP_SELECT)))
		return -EOPNOTSUPP;
	if (unlikely(e->unusual || (flags & (IOSQE_IO_DRAIN | IOSQE_CQE_SKIP_SUCCESS)))) {
		rc = uiopf_request_admit(r);
		if (rc < 0)
			return rc;
	}
	if (sqe->ioprio && !(op->flags & UIOPF_OP_IOPRIO))
		return -EINVAL;
	if (unlikely(e->setup_flags & IORING_SETUP_IOPOLL) && !(op->flags & UIOPF_OP_POLLED))
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
	const struct uiopf_operation *op = &r->engine->operations[r->opcode];
	enum uiopf_issue issue;

	if ((op->flags & UIOPF_OP_FILE) && !r->file && unlikely(!assign_file(r)))
		return uiopf_done(r, -EBADF);
	issue = op->issue(r);
	r->started = true;
	return issue;
}
