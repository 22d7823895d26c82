/*
 * What the simulated hardware reads and writes: PCIe page requests, the queues of IOMMUs, stage-1 page tables.
 *
 * Bit ranges are of little-endian 64-bit words. Sources: PCIe base specification, Page Request Services; Intel VT-d
 * 4.x as Linux 6.12 and 7.2 use it (drivers/iommu/intel/prq.c, iommu.h; include/uapi/linux/pci_regs.h); AMD's IOMMU as
 * they do (drivers/iommu/amd/amd_iommu_types.h); the RISC-V IOMMU specification 1.0, with its reference model.
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
#define VTD_PRQ_PRIVATE_DATA 0x200	/* bit 9, revision 3: words 2 and 3 are private data; reserved since 4.0 */
#define VTD_PRQ_RID_SHIFT 16		/* 31:16 */
#define VTD_PRQ_PASID_SHIFT 32		/* 51:32 */
#define VTD_PRQ_EXECUTE 0x10000000000000	/* bit 52 */
#define VTD_PRQ_PRIVILEGED 0x20000000000000	/* bit 53 */
/* Word 1 has the layout of the PCIe message: read 0, write 1, last 2, group index 11:3, address 63:12. */
#define VTD_PRS_PPR 0x1			/* status: the last request of a group is pending */
#define VTD_PRS_PRO 0x2			/* status: the queue has overflowed */

/* VT-d's registers of the page request queue, by their offsets. Head and tail are bytes. */
#define VTD_PQH 0xc0
#define VTD_PQT 0xc8
#define VTD_PQA 0xd0			/* size 2:0: 2^n pages of 4 KiB; the base is not modelled */
#define VTD_PRS 0xdc
#define VTD_PECTL 0xe0
#define VTD_PECTL_IP 0x40000000		/* bit 30: an interrupt waits behind the mask */
#define VTD_PECTL_IM 0x80000000		/* bit 31: it is masked */

/* VT-d's invalidation queue: descriptors of four words. Word 0: type 3:0, granularity 5:4, domain id 31:16. */
#define VTD_IQ_WORDS 4
#define VTD_IQ_TYPE 0xf
#define VTD_CONTEXT_TYPE 0x1
#define VTD_IOTLB_TYPE 0x2
#define VTD_DEVICE_TLB_TYPE 0x3		/* requester id 47:32 of word 0; S is bit 0 of word 1 */
#define VTD_WAIT_TYPE 0x5
#define VTD_PIOTLB_TYPE 0x6		/* PASID-based: PASID 51:32 of word 0 */
#define VTD_PASID_CACHE_TYPE 0x7
#define VTD_PASID_DEVICE_TLB_TYPE 0x8	/* requester id 31:16, PASID 51:32 of word 0; G is bit 0, S bit 11 of word 1 */
#define VTD_IQ_GRANULARITY_SHIFT 4	/* 5:4 */
#define VTD_IQ_DOMAIN_SHIFT 16
#define VTD_IQ_PASID_SHIFT 32
#define VTD_IQ_AM 0x3f			/* word 1, 5:0: 4096 << that, aligned; IH 6; address 63:12 */
#define VTD_DEVICE_TLB_RID_SHIFT 32
#define VTD_DEVICE_TLB_S 0x1
#define VTD_PASID_DEVICE_TLB_G 0x1
#define VTD_PASID_DEVICE_TLB_S 0x800

/* VT-d page group response, in the invalidation queue. */
#define VTD_PGRP_TYPE 0x9		/* word 0, bits 3:0 */
#define VTD_PGRP_PASID_PRESENT 0x10
#define VTD_PGRP_PRIVATE_DATA 0x20	/* bit 5, revision 3: words 2 and 3 are the request's */
#define VTD_PGRP_CODE_SHIFT 12		/* 15:12 */
#define VTD_PGRP_RID_SHIFT 16		/* 31:16 */
#define VTD_PGRP_PASID_SHIFT 32		/* 51:32 */
#define VTD_PGRP_LPIG 0x4		/* word 1, bit 2: reserved since 4.0; Linux 6.12 sets it */
#define VTD_PGRP_PRGI_SHIFT 3		/* word 1, 11:3 */

