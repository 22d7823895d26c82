/*
 * Page tables of two stages. Three judges:
 *
 * - words, computed by hand from the tables of the specifications, for each format, level and size of page;
 * - a model beside random trees: a list of what was put where, as plain attributes, searched from end to end. It knows no
 *   word, and composes those of the formats by itself, bit by bit. After each access all words in memory must be those
 *   that it composes, accessed and dirty bits included. Entries are drawn anew all the time: absent, reserved, pointing
 *   out of memory, with every right. The program fails unless every outcome was seen that there is;
 * - a second thread that changes entries and reads their bits, and a format that changes the entry it is shown.
 *
 * tables ROUNDS SEED; with 0 rounds there are no trees, which have only one thread
 */
#include <pthread.h>

#include "abi/api.h"
#include "abi/iommufd.h"
#include "check.h"
#include "hardware/tables/stages.h"

#define R IOMMU_PGFAULT_PERM_READ
#define W IOMMU_PGFAULT_PERM_WRITE
#define X IOMMU_PGFAULT_PERM_EXEC
#define PRIV IOMMU_PGFAULT_PERM_PRIV
#define BIT(n) (1ull << (n))

static const struct uiopf_format *format_called(const char *name)
{
	uint32_t i;

	for (i = 0; uiopf_format_at(i); i++)
		if (!strcmp(uiopf_format_name(uiopf_format_at(i)), name))
			return uiopf_format_at(i);
	CHECK(!"a format of that name");
	return NULL;
}

/* ---- words by hand ---- */

enum { ABSENT = UIOPF_ENTRY_ABSENT, TABLE, PAGE, RESERVED, UNACCESSED };

