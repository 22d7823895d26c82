/*
 * What Python may call. cffi and the compiler both read this file (and abi/ and cost.h): plain declarations only.
 *
 * Functions return 0 or a count, or -errno. Unless it says otherwise, any thread may call any of them; what they do is
 * ordered by the core (core.h). Objects are freed by their own functions, in any order: what another object still works on
 * is there until that is freed too (base/lifetime.h). Freeing NULL does nothing.
 */
#pragma once
#include <stdint.h>

#include "abi/iommufd.h"
#include "abi/io_uring.h"
#include "abi/cost.h"

struct uiopf_core;
struct uiopf_iommu;
struct uiopf_port;
struct uiopf_device;
struct uiopf_faultq;
struct uiopf_eventq;
struct uiopf_file;
struct uiopf_engine;
struct uiopf_client_ring;
struct uiopf_space;
struct uiopf_format;
struct uiopf_pagetables;
struct uiopf_translator;
struct uiopf_host;
struct uiopf_nesting;
struct uiopf_device_tlb;
struct uiopf_endpoint;
struct uiopf_model;
struct uiopf_mock;
struct uiopf_channel;
struct uiopf_turner;

/* ---- the extension itself ---- */

/* SHA-256, in hex, over the C sources that this was built from. */
const char *uiopf_source_hash(void);

/* ---- the core: clock, drivers, quiescent point ---- */

enum uiopf_clock_kind { UIOPF_CLOCK_MANUAL, UIOPF_CLOCK_MONOTONIC, UIOPF_CLOCK_COUNTER };
enum uiopf_driver { UIOPF_INLINE, UIOPF_ENTER, UIOPF_SQPOLL };

/* The processor counter's ns per count (32 bits after the point), measured for so long; 0: no constant-rate counter. */
uint64_t uiopf_counter_calibrate(uint64_t during_ns);
/* live: emulated system calls and wake-ups are paid for with real ones. NULL: no memory. */
struct uiopf_core *uiopf_core_new(enum uiopf_clock_kind clock, uint64_t ns_per_count, int live);
int uiopf_core_free(struct uiopf_core *core);	/* -EBUSY while something that was made on it is there */
void uiopf_core_let_go(struct uiopf_core *core);	/* … which this does not mind: the last of those frees it */
/*
 * In the child of a fork, before anything else: the core is the parent's. All that may be done is to free it and what was
 * made on it, which gives back the child's own memory, mappings and descriptors, and touches nothing that is shared.
 */
void uiopf_core_abandon(struct uiopf_core *core);
/* Whose rings these are, from the next uiopf_setup() on: Linux 6.12 unless it is said. */
void uiopf_core_set_kernel(struct uiopf_core *core, uint32_t major, uint32_t minor);
uint64_t uiopf_core_now(const struct uiopf_core *core);
void uiopf_core_tick(struct uiopf_core *core, uint64_t now_ns);	/* a manual clock's */
uint64_t uiopf_core_next_ns(const struct uiopf_core *core);	/* when the producer acts by itself or a timer fires; UINT64_MAX */
/* One producer step: how much was done; 0 where a worker does it. -EINTR: another thread's section is long. */
int uiopf_core_produce(struct uiopf_core *core);
int uiopf_core_consume(struct uiopf_core *core);	/* one consumer step; as well */
uint64_t uiopf_core_wakeups(const struct uiopf_core *core);
/*
 * For a client that turns the steps itself, inline, and sleeps in between: once listed, its eventfd is written, once, by
 * whatever makes work for the steps. List, turn once more, sleep, unlist. NULL: no memory, or no descriptor.
 */
struct uiopf_turner *uiopf_turner_new(struct uiopf_core *core);
void uiopf_turner_free(struct uiopf_turner *turner);
int uiopf_turner_eventfd(const struct uiopf_turner *turner);
void uiopf_turner_list(struct uiopf_turner *turner);
void uiopf_turner_unlist(struct uiopf_turner *turner);
/* Starts the worker (UIOPF_ENTER or UIOPF_SQPOLL), on a cpu if that is >= 0; it sleeps after idle_ns without work. */
int uiopf_core_start(struct uiopf_core *core, enum uiopf_driver driver, int cpu, uint64_t idle_ns);
/*
 * The driver of a worker (UIOPF_ENTER or UIOPF_SQPOLL) without one, until uiopf_core_stop(): whoever plays the core in virtual
 * time turns the steps. -EINVAL: another driver; -EBUSY: there is a worker, or it is played already.
 */
int uiopf_core_play(struct uiopf_core *core, enum uiopf_driver driver);
int uiopf_core_stop(struct uiopf_core *core);
/* Whether spinning gives the processor away at each look: worker and its starter share a single one. */
int uiopf_core_yields(const struct uiopf_core *core);
/* Held once more; letting go of that stops the worker, too. */
struct uiopf_core *uiopf_core_hold(struct uiopf_core *core);
void uiopf_core_stop_held(struct uiopf_core *core);
int uiopf_core_driver(const struct uiopf_core *core);	/* enum uiopf_driver, now */
uint64_t uiopf_core_worker_sleeps(const struct uiopf_core *core);
/* The quiescent point: between these no step runs anywhere else. They nest, within one thread. */
void uiopf_control_begin(struct uiopf_core *core);
void uiopf_control_end(struct uiopf_core *core);
/* The same for whoever wants to hear of signals: 0, or -EINTR, not begun, after a slice of another thread's section. */
int uiopf_control_try_begin(struct uiopf_core *core);

/* ---- fault queues ---- */

enum uiopf_personality { UIOPF_MERGED, UIOPF_PROPOSED, UIOPF_PROPOSED_UNKEYED, UIOPF_COMMANDS };

struct uiopf_faultq_counts {
	uint64_t delivered_groups;
	uint64_t answered_groups, answered_faults;		/* by a client */
	uint64_t auto_answered_groups, auto_answered_faults;	/* INVALID, for the client */
	uint64_t waiting_groups;				/* now: to be read */
	uint64_t unanswered_groups;				/* now: read, to be answered */
	uint64_t timed_out_groups, timed_out_faults;		/* of those answered for the client: too late */
	uint64_t lost_groups, lost_faults;			/* beyond the depth: never in the queue, answered lost_code */
};

/* What Linux's queue has not; all 0: as Linux. */
struct uiopf_faultq_limits {
	uint32_t depth;		/* groups waiting to be read at most */
	uint32_t by_index;	/* answers may name device, PASID and group index */
	uint64_t timeout_ns;	/* from the report to the answer, read or not; then it is answered for the client: */
	uint32_t timeout_code;	/* 1 INVALID, 2 FAILURE */
	uint32_t lost_code;	/* what a group beyond the depth is answered: 1 INVALID, 2 FAILURE; 0: FAILURE */
};

/* A message that is no fault: `length` groups were lost since the last one of these, just before what follows. */
#define UIOPF_PGFAULT_FLAGS_LOST 0x80000000

/*
 * URING_CMDs of a file with UIOPF_COMMANDS. What a command does not use must be 0: addr, len, and the SQE's last 16 bytes.
 * -EINVAL: it is not, or the number is unknown; -EFAULT: the client has no such memory.
 *
 * RECEIVE posts every fault as a CQE of 32 bytes (struct uiopf_fault_cqe), and goes on until it is cancelled. -EINVAL: the
 * ring has none. -ENOBUFS: a group has no room in the CQ; it stays first in the queue.
 */
#define UIOPF_CMD_RECEIVE 0x3bc0
/* RESPOND answers the group in the SQE's last 16 bytes: a struct iommu_hwpt_page_response, and 0. -EINVAL: as a write. */
#define UIOPF_CMD_RESPOND 0x3bc1
/*
 * FETCH waits for one group, and copies its messages to addr, len: the bytes. Those that wait are served in their order,
 * each with a group. -EINVAL: len is no multiple of a message, or the group has more; it stays first in the queue.
 * COMMIT_AND_FETCH answers a group first, as RESPOND. An answer that is refused ends it, and so does bad memory, before that.
 */
