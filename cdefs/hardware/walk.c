#include "hardware/walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PASIDS (1u << 20)	/* a PASID has 20 bits */
#define PASIDS_IN_A_PAGE (UIOPF_PAGE / 8)
_Static_assert(PASIDS / PASIDS_IN_A_PAGE == 8 * sizeof((struct uiopf_space *)0)->rooted, "a bit for each page");

static void end_space(struct uiopf_lifetime *lifetime)
{
	struct uiopf_space *s = container_of(lifetime, struct uiopf_space, lifetime);

	uiopf_guest_free(s->guest);
	munmap(s->map, s->region.size);
	uiopf_region_close(&s->region);
	free(s);
}

struct uiopf_space *uiopf_space_new(uint32_t pasids, uint32_t table_pages)
{
	struct uiopf_space *s = pasids <= PASIDS ? aligned_alloc(128, sizeof *s) : NULL;

	if (!s)
		return NULL;
	memset(s, 0, sizeof *s);
	s->lifetime = (struct uiopf_lifetime){ 1, end_space };
	s->pasids = pasids;
	s->first = (8ull * pasids + UIOPF_PAGE - 1) / UIOPF_PAGE * UIOPF_PAGE;
	s->next = s->first;
	if (uiopf_region_open(&s->region, "uiopf-tables", s->first + (uint64_t)table_pages * UIOPF_PAGE) < 0) {
		free(s);
		return NULL;
	}
	s->map = uiopf_region_map_again(&s->region);
	if (!s->map) {
		uiopf_region_close(&s->region);
		free(s);
		return NULL;
	}
	return s;
}

struct uiopf_space *uiopf_space_of_guest(struct uiopf_pagetables *tables, uint64_t frames, const uint32_t *pasid,
					 uint32_t pasids)
{
	struct uiopf_space *s = uiopf_space_new(0, 1);

	if (!s)
		return NULL;
	s->guest = uiopf_guest_new(tables, frames, pasid, pasids);
	if (s->guest)
		return s;
	uiopf_space_free(s);
	return NULL;
}

void uiopf_space_free(struct uiopf_space *s)
{
	if (s)
		uiopf_let_go(&s->lifetime);
}

int uiopf_space_fd(struct uiopf_space *s)
{
	/* Whoever has it may write roots where we know of none. */
	memset(s->rooted, 0xff, sizeof s->rooted);
	s->shared = true;
	return s->region.fd;
}

uint64_t uiopf_space_used(const struct uiopf_space *s)
{
	return s->next;
}

void uiopf_space_reset(struct uiopf_space *s)
{
	uint64_t at;

	if (s->guest) {
		uiopf_guest_reset(s->guest);
		return;
	}
	/* Not all of the PASID table: it has 8 MiB where the highest PASID is high, and a short trace is replayed often. */
	for (at = 0; at < s->first; at += UIOPF_PAGE)
		if (s->rooted[at / UIOPF_PAGE / 64] >> at / UIOPF_PAGE % 64 & 1)
			memset(s->map + at, 0, UIOPF_PAGE);
	if (!s->shared)
		memset(s->rooted, 0, sizeof s->rooted);
	memset(s->map + s->first, 0, s->next - s->first);
	s->next = s->first;
	s->last_region = 0;
	STORE_RELEASE(&s->resets, s->resets + 1);	/* pairs with uiopf_walk_cached: the tables are empty before */
}

void uiopf_walks_forget(const struct uiopf_tables *t, struct uiopf_walk_cache *cache)
{
	memset(cache, 0, sizeof *cache);
	cache->resets = LOAD_ACQUIRE(t->resets);
}

static uint64_t *entry_at(const struct uiopf_space *s, uint64_t table, uint32_t index)
{
	return (uint64_t *)(void *)(s->map + table + 8ull * index);
}

/*
 * The table an entry points to, made if there is none; 0 with *error set. The memory is shared, and in the `handler`
 * design it is the kernel that stores: an entry that points out of the arena is EFAULT.
 */
