"""Time-outs: requests, those that are linked to others, and those of waits; by which clock."""

from __future__ import annotations

from time import CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_TAI
from typing import Final

from tests.rings.cases.cancels import HASHED
from tests.rings.language import (
    EXT_ARG,
    GETEVENTS,
    HOUR,
    KERNEL,
    MS,
    Blob,
    Enter,
    Fd,
    Hole,
    Reap,
    Register,
    Setup,
    Soon,
    Sqe,
    Steps,
    Wait,
    Word,
    Write,
    cancel,
    case,
    enter,
    enter_ext,
    ext,
    inject,
    link_timeout,
    look_again,
    message,
    nop,
    pipe,
    poll,
    read,
    refused,
    run,
    submit,
    timeout,
    timeout_remove,
    timespec,
    write,
)
from uring_iopf.abi import EnterFlags, RegisterOp, SetupFlags, SqeFlags

LINK, HARD = int(SqeFlags.IO_LINK), int(SqeFlags.IO_HARDLINK)
ASYNC, SKIP = int(SqeFlags.ASYNC), int(SqeFlags.CQE_SKIP_SUCCESS)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
TASKRUN, ABS_TIMER = int(SetupFlags.TASKRUN_FLAG), int(EnterFlags.ABS_TIMER)
ABS, UPDATE, BOOTTIME, REALTIME, LINK_UPDATE, ETIME_SUCCESS, REPEAT = 1, 2, 4, 8, 16, 32, 64
ALL, BY_FD, ANY, FIXED = 1, 2, 4, int(SqeFlags.FIXED_FILE)
_CLOCKS = ((CLOCK_MONOTONIC, 0), (CLOCK_BOOTTIME, BOOTTIME), (CLOCK_REALTIME, REALTIME))

_LINK_TIMEOUTS: Final = (
    case(
        "link timeout: the request is first",
        "ECANCELED for the time-out",
        Setup(),
        run(nop(1, flags=LINK), link_timeout(2, 3600)),
        look_again(),
    ),
    case(
        "link timeout: the time is first",
        "ETIME, and the request is cancelled",
        Setup(),
        pipe(),
        submit(read(1, flags=LINK), link_timeout(2, 0, MS)),
        Wait(2),
        Reap(),
    ),
    case(
        "link timeout: the request ends while it is armed",
        "ECANCELED",
        Setup(),
        pipe(),
        run(read(1, flags=LINK), link_timeout(2, 3600)),
        Write("pipe.w", b"x" * 64),
        look_again(),
    ),
    case(
        "link timeout: alone",
        "EINVAL where it is behind no linked request",
        Setup(),
        refused(link_timeout(5, 3600)),
        refused(link_timeout(5, 3600, flags=LINK)),
    ),
    case(
        "link timeout: two",
        "EINVAL for one behind another, and the chain fails",
        Setup(),
        pipe(),
        run(read(1, flags=LINK), link_timeout(2, 3600, flags=LINK), link_timeout(3, 3600)),
        look_again(),
    ),
    case(
        "link timeout: in the middle",
        "the chain goes on behind it",
        Setup(),
        pipe(),
        run(read(1, flags=LINK), link_timeout(2, 3600, flags=LINK), nop(3)),
        Write("pipe.w", b"x" * 64),
        look_again(),
    ),
    case(
        "link timeout: fields",
        "EINVAL",
        Setup(),
        run(nop(1, flags=LINK), link_timeout(2, 3600, off=1)),
        look_again(),
        run(nop(1, flags=LINK), link_timeout(2, 3600, len=2)),
        look_again(),
        run(nop(1, flags=LINK), link_timeout(2, 3600, op_flags=2)),
        look_again(),
        run(nop(1, flags=LINK), link_timeout(2, -1)),
        look_again(),
        run(nop(1, flags=LINK), link_timeout(2, addr=Hole())),
        look_again(),
        run(nop(1, flags=LINK), link_timeout(2, 3600, op_flags=REPEAT)),
        look_again(),
    ),
    case(
        "link timeout: of a failing request",
        "is cancelled",
        Setup(),
        run(inject(1, -5, flags=LINK), link_timeout(2, 3600)),
        look_again(),
        run(inject(1, -5, flags=HARD), link_timeout(2, 3600)),
        look_again(),
    ),
    case(
        "link timeout: of the second in a chain",
        "is armed when that starts",
        Setup(),
        pipe(),
        submit(nop(1, flags=LINK), read(2, flags=LINK), link_timeout(3, 0, MS)),
        Wait(3),
        Reap(),
    ),
    case(
        "link timeout: the chain behind what it cancelled",
        "is cancelled",
        Setup(),
        pipe(),
        submit(read(1, flags=LINK), link_timeout(2, 0, MS, flags=LINK), nop(3)),
        Wait(3),
        Reap(),
    ),
    case(
        "link timeout: the target is cancelled",
        "and the time-out with it",
        Setup(),
        pipe(),
        run(read(1, flags=LINK), link_timeout(2, 3600)),
        run(cancel(9, 1)),
        look_again(),
    ),
)

