#include "designs/ring_client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "rings/engine.h"

#define GROUP_ID 0
#define RECEIVE_DATA 1	/* user_data of what is posted, and of the writes */
#define WRITE_DATA 2
#define MESSAGE (uint32_t)sizeof(struct iommu_hwpt_pgfault)

static struct io_uring_buf *buffer_ring(const struct uiopf_ring_client *c)
{
	return (struct io_uring_buf *)(void *)c->map;
}

static uint32_t power_of_two(uint32_t n)
{
	uint32_t p = 1;

	while (p < n)
		p *= 2;
	return p;
}

#define MOST_BATCHES 256u
#define BLOCK 128u	/* processors fetch lines in pairs */

/*
 * Where the buffers are: as many as fit in a block, so that few lines travel, and blocks that are filled one after the
 * other are in different pages. A core that reads in a row fetches by itself what comes next in the page, and takes from
 * the other core lines that it is about to write: that was a tenth of the worker's time. Returns the end of them all.
 */
static uint64_t place_buffers(struct uiopf_ring_client *c, uint64_t from, uint32_t size)
{
	const uint32_t block = (size + BLOCK - 1) / BLOCK * BLOCK, in_block = block / size;
	const uint32_t blocks = (c->buffers + in_block - 1) / in_block, spread = (uint32_t)(8 * UIOPF_PAGE) / block;
	const uint32_t places = power_of_two(blocks < spread ? spread : blocks);
	const uint32_t step = (uint32_t)(3 * UIOPF_PAGE) / block | 1;	/* odd, so that no two blocks meet */
	uint32_t id;

	for (id = 0; id < c->buffers; id++)
		c->buffer_at[id] = (uint32_t)from + id / in_block * step % places * block + id % in_block * size;
	return from + (uint64_t)places * block;
}

/* Gives buffer `id` back; the kernel sees it at the next publish_buffers(). */
static void provide(struct uiopf_channel *ch, uint16_t id)
{
	struct uiopf_ring_client *c = ch->state;
	struct io_uring_buf *buf = &buffer_ring(c)[c->tail++ & (c->buffers - 1)];

	buf->addr = (uint64_t)(uintptr_t)(c->map + c->buffer_at[id]);
	buf->len = c->buffer_size;
	buf->bid = id;
}

static void publish_buffers(struct uiopf_ring_client *c)
{
	STORE_RELEASE(&buffer_ring(c)->resv, c->tail);	/* pairs with uiopf_buffer_select */
}

const struct iommu_hwpt_pgfault *uiopf_ring_client_buffer(const struct uiopf_ring_client *c, uint32_t id)
{
	return (const void *)(c->map + c->buffer_at[id]);
}

void uiopf_ring_client_provide(struct uiopf_channel *ch, uint32_t id)
{
	provide(ch, (uint16_t)id);
	publish_buffers(ch->state);
}

static uint32_t answer_place(const struct uiopf_ring_client *c)
{
	return 8 * (c->posts->batch ? c->posts->batch : 1);
}

uint8_t *uiopf_ring_client_answers(const struct uiopf_ring_client *c, uint32_t slot)
{
	return c->map + c->answers_at + (uint64_t)answer_place(c) * slot;
}

/* How many SQEs the kernel has not taken. Not the unpublished ones: a call that was interrupted has published, and no more. */
static uint32_t not_taken(const struct uiopf_ring_client *c)
{
	return c->ring->sq_tail - LOAD_ACQUIRE(uiopf_client_word(c->ring, RING_SQ_HEAD));	/* pairs with uiopf_sq_commit */
}

/* Whether answers are among them, and not only reads that can wait for the next call. */
static bool holds_answers(const struct uiopf_ring_client *c)
{
	return not_taken(c) > c->queued;
}

/* Shows the kernel what was filled; how many SQEs that were. Without a polling worker nobody sees it before a call. */
static uint32_t publish(const struct uiopf_channel *ch)
{
	const struct uiopf_ring_client *c = ch->state;

	if (c->sqpoll && c->ring->sq_tail != c->ring->sq_published)
		uiopf_pass_time(ch->core, UIOPF_STORES);
	return uiopf_client_publish(c->ring);
}

