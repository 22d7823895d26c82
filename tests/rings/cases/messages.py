"""Messages between rings, rings as files of others, commands."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    CQSIZE,
    Blob,
    Fd,
    Reap,
    Register,
    Setup,
    Word,
    Write,
    case,
    look_again,
    message,
    pipe,
    read,
    refused,
    run,
    sqe,
)
from uring_iopf.abi import Op, RegisterOp, SetupFlags, SqeFlags

FIXED = int(SqeFlags.FIXED_FILE)
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
)

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
)

CASES: Final = (*_MESSAGES, *_COMMANDS)
