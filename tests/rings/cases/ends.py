"""Multishot receives and the end of a stream: data and the end, before the ring has a turn and one after the other."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    GETEVENTS,
    Blob,
    Case,
    Close,
    Fd,
    Open,
    Outside,
    Reap,
    Setup,
    Shutdown,
    Step,
    Wait,
    Write,
    buffer_ring,
    case,
    data,
    flat,
    give,
    look_again,
    nop,
    read,
    read_multishot,
    read_select,
    recv,
    recv_multishot,
    request,
    run,
    submit,
    together,
)
from uring_iopf.abi import Op, SetupFlags, SqeFlags

ASYNC = int(SqeFlags.ASYNC)
SELECT, SKIP, LINK = int(SqeFlags.BUFFER_SELECT), int(SqeFlags.CQE_SKIP_SUCCESS), int(SqeFlags.IO_LINK)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
POLL_FIRST, MULTISHOT = 1, 2
DONTWAIT: Final = 0x40
WAITALL, ERRQUEUE = 0x100, 0x2000
RINGS: Final = (
    ("", 0),
    (", put off", DEFER),
    (", put off and shown", int(DEFER | SetupFlags.TASKRUN_FLAG)),
    (", not interrupted", int(SetupFlags.COOP_TASKRUN)),
)
SOCKETS: Final = ("stream", "tcp", "seqpacket")
_DATA: Final = Write("socket.b", b"abc")
_LONG: Final = Write("socket.b", b"x" * 20)
_CLOSED: Final = Close("socket.b")
_PUT_OFF: Final = (
    ("shut down", (_DATA, Shutdown("socket.b", 1))),
    ("shut down both ways", (_DATA, Shutdown("socket.b", 2))),
    ("shut down and closed", (_DATA, Shutdown("socket.b", 1), _CLOSED)),
    ("shut down by the receiver", (_DATA, Shutdown("socket.a", 0))),
    ("closed with data unread", (Write("socket.a", b"zzz"), _DATA, _CLOSED)),
    ("closed with data unread, and none sent", (Write("socket.a", b"zzz"), _CLOSED)),
)
"""Where task work is put off, these need not be one system call of the host."""


def _socket(kind: str, flags: int = 0, *buffers: int, length: int = 8) -> tuple[Step, ...]:
    return flat(Setup(flags=flags), Open("socket", kind), buffer_ring(), give(*(buffers or (0, 1, 2)), length=length))


def _end(name: str, kind: str, flags: int, what: tuple[Outside, ...], since: tuple[int, int] = (6, 17)) -> Case:
    return case(
        f"end: {kind}, {name}",
        "what came, and then the end, though the ring had no turn in between",
        _socket(kind, flags),
        run(recv_multishot(1)),
        together(*what),
        Reap(),
        look_again(),
        look_again(),
        since=since,
    )


_TOGETHER: Final = tuple(
    _end(name + suffix, kind, flags, what)
    for kind in SOCKETS
    for suffix, flags in RINGS
    for name, what in (
        ("data and closed", (_DATA, _CLOSED)),
        ("data, more, and closed", (_LONG, _DATA, _CLOSED)),
        ("just closed", (_CLOSED,)),
    )
)
_TOGETHER_PUT_OFF: Final = tuple(_end(name, kind, DEFER, what) for kind in SOCKETS for name, what in _PUT_OFF)

_OTHERS: Final = tuple(
    made
    for kind in SOCKETS
    for made in (
        case(
            f"end: {kind}, as many bytes as buffers have",
            "the end needs a buffer, too: ENOBUFS",
            _socket(kind),
            run(recv_multishot(1)),
            together(Write("socket.b", b"y" * 24), _CLOSED),
            look_again(),
        ),
        case(
            f"end: {kind}, there at the beginning",
            "the submission posts the data, and task work the end",
            _socket(kind),
            together(_DATA, _CLOSED),
            run(nop(5), recv_multishot(1), nop(6)),
            look_again(),
            since=(6, 17),
        ),
        case(
            f"end: {kind}, limits",
            "of each completion, and of all: the end comes behind the last that a limit leaves",
            _socket(kind),
            run(recv_multishot(1, len=2)),
            together(_DATA, _CLOSED),
            look_again(),
            since=(6, 17),
        ),
        case(
            f"end: {kind}, in silence",
            "the end of a silent multishot is silent, and what is linked to it fails",
            _socket(kind),
            run(recv_multishot(1, flags=SELECT | SKIP)),
            together(_DATA, _CLOSED),
            look_again(),
            since=(6, 17),
        ),
        case(
            f"end: {kind}, one after the other",
            "with a turn in between",
            _socket(kind),
            run(recv_multishot(1)),
            _DATA,
            Reap(),
            _CLOSED,
            Reap(),
            look_again(),
        ),
        case(
            f"end: {kind}, receives one by one",
            "the flags say whether a socket has more to tell, its end included",
            _socket(kind),
            run(recv(1, len=2), recv(2, flags=SELECT, buf_group=1, addr=0)),
            together(_DATA, _CLOSED),
            look_again(),
            run(recv(3)),
            run(recv(4)),
            since=(6, 17),
        ),
        case(
            f"end: {kind}, reads",
            "a multishot read does the same",
            _socket(kind),
            run(read_multishot(1, "socket.a")),
            together(_DATA, _CLOSED),
            look_again(),
            since=(6, 7),
        ),
        case(
            f"end: {kind}, poll first",
            "a multishot that waits before it looks",
            _socket(kind),
            together(_DATA, _CLOSED),
            run(recv_multishot(1, ioprio=MULTISHOT | POLL_FIRST)),
            look_again(),
            since=(6, 17),
        ),
    )
)

_POLLING_THREAD: Final = tuple(
    case(
        f"end: {kind}, a polling thread",
        "the same, by itself",
        _socket(kind, int(SetupFlags.SQPOLL)),
        submit(recv_multishot(1), flags=2),
        Wait(0),
        together(_DATA, _CLOSED),
        Wait(2),
        Reap(),
        since=(6, 17),
    )
    for kind in ("stream", "seqpacket")  # of TCP the thread may see the data before the end, which its flags tell
)

_DO_NOT_WAIT: Final = tuple(
    made
    for kind in (*SOCKETS, "dgram", "udp")
    for made in (
        case(
            f"not to wait: {kind}, nothing is there",
            "EAGAIN",
            _socket(kind),
            run(recv_multishot(1, op_flags=DONTWAIT)),
            _DATA,
            look_again(),
        ),
        case(
            f"not to wait: {kind}, data are there",
            "these, and then EAGAIN",
            _socket(kind),
            _DATA,
            _LONG,
            run(recv_multishot(1, op_flags=DONTWAIT)),
            _DATA,
            look_again(),
            since=(6, 17),
        ),
        case(
            f"not to wait: {kind}, in a chain",
            "EAGAIN fails it",
            _socket(kind),
            _DATA,
            run(recv_multishot(1, op_flags=DONTWAIT, flags=SELECT | LINK), recv(2)),
            look_again(),
            since=(6, 17),
        ),
        case(
            f"not to wait: {kind}, poll first",
            "EAGAIN, whatever is there",
            _socket(kind),
            _DATA,
            run(recv_multishot(1, op_flags=DONTWAIT, ioprio=MULTISHOT | POLL_FIRST)),
            look_again(),
        ),
    )
)

_END_NOT_WAITED_FOR: Final = (
    case(
        "not to wait: the end is there",
        "EAGAIN before the end is found",
        _socket("stream"),
        together(_DATA, _CLOSED),
        run(recv_multishot(1, op_flags=DONTWAIT)),
        look_again(),
        since=(6, 17),
    ),
)

_BOTH_SIDES: Final = tuple(
    case(
        f"end: tcp, of both sides, {name}, {shots}{suffix}",
        "the flag of the end, which a stream that was reset has not",
        _socket("tcp", flags),
        before,
        run(request),
        behind,
        look_again(),
        run(recv(3)),
        look_again(),
        since=(6, 17),
    )
    for suffix, flags in RINGS[:2]
    for shots, request in (("one shot", recv(1)), ("multishot", recv_multishot(1)))
    for name, before, behind in (
        ("ours first", Shutdown("socket.a", 1), (_DATA, _CLOSED)),
        ("ours first, before all", (Shutdown("socket.a", 1), _DATA, _CLOSED), ()),
        ("theirs first", (_DATA, Shutdown("socket.b", 1)), Shutdown("socket.a", 1)),
        ("theirs, and a send", (_CLOSED, Write("socket.a", b"x")), ()),
        ("a reset", Write("socket.a", b"x"), (_DATA, _CLOSED)),
    )
)

_OUR_SIDE: Final = tuple(
    case(
        f"end: {kind}, a receive when our side is shut down{' meanwhile' if meanwhile else ''}",
        "0; EAGAIN to one that does not wait",
        _socket(kind),
        (() if meanwhile else Shutdown("socket.a", 0)),
        run(recv(1), recv(2, op_flags=DONTWAIT)),
        (Shutdown("socket.a", 0) if meanwhile else ()),
        Wait(1 if meanwhile else 0),
        Reap(),
        look_again(),
    )
    for kind in ("dgram", "udp", "seqpacket", "stream")
    for meanwhile in (False, True)
)

_READV: Final = request(Op.READV, {"fd": Fd("socket.a"), "addr": Blob("2Q", (data(1), 64)), "len": 1, "user_data": 1})
_NOTHING_TO_READ: Final = tuple(
    case(
        f"end: {kind}{', O_NONBLOCK' if nonblock else ''}{suffix}, our side is shut down"
        f"{' meanwhile' if meanwhile else ''}, {name}",
        "ready, with nothing there: tried again and again, and at last by a worker: 0, or EAGAIN with O_NONBLOCK",
        Setup(flags=flags),
        Open("socket", kind, nonblock=nonblock),
        buffer_ring(),
        give(0, 1, 2, length=8),
        (() if meanwhile else Shutdown("socket.a", 0)),
        run(one),
        (Shutdown("socket.a", 0) if meanwhile else ()),
        [look_again()] * 3,
        Write("socket.b", b"abc"),
        [look_again()] * 2,
        since=(6, 18),
    )
    for kind in ("dgram", "udp", "seqpacket")
    for nonblock in (False, True)
    for suffix, flags in RINGS[:2]
    for meanwhile in (False, True)
    for name, one in (
        ("READ", read(1, "socket.a")),
        ("READV", _READV),
        ("RWF_NOWAIT", read(1, "socket.a", op_flags=8)),
        ("READ into a buffer", read_select(1, "socket.a")),
        ("READ_MULTISHOT", read_multishot(1, "socket.a")),
        ("READ by a worker", read(1, "socket.a", flags=ASYNC)),
        ("RECV into a buffer", recv(1, flags=SELECT, buf_group=1, addr=0)),
        ("RECV of nothing", recv(1, len=0)),
        ("RECV, POLL_FIRST", recv(1, ioprio=POLL_FIRST)),
        ("a multishot RECV", recv_multishot(1)),
    )
)

_HOW_OFTEN: Final = tuple(
    case(
        f"end: udp, put off, our side is shut down, {name}, call after call{', with events' if flags else ''}",
        "how often it is tried, before a worker is asked",
        Setup(flags=DEFER),
        Open("socket", "udp"),
        Shutdown("socket.a", 0),
        submit(one, flags=flags),
        [look_again()] * 132,
        since=(6, 18),
    )
    for flags in (0, GETEVENTS)
    for name, one in (("READ", read(1, "socket.a")), ("RECV", recv(1)), ("errors", recv(1, op_flags=ERRQUEUE)))
)

_ERRORS: Final = tuple(
    case(
        f"errors: {kind}{suffix}, {what}{' meanwhile' if meanwhile else ''}, {name}",
        "TCP and UDP have a queue of errors, for which no call waits: EAGAIN, once the socket is ready",
        Setup(flags=flags),
        Open("socket", kind),
        buffer_ring(),
        give(0, 1, 2, length=8),
        (() if meanwhile else action),
        run(one),
        (action if meanwhile else ()),
        [look_again()] * 3,
        since=(6, 18),
    )
    for kind in ("udp", "tcp", "dgram")
    for suffix, flags in RINGS[:2]
    for what, action in (("data", _DATA), ("shut down", Shutdown("socket.a", 0)), ("closed", _CLOSED))
    for meanwhile in (False, True)
    for name, one in (
        ("RECV", recv(1, op_flags=ERRQUEUE)),
        ("MSG_DONTWAIT", recv(1, op_flags=ERRQUEUE | DONTWAIT)),
        ("MSG_WAITALL", recv(1, op_flags=ERRQUEUE | WAITALL)),
        ("into a buffer", recv(1, op_flags=ERRQUEUE, flags=SELECT, buf_group=1, addr=0)),
        ("by a worker", recv(1, op_flags=ERRQUEUE, flags=ASYNC)),
        ("POLL_FIRST", recv(1, op_flags=ERRQUEUE, ioprio=POLL_FIRST)),
        ("a multishot", recv_multishot(1, op_flags=ERRQUEUE)),
    )
)

CASES: Final = (
    *_TOGETHER,
    *_TOGETHER_PUT_OFF,
    *_OTHERS,
    *_POLLING_THREAD,
    *_DO_NOT_WAIT,
    *_END_NOT_WAITED_FOR,
    *_BOTH_SIDES,
    *_OUR_SIDE,
    *_NOTHING_TO_READ,
    *_HOW_OFTEN,
    *_ERRORS,
)