/* One enter, as the client makes it. */
static int enter(struct uiopf_channel *ch, uint32_t min_complete, uint32_t flags, uint64_t timeout_ns)
{
	struct uiopf_ring_client *c = ch->state;

	publish(ch);
	c->queued = 0;
	return uiopf_enter(c->engine, not_taken(c), min_complete, flags, timeout_ns);
}

/* Wakes a worker that sleeps, so that it sees what was published. */
static void wake_if_needed(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;

	if (uiopf_client_needs_wakeup(c->ring)) {
		uiopf_system_call(ch, true);
		uiopf_enter(c->engine, 0, 0, IORING_ENTER_SQ_WAKEUP, 0);
	}
}

/* Shows the kernel what was queued; under sqpoll it may be asleep, and otherwise it is not looking. */
static int submit(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;

	if (!c->sqpoll) {
		uiopf_system_call(ch, true);
		return enter(ch, 0, 0, 0);
	}
	if (publish(ch))
		wake_if_needed(ch);
	return 0;
}

/* The same under sqpoll, where a worker that sleeps is woken by the call that waits, if one is to come. */
static void show(struct uiopf_channel *ch)
{
	if (uiopf_sleeps(ch) && !ch->asleep)
		publish(ch);
	else
		submit(ch);
}

static bool has_room(const struct uiopf_ring_client *c, uint32_t sqes)
{
	return c->ring->sq_entries - not_taken(c) >= sqes;
}

/*
 * The queue has no room for that many, and the kernel is made to take some: 0, or -errno, when there is no room yet. Its
 * worker may sleep, also when all was published long ago: answers are published without a call, and wake nobody. It may
 * stand still as well, for as long as another thread likes.
 */
static int make_room(struct uiopf_channel *ch, uint32_t sqes)
{
	struct uiopf_ring_client *c = ch->state;
	struct uiopf_patience patience = { 0 };
	int rc = 0;

	if (!c->sqpoll) {
		rc = submit(ch);
		return rc < 0 ? rc : has_room(c, sqes) ? 0 : -EAGAIN;
	}
	publish(ch);
	uiopf_system_call(ch, true);	/* one enter, with SQ_WAKEUP and SQ_WAIT */
	while (!has_room(c, sqes)) {
		if (uiopf_client_needs_wakeup(c->ring))
			uiopf_enter(c->engine, 0, 0, IORING_ENTER_SQ_WAKEUP, 0);
		/* Where no worker comes, or none before this thread lets go, we are the kernel. */
		if (ch->core->driver == UIOPF_INLINE || uiopf_in_control(ch->core))
			uiopf_core_consume(ch->core);
		rc = uiopf_core_wait_a_moment(ch->core, &patience);
		if (rc < 0 && !has_room(c, sqes))
			return rc;
	}
	return 0;
}

/* A free SQE; NULL with *rc = -errno: there is none, and none to be had for now. */
static struct io_uring_sqe *next_sqe(struct uiopf_channel *ch, uint32_t *slot, int *rc)
{
	struct uiopf_ring_client *c = ch->state;
	struct io_uring_sqe *sqe;

	while (unlikely(!(sqe = uiopf_client_get_sqe(c->ring, slot)))) {
		*rc = make_room(ch, 1);
		if (*rc < 0)
			break;
	}
	return sqe;
}

void uiopf_ring_client_read(const struct uiopf_ring_client *c, struct io_uring_sqe *sqe, uint8_t opcode)
{
	sqe->opcode = opcode;
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->fd = c->fd;
	sqe->off = (uint64_t)-1;
	sqe->buf_group = GROUP_ID;
}

static void take_place(struct uiopf_channel *ch, struct io_uring_sqe *sqe)
{
	struct uiopf_ring_client *c = ch->state;
	const uint32_t n = c->idle[--c->idle_count];

	sqe->addr = (uint64_t)(uintptr_t)(c->map + c->buffer_at[n]);
	sqe->len = ch->config.group_most * MESSAGE;
	sqe->user_data = UIOPF_PLACE_DATA | n;
}

bool uiopf_ring_client_take_place(struct uiopf_channel *ch, struct io_uring_sqe *sqe)
{
	const struct uiopf_ring_client *c = ch->state;

	if (unlikely(c->idle_count <= c->missing))
		return false;
	take_place(ch, sqe);
	return true;
}

