#include "faults/iopf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the pool ---- */

void uiopf_collect_returned(struct uiopf_device *d)
{
	/* Pairs with uiopf_group_respond: the consumer is done with a group before its index shows here. */
	uint32_t tail = LOAD_ACQUIRE(&d->returned_tail);

	for (; d->returned_head != tail; d->returned_head++)
		uiopf_give_group(d, uiopf_device_group(d, d->returned[d->returned_head & d->returned_mask]));
}

static uint32_t take_node(struct uiopf_device *d)
{
	uint32_t node;

	if (d->free_node == UIOPF_NONE)
		uiopf_collect_returned(d);
	node = d->free_node;
	if (node != UIOPF_NONE)
		d->free_node = d->node[node].next;
	return node;
}

bool uiopf_device_is_exhausted(struct uiopf_device *d)
{
	if (!d->free_count || d->free_node == UIOPF_NONE)
		uiopf_collect_returned(d);
	return !d->free_count || d->free_node == UIOPF_NONE;
}

static void *grow(void *array, uint32_t count, size_t size)
{
	return reallocarray(array, count, size);
}

int uiopf_device_reserve(struct uiopf_device *d, uint32_t capacity)
{
	uint32_t buckets = 64, chunks, i, old = d->capacity;
	void *p;

	if (capacity > UIOPF_MOST_GROUPS)
		return -ENOMEM;
	capacity = (capacity + UIOPF_GROUP_CHUNK - 1) / UIOPF_GROUP_CHUNK * UIOPF_GROUP_CHUNK;
	if (capacity <= old)
		return 0;
	while (buckets < capacity)
		buckets *= 2;
	uiopf_collect_returned(d);	/* the ring is empty now, and can be replaced */

	/* Each array is installed as soon as it has grown: failing half way leaves larger arrays and the old capacity. */
#define GROW(member, count) do { \
		p = grow(d->member, (count), sizeof *d->member); \
		if (!p) \
			return -ENOMEM; \
		d->member = p; \
	} while (0)
	chunks = capacity / UIOPF_GROUP_CHUNK;
	GROW(chunk, chunks);
	GROW(free_groups, capacity);
	GROW(node, capacity);
	GROW(partial, capacity);
	GROW(returned, buckets);
	if (d->iommu->ops->respond_privately)
		GROW(private_data, capacity);
	if (buckets > d->returned_mask + 1)	/* also where no more than a part of the groups is added below */
		d->returned_mask = buckets - 1;
#undef GROW
	/* Unfinished groups are found by hash: rehash them into the larger table. */
	if (buckets > d->bucket_mask + 1 || !d->bucket) {
		uint32_t *bucket = malloc(buckets * sizeof *bucket);
		uint32_t b;

		if (!bucket)
			return -ENOMEM;
		memset(bucket, 0xff, buckets * sizeof *bucket);
		for (b = 0; d->bucket && b <= d->bucket_mask; b++) {
			uint32_t next, q = d->bucket[b];

			for (; q != UIOPF_NONE; q = next) {
				uint32_t *slot = &bucket[d->partial[q].grpid & (buckets - 1)];

				next = d->partial[q].next;
				d->partial[q].next = *slot;
				*slot = q;
			}
		}
		free(d->bucket);
		d->bucket = bucket;
		d->bucket_mask = buckets - 1;
	}
	for (i = old / UIOPF_GROUP_CHUNK; i < chunks; i++) {
		uint32_t j;

		/* Aligned to lines, so that a group is one line. */
		d->chunk[i] = aligned_alloc(64, UIOPF_GROUP_CHUNK * sizeof(struct uiopf_group));
		if (!d->chunk[i])
			return -ENOMEM;
		memset(d->chunk[i], 0, UIOPF_GROUP_CHUNK * sizeof(struct uiopf_group));
		for (j = 0; j < UIOPF_GROUP_CHUNK; j++) {
			struct uiopf_group *group = &d->chunk[i][j];
			uint32_t index = d->capacity++;

			group->index = index;
			group->partial = UIOPF_NONE;
			d->free_groups[d->free_count++] = index;
			d->node[index].next = d->free_node;
			d->free_node = index;
			d->partial[index].next = d->free_partial;
			d->free_partial = index;
		}
	}
	return 0;
}

static void free_device(struct uiopf_device *d)
{
	uint32_t i;

	for (i = 0; i < d->capacity / UIOPF_GROUP_CHUNK; i++)
		free(d->chunk[i]);
	free(d->chunk);
	free(d->free_groups);
	free(d->node);
	free(d->partial);
	free(d->bucket);
	free(d->returned);
	free(d->private_data);
	free(d->pasid);
	free(d);
}

struct uiopf_device *uiopf_device_new(struct uiopf_core *core, struct uiopf_iommu *iommu, uint32_t id,
				      uint32_t requester_id, uint32_t capacity, int growable)
{
	const bool fits = !iommu->ops->pcie || !(requester_id >> UIOPF_REQUESTER_BITS);
	struct uiopf_device *d = fits ? aligned_alloc(128, sizeof *d) : NULL;

	if (!fits)
		errno = ERANGE;
	if (!d)
		return NULL;
	memset(d, 0, sizeof *d);
	d->core = core;
	d->iommu = iommu;
	d->id = id;
	d->requester_id = requester_id;
	d->growable = growable;
	d->group_next = d;
	d->free_node = d->free_partial = UIOPF_NONE;
	if (uiopf_device_reserve(d, capacity) < 0) {
		free_device(d);
		return NULL;
	}
	uiopf_hold(&core->lifetime);
	uiopf_hold(&iommu->lifetime);
	return d;
}

