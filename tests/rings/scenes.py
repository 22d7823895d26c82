"""Scenes: several steps that belong together, with a ring and a file of their own, for `tests.rings.wide`.

What single requests of a random program seldom come to is set up here, and nothing else is about: time-outs of links
that fire, since what they guard waits for what never comes; messages of 32 bytes; chains that are longer than a turn;
what a worker does where there are data; tags; rings that get no turn between two things that happen outside.
Each scene has a table of what it asks for, and a number chooses a row; `asked` finds the same rows in any program.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.rings.language import (
    GETEVENTS,
    MS,
    Blob,
    Close,
    Enter,
    Fd,
    Free,
    Look,
    Open,
    Operand,
    Outside,
    Reap,
    Register,
    Setup,
    Shutdown,
    Sqe,
    Step,
    Together,
    Wait,
    Write,
    buffer,
    data,
    request,
    timespec,
)
from uring_iopf.abi import MsgRingFlags, NopFlags, Op, RegisterOp, SetupFlags, SqeFlags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.rings.language import Program

LINK, HARD = int(SqeFlags.IO_LINK), int(SqeFlags.IO_HARDLINK)
ASYNC, DRAIN, SELECT = int(SqeFlags.ASYNC), int(SqeFlags.IO_DRAIN), int(SqeFlags.BUFFER_SELECT)
POLLED, DISABLED, MIXED = int(SetupFlags.SQPOLL), int(SetupFlags.R_DISABLED), int(SetupFlags.CQE_MIXED)
SUBMIT_ALL: Final = int(SetupFlags.SUBMIT_ALL)
DEFER: Final = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
LAZY: Final = (0, int(SetupFlags.COOP_TASKRUN), int(SetupFlags.SINGLE_ISSUER), DEFER)
"""Rings whose clients start what they ask for. None tells by a flag that there is task work: a time says when."""
CQE_F_32: Final = 1 << 15
NEVER: Final = 1 << 32  # seconds
TURN: Final = 24
"""SQEs that a polling thread took at a time."""
CLASSIC: Final = 3
SOCKETS: Final = ("stream", "seqpacket", "dgram", "tcp", "udp")
ENDS: Final = {"pipe": ("r", "w"), "fifo": ("r", "w"), "packet": ("r", "w"), **dict.fromkeys(SOCKETS, ("a", "b"))}
"""By the kind of file: the end that reads, and the one that writes."""
Row = tuple[str, ...]


class Scene(NamedTuple):
    """What a scene knows of the program that it is in."""

    number: Callable[[], int]
    lazy: bool
    """Whether no ring of the program gets a turn by itself."""

    def sqe(self, op: Op, **fields: Operand) -> Sqe:
        return request(op, {"user_data": self.number(), **fields}, "scene")

    def file(self, kind: str) -> tuple[Open, str, str]:
        """A file, with its two ends."""
        name = f"f{self.number()}"
        if kind == "eventfd":
            return Open(name, kind, nonblock=True), name, name
        read, write = ENDS[kind]
        return Open(name, kind), f"{name}.{read}", f"{name}.{write}"


def _turn(ring: str = "scene") -> tuple[Step, ...]:
    """Submit all, let come what comes, and take it."""
    return Enter(-1, 0, GETEVENTS, ring=ring, look=False), Wait(-1, ring), Reap(ring=ring)


# ---- time-outs of links that fire ----

TIMES: Final = (0, 1, MS)
_GUARDED: Final = (*product((Op.READ, Op.READV, Op.POLL_ADD), (*ENDS, "eventfd")), *product((Op.RECV,), SOCKETS))
_FIRES: Final = tuple(product(TIMES, _GUARDED))


def fires(scene: Scene, which: int, b: bytes) -> list[Step]:
    """A time-out of a request that waits for nothing that comes. The next time is looked for when it has gone by."""
    ns, (op, kind) = _FIRES[which]
    opened, end, _ = scene.file(kind)
    fields: dict[str, Operand] = {"fd": Fd(end), "addr": data(1), "len": 8}
    if op is Op.POLL_ADD:
        fields = {"fd": Fd(end), "op_flags": 1}
    elif op is Op.READV:
        fields |= {"addr": Blob("2Q", (data(1), 8)), "len": 1}
    behind = (0, LINK, HARD)[b[0] % 3]
    steps: list[Step] = [Setup("scene", 16, LAZY[b[1] % len(LAZY)] | (b[1] >> 4 & 1) * SUBMIT_ALL), opened]
    steps.append(scene.sqe(op, flags=(LINK, LINK, HARD)[b[2] % 3], **fields))
    flags = (0, 1, 4, 8, 32)[b[3] % 5]
    steps.append(scene.sqe(Op.LINK_TIMEOUT, addr=timespec(0, ns), len=1, op_flags=flags, flags=behind))
    steps += [scene.sqe(Op.NOP, fd=-1) for _ in range(bool(behind) + (b[0] >> 4) % 2)]
    return [*steps, *_turn(), Free("scene")]


def _of_fires(program: Program) -> Iterator[Row]:
    before, kinds = None, _kinds(program)
    for step in program.steps:
        if not isinstance(step, Sqe):
            continue
        fields = dict(step.fields)
        when = fields.get("addr")
        if step.opcode == Op.LINK_TIMEOUT and before and isinstance(when, Blob) and when.values[0] == 0:
            fd = dict(before.fields).get("fd")
            yield _row_of_fires(int(when.values[1]), Op(before.opcode), _kind(fd, kinds))  # type: ignore[arg-type]
        before = step


def _row_of_fires(ns: int, op: Op, kind: str) -> Row:
    return "LINK_TIMEOUT", f"of {ns} ns that fires", op.name, kind


# ---- messages of 32 bytes ----

_PASS: Final = int(MsgRingFlags.FLAGS_PASS)
_PASSED: Final = (CQE_F_32, CQE_F_32 | 3, 3, 1 << 16 | CQE_F_32 | 1, 0)
_PASSES: Final = tuple(product((MIXED, 0, MIXED | DEFER, DEFER), (8, 16)))


def passes(scene: Scene, which: int, b: bytes) -> list[Step]:
    """Messages that pass CQE_F_32, among shorter ones: the CQ has room for all, and its end is passed."""
    target, entries = _PASSES[which]
    steps: list[Step] = [Setup("scene", 16, LAZY[b[0] % len(LAZY)]), Setup("target", entries, target)]
    for turn in range(2 + b[1] % 3):
        for n in range(1 + (b[2] >> turn) % 4):
            flags = _PASSED[(b[3] + turn + n * (b[4] % 3)) % len(_PASSED)] if n else CQE_F_32
            fields: dict[str, Operand] = {"off": 5000 + scene.number(), "len": b[4], "op_flags": _PASS}
            steps.append(scene.sqe(Op.MSG_RING, fd=Fd("target"), file_index=flags, **fields))
        steps.append(Enter(-1, 0, GETEVENTS, ring="scene", look=False))
        steps += [*_turn("target"), *_turn()]
    return [*steps, Free("scene"), Free("target")]


def _of_passes(program: Program) -> Iterator[Row]:
    flags = {step.ring: step.flags for step in program.steps if isinstance(step, Setup)}
    for step in program.steps:
        fields = dict(step.fields) if isinstance(step, Sqe) and step.opcode == Op.MSG_RING else {}
        to, passed, how = fields.get("fd"), fields.get("file_index", 0), fields.get("op_flags", 0)
        passes_it = isinstance(passed, int) and passed & CQE_F_32 and isinstance(how, int) and how & _PASS
        if passes_it and isinstance(to, Fd) and to.name in flags:
            yield _row_of_passes(flags[to.name])


def _row_of_passes(target: int) -> Row:
    return "MSG_RING", "CQE_F_32", *(str(flag.name) for flag in SetupFlags if flag & target & (MIXED | DEFER))


# ---- chains that are longer than a turn ----

_INSIDE: Final = ("nothing", "a failure", "a refusal", "a time-out", "a silent one")
_LONG: Final = tuple(product((*LAZY, POLLED), _INSIDE))


def long_chain(scene: Scene, which: int, b: bytes) -> list[Step]:
    """A chain of more than a turn, all published before anybody looks; something is in it."""
    mode, inside = _LONG[which]
    polled = bool(mode & POLLED)
    steps: list[Step] = [Setup("scene", 64, mode | (DISABLED if polled else 0), sq_thread_idle=1)]
    count, link, at = TURN + 2 + b[0] % 30, (LINK, HARD)[b[1] & 1], b[2] % (TURN + 1)
    opened, end, _ = scene.file("pipe")
    steps.append(opened)
    for n in range(count):
        flags = link if n < count - 1 else 0
        if n == at and inside == "a refusal":
            steps.append(scene.sqe(Op(Op.NOP), fd=-1, flags=flags, op_flags=1 << 20))
        elif n == at and inside == "a failure":
            steps.append(scene.sqe(Op.NOP, fd=-1, flags=flags, op_flags=int(NopFlags.INJECT_RESULT), len=0xFFFFFFFB))
        elif n == at and inside == "a time-out":
            steps.append(scene.sqe(Op.READ, fd=Fd(end), addr=data(1), len=8, flags=flags))
            steps.append(scene.sqe(Op.LINK_TIMEOUT, addr=timespec(0, TIMES[b[3] % 3]), len=1, flags=flags))
        else:
            silent = int(SqeFlags.CQE_SKIP_SUCCESS) if inside == "a silent one" and n >= at else 0
            steps.append(scene.sqe(Op.NOP, fd=-1, flags=flags | silent))
    if polled:  # nothing behind it: how much a thread takes at a time is its own choice; Linux's takes 8 or all
        steps += [Register(RegisterOp.REGISTER_ENABLE_RINGS, 0, 0, "scene"), Wait(-1, "scene"), Reap(ring="scene")]
    else:
        steps += [*(scene.sqe(Op.NOP, fd=-1) for _ in range(b[4] % 4)), *_turn()]
    return [*steps, Free("scene")]


def _of_long_chain(program: Program) -> Iterator[Row]:
    flags, length = 0, 0
    for step in program.steps:
        if isinstance(step, Setup):
            flags, length = step.flags, 0
        elif isinstance(step, Enter | Register):
            length = 0
        elif isinstance(step, Sqe):
            linked = dict(step.fields).get("flags", 0)
            length = length + 1 if isinstance(linked, int) and linked & (LINK | HARD) else 0
            if length == TURN + 1:
                yield _row_of_long_chain(flags)


def _row_of_long_chain(mode: int) -> Row:
    return "chain", f"of more than {TURN}", *(str(f.name) for f in SetupFlags if f & mode & ~DISABLED & ~SUBMIT_ALL)


# ---- what a worker does where there are data ----

_WORKED: Final = (
    *product((Op.READ, Op.READV, Op.WRITE), ENDS),
    *product((Op.RECV, Op.SEND), SOCKETS),
)
_WORKS: Final = tuple(product((ASYNC, DRAIN, ASYNC | DRAIN), _WORKED))


def works(scene: Scene, which: int, b: bytes) -> list[Step]:
    """One request for a worker, or behind a drain, that has what it needs."""
    flags, (op, kind) = _WORKS[which]
    opened, read, write = scene.file(kind)
    steps: list[Step] = [Setup("scene", 16, LAZY[b[0] % len(LAZY)]), opened]
    length = (8, 64, 1, 200)[b[1] % 4]
    fields: dict[str, Operand] = {"addr": data(2), "len": length}
    if op in (Op.WRITE, Op.SEND):
        fields |= {"fd": Fd(write), "addr": data(0)}
    else:
        steps.append(Write(read if kind == "eventfd" else write, bytes(range(1 + b[2] % 32))))
        fields["fd"] = Fd(read)
    if op is Op.READV:
        fields |= {"addr": Blob("2Q", (data(2), length)), "len": 1}
    if op in (Op.READ, Op.RECV) and b[3] & 1:
        steps.append(
            scene.sqe(Op.PROVIDE_BUFFERS, fd=2, addr=buffer(240), len=64, off=240, buf_group=CLASSIC),
        )
        steps += _turn()
        flags |= SELECT
        fields |= {"addr": 0, "buf_group": CLASSIC}
    steps += [scene.sqe(op, flags=flags, **fields), *_turn(), Look(data(2), 256)]
    return [*steps, Free("scene")]


def _of_works(program: Program) -> Iterator[Row]:
    kinds, full = _kinds(program), set()
    for step in program.steps:
        if isinstance(step, Write):
            full.add(step.file.partition(".")[0])
        fields = dict(step.fields) if isinstance(step, Sqe) else {}
        fd, flags = fields.get("fd"), fields.get("flags", 0)
        if isinstance(step, Sqe) and isinstance(fd, Fd) and isinstance(flags, int) and step.opcode in {*_OF_WORKERS}:
            op = Op(step.opcode)
            if op in (Op.WRITE, Op.SEND) or fd.name.partition(".")[0] in full:
                yield _row_of_works(flags & (ASYNC | DRAIN), op, _kind(fd, kinds))


_OF_WORKERS: Final = (Op.READ, Op.READV, Op.WRITE, Op.RECV, Op.SEND)


def _row_of_works(flags: int, op: Op, kind: str) -> Row:
    names = [str(flag.name) for flag in SqeFlags if flag & flags]
    return op.name, *names, kind, "which has what it needs"


# ---- tags ----

_TAGGED: Final = (
    (RegisterOp.REGISTER_FILES2, RegisterOp.REGISTER_FILES_UPDATE2, RegisterOp.UNREGISTER_FILES),
    (RegisterOp.REGISTER_BUFFERS2, RegisterOp.REGISTER_BUFFERS_UPDATE, RegisterOp.UNREGISTER_BUFFERS),
)
_TAGS: Final = tuple(product(range(2), range(4)))
"""Files or buffers, and how they go: by an update, by two, with the table, with the ring's next table."""


