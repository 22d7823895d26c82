/*
 * From an SQE to its end: the order of checks, chains, what task work does.
 *
 * Source: io_uring/io_uring.c: io_init_req, io_submit_sqe, io_submit_fail_init, io_queue_sqe_fallback, io_drain_req,
 * io_req_find_next, io_fail_links. Linux 6.12; how drained requests are counted is 6.18's, with the same effect.
 */
#include "rings/submit.h"

#include <errno.h>

#include "rings/completion.h"
#include "rings/operation.h"
#include "rings/request.h"
#include "rings/resources.h"
#include "rings/timer.h"

#define ANY_LINK (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)

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
		uiopf_request_add_work(link, UIOPF_FINISH);
	}
}

/* Whether its operation has returned a failure, which task work completes when a worker thread has called it. */
static bool returned_failure(const struct uiopf_request *r)
{
	const uint32_t flags = r->engine->operations[r->opcode].flags;

	if (r->res >= 0)
		return false;
	if (r->opcode == IORING_OP_RECV || r->opcode == IORING_OP_SEND)
		return r->res == -ENOTSOCK || r->res == -EBADF || (r->res == -EAGAIN && (r->ioprio & IORING_RECVSEND_POLL_FIRST));
	if (!(flags & UIOPF_OP_RESULT))
		return true;
	if (!(flags & UIOPF_OP_FILE))
		return false;
	return !r->file || (r->opcode != IORING_OP_MSG_RING && !r->file->ops->command);	/* it was not called at all */
}

/* Whether a worker thread's call has ended it, and not task work. */
static bool ended_in_worker(const struct uiopf_request *r)
{
	if (likely(!r->punted) || r->todo == UIOPF_FINISH)
		return false;
	if (r->engine->setup_flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_IOPOLL))
		return false;	/* only the submitter completes (io_req_complete_post) */
	return !returned_failure(r);
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
	if (!next)
		return;
	if (unlikely(r->engine->in_worker || ended_in_worker(r)))
		uiopf_request_ask_worker(next, UIOPF_START);	/* the thread goes on with the chain (io_wq_free_work) */
	else
		uiopf_request_add_work(next, UIOPF_START);
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

/* It has ended, and nobody finds it any more. */
static void hide(struct uiopf_request *r)
{
	uiopf_request_unlist(r);
	if (r->wait.link)
		r->file->ops->cancel(r->file, &r->wait);
}

/* What comes of its end comes with the end of the batch. */
static void hold_back(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;

	hide(r);
	r->work_next = NULL;
	*e->held_back_end = r;
	e->held_back_end = &r->work_next;
}

/* The next of their chains, and what is drained behind those that have ended. */
static void release_held_back(struct uiopf_engine *e)
{
	struct uiopf_request *r, *next;

	for (r = e->held_back; r; r = next) {
		next = r->work_next;
		if (r->sqe_flags & ANY_LINK)
			queue_next(r);
		uiopf_request_free(r);
	}
	e->held_back = NULL;
	e->held_back_end = &e->held_back;
}

/* The last that held it lets it go (io_put_req, io_free_req). */
static void let_go(struct uiopf_request *r)
{
	if (r->sqe_flags & ANY_LINK)
		queue_next(r);
	uiopf_request_add_work(r, UIOPF_LET_GO);
}

/*
 * The end of a batch: those who count its completions are called, and then its chains go on. Whoever waits for the completions
 * is called before the chains, and before the task work that is there by now.
 */
static void post_batch(struct uiopf_engine *e)
{
	const bool posted = e->posted_tail != e->ring.cq_tail;

	if (unlikely(e->held_back != NULL || e->work != NULL)) {
		uiopf_publish_cqes(e);
	} else {
		uiopf_all_posted(e);
		if (unlikely(e->count_timeouts != NULL) && (posted || e->finished || e->posted)) {
			e->counted = true;
			e->finished = e->posted = false;
			e->count_timeouts(e);
		}
	}
	if (unlikely(e->held_back != NULL))
		release_held_back(e);
}

#define NOT_CALLED UINT32_MAX

/*
 * A request that is called while it runs must not be added to the task work: it may end, and be freed, before its turn comes.
 * So it seems to be there already, as on Linux it owns itself (io_poll_get_ownership): a call is then only remembered, and
 * what it said is not believed.
 */
bool uiopf_flush_before(struct uiopf_request *r)
{
	const uint32_t woken = r->woken;
	bool called;

	r->working = true;
	r->woken = NOT_CALLED;
	uiopf_publish_cqes(r->engine);
	if (r->engine->held_back)
		release_held_back(r->engine);
	r->working = false;
	called = r->woken != NOT_CALLED;
	if (!called)
		r->woken = woken;
	return called;
}

