#include "hardware/iommu/amd.h"

#include <errno.h>
#include <stdlib.h>

#include "hardware/iommu/invalidate.h"
#include "hardware/iommu/model_path.h"

/* ---- hardware ---- */

/* A function behind it asks for neither execution nor privilege: Linux enables neither in its PASID capability. */
hot_inline void to_queue(void *above, struct uiopf_page_request request)
{
	request.execute = request.privileged = false;
	uiopf_amd_page_request(above, request);
}

static uint32_t endpoint_turn(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	return uiopf_endpoint_turn(endpoint, to_queue, uiopf_amd_of(m));
}

static void request(struct uiopf_model *m, struct uiopf_page_request request)
{
	uiopf_amd_page_request(uiopf_amd_of(m), request);
}

static void answer(struct uiopf_model *m, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now)
{
	uiopf_endpoint_response(endpoint, index, code, now, to_queue, uiopf_amd_of(m));
}

hot_inline struct uiopf_answer decode_answer(const uint64_t *d)
{
	return (struct uiopf_answer){
		.requester_id = d[0] & 0xffff,
		.index = d[1] >> AMD_CMD_TAG_SHIFT & 0x1ff,
		.code = d[1] >> AMD_CMD_STATUS_SHIFT & 0xf,
	};
}

hot_inline struct uiopf_answer decode_answer_or_other(const uint64_t *d)
{
	return d[0] >> AMD_CMD_OPCODE_SHIFT == AMD_CMD_COMPLETE_PPR >> AMD_CMD_OPCODE_SHIFT ? decode_answer(d) : UIOPF_NO_ANSWER;
}

/*
 * With GN, a guest's addresses under a PASID. Without, those of stage 2; what is kept through both stages is not kept by
 * that address, so all of the domain goes.
 */
static void invalidate_pages(const struct uiopf_port *port, const uint64_t *d)
{
	const uint32_t domain = d[0] >> AMD_CMD_DOMAIN_SHIFT & 0xffff;
	const struct uiopf_range range = uiopf_ats_range(d[1], d[1] & AMD_CMD_S);

	if (d[1] & AMD_CMD_GN) {
		uiopf_invalidate(port, domain, d[0] & 0xfffff, range);
		return;
	}
	uiopf_invalidate(port, domain, UIOPF_ANY_TAG, UIOPF_ALL_ADDRESSES);
	uiopf_invalidate_second(port, domain, range);
}

static bool other_command(struct uiopf_model *m, const uint64_t *d)
{
	const uint32_t device_id = d[0] & 0xffff;
	const uint32_t pasid = (d[0] >> AMD_IOTLB_PASID_HIGH_SHIFT & 0xff) << 8 | (d[0] >> AMD_IOTLB_PASID_LOW_SHIFT & 0xff);

	switch (d[0] >> AMD_CMD_OPCODE_SHIFT) {
	case AMD_CMD_COMPLETION_WAIT:
		m->completed++;
		break;
	case AMD_CMD_INVALIDATE_DEVTAB_ENTRY:
		uiopf_invalidate_contexts(&m->port, device_id, UIOPF_ANY_DOMAIN, UIOPF_ANY_PASID);
		break;
	case AMD_CMD_INVALIDATE_IOMMU_PAGES:
		invalidate_pages(&m->port, d);
		break;
	case AMD_CMD_INVALIDATE_IOTLB_PAGES:
		uiopf_invalidate_device(&m->port, device_id, d[1] & AMD_CMD_GN ? pasid : UIOPF_ANY_PASID,
					uiopf_ats_range(d[1], d[1] & AMD_CMD_S));
		break;
	case AMD_CMD_INVALIDATE_IOMMU_ALL:
		uiopf_invalidate(&m->port, UIOPF_ANY_DOMAIN, UIOPF_ANY_TAG, UIOPF_ALL_ADDRESSES);
		uiopf_invalidate_second(&m->port, UIOPF_ANY_DOMAIN, UIOPF_ALL_ADDRESSES);
		uiopf_invalidate_contexts(&m->port, UIOPF_ANY_REQUESTER, UIOPF_ANY_DOMAIN, UIOPF_ANY_PASID);
		break;
	}
	return true;
}

