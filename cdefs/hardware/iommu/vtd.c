#include "hardware/iommu/vtd.h"

#include <errno.h>

#include "hardware/iommu/invalidate.h"
#include "hardware/iommu/model_path.h"

/* ---- hardware ---- */

/*
 * A function behind it asks for neither execution nor privilege. Linux enables both in its PASID capability, but refuses
 * execute requests that also read, takes those that do not for stop markers, and refuses privileged ones.
 */
hot_inline void to_queue(void *above, struct uiopf_page_request request)
{
	request.execute = request.privileged = false;
	uiopf_vtd_page_request(above, request);
}

static uint32_t endpoint_turn(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	return uiopf_endpoint_turn(endpoint, to_queue, uiopf_vtd_of(m));
}

static void request(struct uiopf_model *m, struct uiopf_page_request request)
{
	uiopf_vtd_page_request(uiopf_vtd_of(m), request);
}

static void answer(struct uiopf_model *m, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now)
{
	uiopf_endpoint_response(endpoint, index, code, now, to_queue, uiopf_vtd_of(m));
}

/* … and of revision 3, whose functions may add what is private to them. */
hot_inline void to_queue_3(void *above, struct uiopf_page_request request)
{
	struct uiopf_vtd *v = above;

	request.execute = request.privileged = false;
	uiopf_endpoint_add_private(v->model.source[request.requester_id].endpoint, &request);
	uiopf_vtd_page_request_3(v, request);
}

/* The same of one that is known: it may be bound to no device, and then the table has none. */
hot_inline void to_queue_of_3(void *above, struct uiopf_page_request request)
{
	const struct uiopf_sender *sender = above;

	request.execute = request.privileged = false;
	uiopf_endpoint_add_private(sender->endpoint, &request);
	uiopf_vtd_page_request_3(uiopf_vtd_of(sender->model), request);
}

static uint32_t endpoint_turn_3(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	struct uiopf_sender sender = { m, endpoint };

	return uiopf_endpoint_turn(endpoint, to_queue_of_3, &sender);
}

static void request_3(struct uiopf_model *m, struct uiopf_page_request request)
{
	uiopf_vtd_page_request_3(uiopf_vtd_of(m), request);
}

static void answer_3(struct uiopf_model *m, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now)
{
	struct uiopf_sender sender = { m, endpoint };

	uiopf_endpoint_response(endpoint, index, code, now, to_queue_of_3, &sender);
}

void uiopf_vtd_overflow(struct uiopf_vtd *v, struct uiopf_page_request request)
{
	v->prq_status |= VTD_PRS_PRO;
	uiopf_model_drop(&v->model, request);
}

hot_inline struct uiopf_answer decode_answer(const uint64_t *d)
{
	return (struct uiopf_answer){
		.requester_id = d[0] >> VTD_PGRP_RID_SHIFT & 0xffff,
		.index = d[1] >> VTD_PGRP_PRGI_SHIFT & 0x1ff,
		.code = d[0] >> VTD_PGRP_CODE_SHIFT & 0xf,
	};
}

hot_inline struct uiopf_answer decode_answer_or_other(const uint64_t *d)
{
	return (d[0] & VTD_IQ_TYPE) == VTD_PGRP_TYPE ? decode_answer(d) : UIOPF_NO_ANSWER;
}

static struct uiopf_range pages_of(uint64_t word1)
{
	return uiopf_aligned_range(word1, 12 + (word1 & VTD_IQ_AM));
}

/* IOTLB invalidation: of stage 2. What is kept through both stages is not kept by that address, so all of it goes. */
static void invalidate_iotlb(const struct uiopf_port *port, uint32_t granularity, uint32_t domain, uint64_t word1)
{
	enum { GLOBAL = 1, DOMAIN = 2, PAGES = 3 };

	if (!granularity)
		return;
	if (granularity == GLOBAL)
		domain = UIOPF_ANY_DOMAIN;
	uiopf_invalidate(port, domain, UIOPF_ANY_TAG, UIOPF_ALL_ADDRESSES);
	uiopf_invalidate_second(port, domain, granularity == PAGES ? pages_of(word1) : UIOPF_ALL_ADDRESSES);
}