/* ---- VT-d before 3.0: two words each; Linux drivers/iommu/intel-svm.c, 4.4 to 4.20 ---- */

#define VTD2_PRQ_WORDS 2
#define VTD2_PRQ_ENTRIES 4096		/* of the 64 KiB that later drivers set up */
#define VTD2_PRQ_STREAM 0x1		/* word 0: srr, a stream response is asked for */
#define VTD2_PRQ_PASID_PRESENT 0x4	/* bit 2 */
#define VTD2_PRQ_LAST 0x8		/* lpig, bit 3 */
#define VTD2_PRQ_PASID_SHIFT 4		/* 23:4 */
#define VTD2_PRQ_BUS_SHIFT 24		/* 31:24 */
#define VTD2_PRIVATE_SHIFT 32		/* 54:32, of requests and of answers */
#define VTD2_PRIVATE_BITS 23
#define VTD2_PRGI_SHIFT 55		/* 63:55, likewise */
#define VTD2_PRQ_READ 0x1		/* word 1 */
#define VTD2_PRQ_WRITE 0x2
#define VTD2_PRQ_EXECUTE 0x4
#define VTD2_PRQ_PRIVILEGED 0x8
#define VTD2_DEVFN_SHIFT 4		/* word 1, 11:4, of requests and of stream responses; address 63:12 */
#define VTD2_IQ_WORDS 2
/* Page group response: word 0 as in later ones, but for the code, which is in 3:0 of word 1, before private data and index. */
/* Page stream response: word 0 has the type 3:0, PASID, bus, private data and index where requests have them. */
#define VTD2_PSTRM_TYPE 0xa
#define VTD2_CODE 0xf			/* word 1, 3:0 */

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
#define SMMU_CMD_SSEC 0x400		/* bit 10, of prefetches, configuration and stalls: a Secure stream */
#define SMMU_CMD_PREFETCH_CONFIG 0x01
#define SMMU_CMD_PREFETCH_ADDR 0x02
#define SMMU_CMD_CFGI_STE 0x03
#define SMMU_CMD_CFGI_STE_RANGE 0x04	/* CMD_CFGI_ALL, too */
#define SMMU_CMD_CFGI_CD 0x05
#define SMMU_CMD_CFGI_CD_ALL 0x06
#define SMMU_CMD_TLBI_NH_ALL 0x10
#define SMMU_CMD_TLBI_NH_ASID 0x11
#define SMMU_CMD_TLBI_NH_VA 0x12
#define SMMU_CMD_TLBI_NH_VAA 0x13
#define SMMU_CMD_TLBI_EL2_ALL 0x20
#define SMMU_CMD_TLBI_EL2_ASID 0x21
#define SMMU_CMD_TLBI_EL2_VA 0x22
#define SMMU_CMD_TLBI_EL2_VAA 0x23
#define SMMU_CMD_TLBI_S12_VMALL 0x28
#define SMMU_CMD_TLBI_S2_IPA 0x2a
#define SMMU_CMD_TLBI_NSNH_ALL 0x30
#define SMMU_CMD_ATC_INV 0x40
#define SMMU_CMD_PRI_RESP 0x41
#define SMMU_CMD_RESUME 0x44
#define SMMU_CMD_STALL_TERM 0x45
#define SMMU_CMD_SYNC 0x46
/* CMD_CFGI_*: SubstreamID 31:12 of word 0; of a range, 4:0 of word 1: 2^(that + 1) streams. */
#define SMMU_CFGI_RANGE 0x1f
#define SMMU_CMD_SSID_SHIFT 12
/* CMD_TLBI_*, word 0: VMID 47:32, ASID 63:48; with TG (word 1, 11:10) a range of (NUM + 1) << SCALE granules. */
#define SMMU_TLBI_VMID_SHIFT 32
#define SMMU_TLBI_ASID_SHIFT 48
#define SMMU_TLBI_NUM_SHIFT 12		/* 16:12 */
#define SMMU_TLBI_SCALE_SHIFT 20	/* 24:20 */
#define SMMU_TLBI_TTL_SHIFT 8		/* word 1, 9:8: a hint */
#define SMMU_TLBI_TG_SHIFT 10		/* 1, 2, 3: granules of 4, 16 and 64 KiB */
#define SMMU_TLBI_IPA 0xffffffffff000	/* word 1, of CMD_TLBI_S2_IPA; others have 63:12 */
/* CMD_ATC_INV, word 0: Global 9, SSV 11, SubstreamID 31:12. Word 1: the span is 4096 << that. */
#define SMMU_ATC_INV_GLOBAL 0x200
#define SMMU_ATC_INV_SSV 0x800
#define SMMU_ATC_INV_SIZE 0x3f
#define SMMU_ATC_INV_SIZE_MOST 52
/* CMD_SYNC, word 0: how its completion is signalled. */
#define SMMU_SYNC_CS 0x3000		/* 13:12 */
/* CMD_PRI_RESP, word 1: group index 8:0. */
#define SMMU_PRI_RESP_SSV 0x800		/* word 0, bit 11 */
#define SMMU_PRI_RESP_SSID_SHIFT 12	/* word 0, 31:12 */
#define SMMU_PRI_RESP_CODE_SHIFT 12	/* word 1, 13:12: not PCIe's codes */
#define SMMU_PRI_RESP_FAILURE 0x0
#define SMMU_PRI_RESP_INVALID 0x1
#define SMMU_PRI_RESP_SUCCESS 0x2
/* CMD_RESUME, word 0, 13:12: what becomes of a stalled transaction. Word 1: its tag, 15:0. */
#define SMMU_RESUME_SHIFT 12
#define SMMU_RESUME_TERMINATE 0x0	/* reads 0, writes nothing */
#define SMMU_RESUME_RETRY 0x1
#define SMMU_RESUME_ABORT 0x2
#define SMMU_RESUME_TAG 0xffff

