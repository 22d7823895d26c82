#include "hardware/iommu/vtd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "faults/report.h"
#include "hardware/endpoint_path.h"

/* ---- hardware ---- */

hot_inline void to_queue(void *above, struct uiopf_page_request request)
{
	uiopf_vtd_page_request(above, request);
}

uint32_t uiopf_vtd_endpoint_turn(struct uiopf_vtd *v, struct uiopf_endpoint *endpoint)
{
	return uiopf_endpoint_turn(endpoint, to_queue, v);
}

void uiopf_vtd_endpoint_response(struct uiopf_vtd *v, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code,
				 uint64_t now)
{
	uiopf_endpoint_response(endpoint, index, code, now, to_queue, v);
}

void uiopf_vtd_overflow(struct uiopf_vtd *v)
{
	v->prq_status |= VTD_PRS_PRO;
	v->overflowed++;
}

#define AHEAD 6u	/* commands: the time of so many covers the way of a line from another core */
/*
 * Answers that arrive together have one time, so many of them: reading the counter takes a tenth of an answer's whole
 * way, and four are done in some 80 ns, 200 where nothing is in the cache. Each fault begins and ends by such a time.
 * Where that does not hold (loads with times of their own, or groups of pages) every answer has its own.
 */
#define ANSWERS_A_TIME 4u

hot_inline struct uiopf_endpoint *endpoint_of(const struct uiopf_vtd_source *source, const uint64_t *d)
{
	return source[d[0] >> VTD_PGRP_RID_SHIFT & 0xffff].endpoint;
}

hot_inline void prepare(const struct uiopf_vtd_source *source, const uint64_t *d)
{
	struct uiopf_endpoint *ep = endpoint_of(source, d);

	if (likely(ep))
		uiopf_endpoint_prepare(ep, d[1] >> VTD_PGRP_PRGI_SHIFT & 0x1ff);
}

/* Carries out what one side has shown; how many commands. */
static uint32_t execute_commands(struct uiopf_vtd *v, struct uiopf_records *iq)
{
	const struct uiopf_vtd_source *source = v->source;
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
			now = uiopf_now(&v->iommu.core->clock);
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
	if (side == UIOPF_CONSUMER && !uiopf_consumer_try(v->iommu.core))
		return false;
	uiopf_records_admit(&v->commands[side].iq);
	show_commands(v, side);
	if (side == UIOPF_CONSUMER)
		uiopf_consumer_leave(v->iommu.core);
	return true;
}

static uint32_t execute(struct uiopf_iommu *iommu)
{
	struct uiopf_vtd *v = container_of(iommu, struct uiopf_vtd, iommu);
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
	if (side == UIOPF_CONSUMER && v->iommu.core->driver == UIOPF_ENTER)
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
	struct uiopf_vtd *v = container_of(device->iommu, struct uiopf_vtd, iommu);

	give_response(v, side, device->requester_id, flags, pasid, grpid, code);
}

