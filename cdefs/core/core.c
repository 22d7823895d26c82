#include "core/core.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- what is turned ---- */

void uiopf_core_add_producer(struct uiopf_core *core, struct uiopf_producer *producer)
{
	producer->next = core->producers;
	core->producers = producer;
}

void uiopf_core_remove_producer(struct uiopf_core *core, struct uiopf_producer *producer)
{
	struct uiopf_producer **link;

	for (link = &core->producers; *link != producer; link = &(*link)->next)
		;
	*link = producer->next;
}

void uiopf_core_add_queue(struct uiopf_core *core, struct uiopf_queue *queue)
{
	queue->next = core->queues;
	core->queues = queue;
}

void uiopf_core_remove_queue(struct uiopf_core *core, struct uiopf_queue *queue)
{
	struct uiopf_queue **link;

	for (link = &core->queues; *link != queue; link = &(*link)->next)
		;
	*link = queue->next;
}

void uiopf_core_add_consumer(struct uiopf_core *core, struct uiopf_consumer *consumer)
{
	consumer->due_ns = UINT64_MAX;
	consumer->next = core->consumers;
	core->consumers = consumer;
}

void uiopf_core_remove_consumer(struct uiopf_core *core, struct uiopf_consumer *consumer)
{
	struct uiopf_consumer **link;

	for (link = &core->consumers; *link != consumer; link = &(*link)->next)
		;
	*link = consumer->next;
}

void uiopf_consumer_due(struct uiopf_core *core, struct uiopf_consumer *consumer, uint64_t when_ns)
{
	const struct uiopf_consumer *each;
	uint64_t first = UINT64_MAX;

	consumer->due_ns = when_ns;
	for (each = core->consumers; each; each = each->next)
		if (each->due_ns < first)
			first = each->due_ns;
	WRITE_ONCE(&core->timer_ns, first);
}

/* ---- the two steps ---- */

/*
 * The timer interrupt. What it does belongs to the consumer side, which under `enter` is not ours: then somebody who has
 * it now, in a system call, is not waited for; the next turn tries again.
 */
static void expire(struct uiopf_core *core)
{
	uint64_t now = uiopf_now(&core->clock), next = UIOPF_NO_DEADLINE, when;
	struct uiopf_queue *queue;

	if (now >= core->expiry_ns && uiopf_consumer_try(core)) {
		for (queue = core->queues; queue; queue = queue->next)
			if (queue->ops->expire) {
				when = queue->ops->expire(queue, now);
				next = when < next ? when : next;
			}
		uiopf_core_kick(core);
		uiopf_consumer_leave(core);
		core->expiry_ns = next;
	}
	if (core->expiry_ns < core->next_ns)
		WRITE_ONCE(&core->next_ns, core->expiry_ns);
}

void uiopf_core_publish(struct uiopf_core *core)
{
	struct uiopf_queue *queue;

	for (queue = core->queues; queue; queue = queue->next)
		if (queue->ops->publish)
			queue->ops->publish(queue);
}

/*
 * Linux wakes those who wait for a queue when a fault arrives, and a ring says so at once where it can: by TASKRUN in its
 * memory, or by its eventfd. Where the kernel's part runs in the client's calls, the hardware's thread does that for it; if
 * a client has the consumer's side now, the next turn does. True where that is owed, so that nobody sleeps over it.
 */
static bool arrive(struct uiopf_core *core, bool came)
{
	if (core->driver != UIOPF_ENTER || !READ_ONCE(&core->tells_at_once))
		return false;
	core->owes_sync |= came;
	if (core->owes_sync && uiopf_consumer_try(core)) {
		core->owes_sync = false;
		uiopf_core_sync(core);
		uiopf_consumer_leave(core);
	}
	return core->owes_sync;
}

