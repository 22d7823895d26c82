#include "hardware/tables/stages.h"

#include "abi/iommufd.h"

#define PAGE 4096u

/* What one stage has found: the way down, and the page at its end. */
struct way {
	uint32_t n;
	struct step {
		uint64_t address;	/* of the entry, as the stage has it */
		uint64_t *at;
		uint64_t was, when_read, when_written;
	} step[UIOPF_LEVELS];
	uint64_t address;
	uint32_t level, rights;
};

enum outcome { DONE, ENDED, CHANGED };

static uint32_t need_of(uint32_t access)
{
	const uint32_t rights = access & UIOPF_RIGHTS_USER;

	return access & IOMMU_PGFAULT_PERM_PRIV ? rights << UIOPF_PRIVILEGED_SHIFT : rights;
}

static enum outcome ends(struct uiopf_translation *t, uint32_t stage, enum uiopf_reason reason, uint32_t level)
{
	t->stage = stage;
	t->reason = reason;
	t->level = level;
	if (stage == 1)
		t->intermediate = 0;
	return ENDED;
}

static bool has_tables_for(const struct uiopf_format *format, uint64_t address)
{
	const uint64_t above = address >> (UIOPF_ADDRESS_BITS - 1);

	return format->canonical && above & 1 ? above == ~0ull >> (UIOPF_ADDRESS_BITS - 1) : !(above >> 1);
}

/* The entry at an address in the stage's memory, or NULL. */
static uint64_t *entry_at(const struct uiopf_stage *stage, uint64_t address)
{
	return address <= stage->size - 8 ? (uint64_t *)(void *)(stage->map + address) : NULL;
}

static enum outcome second(struct uiopf_stages *s, uint64_t address, uint32_t need, struct uiopf_translation *t,
			   struct uiopf_tlb_entry *found);

/* Where an entry of stage 1 is: its address is an intermediate one. Setting a bit in it is an atomic read and write. */
static enum outcome locate_first(struct uiopf_stages *s, uint64_t address, uint32_t level, bool writes, uint64_t **at,
				 struct uiopf_translation *t)
{
	const bool is_write = writes || (s->second.format && s->second.format->walks_write && s->second.tracks);
	struct uiopf_tlb_entry page;
	enum outcome outcome;

	t->of_table = true;
	t->writes_table = writes;
	t->intermediate = address;
	outcome = second(s, address, UIOPF_RIGHTS_READ | (is_write ? UIOPF_RIGHTS_WRITE : 0), t, &page);
	if (outcome != DONE)
		return outcome;
	t->of_table = t->writes_table = false;
	*at = entry_at(&s->first, page.to | (address & ((1ull << page.shift) - 1)));
	return *at ? DONE : ends(t, 1, UIOPF_NO_MEMORY_THERE, level);
}

static enum outcome locate(struct uiopf_stages *s, uint32_t stage, uint64_t address, uint32_t level, uint64_t **at,
			   struct uiopf_translation *t)
{
	if (stage == 1)
		return locate_first(s, address, level, false, at, t);
	*at = entry_at(&s->second, address);
	return *at ? DONE : ends(t, 2, UIOPF_NO_MEMORY_THERE, level);
}

/* Down the tables of one stage, to a page that has the rights. */
static enum outcome walk(struct uiopf_stages *s, uint32_t stage, uint64_t root, uint64_t address, uint32_t need,
			 struct way *way, struct uiopf_translation *t)
{
	const struct uiopf_stage *of = stage == 1 ? &s->first : &s->second;
	uint32_t level, above = UIOPF_RIGHTS_ALL;
	uint64_t table = root;
	struct uiopf_entry entry;

	way->n = 0;
	if (!has_tables_for(of->format, address))
		return ends(t, stage, UIOPF_NO_SUCH_ADDRESS, 0);
	for (level = UIOPF_LEVELS; level; level--) {
		struct step *step = &way->step[way->n++];
		enum outcome outcome;

		step->address = table + (address >> uiopf_level_shift(level) & 511) * 8;
		outcome = locate(s, stage, step->address, level, &step->at, t);
		if (outcome != DONE)
			return outcome;
		s->counts.entries++;
		/* Pairs with the release of whoever stored it: the table that it points to is complete. */
		step->was = LOAD_ACQUIRE(step->at);
		of->format->decode(step->was, level, above, of->tracks || of->format->always_tracks, &entry);
		step->when_read = entry.when_read;
		step->when_written = entry.when_written;
		above = entry.rights;
		table = entry.address;
		switch (entry.kind) {
		case UIOPF_ENTRY_ABSENT:
			return ends(t, stage, UIOPF_NOT_PRESENT, level);
		case UIOPF_ENTRY_RESERVED:
			return ends(t, stage, UIOPF_RESERVED_BIT, level);
		case UIOPF_ENTRY_UNACCESSED:
			return ends(t, stage, UIOPF_NOT_ACCESSED, level);
		case UIOPF_ENTRY_PAGE:
			if ((entry.rights & need) != need)
				return ends(t, stage, UIOPF_NO_RIGHT, level);
			way->address = entry.address | (address & (uiopf_level_size(level) - 1));
			way->level = level;
			way->rights = entry.rights;
			return DONE;
		case UIOPF_ENTRY_TABLE:
			break;
		}
	}
	return ends(t, stage, UIOPF_RESERVED_BIT, 1);	/* a format from elsewhere goes on below the last level */
}

/* Sets the bits of an access on the way that it went. */
static enum outcome mark(struct uiopf_stages *s, uint32_t stage, bool writes, const struct way *way,
			 struct uiopf_translation *t)
{
	uint32_t i;

