/*
 * AMD's IOMMU: the log of peripheral page requests (PPR) and their completion, the hardware's side and Linux' driver, both.
 *
 * Hardware: a request becomes an entry of 16 bytes in the log; commands come back through the command buffer. What
 * becomes of a request that the log does not simply take:
 *
 *   condition                                  | auto response off (as Linux leaves it) | auto response on
 *   as many entries as the early threshold     | logged                                 | answered by the IOMMU
 *   the log is full                            | overflow: logging stops; lost          | answered by the IOMMU
 *   logging has stopped, after an overflow     | lost                                   | answered by the IOMMU
 *   the log or page requests are switched off  | lost                                   | lost
 *   a stop marker, whatever the log is         | kept out of the log                    | kept out of the log
 *
 * (Lost: or answered, where UIOPF_MODEL_DROPPED_* says so.) The IOMMU answers the last request of a group, with the code in the auto-response register; the others have no answer
 * of their own. The text of the specification was not at hand: that the threshold decides where it is switched on, and a
 * full log otherwise, is what register descriptions say; the rest of the table is our reading. Linux does not know stop
 * markers, which would be reported as faults; that the IOMMU blocks them is an option of real ones (BlkStopMrkEn).
 *
 * Driver: its interrupt reads head and tail once, decodes, checks and reports. A request with a malformed entry, without
 * a PASID, or with one beyond its range, it answers FAILURE, whether or not it is its group's last; one of a function
 * that nobody knows it drops without an answer. After an overflow it restarts the log, and keeps the groups that are
 * incomplete. Sources: Linux drivers/iommu/amd/{ppr.c,init.c,iommu.c,amd_iommu_types.h}, 6.12 and 7.2.
 */
#pragma once
#include "abi/hardware.h"
#include "base/records.h"
#include "hardware/iommu/model.h"

/*
 * Linux takes PASIDs of up to 16 bits from this IOMMU, and counts one less than there are. 0 is the requests' that have
 * none.
 */
#define AMD_MAX_PASIDS 0xffffu

struct uiopf_amd {
	struct uiopf_model model;

	/* The log: the hardware writes it and the driver's interrupt reads it, on one thread. */
	struct uiopf_records log;
	uint32_t room;		/* so many entries are simply written; 0: it does not run */
	uint64_t control, status, auto_response, early;	/* registers */

	/* Groups that the IOMMU has answered since the driver's interrupt, and how much had been written to the log by then. */
	struct uiopf_amd_answered {
		uint32_t at;
		uint16_t requester_id, index;
	} *answered;
	uint32_t answered_count, answered_capacity;
};
UIOPF_BEGINS_A_LINE(struct uiopf_amd, log);

extern const struct uiopf_model_ops uiopf_model_amd;

hot_inline struct uiopf_amd *uiopf_amd_of(struct uiopf_model *model)
{
	return container_of(model, struct uiopf_amd, model);
}

/* Hardware: whether a request is logged all the same that finds no room, by the table above. */
bool uiopf_amd_takes(struct uiopf_amd *amd, struct uiopf_page_request request);
void uiopf_amd_note(struct uiopf_amd *amd, uint32_t slot, uint64_t word0, uint64_t word1);

/* Hardware: takes a page request. */
hot_inline void uiopf_amd_page_request(struct uiopf_amd *a, struct uiopf_page_request request)
{
	const uint64_t m = request.message;
	uint64_t word0 = request.requester_id | (m >> PCIE_PRI_PRGI_SHIFT & 0x1ff) << AMD_PPR_TAG_SHIFT |
			 (m >> 2 & 1) << AMD_PPR_LAST_SHIFT | (m & 1) << AMD_PPR_READ_SHIFT |
			 (m >> 1 & 1) << AMD_PPR_WRITE_SHIFT | (uint64_t)AMD_PPR_TYPE_FAULT << AMD_PPR_TYPE_SHIFT;
	struct uiopf_records *q = &a->log;
	uint64_t *d = uiopf_records_at(q->places, AMD_PPR_WORDS, q->written);

	if (likely(request.has_pasid))
		word0 |= 1ull << AMD_PPR_GN_SHIFT | (uint64_t)(request.pasid & 0xffff) << AMD_PPR_PASID_SHIFT |
			 (uint64_t)(request.pasid >> 16) << AMD_PPR_PASID_TOP_SHIFT |
			 (request.execute ? 1ull << AMD_PPR_EXECUTE_SHIFT : 0);
	word0 |= request.privileged ? 0 : 1ull << AMD_PPR_USER_SHIFT;
	if (unlikely(q->written - q->head >= a->room) && !uiopf_amd_takes(a, request))
		return;
	if (unlikely((m & (PCIE_PRI_LAST | PCIE_PRI_READ | PCIE_PRI_WRITE)) == PCIE_PRI_LAST) &&
	    uiopf_is_stop_marker(request))
		return;
	if (unlikely(a->model.sent_under != NULL))
		uiopf_amd_note(a, q->written & q->places.mask, word0, m & PCIE_PRI_ADDRESS);
	d[0] = word0;
	d[1] = m & PCIE_PRI_ADDRESS;
	uiopf_records_put(q);
	uiopf_records_show(q);
	a->status |= AMD_STATUS_PPR_INT;
}
