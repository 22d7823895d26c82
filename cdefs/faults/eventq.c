#include "faults/eventq.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define HEADER ((uint64_t)sizeof(struct iommufd_vevent_header))
#define ROOM ((uint32_t)(UIOPF_EVENT_CHUNK - sizeof(struct uiopf_event_chunk)))
#define LAST_SEQUENCE 0x7fffffffu

_Static_assert(ROOM % 8 == 0, "a chunk is filled by whole words");
_Static_assert(sizeof(struct uiopf_event) + UIOPF_EVENT_MOST <= ROOM, "the largest event fits into a chunk");

static uint32_t size_of(uint32_t length)
{
	return (uint32_t)(sizeof(struct uiopf_event) + length + 7) & ~7u;
}

/* ---- the list; the lock is held ---- */

static uint32_t next_sequence(struct uiopf_eventq *q)
{
	uint32_t sequence = q->sequence;

	q->sequence = (sequence + 1) & LAST_SEQUENCE;
	return sequence;
}

/* The header is one and the same: it moves to the end, with the number of the newest loss. */
static void lose(struct uiopf_eventq *q)
{
	q->lost_listed = true;
	q->lost_sequence = next_sequence(q);
	q->counts.lost++;
}

/* False: there is no memory for it at hand. */
static bool store(struct uiopf_eventq *q, const void *data, uint32_t length)
{
	struct uiopf_event_chunk *chunk = q->last;
	struct uiopf_event *event;

	if (size_of(length) > ROOM - chunk->filled) {
		chunk = q->spares;
		if (!chunk)
			return false;
		q->spares = chunk->next;
		chunk->next = NULL;
		chunk->filled = chunk->read = 0;
		q->last = q->last->next = chunk;
	}
	event = (struct uiopf_event *)(void *)(chunk->bytes + chunk->filled);
	chunk->filled += size_of(length);
	event->sequence = next_sequence(q);
	event->length = length;
	memcpy(event->data, data, length);
	q->lost_listed = false;
	q->listed++;
	q->held++;
	q->counts.stored++;
	return true;
}

/* Takes the chunk that is read to its end off; what is to be freed then. */
static struct uiopf_event_chunk *drop_first(struct uiopf_eventq *q)
{
	struct uiopf_event_chunk *chunk = q->first;

	if (chunk->read != chunk->filled)
		return NULL;
	if (chunk == q->last) {
		chunk->filled = chunk->read = 0;
		return NULL;
	}
	q->first = chunk->next;
	if (q->spares)
		return chunk;
	chunk->next = NULL;
	q->spares = chunk;
	return NULL;
}

/* ---- reports ---- */

int uiopf_eventq_report(struct uiopf_eventq *q, const void *data, uint32_t length)
{
	struct uiopf_core *core = q->core;
	int rc = 0;

	if (length > UIOPF_EVENT_MOST)
		return -EINVAL;
	pthread_mutex_lock(&q->lock);
	for (;;) {
		struct uiopf_event_chunk *chunk;

		if (q->held == q->depth) {
			lose(q);
			break;
		}
		if (store(q, data, length))
			break;
		pthread_mutex_unlock(&q->lock);
		chunk = q->allocate(UIOPF_EVENT_CHUNK);
		pthread_mutex_lock(&q->lock);
		if (!chunk) {
			lose(q);
			rc = -ENOMEM;
			break;
		}
		chunk->next = q->spares;	/* another report may be quicker: then there is one more in reserve */
		q->spares = chunk;
	}
	q->counts.reported++;
	/*
	 * Pairs with the consumer's look at `published`. Sequentially consistent, so that either we see the sleepers
	 * below, or they see the report when they look once more before they sleep.
	 */
	STORE_SEQ(&q->published, q->published + 1);
	pthread_mutex_unlock(&q->lock);
	if (LOAD_SEQ(&core->sleepers_count))
		uiopf_core_wake_sleepers(core, &q->file);
	if (READ_ONCE(&core->sqpoll_runs))	/* else the worker has nothing to do with readers */
		uiopf_core_wake_worker(core);
	return rc;
}

/* ---- reading; the consumer's side ---- */

struct taken {
	const struct uiopf_event *event;	/* NULL: the header of lost events */
	uint32_t sequence;
};

