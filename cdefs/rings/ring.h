/*
 * Both sides of an io_uring's shared memory.
 *
 * One region holds the ring header, the CQEs and the SQ array, at the offsets io_uring publishes, and behind them, on
 * the next page, the SQEs. An attachable ring has the SQEs where io_uring's mmap has them, and the rings of its buffers
 * too, all in one region with holes: whoever maps its descriptor as if it were io_uring's finds everything. Heads and tails are free-running; a slot is a masked index. The kernel side keeps masks,
 * sizes and its own indices private and never reads them back.
 *
 * Source: include/linux/io_uring_types.h (struct io_rings), io_uring/io_uring.c, Linux 6.12.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "abi/io_uring.h"
#include "abi/api.h"
#include "base/atomics.h"
#include "base/memory.h"

/* struct io_rings: where the words are. */
#define RING_SQ_HEAD 0
#define RING_SQ_TAIL 4
#define RING_CQ_HEAD 8
#define RING_CQ_TAIL 12
#define RING_SQ_MASK 16
#define RING_CQ_MASK 20
#define RING_SQ_ENTRIES 24
#define RING_CQ_ENTRIES 28
#define RING_SQ_DROPPED 32
#define RING_SQ_FLAGS 36
#define RING_CQ_FLAGS 40
#define RING_CQ_OVERFLOW 44
#define RING_CQES 64

/* Entries are copied by words, whatever they are made of. */
typedef uint64_t __attribute__((may_alias)) uiopf_word;

/* ---- the kernel's side ---- */

struct uiopf_ring {
	struct uiopf_region region;
	uint32_t sqes_offset;
	uint32_t sq_entries, sq_mask, cq_entries, cq_mask;
	uint32_t sqe_words;		/* from one SQE to the next: 8, or 16 with SQE128 */
	uint32_t cqe_shift;		/* bytes from one CQE to the next: 1 << 4, or 1 << 5 with CQE32 */
	bool mixed;			/* CQE_MIXED: one of 32 bytes takes two slots */
	uint32_t *sq_array;		/* NULL with NO_SQARRAY */
	uint64_t *sqes;
	uint8_t *cqes;
	uint32_t sq_head, sq_tail_seen;
	uint32_t cq_tail, cq_head_seen, cq_tail_published;
};

static inline uint32_t *uiopf_ring_word(const struct uiopf_ring *ring, uint32_t offset)
{
	return (uint32_t *)(void *)(ring->region.map + offset);
}

/* Rounds and checks sizes, as io_uring_setup does: 0 or -EINVAL. */
int uiopf_ring_sizes(uint32_t entries, struct io_uring_params *p);

/* Makes the memory; entries are powers of two already. Fills in p's offsets. 0 or -errno. */
int uiopf_ring_open(struct uiopf_ring *ring, struct io_uring_params *p);
/* The same, at io_uring's offsets, the SQ array filled in; with buffer rings for the groups from 0 on. */
int uiopf_ring_open_attachable(struct uiopf_ring *ring, struct io_uring_params *p, uint32_t groups,
			       uint32_t group_entries);
void uiopf_ring_close(struct uiopf_ring *ring);

/* How many SQEs the client has published; at most sq_entries, whatever it wrote. */
static inline uint32_t uiopf_sq_ready(struct uiopf_ring *ring)
{
	uint32_t n;

	/* Pairs with the client's release of the tail: SQEs and array are complete before it moves. */
	ring->sq_tail_seen = LOAD_ACQUIRE(uiopf_ring_word(ring, RING_SQ_TAIL));
	n = ring->sq_tail_seen - ring->sq_head;
	return n < ring->sq_entries ? n : ring->sq_entries;
}

/* Whether the SQ has no room by what both sides have shown: what a call has taken it shows at its end (io_sqring_full). */
static inline bool uiopf_sq_shown_full(struct uiopf_ring *ring)
{
	const uint32_t tail = LOAD_ACQUIRE(uiopf_ring_word(ring, RING_SQ_TAIL));	/* as in uiopf_sq_ready */

	return tail - READ_ONCE(uiopf_ring_word(ring, RING_SQ_HEAD)) == ring->sq_entries;
}

/* How far ahead lines are fetched that the other side has written: by then they are here. */
#define RING_AHEAD 8u

static inline uint64_t *uiopf_sqe_at(const struct uiopf_ring *ring, uint32_t slot)
{
	return &ring->sqes[ring->sqe_words * (uint64_t)(slot & ring->sq_mask)];
}

