"""What scenes are made with; the scenes themselves are in `scenes`, `setups` and `threads`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tests.rings.language import (
    GETEVENTS,
    Enter,
    Fd,
    Open,
    Operand,
    Reap,
    Setup,
    Sqe,
    Step,
    Wait,
    request,
)
from uring_iopf.abi import EnterFlags, SetupFlags, SqeFlags

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.rings.language import Program
    from uring_iopf.abi import Op

LINK, HARD = int(SqeFlags.IO_LINK), int(SqeFlags.IO_HARDLINK)
ASYNC, DRAIN, SELECT = int(SqeFlags.ASYNC), int(SqeFlags.IO_DRAIN), int(SqeFlags.BUFFER_SELECT)
POLLED, DISABLED, MIXED = int(SetupFlags.SQPOLL), int(SetupFlags.R_DISABLED), int(SetupFlags.CQE_MIXED)
SUBMIT_ALL: Final = int(SetupFlags.SUBMIT_ALL)
SINGLE: Final = int(SetupFlags.SINGLE_ISSUER)
DEFER: Final = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
LAZY: Final = (0, int(SetupFlags.COOP_TASKRUN), SINGLE, DEFER)
"""Rings whose clients start what they ask for. None tells by a flag that there is task work: a time says when."""
CLASSIC: Final = 3
SOCKETS: Final = ("stream", "seqpacket", "dgram", "tcp", "udp")
ENDS: Final = {
    "pipe": ("r", "w"),
    "fifo": ("r", "w"),
    "packet": ("r", "w"),
    **dict.fromkeys((*SOCKETS, "pty"), ("a", "b")),
}
"""By the kind of file: the end that reads, and the one that writes."""
RINGS: Final = ("scene", "target")
"""The rings of scenes, which are gone when a scene is over."""
Row = tuple[str, ...]


class Scene(NamedTuple):
    """What a scene knows of the program that it is in."""

    number: Callable[[], int]
    lazy: bool
    """Whether no ring of the program gets a turn by itself."""

    def sqe(self, op: Op, **fields: Operand) -> Sqe:
        return self.sqe_of("scene", op, **fields)

    def sqe_of(self, ring: str, op: Op, **fields: Operand) -> Sqe:
        return request(op, {"user_data": self.number(), **fields}, ring)

    def file(self, kind: str) -> tuple[Open, str, str]:
        """A file, with its two ends."""
        name = f"f{self.number()}"
        if kind == "eventfd":
            return Open(name, kind, nonblock=True), name, name
        read, write = ENDS[kind]
        return Open(name, kind), f"{name}.{read}", f"{name}.{write}"


def turn(ring: str = "scene") -> tuple[Step, ...]:
    """Submit all, let come what comes, and take it."""
    return Enter(-1, 0, GETEVENTS, ring=ring, look=False), Wait(-1, ring), Reap(ring=ring)


def turn_of_thread(ring: str = "scene") -> tuple[Step, ...]:
    """The same of a ring with SQPOLL."""
    why = "the ring's thread takes what there is, when it likes"
    return (
        Enter(0, 0, int(EnterFlags.SQ_WAKEUP), ring=ring),
        Wait(-1, ring),
        Reap(ring=ring, order=False, why=why),
    )


def kinds_of_files(program: Program) -> dict[str, str]:
    """By their names."""
    return {step.name: step.kind for step in program.steps if isinstance(step, Open)}


def kind_of(fd: Operand | None, kinds: dict[str, str]) -> str:
    return kinds.get(fd.name.partition(".")[0], "") if isinstance(fd, Fd) else ""


def names(flags: int) -> tuple[str, ...]:
    """Of flags of setup."""
    return tuple(str(flag.name) for flag in SetupFlags if flag & flags)


def setups(program: Program) -> dict[str, Setup]:
    """The rings of scenes."""
    return {step.ring: step for step in program.steps if isinstance(step, Setup) and step.ring in RINGS}
