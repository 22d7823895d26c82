/*
 * READ, READV, READ_FIXED, WRITE, WRITEV, WRITE_FIXED, READ_MULTISHOT.
 *
 * Source: io_prep_rw, io_prep_rwv, io_prep_rw_fixed, io_read, io_write, io_read_mshot; Linux 6.12.
 */
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "rings/requests/again.h"
#include "rings/requests/requests.h"
#include "rings/submit.h"

#define MOST_WAKES 126		/* of one that finds nothing and does not block; then it says so (APOLL_MAX_RETRY) */
#define RWF_KNOWN (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | 0x20u /* RWF_NOAPPEND */)
#define RWF_BOTH_APPENDS (RWF_APPEND | 0x20u)
#define MOST_BYTES 0x7ffff000u		/* MAX_RW_COUNT: of a longer request only so many are moved */
#define MOST_SEGMENTS 1024u
#define READS_A_TURN 32u		/* of a multishot, then others have their turn */
#define READABLE (POLLIN | POLLHUP | POLLERR)	/* or at its end */

static bool writes(const struct uiopf_request *r)
{
	return r->opcode == IORING_OP_WRITE || r->opcode == IORING_OP_WRITEV || r->opcode == IORING_OP_WRITE_FIXED ||
	       r->opcode == IORING_OP_WRITEV_FIXED;
}

/* ---- preparing ---- */

static int ioprio_check(uint16_t ioprio)
{
	unsigned int class = ioprio >> 13, level = ioprio & 7;

	/* Class 0 is "none" and takes no level (2:0); 1 to 3 are real-time, best effort and idle. 12:3 is a hint. */
	return class > 3 || (class == 0 && level) ? -EINVAL : 0;
}

static int prepare_fields(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	int rc = ioprio_check(sqe->ioprio);

	if (rc < 0)
		return rc;
	if (sqe->attr_type_mask && r->engine->kernel >= UIOPF_LINUX(6, 14)) {
		/* Protection information, which is for files that have it; it is loaded before the file is known. */
		if (sqe->attr_type_mask == IORING_RW_ATTR_FLAG_PI &&
		    !uiopf_memory(r, sqe->attr_ptr, sizeof(struct io_uring_attr_pi)))
			return -EFAULT;
		return -EINVAL;
	}
	r->position = sqe->off;
	r->address = sqe->addr;
	r->length = sqe->len;
	r->op_flags = sqe->rw_flags;
	r->buffer_group = sqe->buf_group;
	r->exact = true;
	r->events = (writes(r) ? POLLOUT | POLLWRNORM : POLLIN | POLLRDNORM) | POLLERR | POLLPRI;
	return 0;
}

int uiopf_rw_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	int rc = prepare_fields(r, sqe);

	if (rc < 0 || (r->sqe_flags & IOSQE_BUFFER_SELECT))
		return rc;
	if (r->length > MOST_BYTES)
		r->length = MOST_BYTES;
	return r->address > UIOPF_USER_END - r->length ? -EFAULT : 0;
}

/* The registered buffer is looked up here by kernels up to 6.14, and by later ones when the request starts. */
int uiopf_rw_fixed_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	int rc = prepare_fields(r, sqe);
	uint8_t *map;

	if (rc < 0 || r->engine->kernel >= UIOPF_LINUX(6, 15))
		return rc;
	return uiopf_fixed_buffer(r->engine, r->buffer_group, r->address, r->length, &map, &r->buffer_node);
}

/* A vector is the client's until here: it is copied, with its total in front. */
struct vector {
	uint64_t total;
	uint32_t count;
	struct iovec at[];
};

static struct vector *vector_of(const struct uiopf_request *r)
{
	return (struct vector *)(uintptr_t)r->extra;
}

