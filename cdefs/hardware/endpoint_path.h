/*
 * What a PCI function does for each fault: sends requests, takes answers, tries again.
 *
 * The functions are inlined into the IOMMU model that a request goes to, each with the model's own `send` as a constant:
 * the function knows no IOMMU, and between the two there is no call. (A pointer instead costs 0.5 to 3 ns a request.)
 * `above` is the model, for `send`.
 */
#pragma once
#include "hardware/endpoint.h"
#include "hardware/pri_calls.h"
#include "hardware/request.h"

hot_inline bool uiopf_prg_may_open(const struct uiopf_endpoint *ep, uint32_t pages)
{
	const struct uiopf_pri *pri = ep->pri;

	return likely(ep->free_indices && pri->used + pages <= pri->allocation && pri->sends);
}

hot_inline uint32_t uiopf_access_of(uint64_t page)
{
	_Static_assert(PCIE_PRI_READ == IOMMU_PGFAULT_PERM_READ && PCIE_PRI_WRITE == IOMMU_PGFAULT_PERM_WRITE,
		       "two of the permission bits are the message's");
	return page & (IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE);
}

hot_inline uint32_t uiopf_needs_of(uint64_t page)
{
	return uiopf_access_of(page) | (page & UIOPF_PREFIX);
}

/* … and by what it is tried: a fetch that stalls executes only, with PCIe it reads, too. Flat tables know no privilege. */
hot_inline uint32_t uiopf_tried_by(const struct uiopf_endpoint *ep, uint32_t needs)
{
	if (ep->stalls && needs & IOMMU_PGFAULT_PERM_EXEC)
		return needs & UIOPF_PREFIX;
	return needs;
}

/*
 * Takes a group index, the one that has been free longest. Linux answers each request of a group that it refuses: with
 * the index in use again at once, the rest of those answers would end the next groups as well, whose own refusals
 * would end more, until the IOMMU's queue overflows.
 */
hot_inline struct uiopf_prg *uiopf_prg_open(struct uiopf_endpoint *ep, uint32_t pasid, uint64_t intended_ns)
{
	struct uiopf_prg *prg = &ep->prg[ep->free_index[ep->free_first]];

	ep->free_first = (ep->free_first + 1) % PCIE_PRI_PRGI_COUNT;
	ep->free_indices--;
	*prg = (struct uiopf_prg){ .intended_ns = intended_ns, .pasid = pasid, .outstanding = true };
	ep->load.outstanding++;
	ep->counts.sent_groups++;
	return prg;
}

/* Sends a request for one more page of a group, with this message but for the index. */
hot_inline void uiopf_prg_send_message(struct uiopf_endpoint *ep, struct uiopf_prg *prg, uint64_t address,
				       uint32_t needs, uint64_t message, bool privileged, uiopf_send *send, void *above)
{
	const uint32_t index = (uint32_t)(prg - ep->prg);
	const uint64_t page = (address & PCIE_PRI_ADDRESS) | needs;

	if (prg->pages)
		ep->page[index * ep->group_most + prg->pages] = page;
	else
		prg->page = page;
	prg->pages++;
	ep->pri->used++;
	ep->outstanding++;
	ep->counts.sent++;
	send(above, (struct uiopf_page_request){
		.requester_id = ep->requester_id,
		.pasid = prg->pasid,
		.has_pasid = true,
		.execute = needs & IOMMU_PGFAULT_PERM_EXEC,
		.privileged = privileged,
		.message = message | index << PCIE_PRI_PRGI_SHIFT,
		.address = address,
	});
}

hot_inline void uiopf_prg_send(struct uiopf_endpoint *ep, struct uiopf_prg *prg, uint64_t address, uint32_t needs,
			       bool last, uiopf_send *send, void *above)
{
	uiopf_prg_send_message(ep, prg, address, needs, (address & PCIE_PRI_ADDRESS) | uiopf_access_of(needs) |
			       (last ? PCIE_PRI_LAST : 0), needs & IOMMU_PGFAULT_PERM_PRIV, send, above);
}

/* The same of a plain load: the last of its group, and not privileged. What else it needs is where the message has them. */
hot_inline void uiopf_prg_send_plain(struct uiopf_endpoint *ep, struct uiopf_prg *prg, uint64_t address, uint32_t needs,
				     uiopf_send *send, void *above)
{
	_Static_assert(IOMMU_PGFAULT_PERM_EXEC == PCIE_PRI_LAST, "a fetch needs no bit taken out: it is there anyway");
	uiopf_prg_send_message(ep, prg, address, needs, (address & PCIE_PRI_ADDRESS) | needs | PCIE_PRI_LAST, false, send,
			       above);
}

