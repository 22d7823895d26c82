/*
 * Stage-1 page tables in a client's arena: the client stores entries, the endpoint's translations walk them.
 *
 * The walk is the kernel side's view of memory that a client owns: every entry is loaded once, and an address that
 * does not lie in the arena is not there. The space is the client's own side of the same memory.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "abi/hardware.h"
#include "abi/iommufd.h"
#include "abi/api.h"
#include "base/atomics.h"
#include "base/lifetime.h"
#include "base/memory.h"
#include "hardware/guest.h"

struct uiopf_tables {		/* what the IOMMU knows of an arena */
	const uint8_t *map;
	uint64_t size;
	uint32_t pasids;	/* entries of the PASID table, at offset 0 */
	const uint32_t *resets;	/* how often the tables have begun anew */
};

static inline const uint64_t *uiopf_table_entry(const struct uiopf_tables *t, uint64_t table, uint32_t index)
{
	return (const uint64_t *)(const void *)(t->map + table + 8ull * index);
}

/* The entry of the last level for a page, or NULL where a table on the way is not there. */
static inline const uint64_t *uiopf_walk_to_leaf(const struct uiopf_tables *t, uint32_t pasid, uint64_t address)
{
	const uint64_t *at;
	uint64_t entry;
	int shift;

	if (unlikely(pasid >= t->pasids))
		return NULL;
	at = uiopf_table_entry(t, 0, pasid);
	for (shift = 39; shift >= 12; shift -= 9) {
		/* Pairs with the client's release of an entry: what it points to is complete. */
		entry = LOAD_ACQUIRE(at);
		if (unlikely(!(entry & STAGE1_PRESENT) || (entry & STAGE1_ADDRESS) > t->size - UIOPF_PAGE))
			return NULL;
		at = uiopf_table_entry(t, entry & STAGE1_ADDRESS, address >> shift & 511);
	}
	return at;
}

/*
 * Where walks have led, as a paging-structure cache keeps it: the last table of so many regions of 2 MiB. Only what is
 * there is kept, so who adds tables need not say so. Who takes one away tells the hardware to forget, with VT-d by an
 * invalidation command; here uiopf_space_reset() does, and nobody else can. What is kept lies in the arena, whatever a
 * client does to its tables.
 */
#define UIOPF_WALKS 32u

struct uiopf_walk_cache {
	uint32_t resets;
	struct uiopf_walked {
		uint64_t region;	/* its number, and in the 21 bits above it the PASID plus one; 0: nothing */
		const uint64_t *table;
	} at[UIOPF_WALKS];
};

/* A region of 2 MiB of one address space; never 0. */
static inline uint64_t uiopf_region_of(uint32_t pasid, uint64_t address)
{
	return (address >> 21 & 0x7ffffffffffu) | (uint64_t)(pasid + 1) << 43;
}

void uiopf_walks_forget(const struct uiopf_tables *t, struct uiopf_walk_cache *cache);

/* uiopf_walk_to_leaf(), by way of the cache. There are tables. */
static inline const uint64_t *uiopf_walk_cached(const struct uiopf_tables *t, struct uiopf_walk_cache *cache,
						uint32_t pasid, uint64_t address)
{
	const uint64_t region = uiopf_region_of(pasid, address);
	struct uiopf_walked *walked = &cache->at[(address >> 21 ^ pasid) % UIOPF_WALKS];
	const uint64_t *leaf;

	if (unlikely(pasid >= t->pasids))
		return NULL;
	if (unlikely(cache->resets != LOAD_ACQUIRE(t->resets)))
		uiopf_walks_forget(t, cache);
	if (likely(walked->region == region))
		return walked->table + (address >> 12 & 511);
	leaf = uiopf_walk_to_leaf(t, pasid, address);
	if (leaf)
		*walked = (struct uiopf_walked){ region, leaf - (address >> 12 & 511) };
	return leaf;
}

static inline bool uiopf_leaf_allows(uint64_t entry, uint32_t access)
{
	if (!(entry & STAGE1_PRESENT) || ((access & IOMMU_PGFAULT_PERM_WRITE) && !(entry & STAGE1_WRITE)))
		return false;
	return !((access & IOMMU_PGFAULT_PERM_EXEC) && (entry & STAGE1_NO_EXECUTE));
}

/* Whether an access (IOMMU_PGFAULT_PERM_*) to the page would go through now. */
static inline bool uiopf_walk(const struct uiopf_tables *t, uint32_t pasid, uint64_t address, uint32_t access)
{
	const uint64_t *leaf = uiopf_walk_to_leaf(t, pasid, address);

	return leaf && uiopf_leaf_allows(LOAD_ACQUIRE(leaf), access);
}

/* The client's side. One thread at a time. */
struct uiopf_space {
	struct uiopf_lifetime lifetime;	/* endpoints that walk it hold it, and designs that answer in the kernel */
	struct uiopf_region region;
	uint8_t *map;		/* the client's mapping */
	struct uiopf_guest *guest;	/* of two stages: the pages are made present there; NULL: here */
	uint32_t pasids;	/* none, if they are a guest's */
	uint64_t next, first;	/* the next free table page; the first after the PASID table */
	bool shared;		/* somebody else may write to it */
	uint64_t rooted[32];	/* a bit for each page of the PASID table that may have an entry */
	uint64_t last_region;	/* of the last page that was mapped: its 2 MiB and PASID, as in struct uiopf_walked */
	uint64_t *last_table;	/* … and the table that has its entry */
	UIOPF_LINE uint32_t resets;	/* looked at for every answer */
};
UIOPF_BEGINS_A_LINE(struct uiopf_space, resets);

/* Maps all that a message asks for: 0, or why its page is not mapped. Few devices ask for more than the page. */
hot_inline int uiopf_space_map_wanted(struct uiopf_space *space, uint32_t pasid, uint64_t address, uint32_t length,
				      uint32_t perm)
{
	const int rc = uiopf_space_map(space, pasid, address, perm);

	if (unlikely(length > UIOPF_PAGE) && rc == 0)
		uiopf_space_map_behind(space, pasid, address, length, perm);
	return rc;
}