_MORE_LINK_TIMEOUTS: Final = (
    case(
        "link timeout: more that is refused",
        "EINVAL, or EFAULT for a time that cannot be read; its request is cancelled before it starts",
        Setup(),
        [
            (run(nop(1, flags=LINK), link_timeout(2, 3600, **fields)), look_again())
            for fields in (
                {"len": 0},
                *({"op_flags": flags} for flags in (512, BOOTTIME | REALTIME, REPEAT | ABS, LINK_UPDATE)),
                {"addr": 0},
                {"addr": 8},
                {"buf_group": 1},
                {"file_index": 1},
                {"addr3": 1},
                {"pad2": 1},
                {"ioprio": 1},
            )
        ],
        run(nop(1, flags=LINK), link_timeout(2, 0, -1)),
        look_again(),
    ),
    case(
        "link timeout: it is cancelled itself",
        "which cannot be: it is not found, and ends with its request",
        Setup(),
        pipe(),
        run(read(1, flags=LINK), link_timeout(2, 3600)),
        run(cancel(9, 2)),
        look_again(),
        run(cancel(9, 1)),
        look_again(),
    ),
    case(
        "link timeout: of a failing request, with more behind",
        "is cancelled, and what is behind it where that is linked to it",
        Setup(),
        run(inject(1, -5, flags=LINK), link_timeout(2, 3600), nop(3)),
        look_again(),
        run(inject(1, -5, flags=LINK), link_timeout(2, 3600, flags=LINK), nop(3)),
        look_again(),
    ),
    case(
        "link timeout: of the second in a chain, with more behind",
        "that is cancelled as well",
        Setup(),
        pipe(),
        submit(nop(1, flags=LINK), read(2, flags=LINK), link_timeout(3, 0, MS, flags=LINK), nop(4)),
        Wait(4),
        Reap(),
    ),
    case(
        "link timeout: hard links",
        "what is behind them starts although the request was cancelled",
        Setup(),
        pipe(),
        submit(read(1, flags=HARD), link_timeout(2, 0, MS, flags=HARD), nop(3)),
        Wait(3),
        Reap(),
    ),
    case(
        "link timeout: of what a worker does",
        "ends it as well",
        Setup(),
        pipe(),
        submit(read(1, flags=LINK | ASYNC), link_timeout(2, 0, 4 * MS)),
        Wait(2),
        Reap(),
    ),
    case(
        "link timeout: silent",
        "what it cancels speaks, it does not",
        Setup(),
        pipe(),
        submit(poll(1, flags=LINK), link_timeout(2, 0, MS, flags=SKIP)),
        Wait(1),
        Reap(),
        look_again(),
    ),
    case(
        "link timeout: of a time-out",
        "which is cancelled",
        Setup(),
        submit(timeout(1, 3600, flags=LINK), link_timeout(2, 0, MS)),
        Wait(2),
        Reap(),
    ),
)


