#include "designs/region_kernel.h"

#include <errno.h>
#include <string.h>

/* ---- faults: out of the queue, into the ring ---- */

static uint32_t room(const struct uiopf_fault_region *r)
{
	return (r->tail + r->entries - r->head - 1) % r->entries;	/* one slot is kept free: head == tail is empty */
}

static void put_record(struct uiopf_fault_region *r, const struct iommu_hwpt_pgfault *fault,
		       const struct uiopf_private_data *data)
{
	struct region_fault record = {
		.type = REGION_FAULT_PAGE_REQ,
		.dev_id = fault->dev_id,
		.prm = {
			.flags = (fault->flags & (REGION_PRM_PASID_VALID | REGION_PRM_LAST_PAGE)) |
				 (fault->flags & UIOPF_FAULT_NEEDS_PASID ? REGION_PRM_NEEDS_PASID : 0),
			.pasid = fault->pasid,
			.grpid = fault->grpid,
			.perm = fault->perm,
			.addr = fault->addr,
		},
	};

	if (data) {
		record.prm.flags |= REGION_PRM_PRIV_DATA;
		memcpy(record.prm.private_data, data->word, sizeof data->word);
	}
	uiopf_copy_to_client(r->records.map + (size_t)r->head * sizeof record, &record, sizeof record);
	r->head = (r->head + 1) % r->entries;
	WRITE_ONCE(&r->notified, r->notified + 1);
	if (r->eventfd >= 0)
		uiopf_eventfd_signal(r->core, r->eventfd);
}

static void put_group(struct uiopf_fault_region *r, const struct uiopf_group *group)
{
	const struct uiopf_device *device = group->attach->device;
	uint32_t node;

	uiopf_named_remember(&r->outstanding, r->queue, group);
	r->several |= r->device && r->device != group->last.dev_id;
	r->device = group->last.dev_id;
	for (node = group->partial; unlikely(node != UIOPF_NONE); node = device->node[node].next) {
		struct iommu_hwpt_pgfault message;

		uiopf_fill_message_kept(&message, group->last.dev_id, &device->node[node].fault);
		put_record(r, &message, NULL);
	}
	put_record(r, &group->last, group->kept & UIOPF_FAULT_PRIV_DATA ? &device->private_data[group->index] : NULL);
}

/*
 * The handler, in the interrupt's thread. It was posted to return -EINVAL (v8) or -ENOSPC where the ring is full, and the
 * fault was lost to user space; VT-d's driver of the time then answered INVALID, which is done here. A group goes in
 * as a whole or not at all: half of one could not be answered.
 */
static void take_groups(void *of)
{
	struct uiopf_fault_region *r = of;
	struct uiopf_group *group;
	uint64_t refused = r->refused_groups;

	if (r->version == UINT32_MAX)	/* v8 before user space has said which it wants: nothing is taken yet */
		return;
	while (uiopf_faultq_has_group(r->queue)) {
		const uint32_t faults = r->queue->ring[r->queue->head & r->queue->mask]->fault_count;

		if (unlikely(faults > room(r))) {
			r->refused_groups++;
			r->refused_faults += faults;
			uiopf_faultq_refuse_next(r->queue, UIOPF_RESP_INVALID);
			continue;
		}
		group = uiopf_faultq_next(r->queue);
		if (unlikely(!group))
			break;
		put_group(r, group);
	}
	if (unlikely(refused != r->refused_groups))
		uiopf_core_kick(r->core);
}

/* ---- answers ---- */

