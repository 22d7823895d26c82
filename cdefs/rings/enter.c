/* io_uring_enter: submitting, and waiting. Source: io_uring_enter and io_cqring_wait, Linux 6.12. */
#include "rings/enter.h"

#include <errno.h>

#include "rings/completion.h"
#include "rings/ringfile.h"
#include "rings/submit.h"
#include "rings/timer.h"
#include "rings/waiters.h"

#define LOOK_AT_CLOCK_NS 1000000u

#define LOOK_NS 1000000u	/* who has no eventfd to sleep on looks so often */

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

#define AT_ONCE_SINCE UIOPF_LINUX(6, 13)
#define ONE_BY_ONE_SINCE UIOPF_LINUX(7, 2)	/* or a little earlier: 6.18 does not */
#define MOST_AT_ONCE 20u		/* IO_LOCAL_TW_DEFAULT_MAX */
/*
 * Twice as many as there can be requests. Work that goes on for longer feeds itself: a multishot on the eventfd that its
 * own completions signal. Then others have their turn, and the rest is done by the next call, or the next look of this one.
 */
#define MOST_WORK (1u << 17)

/*
 * Runs what would have interrupted or woken the waiting task. The consumer side is ours. With DEFER_TASKRUN the task
 * runs it itself, and once around unless more is waited for, so many at once or as many as are wanted
 * (__io_run_local_work). With `*goes_on` it is one with the call before; and so is the next with this, if that is true then.
 * True where something is left that nothing calls for.
 */
static bool task_work(struct uiopf_engine *e, bool flush, uint32_t wanted, uint32_t at_once, bool *goes_on)
{
	const bool deferred = e->setup_flags & IORING_SETUP_DEFER_TASKRUN;
	/* What is wanted comes from the CQ's head, where a client may write anything. */
	const uint32_t enough = deferred ? least(wanted, MOST_WORK) : MOST_WORK;
	const uint32_t most = !deferred || e->kernel < AT_ONCE_SINCE ? MOST_WORK : enough > at_once ? enough : at_once;
	const bool one_by_one = deferred && e->kernel >= ONE_BY_ONE_SINCE;
	struct uiopf_engine *polled;
	uint32_t n, before, done = 0;

	uiopf_core_sync(e->core);
	uiopf_timers_fire(e, MOST_WORK);
	/* Most calls find nothing that was called. Showing what there is may call what counts it. */
	if (likely(!e->work && !e->timer_count && !e->polled_first && !(flush && e->backlog_count))) {
		uiopf_publish_cqes(e);
		if (likely(!e->work)) {
			uiopf_core_kick(e->core);
			*goes_on = enough > 0;
			return false;
		}
	}
	do {
		before = done;
		do {
			polled = unlikely(e->polled_first) && !deferred ? uiopf_rings_polled_before(e) : NULL;
			n = one_by_one ? uiopf_run_work_one_by_one(e, most) :
			    deferred   ? uiopf_run_deferred_work(e, most, enough - done, !*goes_on && !done) : uiopf_run_work(e, most);
			done += n;
			if (unlikely(polled)) {
				uiopf_publish_cqes(e);
				uiopf_rings_polled_behind(polled);
			}
		} while ((n || (e->work && !deferred)) && done < enough);
		uiopf_timers_fire(e, MOST_WORK);	/* what ran may have begun a time that is over */
		if (flush)
			uiopf_flush_backlog(e);
		uiopf_publish_cqes(e);
		/* What ran may have written to a host's file that another request waits for: Linux calls that at once. */
		if (unlikely(READ_ONCE(&e->core->host_waits)) && done != before && done < MOST_WORK)
			uiopf_core_sync(e->core);
		/* Completions that were counted may have called TIMEOUTs. */
	} while (unlikely(e->work && !deferred && done < MOST_WORK));
	uiopf_core_kick(e->core);
	*goes_on = done < enough;
	return e->work && !deferred;
}

/* Task work is put off, and this call does not ask for it: but what was submitted may have called some. */
static void submitted_only(struct uiopf_engine *e)
{
	if (unlikely(READ_ONCE(&e->core->host_waits)))
		uiopf_core_sync(e->core);
	uiopf_rings_polled(e);
	uiopf_core_kick(e->core);
}