def _no_time(*chain: Sqe) -> Steps:
    """Without a request for events, and then again and again until all is there."""
    return [submit(*chain), Reap(), [look_again() for _ in range(4)]]


_NO_TIME: Final = tuple(
    case(
        f"link timeout: no time at all{', silent' if silent else ''}{', DEFER_TASKRUN' if flags else ''}",
        "it has fired when its request ends at once: ENOENT, and the chain goes on when it has let that go",
        Setup(entries=32, flags=flags),
        [pipe(), pipe("ready")],
        Write("ready.w", b"a"),
        [
            _no_time(*before, first, link_timeout(2, flags=behind), *others)
            for first in (
                nop(1, flags=LINK),
                nop(1, flags=HARD),
                inject(1, -5, flags=LINK),
                inject(1, -5, flags=HARD),
                nop(1, flags=LINK | silent),
                poll(1, "ready.r", flags=LINK),
                poll(1, "pipe.r", flags=LINK),
                read(1, "pipe.r", flags=HARD),
                read(1, "nothing", flags=LINK),
                timeout(1, HOUR, flags=LINK),
            )
            for before in ((), (nop(5, flags=LINK),))
            for behind, others in (
                (0, ()),
                (silent, (nop(3),)),
                (0, (timeout(3),)),
                (LINK, (nop(3), nop(4))),
                (LINK, (nop(3), timeout(4))),
                (LINK, (nop(3, flags=LINK), nop(4))),
                (LINK, (nop(3, flags=LINK), link_timeout(4))),
            )
        ],
        since=(6, 16),
    )
    for flags in (0, DEFER | TASKRUN)
    for silent in (0, SKIP)
)