/* What was moved has called others at that moment, and not behind what comes next: the host is asked for them. */
static void call_others(struct uiopf_engine *e)
{
	if (unlikely(e->core->host_moved) && e->core->host_waits)
		uiopf_core_sync(e->core);
}

static void end_batch(struct uiopf_engine *e)
{
	e->in_batch = false;
	call_others(e);
	if (unlikely(e->held_back != NULL))
		uiopf_timers_fire(e, UINT32_MAX);
	post_batch(e);
}

static void finish(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;

	if (unlikely(r->punted)) {
		if (e->in_worker && (e->setup_flags & IORING_SETUP_DEFER_TASKRUN)) {
			uiopf_request_add_work(r, UIOPF_FINISH);	/* only the submitter completes (io_req_complete_post) */
			return;
		}
		/* A deferred ring's worker leaves the end to the submitter; what waited in its call has not been told of yet. */
		e->by_worker |= ((e->setup_flags & IORING_SETUP_DEFER_TASKRUN) && r->todo != UIOPF_FINISH) || ended_in_worker(r);
	}
	if (!r->failed && !succeeded(r))
		set_failed(r);
	if (!(r->sqe_flags & IOSQE_CQE_SKIP_SUCCESS)) {
		if (unlikely(r->wide))
			uiopf_complete_wide(e, r->user_data, r->res, r->cqe_flags, r->address, r->position);
		else
			uiopf_complete(e, r->user_data, r->res, r->cqe_flags);
	}
	e->finished = true;
	if (unlikely(r->holds))
		let_go(r->guarded);
	if (unlikely(r->has_timeout) && uiopf_link_timeout_holds(r)) {
		hide(r);
		return;
	}
	if (unlikely(e->holds_back)) {
		hold_back(r);
		return;
	}
	if (unlikely(r->sqe_flags & ANY_LINK)) {
		if (e->in_batch && !ended_in_worker(r)) {	/* its chain goes on as task work, behind that of the batch */
			hold_back(r);
			return;
		}
		queue_next(r);
	}
	uiopf_request_free(r);
}

static void punt(struct uiopf_request *r);

/*
 * Whether task work gives it to a worker once more: one was asked for (io_req_task_submit). On other rings a worker is the
 * same turn, as he comes by himself.
 */
static bool goes_to_worker(const struct uiopf_request *r)
{
	return unlikely(r->sqe_flags & IOSQE_ASYNC) && (r->engine->setup_flags & IORING_SETUP_DEFER_TASKRUN) &&
	       !r->engine->in_worker;
}

/* Issues a request whose turn it is. */
static void start(struct uiopf_request *r)
{
	if (goes_to_worker(r)) {
		punt(r);
		return;
	}
	if (unlikely(r->sqe_flags & IOSQE_ASYNC))	/* a member of a chain, whose turn has come (io_req_task_submit) */
		r->punted = true;
	if (uiopf_request_issue(r) == UIOPF_DONE) {
		/* By task work, behind what the workers have begun meanwhile (io_wq_submit_work). */
		if (unlikely(r->punted) && !(r->engine->setup_flags & IORING_SETUP_DEFER_TASKRUN) && returned_failure(r))
			uiopf_request_end_later(r, r->res);
		else
			finish(r);
		return;
	}
	if (!r->listed)
		uiopf_request_list(r);
	/* While a worker blocks in its call, its time does not begin: Linux starts that behind the call. */
	if (unlikely(r->has_timeout) && (!r->punted || r->sqe_flags & IOSQE_ASYNC))
		uiopf_link_timeout_start(r);
}

/* To a worker thread, which is the next turn of task work. */
static void punt(struct uiopf_request *r)
{
	r->engine->cost.punts++;
	uiopf_request_ask_worker(r, UIOPF_START);
	if (!r->listed)
		uiopf_request_list(r);
	if (r->has_timeout && r->sqe_flags & IOSQE_ASYNC)
		uiopf_link_timeout_start(r);
}

static void carry_on(struct uiopf_request *r)
{
	if (unlikely(r->cancelled)) {
		/* A worker that waits in its call is interrupted. */
		r->res = r->wait.link && r->punted && !(r->sqe_flags & IOSQE_ASYNC) ? -EINTR : -ECANCELED;
		if (r->wait.link)
			r->file->ops->cancel(r->file, &r->wait);
		if (unlikely(r->partial)) {	/* a failure that says what was moved (io_sendrecv_fail) */
			set_failed(r);
			r->res = (int32_t)r->position;
		}
		/* A buffer that it holds is reported, however it ends; but for what was a multishot (io_read_mshot). */
		if (!r->selected || r->opcode == IORING_OP_READ_MULTISHOT)
			r->cqe_flags = 0;
		finish(r);
	} else if (likely(r->todo == UIOPF_CONTINUE)) {
		if (goes_to_worker(r) && r->punted && r->opcode != IORING_OP_POLL_ADD) {
			uiopf_request_ask_worker(r, UIOPF_CONTINUE);
			return;
		}
		if (uiopf_request_issue(r) == UIOPF_DONE)
			finish(r);
	} else if (r->todo == UIOPF_START) {
		start(r);
	} else if (likely(r->todo == UIOPF_FINISH)) {
		finish(r);
	} else if (r->todo == UIOPF_LET_GO) {
		uiopf_request_free(r);
	} else {
		uiopf_complete_message(r->engine, r->user_data, r->res, r->cqe_flags);
		uiopf_request_posted(r);
	}
}

