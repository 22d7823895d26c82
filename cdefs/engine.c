#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "eventq.h"
#include "faultq.h"

#define MOST_SQ 32768u
#define MOST_CQ 65536u
#define BUFFER_GROUPS 65536u
#define SQES_PER_TURN 24u

/* ---- requests: a pool that grows by chunks, so that going on needs no memory ---- */

#define REQUEST_CHUNK 256u
#define MOST_REQUESTS (1u << 16)	/* as many as the largest CQ has room for; then EAGAIN, as without memory */

struct uiopf_request_chunk {
	struct uiopf_request_chunk *next;
	struct uiopf_request request[REQUEST_CHUNK];
};

static bool grow_requests(struct uiopf_engine *e)
{
	struct uiopf_request_chunk *chunk;
	uint32_t i;

	if (e->request_count >= MOST_REQUESTS)
		return false;
	chunk = malloc(sizeof *chunk);
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

static void free_request(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;

	if (r->file)
		r->file->users--;
	if (r->listed) {
		if (r->prev)
			r->prev->next = r->next;
		else
			e->first = r->next;
		if (r->next)
			r->next->prev = r->prev;
		else
			e->last = r->prev;
	}
	r->work_next = e->free_requests;
	e->free_requests = r;
}

/* A read or write that did less than was asked for is no success to a skipped completion. */
static bool succeeded(const struct uiopf_request *r)
{
	if (r->res < 0)
		return false;
	return (r->opcode != IORING_OP_READ && r->opcode != IORING_OP_WRITE) || (uint32_t)r->res == r->expected;
}

static void finish(struct uiopf_request *r)
{
	if (!((r->sqe_flags & IOSQE_CQE_SKIP_SUCCESS) && succeeded(r)))
		uiopf_complete(r->engine, r->user_data, r->res, r->cqe_flags);
	r->engine->finished = true;
	free_request(r);
}

/* ---- task work ---- */

void uiopf_engine_add_work(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;

	if (r->working)
		return;
	r->working = true;
	r->work_next = NULL;
	*e->work_end = r;
	e->work_end = &r->work_next;
}

void uiopf_request_cancel(struct uiopf_request *r)
{
	r->cancelled = true;
	uiopf_engine_add_work(r);
}

/* Carries on what was called, in the order of the calls. What that adds is for the next turn. */
static uint32_t run_work(struct uiopf_engine *e)
{
	struct uiopf_request *r = e->work, *next;
	uint32_t n = 0;

	e->work = NULL;
	e->work_end = &e->work;
	for (; r; r = next, n++) {
		next = r->work_next;
		r->working = false;
		if (uiopf_request_continue(r) == UIOPF_DONE)
			finish(r);
	}
	return n;
}

/* ---- submission ---- */

/* Begins to fetch what an SQE a few places ahead points to; its line is here by now. Nothing but a hint comes of it. */
static void prefetch_data(const struct uiopf_engine *e)
{
	uint64_t address = uiopf_sq_peek_address(&e->ring, RING_AHEAD / 2);
	const uint8_t *map = uiopf_windows_find(&e->windows, address, 1);

	if (map)
		__builtin_prefetch(map);
}

/* Takes n SQEs, of which there are so many; how many were consumed, or -EAGAIN. One that fails to start is the last. */
static int submit(struct uiopf_engine *e, uint32_t n)
{
	struct io_uring_sqe sqe;
	uint32_t consumed = 0;
	int rc;

	while (consumed < n) {
		struct uiopf_request *r;

		/* Without a request to be had, nothing is taken. */
		if (unlikely(!e->free_requests) && !grow_requests(e)) {
			if (!consumed)
				return -EAGAIN;
			break;
		}
		if (unlikely(!uiopf_sq_take(&e->ring, &sqe)))
			break;	/* a bad index: dropped, counted there, and not here */
		consumed++;
		prefetch_data(e);
		e->cost.bytes_copied += sizeof sqe;
		if (likely(uiopf_write_plainly(e, &sqe))) {
			e->finished = true;
			continue;
		}
		r = take_request(e);
		rc = uiopf_request_prepare(r, &sqe);
		if (unlikely(rc < 0)) {
			/* A failure is never skipped. */
			uiopf_complete(e, sqe.user_data, rc, 0);
			free_request(r);
			if (!(e->setup_flags & IORING_SETUP_SUBMIT_ALL))
				break;
			continue;
		}
		if (uiopf_request_issue(r) == UIOPF_DONE)
			finish(r);
		else
			uiopf_request_list(r);
	}
	uiopf_sq_commit(&e->ring);
	return (int)consumed;
}

uint32_t uiopf_engine_step(struct uiopf_engine *e)
{
	uint32_t did, ready;

	if (!(e->setup_flags & IORING_SETUP_SQPOLL))
		return 0;
	if (e->look_again)
		uiopf_look_again(e);
	/*
	 * A bounded number a turn: while the hardware's side of the turn works on these, the client makes the next, and
	 * neither waits for the other's whole batch. A batch that a bad SQE has ended goes on at the next turn. Their
	 * lines are on the way from the client's core while task work runs.
	 */
	ready = uiopf_sq_ready(&e->ring);
	if (ready > SQES_PER_TURN)
		ready = SQES_PER_TURN;
	uiopf_sq_prefetch(&e->ring, ready);
	did = run_work(e);
	if (ready && submit(e, ready) >= 0)
		did += ready;
	/* Nobody else would flush: a client that polls memory never enters. */
	if (e->backlog_count)
		uiopf_flush_backlog(e);
	/*
	 * SQ head (at the end of submit) and CQ tail stand in one line, which the client polls: they are stored one after
	 * the other, so that it is taken from the client once a turn.
	 */
	uiopf_publish_cqes(e);
	return did;
}

void uiopf_engine_need_wakeup(struct uiopf_engine *e, bool needed)
{
	uint32_t *flags = uiopf_ring_word(&e->ring, RING_SQ_FLAGS);

	if (!(e->setup_flags & IORING_SETUP_SQPOLL))
		return;
	/* A full barrier: the client's look at the flag comes after its store of the tail, ours after that of the flag. */
	if (needed)
		__atomic_fetch_or(flags, IORING_SQ_NEED_WAKEUP, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(flags, ~IORING_SQ_NEED_WAKEUP, __ATOMIC_SEQ_CST);
}

/* ---- enter ---- */

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Groups that have come by now are for those who wait by now, not for who comes later. */
static void wake_waits(struct uiopf_core *core)
{
	struct uiopf_eventq *events;
	struct uiopf_faultq *q;

	for (q = core->faultqs; q; q = q->next)
		uiopf_faultq_sync(q);
	for (events = core->eventqs; events; events = events->next)
		uiopf_eventq_sync(events);
}

/* Runs what would have interrupted or woken the waiting task. The consumer side is ours. */
static void task_work(struct uiopf_engine *e, bool flush)
{
	wake_waits(e->core);
	while (run_work(e))
		;
	if (flush)
		uiopf_flush_backlog(e);
	uiopf_publish_cqes(e);
	uiopf_core_kick(e->core);
}

static uint32_t cqes_for_client(const struct uiopf_engine *e)
{
	uint32_t n = LOAD_SEQ(uiopf_ring_word(&e->ring, RING_CQ_TAIL)) -
		     LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_CQ_HEAD));

	return n > e->ring.cq_entries ? e->ring.cq_entries : n;
}

