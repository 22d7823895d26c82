#include "hardware/iommu/device_log.h"

#include <errno.h>
#include <stdlib.h>

#include "hardware/iommu/model_path.h"

/* ---- hardware ---- */

static void note(struct uiopf_device_log *l, uint32_t at);

/* What a descriptor had done when it came to this address. Those of a load are of one page. */
hot_inline uint64_t bytes_done(const struct uiopf_endpoint *ep, uint32_t place, uint64_t address)
{
	return ep->prg[place].kind == UIOPF_PRG_MANUAL ? address - ep->manual[ep->manual_of[place]].address : 0;
}

/* A page of a descriptor is missing. */
hot_inline void to_log(void *above, struct uiopf_page_request request)
{
	struct uiopf_device_log *l = above;
	struct uiopf_reporting *r = &l->reporting;
	struct uiopf_records *log = &r->queue;
	const struct uiopf_source *source = &r->model.source[request.requester_id];
	const uint32_t place = request.message >> PCIE_PRI_PRGI_SHIFT & (PCIE_PRI_PRGI_COUNT - 1);
	const uint64_t wq = uiopf_reporting_number(r, (uint16_t)request.requester_id);
	const bool writes = request.message & PCIE_PRI_WRITE;
	uint64_t entry[IDXD_EVL_WORDS], *d;

	entry[0] = IDXD_EVL_DESC_VALID | IDXD_EVL_WQ_VALID | IDXD_EVL_WRITE | IDXD_EVL_ERR_INFO_VALID |
		   IDXD_COMP_CRA_XLAT << IDXD_EVL_ERROR_SHIFT | wq << IDXD_EVL_WQ_SHIFT |
		   (writes ? IDXD_OPCODE_MEMFILL : IDXD_OPCODE_COMPVAL) << IDXD_EVL_OPERATION_SHIFT |
		   (uint64_t)request.pasid << IDXD_EVL_PASID_SHIFT;
	entry[1] = IDXD_EVL_RCR;
	entry[2] = IDXD_RECORDS | (uint64_t)request.requester_id << IDXD_RECORD_RID_SHIFT | wq << IDXD_RECORD_WQ_SHIFT |
		   place << IDXD_RECORD_SHIFT;
	entry[4] = IDXD_COMP_PAGE_FAULT | (writes ? IDXD_COMP_WRITE : 0) |
		   bytes_done(source->endpoint, place, request.address) << IDXD_COMP_BYTES_SHIFT;
	entry[5] = request.address;
	entry[3] = entry[6] = entry[7] = 0;
	source->endpoint->page[place] = request.address;	/* should it ask again */
	if (unlikely(log->written - log->head >= log->places.mask || r->disabled || !source->device)) {
		uiopf_reporting_keep(r, request, entry);
		return;
	}
	d = uiopf_records_at(log->places, IDXD_EVL_WORDS, log->written);
	d[0] = entry[0];
	d[1] = entry[1];
	d[2] = entry[2];
	d[4] = entry[4];
	d[5] = entry[5];	/* the others are reserved, or say nothing of a page fault, and are 0 since the log was opened */
	if (unlikely(r->model.sent_under != NULL))
		note(l, log->written);
	uiopf_records_put(log);
	uiopf_records_show(log);
	l->pending = true;
}

static uint32_t endpoint_turn(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	return uiopf_endpoint_turn(endpoint, to_log, uiopf_device_log_of(m));
}

static void answer(struct uiopf_model *m, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now)
{
	uiopf_endpoint_response(endpoint, index, code, now, to_log, uiopf_device_log_of(m));
}

/*
 * A record is written: its submitter sends the rest of its descriptor, or ends. Until the status is there, the record is
 * not; what is written elsewhere is no record.
 */
hot_inline struct uiopf_answer decode_answer(const uint64_t *d)
{
	const uint64_t address = d[0], status = d[1] & IDXD_STATUS;

	if (unlikely((address ^ IDXD_RECORDS) >> IDXD_RECORD_BITS || address & ((1 << IDXD_RECORD_SHIFT) - 1) || !status))
		return (struct uiopf_answer){ .requester_id = UIOPF_NOBODY };
	return (struct uiopf_answer){
		.requester_id = address >> IDXD_RECORD_RID_SHIFT & 0xffff,
		.index = address >> IDXD_RECORD_SHIFT & (PCIE_PRI_PRGI_COUNT - 1),
		.code = status == IDXD_COMP_PAGE_FAULT ? PCIE_PRG_SUCCESS : PCIE_PRG_INVALID,
	};
}

