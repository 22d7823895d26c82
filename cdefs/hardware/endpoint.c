#include "hardware/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * A fetch of an instruction reads and executes: PCIe has the one in the message and the other in its PASID prefix. A
 * transaction that stalls is a read or a write: one that is both (an atomic one) writes.
 */
uint32_t uiopf_endpoint_needs(const struct uiopf_endpoint *ep, uint32_t access)
{
	const uint32_t reads = access & (IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_EXEC) ? PCIE_PRI_READ : 0;
	const uint32_t writes = access & IOMMU_PGFAULT_PERM_WRITE;

	/* An adapter executes nothing from memory, and what is neither is no access. */
	if (ep->port->only_stalls || !(reads | writes))
		return reads | writes;
	if (ep->stalls && writes)
		return writes | (access & IOMMU_PGFAULT_PERM_PRIV);
	return reads | writes | (access & UIOPF_PREFIX);
}

/* After a change of what it depends on. */
static void set_apart(struct uiopf_endpoint *ep)
{
	ep->apart = ep->retries || ep->tlb || ep->rows_need & UIOPF_PREFIX;
	if (ep->tlb || ep->rows_need & IOMMU_PGFAULT_PERM_PRIV)
		ep->load.plain = false;
}

static struct uiopf_endpoint *with_requester_id(const struct uiopf_port *port, uint16_t requester_id)
{
	struct uiopf_endpoint *ep = port->endpoints;

	while (ep && ep->requester_id != requester_id)
		ep = ep->next;
	return ep;
}

static void release(struct uiopf_endpoint *ep)
{
	free(ep->load.done_eventfd);
	free(ep->load.row);
	free(ep->page);
	free(ep->private_data);
	free(ep);
}

/* `pri`: its physical function's, or its own, which it takes over. */
static struct uiopf_endpoint *new_endpoint(struct uiopf_core *core, struct uiopf_port *port, uint16_t requester_id,
					   uint32_t group_most, struct uiopf_pri *pri, bool virtual, uint16_t stalls,
					   uint8_t stage)
{
	struct uiopf_endpoint *ep = aligned_alloc(128, sizeof *ep);
	uint32_t i;

	if (!ep)
		return NULL;
	memset(ep, 0, sizeof *ep);
	ep->page = calloc((size_t)PCIE_PRI_PRGI_COUNT * group_most, sizeof *ep->page);
	if (port->private_bits)
		ep->private_data = aligned_alloc(64, PCIE_PRI_PRGI_COUNT * sizeof *ep->private_data);
	if (ep->private_data)
		memset(ep->private_data, 0, PCIE_PRI_PRGI_COUNT * sizeof *ep->private_data);
	if (!ep->page || (port->private_bits && !ep->private_data)) {
		release(ep);
		return NULL;
	}
	ep->core = core;
	ep->port = port;
	ep->private_mask[0] = uiopf_port_private_mask(port, 0);
	ep->private_mask[1] = uiopf_port_private_mask(port, 1);
	ep->requester_id = requester_id;
	ep->pri = pri;
	ep->virtual = virtual;
	ep->stalls = stalls;
	ep->stage = ep->told_stage = stage;
	uiopf_load_init(&ep->load, core);
	ep->group_most = ep->access_most = group_most;
	ep->access_eventfd = -1;
	for (i = 0; i < PCIE_PRI_PRGI_COUNT; i++)
		ep->free_index[i] = (uint16_t)i;
	ep->free_indices = PCIE_PRI_PRGI_COUNT;
	uiopf_control_begin(core);
	/* One's requests would be the other's to the IOMMU, and so would the answers. */
	if (with_requester_id(port, requester_id)) {
		uiopf_control_end(core);
		release(ep);
		errno = EEXIST;
		return NULL;
	}
	pri->functions += virtual;
	ep->next = port->endpoints;
	port->endpoints = ep;
	port->ops->plug(port, ep);
	uiopf_hold(&core->lifetime);
	uiopf_hold(port->lifetime);
	uiopf_control_end(core);
	return ep;
}

