#include "hardware/endpoint.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "hardware/iommu/vtd.h"

#define SENT_PER_STEP 256u	/* groups: a step is bounded, and the IOMMU's queue of 2,048 must not fill in one */

/* ---- sending ---- */

/* splitmix64: the whole state is one word, and any seed is good. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

hot_inline bool can_send(const struct uiopf_endpoint *ep, uint32_t pages)
{
	return likely(ep->free_indices && ep->credits_used + pages <= ep->allocation &&
		      !(ep->status & PCIE_PRI_STATUS_STOPPED));	/* which it is until software has enabled it */
}

/*
 * What the function asks for, and tries again with: a page's address with PCIE_PRI_READ and _WRITE. It has no execute
 * permission: Linux' VT-d driver refuses execute requests that also read, and takes those that do not for stop
 * markers. So an instruction fetch asks to read.
 */
static uint64_t page_of(uint64_t address, uint32_t access)
{
	uint64_t page = address & PCIE_PRI_ADDRESS;

	if (access & (IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_EXEC))
		page |= PCIE_PRI_READ;
	if (access & IOMMU_PGFAULT_PERM_WRITE)
		page |= PCIE_PRI_WRITE;
	return page;
}

static uint32_t access_of(uint64_t page)
{
	return page & (IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE);	/* the same bits, vtd.c asserts it */
}

/*
 * Takes a group index, the one that has been free longest. Linux answers each request of a group that it refuses: with
 * the index in use again at once, the rest of those answers would end the next groups as well, whose own refusals
 * would end more, until the IOMMU's queue overflows.
 */
hot_inline struct uiopf_prg *open_group(struct uiopf_endpoint *ep, uint32_t pasid, uint64_t intended_ns)
{
	struct uiopf_prg *prg = &ep->prg[ep->free_index[ep->free_first]];

	ep->free_first = (ep->free_first + 1) % PCIE_PRI_PRGI_COUNT;
	ep->free_indices--;
	*prg = (struct uiopf_prg){ .intended_ns = intended_ns, .pasid = pasid, .outstanding = true };
	ep->outstanding++;
	ep->counts.sent_groups++;
	return prg;
}

/* Sends a request for one more page of a group. */
hot_inline void send_page(struct uiopf_endpoint *ep, struct uiopf_prg *prg, uint64_t page, bool last)
{
	uint32_t index = (uint32_t)(prg - ep->prg);

	if (prg->pages)
		ep->page[index * ep->group_most + prg->pages] = page;
	else
		prg->page = page;
	prg->pages++;
	ep->credits_used++;
	ep->counts.sent++;
	uiopf_vtd_page_request(ep->iommu, ep->source | (uint64_t)prg->pasid << VTD_PRQ_PASID_SHIFT,
			       page | index << PCIE_PRI_PRGI_SHIFT | (last ? PCIE_PRI_LAST : 0));
}

/* When the next row's time has come; UINT64_MAX at the end. Closed loops have no times: now. */
static uint64_t due(struct uiopf_endpoint *ep, uint64_t now)
{
	switch (ep->load.mode) {
	case UIOPF_LOAD_TRACE:
		return ep->start_ns + (uint64_t)((double)(ep->row[ep->cursor].time_ns - ep->row[0].time_ns) /
						 ep->load.speed);
	case UIOPF_LOAD_POISSON:
		return ep->start_ns + (uint64_t)ep->due;
	default:
		return now;
	}
}

static void next_arrival(struct uiopf_endpoint *ep)
{
	double uniform;

	if (ep->load.mode != UIOPF_LOAD_POISSON)
		return;
	uniform = ((double)(next_random(&ep->random) >> 11) + 1) / 9007199254740993.0;	/* in (0, 1] */
	ep->due -= log(uniform) * 1e9 / ep->load.rate;
}

static bool wants_to_send(const struct uiopf_endpoint *ep)
{
	return ep->cursor < ep->rows && ep->outstanding < ep->load.in_flight;
}

