/*
 * The io_uring ABI: what a ring's two sides share, and what its three system calls take.
 *
 * These are our own declarations of the layouts and values of Linux 6.12.117 and 7.2.13 on x86-64;
 * tests/test_abi.py holds each of them to both versions. "7.2" marks what 6.12 does not have (it
 * may have come with any release in between). Where a name means one thing in 6.12 and another in
 * 7.2, the plain name is that of 7.2 and NAME_6_12 is the older.
 *
 * Both the compiler and cffi read this file, and cffi understands "#define NAME literal" only: no
 * expressions and no conditions. It takes the place of <linux/io_uring.h>; a source file includes
 * one of the two. Everything is little-endian. Numbers in front of union members are offsets.
 */
#pragma once

#include <stdint.h>

/* ---- io_uring_setup(entries, params) ------------------------------------------------------- */

/* Where the words of the submission ring are, in bytes from IORING_OFF_SQ_RING's mapping. */
struct io_sqring_offsets {
	uint32_t head;		/* u32, the kernel stores it */
	uint32_t tail;		/* u32, the client stores it */
	uint32_t ring_mask;
	uint32_t ring_entries;
	uint32_t flags;		/* u32 of IORING_SQ_* */
	uint32_t dropped;	/* u32, bad indices met in the array */
	uint32_t array;		/* u32[sq_entries], indices into the SQEs */
	uint32_t resv1;
	uint64_t user_addr;	/* in: the client's memory for the SQEs, with NO_MMAP */
};

/* The same for the completion ring. */
struct io_cqring_offsets {
	uint32_t head;		/* u32, the client stores it */
	uint32_t tail;		/* u32, the kernel stores it */
	uint32_t ring_mask;
	uint32_t ring_entries;
	uint32_t overflow;	/* u32, CQEs that are lost for good */
	uint32_t cqes;		/* the CQEs themselves */
	uint32_t flags;		/* u32 of IORING_CQ_*, the client stores it */
	uint32_t resv1;
	uint64_t user_addr;	/* in: the client's memory for both rings, with NO_MMAP */
};

struct io_uring_params {
	uint32_t sq_entries;		/* out: a power of two */
	uint32_t cq_entries;		/* out; in with CQSIZE */
	uint32_t flags;			/* in: IORING_SETUP_* */
	uint32_t sq_thread_cpu;		/* in, with SQ_AFF */
	uint32_t sq_thread_idle;	/* in: milliseconds; 0 is one second */
	uint32_t features;		/* out: IORING_FEAT_* */
	uint32_t wq_fd;			/* in, with ATTACH_WQ */
	uint32_t resv[3];
	struct io_sqring_offsets sq_off;
	struct io_cqring_offsets cq_off;
};

/* io_uring_params.flags */
#define IORING_SETUP_IOPOLL		0x1
#define IORING_SETUP_SQPOLL		0x2		/* a kernel thread takes the SQEs */
#define IORING_SETUP_SQ_AFF		0x4		/* and runs on sq_thread_cpu */
#define IORING_SETUP_CQSIZE		0x8		/* cq_entries counts, not 2 * sq_entries */
#define IORING_SETUP_CLAMP		0x10		/* too large a ring is cut, not refused */
#define IORING_SETUP_ATTACH_WQ		0x20		/* share the workers of the ring wq_fd */
#define IORING_SETUP_R_DISABLED		0x40		/* nothing runs before ENABLE_RINGS */
#define IORING_SETUP_SUBMIT_ALL		0x80		/* a bad SQE does not end its batch */
#define IORING_SETUP_COOP_TASKRUN	0x100		/* completions do not interrupt the task */
#define IORING_SETUP_TASKRUN_FLAG	0x200		/* waiting task work sets SQ_TASKRUN */
#define IORING_SETUP_SQE128		0x400		/* SQEs of 128 bytes */
#define IORING_SETUP_CQE32		0x800		/* CQEs of 32 bytes */
#define IORING_SETUP_SINGLE_ISSUER	0x1000		/* one task submits; others get EEXIST */
#define IORING_SETUP_DEFER_TASKRUN	0x2000		/* completions run while that task waits */
#define IORING_SETUP_NO_MMAP		0x4000		/* the client's own memory: user_addr */
#define IORING_SETUP_REGISTERED_FD_ONLY	0x8000		/* return a registered index, not an fd */
#define IORING_SETUP_NO_SQARRAY		0x10000		/* SQEs are taken in order, no array */
#define IORING_SETUP_HYBRID_IOPOLL	0x20000		/* 7.2: sleep for a while, then poll */
#define IORING_SETUP_CQE_MIXED		0x40000		/* 7.2: CQEs of 16 and 32 bytes in one */
#define IORING_SETUP_SQE_MIXED		0x80000		/* 7.2: SQEs of 64 and 128 bytes in one */
#define IORING_SETUP_SQ_REWIND		0x100000	/* 7.2: submission starts at slot 0 again */

