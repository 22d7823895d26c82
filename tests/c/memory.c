/* Regions that a client cannot cut, and windows that it cannot look out of. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "base/memory.h"

static void seals_are_set(void)
{
	struct uiopf_region region;
	uint8_t *second;
	int seals;

	CHECK_EQ(uiopf_region_open(&region, "test", 3 * UIOPF_PAGE - 5), 0);
	CHECK_EQ(region.size, 3 * UIOPF_PAGE);
	seals = fcntl(region.fd, F_GET_SEALS);
	CHECK_EQ(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	/* What a client could try with the descriptor it is given. */
	CHECK(ftruncate(region.fd, UIOPF_PAGE) < 0 && errno == EPERM);
	CHECK(ftruncate(region.fd, 4 * UIOPF_PAGE) < 0 && errno == EPERM);
	CHECK(fallocate(region.fd, 0, 0, 4 * UIOPF_PAGE) < 0 && errno == EPERM);
	CHECK(fcntl(region.fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
	CHECK(pwrite(region.fd, "x", 1, (off_t)region.size) <= 0);

	/* Both mappings are the same memory. */
	second = uiopf_region_map_again(&region);
	CHECK(second && second != region.map);
	WRITE_ONCE(&region.map[UIOPF_PAGE], 17);
	CHECK_EQ(READ_ONCE(&second[UIOPF_PAGE]), 17);

	/* Holes cannot be forbidden. They read as zeros, and writing fills them again. */
	memset(second, 0xff, region.size);
	CHECK_EQ(fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, UIOPF_PAGE, UIOPF_PAGE), 0);
	CHECK_EQ(READ_ONCE(&region.map[0]), 0xff);
	CHECK_EQ(READ_ONCE(&region.map[UIOPF_PAGE]), 0);
	CHECK_EQ(READ_ONCE(&region.map[2 * UIOPF_PAGE - 1]), 0);
	CHECK_EQ(READ_ONCE(&region.map[2 * UIOPF_PAGE]), 0xff);
	WRITE_ONCE(&region.map[UIOPF_PAGE], 3);
	CHECK_EQ(READ_ONCE(&second[UIOPF_PAGE]), 3);
	munmap(second, region.size);
	uiopf_region_close(&region);
	CHECK_EQ(region.fd, -1);
	uiopf_region_close(&region);	/* twice does no harm */
}

static void too_large_is_an_error(void)
{
	struct uiopf_region region;

	CHECK(uiopf_region_open(&region, "test", 1ull << 63) < 0);
	CHECK_EQ(region.fd, -1);
	CHECK(!region.map);
}

static void windows_end_where_they_end(void)
{
	struct uiopf_windows windows = { 0 };
	static uint8_t low[8192], high[4096];
	const uint64_t at = 0x10000, top = UIOPF_USER_END - sizeof high;	/* the last that a client can have */
	uint32_t i;

	CHECK(!uiopf_windows_find(&windows, 0, 0));
	CHECK_EQ(uiopf_windows_add(&windows, at, sizeof low, low), 0);
	CHECK_EQ(uiopf_windows_add(&windows, top, sizeof high, high), 0);
	CHECK(uiopf_windows_find(&windows, at, 1) == low);
	CHECK(uiopf_windows_find(&windows, at, sizeof low) == low);
	CHECK(uiopf_windows_find(&windows, at + 8191, 1) == low + 8191);
	CHECK(uiopf_windows_find(&windows, at + 8192, 0) == low + 8192);
	CHECK(uiopf_windows_find(&windows, top + 4095, 1) == high + 4095);
	/* One byte too far, at either end and in length. */
	CHECK(!uiopf_windows_find(&windows, at - 1, 1));
	CHECK(!uiopf_windows_find(&windows, at - 1, 2));
	CHECK(!uiopf_windows_find(&windows, at, sizeof low + 1));
	CHECK(!uiopf_windows_find(&windows, at + 8192, 1));
	CHECK(!uiopf_windows_find(&windows, at + 8193, 0));
	CHECK(!uiopf_windows_find(&windows, top + 4095, 2));
	/* Sums that wrap round. */
	CHECK(!uiopf_windows_find(&windows, at + 1, UINT64_MAX));
	CHECK(!uiopf_windows_find(&windows, at + 1, UINT64_MAX - at));
	CHECK(!uiopf_windows_find(&windows, UINT64_MAX, 2));
	CHECK(!uiopf_windows_find(&windows, 0, UINT64_MAX));
	CHECK_EQ(uiopf_windows_add(&windows, UINT64_MAX - 4095, 8192, low), -EINVAL);
	CHECK_EQ(uiopf_windows_add(&windows, UIOPF_USER_END - 8191, 8192, low), -EINVAL);
	CHECK_EQ(uiopf_windows_add(&windows, 0, UINT64_MAX, low), -EINVAL);
	for (i = windows.count; i < UIOPF_WINDOWS; i++)
		CHECK_EQ(uiopf_windows_add(&windows, 0x1000000ull * i, 4096, high), 0);
	CHECK_EQ(uiopf_windows_add(&windows, 0x1000, 4096, high), -ENOSPC);
}

