#include "rings/turn.h"

#include "rings/attachable.h"
#include "rings/completion.h"
#include "rings/ringfile.h"
#include "rings/submit.h"
#include "rings/timer.h"
#include "rings/waiters.h"

#define SQES_PER_TURN 24u
#define WORK_PER_TURN 32u	/* as Linux's thread: IORING_TW_CAP_ENTRIES_VALUE */

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static struct uiopf_engine *engine_of(struct uiopf_consumer *consumer)
{
	return container_of(consumer, struct uiopf_engine, consumer);
}

/*
 * How many of the SQEs that are ready a turn may take. A client that nobody can charge may hold UIOPF_ATTACHED_MOST: the
 * rest waits in its own ring, and so does a chain that does not fit as a whole. One that is longer than all of it never
 * would, and is cut. The client may write other flags meanwhile: then it has cut its chain itself.
 */
static uint32_t may_take(const struct uiopf_engine *e, uint32_t ready)
{
	uint32_t room, whole = 0, i;

	if (likely(!e->attachable))
		return ready;
	room = UIOPF_ATTACHED_MOST - least(e->alive + e->backlog_count, UIOPF_ATTACHED_MOST);
	if (likely(ready <= room))
		return ready;
	for (i = 0; i < room && whole < SQES_PER_TURN; i++)
		if (!(uiopf_sq_peek_flags(&e->ring, i) & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)))
			whole = i + 1;
	return whole || room < UIOPF_ATTACHED_MOST ? whole : room;
}

/* What Linux interrupts a client for, to have it run its task work. One that puts it off is told that there is some. */
static uint32_t run_work_of_client(struct uiopf_engine *e, uint32_t most)
{
	uint32_t did;

	if (likely(!e->work && !e->timer_count) || e->disabled)
		return 0;
	if (e->setup_flags & IORING_SETUP_DEFER_TASKRUN)
		return uiopf_timers_fire(e, most);
	did = uiopf_timers_fire(e, most) + uiopf_run_work(e, most);
	uiopf_publish_cqes(e);
	uiopf_rings_polled(e);
	return did;
}

/* SQPOLL: submit, work, publish. Other rings submit by calls; a worker runs the rest for them, beside their clients. */
static uint32_t run(struct uiopf_consumer *consumer)
{
	struct uiopf_engine *e = engine_of(consumer);
	uint32_t did, ready, most;

	if (!(e->setup_flags & IORING_SETUP_SQPOLL))
		return e->core->driver == UIOPF_SQPOLL ? run_work_of_client(e, WORK_PER_TURN) : 0;
	if (unlikely(e->disabled))
		return 0;
	if (e->look_again)
		uiopf_look_again(e);
	/*
	 * A bounded number a turn: while the hardware's side of the turn works on these, the client makes the next, and
	 * neither waits for the other's whole batch. But a chain that is there is not cut: the turn goes on to its end.
	 * (Linux takes all that is there, from a ring that has its thread alone.) A batch that a bad SQE has ended goes on
	 * at the next turn. Their lines are on the way from the client's core while task work runs, and with them the data
	 * of the first, if it lies behind the last one's: a lone answer's would be asked for when its SQE has arrived.
	 */
	most = may_take(e, uiopf_sq_ready(&e->ring));
	ready = least(most, SQES_PER_TURN);
	uiopf_sq_prefetch(&e->ring, ready);
	if (ready)
		__builtin_prefetch(e->next_data);
	did = uiopf_timers_fire(e, WORK_PER_TURN) + uiopf_run_work(e, WORK_PER_TURN);
	if (ready && uiopf_submit(e, ready, most) >= 0)
		did += ready;
	if (unlikely(e->polled_first))
		uiopf_rings_polled(e);
	/* Nobody else would flush: a client that polls memory never enters. */
	if (e->backlog_count)
		uiopf_flush_backlog(e);
	/*
	 * SQ head (at the end of submit) and CQ tail stand in one line, which the client polls: they are stored one after
	 * the other, so that it is taken from the client once a turn.
	 */
	uiopf_publish_cqes(e);
	/* A flush counts too where it owes a look: a worker that slept now would leave asleep whoever that look finds. */
	return did ? did : e->look_again;
}

static void sleeping(struct uiopf_consumer *consumer, bool asleep)
{
	struct uiopf_engine *e = engine_of(consumer);
	uint32_t *flags = uiopf_ring_word(&e->ring, RING_SQ_FLAGS);

	if (!(e->setup_flags & IORING_SETUP_SQPOLL))
		return;
	/* It says "enter". Who cannot, and has not promised to kick instead, would only be made to fail: see attachable.h. */
	if (e->attachable && !e->kicks)
		return;
	/* A full barrier: the client's look at the flag comes after its store of the tail, ours after that of the flag. */
	if (asleep)
		__atomic_fetch_or(flags, IORING_SQ_NEED_WAKEUP, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(flags, ~IORING_SQ_NEED_WAKEUP, __ATOMIC_SEQ_CST);
}

static void settle(struct uiopf_consumer *consumer)
{
	struct uiopf_engine *e = engine_of(consumer);

	if (e->look_again)
		uiopf_look_again(e);
	if (unlikely(e->owes_signal))
		uiopf_pay_signal(e);
}

/*
 * Things may change in its memory that no kick tells of: the worker looks now and then instead of sleeping for good. Not
 * before there is a client: a server has many rings whose clients have not answered yet, and each look costs a wake-up.
 */
static bool may_change_unseen(const struct uiopf_engine *engine)
{
	return engine->attached && (!engine->kicks || engine->backlog_count);
}

static bool needs_looks(const struct uiopf_consumer *consumer)
{
	return may_change_unseen(container_of(consumer, const struct uiopf_engine, consumer));
}

static void hand_over(struct uiopf_consumer *consumer, bool sooner)
{
	struct uiopf_engine *e = engine_of(consumer);

	if ((e->work || sooner) && LOAD_SEQ(&e->cq_waiters) && !uiopf_worker_runs(e))
		uiopf_wake_waiters(e, true);
}

static uint32_t interrupt(struct uiopf_consumer *consumer)
{
	struct uiopf_engine *e = engine_of(consumer);

	if (!(e->setup_flags & IORING_SETUP_SQPOLL))
		return run_work_of_client(e, UINT32_MAX);
	return uiopf_worker_runs(e) ? 0 : run(consumer);
}

const struct uiopf_consumer_ops uiopf_engine_turn = {
	.run = run,
	.hand_over = hand_over,
	.interrupt = interrupt,
	.sleeping = sleeping,
	.settle = settle,
	.needs_looks = needs_looks,
};
