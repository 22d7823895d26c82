/*
 * VT-d before revision 3: requests of 16 bytes, and two kinds of answers, the hardware's side and a driver.
 *
 * A request carries 23 bits that are private to the function, and wants them back. The last of a group is answered by a
 * page group response. A function in the root complex may ask for a stream response instead (srr), one for each request,
 * which names the page besides. The queue, its status and its overflow are those of later revisions (vtd.h).
 *
 * Driver: Linux's of 4.4 to 4.20 (drivers/iommu/intel-svm.c) decoded, mapped and answered in one go, and knew no generic
 * layer. This one decodes and answers as that one did, and reports in between: what is malformed or has no PASID is
 * refused, INVALID and FAILURE; a request that asks for a stream response is a group by itself. In two things it is like
 * its successors: it drops stop markers, and after an overflow it forgets what is unfinished, and goes on.
 */
#pragma once
#include "hardware/iommu/vtd.h"

extern const struct uiopf_model_ops uiopf_model_vtd_2;

void uiopf_vtd_2_note(struct uiopf_vtd *vtd, uint32_t slot, uint64_t word0, uint64_t word1);

/* Hardware: takes a page request. */
hot_inline void uiopf_vtd_2_page_request(struct uiopf_vtd *v, struct uiopf_page_request request)
{
	const uint64_t m = request.message;
	const bool answered = m & PCIE_PRI_LAST || request.private_data.streams;
	uint64_t word0 = (uint64_t)(request.requester_id >> 8) << VTD2_PRQ_BUS_SHIFT | (m & PCIE_PRI_LAST ? VTD2_PRQ_LAST : 0) |
			 (m >> PCIE_PRI_PRGI_SHIFT & 0x1ff) << VTD2_PRGI_SHIFT |
			 (request.private_data.streams ? VTD2_PRQ_STREAM : 0) |
			 request.private_data.word[0] << VTD2_PRIVATE_SHIFT;
	uint64_t word1 = (m & (PCIE_PRI_ADDRESS | PCIE_PRI_READ | PCIE_PRI_WRITE)) |
			 (uint64_t)(request.requester_id & 0xff) << VTD2_DEVFN_SHIFT;
	struct uiopf_records *q = &v->prq;
	uint64_t *d = uiopf_records_at(q->places, VTD2_PRQ_WORDS, q->written);

	_Static_assert(PCIE_PRI_READ == VTD2_PRQ_READ && PCIE_PRI_WRITE == VTD2_PRQ_WRITE, "two bits are the message's");
	if (likely(request.has_pasid)) {
		word0 |= VTD2_PRQ_PASID_PRESENT | (uint64_t)request.pasid << VTD2_PRQ_PASID_SHIFT;
		word1 |= (request.execute ? VTD2_PRQ_EXECUTE : 0) | (request.privileged ? VTD2_PRQ_PRIVILEGED : 0);
	}
	if (unlikely(q->written - q->head >= VTD2_PRQ_ENTRIES - 1 || (v->prq_status & VTD_PRS_PRO))) {
		uiopf_vtd_overflow(v, request);
		return;
	}
	if (unlikely(v->model.sent_under != NULL))
		uiopf_vtd_2_note(v, q->written % VTD2_PRQ_ENTRIES, word0, word1);
	d[0] = word0;
	d[1] = word1;
	uiopf_records_put(q);
	uiopf_records_show(q);
	v->prq_status |= answered ? VTD_PRS_PPR : 0;
}
