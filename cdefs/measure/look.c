#include "measure/look.h"

#include "base/clock.h"

#define LOOKS 64u

uint64_t uiopf_look_ns(void)
{
	uint64_t least = UINT64_MAX, before = uiopf_monotonic_ns(), now;
	uint32_t i;

	for (i = 0; i < LOOKS; i++) {
		now = uiopf_monotonic_ns();
		least = now - before < least ? now - before : least;
		before = now;
	}
	return least;
}
