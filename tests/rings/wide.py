"""Programs that ask for everything: any opcode with any of its flags, of any kind of file, with buffers of any kind.

Bytes are read as such a program, as in `tests.rings.generate`: a byte of 0 is the plain choice. What is drawn is also
what Linux refuses. What is left out, so that the outcome is Linux's to define:

- More than one request at a time that a worker thread of the kernel may start (IOSQE_ASYNC, what is drained, a chain
  that the end of a call leaves open): after each the ring is entered, and the workers are waited for.
- More SQEs than the ring holds, and waits for what cannot come.
- CLOSE of a descriptor: the process and the rings know a file by different numbers.

What single requests seldom come to is in `tests.rings.scenes`, a row of which a program may have as one action.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from itertools import combinations
from typing import Final

from tests.rings import scenes
from tests.rings.language import (
    BUFFER_RINGS,
    BUFFERS,
    CQSIZE,
    DATA,
    EXT_ARG,
    FILE_KINDS,
    GETEVENTS,
    KERNEL,
    At,
    Blob,
    Close,
    Drain,
    Enter,
    Fd,
    Fill,
    Hole,
    HostFd,
    Look,
    MapPut,
    Open,
    Operand,
    Program,
    Put,
    PutBytes,
    Read,
    Reap,
    Register,
    Setup,
    Shutdown,
    Step,
    Store,
    Together,
    Told,
    Wait,
    Word,
    Write,
    buffer,
    buffer_reg,
    data,
    ext,
    request,
    timespec,
)
from tests.rings.scene import RINGS, Scene
from uring_iopf.abi import (
    AsyncCancelFlags,
    EnterFlags,
    MmapOffset,
    MsgRingFlags,
    NopFlags,
    Op,
    PbufRingFlags,
    PollFlags,
    RegisterOp,
    SetupFlags,
    SqeFlags,
    TimeoutFlags,
    UringCmdFlags,
)

Flag = tuple[str, int]
"""A field of an SQE, and a bit in it."""


def _bits(field: str, flags: Iterable[int]) -> tuple[Flag, ...]:
    return tuple((field, int(flag)) for flag in flags)


_RW: Final = _bits(
    "op_flags", (os.RWF_HIPRI, os.RWF_DSYNC, os.RWF_SYNC, os.RWF_NOWAIT, os.RWF_APPEND, 0x20, 0x40, 0x80, 1 << 20)
)
_MSG: Final = _bits(
    "op_flags",
    (
        socket.MSG_OOB,
        socket.MSG_PEEK,
        socket.MSG_TRUNC,
        socket.MSG_DONTWAIT,
        socket.MSG_WAITALL,
        socket.MSG_NOSIGNAL,
        socket.MSG_MORE,
        socket.MSG_ERRQUEUE,
    ),
)
_SOCKET: Final = (*_bits("ioprio", (1, 2, 4, 16, 1 << 15)), *_MSG)
EVENTS: Final = (0x1, 0x2, 0x4, 0x8, 0x10, 0x2000, 1 << 27, 1 << 30, 1 << 31)
"""POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLRDHUP, EPOLL_URING_WAKE, EPOLLONESHOT, EPOLLET."""

TABLE: Final[dict[Op, tuple[int, tuple[Flag, ...]]]] = {
    Op.NOP: (1, _bits("op_flags", (*NopFlags, 1 << 20))),
    Op.READV: (1, _RW),
    Op.WRITEV: (1, _RW),
    Op.READ_FIXED: (1, _RW),
    Op.WRITE_FIXED: (1, _RW),
    Op.POLL_ADD: (2, (*_bits("len", (*PollFlags, 1 << 20)), *_bits("op_flags", EVENTS))),
    Op.POLL_REMOVE: (1, (*_bits("len", (*PollFlags, 1 << 20)), *_bits("op_flags", EVENTS))),
    Op.TIMEOUT: (1, (*_bits("op_flags", (*TimeoutFlags, 1 << 20)), ("off", 1), ("off", 2))),
    Op.TIMEOUT_REMOVE: (1, _bits("op_flags", (*TimeoutFlags, 1 << 20))),
    Op.ASYNC_CANCEL: (1, _bits("op_flags", (*AsyncCancelFlags, 1 << 20))),
    Op.LINK_TIMEOUT: (0, _bits("op_flags", (*TimeoutFlags, 1 << 20))),
    Op.CLOSE: (0, (("file_index", 1), ("file_index", 2), ("file_index", 1 << 20))),
    Op.FILES_UPDATE: (0, (("off", 1), ("off", 2), ("off", 1 << 20), ("off", 0xFFFFFFFF))),
    Op.READ: (3, _RW),
    Op.WRITE: (1, _RW),
    Op.SEND: (1, _SOCKET),
    Op.RECV: (2, _SOCKET),
    Op.PROVIDE_BUFFERS: (1, (("off", 1 << 15), ("off", 1 << 20))),
    Op.REMOVE_BUFFERS: (1, ()),
    Op.MSG_RING: (1, (*_bits("op_flags", (*MsgRingFlags, 1 << 20)), ("addr", 1), ("addr", 2))),
    Op.URING_CMD: (0, (*_bits("op_flags", (*UringCmdFlags, 1 << 20)), ("off", 0x541B), ("off", 0x5411))),
    Op.READ_MULTISHOT: (1, _RW),
    Op.READV_FIXED: (0, _RW),
    Op.WRITEV_FIXED: (0, _RW),
    Op.NOP128: (0, _bits("op_flags", (*NopFlags, 1 << 20))),
    Op.URING_CMD128: (0, (*_bits("op_flags", (*UringCmdFlags, 1 << 20)), ("off", 0x541B), ("off", 0x5411))),
}
"""What there is: how often it is among what the plain programs draw from, and the flags of its own that it can be asked
for, with some that it cannot."""

OPTIONS: Final = {op: flags for op, (_, flags) in TABLE.items()}
PLAIN: Final = tuple(op for op in sorted(TABLE) for _ in range(TABLE[op][0]))

OPERATIONS: Final = tuple(sorted(OPTIONS))
FILES: Final = (*FILE_KINDS, "ring", "told")
"""Kinds of file: also rings, and the eventfd that a ring signals."""
READS: Final = frozenset({Op.READ, Op.READV, Op.READ_FIXED, Op.READV_FIXED, Op.READ_MULTISHOT, Op.RECV})
WRITES: Final = frozenset({Op.WRITE, Op.WRITEV, Op.WRITE_FIXED, Op.WRITEV_FIXED, Op.SEND})
OF_FILES: Final = READS | WRITES | {Op.POLL_ADD, Op.URING_CMD, Op.URING_CMD128, Op.MSG_RING}
"""Operations on a file."""
SQE_FLAGS: Final = (*(int(flag) for flag in SqeFlags), 0x80)
PAIRS: Final = (
    *((one,) for one in SQE_FLAGS),
    *combinations(SQE_FLAGS, 2),
)
GROUPS: Final = (1, 2, 3, 4, 5, 9)
"""Buffers: in the client's memory, the same bit by bit, classic, in the kernel's, the same bit by bit, and none."""
CLASSIC: Final = 3
NEVER: Final = 1 << 32  # seconds
OTHERS: Final = (
    RegisterOp.UNREGISTER_BUFFERS,
    RegisterOp.UNREGISTER_FILES,
    RegisterOp.UNREGISTER_EVENTFD,
    RegisterOp.REGISTER_PROBE,
    RegisterOp.REGISTER_PERSONALITY,
    RegisterOp.UNREGISTER_PERSONALITY,
    RegisterOp.REGISTER_RESTRICTIONS,
    RegisterOp.REGISTER_ENABLE_RINGS,
    RegisterOp.REGISTER_FILES2,
    RegisterOp.REGISTER_FILES_UPDATE2,
    RegisterOp.REGISTER_BUFFERS2,
    RegisterOp.REGISTER_BUFFERS_UPDATE,
    RegisterOp.REGISTER_IOWQ_AFF,
    RegisterOp.UNREGISTER_IOWQ_AFF,
    RegisterOp.REGISTER_RING_FDS,
    RegisterOp.REGISTER_CLOCK,
    RegisterOp.REGISTER_RESIZE_RINGS,
)
MANY: Final = 21
"""One more than a ring with DEFER_TASKRUN completes at once."""
ENTRIES: Final = 8
SLOTS: Final = 6
LENGTHS: Final = (64, 4, 200, 1, 0, 8, 16, 4096)
MODES: Final = (
    0,
    int(SetupFlags.COOP_TASKRUN),
    int(SetupFlags.COOP_TASKRUN | SetupFlags.TASKRUN_FLAG),
    int(SetupFlags.SINGLE_ISSUER),
    int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN),
    int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN | SetupFlags.TASKRUN_FLAG),
    0,
    int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN),
    0,
    int(SetupFlags.COOP_TASKRUN),
    int(SetupFlags.SQPOLL),
    int(SetupFlags.SINGLE_ISSUER),
    int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN),
    int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN | SetupFlags.TASKRUN_FLAG),
    0,
    int(SetupFlags.SQPOLL | SetupFlags.SINGLE_ISSUER),
)
SHAPES: Final = (
    0,
    int(SetupFlags.SUBMIT_ALL),
    int(SetupFlags.NO_SQARRAY),
    int(SetupFlags.CQE32),
    int(SetupFlags.SQE128),
    int(SetupFlags.CQE_MIXED),
    int(SetupFlags.R_DISABLED),
    int(SetupFlags.CLAMP),
    int(SetupFlags.IOPOLL),
    int(SetupFlags.SQE_MIXED),
)
"""Added to a mode: one or two of them."""
EVERY_SETUP: Final = tuple(int(flag) for flag in SetupFlags)
ASYNC, DRAIN = int(SqeFlags.ASYNC), int(SqeFlags.IO_DRAIN)
LINKS: Final = int(SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK)
_LINKS_ONE_BY_ONE: Final = (int(SqeFlags.IO_LINK), int(SqeFlags.IO_HARDLINK))
SELECT, FIXED = int(SqeFlags.BUFFER_SELECT), int(SqeFlags.FIXED_FILE)
DEFERRED: Final = int(SetupFlags.DEFER_TASKRUN)
POLLED, SUBMIT_ALL = int(SetupFlags.SQPOLL), int(SetupFlags.SUBMIT_ALL)


class Ring:
    """What the maker knows of a ring."""

    def __init__(self, name: str, index: int, flags: int, most: int) -> None:
        self.name, self.index, self.flags, self.most = name, index, flags, most
        self.pending = 0
        self.open = False
        """Whether a chain is."""
        self.worked = False
        """Whether a worker, or a poller, may be at it."""
        self.stuck = False
        """Whether workers may be at anything from now on: something was drained, or a batch ended within a chain."""
        self.looks = True
        """Whether the SQ's flags do not say how far the workers are."""
        self.unordered = ""
        self.crowd = 0
        """How many more times its completions must be taken in the end, as there are more than it holds."""
        self.given = dict.fromkeys(GROUPS, 0)

    def page(self, group: int) -> At:
        return At(BUFFER_RINGS + 4096 * (8 * self.index + group))