_TIMEOUTS: Final = (
    case("timeout: fires", "ETIME", Setup(), submit(timeout(1, 0, MS)), Wait(1), Reap()),
    case(
        "timeout: fires, as a success",
        "ETIME, and a chain goes on",
        Setup(),
        submit(timeout(1, 0, MS, op_flags=ETIME_SUCCESS, flags=LINK), nop(2)),
        Wait(2),
        Reap(),
    ),
    case(
        "timeout: fires in a chain",
        "the rest is cancelled",
        Setup(),
        submit(timeout(1, 0, MS, flags=LINK), nop(2)),
        Wait(2),
        Reap(),
    ),
    case("timeout: no time", "fires at once, but not in the call", Setup(), submit(timeout(1)), Wait(1), Reap()),
    case("timeout: a time that is over", "fires", Setup(), submit(timeout(1, 1, 0, op_flags=ABS)), Wait(1), Reap()),
    case(
        "timeout: other clocks",
        "BOOTTIME, REALTIME",
        Setup(),
        submit(timeout(1, 0, MS, op_flags=BOOTTIME), timeout(2, 0, 20 * MS, op_flags=REALTIME)),
        Wait(2),
        Reap(),
    ),
    case(
        "timeout: in the order of their times",
        "not of their submission",
        Setup(),
        submit(timeout(1, 0, 60 * MS), timeout(2, 0, 30 * MS), timeout(3, 0, MS)),
        Wait(3),
        Reap(),
    ),
    case(
        "timeout: fields",
        "EINVAL",
        Setup(),
        refused(
            timeout(5, 3600, len=0),
            timeout(5, 3600, len=2),
            timeout(5, 3600, buf_group=1),
            timeout(5, 3600, file_index=1),
        ),
    ),
    case(
        "timeout: flags",
        "EINVAL for two clocks, unknown bits, repeats of an absolute time",
        Setup(),
        refused(
            *(
                timeout(5, 3600, op_flags=f)
                for f in (UPDATE, LINK_UPDATE, 256, 1 << 31, BOOTTIME | REALTIME, REPEAT | ABS)
            )
        ),
    ),
    case(
        "timeout: the fields of later use",
        "addr3 and what is behind it are not 0",
        Setup(),
        refused(timeout(5, 3600, addr3=1), timeout(5, 3600, pad2=1)),
        run(cancel(9, 0, ANY | ALL), order=False, why=HASHED),
    ),
    case(
        "timeout: times that cannot be",
        "EINVAL for negative ones, EFAULT for what cannot be read",
        Setup(),
        refused(timeout(5, -1), timeout(5, 0, -1), timeout(5, addr=Hole()), timeout(5, addr=KERNEL)),
    ),
    case(
        "timeout: times that are odd",
        "nanoseconds beyond a second add up",
        Setup(),
        run(timeout(1, 3600, 2_000_000_000)),
        run(cancel(9, 1)),
        look_again(),
    ),
    case(
        "timeout: a count",
        "completes with 0 after so many others",
        Setup(),
        run(timeout(1, 3600, off=2)),
        run(nop(2)),
        run(nop(3)),
        run(nop(4)),
    ),
    case(
        "timeout: a count in the same batch",
        "those behind it count",
        Setup(),
        run(timeout(1, 3600, off=1), nop(2), nop(3)),
        look_again(),
        run(nop(4), timeout(5, 3600, off=2), nop(6), nop(7)),
        look_again(),
    ),
    case(
        "timeout: a count, before a chain goes on",
        "it is called as soon as the call's completions are there, and the rest of a chain after that",
        Setup(),
        pipe(),
        run(timeout(1, 3600, off=2)),
        run(nop(2, flags=LINK), nop(3), nop(4)),
        look_again(),
        run(timeout(1, 3600, off=2)),
        run(inject(2, -5, flags=LINK), nop(3), nop(4)),
        look_again(),
        run(timeout(1, 3600, off=2), read(5)),
        run(nop(2, flags=LINK), nop(3), write(4)),
        look_again(),
        since=(6, 18),
    ),
    case(
        "timeout: a count of messages",
        "each counts at once, and one that is there when it starts does not",
        Setup(),
        run(timeout(1, 3600, off=1)),
        run(message(2, "ring", 77), nop(3, flags=LINK), nop(4)),
        look_again(),
        run(message(2, "ring", 77), timeout(1, 3600, off=3), nop(3)),
        look_again(),
        run(nop(4)),
        look_again(),
        since=(6, 18),
    ),
    case(
        "timeout: two counts",
        "each has its own, and the nearer is first",
        Setup(),
        run(timeout(1, 3600, off=3), timeout(2, 3600, off=1)),
        run(nop(3)),
        run(nop(4)),
        run(nop(5)),
        look_again(),
    ),
    case(
        "timeout: a count, silent requests",
        "do not count",
        Setup(),
        run(timeout(1, 3600, off=1)),
        run(nop(2, flags=SKIP)),
        look_again(),
        run(nop(3)),
        look_again(),
    ),
    case(
        "timeout: a count and a short time",
        "the time is first",
        Setup(),
        submit(timeout(1, 0, MS, off=5)),
        Wait(1),
        Reap(),
        run(nop(2)),
    ),
    case(
        "timeout: again and again",
        "F_MORE until it has repeated as often as it was to",
        Setup(),
        submit(timeout(1, 0, MS, op_flags=REPEAT, off=3)),
        Wait(3),
        Reap(),
        look_again(),
        since=(6, 4),
    ),
    case(
        "timeout: again and again, cancelled",
        "ECANCELED at its end",
        Setup(),
        run(timeout(1, 3600, op_flags=REPEAT)),
        run(timeout_remove(9, 1)),
        look_again(),
        since=(6, 4),
    ),
    case(
        "timeout remove",
        "0 and the target's ECANCELED, or ENOENT",
        Setup(),
        run(timeout_remove(9, 1)),
        run(timeout(1, 3600)),
        run(timeout_remove(9, 1)),
        look_again(),
        run(timeout_remove(9, 1)),
    ),
    case(
        "timeout remove: another kind",
        "a read is not found",
        Setup(),
        pipe(),
        run(read(1)),
        run(timeout_remove(9, 1)),
        run(cancel(9, 1)),
    ),
    case(
        "timeout remove: fields",
        "EINVAL",
        Setup(),
        refused(timeout_remove(5, 1, buf_group=1), timeout_remove(5, 1, len=1), timeout_remove(5, 1, file_index=1)),
        refused(
            timeout_remove(5, 1, op_flags=1),
            timeout_remove(5, 1, op_flags=32),
            timeout_remove(5, 1, op_flags=UPDATE | BOOTTIME | REALTIME),
        ),
        refused(timeout_remove(5, 1, flags=FIXED), timeout_remove(5, 1, addr3=1)),
    ),
    case(
        "timeout update",
        "to a sooner time; ENOENT without one; times are checked",
        Setup(),
        run(timeout_remove(9, 1, op_flags=UPDATE, off=timespec(3600))),
        run(timeout(1, 3600)),
        run(timeout_remove(9, 1, op_flags=UPDATE, off=Hole())),
        run(timeout_remove(9, 1, op_flags=UPDATE, off=timespec(-1))),
        look_again(),
        run(timeout_remove(9, 1, op_flags=UPDATE, off=timespec(0, MS))),
        Wait(1),
        Reap(),
    ),
    case(
        "timeout update: to a count that was",
        "the count is no longer looked at",
        Setup(),
        run(timeout(1, 3600, off=1)),
        run(timeout_remove(9, 1, op_flags=UPDATE, off=timespec(7200))),
        look_again(),
        run(nop(2)),
        look_again(),
        run(cancel(9, 0, ANY | ALL)),
        look_again(),
    ),
    case(
        "timeout update: of a linked one",
        "with its own flag",
        Setup(),
        pipe(),
        run(read(1, flags=LINK), link_timeout(2, 3600)),
        run(timeout_remove(9, 2, op_flags=UPDATE, off=timespec(7200))),
        submit(timeout_remove(9, 2, op_flags=UPDATE | LINK_UPDATE, off=timespec(0, MS))),
        Wait(3),
        Reap(),
        run(timeout_remove(9, 2, op_flags=UPDATE | LINK_UPDATE, off=timespec(0, MS))),
    ),
    case(
        "timeout: silent",
        "a failure speaks, a count does not",
        Setup(),
        submit(timeout(1, 0, MS, flags=SKIP)),
        Wait(1),
        Reap(),
        run(timeout(2, 3600, off=1, flags=SKIP)),
        run(nop(3)),
        look_again(),
    ),
)

