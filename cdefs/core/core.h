/*
 * The emulated side as a whole: who turns the two steps, and how the control plane finds a quiet moment.
 *
 * A core has a producer side (hardware, IOMMU drivers, reports) and a consumer side (fault queues' readers, ring
 * engines, designs). Three drivers turn them:
 *
 *   inline   no thread: uiopf_core_produce() and the client's own calls do it, on whatever thread they are made;
 *   enter    a worker is the hardware; the kernel's part runs in the client's system calls;
 *   sqpoll   the worker is the hardware and the kernel; client calls need not be made at all.
 *
 * Consumer calls are serialised by a lock. Under `sqpoll` the worker owns the consumer side without it, so a call from
 * another thread first stops the worker between two turns, as the control plane does: attach, detach, replace, close.
 * A worker that nobody wants to stop pays one load of an unshared word per turn for all of this.
 *
 * In virtual time one thread plays all of them: see struct uiopf_player.
 *
 * What is turned is none of the core's business: hardware, queues and rings enter themselves in its lists, each with a
 * table of functions. They are called once a turn, so that an indirect call costs nothing per fault.
 */
#pragma once
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "abi/api.h"
#include "base/atomics.h"
#include "base/clock.h"
#include "base/lifetime.h"
#include "core/file.h"

/* Versions of the kernel that is emulated. */
#define UIOPF_LINUX(major, minor) ((uint32_t)(major) << 8 | (minor))

#define UIOPF_NO_DEADLINE UINT64_MAX

/* Hardware, with its driver. */
struct uiopf_producer {
	const struct uiopf_producer_ops *ops;
	struct uiopf_producer *next;
};

struct uiopf_producer_ops {
	/* Producer: carries out commands, sends what is due, reports what was sent; how much. A bounded amount. */
	uint32_t (*turn)(struct uiopf_producer *producer);
	/* Consumer: answers have been written. The hardware is to carry them out, and is woken if it sleeps. */
	void (*kick)(struct uiopf_producer *producer);
};

/* What stands between the sides: something comes in, and waits to be read. */
struct uiopf_queue {
	const struct uiopf_queue_ops *ops;
	struct uiopf_queue *next;
};

struct uiopf_queue_ops {
	/* Producer, at the end of its step: shows what came in. NULL: that has been done already. */
	void (*publish)(struct uiopf_queue *queue);
	/* Consumer: wakes the waits of its file if something has come since the last time; how much. */
	uint32_t (*sync)(struct uiopf_queue *queue);
	/*
	 * Both sides': the timer interrupt. Ends what has waited for too long; when it is to be called again, or
	 * UIOPF_NO_DEADLINE. NULL: nothing here ever does.
	 */
	uint64_t (*expire)(struct uiopf_queue *queue, uint64_t now);
};

/* Who takes things out of the queues in the kernel: a ring under `sqpoll`, the `handler` design. */
struct uiopf_consumer {
	const struct uiopf_consumer_ops *ops;
	struct uiopf_consumer *next;
	uint64_t due_ns;		/* when the first of its timers fires: uiopf_consumer_due() */
};

/*
 * The worker's questions are asked under `sqpoll` alone; `sleeping` once under `enter` too, where nobody ever runs a
 * consumer but its client's calls. All but `run` may be NULL.
 */
struct uiopf_consumer_ops {
	/* Consumer: one turn; how much it did. */
	uint32_t (*run)(struct uiopf_consumer *consumer);
	/* The worker is about to sleep, and looks once more; or it is awake again. */
	void (*sleeping)(struct uiopf_consumer *consumer, bool asleep);
	/* The worker is about to stand still: what is owed to sleeping clients is not put off until after that. */
	void (*settle)(struct uiopf_consumer *consumer);
	/* Whether things may change that nobody tells of: the worker looks now and then instead of sleeping for good. */
	bool (*needs_looks)(const struct uiopf_consumer *consumer);
	/*
	 * Consumer, while somebody waits in a system call, and before others have this side: wakes those who wait for
	 * this consumer, where they have to do what was left for it, or where a timer fires `sooner` than they know.
	 */
	void (*hand_over)(struct uiopf_consumer *consumer, bool sooner);
	/* Consumer: what Linux would have interrupted its client for, which has no thread here meanwhile. How much it did. */
	uint32_t (*interrupt)(struct uiopf_consumer *consumer);
};

