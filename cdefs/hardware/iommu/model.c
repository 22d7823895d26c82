#include "hardware/iommu/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hardware/iommu/nesting.h"

/* ---- for hardware ---- */

/* A PRG Response: destination 63:48, response code 47:44, group index 40:32. */
#define OWN(requester_id, code, index) \
	((uint64_t)(requester_id) << 48 | (uint64_t)(code) << 44 | (uint64_t)(index) << 32)

bool uiopf_model_answer(struct uiopf_model *m, struct uiopf_page_request request, uint32_t code)
{
	const uint32_t index = request.message >> PCIE_PRI_PRGI_SHIFT & (PCIE_PRI_PRGI_COUNT - 1);
	struct uiopf_endpoint *endpoint = m->source[request.requester_id].endpoint;

	if (!endpoint) {
		m->strangers++;
		return false;
	}
	if (m->own_count == m->own_capacity) {
		const uint32_t capacity = m->own_capacity ? 2 * m->own_capacity : 64;
		uint64_t *own = reallocarray(m->own, capacity, sizeof *own);

		if (!own) {
			m->own_lost++;
			return false;
		}
		m->own = own;
		m->own_capacity = capacity;
	}
	m->own[m->own_count++] = OWN(request.requester_id, code, index);
	endpoint->counts.iommu_answered++;
	return true;
}

void uiopf_model_answer_with_last(struct uiopf_model *m, struct uiopf_page_request request)
{
	struct uiopf_endpoint *endpoint = m->source[request.requester_id].endpoint;

	++*(endpoint ? &endpoint->counts.iommu_answered : &m->strangers);
}

bool uiopf_model_answers_dropped(const struct uiopf_model *m)
{
	return m->flags & (UIOPF_MODEL_DROPPED_SUCCESS | UIOPF_MODEL_DROPPED_FAILURE);
}

void uiopf_model_drop(struct uiopf_model *m, struct uiopf_page_request request)
{
	const bool alone = m->ops->streams ? request.private_data.streams : request.private_data.there;

	if (uiopf_is_stop_marker(request))
		return;		/* nobody waits for an answer to one */
	if (!uiopf_model_answers_dropped(m))
		m->overflowed++;
	else if (request.message & PCIE_PRI_LAST || alone)
		uiopf_model_answer(m, request, m->flags & UIOPF_MODEL_DROPPED_SUCCESS ? PCIE_PRG_SUCCESS : PCIE_PRG_FAILURE);
	else
		uiopf_model_answer_with_last(m, request);
}

/* Those answers that there are arrive; how many. On the way more may come to be. */
static uint32_t send_own(struct uiopf_model *m)
{
	const uint64_t now = uiopf_now(&m->iommu.core->clock);
	const uint32_t n = m->own_count;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const uint64_t response = m->own[i];
		struct uiopf_endpoint *endpoint = m->source[response >> 48].endpoint;

		if (endpoint)
			m->ops->answer(m, endpoint, response >> 32 & 0x1ff, response >> 44 & 0xf, now);
	}
	m->own_count -= n;
	memmove(m->own, m->own + n, m->own_count * sizeof *m->own);
	return n;
}

static uint32_t execute(struct uiopf_model *m)
{
	const uint32_t n = m->ops->execute(m);

	return n + (unlikely(m->own_count) ? send_own(m) : 0);
}

/* ---- for drivers ---- */

/* The attachment that a request belongs to now; 0: none. */
static uint64_t handle_of(const struct uiopf_device *device, const struct uiopf_fault *fault)
{
	const struct uiopf_attach *attach = device ? uiopf_find_attach(device, fault->flags, fault->pasid) : NULL;

	return attach ? attach->handle : 0;
}

void uiopf_model_note(struct uiopf_model *m, uint32_t slot, uint32_t requester_id, const struct uiopf_fault *fault)
{
	m->sent_under[slot] = handle_of(m->source[requester_id].device, fault);
}

/* Whether the requests of a function say which stage they are of. */
static bool tells(const struct uiopf_model *m, const struct uiopf_source *source)
{
	return m->ops->told && source->stalls;
}