const uint8_t *uiopf_ring_client_give_place(struct uiopf_ring_client *c, const struct io_uring_cqe *cqe)
{
	const uint32_t n = (uint32_t)cqe->user_data;

	c->idle[c->idle_count++] = n;
	return c->map + c->buffer_at[n];
}

void uiopf_ring_client_post_if_none(struct uiopf_ring_client *c)
{
	if (unlikely(c->idle_count == c->buffers))
		c->missing = c->buffers;
}

/* Queues the reads that are missing. 0 or -errno. */
static int queue_reads(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;
	struct io_uring_sqe *sqe[UIOPF_MOST_POSTED];
	uint32_t slot, i;
	int rc;

	for (; c->missing; c->missing--) {
		/* Room for all of a chain first: one that is submitted in two parts is two chains. */
		while (!has_room(c, c->posts->sqes)) {
			rc = make_room(ch, c->posts->sqes);
			if (rc < 0)
				return rc;
		}
		for (i = 0; i < c->posts->sqes; i++) {
			sqe[i] = uiopf_client_get_sqe(c->ring, &slot);
			sqe[i]->user_data = RECEIVE_DATA;
		}
		if (c->posts->own_places)
			take_place(ch, sqe[0]);
		c->posts->fill(c, sqe);
		c->queued += c->posts->sqes;
	}
	return 0;
}

/* Posts the reads that are missing, by a call. 0 or -errno. */
static int arm(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;
	int rc;

	if (likely(!c->missing))
		return 0;
	rc = queue_reads(ch);
	return rc < 0 ? rc : submit(ch);
}

int uiopf_ring_client_arm(struct uiopf_channel *ch)
{
	return arm(ch);
}

/* The same after a receive, where one-shots go along with the next call, unless nobody awake is to make it. */
static int arm_after_receive(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;
	int rc;

	if (likely(!c->missing))
		return 0;
	if (!c->posts->one_shot || (!c->sqpoll && ch->asleep))
		return arm(ch);
	rc = queue_reads(ch);
	if (c->sqpoll)
		show(ch);
	return rc;
}

/* ---- the client's half ---- */

#define AHEAD 6u	/* completions: the time of so many covers the way of a line from another core */

static void prefetch_message(const struct uiopf_ring_client *c, uint32_t i)
{
	uint32_t flags = uiopf_client_cqe(c->ring, i)->flags;

	if (flags & IORING_CQE_F_BUFFER)
		__builtin_prefetch(c->map + c->buffer_at[flags >> IORING_CQE_BUFFER_SHIFT]);
}

/*
 * How many completions there are, or -errno. Without a worker a spinning client must enter: for its answers to leave, and
 * for completions to be made. A client that sleeps enters when it waits. One that looks again instead is polling, whatever
 * it said when it was made.
 */
static inline int look(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;
	uint32_t ready = uiopf_client_ready(c->ring);
	int rc;

	if (!c->sqpoll && (!uiopf_sleeps(ch) || c->found_none) && (!ready || holds_answers(c))) {
		const bool submits = not_taken(c);

		if (submits)
			uiopf_system_call(ch, true);
		rc = enter(ch, 0, IORING_ENTER_GETEVENTS, 0);
		ready = uiopf_client_ready(c->ring);
		if (!submits)
			uiopf_system_call(ch, ready);
		if (rc < 0)
			return rc;
	}
	return (int)ready;
}

bool uiopf_ring_client_is_answer(const struct io_uring_cqe *cqe)
{
	return cqe->user_data == WRITE_DATA;
}

/* Whatever ended, and why: it is posted again. */
static inline void note_end(struct uiopf_channel *ch, const struct io_uring_cqe *cqe)
{
	struct uiopf_ring_client *c = ch->state;

	c->missing++;
	ch->cost.ends += !c->posts->one_shot || cqe->res <= 0;
}

int uiopf_ring_client_look(struct uiopf_channel *ch)
{
	return look(ch);
}

