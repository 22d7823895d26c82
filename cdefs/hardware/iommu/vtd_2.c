#include "hardware/iommu/vtd_2.h"

#include "hardware/iommu/model_path.h"

/* ---- hardware ---- */

hot_inline void to_queue(void *above, struct uiopf_page_request request)
{
	struct uiopf_vtd *v = above;

	uiopf_endpoint_add_private(v->model.source[request.requester_id].endpoint, &request);
	uiopf_vtd_2_page_request(v, request);
}

/* The same of one that is known: it may be bound to no device, and then the table has none. */
hot_inline void to_queue_of(void *above, struct uiopf_page_request request)
{
	const struct uiopf_sender *sender = above;

	uiopf_endpoint_add_private(sender->endpoint, &request);
	uiopf_vtd_2_page_request(uiopf_vtd_of(sender->model), request);
}

static uint32_t endpoint_turn(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	struct uiopf_sender sender = { m, endpoint };

	return uiopf_endpoint_turn(endpoint, to_queue_of, &sender);
}

static void request(struct uiopf_model *m, struct uiopf_page_request request)
{
	uiopf_vtd_2_page_request(uiopf_vtd_of(m), request);
}

static void answer(struct uiopf_model *m, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now)
{
	struct uiopf_sender sender = { m, endpoint };

	uiopf_endpoint_response(endpoint, index, code, now, to_queue_of, &sender);
}

#define PRIVATE(word) ((word) >> VTD2_PRIVATE_SHIFT & ((1u << VTD2_PRIVATE_BITS) - 1))

/* Another command than the two names no function. */
hot_inline struct uiopf_answer decode_answer(const uint64_t *d)
{
	const bool streams = (d[0] & 0xf) == VTD2_PSTRM_TYPE, known = streams || (d[0] & 0xf) == VTD_PGRP_TYPE;
	const uint64_t named = streams ? d[0] : d[1];
	const uint32_t bus = d[0] >> VTD2_PRQ_BUS_SHIFT & 0xff;

	return (struct uiopf_answer){
		.requester_id = !known ? UIOPF_NOBODY : streams ? bus << 8 | (d[1] >> VTD2_DEVFN_SHIFT & 0xff)
								: d[0] >> VTD_PGRP_RID_SHIFT & 0xffff,
		.index = named >> VTD2_PRGI_SHIFT,
		.code = d[1] & VTD2_CODE,
		.brings_back = true,
		.private_data = {
			.word = { PRIVATE(named) },
			.page = streams ? d[1] & PCIE_PRI_ADDRESS : 0,
			.there = true,
			.streams = streams,
		},
	};
}

static uint32_t execute(struct uiopf_model *m)
{
	const uint32_t n = uiopf_model_carry_out_all(m, VTD2_IQ_WORDS, decode_answer, NULL, uiopf_vtd_2_other_command,
						     to_queue, uiopf_vtd_of(m));

	if (unlikely(m->others))
		uiopf_model_end_others(m);
	return n;
}

/* ---- driver ---- */

hot_inline struct uiopf_fault decode(uint64_t d0, uint64_t d1)
{
	struct uiopf_fault fault = {
		.addr = d1 & PCIE_PRI_ADDRESS,
		.flags = d0 & VTD2_PRQ_LAST ? UIOPF_FAULT_LAST_PAGE : 0,
		.grpid = d0 >> VTD2_PRGI_SHIFT,
		.perm = d1 & (PCIE_PRI_READ | PCIE_PRI_WRITE),
	};

	if (likely(d0 & VTD2_PRQ_PASID_PRESENT)) {
		fault.flags |= UIOPF_FAULT_PASID_VALID | UIOPF_FAULT_NEEDS_PASID;
		fault.pasid = d0 >> VTD2_PRQ_PASID_SHIFT & 0xfffff;
	}
	fault.perm |= d1 & VTD2_PRQ_EXECUTE ? IOMMU_PGFAULT_PERM_EXEC : 0;
	fault.perm |= d1 & VTD2_PRQ_PRIVILEGED ? IOMMU_PGFAULT_PERM_PRIV : 0;
	return fault;
}

/* What the answer is to bring back. One that is last gets a group response, whatever else it asked for. */
hot_inline struct uiopf_private_data brought(uint64_t d0, uint64_t d1)
{
	const bool streams = (d0 & (VTD2_PRQ_LAST | VTD2_PRQ_STREAM)) == VTD2_PRQ_STREAM;

	return (struct uiopf_private_data){
		.word = { PRIVATE(d0) }, .page = streams ? d1 & PCIE_PRI_ADDRESS : 0, .there = true, .streams = streams,
	};
}

