/*
 * The iommufd ABI: ioctls on /dev/iommu, and the messages of its fault and event queues.
 *
 * These are our own declarations of the layouts and values of Linux 6.12.117 and 7.2.13 on x86-64;
 * tests/test_abi.py holds each of them to both versions. "7.2" marks what 6.12 does not have (it
 * may have come with any release in between).
 *
 * Both the compiler and cffi read this file, and cffi understands "#define NAME literal" only: no
 * expressions and no conditions. It takes the place of <linux/iommufd.h>; a source file includes
 * one of the two. Each ioctl's struct begins with its own size in bytes, so that a kernel knows
 * which fields its caller has. Ids name objects of one open of /dev/iommu. Everything is
 * little-endian, lengths are bytes, and a data_uptr is a pointer of the client.
 */
#pragma once

#include <stdint.h>

/* ---- ioctl numbers ------------------------------------------------------------------------- */

#define IOMMUFD_TYPE	0x3b	/* ';' */

/* The numbers in a request */
#define IOMMUFD_CMD_BASE			0x80
#define IOMMUFD_CMD_DESTROY			0x80
#define IOMMUFD_CMD_IOAS_ALLOC			0x81
#define IOMMUFD_CMD_IOAS_ALLOW_IOVAS		0x82
#define IOMMUFD_CMD_IOAS_COPY			0x83
#define IOMMUFD_CMD_IOAS_IOVA_RANGES		0x84
#define IOMMUFD_CMD_IOAS_MAP			0x85
#define IOMMUFD_CMD_IOAS_UNMAP			0x86
#define IOMMUFD_CMD_OPTION			0x87
#define IOMMUFD_CMD_VFIO_IOAS			0x88
#define IOMMUFD_CMD_HWPT_ALLOC			0x89
#define IOMMUFD_CMD_GET_HW_INFO			0x8a
#define IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING	0x8b
#define IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP	0x8c
#define IOMMUFD_CMD_HWPT_INVALIDATE		0x8d
#define IOMMUFD_CMD_FAULT_QUEUE_ALLOC		0x8e
#define IOMMUFD_CMD_IOAS_MAP_FILE		0x8f	/* 7.2 */
#define IOMMUFD_CMD_VIOMMU_ALLOC		0x90	/* 7.2 */
#define IOMMUFD_CMD_VDEVICE_ALLOC		0x91	/* 7.2 */
#define IOMMUFD_CMD_IOAS_CHANGE_PROCESS		0x92	/* 7.2 */
#define IOMMUFD_CMD_VEVENTQ_ALLOC		0x93	/* 7.2 */
#define IOMMUFD_CMD_HW_QUEUE_ALLOC		0x94	/* 7.2 */

/* The requests: IOMMUFD_TYPE << 8 | number, without direction or size bits */
#define IOMMU_DESTROY			0x3b80
#define IOMMU_IOAS_ALLOC		0x3b81
#define IOMMU_IOAS_ALLOW_IOVAS		0x3b82
#define IOMMU_IOAS_COPY			0x3b83
#define IOMMU_IOAS_IOVA_RANGES		0x3b84
#define IOMMU_IOAS_MAP			0x3b85
#define IOMMU_IOAS_UNMAP		0x3b86
#define IOMMU_OPTION			0x3b87
#define IOMMU_VFIO_IOAS			0x3b88
#define IOMMU_HWPT_ALLOC		0x3b89
#define IOMMU_GET_HW_INFO		0x3b8a
#define IOMMU_HWPT_SET_DIRTY_TRACKING	0x3b8b
#define IOMMU_HWPT_GET_DIRTY_BITMAP	0x3b8c
#define IOMMU_HWPT_INVALIDATE		0x3b8d
#define IOMMU_FAULT_QUEUE_ALLOC		0x3b8e
#define IOMMU_IOAS_MAP_FILE		0x3b8f	/* 7.2 */
#define IOMMU_VIOMMU_ALLOC		0x3b90	/* 7.2 */
#define IOMMU_VDEVICE_ALLOC		0x3b91	/* 7.2 */
#define IOMMU_IOAS_CHANGE_PROCESS	0x3b92	/* 7.2 */
#define IOMMU_VEVENTQ_ALLOC		0x3b93	/* 7.2 */
#define IOMMU_HW_QUEUE_ALLOC		0x3b94	/* 7.2 */

