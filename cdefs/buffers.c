/* Provided-buffer rings: the client fills, the engine takes. The tail is the client's, the head is private. */
#include <errno.h>
#include <stdlib.h>

#include "engine.h"

#define GROUPS 65536u

/*
 * The time of so many reads: a line whose store has to wait for the core of the client, who read the buffer when it was
 * last filled, holds up all stores behind it. An entry that is not published yet may say anything: nothing but a hint
 * comes of it.
 */
#define AHEAD 8u

static void prefetch_buffer(const struct uiopf_engine *e, const struct io_uring_buf *buf)
{
	const uint8_t *map = uiopf_windows_find(&e->windows, READ_ONCE(&buf->addr), 1);

	if (map)
		prefetch_to_write(map);
}

int uiopf_buffer_select(struct uiopf_engine *e, uint16_t group, uint32_t wanted, struct uiopf_selected *selected)
{
	struct uiopf_buffers *b = e->buffers[group];
	const struct io_uring_buf *buf;
	uint64_t address;
	uint32_t length;

	if (unlikely(!b))
		return -ENOBUFS;
	if (b->head == b->tail_seen) {
		/* Pairs with the client's release of the tail: the entries before it are complete. */
		b->tail_seen = LOAD_ACQUIRE(&b->ring[0].resv);
		if (b->head == b->tail_seen)
			return -ENOBUFS;
	}
	buf = &b->ring[b->head & b->mask];
	__builtin_prefetch(&b->ring[(b->head + 2 * AHEAD) & b->mask]);
	prefetch_buffer(e, &b->ring[(b->head + AHEAD) & b->mask]);
	address = READ_ONCE(&buf->addr);
	length = READ_ONCE(&buf->len);
	selected->id = READ_ONCE(&buf->bid);
	if (wanted && wanted < length)
		length = wanted;
	selected->from = b;
	selected->length = length;
	if (unlikely(address > UIOPF_USER_END - length))
		return -EFAULT;
	selected->map = uiopf_windows_find(&e->windows, address, length);
	return 0;
}

/* Linux's order of checks (io_register_pbuf_ring, 6.12). Rings in the kernel's memory come with a later release. */
int uiopf_register_buffers(struct uiopf_engine *e, const struct io_uring_buf_reg *reg)
{
	struct uiopf_buffers *b;
	uint8_t *map;
	int i;

	for (i = 0; i < (int)(sizeof reg->resv / sizeof reg->resv[0]); i++)
		if (reg->resv[i])
			return -EINVAL;
	if (reg->flags || reg->min_left)
		return -EINVAL;
	if (!reg->ring_addr)
		return -EFAULT;
	if (reg->ring_addr & (UIOPF_PAGE - 1))
		return -EINVAL;
	if (!reg->ring_entries || (reg->ring_entries & (reg->ring_entries - 1)) || reg->ring_entries >= 65536)
		return -EINVAL;
	if (e->buffers[reg->bgid])
		return -EEXIST;
	map = uiopf_windows_find(&e->windows, reg->ring_addr, reg->ring_entries * sizeof(struct io_uring_buf));
	if (!map || (uintptr_t)map % sizeof(struct io_uring_buf))
		return -EFAULT;
	b = malloc(sizeof *b);
	if (!b)
		return -ENOMEM;
	*b = (struct uiopf_buffers){
		.ring = (struct io_uring_buf *)(void *)map,
		.mask = reg->ring_entries - 1,
	};
	e->buffers[reg->bgid] = b;
	return 0;
}

int uiopf_unregister_buffers(struct uiopf_engine *e, const struct io_uring_buf_reg *reg)
{
	int i;

	for (i = 0; i < (int)(sizeof reg->resv / sizeof reg->resv[0]); i++)
		if (reg->resv[i])
			return -EINVAL;
	if (reg->flags || reg->min_left)
		return -EINVAL;
	if (!e->buffers[reg->bgid])
		return -ENOENT;
	free(e->buffers[reg->bgid]);
	e->buffers[reg->bgid] = NULL;
	return 0;
}
