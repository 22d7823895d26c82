/*
 * Translation in two stages: stage 1 the client's, stage 2 the host's; either may be absent.
 *
 * Stage 1 makes an intermediate address (Arm: IPA; VT-d: guest physical address) of the function's, stage 2 the address in
 * memory. The tables of stage 1 have intermediate addresses themselves, so each of their entries is fetched by way of
 * stage 2: a walk of four levels is up to five walks of stage 2, and each can end there. A translation says which stage
 * has ended it, at which level and why, and whether stage 2 ended it for a table of stage 1 or for the address itself.
 *
 * Order, as in Arm's pseudocode: stage 1 is walked and its rights are checked; its accessed and dirty bits are set; then
 * stage 2 translates what came out, and its bits are set. A walk that ends early has set no bit in the tables of the stage
 * that ended it; both manuals would let hardware set the accessed ones. Setting a bit in a table of stage 1 is a write,
 * which stage 2 must allow; VT-d and Arm report it as a fault of stage 2. With VT-d, if stage 2 tracks, so is a read.
 *
 * The tables are a client's memory, which another thread may change at any time. An entry is loaded once, and the copy is
 * checked and used. Bits are set by compare-and-swap against that copy; if the entry has changed since, the walk begins
 * anew, so a bit never goes into an entry that is not the one that was used. A client that does nothing else could keep
 * the hardware busy: after UIOPF_RESTARTS the access ends as if nothing were there, and the device asks for the page.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"
#include "hardware/tables/format.h"
#include "hardware/tables/tlb.h"

#define UIOPF_RESTARTS 16u
#define UIOPF_NO_ROOT UINT64_MAX

struct uiopf_stage {
	const struct uiopf_format *format;	/* NULL: addresses pass as they are */
	uint8_t *map;			/* the memory that its tables are in; after stage 2, for stage 1 */
	uint64_t size;			/* whole pages */
	bool tracks;			/* hardware sets accessed and dirty bits; some formats always do */
};

/* Why a translation has ended. Python has the numbers. */
enum uiopf_reason {
	UIOPF_TRANSLATED,
	UIOPF_NOT_PRESENT,	/* also: of a type that is reserved, in Arm's formats */
	UIOPF_RESERVED_BIT,	/* also: a large page that is not aligned */
	UIOPF_NOT_ACCESSED,	/* Arm's access flag is clear, and hardware may not set it */
	UIOPF_NO_RIGHT,
	UIOPF_NO_SUCH_ADDRESS,	/* more bits than the tables have */
	UIOPF_NO_MEMORY_THERE,	/* an entry would be where no memory is */
	UIOPF_NO_TABLES,	/* for this PASID */
	UIOPF_RESTLESS,		/* its entries kept changing */
	UIOPF_REASONS,
};

struct uiopf_translation {
	uint32_t stage;		/* that has ended it, 1 or 2; 0: translated */
	uint32_t reason, level;	/* level: of that stage's tables; 0: none */
	bool of_table;		/* stage 2: for a table of stage 1 */
	bool writes_table;	/* … which is to get an accessed or dirty bit */
	uint64_t intermediate;	/* what stage 2 was to translate, or has */
	uint64_t address;	/* translated */
	uint32_t shift, rights;	/* of what a TLB may keep: its size, and what needs no further walk */
};

struct uiopf_stages_counts {
	uint64_t translations, walks, second_walks, entries, bits_set, restarts, looks, looked_at;
};

struct uiopf_stages {
	struct uiopf_stage first, second;
	uint64_t second_root;
	struct uiopf_tlb iotlb;
	bool only_looks;		/* no bit is set */
	struct uiopf_stages_counts counts;
};

/* Hardware: translates an address for an access, IOMMU_PGFAULT_PERM_*, by the tables whose root this is. */
struct uiopf_translation uiopf_stages_translate(struct uiopf_stages *s, uint32_t pasid, uint64_t first_root,
						uint64_t address, uint32_t access);

/*
 * Software: how such a translation would end by the tables as they are now. No bit is set, nothing is kept, and nothing
 * that is kept is used. A driver that has a page request finds the stage so, since the request does not say it.
 */
struct uiopf_translation uiopf_stages_look(struct uiopf_stages *s, uint64_t first_root, uint64_t address, uint32_t access);
