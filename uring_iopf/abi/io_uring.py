"""The constants of the io_uring ABI, grouped by the field they go into.

Members keep the uapi name without its prefix. Those marked ``7.2`` are not in Linux 6.12; they may
have come with any release in between.

Source: linux/io_uring.h, Linux 6.12.117 and 7.2.13.
"""

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final


class SetupFlags(IntFlag):
    """``io_uring_params.flags``: how a ring is made.

    Source: linux/io_uring.h, IORING_SETUP_*, Linux 6.12 and 7.2.
    """

    IOPOLL = 0x1
    SQPOLL = 0x2
    SQ_AFF = 0x4
    CQSIZE = 0x8
    CLAMP = 0x10
    ATTACH_WQ = 0x20
    R_DISABLED = 0x40
    SUBMIT_ALL = 0x80
    COOP_TASKRUN = 0x100
    TASKRUN_FLAG = 0x200
    SQE128 = 0x400
    CQE32 = 0x800
    SINGLE_ISSUER = 0x1000
    DEFER_TASKRUN = 0x2000
    NO_MMAP = 0x4000
    REGISTERED_FD_ONLY = 0x8000
    NO_SQARRAY = 0x10000
    HYBRID_IOPOLL = 0x20000  # 7.2
    CQE_MIXED = 0x40000  # 7.2
    SQE_MIXED = 0x80000  # 7.2
    SQ_REWIND = 0x100000  # 7.2


class Features(IntFlag):
    """``io_uring_params.features``: the features of the kernel, which setup fills in.

    6.12 sets 0xffff, 7.2 sets 0x3ffff.

    Source: linux/io_uring.h, IORING_FEAT_*, Linux 6.12 and 7.2.
    """

    SINGLE_MMAP = 0x1
    NODROP = 0x2
    SUBMIT_STABLE = 0x4
    RW_CUR_POS = 0x8
    CUR_PERSONALITY = 0x10
    FAST_POLL = 0x20
    POLL_32BITS = 0x40
    SQPOLL_NONFIXED = 0x80
    EXT_ARG = 0x100
    NATIVE_WORKERS = 0x200
    RSRC_TAGS = 0x400
    CQE_SKIP = 0x800
    LINKED_FILE = 0x1000
    REG_REG_RING = 0x2000
    RECVSEND_BUNDLE = 0x4000
    MIN_TIMEOUT = 0x8000
    RW_ATTR = 0x10000  # 7.2
    NO_IOWAIT = 0x20000  # 7.2


class MmapOffset(IntEnum):
    """Where ``mmap`` of a ring finds what, in bytes.

    A buffer ring is at ``PBUF_RING | bgid << OFF_PBUF_SHIFT``.

    Source: linux/io_uring.h, IORING_OFF_*, Linux 6.12 and 7.2.
    """

    SQ_RING = 0x0
    CQ_RING = 0x8000000
    SQES = 0x10000000
    PBUF_RING = 0x80000000


class SqFlags(IntFlag):
    """The submission ring's flags word; the kernel stores it.

    Source: linux/io_uring.h, IORING_SQ_*, Linux 6.12 and 7.2.
    """

    NEED_WAKEUP = 0x1
    CQ_OVERFLOW = 0x2
    TASKRUN = 0x4


class CqFlags(IntFlag):
    """The completion ring's flags word; the client stores it.

    Source: linux/io_uring.h, IORING_CQ_*, Linux 6.12 and 7.2.
    """

    EVENTFD_DISABLED = 0x1


class EnterFlags(IntFlag):
    """Flags of the ``io_uring_enter`` system call.

    Source: linux/io_uring.h, IORING_ENTER_*, Linux 6.12 and 7.2.
    """

    GETEVENTS = 0x1
    SQ_WAKEUP = 0x2
    SQ_WAIT = 0x4
    EXT_ARG = 0x8
    REGISTERED_RING = 0x10
    ABS_TIMER = 0x20
    EXT_ARG_REG = 0x40  # 7.2
    NO_IOWAIT = 0x80  # 7.2


