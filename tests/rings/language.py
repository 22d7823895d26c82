"""Programs: what a client does with rings, memory and files, as data that two kernels can be given.

A program is a list of steps. Their operands are symbolic: places in one arena of memory, descriptors by the names of
their files, structs that are laid into the arena when a step needs them. What a program comes to is its *outcome*: for
every step what was seen, in terms that both kernels share, and that JSON can hold.

Order. Completions are compared in the order in which they are posted. ``Reap(order=False)`` compares those of one step
as a set; it says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from uring_iopf.abi import EnterFlags, Op, RegisterOp, SetupFlags, SqeFlags

ARENA_SIZE: Final = 1 << 20
BUFFER_RINGS: Final = 0  # the ring of group g is at page g
BLOBS: Final = 0x10000  # structs that steps need, one behind the other
DATA: Final = 0x80000  # what requests read and write: place n is at DATA + 4096 n
BUFFERS: Final = 0xC0000  # provided buffer b is at BUFFERS + 1024 b
KERNEL: Final = 0xFFFF_8000_0000_0000
"""An address outside of user space."""
GETEVENTS: Final = int(EnterFlags.GETEVENTS)
EXT_ARG: Final = int(EnterFlags.EXT_ARG)
HOUR: Final = 3600
CQSIZE: Final = int(SetupFlags.CQSIZE)
MS: Final = 1_000_000


# ---- operands ----


@dataclass(frozen=True)
class At:
    """A place in the arena."""

    offset: int

    def __add__(self, more: int) -> At:
        return At(self.offset + more)


@dataclass(frozen=True)
class Hole:
    """An address that nothing is mapped at; the arena ends where it begins."""

    offset: int = 0


@dataclass(frozen=True)
class Fd:
    """The number that the ring's kernel knows a file or a ring by."""

    name: str


@dataclass(frozen=True)
class HostFd:
    """The number that the process knows a file by; an eventfd that a ring is to signal is registered so."""

    name: str


@dataclass(frozen=True)
class Blob:
    """A struct, laid into the arena when its step is played: a format of `struct` without padding, and values."""

    format: str
    values: tuple[Operand, ...] = ()


@dataclass(frozen=True)
class Soon:
    """A timespec, laid into the arena: so many nanoseconds after its step is played, by one of the host's clocks."""

    clock: int
    ns: int


Operand: TypeAlias = int | At | Hole | Fd | HostFd | Blob | Soon


def data(place: int) -> At:
    """The n-th page for the data of requests."""
    return At(DATA + 4096 * place)


def buffer(bid: int) -> At:
    """Where provided buffer *bid* is."""
    return At(BUFFERS + 1024 * bid)


FILE_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "pipe": (".r", ".w"),
    "packet": (".r", ".w"),  # a pipe with O_DIRECT
    "fifo": (".r", ".w"),
    "stream": (".a", ".b"),
    "dgram": (".a", ".b"),
    "seqpacket": (".a", ".b"),
    "tcp": (".a", ".b"),
    "udp": (".a", ".b"),
    "pty": (".a", ".b"),
    "eventfd": ("",),
    "timerfd": ("",),
    "inotify": ("",),
    "epoll": ("", ".in"),  # .in: an eventfd in it
    "file": ("",),
}
"""Kinds of file by name, each with its ends. Sockets are of Unix, or connected on the loopback."""

# ---- steps ----


@dataclass(frozen=True)
class Setup:
    """io_uring_setup and the mappings. Seen: -errno, or the sizes that the ring has."""

    ring: str = "ring"
    entries: int = 8
    flags: int = 0
    cq_entries: int = 0
    sq_thread_cpu: int = 0
    sq_thread_idle: int = 0
    wq_fd: Operand = 0
    resv: int = 0


@dataclass(frozen=True)
class Params:
    """Seen: features, where everything is in the ring, and what the masks and sizes in it are."""

    ring: str = "ring"


@dataclass(frozen=True)
class Free:
    """Close a ring. What it has under way is cancelled."""

    ring: str = "ring"


@dataclass(frozen=True)
class Nonblock:
    """fcntl(2): a ring's descriptor is O_NONBLOCK from now on."""

    ring: str = "ring"


