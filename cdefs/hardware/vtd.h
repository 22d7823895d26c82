/*
 * Intel VT-d's page request queue and its answers: the hardware's side and Linux' driver, both.
 *
 * Hardware: a request becomes a 32-byte descriptor at the queue's tail; commands come back through the invalidation
 * queue. Driver: the interrupt reads head and tail once, decodes, checks and reports; an answer is a page group
 * response descriptor. Source: VT-d 4.x; Linux drivers/iommu/intel/prq.c, 6.12.
 */
#pragma once
#include "../abi/hardware.h"
#include "../core.h"
#include "../iopf.h"
#include "endpoint.h"

#define VTD_IQ_FIRST 1024u	/* entries to begin with: room for two answers to every index of a function */
#define VTD_MOST_SOURCES 16u
#define VTD_REQUESTER_IDS 65536u

struct uiopf_vtd {
	struct uiopf_iommu iommu;
	struct uiopf_vtd_source {
		struct uiopf_device *device;
		struct uiopf_endpoint *endpoint;
	} *source;			/* by requester id */
	uint32_t sources;
	uint32_t flags;			/* UIOPF_VTD_* */
	uint64_t *sent_under;		/* undrained: the attachment's handle when a request came, by slot */

	/* The page request queue. */
	uint64_t (*prq)[VTD_PRQ_WORDS];
	UIOPF_LINE uint32_t prq_head, prq_tail;	/* entries, free-running is not what the registers do: 0 to 2,047 */
	uint32_t prq_status;
	uint64_t overflowed;		/* requests that the full queue did not take */

	/* The invalidation queue. Answers may come from both sides: the lock is taken only where that is two threads. */
	UIOPF_LINE uint64_t (*iq)[VTD_IQ_WORDS];	/* words 2 and 3 are zero for good, here and in the other queue */
	uint32_t iq_entries;		/* grows with the functions */
	UIOPF_LINE uint32_t iq_written;		/* by the driver */
	uint32_t iq_full;		/* commands that found no room */
	uint32_t iq_lock;
	UIOPF_LINE uint32_t iq_tail;	/* the tail register */
	UIOPF_LINE uint32_t iq_head;	/* the hardware's */
};

void uiopf_vtd_overflow(struct uiopf_vtd *vtd);
void uiopf_vtd_note(struct uiopf_vtd *vtd, uint32_t slot, uint64_t source, uint64_t message);

/* Word 0 of a function's descriptors, but for the PASID. */
static inline uint64_t uiopf_vtd_source_word(uint16_t requester_id)
{
	return VTD_PRQ_TYPE | (uint64_t)requester_id << VTD_PRQ_RID_SHIFT;
}

/*
 * Hardware: takes a page request. source: uiopf_vtd_source_word() and the VTD_PRQ_ bits of the PASID that comes with
 * it; message: PCIE_PRI_*, which is also the descriptor's second word. One slot of the queue stays free; once it has
 * overflowed nothing is queued until software has cleared the bit.
 */
static inline void uiopf_vtd_page_request(struct uiopf_vtd *v, uint64_t source, uint64_t message)
{
	uint32_t tail = v->prq_tail, next = (tail + 1) & (VTD_PRQ_ENTRIES - 1);

	if (unlikely(next == v->prq_head || (v->prq_status & VTD_PRS_PRO))) {
		uiopf_vtd_overflow(v);
		return;
	}
	if (unlikely(v->sent_under != NULL))
		uiopf_vtd_note(v, tail, source, message);
	v->prq[tail][0] = source;
	v->prq[tail][1] = message;
	v->prq_tail = next;
	v->prq_status |= VTD_PRS_PPR;
}

/* Quiescent. */
void uiopf_vtd_forget_endpoint(struct uiopf_vtd *vtd, const struct uiopf_endpoint *endpoint);