/* Rights: users' read, write, execute are 1, 2, 4; privileged code's 8, 16, 32. */
static const struct vector {
	const char *format;
	uint32_t level;
	bool tracks;
	uint64_t word;
	int kind;
	uint32_t rights;
	uint64_t address, when_read, when_written;
} vectors[] = {
	/* VT-d first stage: P 0, R/W 1, U/S 2, A 5, D 6, PS 7 (PAT in a page of 4 KiB), PAT 12 of a large page, XD 63. */
	{ "vtd-first", 4, 1, 0x0000000012345007, TABLE, 0x3f, 0x12345000, 0x12345027, 0x12345027 },
	{ "vtd-first", 4, 1, 0x0000000012345087, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 4, 1, 0x0000000012345006, ABSENT, 0, 0, 0, 0 },
	{ "vtd-first", 4, 1, 0x8000000012345021, TABLE, 0x08, 0x12345000, 0x8000000012345021, 0x8000000012345021 },
	{ "vtd-first", 3, 1, 0x0000000012345003, TABLE, 0x38, 0x12345000, 0x12345023, 0x12345023 },
	{ "vtd-first", 3, 1, 0x0000000040000087, PAGE, 0x3f, 0x40000000, 0x400000a7, 0x400000e7 },
	{ "vtd-first", 3, 1, 0x0000000040001087, PAGE, 0x3f, 0x40000000, 0x400010a7, 0x400010e7 },
	{ "vtd-first", 3, 1, 0x0000000040002087, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 3, 1, 0x0000000060000087, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 2, 1, 0x8000000000200085, PAGE, 0x09, 0x200000, 0x80000000002000a5, 0x80000000002000e5 },
	{ "vtd-first", 2, 1, 0x0000000000300087, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 2, 1, 0x0001000000200087, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 2, 1, 0x0000000000301007, TABLE, 0x3f, 0x301000, 0x301027, 0x301027 },
	{ "vtd-first", 1, 1, 0x0000000000007003, PAGE, 0x38, 0x7000, 0x7023, 0x7063 },
	{ "vtd-first", 1, 1, 0x0000000000007087, PAGE, 0x3f, 0x7000, 0x70a7, 0x70e7 },
	{ "vtd-first", 1, 1, 0x0000000000007065, PAGE, 0x2d, 0x7000, 0x7065, 0x7065 },
	{ "vtd-first", 1, 1, 0x0001000000007007, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 1, 1, 0x0000ffffffffff27, PAGE, 0x3f, 0xfffffffff000, 0xffffffffff27, 0xffffffffff67 },
	/* … and bits that are ignored: all of 62:52, 11:8, 4 and 3, in a table also D; 51:48 are reserved, one by one. */
	{ "vtd-first", 4, 1, 0x7ff0000012345f5f, TABLE, 0x3f, 0x12345000, 0x7ff0000012345f7f, 0x7ff0000012345f7f },
	{ "vtd-first", 2, 1, 0x7ff0000000201f9f, PAGE, 0x3f, 0x200000, 0x7ff0000000201fbf, 0x7ff0000000201fff },
	{ "vtd-first", 1, 1, 0x7ff0000000007f9f, PAGE, 0x3f, 0x7000, 0x7ff0000000007fbf, 0x7ff0000000007fff },
	{ "vtd-first", 4, 1, 0x0000000000000087, RESERVED, 0, 0, 0, 0 },	/* however it is aligned */
	{ "vtd-first", 4, 1, 0x0001000012345007, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 3, 1, 0x0002000012345007, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 2, 1, 0x0004000012345007, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 1, 1, 0x0008000012345007, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 3, 1, 0x0000000020000087, RESERVED, 0, 0, 0, 0 },
	{ "vtd-first", 1, 1, 0xfffffffffffffffe, ABSENT, 0, 0, 0, 0 },
	/* VT-d second stage: R 0, W 1, PS 7, A 8, D 9, SNP 11 of a page. Reserved: 51:48, 62 (IW), 11 of a table. */
	{ "vtd-second", 4, 1, 0x0000000000005003, TABLE, 0x3f, 0x5000, 0x5103, 0x5103 },
	{ "vtd-second", 4, 0, 0x0000000000005001, TABLE, 0x2d, 0x5000, 0x5001, 0x5001 },
	{ "vtd-second", 4, 1, 0x0000000000005083, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 3, 1, 0x0000000080000083, PAGE, 0x3f, 0x80000000, 0x80000183, 0x80000383 },
	{ "vtd-second", 3, 1, 0x00000000a0000083, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 3, 1, 0x0000000080001083, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 2, 1, 0x0000000000400081, PAGE, 0x2d, 0x400000, 0x400181, 0x400381 },
	{ "vtd-second", 2, 0, 0x0000000000400083, PAGE, 0x3f, 0x400000, 0x400083, 0x400083 },
	{ "vtd-second", 2, 1, 0x0000000000401083, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 1, 1, 0x0000000000009002, PAGE, 0x12, 0x9000, 0x9102, 0x9302 },
	{ "vtd-second", 1, 1, 0x0000000000009804, ABSENT, 0, 0, 0, 0 },
	{ "vtd-second", 1, 1, 0x0000000000009883, PAGE, 0x3f, 0x9000, 0x9983, 0x9b83 },
	{ "vtd-second", 1, 1, 0x0008000000009003, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 4, 1, 0x0000008000000083, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 4, 1, 0x0000000000005803, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 3, 0, 0x0000000000005803, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 2, 1, 0x0000000000005803, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 3, 1, 0x0000000040000883, PAGE, 0x3f, 0x40000000, 0x40000983, 0x40000b83 },
	{ "vtd-second", 2, 1, 0x0000000000200883, PAGE, 0x3f, 0x200000, 0x200983, 0x200b83 },
	{ "vtd-second", 4, 1, 0x4000000000005003, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 2, 1, 0x4000000000005003, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 2, 1, 0x4000000000200083, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 1, 1, 0x4000000000009003, RESERVED, 0, 0, 0, 0 },
	{ "vtd-second", 1, 1, 0x4000000000009000, ABSENT, 0, 0, 0, 0 },
	{ "vtd-second", 1, 1, 0xfffffffffffffffc, ABSENT, 0, 0, 0, 0 },
	/* … and bits that are ignored: 63, 61:52, 10, 6:2, in a table also D, in a page of 4 KiB also 7. */
	{ "vtd-second", 4, 1, 0xbff000000000567f, TABLE, 0x3f, 0x5000, 0xbff000000000577f, 0xbff000000000577f },
	{ "vtd-second", 2, 1, 0xbff0000000200cff, PAGE, 0x3f, 0x200000, 0xbff0000000200dff, 0xbff0000000200fff },
	{ "vtd-second", 1, 1, 0xbff0000000009cff, PAGE, 0x3f, 0x9000, 0xbff0000000009dff, 0xbff0000000009fff },
	/* Arm stage 1: type 1:0, AP[2:1] 7:6, AF 10, DBM 51, PXN 53, UXN 54; a table's PXN 59, UXN 60, AP 62:61. */
	{ "arm-stage1", 4, 1, 0x0000000012345003, TABLE, 0x3f, 0x12345000, 0x12345003, 0x12345003 },
	{ "arm-stage1", 4, 1, 0x0000000012345001, ABSENT, 0, 0, 0, 0 },
	{ "arm-stage1", 4, 1, 0x0000000012345002, ABSENT, 0, 0, 0, 0 },
	{ "arm-stage1", 4, 1, 0x7800000012345003, TABLE, 0x08, 0x12345000, 0x7800000012345003, 0x7800000012345003 },
	{ "arm-stage1", 3, 1, 0x2000000012345003, TABLE, 0x3c, 0x12345000, 0x2000000012345003, 0x2000000012345003 },
	{ "arm-stage1", 3, 1, 0x4000000012345003, TABLE, 0x2d, 0x12345000, 0x4000000012345003, 0x4000000012345003 },
	{ "arm-stage1", 2, 1, 0x1000000012345003, TABLE, 0x3b, 0x12345000, 0x1000000012345003, 0x1000000012345003 },
	{ "arm-stage1", 2, 1, 0x0800000012345003, TABLE, 0x1f, 0x12345000, 0x0800000012345003, 0x0800000012345003 },
	{ "arm-stage1", 3, 1, 0x0000000040000441, PAGE, 0x1f, 0x40000000, 0x40000441, 0x40000441 },
	{ "arm-stage1", 3, 1, 0x00000000400004c1, PAGE, 0x2d, 0x40000000, 0x400004c1, 0x400004c1 },
	{ "arm-stage1", 2, 1, 0x00080000002004c1, PAGE, 0x1f, 0x200000, 0x00080000002004c1, 0x0008000000200441 },
	{ "arm-stage1", 2, 0, 0x00080000002004c1, PAGE, 0x2d, 0x200000, 0x00080000002004c1, 0x00080000002004c1 },
	{ "arm-stage1", 2, 1, 0x00000000003ff441, PAGE, 0x1f, 0x200000, 0x00000000003ff441, 0x00000000003ff441 },
	{ "arm-stage1", 1, 1, 0x0000000000007403, PAGE, 0x3c, 0x7000, 0x7403, 0x7403 },
	{ "arm-stage1", 1, 1, 0x0000000000007401, ABSENT, 0, 0, 0, 0 },
	{ "arm-stage1", 1, 0, 0x0000000000007043, UNACCESSED, 0, 0, 0, 0 },
	{ "arm-stage1", 1, 1, 0x0000000000007043, PAGE, 0x1f, 0x7000, 0x7443, 0x7443 },
	{ "arm-stage1", 1, 1, 0x00680000000070c3, PAGE, 0x1b, 0x7000, 0x00680000000074c3, 0x0068000000007443 },
	{ "arm-stage1", 1, 1, 0x00600000000074c3, PAGE, 0x09, 0x7000, 0x00600000000074c3, 0x00600000000074c3 },
	{ "arm-stage1", 1, 1, 0x0001ffffffffff43, PAGE, 0x1f, 0xfffffffff000, 0x0001ffffffffff43, 0x0001ffffffffff43 },
	/* … and bits that are not looked at: in a table 58:48 and 11:2, in a page 63:55, 52, 50:48, 11, 9:8, 5:2. */
	{ "arm-stage1", 3, 0, 0x07ff000012345fff, TABLE, 0x3f, 0x12345000, 0x07ff000012345fff, 0x07ff000012345fff },
	{ "arm-stage1", 2, 0, 0xff97000000200f7d, PAGE, 0x1f, 0x200000, 0xff97000000200f7d, 0xff97000000200f7d },
	{ "arm-stage1", 1, 0, 0xff97000000007f7f, PAGE, 0x1f, 0x7000, 0xff97000000007f7f, 0xff97000000007f7f },
	{ "arm-stage1", 4, 1, 0x00000000400004c1, ABSENT, 0, 0, 0, 0 },
	{ "arm-stage1", 1, 1, 0xfffffffffffffffe, ABSENT, 0, 0, 0, 0 },
	/* Arm stage 2: S2AP read 6, write 7, AF 10, DBM 51, XN 54:53. */
	{ "arm-stage2", 4, 1, 0x0000000000005003, TABLE, 0x3f, 0x5000, 0x5003, 0x5003 },
	{ "arm-stage2", 4, 1, 0x0000000000005001, ABSENT, 0, 0, 0, 0 },
	{ "arm-stage2", 3, 1, 0x00000000400004c1, PAGE, 0x3f, 0x40000000, 0x400004c1, 0x400004c1 },
	{ "arm-stage2", 3, 1, 0x00200000400004c1, PAGE, 0x1f, 0x40000000, 0x00200000400004c1, 0x00200000400004c1 },
	{ "arm-stage2", 2, 1, 0x00400000402004c1, PAGE, 0x1b, 0x40200000, 0x00400000402004c1, 0x00400000402004c1 },
	{ "arm-stage2", 2, 1, 0x00600000402000c1, PAGE, 0x3b, 0x40200000, 0x00600000402004c1, 0x00600000402004c1 },
	{ "arm-stage2", 2, 0, 0x00600000402000c1, UNACCESSED, 0, 0, 0, 0 },
	{ "arm-stage2", 1, 1, 0x0008000000007443, PAGE, 0x3f, 0x7000, 0x0008000000007443, 0x00080000000074c3 },
	{ "arm-stage2", 1, 0, 0x0008000000007443, PAGE, 0x2d, 0x7000, 0x0008000000007443, 0x0008000000007443 },
	{ "arm-stage2", 1, 1, 0x0000000000007403, PAGE, 0x24, 0x7000, 0x7403, 0x7403 },
	{ "arm-stage2", 1, 1, 0x0000000000007483, PAGE, 0x36, 0x7000, 0x7483, 0x7483 },
	{ "arm-stage2", 1, 1, 0x0000000000007401, ABSENT, 0, 0, 0, 0 },
	{ "arm-stage2", 4, 0, 0xffff000000005fff, TABLE, 0x3f, 0x5000, 0xffff000000005fff, 0xffff000000005fff },
	{ "arm-stage2", 2, 0, 0xff97000000200ffd, PAGE, 0x3f, 0x200000, 0xff97000000200ffd, 0xff97000000200ffd },
	{ "arm-stage2", 1, 0, 0xff97000000007fff, PAGE, 0x3f, 0x7000, 0xff97000000007fff, 0xff97000000007fff },
	{ "arm-stage2", 1, 1, 0x00080000000074c3, PAGE, 0x3f, 0x7000, 0x00080000000074c3, 0x00080000000074c3 },
};

/* What software reads of a page: whether hardware has marked it. A page that cannot be clean is not dirty, either. */
static const struct mark {
	const char *format;
	uint32_t level;
	uint64_t word;
	bool accessed, dirty;
} marks[] = {
	{ "vtd-first", 1, 0x0000000000007007, false, false },
	{ "vtd-first", 1, 0x0000000000007027, true, false },
	{ "vtd-first", 2, 0x00000000002000c7, false, true },
	{ "vtd-first", 3, 0x0000000040000305, false, false },	/* a table */
	{ "vtd-first", 3, 0x0000000040000065, true, false },	/* of which bit 6 says nothing */
	{ "vtd-second", 1, 0x0000000000009cfb, false, false },
	{ "vtd-second", 1, 0x0000000000009103, true, false },
	{ "vtd-second", 2, 0x0000000000200283, false, true },
	{ "vtd-second", 2, 0x0000000000201303, true, false },	/* a table, of which bit 9 says nothing */
	{ "arm-stage1", 1, 0x0000000000007043, false, false },	/* without DBM, and writeable */
	{ "arm-stage1", 1, 0x00080000000074c3, true, false },
	{ "arm-stage1", 2, 0x0008000000200041, false, true },
	{ "arm-stage1", 2, 0x0000000000200441, true, false },
	{ "arm-stage2", 1, 0x00000000000070c3, false, false },
	{ "arm-stage2", 1, 0x0008000000007443, true, false },
	{ "arm-stage2", 2, 0x00080000002000c1, false, true },
	{ "arm-stage2", 2, 0x00000000002004c1, true, false },
};

