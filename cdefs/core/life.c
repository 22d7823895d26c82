/* A core's beginning and end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/core.h"
#include "core/notify.h"

struct uiopf_core *uiopf_core_new(enum uiopf_clock_kind clock, uint64_t ns_per_count, int live)
{
	struct uiopf_core *core = aligned_alloc(128, sizeof *core);
	pthread_mutexattr_t recursive;

	if (!core)
		return NULL;
	memset(core, 0, sizeof *core);
	uiopf_clock_init(&core->clock, clock, ns_per_count);
	core->live = live;
	core->driver = UIOPF_INLINE;
	core->next_ns = core->timer_ns = UINT64_MAX;
	core->expiry_ns = UIOPF_NO_DEADLINE;
	core->kernel = UIOPF_LINUX(6, 12);
	core->host_epoll[0] = core->host_epoll[1] = core->wake_epoll = -1;
	core->worker_eventfd = -1;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&core->control_lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	pthread_mutex_init(&core->consumer_lock, NULL);
	pthread_mutex_init(&core->sleepers_lock, NULL);
	pthread_mutex_init(&core->park_lock, NULL);
	pthread_cond_init(&core->park_changed, NULL);
	return core;
}

int uiopf_core_free(struct uiopf_core *core)
{
	int fd, way;

	if (core->producers || core->queues || core->consumers)
		return -EBUSY;
	uiopf_core_stop(core);
	for (fd = 3; fd < UIOPF_MAX_FILES; fd++)
		uiopf_core_close_fd(core, fd);
	for (way = 0; way < 2; way++)
		if (core->host_epoll[way] >= 0)
			close(core->host_epoll[way]);
	uiopf_notifier_close(core);
	if (core->worker_eventfd >= 0)
		close(core->worker_eventfd);
	pthread_mutex_destroy(&core->control_lock);
	pthread_mutex_destroy(&core->consumer_lock);
	pthread_mutex_destroy(&core->sleepers_lock);
	pthread_mutex_destroy(&core->park_lock);
	pthread_cond_destroy(&core->park_changed);
	free(core);
	return 0;
}
