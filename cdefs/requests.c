/*
 * The operations: NOP, POLL_ADD, ASYNC_CANCEL, READ, WRITE, READ_MULTISHOT.
 *
 * Each has a prepare, whose errors Linux reports before anything starts, and an issue. Sources by function: io_nop,
 * io_poll_add_prep and io_poll_add, io_async_cancel_prep and io_try_cancel, io_prep_rw and io_read, io_read_mshot.
 */
#include <errno.h>
#include <linux/fs.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

#include "engine.h"

#define POLL_ALWAYS (POLLERR | POLLHUP | POLLNVAL | POLLRDHUP)
#define FRUITLESS_WAKES 126	/* a poll-armed request tries again so often, then Linux asks a worker */
#define RWF_KNOWN (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | 0x20u /* RWF_NOAPPEND */)
#define RWF_BOTH_APPENDS (RWF_APPEND | 0x20u)
#define CANCEL_KNOWN (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ANY | \
		      IORING_ASYNC_CANCEL_FD_FIXED | IORING_ASYNC_CANCEL_USERDATA | IORING_ASYNC_CANCEL_OP)

static enum uiopf_issue done(struct uiopf_request *r, int32_t res)
{
	r->res = res;
	return UIOPF_DONE;
}

/* The file behind a descriptor; NULL is EBADF. No files can be registered yet, so a fixed one is never there. */
static struct uiopf_file *find_file(const struct uiopf_request *r, int32_t fd)
{
	if ((r->sqe_flags & IOSQE_FIXED_FILE) || fd < 0 || fd >= UIOPF_MAX_FILES)
		return NULL;
	return r->engine->core->file[fd];
}

static void hold_file(struct uiopf_request *r, struct uiopf_file *file)
{
	if (!r->file) {
		r->file = file;
		file->users++;
	}
}

static void on_wake(struct uiopf_wait *wait, uint32_t events)
{
	struct uiopf_request *r = container_of(wait, struct uiopf_request, wait);

	if (events && !(events & r->events))
		return;
	/* Multishots keep their place in the file's list; others leave it, and go to its head if they wait again. */
	if (!r->multishot)
		r->file->ops->cancel(r->file, wait);
	/* One wake is believed: what it said is not checked again. After more, only the file knows. */
	r->woken = r->working ? 0 : events & r->events;
	uiopf_engine_add_work(r);
}

static enum uiopf_issue wait_for_file(struct uiopf_request *r)
{
	if (!r->wait.link) {
		r->wait.wake = on_wake;
		r->file->ops->arm(r->file, &r->wait);
	}
	return UIOPF_PENDING;
}

static void stop_waiting(struct uiopf_request *r)
{
	if (r->wait.link)
		r->file->ops->cancel(r->file, &r->wait);
}

/* ---- NOP ---- */

static int nop_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	r->op_flags = sqe->nop_flags;
	if (r->op_flags & ~(uint32_t)IORING_NOP_INJECT_RESULT)
		return -EINVAL;
	r->res = r->op_flags & IORING_NOP_INJECT_RESULT ? (int32_t)sqe->len : 0;
	return 0;
}

static enum uiopf_issue nop_issue(struct uiopf_request *r)
{
	return done(r, r->res);
}

/* ---- READ, WRITE ---- */

static int ioprio_check(uint16_t ioprio)
{
	unsigned int class = ioprio >> 13, level = ioprio & 7;

	/* Class 0 is "none" and takes no level (2:0); 1 to 3 are real-time, best effort and idle. 12:3 is a hint. */
	return class > 3 || (class == 0 && level) ? -EINVAL : 0;
}

static int rw_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	int rc = ioprio_check(sqe->ioprio);

	if (rc < 0)
		return rc;
	r->position = sqe->off;
	r->address = sqe->addr;
	r->length = sqe->len;
	r->op_flags = sqe->rw_flags;
	r->buffer_group = sqe->buf_group;
	r->events = (r->opcode == IORING_OP_WRITE ? POLLOUT | POLLWRNORM : POLLIN | POLLRDNORM) | POLLERR | POLLPRI;
	if (r->sqe_flags & IOSQE_BUFFER_SELECT)
		return 0;
	if (r->address > UIOPF_USER_END - r->length)
		return -EFAULT;
	return 0;
}