static bool timed_out(const struct uiopf_core *core, uint64_t deadline)
{
	return deadline != UINT64_MAX && uiopf_now(&core->clock) >= deadline;
}

/* To sleep for; time goes on after one has looked, and must not be taken for a very long time then. */
static uint64_t time_left(const struct uiopf_core *core, uint64_t deadline)
{
	uint64_t now = uiopf_now(&core->clock);

	return deadline == UINT64_MAX ? UINT64_MAX : deadline > now ? deadline - now : 0;
}

/* The worker makes the CQEs: sleep on its word. */
static int wait_for_worker(struct uiopf_engine *e, uint32_t target, uint64_t deadline)
{
	int rc = 0;

	__atomic_fetch_add(&e->cq_waiters, 1, __ATOMIC_SEQ_CST);
	while ((int32_t)(LOAD_SEQ(uiopf_ring_word(&e->ring, RING_CQ_TAIL)) - target) < 0) {
		if (timed_out(e->core, deadline)) {
			rc = cqes_for_client(e) ? 0 : -ETIME;
			break;
		}
		errno = 0;
		if (!uiopf_eventfd_wait(e->cq_eventfd, time_left(e->core, deadline)) &&
		    errno == EINTR) {
			rc = cqes_for_client(e) ? 0 : -EINTR;
			break;
		}
	}
	__atomic_fetch_sub(&e->cq_waiters, 1, __ATOMIC_SEQ_CST);
	return rc;
}

