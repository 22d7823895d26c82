/*
 * The generic I/O page fault layer: from a driver's report to a group in a fault queue, and back.
 *
 * Source: drivers/iommu/io-pgfault.c, Linux 6.12. Reporting belongs to the producer side, answering to the consumer
 * side; what they share is a ring of groups each way (to the queue, and freed groups back to the device's pool), so
 * that neither waits for the other. (The way back is taken only where the sides are on two threads, under the `enter`
 * driver; one thread that owns both gives groups straight back.) Everything else (attach, detach, growing) happens at
 * the quiescent point. Reporting stands above the queues, in report.h.
 *
 * Nothing is allocated per fault. A device's pool has room for as many requests as the device may have outstanding;
 * beyond that we do what Linux does without memory: a partial fault is dropped, a last one is answered FAILURE.
 *
 * The life of a group, each way out of each state in a row. A group is answered exactly once: every row that ends in
 * ANSWERED or ANSWERED_FOR gives it back to the pool, and nothing leads on from there. docs/life_of_a_group.py draws
 * this table for the documentation.
 *
 *   state        | event                                      | next         | what is done
 *   -            | a request that is not its group's last     | PARTIAL      | it is kept by group index
 *   -            | a request that is its group's only one     | WAITING      | a group is taken from the pool
 *   -            | a request, and no table takes faults       | ANSWERED_FOR | INVALID, for this request alone
 *   -            | the only one, and the pool is empty        | ANSWERED_FOR | FAILURE
 *   -            | the only one, beyond the queue's depth     | ANSWERED_FOR | FAILURE, and the loss is counted
 *   PARTIAL      | its last request                           | WAITING      | a group is taken from the pool
 *   PARTIAL      | its last request, and the pool is empty    | ANSWERED_FOR | FAILURE
 *   PARTIAL      | its last request, beyond the queue's depth | ANSWERED_FOR | FAILURE, and the loss is counted
 *   PARTIAL      | detach, an overflow, PRI switched off      | FORGOTTEN    | nobody is answered, as in Linux
 *   WAITING      | a read                                     | DELIVERED    | it has the lowest free cookie
 *   WAITING      | detach, replace                            | ANSWERED_FOR | INVALID, the newest group first
 *   WAITING      | its time is over (no limit, as Linux)      | ANSWERED_FOR | the code that the limit names
 *   DELIVERED    | an answer with a code that the queue takes | ANSWERED     | the code goes to the hardware
 *   DELIVERED    | an answer with another code                | DELIVERED    | refused, and the cookie stays
 *   DELIVERED    | detach, replace                            | ANSWERED_FOR | INVALID, by rising cookie
 *   DELIVERED    | its time is over (no limit, as Linux)      | ANSWERED_FOR | the code that the limit names
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/iommufd.h"
#include "abi/api.h"
#include "base/atomics.h"
#include "base/lifetime.h"
#include "core/core.h"

#define UIOPF_NONE UINT32_MAX

/* A fault as drivers report it; the first two flags are also the uAPI message's. */
#define UIOPF_FAULT_PASID_VALID 0x1u
#define UIOPF_FAULT_LAST_PAGE 0x2u
#define UIOPF_FAULT_NEEDS_PASID 0x4u	/* set by VT-d and AMD; leaks into the message, as in Linux */
#define UIOPF_FAULT_STAGE_2 0x10u	/* the 2021 series' L2: known for stalls, never for PRI */
#define UIOPF_FAULT_PRIV_DATA 0x20u	/* VT-d's before revision 4: the answer brings something back, see below */
#define UIOPF_FAULT_UAPI_FLAGS 0x7u
#define UIOPF_FAULT_KEPT_FLAGS (UIOPF_FAULT_STAGE_2 | UIOPF_FAULT_PRIV_DATA)

struct uiopf_fault {
	uint64_t addr;
	uint32_t flags;
	uint32_t pasid;
	uint32_t grpid;
	uint32_t perm;
	uint32_t length;		/* that the device would like to have, in bytes; 0: it does not say */
};