static void marks_that_software_reads(void)
{
	uint32_t i;

	for (i = 0; i < sizeof marks / sizeof marks[0]; i++) {
		const struct mark *k = &marks[i];
		struct uiopf_entry e;

		format_called(k->format)->decode(k->word, k->level, UIOPF_RIGHTS_ALL, true, &e);
		CHECK(e.kind == UIOPF_ENTRY_PAGE || e.kind == UIOPF_ENTRY_TABLE);
		CHECK_EQ(e.accessed, k->accessed);
		CHECK_EQ(e.dirty, k->dirty);
	}
}

static void words_that_were_computed_by_hand(void)
{
	uint32_t i;

	for (i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
		const struct vector *v = &vectors[i];
		struct uiopf_entry e;

		format_called(v->format)->decode(v->word, v->level, UIOPF_RIGHTS_ALL, v->tracks, &e);
		if ((int)e.kind == v->kind && (v->kind == ABSENT || v->kind == RESERVED || v->kind == UNACCESSED))
			continue;
		if ((int)e.kind != v->kind || e.rights != v->rights || e.address != v->address ||
		    e.when_read != v->when_read || e.when_written != v->when_written) {
			fprintf(stderr, "%s level %u word %#" PRIx64 ": kind %u rights %#x address %#" PRIx64 " read %#" PRIx64
				" written %#" PRIx64 "\n", v->format, v->level, v->word, e.kind, e.rights, e.address,
				e.when_read, e.when_written);
			abort();
		}
	}
}

/* ---- the model ---- */

enum vendor { VTD, ARM, VENDORS };
enum mode { FIRST_ONLY, SECOND_ONLY, NESTED, MODES };
enum { WILD = UNACCESSED + 1 };	/* a table that would be where no memory is */

/* What was put into one entry. Of a table: what it leaves. (Where a format has no such bit, the model's is true.) */
struct put {
	uint32_t level;
	uint64_t prefix;		/* of the addresses it is for */
	int kind;
	bool read, write, user, execute, privileged_execute;
	bool can_be_dirty;		/* Arm: written pages are told apart */
	bool accessed, dirty;
	uint64_t to;
	uint64_t own;			/* the entry's address, as its stage has it */
	uint64_t *at;
	uint64_t noise;			/* for bits that hardware does not look at, or must find zero */
	bool drawn;			/* anew, for now */
};

#define PUTS 512u

struct tree {
	bool there, tracks;
	uint32_t stage;
	uint64_t root;
	uint32_t n, pages;		/* tables: each takes a page */
	struct put put[PUTS];
};

#define GUEST (4u << 20)	/* what a stage 1's tables are in: 4 MiB */
#define HOST (2u << 20)
static _Alignas(4096) uint8_t guest[GUEST], host[HOST];

static struct world {
	enum vendor vendor;
	enum mode mode;
	struct tree one, two;
	struct uiopf_stages stages;
	uint32_t taken[GUEST / 4096];
} w;

static uint64_t ones(uint32_t high, uint32_t low)
{
	return (BIT(high) << 1) - BIT(low);
}

/* Bits of an entry that is there which hardware does not look at. */
static uint64_t ignored(const struct put *p, uint32_t stage)
{
	const bool page = p->kind == PAGE, large = page && p->level > 1;

	if (w.vendor == VTD && stage == 1)	/* EAFE is clear */
		return ones(62, 52) | ones(11, 8) | BIT(4) | BIT(3) | BIT(!page ? 6 : large ? 12 : 7);
	if (w.vendor == VTD)
		return BIT(63) | ones(61, 52) | BIT(10) | ones(6, 2) | BIT(page ? 11 : 9) | (page && !large ? BIT(7) : 0);
	if (!page)
		return ones(11, 2) | ones(58, 48) | (stage == 1 ? BIT(63) : ones(63, 59));
	return ones(5, 2) | ones(9, 8) | BIT(11) | ones(50, 48) | BIT(52) | ones(63, 55) |
	       (large ? ones(12 + 9 * (p->level - 1) - 1, 12) : 0);
}

/* A bit that VT-d wants to be zero, in an entry of this shape. */
static uint64_t reserved(const struct put *p, uint32_t stage, bool large)
{
	const uint32_t shift = 12 + 9 * (p->level - 1);
	uint64_t bit, all = ones(51, 48);

	if (stage == 2)
		all |= BIT(62);
	if (p->level == 4)
		all |= BIT(7);
	if (large)
		all |= ones(shift - 1, stage == 1 ? 13 : 12);
	else if (stage == 2 && p->level > 1)
		all |= BIT(11);
	for (bit = BIT(p->noise % 64); !(bit & all);)
		bit = bit << 1 | bit >> 63;
	return bit;
}

static uint64_t compose(const struct put *p, uint32_t stage)
{
	const bool odd = w.vendor == VTD && p->kind == RESERVED;
	const bool odd_large = odd && p->noise & BIT(32) && (p->level == 2 || p->level == 3);
	const bool large = odd_large || (p->kind == PAGE && p->level > 1);
	uint64_t word = p->to;

	if (p->kind == ABSENT)	/* anything, but what makes it an entry */
		return p->noise & ~(w.vendor == VTD && stage == 2 ? 3ull : 1ull);
	if (w.vendor == ARM && p->kind == RESERVED)	/* a type that is reserved: level 4 and 1 have one */
		return word | 1 | BIT(6) | BIT(10);
	if (odd)
		word = (word & ~(odd_large ? ones(12 + 9 * (p->level - 1) - 1, 0) : 0)) | reserved(p, stage, odd_large);
	else
		word |= p->noise & ignored(p, stage);
	if (w.vendor == VTD && stage == 1)
		return word | BIT(0) | (uint64_t)p->write << 1 | (uint64_t)p->user << 2 | (uint64_t)p->accessed << 5 |
		       (uint64_t)p->dirty << 6 | (uint64_t)large << 7 | (uint64_t)!p->execute << 63;
	if (w.vendor == VTD)
		return word | (uint64_t)p->read << 0 | (uint64_t)p->write << 1 | (uint64_t)large << 7 |
		       (uint64_t)p->accessed << 8 | (uint64_t)p->dirty << 9;
	word |= 1 | (uint64_t)!(large) << 1;
	if (p->kind != PAGE)
		return stage == 2 ? word : word | (uint64_t)!p->privileged_execute << 59 | (uint64_t)!p->execute << 60 |
					   (uint64_t)!p->user << 61 | (uint64_t)!p->write << 62;
	word |= (uint64_t)p->accessed << 10 | (uint64_t)p->can_be_dirty << 51;
	if (stage == 1)
		return word | (uint64_t)p->user << 6 | (uint64_t)!(p->can_be_dirty ? p->dirty : p->write) << 7 |
		       (uint64_t)!p->privileged_execute << 53 | (uint64_t)!p->execute << 54;
	return word | (uint64_t)p->read << 6 | (uint64_t)(p->can_be_dirty ? p->dirty : p->write) << 7 |
	       (p->execute ? p->privileged_execute ? 0 : BIT(53) : p->privileged_execute ? BIT(53) | BIT(54) : BIT(54));
}

static void store(const struct put *p, uint32_t stage)
{
	STORE_RELEASE(p->at, compose(p, stage));
}

static struct put *find(struct tree *tree, uint32_t level, uint64_t address)
{
	uint32_t i;

	for (i = 0; i < tree->n; i++)
		if (tree->put[i].level == level && tree->put[i].prefix == (address & 0xffffffffffff) >> (12 + 9 * (level - 1)))
			return &tree->put[i];
	return NULL;
}

struct verdict {
	uint32_t stage, reason, level;
	bool of_table, writes_table;
	uint64_t intermediate, address;
	uint32_t shift, rights;
	uint32_t fetched_level;		/* of_table: the level of stage 1 whose table it was */
};