_MORE_TIMEOUTS: Final = (
    case(
        "timeout: fires in a hard chain",
        "the rest starts",
        Setup(),
        submit(timeout(1, 0, MS, flags=HARD), nop(2)),
        Wait(2),
        Reap(),
    ),
    case(
        "timeout: fires silently",
        "only where that counts as a success",
        Setup(),
        submit(timeout(1, 0, 4 * MS, flags=SKIP), timeout(2, 0, MS, flags=SKIP, op_flags=ETIME_SUCCESS)),
        Wait(1),
        Reap(),
    ),
    case(
        "timeout: a time of each clock",
        "fires when that clock has come to it, at once where it is over",
        Setup(),
        [
            (submit(timeout(1, addr=Soon(clock, 3 * MS), op_flags=ABS | flags)), Wait(1), Reap())
            for clock, flags in _CLOCKS
        ],
        [(submit(timeout(1, 1, op_flags=ABS | flags)), Wait(1), Reap()) for _, flags in _CLOCKS],
        [
            run(timeout(n, addr=Soon(clock, HOUR * 10**9), op_flags=ABS | flags))
            for n, (clock, flags) in enumerate(_CLOCKS)
        ],
        look_again(),
        [run(timeout_remove(9, n)) for n, _ in enumerate(_CLOCKS)],
    ),
    case(
        "timeout: more that is refused",
        "EFAULT for NULL, EINVAL for another flag",
        Setup(),
        refused(timeout(5, addr=0), timeout(5, addr=8), timeout(5, 3600, op_flags=512)),
    ),
    case(
        "timeout: three counts",
        "the nearest is first, whenever it came",
        Setup(),
        run(timeout(1, 3600, off=1), timeout(2, 3600, off=3), timeout(3, 3600, off=2)),
        [(run(nop(n)), look_again()) for n in (4, 5, 6, 7)],
    ),
    case(
        "timeout: a count in a chain",
        "is a success, and the rest starts",
        Setup(),
        run(timeout(1, 3600, off=1, flags=LINK), nop(2)),
        run(nop(3)),
        look_again(),
    ),
    case(
        "timeout: again and again, removed between",
        "ETIME with F_MORE, then ECANCELED",
        Setup(),
        submit(timeout(1, 0, 40 * MS, op_flags=REPEAT)),
        Wait(1),
        Reap(),
        run(timeout_remove(9, 1)),
        look_again(),
        since=(6, 4),
    ),
    case(
        "timeout: again and again, once",
        "no F_MORE",
        Setup(),
        submit(timeout(1, 0, MS, op_flags=REPEAT, off=1)),
        Wait(1),
        Reap(),
        since=(6, 4),
    ),
    case(
        "timeout remove: two of one number",
        "one is removed, the other is still there",
        Setup(),
        run(timeout(1, 3600), timeout(2, 3600), timeout(2, 3600)),
        run(timeout_remove(9, 2)),
        look_again(),
        run(cancel(8, 2)),
        look_again(),
        run(cancel(8, 2)),
    ),
    case(
        "timeout remove: a chain's head",
        "the chain is cancelled",
        Setup(),
        run(timeout(1, 3600, flags=LINK), nop(2)),
        run(timeout_remove(9, 1)),
        look_again(),
    ),
    case(
        "timeout remove: more that is refused",
        "EINVAL for what an update has no use for, EFAULT for a time that cannot be read",
        Setup(),
        refused(
            timeout_remove(5, 1, pad2=1),
            timeout_remove(5, 1, op_flags=LINK_UPDATE),
            timeout_remove(5, 1, op_flags=UPDATE | BOOTTIME, off=timespec(1)),
            timeout_remove(5, 1, op_flags=UPDATE | REPEAT, off=timespec(1)),
            timeout_remove(5, 1, op_flags=UPDATE, off=8),
            timeout_remove(5, 1, op_flags=UPDATE, off=timespec(-1)),
        ),
    ),
    case(
        "timeout update: to a time of the clock",
        "which is over, and it fires",
        Setup(),
        run(timeout(1, 3600)),
        submit(timeout_remove(9, 1, op_flags=UPDATE | ABS, off=timespec(1))),
        Wait(2),
        Reap(),
    ),
    case(
        "cancel: any, among time-outs",
        "all of them, though one was asked for",
        Setup(),
        run(timeout(1, 3600, flags=SKIP), timeout(3, 3600)),
        run(cancel(8, 0, ANY)),
        look_again(),
        run(timeout_remove(9, 3)),
    ),
    case(
        "cancel: a read and time-outs of one number",
        "their count, or one at a time",
        Setup(),
        pipe(),
        run(timeout(3, 3600), timeout(3, 3600), read(3)),
        run(cancel(8, 3, ALL)),
        look_again(),
        run(timeout(3, 3600), read(3)),
        run(cancel(8, 3)),
        look_again(),
        run(cancel(8, 3)),
        look_again(),
    ),
    case(
        "cancel: by descriptor, a time-out",
        "is not found",
        Setup(),
        pipe(),
        run(timeout(3, 3600)),
        run(cancel(8, 0, BY_FD | ALL, fd=Fd("pipe.r"))),
        run(timeout_remove(9, 3)),
    ),
)

