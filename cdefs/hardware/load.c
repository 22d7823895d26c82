#include "hardware/load.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* ---- when ---- */

/* splitmix64: the whole state is one word, and any seed is good. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* So long after the start; what is too long for the clock is as far away as can be, and never comes. */
static uint64_t after(uint64_t start_ns, double ns)
{
	return ns < (double)(UIOPF_NO_DEADLINE - start_ns) * 0.5 ? start_ns + (uint64_t)ns : UIOPF_NO_DEADLINE;
}

uint64_t uiopf_load_due(const struct uiopf_loader *load, uint64_t now)
{
	switch (load->config.mode) {
	case UIOPF_LOAD_TRACE:
		return after(load->start_ns, (double)(load->row[load->cursor].time_ns - load->row[0].time_ns) /
						     load->config.speed);
	case UIOPF_LOAD_POISSON:
		return after(load->start_ns, load->due);
	default:
		return now;
	}
}

static void next_arrival(struct uiopf_loader *load)
{
	double uniform;

	if (load->config.mode != UIOPF_LOAD_POISSON)
		return;
	uniform = ((double)(next_random(&load->random) >> 11) + 1) / 9007199254740993.0;	/* in (0, 1] */
	load->due -= log(uniform) * 1e9 / load->config.rate;
}

bool uiopf_load_is_due(struct uiopf_loader *load, uint64_t now, uint64_t *when)
{
	*when = uiopf_load_due(load, now);
	if (*when <= now)
		return true;
	if (*when < load->core->next_ns)
		WRITE_ONCE(&load->core->next_ns, *when);
	return false;
}

const struct uiopf_access *uiopf_load_next(struct uiopf_loader *load, uint64_t now, uint32_t pages, uint32_t most,
					   bool *last)
{
	const struct uiopf_access *row = &load->row[load->cursor++];

	if (pages == 0)
		__builtin_prefetch(row + 8);
	next_arrival(load);
	*last = pages + 1 >= most || load->cursor == load->rows || row[1].pasid != row->pasid ||
		uiopf_load_due(load, now) > now;
	return row;
}

void uiopf_load_pass_over(struct uiopf_loader *load)
{
	load->cursor++;
	next_arrival(load);
}

/* ---- a pass ---- */

void uiopf_load_tell(const struct uiopf_loader *load)
{
	uint32_t i;

	for (i = 0; i < load->done_eventfds; i++)
		eventfd_write(load->done_eventfd[i], 1);
}

void uiopf_load_finish(struct uiopf_loader *load)
{
	load->active = false;
	load->busy_ns += uiopf_now(&load->core->clock) - load->start_ns;
	/* Pairs with the waiting side: counts and latencies are complete. */
	STORE_RELEASE(&load->passes, load->passes + 1);
	uiopf_load_tell(load);
}

void uiopf_load_init(struct uiopf_loader *load, struct uiopf_core *core)
{
	load->core = core;
}

int uiopf_load_set_rows(struct uiopf_loader *load, struct uiopf_access *rows, uint64_t n)
{
	if (load->active)
		return -EBUSY;
	free(load->row);
	load->row = rows;
	load->rows = n;
	return 0;
}

int uiopf_load_start(struct uiopf_loader *load, const struct uiopf_load *config)
{
	if (!config->in_flight || !config->group)
		return -EINVAL;
	if ((config->mode == UIOPF_LOAD_TRACE && !(config->speed > 0)) ||
	    (config->mode == UIOPF_LOAD_POISSON && !(config->rate > 0)))
		return -EINVAL;
	if (load->active)
		return -EBUSY;
	load->config = *config;
	load->plain = config->mode == UIOPF_LOAD_CLOSED && config->group == 1;
	load->cursor = 0;
	load->random = config->seed;
	load->due = 0;
	load->active = true;
	load->start_ns = uiopf_now(&load->core->clock);
	next_arrival(load);
	return 0;
}