/* The consumer step is ours to run: do it whenever a fault queue calls. */
static int wait_and_work(struct uiopf_engine *e, uint32_t target, uint64_t deadline)
{
	struct uiopf_sleeper sleeper = { .eventfd = e->cq_eventfd };
	struct uiopf_core *core = e->core;
	bool enough;
	int rc = 0;

	for (;;) {
		uiopf_consumer_begin(core);
		task_work(e, true);
		enough = (int32_t)(e->ring.cq_tail_published - target) >= 0;
		uiopf_consumer_end(core);
		if (enough)
			break;
		if (timed_out(core, deadline)) {
			rc = cqes_for_client(e) ? 0 : -ETIME;
			break;
		}
		if (core->driver == UIOPF_INLINE) {
			/* No one else turns the producer; if it has nothing either, this call would never end. */
			if (!uiopf_core_produce(core)) {
				rc = cqes_for_client(e) ? 0 : -EDEADLK;
				break;
			}
			continue;
		}
		if (READ_ONCE(&sleeper.listed)) {
			errno = 0;
			if (!uiopf_eventfd_wait(e->cq_eventfd, time_left(e->core, deadline)) &&
			    errno == EINTR) {
				rc = cqes_for_client(e) ? 0 : -EINTR;
				break;
			}
			uiopf_sleeper_unlist(core, &sleeper);
		} else {
			uiopf_sleeper_list(core, &sleeper);	/* and look once more */
		}
	}
	uiopf_sleeper_unlist(core, &sleeper);
	return rc;
}

#define ENTER_KNOWN (IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP | IORING_ENTER_SQ_WAIT | IORING_ENTER_EXT_ARG)

int uiopf_enter(struct uiopf_engine *e, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
		uint64_t timeout_ns)
{
	const bool sqpoll = e->setup_flags & IORING_SETUP_SQPOLL;
	struct uiopf_core *core = e->core;
	uint64_t deadline = UINT64_MAX;
	uint32_t target;
	int submitted = 0, rc;

	if (flags & ~(uint32_t)ENTER_KNOWN)
		return -EINVAL;
	if (min_complete > e->ring.cq_entries)
		min_complete = e->ring.cq_entries;
	target = LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_CQ_HEAD)) + min_complete;

	if (sqpoll) {
		if (flags & IORING_ENTER_SQ_WAKEUP)
			uiopf_core_wake_worker(core);
		if (flags & IORING_ENTER_SQ_WAIT)
			while (LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_SQ_TAIL)) -
			       LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_SQ_HEAD)) >= e->ring.sq_entries) {
				if (core->driver == UIOPF_INLINE)
					uiopf_core_consume(core);
				else
					cpu_relax();
			}
		submitted = (int)to_submit;
	} else if (to_submit) {
		uiopf_consumer_begin(core);
		wake_waits(core);
		submitted = submit(e, least(to_submit, uiopf_sq_ready(&e->ring)));
		uiopf_publish_cqes(e);	/* the batch's own completions; what task work adds is told of again */
		task_work(e, false);	/* the backlog is for those who ask for events */
		uiopf_consumer_end(core);
		if (submitted != (int)to_submit)
			return submitted;
	}
	if (!(flags & IORING_ENTER_GETEVENTS))
		return submitted;
	if ((flags & IORING_ENTER_EXT_ARG) && timeout_ns != UINT64_MAX)
		deadline = uiopf_now(&core->clock) + timeout_ns;

	if (!sqpoll || core->driver != UIOPF_SQPOLL)
		rc = wait_and_work(e, target, deadline);
	else
		rc = wait_for_worker(e, target, deadline);
	if (rc == 0 && READ_ONCE(&e->lost_unreported) &&
	    __atomic_exchange_n(&e->lost_unreported, false, __ATOMIC_RELAXED))
		rc = -EBADR;
	return submitted ? submitted : rc;
}

/* ---- register ---- */

static int register_eventfd(struct uiopf_engine *e, int fd)
{
	if (e->eventfd >= 0)
		return -EBUSY;
	if (fd < 0)
		return -EBADF;
	e->eventfd = fd;
	e->eventfd_tail = e->ring.cq_tail;	/* what was there before is not told of */
	return 0;
}

int uiopf_register(struct uiopf_engine *e, uint32_t opcode, const void *arg, uint32_t nr_args)
{
	int rc = -EINVAL;

	uiopf_control_begin(e->core);
	switch (opcode) {
	case IORING_REGISTER_PBUF_RING:
		if (arg && nr_args == 1)
			rc = uiopf_register_buffers(e, arg);
		break;
	case IORING_UNREGISTER_PBUF_RING:
		if (arg && nr_args == 1)
			rc = uiopf_unregister_buffers(e, arg);
		break;
	case IORING_REGISTER_EVENTFD:
		if (nr_args == 1)
			rc = arg ? register_eventfd(e, *(const int *)arg) : -EFAULT;
		break;
	case IORING_UNREGISTER_EVENTFD:
		if (!arg && !nr_args) {
			rc = e->eventfd < 0 ? -ENXIO : 0;
			e->eventfd = -1;
		}
		break;
	}
	uiopf_control_end(e->core);
	return rc;
}

/* ---- setup ---- */

static uint32_t round_up(uint32_t n)
{
	return n <= 1 ? 1 : 1u << (32 - __builtin_clz(n - 1));
}

/* What an emulator of this release has a use for; any other flag is refused like an unknown one. */
#define SETUP_KNOWN (IORING_SETUP_SQPOLL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | \
		     IORING_SETUP_NO_SQARRAY)