/* The next group of a load with times or groups of pages, which may be sent; false: it is not due. */
static bool send_group(struct uiopf_endpoint *ep, uint64_t now)
{
	const struct uiopf_access *row;
	struct uiopf_prg *prg;
	uint32_t pages = 0;
	uint64_t when;
	bool last;

	when = due(ep, now);
	if (when > now) {
		if (when < ep->core->next_ns)
			WRITE_ONCE(&ep->core->next_ns, when);
		return false;
	}
	row = &ep->row[ep->cursor];
	prg = open_group(ep, row->pasid, when);
	__builtin_prefetch(row + 8);
	do {
		uint64_t page = row->access;	/* made ready by uiopf_endpoint_set_rows */

		ep->cursor++;
		next_arrival(ep);
		row++;
		last = ++pages == ep->load.group || ep->cursor == ep->rows || row->pasid != prg->pasid ||
		       due(ep, now) > now;
		send_page(ep, prg, (row[-1].address & PCIE_PRI_ADDRESS) | page, last);
	} while (!last);
	return true;
}

/* Sends one group of the load: true, or false when nothing is due or nothing may be sent. */
hot_inline bool send_load(struct uiopf_endpoint *ep, uint64_t now)
{
	const struct uiopf_access *row;

	if (!wants_to_send(ep) || !can_send(ep, ep->load.group))
		return false;
	if (unlikely(!ep->plain))
		return send_group(ep, now);
	row = &ep->row[ep->cursor++];
	__builtin_prefetch(row + 8);
	send_page(ep, open_group(ep, row->pasid, now), (row->address & PCIE_PRI_ADDRESS) | row->access, true);
	return true;
}

/* Sends the next manual access, unless its pages are there. */
static bool send_manual(struct uiopf_endpoint *ep)
{
	struct uiopf_manual *m = &ep->manual[ep->manual_head % UIOPF_MANUAL];
	struct uiopf_prg *prg;
	uint32_t i, there = 0;

	if (!can_send(ep, m->pages))
		return false;
	for (i = 0; i < m->pages; i++)
		there += uiopf_walk(&ep->tables, m->pasid, m->address + i * UIOPF_PAGE, access_of(page_of(0, m->access)));
	if (there == m->pages) {
		WRITE_ONCE(&m->result, UIOPF_ACCESS_OK);
	} else {
		prg = open_group(ep, m->pasid, uiopf_now(&ep->core->clock));
		prg->by_hand = true;
		ep->manual_of[prg - ep->prg] = (uint16_t)(ep->manual_head % UIOPF_MANUAL);
		for (i = 0; i < m->pages; i++)
			send_page(ep, prg, page_of(m->address + i * UIOPF_PAGE, m->access), i + 1 == m->pages);
	}
	ep->manual_head++;
	return true;
}

static void finish_pass(struct uiopf_endpoint *ep)
{
	ep->active = false;
	ep->counts.busy_ns += uiopf_now(&ep->core->clock) - ep->start_ns;
	/* Pairs with the waiting side: counts and latencies are complete. */
	STORE_RELEASE(&ep->passes, ep->passes + 1);
	if (ep->done_eventfd >= 0)
		eventfd_write(ep->done_eventfd, 1);
}

uint32_t uiopf_endpoint_step(struct uiopf_endpoint *ep)
{
	uint32_t sent = 0;

	while (unlikely(ep->manual_head != ep->manual_tail) && sent < SENT_PER_STEP && send_manual(ep))
		sent++;
	if (!ep->active)
		return sent;
	/* What an answer has not already made room for (below): the start of a pass, and an open loop's arrivals. */
	while (sent < SENT_PER_STEP && wants_to_send(ep) && send_load(ep, uiopf_now(&ep->core->clock)))
		sent++;
	if (!ep->outstanding && (ep->cursor == ep->rows || (ep->status & PCIE_PRI_STATUS_STOPPED)))
		finish_pass(ep);
	return sent;
}

/* ---- answers ---- */