/* PASID-based: of stage 1, and through both stages. */
static void invalidate_piotlb(const struct uiopf_port *port, uint32_t granularity, uint32_t domain, uint32_t pasid,
			      uint64_t word1, bool all_pasids)
{
	enum { PASID = 2, PAGES = 3 };

	if (granularity >= PASID)
		uiopf_invalidate(port, domain, pasid, granularity == PAGES ? pages_of(word1) : UIOPF_ALL_ADDRESSES);
	else if (all_pasids)	/* 0, with what is global, or 1: nothing is global here */
		uiopf_invalidate(port, domain, UIOPF_ANY_TAG, UIOPF_ALL_ADDRESSES);
}

static void invalidate_pasid_cache(const struct uiopf_port *port, uint32_t granularity, uint32_t domain, uint32_t pasid)
{
	enum { DOMAIN = 0, PASID = 1, GLOBAL = 3 };

	if (granularity == DOMAIN || granularity == GLOBAL)
		pasid = UIOPF_ANY_PASID;
	if (granularity == GLOBAL)
		domain = UIOPF_ANY_DOMAIN;
	if (granularity != 2)
		uiopf_invalidate_contexts(port, UIOPF_ANY_REQUESTER, domain, pasid);
}

hot_inline bool other_command(struct uiopf_model *m, const uint64_t *d, bool revision_2)
{
	const uint32_t granularity = d[0] >> VTD_IQ_GRANULARITY_SHIFT & 3, domain = d[0] >> VTD_IQ_DOMAIN_SHIFT & 0xffff;
	const uint32_t pasid = d[0] >> VTD_IQ_PASID_SHIFT & 0xfffff;

	switch (d[0] & VTD_IQ_TYPE) {
	case VTD_IOTLB_TYPE:
		invalidate_iotlb(&m->port, granularity, domain, d[1]);
		break;
	case VTD_PIOTLB_TYPE:
		invalidate_piotlb(&m->port, granularity, domain, pasid, d[1], revision_2);
		break;
	case VTD_PASID_CACHE_TYPE:
		invalidate_pasid_cache(&m->port, granularity, domain, pasid);
		break;
	case VTD_DEVICE_TLB_TYPE:
		uiopf_invalidate_device(&m->port, d[0] >> VTD_DEVICE_TLB_RID_SHIFT & 0xffff, UIOPF_ANY_PASID,
					uiopf_ats_range(d[1], d[1] & VTD_DEVICE_TLB_S));
		break;
	case VTD_PASID_DEVICE_TLB_TYPE:
		uiopf_invalidate_device(&m->port, domain, d[1] & VTD_PASID_DEVICE_TLB_G ? UIOPF_ANY_PASID : pasid,
					uiopf_ats_range(d[1], d[1] & VTD_PASID_DEVICE_TLB_S));
		break;
	case VTD_WAIT_TYPE:
		m->completed++;
		break;
	}
	return true;
}

bool uiopf_vtd_other_command(struct uiopf_model *m, const uint64_t *d)
{
	return other_command(m, d, false);
}

bool uiopf_vtd_2_other_command(struct uiopf_model *m, const uint64_t *d)
{
	return other_command(m, d, true);
}

/* While software's own commands are in the queue. Without them, all that is there is an answer. */
static __attribute__((noinline)) uint32_t execute_others(struct uiopf_model *m)
{
	const uint32_t n = uiopf_model_carry_out_all(m, VTD_IQ_WORDS, decode_answer_or_other, NULL, uiopf_vtd_other_command,
						     to_queue, uiopf_vtd_of(m));

	uiopf_model_end_others(m);
	return n;
}