/* Event queue record of a fault: four words, 32 bytes. */
#define SMMU_EVTQ_WORDS 4
#define SMMU_EVTQ_ENTRIES 1024
/* Word 0: event 7:0, StreamID 63:32. */
#define SMMU_EVENT 0xff
#define SMMU_EVENT_TRANSLATION 0x10
#define SMMU_EVENT_ACCESS 0x12		/* the access flag is clear */
#define SMMU_EVENT_PERMISSION 0x13	/* between these: address size */
#define SMMU_EVENT_SSV 0x800		/* bit 11: there is a SubstreamID */
#define SMMU_EVENT_SSID_SHIFT 12	/* 31:12 */
#define SMMU_EVENT_SID_SHIFT 32
/* Word 1: stall tag 15:0. */
#define SMMU_EVENT_TAG 0xffff
#define SMMU_EVENT_STALL 0x80000000	/* bit 31 */
#define SMMU_EVENT_PRIVILEGED 0x200000000	/* PnU, bit 33 */
#define SMMU_EVENT_FETCH 0x400000000	/* InD, bit 34 */
#define SMMU_EVENT_READ 0x800000000	/* RnW, bit 35 */
#define SMMU_EVENT_STAGE_2 0x8000000000	/* S2, bit 39 */
#define SMMU_EVENT_CLASS 0x30000000000	/* 41:40 */
#define SMMU_EVENT_CLASS_TABLE 0x10000000000	/* 1: stage 2, for a table of stage 1 */
#define SMMU_EVENT_CLASS_IN 0x20000000000	/* 2: the address that came in, no table or descriptor */
#define SMMU_EVENT_TABLE_READ 0x100000000000	/* TTRnW, bit 44, with the class of a table: it was to be read, not written */
/* Word 2: the address, to the byte. Word 3: with S2, the address that stage 2 does not translate, 51:12. */
#define SMMU_EVENT_IPA 0xffffffffff000

