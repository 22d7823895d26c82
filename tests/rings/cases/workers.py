"""What Linux gives to a worker thread: IOSQE_ASYNC, and chains that the end of a call leaves open.

A worker that was asked for tries once and arms a poll. One that nobody asked for makes the plain call: it may block, a
cancel finds it running and interrupts it, and a file with O_NONBLOCK says that nothing is there.
"""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    GETEVENTS,
    MS,
    Blob,
    Close,
    Drain,
    Fd,
    Fill,
    HostFd,
    Open,
    Read,
    Reap,
    Register,
    Setup,
    Sqe,
    Step,
    Steps,
    Told,
    Wait,
    Word,
    Write,
    bad,
    buffer_ring,
    cancel,
    case,
    enter,
    enter_ext,
    ext,
    give,
    inject,
    link_timeout,
    message,
    nop,
    pipe,
    poll,
    poll_remove,
    provide_buffers,
    read,
    read_multishot,
    read_select,
    recv,
    recv_multishot,
    remove_buffers,
    run,
    send,
    sqe,
    submit,
    timeout,
    timeout_remove,
    write,
)
from uring_iopf.abi import Op, RegisterOp, SetupFlags, SqeFlags

ASYNC, LINK, SELECT = int(SqeFlags.ASYNC), int(SqeFlags.IO_LINK), int(SqeFlags.BUFFER_SELECT)
HARD, DRAIN = int(SqeFlags.IO_HARDLINK), int(SqeFlags.IO_DRAIN)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
ALL, BY_FD, ANY, BY_DATA, BY_OP = 1, 2, 4, 16, 32
NOWAIT: Final = 8
NOP_TW: Final = 16
MULTI: Final = 1
BUNDLE: Final = 16
ONE: Final = bytes([1, *bytes(7)])
KINDS: Final = {
    "pipe": ("file.r", "file.w"),
    "stream": ("file.a", "file.b"),
    "eventfd": ("file", "file"),
    "fifo": ("file.r", "file.w"),
    "inotify": ("file", "file"),
    "timerfd": ("file", ""),
    "epoll": ("file", "file.in"),
}
"""Where a file is read, and where something is done that makes it readable."""
ENDS: Final = {"stream": (".a", ".b"), "pipe": (".r", ".w"), "eventfd": ("",)}


def worked() -> tuple[Step, ...]:
    """What workers have completed: beside the call that made them, in no order with what that has completed."""
    return (Wait(0), Reap(order=False, why="a worker of the kernel completes it"))


def asked(*sqes: Sqe) -> tuple[Step, ...]:
    return (*submit(*sqes, flags=GETEVENTS), *worked())


def _group() -> tuple[Step, ...]:
    return (buffer_ring(), *give(0, 1, 2, 3, 4, 5, 6, 7))


def _waits(kind: str, *requests: Sqe) -> Steps:
    """Each has to wait, and ends when something comes, or by being cancelled."""
    _, outside = KINDS[kind]
    comes = Write(outside, ONE) if outside else ()
    return [
        (asked(request), then, worked(), submit(cancel(99, 1)), worked())
        for request in requests
        for then in (comes, ())
    ]


def _reads(kind: str, flags: int) -> tuple[Sqe, ...]:
    file = KINDS[kind][0]
    return (
        read(1, file, flags=flags),
        read_select(1, file, flags=SELECT | flags),
        read(1, file, flags=flags, op_flags=NOWAIT),
        *((recv(1, file, flags=flags),) if kind == "stream" else ()),
    )


_ONE_SHOTS: Final = tuple(
    case(
        f"worker: {kind}{', O_NONBLOCK' if nonblock else ''}, {'asked for' if flags == ASYNC else 'of an open chain'}",
        "asked for, it waits as any; otherwise it blocks, or says that nothing is there; it has used its buffer",
        Setup(),
        Open("file", kind, nonblock=nonblock),
        _group(),
        _waits(kind, *_reads(kind, flags)),
        since=(6, 16),
    )
    for kind in KINDS
    for nonblock in (False, True)
    for flags in (ASYNC, LINK)
)


def _goes_on(kind: str, request: Sqe) -> Steps:
    outside = KINDS[kind][1]
    return [
        (
            before,
            asked(request),
            Write(outside, ONE),
            worked(),
            Write(outside, ONE),
            worked(),
            submit(cancel(99, 1)),
            worked(),
        )
        for before in ((), Write(outside, ONE))
    ]