#define UIOPF_CMD_FETCH 0x3bc2
#define UIOPF_CMD_COMMIT_AND_FETCH 0x3bc3
/*
 * FETCH_BATCH is a multishot with provided buffers (Linux 6.18): it fills one with whole groups, as many as wait and have room,
 * and posts one CQE for them, until it is cancelled. -ENOBUFS: there is no buffer, or no room in the CQ; -EINVAL: the buffer
 * is too small for the group that is first; -EFAULT. Nothing was taken then.
 */
#define UIOPF_CMD_FETCH_BATCH 0x3bc4
/*
 * COMMIT_BATCH gives the answers at addr, len. It tries all: 0, or -EINVAL if some were refused, and how many is in the CQE's
 * second half, if it has 32 bytes. -EINVAL too: len is no multiple of an answer, or there are more than this.
 */
#define UIOPF_CMD_COMMIT_BATCH 0x3bc5
#define UIOPF_MOST_IN_BATCH 512

/*
 * A fault in a CQE. `res` is the cookie, of 31 bits. The flags' upper half has the message's flags, its permissions, and the
 * highest bits of the group's id. What has no place there comes in a second CQE, right behind the first.
 */
#define UIOPF_FAULT_CQE_FLAGS_SHIFT 16	/* IOMMU_PGFAULT_FLAGS_*, 3 bits */
#define UIOPF_FAULT_CQE_LOST 0x80000	/* no fault: `rest` says how many groups were lost */
#define UIOPF_FAULT_CQE_PERM_SHIFT 20	/* 4 bits */
#define UIOPF_FAULT_CQE_REST 0x1000000	/* its PASID and group id are in the second CQE, and its length */
#define UIOPF_FAULT_CQE_SECOND 0x2000000	/* it is the second: PASID and group id, and the length, in `big_cqe` */
#define UIOPF_FAULT_CQE_GRPID_SHIFT 28	/* bits 12 to 15 of the group's id */

struct uiopf_faultq *uiopf_faultq_new(struct uiopf_core *core, enum uiopf_personality personality);
int uiopf_faultq_free(struct uiopf_faultq *queue);	/* -EBUSY while devices are attached or requests hold it */
int uiopf_faultq_busy(struct uiopf_faultq *queue);	/* the same, and only asks */
void uiopf_faultq_let_go(struct uiopf_faultq *queue);	/* it goes with the last device and request */
/* Before its first group. -EBUSY: it has had one, or limits already; -EINVAL: the code. */
int uiopf_faultq_limit(struct uiopf_faultq *queue, const struct uiopf_faultq_limits *limits);
/* flags: PASID_VALID 1. The oldest that was read. -EINVAL: none, or the code; -EOPNOTSUPP: not asked for; -EINTR as below. */
int uiopf_faultq_answer_index(struct uiopf_faultq *queue, uint32_t dev_id, uint32_t flags, uint32_t pasid,
			      uint32_t grpid, uint32_t code);
/* The system calls on its fd: read(2), write(2), poll(2). */
/* -EINTR: nothing was done, another thread has held the quiescent point for a slice. */
int64_t uiopf_faultq_read(struct uiopf_faultq *queue, void *to, uint64_t length);
/* Whether a write of this answer would find its code good, whatever the cookie is: 1 or 0; -EINTR as below. */
int uiopf_faultq_takes(struct uiopf_faultq *queue, uint32_t cookie, uint32_t code);
int64_t uiopf_faultq_write(struct uiopf_faultq *queue, const void *from, uint64_t length);
uint32_t uiopf_faultq_poll(struct uiopf_faultq *queue);
void uiopf_faultq_counts(struct uiopf_faultq *queue, struct uiopf_faultq_counts *counts);
/* What rings, and everything else that polls, know a queue by. */
struct uiopf_file *uiopf_faultq_file(struct uiopf_faultq *queue);
/* A descriptor for rings of this core; -EMFILE. */
int uiopf_core_install(struct uiopf_core *core, struct uiopf_file *file);
/* Closes the number if that file is behind it, NULL: whatever is: a ring may have closed it, and it may be another's by now. */
void uiopf_core_uninstall(struct uiopf_core *core, int fd, const struct uiopf_file *file);
/*
 * A descriptor for rings of this core on one of the host's that can be polled (a pipe, an eventfd, a socket), which is
 * duplicated. It lives until it is uninstalled and no request holds it. -EPERM: it cannot be polled.
 */
int uiopf_core_install_host(struct uiopf_core *core, int fd);
/* -EBADF: uiopf_core_install_host() did not give that number, or it is closed by now. */
int uiopf_core_uninstall_host(struct uiopf_core *core, int fd);
int uiopf_core_set_nonblock(struct uiopf_core *core, struct uiopf_file *file, int nonblock);	/* O_NONBLOCK */

/* ---- event queues ---- */

#define UIOPF_EVENT_MOST 1024	/* bytes of data in one event; Linux's have 32 at most */

struct uiopf_eventq_counts {
	uint64_t reported;	/* all: stored and lost */
	uint64_t stored;
	uint64_t lost;		/* the queue was full, or there was no memory */
	uint64_t delivered;	/* read, of those stored */
};

/* depth: how many events it holds at most. NULL: no memory. */
struct uiopf_eventq *uiopf_eventq_new(struct uiopf_core *core, uint32_t depth);
/* No report may be under way. -EBUSY while requests hold it. */
int uiopf_eventq_free(struct uiopf_eventq *queue);
int uiopf_eventq_busy(struct uiopf_eventq *queue);
void uiopf_eventq_let_go(struct uiopf_eventq *queue);	/* as a fault queue's three */
struct uiopf_file *uiopf_eventq_file(struct uiopf_eventq *queue);
/* 0 also where the event is lost to a full queue; -ENOMEM where it is lost for want of memory; -EINVAL: too long. */
int uiopf_eventq_report(struct uiopf_eventq *queue, const void *data, uint32_t length);
/* The system calls on its fd: read(2), write(2), poll(2). */
int64_t uiopf_eventq_read(struct uiopf_eventq *queue, void *to, uint64_t length);
int64_t uiopf_eventq_write(struct uiopf_eventq *queue, const void *from, uint64_t length);
uint32_t uiopf_eventq_poll(struct uiopf_eventq *queue);
void uiopf_eventq_counts(struct uiopf_eventq *queue, struct uiopf_eventq_counts *counts);

/* ---- devices and attachment ---- */

struct uiopf_device_counts {
	uint64_t reported;	/* faults */
	uint64_t refused;	/* faults answered by the generic layer or the driver: no handler, no memory, malformed; or kept
				   of a group that was answered so, or by the IOMMU, and then dropped */
	uint64_t dropped;	/* partial faults forgotten without an answer */
	uint64_t passed_over;	/* page requests that the driver drops without a word, as Linux's: nobody is answered */
	uint64_t stale;		/* faults that met another attachment than the one they were sent under */
	uint64_t served;	/* faults of stage 2, or of none, that the kernel has served itself */
};

/*
 * capacity: how many requests it may have outstanding. growable: by need, for devices reported by hand only. NULL with
 * ERANGE: the IOMMU's formats have no room for the requester id.
 */
struct uiopf_device *uiopf_device_new(struct uiopf_core *core, struct uiopf_iommu *iommu, uint32_t id,
				      uint32_t requester_id, uint32_t capacity, int growable);
void uiopf_device_free(struct uiopf_device *device);	/* detaches it, and unbinds it from its IOMMU */
/*
 * Devices that the IOMMU cannot tell apart are attached together, whichever of them is named. `device` is new and joins
 * the group that `member` is in, and what that is attached to; it leaves before it is freed.
 */
int uiopf_device_join(struct uiopf_device *device, struct uiopf_device *member, uint32_t flags);	/* -EBUSY */
void uiopf_device_leave(struct uiopf_device *device);
/* The hardware goes before the device: what is answered from now on reaches nobody (a mock's log). */
void uiopf_device_unplug(struct uiopf_device *device);
#define UIOPF_NO_PASID 0	/* requests without a PASID, and (as in Linux) those that name this one */
/* An attachment's flags: a table whose PASIDs the user manages; reporting is on for the one device only (Linux 6.12). */
#define UIOPF_USER_MANAGED 1
#define UIOPF_ALONE 2
/* queue NULL: a table that takes no faults. */
int uiopf_attach(struct uiopf_device *device, uint32_t pasid, struct uiopf_faultq *queue, uint32_t flags); /* -EBUSY */
/* -EINVAL: not attached. What is outstanding of the old attachment is answered INVALID, here and at detach. */
int uiopf_replace(struct uiopf_device *device, uint32_t pasid, struct uiopf_faultq *queue, uint32_t flags);
int uiopf_detach(struct uiopf_device *device, uint32_t pasid);
/*
 * iommu_report_device_fault(), at the quiescent point. flags: PASID_VALID 1, LAST_PAGE 2. -ERANGE: the formats of the
 * device's IOMMU have no room for the PASID, or the index.
 */
