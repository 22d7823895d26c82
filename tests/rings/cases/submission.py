"""What is checked of every SQE; descriptors, addresses, and a read's fields."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    KERNEL,
    At,
    Hole,
    Open,
    Setup,
    Word,
    Write,
    bad,
    cancel,
    case,
    data,
    inject,
    look_again,
    nop,
    pipe,
    poll,
    read,
    refused,
    run,
    sqe,
    timeout,
    write,
)
from uring_iopf.abi import SetupFlags, SqeFlags

FIXED, SELECT, IOPOLL = int(SqeFlags.FIXED_FILE), int(SqeFlags.BUFFER_SELECT), int(SetupFlags.IOPOLL)

_KNOWN_OPS = (0, 6, 11, 14, 22, 23)

_CHECKS: Final = (
    case(
        "sqe: no such operation",
        "EINVAL, before any flag is looked at",
        Setup(),
        refused(bad(5), sqe(200, flags=0x80, user_data=5), sqe(65, user_data=5)),
    ),
    case(
        "sqe: unknown flag",
        "EINVAL for the eighth bit, before the operation's own errors",
        Setup(),
        refused(*(sqe(op, flags=0x80, user_data=5, fd=-1, off=99) for op in _KNOWN_OPS)),
    ),
    case(
        "sqe: select",
        "EOPNOTSUPP where the operation takes no buffers",
        Setup(),
        refused(
            *(sqe(op, flags=SELECT, user_data=5) for op in (0, 4, 5, 6, 7, 11, 12, 14, 15, 23, 31, 32, 40)),
            nop(5, flags=SELECT, ioprio=1, personality=1),
        ),
    ),
    case(
        "sqe: ioprio",
        "EINVAL where the operation has no use for it",
        Setup(),
        refused(*(sqe(op, ioprio=1, user_data=5, fd=-1) for op in (0, 6, 7, 11, 12, 14, 31, 32, 40, 46, 49))),
        refused(nop(5, ioprio=0x2000)),
    ),
    case(
        "sqe: personality",
        "EINVAL where it is not registered, before the operation's own errors",
        Setup(),
        refused(*(sqe(op, personality=1, user_data=5, fd=-1, buf_group=3) for op in _KNOWN_OPS)),
    ),
    case(
        "sqe: fields that are of no use",
        "NOP reads none of them",
        Setup(),
        refused(nop(5, off=5, addr=5, buf_group=1, file_index=9, addr3=7, pad2=7)),
        refused(nop(5, fd=-1), nop(5, fd=9999)),
    ),
    case("sqe: user_data", "is given back whole", Setup(), run(*(nop(1 << shift) for shift in (0, 31, 32, 63)))),
    case(
        "sqe: IOPOLL",
        "EINVAL for what cannot be polled for completions",
        Setup(flags=IOPOLL),
        pipe(),
        refused(nop(5), poll(5), timeout(5, 3600), cancel(5, 1), read(5)),
    ),
    case(
        "sqe: errors of one and of the batch",
        "what fails when it is issued does not end a batch",
        Setup(),
        run(nop(1), read(2, fd=-1), nop(3)),
        run(nop(1), read(2, addr=KERNEL, fd=-1), nop(3)),
        look_again(),
    ),
    case(
        "sqe: 128 bytes",
        "every slot is as long",
        Setup(flags=int(SetupFlags.SQE128)),
        run(nop(1), inject(2, -7), nop(3)),
        run(*(nop(n) for n in range(8))),
    ),
    case(
        "sqe: without an array",
        "the slots are taken in order",
        Setup(entries=4, flags=int(SetupFlags.NO_SQARRAY)),
        [run(nop(n), nop(n + 1), nop(n + 2)) for n in range(0, 9, 3)],
        since=(6, 6),
    ),
    case(
        "sqe: one slot twice",
        "the array says which slot, and may say the same again",
        Setup(),
        run(nop(1, index=0), nop(2, index=0), nop(3, index=0)),
    ),
)

_OPENED: Final = (
    case(
        "files: none",
        "EBADF when it is issued",
        Setup(),
        refused(read(5, fd=-1), read(5, fd=9999), write(5, fd=-1), write(5, fd=9999), poll(5, fd=-1), poll(5, fd=9999)),
        refused(read(5, fd=0, flags=FIXED), read(5, fd=-1, flags=FIXED)),
    ),
    case(
        "files: not open for it",
        "EBADF",
        Setup(),
        pipe(),
        refused(read(5, "pipe.w"), write(5, "pipe.r")),
    ),
    case(
        "addresses",
        "EFAULT: outside of user space before all else, in a hole when data go there",
        Setup(),
        pipe(),
        refused(read(5, addr=KERNEL), read(5, addr=KERNEL, fd=-1), write(5, addr=KERNEL, fd=-1)),
        refused(read(5, addr=0x7FFF_FFFF_EFF8), read(5, addr=0x7FFF_FFFF_F008, len=0), read(5, addr=8, fd=-1)),
        refused(write(5, addr=Hole()), write(5, addr=Hole(), len=0)),
        refused(write(6, addr=At((1 << 20) - 4))),
        Write("pipe.w", b"0123456789"),
        refused(read(5, addr=Hole()), read(5, addr=Hole(), len=0), read(6, addr=data(0))),
    ),
    case(
        "read: the flags",
        "RWF_NOWAIT is EAGAIN, those that are not known EOPNOTSUPP or EINVAL",
        Setup(),
        pipe(),
        refused(read(5, op_flags=8), read(5, op_flags=-1), read(5, op_flags=-1, fd=-1)),
        refused(read(5, op_flags=1 << 30), read(5, op_flags=1 << 30, fd=-1)),
    ),
    case(
        "read: ioprio",
        "EINVAL for a class that is not known",
        Setup(),
        pipe(),
        refused(read(5, ioprio=0xFFFF), read(5, ioprio=0x8000)),
    ),
    case(
        "read: offsets",
        "EINVAL for negative ones but -1",
        Setup(),
        pipe(),
        refused(read(5, off=-2), read(5, off=1 << 63)),
        Open("event", "eventfd", value=3, nonblock=True),
        refused(read(5, "event", off=-1, len=8)),
        Word("sq_dropped"),
    ),
)

CASES: Final = (*_CHECKS, *_OPENED)
