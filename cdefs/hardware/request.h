/*
 * A page request as it leaves a PCIe function, whatever IOMMU is above it.
 *
 * Source: PCI Express Base Specification 6.0, 10.4.1 (Page Request Message) and 6.20 (PASID).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "abi/hardware.h"
#include "faults/iopf.h"

struct uiopf_page_request {
	uint32_t requester_id;
	uint32_t pasid;			/* of the prefix, if there is one */
	bool has_pasid, execute, privileged;	/* the prefix: there is one; its two bits. A stall says the same */
	uint64_t message;		/* PCIE_PRI_*: the page's address, read, write, last, and the group's index */
	/* Of the transaction that asks. An IOMMU in which it stalls sees this; a page request does not carry it. */
	uint64_t address;		/* to the byte */
	/* Of a function in the root complex, and only for VT-d before revision 4; no PCIe message has it. */
	struct uiopf_private_data private_data;
};

/* A stop marker says that a PASID's requests are at an end. It costs no credit, and nobody answers it. */
static inline bool uiopf_is_stop_marker(struct uiopf_page_request request)
{
	return request.has_pasid && !request.execute && !request.privileged &&
	       (request.message & (PCIE_PRI_LAST | PCIE_PRI_READ | PCIE_PRI_WRITE)) == PCIE_PRI_LAST;
}

/* What the IOMMU model does with it. A constant wherever it is used: the function is inlined into what sends. */
typedef void uiopf_send(void *above, struct uiopf_page_request request);
