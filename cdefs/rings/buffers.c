/* Source: io_uring/kbuf.c, Linux 6.12. */
#include "rings/buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS 65536u

/* Linux takes these from memory charged to the client. This is our charge, for all groups of a ring. */
#define MOST_CLASSICS (1u << 20)

int uiopf_buffer_select_classic(struct uiopf_engine *e, uint16_t group, uint32_t wanted, struct uiopf_selected *selected)
{
	struct uiopf_buffers *b = e->buffers[group];
	const struct uiopf_classic *c = b ? b->first : NULL;

	if (!c)
		return -ENOBUFS;
	selected->from = b;
	selected->address = c->address;
	selected->length = wanted && wanted < c->length ? wanted : c->length;
	selected->id = c->id;
	selected->map = uiopf_windows_find(&e->windows, c->address, selected->length);
	return 0;
}

/*
 * Of an incremental ring's entry so many bytes are used: it is advanced in place, and done with when too little is left
 * (io_kbuf_inc_commit). The client may have changed it meanwhile: it can only cheat itself.
 */
static bool advance(struct uiopf_buffers *b, uint32_t used)
{
	const uint32_t least_left = b->least_left > 1 ? b->least_left - 1 : 0;
	uint32_t i;

	if (!used)	/* an end of file leaves it to the next */
		return false;
	/* Once round at most: a client that refills entries meanwhile would keep us here. */
	for (i = 0; used && i <= b->mask; i++) {
		struct io_uring_buf *buf = &b->ring[b->head & b->mask];
		uint32_t length = READ_ONCE(&buf->len), part = used < length ? used : length;

		length -= part;
		if (length > least_left || !part) {
			WRITE_ONCE(&buf->addr, READ_ONCE(&buf->addr) + part);
			WRITE_ONCE(&buf->len, length);
			return false;
		}
		WRITE_ONCE(&buf->len, 0);
		b->head++;
		used -= part;
	}
	return true;
}

uint32_t uiopf_buffer_take_slow(struct uiopf_selected *selected, uint32_t used)
{
	struct uiopf_buffers *b = selected->from;
	uint32_t flags = IORING_CQE_F_BUFFER | (uint32_t)selected->id << IORING_CQE_BUFFER_SHIFT;
	struct uiopf_classic *c = b->first;

	if (b->ring)
		return advance(b, used) ? flags : flags | IORING_CQE_F_BUF_MORE;
	b->first = c->next;
	if (!b->first)
		b->end = &b->first;
	free(c);
	--*b->kept;
	return flags;
}

/* ---- registering rings ---- */

static bool bad_reserved(const struct io_uring_buf_reg *reg)
{
	size_t i;

	for (i = 0; i < sizeof reg->resv / sizeof reg->resv[0]; i++)
		if (reg->resv[i])
			return true;
	return false;
}

static void free_group(struct uiopf_buffers *b)
{
	struct uiopf_classic *c;

	while ((c = b->first)) {
		b->first = c->next;
		free(c);
		--*b->kept;
	}
	if (b->region.map)
		uiopf_region_close(&b->region);
	free(b);
}

/* The ring of buffers that is kept for a group of an attachable ring, NULL: none, or not of so many. */
static struct io_uring_buf *kept_ring(const struct uiopf_engine *e, uint16_t group, uint32_t entries)
{
	struct io_uring_buf *ring;

	if (group >= e->groups || entries > e->group_entries)
		return NULL;
	ring = (struct io_uring_buf *)(void *)(e->ring.region.map + IORING_OFF_PBUF_RING +
					       ((uint64_t)group << IORING_OFF_PBUF_SHIFT));
	memset(ring, 0, entries * sizeof *ring);	/* as new, though it may have been one before */
	return ring;
}

/* The ring's memory: the client's, or our own, which the client maps. */
static int find_ring(struct uiopf_engine *e, const struct io_uring_buf_reg *reg, struct uiopf_buffers *b)
{
	const uint64_t size = reg->ring_entries * (uint64_t)sizeof(struct io_uring_buf);
	uint8_t *map;
	int rc;

	if ((reg->flags & IOU_PBUF_RING_MMAP) && e->attachable) {
		map = (uint8_t *)kept_ring(e, reg->bgid, reg->ring_entries);
		if (!map)
			return -ENOMEM;
	} else if (reg->flags & IOU_PBUF_RING_MMAP) {
		rc = uiopf_region_open(&b->region, "uiopf-pbuf-ring", size);
		if (rc < 0) {
			b->region.map = NULL;
			return rc;
		}
		map = b->region.map;
	} else {
		map = uiopf_windows_find(&e->windows, reg->ring_addr, size);
	}
	if (!map || (uintptr_t)map % sizeof(struct io_uring_buf))
		return -EFAULT;
	b->ring = (struct io_uring_buf *)(void *)map;
	return 0;
}