static uint32_t cqes_for_client(const struct uiopf_engine *e)
{
	uint32_t n = LOAD_SEQ(uiopf_ring_word(&e->ring, RING_CQ_TAIL)) -
		     LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_CQ_HEAD));

	return n > e->ring.cq_entries ? e->ring.cq_entries : n;
}

/* One wait: until the tail is at its target, or a TIMEOUT fires, or a time is over. */
struct waiting {
	struct uiopf_waiter waiter;
	uint32_t wanted;
	uint32_t runs;			/* of task work at first: as many as were asked for, also where nobody waits for them */
	uint64_t deadline;		/* UINT64_MAX: none */
	uint64_t least_until;		/* until then all are waited for, afterwards any; 0: no such time */
	uint32_t first_tail;
	int refused;			/* -errno to whoever must wait, or 0 */
	bool goes_on;			/* the next look is one with this, on Linux: its completions have called others */
	bool begun;			/* what was there before it counts no more */
	enum uiopf_driver driver;	/* at the last look */
};

/* Not an errno: the worker has come or gone meanwhile. The wait goes on in the other way. */
#define WAITS_OTHERWISE 1

/*
 * Before it waits, Linux counts without a sign: with a head beyond the tail, which a client may write, there is always
 * enough, and for nothing nobody waits (__io_cqring_events_user).
 */
static bool enough_at_once(const struct uiopf_engine *e, const struct waiting *w)
{
	return LOAD_SEQ(uiopf_ring_word(&e->ring, RING_CQ_TAIL)) -
	       LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_CQ_HEAD)) >= w->wanted;
}

static bool enough(const struct uiopf_engine *e, const struct waiting *w)
{
	return (int32_t)(LOAD_SEQ(uiopf_ring_word(&e->ring, RING_CQ_TAIL)) - w->waiter.target) >= 0 ||
	       LOAD_SEQ(&e->timeouts_fired) != w->waiter.fired;
}

enum time_is {
	TIME_GOES_ON,
	TIME_IS_OVER,
	TIME_TO_LOOK,	/* less is waited for than before, and it may be there */
};

/*
 * When the minimum is over, so is the wait if anything has come or nothing longer is waited for
 * (io_cqring_min_timer_wakeup); otherwise any one more ends it.
 */
static enum time_is look_at_time(const struct uiopf_engine *e, struct waiting *w)
{
	if (w->least_until) {
		if (uiopf_now(&e->core->clock) < w->least_until)
			return TIME_GOES_ON;
		if (w->deadline == UINT64_MAX || w->deadline <= w->least_until || cqes_for_client(e) ||
		    LOAD_SEQ(uiopf_ring_word(&e->ring, RING_CQ_TAIL)) != w->first_tail)
			return TIME_IS_OVER;
		w->least_until = 0;
		/* Whoever moves the tail looks at this afterwards, and we at the tail. */
		STORE_SEQ(&w->waiter.target, w->first_tail + 1);
		return TIME_TO_LOOK;
	}
	return w->deadline != UINT64_MAX && uiopf_now(&e->core->clock) >= w->deadline ? TIME_IS_OVER : TIME_GOES_ON;
}

/* To sleep for; time goes on after one has looked, and must not be taken for a very long time then. */
static uint64_t time_left(const struct uiopf_core *core, const struct waiting *w, bool timers)
{
	uint64_t until = w->least_until ? w->least_until : w->deadline, now;

	if (timers && READ_ONCE(&core->timer_ns) < until)
		until = READ_ONCE(&core->timer_ns);
	if (until == UINT64_MAX)
		return UINT64_MAX;
	now = uiopf_now(&core->clock);
	if (until <= now)
		return 0;
	/* A clock that is set by hand may be there sooner than ours: it is looked at now and then. */
	if (core->clock.kind == UIOPF_CLOCK_MANUAL && !core->player && until - now > LOOK_AT_CLOCK_NS)
		return LOOK_AT_CLOCK_NS;
	return until - now;
}

static uint64_t inline_left(const struct uiopf_core *core, const struct waiting *w)
{
	return core->clock.kind != UIOPF_CLOCK_MANUAL ? time_left(core, w, true) : UINT64_MAX;
}

/* A time that is over, or a signal, says so only when there is nothing. */
static int unless_ready(const struct uiopf_engine *e, int rc)
{
	return cqes_for_client(e) ? 0 : rc;
}

