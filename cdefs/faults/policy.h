/*
 * What a fault queue of Linux has not, and people have asked for: a limit on what waits, a time-out for what is not
 * answered, and answers that name device, PASID and group index. All of it is off unless asked for, and then costs the
 * queue one test of a pointer.
 *
 * The time-out is the 2023 RFC's (a timer for each fault, then Response Failure); Linux has none, since PCIe names none.
 * The limit reports losses as event queues do: at the end of what is stored, by a record without an event.
 *
 * A policy is data: what it knows of the groups in a queue's ring, by their place, and of those behind cookies. It
 * knows no queue; what follows from it (a refusal, an answer in the client's stead) the queue does.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "abi/iommufd.h"
#include "abi/api.h"
#include "core/core.h"
#include "faults/iopf.h"

struct uiopf_policy {
	struct uiopf_faultq_limits limits;

	/* The limit. The producer counts what it lost, and where that was; the consumer what it has told of. */
	uint64_t lost, lost_faults, told;
	uint32_t lost_at;		/* the tail at the newest loss */

	/* The time-out: when the groups in the ring came, and a list of those behind cookies, oldest first. */
	uint64_t *arrived;		/* by place */
	uint32_t place_mask;
	struct uiopf_live {
		uint64_t arrived;
		uint32_t before, after;	/* cookies; UIOPF_NONE */
	} *live;
	uint32_t oldest, newest;
	uint64_t timed_out_groups, timed_out_faults;

	/* By index: cookies of one hash, in the order in which their groups were delivered. */
	struct uiopf_bucket { uint32_t first, last; } *bucket;
	uint32_t *chain, bucket_mask;
};

/* NULL: no memory. */
struct uiopf_policy *uiopf_policy_new(const struct uiopf_faultq_limits *limits);
void uiopf_policy_free(struct uiopf_policy *policy);

/* Producer: whether a group of so many faults may come in at the tail, with the head there. If not, that is counted. */
bool uiopf_policy_admit(struct uiopf_policy *policy, uint32_t head, uint32_t tail, uint32_t faults);
/* Consumer: how many groups were lost since that was told, if the reader has come to the place. */
uint64_t uiopf_policy_lost(const struct uiopf_policy *policy, uint32_t head);
/* Consumer: the group at the head has its cookie; a group's cookie goes. */
void uiopf_policy_deliver(struct uiopf_policy *policy, uint32_t head, const struct uiopf_group *group);
void uiopf_policy_forget(struct uiopf_policy *policy, const struct uiopf_group *group);
/* Consumer, by index: the cookie of the first group delivered with these; UIOPF_NONE. flags: PASID_VALID counts. */
uint32_t uiopf_policy_find(const struct uiopf_policy *policy, struct uiopf_group *const *by_cookie, uint32_t dev_id,
			   uint32_t flags, uint32_t pasid, uint32_t grpid);
/* Quiescent: room for so many groups, a power of two: 0, or -ENOMEM and all is as it was. */
int uiopf_policy_reserve(struct uiopf_policy *policy, struct uiopf_group *const *by_cookie, uint32_t head, uint32_t tail,
			 uint32_t capacity);
/* Quiescent: a group moves within the ring. */
void uiopf_policy_move(struct uiopf_policy *policy, uint32_t to, uint32_t from);

/* With a time-out: when what arrived then is too late; near the end of time, never. */
static inline uint64_t uiopf_policy_too_late(const struct uiopf_policy *policy, uint64_t arrived)
{
	const uint64_t after = policy->limits.timeout_ns;

	return after < UIOPF_NO_DEADLINE - arrived ? arrived + after : UIOPF_NO_DEADLINE;
}

/* … and when the group at a place came. */
static inline uint64_t *uiopf_policy_arrived(const struct uiopf_policy *policy, uint32_t place)
{
	return &policy->arrived[place & policy->place_mask];
}