/* Segments of a registered buffer are compared with it, and with nothing else, when the request starts. */
static int load_vector(struct uiopf_request *r, struct vector *v)
{
	const bool anywhere = r->opcode == IORING_OP_READV_FIXED || r->opcode == IORING_OP_WRITEV_FIXED;
	const uint8_t *from = uiopf_memory(r, r->address, v->count * sizeof(struct iovec));
	uint32_t i;

	if (!from && v->count)
		return -EFAULT;
	uiopf_copy_from_client(v->at, from, v->count * sizeof(struct iovec));
	for (i = 0; i < v->count; i++) {
		const uint64_t base = (uint64_t)(uintptr_t)v->at[i].iov_base;

		if (v->at[i].iov_len > INT64_MAX)
			return -EINVAL;
		if (v->at[i].iov_len > MOST_BYTES - v->total)
			v->at[i].iov_len = MOST_BYTES - v->total;
		if (!anywhere && base > UIOPF_USER_END - v->at[i].iov_len)
			return -EFAULT;
		v->total += v->at[i].iov_len;
	}
	return 0;
}

int uiopf_rw_vector_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	int rc = prepare_fields(r, sqe);
	struct iovec one;
	const uint8_t *from;
	struct vector *v;

	if (rc < 0)
		return rc;
	if (r->sqe_flags & IOSQE_BUFFER_SELECT) {	/* one, whose length counts */
		if (r->length != 1)
			return -EINVAL;
		from = uiopf_memory(r, r->address, sizeof one);
		if (!from)
			return -EFAULT;
		uiopf_copy_from_client(&one, from, sizeof one);
		if (one.iov_len > UINT32_MAX)
			return -EINVAL;
		r->length = (uint32_t)one.iov_len;
		return 0;
	}
	if (r->length > MOST_SEGMENTS)
		return -EINVAL;
	v = malloc(sizeof *v + r->length * sizeof v->at[0]);
	if (!v)
		return -ENOMEM;
	v->total = 0;
	v->count = r->length;
	rc = load_vector(r, v);
	if (rc < 0) {
		free(v);
		return rc;
	}
	r->extra = (uint64_t)(uintptr_t)v;
	r->owns_memory = true;
	r->length = (uint32_t)v->total;
	return 0;
}

/* ---- starting ---- */

/* What Linux looks at once it has the file and the buffer, in its order; 0 or -errno. */
static int rw_check(const struct uiopf_request *r, uint32_t mode)
{
	if (!(r->file->mode & mode))
		return -EBADF;
	if (r->op_flags & ~(uint32_t)RWF_KNOWN)
		return -EOPNOTSUPP;
	/* Only a file that promises not to block can be asked not to. */
	if ((r->op_flags & RWF_NOWAIT) && (r->file->mode & (UIOPF_FILE_ITER | UIOPF_FILE_WAITS)) != UIOPF_FILE_ITER)
		return -EOPNOTSUPP;
	if ((r->op_flags & RWF_BOTH_APPENDS) == RWF_BOTH_APPENDS)
		return -EINVAL;
	if (unlikely(r->engine->setup_flags & IORING_SETUP_IOPOLL))
		return -EOPNOTSUPP;	/* no file here can be polled for completions */
	if (r->op_flags & RWF_HIPRI)	/* polled I/O, on a ring without it */
		return -EINVAL;
	return 0;
}

/* A ring can be polled, and has neither operation: Linux finds that when it would call one. */
static bool has_neither(const struct uiopf_file *file)
{
	return !file->ops->read;
}

/* With O_NONBLOCK it would at once, otherwise not before the file is ready (io_file_supports_nowait). */
static bool would_call(struct uiopf_file *file, uint32_t events)
{
	return file->mode & UIOPF_FILE_NONBLOCK || file->ops->poll(file) & events;
}

/* -1 is the file's own position; no other may be negative, nor the end. */
static bool bad_position(const struct uiopf_request *r, uint64_t length)
{
	return r->position != UINT64_MAX && (r->position > INT64_MAX || r->position + length > INT64_MAX);
}

/*
 * A file with only `read` and `write` (the merged fault file) can be used by the ring in two ways. With O_NONBLOCK it
 * is called at once, and whatever it says is the result. Without, Linux arms a poll. When the file is ready it tries
 * again, in vain, until a worker does (again.c).
 */
