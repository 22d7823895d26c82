/*
 * Hands out the lowest free number, as Linux's xa_alloc does for cookies.
 *
 * A tree of bitmaps, 64 children a node: bit n of a word says that something below child n is free. Finding the lowest
 * free number takes one count-trailing-zeros a level, two levels for 4,096 numbers, four for 16 million.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define UIOPF_IDMAP_LEVELS 4

struct uiopf_idmap {
	uint32_t first;		/* the lowest number handed out */
	uint32_t capacity;	/* how many numbers there are */
	unsigned int levels;
	uint64_t *level[UIOPF_IDMAP_LEVELS];	/* level[0] is the leaves */
};

/* All of these return 0 or -errno. Growing keeps what is handed out; numbers start at `first`. */
int uiopf_idmap_init(struct uiopf_idmap *map, uint32_t first);
int uiopf_idmap_reserve(struct uiopf_idmap *map, uint32_t capacity);
void uiopf_idmap_free(struct uiopf_idmap *map);

/* Takes the lowest free number: true with *id, false when all are taken. */
static inline bool uiopf_idmap_take(struct uiopf_idmap *map, uint32_t *id)
{
	uint32_t word = 0;
	unsigned int l = map->levels;

	if (!l || !map->level[l - 1][0])
		return false;
	while (l--)
		word = word * 64 + (uint32_t)__builtin_ctzll(map->level[l][word]);
	*id = map->first + word;
	for (l = 0; l < map->levels; l++, word /= 64) {
		map->level[l][word / 64] &= ~(1ull << (word % 64));
		if (map->level[l][word / 64])
			break;
	}
	return true;
}

/* Gives a number back. It must have been taken. */
static inline void uiopf_idmap_give(struct uiopf_idmap *map, uint32_t id)
{
	uint32_t word = id - map->first;
	unsigned int l;

	for (l = 0; l < map->levels; l++, word /= 64)
		map->level[l][word / 64] |= 1ull << (word % 64);
}
