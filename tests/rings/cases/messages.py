"""Messages between rings, rings as files of others, commands."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    CQSIZE,
    Blob,
    Fd,
    Operand,
    PutBytes,
    Read,
    Reap,
    Register,
    Setup,
    Sqe,
    Word,
    Write,
    buffer_ring,
    cancel,
    case,
    data,
    give,
    look_again,
    message,
    nop,
    pipe,
    poll,
    read,
    read_multishot,
    refused,
    run,
    sqe,
    submit,
    write,
)
from uring_iopf.abi import Op, RegisterOp, SetupFlags, SqeFlags

FIXED, SELECT, SKIP = int(SqeFlags.FIXED_FILE), int(SqeFlags.BUFFER_SELECT), int(SqeFlags.CQE_SKIP_SUCCESS)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)

_MESSAGES: Final = (
    case(
        "message: to another ring",
        "its completion there, 0 here",
        Setup(),
        Setup("second"),
        run(message(1, "second", 77, 5), message(2, "second", 78, -5)),
        look_again("second"),
    ),
    case("message: to itself", "works", Setup(), run(message(1, "ring", 77, 5)), look_again()),
    case(
        "message: flags for the completion",
        "with FLAGS_PASS; else EINVAL",
        Setup(),
        Setup("second"),
        run(message(1, "second", 77, 5, op_flags=2, file_index=1 << 16 | 1)),
        run(message(1, "second", 77, 5, file_index=3)),
        look_again("second"),
    ),
    case(
        "message: refusals",
        "EBADFD for what is no ring, EINVAL for commands and flags that are not known",
        Setup(),
        Setup("second"),
        pipe(),
        refused(sqe(Op.MSG_RING, fd=Fd("pipe.r"), user_data=5), sqe(Op.MSG_RING, fd=9999, user_data=5)),
        refused(
            message(5, "second", 1, addr=2), message(5, "second", 1, op_flags=4), message(5, "second", 1, op_flags=1)
        ),
        refused(
            message(5, "second", 1, addr3=1),
            message(5, "second", 1, buf_group=1),
            message(5, "second", 1, personality=1),
        ),
        look_again("second"),
    ),
    case(
        "message: a full queue",
        "the completion is kept there",
        Setup(),
        Setup("second", entries=1, cq_entries=1, flags=CQSIZE),
        run(message(1, "second", 77), message(2, "second", 78)),
        Word("sq_flags", "second"),
        [look_again("second")] * 2,
    ),
    case(
        "message: to a disabled ring",
        "EBADFD",
        Setup(),
        Setup("second", flags=int(SetupFlags.R_DISABLED)),
        run(message(1, "second", 77)),
    ),
    case(
        "message: where task work is put off",
        "it is there with events",
        Setup(),
        Setup("second", flags=DEFER),
        run(message(1, "second", 77, 5)),
        Reap(ring="second"),
        look_again("second"),
        look_again(),
    ),
    case(
        "message: sending a file",
        "from a slot to a slot; ENXIO, EBADF, EINVAL",
        Setup(),
        Setup("second"),
        pipe(),
        run(message(1, "second", 77, addr=1, addr3=0, file_index=1)),
        Register(RegisterOp.REGISTER_FILES, Blob("ii", (Fd("pipe.r"), -1)), 2),
        run(message(1, "second", 77, addr=1, addr3=0, file_index=1)),
        Register(RegisterOp.REGISTER_FILES, Blob("iii", (-1, -1, -1)), 3, ring="second"),
        run(message(1, "second", 77, addr=1, addr3=0, file_index=1)),
        run(message(2, "second", 78, addr=1, addr3=1, file_index=1)),
        run(message(3, "second", 79, addr=1, addr3=9, file_index=1)),
        run(message(4, "second", 80, addr=1, addr3=0, file_index=9)),
        run(message(5, "second", 81, 7, addr=1, addr3=0, file_index=1)),
        run(message(6, "second", 82, addr=1, addr3=0, file_index=0xFFFFFFFF)),
        run(message(7, "second", 83, addr=1, addr3=0, file_index=3, op_flags=1)),
        run(message(8, "ring", 84, addr=1, addr3=0, file_index=1)),
        look_again("second"),
        Write("pipe.w", b"hello"),
        run(read(9, fd=0, flags=FIXED), ring="second"),
    ),
    case(
        "message: silent",
        "the completion is there, none is here",
        Setup(),
        Setup("second"),
        run(message(1, "second", 77, 5, flags=SKIP)),
        look_again("second"),
        run(message(1, "second", 77, 5, flags=SKIP, op_flags=4)),
        look_again("second"),
    ),
    case(
        "message: sending a file, any slot",
        "ENFILE without a table, the slot that was found, and when all are used; a file may take another's place",
        Setup(),
        Setup("second"),
        pipe(),
        Register(RegisterOp.REGISTER_FILES, Blob("3i", (Fd("pipe.r"), -1, Fd("pipe.w"))), 3),
        run(message(1, "second", 77, addr=1, addr3=0, file_index=0xFFFFFFFF)),
        Register(RegisterOp.REGISTER_FILES2, Blob("IIQQQ", (3, 1, 0, 0, 0)), 32, ring="second"),
        run(message(2, "second", 78, addr=1, addr3=0, file_index=1)),
        run(message(3, "second", 79, addr=1, addr3=2, file_index=2)),
        [run(message(4 + n, "second", 80 + n, addr=1, addr3=0, file_index=0xFFFFFFFF)) for n in range(2)],
        run(message(6, "second", 82, addr=1, addr3=2, file_index=1)),
        look_again("second"),
        PutBytes(data(0), b"abcdefgh"),
        run(write(7, fd=1, flags=FIXED), write(8, fd=0, flags=FIXED), ring="second"),
        Read("pipe.r"),
    ),
)

_RINGS: Final = (
    case(
        "ring: read and written",
        "EINVAL when it is ready for that: it has no such operations; no commands either",
        Setup(),
        Setup("second"),
        run(read(1, "second"), sqe(Op.URING_CMD, fd=Fd("second"), user_data=2), write(3, "second")),
        submit(nop(7), ring="second"),
        look_again(),
    ),
    case(
        "ring: read, with completions",
        "EINVAL at once",
        Setup(),
        Setup("second"),
        submit(nop(7), ring="second"),
        run(read(1, "second"), nop(2)),
        since=(6, 12),
    ),
    case(
        "ring: read, otherwise",
        "nothing, a vector, again and again: the same; cancelled while it waits",
        Setup(),
        Setup("second"),
        buffer_ring(),
        give(0),
        run(sqe(Op.READV, fd=Fd("second"), user_data=1, addr=Blob("QQ", (data(1), 0)), len=1)),
        run(read_multishot(2, "second")),
        run(read(3, "second")),
        run(cancel(9, 3)),
        submit(nop(7), ring="second"),
        Reap(order=False, why="one wake-up, two requests"),
        since=(6, 12),
    ),
    case(
        "ring: polled",
        "ready for SQEs while there is room, and for completions when there are some",
        Setup(),
        Setup("second", entries=2, cq_entries=2, flags=CQSIZE),
        run(poll(1, "second", 1), poll(2, "second", 5)),
        submit(nop(7), ring="second"),
        look_again(),
        run(poll(3, "second", 5)),
    ),
)


def command(flags: int = 0, op_flags: int = 0, ioprio: int = 0, fd: Operand | None = None) -> Sqe:
    file = Fd("pipe.r") if fd is None else fd
    return sqe(Op.URING_CMD, fd=file, flags=flags, op_flags=op_flags, ioprio=ioprio, user_data=5)


_COMMANDS: Final = (
    case(
        "command: a file without commands",
        "EOPNOTSUPP",
        Setup(),
        pipe(),
        refused(sqe(Op.URING_CMD, fd=Fd("pipe.r"), user_data=5)),
    ),
    case(
        "command: refusals",
        "EINVAL for flags and padding, EBADF without a file",
        Setup(),
        pipe(),
        refused(
            sqe(Op.URING_CMD, fd=Fd("pipe.r"), op_flags=1 << 31, user_data=5),
            sqe(Op.URING_CMD, fd=9999, user_data=5),
            sqe(Op.URING_CMD, fd=Fd("pipe.r"), off=1 << 32, user_data=5),
        ),
    ),
    case(
        "command: flags",
        "of a buffer and of multishots; EINVAL where they do not go together",
        Setup(),
        pipe(),
        refused(*(command(op_flags=n) for n in (1, 2, 4)), command(fd=-1), command(ioprio=1)),
        refused(*(command(flags=SELECT, op_flags=n) for n in (0, 2, 3))),
        since=(6, 18),
    ),
)

CASES: Final = (*_MESSAGES, *_RINGS, *_COMMANDS)