int uiopf_device_report(struct uiopf_device *device, uint32_t flags, uint32_t pasid, uint32_t grpid, uint32_t perm,
			uint64_t addr);
/* A virtual function whose Response Failures stop its own requests, until the reset, and not the physical function's. */
void uiopf_device_share_pri(struct uiopf_device *device);
int uiopf_device_reset_pri(struct uiopf_device *device);	/* -EOPNOTSUPP: it does not share */
int uiopf_device_pri_paused(struct uiopf_device *device);
void uiopf_device_get_counts(struct uiopf_device *device, struct uiopf_device_counts *counts);

/* ---- IOMMU models ---- */

struct uiopf_mock_response { uint32_t device_id, pasid, grpid, code; };

struct uiopf_mock *uiopf_mock_new(struct uiopf_core *core);
void uiopf_mock_free(struct uiopf_mock *mock);
struct uiopf_iommu *uiopf_mock_iommu(struct uiopf_mock *mock);
/* Takes the oldest answers out of its log; how many. */
uint32_t uiopf_mock_take(struct uiopf_mock *mock, struct uiopf_mock_response *out, uint32_t most);
uint64_t uiopf_mock_lost(struct uiopf_mock *mock);	/* answers that are missing in the log, for want of memory */

struct uiopf_model_counts {
	uint64_t overflowed;	/* page requests that found no place in the queue, and that nobody answered */
	uint64_t commands_lost;	/* answers that there was no memory for */
	uint64_t strangers;	/* page requests with the requester id of no function behind it: refused */
	uint64_t illegal;	/* SMMUv3: commands that its driver has put CMD_SYNC in place of */
	uint64_t completed;	/* commands that say that those before them have been carried out */
	uint64_t waited;	/* records that found no place in their queue, and that the hardware kept until there was one */
};

#define UIOPF_MODEL_NEEDS_PASID 1	/* VT-d's driver is that of Linux 6.12: it refuses requests without one */
#define UIOPF_MODEL_UNDRAINED 2		/* detach and replace do not wait for what is on the way */
#define UIOPF_MODEL_DENIES 4		/* its driver denies page requests, as SMMUv3's in Linux */
#define UIOPF_MODEL_ENTRIES_SHIFT 16	/* device: its queue has as many entries as this power of two; 0: 4,096 */
#define UIOPF_MODEL_LARGE_LOG 8		/* AMD: the log has as many entries as it can */
#define UIOPF_MODEL_DROPPED_SUCCESS 256	/* where the text is silent: what the hardware answers to a request that … */
#define UIOPF_MODEL_DROPPED_FAILURE 512	/* … the full queue does not take, and that an answer is owed to */
#define UIOPF_MODEL_DROPPED_NOTHING 1024
#define UIOPF_MODEL_FORGETS_PRIVATE 16	/* VT-d 3.x: its driver does not bring private data back, as Linux's since 6.10 */
const char *uiopf_model_name(uint32_t n);	/* NULL: there are fewer */
struct uiopf_model *uiopf_model_make(struct uiopf_core *core, uint32_t n, uint32_t flags);
void uiopf_model_free(struct uiopf_model *model);
struct uiopf_iommu *uiopf_model_iommu(struct uiopf_model *model);
struct uiopf_port *uiopf_model_port(struct uiopf_model *model);	/* where functions are plugged in */
/* Held once more, until it is let go of: it may outlive the name that it was made by. */
struct uiopf_iommu *uiopf_model_hold_iommu(struct uiopf_model *model);
struct uiopf_iommu *uiopf_mock_hold_iommu(struct uiopf_mock *mock);
void uiopf_iommu_let_go(struct uiopf_iommu *iommu);
int uiopf_model_bind(struct uiopf_model *model, struct uiopf_endpoint *endpoint, struct uiopf_device *device);
int uiopf_model_unbind(struct uiopf_model *model, struct uiopf_device *device);	/* -EINVAL: another IOMMU's */
/* Requests stay in the queue, sent and not reported, until it is let go or drained. */
/* The driver's interrupt waits; each call with 1 needs one with 0. */
void uiopf_model_hold_interrupt(struct uiopf_model *model, int held);
void uiopf_model_get_counts(struct uiopf_model *model, struct uiopf_model_counts *counts);
/* Software's own command goes into the queue, whatever it is: 0; -EOPNOTSUPP, this model takes none; -ENOMEM. */
#define UIOPF_MODEL_COMMAND_WORDS 4
int uiopf_model_command(struct uiopf_model *model, const uint64_t words[UIOPF_MODEL_COMMAND_WORDS]);
/* The hardware carries out what is in the queue, before this returns. */
void uiopf_model_finish_commands(struct uiopf_model *model);
/* The functions behind it whose translator has this domain; how many. */
#define UIOPF_MODEL_MOST_FUNCTIONS 16
int uiopf_model_functions_of(struct uiopf_model *model, uint32_t domain,
			     uint32_t requester_ids[UIOPF_MODEL_MOST_FUNCTIONS]);
/* SMMUv3's PRI queue; -EOPNOTSUPP: another model. Switched on or off; the next write of a request aborts. */
int uiopf_smmuv3_enable_priq(struct uiopf_model *model, int on);
int uiopf_smmuv3_abort_priq(struct uiopf_model *model, int synchronous);
/* A device's own event queue is switched on or off: -EOPNOTSUPP, another model. */
int uiopf_device_model_enable(struct uiopf_model *model, int on);
/*
 * The oldest record of request queue n that its driver has not taken, and the newest answer that a client has given, or
 * the driver in its interrupt (refusal), in the vendor's words: how many words; 0: there is none; -EINVAL: no such queue.
 */
#define UIOPF_MODEL_MOST_WORDS 8
int uiopf_model_read_record(struct uiopf_model *model, uint32_t n, uint64_t words[UIOPF_MODEL_MOST_WORDS]);
int uiopf_model_read_command(struct uiopf_model *model, int refusal, uint64_t words[UIOPF_MODEL_MOST_WORDS]);
/* Puts other words into that oldest record, as many as it has: as uiopf_model_read_record() says. */
int uiopf_model_write_record(struct uiopf_model *model, uint32_t n, const uint64_t words[UIOPF_MODEL_MOST_WORDS]);
/* Its registers, by the vendor's offsets: -EINVAL, there is none; -EOPNOTSUPP, this model has none. */
int uiopf_model_read_register(struct uiopf_model *model, uint32_t offset, uint64_t *value);
int uiopf_model_write_register(struct uiopf_model *model, uint32_t offset, uint64_t value);
/* RISC-V: the next record cannot be written. -EOPNOTSUPP: another model. */
int uiopf_riscv_fault_queue(struct uiopf_model *model);

/* ---- page tables in an arena ---- */

/* Room for so many table pages behind a PASID table of so many entries. NULL: no memory. */
struct uiopf_space *uiopf_space_new(uint32_t pasids, uint32_t table_pages);
void uiopf_space_free(struct uiopf_space *space);
/*
 * A guest's, in tables of stage 1, whose pages get so many frames of 4 KiB from the intermediate address 0 on, in turn.
 * These PASIDs have tables from the start. NULL: no memory, or no table pages for them.
 */
struct uiopf_space *uiopf_space_of_guest(struct uiopf_pagetables *tables, uint64_t frames, const uint32_t *pasid,
					 uint32_t pasids);