void uiopf_model_report_slowly(struct uiopf_model *m, uint32_t slot, struct uiopf_device *device,
			       const struct uiopf_fault *fault, const struct uiopf_private_data *data)
{
	const struct uiopf_source *source = &m->source[device->requester_id];
	struct uiopf_translation told = { .stage = 1 };

	if (m->sent_under && m->sent_under[slot] != handle_of(device, fault))
		device->counts.stale++;
	if (!source->nesting) {
		uiopf_report_with(device, fault, data);
		return;
	}
	if (fault->flags & UIOPF_FAULT_STAGE_2)
		told = m->ops->told(m, slot);
	uiopf_nesting_report(source->nesting, fault, data, tells(m, source) ? &told : NULL);
}

struct uiopf_refusals uiopf_model_refusals(struct uiopf_model *m, uint32_t requester_id)
{
	const struct uiopf_source *source = &m->source[requester_id];

	if (source->device)
		return (struct uiopf_refusals){ &source->device->counts.refused, &source->device->counts.passed_over };
	if (source->endpoint)
		return (struct uiopf_refusals){ &source->endpoint->counts.unbound,
						&source->endpoint->counts.unbound_passed_over };
	return (struct uiopf_refusals){ &m->strangers, &m->strangers };
}

void uiopf_model_answered_partial(struct uiopf_model *m, uint32_t requester_id, uint32_t grpid)
{
	if (m->source[requester_id].last)
		uiopf_device_answered_partial(m->source[requester_id].last, grpid);
}

void uiopf_model_drop_partial(struct uiopf_model *m)
{
	uint32_t rid;

	for (rid = 0; rid < UIOPF_REQUESTER_IDS; rid++)
		if (m->source[rid].device)
			uiopf_device_drop_partial(m->source[rid].device);
}

void uiopf_model_pass_over_partial(struct uiopf_model *m)
{
	struct uiopf_endpoint *endpoint;

	for (endpoint = m->port.endpoints; endpoint; endpoint = endpoint->next) {
		struct uiopf_device *device = m->source[endpoint->requester_id].device;

		if (!device)
			continue;
		device->counts.passed_over += uiopf_device_partial_faults(device);
		uiopf_device_drop_partial(device);
	}
}

/* ---- what the generic layer asks for ---- */

/*
 * What draining comes to, as intel_iommu_drain_pasid_prq() does it: the request queue is empty, and the commands given so
 * far have been carried out, also those behind an illegal one. Nothing is sent meanwhile, since the hardware's side is at
 * rest.
 */
static void drain(struct uiopf_iommu *iommu)
{
	struct uiopf_model *m = container_of(iommu, struct uiopf_model, iommu);
	bool stopped;

	uiopf_model_kick(m, UIOPF_CONSUMER);
	do {
		execute(m);
		stopped = m->stopped;
		m->ops->interrupt(m);
	} while (stopped);
}

/* Lets the hardware take its last answers, and report what it has sent, before nobody is there for it. */
static void unbind(struct uiopf_model *m, struct uiopf_source *source)
{
	drain(&m->iommu);
	drain(&m->iommu);	/* what was refused on the way out has been answered by now, and arrives */
	if (source->nesting)
		uiopf_nesting_forget(source->nesting);
	source->device = NULL;
}

static struct uiopf_source *source_of(struct uiopf_model *m, const struct uiopf_device *device)
{
	return &m->source[device->requester_id & (UIOPF_REQUESTER_IDS - 1)];
}

static void forget_device(struct uiopf_iommu *iommu, const struct uiopf_device *device)
{
	struct uiopf_model *m = container_of(iommu, struct uiopf_model, iommu);
	struct uiopf_source *source = source_of(m, device);

	if (source->device == device)
		unbind(m, source);
	if (source->last == device)
		source->last = NULL;
}

static uint64_t unreported(const struct uiopf_iommu *iommu, const struct uiopf_device *device)
{
	const struct uiopf_model *m = container_of(iommu, const struct uiopf_model, iommu);

	return m->ops->unreported(m, device);
}

/* ---- its turn ---- */

static uint32_t turn(struct uiopf_producer *producer)
{
	struct uiopf_model *m = container_of(producer, struct uiopf_model, iommu.producer);
	struct uiopf_core *core = m->iommu.core;
	const bool watched = unlikely(core->watches);
	const uint64_t began = watched ? uiopf_now(&core->clock) : 0;
	struct uiopf_endpoint *endpoint;
	uint32_t did = execute(m);

	for (endpoint = m->port.endpoints; endpoint; endpoint = endpoint->next)
		did += m->ops->endpoint_turn(m, endpoint);
	if (watched)	/* no processor of a real machine runs this; what follows is the driver's */
		uiopf_core_note_hardware(core, did, uiopf_now(&core->clock) - began);
	if (unlikely(m->held) || (m->ops->raised && !m->ops->raised(m)))
		return did;
	return did + m->ops->interrupt(m);
}