/* Registers; those of the event and the PRI queue are on page 1. */
#define SMMU_IDR0 0x0
/* Stage 2 0, stage 1 1, AArch64 3:2, Hyp 9, ATS 10, ASID16 12, PRI 16, VMID16 18; stalls and RAZ/WI: 0. */
#define SMMU_IDR0_VALUE 0x5160b
#define SMMU_IDR3 0xc
#define SMMU_IDR3_VALUE 0x400		/* RIL, bit 10: ranges of CMD_TLBI_* */
#define SMMU_CR0 0x20
#define SMMU_CR0_SMMUEN 0x1
#define SMMU_CR0_PRIQEN 0x2
#define SMMU_CR0_EVENTQEN 0x4
#define SMMU_CR0_CMDQEN 0x8
#define SMMU_GERROR 0x60
#define SMMU_GERRORN 0x64		/* an error is active where the two differ */
#define SMMU_GERROR_CMDQ_ERR 0x1
#define SMMU_GERROR_PRIQ_ABT_ERR 0x8
#define SMMU_CMDQ_PROD 0x98
#define SMMU_CMDQ_CONS 0x9c		/* RD 19:0, ERR 30:24 */
#define SMMU_CMDQ_ERR_SHIFT 24
#define SMMU_CERROR_ILL 0x1
#define SMMU_CMDQ_INDEX 0xfffff
#define SMMU_EVENTQ_PROD 0x100a8
#define SMMU_EVENTQ_CONS 0x100ac
#define SMMU_PRIQ_PROD 0x100c8
#define SMMU_PRIQ_CONS 0x100cc

/*
 * ---- mlx5: an entry of the event queue, 64 bytes, for a page fault of the memory scheme; Linux include/linux/mlx5 ----
 *
 * As eight little-endian words of an entry whose fields are big-endian: type in byte 1, subtype 3; flags 32, pages that are
 * wanted after the page 34 (and before it 36), token 38 (47:32) and 40 (31:0), size 44, key 48, address 52; owner 63.
 */
#define MLX5_EQE_WORDS 8
#define MLX5_EQ_ENTRIES 4096		/* MLX5_IB_NUM_PF_EQE */
#define MLX5_EQE_TYPE_SHIFT 8		/* word 0 */
#define MLX5_EVENT_PAGE_FAULT 0xc
#define MLX5_EQE_SUBTYPE_SHIFT 24
#define MLX5_PFAULT_MEMORY 0x2
#define MLX5_PFAULT_LAST 0x80		/* word 4: the last of those with this token */
#define MLX5_PFAULT_AFTER_SHIFT 16
#define MLX5_PFAULT_PAGES_SHIFT 12	/* the size: in pages, in its bits 31:12 */
#define MLX5_EQE_OWNER_SHIFT 56		/* word 7: changes with each round of the queue */
#define MLX5_KEY_SHIFT 8		/* of a key, the driver's variant is 7:0 */
#define MLX5_KEY_PASID_BITS 20		/* our driver's keys: a PASID 27:8, a function 31:28 */
/* PAGE_FAULT_RESUME, 16 bytes: opcode in bytes 0 and 1; error, bit 31 of bytes 8 to 11, with the token's 47:32; 31:0. */
#define MLX5_CMD_WORDS 2
#define MLX5_CMD_PAGE_FAULT_RESUME 0x204u
#define MLX5_CMD_OPCODE_SHIFT 16
#define MLX5_RESUME_ERROR 0x80000000
#define MLX5_RESUME_TOKEN_HIGH 0xffff

