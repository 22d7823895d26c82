#include "hardware/tables/translator.h"

#include <errno.h>
#include <stdlib.h>

#include "abi/api.h"
#include "abi/iommufd.h"

static void end(struct uiopf_lifetime *lifetime)
{
	struct uiopf_translator *t = container_of(lifetime, struct uiopf_translator, lifetime);
	struct uiopf_core *core = t->core;

	uiopf_tlb_close(&t->stages.iotlb);
	uiopf_pagetables_free(t->first);
	uiopf_pagetables_free(t->second);
	free(t->tag);
	free(t);
	uiopf_let_go(&core->lifetime);
}

static struct uiopf_stage stage_of(struct uiopf_pagetables *tables)
{
	if (!tables)
		return (struct uiopf_stage){ .format = NULL };
	uiopf_hold(&tables->lifetime);
	return (struct uiopf_stage){ tables->format, tables->region.map, tables->region.size, tables->tracks };
}

struct uiopf_translator *uiopf_translator_new(struct uiopf_core *core, struct uiopf_pagetables *first,
					      struct uiopf_pagetables *second, uint32_t places)
{
	struct uiopf_translator *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	if (uiopf_tlb_open(&t->stages.iotlb, places) < 0) {
		free(t);
		return NULL;
	}
	t->lifetime = (struct uiopf_lifetime){ 1, end };
	t->core = core;
	t->first = first;
	t->second = second;
	t->stages.first = stage_of(first);
	t->stages.second = stage_of(second);
	uiopf_hold(&core->lifetime);
	return t;
}

void uiopf_translator_free(struct uiopf_translator *translator)
{
	if (translator && !translator->core->torn)
		uiopf_let_go(&translator->lifetime);
}

void uiopf_translation_tell(const struct uiopf_translation *t, struct uiopf_translated *translated)
{
	*translated = (struct uiopf_translated){ .address = t->address, .intermediate = t->intermediate, .stage = t->stage,
		.reason = t->reason, .level = t->level, .of_table = t->of_table, .writes_table = t->writes_table,
		.size_shift = t->shift };
}

int uiopf_translator_set_domain(struct uiopf_translator *t, uint32_t domain)
{
	if (domain > UIOPF_MOST_DOMAIN)
		return -EINVAL;
	uiopf_control_begin(t->core);
	t->domain = domain;
	uiopf_control_end(t->core);
	return 0;
}

int uiopf_translator_set_tag(struct uiopf_translator *t, uint32_t pasid, uint32_t tag)
{
	int rc = 0;
	uint32_t i;

	if (!t->first || pasid >= t->first->pasids || tag > UIOPF_MOST_TAG)
		return -EINVAL;
	uiopf_control_begin(t->core);
	if (!t->tag) {
		t->tag = calloc(t->first->pasids, sizeof *t->tag);
		for (i = 0; t->tag && i < t->first->pasids; i++)
			t->tag[i] = i;
	}
	if (t->tag)
		t->tag[pasid] = tag;
	else
		rc = -ENOMEM;
	uiopf_control_end(t->core);
	return rc;
}

static uint32_t tag_of(const struct uiopf_translator *t, uint32_t pasid)
{
	return t->tag && pasid < t->first->pasids ? t->tag[pasid] : pasid;
}

/* Stage 1's root is an intermediate address; stage 2's tables are in the host's own memory, from 0 on. */
static struct uiopf_context context_of(const struct uiopf_translator *t, uint32_t pasid)
{
	struct uiopf_context context = { UIOPF_NO_ROOT, tag_of(t, pasid), pasid, false };

	if (t->first && pasid < t->first->pasids)
		context.root = LOAD_ACQUIRE(&t->first->root[pasid]);
	context.there = context.root != UIOPF_NO_ROOT;
	return context;
}

static struct uiopf_translation walk_by(struct uiopf_translator *t, struct uiopf_context context, uint64_t address,
					uint32_t access)
{
	if (t->second)
		t->stages.second_root = LOAD_ACQUIRE(&t->second->root[0]);
	return uiopf_stages_translate(&t->stages, context.tag, context.root, address, access);
}

