/*
 * The table of file operations: what the ring engine can do with a file, whatever is behind it.
 *
 * Everything here belongs to the consumer side. A file never blocks: read and write answer -EAGAIN or do what they can.
 * An armed wait is called, once for each time that something arrived, until it is cancelled.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/atomics.h"

/* Modes. The merged fault file lacks UIOPF_FILE_ITER: a read of it that finds nothing ends with 0 bytes, and is not kept. */
#define UIOPF_FILE_READ 0x1
#define UIOPF_FILE_WRITE 0x2
#define UIOPF_FILE_POLL 0x4		/* has a poll method */
#define UIOPF_FILE_ITER 0x8		/* has read_iter and write_iter, and promises not to block when asked */
#define UIOPF_FILE_NONBLOCK 0x10	/* was opened, or set, O_NONBLOCK */
#define UIOPF_FILE_HINTS 0x20		/* what it wakes for is a hint: its poll is asked before that is believed */
#define UIOPF_FILE_LOOPS 0x40		/* has read_iter, but only a plain `write` */
#define UIOPF_FILE_KEYED 0x80		/* a fault file that says for what it wakes */
#define UIOPF_FILE_WAITS 0x100		/* of those with read_iter: makes no promise not to block when asked */
#define UIOPF_FILE_DATAGRAMS 0x200	/* a socket whose messages come and go whole, unlike those of a seqpacket */
#define UIOPF_FILE_ERRORS 0x400		/* a socket with a queue of errors (MSG_ERRQUEUE), for which no call waits */

/*
 * Among the events of a wake (EPOLL_URING_WAKE): a ring's completions caused it. A poll whose completions could cause the
 * next wake ends with it.
 */
#define UIOPF_WAKE_BY_RING (1u << 27)

struct uiopf_file;

struct uiopf_wait {
	struct uiopf_wait *next, **link;	/* link is NULL while not armed */
	/* events 0: the file does not say. True where it was called and wants to be the only one of its kind (EPOLLEXCLUSIVE). */
	bool (*wake)(struct uiopf_wait *wait, uint32_t events);
};

/*
 * A URING_CMD, as the file sees it that is to carry it out. All is the ring's own copy of the SQE. A file that returns
 * -UIOPF_EIOCBQUEUED waits, by a poll of itself, and is called again when it has woken the command; what it has changed of
 * `op` and `data` it has then. Until then a cancel finds the command, and so do a link time-out and the end of the ring:
 * what the file has taken it has posted by the time it returns, so that nothing is lost between the two.
 *
 * Linux: io_cmd_poll_multishot waits so. A command that waits in its driver instead (io_uring_cmd_mark_cancelable) is
 * found by the end of the ring alone.
 */
struct uiopf_command {
	const struct uiopf_command_ops *ring;
	uint32_t op;			/* cmd_op: the file's own number */
	uint32_t length;
	uint64_t address;
	uint64_t data[2];		/* the SQE's last 16 bytes */
	bool multishot;			/* takes provided buffers (IORING_URING_CMD_MULTISHOT) */
	bool wide;			/* may post CQEs of 32 bytes */
	/* The file's. */
	bool in_turn;			/* it waits behind all others, and each wake calls one of those that wait so */
	uint64_t copied;		/* bytes to and from the client, of this call */
	uint64_t extra;			/* the second half of the last CQE, if that has 32 bytes (io_uring_cmd_done's res2) */
};

#define UIOPF_EIOCBQUEUED 529

/* What a file may do with the ring meanwhile. All that is posted says that the command goes on (IORING_CQE_F_MORE). */
struct uiopf_command_ops {
	/* The client's memory; NULL where it has none there. */
	uint8_t *(*memory)(struct uiopf_command *command, uint64_t address, uint64_t length);
	/* How many CQEs have room, of those that may be posted. */
	uint32_t (*room)(struct uiopf_command *command);
	/* One of 32 bytes, with flags in the upper half of its own; false: no room (io_uring_cmd_post_mshot_cqe32). */
	bool (*post_wide)(struct uiopf_command *command, int32_t res, uint32_t flags, const uint64_t extra[2]);
	/* The next provided buffer: 0, with *to NULL where the client has no memory; or -errno (io_uring_cmd_buffer_select). */
	int (*select)(struct uiopf_command *command, uint8_t **to, uint64_t *length);
	/* … and so many bytes of it; false: no room (io_uring_mshot_cmd_post_cqe). */
	bool (*post_selected)(struct uiopf_command *command, int32_t res);
};

