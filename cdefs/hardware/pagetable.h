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
#include "api.h"
#include "atomics.h"
#include "memory.h"

struct uiopf_tables {		/* what the IOMMU knows of an arena */
	const uint8_t *map;
	uint64_t size;
	uint32_t pasids;	/* entries of the PASID table, at offset 0 */
};

static inline const uint64_t *uiopf_table_entry(const struct uiopf_tables *t, uint64_t table, uint32_t index)
{
	return (const uint64_t *)(const void *)(t->map + table + 8ull * index);
}

/* Whether an access (IOMMU_PGFAULT_PERM_*) to the page would go through now. */
static inline bool uiopf_walk(const struct uiopf_tables *t, uint32_t pasid, uint64_t address, uint32_t access)
{
	uint64_t entry, table;
	int shift;

	if (pasid >= t->pasids)
		return false;
	/* Pairs with the client's release of an entry: what it points to is complete. */
	entry = LOAD_ACQUIRE(uiopf_table_entry(t, 0, pasid));
	for (shift = 39; shift >= 12; shift -= 9) {
		table = entry & STAGE1_ADDRESS;
		if (!(entry & STAGE1_PRESENT) || table > t->size - UIOPF_PAGE)
			return false;
		entry = LOAD_ACQUIRE(uiopf_table_entry(t, table, address >> shift & 511));
	}
	if (!(entry & STAGE1_PRESENT))
		return false;
	if ((access & IOMMU_PGFAULT_PERM_WRITE) && !(entry & STAGE1_WRITE))
		return false;
	return !((access & IOMMU_PGFAULT_PERM_EXEC) && (entry & STAGE1_NO_EXECUTE));
}

/* The client's side. One thread at a time. */
struct uiopf_space {
	struct uiopf_region region;
	uint8_t *map;		/* the client's mapping */
	uint32_t pasids;
	uint64_t next, first;	/* the next free table page; the first after the PASID table */
};
