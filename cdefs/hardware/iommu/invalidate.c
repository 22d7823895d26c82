#include "hardware/iommu/invalidate.h"

static bool is_named(const struct uiopf_translator *t, uint32_t domain)
{
	if (domain == UIOPF_ANY_DOMAIN)
		return true;
	if (domain == UIOPF_ANY_GUEST || domain == UIOPF_NO_GUEST)
		return (t->second != NULL) == (domain == UIOPF_ANY_GUEST);
	return domain & UIOPF_GUEST ? t->second && t->domain == (domain & UIOPF_MOST_DOMAIN) : t->domain == domain;
}

void uiopf_invalidate(const struct uiopf_port *port, uint32_t domain, uint32_t tag, struct uiopf_range range)
{
	const struct uiopf_endpoint *ep;

	for (ep = port->endpoints; ep; ep = ep->next)
		if (ep->tlb && is_named(ep->tlb->translator, domain))
			uiopf_translator_drop(ep->tlb->translator, tag, range.first, range.last);
}

void uiopf_invalidate_second(const struct uiopf_port *port, uint32_t domain, struct uiopf_range range)
{
	const struct uiopf_endpoint *ep;

	for (ep = port->endpoints; ep; ep = ep->next)
		if (ep->tlb && is_named(ep->tlb->translator, domain))
			uiopf_translator_drop_second(ep->tlb->translator, range.first, range.last);
}

void uiopf_invalidate_device(const struct uiopf_port *port, uint32_t requester_id, uint32_t pasid,
			     struct uiopf_range range)
{
	const struct uiopf_endpoint *ep;

	for (ep = port->endpoints; ep; ep = ep->next)
		if (ep->tlb && ep->requester_id == requester_id)
			uiopf_device_tlb_drop(ep->tlb, pasid, range.first, range.last);
}

void uiopf_invalidate_contexts(const struct uiopf_port *port, uint32_t requester_id, uint32_t domain, uint32_t pasid)
{
	const struct uiopf_endpoint *ep;

	for (ep = port->endpoints; ep; ep = ep->next)
		if (ep->tlb && (requester_id == UIOPF_ANY_REQUESTER || ep->requester_id == requester_id) &&
		    is_named(ep->tlb->translator, domain))
			uiopf_device_tlb_drop_context(ep->tlb, pasid);
}
