/* RECV, also multishot, and SEND. Source: io_uring/net.c, Linux 6.12; what 6.17 added says so. */
#include <stdlib.h>
#include <sys/socket.h>

#include "rings/requests/again.h"
#include "rings/requests/requests.h"
#include "rings/submit.h"

#define LIMITED_SINCE UIOPF_LINUX(6, 17)	/* a multishot may have limits */
#define LOOPS 32u				/* messages in a row, then others have their turn */

/*
 * address, length: what is left; position: what has been done before; op_flags: MSG_*; ioprio: IORING_RECV*; expected: a
 * multishot's limit of each message.
 */

static int prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe, uint32_t known)
{
	r->address = sqe->addr;
	r->length = sqe->len;
	r->position = 0;
	if ((r->ioprio & ~known) || r->length > INT32_MAX)
		return -EINVAL;
	r->op_flags = sqe->msg_flags;
	r->buffer_group = sqe->buf_group;
	return 0;
}

static int check_address(struct uiopf_request *r)
{
	if (r->sqe_flags & IOSQE_BUFFER_SELECT)
		return 0;
	if (r->length > 0x7ffff000u)
		r->length = 0x7ffff000u;
	return r->address > UIOPF_USER_END - r->length ? -EFAULT : 0;
}

int uiopf_receive_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	int rc;

	if (sqe->addr2)
		return -EINVAL;
	rc = prepare(r, sqe, IORING_RECVSEND_POLL_FIRST | IORING_RECV_MULTISHOT | IORING_RECVSEND_BUNDLE);
	if (rc < 0)
		return rc;
	r->extra = 0;
	r->events = POLLIN | POLLRDNORM | POLLERR | POLLPRI;
	if (r->op_flags & MSG_ERRQUEUE)
		r->events &= ~(uint32_t)POLLIN;	/* errors are waited for, not data (REQ_F_CLEAR_POLLIN) */
	if (r->ioprio & IORING_RECV_MULTISHOT) {
		if (!(r->sqe_flags & IOSQE_BUFFER_SELECT) || (r->op_flags & MSG_WAITALL))
			return -EINVAL;
		if (r->engine->kernel < LIMITED_SINCE ? r->length != 0 || sqe->file_index != 0 : false)
			return -EINVAL;
		r->extra = sqe->optlen;		/* bytes in all; 0: no limit */
		r->expected = r->length;
		r->multishot = true;
	} else if (sqe->file_index) {
		return -EINVAL;
	}
	return check_address(r);
}

/*
 * A bundle takes several provided buffers at once, which is not there. Without BUFFER_SELECT the flag says nothing to a
 * receive, and makes a send wait for the rest.
 */
static bool is_bundle(const struct uiopf_request *r)
{
	return (r->ioprio & IORING_RECVSEND_BUNDLE) && (r->sqe_flags & IOSQE_BUFFER_SELECT);
}

/* A request that must wait first, or that a wake brought here. */
static bool polls_first(const struct uiopf_request *r)
{
	return !r->started && (r->ioprio & IORING_RECVSEND_POLL_FIRST);
}

/*
 * Arming a poll finds out what is there already. A worker arms none unless one was asked for: it ends there (-EAGAIN), as
 * does what may not wait. True: the request goes on, as the worker that has found its file ready tries at once.
 */
static bool poll_first(struct uiopf_request *r, enum uiopf_issue *issue)
{
	if ((r->op_flags & MSG_DONTWAIT) || uiopf_worker_blocks(r)) {
		*issue = uiopf_done(r, -EAGAIN);
		return false;
	}
	if (!(r->file->ops->poll(r->file) & r->events)) {
		*issue = uiopf_wait_for_any_file(r);
		return false;
	}
	if (r->punted)
		return true;
	uiopf_request_add_work(r, UIOPF_START);
	*issue = UIOPF_PENDING;
	return false;
}

/* With MSG_WAITALL part of it may be there: true where more is wanted. A datagram is all that there is (io_net_retry). */
static bool wants_rest(struct uiopf_request *r, int64_t n)
{
	if (likely(!(r->op_flags & MSG_WAITALL)) || n <= 0 || (uint64_t)n >= r->length ||
	    (r->file->mode & UIOPF_FILE_DATAGRAMS))
		return false;
	r->address += (uint64_t)n;
	r->length -= (uint32_t)n;
	r->position += (uint64_t)n;
	r->partial = true;
	return true;
}

