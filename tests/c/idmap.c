/* The lowest free number, always: against a model that is an array of flags. Arguments: seed. */
#include "check.h"
#include "base/idmap.h"

#define MOST 300000u

static uint8_t taken[MOST];	/* the model */
static uint32_t held[MOST];	/* what is taken, in any order */

/* The lowest free number below the capacity; the capacity when there is none. */
static uint32_t lowest(uint32_t from, uint32_t capacity)
{
	while (from < capacity && taken[from])
		from++;
	return from;
}

static void fill_and_empty(uint32_t first, uint32_t capacity)
{
	struct uiopf_idmap map;
	uint32_t i, id;

	uiopf_idmap_init(&map, first);
	CHECK(!uiopf_idmap_take(&map, &id));	/* no capacity yet */
	CHECK_EQ(uiopf_idmap_reserve(&map, capacity), 0);
	for (i = 0; i < capacity; i++) {
		CHECK(uiopf_idmap_take(&map, &id));
		CHECK_EQ(id, first + i);
	}
	CHECK(!uiopf_idmap_take(&map, &id));
	for (i = capacity; i--; )	/* from the top: each is the lowest free one at once */
		uiopf_idmap_give(&map, first + i);
	CHECK(uiopf_idmap_take(&map, &id));
	CHECK_EQ(id, first);
	uiopf_idmap_free(&map);
}

/* Random taking and giving, in phases that fill, empty and grow. */
static void against_the_model(uint64_t *random)
{
	uint32_t capacity = 1 + below(random, 200), first = below(random, 3), holding = 0, step, lowest_free = 0;
	struct uiopf_idmap map;

	memset(taken, 0, sizeof taken);
	uiopf_idmap_init(&map, first);
	CHECK_EQ(uiopf_idmap_reserve(&map, capacity), 0);
	for (step = 0; step < 60000; step++) {
		uint32_t id, share = (step / 5000) % 3 == 1 ? 30 : 70;

		if (below(random, 100) < share) {
			bool found = uiopf_idmap_take(&map, &id);
			uint32_t model = lowest(lowest_free, capacity);

			CHECK_EQ(found, model < capacity);
			if (found) {
				CHECK_EQ(id, first + model);
				taken[model] = 1;
				lowest_free = model + 1;
				held[holding++] = model;
			}
		} else if (holding) {
			uint32_t at = below(random, holding), number = held[at];

			held[at] = held[--holding];
			uiopf_idmap_give(&map, first + number);
			taken[number] = 0;
			if (number < lowest_free)
				lowest_free = number;
		}
		if (below(random, 3000) == 0 && capacity < MOST / 3) {	/* keeps what is handed out */
			capacity += below(random, 2 * capacity);
			CHECK_EQ(uiopf_idmap_reserve(&map, capacity), 0);
		}
	}
	CHECK_EQ(uiopf_idmap_reserve(&map, 1), 0);	/* never shrinks */
	CHECK_EQ(map.capacity, capacity);
	uiopf_idmap_free(&map);
}

int main(int argc, char **argv)
{
	static const uint32_t edges[] = { 1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 262143, 262144, 262145 };
	uint64_t random = seed_from(argc, argv, 1);
	struct uiopf_idmap map;
	uint32_t i;

	for (i = 0; i < sizeof edges / sizeof edges[0]; i++)
		fill_and_empty(i % 2, edges[i]);
	for (i = 0; i < 8; i++)
		against_the_model(&random);
	uiopf_idmap_init(&map, 1);
	CHECK(uiopf_idmap_reserve(&map, (1u << 24) + 1) < 0);	/* four levels */
	CHECK_EQ(map.capacity, 0);
	return 0;
}