/* Translates every page of the group again. */
static uint32_t retry(struct uiopf_endpoint *ep, const struct uiopf_prg *prg)
{
	uint32_t i, there;

	if (likely(prg->leaf))
		there = uiopf_leaf_allows(LOAD_ACQUIRE(prg->leaf), access_of(prg->page));
	else
		there = uiopf_walk(&ep->tables, prg->pasid, prg->page & PCIE_PRI_ADDRESS, access_of(prg->page));
	for (i = 1; i < prg->pages; i++) {
		uint64_t page = ep->page[(uint32_t)(prg - ep->prg) * ep->group_most + i];

		there += uiopf_walk(&ep->tables, prg->pasid, page & PCIE_PRI_ADDRESS, access_of(page));
	}
	ep->counts.succeeded += there;
	if (likely(there == prg->pages))
		return UIOPF_ACCESS_OK;
	ep->counts.unmapped += prg->pages - there;
	return UIOPF_ACCESS_UNMAPPED;
}

void uiopf_endpoint_response(struct uiopf_endpoint *ep, uint32_t index, uint32_t code, uint64_t now)
{
	struct uiopf_prg *prg = &ep->prg[index];
	uint32_t result;

	if (unlikely(!prg->outstanding)) {
		ep->status |= PCIE_PRI_STATUS_UPRGI;
		ep->counts.unexpected++;
		return;
	}
	if (likely(code == PCIE_PRG_SUCCESS)) {
		result = retry(ep, prg);
	} else if (code == PCIE_PRG_INVALID) {
		ep->counts.invalid += prg->pages;
		result = UIOPF_ACCESS_INVALID;
	} else {
		/* All other codes are to be handled as Response Failure: nothing more is sent before software resets PRI. */
		ep->counts.failed += prg->pages;
		ep->status |= PCIE_PRI_STATUS_RF | PCIE_PRI_STATUS_STOPPED;
		result = UIOPF_ACCESS_FAILED;
	}
	if (unlikely(prg->by_hand))
		WRITE_ONCE(&ep->manual[ep->manual_of[index]].result, result);
	uiopf_histogram_add(&ep->latency, now - prg->intended_ns);
	prg->outstanding = false;
	ep->outstanding--;
	ep->credits_used -= prg->pages;
	ep->free_index[(ep->free_first + ep->free_indices++) % PCIE_PRI_PRGI_COUNT] = (uint16_t)index;
	/* A function that was waiting for an answer goes on at once. */
	if (ep->active)
		send_load(ep, now);
}

void uiopf_endpoint_prepare(struct uiopf_endpoint *ep, uint32_t index)
{
	struct uiopf_prg *prg = &ep->prg[index];

	/* The client has just written the entry: its line is on the way here by the time the access is tried again. */
	prg->leaf = likely(ep->tables.map) ? uiopf_walk_cached(&ep->tables, &ep->walked, prg->pasid, prg->page) : NULL;
	if (prg->leaf)
		__builtin_prefetch(prg->leaf);
}

/* ---- set-up and control ---- */

struct uiopf_endpoint *uiopf_endpoint_new(struct uiopf_core *core, struct uiopf_vtd *iommu, uint16_t requester_id,
					  uint32_t capacity, uint32_t group_most)
{
	struct uiopf_endpoint *ep = aligned_alloc(128, sizeof *ep);
	uint32_t i;

	if (!ep)
		return NULL;
	memset(ep, 0, sizeof *ep);
	ep->page = calloc((size_t)PCIE_PRI_PRGI_COUNT * group_most, sizeof *ep->page);
	if (!ep->page) {
		free(ep);
		return NULL;
	}
	ep->core = core;
	ep->iommu = iommu;
	ep->requester_id = requester_id;
	ep->source = uiopf_vtd_source_word(requester_id) | VTD_PRQ_PASID_PRESENT;
	ep->capacity = capacity;
	ep->done_eventfd = -1;
	ep->status = PCIE_PRI_STATUS_STOPPED;
	ep->group_most = group_most;
	for (i = 0; i < PCIE_PRI_PRGI_COUNT; i++)
		ep->free_index[i] = (uint16_t)i;
	ep->free_indices = PCIE_PRI_PRGI_COUNT;
	uiopf_control_begin(core);
	ep->next = iommu->endpoints;
	iommu->endpoints = ep;
	uiopf_control_end(core);
	return ep;
}

