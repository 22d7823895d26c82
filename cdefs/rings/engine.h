/*
 * The ring engine: SQEs in, CQEs out.
 *
 * setup.c        a ring's life
 * submit.c       SQEs: the order of checks, links, drain, task work, how a request ends
 * enter.c        io_uring_enter: submitting, and waiting
 * register.c     io_uring_register
 * calls.c        both by descriptor
 * completion.c   CQEs: the ring, the backlog, the eventfd
 * buffers.c      provided buffers, in rings and the classic ones
 * resources.c    registered files and buffers
 * timer.c        the requests that wait for a time
 * attachable.c     rings whose client is another process
 * requests/      the operations by family, and the table of them
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
};

#define UIOPF_NO_TIMER UINT32_MAX

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
	bool selected;			/* it holds a classic buffer: at address, in cqe_flags */
	bool wide;			/* the CQE has 32 bytes: address and position are its second half */
	bool owns_memory;		/* `extra` is to be freed */
};

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
	struct uiopf_buffers **buffers;		/* by group id, 65,536 of them */
	uint32_t setup_flags, kernel;
	uint32_t classics;			/* buffers that PROVIDE_BUFFERS gave, in all groups */

	struct uiopf_request *first, *last;	/* under way */
	struct uiopf_request *work, **work_end;
	struct uiopf_request *free_requests;
	struct uiopf_request_chunk *chunks;
	uint32_t request_count;
	bool unusual;		/* submission takes the long way: a chain is open, IOPOLL, or one of the next three */
	bool disabled;				/* R_DISABLED, not enabled yet */
	bool restricted;			/* SQEs are looked at by `restrictions` */
	bool drain_active, drain_next, drain_disabled;
	uint32_t second_halves;			/* slots that SQEs of 128 bytes took besides, in this batch */
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
	bool counts_used;
	int clockid;				/* what waits count with */

	struct uiopf_table files, registered;	/* fixed files and buffers */
	struct uiopf_restrictions restrictions;
	uint32_t next_personality;
	uint8_t personality[65536 / 8];

	struct uiopf_backlog *backlog;		/* completions that found the CQ full, in order */
	uint32_t backlog_first, backlog_count, backlog_capacity;

	int eventfd;				/* registered; -1 */
	bool eventfd_async, by_worker;		/* … only for what a worker completed */
	uint32_t eventfd_tail;			/* the CQ's tail when it was last signalled */
	bool finished;				/* requests have ended since the last publish, perhaps all in silence */
	bool may_sleep;				/* somebody may, for want of CQEs: an eventfd, or a wait in enter; for good */
	bool look_again;			/* CQEs were published without a barrier: see uiopf_publish_cqes */
	uint32_t barrier;
	bool lost_unreported;			/* the next enter says EBADR */
	bool has_submitter;			/* SINGLE_ISSUER: only this thread */
	pthread_t submitter;
	UIOPF_LINE uint32_t cq_waiters;		/* client threads in enter, waiting for the worker's CQEs */
	int cq_eventfd;				/* … and what wakes one of them */
	struct uiopf_cost cost;

	/* A ring of another process: attachable.c. */
	bool attachable, attached;
	bool kicks;				/* the client promised to write to wake_eventfd when it sees NEED_WAKEUP */
	uint32_t group_entries, groups;		/* of its buffer rings, which are in the ring's own region */
	int wake_eventfd;
	struct uiopf_region data;		/* the client's buffers */
};

/* What starting a request came to. */
enum uiopf_issue {
	UIOPF_DONE,	/* res and cqe_flags stand: complete it */
	UIOPF_PENDING,	/* it is armed, or waits for its turn */
};

/* ---- submit.c ---- */

/* Takes n SQEs, of which there are so many; how many were consumed, or -EAGAIN. */
int uiopf_submit(struct uiopf_engine *engine, uint32_t n);
/* Carries on what was called, in the order of the calls. What that adds is for the next turn. */
uint32_t uiopf_run_work(struct uiopf_engine *engine);
bool uiopf_grow_requests(struct uiopf_engine *engine);
/* At the end: what those hold that never had their turn, behind others in a chain or behind a drain. */
void uiopf_release_requests(struct uiopf_engine *engine);
void uiopf_free_requests(struct uiopf_engine *engine);
/* What is between the SQE's flags and its other fields in io_init_req: 0, -EOPNOTSUPP, -EACCES. */
int uiopf_request_admit(struct uiopf_request *request);
void uiopf_engine_add_work(struct uiopf_request *request);
/* Ends a request with this result, as task work. */
void uiopf_request_end_later(struct uiopf_request *request, int32_t res);
/* Stops a request that is under way; it completes with -ECANCELED as task work. */
void uiopf_request_cancel(struct uiopf_request *request);
void uiopf_request_list(struct uiopf_request *request);
void uiopf_request_unlist(struct uiopf_request *request);
/* Gives back what it holds, without a word. */
void uiopf_request_free(struct uiopf_request *request);

