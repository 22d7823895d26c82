#include "rings/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MOST_SQ 32768u
#define MOST_CQ 65536u

static uint32_t round_up(uint32_t n)
{
	return n <= 1 ? 1 : 1u << (32 - __builtin_clz(n - 1));
}

int uiopf_ring_sizes(uint32_t entries, struct io_uring_params *p)
{
	if (!entries)
		return -EINVAL;
	if (entries > MOST_SQ) {
		if (!(p->flags & IORING_SETUP_CLAMP))
			return -EINVAL;
		entries = MOST_SQ;
	}
	p->sq_entries = round_up(entries);
	if (p->flags & IORING_SETUP_CQSIZE) {
		if (!p->cq_entries)
			return -EINVAL;
		if (p->cq_entries > MOST_CQ) {
			if (!(p->flags & IORING_SETUP_CLAMP))
				return -EINVAL;
			p->cq_entries = MOST_CQ;
		}
		p->cq_entries = round_up(p->cq_entries);
		if (p->cq_entries < p->sq_entries)
			return -EINVAL;
	} else {
		p->cq_entries = 2 * p->sq_entries;
	}
	if ((p->flags & IORING_SETUP_CQE_MIXED) && p->cq_entries < 2)
		return -EOVERFLOW;
	return 0;
}

