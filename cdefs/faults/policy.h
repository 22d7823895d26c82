/*
 * What a fault queue of Linux has not, and people have asked for: a limit on what waits, a time-out for what is not
 * answered, and answers that name device, PASID and group index. All of it is off unless asked for, and then costs the
 * queue one test of a pointer.
 *
 * The time-out is the 2023 RFC's (a timer for each fault, then Response Failure); Linux has none, since PCIe names none.
 * The limit reports losses as event queues do: at the end of what is stored, by a record without an event.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "abi/iommufd.h"
#include "abi/api.h"
#include "faults/iopf.h"

struct uiopf_policy {
	struct uiopf_faultq_limits limits;

	/* The limit. The producer counts what it lost, and where that was; the consumer what it has told of. */
	uint64_t lost, told;
	uint32_t lost_at;		/* the tail at the newest loss */

	/* The time-out: when the groups in the ring came, and a list of those behind cookies, oldest first. */
	uint64_t *arrived;
	struct uiopf_live {
		uint64_t arrived;
		uint32_t before, after;	/* cookies; UIOPF_NONE */
	} *live;
	uint32_t oldest, newest;
	uint64_t timed_out_groups;

	/* By index: cookies of one hash, in the order in which their groups were delivered. */
	struct uiopf_bucket { uint32_t first, last; } *bucket;
	uint32_t *chain, bucket_mask;
};

/* Producer: whether a group may come in now. If it may not, that is counted. */
bool uiopf_policy_admit(struct uiopf_faultq *q);
/* Consumer: how many groups were lost since that was told, if the reader has come to the place. */
uint64_t uiopf_policy_lost(struct uiopf_faultq *q);
/* Consumer: the group at the head gets this cookie; a cookie goes. */
void uiopf_policy_deliver(struct uiopf_faultq *q, const struct uiopf_group *group);
void uiopf_policy_forget(struct uiopf_faultq *q, uint32_t cookie);
/* Quiescent, before the ring and the table of cookies grow: 0, or -ENOMEM and all is as it was. */
int uiopf_policy_reserve(struct uiopf_faultq *q, uint32_t capacity);
/* Quiescent: a group moves within the ring. */
void uiopf_policy_move(struct uiopf_faultq *q, uint32_t to, uint32_t from);
void uiopf_policy_free(struct uiopf_policy *policy);

/* Producer and consumer: answers for the client what it has not answered in time; when the next falls due. */
uint64_t uiopf_policy_expire(struct uiopf_faultq *q, uint64_t now);
