"""Provided buffers of every kind, and requests that hold on to one: MSG_WAITALL, SEND, lengths of those that wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.rings.cases.buffers import MMAP, RING, register, status, unregister
from tests.rings.cases.cancels import sync_cancel
from tests.rings.language import (
    KERNEL,
    MS,
    Blob,
    Case,
    Close,
    Drain,
    Fd,
    Fill,
    Hole,
    Look,
    MapPut,
    Open,
    Operand,
    Put,
    PutBytes,
    Read,
    Reap,
    Setup,
    Shutdown,
    Sqe,
    Step,
    Steps,
    Wait,
    Write,
    buffer,
    buffer_ring,
    cancel,
    case,
    data,
    flat,
    give,
    link_timeout,
    look_again,
    nop,
    pipe,
    provide_buffers,
    read_multishot,
    read_select,
    recv_multishot,
    refused,
    remove_buffers,
    request,
    run,
    sqe,
    submit,
)
from uring_iopf.abi import MmapOffset, Op, SetupFlags, SqeFlags

SELECT, LINK, SKIP = int(SqeFlags.BUFFER_SELECT), int(SqeFlags.IO_LINK), int(SqeFlags.CQE_SKIP_SUCCESS)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
INC: Final = 2
POLL_FIRST, MULTISHOT = 1, 2
PEEK, DONTWAIT, WAITALL, RWF_NOWAIT = 2, 0x40, 0x100, 8
MUCH: Final = 260_000
KINDS: Final = ("a client's ring", "bit by bit", "the kernel's ring", "the kernel's, bit by bit", "classic")
RING_KINDS: Final = KINDS[:2]


def _select(op: int, user_data: int, fields: Mapping[str, Operand]) -> Sqe:
    base: dict[str, Operand] = {"fd": Fd("socket.a"), "flags": SELECT, "buf_group": 1, "user_data": user_data}
    return request(op, {**base, **fields})


def recv_select(user_data: int, **fields: Operand) -> Sqe:
    return _select(Op.RECV, user_data, fields)


def send_select(user_data: int, **fields: Operand) -> Sqe:
    return _select(Op.SEND, user_data, fields)


def three(kind: str, length: int = 8) -> tuple[Step, ...]:
    """A group of this kind with three buffers, whose contents differ."""
    contents = [PutBytes(buffer(n), bytes(range(65 + 16 * n, 81 + 16 * n))) for n in range(3)]
    if kind == "classic":
        return flat(contents, run(provide_buffers(99, 0, 3, len=length)))
    flags = INC if kind.endswith("bit by bit") else 0
    if "kernel" not in kind:
        return flat(contents, buffer_ring(1, 8, flags), give(0, 1, 2, length=length))
    at = MmapOffset.PBUF_RING | 1 << 16
    puts = [MapPut(at, 16 * n, "QIH", (buffer(n), length, n)) for n in range(3)]
    return flat(contents, register(1, 8, 0, MMAP | flags), puts, MapPut(at, 14, "H", (3,)))


def head(kind: str) -> tuple[Step, ...]:
    """How many buffers have been used, where a kernel says so."""
    return () if kind == "classic" else (status(),)


def rest(kind: str) -> tuple[Step, ...]:
    """What is left of the group, and what is in its buffers."""
    left: Steps = ()
    if kind == "classic":
        left = run(remove_buffers(98, 9))
    elif kind in RING_KINDS:
        left = Look(RING, 0, "QIHHQIHHQIHH")
    return flat(head(kind), left, [Look(buffer(n), 16) for n in range(3)])


def _of(kind: str, name: str, shows: str, *steps: Steps, socket: str = "stream", flags: int = 0) -> Case:
    since = (6, 17) if socket == "stream" else (6, 12)  # a Unix stream says what is left
    return case(name, shows, Setup(flags=flags), Open("socket", socket), three(kind), steps, rest(kind), since=since)


_LINKED: Final[dict[str, Operand]] = {"op_flags": WAITALL, "flags": SELECT | LINK}
_WAITALL: Final = tuple(
    made
    for kind in KINDS
    for made in (
        _of(
            kind,
            f"all of a buffer: {kind}, in parts",
            "the first part takes the buffer, the others go behind it; BUF_MORE is lost",
            run(recv_select(1, op_flags=WAITALL)),
            head(kind),
            Write("socket.b", b"abc"),
            look_again(),
            head(kind),
            Write("socket.b", b"defghij"),
            look_again(),
            run(recv_select(2)),
        ),
        _of(
            kind,
            f"all of a buffer: {kind}, a part is there",
            "and another request has the next buffer meanwhile, or what is left of this one",
            Write("socket.b", b"abc"),
            run(recv_select(1, op_flags=WAITALL, len=6)),
            run(recv_select(2)),
            Write("socket.b", b"defghijklm"),
            look_again(),
            flags=DEFER,
        ),
        _of(
            kind,
            f"all of a buffer: {kind}, all is there",
            "one completion; the next has the rest",
            Write("socket.b", b"abcdefghij"),
            run(recv_select(1, **_LINKED), nop(3)),
            run(recv_select(2, op_flags=WAITALL | DONTWAIT, flags=SELECT | LINK), nop(4)),
        ),
        _of(
            kind,
            f"all of a buffer: {kind}, cancelled",
            "without a part the buffer stays; with one it is said, and so are the bytes",
            run(recv_select(1, **_LINKED), nop(3)),
            run(cancel(9, 1)),
            run(recv_select(2, **_LINKED), nop(4)),
            Write("socket.b", b"abc"),
            run(cancel(9, 2)),
            look_again(),
            run(recv_select(5, op_flags=WAITALL)),
            Write("socket.b", b"de"),
            sync_cancel(5),
            look_again(),
            flags=DEFER,
        ),
        _of(
            kind,
            f"all of a buffer: {kind}, out of time",
            "the same",
            Write("socket.b", b"abc"),
            submit(recv_select(1, **_LINKED), link_timeout(2, 0, MS)),
            Wait(2),
            Reap(),
        ),
        _of(
            kind,
            f"all of a buffer: {kind}, the end",
            "fails the chain: with a part, its bytes; without, 0 and no buffer",
            run(recv_select(1, **_LINKED), nop(3)),
            Write("socket.b", b"abc"),
            Close("socket.b"),
            look_again(),
            run(recv_select(2, **_LINKED), nop(4)),
        ),
        _of(
            kind,
            f"all of a buffer: {kind}, in silence",
            "a success takes the buffer all the same",
            run(recv_select(1, op_flags=WAITALL, flags=SELECT | SKIP)),
            Write("socket.b", b"abc"),
            Write("socket.b", b"defghij"),
            look_again(),
            run(recv_select(2)),
        ),
        _of(
            kind,
            f"all of a buffer: {kind}, two",
            "wait for one socket: the last to come is served first, and each has a buffer of its own, or a part of one",
            run(recv_select(1, op_flags=WAITALL)),
            run(recv_select(2, op_flags=WAITALL)),
            Write("socket.b", b"abc"),
            look_again(),
            Write("socket.b", b"defghijklmnopq"),
            look_again(),
        ),
        _of(
            kind,
            f"all of a buffer: {kind}, peeked",
            "the same bytes again, until the buffer is full of them",
            Write("socket.b", b"abc"),
            run(recv_select(1, op_flags=WAITALL | PEEK)),
            look_again(),
            run(cancel(9, 1)),
        ),
        *(
            _of(
                kind,
                f"all of a buffer: {kind}, messages of a {socket}",
                "datagrams are not waited for; a message that is cut fails the chain",
                run(recv_select(1, **_LINKED), nop(3)),
                Write("socket.b", b"abc"),
                look_again(),
                Write("socket.b", b"defghijklm"),
                look_again(),
                run(recv_select(2, **_LINKED), nop(4)),
                socket=socket,
            )
            for socket in ("seqpacket", "dgram", "udp")
        ),
    )
)

_GONE: Final = tuple(
    case(
        f"all of a buffer: {kind}, the group goes",
        "the buffer is the request's",
        Setup(),
        Open("socket", "stream"),
        three(kind),
        run(recv_select(1, op_flags=WAITALL)),
        Write("socket.b", b"abc"),
        look_again(),
        unregister(),
        Write("socket.b", b"defghij"),
        look_again(),
        run(recv_select(2)),
        [Look(buffer(n), 16) for n in range(3)],
        since=(6, 17),
    )
    for kind in KINDS[:-1]
)

_R: Final = Read("socket.b")
_SEND: Final = tuple(
    made
    for kind in KINDS
    for made in (
        _of(
            kind,
            f"send select: {kind}",
            "the oldest buffer; a length is a limit, but of a classic one",
            run(send_select(1)),
            _R,
            run(send_select(2, len=3)),
            _R,
            run(send_select(3, len=50)),
            _R,
            run(send_select(4)),
            run(send_select(5)),
            _R,
        ),
        _of(
            kind,
            f"send select: {kind}, refused",
            "the buffer is used up, and said",
            Close("socket.b"),
            run(send_select(1, flags=SELECT | LINK), nop(2)),
            head(kind),
            run(send_select(3, len=3)),
            run(send_select(4, fd=-1)),
        ),
        _of(
            kind,
            f"send select: {kind}, waiting",
            "holds the buffer",
            Fill("socket.a"),
            run(send_select(1)),
            run(send_select(2, len=3)),
            head(kind),
            Drain("socket.b"),
            look_again(),
            _R,
        ),
        _of(
            kind,
            f"send select: {kind}, cancelled",
            "the buffer is used up, and said",
            Fill("socket.a"),
            run(send_select(1, flags=SELECT | LINK), nop(2)),
            run(send_select(3, len=3)),
            run(cancel(9, 1)),
            sync_cancel(3),
            look_again(),
            Drain("socket.b"),
            run(send_select(4)),
            _R,
            flags=DEFER,
        ),
        _of(
            kind,
            f"send select: {kind}, out of time",
            "the same",
            Fill("socket.a"),
            submit(send_select(1, flags=SELECT | LINK), link_timeout(2, 0, MS)),
            Wait(2),
            Reap(),
        ),
        _of(
            kind,
            f"send select: {kind}, not to wait",
            "EAGAIN, and the buffer is used up",
            Fill("socket.a"),
            run(send_select(1, op_flags=DONTWAIT, len=3)),
            run(send_select(2, op_flags=DONTWAIT)),
        ),
        _of(
            kind,
            f"send select: {kind}, the other end closes meanwhile",
            "EPIPE, with the buffer",
            Fill("socket.a"),
            run(send_select(1, flags=SELECT | LINK), nop(2)),
            Close("socket.b"),
            look_again(),
        ),
        _of(
            kind,
            f"send select: {kind}, poll first",
            "and take the buffer then",
            run(send_select(1, ioprio=POLL_FIRST)),
            look_again(),
            _R,
        ),
        _of(
            kind,
            f"send select: {kind}, all of it",
            "MSG_WAITALL wants what the buffer has; a chain takes one each",
            run(send_select(1, **_LINKED), send_select(2, len=3, **_LINKED), nop(4)),
            _R,
        ),
        _of(
            kind,
            f"send select: {kind}, messages",
            "a buffer each",
            run(send_select(1), send_select(2, len=0, flags=SELECT | SKIP)),
            _R,
            _R,
            socket="dgram",
        ),
    )
)

_SEND_MORE: Final = (
    case(
        "send select: no group",
        "ENOENT, where a receive says ENOBUFS; and ENOBUFS for one that is empty",
        Setup(),
        Open("socket", "stream"),
        buffer_ring(),
        run(send_select(1, buf_group=9)),
        run(send_select(2, buf_group=9, ioprio=POLL_FIRST)),
        look_again(),
        run(send_select(3)),
        run(recv_select(4, buf_group=9)),
        unregister(),
        run(send_select(5)),
        run(provide_buffers(6, 0, 1), remove_buffers(7, 1)),
        run(send_select(8)),
    ),
    case(
        "send select: an empty buffer",
        "ENOBUFS, and it stays",
        Setup(),
        Open("socket", "stream"),
        buffer_ring(),
        give(0, length=0),
        give(1, start=1, length=4),
        run(send_select(1)),
        run(send_select(2, len=3)),
        status(),
        since=(6, 12),
    ),
    case(
        "send select: buffers that are not there",
        "EFAULT, and they are used up",
        Setup(),
        Open("socket", "stream"),
        buffer_ring(),
        Put(RING, "QIH", (Hole(), 64, 3)),
        Put(RING + 16, "QIH", (KERNEL, 64, 4)),
        Put(RING + 14, "H", (2,)),
        run(send_select(1, flags=SELECT | LINK), nop(2)),
        run(send_select(3)),
        run(send_select(4)),
        status(),
        since=(6, 12),
    ),
    case(
        "send select: shut down",
        "EPIPE, with the buffer",
        Setup(),
        Open("socket", "stream"),
        three(KINDS[0]),
        Shutdown("socket.a", 1),
        run(send_select(1)),
        status(),
        since=(6, 12),
    ),
    case(
        "send select: a group that goes while a send waits",
        "the buffer is the request's",
        Setup(),
        Open("socket", "stream"),
        three(KINDS[1]),
        Fill("socket.a"),
        run(send_select(1)),
        unregister(),
        Drain("socket.b"),
        look_again(),
        _R,
        since=(6, 12),
    ),
    case(
        "send select: an address that is refused",
        "the buffer is used up",
        Setup(),
        Open("socket", "dgram"),
        three(KINDS[0]),
        run(send_select(1, off=data(3), file_index=200)),
        run(send_select(2, off=data(3), file_index=2)),
        status(),
        since=(6, 12),
    ),
    case(
        "send select: less than should be left",
        "of an incremental buffer uses it up",
        Setup(),
        Open("socket", "stream"),
        buffer_ring(1, 8, INC, 4),
        give(0, 1, length=8),
        run(send_select(1, len=3)),
        run(send_select(2, len=3)),
        run(send_select(3)),
        status(),
        since=(6, 18),
    ),
    case(
        "send select: a part of a large one",
        "with MSG_WAITALL the rest is waited for; a cancel says what went",
        Setup(),
        Open("socket", "stream"),
        buffer_ring(1, 8, INC),
        Put(RING, "QIH", (buffer(0), MUCH + 1000, 0)),
        Put(RING + 14, "H", (1,)),
        run(send_select(1, len=MUCH, **_LINKED), nop(2)),
        run(cancel(9, 1)),
        Look(RING, 0, "QIH"),
        run(send_select(3, flags=SELECT | LINK), nop(4)),
        Drain("socket.b"),
        look_again(),
        since=(6, 12),
    ),
    case(
        "lengths of more than 2 GiB",
        "EINVAL before it starts",
        Setup(),
        Open("socket", "stream"),
        three(KINDS[0]),
        refused(
            *(
                request(op, {"fd": Fd("socket.a"), "len": n, "user_data": 5})
                for op in (Op.RECV, Op.SEND)
                for n in (1 << 31, -1)
            ),
            send_select(5, len=1 << 31),
            recv_select(5, len=-1),
            recv_multishot(5, len=1 << 31),
        ),
        status(),
    ),
)

_READV: Final = sqe(
    Op.READV, fd=Fd("pipe.r"), flags=SELECT, buf_group=1, user_data=1, addr=Blob("QQ", (data(0), 64)), len=1
)
_WAITERS: Final[tuple[tuple[str, Sqe, str], ...]] = (
    ("a read", read_select(1), "pipe.w"),
    ("a read of a length", read_select(1, len=6), "pipe.w"),
    ("a read of a socket", read_select(1, "socket.a"), "socket.b"),
    ("a vector", _READV, "pipe.w"),
    ("a receive", recv_select(1), "socket.b"),
    ("a receive of a length", recv_select(1, len=6), "socket.b"),
    ("a receive of all", recv_select(1, op_flags=WAITALL), "socket.b"),
    ("a receive that polls first", recv_select(1, ioprio=POLL_FIRST), "socket.b"),
    ("a multishot receive", recv_multishot(1), "socket.b"),
    ("a multishot receive with a limit", recv_multishot(1, len=6), "socket.b"),
    ("a multishot receive that polls first", recv_multishot(1, ioprio=MULTISHOT | POLL_FIRST), "socket.b"),
    ("a multishot read", read_multishot(1), "pipe.w"),
)
_LENGTHS: Final = tuple(
    made
    for name, one, end in _WAITERS
    for made in (
        case(
            f"buffer lengths: {name}, larger",
            "who waits keeps the length of the buffer that it saw first",
            Setup(),
            Open("socket", "stream"),
            pipe(),
            three(KINDS[0]),
            run(one),
            give(5, 6, 7, length=16),
            Write(end, b"0123456789ab"),
            look_again(),
            give(5, 6, 7, length=16),
            Write(end, b"cdefghijklmnop"),
            look_again(),
            status(),
            since=(6, 17),
        ),
        case(
            f"buffer lengths: {name}, smaller",
            "a smaller one is another limit",
            Setup(),
            Open("socket", "stream"),
            pipe(),
            three(KINDS[0]),
            run(one),
            give(5, 6, 7, length=4),
            Write(end, b"0123456789ab"),
            look_again(),
            status(),
            since=(6, 17),
        ),
    )
)

_READ_NOT_WAITED_FOR: Final = (
    case(
        "multishot: not to wait",
        "the data that are there, and EAGAIN",
        Setup(),
        pipe(),
        three(KINDS[0]),
        Write("pipe.w", b"0123456789ab"),
        run(read_multishot(1, op_flags=RWF_NOWAIT)),
        run(read_multishot(2, op_flags=RWF_NOWAIT)),
        run(read_multishot(3, op_flags=RWF_NOWAIT)),
        since=(6, 7),
    ),
)

CASES: Final = (*_WAITALL, *_GONE, *_SEND, *_SEND_MORE, *_LENGTHS, *_READ_NOT_WAITED_FOR)
