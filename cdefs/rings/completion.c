/*
 * Ring publication and sleep: the order of the steps by which CQEs become visible, and why nobody sleeps over one.
 * Which word is written by whom, and which access pairs with which, is the table in
 * docs/explanation/memory-and-trust.md.
 *
 *  1. Whoever has the consumer's side makes CQEs: the worker under `sqpoll`, otherwise a system call, which holds the
 *     consumer lock. It alone writes the CQ's tail. The client writes the CQ's head, and EVENTFD_DISABLED.
 *  2. uiopf_publish_cqes() stores the tail once for a batch of CQEs. The store releases: a client that loads the tail
 *     with acquire finds the CQEs, and the buffers that they name, complete.
 *  3. Two kinds of clients sleep for want of CQEs: a thread in enter (waiters.c), and one that polls the eventfd that
 *     it registered. Each first says so (it lists itself; it clears EVENTFD_DISABLED), then looks at the tail once
 *     more, and only then sleeps. That look prevents the loss of a CQE whose publisher looked before the client had
 *     said so. A poll of the ring's descriptor is armed on the consumer's side, and so cannot come between a store
 *     and a look.
 *  4. The publisher stores the tail and then looks at who sleeps (tell()). Between the store and the look there is a
 *     full barrier, as there is between the two steps of the client. Without it the store may be seen only after the
 *     look: the client sees the old tail, the publisher sees nobody, and the client sleeps over its CQEs.
 *  5. On a ring that the worker does not poll, the store itself has that barrier (STORE_SEQ). On one that it polls,
 *     the store releases and no more, and a second look is owed (`look_again`): the worker's next turn begins with
 *     it, behind a full barrier (uiopf_look_again()). The first look finds clients that sleep already, and the second
 *     those that it missed.
 *  6. The second look is never left out. A turn that owes one counts as a turn that did something, so that the worker
 *     does not sleep before the next; and before it stands still it makes the look at once (`settle`).
 *  7. A ring on which nobody has ever slept owes none: `may_sleep` is false. It is set at a quiescent point, before
 *     the first client lists itself or has its eventfd, and stays; the turn after that point knows it.
 *  8. A TIMEOUT without a CQE ends waits too, and moves no tail. `timeouts_fired` then takes the tail's place in 4
 *     and 5.
 *  9. While EVENTFD_DISABLED is set nothing is told, and `eventfd_tail` stays behind. So the next look tells of it,
 *     also the second look of 5: that is for a client that clears the flag after the worker's first look at it.
 *
 * Tests: tests/c/waiters.c for 3 to 8, tests/c/attachable.c for 9.
 */
#include "rings/completion.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/notify.h"
#include "rings/ringfile.h"
#include "rings/waiters.h"

/*
 * Linux takes backlog entries from memory charged to the client, and counts a completion as lost when there is none.
 * This is our charge: a client that never reads its completions gets so many kept for it.
 */
#define MOST_BACKLOG (1u << 20)

static bool grow_backlog(struct uiopf_engine *e)
{
	uint32_t capacity = e->backlog_capacity ? e->backlog_capacity * 2 : 256, i;
	struct uiopf_backlog *grown;

	if (capacity > MOST_BACKLOG)
		return false;
	grown = malloc(capacity * sizeof *grown);
	if (!grown)
		return false;
	for (i = 0; i < e->backlog_count; i++)
		grown[i] = e->backlog[(e->backlog_first + i) % e->backlog_capacity];
	free(e->backlog);
	e->backlog = grown;
	e->backlog_first = 0;
	e->backlog_capacity = capacity;
	return true;
}

static bool lose(struct uiopf_engine *e)
{
	uint32_t *word = uiopf_ring_word(&e->ring, RING_CQ_OVERFLOW);

	WRITE_ONCE(word, READ_ONCE(word) + 1);
	WRITE_ONCE(&e->lost_unreported, true);
	return false;
}

static bool can_keep(struct uiopf_engine *e)
{
	return e->backlog_count < e->backlog_capacity || grow_backlog(e);
}

static struct uiopf_backlog *kept(struct uiopf_engine *e, uint32_t nr)
{
	return &e->backlog[(e->backlog_first + nr) % e->backlog_capacity];
}

