"""Messages between rings, rings as files of others, commands."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    CQSIZE,
    GETEVENTS,
    Blob,
    Case,
    Fd,
    HostFd,
    Open,
    Operand,
    PutBytes,
    Read,
    Reap,
    Register,
    Setup,
    Sqe,
    Wait,
    Word,
    Write,
    buffer_ring,
    cancel,
    case,
    data,
    enter,
    enter_ext,
    give,
    look_again,
    message,
    nop,
    pipe,
    poll,
    read,
    read_multishot,
    recv,
    refused,
    run,
    sqe,
    submit,
    write,
)
from uring_iopf.abi import Op, RegisterOp, SetupFlags, SqeFlags

FIXED, SELECT, SKIP = int(SqeFlags.FIXED_FILE), int(SqeFlags.BUFFER_SELECT), int(SqeFlags.CQE_SKIP_SUCCESS)
LINK: Final = int(SqeFlags.IO_LINK)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
MIXED, TASKRUN = int(SetupFlags.CQE_MIXED), int(SetupFlags.TASKRUN_FLAG)

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
    *(
        case(
            f"message: to itself, behind others{name}",
            "comes at once, and so before what the call has completed until then; not before what goes on",
            Setup(flags=flags),
            pipe(),
            buffer_ring(),
            give(0, 1, 2, 3),
            run(nop(1), message(2, "ring", 77, 5), nop(3), message(4, "ring", 78, 5)),
            run(nop(1, flags=LINK), nop(2), message(3, "ring", 77, 5)),
            run(nop(1, flags=LINK), message(2, "ring", 77, 5, flags=LINK), message(3, "ring", 78, 5)),
            Write("pipe.w", b"data"),
            run(nop(1), read_multishot(2), nop(3), message(4, "ring", 77, 5)),
            Write("pipe.w", b"data"),
            Reap(),
            look_again(),
            since=(6, 18),
        )
        for name, flags in (
            ("", 0),
            (", 32 bytes", int(SetupFlags.CQE32)),
            (", both sizes", MIXED),
            (", put off", DEFER),
        )
    ),
    *(
        case(
            f"message: to itself, a full queue{name}",
            "before what the call has completed, of which the queue has room for fewer by one, or for none",
            Setup(entries=4, cq_entries=4, flags=CQSIZE | flags),
            submit(*(nop(n) for n in range(1, 1 + there))),
            submit(nop(11), nop(12), message(13, "ring", 77, 5), nop(14), flags=GETEVENTS),
            submit(nop(21), message(22, "ring", 78, 5), message(23, "ring", 79, 5), nop(24), flags=GETEVENTS),
            submit(nop(31, flags=LINK), message(32, "ring", 80, 5), nop(33), flags=GETEVENTS),
            Word("sq_flags"),
            [(Reap(), Word("sq_flags"), enter(flags=GETEVENTS))] * 5,
            Reap(),
            since=(6, 18),
        )
        for there in (0, 2, 3, 4)
        for name, flags in (
            (f", {there} before", 0),
            (f", {there} before, 32 bytes", int(SetupFlags.CQE32)),
            (f", {there} before, put off", DEFER),
            (f", {there} before, put off, 32 bytes", DEFER | int(SetupFlags.CQE32)),
        )
    ),
    case(
        "message: to itself, put off, in a wait",
        "is counted as one of those that are waited for, and comes before the next of its chain",
        Setup(flags=DEFER),
        nop(1, flags=LINK),
        message(2, "ring", 77, 5),
        enter_ext(2, 3),
        Reap(),
        look_again(),
        since=(6, 18),
    ),
    case(
        "message: to itself, IOPOLL",
        "a worker sends it: the call for the ring has the ring's lock",
        Setup(flags=int(SetupFlags.IOPOLL)),
        [(run(one, nop(3)), Wait(0), Reap()) for one in (message(2, "ring", 77, 5), nop(2))],
        since=(6, 18),
    ),
    case(
        "message: to itself, IOPOLL and DEFER_TASKRUN",
        "comes first: what has ended by task work comes when there is nothing else in the CQ",
        Setup(flags=int(SetupFlags.IOPOLL) | DEFER),
        run(message(2, "ring", 77, 5)),
        run(nop(3), nop(4, op_flags=16)),
        [look_again()] * 2,
        since=(6, 18),
    ),
    case(
        "message: to itself, behind many others",
        "before all of them",
        Setup(entries=64),
        run(*(nop(n) for n in range(33)), message(99, "ring", 77, 5)),
        since=(6, 18),
    ),
    case(
        "message: to itself, with the flag of 32 bytes, behind another",
        "before it, and as plain as the ring is",
        Setup(),
        run(nop(1), message(2, "ring", 77, 5, op_flags=2, file_index=1 << 15)),
        since=(6, 18),
    ),
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

WIDE_FLAG, PASS = 1 << 15, 2


def _wide(user_data: int, target_data: int, ring: str = "second") -> Sqe:
    """A message that says it has 32 bytes."""
    return message(user_data, ring, target_data, 5, op_flags=PASS, file_index=WIDE_FLAG)


def _plain(user_data: int, target_data: int) -> Sqe:
    return message(user_data, "second", target_data, 6, op_flags=PASS, file_index=3)


def _of_32_bytes(kind: str, flags: int) -> tuple[Case, ...]:
    return (
        case(
            f"message: of 32 bytes{kind}",
            "in a mixed ring it has them, and never wraps; a plain ring says so, and has the half of it",
            Setup(entries=16),
            Setup("second", entries=8, cq_entries=8, flags=flags | CQSIZE),
            [
                (run(_plain(10 + n, 20 + n)), look_again("second"), run(_wide(30 + n, 40 + n)), look_again("second"))
                for n in range(7)
            ],
            Word("cq_tail", "second"),
            since=(6, 18),
        ),
        case(
            f"message: of 32 bytes, to itself{kind}",
            "the same",
            Setup(entries=16, cq_entries=16, flags=flags | CQSIZE),
            [(run(_wide(1, 71, "ring")), look_again()) for _ in range(8)],
            since=(6, 18),
        ),
        case(
            f"message: of 32 bytes, a full queue{kind}",
            "it is kept, with what comes behind it, and comes when there is room for all of it",
            Setup(entries=16),
            Setup("second", entries=2, cq_entries=4, flags=flags | CQSIZE),
            run(_wide(1, 71), _wide(2, 72), _wide(3, 73), _plain(4, 74), _wide(5, 75)),
            Word("sq_flags", "second"),
            [look_again("second")] * 4,
            run(_plain(6, 76), _plain(7, 77)),
            [look_again("second")] * 2,
            since=(6, 18),
        ),
    )


_WIDE: Final = (
    *_of_32_bytes("", 0),
    *_of_32_bytes(", put off", DEFER),
    *_of_32_bytes(", mixed", MIXED),
    *_of_32_bytes(", mixed, put off", MIXED | DEFER),
    case(
        "message: of 32 bytes, to a queue of such",
        "as any other",
        Setup(entries=16),
        Setup("second", entries=8, flags=int(SetupFlags.CQE32)),
        run(_wide(1, 71), _plain(2, 72), _wide(3, 73)),
        look_again("second"),
        since=(6, 18),
    ),
    case(
        "message: of 32 bytes, the end of a queue of such",
        "as any other",
        Setup(entries=16),
        Setup("second", entries=1, cq_entries=1, flags=int(SetupFlags.CQE32) | CQSIZE),
        run(_wide(1, 71)),
        look_again("second"),
        since=(6, 18),
    ),
    case(
        "message: of 32 bytes, room for half of one",
        "it is kept, and so is the next",
        Setup(entries=16),
        Setup("second", entries=4, cq_entries=4, flags=MIXED | CQSIZE),
        run(_wide(1, 71), _plain(2, 72), _wide(3, 73), _plain(4, 74)),
        Word("cq_tail", "second"),
        since=(6, 18),
    ),
    case(
        "message: a mixed queue of one",
        "EOVERFLOW: there is no room for 32 bytes",
        Setup(entries=1, cq_entries=1, flags=MIXED | CQSIZE),
        Setup(entries=1, cq_entries=2, flags=MIXED | CQSIZE),
        since=(6, 18),
    ),
)

_PUT_OFF: Final = (
    case(
        "message: put off, with the flag",
        "that ring shows TASKRUN, and its eventfd is signalled; many come 20 at a time",
        Setup(entries=64),
        Setup("second", entries=64, flags=DEFER | TASKRUN),
        Open("event", "eventfd", nonblock=True),
        Register(RegisterOp.REGISTER_EVENTFD, Blob("i", (HostFd("event"),)), 1, ring="second"),
        submit(*(message(n, "second", 100 + n) for n in range(1, 51))),
        Reap(),
        Word("sq_flags", "second"),
        Read("event"),
        Reap(ring="second"),
        [(look_again("second"), Word("sq_flags", "second"))] * 4,
        since=(6, 13),
    ),
    case(
        "message: put off, to itself",
        "comes with events",
        Setup(flags=DEFER),
        submit(message(1, "ring", 77, 5), nop(2)),
        Reap(),
        look_again(),
    ),
    case(
        "message: put off, behind a drain",
        "a drain does not wait for it",
        Setup(),
        Setup("second", flags=DEFER),
        run(message(1, "second", 77)),
        submit(nop(2, flags=int(SqeFlags.IO_DRAIN)), flags=GETEVENTS, ring="second"),
        Wait(2, "second"),
        Reap(ring="second", order=False, why="a worker thread does one of them"),
    ),
    case(
        "message: put off, sending a file",
        "is installed by the end of the call, behind the batch",
        Setup(),
        Setup("second", flags=DEFER),
        pipe(),
        Register(RegisterOp.REGISTER_FILES, Blob("i", (Fd("pipe.r"),)), 1),
        Register(RegisterOp.REGISTER_FILES, Blob("ii", (-1, -1)), 2, ring="second"),
        submit(message(1, "second", 77, addr=1, addr3=0, file_index=1), nop(2)),
        Reap(),
        Reap(ring="second"),
        run(message(3, "second", 78, addr=1, addr3=0, file_index=9), nop(4)),
        look_again("second"),
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
        "ring: read, which puts task work off",
        "a request that waits for it polls it, and it tells of completions from then on",
        Setup(),
        [
            (Setup(name, flags=DEFER), run(waits), run(nop(7), ring=name), look_again())
            for name, waits in (
                ("second", read(1, "second")),
                ("third", sqe(Op.READV, fd=Fd("third"), user_data=2, addr=Blob("QQ", (data(1), 8)), len=1)),
                ("fourth", recv(3, "fourth", ioprio=1)),
            )
        ],
        since=(6, 12),
    ),
    case(
        "ring: read again and again, which puts task work off",
        "the same",
        Setup(),
        Setup("second", flags=DEFER),
        buffer_ring(),
        give(0),
        run(read_multishot(1, "second")),
        run(nop(7), ring="second"),
        look_again(),
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
    case(
        "command: a multishot that does not fail",
        "completes when its file says so, which sockets never do; nobody finds it",
        Setup(),
        Open("socket", "udp"),
        run(command(flags=SELECT, op_flags=2, fd=Fd("socket.a")), nop(1)),
        run(cancel(9, 5), cancel(10, 0, 4)),
        look_again(),
        since=(6, 18),
    ),
)

CASES: Final = (*_MESSAGES, *_WIDE, *_PUT_OFF, *_RINGS, *_COMMANDS)
