#include "hardware/iommu/nesting.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "faults/report.h"

/* What a page comes to. */
enum fate { TO_GUEST, SERVED, BAD };

static bool wants(const struct uiopf_nesting *n, uint32_t stage)
{
	return n->flags & (stage == 2 ? UIOPF_REPORT_NESTED_L2 : UIOPF_REPORT_NESTED_L1);
}

static struct uiopf_translation walk(struct uiopf_nesting *n, const struct uiopf_fault *fault)
{
	const uint64_t entries = n->translator->stages.counts.looked_at;
	const struct uiopf_translation t = uiopf_translator_look_now(n->translator, fault->pasid, fault->addr, fault->perm);

	n->counts.walks++;
	n->counts.entries += n->translator->stages.counts.looked_at - entries;
	return t;
}

/* NOBODY: whether the guest may have been asked for this page and access before; it has been by now. */
static bool was_asked(struct uiopf_nesting *n, const struct uiopf_fault *fault)
{
	/* A PASID has 20 bits, an access 4, a page of 48 bits of address 36. Longer ones may be taken for others: a walk more. */
	const uint64_t page = fault->addr / UIOPF_PAGE, key = page << 24 ^ page >> 36 ^ (fault->perm & 15u) << 20 ^ fault->pasid;
	const uint64_t known = key ? key : UINT64_MAX;
	uint64_t *set = n->asked + (known * 0x9e3779b97f4a7c15 >> 32) % UIOPF_ASKED_SETS * UIOPF_ASKED_WAYS;
	uint32_t i;

	for (i = 0; i < UIOPF_ASKED_WAYS; i++) {
		if (set[i] == known)
			return true;
		if (!set[i]) {
			set[i] = known;
			return false;
		}
	}
	return true;
}

/* How the walk of a page ended: the stage, 0 if there is an address by now, and what stage 2 was to translate. */
static struct uiopf_translation find(struct uiopf_nesting *n, const struct uiopf_fault *fault,
				     const struct uiopf_translation *told)
{
	const struct uiopf_translation first = { .stage = 1 };
	struct uiopf_translation t;

	if (n->by == UIOPF_STAGE_BY_NOBODY) {
		t = told ? *told : was_asked(n, fault) ? walk(n, fault) : first;
		n->counts.wrong += t.stage == 2;
		return t;
	}
	if (n->by != UIOPF_STAGE_BY_DRIVER && told)
		return *told;
	return walk(n, fault);
}

/*
 * The host had the page: somebody has just mapped it; or it does not do, because hardware wants more of it than the host
 * has looked at (an accessed bit, a right to write for reading a table, an entry that is sound), which a walk finds.
 */
static bool does(struct uiopf_nesting *n, const struct uiopf_fault *fault)
{
	return walk(n, fault).stage != 2;
}

/* What stage 2 is to allow: a table of stage 1 is read, and written where hardware is to set a bit in it. */
static uint32_t needs(const struct uiopf_translation *t, const struct uiopf_fault *fault)
{
	if (t->of_table)
		return IOMMU_PGFAULT_PERM_READ | (t->writes_table ? IOMMU_PGFAULT_PERM_WRITE : 0);
	return fault->perm & (IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE | IOMMU_PGFAULT_PERM_EXEC);
}

static enum fate decide(struct uiopf_nesting *n, const struct uiopf_fault *fault, const struct uiopf_translation *told)
{
	const bool filters = n->by == UIOPF_STAGE_BY_HANDLER;
	struct uiopf_translation t;
	int filled;

	n->counts.faults++;
	n->counts.calls += filters;
	n->counts.locks += filters;
	t = find(n, fault, told);
	if (t.stage && !wants(n, t.stage))
		goto refused;
	n->counts.calls += !filters;
	if (!t.stage) {
		n->counts.gone++;
		return SERVED;
	}
	if (t.stage == 1) {
		n->counts.to_guest++;
		return TO_GUEST;
	}
	n->counts.locks += !filters;
	filled = uiopf_host_fill(n->host, t.intermediate, needs(&t, fault));
	if (filled < 0 || (!filled && t.reason != UIOPF_NOT_PRESENT && !does(n, fault)))
		goto refused;
	n->counts.by_host++;
	return SERVED;
refused:
	n->counts.refused++;
	return BAD;
}