/* Not all that was wanted, or more than that: a failure to its chain, whatever was moved. */
static void fail(struct uiopf_request *r)
{
	r->exact = true;
	r->expected = UINT32_MAX;
}

static enum uiopf_issue end(struct uiopf_request *r, int64_t n);

/*
 * The rest is waited for, and what has come by now is had by task work: whoever is on the other end cannot keep us here
 * (io_net_retry). Who does not want to wait has what there was.
 */
static enum uiopf_issue wait_for_rest(struct uiopf_request *r)
{
	if (r->op_flags & MSG_DONTWAIT)
		return end(r, -EAGAIN);
	if (!(r->file->ops->poll(r->file) & r->events))
		return uiopf_wait_for_file(r);
	r->unfindable = true;	/* it is not armed, as it would be ready (IO_APOLL_READY) */
	uiopf_stop_waiting(r);
	uiopf_engine_add_work(r);
	return UIOPF_PENDING;
}

static enum uiopf_issue end(struct uiopf_request *r, int64_t n)
{
	uiopf_stop_waiting(r);
	if ((r->op_flags & MSG_WAITALL) && (n < 0 || (uint64_t)n < r->length))
		fail(r);
	if (r->position)
		n = (n > 0 ? n : 0) + (int64_t)r->position;
	return uiopf_done(r, (int32_t)n);
}

/* Posts what a multishot received: true where it goes on. */
static bool goes_on(struct uiopf_request *r, int64_t n, uint32_t flags)
{
	bool called;	/* it looks for more in any case */

	if (n <= 0)
		return false;
	if (r->extra) {
		r->extra -= (uint64_t)n < r->extra ? (uint64_t)n : r->extra;
		if (!r->extra)
			return false;
	}
	return uiopf_post_more(r, (int32_t)n, flags, &called);
}

static uint32_t more_to_read(const struct uiopf_request *r)
{
	struct uiopf_file *file = r->file;

	return file->ops->unread && file->ops->unread(file, r->engine->kernel) > 0 ? IORING_CQE_F_SOCK_NONEMPTY : 0;
}

/* Where the socket can say that nothing is left, that is believed, and no buffer missed. */
static bool nothing_left(const struct uiopf_request *r)
{
	const struct uiopf_file_ops *ops = r->file->ops;

	return ops->unread && ops->unread(r->file, r->engine->kernel) == 0;
}

/*
 * The end of the stream may have come together with the data, and nothing would wake for it once more. (Linux counts its
 * wakes, and goes on after several if the socket has hung up: io_poll_check_events.)
 */
static bool has_ended(const struct uiopf_request *r)
{
	return r->file->ops->poll(r->file) & (POLLHUP | POLLRDHUP);
}

/* A selected buffer is the request's from here on, whatever becomes of it; so many bytes of it are used. */
static void hold(struct uiopf_request *r, struct uiopf_selected *buffer, uint32_t used)
{
	r->cqe_flags = uiopf_buffer_take(buffer, used);
	r->address = buffer->address;
	r->selected = true;
}

/*
 * Where a receive puts its data: 0 or -errno. A buffer that is selected stays where it is until data have come, and another
 * may have it meanwhile. But the length of the first that was seen is a limit from then on (io_recv_buf_select).
 */
static int find_room(struct uiopf_request *r, struct uiopf_selected *buffer)
{
	int rc;

	if (!(r->sqe_flags & IOSQE_BUFFER_SELECT) || r->selected) {
		buffer->from = NULL;
		buffer->length = r->length;
		buffer->map = uiopf_memory(r, r->address, r->length);
		return 0;
	}
	rc = uiopf_buffer_select(r->engine, r->buffer_group, r->length, buffer);
	if (rc < 0)
		return rc;
	r->length = buffer->length;
	if (unlikely(r->punted) && buffer->from->ring) {	/* what a worker selects is used up */
		hold(r, buffer, buffer->length);
		buffer->from = NULL;
	}
	return 0;
}

/* One receive; `flags` are MSG_* of the request, and of the message then. */
static int64_t receive(struct uiopf_request *r, const struct uiopf_selected *buffer, int *flags)
{
	const uint64_t address = buffer->from ? buffer->address : r->address;
	struct iovec piece[2] = { { buffer->map, buffer->length } };
	uint32_t count = 1;

	if (unlikely(!buffer->map && buffer->length))
		count = uiopf_memory_pieces(r, address, buffer->length, piece);
	return r->file->ops->receive(r->file, piece, count, flags);
}