static struct {
	uint32_t ended[VENDORS][MODES][3][UIOPF_REASONS][5][3];	/* by stage, reason, level; address, table read, table written */
	uint32_t fetched[VENDORS][5];
	uint32_t translated[VENDORS][MODES][4][4];	/* by the levels of the pages of both stages; 0: no such stage */
	uint32_t right[VENDORS][3][2][8][2];		/* by the stage that decides, privilege, rights, and whether it did */
	uint32_t set[VENDORS][3][5][2];			/* by stage and level: accessed, dirty */
} seen;

static bool m_fail(struct verdict *v, uint32_t stage, uint32_t reason, uint32_t level)
{
	v->stage = stage;
	v->reason = reason;
	v->level = level;
	return false;
}

/* Which of read, write and execute somebody has, from what all entries on the way say. */
static uint32_t m_rights(struct put **way, uint32_t n, uint32_t stage, bool tracks, bool privileged)
{
	bool read = true, write = true, execute = true, user_writes = true;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const struct put *p = way[i];
		const bool page_here = p->kind == PAGE;
		bool writes = p->write;

		if (w.vendor == ARM && page_here && p->can_be_dirty)
			writes = tracks || p->dirty;
		if (w.vendor == VTD && stage == 1) {
			write = write && writes && (privileged || p->user);
			read = read && (privileged || p->user);
			execute = execute && p->execute && (privileged || p->user);
		} else if (w.vendor == VTD) {
			write = write && writes;
			read = read && p->read;
			execute = execute && p->read;
		} else if (stage == 1) {
			write = write && writes && (privileged || p->user);
			read = read && (privileged || p->user);
			user_writes = user_writes && writes && p->user;
			execute = execute && (privileged ? p->privileged_execute : p->execute);
		} else if (page_here) {
			write = writes;
			read = p->read;
			execute = privileged ? p->privileged_execute : p->execute;
		}
	}
	if (w.vendor == ARM && stage == 1 && privileged && user_writes)
		execute = false;
	return (read ? R : 0) | (write ? W : 0) | (execute ? X : 0);
}

struct end { uint64_t address; uint32_t level, shift, users, privileged; };

static bool m_second(uint64_t address, uint32_t access, struct verdict *v, struct end *end);

static bool m_fetch(const uint64_t own, uint32_t level, bool writes, struct verdict *v)
{
	struct end end;

	if (w.mode != NESTED)
		return true;
	v->of_table = true;
	v->writes_table = writes;
	v->intermediate = own;
	v->fetched_level = level;
	/* Setting a bit is an atomic read and write; with VT-d's SSADE a read is treated as a write, as on EPT. */
	if (!m_second(own, writes || (w.vendor == VTD && w.two.tracks) ? R | W : R, v, &end))
		return false;
	v->of_table = v->writes_table = false;
	return true;
}

/* One stage of the model; sets the bits of an access that it allows. */
static bool m_stage(struct tree *tree, uint64_t address, uint32_t access, struct verdict *v, struct end *end)
{
	const uint32_t stage = tree->stage;
	const bool privileged = access & PRIV, extends = w.vendor == VTD && stage == 1;
	const bool tracks = tree->tracks || extends;
	uint64_t table = tree->root;
	struct put *way[4];
	uint32_t level, n = 0, have;

	if (extends ? (uint64_t)((int64_t)(address << 16) >> 16) != address : address >> 48)
		return m_fail(v, stage, UIOPF_NO_SUCH_ADDRESS, 0);
	for (level = 4;; level--) {
		struct put *p = find(tree, level, address);
		uint64_t own = table + (address >> (12 + 9 * (level - 1)) & 511) * 8;

		if (n && way[n - 1]->kind == WILD) {
			/* In two stages the address is not stage 2's; in one it is not in memory. */
			if (stage == 1 && !m_fetch(own, level, false, v))
				return false;
			return m_fail(v, stage, UIOPF_NO_MEMORY_THERE, level);
		}
		if (stage == 1 && !m_fetch(own, level, false, v))
			return false;
		if (!p || p->kind == ABSENT || (w.vendor == ARM && p->kind == RESERVED))
			return m_fail(v, stage, UIOPF_NOT_PRESENT, level);
		if (w.vendor == VTD && stage == 2 && !p->read && !p->write)
			return m_fail(v, stage, UIOPF_NOT_PRESENT, level);
		if (p->kind == RESERVED)
			return m_fail(v, stage, UIOPF_RESERVED_BIT, level);
		way[n++] = p;
		if (p->kind == PAGE)
			break;
		table = p->to;
	}
	if (w.vendor == ARM && !tracks && !way[n - 1]->accessed)
		return m_fail(v, stage, UIOPF_NOT_ACCESSED, level);
	have = m_rights(way, n, stage, tracks, privileged);
	seen.right[w.vendor][stage][privileged][access & 7][(have & access & 7) == (access & 7)]++;
	if ((have & access & 7) != (access & 7))
		return m_fail(v, stage, UIOPF_NO_RIGHT, level);
	*end = (struct end){ way[n - 1]->to | (address & ((1ull << (12 + 9 * (level - 1))) - 1)), level,
		12 + 9 * (level - 1), m_rights(way, n, stage, tracks, false), m_rights(way, n, stage, tracks, true) };
	for (level = 0; level < n && tracks; level++) {
		struct put *p = way[level];
		const bool leaf = level == n - 1;
		const bool a = !p->accessed && (leaf || w.vendor == VTD);
		const bool d = leaf && access & W && !p->dirty && (w.vendor == VTD || p->can_be_dirty);

		if (!a && !d)
			continue;
		if (stage == 1 && !m_fetch(p->own, p->level, true, v))
			return false;
		p->accessed |= a;
		p->dirty |= d;
		seen.set[w.vendor][stage][p->level][0] += a;
		seen.set[w.vendor][stage][p->level][1] += d;
	}
	if (tracks && !way[n - 1]->dirty && (w.vendor == VTD || way[n - 1]->can_be_dirty)) {	/* a write would do more */
		end->users &= ~(uint32_t)W;
		end->privileged &= ~(uint32_t)W;
	}
	return true;
}

static bool m_second(uint64_t address, uint32_t access, struct verdict *v, struct end *end)
{
	if (w.mode == FIRST_ONLY) {
		*end = (struct end){ address, 0, 30, 7, 7 };
		return true;
	}
	return m_stage(&w.two, address, access, v, end);
}

static struct verdict m_translate(uint64_t address, uint32_t access, bool has_tables)
{
	struct verdict v = { .intermediate = address };
	struct end one = { address, 0, 30, 7, 7 }, two;

	if (w.mode != SECOND_ONLY) {
		if (!has_tables) {
			m_fail(&v, 1, UIOPF_NO_TABLES, 0);
			return v;
		}
		if (!m_stage(&w.one, address, access, &v, &one))
			return v;
		v.intermediate = one.address;
	}
	if (!m_second(one.address, access, &v, &two))
		return v;
	seen.translated[w.vendor][w.mode][one.level][two.level]++;
	v.address = two.address;
	v.shift = one.shift < two.shift ? one.shift : two.shift;
	v.rights = (one.users & two.users) | (one.privileged & two.privileged) << 3;
	return v;
}

/* ---- drawing trees ---- */

/*
 * Tables of stage 1 are in pages whose intermediate addresses lie in three zones, which stage 2 maps by pages of 4 KiB,
 * 2 MiB and 1 GiB.
 */
#define ZONE_SMALL 0x001000000000ull
#define ZONE_MIDDLE 0x002000200000ull	/* to 0x200000 */
#define ZONE_LARGE 0x003040000000ull	/* to 0 */

static struct put *put(struct tree *tree, uint32_t level, uint64_t address, int kind, uint64_t to, uint64_t table, uint8_t *at)
{
	struct put *p = &tree->put[tree->n++];
	const uint64_t index = address >> (12 + 9 * (level - 1)) & 511;

	CHECK(tree->n <= PUTS);
	*p = (struct put){ .level = level, .prefix = (address & 0xffffffffffff) >> (12 + 9 * (level - 1)), .kind = kind,
		.read = true, .write = true, .user = true, .execute = true, .privileged_execute = true, .to = to,
		.own = table + 8 * index, .at = (uint64_t *)(void *)(at + 8 * index) };
	return p;
}

