/*
 * Translations that hardware keeps: an IOMMU's IOTLB, or a device's own (its ATC, or device TLB).
 *
 * What is kept is used without a look at the tables. So software that takes a page away, or takes a right from it, has to
 * say so, in each place that may keep it; a translation that was not invalidated goes on being used, as on hardware. A
 * right that was added needs no word: an entry that does not allow an access is dropped, and the tables are walked. So is
 * one that has not seen a write, for the first write, since that sets the dirty bit. Nothing is kept of what is not there.
 *
 * The places are filled in turn, and the place that was filled longest ago is filled next. Of several that have an
 * address, the first place is used: Arm calls it unpredictable, and it takes a page that was mapped anew in another size
 * without an invalidation.
 *
 * Belongs to one thread at a time: the hardware's, or whoever has stopped it.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Of a function's address, through all stages; or of stage 2 alone, and used for tables of stage 1, too. */
enum uiopf_tlb_kind { UIOPF_TLB_EMPTY, UIOPF_TLB_WHOLE, UIOPF_TLB_STAGE_2 };

struct uiopf_tlb_entry {
	uint64_t from, to;	/* aligned to its size */
	uint32_t pasid;		/* 0 in one of stage 2 */
	uint8_t kind, shift, rights;
};

struct uiopf_tlb {
	struct uiopf_tlb_entry *entry;
	uint32_t capacity, next;
	uint64_t hits, misses;
};

#define UIOPF_TLB_MOST 4096u

int uiopf_tlb_open(struct uiopf_tlb *tlb, uint32_t capacity);	/* -ENOMEM; 0 places: it keeps nothing */
void uiopf_tlb_close(struct uiopf_tlb *tlb);

/* The translation of an address that allows *need*, or NULL. One that allows less is dropped. */
const struct uiopf_tlb_entry *uiopf_tlb_find(struct uiopf_tlb *tlb, enum uiopf_tlb_kind kind, uint32_t pasid,
					     uint64_t address, uint32_t need);
void uiopf_tlb_keep(struct uiopf_tlb *tlb, struct uiopf_tlb_entry entry);

/* What a command invalidates; how many were there. */
#define UIOPF_ANY_PASID UINT32_MAX
uint32_t uiopf_tlb_invalidate(struct uiopf_tlb *tlb, enum uiopf_tlb_kind kind, uint32_t pasid, uint64_t first,
			      uint64_t last);
uint32_t uiopf_tlb_invalidate_all(struct uiopf_tlb *tlb);
