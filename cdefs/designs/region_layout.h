/*
 * What VFIO's fault regions of 2019 to 2020 looked like to user space, as posted: nobody merged them.
 *
 * Sources: "SMMUv3 Nested Stage Setup", VFIO part, v8 (2019-05-26), v9 (2019-07-11), v11 (2020-11-16); struct iommu_fault
 * and the answer in uapi/linux/iommu.h of Linux 5.3; the answer with private data, Jacob Pan, 2019-06-12; struct
 * vfio_region_info, Linux 5.3. tests/c/region.c has the same numbers by hand.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* ---- a record, 64 bytes ---- */

#define REGION_FAULT_PAGE_REQ 2u	/* the type; 1, an unrecoverable fault, is never reported here */
#define REGION_PRM_PASID_VALID 1u
#define REGION_PRM_LAST_PAGE 2u
#define REGION_PRM_PRIV_DATA 4u
#define REGION_PRM_NEEDS_PASID 8u

struct region_fault {
	uint32_t type;
	/* Padding, where it was posted: a region was one device's. A fault queue may be fed by several; this says which. */
	uint32_t dev_id;
	struct {
		uint32_t flags, pasid, grpid, perm;
		uint64_t addr, private_data[2];
	} prm;
	uint64_t room[2];	/* the union has 56 bytes */
};
_Static_assert(sizeof(struct region_fault) == 64 && offsetof(struct region_fault, prm) == 8, "struct iommu_fault");
_Static_assert(offsetof(struct region_fault, prm.addr) == 24 && offsetof(struct region_fault, prm.private_data) == 32,
	       "struct iommu_fault_page_request, from 8 on");

/* ---- an answer: 20 bytes, and 40 with private data ---- */

#define REGION_RESPONSE_VERSION 1u
#define REGION_RESPONSE_PASID_VALID 1u
#define REGION_RESPONSE_PRIVATE_DATA 2u

struct region_response {
	uint32_t version, flags, pasid, grpid, code;
	/* Padding of the longer one, where it was posted; which device's, for the reason that a record says it. */
	uint32_t dev_id;
	uint64_t private_data[2];
};
#define REGION_RESPONSE_SHORT 20u
_Static_assert(sizeof(struct region_response) == 40 && offsetof(struct region_response, code) == 16, "as proposed");
_Static_assert(offsetof(struct region_response, private_data) == 24, "as proposed");

/*
 * ioctl VFIO_IOMMU_PAGE_RESPONSE: argsz, and then the answer. With words of 64 bits the compiler would move the answer
 * from 4 to 8, and argsz could not tell the two; so it is packed: new fields stand behind the old ones, whatever they are.
 */
struct region_page_response {
	uint32_t argsz;
	struct region_response response;
} __attribute__((packed));
#define REGION_ARGSZ_SHORT (4u + REGION_RESPONSE_SHORT)
_Static_assert(sizeof(struct region_page_response) == 44 && offsetof(struct region_page_response, response) == 4,
	       "argsz is in front");

/* ---- the header pages ---- */

#define REGION_PAGE 4096u
#define REGION_V8_ENTRIES (REGION_PAGE / 64u)
#define REGION_ENTRIES 512u

struct region_v8_prod {		/* read only */
	uint32_t version, nb_entries, entry_size, offset, prod;
};

struct region_v8_cons {		/* write only */
	uint32_t version, cons;
};

struct region_v9 {		/* tail is user space's, head the kernel's */
	uint32_t tail, entry_size, nb_entries, offset, head;
};

struct region_v11_response {	/* head is user space's, tail the kernel's */
	uint32_t head, entry_size, nb_entries, offset, tail;
};

_Static_assert(offsetof(struct region_v8_prod, prod) == 16 && offsetof(struct region_v8_prod, entry_size) == 8, "v8");
_Static_assert(offsetof(struct region_v8_cons, cons) == 4, "v8");
_Static_assert(offsetof(struct region_v9, head) == 16 && offsetof(struct region_v9, nb_entries) == 8, "v9");
_Static_assert(offsetof(struct region_v11_response, tail) == 16, "v11");

/* ---- VFIO_DEVICE_GET_REGION_INFO ---- */

#define REGION_READ 1u
#define REGION_WRITE 2u
#define REGION_MMAP 4u
#define REGION_CAPS 8u
#define REGION_CAP_SPARSE_MMAP 1u
#define REGION_CAP_TYPE 2u
#define REGION_CAP_FAULT 6u
#define REGION_CAP_FAULT_RESPONSE 7u
#define REGION_TYPE_NESTED 2u
#define REGION_FIRST 1u		/* subtype: v8's PROD, and DMA_FAULT from v9 on */
#define REGION_SECOND 2u	/* v8's CONS, and DMA_FAULT_RESPONSE from v11 on */

struct region_info {
	uint32_t argsz, flags, index, cap_offset;
	uint64_t size, offset;
};

struct region_cap {
	uint16_t id, version;
	uint32_t next;		/* from the beginning of the info; 0: the last */
};

struct region_info_full {	/* as the kernel writes it where argsz has room */
	struct region_info info;
	struct {
		struct region_cap cap;
		uint32_t type, subtype;
	} type;
	struct {
		struct region_cap cap;
		uint32_t version, padding;
	} fault;
	struct {
		struct region_cap cap;
		uint32_t areas, reserved;
		uint64_t offset, size;
	} sparse;
};
_Static_assert(sizeof(struct region_info) == 32 && offsetof(struct region_info, size) == 16, "struct vfio_region_info");
_Static_assert(sizeof(struct region_cap) == 8 && sizeof(struct region_info_full) == 96, "32 + 16 + 16 + 32");