void uiopf_nesting_report(struct uiopf_nesting *n, const struct uiopf_fault *last, const struct uiopf_private_data *data,
			  const struct uiopf_translation *told)
{
	struct uiopf_device *device = n->device;
	const struct uiopf_attach *attach = uiopf_find_attach(device, last->flags, last->pasid);
	struct uiopf_fault stays = *last;
	uint32_t node, count = 0, served = 0;
	bool bad = false, any = false;
	enum fate fate;

	if (!attach || !attach->queue || READ_ONCE(&device->virtual_pri) == UIOPF_PRI_PAUSED ||
	    !(last->flags & UIOPF_FAULT_LAST_PAGE) || n->flags == UIOPF_REPORT_FLAT) {
		uiopf_report_with(device, last, data);
		return;
	}
	node = device->unfinished ? uiopf_take_partial(device, last->grpid, &count) : UIOPF_NONE;
	while (node != UIOPF_NONE) {
		const struct uiopf_fault fault = device->node[node].fault;
		const uint32_t next = device->node[node].next;

		device->node[node].next = UIOPF_NONE;
		uiopf_free_nodes(device, node);
		node = next;
		fate = decide(n, &fault, NULL);
		bad |= fate == BAD;
		served += fate == SERVED;
		if (fate != TO_GUEST)
			continue;
		if (any)
			uiopf_add_partial(device, &stays);	/* a node has just become free */
		any = true;
		stays = fault;
	}
	fate = decide(n, last, told);
	bad |= fate == BAD;
	served += fate == SERVED;
	if (bad) {
		/* Those that were put back, too: the answer is for all. */
		if (any && device->unfinished) {
			uint32_t again;

			uiopf_free_nodes(device, uiopf_take_partial(device, last->grpid, &again));
		}
		device->counts.reported++;
		uiopf_refuse(device, last, data, UIOPF_RESP_INVALID, count + 1);
		return;
	}
	device->counts.served += served;
	if (fate == TO_GUEST) {
		if (any)
			uiopf_add_partial(device, &stays);
		stays = *last;
	} else if (!any) {
		device->counts.reported++;
		uiopf_answer_for(device, last, data, UIOPF_RESP_SUCCESS);
		return;
	} else {	/* the group ends with the last page that is left of it */
		stays.flags = last->flags;
	}
	uiopf_report_with(device, &stays, data);
}

/* ---- registration ---- */

static bool is_sound(uint32_t by, uint32_t flags, const struct uiopf_host *host)
{
	const uint32_t nested = UIOPF_REPORT_NESTED_L1 | UIOPF_REPORT_NESTED_L2;

	if (flags == UIOPF_REPORT_FLAT)
		return by != UIOPF_STAGE_BY_NOBODY;
	if (!flags || flags & ~nested)
		return false;
	return !(flags & UIOPF_REPORT_NESTED_L2) || (host && by != UIOPF_STAGE_BY_NOBODY);
}

struct uiopf_nesting *uiopf_nesting_make(struct uiopf_device *device, struct uiopf_translator *translator,
					 struct uiopf_host *host, uint32_t by, uint32_t flags)
{
	struct uiopf_nesting *n = NULL;
	uint64_t *asked = NULL;

	if (translator->core != device->core || by > UIOPF_STAGE_BY_NOBODY || (host && host->tables != translator->second) ||
	    !is_sound(by, flags, host))
		errno = EINVAL;
	else
		n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	if (by == UIOPF_STAGE_BY_NOBODY) {
		asked = calloc(UIOPF_ASKED_SETS * UIOPF_ASKED_WAYS, sizeof *asked);
		if (!asked) {
			free(n);
			return NULL;
		}
	}
	*n = (struct uiopf_nesting){ .iommu = device->iommu, .device = device, .translator = translator, .host = host,
		.by = by, .flags = flags, .asked = asked };
	uiopf_hold(&n->iommu->lifetime);
	uiopf_hold(&translator->lifetime);
	if (host)
		uiopf_hold(&host->lifetime);
	return n;
}

void uiopf_nesting_forget(struct uiopf_nesting *n)
{
	*n->where = NULL;
	n->where = NULL;
}

void uiopf_nesting_free(struct uiopf_nesting *n)
{
	struct uiopf_core *core;

	if (!n || n->iommu->core->torn)
		return;
	core = n->iommu->core;
	if (n->where && !core->abandoned) {
		uiopf_control_begin(core);
		if (n->where)
			uiopf_nesting_forget(n);
		uiopf_control_end(core);
	}
	uiopf_host_free(n->host);
	uiopf_translator_free(n->translator);
	uiopf_iommu_let_go(n->iommu);
	free(n->asked);
	free(n);
}

int uiopf_nesting_update(struct uiopf_nesting *n, uint32_t keep, uint32_t add)
{
	bool sound;

	uiopf_control_begin(n->iommu->core);
	sound = is_sound(n->by, (n->flags & keep) | add, n->host);
	if (sound)
		n->flags = (n->flags & keep) | add;
	uiopf_control_end(n->iommu->core);
	return sound ? 0 : -EINVAL;
}

void uiopf_nesting_walk(struct uiopf_nesting *n)
{
	uiopf_control_begin(n->iommu->core);
	n->by = UIOPF_STAGE_BY_DRIVER;
	uiopf_control_end(n->iommu->core);
}

void uiopf_nesting_begin_anew(struct uiopf_nesting *n)
{
	uiopf_control_begin(n->iommu->core);
	if (n->asked)
		memset(n->asked, 0, UIOPF_ASKED_SETS * UIOPF_ASKED_WAYS * sizeof *n->asked);
	uiopf_control_end(n->iommu->core);
}

void uiopf_nesting_get_counts(struct uiopf_nesting *n, struct uiopf_nesting_counts *counts)
{
	uiopf_control_begin(n->iommu->core);
	*counts = n->counts;
	uiopf_control_end(n->iommu->core);
}