/*
 * What a request of VT-d's before revision 4 has that no other has, and that its answer must bring back: data that are
 * private to the function; and, if it is one of a stream, the page. Of most requests there is none.
 */
struct uiopf_private_data {
	uint64_t word[2];
	uint64_t page;
	bool there, streams;
};

/* Field by field, each loaded as it was stored, for the reason that messages are (below). */
hot_inline void uiopf_copy_private(struct uiopf_private_data *to, const struct uiopf_private_data *from)
{
	to->word[0] = READ_ONCE(&from->word[0]);
	to->word[1] = READ_ONCE(&from->word[1]);
	to->page = READ_ONCE(&from->page);
	to->there = READ_ONCE(&from->there);
	to->streams = READ_ONCE(&from->streams);
}

/* Linux's codes for drivers: not the PCIe ones. */
#define UIOPF_RESP_SUCCESS 0u
#define UIOPF_RESP_INVALID 1u
#define UIOPF_RESP_FAILURE 2u

struct uiopf_device;
struct uiopf_faultq;
struct uiopf_iommu;

/*
 * What one device's faults go to: those without a PASID, or those of one PASID. Devices that the IOMMU cannot tell apart
 * are attached together: each has one of these, all with the handle of that attachment, by which groups are told apart.
 */
struct uiopf_attach {
	struct uiopf_device *device;
	struct uiopf_faultq *queue;	/* NULL: the table cannot take faults, or faults are not switched on */
	uint64_t handle;
	uint32_t dev_id;		/* the iommufd id of the device that made the attachment: the message's dev_id */
	uint32_t pasid;			/* UIOPF_NO_PASID */
	bool user_managed;		/* takes the faults of every PASID that has no attachment of its own */
	struct uiopf_attach *next;	/* of the same hash */
};

/* What a device may have in a queue at once, reserved by the first of its attachments to that queue. */
struct uiopf_reservation {
	struct uiopf_reservation *next;
	struct uiopf_faultq *queue;
	uint32_t attachments, groups;
};

/* Page requests of a virtual function that shares its physical function's PRI: see uiopf_device_share_pri(). */
enum uiopf_virtual_pri { UIOPF_PRI_OWN, UIOPF_PRI_SHARED, UIOPF_PRI_PAUSED };

/* One cache line: a group of one fault needs no second. */
struct uiopf_group {
	struct iommu_hwpt_pgfault last;	/* the last fault, as the message it becomes; cookie 0 until it is read */
	struct uiopf_attach *attach;
	uint32_t index;			/* in the device's pool */
	uint32_t partial;		/* the earlier faults, oldest first; UIOPF_NONE */
	uint32_t fault_count;
	uint32_t kept;			/* UIOPF_FAULT_KEPT_FLAGS of the last fault: not in its message */
};
_Static_assert(sizeof(struct uiopf_group) == 64, "a group is one cache line, and begins one in its array");

/* Whose thread a driver's function runs on: each side has commands of its own, and neither waits for the other. */
enum uiopf_side { UIOPF_PRODUCER, UIOPF_CONSUMER };

struct uiopf_iommu_ops {
	/*
	 * Driver: writes a page response command, for the group with this last fault. It always gets there: where the
	 * command queue is full, the command waits.
	 */
	void (*respond)(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
			uint32_t grpid, uint32_t code);
	/* The same of a group with UIOPF_FAULT_PRIV_DATA. NULL: this IOMMU has no such thing. */
	void (*respond_privately)(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
				  uint32_t grpid, uint32_t code, const struct uiopf_private_data *data);
	/*
	 * Quiescent, driver: returns when nothing that a device has sent is on the way any more: its requests have been
	 * reported, its answers have arrived. NULL: this IOMMU has no way to know.
	 */
	void (*drain)(struct uiopf_iommu *iommu);
	/* Quiescent: requests of a device that its driver has not reported yet. NULL: none are ever kept. */
	uint64_t (*unreported)(const struct uiopf_iommu *iommu, const struct uiopf_device *device);
	/* Quiescent: a device goes; nothing of it may be on the way any more. NULL: this IOMMU knows no devices. */
	void (*forget)(struct uiopf_iommu *iommu, const struct uiopf_device *device);
	/* Its formats have room for PCIe's numbers and no more: requester ids of 16 bits, PASIDs of 20, group indices of 9. */
	bool pcie;
};
#define UIOPF_REQUESTER_BITS 16
#define UIOPF_PASID_BITS 20
#define UIOPF_GROUP_BITS 9

