#include "hardware/iommu/vtd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hardware/endpoint_path.h"

/* ---- hardware ---- */

hot_inline void to_queue(void *above, struct uiopf_page_request request)
{
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

void uiopf_vtd_endpoint_response(struct uiopf_vtd *v, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code,
				 uint64_t now)
{
	uiopf_endpoint_response(endpoint, index, code, now, to_queue, v);
}

void uiopf_vtd_overflow(struct uiopf_vtd *v)
{
	v->prq_status |= VTD_PRS_PRO;
	v->model.overflowed++;
}

#define AHEAD 6u	/* commands: the time of so many covers the way of a line from another core */
/*
 * Answers that arrive together have one time, so many of them: reading the counter takes a tenth of an answer's whole
 * way, and four are done in some 80 ns, 200 where nothing is in the cache. Each fault begins and ends by such a time.
 * Where that does not hold (loads with times of their own, or groups of pages) every answer has its own.
 */
#define ANSWERS_A_TIME 4u

hot_inline struct uiopf_endpoint *endpoint_of(const struct uiopf_source *source, const uint64_t *d)
{
	return source[d[0] >> VTD_PGRP_RID_SHIFT & 0xffff].endpoint;
}

hot_inline void prepare(const struct uiopf_source *source, const uint64_t *d)
{
	struct uiopf_endpoint *ep = endpoint_of(source, d);

	if (likely(ep))
		uiopf_endpoint_prepare(ep, d[1] >> VTD_PGRP_PRGI_SHIFT & 0x1ff);
}

/* Carries out what one side has shown; how many commands. */
static uint32_t execute_commands(struct uiopf_vtd *v, struct uiopf_records *iq)
{
	const struct uiopf_source *source = v->model.source;
	const struct uiopf_places p = iq->places;	/* a copy: nothing that is stored below changes it */
	const uint32_t head = iq->head;
	const uint32_t n = uiopf_records_ready(iq);
	uint64_t now = 0;
	uint32_t i;

	for (i = 0; i < AHEAD && i < n; i++)
		prepare(source, uiopf_records_at(p, VTD_IQ_WORDS, head + i));
	for (i = 0; i < n; i++) {
		const uint64_t *d = uiopf_records_at(p, VTD_IQ_WORDS, head + i);
		struct uiopf_endpoint *ep = endpoint_of(source, d);

		if (n - i > AHEAD)
			prepare(source, uiopf_records_at(p, VTD_IQ_WORDS, head + i + AHEAD));
		if (unlikely(!ep))
			continue;
		if (i % ANSWERS_A_TIME == 0 || !ep->load.plain || !now)
			now = uiopf_now(&v->model.iommu.core->clock);
		uiopf_endpoint_response(ep, d[1] >> VTD_PGRP_PRGI_SHIFT & 0x1ff, d[0] >> VTD_PGRP_CODE_SHIFT & 0xf, now,
					to_queue, v);
	}
	if (n)
		uiopf_records_done(iq, n);
	return n;
}

static void show_commands(struct uiopf_vtd *v, enum uiopf_side side);

/*
 * Commands that found no room come in now that there is some: the hardware sees to it, since the driver may not call
 * again. False where a client has the consumer's side, whose kick does it.
 */
static bool admit_waiting(struct uiopf_vtd *v, enum uiopf_side side)
{
	if (side == UIOPF_CONSUMER && !uiopf_consumer_try(v->model.iommu.core))
		return false;
	uiopf_records_admit(&v->commands[side].iq);
	show_commands(v, side);
	if (side == UIOPF_CONSUMER)
		uiopf_consumer_leave(v->model.iommu.core);
	return true;
}

static uint32_t execute(struct uiopf_model *m)
{
	struct uiopf_vtd *v = uiopf_vtd_of(m);
	uint32_t n = 0;
	int side;

	for (side = UIOPF_PRODUCER; side <= UIOPF_CONSUMER; side++) {
		struct uiopf_records *iq = &v->commands[side].iq;

		do
			n += execute_commands(v, iq);
		while (unlikely(READ_ONCE(&iq->full)) && admit_waiting(v, side));
	}
	return n;
}

/* ---- driver ---- */

/*
 * Hardware that waits on another core is shown commands this many at a time. Linux moves the tail with every one; each
 * time the line with the tail goes there and back. With none before the last it would idle as long as the client works.
 */
#define COMMANDS_A_SHOW 4u

static void show_commands(struct uiopf_vtd *v, enum uiopf_side side)
{
	struct uiopf_vtd_commands *c = &v->commands[side];

	c->kicked = c->iq.written;
	/* Sequentially consistent: either we see a hardware thread that sleeps, or it sees the commands. */
	if (side == UIOPF_CONSUMER && v->model.iommu.core->driver == UIOPF_ENTER)
		STORE_SEQ(&c->iq.tail, c->iq.written);
	else
		uiopf_records_show(&c->iq);	/* the hardware is this thread, or asks for quiet first */
}

/* Linux' qi_submit_sync() waits for the hardware to make room; here the command waits, and its giver goes on. */
static __attribute__((noinline)) void let_wait(struct uiopf_records *iq, uint64_t word0, uint64_t word1)
{
	const uint64_t d[VTD_IQ_WORDS] = { word0, word1 };

	uiopf_records_wait(iq, d);
}

hot_inline void give_response(struct uiopf_vtd *v, enum uiopf_side side, uint32_t requester_id, uint32_t flags,
			      uint32_t pasid, uint32_t grpid, uint32_t code)
{
	struct uiopf_records *iq = &v->commands[side].iq;
	uint64_t *d = uiopf_records_place(iq, VTD_IQ_WORDS), word0, word1;

	/* Linux puts its own code into the field: a failure is sent as 2, which the function treats as one. */
	word0 = VTD_PGRP_TYPE | (uint64_t)requester_id << VTD_PGRP_RID_SHIFT |
		(uint64_t)code << VTD_PGRP_CODE_SHIFT;
	if (flags & UIOPF_FAULT_PASID_VALID)
		word0 |= VTD_PGRP_PASID_PRESENT | (uint64_t)pasid << VTD_PGRP_PASID_SHIFT;
	word1 = (uint64_t)grpid << VTD_PGRP_PRGI_SHIFT;
	if (unlikely(!d || iq->waiting_count)) {
		let_wait(iq, word0, word1);
		return;
	}
	d[0] = word0;
	d[1] = word1;
	uiopf_records_put(iq);
	if (iq->written % COMMANDS_A_SHOW == 0)
		uiopf_records_show(iq);
}

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	struct uiopf_vtd *v = uiopf_vtd_of(uiopf_model_of(device));

	give_response(v, side, device->requester_id, flags, pasid, grpid, code);
}