static bool needs_worker(const struct uiopf_file *file)
{
	return !(file->mode & (UIOPF_FILE_ITER | UIOPF_FILE_NONBLOCK));
}

/* The same for one that has only `write` (an eventfd), whatever it reads with. */
static bool needs_worker_to_write(const struct uiopf_file *file)
{
	return !(file->mode & UIOPF_FILE_NONBLOCK) &&
	       (file->mode & (UIOPF_FILE_ITER | UIOPF_FILE_LOOPS)) != UIOPF_FILE_ITER;
}

static enum uiopf_issue try_again(struct uiopf_request *r)
{
	/* Found as soon as the file is ready, and before all else. */
	if ((needs_worker(r->file) || writes(r)) && bad_position(r, r->length) &&
	    (r->file->ops->poll(r->file) & (r->events | POLLHUP)))
		return uiopf_done(r, -EINVAL);
	return uiopf_try_again(r);
}

/*
 * What a worker's call comes to. It fails by task work, and so does it succeed where only the submitter may complete
 * (io_wq_submit_work, io_req_complete_post).
 */
static enum uiopf_issue worker_done(struct uiopf_request *r, int32_t res)
{
	if (res >= 0 && !(r->engine->setup_flags & IORING_SETUP_DEFER_TASKRUN))
		return uiopf_done(r, res);
	uiopf_request_end_later(r, res);
	return UIOPF_PENDING;
}

/*
 * A call with memory of which the client has a part at most. The host is asked as by any of its processes: a file may say
 * something else first, take what there is, or lose a message. A fault keeps its place, until somebody has memory for it.
 */
static __attribute__((noinline)) int64_t move_nowhere(struct uiopf_request *r, uint64_t address, uint64_t length)
{
	struct uiopf_file *file = r->file;
	struct iovec piece[2];
	uint32_t n;

	if (file->mode & UIOPF_FILE_HINTS) {
		n = uiopf_memory_pieces(r, address, length, piece);
		return writes(r) ? file->ops->write_pieces(file, piece, n, (int64_t)r->position) :
				   file->ops->read_pieces(file, piece, n, (int64_t)r->position);
	}
	if (writes(r) || file->ops->poll(file) & POLLIN)
		return -EFAULT;
	return file->mode & UIOPF_FILE_ITER ? -EAGAIN : 0;
}

/* One read, into memory that the client may not have (NULL). */
hot_inline int64_t read_file(struct uiopf_request *r, uint8_t *to, uint64_t address, uint64_t length)
{
	struct uiopf_file *file = r->file;

	if (unlikely(bad_position(r, length)))
		return -EINVAL;
	if (unlikely(!length && !(file->mode & UIOPF_FILE_ITER)))
		return 0;	/* `read` is called for what is left, and nothing is (loop_rw_iter) */
	if (likely(to) || !length)
		return file->ops->read(file, to, length, (int64_t)r->position);
	return move_nowhere(r, address, length);
}

/* A file with only `read` and `write` is called for each segment, until one is not filled (loop_rw_iter). */
static int64_t loop_vector(struct uiopf_request *r, const struct vector *v)
{
	struct uiopf_file *file = r->file;
	int64_t sum = 0, n = 0;
	uint32_t i;

	for (i = 0; i < v->count; i++) {
		uint8_t *at = uiopf_memory(r, (uint64_t)(uintptr_t)v->at[i].iov_base, v->at[i].iov_len);

		if (!v->at[i].iov_len)
			continue;
		n = !at ? move_nowhere(r, (uint64_t)(uintptr_t)v->at[i].iov_base, v->at[i].iov_len) :
		    writes(r) ? file->ops->write(file, at, v->at[i].iov_len, (int64_t)r->position) :
						file->ops->read(file, at, v->at[i].iov_len, (int64_t)r->position);
		if (n < 0)
			return sum ? sum : n;
		sum += n;
		if ((uint64_t)n != v->at[i].iov_len)
			break;
	}
	return sum;
}

