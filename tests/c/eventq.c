/*
 * The event queue: against a model on one thread, memory that runs out, and between threads.
 *
 * Between threads: two that report, one that reads what a multishot poll on a ring tells it of, one that has the control
 * plane at work, and a worker. In the end every report must be accounted for: read, or a gap in the sequence numbers.
 *
 * Arguments: reports for each thread, seed.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "abi/api.h"
#include "check.h"
#include "faults/eventq.h"

#define LAST 0x7fffffffu

struct header { uint32_t flags, sequence; };

/* ---- against a model ---- */

#define MODEL_MOST 4096

struct model {
	uint32_t depth, count, sequence, lost_sequence;
	bool lost;
	struct { uint32_t sequence, length; uint8_t first; } event[MODEL_MOST];
};

static void model_report(struct model *m, uint8_t first, uint32_t length)
{
	uint32_t sequence = m->sequence;

	m->sequence = sequence == LAST ? 0 : sequence + 1;
	if (m->count == m->depth) {
		m->lost = true;
		m->lost_sequence = sequence;
		return;
	}
	m->lost = false;
	m->event[m->count].sequence = sequence;
	m->event[m->count].length = length;
	m->event[m->count++].first = first;
}

/* Checks what a read of so many bytes returned, and takes it out of the model. */
static void model_read(struct model *m, const uint8_t *got, uint64_t length, int64_t done)
{
	uint64_t at = 0;
	uint32_t n;
	struct header header;

	if (length < 8) {
		CHECK_EQ(done, -EINVAL);
		return;
	}
	for (n = 0; n < m->count && 8 + m->event[n].length <= length - at; n++) {
		CHECK(done >= (int64_t)(at + 8 + m->event[n].length));
		memcpy(&header, got + at, 8);
		CHECK_EQ(header.flags, 0);
		CHECK_EQ(header.sequence, m->event[n].sequence);
		if (m->event[n].length) {
			CHECK_EQ(got[at + 8], m->event[n].first);
			CHECK_EQ(got[at + 7 + m->event[n].length], m->event[n].first);
		}
		at += 8 + m->event[n].length;
	}
	if (n < m->count && !n) {
		CHECK_EQ(done, -EINVAL);
		return;
	}
	if (n == m->count && m->lost && length - at >= 8) {
		memcpy(&header, got + at, 8);
		CHECK_EQ(header.flags, IOMMU_VEVENTQ_FLAG_LOST_EVENTS);
		CHECK_EQ(header.sequence, m->lost_sequence);
		at += 8;
		m->lost = false;
	}
	CHECK_EQ(done, at);
	m->count -= n;
	memmove(m->event, m->event + n, m->count * sizeof m->event[0]);
}

static void test_against_a_model(uint64_t *random)
{
	static const uint32_t lengths[] = { 0, 1, 4, 16, 32, 33, UIOPF_EVENT_MOST };
	static struct model m;
	uint8_t data[UIOPF_EVENT_MOST], *got = malloc(1 << 16);
	struct uiopf_core *core = uiopf_core_new(0, 0, 0);
	struct uiopf_eventq_counts counts;
	uint32_t steps;

	CHECK(core && got);
	memset(&m, 0, sizeof m);
	m.depth = below(random, 3) ? 1 + below(random, 8) : 1 + below(random, MODEL_MOST);
	m.sequence = below(random, 2) ? 0 : LAST - below(random, 10);
	struct uiopf_eventq *q = uiopf_eventq_new(core, m.depth);
	CHECK(q);
	q->sequence = m.sequence;
	for (steps = 20 + below(random, 400); steps; steps--) {
		uint32_t burst = below(random, 2 * (m.depth < 64 ? m.depth : 64) + 1);

		while (burst--) {
			uint32_t length = lengths[below(random, 7)];
			uint8_t first = (uint8_t)next_random(random);

			memset(data, first, length);
			model_report(&m, first, length);
			CHECK_EQ(uiopf_eventq_report(q, data, length), 0);
		}
		CHECK_EQ(uiopf_eventq_poll(q), m.count || m.lost ? POLLIN | POLLRDNORM : 0);
		for (burst = below(random, 4); burst; burst--) {
			/* Exactly at an end, just before one, or anywhere. */
			uint64_t length = below(random, 4) ? below(random, 100) : below(random, 1 << 16);

			if (m.count && below(random, 2))
				length = 8 + m.event[0].length + below(random, 17) - 8;
			model_read(&m, got, length, uiopf_eventq_read(q, got, length));
		}
	}
	uiopf_eventq_counts(q, &counts);
	CHECK_EQ(counts.reported, counts.stored + counts.lost);
	CHECK_EQ(counts.stored - counts.delivered, m.count);
	CHECK_EQ(uiopf_core_free(core), -EBUSY);
	CHECK_EQ(uiopf_eventq_free(q), 0);
	CHECK_EQ(uiopf_core_free(core), 0);
	free(got);
}