/* Where a table of stage 1 is in memory: the reverse of what stage 2 does with these zones. */
static uint64_t small_zone[64];	/* page by page */
static uint32_t small_pages;

static uint64_t in_memory(uint64_t address)
{
	if (w.mode != NESTED)
		return address;
	if (address >= ZONE_LARGE)
		return address - ZONE_LARGE;
	if (address >= ZONE_MIDDLE)
		return address - ZONE_MIDDLE + 0x200000;
	return small_zone[(address - ZONE_SMALL) / 4096];
}

static void map(struct tree *tree, uint64_t address, uint32_t level, uint64_t to, uint64_t *random);

static uint64_t new_guest_page(uint64_t *random)
{
	uint32_t page, zone = below(random, 3);
	uint64_t address;

	do
		page = below(random, GUEST / 4096);
	while (w.taken[page] || (w.mode == NESTED && zone && (page >= 512) != (zone == 1)));
	w.taken[page] = 1;
	if (w.mode != NESTED)
		return page * 4096ull;
	if (zone == 2)
		return ZONE_LARGE + page * 4096ull;
	if (zone == 1)
		return ZONE_MIDDLE + (page - 512) * 4096ull;
	if (small_pages == 64) {
		w.taken[page] = 0;
		return new_guest_page(random);
	}
	address = ZONE_SMALL + 4096ull * small_pages;
	small_zone[small_pages++] = page * 4096ull;
	map(&w.two, address, 1, page * 4096ull, random);
	return address;
}

static uint64_t new_table(struct tree *tree, uint64_t *random)
{
	CHECK(tree->pages++ < HOST / 4096);
	return tree->stage == 2 ? tree->pages * 4096ull - 4096 : new_guest_page(random);
}

static uint8_t *memory_of(const struct tree *tree, uint64_t table)
{
	return tree->stage == 2 ? host + table : guest + in_memory(table);
}

/* Maps a page, unless something is in its place. */
static void map(struct tree *tree, uint64_t address, uint32_t level, uint64_t to, uint64_t *random)
{
	uint64_t table = tree->root;
	uint32_t l;

	for (l = 4; l > level; l--) {
		struct put *p = find(tree, l, address);

		if (!p) {
			const uint64_t next = new_table(tree, random);

			p = find(tree, l, address);	/* a table of stage 2 may have been made for that */
			if (!p)
				p = put(tree, l, address, TABLE, next, table, memory_of(tree, table));
			store(p, tree->stage);
		}
		if (p->kind != TABLE)
			return;
		table = p->to;
	}
	if (!find(tree, level, address))
		store(put(tree, level, address, PAGE, to, table, memory_of(tree, table)), tree->stage);
}

static uint64_t size_of(uint32_t level)
{
	return 1ull << (12 + 9 * (level - 1));
}

/* A few places, so that pages of all sizes share their tables. */
static uint64_t draw_address(uint64_t *random)
{
	static const uint64_t top[] = { 0, 0x7f8000000000, 0x550000000000 };

	return top[below(random, 3)] + ((uint64_t)below(random, 3) << 30) + ((uint64_t)below(random, 3) << 21) +
	       ((uint64_t)below(random, 3) << 12) + below(random, 4096);
}

/* Intermediate addresses that stage 2 knows, mostly. */
static uint64_t draw_intermediate(uint64_t *random)
{
	return (below(random, 16) ? 0x500000000000 : 0x600000000000) + ((uint64_t)below(random, 3) << 30) + ((uint64_t)below(random, 3) << 21) +
	       ((uint64_t)below(random, 3) << 12);
}

static void begin_world(uint64_t *random)
{
	static const char *const names[VENDORS][2] = { { "vtd-first", "vtd-second" }, { "arm-stage1", "arm-stage2" } };
	uint32_t i;

	memset(&w, 0, sizeof w);
	memset(guest, 0, sizeof guest);
	memset(host, 0, sizeof host);
	small_pages = 0;
	w.vendor = below(random, VENDORS);
	w.mode = below(random, MODES);
	w.one.stage = 1;
	w.two.stage = 2;
	w.one.tracks = below(random, 2);
	w.two.tracks = below(random, 2);
	uiopf_tlb_open(&w.stages.iotlb, 0);
	if (w.mode != FIRST_ONLY) {
		w.stages.second = (struct uiopf_stage){ format_called(names[w.vendor][1]), host, HOST, w.two.tracks };
		w.stages.second_root = w.two.root = new_table(&w.two, random);
		map(&w.two, ZONE_MIDDLE, 2, 0x200000, random);
		map(&w.two, ZONE_LARGE, 3, 0, random);
		for (i = 0; i < 24; i++) {
			const uint32_t level = 1 + below(random, 3);
			const uint64_t from = w.mode == NESTED ? draw_intermediate(random) : draw_address(random);

			map(&w.two, from & ~(size_of(level) - 1), level, (uint64_t)below(random, 1000) * size_of(level), random);
		}
	}
	if (w.mode != SECOND_ONLY) {
		w.stages.first = (struct uiopf_stage){ format_called(names[w.vendor][0]), guest, GUEST, w.one.tracks };
		w.one.root = new_table(&w.one, random);
		for (i = 0; i < 24; i++) {
			const uint32_t level = 1 + below(random, 3);

			map(&w.one, draw_address(random) & ~(size_of(level) - 1), level,
			    draw_intermediate(random) & ~(size_of(level) - 1), random);
		}
	}
}

/* Draws an entry anew; most stay what they were and lose a right or two. */
static void redraw(struct put *p, uint32_t stage, uint64_t *random)
{
	const int usual = p->kind;
	const uint32_t kind = below(random, 16);

	p->kind = usual;
	p->noise = next_random(random);
	p->read = below(random, 8);
	p->write = below(random, 4);
	p->user = below(random, 8);
	p->execute = below(random, 4);
	p->privileged_execute = below(random, 4);
	p->can_be_dirty = w.vendor == ARM && below(random, 2);
	p->accessed = below(random, 2);
	p->dirty = usual == PAGE && below(random, 2) && (w.vendor == VTD || p->can_be_dirty);
	if (usual == TABLE && w.vendor == ARM)
		p->accessed = p->can_be_dirty = p->dirty = false;
	if (kind == 0)
		p->kind = ABSENT;
	else if (kind == 1 && (w.vendor == VTD || p->level == 1 || p->level == 4))
		p->kind = RESERVED;
	else if (kind == 2 && usual == TABLE) {
		p->kind = WILD;
		p->to = below(random, 2) || (stage == 1 && w.mode == NESTED) ? 0x7ffffffff000 : stage == 1 ? GUEST : HOST;
	}
	p->drawn = true;
}

static struct change {
	struct put was, *now;
	struct tree *tree;
} changed[8];

static void check_words(const struct tree *tree)
{
	uint32_t i;

	for (i = 0; i < tree->n; i++)
		CHECK_EQ(READ_ONCE(tree->put[i].at), compose(&tree->put[i], tree->stage));
}

static void access_once(uint64_t *random)
{
	static const uint64_t odd[] = { 0x800000000000, 0xffff800000000000, 0x1000000000000, 0xfffffffffffff000 };
	const uint64_t address = below(random, 64) ? draw_address(random) : odd[below(random, 4)] + below(random, 4096);
	const uint32_t access = 1 + below(random, 7) + (below(random, 2) ? PRIV : 0);
	const bool has_tables = below(random, 64);
	const uint64_t root = has_tables ? w.one.root : UIOPF_NO_ROOT;
	const struct uiopf_translation looked = uiopf_stages_look(&w.stages, root, address, access);
	struct uiopf_translation t;
	struct verdict v;

	check_words(&w.one);	/* a look has changed nothing */
	check_words(&w.two);
	v = m_translate(address, access, has_tables);
	t = uiopf_stages_translate(&w.stages, 1, root, address, access);

	/* It has ended in the same way. */
	CHECK(looked.stage == t.stage && looked.reason == t.reason && looked.level == t.level &&
	      looked.of_table == t.of_table && looked.writes_table == t.writes_table &&
	      looked.intermediate == t.intermediate && looked.address == t.address);
	CHECK_EQ(t.stage, v.stage);
	CHECK_EQ(t.reason, v.reason);
	CHECK_EQ(t.level, v.level);
	CHECK_EQ(t.of_table, v.of_table);
	CHECK_EQ(t.writes_table, v.writes_table);
	CHECK_EQ(t.intermediate, v.stage == 1 ? 0 : v.intermediate);
	if (!v.stage) {
		CHECK_EQ(t.address, v.address);
		CHECK_EQ(t.shift, v.shift);
		CHECK_EQ(t.rights, v.rights);
	}
	check_words(&w.one);
	check_words(&w.two);
	seen.ended[w.vendor][w.mode][v.stage][v.reason][v.level][v.of_table + v.writes_table]++;
	if (v.of_table && !v.writes_table)
		seen.fetched[w.vendor][v.fetched_level]++;
}

