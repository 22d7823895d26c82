#include "hardware/iommu/smmuv3.h"

#include <errno.h>

#include "hardware/iommu/invalidate.h"
#include "hardware/iommu/model_path.h"

/* ---- hardware ---- */

hot_inline void to_queue(void *above, struct uiopf_page_request request)
{
	uiopf_smmuv3_page_request(above, request);
}

static void note_event(struct uiopf_smmuv3 *s, uint32_t at);

static void kept_or_aborted(struct uiopf_smmuv3 *s, struct uiopf_page_request request, const uint64_t event[]);

/*
 * The event of a function whose stage 1 is a bypass, or maps each address to itself; or of one with a translator, whose
 * last walk is this transaction's. False: such an end does not stall, but aborts (F_WALK_EABT, C_BAD_CD).
 */
static __attribute__((noinline)) bool stage_says(const struct uiopf_endpoint *endpoint, struct uiopf_page_request request,
						 uint64_t event[])
{
	static const uint8_t number[UIOPF_REASONS] = {
		[UIOPF_NOT_PRESENT] = SMMU_EVENT_TRANSLATION,
		[UIOPF_RESERVED_BIT] = SMMU_EVENT_TRANSLATION,
		[UIOPF_NOT_ACCESSED] = SMMU_EVENT_ACCESS,
		[UIOPF_NO_RIGHT] = SMMU_EVENT_PERMISSION,
		[UIOPF_NO_SUCH_ADDRESS] = SMMU_EVENT_TRANSLATION,
		[UIOPF_RESTLESS] = SMMU_EVENT_TRANSLATION,
	};
	const struct uiopf_translation *t = &endpoint->ended;

	if (endpoint->stage == 2) {
		event[1] |= SMMU_EVENT_STAGE_2;
		event[3] = request.address & SMMU_EVENT_IPA;
		return true;
	}
	event[0] = (event[0] & ~(uint64_t)SMMU_EVENT) | number[t->reason];
	if (t->stage == 2) {
		event[1] |= SMMU_EVENT_STAGE_2;
		event[3] = t->intermediate & SMMU_EVENT_IPA;
	}
	if (t->of_table)
		event[1] = (event[1] & ~SMMU_EVENT_CLASS) | SMMU_EVENT_CLASS_TABLE |
			   (t->writes_table ? 0 : SMMU_EVENT_TABLE_READ);
	return number[t->reason];
}

/* A transaction stalls. */
hot_inline void to_event_queue(void *above, struct uiopf_page_request request)
{
	struct uiopf_smmuv3 *s = above;
	const struct uiopf_source *source = &s->model.source[request.requester_id];
	const uint32_t tag = request.message >> PCIE_PRI_PRGI_SHIFT & (PCIE_PRI_PRGI_COUNT - 1);
	uint64_t *d = uiopf_records_place(&s->evtq, SMMU_EVTQ_WORDS), event[SMMU_EVTQ_WORDS];

	event[0] = SMMU_EVENT_TRANSLATION | SMMU_EVENT_SSV | (uint64_t)request.pasid << SMMU_EVENT_SSID_SHIFT |
		   (uint64_t)request.requester_id << SMMU_EVENT_SID_SHIFT;
	event[1] = tag | SMMU_EVENT_STALL | SMMU_EVENT_CLASS_IN | (request.execute ? SMMU_EVENT_FETCH : 0) |
		   (request.privileged ? SMMU_EVENT_PRIVILEGED : 0) | (request.message & PCIE_PRI_READ ? SMMU_EVENT_READ : 0);
	event[2] = request.address;
	event[3] = 0;
	if (likely(source->stalls && source->endpoint)) {
		source->endpoint->page[tag] = request.address;	/* should it ask again */
		if (unlikely(source->endpoint->stage != 1) && !stage_says(source->endpoint, request, event)) {
			uiopf_model_answer(&s->model, request, PCIE_PRG_INVALID);
			return;
		}
	}
	if (unlikely(!d || s->evtq.waiting_count || !source->device)) {
		kept_or_aborted(s, request, event);
		return;
	}
	d[0] = event[0];
	d[1] = event[1];
	d[2] = event[2];
	d[3] = event[3];
	if (unlikely(s->model.sent_under != NULL))
		note_event(s, s->evtq.written);
	uiopf_records_put(&s->evtq);
	uiopf_records_show(&s->evtq);
}

static __attribute__((noinline)) void kept_or_aborted(struct uiopf_smmuv3 *s, struct uiopf_page_request request,
						      const uint64_t event[])
{
	if (!s->model.source[request.requester_id].device)
		uiopf_model_answer(&s->model, request, PCIE_PRG_INVALID);
	else if (!uiopf_records_wait(&s->evtq, event))
		s->model.overflowed++;	/* no memory: it waits for ever, and is seen to */
}

static uint32_t endpoint_turn(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	if (endpoint->stalls)
		return uiopf_endpoint_turn(endpoint, to_event_queue, uiopf_smmuv3_of(m));
	return uiopf_endpoint_turn(endpoint, to_queue, uiopf_smmuv3_of(m));
}