void uiopf_run_workers(struct uiopf_engine *e, uint32_t most)
{
	struct uiopf_request *r;

	e->in_worker = true;
	for (; (r = e->asked) && most; most--) {
		e->asked = r->work_next;
		if (!e->asked)
			e->asked_end = &e->asked;
		r->working = false;
		carry_on(r);
	}
	e->in_worker = false;
	uiopf_publish_cqes(e);
}

static uint32_t run_queue(struct uiopf_engine *e, uint32_t most)
{
	struct uiopf_request *r = e->work, *next, **end = e->work_end;
	uint32_t n = 0;

	if (!r)
		return 0;
	e->work = NULL;
	e->work_end = &e->work;
	e->new_work = false;
	for (; r && n < most; r = next, n++) {
		next = r->work_next;
		r->working = false;
		carry_on(r);
	}
	if (unlikely(r != NULL)) {	/* the rest comes first the next time, before what has been added (retry_llist) */
		*end = e->work;
		if (!e->work)
			e->work_end = end;
		e->work = r;
		if (e->setup_flags & IORING_SETUP_TASKRUN_FLAG)
			__atomic_fetch_or(uiopf_ring_word(&e->ring, RING_SQ_FLAGS), IORING_SQ_TASKRUN, __ATOMIC_SEQ_CST);
	}
	return n;
}

static void clear_taskrun(struct uiopf_engine *e)
{
	if (unlikely(e->setup_flags & IORING_SETUP_TASKRUN_FLAG))
		__atomic_fetch_and(uiopf_ring_word(&e->ring, RING_SQ_FLAGS), ~IORING_SQ_TASKRUN, __ATOMIC_SEQ_CST);
}

uint32_t uiopf_run_work(struct uiopf_engine *e, uint32_t most)
{
	uint32_t n;

	if (!e->work)
		return 0;
	clear_taskrun(e);
	e->in_batch = true;
	n = run_queue(e, most);
	end_batch(e);
	return n;
}

/*
 * While more is wanted, what is added belongs to the batch, too. The flag that says there is some is cleared where the call
 * begins: what adds to it sets the flag again, and then it stays, though all is done (__io_run_local_work).
 */
uint32_t uiopf_run_deferred_work(struct uiopf_engine *e, uint32_t most, uint32_t wanted, bool begins)
{
	uint32_t n = 0;

	if (!e->work)
		return 0;
	if (begins)
		clear_taskrun(e);
	e->in_batch = true;
	do {
		n += run_queue(e, most);
	} while (e->work && n < wanted);
	end_batch(e);
	return n;
}

/*
 * The same of newer kernels, where a deferred ring takes its work from a queue one by one: what is added meanwhile has
 * its turn too. The requests that it completes end together, behind it. Work is news whenever the queue was empty, so also
 * what the last one adds, and nothing while some is left for the next call (mpscq_push).
 */
uint32_t uiopf_run_work_one_by_one(struct uiopf_engine *e, uint32_t most)
{
	struct uiopf_request *r;
	uint32_t n;

	if (!e->work)
		return 0;
	e->holds_back = true;
	for (n = 0; (r = e->work) && n < most; n++) {
		e->work = r->work_next;
		if (!e->work) {
			e->work_end = &e->work;
			e->new_work = false;
		}
		r->working = false;
		carry_on(r);
	}
	if (!e->work)
		clear_taskrun(e);
	e->holds_back = false;
	release_held_back(e);
	return n;
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
		uiopf_request_drain(r);
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
		uiopf_set_unusual(e);
		return 0;
	}
	if (e->chain) {
		add_to_chain(e, r);
		r = e->chain;
		e->chain = NULL;
		uiopf_set_unusual(e);
	}
	queue_unusual(r);
	return error;
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
		uiopf_set_unusual(e);
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
	struct uiopf_request *r = uiopf_request_take(e);
	int rc = uiopf_request_prepare(r, &sqe);

	call_others(e);
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