/*
 * A completion was lost. Who must wait is not made to, and is told so if there is nothing to read (io_cqring_wait): as
 * long as there are completions, they come first.
 */
static bool has_lost(const struct uiopf_engine *e)
{
	return unlikely(READ_ONCE(&e->lost_unreported));
}

/* Sleeps until woken, or until this time is over; -EINTR: a signal came. */
static int sleep_for(struct uiopf_core *core, const struct waiting *w, uint64_t left, bool host)
{
	const int fd = w->waiter.eventfd;
	bool woken;

	if (unlikely(fd < 0) && left > LOOK_NS)
		left = LOOK_NS;
	errno = 0;
	woken = host ? uiopf_core_sleep(core, fd, left) : uiopf_eventfd_wait(core, fd, left);
	return !woken && errno == EINTR ? -EINTR : 0;
}

/*
 * uiopf_worker_runs() for a thread that holds nothing. Whoever starts or stops the worker stores that, and then calls who is
 * listed; a waiter lists itself, and then looks here. One sees the other.
 */
static bool worker_runs_now(const struct uiopf_engine *e)
{
	return (e->setup_flags & IORING_SETUP_SQPOLL) && LOAD_SEQ(&e->core->sqpoll_runs);
}

/* The worker makes the CQEs: sleep on its word. */
static int wait_for_worker(struct uiopf_engine *e, struct waiting *w)
{
	enum time_is time;
	int rc = 0;

	if (!w->begun && enough_at_once(e, w))
		return 0;
	if (unlikely(w->refused < 0))
		return w->refused;
	w->begun = true;
	if (unlikely(!READ_ONCE(&e->may_sleep))) {
		if (uiopf_control_try_begin(e->core) < 0)
			return unless_ready(e, -EINTR);
		WRITE_ONCE(&e->may_sleep, true);
		uiopf_control_end(e->core);
	}
	while (rc == 0) {
		uiopf_waiter_list(e, &w->waiter);
		if (enough(e, w))
			break;
		if (has_lost(e))
			return unless_ready(e, -EBADR);
		if (unlikely(!worker_runs_now(e)))
			return WAITS_OTHERWISE;
		time = look_at_time(e, w);
		if (time == TIME_IS_OVER)
			rc = -ETIME;
		else if (time == TIME_GOES_ON)
			rc = sleep_for(e->core, w, time_left(e->core, w, false), false);
	}
	return rc < 0 ? unless_ready(e, rc) : 0;
}

/*
 * Without a thread, something comes from the hardware's own turn, from a clock that runs, from the host, or from another
 * thread's calls, of which nothing is known. 1: something may have come. 0: it is worth while to sleep.
 */
static int turn_inline(struct uiopf_engine *e, struct waiting *w)
{
	struct uiopf_core *core = e->core;
	int did = uiopf_core_produce(core);

	if (did)
		return did > 0 ? 1 : did;
	return inline_left(core, w) == UINT64_MAX && !READ_ONCE(&core->host_waits) ? -EDEADLK : 0;
}

static uint32_t work_for_others(struct uiopf_engine *e)
{
	struct uiopf_consumer *other;
	uint32_t did = 0;

	for (other = e->core->consumers; other; other = other->next)
		if (other != &e->consumer && other->ops->interrupt)
			did += other->ops->interrupt(other);
	return did;
}

/*
 * One look, with the consumer's side: runs what there is to be run. 1: the wait is over. A look has its bounds, and what it
 * does may make more to do: `*more` then, and nobody else would do that while we sleep.
 */