@dataclass(frozen=True)
class Sqe:
    """Fill in an SQE and publish it. Seen: whether there was room. *index* is what goes into the SQ array instead."""

    opcode: int
    fields: tuple[tuple[str, Operand], ...] = ()
    ring: str = "ring"
    index: int | None = None


@dataclass(frozen=True)
class Enter:
    """io_uring_enter. Seen: what it returns, the SQ head, and CQ_OVERFLOW and TASKRUN of the SQ's flags."""

    to_submit: int = 0
    """-1: as many as the ring holds, which is what liburing asks for."""
    min_complete: int = 0
    flags: int = 0
    arg: Operand = 0
    size: int = 0
    ring: str = "ring"
    fd: Operand | None = None
    """What the call is given instead of the ring's descriptor."""
    thread: int = 0
    """1: another thread of the process, which lives as long as the player."""
    look: bool = True
    """Whether the SQ's flags are seen: not where they say how far the kernel's own threads are."""


@dataclass(frozen=True)
class Wait:
    """Let time go by until *count* completions are in the CQ. Seen: how many there are, *count* at most.

    -1: as many as the engine comes to; `waiting_for` puts the number there before the host plays.
    """

    count: int
    ring: str = "ring"


@dataclass(frozen=True)
class Reap:
    """Take completions. Seen: user_data, res, flags of each; in a ring of 32-byte CQEs two words more."""

    most: int = 1 << 16
    ring: str = "ring"
    order: bool = True
    why: str = ""
    """Why the order is not looked at."""


@dataclass(frozen=True)
class Register:
    """io_uring_register. Seen: what it returns, and with *look* what is in its struct afterwards."""

    op: int
    arg: Operand = 0
    nr: int = 0
    ring: str = "ring"
    look: bool = False
    fd: Operand | None = None
    """What the call is given instead of the ring's descriptor."""


@dataclass(frozen=True)
class Word:
    """Seen: a shared word of the ring."""

    name: str
    ring: str = "ring"


@dataclass(frozen=True)
class Store:
    """Store into a shared word of the ring."""

    name: str
    value: int
    ring: str = "ring"


@dataclass(frozen=True)
class Open:
    """Make a file, of one of `FILE_KINDS`."""

    name: str
    kind: str
    nonblock: bool = False
    value: int = 0
    """Of an eventfd; of a pipe its size, where that is not 0."""
    semaphore: bool = False


@dataclass(frozen=True)
class Write:
    """write(2), unless it would have to wait. Seen: what it returns."""

    file: str
    data: bytes


@dataclass(frozen=True)
class Read:
    """read(2), unless it would have to wait. Seen: the bytes, or -errno."""

    file: str
    count: int = 4096


@dataclass(frozen=True)
class Told:
    """Seen: whether an eventfd has been signalled since it was last asked; not how often."""

    file: str


@dataclass(frozen=True)
class Fill:
    """write(2) until nothing more goes in."""

    file: str


@dataclass(frozen=True)
class Drain:
    """read(2) until nothing more comes out."""

    file: str


@dataclass(frozen=True)
class Close:
    """Close a file, for the process and for the rings."""

    file: str


@dataclass(frozen=True)
class Shutdown:
    """shutdown(2) of a socket: 0 reading, 1 writing, 2 both."""

    file: str
    how: int


Outside: TypeAlias = Write | Read | Told | Fill | Drain | Close | Shutdown
"""What is done to a file by system calls other than a ring's. The rings' task work runs before it returns."""


@dataclass(frozen=True)
class Together:
    """Do several things outside, between which no ring gets a turn. Seen: what each showed.

    Where a ring does not put its task work off, only Write and Close can be done so.
    """

    steps: tuple[Outside, ...]


@dataclass(frozen=True)
class Elsewhere:
    """Another thread of the process makes the call, the one of `Enter.thread`. Seen: what the call shows."""

    step: Setup | Register | Enter


@dataclass(frozen=True)
class Meanwhile:
    """Another thread makes a call that waits, and while it sleeps there these steps are done.

    They end the wait, or a time does that the call has. Seen: what the call returned, and what each step showed.
    """

    enter: Enter
    steps: tuple[Enter | Register | Outside, ...]