/* io_uring_params.features: what the kernel can do */
#define IORING_FEAT_SINGLE_MMAP		0x1	/* one mapping holds both rings */
#define IORING_FEAT_NODROP		0x2	/* CQEs that do not fit are kept, in order */
#define IORING_FEAT_SUBMIT_STABLE	0x4	/* what an SQE points at may go once it is taken */
#define IORING_FEAT_RW_CUR_POS		0x8	/* offset -1 is the file's own position */
#define IORING_FEAT_CUR_PERSONALITY	0x10	/* requests run as the task that submits them */
#define IORING_FEAT_FAST_POLL		0x20	/* not ready: poll it, do not call a worker */
#define IORING_FEAT_POLL_32BITS		0x40	/* poll32_events */
#define IORING_FEAT_SQPOLL_NONFIXED	0x80	/* SQPOLL takes files that are not registered */
#define IORING_FEAT_EXT_ARG		0x100	/* IORING_ENTER_EXT_ARG */
#define IORING_FEAT_NATIVE_WORKERS	0x200	/* workers are threads of the task */
#define IORING_FEAT_RSRC_TAGS		0x400	/* registered resources may carry a tag */
#define IORING_FEAT_CQE_SKIP		0x800	/* IOSQE_CQE_SKIP_SUCCESS */
#define IORING_FEAT_LINKED_FILE		0x1000	/* a linked SQE looks its file up when it runs */
#define IORING_FEAT_REG_REG_RING	0x2000	/* io_uring_register takes a registered ring */
#define IORING_FEAT_RECVSEND_BUNDLE	0x4000	/* IORING_RECVSEND_BUNDLE */
#define IORING_FEAT_MIN_TIMEOUT		0x8000	/* io_uring_getevents_arg.min_wait_usec */
#define IORING_FEAT_RW_ATTR		0x10000	/* 7.2: io_uring_sqe.attr_ptr */
#define IORING_FEAT_NO_IOWAIT		0x20000	/* 7.2: IORING_ENTER_NO_IOWAIT */

/* Offsets for mmap() on the ring's fd. A buffer ring is at PBUF_RING | bgid << PBUF_SHIFT. */
#define IORING_OFF_SQ_RING	0ULL
#define IORING_OFF_CQ_RING	0x8000000ULL
#define IORING_OFF_SQES		0x10000000ULL
#define IORING_OFF_PBUF_RING	0x80000000ULL
#define IORING_OFF_PBUF_SHIFT	16
#define IORING_OFF_MMAP_MASK	0xf8000000ULL	/* the bits that say which of the four */

/* Flags word of the submission ring, stored by the kernel */
#define IORING_SQ_NEED_WAKEUP	0x1	/* the SQPOLL thread sleeps */
#define IORING_SQ_CQ_OVERFLOW	0x2	/* CQEs wait because the ring was full */
#define IORING_SQ_TASKRUN	0x4	/* the task should enter to run its completions */

/* Flags word of the completion ring, stored by the client */
#define IORING_CQ_EVENTFD_DISABLED	0x1	/* do not signal the eventfd */

/* ---- io_uring_enter(fd, to_submit, min_complete, flags, arg, argsz) ------------------------ */

#define IORING_ENTER_GETEVENTS		0x1	/* wait for min_complete CQEs */
#define IORING_ENTER_SQ_WAKEUP		0x2	/* wake the SQPOLL thread */
#define IORING_ENTER_SQ_WAIT		0x4	/* wait until the SQ has room */
#define IORING_ENTER_EXT_ARG		0x8	/* arg is an io_uring_getevents_arg, not a sigset */
#define IORING_ENTER_REGISTERED_RING	0x10	/* fd is an index from REGISTER_RING_FDS */
#define IORING_ENTER_ABS_TIMER		0x20	/* the time-out is a point in time */
#define IORING_ENTER_EXT_ARG_REG	0x40	/* 7.2: arg is an offset to an io_uring_reg_wait */
#define IORING_ENTER_NO_IOWAIT		0x80	/* 7.2: the wait is not counted as iowait */

/* Declared here because 6.12 and 7.2 embed it; its home in Linux is <linux/time_types.h>. */
struct __kernel_timespec {
	int64_t tv_sec;
	long long tv_nsec;
};

/* arg with EXT_ARG; argsz is 24. */
struct io_uring_getevents_arg {
	uint64_t sigmask;	/* pointer; 0 leaves the mask alone */
	uint32_t sigmask_sz;	/* bytes */
	uint32_t min_wait_usec;	/* then any CQE at all ends the wait */
	uint64_t ts;		/* pointer to a struct __kernel_timespec; 0 waits for ever */
};

/* The same in a region that was registered beforehand, so that nothing is copied per call. */
struct io_uring_reg_wait { /* 7.2 */
	struct __kernel_timespec ts;
	uint32_t min_wait_usec;
	uint32_t flags;		/* IORING_REG_WAIT_* */
	uint64_t sigmask;
	uint32_t sigmask_sz;
	uint32_t pad[3];
	uint64_t pad2[2];
};

#define IORING_REG_WAIT_TS	0x1	/* 7.2: ts counts */

/* ---- submission queue entry ---------------------------------------------------------------- */