static int look(struct uiopf_engine *e, struct waiting *w, bool *more)
{
	struct uiopf_core *core = e->core;
	const bool first = !w->begun;
	uint32_t did = 0;
	int32_t left;
	bool done;

	if (unlikely(uiopf_consumer_try_begin(core) < 0))
		return -EINTR;
	w->begun = true;
	w->driver = core->driver;
	e->looking = &w->waiter;
	if (!first)
		did = work_for_others(e);
	if (unlikely(e->setup_flags & IORING_SETUP_SQPOLL))
		did += e->consumer.ops->run(&e->consumer);	/* no worker does it */
	left = (int32_t)(w->waiter.target - e->ring.cq_tail_published);	/* who has slept runs no more than is missing */
	*more = first ? task_work(e, true, w->runs, MOST_AT_ONCE, &w->goes_on) :
			task_work(e, true, left > 1 ? (uint32_t)left : 1, 1, &w->goes_on);
	w->goes_on = w->goes_on && (e->work || e->polled_first);
	*more = *more || did || e->work;	/* what is left of a deferred ring's ends the sleep as well (io_has_work) */
	if (unlikely(e->polled_first)) {	/* behind what was put off: what this calls is put off in turn */
		uiopf_rings_polled(e);
		*more = true;
	}
	done = enough(e, w);
	if (first) {	/* what was there to be done counts before the wait begins */
		w->waiter.fired = e->timeouts_fired;
		w->first_tail = e->ring.cq_tail_published;
		done = enough_at_once(e, w);
	}
	e->looking = NULL;
	if (core->timer_ns > core->timer_known)
		core->timer_known = core->timer_ns;
	uiopf_consumer_end(core);
	return done;
}

/* What a deferred ring's workers do while its client sleeps, or is elsewhere: true where they have done something. */
static bool let_workers_work(struct uiopf_engine *e)
{
	if (likely(!READ_ONCE(&e->asked)) || e->holds_workers || unlikely(uiopf_consumer_try_begin(e->core) < 0))
		return false;
	uiopf_run_workers(e, UINT32_MAX);
	uiopf_consumer_end(e->core);
	return true;
}

/* The consumer step is ours to run: do it whenever a fault queue calls, or somebody has made work for this ring. */
static int wait_and_work(struct uiopf_engine *e, struct waiting *w)
{
	struct uiopf_core *core = e->core;
	struct uiopf_sleeper sleeper = { .in_call = true, .eventfd = -1 };
	bool more, turned = false, last_look = false;
	enum time_is time;
	uint32_t turns = 0;
	int rc, last;

	while ((rc = look(e, w, &more)) == 0) {
		if (unlikely(w->refused < 0))
			return w->refused;
		if (has_lost(e)) {
			rc = -EBADR;
			break;
		}
		if (unlikely((e->setup_flags & IORING_SETUP_SQPOLL) && w->driver == UIOPF_SQPOLL)) {
			uiopf_sleeper_unlist(core, &sleeper);
			return WAITS_OTHERWISE;
		}
		time = look_at_time(e, w);
		if (time == TIME_IS_OVER) {
			if (last_look) {
				rc = -ETIME;
				break;
			}
			last_look = true;	/* what has come meanwhile runs all the same (io_cqring_wait) */
			continue;
		}
		/*
		 * What a look works at may have no end: a client writes into its SQ tail that four billion SQEs are there. So
		 * signal handlers get a turn now and then.
		 */
		if (unlikely(turns++ >= UIOPF_TURNS_OF_A_CALL)) {
			rc = -EINTR;
			break;
		}
		if (let_workers_work(e) || unlikely(more))
			continue;
		if (w->driver != UIOPF_INLINE) {
			turned = false;
		} else if (!READ_ONCE(&sleeper.listed) || !turned) {
			rc = turn_inline(e, w);
			if (rc < 0)
				break;
			if (rc > 0)
				continue;
			turned = true;
		}
		uiopf_waiter_list(e, &w->waiter);
		if (!READ_ONCE(&sleeper.listed)) {
			if (sleeper.eventfd != w->waiter.eventfd)	/* once: whoever unlisted it may be reading it still */
				sleeper.eventfd = w->waiter.eventfd;
			uiopf_sleeper_list(core, &sleeper);
		} else if (time == TIME_GOES_ON) {
			rc = sleep_for(core, w, w->driver == UIOPF_INLINE ? inline_left(core, w) : time_left(core, w, true), true);
			uiopf_sleeper_unlist(core, &sleeper);
			if (rc < 0) {	/* the same for a signal */
				if ((last = look(e, w, &more)) != 0)
					rc = last;
				break;
			}
			turns = 0;
		}
	}
	uiopf_sleeper_unlist(core, &sleeper);
	return rc < 0 ? unless_ready(e, rc) : 0;
}

/* What io_uring_enter's argument comes to. */
struct argument {
	uint64_t deadline;		/* on the core's clock; UINT64_MAX: none */
	uint64_t least_ns;
	int refused;			/* -errno: the signal mask is bad, which is found when it would be set, before a wait */
};