/* Keeps a CQE behind so many that are kept already; what else there is moves on by one. */
static bool keep_behind(struct uiopf_engine *e, uint32_t nr, const struct uiopf_backlog *cqe)
{
	uint32_t at;

	if (!can_keep(e))
		return lose(e);
	/* The flag says "enter", which a client of another process cannot: its worker flushes by itself. */
	if (!e->backlog_count && !e->attachable)
		__atomic_fetch_or(uiopf_ring_word(&e->ring, RING_SQ_FLAGS), IORING_SQ_CQ_OVERFLOW, __ATOMIC_SEQ_CST);
	for (at = e->backlog_count++; at != nr; at--)
		*kept(e, at) = *kept(e, at - 1);
	*kept(e, nr) = *cqe;
	return true;
}

static bool keep(struct uiopf_engine *e, const struct uiopf_backlog *cqe)
{
	return keep_behind(e, e->backlog_count, cqe);
}

/*
 * Puts a CQE of 32 bytes into the ring; false where there is no room. In a ring of both kinds it takes two slots and
 * never wraps: the last slot is filled with one that says to skip it. A ring of 16 bytes has only the first half of it,
 * which a message asked for, and is searched for two slots all the same. (io_cqe_cache_refill, Linux 6.18.)
 */
static bool put_wide(struct uiopf_engine *e, const struct uiopf_backlog *b)
{
	struct uiopf_ring *ring = &e->ring;
	uint32_t flags = b->flags;
	uiopf_word *cqe;

	if (uiopf_cq_full(ring))
		return false;
	if (ring->cqe_shift == 4) {
		flags |= IORING_CQE_F_32;
		if ((ring->cq_tail & ring->cq_mask) == ring->cq_mask)
			uiopf_cq_put(ring, 0, 0, IORING_CQE_F_SKIP);
		ring->cq_head_seen = LOAD_ACQUIRE(uiopf_ring_word(ring, RING_CQ_HEAD));	/* pairs as in uiopf_cq_full */
		if (ring->cq_entries - (ring->cq_tail - ring->cq_head_seen) < 2 ||
		    ring->cq_tail - ring->cq_head_seen > ring->cq_entries || ring->cq_entries < 2)
			return false;
	}
	cqe = uiopf_cqe_at(ring, ring->cq_tail);
	ring->cq_tail += ring->mixed ? 2 : 1;
	WRITE_ONCE(&cqe[0], b->user_data);
	WRITE_ONCE(&cqe[1], (uint32_t)b->res | (uint64_t)flags << 32);
	if (ring->mixed || ring->cqe_shift != 4) {
		WRITE_ONCE(&cqe[2], b->extra[0]);
		WRITE_ONCE(&cqe[3], b->extra[1]);
	}
	return true;
}

bool uiopf_complete(struct uiopf_engine *e, uint64_t user_data, int32_t res, uint32_t flags)
{
	/* While there is a backlog nothing goes past it, even if room appears: order is kept. */
	if (unlikely(e->backlog_count || uiopf_cq_full(&e->ring)))
		return keep(e, &(struct uiopf_backlog){ .user_data = user_data, .res = res, .flags = flags });
	uiopf_cq_put(&e->ring, user_data, res, flags);
	return true;
}

#define MOST_BEHIND 32u	/* a message is a bounded amount of work */

/* Whether none of so many CQEs of a ring of both kinds has 32 bytes, or says to skip it. */
static bool are_plain(const struct uiopf_ring *ring, uint32_t first, uint32_t count)
{
	const uint64_t odd = (uint64_t)(IORING_CQE_F_32 | IORING_CQE_F_SKIP) << 32;

	for (; count; first++, count--)
		if (READ_ONCE(&uiopf_cqe_at(ring, first)[1]) & odd)
			return false;
	return true;
}

/* The last CQE, which is of this batch and which nobody sees yet, leaves the ring: it will be the first that is kept. */
static void take_back_last(struct uiopf_engine *e)
{
	uiopf_word *last = uiopf_cqe_at(&e->ring, e->ring.cq_tail - 1);
	const uint64_t result = READ_ONCE(&last[1]);
	struct uiopf_backlog cqe = { READ_ONCE(&last[0]), (int32_t)result, (uint32_t)(result >> 32), { 0, 0 }, false };

	if (e->ring.cqe_shift == 5) {
		cqe.wide = true;
		cqe.extra[0] = READ_ONCE(&last[2]);
		cqe.extra[1] = READ_ONCE(&last[3]);
	}
	keep_behind(e, 0, &cqe);
	e->ring.cq_tail--;
}

