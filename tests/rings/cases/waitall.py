"""MSG_WAITALL: receives and sends that wait for the rest, and what is said of the bytes that were moved."""

from __future__ import annotations

from typing import Final

from tests.rings.cases.cancels import sync_cancel
from tests.rings.language import (
    MS,
    Close,
    Drain,
    Fill,
    Open,
    Read,
    Reap,
    Setup,
    Sqe,
    Wait,
    Write,
    cancel,
    case,
    link_timeout,
    look_again,
    nop,
    pipe,
    recv,
    run,
    send,
    submit,
    write,
)
from uring_iopf.abi import SetupFlags, SqeFlags

LINK, HARD, SKIP = int(SqeFlags.IO_LINK), int(SqeFlags.IO_HARDLINK), int(SqeFlags.CQE_SKIP_SUCCESS)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
PEEK, TRUNC, DONTWAIT, WAITALL = 2, 0x20, 0x40, 0x100
RINGS: Final = (("", 0), (", put off", DEFER))
SOCKETS: Final = ("stream", "tcp", "seqpacket")
MUCH: Final = 260_000
"""More than a Unix socket has room for."""
ALL: Final = 4

_RECEIVES: Final = tuple(
    made
    for suffix, flags in RINGS
    for kind in SOCKETS
    for made in (
        case(
            f"part of a receive: {kind}, cancelled{suffix}",
            "the bytes that came, and the chain fails",
            Setup(flags=flags),
            Open("socket", kind),
            run(recv(1, len=8, op_flags=WAITALL, flags=LINK), nop(2)),
            Write("socket.b", b"abc"),
            look_again(),
            run(cancel(9, 1)),
            look_again(),
        ),
        case(
            f"part of a receive: {kind}, cancelled by a call{suffix}",
            "the same",
            Setup(flags=flags),
            Open("socket", kind),
            run(recv(1, len=8, op_flags=WAITALL)),
            Write("socket.b", b"abc"),
            look_again(),
            sync_cancel(1),
            look_again(),
        ),
        case(
            f"part of a receive: {kind}, out of time{suffix}",
            "the same, and the time-out says that it has ended it",
            Setup(flags=flags),
            Open("socket", kind),
            Write("socket.b", b"abc"),
            submit(recv(1, len=8, op_flags=WAITALL, flags=LINK), link_timeout(2, 0, MS, flags=LINK), nop(3)),
            Wait(3),
            Reap(),
        ),
        case(
            f"part of a receive: {kind}, cancelled with more to come{suffix}",
            "what the cancel overtakes stays in the socket",
            Setup(flags=flags),
            Open("socket", kind),
            run(recv(1, len=8, op_flags=WAITALL)),
            Write("socket.b", b"abc"),
            look_again(),
            Write("socket.b", b"de"),
            run(cancel(9, 1)),
            look_again(),
            run(recv(3)),
        ),
    )
)

_RECEIVES_MORE: Final = (
    case(
        "part of a receive: none yet",
        "ECANCELED",
        Setup(),
        Open("socket", "stream"),
        run(recv(1, len=8, op_flags=WAITALL, flags=LINK), nop(2)),
        run(cancel(9, 1)),
        look_again(),
    ),
    case(
        "part of a receive: a hard link",
        "goes on",
        Setup(),
        Open("socket", "stream"),
        run(recv(1, len=8, op_flags=WAITALL, flags=HARD), nop(2)),
        Write("socket.b", b"abc"),
        run(cancel(9, 1)),
        look_again(),
    ),
    case(
        "part of a receive: in silence",
        "it is a failure, and is said",
        Setup(),
        Open("socket", "stream"),
        run(recv(1, len=8, op_flags=WAITALL, flags=SKIP)),
        Write("socket.b", b"abc"),
        run(cancel(9, 1)),
        look_again(),
    ),
    case(
        "part of a receive: all that wait are cancelled",
        "each says what it has",
        Setup(),
        Open("socket", "stream"),
        Open("other", "stream"),
        run(recv(1, len=8, op_flags=WAITALL), recv(2, "other.a", len=8, op_flags=WAITALL)),
        Write("socket.b", b"abc"),
        run(cancel(9, how=ALL), order=False, why="which is found first is up to a hash table"),
        look_again(),
    ),
    case(
        "part of a receive: the ring goes",
        "and takes what came with it",
        Setup(),
        Setup("other"),
        Open("socket", "stream"),
        run(recv(1, len=8, op_flags=WAITALL)),
        Write("socket.b", b"abc"),
        Write("socket.b", b"de"),
        run(recv(2, len=8), ring="other"),
    ),
    case(
        "part of a receive: the other end closes",
        "the bytes that came, and the chain fails",
        Setup(),
        Open("socket", "stream"),
        run(recv(1, len=8, op_flags=WAITALL, flags=LINK), nop(2)),
        Write("socket.b", b"abc"),
        Close("socket.b"),
        look_again(),
    ),
)