/*
 * The segments where we have them, without the empty ones: how many. From where the client has no memory on, all is one
 * segment at no address. Nothing is copied: what a segment costs is its place in the array, whatever its length.
 */
static uint32_t map_vector(const struct uiopf_request *r, const struct vector *v, struct iovec *piece)
{
	uint64_t total = v->total, length, reach;
	uint32_t i, n = 0;

	for (i = 0; i < v->count; i++) {
		const uint64_t address = (uint64_t)(uintptr_t)v->at[i].iov_base;

		length = v->at[i].iov_len;
		if (!length)
			continue;
		piece[n] = (struct iovec){ uiopf_memory(r, address, length), length };
		if (unlikely(!piece[n].iov_base)) {
			reach = n + 1 < MOST_SEGMENTS ? uiopf_windows_reach(&r->engine->windows, address, length) : 0;
			if (reach)
				piece[n++] = (struct iovec){ uiopf_memory(r, address, reach), reach };
			piece[n++] = (struct iovec){ NULL, total - reach };
			return n;
		}
		total -= length;
		n++;
	}
	return n;
}

/* Other files are called once, with all of it: a message is one message. */
static int64_t move_vector(struct uiopf_request *r)
{
	const struct vector *v = vector_of(r);
	struct uiopf_file *file = r->file;
	struct iovec piece[MOST_SEGMENTS];
	uint32_t n;

	if (unlikely(bad_position(r, v->total)))
		return -EINVAL;
	if (!(file->mode & UIOPF_FILE_ITER) || (writes(r) && (file->mode & UIOPF_FILE_LOOPS)))
		return loop_vector(r, v);
	n = map_vector(r, v, piece);
	return writes(r) ? file->ops->write_pieces(file, piece, n, (int64_t)r->position) :
			   file->ops->read_pieces(file, piece, n, (int64_t)r->position);
}

static bool is_vector(const struct uiopf_request *r)
{
	return r->owns_memory;
}

/* Every segment must lie in the registered buffer, and none may be empty. */
static int find_fixed_vector(struct uiopf_request *r)
{
	const struct vector *v = vector_of(r);
	uint32_t i;
	int rc;

	if (!v->count && !r->buffer_node)
		return -EINVAL;
	for (i = 0; i < v->count; i++) {
		struct uiopf_node *node;
		uint8_t *map;

		rc = uiopf_fixed_buffer(r->engine, r->buffer_group, (uint64_t)(uintptr_t)v->at[i].iov_base,
					v->at[i].iov_len, &map, &node);
		if (rc < 0)
			return rc;
		if (r->buffer_node || !v->at[i].iov_len)
			uiopf_node_put(r->engine, node);
		else
			r->buffer_node = node;
		if (!v->at[i].iov_len)
			return -EFAULT;
	}
	return 0;
}

/* The buffer of a fixed operation: 0 or -errno. */
static int find_fixed(struct uiopf_request *r, uint8_t **map)
{
	struct uiopf_node **node = &r->buffer_node;

	if (is_vector(r))
		return find_fixed_vector(r);
	if (*node)	/* it was looked up before, and is kept even if its slot has another by now */
		return (*map = uiopf_memory(r, r->address, r->length)) || !r->length ? 0 : -EFAULT;
	return uiopf_fixed_buffer(r->engine, r->buffer_group, r->address, r->length, map, node);
}

static bool is_fixed(const struct uiopf_request *r)
{
	return r->opcode == IORING_OP_READ_FIXED || r->opcode == IORING_OP_WRITE_FIXED ||
	       r->opcode == IORING_OP_READV_FIXED || r->opcode == IORING_OP_WRITEV_FIXED;
}

/*
 * The buffer of a READ: 0 or -errno. A classic one is taken now and kept, however the request goes on and ends; one of a
 * ring stays where it is until bytes have come, and another may have it meanwhile, unless a worker has selected it. But the
 * length of the first that was seen is a limit from then on (io_import_rw_buffer).
 */