/* While software's own commands are in the queue. Without them, all that is there is an answer. */
static __attribute__((noinline)) uint32_t execute_others(struct uiopf_model *m)
{
	const uint32_t n = uiopf_model_carry_out_all(m, AMD_CMD_WORDS, decode_answer_or_other, NULL, other_command, to_queue,
						     uiopf_amd_of(m));

	uiopf_model_end_others(m);
	return n;
}

static uint32_t execute(struct uiopf_model *m)
{
	if (unlikely(m->others))
		return execute_others(m);
	return uiopf_model_carry_out(m, AMD_CMD_WORDS, decode_answer, to_queue, uiopf_amd_of(m));
}

/* Entries that the log holds: one place stays free, or head and tail would be the same. */
static uint32_t capacity(const struct uiopf_amd *a)
{
	return a->log.places.mask;
}

static uint32_t threshold(const struct uiopf_amd *a)
{
	return a->early & AMD_EARLY_ENABLE ? a->early & 0x7fff : UINT32_MAX;
}

static void set_room(struct uiopf_amd *a)
{
	const uint32_t early = threshold(a);

	a->room = !(a->status & AMD_STATUS_PPR_RUN) ? 0 : early < capacity(a) ? early : capacity(a);
}

static bool is_on(uint64_t control)
{
	return (control & (AMD_CONTROL_PPR | AMD_CONTROL_PPR_LOG)) == (AMD_CONTROL_PPR | AMD_CONTROL_PPR_LOG);
}

/* Logging begins when it is switched on, unless an overflow has not been cleared. */
static void set_control(struct uiopf_amd *a, uint64_t control)
{
	if (!is_on(control))
		a->status &= ~(uint64_t)AMD_STATUS_PPR_RUN;
	else if (!is_on(a->control) && !(a->status & AMD_STATUS_PPR_OVERFLOW))
		a->status |= AMD_STATUS_PPR_RUN;
	a->control = control;
	set_room(a);
}

/*
 * The IOMMU answers a group whose earlier requests may be in the log, or with the generic layer. The driver does not know,
 * and keeps them. Without memory to note that, it is not answered.
 */
static bool note_answered(struct uiopf_amd *a, struct uiopf_page_request request)
{
	const struct uiopf_amd_answered one = {
		.at = a->log.written,
		.requester_id = request.requester_id,
		.index = request.message >> PCIE_PRI_PRGI_SHIFT & (PCIE_PRI_PRGI_COUNT - 1),
	};
	uint32_t i;

	if (!a->model.source[one.requester_id].last)
		return true;		/* no driver keeps anything of it */
	if (one.at == a->log.head) {
		uiopf_model_answered_partial(&a->model, one.requester_id, one.index);
		return true;
	}
	for (i = a->answered_count; i-- && a->answered[i].at == one.at;)
		if (a->answered[i].requester_id == one.requester_id && a->answered[i].index == one.index)
			return true;
	if (a->answered_count == a->answered_capacity) {
		const uint32_t capacity = a->answered_capacity ? 2 * a->answered_capacity : 64;
		struct uiopf_amd_answered *more = reallocarray(a->answered, capacity, sizeof *more);

		if (!more) {
			a->model.own_lost++;
			return false;
		}
		a->answered = more;
		a->answered_capacity = capacity;
	}
	a->answered[a->answered_count++] = one;
	return true;
}