struct uiopf_file_ops {
	/* Bytes done, or -errno. The memory may be shared with a client: write nothing twice, load nothing twice. */
	int64_t (*read)(struct uiopf_file *file, uint8_t *to, uint64_t length, int64_t position);
	int64_t (*write)(struct uiopf_file *file, const uint8_t *from, uint64_t length, int64_t position);
	/*
	 * The same with memory in pieces, none of them empty, as if it were one: what is read may be one message, and what is
	 * written. A piece without an address is memory that the client does not have. Needed where UIOPF_FILE_ITER is set.
	 */
	int64_t (*read_pieces)(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int64_t position);
	int64_t (*write_pieces)(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int64_t position);
	/* The events that hold now (POLLIN …). */
	uint32_t (*poll)(struct uiopf_file *file);
	/* Starts and stops calling wait->wake. */
	void (*arm)(struct uiopf_file *file, struct uiopf_wait *wait);
	void (*cancel)(struct uiopf_file *file, struct uiopf_wait *wait);
	/* Sockets only, NULL otherwise: as read and write, with MSG_* flags. What was received has flags, too (MSG_TRUNC). */
	int64_t (*receive)(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int *flags);
	int64_t (*send)(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int flags, const void *address,
			uint32_t address_length);
	/* Bytes that are left to receive, as a kernel of this version says; -1: it does not. */
	int64_t (*unread)(struct uiopf_file *file, uint32_t kernel);
	/* NULL: commands are -EOPNOTSUPP. What it returns is the result, but for -UIOPF_EIOCBQUEUED. */
	int32_t (*command)(struct uiopf_file *file, struct uiopf_command *command);
	/* NULL, or: the last user has gone, and so has the descriptor. */
	void (*release)(struct uiopf_file *file);
};

struct uiopf_file {
	const struct uiopf_file_ops *ops;
	uint32_t mode;
	uint32_t users;			/* requests that hold it; it must not go before them */
	struct uiopf_wait *waits;	/* for files that keep a plain list; newest first, as Linux's wait queues */
	struct uiopf_wait **waits_end;	/* of that list, while it is not empty */
};

/* A file with `release` counts its descriptors as users too. */
static inline void uiopf_file_put(struct uiopf_file *file)
{
	if (--file->users == 0 && file->ops->release)
		file->ops->release(file);
}

/* For the table: arm and cancel on the file's own list, and the call of everyone on it. */
static inline void uiopf_file_arm(struct uiopf_file *file, struct uiopf_wait *wait)
{
	wait->next = file->waits;
	wait->link = &file->waits;
	if (wait->next)
		wait->next->link = &wait->next;
	else
		file->waits_end = &wait->next;
	file->waits = wait;
}

static inline void uiopf_file_cancel(struct uiopf_file *file, struct uiopf_wait *wait)
{
	if (!wait->link)
		return;
	*wait->link = wait->next;
	if (wait->next)
		wait->next->link = wait->link;
	else
		file->waits_end = wait->link;
	wait->link = NULL;
}

/* Behind all others, for one that wants to be the only one of its kind that is called (add_wait_queue_exclusive). */
static inline void uiopf_file_arm_last(struct uiopf_file *file, struct uiopf_wait *wait)
{
	struct uiopf_wait **end;

	uiopf_file_cancel(file, wait);
	end = file->waits ? file->waits_end : &file->waits;
	wait->next = NULL;
	wait->link = end;
	*end = wait;
	file->waits_end = &wait->next;
}

/* Calls everyone, but for those behind the first that wants to be the only one; true where there was such a one. */
static inline bool uiopf_file_wake_one(struct uiopf_file *file, uint32_t events)
{
	struct uiopf_wait *wait, *next;

	for (wait = file->waits; wait; wait = next) {
		next = wait->next;	/* a wake may take itself off the list, nobody else */
		if (unlikely(wait->wake(wait, events)))
			return true;
	}
	return false;
}

static inline void uiopf_file_wake(struct uiopf_file *file, uint32_t events)
{
	struct uiopf_wait *wait, *next;

	for (wait = file->waits; wait; wait = next) {
		next = wait->next;
		wait->wake(wait, events);
	}
}