int uiopf_space_fd(struct uiopf_space *space);	/* for another writer: a reset takes longer from now on */
uint64_t uiopf_space_used(const struct uiopf_space *space);	/* bytes */
void uiopf_space_reset(struct uiopf_space *space);
/* One thread at a time. perm: IOMMU_PGFAULT_PERM_*, added to what the page has. -ENOMEM: arena full; -EINVAL: PASID; -EFAULT: a broken table. */
int uiopf_space_map(struct uiopf_space *space, uint32_t pasid, uint64_t address, uint32_t perm);
int uiopf_space_unmap(struct uiopf_space *space, uint32_t pasid, uint64_t address);
int uiopf_space_present(const struct uiopf_space *space, uint32_t pasid, uint64_t address, uint32_t perm);
/*
 * Maps the pages behind an address's own, up to `length` bytes from the beginning of that on. They are not what the access
 * needs: the first that cannot be mapped is the end, and no error.
 */
void uiopf_space_map_behind(struct uiopf_space *space, uint32_t pasid, uint64_t address, uint32_t length, uint32_t perm);
/* Maps all that each asks for, as its length says. */
int64_t uiopf_space_map_messages(struct uiopf_space *space, const struct iommu_hwpt_pgfault *messages, uint64_t n);

/* ---- page tables of two stages ---- */

/* The formats that there are, from 0 on: NULL, there are no more. A name, and the stage that it is for, 1 or 2. */
const struct uiopf_format *uiopf_format_at(uint32_t n);
const char *uiopf_format_name(const struct uiopf_format *table_format);
uint32_t uiopf_format_stage(const struct uiopf_format *table_format);

/*
 * Tables of one stage in memory of their own, as software writes them: so many 4 KiB pages. *base*: the address of the
 * first, as the stage has it. *pasids*: roots, for tables of stage 1; stage 2 has one. tracks: hardware sets accessed and
 * dirty bits. NULL: no memory. Any thread, beside hardware that walks them.
 */
struct uiopf_pagetables *uiopf_pagetables_new(const struct uiopf_format *table_format, uint32_t pasids, uint32_t pages,
					      uint64_t base, int tracks);
void uiopf_pagetables_free(struct uiopf_pagetables *tables);
int uiopf_pagetables_fd(const struct uiopf_pagetables *tables);
uint32_t uiopf_pagetables_used(const struct uiopf_pagetables *tables);	/* pages that are tables */
struct uiopf_mapping {
	uint64_t address, to, word;	/* the page's first byte, where it leads, and its entry */
	uint32_t level, rights;		/* rights: users' read 1, write 2, execute 4; privileged code's 8, 16, 32 */
	uint32_t accessed, dirty;
};
/*
 * Level: 1, 2 and 3 are pages of 4 KiB, 2 MiB and 1 GiB. -EINVAL: not aligned, no such level or PASID, or the format has no
 * such page; -EEXIST: something is in its place; -ENOMEM: no page is free; -EFAULT: a table is not one of these pages.
 */
int uiopf_pagetables_map(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, uint64_t to, uint32_t level,
			 uint32_t perm);
/* The page that has the address is removed; its level. -ENOENT: there is none. Tables stay. */
int uiopf_pagetables_unmap(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address);
/* A PASID has no tables any more, and their pages are free. -ENOENT: it has none; -EINVAL: there is no such PASID. */
int uiopf_pagetables_remove(struct uiopf_pagetables *tables, uint32_t pasid);
/* What software reads there; -ENOENT, -EFAULT. */
int uiopf_pagetables_look(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, struct uiopf_mapping *mapping);
/* Clears the accessed and dirty bits of a page: 1, it was accessed; 2, it was dirty; or both. -EOPNOTSUPP: none are set. */
int uiopf_pagetables_clean(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address);
/* The entry of a level, 4 to 1, on the way to an address. -ENOENT: no table of that level. */
int uiopf_pagetables_read(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, uint32_t level,
			  uint64_t *word);
int uiopf_pagetables_write(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, uint32_t level,
			   uint64_t word);

/* Everything is removed. What hardware keeps is for its translator to invalidate. */
void uiopf_pagetables_clear(struct uiopf_pagetables *tables);
/* A PASID has tables from now on, empty ones: -EINVAL, -ENOMEM. */
int uiopf_pagetables_begin(struct uiopf_pagetables *tables, uint32_t pasid);

/* Hardware that translates by tables of stage 1, of stage 2, or by both, and an IOTLB of so many places. */
struct uiopf_translator *uiopf_translator_new(struct uiopf_core *core, struct uiopf_pagetables *first,
					      struct uiopf_pagetables *second, uint32_t places);
void uiopf_translator_free(struct uiopf_translator *translator);
/* What commands name it by: 0 at first, and a PASID's own number. -EINVAL: out of range; no such PASID. */
#define UIOPF_MOST_DOMAIN 0xffff
#define UIOPF_MOST_TAG 0xfffff
int uiopf_translator_set_domain(struct uiopf_translator *translator, uint32_t domain);
int uiopf_translator_set_tag(struct uiopf_translator *translator, uint32_t pasid, uint32_t tag);
/* A device's own TLB before it: a hit needs no translator. */
struct uiopf_device_tlb *uiopf_device_tlb_new(struct uiopf_translator *translator, uint32_t places);
void uiopf_device_tlb_free(struct uiopf_device_tlb *tlb);
struct uiopf_translated {
	uint64_t address, intermediate;
	uint32_t stage, reason, level;	/* as struct uiopf_translation has them */
	uint32_t of_table, writes_table, size_shift;
};
int uiopf_translator_translate(struct uiopf_translator *translator, uint32_t pasid, uint64_t address, uint32_t access,
			       struct uiopf_translated *translated);
/* How it would end by the tables as they are, for software: no bit is set, no TLB is used or filled. */
int uiopf_translator_look(struct uiopf_translator *translator, uint32_t pasid, uint64_t address, uint32_t access,
			  struct uiopf_translated *translated);
int uiopf_device_tlb_translate(struct uiopf_device_tlb *tlb, uint32_t pasid, uint64_t address, uint32_t access,
			       struct uiopf_translated *translated);
/* Invalidation commands; how many entries went. Of addresses first to last; of any PASID: UINT32_MAX. */
int uiopf_translator_invalidate(struct uiopf_translator *translator, uint32_t pasid, uint64_t first, uint64_t last);
int uiopf_translator_invalidate_second(struct uiopf_translator *translator, uint64_t first, uint64_t last);
int uiopf_translator_invalidate_all(struct uiopf_translator *translator);
int uiopf_device_tlb_invalidate(struct uiopf_device_tlb *tlb, uint32_t pasid, uint64_t first, uint64_t last);
struct uiopf_translator_counts {
	uint64_t translations, iotlb_hits, walks, second_walks, entries, bits_set, restarts, looks, looked_at;
};
void uiopf_translator_get_counts(struct uiopf_translator *translator, struct uiopf_translator_counts *counts);
uint64_t uiopf_device_tlb_hits(struct uiopf_device_tlb *tlb);

/* What a host has for its guest, and the tables of stage 2 that are filled from it. Any thread. NULL: no memory. */
struct uiopf_host *uiopf_host_new(struct uiopf_pagetables *tables);
void uiopf_host_free(struct uiopf_host *host);
struct uiopf_host_range {
	uint64_t first, last, to;	/* intermediate addresses, and where the first leads */
	uint32_t perm, reserved;	/* IOMMU_PGFAULT_PERM_* */
};
/* In place of what it had: sorted, and apart from each other. -EINVAL, -ENOMEM. What has been filled stays. */
int uiopf_host_set(struct uiopf_host *host, const struct uiopf_host_range *ranges, uint64_t n);
/* Maps the page of 4 KiB that has an address: 1, or 0, it is mapped already. -ENOENT, -EACCES; as uiopf_pagetables_map(). */
int uiopf_host_fill(struct uiopf_host *host, uint64_t address, uint32_t access);
/* Pages that were filled since they were last asked for, in no order; how many. */
uint64_t uiopf_host_take_filled(struct uiopf_host *host, uint64_t *pages, uint64_t most);
/* Everything goes from its tables, and of what was filled nobody needs to be told any more. */
void uiopf_host_clear(struct uiopf_host *host);
struct uiopf_host_counts { uint64_t filled, lookups; };
void uiopf_host_get_counts(struct uiopf_host *host, struct uiopf_host_counts *counts);