class Op(IntEnum):
    """``io_uring_sqe.opcode``: the operation of a request. `OP_LAST` has the number of operations of each version.

    Source: linux/io_uring.h, IORING_OP_*, Linux 6.12 and 7.2.
    """

    NOP = 0
    READV = 1
    WRITEV = 2
    FSYNC = 3
    READ_FIXED = 4
    WRITE_FIXED = 5
    POLL_ADD = 6
    POLL_REMOVE = 7
    SYNC_FILE_RANGE = 8
    SENDMSG = 9
    RECVMSG = 10
    TIMEOUT = 11
    TIMEOUT_REMOVE = 12
    ACCEPT = 13
    ASYNC_CANCEL = 14
    LINK_TIMEOUT = 15
    CONNECT = 16
    FALLOCATE = 17
    OPENAT = 18
    CLOSE = 19
    FILES_UPDATE = 20
    STATX = 21
    READ = 22
    WRITE = 23
    FADVISE = 24
    MADVISE = 25
    SEND = 26
    RECV = 27
    OPENAT2 = 28
    EPOLL_CTL = 29
    SPLICE = 30
    PROVIDE_BUFFERS = 31
    REMOVE_BUFFERS = 32
    TEE = 33
    SHUTDOWN = 34
    RENAMEAT = 35
    UNLINKAT = 36
    MKDIRAT = 37
    SYMLINKAT = 38
    LINKAT = 39
    MSG_RING = 40
    FSETXATTR = 41
    SETXATTR = 42
    FGETXATTR = 43
    GETXATTR = 44
    SOCKET = 45
    URING_CMD = 46
    SEND_ZC = 47
    SENDMSG_ZC = 48
    READ_MULTISHOT = 49
    WAITID = 50
    FUTEX_WAIT = 51
    FUTEX_WAKE = 52
    FUTEX_WAITV = 53
    FIXED_FD_INSTALL = 54
    FTRUNCATE = 55
    BIND = 56
    LISTEN = 57
    RECV_ZC = 58  # 7.2
    EPOLL_WAIT = 59  # 7.2
    READV_FIXED = 60  # 7.2
    WRITEV_FIXED = 61  # 7.2
    PIPE = 62  # 7.2
    NOP128 = 63  # 7.2
    URING_CMD128 = 64  # 7.2


class SqeFlags(IntFlag):
    """``io_uring_sqe.flags``: how a request is treated, whatever it does.

    Source: linux/io_uring.h, IOSQE_*, Linux 6.12 and 7.2.
    """

    FIXED_FILE = 0x1
    IO_DRAIN = 0x2
    IO_LINK = 0x4
    IO_HARDLINK = 0x8
    ASYNC = 0x10
    BUFFER_SELECT = 0x20
    CQE_SKIP_SUCCESS = 0x40


class CqeFlags(IntFlag):
    """``io_uring_cqe.flags``, the lower 16 bits.

    With ``F_BUFFER`` the upper 16 bits (`CQE_BUFFER_SHIFT`) are a buffer id: mask them off first.

    Source: linux/io_uring.h, IORING_CQE_F_*, Linux 6.12 and 7.2.
    """

    F_BUFFER = 0x1
    F_MORE = 0x2
    F_SOCK_NONEMPTY = 0x4
    F_NOTIF = 0x8
    F_BUF_MORE = 0x10
    F_SKIP = 0x20  # 7.2
    F_32 = 0x8000  # 7.2


class NopFlags(IntFlag):
    """``io_uring_sqe.nop_flags``.

    Source: linux/io_uring.h, IORING_NOP_*, Linux 6.12 and 7.2.
    """

    INJECT_RESULT = 0x1
    FILE = 0x2  # 7.2
    FIXED_FILE = 0x4  # 7.2
    FIXED_BUFFER = 0x8  # 7.2
    TW = 0x10  # 7.2
    CQE32 = 0x20  # 7.2


class PollFlags(IntFlag):
    """``io_uring_sqe.len`` of POLL_ADD and POLL_REMOVE.

    ``ADD_LEVEL`` is declared, yet both versions answer EINVAL.

    Source: linux/io_uring.h, IORING_POLL_*, Linux 6.12 and 7.2.
    """

    ADD_MULTI = 0x1
    UPDATE_EVENTS = 0x2
    UPDATE_USER_DATA = 0x4
    ADD_LEVEL = 0x8


class TimeoutFlags(IntFlag):
    """``io_uring_sqe.timeout_flags``.

    Times are a ``__kernel_timespec`` (seconds, nanoseconds), with ``IMMEDIATE_ARG`` nanoseconds.

    Source: linux/io_uring.h, IORING_TIMEOUT_* and IORING_LINK_TIMEOUT_UPDATE, Linux 6.12 and 7.2.
    """

    ABS = 0x1
    UPDATE = 0x2
    BOOTTIME = 0x4
    REALTIME = 0x8
    LINK_TIMEOUT_UPDATE = 0x10
    ETIME_SUCCESS = 0x20
    MULTISHOT = 0x40
    IMMEDIATE_ARG = 0x80  # 7.2


class AsyncCancelFlags(IntFlag):
    """``io_uring_sqe.cancel_flags``: the key of the requests to cancel. Without a flag the key is ``user_data``.

    Source: linux/io_uring.h, IORING_ASYNC_CANCEL_*, Linux 6.12 and 7.2.
    """

    ALL = 0x1
    FD = 0x2
    ANY = 0x4
    FD_FIXED = 0x8
    USERDATA = 0x10
    OP = 0x20


class MsgRingCommand(IntEnum):
    """``io_uring_sqe.addr`` of MSG_RING.

    Source: linux/io_uring.h, IORING_MSG_*, Linux 6.12 and 7.2.
    """

    DATA = 0
    SEND_FD = 1


