#include "base/records.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A queue as software gives it to hardware: page aligned, all zero. */
static uint64_t *zeroed(uint32_t places, uint32_t words)
{
	const size_t size = (size_t)places * words * sizeof(uint64_t), page = 4096;
	uint64_t *ring = aligned_alloc(page, (size + page - 1) / page * page);

	return ring ? memset(ring, 0, size) : NULL;
}

int uiopf_records_open(struct uiopf_records *q, uint32_t places, uint32_t words)
{
	memset(q, 0, sizeof *q);
	q->places.ring = zeroed(places, words);
	q->places.mask = places - 1;
	q->places.words = words;
	return q->places.ring ? 0 : -ENOMEM;
}

void uiopf_records_close(struct uiopf_records *q)
{
	free(q->places.ring);
	free(q->waiting);
	q->places.ring = q->waiting = NULL;
}

int uiopf_records_grow(struct uiopf_records *q, uint32_t places)
{
	struct uiopf_places grown = { NULL, places - 1, q->places.words };
	uint32_t i;

	if (places <= q->places.mask + 1)
		return 0;
	grown.ring = zeroed(places, grown.words);
	if (!grown.ring)
		return -ENOMEM;
	for (i = q->head; i != q->written; i++)
		memcpy(uiopf_records_at(grown, grown.words, i), uiopf_records_at(q->places, grown.words, i),
		       grown.words * sizeof *grown.ring);
	free(q->places.ring);
	q->places = grown;
	return 0;
}

bool uiopf_records_wait(struct uiopf_records *q, const uint64_t *record)
{
	const size_t size = q->places.words * sizeof *record;

	q->waited++;
	if (q->waiting_count == q->waiting_capacity && q->waiting_first > q->waiting_capacity / 2) {
		memmove(q->waiting, &q->waiting[(size_t)q->places.words * q->waiting_first],
			(q->waiting_count - q->waiting_first) * size);
		q->waiting_count -= q->waiting_first;
		q->waiting_first = 0;
	}
	if (q->waiting_count == q->waiting_capacity) {
		const uint32_t capacity = q->waiting_capacity ? 2 * q->waiting_capacity : q->places.mask + 1;
		uint64_t *waiting = reallocarray(q->waiting, capacity, size);

		if (!waiting) {
			q->lost++;
			return false;
		}
		q->waiting = waiting;
		q->waiting_capacity = capacity;
	}
	memcpy(&q->waiting[(size_t)q->places.words * q->waiting_count++], record, size);
	WRITE_ONCE(&q->full, true);
	return true;
}

void uiopf_records_admit(struct uiopf_records *q)
{
	uint64_t *place;

	while (q->waiting_first != q->waiting_count && (place = uiopf_records_place(q, q->places.words))) {
		memcpy(place, &q->waiting[(size_t)q->places.words * q->waiting_first++], q->places.words * sizeof *place);
		uiopf_records_put(q);
	}
	if (q->waiting_first == q->waiting_count) {
		q->waiting_first = q->waiting_count = 0;
		WRITE_ONCE(&q->full, false);
	}
}