bool uiopf_amd_takes(struct uiopf_amd *a, struct uiopf_page_request request)
{
	const bool runs = a->status & AMD_STATUS_PPR_RUN, answers = a->control & AMD_CONTROL_AUTO_RESPONSE;
	const uint32_t entries = a->log.written - a->log.head;

	if (uiopf_is_stop_marker(request))
		return false;
	if (runs && entries >= threshold(a))
		a->status |= AMD_STATUS_PPR_EARLY;
	if (answers && is_on(a->control)) {
		if (!(request.message & PCIE_PRI_LAST))
			uiopf_model_answer_with_last(&a->model, request);
		else if (note_answered(a, request))
			uiopf_model_answer(&a->model, request, a->auto_response & 0xf);
		return false;
	}
	if (runs && entries < capacity(a))
		return true;
	if (runs) {
		a->status = (a->status | AMD_STATUS_PPR_OVERFLOW) & ~(uint64_t)AMD_STATUS_PPR_RUN;
		set_room(a);
	}
	if (!uiopf_model_answers_dropped(&a->model) || !(request.message & PCIE_PRI_LAST) || note_answered(a, request))
		uiopf_model_drop(&a->model, request);
	return false;
}

static uint64_t in_bytes(const struct uiopf_amd *a, uint32_t index)
{
	return (uint64_t)(index & a->log.places.mask) * AMD_PPR_WORDS * sizeof(uint64_t);
}

static int read_register(const struct uiopf_model *m, uint32_t offset, uint64_t *value)
{
	const struct uiopf_amd *a = container_of(m, const struct uiopf_amd, model);
	const bool large = m->flags & UIOPF_MODEL_LARGE_LOG;

	switch (offset) {
	case AMD_MMIO_CONTROL:
		*value = a->control;
		return 0;
	case AMD_MMIO_PPR_BASE:		/* its address is nobody's business here */
		*value = (uint64_t)(large ? AMD_PPR_SIZE_CODE_MOST : AMD_PPR_SIZE_CODE) << AMD_PPR_SIZE_SHIFT;
		return 0;
	case AMD_MMIO_STATUS:
		*value = a->status;
		return 0;
	case AMD_MMIO_PPR_HEAD:
		*value = in_bytes(a, a->log.head);
		return 0;
	case AMD_MMIO_PPR_TAIL:
		*value = in_bytes(a, a->log.written);
		return 0;
	case AMD_MMIO_AUTO_RESPONSE:
		*value = a->auto_response;
		return 0;
	case AMD_MMIO_PPR_EARLY:
		*value = a->early;
		return 0;
	}
	return -EINVAL;
}

#define AMD_CONTROL_KNOWN (AMD_CONTROL_PPR | AMD_CONTROL_PPR_LOG | AMD_CONTROL_PPR_INT | AMD_CONTROL_AUTO_RESPONSE)
#define AMD_STATUS_CLEARED (AMD_STATUS_PPR_OVERFLOW | AMD_STATUS_PPR_INT | AMD_STATUS_PPR_EARLY)

static int write_register(struct uiopf_model *m, uint32_t offset, uint64_t value)
{
	struct uiopf_amd *a = uiopf_amd_of(m);

	switch (offset) {
	case AMD_MMIO_CONTROL:
		set_control(a, value & AMD_CONTROL_KNOWN);
		return 0;
	case AMD_MMIO_STATUS:
		a->status &= ~(value & AMD_STATUS_CLEARED);
		return 0;
	case AMD_MMIO_AUTO_RESPONSE:
		a->auto_response = value & 0xf;
		return 0;
	case AMD_MMIO_PPR_EARLY:
		a->early = value & (AMD_EARLY_ENABLE | 0x7fff);
		set_room(a);
		return 0;
	case AMD_MMIO_PPR_BASE:
	case AMD_MMIO_PPR_HEAD:
	case AMD_MMIO_PPR_TAIL:
		return 0;		/* the driver's, which is in here, and the hardware's */
	}
	return -EINVAL;
}

static bool raised(const struct uiopf_model *m)
{
	const struct uiopf_amd *a = container_of(m, const struct uiopf_amd, model);

	return a->control & AMD_CONTROL_PPR_INT && a->status & (AMD_STATUS_PPR_INT | AMD_STATUS_PPR_OVERFLOW);
}

/* ---- driver ---- */

