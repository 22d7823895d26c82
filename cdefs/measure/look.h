/* What a look at the clock adds to the time between two of them, in nanoseconds. */
#pragma once
#include <stdint.h>

uint64_t uiopf_look_ns(void);