static void kick_consumer(struct uiopf_producer *producer)
{
	uiopf_model_kick(container_of(producer, struct uiopf_model, iommu.producer), UIOPF_CONSUMER);
}

static const struct uiopf_producer_ops producer_ops = {
	.turn = turn,
	.kick = kick_consumer,
};

/* ---- the functions behind it ---- */

/* Its requests are answered from now on; where there is no room for the answers of one more, once it is bound. */
static int take_in(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	struct uiopf_source *source = &m->source[endpoint->requester_id];
	int rc;

	if (source->endpoint)
		return 0;	/* it is this one: no other has its requester id */
	if (m->sources == UIOPF_MOST_SOURCES)
		return -ENOSPC;
	rc = uiopf_commands_make_room(m->commands, m->sources + 1);
	if (rc < 0)
		return rc;
	m->sources++;
	source->endpoint = endpoint;
	source->stalls = endpoint->stalls;
	return 0;
}

static void plug(struct uiopf_port *port, struct uiopf_endpoint *endpoint)
{
	take_in(container_of(port, struct uiopf_model, port), endpoint);
}

static void forget(struct uiopf_port *port, const struct uiopf_endpoint *endpoint)
{
	struct uiopf_model *m = container_of(port, struct uiopf_model, port);
	struct uiopf_source *source = &m->source[endpoint->requester_id];

	if (source->endpoint == endpoint) {
		if (source->nesting)
			uiopf_nesting_forget(source->nesting);
		source->endpoint = NULL;
		source->device = source->last = NULL;
		m->sources--;
	}
}

static void request(struct uiopf_port *port, struct uiopf_page_request request)
{
	struct uiopf_model *m = container_of(port, struct uiopf_model, port);

	m->ops->request(m, request);
}

static const struct uiopf_port_ops port_ops = {
	.plug = plug,
	.forget = forget,
	.request = request,
};

/* ---- set-up ---- */

static void release(struct uiopf_model *m)
{
	m->ops->close(m);
	uiopf_commands_close(m->commands);
	free(m->own);
	free(m->source);
	free(m->sent_under);
	free(m);
}

static void end_model(struct uiopf_lifetime *lifetime)
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
	release(container_of(iommu, struct uiopf_model, iommu));
	uiopf_let_go(&core->lifetime);
}

struct uiopf_model *uiopf_model_new(struct uiopf_core *core, const struct uiopf_model_ops *ops, uint32_t flags)
{
	struct uiopf_model *m = aligned_alloc(128, (ops->size + 127) / 128 * 128);

	if (!m)
		return NULL;
	memset(m, 0, ops->size);
	m->ops = ops;
	m->iommu_ops = (struct uiopf_iommu_ops){
		.respond = ops->respond,
		.respond_privately = ops->respond_privately,
		/* Without a drain, what J.-P. Brucker and Kevin Tian warned of can be looked at. */
		.drain = flags & UIOPF_MODEL_UNDRAINED ? NULL : drain,
		.unreported = unreported,
		.forget = forget_device,
		.pcie = true,
	};
	m->iommu.ops = &m->iommu_ops;
	m->iommu.lifetime = (struct uiopf_lifetime){ 1, end_model };
	m->iommu.core = core;
	m->flags = flags;
	m->port.ops = &port_ops;
	m->port.stalls = ops->stalls;
	m->port.only_stalls = ops->only_stalls;
	m->port.one_fault = ops->one_fault;
	m->port.private_bits = ops->private_bits;
	m->port.streams = ops->streams;
	m->port.prefix = ops->prefix;
	m->port.lifetime = &m->iommu.lifetime;
	m->source = calloc(UIOPF_REQUESTER_IDS + 1, sizeof *m->source);
	if (flags & UIOPF_MODEL_UNDRAINED)
		m->sent_under = calloc(ops->slots, sizeof *m->sent_under);
	m->reports_slowly = m->sent_under != NULL;
	if (!m->source || (!m->sent_under && (flags & UIOPF_MODEL_UNDRAINED)) ||
	    uiopf_commands_open(m->commands, ops->command_words) < 0 || ops->open(m) < 0) {
		release(m);
		return NULL;
	}
	uiopf_control_begin(core);
	m->iommu.producer.ops = &producer_ops;
	uiopf_core_add_producer(core, &m->iommu.producer);
	uiopf_hold(&core->lifetime);
	uiopf_control_end(core);
	return m;
}