/* Pages of a group of the load: software may have left fewer credits since the load began; then it is cut. */
hot_inline uint32_t uiopf_load_group(const struct uiopf_endpoint *ep)
{
	const uint32_t group = ep->load.config.group, credits = ep->pri->allocation;

	return likely(group <= credits) ? group : credits ? credits : 1;
}

/* The next group of a load with times or groups of pages, which may be sent; false: it is not due. */
hot_inline bool uiopf_endpoint_send_group(struct uiopf_endpoint *ep, uint64_t now, uiopf_send *send, void *above)
{
	const struct uiopf_access *row = &ep->load.row[ep->load.cursor];
	struct uiopf_prg *prg;
	const uint32_t most = uiopf_load_group(ep);
	uint32_t pages = 0;
	uint64_t when;
	bool last;

	if (unlikely(ep->stopped_pasids) && uiopf_endpoint_is_stopped(ep, row->pasid)) {
		uiopf_load_pass_over(&ep->load);
		return true;
	}
	if (!uiopf_load_is_due(&ep->load, now, &when))
		return false;
	/* What its translator has needs no request. (With flat tables, a load is a list of what is not there.) */
	if (unlikely(ep->tlb != NULL) &&
	    uiopf_endpoint_translates(ep, row->pasid, row->address, uiopf_tried_by(ep, row->access))) {
		uiopf_load_pass_over(&ep->load);
		return true;
	}
	prg = uiopf_prg_open(ep, row->pasid, when);
	do {
		row = uiopf_load_next(&ep->load, now, pages++, most, &last);
		uiopf_prg_send(ep, prg, row->address, row->access, last, send, above);
	} while (!last);
	return true;
}

/* Sends one group of the load: true, or false when nothing is due or nothing may be sent. */
hot_inline bool uiopf_endpoint_send_load(struct uiopf_endpoint *ep, uint64_t now, uiopf_send *send, void *above)
{
	const struct uiopf_access *row;

	if (!uiopf_load_wants(&ep->load) || !uiopf_prg_may_open(ep, uiopf_load_group(ep)))
		return false;
	if (unlikely(!ep->load.plain || ep->stopped_pasids))
		return uiopf_endpoint_send_group(ep, now, send, above);
	row = uiopf_load_next_plain(&ep->load);
	uiopf_prg_send_plain(ep, uiopf_prg_open(ep, row->pasid, now), row->address, row->access, send, above);
	return true;
}

/* The n-th page of an access: what it is about there is its own address, or the beginning of the page. */
hot_inline uint64_t uiopf_manual_address(const struct uiopf_manual *m, uint32_t n)
{
	return n ? (m->address & PCIE_PRI_ADDRESS) + n * UIOPF_PAGE : m->address;
}

/* Of an operation with one fault at a time: the first page from the n-th on that is not there; behind the last: all are. */
static __attribute__((noinline, unused)) uint32_t uiopf_manual_missing(struct uiopf_endpoint *ep,
								       const struct uiopf_manual *m, uint32_t n)
{
	const uint32_t access = uiopf_tried_by(ep, uiopf_endpoint_needs(ep, m->access));

	while (n < m->pages && uiopf_endpoint_reaches(ep, m->pasid, uiopf_manual_address(m, n), access))
		n++;
	return n;
}

/* … which ends the operation there, with a fault. */
static __attribute__((noinline, unused)) void uiopf_manual_send_one(struct uiopf_endpoint *ep, uint32_t at, uint32_t n,
								    uint32_t tries, uint64_t intended_ns,
								    uiopf_send *send, void *above)
{
	const struct uiopf_manual *m = &ep->manual[at];
	struct uiopf_prg *prg = uiopf_prg_open(ep, m->pasid, intended_ns);

	prg->kind = UIOPF_PRG_MANUAL;
	prg->tries = (uint8_t)tries & UIOPF_MOST_RETRIES;
	ep->manual_of[prg - ep->prg] = (uint16_t)at;
	uiopf_prg_send(ep, prg, uiopf_manual_address(m, n), uiopf_endpoint_needs(ep, m->access), true, send, above);
}

