"""Restrictions: what a ring may be asked for."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    GETEVENTS,
    Blob,
    Reap,
    Register,
    Setup,
    Wait,
    case,
    enter,
    files,
    look_again,
    nop,
    pipe,
    poll,
    refused,
    run,
    sqe,
    submit,
    write,
)
from uring_iopf.abi import Op, RegisterOp, SetupFlags, SqeFlags

SKIP = int(SqeFlags.CQE_SKIP_SUCCESS)
LINK = int(SqeFlags.IO_LINK)
DRAIN = 2
DISABLED = int(SetupFlags.R_DISABLED)
CLAMP = int(SetupFlags.CLAMP)
CQE32 = int(SetupFlags.CQE32)
ASYNC = int(SqeFlags.ASYNC)


def restrict(*rows: tuple[int, int]) -> Register:
    words = tuple(word for kind, value in rows for word in (kind, value, 0, 0, 0, 0))
    return Register(RegisterOp.REGISTER_RESTRICTIONS, Blob("HBB3I" * len(rows), words), len(rows))


CASES: Final = (
    case(
        "restrictions: operations",
        "EACCES for the others; it does not end what is behind it with SUBMIT_ALL only",
        Setup(flags=DISABLED),
        restrict((1, 0)),
        restrict((1, 0)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        run(nop(1)),
        refused(poll(5, fd=-1), sqe(255, user_data=5)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
    ),
    case(
        "restrictions: flags",
        "that are allowed, and that must be",
        Setup(flags=DISABLED),
        restrict((1, 0), (2, DRAIN | LINK), (3, DRAIN)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        refused(nop(1), nop(3, flags=DRAIN | SKIP)),
        submit(nop(2, flags=DRAIN)),
        Wait(1),
        Reap(),
    ),
    case(
        "restrictions: register calls",
        "EACCES for the others",
        Setup(flags=DISABLED),
        restrict((0, int(RegisterOp.REGISTER_ENABLE_RINGS)), (0, int(RegisterOp.REGISTER_FILES)), (1, 0)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        files(-1),
        Register(RegisterOp.UNREGISTER_FILES),
        Register(RegisterOp.REGISTER_PERSONALITY),
        run(nop(1)),
    ),
    case("restrictions: a ring that is not disabled", "EBADFD", Setup(), restrict((1, 0))),
    case(
        "restrictions: refusals",
        "EINVAL",
        Setup(flags=DISABLED),
        restrict((4, 0)),
        restrict((0, 200)),
        restrict((1, 200)),
        Register(RegisterOp.REGISTER_RESTRICTIONS, 0, 1),
        Register(RegisterOp.REGISTER_RESTRICTIONS, Blob("HBB3I", (1, 0, 0, 0, 0, 0)), 0),
        restrict((1, 0)),
    ),
    case(
        "disabled: register calls",
        "are allowed; submitting is not",
        Setup(flags=DISABLED),
        files(-1),
        enter(0, 0, GETEVENTS),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        run(nop(1)),
    ),
    case(
        "restrictions: when they count",
        "not before the ring is enabled; then also for enabling, and before the argument is looked at",
        Setup(flags=DISABLED),
        restrict((1, 0), (0, int(RegisterOp.REGISTER_EVENTFD))),
        Register(RegisterOp.REGISTER_ENABLE_RINGS, 0, 1),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        Register(RegisterOp.REGISTER_EVENTFD, 0, 1),
        Register(RegisterOp.UNREGISTER_EVENTFD),
    ),
    case(
        "restrictions: in a batch",
        "EACCES ends it; flags that are allowed work, unknown ones and operations are EINVAL all the same",
        Setup(flags=DISABLED),
        pipe(),
        restrict((1, int(Op.NOP)), (1, int(Op.READ)), (2, LINK | SKIP), (3, 0)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        refused(write(5), nop(5, flags=ASYNC), nop(5, flags=0x80), nop(5, ioprio=1)),
        run(nop(2, flags=LINK), nop(3, flags=SKIP), sqe(255, user_data=4)),
        run(nop(6, flags=LINK), write(7), nop(8)),
        look_again(),
    ),
    case(
        "restrictions: flags that must be",
        "are allowed by that; others are not",
        Setup(flags=DISABLED),
        restrict((1, 0), (3, ASYNC)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        refused(nop(5)),
        submit(nop(1, flags=ASYNC)),
        Wait(1),
        Reap(),
        run(nop(2, flags=ASYNC | LINK)),
        needs=("workers",),
    ),
)