static void random_trees(uint64_t rounds, uint64_t *random)
{
	uint64_t i;
	uint32_t j, k;

	for (i = 0; i < rounds; i++) {
		begin_world(random);
		for (j = 0; j < 40; j++) {
			uint32_t n = 0;

			for (k = below(random, 8) + 1; k; k--) {
				struct tree *tree = w.two.n && (!w.one.n || below(random, 2)) ? &w.two : &w.one;
				struct put *p = &tree->put[below(random, tree->n)];

				if (p->drawn)
					continue;
				changed[n++] = (struct change){ *p, p, tree };
				redraw(p, tree->stage, random);
				store(p, tree->stage);
			}
			for (k = 0; k < 12; k++)
				access_once(random);
			while (n--) {	/* what is no longer there comes back, so that the trees do not wither */
				struct put *p = changed[n].now;

				p->drawn = false;
				if (p->kind != changed[n].was.kind || below(random, 4)) {
					*p = changed[n].was;
					store(p, changed[n].tree->stage);
				}
			}
		}
		uiopf_tlb_close(&w.stages.iotlb);
	}
}

#define SEEN(...) do { \
		if (!(__VA_ARGS__)) { \
			fprintf(stderr, "%s:%d: never seen: %s (vendor %u mode %u level %u)\n", __FILE__, __LINE__, \
				#__VA_ARGS__, v, m, level); \
			abort(); \
		} \
	} while (0)

static void every_outcome_was_seen(void)
{
	uint32_t v, m, level, stage, one, two, access, privileged;

	for (v = 0; v < VENDORS; v++)
		for (m = 0; m < MODES; m++)
			for (stage = 1; stage <= 2; stage++) {
				const uint32_t (*ended)[5][3] = (const uint32_t (*)[5][3])seen.ended[v][m][stage];

				level = 0;
				if ((stage == 1 && m == SECOND_ONLY) || (stage == 2 && m == FIRST_ONLY))
					continue;
				if (m == FIRST_ONLY || m == SECOND_ONLY || stage == 1)	/* stage 1 makes no such address */
					SEEN(ended[UIOPF_NO_SUCH_ADDRESS][0][0]);
				SEEN(stage == 2 || ended[UIOPF_NO_TABLES][0][0]);
				for (level = 1; level <= 4; level++) {
					SEEN(ended[UIOPF_NOT_PRESENT][level][0]);
					SEEN(v == ARM || ended[UIOPF_RESERVED_BIT][level][0]);
					SEEN(v == VTD || level == 4 || ended[UIOPF_NOT_ACCESSED][level][0]);
					SEEN(level == 4 || ended[UIOPF_NO_RIGHT][level][0]);
					/* In two stages, stage 2 has no page for such a table. */
					SEEN(level == 4 || (m == NESTED && stage == 1) || ended[UIOPF_NO_MEMORY_THERE][level][0]);
					if (m != NESTED || stage != 2)
						continue;
					SEEN(ended[UIOPF_NOT_PRESENT][level][1]);
					SEEN(v == ARM || ended[UIOPF_RESERVED_BIT][level][1]);
					SEEN(level == 4 || ended[UIOPF_NO_MEMORY_THERE][level][1]);
					SEEN(level == 4 || ended[UIOPF_NO_RIGHT][level][1]);
					SEEN(level == 4 || ended[UIOPF_NO_RIGHT][level][2]);
					SEEN(seen.fetched[v][level]);
				}
			}
	for (v = 0; v < VENDORS; v++) {
		m = level = 0;
		for (one = 1; one <= 3; one++) {
			SEEN(seen.translated[v][FIRST_ONLY][one][0]);
			SEEN(seen.translated[v][SECOND_ONLY][0][one]);
			for (two = 1; two <= 3; two++)
				SEEN(seen.translated[v][NESTED][one][two]);
		}
		for (stage = 1; stage <= 2; stage++) {
			for (privileged = 0; privileged < 2; privileged++)
				for (access = 1; access < 8; access++) {
					SEEN(seen.right[v][stage][privileged][access][1]);
					/* Privileged code may read all that VT-d's and Arm's first stages have. */
					SEEN((stage == 1 && privileged && access == R) || seen.right[v][stage][privileged][access][0]);
				}
			for (level = 1; level <= 4; level++) {
				SEEN((v == ARM && level == 4) || seen.set[v][stage][level][0]);
				SEEN(level == 4 || seen.set[v][stage][level][1]);
			}
		}
	}
}

/* ---- what is kept, and invalidated ---- */

static uint64_t *slot(uint64_t table, uint64_t address, uint32_t level)
{
	return (uint64_t *)(void *)(guest + table + 8 * (address >> (12 + 9 * (level - 1)) & 511));
}

/* One path of VT-d's first stage: root 0, then the pages behind it. */
static void plain_path(struct uiopf_stages *s, uint32_t places, uint64_t address, uint64_t page)
{
	memset(guest, 0, 32 * 4096);
	memset(s, 0, sizeof *s);
	s->first = (struct uiopf_stage){ format_called("vtd-first"), guest, GUEST, true };
	CHECK_EQ(uiopf_tlb_open(&s->iotlb, places), 0);
	WRITE_ONCE(slot(0x0000, address, 4), 0x1007);
	WRITE_ONCE(slot(0x1000, address, 3), 0x2007);
	WRITE_ONCE(slot(0x2000, address, 2), 0x3007);
	WRITE_ONCE(slot(0x3000, address, 1), page | 7);
}

static void what_is_not_invalidated_goes_on_being_used(void)
{
	const uint64_t at = 0x7f0000005000;
	struct uiopf_stages s;
	struct uiopf_translation t;
	uint32_t i;

	plain_path(&s, 4, at, 0xa000);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at + 0x123, R).address, 0xa123);
	WRITE_ONCE(slot(0x3000, at, 1), 0);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at + 0x456, R).address, 0xa456);	/* stale */
	CHECK_EQ(uiopf_stages_translate(&s, 2, 0, at, R).reason, UIOPF_NOT_PRESENT);	/* of another PASID: walked */
	CHECK_EQ(uiopf_tlb_invalidate(&s.iotlb, UIOPF_TLB_WHOLE, 2, at, at), 0);
	CHECK_EQ(uiopf_tlb_invalidate(&s.iotlb, UIOPF_TLB_WHOLE, 1, at - 1, at - 1), 0);
	CHECK_EQ(uiopf_tlb_invalidate(&s.iotlb, UIOPF_TLB_WHOLE, 1, at + 4096, at + 8191), 0);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, R).reason, UIOPF_TRANSLATED);
	CHECK_EQ(uiopf_tlb_invalidate(&s.iotlb, UIOPF_TLB_WHOLE, 1, at + 4095, at + 4095), 1);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, R).reason, UIOPF_NOT_PRESENT);	/* and that is not kept: */
	/* A right that is added is seen at once, the dirty bit is set by the first write, and by no other. */
	WRITE_ONCE(slot(0x3000, at, 1), 0xa005);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, R).reason, UIOPF_TRANSLATED);
	WRITE_ONCE(slot(0x3000, at, 1), 0xa027);
	t = uiopf_stages_translate(&s, 1, 0, at, W);
	CHECK_EQ(t.reason, UIOPF_TRANSLATED);
	CHECK_EQ(READ_ONCE(slot(0x3000, at, 1)), 0xa067);
	WRITE_ONCE(slot(0x3000, at, 1), 0xa027);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, W).reason, UIOPF_TRANSLATED);
	CHECK_EQ(READ_ONCE(slot(0x3000, at, 1)), 0xa027);	/* cleaned without an invalidation: a lost write */
	CHECK_EQ(uiopf_tlb_invalidate_all(&s.iotlb), 1);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, W).reason, UIOPF_TRANSLATED);
	CHECK_EQ(READ_ONCE(slot(0x3000, at, 1)), 0xa067);
	/* Four places, filled in turn. */
	uiopf_tlb_invalidate_all(&s.iotlb);
	for (i = 0; i < 5; i++)
		WRITE_ONCE(slot(0x3000, at + 4096 * i, 1), 0x67 | 0x10000 << i);
	s.iotlb.next = 0;
	for (i = 0; i < 5; i++)
		CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at + 4096 * i, R).address, 0x10000 << i);
	for (i = 0; i < 5; i++)
		WRITE_ONCE(slot(0x3000, at + 4096 * i, 1), 0);
	for (i = 0; i < 5; i++)
		CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at + 4096 * i, R).reason,
			 i ? UIOPF_TRANSLATED : UIOPF_NOT_PRESENT);
	uiopf_tlb_close(&s.iotlb);
}

