"""NOPs, and the forms of completions."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    CQSIZE,
    GETEVENTS,
    Blob,
    Fd,
    Reap,
    Register,
    Setup,
    Word,
    case,
    data,
    enter,
    inject,
    look_again,
    nop,
    pipe,
    poll,
    refused,
    run,
    submit,
)
from uring_iopf.abi import RegisterOp, SetupFlags, SqeFlags

LINK = int(SqeFlags.IO_LINK)

_NOPS: Final = (
    case(
        "cqe: 32 bytes",
        "two more words, 0 where the operation has none",
        Setup(flags=int(SetupFlags.CQE32)),
        run(nop(1), inject(2, 5)),
        pipe(),
        run(poll(3, "pipe.w", 4)),
    ),
    case(
        "nop: a result of its own",
        "as many as 32 bits hold; EINVAL for flags that are not known",
        Setup(),
        run(inject(1, 0), inject(2, 7), inject(3, -1), inject(4, -4096), inject(5, 0x7FFFFFFF), inject(6, -(1 << 31))),
        refused(nop(5, op_flags=1 << 31), nop(5, op_flags=0x80)),
    ),
    case(
        "nop: a file",
        "may be asked for, and is EBADF where it is not there",
        Setup(),
        pipe(),
        refused(nop(5, op_flags=2, fd=Fd("pipe.r")), nop(5, op_flags=2, fd=9999), nop(5, op_flags=6, fd=0)),
        refused(nop(5, op_flags=8, buf_group=0), nop(5, op_flags=4)),
        since=(6, 13),
    ),
    case(
        "nop: a slot",
        "where either of two flags says so: that of the NOP, and that of any SQE",
        Setup(),
        pipe(),
        [
            (
                registered,
                [
                    run(nop(1, op_flags=2 | own, flags=flags, fd=fd))
                    for own, flags in ((0, 0), (4, 0), (0, 1), (4, 1))
                    for fd in ((0, 1, 77) if own or flags else (Fd("pipe.r"),))
                ],
            )
            for registered in ((), Register(RegisterOp.REGISTER_FILES, Blob("2i", (Fd("pipe.r"), -1)), 2))
        ],
        since=(6, 16),
    ),
    case(
        "nop: as task work",
        "its completion is there after the call all the same",
        Setup(),
        run(nop(1, op_flags=16), nop(2)),
        since=(6, 15),
    ),
    case(
        "nop: 32 bytes",
        "off and addr are its two words; EINVAL in a ring of 16-byte completions",
        Setup(flags=int(SetupFlags.CQE32)),
        run(nop(1, op_flags=32, off=11, addr=22), nop(2, off=11, addr=22)),
        Setup("second"),
        run(nop(3, op_flags=32, off=11, addr=22), ring="second"),
        since=(6, 18),
    ),
    case(
        "cqe: both sizes",
        "CQE_MIXED: one of 32 bytes does not wrap, and a filler is before it",
        Setup(entries=4, cq_entries=4, flags=CQSIZE | 1 << 18),
        [(run(nop(n)), run(nop(n + 1, op_flags=32, off=n, addr=2 * n))) for n in range(0, 12, 2)],
        since=(6, 18),
    ),
    case(
        "nop: all flags",
        "together: a result, a file or a slot, a buffer, as task work, 32 bytes",
        Setup(),
        pipe(),
        Register(RegisterOp.REGISTER_FILES, Blob("i", (Fd("pipe.r"),)), 1),
        Register(RegisterOp.REGISTER_BUFFERS, Blob("QQ", (data(1), 8)), 1),
        [
            (
                run(nop(n, op_flags=n, fd=0 if n & 4 else Fd("pipe.w"), len=9)),
                run(nop(n, op_flags=n, fd=7777, len=9, buf_group=3), nop(99)),
                run(),
            )
            for n in range(64)
        ],
        since=(6, 16),
    ),
    case(
        "nop: as task work, in a chain",
        "what is behind it comes behind it",
        Setup(),
        run(nop(1, op_flags=16, flags=LINK), nop(2)),
        look_again(),
        refused(nop(5, op_flags=64)),
        since=(6, 16),
    ),
    case(
        "nop: a result in 32 bytes",
        "all three are the client's",
        Setup(flags=int(SetupFlags.CQE32)),
        run(nop(1, op_flags=33, len=5, off=9), nop(2, op_flags=32, off=7, addr=8)),
        Setup("second"),
        run(nop(1, op_flags=33, len=5, off=9), nop(2, op_flags=32, off=7, addr=8), nop(3), ring="second"),
        since=(6, 18),
    ),
    case(
        "cqe: 32 bytes, overflow",
        "is kept whole, and there is room for both sizes again",
        [
            (
                Setup(entries=4, cq_entries=8, flags=CQSIZE | flags),
                [submit(nop(n, op_flags=32, off=7, addr=n), nop(10 + n)) for n in range(6)],
                Word("cq_overflow"),
                [(Reap(), enter(0, 0, GETEVENTS))] * 4,
            )
            for flags in (int(SetupFlags.CQE32), 1 << 18)
        ],
        since=(6, 18),
    ),
)

CASES: Final = _NOPS