/* ---- memory ---- */

static uint32_t chunks_left, chunks_got;

static void *limited(size_t size)
{
	if (!chunks_left)
		return NULL;
	chunks_left--;
	chunks_got++;
	return malloc(size);
}

static void test_without_memory_an_event_is_lost(void)
{
	struct uiopf_core *core = uiopf_core_new(0, 0, 0);
	struct uiopf_eventq *q = uiopf_eventq_new(core, 1 << 19);
	struct uiopf_eventq_counts counts;
	uint8_t data[12] = { 0 }, got[64];
	struct header header;
	uint32_t n = 0, i;

	CHECK(core && q);
	q->allocate = limited;
	chunks_left = 2;
	chunks_got = 0;
	while (uiopf_eventq_report(q, data, sizeof data) == 0)
		n++;
	CHECK_EQ(chunks_got, 2);	/* and one that every queue has */
	CHECK(n > 3 * 4096 / 32 && n < 3 * 4096 / 20);
	CHECK_EQ(uiopf_eventq_report(q, data, sizeof data), -ENOMEM);
	uiopf_eventq_counts(q, &counts);
	CHECK_EQ(counts.lost, 2);
	CHECK_EQ(counts.stored, n);
	for (i = 0; i < n; i++) {
		CHECK_EQ(uiopf_eventq_read(q, got, 20), 20);
		memcpy(&header, got, 8);
		CHECK_EQ(header.sequence, i);
	}
	CHECK_EQ(uiopf_eventq_read(q, got, 64), 8);
	memcpy(&header, got, 8);
	CHECK_EQ(header.flags, IOMMU_VEVENTQ_FLAG_LOST_EVENTS);
	CHECK_EQ(header.sequence, n + 1);
	/* One chunk was kept in reserve: a queue that is read goes on without memory. */
	for (i = 0; i < 10000; i++) {
		CHECK_EQ(uiopf_eventq_report(q, data, sizeof data), 0);
		CHECK_EQ(uiopf_eventq_report(q, data, sizeof data), 0);
		CHECK_EQ(uiopf_eventq_read(q, got, 64), 40);
	}
	CHECK_EQ(uiopf_eventq_report(q, data, UIOPF_EVENT_MOST + 1), -EINVAL);
	CHECK_EQ(uiopf_eventq_write(q, data, 0), -EINVAL);
	CHECK_EQ(q->file.ops->read(&q->file, got, 4, 1), -ESPIPE);
	CHECK_EQ(q->file.ops->read(&q->file, got, 4, -1), -EINVAL);
	CHECK_EQ(uiopf_eventq_free(q), 0);
	CHECK_EQ(uiopf_core_free(core), 0);
}

/* ---- between threads ---- */

#define REPORTERS 2

/* With a queue of one, long: an event that is being copied keeps its place, and copying shall take a while. */
struct payload { uint32_t reporter, n; uint8_t rest[UIOPF_EVENT_MOST - 8]; };