/* iommu_page_response(): `size` bytes of an answer have come. Everything in it is a copy by now. */
static int respond(struct uiopf_fault_region *r, uint32_t dev_id, const struct region_response *answer, uint32_t size)
{
	const uint32_t known = REGION_RESPONSE_PASID_VALID | (r->has_private_data ? REGION_RESPONSE_PRIVATE_DATA : 0);
	const bool has_data = answer->flags & REGION_RESPONSE_PRIVATE_DATA;
	const struct uiopf_group *group;
	uint32_t cookie;

	if (answer->version != REGION_RESPONSE_VERSION || (answer->flags & ~known) || answer->code > UIOPF_RESP_FAILURE ||
	    (has_data && size < sizeof *answer))
		return -EINVAL;
	cookie = uiopf_named_find(&r->outstanding, r->queue, dev_id, answer->pasid, answer->grpid);
	if (!cookie)
		return -EINVAL;
	group = r->queue->by_cookie[cookie];
	if ((group->last.flags & UIOPF_FAULT_NEEDS_PASID) && !(answer->flags & REGION_RESPONSE_PASID_VALID))
		return -EINVAL;
	/* A kernel that knows of private data wants back what it gave, and the group waits on; an older one keeps it itself. */
	if (r->has_private_data) {
		const bool had_data = group->kept & UIOPF_FAULT_PRIV_DATA;

		if (has_data != had_data)
			return -EINVAL;
		if (had_data && memcmp(group->attach->device->private_data[group->index].word, answer->private_data,
				       sizeof answer->private_data) != 0)
			return -EINVAL;
	}
	return uiopf_named_answer(&r->outstanding, r->queue, cookie, answer->code) ? 0 : -EINVAL;
}

int uiopf_fault_region_respond(struct uiopf_fault_region *region, uint32_t dev_id,
			       const struct region_page_response *argument)
{
	const uint32_t known = region->has_private_data ? sizeof *argument : REGION_ARGSZ_SHORT;
	const uint8_t *from = (const uint8_t *)argument;
	struct region_response answer = { 0 };
	uint32_t argsz, size;
	int rc;

	uiopf_copy_from_client(&argsz, from, sizeof argsz);
	if (argsz < REGION_ARGSZ_SHORT)
		return -EINVAL;
	/* Less than we know of is an older client's; of more, a newer one's, we do not see the rest. */
	size = argsz < sizeof *argument || known < sizeof *argument ? REGION_RESPONSE_SHORT : sizeof answer;
	uiopf_copy_from_client(&answer, from + sizeof argsz, size);
	if (uiopf_consumer_try_begin(region->core) < 0)
		return -EINTR;
	rc = respond(region, dev_id, &answer, size);
	uiopf_core_kick(region->core);
	uiopf_consumer_end(region->core);
	return rc;
}

/* v11's work queue: as many as user space's head says, each copied once. */
static void pop_answers(struct uiopf_fault_region *r)
{
	while (r->answer_tail != r->answer_head) {
		struct region_response answer = { 0 };
		uint32_t dev_id;
		int rc = -EINVAL;

		uiopf_copy_from_client(&answer, r->answers.map + (size_t)r->answer_tail * r->answer_size, r->answer_size);
		r->answer_tail = (r->answer_tail + 1) % REGION_ENTRIES;
		dev_id = r->answer_size == sizeof answer ? answer.dev_id : r->device;
		if (r->answer_size == sizeof answer || !r->several)
			rc = respond(r, dev_id, &answer, r->answer_size);
		r->refused_answers += rc < 0;
	}
	uiopf_core_kick(r->core);
}

/* ---- the header pages ---- */

struct header {
	uint8_t bytes[20];
	uint32_t length;
	uint32_t flags;
};

static struct header header_of(const struct uiopf_fault_region *r, uint32_t n)
{
	struct header h = { .flags = REGION_READ | REGION_WRITE };

#define SET(value) do { memcpy(h.bytes, &(value), sizeof(value)); h.length = sizeof(value); } while (0)
	if (r->abi == REGION_V8 && n == 0) {
		const struct region_v8_prod prod = { r->version, r->entries, sizeof(struct region_fault), REGION_PAGE, r->head };

		SET(prod);
		h.flags = REGION_READ;
	} else if (r->abi == REGION_V8) {
		const struct region_v8_cons cons = { r->version, r->tail };

		SET(cons);
		h.flags = REGION_WRITE;
	} else if (n == 0) {
		const struct region_v9 v9 = { r->tail, sizeof(struct region_fault), r->entries, REGION_PAGE, r->head };

		SET(v9);
	} else {
		const struct region_v11_response response = {
			r->answer_head, r->answer_size, REGION_ENTRIES, REGION_PAGE, r->answer_tail,
		};

		SET(response);
	}
#undef SET
	return h;
}

