/*
 * A fault's way into the layer, from a driver to the queue that its device is attached to. It runs once per fault, and
 * is so short that a call would be a good part of it.
 *
 * Source: iommu_report_device_fault; drivers/iommu/io-pgfault.c, Linux 6.12.
 */
#pragma once
#include <errno.h>

#include "faults/faultq.h"
#include "faults/iopf.h"

/*
 * Producer: what the driver says once per request. 0, or -EINVAL (refused and answered), -ENOMEM (dropped). `data`:
 * what an answer is to bring back, or NULL. A group's answer brings back its last request's, which has
 * UIOPF_FAULT_PRIV_DATA in its flags then; a refusal that of the request that it refuses.
 */
hot_inline int uiopf_report_with(struct uiopf_device *d, const struct uiopf_fault *fault,
				 const struct uiopf_private_data *data)
{
	struct uiopf_attach *attach = uiopf_find_attach(d, fault->flags, fault->pasid);
	struct uiopf_group *group;
	uint32_t partial, count = 0;

	d->counts.reported++;
	if (unlikely(!attach || !attach->queue || READ_ONCE(&d->virtual_pri) == UIOPF_PRI_PAUSED)) {
		uiopf_refuse(d, fault, data, UIOPF_RESP_INVALID, 1);
		return -EINVAL;
	}
	if (!(fault->flags & UIOPF_FAULT_LAST_PAGE))
		return uiopf_add_partial(d, fault);

	partial = unlikely(d->unfinished) ? uiopf_take_partial(d, fault->grpid, &count) : UIOPF_NONE;
	group = uiopf_take_group(d);
	if (unlikely(!group)) {
		uiopf_free_nodes(d, partial);
		uiopf_refuse(d, fault, data, UIOPF_RESP_FAILURE, count + 1);
		return 0;
	}
	uiopf_fill_message(&group->last, attach->dev_id, *fault);
	group->kept = fault->flags & UIOPF_FAULT_KEPT_FLAGS;
	if (data)
		uiopf_copy_private(&d->private_data[group->index], data);
	group->attach = attach;
	group->partial = partial;
	group->fault_count = count + 1;
	if (unlikely(!uiopf_faultq_push(attach->queue, group))) {
		uiopf_give_group(d, group);
		uiopf_refuse(d, fault, data, uiopf_faultq_lost_code(attach->queue), count + 1);
	}
	return 0;
}

hot_inline int uiopf_report(struct uiopf_device *d, const struct uiopf_fault *fault)
{
	return uiopf_report_with(d, fault, NULL);
}