void uiopf_model_free(struct uiopf_model *m)
{
	if (m)
		uiopf_let_go(&m->iommu.lifetime);
}

struct uiopf_iommu *uiopf_model_iommu(struct uiopf_model *m)
{
	return &m->iommu;
}

struct uiopf_port *uiopf_model_port(struct uiopf_model *m)
{
	return &m->port;
}

struct uiopf_iommu *uiopf_model_hold_iommu(struct uiopf_model *m)
{
	uiopf_hold(&m->iommu.lifetime);
	return &m->iommu;
}

int uiopf_model_bind(struct uiopf_model *m, struct uiopf_endpoint *endpoint, struct uiopf_device *device)
{
	struct uiopf_source *source = &m->source[endpoint->requester_id];
	int rc;

	/* Both are ours, and are the same to the hardware: what goes away is found here by its requester id. */
	if (endpoint->port != &m->port || device->iommu != &m->iommu || device->requester_id != endpoint->requester_id)
		return -EINVAL;
	uiopf_control_begin(m->iommu.core);
	rc = source->endpoint == endpoint && source->device ? -EBUSY : take_in(m, endpoint);
	if (rc == 0)
		source->device = source->last = device;
	uiopf_control_end(m->iommu.core);
	return rc;
}

int uiopf_model_unbind(struct uiopf_model *m, struct uiopf_device *device)
{
	if (device->iommu != &m->iommu)
		return -EINVAL;
	uiopf_control_begin(m->iommu.core);
	if (source_of(m, device)->device == device)
		unbind(m, source_of(m, device));
	uiopf_control_end(m->iommu.core);
	uiopf_core_made_work(m->iommu.core);	/* what it has sent has been reported, and is to be shown */
	return 0;
}

struct uiopf_nesting *uiopf_model_nest(struct uiopf_model *m, struct uiopf_device *device, struct uiopf_translator *translator,
				       struct uiopf_host *host, uint32_t by, uint32_t flags)
{
	struct uiopf_source *source = &m->source[device->requester_id & (UIOPF_REQUESTER_IDS - 1)];
	struct uiopf_nesting *nesting = uiopf_nesting_make(device, translator, host, by, flags);
	int rc = 0;

	if (!nesting)
		return NULL;
	uiopf_control_begin(m->iommu.core);
	if (source->device != device)
		rc = ENODEV;
	else if (source->nesting)
		rc = EBUSY;
	else if (by == UIOPF_STAGE_BY_HARDWARE && !tells(m, source))
		rc = EOPNOTSUPP;
	if (!rc) {
		source->nesting = nesting;
		nesting->where = &source->nesting;
		m->reports_slowly = true;
	}
	uiopf_control_end(m->iommu.core);
	if (!rc)
		return nesting;
	uiopf_nesting_free(nesting);
	errno = rc;
	return NULL;
}

void uiopf_model_hold_interrupt(struct uiopf_model *m, int held)
{
	uiopf_control_begin(m->iommu.core);
	m->held = held ? m->held + 1 : m->held ? m->held - 1 : 0;
	uiopf_control_end(m->iommu.core);
	uiopf_core_made_work(m->iommu.core);	/* what came meanwhile is to be reported */
}

static int copy_record(const struct uiopf_records *q, uint32_t at, uint64_t words[UIOPF_MODEL_MOST_WORDS])
{
	const struct uiopf_places p = q->places;

	memcpy(words, uiopf_records_at(p, p.words, at), p.words * sizeof *words);
	return (int)p.words;
}

int uiopf_model_read_record(struct uiopf_model *m, uint32_t n, uint64_t words[UIOPF_MODEL_MOST_WORDS])
{
	const struct uiopf_records *q;
	int rc = 0;

	uiopf_control_begin(m->iommu.core);
	q = m->ops->queue ? m->ops->queue(m, n) : NULL;
	if (!q)
		rc = -EINVAL;
	else if (q->written != q->head)
		rc = copy_record(q, q->head, words);
	uiopf_control_end(m->iommu.core);
	return rc;
}