/* Who is answered; whose turn it is stands in the core's list of producers. */
struct uiopf_iommu {
	struct uiopf_lifetime lifetime;	/* its endpoints and devices hold it */
	const struct uiopf_iommu_ops *ops;
	struct uiopf_core *core;
	struct uiopf_producer producer;
};

#define UIOPF_GROUP_CHUNK 256u
#define UIOPF_MOST_GROUPS (1u << 20)	/* of a device, and in a queue */

struct uiopf_device {
	struct uiopf_core *core;
	struct uiopf_iommu *iommu;
	struct uiopf_device *next;
	uint32_t id;			/* iommufd object id */
	uint32_t requester_id;
	uint32_t capacity;		/* groups, and partial faults */
	struct uiopf_device *group_next;	/* a ring of those that the IOMMU cannot tell apart; itself alone */
	struct uiopf_reservation *reservations;
	uint32_t fault_users;		/* attachments that take faults: reporting is on while there are any */
	bool unplugged;			/* the hardware is gone: what is answered reaches nobody */
	bool growable;			/* the pool may grow (only where every report is made at the quiescent point) */

	/* Where things are: changes at the quiescent point only, but for what they hold. */
	struct uiopf_attach *attach;
	struct uiopf_attach **pasid;	/* a hash table; NULL before the first */
	uint32_t pasids, pasid_mask;
	uint32_t virtual_pri;		/* enum uiopf_virtual_pri; the consumer may pause it, once */
	uint32_t bucket_mask, returned_mask;
	uint32_t *free_groups;
	struct uiopf_fault_node {
		struct uiopf_fault fault;
		uint32_t next;
	} *node;
	struct uiopf_partial {		/* the partial faults of one group index */
		uint32_t grpid, first, last, count, next;
		uint32_t answered;	/* the first so many: their group has had its answer, though they are kept */
	} *partial;
	uint32_t *bucket, *returned;
	struct uiopf_group **chunk;	/* capacity / UIOPF_GROUP_CHUNK of them */
	/* Of the last fault of a group, by its index; a group is one line without it. NULL: the IOMMU has no such thing. */
	struct uiopf_private_data *private_data;

	/* The producer's. */
	UIOPF_LINE uint32_t free_count;
	uint32_t free_node, free_partial;
	uint32_t unfinished;		/* group indices with partial faults */
	uint32_t returned_head;		/* of the groups on their way back */
	struct uiopf_device_counts counts;

	/* The consumer's: the tail of the groups that it has freed, and whose faults they were. */
	UIOPF_LINE uint32_t returned_tail;
	uint64_t answered, answered_for;	/* by a client; for it */
};
UIOPF_BEGINS_A_LINE(struct uiopf_device, free_count);
UIOPF_BEGINS_A_LINE(struct uiopf_device, returned_tail);

static inline struct uiopf_group *uiopf_device_group(const struct uiopf_device *device, uint32_t index)
{
	return &device->chunk[index / UIOPF_GROUP_CHUNK][index % UIOPF_GROUP_CHUNK];
}

/*
 * Messages are written in the words that they will be copied out by, soon after. A load that is wider than the store
 * before it would have to wait until that store has left the processor's store buffer, and so for all older ones, which
 * wait for lines from the client's core: that was a quarter of the worker's time.
 */
typedef uint64_t __attribute__((may_alias)) uiopf_message_word;
_Static_assert(sizeof(struct iommu_hwpt_pgfault) == 5 * sizeof(uint64_t), "five words");

