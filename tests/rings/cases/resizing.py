"""Resizing a ring."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    CQSIZE,
    GETEVENTS,
    Blob,
    Params,
    Reap,
    Register,
    Setup,
    Steps,
    Word,
    case,
    enter,
    nop,
    run,
    submit,
)
from uring_iopf.abi import RegisterOp, SetupFlags

CLAMP = int(SetupFlags.CLAMP)
CQE32 = int(SetupFlags.CQE32)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)


def resize(sq: int, cq: int = 0, flags: int = 0) -> Register:
    words = [0] * 30
    words[0], words[1], words[2] = sq, cq, flags
    return Register(RegisterOp.REGISTER_RESIZE_RINGS, Blob("30I", tuple(words)), 1)


_SIZES = [Word(name) for name in ("sq_mask", "sq_entries", "cq_mask", "cq_entries")]


def _resized(flags: int) -> tuple[Steps, ...]:
    words = ("sq_head", "sq_tail", "cq_head", "cq_tail", "sq_dropped", "sq_flags")
    return (
        Setup(entries=8, flags=flags),
        [nop(n) for n in range(6)],
        enter(4, 0, GETEVENTS),
        [(resize(*how), _SIZES) for how in ((0,), (8, 4, CQSIZE), (8, 0, CQSIZE), (70000,), (8, 0, 1), (8, 0, CLAMP))],
        [Word(name) for name in words],
        Reap(),
        [nop(10 + n) for n in range(5)],
        [(resize(*how), _SIZES) for how in ((4,), (16,), (16, 2, CQSIZE), (70000, 0, CLAMP))],
    )


CASES: Final = (
    case(
        "resize: refusals",
        "EINVAL without DEFER_TASKRUN, for flags and sizes",
        Setup(),
        resize(16),
        Setup(flags=DEFER),
        resize(0),
        resize(16, 0, 1),
        resize(32769),
        resize(16, 4, CQSIZE),
        Register(RegisterOp.REGISTER_RESIZE_RINGS, Blob("30I", (16, *(0,) * 29)), 0),
        since=(6, 13),
    ),
    case(
        "resize: larger",
        "what is there stays",
        Setup(entries=4, flags=DEFER),
        run(nop(1)),
        submit(nop(2), nop(3), flags=GETEVENTS),
        resize(16),
        Params(),
        Reap(),
        [run(*(nop(n) for n in range(12)))] * 2,
        since=(6, 18),
    ),
    case(
        "resize: smaller",
        "EOVERFLOW when it does not fit",
        Setup(entries=8, flags=DEFER),
        submit(*(nop(n) for n in range(8)), flags=GETEVENTS),
        resize(2),
        Reap(4),
        resize(2),
        Params(),
        Reap(),
        run(nop(1), nop(2)),
        since=(6, 18),
    ),
    case(
        "resize: unsubmitted SQEs",
        "come along",
        Setup(entries=4, flags=DEFER),
        nop(1),
        nop(2),
        resize(8),
        Word("sq_tail"),
        enter(2, 0, GETEVENTS),
        Reap(),
        since=(6, 13),
    ),
    case(
        "resize: CQ only",
        "with CQSIZE",
        Setup(entries=4, flags=DEFER),
        resize(4, 64, CQSIZE),
        Params(),
        [run(*(nop(n) for n in range(4)))] * 20,
        since=(6, 18),
    ),
    case(
        "resize: in turn",
        "EOVERFLOW for what does not hold the SQEs that are there, CLAMP; counts go on, and what was there stays",
        [_resized(flags) for flags in (DEFER, DEFER | CQE32)],
        since=(6, 13),
    ),
)