static bool is_there(const struct uiopf_fault_region *r, uint32_t n)
{
	return n < (r->abi == REGION_V9 ? 1 : 2);
}

int uiopf_fault_region_read(struct uiopf_fault_region *region, uint32_t n, void *to, uint64_t length, uint64_t offset)
{
	struct header h;

	if (!is_there(region, n))
		return -EINVAL;
	if (uiopf_consumer_try_begin(region->core) < 0)
		return -EINTR;
	h = header_of(region, n);
	uiopf_consumer_end(region->core);
	if (!(h.flags & REGION_READ) || offset > h.length || length > h.length - offset)
		return -EINVAL;
	memcpy(to, h.bytes + offset, length);
	return (int)length;
}

/* One of user space's words. */
static int write_word(struct uiopf_fault_region *r, uint32_t n, uint64_t offset, uint32_t value)
{
	if (r->abi == REGION_V8) {
		if (n != 1)
			return -EINVAL;
		if (offset == offsetof(struct region_v8_cons, version)) {
			if (value != 1)		/* the highest, and the capability says so */
				return -EINVAL;
			r->version = value;
			take_groups(r);
			return 0;
		}
		if (offset != offsetof(struct region_v8_cons, cons) || value >= r->entries)
			return -EINVAL;
		r->tail = value;
		return 0;
	}
	if (offset != 0)
		return -EINVAL;
	if (n == 1) {
		if (value >= REGION_ENTRIES)
			return -EINVAL;
		r->answer_head = value;
		pop_answers(r);
		return 0;
	}
	/* As posted, v9 let the number of entries itself pass; modulo it is 0. */
	if (value > r->entries - (r->abi == REGION_V9 ? 0 : 1))
		return -EINVAL;
	r->tail = value % r->entries;
	return 0;
}

int uiopf_fault_region_write(struct uiopf_fault_region *region, uint32_t n, const void *from, uint64_t length,
			     uint64_t offset)
{
	uint32_t value;
	int rc;

	if (!is_there(region, n) || length != sizeof value)
		return -EINVAL;
	memcpy(&value, from, sizeof value);
	if (uiopf_consumer_try_begin(region->core) < 0)
		return -EINTR;
	rc = write_word(region, n, offset, value);
	uiopf_consumer_end(region->core);
	return rc < 0 ? rc : (int)length;
}

const struct uiopf_region *uiopf_fault_region_memory(const struct uiopf_fault_region *region, uint32_t n)
{
	if (!is_there(region, n) || (n == 1 && region->abi == REGION_V8))
		return NULL;
	return n ? &region->answers : &region->records;
}

