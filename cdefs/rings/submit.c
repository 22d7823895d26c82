/*
 * From an SQE to its end: the order of checks, chains, drain, task work.
 *
 * Source: io_uring/io_uring.c: io_init_req, io_submit_sqe, io_submit_fail_init, io_queue_sqe_fallback, io_drain_req,
 * io_req_find_next, io_fail_links. Linux 6.12; how drained requests are counted is 6.18's, with the same effect.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rings/engine.h"

#define ANY_LINK (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)

/* ---- requests: a pool that grows by chunks, so that going on needs no memory ---- */

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

/* There is one. */
static struct uiopf_request *take_request(struct uiopf_engine *e)
{
	struct uiopf_request *r = e->free_requests;

	e->free_requests = r->work_next;
	e->alive++;
	return r;
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

static void add_work(struct uiopf_request *r, enum uiopf_todo todo)
{
	struct uiopf_engine *e = r->engine;

	r->todo = (uint8_t)todo;
	if (r->working)
		return;
	r->working = true;
	r->work_next = NULL;
	if (unlikely(e->setup_flags & IORING_SETUP_DEFER_TASKRUN) && !e->work)
		uiopf_tell_of_work(e);
	*e->work_end = r;
	e->work_end = &r->work_next;
	if (unlikely(e->setup_flags & IORING_SETUP_TASKRUN_FLAG))
		__atomic_fetch_or(uiopf_ring_word(&e->ring, RING_SQ_FLAGS), IORING_SQ_TASKRUN, __ATOMIC_SEQ_CST);
}

void uiopf_engine_add_work(struct uiopf_request *r)
{
	if (!r->working)
		add_work(r, r->started ? UIOPF_CONTINUE : UIOPF_START);
}

void uiopf_request_end_later(struct uiopf_request *r, int32_t res)
{
	r->res = res;
	add_work(r, UIOPF_FINISH);
}

void uiopf_request_cancel(struct uiopf_request *r)
{
	r->cancelled = true;
	if (!r->working)
		add_work(r, UIOPF_CONTINUE);
}

/* ---- chains ---- */

static void set_failed(struct uiopf_request *r)
{
	r->failed = true;
	if (r->sqe_flags & IOSQE_CQE_SKIP_SUCCESS) {
		r->sqe_flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
		r->skip_links = true;
	}
}

/* The rest of the chain behind a member that has failed: cancelled, or each with its own error. */
static void fail_links(struct uiopf_request *r)
{
	struct uiopf_request *link = r->link, *next;

	r->link = NULL;
	for (; link; link = next) {
		next = link->link;
		link->link = NULL;
		if (r->skip_links)
			link->sqe_flags |= IOSQE_CQE_SKIP_SUCCESS;
		else
			link->sqe_flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
		link->sqe_flags &= (uint8_t)~ANY_LINK;
		/* Not set_failed(): whether it is silent has just been said. */
		if (!link->failed) {
			link->failed = true;
			link->res = -ECANCELED;
		}
		add_work(link, UIOPF_FINISH);
	}
}

/* A member has ended: the next one starts, as task work, or none does. */
static void queue_next(struct uiopf_request *r)
{
	struct uiopf_request *next;

	if (r->has_timeout || r->guarded_by_timeout)
		uiopf_link_timeout_stop(r);
	if (r->failed && !(r->sqe_flags & IOSQE_IO_HARDLINK))
		fail_links(r);
	next = r->link;
	r->link = NULL;
	if (next)
		add_work(next, UIOPF_START);
}

static bool succeeded(const struct uiopf_request *r)
{
	if (unlikely(r->failed))
		return false;
	if (unlikely(r->opcode == IORING_OP_LINK_TIMEOUT))
		return true;	/* whatever comes of it, it is not it that has failed */
	if (r->res < 0)
		return r->opcode == IORING_OP_TIMEOUT && r->res == -ETIME &&
		       (r->op_flags & IORING_TIMEOUT_ETIME_SUCCESS);
	/* A read or write that did less than was asked for is no success, to its chain and to a skipped completion. */
	return !r->exact || (uint32_t)r->res == r->expected;
}

static void finish(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;

	if (unlikely(r->punted))
		e->by_worker = true;
	if (!r->failed && !succeeded(r))
		set_failed(r);
	if (!(r->sqe_flags & IOSQE_CQE_SKIP_SUCCESS)) {
		if (unlikely(r->wide))
			uiopf_complete_wide(e, r->user_data, r->res, r->cqe_flags, r->address, r->position);
		else
			uiopf_complete(e, r->user_data, r->res, r->cqe_flags);
	}
	e->finished = true;
	if (unlikely(r->sqe_flags & ANY_LINK))
		queue_next(r);
	uiopf_request_free(r);
}

/* Issues a request whose turn it is. */
static void start(struct uiopf_request *r)
{
	if (uiopf_request_issue(r) == UIOPF_DONE) {
		finish(r);
		return;
	}
	if (!r->listed)
		uiopf_request_list(r);
	if (unlikely(r->has_timeout))
		uiopf_link_timeout_start(r);
}

/* To a worker thread, which is the next turn of task work. */
static void punt(struct uiopf_request *r)
{
	r->punted = true;
	r->engine->cost.punts++;
	add_work(r, UIOPF_START);
	uiopf_request_list(r);
	if (r->has_timeout)
		uiopf_link_timeout_start(r);
}

static void carry_on(struct uiopf_request *r)
{
	if (unlikely(r->cancelled)) {
		if (r->wait.link)
			r->file->ops->cancel(r->file, &r->wait);
		r->res = -ECANCELED;
		if (!r->selected)	/* a classic buffer that it holds is reported, however it ends */
			r->cqe_flags = 0;
		finish(r);
	} else if (likely(r->todo == UIOPF_CONTINUE)) {
		if (uiopf_request_issue(r) == UIOPF_DONE)
			finish(r);
	} else if (r->todo == UIOPF_START) {
		start(r);
	} else {
		finish(r);
	}
}

uint32_t uiopf_run_work(struct uiopf_engine *e)
{
	struct uiopf_request *r = e->work, *next;
	uint32_t n = 0;

	if (!r)
		return 0;
	if (unlikely(e->setup_flags & IORING_SETUP_TASKRUN_FLAG))
		__atomic_fetch_and(uiopf_ring_word(&e->ring, RING_SQ_FLAGS), ~IORING_SQ_TASKRUN, __ATOMIC_SEQ_CST);
	e->work = NULL;
	e->work_end = &e->work;
	for (; r; r = next, n++) {
		next = r->work_next;
		r->working = false;
		carry_on(r);
	}
	return n;
}

/* ---- drain ---- */

static uint32_t chain_length(const struct uiopf_request *r)
{
	uint32_t n = 0;

	for (; r; r = r->link)
		n++;
	return n;
}

static void set_unusual(struct uiopf_engine *e)
{
	e->unusual = e->chain || e->restricted || e->drain_active || e->drain_next ||
		     e->setup_flags & IORING_SETUP_IOPOLL;
}

/* Lets those go for whom everything before has ended. */
static void queue_drained(struct uiopf_engine *e)
{
	while (e->drained) {
		struct uiopf_request *r = e->drained;

		if ((r->sqe_flags & IOSQE_IO_DRAIN) && e->alive != e->drained_count)
			return;
		e->drained = r->work_next;
		if (!e->drained)
			e->drained_end = &e->drained;
		e->drained_count -= chain_length(r);
		r->drained = false;
		add_work(r, UIOPF_START);
	}
}

static void drain(struct uiopf_request *r)
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
		set_unusual(e);
	}
}

