#include "hardware/iommu/riscv.h"

#include <errno.h>

#include "hardware/iommu/invalidate.h"
#include "hardware/iommu/model_path.h"

/* ---- hardware ---- */

hot_inline void to_queue(void *above, struct uiopf_page_request request)
{
	uiopf_riscv_page_request(above, request);
}

static uint32_t endpoint_turn(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	return uiopf_endpoint_turn(endpoint, to_queue, uiopf_riscv_of(m));
}

static void request(struct uiopf_model *m, struct uiopf_page_request request)
{
	uiopf_riscv_page_request(uiopf_riscv_of(m), request);
}

static void answer(struct uiopf_model *m, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now)
{
	uiopf_endpoint_response(endpoint, index, code, now, to_queue, uiopf_riscv_of(m));
}

hot_inline struct uiopf_answer decode_answer(const uint64_t *d)
{
	return (struct uiopf_answer){
		.requester_id = d[0] >> RISCV_PRGR_RID_SHIFT & 0xffff,
		.index = d[1] >> RISCV_PRGR_INDEX_SHIFT & 0x1ff,
		.code = d[1] >> RISCV_PRGR_CODE_SHIFT & 0xf,
	};
}

hot_inline struct uiopf_answer decode_answer_or_other(const uint64_t *d)
{
	return (d[0] & RISCV_CMD_WHICH) == RISCV_CMD_ATS_PRGR ? decode_answer(d) : UIOPF_NO_ANSWER;
}

static struct uiopf_range page_of(const uint64_t *d)
{
	return d[0] & RISCV_IOTINVAL_AV ? uiopf_aligned_range((d[1] & RISCV_IOTINVAL_ADDRESS) << 2, 12) : UIOPF_ALL_ADDRESSES;
}

/* Of stage 1: the host's spaces, that have no stage 2, or those of a guest. */
static void invalidate_first(const struct uiopf_port *port, const uint64_t *d)
{
	const uint32_t pscid = d[0] >> RISCV_IOTINVAL_PSCID_SHIFT & 0xfffff, gscid = d[0] >> RISCV_IOTINVAL_GSCID_SHIFT & 0xffff;

	uiopf_invalidate(port, d[0] & RISCV_IOTINVAL_GV ? UIOPF_GUEST | gscid : UIOPF_NO_GUEST,
			 d[0] & RISCV_IOTINVAL_PSCV ? pscid : UIOPF_ANY_TAG, page_of(d));
}

/*
 * Of stage 2. What is kept through both stages is not kept by that address, so all of the guest's goes, as the
 * specification says that many do. Without GV the address is not looked at; with PSCV it is illegal.
 */
static void invalidate_second(const struct uiopf_port *port, const uint64_t *d)
{
	const bool one = d[0] & RISCV_IOTINVAL_GV;
	const uint32_t guest = one ? UIOPF_GUEST | (d[0] >> RISCV_IOTINVAL_GSCID_SHIFT & 0xffff) : UIOPF_ANY_GUEST;

	if (d[0] & RISCV_IOTINVAL_PSCV)
		return;
	uiopf_invalidate(port, guest, UIOPF_ANY_TAG, UIOPF_ALL_ADDRESSES);
	uiopf_invalidate_second(port, guest, one ? page_of(d) : UIOPF_ALL_ADDRESSES);
}

/* What is kept of directories: of all functions, of one, or of a process of one. */
static void invalidate_directories(const struct uiopf_port *port, const uint64_t *d)
{
	const bool process = (d[0] & RISCV_CMD_WHICH) == RISCV_CMD_IODIR_PDT;
	const uint32_t device_id = (uint32_t)(d[0] >> RISCV_PQ_DID_SHIFT);

	if (d[0] & RISCV_IODIR_DV)
		uiopf_invalidate_contexts(port, device_id, UIOPF_ANY_DOMAIN,
					  process ? d[0] >> RISCV_PQ_PID_SHIFT & 0xfffff : UIOPF_ANY_PASID);
	else if (!process)
		uiopf_invalidate_contexts(port, UIOPF_ANY_REQUESTER, UIOPF_ANY_DOMAIN, UIOPF_ANY_PASID);
}

