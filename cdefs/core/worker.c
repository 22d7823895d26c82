/*
 * The worker thread: turns the steps, spins while there is work, then sleeps. Who may touch what is in core.h.
 *
 * Wake. While it runs, the worker alone writes `asleep`, and with it NEED_WAKEUP in the rings that it polls (`sleeping`).
 * Under `enter` it polls none, and NEED_WAKEUP stays set.
 *
 *  1. After a time without work the worker stores `asleep` and sets NEED_WAKEUP, turns once more, looks at the
 *     mailbox once more, and then sleeps on its eventfd (sleep_until_wanted()).
 *  2. Whoever makes work for it makes that visible first, and then looks whether it sleeps: a client at NEED_WAKEUP
 *     after it has stored the SQ's tail; all others at `asleep` (uiopf_core_wake_worker()) after an answer, a command
 *     or a count in the mailbox. Whoever finds it asleep writes its eventfd, or enters with SQ_WAKEUP, which does; a
 *     client of another process writes an eventfd of its own, which the sleeping worker polls too.
 *  3. Both store first and look afterwards, with a full barrier between the two, so that one sees the other. The last
 *     turn prevents the loss of work whose maker saw a worker that was still awake; the last look at the mailbox
 *     prevents the same for those who want quiet, who would wait for a worker that sleeps.
 *  4. The eventfd keeps what is written between that look and the poll: the poll ends at once.
 *  5. Of some things nobody tells. A time that comes bounds the sleep (time_to_sleep()); so does memory of a client
 *     that does not kick (time_to_look()). Under `enter` the worker is the hardware alone: what the rings wait for is
 *     waited for by those who are in enter. Under `sqpoll` it polls the host's descriptors together with its eventfd.
 *
 * Park. A controller counts itself into `mailbox` and waits until `parked` is 1; then memory that the worker uses may
 * change. While it runs, the worker alone writes `parked`.
 *
 *  6. The worker looks at the mailbox once between two turns. Before it stands still, consumers give what they owe to
 *     sleeping clients (`settle`): the turn in which they would have done so may be long in coming.
 *  7. The worker stores `parked` and then looks at `park_waiters`. A controller spins for a while, stores
 *     `park_waiters`, and then looks at `parked`. One sees the other. The controller looks and waits under park_lock,
 *     under which the worker broadcasts: no broadcast comes between the look and the wait.
 *  8. To let it go, the controller takes its count out of the mailbox and then looks at `worker_waits`. The worker
 *     spins, stores `worker_waits`, and looks at the mailbox under the lock. It is 7 the other way round.
 *  9. Let go, the worker stores 0 into `parked`, and looks at the mailbox once more. Without that look, a controller
 *     that came in between would find `parked` still 1, and change what the worker is about to use.
 *
 * Tests: tests/c/control.c, and tests/c/waiters.c for a worker that sleeps at every opportunity.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/core.h"

#define LOOKS_BEFORE_CLOCK 64u	/* turns without work between two looks at the clock */
#define SPINS_WHILE_PARKED 20000u
/*
 * How often a sleeping worker looks at the rings of other processes whose clients do not kick it. Spinning for them would
 * take a processor for ever; a millisecond takes about a hundredth of one, and that long an SQE may wait after a lull.
 */
#define LOOK_NS 1000000u
#define SHORTEST_SLEEP_NS 1000000u	/* a timer's own error would show in an open loop's latencies */

static uint32_t turn(struct uiopf_core *core)
{
	uint32_t did = uiopf_produce(core);

	return core->driver == UIOPF_SQPOLL ? did + uiopf_consume(core) : did;
}

/*
 * Stands still until nobody wants it to; true when it is to end. It ends without a lock, since whoever let us go may
 * hold it, and waking up from that takes longer than most control calls.
 */
static bool park(struct uiopf_core *core)
{
	uint32_t spins = 0;

	if (core->driver == UIOPF_SQPOLL)
		uiopf_core_settle(core);
	do {
		STORE_SEQ(&core->parked, 1);
		if (LOAD_SEQ(&core->park_waiters)) {
			pthread_mutex_lock(&core->park_lock);
			pthread_cond_broadcast(&core->park_changed);
			pthread_mutex_unlock(&core->park_lock);
		}
		while (LOAD_ACQUIRE(&core->mailbox) && !READ_ONCE(&core->stop) && spins++ < SPINS_WHILE_PARKED)
			uiopf_core_spin(core);
		if (LOAD_ACQUIRE(&core->mailbox) && !READ_ONCE(&core->stop)) {
			pthread_mutex_lock(&core->park_lock);
			STORE_SEQ(&core->worker_waits, 1);
			while (LOAD_SEQ(&core->mailbox) && !READ_ONCE(&core->stop))
				pthread_cond_wait(&core->park_changed, &core->park_lock);
			STORE_SEQ(&core->worker_waits, 0);
			pthread_mutex_unlock(&core->park_lock);
		}
		if (READ_ONCE(&core->stop))
			return true;
		STORE_SEQ(&core->parked, 0);
	} while (LOAD_SEQ(&core->mailbox));
	return false;
}