/* Whether a worker's receive of nothing does not wait: errors are not waited for, and some sockets have no other. */
static bool is_not_kept(const struct uiopf_request *r)
{
	return ((r->op_flags & MSG_ERRQUEUE) && (r->file->mode & UIOPF_FILE_ERRORS)) || uiopf_is_over(r);
}

/* A worker has made the call, and was not kept in it. It succeeds at once, where it may complete, and fails by task work. */
static enum uiopf_issue nothing_for_worker(struct uiopf_request *r)
{
	const bool errors = (r->op_flags & MSG_ERRQUEUE) && (r->file->mode & UIOPF_FILE_ERRORS);

	end(r, errors ? -EAGAIN : 0);
	if (!errors && !(r->engine->setup_flags & IORING_SETUP_DEFER_TASKRUN))
		return UIOPF_DONE;
	uiopf_request_add_work(r, UIOPF_FINISH);
	return UIOPF_PENDING;
}

enum uiopf_issue uiopf_receive_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	uint32_t loops = 0, flags;
	enum uiopf_issue issue;
	bool nothing, more;
	int64_t n;
	int rc;

	r->unfindable = false;
	if (unlikely(r->punted && r->multishot && !r->started) && uiopf_worker_arms(r))
		return UIOPF_PENDING;
	if (polls_first(r) && !poll_first(r, &issue))
		return issue;
	/* What it was called for may be data, and it waits for errors. */
	if (unlikely(r->op_flags & MSG_ERRQUEUE) && r->started && !uiopf_worker_blocks(r) &&
	    !(r->file->ops->poll(r->file) & (r->events | POLLHUP)))
		return uiopf_wait_for_any_file(r);
	if (!r->file->ops->receive)
		return uiopf_done(r, -ENOTSOCK);
	if (unlikely(is_bundle(r)))
		return uiopf_done(r, -EINVAL);
	for (;;) {
		struct uiopf_selected buffer;
		int message = (int)r->op_flags;

		rc = find_room(r, &buffer);
		if (rc < 0) {
			uiopf_stop_waiting(r);
			return uiopf_done(r, rc);
		}
		n = receive(r, &buffer, &message);
		if (n == -EAGAIN && !(r->op_flags & MSG_DONTWAIT)) {
			if (r->multishot)
				return uiopf_wait_for_file(r);
			if (!uiopf_call_blocks(r))
				return uiopf_try_again(r);
			return is_not_kept(r) ? nothing_for_worker(r) : uiopf_wait_for_file(r);
		}
		if (n > 0)
			e->cost.bytes_copied += (uint64_t)n;
		if (unlikely((r->op_flags & MSG_WAITALL) && (message & MSG_TRUNC) && n >= r->length))
			fail(r);
		if (buffer.from && unlikely(r->op_flags & MSG_WAITALL) && n > 0) {
			hold(r, &buffer, (uint32_t)n);
			buffer.from = NULL;
		}
		if (wants_rest(r, n)) {
			r->cqe_flags &= ~IORING_CQE_F_BUF_MORE;	/* lost with who waits (io_net_kbuf_recyle) */
			return wait_for_rest(r);
		}
		flags = n >= 0 ? more_to_read(r) : 0;
		if (buffer.from && n > 0)
			flags |= uiopf_buffer_take(&buffer, (uint32_t)n);
		if (!r->multishot || !goes_on(r, n, flags)) {
			r->cqe_flags |= flags;
			return end(r, n);
		}
		r->length = r->expected;
		nothing = nothing_left(r);
		more = !nothing || has_ended(r);
		/* What is submitted looks for an end by task work. */
		if (more && ++loops < LOOPS && (!nothing || r->started))
			continue;
		if (r->op_flags & MSG_DONTWAIT)
			return end(r, -EAGAIN);
		if (more)
			uiopf_engine_add_work(r);
		return uiopf_wait_for_file(r);
	}
}

int uiopf_send_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	int rc = prepare(r, sqe, IORING_RECVSEND_POLL_FIRST | IORING_RECVSEND_BUNDLE);
	const uint8_t *from;
	uint8_t *address;

	if (rc < 0)
		return rc;
	r->events = POLLOUT | POLLWRNORM | POLLERR | POLLPRI;
	if (r->ioprio & IORING_RECVSEND_BUNDLE)
		r->op_flags |= MSG_WAITALL;
	r->extra = 0;
	if (sqe->addr2) {	/* to whom; the length of that is kept in `expected` */
		if (sqe->addr_len > sizeof(struct sockaddr_storage))
			return -EINVAL;
		from = uiopf_memory(r, sqe->addr2, sqe->addr_len);
		if (!from && sqe->addr_len)
			return -EFAULT;
		address = malloc(sizeof(struct sockaddr_storage));
		if (!address)
			return -ENOMEM;
		uiopf_copy_from_client(address, from, sqe->addr_len);
		r->extra = (uint64_t)(uintptr_t)address;
		r->owns_memory = true;
		r->expected = sqe->addr_len;
	}
	return check_address(r);
}

