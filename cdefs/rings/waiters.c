#include "rings/waiters.h"

#include <sys/eventfd.h>

void uiopf_waiter_list(struct uiopf_engine *e, struct uiopf_waiter *waiter)
{
	struct uiopf_core *core = e->core;

	if (!waiter->has_eventfd) {
		waiter->eventfd = uiopf_eventfd_take(core);
		waiter->has_eventfd = true;
	}
	pthread_mutex_lock(&core->sleepers_lock);
	if (!waiter->listed) {
		WRITE_ONCE(&waiter->listed, true);
		waiter->next = e->waiters;
		e->waiters = waiter;
		WRITE_ONCE(&core->waiters, core->waiters + 1);
		STORE_SEQ(&e->cq_waiters, e->cq_waiters + 1);
	}
	pthread_mutex_unlock(&core->sleepers_lock);
}

/* Called with the lock held. */
static void unlist(struct uiopf_engine *e, struct uiopf_waiter **link)
{
	struct uiopf_waiter *waiter = *link;

	*link = waiter->next;
	WRITE_ONCE(&waiter->listed, false);
	WRITE_ONCE(&e->core->waiters, e->core->waiters - 1);
	STORE_SEQ(&e->cq_waiters, e->cq_waiters - 1);
}

void uiopf_waiter_done(struct uiopf_engine *e, struct uiopf_waiter *waiter)
{
	struct uiopf_waiter **link;
	eventfd_t value;

	if (!waiter->has_eventfd)
		return;
	pthread_mutex_lock(&e->core->sleepers_lock);
	if (waiter->listed) {
		for (link = &e->waiters; *link != waiter; link = &(*link)->next)
			;
		unlist(e, link);
	}
	pthread_mutex_unlock(&e->core->sleepers_lock);
	/* Told or not: a fault queue may have written it too. The next to sleep on it would wake up for nothing. */
	if (waiter->eventfd >= 0)
		eventfd_read(waiter->eventfd, &value);
	uiopf_eventfd_give(e->core, waiter->eventfd);
}

static bool is_over(const struct uiopf_engine *e, const struct uiopf_waiter *waiter)
{
	return (int32_t)(e->ring.cq_tail_published - READ_ONCE(&waiter->target)) >= 0 ||
	       e->timeouts_fired != READ_ONCE(&waiter->fired);
}

void uiopf_wake_waiters(struct uiopf_engine *e, bool all)
{
	struct uiopf_waiter **link = &e->waiters;

	pthread_mutex_lock(&e->core->sleepers_lock);
	while (*link) {
		const int fd = (*link)->eventfd;

		if (*link == e->looking || (!all && !is_over(e, *link))) {
			link = &(*link)->next;
			continue;
		}
		unlist(e, link);
		e->cost.wakeups++;
		if (fd >= 0)
			uiopf_eventfd_write(e->core, fd);
	}
	pthread_mutex_unlock(&e->core->sleepers_lock);
}