_WAITS = (
    enter_ext(0, 1, arg=ext(0, MS)),
    enter_ext(0, 0, arg=ext(0, MS)),
    enter_ext(0, 1, arg=ext(0, 0)),
    Enter(0, 1, GETEVENTS | EXT_ARG, ext(0, MS), 16),
    Enter(0, 1, GETEVENTS | EXT_ARG, Blob("QIIQ", (0, 0, 0, 8)), 24),
    Enter(0, 1, GETEVENTS | EXT_ARG, 0, 24),
    Enter(0, 1, EXT_ARG, 0, 24),
    nop(1),
    enter_ext(1, 2, arg=ext(0, MS)),
    Reap(),
    nop(1),
    enter_ext(1, 1, arg=ext(0, MS)),
    Reap(),
    enter_ext(0, 1, arg=ext(min_wait_usec=1000)),
    enter_ext(0, 2, arg=ext(0, 3 * MS, 1000)),
    nop(1),
    enter_ext(1, 2, arg=ext(3600, 0, 1000)),
    Reap(),
)
_FIRING = (
    timeout(1, 0, 3 * MS, op_flags=ETIME_SUCCESS),
    enter_ext(1, 2, arg=ext(3600, 0, 1000)),
    Wait(1),
    Reap(),
    timeout(1, 0, 2 * MS),
    enter_ext(1, 3, arg=ext(3600)),
    Wait(1),
    Reap(),
    timeout(1, 0, 2 * MS),
    nop(2),
    enter_ext(2, 8, arg=ext()),
    Wait(2),
    Reap(),
)
_BY_THE_CLOCK = (
    Enter(0, 1, GETEVENTS | EXT_ARG | ABS_TIMER, Blob("QIIQ", (0, 0, 0, Soon(CLOCK_MONOTONIC, 2 * MS))), 24),
    Register(RegisterOp.REGISTER_CLOCK, Blob("4I", (CLOCK_BOOTTIME, 0, 0, 0)), 0),
    Enter(0, 1, GETEVENTS | EXT_ARG | ABS_TIMER, Blob("QIIQ", (0, 0, 0, Soon(CLOCK_BOOTTIME, 2 * MS))), 24),
    enter_ext(0, 1, GETEVENTS | ABS_TIMER, ext(0, 1)),
    enter_ext(0, 1),
    Register(RegisterOp.REGISTER_CLOCK, Blob("4I", (CLOCK_TAI, 0, 0, 0)), 0),
)