static uint32_t align(uint32_t n, uint32_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/* Where the SQ array begins, and where everything before the SQEs ends. */
static uint32_t array_offset(const struct io_uring_params *p)
{
	/* With CQEs of 32 bytes Linux doubles what is before them as well (rings_size). */
	return align((RING_CQES + 16 * p->cq_entries) << (p->flags & IORING_SETUP_CQE32 ? 1 : 0), 64);
}

static uint32_t header_size(const struct io_uring_params *p)
{
	uint32_t end = array_offset(p);

	if (!(p->flags & IORING_SETUP_NO_SQARRAY))
		end += p->sq_entries * (uint32_t)sizeof(uint32_t);
	return align(end, UIOPF_PAGE);
}

static uint32_t sqes_size(const struct io_uring_params *p)
{
	return p->sq_entries * (p->flags & IORING_SETUP_SQE128 ? 128u : 64u);
}

/* The region is there: fills in the ring, the words that never change, and the offsets. */
static void lay_out(struct uiopf_ring *ring, struct io_uring_params *p)
{
	ring->sq_entries = p->sq_entries;
	ring->sq_mask = p->sq_entries - 1;
	ring->cq_entries = p->cq_entries;
	ring->cq_mask = p->cq_entries - 1;
	ring->sqe_words = p->flags & IORING_SETUP_SQE128 ? 16 : 8;
	ring->cqe_shift = p->flags & IORING_SETUP_CQE32 ? 5 : 4;
	ring->mixed = p->flags & IORING_SETUP_CQE_MIXED;
	ring->cqes = ring->region.map + RING_CQES;
	ring->sqes = (uint64_t *)(void *)(ring->region.map + ring->sqes_offset);
	*uiopf_ring_word(ring, RING_SQ_MASK) = ring->sq_mask;
	*uiopf_ring_word(ring, RING_CQ_MASK) = ring->cq_mask;
	*uiopf_ring_word(ring, RING_SQ_ENTRIES) = ring->sq_entries;
	*uiopf_ring_word(ring, RING_CQ_ENTRIES) = ring->cq_entries;
	if (!(p->flags & IORING_SETUP_NO_SQARRAY)) {
		p->sq_off.array = array_offset(p);
		ring->sq_array = uiopf_ring_word(ring, p->sq_off.array);
	}
	p->sq_off.head = RING_SQ_HEAD;
	p->sq_off.tail = RING_SQ_TAIL;
	p->sq_off.ring_mask = RING_SQ_MASK;
	p->sq_off.ring_entries = RING_SQ_ENTRIES;
	p->sq_off.flags = RING_SQ_FLAGS;
	p->sq_off.dropped = RING_SQ_DROPPED;
	p->sq_off.resv1 = 0;
	p->sq_off.user_addr = 0;
	p->cq_off.head = RING_CQ_HEAD;
	p->cq_off.tail = RING_CQ_TAIL;
	p->cq_off.ring_mask = RING_CQ_MASK;
	p->cq_off.ring_entries = RING_CQ_ENTRIES;
	p->cq_off.overflow = RING_CQ_OVERFLOW;
	p->cq_off.cqes = RING_CQES;
	p->cq_off.flags = RING_CQ_FLAGS;
	p->cq_off.resv1 = 0;
	p->cq_off.user_addr = 0;
}

int uiopf_ring_open(struct uiopf_ring *ring, struct io_uring_params *p)
{
	int rc;

	memset(ring, 0, sizeof *ring);
	ring->sqes_offset = header_size(p);
	rc = uiopf_region_open(&ring->region, "uiopf-ring", ring->sqes_offset + (uint64_t)sqes_size(p));
	if (rc == 0)
		lay_out(ring, p);
	return rc;
}

int uiopf_ring_open_attachable(struct uiopf_ring *ring, struct io_uring_params *p, uint32_t groups,
			       uint32_t group_entries)
{
	struct uiopf_part parts[2 + UIOPF_ATTACHED_GROUPS] = {
		{ IORING_OFF_SQ_RING, header_size(p) },
		{ IORING_OFF_SQES, align(sqes_size(p), UIOPF_PAGE) },
	};
	uint32_t i, n = 2;
	int rc;

	memset(ring, 0, sizeof *ring);
	for (i = 0; i < groups; i++)
		parts[n++] = (struct uiopf_part){
			IORING_OFF_PBUF_RING + ((uint64_t)i << IORING_OFF_PBUF_SHIFT),
			align(group_entries * (uint32_t)sizeof(struct io_uring_buf), UIOPF_PAGE),
		};
	ring->sqes_offset = IORING_OFF_SQES;
	rc = uiopf_region_open_sparse(&ring->region, "uiopf-ring", parts[n - 1].offset + parts[n - 1].length, parts, n);
	if (rc < 0)
		return rc;
	lay_out(ring, p);
	/* Before liburing 2.4 io_uring_queue_mmap left the array to the submissions; from then on, to the kernel. */
	for (i = 0; i < ring->sq_entries; i++)
		ring->sq_array[i] = i;
	return 0;
}

void uiopf_ring_close(struct uiopf_ring *ring)
{
	uiopf_region_close(&ring->region);
}

struct uiopf_client_ring *uiopf_client_ring_map(int fd, const struct io_uring_params *p, uint64_t size,
						uint32_t sqes_offset)
{
	struct uiopf_client_ring *ring = calloc(1, sizeof *ring);
	uint32_t i;

	if (!ring)
		return NULL;
	ring->size = header_size(p);
	ring->sqes_size = align(sqes_size(p), UIOPF_PAGE);
	/* What is between the two is nobody's: an attachable ring has a hole there. */
	if (ring->size > size || sqes_offset > size || ring->sqes_size > size - sqes_offset) {
		free(ring);
		return NULL;
	}
	ring->map = mmap(NULL, ring->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	ring->sqes = mmap(NULL, ring->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, sqes_offset);
	if (ring->map == MAP_FAILED || ring->sqes == MAP_FAILED) {
		if (ring->map != MAP_FAILED)
			munmap(ring->map, ring->size);
		if (ring->sqes != MAP_FAILED)
			munmap(ring->sqes, ring->sqes_size);
		free(ring);
		return NULL;
	}
	ring->setup_flags = p->flags;
	ring->sq_entries = p->sq_entries;
	ring->sq_mask = p->sq_entries - 1;
	ring->cq_mask = p->cq_entries - 1;
	ring->sqe_shift = p->flags & IORING_SETUP_SQE128 ? 1 : 0;
	ring->cqe_shift = p->flags & IORING_SETUP_CQE32 ? 1 : 0;
	ring->cqes = ring->map + p->cq_off.cqes;
	/* A ring that was resized goes on where it was. */
	ring->sq_tail = ring->sq_published = *uiopf_client_word(ring, RING_SQ_TAIL);
	ring->sq_head_seen = LOAD_ACQUIRE(uiopf_client_word(ring, RING_SQ_HEAD));
	ring->cq_head = ring->cq_tail_seen = *uiopf_client_word(ring, RING_CQ_HEAD);
	if (!(p->flags & IORING_SETUP_NO_SQARRAY)) {
		/* Identity, once: a client that fills SQEs in order needs no indirection. */
		ring->sq_array = uiopf_client_word(ring, p->sq_off.array);
		for (i = 0; i < ring->sq_entries; i++)
			ring->sq_array[i] = i;
	}
	return ring;
}

struct uiopf_client_ring *uiopf_client_ring_map_host(int fd, const struct io_uring_params *p)
{
	struct uiopf_client_ring *ring;

	if (p->sq_off.head != RING_SQ_HEAD || p->sq_off.tail != RING_SQ_TAIL || p->cq_off.head != RING_CQ_HEAD ||
	    p->sq_off.flags != RING_SQ_FLAGS || p->cq_off.tail != RING_CQ_TAIL || !(p->features & IORING_FEAT_SINGLE_MMAP)) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	ring = uiopf_client_ring_map(fd, p, UINT64_MAX, (uint32_t)IORING_OFF_SQES);
	if (!ring)
		errno = ENOMEM;
	return ring;
}

void uiopf_client_ring_unmap(struct uiopf_client_ring *ring)
{
	if (!ring)
		return;
	munmap(ring->map, ring->size);
	munmap(ring->sqes, ring->sqes_size);
	free(ring);
}

int uiopf_client_push(struct uiopf_client_ring *ring, const struct io_uring_sqe *sqe)
{
	uint32_t slot;
	struct io_uring_sqe *to = uiopf_client_get_sqe(ring, &slot);

	if (!to)
		return -EBUSY;
	*to = *sqe;
	return (int)slot;
}

int uiopf_client_push_wide(struct uiopf_client_ring *ring, const void *sqe)
{
	uint32_t slot;
	struct io_uring_sqe *to = uiopf_client_get_sqe(ring, &slot);

	if (!to)
		return -EBUSY;
	memcpy(to, sqe, sizeof *to << ring->sqe_shift);
	return (int)slot;
}

uint32_t uiopf_client_submit(struct uiopf_client_ring *ring)
{
	return uiopf_client_publish(ring);
}

static uint32_t reap(struct uiopf_client_ring *ring, uint8_t *out, size_t size, uint32_t most)
{
	uint32_t i, n = uiopf_client_ready(ring);

	if (n < most) {	/* what was seen last time is not all there may be by now */
		ring->cq_tail_seen = LOAD_ACQUIRE(uiopf_client_word(ring, RING_CQ_TAIL));
		n = ring->cq_tail_seen - ring->cq_head;
	}
	if (n > most)
		n = most;
	for (i = 0; i < n; i++)
		memcpy(out + i * size, uiopf_client_cqe(ring, i), size);
	if (n)
		uiopf_client_seen(ring, n);
	return n;
}

uint32_t uiopf_client_reap(struct uiopf_client_ring *ring, struct io_uring_cqe *out, uint32_t most)
{
	return reap(ring, (uint8_t *)out, sizeof *out, most);
}

uint32_t uiopf_client_reap_wide(struct uiopf_client_ring *ring, void *out, uint32_t most)
{
	return reap(ring, out, sizeof(struct io_uring_cqe) << ring->cqe_shift, most);
}

void uiopf_client_publish_buffers(struct io_uring_buf_ring *ring, uint16_t tail)
{
	STORE_RELEASE(&ring->tail, tail);	/* pairs with uiopf_buffer_select */
}

uint32_t uiopf_client_load(const struct uiopf_client_ring *ring, uint32_t offset)
{
	return LOAD_ACQUIRE(uiopf_client_word(ring, offset));
}

void uiopf_client_store(struct uiopf_client_ring *ring, uint32_t offset, uint32_t value)
{
	STORE_SEQ(uiopf_client_word(ring, offset), value);
}
