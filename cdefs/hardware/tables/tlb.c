#include "hardware/tables/tlb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int uiopf_tlb_open(struct uiopf_tlb *tlb, uint32_t capacity)
{
	*tlb = (struct uiopf_tlb){ .capacity = capacity };
	tlb->entry = calloc(capacity ? capacity : 1, sizeof *tlb->entry);
	return tlb->entry ? 0 : -ENOMEM;
}

void uiopf_tlb_close(struct uiopf_tlb *tlb)
{
	free(tlb->entry);
	tlb->entry = NULL;
}

const struct uiopf_tlb_entry *uiopf_tlb_find(struct uiopf_tlb *tlb, enum uiopf_tlb_kind kind, uint32_t pasid,
					     uint64_t address, uint32_t need)
{
	uint32_t i;

	for (i = 0; i < tlb->capacity; i++) {
		struct uiopf_tlb_entry *e = &tlb->entry[i];

		if (e->kind != kind || e->pasid != pasid || (address ^ e->from) >> e->shift)
			continue;
		if ((e->rights & need) == need) {
			tlb->hits++;
			return e;
		}
		e->kind = UIOPF_TLB_EMPTY;	/* and it may be that another one has the address, too */
	}
	tlb->misses++;
	return NULL;
}

void uiopf_tlb_keep(struct uiopf_tlb *tlb, struct uiopf_tlb_entry entry)
{
	const uint64_t inside = (1ull << entry.shift) - 1;

	if (!tlb->capacity)
		return;
	entry.from &= ~inside;
	entry.to &= ~inside;
	tlb->entry[tlb->next] = entry;
	tlb->next = (tlb->next + 1) % tlb->capacity;
}

uint32_t uiopf_tlb_invalidate(struct uiopf_tlb *tlb, enum uiopf_tlb_kind kind, uint32_t pasid, uint64_t first,
			      uint64_t last)
{
	uint32_t i, were = 0;

	for (i = 0; i < tlb->capacity; i++) {
		struct uiopf_tlb_entry *e = &tlb->entry[i];

		if (e->kind == kind && (pasid == UIOPF_ANY_PASID || e->pasid == pasid) && e->from <= last &&
		    e->from + ((1ull << e->shift) - 1) >= first) {
			e->kind = UIOPF_TLB_EMPTY;
			were++;
		}
	}
	return were;
}

uint32_t uiopf_tlb_invalidate_all(struct uiopf_tlb *tlb)
{
	return uiopf_tlb_invalidate(tlb, UIOPF_TLB_WHOLE, UIOPF_ANY_PASID, 0, UINT64_MAX) +
	       uiopf_tlb_invalidate(tlb, UIOPF_TLB_STAGE_2, UIOPF_ANY_PASID, 0, UINT64_MAX);
}