static bool other_command(struct uiopf_model *m, const uint64_t *d)
{
	const uint32_t pid = d[0] >> RISCV_PRGR_PID_SHIFT & 0xfffff;
	const bool one = d[0] & RISCV_PRGR_PV && !(d[1] & RISCV_ATS_INVAL_G);

	switch (d[0] & RISCV_CMD_WHICH) {
	case RISCV_CMD_IOTINVAL_VMA:
		invalidate_first(&m->port, d);
		break;
	case RISCV_CMD_IOTINVAL_GVMA:
		invalidate_second(&m->port, d);
		break;
	case RISCV_CMD_IOFENCE_C:
		m->completed++;
		break;
	case RISCV_CMD_IODIR_DDT:
	case RISCV_CMD_IODIR_PDT:
		invalidate_directories(&m->port, d);
		break;
	case RISCV_CMD_ATS_INVAL:
		uiopf_invalidate_device(&m->port, d[0] >> RISCV_PRGR_RID_SHIFT & 0xffff, one ? pid : UIOPF_ANY_PASID,
					uiopf_ats_range(d[1], d[1] & RISCV_ATS_INVAL_S));
		break;
	}
	return true;
}

/* While software's own commands are in the queue. Without them, all that is there is an answer. */
static __attribute__((noinline)) uint32_t execute_others(struct uiopf_model *m)
{
	const uint32_t n = uiopf_model_carry_out_all(m, RISCV_CMD_WORDS, decode_answer_or_other, NULL, other_command, to_queue,
						     uiopf_riscv_of(m));

	uiopf_model_end_others(m);
	return n;
}

static uint32_t execute(struct uiopf_model *m)
{
	if (unlikely(m->others))
		return execute_others(m);
	return uiopf_model_carry_out(m, RISCV_CMD_WORDS, decode_answer, to_queue, uiopf_riscv_of(m));
}

#define RISCV_PQCSR_ERRORS (RISCV_PQCSR_PQMF | RISCV_PQCSR_PQOF)

/* The registers have changed: one place of the queue stays free, or its head and tail would be the same. */
static void set_room(struct uiopf_riscv *r)
{
	const bool takes = r->pqcsr & RISCV_PQCSR_PQON && !(r->pqcsr & RISCV_PQCSR_ERRORS) && !r->faults;

	r->room = takes ? RISCV_PQ_ENTRIES - 1 : 0;
	r->pending = r->pqcsr & RISCV_PQCSR_PIE ? RISCV_IPSR_PIP : 0;
}

/* An error is what makes the interrupt pending as long as it is there, and not the moment at which it comes. */
static void pend_errors(struct uiopf_riscv *r)
{
	if (r->pqcsr & RISCV_PQCSR_ERRORS)
		r->ipsr |= r->pending;
}

static void set_error(struct uiopf_riscv *r, uint32_t error)
{
	r->pqcsr |= error;
	set_room(r);
	pend_errors(r);
}

void uiopf_riscv_discard(struct uiopf_riscv *r, struct uiopf_page_request request)
{
	const bool fails = r->model.flags & UIOPF_MODEL_DROPPED_FAILURE, was = r->pqcsr & RISCV_PQCSR_PQOF;
	uint32_t code = PCIE_PRG_FAILURE;
	bool overflow = false;

	if (r->pqcsr & RISCV_PQCSR_PQON && !(r->pqcsr & RISCV_PQCSR_PQMF)) {
		overflow = was || r->pq.written - r->pq.head >= RISCV_PQ_ENTRIES - 1;
		if (overflow) {
			code = fails ? PCIE_PRG_FAILURE : PCIE_PRG_SUCCESS;
			if (!was)
				set_error(r, RISCV_PQCSR_PQOF);
		} else {
			r->faults = false;
			set_error(r, RISCV_PQCSR_PQMF);
		}
	}
	if (uiopf_is_stop_marker(request))
		return;
	if (overflow && r->model.flags & UIOPF_MODEL_DROPPED_NOTHING) {
		uiopf_model_drop(&r->model, request);
		return;
	}
	if (request.message & PCIE_PRI_LAST)
		uiopf_model_answer(&r->model, request, code);
	else
		uiopf_model_answer_with_last(&r->model, request);
}

int uiopf_riscv_fault_queue(struct uiopf_model *m)
{
	struct uiopf_riscv *r = uiopf_riscv_of(m);

	if (m->ops != &uiopf_model_riscv)
		return -EOPNOTSUPP;
	uiopf_control_begin(m->iommu.core);
	r->faults = true;
	set_room(r);
	uiopf_control_end(m->iommu.core);
	return 0;
}

static int read_register(const struct uiopf_model *m, uint32_t offset, uint64_t *value)
{
	const struct uiopf_riscv *r = container_of(m, const struct uiopf_riscv, model);

	switch (offset) {
	case RISCV_MMIO_PQB:		/* its address is nobody's business here */
		*value = 31 - __builtin_clz(RISCV_PQ_ENTRIES) - 1;
		return 0;
	case RISCV_MMIO_PQH:
		*value = r->pq.head % RISCV_PQ_ENTRIES;
		return 0;
	case RISCV_MMIO_PQT:
		*value = r->pq.written % RISCV_PQ_ENTRIES;
		return 0;
	case RISCV_MMIO_PQCSR:
		*value = r->pqcsr;
		return 0;
	case RISCV_MMIO_IPSR:
		*value = r->ipsr;
		return 0;
	}
	return -EINVAL;
}

