#include "rings/timer.h"

#include <errno.h>
#include <stdlib.h>

#include "rings/completion.h"
#include "rings/request.h"

#define SECOND 1000000000ull

/* ---- times ---- */

/* Never, where the sum is more than there is. */
static uint64_t add(uint64_t now, uint64_t ns)
{
	return ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
}

/* A manual clock is all clocks, and CLOCK_MONOTONIC may be the core's own. */
static bool is_core_clock(const struct uiopf_core *core, int clockid)
{
	return core->clock.kind == UIOPF_CLOCK_MANUAL ||
	       (core->clock.kind == UIOPF_CLOCK_MONOTONIC && clockid == CLOCK_MONOTONIC);
}

static uint64_t client_now(const struct uiopf_core *core, int clockid)
{
	struct timespec t;

	if (is_core_clock(core, clockid))
		return uiopf_now(&core->clock);
	clock_gettime(clockid, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/*
 * A negative time comes of nanoseconds that went beyond the most. Linux takes it for one that is too large, and queues its
 * timer behind all others (hrtimer_set_expires_range_ns); where there are no others it may fire with the next interrupt.
 */
uint64_t uiopf_time_on_core(const struct uiopf_core *core, int clockid, int64_t ktime)
{
	uint64_t there;

	if (ktime < 0 || ktime == INT64_MAX)
		return UINT64_MAX;
	if (is_core_clock(core, clockid))
		return (uint64_t)ktime;
	there = client_now(core, clockid);
	return (uint64_t)ktime <= there ? 0 : add(uiopf_now(&core->clock), (uint64_t)ktime - there);
}

/* ktime_set: seconds are bounded, and nanoseconds are added, however many they are. */
static int64_t ktime_of(const struct __kernel_timespec *t)
{
	if (t->tv_sec >= (int64_t)(INT64_MAX / SECOND))
		return INT64_MAX;
	return (int64_t)((uint64_t)t->tv_sec * SECOND + (uint64_t)t->tv_nsec);
}

int uiopf_timespec_load(struct uiopf_engine *e, uint64_t address, int64_t *ktime)
{
	struct __kernel_timespec t;
	const uint8_t *from = uiopf_windows_find(&e->windows, address, sizeof t);

	if (!from)
		return -EFAULT;
	uiopf_copy_from_client(&t, from, sizeof t);
	*ktime = ktime_of(&t);
	return t.tv_sec < 0 || t.tv_nsec < 0 ? -EINVAL : 0;
}

static int clock_of(uint32_t flags)
{
	return flags & IORING_TIMEOUT_BOOTTIME ? CLOCK_BOOTTIME :
	       flags & IORING_TIMEOUT_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
}

/* A negative one comes of nanoseconds that went beyond the most, and is as far away as can be (ktime_add_safe). */
uint64_t uiopf_time_due(const struct uiopf_engine *e, int64_t ktime, uint32_t flags)
{
	uint64_t due;

	if (flags & IORING_TIMEOUT_ABS)
		return uiopf_time_on_core(e->core, clock_of(flags), ktime);
	due = add(uiopf_now(&e->core->clock), ktime < 0 ? INT64_MAX : (uint64_t)ktime);
	return due >= INT64_MAX ? UINT64_MAX : due;
}

uint64_t uiopf_time_of_wait(const struct uiopf_engine *e, int64_t ktime, bool absolute)
{
	if (absolute)
		return uiopf_time_on_core(e->core, e->clockid, ktime);
	if (likely(ktime >= 0 && ktime < INT64_MAX / 2))
		return add(uiopf_now(&e->core->clock), (uint64_t)ktime);
	return uiopf_time_on_core(e->core, e->clockid, (int64_t)(client_now(e->core, e->clockid) + (uint64_t)ktime));
}

/* ---- a heap, the first to fire on top ---- */

static bool sooner(const struct uiopf_request *a, const struct uiopf_request *b)
{
	return a->extra < b->extra;
}

static void put(struct uiopf_engine *e, uint32_t at, struct uiopf_request *r)
{
	e->timer[at] = r;
	r->timer = at;
}

static void sift_up(struct uiopf_engine *e, uint32_t at, struct uiopf_request *r)
{
	for (; at && sooner(r, e->timer[(at - 1) / 2]); at = (at - 1) / 2)
		put(e, at, e->timer[(at - 1) / 2]);
	put(e, at, r);
}

static void sift_down(struct uiopf_engine *e, uint32_t at, struct uiopf_request *r)
{
	uint32_t child;

	for (; (child = 2 * at + 1) < e->timer_count; at = child) {
		if (child + 1 < e->timer_count && sooner(e->timer[child + 1], e->timer[child]))
			child++;
		if (!sooner(e->timer[child], r))
			break;
		put(e, at, e->timer[child]);
	}
	put(e, at, r);
}

/* The first time of this ring, for whoever sleeps, and for who asks when something happens next. */
static void tell_core(struct uiopf_engine *e)
{
	uiopf_consumer_due(e->core, &e->consumer, e->timer_count ? e->timer[0]->extra : UINT64_MAX);
}

void uiopf_timer_start(struct uiopf_request *r, uint64_t when_ns)
{
	struct uiopf_engine *e = r->engine;

	r->extra = when_ns;
	sift_up(e, e->timer_count++, r);	/* there is room: as much as there are requests */
	if (r->timer == 0)
		tell_core(e);
}

void uiopf_timer_stop(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	uint32_t at = r->timer;
	struct uiopf_request *last;

	if (at == UIOPF_NO_TIMER)
		return;
	r->timer = UIOPF_NO_TIMER;
	last = e->timer[--e->timer_count];
	if (last != r) {
		if (at && sooner(last, e->timer[(at - 1) / 2]))
			sift_up(e, at, last);
		else
			sift_down(e, at, last);
	}
	if (at == 0)
		tell_core(e);
}

/* ---- TIMEOUTs ---- */

/*
 * Of a TIMEOUT: address is the time as given, length how many CQEs or repeats, expected the place of the CQ's tail at
 * which a counted one ends, extra when it fires. Those with a count stand in front, in the order of their places.
 */

static bool is_counted(const struct uiopf_request *r)
{
	return r->length && !(r->op_flags & IORING_TIMEOUT_MULTISHOT);
}

/* How far the CQ's tail is but for the batch that goes on, of which fired time-outs are no part. */
static uint32_t completions(const struct uiopf_engine *e)
{
	return e->posted_tail - e->timeouts_fired;
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

void uiopf_timeout_stop(struct uiopf_request *r)
{
	uiopf_timer_stop(r);
	uiopf_request_unlist(r);
}

void uiopf_timeout_start(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	struct uiopf_request *before = e->timeouts_last;
	uint32_t tail;

	if (is_counted(r)) {
		/* What other workers have completed before a worker starts it can be seen by then. */
		tail = unlikely(r->punted) ? e->ring.cq_tail - e->timeouts_fired : completions(e);
		r->expected = tail + r->length;
		e->flushed_tail = tail;
		while (before && (!is_counted(before) || r->length < before->expected - tail))
			before = before->prev;
	}
	if (r->listed)
		uiopf_request_unlist(r);	/* a worker had it */
	list_behind(e, r, before);
	uiopf_timer_start(r, uiopf_time_due(e, (int64_t)r->address, r->op_flags));
}

/* Every firing ends a wait below min_complete; it stops counting as a completion that others count. */
static void end_timeout(struct uiopf_request *r)
{
	uiopf_timeout_stop(r);
	WRITE_ONCE(&r->engine->timeouts_fired, r->engine->timeouts_fired + 1);
}

void uiopf_timeouts_count(struct uiopf_engine *e)
{
	struct uiopf_request *r, *next;
	const uint32_t tail = completions(e);

	for (r = e->timeouts; r && is_counted(r); r = next) {
		next = r->next;
		if (tail - e->flushed_tail < r->expected - e->flushed_tail)
			break;
		end_timeout(r);
		uiopf_request_end_later(r, 0);
	}
	e->flushed_tail = tail;
}

/* ---- LINK_TIMEOUTs ---- */

static bool is_link_timeout(const struct uiopf_request *r)
{
	return r && r->opcode == IORING_OP_LINK_TIMEOUT;
}

/* Out of the chain, so that it goes on, or fails, without it. */
static void leave_chain(struct uiopf_request *r, struct uiopf_request *guarded)
{
	guarded->link = r->link;
	r->link = NULL;
	r->sqe_flags &= (uint8_t)~(IOSQE_IO_LINK | IOSQE_IO_HARDLINK);
}

void uiopf_link_timeout_start(struct uiopf_request *guarded)
{
	struct uiopf_request *r = guarded->link;

	guarded->has_timeout = false;
	if (!is_link_timeout(r))
		return;
	guarded->guarded_by_timeout = true;
	r->started = true;
	uiopf_request_list(r);
	uiopf_timer_start(r, uiopf_time_due(r->engine, (int64_t)r->address, r->op_flags));
}

/*
 * Linux starts the time when the request has been issued, also where that has ended it, and takes the time back with the
 * batch's completions. By then so short a time has fired, and finds its request no more (6.18: about 2 µs). Of a request
 * that was never issued, as its chain was refused or its file is none, no time starts (REQ_F_ARM_LTIMEOUT).
 */
#define TOO_SHORT_TO_STOP_NS 1000u

static bool fires_at_once(const struct uiopf_request *r)
{
	const uint64_t due = uiopf_time_due(r->engine, (int64_t)r->address, r->op_flags);

	return due <= uiopf_now(&r->engine->core->clock) + TOO_SHORT_TO_STOP_NS;
}

void uiopf_link_timeout_stop(struct uiopf_request *guarded)
{
	struct uiopf_request *r = guarded->link;

	guarded->has_timeout = guarded->guarded_by_timeout = false;
	if (!is_link_timeout(r) || (r->failed && r->timer == UIOPF_NO_TIMER))
		return;
	uiopf_timer_stop(r);
	leave_chain(r, guarded);
	uiopf_request_end_later(r, -ECANCELED);
}

bool uiopf_link_timeout_holds(struct uiopf_request *guarded)
{
	struct uiopf_request *r = guarded->link;

	if (!guarded->started || !is_link_timeout(r) || r->failed || !fires_at_once(r))
		return false;
	guarded->has_timeout = false;
	leave_chain(r, guarded);
	r->guarded = guarded;
	r->holds = true;
	uiopf_request_end_later(r, -ENOENT);
	return true;
}

/* ---- both ---- */

static void fired(struct uiopf_request *r)
{
	if (r->opcode == IORING_OP_LINK_TIMEOUT) {
		struct uiopf_request *guarded = r->guarded;

		leave_chain(r, guarded);
		guarded->guarded_by_timeout = false;
		r->position = guarded->user_data;
	} else {
		end_timeout(r);
	}
	uiopf_engine_add_work(r);
}

uint32_t uiopf_timers_fire(struct uiopf_engine *e, uint32_t most)
{
	uint32_t n = 0;
	uint64_t now;

	if (likely(!e->timer_count))
		return 0;
	now = uiopf_now(&e->core->clock);
	while (n < most && e->timer_count && e->timer[0]->extra <= now && e->timer[0]->extra != UINT64_MAX) {
		struct uiopf_request *r = e->timer[0];

		uiopf_timer_stop(r);
		fired(r);
		n++;
	}
	return n;
}