void uiopf_ring_client_take(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;
	const uint32_t ready = uiopf_client_ready(c->ring);
	uint32_t i;

	for (i = 0; i < ready; i++) {
		const struct io_uring_cqe *cqe = uiopf_client_cqe(c->ring, i);

		if (!(cqe->flags & IORING_CQE_F_MORE))
			note_end(ch, cqe);
	}
	if (ready)
		uiopf_client_seen(c->ring, ready);
}

void uiopf_ring_client_note_end(struct uiopf_channel *ch, const struct io_uring_cqe *cqe)
{
	note_end(ch, cqe);
}

int uiopf_ring_client_taken(struct uiopf_channel *ch, uint32_t taken)
{
	struct uiopf_ring_client *c = ch->state;

	if (taken)
		uiopf_client_seen(c->ring, taken);
	c->found_none = !taken;
	return arm_after_receive(ch);
}

int uiopf_ring_client_receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct uiopf_ring_client *c = ch->state;
	uint32_t ready, taken = 0, n = 0, i;
	int rc = look(ch);

	if (unlikely(rc < 0))
		return rc;
	ready = (uint32_t)rc;
	/* A lone completion's message would be asked for when the completion has arrived. */
	if (ready)
		__builtin_prefetch(c->map + c->buffer_at[c->next_id]);
	for (i = 0; i < AHEAD && i < ready; i++)
		prefetch_message(c, i);
	for (; taken < ready && most - n >= ch->config.group_most; taken++) {
		const struct io_uring_cqe *cqe = uiopf_client_cqe(c->ring, taken);
		uint32_t flags = cqe->flags;

		if (ready - taken > AHEAD)
			prefetch_message(c, taken + AHEAD);

		if (cqe->user_data == WRITE_DATA) {
			ch->cost.answer_errors++;	/* only a failed write completes */
			continue;
		}
		if (flags & IORING_CQE_F_BUFFER) {
			uint16_t id = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);

			if (likely(cqe->res == (int32_t)MESSAGE)) {	/* a copy of known size is a few loads and stores */
				memcpy(&out[n++], c->map + c->buffer_at[id], MESSAGE);
			} else if (cqe->res > 0) {
				memcpy(&out[n], c->map + c->buffer_at[id], (size_t)cqe->res);
				n += (uint32_t)cqe->res / MESSAGE;
			}
			provide(ch, id);
			c->next_id = (id + 1u) & (c->buffers - 1);
		}
		if (!(flags & IORING_CQE_F_MORE))
			note_end(ch, cqe);
	}
	if (taken) {
		uiopf_client_seen(c->ring, taken);
		publish_buffers(c);
	}
	c->found_none = !taken;
	rc = arm_after_receive(ch);
	return n ? (int)n : rc < 0 ? rc : 0;
}

int uiopf_ring_client_answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	struct uiopf_ring_client *c = ch->state;
	uint32_t i, slot;
	int rc = 0;

	for (i = 0; i < n; i++) {
		struct io_uring_sqe *sqe = next_sqe(ch, &slot, &rc);
		uint8_t *at;

		if (unlikely(!sqe))
			return i ? (int)i : rc;
		at = c->map + c->answers_at + 8ull * slot;
		memcpy(at, &responses[i], sizeof responses[i]);
		sqe->opcode = IORING_OP_WRITE;
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
		sqe->fd = c->fd;
		sqe->addr = (uint64_t)(uintptr_t)at;
		sqe->len = sizeof responses[i];
		sqe->user_data = WRITE_DATA;
	}
	if (c->sqpoll)
		show(ch);
	return (int)n;
}

struct io_uring_sqe *uiopf_ring_client_answer_sqe(struct uiopf_channel *ch, uint32_t *slot, int *rc)
{
	struct io_uring_sqe *sqe = next_sqe(ch, slot, rc);

	if (likely(sqe))
		sqe->user_data = WRITE_DATA;
	return sqe;
}

void uiopf_ring_client_show(struct uiopf_channel *ch)
{
	const struct uiopf_ring_client *c = ch->state;

	if (c->sqpoll)
		show(ch);
}

/* Under sqpoll what is answered while the client sleeps is submitted at once: it takes no call, or one for a worker asleep. */
bool uiopf_ring_client_holds(const struct uiopf_channel *ch)
{
	const struct uiopf_ring_client *c = ch->state;

	return !c->sqpoll && holds_answers(c);
}

