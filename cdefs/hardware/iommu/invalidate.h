/*
 * What invalidation commands do, whatever the vendor's words: they name translations, and the IOTLBs and device TLBs of the
 * functions behind one IOMMU drop them. Nothing else is dropped, so that a command that software forgets is seen to be
 * missing.
 *
 * A translator is behind an IOMMU as long as a function there translates by it. Two that have one domain are both named.
 *
 * The hardware's, on its thread or quiescent.
 */
#pragma once
#include "hardware/endpoint.h"

#define UIOPF_ANY_DOMAIN UINT32_MAX	/* also those that have no stage 2 */
#define UIOPF_ANY_GUEST (UINT32_MAX - 1)	/* all that have stage 2 */
#define UIOPF_NO_GUEST (UINT32_MAX - 2)	/* those that have none */
#define UIOPF_GUEST 0x10000u		/* added to a domain: of those that have stage 2 alone */
#define UIOPF_ANY_REQUESTER UINT32_MAX

struct uiopf_range {
	uint64_t first, last;
};

#define UIOPF_ALL_ADDRESSES ((struct uiopf_range){ 0, UINT64_MAX })

/* 2^shift bytes around an address. */
static inline struct uiopf_range uiopf_aligned_range(uint64_t address, uint32_t shift)
{
	const uint64_t inside = shift < 64 ? (1ull << shift) - 1 : UINT64_MAX;

	return (struct uiopf_range){ address & ~inside, address | inside };
}

/* PCIe's ATS: a page; or, where S says so, as many as the lowest 0 of the address from bit 12 on says, twice that. */
static inline struct uiopf_range uiopf_ats_range(uint64_t address, bool more)
{
	const uint64_t zeros = ~address >> 12;

	return uiopf_aligned_range(address, !more ? 12 : zeros ? (uint32_t)__builtin_ctzll(zeros) + 13 : 64);
}

/* Of the IOTLB: through all stages, under a tag; of stage 2 alone. */
void uiopf_invalidate(const struct uiopf_port *port, uint32_t domain, uint32_t tag, struct uiopf_range range);
void uiopf_invalidate_second(const struct uiopf_port *port, uint32_t domain, struct uiopf_range range);
/* Of a function's own TLB: of a PASID, or of any. PCIe's invalidation without a PASID is of any. */
void uiopf_invalidate_device(const struct uiopf_port *port, uint32_t requester_id, uint32_t pasid,
			     struct uiopf_range range);
/* What is kept of PASIDs: their roots and tags. */
void uiopf_invalidate_contexts(const struct uiopf_port *port, uint32_t requester_id, uint32_t domain, uint32_t pasid);