def tags(scene: Scene, which: int, b: bytes) -> list[Step]:
    """Files or buffers with tags, what waits for them and what replaces them."""
    what, how = _TAGS[which]
    first, update, last = _TAGGED[what]
    opened, read, write = scene.file(("pipe", "stream")[b[0] & 1])
    steps: list[Step] = [Setup("scene", 16, LAZY[b[1] % len(LAZY)]), opened]
    entries = Blob("3i", (Fd(read), Fd(write), -1)) if what == 0 else Blob("6Q", (data(40), 64, data(41), 4096, 0, 0))
    numbers = Blob("3Q", (7000 + b[2] % 3, 7100, 0 if what == 0 else b[2] & 4 and 7300))
    steps.append(Register(first, Blob("IIQQQ", (3, 0, 0, entries, numbers)), 32, "scene"))
    fields: dict[str, Operand] = {"addr": data(40), "len": 8}
    if what == 0:
        steps.append(scene.sqe(Op.READ, fd=0, flags=int(SqeFlags.FIXED_FILE), **fields))
    else:
        steps.append(scene.sqe(Op.READ_FIXED, fd=Fd(read), buf_group=0, **fields))
    steps += _turn()
    for n in range((1, 2, 0, 0)[how]):
        slot = (b[3] + n) % 3
        new = Blob("i", (Fd(read) if b[4] & 1 else -1,)) if what == 0 else Blob("2Q", (data(42), 64))
        again = Blob("Q", (7200 + n if what or b[4] & 1 else 0,))
        steps.append(Register(update, Blob("IIQQII", (slot, 0, new, again, 1, 0)), 32, "scene"))
        steps += _turn()
    if how == 3:
        steps.append(Write(write, b"12345678"))
        steps += _turn()
    steps.append(Register(last, 0, 0, "scene"))
    steps += _turn()
    steps.append(Write(write, b"abcdefgh"))
    steps += _turn()
    return [*steps, Free("scene")]


