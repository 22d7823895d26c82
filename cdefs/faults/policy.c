#include "faults/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the limit ---- */

bool uiopf_policy_admit(struct uiopf_policy *p, uint32_t head, uint32_t tail, uint32_t faults)
{
	if (!p->limits.depth || tail - head < p->limits.depth)
		return true;
	WRITE_ONCE(&p->lost_at, tail);
	WRITE_ONCE(&p->lost_faults, p->lost_faults + faults);
	STORE_RELEASE(&p->lost, p->lost + 1);	/* pairs with the reader's load: the place is written */
	return false;
}

uint64_t uiopf_policy_lost(const struct uiopf_policy *p, uint32_t head)
{
	uint64_t lost = LOAD_ACQUIRE(&p->lost);

	/* A later loss may have moved the place on; then this is not it yet. */
	return lost != p->told && (int32_t)(READ_ONCE(&p->lost_at) - head) <= 0 ? lost - p->told : 0;
}

/* ---- the time-out ---- */

static void append(struct uiopf_policy *p, uint32_t cookie, uint64_t arrived)
{
	p->live[cookie] = (struct uiopf_live){ arrived, p->newest, UIOPF_NONE };
	if (p->newest != UIOPF_NONE)
		p->live[p->newest].after = cookie;
	else
		p->oldest = cookie;
	p->newest = cookie;
}

static void take_out(struct uiopf_policy *p, uint32_t cookie)
{
	const struct uiopf_live *l = &p->live[cookie];

	if (l->before != UIOPF_NONE)
		p->live[l->before].after = l->after;
	else
		p->oldest = l->after;
	if (l->after != UIOPF_NONE)
		p->live[l->after].before = l->before;
	else
		p->newest = l->before;
}

/* ---- by group index ---- */

static uint32_t hash(const struct uiopf_policy *p, uint32_t dev_id, uint32_t pasid, uint32_t grpid)
{
	return (dev_id * 0x9E3779B1u ^ pasid * 0x85EBCA77u ^ grpid * 0xC2B2AE3Du) >> 7 & p->bucket_mask;
}

static uint32_t hash_group(const struct uiopf_policy *p, const struct uiopf_group *group)
{
	return hash(p, group->last.dev_id, group->last.pasid, group->last.grpid);
}

/* At the end: of several groups with one index, the first one delivered is the first one answered. */
static void index_group(struct uiopf_policy *p, const struct uiopf_group *group)
{
	struct uiopf_bucket *b = &p->bucket[hash_group(p, group)];

	if (b->first == UIOPF_NONE)
		b->first = group->last.cookie;
	else
		p->chain[b->last] = group->last.cookie;
	b->last = group->last.cookie;
	p->chain[group->last.cookie] = UIOPF_NONE;
}

static void unindex_group(struct uiopf_policy *p, const struct uiopf_group *group)
{
	struct uiopf_bucket *b = &p->bucket[hash_group(p, group)];
	uint32_t *link = &b->first, before = UIOPF_NONE;

	while (*link != group->last.cookie) {
		before = *link;
		link = &p->chain[before];
	}
	*link = p->chain[group->last.cookie];
	if (b->last == group->last.cookie)
		b->last = before;
}

uint32_t uiopf_policy_find(const struct uiopf_policy *p, struct uiopf_group *const *by_cookie, uint32_t dev_id,
			   uint32_t flags, uint32_t pasid, uint32_t grpid)
{
	const struct iommu_hwpt_pgfault *last;
	uint32_t cookie;

	for (cookie = p->bucket[hash(p, dev_id, pasid, grpid)].first; cookie != UIOPF_NONE; cookie = p->chain[cookie]) {
		last = &by_cookie[cookie]->last;
		if (last->dev_id == dev_id && last->pasid == pasid && last->grpid == grpid &&
		    (last->flags & IOMMU_PGFAULT_FLAGS_PASID_VALID) == (flags & IOMMU_PGFAULT_FLAGS_PASID_VALID))
			break;
	}
	return cookie;
}

/* ---- both ---- */

void uiopf_policy_deliver(struct uiopf_policy *p, uint32_t head, const struct uiopf_group *group)
{
	if (p->limits.timeout_ns)
		append(p, group->last.cookie, *uiopf_policy_arrived(p, head));
	if (p->limits.by_index)
		index_group(p, group);
}

void uiopf_policy_forget(struct uiopf_policy *p, const struct uiopf_group *group)
{
	if (p->limits.timeout_ns)
		take_out(p, group->last.cookie);
	if (p->limits.by_index)
		unindex_group(p, group);
}

void uiopf_policy_move(struct uiopf_policy *p, uint32_t to, uint32_t from)
{
	if (p->limits.timeout_ns)
		*uiopf_policy_arrived(p, to) = *uiopf_policy_arrived(p, from);
}

/* Tables by cookie, which keep what they have where it is; true: there is room now, used or not. */
static bool grow_by_cookie(struct uiopf_policy *p, uint32_t capacity)
{
	struct uiopf_live *live;
	uint32_t *chain;

	if (p->limits.timeout_ns) {
		live = reallocarray(p->live, capacity + 1, sizeof *live);
		if (!live)
			return false;
		p->live = live;
	}
	if (p->limits.by_index) {
		chain = reallocarray(p->chain, capacity + 1, sizeof *chain);
		if (!chain)
			return false;
		p->chain = chain;
	}
	return true;
}

int uiopf_policy_reserve(struct uiopf_policy *p, struct uiopf_group *const *by_cookie, uint32_t head, uint32_t tail,
			 uint32_t capacity)
{
	struct uiopf_bucket *bucket = NULL, *were = p->bucket;
	uint64_t *arrived = NULL;
	uint32_t i, cookie, next, buckets = p->bucket_mask + 1;

	if (p->limits.timeout_ns)
		arrived = malloc(capacity * sizeof *arrived);
	if (p->limits.by_index)
		bucket = malloc(capacity * sizeof *bucket);
	if ((p->limits.timeout_ns && !arrived) || (p->limits.by_index && !bucket) || !grow_by_cookie(p, capacity)) {
		free(arrived);
		free(bucket);
		return -ENOMEM;
	}
	if (arrived) {
		for (i = head; p->arrived && i != tail; i++)
			arrived[i & (capacity - 1)] = *uiopf_policy_arrived(p, i);
		free(p->arrived);
		p->arrived = arrived;
		p->place_mask = capacity - 1;
	}
	if (bucket) {
		memset(bucket, 0xff, capacity * sizeof *bucket);
		p->bucket = bucket;
		p->bucket_mask = capacity - 1;
		/* Chain by chain, so that groups of one index keep their order. */
		for (i = 0; were && i < buckets; i++)
			for (cookie = were[i].first; cookie != UIOPF_NONE; cookie = next) {
				next = p->chain[cookie];
				index_group(p, by_cookie[cookie]);
			}
		free(were);
	}
	return 0;
}

struct uiopf_policy *uiopf_policy_new(const struct uiopf_faultq_limits *limits)
{
	struct uiopf_policy *p = calloc(1, sizeof *p);

	if (p) {
		p->limits = *limits;
		if (!p->limits.lost_code)
			p->limits.lost_code = UIOPF_RESP_FAILURE;
		p->oldest = p->newest = UIOPF_NONE;
	}
	return p;
}

void uiopf_policy_free(struct uiopf_policy *p)
{
	if (!p)
		return;
	free(p->arrived);
	free(p->live);
	free(p->bucket);
	free(p->chain);
	free(p);
}