static int select_buffer(struct uiopf_request *r, struct uiopf_selected *buffer)
{
	int rc;

	if (unlikely(r->selected)) {
		buffer->map = uiopf_memory(r, r->address, r->length);
		buffer->length = r->length;
		return 0;
	}
	rc = uiopf_buffer_select(r->engine, r->buffer_group, r->length, buffer);
	if (unlikely(rc < 0))
		return rc;
	r->length = buffer->length;
	if (likely(buffer->from->ring && !r->punted))
		return 0;
	if (unlikely(!buffer->from->ring && r->opcode == IORING_OP_READ_MULTISHOT))	/* it goes back (io_kbuf_recycle) */
		return 0;
	r->selected = true;
	r->address = buffer->address;
	r->cqe_flags = uiopf_buffer_take(buffer, buffer->length);
	buffer->from = NULL;
	return 0;
}

/*
 * A file that makes no promise is not read before it has data. Its end is none: that is tried in vain, until a worker makes
 * the call, or at once by one that was asked for, for whom an armed poll would be ready (io_file_supports_nowait).
 */
static bool is_too_early(const struct uiopf_request *r)
{
	uint32_t ready;

	if (likely(!(r->file->mode & UIOPF_FILE_WAITS)) || (r->file->mode & UIOPF_FILE_NONBLOCK) || uiopf_worker_blocks(r))
		return false;
	ready = r->file->ops->poll(r->file);
	return !(ready & POLLIN) && !(r->punted && (ready & (r->events | POLLHUP)));
}

/* Whether it waits for a file that has nothing to read, or no room. A worker's call does not know RWF_NOWAIT. */
static bool may_wait(const struct uiopf_request *r)
{
	if (uiopf_worker_blocks(r))
		return !(r->file->mode & UIOPF_FILE_NONBLOCK);
	return !(r->op_flags & RWF_NOWAIT);
}

/* A worker has made the call, and was not kept in it. */
static enum uiopf_issue nothing_for_worker(struct uiopf_request *r)
{
	uiopf_stop_waiting(r);
	return worker_done(r, r->file->mode & UIOPF_FILE_NONBLOCK ? -EAGAIN : 0);
}

enum uiopf_issue uiopf_rw_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	struct uiopf_selected buffer = { .length = r->length, .address = r->address };
	int64_t n;
	int rc;

	if (r->sqe_flags & IOSQE_BUFFER_SELECT) {
		rc = select_buffer(r, &buffer);
		if (rc < 0)
			return uiopf_done(r, rc);
	} else if (unlikely(is_fixed(r))) {
		rc = find_fixed(r, &buffer.map);
		if (rc < 0)
			return uiopf_done(r, rc);
	} else if (likely(!is_vector(r))) {
		buffer.map = uiopf_memory(r, r->address, r->length);
	}
	rc = rw_check(r, UIOPF_FILE_READ);
	if (rc < 0)
		return uiopf_done(r, rc);
	if (unlikely(has_neither(r->file)))
		return uiopf_worker_blocks(r) || would_call(r->file, POLLIN) ? uiopf_done(r, -EINVAL) :
									       uiopf_wait_for_any_file(r);
	if ((needs_worker(r->file) && !r->punted) || unlikely(is_too_early(r)))
		return try_again(r);
	r->expected = buffer.length;
	n = unlikely(is_vector(r)) ? move_vector(r) : read_file(r, buffer.map, buffer.address, buffer.length);
	if (n == -EAGAIN && may_wait(r)) {
		if (r->file->mode & UIOPF_FILE_HINTS) {
			if (!uiopf_call_blocks(r))
				return uiopf_try_again(r);
			if (!(r->file->mode & UIOPF_FILE_NONBLOCK) && !uiopf_is_over(r))
				return uiopf_wait_for_file(r);
			return nothing_for_worker(r);
		}
		if (r->fruitless++ <= MOST_WAKES || !(r->file->mode & UIOPF_FILE_NONBLOCK))
			return uiopf_wait_for_file(r);
	}
	if (likely(n >= 0)) {
		e->cost.bytes_copied += (uint64_t)n;
		if (buffer.from && (n || r->opcode != IORING_OP_READ_MULTISHOT))	/* also by an end of file, but for a multishot's */
			r->cqe_flags = uiopf_buffer_take(&buffer, (uint32_t)n);
	}
	return unlikely(r->punted && needs_worker(r->file)) ? worker_done(r, (int32_t)n) : uiopf_done(r, (int32_t)n);
}

