/*
 * The RISC-V IOMMU: its page-request queue and ATS.PRGR, the hardware's side and a driver, both.
 *
 * Hardware: a request becomes a record of 16 bytes in the queue; commands come back through the command queue. What the
 * queue does not take, it answers by itself, where it is the last of a group:
 *
 *   condition                                   | PRG Response
 *   pqcsr.pqen is 0                             | Response Failure
 *   pqcsr.pqmf is 1: a record was not written   | Response Failure
 *   pqcsr.pqof is 1: the queue has overflowed   | Success: the function asks again
 *   the queue is full: pqof becomes 1           | Success
 *   writing the record faults: pqmf becomes 1   | Response Failure
 *
 * (In this order.) A request that is not the last, and a stop marker, are dropped without an answer. The specification
 * lets an IOMMU answer; this one does, unless UIOPF_MODEL_DROPPED_* says something else of the two about an overflow.
 *
 * Driver: Linux has none for page requests, up to 7.2: it switches the queue off. This one does what the specification asks
 * of software. Its interrupt clears the error bits, reads head and tail, decodes and reports; it skips stop markers, and
 * ignores groups that an overflow has left incomplete. Sources: RISC-V IOMMU Architecture Specification 1.0, page-request
 * queue and software guidelines; its reference model, iommu_ats.c; Linux drivers/iommu/riscv/iommu-bits.h, 7.2.
 */
#pragma once
#include "abi/hardware.h"
#include "base/records.h"
#include "hardware/iommu/model.h"

struct uiopf_riscv {
	struct uiopf_model model;

	/* The page-request queue: the hardware writes it and the driver's interrupt reads it, on one thread. */
	struct uiopf_records pq;
	uint32_t room;		/* so many records are simply written; 0: nothing is */
	uint32_t pqcsr, ipsr;	/* registers */
	uint32_t pending;	/* what a record sets in ipsr: pip, where pie is 1 */
	bool faults;		/* the next record cannot be written */
};
UIOPF_BEGINS_A_LINE(struct uiopf_riscv, pq);

extern const struct uiopf_model_ops uiopf_model_riscv;

hot_inline struct uiopf_riscv *uiopf_riscv_of(struct uiopf_model *model)
{
	return container_of(model, struct uiopf_riscv, model);
}

/* Hardware: a request that has no place, by the table above. */
void uiopf_riscv_discard(struct uiopf_riscv *riscv, struct uiopf_page_request request);
void uiopf_riscv_note(struct uiopf_riscv *riscv, uint32_t slot, uint64_t source, uint64_t message);

/* Hardware: takes a page request. The message is also the record's second word. */
hot_inline void uiopf_riscv_page_request(struct uiopf_riscv *r, struct uiopf_page_request request)
{
	uint64_t source = (uint64_t)request.requester_id << RISCV_PQ_DID_SHIFT;
	struct uiopf_records *q = &r->pq;
	uint64_t *d = uiopf_records_at(q->places, RISCV_PQ_WORDS, q->written);

	if (likely(request.has_pasid))
		source |= RISCV_PQ_PV | (uint64_t)request.pasid << RISCV_PQ_PID_SHIFT |
			  (request.execute ? RISCV_PQ_EXEC : 0) | (request.privileged ? RISCV_PQ_PRIV : 0);
	if (unlikely(q->written - q->head >= r->room)) {
		uiopf_riscv_discard(r, request);
		return;
	}
	if (unlikely(r->model.sent_under != NULL))
		uiopf_riscv_note(r, q->written % RISCV_PQ_ENTRIES, source, request.message);
	d[0] = source;
	d[1] = request.message;
	uiopf_records_put(q);
	uiopf_records_show(q);
	r->ipsr |= r->pending;
}
