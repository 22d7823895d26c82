/*
 * Arm's SMMUv3: stage 1 and stage 2 of AArch64 (VMSAv8-64) with the granule of 4 KiB.
 *
 * Source: Arm Architecture Reference Manual, D8.3 (descriptors), D8.4 (permissions) and D8.5 (hardware updates), with
 * FEAT_HAFDBS as far as the stage tracks (CD.HA and HD, STE.S2HA and S2HD), and FEAT_XNX; without LPA2, so an output
 * address has 48 bits. Only TTB0: an address with one of the bits 63:48 is in no table. A descriptor with a reserved
 * type is one that is not valid; RES0 bits, also those below the address of a block, are not looked at.
 */
#include "abi/iommufd.h"
#include "hardware/tables/format.h"

#define VALID (1ull << 0)
#define TABLE_OR_PAGE (1ull << 1)
#define READ_ALLOWED_2 (1ull << 6)	/* stage 2: S2AP[0] */
#define WRITE_ALLOWED_2 (1ull << 7)	/* stage 2: S2AP[1] */
#define USERS_1 (1ull << 6)		/* stage 1: AP[1] */
#define READ_ONLY_1 (1ull << 7)		/* stage 1: AP[2] */
#define INNER_SHAREABLE (3ull << 8)
#define ACCESS_FLAG (1ull << 10)
#define NOT_GLOBAL (1ull << 11)
#define DIRTY_MODIFIER (1ull << 51)	/* DBM: a page that is read-only for being clean */
#define PXN (1ull << 53)
#define UXN (1ull << 54)
#define XN_2_LOW (1ull << 53)		/* stage 2: XN[0], and XN[1] above it */
#define XN_2_HIGH (1ull << 54)
#define PXN_TABLE (1ull << 59)
#define UXN_TABLE (1ull << 60)
#define NO_USERS_TABLE (1ull << 61)	/* APTable[0] */
#define READ_ONLY_TABLE (1ull << 62)	/* APTable[1] */
#define WRITE_BACK_2 (0xfull << 2)	/* stage 2: MemAttr, normal memory, write-back */

#define READ IOMMU_PGFAULT_PERM_READ
#define WRITE IOMMU_PGFAULT_PERM_WRITE
#define EXEC IOMMU_PGFAULT_PERM_EXEC
#define PRIV(right) ((uint32_t)(right) << UIOPF_PRIVILEGED_SHIFT)

/* The first two bits; and a page whose access flag is clear, which hardware may not set, faults. */
static enum uiopf_entry_kind kind_of(uint64_t word, uint32_t level, bool tracks)
{
	if (!(word & VALID))
		return UIOPF_ENTRY_ABSENT;
	if (level > 1 && word & TABLE_OR_PAGE)
		return UIOPF_ENTRY_TABLE;
	if (level > UIOPF_LARGEST || (level == 1 && !(word & TABLE_OR_PAGE)))
		return UIOPF_ENTRY_ABSENT;	/* of a reserved type */
	return tracks || word & ACCESS_FLAG ? UIOPF_ENTRY_PAGE : UIOPF_ENTRY_UNACCESSED;
}

static void begin(uint64_t word, uint32_t level, bool tracks, struct uiopf_entry *entry)
{
	*entry = (struct uiopf_entry){ .kind = kind_of(word, level, tracks), .when_read = word, .when_written = word };
	entry->address = uiopf_entry_address(word, entry->kind, level);
}

/* ---- stage 1 ---- */

static uint32_t table_rights_1(uint64_t word, uint32_t above)
{
	if (word & NO_USERS_TABLE)
		above &= ~(uint32_t)(READ | WRITE);
	if (word & READ_ONLY_TABLE)
		above &= ~UIOPF_RIGHTS_WRITE;
	if (word & UXN_TABLE)
		above &= ~(uint32_t)EXEC;
	if (word & PXN_TABLE)
		above &= ~PRIV(EXEC);
	return above;
}

/* A page that users may only execute is neither read nor written by them; one that they may write nobody executes above. */
static uint32_t page_rights_1(uint64_t word, uint32_t above, bool writeable)
{
	uint32_t rights = PRIV(READ);

	if (writeable)
		rights |= PRIV(WRITE);
	if (word & USERS_1)
		rights |= READ | (writeable ? WRITE : 0);
	if (!(word & UXN))
		rights |= EXEC;
	if (!(word & PXN))
		rights |= PRIV(EXEC);
	rights &= above;
	return rights & WRITE ? rights & ~PRIV(EXEC) : rights;
}

