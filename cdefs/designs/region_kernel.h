/*
 * The kernel's half of a VFIO fault region, and its calls: what a device's fd had. See region.c for the design, and
 * region_layout.h for the structs.
 *
 * Every call returns -EINTR, with nothing done, where uiopf_consumer_try_begin() does.
 */
#pragma once
#include "base/memory.h"
#include "designs/named.h"
#include "designs/region_layout.h"

enum region_abi { REGION_V8 = 8, REGION_V9 = 9, REGION_V11 = 11 };

struct uiopf_fault_region {
	struct uiopf_core *core;
	struct uiopf_faultq *queue;
	enum region_abi abi;
	bool has_private_data;		/* knows the answer of 40 bytes */
	int eventfd;			/* told of each record; -1 */
	uint64_t notified;		/* so often */
	/* The consumer's. Records and answers are shared memory; what is here is not. */
	struct uiopf_region records, answers;	/* from the second page of each region on */
	uint32_t version;		/* v8: what user space asked for; -1 */
	uint32_t entries, head, tail;
	uint32_t answer_size, answer_head, answer_tail;
	uint32_t device;		/* v11, answers of 20 bytes: the only one that had a fault; 0: none has */
	bool several;			/* … there are more */
	struct uiopf_named outstanding;
	uint64_t refused_groups, refused_faults;	/* the ring was full */
	uint64_t refused_answers;	/* v11: popped, and wrong; user space is not told */
};

/* Takes the queue's groups from now on. 0 or -errno, with nothing left behind; -EBUSY: another does that. */
int uiopf_fault_region_open(struct uiopf_fault_region *region, struct uiopf_core *core, struct uiopf_faultq *queue,
			    enum region_abi abi, bool has_private_data, uint32_t most_groups);
void uiopf_fault_region_close(struct uiopf_fault_region *region);
/* VFIO_DEVICE_SET_IRQS: the eventfd, or -1. */
void uiopf_fault_region_set_irq(struct uiopf_fault_region *region, int eventfd);
/* VFIO_DEVICE_GET_REGION_INFO. `argsz` is loaded first, and no more than that is touched. -EINVAL: no such region. */
int uiopf_fault_region_info(const struct uiopf_fault_region *region, struct region_info *info);
/* pread(2) and pwrite(2) of the header page of the n-th region: how many bytes, or -EINVAL. */
int uiopf_fault_region_read(struct uiopf_fault_region *region, uint32_t n, void *to, uint64_t length, uint64_t offset);
int uiopf_fault_region_write(struct uiopf_fault_region *region, uint32_t n, const void *from, uint64_t length,
			     uint64_t offset);
/* mmap(2) of the n-th region, from its second page on. */
const struct uiopf_region *uiopf_fault_region_memory(const struct uiopf_fault_region *region, uint32_t n);
/* ioctl VFIO_IOMMU_PAGE_RESPONSE on the fd of this device. 0 or -EINVAL. */
int uiopf_fault_region_respond(struct uiopf_fault_region *region, uint32_t dev_id,
			       const struct region_page_response *argument);