/* Until when it may sleep, from now on: UINT64_MAX: for good. */
static uint64_t time_to_sleep(const struct uiopf_core *core)
{
	uint64_t now = uiopf_now(&core->clock), next = core->next_ns;

	if (core->driver == UIOPF_SQPOLL && core->timer_ns < next)
		next = core->timer_ns;
	if (next == UINT64_MAX)
		return UINT64_MAX;
	return next > now ? next - now : 0;
}

static uint64_t time_to_look(const struct uiopf_core *core)
{
	const struct uiopf_consumer *consumer;

	if (core->driver == UIOPF_SQPOLL)
		for (consumer = core->consumers; consumer; consumer = consumer->next)
			if (consumer->ops->needs_looks && consumer->ops->needs_looks(consumer))
				return LOOK_NS;
	return UINT64_MAX;
}

static bool sleep_for(struct uiopf_core *core, uint64_t timeout)
{
	return core->driver == UIOPF_SQPOLL ? uiopf_core_sleep(core, core->worker_eventfd, timeout) :
					      uiopf_eventfd_wait(core, core->worker_eventfd, timeout);
}

static void tell_consumers(struct uiopf_core *core, bool asleep)
{
	struct uiopf_consumer *consumer;

	if (core->driver == UIOPF_SQPOLL)
		for (consumer = core->consumers; consumer; consumer = consumer->next)
			if (consumer->ops->sleeping)
				consumer->ops->sleeping(consumer, asleep);
}

/* Says that it sleeps, looks once more, and sleeps. */
static void sleep_until_wanted(struct uiopf_core *core)
{
	bool slept = false;

	STORE_SEQ(&core->asleep, 1);
	tell_consumers(core, true);
	/* What came before that was seen must not wait: pairs with wake_worker and with the client's look at the flag. */
	while (!turn(core) && !LOAD_SEQ(&core->mailbox)) {
		const uint64_t timeout = time_to_sleep(core), look = time_to_look(core);

		if (timeout <= SHORTEST_SLEEP_NS)
			break;
		if (!slept)
			WRITE_ONCE(&core->worker_sleeps, core->worker_sleeps + 1);
		slept = true;
		if (sleep_for(core, look < timeout ? look : timeout) || timeout <= look)
			break;
	}
	STORE_SEQ(&core->asleep, 0);
	tell_consumers(core, false);
}

/* A ring may ask for a longer one. */
static uint64_t idle_time(const struct uiopf_core *core)
{
	return core->driver == UIOPF_SQPOLL && core->sq_idle_ns > core->idle_ns ? core->sq_idle_ns : core->idle_ns;
}

static void *work(void *arg)
{
	struct uiopf_core *core = arg;
	uint64_t idle_since = 0;
	uint32_t idle_turns = 0;

	for (;;) {
		if (unlikely(LOAD_ACQUIRE(&core->mailbox))) {
			if (park(core))
				return NULL;
			idle_turns = 0;
		}
		if (turn(core)) {
			idle_turns = 0;
			continue;
		}
		if (unlikely(READ_ONCE(&core->yields)))
			sched_yield();
		if (idle_turns++ == 0)
			idle_since = 0;
		if (core->idle_ns == UINT64_MAX || idle_turns % LOOKS_BEFORE_CLOCK)
			continue;
		if (!idle_since) {
			idle_since = uiopf_now(&core->clock);
		} else if (uiopf_now(&core->clock) - idle_since >= idle_time(core)) {
			sleep_until_wanted(core);
			idle_turns = 0;
		}
	}
}

/* Quiescent. Under `enter` consumers are asleep for good, and the calls that wake them do what they would. */
static void say_asleep(struct uiopf_core *core, bool asleep)
{
	struct uiopf_consumer *consumer;

	for (consumer = core->consumers; consumer; consumer = consumer->next)
		if (consumer->ops->sleeping)
			consumer->ops->sleeping(consumer, asleep);
}

/*
 * Quiescent, with no worker that polls the rings. Whoever waits in a system call has begun beside another driver: it sleeps
 * until the worker wakes it, where there is none now, or does work that is the worker's now. It looks again.
 */
