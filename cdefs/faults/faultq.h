/*
 * The fault queue: the seam between the producer step and the consumer step.
 *
 * The producer pushes whole groups and publishes them once a step; the consumer reads them in order, gives each the
 * lowest free cookie, and takes answers. Between the two is a ring of group pointers with room for every group that
 * the attached devices can have, so it is never full and needs no lock: a slow reader holds nothing that the producer
 * wants. Consumers are serialised by the core.
 *
 * Source: drivers/iommu/iommufd/fault.c, Linux 6.12.
 */
#pragma once
#include <poll.h>
#include <stdint.h>

#include "abi/iommufd.h"
#include "abi/api.h"
#include "core/core.h"
#include "base/idmap.h"
#include "faults/iopf.h"
#include "faults/policy.h"
#include "faults/watch.h"

struct uiopf_faultq {
	struct uiopf_lifetime lifetime;	/* attached devices and channels hold it */
	struct uiopf_core *core;
	struct uiopf_queue queue;	/* in the core's list */
	struct uiopf_group **ring;
	uint32_t mask;			/* changes only at the quiescent point, like the ring */
	uint32_t reserved;		/* groups that the attached devices can have */
	int notify_fd;			/* the 2023 RFC's eventfd, told of every message; -1 */
	struct uiopf_policy *policy;	/* NULL: as Linux */
	struct uiopf_watch *watch;	/* a channel's, which asks where the time goes; NULL: nobody asks */

	/* The producer's. */
	UIOPF_LINE uint32_t tail;	/* pushed; private until published */
	uint32_t messages;		/* in the groups pushed since the last publish */
	uint64_t notified;		/* eventfd writes made for messages */

	/* The producer's too, but the consumer looks at it all the time. */
	UIOPF_LINE uint32_t published;

	/* The consumer's. */
	UIOPF_LINE uint32_t head;
	uint32_t seen;			/* the value of `published` that reads go by */
	uint32_t woken;			/* … and for which waits have been woken */
	/* A design in the kernel that takes groups as they arrive, on whichever thread finds them; NULL: none does. */
	void (*on_arrival)(void *of);
	void *on_arrival_of;
	struct uiopf_file file;		/* its list of waits is the consumer's */
	struct uiopf_idmap cookies;	/* from 1; 0 by itself, see faultq.c */
	bool zero_is_cookie, zero_is_free;
	struct uiopf_group **by_cookie;
	struct uiopf_faultq_counts counts;
};
UIOPF_BEGINS_A_LINE(struct uiopf_faultq, tail);
UIOPF_BEGINS_A_LINE(struct uiopf_faultq, published);
UIOPF_BEGINS_A_LINE(struct uiopf_faultq, head);

/* Producer: whether the policy lets a group in now. If not, it counts that. */
bool uiopf_faultq_admit(struct uiopf_faultq *q, const struct uiopf_group *group);

/* Producer; false: the queue does not take it, and its group is answered uiopf_faultq_lost_code(). */
static inline bool uiopf_faultq_push(struct uiopf_faultq *q, struct uiopf_group *group)
{
	if (unlikely(q->policy != NULL) && !uiopf_faultq_admit(q, group))
		return false;
	q->ring[q->tail++ & q->mask] = group;
	q->messages += group->fault_count;
	return true;
}

/* … of a queue that has not taken one, and so has a depth. */
static inline uint32_t uiopf_faultq_lost_code(const struct uiopf_faultq *q)
{
	return q->policy->limits.lost_code;
}

void uiopf_faultq_publish_slow(struct uiopf_faultq *q);

/* Producer, once a step: shows what was pushed, and wakes who waits for it. */
static inline void uiopf_faultq_publish(struct uiopf_faultq *q)
{
	if (q->messages)
		uiopf_faultq_publish_slow(q);
}

/* Consumer. Reading and answering are the file's. */
/* The oldest group that waits, with its cookie live, or NULL: how a design in the kernel takes groups. */
struct uiopf_group *uiopf_faultq_next(struct uiopf_faultq *q);
/* Answers the oldest group that waits, of which there is one, for the client, which will not see it. */
void uiopf_faultq_refuse_next(struct uiopf_faultq *q, uint32_t code);
/* Answers the group behind a cookie; false where there is none. */
bool uiopf_faultq_answer_cookie(struct uiopf_faultq *q, uint32_t cookie, uint32_t code);

static inline bool uiopf_faultq_has_group(struct uiopf_faultq *q)
{
	if (q->head == q->seen)
		/* Pairs with the producer's publish: a group is complete before it shows. */
		q->seen = LOAD_ACQUIRE(&q->published);
	return q->head != q->seen;
}

/* Wakes the file's waits, and calls the design in the kernel, if groups have come since the last time; how many came. */
static inline uint32_t uiopf_faultq_sync(struct uiopf_faultq *q)
{
	uint32_t published = LOAD_ACQUIRE(&q->published), came = published - q->woken, i;
	bool more;

	if (came) {
		/*
		 * Linux wakes for every group, and without saying what for (wake_up_interruptible), so that whoever is
		 * woken looks for himself. The proposed file says, in one of its two forms. More than two make no difference,
		 * but to polls of which each wake calls one.
		 */
		uint32_t events = q->file.mode & UIOPF_FILE_KEYED ? POLLIN | POLLRDNORM : 0;

		q->woken = published;
		more = uiopf_file_wake_one(&q->file, events);
		for (i = 1; i < came && (more || i < 2); i++)
			more = uiopf_file_wake_one(&q->file, events);
		if (unlikely(q->on_arrival != NULL))
			q->on_arrival(q->on_arrival_of);
	}
	return came;
}

/* Quiescent: a device's faults in groups that wait to be read or to be answered. */
uint64_t uiopf_faultq_held(const struct uiopf_faultq *q, const struct uiopf_device *device);
/* Quiescent. */
int uiopf_faultq_reserve(struct uiopf_faultq *q, uint32_t groups);
/* Answers INVALID to what the attachment has outstanding, of one device or (NULL) of all, in Linux's order. */
void uiopf_faultq_auto_respond(struct uiopf_faultq *q, uint64_t handle, const struct uiopf_device *device);