struct io_uring_sqe {
	uint8_t opcode;			/* IORING_OP_* */
	uint8_t flags;			/* IOSQE_* */
	uint16_t ioprio;		/* for accept, receive and send: the operation's flags */
	int32_t fd;			/* descriptor, or index with IOSQE_FIXED_FILE */
	union {				/* 8 */
		uint64_t off;		/* in the file; -1 is its own position */
		uint64_t addr2;
		struct {
			uint32_t cmd_op;	/* URING_CMD: the file's own command number */
			uint32_t __pad1;
		};
	};
	union {				/* 16 */
		uint64_t addr;		/* the client's buffer, or the user_data of a target */
		uint64_t splice_off_in;
		struct {		/* URING_CMD on a socket */
			uint32_t level;
			uint32_t optname;
		};
	};
	uint32_t len;			/* of the buffer in bytes, or a count */
	union {				/* 28: the operation's flags */
		int32_t rw_flags;
		uint32_t fsync_flags;
		uint16_t poll_events;
		uint32_t poll32_events;
		uint32_t sync_range_flags;
		uint32_t msg_flags;
		uint32_t timeout_flags;
		uint32_t accept_flags;
		uint32_t cancel_flags;
		uint32_t open_flags;
		uint32_t statx_flags;
		uint32_t fadvise_advice;
		uint32_t splice_flags;
		uint32_t rename_flags;
		uint32_t unlink_flags;
		uint32_t hardlink_flags;
		uint32_t xattr_flags;
		uint32_t msg_ring_flags;
		uint32_t uring_cmd_flags;
		uint32_t waitid_flags;
		uint32_t futex_flags;
		uint32_t install_fd_flags;
		uint32_t nop_flags;
		uint32_t pipe_flags;	/* 7.2 */
	};
	uint64_t user_data;		/* comes back in the CQE */
	union {				/* 40 */
		uint16_t buf_index;	/* of a registered buffer */
		uint16_t buf_group;	/* with IOSQE_BUFFER_SELECT */
	};
	uint16_t personality;		/* 0, or an id from REGISTER_PERSONALITY */
	union {				/* 44 */
		int32_t splice_fd_in;
		uint32_t file_index;	/* slot plus one, or IORING_FILE_INDEX_ALLOC */
		uint32_t zcrx_ifq_idx;	/* 7.2 */
		uint32_t optlen;
		struct {
			uint16_t addr_len;
			uint16_t __pad3[1];
		};
		struct {		/* 7.2 */
			uint8_t write_stream;
			uint8_t __pad4[3];
		};
	};
	union {				/* 48 */
		struct {
			uint64_t addr3;
			uint64_t __pad2[1];
		};
		struct {		/* 7.2 */
			uint64_t attr_ptr;
			uint64_t attr_type_mask;	/* IORING_RW_ATTR_FLAG_* */
		};
		uint64_t optval;
		uint8_t cmd[0];		/* URING_CMD: 16 bytes, or 80 in an SQE of 128 */
	};
};

/* io_uring_sqe.flags: the bit numbers, and the bits */
#define IOSQE_FIXED_FILE_BIT		0
#define IOSQE_IO_DRAIN_BIT		1
#define IOSQE_IO_LINK_BIT		2
#define IOSQE_IO_HARDLINK_BIT		3
#define IOSQE_ASYNC_BIT			4
#define IOSQE_BUFFER_SELECT_BIT		5
#define IOSQE_CQE_SKIP_SUCCESS_BIT	6
#define IOSQE_FIXED_FILE		0x1	/* fd is an index of a registered file */
#define IOSQE_IO_DRAIN			0x2	/* start when all earlier SQEs are complete */
#define IOSQE_IO_LINK			0x4	/* the next SQE starts once this one succeeded */
#define IOSQE_IO_HARDLINK		0x8	/* or completed, however it went */
#define IOSQE_ASYNC			0x10	/* straight to a worker */
#define IOSQE_BUFFER_SELECT		0x20	/* take a buffer from the group buf_group */
#define IOSQE_CQE_SKIP_SUCCESS		0x40	/* post a CQE only for a failure */

/* io_uring_sqe.opcode */
#define IORING_OP_NOP			0
#define IORING_OP_READV			1
#define IORING_OP_WRITEV		2
#define IORING_OP_FSYNC			3
#define IORING_OP_READ_FIXED		4
#define IORING_OP_WRITE_FIXED		5
#define IORING_OP_POLL_ADD		6
#define IORING_OP_POLL_REMOVE		7
#define IORING_OP_SYNC_FILE_RANGE	8
#define IORING_OP_SENDMSG		9
#define IORING_OP_RECVMSG		10
#define IORING_OP_TIMEOUT		11
#define IORING_OP_TIMEOUT_REMOVE	12
#define IORING_OP_ACCEPT		13
#define IORING_OP_ASYNC_CANCEL		14
#define IORING_OP_LINK_TIMEOUT		15
#define IORING_OP_CONNECT		16
#define IORING_OP_FALLOCATE		17
#define IORING_OP_OPENAT		18
#define IORING_OP_CLOSE			19
#define IORING_OP_FILES_UPDATE		20
#define IORING_OP_STATX			21
#define IORING_OP_READ			22
#define IORING_OP_WRITE			23
#define IORING_OP_FADVISE		24
#define IORING_OP_MADVISE		25
#define IORING_OP_SEND			26
#define IORING_OP_RECV			27
#define IORING_OP_OPENAT2		28
#define IORING_OP_EPOLL_CTL		29
#define IORING_OP_SPLICE		30
#define IORING_OP_PROVIDE_BUFFERS	31
#define IORING_OP_REMOVE_BUFFERS	32
#define IORING_OP_TEE			33
#define IORING_OP_SHUTDOWN		34
#define IORING_OP_RENAMEAT		35
#define IORING_OP_UNLINKAT		36
#define IORING_OP_MKDIRAT		37
#define IORING_OP_SYMLINKAT		38
#define IORING_OP_LINKAT		39
#define IORING_OP_MSG_RING		40
#define IORING_OP_FSETXATTR		41
#define IORING_OP_SETXATTR		42
#define IORING_OP_FGETXATTR		43
#define IORING_OP_GETXATTR		44
#define IORING_OP_SOCKET		45
#define IORING_OP_URING_CMD		46
#define IORING_OP_SEND_ZC		47
#define IORING_OP_SENDMSG_ZC		48
#define IORING_OP_READ_MULTISHOT	49
#define IORING_OP_WAITID		50
#define IORING_OP_FUTEX_WAIT		51
#define IORING_OP_FUTEX_WAKE		52
#define IORING_OP_FUTEX_WAITV		53
#define IORING_OP_FIXED_FD_INSTALL	54
#define IORING_OP_FTRUNCATE		55
#define IORING_OP_BIND			56
#define IORING_OP_LISTEN		57
#define IORING_OP_RECV_ZC		58	/* 7.2 */
#define IORING_OP_EPOLL_WAIT		59	/* 7.2 */
#define IORING_OP_READV_FIXED		60	/* 7.2 */
#define IORING_OP_WRITEV_FIXED		61	/* 7.2 */
#define IORING_OP_PIPE			62	/* 7.2 */
#define IORING_OP_NOP128		63	/* 7.2 */
#define IORING_OP_URING_CMD128		64	/* 7.2 */
#define IORING_OP_LAST			65	/* the first that is refused */
#define IORING_OP_LAST_6_12		58