int uiopf_model_write_record(struct uiopf_model *m, uint32_t n, const uint64_t words[UIOPF_MODEL_MOST_WORDS])
{
	const struct uiopf_records *q;
	int rc = 0;

	uiopf_control_begin(m->iommu.core);
	q = m->ops->queue ? m->ops->queue(m, n) : NULL;
	if (!q) {
		rc = -EINVAL;
	} else if (q->written != q->head) {
		const struct uiopf_places p = q->places;

		memcpy(uiopf_records_at(p, p.words, q->head), words, p.words * sizeof *words);
		rc = (int)p.words;
	}
	uiopf_control_end(m->iommu.core);
	return rc;
}

int uiopf_model_read_command(struct uiopf_model *m, int refusal, uint64_t words[UIOPF_MODEL_MOST_WORDS])
{
	const struct uiopf_records *q = &m->commands[refusal ? UIOPF_PRODUCER : UIOPF_CONSUMER].queue;
	int rc = 0;

	uiopf_control_begin(m->iommu.core);
	if (q->written)
		rc = copy_record(q, q->written - 1, words);
	uiopf_control_end(m->iommu.core);
	return rc;
}

int uiopf_model_read_register(struct uiopf_model *m, uint32_t offset, uint64_t *value)
{
	int rc;

	if (!m->ops->read)
		return -EOPNOTSUPP;
	uiopf_control_begin(m->iommu.core);
	rc = m->ops->read(m, offset, value);
	uiopf_control_end(m->iommu.core);
	return rc;
}

int uiopf_model_write_register(struct uiopf_model *m, uint32_t offset, uint64_t value)
{
	int rc;

	if (!m->ops->write)
		return -EOPNOTSUPP;
	uiopf_control_begin(m->iommu.core);
	rc = m->ops->write(m, offset, value);
	uiopf_control_end(m->iommu.core);
	uiopf_core_made_work(m->iommu.core);	/* an interrupt may be let in */
	return rc;
}

int uiopf_model_command(struct uiopf_model *m, const uint64_t words[UIOPF_MODEL_COMMAND_WORDS])
{
	struct uiopf_commands *c = &m->commands[UIOPF_PRODUCER];
	uint64_t lost;

	if (!m->ops->commands)
		return -EOPNOTSUPP;
	uiopf_control_begin(m->iommu.core);
	lost = c->queue.lost;
	m->others = true;
	if (m->ops->command_words == UIOPF_COMMAND_WORDS_MOST)
		uiopf_commands_give_long(c, words);
	else
		uiopf_commands_give(c, m->ops->command_words, words[0], words[1]);
	uiopf_model_kick(m, UIOPF_PRODUCER);
	lost = c->queue.lost - lost;
	uiopf_control_end(m->iommu.core);
	uiopf_core_made_work(m->iommu.core);
	return lost ? -ENOMEM : 0;
}

void uiopf_model_finish_commands(struct uiopf_model *m)
{
	bool stopped;

	uiopf_control_begin(m->iommu.core);
	uiopf_model_kick(m, UIOPF_PRODUCER);
	do {
		execute(m);
		stopped = m->stopped;
		if (stopped)	/* its driver takes the illegal one away, also while its interrupt is held */
			m->ops->interrupt(m);
	} while (stopped);
	uiopf_control_end(m->iommu.core);
	uiopf_core_made_work(m->iommu.core);
}

int uiopf_model_functions_of(struct uiopf_model *m, uint32_t domain, uint32_t requester_ids[UIOPF_MODEL_MOST_FUNCTIONS])
{
	const struct uiopf_endpoint *ep;
	int n = 0;

	_Static_assert(UIOPF_MODEL_MOST_FUNCTIONS == UIOPF_MOST_SOURCES, "there are no more");
	uiopf_control_begin(m->iommu.core);
	for (ep = m->port.endpoints; ep && n < UIOPF_MODEL_MOST_FUNCTIONS; ep = ep->next)
		if (ep->tlb && ep->tlb->translator->domain == domain)
			requester_ids[n++] = ep->requester_id;
	uiopf_control_end(m->iommu.core);
	return n;
}

void uiopf_model_get_counts(struct uiopf_model *m, struct uiopf_model_counts *counts)
{
	const struct uiopf_records *q;
	uint32_t n;

	uiopf_control_begin(m->iommu.core);
	counts->waited = 0;
	for (n = 0; m->ops->queue && (q = m->ops->queue(m, n)); n++)
		counts->waited += q->waited;
	counts->overflowed = m->overflowed;
	counts->strangers = m->strangers;
	counts->illegal = m->illegal;
	counts->completed = m->completed;
	counts->commands_lost = uiopf_commands_lost(m->commands) + m->own_lost;
	uiopf_control_end(m->iommu.core);
}