int uiopf_fault_region_info(const struct uiopf_fault_region *region, struct region_info *info)
{
	const uint32_t argsz = READ_ONCE(&info->argsz), n = READ_ONCE(&info->index);
	const struct uiopf_region *memory;
	struct region_info_full full = { 0 };
	uint32_t size = sizeof full;

	if (argsz < sizeof *info || !is_there(region, n))
		return -EINVAL;
	memory = uiopf_fault_region_memory(region, n);
	full.info = (struct region_info){
		.argsz = argsz,
		.flags = header_of(region, n).flags | REGION_CAPS | (memory ? REGION_MMAP : 0),
		.index = n,
		.cap_offset = sizeof full.info,
		.size = REGION_PAGE + (memory ? memory->size : 0),
		.offset = (uint64_t)n << 40,
	};
	full.type.cap = (struct region_cap){ REGION_CAP_TYPE, 1, offsetof(struct region_info_full, fault) };
	full.type.type = REGION_TYPE_NESTED;
	full.type.subtype = n ? REGION_SECOND : REGION_FIRST;
	full.fault.cap = (struct region_cap){ REGION_CAP_FAULT, 1, offsetof(struct region_info_full, sparse) };
	if (n && region->abi == REGION_V11)
		full.fault.cap.id = REGION_CAP_FAULT_RESPONSE;
	full.fault.version = 1;
	if (memory) {
		full.sparse.cap = (struct region_cap){ REGION_CAP_SPARSE_MMAP, 1, 0 };
		full.sparse.areas = 1;
		full.sparse.offset = REGION_PAGE;
		full.sparse.size = memory->size;
	} else {
		full.fault.cap.next = 0;
		size = offsetof(struct region_info_full, sparse);
	}
	if (argsz < size) {	/* how much there would be; the caller comes again with it */
		full.info.argsz = size;
		full.info.cap_offset = 0;
		size = sizeof full.info;
	}
	memcpy(info, &full, size);
	return 0;
}

/* ---- quiescent ---- */

void uiopf_fault_region_set_irq(struct uiopf_fault_region *region, int eventfd)
{
	uiopf_control_begin(region->core);
	region->eventfd = eventfd;
	uiopf_control_end(region->core);
}

int uiopf_fault_region_open(struct uiopf_fault_region *region, struct uiopf_core *core, struct uiopf_faultq *queue,
			    enum region_abi abi, bool has_private_data, uint32_t most_groups)
{
	struct uiopf_fault_region *r = region;
	int rc;

	*r = (struct uiopf_fault_region){
		.core = core,
		.queue = queue,
		.abi = abi,
		.has_private_data = has_private_data,
		.eventfd = -1,
		.records = { .fd = -1 },
		.answers = { .fd = -1 },
		.version = abi == REGION_V8 ? UINT32_MAX : 1,
		.entries = abi == REGION_V8 ? REGION_V8_ENTRIES : REGION_ENTRIES,
		.answer_size = has_private_data ? sizeof(struct region_response) : REGION_RESPONSE_SHORT,
	};
	rc = uiopf_named_init(&r->outstanding, most_groups);
	if (rc == 0)
		rc = uiopf_region_open(&r->records, "uring_iopf faults", (uint64_t)r->entries * sizeof(struct region_fault));
	if (rc == 0 && abi == REGION_V11)
		rc = uiopf_region_open(&r->answers, "uring_iopf answers",
				       (uint64_t)REGION_ENTRIES * sizeof(struct region_response));
	if (rc < 0) {
		uiopf_region_close(&r->records);
		uiopf_named_free(&r->outstanding);
		return rc;
	}
	uiopf_control_begin(core);
	if (queue->on_arrival) {
		uiopf_control_end(core);
		uiopf_region_close(&r->answers);
		uiopf_region_close(&r->records);
		uiopf_named_free(&r->outstanding);
		return -EBUSY;
	}
	queue->on_arrival = take_groups;
	queue->on_arrival_of = r;
	WRITE_ONCE(&core->tells_at_once, core->tells_at_once + 1);	/* the hardware's thread runs the handler */
	take_groups(r);		/* what came before is there now, or refused */
	uiopf_control_end(core);
	return 0;
}

void uiopf_fault_region_close(struct uiopf_fault_region *region)
{
	struct uiopf_core *core = region->core;

	if (!core->abandoned) {
		uiopf_control_begin(core);
		WRITE_ONCE(&core->tells_at_once, core->tells_at_once - 1);
		region->queue->on_arrival = NULL;
		region->queue->on_arrival_of = NULL;
		uiopf_control_end(core);
	}
	uiopf_region_close(&region->answers);
	uiopf_region_close(&region->records);
	uiopf_named_free(&region->outstanding);
}
