/*
 * Hardware that translates: the two stages with the tables that software has given it, an IOTLB, and devices' own TLBs.
 *
 * The producer's; software's calls come at a quiescent point of the core.
 */
#pragma once
#include "abi/api.h"
#include "base/lifetime.h"
#include "core/core.h"
#include "hardware/tables/software.h"
#include "hardware/tables/stages.h"

struct uiopf_translator {
	struct uiopf_lifetime lifetime;		/* devices' TLBs hold it */
	struct uiopf_core *core;
	struct uiopf_pagetables *first, *second;	/* held; NULL: no such stage */
	struct uiopf_stages stages;
};

struct uiopf_device_tlb {
	struct uiopf_translator *translator;	/* held */
	struct uiopf_tlb tlb;
};

/* As Python reads it. */
void uiopf_translation_tell(const struct uiopf_translation *t, struct uiopf_translated *translated);

/* Producer: translates an access (IOMMU_PGFAULT_PERM_*), by what a device keeps, or without that. */
struct uiopf_translation uiopf_device_tlb_walk(struct uiopf_device_tlb *tlb, uint32_t pasid, uint64_t address,
					       uint32_t access);
struct uiopf_translation uiopf_translator_walk(struct uiopf_translator *translator, uint32_t pasid, uint64_t address,
					       uint32_t access);