/* With its PASID, since every function here wants that (PRPR). Linux puts its own code into the field: FAILURE is 2. */
hot_inline void give_response(struct uiopf_model *m, enum uiopf_side side, uint32_t device_id, uint32_t pasid,
			      uint32_t grpid, uint32_t code)
{
	uiopf_commands_give(&m->commands[side], AMD_CMD_WORDS,
			    AMD_CMD_COMPLETE_PPR | (uint64_t)pasid << AMD_CMD_PASID_SHIFT | device_id,
			    (uint64_t)code << AMD_CMD_STATUS_SHIFT | (uint64_t)grpid << AMD_CMD_TAG_SHIFT | AMD_CMD_GN);
}

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	(void)flags;
	give_response(uiopf_model_of(device), side, device->requester_id, pasid, grpid, code);
}

hot_inline struct uiopf_fault decode(uint64_t d0, uint64_t d1)
{
	return (struct uiopf_fault){
		.addr = d1 & PCIE_PRI_ADDRESS,
		.flags = UIOPF_FAULT_PASID_VALID | UIOPF_FAULT_NEEDS_PASID |
			 (d0 >> AMD_PPR_LAST_SHIFT & 1) * UIOPF_FAULT_LAST_PAGE,
		.pasid = (d0 >> AMD_PPR_PASID_SHIFT & 0xffff) | (d0 >> AMD_PPR_PASID_TOP_SHIFT & 0xf) << 16,
		.grpid = d0 >> AMD_PPR_TAG_SHIFT & 0x1ff,
		.perm = (d0 >> AMD_PPR_READ_SHIFT & 1) * IOMMU_PGFAULT_PERM_READ |
			(d0 >> AMD_PPR_WRITE_SHIFT & 1) * IOMMU_PGFAULT_PERM_WRITE |
			(d0 >> AMD_PPR_EXECUTE_SHIFT & 1) * IOMMU_PGFAULT_PERM_EXEC |
			(~d0 >> AMD_PPR_USER_SHIFT & 1) * IOMMU_PGFAULT_PERM_PRIV,
	};
}

void uiopf_amd_note(struct uiopf_amd *a, uint32_t slot, uint64_t word0, uint64_t word1)
{
	const struct uiopf_fault fault = decode(word0, word1);

	uiopf_model_note(&a->model, slot, word0 & 0xffff, &fault);
}

/* What Linux reports: it has a valid PASID, and no reserved bit. */
static bool is_good(uint64_t d0, uint32_t pasid)
{
	return (d0 >> AMD_PPR_RESERVED_SHIFT & 3) == 2 && pasid - 1 < AMD_MAX_PASIDS - 1;
}
_Static_assert(AMD_PPR_GN_SHIFT == AMD_PPR_RESERVED_SHIFT + 1, "is_good() looks at both at once");

static bool is_request(uint64_t d0)
{
	return d0 >> AMD_PPR_TYPE_SHIFT == AMD_PPR_TYPE_FAULT;
}

/*
 * Of an entry that is not good, or of a function that is bound to no device: whether it goes on to the generic layer.
 * Where Linux finds no function it says nothing to anybody; where it finds one without a handler the generic layer
 * answers, each request.
 */
static __attribute__((noinline)) bool is_worth_reporting(struct uiopf_model *m, const struct uiopf_device *device,
							 uint64_t d0, uint64_t d1)
{
	const uint32_t device_id = d0 & 0xffff;
	const struct uiopf_refusals count = uiopf_model_refusals(m, device_id);
	const struct uiopf_fault fault = decode(d0, d1);
	const bool good = is_good(d0, fault.pasid);

	if (!is_request(d0) || (!device && !m->source[device_id].endpoint)) {
		++*count.passed_over;
		return false;
	}
	if (good && device)
		return true;
	give_response(m, UIOPF_PRODUCER, device_id, fault.pasid, fault.grpid,
		      good ? UIOPF_RESP_INVALID : UIOPF_RESP_FAILURE);
	uiopf_model_answered_partial(m, device_id, fault.grpid);
	++*count.refused;
	return false;
}

/*
 * Reports n entries. Linux also waits for an entry to be written, and clears it afterwards, against errata of the hardware.
 */