/* Linux's order of checks (io_register_pbuf_ring, 6.12). */
int uiopf_register_buffers(struct uiopf_engine *e, struct io_uring_buf_reg *reg)
{
	struct uiopf_buffers *b, *old = e->buffers[reg->bgid];
	int rc;

	if (bad_reserved(reg))
		return -EINVAL;
	if (reg->flags & ~(IOU_PBUF_RING_MMAP | IOU_PBUF_RING_INC))
		return -EINVAL;
	if (reg->min_left && !(reg->flags & IOU_PBUF_RING_INC))
		return -EINVAL;
	if (!(reg->flags & IOU_PBUF_RING_MMAP)) {
		if (!reg->ring_addr)
			return -EFAULT;
		if (reg->ring_addr & (UIOPF_PAGE - 1))
			return -EINVAL;
	} else if (reg->ring_addr && e->kernel < UIOPF_LINUX(6, 14)) {
		return -EINVAL;
	}
	if (!reg->ring_entries || (reg->ring_entries & (reg->ring_entries - 1)) || reg->ring_entries >= 65536)
		return -EINVAL;
	if (old && (old->ring || old->first))
		return -EEXIST;
	b = calloc(1, sizeof *b);
	if (!b)
		return -ENOMEM;
	b->mask = reg->ring_entries - 1;
	b->incremental = reg->flags & IOU_PBUF_RING_INC;
	b->least_left = reg->min_left;
	rc = find_ring(e, reg, b);
	if (rc < 0) {
		free_group(b);
		return rc;
	}
	if (old)	/* a classic group that is empty makes room */
		free_group(old);
	e->buffers[reg->bgid] = b;
	return 0;
}

int uiopf_unregister_buffers(struct uiopf_engine *e, const struct io_uring_buf_reg *reg)
{
	struct uiopf_buffers *b = e->buffers[reg->bgid];

	if (bad_reserved(reg) || reg->flags || reg->min_left)
		return -EINVAL;
	if (!b)
		return -ENOENT;
	if (!b->ring)
		return -EINVAL;
	free_group(b);
	e->buffers[reg->bgid] = NULL;
	return 0;
}

int uiopf_buffers_status(struct uiopf_engine *e, struct io_uring_buf_status *status)
{
	const struct uiopf_buffers *b;
	size_t i;

	for (i = 0; i < sizeof status->resv / sizeof status->resv[0]; i++)
		if (status->resv[i])
			return -EINVAL;
	b = status->buf_group < GROUPS ? e->buffers[status->buf_group] : NULL;
	if (!b)
		return -ENOENT;
	if (!b->ring)
		return -EINVAL;
	status->head = b->head;
	return 0;
}

/* ---- classic buffers ---- */

int uiopf_provide_buffers(struct uiopf_engine *e, uint16_t group, uint64_t address, uint32_t length, uint16_t first,
			  uint32_t count)
{
	struct uiopf_buffers *b = e->buffers[group];
	uint32_t i;

	if (!b) {
		b = calloc(1, sizeof *b);
		if (!b)
			return -ENOMEM;
		b->end = &b->first;
		b->kept = &e->classics;
		e->buffers[group] = b;
	} else if (b->ring) {
		return -EINVAL;
	}
	for (i = 0; i < count; i++) {
		struct uiopf_classic *c = e->classics < MOST_CLASSICS ? malloc(sizeof *c) : NULL;

		if (!c)
			return i ? 0 : -ENOMEM;
		*c = (struct uiopf_classic){
			.address = address + (uint64_t)i * length,
			.length = length,
			.id = (uint16_t)(first + i),
		};
		*b->end = c;
		b->end = &c->next;
		e->classics++;
	}
	return 0;
}

int uiopf_remove_buffers(struct uiopf_engine *e, uint16_t group, uint32_t count)
{
	struct uiopf_buffers *b = e->buffers[group];
	uint32_t n;

	if (!b)
		return -ENOENT;
	if (b->ring)
		return -EINVAL;
	for (n = 0; n < count && b->first; n++) {
		struct uiopf_classic *c = b->first;

		b->first = c->next;
		free(c);
		--*b->kept;
	}
	if (!b->first)
		b->end = &b->first;
	return (int)n;
}

void uiopf_free_buffers(struct uiopf_engine *e)
{
	uint32_t group;

	for (group = 0; group < GROUPS; group++)
		if (e->buffers[group])
			free_group(e->buffers[group]);
}