struct world {
	struct uiopf_core *core;
	struct uiopf_eventq *queue;
	enum uiopf_driver driver;
	uint64_t reports, random;
	uint32_t length;	/* of an event */
	uint32_t reporters_left, stop;
};

struct reporter {
	pthread_t thread;
	struct world *world;
	uint32_t number;
};

static void *report(void *arg)
{
	struct reporter *r = arg;
	struct world *w = r->world;
	uint64_t random = w->random + r->number, n;

	for (n = 0; n < w->reports; n++) {
		struct payload p = { .reporter = r->number, .n = (uint32_t)n };
		struct uiopf_eventq_counts counts;

		CHECK_EQ(uiopf_eventq_report(w->queue, &p, w->length), 0);
		uiopf_eventq_counts(w->queue, &counts);
		CHECK(counts.stored - counts.delivered <= w->queue->depth);
		if (below(&random, 64) == 0)
			sched_yield();
		/* At times the reader shall fall asleep, and be woken by the next. */
		if (below(&random, 4096) == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 300000 }, NULL);
	}
	__atomic_fetch_sub(&w->reporters_left, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Queues that come and go, which the worker's turn walks over, and the counts. */
static void *control(void *arg)
{
	struct world *w = arg;
	struct uiopf_eventq_counts counts;
	uint8_t got[64];

	while (!LOAD_ACQUIRE(&w->stop)) {
		struct uiopf_eventq *other = uiopf_eventq_new(w->core, 2);
		int fd;

		CHECK(other);
		fd = uiopf_core_install(w->core, uiopf_eventq_file(other));
		CHECK(fd >= 3);
		CHECK_EQ(uiopf_eventq_report(other, got, 0), 0);
		uiopf_eventq_counts(w->queue, &counts);
		CHECK_EQ(counts.reported, counts.stored + counts.lost);
		CHECK_EQ(uiopf_eventq_read(other, got, 64), 8);
		CHECK_EQ(uiopf_eventq_free(other), 0);	/* still installed: its descriptor is closed with it */
		sched_yield();
	}
	return NULL;
}

struct seen {
	uint64_t events, gaps, headers;
	uint32_t next;			/* the sequence number that would follow without a loss */
	uint32_t last[REPORTERS];
	bool any[REPORTERS];
};

static void look(struct seen *s, uint32_t length, const uint8_t *got, int64_t done)
{
	while (done > 0) {
		struct header header;
		struct payload p;

		memcpy(&header, got, 8);
		got += 8;
		done -= 8;
		if (header.flags) {
			s->headers++;
			/* It is lost itself. An event that comes while this read is under way may still follow. */
			s->gaps += header.sequence - s->next + 1;
			s->next = header.sequence + 1;
			continue;
		}
		s->gaps += header.sequence - s->next;
		s->next = header.sequence + 1;
		s->events++;
		memcpy(&p, got, length);
		got += length;
		done -= length;
		CHECK(p.reporter < REPORTERS);
		CHECK(!s->any[p.reporter] || p.n > s->last[p.reporter]);
		s->any[p.reporter] = true;
		s->last[p.reporter] = p.n;
	}
	CHECK_EQ(done, 0);
}

static void arm_poll(struct uiopf_client_ring *ring, struct uiopf_engine *engine, int fd)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_POLL_ADD, .fd = fd, .poll32_events = POLLIN, .len = 1 };

	CHECK(uiopf_client_push(ring, &sqe) >= 0);
	uiopf_client_submit(ring);
	CHECK(BEGUN(uiopf_enter(engine, 1, 0, IORING_ENTER_SQ_WAKEUP, UINT64_MAX)) >= 0);
}