/* io_uring_sqe.file_index: any free slot */
#define IORING_FILE_INDEX_ALLOC	0xffffffff

/* NOP: nop_flags */
#define IORING_NOP_INJECT_RESULT	0x1	/* res is len */
#define IORING_NOP_FILE			0x2	/* 7.2: look fd up */
#define IORING_NOP_FIXED_FILE		0x4	/* 7.2: as a registered file */
#define IORING_NOP_FIXED_BUFFER		0x8	/* 7.2: look buf_index up */
#define IORING_NOP_TW			0x10	/* 7.2: complete from task work */
#define IORING_NOP_CQE32		0x20	/* 7.2: a CQE of 32 bytes, from off and addr */

/* POLL_ADD and POLL_REMOVE: len */
#define IORING_POLL_ADD_MULTI		0x1	/* a CQE for each wake-up */
#define IORING_POLL_UPDATE_EVENTS	0x2
#define IORING_POLL_UPDATE_USER_DATA	0x4
#define IORING_POLL_ADD_LEVEL		0x8	/* declared, yet 6.12 and 7.2 answer EINVAL */

/* TIMEOUT, TIMEOUT_REMOVE and LINK_TIMEOUT: timeout_flags */
#define IORING_TIMEOUT_ABS		0x1
#define IORING_TIMEOUT_UPDATE		0x2
#define IORING_TIMEOUT_BOOTTIME		0x4
#define IORING_TIMEOUT_REALTIME		0x8
#define IORING_LINK_TIMEOUT_UPDATE	0x10
#define IORING_TIMEOUT_ETIME_SUCCESS	0x20	/* -ETIME does not break a link */
#define IORING_TIMEOUT_MULTISHOT	0x40	/* off repeats; 0 is without end */
#define IORING_TIMEOUT_IMMEDIATE_ARG	0x80	/* 7.2: addr is nanoseconds, not a pointer */
#define IORING_TIMEOUT_CLOCK_MASK	0xc
#define IORING_TIMEOUT_UPDATE_MASK	0x12

/* ASYNC_CANCEL and REGISTER_SYNC_CANCEL: what to look for; 0 is user_data */
#define IORING_ASYNC_CANCEL_ALL		0x1	/* all that match; res is their number */
#define IORING_ASYNC_CANCEL_FD		0x2
#define IORING_ASYNC_CANCEL_ANY		0x4	/* everything */
#define IORING_ASYNC_CANCEL_FD_FIXED	0x8	/* fd is a registered file */
#define IORING_ASYNC_CANCEL_USERDATA	0x10
#define IORING_ASYNC_CANCEL_OP		0x20	/* len is the opcode to match */

/* MSG_RING: the command in addr, and msg_ring_flags */
#define IORING_MSG_DATA			0	/* post a CQE on the other ring */
#define IORING_MSG_SEND_FD		1	/* give it a registered file */
#define IORING_MSG_RING_CQE_SKIP	0x1	/* SEND_FD: no CQE on the other ring */
#define IORING_MSG_RING_FLAGS_PASS	0x2	/* file_index is that CQE's flags */

/* URING_CMD: uring_cmd_flags */
#define IORING_URING_CMD_FIXED		0x1	/* buf_index is a registered buffer */
#define IORING_URING_CMD_MULTISHOT	0x2	/* 7.2: with IOSQE_BUFFER_SELECT only */
#define IORING_URING_CMD_MASK		0x3
#define IORING_URING_CMD_MASK_6_12	0x1

/* URING_CMD on a socket: cmd_op */
#define SOCKET_URING_OP_SIOCINQ		0
#define SOCKET_URING_OP_SIOCOUTQ	1
#define SOCKET_URING_OP_GETSOCKOPT	2
#define SOCKET_URING_OP_SETSOCKOPT	3
#define SOCKET_URING_OP_TX_TIMESTAMP	4	/* 7.2 */
#define SOCKET_URING_OP_GETSOCKNAME	5	/* 7.2 */