static uint32_t execute(struct uiopf_model *m)
{
	if (unlikely(m->others))
		return execute_others(m);
	return uiopf_model_carry_out(m, VTD_IQ_WORDS, decode_answer, to_queue, uiopf_vtd_of(m));
}

hot_inline struct uiopf_answer decode_answer_3(const uint64_t *d)
{
	struct uiopf_answer answer = decode_answer(d);

	answer.brings_back = true;
	answer.private_data = (struct uiopf_private_data){
		.there = d[0] & VTD_PGRP_PRIVATE_DATA, .word = { d[2], d[3] },
	};
	return answer;
}

hot_inline struct uiopf_answer decode_answer_or_other_3(const uint64_t *d)
{
	return (d[0] & VTD_IQ_TYPE) == VTD_PGRP_TYPE ? decode_answer_3(d) : UIOPF_NO_ANSWER;
}

static __attribute__((noinline)) uint32_t execute_others_3(struct uiopf_model *m)
{
	const uint32_t n = uiopf_model_carry_out_all(m, VTD_IQ_WORDS, decode_answer_or_other_3, NULL,
						     uiopf_vtd_other_command, to_queue_3, uiopf_vtd_of(m));

	uiopf_model_end_others(m);
	return n;
}

static uint32_t execute_3(struct uiopf_model *m)
{
	if (unlikely(m->others))
		return execute_others_3(m);
	return uiopf_model_carry_out(m, VTD_IQ_WORDS, decode_answer_3, to_queue_3, uiopf_vtd_of(m));
}

/* ---- driver ---- */

hot_inline void give_response(struct uiopf_model *m, enum uiopf_side side, uint32_t requester_id, uint32_t flags,
			      uint32_t pasid, uint32_t grpid, uint32_t code)
{
	/* Linux 6.12 also sets the bit that a request has. */
	const uint64_t last = m->flags & UIOPF_MODEL_NEEDS_PASID ? VTD_PGRP_LPIG : 0;
	uint64_t word0;

	/* Linux puts its own code into the field: a failure is sent as 2, which the function treats as one. */
	word0 = VTD_PGRP_TYPE | (uint64_t)requester_id << VTD_PGRP_RID_SHIFT |
		(uint64_t)code << VTD_PGRP_CODE_SHIFT;
	if (flags & UIOPF_FAULT_PASID_VALID)
		word0 |= VTD_PGRP_PASID_PRESENT | (uint64_t)pasid << VTD_PGRP_PASID_SHIFT;
	uiopf_commands_give(&m->commands[side], VTD_IQ_WORDS, word0, (uint64_t)grpid << VTD_PGRP_PRGI_SHIFT | last);
}

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	give_response(uiopf_model_of(device), side, device->requester_id, flags, pasid, grpid, code);
}

/* Linux until 6.9: LPIG as the request had it, or as the generic layer was told; private data as they came. */
hot_inline void give_response_3(struct uiopf_model *m, enum uiopf_side side, uint32_t requester_id, struct uiopf_fault fault,
				uint32_t code, const struct uiopf_private_data *data)
{
	uint64_t d[VTD_IQ_WORDS] = {
		VTD_PGRP_TYPE | (uint64_t)requester_id << VTD_PGRP_RID_SHIFT | (uint64_t)code << VTD_PGRP_CODE_SHIFT,
		(uint64_t)fault.grpid << VTD_PGRP_PRGI_SHIFT | (fault.flags & UIOPF_FAULT_LAST_PAGE ? VTD_PGRP_LPIG : 0),
	};

	if (fault.flags & UIOPF_FAULT_PASID_VALID)
		d[0] |= VTD_PGRP_PASID_PRESENT | (uint64_t)fault.pasid << VTD_PGRP_PASID_SHIFT;
	if (data) {
		d[0] |= VTD_PGRP_PRIVATE_DATA;
		d[2] = data->word[0];
		d[3] = data->word[1];
	}
	uiopf_commands_give_long(&m->commands[side], d);
}

