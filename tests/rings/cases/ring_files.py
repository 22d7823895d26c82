"""Requests for the descriptor of a ring or an epoll, which can be polled, and neither read nor written."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    GETEVENTS,
    Blob,
    Fd,
    Hole,
    Nonblock,
    Open,
    Read,
    Reap,
    Setup,
    Sqe,
    Steps,
    Write,
    buffer_ring,
    cancel,
    case,
    data,
    enter,
    give,
    look_again,
    nop,
    on,
    read,
    read_multishot,
    read_select,
    recv,
    run,
    send,
    sqe,
    submit,
    write,
)
from uring_iopf.abi import Op, SetupFlags, SqeFlags

RWF_NOWAIT, POLL_FIRST, ALL = 8, 1, 1
ONE: Final = bytes([1, *bytes(7)])
LINK, SKIP = int(SqeFlags.IO_LINK), int(SqeFlags.CQE_SKIP_SUCCESS)
DEFER: Final = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
_PIECES: Final = Blob("QQ", (data(1), 8))


def _reads(flags: int) -> tuple[Sqe, ...]:
    return (
        read(1, "other", op_flags=flags),
        read(1, "other", op_flags=flags, len=0),
        read(1, "other", op_flags=flags, addr=Hole()),
        read(1, "other", op_flags=flags, off=1 << 63),
        read(1, "other", op_flags=flags, flags=LINK),
        read_select(1, "other", op_flags=flags),
        read_multishot(1, "other", op_flags=flags),
        sqe(Op.READV, fd=Fd("other"), addr=_PIECES, len=1, user_data=1, op_flags=flags),
    )


def _writes(flags: int) -> tuple[Sqe, ...]:
    return (
        write(1, "other", op_flags=flags),
        write(1, "other", op_flags=flags, len=0),
        write(1, "other", op_flags=flags, addr=Hole()),
        write(1, "other", op_flags=flags, off=1 << 63),
        write(1, "other", op_flags=flags, off=-1),
        write(1, "other", op_flags=flags, flags=LINK),
        write(1, "other", op_flags=flags, flags=SKIP),
        sqe(Op.WRITEV, fd=Fd("other"), addr=_PIECES, len=1, user_data=1, op_flags=flags),
    )


_OTHERS: Final = (
    recv(1, "other"),
    recv(1, "other", ioprio=POLL_FIRST),
    send(1, "other"),
    send(1, "other", ioprio=POLL_FIRST),
    sqe(Op.URING_CMD, fd=Fd("other"), user_data=1),
)


def _ready(request: Sqe) -> Steps:
    """Twice: before the other ring has a completion, and when it has."""
    return [
        run(request, nop(2)),
        submit(nop(3), ring="other"),
        Reap(),
        look_again(),
        run(request, nop(4)),
        Reap(ring="other"),
    ]


def _full(request: Sqe) -> Steps:
    """While the other ring's SQ is full, and when it is not any more."""
    return [on("other", nop(3)), run(request, nop(2)), enter(1, ring="other"), look_again(), Reap(ring="other")]


_RINGS: Final = tuple(
    case(
        f"ring file: {name}{', DEFER_TASKRUN' if ring else ''}{', O_NONBLOCK' if nonblock else ''}",
        "EINVAL when Linux would call it: with O_NONBLOCK at once, otherwise when it is ready",
        Setup(flags=ring),
        Setup("other", entries=1),
        Nonblock("other") if nonblock else (),
        buffer_ring(),
        give(0, 1, 2, 3, 4, 5, 6, 7),
        [then(request) for request in requests],
        enter(0, 0, GETEVENTS),
        since=(6, 7),
    )
    for ring in (0, DEFER)
    for nonblock in (False, True)
    for name, then, requests in (
        ("reads", _ready, _reads(0)),
        ("reads that must not wait", _ready, _reads(RWF_NOWAIT)),
        ("writes", _ready, _writes(0)),
        ("writes that must not wait", _ready, _writes(RWF_NOWAIT)),
        ("writes to a full one", _full, _writes(0)),
        ("other requests", _ready, _OTHERS),
    )
)

_EPOLLS: Final = tuple(
    case(
        f"epoll file: {name}{', O_NONBLOCK' if nonblock else ''}",
        "the same, and it is never ready to be written",
        Setup(),
        Open("other", "epoll", nonblock=nonblock),
        buffer_ring(),
        give(0, 1, 2, 3, 4, 5, 6, 7),
        [
            (run(request, nop(2)), Write("other.in", ONE), Reap(), run(request, nop(3)), Read("other.in"))
            for request in requests
        ],
        run(cancel(9, 1, ALL)),
        Reap(),
        since=(6, 7),
    )
    for nonblock in (False, True)
    for name, requests in (
        ("reads", _reads(0)),
        ("reads that must not wait", _reads(RWF_NOWAIT)),
        ("writes", _writes(0)),
        ("writes that must not wait", _writes(RWF_NOWAIT)),
        ("other requests", _OTHERS),
    )
)

CASES: Final = (*_RINGS, *_EPOLLS)
"""READ, WRITE and others."""
