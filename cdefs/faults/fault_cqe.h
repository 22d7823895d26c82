/*
 * A fault as a CQE of 32 bytes, or two. A message has 40 bytes, of which many are always 0; a CQE has 22 for its file: `res`,
 * of which the lowest half is no error, the upper half of `flags`, and `big_cqe`. So all of a fault goes into one that has a
 * PASID of 20 bits and a group id of 16, as PCIe's and SMMUv3's have, and that names no length. Others take a second.
 *
 *	res		cookie (the file gives none of 32 bits)
 *	flags		flags, permissions and the top of the group id, as api.h says
 *	big_cqe[0]	address
 *	big_cqe[1]	device id, PASID << 32, group id << 52
 *	the second	big_cqe[0]: PASID, group id << 32; big_cqe[1]: length
 */
#pragma once
#include "abi/api.h"
#include "abi/iommufd.h"
#include "base/atomics.h"
#include "core/file.h"

#define UIOPF_MOST_FAULT_CQES 2u
#define UIOPF_FAULT_CQE_PASID_BITS 20
#define UIOPF_FAULT_CQE_GRPID_BITS 16
#define UIOPF_FAULT_CQE_FIRST_GRPID_BITS 12	/* in big_cqe; the rest in the flags */

struct uiopf_fault_cqe {
	int32_t res;
	uint32_t flags;		/* the upper half */
	uint64_t extra[2];
};

/* How many it takes. */
static inline uint32_t uiopf_fault_cqes(const struct iommu_hwpt_pgfault *m)
{
	const uint32_t beyond = m->pasid >> UIOPF_FAULT_CQE_PASID_BITS | m->grpid >> UIOPF_FAULT_CQE_GRPID_BITS | m->length;

	return unlikely(beyond) ? 2 : 1;
}

static inline uint32_t uiopf_fault_to_cqes(const struct iommu_hwpt_pgfault *m, struct uiopf_fault_cqe cqe[2])
{
	const uint32_t n = uiopf_fault_cqes(m);
	const uint64_t pasid = n == 1 ? m->pasid : 0, grpid = n == 1 ? m->grpid : 0;

	cqe[0].res = (int32_t)m->cookie;
	cqe[0].flags = (m->flags & 7) << UIOPF_FAULT_CQE_FLAGS_SHIFT | (m->perm & 15) << UIOPF_FAULT_CQE_PERM_SHIFT |
		       (m->flags & UIOPF_PGFAULT_FLAGS_LOST ? UIOPF_FAULT_CQE_LOST : 0) | (n == 2 ? UIOPF_FAULT_CQE_REST : 0) |
		       (uint32_t)(grpid >> UIOPF_FAULT_CQE_FIRST_GRPID_BITS) << UIOPF_FAULT_CQE_GRPID_SHIFT;
	cqe[0].extra[0] = m->addr;
	cqe[0].extra[1] = m->dev_id | pasid << 32 | grpid << (32 + UIOPF_FAULT_CQE_PASID_BITS);
	if (n == 2)
		cqe[1] = (struct uiopf_fault_cqe){
			cqe[0].res, UIOPF_FAULT_CQE_SECOND, { m->pasid | (uint64_t)m->grpid << 32, m->length },
		};
	return n;
}

/* The client's: the message again, of a CQE or of both; the second may be anything if the first does not ask for it. */
static inline void uiopf_fault_of_cqes(struct iommu_hwpt_pgfault *m, const struct uiopf_fault_cqe *first,
				       const struct uiopf_fault_cqe *second)
{
	const bool rest = first->flags & UIOPF_FAULT_CQE_REST;
	const uint64_t word = first->extra[1];

	m->flags = (first->flags >> UIOPF_FAULT_CQE_FLAGS_SHIFT & 7) |
		   (first->flags & UIOPF_FAULT_CQE_LOST ? UIOPF_PGFAULT_FLAGS_LOST : 0);
	m->dev_id = (uint32_t)word;
	m->pasid = (uint32_t)(word >> 32) & ((1u << UIOPF_FAULT_CQE_PASID_BITS) - 1);
	m->grpid = (uint32_t)(word >> (32 + UIOPF_FAULT_CQE_PASID_BITS)) |
		   first->flags >> UIOPF_FAULT_CQE_GRPID_SHIFT << UIOPF_FAULT_CQE_FIRST_GRPID_BITS;
	m->perm = first->flags >> UIOPF_FAULT_CQE_PERM_SHIFT & 15;
	m->__reserved = 0;
	m->addr = first->extra[0];
	m->length = 0;
	m->cookie = (uint32_t)first->res;
	if (unlikely(rest)) {
		m->pasid = (uint32_t)second->extra[0];
		m->grpid = (uint32_t)(second->extra[0] >> 32);
		m->length = (uint32_t)second->extra[1];
	}
}

/* The kernel's. There is room, unless the client has moved its head back: then it has less of the fault. */
static inline void uiopf_post_fault(struct uiopf_command *command, const struct iommu_hwpt_pgfault *message)
{
	struct uiopf_fault_cqe cqe[UIOPF_MOST_FAULT_CQES];
	const uint32_t n = uiopf_fault_to_cqes(message, cqe);
	uint32_t i;

	for (i = 0; i < n; i++)
		if (unlikely(!command->ring->post_wide(command, cqe[i].res, cqe[i].flags, cqe[i].extra)))
			return;
}
