"""Requests that what they do themselves calls again, and those that the other side could keep busy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.rings.language import (
    CQSIZE,
    GETEVENTS,
    MS,
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
    Sqe,
    Steps,
    Told,
    Word,
    Write,
    bad,
    buffer_ring,
    cancel,
    case,
    data,
    enter,
    enter_ext,
    ext,
    give,
    inject,
    link_timeout,
    look_again,
    message,
    nop,
    pipe,
    poll,
    read,
    read_multishot,
    recv,
    run,
    send,
    submit,
    timeout,
    write,
)
from uring_iopf.abi import RegisterOp, SetupFlags, SqeFlags

if TYPE_CHECKING:
    from collections.abc import Iterable

MULTI, IN, OUT = 1, 1, 4
URING_WAKE = 1 << 27  # EPOLL_URING_WAKE
EXCLUSIVE = 1 << 28  # EPOLLEXCLUSIVE
DONTWAIT, WAITALL = 0x40, 0x100
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
LINK, HARD, SKIP = int(SqeFlags.IO_LINK), int(SqeFlags.IO_HARDLINK), int(SqeFlags.CQE_SKIP_SUCCESS)
TASKRUN = int(SetupFlags.TASKRUN_FLAG)
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


_EVENTS: Final = ((IN, "for data"), (IN | OUT, "for both"), (OUT, "for room"))


def _woken_by_rings(kind: str, flags: int, multi: int) -> tuple[Case, ...]:
    """What a ring's own completions wake, by way of whatever there is; from the first poll of a ring on."""
    how = kind + (", again and again" if multi else ", once")
    event: Steps = (Open("event", "eventfd", nonblock=True), _signals())
    return flat_cases(
        (
            case(
                f"waking: the own ring by a message, {what}{how}",
                "a completion like another",
                Setup(flags=flags),
                Setup("third"),
                run(poll(1, "ring", on_, len=multi)),
                [(run(message(9, "ring", 77), ring="third"), _AGAIN) for _ in range(2)],
            ),
            case(
                f"waking: the own ring by another poll, {what}{how}",
                "of a file, which goes on",
                Setup(flags=flags),
                pipe(),
                run(poll(1, "ring", on_, len=multi), poll(5, "pipe.r", IN, len=MULTI)),
                [(Write("pipe.w", b"a"), _AGAIN) for _ in range(2)],
            ),
            case(
                f"waking: two polls of the own ring, {what}{how}",
                "each does not see what its batch has not shown yet",
                Setup(flags=flags),
                run(poll(1, "ring", on_, len=multi), poll(2, "ring", on_, len=multi)),
                _AGAIN,
                [(run(nop(3)), _AGAIN) for _ in range(2)],
            ),
            case(
                f"waking: another ring by a message, {what}{how}",
                "also one that puts it off",
                Setup(flags=flags),
                Setup("second", flags=DEFER),
                run(poll(1, "second", on_, len=multi)),
                [(run(message(7, "second", 77)), _AGAIN, look_again("second"), _AGAIN) for _ in range(2)],
            ),
            case(
                f"waking: a ring that puts off, {what}{how}",
                "its task work counts as ready",
                Setup(flags=flags),
                Setup("second", flags=DEFER),
                pipe(),
                run(poll(1, "second", on_, len=multi)),
                run(poll(5, "pipe.r", IN, len=MULTI), ring="second"),
                [(Write("pipe.w", b"a"), _AGAIN, look_again("second"), _AGAIN) for _ in range(2)],
            ),
            case(
                f"waking: two rings that poll each other, {what}{how}",
                "both end",
                Setup(flags=flags),
                Setup("second"),
                run(poll(1, "second", on_, len=multi)),
                run(poll(2, "ring", on_, len=multi), ring="second"),
                run(nop(4)),
                look_again("second"),
                _AGAIN,
            ),
            case(
                f"waking: the eventfd that the ring signals, {what}{how}",
                "data is all that a signal says",
                Setup(flags=flags),
                event,
                run(poll(1, "event", on_, len=multi)),
                run(nop(2)),
                _AGAIN,
                Write("event", ONE),
                _AGAIN,
                run(nop(3)),
                _AGAIN,
            ),
            case(
                f"waking: the eventfd of two rings, {what}{how}",
                "each hears the other's",
                Setup(flags=flags),
                Setup("second"),
                event,
                _signals(ring="second"),
                run(poll(1, "event", on_, len=multi)),
                run(poll(2, "event", on_, len=multi), ring="second"),
                _AGAIN,
                look_again("second"),
                [(run(nop(7), ring="second"), _AGAIN, look_again("second")) for _ in range(2)],
            ),
        )
        for on_, what in _EVENTS
    )


