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

/*
 * What invalidation commands name it by. The domain is Arm's VMID, VT-d's and AMD's domain id, RISC-V's GSCID: both stages
 * have it. What the IOTLB keeps through all stages has a tag besides: Arm's ASID, RISC-V's PSCID; of the others it is the
 * PASID, as it is here where nobody has said anything else.
 */
struct uiopf_translator {
	struct uiopf_lifetime lifetime;		/* devices' TLBs hold it */
	struct uiopf_core *core;
	struct uiopf_pagetables *first, *second;	/* held; NULL: no such stage */
	struct uiopf_stages stages;
	uint32_t domain;
	uint32_t *tag;				/* by PASID; NULL: each has its own number */
};

/* A PASID's table entry, or its context descriptor: what it says, and what hardware keeps of it. */
struct uiopf_context {
	uint64_t root;
	uint32_t tag, pasid;
	bool there;
};

#define UIOPF_CONTEXTS 16u

struct uiopf_device_tlb {
	struct uiopf_translator *translator;	/* held */
	struct uiopf_tlb tlb;
	/* The IOMMU's, for this function. A PASID that is taken away is used until it is invalidated. */
	bool keeps_contexts;
	struct uiopf_context context[UIOPF_CONTEXTS];
};

/* Commands: what a translator keeps of addresses through all stages under a tag; of stage 2; what it keeps of a PASID. */
#define UIOPF_ANY_TAG UINT32_MAX
void uiopf_translator_drop(struct uiopf_translator *translator, uint32_t tag, uint64_t first, uint64_t last);
void uiopf_translator_drop_second(struct uiopf_translator *translator, uint64_t first, uint64_t last);
void uiopf_device_tlb_drop(struct uiopf_device_tlb *tlb, uint32_t pasid, uint64_t first, uint64_t last);
void uiopf_device_tlb_drop_context(struct uiopf_device_tlb *tlb, uint32_t pasid);

/* As Python reads it. */
void uiopf_translation_tell(const struct uiopf_translation *t, struct uiopf_translated *translated);

/* Producer: translates an access (IOMMU_PGFAULT_PERM_*), by what a device keeps, or without that. */
struct uiopf_translation uiopf_device_tlb_walk(struct uiopf_device_tlb *tlb, uint32_t pasid, uint64_t address,
					       uint32_t access);
struct uiopf_translation uiopf_translator_walk(struct uiopf_translator *translator, uint32_t pasid, uint64_t address,
					       uint32_t access);
/* … or looks as software does, in a driver's interrupt. */
struct uiopf_translation uiopf_translator_look_now(struct uiopf_translator *translator, uint32_t pasid, uint64_t address,
						   uint32_t access);
