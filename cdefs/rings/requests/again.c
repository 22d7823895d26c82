/*
 * Trying once more. A request that finds nothing arms a poll. Where the poll is ready at once, and the call has nothing all
 * the same, Linux makes the call again as task work, so often, and then has a worker thread make it, who may block: our
 * worker thread is the next turn of the engine. With DEFER_TASKRUN each enter makes one of these attempts, or a few.
 *
 * Source: io_arm_poll_handler, io_queue_async, io_wq_submit_work; Linux 6.12.
 */
#include "rings/requests/again.h"

#define FRUITLESS_TRIES 126	/* the next is a worker's (APOLL_MAX_RETRY) */

enum uiopf_issue uiopf_try_again(struct uiopf_request *r)
{
	r->unfindable = false;
	if (r->fruitless++ > FRUITLESS_TRIES) {
		r->engine->cost.punts++;
		uiopf_stop_waiting(r);
		uiopf_request_ask_worker(r, r->started ? UIOPF_CONTINUE : UIOPF_START);
		return UIOPF_PENDING;
	}
	if (!(r->file->ops->poll(r->file) & (r->events | POLLHUP)))
		return uiopf_wait_for_any_file(r);
	r->unfindable = true;	/* it is not armed, nobody's work, and in no table */
	uiopf_stop_waiting(r);
	uiopf_engine_add_work(r);
	return UIOPF_PENDING;
}