/* DESTROY */
struct iommu_destroy {
	uint32_t size;
	uint32_t id;
};

/* ---- fault queue --------------------------------------------------------------------------- */

/* FAULT_QUEUE_ALLOC */
struct iommu_fault_alloc {
	uint32_t size;
	uint32_t flags;		/* 0 */
	uint32_t out_fault_id;
	uint32_t out_fault_fd;	/* read: faults, write: responses */
};

/* read() of a fault fd returns these, whole groups only. */
struct iommu_hwpt_pgfault {
	uint32_t flags;		/* IOMMU_PGFAULT_FLAGS_* */
	uint32_t dev_id;
	uint32_t pasid;		/* 0 unless valid */
	uint32_t grpid;		/* PRG index or stall tag */
	uint32_t perm;		/* IOMMU_PGFAULT_PERM_* */
	uint32_t __reserved;
	uint64_t addr;
	uint32_t length;	/* 0 */
	uint32_t cookie;	/* the group's, equal in all its faults */
};

/* VT-d's and AMD's drivers let a third flag through, 0x4, which is the kernel's own. */
#define IOMMU_PGFAULT_FLAGS_PASID_VALID	0x1
#define IOMMU_PGFAULT_FLAGS_LAST_PAGE	0x2	/* completes the group */
#define IOMMU_PGFAULT_PERM_READ		0x1
#define IOMMU_PGFAULT_PERM_WRITE	0x2
#define IOMMU_PGFAULT_PERM_EXEC		0x4
#define IOMMU_PGFAULT_PERM_PRIV		0x8

/* write() to a fault fd takes these, one for each group. */
struct iommu_hwpt_page_response {
	uint32_t cookie;
	uint32_t code;		/* IOMMUFD_PAGE_RESP_* */
};

#define IOMMUFD_PAGE_RESP_SUCCESS	0	/* the device tries again */
#define IOMMUFD_PAGE_RESP_INVALID	1	/* the access fails */

/* ---- hardware page tables ------------------------------------------------------------------ */

/* HWPT_ALLOC */
struct iommu_hwpt_alloc {
	uint32_t size;
	uint32_t flags;		/* IOMMU_HWPT_ALLOC_*, IOMMU_HWPT_FAULT_ID_VALID */
	uint32_t dev_id;
	uint32_t pt_id;		/* an IOAS, a nest parent, or (7.2) a vIOMMU */
	uint32_t out_hwpt_id;
	uint32_t __reserved;
	uint32_t data_type;	/* IOMMU_HWPT_DATA_* */
	uint32_t data_len;
	uint64_t data_uptr;	/* the struct of that type */
	uint32_t fault_id;
	uint32_t __reserved2;
};

#define IOMMU_HWPT_ALLOC_NEST_PARENT	0x1	/* stage 2 below the tables of guests */
#define IOMMU_HWPT_ALLOC_DIRTY_TRACKING	0x2
#define IOMMU_HWPT_FAULT_ID_VALID	0x4	/* faults go to the queue fault_id */
#define IOMMU_HWPT_ALLOC_PASID		0x8	/* 7.2: may be attached to a PASID */

#define IOMMU_HWPT_DATA_NONE		0
#define IOMMU_HWPT_DATA_VTD_S1		1
#define IOMMU_HWPT_DATA_ARM_SMMUV3	2	/* 7.2 */
#define IOMMU_HWPT_DATA_AMD_GUEST	3	/* 7.2 */

/* A guest's stage-1 table for VT-d */
struct iommu_hwpt_vtd_s1 {
	uint64_t flags;		/* IOMMU_VTD_S1_* */
	uint64_t pgtbl_addr;	/* guest physical */
	uint32_t addr_width;	/* bits */
	uint32_t __reserved;
};