struct uiopf_translation uiopf_translator_walk(struct uiopf_translator *translator, uint32_t pasid, uint64_t address,
					       uint32_t access)
{
	return walk_by(translator, context_of(translator, pasid), address, access);
}

struct uiopf_translation uiopf_translator_look_now(struct uiopf_translator *translator, uint32_t pasid, uint64_t address,
						   uint32_t access)
{
	if (translator->second)
		translator->stages.second_root = LOAD_ACQUIRE(&translator->second->root[0]);
	return uiopf_stages_look(&translator->stages, context_of(translator, pasid).root, address, access);
}

int uiopf_translator_look(struct uiopf_translator *translator, uint32_t pasid, uint64_t address, uint32_t access,
			  struct uiopf_translated *translated)
{
	struct uiopf_translation t;

	uiopf_control_begin(translator->core);
	t = uiopf_translator_look_now(translator, pasid, address, access);
	uiopf_control_end(translator->core);
	uiopf_translation_tell(&t, translated);
	return 0;
}

int uiopf_translator_translate(struct uiopf_translator *translator, uint32_t pasid, uint64_t address, uint32_t access,
			       struct uiopf_translated *translated)
{
	struct uiopf_translation t;

	uiopf_control_begin(translator->core);
	t = uiopf_translator_walk(translator, pasid, address, access);
	uiopf_control_end(translator->core);
	uiopf_translation_tell(&t, translated);
	return 0;
}

int uiopf_translator_invalidate(struct uiopf_translator *translator, uint32_t pasid, uint64_t first, uint64_t last)
{
	uint32_t were, tag;

	uiopf_control_begin(translator->core);
	tag = pasid == UIOPF_ANY_PASID ? UIOPF_ANY_TAG : tag_of(translator, pasid);
	were = uiopf_tlb_invalidate(&translator->stages.iotlb, UIOPF_TLB_WHOLE, tag, first, last);
	uiopf_control_end(translator->core);
	return (int)were;
}

int uiopf_translator_invalidate_second(struct uiopf_translator *translator, uint64_t first, uint64_t last)
{
	uint32_t were;

	uiopf_control_begin(translator->core);
	were = uiopf_tlb_invalidate(&translator->stages.iotlb, UIOPF_TLB_STAGE_2, 0, first, last);
	uiopf_control_end(translator->core);
	return (int)were;
}

int uiopf_translator_invalidate_all(struct uiopf_translator *translator)
{
	uint32_t were;

	uiopf_control_begin(translator->core);
	were = uiopf_tlb_invalidate_all(&translator->stages.iotlb);
	uiopf_control_end(translator->core);
	return (int)were;
}

void uiopf_translator_drop(struct uiopf_translator *translator, uint32_t tag, uint64_t first, uint64_t last)
{
	uiopf_tlb_invalidate(&translator->stages.iotlb, UIOPF_TLB_WHOLE, tag, first, last);
}

void uiopf_translator_drop_second(struct uiopf_translator *translator, uint64_t first, uint64_t last)
{
	uiopf_tlb_invalidate(&translator->stages.iotlb, UIOPF_TLB_STAGE_2, UIOPF_ANY_PASID, first, last);
}

void uiopf_translator_get_counts(struct uiopf_translator *translator, struct uiopf_translator_counts *counts)
{
	const struct uiopf_stages *s = &translator->stages;

	uiopf_control_begin(translator->core);
	*counts = (struct uiopf_translator_counts){ s->counts.translations, s->iotlb.hits, s->counts.walks,
		s->counts.second_walks, s->counts.entries, s->counts.bits_set, s->counts.restarts, s->counts.looks, s->counts.looked_at };
	uiopf_control_end(translator->core);
}

/* ---- a device's own TLB ---- */