/*
 * ---- Intel DSA: an entry of the event log, eight words, 64 bytes; Linux drivers/dma/idxd/registers.h, uapi/linux/idxd.h ----
 *
 * The event in words 0 to 3; in 4 to 7 the completion record that could not be written. Word 0: error 15:8.
 */
#define IDXD_EVL_WORDS 8
#define IDXD_EVL_ENTRIES 1024
#define IDXD_EVL_ENTRIES_MOST 4096
#define IDXD_EVL_DESC_VALID 0x4		/* bit 2 */
#define IDXD_EVL_WQ_VALID 0x8		/* bit 3 */
#define IDXD_EVL_WRITE 0x20		/* bit 5: the access that found no page was a write */
#define IDXD_EVL_ERR_INFO_VALID 0x80	/* bit 7: that of word 1 */
#define IDXD_EVL_ERROR_SHIFT 8
#define IDXD_EVL_WQ_SHIFT 16		/* work queue, 23:16 */
#define IDXD_EVL_OPERATION_SHIFT 32	/* 39:32 */
#define IDXD_EVL_PASID_SHIFT 40		/* 59:40 */
#define IDXD_EVL_RCR 0x4000000000000	/* word 1, bit 50: a completion record was asked for */
/* Word 2: the address of the completion record. */
#define IDXD_STATUS 0x7f		/* of an error, and of a record's status */
#define IDXD_COMP_PAGE_FAULT 0x3	/* without block on fault: the rest is to be sent again */
#define IDXD_COMP_PAGE_FAULT_IR 0x4	/* … to which an invalid response came: it is not */
#define IDXD_COMP_CRA_XLAT 0x1a		/* the address of the completion record has no translation */
#define IDXD_OPCODE_MEMFILL 0x4ull	/* writes */
#define IDXD_OPCODE_COMPVAL 0x6ull	/* compares with a pattern: reads */
/* The completion record, as far as it says anything. Word 0: status 7:0; bytes completed 63:32. Word 1: the address. */
#define IDXD_COMP_WRITE 0x80		/* bit 7 of the status */
#define IDXD_COMP_BYTES_SHIFT 32
/* Where our functions have theirs: 32 bytes each; place 13:5, work queue 17:14, requester id 33:18. */
#define IDXD_RECORDS 0x7f0000000000
#define IDXD_RECORD_SHIFT 5
#define IDXD_RECORD_WQ_SHIFT 14
#define IDXD_RECORD_RID_SHIFT 18
#define IDXD_RECORD_BITS 34
/* What the driver writes of it, as four words: the address, the record's words 0 and 1, 0. */
#define IDXD_WRITE_WORDS 4

/* Its registers, as far as the log goes: offsets and bits. */
#define IDXD_MMIO_GENCAP 0x10
#define IDXD_GENCAP_EVL 0x2000		/* 14:13: 1 */
#define IDXD_MMIO_GENCFG 0x80
#define IDXD_GENCFG_EVL_EN 0x2000	/* bit 13 */
#define IDXD_MMIO_GENCTRL 0x88
#define IDXD_GENCTRL_EVL_INT_EN 0x4	/* bit 2 */
#define IDXD_MMIO_EVLCFG 0xe0
#define IDXD_MMIO_EVLCFG_SIZE 0xe8	/* entries, 15:0 */
#define IDXD_MMIO_EVLSTATUS 0xf0	/* head 15:0, tail 47:32 */
#define IDXD_EVLSTATUS_TAIL_SHIFT 32
#define IDXD_EVLSTATUS_INT_PENDING 0x4000000000000000	/* bit 62; writing 1 clears it */

/* ---- AMD: an entry of the peripheral page request (PPR) log, two words, 16 bytes ---- */

