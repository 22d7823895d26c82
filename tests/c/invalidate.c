/*
 * Invalidation commands of all IOMMUs: what is named goes, and nothing else does. Two judges:
 *
 * - commands as words that were computed by hand from the specifications' tables, beside what each drops of 23 translations
 *   and contexts that five functions have made hardware keep;
 * - a model of caches as plain rings of places: a sequence at random of mappings, accesses, contexts that are changed and
 *   commands of any fields. After each access the address must be the model's, stale or not, and after each command all
 *   that hardware keeps must be what the model keeps, place by place.
 *
 * Formats: IHI 0070, 4.3 to 4.5; VT-d 4.x, 6.5.2, and Linux' drivers/iommu/intel/iommu.h, of 4.20 for revision 2; Linux'
 * drivers/iommu/amd/iommu.c; the RISC-V IOMMU specification 1.0, in-memory queue interface.
 *
 * invalidate STEPS SEED
 */
#include "abi/api.h"
#include "abi/iommufd.h"
#include "check.h"
#include "hardware/endpoint.h"
#include "hardware/iommu/model.h"
#include "hardware/iommu/smmuv3.h"
#include "hardware/iommu/vtd_2.h"
#include "hardware/iommu/amd.h"
#include "hardware/iommu/riscv.h"

#define READ IOMMU_PGFAULT_PERM_READ
#define ALL_RIGHTS 7u
#define FUNCTIONS 5u
#define TRANSLATORS 4u
#define PASIDS 0x200u
#define TABLES_AT 0x2000000000ull	/* an intermediate address, on 2 MiB */
#define MIB2 0x200000ull
#define NOWHERE UINT64_MAX

static const uint16_t rid_of[FUNCTIONS] = { 0xab12, 0xab13, 0x0304, 0x0305, 0x0306 };
static const uint32_t translator_of[FUNCTIONS] = { 0, 0, 1, 2, 3 };
static const struct { bool first, second; uint32_t domain; } made_of[TRANSLATORS] = {
	{ true, true, 7 }, { true, true, 9 }, { true, false, 7 }, { false, true, 9 },
};

/* ---- what hardware is to keep ---- */

enum kind { EMPTY, WHOLE, SECOND };

struct place {
	enum kind kind;
	uint32_t tag;
	uint64_t from, size, to;
};

#define MOST_PLACES 512u

struct ring {
	struct place place[MOST_PLACES];
	uint32_t n, next;
};

struct kept_context {
	bool there;
	uint32_t pasid, tag;
	int tree;
};

/* Mappings of one tree, or of a stage 2; the trees of a translator's PASIDs can change places. */
#define MAPPINGS 64u
#define TREES 8u
struct tree {
	struct place page[MAPPINGS];
	uint32_t n;
};

/* PASIDs that are used. Three of them want the same place of the contexts that are kept. */
static const uint32_t pasid_at[TREES] = { 0, 1, 2, 3, 17, 5, 6, 0x101 };

static struct world {
	struct uiopf_core *core;
	struct uiopf_model *iommu;
	struct uiopf_endpoint *ep[FUNCTIONS];
	struct uiopf_pagetables *first[TRANSLATORS], *second[TRANSLATORS];
	struct uiopf_translator *translator[TRANSLATORS];
	struct model {
		struct ring iotlb[TRANSLATORS], device[FUNCTIONS];
		struct kept_context context[FUNCTIONS][UIOPF_CONTEXTS];
		struct tree tree[TRANSLATORS][TREES], second[TRANSLATORS];
		int tree_at[TRANSLATORS][TREES];	/* by the place of a PASID in pasid_at */
		uint32_t tag[TRANSLATORS][TREES];
		uint64_t completed;
	} model;
} w;

static const struct place *ring_find(const struct ring *r, enum kind kind, uint32_t tag, uint64_t address)
{
	uint32_t i;

	for (i = 0; i < r->n; i++)
		if (r->place[i].kind == kind && r->place[i].tag == tag && address - r->place[i].from < r->place[i].size)
			return &r->place[i];
	return NULL;
}

static void ring_keep(struct ring *r, struct place p, uint64_t address)
{
	const uint64_t off = address % p.size;

	if (!r->n)
		return;
	p.to -= off;
	p.from = address - off;
	r->place[r->next] = p;
	r->next = (r->next + 1) % r->n;
}