static void respond_privately(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
			      uint32_t grpid, uint32_t code, const struct uiopf_private_data *data)
{
	const struct uiopf_fault fault = { .flags = flags, .pasid = pasid, .grpid = grpid };

	give_response_3(uiopf_model_of(device), side, device->requester_id, fault, code, data);
}

static void respond_3(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		      uint32_t grpid, uint32_t code)
{
	respond_privately(device, side, flags, pasid, grpid, code, NULL);
}

#define VTD_PRQ_PASID_BITS (VTD_PRQ_PASID_PRESENT | VTD_PRQ_EXECUTE | VTD_PRQ_PRIVILEGED)

bool uiopf_vtd_is_canonical(uint64_t address)
{
	return (address + (1ull << 47)) >> 48 == 0;
}

/* Nearly all requests: nothing in them can be refused, and they are no stop marker. */
static bool is_ordinary(uint64_t d0, uint64_t d1)
{
	return (d0 & VTD_PRQ_PASID_BITS) == VTD_PRQ_PASID_PRESENT && (d1 & (PCIE_PRI_READ | PCIE_PRI_WRITE)) &&
	       uiopf_vtd_is_canonical(d1);
}

/* What Linux refuses before it reports. */
static bool is_bad(const struct uiopf_vtd *v, uint64_t d0, uint64_t d1)
{
	const bool read = d1 & PCIE_PRI_READ, write = d1 & PCIE_PRI_WRITE;

	return ((v->model.flags & UIOPF_MODEL_NEEDS_PASID) && !(d0 & VTD_PRQ_PASID_PRESENT)) || !uiopf_vtd_is_canonical(d1) ||
	       ((d0 & VTD_PRQ_PRIVILEGED) && (read || write)) || ((d0 & VTD_PRQ_EXECUTE) && read);
}

hot_inline struct uiopf_fault decode(uint64_t d0, uint64_t d1)
{
	struct uiopf_fault fault = {
		.addr = d1 & PCIE_PRI_ADDRESS,
		.flags = d1 & PCIE_PRI_LAST ? UIOPF_FAULT_LAST_PAGE : 0,
		.grpid = d1 >> PCIE_PRI_PRGI_SHIFT & 0x1ff,
		.perm = d1 & (PCIE_PRI_READ | PCIE_PRI_WRITE),
	};

	if (likely(d0 & VTD_PRQ_PASID_PRESENT)) {
		fault.flags |= UIOPF_FAULT_PASID_VALID | UIOPF_FAULT_NEEDS_PASID;
		fault.pasid = d0 >> VTD_PRQ_PASID_SHIFT & 0xfffff;
	}
	if (unlikely(d0 & (VTD_PRQ_EXECUTE | VTD_PRQ_PRIVILEGED))) {
		fault.perm |= d0 & VTD_PRQ_EXECUTE ? IOMMU_PGFAULT_PERM_EXEC : 0;
		fault.perm |= d0 & VTD_PRQ_PRIVILEGED ? IOMMU_PGFAULT_PERM_PRIV : 0;
	}
	return fault;
}

void uiopf_vtd_note(struct uiopf_vtd *v, uint32_t slot, uint64_t source, uint64_t message)
{
	const struct uiopf_fault fault = decode(source, message);

	uiopf_model_note(&v->model, slot, source >> VTD_PRQ_RID_SHIFT & 0xffff, &fault);
}

/* What Linux takes for a stop marker. A real one has a PASID, and is no page request. */
static bool looks_like_a_stop_marker(uint64_t d1)
{
	return (d1 & (PCIE_PRI_LAST | PCIE_PRI_READ | PCIE_PRI_WRITE)) == PCIE_PRI_LAST;
}

static bool is_stop_marker(uint64_t d0, uint64_t d1)
{
	return looks_like_a_stop_marker(d1) && (d0 & VTD_PRQ_PASID_BITS) == VTD_PRQ_PASID_PRESENT;
}