/*
 * Switched on, the tail and the errors are cleared, and the driver has set the head to 0 before. What was in the queue is
 * what a driver must have processed: ours does, at the moment that it is switched off.
 */
static void write_pqcsr(struct uiopf_riscv *r, uint32_t value)
{
	const uint32_t was = r->pqcsr;

	r->pqcsr = (was & RISCV_PQCSR_ERRORS & ~value) | (value & (RISCV_PQCSR_PQEN | RISCV_PQCSR_PIE));
	if (value & RISCV_PQCSR_PQEN) {
		r->pqcsr |= RISCV_PQCSR_PQON;
		if (!(was & RISCV_PQCSR_PQEN)) {
			r->pqcsr &= ~(uint32_t)RISCV_PQCSR_ERRORS;
			r->pq.written = r->pq.tail = r->pq.head = 0;
		}
	}
	set_room(r);
	pend_errors(r);
}

static uint32_t interrupt(struct uiopf_model *m);

static int write_register(struct uiopf_model *m, uint32_t offset, uint64_t value)
{
	struct uiopf_riscv *r = uiopf_riscv_of(m);

	switch (offset) {
	case RISCV_MMIO_PQCSR:
		if (r->pqcsr & RISCV_PQCSR_PQEN && !(value & RISCV_PQCSR_PQEN)) {
			interrupt(m);
			uiopf_model_pass_over_partial(m);	/* the last of what is incomplete will be answered by the IOMMU */
		}
		write_pqcsr(r, (uint32_t)value);
		return 0;
	case RISCV_MMIO_IPSR:
		r->ipsr &= ~((uint32_t)value & RISCV_IPSR_PIP);
		pend_errors(r);
		return 0;
	case RISCV_MMIO_PQB:
	case RISCV_MMIO_PQH:
	case RISCV_MMIO_PQT:
		return 0;		/* the driver's, which is in here, and the hardware's */
	}
	return -EINVAL;
}

static bool raised(const struct uiopf_model *m)
{
	return container_of(m, const struct uiopf_riscv, model)->ipsr & RISCV_IPSR_PIP;
}

/* ---- driver ---- */

/* The command has PCIe's codes: of the generic layer's, FAILURE is another number. */
hot_inline void give_response(struct uiopf_model *m, enum uiopf_side side, uint32_t requester_id, uint32_t flags,
			      uint32_t pasid, uint32_t grpid, uint32_t code)
{
	uint64_t word0 = RISCV_CMD_ATS_PRGR | (uint64_t)requester_id << RISCV_PRGR_RID_SHIFT;

	if (flags & UIOPF_FAULT_PASID_VALID)
		word0 |= RISCV_PRGR_PV | (uint64_t)pasid << RISCV_PRGR_PID_SHIFT;
	if (unlikely(code == UIOPF_RESP_FAILURE))
		code = PCIE_PRG_FAILURE;
	uiopf_commands_give(&m->commands[side], RISCV_CMD_WORDS, word0,
			    (uint64_t)code << RISCV_PRGR_CODE_SHIFT | (uint64_t)grpid << RISCV_PRGR_INDEX_SHIFT);
}

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	give_response(uiopf_model_of(device), side, device->requester_id, flags, pasid, grpid, code);
}

hot_inline struct uiopf_fault decode(uint64_t d0, uint64_t d1)
{
	struct uiopf_fault fault = {
		.addr = d1 & PCIE_PRI_ADDRESS,
		.flags = d1 & PCIE_PRI_LAST ? UIOPF_FAULT_LAST_PAGE : 0,
		.grpid = d1 >> PCIE_PRI_PRGI_SHIFT & 0x1ff,
		.perm = d1 & (PCIE_PRI_READ | PCIE_PRI_WRITE),
	};

	if (likely(d0 & RISCV_PQ_PV)) {
		fault.flags |= UIOPF_FAULT_PASID_VALID;
		fault.pasid = d0 >> RISCV_PQ_PID_SHIFT & 0xfffff;
		if (unlikely(d0 & (RISCV_PQ_EXEC | RISCV_PQ_PRIV))) {
			fault.perm |= d0 & RISCV_PQ_EXEC ? IOMMU_PGFAULT_PERM_EXEC : 0;
			fault.perm |= d0 & RISCV_PQ_PRIV ? IOMMU_PGFAULT_PERM_PRIV : 0;
		}
	}
	return fault;
}

static uint32_t requester_of(uint64_t d0)
{
	return d0 >> RISCV_PQ_DID_SHIFT & 0xffff;	/* above it: the segment, of which there is one */
}