/* ---- requests/table.c ---- */

/* 0, or -errno for what Linux refuses before it starts ("init" errors, which end a batch). */
int uiopf_request_prepare(struct uiopf_request *request, const struct io_uring_sqe *sqe);
enum uiopf_issue uiopf_request_issue(struct uiopf_request *request);
/* The first opcode that the engine's kernel does not know; whether it is there and works. */
uint32_t uiopf_opcodes(const struct uiopf_engine *engine);
bool uiopf_opcode_supported(const struct uiopf_engine *engine, uint32_t opcode);

/* A write that is done and completed at once; false: it was not such a one, and nothing has happened. */
bool uiopf_write_plainly(struct uiopf_engine *engine, const struct io_uring_sqe *sqe);

/* ---- requests/cancel.c ---- */

struct uiopf_cancel {
	uint64_t user_data;
	uint32_t flags;			/* IORING_ASYNC_CANCEL_* */
	uint8_t opcode;
	const struct uiopf_file *file;	/* with CANCEL_FD */
	const struct uiopf_request *by;	/* which a worker may run, and is no target of its own */
};

/* How many were cancelled with ALL or ANY; otherwise 0, -ENOENT, -EALREADY. */
int uiopf_cancel_matching(struct uiopf_engine *engine, const struct uiopf_cancel *cancel);
bool uiopf_cancel_matches(const struct uiopf_cancel *cancel, const struct uiopf_request *target);
int uiopf_sync_cancel(struct uiopf_engine *engine, const struct io_uring_sync_cancel_reg *reg);

/* ---- timer.c ---- */

void uiopf_timer_start(struct uiopf_request *request, uint64_t when_ns);
void uiopf_timer_stop(struct uiopf_request *request);	/* also one that does not run */
/* Fires what is due; how many. */
uint32_t uiopf_timers_fire(struct uiopf_engine *engine);
/* A time on a clock of the client's (CLOCK_MONOTONIC …), on the core's. */
uint64_t uiopf_time_on_core(const struct uiopf_core *core, int clockid, uint64_t ns);
/* requests/timeout.c: it has fired. */
void uiopf_timeout_fired(struct uiopf_request *request);
/* TIMEOUTs that count completions. */
void uiopf_timeouts_count(struct uiopf_engine *engine);
int uiopf_timeout_cancel(struct uiopf_engine *engine, const struct uiopf_cancel *cancel);
void uiopf_link_timeout_start(struct uiopf_request *guarded);
/* Takes the LINK_TIMEOUT behind a request that has ended out of its chain. */
void uiopf_link_timeout_stop(struct uiopf_request *guarded);
/* -EFAULT, -EINVAL; UINT64_MAX: never. */
int uiopf_timespec_load(struct uiopf_engine *engine, uint64_t address, uint64_t *ns);

/* ---- completion.c ---- */

/* A CQE, into the ring or the backlog; false where it is lost. */
bool uiopf_complete(struct uiopf_engine *engine, uint64_t user_data, int32_t res, uint32_t flags);
bool uiopf_complete_wide(struct uiopf_engine *engine, uint64_t user_data, int32_t res, uint32_t flags, uint64_t extra1,
			 uint64_t extra2);
/* A CQE of a request that goes on; false where there is no room, which ends the request. */
hot_inline bool uiopf_complete_more(struct uiopf_engine *e, uint64_t user_data, int32_t res, uint32_t flags)
{
	if (unlikely(e->backlog_count || uiopf_cq_full(&e->ring)))
		return false;
	uiopf_cq_put(&e->ring, user_data, res, flags | IORING_CQE_F_MORE);
	return true;
}
/* Moves what fits from the backlog into the ring. */
void uiopf_flush_backlog(struct uiopf_engine *engine);
/* Signals the eventfd, as there is task work that only an enter will run. */
void uiopf_tell_of_work(struct uiopf_engine *engine);
/* Shows the client what was completed, and signals the eventfd. */
void uiopf_publish_cqes(struct uiopf_engine *engine);
/* The worker's next turn: who said that it sleeps after CQEs were published, but before that was seen, is told. */
void uiopf_look_again(struct uiopf_engine *engine);
static inline uint32_t uiopf_cqes_ready(struct uiopf_engine *engine)
{
	return engine->ring.cq_tail - LOAD_ACQUIRE(uiopf_ring_word(&engine->ring, RING_CQ_HEAD));
}

