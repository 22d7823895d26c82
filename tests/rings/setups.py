"""A scene with a ring of two flags of setup, and often more, that is used: each kind of request and of end.

Every two flags that Linux takes together are a row of the table. What a flag needs is set as well. NO_MMAP and
REGISTERED_FD_ONLY are not in it: there is no such ring here, as the rings' page says; `tests.rings.wide` draws what
comes of asking for one.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Final

from tests.rings.language import (
    GETEVENTS,
    Blob,
    Close,
    Enter,
    Fd,
    Free,
    Operand,
    Register,
    Setup,
    Sqe,
    Step,
    Wait,
    Word,
    Write,
    buffer,
    data,
    timespec,
)
from tests.rings.scene import CLASSIC, LINK, POLLED, SELECT, names, setups, turn, turn_of_thread
from uring_iopf.abi import EnterFlags, MsgRingFlags, NopFlags, Op, PollFlags, RegisterOp, SetupFlags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rings.language import Program
    from tests.rings.scene import Row, Scene

_NOT_HERE: Final = SetupFlags.NO_MMAP | SetupFlags.REGISTERED_FD_ONLY
_NEEDS: Final = {
    SetupFlags.SQ_AFF: SetupFlags.SQPOLL,
    SetupFlags.DEFER_TASKRUN: SetupFlags.SINGLE_ISSUER,
    SetupFlags.HYBRID_IOPOLL: SetupFlags.IOPOLL,
    SetupFlags.SQ_REWIND: SetupFlags.NO_SQARRAY,
}
_EITHER: Final = SetupFlags.COOP_TASKRUN | SetupFlags.DEFER_TASKRUN
"""One of which TASKRUN_FLAG needs."""
_NOT_BOTH: Final = (
    (SetupFlags.SQPOLL, SetupFlags.COOP_TASKRUN | SetupFlags.TASKRUN_FLAG | SetupFlags.DEFER_TASKRUN),
    (SetupFlags.SQPOLL, SetupFlags.SQ_REWIND),
    (SetupFlags.CQE32, SetupFlags.CQE_MIXED),
    (SetupFlags.SQE128, SetupFlags.SQE_MIXED),
)
"""io_uring_sanitise_params. A version that does not know one of them refuses it."""


def _with_needs(flags: int) -> int:
    """With what these need."""
    for flag, need in _NEEDS.items():
        flags |= need if flags & flag else 0
    if flags & SetupFlags.TASKRUN_FLAG and not flags & _EITHER:
        flags |= SetupFlags.COOP_TASKRUN
    return flags


def _is_legal(flags: int) -> bool:
    return not flags & _NOT_HERE and not any(flags & one and flags & others for one, others in _NOT_BOTH)


USED: Final = tuple(
    (int(a), int(b)) for a, b in combinations(SetupFlags, 2) if _is_legal(a | b) and _is_legal(_with_needs(a | b))
)
"""Each two flags that there can be together."""
_ALONE: Final = (SetupFlags.IOPOLL, SetupFlags.SQPOLL, SetupFlags.SQ_AFF)
_MORE: Final = tuple(flag for flag in SetupFlags if flag not in _ALONE and flag not in _NOT_HERE)
"""What is added now and then: a ring with IOPOLL reads and writes nothing here, and a polling thread takes its time."""


def used(scene: Scene, which: int, b: bytes) -> list[Step]:
    """A ring with two flags of setup or more, and what a client asks of it."""
    a, c = USED[which]
    flags = _with_needs(a | c)
    for byte in b[:2]:
        more = _with_needs(flags | int(_MORE[byte % len(_MORE)]))
        flags = more if byte >= 64 and _is_legal(more) else flags
    small = bool(flags & SetupFlags.CQSIZE)
    steps: list[Step] = []
    if flags & SetupFlags.ATTACH_WQ:
        steps.append(Setup("target", 8, flags & POLLED, sq_thread_idle=1))
    entries = 16 if small and flags & SetupFlags.CLAMP and b[2] & 1 else 8
    size = 0 if not small else 1 << 20 if entries == 16 else 8
    steps.append(Setup("scene", entries, flags, size, sq_thread_idle=1, wq_fd=Fd("target")))
    if flags & SetupFlags.R_DISABLED:
        steps.append(Register(RegisterOp.REGISTER_ENABLE_RINGS, 0, 0, "scene"))
    opened, read, write = scene.file("stream")
    steps.append(opened)
    for n in range(1 if flags & POLLED else 1 + b[2] % 2):
        steps += _TRAFFIC[(b[3] + n * (1 + b[4] % 5)) % len(_TRAFFIC)](scene, flags, read, write, b[5 + n % 2])
    steps += _turns(flags)
    steps += [Word("cq_overflow", "scene"), Word("sq_dropped", "scene"), Free("scene")]
    return [*steps, *([Free("target")] if flags & SetupFlags.ATTACH_WQ else [])]


def _turns(flags: int) -> tuple[Step, ...]:
    return turn_of_thread() if flags & POLLED else turn()


def _nops(scene: Scene, flags: int, _read: str, _write: str, byte: int) -> list[Step]:
    """Of each size, in a chain and alone."""
    link = 0 if flags & POLLED else LINK  # its thread may take the head alone
    wide = NopFlags.CQE32 if flags & (SetupFlags.CQE32 | SetupFlags.CQE_MIXED) else NopFlags.TW
    return [
        scene.sqe(Op.NOP, fd=-1, flags=link),
        scene.sqe(Op.NOP, fd=-1, op_flags=int(wide), off=byte, addr=77),
        scene.sqe(Op.NOP, fd=-1, op_flags=int(NopFlags.INJECT_RESULT), len=byte),
        *_turns(flags),
    ]


def _waits(scene: Scene, flags: int, read: str, write: str, byte: int) -> list[Step]:
    """A read that waits, and is given what it waits for."""
    return [
        scene.sqe(Op.READ, fd=Fd(read), addr=data(3), len=64),
        *_turns(flags),
        Write(write, bytes(range(1 + byte % 64))),
        *_turns(flags),
    ]


def _again(scene: Scene, flags: int, read: str, write: str, byte: int) -> list[Step]:
    """A multishot receive, and its end."""
    provided = scene.sqe(Op.PROVIDE_BUFFERS, fd=4, addr=buffer(240), len=64, off=240, buf_group=CLASSIC)
    receive = scene.sqe(Op.RECV, fd=Fd(read), flags=SELECT, buf_group=CLASSIC, ioprio=2)
    written = [step for n in range(1 + byte % 4) for step in (Write(write, bytes([n] * (1 + byte))), *_turns(flags))]
    return [provided, *_turns(flags), receive, *_turns(flags), *written, Close(write), *_turns(flags)]


def _polls(scene: Scene, flags: int, read: str, write: str, byte: int) -> list[Step]:
    """A poll again and again, a time that is over, and an end by a cancel."""
    more = int(PollFlags.ADD_MULTI)
    poll = scene.sqe(Op.POLL_ADD, fd=Fd(read), op_flags=1, len=more)
    steps: list[Step] = [poll, *_turns(flags), Write(write, b"abc"), *_turns(flags)]
    if byte & 1:
        steps += [scene.sqe(Op.TIMEOUT, addr=timespec(0, 1), len=1), *_turns(flags)]
    number: Operand = dict(poll.fields)["user_data"]
    return [*steps, scene.sqe(Op.ASYNC_CANCEL, addr=number, fd=-1), *_turns(flags)]


def _messages(scene: Scene, flags: int, _read: str, _write: str, byte: int) -> list[Step]:
    """To itself, one of 32 bytes where there is room for it."""
    passed = (1 << 15 if flags & SetupFlags.CQE_MIXED else 0) | byte & 7
    return [
        scene.sqe(Op.MSG_RING, fd=Fd("scene"), off=5000 + scene.number(), len=byte),
        *_turns(flags),
        scene.sqe(
            Op.MSG_RING,
            fd=Fd("scene"),
            off=5000 + scene.number(),
            len=byte,
            op_flags=int(MsgRingFlags.FLAGS_PASS),
            file_index=passed,
        ),
        *_turns(flags),
    ]


def _too_many(scene: Scene, flags: int, _read: str, _write: str, byte: int) -> list[Step]:
    """More completions than a small CQ has room for."""
    steps: list[Step] = []
    for _ in range(2):
        steps += [scene.sqe(Op.NOP, fd=-1, len=byte) for _ in range(8)]
        if flags & POLLED:
            steps += [Enter(0, 0, int(EnterFlags.SQ_WAKEUP), ring="scene"), Wait(-1, "scene")]
        else:
            steps.append(Enter(-1, 0, GETEVENTS * (byte & 1), ring="scene", look=False))
    return [*steps, *_turns(flags), *_turns(flags)]


def _fixed(scene: Scene, flags: int, read: str, write: str, byte: int) -> list[Step]:
    """A registered file and a registered buffer."""
    files = Register(RegisterOp.REGISTER_FILES, Blob("2i", (Fd(read), Fd(write))), 2, "scene")
    buffers = Register(RegisterOp.REGISTER_BUFFERS, Blob("2Q", (data(40), 64)), 1, "scene")
    return [
        files,
        buffers,
        scene.sqe(Op.READ_FIXED, fd=0, flags=1, addr=data(40), len=1 + byte % 64, buf_group=0),
        *_turns(flags),
        scene.sqe(Op.WRITE_FIXED, fd=1, flags=1, addr=data(40), len=8, buf_group=0),
        *_turns(flags),
    ]


_TRAFFIC: Final = (_nops, _waits, _again, _polls, _messages, _too_many, _fixed)


def of_used(program: Program) -> Iterator[Row]:
    """The rows that a program has: of a ring of a scene that was asked for something."""
    asked = {step.ring for step in program.steps if isinstance(step, Sqe)}
    for ring, setup in setups(program).items():
        if ring in asked:
            for pair in USED:
                if setup.flags & pair[0] and setup.flags & pair[1]:
                    yield row_of_used(pair)


def row_of_used(pair: tuple[int, int]) -> Row:
    return "a ring that is used", *names(pair[0] | pair[1])
