/*
 * Intel VT-d's page request queue and its answers: the hardware's side and Linux' driver, both.
 *
 * Hardware: a request becomes a 32-byte descriptor at the queue's tail; commands come back through the invalidation
 * queue. Driver: the interrupt reads head and tail once, decodes, checks and reports; an answer is a page group
 * response descriptor. Source: VT-d 4.x; Linux drivers/iommu/intel/prq.c, 6.12.
 *
 * Revision 3 has private data besides: a function in the root complex may send 16 bytes with a request, which must be
 * answered then, last of its group or not, and with the same bytes. Its driver is Linux's as it was until 6.9
 * (drivers/iommu/intel/svm.c; removed by "iommu/vt-d: Remove private data use in fault message"), which lets such a
 * request be its group's last for the generic layer. Revision 2 has other formats, and a file of its own, vtd_2.c.
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
extern const struct uiopf_model_ops uiopf_model_vtd_3;

hot_inline struct uiopf_vtd *uiopf_vtd_of(struct uiopf_model *model)
{
	return container_of(model, struct uiopf_vtd, model);
}

/* Its registers, of any revision: of so many entries of so many bytes. */
int uiopf_vtd_read_register(const struct uiopf_vtd *vtd, uint32_t offset, uint32_t entries, uint32_t bytes, uint64_t *value);
void uiopf_vtd_overflow(struct uiopf_vtd *vtd, struct uiopf_page_request request);
void uiopf_vtd_note(struct uiopf_vtd *vtd, uint32_t slot, uint64_t source, uint64_t message);
/* Hardware: a descriptor that answers nobody. Before revision 3, PASID-based invalidations have two granularities more. */
bool uiopf_vtd_other_command(struct uiopf_model *model, const uint64_t *descriptor);
bool uiopf_vtd_2_other_command(struct uiopf_model *model, const uint64_t *descriptor);
/* Driver: an address of 48 bits, sign-extended; what is below the page is not looked at. */
bool uiopf_vtd_is_canonical(uint64_t address);

/*
 * Hardware: takes a page request. One slot of the queue stays free; once it has overflowed nothing is queued until
 * software has cleared the bit. The message is also the descriptor's second word. `revision`, a constant: 3 or 4.
 */
hot_inline void uiopf_vtd_take(struct uiopf_vtd *v, struct uiopf_page_request request, int revision)
{
	const bool private = revision == 3 && request.private_data.there;
	uint64_t source = VTD_PRQ_TYPE | (uint64_t)request.requester_id << VTD_PRQ_RID_SHIFT;
	struct uiopf_records *q = &v->prq;
	uint64_t *d = uiopf_records_at(q->places, VTD_PRQ_WORDS, q->written);

	if (likely(request.has_pasid))
		source |= VTD_PRQ_PASID_PRESENT | (uint64_t)request.pasid << VTD_PRQ_PASID_SHIFT |
			  (request.execute ? VTD_PRQ_EXECUTE : 0) | (request.privileged ? VTD_PRQ_PRIVILEGED : 0);
	if (revision == 3)
		source |= private ? VTD_PRQ_PRIVATE_DATA : 0;
	if (unlikely(q->written - q->head >= VTD_PRQ_ENTRIES - 1 || (v->prq_status & VTD_PRS_PRO))) {
		uiopf_vtd_overflow(v, request);
		return;
	}
	if (unlikely(v->model.sent_under != NULL))
		uiopf_vtd_note(v, q->written % VTD_PRQ_ENTRIES, source, request.message);
	d[0] = source;
	d[1] = request.message;
	if (revision == 3) {
		d[2] = private ? request.private_data.word[0] : 0;
		d[3] = private ? request.private_data.word[1] : 0;
	}
	uiopf_records_put(q);
	uiopf_records_show(q);
	/* The last of a group makes the request pending, and raises the interrupt. */
	_Static_assert(PCIE_PRI_LAST == VTD_PRS_PPR << 2, "a shift makes one of the other");
	v->prq_status |= request.message >> 2 & VTD_PRS_PPR;
	if (private)
		v->prq_status |= VTD_PRS_PPR;
}

hot_inline void uiopf_vtd_page_request(struct uiopf_vtd *v, struct uiopf_page_request request)
{
	uiopf_vtd_take(v, request, 4);
}

hot_inline void uiopf_vtd_page_request_3(struct uiopf_vtd *v, struct uiopf_page_request request)
{
	uiopf_vtd_take(v, request, 3);
}