struct uiopf_endpoint *uiopf_endpoint_new(struct uiopf_core *core, struct uiopf_port *port, uint16_t requester_id,
					  uint32_t capacity, uint32_t group_most)
{
	struct uiopf_pri *pri = port->only_stalls ? NULL : uiopf_pri_new(capacity);
	struct uiopf_endpoint *ep = pri ? new_endpoint(core, port, requester_id, group_most, pri, false, 0, 1) : NULL;

	if (pri && !ep)
		uiopf_pri_drop(pri);
	return ep;
}

struct uiopf_endpoint *uiopf_endpoint_new_virtual(struct uiopf_endpoint *physical, uint16_t requester_id,
						  uint32_t group_most)
{
	return new_endpoint(physical->core, physical->port, requester_id, group_most, physical->pri, true, 0, 1);
}

/* Its places are credits that are there from the beginning. */
static struct uiopf_endpoint *new_without_pri(struct uiopf_core *core, struct uiopf_port *port, uint16_t requester_id,
					      uint32_t stalls, uint32_t stage, uint32_t group_most)
{
	struct uiopf_pri *pri = stalls <= PCIE_PRI_PRGI_COUNT ? uiopf_pri_new(stalls) : NULL;
	struct uiopf_endpoint *ep;

	if (!pri)
		return NULL;
	pri->allocation = stalls;
	uiopf_pri_enable(pri);
	ep = new_endpoint(core, port, requester_id, group_most, pri, false, (uint16_t)stalls, (uint8_t)stage);
	if (!ep)
		uiopf_pri_drop(pri);
	return ep;
}

struct uiopf_endpoint *uiopf_endpoint_new_stalling(struct uiopf_core *core, struct uiopf_port *port,
						   uint16_t requester_id, uint32_t stalls, uint32_t stage)
{
	if (!port->stalls || port->only_stalls)
		return NULL;
	return new_without_pri(core, port, requester_id, stalls, stage, 1);
}

struct uiopf_endpoint *uiopf_endpoint_new_reporting(struct uiopf_core *core, struct uiopf_port *port,
						    uint16_t requester_id, uint32_t places, uint32_t group_most,
						    uint32_t prefetch)
{
	struct uiopf_endpoint *ep = NULL;

	if (port->only_stalls && prefetch < (port->one_fault ? 1u : 1u << 16))
		ep = new_without_pri(core, port, requester_id, places, 1, port->one_fault ? 1 : group_most);
	if (ep) {	/* nothing is sent yet */
		ep->prefetch = (uint16_t)prefetch;
		ep->access_most = group_most;
	}
	return ep;
}

int uiopf_port_one_fault(const struct uiopf_port *port)
{
	return port->one_fault;
}

int uiopf_port_only_stalls(const struct uiopf_port *port)
{
	return port->only_stalls;
}

int uiopf_port_has_streams(const struct uiopf_port *port)
{
	return port->streams;
}

int uiopf_port_stalls(const struct uiopf_port *port)
{
	return port->stalls;
}

static void close_all(const int *fd, uint32_t n)
{
	while (n)
		close(fd[--n]);
}

void uiopf_endpoint_free(struct uiopf_endpoint *ep)
{
	struct uiopf_core *core = ep ? ep->core : NULL;
	struct uiopf_endpoint **link;

	if (!ep || core->torn)
		return;
	if (!core->abandoned) {
		uiopf_control_begin(core);
		for (link = &ep->port->endpoints; *link != ep; link = &(*link)->next)
			;
		*link = ep->next;
		ep->port->ops->forget(ep->port, ep);
		/* Credits of those that share them come back: what was outstanding is nobody's. */
		ep->pri->used -= ep->outstanding;
		uiopf_pri_settle(ep->pri);
		uiopf_pri_drop(ep->pri);	/* those that share it may go at the same time */
		uiopf_control_end(core);
	} else {
		uiopf_pri_drop(ep->pri);
	}
	uiopf_let_go(ep->port->lifetime);
	uiopf_space_free(ep->space);
	uiopf_device_tlb_free(ep->tlb);
	close_all(ep->load.done_eventfd, ep->load.done_eventfds);
	if (ep->access_eventfd >= 0)
		close(ep->access_eventfd);
	release(ep);
	uiopf_let_go(&core->lifetime);
}

