/*
 * Intel VT-d: first-stage tables, which are those of x86-64, and second-stage tables.
 *
 * Source: VT-d specification, revision 5.10, 3.6 to 3.8, 9.7 and 9.8. Of the PASID entry's options SRE is set, and WPE
 * (privileged writes need R/W, too); EAFE is clear, and the second stage has no I/O read and write bits. Snoop Control and
 * pages of 1 GiB are there. A host address has 48 bits. Requests to execute went with revision 4.1, which ignores XD; here
 * they are as before, with NXE set, SMEP clear, and SLEE clear: in the second stage a fetch is a read.
 */
#include "abi/iommufd.h"
#include "hardware/tables/format.h"

#define PAGE_SIZE_BIT (1ull << 7)
#define ADDRESS_BEYOND uiopf_bits(51, UIOPF_ADDRESS_BITS)	/* reserved */

/* PS at a level that has it, or the last level. */
static enum uiopf_entry_kind kind_of(uint64_t word, uint32_t level)
{
	if (level == 1)
		return UIOPF_ENTRY_PAGE;
	if (!(word & PAGE_SIZE_BIT))
		return UIOPF_ENTRY_TABLE;
	return level <= UIOPF_LARGEST ? UIOPF_ENTRY_PAGE : UIOPF_ENTRY_RESERVED;
}

/* ---- first stage ---- */

#define FS_PRESENT (1ull << 0)
#define FS_WRITE (1ull << 1)
#define FS_USER (1ull << 2)
#define FS_ACCESSED (1ull << 5)
#define FS_DIRTY (1ull << 6)
#define FS_NO_EXECUTE (1ull << 63)

/* Below the address of a large page: bit 12 is PAT, the others are reserved. */
static uint64_t fs_reserved(enum uiopf_entry_kind kind, uint32_t level)
{
	if (kind != UIOPF_ENTRY_PAGE || level == 1)
		return ADDRESS_BEYOND;
	return ADDRESS_BEYOND | uiopf_bits(uiopf_level_shift(level) - 1, 13);
}

static void fs_decode(uint64_t word, uint32_t level, uint32_t above, bool tracks, struct uiopf_entry *entry)
{
	const enum uiopf_entry_kind kind = kind_of(word, level);
	uint32_t rights = above;

	(void)tracks;	/* it always does */
	*entry = (struct uiopf_entry){ .kind = UIOPF_ENTRY_ABSENT };
	if (!(word & FS_PRESENT))
		return;
	entry->kind = word & fs_reserved(kind, level) ? UIOPF_ENTRY_RESERVED : kind;
	if (entry->kind == UIOPF_ENTRY_RESERVED)
		return;
	if (!(word & FS_WRITE))
		rights &= ~UIOPF_RIGHTS_WRITE;
	if (!(word & FS_USER))
		rights &= UIOPF_RIGHTS_PRIVILEGED;
	if (word & FS_NO_EXECUTE)
		rights &= ~UIOPF_RIGHTS_EXECUTE;
	entry->rights = rights;
	entry->address = uiopf_entry_address(word, kind, level);
	entry->accessed = word & FS_ACCESSED;
	entry->when_read = entry->when_written = word | FS_ACCESSED;
	if (kind == UIOPF_ENTRY_PAGE) {
		entry->dirty = word & FS_DIRTY;
		entry->when_written |= FS_DIRTY;
	}
}

static uint64_t fs_table(uint64_t address)
{
	return address | FS_PRESENT | FS_WRITE | FS_USER;
}

/* Whatever is present may be read. */
static uint64_t fs_page(uint64_t address, uint32_t level, uint32_t perm, bool tracks)
{
	(void)tracks;
	return address | FS_PRESENT | (level > 1 ? PAGE_SIZE_BIT : 0) |
	       (perm & IOMMU_PGFAULT_PERM_WRITE ? FS_WRITE : 0) | (perm & IOMMU_PGFAULT_PERM_PRIV ? 0 : FS_USER) |
	       (perm & IOMMU_PGFAULT_PERM_EXEC ? 0 : FS_NO_EXECUTE);
}

static uint64_t fs_untouched(uint64_t word)
{
	return word & ~(FS_ACCESSED | FS_DIRTY);
}

const struct uiopf_format uiopf_format_vtd_first = {
	.name = "vtd-first", .stage = 1, .canonical = true, .always_tracks = true,
	.decode = fs_decode, .table = fs_table, .page = fs_page, .untouched = fs_untouched,
};

/* ---- second stage ---- */

#define SS_READ (1ull << 0)
#define SS_WRITE (1ull << 1)
#define SS_ACCESSED (1ull << 8)
#define SS_DIRTY (1ull << 9)
#define SS_SNOOP (1ull << 11)		/* of a page; reserved in an entry for a table */
#define SS_IO_WRITE (1ull << 62)	/* reserved unless those bits are enabled; IR beside it is ignored */

/* Bits of every entry, and those below the address of a large page. */
static uint64_t ss_reserved(enum uiopf_entry_kind kind, uint32_t level)
{
	const uint64_t always = ADDRESS_BEYOND | SS_IO_WRITE;

	if (kind != UIOPF_ENTRY_PAGE)
		return always | SS_SNOOP;
	return level == 1 ? always : always | uiopf_bits(uiopf_level_shift(level) - 1, 12);
}

/* Read and write at each level take away on their own, and an entry with neither is not present. */
static void ss_decode(uint64_t word, uint32_t level, uint32_t above, bool tracks, struct uiopf_entry *entry)
{
	const enum uiopf_entry_kind kind = kind_of(word, level);
	uint32_t rights = above;

	*entry = (struct uiopf_entry){ .kind = UIOPF_ENTRY_ABSENT };
	if (!(word & (SS_READ | SS_WRITE)))
		return;
	entry->kind = word & ss_reserved(kind, level) ? UIOPF_ENTRY_RESERVED : kind;
	if (entry->kind == UIOPF_ENTRY_RESERVED)
		return;
	if (!(word & SS_READ))
		rights &= UIOPF_RIGHTS_WRITE;
	if (!(word & SS_WRITE))
		rights &= ~UIOPF_RIGHTS_WRITE;
	entry->rights = rights;
	entry->address = uiopf_entry_address(word, kind, level);
	entry->accessed = word & SS_ACCESSED;
	entry->when_read = entry->when_written = tracks ? word | SS_ACCESSED : word;
	if (kind == UIOPF_ENTRY_PAGE) {
		entry->dirty = word & SS_DIRTY;
		if (tracks)
			entry->when_written |= SS_DIRTY;
	}
}

static uint64_t ss_table(uint64_t address)
{
	return address | SS_READ | SS_WRITE;
}

/* It knows neither privilege nor execution. */
static uint64_t ss_page(uint64_t address, uint32_t level, uint32_t perm, bool tracks)
{
	const uint64_t rights = (perm & (IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_EXEC) ? SS_READ : 0) |
				(perm & IOMMU_PGFAULT_PERM_WRITE ? SS_WRITE : 0);

	(void)tracks;
	return rights ? address | rights | (level > 1 ? PAGE_SIZE_BIT : 0) : 0;
}

static uint64_t ss_untouched(uint64_t word)
{
	return word & ~(SS_ACCESSED | SS_DIRTY);
}

const struct uiopf_format uiopf_format_vtd_second = {
	.name = "vtd-second", .stage = 2, .walks_write = true,
	.decode = ss_decode, .table = ss_table, .page = ss_page, .untouched = ss_untouched,
};
