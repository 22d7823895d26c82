/*
 * The time that the steps are given, in nanoseconds.
 *
 * The core has no clock of its own. A live core is given the processor's counter where that runs at a constant rate
 * (reading it costs 10 ns, a fifth of clock_gettime, and latencies want a time per fault) or CLOCK_MONOTONIC
 * elsewhere. A manual clock stands still until somebody moves it.
 */
#pragma once
#include <stdint.h>
#include <time.h>

#include "abi/api.h"
#include "base/atomics.h"

struct uiopf_clock {
	enum uiopf_clock_kind kind;
	uint64_t manual_ns;	/* written by ticks, read by steps */
	uint64_t counter_base;	/* the counter's value at 0 ns */
	uint64_t ns_per_count;	/* fixed point, 32 bits after the point */
};

static inline uint64_t uiopf_monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t uiopf_now(const struct uiopf_clock *clock)
{
#if defined(__x86_64__)
	if (likely(clock->kind == UIOPF_CLOCK_COUNTER)) {	/* the builtin: its header has 60,000 lines */
		const uint64_t count = __builtin_ia32_rdtsc() - clock->counter_base;

		return (uint64_t)(((unsigned __int128)count * clock->ns_per_count) >> 32);
	}
#endif
	return clock->kind == UIOPF_CLOCK_MANUAL ? READ_ONCE(&clock->manual_ns) : uiopf_monotonic_ns();
}

/* Fills in a live clock; ns_per_count as uiopf_counter_calibrate() found it, 0 for CLOCK_MONOTONIC. */
void uiopf_clock_init(struct uiopf_clock *clock, enum uiopf_clock_kind kind, uint64_t ns_per_count);
