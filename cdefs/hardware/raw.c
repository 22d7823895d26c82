/*
 * Page requests that are made field by field, for what no access asks for: without a PASID, privileged, a group without
 * its last, a stop marker, another function's requester id. The answers to them are kept until they are taken.
 */
#include <errno.h>

#include "hardware/endpoint.h"

/* Takes this index out of those that are free; quiescent, and as slow as it looks. */
static void take_index(struct uiopf_endpoint *ep, uint32_t index)
{
	uint32_t i, kept = 0, n = ep->free_indices;

	for (i = 0; i < n; i++) {
		const uint16_t free_index = ep->free_index[(ep->free_first + i) % PCIE_PRI_PRGI_COUNT];

		if (free_index != index)
			ep->free_index[(ep->free_first + kept++) % PCIE_PRI_PRGI_COUNT] = free_index;
	}
	ep->free_indices = kept;
}

/* The function as whose a request is seen that has another's requester id. */
static void blame(struct uiopf_endpoint *ep, uint32_t requester_id)
{
	struct uiopf_endpoint *other;

	for (other = ep->port->endpoints; other; other = other->next)
		if (other->requester_id == requester_id) {
			other->counts.forged++;
			return;
		}
}

#define BRINGS_BACK (uint32_t)(UIOPF_RAW_PRIVATE_DATA | UIOPF_RAW_STREAM)

static struct uiopf_private_data private_data(const struct uiopf_raw_request *raw)
{
	return (struct uiopf_private_data){
		.word = { raw->private_data[0], raw->private_data[1] },
		.page = raw->flags & UIOPF_RAW_STREAM ? raw->message & PCIE_PRI_ADDRESS : 0,
		.there = raw->flags & UIOPF_RAW_PRIVATE_DATA,
		.streams = raw->flags & UIOPF_RAW_STREAM,
	};
}

/* Whether the IOMMU carries this. A stream's request is no group's last, or that would be answered. */
static bool is_carried(const struct uiopf_port *port, const struct uiopf_raw_request *raw)
{
	if (raw->flags & UIOPF_RAW_STREAM && (!port->streams || raw->message & PCIE_PRI_LAST))
		return false;
	if (raw->flags & UIOPF_RAW_PRIVATE_DATA)
		return port->private_bits && !(raw->private_data[0] & ~uiopf_port_private_mask(port, 0)) &&
		       !(raw->private_data[1] & ~uiopf_port_private_mask(port, 1));
	return !raw->private_data[0] && !raw->private_data[1];
}

/* The page, and what a success must allow. */
static uint64_t page_of(const struct uiopf_raw_request *raw)
{
	return (raw->message & (PCIE_PRI_ADDRESS | PCIE_PRI_READ | PCIE_PRI_WRITE)) |
	       (raw->flags & UIOPF_RAW_EXECUTE ? IOMMU_PGFAULT_PERM_EXEC : 0) |
	       (raw->flags & UIOPF_RAW_PRIVILEGED ? IOMMU_PGFAULT_PERM_PRIV : 0);
}

/* One more request of a group that is sent this way: 0, or why not. */
static int open_or_go_on(struct uiopf_endpoint *ep, const struct uiopf_raw_request *raw, uint32_t index)
{
	struct uiopf_prg *prg = &ep->prg[index];

	if (!ep->pri->sends || ep->stalls)
		return -EPERM;
	if (ep->pri->used >= ep->pri->allocation)
		return -ENOSPC;
	if (prg->outstanding && (prg->kind != UIOPF_PRG_RAW || prg->complete))
		return -EBUSY;		/* it waits for an answer */
	if (prg->outstanding && prg->pages == ep->group_most)
		return -E2BIG;
	if (!prg->outstanding) {
		take_index(ep, index);
		*prg = (struct uiopf_prg){ .pasid = raw->pasid, .outstanding = true, .kind = UIOPF_PRG_RAW };
		ep->counts.sent_groups++;
	}
	if (prg->pages)
		ep->page[index * ep->group_most + prg->pages] = page_of(raw);
	else
		prg->page = page_of(raw);
	prg->pages++;
	/* VT-d 3 answers what has private data, and 2 what is of a stream, and so what was sent before it, too. */
	prg->complete = raw->message & PCIE_PRI_LAST ||
			raw->flags & (uint32_t)(ep->port->streams ? UIOPF_RAW_STREAM : UIOPF_RAW_PRIVATE_DATA);
	ep->pri->used++;
	ep->outstanding++;
	ep->counts.sent++;
	if (ep->private_data)
		ep->private_data[index] = private_data(raw);
	return 0;
}

int uiopf_endpoint_send_raw(struct uiopf_endpoint *ep, const struct uiopf_raw_request *raw)
{
	const struct uiopf_page_request request = {
		.requester_id = raw->requester_id,
		.pasid = raw->pasid,
		.has_pasid = raw->flags & UIOPF_RAW_PASID,
		.execute = raw->flags & UIOPF_RAW_EXECUTE,
		.privileged = raw->flags & UIOPF_RAW_PRIVILEGED,
		.message = raw->message,
		.private_data = private_data(raw),
	};
	int rc = 0;

	/* Without a PASID there is no prefix, and nothing to carry the two bits. */
	if (raw->requester_id >> 16 || raw->pasid >> 20 ||
	    raw->flags & ~(uint32_t)(UIOPF_RAW_PASID | UIOPF_RAW_EXECUTE | UIOPF_RAW_PRIVILEGED | BRINGS_BACK) ||
	    (!(raw->flags & UIOPF_RAW_PASID) && (raw->flags & ~BRINGS_BACK || raw->pasid)))
		return -EINVAL;
	if (!is_carried(ep->port, raw))
		return -EOPNOTSUPP;
	uiopf_control_begin(ep->core);
	if (uiopf_is_stop_marker(request))
		rc = (ep->pri->sends && !ep->stalls) || raw->requester_id != ep->requester_id ? 0 : -EPERM;	/* costs no credit */
	else if (raw->requester_id != ep->requester_id)
		blame(ep, raw->requester_id);
	else
		rc = open_or_go_on(ep, raw, raw->message >> PCIE_PRI_PRGI_SHIFT & (PCIE_PRI_PRGI_COUNT - 1));
	if (rc == 0)
		ep->port->ops->request(ep->port, request);
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
	return rc;
}

uint32_t uiopf_endpoint_take_raw_answers(struct uiopf_endpoint *ep, struct uiopf_prg_answer *out, uint32_t most)
{
	uint32_t n = 0;

	uiopf_control_begin(ep->core);
	while (n < most && ep->answer_head != ep->answer_tail)
		out[n++] = ep->answer[ep->answer_head++ % UIOPF_ANSWERS];
	uiopf_control_end(ep->core);
	return n;
}
