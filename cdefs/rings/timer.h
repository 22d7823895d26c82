/* The requests that wait for a time: TIMEOUTs, with a count of completions or without, and LINK_TIMEOUTs. */
#pragma once
#include "rings/engine.h"

/*
 * A client's time is counted as Linux counts it (ktime_t): in signed nanoseconds, INT64_MAX where its seconds do not fit.
 * On the core's clock UINT64_MAX is never.
 */

/* A time on a clock of the client's (CLOCK_MONOTONIC …), on the core's. A negative one never comes, as on Linux. */
uint64_t uiopf_time_on_core(const struct uiopf_core *core, int clockid, int64_t ktime);
/* 0, -EFAULT, or -EINVAL with *ktime filled in: a part of it is negative, which not all refuse. */
int uiopf_timespec_load(struct uiopf_engine *engine, uint64_t address, int64_t *ktime);
/* When a time in an SQE with these flags fires, on the core's clock. */
uint64_t uiopf_time_due(const struct uiopf_engine *engine, int64_t ktime, uint32_t flags);
/* When a wait with this time is over. Now is added without a bound, and a negative time that is left is over (io_cqring_wait). */
uint64_t uiopf_time_of_wait(const struct uiopf_engine *engine, int64_t ktime, bool absolute);

void uiopf_timer_start(struct uiopf_request *request, uint64_t when_ns);
void uiopf_timer_stop(struct uiopf_request *request);	/* also one that does not run */
/* Fires what is due; how many. */
uint32_t uiopf_timers_fire(struct uiopf_engine *engine, uint32_t most);

/* Lists a TIMEOUT, by its count of completions if it has one and behind all others if not, and starts its time. */
void uiopf_timeout_start(struct uiopf_request *request);
/* Out of the list, without having fired. */
void uiopf_timeout_stop(struct uiopf_request *request);
/* CQEs were shown: ends those that counted them. For the engine's count_timeouts. */
void uiopf_timeouts_count(struct uiopf_engine *engine);

void uiopf_link_timeout_start(struct uiopf_request *guarded);
/*
 * Whether the LINK_TIMEOUT behind a request that ended at once has fired before that. It holds the request then: the chain
 * goes on when its task work has let that go, which is task work in turn (io_put_req).
 */
bool uiopf_link_timeout_holds(struct uiopf_request *guarded);
/* Takes the LINK_TIMEOUT behind a request that has ended out of its chain. */
void uiopf_link_timeout_stop(struct uiopf_request *guarded);