def flat_cases(groups: Iterable[tuple[Case, ...]]) -> tuple[Case, ...]:
    return tuple(case for group in groups for case in group)


def _reads_of_the_eventfd(kind: str, flags: int) -> tuple[Case, ...]:
    """READ of the eventfd that the ring signals: what it posts signals again."""
    event: Steps = (pipe(), Open("event", "eventfd"), _signals())

    def one(user_data: int, **fields: int) -> Sqe:
        return read(user_data, "event", len=8, **fields)

    return (
        case(
            f"feeding: a read of that eventfd{kind}",
            "ends with the first signal, and its own is the next one's",
            Setup(flags=flags),
            event,
            run(one(1)),
            run(nop(2)),
            _AGAIN,
            run(nop(3)),
            _AGAIN,
            run(one(4)),
            _AGAIN,
        ),
        case(
            f"feeding: a read of that eventfd in a batch{kind}",
            "before and behind what signals it",
            Setup(flags=flags),
            event,
            run(nop(2), one(1)),
            _AGAIN,
            run(one(4), nop(5)),
            _AGAIN,
            run(nop(3)),
            _AGAIN,
        ),
        case(
            f"feeding: reads of that eventfd, no events{kind}",
            "where task work is put off, it comes with events only",
            Setup(flags=flags),
            event,
            submit(one(1), poll(5, "pipe.r", IN)),
            Write("pipe.w", b"a"),
            Reap(),
            enter(),
            Reap(),
            _AGAIN,
            submit(nop(4)),
            Reap(),
            enter(),
            _AGAIN,
        ),
        case(
            f"feeding: what a ring writes to its own pipe{kind}",
            "who waits for it has been called when the call returns, and a flag says so",
            Setup(flags=flags),
            Setup("second", flags=flags),
            pipe("one"),
            pipe("two"),
            submit(read(1, "one.r")),
            submit(read(2, "two.r"), ring="second"),
            submit(write(3, "one.w")),
            Word("sq_flags"),
            Reap(),
            enter(),
            look_again(),
            submit(nop(4, flags=LINK), write(5, "two.w")),
            Word("sq_flags"),
            Word("sq_flags", "second"),
            Reap(ring="second"),
            enter(0, 0, GETEVENTS),
            Word("sq_flags", "second"),
            look_again("second"),
            _AGAIN,
        ),
    )


def _many(kind: str, flags: int) -> tuple[Case, ...]:
    """More than 20 at a time."""
    setup = Setup(flags=flags | CQSIZE, entries=64, cq_entries=256)
    waiting = submit(*[poll(n, "pipe.r", IN) for n in range(1, 46)])
    return (
        case(
            f"many: behind a batch{kind}",
            "the submission runs some, and the wait runs more",
            setup,
            pipe(),
            waiting,
            Write("pipe.w", b"a"),
            run(nop(99)),
            _AGAIN,
            since=(6, 13),
        ),
        case(
            f"many: more are waited for{kind}",
            "as many at a time as are wanted",
            setup,
            pipe(),
            waiting,
            Write("pipe.w", b"a"),
            nop(99),
            enter_ext(1, 22, arg=ext(0, MS)),
            Reap(),
            _AGAIN,
            since=(6, 13),
        ),
        case(
            f"many: cancelled{kind}",
            "each is task work",
            setup,
            pipe(),
            submit(*[poll(7, "pipe.r", IN) for _ in range(45)]),
            run(cancel(99, 7, 1)),
            _AGAIN,
            since=(6, 13),
        ),
        case(
            f"many: chains{kind}",
            "so is the start of each next",
            setup,
            pipe(),
            submit(*[one for n in range(1, 26) for one in (poll(n, "pipe.r", IN, flags=LINK), nop(100 + n))]),
            Write("pipe.w", b"a"),
            _AGAIN,
            look_again(),
            since=(6, 13),
        ),
        case(
            f"many: counted time-outs{kind}",
            "one completion ends them all",
            setup,
            submit(*[timeout(n, 3600, off=1) for n in range(1, 46)]),
            run(nop(99)),
            _AGAIN,
            since=(6, 13),
        ),
    )