#define AMD_PPR_WORDS 2
#define AMD_PPR_ENTRIES 512		/* what Linux sets up: 8 KiB, size code 9 */
#define AMD_PPR_ENTRIES_MOST 32768	/* … and where an erratum asks for it: 512 KiB, size code 15 */
#define AMD_PPR_SIZE_CODE 9
#define AMD_PPR_SIZE_CODE_MOST 15
/* Word 0: device id 15:0. */
#define AMD_PPR_PASID_SHIFT 16		/* PASID 15:0 in 31:16 */
#define AMD_PPR_TAG_SHIFT 32		/* group index, 40:32 */
#define AMD_PPR_LAST_SHIFT 41
#define AMD_PPR_PASID_TOP_SHIFT 42	/* PASID 19:16 in 45:42 */
#define AMD_PPR_EXECUTE_SHIFT 49
#define AMD_PPR_READ_SHIFT 50
#define AMD_PPR_WRITE_SHIFT 53
#define AMD_PPR_USER_SHIFT 54		/* 0: privileged */
#define AMD_PPR_RESERVED_SHIFT 55	/* a reserved bit of the request was not zero */
#define AMD_PPR_GN_SHIFT 56		/* the address is a guest's, and the PASID is valid */
#define AMD_PPR_TYPE_SHIFT 60		/* 63:60 */
#define AMD_PPR_TYPE_FAULT 1
/* Word 1: address 63:12. */

/* AMD's registers, as far as page requests go: offsets and bits. */
#define AMD_MMIO_CONTROL 0x18
#define AMD_CONTROL_PPR_LOG 0x2000	/* bit 13: the log is on */
#define AMD_CONTROL_PPR_INT 0x4000	/* bit 14: it interrupts */
#define AMD_CONTROL_PPR 0x8000		/* bit 15: page requests are on */
#define AMD_CONTROL_AUTO_RESPONSE 0x8000000000	/* bit 39 */
#define AMD_MMIO_PPR_BASE 0x38		/* size code in 59:56 */
#define AMD_PPR_SIZE_SHIFT 56
#define AMD_MMIO_STATUS 0x2020
#define AMD_STATUS_PPR_OVERFLOW 0x20	/* bit 5 */
#define AMD_STATUS_PPR_INT 0x40		/* bit 6: an entry has been written */
#define AMD_STATUS_PPR_RUN 0x80		/* bit 7 */
#define AMD_STATUS_PPR_EARLY 0x40000	/* bit 18: as many entries as the threshold */
#define AMD_MMIO_PPR_HEAD 0x2030	/* in bytes */
#define AMD_MMIO_PPR_TAIL 0x2038
#define AMD_MMIO_AUTO_RESPONSE 0x2080	/* code 3:0 */
#define AMD_MMIO_PPR_EARLY 0x2088	/* threshold 14:0 */
#define AMD_EARLY_ENABLE 0x80000000	/* bit 31 */

/* AMD's commands: two words. The opcode is 63:60 of word 0. */
#define AMD_CMD_WORDS 2
#define AMD_CMD_OPCODE_SHIFT 60
#define AMD_CMD_COMPLETION_WAIT 1
#define AMD_CMD_INVALIDATE_DEVTAB_ENTRY 2	/* device id 15:0 of word 0 */
#define AMD_CMD_INVALIDATE_IOMMU_PAGES 3	/* word 0: PASID 19:0, domain id 47:32 */
#define AMD_CMD_INVALIDATE_IOTLB_PAGES 4	/* word 0: device id 15:0, PASID 15:8 in 23:16 and 7:0 in 55:48 */
#define AMD_CMD_INVALIDATE_IOMMU_ALL 8
#define AMD_CMD_DOMAIN_SHIFT 32
#define AMD_IOTLB_PASID_HIGH_SHIFT 16
#define AMD_IOTLB_PASID_LOW_SHIFT 48
#define AMD_CMD_S 0x1			/* word 1: S 0, PDE 1, GN 2, address 63:12 */
#define AMD_CMD_PDE 0x2