_WAITING: Final = tuple(
    case(f"wait: {what}{how}", shows, Setup(flags=flags), steps, since=(6, 12))
    for how, flags in (("", 0), (", put off", DEFER))
    for what, shows, steps in (
        ("with a time", "ETIME, or what there is; EINVAL and EFAULT for what is no time", _WAITS),
        ("a firing TIMEOUT", "ends it, whatever the time that it has", _FIRING),
        ("until a time of the clock", "by the clock that is registered, which is one of two", _BY_THE_CLOCK),
    )
)

_WAITING_FOR: Final = (
    case(
        "wait: for a file",
        "what is there already ends it",
        Setup(),
        pipe(),
        read(1),
        timeout(2, 0, 5 * MS),
        enter(2, 1, GETEVENTS),
        Reap(),
        Write("pipe.w", b"abc"),
        enter(0, 1, GETEVENTS),
        Reap(),
    ),
    *(
        case(
            f"wait: where task work is put off{how}",
            "a chain's rest and data that came are there when events are asked for",
            Setup(flags=DEFER | flags),
            pipe(),
            submit(nop(1, flags=LINK), nop(2), nop(3)),
            Word("sq_flags"),
            Reap(),
            enter(),
            Reap(),
            enter(0, 0, GETEVENTS),
            Word("sq_flags"),
            Reap(),
            submit(read(1)),
            Write("pipe.w", b"abc"),
            enter(),
            Reap(),
            enter(0, 1, GETEVENTS),
            Reap(),
        )
        for how, flags in (("", 0), (", and said", TASKRUN))
    ),
)

# ---- times near the largest number ----

