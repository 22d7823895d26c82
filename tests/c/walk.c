/* Page tables in a client's arena: what the walk finds, and what a hostile client cannot make it do. */
#include <errno.h>

#include "check.h"
#include "hardware/walk.h"

#define R IOMMU_PGFAULT_PERM_READ
#define W IOMMU_PGFAULT_PERM_WRITE
#define X IOMMU_PGFAULT_PERM_EXEC

static void permissions(void)
{
	struct uiopf_space *s = uiopf_space_new(4, 64);
	static const struct { uint32_t mapped, access; int there; } cases[] = {
		{ R, R, 1 }, { R, W, 0 }, { R, X, 0 }, { R, R | W, 0 }, { W, R, 1 }, { W, W, 1 }, { W, X, 0 },
		{ X, R, 1 }, { X, X, 1 }, { X, W, 0 }, { X, R | W | X, 0 }, { R | W | X, R | W | X, 1 }, { R | W, 0, 1 },
	};
	uint32_t i;

	CHECK(s);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		uint64_t address = 0x7f0000000000 + 4096ull * i;

		CHECK(!uiopf_space_present(s, 1, address, R));
		CHECK_EQ(uiopf_space_map(s, 1, address, cases[i].mapped), 0);
		CHECK_EQ(uiopf_space_present(s, 1, address, cases[i].access), cases[i].there);
		CHECK_EQ(uiopf_space_present(s, 1, address + 4095, cases[i].access), cases[i].there);
		CHECK(!uiopf_space_present(s, 2, address, cases[i].access));	/* another PASID's table */
		CHECK(!uiopf_space_present(s, 1, address + 4096, cases[i].access));
	}
	/* Rights are added to what is there. */
	CHECK_EQ(uiopf_space_map(s, 1, 0x7f0000000000, W), 0);
	CHECK(uiopf_space_present(s, 1, 0x7f0000000000, R | W));
	CHECK(!uiopf_space_present(s, 1, 0x7f0000000000, X));
	CHECK_EQ(uiopf_space_map(s, 1, 0x7f0000000000, X), 0);
	CHECK(uiopf_space_present(s, 1, 0x7f0000000000, R | W | X));
	CHECK_EQ(uiopf_space_unmap(s, 1, 0x7f0000000000), 0);
	CHECK(!uiopf_space_present(s, 1, 0x7f0000000000, R));
	CHECK_EQ(uiopf_space_map(s, 4, 0x1000, R), -EINVAL);	/* no such PASID */
	CHECK(!uiopf_space_present(s, 4, 0x1000, R));
	CHECK(!uiopf_space_present(s, UINT32_MAX, 0x1000, R));
	uiopf_space_reset(s);
	CHECK(!uiopf_space_present(s, 1, 0x7f0000001000, R));
	uiopf_space_free(s);
}

static void a_full_arena_is_said(void)
{
	struct uiopf_space *s = uiopf_space_new(1, 5);	/* root, two levels, two leaves */

	CHECK_EQ(uiopf_space_map(s, 0, 0, R), 0);
	CHECK_EQ(uiopf_space_map(s, 0, 511 * 4096, R), 0);
	CHECK_EQ(uiopf_space_map(s, 0, 1 << 21, R), 0);
	CHECK_EQ(uiopf_space_map(s, 0, 2 << 21, R), -ENOMEM);
	CHECK(uiopf_space_present(s, 0, 1 << 21, R));
	CHECK_EQ(uiopf_space_used(s), 6 * 4096);
	uiopf_space_free(s);
}

/* The client's own view of a table entry. */
static uint64_t *entry(struct uiopf_space *s, uint64_t table, uint32_t index)
{
	return (uint64_t *)(void *)(s->map + table + 8ull * index);
}

