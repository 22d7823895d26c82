/* What the operations share. */
#pragma once
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

#include "rings/buffers.h"
#include "rings/completion.h"
#include "rings/operation.h"
#include "rings/request.h"
#include "rings/resources.h"
#include "rings/ringfile.h"

static inline enum uiopf_issue uiopf_wait_for_file(struct uiopf_request *r)
{
	if (r->wait.link)
		return UIOPF_PENDING;
	r->file->ops->arm(r->file, &r->wait);
	if (unlikely(r->events & EPOLLEXCLUSIVE))
		uiopf_file_arm_last(r->file, &r->wait);
	/* Linux's table of what a cancel may find has it from now on: what waits anew is found first, as the newest. */
	if (unlikely(r->listed)) {
		uiopf_request_unlist(r);
		uiopf_request_list(r);
	}
	return UIOPF_PENDING;
}

/* The same for what may be a ring, which tells of completions once it has been polled, by whatever request. */
static inline enum uiopf_issue uiopf_wait_for_any_file(struct uiopf_request *r)
{
	uiopf_ring_polled(r->engine, r->file);
	return uiopf_wait_for_file(r);
}

/*
 * Whether a worker has it that nobody asked for (IOSQE_ASYNC would be asking, and so is a drain): its call may block, a cancel
 * finds it running and interrupts it, and a file with O_NONBLOCK says that nothing is there (io_wq_submit_work).
 */
static inline bool uiopf_worker_blocks(const struct uiopf_request *r)
{
	return unlikely(r->punted) && !(r->sqe_flags & IOSQE_ASYNC);
}

/*
 * The same where one was asked for: he arms a poll first, and blocks in his call if there was nothing to wait for
 * (io_wq_submit_work).
 */
static inline bool uiopf_call_blocks(const struct uiopf_request *r)
{
	return unlikely(r->punted) &&
	       (!(r->sqe_flags & IOSQE_ASYNC) || r->file->ops->poll(r->file) & (r->events | POLLHUP));
}

/*
 * Of datagrams there is no end, but for who has shut down his own side: a call that may block returns 0 then, and any other
 * -EAGAIN, though the socket is ready (__skb_wait_for_more_packets).
 */
static inline bool uiopf_is_over(const struct uiopf_request *r)
{
	return (r->file->mode & UIOPF_FILE_DATAGRAMS) && (r->file->ops->poll(r->file) & POLLRDHUP);
}

/* Whether a worker arms a multishot of it: it says that it would block, or promises not to. */
static inline bool uiopf_may_be_armed(const struct uiopf_file *file)
{
	return (file->mode & UIOPF_FILE_NONBLOCK) || (file->mode & (UIOPF_FILE_ITER | UIOPF_FILE_WAITS)) == UIOPF_FILE_ITER;
}

/*
 * A worker runs no multishot. It arms one whose file promises not to block, and task work does the rest: true then. Of
 * another file it is no multishot any more.
 */
static inline bool uiopf_worker_arms(struct uiopf_request *r)
{
	if (!uiopf_may_be_armed(r->file)) {
		r->multishot = false;
		return false;
	}
	r->punted = false;
	r->started = true;
	if (r->file->ops->poll(r->file) & (r->events | POLLHUP)) {
		r->woken = POLLIN;
		uiopf_engine_add_work(r);
	}
	uiopf_wait_for_file(r);
	return true;
}

static inline void uiopf_stop_waiting(struct uiopf_request *r)
{
	if (r->wait.link)
		r->file->ops->cancel(r->file, &r->wait);
}

/* A request's memory at the client's addresses; NULL where there is none. */
static inline uint8_t *uiopf_memory(const struct uiopf_request *r, uint64_t address, uint64_t length)
{
	return uiopf_windows_find(&r->engine->windows, address, length);
}

/* The same in pieces, where the client has not all of it: the rest is at no address, which the host finds out. Their number. */
static inline uint32_t uiopf_memory_pieces(const struct uiopf_request *r, uint64_t address, uint64_t length,
					   struct iovec piece[2])
{
	const uint64_t reach = uiopf_windows_reach(&r->engine->windows, address, length);
	uint8_t *from = reach ? uiopf_memory(r, address, reach) : NULL;
	uint32_t n = 0;

	if (from)
		piece[n++] = (struct iovec){ from, reach };
	piece[n++] = (struct iovec){ NULL, length - (from ? reach : 0) };
	return n;
}
