/*
 * The ring engine: SQEs in, CQEs out. This is what it keeps; what is done with it, each file from the ground up:
 *
 * ringfile       the ring as a file, and rings by descriptor
 * completion     CQEs: the ring, the backlog, the eventfd
 * resources      registered files and buffers
 * buffers        provided buffers, in rings and the classic ones
 * request        a request's life, the lists of those under way, task work, drain
 * timer          the requests that wait for a time: time-outs and link time-outs
 * cancel         which requests a cancel means
 * operation      what is checked before an operation is asked
 * requests/      the operations by family, and the table of them
 * submit         SQEs: the order of checks, links, how a request ends
 * attachable     rings whose client is another process
 * turn           an SQPOLL ring's part of the core's turn
 * enter          io_uring_enter: submitting, and waiting
 * setup          a ring's life
 * register       io_uring_register
 * calls          both by descriptor
 *
 * All of it belongs to the consumer side. A request that cannot go on waits in its file's list (armed) or for a time,
 * and when it is called, goes to the engine's list of task work, which runs where Linux would run it: in the
 * submitter's enter, or in the SQPOLL worker. Where Linux would ask a worker thread (io-wq), task work does it.
 *
 * Source: io_uring/{io_uring,rw,poll,cancel,kbuf,rsrc,timeout,msg_ring,net,register}.c, Linux 6.12; what newer kernels
 * changed says since when.
 */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "abi/io_uring.h"
#include "abi/api.h"
#include "core/core.h"
#include "core/file.h"
#include "base/memory.h"
#include "rings/ring.h"

struct uiopf_operation;

struct uiopf_classic {		/* a buffer given by PROVIDE_BUFFERS */
	struct uiopf_classic *next;
	uint64_t address;
	uint32_t length;
	uint16_t id;
};

struct uiopf_buffers {		/* a group of provided buffers */
	struct io_uring_buf *ring;	/* our mapping of it, NULL of a classic group; the tail overlays ring[0].resv */
	uint32_t mask;
	uint16_t head, tail_seen;
	bool incremental;
	uint32_t least_left;		/* incremental: less than so much left, and the buffer is done with */
	struct uiopf_region region;	/* the kernel's own memory, of a ring made with MMAP; fd -1 otherwise */
	struct uiopf_classic *first, **end;
	uint32_t *kept;			/* the engine's count of all these */
};

/* What a slot of a registered table holds. Requests hold it too; its tag is posted when the last has gone. */
struct uiopf_node {
	uint32_t users;
	uint64_t tag;
	struct uiopf_file *file;
	uint64_t address, length;	/* a registered buffer, at the client's address; a window says what it is here */
};

struct uiopf_table {
	struct uiopf_node **node;	/* NULL: nothing is registered */
	uint32_t count;
	uint32_t first, end, hint;	/* files: where ALLOC may look, and where it looks next */
};

/* What run_work() does with a request. */
enum uiopf_todo {
	UIOPF_CONTINUE,		/* the file or the time has called: go on */
	UIOPF_START,		/* its turn in a chain or behind a drain has come, or a worker takes it */
	UIOPF_FINISH,		/* res stands */
	UIOPF_LET_GO,		/* it has completed, and nobody holds it any more */
	UIOPF_POST,		/* it is no request, but the completion that another ring's has sent */
};

#define UIOPF_NO_TIMER UINT32_MAX

/*
 * How many requests and completions are kept for a client of another process, whom nobody can charge, both together. A
 * request becomes one completion at most that is kept, since one with more ends where there is no room for them. All may
 * wait for one file, and each wake-up goes through them: more would also cost others on the same worker too much time.
 */
#define UIOPF_ATTACHED_MOST 4096u