uint32_t uiopf_enter_flags(uint32_t kernel)
{
	uint32_t known = 2 * IORING_ENTER_ABS_TIMER - 1;

	if (kernel >= UIOPF_LINUX(6, 13))
		known |= IORING_ENTER_EXT_ARG_REG;
	if (kernel >= UIOPF_LINUX(6, 15))
		known |= IORING_ENTER_NO_IOWAIT;
	return known;
}

/* io_sqring_full: the words are the client's, who may have made them say anything. */
static bool sq_is_full(const struct uiopf_engine *e)
{
	return LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_SQ_TAIL)) -
	       LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_SQ_HEAD)) == e->ring.sq_entries;
}

/* The polling thread's turns, where there is no such thread: until it would go to sleep. How much was done, or -EINTR. */
static int be_polling_thread(struct uiopf_engine *e)
{
	struct uiopf_core *core = e->core;
	uint32_t did, sum = 0, turns = 0;

	if (unlikely(uiopf_consumer_try_begin(core) < 0))
		return -EINTR;
	do {
		uiopf_core_sync(core);
		did = e->consumer.ops->run(&e->consumer);
		sum += did;
	} while (did && turns++ < e->ring.sq_entries);	/* polls of rings may go on calling each other */
	uiopf_core_kick(core);
	uiopf_consumer_end(core);
	return sum < INT32_MAX ? (int)sum : INT32_MAX;
}

/*
 * SQ_WAKEUP and SQ_WAIT. Linux waits for room until a signal comes, and then says nothing of it (io_sqpoll_wait_sq).
 * Nor is it waited here for longer than a slice: whoever keeps the queue full, or writes into its indices that it is,
 * holds up himself alone, and can be stopped.
 */
static int wake_polling_thread(struct uiopf_engine *e, uint32_t flags)
{
	struct uiopf_core *core = e->core;
	struct uiopf_patience patience = { 0 };
	int rc;

	do {
		if (READ_ONCE(&core->driver) == UIOPF_SQPOLL) {
			uiopf_core_wake_worker(core);
			rc = 0;
		} else if (READ_ONCE(&core->driver) == UIOPF_ENTER) {
			rc = be_polling_thread(e);
		} else {
			rc = flags & IORING_ENTER_SQ_WAIT && sq_is_full(e) ? uiopf_core_consume(core) : 0;
		}
		if (rc < 0 || !(flags & IORING_ENTER_SQ_WAIT) || !sq_is_full(e))
			return rc;
		if (!rc && READ_ONCE(&core->driver) == UIOPF_INLINE)
			return -EDEADLK;	/* nobody else takes anything from it */
		rc = uiopf_wait_a_moment(&patience);
	} while (rc == 0);
	return uiopf_monotonic_ns() >= patience.until ? -EINTR : 0;
}

/* Its calls would look for completions of devices (ctx->syscall_iopoll). No file here has any. */
static bool looks_at_devices(const struct uiopf_engine *e)
{
	return unlikely((e->setup_flags & (IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL)) == IORING_SETUP_IOPOLL);
}

/* Submits; true with *rc what was consumed where the call goes on to wait. */
static bool submit_first(struct uiopf_engine *e, uint32_t to_submit, uint32_t min_complete, uint32_t flags, int *rc)
{
	struct uiopf_core *core = e->core;
	uint32_t n;

	*rc = 0;
	if (e->setup_flags & IORING_SETUP_SQPOLL) {
		if (flags & (IORING_ENTER_SQ_WAKEUP | IORING_ENTER_SQ_WAIT))
			*rc = wake_polling_thread(e, flags);
		if (unlikely(*rc < 0))
			return false;
		*rc = (int)to_submit;
		return true;
	}
	if (!to_submit) {
		/* Any call runs task work on its way back. */
		if (!(flags & IORING_ENTER_GETEVENTS) && !(e->setup_flags & IORING_SETUP_DEFER_TASKRUN)) {
			if (unlikely(uiopf_consumer_try_begin(core) < 0)) {
				*rc = -EINTR;
				return false;
			}
			task_work(e, false, 0, MOST_AT_ONCE, &(bool){ false });
			uiopf_consumer_end(core);
		}
		return true;
	}
	if (uiopf_other_submitter(e)) {
		*rc = -EEXIST;
		return false;
	}
	if (unlikely(uiopf_consumer_try_begin(core) < 0)) {
		*rc = -EINTR;
		return false;
	}
	uiopf_core_sync(core);	/* what has come by now is for those who wait by now, not for who comes later */
	n = unlikely(e->setup_flags & IORING_SETUP_SQ_REWIND) ? e->ring.sq_entries : uiopf_sq_ready(&e->ring);
	n = least(n, to_submit);
	*rc = uiopf_submit(e, n, n);
	uiopf_publish_cqes(e);	/* the batch's own completions; what task work adds is told of again */
	/* The backlog is for those who ask for events, and with DEFER_TASKRUN so is task work; who looks at devices looks first. */
	if (!(e->setup_flags & IORING_SETUP_DEFER_TASKRUN) ||
	    (flags & IORING_ENTER_GETEVENTS && *rc == (int)to_submit && !looks_at_devices(e)))
		task_work(e, false, min_complete, MOST_AT_ONCE, &(bool){ false });
	else
		submitted_only(e);
	uiopf_consumer_end(core);
	return *rc == (int)to_submit;
}