void uiopf_endpoint_free(struct uiopf_endpoint *ep)
{
	struct uiopf_endpoint **link;

	uiopf_control_begin(ep->core);
	for (link = &ep->iommu->endpoints; *link != ep; link = &(*link)->next)
		;
	*link = ep->next;
	uiopf_vtd_forget_endpoint(ep->iommu, ep);
	uiopf_control_end(ep->core);
	free(ep->row);
	free(ep->page);
	free(ep);
}

void uiopf_endpoint_set_tables(struct uiopf_endpoint *ep, const struct uiopf_space *space)
{
	uiopf_control_begin(ep->core);
	if (space)
		ep->tables = (struct uiopf_tables){ space->region.map, space->region.size, space->pasids,
						       &space->resets };
	else
		memset(&ep->tables, 0, sizeof ep->tables);
	memset(&ep->walked, 0, sizeof ep->walked);
	uiopf_control_end(ep->core);
}

/* Pages of the largest group that is still to be sent. */
static uint32_t largest_group(const struct uiopf_endpoint *ep)
{
	uint32_t most = ep->active && ep->cursor < ep->rows ? ep->load.group : 0, i;

	for (i = ep->manual_head; i != ep->manual_tail; i++)
		if (ep->manual[i % UIOPF_MANUAL].pages > most)
			most = ep->manual[i % UIOPF_MANUAL].pages;
	return most;
}

/* Whether a group of so many pages can ever be sent: it would wait for more credits than there are, and say nothing. */
static bool has_credits(const struct uiopf_endpoint *ep, uint32_t pages)
{
	return pages <= (ep->control & PCIE_PRI_CTRL_ENABLE ? ep->allocation : ep->capacity);
}

int uiopf_endpoint_enable_pri(struct uiopf_endpoint *ep, uint32_t allocation)
{
	int rc = 0;

	if (allocation > ep->capacity)
		allocation = ep->capacity;
	uiopf_control_begin(ep->core);
	if (!(ep->status & PCIE_PRI_STATUS_STOPPED)) {
		rc = -EBUSY;
	} else if (largest_group(ep) > allocation) {
		rc = -ENOSPC;
	} else {
		ep->allocation = allocation;
		ep->control = PCIE_PRI_CTRL_ENABLE;
		ep->status &= (uint16_t)~PCIE_PRI_STATUS_STOPPED;
	}
	uiopf_control_end(ep->core);
	return rc;
}

void uiopf_endpoint_disable_pri(struct uiopf_endpoint *ep)
{
	uiopf_control_begin(ep->core);
	ep->control = 0;
	/* What was sent still needs its answers; the function reports Stopped when the last has come. Ours does at once. */
	ep->status |= PCIE_PRI_STATUS_STOPPED;
	uiopf_control_end(ep->core);
}

int uiopf_endpoint_reset_pri(struct uiopf_endpoint *ep)
{
	int rc = 0;

	uiopf_control_begin(ep->core);
	if (ep->control & PCIE_PRI_CTRL_ENABLE)
		rc = -EBUSY;
	else
		ep->status = PCIE_PRI_STATUS_STOPPED;
	uiopf_control_end(ep->core);
	return rc;
}

int uiopf_endpoint_set_rows(struct uiopf_endpoint *ep, const struct uiopf_access *rows, uint64_t n)
{
	struct uiopf_access *copy = malloc((n + 1) * sizeof *copy);
	uint64_t i;

	if (!copy)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		copy[i] = rows[i];
		copy[i].access = (uint32_t)page_of(0, rows[i].access);
		/* With neither, a request is a stop marker, which nobody answers; and a PASID has 20 bits. */
		if (!copy[i].access || copy[i].pasid >> 20) {
			free(copy);
			return -EINVAL;
		}
	}
	uiopf_control_begin(ep->core);
	if (ep->active) {
		uiopf_control_end(ep->core);
		free(copy);
		return -EBUSY;
	}
	free(ep->row);
	ep->row = copy;
	ep->rows = n;
	uiopf_control_end(ep->core);
	return 0;
}