/* Reads when the ring says so, until all reports are in and read. */
static void read_all(struct world *w, struct seen *seen, uint64_t *random)
{
	struct io_uring_params p = { .flags = w->driver == UIOPF_SQPOLL ? IORING_SETUP_SQPOLL : 0 };
	struct uiopf_client_ring *ring;
	struct uiopf_engine *engine;
	struct io_uring_cqe cqe[16];
	uint8_t got[4096];
	uint32_t i, n;
	bool all = false;
	double limit;
	int64_t done;
	int fd, rc;

	CHECK_EQ(uiopf_setup(w->core, 8, &p, &engine), 0);
	ring = uiopf_client_ring_map(uiopf_engine_fd(engine), &p, uiopf_engine_size(engine),
				     uiopf_engine_sqes_offset(engine));
	CHECK(ring);
	fd = uiopf_core_install(w->core, uiopf_eventq_file(w->queue));
	arm_poll(ring, engine, fd);
	while (!all) {
		rc = BEGUN(uiopf_enter(engine, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, 5000000));
		CHECK(rc >= 0 || rc == -ETIME);
		n = uiopf_client_reap(ring, cqe, 16);
		for (i = 0; i < n; i++) {
			CHECK(cqe[i].res & POLLIN);
			if (!(cqe[i].flags & IORING_CQE_F_MORE))
				arm_poll(ring, engine, fd);
		}
		all = LOAD_ACQUIRE(&w->reporters_left) == 0;	/* before the last look into the queue */
		while ((done = uiopf_eventq_read(w->queue, got, 8 + below(random, sizeof got - 8))) != 0) {
			CHECK(done > 0 || done == -EINVAL);	/* that was too short */
			look(seen, w->length, got, done > 0 ? done : 0);
		}
	}
	/* A poll that outran us ended with the room for its CQEs. One that nothing comes for stays, and holds the file. */
	limit = seconds_now() + 20;
	arm_poll(ring, engine, fd);
	while (!uiopf_engine_pending(engine)) {
		CHECK(seconds_now() < limit);
		uiopf_client_reap(ring, cqe, 16);
		sched_yield();
	}
	CHECK_EQ(uiopf_eventq_free(w->queue), -EBUSY);
	uiopf_engine_free(engine);
	uiopf_client_ring_unmap(ring);
	uiopf_core_uninstall(w->core, fd, NULL);
}

static void test_between_threads(enum uiopf_driver driver, uint32_t depth, uint64_t reports, uint64_t seed)
{
	struct world w = { .driver = driver, .reports = reports, .random = seed, .reporters_left = REPORTERS };
	struct reporter reporter[REPORTERS];
	struct uiopf_eventq_counts counts;
	struct seen seen = { 0 };
	pthread_t controller;
	uint64_t random = seed;
	uint32_t i;

	w.length = depth == 1 ? sizeof(struct payload) : 8;
	w.core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	w.queue = uiopf_eventq_new(w.core, depth);
	CHECK(w.core && w.queue);
	CHECK_EQ(uiopf_core_start(w.core, driver, -1, 50000), 0);	/* asleep, too, at times */
	CHECK_EQ(pthread_create(&controller, NULL, control, &w), 0);
	for (i = 0; i < REPORTERS; i++) {
		reporter[i] = (struct reporter){ .world = &w, .number = i };
		CHECK_EQ(pthread_create(&reporter[i].thread, NULL, report, &reporter[i]), 0);
	}
	read_all(&w, &seen, &random);
	for (i = 0; i < REPORTERS; i++)
		CHECK_EQ(pthread_join(reporter[i].thread, NULL), 0);
	STORE_RELEASE(&w.stop, 1);
	CHECK_EQ(pthread_join(controller, NULL), 0);

	uiopf_eventq_counts(w.queue, &counts);
	CHECK_EQ(counts.reported, REPORTERS * reports);
	CHECK_EQ(counts.delivered, seen.events);
	CHECK_EQ(counts.stored, seen.events);
	CHECK_EQ(counts.lost, seen.gaps);
	CHECK_EQ(seen.next, REPORTERS * reports);
	printf("depth %u: %" PRIu64 " read, %" PRIu64 " lost, %" PRIu64 " headers, %" PRIu64 " sleeps\n", depth, seen.events,
	       seen.gaps, seen.headers, uiopf_core_worker_sleeps(w.core));
	CHECK_EQ(uiopf_eventq_free(w.queue), 0);
	CHECK_EQ(uiopf_core_free(w.core), 0);
}

