#include "hardware/iommu/device.h"

#include "hardware/iommu/model_path.h"

/* The adapter's fields are big-endian. */
#define BE16(value) __builtin_bswap16((uint16_t)(value))
#define BE32(value) __builtin_bswap32((uint32_t)(value))

/* ---- keys: the number of a function, and a PASID; and eight bits that a driver may choose ---- */

/* Whose region it is; UIOPF_NOBODY: nobody's. */
static uint32_t function_of(const struct uiopf_reporting *d, uint32_t key)
{
	return uiopf_reporting_function(d, key >> (MLX5_KEY_SHIFT + MLX5_KEY_PASID_BITS));
}

/* ---- hardware ---- */

static void note(struct uiopf_reporting *d, uint32_t at);

/* A page of an operation is missing. */
hot_inline void to_event_queue(void *above, struct uiopf_page_request request)
{
	struct uiopf_reporting *d = above;
	const struct uiopf_source *source = &d->model.source[request.requester_id];
	const uint32_t tag = request.message >> PCIE_PRI_PRGI_SHIFT & (PCIE_PRI_PRGI_COUNT - 1);
	const uint32_t key = (uiopf_reporting_number(d, (uint16_t)request.requester_id) << MLX5_KEY_PASID_BITS |
			      request.pasid) << MLX5_KEY_SHIFT;
	uint64_t *place = uiopf_records_place(&d->queue, MLX5_EQE_WORDS), entry[MLX5_EQE_WORDS];
	const uint32_t owner = d->queue.written / (d->queue.places.mask + 1) & 1;

	entry[0] = MLX5_EVENT_PAGE_FAULT << MLX5_EQE_TYPE_SHIFT | MLX5_PFAULT_MEMORY << MLX5_EQE_SUBTYPE_SHIFT;
	entry[1] = entry[2] = entry[3] = 0;
	entry[4] = (request.message & PCIE_PRI_LAST ? MLX5_PFAULT_LAST : 0) |
		   (uint64_t)BE16(source->endpoint->prefetch) << MLX5_PFAULT_AFTER_SHIFT;
	entry[5] = BE32(request.requester_id << 16 | tag) | (uint64_t)BE32(1 << MLX5_PFAULT_PAGES_SHIFT) << 32;
	entry[6] = BE32(key) | (uint64_t)BE32(request.address >> 32) << 32;
	entry[7] = BE32(request.address) | (uint64_t)owner << MLX5_EQE_OWNER_SHIFT;
	if (source->endpoint->group_most == 1)
		source->endpoint->page[tag] = request.address;	/* should it ask again */
	if (unlikely(!place || d->queue.waiting_count || d->disabled || !source->device)) {
		uiopf_reporting_keep(d, request, entry);
		return;
	}
	place[0] = entry[0];		/* 1 to 3 are reserved, and 0 since the queue was opened */
	place[4] = entry[4];
	place[5] = entry[5];
	place[6] = entry[6];
	place[7] = entry[7];
	if (unlikely(d->model.sent_under != NULL))
		note(d, d->queue.written);
	uiopf_records_put(&d->queue);
	uiopf_records_show(&d->queue);
}

static uint32_t endpoint_turn(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	return uiopf_endpoint_turn(endpoint, to_event_queue, uiopf_reporting_of(m));
}

static void answer(struct uiopf_model *m, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now)
{
	uiopf_endpoint_response(endpoint, index, code, now, to_event_queue, uiopf_reporting_of(m));
}

/* The token is the device's own: whose operation it is, and its place. What another command says is not for a fault. */
hot_inline struct uiopf_answer decode_answer(const uint64_t *d)
{
	const uint32_t what = BE32(d[1]), token = BE32(d[1] >> 32);

	if (unlikely(BE32(d[0]) >> MLX5_CMD_OPCODE_SHIFT != MLX5_CMD_PAGE_FAULT_RESUME || what & MLX5_RESUME_TOKEN_HIGH ||
		     (token & 0xffff) >= PCIE_PRI_PRGI_COUNT))
		return (struct uiopf_answer){ .requester_id = UIOPF_NOBODY };
	return (struct uiopf_answer){
		.requester_id = token >> 16,
		.index = token & 0xffff,
		.code = what & MLX5_RESUME_ERROR ? PCIE_PRG_INVALID : PCIE_PRG_SUCCESS,
	};
}

static uint32_t execute(struct uiopf_model *m)
{
	return uiopf_model_carry_out(m, MLX5_CMD_WORDS, decode_answer, to_event_queue, uiopf_reporting_of(m));
}

/* ---- driver ---- */

hot_inline void give_resume(struct uiopf_model *m, enum uiopf_side side, uint32_t token, uint32_t code)
{
	const uint32_t what = code == UIOPF_RESP_SUCCESS ? 0 : MLX5_RESUME_ERROR;

	uiopf_commands_give(&m->commands[side], MLX5_CMD_WORDS,
			    BE32(MLX5_CMD_PAGE_FAULT_RESUME << MLX5_CMD_OPCODE_SHIFT),
			    BE32(what) | (uint64_t)BE32(token) << 32);
}

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	(void)flags;
	(void)pasid;
	give_resume(uiopf_model_of(device), side, grpid, code);
}

static uint32_t key_of(const uint64_t *d)
{
	return BE32(d[6]);
}