	for (i = 0; i < way->n; i++) {
		const struct step *step = &way->step[i];
		const uint64_t becomes = writes ? step->when_written : step->when_read;
		uint64_t *at = step->at;

		if (becomes == step->was)
			continue;
		if (stage == 1) {
			enum outcome outcome = locate_first(s, step->address, UIOPF_LEVELS - i, true, &at, t);

			if (outcome != DONE)
				return outcome;
		}
		if (s->only_looks)
			continue;
		if (!COMPARE_EXCHANGE(at, step->was, becomes)) {
			t->stage = stage;	/* in case it is the last time */
			return CHANGED;
		}
		s->counts.bits_set++;
	}
	return DONE;
}

/* Rights that need no further walk: a page that has not been written yet is walked for the first write. */
static uint8_t known_rights(const struct way *way, bool writes)
{
	const struct step *leaf = &way->step[way->n - 1];

	return (uint8_t)(writes || leaf->when_written == leaf->when_read ? way->rights : way->rights & ~UIOPF_RIGHTS_WRITE);
}

/* Through stage 2, if there is one. *found*: what comes out, as a TLB keeps it. */
static enum outcome second(struct uiopf_stages *s, uint64_t address, uint32_t need, struct uiopf_translation *t,
			   struct uiopf_tlb_entry *found)
{
	const struct uiopf_tlb_entry *kept;
	const bool writes = need & UIOPF_RIGHTS_WRITE;
	enum outcome outcome;
	uint64_t inside;
	struct way way;

	if (!s->second.format) {
		const uint64_t page = address & ~(uiopf_level_size(UIOPF_LARGEST) - 1);

		*found = (struct uiopf_tlb_entry){ page, page, 0, UIOPF_TLB_STAGE_2,
			(uint8_t)uiopf_level_shift(UIOPF_LARGEST), UIOPF_RIGHTS_ALL };
		return DONE;
	}
	kept = uiopf_tlb_find(&s->iotlb, UIOPF_TLB_STAGE_2, 0, address, need);
	if (kept) {
		*found = *kept;
		return DONE;
	}
	s->counts.second_walks++;
	outcome = walk(s, 2, s->second_root, address, need, &way, t);
	if (outcome == DONE)
		outcome = mark(s, 2, writes, &way, t);
	if (outcome != DONE)
		return outcome;
	inside = uiopf_level_size(way.level) - 1;
	*found = (struct uiopf_tlb_entry){ address & ~inside, way.address & ~inside, 0, UIOPF_TLB_STAGE_2,
		(uint8_t)uiopf_level_shift(way.level), known_rights(&way, writes) };
	uiopf_tlb_keep(&s->iotlb, *found);
	return DONE;
}

/* Both stages once. */
static enum outcome both(struct uiopf_stages *s, uint64_t root, uint64_t address, uint32_t need,
			 struct uiopf_translation *t)
{
	struct uiopf_tlb_entry page;
	enum outcome outcome;
	struct way way;

	*t = (struct uiopf_translation){ .intermediate = address, .shift = uiopf_level_shift(UIOPF_LARGEST),
					 .rights = UIOPF_RIGHTS_ALL };
	if (s->first.format) {
		const bool writes = need & UIOPF_RIGHTS_WRITE;

		if (root == UIOPF_NO_ROOT)
			return ends(t, 1, UIOPF_NO_TABLES, 0);
		s->counts.walks++;
		outcome = walk(s, 1, root, address, need, &way, t);
		if (outcome == DONE)
			outcome = mark(s, 1, writes, &way, t);
		if (outcome != DONE)
			return outcome;
		t->shift = uiopf_level_shift(way.level);
		t->rights = known_rights(&way, writes);
		t->intermediate = way.address;
	}
	outcome = second(s, t->intermediate, need, t, &page);
	if (outcome != DONE)
		return outcome;
	t->address = page.to | (t->intermediate & ((1ull << page.shift) - 1));
	t->rights &= page.rights;
	if (page.shift < t->shift)
		t->shift = page.shift;
	return DONE;
}

struct uiopf_translation uiopf_stages_translate(struct uiopf_stages *s, uint32_t pasid, uint64_t first_root,
						uint64_t address, uint32_t access)
{
	const uint32_t need = need_of(access);
	const struct uiopf_tlb_entry *kept;
	struct uiopf_translation t;
	enum outcome outcome = CHANGED;
	uint32_t i;

	s->counts.translations++;
	if (s->first.format) {	/* otherwise it is stage 2's, which is kept below */
		kept = uiopf_tlb_find(&s->iotlb, UIOPF_TLB_WHOLE, pasid, address, need);
		if (kept)
			return (struct uiopf_translation){ .shift = kept->shift, .rights = kept->rights,
				.address = kept->to | (address & ((1ull << kept->shift) - 1)) };
	}
	for (i = 0; i <= UIOPF_RESTARTS && outcome == CHANGED; i++) {
		s->counts.restarts += i > 0;
		outcome = both(s, first_root, address, need, &t);
	}
	if (outcome == CHANGED)
		ends(&t, t.stage, UIOPF_RESTLESS, 0);
	else if (outcome == DONE && s->first.format)
		uiopf_tlb_keep(&s->iotlb, (struct uiopf_tlb_entry){ address, t.address, pasid, UIOPF_TLB_WHOLE,
			(uint8_t)t.shift, (uint8_t)t.rights });
	return t;
}

struct uiopf_translation uiopf_stages_look(struct uiopf_stages *s, uint64_t first_root, uint64_t address, uint32_t access)
{
	struct uiopf_stages bare = { .first = s->first, .second = s->second, .second_root = s->second_root, .only_looks = true };
	struct uiopf_translation t;

	both(&bare, first_root, address, need_of(access), &t);
	s->counts.looks++;
	s->counts.looked_at += bare.counts.entries;
	return t;
}