static uint32_t execute(struct uiopf_model *m)
{
	return uiopf_model_carry_out(m, IDXD_WRITE_WORDS, decode_answer, to_log, uiopf_device_log_of(m));
}

static int read_register(const struct uiopf_model *m, uint32_t offset, uint64_t *value)
{
	const struct uiopf_device_log *l = container_of(m, const struct uiopf_device_log, reporting.model);
	const struct uiopf_records *log = &l->reporting.queue;

	switch (offset) {
	case IDXD_MMIO_GENCAP:
		*value = IDXD_GENCAP_EVL;
		return 0;
	case IDXD_MMIO_GENCFG:
		*value = l->reporting.disabled ? 0 : IDXD_GENCFG_EVL_EN;
		return 0;
	case IDXD_MMIO_GENCTRL:
		*value = l->interrupts ? IDXD_GENCTRL_EVL_INT_EN : 0;
		return 0;
	case IDXD_MMIO_EVLCFG:		/* its address is nobody's business here */
		*value = 0;
		return 0;
	case IDXD_MMIO_EVLCFG_SIZE:
		*value = log->places.mask + 1;
		return 0;
	case IDXD_MMIO_EVLSTATUS:
		*value = (log->head & log->places.mask) |
			 (uint64_t)(log->written & log->places.mask) << IDXD_EVLSTATUS_TAIL_SHIFT |
			 (l->pending ? IDXD_EVLSTATUS_INT_PENDING : 0);
		return 0;
	}
	return -EINVAL;
}

/* The head is the driver's, and not written here: entries would be lost. */
static int write_register(struct uiopf_model *m, uint32_t offset, uint64_t value)
{
	struct uiopf_device_log *l = uiopf_device_log_of(m);

	switch (offset) {
	case IDXD_MMIO_GENCFG:
		l->reporting.disabled = !(value & IDXD_GENCFG_EVL_EN);
		return 0;
	case IDXD_MMIO_GENCTRL:
		l->interrupts = value & IDXD_GENCTRL_EVL_INT_EN;
		return 0;
	case IDXD_MMIO_EVLSTATUS:
		if (value & IDXD_EVLSTATUS_INT_PENDING)
			l->pending = false;
		return 0;
	}
	return -EINVAL;
}

static bool raised(const struct uiopf_model *m)
{
	const struct uiopf_device_log *l = container_of(m, const struct uiopf_device_log, reporting.model);

	return l->pending && l->interrupts;
}

/* ---- driver ---- */

/* By which a group is known: the address of its record, as far as it is not the same for all. */
hot_inline uint32_t group_of(uint64_t record_address)
{
	return (record_address & ((1ull << IDXD_RECORD_BITS) - 1)) >> IDXD_RECORD_SHIFT;
}

/* The driver's copy of a record; its work queue and place are the low bits of the group. */
hot_inline struct uiopf_record *copy_of(struct uiopf_device_log *l, uint32_t grpid)
{
	return &l->record[grpid & (UIOPF_MOST_SOURCES * PCIE_PRI_PRGI_COUNT - 1)];
}

hot_inline void write_record(struct uiopf_model *m, enum uiopf_side side, uint32_t grpid, uint32_t code)
{
	const struct uiopf_record *record = copy_of(uiopf_device_log_of(m), grpid);
	uint64_t d[IDXD_WRITE_WORDS] = {
		IDXD_RECORDS | (uint64_t)grpid << IDXD_RECORD_SHIFT, READ_ONCE(&record->word[0]), READ_ONCE(&record->word[1]),
	};

	if (unlikely(code != UIOPF_RESP_SUCCESS))
		d[1] = (d[1] & ~(uint64_t)IDXD_STATUS) | IDXD_COMP_PAGE_FAULT_IR;
	uiopf_commands_give_long(&m->commands[side], d);
}

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	(void)flags;
	(void)pasid;
	write_record(uiopf_model_of(device), side, grpid, code);
}

/* The address and the access are in the record. The entry's own are where the record is to go, which is written. */
hot_inline struct uiopf_fault decode(const uint64_t *d)
{
	return (struct uiopf_fault){
		.addr = d[5],
		.flags = UIOPF_FAULT_PASID_VALID | UIOPF_FAULT_LAST_PAGE,
		.pasid = d[0] >> IDXD_EVL_PASID_SHIFT & 0xfffff,
		.grpid = group_of(d[2]),
		.perm = d[4] & IDXD_COMP_WRITE ? IOMMU_PGFAULT_PERM_WRITE : IOMMU_PGFAULT_PERM_READ,
	};
}

