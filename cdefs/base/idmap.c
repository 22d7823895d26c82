#include "base/idmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int uiopf_idmap_init(struct uiopf_idmap *map, uint32_t first)
{
	memset(map, 0, sizeof *map);
	map->first = first;
	return 0;
}

void uiopf_idmap_free(struct uiopf_idmap *map)
{
	unsigned int l;

	for (l = 0; l < UIOPF_IDMAP_LEVELS; l++)
		free(map->level[l]);
	uiopf_idmap_init(map, map->first);
}

static bool is_free(const struct uiopf_idmap *map, uint32_t index)
{
	/* Past the old capacity everything is free; below it, ask the leaves. */
	return index >= map->capacity || map->level[0][index / 64] >> (index % 64) & 1;
}

int uiopf_idmap_reserve(struct uiopf_idmap *map, uint32_t capacity)
{
	struct uiopf_idmap grown = { .first = map->first, .capacity = capacity };
	uint32_t i, bits = capacity;
	unsigned int l;

	if (capacity <= map->capacity)
		return 0;
	if (capacity > 1u << (6 * UIOPF_IDMAP_LEVELS))
		return -ENOMEM;
	do {
		grown.level[grown.levels] = calloc((bits + 63) / 64, sizeof(uint64_t));
		if (!grown.level[grown.levels])
			goto no_memory;
		grown.levels++;
		bits = (bits + 63) / 64;
	} while (bits > 1);
	for (i = 0; i < capacity; i++)
		if (is_free(map, i))
			uiopf_idmap_give(&grown, grown.first + i);
	for (l = 0; l < UIOPF_IDMAP_LEVELS; l++)
		free(map->level[l]);
	*map = grown;
	return 0;
no_memory:
	uiopf_idmap_free(&grown);
	return -ENOMEM;
}

/* Moves `low` to the lowest leaf word that has a free number; false where there is none. */
bool uiopf_idmap_find(struct uiopf_idmap *map)
{
	unsigned int l = map->levels;
	uint32_t word = 0;

	if (!l || !map->level[l - 1][0])
		return false;
	while (l-- > 1)
		word = word * 64 + (uint32_t)__builtin_ctzll(map->level[l][word]);
	map->low = word;
	return true;
}

void uiopf_idmap_filled(struct uiopf_idmap *map, uint32_t word)
{
	unsigned int l;

	for (l = 1; l < map->levels; l++, word /= 64) {
		map->level[l][word / 64] &= ~(1ull << (word % 64));
		if (map->level[l][word / 64])
			break;
	}
}

void uiopf_idmap_opened(struct uiopf_idmap *map, uint32_t word)
{
	unsigned int l;

	for (l = 1; l < map->levels; l++, word /= 64)
		map->level[l][word / 64] |= 1ull << (word % 64);
}