/* AMD's command COMPLETE_PPR_REQUEST. Word 0: device id 15:0. */
#define AMD_CMD_PASID_SHIFT 32		/* word 0, 51:32 */
#define AMD_CMD_COMPLETE_PPR 0x7000000000000000	/* word 0, 63:60: the opcode, 7 */
#define AMD_CMD_GN 0x4			/* word 1, bit 2: the PASID is valid */
#define AMD_CMD_TAG_SHIFT 32		/* word 1, 40:32 */
#define AMD_CMD_STATUS_SHIFT 44		/* word 1, 47:44 */

/* ---- RISC-V IOMMU: a page-request record, two words, 16 bytes ---- */

#define RISCV_PQ_WORDS 2
#define RISCV_PQ_ENTRIES 4096
#define RISCV_PQ_PID_SHIFT 12		/* word 0, 31:12 */
#define RISCV_PQ_PV 0x100000000		/* word 0, bit 32: the PID is valid */
#define RISCV_PQ_PRIV 0x200000000	/* bit 33 */
#define RISCV_PQ_EXEC 0x400000000	/* bit 34 */
#define RISCV_PQ_DID_SHIFT 40		/* 63:40 */
/* Word 1 has the layout of the PCIe message. */

/* The RISC-V IOMMU's registers, as far as page requests go: offsets and bits. */
#define RISCV_MMIO_PQB 0x38		/* the logarithm of its entries less one in 4:0 */
#define RISCV_MMIO_PQH 0x40		/* indices */
#define RISCV_MMIO_PQT 0x44
#define RISCV_MMIO_PQCSR 0x50
#define RISCV_PQCSR_PQEN 0x1
#define RISCV_PQCSR_PIE 0x2
#define RISCV_PQCSR_PQMF 0x100		/* memory fault */
#define RISCV_PQCSR_PQOF 0x200		/* overflow */
#define RISCV_PQCSR_PQON 0x10000
#define RISCV_MMIO_IPSR 0x54
#define RISCV_IPSR_PIP 0x8

/* The RISC-V IOMMU's commands: two words. Word 0: opcode 6:0, func3 9:7. */
#define RISCV_CMD_WORDS 2
#define RISCV_CMD_WHICH 0x3ff
#define RISCV_CMD_IOTINVAL_VMA 0x01
#define RISCV_CMD_IOTINVAL_GVMA 0x81
#define RISCV_CMD_IOFENCE_C 0x02
#define RISCV_CMD_IODIR_DDT 0x03
#define RISCV_CMD_IODIR_PDT 0x83
#define RISCV_CMD_ATS_INVAL 0x04
#define RISCV_IOTINVAL_AV 0x400		/* bit 10: the address is valid; 63:12 of it are 61:10 of word 1 */
#define RISCV_IOTINVAL_PSCID_SHIFT 12	/* 31:12 */
#define RISCV_IOTINVAL_PSCV 0x100000000	/* bit 32 */
#define RISCV_IOTINVAL_GV 0x200000000	/* bit 33 */
#define RISCV_IOTINVAL_GSCID_SHIFT 44	/* 59:44 */
#define RISCV_IOTINVAL_ADDRESS 0x3ffffffffffffc00
#define RISCV_IODIR_DV 0x200000000	/* bit 33; PID 31:12, DID 63:40 */
#define RISCV_ATS_INVAL_G 0x1		/* word 1; address 63:12 */
#define RISCV_ATS_INVAL_S 0x800

/* The command ATS.PRGR. */
#define RISCV_CMD_ATS_PRGR 0x84		/* opcode 4, func3 1 */
#define RISCV_PRGR_PID_SHIFT 12		/* word 0, 31:12 */
#define RISCV_PRGR_PV 0x100000000	/* word 0, bit 32 */
#define RISCV_PRGR_RID_SHIFT 40		/* word 0, 55:40 */
#define RISCV_PRGR_INDEX_SHIFT 32	/* word 1, 40:32 */
#define RISCV_PRGR_CODE_SHIFT 44	/* word 1, 47:44: PCIe's */

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