static uint32_t requester_of(uint64_t d0, uint64_t d1)
{
	return (d0 >> VTD2_PRQ_BUS_SHIFT & 0xff) << 8 | (d1 >> VTD2_DEVFN_SHIFT & 0xff);
}

/* Linux's codes were PCIe's then. */
hot_inline void give_response(struct uiopf_model *m, enum uiopf_side side, uint32_t requester_id, uint32_t flags,
			      uint32_t pasid, uint32_t grpid, uint32_t code, const struct uiopf_private_data *data)
{
	const uint64_t back = data->word[0] << VTD2_PRIVATE_SHIFT | (uint64_t)grpid << VTD2_PRGI_SHIFT;
	const uint64_t said = code == UIOPF_RESP_FAILURE ? PCIE_PRG_FAILURE : code;
	const bool has_pasid = flags & UIOPF_FAULT_PASID_VALID;
	uint64_t word0, word1;

	if (unlikely(data->streams)) {
		word0 = VTD2_PSTRM_TYPE | (uint64_t)(has_pasid ? pasid : 0) << VTD2_PRQ_PASID_SHIFT |
			(uint64_t)(requester_id >> 8) << VTD2_PRQ_BUS_SHIFT | back;
		word1 = said | (uint64_t)(requester_id & 0xff) << VTD2_DEVFN_SHIFT | data->page;
	} else {
		word0 = VTD_PGRP_TYPE | (uint64_t)requester_id << VTD_PGRP_RID_SHIFT;
		if (has_pasid)
			word0 |= VTD_PGRP_PASID_PRESENT | (uint64_t)pasid << VTD_PGRP_PASID_SHIFT;
		word1 = said | back;
	}
	uiopf_commands_give(&m->commands[side], VTD2_IQ_WORDS, word0, word1);
}

static void respond_privately(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
			      uint32_t grpid, uint32_t code, const struct uiopf_private_data *data)
{
	give_response(uiopf_model_of(device), side, device->requester_id, flags, pasid, grpid, code, data);
}

/* Of what was reported in no request of this IOMMU's: there is nothing to bring back. */
static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	const struct uiopf_private_data none = { .there = true };

	respond_privately(device, side, flags, pasid, grpid, code, &none);
}

void uiopf_vtd_2_note(struct uiopf_vtd *v, uint32_t slot, uint64_t word0, uint64_t word1)
{
	const struct uiopf_fault fault = decode(word0, word1);

	uiopf_model_note(&v->model, slot, requester_of(word0, word1), &fault);
}

static bool is_stop_marker(uint64_t d0, uint64_t d1)
{
	return (d0 & (VTD2_PRQ_LAST | VTD2_PRQ_PASID_PRESENT)) == (VTD2_PRQ_LAST | VTD2_PRQ_PASID_PRESENT) &&
	       !(d1 & (VTD2_PRQ_READ | VTD2_PRQ_WRITE | VTD2_PRQ_EXECUTE | VTD2_PRQ_PRIVILEGED));
}

/* Nearly all requests: nothing in them can be refused, and they are no stop marker. */
static bool is_ordinary(uint64_t d0, uint64_t d1)
{
	return d0 & VTD2_PRQ_PASID_PRESENT && d1 & (VTD2_PRQ_READ | VTD2_PRQ_WRITE) && uiopf_vtd_is_canonical(d1);
}

/*
 * Of a request that is not ordinary, or of which nobody knows the function: whether it goes on to the generic layer. An
 * answer has what ends a group, and what is one of a stream.
 */
static __attribute__((noinline)) bool is_worth_reporting(struct uiopf_model *m, const struct uiopf_device *device,
							 uint64_t d0, uint64_t d1)
{
	const uint32_t requester_id = requester_of(d0, d1);
	const struct uiopf_refusals count = uiopf_model_refusals(m, requester_id);
	const struct uiopf_private_data data = brought(d0, d1);
	const struct uiopf_fault fault = decode(d0, d1);
	const bool has_pasid = d0 & VTD2_PRQ_PASID_PRESENT;

	if (is_stop_marker(d0, d1))
		return false;
	if (has_pasid && uiopf_vtd_is_canonical(d1) && device)
		return true;
	if (d0 & (VTD2_PRQ_LAST | VTD2_PRQ_STREAM)) {
		give_response(m, UIOPF_PRODUCER, requester_id, fault.flags, fault.pasid, fault.grpid,
			      has_pasid ? UIOPF_RESP_INVALID : UIOPF_RESP_FAILURE, &data);
		uiopf_model_answered_partial(m, requester_id, fault.grpid);
		++*count.refused;
	} else {
		++*count.passed_over;
	}
	return false;
}