/* Sends an access that was made by hand, unless its pages are there; false: it may not be sent yet. */
hot_inline bool uiopf_endpoint_send_manual(struct uiopf_endpoint *ep, uint32_t at, uiopf_send *send, void *above)
{
	struct uiopf_manual *m = &ep->manual[at];
	const uint32_t needs = uiopf_endpoint_needs(ep, m->access), access = uiopf_tried_by(ep, needs);
	struct uiopf_prg *prg;
	uint32_t i, there = 0;

	if (!uiopf_prg_may_open(ep, ep->port->one_fault ? 1 : m->pages))
		return false;
	if (ep->port->one_fault) {
		i = uiopf_manual_missing(ep, m, 0);
		if (i < m->pages)
			uiopf_manual_send_one(ep, at, i, 0, uiopf_now(&ep->core->clock), send, above);
		else
			uiopf_endpoint_accessed(ep, at, UIOPF_ACCESS_OK);
		m->sent = true;
		return true;
	}
	for (i = 0; i < m->pages; i++)
		there += uiopf_endpoint_reaches(ep, m->pasid, m->address + i * UIOPF_PAGE, access);
	if (there == m->pages) {
		uiopf_endpoint_accessed(ep, at, UIOPF_ACCESS_OK);
	} else {
		prg = uiopf_prg_open(ep, m->pasid, uiopf_now(&ep->core->clock));
		prg->kind = UIOPF_PRG_MANUAL;
		ep->manual_of[prg - ep->prg] = (uint16_t)at;
		for (i = 0; i < m->pages; i++)
			uiopf_prg_send(ep, prg, m->address + i * UIOPF_PAGE, needs, i + 1 == m->pages, send, above);
	}
	m->sent = true;
	return true;
}

#define UIOPF_SENT_PER_TURN 256u	/* groups: a turn is bounded, and the IOMMU's queue must not fill in one */

/* Those that wait, in their order; one that needs more credits than there are does not hold up smaller ones. */
hot_inline uint32_t uiopf_endpoint_send_manuals(struct uiopf_endpoint *ep, uiopf_send *send, void *above)
{
	uint32_t i, sent = 0;

	for (i = ep->manual_head; i != ep->manual_tail && sent < UIOPF_SENT_PER_TURN; i++) {
		const uint32_t at = i % UIOPF_MANUAL;

		if (!ep->manual[at].sent)
			sent += uiopf_endpoint_send_manual(ep, at, send, above);
	}
	while (ep->manual_head != ep->manual_tail && ep->manual[ep->manual_head % UIOPF_MANUAL].sent)
		ep->manual_head++;
	return sent;
}

/* Sends what is due; how many groups. */
hot_inline uint32_t uiopf_endpoint_turn(struct uiopf_endpoint *ep, uiopf_send *send, void *above)
{
	uint32_t sent = 0;

	if (unlikely(ep->manual_head != ep->manual_tail))
		sent = uiopf_endpoint_send_manuals(ep, send, above);
	if (!ep->load.active)
		return sent;
	/* What an answer has not already made room for (below): the start of a pass, and an open loop's arrivals. */
	while (sent < UIOPF_SENT_PER_TURN && uiopf_load_wants(&ep->load) &&
	       uiopf_endpoint_send_load(ep, uiopf_now(&ep->core->clock), send, above))
		sent++;
	if (uiopf_load_is_over(&ep->load, !uiopf_pri_may_send(ep->pri)))
		uiopf_load_finish(&ep->load);
	return sent;
}

/* ---- answers ---- */

/* Translates every page of the group again, for what it needs of these rights: a constant. */
hot_inline uint32_t uiopf_prg_retry(struct uiopf_endpoint *ep, const struct uiopf_prg *prg, uint64_t rights)
{
	uint32_t i, there;

	if (likely(prg->leaf))
		there = uiopf_leaf_allows(LOAD_ACQUIRE(prg->leaf), prg->page & rights);
	else
		there = uiopf_walk(&ep->tables, prg->pasid, prg->page & PCIE_PRI_ADDRESS, prg->page & rights);
	for (i = 1; i < prg->pages; i++) {
		uint64_t page = ep->page[(uint32_t)(prg - ep->prg) * ep->group_most + i];

		there += uiopf_walk(&ep->tables, prg->pasid, page & PCIE_PRI_ADDRESS, page & rights);
	}
	ep->counts.succeeded += there;
	if (likely(there == prg->pages))
		return UIOPF_ACCESS_OK;
	ep->counts.unmapped += prg->pages - there;
	return UIOPF_ACCESS_UNMAPPED;
}