static void kick(struct uiopf_model *m, enum uiopf_side side)
{
	struct uiopf_vtd *v = uiopf_vtd_of(m);
	struct uiopf_vtd_commands *c = &v->commands[side];

	if (unlikely(c->iq.waiting_count))
		uiopf_records_admit(&c->iq);
	if (c->kicked == c->iq.written)
		return;
	show_commands(v, side);
	uiopf_core_wake_worker(m->iommu.core);
}

#define VTD_PRQ_PASID_BITS (VTD_PRQ_PASID_PRESENT | VTD_PRQ_EXECUTE | VTD_PRQ_PRIVILEGED)

/* An address of 48 bits, sign-extended; what is below the page is not looked at. */
static bool is_canonical(uint64_t address)
{
	return (address + (1ull << 47)) >> 48 == 0;
}

/* Nearly all requests: nothing in them can be refused, and they are no stop marker. */
static bool is_ordinary(uint64_t d0, uint64_t d1)
{
	return (d0 & VTD_PRQ_PASID_BITS) == VTD_PRQ_PASID_PRESENT && (d1 & (PCIE_PRI_READ | PCIE_PRI_WRITE)) &&
	       is_canonical(d1);
}

/* What Linux refuses before it reports. */
static bool is_bad(const struct uiopf_vtd *v, uint64_t d0, uint64_t d1)
{
	const bool read = d1 & PCIE_PRI_READ, write = d1 & PCIE_PRI_WRITE;

	return ((v->model.flags & UIOPF_MODEL_NEEDS_PASID) && !(d0 & VTD_PRQ_PASID_PRESENT)) || !is_canonical(d1) ||
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
 * only the last of a group is waited for.
 */
static __attribute__((noinline)) bool is_worth_reporting(struct uiopf_vtd *v, struct uiopf_device *device, uint64_t d0,
							 uint64_t d1)
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
	if (fault.flags & UIOPF_FAULT_LAST_PAGE) {
		give_response(v, UIOPF_PRODUCER, requester_id, fault.flags, fault.pasid, fault.grpid, UIOPF_RESP_INVALID);
		*count.refused += !is_stop_marker(d0, d1);
	} else {
		++*count.passed_over;
	}
	return false;
}

