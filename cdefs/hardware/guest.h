/*
 * A guest's memory, as a client of two stages has it: page tables of stage 1 in a real format, and the page frames that
 * they lead to, which are intermediate addresses. A page that is made present gets the frame that is next.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "hardware/tables/software.h"

struct uiopf_guest {
	struct uiopf_pagetables *tables;	/* held */
	uint64_t frames, next;
	uint32_t *pasid, pasids;		/* those that have tables from the start */
};

/* NULL: no memory, or the PASIDs need more table pages than there are. */
struct uiopf_guest *uiopf_guest_new(struct uiopf_pagetables *tables, uint64_t frames, const uint32_t *pasid,
				    uint32_t pasids);
void uiopf_guest_free(struct uiopf_guest *guest);
/* Everything goes, and all frames are free again. */
void uiopf_guest_reset(struct uiopf_guest *guest);
/* As the uiopf_space_*() functions have it; -ENOMEM: no frame is free, too; -EEXIST: a large page has fewer rights. */
int uiopf_guest_map(struct uiopf_guest *guest, uint32_t pasid, uint64_t address, uint32_t perm);
int uiopf_guest_unmap(struct uiopf_guest *guest, uint32_t pasid, uint64_t address);
bool uiopf_guest_allows(struct uiopf_guest *guest, uint32_t pasid, uint64_t address, uint32_t perm);