def _ready_already(kind: str, flags: int) -> tuple[Case, ...]:
    """What is to be issued by task work is found by nobody."""
    socket = (Setup(flags=flags), Open("socket", "stream"))
    return (
        case(
            f"poll first: ready, and cancelled{kind}",
            "ENOENT: it only waits for its turn",
            socket,
            Write("socket.b", b"abc"),
            run(recv(1, ioprio=1), cancel(2, 1)),
            _AGAIN,
            run(send(3, ioprio=1), cancel(4, 3, 1)),
            _AGAIN,
        ),
        case(
            f"poll first: a poll again and again, ready, and cancelled{kind}",
            "is found: it has been armed",
            Setup(flags=flags),
            pipe(),
            Write("pipe.w", b"a"),
            run(poll(1, "pipe.r", IN, len=MULTI), cancel(2, 1), order=False, why="one is task work, the other is not"),
            _AGAIN,
        ),
        case(
            f"poll first: not ready, and cancelled{kind}",
            "as any that waits",
            socket,
            run(recv(1, ioprio=1), cancel(2, 1)),
            _AGAIN,
        ),
        case(
            f"link timeout: too short to stop{kind}",
            "ENOENT: it fires before the request's end takes it back, and finds nothing",
            Setup(flags=flags),
            [
                (
                    run(nop(1, flags=how), link_timeout(2, 0, ns)),
                    _AGAIN,
                    run(inject(1, -5, flags=how), link_timeout(2, 0, ns)),
                    _AGAIN,
                )
                for how in (LINK, HARD)
                for ns in (0, 1, 1000)
            ],
            run(nop(1, flags=LINK), link_timeout(2, 0, 5, op_flags=1)),
            run(nop(1, flags=LINK), link_timeout(2, 0, 0, flags=SKIP)),
            _AGAIN,
            run(nop(1, flags=LINK | SKIP), link_timeout(2, 0, 0, flags=SKIP)),
            _AGAIN,
        ),
        case(
            f"links: a time that is over at once, of what was never issued{kind}",
            "its chain is refused, or its file is none: no time has started",
            Setup(flags=flags),
            [
                (
                    run(bad(1, flags=how), link_timeout(2)),
                    run(nop(3, flags=how), link_timeout(4, flags=how), bad(5)),
                    run(nop(6, flags=how), poll(7, fd=99, flags=how), link_timeout(8, flags=how), nop(9)),
                    _AGAIN,
                )
                for how in (LINK, HARD)
            ],
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
        *(
            case(
                f"feeding: another ring's poll, {what} and a bit of the kernel's own{kind}",
                "that bit cannot be asked for, and is never seen",
                Setup(flags=flags),
                Setup("second"),
                run(poll(1, "second", events | URING_WAKE), poll(2, "second", events | URING_WAKE, len=MULTI)),
                run(nop(7), ring="second"),
                _AGAIN,
            )
            for events, what in ((0, "nothing"), (IN, "data"), (OUT, "room"))
        ),
        case(
            f"feeding: an eventfd that another ring signalled before{kind}",
            "that signal has been read; its poll goes on with the next, which is somebody's write",
            Setup(flags=flags),
            Setup("second", flags=DEFER),
            Open("event", "eventfd", nonblock=True),
            _signals(ring="second"),
            submit(message(8, "second", 77)),
            Reap(),
            Read("event"),
            run(poll(1, "event", IN, len=MULTI)),
            [(Write("event", ONE), _AGAIN, Read("event"))] * 2,
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
            f"feeding: several polls of that eventfd{kind}",
            "each once",
            Setup(flags=flags),
            Open("event", "eventfd", nonblock=True),
            _signals(),
            run(*[poll(n, "event", IN) for n in range(1, 6)]),
            Write("event", ONE),
            _AGAIN,
            run(nop(9)),
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


def _told_by_rings(kind: str, flags: int) -> tuple[Case, ...]:
    """Who is called when a ring has completed something, and in which order."""
    return (
        case(
            f"feeding: what ends in silence{kind}",
            "calls who polls the ring, who believes it",
            Setup(flags=flags),
            Setup("other"),
            [
                (
                    submit(request, ring=ring),
                    run(nop(5, flags=SKIP)),
                    _AGAIN,
                    look_again("other"),
                    run(nop(6, flags=SKIP)),
                    _AGAIN,
                    look_again("other"),
                )
                for ring in ("ring", "other")
                for request in (poll(1, "ring"), poll(2, "ring", len=MULTI))
            ],
        ),
        case(
            f"feeding: a ring's polls and its eventfd{kind}",
            "the ring is told of first",
            Setup(flags=flags),
            Open("event", "eventfd", nonblock=True),
            _signals(),
            [
                (submit(*(requests[::order])), run(nop(5)), _AGAIN, Read("event"))
                for order in (1, -1)
                for requests in ((poll(1, "event"), poll(2, "ring")),)
            ],
        ),
        case(
            f"feeding: polls that want to be the only ones{kind}",
            "come behind the others; a ring calls all of them",
            Setup(flags=flags),
            Setup("other"),
            submit(*(poll(n, "other", events=IN | (EXCLUSIVE if n in (2, 4) else 0)) for n in range(1, 6))),
            submit(nop(6), ring="other"),
            _AGAIN,
        ),
    )


_KINDS: Final = (("", 0), (", put off", DEFER), (", put off, with the flag", DEFER | TASKRUN))

_IN_ITS_MIDDLE: Final = case(
    "feeding: a multishot poll of the own ring, ended by a full queue, and a chain before it",
    "the end of the chain is behind it",
    Setup(entries=8),
    submit(*[nop(1)] * 8),
    submit(*[nop(1)] * 4),
    submit(nop(2, op_flags=16, flags=LINK), nop(3), poll(4, "ring", len=MULTI), *[nop(5)] * 3),
    Reap(),
    [look_again()] * 2,
    since=(6, 18),
)

_CALLED_BEFORE_CHAINS: Final = tuple(
    case(
        f"feeding: {what} for the own ring, and a chain of the same call that {ends}{name}",
        "it is called by the call's completions before the chain goes on",
        Setup(flags=flags),
        *(run(*chain, one) for _ in range(2)),
        [look_again()] * 2,
        since=(6, 18),
    )
    for what, one in (("a READ", read(3, "ring")), ("a poll", poll(3, "ring")))
    for ends, chain in (
        ("fails", (bad(1, flags=LINK), nop(2))),
        ("cannot start", (nop(1, flags=LINK | 0x80), nop(2))),
        ("goes on", (nop(1, flags=LINK), nop(2))),
        ("goes on by hard links", (bad(1, flags=HARD), nop(2))),
    )
    for name, flags in (("", int(SetupFlags.SUBMIT_ALL)), (", put off", DEFER | int(SetupFlags.SUBMIT_ALL)))
)

TW = 16  # IORING_NOP_TW

_BEHIND: Final = tuple(
    case(
        f"feeding: a poll of {target} again and again, ready, {before} before it, {what}, {behind} behind{kind}",
        "what it follows is shown before it posts, and calls it while it runs: it looks once more",
        Setup(entries=16, flags=flags),
        Setup("other"),
        Open("event", "eventfd", nonblock=True),
        _signals(),
        submit(nop(1), ring="other"),
        submit(*[nop(1)] * before) if before else (),
        submit(*chain, poll(4, target, len=MULTI), *[nop(5)] * behind),
        Reap(),
        () if flags and target == "event" else Read("event") if not flags else Told("event"),
        [look_again()] * 3,
        () if flags else Read("event"),
        since=(6, 18),
    )
    for kind, flags in _KINDS[:2]
    for target in ("ring", "other", "event")
    for before in (0, 8)
    for behind in (0, 3)
    for what, chain in (
        ("what is put off", (nop(2, op_flags=TW),)),
        ("a chain that is put off", (nop(2, op_flags=TW, flags=LINK), nop(3))),
        ("a chain that fails late", (inject(2, -5, flags=LINK), nop(3))),
    )
)


def _first_polls(kind: str, flags: int) -> tuple[Case, ...]:
    """The first polls of rings that tell of completions from then on: in which order that and task work run."""
    polls_other = poll(3, "other", IN | OUT, len=MULTI)
    put_off = nop(2, op_flags=TW)
    return tuple(
        case(
            f"feeding: the first poll of a ring that puts off, {what}{kind}",
            "who is told of it, and calls, runs before the task work that was there, or behind that",
            Setup(flags=flags),
            Setup("other", flags=DEFER),
            Setup("third", flags=DEFER),
            submit(*requests),
            Reap(),
            [look_again()] * 3,
            since=(6, 18),
        )
        for what, requests in (
            ("alone", (polls_other,)),
            ("with task work before it", (put_off, polls_other)),
            ("with task work behind it", (polls_other, put_off)),
            ("at the end of a chain", (nop(1, flags=LINK), polls_other)),
            ("at the end of a chain that is put off", (nop(1, op_flags=TW, flags=LINK), polls_other)),
            ("beside another one", (polls_other, put_off, poll(4, "third", IN | OUT, len=MULTI))),
        )
    )


_MESSAGES_TO_ITSELF: Final = tuple(
    case(
        f"feeding: messages to itself, and polls of the own ring {how}",
        "each message is seen at once, before what the call has completed until then",
        Setup(entries=16),
        Open("event", "eventfd", nonblock=True),
        _signals(),
        submit(*requests),
        Reap(),
        Read("event"),
        [look_again()] * 2,
        since=(6, 18),
    )
    for how, requests in (
        ("behind it", (nop(1), message(2, "ring", 77), poll(3, "ring", len=MULTI), nop(4))),
        ("before it", (poll(3, "ring", len=MULTI), nop(1), nop(2, op_flags=TW), message(4, "ring", 77), nop(5))),
        ("and a chain", (nop(1, flags=LINK), message(2, "ring", 77, flags=LINK), poll(3, "ring", len=MULTI), nop(4))),
        ("of its eventfd", (poll(3, "event", len=MULTI), nop(1), nop(2, op_flags=TW), message(4, "ring", 77), nop(5))),
    )
)

CASES: Final = (
    *_polls_of_rings("", 0),
    *_polls_of_rings(", put off", DEFER),
    *(one for kind, flags in _KINDS for multi in (0, MULTI) for one in _woken_by_rings(kind, flags, multi)),
    *(one for kind, flags in _KINDS for one in _reads_of_the_eventfd(kind, flags)),
    *(one for kind, flags in _KINDS for one in _many(kind, flags)),
    *(one for kind, flags in _KINDS for one in _ready_already(kind, flags)),
    *_others("", 0),
    *_others(", put off", DEFER),
    *_PARTS,
    _IN_ITS_MIDDLE,
    *_CALLED_BEFORE_CHAINS,
    *_BEHIND,
    *_MESSAGES_TO_ITSELF,
    *(one for kind, flags in _KINDS[:2] for one in _first_polls(kind, flags)),
    *(one for kind, flags in _KINDS for one in _told_by_rings(kind, flags)),
)
