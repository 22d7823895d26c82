/* The requests that wait for a time: a heap, the first to fire on top. */
#include <errno.h>
#include <stdlib.h>

#include "rings/engine.h"

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

uint32_t uiopf_timers_fire(struct uiopf_engine *e)
{
	uint32_t n = 0;
	uint64_t now;

	if (likely(!e->timer_count))
		return 0;
	now = uiopf_now(&e->core->clock);
	while (e->timer_count && e->timer[0]->extra <= now && e->timer[0]->extra != UINT64_MAX) {
		struct uiopf_request *r = e->timer[0];

		uiopf_timer_stop(r);
		uiopf_timeout_fired(r);
		n++;
	}
	return n;
}

uint64_t uiopf_time_on_core(const struct uiopf_core *core, int clockid, uint64_t ns)
{
	struct timespec t;
	uint64_t there;

	/* A manual clock is all clocks, and CLOCK_MONOTONIC may be the core's own. */
	if (core->clock.kind == UIOPF_CLOCK_MANUAL ||
	    (core->clock.kind == UIOPF_CLOCK_MONOTONIC && clockid == CLOCK_MONOTONIC))
		return ns;
	clock_gettime(clockid, &t);
	there = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	return ns <= there ? 0 : uiopf_now(&core->clock) + (ns - there);
}