static void request(struct uiopf_model *m, struct uiopf_page_request request)
{
	uiopf_smmuv3_page_request(uiopf_smmuv3_of(m), request);
}

/* The next request of a function that has been given an answer. */
hot_inline void to_either(void *above, struct uiopf_page_request request)
{
	if (uiopf_smmuv3_of(above)->model.source[request.requester_id].stalls)
		to_event_queue(above, request);
	else
		to_queue(above, request);
}

static void answer(struct uiopf_model *m, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now)
{
	uiopf_endpoint_response(endpoint, index, code, now, to_either, uiopf_smmuv3_of(m));
}

static void raise_error(struct uiopf_smmuv3 *s, uint32_t error)
{
	if (!((s->gerror ^ s->gerrorn) & error))
		s->gerror ^= error;
}

/* The table at the head of smmuv3.h. */
void uiopf_smmuv3_not_written(struct uiopf_smmuv3 *s, struct uiopf_page_request request)
{
	struct uiopf_model *m = &s->model;
	const struct uiopf_source *source = &m->source[request.requester_id];
	const bool known = source->endpoint;
	const uint32_t abort = s->priq_state & (SMMU_PRIQ_ABORT_SYNC | SMMU_PRIQ_ABORT_ASYNC);

	if (known && source->stalls) {
		/* Forged: it has no PRI, and an answer is nothing to it. */
		if (!uiopf_is_stop_marker(request))
			uiopf_model_answer_with_last(m, request);
	} else if (s->priq_state & (SMMU_PRIQ_OFF | SMMU_PRIQ_ABORTED)) {
		s->incomplete = true;
		if (!uiopf_is_stop_marker(request))
			uiopf_model_answer(m, request, PCIE_PRG_FAILURE);
	} else if (s->priq_state & SMMU_PRIQ_OVERFLOWED || s->prq.written - s->prq.head == SMMU_PRIQ_ENTRIES) {
		if (!(s->priq_state & SMMU_PRIQ_OVERFLOWED))
			s->overflow_flag ^= SMMU_OVERFLOW;
		s->priq_state |= SMMU_PRIQ_OVERFLOWED;
		if (uiopf_is_stop_marker(request))
			return;
		if (request.message & PCIE_PRI_LAST)
			uiopf_model_answer(m, request, known ? PCIE_PRG_SUCCESS : PCIE_PRG_FAILURE);
		else
			uiopf_model_answer_with_last(m, request);
	} else {
		s->priq_state = (s->priq_state & ~abort) | SMMU_PRIQ_ABORTED;
		s->incomplete = true;
		raise_error(s, SMMU_GERROR_PRIQ_ABT_ERR);
		if (abort & SMMU_PRIQ_ABORT_ASYNC)
			m->overflowed += !uiopf_is_stop_marker(request);
		else if (!uiopf_is_stop_marker(request))
			uiopf_model_answer(m, request, PCIE_PRG_FAILURE);
	}
}

/* What a command answers. */
hot_inline struct uiopf_answer decode_answer(const uint64_t *d)
{
	static const uint8_t pcie[4] = {
		[SMMU_PRI_RESP_FAILURE] = PCIE_PRG_FAILURE,
		[SMMU_PRI_RESP_INVALID] = PCIE_PRG_INVALID,
		[SMMU_PRI_RESP_SUCCESS] = PCIE_PRG_SUCCESS,
	};
	static const uint8_t resumes[4] = {
		[SMMU_RESUME_TERMINATE] = UIOPF_STALL_TERMINATED,
		[SMMU_RESUME_RETRY] = PCIE_PRG_SUCCESS,
		[SMMU_RESUME_ABORT] = PCIE_PRG_INVALID,
		[SMMU_RESUME_RETRY | SMMU_RESUME_ABORT] = PCIE_PRG_SUCCESS,	/* Abort is ignored */
	};
	const uint64_t stream = d[0] >> SMMU_CMD_SID_SHIFT;
	const uint32_t code = d[1] >> SMMU_PRI_RESP_CODE_SHIFT & 3, tag = d[1] & SMMU_RESUME_TAG;

	if ((d[0] & (SMMU_CMD_OPCODE | SMMU_CMD_SSEC)) == SMMU_CMD_RESUME && stream < UIOPF_REQUESTER_IDS &&
	    tag < PCIE_PRI_PRGI_COUNT)
		return (struct uiopf_answer){
			.requester_id = (uint32_t)stream,
			.index = tag,
			.code = resumes[d[0] >> SMMU_RESUME_SHIFT & 3],
		};
	if (unlikely((d[0] & SMMU_CMD_OPCODE) != SMMU_CMD_PRI_RESP || code == 3 || stream >= UIOPF_REQUESTER_IDS))
		return (struct uiopf_answer){ .requester_id = UIOPF_NOBODY };
	return (struct uiopf_answer){
		.requester_id = (uint32_t)stream,
		.index = d[1] & SMMU_PRIQ_INDEX,
		.code = pcie[code],
	};
}

/* A page request is answered, and a transaction that stalls is resumed. */
hot_inline bool is_for(const struct uiopf_source *source, const uint64_t *d)
{
	return source->stalls == ((d[0] & SMMU_CMD_OPCODE) == SMMU_CMD_RESUME);
}