/* A client chooses the address: whatever it is, every byte arrives, and nothing beside it is touched. */
static void copies_do_not_mind_alignment(void)
{
	uint8_t from[40], memory[64], back[40];
	uint32_t offset, i;

	for (i = 0; i < sizeof from; i++)
		from[i] = (uint8_t)(i + 1);
	for (offset = 0; offset < 16; offset++) {
		memset(memory, 0xee, sizeof memory);
		uiopf_copy_to_client(memory + offset, from, sizeof from);
		for (i = 0; i < sizeof memory; i++)
			CHECK_EQ(memory[i], i >= offset && i < offset + sizeof from ? i - offset + 1 : 0xee);
		memset(back, 0, sizeof back);
		uiopf_copy_from_client(back, memory + offset, sizeof back);
		CHECK(!memcmp(back, from, sizeof back));
	}
}

/* Pieces of any lengths, the second half of them nowhere. */
static void copies_in_pieces(void)
{
	uint8_t memory[64] = { 0 }, from[64], back[64];
	struct uiopf_windows windows = { 0 };
	uint64_t one, i;

	for (i = 0; i < sizeof from; i++)
		from[i] = (uint8_t)(i + 1);
	for (one = 1; one < 13; one++) {
		struct iovec piece[64];
		struct uiopf_pieces to = { piece, 0, 0 }, again;
		uint64_t at, half = sizeof memory / 2 / one * one;

		for (at = 0; at < sizeof memory; at += one)
			piece[to.count++] = (struct iovec){ at < half ? memory + at : NULL, one };
		again = to;
		CHECK_EQ(uiopf_pieces_total(piece, to.count), to.count * one);
		CHECK(uiopf_pieces_have(&to, half) && !uiopf_pieces_have(&to, half + 1));
		uiopf_copy_to_pieces(&to, from, 7);
		CHECK(uiopf_pieces_have(&to, half - 7) && !uiopf_pieces_have(&to, half - 6));
		uiopf_copy_to_pieces(&to, from + 7, half - 7);
		CHECK(uiopf_pieces_have(&to, 0) && !uiopf_pieces_have(&to, 1));
		CHECK(!memcmp(memory, from, half));
		uiopf_copy_from_pieces(back, &again, 9);
		uiopf_copy_from_pieces(back + 9, &again, half - 9);
		CHECK(!memcmp(back, from, half));
		memset(memory, 0, sizeof memory);
	}
	CHECK_EQ(uiopf_windows_add(&windows, 1000, 10, memory), 0);
	CHECK_EQ(uiopf_windows_add(&windows, 2000, sizeof memory, memory), 0);
	CHECK_EQ(uiopf_windows_reach(&windows, 2000, 10), 10);
	CHECK_EQ(uiopf_windows_reach(&windows, 2060, 10), 4);
	CHECK_EQ(uiopf_windows_reach(&windows, 2064, 10), 0);
	CHECK_EQ(uiopf_windows_reach(&windows, 999, 10), 0);
	CHECK_EQ(uiopf_windows_reach(&windows, 1009, UINT64_MAX), 1);
}

int main(void)
{
	copies_in_pieces();
	seals_are_set();
	too_large_is_an_error();
	windows_end_where_they_end();
	copies_do_not_mind_alignment();
	return 0;
}