/*
 * Linux posts a message at once, and the completions of a batch when that ends: they come behind it (io_post_aux_cqe). They
 * are in the ring or kept already, where nobody sees them yet, and make room. True where that is done.
 */
static bool put_before_batch(struct uiopf_engine *e, const struct uiopf_backlog *cqe)
{
	struct uiopf_ring *ring = &e->ring;
	const uint32_t behind = ring->cq_tail - e->posted_tail, words = 1u << (ring->cqe_shift - 3);
	uint32_t at, i;
	bool full;

	if (likely(!behind && e->posted_backlog == e->backlog_count))
		return false;
	if (behind + (e->backlog_count - e->posted_backlog) > MOST_BEHIND || !can_keep(e))
		return false;
	full = uiopf_cq_full(ring);	/* once: the client may move its head */
	if (e->posted_backlog || (!behind && full))
		return keep_behind(e, e->posted_backlog++, cqe);
	if (ring->mixed && !are_plain(ring, e->posted_tail, behind))
		return false;
	if (full)
		take_back_last(e);
	for (at = ring->cq_tail++; at != e->posted_tail; at--)
		for (i = 0; i < words; i++)
			WRITE_ONCE(&uiopf_cqe_at(ring, at)[i], READ_ONCE(&uiopf_cqe_at(ring, at - 1)[i]));
	WRITE_ONCE(&uiopf_cqe_at(ring, at)[0], cqe->user_data);
	WRITE_ONCE(&uiopf_cqe_at(ring, at)[1], (uint32_t)cqe->res | (uint64_t)cqe->flags << 32);
	for (i = 2; i < words; i++)
		WRITE_ONCE(&uiopf_cqe_at(ring, at)[i], 0);
	e->posted_tail++;
	return true;
}

/* A completion with the flag of 32 bytes in a ring of 16, before a batch: it is one like any other where two would fit. */
static bool goes_as_plain(struct uiopf_engine *e)
{
	struct uiopf_ring *ring = &e->ring;

	ring->cq_head_seen = LOAD_ACQUIRE(uiopf_ring_word(ring, RING_CQ_HEAD));	/* pairs as in uiopf_cq_full */
	return ring->cqe_shift == 4 && !ring->mixed && !e->backlog_count && ring->cq_tail != e->posted_tail &&
	       (e->posted_tail & ring->cq_mask) != ring->cq_mask &&
	       ring->cq_entries - (e->posted_tail - ring->cq_head_seen) >= 2 &&
	       e->posted_tail - ring->cq_head_seen <= ring->cq_entries;
}

bool uiopf_complete_message(struct uiopf_engine *e, uint64_t user_data, int32_t res, uint32_t flags)
{
	const struct uiopf_backlog cqe = { .user_data = user_data, .res = res, .flags = flags };
	bool posted;

	if (unlikely(e->attachable && e->alive + e->backlog_count >= UIOPF_ATTACHED_MOST) &&
	    (e->backlog_count || uiopf_cq_full(&e->ring)))
		return lose(e);
	if (unlikely(flags & IORING_CQE_F_32) && e->kernel >= UIOPF_LINUX(6, 18) && !goes_as_plain(e))
		posted = uiopf_complete_wide(e, user_data, res, flags, 0, 0);
	else if (unlikely(put_before_batch(e, &cqe)))
		return true;
	else
		posted = uiopf_complete(e, user_data, res, flags);
	uiopf_all_posted(e);
	e->posted |= (e->setup_flags & IORING_SETUP_DEFER_TASKRUN) != 0;
	return posted;
}

bool uiopf_complete_wide(struct uiopf_engine *e, uint64_t user_data, int32_t res, uint32_t flags, uint64_t extra1,
			 uint64_t extra2)
{
	struct uiopf_backlog cqe = { user_data, res, flags, { extra1, extra2 }, true };

	return (!e->backlog_count && put_wide(e, &cqe)) || keep(e, &cqe);
}