/* With a granule it says a range, or a level; what says neither is reserved. */
static bool says_a_range(const uint64_t *d)
{
	const uint32_t granule = d[1] >> SMMU_TLBI_TG_SHIFT & 3, level = d[1] >> SMMU_TLBI_TTL_SHIFT & 3;
	const bool pages = (d[0] >> SMMU_TLBI_NUM_SHIFT & 31) || (d[0] >> SMMU_TLBI_SCALE_SHIFT & 31);

	return !granule || pages || (level && !(granule == 2 && level == 1));
}

/* On the Non-secure queue of an SMMU with this IDR0, without MPAM and device permission tables. */
static bool is_legal(const uint64_t *d)
{
	switch (d[0] & SMMU_CMD_OPCODE) {
	case SMMU_CMD_PREFETCH_CONFIG:
	case SMMU_CMD_PREFETCH_ADDR:
	case SMMU_CMD_CFGI_STE:
	case SMMU_CMD_CFGI_STE_RANGE:
	case SMMU_CMD_CFGI_CD:
	case SMMU_CMD_CFGI_CD_ALL:
	case SMMU_CMD_RESUME:
	case SMMU_CMD_STALL_TERM:
		return !(d[0] & SMMU_CMD_SSEC);
	case SMMU_CMD_TLBI_NH_VA:
	case SMMU_CMD_TLBI_NH_VAA:
	case SMMU_CMD_TLBI_EL2_VA:
	case SMMU_CMD_TLBI_EL2_VAA:
	case SMMU_CMD_TLBI_S2_IPA:
		return says_a_range(d);
	case SMMU_CMD_TLBI_NH_ALL:
	case SMMU_CMD_TLBI_NH_ASID:
	case SMMU_CMD_TLBI_EL2_ALL:
	case SMMU_CMD_TLBI_EL2_ASID:
	case SMMU_CMD_TLBI_S12_VMALL:
	case SMMU_CMD_TLBI_NSNH_ALL:
		return true;
	case SMMU_CMD_ATC_INV:
		return (d[1] & SMMU_ATC_INV_SIZE) <= SMMU_ATC_INV_SIZE_MOST;
	case SMMU_CMD_PRI_RESP:
		return (d[1] >> SMMU_PRI_RESP_CODE_SHIFT & 3) != 3;
	case SMMU_CMD_SYNC:
		return (d[0] & SMMU_SYNC_CS) != SMMU_SYNC_CS;
	default:
		return false;
	}
}

/*
 * CMD_STALL_TERM: what has stalled in this stream by now aborts. What stalls on the way, in the places that come free,
 * does not. Events that are in the queue stay there; an answer to one finds no transaction.
 */
static void terminate_stalled(struct uiopf_smmuv3 *s, uint64_t stream)
{
	const struct uiopf_source *source = &s->model.source[stream];
	const uint64_t now = uiopf_now(&s->model.iommu.core->clock);
	bool stalled[PCIE_PRI_PRGI_COUNT];
	uint32_t tag;

	if (!source->endpoint || !source->stalls)
		return;
	for (tag = 0; tag < PCIE_PRI_PRGI_COUNT; tag++)
		stalled[tag] = source->endpoint->prg[tag].outstanding;
	for (tag = 0; tag < PCIE_PRI_PRGI_COUNT; tag++)
		if (stalled[tag])
			answer(&s->model, source->endpoint, tag, PCIE_PRG_INVALID, now);
}

static bool is_in(const struct uiopf_records *q, const uint64_t *d)
{
	return d >= q->places.ring && d <= uiopf_records_at(q->places, SMMU_CMD_WORDS, q->places.mask);
}

/* Leaf and TTL are hints, which take nothing away from it. */
static struct uiopf_range range_of(const uint64_t *d)
{
	const uint64_t address = d[1] & PCIE_PRI_ADDRESS;
	const uint32_t granule = d[1] >> SMMU_TLBI_TG_SHIFT & 3;
	uint64_t size;

	if (!granule)
		return (struct uiopf_range){ address, address | 0xfff };
	size = ((d[0] >> SMMU_TLBI_NUM_SHIFT & 31) + 1) << (d[0] >> SMMU_TLBI_SCALE_SHIFT & 31) << (10 + 2 * granule);
	return (struct uiopf_range){ address, address + size - 1 < address ? UINT64_MAX : address + size - 1 };
}

