/*
 * Shared memory, and what a client's pointer means.
 *
 * A region is a sealed memfd with the kernel side's own mapping of it. Its size is fixed for good (shrink, grow and
 * further seals are sealed) and it is charged in full when made, so that a client can neither cut pages away under us
 * nor fill what was never paid for. It can still punch holes: those read as zeros, which every reader must survive.
 *
 * A pointer in a request is the client's. Each ring has a table of windows (client address, length, our mapping); what
 * no window covers is EFAULT.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "api.h"

#define UIOPF_PAGE 4096u

struct uiopf_region {
	int fd;
	uint8_t *map;
	uint64_t size;
};

int uiopf_region_open(struct uiopf_region *region, const char *name, uint64_t size);
void uiopf_region_close(struct uiopf_region *region);
/* A second mapping of the same memory, as the client has it; NULL when it cannot be made. */
void *uiopf_region_map_again(const struct uiopf_region *region);

#define UIOPF_WINDOWS 16

struct uiopf_windows {
	uint32_t count;
	struct uiopf_window {
		uint64_t address;	/* the client's */
		uint64_t length;
		uint8_t *map;		/* ours */
	} window[UIOPF_WINDOWS];
};

int uiopf_windows_add(struct uiopf_windows *windows, uint64_t address, uint64_t length, uint8_t *map);

/* Our address of the client's [address, address + length), or NULL: EFAULT. */
static inline uint8_t *uiopf_windows_find(const struct uiopf_windows *windows, uint64_t address, uint64_t length)
{
	uint32_t i;

	for (i = 0; i < windows->count; i++) {
		const struct uiopf_window *w = &windows->window[i];
		uint64_t offset = address - w->address;	/* wraps to a large number below the window */

		if (offset <= w->length && length <= w->length - offset)
			return w->map + offset;
	}
	return NULL;
}
