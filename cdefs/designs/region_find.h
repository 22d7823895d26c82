/* How user space finds the regions of a device, and whether they are of the kind that it was written for. */
#pragma once
#include "designs/region_kernel.h"

struct uiopf_region_found {
	uint32_t faults, control;	/* which of them has the records; which user space's index of these is written to */
	uint32_t answers;		/* v11: the response ring */
	uint32_t entry_size, entries, answer_size, answer_entries;
};

/*
 * By type, subtype, access, capability and its version, and by the header; 0, with the version said where v8 wants that.
 *
 * A client of one kind on the kernel of another:
 *   v8 on v9        -ENODEV      there is no second region
 *   v8 on v11       -EPROTO      there is one of that subtype, and it is the response ring
 *   v9, v11 on v8   -EACCES      the first region is read only: it is v8's PROD, whose subtype has the same number
 *   v11 on v9       -ENODEV      there is no response ring; a client that wants the faults alone asks as v9 does
 *   v9 on v11       0            and it answers by the ioctl
 * -EOPNOTSUPP: a version of the layout that it does not know. -EINTR: as the calls.
 */
int uiopf_region_find(struct uiopf_fault_region *region, enum region_abi abi, struct uiopf_region_found *found);