int uiopf_ring_client_flush(struct uiopf_channel *ch)
{
	const struct uiopf_ring_client *c = ch->state;
	int rc;

	if (c->sqpoll) {
		publish(ch);
		wake_if_needed(ch);
		return 0;
	}
	rc = holds_answers(c) ? submit(ch) : 0;
	return rc < 0 ? rc : 0;
}

/* Under sqpoll, sleeping is on the registered eventfd, which is kept quiet while the client is awake. */
static int prepare_sleep_sqpoll(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;
	int rc;

	rc = arm(ch);
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(!c->told)) {	/* not before: who never sleeps so costs the worker no barrier */
		rc = uiopf_register(c->engine, IORING_REGISTER_EVENTFD, &ch->eventfd, 1);
		if (rc < 0)
			return rc;
		c->told = true;
	}
	wake_if_needed(ch);
	/* Pairs with uiopf_publish_cqes: the worker looks at the flag after it has moved the tail. */
	STORE_SEQ(uiopf_client_word(c->ring, RING_CQ_FLAGS), 0);
	c->ring->cq_tail_seen = LOAD_SEQ(uiopf_client_word(c->ring, RING_CQ_TAIL));
	return c->ring->cq_tail_seen != c->ring->cq_head;
}

int uiopf_ring_client_prepare_sleep(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;
	int rc;

	if (c->sqpoll)
		return prepare_sleep_sqpoll(ch);
	c->found_none = false;
	rc = arm(ch);
	if (rc < 0)
		return rc;
	uiopf_sleeper_list(ch->core, &ch->sleeper);
	uiopf_system_call(ch, true);
	rc = enter(ch, 0, IORING_ENTER_GETEVENTS, 0);
	if (rc >= 0 && !uiopf_client_ready(c->ring))
		return 0;
	uiopf_sleeper_unlist(ch->core, &ch->sleeper);
	return rc < 0 ? rc : 1;
}

void uiopf_ring_client_awake(struct uiopf_channel *ch, bool told)
{
	struct uiopf_ring_client *c = ch->state;

	if (!c->sqpoll) {
		uiopf_sleeper_unlist(ch->core, &ch->sleeper);
		return;
	}
	STORE_SEQ(uiopf_client_word(c->ring, RING_CQ_FLAGS), IORING_CQ_EVENTFD_DISABLED);
	if (told) {	/* the registered eventfd's counter was read: a real call */
		ch->cost.system_calls++;
		ch->cost.bytes_copied += sizeof(uint64_t);
	}
}

static int wait_inline(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;
	uint32_t turns = 0;

	/* Receive enters: it takes the answers along, and what has been reported before this call. */
	if (!c->sqpoll && (holds_answers(c) || uiopf_poll_readable(ch)))
		return 1;
	while (!uiopf_client_ready(c->ring)) {
		int did = uiopf_core_produce(ch->core), consumed;

		if (did < 0)
			return did;
		if (unlikely(turns++ >= UIOPF_TURNS_OF_A_CALL))
			return -EINTR;
		if (c->sqpoll) {
			consumed = uiopf_core_consume(ch->core);
			if (consumed <= 0 && !did)
				return consumed;
		} else if (did) {
			return 1;	/* receive enters */
		} else {
			return 0;
		}
	}
	return 1;
}

int uiopf_ring_client_wait(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	struct uiopf_ring_client *c = ch->state;
	const bool is_inline = ch->core->driver == UIOPF_INLINE;
	bool sleeps;
	int rc = arm(ch);

	c->found_none = false;
	if (unlikely(rc < 0))
		return rc;
	if (c->sqpoll || !uiopf_sleeps(ch)) {
		if (is_inline)
			return wait_inline(ch);
		if (!uiopf_sleeps(ch) || uiopf_client_ready(c->ring))
			return 1;
		/* One call both wakes the worker, if it sleeps, and waits. */
		uiopf_system_call(ch, true);
		publish(ch);
		rc = uiopf_enter(c->engine, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG |
				 (uiopf_client_needs_wakeup(c->ring) ? IORING_ENTER_SQ_WAKEUP : 0), timeout_ns);
		if (uiopf_client_ready(c->ring))
			return 1;
		return rc == -EINTR ? rc : 0;
	}
	/* One call both submits the answers and waits. */
	if (uiopf_client_ready(c->ring) && !holds_answers(c))
		return 1;
	uiopf_system_call(ch, true);
	sleeps = is_inline && !uiopf_client_ready(c->ring) && !uiopf_poll_readable(ch);
	rc = enter(ch, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, timeout_ns);
	if (uiopf_client_ready(c->ring)) {
		/* Beside a worker the ring wakes the waiter, and counts that (waiters.c). Inline the waiter is the worker. */
		ch->cost.wakeups += sleeps;
		return 1;
	}
	return rc == -EINTR ? rc : 0;
}