struct uiopf_request {
	struct uiopf_wait wait;		/* in the file's list while armed */
	struct uiopf_engine *engine;
	struct uiopf_file *file;
	struct uiopf_request *next, *prev;	/* all that are under way, oldest first; or the time-outs */
	struct uiopf_request *work_next;	/* task work, the drained, or the free list */
	union {
		struct uiopf_request *bucket_next;	/* while a cancel looks for its targets */
		struct uiopf_request *guarded;		/* LINK_TIMEOUT: whose time it takes */
	};
	struct uiopf_request *link;	/* the next of its chain */
	struct uiopf_node *file_node, *buffer_node;
	uint64_t user_data, address, position;
	uint64_t extra;			/* the operation's own; what TIMEOUTs call when they fire: the next time */
	uint32_t length, op_flags;	/* the operation's own: rw_flags, cancel_flags … */
	uint32_t events;		/* what it waits for (POLLIN …) */
	uint32_t woken;			/* what the first wake said, unless more came: then look again */
	uint32_t expected;		/* bytes that a read or write was to move */
	uint32_t cqe_flags;
	uint32_t timer;			/* its place among the timers */
	int32_t res, fd;
	uint16_t buffer_group;		/* or the index of a registered buffer */
	uint16_t ioprio;
	uint8_t opcode, sqe_flags, fruitless, todo;
	/* From here on all are cleared with every new request. */
	bool listed, working, multishot, cancelled;
	bool punted;			/* a worker thread has it */
	bool started;			/* it was issued once */
	bool failed;			/* for its chain */
	bool exact;			/* less than `expected` is a failure */
	bool skip_links;		/* it would have been silent: what its failure cancels is */
	bool has_timeout;		/* a LINK_TIMEOUT follows, not yet started */
	bool guarded_by_timeout;	/* … and started */
	bool timed;			/* it is among the time-outs, not those under way */
	bool drained;			/* … or behind a drain */
	bool selected;			/* it holds a provided buffer: at address, in cqe_flags */
	bool partial;			/* `position` bytes were moved: its result, whatever else ends it */
	bool wide;			/* the CQE has 32 bytes: address and position are its second half */
	bool owns_memory;		/* `extra` is to be freed */
	bool unfindable;		/* task work alone has it: a cancel does not find it */
	bool called;			/* a command that waited in turn, and has not used its turn yet */
	bool holds;			/* LINK_TIMEOUT: it fired when its request had ended, and lets that go with its own end */
};
/*
 * Three cache lines, which are full. They lie in an array whose first begins a line: with a field more they
 * would share lines, and each request that waits would load four or five when it is called.
 */
_Static_assert(sizeof(struct uiopf_request) == 3 * 64, "a request has three cache lines of its own");

struct uiopf_backlog {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
	uint64_t extra[2];
	bool wide;
};

struct uiopf_restrictions {
	bool registered;
	uint64_t register_ops, sqe_ops[2];	/* bit n: opcode n is allowed */
	uint8_t flags_allowed, flags_required;
};

struct uiopf_engine {
	struct uiopf_core *core;
	struct uiopf_consumer consumer;		/* in the core's list */
	struct uiopf_file file;			/* the ring's own descriptor: for poll and MSG_RING */
	struct uiopf_ring ring;
	struct uiopf_windows windows;
	const struct uiopf_operation *operations;	/* by opcode; handed in at setup */
	struct uiopf_buffers **buffers;		/* by group id, 65,536 of them */
	const uint8_t *next_data;		/* where the next WRITE's bytes are, if they follow the last one's: a hint */
	uint32_t setup_flags, kernel;
	uint32_t classics;			/* buffers that PROVIDE_BUFFERS gave, in all groups */

	struct uiopf_request *first, *last;	/* under way */
	struct uiopf_request *work, **work_end;
	struct uiopf_request *free_requests;
	struct uiopf_request_chunk *chunks;
	uint32_t request_count;
	struct uiopf_request *held_back, **held_back_end;	/* ended in this batch, of task work or of SQEs */
	/* Given to a worker thread, where the caller says when those run; otherwise they are in `work`. */
	struct uiopf_request *asked, **asked_end;
	bool replayed, holds_workers, in_worker;
	bool holds_back;			/* whatever ends */
	bool in_batch;				/* … and now only what has a chain behind it */
	bool new_work;				/* some was added since it was last run */
	bool tells_of_work;			/* … and that is told of: DEFER_TASKRUN, or a replay */
	bool owes_signal;			/* … of which the eventfd does not know yet */
	uint64_t work_since;			/* a replay: the number of that moment, in all rings of the core */
	bool unusual;		/* submission takes the long way: a chain is open, IOPOLL, or one of the next three */
	bool disabled;				/* R_DISABLED, not enabled yet; attachable, not attached yet */
	bool restricted;			/* SQEs are looked at by `restrictions` */
	bool drain_active, drain_next, drain_disabled;
	uint32_t second_halves;			/* slots that SQEs of 128 bytes took besides, in this batch */
	uint32_t others_left;			/* slots of the batch behind the SQE that is being started */
	uint32_t alive;				/* requests that are not free */
	struct uiopf_request *chain, *chain_end;	/* open while SQEs with a link flag come */
	struct uiopf_request *drained, **drained_end;	/* wait for all before them */
	uint32_t drained_count;			/* with their chains */