bool uiopf_complete_more_wide(struct uiopf_engine *e, uint64_t user_data, int32_t res, uint32_t flags,
			      const uint64_t extra[2])
{
	const struct uiopf_backlog cqe = { user_data, res, flags | IORING_CQE_F_MORE, { extra[0], extra[1] }, true };

	if (unlikely(e->backlog_count) || !put_wide(e, &cqe))
		return false;
	e->posted_tail = e->ring.cq_tail;
	e->posted = true;
	return true;
}

void uiopf_flush_backlog(struct uiopf_engine *e)
{
	while (e->backlog_count) {
		const struct uiopf_backlog *b = &e->backlog[e->backlog_first];

		if (unlikely(b->wide)) {
			if (!put_wide(e, b))
				break;
		} else {
			if (uiopf_cq_full(&e->ring))
				break;
			uiopf_cq_put(&e->ring, b->user_data, b->res, b->flags);
		}
		e->backlog_first = (e->backlog_first + 1) % e->backlog_capacity;
		e->posted_backlog -= e->posted_backlog != 0;
		if (--e->backlog_count == 0)
			__atomic_fetch_and(uiopf_ring_word(&e->ring, RING_SQ_FLAGS), ~IORING_SQ_CQ_OVERFLOW,
					   __ATOMIC_SEQ_CST);
	}
}

/* Requests may wait for the eventfd that the ring signals. True where it is a file here; whoever is called is told by whom. */
static bool mark_same_eventfd(struct uiopf_engine *e)
{
	struct uiopf_host_eventfd *same;
	bool found = false;

	for (same = e->core->host_eventfds; same; same = same->next)
		if (same->id >= 0 && same->id == e->eventfd_id)
			found = same->signalled = true;
	return found;
}

/* The client's, who may have filled it: nobody waits for that. True where requests may wait for it. */
static bool write_eventfd(struct uiopf_engine *e)
{
	const bool marked = unlikely(e->core->host_eventfds != NULL) && mark_same_eventfd(e);

	e->cost.wakeups++;
	if (e->attachable)
		uiopf_notify(e->core, e->eventfd, e->ring.region.fd);
	else
		uiopf_eventfd_signal_client(e->core, e->eventfd);
	return marked;
}

/*
 * The registered eventfd is told at most once a flush, and only when the tail is not where it was last told of. What
 * was not told because the client had disabled it is told of by the next flush after it has enabled it again, even one
 * whose requests all ended in silence: checked on Linux 6.18.
 */
static void signal_eventfd(struct uiopf_engine *e)
{
	if (LOAD_SEQ(uiopf_ring_word(&e->ring, RING_CQ_FLAGS)) & IORING_CQ_EVENTFD_DISABLED)
		return;
	if (e->eventfd_async && !e->by_worker)
		return;
	if (e->eventfd_tail == e->ring.cq_tail)
		return;
	e->eventfd_tail = e->ring.cq_tail;
	if (unlikely(write_eventfd(e)))
		e->core->host_sync(e->core);	/* they are called at once */
}

/*
 * With DEFER_TASKRUN the eventfd is signalled when the first task work is put off: who waits for it must enter to have
 * completions at all (io_req_local_work_add). One that is only for what workers complete is, when a worker puts it off. In
 * the middle of a wake by such a signal Linux puts the next one off, until after the call, in which the first is read
 * (eventfd_signal_allowed, call_rcu_hurry).
 */
void uiopf_tell_of_work(struct uiopf_engine *e)
{
	if (unlikely(e->replayed))
		e->work_since = ++e->core->work_moments;
	if (!(e->setup_flags & IORING_SETUP_DEFER_TASKRUN) || e->eventfd < 0 || (e->eventfd_async && !e->in_worker) ||
	    LOAD_SEQ(uiopf_ring_word(&e->ring, RING_CQ_FLAGS)) & IORING_CQ_EVENTFD_DISABLED)
		return;
	if (unlikely(e->core->in_signal))
		e->owes_signal = e->core->owes_signals = true;
	else
		e->core->host_moved |= write_eventfd(e);
}

void uiopf_pay_signal(struct uiopf_engine *e)
{
	e->owes_signal = false;
	if (e->eventfd >= 0)
		e->core->host_moved |= write_eventfd(e);
}

/*
 * Tells who sleeps, or may be about to. (Whoever was told has left the list, and others may come into it meanwhile: that
 * somebody was told makes no second look superfluous.)
 */