/* Of the length the generic message has what is wanted from the address on; of what is before it, and of 48 bits, nothing. */
hot_inline struct uiopf_fault decode(const uint64_t *d)
{
	return (struct uiopf_fault){
		.addr = (uint64_t)BE32(d[6] >> 32) << 32 | BE32(d[7]),
		.flags = UIOPF_FAULT_PASID_VALID | (d[4] & MLX5_PFAULT_LAST ? UIOPF_FAULT_LAST_PAGE : 0),
		.pasid = key_of(d) >> MLX5_KEY_SHIFT & ((1 << MLX5_KEY_PASID_BITS) - 1),
		.grpid = BE32(d[5]),
		.perm = IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE,
		.length = (BE32(d[5] >> 32) & ~0xfffu) + ((uint32_t)BE16(d[4] >> MLX5_PFAULT_AFTER_SHIFT) << 12),
	};
}

static void note(struct uiopf_reporting *d, uint32_t at)
{
	const uint64_t *entry = uiopf_records_at(d->queue.places, MLX5_EQE_WORDS, at);
	const struct uiopf_fault fault = decode(entry);

	uiopf_model_note(&d->model, at & d->queue.places.mask, function_of(d, key_of(entry)), &fault);
}

/* Device, on the same thread: there is room for entries that were kept. */
static __attribute__((noinline)) void admit(struct uiopf_reporting *d)
{
	uint32_t at = d->queue.written;

	uiopf_records_admit(&d->queue);
	for (; at != d->queue.written; at++) {
		uint64_t *entry = uiopf_records_at(d->queue.places, MLX5_EQE_WORDS, at);

		/* Whether it is new is seen by the round that it is written in. */
		entry[7] = (entry[7] & ~(1ull << MLX5_EQE_OWNER_SHIFT)) |
			   (uint64_t)(at / (d->queue.places.mask + 1) & 1) << MLX5_EQE_OWNER_SHIFT;
		if (d->model.sent_under)
			note(d, at);
	}
	uiopf_records_show(&d->queue);
}

/* Of this scheme. Linux handles two older ones, too, which no device here has. */
static bool is_fault(const uint64_t *d)
{
	return (d[0] >> MLX5_EQE_TYPE_SHIFT & 0xff) == MLX5_EVENT_PAGE_FAULT &&
	       (d[0] >> MLX5_EQE_SUBTYPE_SHIFT & 0xff) == MLX5_PFAULT_MEMORY;
}

static uint32_t interrupt(struct uiopf_model *m)
{
	struct uiopf_reporting *d = uiopf_reporting_of(m);
	uint32_t n, i, all = 0;

	while ((n = uiopf_records_ready(&d->queue))) {
		const uint32_t head = d->queue.head;

		for (i = 0; i < n; i++) {
			const uint64_t *entry = uiopf_records_at(d->queue.places, MLX5_EQE_WORDS, head + i);
			const uint32_t function = function_of(d, key_of(entry));
			struct uiopf_device *device = uiopf_model_device(m, function);
			const struct uiopf_fault fault = decode(entry);

			if (unlikely(!is_fault(entry)))
				continue;
			if (likely(device)) {
				uiopf_model_report(m, (head + i) & d->queue.places.mask, device, &fault);
			} else {	/* no such key, or not any more */
				give_resume(m, UIOPF_PRODUCER, fault.grpid, UIOPF_RESP_INVALID);
				uiopf_model_answered_partial(m, function, fault.grpid);
				++*uiopf_model_refusals(m, function).refused;
			}
		}
		uiopf_records_done(&d->queue, n);
		all += n;
		if (unlikely(d->queue.full))
			admit(d);
	}
	uiopf_model_kick(m, UIOPF_PRODUCER);	/* what was refused has been answered */
	return all;
}

static bool is_of(const struct uiopf_reporting *d, const struct uiopf_device *device, const uint64_t *entry)
{
	return is_fault(entry) && function_of(d, key_of(entry)) == device->requester_id;
}

static uint64_t unreported(const struct uiopf_model *m, const struct uiopf_device *device)
{
	return uiopf_reporting_unreported(container_of(m, const struct uiopf_reporting, model), device, is_of);
}

static const struct uiopf_records *queue(const struct uiopf_model *m, uint32_t n)
{
	return n == 0 ? &container_of(m, const struct uiopf_reporting, model)->queue : NULL;
}

/* ---- set-up ---- */

static int open_device(struct uiopf_model *m)
{
	return uiopf_reporting_open(uiopf_reporting_of(m), MLX5_EQ_ENTRIES, MLX5_EQE_WORDS);
}

static void close_device(struct uiopf_model *m)
{
	uiopf_reporting_close(uiopf_reporting_of(m));
}

const struct uiopf_model_ops uiopf_model_odp = {
	.name = "device",
	.size = sizeof(struct uiopf_reporting),
	.slots = MLX5_EQ_ENTRIES,
	.stalls = true,
	.only_stalls = true,
	.command_words = MLX5_CMD_WORDS,
	.open = open_device,
	.close = close_device,
	.endpoint_turn = endpoint_turn,
	.request = uiopf_reporting_request,
	.execute = execute,
	.answer = answer,
	.queue = queue,
	.interrupt = interrupt,
	.respond = respond,
	.unreported = unreported,
};
