"""Scenes with two threads: each enters, one ring or a ring of its own; and one waits while the other goes on.

What is drawn is what Linux defines: who may enter a ring, and what ends a wait. Which of two threads that run at once
is the first is not, so one of them always sleeps in a call when the other begins to do something, or is done with it.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from tests.rings.language import (
    EXT_ARG,
    GETEVENTS,
    MS,
    Blob,
    Close,
    Elsewhere,
    Enter,
    Fd,
    Free,
    Meanwhile,
    Operand,
    Outside,
    Reap,
    Register,
    Setup,
    Sqe,
    Step,
    Write,
    data,
    ext,
    timespec,
)
from tests.rings.scene import DEFER, DISABLED, LAZY, LINK, names, turn
from uring_iopf.abi import EnterFlags, Op, RegisterOp, SetupFlags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rings.language import Program
    from tests.rings.scene import Row, Scene

TELLS: Final = int(SetupFlags.TASKRUN_FLAG)
MODES: Final = (*LAZY, int(SetupFlags.COOP_TASKRUN) | TELLS, DEFER | TELLS)
BOUND: Final = 5
"""Seconds that a wait takes at most; it is ended by the other thread."""


def _events(ring: str = "scene", submit: int = -1) -> Elsewhere:
    """The other thread submits what is there, and lets come what comes."""
    return Elsewhere(Enter(submit, 0, GETEVENTS, ring=ring, look=False))


def _wait(count: int, ring: str = "scene", submit: int = -1) -> Enter:
    return Enter(submit, count, GETEVENTS | EXT_ARG, ext(BOUND), 24, ring)


# ---- one ring, and who may enter it ----

_OWNERS: Final = ("made here", "made by the other", "enabled by the other")
_CALLS: Final = ("submits", "submits and asks", "asks", "registers", "registers its number", "cancels")
_SHARED: Final = tuple(product(MODES, _OWNERS, _CALLS))


def _made(mode: int, owner: str) -> list[Step]:
    setup = Setup("scene", 16, mode | (DISABLED if owner == _OWNERS[2] else 0))
    enable = Register(RegisterOp.REGISTER_ENABLE_RINGS, 0, 0, "scene")
    return [
        setup if owner != _OWNERS[1] else Elsewhere(setup),
        *([Elsewhere(enable)] if owner == _OWNERS[2] else []),
    ]


def shared(scene: Scene, which: int, b: bytes) -> list[Step]:
    """Both threads make the same calls, one after the other: one of them may not, of a ring with SINGLE_ISSUER."""
    mode, owner, call = _SHARED[which]
    opened, read, write = scene.file(("pipe", "stream", "eventfd", "tcp")[b[0] & 3])
    steps = [opened, *_made(mode, owner)]
    content = bytes([1 + b[1] % 5, *bytes(7)])
    waits = scene.sqe(Op.READ, fd=Fd(read), addr=data(3), len=8)
    asks: dict[str, Enter | Register] = {
        "submits": Enter(-1, 0, 0, ring="scene"),
        "submits and asks": Enter(-1, 0, GETEVENTS, ring="scene"),
        "asks": Enter(0, 0, GETEVENTS, ring="scene"),
        "registers": Register(RegisterOp.REGISTER_FILES, Blob("2i", (Fd(read), -1)), 2, "scene"),
        "registers its number": Register(RegisterOp.REGISTER_RING_FDS, Blob("IIQ", (3, 0, Fd("scene"))), 1, "scene"),
        "cancels": Register(
            RegisterOp.REGISTER_SYNC_CANCEL,
            Blob("QiIqq8B3Q", (_number(waits), 0, 0, -1, -1, *(0,) * 11)),
            1,
            "scene",
        ),
    }
    one = asks[call]
    steps.append(waits)
    if b[2] & 1:
        steps.append(scene.sqe(Op.NOP, fd=-1))
    calls: list[Step] = [one, Elsewhere(one)] if b[2] & 2 else [Elsewhere(one), one]
    if call in ("cancels", "asks"):
        calls = [*_both(), *([Write(write, content)] if call == "asks" else []), *calls]
    steps += calls
    if call == "registers its number":
        by_number = Enter(-1, 0, int(EnterFlags.REGISTERED_RING) | GETEVENTS, ring="scene", fd=3, look=False)
        taken = Register(RegisterOp.UNREGISTER_RING_FDS, Blob("IIQ", (3, 0, 0)), 1, "scene")
        steps += [by_number, Elsewhere(by_number), taken, Elsewhere(taken)]
    steps += [Write(write, content), *_both(), Reap(ring="scene")]
    return [*steps, Write(write, content), *_both(), Reap(ring="scene"), Free("scene")]


def _both() -> tuple[Step, ...]:
    return Enter(-1, 0, GETEVENTS, ring="scene", look=False), _events()


def _number(sqe: Sqe) -> Operand:
    return dict(sqe.fields)["user_data"]


def of_shared(program: Program) -> Iterator[Row]:
    rows = {step.ring: (step.flags, _OWNERS[0]) for step in program.steps if isinstance(step, Setup)}
    for step in program.steps:
        one = step.step if isinstance(step, Elsewhere) else None
        if isinstance(one, Setup):
            rows[one.ring] = one.flags, _OWNERS[1]
        elif isinstance(one, Register) and one.op == RegisterOp.REGISTER_ENABLE_RINGS:
            rows[one.ring] = rows[one.ring][0], _OWNERS[2]
        elif one is not None and one.ring in rows:
            mode, owner = rows[one.ring]
            yield row_of_shared(mode & ~DISABLED, owner, _call(one))


def _call(one: Register | Enter) -> str:
    if isinstance(one, Register):
        ops = {RegisterOp.REGISTER_RING_FDS: _CALLS[4], RegisterOp.REGISTER_SYNC_CANCEL: _CALLS[5]}
        return ops.get(RegisterOp(one.op), _CALLS[3])
    return _CALLS[2] if not one.to_submit else _CALLS[1] if one.flags & GETEVENTS else _CALLS[0]


def row_of_shared(mode: int, owner: str, call: str) -> Row:
    return "two threads", "a ring", owner, f"the other {call}", *names(mode)


# ---- one waits, and the other ends that ----

_ENDS_IT: Final = (
    "a write",
    "a close",
    "a message",
    "a time",
    "a submission",
    "a cancel",
    "no more than a time",
    "a time, as that of the other",
)
_BY_ANOTHER: Final = ("a submission", "a cancel")
"""What a thread does in a ring that is not its own."""
_WAITS: Final = tuple(
    (mode, end)
    for mode, end in product(MODES, _ENDS_IT)
    if end not in (*_BY_ANOTHER, _ENDS_IT[7]) or not mode & SetupFlags.DEFER_TASKRUN
)


def waits(scene: Scene, which: int, b: bytes) -> list[Step]:
    """A thread waits in a ring. What ends that is done by the other, in the same ring, in its own, or outside."""
    mode, end = _WAITS[which]
    opened, read, write = scene.file(("pipe", "stream", "seqpacket", "tcp")[b[0] & 3])
    setup, count = Setup("scene", 16, mode), 1 + (b[1] & 1)
    content = bytes(range(1 + b[2] % 8))
    steps: list[Step] = [opened]
    by_another = end in _BY_ANOTHER
    # Of a ring with SINGLE_ISSUER its own thread submits, and any may wait, but for DEFER_TASKRUN.
    steps.append(setup if by_another else Elsewhere(setup))
    op = (Op.READ, Op.POLL_ADD, Op.RECV)[b[3] % (3 if b[0] & 3 else 2)]  # a pipe is no socket
    fields: dict[str, Operand] = {"fd": Fd(read), "addr": data(3), "len": 64}
    if end.startswith("a time"):
        op, fields = Op.TIMEOUT, {"addr": timespec(0, MS if end == "a time" else 20 * MS), "len": 1}
    elif op is Op.POLL_ADD:
        fields = {"fd": Fd(read), "op_flags": 1}
    asked = scene.sqe(op, **fields)
    steps.append(asked)
    if end.startswith("a time"):
        count = 1
    done: list[Enter | Register | Outside] = [_wait(1, submit=0)] if end == _ENDS_IT[7] else []
    enter: dict[str, Enter] = {}
    if by_another:
        steps += [Enter(-1, 0, GETEVENTS, ring="scene", look=False), Reap(ring="scene")]
        count = 1
        steps.append(
            scene.sqe(Op.NOP, fd=-1)
            if end == "a submission"
            else scene.sqe(Op.ASYNC_CANCEL, fd=-1, addr=_number(asked))
        )
        count = 1 if end == "a submission" else 2
        done.append(Enter(-1, 0, GETEVENTS * (b[4] & 1), ring="scene", look=False))
        enter["scene"] = _wait(count, submit=0)
    elif end == "a message":
        steps.append(Setup("target", 16, LAZY[b[4] % len(LAZY)]))
        steps += [scene.sqe_of("target", Op.MSG_RING, fd=Fd("scene"), off=5000 + n, len=b[5]) for n in range(count)]
        done.append(Enter(-1, 0, GETEVENTS, ring="target", look=False))
    elif end == "a close":
        count = 1
        done.append(Close(write))
    elif end == "a write":
        done.append(Write(write, content))
        if count > 1:
            steps.append(scene.sqe(Op.NOP, fd=-1))
    elif end == "no more than a time":
        enter["scene"] = Enter(-1, 1 + (b[1] & 1), GETEVENTS | EXT_ARG, ext(0, 2 * MS), 24, "scene")
    steps.append(Meanwhile(enter.get("scene", _wait(count)), tuple(done)))
    steps += [Reap(ring="scene"), Write(write, content), *([_events()] if not by_another else turn()[:1])]
    steps.append(Reap(ring="scene"))
    if end == "a message":
        steps += [*turn("target"), Free("target")]
    return [*steps, Free("scene")]


def of_waits(program: Program) -> Iterator[Row]:
    flags: dict[str, int] = {}
    opcodes: dict[str, list[int]] = {}
    for step in program.steps:
        made = step.step if isinstance(step, Elsewhere) else step
        if isinstance(made, Setup):
            flags[made.ring], opcodes[made.ring] = made.flags, []
        elif isinstance(step, Sqe) and step.ring in opcodes:
            opcodes[step.ring].append(step.opcode)
        elif isinstance(step, Meanwhile) and step.enter.ring in flags:
            yield row_of_waits(flags[step.enter.ring], _end(step, opcodes[step.enter.ring]))


def _end(step: Meanwhile, opcodes: list[int]) -> str:
    """What ended the wait in a ring that was asked for these."""
    if not step.steps:
        return "a time" if Op.TIMEOUT in opcodes else "no more than a time"
    one = step.steps[0]
    if isinstance(one, Enter):
        if one.min_complete:
            return _ENDS_IT[7]
        cancels = opcodes[-1:] == [Op.ASYNC_CANCEL]
        return "a message" if one.ring != step.enter.ring else "a cancel" if cancels else "a submission"
    return "a close" if isinstance(one, Close) else "a write"


def row_of_waits(mode: int, end: str) -> Row:
    return "two threads", f"a wait that is ended by {end}", *names(mode)


# ---- a ring each ----

_BOTH: Final = tuple(product(LAZY, LAZY))


def each_waits(scene: Scene, which: int, b: bytes) -> list[Step]:
    """Both wait, each in its ring, and end each other's wait: by a file, and by a message for that."""
    here, there = _BOTH[which]
    opened, read, write = scene.file(("pipe", "stream", "seqpacket")[b[0] % 3])
    link = LINK * (b[1] & 1)
    steps: list[Step] = [
        opened,
        Setup("scene", 16, here),
        Elsewhere(Setup("target", 16, there)),
        scene.sqe_of("target", Op.READ, fd=Fd(read), addr=data(3), len=8, flags=LINK),
        scene.sqe_of("target", Op.MSG_RING, fd=Fd("scene"), off=5000, len=b[2], flags=link),
        scene.sqe_of("target", Op.NOP, fd=-1),
    ]
    sent = bytes(range(8))
    if b[3] & 1:  # the ring writes
        asked = [
            *([scene.sqe(Op.MSG_RING, fd=Fd("target"), off=5001, len=1, flags=LINK)] if b[4] & 1 else []),
            scene.sqe(Op.WRITE, fd=Fd(write), addr=data(0), len=8),
        ]
        done: tuple[Enter | Register | Outside, ...] = (_wait(len(asked) + 1),)
    else:
        asked, done = [], (Write(write, sent), _wait(1))
    # A NOP in no chain has ended when the wait begins.
    steps += [*asked, Meanwhile(_wait(3 + len(asked) // 2, "target"), done)]
    why = "each thread ends the other's wait while it goes on itself"
    for ring in ("scene", "target"):
        steps += [Elsewhere(Enter(0, 0, GETEVENTS, ring=ring, look=False)), *turn(ring)[:1]]
        steps.append(Reap(ring=ring, order=False, why=why))
    return [*steps, Free("target"), Free("scene")]


def of_each_waits(program: Program) -> Iterator[Row]:
    flags: dict[str, int] = {}
    for step in program.steps:
        made = step.step if isinstance(step, Elsewhere) else step
        if isinstance(made, Setup):
            flags[made.ring] = made.flags
        elif isinstance(step, Meanwhile) and step.enter.ring == "target":
            yield row_of_each_waits(flags["scene"], flags["target"])


def row_of_each_waits(here: int, there: int) -> Row:
    return "two threads", "each waits in its ring", *names(here), "and", *names(there)


SCENES: Final = ((shared, len(_SHARED)), (waits, len(_WAITS)), (each_waits, len(_BOTH)))
"""With the rows that each has."""
ROWS: Final[tuple[Row, ...]] = (
    *(row_of_shared(*row) for row in _SHARED),
    *(row_of_waits(*row) for row in _WAITS),
    *(row_of_each_waits(*row) for row in _BOTH),
)


def asked(program: Program) -> Iterator[Row]:
    """The rows that a program has."""
    for find in (of_shared, of_waits, of_each_waits):
        yield from find(program)