struct uiopf_device_tlb *uiopf_device_tlb_new(struct uiopf_translator *translator, uint32_t places)
{
	struct uiopf_device_tlb *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	if (uiopf_tlb_open(&d->tlb, places) < 0) {
		free(d);
		return NULL;
	}
	d->translator = translator;
	uiopf_hold(&translator->lifetime);
	return d;
}

void uiopf_device_tlb_free(struct uiopf_device_tlb *tlb)
{
	if (!tlb || tlb->translator->core->torn)
		return;
	uiopf_tlb_close(&tlb->tlb);
	uiopf_let_go(&tlb->translator->lifetime);
	free(tlb);
}

void uiopf_device_tlb_drop(struct uiopf_device_tlb *tlb, uint32_t pasid, uint64_t first, uint64_t last)
{
	uiopf_tlb_invalidate(&tlb->tlb, UIOPF_TLB_WHOLE, pasid, first, last);
}

void uiopf_device_tlb_drop_context(struct uiopf_device_tlb *tlb, uint32_t pasid)
{
	uint32_t i;

	for (i = 0; i < UIOPF_CONTEXTS; i++)
		if (pasid == UIOPF_ANY_PASID || tlb->context[i].pasid == pasid)
			tlb->context[i].there = false;
}

/* One place for each: a PASID that needs another's takes it. What is not there is never kept. */
static struct uiopf_context kept_context(struct uiopf_device_tlb *tlb, uint32_t pasid)
{
	struct uiopf_context *kept = &tlb->context[pasid % UIOPF_CONTEXTS];

	if (!tlb->keeps_contexts)
		return context_of(tlb->translator, pasid);
	if (!kept->there || kept->pasid != pasid) {
		const struct uiopf_context context = context_of(tlb->translator, pasid);

		if (!context.there)
			return context;
		*kept = context;
	}
	return *kept;
}

struct uiopf_translation uiopf_device_tlb_walk(struct uiopf_device_tlb *tlb, uint32_t pasid, uint64_t address,
					       uint32_t access)
{
	const uint32_t rights = access & UIOPF_RIGHTS_USER;
	const uint32_t need = access & IOMMU_PGFAULT_PERM_PRIV ? rights << UIOPF_PRIVILEGED_SHIFT : rights;
	const struct uiopf_tlb_entry *kept = uiopf_tlb_find(&tlb->tlb, UIOPF_TLB_WHOLE, pasid, address, need);
	struct uiopf_translation t;

	if (kept)
		return (struct uiopf_translation){ .shift = kept->shift, .rights = kept->rights,
			.address = kept->to | (address & ((1ull << kept->shift) - 1)) };
	t = walk_by(tlb->translator, kept_context(tlb, pasid), address, access);
	if (!t.stage)
		uiopf_tlb_keep(&tlb->tlb, (struct uiopf_tlb_entry){ address, t.address, pasid, UIOPF_TLB_WHOLE,
			(uint8_t)t.shift, (uint8_t)t.rights });
	return t;
}

int uiopf_device_tlb_translate(struct uiopf_device_tlb *tlb, uint32_t pasid, uint64_t address, uint32_t access,
			       struct uiopf_translated *translated)
{
	struct uiopf_translation t;

	uiopf_control_begin(tlb->translator->core);
	t = uiopf_device_tlb_walk(tlb, pasid, address, access);
	uiopf_control_end(tlb->translator->core);
	uiopf_translation_tell(&t, translated);
	return 0;
}

int uiopf_device_tlb_invalidate(struct uiopf_device_tlb *tlb, uint32_t pasid, uint64_t first, uint64_t last)
{
	uint32_t were;

	uiopf_control_begin(tlb->translator->core);
	were = uiopf_tlb_invalidate(&tlb->tlb, UIOPF_TLB_WHOLE, pasid, first, last);
	uiopf_control_end(tlb->translator->core);
	return (int)were;
}

uint64_t uiopf_device_tlb_hits(struct uiopf_device_tlb *tlb)
{
	uint64_t hits;

	uiopf_control_begin(tlb->translator->core);
	hits = tlb->tlb.hits;
	uiopf_control_end(tlb->translator->core);
	return hits;
}