/* Streams here are of StreamWorld NS-EL1: commands for EL2 name nothing. */
static void invalidate(const struct uiopf_port *port, const uint64_t *d)
{
	const uint32_t vmid = d[0] >> SMMU_TLBI_VMID_SHIFT & 0xffff, asid = d[0] >> SMMU_TLBI_ASID_SHIFT & 0xffff;
	struct uiopf_range range;

	switch (d[0] & SMMU_CMD_OPCODE) {
	case SMMU_CMD_TLBI_NH_ALL:
		uiopf_invalidate(port, vmid, UIOPF_ANY_TAG, UIOPF_ALL_ADDRESSES);
		return;
	case SMMU_CMD_TLBI_NH_ASID:
		uiopf_invalidate(port, vmid, asid, UIOPF_ALL_ADDRESSES);
		return;
	case SMMU_CMD_TLBI_NH_VA:
		uiopf_invalidate(port, vmid, asid, range_of(d));
		return;
	case SMMU_CMD_TLBI_NH_VAA:
		uiopf_invalidate(port, vmid, UIOPF_ANY_TAG, range_of(d));
		return;
	case SMMU_CMD_TLBI_S12_VMALL:
		uiopf_invalidate(port, vmid, UIOPF_ANY_TAG, UIOPF_ALL_ADDRESSES);
		uiopf_invalidate_second(port, vmid, UIOPF_ALL_ADDRESSES);
		return;
	case SMMU_CMD_TLBI_S2_IPA:
		range = range_of((const uint64_t[]){ d[0], d[1] & (SMMU_TLBI_IPA | 0xfff) });
		uiopf_invalidate_second(port, vmid, range);
		return;
	case SMMU_CMD_TLBI_NSNH_ALL:
		uiopf_invalidate(port, UIOPF_ANY_DOMAIN, UIOPF_ANY_TAG, UIOPF_ALL_ADDRESSES);
		uiopf_invalidate_second(port, UIOPF_ANY_DOMAIN, UIOPF_ALL_ADDRESSES);
		return;
	}
}

/* An STE is no longer kept, and all descriptors that were found by it are not either. */
static void invalidate_streams(const struct uiopf_port *port, uint64_t stream, uint32_t bits)
{
	const struct uiopf_endpoint *ep;

	for (ep = port->endpoints; ep; ep = ep->next)
		if ((ep->requester_id ^ stream) >> bits == 0)
			uiopf_invalidate_contexts(port, ep->requester_id, UIOPF_ANY_DOMAIN, UIOPF_ANY_PASID);
}

/* What is of a stream: what is kept of its configuration, and in its function's own TLB. */
static void invalidate_of_stream(const struct uiopf_port *port, const uint64_t *d)
{
	const uint64_t stream = d[0] >> SMMU_CMD_SID_SHIFT;
	const uint32_t substream = d[0] >> SMMU_CMD_SSID_SHIFT & 0xfffff;
	const bool one = (d[0] & (SMMU_ATC_INV_SSV | SMMU_ATC_INV_GLOBAL)) == SMMU_ATC_INV_SSV;

	switch (d[0] & SMMU_CMD_OPCODE) {
	case SMMU_CMD_CFGI_STE_RANGE:
		invalidate_streams(port, stream, (d[1] & SMMU_CFGI_RANGE) + 1);
		return;
	case SMMU_CMD_CFGI_STE:
	case SMMU_CMD_CFGI_CD_ALL:
		invalidate_streams(port, stream, 0);
		return;
	case SMMU_CMD_CFGI_CD:
		if (stream < UIOPF_REQUESTER_IDS)
			uiopf_invalidate_contexts(port, (uint32_t)stream, UIOPF_ANY_DOMAIN, substream);
		return;
	case SMMU_CMD_ATC_INV:
		if (stream < UIOPF_REQUESTER_IDS)
			uiopf_invalidate_device(port, (uint32_t)stream, one ? substream : UIOPF_ANY_PASID,
						uiopf_aligned_range(d[1], 12 + (d[1] & SMMU_ATC_INV_SIZE)));
		return;
	}
}

/* CMD_SYNC says that the commands before it have been carried out, which its place in the queue does. */
static __attribute__((noinline)) bool other_command(struct uiopf_model *m, const uint64_t *d)
{
	struct uiopf_smmuv3 *s = uiopf_smmuv3_of(m);

	if (!is_legal(d)) {
		s->stopped_side = is_in(&m->commands[UIOPF_PRODUCER].queue, d) ? UIOPF_PRODUCER : UIOPF_CONSUMER;
		m->stopped = true;
		m->illegal++;
		raise_error(s, SMMU_GERROR_CMDQ_ERR);
		return false;
	}
	if ((d[0] & SMMU_CMD_OPCODE) == SMMU_CMD_STALL_TERM && d[0] >> SMMU_CMD_SID_SHIFT < UIOPF_REQUESTER_IDS)
		terminate_stalled(s, d[0] >> SMMU_CMD_SID_SHIFT);
	m->completed += (d[0] & SMMU_CMD_OPCODE) == SMMU_CMD_SYNC;
	invalidate(&m->port, d);
	invalidate_of_stream(&m->port, d);
	return true;
}

static uint32_t execute(struct uiopf_model *m)
{
	return uiopf_model_carry_out_all(m, SMMU_CMD_WORDS, decode_answer, is_for, other_command, to_either,
					 uiopf_smmuv3_of(m));
}

int uiopf_smmuv3_enable_priq(struct uiopf_model *m, int on)
{
	struct uiopf_smmuv3 *s = uiopf_smmuv3_of(m);

	if (m->ops != &uiopf_model_smmuv3)
		return -EOPNOTSUPP;
	uiopf_control_begin(m->iommu.core);
	s->priq_state = on ? s->priq_state & ~SMMU_PRIQ_OFF : s->priq_state | SMMU_PRIQ_OFF;
	uiopf_control_end(m->iommu.core);
	return 0;
}