static void tell(struct uiopf_engine *e)
{
	if (e->eventfd >= 0)
		signal_eventfd(e);
	e->by_worker = false;
	e->fired_told = e->timeouts_fired;
	if (LOAD_SEQ(&e->cq_waiters))
		uiopf_wake_waiters(e, false);
}

void uiopf_publish_cqes(struct uiopf_engine *e)
{
	const bool moved = e->ring.cq_tail != e->ring.cq_tail_published, ended = e->finished || e->posted;
	const bool uncounted = ended || e->ring.cq_tail != e->posted_tail;
	uint32_t *tail = uiopf_ring_word(&e->ring, RING_CQ_TAIL);

	if (!moved && !ended && !e->counted)
		return;
	if (moved && uiopf_worker_runs(e))
		uiopf_pass_time(e->core, UIOPF_STORES);
	e->finished = e->posted = e->counted = false;
	uiopf_all_posted(e);
	if (moved) {
		e->cost.bytes_copied += (uint64_t)(e->ring.cq_tail - e->ring.cq_tail_published) << e->ring.cqe_shift;
		e->cost.cqes += e->ring.cq_tail - e->ring.cq_tail_published;
		e->ring.cq_tail_published = e->ring.cq_tail;
		/*
		 * Pairs with uiopf_client_ready. Someone may be about to sleep: they look at the tail after they said
		 * so, we look at that after the tail, which takes a full barrier. The worker puts it off until its next
		 * turn: here it would have to wait for the lines that it shares with the client, a tenth of all time;
		 * and while nobody has ever slept it does without.
		 */
		if (uiopf_worker_runs(e)) {
			STORE_RELEASE(tail, e->ring.cq_tail);
			e->look_again = e->may_sleep;
		} else {
			STORE_SEQ(tail, e->ring.cq_tail);
		}
	} else if (unlikely(e->timeouts_fired != e->fired_told) && uiopf_worker_runs(e)) {
		e->look_again = e->may_sleep;	/* in silence, and it ends waits all the same */
	}
	uiopf_engine_wake_pollers(e);	/* also of what ended in silence, and before TIMEOUTs and the eventfd */
	if (unlikely(e->count_timeouts != NULL) && uncounted)
		e->count_timeouts(e);
	tell(e);
}

void uiopf_publish_posted(struct uiopf_engine *e)
{
	const uint32_t tail = e->ring.cq_tail, backlog = e->posted_backlog;
	const bool finished = e->finished, counted = e->counted;

	e->ring.cq_tail = e->posted_tail;
	e->posted = true;
	uiopf_publish_cqes(e);	/* calls and counts, and completes nothing */
	e->ring.cq_tail = tail;
	e->posted_backlog = backlog;
	e->finished = finished;
	e->counted = counted;
}

void uiopf_look_again(struct uiopf_engine *e)
{
	e->look_again = false;
	STORE_SEQ(&e->barrier, 1);	/* the tail is seen by all from here on; nobody else writes this word */
	uiopf_engine_wake_pollers(e);
	tell(e);
}

/* ---- registering the eventfd ---- */

int uiopf_register_eventfd(struct uiopf_engine *e, const int *fd, bool async)
{
	int copy;

	if (e->eventfd >= 0)
		return -EBUSY;
	if (!fd)
		return -EFAULT;
	copy = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return -EBADF;
	if (!uiopf_is_eventfd(copy)) {
		close(copy);
		return -EINVAL;
	}
	e->eventfd = copy;
	if (e->setup_flags & IORING_SETUP_DEFER_TASKRUN)
		WRITE_ONCE(&e->core->tells_at_once, e->core->tells_at_once + 1);
	e->eventfd_id = uiopf_eventfd_id(copy);
	e->may_sleep = true;
	e->eventfd_async = async;
	e->eventfd_tail = e->ring.cq_tail;	/* what was there before is not told of */
	return 0;
}

void uiopf_close_eventfd(struct uiopf_engine *e)
{
	close(e->eventfd);
	e->eventfd = -1;
	if (e->setup_flags & IORING_SETUP_DEFER_TASKRUN)
		WRITE_ONCE(&e->core->tells_at_once, e->core->tells_at_once - 1);
}

int uiopf_unregister_eventfd(struct uiopf_engine *e)
{
	if (e->eventfd < 0)
		return -ENXIO;
	uiopf_close_eventfd(e);
	return 0;
}
