/*
 * What the simulated hardware reads and writes: PCIe page requests, VT-d's queues, stage-1 page tables.
 *
 * Bit ranges are of little-endian 64-bit words. Sources: PCIe base specification, Page Request Services; Intel VT-d
 * 4.x as Linux 6.12 and 7.2 use it (drivers/iommu/intel/prq.c, iommu.h; include/uapi/linux/pci_regs.h).
 */
#pragma once
#include <stdint.h>

/* ---- PCIe Page Request message: bytes 8 to 15 as one word; requester id and PASID travel beside it ---- */

#define PCIE_PRI_READ 0x1
#define PCIE_PRI_WRITE 0x2
#define PCIE_PRI_LAST 0x4
#define PCIE_PRI_PRGI_SHIFT 3		/* page request group index, 9 bits */
#define PCIE_PRI_PRGI_COUNT 512
#define PCIE_PRI_ADDRESS 0xfffffffffffff000

/* PRG Response message: what becomes of the group. All other codes count as a Response Failure. */
#define PCIE_PRG_SUCCESS 0x0
#define PCIE_PRG_INVALID 0x1
#define PCIE_PRG_FAILURE 0xf

/* The Page Request Extended Capability: offsets of its registers, and their bits. */
#define PCIE_PRI_ID 0x13
#define PCIE_PRI_HEADER 0x00
#define PCIE_PRI_CTRL 0x04
#define PCIE_PRI_STATUS 0x06
#define PCIE_PRI_CAPACITY 0x08		/* Outstanding Page Request Capacity, read only */
#define PCIE_PRI_ALLOCATION 0x0c	/* Outstanding Page Request Allocation */
#define PCIE_PRI_CTRL_ENABLE 0x1
#define PCIE_PRI_CTRL_RESET 0x2
#define PCIE_PRI_STATUS_RF 0x1		/* a Response Failure was seen */
#define PCIE_PRI_STATUS_UPRGI 0x2	/* a response to a group index that is not outstanding was seen */
#define PCIE_PRI_STATUS_STOPPED 0x100
#define PCIE_PRI_STATUS_PRPR 0x8000	/* PRG responses carry the PASID of their requests */

/* ---- VT-d page request descriptor: four words, 32 bytes ---- */

#define VTD_PRQ_WORDS 4
#define VTD_PRQ_ENTRIES 2048		/* what Linux sets up: 64 KiB */
#define VTD_PRQ_TYPE 0x1		/* word 0, bits 7:0 */
#define VTD_PRQ_PASID_PRESENT 0x100
#define VTD_PRQ_RID_SHIFT 16		/* 31:16 */
#define VTD_PRQ_PASID_SHIFT 32		/* 51:32 */
#define VTD_PRQ_EXECUTE 0x10000000000000	/* bit 52 */
#define VTD_PRQ_PRIVILEGED 0x20000000000000	/* bit 53 */
/* Word 1 has the layout of the PCIe message: read 0, write 1, last 2, group index 11:3, address 63:12. */
#define VTD_PRS_PPR 0x1			/* status: the last request of a group is pending */
#define VTD_PRS_PRO 0x2			/* status: the queue has overflowed */

/* VT-d page group response, in the invalidation queue: four words. */
#define VTD_IQ_WORDS 4
#define VTD_PGRP_TYPE 0x9		/* word 0, bits 3:0 */
#define VTD_PGRP_PASID_PRESENT 0x10
#define VTD_PGRP_CODE_SHIFT 12		/* 15:12 */
#define VTD_PGRP_RID_SHIFT 16		/* 31:16 */
#define VTD_PGRP_PASID_SHIFT 32		/* 51:32 */
#define VTD_PGRP_LPIG 0x4		/* word 1, bit 2: reserved since 4.0; Linux 6.12 sets it */
#define VTD_PGRP_PRGI_SHIFT 3		/* word 1, 11:3 */

/* ---- Stage-1 page tables, owned by the client ---- */

/*
 * Four levels of 512 eight-byte entries, the x86-64 and VT-d first-level format; 4 KiB pages. Table addresses are
 * offsets into the client's arena. In front of the tables stands a PASID table: entry n is the root of PASID n.
 */
#define STAGE1_PRESENT 0x1
#define STAGE1_WRITE 0x2
#define STAGE1_USER 0x4
#define STAGE1_NO_EXECUTE 0x8000000000000000
#define STAGE1_ADDRESS 0xffffffffff000
#define STAGE1_LEVELS 4