static uint32_t interrupt(struct uiopf_model *m)
{
	struct uiopf_vtd *v = uiopf_vtd_of(m);
	const uint32_t n = uiopf_records_ready(&v->prq), head = v->prq.head;
	uint32_t i;

	v->prq_status &= ~(uint32_t)VTD_PRS_PPR;
	for (i = 0; i < n; i++) {
		const uint64_t *d = uiopf_records_at(v->prq.places, VTD_PRQ_WORDS, head + i), d0 = d[0], d1 = d[1];
		struct uiopf_device *device = uiopf_model_device(m, d0 >> VTD_PRQ_RID_SHIFT & 0xffff);
		const struct uiopf_fault fault = decode(d0, d1);

		if (unlikely(!device || !is_ordinary(d0, d1)) && !is_worth_reporting(v, device, d0, d1))
			continue;
		uiopf_model_report(m, (head + i) % VTD_PRQ_ENTRIES, device, &fault);
	}
	uiopf_records_done(&v->prq, n);
	if (unlikely(v->prq_status & VTD_PRS_PRO)) {
		/* Nothing came meanwhile (hardware and driver take turns): unfinished groups may miss their last request. */
		uiopf_model_drop_partial(m);
		v->prq_status &= ~(uint32_t)VTD_PRS_PRO;
	}
	kick(m, UIOPF_PRODUCER);	/* what was refused has been answered */
	return n;
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

/* ---- set-up ---- */

static int open_vtd(struct uiopf_model *m)
{
	struct uiopf_vtd *v = uiopf_vtd_of(m);
	int rc = uiopf_records_open(&v->prq, VTD_PRQ_ENTRIES, VTD_PRQ_WORDS);

	if (rc == 0)
		rc = uiopf_records_open(&v->commands[UIOPF_PRODUCER].iq, VTD_IQ_FIRST, VTD_IQ_WORDS);
	if (rc == 0)
		rc = uiopf_records_open(&v->commands[UIOPF_CONSUMER].iq, VTD_IQ_FIRST, VTD_IQ_WORDS);
	return rc;
}

static void close_vtd(struct uiopf_model *m)
{
	struct uiopf_vtd *v = uiopf_vtd_of(m);

	uiopf_records_close(&v->prq);
	uiopf_records_close(&v->commands[UIOPF_PRODUCER].iq);
	uiopf_records_close(&v->commands[UIOPF_CONSUMER].iq);
}

/* For the answers of so many functions, twice. The queue is empty when it is replaced. */
static int make_room(struct uiopf_model *m, uint32_t functions)
{
	struct uiopf_vtd *v = uiopf_vtd_of(m);
	uint32_t places = VTD_IQ_FIRST;
	int side, rc = 0;

	while (places < 2 * PCIE_PRI_PRGI_COUNT * functions)
		places *= 2;
	for (side = UIOPF_PRODUCER; side <= UIOPF_CONSUMER && rc == 0; side++)
		rc = uiopf_records_grow(&v->commands[side].iq, places);
	return rc;
}

static uint64_t commands_lost(const struct uiopf_model *m)
{
	const struct uiopf_vtd *v = container_of(m, const struct uiopf_vtd, model);

	return v->commands[UIOPF_PRODUCER].iq.lost + v->commands[UIOPF_CONSUMER].iq.lost;
}

const struct uiopf_model_ops uiopf_model_vtd = {
	.name = "vtd",
	.size = sizeof(struct uiopf_vtd),
	.slots = VTD_PRQ_ENTRIES,
	.open = open_vtd,
	.close = close_vtd,
	.make_room = make_room,
	.endpoint_turn = endpoint_turn,
	.request = request,
	.execute = execute,
	.interrupt = interrupt,
	.respond = respond,
	.kick = kick,
	.unreported = unreported,
	.commands_lost = commands_lost,
};