/* ---- submission ---- */

/* A whole request, or the head of a whole chain, that is not simply issued. */
static void queue_unusual(struct uiopf_request *r)
{
	if (r->failed) {
		r->sqe_flags &= (uint8_t)~IOSQE_IO_HARDLINK;
		r->sqe_flags |= IOSQE_IO_LINK;
		r->cqe_flags = 0;
		finish(r);
	} else if (r->engine->drain_active) {
		drain(r);
	} else {
		punt(r);
	}
}

static void add_to_chain(struct uiopf_engine *e, struct uiopf_request *r)
{
	if (e->chain)
		e->chain_end->link = r;
	else
		e->chain = r;
	e->chain_end = r;
}

/* io_submit_fail_init: 0 in the middle of a chain, which goes on; otherwise the error, which ends the batch. */
static int fail_init(struct uiopf_request *r, int error)
{
	struct uiopf_engine *e = r->engine;

	set_failed(r);
	r->res = error;
	if (e->chain && !e->chain->failed) {
		set_failed(e->chain);
		e->chain->res = -ECANCELED;
	}
	if (r->sqe_flags & ANY_LINK) {
		add_to_chain(e, r);
		set_unusual(e);
		return 0;
	}
	if (e->chain) {
		add_to_chain(e, r);
		r = e->chain;
		e->chain = NULL;
		set_unusual(e);
	}
	queue_unusual(r);
	return error;
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

/* What is between the SQE's flags and its other fields in io_init_req. */
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

/* An SQE with a chain, a drain or anything else around it; the error that ends the batch. */
static int submit_unusual(struct uiopf_engine *e, struct uiopf_request *r)
{
	if (e->chain) {
		add_to_chain(e, r);
		if (r->sqe_flags & ANY_LINK)
			return 0;
		r = e->chain;
		e->chain = NULL;
		set_unusual(e);
		if (!r->failed && !(r->sqe_flags & IOSQE_ASYNC)) {
			start(r);
			return 0;
		}
	} else if (r->sqe_flags & ANY_LINK) {
		add_to_chain(e, r);
		e->unusual = true;
		return 0;
	} else if (!(r->sqe_flags & IOSQE_ASYNC)) {
		start(r);
		return 0;
	}
	queue_unusual(r);
	return 0;
}

#define UNUSUAL_FLAGS (IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_ASYNC)

/*
 * One SQE by way of a request: 0, or the error that ends the batch. By value: the caller's copy has no address then,
 * and one that is submitted plainly never leaves the registers.
 */
static __attribute__((noinline)) int submit_one(struct uiopf_engine *e, struct io_uring_sqe sqe)
{
	struct uiopf_request *r = take_request(e);
	int rc = uiopf_request_prepare(r, &sqe);

	if (unlikely(rc < 0))
		return fail_init(r, rc);
	if (unlikely(e->unusual || (r->sqe_flags & UNUSUAL_FLAGS)))
		return submit_unusual(e, r);
	if (uiopf_request_issue(r) == UIOPF_DONE)
		finish(r);
	else if (!r->listed)
		uiopf_request_list(r);
	return 0;
}

/* Begins to fetch what an SQE a few places ahead points to; its line is here by now. Nothing but a hint comes of it. */
static void prefetch_data(const struct uiopf_engine *e)
{
	const uint8_t *map;

	if (!uiopf_sq_is_published(&e->ring, RING_AHEAD / 2))
		return;
	map = uiopf_windows_find(&e->windows, uiopf_sq_peek_address(&e->ring, RING_AHEAD / 2), 1);
	if (map)
		__builtin_prefetch(map);
}

/* NOPs and WRITEs that ask for nothing special need no request: there is nothing to hold on to. */
static bool submit_plainly(struct uiopf_engine *e, const struct io_uring_sqe *sqe)
{
	if (sqe->opcode == IORING_OP_WRITE)
		return uiopf_write_plainly(e, sqe);
	if (sqe->opcode != IORING_OP_NOP || sqe->flags || sqe->ioprio || sqe->nop_flags || sqe->personality)
		return false;
	uiopf_complete(e, sqe->user_data, 0, 0);
	return true;
}

/* One that fails to start is the last, unless all are to be submitted. */
int uiopf_submit(struct uiopf_engine *e, uint32_t n)
{
	struct io_uring_sqe sqe;
	uint32_t consumed = 0;

	e->second_halves = 0;
	while (consumed + e->second_halves < n) {
		/* Without a request to be had, nothing is taken. */
		if (unlikely(!e->free_requests) && !uiopf_grow_requests(e)) {
			if (!consumed)
				return -EAGAIN;
			break;
		}
		if (unlikely(!uiopf_sq_take(&e->ring, &sqe)))
			break;	/* a bad index: dropped, counted there, and not here */
		consumed++;
		prefetch_data(e);
		if (likely(!e->unusual && submit_plainly(e, &sqe)))
			e->finished = true;
		else if (submit_one(e, sqe) < 0 && !(e->setup_flags & IORING_SETUP_SUBMIT_ALL))
			break;
	}
	e->cost.bytes_copied += consumed * sizeof sqe;
	/* A chain ends with the call. Linux gives its head to a worker, whatever it is. */
	if (unlikely(e->chain != NULL)) {
		struct uiopf_request *head = e->chain;

		e->chain = NULL;
		set_unusual(e);
		queue_unusual(head);
	}
	if (unlikely(e->setup_flags & IORING_SETUP_SQ_REWIND))
		e->ring.sq_head = 0;	/* each call begins at the first slot, and nobody looks at the indices */
	else
		uiopf_sq_commit(&e->ring);
	return (int)(consumed + e->second_halves);
}