void uiopf_riscv_note(struct uiopf_riscv *r, uint32_t slot, uint64_t source, uint64_t message)
{
	const struct uiopf_fault fault = decode(source, message);

	uiopf_model_note(&r->model, slot, requester_of(source), &fault);
}

static bool is_stop_marker(uint64_t d0, uint64_t d1)
{
	return (d0 & (RISCV_PQ_PV | RISCV_PQ_EXEC | RISCV_PQ_PRIV)) == RISCV_PQ_PV &&
	       (d1 & (PCIE_PRI_LAST | PCIE_PRI_READ | PCIE_PRI_WRITE)) == PCIE_PRI_LAST;
}

/* Of a record that may be a stop marker, or of a function that is bound to no device: whether it is reported. */
static __attribute__((noinline)) bool is_worth_reporting(struct uiopf_model *m, const struct uiopf_device *device,
							 uint64_t d0, uint64_t d1)
{
	const struct uiopf_refusals count = uiopf_model_refusals(m, requester_of(d0));
	const struct uiopf_fault fault = decode(d0, d1);

	if (is_stop_marker(d0, d1))
		return false;
	if (device)
		return true;
	if (fault.flags & UIOPF_FAULT_LAST_PAGE) {
		give_response(m, UIOPF_PRODUCER, requester_of(d0), fault.flags, fault.pasid, fault.grpid,
			      UIOPF_RESP_INVALID);
		uiopf_model_answered_partial(m, requester_of(d0), fault.grpid);
		++*count.refused;
	} else {
		++*count.passed_over;
	}
	return false;
}

static uint32_t interrupt(struct uiopf_model *m)
{
	struct uiopf_riscv *r = uiopf_riscv_of(m);
	const uint32_t n = uiopf_records_ready(&r->pq), head = r->pq.head, errors = r->pqcsr & RISCV_PQCSR_ERRORS;
	uint32_t i;

	r->ipsr &= ~(uint32_t)RISCV_IPSR_PIP;
	for (i = 0; i < n; i++) {
		const uint64_t *d = uiopf_records_at(r->pq.places, RISCV_PQ_WORDS, head + i), d0 = d[0], d1 = d[1];
		struct uiopf_device *device = uiopf_model_device(m, requester_of(d0));
		const struct uiopf_fault fault = decode(d0, d1);

		if (unlikely(!device || !(d1 & (PCIE_PRI_READ | PCIE_PRI_WRITE))) && !is_worth_reporting(m, device, d0, d1))
			continue;
		uiopf_model_report(m, (head + i) % RISCV_PQ_ENTRIES, device, &fault);
	}
	uiopf_records_done(&r->pq, n);
	if (unlikely(errors)) {
		/* Nothing came meanwhile (hardware and driver take turns): what is incomplete has its answer. */
		uiopf_model_pass_over_partial(m);
		r->pqcsr &= ~errors;
		set_room(r);
	}
	uiopf_model_kick(m, UIOPF_PRODUCER);	/* what was refused has been answered */
	return n;
}

/* Requests that the interrupt has not read. */
static uint64_t unreported(const struct uiopf_model *m, const struct uiopf_device *device)
{
	const struct uiopf_riscv *r = container_of(m, const struct uiopf_riscv, model);
	uint64_t requests = 0;
	uint32_t i;

	for (i = r->pq.head; i != r->pq.written; i++) {
		const uint64_t *d = uiopf_records_at(r->pq.places, RISCV_PQ_WORDS, i);

		requests += requester_of(d[0]) == device->requester_id && !is_stop_marker(d[0], d[1]);
	}
	return requests;
}

static const struct uiopf_records *queue(const struct uiopf_model *m, uint32_t n)
{
	return n ? NULL : &container_of(m, const struct uiopf_riscv, model)->pq;
}

/* ---- set-up ---- */

static int open_riscv(struct uiopf_model *m)
{
	struct uiopf_riscv *r = uiopf_riscv_of(m);
	const int rc = uiopf_records_open(&r->pq, RISCV_PQ_ENTRIES, RISCV_PQ_WORDS);

	write_pqcsr(r, RISCV_PQCSR_PQEN | RISCV_PQCSR_PIE);
	return rc;
}

static void close_riscv(struct uiopf_model *m)
{
	uiopf_records_close(&uiopf_riscv_of(m)->pq);
}

const struct uiopf_model_ops uiopf_model_riscv = {
	.name = "riscv",
	.size = sizeof(struct uiopf_riscv),
	.slots = RISCV_PQ_ENTRIES,
	.commands = true,
	.command_words = RISCV_CMD_WORDS,
	.prefix = UIOPF_PREFIX,
	.open = open_riscv,
	.close = close_riscv,
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