static const struct place *tree_find(const struct tree *t, uint64_t address)
{
	uint32_t i;

	for (i = 0; i < t->n; i++)
		if (address - t->page[i].from < t->page[i].size)
			return &t->page[i];
	return NULL;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Through stage 2; the page's address, and its size. */
static uint64_t model_second(uint32_t t, uint64_t address, uint64_t *size)
{
	const struct place *p = ring_find(&w.model.iotlb[t], SECOND, 0, address);

	*size = 1ull << 30;
	if (!made_of[t].second)
		return address;
	if (!p) {
		p = tree_find(&w.model.second[t], address);
		if (!p)
			return NOWHERE;
		ring_keep(&w.model.iotlb[t], (struct place){ SECOND, 0, 0, p->size, p->to + address - p->from }, address);
	}
	*size = p->size;
	return p->to + address - p->from;
}

static uint64_t model_walk(uint32_t t, struct kept_context context, uint64_t address, uint64_t *size)
{
	const struct place *p;
	uint64_t to, of_tables, of_second;

	if (!made_of[t].first)
		return model_second(t, address, size);
	p = ring_find(&w.model.iotlb[t], WHOLE, context.tag, address);
	if (p) {
		*size = p->size;
		return p->to + address - p->from;
	}
	if (context.tree < 0)
		return NOWHERE;
	if (model_second(t, TABLES_AT, &of_tables) == NOWHERE)
		return NOWHERE;
	p = tree_find(&w.model.tree[t][context.tree], address);
	if (!p)
		return NOWHERE;
	to = model_second(t, p->to + address - p->from, &of_second);
	if (to == NOWHERE)
		return NOWHERE;
	*size = smaller(p->size, of_second);
	ring_keep(&w.model.iotlb[t], (struct place){ WHOLE, context.tag, 0, *size, to }, address);
	return to;
}

static struct kept_context model_context(uint32_t f, uint32_t at)
{
	const uint32_t t = translator_of[f], pasid = pasid_at[at];
	struct kept_context *kept = &w.model.context[f][pasid % UIOPF_CONTEXTS];
	const struct kept_context now = { w.model.tree_at[t][at] >= 0, pasid, w.model.tag[t][at], w.model.tree_at[t][at] };

	if (kept->there && kept->pasid == pasid)
		return *kept;
	if (!made_of[t].first || !now.there)
		return now;
	*kept = now;
	return now;
}

static uint64_t model_access(uint32_t f, uint32_t at, uint64_t address)
{
	const struct place *p = ring_find(&w.model.device[f], WHOLE, pasid_at[at], address);
	uint64_t size, to;

	if (p)
		return p->to + address - p->from;
	to = model_walk(translator_of[f], model_context(f, at), address, &size);
	if (to != NOWHERE)
		ring_keep(&w.model.device[f], (struct place){ WHOLE, pasid_at[at], 0, size, to }, address);
	return to;
}

/* ---- what a command names ---- */

enum guests { ANY, WITH_STAGE_2, WITHOUT_STAGE_2 };
#define EACH UINT32_MAX		/* domain, tag, PASID, requester id */

struct names {
	bool whole, second, device, contexts, completes;
	uint32_t domain, tag, rid, pasid;
	enum guests guests;
	uint64_t first, last, second_first, second_last, device_first, device_last;
};

static bool names_translator(const struct names *n, uint32_t t)
{
	return (n->domain == EACH || n->domain == made_of[t].domain) &&
	       (n->guests == ANY || (n->guests == WITH_STAGE_2) == made_of[t].second);
}

static void ring_drop(struct ring *r, enum kind kind, uint32_t tag, uint64_t first, uint64_t last)
{
	uint32_t i;

	for (i = 0; i < r->n; i++)
		if (r->place[i].kind == kind && (tag == EACH || r->place[i].tag == tag) && r->place[i].from <= last &&
		    r->place[i].from + (r->place[i].size - 1) >= first)
			r->place[i].kind = EMPTY;
}

static void model_drop(const struct names *n)
{
	uint32_t t, f, i;

	for (t = 0; t < TRANSLATORS; t++) {
		if (n->whole && names_translator(n, t))
			ring_drop(&w.model.iotlb[t], WHOLE, n->tag, n->first, n->last);
		if (n->second && names_translator(n, t))
			ring_drop(&w.model.iotlb[t], SECOND, EACH, n->second_first, n->second_last);
	}
	for (f = 0; f < FUNCTIONS; f++) {
		if (n->device && n->rid == rid_of[f])
			ring_drop(&w.model.device[f], WHOLE, n->pasid, n->device_first, n->device_last);
		for (i = 0; i < UIOPF_CONTEXTS; i++)
			if (n->contexts && (n->rid == EACH || n->rid == rid_of[f]) && names_translator(n, translator_of[f]) &&
			    (n->pasid == EACH || n->pasid == w.model.context[f][i].pasid))
				w.model.context[f][i].there = false;
	}
	w.model.completed += n->completes;
}

/* ---- the world ---- */

static void open_world(const struct uiopf_model_ops *ops, uint32_t places)
{
	uint32_t t, f, i;

	memset(&w, 0, sizeof w);
	w.core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	w.iommu = uiopf_model_new(w.core, ops, 0);
	CHECK(w.core && w.iommu);
	uiopf_model_hold_interrupt(w.iommu, 1);
	for (t = 0; t < TRANSLATORS; t++) {
		w.first[t] = made_of[t].first ? uiopf_pagetables_new(uiopf_format_at(2), PASIDS, 256,
								     made_of[t].second ? TABLES_AT : 0, 0) : NULL;
		w.second[t] = made_of[t].second ? uiopf_pagetables_new(uiopf_format_at(3), 1, 64, 0, 0) : NULL;
		w.translator[t] = uiopf_translator_new(w.core, w.first[t], w.second[t], places);
		CHECK(w.translator[t]);
		CHECK_EQ(uiopf_translator_set_domain(w.translator[t], made_of[t].domain), 0);
		if (made_of[t].second && made_of[t].first) {
			CHECK_EQ(uiopf_pagetables_map(w.second[t], 0, TABLES_AT, 0, 2, ALL_RIGHTS), 0);
			w.model.second[t].page[w.model.second[t].n++] = (struct place){ SECOND, 0, TABLES_AT, MIB2, 0 };
		}
		w.model.iotlb[t].n = places;
		for (i = 0; i < TREES; i++) {
			w.model.tree_at[t][i] = -1;
			w.model.tag[t][i] = pasid_at[i];
		}
	}
	for (f = 0; f < FUNCTIONS; f++) {
		w.ep[f] = uiopf_endpoint_new(w.core, uiopf_model_port(w.iommu), rid_of[f], 64, 1);
		CHECK(w.ep[f]);
		CHECK_EQ(uiopf_endpoint_set_translator(w.ep[f], w.translator[translator_of[f]], places), 0);
		w.model.device[f].n = places;
	}
}

static void close_world(void)
{
	uint32_t t, f;

	for (f = 0; f < FUNCTIONS; f++)
		uiopf_endpoint_free(w.ep[f]);
	for (t = 0; t < TRANSLATORS; t++) {
		uiopf_translator_free(w.translator[t]);
		uiopf_pagetables_free(w.first[t]);
		uiopf_pagetables_free(w.second[t]);
	}
	uiopf_model_free(w.iommu);
	CHECK_EQ(uiopf_core_free(w.core), 0);
}

/* A tree comes to be with its first mapping, and has its PASID's number until places are changed. */
static bool map_first(uint32_t t, uint32_t at, uint64_t address, uint64_t to, uint32_t level)
{
	const uint64_t size = level == 1 ? 4096 : MIB2;
	const int rc = uiopf_pagetables_map(w.first[t], pasid_at[at], address, to, level, ALL_RIGHTS);
	uint32_t i;
	struct tree *tree;

	if (w.model.tree_at[t][at] < 0) {	/* also where there was no room: the root is there */
		bool used[TREES] = { false };

		for (i = 0; i < TREES; i++)
			if (w.model.tree_at[t][i] >= 0)
				used[w.model.tree_at[t][i]] = true;
		for (i = 0; used[i]; i++)
			;
		w.model.tree_at[t][at] = (int)i;
	}
	if (rc)
		return false;
	tree = &w.model.tree[t][w.model.tree_at[t][at]];
	CHECK(tree->n < MAPPINGS);
	tree->page[tree->n++] = (struct place){ WHOLE, 0, address, size, to };
	return true;
}

static bool map_second(uint32_t t, uint64_t address, uint64_t to, uint32_t level)
{
	struct tree *tree = &w.model.second[t];

	if (uiopf_pagetables_map(w.second[t], 0, address, to, level, ALL_RIGHTS))
		return false;
	CHECK(tree->n < MAPPINGS);
	tree->page[tree->n++] = (struct place){ SECOND, 0, address, level == 1 ? 4096 : MIB2, to };
	return true;
}

static void forget_page(struct tree *tree, uint64_t address)
{
	const struct place *p = tree_find(tree, address);

	CHECK(p);
	tree->page[p - tree->page] = tree->page[--tree->n];
}

/* What the function finds now is what the model says, stale or not. */
static uint64_t access_by(uint32_t f, uint32_t at, uint64_t address)
{
	const struct uiopf_translation t = uiopf_device_tlb_walk(w.ep[f]->tlb, pasid_at[at], address, READ);
	const uint64_t to = model_access(f, at, address);

	CHECK_EQ(t.stage == 0, to != NOWHERE);
	if (!t.stage)
		CHECK_EQ(t.address, to);
	return to;
}

static void check_ring(const struct ring *r, const struct uiopf_tlb *tlb)
{
	static const uint8_t kinds[] = { [EMPTY] = UIOPF_TLB_EMPTY, [WHOLE] = UIOPF_TLB_WHOLE, [SECOND] = UIOPF_TLB_STAGE_2 };
	uint32_t i;

	CHECK_EQ(tlb->capacity, r->n);
	for (i = 0; i < r->n; i++) {
		CHECK_EQ(tlb->entry[i].kind, kinds[r->place[i].kind]);
		if (r->place[i].kind == EMPTY)
			continue;
		CHECK_EQ(tlb->entry[i].pasid, r->place[i].tag);
		CHECK_EQ(tlb->entry[i].from, r->place[i].from);
		CHECK_EQ(tlb->entry[i].to, r->place[i].to);
		CHECK_EQ(1ull << tlb->entry[i].shift, r->place[i].size);
	}
}

static void check_kept(void)
{
	struct uiopf_model_counts counts;
	uint32_t t, f, i;

	for (t = 0; t < TRANSLATORS; t++)
		check_ring(&w.model.iotlb[t], &w.translator[t]->stages.iotlb);
	for (f = 0; f < FUNCTIONS; f++) {
		check_ring(&w.model.device[f], &w.ep[f]->tlb->tlb);
		for (i = 0; i < UIOPF_CONTEXTS; i++) {
			const struct uiopf_context *c = &w.ep[f]->tlb->context[i];
			const struct kept_context *m = &w.model.context[f][i];

			CHECK_EQ(c->there, m->there);
			if (c->there)
				CHECK(c->pasid == m->pasid && c->tag == m->tag);
		}
	}
	uiopf_model_get_counts(w.iommu, &counts);
	CHECK_EQ(counts.completed, w.model.completed);
}

static void give(const uint64_t d[4])
{
	CHECK_EQ(uiopf_model_command(w.iommu, d), 0);
}

static void produce(void)
{
	while (uiopf_core_produce(w.core))
		;
}

/* ---- by hand ---- */

#define A0 0x40000000ull
#define A1 0x40001000ull
#define I0 0x1000000ull
#define I1 0x1001000ull

/* What is kept, a bit each. WHOLE: translator, tag (or PASID: 0x21 and 0x22 are 1 and 2 where there are no tags), page. */
enum {
	T0_21_A0 = 1 << 0, T0_21_A1 = 1 << 1, T0_22_A0 = 1 << 2, T1_21_A0 = 1 << 3, T2_21_A0 = 1 << 4,
	S0_I0 = 1 << 5, S0_I1 = 1 << 6, S1_I0 = 1 << 7, S3_A0 = 1 << 8, S0_TABLES = 1 << 9, S1_TABLES = 1 << 10,
	F0_1_A0 = 1 << 11, F0_1_A1 = 1 << 12, F0_2_A0 = 1 << 13, F1_1_A0 = 1 << 14, F2_1_A0 = 1 << 15, F3_1_A0 = 1 << 16,
	F4_0_A0 = 1 << 17,
	C0_1 = 1 << 18, C0_2 = 1 << 19, C1_1 = 1 << 20, C2_1 = 1 << 21, C3_1 = 1 << 22,
	EVERYTHING = (1 << 23) - 1,
	ALL_S0 = S0_I0 | S0_I1 | S0_TABLES, ALL_SECOND = ALL_S0 | S1_I0 | S1_TABLES | S3_A0,
	ALL_T0 = T0_21_A0 | T0_21_A1 | T0_22_A0, ALL_WHOLE = ALL_T0 | T1_21_A0 | T2_21_A0,
	ALL_CONTEXTS = C0_1 | C0_2 | C1_1 | C2_1 | C3_1,
};

/* The usual first two PASIDs are 1 and 2 in pasid_at. */
static void fill(bool tags)
{
	uint32_t t;

	for (t = 0; t < TRANSLATORS; t++) {
		if (w.first[t]) {
			CHECK(map_first(t, 1, A0, I0, 1));
			CHECK(map_first(t, 1, A1, I1, 1));
			CHECK(map_first(t, 2, A0, I1, 1));
		}
		if (w.first[t] && tags) {
			w.model.tag[t][1] = 0x21;
			w.model.tag[t][2] = 0x22;
			CHECK_EQ(uiopf_translator_set_tag(w.translator[t], 1, 0x21), 0);
			CHECK_EQ(uiopf_translator_set_tag(w.translator[t], 2, 0x22), 0);
		}
		if (w.second[t]) {
			CHECK(map_second(t, I0, 0x9000, 1));
			CHECK(map_second(t, I1, 0xa000, 1));
			CHECK(map_second(t, A0, 0xb000, 1));
		}
	}
	access_by(0, 1, A0);
	access_by(0, 1, A1);
	access_by(0, 2, A0);
	access_by(1, 1, A0);
	access_by(2, 1, A0);
	access_by(3, 1, A0);
	access_by(4, 0, A0);
}

static bool iotlb_has(uint32_t t, enum uiopf_tlb_kind kind, uint32_t tag, uint64_t address)
{
	const struct uiopf_tlb *tlb = &w.translator[t]->stages.iotlb;
	uint32_t i;

	for (i = 0; i < tlb->capacity; i++)
		if (tlb->entry[i].kind == kind && tlb->entry[i].pasid == tag && !((tlb->entry[i].from ^ address) >> tlb->entry[i].shift))
			return true;
	return false;
}

static bool device_has(uint32_t f, uint32_t pasid, uint64_t address)
{
	const struct uiopf_tlb *tlb = &w.ep[f]->tlb->tlb;
	uint32_t i;

	for (i = 0; i < tlb->capacity; i++)
		if (tlb->entry[i].kind == UIOPF_TLB_WHOLE && tlb->entry[i].pasid == pasid && tlb->entry[i].from == address)
			return true;
	return false;
}

static uint32_t kept(bool tags)
{
	const uint32_t one = tags ? 0x21 : 1, two = tags ? 0x22 : 2;
	const bool has[] = {
		iotlb_has(0, UIOPF_TLB_WHOLE, one, A0), iotlb_has(0, UIOPF_TLB_WHOLE, one, A1), iotlb_has(0, UIOPF_TLB_WHOLE, two, A0),
		iotlb_has(1, UIOPF_TLB_WHOLE, one, A0), iotlb_has(2, UIOPF_TLB_WHOLE, one, A0),
		iotlb_has(0, UIOPF_TLB_STAGE_2, 0, I0), iotlb_has(0, UIOPF_TLB_STAGE_2, 0, I1), iotlb_has(1, UIOPF_TLB_STAGE_2, 0, I0),
		iotlb_has(3, UIOPF_TLB_STAGE_2, 0, A0), iotlb_has(0, UIOPF_TLB_STAGE_2, 0, TABLES_AT),
		iotlb_has(1, UIOPF_TLB_STAGE_2, 0, TABLES_AT),
		device_has(0, 1, A0), device_has(0, 1, A1), device_has(0, 2, A0), device_has(1, 1, A0), device_has(2, 1, A0),
		device_has(3, 1, A0), device_has(4, 0, A0),
		w.ep[0]->tlb->context[1].there, w.ep[0]->tlb->context[2].there, w.ep[1]->tlb->context[1].there,
		w.ep[2]->tlb->context[1].there, w.ep[3]->tlb->context[1].there,
	};
	uint32_t i, bits = 0;

	for (i = 0; i < sizeof has / sizeof has[0]; i++)
		bits |= (uint32_t)has[i] << i;
	return bits;
}

struct vector {
	uint64_t word0, word1;
	uint32_t drops;
	bool completes;
};

static const struct vector smmu[] = {
	/* Opcode 7:0, NUM 16:12, SCALE 24:20, VMID 47:32, ASID 63:48; leaf 0, TTL 9:8, TG 11:10, address 63:12. */
	{ 0x0000000700000010, 0, ALL_T0 | T2_21_A0, false },					/* NH_ALL */
	{ 0x0021000700000010, 0, ALL_T0 | T2_21_A0, false },					/* … has no ASID */
	{ 0x0000000900000010, 0, T1_21_A0, false },
	{ 0x0000000800000010, 0, 0, false },
	{ 0x0021000700000011, 0, T0_21_A0 | T0_21_A1 | T2_21_A0, false },			/* NH_ASID */
	{ 0x0022000700000011, 0, T0_22_A0, false },
	{ 0x0121000700000011, 0, 0, false },							/* ASIDs have 16 bits */
	{ 0x0021000700000012, 0x40000001, T0_21_A0 | T2_21_A0, false },			/* NH_VA, leaf */
	{ 0x0021000900000012, 0x40000000, T1_21_A0, false },
	{ 0x0021000700000012, 0x40002000, 0, false },
	{ 0x0021000700001012, 0x40000400, T0_21_A0 | T0_21_A1 | T2_21_A0, false },		/* two pages of 4 KiB */
	{ 0x0021000700100012, 0x3ffff400, T0_21_A0 | T2_21_A0, false },			/* the same by SCALE, and one page before */
	{ 0x0021000700000012, 0x40000700, T0_21_A0 | T2_21_A0, false },			/* one page: TTL says 3 */
	{ 0x0021000700001012, 0x3fffc800, T0_21_A0 | T0_21_A1 | T2_21_A0, false },		/* two of 16 KiB */
	{ 0x0021000700001012, 0x3fff0c00, T0_21_A0 | T0_21_A1 | T2_21_A0, false },		/* two of 64 KiB: to 0x4000ffff */
	{ 0x0021000701f1f012, 0xfffffffffffffc00, 0, false },				/* not beyond the end, and no wrap */
	{ 0x0000000700000013, 0x40000000, T0_21_A0 | T0_22_A0 | T2_21_A0, false },		/* NH_VAA */
	{ 0x0021000700001013, 0x40000400, ALL_T0 | T2_21_A0, false },
	{ 0x0000000700000028, 0, ALL_T0 | T2_21_A0 | ALL_S0, false },				/* S12_VMALL */
	{ 0x000000070000002a, 0x01000001, S0_I0, false },					/* S2_IPA, leaf */
	{ 0x000000070000002a, 0xfff0000001000000, S0_I0, false },				/* an IPA is 51:12 */
	{ 0x000000070000102a, 0x01000400, S0_I0 | S0_I1, false },
	{ 0x000000090000002a, 0x40000000, S3_A0, false },
	{ 0x000000070000002a, 0x2000001000, S0_TABLES, false },				/* in the page of 2 MiB */
	{ 0x0000000000000030, 0, ALL_WHOLE | ALL_SECOND, false },				/* NSNH_ALL */
	{ 0x0000000000000020, 0, 0, false },							/* EL2 has none */
	{ 0x0021000000000021, 0, 0, false },
	{ 0x0021000700000022, 0x40000000, 0, false },
	{ 0x0000000700000023, 0x40000000, 0, false },
	/* ATC_INV: Global 9, SSV 11, SubstreamID 31:12, StreamID 63:32; size 5:0. */
	{ 0x0000ab1200001840, 0x40000000, F0_1_A0, false },
	{ 0x0000ab1200001840, 0x40000001, F0_1_A0 | F0_1_A1, false },
	{ 0x0000ab1200001840, 0x40001001, F0_1_A0 | F0_1_A1, false },				/* aligned to its size */
	{ 0x0000ab1200001840, 0x40001000, F0_1_A1, false },
	{ 0x0000ab1200001840, 0x34, F0_1_A0 | F0_1_A1, false },				/* all: 52 */
	{ 0x0000ab1200000040, 0x40000000, F0_1_A0 | F0_2_A0, false },				/* no SSV: any PASID */
	{ 0x0000ab1200000240, 0x40000000, F0_1_A0 | F0_2_A0, false },
	{ 0x0000ab1200001a40, 0x40000000, F0_1_A0 | F0_2_A0, false },				/* Global */
	{ 0x0000ab1300001840, 0x34, F1_1_A0, false },
	{ 0x0001ab1200001840, 0x34, 0, false },						/* a StreamID has 32 bits */
	{ 0x0000030600000840, 0x34, F4_0_A0, false },
	/* CFGI: SubstreamID 31:12, StreamID 63:32. */
	{ 0x0000ab1200001005, 1, C0_1, false },						/* CD */
	{ 0x0000ab1200002005, 0, C0_2, false },
	{ 0x0001ab1200001005, 0, 0, false },
	{ 0x0000ab1200000006, 0, C0_1 | C0_2, false },					/* CD_ALL */
	{ 0x0000ab1200000003, 1, C0_1 | C0_2, false },					/* STE */
	{ 0x0001ab1200000003, 1, 0, false },
	{ 0x0000ab1200000004, 0, C0_1 | C0_2 | C1_1, false },					/* STE_RANGE: two streams */
	{ 0x0000ab1300000004, 0, C0_1 | C0_2 | C1_1, false },
	{ 0x0000030400000004, 1, C2_1 | C3_1, false },
	{ 0x0000030600000004, 0, 0, false },
	{ 0x0000000000000004, 0x1f, ALL_CONTEXTS, false },					/* ALL */
	{ 0x0000000000000046, 0, 0, true },							/* SYNC */
	{ 0x0000ab1200000001, 0, 0, false },							/* prefetches */
	{ 0x0000ab1200000002, 0, 0, false },
};

#define VTD_OF_ALL \
	/* Type 3:0, granularity 5:4, domain 31:16; AM 5:0, IH 6, address 63:12. */ \
	{ 0x0000000000000012, 0, ALL_WHOLE | ALL_SECOND, false },				/* IOTLB: global */ \
	{ 0x0000000000070022, 0, ALL_T0 | T2_21_A0 | ALL_S0, false },				/* … domain */ \
	{ 0x0000000000090022, 0, T1_21_A0 | S1_I0 | S1_TABLES | S3_A0, false }, \
	{ 0x0000000000070032, 0x01000000, ALL_T0 | T2_21_A0 | S0_I0, false },			/* … pages */ \
	{ 0x0000000000070032, 0x01000041, ALL_T0 | T2_21_A0 | S0_I0 | S0_I1, false },		/* AM 1, IH */ \
	{ 0x0000000000070032, 0x01001001, ALL_T0 | T2_21_A0 | S0_I0 | S0_I1, false }, \
	{ 0x0000000000070032, 0x01002001, ALL_T0 | T2_21_A0, false }, \
	{ 0x0000000000070032, 0x3f, ALL_T0 | T2_21_A0 | ALL_S0, false }, \
	{ 0x00000000000700c2, 0, 0, false },							/* reserved; DR and DW are set */ \
	/* PASID-based: PASID 51:32. */ \
	{ 0x0000000100070026, 0, T0_21_A0 | T0_21_A1 | T2_21_A0, false }, \
	{ 0x0000000100090026, 0, T1_21_A0, false }, \
	{ 0x0001000100070026, 0, 0, false },							/* a PASID has 20 bits */ \
	{ 0x0010000100070026, 0, T0_21_A0 | T0_21_A1 | T2_21_A0, false }, \
	{ 0x0000000100070036, 0x40000000, T0_21_A0 | T2_21_A0, false }, \
	{ 0x0000000200070036, 0x40000040, T0_22_A0, false }, \
	{ 0x0000000100070036, 0x40000001, T0_21_A0 | T0_21_A1 | T2_21_A0, false }, \
	/* PASID cache. */ \
	{ 0x0000000000070007, 0, C0_1 | C0_2 | C1_1 | C3_1, false },				/* domain */ \
	{ 0x0000000100070017, 0, C0_1 | C1_1 | C3_1, false },					/* PASID */ \
	{ 0x0000000100090017, 0, C2_1, false }, \
	{ 0x0000000000000027, 0, 0, false },							/* reserved */ \
	{ 0x0000000000000037, 0, ALL_CONTEXTS, false },					/* global */ \
	/* Device TLB: requester id 47:32; S 0. The lowest 0 from 12 on says how many pages. */ \
	{ 0x0000ab1200000003, 0x40000000, F0_1_A0 | F0_2_A0, false }, \
	{ 0x0000ab1200000003, 0x40001000, F0_1_A1, false }, \
	{ 0x0000ab1200000003, 0x40000001, F0_1_A0 | F0_1_A1 | F0_2_A0, false },		/* 8 KiB */ \
	{ 0x0000ab1200000003, 0x40001001, F0_1_A0 | F0_1_A1 | F0_2_A0, false },		/* 16 KiB */ \
	{ 0x0000ab1200000003, 0x40002001, 0, false },					/* 8 KiB, from 0x40002000 on */ \
	{ 0x0000ab1200000003, 0x4000b001, 0, false },					/* 16 KiB at 0x40008000 */ \
	{ 0x0000ab1200000003, 0x40007001, F0_1_A0 | F0_1_A1 | F0_2_A0, false },		/* 64 KiB */ \
	{ 0x0000ab1200000003, 0x7ffffffffffff001, F0_1_A0 | F0_1_A1 | F0_2_A0, false },	/* all */ \
	{ 0x0000ab1200000003, 0xfffffffffffff001, F0_1_A0 | F0_1_A1 | F0_2_A0, false }, \
	{ 0x3450ab13001f2003, 0x7ffffffffffff001, F1_1_A0, false },				/* PFSID, depth */ \
	/* PASID-based: requester id 31:16, PASID 51:32; G 0, S 11. */ \
	{ 0x00000001ab120008, 0x40000000, F0_1_A0, false }, \
	{ 0x00000002ab120008, 0x40000000, F0_2_A0, false }, \
	{ 0x00000001ab120008, 0x40000800, F0_1_A0 | F0_1_A1, false }, \
	{ 0x00000001ab120008, 0x40000001, F0_1_A0 | F0_2_A0, false }, \
	{ 0x00000001ab120008, 0x7ffffffffffff801, F0_1_A0 | F0_1_A1 | F0_2_A0, false }, \
	{ 0x00000001ab140008, 0x40000000, 0, false }, \
	{ 0x0000000000000011, 0, 0, false },							/* context cache */ \
	{ 0x0000000000000014, 0, 0, false },							/* interrupt entries */ \
	{ 0x0000000200000025, 0x1234, 0, true },						/* wait */

static const struct vector vtd[] = {
	VTD_OF_ALL
	{ 0x0000000100070006, 0, 0, false },							/* reserved */
	{ 0x0000000100070016, 0, 0, false },
};

static const struct vector vtd_2[] = {
	VTD_OF_ALL
	{ 0x0000000100070006, 0, ALL_T0 | T2_21_A0, false },					/* all PASIDs */
	{ 0x0000000100070016, 0, ALL_T0 | T2_21_A0, false },
};

static const struct vector amd[] = {
	/* INVALIDATE_IOMMU_PAGES: PASID 19:0, domain 47:32, 3 in 63:60; S 0, PDE 1, GN 2, address 63:12. */
	{ 0x3000000700000001, 0x40000004, T0_21_A0 | T2_21_A0, false },
	{ 0x3000000700000001, 0x40000005, T0_21_A0 | T0_21_A1 | T2_21_A0, false },
	{ 0x3000000700000002, 0x7ffffffffffff007, T0_22_A0, false },
	{ 0x3000000900000001, 0x40000004, T1_21_A0, false },
	{ 0x3000000700010001, 0x40000004, 0, false },					/* a PASID has 20 bits */
	{ 0x3000000700000000, 0x01000000, ALL_T0 | T2_21_A0 | S0_I0, false },
	{ 0x3000000700000000, 0x01000003, ALL_T0 | T2_21_A0 | S0_I0 | S0_I1, false },
	{ 0x3000000700000000, 0x7ffffffffffff003, ALL_T0 | T2_21_A0 | ALL_S0, false },
	{ 0x3000000900000000, 0x40000000, T1_21_A0 | S3_A0, false },
	/* INVALIDATE_IOTLB_PAGES: device 15:0 and queue 47:32, depth 31:24, PASID 15:8 in 23:16 and 7:0 in 55:48. */
	{ 0x4001ab122000ab12, 0x40000004, F0_1_A0, false },
	{ 0x4001ab122000ab12, 0x40000005, F0_1_A0 | F0_1_A1, false },
	{ 0x4002ab122000ab12, 0x7ffffffffffff005, F0_2_A0, false },
	{ 0x4001ab122001ab12, 0x40000004, 0, false },					/* PASID 0x101 */
	{ 0x4000ab122000ab12, 0x40000000, F0_1_A0 | F0_2_A0, false },
	{ 0x4000ab122000ab13, 0x7ffffffffffff001, F1_1_A0, false },
	{ 0x200000000000ab12, 0, C0_1 | C0_2, false },					/* INVALIDATE_DEVTAB_ENTRY */
	{ 0x8000000000000000, 0, ALL_WHOLE | ALL_SECOND | ALL_CONTEXTS, false },		/* INVALIDATE_IOMMU_ALL */
	{ 0x1000000000000001, 1, 0, true },							/* COMPLETION_WAIT */
	{ 0x500000000000ab12, 0, 0, false },							/* INVALIDATE_INTERRUPT_TABLE */
	{ 0x600000000000ab12, 0, 0, false },							/* PREFETCH_IOMMU_PAGES */
};

static const struct vector riscv[] = {
	/* IOTINVAL: AV 10, PSCID 31:12, PSCV 32, GV 33, GSCID 59:44; address 63:12 in 61:10. VMA of a guest … */
	{ 0x0000700300021401, 0x10000000, T0_21_A0, false },
	{ 0x0000700300021401, 0x100003ff, T0_21_A0, false },
	{ 0x0000700300021401, 0x10000400, T0_21_A1, false },
	{ 0x0000700300021001, 0x10000400, T0_21_A0 | T0_21_A1, false },
	{ 0x0000700200021401, 0x10000000, T0_21_A0 | T0_22_A0, false },
	{ 0x0000700200000001, 0, ALL_T0, false },
	{ 0x0000900200000001, 0, T1_21_A0, false },
	{ 0x0001700200000001, 0, 0, false },							/* a GSCID has 16 bits */
	/* … and of the host, whose spaces have no stage 2. */
	{ 0x0000700000000001, 0, T2_21_A0, false },
	{ 0x0000000100022001, 0, 0, false },
	{ 0x0000000100021001, 0, T2_21_A0, false },
	{ 0x0000000100021401, 0x10000000, T2_21_A0, false },
	{ 0x0000000100021401, 0x10000400, 0, false },
	{ 0x0000000000000401, 0x10000000, T2_21_A0, false },
	/* GVMA. */
	{ 0x0000000000000081, 0, ALL_T0 | T1_21_A0 | ALL_SECOND, false },
	{ 0x0000700000000481, 0x400000, ALL_T0 | T1_21_A0 | ALL_SECOND, false },
	{ 0x0000700200000081, 0, ALL_T0 | ALL_S0, false },
	{ 0x0000700200000481, 0x400000, ALL_T0 | S0_I0, false },
	{ 0x0000900200000481, 0x10000000, T1_21_A0 | S3_A0, false },
	{ 0x0000700300021081, 0, 0, false },							/* PSCV: illegal */
	/* IODIR: PID 31:12, DV 33, DID 63:40. */
	{ 0x00ab120200000003, 0, C0_1 | C0_2, false },
	{ 0x00ab120000000003, 0, ALL_CONTEXTS, false },
	{ 0x01ab120200000003, 0, 0, false },
	{ 0x00ab120200001083, 0, C0_1, false },
	{ 0x00ab120000001083, 0, 0, false },							/* without DV: illegal */
	/* ATS.INVAL: PID 31:12, PV 32, RID 55:40; G 0, S 11. */
	{ 0x00ab120100001004, 0x40000000, F0_1_A0, false },
	{ 0x00ab120100001004, 0x40000800, F0_1_A0 | F0_1_A1, false },
	{ 0x00ab120100001004, 0x40000001, F0_1_A0 | F0_2_A0, false },
	{ 0x00ab120000001004, 0x40000000, F0_1_A0 | F0_2_A0, false },				/* without PV: any PASID */
	{ 0x00ab130100001004, 0x7ffffffffffff800, F1_1_A0, false },
	{ 0x0000000000000002, 0, 0, true },							/* IOFENCE.C */
};

/* ---- at random ---- */


static const uint64_t some_addresses[] = {
	A0, A1, A0 + 0x2000, A0 + 0x7000, A0 + 0xf000, 0x40400000, 0x40401000, 0x40600000, 0x41000000, I0, I1, I0 + 0x3000,
	I0 + 0x7000, TABLES_AT, 0,
};

/* The place of a PASID in pasid_at: mostly one of two. */
static uint32_t draw_at(uint64_t *random)
{
	return below(random, 3) ? 1 + below(random, 2) : below(random, TREES);
}

static uint64_t draw_address(uint64_t *random)
{
	return below(random, 8) ? some_addresses[below(random, sizeof some_addresses / sizeof some_addresses[0])]
				: next_random(random) & ~0xfffull;
}

static uint32_t draw_domain(uint64_t *random)
{
	static const uint32_t domains[] = { 7, 7, 9, 9, 8, 0, 0x107 };

	return domains[below(random, 7)];
}

static uint32_t draw_tag(uint64_t *random)
{
	return below(random, 6) ? pasid_at[draw_at(random)] : below(random, 32);
}

static uint32_t draw_rid(uint64_t *random)
{
	return below(random, 8) ? rid_of[below(random, FUNCTIONS)] : 0xab14;
}

/* PCIe's range: a page, or with S twice as many as the lowest 0 says. */
static void ats(uint64_t word1, bool s, struct names *n)
{
	uint64_t size = 4096, low = word1 >> 12;

	if (s)
		for (size = 8192; low & 1 && size; low >>= 1)
			size *= 2;
	n->device_first = size ? word1 / size * size : 0;
	n->device_last = size ? n->device_first + size - 1 : UINT64_MAX;
}

static uint64_t draw_ats(uint64_t *random, uint64_t s_bit, bool *s)
{
	uint64_t address = draw_address(random);

	*s = below(random, 2);
	if (*s && below(random, 2))
		address |= ((1ull << below(random, 53)) - 1) << 12;
	return (address & ~0xfffull) | (*s ? s_bit : 0);
}

static void pages(uint64_t address, uint32_t order, uint64_t *first, uint64_t *last)
{
	const uint64_t size = order < 52 ? 4096ull << order : 0;

	*first = size ? address / size * size : 0;
	*last = size ? *first + size - 1 : UINT64_MAX;
}

static void draw_smmu(uint64_t *random, uint64_t d[4], struct names *n)
{
	static const uint8_t opcodes[] = { 0x10, 0x11, 0x12, 0x12, 0x12, 0x13, 0x28, 0x2a, 0x2a, 0x30, 0x40, 0x40, 0x40, 3, 4, 5, 5, 6, 0x46 };
	const uint8_t opcode = opcodes[below(random, sizeof opcodes)];
	const uint32_t vmid = draw_domain(random), asid = draw_tag(random), rid = draw_rid(random), num = below(random, 32);
	const uint32_t scale = below(random, 4) ? below(random, 3) : below(random, 32), tg = below(random, 3) ? 0 : 1 + below(random, 3);
	uint64_t address = draw_address(random);

	n->domain = EACH;
	n->tag = EACH;
	n->rid = rid;
	n->pasid = EACH;
	n->last = n->second_last = UINT64_MAX;
	d[0] = opcode;
	if (opcode == 0x46) {
		n->completes = true;
	} else if (opcode == 0x40) {
		const uint32_t order = below(random, 4) ? below(random, 4) : below(random, 53);
		const bool ssv = below(random, 2), global = below(random, 4) == 0;

		d[0] |= (uint64_t)rid << 32 | (uint64_t)asid << 12 | (ssv ? 0x800 : 0) | (global ? 0x200 : 0);
		d[1] = address | order;
		n->device = true;
		n->pasid = ssv && !global ? asid : EACH;
		pages(address, order, &n->device_first, &n->device_last);
	} else if (opcode < 0x10) {
		d[0] |= (uint64_t)rid << 32 | (opcode == 5 ? (uint64_t)asid << 12 : 0);
		n->contexts = true;
		if (opcode == 5)
			n->pasid = asid;
		if (opcode == 4)	/* all: a range is in the vectors */
			d[1] = 0x1f, n->rid = EACH;
	} else {
		const bool addressed = opcode == 0x12 || opcode == 0x13 || opcode == 0x2a;

		d[0] |= (uint64_t)vmid << 32 | (uint64_t)asid << 48;
		n->domain = opcode == 0x30 ? EACH : vmid;
		n->whole = opcode != 0x2a;
		n->second = opcode == 0x28 || opcode == 0x2a || opcode == 0x30;
		if (opcode == 0x11 || opcode == 0x12)
			n->tag = asid;
		if (addressed) {
			uint64_t size = 4096, at = opcode == 0x2a ? address & 0xfffffffffffffull : address, last;

			d[1] = address | below(random, 2) | tg << 10;
			if (tg) {
				d[0] |= (uint64_t)num << 12 | scale << 20;
				if (!num && !scale)
					d[1] |= 0x300;		/* a level, or it is illegal */
				size = ((uint64_t)num + 1) << scale << (tg == 1 ? 12 : tg == 2 ? 14 : 16);
			}
			last = at + size - 1 < at ? UINT64_MAX : at + size - 1;
			n->first = n->second_first = at;
			n->last = n->second_last = last;
		}
	}
}

static void draw_vtd_of(uint64_t *random, uint64_t d[4], struct names *n, bool revision_2)
{
	static const uint8_t types[] = { 2, 2, 3, 3, 6, 6, 6, 7, 7, 8, 8, 5, 1, 4 };
	const uint32_t type = types[below(random, sizeof types)], g = below(random, 4), domain = draw_domain(random);
	const uint32_t pasid = draw_tag(random), rid = draw_rid(random), am = below(random, 4) ? below(random, 4) : below(random, 64);
	const uint64_t address = draw_address(random);
	bool s;

	n->domain = domain;
	n->tag = EACH;
	n->rid = rid;
	n->pasid = pasid;
	n->last = n->second_last = UINT64_MAX;
	d[0] = type;
	switch (type) {
	case 2:
		d[0] |= g << 4 | (uint64_t)domain << 16;
		d[1] = address | am | (below(random, 2) ? 0x40 : 0);
		n->whole = n->second = g;
		if (g == 1)
			n->domain = EACH;
		if (g == 3)
			pages(address, am, &n->second_first, &n->second_last);
		break;
	case 6:
		d[0] |= g << 4 | (uint64_t)domain << 16 | (uint64_t)pasid << 32;
		d[1] = address | am | (below(random, 2) ? 0x40 : 0);
		n->whole = g >= 2 || revision_2;
		if (g >= 2)
			n->tag = pasid;
		if (g == 3)
			pages(address, am, &n->first, &n->last);
		break;
	case 7:
		d[0] |= g << 4 | (uint64_t)domain << 16 | (uint64_t)pasid << 32;
		n->contexts = g != 2;
		n->rid = EACH;
		if (g != 1)
			n->pasid = EACH;
		if (g == 3)
			n->domain = EACH;
		break;
	case 3:
		d[0] |= (uint64_t)rid << 32 | below(random, 32) << 16;
		d[1] = draw_ats(random, 1, &s);
		n->device = true;
		n->pasid = EACH;
		ats(d[1], s, n);
		break;
	case 8:
		d[0] |= (uint64_t)rid << 16 | (uint64_t)pasid << 32 | below(random, 32) << 4;
		d[1] = draw_ats(random, 0x800, &s);
		n->device = true;
		ats(d[1], s, n);
		if (below(random, 4) == 0) {
			d[1] |= 1;
			n->pasid = EACH;
		}
		break;
	case 5:
		n->completes = true;
		break;
	}
}

static void draw_vtd(uint64_t *random, uint64_t d[4], struct names *n)
{
	draw_vtd_of(random, d, n, false);
}

static void draw_vtd_2(uint64_t *random, uint64_t d[4], struct names *n)
{
	draw_vtd_of(random, d, n, true);
}

static void draw_amd(uint64_t *random, uint64_t d[4], struct names *n)
{
	static const uint8_t opcodes[] = { 1, 2, 3, 3, 3, 4, 4, 4, 5, 6, 8 };
	const uint64_t opcode = opcodes[below(random, sizeof opcodes)];
	const uint32_t domain = draw_domain(random), pasid = draw_tag(random), rid = draw_rid(random);
	const bool gn = below(random, 2);
	bool s;

	n->domain = EACH;
	n->tag = n->pasid = EACH;
	n->rid = rid;
	n->last = n->second_last = UINT64_MAX;
	d[0] = opcode << 60;
	switch (opcode) {
	case 1:
		n->completes = true;
		break;
	case 2:
		d[0] |= rid;
		n->contexts = true;
		break;
	case 3:
		d[0] |= (uint64_t)domain << 32 | pasid;
		d[1] = draw_ats(random, 1, &s) | (gn ? 4 : 0) | (below(random, 2) ? 2 : 0);
		ats(d[1], s, n);
		n->whole = true;
		n->second = !gn;
		n->domain = domain;
		if (gn) {
			n->tag = pasid;
			n->first = n->device_first;
			n->last = n->device_last;
		}
		n->second_first = n->device_first;
		n->second_last = n->device_last;
		break;
	case 4:
		d[0] |= rid | (uint64_t)rid << 32 | (uint64_t)(pasid >> 8) << 16 | (uint64_t)(pasid & 0xff) << 48;
		d[1] = draw_ats(random, 1, &s) | (gn ? 4 : 0);
		ats(d[1], s, n);
		n->device = true;
		if (gn)
			n->pasid = pasid;
		break;
	case 8:
		n->whole = n->second = n->contexts = true;
		n->rid = EACH;
		break;
	}
}

static void draw_riscv(uint64_t *random, uint64_t d[4], struct names *n)
{
	static const uint16_t which[] = { 1, 1, 1, 0x81, 0x81, 2, 3, 0x83, 4, 4 };
	const uint32_t one = which[below(random, sizeof which / sizeof which[0])], gscid = draw_domain(random);
	const uint32_t pscid = draw_tag(random), rid = draw_rid(random);
	const bool gv = below(random, 2), pscv = below(random, 2), av = below(random, 2);
	const uint64_t address = draw_address(random);
	bool s;

	n->domain = n->tag = n->pasid = EACH;
	n->rid = rid;
	n->last = n->second_last = UINT64_MAX;
	d[0] = one;
	switch (one) {
	case 1:
		d[0] |= (av ? 0x400 : 0) | (uint64_t)pscid << 12 | (uint64_t)pscv << 32 | (uint64_t)gv << 33 | (uint64_t)gscid << 44;
		d[1] = address >> 2;
		n->whole = true;
		n->guests = gv ? WITH_STAGE_2 : WITHOUT_STAGE_2;
		if (gv)
			n->domain = gscid;
		if (pscv)
			n->tag = pscid;
		if (av)
			pages(address, 0, &n->first, &n->last);
		break;
	case 0x81:
		d[0] |= (av ? 0x400 : 0) | (uint64_t)pscid << 12 | (uint64_t)pscv << 32 | (uint64_t)gv << 33 | (uint64_t)gscid << 44;
		d[1] = address >> 2;
		n->whole = n->second = !pscv;
		n->guests = WITH_STAGE_2;
		if (gv)
			n->domain = gscid;
		if (gv && av)
			pages(address, 0, &n->second_first, &n->second_last);
		break;
	case 2:
		n->completes = true;
		break;
	case 3:
	case 0x83:
		d[0] |= (uint64_t)pscid << 12 | (uint64_t)gv << 33 | (uint64_t)rid << 40;
		n->contexts = gv || one == 3;
		if (!gv)
			n->rid = EACH;
		if (one == 0x83)
			n->pasid = pscid;
		break;
	case 4:
		d[0] |= (uint64_t)pscid << 12 | (uint64_t)pscv << 32 | (uint64_t)rid << 40;
		d[1] = draw_ats(random, 0x800, &s);
		ats(d[1], s, n);
		n->device = true;
		if (pscv)
			n->pasid = pscid;
		if (below(random, 4) == 0) {
			d[1] |= 1;
			n->pasid = EACH;
		}
		break;
	}
}

static void map_at_random(uint64_t *random)
{
	const uint32_t t = below(random, TRANSLATORS), at = draw_at(random), level = 1 + (below(random, 4) == 0);
	const uint64_t page = level == 1 ? 4096 * below(random, 8) : 0x400000 + MIB2 * below(random, 3);
	const uint64_t ipa = level == 1 || below(random, 2) ? I0 + 4096 * below(random, 8) : A0 + 0x400000 + MIB2 * below(random, 3);

	if (below(random, 2) && made_of[t].first)
		map_first(t, at, A0 + page, level == 1 ? ipa & ~0xfffull : A0 + 0x400000 + MIB2 * below(random, 3), level);
	else if (made_of[t].second && below(random, 2))
		map_second(t, ipa & ~0xfffull, 4096ull * (1 + below(random, 1000)), 1);
	else if (made_of[t].second)
		map_second(t, A0 + page, level == 1 ? 4096ull * (1 + below(random, 1000)) : MIB2 * (1 + below(random, 50)), level);
}

static void unmap_at_random(uint64_t *random)
{
	const uint32_t t = below(random, TRANSLATORS), at = draw_at(random);
	struct tree *tree = below(random, 2) ? &w.model.second[t] : w.model.tree_at[t][at] >= 0 ? &w.model.tree[t][w.model.tree_at[t][at]] : NULL;
	uint64_t address;

	if (!tree || !tree->n)
		return;
	address = tree->page[below(random, tree->n)].from;
	if (address == TABLES_AT)
		return;
	if (tree == &w.model.second[t])
		CHECK(uiopf_pagetables_unmap(w.second[t], 0, address) > 0);
	else
		CHECK(uiopf_pagetables_unmap(w.first[t], pasid_at[at], address) > 0);
	forget_page(tree, address);
}

/* Software writes into its table of PASIDs: two roots change places, or a tag becomes another. */
static void change_a_context(uint64_t *random)
{
	const uint32_t t = below(random, 3) == 0 ? 2 : below(random, 2), a = below(random, TREES), b = below(random, TREES);
	const uint64_t root = w.first[t]->root[pasid_at[a]];
	const int tree = w.model.tree_at[t][a];

	if (below(random, 2)) {
		w.model.tag[t][a] = draw_tag(random);
		CHECK_EQ(uiopf_translator_set_tag(w.translator[t], pasid_at[a], w.model.tag[t][a]), 0);
		return;
	}
	w.first[t]->root[pasid_at[a]] = w.first[t]->root[pasid_at[b]];
	w.first[t]->root[pasid_at[b]] = root;
	w.model.tree_at[t][a] = w.model.tree_at[t][b];
	w.model.tree_at[t][b] = tree;
}

static uint64_t stale, fresh, nothing;

static void access_at_random(uint64_t *random)
{
	const uint32_t f = below(random, FUNCTIONS), at = draw_at(random), t = translator_of[f];
	const uint64_t address = (below(random, 4) ? A0 + 4096 * below(random, 8) : 0x40400000 + 4096 * below(random, 1536)) + below(random, 4096);
	const uint64_t to = access_by(f, at, address);
	const struct uiopf_translation now = uiopf_stages_look(&w.translator[t]->stages, w.first[t] ? w.first[t]->root[pasid_at[at]]
										 : UIOPF_NO_ROOT, address, READ);

	if (to == NOWHERE)
		nothing++;
	else if (now.stage || now.address != to)
		stale++;
	else
		fresh++;
}

typedef void draw_command(uint64_t *random, uint64_t d[4], struct names *n);

static void commands_at_random(uint64_t *random, draw_command *draw)
{
	uint32_t i, n = 1 + below(random, 3);

	for (i = 0; i < n; i++) {
		struct names named = { .domain = EACH };
		uint64_t d[4] = { 0 };

		draw(random, d, &named);
		give(d);
		model_drop(&named);
	}
	produce();
	check_kept();
}

static const struct vendor {
	const struct uiopf_model_ops *ops;
	bool tags;
	const struct vector *vector;
	uint32_t vectors;
	draw_command *draw;
	uint64_t answer0, answer1, invalidates0, invalidates1;	/* to group 5 of function 0; a command before it */
} vendors[] = {
	{ &uiopf_model_smmuv3, true, smmu, sizeof smmu / sizeof *smmu, draw_smmu, 0xab1200000041, 0x2005, 0x30, 0 },
	{ &uiopf_model_vtd, false, vtd, sizeof vtd / sizeof *vtd, draw_vtd, 0xab120009, 0x28, 0x12, 0 },
	{ &uiopf_model_vtd_3, false, vtd, sizeof vtd / sizeof *vtd, draw_vtd, 0xab120009, 0x28, 0x12, 0 },
	{ &uiopf_model_vtd_2, false, vtd_2, sizeof vtd_2 / sizeof *vtd_2, draw_vtd_2, 0xab120009, 0x280000000000000, 0x12, 0 },
	{ &uiopf_model_amd, false, amd, sizeof amd / sizeof *amd, draw_amd, 0x700000000000ab12, 0x500000000, 0x8000000000000000, 0 },
	{ &uiopf_model_riscv, true, riscv, sizeof riscv / sizeof *riscv, draw_riscv, 0xab120000000084, 0x500000000, 0x81, 0 },
};

static void commands_by_hand(const struct vendor *v)
{
	uint32_t i;

	for (i = 0; i < v->vectors; i++) {
		const uint64_t d[4] = { v->vector[i].word0, v->vector[i].word1 };
		struct uiopf_model_counts counts;

		open_world(v->ops, 64);
		fill(v->tags);
		CHECK_EQ(kept(v->tags), EVERYTHING);
		give(d);
		CHECK_EQ(kept(v->tags), EVERYTHING);	/* not before it is carried out */
		produce();
		if (kept(v->tags) != (EVERYTHING & ~v->vector[i].drops))
			fprintf(stderr, "%s: command %" PRIx64 " %" PRIx64 "\n", v->ops->name, d[0], d[1]);
		CHECK_EQ(EVERYTHING & ~kept(v->tags), v->vector[i].drops);
		uiopf_model_get_counts(w.iommu, &counts);
		CHECK_EQ(counts.completed, v->vector[i].completes);
		CHECK_EQ(counts.illegal, 0);
		close_world();
	}
}

/* Answers among them are answers, and come in their place; afterwards the queue is one of answers alone. */
static void answers_among_commands(const struct vendor *v)
{
	const uint64_t answer[4] = { v->answer0, v->answer1 }, invalidates[4] = { v->invalidates0, v->invalidates1 };
	const struct uiopf_raw_request raw = { .requester_id = 0xab12, .pasid = 1, .flags = UIOPF_RAW_PASID, .message = 0x2d };
	struct uiopf_prg_answer got[2];
	uint32_t i;

	open_world(v->ops, 64);
	fill(v->tags);
	CHECK_EQ(uiopf_endpoint_enable_pri(w.ep[0], 64), 0);
	for (i = 0; i < 3; i++) {
		CHECK_EQ(uiopf_endpoint_send_raw(w.ep[0], &raw), 0);
		produce();
		if (i != 1)
			give(invalidates);
		give(answer);
		if (i != 1)
			give(invalidates);
		produce();
		CHECK_EQ(uiopf_endpoint_take_raw_answers(w.ep[0], got, 2), 1);
		CHECK(got[0].index == 5 && got[0].code == 0);
		CHECK_EQ(kept(v->tags) & T0_21_A0, 0);
		CHECK(v->ops == &uiopf_model_smmuv3 || !w.iommu->others);	/* which always looks */
	}
	close_world();
}

/* More commands than the queue has room for: the rest waits, and comes in order. */
static void commands_wait_for_room(const struct vendor *v)
{
	const uint64_t invalidates[4] = { v->invalidates0, v->invalidates1 }, wait[4] = { v->ops == &uiopf_model_smmuv3 ? 0x46
		: v->ops == &uiopf_model_amd ? 0x1000000000000001 : v->ops == &uiopf_model_riscv ? 0x2 : 0x25 };
	struct uiopf_model_counts counts;
	uint32_t i;

	open_world(v->ops, 64);
	fill(v->tags);
	for (i = 0; i < 3 * UIOPF_COMMANDS_FIRST * 4; i++)
		give(wait);
	give(invalidates);
	CHECK_EQ(kept(v->tags), EVERYTHING);
	produce();
	uiopf_model_get_counts(w.iommu, &counts);
	CHECK_EQ(counts.completed, 3 * UIOPF_COMMANDS_FIRST * 4);
	CHECK_EQ(kept(v->tags) & T0_21_A0, 0);
	CHECK(v->ops == &uiopf_model_smmuv3 || !w.iommu->others);	/* which always looks */
	close_world();
}

static void at_random(const struct vendor *v, uint64_t steps, uint64_t *random)
{
	static const uint32_t places[] = { 0, 1, 4, 16, 64, 512 };
	uint64_t i;

	for (i = 0; i < steps; i++) {
		if (i % 2000 == 0) {
			if (i)
				close_world();
			open_world(v->ops, places[below(random, 6)]);
		}
		switch (below(random, 8)) {
		case 0:
			commands_at_random(random, v->draw);
			break;
		case 1:
			unmap_at_random(random);
			break;
		case 2:
			if (below(random, 4) == 0)
				change_a_context(random);
			break;
		case 3:
			map_at_random(random);
			map_at_random(random);
			map_at_random(random);
			break;
		default:
			access_at_random(random);
		}
	}
	check_kept();
	close_world();
}

int main(int argc, char **argv)
{
	const uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	uint64_t random = seed_from(argc, argv, 2);
	uint32_t i;

	for (i = 0; i < sizeof vendors / sizeof *vendors; i++) {
		commands_by_hand(&vendors[i]);
		answers_among_commands(&vendors[i]);
		commands_wait_for_room(&vendors[i]);
		stale = fresh = nothing = 0;
		at_random(&vendors[i], steps, &random);
		printf("%s: %" PRIu64 " stale, %" PRIu64 " fresh, %" PRIu64 " nowhere\n", vendors[i].ops->name, stale, fresh, nothing);
		fflush(stdout);
		if (steps >= 10000)
			CHECK(stale > steps / 200 && fresh > steps / 200 && nothing > steps / 200);
	}
	return 0;
}
