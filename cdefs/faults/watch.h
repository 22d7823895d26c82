/*
 * Where the time of a fault goes, told by sums.
 *
 * A group that comes to a waypoint adds the time to its sum. Once all groups have come through, the mean time from one
 * waypoint to the next is the difference of the two sums over the number of groups: nobody has to find a group
 * again, and each side writes to lines of its own. The sums wrap; their differences are right all the same.
 */
#pragma once
#include "abi/api.h"
#include "base/atomics.h"
#include "base/clock.h"

struct uiopf_watch {
	UIOPF_LINE struct uiopf_waypoint queued;		/* the producer's */
	UIOPF_LINE struct uiopf_waypoint taken, accepted;	/* the consumer's */
	UIOPF_LINE struct uiopf_waypoint received, answered;	/* the client's */
};
UIOPF_BEGINS_A_LINE(struct uiopf_watch, queued);
UIOPF_BEGINS_A_LINE(struct uiopf_watch, taken);
UIOPF_BEGINS_A_LINE(struct uiopf_watch, received);

static inline void uiopf_waypoint_pass(struct uiopf_waypoint *at, uint64_t groups, uint64_t now_ns)
{
	at->groups += groups;
	at->ns += groups * now_ns;
}
