#include "faults/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"
#include "faults/faultq.h"

/* When the time of what arrived then is over; near the end of time, never. */
static uint64_t too_late(const struct uiopf_policy *p, uint64_t arrived)
{
	return p->limits.timeout_ns < UIOPF_NO_DEADLINE - arrived ? arrived + p->limits.timeout_ns : UIOPF_NO_DEADLINE;
}

/* ---- the limit ---- */

bool uiopf_policy_admit(struct uiopf_faultq *q)
{
	struct uiopf_policy *p = q->policy;
	uint64_t now;

	/* The reader only makes more room meanwhile. */
	if (p->limits.depth && q->tail - LOAD_ACQUIRE(&q->head) >= p->limits.depth) {
		WRITE_ONCE(&p->lost_at, q->tail);
		STORE_RELEASE(&p->lost, p->lost + 1);	/* pairs with the reader's load: the place is written */
		return false;
	}
	if (p->limits.timeout_ns) {
		now = uiopf_now(&q->core->clock);
		p->arrived[q->tail & q->mask] = now;
		now = too_late(p, now);
		if (q->core->expiry_ns > now)	/* another queue's may be longer */
			q->core->expiry_ns = now;
	}
	return true;
}

uint64_t uiopf_policy_lost(struct uiopf_faultq *q)
{
	struct uiopf_policy *p = q->policy;
	uint64_t lost = LOAD_ACQUIRE(&p->lost);

	/* A later loss may have moved the place on; then this is not it yet. */
	return lost != p->told && (int32_t)(READ_ONCE(&p->lost_at) - q->head) <= 0 ? lost - p->told : 0;
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

uint64_t uiopf_policy_expire(struct uiopf_faultq *q, uint64_t now)
{
	struct uiopf_policy *p = q->policy;
	uint64_t arrived;

	for (;;) {
		/* Groups are delivered in the order of their arrival: what has a cookie is older than what waits. */
		if (p->oldest != UIOPF_NONE)
			arrived = p->live[p->oldest].arrived;
		else if (uiopf_faultq_has_group(q))
			arrived = p->arrived[q->head & q->mask];
		else
			return UIOPF_NO_DEADLINE;
		if (now < too_late(p, arrived))
			return too_late(p, arrived);
		p->timed_out_groups++;
		uiopf_faultq_answer_oldest(q, p->oldest, p->limits.timeout_code);
	}
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

int uiopf_faultq_answer_index(struct uiopf_faultq *q, uint32_t dev_id, uint32_t flags, uint32_t pasid, uint32_t grpid,
			      uint32_t code)
{
	const struct iommu_hwpt_pgfault *last;
	struct uiopf_policy *p = q->policy;
	uint32_t cookie;
	int rc = -EINVAL;

	if (!p || !p->limits.by_index)
		return -EOPNOTSUPP;
	uiopf_consumer_begin(q->core);
	for (cookie = p->bucket[hash(p, dev_id, pasid, grpid)].first; cookie != UIOPF_NONE; cookie = p->chain[cookie]) {
		last = &q->by_cookie[cookie]->last;
		if (last->dev_id == dev_id && last->pasid == pasid && last->grpid == grpid &&
		    (last->flags & IOMMU_PGFAULT_FLAGS_PASID_VALID) == (flags & IOMMU_PGFAULT_FLAGS_PASID_VALID))
			break;
	}
	if (cookie != UIOPF_NONE && uiopf_faultq_takes_code(q, cookie, code)) {
		uiopf_faultq_answer_cookie(q, cookie, code);
		uiopf_core_kick(q->core);
		rc = 0;
	}
	uiopf_consumer_end(q->core);
	return rc;
}

/* ---- both ---- */

void uiopf_policy_deliver(struct uiopf_faultq *q, const struct uiopf_group *group)
{
	struct uiopf_policy *p = q->policy;

	if (p->limits.timeout_ns)
		append(p, group->last.cookie, p->arrived[q->head & q->mask]);
	if (p->limits.by_index)
		index_group(p, group);
}

void uiopf_policy_forget(struct uiopf_faultq *q, uint32_t cookie)
{
	if (q->policy->limits.timeout_ns)
		take_out(q->policy, cookie);
	if (q->policy->limits.by_index)
		unindex_group(q->policy, q->by_cookie[cookie]);
}

void uiopf_policy_move(struct uiopf_faultq *q, uint32_t to, uint32_t from)
{
	if (q->policy->limits.timeout_ns)
		q->policy->arrived[to & q->mask] = q->policy->arrived[from & q->mask];
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

int uiopf_policy_reserve(struct uiopf_faultq *q, uint32_t capacity)
{
	struct uiopf_policy *p = q->policy;
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
		for (i = q->head; p->arrived && i != q->tail; i++)
			arrived[i & (capacity - 1)] = p->arrived[i & q->mask];
		free(p->arrived);
		p->arrived = arrived;
	}
	if (bucket) {
		memset(bucket, 0xff, capacity * sizeof *bucket);
		p->bucket = bucket;
		p->bucket_mask = capacity - 1;
		/* Chain by chain, so that groups of one index keep their order. */
		for (i = 0; were && i < buckets; i++)
			for (cookie = were[i].first; cookie != UIOPF_NONE; cookie = next) {
				next = p->chain[cookie];
				index_group(p, q->by_cookie[cookie]);
			}
		free(were);
	}
	return 0;
}

int uiopf_faultq_limit(struct uiopf_faultq *q, const struct uiopf_faultq_limits *limits)
{
	struct uiopf_policy *p;
	int rc = 0;

	if (limits->timeout_ns && limits->timeout_code != UIOPF_RESP_INVALID &&
	    limits->timeout_code != UIOPF_RESP_FAILURE)
		return -EINVAL;
	uiopf_control_begin(q->core);
	if (q->policy || q->head != q->tail || q->counts.delivered_groups) {
		rc = -EBUSY;
	} else if (!(p = calloc(1, sizeof *p))) {
		rc = -ENOMEM;
	} else {
		p->limits = *limits;
		p->oldest = p->newest = UIOPF_NONE;
		q->policy = p;
		rc = uiopf_policy_reserve(q, q->mask + 1);
		if (rc < 0) {
			q->policy = NULL;
			uiopf_policy_free(p);
		}
	}
	uiopf_control_end(q->core);
	return rc;
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