@dataclass(frozen=True)
class Put:
    """Store a struct at a place in the arena: a format of `struct` without padding, and values."""

    at: At
    format: str
    values: tuple[Operand, ...]


@dataclass(frozen=True)
class PutBytes:
    """Store bytes at a place in the arena."""

    at: At
    data: bytes


@dataclass(frozen=True)
class MapPut:
    """mmap(2) a ring's memory at one of io_uring's offsets, store a struct into it, and unmap it. Seen: 0 or -errno."""

    offset: int
    at: int = 0
    format: str = ""
    values: tuple[Operand, ...] = ()
    length: int = 4096
    ring: str = "ring"


@dataclass(frozen=True)
class Look:
    """Seen: what is at a place in the arena, as bytes, or by a format. Of more than 256 bytes digests.

    Each is of a KiB that is not all 0, behind its place in what is looked at.
    """

    at: At
    count: int = 0
    format: str = ""


Step: TypeAlias = (
    Setup
    | Params
    | Free
    | Nonblock
    | Sqe
    | Enter
    | Wait
    | Reap
    | Register
    | Word
    | Store
    | Open
    | Write
    | Read
    | Told
    | Fill
    | Drain
    | Close
    | Shutdown
    | Together
    | Elsewhere
    | Meanwhile
    | Put
    | PutBytes
    | MapPut
    | Look
)
Steps: TypeAlias = "Step | Iterable[Steps]"
Seen: TypeAlias = Any
"""What one step showed: None, a number, a string, or a list of those."""