/* Send and receive: ioprio */
#define IORING_RECVSEND_POLL_FIRST	0x1	/* wait for readiness before the first try */
#define IORING_RECV_MULTISHOT		0x2
#define IORING_RECVSEND_FIXED_BUF	0x4	/* buf_index is a registered buffer */
#define IORING_SEND_ZC_REPORT_USAGE	0x8	/* the notification says if data was copied */
#define IORING_RECVSEND_BUNDLE		0x10	/* several selected buffers in one go */
#define IORING_SEND_VECTORIZED		0x20	/* 7.2: addr is an iovec */

/* res of a zero-copy notification: the data was copied after all */
#define IORING_NOTIF_USAGE_ZC_COPIED	0x80000000

/* ACCEPT: ioprio */
#define IORING_ACCEPT_MULTISHOT		0x1
#define IORING_ACCEPT_DONTWAIT		0x2
#define IORING_ACCEPT_POLL_FIRST	0x4

/* FSYNC: fsync_flags; SPLICE and TEE: splice_flags; FIXED_FD_INSTALL: install_fd_flags */
#define IORING_FSYNC_DATASYNC		0x1
#define SPLICE_F_FD_IN_FIXED		0x80000000	/* splice_fd_in is a registered file */
#define IORING_FIXED_FD_NO_CLOEXEC	0x1

/* What a multishot RECVMSG puts in front of the name, control data and payload. */
struct io_uring_recvmsg_out {
	uint32_t namelen;
	uint32_t controllen;
	uint32_t payloadlen;
	uint32_t flags;
};

/* What io_uring_sqe.attr_ptr points at for IORING_RW_ATTR_FLAG_PI: protection information. */
struct io_uring_attr_pi { /* 7.2 */
	uint16_t flags;
	uint16_t app_tag;
	uint32_t len;
	uint64_t addr;
	uint64_t seed;
	uint64_t rsvd;
};

#define IORING_RW_ATTR_FLAG_PI	0x1	/* 7.2 */

/* ---- completion queue entry ---------------------------------------------------------------- */

struct io_uring_cqe {
	uint64_t user_data;
	int32_t res;		/* a count, a mask, an fd, or -errno */
	uint32_t flags;		/* IORING_CQE_F_*, and a buffer id from bit 16 upwards */
	uint64_t big_cqe[];	/* two more words in a CQE of 32 bytes */
};

/* io_uring_cqe.flags */
#define IORING_CQE_F_BUFFER		0x1	/* the upper 16 bits are a buffer id */
#define IORING_CQE_F_MORE		0x2	/* the SQE will post more CQEs */
#define IORING_CQE_F_SOCK_NONEMPTY	0x4	/* the socket had more data */
#define IORING_CQE_F_NOTIF		0x8	/* a zero-copy notification */
#define IORING_CQE_F_BUF_MORE		0x10	/* the buffer has room left and will come again */
#define IORING_CQE_F_SKIP		0x20	/* 7.2: CQE_MIXED's filler at the ring's end */
#define IORING_CQE_F_32			0x8000	/* 7.2: CQE_MIXED, this CQE takes two slots */
#define IORING_CQE_BUFFER_SHIFT		16

/* CQEs of SOCKET_URING_OP_TX_TIMESTAMP: more in flags, and the time in big_cqe */
#define IORING_TIMESTAMP_HW_SHIFT	16	/* 7.2 */
#define IORING_TIMESTAMP_TYPE_SHIFT	17	/* 7.2 */
#define IORING_CQE_F_TSTAMP_HW		0x10000	/* 7.2: the device's clock; no buffer id here */

struct io_timespec { /* 7.2 */
	uint64_t tv_sec;
	uint64_t tv_nsec;
};

/* ---- provided buffers ---------------------------------------------------------------------- */

struct io_uring_buf {
	uint64_t addr;
	uint32_t len;		/* bytes */
	uint16_t bid;		/* what the CQE will report */
	uint16_t resv;
};

/* An array of io_uring_buf; the tail takes the place of the first one's resv. */
struct io_uring_buf_ring {
	union {
		struct {
			uint64_t resv1;
			uint32_t resv2;
			uint16_t resv3;
			uint16_t tail;		/* the client stores it; there is no head here */
		};
		struct io_uring_buf bufs[0];
	};
};

/* REGISTER_PBUF_RING and UNREGISTER_PBUF_RING */
struct io_uring_buf_reg {
	uint64_t ring_addr;	/* page-aligned; 0 with IOU_PBUF_RING_MMAP */
	uint32_t ring_entries;	/* a power of two, at most 32768 */
	uint16_t bgid;
	uint16_t flags;		/* IOU_PBUF_RING_* */
	uint32_t min_left;	/* with INC: a buffer with less than this left is used up.
				 * The first 6.12 had padding here, 6.12.117 has it */
	uint32_t resv[5];
};

#define IOU_PBUF_RING_MMAP	0x1	/* the kernel makes the ring; the client maps it */
#define IOU_PBUF_RING_INC	0x2	/* buffers are used up piece by piece */

/* REGISTER_PBUF_STATUS */
struct io_uring_buf_status {
	uint32_t buf_group;	/* in */
	uint32_t head;		/* out: the kernel's private head */
	uint32_t resv[8];
};

/* ---- io_uring_register(fd, opcode, arg, nr_args) ------------------------------------------- */

