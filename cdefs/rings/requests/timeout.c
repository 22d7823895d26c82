/* TIMEOUT, TIMEOUT_REMOVE, LINK_TIMEOUT. Source: io_uring/timeout.c, Linux 6.12. */
#include "rings/cancel.h"
#include "rings/requests/requests.h"
#include "rings/timer.h"

#define CLOCKS (IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME)
#define TIMEOUT_KNOWN (IORING_TIMEOUT_ABS | CLOCKS | IORING_TIMEOUT_ETIME_SUCCESS | IORING_TIMEOUT_MULTISHOT)
#define UPDATES (IORING_TIMEOUT_UPDATE | IORING_LINK_TIMEOUT_UPDATE)

/* A time in an SQE: a timespec's address or, from 7.0 on and with IMMEDIATE_ARG, nanoseconds. */
static int load_time(struct uiopf_engine *e, uint64_t arg, uint32_t flags, uint64_t *ns)
{
	int64_t ktime = 0;
	int rc;

	if (!(flags & IORING_TIMEOUT_IMMEDIATE_ARG)) {
		rc = uiopf_timespec_load(e, arg, &ktime);
		*ns = (uint64_t)ktime;
		return rc;
	}
	*ns = arg;
	return arg > INT64_MAX ? -EINVAL : 0;
}

static uint32_t immediate(const struct uiopf_engine *e)
{
	return e->kernel >= UIOPF_LINUX(7, 0) ? IORING_TIMEOUT_IMMEDIATE_ARG : 0;
}

static int prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe, bool link)
{
	struct uiopf_engine *e = r->engine;
	const uint32_t flags = sqe->timeout_flags, count = (uint32_t)sqe->off;
	int rc;

	if (sqe->addr3 || sqe->__pad2[0])
		return -EINVAL;
	if (sqe->buf_index || sqe->len != 1 || sqe->splice_fd_in)
		return -EINVAL;
	if (count && link)
		return -EINVAL;
	if (flags & ~(TIMEOUT_KNOWN | immediate(e)))
		return -EINVAL;
	if ((flags & CLOCKS) == CLOCKS)
		return -EINVAL;
	if ((flags & IORING_TIMEOUT_MULTISHOT) && (flags & IORING_TIMEOUT_ABS))
		return -EINVAL;
	r->op_flags = flags;
	r->length = count;
	if (count)
		e->count_timeouts = uiopf_timeouts_count;
	rc = load_time(e, sqe->addr, flags, &r->address);
	if (rc < 0 || !link)
		return rc;
	if (!e->chain || e->chain_end->opcode == IORING_OP_LINK_TIMEOUT)
		return -EINVAL;
	r->guarded = e->chain_end;
	e->chain_end->has_timeout = true;
	return 0;
}

int uiopf_timeout_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	return prepare(r, sqe, false);
}

int uiopf_link_timeout_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	return prepare(r, sqe, true);
}

/* ---- TIMEOUT ---- */

/* A multishot one has fired: its CQE, and the next time; false where it ends instead. */
static bool repeat(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;

	if (!(r->op_flags & IORING_TIMEOUT_MULTISHOT) || (r->length && !--r->length))
		return false;
	if (!uiopf_complete_more(e, r->user_data, -ETIME, 0))
		return false;
	uiopf_timeout_start(r);
	return true;
}

enum uiopf_issue uiopf_timeout_issue(struct uiopf_request *r)
{
	if (r->started)		/* it has fired */
		return repeat(r) ? UIOPF_PENDING : uiopf_done(r, -ETIME);
	uiopf_timeout_start(r);
	return UIOPF_PENDING;
}

/* ---- TIMEOUT_REMOVE ---- */

int uiopf_timeout_remove_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	struct uiopf_engine *e = r->engine;
	const uint32_t flags = sqe->timeout_flags;

	if (r->sqe_flags & IOSQE_FIXED_FILE)
		return -EINVAL;
	if (sqe->addr3 || sqe->__pad2[0])
		return -EINVAL;
	if (sqe->buf_index || sqe->len || sqe->splice_fd_in)
		return -EINVAL;
	r->address = sqe->addr;
	r->op_flags = flags;
	if (!(flags & UPDATES))
		return flags ? -EINVAL : 0;
	if ((flags & CLOCKS) == CLOCKS)
		return -EINVAL;
	if (flags & ~(UPDATES | IORING_TIMEOUT_ABS | immediate(e)))
		return -EINVAL;
	return load_time(e, sqe->addr2, flags, &r->position);
}

static int update(struct uiopf_engine *e, const struct uiopf_request *r)
{
	const uint32_t mode = r->op_flags & IORING_TIMEOUT_ABS;
	struct uiopf_request *target;

	for (target = e->timeouts; target && target->user_data != r->address; target = target->next)
		;
	if (!target)
		return -ENOENT;
	uiopf_timeout_stop(target);
	target->address = r->position;
	target->op_flags = (target->op_flags & ~(uint32_t)IORING_TIMEOUT_ABS) | mode;
	target->length = 0;		/* it counts no completions any more */
	uiopf_timeout_start(target);
	return 0;
}

static int update_link(struct uiopf_engine *e, const struct uiopf_request *r)
{
	struct uiopf_request *target;

	for (target = e->first; target; target = target->next)
		if (target->opcode == IORING_OP_LINK_TIMEOUT && target->user_data == r->address &&
		    target->timer != UIOPF_NO_TIMER)
			break;
	if (!target)
		return -ENOENT;
	uiopf_timer_stop(target);
	uiopf_timer_start(target, uiopf_time_due(e, (int64_t)r->position, (target->op_flags & ~(uint32_t)IORING_TIMEOUT_ABS) |
						      (r->op_flags & IORING_TIMEOUT_ABS)));
	return 0;
}

enum uiopf_issue uiopf_timeout_remove_issue(struct uiopf_request *r)
{
	const struct uiopf_cancel c = { .user_data = r->address };

	if (!(r->op_flags & IORING_TIMEOUT_UPDATE))
		return uiopf_done(r, uiopf_cancel_timeout(r->engine, &c));
	return uiopf_done(r, r->op_flags & IORING_LINK_TIMEOUT_UPDATE ? update_link(r->engine, r) : update(r->engine, r));
}

/* ---- LINK_TIMEOUT ---- */

/* It never has a turn of its own: it runs while the request in front of it does. */
enum uiopf_issue uiopf_link_timeout_issue(struct uiopf_request *r)
{
	const struct uiopf_cancel c = { .user_data = r->position };
	int rc;

	if (!r->guarded)	/* fired too late */
		return uiopf_done(r, -ETIME);
	rc = uiopf_cancel_matching(r->engine, &c);
	return uiopf_done(r, rc ? rc : -ETIME);
}
