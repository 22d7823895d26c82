/*
 * A group's way through the layer: reported, answered, given back. What runs once per fault is here, and is so short that
 * calls would be a good part of it; the rest is in iopf.c.
 *
 * Source: iommu_report_device_fault, iopf_group_response; drivers/iommu/io-pgfault.c, Linux 6.12.
 */
#pragma once
#include <errno.h>

#include "core/core.h"
#include "faults/faultq.h"
#include "faults/iopf.h"

/* ---- iopf.c ---- */

/* Producer: takes back what the consumer freed. */
void uiopf_collect_returned(struct uiopf_device *d);
/* Keeps a request that is not its group's last: 0, or -ENOMEM (dropped). */
int uiopf_add_partial(struct uiopf_device *d, const struct uiopf_fault *fault);
/* The requests kept of a group index, oldest first, out of the table; UIOPF_NONE where there are none. */
uint32_t uiopf_take_partial(struct uiopf_device *d, uint32_t grpid, uint32_t *count);
/* The producer answers for the client: nobody will be asked. */
void uiopf_refuse(struct uiopf_device *d, const struct uiopf_fault *fault, uint32_t code, uint32_t faults);

/* ---- the pool ---- */

static inline void uiopf_free_nodes(struct uiopf_device *d, uint32_t node)
{
	while (unlikely(node != UIOPF_NONE)) {
		uint32_t next = d->node[node].next;

		d->node[node].next = d->free_node;
		d->free_node = node;
		node = next;
	}
}

/* Last in, first out: the next group is warm in the cache. */
static inline void uiopf_give_group(struct uiopf_device *d, const struct uiopf_group *group)
{
	uiopf_free_nodes(d, group->partial);
	d->free_groups[d->free_count++] = group->index;
}

static inline struct uiopf_group *uiopf_take_group(struct uiopf_device *d)
{
	if (!d->free_count)
		uiopf_collect_returned(d);
	return d->free_count ? uiopf_device_group(d, d->free_groups[--d->free_count]) : NULL;
}

/* ---- reporting and answering ---- */

/*
 * What the hardware is told. PRI belongs to the physical function: a Response Failure for one virtual function would stop
 * it for all. So that is kept from the hardware, and the one function's requests stop instead, until its reset.
 */
static inline uint32_t uiopf_hardware_code(struct uiopf_device *d, uint32_t code)
{
	if (likely(code != UIOPF_RESP_FAILURE) || READ_ONCE(&d->virtual_pri) == UIOPF_PRI_OWN)
		return code;
	WRITE_ONCE(&d->virtual_pri, UIOPF_PRI_PAUSED);
	return UIOPF_RESP_INVALID;
}

/* Producer: what the driver says once per request. 0, or -EINVAL (refused and answered), -ENOMEM (dropped). */
hot_inline int uiopf_report(struct uiopf_device *d, const struct uiopf_fault *fault)
{
	struct uiopf_attach *attach = uiopf_find_attach(d, fault->flags, fault->pasid);
	struct uiopf_group *group;
	uint32_t partial, count = 0;

	d->counts.reported++;
	if (unlikely(!attach || !attach->queue || READ_ONCE(&d->virtual_pri) == UIOPF_PRI_PAUSED)) {
		uiopf_refuse(d, fault, UIOPF_RESP_INVALID, 1);
		return -EINVAL;
	}
	if (!(fault->flags & UIOPF_FAULT_LAST_PAGE))
		return uiopf_add_partial(d, fault);

	partial = unlikely(d->unfinished) ? uiopf_take_partial(d, fault->grpid, &count) : UIOPF_NONE;
	group = uiopf_take_group(d);
	if (unlikely(!group)) {
		uiopf_free_nodes(d, partial);
		uiopf_refuse(d, fault, UIOPF_RESP_FAILURE, count + 1);
		return 0;
	}
	uiopf_fill_message(&group->last, attach->dev_id, *fault);
	group->stages = fault->flags & UIOPF_FAULT_STAGE_2;
	group->attach = attach;
	group->partial = partial;
	group->fault_count = count + 1;
	if (unlikely(!uiopf_faultq_push(attach->queue, group))) {
		uiopf_give_group(d, group);
		uiopf_refuse(d, fault, UIOPF_RESP_FAILURE, count + 1);
	}
	return 0;
}

/* Consumer: answers a group through its driver and gives it back. */
hot_inline void uiopf_group_respond(struct uiopf_group *group, uint32_t code)
{
	struct uiopf_device *d = group->attach->device;
	uint32_t tail;

	code = uiopf_hardware_code(d, code);
	d->iommu->ops->respond(d, UIOPF_CONSUMER, group->last.flags, group->last.pasid, group->last.grpid, code);
	if (likely(d->core->driver != UIOPF_ENTER)) {	/* one thread at a time owns both sides */
		uiopf_give_group(d, group);
		return;
	}
	tail = d->returned_tail;
	d->returned[tail & d->returned_mask] = group->index;
	/* Pairs with uiopf_collect_returned. */
	STORE_RELEASE(&d->returned_tail, tail + 1);
}