	/* Times. */
	struct uiopf_request *timeouts, *timeouts_last;	/* TIMEOUTs, those with a count by it, then the others */
	struct uiopf_request **timer;			/* a heap: the first to fire is timer[0] */
	uint32_t timer_count, timer_capacity;
	uint32_t timeouts_fired;		/* ends waits */
	uint32_t flushed_tail;			/* counted TIMEOUTs have seen the CQ's tail up to here */
	void (*count_timeouts)(struct uiopf_engine *engine);	/* once there was one that counts completions */
	int clockid;				/* what waits count with */

	struct uiopf_table files, registered;	/* fixed files and buffers */
	struct uiopf_restrictions restrictions;
	uint32_t next_personality;
	uint8_t personality[65536 / 8];

	struct uiopf_backlog *backlog;		/* completions that found the CQ full, in order */
	uint32_t backlog_first, backlog_count, backlog_capacity;

	int eventfd;				/* registered; -1 */
	int eventfd_id;
	bool eventfd_async, by_worker;		/* … only for what a worker completed */
	uint32_t eventfd_tail;			/* the CQ's tail when it was last signalled */
	/* A ring with DEFER_TASKRUN tells of completions only when it has been polled, from the end of that call on. */
	bool pollers_told, polled;
	bool polled_last;			/* … when task work was there already, which runs after what this asks for */
	struct uiopf_engine *next_polled;
	struct uiopf_engine *polled_first;	/* those that this ring's requests have polled for the first time */
	bool finished;				/* requests have ended since the last publish, perhaps all in silence */
	bool posted;				/* … or CQEs were posted besides: messages, tags, those of multishots */
	bool counted;				/* … and TIMEOUTs that count them know that already */
	bool may_sleep;				/* somebody may, for want of CQEs: an eventfd, or a wait in enter; for good */
	uint32_t posted_tail;			/* the CQ's tail without what the batch that goes on has completed */
	uint32_t posted_backlog;		/* … and how many completions are kept without those */
	uint32_t fired_told;			/* `timeouts_fired` when those who wait were last told */
	bool look_again;			/* CQEs were published without a barrier: see uiopf_publish_cqes */
	uint32_t barrier;
	bool lost_unreported;			/* the next enter says EBADR */
	bool has_submitter;			/* SINGLE_ISSUER: only this thread */
	pthread_t submitter;
	UIOPF_LINE uint32_t cq_waiters;		/* how many are in the list; a full barrier before it is looked at */
	struct uiopf_waiter *waiters;		/* threads in enter; guarded by the core's sleepers_lock */
	/* The consumer's again. */
	UIOPF_LINE const struct uiopf_waiter *looking;	/* the one that has the consumer's side, and needs no waking */
	struct uiopf_cost cost;

	/* A ring of another process: attachable.c. */
	bool attachable, attached;
	bool kicks;				/* the client promised to write to wake_eventfd when it sees NEED_WAKEUP */
	uint32_t group_entries, groups;		/* of its buffer rings, which are in the ring's own region */
	int wake_eventfd;
	struct uiopf_region data;		/* the client's buffers */
};
UIOPF_BEGINS_A_LINE(struct uiopf_engine, cq_waiters);
UIOPF_BEGINS_A_LINE(struct uiopf_engine, looking);

static inline uint32_t uiopf_cqes_ready(struct uiopf_engine *engine)
{
	return engine->ring.cq_tail - LOAD_ACQUIRE(uiopf_ring_word(&engine->ring, RING_CQ_HEAD));
}

/* Whether the worker does what there is to be done for this ring. */
static inline bool uiopf_worker_runs(const struct uiopf_engine *engine)
{
	return (engine->setup_flags & IORING_SETUP_SQPOLL) && engine->core->driver == UIOPF_SQPOLL;
}

/* Whether the caller is not the thread that a SINGLE_ISSUER ring belongs to. */
static inline bool uiopf_other_submitter(const struct uiopf_engine *engine)
{
	return engine->has_submitter && !pthread_equal(engine->submitter, pthread_self());
}
