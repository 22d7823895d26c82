/*
 * Formats of page tables, one small file each behind one table of operations.
 *
 * All have four levels of 512 entries of eight bytes, for addresses of 48 bits, and pages of 4 KiB, 2 MiB and 1 GiB.
 * Levels are counted as VT-d counts them: 4 is the root, 1 has the pages of 4 KiB. (Arm's number is 4 less ours.)
 *
 * A format explains a word that has been loaded once; it never sees memory. A row in table.c makes it known by name; the
 * walk takes any.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UIOPF_LEVELS 4u
#define UIOPF_LARGEST 3u		/* the highest level with pages: 1 GiB */
#define UIOPF_ADDRESS_BITS 48u

/* What is allowed: IOMMU_PGFAULT_PERM_READ, _WRITE and _EXEC for users, and, above those, for privileged accesses. */
#define UIOPF_PRIVILEGED_SHIFT 3
#define UIOPF_RIGHTS_USER 0x07u
#define UIOPF_RIGHTS_PRIVILEGED 0x38u
#define UIOPF_RIGHTS_ALL 0x3fu
#define UIOPF_RIGHTS_READ 0x09u
#define UIOPF_RIGHTS_WRITE 0x12u
#define UIOPF_RIGHTS_EXECUTE 0x24u

enum uiopf_entry_kind { UIOPF_ENTRY_ABSENT, UIOPF_ENTRY_TABLE, UIOPF_ENTRY_PAGE, UIOPF_ENTRY_RESERVED, UIOPF_ENTRY_UNACCESSED };

/* An entry as it was loaded. ABSENT, RESERVED, and UNACCESSED, which software is to mark first, have nothing else. */
struct uiopf_entry {
	enum uiopf_entry_kind kind;
	uint32_t rights;	/* with what the tables above leave */
	uint64_t address;	/* of the page, or of the next table */
	/* What hardware makes of the entry when it is used for a read, and for a write; the word itself: nothing. */
	uint64_t when_read, when_written;
	bool accessed, dirty;
};

struct uiopf_format {
	const char *name;
	uint32_t stage;			/* that it is for: 1 or 2 */
	bool canonical;			/* bits 63:48 of an address repeat bit 47; otherwise they are zero */
	bool always_tracks;		/* hardware sets accessed and dirty bits, whatever software says */
	bool walks_write;		/* stage 2, where it tracks: reading a table of stage 1 is a write, as on EPT */
	/* *above*: the rights that the tables on the way leave. *tracks*: hardware sets accessed and dirty bits. */
	void (*decode)(uint64_t word, uint32_t level, uint32_t above, bool tracks, struct uiopf_entry *entry);
	/* An entry for a table below that takes nothing away. */
	uint64_t (*table)(uint64_t address);
	/*
	 * An entry for a page that nobody has accessed, for whom *perm* says (IOMMU_PGFAULT_PERM_*, with _PRIV: not for
	 * users). A format that cannot say less allows more; 0: it can say nothing of the kind.
	 */
	uint64_t (*page)(uint64_t address, uint32_t level, uint32_t perm, bool tracks);
	/* The entry of a page as it was before anybody accessed it, where hardware tracks that. */
	uint64_t (*untouched)(uint64_t word);
};

static inline uint32_t uiopf_level_shift(uint32_t level)
{
	return 12 + 9 * (level - 1);
}

static inline uint64_t uiopf_level_size(uint32_t level)
{
	return 1ull << uiopf_level_shift(level);
}

/* Bits *high* to *low* of a word. */
static inline uint64_t uiopf_bits(uint32_t high, uint32_t low)
{
	return (~0ull >> (63 - high)) & (~0ull << low);
}

/* Where the address of an entry's page is, or of its table. */
static inline uint64_t uiopf_entry_address(uint64_t word, enum uiopf_entry_kind kind, uint32_t level)
{
	return word & uiopf_bits(UIOPF_ADDRESS_BITS - 1, kind == UIOPF_ENTRY_PAGE ? uiopf_level_shift(level) : 12);
}