static bool raised(const struct uiopf_model *m)
{
	return container_of(m, const struct uiopf_vtd, model)->prq_status;
}

static uint32_t interrupt(struct uiopf_model *m)
{
	struct uiopf_vtd *v = uiopf_vtd_of(m);
	const uint32_t n = uiopf_records_ready(&v->prq), head = v->prq.head;
	uint32_t i;

	v->prq_status &= ~(uint32_t)VTD_PRS_PPR;
	for (i = 0; i < n; i++) {
		const uint64_t *d = uiopf_records_at(v->prq.places, VTD2_PRQ_WORDS, head + i), d0 = d[0], d1 = d[1];
		struct uiopf_device *device = uiopf_model_device(m, requester_of(d0, d1));
		const struct uiopf_private_data data = brought(d0, d1);
		struct uiopf_fault fault = decode(d0, d1);

		if (unlikely(!device || !is_ordinary(d0, d1)) && !is_worth_reporting(m, device, d0, d1))
			continue;
		if (d0 & (VTD2_PRQ_LAST | VTD2_PRQ_STREAM))
			fault.flags |= UIOPF_FAULT_LAST_PAGE | UIOPF_FAULT_PRIV_DATA;
		uiopf_model_report_with(m, (head + i) % VTD2_PRQ_ENTRIES, device, &fault, &data);
	}
	uiopf_records_done(&v->prq, n);
	if (unlikely(v->prq_status & VTD_PRS_PRO)) {
		if (uiopf_model_answers_dropped(m))
			uiopf_model_pass_over_partial(m);
		else
			uiopf_model_drop_partial(m);
		v->prq_status &= ~(uint32_t)VTD_PRS_PRO;
	}
	uiopf_model_kick(m, UIOPF_PRODUCER);	/* what was refused has been answered */
	return n;
}

static int read_register(const struct uiopf_model *m, uint32_t offset, uint64_t *value)
{
	return uiopf_vtd_read_register(container_of(m, const struct uiopf_vtd, model), offset, VTD2_PRQ_ENTRIES,
				       8 * VTD2_PRQ_WORDS, value);
}

/* Requests that the interrupt has not read. */
static uint64_t unreported(const struct uiopf_model *m, const struct uiopf_device *device)
{
	const struct uiopf_vtd *v = container_of(m, const struct uiopf_vtd, model);
	uint64_t requests = 0;
	uint32_t i;

	for (i = v->prq.head; i != v->prq.written; i++) {
		const uint64_t *d = uiopf_records_at(v->prq.places, VTD2_PRQ_WORDS, i);

		requests += requester_of(d[0], d[1]) == device->requester_id && !is_stop_marker(d[0], d[1]);
	}
	return requests;
}

static const struct uiopf_records *queue(const struct uiopf_model *m, uint32_t n)
{
	return n ? NULL : &container_of(m, const struct uiopf_vtd, model)->prq;
}

/* ---- set-up ---- */

static int open_vtd_2(struct uiopf_model *m)
{
	return uiopf_records_open(&uiopf_vtd_of(m)->prq, VTD2_PRQ_ENTRIES, VTD2_PRQ_WORDS);
}

static void close_vtd_2(struct uiopf_model *m)
{
	uiopf_records_close(&uiopf_vtd_of(m)->prq);
}

const struct uiopf_model_ops uiopf_model_vtd_2 = {
	.name = "vtd-2",
	.size = sizeof(struct uiopf_vtd),
	.slots = VTD2_PRQ_ENTRIES,
	.commands = true,
	.command_words = VTD2_IQ_WORDS,
	.prefix = UIOPF_PREFIX,
	.private_bits = VTD2_PRIVATE_BITS,
	.streams = true,
	.open = open_vtd_2,
	.close = close_vtd_2,
	.endpoint_turn = endpoint_turn,
	.request = request,
	.execute = execute,
	.answer = answer,
	.read = read_register,
	.raised = raised,
	.queue = queue,
	.interrupt = interrupt,
	.respond = respond,
	.respond_privately = respond_privately,
	.unreported = unreported,
};