def _of_tags(program: Program) -> Iterator[Row]:
    for step in program.steps:
        if isinstance(step, Register) and isinstance(step.arg, Blob):
            numbers = [value.values for value in step.arg.values if isinstance(value, Blob)]
            if any(isinstance(one, int) and 7000 <= one < 8000 for values in numbers for one in values):
                yield _row_of_tags(RegisterOp(step.op))


def _row_of_tags(op: RegisterOp) -> Row:
    return "register", op.name, "with tags"


# ---- rings that are left alone ----

_HAPPENS: Final = ("write", "shutdown", "close")
_ALONE: Final = tuple(
    (kind, what, op)
    for kind in ENDS
    for what in _HAPPENS
    for op in ((Op.RECV, Op.POLL_ADD, Op.READ) if kind in SOCKETS else (Op.READ_MULTISHOT, Op.POLL_ADD, Op.READ))
    if what != "shutdown" or kind in ("stream", "seqpacket", "tcp")
)


def alone(scene: Scene, which: int, b: bytes) -> list[Step]:
    """Data, and something behind them, before the ring that waits has a turn."""
    kind, what, op = _ALONE[which]
    if not scene.lazy and what == "shutdown":
        what = "close"
    opened, read, write = scene.file(kind)
    steps: list[Step] = [Setup("scene", 16, DEFER if scene.lazy else LAZY[b[0] % len(LAZY)]), opened]
    fields: dict[str, Operand] = {"fd": Fd(read), "addr": data(3), "len": (64, 8, 4)[b[1] % 3]}
    if op is Op.POLL_ADD:
        fields = {"fd": Fd(read), "op_flags": (1, 0x2001)[b[1] & 1], "len": b[2] & 1}
    elif op in (Op.RECV, Op.READ_MULTISHOT):
        steps.append(scene.sqe(Op.PROVIDE_BUFFERS, fd=4, addr=buffer(240), len=64, off=240, buf_group=CLASSIC))
        steps += _turn()
        fields = {"fd": Fd(read), "flags": SELECT, "buf_group": CLASSIC}
        if op is Op.RECV:
            fields["ioprio"] = 2
    steps += [scene.sqe(op, **fields), *_turn()]
    behind: dict[str, Outside] = {
        "write": Write(write, bytes(range(1 + b[3] % 20))),
        "shutdown": Shutdown(write, 1),
        "close": Close(write),
    }
    steps.append(Together((Write(write, bytes(range(1 + b[4] % 20))), behind[what])))
    return [*steps, *_turn(), *_turn(), Free("scene")]