static void call_waiters(struct uiopf_core *core)
{
	struct uiopf_consumer *consumer;

	for (consumer = core->consumers; consumer; consumer = consumer->next)
		if (consumer->ops->hand_over)
			consumer->ops->hand_over(consumer, true);
}

static void forget_worker(struct uiopf_core *core)
{
	say_asleep(core, false);
	WRITE_ONCE(&core->running, false);
	WRITE_ONCE(&core->yields, false);
	WRITE_ONCE(&core->driver, UIOPF_INLINE);
	core->mailbox = 0;
	STORE_SEQ(&core->asleep, 0);
	STORE_SEQ(&core->sqpoll_runs, 0);
	call_waiters(core);
}

/* Whether this thread and one on a cpu (-1: wherever this one may be) have a single processor between them. */
static bool share_one_processor(int cpu)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
		return false;	/* more processors than fit in a cpu_set_t */
	if (cpu >= 0 && cpu < CPU_SETSIZE)
		CPU_SET((unsigned int)cpu, &allowed);
	return CPU_COUNT(&allowed) == 1;
}

int uiopf_core_start(struct uiopf_core *core, enum uiopf_driver driver, int cpu, uint64_t idle_ns)
{
	cpu_set_t set;
	int rc = 0;

	if (driver != UIOPF_ENTER && driver != UIOPF_SQPOLL)
		return -EINVAL;
	uiopf_control_begin(core);
	if (core->running) {
		uiopf_control_end(core);
		return -EBUSY;
	}
	/* Kept until the core goes: a client that kicks a worker as it ends must not write into some other file. */
	if (core->worker_eventfd < 0)
		WRITE_ONCE(&core->worker_eventfd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (core->worker_eventfd < 0) {
		rc = -errno;
		uiopf_control_end(core);
		return rc;
	}
	call_waiters(core);
	WRITE_ONCE(&core->driver, driver);
	core->idle_ns = idle_ns;
	core->stop = false;
	core->parked = 0;
	WRITE_ONCE(&core->yields, share_one_processor(-1));
	/* It begins parked, as if this section had stopped it; the end of the section lets it go. */
	core->mailbox = 1;
	WRITE_ONCE(&core->running, true);
	STORE_SEQ(&core->sqpoll_runs, driver == UIOPF_SQPOLL);
	say_asleep(core, driver == UIOPF_ENTER);
	rc = -pthread_create(&core->thread, NULL, work, core);
	if (rc < 0) {
		forget_worker(core);
	} else if (cpu >= 0 && cpu < CPU_SETSIZE) {
		/* A wish: a machine with fewer cores, or a narrower mask, runs it where it can. */
		CPU_ZERO(&set);
		CPU_SET((unsigned int)cpu, &set);
		if (!pthread_setaffinity_np(core->thread, sizeof set, &set))
			WRITE_ONCE(&core->yields, share_one_processor(cpu));
	}
	uiopf_control_end(core);
	return rc;
}

int uiopf_core_play(struct uiopf_core *core, enum uiopf_driver driver)
{
	int rc = -EINVAL;

	if (driver != UIOPF_ENTER && driver != UIOPF_SQPOLL)
		return rc;
	uiopf_control_begin(core);
	rc = core->driver == UIOPF_INLINE ? 0 : -EBUSY;
	if (rc == 0) {
		call_waiters(core);
		WRITE_ONCE(&core->driver, driver);
		WRITE_ONCE(&core->yields, true);
		STORE_SEQ(&core->sqpoll_runs, driver == UIOPF_SQPOLL);
		say_asleep(core, driver == UIOPF_ENTER);
	}
	uiopf_control_end(core);
	return rc;
}

int uiopf_core_stop(struct uiopf_core *core)
{
	uiopf_control_begin(core);
	if (!core->running && core->driver != UIOPF_INLINE) {
		forget_worker(core);	/* it was only played */
	} else if (core->running) {
		pthread_mutex_lock(&core->park_lock);
		WRITE_ONCE(&core->stop, true);
		pthread_cond_broadcast(&core->park_changed);
		pthread_mutex_unlock(&core->park_lock);
		pthread_join(core->thread, NULL);
		forget_worker(core);	/* so that the section ends as one without a worker */
	}
	uiopf_control_end(core);
	return 0;
}

int uiopf_core_yields(const struct uiopf_core *core)
{
	return READ_ONCE(&core->yields);
}

int uiopf_core_driver(const struct uiopf_core *core)
{
	return (int)core->driver;
}

uint64_t uiopf_core_worker_sleeps(const struct uiopf_core *core)
{
	return READ_ONCE(&core->worker_sleeps);
}
