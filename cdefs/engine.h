/*
 * The ring engine: SQEs in, CQEs out.
 *
 * engine.c     a ring's life: setup, submission, task work, enter, register
 * requests.c   the operations: how each is checked, started and carried on
 * completion.c CQEs: the ring, the backlog, the eventfd
 * buffers.c    provided-buffer rings
 *
 * All of it belongs to the consumer side. A request that cannot go on waits in its file's list (armed), and when the
 * file calls, goes to the engine's list of task work, which runs where Linux would run it: in the submitter's enter,
 * or in the SQPOLL worker.
 *
 * Source: io_uring/{io_uring,rw,poll,cancel,kbuf}.c, Linux 6.12.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "abi/io_uring.h"
#include "api.h"
#include "core.h"
#include "file.h"
#include "memory.h"
#include "ring.h"

struct uiopf_buffers {		/* a provided-buffer ring */
	struct io_uring_buf *ring;	/* our mapping of it; the tail overlays ring[0].resv */
	uint32_t mask;
	uint16_t head, tail_seen;
};

struct uiopf_request {
	struct uiopf_wait wait;		/* in the file's list while armed */
	struct uiopf_engine *engine;
	struct uiopf_file *file;
	struct uiopf_request *next, *prev;	/* all that are under way, oldest first */
	struct uiopf_request *work_next;	/* task work, or the free list */
	struct uiopf_request *bucket_next;	/* while a cancel looks for its targets */
	uint64_t user_data, address, position;
	uint32_t length, op_flags;	/* the operation's own: rw_flags, cancel_flags … */
	uint32_t events;		/* what it waits for (POLLIN …) */
	uint32_t woken;			/* what the first wake said, unless more came: then look again */
	uint32_t expected;		/* bytes that a read or write was to move */
	uint32_t cqe_flags;
	int32_t res, fd;
	uint8_t opcode, sqe_flags, fruitless;
	uint16_t buffer_group;
	bool listed, working, multishot, cancelled, punted;
};

struct uiopf_backlog {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
};

struct uiopf_engine {
	struct uiopf_core *core;
	struct uiopf_engine *next;
	struct uiopf_ring ring;
	struct uiopf_windows windows;
	struct uiopf_buffers **buffers;		/* by group id, 65,536 of them */
	uint32_t setup_flags;

	struct uiopf_request *first, *last;	/* under way */
	struct uiopf_request *work, **work_end;
	struct uiopf_request *free_requests;
	struct uiopf_request_chunk *chunks;
	uint32_t request_count;

	struct uiopf_backlog *backlog;		/* completions that found the CQ full, in order */
	uint32_t backlog_first, backlog_count, backlog_capacity;

	int eventfd;				/* registered; -1 */
	uint32_t eventfd_tail;			/* the CQ's tail when it was last signalled */
	bool finished;				/* requests have ended since the last publish, perhaps all in silence */
	bool look_again;			/* CQEs were published without a barrier: see uiopf_publish_cqes */
	uint32_t barrier;
	bool lost_unreported;			/* the next enter says EBADR */
	UIOPF_LINE uint32_t cq_waiters;		/* client threads in enter, waiting for the worker's CQEs */
	int cq_eventfd;				/* … and what wakes one of them */
	struct uiopf_cost cost;
};

/* What starting a request came to. */
enum uiopf_issue {
	UIOPF_DONE,	/* res and cqe_flags stand: complete it */
	UIOPF_PENDING,	/* it is armed, or waits for its turn */
};

/* requests.c: 0, or -errno for what Linux refuses before it starts ("init" errors, which end a batch). */
int uiopf_request_prepare(struct uiopf_request *request, const struct io_uring_sqe *sqe);
enum uiopf_issue uiopf_request_issue(struct uiopf_request *request);
/* Task work: the file called. */
enum uiopf_issue uiopf_request_continue(struct uiopf_request *request);

/* A write that is done and completed at once; false: it was not such a one, and nothing has happened. */
bool uiopf_write_plainly(struct uiopf_engine *engine, const struct io_uring_sqe *sqe);

/* engine.c */
void uiopf_engine_add_work(struct uiopf_request *request);
/* Stops a request that is under way; it completes with -ECANCELED as task work. */
void uiopf_request_cancel(struct uiopf_request *request);
void uiopf_request_list(struct uiopf_request *request);
/* SQPOLL: submit, work, publish. Returns how much was done. */
uint32_t uiopf_engine_step(struct uiopf_engine *engine);
void uiopf_engine_need_wakeup(struct uiopf_engine *engine, bool needed);

/* completion.c */
/* A CQE, into the ring or the backlog. */
void uiopf_complete(struct uiopf_engine *engine, uint64_t user_data, int32_t res, uint32_t flags);
/* A CQE of a request that goes on; false where there is no room, which ends the request. */
bool uiopf_complete_more(struct uiopf_engine *engine, uint64_t user_data, int32_t res, uint32_t flags);
/* Moves what fits from the backlog into the ring. */
void uiopf_flush_backlog(struct uiopf_engine *engine);
/* Shows the client what was completed, and signals the eventfd. */
void uiopf_publish_cqes(struct uiopf_engine *engine);
/* The worker's next turn: who said that it sleeps after CQEs were published, but before that was seen, is told. */
void uiopf_look_again(struct uiopf_engine *engine);
static inline uint32_t uiopf_cqes_ready(struct uiopf_engine *engine)
{
	return engine->ring.cq_tail - LOAD_ACQUIRE(uiopf_ring_word(&engine->ring, RING_CQ_HEAD));
}

/* buffers.c */
struct uiopf_selected {
	struct uiopf_buffers *from;
	uint8_t *map;
	uint32_t length;
	uint16_t id;
};
/* Looks at the next buffer, without taking it: 0, -ENOBUFS, -EFAULT. map is NULL where the client has no memory. */
int uiopf_buffer_select(struct uiopf_engine *engine, uint16_t group, uint32_t wanted, struct uiopf_selected *selected);
static inline uint32_t uiopf_buffer_take(struct uiopf_selected *selected)
{
	selected->from->head++;
	return IORING_CQE_F_BUFFER | (uint32_t)selected->id << IORING_CQE_BUFFER_SHIFT;
}
int uiopf_register_buffers(struct uiopf_engine *engine, const struct io_uring_buf_reg *reg);
int uiopf_unregister_buffers(struct uiopf_engine *engine, const struct io_uring_buf_reg *reg);
