/*
 * What software does to a function's page requests: registers, Linux's calls for them, and resets.
 *
 * Source: PCI Express Base Specification 6.0, 7.8.9 (registers), 6.6.2 (function level reset); Linux drivers/pci/ats.c.
 */
#include "hardware/pri_calls.h"

#include <errno.h>

/* All that a function has outstanding is forgotten. */
static void forget_groups(struct uiopf_endpoint *ep)
{
	uint32_t i;

	for (i = 0; i < PCIE_PRI_PRGI_COUNT; i++)
		if (ep->prg[i].outstanding)
			uiopf_endpoint_forget_group(ep, i);
}

/* … and of all functions that share its capability. */
static void forget_all(struct uiopf_endpoint *ep)
{
	struct uiopf_endpoint *other;

	for (other = ep->port->endpoints; other; other = other->next)
		if (other->pri == ep->pri)
			forget_groups(other);
	uiopf_pri_forgotten(ep->pri);
}

void uiopf_endpoint_failed(struct uiopf_endpoint *ep)
{
	/* While it stops, a Response Failure ends that at once: nothing is waited for any more. */
	if (uiopf_pri_fail(ep->pri)) {
		forget_all(ep);
		ep->pri->deaf = true;
	}
}

void uiopf_endpoint_unexpected(struct uiopf_endpoint *ep, uint32_t index, uint32_t code)
{
	if (ep->stalls) {
		ep->counts.unexpected++;	/* no transaction has this tag: nothing happens */
		return;
	}
	uiopf_endpoint_log_answer(ep, index, code);
	if (ep->pri->deaf) {
		ep->counts.ignored++;
		return;
	}
	ep->counts.unexpected++;
	if (code == PCIE_PRG_SUCCESS || code == PCIE_PRG_INVALID)
		ep->pri->status |= PCIE_PRI_STATUS_UPRGI;
	else
		uiopf_endpoint_failed(ep);	/* of whatever group: it need not name one that there is */
}

/* ---- registers ---- */

int64_t uiopf_endpoint_read_pri(struct uiopf_endpoint *ep, uint32_t offset)
{
	int64_t value = -EINVAL;

	if (ep->virtual || ep->stalls)
		return -ENOENT;		/* the capability is its physical function's, or there is none */
	uiopf_control_begin(ep->core);
	switch (offset) {
	case PCIE_PRI_HEADER:
		value = PCIE_PRI_ID | 1 << 16;	/* version 1, and no further capability */
		break;
	case PCIE_PRI_CTRL:
		value = ep->pri->control;
		break;
	case PCIE_PRI_STATUS:
		value = ep->pri->status | PCIE_PRI_STATUS_PRPR;
		break;
	case PCIE_PRI_CAPACITY:
		value = ep->pri->capacity;
		break;
	case PCIE_PRI_ALLOCATION:
		value = ep->pri->allocation;
		break;
	}
	uiopf_control_end(ep->core);
	return value;
}

static void write_control(struct uiopf_endpoint *ep, uint32_t value)
{
	if (value & PCIE_PRI_CTRL_ENABLE) {
		uiopf_pri_enable(ep->pri);	/* Reset beside it does nothing */
		return;
	}
	uiopf_pri_disable(ep->pri);
	if (value & PCIE_PRI_CTRL_RESET)
		forget_all(ep);
}

int uiopf_endpoint_write_pri(struct uiopf_endpoint *ep, uint32_t offset, uint32_t value)
{
	int rc = 0;

	if (ep->virtual || ep->stalls)
		return -ENOENT;
	uiopf_control_begin(ep->core);
	switch (offset) {
	case PCIE_PRI_HEADER:
	case PCIE_PRI_CAPACITY:
		break;			/* read only */
	case PCIE_PRI_CTRL:
		write_control(ep, value);
		break;
	case PCIE_PRI_STATUS:
		ep->pri->status &= (uint16_t)~(value & (PCIE_PRI_STATUS_RF | PCIE_PRI_STATUS_UPRGI));
		break;
	case PCIE_PRI_ALLOCATION:
		/* What PCIe leaves open: more than there are is as many as there are, and it may change at any time. */
		ep->pri->allocation = value < ep->pri->capacity ? value : ep->pri->capacity;
		break;
	default:
		rc = -EINVAL;
	}
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);	/* more may be sent, or a pass may be over */
	return rc;
}

/* ---- pci_enable_pri(), pci_disable_pri(), pci_reset_pri() ---- */

/* Pages of the largest group that a function is still to send, or `most`. */
static uint32_t largest_group_of(const struct uiopf_endpoint *ep, uint32_t most)
{
	uint32_t i;

	if (ep->load.active && ep->load.cursor < ep->load.rows && ep->load.config.group > most)
		most = ep->load.config.group;
	for (i = ep->manual_head; i != ep->manual_tail; i++) {
		const struct uiopf_manual *m = &ep->manual[i % UIOPF_MANUAL];

		if (!m->sent && m->pages > most)
			most = m->pages;
	}
	return most;
}

