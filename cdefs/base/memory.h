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
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "abi/api.h"
#include "base/atomics.h"

#define UIOPF_PAGE 4096u
#define UIOPF_USER_END 0x7ffffffff000ull	/* TASK_SIZE on x86-64: no client has memory beyond it */

struct uiopf_region {
	int fd;
	uint8_t *map;
	uint64_t size;
};

int uiopf_region_open(struct uiopf_region *region, const char *name, uint64_t size);
/*
 * The same with holes: only the parts are charged and mapped, each at its own offset from `map`; between them is nothing
 * that may be touched. A client can fill the holes, up to the size.
 */
struct uiopf_part {
	uint64_t offset, length;	/* whole pages */
};
int uiopf_region_open_sparse(struct uiopf_region *region, const char *name, uint64_t size,
			     const struct uiopf_part *parts, uint32_t n);
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

/*
 * Into and out of memory that a client may scribble over meanwhile: every byte is stored once, or loaded once. The
 * client chooses the address, so it may lie anyhow. length: a multiple of eight for words to be used.
 */
static inline void uiopf_copy_to_client(uint8_t *to, const void *from, size_t length)
{
	const uint8_t *bytes = from;
	uint64_t word;
	size_t i;

	if (likely(((uintptr_t)to | length) % 8 == 0)) {
#pragma GCC unroll 8
		for (i = 0; i < length; i += 8) {
			__builtin_memcpy(&word, bytes + i, 8);
			WRITE_ONCE((uint64_t *)(void *)(to + i), word);
		}
	} else {
		for (i = 0; i < length; i++)
			WRITE_ONCE(to + i, bytes[i]);
	}
}

static inline void uiopf_copy_from_client(void *to, const uint8_t *from, size_t length)
{
	uint8_t *bytes = to;
	uint64_t word;
	size_t i;

	if (likely(((uintptr_t)from | length) % 8 == 0)) {
		for (i = 0; i < length; i += 8) {
			word = READ_ONCE((const uint64_t *)(const void *)(from + i));
			__builtin_memcpy(bytes + i, &word, 8);
		}
	} else {
		for (i = 0; i < length; i++)
			bytes[i] = READ_ONCE(from + i);
	}
}

int uiopf_windows_add(struct uiopf_windows *windows, uint64_t address, uint64_t length, uint8_t *map);

/* The same in all windows but the first. */
uint8_t *uiopf_windows_find_other(const struct uiopf_windows *windows, uint64_t address, uint64_t length);
/* Our address of the client's [address, address + length), or NULL: EFAULT. */
static inline uint8_t *uiopf_windows_find(const struct uiopf_windows *windows, uint64_t address, uint64_t length)
{
	const struct uiopf_window *w = windows->window;	/* all zero where there is none */
	uint64_t offset = address - w->address;	/* wraps to a large number below the window */

	if (likely(offset <= w->length && length <= w->length - offset))
		return (uint8_t *)((uintptr_t)w->map + offset);	/* of no window: NULL, and 0 */
	return uiopf_windows_find_other(windows, address, length);
}
/* How many of these bytes are there, from the first on: up to the end of the window that has it. */
uint64_t uiopf_windows_reach(const struct uiopf_windows *windows, uint64_t address, uint64_t length);

/*
 * A client's memory in pieces, none of them empty, used up from the front: whoever fills or reads it needs no room for
 * the whole. A piece without an address is memory that the client does not have.
 */
struct uiopf_pieces {
	const struct iovec *piece;
	uint32_t count;
	uint64_t used;		/* of the first */
};

uint64_t uiopf_pieces_total(const struct iovec *piece, uint32_t count);
/* Whether the next bytes are there, so that they can be copied. */
bool uiopf_pieces_have(const struct uiopf_pieces *pieces, uint64_t length);
void uiopf_copy_to_pieces(struct uiopf_pieces *pieces, const void *from, uint64_t length);
void uiopf_copy_from_pieces(void *to, struct uiopf_pieces *pieces, uint64_t length);