/* Every entry of the path of an address in turn is made to point somewhere else. */
static void pointers_out_of_the_arena_are_not_there(void)
{
	struct uiopf_space *s = uiopf_space_new(2, 16);
	const struct uiopf_tables tables = { s->region.map, s->region.size, 2, &s->resets };
	const uint64_t address = 0x123456789000, size = s->region.size;
	const uint64_t wild[] = {
		size, size + 4096, size - 4096 + 0x100000000000, STAGE1_ADDRESS, (uint64_t)1 << 51,
		(uint64_t)(uintptr_t)s->map & STAGE1_ADDRESS,	/* a pointer that would mean something here */
	};
	uint32_t level, i;

	CHECK_EQ(uiopf_space_map(s, 1, address, R), 0);
	CHECK(uiopf_walk(&tables, 1, address, R));
	for (level = 0; level < STAGE1_LEVELS; level++) {
		uint64_t *at = entry(s, 0, 1), old;
		uint32_t l;

		for (l = 0; l < level; l++)
			at = entry(s, *at & STAGE1_ADDRESS, address >> (39 - 9 * l) & 511);
		old = *at;
		for (i = 0; i < sizeof wild / sizeof wild[0]; i++) {
			WRITE_ONCE(at, wild[i] | STAGE1_PRESENT | STAGE1_WRITE);
			CHECK(!uiopf_walk(&tables, 1, address, R));
		}
		WRITE_ONCE(at, old & ~(uint64_t)STAGE1_PRESENT);
		CHECK(!uiopf_walk(&tables, 1, address, R));
		WRITE_ONCE(at, (size - 4096) | STAGE1_PRESENT);	/* the last page is in the arena, and empty */
		CHECK(!uiopf_walk(&tables, 1, address, R));
		WRITE_ONCE(at, old);
	}
	CHECK(uiopf_walk(&tables, 1, address, R));
	uiopf_space_free(s);
}

/* A table that points to itself has an end: there are four levels, and no more. */
static void cycles_end(void)
{
	struct uiopf_space *s = uiopf_space_new(1, 16);
	const struct uiopf_tables tables = { s->region.map, s->region.size, 1, &s->resets };
	uint32_t i;

	WRITE_ONCE(entry(s, 0, 0), 4096 | STAGE1_PRESENT | STAGE1_WRITE);
	for (i = 0; i < 512; i++)
		WRITE_ONCE(entry(s, 4096, i), 4096 | STAGE1_PRESENT | STAGE1_WRITE);
	CHECK(uiopf_walk(&tables, 0, 0xfffffffff000, R | W));
	/* The PASID table is in the arena too. */
	WRITE_ONCE(entry(s, 0, 0), 0 | STAGE1_PRESENT | STAGE1_WRITE);
	CHECK(uiopf_walk(&tables, 0, 0, R | W));
	CHECK(!uiopf_walk(&tables, 0, 0x1000, R));
	uiopf_space_free(s);
}

/* Anything at all in the tables: the walk stays in the arena (the sanitizers watch) and ends. */
static void noise(uint64_t *random)
{
	struct uiopf_space *s = uiopf_space_new(16, 8);
	const struct uiopf_tables tables = { s->region.map, s->region.size, 16, &s->resets };
	uint64_t i, found = 0;

	for (i = 0; i < s->region.size / 8; i++) {
		uint64_t value = next_random(random);

		if (value & 0xe)	/* most point into the arena */
			value = (value & ~(uint64_t)STAGE1_ADDRESS) | 4096 * below(random, 9) | STAGE1_PRESENT;
		WRITE_ONCE(entry(s, 0, (uint32_t)i), value);
	}
	for (i = 0; i < 200000; i++)
		found += uiopf_walk(&tables, below(random, 20), next_random(random), 1 + below(random, 7));
	CHECK(found);
	uiopf_space_free(s);
}

/* By way of the cache, whatever was walked before: the same entry, and none where there is none. */
static void cached_walks_lead_where_others_do(uint64_t *random)
{
	struct uiopf_space *s = uiopf_space_new(4, 256);
	const struct uiopf_tables tables = { s->region.map, s->region.size, 4, &s->resets };
	struct uiopf_walk_cache cache = { 0 };
	uint32_t i, found = 0;

	for (i = 0; i < 200000; i++) {
		/* 96 regions, three for each place of the cache; the tables come to be in another order after each reset. */
		uint64_t address = (uint64_t)below(random, 96) << 21 | (uint64_t)below(random, 512) << 12;
		const uint32_t beyond[] = { 4, 0xfffff, 0x1fffff, (1u << 22) + 1, UINT32_MAX };
		uint32_t pasid = below(random, 8) ? below(random, 4) : beyond[below(random, 5)];
		const uint64_t *leaf;

		if (pasid < 4 && below(random, 4) == 0)
			uiopf_space_map(s, pasid, address, R);	/* until the arena is full */
		leaf = uiopf_walk_cached(&tables, &cache, pasid, address);
		CHECK(leaf == uiopf_walk_to_leaf(&tables, pasid, address));
		found += leaf != NULL;
		if (below(random, 2000) == 0)
			uiopf_space_reset(s);
	}
	CHECK(found > 50000);
	uiopf_space_free(s);
}

int main(int argc, char **argv)
{
	uint64_t random = seed_from(argc, argv, 1);

	permissions();
	a_full_arena_is_said();
	pointers_out_of_the_arena_are_not_there();
	cycles_end();
	noise(&random);
	cached_walks_lead_where_others_do(&random);
	return 0;
}
