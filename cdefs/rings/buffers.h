/*
 * Provided buffers. In rings, which the client fills and the engine empties: the tail is the client's, the head is
 * private. And the classic ones, which requests give and which are kept in a list.
 */
#pragma once
#include "rings/engine.h"

struct uiopf_selected {
	struct uiopf_buffers *from;
	uint64_t address;	/* the client's */
	uint8_t *map;
	uint32_t length;
	uint16_t id;
};
/*
 * The time of so many reads: a line whose store has to wait for the core of the client, who read the buffer when it was
 * last filled, holds up all stores behind it. An entry that is not published yet may say anything: nothing but a hint
 * comes of it.
 */
#define UIOPF_BUFFERS_AHEAD 16u
#define ENTRIES_A_LINE (64u / (uint32_t)sizeof(struct io_uring_buf))

static inline void uiopf_prefetch_buffer(const struct uiopf_engine *e, const struct io_uring_buf *buf)
{
	const struct uiopf_window *first = e->windows.window;	/* in others nothing is fetched ahead */
	const uint64_t offset = READ_ONCE(&buf->addr) - first->address;

	if (likely(offset < first->length))
		prefetch_to_write(first->map + offset);
}

int uiopf_buffer_select_classic(struct uiopf_engine *engine, uint16_t group, uint32_t wanted,
				struct uiopf_selected *selected);
/* Looks at the next buffer, without taking it: 0, -ENOBUFS, -EFAULT. map is NULL where the client has no memory. */
hot_inline int uiopf_buffer_select(struct uiopf_engine *e, uint16_t group, uint32_t wanted,
				   struct uiopf_selected *selected)
{
	struct uiopf_buffers *b = e->buffers[group];
	const struct io_uring_buf *buf;
	uint64_t address;
	uint32_t length;

	if (unlikely(!b || !b->ring))
		return uiopf_buffer_select_classic(e, group, wanted, selected);
	if (b->head == b->tail_seen) {
		/* Pairs with the client's release of the tail: the entries before it are complete. */
		b->tail_seen = LOAD_ACQUIRE(&b->ring[0].resv);
		if (b->head == b->tail_seen)
			return -ENOBUFS;
	}
	buf = &b->ring[b->head & b->mask];
	if (b->head % ENTRIES_A_LINE == 0)
		__builtin_prefetch(&b->ring[(b->head + 2 * UIOPF_BUFFERS_AHEAD) & b->mask]);
	uiopf_prefetch_buffer(e, &b->ring[(b->head + UIOPF_BUFFERS_AHEAD) & b->mask]);
	address = READ_ONCE(&buf->addr);
	length = READ_ONCE(&buf->len);
	selected->id = READ_ONCE(&buf->bid);
	if (wanted && wanted < length)
		length = wanted;
	selected->from = b;
	selected->address = address;
	selected->length = length;
	if (unlikely(address > UIOPF_USER_END - length))
		return -EFAULT;
	selected->map = uiopf_windows_find(&e->windows, address, length);
	return 0;
}
uint32_t uiopf_buffer_take_slow(struct uiopf_selected *selected, uint32_t used);
/* Takes what was selected, of which so many bytes were used; the CQE's flags. */
static inline uint32_t uiopf_buffer_take(struct uiopf_selected *selected, uint32_t used)
{
	if (unlikely(!selected->from->ring || selected->from->incremental))
		return uiopf_buffer_take_slow(selected, used);
	selected->from->head++;
	return IORING_CQE_F_BUFFER | (uint32_t)selected->id << IORING_CQE_BUFFER_SHIFT;
}

int uiopf_register_buffers(struct uiopf_engine *engine, struct io_uring_buf_reg *reg);
int uiopf_unregister_buffers(struct uiopf_engine *engine, const struct io_uring_buf_reg *reg);
int uiopf_buffers_status(struct uiopf_engine *engine, struct io_uring_buf_status *status);
int uiopf_provide_buffers(struct uiopf_engine *engine, uint16_t group, uint64_t address, uint32_t length, uint16_t first,
			  uint32_t count);
int uiopf_remove_buffers(struct uiopf_engine *engine, uint16_t group, uint32_t count);
void uiopf_free_buffers(struct uiopf_engine *engine);