/* Quiescent: what it translates by. Returns the TLB that it had. */
static struct uiopf_device_tlb *use_tlb(struct uiopf_endpoint *ep, struct uiopf_device_tlb *tlb)
{
	struct uiopf_device_tlb *before = ep->tlb;

	ep->tlb = tlb;
	set_apart(ep);
	ep->stage = tlb ? 0 : ep->told_stage;
	memset(&ep->ended, 0, sizeof ep->ended);
	return before;
}

/* Tables, or a TLB of its own, or neither: both at one moment, since two threads may come with one each. */
static void translate_by(struct uiopf_endpoint *ep, struct uiopf_space *space, struct uiopf_device_tlb *tlb)
{
	struct uiopf_space *before;
	uint32_t i;

	uiopf_control_begin(ep->core);
	before = ep->space;
	ep->space = space;
	tlb = use_tlb(ep, tlb);
	if (space)
		uiopf_hold(&space->lifetime);
	if (space)
		ep->tables = (struct uiopf_tables){ space->region.map, space->region.size, space->pasids,
						       &space->resets };
	else
		memset(&ep->tables, 0, sizeof ep->tables);
	memset(&ep->walked, 0, sizeof ep->walked);
	for (i = 0; i < PCIE_PRI_PRGI_COUNT; i++)
		ep->prg[i].leaf = NULL;		/* of an answer that has been looked at, and waits: an error has stopped the queue */
	uiopf_control_end(ep->core);
	uiopf_space_free(before);
	uiopf_device_tlb_free(tlb);
}

int uiopf_endpoint_set_translator(struct uiopf_endpoint *ep, struct uiopf_translator *translator, uint32_t places)
{
	struct uiopf_device_tlb *tlb;

	if (translator->core != ep->core)
		return -EINVAL;
	tlb = uiopf_device_tlb_new(translator, places);
	if (!tlb)
		return -ENOMEM;
	tlb->keeps_contexts = true;
	translate_by(ep, NULL, tlb);
	return 0;
}

bool uiopf_endpoint_translates(struct uiopf_endpoint *ep, uint32_t pasid, uint64_t address, uint32_t access)
{
	const struct uiopf_translation t = uiopf_device_tlb_walk(ep->tlb, pasid, address, access);

	if (t.stage)
		ep->ended = t;
	return !t.stage;
}

int uiopf_endpoint_invalidate(struct uiopf_endpoint *ep, uint32_t pasid, uint64_t first, uint64_t last)
{
	int rc;

	uiopf_control_begin(ep->core);
	rc = ep->tlb ? (int)uiopf_tlb_invalidate(&ep->tlb->tlb, UIOPF_TLB_WHOLE, pasid, first, last) : -ENOENT;
	uiopf_control_end(ep->core);
	return rc;
}

void uiopf_endpoint_get_ended(struct uiopf_endpoint *ep, struct uiopf_translated *translated)
{
	uiopf_control_begin(ep->core);
	uiopf_translation_tell(&ep->ended, translated);
	uiopf_control_end(ep->core);
}

void uiopf_endpoint_set_tables(struct uiopf_endpoint *ep, struct uiopf_space *space)
{
	translate_by(ep, space, NULL);
}

/* Whether a group of so many pages can ever be sent: it would wait for more credits than there are, and say nothing. */
static bool has_credits(const struct uiopf_endpoint *ep, uint32_t pages)
{
	return pages <= (ep->pri->control & PCIE_PRI_CTRL_ENABLE ? ep->pri->allocation : ep->pri->capacity);
}

bool uiopf_endpoint_is_stopped(const struct uiopf_endpoint *ep, uint32_t pasid)
{
	uint32_t i;

	for (i = 0; i < ep->stopped_pasids; i++)
		if (ep->stopped_pasid[i] == pasid)
			return true;
	return false;
}

