"""Registered files and buffers, restrictions, resizing."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    CQSIZE,
    GETEVENTS,
    KERNEL,
    Blob,
    Close,
    Fd,
    Hole,
    Look,
    Operand,
    Params,
    Put,
    PutBytes,
    Read,
    Reap,
    Register,
    Setup,
    Sqe,
    Steps,
    Wait,
    Word,
    Write,
    cancel,
    case,
    data,
    enter,
    look_again,
    nop,
    pipe,
    poll,
    read,
    refused,
    request,
    run,
    sqe,
    submit,
    write,
)
from uring_iopf.abi import Op, RegisterOp, SetupFlags, SqeFlags

FIXED, SKIP, LINK, DRAIN = int(SqeFlags.FIXED_FILE), int(SqeFlags.CQE_SKIP_SUCCESS), int(SqeFlags.IO_LINK), 2
DISABLED, CLAMP, CQE32 = int(SetupFlags.R_DISABLED), int(SetupFlags.CLAMP), int(SetupFlags.CQE32)
DEFER = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
ALLOC: Final = 0xFFFFFFFF
ASYNC = int(SqeFlags.ASYNC)


def files(*fds: Operand, nr: int | None = None) -> Register:
    return Register(RegisterOp.REGISTER_FILES, Blob(f"{len(fds)}i", tuple(fds)), len(fds) if nr is None else nr)


def update(offset: int, *fds: Operand, nr: int | None = None) -> Register:
    inner = Blob(f"{len(fds)}i", tuple(fds))
    return Register(RegisterOp.REGISTER_FILES_UPDATE, Blob("IIQ", (offset, 0, inner)), len(fds) if nr is None else nr)


def buffers(*parts: tuple[Operand, int], nr: int | None = None) -> Register:
    words = tuple(word for part in parts for word in part)
    return Register(RegisterOp.REGISTER_BUFFERS, Blob(f"{len(words)}Q", words), len(parts) if nr is None else nr)


def fixed(op: int, user_data: int, file: str, index: int, address: Operand, length: int, **fields: Operand) -> Sqe:
    base: dict[str, Operand] = {"fd": Fd(file), "buf_group": index, "addr": address, "len": length}
    return request(op, {**base, "user_data": user_data, **fields})


def update_buffers(
    offset: int, parts: Operand, tags: Operand = 0, count: int = 1, resv: int = 0, size: int = 32
) -> Register:
    """struct io_uring_rsrc_update2."""
    return Register(RegisterOp.REGISTER_BUFFERS_UPDATE, Blob("IIQQII", (offset, resv, parts, tags, count, 0)), size)


def update_files(offset: int, fds: Operand, tags: Operand = 0, count: int = 1, resv: int = 0) -> Register:
    """struct io_uring_rsrc_update2."""
    return Register(RegisterOp.REGISTER_FILES_UPDATE2, Blob("IIQQII", (offset, resv, fds, tags, count, 0)), 32)


def resources(op: int, count: int, flags: int, what: Operand, tags: Operand, resv: int = 0, size: int = 32) -> Register:
    """struct io_uring_rsrc_register."""
    return Register(op, Blob("IIQQQ", (count, flags, resv, what, tags)), size)


def update_slots(user_data: int, offset: int, *fds: Operand, **fields: Operand) -> Sqe:
    """FILES_UPDATE."""
    base: dict[str, Operand] = {"off": offset, "addr": Blob(f"{len(fds)}i", tuple(fds)), "len": len(fds)}
    return request(Op.FILES_UPDATE, {**base, "user_data": user_data, **fields})


def close(user_data: int, slot: int, **fields: Operand) -> Sqe:
    """CLOSE of slot *slot* - 1."""
    return sqe(Op.CLOSE, user_data=user_data, file_index=slot, **fields)


def fixed_vector(op: int, user_data: int, file: str, *parts: tuple[Operand, int], **fields: Operand) -> Sqe:
    words = tuple(word for part in parts for word in part)
    base: dict[str, Operand] = {"fd": Fd(file), "addr": Blob(f"{len(words)}Q", words), "len": len(parts)}
    return request(op, {**base, "user_data": user_data, **fields})


def restrict(*rows: tuple[int, int]) -> Register:
    words = tuple(word for kind, value in rows for word in (kind, value, 0, 0, 0, 0))
    return Register(RegisterOp.REGISTER_RESTRICTIONS, Blob("HBB3I" * len(rows), words), len(rows))


def resize(sq: int, cq: int = 0, flags: int = 0) -> Register:
    words = [0] * 30
    words[0], words[1], words[2] = sq, cq, flags
    return Register(RegisterOp.REGISTER_RESIZE_RINGS, Blob("30I", tuple(words)), 1)


_FILES: Final = (
    case(
        "files: registered",
        "once; used by slot; ENXIO when they are gone",
        Setup(),
        pipe(),
        Register(RegisterOp.UNREGISTER_FILES),
        files(Fd("pipe.r"), -1, Fd("pipe.w")),
        files(-1),
        Write("pipe.w", b"abc"),
        run(read(1, fd=0, flags=FIXED)),
        run(write(2, fd=2, flags=FIXED)),
        refused(read(5, fd=1, flags=FIXED), read(5, fd=3, flags=FIXED)),
        Register(RegisterOp.UNREGISTER_FILES),
        Register(RegisterOp.UNREGISTER_FILES),
        refused(read(5, fd=0, flags=FIXED)),
    ),
    case(
        "files: refusals",
        "EINVAL, EBADF, EFAULT, EMFILE",
        Setup(),
        pipe(),
        files(nr=0),
        files(9999),
        files(Fd("pipe.r"), 9999),
        Register(RegisterOp.UNREGISTER_FILES, 0, 1),
        files(Fd("pipe.r")),
    ),
    case("files: a ring", "EBADF: not its own kind", Setup(), Setup("second"), files(Fd("second"))),
    case(
        "files: a write",
        "EBADF for an empty slot, and for none",
        Setup(),
        pipe(),
        files(-1, Fd("pipe.w")),
        run(write(1, fd=0, flags=FIXED), write(2, fd=1, flags=FIXED), write(3, fd=2, flags=FIXED)),
        look_again(),
        Read("pipe.r"),
    ),
    case("files: empty slots", "-1", Setup(), files(-1, -1), refused(read(5, fd=0, flags=FIXED))),
    case(
        "files: update",
        "slots are filled, emptied, left alone with -2",
        Setup(),
        pipe("one"),
        pipe("two"),
        update(0, -1),
        files(Fd("one.r"), -1),
        update(1, Fd("two.r")),
        Write("two.w", b"two"),
        run(read(1, fd=1, flags=FIXED)),
        update(0, -1, -2),
        refused(read(5, fd=0, flags=FIXED)),
        Write("two.w", b"two"),
        run(read(2, fd=1, flags=FIXED)),
        update(2, -1),
        update(1, -1, -1),
        update(0, 9999),
        update(0, Fd("one.r"), 9999),
        update(0, nr=0),
    ),
    case(
        "files: update by a ring",
        "FILES_UPDATE: the number of slots",
        Setup(),
        pipe(),
        run(sqe(Op.FILES_UPDATE, user_data=1, addr=Blob("i", (Fd("pipe.r"),)), len=1)),
        files(-1, -1, -1),
        run(sqe(Op.FILES_UPDATE, user_data=2, addr=Blob("ii", (Fd("pipe.r"), -1)), len=2, off=1)),
        run(sqe(Op.FILES_UPDATE, user_data=3, addr=Blob("ii", (Fd("pipe.r"), -1)), len=2, off=2)),
        Write("pipe.w", b"abc"),
        run(read(4, fd=1, flags=FIXED)),
        refused(
            sqe(Op.FILES_UPDATE, user_data=5, len=0),
            sqe(Op.FILES_UPDATE, user_data=5, len=1, flags=FIXED),
            sqe(Op.FILES_UPDATE, user_data=5, len=1, op_flags=1),
            sqe(Op.FILES_UPDATE, user_data=5, len=1, addr=Hole()),
        ),
    ),
    case(
        "files: update by a ring, any slot",
        "the slots are chosen, and told",
        Setup(),
        pipe(),
        files(-1, -1, -1),
        Put(data(1), "ii", (Fd("pipe.r"), Fd("pipe.w"))),
        Put(data(2), "i", (Fd("pipe.r"),)),
        run(sqe(Op.FILES_UPDATE, user_data=1, addr=data(1), len=2, off=ALLOC)),
        run(sqe(Op.FILES_UPDATE, user_data=2, addr=data(2), len=1, off=ALLOC)),
        Put(data(3), "i", (Fd("pipe.w"),)),
        run(sqe(Op.FILES_UPDATE, user_data=3, addr=data(3), len=1, off=ALLOC)),
        Look(data(1), 0, "ii"),
        Look(data(2), 0, "i"),
    ),
    case(
        "files: a slot is emptied under a request",
        "that keeps its file",
        Setup(),
        pipe(),
        files(Fd("pipe.r")),
        run(read(1, fd=0, flags=FIXED)),
        update(0, -1),
        Write("pipe.w", b"abc"),
        look_again(),
    ),
    case(
        "files: a file is closed",
        "a slot keeps it open",
        Setup(),
        pipe(),
        files(Fd("pipe.r")),
        Close("pipe.r"),
        Write("pipe.w", b"abc"),
        run(read(1, fd=0, flags=FIXED)),
        update(0, -1),
        Write("pipe.w", b"abc"),
    ),
    case(
        "files: unregistered under a request",
        "that keeps its file",
        Setup(),
        pipe(),
        files(Fd("pipe.r")),
        run(read(1, fd=0, flags=FIXED)),
        Register(RegisterOp.UNREGISTER_FILES),
        Write("pipe.w", b"abc"),
        look_again(),
    ),
    case(
        "files: cancel by slot",
        "FD_FIXED",
        Setup(),
        pipe(),
        files(Fd("pipe.r"), Fd("pipe.r")),
        run(read(1, fd=0, flags=FIXED)),
        run(cancel(9, 0, 2 | 8, fd=5)),
        run(cancel(9, 0, 2 | 8, fd=0)),
    ),
    case(
        "files: closing",
        "CLOSE of a slot; EBADF for an empty one; EINVAL for both kinds at once",
        Setup(),
        pipe(),
        files(Fd("pipe.r"), -1),
        refused(
            sqe(Op.CLOSE, user_data=5, file_index=2),
            sqe(Op.CLOSE, user_data=5, file_index=3),
            sqe(Op.CLOSE, user_data=5, file_index=1, fd=7),
            sqe(Op.CLOSE, user_data=5, fd=9999),
            sqe(Op.CLOSE, user_data=5, fd=9999, off=1),
            sqe(Op.CLOSE, user_data=5, fd=0, flags=FIXED),
        ),
        run(sqe(Op.CLOSE, user_data=6, file_index=1)),
        refused(read(5, fd=0, flags=FIXED)),
        refused(sqe(Op.CLOSE, user_data=5, fd=Fd("ring"))),
    ),
    case(
        "files: ranges",
        "for slots that are chosen",
        Setup(),
        pipe(),
        Register(RegisterOp.REGISTER_FILE_ALLOC_RANGE, Blob("IIQ", (0, 1, 0)), 0),
        files(-1, -1, -1, -1),
        Register(RegisterOp.REGISTER_FILE_ALLOC_RANGE, Blob("IIQ", (2, 2, 0)), 0),
        Register(RegisterOp.REGISTER_FILE_ALLOC_RANGE, Blob("IIQ", (2, 3, 0)), 0),
        Register(RegisterOp.REGISTER_FILE_ALLOC_RANGE, Blob("IIQ", (0xFFFFFFFF, 2, 0)), 0),
        Register(RegisterOp.REGISTER_FILE_ALLOC_RANGE, Blob("IIQ", (0, 1, 1)), 0),
        Register(RegisterOp.REGISTER_FILE_ALLOC_RANGE, Blob("IIQ", (2, 2, 0)), 1),
        PutBytes(data(1), b"\xff\xff\xff\xff"),
        run(sqe(Op.FILES_UPDATE, user_data=2, addr=Blob("i", (Fd("pipe.r"),)), len=1, off=ALLOC)),
        Write("pipe.w", b"abc"),
        run(read(3, fd=2, flags=FIXED)),
    ),
    case(
        "files: with tags",
        "a completion with the tag when a file goes",
        Setup(),
        pipe(),
        Register(
            RegisterOp.REGISTER_FILES2,
            Blob("IIQQQ", (2, 0, 0, Blob("ii", (Fd("pipe.r"), -1)), Blob("QQ", (77, 0)))),
            32,
        ),
        Register(
            RegisterOp.REGISTER_FILES_UPDATE2, Blob("IIQQII", (0, 0, Blob("i", (-1,)), Blob("Q", (0,)), 1, 0)), 32
        ),
        look_again(),
        Register(RegisterOp.UNREGISTER_FILES),
        look_again(),
    ),
    case(
        "files: sparse",
        "RSRC_REGISTER_SPARSE; with data EINVAL",
        Setup(),
        pipe(),
        Register(RegisterOp.REGISTER_FILES2, Blob("IIQQQ", (2, 1, 0, data(1), 0)), 32),
        Register(RegisterOp.REGISTER_FILES2, Blob("IIQQQ", (2, 1, 0, 0, 0)), 31),
        Register(RegisterOp.REGISTER_FILES2, Blob("IIQQQ", (2, 2, 0, 0, 0)), 32),
        Register(RegisterOp.REGISTER_FILES2, Blob("IIQQQ", (0, 1, 0, 0, 0)), 32),
        Register(RegisterOp.REGISTER_FILES2, Blob("IIQQQ", (2, 1, 1, 0, 0)), 32),
        Register(RegisterOp.REGISTER_FILES2, Blob("IIQQQ", (2, 1, 0, 0, 0)), 32),
        update(1, Fd("pipe.r")),
        Write("pipe.w", b"abc"),
        run(read(1, fd=1, flags=FIXED)),
    ),
)

_SPAN: Final = RegisterOp.REGISTER_FILE_ALLOC_RANGE

_MORE_FILES: Final = (
    case(
        "files: more refusals",
        "EFAULT for NULL, EBADF for the ring itself and for a slot that is not open for it",
        Setup(),
        pipe(),
        Register(RegisterOp.REGISTER_FILES, 0, 1),
        files(Fd("ring")),
        files(Fd("pipe.r"), -1, Fd("pipe.w")),
        [run(read(slot, fd=slot, flags=FIXED, len=0)) for slot in (0, 1, 2, 3)],
        run(read(4, fd=-1, flags=FIXED, len=0)),
    ),
    case(
        "files: update, refusals",
        "EINVAL beyond the end and for reserved words, EOVERFLOW around the end, EFAULT",
        Setup(),
        pipe(),
        files(-1, -1, -1),
        Register(RegisterOp.REGISTER_FILES_UPDATE, Blob("IIQ", (0, 1, Blob("ii", (-2, 9999)))), 2),
        update(0, -2, 9999),
        update(0, Fd("pipe.r"), nr=0),
        update(9, -2),
        update(0xFFFFFFFF, Fd("pipe.r"), Fd("pipe.r")),
        Register(RegisterOp.REGISTER_FILES_UPDATE, Blob("IIQ", (0, 0, 8)), 1),
    ),
    case(
        "files: tags, refusals",
        "EINVAL for a tag without a file, for reserved words and for no count",
        Setup(),
        pipe(),
        resources(RegisterOp.REGISTER_FILES2, 2, 0, Blob("ii", (Fd("pipe.r"), -1)), Blob("QQ", (70, 71))),
        resources(RegisterOp.REGISTER_FILES2, 2, 0, Blob("ii", (Fd("pipe.r"), -1)), 0, resv=1),
        resources(RegisterOp.REGISTER_FILES2, 2, 1, Blob("ii", (Fd("pipe.r"), -1)), 0),
        files(Fd("pipe.r"), Fd("pipe.w")),
        update_files(0, Blob("i", (-1,)), Blob("Q", (5,))),
        update_files(0, Blob("i", (-1,)), count=0),
        update_files(0, Blob("i", (-1,)), resv=1),
        update_files(0, Blob("i", (-1,))),
    ),
    case(
        "files: tags, under requests",
        "the tag of a file comes when its last request is over",
        Setup(),
        pipe("one"),
        pipe("two"),
        resources(RegisterOp.REGISTER_FILES2, 2, 0, Blob("ii", (Fd("one.r"), Fd("one.w"))), Blob("QQ", (70, 71))),
        run(read(1, fd=0, flags=FIXED, len=8), read(5, fd=0, flags=FIXED, len=8)),
        update_files(0, Blob("i", (Fd("two.r"),)), Blob("Q", (72,))),
        look_again(),
        Write("one.w", b"abcdefghabcdefgh"),
        Reap(order=False, why="one wake-up, two requests"),
        update_files(0, Blob("i", (-1,))),
        look_again(),
        Register(RegisterOp.UNREGISTER_FILES),
        look_again(),
        since=(6, 13),
    ),
    case(
        "files: no table",
        "ENXIO for who wants a slot, also one to be closed",
        Setup(),
        pipe(),
        run(update_slots(1, ALLOC, Fd("pipe.r"))),
        run(update_slots(1, 0, Fd("pipe.r"))),
        run(close(1, 1)),
    ),
    case(
        "files: update by a ring, any slot, one that is not open",
        "those before it have their slots",
        Setup(),
        pipe(),
        resources(RegisterOp.REGISTER_FILES2, 8, 1, 0, 0),
        Put(data(1), "3i", (Fd("pipe.r"), Fd("pipe.w"), 9999)),
        run(update_slots(1, ALLOC, -1, -1, -1, addr=data(1))),
        Look(data(1), 0, "2i"),
        run(read(2, fd=0, flags=FIXED, len=0), write(3, fd=1, flags=FIXED, len=0)),
    ),
    case(
        "files: a range that is full",
        "ENFILE for the rest; a slot of it that is closed is taken again",
        Setup(),
        pipe(),
        resources(RegisterOp.REGISTER_FILES2, 8, 1, 0, 0),
        [Register(_SPAN, Blob("IIQ", part), 0) for part in ((0, 9, 0), (4, 3, 0), (1, 1, 1), (9, 0, 0))],
        Register(_SPAN, Blob("IIQ", (0xFFFFFFFF, 2, 0)), 0),
        Register(_SPAN, Blob("IIQ", (0, 8, 0)), 1),
        Put(data(1), "4i", (Fd("pipe.r"), Fd("pipe.w"), Fd("pipe.r"), Fd("pipe.w"))),
        run(update_slots(1, ALLOC, -1, -1, -1, -1, addr=data(1))),
        Look(data(1), 0, "3i"),
        run(close(1, 6)),
        Put(data(2), "i", (Fd("pipe.r"),)),
        run(update_slots(1, ALLOC, -1, addr=data(2))),
        Look(data(2), 0, "i"),
        run(update_slots(1, ALLOC, Fd("pipe.r"))),
    ),
    case(
        "files: update by a ring, the end of the table",
        "EINVAL beyond it, EFAULT for numbers that cannot be read; -2 is counted",
        Setup(),
        pipe(),
        files(*(-1,) * 8),
        run(update_slots(1, 4, Fd("pipe.r"), Fd("pipe.w"))),
        run(update_slots(1, 7, Fd("pipe.r"), Fd("pipe.w"))),
        run(update_slots(1, 7, Fd("pipe.r"), addr=8)),
        run(update_slots(1, 7, -1, -2)),
        run(update_slots(1, 6, -1, -2)),
        refused(*(update_slots(5, 4, Fd("pipe.r"), **{field: 1}) for field in ("file_index", "ioprio"))),
    ),
    case(
        "files: closing, refusals",
        "EBADF for an empty slot and for a slot as the file; EINVAL for none that is there and for other fields",
        Setup(),
        pipe(),
        files(Fd("pipe.r"), *(-1,) * 7),
        run(close(1, 1)),
        run(close(1, 1)),
        run(close(1, 50)),
        run(close(1, 9)),
        refused(*(close(5, 1, **{field: 1}) for field in ("off", "addr", "len", "op_flags", "buf_group", "flags"))),
    ),
    case(
        "files: closing under a request",
        "that keeps its file",
        Setup(),
        pipe(),
        files(Fd("pipe.r")),
        run(read(3, fd=0, flags=FIXED)),
        run(close(4, 1)),
        Write("pipe.w", b"abcdefgh"),
        look_again(),
    ),
)

_UNREADABLE: Final = (
    case(
        "register: arguments that cannot be read",
        "EFAULT",
        Setup(),
        Register(RegisterOp.REGISTER_FILES, Hole(), 2),
        Register(RegisterOp.REGISTER_BUFFERS, Hole(), 1),
        Register(RegisterOp.REGISTER_EVENTFD, Hole(), 1),
        Register(RegisterOp.REGISTER_PBUF_RING, Hole(), 1),
        Register(RegisterOp.UNREGISTER_PBUF_RING, Hole(), 1),
        Register(RegisterOp.REGISTER_PROBE, Hole(), 1),
        needs=("register arguments",),
    ),
)

_BUFFERS: Final = (
    case(
        "buffers: registered",
        "once; EBUSY; ENXIO when they are gone",
        Setup(),
        Register(RegisterOp.UNREGISTER_BUFFERS),
        buffers((data(1), 4096), (data(2), 100)),
        buffers((data(1), 4096)),
        Register(RegisterOp.UNREGISTER_BUFFERS),
        Register(RegisterOp.UNREGISTER_BUFFERS),
    ),
    case(
        "buffers: refusals",
        "EINVAL, EFAULT",
        Setup(),
        buffers(nr=0),
        buffers((Hole(), 4096)),
        buffers((data(1), 0)),
        buffers((0, 0)),
        buffers((0, 0), nr=16385),
        Register(RegisterOp.UNREGISTER_BUFFERS, 0, 1),
    ),
    case(
        "buffers: too long",
        "EFAULT beyond a GiB; EOVERFLOW around the end",
        Setup(),
        buffers((data(1), (1 << 30) + 1)),
        buffers(((1 << 64) - 4096, 8192)),
        buffers((KERNEL, 4096)),
    ),
    case(
        "buffers: an empty one",
        "EFAULT for who uses it",
        Setup(),
        pipe(),
        buffers((data(1), 64), (0, 0)),
        refused(fixed(Op.READ_FIXED, 5, "pipe.r", 1, 0, 8)),
    ),
    case(
        "buffers: read and write",
        "within the buffer; EFAULT outside, and for others",
        Setup(),
        pipe(),
        buffers((data(1), 64), (data(2), 64)),
        PutBytes(data(1), b"abcdefgh"),
        run(fixed(Op.WRITE_FIXED, 1, "pipe.w", 0, data(1), 8)),
        run(fixed(Op.READ_FIXED, 2, "pipe.r", 1, data(2) + 16, 48)),
        Look(data(2), 32),
        refused(fixed(Op.WRITE_FIXED, 5, "pipe.w", 0, data(1) + 60, 8)),
        refused(fixed(Op.WRITE_FIXED, 5, "pipe.w", 0, data(2), 8)),
        refused(fixed(Op.WRITE_FIXED, 5, "pipe.w", 2, data(1), 8)),
        refused(fixed(Op.WRITE_FIXED, 5, "pipe.w", 0, data(1), 65)),
    ),
    case("buffers: none", "EFAULT", Setup(), pipe(), refused(fixed(Op.READ_FIXED, 5, "pipe.r", 0, data(1), 8))),
    case(
        "buffers: a read that waits",
        "keeps its buffer",
        Setup(),
        pipe(),
        buffers((data(1), 64)),
        run(fixed(Op.READ_FIXED, 1, "pipe.r", 0, data(1), 8)),
        Register(RegisterOp.UNREGISTER_BUFFERS),
        Write("pipe.w", b"abc"),
        look_again(),
        Look(data(1), 4),
    ),
    case(
        "buffers: with tags",
        "a completion with the tag when a buffer goes",
        Setup(),
        Register(
            RegisterOp.REGISTER_BUFFERS2,
            Blob("IIQQQ", (2, 0, 0, Blob("4Q", (data(1), 64, data(2), 64)), Blob("QQ", (77, 78)))),
            32,
        ),
        Register(
            RegisterOp.REGISTER_BUFFERS_UPDATE,
            Blob("IIQQII", (0, 0, Blob("QQ", (data(3), 64)), Blob("Q", (79,)), 1, 0)),
            32,
        ),
        look_again(),
        Register(RegisterOp.UNREGISTER_BUFFERS),
        look_again(),
    ),
    case(
        "buffers: cloned",
        "from another ring; EBUSY, EINVAL, ENXIO",
        Setup(),
        Setup("second"),
        pipe(),
        Register(RegisterOp.REGISTER_CLONE_BUFFERS, Blob("8I", (Fd("second"), *(0,) * 7)), 1),
        Register(RegisterOp.REGISTER_BUFFERS, Blob("QQ", (data(1), 64)), 1, "second"),
        Register(RegisterOp.REGISTER_CLONE_BUFFERS, Blob("8I", (Fd("second"), *(0,) * 7)), 1),
        PutBytes(data(1), b"abcdefgh"),
        run(fixed(Op.WRITE_FIXED, 1, "pipe.w", 0, data(1), 8)),
        Register(RegisterOp.REGISTER_CLONE_BUFFERS, Blob("8I", (Fd("second"), *(0,) * 7)), 1),
        Register(RegisterOp.REGISTER_CLONE_BUFFERS, Blob("8I", (Fd("pipe.r"), *(0,) * 7)), 1),
        Register(RegisterOp.REGISTER_CLONE_BUFFERS, Blob("8I", (9999, *(0,) * 7)), 1),
        Register(RegisterOp.REGISTER_CLONE_BUFFERS, Blob("8I", (Fd("second"), 64, *(0,) * 6)), 1),
        Register(RegisterOp.REGISTER_CLONE_BUFFERS, Blob("8I", (Fd("second"), *(0,) * 7)), 2),
        since=(6, 13),
    ),
)

_TWO_BUFFERS = Blob("4Q", (data(1), 8, data(1), 16))
_TWO_TAGS = Blob("QQ", (71, 72))

_MORE_BUFFERS: Final = (
    case(
        "buffers: more refusals",
        "EFAULT for NULL, and for a NULL buffer with a length",
        Setup(),
        Register(RegisterOp.REGISTER_BUFFERS, 0, 1),
        buffers((0, 8)),
        buffers((8, 4096)),
        buffers((data(0), 4096), nr=16385),
    ),
    case(
        "buffers: the bounds",
        "EFAULT before a buffer; no bytes at its end are 0",
        Setup(),
        pipe(),
        buffers((data(1), 4096), (0, 0)),
        [
            (run(fixed(Op.WRITE_FIXED, 1, "pipe.w", index, address, length), nop(2)), look_again())
            for address, length, index in (
                (data(1), 8, 0),
                (data(2) + -4, 8, 0),
                (data(2), 0, 0),
                (data(1) + -1, 4, 0),
                (data(1), 4, 1),
                (data(1), 4, 2),
            )
        ],
        since=(6, 15),
    ),
    case(
        "buffers: what is looked at first",
        "the file, then the buffer, then the flags and what the file is open for",
        Setup(),
        pipe(),
        buffers((data(1), 4096)),
        run(fixed(Op.READ_FIXED, 1, "pipe.r", 9, data(1), 4, fd=-1), nop(2)),
        run(
            fixed(Op.READ_FIXED, 1, "pipe.w", 9, data(1), 4),
            fixed(Op.READ_FIXED, 2, "pipe.r", 9, data(1), 4, op_flags=0x4000),
        ),
        look_again(),
        since=(6, 15),
    ),
    case(
        "buffers: in a chain, and replaced meanwhile",
        "who waits keeps what it had, and a short read cancels the rest; others have the new one",
        Setup(),
        pipe(),
        buffers((data(1), 4096)),
        run(fixed(Op.READ_FIXED, 1, "pipe.r", 0, data(1), 8, flags=LINK), nop(2)),
        update_buffers(0, Blob("QQ", (data(2), 100)), Blob("Q", (9,))),
        Write("pipe.w", b"abcd"),
        look_again(),
        Look(data(1), 4),
        run(fixed(Op.READ_FIXED, 1, "pipe.r", 0, data(1), 4)),
        look_again(),
        since=(6, 15),
    ),
    case(
        "buffers: update, refusals",
        "EINVAL for a tag without a buffer, beyond the end, sizes and reserved words; EOVERFLOW; EFAULT",
        Setup(),
        buffers((data(1), 64), (0, 0)),
        update_buffers(0, Blob("QQ", (data(2), 100)), Blob("Q", (9,))),
        update_buffers(1, Blob("QQ", (0, 0)), Blob("Q", (10,))),
        update_buffers(0, Blob("QQ", (0, 0))),
        look_again(),
        update_buffers(2, Blob("QQ", (0, 0))),
        update_buffers(0, 8),
        update_buffers(0, Blob("QQ", (0, 0)), resv=1),
        update_buffers(0, Blob("QQ", (0, 0)), count=0),
        update_buffers(0, Blob("QQ", (0, 0)), size=16),
        update_buffers(0xFFFFFFFF, Blob("QQ", (0, 0)), count=2),
        since=(6, 15),
    ),
    case(
        "buffers: tags, refusals",
        "EINVAL for sizes, counts, flags and reserved words; EFAULT; the tags come when the buffers go",
        Setup(),
        [
            resources(RegisterOp.REGISTER_BUFFERS2, count, flags, _TWO_BUFFERS, tags, resv, size)
            for count, flags, tags, resv, size in (
                (2, 0, _TWO_TAGS, 0, 16),
                (0, 0, _TWO_TAGS, 0, 32),
                (2, 2, _TWO_TAGS, 0, 32),
                (2, 1, _TWO_TAGS, 0, 32),
                (2, 0, _TWO_TAGS, 1, 32),
                (2, 0, 8, 0, 32),
                (2, 0, _TWO_TAGS, 0, 32),
            )
        ],
        Register(RegisterOp.UNREGISTER_BUFFERS),
        look_again(),
        since=(6, 15),
    ),
    case(
        "buffers: sparse",
        "EFAULT for who uses one that is not there yet",
        Setup(),
        pipe(),
        resources(RegisterOp.REGISTER_BUFFERS2, 3, 1, 0, 0),
        run(fixed(Op.WRITE_FIXED, 1, "pipe.w", 0, data(1), 8)),
        look_again(),
        since=(6, 15),
    ),
    case(
        "buffers: vectors, none",
        "EFAULT",
        Setup(),
        pipe(),
        run(fixed_vector(Op.WRITEV_FIXED, 1, "pipe.w", (data(1), 3), (data(1) + 4, 5))),
        look_again(),
        since=(6, 15),
    ),
    case(
        "buffers: vectors",
        "within one buffer; a part of it that is elsewhere, too long, or of no bytes is not",
        Setup(),
        pipe(),
        buffers((data(1), 4096)),
        PutBytes(data(1), b"abcdefghij"),
        run(
            fixed_vector(Op.WRITEV_FIXED, 1, "pipe.w", (data(1), 3), (data(1) + 4, 5)),
            fixed_vector(Op.READV_FIXED, 2, "pipe.r", (data(1) + 64, 2), (data(1) + 80, 6)),
        ),
        look_again(),
        Look(data(1) + 64, 22),
        [
            (run(fixed_vector(Op.WRITEV_FIXED, 1, "pipe.w", (data(1), 3), second)), look_again())
            for second in ((data(0), 5), (data(1), 0), (data(1), 4097))
        ],
        since=(6, 15),
    ),
    case(
        "buffers: vectors, what is looked at first",
        "what is no buffer, and a file that is not there, are errors of one; a vector in a hole ends the batch",
        Setup(),
        pipe(),
        buffers((data(1), 4096)),
        refused(
            fixed_vector(Op.WRITEV_FIXED, 5, "pipe.w", (data(1), 3), buf_group=1),
            fixed_vector(Op.READV_FIXED, 5, "pipe.r", (data(1), 3), buf_group=1, fd=-1),
            fixed_vector(Op.READV_FIXED, 5, "pipe.r", (data(1), 3), addr=8),
        ),
        since=(6, 15),
    ),
    case(
        "buffers: vectors in a chain",
        "one that waits is read when data come",
        Setup(),
        pipe(),
        buffers((data(1), 4096)),
        run(fixed_vector(Op.READV_FIXED, 1, "pipe.r", (data(1), 3), (data(1) + 4, 5), flags=LINK), nop(2)),
        Write("pipe.w", b"12345678"),
        look_again(),
        Look(data(1), 10),
        since=(6, 15),
    ),
)

_RESTRICTIONS: Final = (
    case(
        "restrictions: operations",
        "EACCES for the others; it does not end what is behind it with SUBMIT_ALL only",
        Setup(flags=DISABLED),
        restrict((1, 0)),
        restrict((1, 0)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        run(nop(1)),
        refused(poll(5, fd=-1), sqe(255, user_data=5)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
    ),
    case(
        "restrictions: flags",
        "that are allowed, and that must be",
        Setup(flags=DISABLED),
        restrict((1, 0), (2, DRAIN | LINK), (3, DRAIN)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        refused(nop(1), nop(3, flags=DRAIN | SKIP)),
        submit(nop(2, flags=DRAIN)),
        Wait(1),
        Reap(),
    ),
    case(
        "restrictions: register calls",
        "EACCES for the others",
        Setup(flags=DISABLED),
        restrict((0, int(RegisterOp.REGISTER_ENABLE_RINGS)), (0, int(RegisterOp.REGISTER_FILES)), (1, 0)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        files(-1),
        Register(RegisterOp.UNREGISTER_FILES),
        Register(RegisterOp.REGISTER_PERSONALITY),
        run(nop(1)),
    ),
    case("restrictions: a ring that is not disabled", "EBADFD", Setup(), restrict((1, 0))),
    case(
        "restrictions: refusals",
        "EINVAL",
        Setup(flags=DISABLED),
        restrict((4, 0)),
        restrict((0, 200)),
        restrict((1, 200)),
        Register(RegisterOp.REGISTER_RESTRICTIONS, 0, 1),
        Register(RegisterOp.REGISTER_RESTRICTIONS, Blob("HBB3I", (1, 0, 0, 0, 0, 0)), 0),
        restrict((1, 0)),
    ),
    case(
        "disabled: register calls",
        "are allowed; submitting is not",
        Setup(flags=DISABLED),
        files(-1),
        enter(0, 0, GETEVENTS),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        run(nop(1)),
    ),
    case(
        "restrictions: when they count",
        "not before the ring is enabled; then also for enabling, and before the argument is looked at",
        Setup(flags=DISABLED),
        restrict((1, 0), (0, int(RegisterOp.REGISTER_EVENTFD))),
        Register(RegisterOp.REGISTER_ENABLE_RINGS, 0, 1),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        Register(RegisterOp.REGISTER_EVENTFD, 0, 1),
        Register(RegisterOp.UNREGISTER_EVENTFD),
    ),
    case(
        "restrictions: in a batch",
        "EACCES ends it; flags that are allowed work, unknown ones and operations are EINVAL all the same",
        Setup(flags=DISABLED),
        pipe(),
        restrict((1, int(Op.NOP)), (1, int(Op.READ)), (2, LINK | SKIP), (3, 0)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        refused(write(5), nop(5, flags=ASYNC), nop(5, flags=0x80), nop(5, ioprio=1)),
        run(nop(2, flags=LINK), nop(3, flags=SKIP), sqe(255, user_data=4)),
        run(nop(6, flags=LINK), write(7), nop(8)),
        look_again(),
    ),
    case(
        "restrictions: flags that must be",
        "are allowed by that; others are not",
        Setup(flags=DISABLED),
        restrict((1, 0), (3, ASYNC)),
        Register(RegisterOp.REGISTER_ENABLE_RINGS),
        refused(nop(5)),
        submit(nop(1, flags=ASYNC)),
        Wait(1),
        Reap(),
        run(nop(2, flags=ASYNC | LINK)),
        needs=("workers",),
    ),
)

_SIZES = [Word(name) for name in ("sq_mask", "sq_entries", "cq_mask", "cq_entries")]


def _resized(flags: int) -> tuple[Steps, ...]:
    words = ("sq_head", "sq_tail", "cq_head", "cq_tail", "sq_dropped", "sq_flags")
    return (
        Setup(entries=8, flags=flags),
        [nop(n) for n in range(6)],
        enter(4, 0, GETEVENTS),
        [(resize(*how), _SIZES) for how in ((0,), (8, 4, CQSIZE), (8, 0, CQSIZE), (70000,), (8, 0, 1), (8, 0, CLAMP))],
        [Word(name) for name in words],
        Reap(),
        [nop(10 + n) for n in range(5)],
        [(resize(*how), _SIZES) for how in ((4,), (16,), (16, 2, CQSIZE), (70000, 0, CLAMP))],
    )


_RESIZE: Final = (
    case(
        "resize: refusals",
        "EINVAL without DEFER_TASKRUN, for flags and sizes",
        Setup(),
        resize(16),
        Setup(flags=DEFER),
        resize(0),
        resize(16, 0, 1),
        resize(32769),
        resize(16, 4, CQSIZE),
        Register(RegisterOp.REGISTER_RESIZE_RINGS, Blob("30I", (16, *(0,) * 29)), 0),
        since=(6, 13),
    ),
    case(
        "resize: larger",
        "what is there stays",
        Setup(entries=4, flags=DEFER),
        run(nop(1)),
        submit(nop(2), nop(3), flags=GETEVENTS),
        resize(16),
        Params(),
        Reap(),
        [run(*(nop(n) for n in range(12)))] * 2,
        since=(6, 18),
    ),
    case(
        "resize: smaller",
        "EOVERFLOW when it does not fit",
        Setup(entries=8, flags=DEFER),
        submit(*(nop(n) for n in range(8)), flags=GETEVENTS),
        resize(2),
        Reap(4),
        resize(2),
        Params(),
        Reap(),
        run(nop(1), nop(2)),
        since=(6, 18),
    ),
    case(
        "resize: unsubmitted SQEs",
        "come along",
        Setup(entries=4, flags=DEFER),
        nop(1),
        nop(2),
        resize(8),
        Word("sq_tail"),
        enter(2, 0, GETEVENTS),
        Reap(),
        since=(6, 13),
    ),
    case(
        "resize: CQ only",
        "with CQSIZE",
        Setup(entries=4, flags=DEFER),
        resize(4, 64, CQSIZE),
        Params(),
        [run(*(nop(n) for n in range(4)))] * 20,
        since=(6, 18),
    ),
    case(
        "resize: in turn",
        "EOVERFLOW for what does not hold the SQEs that are there, CLAMP; counts go on, and what was there stays",
        [_resized(flags) for flags in (DEFER, DEFER | CQE32)],
        since=(6, 13),
    ),
)

CASES: Final = (*_FILES, *_MORE_FILES, *_UNREADABLE, *_BUFFERS, *_MORE_BUFFERS, *_RESTRICTIONS, *_RESIZE)