#define IORING_REGISTER_BUFFERS			0
#define IORING_UNREGISTER_BUFFERS		1
#define IORING_REGISTER_FILES			2
#define IORING_UNREGISTER_FILES			3
#define IORING_REGISTER_EVENTFD			4
#define IORING_UNREGISTER_EVENTFD		5
#define IORING_REGISTER_FILES_UPDATE		6
#define IORING_REGISTER_EVENTFD_ASYNC		7		/* signal for workers' CQEs only */
#define IORING_REGISTER_PROBE			8
#define IORING_REGISTER_PERSONALITY		9
#define IORING_UNREGISTER_PERSONALITY		10
#define IORING_REGISTER_RESTRICTIONS		11
#define IORING_REGISTER_ENABLE_RINGS		12
#define IORING_REGISTER_FILES2			13
#define IORING_REGISTER_FILES_UPDATE2		14
#define IORING_REGISTER_BUFFERS2		15
#define IORING_REGISTER_BUFFERS_UPDATE		16
#define IORING_REGISTER_IOWQ_AFF		17
#define IORING_UNREGISTER_IOWQ_AFF		18
#define IORING_REGISTER_IOWQ_MAX_WORKERS	19
#define IORING_REGISTER_RING_FDS		20
#define IORING_UNREGISTER_RING_FDS		21
#define IORING_REGISTER_PBUF_RING		22
#define IORING_UNREGISTER_PBUF_RING		23
#define IORING_REGISTER_SYNC_CANCEL		24
#define IORING_REGISTER_FILE_ALLOC_RANGE	25
#define IORING_REGISTER_PBUF_STATUS		26
#define IORING_REGISTER_NAPI			27
#define IORING_UNREGISTER_NAPI			28
#define IORING_REGISTER_CLOCK			29
#define IORING_REGISTER_CLONE_BUFFERS		30
#define IORING_REGISTER_SEND_MSG_RING		31		/* 7.2 */
#define IORING_REGISTER_ZCRX_IFQ		32		/* 7.2 */
#define IORING_REGISTER_RESIZE_RINGS		33		/* 7.2 */
#define IORING_REGISTER_MEM_REGION		34		/* 7.2 */
#define IORING_REGISTER_QUERY			35		/* 7.2 */
#define IORING_REGISTER_ZCRX_CTRL		36		/* 7.2 */
#define IORING_REGISTER_BPF_FILTER		37		/* 7.2 */
#define IORING_REGISTER_LAST			38		/* the first that is refused */
#define IORING_REGISTER_LAST_6_12		31
#define IORING_REGISTER_USE_REGISTERED_RING	0x80000000	/* or-ed: fd is a registered ring */

/* REGISTER_FILES_UPDATE */
struct io_uring_files_update {
	uint32_t offset;	/* first slot */
	uint32_t resv;
	uint64_t fds;		/* pointer to s32[nr_args] */
};

#define IORING_REGISTER_FILES_SKIP	-2	/* in place of an fd: leave the slot as it is */

/* REGISTER_FILES2 and REGISTER_BUFFERS2 */
struct io_uring_rsrc_register {
	uint32_t nr;
	uint32_t flags;		/* IORING_RSRC_REGISTER_* */
	uint64_t resv2;
	uint64_t data;		/* pointer to the fds or the iovecs */
	uint64_t tags;		/* pointer to u64[nr] */
};

#define IORING_RSRC_REGISTER_SPARSE	0x1	/* nr empty slots */

struct io_uring_rsrc_update {
	uint32_t offset;
	uint32_t resv;
	uint64_t data;
};

/* REGISTER_FILES_UPDATE2 and REGISTER_BUFFERS_UPDATE */
struct io_uring_rsrc_update2 {
	uint32_t offset;
	uint32_t resv;
	uint64_t data;
	uint64_t tags;
	uint32_t nr;
	uint32_t resv2;
};

/* REGISTER_PROBE: what the kernel can do, by opcode. */
struct io_uring_probe_op {
	uint8_t op;
	uint8_t resv;
	uint16_t flags;		/* IO_URING_OP_* */
	uint32_t resv2;
};

struct io_uring_probe {
	uint8_t last_op;	/* the highest opcode there is */
	uint8_t ops_len;	/* how many entries were filled */
	uint16_t resv;
	uint32_t resv2[3];
	struct io_uring_probe_op ops[];
};

#define IO_URING_OP_SUPPORTED	0x1

/* REGISTER_RESTRICTIONS */
struct io_uring_restriction {
	uint16_t opcode;	/* IORING_RESTRICTION_* */
	union {			/* 2 */
		uint8_t register_op;
		uint8_t sqe_op;
		uint8_t sqe_flags;
	};
	uint8_t resv;
	uint32_t resv2[3];
};

#define IORING_RESTRICTION_REGISTER_OP		0	/* allow register_op */
#define IORING_RESTRICTION_SQE_OP		1	/* allow sqe_op */
#define IORING_RESTRICTION_SQE_FLAGS_ALLOWED	2
#define IORING_RESTRICTION_SQE_FLAGS_REQUIRED	3
#define IORING_RESTRICTION_LAST			4

/* The same for all rings that a task makes. */
struct io_uring_task_restriction { /* 7.2 */
	uint16_t flags;
	uint16_t nr_res;
	uint32_t resv[3];
	struct io_uring_restriction restrictions[];
};