static inline void uiopf_message_pair(struct iommu_hwpt_pgfault *m, uint32_t word, uint32_t first, uint32_t second)
{
	((uiopf_message_word *)m)[word] = first | (uint64_t)second << 32;	/* little-endian */
}

/*
 * Its cookie, beside `length`, which stays. Few devices say one: where there is none the word is stored without waiting for
 * what was loaded of it.
 */
static inline void uiopf_set_cookie(struct iommu_hwpt_pgfault *m, uint32_t cookie)
{
	const uint32_t length = (uint32_t)((const uiopf_message_word *)m)[4];

	if (unlikely(length))
		uiopf_message_pair(m, 4, length, cookie);
	else
		uiopf_message_pair(m, 4, 0, cookie);
}

/* The message that a fault becomes; what only the kernel knows of it stays behind. By value: it stays in registers. */
hot_inline void uiopf_fill_message(struct iommu_hwpt_pgfault *m, uint32_t dev_id, struct uiopf_fault fault)
{
	uiopf_message_pair(m, 0, fault.flags & UIOPF_FAULT_UAPI_FLAGS, dev_id);
	uiopf_message_pair(m, 1, fault.pasid, fault.grpid);
	uiopf_message_pair(m, 2, fault.perm, 0);
	m->addr = fault.addr;
	uiopf_message_pair(m, 4, fault.length, 0);
}

/* The same of one that was kept. Its words are loaded as they were stored: the compiler would load two at once. */
static inline void uiopf_fill_message_kept(struct iommu_hwpt_pgfault *m, uint32_t dev_id, const struct uiopf_fault *fault)
{
	const struct uiopf_fault loaded = { READ_ONCE(&fault->addr), READ_ONCE(&fault->flags), READ_ONCE(&fault->pasid),
					    READ_ONCE(&fault->grpid), READ_ONCE(&fault->perm),
					    READ_ONCE(&fault->length) };

	uiopf_fill_message(m, dev_id, loaded);
}

/* Where the hash of a PASID begins. */
static inline struct uiopf_attach **uiopf_pasid_bucket(const struct uiopf_device *device, uint32_t pasid)
{
	return &device->pasid[pasid & device->pasid_mask];
}

static inline struct uiopf_attach *uiopf_find_pasid(const struct uiopf_device *device, uint32_t pasid)
{
	struct uiopf_attach *attach;

	if (likely(!device->pasids))
		return NULL;
	for (attach = *uiopf_pasid_bucket(device, pasid); attach && attach->pasid != pasid; attach = attach->next)
		;
	return attach;
}

/* Where a request with these flags goes: NULL, nowhere (find_fault_handler). */
static inline struct uiopf_attach *uiopf_find_attach(const struct uiopf_device *device, uint32_t flags, uint32_t pasid)
{
	struct uiopf_attach *attach = device->attach, *own;

	if ((flags & UIOPF_FAULT_PASID_VALID) && pasid != UIOPF_NO_PASID) {
		own = uiopf_find_pasid(device, pasid);
		if (unlikely(own != NULL))
			return own;
		if (unlikely(attach && !attach->user_managed))
			return NULL;
	}
	return attach;
}

/* Frees it. It is attached to nothing, and no IOMMU knows it. */
void uiopf_device_end(struct uiopf_device *device);
/* Quiescent: whether the next fault may find nothing in the pool, also after what has been answered is back in it. */
bool uiopf_device_is_exhausted(struct uiopf_device *device);
/* Quiescent: makes the pool hold at least so many groups and partial faults. */
int uiopf_device_reserve(struct uiopf_device *device, uint32_t capacity);
/* Quiescent: faults whose group has not come to its last. */
uint64_t uiopf_device_partial_faults(const struct uiopf_device *device);
/*
 * Producer: a group index has been answered by whoever did not ask a client. To the function that is the end of the group;
 * Linux keeps what it has of it, and the next last request with the index takes that along. Forgotten without one, it
 * counts as what it is: answered.
 */