/*
 * Which stage has faulted, and who serves it: the kernel's own part in the page faults of one device, in its driver's
 * interrupt. flags: UIOPF_REPORT_*. NULL with errno: EBUSY, it has one; EINVAL, flags that contradict each other, or
 * something of another core; EOPNOTSUPP, its requests do not say the stage; ENODEV, it is bound to no function; ENOMEM.
 */
#define UIOPF_STAGE_BY_HARDWARE 0	/* the request says it */
#define UIOPF_STAGE_BY_DRIVER 1		/* the driver walks, for each request */
#define UIOPF_STAGE_BY_HANDLER 2	/* the driver reports all, and the registered handler filters */
#define UIOPF_STAGE_BY_NOBODY 3		/* all of stage 2 is pinned, so it is stage 1 */
struct uiopf_nesting *uiopf_model_nest(struct uiopf_model *model, struct uiopf_device *device,
				       struct uiopf_translator *translator, struct uiopf_host *host, uint32_t by,
				       uint32_t flags);
void uiopf_nesting_free(struct uiopf_nesting *nesting);
/* flags = (flags & keep) | add. -EINVAL: it would not be taken at the registration either, and stays as it is. */
int uiopf_nesting_update(struct uiopf_nesting *nesting, uint32_t keep, uint32_t add);
/* The stage is not known any more without a walk: by the driver, from now on. */
void uiopf_nesting_walk(struct uiopf_nesting *nesting);
struct uiopf_nesting_counts {
	uint64_t faults;	/* pages that were looked at */
	uint64_t to_guest, by_host, refused, gone;	/* what became of them; gone: they had an address by then */
	uint64_t walks, entries;	/* of software, and the entries that they have loaded */
	uint64_t calls, locks;	/* of the registered handler; of the container's lock */
	uint64_t wrong;		/* pages that nobody had walked for, and that turned out to be stage 2's; of `refused` */
};
void uiopf_nesting_begin_anew(struct uiopf_nesting *nesting);	/* what the guest has been asked for is forgotten */
void uiopf_nesting_get_counts(struct uiopf_nesting *nesting, struct uiopf_nesting_counts *counts);

/* ---- the endpoint ---- */

enum uiopf_load_mode { UIOPF_LOAD_CLOSED, UIOPF_LOAD_TRACE, UIOPF_LOAD_POISSON };
enum uiopf_access_result {
	UIOPF_ACCESS_PENDING, UIOPF_ACCESS_OK, UIOPF_ACCESS_UNMAPPED, UIOPF_ACCESS_INVALID, UIOPF_ACCESS_FAILED,
	UIOPF_ACCESS_TERMINATED
};

struct uiopf_access {
	uint64_t time_ns;	/* since the trace began */
	uint64_t address;
	uint32_t pasid;
	uint32_t access;	/* IOMMU_PGFAULT_PERM_* */
};

struct uiopf_load {
	enum uiopf_load_mode mode;
	uint32_t in_flight;	/* groups outstanding at most */
	uint32_t group;		/* pages in a group at most; neighbours in the trace, of one PASID */
	double speed;		/* TRACE: how many times faster than recorded */
	double rate;		/* POISSON: faults per second */
	uint64_t seed;		/* POISSON */
};

struct uiopf_endpoint_counts {
	uint64_t sent, sent_groups;	/* page requests, and groups of them */
	uint64_t succeeded;		/* answered, and there when tried again */
	uint64_t unmapped;		/* answered with success, and not there */
	uint64_t retried;		/* … and asked for again */
	uint64_t invalid, failed;
	uint64_t unexpected;		/* answers to an index that is not outstanding */
	uint64_t ignored;		/* answers that came after a Response Failure */
	uint64_t cleared, cleared_groups;	/* page requests whose answer a reset has given up, and their groups */
	uint64_t forged;		/* page requests with its requester id that another function sent */
	uint64_t unbound, unbound_passed_over;	/* page requests while it was bound to no device: answered INVALID; not answered */
	uint64_t iommu_answered;	/* page requests that the IOMMU answered by itself: it had no place for them */
	uint64_t waiting;		/* pages that wait for a credit, or for a place to stall in, now */
	uint64_t outstanding;		/* page requests without an answer, now */
	uint64_t busy_ns;		/* from the start of each pass to its last answer, added up */
	uint64_t latency_max_ns, latency_count, latency_sum_ns;
	uint32_t pri_status;		/* PCIE_PRI_STATUS_*, but for PRPR, which never changes */
};

/* A page request as it is sent, field by field. Without UIOPF_RAW_PASID there is no PASID, and no other flag. */
#define UIOPF_RAW_PASID 1
#define UIOPF_RAW_EXECUTE 2
#define UIOPF_RAW_PRIVILEGED 4
#define UIOPF_RAW_PRIVATE_DATA 8	/* VT-d before 4 */
#define UIOPF_RAW_STREAM 16		/* VT-d 2.x: its answer is a page stream response; not the last of a group */
struct uiopf_raw_request {
	uint32_t requester_id;		/* another than the function's: the other one is asked for it */
	uint32_t pasid, flags;
	uint64_t message;		/* PCIE_PRI_* */
	uint64_t private_data[2];
};
struct uiopf_prg_answer { uint16_t index, code; };

/* NULL with EEXIST, each of the three: a function behind this port has the requester id. */
struct uiopf_endpoint *uiopf_endpoint_new(struct uiopf_core *core, struct uiopf_port *port, uint16_t requester_id,
					  uint32_t capacity, uint32_t group_most);
/* A virtual function: its requests share the physical function's capability, credits and failures. */
struct uiopf_endpoint *uiopf_endpoint_new_virtual(struct uiopf_endpoint *physical, uint16_t requester_id,
						  uint32_t group_most);
/*
 * A function without PRI: its transactions stall in the IOMMU, which has so many places for them (512 at most), since
 * the tables of this stage, 1 or 2, have no page. NULL also where the port's IOMMU has no stalls.
 */
struct uiopf_endpoint *uiopf_endpoint_new_stalling(struct uiopf_core *core, struct uiopf_port *port,
						   uint16_t requester_id, uint32_t stalls, uint32_t stage);
/*
 * A function of a device that reports its faults itself: so many pages of its operations may wait (512 at most), and it would
 * like to have so many pages behind each. NULL also where the port is none of such a device.
 */
struct uiopf_endpoint *uiopf_endpoint_new_reporting(struct uiopf_core *core, struct uiopf_port *port,
						    uint16_t requester_id, uint32_t places, uint32_t group_most,
						    uint32_t prefetch);
int uiopf_port_stalls(const struct uiopf_port *port);
int uiopf_port_has_streams(const struct uiopf_port *port);
int uiopf_port_only_stalls(const struct uiopf_port *port);	/* it is of a device that reports its faults itself */
int uiopf_port_one_fault(const struct uiopf_port *port);	/* … whose operations end at the first page that is not there */
/* The bits of a word of private data that requests behind it carry; 0: none. */
uint64_t uiopf_port_private_mask(const struct uiopf_port *port, int word);
/* Whether groups of a load, and accesses, carry private data. -EOPNOTSUPP: not behind this IOMMU. */
int uiopf_endpoint_send_private_data(struct uiopf_endpoint *endpoint, int sends);
/* Whether these are requests of streams. -EOPNOTSUPP: not behind this IOMMU, or groups have more than a page. */
int uiopf_endpoint_send_streams(struct uiopf_endpoint *endpoint, int streams);
void uiopf_endpoint_free(struct uiopf_endpoint *endpoint);
void uiopf_endpoint_set_tables(struct uiopf_endpoint *endpoint, struct uiopf_space *space);
/* … or by a translator, with a TLB of its own of so many places before it. -ENOMEM; -EINVAL: it is another core's. */
int uiopf_endpoint_set_translator(struct uiopf_endpoint *endpoint, struct uiopf_translator *translator, uint32_t places);
/* Invalidates that TLB; how many entries went. -ENOENT: it has none. */
int uiopf_endpoint_invalidate(struct uiopf_endpoint *endpoint, uint32_t pasid, uint64_t first, uint64_t last);
/* How the last of its translations that found no way has ended; stage 0: none has. */
void uiopf_endpoint_get_ended(struct uiopf_endpoint *endpoint, struct uiopf_translated *translated);
/* The capability's registers, at PCIE_PRI_*: -EINVAL, there is none; -ENOENT, a virtual function, or one that stalls, has none. */
int64_t uiopf_endpoint_read_pri(struct uiopf_endpoint *endpoint, uint32_t offset);
int uiopf_endpoint_write_pri(struct uiopf_endpoint *endpoint, uint32_t offset, uint32_t value);
/*
 * Linux's calls. Those of a virtual function change nothing. -EBUSY: enabled, or not stopped; -EINVAL: the physical
 * function's is not enabled; -ENOSPC: fewer credits than a group has pages that is still to be sent.
 */