/* ---- one at a time: whoever sleeps is woken, or this never ends ---- */

struct turns {
	struct uiopf_eventq *queue;
	uint32_t read, reports;
};

static void *report_when_read(void *arg)
{
	struct turns *t = arg;
	uint32_t n;

	for (n = 0; n < t->reports; n++) {
		if (n % 8 == 0)	/* long enough for reader and worker to fall asleep */
			nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
		CHECK_EQ(uiopf_eventq_report(t->queue, &n, sizeof n), 0);
		while (LOAD_ACQUIRE(&t->read) != n + 1)
			sched_yield();
	}
	return NULL;
}

static void test_a_sleeping_reader_is_woken(enum uiopf_driver driver, uint32_t reports)
{
	struct io_uring_params p = { .flags = driver == UIOPF_SQPOLL ? IORING_SETUP_SQPOLL : 0 };
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	struct turns t = { .queue = uiopf_eventq_new(core, 1), .reports = reports };
	struct uiopf_client_ring *ring;
	struct uiopf_engine *engine;
	struct io_uring_cqe cqe[16];
	uint8_t got[64];
	pthread_t thread;
	int64_t done;
	int fd;

	CHECK_EQ(uiopf_core_start(core, driver, -1, 20000), 0);
	CHECK_EQ(uiopf_setup(core, 8, &p, &engine), 0);
	ring = uiopf_client_ring_map(uiopf_engine_fd(engine), &p, uiopf_engine_size(engine),
				     uiopf_engine_sqes_offset(engine));
	CHECK(ring);
	fd = uiopf_core_install(core, uiopf_eventq_file(t.queue));
	arm_poll(ring, engine, fd);
	CHECK_EQ(pthread_create(&thread, NULL, report_when_read, &t), 0);
	while (t.read < reports) {
		CHECK_EQ(BEGUN(uiopf_enter(engine, 0, 1, IORING_ENTER_GETEVENTS, UINT64_MAX)), 0);
		CHECK(uiopf_client_reap(ring, cqe, 16) > 0);
		CHECK(cqe[0].flags & IORING_CQE_F_MORE);
		while ((done = uiopf_eventq_read(t.queue, got, sizeof got)) > 0) {
			CHECK_EQ(done, 12);
			STORE_RELEASE(&t.read, t.read + 1);
		}
		CHECK_EQ(done, 0);
	}
	CHECK_EQ(pthread_join(thread, NULL), 0);
	uiopf_engine_free(engine);
	uiopf_client_ring_unmap(ring);
	CHECK_EQ(uiopf_eventq_free(t.queue), 0);
	CHECK_EQ(uiopf_core_free(core), 0);
}

int main(int argc, char **argv)
{
	uint64_t reports = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000, seed = seed_from(argc, argv, 2), random = seed;
	int i;

	for (i = 0; i < 100; i++)
		test_against_a_model(&random);
	test_without_memory_an_event_is_lost();
	test_a_sleeping_reader_is_woken(UIOPF_ENTER, 2000);
	test_a_sleeping_reader_is_woken(UIOPF_SQPOLL, 2000);
	test_between_threads(UIOPF_ENTER, 1, reports, seed);
	test_between_threads(UIOPF_ENTER, 8, reports, seed);
	test_between_threads(UIOPF_ENTER, 1 << 19, reports, seed);
	test_between_threads(UIOPF_SQPOLL, 8, reports, seed + 1);
	test_between_threads(UIOPF_SQPOLL, 1 << 19, reports, seed + 1);
	return 0;
}