/*
 * A ring with IOPOLL and DEFER_TASKRUN, which has completions for its client: nothing is looked for, and no task work runs
 * (io_iopoll_check).
 */
static bool has_enough_of_devices(struct uiopf_engine *e)
{
	bool there;

	if (!looks_at_devices(e) || !(e->setup_flags & IORING_SETUP_DEFER_TASKRUN))
		return false;
	if (unlikely(uiopf_consumer_try_begin(e->core) < 0))
		return false;
	uiopf_core_sync(e->core);
	uiopf_flush_backlog(e);
	uiopf_publish_cqes(e);
	there = LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_CQ_HEAD)) != e->ring.cq_tail_published && !has_lost(e);
	if (there)
		submitted_only(e);
	uiopf_consumer_end(e->core);
	return there;
}

/* io_cqring_wait: first what would run anyway; only who must wait looks at times. */
static int wait_for_cqes(struct uiopf_engine *e, uint32_t min_complete, const struct argument *arg)
{
	struct waiting w = { .deadline = arg->deadline, .refused = arg->refused };
	int rc;

	if ((e->setup_flags & IORING_SETUP_DEFER_TASKRUN) && uiopf_other_submitter(e))
		return -EEXIST;
	if (has_enough_of_devices(e))
		return 0;
	if (min_complete > e->ring.cq_entries)
		min_complete = e->ring.cq_entries;
	w.runs = min_complete;
	if (looks_at_devices(e))
		min_complete = 0;
	w.wanted = min_complete;
	w.waiter.target = LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_CQ_HEAD)) + min_complete;
	w.first_tail = LOAD_SEQ(uiopf_ring_word(&e->ring, RING_CQ_TAIL));
	w.waiter.fired = READ_ONCE(&e->timeouts_fired);
	if (arg->least_ns)
		w.least_until = uiopf_now(&e->core->clock) + arg->least_ns;
	do {
		rc = worker_runs_now(e) ? wait_for_worker(e, &w) : wait_and_work(e, &w);
	} while (unlikely(rc == WAITS_OTHERWISE));
	uiopf_waiter_done(e, &w.waiter);
	/* An IOPOLL ring says at once that something was lost, whatever there is (io_iopoll_check). */
	return looks_at_devices(e) && rc == 0 && has_lost(e) ? -EBADR : rc;
}

/* What the call returns. That something was lost is still owed to whoever was told something else instead. */
static int result_of(struct uiopf_engine *e, int submitted, int rc)
{
	if (submitted)
		return submitted;
	if (unlikely(rc == -EBADR))
		WRITE_ONCE(&e->lost_unreported, false);
	return rc;
}

void uiopf_engine_replay(struct uiopf_engine *e, int hold_workers)
{
	e->replayed = e->tells_of_work = true;
	e->holds_workers = hold_workers;
}

uint64_t uiopf_engine_work_since(struct uiopf_engine *e)
{
	return e->work ? e->work_since : UINT64_MAX;
}