/* Before a batch of n: begins to fetch its first SQEs, all at once. (With an array that is not the identity: others.) */
static inline void uiopf_sq_prefetch(const struct uiopf_ring *ring, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n && i < RING_AHEAD; i++)
		__builtin_prefetch(uiopf_sqe_at(ring, ring->sq_head + i));
}

/*
 * Whether the SQE so many places ahead of the next was published when the tail was last loaded. One that was not is
 * being written: fetching its line would take it from the client in the middle of that, and then back.
 */
static inline bool uiopf_sq_is_published(const struct uiopf_ring *ring, uint32_t ahead)
{
	return ring->sq_tail_seen - ring->sq_head > ahead;
}

/* The address in a published SQE some places ahead of the next. */
static inline uint64_t uiopf_sq_peek_address(const struct uiopf_ring *ring, uint32_t ahead)
{
	return READ_ONCE(&uiopf_sqe_at(ring, ring->sq_head + ahead)[2]);
}

/* The flags of a published SQE some places ahead of the next; 0 where its index is bad. */
static inline uint8_t uiopf_sq_peek_flags(const struct uiopf_ring *ring, uint32_t ahead)
{
	uint32_t slot = (ring->sq_head + ahead) & ring->sq_mask;

	if (ring->sq_array) {
		slot = READ_ONCE(&ring->sq_array[slot]);
		if (slot >= ring->sq_entries)
			return 0;
	}
	return (uint8_t)(READ_ONCE(uiopf_sqe_at(ring, slot)) >> 8);
}

/*
 * Takes the next SQE, of which there is one: true with *sqe filled, false when its index was bad. The head moves
 * either way; it is published by uiopf_sq_commit(). The client may scribble meanwhile: each word is loaded once, and
 * from here on only the copy is used.
 */
static inline bool uiopf_sq_take(struct uiopf_ring *ring, struct io_uring_sqe *sqe)
{
	uint32_t slot = ring->sq_head++ & ring->sq_mask;
	uiopf_word *to = (uiopf_word *)sqe;
	const uint64_t *from;
	int i;

	if (ring->sq_array) {
		slot = READ_ONCE(&ring->sq_array[slot]);
		if (unlikely(slot >= ring->sq_entries)) {
			uint32_t *dropped = uiopf_ring_word(ring, RING_SQ_DROPPED);

			WRITE_ONCE(dropped, READ_ONCE(dropped) + 1);
			return false;
		}
	}
	from = uiopf_sqe_at(ring, slot);
	if (uiopf_sq_is_published(ring, RING_AHEAD - 1))
		__builtin_prefetch(uiopf_sqe_at(ring, slot + RING_AHEAD));
#pragma GCC unroll 8
	for (i = 0; i < 8; i++)	/* not memcpy: it may read twice; and straight to where it is used from */
		to[i] = READ_ONCE(&from[i]);
	return true;
}

static inline void uiopf_sq_commit(struct uiopf_ring *ring)
{
	/* Pairs with the client's acquire: the SQEs have been read, and their slots may be used again. */
	STORE_RELEASE(uiopf_ring_word(ring, RING_SQ_HEAD), ring->sq_head);
}

static inline bool uiopf_cq_full(struct uiopf_ring *ring)
{
	if (likely(ring->cq_tail - ring->cq_head_seen < ring->cq_entries))
		return false;
	/*
	 * Acquire: the client has read the CQE before its slot is written again. (Linux needs no more than a load here,
	 * since a control dependency orders the stores behind it; C has no way to say that.) A head beyond the tail
	 * makes the ring full: a client can only cheat itself.
	 */
	ring->cq_head_seen = LOAD_ACQUIRE(uiopf_ring_word(ring, RING_CQ_HEAD));
	return ring->cq_tail - ring->cq_head_seen >= ring->cq_entries;
}

static inline uint64_t *uiopf_cqe_at(const struct uiopf_ring *ring, uint32_t slot)
{
	return (uint64_t *)(void *)(ring->cqes + ((uint64_t)(slot & ring->cq_mask) << ring->cqe_shift));
}

/* Writes the next CQE, for which there is room. It is published by the engine. */
static inline void uiopf_cq_put(struct uiopf_ring *ring, uint64_t user_data, int32_t res, uint32_t flags)
{
	uiopf_word *cqe = uiopf_cqe_at(ring, ring->cq_tail++);

	prefetch_to_write(uiopf_cqe_at(ring, ring->cq_tail + RING_AHEAD));
	WRITE_ONCE(&cqe[0], user_data);
	WRITE_ONCE(&cqe[1], (uint32_t)res | (uint64_t)flags << 32);	/* res and flags, little-endian */
	if (unlikely(ring->cqe_shift != 4)) {
		WRITE_ONCE(&cqe[2], 0);
		WRITE_ONCE(&cqe[3], 0);
	}
}

