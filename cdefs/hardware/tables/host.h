/*
 * A host's memory for its guest: the mappings of an address space, and the tables of stage 2 that are filled from them.
 *
 * The 2021 series looks a fault's address up in the container's mappings and maps the page, in the handler, under the
 * container's lock. Here the mappings are ranges sorted by address, and the lock also keeps the host's own changes
 * (another thread's) away. Both are counted, since that is what its reviewers asked about.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "abi/api.h"
#include "base/lifetime.h"
#include "hardware/tables/software.h"

struct uiopf_host {
	struct uiopf_lifetime lifetime;		/* who serves faults from it holds it */
	struct uiopf_pagetables *tables;	/* held */
	pthread_mutex_t lock;			/* over all that follows, and what is done to the tables for it */
	struct uiopf_host_range *range;		/* by address; none overlaps another */
	uint64_t ranges;
	uint64_t *filled;			/* pages that nobody has been told of yet */
	uint64_t filled_count, filled_capacity;
	struct uiopf_host_counts counts;
};
