/*
 * Arm's SMMUv3: PRI queue, event queue and the answers to both, the hardware's side and a driver.
 *
 * Hardware: a request becomes an entry of 16 bytes in the PRI queue; commands come back through the command queue. What
 * the queue does not take, the SMMU answers by itself:
 *
 *   condition                                   | request                        | what becomes of it
 *   the queue is full, or has overflowed        | the last of a group            | Success; with its PASID
 *   and the driver has not said that it knows   | the last, of an unknown stream | Response Failure, without a PASID
 *                                               | not the last                   | no answer: that of the last is for all
 *   CR0.PRIQEN is 0, or GERROR.PRIQ_ABT_ERR is  | any                            | Response Failure, without a PASID
 *   active                                      |                                |
 *   writing the entry aborts, synchronously     | any                            | Response Failure; PRIQ_ABT_ERR is active
 *   … asynchronously                            | any                            | lost; PRIQ_ABT_ERR is active
 *   any of these                                | a stop marker                  | no answer, as always
 *
 * (An answer has the PASID of its request where IDR3.PPS or the stream's STE.PPAR is 1. A driver sets the latter for
 * functions that want it, as ours do, so the two come to the same.)
 *
 * The command queue (one for each side that gives commands, as the enhanced ones of 3.3) takes what a Non-secure queue of
 * such an SMMU may have: IDR0 says stage 1 and 2, Hyp, ATS, PRI and stalls. Those that invalidate drop what they name of
 * the functions' translators (invalidate.h). What is illegal stops both queues: CMDQ_CONS.ERR says CERROR_ILL,
 * GERROR.CMDQ_ERR is active. The driver puts CMD_SYNC in its place, acknowledges, and it goes on. A command
 * for a stream without a function, or whose function is of the other kind, has no effect: nothing of it stalls, or it has
 * no PRI.
 *
 * A function without PRI has so many places in which its transactions stall. Of one that does, an event of 32 bytes goes
 * into the event queue, with a tag by which CMD_RESUME names it: it is tried again, or aborts. Such an event is never
 * lost and never an overflow: where the queue is full, it is kept until there is room. A transaction without a place
 * waits outside. One of a stream that no device is bound to does not stall, it aborts.
 *
 * Driver: reports stalls, as Linux's does. It reports page requests, as the series of 2021 does; or denies them, as Linux does to this day. Sources: IHI 0070,
 * 4.3 to 4.7, 7.2, 7.3, 8.1, 8.2; Linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c, 6.12 and 7.2; J.-P. Brucker, "iommu/arm-smmu-v3: Add
 * support for PRI".
 */
#pragma once
#include "abi/hardware.h"
#include "base/records.h"
#include "hardware/iommu/model.h"

/* Why requests are not simply written into the queue. */
#define SMMU_PRIQ_OFF 1u		/* CR0.PRIQEN is 0 */
#define SMMU_PRIQ_OVERFLOWED 2u		/* PRIQ_PROD.OVFLG is not PRIQ_CONS.OVACKFLG */
#define SMMU_PRIQ_ABORTED 4u		/* GERROR.PRIQ_ABT_ERR is active */
#define SMMU_PRIQ_ABORT_SYNC 8u		/* the next write is to abort */
#define SMMU_PRIQ_ABORT_ASYNC 16u

struct uiopf_smmuv3 {
	struct uiopf_model model;

	/* The PRI queue: the hardware writes it and the driver's interrupt reads it, on one thread. */
	struct uiopf_records prq;
	uint32_t priq_state;			/* SMMU_PRIQ_*; 0: an entry is written wherever there is room */
	uint32_t overflow_flag, overflow_seen;	/* PRIQ_PROD.OVFLG, PRIQ_CONS.OVACKFLG */
	uint32_t gerror, gerrorn;		/* SMMU_GERROR_*: active where the two differ */
	bool incomplete;			/* the last of a group may be among requests that were not written */
	enum uiopf_side stopped_side;		/* whose queue has the illegal command */

	/* The event queue, in the same way. What finds no room waits. */
	struct uiopf_records evtq;
};
UIOPF_BEGINS_A_LINE(struct uiopf_smmuv3, prq);
UIOPF_BEGINS_A_LINE(struct uiopf_smmuv3, evtq);

extern const struct uiopf_model_ops uiopf_model_smmuv3;

hot_inline struct uiopf_smmuv3 *uiopf_smmuv3_of(struct uiopf_model *model)
{
	return container_of(model, struct uiopf_smmuv3, model);
}

/* The registers: an index with its wrap bit, and the overflow flag. */
static inline uint32_t uiopf_smmuv3_priq_prod(const struct uiopf_smmuv3 *s)
{
	return s->prq.written % (2 * SMMU_PRIQ_ENTRIES) | s->overflow_flag;
}

static inline uint32_t uiopf_smmuv3_priq_cons(const struct uiopf_smmuv3 *s)
{
	return s->prq.head % (2 * SMMU_PRIQ_ENTRIES) | s->overflow_seen;
}

/* Hardware: a request that finds the queue full, or a reason not to be written. */
void uiopf_smmuv3_not_written(struct uiopf_smmuv3 *smmu, struct uiopf_page_request request);
void uiopf_smmuv3_note(struct uiopf_smmuv3 *smmu, uint32_t slot, uint64_t word0, uint64_t word1);

/* Hardware: takes a page request. */
hot_inline void uiopf_smmuv3_page_request(struct uiopf_smmuv3 *s, struct uiopf_page_request request)
{
	const uint64_t bits = request.message & (PCIE_PRI_READ | PCIE_PRI_WRITE | PCIE_PRI_LAST);
	uint64_t word0 = request.requester_id | bits << SMMU_PRIQ_MESSAGE_SHIFT, word1;
	struct uiopf_records *q = &s->prq;
	uint64_t *d = uiopf_records_at(q->places, SMMU_PRIQ_WORDS, q->written);

	if (likely(request.has_pasid))
		word0 |= SMMU_PRIQ_SSV | (uint64_t)request.pasid << SMMU_PRIQ_SSID_SHIFT |
			 (request.execute ? SMMU_PRIQ_EXECUTE : 0) | (request.privileged ? SMMU_PRIQ_PRIVILEGED : 0);
	word1 = (request.message & PCIE_PRI_ADDRESS) | (request.message >> PCIE_PRI_PRGI_SHIFT & SMMU_PRIQ_INDEX);
	if (unlikely(q->written - q->head == SMMU_PRIQ_ENTRIES || s->priq_state)) {
		uiopf_smmuv3_not_written(s, request);
		return;
	}
	if (unlikely(s->model.sent_under != NULL))
		uiopf_smmuv3_note(s, q->written % SMMU_PRIQ_ENTRIES, word0, word1);
	d[0] = word0;
	d[1] = word1;
	uiopf_records_put(q);
	uiopf_records_show(q);
}