_MULTISHOTS: Final = tuple(
    case(
        f"worker: a multishot, {kind}{', O_NONBLOCK' if nonblock else ''}",
        "armed by it, where the file promises not to block; of others it is no multishot",
        Setup(),
        Open("file", kind, nonblock=nonblock),
        _group(),
        [
            _goes_on(kind, request)
            for flags in (ASYNC, LINK)
            for request in (
                read_multishot(1, KINDS[kind][0], flags=SELECT | flags),
                *((recv_multishot(1, KINDS[kind][0], flags=SELECT | flags),) if kind == "stream" else ()),
            )
        ],
        since=(6, 16),
    )
    for kind in ("pipe", "stream", "eventfd", "fifo")
    for nonblock in (False, True)
)

_CANCELS: Final = (
    case(
        "worker: a cancel",
        "EALREADY where it finds itself alone",
        Setup(),
        Open("file", "eventfd"),
        [
            asked(cancel(9, target, how, fd=Fd("file"), len=int(op), flags=ASYNC))
            for target in (1, 9)
            for op in (Op.ASYNC_CANCEL, Op.READ)
            for how in (0, BY_FD, BY_FD | ALL, ANY, ANY | ALL, BY_OP, BY_OP | ALL, BY_OP | BY_FD, BY_DATA | BY_FD)
        ],
        since=(6, 16),
    ),
    case(
        "worker: a cancel, beside what it means",
        "0, or a count that has no part of its own",
        Setup(),
        Open("pipe", "pipe"),
        [
            asked(read(1), cancel(9, 1, how, fd=Fd("pipe.r"), len=int(Op.READ), flags=ASYNC))
            for how in (0, BY_FD, BY_FD | ALL, ANY, ANY | ALL, BY_OP, BY_OP | ALL)
        ],
        since=(6, 16),
    ),
    case(
        "worker: cancelled while it blocks",
        "EALREADY, and EINTR for it; it counts as none; what waits beside it is cancelled as well",
        Setup(),
        Open("socket", "stream"),
        [
            (
                asked(recv(1, flags=LINK)),
                asked(recv(3)) if beside else (),
                submit(cancel(9, 1, how, fd=Fd("socket.a"), len=int(Op.RECV))),
                worked(),
                submit(cancel(9, 0, ANY | ALL)),
                worked(),
            )
            for beside in (False, True)
            for how in (0, BY_FD, BY_FD | ALL, ANY, ANY | ALL, BY_OP, BY_OP | ALL)
        ],
        since=(6, 16),
    ),
    case(
        "worker: cancelled by a call while it blocks",
        "the call waits for its end: 0",
        Setup(),
        Open("socket", "stream"),
        [
            (
                asked(recv(1, flags=flags)),
                Register(RegisterOp.REGISTER_SYNC_CANCEL, Blob("QiIqq8B3Q", (1, -1, how, -1, -1, *(0,) * 11)), 1),
                worked(),
            )
            for flags in (ASYNC, LINK)
            for how in (0, ANY | ALL)
        ],
        since=(6, 16),
    ),
    case(
        "worker: cancelled with part of it done",
        "the part is its result",
        Setup(),
        Open("socket", "stream"),
        [
            (asked(recv(1, flags=flags, op_flags=0x100)), Write("socket.b", ONE), submit(cancel(9, 1)), worked())
            for flags in (ASYNC, LINK)
        ],
        since=(6, 16),
    ),
    case(
        "worker: a send with a buffer, cancelled",
        "the buffer is used",
        Setup(),
        Open("socket", "stream"),
        Fill("socket.a"),
        _group(),
        [
            (asked(send(1, flags=SELECT | flags, len=8, addr=0, buf_group=1)), submit(cancel(9, 1)), worked())
            for flags in (ASYNC, LINK)
        ],
        since=(6, 16),
    ),
)

_BUFFERS: Final = tuple(
    case(
        f"worker: what it selects, {name}",
        "the whole length is used, whatever comes; classic buffers of a receive go back",
        Setup(),
        Open("socket", "stream"),
        made,
        [
            (
                asked(recv(1, flags=SELECT | flags, len=8, addr=0, buf_group=1)),
                submit(cancel(9, 1)) if cancelled else Write("socket.b", b"four"),
                worked(),
                run(recv(2, flags=SELECT, len=16, addr=0, buf_group=1)),
                Write("socket.b", ONE),
                Reap(),
            )
            for flags in (ASYNC, LINK)
            for cancelled in (True, False)
        ],
        since=(6, 16),
    )
    for name, made in (
        ("a ring", _group()),
        ("bit by bit", (buffer_ring(flags=2), *give(0, 1, 2, 3, 4, 5, 6, 7))),
        ("classic", run(provide_buffers(9, 0, 8))),
    )
)