int uiopf_endpoint_start(struct uiopf_endpoint *ep, const struct uiopf_load *load)
{
	int rc = 0;

	if (!load->in_flight || !load->group || load->group > ep->group_most)
		return -EINVAL;
	if ((load->mode == UIOPF_LOAD_TRACE && !(load->speed > 0)) ||
	    (load->mode == UIOPF_LOAD_POISSON && !(load->rate > 0)))
		return -EINVAL;
	uiopf_control_begin(ep->core);
	if (ep->active) {
		rc = -EBUSY;
	} else if (!has_credits(ep, load->group)) {
		rc = -ENOSPC;
	} else {
		ep->load = *load;
		ep->plain = load->mode == UIOPF_LOAD_CLOSED && load->group == 1;
		ep->cursor = 0;
		ep->random = load->seed;
		ep->due = 0;
		ep->active = true;
		ep->start_ns = uiopf_now(&ep->core->clock);
		next_arrival(ep);
	}
	uiopf_control_end(ep->core);
	return rc;
}

void uiopf_endpoint_cancel(struct uiopf_endpoint *ep)
{
	uiopf_control_begin(ep->core);
	ep->cursor = ep->rows;
	uiopf_control_end(ep->core);
}

void uiopf_endpoint_set_done_eventfd(struct uiopf_endpoint *ep, int fd)
{
	uiopf_control_begin(ep->core);
	ep->done_eventfd = fd;
	uiopf_control_end(ep->core);
}

uint32_t uiopf_endpoint_passes(const struct uiopf_endpoint *ep)
{
	return LOAD_ACQUIRE(&ep->passes);
}

int uiopf_endpoint_wait(const struct uiopf_endpoint *ep, uint32_t passes, uint64_t timeout_ns)
{
	uint64_t deadline = uiopf_monotonic_ns() + timeout_ns;
	uint32_t looks = 0;

	while ((int32_t)(LOAD_ACQUIRE(&ep->passes) - passes) < 0) {
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

	if (!pages || pages > ep->group_most || !page_of(0, access) || pasid >> 20)
		return -EINVAL;
	uiopf_control_begin(ep->core);
	m = &ep->manual[ep->manual_tail % UIOPF_MANUAL];
	/* The slot's last access, 1,024 tickets ago, must have ended. */
	if (!has_credits(ep, pages))
		ticket = -ENOSPC;
	else if (ep->manual_tail < UIOPF_MANUAL || m->result != UIOPF_ACCESS_PENDING) {
		*m = (struct uiopf_manual){ address, pasid, access, pages, UIOPF_ACCESS_PENDING };
		ticket = ep->manual_tail++;
	}
	uiopf_control_end(ep->core);
	return ticket;
}

int uiopf_endpoint_result(const struct uiopf_endpoint *ep, int64_t ticket)
{
	return (int)READ_ONCE(&ep->manual[(uint32_t)ticket % UIOPF_MANUAL].result);
}

void uiopf_endpoint_get_counts(struct uiopf_endpoint *ep, struct uiopf_endpoint_counts *counts)
{
	uiopf_control_begin(ep->core);
	*counts = ep->counts;
	counts->outstanding = ep->credits_used;	/* not by looking at every group: that would take their lines from the worker */
	counts->pri_status = ep->status;
	counts->latency_max_ns = ep->latency.max;
	counts->latency_count = ep->latency.count;
	uiopf_control_end(ep->core);
}

uint64_t uiopf_endpoint_latency(struct uiopf_endpoint *ep, uint64_t millionths)
{
	uint64_t ns;

	uiopf_control_begin(ep->core);
	ns = uiopf_histogram_quantile(&ep->latency, millionths);
	uiopf_control_end(ep->core);
	return ns;
}