/* Somebody who waits in a system call for a queue; told by an eventfd. */
struct uiopf_sleeper {
	struct uiopf_sleeper *next;
	const struct uiopf_file *file;	/* the queue's; NULL: for any */
	int eventfd;
	bool listed;
	bool in_call;			/* a thread of its own sleeps on it, without a worker too */
};

/*
 * Inline, a client that turns the steps itself, and sleeps while there is nothing to turn. Whatever makes work for the
 * steps writes its eventfd, once, also where nothing is paid for with real wake-ups: nobody else would do that work.
 */
struct uiopf_turner {
	struct uiopf_turner *next;
	struct uiopf_core *core;
	int eventfd;
	bool listed;
};

/*
 * Whoever plays the threads of a core on one thread, in virtual time (designs/virtual.c). Each of them has a time of its own,
 * and the one that is furthest behind runs. It gives way where it waits, and before others can see what it has made, so that
 * nothing is seen before its time. All of that is off the path of a single fault: with real threads a turn pays a look at a
 * pointer that never changes.
 */
struct uiopf_player {
	const struct uiopf_player_ops *ops;
};

/* Why time goes on. */
enum uiopf_pass {
	UIOPF_SPENT,	/* something was done that takes time by itself: a system call */
	UIOPF_FOUND,	/* a client has found what another core has written */
	UIOPF_STORES,	/* what others look at is about to be stored */
};

struct uiopf_player_ops {
	/* The time of the thread that runs goes on by the price of what it has done. */
	void (*pass)(struct uiopf_player *player, enum uiopf_pass why);
	/* A client has looked in vain, and is about to look again: 0; or -EINTR: it is to return instead. */
	int (*look_again)(struct uiopf_player *player);
	/* Sleeps until the eventfd can be read: true. False: the time is over; or it is to return, with errno EINTR. */
	bool (*sleep)(struct uiopf_player *player, int fd, uint64_t timeout_ns);
	/* An eventfd has been written, or the host can let somebody read from a descriptor of its own. */
	void (*signalled)(struct uiopf_player *player);
	/* A quiescent section begins: the others end their turns first. */
	void (*park)(struct uiopf_player *player);
};

#define UIOPF_MAX_FILES 1024
#define UIOPF_REGISTERED_FILES 16

/* What a thread's calls may name without a descriptor. One in which nothing is left is the next thread's. */
struct uiopf_registered {
	struct uiopf_registered *next;
	uint64_t thread;		/* a number that is used once */
	struct uiopf_file *file[UIOPF_REGISTERED_FILES];
};

#define UIOPF_SPARE_EVENTFDS 16u

/* An eventfd of the host that is a file here. Rings may signal it too, and say so. */
struct uiopf_host_eventfd {
	struct uiopf_host_eventfd *next;
	int id;				/* uiopf_eventfd_id() */
	bool signalled;			/* by a ring, and whoever waits for it has not been called */
};

struct uiopf_core {
	struct uiopf_lifetime lifetime;
	struct uiopf_clock clock;
	enum uiopf_driver driver;	/* changes only with both locks held and the worker parked */
	bool live;			/* system calls, and wake-ups where no thread needs them, are paid for with real ones */
	struct uiopf_player *player;	/* NULL: threads are real; changes at the quiescent point */
	bool abandoned;			/* in a forked child: what is here is the parent's; see uiopf_core_abandon() */
	bool torn;			/* … and was being changed at that moment: it is not even freed */

