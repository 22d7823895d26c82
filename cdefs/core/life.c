/* A core's beginning and end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/core.h"
#include "core/notify.h"

static void init_locks(struct uiopf_core *core)
{
	pthread_mutexattr_t recursive;

	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&core->control_lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	pthread_mutex_init(&core->consumer_lock, NULL);
	pthread_mutex_init(&core->sleepers_lock, NULL);
	pthread_mutex_init(&core->park_lock, NULL);
	pthread_cond_init(&core->park_changed, NULL);
}

/* The last of all that stood on it has let go. */
static void end_core(struct uiopf_lifetime *lifetime)
{
	struct uiopf_core *core = container_of(lifetime, struct uiopf_core, lifetime);
	struct uiopf_registered *registered;
	int fd, way;

	if (core->torn)
		return;
	uiopf_core_stop(core);
	for (fd = 3; fd < UIOPF_MAX_FILES; fd++)
		uiopf_core_close_fd(core, fd);
	for (way = 0; way < 2; way++)
		if (core->host_epoll[way] >= 0)
			close(core->host_epoll[way]);
	uiopf_notifier_close(core);
	if (core->worker_eventfd >= 0)
		close(core->worker_eventfd);
	while (core->spare_eventfds)
		close(core->spare_eventfd[--core->spare_eventfds]);
	while (core->registered) {
		registered = core->registered;
		core->registered = registered->next;
		free(registered);
	}
	pthread_mutex_destroy(&core->control_lock);
	pthread_mutex_destroy(&core->consumer_lock);
	pthread_mutex_destroy(&core->sleepers_lock);
	pthread_mutex_destroy(&core->park_lock);
	pthread_cond_destroy(&core->park_changed);
	free(core);
}

struct uiopf_core *uiopf_core_new(enum uiopf_clock_kind clock, uint64_t ns_per_count, int live)
{
	struct uiopf_core *core = aligned_alloc(128, sizeof *core);

	if (!core)
		return NULL;
	memset(core, 0, sizeof *core);
	core->lifetime = (struct uiopf_lifetime){ 1, end_core };
	uiopf_clock_init(&core->clock, clock, ns_per_count);
	core->live = live;
	core->driver = UIOPF_INLINE;
	core->next_ns = core->timer_ns = core->timer_known = UINT64_MAX;
	core->expiry_ns = UIOPF_NO_DEADLINE;
	core->kernel = UIOPF_LINUX(6, 12);
	core->host_epoll[0] = core->host_epoll[1] = core->wake_epoll = -1;
	core->worker_eventfd = -1;
	init_locks(core);
	return core;
}

int uiopf_core_free(struct uiopf_core *core)
{
	if (core->producers || core->queues || core->consumers)
		return -EBUSY;
	uiopf_core_stop(core);
	uiopf_let_go(&core->lifetime);
	return 0;
}

void uiopf_core_let_go(struct uiopf_core *core)
{
	if (core)
		uiopf_let_go(&core->lifetime);
}

struct uiopf_core *uiopf_core_hold(struct uiopf_core *core)
{
	uiopf_hold(&core->lifetime);
	return core;
}

void uiopf_core_stop_held(struct uiopf_core *core)
{
	if (!core)
		return;
	if (!core->abandoned)
		uiopf_core_stop(core);
	uiopf_let_go(&core->lifetime);
}

/*
 * fork(2) leaves the child a copy of what is private, with the locks as they were and no worker, and the very same files
 * and shared memory. Nothing in here is looked at by two threads: the child has one, and has called nothing else yet.
 */
void uiopf_core_abandon(struct uiopf_core *core)
{
	core->torn = core->control_depth > 0 || core->controlled;
	core->abandoned = true;
	core->live = false;
	core->running = false;
	core->driver = UIOPF_INLINE;
	core->sqpoll_runs = core->mailbox = core->asleep = core->control_depth = core->waiters = 0;
	core->controlled = core->has_controller = false;
	init_locks(core);
}