uint32_t uiopf_produce(struct uiopf_core *core)
{
	struct uiopf_producer *producer;
	uint32_t did = 0;

	WRITE_ONCE(&core->next_ns, UINT64_MAX);
	for (producer = core->producers; producer; producer = producer->next)
		did += producer->ops->turn(producer);
	if (did)
		uiopf_pass_time(core, UIOPF_STORES);
	uiopf_core_publish(core);
	if (unlikely(core->expiry_ns != UIOPF_NO_DEADLINE))
		expire(core);
	return did + (unlikely(arrive(core, did)) ? 1 : 0);
}

uint32_t uiopf_core_sync(struct uiopf_core *core)
{
	struct uiopf_queue *queue;
	uint32_t did = 0;

	for (queue = core->queues; queue; queue = queue->next)
		did += queue->ops->sync(queue);
	if (unlikely(core->host_waits))
		did += core->host_sync(core);
	return did;
}

uint32_t uiopf_consume(struct uiopf_core *core)
{
	struct uiopf_consumer *consumer;
	uint32_t did = uiopf_core_sync(core);

	for (consumer = core->consumers; consumer; consumer = consumer->next)
		did += consumer->ops->run(consumer);
	uiopf_core_kick(core);
	uiopf_hand_over(core);
	return did;
}

void uiopf_core_settle(struct uiopf_core *core)
{
	struct uiopf_consumer *consumer;

	core->owes_signals = false;
	for (consumer = core->consumers; consumer; consumer = consumer->next)
		if (consumer->ops->settle)
			consumer->ops->settle(consumer);
}

void uiopf_core_kick(struct uiopf_core *core)
{
	struct uiopf_producer *producer;

	if (unlikely(core->owes_signals))
		uiopf_core_settle(core);
	for (producer = core->producers; producer; producer = producer->next)
		producer->ops->kick(producer);
}

void uiopf_core_wake_worker(struct uiopf_core *core)
{
	if (LOAD_SEQ(&core->asleep))
		eventfd_write(core->worker_eventfd, 1);
	uiopf_core_made_work(core);
}

void uiopf_hand_over_slow(struct uiopf_core *core)
{
	const bool sooner = core->timer_ns < core->timer_known;
	struct uiopf_consumer *consumer;

	if (sooner)
		core->timer_known = core->timer_ns;
	for (consumer = core->consumers; consumer; consumer = consumer->next)
		if (consumer->ops->hand_over)
			consumer->ops->hand_over(consumer, sooner);
}

/* ---- waking and sleeping ---- */

void uiopf_eventfd_write(const struct uiopf_core *core, int fd)
{
	eventfd_write(fd, 1);
	uiopf_tell_player(core);
}

void uiopf_eventfd_signal(struct uiopf_core *core, int fd)
{
	if (uiopf_wakes(core))
		uiopf_eventfd_write(core, fd);
}

/*
 * Linux' eventfd_signal() never waits: a counter without room stays as it is. Here a write to a client's own eventfd
 * would, for as long as the client likes, with everybody else's worker; so it is made O_NONBLOCK for the write.
 */
void uiopf_eventfd_signal_client(struct uiopf_core *core, int fd)
{
	int flags;

	if (!uiopf_wakes(core))
		return;
	flags = fcntl(fd, F_GETFL);
	if (likely(flags & O_NONBLOCK)) {
		uiopf_eventfd_write(core, fd);
		return;
	}
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	uiopf_eventfd_write(core, fd);
	fcntl(fd, F_SETFL, flags);
}

bool uiopf_eventfd_poll(const struct uiopf_core *core, int fd, uint64_t timeout_ns)
{
	struct timespec t = { (time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u) };
	struct pollfd p = { .fd = fd, .events = POLLIN };

	errno = 0;
	if (unlikely(core->player != NULL))
		return core->player->ops->sleep(core->player, fd, timeout_ns);
	return ppoll(&p, 1, timeout_ns == UINT64_MAX ? NULL : &t, NULL) > 0;
}

bool uiopf_eventfd_wait(const struct uiopf_core *core, int fd, uint64_t timeout_ns)
{
	eventfd_t value;

	if (!uiopf_eventfd_poll(core, fd, timeout_ns))
		return false;
	eventfd_read(fd, &value);
	return true;
}