	/* Newest first; they change at the quiescent point. */
	struct uiopf_producer *producers;
	struct uiopf_queue *queues;
	struct uiopf_consumer *consumers;
	struct uiopf_file *file[UIOPF_MAX_FILES];	/* by descriptor; 0 to 2 are never given out */
	struct uiopf_registered *registered;	/* of each thread that has registered any */
	uint64_t handles;		/* numbers given out that are never used again (attachments') */
	uint64_t sq_idle_ns;		/* under `sqpoll`: the longest time to spin that a consumer asked for */
	uint32_t kernel;		/* which Linux is emulated: UIOPF_LINUX(6, 12) … */
	uint32_t watches;		/* channels that ask where the time goes */
	/* The host's descriptors that are files here (hostfile.c): what they are read for and written for. */
	int host_epoll[2];		/* -1 until the first is installed */
	uint32_t (*host_sync)(struct uiopf_core *core);	/* calls those who wait for one that is ready; how many are */
	struct uiopf_host_eventfd *host_eventfds;
	uint32_t tells_at_once;		/* rings that say in their memory, or by an eventfd, that there is work to enter for */
	uint64_t work_moments;		/* times at which a ring that tells of it was given its first task work */
	int wake_epoll;			/* the eventfds that clients of other processes kick the worker with; -1: none */
	unsigned long aio;		/* for uiopf_notify(); 0: none */

	/* The producer's: it writes them every turn, also one in which it finds nothing. */
	UIOPF_LINE uint64_t next_ns;	/* when the producer has something to do by itself; UINT64_MAX: never */
	uint64_t expiry_ns;		/* no group's time is over before; UIOPF_NO_DEADLINE: no timer runs */
	bool owes_sync;			/* something came, and a client had the consumer's side: see arrive() */
	/* While there are watches: what the simulated hardware did, what of that was timed, and the time. */
	uint64_t hardware_did, hardware_timed, hardware_ns;

	/* The consumer's. */
	UIOPF_LINE uint64_t timer_ns;	/* when the first ring's timer fires */
	uint64_t timer_known;		/* who waits in a system call wakes up by then */
	uint32_t host_waits;		/* waits armed on the host's descriptors */
	bool in_signal;			/* who waits for an eventfd is being called, as a ring has signalled it */
	bool owes_signals;		/* rings, since then, to who waits for their eventfds */
	bool host_moved;		/* a request has moved data to or from one since the host was last looked at */
	uint32_t aio_unreaped;

	UIOPF_LINE pthread_mutex_t consumer_lock;
	bool controlled;		/* the consumer lock is held by the control plane; guarded by it */
	pthread_mutex_t control_lock;	/* recursive */
	uint32_t control_depth;
	pthread_t controller;		/* who is in the section; looked at without the lock, for one's own id */
	bool has_controller;

	UIOPF_LINE pthread_mutex_t sleepers_lock;
	struct uiopf_sleeper *sleepers;
	uint64_t wakeups;		/* eventfd writes made by the producer and the control plane; guarded by the lock */
	int spare_eventfd[UIOPF_SPARE_EVENTFDS];	/* for whoever sleeps next */
	uint32_t spare_eventfds;
	UIOPF_LINE uint32_t sleepers_count;
	uint32_t waiters;		/* threads that wait in a system call for what a consumer makes */

	/* The worker. */
	UIOPF_LINE uint32_t mailbox;	/* how many want it to stop between two turns */
	UIOPF_LINE uint32_t parked;	/* it has stopped; written by the worker */
	uint32_t park_waiters;		/* a controller waits for that on park_changed */
	uint32_t worker_waits;		/* the parked worker waits on park_changed to be let go */
	UIOPF_LINE uint32_t asleep;	/* it may be in poll; wake it through its eventfd */
	uint32_t sqpoll_runs;		/* the worker owns the consumer side; read without a lock, then again with it */
	struct uiopf_turner *turners;	/* inline only; guarded by sleepers_lock */
	UIOPF_LINE bool running;
	bool stop;
	pthread_t thread;
	pthread_mutex_t park_lock;
	pthread_cond_t park_changed;
	int worker_eventfd;		/* made with the first worker, closed with the core */
	uint64_t idle_ns;		/* spin so long before sleeping; UINT64_MAX: for ever */
	bool yields;			/* one processor for both sides: see uiopf_core_spin() */
	uint64_t worker_sleeps;
};
UIOPF_BEGINS_A_LINE(struct uiopf_core, next_ns);
UIOPF_BEGINS_A_LINE(struct uiopf_core, timer_ns);
UIOPF_BEGINS_A_LINE(struct uiopf_core, consumer_lock);
UIOPF_BEGINS_A_LINE(struct uiopf_core, sleepers_lock);
UIOPF_BEGINS_A_LINE(struct uiopf_core, sleepers_count);
UIOPF_BEGINS_A_LINE(struct uiopf_core, mailbox);
UIOPF_BEGINS_A_LINE(struct uiopf_core, parked);
UIOPF_BEGINS_A_LINE(struct uiopf_core, asleep);
UIOPF_BEGINS_A_LINE(struct uiopf_core, running);