/* ---- both halves' making and end ---- */

void uiopf_ring_client_close(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;

	uiopf_client_ring_unmap(c->ring);
	if (c->engine)
		uiopf_engine_free(c->engine);
	if (c->fd >= 0)
		uiopf_core_uninstall(ch->core, c->fd, uiopf_faultq_file(ch->queue));
	if (c->map)
		munmap(c->map, c->arena.size);
	uiopf_region_close(&c->arena);
	free(c->buffer_at);
	free(c->idle);
	free(c);
}

/* Maps the client's memory a second time, for the client, who gives the kernel a window onto it. */
static int open_memory(struct uiopf_channel *ch, uint64_t size)
{
	struct uiopf_ring_client *c = ch->state;
	int rc = uiopf_region_open(&c->arena, "uiopf-buffers", size);

	if (rc < 0)
		return rc;
	c->map = uiopf_region_map_again(&c->arena);
	if (!c->map)
		return -ENOMEM;
	return uiopf_engine_add_window(c->engine, (uint64_t)(uintptr_t)c->map, c->arena.size, c->arena.map);
}

/* A place for each that is posted. */
static int open_places(struct uiopf_channel *ch)
{
	struct uiopf_ring_client *c = ch->state;

	c->buffers = c->missing;
	c->buffer_at = malloc(c->buffers * sizeof *c->buffer_at);
	c->idle = malloc(c->buffers * sizeof *c->idle);
	if (!c->buffer_at || !c->idle)
		return -ENOMEM;
	for (c->idle_count = 0; c->idle_count < c->buffers; c->idle_count++)
		c->idle[c->idle_count] = c->buffers - 1 - c->idle_count;
	return open_memory(ch, place_buffers(c, 0, ch->config.group_most * MESSAGE));
}

/* The client's arena, and the kernel's window onto it. */
static int open_arena(struct uiopf_channel *ch, uint32_t sq_entries)
{
	struct uiopf_ring_client *c = ch->state;
	struct io_uring_buf_reg reg = { .bgid = GROUP_ID };
	uint64_t ring_size;
	uint32_t id;
	int rc;

	c->buffers = power_of_two(2 * ch->config.in_flight < 64 ? 64 : 2 * ch->config.in_flight);
	c->buffer_size = ch->config.group_most * MESSAGE;
	if (c->posts->batch) {	/* fewer and larger ones: what waits while one is filled goes along in it */
		c->buffers = c->buffers > MOST_BATCHES ? MOST_BATCHES : c->buffers;
		if (c->buffer_size < c->posts->batch * MESSAGE)
			c->buffer_size = c->posts->batch * MESSAGE;
	}
	c->buffer_at = malloc(c->buffers * sizeof *c->buffer_at);
	if (!c->buffer_at)
		return -ENOMEM;
	ring_size = (c->buffers * sizeof(struct io_uring_buf) + UIOPF_PAGE - 1) / UIOPF_PAGE * UIOPF_PAGE;
	c->answers_at = place_buffers(c, ring_size, c->buffer_size);
	rc = open_memory(ch, c->answers_at + (uint64_t)answer_place(c) * sq_entries);
	if (rc < 0)
		return rc;
	reg.ring_addr = (uint64_t)(uintptr_t)c->map;
	reg.ring_entries = c->buffers;
	for (id = 0; id < c->buffers; id++)
		provide(ch, (uint16_t)id);
	publish_buffers(c);
	return uiopf_register(c->engine, IORING_REGISTER_PBUF_RING, &reg, 1);
}

#define MOST_ENTRIES 16384u	/* a ring of io_uring has SQEs for this many with four times as many CQEs */
#define MOST_CQES (4 * MOST_ENTRIES)