/* … and all functions that share its capability. */
static uint32_t largest_group(const struct uiopf_endpoint *ep)
{
	const struct uiopf_endpoint *other;
	uint32_t most = 0;

	for (other = ep->port->endpoints; other; other = other->next)
		if (other->pri == ep->pri)
			most = largest_group_of(other, most);
	return most;
}

int uiopf_endpoint_enable_pri(struct uiopf_endpoint *ep, uint32_t allocation)
{
	struct uiopf_pri *pri = ep->pri;
	int rc = 0;

	uiopf_control_begin(ep->core);
	if (allocation > pri->capacity)
		allocation = pri->capacity;
	if (ep->stalls) {
		rc = -EINVAL;		/* as of any device without the capability */
	} else if (ep->virtual) {
		rc = pri->control & PCIE_PRI_CTRL_ENABLE ? 0 : -EINVAL;
	} else if (pri->control & PCIE_PRI_CTRL_ENABLE || !(pri->status & PCIE_PRI_STATUS_STOPPED)) {
		rc = -EBUSY;
	} else if (largest_group(ep) > allocation) {
		rc = -ENOSPC;
	} else {
		pri->allocation = allocation;
		uiopf_pri_enable(pri);
	}
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
	return rc;
}

void uiopf_endpoint_disable_pri(struct uiopf_endpoint *ep)
{
	if (ep->virtual || ep->stalls)
		return;
	uiopf_control_begin(ep->core);
	uiopf_pri_disable(ep->pri);
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);	/* a pass may be over */
}

int uiopf_endpoint_reset_pri(struct uiopf_endpoint *ep)
{
	int rc = 0;

	if (ep->stalls)
		return -EINVAL;
	if (ep->virtual)
		return 0;
	uiopf_control_begin(ep->core);
	if (ep->pri->control & PCIE_PRI_CTRL_ENABLE)
		rc = -EBUSY;
	else
		write_control(ep, PCIE_PRI_CTRL_RESET);
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
	return rc;
}

/* ---- a PASID's end ---- */

int64_t uiopf_endpoint_stop_pasid(struct uiopf_endpoint *ep, uint32_t pasid, int marker)
{
	const struct uiopf_page_request request = {
		.requester_id = ep->requester_id, .pasid = pasid, .has_pasid = true, .message = PCIE_PRI_LAST,
	};
	int64_t waits = 0;
	uint32_t i;

	if (pasid >> 20)
		return -EINVAL;
	uiopf_control_begin(ep->core);
	if (!uiopf_endpoint_is_stopped(ep, pasid)) {
		if (ep->stopped_pasids == UIOPF_MOST_STOPPED) {
			uiopf_control_end(ep->core);
			return -ENOSPC;
		}
		ep->stopped_pasid[ep->stopped_pasids++] = pasid;
	}
	for (i = ep->manual_head; i != ep->manual_tail; i++) {
		struct uiopf_manual *m = &ep->manual[i % UIOPF_MANUAL];

		if (m->sent || m->pasid != pasid)
			continue;
		m->sent = true;
		uiopf_endpoint_accessed(ep, i % UIOPF_MANUAL, UIOPF_ACCESS_FAILED);
	}
	for (i = 0; i < PCIE_PRI_PRGI_COUNT; i++)
		waits += ep->prg[i].outstanding && ep->prg[i].pasid == pasid ? ep->prg[i].pages : 0;
	if (marker && ep->pri->sends && !ep->stalls)
		ep->port->ops->request(ep->port, request);
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
	return waits;
}

void uiopf_endpoint_resume_pasid(struct uiopf_endpoint *ep, uint32_t pasid)
{
	uint32_t i;

	uiopf_control_begin(ep->core);
	for (i = 0; i < ep->stopped_pasids; i++)
		if (ep->stopped_pasid[i] == pasid) {
			ep->stopped_pasid[i] = ep->stopped_pasid[--ep->stopped_pasids];
			break;
		}
	uiopf_control_end(ep->core);
}

/* ---- function level reset ---- */

void uiopf_endpoint_reset(struct uiopf_endpoint *ep)
{
	uint32_t i;

	uiopf_control_begin(ep->core);
	ep->load.cursor = ep->load.rows;
	ep->stopped_pasids = 0;
	if (ep->tlb)	/* a reset ends ATS, and nothing that was translated is left */
		uiopf_device_tlb_drop(ep->tlb, UIOPF_ANY_PASID, 0, UINT64_MAX);
	for (i = ep->manual_head; i != ep->manual_tail; i++) {
		struct uiopf_manual *m = &ep->manual[i % UIOPF_MANUAL];

		if (!m->sent)
			uiopf_endpoint_accessed(ep, i % UIOPF_MANUAL, UIOPF_ACCESS_FAILED);
		m->sent = true;
	}
	ep->manual_head = ep->manual_tail;
	if (ep->stalls) {
		/* What has stalled is in the IOMMU, not in the function: it waits for its answer still. */
	} else if (ep->virtual) {
		forget_groups(ep);
		uiopf_pri_settle(ep->pri);
	} else {
		uiopf_pri_disable(ep->pri);
		forget_all(ep);
		ep->pri->status = PCIE_PRI_STATUS_STOPPED;
		ep->pri->allocation = 0;
	}
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);	/* its pass is over */
}
