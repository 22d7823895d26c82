/*
 * How long an object lives: until the last of those that stand on it has let go.
 *
 * Whoever keeps a pointer to an object holds it: its maker, and every object that works on it (an endpoint its IOMMU and
 * its tables, a channel its queue, all of them the core). So objects may be let go of in any order; what another still
 * works on ends with that one. Holders are counted atomically, since any thread may let go.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct uiopf_lifetime {
	uint32_t holders;
	void (*end)(struct uiopf_lifetime *lifetime);	/* frees the object */
};

static inline void uiopf_hold(struct uiopf_lifetime *lifetime)
{
	__atomic_fetch_add(&lifetime->holders, 1, __ATOMIC_RELAXED);	/* the caller holds it already, or its maker does */
}

static inline void uiopf_let_go(struct uiopf_lifetime *lifetime)
{
	/* Both ways: what each holder wrote is there for the end, which comes after all of them. */
	if (__atomic_sub_fetch(&lifetime->holders, 1, __ATOMIC_ACQ_REL) == 0)
		lifetime->end(lifetime);
}