class Wide:
    """Reads bytes as a program."""

    def __init__(self, header: bytes) -> None:
        self.steps: list[Step] = [PutBytes(data(0), bytes(range(64)))]
        self.user_data = 0
        mode, shape, first, second, more, sizes, *_ = header
        if "file" in (FILES[first % len(FILES)], FILES[second % len(FILES)]):
            sizes &= 0x7F  # what is known of regular files would hide what is of a CQ for both sizes that is full
        self.rings = [self._ring("ring", self._flags(mode, shape), sizes)]
        if more & 9 == 9:
            self.rings.append(self._ring("second", self._flags(mode >> 4 & 7, more >> 4), 0))
        self.names: list[tuple[str, str]] = []  # of a file, and its kind
        self._file("a", FILES[first % len(FILES)], first)
        if more & 2:
            self._file("b", FILES[second % len(FILES)], second)
        self.eventfd = "told" in dict(self.names)
        self.ends = [name + end for name, kind in self.names for end in FILE_KINDS.get(kind, ("",))]
        if more & 4:
            self._register()

    @staticmethod
    def _flags(mode: int, shape: int) -> int:
        flags = SHAPES[shape % len(SHAPES)] | SHAPES[shape // len(SHAPES) % len(SHAPES)]
        return flags if flags & SetupFlags.IOPOLL else flags | MODES[mode % len(MODES)]

    def _ring(self, name: str, flags: int, sizes: int) -> Ring:
        entries = (16, 8, 4)[sizes % 3]
        small = bool(sizes & 0x80)
        if small:
            flags |= CQSIZE
        self.steps.append(Setup(name, entries, flags, entries if small else 0, sq_thread_idle=1))
        if flags & SetupFlags.R_DISABLED:
            self.steps.append(Register(RegisterOp.REGISTER_ENABLE_RINGS, 0, 0, name))
        ring = Ring(name, 0 if name == "ring" else 1, flags, entries)
        if flags & POLLED:
            ring.unordered = "the ring's thread takes what there is, when it likes"
        return ring

    def _file(self, name: str, kind: str, byte: int) -> None:
        how = byte // len(FILES)
        if kind == "ring":
            name = self.rings[how % len(self.rings)].name
        elif kind == "told":
            name = "told"
            if (name, kind) in self.names:
                return
            self.steps.append(Open(name, "eventfd", nonblock=True))
            of = self.rings[how % len(self.rings)].name
            op = RegisterOp.REGISTER_EVENTFD_ASYNC if how & 2 else RegisterOp.REGISTER_EVENTFD
            self.steps.append(Register(op, Blob("i", (HostFd(name),)), 1, of))
        else:
            size = 4096 if kind in ("pipe", "packet") else how >> 1 & 1
            self.steps.append(Open(name, kind, nonblock=bool(how & 1), value=size, semaphore=bool(how & 4)))
        self.names.append((name, kind))

    def _register(self) -> None:
        fds: list[Operand] = [-1] * SLOTS
        for slot, name in enumerate([name for name in self.ends if name not in ("ring", "second")][: SLOTS - 1]):
            fds[slot] = Fd(name)
        buffers = Blob("4Q", (data(40), 64, data(41), 4096))
        for ring in self.rings:
            self.steps.append(Register(RegisterOp.REGISTER_FILES, Blob(f"{SLOTS}i", tuple(fds)), SLOTS, ring.name))
            self.steps.append(Register(RegisterOp.REGISTER_BUFFERS, buffers, 2, ring.name))
            for group in GROUPS[:-1]:
                self._group(ring, group)
                self._give(ring, group, 4, 0)

    # ---- buffers ----

    def _group(self, ring: Ring, group: int) -> None:
        if group == CLASSIC:
            return
        flags = (PbufRingFlags.MMAP if group > CLASSIC else 0) | (PbufRingFlags.INC if group in (2, 5) else 0)
        reg = buffer_reg(group, ENTRIES, 0 if group > CLASSIC else ring.page(group), int(flags))
        self.steps.append(Register(RegisterOp.REGISTER_PBUF_RING, reg, 1, ring.name))
        ring.given[group] = 0

    def _give(self, ring: Ring, group: int, count: int, length: int) -> None:
        """Buffers into a group: each number is that of one place."""
        if group == CLASSIC:
            fields: dict[str, Operand] = {"fd": count, "addr": buffer(24), "len": 64, "buf_group": group, "off": 24}
            self.push(ring, Op.PROVIDE_BUFFERS, fields, 0)
            self.enter(ring)
            return
        for n in range(count):
            given = ring.given[group]
            bid = 96 * ring.index + 8 * group + given % 8
            at, values = 16 * (given % ENTRIES), (buffer(bid), LENGTHS[(length + n) % 4], bid)
            self._store(ring, group, at, "QIH", values)
            ring.given[group] += 1
        self._store(ring, group, 14, "H", (ring.given[group] & 0xFFFF,))

    def _store(self, ring: Ring, group: int, at: int, form: str, values: tuple[Operand, ...]) -> None:
        if group > CLASSIC:
            self.steps.append(MapPut(MmapOffset.PBUF_RING | group << 16, at, form, values, 4096, ring.name))
        else:
            self.steps.append(Put(ring.page(group) + at, form, values))

    # ---- SQEs ----

    def number(self) -> int:
        self.user_data += 1
        return self.user_data

    def target(self, byte: int) -> int:
        """One of the last requests, or none that there is."""
        return max(self.user_data - byte % 8, 0)

    def push(self, ring: Ring, opcode: int, fields: dict[str, Operand], flags: int) -> None:
        self.steps.append(request(opcode, {"user_data": self.number(), "flags": flags, **fields}, ring.name))
        ring.pending += 1
        ring.open = bool(flags & LINKS)
        ring.stuck |= bool(flags & DRAIN) or (bool(flags & (LINKS | ASYNC)) and not ring.flags & SUBMIT_ALL)
        if ring.stuck or flags & (ASYNC | DRAIN):
            self._worker(ring)
        # The thread that polls a ring may take a chain in parts: each is one that stays open.
        if ring.pending >= ring.most or (ring.worked and not ring.open) or (ring.open and ring.flags & POLLED):
            self.enter(ring)

    @staticmethod
    def _worker(ring: Ring) -> None:
        ring.worked = True
        ring.looks &= not ring.flags & SetupFlags.TASKRUN_FLAG
        ring.unordered = "a worker of the kernel starts it"

    def sqe(self, ring: Ring, b: bytes) -> None:
        """One SQE by what the bytes say."""
        opcode, flags = OPERATIONS[b[1] % len(OPERATIONS)], 0
        if b[2] >= 128:
            for one in PAIRS[(b[2] - 128) % len(PAIRS)]:
                flags |= one
        fields: dict[str, Operand] = {}
        options = OPTIONS[opcode]
        if opcode in OF_FILES:
            fields["fd"] = Fd(self.ends[b[3] % len(self.ends)])
            if flags & FIXED:
                fields["fd"] = b[3] % (SLOTS + 1)
        length, place = LENGTHS[b[6] % len(LENGTHS)], data(1 + (self.user_data + 1) % 31)
        where: Operand = (place, place, place, data(40), data(41), Hole(), KERNEL, 0)[b[5] % 8]
        if opcode in READS | WRITES:
            if opcode in WRITES and where == place:
                where = data(0)
            fields |= {"addr": where, "len": length}
            if opcode in (Op.READV, Op.WRITEV, Op.READV_FIXED, Op.WRITEV_FIXED):
                fields |= {"addr": Blob("4Q", (where, length, data(33), b[7] % 16)), "len": 1 + (b[7] >> 4) % 2}
            if opcode in (Op.READ_FIXED, Op.WRITE_FIXED, Op.READV_FIXED, Op.WRITEV_FIXED):
                fields["buf_group"] = b[7] % 3
            if opcode is Op.READ_MULTISHOT:
                flags |= SELECT
            if flags & SELECT:
                fields |= {"buf_group": GROUPS[b[7] % len(GROUPS)], "addr": 0}
                if opcode is Op.READ_MULTISHOT:
                    fields["len"] = 0
        elif opcode is Op.POLL_ADD:
            fields["op_flags"] = (1, 4, 5)[b[5] % 3]
        elif opcode in (Op.POLL_REMOVE, Op.TIMEOUT_REMOVE):
            fields |= {"addr": self.target(b[5]), "off": 0}
        elif opcode is Op.ASYNC_CANCEL:
            fields |= {"addr": self.target(b[5])}
        elif opcode in (Op.TIMEOUT, Op.LINK_TIMEOUT):
            fields |= {"addr": timespec(NEVER), "len": 1}
        elif opcode in (Op.PROVIDE_BUFFERS, Op.REMOVE_BUFFERS):
            fields |= {"fd": 1 + b[5] % 3, "buf_group": GROUPS[2 + b[7] % 4]}
            if opcode is Op.PROVIDE_BUFFERS:
                fields |= {"addr": buffer(24), "len": 64, "off": 24}
        elif opcode is Op.MSG_RING:
            fields |= {"off": 1000 + self.user_data, "len": b[6]}
            if b[5] & 1 and not flags & FIXED:
                fields["fd"] = Fd(self.rings[b[3] % len(self.rings)].name)
        elif opcode is Op.FILES_UPDATE:
            fields |= {"addr": Blob("2i", (Fd(self.ends[b[3] % len(self.ends)]), -1)), "len": 1 + b[5] % 2}
        elif opcode is Op.CLOSE:
            fields |= {"file_index": 1 + b[5] % (SLOTS + 1)}
        elif opcode in (Op.NOP, Op.NOP128):
            fields |= {
                "fd": Fd(self.ends[b[3] % len(self.ends)]) if b[5] & 1 else -1,
                "len": b[6],
                "buf_group": b[7] % 3,
            }
        if opcode is Op.ASYNC_CANCEL and ring.stuck:
            options, fields["addr"] = (), 0  # what workers have been given may have begun by then, or not
        elif opcode is Op.ASYNC_CANCEL:
            fields["fd"] = Fd(self.ends[b[3] % len(self.ends)])
            fields["len"] = int(OPERATIONS[b[6] % len(OPERATIONS)])
        if b[4] >= 96 and options:
            number = b[4] - 96 + 160 * b[8]
            chosen = [options[number % len(options)]]
            if b[4] >= 192:
                chosen.append(options[number // len(options) % len(options)])
            for field, bit in chosen:
                before = fields.get(field, 0)
                if isinstance(before, int):
                    fields[field] = before | bit
        op_flags = fields.get("op_flags", 0)
        if opcode in (Op.NOP, Op.NOP128) and (flags & FIXED or (isinstance(op_flags, int) and op_flags & 4)):
            fields["fd"] = b[3] % (SLOTS + 1)  # a slot, where descriptors would be any number
        self.push(ring, int(opcode), fields, flags)

    # ---- other actions ----

    def enter(self, ring: Ring, how: int = 0, a: int = 0) -> None:
        if ring.open or ring.stuck:
            self._worker(ring)
        pending, ring.pending, ring.open = ring.pending, 0, False
        name, worked, ring.worked = ring.name, ring.worked, False
        if ring.flags & POLLED:
            self.steps.append(Enter(pending, 0, int(EnterFlags.SQ_WAKEUP), ring=name))
            worked = True
        elif how % 8 == 7:
            self.steps.append(Enter(-1, 0, GETEVENTS, ring=name, thread=1, look=ring.looks and not worked))
            if ring.flags & SetupFlags.SINGLE_ISSUER:  # refused
                self.steps.append(Enter(-1, 0, GETEVENTS, ring=name, look=ring.looks and not worked))
        elif how % 8 == 6 and not worked:
            ns = (1, 100_000, 1_000_000)[a % 3]
            arg = ext(0, ns, (0, 0, 100)[a % 3])
            self.steps.append(Enter(-1, 1 + a % 4, GETEVENTS | EXT_ARG, arg, 24, name, look=ring.looks))
        else:
            self.steps.append(Enter(-1, 0, 0 if how % 8 == 5 else GETEVENTS, ring=name, look=ring.looks and not worked))
        if worked:
            self.steps.append(Wait(-1, name))

    def reap(self, ring: Ring, how: int) -> None:
        if ring.flags & POLLED:
            self.enter(ring)  # what has been done outside has called its thread
        most = 1 << 16 if ring.unordered else (1 << 16, 1 << 16, 1, 2)[how % 4]
        self.steps.append(Reap(most, ring.name, not ring.unordered, ring.unordered))
        if not ring.flags & POLLED:
            ring.unordered = ""

    def outside(self, b: bytes) -> None:
        """The process does something to a file. What the thread that polls a ring may take is taken before."""
        for ring in self.rings:
            if ring.flags & POLLED and ring.pending and not ring.open:
                self.enter(ring)
        name = self.ends[b[1] % len(self.ends)]
        what = b[2] % 8
        told = bytes([1 + b[3] % 4, *bytes(7)])
        kind = dict(self.names).get(name.partition(".")[0], "")
        counts = kind in ("eventfd", "timerfd", "told", "epoll", "ring")
        content = told if counts else bytes(range(1 + LENGTHS[b[3] % 4]))
        if what < 3:
            self.steps.append(Write(name, content))
        elif what == 3:
            self.steps.append(Read(name, (4096, 8, 64)[b[3] % 3]))
        elif what == 4 and kind in ("stream", "seqpacket", "tcp", "dgram"):
            self.steps.append(Shutdown(name, b[3] % 3))
        elif what == 5 and not counts:
            self.steps.append(Close(name))
        elif what == 6 and kind in ("pipe", "stream", "fifo", "seqpacket"):
            self.steps.append(Fill(name) if b[3] & 1 else Drain(name))
        elif kind in ("pipe", "stream", "fifo", "seqpacket", "packet") and not name.endswith(".r"):
            self.steps.append(Together((Write(name, content), Close(name))))
        else:
            self.steps.append(Write(name, content))

    def register(self, ring: Ring, b: bytes) -> None:
        what = b[1] % 12
        group = GROUPS[b[2] % 5]
        if what < 4:
            self._group(ring, group)
            self._give(ring, group, 1 + b[3] % 3, b[4])
        elif what == 4:
            self.steps.append(Register(RegisterOp.UNREGISTER_PBUF_RING, buffer_reg(group, 0, 0), 1, ring.name))
        elif what == 5:
            status = Blob("2I8I", (group, 0, *(0,) * 8))
            self.steps.append(Register(RegisterOp.REGISTER_PBUF_STATUS, status, 1, ring.name, look=True))
        elif what == 6:
            flags = (0, 1, 2, 4, 16, 32)[b[3] % 6]
            end = self.ends[b[4] % len(self.ends)]
            reg = Blob("QiIqqB7B3Q", (self.target(b[2]), Fd(end), flags, -1, -1, 0, *(0,) * 10))
            self.steps.append(Register(RegisterOp.REGISTER_SYNC_CANCEL, reg, 1, ring.name))
        elif what == 7:
            update = Blob("IIQ", (b[2] % (SLOTS + 1), 0, Blob("i", (Fd(self.ends[b[3] % len(self.ends)]),))))
            self.steps.append(Register(RegisterOp.REGISTER_FILES_UPDATE, update, 1, ring.name))
        elif what == 8:
            reach = Blob("IIQ", (b[2] % SLOTS, 1 + b[3] % SLOTS, 0))
            self.steps.append(Register(RegisterOp.REGISTER_FILE_ALLOC_RANGE, reach, 0, ring.name))
        elif what == 9:
            source = self.rings[b[2] % len(self.rings)].name
            flags = b[3] % 4  # 1: by its place among the registered rings, where a descriptor would be any number
            clone = Blob(
                "iIIIII2I", (b[2] % 18 if flags & 1 else Fd(source), flags, b[4] % 3, b[5] % 3, b[6] % 3, 0, 0, 0)
            )
            self.steps.append(Register(RegisterOp.REGISTER_CLONE_BUFFERS, clone, 1, ring.name))
        elif what == 10:
            self.steps.append(Store("cq_flags", b[2] & 1, ring.name))
        else:
            pair = PAIRS_OF_SETUP[(b[2] | b[3] << 8) % len(PAIRS_OF_SETUP)]
            self.steps.append(Setup("extra", 1 + b[4] % 8, pair[0] | pair[1], b[4] % 8, sq_thread_idle=1, wq_fd=-1))

    def other(self, ring: Ring, b: bytes) -> None:
        """A call of io_uring_register that the rings' page lists, and `register` does not make."""
        op = OTHERS[b[2] % len(OTHERS)]
        fds, buffers = (
            Blob("2i", (Fd(self.ends[b[3] % len(self.ends)]), -1)),
            Blob("4Q", (data(40), 64, data(41), 4096)),
        )
        no_tags = Blob("2Q", (0, 0))
        arg: Operand = 0
        nr = 0
        if op in (RegisterOp.REGISTER_FILES2, RegisterOp.REGISTER_BUFFERS2):
            sparse = b[4] & 1
            what = fds if op == RegisterOp.REGISTER_FILES2 else buffers
            arg, nr = Blob("IIQQQ", (2, sparse, 0, 0 if sparse else what, 0 if sparse else no_tags)), 32
        elif op in (RegisterOp.REGISTER_FILES_UPDATE2, RegisterOp.REGISTER_BUFFERS_UPDATE):
            what = fds if op == RegisterOp.REGISTER_FILES_UPDATE2 else buffers
            arg, nr = Blob("IIQQII", (b[4] % 3, 0, what, no_tags, 1 + b[4] % 2, 0)), 32
        elif op == RegisterOp.REGISTER_PROBE:
            arg, nr = Blob("16B256Q", (0,) * 272), 256  # what it says is in the table
        elif op == RegisterOp.UNREGISTER_PERSONALITY:
            nr = b[3] % 3
        elif op == RegisterOp.REGISTER_RESTRICTIONS:
            arg, nr = Blob("HBB3I", (0, 0, 0, 0, 0, 0)), 1
        elif op == RegisterOp.REGISTER_IOWQ_AFF:
            arg, nr = Blob("Q", (1,)), 8
        elif op == RegisterOp.REGISTER_CLOCK:
            arg = Blob("4I", ((1, 7, 2, 1)[b[3] % 4], 0, 0, 0))
        elif op == RegisterOp.REGISTER_RESIZE_RINGS:
            self.enter(ring)
            arg, nr = Blob("30I", (32, 64, CQSIZE, *(0,) * 27)), 1
        elif op == RegisterOp.REGISTER_RING_FDS:
            place, none = Blob("IIQ", (0xFFFFFFFF, 0, Fd(ring.name))), Blob("IIQ", (0, 0, 0))
            by_place = Enter(0, 0, int(EnterFlags.REGISTERED_RING) | GETEVENTS, ring=ring.name, fd=0, look=False)
            self.steps += [Register(op, place, 1, ring.name), by_place]
            op, arg, nr = RegisterOp.UNREGISTER_RING_FDS, none, 1
        self.steps.append(Register(op, arg, nr, ring.name))

    def enter_otherwise(self, ring: Ring, b: bytes) -> None:
        """With other flags of io_uring_enter; what they are for is not there, or over."""
        self.enter(ring)
        if ring.flags & POLLED:
            self.steps.append(Enter(0, 0, int(EnterFlags.SQ_WAKEUP | EnterFlags.SQ_WAIT), ring=ring.name))
            return
        kind = b[2] % 5
        arg: Operand = 0
        flags, least, size = (EnterFlags.SQ_WAKEUP, EnterFlags.SQ_WAIT, EnterFlags.NO_IOWAIT)[kind % 3], 0, 0
        if kind == 3:  # a time that is over
            flags, least, arg, size = EnterFlags.EXT_ARG | EnterFlags.ABS_TIMER, 1, ext(0, 1), 24
        elif kind == 4:  # of a region that is not registered
            flags, size = EnterFlags.EXT_ARG | EnterFlags.EXT_ARG_REG, 64
        look = ring.looks and not ring.worked
        self.steps.append(Enter(0, least, int(flags) | GETEVENTS, arg, size, ring.name, look=look))

    def many(self, ring: Ring, b: bytes) -> None:
        """More completions that are put off than one turn posts."""
        self.enter(ring)
        ring.crowd += 9 if ring.flags & CQSIZE else 2
        for n in range(MANY + b[3] % 12):
            fields: dict[str, Operand] = {"fd": -1, "op_flags": int(NopFlags.TW), "user_data": self.number()}
            self.steps.append(request(Op.NOP, fields, ring.name))
            if n % ring.most == ring.most - 1:
                self.steps.append(Enter(-1, 0, 0, ring=ring.name, look=ring.looks and not ring.worked))
        self.enter(ring, b[4] & 7, b[5])
        self.reap(ring, b[6])
        self.enter(ring)

    def behind_a_chain(self, ring: Ring, b: bytes) -> None:
        """A poll again and again of what is ready, behind a chain of the same call: that completes while it runs."""
        self.enter(ring)
        if ring.flags & POLLED or ring.stuck:
            return  # another thread says when
        for _ in range(b[3] % 3):
            self.steps.append(request(Op.NOP, {"fd": -1, "user_data": self.number()}, ring.name))
        self.enter(ring, b[4] & 7, b[5])
        asked: list[dict[str, Operand]] = [
            {"flags": (0, *_LINKS_ONE_BY_ONE)[b[6] % 3], "op_flags": int(NopFlags.TW)},
            {},
        ]
        targets = [one.name for one in self.rings] + ["told"] * (self.eventfd and not ring.flags & DEFERRED)
        asked.append(
            {"fd": Fd(targets[b[7] % len(targets)]), "op_flags": (1, 5)[b[8] & 1], "len": int(PollFlags.ADD_MULTI)}
        )
        if ring.most > 4:
            asked += [{}] * (b[8] >> 1 & 3)
        for fields in asked:
            op = Op.POLL_ADD if "len" in fields else Op.NOP
            self.steps.append(request(op, {"fd": -1, "user_data": self.number(), **fields}, ring.name))
        self.enter(ring, 5)
        self.reap(ring, 0)

    def scene(self, b: bytes) -> None:
        """Several steps with a ring of their own. What the threads that poll the others may take is taken before."""
        for ring in self.rings:
            if ring.flags & POLLED and ring.pending:
                self.enter(ring)
        there = [one for one in self.steps if isinstance(one, Setup) and one.ring not in RINGS]
        lazy = all(one.flags & (DEFERRED | POLLED) for one in there)
        self.steps += scenes.play(Scene(self.number, lazy), bytes([b[2] >> 1]) + b[3:])

    def act(self, b: bytes) -> None:
        """One action."""
        ring = self.rings[b[9] % len(self.rings)]
        kind = b[0] % 16
        if kind < 8:
            self.sqe(ring, b)
        elif kind < 10:
            self.enter(ring, b[1], b[2])
        elif kind == 10:
            self.reap(ring, b[1])
        elif kind < 14:
            self.outside(b)
        elif kind == 14:
            self.register(ring, b)
        elif b[1] % 8 == 5:
            self.other(ring, b)
        elif b[1] % 8 == 6:
            self.enter_otherwise(ring, b)
        elif b[1] % 8 == 7:
            self.many(ring, b)
        elif b[1] % 8 == 4 and b[2] & 1:
            self.behind_a_chain(ring, b)
        elif b[1] % 8 == 4:
            self.scene(b)
        elif self.eventfd:
            self.steps.append(Told("told"))
        else:
            self.enter(ring)
            self.reap(ring, 0)

    def finish(self) -> Program:
        """All is submitted and taken; then look at the memory."""
        for ring in self.rings:
            for _ in range(2 + ring.crowd):
                self.enter(ring)
                self.reap(ring, 0)
            words = (
                "cq_overflow",
                "sq_dropped",
                "cq_flags",
                *(() if ring.flags & POLLED or not ring.looks else ("sq_flags",)),
            )
            self.steps += [Word(name, ring.name) for name in words]
        self.steps += [Read(name) for name in self.ends if name not in ("ring", "second", "told")]
        self.steps += [Look(At(DATA), 43 * 4096), Look(At(BUFFERS), 252 * 1024)]
        return Program(tuple(self.steps))


PAIRS_OF_SETUP: Final = tuple(combinations(EVERY_SETUP, 2))