/* The file is looked up before anything else, so that every later error is that of a descriptor which is open. */
static bool get_file(struct uiopf_request *r)
{
	struct uiopf_file *file = r->file ? r->file : find_file(r, r->fd);

	if (file)
		hold_file(r, file);
	return file;
}

/* What Linux looks at once it has the file and the buffer, in its order; 0 or -errno. */
static int rw_check(const struct uiopf_request *r, uint32_t mode)
{
	if (!(r->file->mode & mode))
		return -EBADF;
	if (r->op_flags & ~(uint32_t)RWF_KNOWN)
		return -EOPNOTSUPP;
	/* Only a file that promises not to block can be asked not to. */
	if ((r->op_flags & RWF_NOWAIT) && !(r->file->mode & UIOPF_FILE_ITER))
		return -EOPNOTSUPP;
	if ((r->op_flags & RWF_BOTH_APPENDS) == RWF_BOTH_APPENDS)
		return -EINVAL;
	if (r->op_flags & RWF_HIPRI)	/* polled I/O, on a ring without it */
		return -EINVAL;
	return 0;
}

/* -1 is the file's own position; no other may be negative, nor the end. */
static bool bad_position(const struct uiopf_request *r, uint64_t length)
{
	return r->position != UINT64_MAX && (r->position > INT64_MAX || r->position + length > INT64_MAX);
}

/*
 * A file with only `read` and `write` (the merged fault file) can be used by the ring in two ways. With O_NONBLOCK it
 * is called at once, and whatever it says is the result. Without, Linux arms a poll, and when that fires tries 128
 * times in vain before a worker thread makes the blocking call: our worker thread is the next turn of the engine.
 */
static bool needs_worker(const struct uiopf_file *file)
{
	return !(file->mode & (UIOPF_FILE_ITER | UIOPF_FILE_NONBLOCK));
}

static enum uiopf_issue punt(struct uiopf_request *r)
{
	r->punted = true;
	r->engine->cost.punts++;
	stop_waiting(r);
	uiopf_engine_add_work(r);
	return UIOPF_PENDING;
}

/* One read, into memory that the client may not have (NULL): only data that comes finds out, and it stays. */
static int64_t read_file(struct uiopf_request *r, uint8_t *to, uint64_t length)
{
	struct uiopf_file *file = r->file;

	if (unlikely(bad_position(r, length)))
		return -EINVAL;
	if (likely(to) || !length)
		return file->ops->read(file, to, length, (int64_t)r->position);
	if (file->ops->poll(file) & POLLIN)
		return -EFAULT;
	return file->mode & UIOPF_FILE_ITER ? -EAGAIN : 0;
}

static enum uiopf_issue read_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	struct uiopf_selected buffer = { .length = r->length };
	int64_t n;
	int rc;

	if (!get_file(r))
		return done(r, -EBADF);
	if (r->sqe_flags & IOSQE_BUFFER_SELECT) {
		rc = uiopf_buffer_select(e, r->buffer_group, r->length, &buffer);
		if (rc < 0)
			return done(r, rc);
	} else {
		buffer.map = uiopf_windows_find(&e->windows, r->address, r->length);
	}
	rc = rw_check(r, UIOPF_FILE_READ);
	if (rc < 0)
		return done(r, rc);
	if (needs_worker(r->file) && !r->punted)
		return r->file->ops->poll(r->file) & POLLIN ? punt(r) : wait_for_file(r);
	r->expected = buffer.length;
	n = read_file(r, buffer.map, buffer.length);
	if (n == -EAGAIN && !(r->op_flags & RWF_NOWAIT) &&
	    (r->fruitless++ <= FRUITLESS_WAKES || !(r->file->mode & UIOPF_FILE_NONBLOCK)))
		return wait_for_file(r);	/* the buffer was not taken: another may have it meanwhile */
	if (n >= 0) {
		e->cost.bytes_copied += (uint64_t)n;
		if (buffer.from)	/* also by an end of file, which a multishot leaves untaken */
			r->cqe_flags = uiopf_buffer_take(&buffer);
	}
	return done(r, (int32_t)n);
}

