/*
 * A page request as it leaves a PCIe function, whatever IOMMU is above it.
 *
 * Source: PCI Express Base Specification 6.0, 10.4.1 (Page Request Message) and 6.20 (PASID).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct uiopf_page_request {
	uint32_t requester_id;
	uint32_t pasid;			/* of the prefix, if there is one */
	bool has_pasid, execute, privileged;	/* the prefix: there is one; its two bits */
	uint64_t message;		/* PCIE_PRI_*: the page's address, read, write, last, and the group's index */
};

/* What the IOMMU model does with it. A constant wherever it is used: the function is inlined into what sends. */
typedef void uiopf_send(void *above, struct uiopf_page_request request);