/* ---- the client's side ---- */

/* One thread at a time. The kernel side is trusted by the client, as everywhere. */
struct uiopf_client_ring {
	uint8_t *map;
	uint64_t size;
	uint64_t sqes_size;
	struct io_uring_sqe *sqes;
	uint8_t *cqes;
	uint32_t *sq_array;
	uint32_t sq_entries, sq_mask, cq_mask, setup_flags;
	uint32_t sqe_shift, cqe_shift;		/* places in units of 64 and 16 bytes */
	uint32_t sq_tail, sq_head_seen;		/* sq_tail: filled, perhaps not yet published */
	uint32_t sq_published;
	uint32_t cq_head, cq_tail_seen;
};

/*
 * The host's ring, mapped as ours is. NULL with errno: EOPNOTSUPP, its words are not where ours are, as they have been since
 * there is io_uring; or ENOMEM.
 */
struct uiopf_client_ring *uiopf_client_ring_map_host(int fd, const struct io_uring_params *p);

static inline uint32_t *uiopf_client_word(const struct uiopf_client_ring *ring, uint32_t offset)
{
	return (uint32_t *)(void *)(ring->map + offset);
}

/* The next free SQE, zeroed, or NULL when the SQ is full. Not seen by the kernel before uiopf_client_publish(). */
static inline struct io_uring_sqe *uiopf_client_get_sqe(struct uiopf_client_ring *ring, uint32_t *slot)
{
	struct io_uring_sqe *sqe;

	if (ring->sq_tail - ring->sq_head_seen >= ring->sq_entries) {
		/* Pairs with uiopf_sq_commit. */
		ring->sq_head_seen = LOAD_ACQUIRE(uiopf_client_word(ring, RING_SQ_HEAD));
		if (ring->sq_tail - ring->sq_head_seen >= ring->sq_entries)
			return NULL;
	}
	*slot = ring->sq_tail++ & ring->sq_mask;
	sqe = &ring->sqes[(uint64_t)*slot << ring->sqe_shift];
	prefetch_to_write(&ring->sqes[(uint64_t)((*slot + 4) & ring->sq_mask) << ring->sqe_shift]);
	__builtin_memset(sqe, 0, sizeof *sqe);
	return sqe;
}

/* Shows the kernel what was filled; how many SQEs that were. */
static inline uint32_t uiopf_client_publish(struct uiopf_client_ring *ring)
{
	uint32_t n = ring->sq_tail - ring->sq_published;

	if (!n)
		return 0;
	ring->sq_published = ring->sq_tail;
	/* Pairs with uiopf_sq_ready. With SQPOLL the next look is at NEED_WAKEUP, which must not move before this. */
	if (ring->setup_flags & IORING_SETUP_SQPOLL)
		STORE_SEQ(uiopf_client_word(ring, RING_SQ_TAIL), ring->sq_tail);
	else
		STORE_RELEASE(uiopf_client_word(ring, RING_SQ_TAIL), ring->sq_tail);
	return n;
}

static inline bool uiopf_client_needs_wakeup(const struct uiopf_client_ring *ring)
{
	return LOAD_SEQ(uiopf_client_word(ring, RING_SQ_FLAGS)) & IORING_SQ_NEED_WAKEUP;
}

/* How many CQEs there are to read at cq_head. */
static inline uint32_t uiopf_client_ready(struct uiopf_client_ring *ring)
{
	if (ring->cq_head == ring->cq_tail_seen)
		/* Pairs with the engine's publish: CQEs, and what their buffers hold, are complete. */
		ring->cq_tail_seen = LOAD_ACQUIRE(uiopf_client_word(ring, RING_CQ_TAIL));
	return ring->cq_tail_seen - ring->cq_head;
}

static inline const struct io_uring_cqe *uiopf_client_cqe(const struct uiopf_client_ring *ring, uint32_t i)
{
	return (const void *)(ring->cqes + (16ull * ((ring->cq_head + i) & ring->cq_mask) << ring->cqe_shift));
}

static inline void uiopf_client_seen(struct uiopf_client_ring *ring, uint32_t n)
{
	ring->cq_head += n;
	/* Pairs with uiopf_cq_full. */
	STORE_RELEASE(uiopf_client_word(ring, RING_CQ_HEAD), ring->cq_head);
}
