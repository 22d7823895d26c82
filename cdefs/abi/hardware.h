/*
 * What the simulated hardware reads and writes: PCIe page requests, the queues of IOMMUs, stage-1 page tables.
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

/* ---- Arm SMMUv3: IHI 0070, chapters 4 and 8; Linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.h ---- */

/* PRI queue entry: two words, 16 bytes. */
#define SMMU_PRIQ_WORDS 2
#define SMMU_PRIQ_ENTRIES 2048		/* all of them in use: the indices have a wrap bit */
/* Word 0: StreamID 31:0, SubstreamID 51:32. */
#define SMMU_PRIQ_SSID_SHIFT 32
#define SMMU_PRIQ_PRIVILEGED 0x400000000000000	/* bit 58 */
#define SMMU_PRIQ_EXECUTE 0x800000000000000	/* bit 59 */
#define SMMU_PRIQ_MESSAGE_SHIFT 60	/* read 60, write 61, last 62: in the order of PCIe's message */
#define SMMU_PRIQ_LAST 0x4000000000000000	/* bit 62 */
#define SMMU_PRIQ_SSV 0x8000000000000000	/* bit 63: there is a SubstreamID */
/* Word 1: address 63:12. */
#define SMMU_PRIQ_INDEX 0x1ff		/* 8:0 */
#define SMMU_OVERFLOW 0x80000000	/* PRIQ_PROD.OVFLG, PRIQ_CONS.OVACKFLG: bit 31 */

/* Commands: two words, 16 bytes. Word 0: opcode 7:0, StreamID 63:32. */
#define SMMU_CMD_WORDS 2
#define SMMU_CMD_OPCODE 0xff
#define SMMU_CMD_SID_SHIFT 32
#define SMMU_CMD_PRI_RESP 0x41
#define SMMU_CMD_SYNC 0x46
/* CMD_PRI_RESP, word 1: group index 8:0. */
#define SMMU_PRI_RESP_SSV 0x800		/* word 0, bit 11 */
#define SMMU_PRI_RESP_SSID_SHIFT 12	/* word 0, 31:12 */
#define SMMU_PRI_RESP_CODE_SHIFT 12	/* word 1, 13:12: not PCIe's codes */
#define SMMU_PRI_RESP_FAILURE 0x0
#define SMMU_PRI_RESP_INVALID 0x1
#define SMMU_PRI_RESP_SUCCESS 0x2

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