int uiopf_endpoint_set_retries(struct uiopf_endpoint *ep, uint32_t retries)
{
	if (retries > UIOPF_MOST_RETRIES)
		return -EINVAL;
	uiopf_control_begin(ep->core);
	ep->retries = (uint8_t)retries;
	set_apart(ep);
	uiopf_control_end(ep->core);
	return 0;
}

/* ---- what is private to the function ---- */

int uiopf_endpoint_send_private_data(struct uiopf_endpoint *ep, int sends)
{
	if (!ep->private_data)
		return -EOPNOTSUPP;
	uiopf_control_begin(ep->core);
	ep->sends_private = sends;
	uiopf_control_end(ep->core);
	return 0;
}

int uiopf_endpoint_send_streams(struct uiopf_endpoint *ep, int streams)
{
	if (!ep->port->streams || ep->group_most > 1)
		return -EOPNOTSUPP;
	uiopf_control_begin(ep->core);
	ep->streams = streams;
	uiopf_control_end(ep->core);
	return 0;
}

static uint64_t low_bits(uint32_t bits)
{
	return bits >= 64 ? UINT64_MAX : (1ull << bits) - 1;
}

uint64_t uiopf_port_private_mask(const struct uiopf_port *port, int word)
{
	return word ? low_bits(port->private_bits > 64 ? port->private_bits - 64 : 0) : low_bits(port->private_bits);
}

int uiopf_endpoint_set_rows(struct uiopf_endpoint *ep, const struct uiopf_access *rows, uint64_t n)
{
	/* A function that may not ask to execute does not: what it loads then is data, and so is what the trace fetched. */
	const uint32_t may = PCIE_PRI_READ | PCIE_PRI_WRITE | (ep->stalls ? UIOPF_PREFIX : ep->port->prefix);
	struct uiopf_access *copy = malloc((n + 1) * sizeof *copy);
	uint32_t need = 0;
	uint64_t i;
	int rc;

	if (!copy)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		copy[i] = rows[i];
		copy[i].access = uiopf_endpoint_needs(ep, rows[i].access) & may;
		need |= copy[i].access;
		/* With neither, a request is a stop marker, which nobody answers; and a PASID has 20 bits. */
		if (!copy[i].access || copy[i].pasid >> 20) {
			free(copy);
			return -EINVAL;
		}
	}
	uiopf_control_begin(ep->core);
	rc = uiopf_load_set_rows(&ep->load, copy, n);
	if (rc == 0) {
		ep->rows_need = (uint8_t)need;
		set_apart(ep);
	}
	uiopf_control_end(ep->core);
	if (rc < 0)
		free(copy);
	return rc;
}

int uiopf_endpoint_start(struct uiopf_endpoint *ep, const struct uiopf_load *load)
{
	int rc;

	if (load->group > ep->group_most)
		return -EINVAL;
	uiopf_control_begin(ep->core);
	rc = load->group && !ep->load.active && !has_credits(ep, load->group) ? -ENOSPC : uiopf_load_start(&ep->load, load);
	if (!rc)
		set_apart(ep);
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
	return rc;
}

void uiopf_endpoint_cancel(struct uiopf_endpoint *ep)
{
	uiopf_control_begin(ep->core);
	ep->load.cursor = ep->load.rows;
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
}

/* A descriptor of our own: the caller's number may be another file's, once the caller has closed it. */
static int set_eventfd(struct uiopf_endpoint *ep, int *eventfd, int fd)
{
	int before, own = -1;

	if (fd >= 0) {
		own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (own < 0)
			return -errno;
	}
	uiopf_control_begin(ep->core);
	before = *eventfd;
	*eventfd = own;
	uiopf_control_end(ep->core);
	if (before >= 0)
		close(before);
	return 0;
}