static enum uiopf_issue write_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	const uint8_t *from;
	int64_t n;
	int rc;

	if (!get_file(r))
		return done(r, -EBADF);
	rc = rw_check(r, UIOPF_FILE_WRITE);
	if (rc < 0)
		return done(r, rc);
	if (needs_worker(r->file) && !r->punted)
		return punt(r);
	if (bad_position(r, r->length))
		return done(r, -EINVAL);
	from = uiopf_windows_find(&e->windows, r->address, r->length);
	if (!from && r->length)
		return done(r, -EFAULT);
	r->expected = r->length;
	n = r->file->ops->write(r->file, from, r->length, (int64_t)r->position);
	if (n == -EAGAIN && !(r->op_flags & RWF_NOWAIT))
		return wait_for_file(r);
	stop_waiting(r);
	if (n > 0)
		e->cost.bytes_copied += (uint64_t)n;
	return done(r, (int32_t)n);
}

/*
 * A WRITE that asks for nothing special, to a file that takes it at once, needs no request: there is nothing to hold on
 * to. Answers to faults are such writes. Whatever is out of the ordinary is left to the general way, untouched.
 */
bool uiopf_write_plainly(struct uiopf_engine *e, const struct io_uring_sqe *sqe)
{
	struct uiopf_file *file;
	const uint8_t *from;
	int64_t n;

	if (sqe->opcode != IORING_OP_WRITE || (sqe->flags & ~IOSQE_CQE_SKIP_SUCCESS) || sqe->ioprio || sqe->rw_flags ||
	    sqe->personality || (sqe->off && sqe->off != UINT64_MAX) || sqe->addr > UIOPF_USER_END - sqe->len ||
	    (uint32_t)sqe->fd >= UIOPF_MAX_FILES)
		return false;
	file = e->core->file[sqe->fd];
	if (!file || !(file->mode & UIOPF_FILE_WRITE) || needs_worker(file))
		return false;
	from = uiopf_windows_find(&e->windows, sqe->addr, sqe->len);
	if (!from)
		return false;
	n = file->ops->write(file, from, sqe->len, (int64_t)sqe->off);
	if (n == -EAGAIN)
		return false;
	if (likely(n == sqe->len)) {
		e->cost.bytes_copied += sqe->len;
		if (sqe->flags & IOSQE_CQE_SKIP_SUCCESS)
			return true;
	}
	uiopf_complete(e, sqe->user_data, (int32_t)n, 0);
	return true;
}

/* ---- READ_MULTISHOT ---- */

static int multishot_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	int rc;

	if (!(r->sqe_flags & IOSQE_BUFFER_SELECT))
		return -EINVAL;
	rc = rw_prepare(r, sqe);
	if (rc < 0)
		return rc;
	if (r->address || r->length)
		return -EINVAL;
	r->multishot = true;
	return 0;
}

static enum uiopf_issue multishot_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	int rc;

	if (!get_file(r))
		return done(r, -EBADF);
	if (!(r->file->mode & UIOPF_FILE_POLL))
		return done(r, -EBADFD);
	/* A wake that said what for is believed; otherwise nothing is tried, and no buffer missed, before there is data. */
	if (r->listed && !r->woken && !(r->file->ops->poll(r->file) & POLLIN))
		return wait_for_file(r);
	r->woken = 0;
	for (;;) {
		struct uiopf_selected buffer;
		uint32_t flags;
		int64_t n;

		rc = uiopf_buffer_select(e, r->buffer_group, 0, &buffer);
		if (unlikely(rc < 0))
			break;
		if (!r->listed) {
			rc = rw_check(r, UIOPF_FILE_READ);
			if (rc < 0)
				break;
		}
		/* Armed, and never served: each retry is refused as it may not block. Measured on Linux 7.2. */
		if (unlikely(needs_worker(r->file)))
			return wait_for_file(r);
		n = read_file(r, buffer.map, buffer.length);
		if (n == -EAGAIN && !(r->op_flags & RWF_NOWAIT))
			return wait_for_file(r);
		if (unlikely(n <= 0)) {
			rc = (int)n;
			break;
		}
		e->cost.bytes_copied += (uint64_t)n;
		flags = uiopf_buffer_take(&buffer);
		if (unlikely(!uiopf_complete_more(e, r->user_data, (int32_t)n, flags))) {
			/* No room: these bytes end the request, by way of the backlog. */
			r->cqe_flags = flags;
			rc = (int)n;
			break;
		}
		if (!(r->file->ops->poll(r->file) & POLLIN))
			return wait_for_file(r);
		if (!r->listed) {	/* the first is posted by the submission, what else is there by task work */
			r->woken = POLLIN;
			uiopf_engine_add_work(r);
			return wait_for_file(r);
		}
	}
	stop_waiting(r);
	return done(r, rc);
}