/* ---- buffers.c ---- */

struct uiopf_selected {
	struct uiopf_buffers *from;
	uint64_t address;	/* the client's */
	uint8_t *map;
	uint32_t length;
	uint16_t id;
};
/*
 * The time of so many reads: a line whose store has to wait for the core of the client, who read the buffer when it was
 * last filled, holds up all stores behind it. An entry that is not published yet may say anything: nothing but a hint
 * comes of it.
 */
#define UIOPF_BUFFERS_AHEAD 16u
#define ENTRIES_A_LINE (64u / (uint32_t)sizeof(struct io_uring_buf))

static inline void uiopf_prefetch_buffer(const struct uiopf_engine *e, const struct io_uring_buf *buf)
{
	const struct uiopf_window *first = e->windows.window;	/* in others nothing is fetched ahead */
	const uint64_t offset = READ_ONCE(&buf->addr) - first->address;

	if (likely(offset < first->length))
		prefetch_to_write(first->map + offset);
}

int uiopf_buffer_select_classic(struct uiopf_engine *engine, uint16_t group, uint32_t wanted,
				struct uiopf_selected *selected);
/* Looks at the next buffer, without taking it: 0, -ENOBUFS, -EFAULT. map is NULL where the client has no memory. */
hot_inline int uiopf_buffer_select(struct uiopf_engine *e, uint16_t group, uint32_t wanted,
				   struct uiopf_selected *selected)
{
	struct uiopf_buffers *b = e->buffers[group];
	const struct io_uring_buf *buf;
	uint64_t address;
	uint32_t length;

	if (unlikely(!b || !b->ring))
		return uiopf_buffer_select_classic(e, group, wanted, selected);
	if (b->head == b->tail_seen) {
		/* Pairs with the client's release of the tail: the entries before it are complete. */
		b->tail_seen = LOAD_ACQUIRE(&b->ring[0].resv);
		if (b->head == b->tail_seen)
			return -ENOBUFS;
	}
	buf = &b->ring[b->head & b->mask];
	if (b->head % ENTRIES_A_LINE == 0)
		__builtin_prefetch(&b->ring[(b->head + 2 * UIOPF_BUFFERS_AHEAD) & b->mask]);
	uiopf_prefetch_buffer(e, &b->ring[(b->head + UIOPF_BUFFERS_AHEAD) & b->mask]);
	address = READ_ONCE(&buf->addr);
	length = READ_ONCE(&buf->len);
	selected->id = READ_ONCE(&buf->bid);
	if (wanted && wanted < length)
		length = wanted;
	selected->from = b;
	selected->length = length;
	if (unlikely(address > UIOPF_USER_END - length))
		return -EFAULT;
	selected->map = uiopf_windows_find(&e->windows, address, length);
	return 0;
}
uint32_t uiopf_buffer_take_slow(struct uiopf_selected *selected, uint32_t used);
/* Takes what was selected, of which so many bytes were used; the CQE's flags. */
static inline uint32_t uiopf_buffer_take(struct uiopf_selected *selected, uint32_t used)
{
	if (unlikely(!selected->from->ring || selected->from->incremental))
		return uiopf_buffer_take_slow(selected, used);
	selected->from->head++;
	return IORING_CQE_F_BUFFER | (uint32_t)selected->id << IORING_CQE_BUFFER_SHIFT;
}
int uiopf_register_buffers(struct uiopf_engine *engine, struct io_uring_buf_reg *reg);
int uiopf_unregister_buffers(struct uiopf_engine *engine, const struct io_uring_buf_reg *reg);
int uiopf_buffers_status(struct uiopf_engine *engine, struct io_uring_buf_status *status);
int uiopf_provide_buffers(struct uiopf_engine *engine, uint16_t group, uint64_t address, uint32_t length, uint16_t first,
			  uint32_t count);
