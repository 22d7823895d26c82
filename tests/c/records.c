/*
 * The queue of records: a model beside it, one record at a time and in batches, full, waiting and grown; and two threads,
 * where the order of all that arrives is checked.
 */
#include <pthread.h>
#include <sched.h>

#include "check.h"
#include "base/records.h"

#define WORDS 4u

static uint64_t random_state;

static uint32_t rnd(uint32_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % below;
}

/* Writes the next number: into the ring, or, behind others that wait or without room, to wait. */
static void put(struct uiopf_records *q, uint64_t number)
{
	uint64_t *place = uiopf_records_place(q, WORDS);
	const uint64_t record[WORDS] = { number, ~number };

	if (!place || q->waiting_count) {
		CHECK(uiopf_records_wait(q, record));
		return;
	}
	place[0] = record[0];
	place[1] = record[1];
	uiopf_records_put(q);
}

static void take(struct uiopf_records *q, uint32_t n, uint64_t *number)
{
	uint32_t i;

	for (i = 0; i < n; i++, ++*number) {
		const uint64_t *record = uiopf_records_at(q->places, WORDS, q->head + i);

		CHECK_EQ(record[0], *number);
		CHECK_EQ(record[1], ~*number);
	}
	uiopf_records_done(q, n);
}

static void records_arrive_in_order_whatever_waits(uint32_t steps)
{
	uint32_t places = 8, step, shown = 0, moved = 0;
	uint64_t written = 0, read = 0;
	struct uiopf_records q;

	CHECK_EQ(uiopf_records_open(&q, places, WORDS), 0);
	for (step = 0; step < steps; step++) {
		uint32_t n = rnd(12);

		switch (rnd(5)) {
		case 0:
			while (n--)
				put(&q, written++);
			break;
		case 1:
			uiopf_records_admit(&q);
			break;
		case 2:
			uiopf_records_show(&q);
			shown = q.written;
			break;
		case 3:
			CHECK_EQ(uiopf_records_ready(&q), shown - q.head);
			n = n < shown - q.head ? n : shown - q.head;
			take(&q, n, &read);
			break;
		case 4:
			if (rnd(64) || (places > 8 && q.written == q.head))	/* once perhaps without a record in it */
				break;
			moved += places < 256 ? q.written - q.head : 0;
			places = places < 256 ? 2 * places : places;
			CHECK_EQ(uiopf_records_grow(&q, places), 0);
			CHECK_EQ(uiopf_records_grow(&q, 4), 0);	/* it never shrinks */
			CHECK_EQ(q.places.mask + 1, places);
			break;
		}
		CHECK(q.written - q.head <= places);
		CHECK_EQ(written - read, q.written - q.head + (q.waiting_count - q.waiting_first));
		CHECK_EQ(q.full, q.waiting_count != 0);
	}
	while (read != written) {
		uiopf_records_admit(&q);
		uiopf_records_show(&q);
		take(&q, uiopf_records_ready(&q), &read);
	}
	CHECK_EQ(q.lost, 0);
	CHECK(q.waited > 0 && q.waited < written && moved);
	uiopf_records_close(&q);
}

struct pair {
	struct uiopf_records q;
	uint64_t records;
};

static void *writer(void *arg)
{
	struct pair *pair = arg;
	uint64_t n;

	for (n = 0; n < pair->records; n++) {
		if (pair->q.waiting_count)
			uiopf_records_admit(&pair->q);
		put(&pair->q, n);
		if (n % 5 == 0)
			uiopf_records_show(&pair->q);
	}
	while (pair->q.waiting_count) {
		uiopf_records_admit(&pair->q);
		uiopf_records_show(&pair->q);
		sched_yield();
	}
	uiopf_records_show(&pair->q);
	return NULL;
}

static void two_threads(uint64_t records)
{
	static struct pair pair;
	pthread_t thread;
	uint64_t read = 0;

	pair.records = records;
	CHECK_EQ(uiopf_records_open(&pair.q, 16, WORDS), 0);
	CHECK_EQ(pthread_create(&thread, NULL, writer, &pair), 0);
	while (read < records) {
		uint32_t n = uiopf_records_ready(&pair.q);

		if (!n)
			sched_yield();
		take(&pair.q, n > 7 ? 7 : n, &read);
	}
	pthread_join(thread, NULL);
	CHECK_EQ(uiopf_records_ready(&pair.q), 0);
	uiopf_records_close(&pair.q);
}

int main(int argc, char **argv)
{
	random_state = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	records_arrive_in_order_whatever_waits(20000);
	two_threads(200000);
	return 0;
}