_REST: Final = (
    case(
        "worker: a link's time while it blocks",
        "does not begin: ECANCELED",
        Setup(),
        Open("socket", "stream"),
        [
            (
                asked(recv(1, flags=LINK), link_timeout(2, ns=MS, flags=LINK), nop(3, flags=LINK)),
                timed,
                Write("socket.b", ONE) if comes else submit(cancel(9, 1)),
                worked(),
            )
            for comes in (True, False)
            for timed in ((), (asked(timeout(4, ns=2 * MS)), Wait(1), Reap()))
        ],
        since=(6, 16),
    ),
    *(
        case(
            f"worker: an eventfd for it{name}",
            "REGISTER_EVENTFD_ASYNC: signalled by what it completes, and not by what it has armed",
            Setup(flags=setup),
            Open("told", "eventfd", nonblock=True),
            Register(RegisterOp.REGISTER_EVENTFD_ASYNC, Blob("i", (HostFd("told"),)), 1),
            Open("socket", "stream"),
            [
                (asked(recv(1, flags=flags)), Told("told"), Write("socket.b", ONE), Wait(1), worked(), Told("told"))
                for flags in (0, ASYNC, LINK)
            ],
            [
                (submit(one), Wait(1), worked(), Told("told"))
                for one in (nop(1), nop(1, flags=ASYNC), bad(1, flags=ASYNC), read(1, "none", flags=ASYNC))
            ],
            since=(6, 16),
        )
        for name, setup in (("", 0), (", put off", DEFER))
    ),
    case(
        "multishot: the end of a FIFO",
        "of one that blocks nothing is posted; otherwise 0",
        Setup(),
        _group(),
        [
            (
                Open("file", "fifo", nonblock=nonblock),
                [Write("file.w", ONE)] if data else [],
                run(read_multishot(1, "file.r")),
                Close("file.w"),
                Reap(),
                run(cancel(9, 1)),
                Close("file.r"),
            )
            for nonblock in (False, True)
            for data in (False, True)
        ],
        since=(6, 7),
    ),
    case(
        "multishot: a FIFO at its end",
        "the same from the start",
        Setup(),
        _group(),
        [
            (
                Open("file", "fifo", nonblock=nonblock),
                Close("file.w"),
                run(read_multishot(1, "file.r")),
                run(cancel(9, 1)),
                Close("file.r"),
            )
            for nonblock in (False, True)
        ],
        since=(6, 7),
    ),
)

_FILLED: Final = tuple(
    case(
        f"worker: a reader that waits while the other side fills {kind}{name}",
        "takes from the first write, so that there is room for more; not where its ring puts work off",
        Setup(flags=flags),
        Open("file", kind),
        asked(read(1, reads, flags=how)),
        Fill(writes),
        Wait(1),
        worked(),
        Drain(reads),
        since=(6, 16),
    )
    for kind, reads, writes in (
        ("stream", "file.a", "file.b"),
        ("seqpacket", "file.a", "file.b"),
        ("dgram", "file.a", "file.b"),
        ("pipe", "file.r", "file.w"),
    )
    for name, flags, how in (("", 0, 0), (", asked for", 0, ASYNC), (", put off", DEFER, 0))
)

_CHAINS: Final = (
    case(
        "worker: the rest of its chain",
        "it goes on with it, and blocks: EALREADY and EINTR",
        Setup(),
        Open("socket", "stream"),
        [
            (asked(head, recv(2)), submit(cancel(9, 2)), worked())
            for flags in (ASYNC | LINK, ASYNC | HARD)
            for head in (nop(1, flags=flags), inject(1, -5, flags=flags))
        ],
        [
            (asked(nop(1, flags=flags), recv(2, flags=LINK), nop(3)), Write("socket.b", ONE), worked())
            for flags in (ASYNC | LINK, LINK)
        ],
        since=(6, 16),
    ),
    case(
        "worker: a bundle that is sent",
        "is a multishot to it, and cannot be armed where there is room: ECANCELED",
        Setup(),
        [
            (
                Open("socket", "stream", nonblock=nonblock),
                Open("event", "eventfd", nonblock=nonblock),
                Fill("socket.a") if full else (),
                asked(send(1, "socket.a", ioprio=BUNDLE, flags=flags)),
                Drain("socket.b") if full else (),
                worked(),
                asked(send(2, "event", ioprio=BUNDLE, flags=flags)),
                Close("socket.a"),
                Close("socket.b"),
                Close("event"),
            )
            for flags in (ASYNC, LINK)
            for nonblock in (False, True)
            for full in (False, True)
        ],
        since=(6, 18),
    ),
    case(
        "worker: a time-out that counts",
        "from what other workers have completed before it on",
        Setup(),
        asked(nop(1, flags=DRAIN), timeout(2, 3600, off=2)),
        [asked(nop(n)) for n in (3, 4)],
        since=(6, 16),
    ),
)