/* In the order of io_uring_setup, 6.12. */
static int check_params(uint32_t entries, struct io_uring_params *p)
{
	if (p->resv[0] || p->resv[1] || p->resv[2])
		return -EINVAL;
	if (p->flags & ~(uint32_t)SETUP_KNOWN)
		return -EINVAL;
	if (!entries)
		return -EINVAL;
	if (entries > MOST_SQ) {
		if (!(p->flags & IORING_SETUP_CLAMP))
			return -EINVAL;
		entries = MOST_SQ;
	}
	p->sq_entries = round_up(entries);
	if (p->flags & IORING_SETUP_CQSIZE) {
		if (!p->cq_entries)
			return -EINVAL;
		if (p->cq_entries > MOST_CQ) {
			if (!(p->flags & IORING_SETUP_CLAMP))
				return -EINVAL;
			p->cq_entries = MOST_CQ;
		}
		p->cq_entries = round_up(p->cq_entries);
		if (p->cq_entries < p->sq_entries)
			return -EINVAL;
	} else {
		p->cq_entries = 2 * p->sq_entries;
	}
	return 0;
}

int uiopf_setup(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p, struct uiopf_engine **out)
{
	struct uiopf_engine *e;
	int rc = check_params(entries, p);

	if (rc < 0)
		return rc;
	e = aligned_alloc(128, sizeof *e);
	if (!e)
		return -ENOMEM;
	memset(e, 0, sizeof *e);
	e->core = core;
	e->setup_flags = p->flags;
	e->work_end = &e->work;
	e->eventfd = -1;
	e->cq_eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->cq_eventfd < 0) {
		rc = -errno;
		free(e);
		return rc;
	}
	/* Untouched parts of the table cost nothing. */
	e->buffers = calloc(BUFFER_GROUPS, sizeof *e->buffers);
	rc = e->buffers && grow_requests(e) ? 0 : -ENOMEM;
	if (rc == 0)
		rc = uiopf_ring_open(&e->ring, p);
	if (rc < 0) {
		close(e->cq_eventfd);
		free(e->chunks);
		free(e->buffers);
		free(e);
		return rc;
	}
	p->features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
		      IORING_FEAT_RW_CUR_POS | IORING_FEAT_FAST_POLL | IORING_FEAT_POLL_32BITS |
		      IORING_FEAT_SQPOLL_NONFIXED | IORING_FEAT_EXT_ARG | IORING_FEAT_NATIVE_WORKERS |
		      IORING_FEAT_CQE_SKIP;
	uiopf_control_begin(core);
	e->next = core->engines;
	core->engines = e;
	uiopf_control_end(core);
	*out = e;
	return 0;
}

void uiopf_engine_free(struct uiopf_engine *e)
{
	struct uiopf_core *core = e->core;
	struct uiopf_engine **link;
	uint32_t group;

	uiopf_control_begin(core);
	for (link = &core->engines; *link != e; link = &(*link)->next)
		;
	*link = e->next;
	while (e->first) {
		struct uiopf_request *r = e->first;

		if (r->wait.link)
			r->file->ops->cancel(r->file, &r->wait);
		free_request(r);
	}
	uiopf_control_end(core);
	for (group = 0; group < BUFFER_GROUPS; group++)
		free(e->buffers[group]);
	while (e->chunks) {
		struct uiopf_request_chunk *next = e->chunks->next;

		free(e->chunks);
		e->chunks = next;
	}
	close(e->cq_eventfd);
	uiopf_ring_close(&e->ring);
	free(e->backlog);
	free(e->buffers);
	free(e);
}

int uiopf_engine_add_window(struct uiopf_engine *e, uint64_t address, uint64_t length, void *map)
{
	int rc;

	uiopf_control_begin(e->core);
	rc = uiopf_windows_add(&e->windows, address, length, map);
	uiopf_control_end(e->core);
	return rc;
}

int uiopf_engine_fd(const struct uiopf_engine *e)
{
	return e->ring.region.fd;
}

uint64_t uiopf_engine_size(const struct uiopf_engine *e)
{
	return e->ring.region.size;
}

uint32_t uiopf_engine_sqes_offset(const struct uiopf_engine *e)
{
	return e->ring.sqes_offset;
}

uint32_t uiopf_engine_pending(struct uiopf_engine *e)
{
	const struct uiopf_request *r;
	uint32_t n = 0;

	uiopf_consumer_begin(e->core);
	for (r = e->first; r; r = r->next)
		n++;
	uiopf_consumer_end(e->core);
	return n;
}

void uiopf_engine_cost(struct uiopf_engine *e, struct uiopf_cost *cost)
{
	uiopf_consumer_begin(e->core);
	*cost = e->cost;
	uiopf_consumer_end(e->core);
}