class MsgRingFlags(IntFlag):
    """``io_uring_sqe.msg_ring_flags``.

    Source: linux/io_uring.h, IORING_MSG_RING_*, Linux 6.12 and 7.2.
    """

    CQE_SKIP = 0x1
    FLAGS_PASS = 0x2


class UringCmdFlags(IntFlag):
    """``io_uring_sqe.uring_cmd_flags``.

    Source: linux/io_uring.h, IORING_URING_CMD_*, Linux 6.12 and 7.2.
    """

    FIXED = 0x1
    MULTISHOT = 0x2  # 7.2


class RegisterOp(IntEnum):
    """Opcode of the ``io_uring_register`` system call. `REGISTER_LAST` says how many there are.

    Source: linux/io_uring.h, IORING_REGISTER_* and IORING_UNREGISTER_*, Linux 6.12 and 7.2.
    """

    REGISTER_BUFFERS = 0
    UNREGISTER_BUFFERS = 1
    REGISTER_FILES = 2
    UNREGISTER_FILES = 3
    REGISTER_EVENTFD = 4
    UNREGISTER_EVENTFD = 5
    REGISTER_FILES_UPDATE = 6
    REGISTER_EVENTFD_ASYNC = 7
    REGISTER_PROBE = 8
    REGISTER_PERSONALITY = 9
    UNREGISTER_PERSONALITY = 10
    REGISTER_RESTRICTIONS = 11
    REGISTER_ENABLE_RINGS = 12
    REGISTER_FILES2 = 13
    REGISTER_FILES_UPDATE2 = 14
    REGISTER_BUFFERS2 = 15
    REGISTER_BUFFERS_UPDATE = 16
    REGISTER_IOWQ_AFF = 17
    UNREGISTER_IOWQ_AFF = 18
    REGISTER_IOWQ_MAX_WORKERS = 19
    REGISTER_RING_FDS = 20
    UNREGISTER_RING_FDS = 21
    REGISTER_PBUF_RING = 22
    UNREGISTER_PBUF_RING = 23
    REGISTER_SYNC_CANCEL = 24
    REGISTER_FILE_ALLOC_RANGE = 25
    REGISTER_PBUF_STATUS = 26
    REGISTER_NAPI = 27
    UNREGISTER_NAPI = 28
    REGISTER_CLOCK = 29
    REGISTER_CLONE_BUFFERS = 30
    REGISTER_SEND_MSG_RING = 31  # 7.2
    REGISTER_ZCRX_IFQ = 32  # 7.2
    REGISTER_RESIZE_RINGS = 33  # 7.2
    REGISTER_MEM_REGION = 34  # 7.2
    REGISTER_QUERY = 35  # 7.2
    REGISTER_ZCRX_CTRL = 36  # 7.2
    REGISTER_BPF_FILTER = 37  # 7.2


class PbufRingFlags(IntFlag):
    """``io_uring_buf_reg.flags``: how a provided-buffer ring works.

    Source: linux/io_uring.h, IOU_PBUF_RING_*, Linux 6.12 and 7.2.
    """

    MMAP = 0x1
    INC = 0x2


class RestrictionType(IntEnum):
    """``io_uring_restriction.opcode``.

    Source: linux/io_uring.h, IORING_RESTRICTION_*, Linux 6.12 and 7.2.
    """

    REGISTER_OP = 0
    SQE_OP = 1
    SQE_FLAGS_ALLOWED = 2
    SQE_FLAGS_REQUIRED = 3


OP_LAST: Final[Mapping[str, int]] = {"6.12": 58, "7.2": 65}
"""By Linux version: the first ``io_uring_sqe.opcode`` that is EINVAL."""

REGISTER_LAST: Final[Mapping[str, int]] = {"6.12": 31, "7.2": 38}
"""By Linux version: the first opcode of ``io_uring_register`` that is EINVAL."""

URING_CMD_MASK: Final[Mapping[str, int]] = {"6.12": 0x1, "7.2": 0x3}
"""By Linux version: all of `UringCmdFlags`; another bit is EINVAL."""

CQE_BUFFER_SHIFT: Final = 16
"""Bits to shift ``io_uring_cqe.flags`` right by, for the buffer id."""

OFF_PBUF_SHIFT: Final = 16
"""Bits to shift a buffer group id left by, for its `MmapOffset`."""

OFF_MMAP_MASK: Final = 0xF8000000
"""The bits of an mmap offset that say which `MmapOffset` it is."""

FILE_INDEX_ALLOC: Final = 0xFFFFFFFF
"""``io_uring_sqe.file_index``: any free slot."""

REGISTER_FILES_SKIP: Final = -2
"""In place of a descriptor in a file update: leave the slot as it is."""

REGISTER_USE_REGISTERED_RING: Final = 0x80000000
"""Or-ed to a `RegisterOp`: the ring is given by its registered index."""
