/*
 * Software's side of page tables: a client's of stage 1, or the host's of stage 2.
 *
 * They lie in a sealed memfd that the client may write to by itself, so what is loaded is checked here, too: a table that
 * is not one of these pages is EFAULT. What software must say to hardware, it says: nothing here invalidates.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lifetime.h"
#include "base/memory.h"
#include "hardware/tables/format.h"

struct uiopf_pagetables {
	struct uiopf_lifetime lifetime;
	const struct uiopf_format *format;
	struct uiopf_region region;	/* hardware's mapping */
	uint8_t *map;			/* software's */
	uint64_t base;			/* the address of the first page, as the stage has it */
	bool tracks;
	pthread_mutex_t lock;		/* of software: a host's client and its kernel may both fill stage 2 */
	uint32_t pasids;
	uint64_t *root;			/* by PASID, as PASID entries or context descriptors have them; loaded by hardware */
	uint32_t *free, free_count, pages;
	uint64_t *is_table;		/* a bit for each page */
};