int uiopf_engine_run_workers(struct uiopf_engine *e, uint32_t most)
{
	const struct uiopf_request *r;
	int n = 0;

	if (uiopf_consumer_try_begin(e->core) < 0)
		return -EINTR;
	if (most)
		uiopf_run_workers(e, most);
	for (r = e->asked; r; r = r->work_next)
		n++;
	uiopf_consumer_end(e->core);
	return n;
}

/* The end of a call. What workers end from here on is for the client's next. */
static int leave(struct uiopf_engine *e, int rc)
{
	let_workers_work(e);
	return rc;
}

int uiopf_enter(struct uiopf_engine *e, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
		uint64_t timeout_ns)
{
	struct argument arg = { .deadline = UINT64_MAX };
	int submitted, rc;

	if (unlikely(flags & ~uiopf_enter_flags(e->kernel)))
		return -EINVAL;
	if (unlikely(e->disabled))
		return -EBADFD;
	if (!submit_first(e, to_submit, min_complete, flags, &submitted))
		return leave(e, submitted);
	if (!(flags & IORING_ENTER_GETEVENTS))
		return leave(e, submitted);
	if (flags & IORING_ENTER_EXT_ARG && timeout_ns <= INT64_MAX)	/* beyond that: none */
		arg.deadline = uiopf_time_of_wait(e, (int64_t)timeout_ns, flags & IORING_ENTER_ABS_TIMER);
	rc = wait_for_cqes(e, min_complete, &arg);
	return leave(e, result_of(e, submitted, rc));
}

/* io_get_ext_arg and io_validate_ext_arg, with the pointers that Linux has as system call arguments. */
static int load_argument(struct uiopf_engine *e, uint32_t flags, const void *at, uint64_t size, struct argument *arg)
{
	const struct io_uring_getevents_arg *ext = at;
	int64_t ktime;
	int rc;

	*arg = (struct argument){ .deadline = UINT64_MAX };
	if (!(flags & IORING_ENTER_EXT_ARG)) {
		arg->refused = at && size != 8 ? -EINVAL : 0;	/* a signal mask, which means nothing here */
		return 0;
	}
	if (flags & IORING_ENTER_EXT_ARG_REG)	/* no region is registered */
		return size == sizeof(struct io_uring_reg_wait) && !looks_at_devices(e) ? -EFAULT : -EINVAL;
	if (size != sizeof *ext)
		return -EINVAL;
	if (!ext)
		return -EFAULT;
	if (looks_at_devices(e))
		return 0;
	arg->least_ns = ext->min_wait_usec * 1000ull;
	if (ext->sigmask)
		arg->refused = ext->sigmask_sz != 8 ? -EINVAL : uiopf_windows_find(&e->windows, ext->sigmask, 8) ? 0 : -EFAULT;
	rc = ext->ts ? uiopf_timespec_load(e, ext->ts, &ktime) : 0;
	if (rc == -EFAULT)
		return rc;
	if (ext->ts)	/* a negative part is not refused here */
		arg->deadline = uiopf_time_of_wait(e, ktime, flags & IORING_ENTER_ABS_TIMER);
	return 0;
}

/* Nobody waits, as the argument is refused. What the call has set off happens all the same, on its way back. */
static int end_without_wait(struct uiopf_engine *e, int rc)
{
	if (e->setup_flags & IORING_SETUP_SQPOLL)
		return rc;
	if (unlikely(uiopf_consumer_try_begin(e->core) < 0))
		return -EINTR;
	if (e->setup_flags & IORING_SETUP_DEFER_TASKRUN)
		submitted_only(e);
	else
		task_work(e, false, 0, MOST_AT_ONCE, &(bool){ false });
	uiopf_consumer_end(e->core);
	return rc;
}

int uiopf_enter_ext(struct uiopf_engine *e, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
		    const void *argument, uint64_t size)
{
	struct argument arg;
	int submitted, rc;

	if (flags & ~uiopf_enter_flags(e->kernel))
		return -EINVAL;
	if (e->disabled)
		return -EBADFD;
	if (!submit_first(e, to_submit, min_complete, flags, &submitted))
		return leave(e, submitted);
	if (!(flags & IORING_ENTER_GETEVENTS))
		return leave(e, submitted);
	rc = load_argument(e, flags, argument, size, &arg);
	rc = rc < 0 ? end_without_wait(e, rc) : wait_for_cqes(e, min_complete, &arg);
	return leave(e, result_of(e, submitted, rc));
}
