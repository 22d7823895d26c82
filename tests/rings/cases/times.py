"""Time-outs: of requests, of waits, and by which clock."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    MS,
    Hole,
    Reap,
    Setup,
    Wait,
    Write,
    cancel,
    case,
    inject,
    link_timeout,
    look_again,
    nop,
    pipe,
    read,
    refused,
    run,
    submit,
)
from uring_iopf.abi import SqeFlags, TimeoutFlags

LINK, HARD = int(SqeFlags.IO_LINK), int(SqeFlags.IO_HARDLINK)

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
        run(nop(1, flags=LINK), link_timeout(2, 3600, op_flags=int(TimeoutFlags.MULTISHOT))),
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

CASES: Final = (*_LINK_TIMEOUTS,)