#define IOMMU_VTD_S1_SRE	0x1	/* supervisor requests */
#define IOMMU_VTD_S1_EAFE	0x2	/* extended access flag */
#define IOMMU_VTD_S1_WPE	0x4	/* write protection for the supervisor */

/* for SMMUv3: the parts of a stream table entry that a guest may choose */
struct iommu_hwpt_arm_smmuv3 { /* 7.2 */
	uint64_t ste[2];
};

/* for AMD: the same of a device table entry */
struct iommu_hwpt_amd_guest { /* 7.2 */
	uint64_t dte[4];
};

/* HWPT_INVALIDATE: an array of entries of data_type, for a nested table or a vIOMMU. */
struct iommu_hwpt_invalidate {
	uint32_t size;
	uint32_t hwpt_id;
	uint64_t data_uptr;
	uint32_t data_type;	/* IOMMU_HWPT_INVALIDATE_DATA_*, IOMMU_VIOMMU_INVALIDATE_DATA_* */
	uint32_t entry_len;
	uint32_t entry_num;	/* in, and out: how many were done */
	uint32_t __reserved;
};

#define IOMMU_HWPT_INVALIDATE_DATA_VTD_S1	0
#define IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3	1	/* 7.2 */

struct iommu_hwpt_vtd_s1_invalidate {
	uint64_t addr;
	uint64_t npages;
	uint32_t flags;		/* IOMMU_VTD_INV_FLAGS_* */
	uint32_t __reserved;
};

#define IOMMU_VTD_INV_FLAGS_LEAF	0x1	/* leaf entries only */

struct iommu_viommu_arm_smmuv3_invalidate { /* 7.2 */
	uint64_t cmd[2];	/* a command of the guest's queue */
};

/* HWPT_SET_DIRTY_TRACKING */
struct iommu_hwpt_set_dirty_tracking {
	uint32_t size;
	uint32_t flags;		/* IOMMU_HWPT_DIRTY_TRACKING_* */
	uint32_t hwpt_id;
	uint32_t __reserved;
};

#define IOMMU_HWPT_DIRTY_TRACKING_ENABLE	0x1

/* HWPT_GET_DIRTY_BITMAP */
struct iommu_hwpt_get_dirty_bitmap {
	uint32_t size;
	uint32_t hwpt_id;
	uint32_t flags;		/* IOMMU_HWPT_GET_DIRTY_BITMAP_* */
	uint32_t __reserved;
	uint64_t iova;
	uint64_t length;
	uint64_t page_size;	/* one bit stands for so many bytes */
	uint64_t data;		/* pointer to the bitmap */
};

#define IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR	0x1

/* ---- virtual IOMMUs (7.2) ------------------------------------------------------------------ */

/* VIOMMU_ALLOC */
struct iommu_viommu_alloc { /* 7.2 */
	uint32_t size;
	uint32_t flags;		/* 0 */
	uint32_t type;		/* IOMMU_VIOMMU_TYPE_* */
	uint32_t dev_id;
	uint32_t hwpt_id;	/* a nest parent */
	uint32_t out_viommu_id;
	uint32_t data_len;
	uint32_t __reserved;
	uint64_t data_uptr;
};

#define IOMMU_VIOMMU_TYPE_DEFAULT		0	/* 7.2: reserved */
#define IOMMU_VIOMMU_TYPE_ARM_SMMUV3		1	/* 7.2 */
#define IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV	2	/* 7.2 */

/* data_uptr for TEGRA241_CMDQV: a register page to map */
struct iommu_viommu_tegra241_cmdqv { /* 7.2 */
	uint64_t out_vintf_mmap_offset;
	uint64_t out_vintf_mmap_length;
};

/* VDEVICE_ALLOC: the device's name in the guest */
struct iommu_vdevice_alloc { /* 7.2 */
	uint32_t size;
	uint32_t viommu_id;
	uint32_t dev_id;
	uint32_t out_vdevice_id;
	uint64_t virt_id;	/* SMMUv3: the StreamID */
};

