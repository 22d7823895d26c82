/*
 * What a server of rings and its client say to each other, over a Unix socket (SOCK_SEQPACKET, one message a packet):
 * the server's hello with five descriptors, the client's reply, and at the end the server's goodbye. Either may close the
 * socket at any time, which ends the attachment. Little-endian, no padding.
 *
 * Include <liburing.h>, or io_uring.h beside this file, before it: for struct io_uring_params.
 */
#pragma once
#include <stdint.h>

#define UIOPF_HELLO_MAGIC 0x46504955	/* "UIPF" */
#define UIOPF_HELLO_VERSION 1

/* The descriptors that come along, in this order. */
#define UIOPF_HELLO_RING 0		/* the ring: for io_uring_queue_mmap(), and mmap() of the buffer rings */
#define UIOPF_HELLO_DATA 1		/* a memory for buffers and answers: the only one that requests may point into */
#define UIOPF_HELLO_SPACE 2		/* page tables (hardware.h): map it, and store entries */
#define UIOPF_HELLO_COMPLETIONS 3	/* an eventfd that is signalled after CQEs */
#define UIOPF_HELLO_WAKE 4		/* an eventfd: who sees NEED_WAKEUP writes to it */
#define UIOPF_HELLO_FDS 5

struct uiopf_hello {
	uint32_t magic;
	uint16_t version;
	uint16_t size;			/* of this message */
	uint32_t status;		/* 0; an errno (EBUSY: come back later): no descriptors, and nothing follows */
	uint32_t queue;			/* the fault queue's number among the registered files (IOSQE_FIXED_FILE) */
	struct io_uring_params params;	/* for io_uring_queue_mmap() */
	uint64_t ring_size;		/* of the descriptors, in bytes */
	uint64_t data_size;
	uint64_t space_size;
	uint64_t first_table;		/* where in the space tables may be made; before it is the PASID table */
	uint32_t pasids;		/* entries of the PASID table */
	uint32_t in_flight;		/* groups that wait for an answer at once, at most */
	uint32_t group_most;		/* faults in a group, at most: a receive buffer must have room for so many */
	uint32_t buffer_groups;		/* buffer rings that are registered: groups 0, 1, ... */
	uint32_t buffer_entries;	/* of each */
	uint32_t reserved;		/* 0 */
};

#define UIOPF_HELLO_KICKS 1		/* I write to the eventfd when I see NEED_WAKEUP; otherwise it is not shown */

struct uiopf_hello_reply {
	uint32_t magic;
	uint16_t version;
	uint16_t size;
	uint32_t flags;			/* UIOPF_HELLO_KICKS */
	uint32_t reserved;		/* 0 */
	uint64_t data_address;		/* where the client has mapped the data descriptor, all of it */
};

struct uiopf_goodbye {
	uint32_t magic;
	uint16_t version;
	uint16_t size;
	uint32_t status;		/* 0: every fault of the load has been answered */
	uint32_t reserved;		/* 0 */
	uint64_t answered;		/* faults, by the client */
};
