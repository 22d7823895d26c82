/* TIMEOUT, TIMEOUT_REMOVE, LINK_TIMEOUT. Source: io_uring/timeout.c, Linux 6.12. */
#include "rings/requests/requests.h"

#define SECOND 1000000000ull
#define CLOCKS (IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME)
#define TIMEOUT_KNOWN (IORING_TIMEOUT_ABS | CLOCKS | IORING_TIMEOUT_ETIME_SUCCESS | IORING_TIMEOUT_MULTISHOT)
#define UPDATES (IORING_TIMEOUT_UPDATE | IORING_LINK_TIMEOUT_UPDATE)

/*
 * Of a TIMEOUT: address is the time as given, length how many CQEs or repeats, expected the place of the CQ's tail at
 * which a counted one ends, extra when it fires. Those with a count stand in front, in the order of their places.
 */

int uiopf_timespec_load(struct uiopf_engine *e, uint64_t address, uint64_t *ns)
{
	struct __kernel_timespec t;
	const uint8_t *from = uiopf_windows_find(&e->windows, address, sizeof t);

	if (!from)
		return -EFAULT;
	uiopf_copy_from_client(&t, from, sizeof t);
	if (t.tv_sec < 0 || t.tv_nsec < 0)
		return -EINVAL;
	/* ktime_set: what does not fit is as far away as can be. */
	if ((uint64_t)t.tv_sec >= INT64_MAX / SECOND || (uint64_t)t.tv_nsec > INT64_MAX - (uint64_t)t.tv_sec * SECOND)
		*ns = INT64_MAX;
	else
		*ns = (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
	return 0;
}

/* A time in an SQE: a timespec's address or, from 7.0 on and with IMMEDIATE_ARG, nanoseconds. */
static int load_time(struct uiopf_engine *e, uint64_t arg, uint32_t flags, uint64_t *ns)
{
	if (!(flags & IORING_TIMEOUT_IMMEDIATE_ARG))
		return uiopf_timespec_load(e, arg, ns);
	*ns = arg;
	return arg > INT64_MAX ? -EINVAL : 0;
}

static uint32_t immediate(const struct uiopf_engine *e)
{
	return e->kernel >= UIOPF_LINUX(7, 0) ? IORING_TIMEOUT_IMMEDIATE_ARG : 0;
}

static int clock_of(uint32_t flags)
{
	return flags & IORING_TIMEOUT_BOOTTIME ? CLOCK_BOOTTIME :
	       flags & IORING_TIMEOUT_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
}

/* When it fires, on the core's clock. */
static uint64_t due(const struct uiopf_engine *e, uint64_t ns, uint32_t flags)
{
	if (flags & IORING_TIMEOUT_ABS)
		return uiopf_time_on_core(e->core, clock_of(flags), ns);
	return uiopf_now(&e->core->clock) + ns;
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
		e->counts_used = true;
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

static bool is_counted(const struct uiopf_request *r)
{
	return r->length && !(r->op_flags & IORING_TIMEOUT_MULTISHOT);
}

/* How far the CQ's tail is as the client sees it, of which fired time-outs are no part. */
static uint32_t completions(const struct uiopf_engine *e)
{
	return e->ring.cq_tail_published - e->timeouts_fired;
}

static void list_behind(struct uiopf_engine *e, struct uiopf_request *r, struct uiopf_request *before)
{
	r->timed = r->listed = true;
	r->prev = before;
	r->next = before ? before->next : e->timeouts;
	if (r->prev)
		r->prev->next = r;
	else
		e->timeouts = r;
	if (r->next)
		r->next->prev = r;
	else
		e->timeouts_last = r;
}

/* Every firing ends a wait below min_complete; it stops counting as a completion that others count. */
static void stop_timeout(struct uiopf_request *r)
{
	uiopf_timer_stop(r);
	uiopf_request_unlist(r);
	WRITE_ONCE(&r->engine->timeouts_fired, r->engine->timeouts_fired + 1);
}

/* A multishot one has fired: its CQE, and the next time; false where it ends instead. */
static bool repeat(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;

	if (!(r->op_flags & IORING_TIMEOUT_MULTISHOT) || (r->length && !--r->length))
		return false;
	if (!uiopf_complete_more(e, r->user_data, -ETIME, 0))
		return false;
	list_behind(e, r, e->timeouts_last);
	uiopf_timer_start(r, due(e, r->address, r->op_flags));
	return true;
}

enum uiopf_issue uiopf_timeout_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	struct uiopf_request *before = e->timeouts_last;
	uint32_t tail;

	if (r->started)		/* it has fired */
		return repeat(r) ? UIOPF_PENDING : uiopf_done(r, -ETIME);
	if (is_counted(r)) {
		tail = completions(e);
		r->expected = tail + r->length;
		e->flushed_tail = tail;
		while (before && (!is_counted(before) || r->length < before->expected - tail))
			before = before->prev;
	}
	if (r->listed)
		uiopf_request_unlist(r);	/* a worker had it */
	list_behind(e, r, before);
	uiopf_timer_start(r, due(e, r->address, r->op_flags));
	return UIOPF_PENDING;
}

void uiopf_timeouts_count(struct uiopf_engine *e)
{
	struct uiopf_request *r, *next;
	const uint32_t tail = completions(e);

	for (r = e->timeouts; r && is_counted(r); r = next) {
		next = r->next;
		if (tail - e->flushed_tail < r->expected - e->flushed_tail)
			break;
		stop_timeout(r);
		uiopf_request_end_later(r, 0);
	}
	e->flushed_tail = tail;
}

int uiopf_timeout_cancel(struct uiopf_engine *e, const struct uiopf_cancel *c)
{
	struct uiopf_request *r;

	for (r = e->timeouts; r; r = r->next)
		if (uiopf_cancel_matches(c, r)) {
			uiopf_timer_stop(r);
			uiopf_request_unlist(r);
			uiopf_request_end_later(r, -ECANCELED);
			return 0;
		}
	return -ENOENT;
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
	uiopf_timer_stop(target);
	uiopf_request_unlist(target);
	target->address = r->position;
	target->op_flags = (target->op_flags & ~(uint32_t)IORING_TIMEOUT_ABS) | mode;
	target->length = 0;		/* it counts no completions any more */
	list_behind(e, target, e->timeouts_last);
	uiopf_timer_start(target, due(e, r->position, target->op_flags));
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
	uiopf_timer_start(target, due(e, r->position, (target->op_flags & ~(uint32_t)IORING_TIMEOUT_ABS) |
						      (r->op_flags & IORING_TIMEOUT_ABS)));
	return 0;
}

enum uiopf_issue uiopf_timeout_remove_issue(struct uiopf_request *r)
{
	const struct uiopf_cancel c = { .user_data = r->address };

	if (!(r->op_flags & IORING_TIMEOUT_UPDATE))
		return uiopf_done(r, uiopf_timeout_cancel(r->engine, &c));
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

void uiopf_link_timeout_start(struct uiopf_request *guarded)
{
	struct uiopf_request *r = guarded->link;

	guarded->has_timeout = false;
	if (!r || r->opcode != IORING_OP_LINK_TIMEOUT)
		return;
	guarded->guarded_by_timeout = true;
	r->started = true;
	uiopf_request_list(r);
	uiopf_timer_start(r, due(r->engine, r->address, r->op_flags));
}

void uiopf_link_timeout_stop(struct uiopf_request *guarded)
{
	struct uiopf_request *r = guarded->link;

	guarded->has_timeout = guarded->guarded_by_timeout = false;
	if (!r || r->opcode != IORING_OP_LINK_TIMEOUT || (r->failed && r->timer == UIOPF_NO_TIMER))
		return;
	guarded->link = r->link;
	r->link = NULL;
	r->sqe_flags &= (uint8_t)~(IOSQE_IO_LINK | IOSQE_IO_HARDLINK);
	uiopf_timer_stop(r);
	uiopf_request_end_later(r, -ECANCELED);
}

void uiopf_timeout_fired(struct uiopf_request *r)
{
	if (r->opcode == IORING_OP_LINK_TIMEOUT) {
		struct uiopf_request *guarded = r->guarded;

		/* Out of the chain, so that it goes on, or fails, without it. */
		guarded->link = r->link;
		guarded->guarded_by_timeout = false;
		r->link = NULL;
		r->sqe_flags &= (uint8_t)~(IOSQE_IO_LINK | IOSQE_IO_HARDLINK);
		r->position = guarded->user_data;
	} else {
		stop_timeout(r);
	}
	uiopf_engine_add_work(r);
}