/*
 * Of a request that is not ordinary, or of which nobody knows the function: whether it goes on to the generic layer.
 * Linux looks for what is malformed, then for stop markers, and then for the device. What it refuses it answers, but
 * only the last of a group is waited for, and what has private data.
 */
static __attribute__((noinline)) bool is_worth_reporting(struct uiopf_vtd *v, struct uiopf_device *device, uint64_t d0,
							 uint64_t d1, const struct uiopf_private_data *data, bool revision_3)
{
	const uint32_t requester_id = d0 >> VTD_PRQ_RID_SHIFT & 0xffff;
	const struct uiopf_refusals count = uiopf_model_refusals(&v->model, requester_id);
	const struct uiopf_fault fault = decode(d0, d1);

	if (!is_bad(v, d0, d1)) {
		if (looks_like_a_stop_marker(d1)) {
			*count.passed_over += !is_stop_marker(d0, d1);
			return false;
		}
		if (device)
			return true;
	}
	if (fault.flags & UIOPF_FAULT_LAST_PAGE || data) {
		if (revision_3)
			give_response_3(&v->model, UIOPF_PRODUCER, requester_id, fault, UIOPF_RESP_INVALID, data);
		else
			give_response(&v->model, UIOPF_PRODUCER, requester_id, fault.flags, fault.pasid, fault.grpid,
				      UIOPF_RESP_INVALID);
		uiopf_model_answered_partial(&v->model, requester_id, fault.grpid);
		*count.refused += !is_stop_marker(d0, d1);
	} else {
		++*count.passed_over;
	}
	return false;
}

/* PPR or PRO: what raises the interrupt. Requests that are not their group's last wait for one that is. */
static bool raised(const struct uiopf_model *m)
{
	return container_of(m, const struct uiopf_vtd, model)->prq_status;
}

hot_inline uint32_t take_requests(struct uiopf_model *m, int revision)
{
	const bool private = revision == 3 && !(m->flags & UIOPF_MODEL_FORGETS_PRIVATE);
	struct uiopf_vtd *v = uiopf_vtd_of(m);
	const uint32_t n = uiopf_records_ready(&v->prq), head = v->prq.head;
	uint32_t i;

	v->prq_status &= ~(uint32_t)VTD_PRS_PPR;
	for (i = 0; i < n; i++) {
		const uint64_t *d = uiopf_records_at(v->prq.places, VTD_PRQ_WORDS, head + i), d0 = d[0], d1 = d[1];
		struct uiopf_device *device = uiopf_model_device(m, d0 >> VTD_PRQ_RID_SHIFT & 0xffff);
		const struct uiopf_private_data data = { .there = true, .word = { d[2], d[3] } };
		const bool there = private && d0 & VTD_PRQ_PRIVATE_DATA;
		struct uiopf_fault fault = decode(d0, d1);

		if (unlikely(!device || !is_ordinary(d0, d1)) &&
		    !is_worth_reporting(v, device, d0, d1, there ? &data : NULL, revision == 3))
			continue;
		if (there)	/* an answer is owed, which the generic layer gives to the last of a group */
			fault.flags |= UIOPF_FAULT_LAST_PAGE | UIOPF_FAULT_PRIV_DATA;
		uiopf_model_report_with(m, (head + i) % VTD_PRQ_ENTRIES, device, &fault, there ? &data : NULL);
	}
	uiopf_records_done(&v->prq, n);
	if (unlikely(v->prq_status & VTD_PRS_PRO)) {
		/* Nothing came meanwhile (hardware and driver take turns): unfinished groups may miss their last request. */
		if (uiopf_model_answers_dropped(m))
			uiopf_model_pass_over_partial(m);
		else
			uiopf_model_drop_partial(m);
		v->prq_status &= ~(uint32_t)VTD_PRS_PRO;
	}
	uiopf_model_kick(m, UIOPF_PRODUCER);	/* what was refused has been answered */
	return n;
}

static uint32_t interrupt(struct uiopf_model *m)
{
	return take_requests(m, 4);
}

