/* A ring's kernel-side mapping between two pages that nobody may touch: a stray access ends the program. */
#pragma once
#include <sys/mman.h>

#include "check.h"
#include "rings/engine.h"

/* Moves a mapping between two guard pages. The memory is the same; only our address of it is another. */
static inline uint8_t *guard_mapping(uint8_t *map, uint64_t size)
{
	uint8_t *room = mmap(NULL, size + 2 * UIOPF_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(room != MAP_FAILED);
	CHECK(mremap(map, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, room + UIOPF_PAGE) == room + UIOPF_PAGE);
	return room + UIOPF_PAGE;
}

/* What is left of the guards once the mapping itself is gone. */
static inline void unguard_mapping(uint8_t *map, uint64_t size)
{
	munmap(map - UIOPF_PAGE, UIOPF_PAGE);
	munmap(map + size, UIOPF_PAGE);
}

/* The engine must not be at work. */
static inline void guard_ring(struct uiopf_engine *engine)
{
	struct uiopf_ring *ring = &engine->ring;
	uint8_t *old = ring->region.map, *map = guard_mapping(old, ring->region.size);

	ring->region.map = map;
	ring->cqes = map + (ring->cqes - old);
	ring->sqes = (uint64_t *)(void *)(map + ((uint8_t *)ring->sqes - old));
	if (ring->sq_array)
		ring->sq_array = (uint32_t *)(void *)(map + ((uint8_t *)ring->sq_array - old));
}

static inline void free_guarded_ring(struct uiopf_engine *engine)
{
	uint8_t *map = engine->ring.region.map;
	uint64_t size = engine->ring.region.size;

	uiopf_engine_free(engine);
	unguard_mapping(map, size);
}