/* Puts a list with *fd* at its end, if it is one, in place of the list there is, or behind that. */
static int put_done_eventfd(struct uiopf_endpoint *ep, bool behind, int fd)
{
	int *list = NULL, *before, own = -1;
	uint32_t kept, had, n;

	if (fd >= 0) {
		own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (own < 0)
			return -errno;
	}
	uiopf_control_begin(ep->core);	/* another thread may be in here, too */
	before = ep->load.done_eventfd;
	had = ep->load.done_eventfds;
	kept = behind ? had : 0;
	n = kept + (own >= 0);
	if (n) {
		list = malloc(n * sizeof *list);
		if (!list) {
			uiopf_control_end(ep->core);
			close(own);
			return -ENOMEM;
		}
		if (kept)
			memcpy(list, before, kept * sizeof *list);
		if (own >= 0)
			list[kept] = own;
	}
	ep->load.done_eventfd = list;
	ep->load.done_eventfds = n;
	uiopf_control_end(ep->core);
	if (before)
		close_all(before + kept, had - kept);
	free(before);
	return 0;
}

int uiopf_endpoint_set_done_eventfd(struct uiopf_endpoint *ep, int fd)
{
	return put_done_eventfd(ep, false, fd);
}

int uiopf_endpoint_add_done_eventfd(struct uiopf_endpoint *ep, int fd)
{
	return fd < 0 ? -EBADF : put_done_eventfd(ep, true, fd);
}

int uiopf_endpoint_set_access_eventfd(struct uiopf_endpoint *ep, int fd)
{
	return set_eventfd(ep, &ep->access_eventfd, fd);
}

static bool all_accessed(const struct uiopf_endpoint *ep)
{
	return LOAD_ACQUIRE(&ep->manual_ended) == READ_ONCE(&ep->manual_tail);
}

/* The last access by hand has ended: whoever is told when the function is done may wait for that. */
static void tell_if_done(const struct uiopf_endpoint *ep)
{
	if (all_accessed(ep) && (ep->finished || (ep->load.passes && !ep->load.active)))
		uiopf_load_tell(&ep->load);
}

void uiopf_endpoint_accessed(struct uiopf_endpoint *ep, uint32_t at, uint32_t result)
{
	WRITE_ONCE(&ep->manual[at].result, result);
	STORE_RELEASE(&ep->manual_ended, ep->manual_ended + 1);	/* pairs with all_accessed() */
	if (ep->access_eventfd >= 0)
		eventfd_write(ep->access_eventfd, 1);
	tell_if_done(ep);
}

void uiopf_endpoint_log_answer(struct uiopf_endpoint *ep, uint32_t index, uint32_t code)
{
	ep->answer[ep->answer_tail++ % UIOPF_ANSWERS] = (struct uiopf_prg_answer){ (uint16_t)index, (uint16_t)code };
	if (ep->answer_tail - ep->answer_head > UIOPF_ANSWERS)
		ep->answer_head = ep->answer_tail - UIOPF_ANSWERS;	/* the oldest is forgotten */
}

void uiopf_endpoint_answered_by_hand(struct uiopf_endpoint *ep, enum uiopf_prg_kind kind, uint32_t index, uint32_t code,
				     uint32_t result)
{
	if (kind == UIOPF_PRG_MANUAL)
		uiopf_endpoint_accessed(ep, ep->manual_of[index], result);
	else
		uiopf_endpoint_log_answer(ep, index, code);
}

void uiopf_endpoint_forget_group(struct uiopf_endpoint *ep, uint32_t index)
{
	struct uiopf_prg *prg = &ep->prg[index];

	ep->counts.cleared += prg->pages;
	ep->counts.cleared_groups++;
	if (prg->kind != UIOPF_PRG_RAW)
		ep->load.outstanding--;
	uiopf_prg_close(ep, prg);
	if (prg->kind == UIOPF_PRG_MANUAL)
		uiopf_endpoint_accessed(ep, ep->manual_of[index], UIOPF_ACCESS_FAILED);
}

void uiopf_endpoint_finish(struct uiopf_endpoint *ep)
{
	uiopf_control_begin(ep->core);
	ep->finished = true;
	tell_if_done(ep);
	uiopf_control_end(ep->core);
}

int uiopf_endpoint_is_served(const struct uiopf_endpoint *ep, uint32_t passes)
{
	return (int32_t)(LOAD_ACQUIRE(&ep->load.passes) - passes) >= 0 && all_accessed(ep);
}

