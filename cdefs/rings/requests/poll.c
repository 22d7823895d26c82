/* POLL_ADD and POLL_REMOVE, which also updates. Source: io_uring/poll.c, Linux 6.12. */
#include <sys/epoll.h>

#include "rings/requests/requests.h"
#include "rings/ringfile.h"
#include "rings/submit.h"

#define POLL_ALWAYS (POLLERR | POLLHUP | POLLNVAL | POLLRDHUP)
#define ADJUSTABLE 0xffffu	/* the events that an update replaces */
/* What a client may ask for. The other bits are the kernel's own, UIOPF_WAKE_BY_RING among them (io_poll_parse_events). */
#define POLL_KNOWN (ADJUSTABLE | EPOLLEXCLUSIVE | EPOLLONESHOT | EPOLLET)

int uiopf_poll_add_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	if (sqe->buf_index || sqe->off || sqe->addr)
		return -EINVAL;
	if (sqe->len & ~(uint32_t)IORING_POLL_ADD_MULTI)
		return -EINVAL;
	if ((sqe->len & IORING_POLL_ADD_MULTI) && (r->sqe_flags & IOSQE_CQE_SKIP_SUCCESS))
		return -EINVAL;
	r->events = (sqe->poll32_events & POLL_KNOWN) | POLL_ALWAYS;
	/* EPOLLONESHOT is among the events that a client may name, and wins. */
	r->multishot = (sqe->len & IORING_POLL_ADD_MULTI) && !(r->events & EPOLLONESHOT);
	return 0;
}

/*
 * Posts for a multishot: true where it goes on waiting. What it follows may have called it, and then it looks once more
 * (io_poll_check_events).
 */
static bool goes_on(struct uiopf_request *r, uint32_t *mask)
{
	bool called;

	do {
		if (!uiopf_post_more(r, (int32_t)*mask, 0, &called))
			return false;
		if (likely(!called))
			return true;
		r->woken = 0;
		*mask = r->file->ops->poll(r->file) & r->events;
	} while (*mask);
	return true;
}

enum uiopf_issue uiopf_poll_add_issue(struct uiopf_request *r)
{
	uint32_t mask = r->woken;

	if (!(r->file->mode & UIOPF_FILE_POLL))	/* as a regular file: always ready */
		return uiopf_done(r, (int32_t)((POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) & r->events));
	r->woken = 0;
	uiopf_ring_polled(r->engine, r->file);
	if (!mask)
		mask = r->file->ops->poll(r->file) & r->events;
	if (!mask)
		return uiopf_wait_for_file(r);
	if (r->multishot && !r->started) {	/* ready when armed: posted by task work, behind the batch */
		r->woken = mask;
		uiopf_engine_add_work(r);
		return uiopf_wait_for_file(r);
	}
	if (r->multishot && goes_on(r, &mask))
		return uiopf_wait_for_file(r);
	uiopf_stop_waiting(r);
	return uiopf_done(r, (int32_t)mask);
}

#define UPDATE_KNOWN (IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA | IORING_POLL_ADD_MULTI)

int uiopf_poll_remove_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	if (sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	r->length = sqe->len;
	if ((r->length & ~(uint32_t)UPDATE_KNOWN) || r->length == IORING_POLL_ADD_MULTI)
		return -EINVAL;
	r->address = sqe->addr;
	r->position = sqe->off;
	if (!(r->length & IORING_POLL_UPDATE_USER_DATA) && r->position)
		return -EINVAL;
	r->op_flags = sqe->poll32_events;
	if (!(r->length & IORING_POLL_UPDATE_EVENTS) && r->op_flags)
		return -EINVAL;
	return 0;
}

/* The poll of this user_data; what waits for its turn of task work is being completed. */
static struct uiopf_request *find_poll(const struct uiopf_engine *e, uint64_t user_data)
{
	struct uiopf_request *target;

	for (target = e->last; target; target = target->prev)
		if (target->opcode == IORING_OP_POLL_ADD && target->user_data == user_data && !target->cancelled)
			return target;
	return NULL;
}

enum uiopf_issue uiopf_poll_remove_issue(struct uiopf_request *r)
{
	struct uiopf_request *target = find_poll(r->engine, r->address);
	uint32_t mask;

	if (!target)
		return uiopf_done(r, -ENOENT);
	if (target->working)
		return uiopf_done(r, -EALREADY);
	uiopf_stop_waiting(target);
	if (!(r->length & (IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA))) {
		uiopf_request_end_later(target, -ECANCELED);
		return uiopf_done(r, 0);
	}
	if (r->length & IORING_POLL_UPDATE_EVENTS)
		target->events = (target->events & ~ADJUSTABLE) | ((r->op_flags | POLL_ALWAYS) & ADJUSTABLE);
	if (r->length & IORING_POLL_UPDATE_USER_DATA)
		target->user_data = r->position;
	/* It is armed again, as it was when it was new: what is ready completes it, or is its next event. */
	mask = target->file->ops->poll(target->file) & target->events;
	if (mask && !target->multishot) {
		uiopf_request_end_later(target, (int32_t)mask);
		return uiopf_done(r, 0);
	}
	uiopf_wait_for_file(target);
	if (mask) {
		target->woken = mask;
		uiopf_engine_add_work(target);
	}
	return uiopf_done(r, 0);
}