_POLL_FIRST: Final = tuple(
    case(
        f"worker: POLL_FIRST, {kind}{name}{', put off' if setup else ''}",
        "EAGAIN in one that nobody asked for, whatever is there; one that was asked for tries once its file is ready",
        Setup(flags=setup),
        Open("told", "eventfd", nonblock=True),
        Register(RegisterOp.REGISTER_EVENTFD_ASYNC, Blob("i", (HostFd("told"),)), 1),
        [
            (
                Open("file", kind, nonblock=nonblock),
                Write(KINDS[kind][1], ONE) if before else (),
                submit(request(1, KINDS[kind][0], flags=flags, ioprio=1)),
                Wait(1) if before or request is send or (flags & (LINK | HARD) and not flags & ASYNC) else (),
                worked(),
                () if setup else Told("told"),
                Write(KINDS[kind][1], ONE),
                worked(),
                submit(cancel(9, 1)),
                worked(),
                () if setup else Told("told"),
                *(Close(f"file{end}") for end in ENDS[kind]),
            )
            for nonblock in (False, True)
            for before in (False, True)
            for flags in (LINK, HARD, ASYNC, ASYNC | LINK, DRAIN, 0)
            if before
            or request is send
            or not (setup and flags & (ASYNC | DRAIN))  # when that worker tries again is a race with the cancel
        ],
        since=(6, 18),
    )
    for kind, name, request in (
        ("stream", ", RECV", recv),
        ("stream", ", SEND", send),
        ("pipe", ", RECV", recv),
        ("eventfd", ", RECV", recv),
        ("eventfd", ", SEND", send),
    )
    for setup in (0, DEFER)
)

#: What only fails when it is issued, by a result of its own, which the worker completes.
_RESULTS: Final[dict[str, Sqe]] = {
    "a NOP": inject(1, -5),
    "a CLOSE of an empty slot": sqe(Op.CLOSE, file_index=1, user_data=1),
    "a CLOSE": sqe(Op.CLOSE, fd=9999, user_data=1),
    "a FILES_UPDATE": sqe(Op.FILES_UPDATE, addr=0, len=1, user_data=1),
    "a REMOVE_BUFFERS": remove_buffers(1, 1, 9),
    "a TIMEOUT_REMOVE": timeout_remove(1, 5),
    "a cancel": cancel(1, 5),
    "a message to no ring": message(1, "pipe.r", 0),
    "a message that is none": message(1, "ring", 0, addr=9),
    "a command to a socket": sqe(Op.URING_CMD, fd=Fd("socket.a"), off=99, user_data=1),
    "a RECV to nowhere": recv(1, "socket.a", addr=8),
    "a SEND from nowhere": send(1, "socket.a", addr=8),
    "a SEND to nobody": send(1, "gone.a"),
}
#: What its operation returns, or what is refused before that is called: task work completes it.
_RETURNED: Final[dict[str, Sqe]] = {
    "a POLL_REMOVE": poll_remove(1, 5),
    "a message to no file": message(1, "ring", 0, fd=9999),
    "a message to no slot": message(1, "ring", 0, fd=0, flags=int(SqeFlags.FIXED_FILE)),
    "a command": sqe(Op.URING_CMD, fd=Fd("pipe.r"), user_data=1),
    "a command to no file": sqe(Op.URING_CMD, fd=9999, user_data=1),
    "a poll of no file": poll(1, "pipe.r", fd=9999),
    "a READ": read(1, "pipe.w"),
    "a READ of no file": read(1, "pipe.r", fd=9999),
    "a READ to nowhere": read(1, "event", addr=8),
    "a READ without a buffer": read_select(1, "event", 9),
    "a READ_MULTISHOT without a buffer": read_multishot(1, "event", 9),
    "a WRITE": write(1, "pipe.r"),
    "a WRITE from nowhere": write(1, "pipe.w", addr=8),
    "a RECV": recv(1, "event"),
    "a RECV of no file": recv(1, "socket.a", fd=9999),
    "a SEND": send(1, "event"),
}


