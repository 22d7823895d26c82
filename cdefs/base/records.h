/*
 * A queue of records of one size, as hardware and its driver have between them: one side writes, the other reads.
 *
 * The memory is a ring; heads and tails are free-running, and a place is a masked index. The writer fills places in
 * private and shows them, many at a time, by moving the tail; the reader gives them back by moving the head. Each of the
 * two words is on a line that only its owner writes, apart from what its owner alone looks at, so a line travels once
 * for many records.
 *
 * A full ring has two answers, and the writer chooses. Hardware that may lose records does nothing
 * (uiopf_records_place() is NULL). A writer whose records must arrive lets them wait, in order, in memory of its own
 * that grows by need: uiopf_records_wait(), and uiopf_records_admit() for whoever finds room later on the writer's side.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"

struct uiopf_records {
	struct uiopf_places {
		uint64_t *ring;
		uint32_t mask, words;	/* places less one; words from one record to the next */
	} places;

	/* The writer's. */
	UIOPF_LINE uint32_t written;
	uint32_t head_seen;
	uint64_t *waiting;		/* records for which there was no room, oldest first */
	uint32_t waiting_first, waiting_count, waiting_capacity;
	uint64_t waited;		/* how many records ever did */
	uint64_t lost;			/* … and for how many of these there was no memory */

	/* The writer's, looked at by the reader. */
	UIOPF_LINE uint32_t tail;
	bool full;			/* records wait: whoever makes room sees to it that they come in */

	/* The reader's, looked at by the writer where it needs room. */
	UIOPF_LINE uint32_t head;
};
UIOPF_BEGINS_A_LINE(struct uiopf_records, written);
UIOPF_BEGINS_A_LINE(struct uiopf_records, tail);
UIOPF_BEGINS_A_LINE(struct uiopf_records, head);

/* A ring of so many places, a power of two, page aligned and all zero: 0 or -ENOMEM. */
int uiopf_records_open(struct uiopf_records *q, uint32_t places, uint32_t words);
void uiopf_records_close(struct uiopf_records *q);
/* Quiescent: at least so many places, a power of two; what is in the ring stays. 0 or -ENOMEM, and nothing has changed. */
int uiopf_records_grow(struct uiopf_records *q, uint32_t places);

/* words: the queue's, as a constant. */
hot_inline uint64_t *uiopf_records_at(struct uiopf_places places, uint32_t words, uint32_t index)
{
	return &places.ring[(uint64_t)words * (index & places.mask)];
}

/* ---- the writer ---- */

/* The next place, or NULL where all are taken. Filled, it is made part of the queue by uiopf_records_put(). */
hot_inline uint64_t *uiopf_records_place(struct uiopf_records *q, uint32_t words)
{
	if (unlikely(q->written - q->head_seen > q->places.mask)) {
		/* Pairs with uiopf_records_done(): the record has been read before its place is filled again. */
		q->head_seen = LOAD_ACQUIRE(&q->head);
		if (q->written - q->head_seen > q->places.mask)
			return NULL;
	}
	return uiopf_records_at(q->places, words, q->written);
}

hot_inline void uiopf_records_put(struct uiopf_records *q)
{
	q->written++;
}

/* Shows the reader what was put. Pairs with uiopf_records_ready(): the records are complete. */
hot_inline void uiopf_records_show(struct uiopf_records *q)
{
	STORE_RELEASE(&q->tail, q->written);
}

/* Keeps a record for which there was no room; false where there is no memory for it, and it is lost. */
bool uiopf_records_wait(struct uiopf_records *q, const uint64_t *record);
/* Puts what waits, as far as there is room; the caller shows it. */
void uiopf_records_admit(struct uiopf_records *q);

/* ---- the reader ---- */

/* How many records there are at the head. */
hot_inline uint32_t uiopf_records_ready(const struct uiopf_records *q)
{
	return LOAD_ACQUIRE(&q->tail) - q->head;	/* pairs with uiopf_records_show() */
}

/* Gives back the first n places. */
hot_inline void uiopf_records_done(struct uiopf_records *q, uint32_t n)
{
	STORE_RELEASE(&q->head, q->head + n);		/* pairs with uiopf_records_place() */
}