/* REGISTER_SYNC_CANCEL */
struct io_uring_sync_cancel_reg {
	uint64_t addr;		/* user_data to look for */
	int32_t fd;
	uint32_t flags;		/* IORING_ASYNC_CANCEL_* */
	struct __kernel_timespec timeout;	/* -1 and -1: none */
	uint8_t opcode;		/* with ASYNC_CANCEL_OP */
	uint8_t pad[7];
	uint64_t pad2[3];
};

/* REGISTER_FILE_ALLOC_RANGE: the slots that IORING_FILE_INDEX_ALLOC chooses from. */
struct io_uring_file_index_range {
	uint32_t off;
	uint32_t len;
	uint64_t resv;
};

/* REGISTER_CLOCK: the clock of time-outs given to io_uring_enter. */
struct io_uring_clock_register {
	uint32_t clockid;	/* CLOCK_MONOTONIC or CLOCK_BOOTTIME */
	uint32_t __resv[3];
};

/* REGISTER_CLONE_BUFFERS: take over another ring's registered buffers. */
struct io_uring_clone_buffers {
	uint32_t src_fd;
	uint32_t flags;		/* IORING_REGISTER_SRC_*, DST_* */
	uint32_t src_off;	/* 7.2 */
	uint32_t dst_off;	/* 7.2 */
	uint32_t nr;		/* 7.2 */
	uint32_t pad[3];
};

struct io_uring_clone_buffers_6_12 {
	uint32_t src_fd;
	uint32_t flags;
	uint32_t pad[6];
};

#define IORING_REGISTER_SRC_REGISTERED	0x1	/* src_fd is a registered ring */
#define IORING_REGISTER_DST_REPLACE	0x2	/* 7.2 */

/* REGISTER_IOWQ_MAX_WORKERS: indices into its u32[2] */
#define IO_WQ_BOUND	0
#define IO_WQ_UNBOUND	1

/* REGISTER_MEM_REGION: memory that both sides keep mapped. */
struct io_uring_region_desc { /* 7.2 */
	uint64_t user_addr;	/* with IORING_MEM_REGION_TYPE_USER */
	uint64_t size;
	uint32_t flags;		/* IORING_MEM_REGION_TYPE_* */
	uint32_t id;
	uint64_t mmap_offset;
	uint64_t __resv[4];
};

struct io_uring_mem_region_reg { /* 7.2 */
	uint64_t region_uptr;	/* pointer to an io_uring_region_desc */
	uint64_t flags;		/* IORING_MEM_REGION_REG_* */
	uint64_t __resv[2];
};

#define IORING_MEM_REGION_TYPE_USER	0x1	/* 7.2: the client brings the memory */
#define IORING_MEM_REGION_REG_WAIT_ARG	0x1	/* 7.2: holds io_uring_reg_wait entries */

/* REGISTER_NAPI: busy polling of network devices. 6.12's padding is cut otherwise. */
struct io_uring_napi {
	uint32_t busy_poll_to;	/* microseconds */
	uint8_t prefer_busy_poll;
	uint8_t opcode;		/* 7.2: IO_URING_NAPI_REGISTER_OP and following */
	uint8_t pad[2];
	uint32_t op_param;	/* 7.2: IO_URING_NAPI_TRACKING_*, or an id */
	uint32_t resv;
};

struct io_uring_napi_6_12 {
	uint32_t busy_poll_to;
	uint8_t prefer_busy_poll;
	uint8_t pad[3];
	uint64_t resv;
};

#define IO_URING_NAPI_REGISTER_OP	0	/* 7.2 */
#define IO_URING_NAPI_STATIC_ADD_ID	1	/* 7.2 */
#define IO_URING_NAPI_STATIC_DEL_ID	2	/* 7.2 */
#define IO_URING_NAPI_TRACKING_DYNAMIC	0	/* 7.2 */
#define IO_URING_NAPI_TRACKING_STATIC	1	/* 7.2 */
#define IO_URING_NAPI_TRACKING_INACTIVE	255	/* 7.2 */

/* ---- REGISTER_QUERY (7.2): what this kernel knows ------------------------------------------ */

/* Requests form a chain. */
struct io_uring_query_hdr { /* 7.2 */
	uint64_t next_entry;	/* pointer to the next one, or 0 */
	uint64_t query_data;	/* pointer to the answer */
	uint32_t query_op;	/* IO_URING_QUERY_* */
	uint32_t size;		/* of the answer */
	int32_t result;		/* out: 0 or -errno */
	uint32_t __resv[3];
};

#define IO_URING_QUERY_OPCODES		0	/* 7.2 */
#define IO_URING_QUERY_ZCRX		1	/* 7.2 */
#define IO_URING_QUERY_SCQ		2	/* 7.2 */
#define IO_URING_QUERY_ZCRX_EVENT	3	/* 7.2 */
#define __IO_URING_QUERY_MAX		4	/* 7.2: how many there are */

struct io_uring_query_opcode { /* 7.2 */
	uint32_t nr_request_opcodes;
	uint32_t nr_register_opcodes;
	uint64_t feature_flags;		/* IORING_FEAT_* */
	uint64_t ring_setup_flags;	/* IORING_SETUP_* */
	uint64_t enter_flags;		/* IORING_ENTER_* */
	uint64_t sqe_flags;		/* IOSQE_* */
	uint32_t nr_query_opcodes;
	uint32_t __pad;
};