int uiopf_remove_buffers(struct uiopf_engine *engine, uint16_t group, uint32_t count);
void uiopf_free_buffers(struct uiopf_engine *engine);

/* ---- resources.c ---- */

/* The file in a slot of the registered ones, NULL: none. */
struct uiopf_node *uiopf_fixed_file(const struct uiopf_engine *engine, uint32_t slot);
/* The buffer, -EFAULT: none there, or not all of [address, address + length) is in it. */
int uiopf_fixed_buffer(struct uiopf_engine *engine, uint32_t index, uint64_t address, uint64_t length, uint8_t **map,
		       struct uiopf_node **node);
void uiopf_node_put(struct uiopf_engine *engine, struct uiopf_node *node);
/* Puts a file into a slot (from 1), or any (IORING_FILE_INDEX_ALLOC): the slot (from 0) or 0, -errno. */
int uiopf_fixed_install(struct uiopf_engine *engine, struct uiopf_file *file, uint32_t slot);
int uiopf_fixed_remove(struct uiopf_engine *engine, uint32_t slot);
int uiopf_files_update(struct uiopf_engine *engine, uint32_t offset, uint64_t fds, const int32_t *at, uint32_t n);
int uiopf_register_resources(struct uiopf_engine *engine, uint32_t opcode, const void *arg, uint32_t nr_args);
void uiopf_free_resources(struct uiopf_engine *engine);

/* ---- enter.c ---- */

/* Runs task work until there is none, or with DEFER_TASKRUN until so much is done. The consumer side is ours. */
void uiopf_task_work(struct uiopf_engine *engine, bool flush, uint32_t wanted);
/* Whether the caller is not the thread that a SINGLE_ISSUER ring belongs to. */
static inline bool uiopf_other_submitter(const struct uiopf_engine *engine)
{
	return engine->has_submitter && !pthread_equal(engine->submitter, pthread_self());
}

/* setup.c: the rest of a ring whose file this is; NULL where the file is no ring. */
struct uiopf_engine *uiopf_engine_of(struct uiopf_file *file);
/* Those who poll the ring's descriptor: CQEs have come. */
static inline void uiopf_engine_wake_pollers(struct uiopf_engine *engine)
{
	if (unlikely(engine->file.waits != NULL))
		uiopf_file_wake(&engine->file, 0);
}
/* enter.c, register.c: what a kernel knows. */
uint32_t uiopf_enter_flags(uint32_t kernel);
uint32_t uiopf_register_ops(uint32_t kernel);
/* calls.c */
int uiopf_register_ring_fds(struct uiopf_core *core, struct io_uring_rsrc_update *reg, uint32_t n);
int uiopf_unregister_ring_fds(struct uiopf_core *core, const struct io_uring_rsrc_update *reg, uint32_t n);

/* ---- attachable.c ---- */

/*
 * How many requests and completions are kept for a client that nobody can charge. All may wait for one file, and each
 * wake-up goes through them: more would also cost others on the same worker too much time.
 */
#define UIOPF_ATTACHED_MOST 4096u

int uiopf_attachable_check(const struct uiopf_attachable *config, const struct io_uring_params *p);
int uiopf_attachable_open(struct uiopf_engine *engine, const struct uiopf_attachable *config);
void uiopf_attachable_close(struct uiopf_engine *engine);
/* The ring of buffers that is kept for a group, NULL: none, or not of so many. */
struct io_uring_buf *uiopf_attachable_buffers(const struct uiopf_engine *engine, uint16_t group, uint32_t entries);

/* A client that nobody can charge, and that may hold no more than this: the rest waits in its own ring. */
static inline bool uiopf_attached_is_full(const struct uiopf_engine *engine)
{
	return engine->attachable &&
	       (engine->alive >= UIOPF_ATTACHED_MOST || engine->backlog_count >= UIOPF_ATTACHED_MOST);
}

/* Things may change in its memory that no kick tells of: the worker looks now and then instead of sleeping for good. */
static inline bool uiopf_attached_needs_looks(const struct uiopf_engine *engine)
{
	return engine->attachable && (!engine->kicks || engine->backlog_count);
}

/* register.c */
void uiopf_close_eventfd(struct uiopf_engine *engine);
/* setup.c: rounds and checks sizes, as io_uring_setup does. */
int uiopf_ring_sizes(uint32_t entries, struct io_uring_params *p);
