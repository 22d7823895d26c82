#include "rings/request.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "rings/completion.h"
#include "rings/resources.h"

/* ---- the pool ---- */

#define REQUEST_CHUNK 256u
#define MOST_REQUESTS (1u << 16)	/* as many as the largest CQ has room for; then EAGAIN, as without memory */

struct uiopf_request_chunk {
	struct uiopf_request_chunk *next;
	_Alignas(64) struct uiopf_request request[REQUEST_CHUNK];	/* three lines each */
};

bool uiopf_grow_requests(struct uiopf_engine *e)
{
	struct uiopf_request_chunk *chunk;
	struct uiopf_request **timer;
	uint32_t i;

	if (e->request_count >= MOST_REQUESTS)
		return false;
	timer = reallocarray(e->timer, e->request_count + REQUEST_CHUNK, sizeof(struct uiopf_request *));
	if (!timer)
		return false;
	e->timer = timer;
	chunk = aligned_alloc(64, sizeof *chunk);
	if (!chunk)
		return false;
	memset(chunk, 0, sizeof *chunk);
	for (i = 0; i < REQUEST_CHUNK; i++) {
		chunk->request[i].engine = e;
		chunk->request[i].work_next = e->free_requests;
		e->free_requests = &chunk->request[i];
	}
	chunk->next = e->chunks;
	e->chunks = chunk;
	e->request_count += REQUEST_CHUNK;
	return true;
}

void uiopf_request_list(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;

	r->listed = true;
	r->next = NULL;
	r->prev = e->last;
	if (e->last)
		e->last->next = r;
	else
		e->first = r;
	e->last = r;
}

void uiopf_request_unlist(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	struct uiopf_request **first = r->timed ? &e->timeouts : &e->first;
	struct uiopf_request **last = r->timed ? &e->timeouts_last : &e->last;

	if (!r->listed)
		return;
	if (r->prev)
		r->prev->next = r->next;
	else
		*first = r->next;
	if (r->next)
		r->next->prev = r->prev;
	else
		*last = r->prev;
	r->listed = false;
}

static void queue_drained(struct uiopf_engine *e);

/*
 * A command was called in its turn, and ended otherwise: cancelled, or refused. What it was called for still waits, and is
 * the next one's, whose client may be asleep.
 */
static __attribute__((noinline, cold)) void pass_on(struct uiopf_request *r)
{
	r->called = false;
	if (!(r->file->ops->poll(r->file) & POLLIN))
		return;
	uiopf_file_wake_one(r->file, POLLIN);
	uiopf_core_wake_sleepers(r->engine->core, r->file);
}

/* What it holds of others'; it holds nothing then. */
static void release(struct uiopf_request *r)
{
	if (unlikely(r->file_node || r->buffer_node)) {
		if (r->file_node)
			uiopf_node_put(r->engine, r->file_node);
		if (r->buffer_node)
			uiopf_node_put(r->engine, r->buffer_node);
		r->file_node = r->buffer_node = NULL;
	}
	if (unlikely(r->owns_memory)) {
		free((void *)(uintptr_t)r->extra);
		r->owns_memory = false;
	}
	if (r->file) {
		if (unlikely(r->wait.link != NULL))	/* whatever ended it, its file must not call it any more */
			r->file->ops->cancel(r->file, &r->wait);
		if (unlikely(r->called))
			pass_on(r);
		uiopf_file_put(r->file);
		r->file = NULL;
	}
}

void uiopf_request_free(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;

	release(r);
	uiopf_request_unlist(r);
	r->work_next = e->free_requests;
	e->free_requests = r;
	e->alive--;
	if (unlikely(e->drained != NULL))
		queue_drained(e);
}

void uiopf_release_requests(struct uiopf_engine *e)
{
	struct uiopf_request_chunk *chunk;
	uint32_t i;

	for (chunk = e->chunks; chunk; chunk = chunk->next)
		for (i = 0; i < REQUEST_CHUNK; i++)
			release(&chunk->request[i]);
}

void uiopf_free_requests(struct uiopf_engine *e)
{
	while (e->chunks) {
		struct uiopf_request_chunk *next = e->chunks->next;

		free(e->chunks);
		e->chunks = next;
	}
	free(e->timer);
}

/* ---- task work ---- */

void uiopf_request_add_work(struct uiopf_request *r, enum uiopf_todo todo)
{
	struct uiopf_engine *e = r->engine;
	const bool tells = !e->new_work;

	r->todo = (uint8_t)todo;
	if (r->working)
		return;
	r->working = true;
	r->work_next = NULL;
	e->new_work = true;
	*e->work_end = r;
	e->work_end = &r->work_next;
	if (unlikely(e->setup_flags & IORING_SETUP_TASKRUN_FLAG))
		__atomic_fetch_or(uiopf_ring_word(&e->ring, RING_SQ_FLAGS), IORING_SQ_TASKRUN, __ATOMIC_SEQ_CST);
	if (unlikely(e->tells_of_work) && tells)
		uiopf_tell_of_work(e);
}

void uiopf_engine_add_work(struct uiopf_request *r)
{
	if (!r->working)
		uiopf_request_add_work(r, r->started ? UIOPF_CONTINUE : UIOPF_START);
}