int uiopf_smmuv3_abort_priq(struct uiopf_model *m, int synchronous)
{
	struct uiopf_smmuv3 *s = uiopf_smmuv3_of(m);

	if (m->ops != &uiopf_model_smmuv3)
		return -EOPNOTSUPP;
	uiopf_control_begin(m->iommu.core);
	s->priq_state &= ~(SMMU_PRIQ_ABORT_SYNC | SMMU_PRIQ_ABORT_ASYNC);
	s->priq_state |= synchronous ? SMMU_PRIQ_ABORT_SYNC : SMMU_PRIQ_ABORT_ASYNC;
	uiopf_control_end(m->iommu.core);
	return 0;
}

/* ---- registers ---- */

/* Of both queues of commands: how many there have been, and how many have been carried out. */
static uint32_t cmdq_prod(const struct uiopf_model *m)
{
	return (m->commands[UIOPF_PRODUCER].queue.tail + m->commands[UIOPF_CONSUMER].queue.tail) & SMMU_CMDQ_INDEX;
}

static uint32_t cmdq_cons(const struct uiopf_model *m)
{
	const uint32_t head = m->commands[UIOPF_PRODUCER].queue.head + m->commands[UIOPF_CONSUMER].queue.head;

	return (head & SMMU_CMDQ_INDEX) | (m->stopped ? SMMU_CERROR_ILL << SMMU_CMDQ_ERR_SHIFT : 0);
}

static int read_register(const struct uiopf_model *m, uint32_t offset, uint64_t *value)
{
	const struct uiopf_smmuv3 *s = container_of(m, const struct uiopf_smmuv3, model);

	switch (offset) {
	case SMMU_IDR0:
		*value = SMMU_IDR0_VALUE;
		return 0;
	case SMMU_IDR3:
		*value = SMMU_IDR3_VALUE;
		return 0;
	case SMMU_CR0:
		*value = SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN | SMMU_CR0_CMDQEN |
			 (s->priq_state & SMMU_PRIQ_OFF ? 0 : SMMU_CR0_PRIQEN);
		return 0;
	case SMMU_GERROR:
		*value = s->gerror;
		return 0;
	case SMMU_GERRORN:
		*value = s->gerrorn;
		return 0;
	case SMMU_CMDQ_PROD:
		*value = cmdq_prod(m);
		return 0;
	case SMMU_CMDQ_CONS:
		*value = cmdq_cons(m);
		return 0;
	case SMMU_EVENTQ_PROD:
		*value = s->evtq.written % (2 * SMMU_EVTQ_ENTRIES);
		return 0;
	case SMMU_EVENTQ_CONS:
		*value = s->evtq.head % (2 * SMMU_EVTQ_ENTRIES);
		return 0;
	case SMMU_PRIQ_PROD:
		*value = uiopf_smmuv3_priq_prod(s);
		return 0;
	case SMMU_PRIQ_CONS:
		*value = uiopf_smmuv3_priq_cons(s);
		return 0;
	default:
		return -EINVAL;
	}
}

/* What GERRORN acknowledges is no longer active: commands are fetched, or requests are written, again. */
static void acknowledge(struct uiopf_smmuv3 *s, uint32_t gerrorn)
{
	const uint32_t active = (s->gerror ^ gerrorn) & (SMMU_GERROR_CMDQ_ERR | SMMU_GERROR_PRIQ_ABT_ERR);

	s->gerrorn = s->gerror ^ active;
	s->model.stopped = active & SMMU_GERROR_CMDQ_ERR;
	if (!(active & SMMU_GERROR_PRIQ_ABT_ERR))
		s->priq_state &= ~SMMU_PRIQ_ABORTED;
}

static int write_register(struct uiopf_model *m, uint32_t offset, uint64_t value)
{
	struct uiopf_smmuv3 *s = uiopf_smmuv3_of(m);
	uint64_t before;

	switch (offset) {
	case SMMU_CR0:
		s->priq_state = value & SMMU_CR0_PRIQEN ? s->priq_state & ~SMMU_PRIQ_OFF : s->priq_state | SMMU_PRIQ_OFF;
		return 0;
	case SMMU_GERRORN:
		/* What is not active stays so: to make it active is not for software. */
		acknowledge(s, s->gerrorn ^ (((uint32_t)value ^ s->gerrorn) & (s->gerror ^ s->gerrorn)));
		return 0;
	default:
		return read_register(m, offset, &before);
	}
}

/* ---- driver ---- */

hot_inline void give_response(struct uiopf_model *m, enum uiopf_side side, uint32_t stream, uint32_t flags,
			      uint32_t pasid, uint32_t grpid, uint32_t code)
{
	_Static_assert(UIOPF_RESP_SUCCESS == SMMU_PRI_RESP_SUCCESS - 2 && UIOPF_RESP_INVALID == SMMU_PRI_RESP_INVALID &&
		       UIOPF_RESP_FAILURE == SMMU_PRI_RESP_FAILURE + 2, "the one counts down, the other up");
	uint64_t word0 = SMMU_CMD_PRI_RESP | (uint64_t)stream << SMMU_CMD_SID_SHIFT;

	if (flags & UIOPF_FAULT_PASID_VALID)
		word0 |= SMMU_PRI_RESP_SSV | (uint64_t)pasid << SMMU_PRI_RESP_SSID_SHIFT;
	uiopf_commands_give(&m->commands[side], SMMU_CMD_WORDS, word0,
			    grpid | (uint64_t)(2 - code) << SMMU_PRI_RESP_CODE_SHIFT);
}

