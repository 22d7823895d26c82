"""Programs that nobody thought of: bytes are read as what a client does.

A program is made of a header and of actions, twelve bytes each; a byte of 0 is always the plain choice. Whoever draws
the bytes can leave actions out and make bytes smaller, and gets a simpler program. Half of the programs are of few
kinds, with much of each at a time: they are here. The others ask for everything: they are in `tests.rings.wide`.

What is left out, so that the outcome is Linux's to define and not that of a race:

- IOSQE_ASYNC, blocking eventfds that are written to, chains that the end of a call leaves open: a worker thread of the
  kernel runs these, and another order is as good.
- IO_DRAIN but where all that is drained are NOPs, and completions are waited for and compared as a set: the same.
- Two rings that wait for one end of one file: which of them is woken first is up to the wait queue.
- Numbers of requests are used once, and whoever cancels several of them has room in the CQ: which is found first is up
  to a hash table.
- Messages and counted time-outs in a CQ that overflows: their place among a batch's other completions, which Linux
  posts together, says which of them are kept back.
- Times are an hour, and never come, or a millisecond, for which the program waits with nothing else to come.
- More SQEs than the ring holds, and waits for what cannot come.
"""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    BUFFER_RINGS,
    BUFFERS,
    CQSIZE,
    DATA,
    EXT_ARG,
    GETEVENTS,
    KERNEL,
    MS,
    At,
    Blob,
    Close,
    Enter,
    Fd,
    Fill,
    Hole,
    HostFd,
    Look,
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
from tests.rings.wide import PLAIN, Wide
from uring_iopf.abi import Op, RegisterOp, SetupFlags, SqeFlags

FIXED, DRAIN, LINK = int(SqeFlags.FIXED_FILE), int(SqeFlags.IO_DRAIN), int(SqeFlags.IO_LINK)
HARD, SELECT, SKIP = int(SqeFlags.IO_HARDLINK), int(SqeFlags.BUFFER_SELECT), int(SqeFlags.CQE_SKIP_SUCCESS)
SUBMIT_ALL, NO_SQARRAY = int(SetupFlags.SUBMIT_ALL), int(SetupFlags.NO_SQARRAY)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
KINDS: Final = (
    0,
    DEFER,
    int(SetupFlags.COOP_TASKRUN),
    int(SetupFlags.COOP_TASKRUN | SetupFlags.TASKRUN_FLAG),
    int(SetupFlags.SINGLE_ISSUER),
    NO_SQARRAY,
    int(SetupFlags.CQE32),
    int(SetupFlags.SQE128),
)
SLOTS: Final = 4  # registered files
GROUPS: Final = (1, 2, 3, 9)  # a ring, a ring that is used bit by bit, classic buffers, and none
CLASSIC: Final = 3
ENTRIES: Final = 8
LENGTHS: Final = (64, 4, 200, 1, 0)
TWEAKS: Final[tuple[tuple[str, tuple[Operand, ...]], ...]] = (
    ("ioprio", (1, 2, 0x8000, 0x2001)),
    ("off", (1, (1 << 64) - 1, 1 << 63, 5)),
    ("addr", (0, Hole(), KERNEL, Hole(8))),
    ("len", (0, 1, 7, 8)),
    ("op_flags", (1, 2, 8, 1 << 31)),
    ("buf_group", (1, 2, 3, 9)),
    ("personality", (1, 1, 1, 1)),
    ("file_index", (1, 2, 3, 0xFFFFFFFF)),
    ("addr3", (1, 1, 1, 1)),
    ("pad2", (1, 1, 1, 1)),
    ("fd", (-1, 9999, -2, -1)),
)
UNTWEAKED: Final = frozenset(
    {
        (int(Op.TIMEOUT), "addr"),  # a time that cannot be read is in the table; others might come
        (int(Op.TIMEOUT), "off"),
        (int(Op.READV), "len"),  # what is behind the vector is somebody else's
        (int(Op.WRITEV), "len"),
        (int(Op.MSG_RING), "off"),  # numbers of completions are used once
        (int(Op.RECV), "ioprio"),  # who polls first is between two states, and may be cancelled or not
        (int(Op.RECV), "file_index"),  # a limit, of which Linux takes the largest for a negative one
        (int(Op.SEND), "ioprio"),
        (int(Op.SEND), "off"),  # an address to send to, of a socket that has none
        (int(Op.SEND), "file_index"),
    }
)
UNSUPPORTED_FLAG: Final = 0x80