def _of_alone(program: Program) -> Iterator[Row]:
    kinds, op = _kinds(program), Op.NOP
    for step in program.steps:
        if isinstance(step, Sqe) and step.ring == "scene":
            op = Op(step.opcode)
        elif isinstance(step, Together):
            last = step.steps[-1]
            yield _row_of_alone(kinds.get(last.file.partition(".")[0], ""), type(last).__name__.lower(), op)


def _row_of_alone(kind: str, what: str, op: Op) -> Row:
    return op.name, kind, f"left alone between a write and a {what}"


RINGS: Final = ("scene", "target")
"""The rings of scenes, which are gone when a scene is over."""
SCENES: Final = (fires, passes, long_chain, works, tags, alone)
_TABLES: Final = (_FIRES, _PASSES, _LONG, _WORKS, _TAGS, _ALONE)
EVERY: Final = tuple((n, which) for n, table in enumerate(_TABLES) for which in range(len(table)))
"""Each row of each scene, by the numbers of both."""
ALONE: Final = SCENES.index(alone)
ROWS: Final[tuple[Row, ...]] = tuple(
    dict.fromkeys(
        (
            *(_row_of_fires(ns, op, kind) for ns, (op, kind) in _FIRES),
            *(_row_of_passes(target) for target, _ in _PASSES),
            *(_row_of_long_chain(mode) for mode, _ in _LONG),
            *(_row_of_works(flags, op, kind) for flags, (op, kind) in _WORKS),
            *(_row_of_tags(op) for ops in _TAGGED for op in ops[:2]),
            *(_row_of_alone(*row) for row in _ALONE),
        )
    )
)


def play(scene: Scene, b: bytes) -> list[Step]:
    """The scene that bytes ask for: its number, the row's in two bytes, and how."""
    n = b[0] % len(SCENES)
    return SCENES[n](scene, (b[1] | b[2] << 8) % len(_TABLES[n]), b[3:])


def asked(program: Program) -> Iterator[Row]:
    """The rows that a program has."""
    for find in (_of_fires, _of_passes, _of_long_chain, _of_works, _of_tags, _of_alone):
        yield from find(program)


def _kinds(program: Program) -> dict[str, str]:
    return {step.name: step.kind for step in program.steps if isinstance(step, Open)}


def _kind(fd: Operand | None, kinds: dict[str, str]) -> str:
    return kinds.get(fd.name.partition(".")[0], "") if isinstance(fd, Fd) else ""