/* Producer: a turn of simulated hardware. A thread that was held up meanwhile says nothing of the hardware. */
static inline void uiopf_core_note_hardware(struct uiopf_core *core, uint32_t did, uint64_t took_ns)
{
	core->hardware_did += did;
	if (did && took_ns < 20000 + 1000ull * did) {	/* a hundred times what it takes, and less than a time slice */
		core->hardware_timed += did;
		core->hardware_ns += took_ns;
	}
}

/* One turn of each side; how much was done. The caller owns that side. */
uint32_t uiopf_produce(struct uiopf_core *core);
uint32_t uiopf_consume(struct uiopf_core *core);
/* Producer: shows what has come into the queues. */
void uiopf_core_publish(struct uiopf_core *core);
/* Consumer: calls those who wait for files at which something has arrived; how much has. */
uint32_t uiopf_core_sync(struct uiopf_core *core);

/*
 * Waiting for what another thread holds. A client may stand in a call of ours when a signal comes, and its language runs
 * the handler only after we have returned. So no call waits for it longer than a slice: it returns -EINTR with nothing
 * done, and is called again. Waiting for completions is another matter: uiopf_enter() sleeps as io_uring_enter() does,
 * until they come, its time is over or a signal ends it.
 */
#define UIOPF_SLICE_NS 20000000u

/*
 * How often a call that waits turns the other side, or works for others, without having slept. Then it returns -EINTR: a
 * program runs its signal handlers, and calls again.
 */
#define UIOPF_TURNS_OF_A_CALL 4096u

struct uiopf_patience {
	uint32_t looks;
	uint64_t until;
};

/* Between two looks, from { 0 } on: lets a moment go by and returns 0; -EINTR: a signal came, or the slice is over. */
int uiopf_wait_a_moment(struct uiopf_patience *patience);
/* The same where the worker has to do something first. */
int uiopf_core_wait_a_moment(const struct uiopf_core *core, struct uiopf_patience *patience);

/*
 * After a look in vain, beside the worker. Where both sides have one processor between them, what is looked for cannot
 * come before this thread has let go of it, and the scheduler would take it away only after milliseconds.
 */
static inline void uiopf_core_spin(const struct uiopf_core *core)
{
	if (unlikely(READ_ONCE(&core->yields)))
		sched_yield();
	else
		cpu_relax();
}

/* The same of a client, which has no worker beside it in virtual time: 0, or -EINTR: it is to return. */
static inline int uiopf_core_yield(const struct uiopf_core *core)
{
	if (unlikely(core->player != NULL))
		return core->player->ops->look_again(core->player);
	sched_yield();
	return 0;
}

/* In virtual time. Before stores that others look at, once for all that a turn or a call has made. */
static inline void uiopf_pass_time(const struct uiopf_core *core, enum uiopf_pass why)
{
	if (unlikely(core->player != NULL))
		core->player->ops->pass(core->player, why);
}

/* The same, after something that may have ended a sleep. */
static inline void uiopf_tell_player(const struct uiopf_core *core)
{
	if (unlikely(core->player != NULL))
		core->player->ops->signalled(core->player);
}

/* Quiescent: into the core's lists, and out of them. */
void uiopf_core_add_producer(struct uiopf_core *core, struct uiopf_producer *producer);
void uiopf_core_remove_producer(struct uiopf_core *core, struct uiopf_producer *producer);
void uiopf_core_add_queue(struct uiopf_core *core, struct uiopf_queue *queue);
void uiopf_core_remove_queue(struct uiopf_core *core, struct uiopf_queue *queue);
void uiopf_core_add_consumer(struct uiopf_core *core, struct uiopf_consumer *consumer);
void uiopf_core_remove_consumer(struct uiopf_core *core, struct uiopf_consumer *consumer);
/* Consumer: the first of its timers fires then; UINT64_MAX: none runs. */
void uiopf_consumer_due(struct uiopf_core *core, struct uiopf_consumer *consumer, uint64_t when_ns);