static bool take(struct uiopf_eventq *q, struct taken *taken)
{
	bool any = true;

	pthread_mutex_lock(&q->lock);
	if (q->listed) {
		taken->event = (const struct uiopf_event *)(const void *)(q->first->bytes + q->first->read);
		taken->sequence = taken->event->sequence;
		q->first->read += size_of(taken->event->length);
		q->listed--;
	} else if (q->lost_listed) {
		taken->event = NULL;
		taken->sequence = q->lost_sequence;
		q->lost_listed = false;
	} else {
		any = false;
	}
	pthread_mutex_unlock(&q->lock);
	return any;
}

static void put_back(struct uiopf_eventq *q, const struct taken *taken)
{
	pthread_mutex_lock(&q->lock);
	if (taken->event) {
		q->first->read -= size_of(taken->event->length);
		q->listed++;
	} else if (!q->listed) {
		/* What has come since says what the header said; if that is a loss, the header is there again already. */
		q->lost_listed = true;
	}
	pthread_mutex_unlock(&q->lock);
}

static void finish(struct uiopf_eventq *q, const struct taken *taken)
{
	struct uiopf_event_chunk *chunk;

	if (!taken->event)
		return;
	pthread_mutex_lock(&q->lock);
	q->held--;
	q->counts.delivered++;
	chunk = drop_first(q);
	pthread_mutex_unlock(&q->lock);
	free(chunk);
}

/* Whole records, each a header and, but for lost events, the event's data. */
static int64_t read_events(struct uiopf_eventq *q, uint8_t *to, uint64_t length)
{
	struct taken taken;
	uint64_t done = 0;

	if (length < HEADER)	/* also when there is nothing to read */
		return -EINVAL;
	while (take(q, &taken)) {
		uint32_t data_length = taken.event ? taken.event->length : 0;
		struct iommufd_vevent_header header = {
			.flags = taken.event ? 0 : IOMMU_VEVENTQ_FLAG_LOST_EVENTS,
			.sequence = taken.sequence,
		};

		if (HEADER + data_length > length - done) {
			put_back(q, &taken);
			return done ? (int64_t)done : -EINVAL;
		}
		uiopf_copy_to_client(to + done, &header, sizeof header);
		if (taken.event)
			uiopf_copy_to_client(to + done + HEADER, taken.event->data, data_length);
		done += HEADER + data_length;
		finish(q, &taken);
	}
	return (int64_t)done;
}

/* ---- the file ---- */

static struct uiopf_eventq *queue_of(struct uiopf_file *file)
{
	return container_of(file, struct uiopf_eventq, file);
}

static int64_t file_read(struct uiopf_file *file, uint8_t *to, uint64_t length, int64_t position)
{
	if (position != 0 && position != -1)
		return -ESPIPE;
	return read_events(queue_of(file), to, length);
}

/* The file is open for writing, but has no such method. */
static int64_t file_write(struct uiopf_file *file, const uint8_t *from, uint64_t length, int64_t position)
{
	(void)file;
	(void)from;
	(void)length;
	(void)position;
	return -EINVAL;
}

static uint32_t file_poll(struct uiopf_file *file)
{
	struct uiopf_eventq *q = queue_of(file);
	bool any;

	pthread_mutex_lock(&q->lock);
	any = q->listed || q->lost_listed;
	pthread_mutex_unlock(&q->lock);
	return any ? POLLIN | POLLRDNORM : 0;
}

static const struct uiopf_file_ops eventq_file_ops = {
	.read = file_read,
	.write = file_write,
	.poll = file_poll,
	.arm = uiopf_file_arm,
	.cancel = uiopf_file_cancel,
};

struct uiopf_file *uiopf_eventq_file(struct uiopf_eventq *q)
{
	return &q->file;
}

/* ---- the system calls on the fd ---- */

int64_t uiopf_eventq_read(struct uiopf_eventq *q, void *to, uint64_t length)
{
	int64_t done;

	uiopf_consumer_begin(q->core);
	done = file_read(&q->file, to, length, 0);
	uiopf_consumer_end(q->core);
	return done;
}

int64_t uiopf_eventq_write(struct uiopf_eventq *q, const void *from, uint64_t length)
{
	return file_write(&q->file, from, length, 0);
}

uint32_t uiopf_eventq_poll(struct uiopf_eventq *q)
{
	return file_poll(&q->file);
}

