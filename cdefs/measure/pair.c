#include "measure/pair.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>

#include "base/atomics.h"

static void pin(pthread_t thread, unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(thread, sizeof set, &set);
}

/* The first two of a set; how many it has, at most two. */
static unsigned int first_two(const cpu_set_t *allowed, unsigned int cpu[2])
{
	unsigned int n, found = 0;

	for (n = 0; n < CPU_SETSIZE && found < 2; n++)
		if (CPU_ISSET(n, allowed))
			cpu[found++] = n;
	return found;
}

static void *far_thread(void *arg)
{
	struct uiopf_pair *pair = arg;

	STORE_RELEASE(&pair->ready, 1);
	pair->far(pair->arg);
	return NULL;
}

bool uiopf_pair_run(struct uiopf_pair *pair)
{
	cpu_set_t before;
	pthread_t far;
	unsigned int cpu[2], found = sched_getaffinity(0, sizeof before, &before) == 0 ? first_two(&before, cpu) : 0;
	bool pinned = found >= (pair->together ? 1 : 2);

	pair->ready = 0;
	if (pthread_create(&far, NULL, far_thread, pair))
		return false;
	if (pinned) {
		pin(far, cpu[pair->together ? 0 : 1]);
		pin(pthread_self(), cpu[0]);
	}
	while (!LOAD_ACQUIRE(&pair->ready))
		sched_yield();
	pair->near(pair->arg);
	pthread_join(far, NULL);
	if (pinned)
		sched_setaffinity(0, sizeof before, &before);
	return true;
}