int uiopf_endpoint_enable_pri(struct uiopf_endpoint *endpoint, uint32_t allocation);
void uiopf_endpoint_disable_pri(struct uiopf_endpoint *endpoint);
int uiopf_endpoint_reset_pri(struct uiopf_endpoint *endpoint);				/* -EBUSY: enabled */
/*
 * Asks for nothing more under a PASID: rows of it are passed over, accesses that wait end as failed, new ones are -EPERM.
 * How many of its requests have no answer yet; called again it says so anew. marker: sends a stop marker behind them.
 * -EINVAL: no PASID; -ENOSPC: 64 are stopped.
 */
int64_t uiopf_endpoint_stop_pasid(struct uiopf_endpoint *endpoint, uint32_t pasid, int marker);
void uiopf_endpoint_resume_pasid(struct uiopf_endpoint *endpoint, uint32_t pasid);
/* Function level reset: no load, no access, no request is left, and the capability is as at power-on. */
void uiopf_endpoint_reset(struct uiopf_endpoint *endpoint);
/*
 * Sends it at once. -EINVAL: no such request; -EPERM: PRI does not send; -ENOSPC: no credit is left; -EBUSY: this group
 * waits for an answer; -E2BIG: the group has as many pages as the function can keep. Of another's requester id, and of a
 * stop marker, no credit is taken.
 */
int uiopf_endpoint_send_raw(struct uiopf_endpoint *endpoint, const struct uiopf_raw_request *request);
/* Takes the oldest answers to groups that were sent so, or to none: how many. The last 1,024 are kept. */
uint32_t uiopf_endpoint_take_raw_answers(struct uiopf_endpoint *endpoint, struct uiopf_prg_answer *out, uint32_t most);
/* How often a page is asked for again that is not there after a success: 0 to 31, else -EINVAL. */
int uiopf_endpoint_set_retries(struct uiopf_endpoint *endpoint, uint32_t retries);
/* Copies them. -EINVAL: an access that neither reads, writes nor executes; -EBUSY: a pass is under way. */
int uiopf_endpoint_set_rows(struct uiopf_endpoint *endpoint, const struct uiopf_access *rows, uint64_t n);
/* One pass over the rows. -EBUSY, -EINVAL; -ENOSPC: a group has more pages than there are credits. */
int uiopf_endpoint_start(struct uiopf_endpoint *endpoint, const struct uiopf_load *load);
void uiopf_endpoint_cancel(struct uiopf_endpoint *endpoint);	/* sends no more; the pass ends with the last answer */
/* Told of each end of a pass; -1: nobody. The descriptor is duplicated: -EBADF, -EMFILE. */
int uiopf_endpoint_set_done_eventfd(struct uiopf_endpoint *endpoint, int fd);
int uiopf_endpoint_add_done_eventfd(struct uiopf_endpoint *endpoint, int fd);	/* besides those there are */
/* … and one that is signalled at the end of each access by hand. */
int uiopf_endpoint_set_access_eventfd(struct uiopf_endpoint *endpoint, int fd);
uint32_t uiopf_endpoint_passes(const struct uiopf_endpoint *endpoint);	/* finished */
/* No more accesses will be made by hand: the end of the last signals the eventfd that is told of passes. */
void uiopf_endpoint_finish(struct uiopf_endpoint *endpoint);
/* Whether so many passes have finished, and every access by hand has ended. */
int uiopf_endpoint_is_served(const struct uiopf_endpoint *endpoint, uint32_t passes);
int uiopf_endpoint_wait(const struct uiopf_endpoint *endpoint, uint32_t passes, uint64_t timeout_ns); /* 1: finished */
/*
 * One access by hand: a ticket for uiopf_endpoint_result(), -EBUSY when 1,024 are pending, -EPERM where the PASID has been
 * stopped, -EINVAL, -ENOSPC as above.
 */
int64_t uiopf_endpoint_access(struct uiopf_endpoint *endpoint, uint32_t pasid, uint64_t address, uint32_t access,
			      uint32_t pages);
int uiopf_endpoint_result(const struct uiopf_endpoint *endpoint, int64_t ticket);	/* -ENOENT: never given, or too old */
void uiopf_endpoint_get_counts(struct uiopf_endpoint *endpoint, struct uiopf_endpoint_counts *counts);
/* The latency in ns that so many millionths of all faults do not exceed. */
uint64_t uiopf_endpoint_latency(struct uiopf_endpoint *endpoint, uint64_t millionths);

/* ---- where every fault has gone ---- */

struct uiopf_account {
	struct uiopf_endpoint *endpoint;	/* whose account: the caller's, as is the device that it is bound to */
	struct uiopf_device *device;
	struct uiopf_endpoint_counts counts;
	struct uiopf_device_counts reported;
	uint64_t answered;	/* faults that a client answered */
	uint64_t auto_answered;	/* … that a fault queue answered for it */
	uint64_t pending;	/* … that the IOMMU's queue, an unfinished group or a fault queue holds */
};

/*
 * The accounts of n functions of a core, all at one quiescent point: 0, or -EINTR, nothing written, another thread's
 * section is long.
 */
int uiopf_account(struct uiopf_core *core, struct uiopf_account *accounts, uint32_t n);

/* ---- rings: the kernel's side ---- */

int uiopf_setup(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p, struct uiopf_engine **out);
/* The same for who owns it by its value: NULL, with -errno in *error. */
struct uiopf_engine *uiopf_engine_new(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p, int *error);
void uiopf_engine_free(struct uiopf_engine *engine);
/* timeout_ns counts with IORING_ENTER_EXT_ARG; UINT64_MAX: none. -EDEADLK: inline, and nothing more can come. */
int uiopf_enter(struct uiopf_engine *engine, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
		uint64_t timeout_ns);
/* For the replay of a recording: the caller chooses the order of rings with task work, and the time of worker threads. */
void uiopf_engine_replay(struct uiopf_engine *engine, int hold_workers);
/* Worker threads run, for up to `most` of the requests that wait for them. How many wait then, or -EINTR. */
int uiopf_engine_run_workers(struct uiopf_engine *engine, uint32_t most);
/* When the ring was given the first of its task work: the rings of a core count with one number. UINT64_MAX: has none. */
uint64_t uiopf_engine_work_since(struct uiopf_engine *engine);
/* The same with io_uring_enter's own argument; what that points to is at the client's addresses. */
int uiopf_enter_ext(struct uiopf_engine *engine, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
		    const void *argument, uint64_t size);
/* Both by descriptor (uiopf_engine_file installed): -EBADF, -EOPNOTSUPP. With REGISTERED_RING by registered number. */
int uiopf_enter_fd(struct uiopf_core *core, uint32_t fd, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
		   const void *argument, uint64_t size);