void uiopf_eventq_counts(struct uiopf_eventq *q, struct uiopf_eventq_counts *counts)
{
	pthread_mutex_lock(&q->lock);
	*counts = q->counts;
	pthread_mutex_unlock(&q->lock);
}

/* ---- in the core's list ---- */

static uint32_t queue_sync(struct uiopf_queue *queue)
{
	struct uiopf_eventq *q = container_of(queue, struct uiopf_eventq, queue);
	/* Pairs with the store in uiopf_eventq_report(). */
	uint32_t published = LOAD_ACQUIRE(&q->published), came = published - q->woken;

	if (came) {
		/* Linux wakes for every report, lost ones too, without saying what for. More than two make no difference. */
		q->woken = published;
		uiopf_file_wake(&q->file, 0);
		if (came > 1)
			uiopf_file_wake(&q->file, 0);
	}
	return came;
}

static const struct uiopf_queue_ops queue_ops = {
	.sync = queue_sync,	/* a report shows itself, from whatever thread */
};

/* ---- quiescent ---- */

static void free_chunks(struct uiopf_event_chunk *chunk)
{
	struct uiopf_event_chunk *next;

	for (; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
}

static void free_queue(struct uiopf_eventq *q)
{
	struct uiopf_core *core = q->core;

	free_chunks(q->first);
	free_chunks(q->spares);
	if (!core->abandoned)
		pthread_mutex_destroy(&q->lock);
	free(q);
	uiopf_let_go(&core->lifetime);
}

/* As a fault queue's. */
static void closed_release(struct uiopf_file *file)
{
	free_queue(queue_of(file));
}

static const struct uiopf_file_ops closed_ops = {
	.read = file_read,
	.write = file_write,
	.poll = file_poll,
	.arm = uiopf_file_arm,
	.cancel = uiopf_file_cancel,
	.release = closed_release,
};

static void end_queue(struct uiopf_lifetime *lifetime)
{
	struct uiopf_eventq *q = container_of(lifetime, struct uiopf_eventq, lifetime);
	struct uiopf_core *core = q->core;

	if (core->torn)
		return;
	if (core->abandoned) {
		free_queue(q);
		return;
	}
	uiopf_hold(&core->lifetime);
	uiopf_control_begin(core);
	uiopf_core_remove_queue(core, &q->queue);
	uiopf_core_forget_file(core, &q->file);
	q->file.ops = &closed_ops;
	while (!q->file.users && q->file.waits)
		uiopf_file_cancel(&q->file, q->file.waits);
	q->file.users++;
	uiopf_file_put(&q->file);
	uiopf_control_end(core);
	uiopf_let_go(&core->lifetime);
}

struct uiopf_eventq *uiopf_eventq_new(struct uiopf_core *core, uint32_t depth)
{
	struct uiopf_eventq *q = aligned_alloc(128, sizeof *q);
	pthread_mutexattr_t adaptive;

	if (!q)
		return NULL;
	memset(q, 0, sizeof *q);
	q->lifetime = (struct uiopf_lifetime){ 1, end_queue };
	q->core = core;
	q->file.ops = &eventq_file_ops;
	q->file.mode = UIOPF_FILE_READ | UIOPF_FILE_WRITE | UIOPF_FILE_POLL;
	q->depth = depth;
	q->allocate = malloc;
	q->first = q->last = calloc(1, UIOPF_EVENT_CHUNK);
	if (!q->first) {
		free(q);
		return NULL;
	}
	pthread_mutexattr_init(&adaptive);
	pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&q->lock, &adaptive);
	pthread_mutexattr_destroy(&adaptive);
	uiopf_control_begin(core);
	q->queue.ops = &queue_ops;
	uiopf_core_add_queue(core, &q->queue);
	uiopf_hold(&core->lifetime);
	uiopf_control_end(core);
	return q;
}

int uiopf_eventq_busy(struct uiopf_eventq *q)
{
	int rc;

	uiopf_control_begin(q->core);
	rc = q->file.users || q->file.waits ? -EBUSY : 0;
	uiopf_control_end(q->core);
	return rc;
}

int uiopf_eventq_free(struct uiopf_eventq *q)
{
	int rc = uiopf_eventq_busy(q);

	if (rc == 0)
		uiopf_let_go(&q->lifetime);
	return rc;
}

void uiopf_eventq_let_go(struct uiopf_eventq *q)
{
	if (q)
		uiopf_let_go(&q->lifetime);
}
