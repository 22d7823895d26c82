/*
 * Threads that wait in io_uring_enter, and who wakes them.
 *
 * How nobody sleeps on: a waiter lists itself, with its target, and looks at the ring once more. Whoever makes a CQE stores
 * the tail, and then looks at the list. Both are ordered by full barriers (or by the consumer's lock, under which the
 * waiter looks), so one of the two sees the other. Whoever is woken has left the list, and comes back to it before it
 * sleeps again; one that finds what it waits for takes itself out.
 *
 * A CQE may be made by anybody: by another thread's batch on this ring, a message, a timer, a batch on a ring that this one
 * polls, the control plane. What publishes CQEs wakes those who have enough by now (uiopf_publish_cqes). What makes task
 * work for a ring without running it, since the ring is not its own, holds the consumer's side meanwhile, and wakes those
 * who wait there when it gives that back (uiopf_hand_over).
 *
 * Each has an eventfd of its own. One that they shared would be read by the first to wake up, and the others, whose poll
 * looks again before it returns, would sleep on: so it was until somebody waited who was not alone.
 */
#pragma once
#include "rings/engine.h"

struct uiopf_waiter {
	struct uiopf_waiter *next;
	int eventfd;			/* -1: there was none to be had, and it looks again by itself */
	bool has_eventfd;		/* … or has tried to get one */
	bool listed;			/* written under the lock; cleared by who wakes it */
	uint32_t target;		/* the CQ's tail that it waits for; it may lower that while it is listed */
	uint32_t fired;			/* a TIMEOUT more than these ends its wait too */
};

/* Also of one that is listed already. */
void uiopf_waiter_list(struct uiopf_engine *engine, struct uiopf_waiter *waiter);
/* The wait is over. Its eventfd is left, empty, to whoever sleeps next. */
void uiopf_waiter_done(struct uiopf_engine *engine, struct uiopf_waiter *waiter);
/* Consumer: wakes those whose wait is over; all of them where there is work that they must run. */
void uiopf_wake_waiters(struct uiopf_engine *engine, bool all);
