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
	uint32_t low;		/* no leaf word below this one has a free number */
	unsigned int levels;
	uint64_t *level[UIOPF_IDMAP_LEVELS];	/* level[0] is the leaves */
};

/* All of these return 0 or -errno. Growing keeps what is handed out; numbers start at `first`. */
int uiopf_idmap_init(struct uiopf_idmap *map, uint32_t first);
int uiopf_idmap_reserve(struct uiopf_idmap *map, uint32_t capacity);
void uiopf_idmap_free(struct uiopf_idmap *map);

/* The rest of taking and giving, when a leaf word becomes full or stops being so. */
bool uiopf_idmap_find(struct uiopf_idmap *map);
void uiopf_idmap_filled(struct uiopf_idmap *map, uint32_t word);
void uiopf_idmap_opened(struct uiopf_idmap *map, uint32_t word);

/* Takes the lowest free number: true with *id, false when all are taken. */
static inline bool uiopf_idmap_take(struct uiopf_idmap *map, uint32_t *id)
{
	uint64_t *leaf;

	if (__builtin_expect(!map->levels || !map->level[0][map->low], 0) && !uiopf_idmap_find(map))
		return false;
	leaf = &map->level[0][map->low];
	*id = map->first + map->low * 64 + (uint32_t)__builtin_ctzll(*leaf);
	*leaf &= *leaf - 1;	/* clears the lowest set bit */
	if (__builtin_expect(!*leaf, 0))
		uiopf_idmap_filled(map, map->low);
	return true;
}

/* Gives a number back. It must have been taken. */
static inline void uiopf_idmap_give(struct uiopf_idmap *map, uint32_t id)
{
	uint32_t number = id - map->first, word = number / 64;
	uint64_t before = map->level[0][word];

	map->level[0][word] = before | 1ull << (number % 64);
	if (word < map->low)
		map->low = word;
	if (__builtin_expect(!before, 0))
		uiopf_idmap_opened(map, word);
}