/* Linux's codes: a failure is no worse than what is invalid, for a transaction that stalls. */
hot_inline void give_resume(struct uiopf_model *m, enum uiopf_side side, uint32_t stream, uint32_t tag, uint32_t code)
{
	const uint64_t what = code == UIOPF_RESP_SUCCESS ? SMMU_RESUME_RETRY : SMMU_RESUME_ABORT;

	uiopf_commands_give(&m->commands[side], SMMU_CMD_WORDS,
			    SMMU_CMD_RESUME | what << SMMU_RESUME_SHIFT | (uint64_t)stream << SMMU_CMD_SID_SHIFT, tag);
}

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	if (uiopf_model_of(device)->source[device->requester_id].stalls)
		give_resume(uiopf_model_of(device), side, device->requester_id, grpid, code);
	else
		give_response(uiopf_model_of(device), side, device->requester_id, flags, pasid, grpid, code);
}

hot_inline struct uiopf_fault decode(uint64_t d0, uint64_t d1)
{
	_Static_assert(PCIE_PRI_READ == IOMMU_PGFAULT_PERM_READ && PCIE_PRI_WRITE == IOMMU_PGFAULT_PERM_WRITE,
		       "two of the permission bits are the message's");
	struct uiopf_fault fault = {
		.addr = d1 & PCIE_PRI_ADDRESS,
		.flags = d0 & SMMU_PRIQ_LAST ? UIOPF_FAULT_LAST_PAGE : 0,
		.grpid = d1 & SMMU_PRIQ_INDEX,
		.perm = d0 >> SMMU_PRIQ_MESSAGE_SHIFT & (PCIE_PRI_READ | PCIE_PRI_WRITE),
	};

	if (likely(d0 & SMMU_PRIQ_SSV)) {
		fault.flags |= UIOPF_FAULT_PASID_VALID;
		fault.pasid = d0 >> SMMU_PRIQ_SSID_SHIFT & 0xfffff;
	}
	if (unlikely(d0 & (SMMU_PRIQ_EXECUTE | SMMU_PRIQ_PRIVILEGED))) {
		fault.perm |= d0 & SMMU_PRIQ_EXECUTE ? IOMMU_PGFAULT_PERM_EXEC : 0;
		fault.perm |= d0 & SMMU_PRIQ_PRIVILEGED ? IOMMU_PGFAULT_PERM_PRIV : 0;
	}
	return fault;
}

static uint32_t stream_of(uint64_t d0)
{
	return d0 & (UIOPF_REQUESTER_IDS - 1);	/* a StreamID has 32 bits; the ids of functions here have 16 */
}

void uiopf_smmuv3_note(struct uiopf_smmuv3 *s, uint32_t slot, uint64_t word0, uint64_t word1)
{
	const struct uiopf_fault fault = decode(word0, word1);

	uiopf_model_note(&s->model, slot, stream_of(word0), &fault);
}

/* Nothing is asked for, and nobody waits. The same without a SubstreamID is an ordinary request. */
static bool is_stop_marker(uint64_t d0)
{
	const uint64_t all = 7ull << SMMU_PRIQ_MESSAGE_SHIFT | SMMU_PRIQ_SSV | SMMU_PRIQ_EXECUTE | SMMU_PRIQ_PRIVILEGED;

	return (d0 & all) == (SMMU_PRIQ_SSV | SMMU_PRIQ_LAST);
}

/*
 * Of a request that does not simply go on to the generic layer: whether it does. Where nobody knows the function, or
 * Linux's driver denies all, the last of a group is answered.
 */
static __attribute__((noinline)) bool is_worth_reporting(struct uiopf_model *m, const struct uiopf_device *device,
							 uint64_t d0, uint64_t d1)
{
	const bool denies = m->flags & UIOPF_MODEL_DENIES, stalls = m->source[stream_of(d0)].stalls;
	const struct uiopf_refusals count = uiopf_model_refusals(m, stream_of(d0));
	const struct uiopf_fault fault = decode(d0, d1);

	if (is_stop_marker(d0)) {
		if (denies && !stalls)	/* to Linux it is the last of a group like any other */
			give_response(m, UIOPF_PRODUCER, stream_of(d0), fault.flags, fault.pasid, fault.grpid,
				      UIOPF_RESP_FAILURE);
		return false;
	}
	if (device && !denies && !stalls)
		return true;
	/* A function without PRI has not sent it, and takes no answer. */
	if ((fault.flags & UIOPF_FAULT_LAST_PAGE) && !stalls) {
		give_response(m, UIOPF_PRODUCER, stream_of(d0), fault.flags, fault.pasid, fault.grpid,
			      denies ? UIOPF_RESP_FAILURE : UIOPF_RESP_INVALID);
		uiopf_model_answered_partial(m, stream_of(d0), fault.grpid);
		++*count.refused;
	} else {
		++*count.passed_over;
	}
	return false;
}