void uiopf_request_ask_worker(struct uiopf_request *r, enum uiopf_todo todo)
{
	struct uiopf_engine *e = r->engine;

	r->punted = true;
	if (likely(!e->holds_workers && !(e->setup_flags & IORING_SETUP_DEFER_TASKRUN))) {
		uiopf_request_add_work(r, todo);
		return;
	}
	r->todo = (uint8_t)todo;
	r->working = true;
	r->work_next = NULL;
	*e->asked_end = r;
	e->asked_end = &r->work_next;
}

/* It leaves the queue of the worker threads, if it is there. */
static void take_from_workers(struct uiopf_request *r)
{
	struct uiopf_request **at = &r->engine->asked;

	while (*at && *at != r)
		at = &(*at)->work_next;
	if (!*at)
		return;
	*at = r->work_next;
	if (!*at)
		r->engine->asked_end = at;
	r->working = false;
}

void uiopf_request_end_later(struct uiopf_request *r, int32_t res)
{
	r->res = res;
	uiopf_request_add_work(r, UIOPF_FINISH);
}

bool uiopf_request_post_later(struct uiopf_engine *e, uint64_t user_data, int32_t res, uint32_t cqe_flags)
{
	struct uiopf_request *r;

	if (unlikely(!e->free_requests) && !uiopf_grow_requests(e))
		return false;
	r = uiopf_request_take(e);
	e->alive--;
	*r = (struct uiopf_request){
		.engine = e, .user_data = user_data, .res = res, .cqe_flags = cqe_flags, .timer = UIOPF_NO_TIMER,
		.opcode = IORING_OP_NOP,
	};
	uiopf_request_add_work(r, UIOPF_POST);
	return true;
}

void uiopf_request_posted(struct uiopf_request *r)
{
	r->work_next = r->engine->free_requests;
	r->engine->free_requests = r;
}

void uiopf_request_cancel(struct uiopf_request *r)
{
	r->cancelled = true;
	if (unlikely(r->engine->asked != NULL))
		take_from_workers(r);
	if (!r->working)
		uiopf_request_add_work(r, UIOPF_CONTINUE);
}

/* ---- drain ---- */

static uint32_t chain_length(const struct uiopf_request *r)
{
	uint32_t n = 0;

	for (; r; r = r->link)
		n++;
	return n;
}

void uiopf_set_unusual(struct uiopf_engine *e)
{
	e->unusual = e->chain || e->restricted || e->drain_active || e->drain_next ||
		     e->setup_flags & IORING_SETUP_IOPOLL;
}

/*
 * Lets those go for whom everything before has ended. The first of the list waits for all that has left the list before
 * it, whether it drains or not: what is behind a drain waits for it, also when the drain has started and waits itself.
 * Those behind go along with the first up to the next that drains (io_queue_deferred, Linux 6.16 and later). Before, only
 * those that drain waited there, and all behind them went along.
 */
static void queue_drained(struct uiopf_engine *e)
{
	const bool all_wait = e->kernel >= UIOPF_LINUX(6, 16);
	bool waits = all_wait;

	while (e->drained) {
		struct uiopf_request *r = e->drained;

		waits = waits || (r->sqe_flags & IOSQE_IO_DRAIN);
		if (waits && e->alive != e->drained_count)
			return;
		e->drained = r->work_next;
		if (!e->drained)
			e->drained_end = &e->drained;
		e->drained_count -= chain_length(r);
		r->drained = false;
		/* For each, by way of task work. On 7.2 that is no call more: as recorded. */
		if (e->setup_flags & IORING_SETUP_DEFER_TASKRUN && e->kernel < UIOPF_LINUX(7, 2))
			uiopf_request_add_work(r, UIOPF_START);
		else
			uiopf_request_ask_worker(r, UIOPF_START);
		waits = all_wait && (r->sqe_flags & IOSQE_IO_DRAIN);
	}
}

void uiopf_request_drain(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	const bool drains = r->sqe_flags & IOSQE_IO_DRAIN;

	r->drained = true;
	r->work_next = NULL;
	*e->drained_end = r;
	e->drained_end = &r->work_next;
	e->drained_count += chain_length(r);
	queue_drained(e);
	if (!drains && !e->drained) {
		e->drain_active = false;
		uiopf_set_unusual(e);
	}
}

/* Begins a drain: with a chain open, its head drains, and so does what comes behind the chain. */
static void begin_drain(struct uiopf_engine *e)
{
	e->drain_active = true;
	if (e->chain) {
		e->chain->sqe_flags |= IOSQE_IO_DRAIN | IOSQE_ASYNC;
		e->drain_next = true;
	}
	e->unusual = true;
}

int uiopf_request_admit(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	const struct uiopf_restrictions *allowed = &e->restrictions;
	const uint8_t flags = r->sqe_flags;

	if (flags & IOSQE_CQE_SKIP_SUCCESS)
		e->drain_disabled = true;
	if (flags & IOSQE_IO_DRAIN) {
		if (e->drain_disabled)
			return -EOPNOTSUPP;
		begin_drain(e);
	}
	if (likely(!e->unusual))
		return 0;
	if (e->restricted &&
	    (!(allowed->sqe_ops[r->opcode / 64] >> r->opcode % 64 & 1) ||
	     (flags & allowed->flags_required) != allowed->flags_required ||
	     (flags & ~(allowed->flags_allowed | allowed->flags_required))))
		return -EACCES;
	if (e->drain_active)
		r->sqe_flags |= IOSQE_ASYNC;
	if (e->drain_next && !e->chain) {
		e->drain_next = false;
		e->drain_active = true;
		r->sqe_flags |= IOSQE_IO_DRAIN | IOSQE_ASYNC;
	}
	return 0;
}