class Ring:
    """What the maker knows of a ring."""

    def __init__(self, name: str, index: int, flags: int, most: int) -> None:
        self.name, self.index, self.flags = name, index, flags
        self.most = most
        """SQEs between two calls."""
        self.pending = 0
        self.open_chain = False
        self.readable: list[str] = []
        self.writable: list[str] = []
        self.given = {1: 0, 2: 0}
        self.registered: set[int] = set()
        self.unordered = ""

    def page(self, group: int) -> At:
        return At(BUFFER_RINGS + 4096 * (4 * self.index + group))


class Maker:
    """Reads bytes as a program."""

    def __init__(self, header: bytes) -> None:
        self.steps: list[Step] = [PutBytes(data(0), bytes(range(64)))]
        shape, kind, kind2, files, more, *_ = header
        self.tight = shape % 4 == 3
        self.drains = shape % 8 == 2
        self.drained = False
        self.user_data = 0
        flags = KINDS[kind % len(KINDS)]
        if self.tight:
            entries = 2 << (shape >> 2) % 2
            self.rings = [self._ring("ring", flags | SUBMIT_ALL, entries, entries)]
        else:
            self.rings = [self._ring("ring", flags | (shape >> 3 & 1) * SUBMIT_ALL, 64, 0)]
            if more & 1:
                self.rings.append(self._ring("second", KINDS[kind2 % len(KINDS)] | SUBMIT_ALL, 8, 0))
        self._files(files, more)
        self.fixed_files = self.fixed_buffers = False
        if more & 2:
            self._register_files()
        if more & 4:
            self._register_buffers()
        self.eventfd = bool(more & 8) and not self.drains  # how often it is told is up to the workers
        if self.eventfd:
            self.steps.append(Open("told", "eventfd", nonblock=True))
            self.steps.append(Register(RegisterOp.REGISTER_EVENTFD, Blob("i", (HostFd("told"),)), 1))

    def _ring(self, name: str, flags: int, entries: int, cq_entries: int) -> Ring:
        index = 0 if name == "ring" else 1
        if self.drains:
            flags &= ~SetupFlags.TASKRUN_FLAG  # it would say how far the workers are
        self.steps.append(Setup(name, entries, flags | (CQSIZE if cq_entries else 0), cq_entries))
        return Ring(name, index, flags, min(entries, 6))

    def _files(self, files: int, more: int) -> None:
        """Up to three files; each end is one ring's."""
        kinds = ("pipe", "stream", "eventfd", "seqpacket")
        names = ["a", "b", "c"][: 1 + files % 3]
        for n, name in enumerate(names):
            ring = self.rings[n % len(self.rings)]
            kind = kinds[(files >> 2 + 2 * n) % 4]
            if kind == "eventfd":
                nonblock = bool(more >> 4 + n & 1)
                self.steps.append(Open(name, kind, nonblock=nonblock, value=more >> 7))
                ring.readable.append(name)
                if nonblock:
                    ring.writable.append(name)
            elif kind == "pipe":
                self.steps.append(Open(name, kind, nonblock=more >> 4 + n & 3 == 3, value=4096))
                ring.readable.append(f"{name}.r")
                ring.writable.append(f"{name}.w")
                if more >> 5 & 3 == 2:
                    self.steps.append(Fill(f"{name}.w"))
            else:
                self.steps.append(Open(name, kind))
                ring.readable.append(f"{name}.a")
                ring.writable.append(f"{name}.a")
        self.outside = {"pipe": ".w", "stream": ".b", "seqpacket": ".b", "eventfd": ""}
        self.kinds = {name: kinds[(files >> 2 + 2 * n) % 4] for n, name in enumerate(names)}
        self.names = names

    def _register_files(self) -> None:
        fds: list[Operand] = []
        fds += [Fd(name) for ring in self.rings for name in self._slots(ring)][: SLOTS - 1]
        fds += [-1] * (SLOTS - len(fds))
        self.steps += [Register(RegisterOp.REGISTER_FILES, Blob("4i", tuple(fds)), SLOTS, r.name) for r in self.rings]
        self.fixed_files = True

    @staticmethod
    def _slots(ring: Ring) -> list[str]:
        """What may be in a slot: anything may then be asked of it, so not what a worker would have to write to."""
        return [name for name in ring.readable + ring.writable if "." in name or name in ring.writable]

    def _register_buffers(self) -> None:
        blob = Blob("4Q", (data(40), 64, data(41), 4096))
        self.steps += [Register(RegisterOp.REGISTER_BUFFERS, blob, 2, ring.name) for ring in self.rings]
        self.fixed_buffers = True

    # ---- SQEs ----

    def number(self) -> int:
        self.user_data += 1
        return self.user_data

    def target(self, byte: int) -> int:
        """One of the last requests, or none that there is."""
        return max(self.user_data - byte % 12, 0)

    def push(self, ring: Ring, opcode: int, fields: dict[str, Operand], how: int, tweak: bytes) -> None:
        """One SQE, with the flags that *how* chooses, and now and then with something in a field that is of no use."""
        if ring.pending + 2 > ring.most and not (ring.pending < ring.most and how & 3 != 3):
            self.enter(ring, 0, 0)
        flags = int(fields.pop("flags", 0))  # type: ignore[arg-type]
        if ring.pending + 1 < ring.most:
            flags |= (0, 0, 0, LINK, 0, LINK, 0, HARD)[how & 7]
        if how >> 3 & 7 == 7:
            flags |= SKIP
        if tweak[0] >= 236:
            name, values = TWEAKS[tweak[1] % len(TWEAKS)]
            if (opcode, name) not in UNTWEAKED:
                fields[name] = values[tweak[1] // len(TWEAKS) % 4]
        elif tweak[0] >= 230:
            flags |= UNSUPPORTED_FLAG
        elif tweak[0] >= 226:
            opcode = 200 + tweak[1] % 50
        self.steps.append(request(opcode, {"user_data": self.number(), "flags": flags, **fields}, ring.name))
        ring.pending += 1
        ring.open_chain = bool(flags & (LINK | HARD))

    def _select(self, fields: dict[str, Operand], byte: int) -> None:
        fields["flags"] = int(fields.get("flags", 0)) | SELECT  # type: ignore[arg-type]
        fields["buf_group"] = GROUPS[byte % 4]
        fields.pop("addr", None)

    def _file(self, ring: Ring, names: list[str], byte: int) -> dict[str, Operand] | None:
        if self.fixed_files and byte & 0x80:
            return {"fd": byte % (SLOTS + 1), "flags": FIXED}
        return {"fd": Fd(names[byte % len(names)])} if names else None

    def sqe(self, ring: Ring, b: bytes) -> None:
        """One SQE by what the bytes say."""
        kind, which, how, a, c = b[1], b[2], b[3], b[4], b[5]
        tweak = b[6:8]
        fields: dict[str, Operand] | None = {}
        chosen = PLAIN[kind % len(PLAIN)]
        if self.drains and chosen is not Op.NOP:
            chosen = Op.READ if chosen in (Op.READ, Op.POLL_ADD, Op.TIMEOUT) and not self.drained else Op.NOP
        if self.tight and chosen in (Op.MSG_RING, Op.TIMEOUT):
            chosen = Op.NOP
        length = LENGTHS[a % len(LENGTHS)]
        here = data(1 + (self.user_data + 1) % 31)
        if chosen is Op.NOP:
            fields = {"fd": -1}
            if a >= 128:
                fields |= {"op_flags": 1, "len": (0, 5, -5, -125)[a & 3] & 0xFFFFFFFF}
            if self.drains and c & 1:
                fields["flags"] = DRAIN
                how &= ~0x38
                self.drained = True
        elif chosen in (Op.READ, Op.READ_MULTISHOT, Op.READV, Op.READ_FIXED):
            fields = self._file(ring, ring.readable, which)
            if self.drains:
                how = 0  # in a chain with a drain it would be a worker's
            if fields is not None:
                self._read(fields, chosen, c, length, here)
        elif chosen in (Op.WRITE, Op.WRITEV, Op.WRITE_FIXED):
            fields = self._file(ring, ring.writable, which)
            if fields is not None:
                length = length or 8
                fields |= {"addr": data(0), "len": length}
                if chosen is Op.WRITEV:
                    fields |= {"addr": Blob("4Q", (data(0), length, data(0) + 8, c % 16)), "len": 1 + c % 2}
                elif chosen is Op.WRITE_FIXED:
                    fields |= {"addr": data(40 + c % 2), "buf_group": (c >> 1) % 3}
        elif chosen in (Op.RECV, Op.SEND):
            fields = self._socket(ring, which, chosen, c, length, here)
        elif chosen is Op.POLL_ADD:
            fields = self._file(ring, ring.readable + ring.writable, which)
            if fields is not None:
                fields |= {"op_flags": (1, 4, 5, 0, 0x2000)[a % 5], "len": c & 1}
        elif chosen is Op.POLL_REMOVE:
            fields = {"addr": self.target(a)}
            if c & 1:
                fields |= {"len": 2 | c & 1, "op_flags": (1, 4, 5)[c % 3]}
        elif chosen is Op.ASYNC_CANCEL:
            fields = self._cancel(ring, which, a, c)
        elif chosen is Op.TIMEOUT:
            flags = (0, 0, 32, 4)[c & 3]
            fields = {"addr": timespec(3600), "len": 1, "off": a % 4, "op_flags": flags}
        elif chosen is Op.TIMEOUT_REMOVE:
            fields = {"addr": self.target(a)}
            if c & 1:
                fields |= {"op_flags": 2, "off": timespec(7200)}
        elif chosen is Op.PROVIDE_BUFFERS:
            fields = {"fd": 1 + c % 3, "off": 32 + a % 16, "addr": buffer(32 + a % 16), "len": 64, "buf_group": CLASSIC}
        elif chosen is Op.REMOVE_BUFFERS:
            fields = {"fd": 1 + c % 3, "buf_group": GROUPS[2 + a % 2]}
        elif chosen is Op.MSG_RING:
            other = self.rings[which % len(self.rings)]
            fields = {"fd": Fd(other.name), "off": 1000 + a, "len": c}
            if a & 0x80:
                fields |= {"op_flags": 2, "file_index": c}
        if fields is None:
            return
        self.push(ring, int(chosen), fields, how, tweak)
        if chosen is not Op.NOP and self.steps and ring.open_chain and c & 0x30 == 0x30 and ring.pending < ring.most:
            self.push(ring, int(Op.LINK_TIMEOUT), {"addr": timespec(3600), "len": 1}, how & ~0x3F, bytes(2))

    def _read(self, fields: dict[str, Operand], op: Op, c: int, length: int, here: At) -> None:
        if op is Op.READ_MULTISHOT:
            self._select(fields, c)
        elif op is Op.READV:
            fields |= {"addr": Blob("4Q", (here, length, here + 512, c % 16)), "len": 1 + c % 2}
        elif op is Op.READ_FIXED:
            fields |= {"addr": data(40 + c % 2), "len": length, "buf_group": (c >> 1) % 3}
        else:
            fields |= {"addr": here, "len": length}
            if c >= 128:
                self._select(fields, c)

    def _socket(self, ring: Ring, which: int, op: Op, c: int, length: int, here: At) -> dict[str, Operand] | None:
        fields = self._file(ring, ring.readable if op is Op.RECV else ring.writable, which)
        if fields is None:
            return None
        if op is Op.SEND:
            return fields | {"addr": data(0), "len": length or 8, "op_flags": 0x4000}
        if c & 0xC0 == 0xC0:
            self._select(fields, c)
            return fields | {"ioprio": 2}
        if c & 0x80:
            self._select(fields, c)
            return fields | {"len": length}
        how = (0, 0, 2, 0x40, 0x100, 0)[c % 6]
        if how == 0x100 and "seqpacket" in self.kinds.values():
            how = 0  # of a message that is longer, only the table asks for all
        return fields | {"addr": here, "len": length, "op_flags": how}

    def _cancel(self, ring: Ring, which: int, a: int, c: int) -> dict[str, Operand]:
        how = (0, 0, 0, 0, 2, 32, 1, 4, 5, 3, 33, 64)[c % 12]
        fields: dict[str, Operand] = {"addr": self.target(a), "op_flags": how, "fd": -1}
        if how not in (0, 1, 64):
            if self.tight:
                return {"addr": self.target(a), "fd": -1}
            ring.unordered = "the order in which several are found is that of a hash table"
        if how & 2:
            fields |= self._file(ring, ring.readable + ring.writable, which & 0x7F) or {"fd": 9999}
        if how & 32:
            fields["len"] = int(PLAIN[a % len(PLAIN)])
        return fields

    # ---- other actions ----

    def enter(self, ring: Ring, how: int, a: int) -> None:
        """Submit all that is there. A chain is closed before."""
        if ring.open_chain:
            self.steps.append(request(Op.NOP, {"user_data": self.number()}, ring.name))
            ring.open_chain = False
        ring.pending = 0
        if how % 4 == 3:
            self.steps.append(Enter(-1, 0, 0, ring=ring.name))
        elif how % 4 == 2 and not self.drains:
            self.steps.append(Enter(-1, a % 4, GETEVENTS | EXT_ARG, ext(0, 1), 24, ring.name))
        else:
            self.steps.append(Enter(-1, 0, GETEVENTS, ring=ring.name))

    def reap(self, ring: Ring, how: int) -> None:
        if self.drains:
            ring.unordered = "Linux hands what was drained, and what comes behind it, to worker threads"
            self.steps.append(Wait(-1, ring.name))
        if ring.unordered:
            how = 0
        self.steps.append(Reap((1 << 16, 1 << 16, 1, 2)[how % 4], ring.name, not ring.unordered, ring.unordered))
        ring.unordered = ""

    def told(self) -> None:
        if self.eventfd:
            self.steps.append(Told("told"))

    def outside_write(self, b: bytes) -> None:
        """The process writes to the other end, or to the eventfd."""
        name = self.names[b[1] % len(self.names)]
        kind = self.kinds[name]
        if kind == "eventfd":
            self.steps.append(Write(name, bytes([1 + b[2] % 4, *bytes(7)])))
        else:
            self.steps.append(Write(name + self.outside[kind], bytes(range(1 + LENGTHS[b[2] % 4]))))

    def outside_read(self, b: bytes) -> None:
        name = self.names[b[1] % len(self.names)]
        end = {"pipe": ".r", "eventfd": ""}.get(self.kinds[name], ".b")
        self.steps.append(Read(name + end, (4096, 8, 64)[b[2] % 3]))

    def outside_close(self, b: bytes) -> None:
        name = self.names[b[1] % len(self.names)]
        kind = self.kinds[name]
        if kind in ("stream", "seqpacket") and b[2] & 1:
            self.steps.append(Shutdown(f"{name}.b", b[2] >> 1 & 1))
        elif kind != "eventfd":
            self.steps.append(Close(name + self.outside[kind]))

    def buffers(self, ring: Ring, b: bytes) -> None:
        """Register a group's ring, put buffers into it, ask for its head, or take it away."""
        group = 1 + b[1] % 2
        if group not in ring.registered:
            reg = buffer_reg(group, ENTRIES, ring.page(group), 2 if group == 2 else 0)
            self.steps.append(Register(RegisterOp.REGISTER_PBUF_RING, reg, 1, ring.name))
            ring.registered.add(group)
            ring.given[group] = 0
        if b[2] >= 250:
            self.steps.append(Register(RegisterOp.UNREGISTER_PBUF_RING, buffer_reg(group, 0, 0), 1, ring.name))
            ring.registered.discard(group)
            return
        if b[2] >= 235:
            status = Blob("2I8I", (group, 0, *(0,) * 8))
            self.steps.append(Register(RegisterOp.REGISTER_PBUF_STATUS, status, 1, ring.name, look=True))
            return
        for n in range(1 + b[2] % 3):
            given = ring.given[group]
            bid = 16 * ring.index + 8 * (group - 1) + given % 8
            slot = ring.page(group) + 16 * (given % ENTRIES)
            self.steps.append(Put(slot, "QIH", (buffer(bid), LENGTHS[(b[3] + n) % 4], bid)))
            ring.given[group] += 1
        self.steps.append(Put(ring.page(group) + 14, "H", (ring.given[group] & 0xFFFF,)))

    def fire(self, ring: Ring, b: bytes) -> None:
        """A short time, alone: all that was there has been taken, and nothing else comes."""
        if not ring.flags & SUBMIT_ALL or self.tight or self.drains or ring.flags & SetupFlags.TASKRUN_FLAG:
            return  # the flag would say when the time was over
        self.enter(ring, 0, 0)
        self.reap(ring, 0)
        repeat = b[1] & 1
        fields: dict[str, Operand] = {"addr": timespec(0, MS), "len": 1, "op_flags": (0, 32, 4, 8)[b[2] & 3]}
        if repeat:
            fields |= {"op_flags": 64, "off": 2}
        self.steps.append(request(Op.TIMEOUT, {"user_data": self.number(), **fields}, ring.name))
        self.steps += [Enter(-1, 0, 0, ring=ring.name), Wait(1 + repeat, ring.name)]
        self.reap(ring, 0)

    def sync_cancel(self, ring: Ring, b: bytes) -> None:
        if self.drains:
            return  # a worker may be at it
        target = self.target(b[1])
        reg = Blob("QiIqq8B3Q", (target, 0, b[2] & 1, -1, -1, *(0,) * 11))
        self.steps.append(Register(RegisterOp.REGISTER_SYNC_CANCEL, reg, 1, ring.name))

    def update_files(self, ring: Ring, b: bytes) -> None:
        if self.fixed_files:
            names = self._slots(ring)
            fd: Operand = -1 if b[2] & 1 or not names else Fd(names[b[2] % len(names)])
            update = Blob("IIQ", (b[1] % (SLOTS + 1), 0, Blob("i", (fd,))))
            self.steps.append(Register(RegisterOp.REGISTER_FILES_UPDATE, update, 1, ring.name))

    def act(self, b: bytes) -> None:
        """One action."""
        ring = self.rings[b[8] % len(self.rings)]
        kind = b[0] % 32
        if kind < 14:
            self.sqe(ring, b)
        elif kind < 19:
            self.enter(ring, b[1], b[2])
        elif kind < 22:
            self.reap(ring, b[1])
        elif kind < 26:
            self.outside_write(b)
        elif kind == 26:
            self.buffers(ring, b)
        elif kind == 27:
            self.outside_read(b)
        elif kind == 28:
            self.outside_close(b)
        elif kind == 29:
            self.fire(ring, b)
        elif kind == 30:
            self.sync_cancel(ring, b) if b[3] & 1 else self.update_files(ring, b)
        elif b[1] & 3:
            self.buffers(ring, b)
        else:
            self.told()

    def finish(self) -> Program:
        """All is submitted and taken; then look at the memory."""
        for ring in self.rings:
            for _ in range(2 + 10 * self.tight):
                self.enter(ring, 0, 0)
                self.reap(ring, 0)
            self.steps += [Word("cq_overflow", ring.name), Word("sq_dropped", ring.name)]
        if self.eventfd:
            self.steps.append(Told("told"))
        self.steps += [Look(At(DATA), 43 * 4096), Look(At(BUFFERS), 64 * 1024)]
        return Program(tuple(self.steps))


HEADER, ACTION = 8, 12


def assemble(header: bytes, actions: list[bytes]) -> Program:
    """The program that these bytes are: a quarter of them is of few kinds, with much of each at a time."""
    maker = Wide(header) if header[7] % 4 else Maker(header)
    for action in actions:
        maker.act(action)
    return maker.finish()