/* ---- driver: the event queue ---- */

static uint32_t stream_of_event(uint64_t d0)
{
	return d0 >> SMMU_EVENT_SID_SHIFT & (UIOPF_REQUESTER_IDS - 1);
}

hot_inline struct uiopf_fault decode_event(const uint64_t *d)
{
	struct uiopf_fault fault = {
		.addr = d[2],
		.flags = UIOPF_FAULT_LAST_PAGE,
		.grpid = d[1] & SMMU_EVENT_TAG,
		.perm = d[1] & SMMU_EVENT_READ ? IOMMU_PGFAULT_PERM_READ : IOMMU_PGFAULT_PERM_WRITE,
	};

	if (likely(d[0] & SMMU_EVENT_SSV)) {
		fault.flags |= UIOPF_FAULT_PASID_VALID;
		fault.pasid = d[0] >> SMMU_EVENT_SSID_SHIFT & 0xfffff;
	}
	if (unlikely(d[1] & (SMMU_EVENT_FETCH | SMMU_EVENT_PRIVILEGED | SMMU_EVENT_STAGE_2))) {
		fault.perm |= d[1] & SMMU_EVENT_FETCH ? IOMMU_PGFAULT_PERM_EXEC : 0;
		fault.perm |= d[1] & SMMU_EVENT_PRIVILEGED ? IOMMU_PGFAULT_PERM_PRIV : 0;
		fault.flags |= d[1] & SMMU_EVENT_STAGE_2 ? UIOPF_FAULT_STAGE_2 : 0;
	}
	return fault;
}

/* The slots of events are behind those of page requests. */
static struct uiopf_translation told(const struct uiopf_model *m, uint32_t slot)
{
	const struct uiopf_smmuv3 *s = container_of(m, const struct uiopf_smmuv3, model);
	const uint64_t *d = uiopf_records_at(s->evtq.places, SMMU_EVTQ_WORDS, slot - SMMU_PRIQ_ENTRIES);
	const bool of_table = (d[1] & SMMU_EVENT_CLASS) == SMMU_EVENT_CLASS_TABLE;
	const uint32_t event = d[0] & SMMU_EVENT;

	return (struct uiopf_translation){ .stage = 2, .intermediate = d[3] & SMMU_EVENT_IPA, .of_table = of_table,
		.writes_table = of_table && !(d[1] & SMMU_EVENT_TABLE_READ),
		.reason = event == SMMU_EVENT_PERMISSION ? UIOPF_NO_RIGHT : event == SMMU_EVENT_ACCESS ? UIOPF_NOT_ACCESSED :
			  UIOPF_NOT_PRESENT };
}

static void note_event(struct uiopf_smmuv3 *s, uint32_t at)
{
	const uint64_t *d = uiopf_records_at(s->evtq.places, SMMU_EVTQ_WORDS, at);
	const struct uiopf_fault fault = decode_event(d);

	uiopf_model_note(&s->model, SMMU_PRIQ_ENTRIES + at % SMMU_EVTQ_ENTRIES, stream_of_event(d[0]), &fault);
}

/* Hardware, on the same thread: there is room for events that were kept. */
static __attribute__((noinline)) void admit_events(struct uiopf_smmuv3 *s)
{
	uint32_t at = s->evtq.written;

	uiopf_records_admit(&s->evtq);
	for (; s->model.sent_under && at != s->evtq.written; at++)
		note_event(s, at);
	uiopf_records_show(&s->evtq);
}

/* Not a fault that stalls: Linux says it in its log. */
static bool stalled(const uint64_t *d)
{
	const uint32_t event = d[0] & SMMU_EVENT;

	return event >= SMMU_EVENT_TRANSLATION && event <= SMMU_EVENT_PERMISSION && (d[1] & SMMU_EVENT_STALL);
}

static uint32_t take_events(struct uiopf_smmuv3 *s)
{
	struct uiopf_model *m = &s->model;
	uint32_t n, i, all = 0;

	while ((n = uiopf_records_ready(&s->evtq))) {
		const uint32_t head = s->evtq.head;

		for (i = 0; i < n; i++) {
			const uint64_t *d = uiopf_records_at(s->evtq.places, SMMU_EVTQ_WORDS, head + i);
			struct uiopf_device *device = uiopf_model_device(m, stream_of_event(d[0]));
			const struct uiopf_fault fault = decode_event(d);

			if (unlikely(!stalled(d)))
				continue;
			if (likely(device)) {
				uiopf_model_report(m, SMMU_PRIQ_ENTRIES + (head + i) % SMMU_EVTQ_ENTRIES, device, &fault);
			} else {	/* unbound meanwhile: whatever is given back frees its place */
				give_resume(m, UIOPF_PRODUCER, stream_of_event(d[0]), fault.grpid, UIOPF_RESP_INVALID);
				++*uiopf_model_refusals(m, stream_of_event(d[0])).refused;
			}
		}
		uiopf_records_done(&s->evtq, n);
		all += n;
		if (unlikely(s->evtq.full))
			admit_events(s);
	}
	return all;
}