void uiopf_device_answered_partial(struct uiopf_device *device, uint32_t grpid);
/* Quiescent: forgets unfinished groups; nobody is answered (iopf_queue_remove_device). */
void uiopf_device_drop_partial(struct uiopf_device *device);
/* Producer: takes back what the consumer freed. */
void uiopf_collect_returned(struct uiopf_device *d);
/* Keeps a request that is not its group's last: 0, or -ENOMEM (dropped). */
int uiopf_add_partial(struct uiopf_device *d, const struct uiopf_fault *fault);
/* The requests kept of a group index, oldest first, out of the table; UIOPF_NONE where there are none. */
uint32_t uiopf_take_partial(struct uiopf_device *d, uint32_t grpid, uint32_t *count);
/* The producer answers for the client, with this group's last fault: nobody will be asked. Who calls it counts it. */
void uiopf_answer_for(struct uiopf_device *d, const struct uiopf_fault *fault, const struct uiopf_private_data *data,
		      uint32_t code);
/* … and refuses it, which is counted. */
void uiopf_refuse(struct uiopf_device *d, const struct uiopf_fault *fault, const struct uiopf_private_data *data,
		  uint32_t code, uint32_t faults);

/* ---- the pool ---- */

static inline void uiopf_free_nodes(struct uiopf_device *d, uint32_t node)
{
	while (unlikely(node != UIOPF_NONE)) {
		uint32_t next = d->node[node].next;

		d->node[node].next = d->free_node;
		d->free_node = node;
		node = next;
	}
}

/* Last in, first out: the next group is warm in the cache. */
static inline void uiopf_give_group(struct uiopf_device *d, const struct uiopf_group *group)
{
	uiopf_free_nodes(d, group->partial);
	d->free_groups[d->free_count++] = group->index;
}

static inline struct uiopf_group *uiopf_take_group(struct uiopf_device *d)
{
	if (!d->free_count)
		uiopf_collect_returned(d);
	return d->free_count ? uiopf_device_group(d, d->free_groups[--d->free_count]) : NULL;
}

/* ---- answering ---- */

/*
 * What the hardware is told. PRI belongs to the physical function: a Response Failure for one virtual function would stop
 * it for all. So that is kept from the hardware, and the one function's requests stop instead, until its reset.
 */
static inline uint32_t uiopf_hardware_code(struct uiopf_device *d, uint32_t code)
{
	if (likely(code != UIOPF_RESP_FAILURE) || READ_ONCE(&d->virtual_pri) == UIOPF_PRI_OWN)
		return code;
	WRITE_ONCE(&d->virtual_pri, UIOPF_PRI_PAUSED);
	return UIOPF_RESP_INVALID;
}

/* Consumer: gives a group back to the pool. */
hot_inline void uiopf_return_group(struct uiopf_device *d, const struct uiopf_group *group)
{
	uint32_t tail;

	if (likely(d->core->driver != UIOPF_ENTER)) {	/* one thread at a time owns both sides */
		uiopf_give_group(d, group);
	} else {
		tail = d->returned_tail;
		d->returned[tail & d->returned_mask] = group->index;
		/* Pairs with uiopf_collect_returned: we are done with the group. */
		STORE_RELEASE(&d->returned_tail, tail + 1);
	}
}

/* The same as below, of a group whose answer brings something back. */
void uiopf_group_respond_privately(struct uiopf_group *group, uint32_t code);

/*
 * Consumer: gives a group back and answers it through its driver. In this order: hardware that sees the answer may send
 * its next fault at once, and with all groups in use that one would find none.
 */
hot_inline void uiopf_group_respond(struct uiopf_group *group, uint32_t code)
{
	struct uiopf_device *d = group->attach->device;
	const uint32_t flags = group->last.flags, pasid = group->last.pasid, grpid = group->last.grpid;

	if (unlikely(group->kept & UIOPF_FAULT_PRIV_DATA)) {
		uiopf_group_respond_privately(group, code);
		return;
	}
	code = uiopf_hardware_code(d, code);
	uiopf_return_group(d, group);
	d->iommu->ops->respond(d, UIOPF_CONSUMER, flags, pasid, grpid, code);
}