int uiopf_register_fd(struct uiopf_core *core, uint32_t fd, uint32_t opcode, void *arg, uint32_t nr_args);
/* arg is memory of the caller's, written where io_uring_register writes; addresses in it are the client's. */
int uiopf_register(struct uiopf_engine *engine, uint32_t opcode, void *arg, uint32_t nr_args);
/* The ring as a file: for uiopf_core_install(), so that requests can poll it and send to it. */
struct uiopf_file *uiopf_engine_file(struct uiopf_engine *engine);
/* mmap(2) of the ring: which descriptor, and where in it; -ENOMEM. After RESIZE_RINGS they are others. */
int uiopf_engine_mmap(struct uiopf_engine *engine, uint64_t offset, int *fd, uint64_t *at, uint64_t *length);
/* The client's [address, address + length) is `map` here; what no window covers is EFAULT. -ENOSPC after 16. */
int uiopf_engine_add_window(struct uiopf_engine *engine, uint64_t address, uint64_t length, void *map);
int uiopf_engine_fd(const struct uiopf_engine *engine);
uint64_t uiopf_engine_size(const struct uiopf_engine *engine);
uint32_t uiopf_engine_sqes_offset(const struct uiopf_engine *engine);
uint32_t uiopf_engine_pending(struct uiopf_engine *engine);	/* requests that have not ended */
void uiopf_engine_cost(struct uiopf_engine *engine, struct uiopf_cost *cost);

/* ---- rings of other processes ---- */

/* Buffer rings that the ring's descriptor also holds, for the groups from 0 on, and a memory for the client's buffers. */
struct uiopf_attachable {
	uint32_t groups;	/* at most 64 */
	uint32_t group_entries;	/* of each; a power of two, at most 4,096: more would reach into the next group's place */
	uint64_t data_size;	/* bytes */
};

#define UIOPF_ATTACHED_GROUPS 64

/* What the client is sent. The descriptors stay the engine's. */
struct uiopf_attachment {
	int ring_fd, data_fd, completion_eventfd, wake_eventfd;
	uint64_t ring_size, data_size;
};

/*
 * A ring that a client in another process attaches to with io_uring_queue_mmap(): SQPOLL, everything in one descriptor at
 * io_uring's offsets, the SQ array filled in, the buffer rings registered. Its requests reach registered files alone.
 * flags: CQSIZE, CLAMP, SUBMIT_ALL, SQE128, CQE32; SQPOLL comes of itself. -ENOSYS: the host has no io_submit.
 */
int uiopf_setup_attachable(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p,
			   const struct uiopf_attachable *config, struct uiopf_engine **out);
struct uiopf_engine *uiopf_attachable_new(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p,
					  const struct uiopf_attachable *config, int *error);	/* as uiopf_engine_new() */
void uiopf_engine_attachment(const struct uiopf_engine *engine, struct uiopf_attachment *out);
/* The client has its data area there, and kicks or not. -EINVAL: no such address; -EBUSY: it said so before. */
int uiopf_engine_attach(struct uiopf_engine *engine, uint64_t data_address, int kicks);

/* ---- rings: the client's side. One thread at a time ---- */

struct uiopf_client_ring *uiopf_client_ring_map(int fd, const struct io_uring_params *p, uint64_t size,
						uint32_t sqes_offset);
void uiopf_client_ring_unmap(struct uiopf_client_ring *ring);
int uiopf_client_push(struct uiopf_client_ring *ring, const struct io_uring_sqe *sqe);	/* its slot; -EBUSY: full */
uint32_t uiopf_client_submit(struct uiopf_client_ring *ring);	/* publishes the tail; how many were new */
uint32_t uiopf_client_reap(struct uiopf_client_ring *ring, struct io_uring_cqe *out, uint32_t most);
/* The same with all that entries of this ring hold: SQEs of 64 bytes, 128 with SQE128; CQEs of 16, 32 with CQE32. */
int uiopf_client_push_wide(struct uiopf_client_ring *ring, const void *sqe);
uint32_t uiopf_client_reap_wide(struct uiopf_client_ring *ring, void *out, uint32_t most);
uint32_t uiopf_client_load(const struct uiopf_client_ring *ring, uint32_t offset);	/* a word, acquire */
void uiopf_client_store(struct uiopf_client_ring *ring, uint32_t offset, uint32_t value);
/* Shows the kernel the buffers of a buffer ring, filled in before, up to this tail. */
void uiopf_client_publish_buffers(struct io_uring_buf_ring *ring, uint16_t tail);

/* ---- channels: one delivery design between a fault queue and a client ---- */

enum uiopf_wait_mode { UIOPF_WAIT_SPIN, UIOPF_WAIT_SLEEP };

struct uiopf_channel_config {
	enum uiopf_wait_mode wait;
	uint32_t in_flight;	/* groups at once that buffers are made for */
	uint32_t group_most;	/* messages in the largest group */
	uint32_t report_flags;	/* handler: UIOPF_REPORT_* */
};

/* The 2021 series' report flags. */
#define UIOPF_REPORT_FLAT 1
#define UIOPF_REPORT_NESTED_L1 2
#define UIOPF_REPORT_NESTED_L2 4

/* What a client's answers name: a cookie; device, PASID and group index; or these where the queue's limits say by_index. */
enum uiopf_match { UIOPF_BY_COOKIE, UIOPF_BY_INDEX, UIOPF_BY_EITHER };

/* What is to be known of a design before it is opened. */
struct uiopf_design_info {
	const char *name, *year, *summary;	/* year: of its proposal; "-" where nobody has made one */
	enum uiopf_personality personality;	/* what its fault queue's file should be */
	enum uiopf_match match;
	int has_client;				/* user space takes part */
	int has_ring;
	int on_host;				/* its calls are the host's own: it measures the host, and not the emulated kernel */
	int signals_awake;			/* its eventfd is written for a client that does not sleep, too */
	uint32_t most_faults;			/* that it has room for, before the client takes them; more are refused. 0: any */
};

/* The n-th design that is written in C, or NULL past the last. */
const struct uiopf_design_info *uiopf_design_info(uint32_t n);
/* The space is for designs that answer in the kernel; NULL otherwise. */
int uiopf_channel_open(struct uiopf_core *core, struct uiopf_faultq *queue, uint32_t design,
		       const struct uiopf_channel_config *config, struct uiopf_space *space,
		       struct uiopf_channel **out);
/* The same for who owns it by its value: NULL, with -errno in *error. */
struct uiopf_channel *uiopf_channel_new(struct uiopf_core *core, struct uiopf_faultq *queue, uint32_t design,
					const struct uiopf_channel_config *config, struct uiopf_space *space, int *error);
void uiopf_channel_close(struct uiopf_channel *channel);

/*
 * The client's half. One thread at a time: where another is in one of these, or in the native client, it is -EALREADY,
 * and nothing is done. Any of them returns -EINTR, with nothing done, when a signal came, or when the
 * other side has not moved for a slice (20 ms): look for signals and call again.
 */
/* Messages, whole groups, without waiting: how many; -errno. Losses of a queue with a depth are left out. */
int uiopf_channel_receive(struct uiopf_channel *channel, struct iommu_hwpt_pgfault *out, uint32_t most);
/* At most so many in one call. */
#define UIOPF_MOST_ANSWERS 512
/*
 * Answers, all or none: how many, or -errno. The first answers every group that ends among the first n messages, but for
 * the first `skip` of these groups; -EINVAL: n is more than a receive returns.
 * They are sent at the latest by the next receive or wait, or by a flush; while the client sleeps, at once, or the eventfd
 * wakes it to send them. -EDOM: a code that the kernel would refuse. -ESHUTDOWN: the client has gone.
 */
int uiopf_channel_answer_groups(struct uiopf_channel *channel, const struct iommu_hwpt_pgfault *messages, uint32_t n,
				uint32_t skip, uint32_t code);
int uiopf_channel_answer_one(struct uiopf_channel *channel, uint32_t cookie, uint32_t code);
/* For who did not see an answer call return: the cookie of the last answer taken since the last receive; -1: none. */
int64_t uiopf_channel_last_answered(const struct uiopf_channel *channel);
/* … how many answers were taken since the last receive, and how many messages that had. */
uint32_t uiopf_channel_answered(const struct uiopf_channel *channel);
uint32_t uiopf_channel_received(const struct uiopf_channel *channel);
int uiopf_channel_flush(struct uiopf_channel *channel);
/* The client goes: from now on its answers are refused. Any thread. */
void uiopf_channel_shut(struct uiopf_channel *channel);
/* Waits as the design's client does: 1 something may be there, 0 timed out (or, inline, nothing can come), -EINTR. */
int uiopf_channel_wait(struct uiopf_channel *channel, uint64_t timeout_ns);
/* For event loops: 1 something is there; 0 sleep until the eventfd is readable, then call _awake. */
int uiopf_channel_prepare_sleep(struct uiopf_channel *channel);
int uiopf_channel_awake(struct uiopf_channel *channel);
int uiopf_channel_eventfd(const struct uiopf_channel *channel);
/*
 * What the last message of a received group, that has no answer yet, had that is private to the function: 1, or 0 if it
 * had nothing. -EOPNOTSUPP: the design's message has no place; -EINVAL: no such group.
 */