_SENDS: Final = tuple(
    made
    for suffix, flags in RINGS
    for made in (
        case(
            f"part of a send: cancelled{suffix}",
            "the bytes that went, and the chain fails",
            Setup(flags=flags),
            Open("socket", "stream"),
            run(send(1, len=MUCH, op_flags=WAITALL, flags=LINK), nop(2)),
            run(cancel(9, 1)),
            look_again(),
            Drain("socket.b"),
        ),
        case(
            f"part of a send: cancelled by a call{suffix}",
            "the same; half of it has been read",
            Setup(flags=flags),
            Open("socket", "stream"),
            run(send(1, len=MUCH, op_flags=WAITALL, flags=LINK), nop(2)),
            Read("socket.b", 100_000),
            look_again(),
            sync_cancel(1),
            look_again(),
            Drain("socket.b"),
        ),
        case(
            f"part of a send: out of time{suffix}",
            "the same",
            Setup(flags=flags),
            Open("socket", "stream"),
            submit(send(1, len=MUCH, op_flags=WAITALL, flags=LINK), link_timeout(2, 0, MS)),
            Wait(2),
            Reap(),
        ),
        case(
            f"part of a send: none yet{suffix}",
            "ECANCELED",
            Setup(flags=flags),
            Open("socket", "stream"),
            Fill("socket.a"),
            run(send(1, len=MUCH, op_flags=WAITALL, flags=LINK), nop(2)),
            sync_cancel(1),
            look_again(),
        ),
        case(
            f"part of a send: the other end closes{suffix}",
            "the bytes that went",
            Setup(flags=flags),
            Open("socket", "stream"),
            run(send(1, len=MUCH, op_flags=WAITALL, flags=LINK), nop(2)),
            Close("socket.b"),
            look_again(),
        ),
    )
)

_AT_ONCE: Final = (
    case(
        "messages: a flag of programs of 32 bits",
        "is ignored",
        Setup(),
        Open("socket", "stream"),
        run(recv(1, op_flags=1 << 31, flags=LINK), nop(2)),
        Write("socket.b", b"abc"),
        look_again(),
        run(recv(3, op_flags=1 << 31 | DONTWAIT)),
    ),
    case(
        "part of a send: not all at once",
        "without MSG_WAITALL a part is the result, and nothing is left to be cancelled",
        Setup(),
        Open("socket", "stream"),
        run(send(1, len=MUCH, flags=LINK), nop(2)),
        run(cancel(9, 1)),
    ),
    case(
        "part of a write: not all at once",
        "a part is the result, and nothing is left to be cancelled; the chain fails",
        Setup(),
        pipe(value=4096),
        run(write(1, len=6000, flags=LINK), nop(2)),
        look_again(),
        run(write(3, len=6000)),
        run(cancel(9, 3)),
        look_again(),
    ),
)


def _whole(user_data: int, op_flags: int = WAITALL) -> Sqe:
    return recv(user_data, len=8, op_flags=op_flags, flags=LINK)


_MESSAGES: Final = tuple(
    made
    for kind in ("stream", "tcp", "seqpacket", "dgram", "udp")
    for made in (
        case(
            f"messages: {kind}, shorter and longer",
            "a datagram is not waited for; what is shorter, or cut, fails the chain",
            Setup(),
            Open("socket", kind),
            run(_whole(1), nop(2)),
            Write("socket.b", b"abc"),
            look_again(),
            Write("socket.b", b"abcdefghij"),
            look_again(),
            run(_whole(3), nop(4)),
            run(cancel(9, 3)),
        ),
        case(
            f"messages: {kind}, as long",
            "the chain goes on",
            Setup(),
            Open("socket", kind),
            Write("socket.b", b"abcdefgh"),
            run(_whole(1), nop(2)),
        ),
        case(
            f"messages: {kind}, empty, or into nothing",
            "an empty message is shorter, and one into no bytes is cut",
            Setup(),
            Open("socket", kind),
            run(_whole(1), nop(2)),
            run(send(3, "socket.b", len=0)),
            look_again(),
            run(cancel(9, 1)),
            Write("socket.b", b"abc"),
            run(recv(4, len=0, op_flags=WAITALL, flags=LINK), nop(5)),
        ),
        case(
            f"messages: {kind}, peeked, and how long it was",
            "MSG_PEEK sees the same again; MSG_TRUNC says how long the message was",
            Setup(),
            Open("socket", kind),
            Write("socket.b", b"abc"),
            run(_whole(1, WAITALL | PEEK), nop(2)),
            look_again(),
            run(recv(3)),
            Write("socket.b", b"abcdefghij"),
            run(_whole(4, WAITALL | TRUNC), nop(5)),
            look_again(),
            run(_whole(6, TRUNC), nop(7)),
            run(cancel(9, 4), cancel(10, 6)),
        ),
        case(
            f"messages: {kind}, not to wait",
            "what is there, as a failure; EAGAIN when nothing is",
            Setup(),
            Open("socket", kind),
            run(_whole(1, WAITALL | DONTWAIT), nop(2)),
            Write("socket.b", b"abc"),
            run(_whole(3, WAITALL | DONTWAIT), nop(4)),
        ),
    )
)

CASES: Final = (*_RECEIVES, *_RECEIVES_MORE, *_SENDS, *_AT_ONCE, *_MESSAGES)