bool uiopf_core_sleep(struct uiopf_core *core, int fd, uint64_t timeout_ns)
{
	struct timespec t = { (time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u) };
	struct pollfd p[4] = { { fd, POLLIN, 0 }, { -1, POLLIN, 0 }, { -1, POLLIN, 0 }, { -1, POLLIN, 0 } };
	const bool host = READ_ONCE(&core->host_waits);
	const bool kicks = fd >= 0 && fd == READ_ONCE(&core->worker_eventfd) && core->wake_epoll >= 0;
	struct epoll_event kicked[16];
	eventfd_t value;

	if (!host && !kicks)
		return uiopf_eventfd_wait(core, fd, timeout_ns);
	if (host) {
		p[1].fd = core->host_epoll[0];
		p[2].fd = core->host_epoll[1];
	}
	if (kicks)	/* the worker alone is kicked */
		p[3].fd = core->wake_epoll;
	if (ppoll(p, 4, timeout_ns == UINT64_MAX ? NULL : &t, NULL) <= 0)
		return false;
	if (p[0].revents)
		eventfd_read(fd, &value);
	if (p[3].revents)	/* edges: seen once, they are gone */
		while (epoll_wait(core->wake_epoll, kicked, 16, 0) == 16)
			;
	return true;
}

void uiopf_sleeper_list(struct uiopf_core *core, struct uiopf_sleeper *sleeper)
{
	pthread_mutex_lock(&core->sleepers_lock);
	if (!sleeper->listed) {
		WRITE_ONCE(&sleeper->listed, true);
		sleeper->next = core->sleepers;
		core->sleepers = sleeper;
		/* Pairs with the producer's look after it has published: one of us sees the other. */
		STORE_SEQ(&core->sleepers_count, core->sleepers_count + 1);
	}
	pthread_mutex_unlock(&core->sleepers_lock);
}

/* Called with the lock held. */
static void unlist(struct uiopf_core *core, struct uiopf_sleeper *sleeper)
{
	struct uiopf_sleeper **link;

	for (link = &core->sleepers; *link != sleeper; link = &(*link)->next)
		;
	*link = sleeper->next;
	WRITE_ONCE(&sleeper->listed, false);
	STORE_SEQ(&core->sleepers_count, core->sleepers_count - 1);
}

void uiopf_sleeper_unlist(struct uiopf_core *core, struct uiopf_sleeper *sleeper)
{
	pthread_mutex_lock(&core->sleepers_lock);
	if (sleeper->listed)
		unlist(core, sleeper);
	pthread_mutex_unlock(&core->sleepers_lock);
}

void uiopf_core_wake_sleepers(struct uiopf_core *core, const struct uiopf_file *file)
{
	struct uiopf_sleeper *sleeper, *next;

	pthread_mutex_lock(&core->sleepers_lock);
	for (sleeper = core->sleepers; sleeper; sleeper = next) {
		next = sleeper->next;
		if (file && sleeper->file && sleeper->file != file)
			continue;
		unlist(core, sleeper);
		WRITE_ONCE(&core->wakeups, core->wakeups + 1);
		if (sleeper->in_call)
			uiopf_eventfd_write(core, sleeper->eventfd);
		else
			uiopf_eventfd_signal(core, sleeper->eventfd);
	}
	pthread_mutex_unlock(&core->sleepers_lock);
}

void uiopf_turner_init(struct uiopf_turner *turner, struct uiopf_core *core, int eventfd)
{
	*turner = (struct uiopf_turner){ .core = core, .eventfd = eventfd };
}

void uiopf_turner_list(struct uiopf_turner *turner)
{
	struct uiopf_core *core = turner->core;

	pthread_mutex_lock(&core->sleepers_lock);
	if (!turner->listed) {
		turner->listed = true;
		turner->next = core->turners;
		WRITE_ONCE(&core->turners, turner);
	}
	pthread_mutex_unlock(&core->sleepers_lock);
}