int uiopf_channel_private_data(struct uiopf_channel *channel, uint32_t cookie, uint64_t out[2]);
/* Both sides' costs, added up. */
void uiopf_channel_cost(struct uiopf_channel *channel, struct uiopf_cost *cost);

/*
 * Where the time of faults goes, by sums (faults/watch.h): how many groups have come to a waypoint, and the sum of the times
 * at which they did, by the core's clock. What the kernel answers for the client is never at `accepted`.
 */
struct uiopf_waypoint { uint64_t groups, ns; };
struct uiopf_waypoints {
	struct uiopf_waypoint queued;	/* the driver has put it into the queue, and it shows */
	struct uiopf_waypoint taken;	/* out of the queue, by the design's half in the kernel */
	struct uiopf_waypoint received;	/* a receive of the client returned it */
	struct uiopf_waypoint answered;	/* the client called with the answer */
	struct uiopf_waypoint accepted;	/* the queue has the answer */
};
/* From now on, and for the channel's whole life. -ENOMEM; -EBUSY, the queue is watched already. */
int uiopf_channel_watch(struct uiopf_channel *channel);
/* All zero without a watch. Right as a whole only while no group is on its way. */
void uiopf_channel_get_waypoints(struct uiopf_channel *channel, struct uiopf_waypoints *out);
/*
 * Time that the core's simulated functions and IOMMUs have taken in turns that did something, while a channel watched. Turns
 * in which the thread was held up count like the others on average.
 */
uint64_t uiopf_channel_hardware_ns(struct uiopf_channel *channel);

/* The native client: receives, maps, answers SUCCESS until it has answered so many faults, for so long, or until a signal. */
struct uiopf_served { uint64_t faults, groups, cpu_ns; int32_t error; };
int uiopf_client_serve(struct uiopf_channel *channel, struct uiopf_space *space, uint64_t faults,
		       uint64_t during_ns, struct uiopf_served *served);
/* The same, after starting a pass over the endpoint's rows: no time goes by between the two. */
int uiopf_client_replay(struct uiopf_channel *channel, struct uiopf_space *space, struct uiopf_endpoint *endpoint,
			const struct uiopf_load *load, uint64_t faults, uint64_t during_ns,
			struct uiopf_served *served);

/* … and the rest of that pass, the endpoint's n-th. Both end with it. */
int uiopf_client_go_on(struct uiopf_channel *channel, struct uiopf_space *space, struct uiopf_endpoint *endpoint,
		       uint32_t number, uint64_t faults, uint64_t during_ns, struct uiopf_served *served);

/*
 * The native client, the kernel and the hardware of a channel in virtual time: all on the caller's thread, each on a simulated
 * core of its own, by the prices (designs/virtual.c). The core's clock is manual, and uiopf_core_play() has set its driver.
 * From now on the channel is watched. one_worker: under `sqpoll` hardware and kernel have one core, on which they turn one
 * after the other, as the threads of a live core do.
 * NULL: errno is EINVAL, one of these is not so; EBUSY, the core is played already, or its queue watched; or ENOMEM.
 */
struct uiopf_virtual;
struct uiopf_virtual_counts {
	uint64_t now_ns;		/* of the core that is furthest */
	uint64_t client_ns;		/* in which the client's core was busy */
	uint64_t faults;		/* that the client has served */
	uint64_t turns;			/* how often a core has gone on */
	int32_t error;			/* of the client: -errno, or 0 */
	int32_t cut;			/* a pass was ended before all of its faults were sent */
};
struct uiopf_virtual *uiopf_virtual_new(struct uiopf_channel *channel, struct uiopf_space *space,
					struct uiopf_endpoint *endpoint, const struct uiopf_prices *prices,
					int32_t one_worker);
/* The next pass, of so many faults; no more are sent from that time on. -EBUSY: one is under way. */
int uiopf_virtual_start(struct uiopf_virtual *virtual, const struct uiopf_load *load, uint64_t faults, uint64_t until_ns);
/*
 * 1: so many turns later the pass goes on; until it has ended, nothing else may be done with the core but this, a look at the
 * counts and uiopf_virtual_free(). 0: the pass has ended, or nothing more can happen in it.
 */
int uiopf_virtual_run(struct uiopf_virtual *virtual, uint64_t turns);
void uiopf_virtual_get(const struct uiopf_virtual *virtual, struct uiopf_virtual_counts *counts);
/* Before the channel goes. What is under way is given up as by a signal. */
void uiopf_virtual_free(struct uiopf_virtual *virtual);

/* ---- references, measured beside everything else ---- */

/*
 * Rates in operations per second over at least during_ns; 0 when it cannot be measured here. Two threads, on the two
 * processors with the lowest numbers that the caller may use.
 */
double uiopf_measure_bare_rings(uint32_t in_flight, uint64_t during_ns);
double uiopf_measure_host_fd(uint32_t in_flight, uint64_t during_ns);
double uiopf_measure_host_stream(uint32_t in_flight, uint64_t during_ns);
/* NOPs, so many to a call, inline and on one thread: through a ring of ours without a charge for its calls, and the host's. */
double uiopf_measure_nop(uint32_t batch, uint64_t during_ns);
double uiopf_measure_host_nop(uint32_t batch, uint64_t during_ns);
double uiopf_measure_cache_line(uint64_t during_ns);
/* The share of the time, 0 to 1, in which two threads that never sleep run at once; 0 also where it cannot be measured. */
double uiopf_measure_together(uint64_t during_ns);
double uiopf_measure_eventfd(uint64_t during_ns);
double uiopf_measure_system_call(uint64_t during_ns);

/* ---- prices of a cost model, each on its own ---- */

/*
 * Samples in nanoseconds, at most so many of each; how many there are, 0 when it cannot be measured here. A thread sleeps
 * on an eventfd; a write on another processor wakes it: what the write takes, and from its beginning until the sleeper's
 * call has returned.
 */
uint32_t uiopf_measure_wake_up(uint64_t during_ns, uint32_t most, uint32_t *write_ns, uint32_t *wake_ns);
/* … from a call that blocks until another thread runs on the same processor. */
uint32_t uiopf_measure_sleep(uint64_t during_ns, uint32_t most, uint32_t *sleep_ns);
/* Copies of 1 to 4,096 bytes per second, both sides in the processor's cache. 0: another size. */
double uiopf_measure_copy(uint32_t bytes, uint64_t during_ns);
/*
 * Packets of 40 bytes per second through a pair of SOCK_SEQPACKET sockets, on one thread; only the calls of one kind are timed.
 * 0: another kind, or the host has no such sockets.
 */
enum uiopf_packet_call { UIOPF_PACKET_SEND, UIOPF_PACKET_RECEIVE, UIOPF_PACKET_LOOK };	/* a look finds nothing */
double uiopf_measure_packets(uint32_t kind, uint64_t during_ns);
/* Receives per second of a client that spins in vain. No fault may come meanwhile. 0: one came, or the channel is in use. */
double uiopf_measure_empty_looks(struct uiopf_channel *channel, uint64_t during_ns);

/* The work for the faults of a pass, in three parts, with the time of each. */
struct uiopf_work { uint64_t faults, hardware_ns, kernel_ns, client_ns; };
/*
 * One pass over the endpoint's rows, on this thread, which turns hardware, kernel and native client one after the other:
 * adds it to the work. Rounds in which the thread was held up are left out, with their faults. There is no worker, and
 * the channel's ring was set up with one that polls, so that its client makes no calls. -EALREADY: the channel is in use;
 * -EBUSY: a pass or a worker runs; -EIO: the pass stands still.
 */
int uiopf_measure_work(struct uiopf_channel *channel, struct uiopf_space *space, struct uiopf_endpoint *endpoint,
		       const struct uiopf_load *load, struct uiopf_work *work);