/* The same by the function's translator. */
static __attribute__((noinline, unused)) uint32_t uiopf_prg_translate_again(struct uiopf_endpoint *ep,
									    const struct uiopf_prg *prg)
{
	uint32_t i, there = 0;

	for (i = 0; i < prg->pages; i++) {
		const uint64_t page = i ? ep->page[(uint32_t)(prg - ep->prg) * ep->group_most + i] : prg->page;

		there += uiopf_endpoint_translates(ep, prg->pasid, page & PCIE_PRI_ADDRESS,
						   uiopf_tried_by(ep, uiopf_needs_of(page)));
	}
	ep->counts.succeeded += there;
	ep->counts.unmapped += prg->pages - there;
	return there == prg->pages ? UIOPF_ACCESS_OK : UIOPF_ACCESS_UNMAPPED;
}

/*
 * Success, and the function asks again for what is still not there: in a group of its own, since the answered one is at
 * an end. Looked at once, page by page, since the client may map meanwhile. How many pages it has asked for.
 */
hot_inline uint32_t uiopf_prg_ask_again(struct uiopf_endpoint *ep, uint32_t index, uiopf_send *send, void *above)
{
	const struct uiopf_prg was = ep->prg[index];
	struct uiopf_prg *prg = NULL;
	uint32_t i, missing = 0;
	const uint64_t stalled = ep->page[index * ep->group_most];
	uint64_t waits = 0;

	uiopf_prg_close(ep, &ep->prg[index]);
	for (i = 0; i < was.pages; i++) {
		/* Where the new group has the old one's index, it writes no page that has not been read. */
		const uint64_t page = i ? ep->page[index * ep->group_most + i] : was.page;

		if (uiopf_endpoint_reaches(ep, was.pasid, page & PCIE_PRI_ADDRESS, uiopf_tried_by(ep, uiopf_needs_of(page))))
			continue;
		if (missing++) {
			uiopf_prg_send(ep, prg, waits & PCIE_PRI_ADDRESS, uiopf_needs_of(waits), false, send, above);
		} else {
			prg = uiopf_prg_open(ep, was.pasid, was.intended_ns);
			prg->kind = was.kind;
			prg->tries = (uint8_t)(was.tries + 1) & UIOPF_MOST_RETRIES;
			ep->manual_of[prg - ep->prg] = ep->manual_of[index];
		}
		waits = page;
	}
	if (missing)
		uiopf_prg_send(ep, prg, ep->stalls && ep->group_most == 1 ? stalled : waits & PCIE_PRI_ADDRESS,
			       uiopf_needs_of(waits), true, send, above);
	ep->counts.succeeded += was.pages - missing;
	ep->counts.retried += missing;
	return missing;
}

/* Whether that is what follows from a Success: there is a try left, and credits, also if some were taken away. */
hot_inline bool uiopf_prg_may_ask_again(const struct uiopf_endpoint *ep, const struct uiopf_prg *prg)
{
	return prg->kind != UIOPF_PRG_RAW && prg->tries < ep->retries && ep->pri->sends &&
	       ep->pri->used <= ep->pri->allocation && !uiopf_endpoint_is_stopped(ep, prg->pasid);
}

/*
 * Success, and the rest of an operation with one fault at a time is sent again: from the page that was missing, which may
 * still be. Its result, or UIOPF_ACCESS_PENDING: it goes on. The group is closed.
 */
static __attribute__((noinline, unused)) uint32_t uiopf_endpoint_send_rest(struct uiopf_endpoint *ep, uint32_t index,
									   uiopf_send *send, void *above)
{
	const struct uiopf_prg was = ep->prg[index];
	const uint32_t at = ep->manual_of[index];
	const struct uiopf_manual *m = &ep->manual[at];
	const uint64_t first = m->address & PCIE_PRI_ADDRESS;
	const uint32_t n = (uint32_t)(((was.page & PCIE_PRI_ADDRESS) - first) / UIOPF_PAGE);
	const uint32_t missing = uiopf_manual_missing(ep, m, n);
	const bool may = !uiopf_endpoint_is_stopped(ep, was.pasid);
	const bool again = missing == n && may && was.tries < ep->retries;

	uiopf_prg_close(ep, &ep->prg[index]);
	++*(missing != n ? &ep->counts.succeeded : again ? &ep->counts.retried : &ep->counts.unmapped);
	if (missing == m->pages)
		return UIOPF_ACCESS_OK;
	if (!may || (missing == n && !again))
		return UIOPF_ACCESS_UNMAPPED;
	uiopf_manual_send_one(ep, at, missing, again ? was.tries + 1u : 0, was.intended_ns, send, above);
	return UIOPF_ACCESS_PENDING;
}

