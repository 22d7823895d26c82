"""Two threads of one process: who may enter a ring, what ends another's wait, and whose numbers are whose."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    EXT_ARG,
    GETEVENTS,
    Blob,
    Elsewhere,
    Enter,
    Fd,
    Look,
    Meanwhile,
    Put,
    Reap,
    Register,
    Setup,
    Write,
    case,
    data,
    enter,
    ext,
    message,
    nop,
    on,
    pipe,
    read,
)
from uring_iopf.abi import EnterFlags, RegisterOp, SetupFlags

SINGLE: Final = int(SetupFlags.SINGLE_ISSUER)
DEFER: Final = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
DISABLED: Final = int(SetupFlags.R_DISABLED)
BY_NUMBER: Final = GETEVENTS | int(EnterFlags.REGISTERED_RING)
ALLOC: Final = 0xFFFFFFFF
_ADD: Final = Blob("IIQ", (3, 0, Fd("ring")))
_REMOVE: Final = Blob("IIQ", (3, 0, 0))
_ENABLE: Final = Register(RegisterOp.REGISTER_ENABLE_RINGS)
_UNREGISTER_FILES: Final = Register(RegisterOp.UNREGISTER_FILES)


def _wait(count: int) -> Enter:
    """For so many, and five seconds at most."""
    return Enter(-1, count, GETEVENTS | EXT_ARG, ext(5), 24)


CASES: Final = (
    case(
        "threads: registered rings",
        "each thread has numbers of its own; of the other's it knows none",
        Setup(),
        Register(RegisterOp.REGISTER_RING_FDS, _ADD, 1),
        nop(1),
        Elsewhere(Enter(1, 0, BY_NUMBER, fd=3)),
        Elsewhere(Register(RegisterOp.REGISTER_RING_FDS, _ADD, 1)),
        Elsewhere(Register(RegisterOp.REGISTER_RING_FDS, _ADD, 1)),
        Elsewhere(Enter(1, 0, BY_NUMBER, fd=3)),
        Reap(),
        Register(RegisterOp.UNREGISTER_RING_FDS, _REMOVE, 1),
        Enter(0, 0, BY_NUMBER, fd=3),
        Elsewhere(Enter(0, 0, BY_NUMBER, fd=3)),
        Elsewhere(Register(RegisterOp.UNREGISTER_RING_FDS, _REMOVE, 1)),
        Elsewhere(Enter(0, 0, BY_NUMBER, fd=3)),
        since=(6, 3),
    ),
    case(
        "threads: registered rings, any slot",
        "the first that is free among the thread's own",
        Setup(),
        [Put(data(n), "IIQ", (ALLOC, 0, Fd("ring"))) for n in (1, 2)],
        Register(RegisterOp.REGISTER_RING_FDS, data(1), 1),
        Elsewhere(Register(RegisterOp.REGISTER_RING_FDS, data(2), 1)),
        [Look(data(n), 0, "II") for n in (1, 2)],
        Register(RegisterOp.UNREGISTER_RING_FDS, Blob("IIQ", (0, 0, 0)), 1),
        Elsewhere(Register(RegisterOp.UNREGISTER_RING_FDS, Blob("IIQ", (0, 0, 0)), 1)),
        since=(6, 3),
    ),
    *(
        case(
            f"threads: one issuer, {name}",
            "EEXIST to whoever else submits or registers, and with DEFER_TASKRUN also to who only waits",
            Setup(flags=flags | DISABLED),
            Elsewhere(_ENABLE),
            nop(1),
            enter(1, 0, GETEVENTS),
            _UNREGISTER_FILES,
            enter(0, 0, GETEVENTS),
            Elsewhere(Enter(1, 0, GETEVENTS)),
            Elsewhere(_UNREGISTER_FILES),
            Reap(),
        )
        for name, flags in (("SINGLE_ISSUER", SINGLE), ("DEFER_TASKRUN", DEFER))
    ),
    case(
        "threads: a wait that another thread's submission ends",
        "it counts whatever the ring completes",
        Setup(),
        nop(1),
        Meanwhile(Enter(0, 1, GETEVENTS | EXT_ARG, ext(5), 24), (enter(1),)),
        Reap(),
    ),
    *(
        case(
            f"threads: a wait that a message ends, {name}",
            "that of another thread, from its own ring",
            Elsewhere(Setup(flags=flags)),
            Setup("second", flags=flags),
            pipe(),
            read(1),
            on("second", message(2, "ring", 77, 5)),
            Meanwhile(_wait(1), (enter(1, 0, GETEVENTS, "second"),)),
            Reap(),
            Reap(ring="second"),
            Meanwhile(_wait(1), (Write("pipe.w", b"12345678"),)),
            Reap(),
        )
        for name, flags in (("any issuer", 0), ("DEFER_TASKRUN", DEFER))
    ),
)