static void decode_1(uint64_t word, uint32_t level, uint32_t above, bool tracks, struct uiopf_entry *entry)
{
	const bool clean = tracks && word & DIRTY_MODIFIER && word & READ_ONLY_1;

	begin(word, level, tracks, entry);
	if (entry->kind == UIOPF_ENTRY_TABLE) {
		entry->rights = table_rights_1(word, above);
	} else if (entry->kind == UIOPF_ENTRY_PAGE) {
		entry->rights = page_rights_1(word, above, clean || !(word & READ_ONLY_1));
		entry->accessed = word & ACCESS_FLAG;
		entry->dirty = word & DIRTY_MODIFIER && !(word & READ_ONLY_1);
		entry->when_read = word | ACCESS_FLAG;
		entry->when_written = clean ? entry->when_read & ~READ_ONLY_1 : entry->when_read;
	}
}

static uint64_t table_entry(uint64_t address)
{
	return address | VALID | TABLE_OR_PAGE;
}

/* As Linux makes them: what users may touch, privileged code does not execute, and the other way round. */
static uint64_t page_1(uint64_t address, uint32_t level, uint32_t perm, bool tracks)
{
	const bool users = !(perm & IOMMU_PGFAULT_PERM_PRIV), executes = perm & EXEC;
	uint64_t word = address | VALID | (level == 1 ? TABLE_OR_PAGE : 0) | INNER_SHAREABLE | NOT_GLOBAL;

	if (users)
		word |= USERS_1;
	if (!executes || !users)
		word |= UXN;
	if (!executes || users)
		word |= PXN;
	if (tracks)
		return word | READ_ONLY_1 | (perm & WRITE ? DIRTY_MODIFIER : 0);
	return word | ACCESS_FLAG | (perm & WRITE ? 0 : READ_ONLY_1);
}

static uint64_t untouched_1(uint64_t word)
{
	return (word & ~ACCESS_FLAG) | (word & DIRTY_MODIFIER ? READ_ONLY_1 : 0);
}

const struct uiopf_format uiopf_format_arm_stage1 = {
	.name = "arm-stage1", .stage = 1,
	.decode = decode_1, .table = table_entry, .page = page_1, .untouched = untouched_1,
};

/* ---- stage 2 ---- */

/* XN: 0 everybody executes, 1 users only, 2 nobody, 3 privileged code only. */
static uint32_t execute_rights_2(uint64_t word)
{
	if (word & XN_2_HIGH)
		return word & XN_2_LOW ? PRIV(EXEC) : 0;
	return word & XN_2_LOW ? EXEC : EXEC | PRIV(EXEC);
}

static void decode_2(uint64_t word, uint32_t level, uint32_t above, bool tracks, struct uiopf_entry *entry)
{
	const bool clean = tracks && word & DIRTY_MODIFIER && !(word & WRITE_ALLOWED_2);

	begin(word, level, tracks, entry);
	entry->rights = above;
	if (entry->kind == UIOPF_ENTRY_PAGE) {
		entry->rights = execute_rights_2(word);
		if (word & READ_ALLOWED_2)
			entry->rights |= UIOPF_RIGHTS_READ;
		if (word & WRITE_ALLOWED_2 || clean)
			entry->rights |= UIOPF_RIGHTS_WRITE;
		entry->accessed = word & ACCESS_FLAG;
		entry->dirty = word & DIRTY_MODIFIER && word & WRITE_ALLOWED_2;
		entry->when_read = word | ACCESS_FLAG;
		entry->when_written = clean ? entry->when_read | WRITE_ALLOWED_2 : entry->when_read;
	}
}

/* It has no page for privileged accesses alone, but for execution. */
static uint64_t page_2(uint64_t address, uint32_t level, uint32_t perm, bool tracks)
{
	uint64_t word = address | VALID | (level == 1 ? TABLE_OR_PAGE : 0) | INNER_SHAREABLE | WRITE_BACK_2;

	if (perm & READ)
		word |= READ_ALLOWED_2;
	if (!(perm & EXEC))
		word |= XN_2_HIGH;
	else if (perm & IOMMU_PGFAULT_PERM_PRIV)
		word |= XN_2_HIGH | XN_2_LOW;
	if (tracks)
		return word | (perm & WRITE ? DIRTY_MODIFIER : 0);
	return word | ACCESS_FLAG | (perm & WRITE ? WRITE_ALLOWED_2 : 0);
}

static uint64_t untouched_2(uint64_t word)
{
	return word & ~(ACCESS_FLAG | (word & DIRTY_MODIFIER ? WRITE_ALLOWED_2 : 0));
}

const struct uiopf_format uiopf_format_arm_stage2 = {
	.name = "arm-stage2", .stage = 2,
	.decode = decode_2, .table = table_entry, .page = page_2, .untouched = untouched_2,
};