def _failing(one: Sqe, flags: int) -> Sqe:
    fields = dict(one.fields)
    before = fields.get("flags", 0)
    assert isinstance(before, int)
    return sqe(one.opcode, **fields | {"flags": before | flags})


#: Whose thread goes on with the chain of what task work completes is a race of the two, so chains are for results only.
_FAILED: Final = tuple(
    case(
        f"worker: {what} that fails{name}",
        "REGISTER_EVENTFD_ASYNC is told of a result, which the worker completes, and not of what an operation returns",
        Setup(flags=setup),
        Open("told", "eventfd", nonblock=True),
        Register(RegisterOp.REGISTER_EVENTFD_ASYNC, Blob("i", (HostFd("told"),)), 1),
        pipe(),
        Open("socket", "stream"),
        Write("socket.b", ONE),
        Open("gone", "stream"),
        Close("gone.b"),
        Open("event", "eventfd", nonblock=True, value=9, semaphore=True),
        [(submit(_failing(one, flags)), Wait(1), worked(), Told("told")) for flags in (ASYNC, LINK, ASYNC | LINK)],
        [
            (submit(_failing(one, flags | HARD), nop(2)), Wait(2), worked(), Told("told"))
            for flags in (ASYNC, 0)
            if what in _RESULTS
        ],
        since=(6, 18),
    )
    for what, one in (_RESULTS | _RETURNED).items()
    for name, setup in (("", 0), (", by itself", int(SetupFlags.COOP_TASKRUN)), (", put off", DEFER))
)

_SINGLE: Final = tuple(
    case(
        f"worker: a multishot with flags, {kind}, {name}",
        "they are looked at when it reads; of a single shot that fails the buffer is used, and not named",
        Setup(),
        Open("file", kind),
        made,
        [
            (
                Write(KINDS[kind][1], ONE) if before else (),
                asked(read_multishot(1, KINDS[kind][0], flags=SELECT | flags, op_flags=how)),
                () if before else Write(KINDS[kind][1], ONE),
                worked(),
                submit(cancel(9, 1)),
                worked(),
            )
            for flags in (ASYNC, LINK)
            for how in (1, NOWAIT, 1 << 20)
            for before in (False, True)
        ],
        run(read_select(2, KINDS[kind][0])),
        since=(6, 16),
    )
    for kind in ("pipe", "fifo", "eventfd")
    for name, made in (("a ring", _group()), ("classic", run(provide_buffers(9, 0, 32))))
)

_CALLS: Final = tuple(
    case(
        f"worker: put off, call by call, {name}{', shown' if shown else ''}",
        "task work asks for the worker, he works while the client is elsewhere, and leaves the end to the next call",
        Setup(flags=DEFER | (int(SetupFlags.TASKRUN_FLAG) if shown else 0)),
        Open("file", "stream"),
        buffer_ring(),
        give(0, 1, 2, length=8),
        Open("told", "eventfd", nonblock=True),
        Register(RegisterOp.REGISTER_EVENTFD, Blob("i", (HostFd("told"),)), 1),
        [submit(*requests, flags=flags), Told("told"), Reap()],
        [(enter(0, 0, GETEVENTS), Told("told"), Reap())] * 3,
        Write("file.b", b"abc"),
        Told("told"),
        [(enter(0, 0, GETEVENTS), Told("told"), Reap())] * 5,
        since=(6, 18),
    )
    for shown in (False, True)
    for events, flags in (("", 0), (", with events", GETEVENTS))
    for name, requests in (
        (f"a NOP{events}", (nop(1, flags=ASYNC),)),
        (f"two NOPs{events}", (nop(1, flags=ASYNC), nop(2, flags=ASYNC))),
        (f"a chain of two that ask{events}", (nop(1, flags=ASYNC | LINK), nop(2, flags=ASYNC))),
        (f"a chain whose second asks{events}", (nop(1, flags=LINK), nop(2, flags=ASYNC))),
        (f"a chain whose first asks{events}", (nop(1, flags=ASYNC | LINK), nop(2))),
        (f"a failure{events}", (inject(1, -5, flags=ASYNC | LINK), nop(2))),
        (f"a drain{events}", (nop(1), nop(2, flags=DRAIN), nop(3))),
        (f"a READ that waits{events}", (read(1, "file.a", flags=ASYNC),)),
        (f"a READ in a chain that waits{events}", (read(1, "file.a", flags=ASYNC | LINK), nop(2))),
        (f"a READ that waits, and drains{events}", (read(1, "file.a", flags=DRAIN), nop(2))),
        (f"a RECV that waits{events}", (recv(1, "file.a", flags=ASYNC),)),
        (f"a multishot RECV{events}", (recv_multishot(1, "file.a", flags=ASYNC | SELECT),)),
        (f"a SEND{events}", (send(1, "file.a", flags=ASYNC),)),
        (f"a poll{events}", (poll(1, "file.a", flags=ASYNC),)),
        (f"a poll that is ready{events}", (poll(1, "file.a", events=4, flags=ASYNC),)),
        (f"a cancel{events}", (read(1, "file.a"), cancel(2, 1, flags=ASYNC))),
        (f"a cancel of what asks{events}", (read(1, "file.a", flags=ASYNC), cancel(2, 1))),
        (f"buffers that are provided{events}", (provide_buffers(1, 3, 1, group=2, flags=ASYNC),)),
    )
)