static uint32_t function_of(const struct uiopf_reporting *r, const uint64_t *d)
{
	return uiopf_reporting_function(r, d[0] >> IDXD_EVL_WQ_SHIFT & 0xff);
}

static void note(struct uiopf_device_log *l, uint32_t at)
{
	struct uiopf_reporting *r = &l->reporting;
	const uint64_t *entry = uiopf_records_at(r->queue.places, IDXD_EVL_WORDS, at);
	const struct uiopf_fault fault = decode(entry);

	uiopf_model_note(&r->model, at & r->queue.places.mask, function_of(r, entry), &fault);
}

/* Device, on the same thread: there is room for entries that were kept. */
static __attribute__((noinline)) void admit(struct uiopf_device_log *l)
{
	struct uiopf_records *log = &l->reporting.queue;
	uint32_t at = log->written;

	uiopf_records_admit(log);	/* the interrupt, which is here, reads them before anybody sees that it is full */
	for (; at != log->written; at++)
		if (l->reporting.model.sent_under)
			note(l, at);
	uiopf_records_show(log);
	l->pending = true;
}

/* A record of a page fault that could not be written. Linux warns of other events; what it knows of batches no device makes. */
static bool is_fault(const uint64_t *d)
{
	return (d[0] >> IDXD_EVL_ERROR_SHIFT & IDXD_STATUS) == IDXD_COMP_CRA_XLAT &&
	       (d[4] & IDXD_STATUS) == IDXD_COMP_PAGE_FAULT;
}

static uint32_t interrupt(struct uiopf_model *m)
{
	struct uiopf_device_log *l = uiopf_device_log_of(m);
	struct uiopf_records *log = &l->reporting.queue;
	uint32_t n, i, all = 0;

	while (l->pending = false, (n = uiopf_records_ready(log))) {
		const uint32_t head = log->head;

		for (i = 0; i < n; i++) {
			const uint64_t *entry = uiopf_records_at(log->places, IDXD_EVL_WORDS, head + i);
			const uint32_t function = function_of(&l->reporting, entry);
			struct uiopf_device *device = uiopf_model_device(m, function);
			const struct uiopf_fault fault = decode(entry);
			struct uiopf_record *record = copy_of(l, fault.grpid);

			if (unlikely(!is_fault(entry)))
				continue;
			WRITE_ONCE(&record->word[0], entry[4]);
			WRITE_ONCE(&record->word[1], entry[5]);
			if (likely(device)) {
				uiopf_model_report(m, (head + i) & log->places.mask, device, &fault);
			} else {	/* no such work queue, or nobody's */
				write_record(m, UIOPF_PRODUCER, fault.grpid, UIOPF_RESP_INVALID);
				++*uiopf_model_refusals(m, function).refused;
			}
		}
		uiopf_records_done(log, n);
		all += n;
		if (unlikely(log->full))
			admit(l);
	}
	uiopf_model_kick(m, UIOPF_PRODUCER);	/* what was refused has been answered */
	return all;
}

static bool is_of(const struct uiopf_reporting *r, const struct uiopf_device *device, const uint64_t *entry)
{
	return is_fault(entry) && function_of(r, entry) == device->requester_id;
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

static int open_log(struct uiopf_model *m)
{
	struct uiopf_device_log *l = uiopf_device_log_of(m);

	l->interrupts = true;
	l->record = calloc(UIOPF_MOST_SOURCES * PCIE_PRI_PRGI_COUNT, sizeof *l->record);
	return l->record ? uiopf_reporting_open(&l->reporting, IDXD_EVL_ENTRIES, IDXD_EVL_WORDS) : -ENOMEM;
}

static void close_log(struct uiopf_model *m)
{
	free(uiopf_device_log_of(m)->record);
	uiopf_reporting_close(uiopf_reporting_of(m));
}

const struct uiopf_model_ops uiopf_model_evl = {
	.name = "device-log",
	.size = sizeof(struct uiopf_device_log),
	.slots = IDXD_EVL_ENTRIES_MOST,
	.stalls = true,
	.only_stalls = true,
	.one_fault = true,
	.command_words = IDXD_WRITE_WORDS,
	.open = open_log,
	.close = close_log,
	.endpoint_turn = endpoint_turn,
	.request = uiopf_reporting_request,
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