/* A page of stage 2 that moves: stage 2's entry and the whole's have to go. Arm's rule, and VT-d's. */
static void both_kinds_must_be_invalidated(void)
{
	const uint64_t at = 0x5000;
	struct uiopf_stages s;
	uint32_t i;

	plain_path(&s, 16, at, 0x8000);
	memset(host, 0, 16 * 4096);
	s.second = (struct uiopf_stage){ format_called("vtd-second"), host, HOST, false };
	for (i = 0; i < 3; i++)
		WRITE_ONCE((uint64_t *)(void *)(host + 4096 * i), 4096ull * (i + 1) | 3);
	for (i = 0; i < 16; i++)
		WRITE_ONCE((uint64_t *)(void *)(host + 0x3000 + 8 * i), 4096ull * i | 3);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, R).address, 0x8000);
	WRITE_ONCE((uint64_t *)(void *)(host + 0x3000 + 8 * 8), 0x9003);
	CHECK_EQ(uiopf_tlb_invalidate(&s.iotlb, UIOPF_TLB_STAGE_2, 0, 0x7fff, 0x8000), 1);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, R).address, 0x8000);	/* the whole is still kept */
	CHECK_EQ(uiopf_tlb_invalidate(&s.iotlb, UIOPF_TLB_WHOLE, UIOPF_ANY_PASID, 0, UINT64_MAX), 1);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, R).address, 0x9000);
	/* A table of stage 1 moves: the old one is walked until stage 2's entry goes. */
	memcpy(guest + 0xb000, guest + 0x3000, 4096);
	WRITE_ONCE(slot(0xb000, at, 1), 0x5027);
	WRITE_ONCE((uint64_t *)(void *)(host + 0x3000 + 8 * 3), 0xb003);
	uiopf_tlb_invalidate(&s.iotlb, UIOPF_TLB_WHOLE, UIOPF_ANY_PASID, 0, UINT64_MAX);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, R).address, 0x9000);
	CHECK_EQ(uiopf_tlb_invalidate_all(&s.iotlb) > 1, 1);
	CHECK_EQ(uiopf_stages_translate(&s, 1, 0, at, R).address, 0x5000);
	uiopf_tlb_close(&s.iotlb);
}

/* ---- entries that change ---- */

/* A format from outside: RISC-V's Sv48. V 0, R 1, W 2, X 3, U 4, A 6, D 7, the page's number in 53:10. */
static uint64_t *meddle_at, meddle_with;
static uint32_t meddles;

static void sv48_decode(uint64_t word, uint32_t level, uint32_t above, bool tracks, struct uiopf_entry *e)
{
	const uint32_t rwx = word >> 1 & 7;

	*e = (struct uiopf_entry){ .kind = UIOPF_ENTRY_ABSENT };
	if (meddle_at && READ_ONCE(meddle_at) == word && meddles) {	/* between the load and the compare-and-swap */
		meddles--;
		WRITE_ONCE(meddle_at, word ^ meddle_with);
	}
	if (!(word & BIT(0)))
		return;
	e->kind = !rwx ? UIOPF_ENTRY_TABLE : rwx == 2 || rwx == 6 || level > UIOPF_LARGEST ? UIOPF_ENTRY_RESERVED :
		  UIOPF_ENTRY_PAGE;
	e->address = word >> 10 << 12 & 0xfffffffff000;
	e->rights = above;
	e->when_read = e->when_written = word;
	if (e->kind == UIOPF_ENTRY_PAGE) {
		if (e->address & (uiopf_level_size(level) - 1))
			e->kind = UIOPF_ENTRY_RESERVED;
		e->rights &= word & BIT(4) ? rwx : rwx << UIOPF_PRIVILEGED_SHIFT;
		e->when_read |= tracks ? BIT(6) : 0;
		e->when_written |= tracks ? BIT(6) | BIT(7) : 0;
	}
}

static const struct uiopf_format sv48 = { .name = "sv48", .stage = 1, .canonical = true, .decode = sv48_decode };

static void sv48_path(struct uiopf_stages *s, uint64_t at)
{
	plain_path(s, 0, at, 0);
	s->first.format = &sv48;
	WRITE_ONCE(slot(0x0000, at, 4), 0x1 << 10 | 1);
	WRITE_ONCE(slot(0x1000, at, 3), 0x2 << 10 | 1);
	WRITE_ONCE(slot(0x2000, at, 2), 0x3 << 10 | 1);
	WRITE_ONCE(slot(0x3000, at, 1), 0x8 << 10 | 0x17);	/* V R W U */
}

static void a_format_from_outside_walks(void)
{
	const uint64_t at = 0x400000c000;
	struct uiopf_stages s;

	sv48_path(&s, at);
	CHECK_EQ(uiopf_stages_translate(&s, 0, 0, at + 5, R | W).address, 0x8005);
	CHECK_EQ(READ_ONCE(slot(0x3000, at, 1)), 0x8 << 10 | 0xd7);
	CHECK_EQ(uiopf_stages_translate(&s, 0, 0, at, R | PRIV).reason, UIOPF_NO_RIGHT);
	CHECK_EQ(uiopf_stages_translate(&s, 0, 0, at, X).reason, UIOPF_NO_RIGHT);
	WRITE_ONCE(slot(0x2000, at, 2), 0x4 << 10 | 0x17);	/* a page of 2 MiB that is not aligned */
	CHECK_EQ(uiopf_stages_translate(&s, 0, 0, at, R).reason, UIOPF_RESERVED_BIT);
	WRITE_ONCE(slot(0x2000, at, 2), 0x3 << 10 | 1);
	WRITE_ONCE(slot(0x3000, at, 1), 0x4 << 10 | 1);		/* a table below the last level */
	CHECK_EQ(uiopf_stages_translate(&s, 0, 0, at, R).reason, UIOPF_RESERVED_BIT);
	CHECK_EQ(uiopf_stages_translate(&s, 0, 0, at, R).level, 1);
	uiopf_tlb_close(&s.iotlb);
}

/* It is changed as often as a walk may begin anew, and once more. */
static void a_bit_goes_into_no_entry_that_has_changed(void)
{
	const uint64_t at = 0x400000c000;
	struct uiopf_translation t;
	struct uiopf_stages s;

	sv48_path(&s, at);
	meddle_at = slot(0x3000, at, 1);
	meddle_with = BIT(8);	/* a bit for software: only the word is another */
	meddles = UIOPF_RESTARTS;
	CHECK_EQ(uiopf_stages_translate(&s, 0, 0, at, W).address, 0x8000);
	CHECK_EQ(s.counts.restarts, UIOPF_RESTARTS);
	CHECK_EQ(meddles, 0);
	CHECK_EQ(READ_ONCE(meddle_at), 0x8 << 10 | 0xd7);
	WRITE_ONCE(meddle_at, 0x8 << 10 | 0x17);
	meddles = UIOPF_RESTARTS + 1;
	t = uiopf_stages_translate(&s, 0, 0, at, W);
	CHECK_EQ(t.stage, 1);
	CHECK_EQ(t.reason, UIOPF_RESTLESS);
	CHECK_EQ(meddles, 0);
	CHECK_EQ(READ_ONCE(meddle_at) & (BIT(6) | BIT(7)), 0);
	/* It is taken away between the load and the swap: no bit in it, and the walk that begins anew finds nothing. */
	WRITE_ONCE(meddle_at, 0x8 << 10 | 0x17);
	meddle_with = BIT(0);
	meddles = 1;
	CHECK_EQ(uiopf_stages_translate(&s, 0, 0, at, W).reason, UIOPF_NOT_PRESENT);
	CHECK_EQ(READ_ONCE(meddle_at), 0x8 << 10 | 0x16);
	meddle_at = NULL;
	uiopf_tlb_close(&s.iotlb);
}