_OVER_AT_ONCE: Final = tuple(
    case(
        f"worker: a time that is over at once, {wanted} wanted, put off{', shown' if shown else ''}, {name}",
        "task work runs once more before the call returns",
        Setup(flags=DEFER | (int(SetupFlags.TASKRUN_FLAG) if shown else 0)),
        Open("file", "stream"),
        submit(*requests, flags=flags),
        Reap(),
        enter_ext(0, wanted),
        Reap() if taken else (),
        submit(nop(9), flags=GETEVENTS),
        Reap(),
        [(enter(0, 0, GETEVENTS), Reap(), Word("sq_flags"))] * 2,
        since=(6, 18),
    )
    for shown in (False, True)
    for wanted in (1, 2, 3)
    for flags, taken in ((0, False), (0, True), (GETEVENTS, False))
    for name, requests in (
        (f"a poll of the ring{flags, taken}", (nop(1, op_flags=NOP_TW), nop(2), poll(3, "ring", len=MULTI))),
        (f"a chain{flags, taken}", (nop(1, flags=LINK), nop(2, flags=LINK), nop(3))),
    )
)

_SHOWN: Final = tuple(
    case(
        f"worker: TASKRUN_FLAG, {name}, {wanted} wanted",
        "the flag is cleared where a call begins its task work, and what that adds sets it once more",
        Setup(flags=DEFER | int(SetupFlags.TASKRUN_FLAG)),
        Open("file", "stream"),
        *(sqe for sqe in requests),
        enter_ext(len(requests), wanted, arg=ext(0, 20 * MS)),
        Reap(),
        [(enter(0, 0, GETEVENTS), Reap(), Word("sq_flags"))] * 2,
        since=(6, 18),
    )
    for wanted in (0, 1, 2, 3, 4)
    for name, requests in (
        ("a chain", (nop(1, flags=LINK), nop(2, flags=LINK), nop(3))),
        ("a chain, and one that waits", (nop(1, flags=LINK), nop(2, flags=LINK), read(3, "file.a"), nop(4))),
        ("two chains", (nop(1, flags=LINK), nop(2), nop(3, flags=LINK), nop(4, flags=LINK), nop(5))),
        ("a drain", (nop(1), nop(2, flags=DRAIN), nop(3))),
    )
)

_NOT_TO_WAIT: Final = tuple(
    case(
        f"worker: RWF_NOWAIT, a WRITE to an eventfd{', O_NONBLOCK' if nonblock else ''}, {name}",
        "he, too, may not call what could block, whatever it would say",
        Setup(),
        Open("event", "eventfd", nonblock=nonblock, value=5),
        [
            (write(n, "event", flags=flags, op_flags=NOWAIT, len=length), enter(1, 0, GETEVENTS), Wait(1), Reap())
            for n, length in ((1, 8), (2, 16), (3, 4), (4, 0))
        ],
        Read("event"),
        since=(6, 10),
    )
    for nonblock in (False, True)
    for name, flags in (("asked for", ASYNC), ("drained", DRAIN))
)

CASES: Final = (
    *_CALLS,
    *_NOT_TO_WAIT,
    *_OVER_AT_ONCE,
    *_SHOWN,
    *_ONE_SHOTS,
    *_MULTISHOTS,
    *_CANCELS,
    *_BUFFERS,
    *_REST,
    *_FILLED,
    *_CHAINS,
    *_POLL_FIRST,
    *_FAILED,
    *_SINGLE,
)