_SECONDS: Final = (1 << 63) // 1_000_000_000
"""How many seconds ktime_t holds; from there on a time is as far away as can be."""
_MOST: Final = (1 << 63) - 1
_FAR: Final = (
    (_MOST, 0),
    (_MOST, _MOST),
    (_SECONDS, 0),
    (_SECONDS, _MOST),
    (_SECONDS - 1, 999_999_999),
    (_SECONDS - 1, _MOST),
    (_SECONDS - 1, 2_000_000_000),
    (0, _MOST),
    (HOUR, 5_000_000_000),
)
_NEGATIVE: Final = ((-1, 0), (0, -1), (1, -1), (-1, 2_000_000_000), (-_MOST - 1, 0), (0, -_MOST - 1))
_OVER_AT_ONCE: Final = {
    (_SECONDS - 1, _MOST, 0),
    (-1, 0, 0),
    (0, -1, 0),
    (-_MOST - 1, 0, 0),
    (1, -1, ABS_TIMER),
    (-1, 2_000_000_000, ABS_TIMER),
    (-_MOST - 1, 0, ABS_TIMER),
}
"""Waits that are: what else might end them, on a busy machine, is far away."""


def _far(how: int, seconds: int, ns: int) -> Steps:
    """A TIMEOUT that should stay until it is cancelled, and an update of one to that time, and a LINK_TIMEOUT."""
    return (
        submit(timeout(1, seconds, ns, op_flags=how), timeout(2, HOUR)),
        submit(timeout_remove(3, 2, op_flags=UPDATE | how, off=timespec(seconds, ns))),
        submit(read(4, flags=LINK), link_timeout(5, seconds, ns, op_flags=how), timeout(6, 0, 2 * MS)),
        enter(0, 8, GETEVENTS),
        Reap(order=False, why="which are over at once come in the order of timers"),
        run(cancel(7, 0, ANY | ALL)),
        look_again(),
    )


_EXTREMES: Final = (
    *(
        case(
            f"times: as far away as can be, {seconds} s and {ns} ns, {what}",
            "it does not come",
            Setup(entries=16),
            pipe(),
            _far(how, seconds, ns),
            since=(6, 12),
        )
        for seconds, ns in _FAR
        for what, how in (("from now on", 0), ("absolute", ABS), ("of the day", ABS | REALTIME))
        if not how or seconds >= _SECONDS or 1 << 62 <= seconds * 1_000_000_000 + ns <= _MOST
        # The others are soon, or have a negative time on Linux, which comes with whatever timer is next, or never.
    ),
    case(
        "times: negative parts",
        "EINVAL for requests, whatever the sum",
        Setup(entries=16),
        [
            (
                run(timeout(1, seconds, ns)),
                run(timeout(1, seconds, ns, op_flags=ABS)),
                run(timeout_remove(2, 1, op_flags=UPDATE, off=timespec(seconds, ns))),
                run(nop(3, flags=LINK), link_timeout(4, seconds, ns)),
                look_again(),
            )
            for seconds, ns in _NEGATIVE
        ],
    ),
    *(
        case(
            f"times: waits, {seconds} s and {ns} ns, {what}",
            "it does not come; what is a little before now is over at once",
            Setup(),
            submit(timeout(1, 0, 25 * MS) if (seconds, ns, flags) not in _OVER_AT_ONCE else timeout(1, HOUR)),
            enter_ext(0, 2, GETEVENTS | flags, ext(seconds, ns)),
            enter_ext(0, 2, GETEVENTS | flags, ext(seconds, ns, 1000)),
            Wait(1) if (seconds, ns, flags) not in _OVER_AT_ONCE else run(cancel(2, 1)),
            Reap(),
            since=(6, 12),
        )
        for seconds, ns in (*_FAR, *_NEGATIVE)
        for what, flags in (("from now on", 0), ("absolute", ABS_TIMER))
        if not flags or seconds != HOUR
    ),
)

CASES: Final = (
    *_EXTREMES,
    *_LINK_TIMEOUTS,
    *_MORE_LINK_TIMEOUTS,
    *_NO_TIME,
    *_TIMEOUTS,
    *_MORE_TIMEOUTS,
    *_WAITING,
    *_WAITING_FOR,
)