enum uiopf_issue uiopf_write_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	uint8_t *from = NULL;
	int64_t n;
	int rc;

	if (unlikely(is_fixed(r))) {
		rc = find_fixed(r, &from);
		if (rc < 0)
			return uiopf_done(r, rc);
	}
	rc = rw_check(r, UIOPF_FILE_WRITE);
	if (rc < 0)
		return uiopf_done(r, rc);
	if (unlikely(has_neither(r->file))) {
		if (!uiopf_worker_blocks(r) && !would_call(r->file, POLLOUT))
			return uiopf_wait_for_any_file(r);
		uiopf_stop_waiting(r);
		if (bad_position(r, r->length))		/* found before that, and not by task work */
			return uiopf_done(r, -EINVAL);
		uiopf_request_end_later(r, -EINVAL);
		return UIOPF_PENDING;
	}
	if (needs_worker_to_write(r->file) && !r->punted) {
		if (!(r->op_flags & RWF_NOWAIT))
			return try_again(r);
		uiopf_request_end_later(r, -EAGAIN);
		return UIOPF_PENDING;
	}
	r->expected = r->length;
	if (bad_position(r, r->length))
		return uiopf_done(r, -EINVAL);
	/* A worker, too, may not call the `write` of a file that could block (loop_rw_iter). */
	if (unlikely(r->op_flags & RWF_NOWAIT) && needs_worker_to_write(r->file)) {
		uiopf_stop_waiting(r);
		return worker_done(r, -EAGAIN);
	}
	if (unlikely(is_vector(r))) {
		n = move_vector(r);
	} else {
		if (!from)
			from = uiopf_memory(r, r->address, r->length);
		if (!r->length && (r->file->mode & (UIOPF_FILE_ITER | UIOPF_FILE_LOOPS)) != UIOPF_FILE_ITER)
			n = 0;	/* as of a read: a plain `write` is not called for nothing */
		else
			n = from || !r->length ? r->file->ops->write(r->file, from, r->length, (int64_t)r->position) :
						 move_nowhere(r, r->address, r->length);
	}
	if (n == -EAGAIN && may_wait(r))
		return uiopf_wait_for_file(r);
	uiopf_stop_waiting(r);
	if (unlikely(r->punted && needs_worker_to_write(r->file)))
		return worker_done(r, (int32_t)n);
	if (unlikely(n < 0)) {
		/* What the file says after it was called comes by task work, unlike what a read says (kiocb_done). */
		uiopf_request_end_later(r, (int32_t)n);
		return UIOPF_PENDING;
	}
	e->cost.bytes_copied += (uint64_t)n;
	return uiopf_done(r, (int32_t)n);
}

/* ---- READ_MULTISHOT ---- */

int uiopf_read_multishot_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	int rc;

	if (!(r->sqe_flags & IOSQE_BUFFER_SELECT))
		return -EINVAL;
	rc = prepare_fields(r, sqe);
	if (rc < 0)
		return rc;
	if (r->address || r->length)
		return -EINVAL;
	r->exact = false;
	r->multishot = true;
	return 0;
}

/*
 * How often it may read before others have their turn. Linux reads until nothing is there, the buffers are used up or the
 * CQ is full, and another process may fill and empty all of these meanwhile. A fault queue is filled by nobody while its
 * reader has the kernel's side; without a thread of our own only who reaps while we post sees a difference.
 */
