/*
 * Intel VT-d's page request queue and its answers: the hardware's side and Linux' driver, both.
 *
 * Hardware: a request becomes a 32-byte descriptor at the queue's tail; commands come back through the invalidation
 * queue. Driver: the interrupt reads head and tail once, decodes, checks and reports; an answer is a page group
 * response descriptor. Source: VT-d 4.x; Linux drivers/iommu/intel/prq.c, 6.12.
 */
#pragma once
#include "abi/hardware.h"
#include "base/records.h"
#include "hardware/iommu/model.h"

struct uiopf_vtd {
	struct uiopf_model model;

	/* The page request queue: the hardware writes it and the driver's interrupt reads it, on one thread. */
	struct uiopf_records prq;
	uint32_t prq_status;
};
UIOPF_BEGINS_A_LINE(struct uiopf_vtd, prq);

extern const struct uiopf_model_ops uiopf_model_vtd;

hot_inline struct uiopf_vtd *uiopf_vtd_of(struct uiopf_model *model)
{
	return container_of(model, struct uiopf_vtd, model);
}

void uiopf_vtd_overflow(struct uiopf_vtd *vtd, struct uiopf_page_request request);
void uiopf_vtd_note(struct uiopf_vtd *vtd, uint32_t slot, uint64_t source, uint64_t message);

/*
 * Hardware: takes a page request. One slot of the queue stays free; once it has overflowed nothing is queued until
 * software has cleared the bit. The message is also the descriptor's second word.
 */
hot_inline void uiopf_vtd_page_request(struct uiopf_vtd *v, struct uiopf_page_request request)
{
	uint64_t source = VTD_PRQ_TYPE | (uint64_t)request.requester_id << VTD_PRQ_RID_SHIFT;
	struct uiopf_records *q = &v->prq;
	uint64_t *d = uiopf_records_at(q->places, VTD_PRQ_WORDS, q->written);

	if (likely(request.has_pasid))
		source |= VTD_PRQ_PASID_PRESENT | (uint64_t)request.pasid << VTD_PRQ_PASID_SHIFT |
			  (request.execute ? VTD_PRQ_EXECUTE : 0) | (request.privileged ? VTD_PRQ_PRIVILEGED : 0);
	if (unlikely(q->written - q->head >= VTD_PRQ_ENTRIES - 1 || (v->prq_status & VTD_PRS_PRO))) {
		uiopf_vtd_overflow(v, request);
		return;
	}
	if (unlikely(v->model.sent_under != NULL))
		uiopf_vtd_note(v, q->written % VTD_PRQ_ENTRIES, source, request.message);
	d[0] = source;
	d[1] = request.message;
	uiopf_records_put(q);
	uiopf_records_show(q);
	/* The last of a group makes the request pending, and raises the interrupt. */
	_Static_assert(PCIE_PRI_LAST == VTD_PRS_PPR << 2, "a shift makes one of the other");
	v->prq_status |= request.message >> 2 & VTD_PRS_PPR;
}