/* Any answer but the usual one. Not inlined: the usual one's code is short without it. */
static __attribute__((noinline, unused)) void
uiopf_endpoint_other_response(struct uiopf_endpoint *ep, uint32_t index, uint32_t code, uint64_t now, uiopf_send *send,
			      void *above)
{
	struct uiopf_prg *prg = &ep->prg[index];
	const uint64_t intended_ns = prg->intended_ns;
	const enum uiopf_prg_kind kind = prg->kind;
	bool failed = false;
	uint32_t result;

	if (!prg->outstanding) {
		uiopf_endpoint_unexpected(ep, index, code);
		return;
	}
	if (code == PCIE_PRG_SUCCESS && ep->port->one_fault && kind == UIOPF_PRG_MANUAL) {
		result = uiopf_endpoint_send_rest(ep, index, send, above);
		if (result == UIOPF_ACCESS_PENDING) {
			ep->load.outstanding--;		/* one group instead of another */
			goto goes_on;
		}
	} else if (code == PCIE_PRG_SUCCESS && uiopf_prg_may_ask_again(ep, prg)) {
		if (uiopf_prg_ask_again(ep, index, send, above)) {
			ep->load.outstanding--;		/* one group instead of another */
			goto goes_on;
		}
		result = UIOPF_ACCESS_OK;	/* and the group is closed */
	} else {
		if (ep->pri->deaf) {
			ep->counts.ignored++;
			ep->counts.failed += prg->pages;
			result = UIOPF_ACCESS_FAILED;
		} else if (code == PCIE_PRG_SUCCESS) {
			result = ep->tlb ? uiopf_prg_translate_again(ep, prg) :
					   uiopf_prg_retry(ep, prg, PCIE_PRI_READ | PCIE_PRI_WRITE | IOMMU_PGFAULT_PERM_EXEC);
		} else if (code == PCIE_PRG_INVALID || code == UIOPF_STALL_TERMINATED) {
			ep->counts.invalid += prg->pages;
			result = code == PCIE_PRG_INVALID ? UIOPF_ACCESS_INVALID : UIOPF_ACCESS_TERMINATED;
		} else {
			/* All other codes count as Response Failure: nothing more is sent before PRI is enabled anew. */
			ep->counts.failed += prg->pages;
			failed = true;
			result = UIOPF_ACCESS_FAILED;
		}
		uiopf_prg_close(ep, prg);
	}
	if (kind != UIOPF_PRG_LOAD)
		uiopf_endpoint_answered_by_hand(ep, kind, index, code, result);
	if (kind != UIOPF_PRG_RAW)
		uiopf_load_ended(&ep->load, intended_ns, now);
	if (failed)
		uiopf_endpoint_failed(ep);
	else
		uiopf_pri_settle(ep->pri);
goes_on:
	if (ep->load.active)
		uiopf_endpoint_send_load(ep, now, send, above);
}

/* A PRG Response has arrived, at this time. */
hot_inline void uiopf_endpoint_response(struct uiopf_endpoint *ep, uint32_t index, uint32_t code, uint64_t now,
					uiopf_send *send, void *above)
{
	struct uiopf_prg *prg = &ep->prg[index];

	/* Nothing to be told to anyone, asked again, translated, executed or ignored: as long as it sends, it is not deaf. */
	if (unlikely(!prg->outstanding || code != PCIE_PRG_SUCCESS || prg->kind != UIOPF_PRG_LOAD || ep->apart ||
		     !ep->pri->sends)) {
		uiopf_endpoint_other_response(ep, index, code, now, send, above);
		return;
	}
	uiopf_prg_retry(ep, prg, PCIE_PRI_READ | PCIE_PRI_WRITE);
	uiopf_load_ended(&ep->load, prg->intended_ns, now);
	uiopf_prg_close(ep, prg);
	/* A function that was waiting for an answer goes on at once. */
	if (ep->load.active)
		uiopf_endpoint_send_load(ep, now, send, above);
}

/*
 * … or is about to: begins the translation that will be tried again, down to the last table. (What the client stored
 * before it answered is there already; what it changes meanwhile may be seen or not, as with any walk.)
 */
hot_inline void uiopf_endpoint_prepare(struct uiopf_endpoint *ep, uint32_t index)
{
	struct uiopf_prg *prg = &ep->prg[index];

	/* The client has just written the entry: its line is on the way here by the time the access is tried again. */
	prg->leaf = likely(ep->tables.map) ? uiopf_walk_cached(&ep->tables, &ep->walked, prg->pasid, prg->page) : NULL;
	if (prg->leaf)
		__builtin_prefetch(prg->leaf);
}