/*
 * The buffer of a SEND: 0 or -errno. It is used up when it is selected, however the request goes on and ends: its data were
 * the client's to send, and are not another's (io_buffers_select). A classic one is sent whole, whatever length is asked.
 */
static int select_data(struct uiopf_request *r)
{
	const struct uiopf_buffers *group = r->engine->buffers[r->buffer_group];
	struct uiopf_selected buffer;
	int rc;

	if (r->selected)
		return 0;
	if (!group)
		return -ENOENT;
	rc = uiopf_buffer_select(r->engine, r->buffer_group, group->ring ? r->length : 0, &buffer);
	if (rc < 0 && rc != -EFAULT)
		return rc;
	if (!buffer.length)
		return -ENOBUFS;
	r->length = buffer.length;
	hold(r, &buffer, buffer.length);
	return 0;
}

/* To a worker a bundle is a multishot, with or without buffers: it arms one, and cannot arm what is ready. */
static enum uiopf_issue arm_bundle(struct uiopf_request *r)
{
	if (r->file->ops->poll(r->file) & (r->events | POLLHUP)) {
		uiopf_request_end_later(r, -ECANCELED);
		return UIOPF_PENDING;
	}
	r->punted = r->sqe_flags & IOSQE_ASYNC;		/* then it is a worker's again when it is called (io_req_task_submit) */
	return uiopf_wait_for_any_file(r);
}

static int64_t send_once(struct uiopf_request *r)
{
	const uint8_t *to = r->owns_memory ? (const uint8_t *)(uintptr_t)r->extra : NULL;
	struct iovec piece[2] = { { uiopf_memory(r, r->address, r->length), r->length } };
	uint32_t count = 1;
	int64_t n;

	if (unlikely(!piece[0].iov_base && r->length)) {
		if (r->address > UIOPF_USER_END - r->length)
			return -EFAULT;
		count = uiopf_memory_pieces(r, r->address, r->length, piece);
	}
	n = r->file->ops->send(r->file, piece, count, (int)r->op_flags, to, to ? r->expected : 0);
	if (n > 0)
		r->engine->cost.bytes_copied += (uint64_t)n;
	return n;
}

/*
 * A bundle without buffers goes on when it has sent all, as if there could be more: it sends nothing, which may be a message,
 * and ends with that. Not if it has waited (io_send_finish).
 */
static bool sends_nothing_more(struct uiopf_request *r, int64_t n)
{
	bool called;	/* by nobody: it waits for nothing yet */

	if (likely(!(r->ioprio & IORING_RECVSEND_BUNDLE)) || n <= 0 || n < r->length || r->started ||
	    !uiopf_post_more(r, (int32_t)n, 0, &called))
		return false;
	r->length = 0;
	return true;
}

enum uiopf_issue uiopf_send_issue(struct uiopf_request *r)
{
	const struct uiopf_file_ops *ops = r->file->ops;
	enum uiopf_issue issue;
	int64_t n;
	int rc;

	r->unfindable = false;
	if (unlikely(r->punted && (r->ioprio & IORING_RECVSEND_BUNDLE)) && uiopf_may_be_armed(r->file))
		return arm_bundle(r);
	if (!ops->send)
		return uiopf_done(r, -ENOTSOCK);
	if (polls_first(r) && !poll_first(r, &issue))
		return issue;
	if (unlikely(is_bundle(r)))
		return uiopf_done(r, -EINVAL);
	if (r->sqe_flags & IOSQE_BUFFER_SELECT) {
		rc = select_data(r);
		if (rc < 0)
			return uiopf_done(r, rc);
	}
	do {
		n = send_once(r);
		if (n == -EAGAIN && !(r->op_flags & MSG_DONTWAIT))
			return uiopf_wait_for_file(r);
	} while (unlikely(sends_nothing_more(r, n)));
	return wants_rest(r, n) ? wait_for_rest(r) : end(r, n);
}