static void poll_log(struct uiopf_model *m, struct uiopf_records *log, uint32_t n)
{
	const uint32_t head = log->head;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const uint64_t *d = uiopf_records_at(log->places, AMD_PPR_WORDS, head + i), d0 = d[0], d1 = d[1];
		struct uiopf_device *device = uiopf_model_device(m, d0 & 0xffff);
		const struct uiopf_fault fault = decode(d0, d1);

		if (unlikely(!device || !is_request(d0) || !is_good(d0, fault.pasid)) &&
		    !is_worth_reporting(m, device, d0, d1))
			continue;
		uiopf_model_report(m, (head + i) & log->places.mask, device, &fault);
	}
	uiopf_records_done(log, n);
}

static uint32_t interrupt(struct uiopf_model *m)
{
	struct uiopf_amd *a = uiopf_amd_of(m);
	const uint64_t status = a->status;
	const uint32_t n = uiopf_records_ready(&a->log);
	uint32_t i;

	a->status &= ~(uint64_t)(AMD_STATUS_PPR_INT | AMD_STATUS_PPR_OVERFLOW);
	for (i = 0; unlikely(i < a->answered_count); i++) {	/* what was logged before each answer of the IOMMU's own */
		poll_log(m, &a->log, a->answered[i].at - a->log.head);
		uiopf_model_answered_partial(m, a->answered[i].requester_id, a->answered[i].index);
	}
	a->answered_count = 0;
	poll_log(m, &a->log, uiopf_records_ready(&a->log));
	if (unlikely(status & AMD_STATUS_PPR_OVERFLOW) && !(a->status & AMD_STATUS_PPR_RUN)) {
		const uint64_t control = a->control | AMD_CONTROL_PPR_LOG;

		set_control(a, control & ~(uint64_t)AMD_CONTROL_PPR_LOG);
		set_control(a, control);
	}
	uiopf_model_kick(m, UIOPF_PRODUCER);	/* what was refused has been answered */
	return n;
}

/* Requests that the interrupt has not read. */
static uint64_t unreported(const struct uiopf_model *m, const struct uiopf_device *device)
{
	const struct uiopf_amd *a = container_of(m, const struct uiopf_amd, model);
	uint64_t requests = 0;
	uint32_t i;

	for (i = a->log.head; i != a->log.written; i++)
		requests += (uiopf_records_at(a->log.places, AMD_PPR_WORDS, i)[0] & 0xffff) == device->requester_id;
	return requests;
}

static const struct uiopf_records *queue(const struct uiopf_model *m, uint32_t n)
{
	return n ? NULL : &container_of(m, const struct uiopf_amd, model)->log;
}

/* ---- set-up ---- */

static int open_amd(struct uiopf_model *m)
{
	struct uiopf_amd *a = uiopf_amd_of(m);
	const bool large = m->flags & UIOPF_MODEL_LARGE_LOG;
	const int rc = uiopf_records_open(&a->log, large ? AMD_PPR_ENTRIES_MOST : AMD_PPR_ENTRIES, AMD_PPR_WORDS);

	set_control(a, AMD_CONTROL_PPR | AMD_CONTROL_PPR_INT | AMD_CONTROL_PPR_LOG);
	return rc;
}

static void close_amd(struct uiopf_model *m)
{
	uiopf_records_close(&uiopf_amd_of(m)->log);
	free(uiopf_amd_of(m)->answered);
}

const struct uiopf_model_ops uiopf_model_amd = {
	.name = "amd",
	.size = sizeof(struct uiopf_amd),
	.slots = AMD_PPR_ENTRIES_MOST,
	.commands = true,
	.command_words = AMD_CMD_WORDS,
	.open = open_amd,
	.close = close_amd,
	.endpoint_turn = endpoint_turn,
	.request = request,
	.execute = execute,
	.answer = answer,
	.read = read_register,
	.write = write_register,
	.raised = raised,
	.queue = queue,
	.interrupt = interrupt,
	.respond = respond,
	.unreported = unreported,
};
