#include "base/clock.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

void uiopf_clock_init(struct uiopf_clock *clock, enum uiopf_clock_kind kind, uint64_t ns_per_count)
{
	clock->kind = kind;
	clock->manual_ns = 0;
	clock->counter_base = 0;
	clock->ns_per_count = ns_per_count;
#if defined(__x86_64__)
	if (kind == UIOPF_CLOCK_COUNTER)
		clock->counter_base = __builtin_ia32_rdtsc();
#endif
}

uint64_t uiopf_counter_calibrate(uint64_t during_ns)
{
#if defined(__x86_64__)
	unsigned int a, b, c, d;
	uint64_t ns0, ns1, counter0, counter1;

	/* Invariant TSC: constant rate in every power state. Without it the counter is not a clock. */
	if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & (1u << 8)))
		return 0;
	ns0 = uiopf_monotonic_ns();
	counter0 = __builtin_ia32_rdtsc();
	do
		ns1 = uiopf_monotonic_ns();
	while (ns1 - ns0 < during_ns);
	counter1 = __builtin_ia32_rdtsc();
	if (counter1 <= counter0)
		return 0;
	return (uint64_t)(((unsigned __int128)(ns1 - ns0) << 32) / (counter1 - counter0));
#else
	(void)during_ns;
	return 0;
#endif
}
