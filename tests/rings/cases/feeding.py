"""Requests that what they do themselves calls again, and those that the other side could keep busy."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    CQSIZE,
    GETEVENTS,
    Blob,
    Case,
    Drain,
    HostFd,
    Open,
    PutBytes,
    Read,
    Reap,
    Register,
    Setup,
    Write,
    buffer_ring,
    case,
    data,
    enter,
    give,
    look_again,
    nop,
    pipe,
    poll,
    read_multishot,
    recv,
    run,
    send,
    submit,
)
from uring_iopf.abi import RegisterOp, SetupFlags

MULTI, IN, OUT = 1, 1, 4
DONTWAIT, WAITALL = 0x40, 0x100
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
ONE = b"\1" + bytes(7)
_AGAIN = [look_again()] * 3


def _signals(name: str = "event", ring: str = "ring") -> Register:
    """Register an eventfd."""
    return Register(RegisterOp.REGISTER_EVENTFD, Blob("i", (HostFd(name),)), 1, ring)


def _polls_of_rings(kind: str, flags: int) -> tuple[Case, ...]:
    return (
        case(
            f"feeding: a ring's own poll{kind}",
            "the completion that calls it is followed by its last",
            Setup(flags=flags),
            run(poll(1, "ring", IN, len=MULTI)),
            run(nop(2)),
            _AGAIN,
            run(nop(3)),
            _AGAIN,
        ),
        case(
            f"feeding: a ring's own poll, ready at once{kind}",
            "its first completion calls it, and it ends",
            Setup(flags=flags),
            submit(nop(2)),
            run(poll(1, "ring", IN, len=MULTI)),
            _AGAIN,
        ),
        case(
            f"feeding: a ring's own poll, for both{kind}",
            "room is there at once; what that posts ends it",
            Setup(flags=flags),
            run(poll(1, "ring", IN | OUT, len=MULTI)),
            _AGAIN,
            run(nop(3)),
            _AGAIN,
        ),
        case(
            f"feeding: a ring's own poll, for room{kind}",
            "completions are nothing to it",
            Setup(flags=flags),
            run(poll(1, "ring", OUT, len=MULTI)),
            _AGAIN,
            run(nop(3)),
            _AGAIN,
        ),
        case(
            f"feeding: two rings that poll each other{kind}",
            "both end",
            Setup(flags=flags),
            Setup("second", flags=flags),
            run(poll(1, "second", IN, len=MULTI)),
            run(poll(2, "ring", IN, len=MULTI), ring="second"),
            submit(nop(3), flags=GETEVENTS),
            [(enter(0, 0, GETEVENTS), enter(0, 0, GETEVENTS, "second"))] * 3,
            Reap(),
            Reap(ring="second"),
        ),
    )


def _others(kind: str, flags: int) -> tuple[Case, ...]:
    # Where task work is put off, how often the eventfd is signalled is another matter.
    count = [Read("event")] if not flags else []
    return (
        case(
            f"feeding: another ring's poll{kind}",
            "ends with the first completion, though it could not feed itself",
            Setup(flags=flags),
            Setup("second"),
            run(poll(1, "second", IN, len=MULTI)),
            run(nop(7), ring="second"),
            _AGAIN,
            run(nop(8), ring="second"),
            _AGAIN,
        ),
        case(
            f"feeding: another ring's poll, ready at once{kind}",
            "that goes on, and ends with the next",
            Setup(flags=flags),
            Setup("second"),
            submit(nop(7), ring="second"),
            run(poll(1, "second", IN, len=MULTI)),
            _AGAIN,
            submit(nop(8), ring="second"),
            _AGAIN,
            submit(nop(9), ring="second"),
            _AGAIN,
        ),
        case(
            f"feeding: the eventfd that the ring signals{kind}",
            "its poll ends with the first signal",
            Setup(flags=flags),
            Open("event", "eventfd", nonblock=True),
            _signals(),
            run(poll(1, "event", IN, len=MULTI)),
            run(nop(2)),
            _AGAIN,
            run(nop(3)),
            _AGAIN,
            count,
        ),
        case(
            f"feeding: that eventfd, written by somebody{kind}",
            "what that posts signals it, which ends the poll",
            Setup(flags=flags),
            Open("event", "eventfd", nonblock=True),
            _signals(),
            run(poll(1, "event", IN, len=MULTI)),
            Write("event", ONE),
            _AGAIN,
            run(nop(3)),
            _AGAIN,
            count,
        ),
        case(
            f"feeding: that eventfd, ready at once{kind}",
            "the same",
            Setup(flags=flags),
            Open("event", "eventfd", nonblock=True, value=1),
            _signals(),
            run(poll(1, "event", IN, len=MULTI)),
            _AGAIN,
            run(nop(3)),
            _AGAIN,
            count,
        ),
        case(
            f"feeding: the eventfd of another ring{kind}",
            "its poll ends with the first signal, though it could not feed itself",
            Setup(flags=flags),
            Setup("second"),
            Open("event", "eventfd", nonblock=True),
            _signals(ring="second"),
            run(poll(1, "event", IN, len=MULTI)),
            run(nop(7), ring="second"),
            _AGAIN,
            Write("event", ONE),
            _AGAIN,
        ),
        case(
            f"feeding: an eventfd that no ring signals any more{kind}",
            "its poll goes on",
            Setup(flags=flags),
            Open("event", "eventfd", nonblock=True),
            _signals(),
            run(poll(1, "event", IN, len=MULTI)),
            Register(RegisterOp.UNREGISTER_EVENTFD),
            run(nop(2)),
            Write("event", ONE),
            _AGAIN,
            Write("event", ONE),
            _AGAIN,
        ),
        case(
            f"feeding: reading that eventfd again and again{kind}",
            "feeds itself until there are no buffers",
            Setup(flags=flags),
            Open("event", "eventfd", nonblock=True),
            _signals(),
            buffer_ring(),
            give(0, 1, 2, 3),
            run(read_multishot(1, "event")),
            run(nop(2)),
            _AGAIN,
            since=(6, 7),
        ),
        case(
            f"feeding: one poll of that eventfd{kind}",
            "once",
            Setup(flags=flags),
            Open("event", "eventfd", nonblock=True),
            _signals(),
            run(poll(1, "event", IN)),
            run(nop(2)),
            _AGAIN,
        ),
        case(
            f"feeding: many are ready at once{kind}",
            "where task work is put off, 20 of them at a time, or as many as are waited for",
            Setup(flags=flags | CQSIZE, entries=64, cq_entries=256),
            pipe(),
            submit(*[poll(n, "pipe.r", IN) for n in range(1, 51)]),
            Write("pipe.w", b"a"),
            _AGAIN,
            run(*[poll(n, "pipe.r", IN, len=MULTI) for n in range(1, 51)]),
            _AGAIN,
            Write("pipe.w", b"a"),
            enter(0, 30, GETEVENTS),
            Reap(),
            _AGAIN,
            since=(6, 13),
        ),
        case(
            f"feeding: many messages, one multishot read{kind}",
            "all of them, in the first look",
            Setup(flags=flags | CQSIZE, entries=64, cq_entries=256),
            pipe(),
            buffer_ring(entries=128),
            give(*range(70), length=1, entries=128),
            run(read_multishot(1)),
            Write("pipe.w", b"a" * 60),
            _AGAIN,
            since=(6, 7),
        ),
    )


_PARTS: Final = (
    case(
        "feeding: MSG_WAITALL, in parts",
        "each part is taken when it is there",
        Setup(),
        Open("socket", "stream"),
        run(recv(1, len=8, op_flags=WAITALL), nop(2)),
        [(Write("socket.b", b"abc"), Reap()) for _ in range(3)],
        Read("socket.a"),
    ),
    case(
        "feeding: MSG_WAITALL, a part is there",
        "what comes by now is had behind the batch",
        Setup(),
        Open("socket", "stream"),
        Write("socket.b", b"abc"),
        run(recv(1, len=8, op_flags=WAITALL), send(2, "socket.b", len=5), nop(3)),
        look_again(),
    ),
    case(
        "feeding: MSG_WAITALL, and not to wait",
        "what there is",
        Setup(),
        Open("socket", "stream"),
        Write("socket.b", b"abc"),
        run(recv(1, len=8, op_flags=WAITALL | DONTWAIT), nop(3)),
        run(recv(1, len=8, op_flags=WAITALL | DONTWAIT), nop(3)),
    ),
    case(
        "feeding: MSG_WAITALL, more than there is room for",
        "the rest goes when there is room",
        Setup(),
        Open("socket", "stream"),
        PutBytes(data(0), b"abc"),
        run(send(1, len=260_000, op_flags=WAITALL), nop(3)),
        Drain("socket.b"),
        look_again(),
        Drain("socket.b"),
        run(send(2, len=260_000, op_flags=WAITALL | DONTWAIT), nop(3)),
    ),
)

CASES: Final = (
    *_polls_of_rings("", 0),
    *_polls_of_rings(", put off", DEFER),
    *_others("", 0),
    *_others(", put off", DEFER),
    *_PARTS,
)