/* arm_smmu_gerror_handler(): says it in its log, and goes on, with CMD_SYNC in the place of what is illegal. */
static __attribute__((noinline)) uint32_t take_errors(struct uiopf_smmuv3 *s)
{
	struct uiopf_records *q = &s->model.commands[s->stopped_side].queue;

	if (s->model.stopped) {
		uint64_t *d = uiopf_records_at(q->places, SMMU_CMD_WORDS, q->head);

		d[0] = SMMU_CMD_SYNC;
		d[1] = 0;
	}
	acknowledge(s, s->gerror);
	return 1;
}

static uint32_t interrupt(struct uiopf_model *m)
{
	struct uiopf_smmuv3 *s = uiopf_smmuv3_of(m);
	const uint32_t errors = unlikely(s->gerror != s->gerrorn) ? take_errors(s) : 0;
	const uint32_t events = take_events(s), n = uiopf_records_ready(&s->prq), head = s->prq.head;
	const bool denies = m->flags & UIOPF_MODEL_DENIES;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const uint64_t *d = uiopf_records_at(s->prq.places, SMMU_PRIQ_WORDS, head + i), d0 = d[0], d1 = d[1];
		struct uiopf_device *device = uiopf_model_device(m, stream_of(d0));
		const struct uiopf_fault fault = decode(d0, d1);

		if (unlikely(!device || denies || !fault.perm || m->source[stream_of(d0)].stalls) && !is_worth_reporting(m, device, d0, d1))
			continue;
		uiopf_model_report(m, (head + i) % SMMU_PRIQ_ENTRIES, device, &fault);
	}
	uiopf_records_done(&s->prq, n);
	if (unlikely(s->priq_state & SMMU_PRIQ_OVERFLOWED || s->incomplete)) {
		uiopf_model_pass_over_partial(m);
		s->overflow_seen = s->overflow_flag;
		s->incomplete = false;
	}
	s->priq_state &= ~SMMU_PRIQ_OVERFLOWED;
	uiopf_model_kick(m, UIOPF_PRODUCER);	/* what was refused has been answered */
	return errors + events + n;
}

static bool is_of(const struct uiopf_device *device, const uint64_t *event)
{
	return stalled(event) && stream_of_event(event[0]) == device->requester_id;
}

/* Requests and events that the interrupt has not read. */
static uint64_t unreported(const struct uiopf_model *m, const struct uiopf_device *device)
{
	const struct uiopf_smmuv3 *s = container_of(m, const struct uiopf_smmuv3, model);
	uint64_t requests = 0;
	uint32_t i;

	for (i = s->prq.head; i != s->prq.written; i++) {
		const uint64_t d0 = uiopf_records_at(s->prq.places, SMMU_PRIQ_WORDS, i)[0];

		requests += stream_of(d0) == device->requester_id && !is_stop_marker(d0);
	}
	for (i = s->evtq.head; i != s->evtq.written; i++)
		requests += is_of(device, uiopf_records_at(s->evtq.places, SMMU_EVTQ_WORDS, i));
	for (i = s->evtq.waiting_first; i != s->evtq.waiting_count; i++)
		requests += is_of(device, &s->evtq.waiting[(size_t)SMMU_EVTQ_WORDS * i]);
	return requests;
}

static const struct uiopf_records *queue(const struct uiopf_model *m, uint32_t n)
{
	const struct uiopf_smmuv3 *s = container_of(m, const struct uiopf_smmuv3, model);

	return n == 0 ? &s->prq : n == 1 ? &s->evtq : NULL;
}

/* ---- set-up ---- */

static int open_smmuv3(struct uiopf_model *m)
{
	int rc = uiopf_records_open(&uiopf_smmuv3_of(m)->prq, SMMU_PRIQ_ENTRIES, SMMU_PRIQ_WORDS);

	return rc < 0 ? rc : uiopf_records_open(&uiopf_smmuv3_of(m)->evtq, SMMU_EVTQ_ENTRIES, SMMU_EVTQ_WORDS);
}

static void close_smmuv3(struct uiopf_model *m)
{
	uiopf_records_close(&uiopf_smmuv3_of(m)->prq);
	uiopf_records_close(&uiopf_smmuv3_of(m)->evtq);
}

const struct uiopf_model_ops uiopf_model_smmuv3 = {
	.name = "smmuv3",
	.size = sizeof(struct uiopf_smmuv3),
	.slots = SMMU_PRIQ_ENTRIES + SMMU_EVTQ_ENTRIES,
	.stalls = true,
	.commands = true,
	.command_words = SMMU_CMD_WORDS,
	.prefix = UIOPF_PREFIX,
	.open = open_smmuv3,
	.close = close_smmuv3,
	.endpoint_turn = endpoint_turn,
	.request = request,
	.execute = execute,
	.answer = answer,
	.read = read_register,
	.write = write_register,
	.queue = queue,
	.interrupt = interrupt,
	.respond = respond,
	.told = told,
	.unreported = unreported,
};