static uint32_t most_reads(const struct uiopf_request *r)
{
	if (!(r->file->mode & UIOPF_FILE_HINTS))
		return UINT32_MAX;
	return r->engine->setup_flags & IORING_SETUP_SQPOLL ? READS_A_TURN : r->engine->ring.cq_entries;
}

/*
 * What there must be for a multishot to read. A file that blocks and makes no promise is not read before there is data: the
 * end of a FIFO or a terminal is none, and nobody says it (io_file_supports_nowait).
 */
static uint32_t readable_by(const struct uiopf_file *file)
{
	return unlikely(file->mode & UIOPF_FILE_WAITS) && !(file->mode & UIOPF_FILE_NONBLOCK) ? POLLIN : READABLE;
}

/* One of which a worker has made a single shot. It names its buffer only if there is something in it (io_read_mshot). */
static enum uiopf_issue read_once(struct uiopf_request *r)
{
	enum uiopf_issue issue = uiopf_rw_issue(r);

	if (!r->wait.link && r->res <= 0)
		r->cqe_flags = 0;
	return issue;
}

enum uiopf_issue uiopf_read_multishot_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	const uint32_t most = most_reads(r), readable = readable_by(r->file);
	uint32_t reads = 0;
	bool checked = false;		/* what does not change while it reads is looked at once */
	bool called;			/* it looks for more in any case */
	int rc;

	if (!(r->file->mode & UIOPF_FILE_POLL))
		return uiopf_done(r, -EBADFD);
	if (unlikely(r->punted && !r->started) && uiopf_worker_arms(r))
		return UIOPF_PENDING;
	if (unlikely(!r->multishot))
		return read_once(r);
	/* A wake that said what for is believed; otherwise nothing is tried, and no buffer missed, before there is data. */
	if (r->started && !r->woken && !(r->file->ops->poll(r->file) & readable))
		return uiopf_wait_for_file(r);
	r->woken = 0;
	for (;;) {
		struct uiopf_selected buffer;
		uint32_t flags;
		int64_t n;

		rc = uiopf_buffer_select(e, r->buffer_group, 0, &buffer);
		if (unlikely(rc < 0))
			break;
		if (unlikely(!checked)) {
			rc = rw_check(r, UIOPF_FILE_READ);
			if (rc < 0)
				break;
			if (has_neither(r->file)) {
				if (!would_call(r->file, readable))
					return uiopf_wait_for_any_file(r);
				rc = -EINVAL;
				break;
			}
			/* Armed, and never served: each retry is refused as it may not block. Measured on Linux 7.2. */
			if (needs_worker(r->file))
				return uiopf_wait_for_file(r);
			if (unlikely(readable == POLLIN) && !(r->file->ops->poll(r->file) & POLLIN))
				return uiopf_wait_for_file(r);
			checked = true;
		}
		n = read_file(r, buffer.map, buffer.address, buffer.length);
		if (n == -EAGAIN && (!(r->op_flags & RWF_NOWAIT) || r->started))
			return uiopf_wait_for_file(r);
		if (unlikely(n <= 0)) {
			rc = (int)n;
			break;
		}
		e->cost.bytes_copied += (uint64_t)n;
		flags = uiopf_buffer_take(&buffer, (uint32_t)n);
		if (unlikely(!uiopf_post_more(r, (int32_t)n, flags, &called))) {
			/* No room: these bytes end the request, by way of the backlog. */
			r->cqe_flags = flags;
			rc = (int)n;
			break;
		}
		if (unlikely(r->op_flags & RWF_NOWAIT) && !r->started) {	/* never armed, unless by a worker */
			rc = -EAGAIN;
			break;
		}
		if (!(r->file->ops->poll(r->file) & readable))
			return uiopf_wait_for_file(r);
		/* The first is posted by the submission, what else is there by task work. */
		if (!r->started || ++reads >= most) {
			r->woken = POLLIN;
			uiopf_engine_add_work(r);
			return uiopf_wait_for_file(r);
		}
	}
	uiopf_stop_waiting(r);
	return uiopf_done(r, rc);
}