uint32_t uiopf_endpoint_passes(const struct uiopf_endpoint *ep)
{
	return LOAD_ACQUIRE(&ep->load.passes);
}

int uiopf_endpoint_wait(const struct uiopf_endpoint *ep, uint32_t passes, uint64_t timeout_ns)
{
	uint64_t deadline = uiopf_monotonic_ns() + timeout_ns;
	uint32_t looks = 0;

	while ((int32_t)(LOAD_ACQUIRE(&ep->load.passes) - passes) < 0) {
		cpu_relax();
		if (looks++ % 64 == 63) {
			if (uiopf_monotonic_ns() >= deadline)
				return 0;
			sched_yield();
		}
	}
	return 1;
}

int64_t uiopf_endpoint_access(struct uiopf_endpoint *ep, uint32_t pasid, uint64_t address, uint32_t access,
			      uint32_t pages)
{
	struct uiopf_manual *m;
	int64_t ticket = -EBUSY;

	if (!pages || pages > ep->access_most || !uiopf_endpoint_needs(ep, access) || pasid >> 20)
		return -EINVAL;
	uiopf_control_begin(ep->core);
	m = &ep->manual[ep->manual_tail % UIOPF_MANUAL];
	/* The slot's last access, 1,024 tickets ago, must have ended. */
	if (uiopf_endpoint_is_stopped(ep, pasid))
		ticket = -EPERM;
	else if (!has_credits(ep, ep->port->one_fault ? 1 : pages))
		ticket = -ENOSPC;
	else if (ep->manual_tail < UIOPF_MANUAL || m->result != UIOPF_ACCESS_PENDING) {
		*m = (struct uiopf_manual){ address, pasid, access, pages, UIOPF_ACCESS_PENDING, false };
		ticket = ep->manual_tail++;
	}
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
	return ticket;
}

int uiopf_endpoint_result(const struct uiopf_endpoint *ep, int64_t ticket)
{
	const int64_t given = READ_ONCE(&ep->manual_tail);

	if (ticket < 0 || ticket >= given || given - ticket > UIOPF_MANUAL)
		return -ENOENT;
	return (int)READ_ONCE(&ep->manual[(uint32_t)ticket % UIOPF_MANUAL].result);
}

/* Accesses that may not be sent yet; of a closed loop those that would be in flight. */
static uint64_t waiting(const struct uiopf_endpoint *ep)
{
	const struct uiopf_loader *load = &ep->load;
	uint64_t n = 0;
	uint32_t i;

	for (i = ep->manual_head; i != ep->manual_tail; i++)
		n += !ep->manual[i % UIOPF_MANUAL].sent;
	if (load->active && load->config.mode == UIOPF_LOAD_CLOSED && load->outstanding < load->config.in_flight) {
		const uint64_t groups = load->config.in_flight - load->outstanding, rows = load->rows - load->cursor;

		n += groups * load->config.group < rows ? groups * load->config.group : rows;
	}
	return n;
}

void uiopf_endpoint_get_counts(struct uiopf_endpoint *ep, struct uiopf_endpoint_counts *counts)
{
	uiopf_control_begin(ep->core);
	*counts = ep->counts;
	counts->waiting = waiting(ep);
	counts->outstanding = ep->outstanding;	/* not by looking at every group: that would take their lines from the worker */
	counts->busy_ns = ep->load.busy_ns;
	counts->pri_status = ep->pri->status;
	counts->latency_max_ns = ep->load.latency.max;
	counts->latency_count = ep->load.latency.count;
	counts->latency_sum_ns = ep->load.latency.sum;
	uiopf_control_end(ep->core);
}

uint64_t uiopf_endpoint_latency(struct uiopf_endpoint *ep, uint64_t millionths)
{
	uint64_t ns;

	uiopf_control_begin(ep->core);
	ns = uiopf_histogram_quantile(&ep->load.latency, millionths);
	uiopf_control_end(ep->core);
	return ns;
}