static uint64_t next_table(struct uiopf_space *s, uint64_t *entry, int *error)
{
	uint64_t value = READ_ONCE(entry);

	if (likely(value & STAGE1_PRESENT)) {
		value &= STAGE1_ADDRESS;
		if (likely(value && value <= s->region.size - UIOPF_PAGE))
			return value;
		*error = -EFAULT;
		return 0;
	}
	if (s->next > s->region.size - UIOPF_PAGE) {
		*error = -ENOMEM;
		return 0;
	}
	value = s->next;
	s->next += UIOPF_PAGE;
	/* Pairs with the walk's acquire: the new table reads as empty (it is zeroed when taken back). */
	STORE_RELEASE(entry, value | STAGE1_PRESENT | STAGE1_WRITE | STAGE1_USER);
	return value;
}

/* The leaf entry of a page, with the tables above it made; NULL with *error set. */
static uint64_t *walk_to_leaf(struct uiopf_space *s, uint32_t pasid, uint64_t address, int *error)
{
	uint64_t table, *entry;
	int shift;

	if (pasid >= s->pasids) {
		*error = -EINVAL;
		return NULL;
	}
	entry = entry_at(s, 0, pasid);
	s->rooted[pasid / PASIDS_IN_A_PAGE / 64] |= 1ull << pasid / PASIDS_IN_A_PAGE % 64;
	for (shift = 39; shift >= 12; shift -= 9) {
		table = next_table(s, entry, error);
		if (!table)
			return NULL;
		entry = entry_at(s, table, address >> shift & 511);
	}
	return entry;
}

/* The same. The last table is kept: pages that follow one another are most of what is mapped. */
static inline uint64_t *leaf(struct uiopf_space *s, uint32_t pasid, uint64_t address, int *error)
{
	const uint64_t region = uiopf_region_of(pasid, address);
	const uint32_t index = address >> 12 & 511;
	uint64_t *entry;

	if (likely(region == s->last_region))
		return s->last_table + index;
	entry = walk_to_leaf(s, pasid, address, error);
	if (entry) {
		s->last_region = region;
		s->last_table = entry - index;
	}
	return entry;
}

int uiopf_space_map(struct uiopf_space *s, uint32_t pasid, uint64_t address, uint32_t perm)
{
	int error = 0;
	uint64_t *entry = leaf(s, pasid, address, &error), old, value;

	if (unlikely(!entry))
		return s->guest ? uiopf_guest_map(s->guest, pasid, address, perm) : error;
	old = READ_ONCE(entry);
	value = old & STAGE1_PRESENT ? old : (address & STAGE1_ADDRESS) | STAGE1_PRESENT | STAGE1_USER |
					     STAGE1_NO_EXECUTE;
	if (perm & IOMMU_PGFAULT_PERM_WRITE)
		value |= STAGE1_WRITE;
	if (perm & IOMMU_PGFAULT_PERM_EXEC)
		value &= ~(uint64_t)STAGE1_NO_EXECUTE;
	if (value != old)
		STORE_RELEASE(entry, value);	/* pairs with the walk */
	return 0;
}

int uiopf_space_unmap(struct uiopf_space *s, uint32_t pasid, uint64_t address)
{
	int error = 0;
	uint64_t *entry = leaf(s, pasid, address, &error);

	if (!entry)
		return s->guest ? uiopf_guest_unmap(s->guest, pasid, address) : error;
	STORE_RELEASE(entry, 0);
	return 0;
}

int uiopf_space_present(const struct uiopf_space *s, uint32_t pasid, uint64_t address, uint32_t perm)
{
	const struct uiopf_tables tables = { s->map, s->region.size, s->pasids, &s->resets };

	if (s->guest)
		return uiopf_guest_allows(s->guest, pasid, address, perm);
	return uiopf_walk(&tables, pasid, address, perm);
}

void uiopf_space_map_behind(struct uiopf_space *s, uint32_t pasid, uint64_t address, uint32_t length, uint32_t perm)
{
	const uint64_t last = (address & ~(uint64_t)(UIOPF_PAGE - 1)) + length - 1;

	for (address += UIOPF_PAGE; address <= last && uiopf_space_map(s, pasid, address, perm) == 0; address += UIOPF_PAGE)
		;
}

int64_t uiopf_space_map_messages(struct uiopf_space *s, const struct iommu_hwpt_pgfault *messages, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++) {
		const int rc = uiopf_space_map_wanted(s, messages[i].pasid, messages[i].addr, messages[i].length,
						      messages[i].perm);

		if (rc < 0)
			return rc;
	}
	return (int64_t)n;
}