/* ---- POLL_ADD ---- */

static int poll_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	if (sqe->buf_index || sqe->off || sqe->addr)
		return -EINVAL;
	if (sqe->len & ~(uint32_t)IORING_POLL_ADD_MULTI)
		return -EINVAL;
	if ((sqe->len & IORING_POLL_ADD_MULTI) && (r->sqe_flags & IOSQE_CQE_SKIP_SUCCESS))
		return -EINVAL;
	r->events = sqe->poll32_events | POLL_ALWAYS;
	/* EPOLLONESHOT is among the events that a client may name, and wins. */
	r->multishot = (sqe->len & IORING_POLL_ADD_MULTI) && !(r->events & EPOLLONESHOT);
	return 0;
}

static enum uiopf_issue poll_issue(struct uiopf_request *r)
{
	uint32_t mask = r->woken;

	if (!get_file(r))
		return done(r, -EBADF);
	if (!(r->file->mode & UIOPF_FILE_POLL))	/* as a regular file: always ready */
		return done(r, (int32_t)((POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) & r->events));
	r->woken = 0;
	if (!mask)
		mask = r->file->ops->poll(r->file) & r->events;
	if (!mask)
		return wait_for_file(r);
	if (r->multishot && !r->listed) {	/* ready when armed: posted by task work, behind the batch */
		r->woken = mask;
		uiopf_engine_add_work(r);
		return wait_for_file(r);
	}
	if (r->multishot && uiopf_complete_more(r->engine, r->user_data, (int32_t)mask, 0))
		return wait_for_file(r);
	stop_waiting(r);
	return done(r, (int32_t)mask);
}

/* ---- ASYNC_CANCEL ---- */

static int cancel_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	if (r->sqe_flags & IOSQE_BUFFER_SELECT)
		return -EINVAL;
	if (sqe->off || sqe->splice_fd_in)
		return -EINVAL;
	r->address = sqe->addr;
	r->op_flags = sqe->cancel_flags;
	r->length = (uint8_t)sqe->len;	/* an opcode: Linux keeps it in a byte */
	if (r->op_flags & ~(uint32_t)CANCEL_KNOWN)
		return -EINVAL;
	if ((r->op_flags & (IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP)) &&
	    (r->op_flags & IORING_ASYNC_CANCEL_ANY))
		return -EINVAL;
	return 0;
}

static bool cancel_matches(const struct uiopf_request *r, const struct uiopf_file *file,
			   const struct uiopf_request *target)
{
	uint32_t f = r->op_flags;
	bool by_user_data = (f & IORING_ASYNC_CANCEL_USERDATA) ||
			    !(f & (IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP));

	if (target->cancelled)
		return false;
	if (f & IORING_ASYNC_CANCEL_ANY)
		return true;
	if ((f & IORING_ASYNC_CANCEL_FD) && target->file != file)
		return false;
	if ((f & IORING_ASYNC_CANCEL_OP) && target->opcode != r->length)
		return false;
	return !by_user_data || target->user_data == r->address;
}

/*
 * Linux finds what to cancel in a hash table: buckets in order, newest first in each. The hash is of user_data, and
 * the table's size follows the CQ's (io_alloc_hash_table; the order was checked on Linux 6.18).
 */
#define CANCEL_BUCKETS 256u