/* A client's thread: one entry is there, is there for reading, is a table, is nothing; and what hardware made of it. */
static struct client {
	uint64_t *at;
	uint64_t flips, accessed, dirty;
	uint32_t stop;
} client;

static void *client_thread(void *arg)
{
	static const uint64_t words[] = { 0xa007, 0xa005, 0, 0x300a006, 0xfffffffff007, 0x3007, 0x8000000000000003 };
	uint64_t random = *(uint64_t *)arg;

	while (!LOAD_ACQUIRE(&client.stop)) {
		const uint64_t word = words[below(&random, 7)];
		uint32_t i, looks = below(&random, 200);
		uint64_t now = word;

		STORE_RELEASE(client.at, word);
		for (i = 0; i < looks; i++)
			now = LOAD_ACQUIRE(client.at);
		/* It is the word that was stored, with bits that only a present page can have, and the dirty one only if written. */
		CHECK((now & ~0x60ull) == word);
		CHECK(word & 1 || now == word);
		CHECK(!(now & 0x40) || (word & 2 && now & 0x20));
		client.flips++;
		client.accessed += now >> 5 & 1;
		client.dirty += now >> 6 & 1;
	}
	return NULL;
}

static void entries_that_another_thread_changes(uint64_t *random)
{
	const uint64_t at = 0x7f0000005000;
	uint64_t seed = next_random(random), i, ended = 0, done = 0;
	struct uiopf_stages s;
	pthread_t thread;

	plain_path(&s, 0, at, 0xa000);
	client.at = slot(0x3000, at, 1);
	CHECK_EQ(pthread_create(&thread, NULL, client_thread, &seed), 0);
	for (i = 0; i < 300000 || !ended || !done || !s.counts.bits_set; i++) {
		struct uiopf_translation t = uiopf_stages_translate(&s, 1, 0, at, below(random, 2) ? W : R);

		CHECK(t.stage < 2);
		if (t.stage)
			ended++;
		else
			done++;
		CHECK(t.stage || t.address == 0xa000 || t.address == 0x3000 || t.address == 0xfffffffff000 || !t.address);
	}
	STORE_RELEASE(&client.stop, 1);
	pthread_join(thread, NULL);
	printf("%" PRIu64 " translated, %" PRIu64 " ended, %" PRIu64 " begun anew; %" PRIu64 " changes, %" PRIu64
	       " accessed, %" PRIu64 " dirty\n", done, ended, s.counts.restarts, client.flips, client.accessed, client.dirty);
	uiopf_tlb_close(&s.iotlb);
}

/* Anything at all in both memories: the walk stays in them (the sanitizers watch), and ends. */
static void noise(uint64_t *random)
{
	static const char *const names[][2] = { { "vtd-first", "vtd-second" }, { "arm-stage1", "arm-stage2" } };
	uint64_t i, j, done = 0;

	for (j = 0; j < 8; j++) {
		struct uiopf_stages s = { .first = { format_called(names[j & 1][0]), guest, 64 * 4096, true },
					  .second = { format_called(names[j & 1][1]), host, 64 * 4096, true } };

		if (j & 4)
			s.second.format = NULL;
		CHECK_EQ(uiopf_tlb_open(&s.iotlb, j & 2 ? 64 : 0), 0);
		for (i = 0; i < 64 * 512; i++) {
			uint64_t a = next_random(random), b = next_random(random);

			if (a & 0xc)	/* most point into the memory, and are not of large pages */
				a = (below(random, 68) << 12) | (a & 0x447) | 3;
			if (b & 0xc)
				b = (below(random, 68) << 12) | (b & 0x4c0 & (j & 1 ? ~0ull : ~BIT(7))) | 3;
			WRITE_ONCE((uint64_t *)(void *)(guest + 8 * i), a);
			WRITE_ONCE((uint64_t *)(void *)(host + 8 * i), b);
		}
		for (i = 0; i < 50000; i++) {
			const uint64_t address = next_random(random) >> (15 + below(random, 25));

			done += !uiopf_stages_translate(&s, below(random, 3), 4096ull * below(random, 66),
							address, 1 + below(random, 15)).stage;
		}
		uiopf_tlb_close(&s.iotlb);
	}
	CHECK(done);
}

/*
 * Software's side, with tables that somebody else writes to: refusals, but no access beyond the memory, no table that is
 * given back twice, and never an end of its own making. *random* noise is drawn again and again.
 */
static void software_beside_a_hostile_writer(uint64_t *random)
{
	uint64_t i, j, word, refused = 0, done = 0, broken = 0;
	uint32_t n;

	for (n = 0; uiopf_format_at(n); n++) {
		struct uiopf_pagetables *t =
			uiopf_pagetables_new(uiopf_format_at(n), uiopf_format_stage(uiopf_format_at(n)) == 1 ? 4 : 1, 24, 0x8000, 1);

		for (i = 0; i < 20000; i++) {
			const uint32_t pasid = below(random, 5), level = below(random, 6), perm = below(random, 16);
			const uint64_t address = (uint64_t)below(random, 3) << 39 | (uint64_t)below(random, 2) << 30 |
						 (uint64_t)below(random, 2) << 21 | (uint64_t)below(random, 2) << 12;
			struct uiopf_mapping m;
			int rc;

			switch (below(random, 8)) {
			case 0:
				rc = uiopf_pagetables_unmap(t, pasid, address);
				break;
			case 1:
				rc = uiopf_pagetables_look(t, pasid, address, &m);
				break;
			case 2:
				rc = uiopf_pagetables_clean(t, pasid, address);
				break;
			case 3:
				rc = uiopf_pagetables_read(t, pasid, address, level, &word);
				break;
			case 4:	/* a pointer to any page of these and around, as a table, page or nothing */
				word = 4096ull * below(random, 40) | (next_random(random) & 0x80000000000004c3);
				rc = uiopf_pagetables_write(t, pasid, address, level, word);
				break;
			default:
				rc = uiopf_pagetables_map(t, pasid, address, (uint64_t)below(random, 4) << 30, level, perm);
			}
			CHECK(rc >= 0 || rc == -EINVAL || rc == -EEXIST || rc == -ENOMEM || rc == -ENOENT || rc == -EFAULT);
			refused += rc < 0;
			done += rc >= 0;
			broken += rc == -EFAULT;
			CHECK(uiopf_pagetables_used(t) <= 24);
		}
		/* All of it noise, the roots are kept. */
		for (j = 0; j < 24 * 512; j++)
			uiopf_pagetables_write(t, below(random, 4), next_random(random) & 0xffffffffffff, 1 + below(random, 4),
					       4096ull * below(random, 40) | (next_random(random) & 0x4c3));
		uiopf_pagetables_free(t);
	}
	CHECK(refused > 1000 && done > 1000 && broken > 100);
}

int main(int argc, char **argv)
{
	const uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000;
	uint64_t random = seed_from(argc, argv, 2);

	words_that_were_computed_by_hand();
	marks_that_software_reads();
	if (rounds) {
		random_trees(rounds, &random);
		every_outcome_was_seen();
	}
	what_is_not_invalidated_goes_on_being_used();
	both_kinds_must_be_invalidated();
	a_format_from_outside_walks();
	a_bit_goes_into_no_entry_that_has_changed();
	entries_that_another_thread_changes(&random);
	noise(&random);
	software_beside_a_hostile_writer(&random);
	return 0;
}