struct io_uring_query_zcrx { /* 7.2 */
	uint64_t register_flags;	/* ZCRX_REG_* */
	uint64_t area_flags;		/* IORING_ZCRX_AREA_* */
	uint32_t nr_ctrl_opcodes;
	uint32_t features;		/* ZCRX_FEATURE_* */
	uint32_t rq_hdr_size;
	uint32_t rq_hdr_alignment;
	uint64_t __resv2;
};

struct io_uring_query_zcrx_event { /* 7.2 */
	uint32_t event_flags;
	uint32_t stats_size;
	uint32_t stats_off_alignment;
	uint32_t __resv1;
	uint64_t __resv2[4];
};

/* The bytes in front of the CQEs: what a client's own ring memory must allow for. */
struct io_uring_query_scq { /* 7.2 */
	uint64_t hdr_size;
	uint64_t hdr_alignment;
};

/* ---- zero-copy receive (7.2) --------------------------------------------------------------- */

/* The client returns buffers through a refill queue of these. */
struct io_uring_zcrx_rqe { /* 7.2 */
	uint64_t off;
	uint32_t len;
	uint32_t __pad;
};

/* Second half of the CQE: where the data are. */
struct io_uring_zcrx_cqe { /* 7.2 */
	uint64_t off;		/* area in the upper bits, from IORING_ZCRX_AREA_SHIFT */
	uint64_t __pad;
};

#define IORING_ZCRX_AREA_SHIFT	48			/* 7.2 */
#define IORING_ZCRX_AREA_MASK	0xffff000000000000	/* 7.2 */

/* Where the words of the refill queue are. */
struct io_uring_zcrx_offsets { /* 7.2 */
	uint32_t head;
	uint32_t tail;
	uint32_t rqes;
	uint32_t __resv2;
	uint64_t __resv[2];
};

/* Memory that packets are received into. */
struct io_uring_zcrx_area_reg { /* 7.2 */
	uint64_t addr;
	uint64_t len;
	uint64_t rq_area_token;	/* out: to be put into io_uring_zcrx_rqe.off */
	uint32_t flags;
	uint32_t dmabuf_fd;	/* with IORING_ZCRX_AREA_DMABUF */
	uint64_t __resv2[2];
};

#define IORING_ZCRX_AREA_DMABUF	0x1	/* 7.2 */

struct zcrx_stats { /* 7.2 */
	uint64_t copy_count;
	uint64_t copy_bytes;
};

struct zcrx_event_desc { /* 7.2 */
	uint64_t user_data;
	uint32_t type_mask;	/* which ZCRX_EVENT_* */
	uint32_t flags;		/* ZCRX_EVENT_DESC_FLAG_* */
	uint64_t stats_offset;	/* with ZCRX_EVENT_DESC_FLAG_STATS */
	uint64_t __resv2[9];
};

#define ZCRX_EVENT_ALLOC_FAIL		0	/* 7.2 */
#define ZCRX_EVENT_COPY			1	/* 7.2 */
#define __ZCRX_EVENT_TYPE_LAST		2	/* 7.2 */
#define ZCRX_EVENT_DESC_FLAG_STATS	0x1	/* 7.2 */

/* REGISTER_ZCRX_IFQ: bind one receive queue of a network device. */
struct io_uring_zcrx_ifq_reg { /* 7.2 */
	uint32_t if_idx;
	uint32_t if_rxq;
	uint32_t rq_entries;
	uint32_t flags;		/* ZCRX_REG_* */
	uint64_t area_ptr;	/* pointer to an io_uring_zcrx_area_reg */
	uint64_t region_ptr;	/* pointer to an io_uring_region_desc */
	struct io_uring_zcrx_offsets offsets;
	uint32_t zcrx_id;
	uint32_t rx_buf_len;
	uint64_t event_desc;	/* pointer to a zcrx_event_desc */
	uint64_t __resv[2];
};

#define ZCRX_REG_IMPORT			0x1	/* 7.2: take over one that was exported */
#define ZCRX_REG_NODEV			0x2	/* 7.2: without a device */
#define ZCRX_FEATURE_RX_PAGE_SIZE	0x1	/* 7.2 */
#define ZCRX_FEATURE_EVENT		0x2	/* 7.2 */

/* REGISTER_ZCRX_CTRL */
struct zcrx_ctrl_flush_rq { /* 7.2 */
	uint64_t __resv[6];
};

struct zcrx_ctrl_export { /* 7.2 */
	uint32_t zcrx_fd;	/* out */
	uint32_t __resv1[11];
};

struct zcrx_ctrl_arm_event { /* 7.2 */
	uint32_t event_type;	/* ZCRX_EVENT_* */
	uint32_t __resv[11];
};

struct zcrx_ctrl { /* 7.2 */
	uint32_t zcrx_id;
	uint32_t op;		/* ZCRX_CTRL_* */
	uint64_t __resv[2];
	union {			/* 24 */
		struct zcrx_ctrl_export zc_export;
		struct zcrx_ctrl_flush_rq zc_flush;
		struct zcrx_ctrl_arm_event zc_arm_event;
	};
};

#define ZCRX_CTRL_FLUSH_RQ	0	/* 7.2 */
#define ZCRX_CTRL_EXPORT	1	/* 7.2 */
#define ZCRX_CTRL_ARM_EVENT	2	/* 7.2 */
#define __ZCRX_CTRL_LAST	3	/* 7.2 */