static uint32_t cancel_bucket(const struct uiopf_engine *e, uint64_t user_data)
{
	int bits = 31 - __builtin_clz(e->ring.cq_entries) - 5;

	bits = bits < 1 ? 1 : bits > 8 ? 8 : bits;
	return (uint32_t)(user_data * 0x61c8864680b583ebu >> (64 - bits));
}

static enum uiopf_issue cancel_issue(struct uiopf_request *r)
{
	const bool all = r->op_flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
	struct uiopf_request *bucket[CANCEL_BUCKETS] = { NULL }, **end[CANCEL_BUCKETS], *target;
	struct uiopf_file *file = NULL;
	int32_t n = 0;
	uint32_t b;

	if (r->op_flags & IORING_ASYNC_CANCEL_FD) {
		if (r->op_flags & IORING_ASYNC_CANCEL_FD_FIXED)
			r->sqe_flags |= IOSQE_FIXED_FILE;
		file = find_file(r, r->fd);
		if (!file)
			return done(r, -EBADF);
	}
	for (b = 0; b < CANCEL_BUCKETS; b++)
		end[b] = &bucket[b];
	for (target = r->engine->last; target; target = target->prev) {
		if (!cancel_matches(r, file, target))
			continue;
		b = cancel_bucket(r->engine, target->user_data);
		target->bucket_next = NULL;
		*end[b] = target;
		end[b] = &target->bucket_next;
	}
	for (b = 0; b < CANCEL_BUCKETS; b++)
		for (target = bucket[b]; target; target = target->bucket_next) {
			uiopf_request_cancel(target);
			n++;
			if (!all)
				return done(r, 0);
		}
	return done(r, all ? n : -ENOENT);
}

/* ---- the table ---- */

static const struct operation {
	int (*prepare)(struct uiopf_request *, const struct io_uring_sqe *);
	enum uiopf_issue (*issue)(struct uiopf_request *);
	bool buffer_select, ioprio;
} operation[IORING_OP_LAST] = {
	[IORING_OP_NOP] = { nop_prepare, nop_issue, false, false },
	[IORING_OP_POLL_ADD] = { poll_prepare, poll_issue, false, false },
	[IORING_OP_ASYNC_CANCEL] = { cancel_prepare, cancel_issue, false, false },
	[IORING_OP_READ] = { rw_prepare, read_issue, true, true },
	[IORING_OP_WRITE] = { rw_prepare, write_issue, false, true },
	[IORING_OP_READ_MULTISHOT] = { multishot_prepare, multishot_issue, true, false },
};

/* What works here; links, drain and registered files come with a later release and are refused like unknown bits. */
#define SQE_FLAGS_KNOWN (IOSQE_FIXED_FILE | IOSQE_ASYNC | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS)

int uiopf_request_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	const struct operation *op;

	r->file = NULL;
	r->wait.link = NULL;
	r->user_data = sqe->user_data;
	r->opcode = sqe->opcode;
	r->sqe_flags = sqe->flags;
	r->fd = sqe->fd;
	r->cqe_flags = 0;
	r->events = r->woken = r->expected = 0;
	r->listed = r->working = r->multishot = r->cancelled = r->punted = false;
	r->fruitless = 0;
	if (sqe->opcode >= IORING_OP_LAST || !operation[sqe->opcode].issue)
		return -EINVAL;
	op = &operation[sqe->opcode];
	if (sqe->flags & ~SQE_FLAGS_KNOWN)
		return -EINVAL;
	if ((sqe->flags & IOSQE_BUFFER_SELECT) && !op->buffer_select)
		return -EOPNOTSUPP;
	if (sqe->ioprio && !op->ioprio)
		return -EINVAL;
	if (sqe->personality)
		return -EINVAL;
	return op->prepare(r, sqe);
}

enum uiopf_issue uiopf_request_issue(struct uiopf_request *r)
{
	return operation[r->opcode].issue(r);
}

enum uiopf_issue uiopf_request_continue(struct uiopf_request *r)
{
	if (r->cancelled) {
		stop_waiting(r);
		return done(r, -ECANCELED);
	}
	return operation[r->opcode].issue(r);
}