void uiopf_turner_unlist(struct uiopf_turner *turner)
{
	struct uiopf_core *core = turner->core;
	struct uiopf_turner **link;

	pthread_mutex_lock(&core->sleepers_lock);
	if (turner->listed) {
		for (link = &core->turners; *link != turner; link = &(*link)->next)
			;
		WRITE_ONCE(link, turner->next);
		turner->listed = false;
	}
	pthread_mutex_unlock(&core->sleepers_lock);
}

void uiopf_core_wake_turners(struct uiopf_core *core)
{
	struct uiopf_turner *turner;

	pthread_mutex_lock(&core->sleepers_lock);
	while ((turner = core->turners)) {
		WRITE_ONCE(&core->turners, turner->next);
		turner->listed = false;
		eventfd_write(turner->eventfd, 1);
	}
	pthread_mutex_unlock(&core->sleepers_lock);
}

/* One that is by itself, for who has no channel in C. */
struct uiopf_turner *uiopf_turner_new(struct uiopf_core *core)
{
	struct uiopf_turner *turner = malloc(sizeof *turner);

	if (!turner)
		return NULL;
	uiopf_turner_init(turner, core, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (turner->eventfd < 0) {
		free(turner);
		return NULL;
	}
	uiopf_hold(&core->lifetime);
	return turner;
}

void uiopf_turner_free(struct uiopf_turner *turner)
{
	struct uiopf_core *core = turner ? turner->core : NULL;

	if (!turner || core->torn)
		return;
	if (!core->abandoned)
		uiopf_turner_unlist(turner);
	close(turner->eventfd);
	free(turner);
	uiopf_let_go(&core->lifetime);
}

int uiopf_turner_eventfd(const struct uiopf_turner *turner)
{
	return turner->eventfd;
}

int uiopf_eventfd_take(struct uiopf_core *core)
{
	int fd = -1;

	pthread_mutex_lock(&core->sleepers_lock);
	if (core->spare_eventfds)
		fd = core->spare_eventfd[--core->spare_eventfds];
	pthread_mutex_unlock(&core->sleepers_lock);
	return fd >= 0 ? fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void uiopf_eventfd_give(struct uiopf_core *core, int fd)
{
	if (fd < 0)
		return;
	pthread_mutex_lock(&core->sleepers_lock);
	if (core->spare_eventfds < UIOPF_SPARE_EVENTFDS) {
		core->spare_eventfd[core->spare_eventfds++] = fd;
		fd = -1;
	}
	pthread_mutex_unlock(&core->sleepers_lock);
	if (fd >= 0)
		close(fd);
}

/* ---- who may touch what ---- */

int uiopf_wait_a_moment(struct uiopf_patience *patience)
{
	const struct timespec moment = { 0, 50000 };
	uint64_t now;

	if (patience->looks++ < 2000) {
		cpu_relax();
		if (patience->looks % 64 == 0)
			sched_yield();	/* the other side may have no other processor */
		return 0;
	}
	now = uiopf_monotonic_ns();
	if (!patience->until)
		patience->until = now + UIOPF_SLICE_NS;
	return now >= patience->until || nanosleep(&moment, NULL) < 0 ? -EINTR : 0;
}

int uiopf_core_wait_a_moment(const struct uiopf_core *core, struct uiopf_patience *patience)
{
	return unlikely(core->player != NULL) ? uiopf_core_yield(core) : uiopf_wait_a_moment(patience);
}

/*
 * Not pthread_mutex_clocklock: a signal does not end that, and the thread sanitizer does not know it. In virtual time whoever
 * has it is on this thread, and has given way.
 */
static int lock_for_a_slice(const struct uiopf_core *core, pthread_mutex_t *lock)
{
	struct uiopf_patience patience = { 0 };

	while (unlikely(pthread_mutex_trylock(lock)))
		if (uiopf_core_wait_a_moment(core, &patience) < 0)
			return -EINTR;
	return 0;
}

/* Stops the worker between two turns, each of which is bounded: that is when it looks at the mailbox. */
static void stop_worker(struct uiopf_core *core)
{
	uint32_t spins = 0;

	__atomic_fetch_add(&core->mailbox, 1, __ATOMIC_SEQ_CST);
	uiopf_core_wake_worker(core);
	while (!LOAD_SEQ(&core->parked) && spins++ < 20000)
		uiopf_core_spin(core);
	if (LOAD_SEQ(&core->parked))
		return;
	pthread_mutex_lock(&core->park_lock);
	STORE_SEQ(&core->park_waiters, 1);
	while (!LOAD_SEQ(&core->parked))
		pthread_cond_wait(&core->park_changed, &core->park_lock);
	STORE_SEQ(&core->park_waiters, 0);
	pthread_mutex_unlock(&core->park_lock);
}

/* The control lock is ours. */
static void begin_control(struct uiopf_core *core)
{
	if (core->control_depth++)
		return;
	if (core->running)
		stop_worker(core);
	else if (unlikely(core->player != NULL))
		core->player->ops->park(core->player);
	/* Held by others for one call's work at a time, never while they wait: this ends. */
	pthread_mutex_lock(&core->consumer_lock);
	core->controlled = true;
	WRITE_ONCE(&core->controller, pthread_self());
	WRITE_ONCE(&core->has_controller, true);
}

void uiopf_control_begin(struct uiopf_core *core)
{
	pthread_mutex_lock(&core->control_lock);
	begin_control(core);
}

int uiopf_control_try_begin(struct uiopf_core *core)
{
	if (unlikely(lock_for_a_slice(core, &core->control_lock) < 0))
		return -EINTR;
	begin_control(core);
	return 0;
}

void uiopf_control_end(struct uiopf_core *core)
{
	if (--core->control_depth == 0) {
		uiopf_hand_over(core);
		WRITE_ONCE(&core->has_controller, false);
		core->controlled = false;
		pthread_mutex_unlock(&core->consumer_lock);
		if (core->running) {
			/* A worker that still spins goes on at once; one that sleeps has said so before it looked. */
			__atomic_fetch_sub(&core->mailbox, 1, __ATOMIC_SEQ_CST);
			if (LOAD_SEQ(&core->worker_waits)) {
				pthread_mutex_lock(&core->park_lock);
				pthread_cond_broadcast(&core->park_changed);
				pthread_mutex_unlock(&core->park_lock);
			}
		}
	}
	pthread_mutex_unlock(&core->control_lock);
}

/* A racy look, and right: nobody else stores or clears our own id. */
bool uiopf_in_control(struct uiopf_core *core)
{
	return READ_ONCE(&core->has_controller) && pthread_equal(READ_ONCE(&core->controller), pthread_self());
}

bool uiopf_consumer_try(struct uiopf_core *core)
{
	if (core->driver != UIOPF_ENTER || uiopf_in_control(core))
		return true;
	return pthread_mutex_trylock(&core->consumer_lock) == 0;
}

void uiopf_consumer_leave(struct uiopf_core *core)
{
	if (core->driver == UIOPF_ENTER && !uiopf_in_control(core)) {
		uiopf_hand_over(core);
		pthread_mutex_unlock(&core->consumer_lock);
	}
}

int uiopf_consumer_try_begin(struct uiopf_core *core)
{
	if (!READ_ONCE(&core->sqpoll_runs) && !uiopf_in_control(core)) {
		if (unlikely(lock_for_a_slice(core, &core->consumer_lock) < 0))
			return -EINTR;
		/* A worker cannot start while we hold the lock; it may have before. */
		if (!READ_ONCE(&core->sqpoll_runs))
			return 0;
		pthread_mutex_unlock(&core->consumer_lock);
	}
	return uiopf_control_try_begin(core);
}

void uiopf_consumer_begin(struct uiopf_core *core)
{
	if (!READ_ONCE(&core->sqpoll_runs) && !uiopf_in_control(core)) {
		pthread_mutex_lock(&core->consumer_lock);
		/* A worker cannot start while we hold the lock; it may have before. */
		if (!READ_ONCE(&core->sqpoll_runs))
			return;
		pthread_mutex_unlock(&core->consumer_lock);
	}
	uiopf_control_begin(core);
}

void uiopf_consumer_end(struct uiopf_core *core)
{
	if (core->controlled) {
		uiopf_control_end(core);
	} else {
		uiopf_hand_over(core);
		pthread_mutex_unlock(&core->consumer_lock);
	}
}

/* ---- the core itself ---- */

uint64_t uiopf_core_now(const struct uiopf_core *core)
{
	return uiopf_now(&core->clock);
}

void uiopf_core_tick(struct uiopf_core *core, uint64_t now_ns)
{
	WRITE_ONCE(&core->clock.manual_ns, now_ns);
	uiopf_core_wake_worker(core);	/* it may sleep until a time that has come now */
}

uint64_t uiopf_core_next_ns(const struct uiopf_core *core)
{
	const uint64_t producer = READ_ONCE(&core->next_ns), timer = READ_ONCE(&core->timer_ns);

	return producer < timer ? producer : timer;
}

static int at_most_int_max(uint32_t did)
{
	return did < INT_MAX ? (int)did : INT_MAX;
}

int uiopf_core_produce(struct uiopf_core *core)
{
	uint32_t did;

	/* Only without a worker, who else owns the producer's side. */
	if (READ_ONCE(&core->running))
		return 0;
	if (uiopf_control_try_begin(core) < 0)
		return -EINTR;
	did = core->running ? 0 : uiopf_produce(core);
	if (did)
		uiopf_core_sync(core);	/* both sides are ours: who waits is woken when it comes, not by the next call */
	uiopf_control_end(core);
	if (did)
		uiopf_core_made_work(core);
	return at_most_int_max(did);
}

int uiopf_core_consume(struct uiopf_core *core)
{
	uint32_t did;

	if (uiopf_consumer_try_begin(core) < 0)
		return -EINTR;
	did = uiopf_consume(core);
	uiopf_consumer_end(core);
	if (did)
		uiopf_core_made_work(core);
	return at_most_int_max(did);
}

uint64_t uiopf_core_wakeups(const struct uiopf_core *core)
{
	return READ_ONCE(&core->wakeups);
}

int uiopf_core_install(struct uiopf_core *core, struct uiopf_file *file)
{
	int fd;

	uiopf_control_begin(core);
	for (fd = 3; fd < UIOPF_MAX_FILES && core->file[fd]; fd++)
		;
	if (fd == UIOPF_MAX_FILES)
		fd = -EMFILE;
	else
		core->file[fd] = file;
	if (fd >= 0 && file->ops->release)
		file->users++;
	uiopf_control_end(core);
	return fd;
}

bool uiopf_core_close_fd(struct uiopf_core *core, int fd)
{
	struct uiopf_file *file = fd >= 0 && fd < UIOPF_MAX_FILES ? core->file[fd] : NULL;

	if (!file)
		return false;
	core->file[fd] = NULL;
	if (file->ops->release)
		uiopf_file_put(file);
	return true;
}

void uiopf_core_set_kernel(struct uiopf_core *core, uint32_t major, uint32_t minor)
{
	uiopf_control_begin(core);
	core->kernel = UIOPF_LINUX(major, minor);
	uiopf_control_end(core);
}

void uiopf_core_uninstall(struct uiopf_core *core, int fd, const struct uiopf_file *file)
{
	uiopf_control_begin(core);
	if (!file || (fd >= 0 && fd < UIOPF_MAX_FILES && core->file[fd] == file))
		uiopf_core_close_fd(core, fd);
	uiopf_control_end(core);
}

void uiopf_core_forget_file(struct uiopf_core *core, const struct uiopf_file *file)
{
	int fd;

	for (fd = 3; fd < UIOPF_MAX_FILES; fd++)
		if (core->file[fd] == file)
			core->file[fd] = NULL;
}

int uiopf_core_set_nonblock(struct uiopf_core *core, struct uiopf_file *file, int nonblock)
{
	uiopf_control_begin(core);
	if (nonblock)
		file->mode |= UIOPF_FILE_NONBLOCK;
	else
		file->mode &= ~UIOPF_FILE_NONBLOCK;
	uiopf_control_end(core);
	return 0;
}