void uiopf_device_end(struct uiopf_device *d)
{
	struct uiopf_iommu *iommu = d->iommu;
	struct uiopf_core *core = d->core;

	free_device(d);
	uiopf_let_go(&iommu->lifetime);
	uiopf_let_go(&core->lifetime);
}

/* ---- unfinished groups: one list of faults per group index, PASIDs not compared ---- */

static uint32_t *find_partial(struct uiopf_device *d, uint32_t grpid)
{
	uint32_t *link = &d->bucket[grpid & d->bucket_mask];

	while (*link != UIOPF_NONE && d->partial[*link].grpid != grpid)
		link = &d->partial[*link].next;
	return link;
}

int uiopf_add_partial(struct uiopf_device *d, const struct uiopf_fault *fault)
{
	uint32_t *link = find_partial(d, fault->grpid), node = take_node(d);
	struct uiopf_partial *p;

	if (node == UIOPF_NONE) {	/* as Linux without memory: nobody hears of it */
		d->counts.dropped++;
		return -ENOMEM;
	}
	d->node[node].fault = *fault;
	d->node[node].next = UIOPF_NONE;
	if (*link != UIOPF_NONE) {
		p = &d->partial[*link];
		d->node[p->last].next = node;
	} else {	/* never out of these: every one holds at least one node, and there are as many */
		uint32_t index = d->free_partial;

		p = &d->partial[index];
		d->free_partial = p->next;
		*p = (struct uiopf_partial){ .grpid = fault->grpid, .first = node, .next = UIOPF_NONE };
		*link = index;
		d->unfinished++;
	}
	p->last = node;
	p->count++;
	return 0;
}

uint32_t uiopf_take_partial(struct uiopf_device *d, uint32_t grpid, uint32_t *count)
{
	uint32_t *link, index, first;

	*count = 0;
	link = find_partial(d, grpid);
	index = *link;
	if (index == UIOPF_NONE)
		return UIOPF_NONE;
	d->unfinished--;
	first = d->partial[index].first;
	*count = d->partial[index].count;
	*link = d->partial[index].next;
	d->partial[index].next = d->free_partial;
	d->free_partial = index;
	return first;
}

uint64_t uiopf_device_partial_faults(const struct uiopf_device *d)
{
	uint64_t faults = 0;
	uint32_t b, index;

	for (b = 0; d->unfinished && b <= d->bucket_mask; b++)
		for (index = d->bucket[b]; index != UIOPF_NONE; index = d->partial[index].next)
			faults += d->partial[index].count;
	return faults;
}

void uiopf_device_answered_partial(struct uiopf_device *d, uint32_t grpid)
{
	const uint32_t index = d->unfinished ? *find_partial(d, grpid) : UIOPF_NONE;

	if (index != UIOPF_NONE)
		d->partial[index].answered = d->partial[index].count;
}

void uiopf_device_drop_partial(struct uiopf_device *d)
{
	uint32_t b, count;

	for (b = 0; b <= d->bucket_mask; b++)
		while (d->bucket[b] != UIOPF_NONE) {
			const struct uiopf_partial p = d->partial[d->bucket[b]];

			uiopf_free_nodes(d, uiopf_take_partial(d, p.grpid, &count));
			d->counts.refused += p.answered;
			d->counts.dropped += count - p.answered;
		}
}

/* ---- report and respond ---- */

void uiopf_refuse(struct uiopf_device *d, const struct uiopf_fault *fault, const struct uiopf_private_data *data,
		  uint32_t code, uint32_t faults)
{
	d->counts.refused += faults;
	uiopf_device_answered_partial(d, fault->grpid);
	uiopf_answer_for(d, fault, data, code);
}

void uiopf_answer_for(struct uiopf_device *d, const struct uiopf_fault *fault, const struct uiopf_private_data *data,
		      uint32_t code)
{
	code = uiopf_hardware_code(d, code);
	if (data)
		d->iommu->ops->respond_privately(d, UIOPF_PRODUCER, fault->flags, fault->pasid, fault->grpid, code, data);
	else
		d->iommu->ops->respond(d, UIOPF_PRODUCER, fault->flags, fault->pasid, fault->grpid, code);
}

void uiopf_group_respond_privately(struct uiopf_group *group, uint32_t code)
{
	struct uiopf_device *d = group->attach->device;
	const uint32_t flags = group->last.flags, pasid = group->last.pasid, grpid = group->last.grpid;
	struct uiopf_private_data data;

	uiopf_copy_private(&data, &d->private_data[group->index]);
	code = uiopf_hardware_code(d, code);
	uiopf_return_group(d, group);
	d->iommu->ops->respond_privately(d, UIOPF_CONSUMER, flags, pasid, grpid, code, &data);
}

/* ---- the IOMMU, whichever it is ---- */

void uiopf_iommu_let_go(struct uiopf_iommu *iommu)
{
	if (iommu)
		uiopf_let_go(&iommu->lifetime);
}