/* VEVENTQ_ALLOC: a queue for the events of one vIOMMU */
struct iommu_veventq_alloc { /* 7.2 */
	uint32_t size;
	uint32_t flags;		/* 0 */
	uint32_t viommu_id;
	uint32_t type;		/* IOMMU_VEVENTQ_TYPE_* */
	uint32_t veventq_depth;	/* events, 1 to 2^19 */
	uint32_t out_veventq_id;
	uint32_t out_veventq_fd;
	uint32_t __reserved;
};

#define IOMMU_VEVENTQ_TYPE_DEFAULT		0	/* 7.2: reserved */
#define IOMMU_VEVENTQ_TYPE_ARM_SMMUV3		1	/* 7.2 */
#define IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV	2	/* 7.2 */

/* read() of an event fd returns these, each followed by the event of the queue's type. */
struct iommufd_vevent_header { /* 7.2 */
	uint32_t flags;		/* IOMMU_VEVENTQ_FLAG_* */
	uint32_t sequence;	/* counts lost events too; 0 to 2^31 - 1, then 0 */
};

#define IOMMU_VEVENTQ_FLAG_LOST_EVENTS	0x1	/* 7.2: no event follows; the last ones are lost */

struct iommu_vevent_arm_smmuv3 { /* 7.2 */
	uint64_t evt[4];	/* the hardware's event with the guest's StreamID */
};

struct iommu_vevent_tegra241_cmdqv { /* 7.2 */
	uint64_t lvcmdq_err_map[2];
};

/* HW_QUEUE_ALLOC: a queue in guest memory that the hardware reads itself */
struct iommu_hw_queue_alloc { /* 7.2 */
	uint32_t size;
	uint32_t flags;
	uint32_t viommu_id;
	uint32_t type;		/* IOMMU_HW_QUEUE_TYPE_* */
	uint32_t index;
	uint32_t out_hw_queue_id;
	uint64_t nesting_parent_iova;
	uint64_t length;
};

#define IOMMU_HW_QUEUE_TYPE_DEFAULT		0	/* 7.2: reserved */
#define IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV	1	/* 7.2 */

/* ---- what the hardware can do -------------------------------------------------------------- */

/* GET_HW_INFO */
struct iommu_hw_info {
	uint32_t size;
	uint32_t flags;		/* IOMMU_HW_INFO_FLAG_* (7.2) */
	uint32_t dev_id;
	uint32_t data_len;	/* in: room; out: what the kernel has */
	uint64_t data_uptr;
	union {			/* 24 */
		uint32_t in_data_type;	/* 7.2 */
		uint32_t out_data_type;	/* IOMMU_HW_INFO_TYPE_* */
	};
	uint8_t out_max_pasid_log2;
	uint8_t __reserved[3];
	uint64_t out_capabilities;	/* IOMMU_HW_CAP_* */
};

#define IOMMU_HW_INFO_FLAG_INPUT_TYPE	0x1	/* 7.2: in_data_type is asked for */

#define IOMMU_HW_INFO_TYPE_NONE			0
#define IOMMU_HW_INFO_TYPE_DEFAULT		0	/* 7.2: whichever the IOMMU has */
#define IOMMU_HW_INFO_TYPE_INTEL_VTD		1
#define IOMMU_HW_INFO_TYPE_ARM_SMMUV3		2	/* 7.2 */
#define IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV	3	/* 7.2 */
#define IOMMU_HW_INFO_TYPE_AMD			4	/* 7.2 */

#define IOMMU_HW_CAP_DIRTY_TRACKING		0x1
#define IOMMU_HW_CAP_PCI_PASID_EXEC		0x2
#define IOMMU_HW_CAP_PCI_PASID_PRIV		0x4
#define IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED	0x8	/* 7.2 */

/* What data_uptr receives: identification registers, as the hardware has them. */
struct iommu_hw_info_vtd {
	uint32_t flags;		/* IOMMU_HW_INFO_VTD_* */
	uint32_t __reserved;
	uint64_t cap_reg;
	uint64_t ecap_reg;
};

#define IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17	0x1

struct iommu_hw_info_arm_smmuv3 { /* 7.2 */
	uint32_t flags;
	uint32_t __reserved;
	uint32_t idr[6];
	uint32_t iidr;
	uint32_t aidr;
};