/* Around everything that touches the consumer side from outside the worker. */
void uiopf_consumer_begin(struct uiopf_core *core);
/* The same for a client: 0, or -EINTR, not begun: the quiescent point is somebody else's, and has been for a slice. */
int uiopf_consumer_try_begin(struct uiopf_core *core);
/* Whether this thread holds the quiescent point: the worker comes to nothing before it lets go. */
bool uiopf_in_control(struct uiopf_core *core);
void uiopf_consumer_end(struct uiopf_core *core);
/*
 * The producer's thread, for what belongs to the consumer's side: false where a client has it now, in a system call,
 * who is not waited for. The next turn tries again.
 */
bool uiopf_consumer_try(struct uiopf_core *core);
void uiopf_consumer_leave(struct uiopf_core *core);

/* Consumer, before it goes to others. Once a turn and a call; while nobody waits it is one load. */
void uiopf_hand_over_slow(struct uiopf_core *core);
static inline void uiopf_hand_over(struct uiopf_core *core)
{
	if (unlikely(READ_ONCE(&core->waiters)))
		uiopf_hand_over_slow(core);
}

/* Consumer, after answers: lets the hardware see the commands, and wakes it where it sleeps. */
void uiopf_core_kick(struct uiopf_core *core);
/* Consumer: tells sleeping clients what is owed to them. */
void uiopf_core_settle(struct uiopf_core *core);
void uiopf_core_wake_worker(struct uiopf_core *core);

/* Sleeping for a queue. List first, then look at the queue once more, then sleep. */
void uiopf_sleeper_list(struct uiopf_core *core, struct uiopf_sleeper *sleeper);
void uiopf_sleeper_unlist(struct uiopf_core *core, struct uiopf_sleeper *sleeper);
void uiopf_core_wake_sleepers(struct uiopf_core *core, const struct uiopf_file *file);

/* Turning inline, and sleeping. List first, then turn once more, then sleep. */
void uiopf_turner_init(struct uiopf_turner *turner, struct uiopf_core *core, int eventfd);
void uiopf_core_wake_turners(struct uiopf_core *core);

/* Something was done that a step is to go on with. Not called for a turn that found nothing: two would wake each other. */
static inline void uiopf_core_made_work(struct uiopf_core *core)
{
	if (unlikely(READ_ONCE(&core->turners) != NULL))
		uiopf_core_wake_turners(core);
}

/*
 * Whether eventfds are written. Beside a worker always: a thread that sleeps hears of nothing else. Without one nobody is
 * asleep while something happens, but who says so (`in_call`), and a real wake-up is the price that a live core pays. Both
 * sides may ask.
 */
static inline bool uiopf_wakes(const struct uiopf_core *core)
{
	return core->live || core->driver != UIOPF_INLINE;
}

/* An eventfd to sleep on, empty; -1: the process has no descriptor left. */
int uiopf_eventfd_take(struct uiopf_core *core);
void uiopf_eventfd_give(struct uiopf_core *core, int fd);

/* A real write where uiopf_wakes(); counted by the caller. */
void uiopf_eventfd_signal(struct uiopf_core *core, int fd);
/* The same for one that a client registered, and may have left no room in. */
void uiopf_eventfd_signal_client(struct uiopf_core *core, int fd);
/* A write that is always a real one, counted by the caller: of one on which a thread of its own sleeps. */
void uiopf_eventfd_write(const struct uiopf_core *core, int fd);
/* Sleeps until the eventfd can be read or the time is over; true when it can. False with errno EINTR: a signal came. */
bool uiopf_eventfd_poll(const struct uiopf_core *core, int fd, uint64_t timeout_ns);
/* The same, and empties it. */
bool uiopf_eventfd_wait(const struct uiopf_core *core, int fd, uint64_t timeout_ns);

/* Quiescent: what was not uninstalled of a file that goes is a closed descriptor then. */
void uiopf_core_forget_file(struct uiopf_core *core, const struct uiopf_file *file);
/* The same, and for the host's descriptors while a request waits for one; true when anything may have come. */
bool uiopf_core_sleep(struct uiopf_core *core, int fd, uint64_t timeout_ns);
/* Consumer: close(2) of a descriptor of this core; false: there is none. */
bool uiopf_core_close_fd(struct uiopf_core *core, int fd);