/* By write_iter, or by a plain write with O_NONBLOCK. A socket of the host says an error once; here it would be lost. */
hot_inline bool takes_at_once(uint32_t mode)
{
	const uint32_t how = mode & (UIOPF_FILE_WRITE | UIOPF_FILE_ITER | UIOPF_FILE_LOOPS | UIOPF_FILE_HINTS);

	return how == (UIOPF_FILE_WRITE | UIOPF_FILE_ITER) || (how == UIOPF_FILE_WRITE && (mode & UIOPF_FILE_NONBLOCK));
}

/*
 * A WRITE that asks for nothing special, to a file that takes it at once, needs no request: there is nothing to hold on
 * to. Answers to faults are such writes. Whatever is out of the ordinary is left to the general way, untouched.
 */
static bool write_plainly(struct uiopf_engine *e, const struct io_uring_sqe *sqe)
{
	struct uiopf_file *file;
	const uint8_t *from;
	int64_t n;

	if ((sqe->flags & ~(IOSQE_CQE_SKIP_SUCCESS | IOSQE_FIXED_FILE)) | sqe->ioprio | sqe->rw_flags |
	    sqe->personality | sqe->attr_type_mask)
		return false;
	file = uiopf_find_file(e, sqe->fd, sqe->flags & IOSQE_FIXED_FILE);
	if (!file || !takes_at_once(file->mode) || unlikely(!file->ops->write))
		return false;
	if (sqe->off + 1 > 1)	/* neither the beginning nor the file's own position */
		return false;
	from = uiopf_windows_find(&e->windows, sqe->addr, sqe->len);
	if (!from)
		return false;
	n = file->ops->write(file, from, sqe->len, (int64_t)sqe->off);
	if (unlikely(n < 0))
		return false;	/* it will say so again, and that comes in another order */
	e->next_data = from + sqe->len;
	if (likely(n == sqe->len)) {
		e->cost.bytes_copied += sqe->len;
		if (sqe->flags & IOSQE_CQE_SKIP_SUCCESS) {
			e->drain_disabled = true;
			return true;
		}
	}
	uiopf_complete(e, sqe->user_data, (int32_t)n, 0);
	return true;
}

/* NOPs and WRITEs that ask for nothing special need no request: there is nothing to hold on to. */
static bool submit_plainly(struct uiopf_engine *e, const struct io_uring_sqe *sqe)
{
	if (sqe->opcode == IORING_OP_WRITE)
		return write_plainly(e, sqe);
	if (sqe->opcode != IORING_OP_NOP || sqe->flags || sqe->ioprio || sqe->nop_flags || sqe->personality)
		return false;
	uiopf_complete(e, sqe->user_data, 0, 0);
	return true;
}

/* A chain ends with the batch. Linux gives its head to a worker, whatever it is, who gets to it when the batch has ended. */
static void end_open_chain(struct uiopf_engine *e)
{
	struct uiopf_request *head = e->chain;

	e->chain = NULL;
	uiopf_set_unusual(e);
	if (!head->failed) {
		call_others(e);
		post_batch(e);
	}
	queue_unusual(head);
}

/* One that fails to start is the last, unless all are to be submitted. */
int uiopf_submit(struct uiopf_engine *e, uint32_t n, uint32_t most)
{
	struct io_uring_sqe sqe;
	uint32_t consumed = 0;

	e->second_halves = 0;
	e->in_batch = true;
	while (consumed + e->second_halves < n || (e->chain && consumed + e->second_halves < most)) {
		/* Without a request to be had, nothing is taken. */
		if (unlikely(!e->free_requests) && !uiopf_grow_requests(e)) {
			if (!consumed) {
				e->in_batch = false;
				return -EAGAIN;
			}
			break;
		}
		if (unlikely(!uiopf_sq_take(&e->ring, &sqe)))
			break;	/* a bad index: dropped, counted there, and not here */
		consumed++;
		prefetch_data(e);
		e->others_left = most - consumed - e->second_halves;
		if (likely(!e->unusual && submit_plainly(e, &sqe)))
			e->finished = true;
		else if (submit_one(e, sqe) < 0 && !(e->setup_flags & IORING_SETUP_SUBMIT_ALL))
			break;
	}
	e->cost.bytes_copied += consumed * sizeof sqe;
	e->cost.sqes += consumed;
	uiopf_timers_fire(e, UINT32_MAX);	/* a time that was over when it began, before the batch's completions */
	if (unlikely(e->chain != NULL))
		end_open_chain(e);
	end_batch(e);
	if (unlikely(e->setup_flags & IORING_SETUP_SQ_REWIND))
		e->ring.sq_head = 0;	/* each call begins at the first slot, and nobody looks at the indices */
	else
		uiopf_sq_commit(&e->ring);
	return (int)(consumed + e->second_halves);
}