/* Four for each SQE; more where a group takes several, so that all that are in flight have room. 0: not even one has. */
static uint32_t cqes_for(const struct uiopf_channel *ch, const struct uiopf_ring_posts *posts, uint32_t sq_entries)
{
	const uint64_t a_group = (uint64_t)posts->cqes_a_fault * ch->config.group_most, all = a_group * ch->config.in_flight;

	if (a_group > MOST_CQES)
		return 0;
	return all <= 4 * sq_entries ? 4 * sq_entries : all >= MOST_CQES ? MOST_CQES : power_of_two((uint32_t)all);
}

static int open_client(struct uiopf_channel *ch, const struct uiopf_ring_posts *posts)
{
	struct io_uring_params p = { .flags = IORING_SETUP_NO_SQARRAY | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL };
	struct uiopf_ring_client *c = calloc(1, sizeof *c);
	uint32_t entries;
	int rc;

	if (!c)
		return -ENOMEM;
	ch->state = c;
	c->posts = posts;
	c->fd = c->arena.fd = -1;
	c->sqpoll = ch->core->driver == UIOPF_SQPOLL;
	p.flags |= posts->setup_flags | (c->sqpoll ? IORING_SETUP_SQPOLL : 0);
	rc = -EINVAL;
	if (ch->config.in_flight > MOST_ENTRIES)
		goto failed;
	c->missing = posts->ahead < ch->config.in_flight ? posts->ahead : ch->config.in_flight;
	/* One-shots are queued with the answers to what they have read, and one call submits both. */
	entries = ch->config.in_flight + (posts->one_shot ? c->missing * posts->sqes : 0);
	entries = power_of_two(entries < 64 ? 64 : entries > MOST_ENTRIES ? MOST_ENTRIES : entries);
	if (ch->config.group_most > UINT32_MAX / 16 / MESSAGE / entries)	/* the arena has less than 4 GiB */
		goto failed;
	p.cq_entries = cqes_for(ch, posts, entries);
	if (!p.cq_entries)
		goto failed;
	rc = uiopf_setup(ch->core, entries, &p, &c->engine);
	if (rc < 0)
		goto failed;
	if (c->engine->kernel < posts->kernel)
		c->engine->kernel = posts->kernel;	/* nothing has been submitted yet */
	rc = c->fd = uiopf_core_install(ch->core, uiopf_faultq_file(ch->queue));
	if (rc < 0)
		goto failed;
	rc = -ENOMEM;
	c->ring = uiopf_client_ring_map(uiopf_engine_fd(c->engine), &p, uiopf_engine_size(c->engine),
					uiopf_engine_sqes_offset(c->engine));
	if (!c->ring)
		goto failed;
	rc = posts->no_buffers ? 0 : posts->own_places ? open_places(ch) : open_arena(ch, entries);
	if (rc < 0)
		goto failed;
	rc = arm(ch);
	if (rc < 0)
		goto failed;
	memset(&ch->cost, 0, sizeof ch->cost);	/* what follows is counted, not this */
	return 0;
failed:
	uiopf_ring_client_close(ch);
	return rc;
}

int uiopf_ring_client_open(struct uiopf_channel *ch, const struct uiopf_ring_posts *posts)
{
	struct uiopf_file *file = uiopf_faultq_file(ch->queue);
	const bool was_nonblock = file->mode & UIOPF_FILE_NONBLOCK;
	int rc;

	if (!posts->nonblock)
		return open_client(ch, posts);
	uiopf_core_set_nonblock(ch->core, file, true);
	rc = open_client(ch, posts);
	if (rc < 0)
		uiopf_core_set_nonblock(ch->core, file, was_nonblock);
	return rc;
}

void uiopf_ring_client_kernel_cost(struct uiopf_channel *ch, struct uiopf_cost *cost)
{
	const struct uiopf_ring_client *c = ch->state;

	cost->wakeups += c->engine->cost.wakeups;
	cost->bytes_copied += c->engine->cost.bytes_copied;
	cost->punts += c->engine->cost.punts;
	cost->sqes += c->engine->cost.sqes;
	cost->cqes += c->engine->cost.cqes;
}