static void kick(struct uiopf_iommu *iommu, enum uiopf_side side)
{
	struct uiopf_vtd *v = container_of(iommu, struct uiopf_vtd, iommu);
	struct uiopf_vtd_commands *c = &v->commands[side];

	if (unlikely(c->iq.waiting_count))
		uiopf_records_admit(&c->iq);
	if (c->kicked == c->iq.written)
		return;
	show_commands(v, side);
	uiopf_core_wake_worker(iommu->core);
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

	return ((v->flags & UIOPF_VTD_NEEDS_PASID) && !(d0 & VTD_PRQ_PASID_PRESENT)) || !is_canonical(d1) ||
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

/* The attachment that a request belongs to now; 0: none. */
static uint64_t handle_of(const struct uiopf_device *device, const struct uiopf_fault *fault)
{
	const struct uiopf_attach *attach = uiopf_find_attach(device, fault->flags, fault->pasid);

	return attach ? attach->handle : 0;
}

void uiopf_vtd_note(struct uiopf_vtd *v, uint32_t slot, uint64_t source, uint64_t message)
{
	const struct uiopf_device *device = v->source[source >> VTD_PRQ_RID_SHIFT & 0xffff].device;
	const struct uiopf_fault fault = decode(source, message);

	v->sent_under[slot] = device ? handle_of(device, &fault) : 0;
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
	struct uiopf_endpoint *ep = v->source[requester_id].endpoint;
	const struct uiopf_fault fault = decode(d0, d1);
	uint64_t *refused = &v->strangers, *passed_over = &v->strangers;

	if (device) {
		refused = &device->counts.refused;
		passed_over = &device->counts.passed_over;
	} else if (ep) {
		refused = &ep->counts.unbound;
		passed_over = &ep->counts.unbound_passed_over;
	}
	if (!is_bad(v, d0, d1)) {
		if (looks_like_a_stop_marker(d1)) {
			*passed_over += !is_stop_marker(d0, d1);
			return false;
		}
		if (device)
			return true;
	}
	if (fault.flags & UIOPF_FAULT_LAST_PAGE) {
		give_response(v, UIOPF_PRODUCER, requester_id, fault.flags, fault.pasid, fault.grpid, UIOPF_RESP_INVALID);
		*refused += !is_stop_marker(d0, d1);
	} else {
		++*passed_over;
	}
	return false;
}

static uint32_t interrupt(struct uiopf_iommu *iommu)
{
	struct uiopf_vtd *v = container_of(iommu, struct uiopf_vtd, iommu);
	const uint32_t n = uiopf_records_ready(&v->prq), head = v->prq.head;
	uint32_t i;

	v->prq_status &= ~(uint32_t)VTD_PRS_PPR;
	for (i = 0; i < n; i++) {
		const uint64_t *d = uiopf_records_at(v->prq.places, VTD_PRQ_WORDS, head + i), d0 = d[0], d1 = d[1];
		struct uiopf_device *device = v->source[d0 >> VTD_PRQ_RID_SHIFT & 0xffff].device;
		const struct uiopf_fault fault = decode(d0, d1);

		if (unlikely(!device || !is_ordinary(d0, d1)) && !is_worth_reporting(v, device, d0, d1))
			continue;
		if (unlikely(v->sent_under != NULL) && v->sent_under[(head + i) % VTD_PRQ_ENTRIES] != handle_of(device, &fault))
			device->counts.stale++;
		uiopf_report(device, &fault);
	}
	uiopf_records_done(&v->prq, n);
	if (unlikely(v->prq_status & VTD_PRS_PRO)) {
		/* Nothing came meanwhile (hardware and driver take turns): unfinished groups may miss their last request. */
		uint32_t rid;

		for (rid = 0; rid < VTD_REQUESTER_IDS; rid++)
			if (v->source[rid].device)
				uiopf_device_drop_partial(v->source[rid].device);
		v->prq_status &= ~(uint32_t)VTD_PRS_PRO;
	}
	kick(iommu, UIOPF_PRODUCER);	/* what was refused has been answered */
	return n;
}

static void release(struct uiopf_iommu *iommu)
{
	struct uiopf_vtd *v = container_of(iommu, struct uiopf_vtd, iommu);

	free(v->source);
	free(v->sent_under);
	uiopf_records_close(&v->prq);
	uiopf_records_close(&v->commands[UIOPF_PRODUCER].iq);
	uiopf_records_close(&v->commands[UIOPF_CONSUMER].iq);
	free(v);
}

/*
 * What intel_iommu_drain_pasid_prq() comes to: the page request queue is empty, and the commands given so far have been
 * carried out. Nothing is sent meanwhile, since the hardware's side is at rest.
 */
static void drain(struct uiopf_iommu *iommu)
{
	kick(iommu, UIOPF_CONSUMER);
	execute(iommu);
	interrupt(iommu);
}

/* Lets the hardware take its last answers, and report what it has sent, before nobody is there for it. */
static void forget_device(struct uiopf_iommu *iommu, const struct uiopf_device *device)
{
	struct uiopf_vtd *v = container_of(iommu, struct uiopf_vtd, iommu);
	struct uiopf_vtd_source *source = &v->source[device->requester_id & (VTD_REQUESTER_IDS - 1)];

	if (source->device != device)
		return;
	drain(iommu);
	drain(iommu);	/* what was refused on the way out has been answered by now, and arrives */
	source->device = NULL;
}

/* Requests that the interrupt has not read. */
static uint64_t unreported(const struct uiopf_iommu *iommu, const struct uiopf_device *device)
{
	const struct uiopf_vtd *v = container_of(iommu, const struct uiopf_vtd, iommu);
	uint64_t requests = 0;
	uint32_t i;

	for (i = v->prq.head; i != v->prq.written; i++) {
		const uint64_t *d = uiopf_records_at(v->prq.places, VTD_PRQ_WORDS, i);

		requests += (d[0] >> VTD_PRQ_RID_SHIFT & 0xffff) == device->requester_id && !is_stop_marker(d[0], d[1]);
	}
	return requests;
}

static const struct uiopf_iommu_ops vtd_ops = {
	.respond = respond,
	.drain = drain,
	.unreported = unreported,
	.forget = forget_device,
};

/* The same without the drain: what J.-P. Brucker and Kevin Tian warned of can be looked at. */
static const struct uiopf_iommu_ops undrained_ops = {
	.respond = respond,
	.unreported = unreported,
	.forget = forget_device,
};

/* ---- its turn ---- */

uint32_t uiopf_vtd_interrupt(struct uiopf_vtd *v)
{
	return interrupt(&v->iommu);
}

static uint32_t turn(struct uiopf_producer *producer)
{
	struct uiopf_vtd *v = container_of(producer, struct uiopf_vtd, iommu.producer);
	struct uiopf_endpoint *endpoint;
	uint32_t did = execute(&v->iommu);

	for (endpoint = v->port.endpoints; endpoint; endpoint = endpoint->next)
		did += uiopf_vtd_endpoint_turn(v, endpoint);
	return did + interrupt(&v->iommu);
}

static void kick_consumer(struct uiopf_producer *producer)
{
	kick(container_of(producer, struct uiopf_iommu, producer), UIOPF_CONSUMER);
}

static const struct uiopf_producer_ops producer_ops = {
	.turn = turn,
	.kick = kick_consumer,
};

/* ---- the functions behind it ---- */

static int grow_iq(struct uiopf_vtd *v);

/* Its requests are answered from now on; where there is no room for the answers of one more, once it is bound. */
static int take_in(struct uiopf_vtd *v, struct uiopf_endpoint *endpoint)
{
	struct uiopf_vtd_source *source = &v->source[endpoint->requester_id];
	int rc;

	if (source->endpoint)
		return source->endpoint == endpoint ? 0 : -EBUSY;
	rc = v->sources == VTD_MOST_SOURCES ? -ENOSPC : grow_iq(v);
	if (rc < 0)
		return rc;
	v->sources++;
	source->endpoint = endpoint;
	return 0;
}

static void plug(struct uiopf_port *port, struct uiopf_endpoint *endpoint)
{
	take_in(container_of(port, struct uiopf_vtd, port), endpoint);
}

static void forget(struct uiopf_port *port, const struct uiopf_endpoint *endpoint)
{
	struct uiopf_vtd *v = container_of(port, struct uiopf_vtd, port);
	struct uiopf_vtd_source *source = &v->source[endpoint->requester_id];

	if (source->endpoint == endpoint) {
		source->endpoint = NULL;
		source->device = NULL;
		v->sources--;
	}
}

static void request(struct uiopf_port *port, struct uiopf_page_request request)
{
	uiopf_vtd_page_request(container_of(port, struct uiopf_vtd, port), request);
}

static const struct uiopf_port_ops port_ops = {
	.plug = plug,
	.forget = forget,
	.request = request,
};

/* ---- set-up ---- */

/* Room for the answers of one more function, and for as many again. The queue is empty when it is replaced. */
static int grow_iq(struct uiopf_vtd *v)
{
	uint32_t places = VTD_IQ_FIRST;
	int side, rc = 0;

	while (places < 2 * PCIE_PRI_PRGI_COUNT * (v->sources + 1))
		places *= 2;
	drain(&v->iommu);
	for (side = UIOPF_PRODUCER; side <= UIOPF_CONSUMER && rc == 0; side++)
		rc = uiopf_records_grow(&v->commands[side].iq, places);
	return rc;
}

static void end_vtd(struct uiopf_lifetime *lifetime)
{
	struct uiopf_iommu *iommu = container_of(lifetime, struct uiopf_iommu, lifetime);
	struct uiopf_core *core = iommu->core;

	if (core->torn)
		return;
	if (!core->abandoned) {
		uiopf_control_begin(core);
		uiopf_core_remove_producer(core, &iommu->producer);
		uiopf_control_end(core);
	}
	release(iommu);
	uiopf_let_go(&core->lifetime);
}

struct uiopf_vtd *uiopf_vtd_new(struct uiopf_core *core, uint32_t flags)
{
	struct uiopf_vtd *v = aligned_alloc(128, sizeof *v);

	if (!v)
		return NULL;
	memset(v, 0, sizeof *v);
	v->iommu.ops = flags & UIOPF_VTD_UNDRAINED ? &undrained_ops : &vtd_ops;
	v->iommu.lifetime = (struct uiopf_lifetime){ 1, end_vtd };
	v->iommu.core = core;
	v->flags = flags;
	v->port.ops = &port_ops;
	v->port.lifetime = &v->iommu.lifetime;
	v->source = calloc(VTD_REQUESTER_IDS, sizeof *v->source);
	if (flags & UIOPF_VTD_UNDRAINED)
		v->sent_under = calloc(VTD_PRQ_ENTRIES, sizeof *v->sent_under);
	if (!v->source || (!v->sent_under && (flags & UIOPF_VTD_UNDRAINED)) ||
	    uiopf_records_open(&v->prq, VTD_PRQ_ENTRIES, VTD_PRQ_WORDS) < 0 ||
	    uiopf_records_open(&v->commands[UIOPF_PRODUCER].iq, VTD_IQ_FIRST, VTD_IQ_WORDS) < 0 ||
	    uiopf_records_open(&v->commands[UIOPF_CONSUMER].iq, VTD_IQ_FIRST, VTD_IQ_WORDS) < 0) {
		release(&v->iommu);
		return NULL;
	}
	uiopf_control_begin(core);
	v->iommu.producer.ops = &producer_ops;
	uiopf_core_add_producer(core, &v->iommu.producer);
	uiopf_hold(&core->lifetime);
	uiopf_control_end(core);
	return v;
}

void uiopf_vtd_free(struct uiopf_vtd *v)
{
	if (v)
		uiopf_let_go(&v->iommu.lifetime);
}

struct uiopf_iommu *uiopf_vtd_iommu(struct uiopf_vtd *v)
{
	return &v->iommu;
}

struct uiopf_port *uiopf_vtd_port(struct uiopf_vtd *v)
{
	return &v->port;
}

struct uiopf_iommu *uiopf_vtd_hold_iommu(struct uiopf_vtd *v)
{
	uiopf_hold(&v->iommu.lifetime);
	return &v->iommu;
}

int uiopf_vtd_bind(struct uiopf_vtd *v, struct uiopf_endpoint *endpoint, struct uiopf_device *device)
{
	struct uiopf_vtd_source *source = &v->source[endpoint->requester_id];
	int rc;

	/* Both are ours, and are the same to the hardware: what goes away is found here by its requester id. */
	if (endpoint->port != &v->port || device->iommu != &v->iommu || device->requester_id != endpoint->requester_id)
		return -EINVAL;
	uiopf_control_begin(v->iommu.core);
	rc = source->endpoint == endpoint && source->device ? -EBUSY : take_in(v, endpoint);
	if (rc == 0)
		source->device = device;
	uiopf_control_end(v->iommu.core);
	return rc;
}

int uiopf_vtd_unbind(struct uiopf_vtd *v, struct uiopf_device *device)
{
	if (device->iommu != &v->iommu)
		return -EINVAL;
	uiopf_control_begin(v->iommu.core);
	forget_device(&v->iommu, device);
	uiopf_control_end(v->iommu.core);
	uiopf_core_made_work(v->iommu.core);	/* what it has sent has been reported, and is to be shown */
	return 0;
}

void uiopf_vtd_get_counts(struct uiopf_vtd *v, struct uiopf_vtd_counts *counts)
{
	uiopf_control_begin(v->iommu.core);
	counts->overflowed = v->overflowed;
	counts->strangers = v->strangers;
	counts->commands_lost = v->commands[UIOPF_PRODUCER].iq.lost + v->commands[UIOPF_CONSUMER].iq.lost;
	uiopf_control_end(v->iommu.core);
}