@dataclass(frozen=True)
class Program:
    """Steps, and a digest by which a recorded outcome is known to be theirs."""

    steps: tuple[Step, ...]

    @property
    def digest(self) -> str:
        """16 hex digits over the steps."""
        return hashlib.sha256(repr(self.steps).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Case:
    """A program of the table, and what it shows."""

    name: str
    shows: str
    program: Program = field(repr=False)
    since: tuple[int, int] = (6, 1)
    """The first Linux that has what this asks for."""
    needs: tuple[str, ...] = ()
    """What else must be there; see `tests.rings.judge`."""


def waiting_for(program: Program, outcome: list[Seen]) -> Program:
    """The program, waiting for as many completions as there were in this outcome of it."""
    if not any(isinstance(step, Wait) and step.count < 0 for step in program.steps):
        return program
    pairs = zip(program.steps, outcome, strict=True)
    return Program(tuple(Wait(seen, s.ring) if isinstance(s, Wait) and s.count < 0 else s for s, seen in pairs))


def flat(*steps: Steps) -> tuple[Step, ...]:
    """Nested steps, one after the other."""
    out: list[Step] = []
    for step in steps:
        if isinstance(step, Step):
            out.append(step)
        else:
            out.extend(flat(*step))
    return tuple(out)


# ---- words of the language ----


def request(opcode: int, fields: Mapping[str, Operand], ring: str = "ring") -> Sqe:
    """An SQE by its fields; *index* among them is what goes into the SQ array."""
    others = {name: value for name, value in fields.items() if name != "index"}
    index = fields.get("index")
    assert index is None or isinstance(index, int)
    return Sqe(int(opcode), tuple(sorted(others.items(), key=lambda field: field[0])), ring, index)


def sqe(opcode: int, /, **fields: Operand) -> Sqe:
    return request(opcode, fields)


def _with(fields: Mapping[str, Operand], /, **base: Operand) -> dict[str, Operand]:
    """*fields*, and those of *base* that they do not name."""
    return {**base, **fields}


def on(ring: str, *sqes: Sqe) -> tuple[Sqe, ...]:
    """The same SQEs for another ring."""
    return tuple(Sqe(one.opcode, one.fields, ring, one.index) for one in sqes)


def nop(user_data: int, **fields: Operand) -> Sqe:
    return request(Op.NOP, _with(fields, user_data=user_data))


def inject(user_data: int, res: int, **fields: Operand) -> Sqe:
    """A NOP with this result."""
    return request(Op.NOP, _with(fields, user_data=user_data, op_flags=1, len=res))


def bad(user_data: int, **fields: Operand) -> Sqe:
    """One that is refused before it starts: no such operation."""
    return request(255, _with(fields, user_data=user_data))


def read(user_data: int, file: str = "pipe.r", **fields: Operand) -> Sqe:
    return request(Op.READ, _with(fields, fd=Fd(file), addr=data(user_data % 32), len=64, user_data=user_data))


def write(user_data: int, file: str = "pipe.w", **fields: Operand) -> Sqe:
    return request(Op.WRITE, _with(fields, fd=Fd(file), addr=data(0), len=8, user_data=user_data))


def read_select(user_data: int, file: str = "pipe.r", group: int = 1, **fields: Operand) -> Sqe:
    return request(
        Op.READ, _with(fields, fd=Fd(file), flags=int(SqeFlags.BUFFER_SELECT), buf_group=group, user_data=user_data)
    )


def read_multishot(user_data: int, file: str = "pipe.r", group: int = 1, **fields: Operand) -> Sqe:
    return request(
        Op.READ_MULTISHOT,
        _with(fields, fd=Fd(file), flags=int(SqeFlags.BUFFER_SELECT), buf_group=group, user_data=user_data),
    )


def recv(user_data: int, file: str = "socket.a", **fields: Operand) -> Sqe:
    return request(Op.RECV, _with(fields, fd=Fd(file), addr=data(user_data % 32), len=64, user_data=user_data))


def recv_multishot(user_data: int, file: str = "socket.a", group: int = 1, **fields: Operand) -> Sqe:
    return request(
        Op.RECV,
        _with(fields, fd=Fd(file), flags=int(SqeFlags.BUFFER_SELECT), buf_group=group, user_data=user_data, ioprio=2),
    )


def send(user_data: int, file: str = "socket.a", **fields: Operand) -> Sqe:
    return request(Op.SEND, _with(fields, fd=Fd(file), addr=data(0), len=8, user_data=user_data))


def poll(user_data: int, file: str = "pipe.r", events: int = 1, **fields: Operand) -> Sqe:
    return request(Op.POLL_ADD, _with(fields, fd=Fd(file), op_flags=events, user_data=user_data))


def poll_remove(user_data: int, target: int = 0, **fields: Operand) -> Sqe:
    return request(Op.POLL_REMOVE, _with(fields, addr=target, user_data=user_data))


def cancel(user_data: int, target: int = 0, how: int = 0, **fields: Operand) -> Sqe:
    return request(Op.ASYNC_CANCEL, _with(fields, addr=target, op_flags=how, user_data=user_data))


def timespec(seconds: int = 0, ns: int = 0) -> Blob:
    return Blob("qq", (seconds, ns))


def timeout(user_data: int, seconds: int = 0, ns: int = 0, **fields: Operand) -> Sqe:
    return request(Op.TIMEOUT, _with(fields, user_data=user_data, addr=timespec(seconds, ns), len=1))


def timeout_remove(user_data: int, target: int = 0, **fields: Operand) -> Sqe:
    return request(Op.TIMEOUT_REMOVE, _with(fields, addr=target, user_data=user_data))


def link_timeout(user_data: int, seconds: int = 0, ns: int = 0, **fields: Operand) -> Sqe:
    return request(Op.LINK_TIMEOUT, _with(fields, user_data=user_data, addr=timespec(seconds, ns), len=1))


def provide_buffers(user_data: int, first: int, count: int, group: int = 1, **fields: Operand) -> Sqe:
    return request(
        Op.PROVIDE_BUFFERS,
        _with(fields, fd=count, addr=buffer(first), len=64, off=first, buf_group=group, user_data=user_data),
    )


def remove_buffers(user_data: int, count: int, group: int = 1, **fields: Operand) -> Sqe:
    return request(Op.REMOVE_BUFFERS, _with(fields, fd=count, buf_group=group, user_data=user_data))


def message(user_data: int, ring: str, target_data: int, res: int = 0, **fields: Operand) -> Sqe:
    return request(Op.MSG_RING, _with(fields, fd=Fd(ring), off=target_data, len=res, user_data=user_data))


def ext(seconds: int | None = None, ns: int = 0, min_wait_usec: int = 0) -> Blob:
    """What enter is given with EXT_ARG."""
    when: Operand = 0 if seconds is None else timespec(seconds, ns)
    return Blob("QIIQ", (0, 0, min_wait_usec, when))


def enter(to_submit: int = 0, min_complete: int = 0, flags: int = 0, ring: str = "ring") -> Enter:
    return Enter(to_submit, min_complete, flags, ring=ring)


def enter_ext(
    to_submit: int = 0, min_complete: int = 0, flags: int = GETEVENTS, arg: Operand | None = None, size: int = 24
) -> Enter:
    """With EXT_ARG; a time-out of a nanosecond unless *arg* says something else."""
    return Enter(to_submit, min_complete, flags | EXT_ARG, ext(0, 1) if arg is None else arg, size)


def submit(*sqes: Sqe, flags: int = 0, ring: str = "ring") -> tuple[Step, ...]:
    """Publish and enter for as many."""
    return (*on(ring, *sqes), enter(len(sqes), 0, flags, ring))


def run(*sqes: Sqe, ring: str = "ring", order: bool = True, why: str = "") -> tuple[Step, ...]:
    """Publish, enter for as many and for events, and take what there is."""
    return (*submit(*sqes, flags=GETEVENTS, ring=ring), Reap(ring=ring, order=order, why=why))


def look_again(ring: str = "ring") -> tuple[Step, ...]:
    """Enter for events only, and take what there is."""
    return (enter(0, 0, GETEVENTS, ring), Reap(ring=ring))


def refused(*sqes: Sqe) -> tuple[Step, ...]:
    """Each SQE alone, with a NOP behind it that shows whether the batch went on."""
    return flat([(*submit(one, nop(77), flags=GETEVENTS), Reap(), enter(2, 0, GETEVENTS), Reap()) for one in sqes])


def buffer_reg(
    group: int = 1,
    entries: int = 8,
    at: Operand | None = None,
    flags: int = 0,
    min_left: int = 0,
    resv: int = 0,
) -> Blob:
    """struct io_uring_buf_reg."""
    where = At(BUFFER_RINGS + 4096 * group) if at is None else at
    return Blob("QIHHI5I", (where, entries, group, flags, min_left, resv, 0, 0, 0, 0))


def buffer_ring(group: int = 1, entries: int = 8, flags: int = 0, min_left: int = 0, ring: str = "ring") -> Register:
    return Register(RegisterOp.REGISTER_PBUF_RING, buffer_reg(group, entries, None, flags, min_left), 1, ring)


def give(*bids: int, group: int = 1, start: int = 0, length: int = 64, entries: int = 8) -> tuple[Step, ...]:
    """Put buffers into a group's ring, of which *start* have been put there before, and move its tail."""
    ring = At(BUFFER_RINGS + 4096 * group)
    steps: list[Step] = [
        Put(ring + 16 * ((start + n) % entries), "QIH", (buffer(bid), length, bid)) for n, bid in enumerate(bids)
    ]
    return (*steps, Put(ring + 14, "H", ((start + len(bids)) & 0xFFFF,)))


def files(*fds: Operand, nr: int | None = None) -> Register:
    """REGISTER_FILES."""
    return Register(RegisterOp.REGISTER_FILES, Blob(f"{len(fds)}i", tuple(fds)), len(fds) if nr is None else nr)


def resources(op: int, count: int, flags: int, what: Operand, tags: Operand, resv: int = 0, size: int = 32) -> Register:
    """struct io_uring_rsrc_register."""
    return Register(op, Blob("IIQQQ", (count, flags, resv, what, tags)), size)


def together(*steps: Outside) -> Together:
    return Together(steps)


def pipe(name: str = "pipe", **options: Any) -> Open:
    return Open(name, "pipe", **options)


def case(name: str, shows: str, *steps: Steps, since: tuple[int, int] = (6, 1), needs: tuple[str, ...] = ()) -> Case:
    return Case(name, shows, Program(flat(*steps)), since, needs)