struct iommu_hw_info_tegra241_cmdqv { /* 7.2 */
	uint32_t flags;
	uint8_t version;
	uint8_t log2vcmdqs;
	uint8_t log2vsids;
	uint8_t __reserved;
};

struct iommu_hw_info_amd { /* 7.2 */
	uint64_t efr;
	uint64_t efr2;
};

/* ---- I/O address spaces -------------------------------------------------------------------- */

/* IOAS_ALLOC */
struct iommu_ioas_alloc {
	uint32_t size;
	uint32_t flags;
	uint32_t out_ioas_id;
};

/* Both ends belong to the range. */
struct iommu_iova_range {
	uint64_t start;
	uint64_t last;
};

/* IOAS_IOVA_RANGES */
struct iommu_ioas_iova_ranges {
	uint32_t size;
	uint32_t ioas_id;
	uint32_t num_iovas;	/* in: room; out: how many there are */
	uint32_t __reserved;
	uint64_t allowed_iovas;	/* pointer to iommu_iova_range[num_iovas] */
	uint64_t out_iova_alignment;
};

/* IOAS_ALLOW_IOVAS */
struct iommu_ioas_allow_iovas {
	uint32_t size;
	uint32_t ioas_id;
	uint32_t num_iovas;
	uint32_t __reserved;
	uint64_t allowed_iovas;	/* pointer to iommu_iova_range[num_iovas] */
};

/* IOAS_MAP */
struct iommu_ioas_map {
	uint32_t size;
	uint32_t flags;		/* IOMMU_IOAS_MAP_* */
	uint32_t ioas_id;
	uint32_t __reserved;
	uint64_t user_va;
	uint64_t length;
	uint64_t iova;		/* in with FIXED_IOVA, else out */
};

#define IOMMU_IOAS_MAP_FIXED_IOVA	0x1
#define IOMMU_IOAS_MAP_WRITEABLE	0x2
#define IOMMU_IOAS_MAP_READABLE		0x4

/* IOAS_MAP_FILE */
struct iommu_ioas_map_file { /* 7.2 */
	uint32_t size;
	uint32_t flags;		/* IOMMU_IOAS_MAP_* */
	uint32_t ioas_id;
	int32_t fd;
	uint64_t start;		/* in the file */
	uint64_t length;
	uint64_t iova;
};

/* IOAS_COPY */
struct iommu_ioas_copy {
	uint32_t size;
	uint32_t flags;		/* IOMMU_IOAS_MAP_* */
	uint32_t dst_ioas_id;
	uint32_t src_ioas_id;
	uint64_t length;
	uint64_t dst_iova;
	uint64_t src_iova;
};

/* IOAS_UNMAP */
struct iommu_ioas_unmap {
	uint32_t size;
	uint32_t ioas_id;
	uint64_t iova;
	uint64_t length;
};

/* IOAS_CHANGE_PROCESS */
struct iommu_ioas_change_process { /* 7.2 */
	uint32_t size;
	uint32_t __reserved;
};

/* OPTION */
struct iommu_option {
	uint32_t size;
	uint32_t option_id;	/* IOMMU_OPTION_RLIMIT_MODE, _HUGE_PAGES */
	uint16_t op;		/* IOMMU_OPTION_OP_* */
	uint16_t __reserved;
	uint32_t object_id;
	uint64_t val64;
};

#define IOMMU_OPTION_RLIMIT_MODE	0
#define IOMMU_OPTION_HUGE_PAGES		1
#define IOMMU_OPTION_OP_SET		0
#define IOMMU_OPTION_OP_GET		1

/* VFIO_IOAS: the IOAS that VFIO's own ioctls work on */
struct iommu_vfio_ioas {
	uint32_t size;
	uint32_t ioas_id;
	uint16_t op;		/* IOMMU_VFIO_IOAS_* */
	uint16_t __reserved;
};

#define IOMMU_VFIO_IOAS_GET	0
#define IOMMU_VFIO_IOAS_SET	1
#define IOMMU_VFIO_IOAS_CLEAR	2