static uint32_t interrupt_3(struct uiopf_model *m)
{
	return take_requests(m, 3);
}

int uiopf_vtd_read_register(const struct uiopf_vtd *v, uint32_t offset, uint32_t entries, uint32_t bytes, uint64_t *value)
{
	switch (offset) {
	case VTD_PQH:
		*value = (uint64_t)(v->prq.head % entries) * bytes;
		return 0;
	case VTD_PQT:
		*value = (uint64_t)(v->prq.written % entries) * bytes;
		return 0;
	case VTD_PQA:
		*value = (uint64_t)__builtin_ctz(entries * bytes / UIOPF_PAGE);
		return 0;
	case VTD_PRS:
		*value = v->prq_status;
		return 0;
	case VTD_PECTL:
		*value = v->model.held ? VTD_PECTL_IM | (v->prq_status ? VTD_PECTL_IP : 0) : 0;
		return 0;
	default:
		return -EINVAL;
	}
}

static int read_register(const struct uiopf_model *m, uint32_t offset, uint64_t *value)
{
	return uiopf_vtd_read_register(container_of(m, const struct uiopf_vtd, model), offset, VTD_PRQ_ENTRIES,
				       8 * VTD_PRQ_WORDS, value);
}

/* Requests that the interrupt has not read. */
static uint64_t unreported(const struct uiopf_model *m, const struct uiopf_device *device)
{
	const struct uiopf_vtd *v = container_of(m, const struct uiopf_vtd, model);
	uint64_t requests = 0;
	uint32_t i;

	for (i = v->prq.head; i != v->prq.written; i++) {
		const uint64_t *d = uiopf_records_at(v->prq.places, VTD_PRQ_WORDS, i);

		requests += (d[0] >> VTD_PRQ_RID_SHIFT & 0xffff) == device->requester_id && !is_stop_marker(d[0], d[1]);
	}
	return requests;
}

static const struct uiopf_records *queue(const struct uiopf_model *m, uint32_t n)
{
	return n ? NULL : &container_of(m, const struct uiopf_vtd, model)->prq;
}

/* ---- set-up ---- */

static int open_vtd(struct uiopf_model *m)
{
	return uiopf_records_open(&uiopf_vtd_of(m)->prq, VTD_PRQ_ENTRIES, VTD_PRQ_WORDS);
}

/* All drivers that knew private data refuse requests without a PASID. */
static int open_vtd_3(struct uiopf_model *m)
{
	m->flags |= UIOPF_MODEL_NEEDS_PASID;
	return open_vtd(m);
}

static void close_vtd(struct uiopf_model *m)
{
	uiopf_records_close(&uiopf_vtd_of(m)->prq);
}

const struct uiopf_model_ops uiopf_model_vtd = {
	.name = "vtd",
	.size = sizeof(struct uiopf_vtd),
	.slots = VTD_PRQ_ENTRIES,
	.commands = true,
	.command_words = VTD_IQ_WORDS,
	.open = open_vtd,
	.close = close_vtd,
	.endpoint_turn = endpoint_turn,
	.request = request,
	.execute = execute,
	.answer = answer,
	.read = read_register,
	.raised = raised,
	.queue = queue,
	.interrupt = interrupt,
	.respond = respond,
	.unreported = unreported,
};

const struct uiopf_model_ops uiopf_model_vtd_3 = {
	.name = "vtd-3",
	.size = sizeof(struct uiopf_vtd),
	.slots = VTD_PRQ_ENTRIES,
	.commands = true,
	.command_words = VTD_IQ_WORDS,
	.private_bits = 128,
	.open = open_vtd_3,
	.close = close_vtd,
	.endpoint_turn = endpoint_turn_3,
	.request = request_3,
	.execute = execute_3,
	.answer = answer_3,
	.read = read_register,
	.raised = raised,
	.queue = queue,
	.interrupt = interrupt_3,
	.respond = respond_3,
	.respond_privately = respond_privately,
	.unreported = unreported,
};
