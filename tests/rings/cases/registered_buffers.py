"""Registered buffers: the table, tags, reading and writing through it."""

from __future__ import annotations

from typing import Final

from tests.rings.language import (
    KERNEL,
    Blob,
    Fd,
    Hole,
    Look,
    Operand,
    PutBytes,
    Register,
    Setup,
    Sqe,
    Write,
    case,
    data,
    look_again,
    nop,
    pipe,
    refused,
    request,
    resources,
    run,
)
from uring_iopf.abi import Op, RegisterOp, SqeFlags

LINK = int(SqeFlags.IO_LINK)


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


def fixed_vector(op: int, user_data: int, file: str, *parts: tuple[Operand, int], **fields: Operand) -> Sqe:
    words = tuple(word for part in parts for word in part)
    base: dict[str, Operand] = {"fd": Fd(file), "addr": Blob(f"{len(words)}Q", words), "len": len(parts)}
    return request(op, {**base, "user_data": user_data, **fields})


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
        "buffers: vectors with a part outside of user space",
        "EFAULT of one, when it starts: behind the file that is not there, and no end of a batch or of a chain",
        Setup(),
        pipe(),
        buffers((data(1), 4096)),
        refused(
            *(fixed_vector(op, 5, "pipe.r", (data(1), 3), (KERNEL, 5)) for op in (Op.READV_FIXED, Op.WRITEV_FIXED)),
            fixed_vector(Op.READV_FIXED, 5, "pipe.r", (KERNEL, 5), fd=-1),
        ),
        run(nop(1, flags=LINK), fixed_vector(Op.READV_FIXED, 2, "pipe.r", (KERNEL, 5))),
        look_again(),
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

# ---- clones of another ring's ----


def clone(
    source: Operand, flags: int = 0, src_off: int = 0, dst_off: int = 0, nr: int = 0, pad: int = 0, ring: str = "ring"
) -> Register:
    """struct io_uring_clone_buffers."""
    words = (source, flags, src_off, dst_off, nr, pad, 0, 0)
    return Register(RegisterOp.REGISTER_CLONE_BUFFERS, Blob("8I", words), 1, ring)


def tagged(ring: str, *tags: int) -> Register:
    """As many buffers, each with a tag."""
    parts = Blob(f"{2 * len(tags)}Q", tuple(word for n in range(len(tags)) for word in (data(n + 1), 64)))
    words = (len(tags), 0, 0, parts, Blob(f"{len(tags)}Q", tags))
    return Register(RegisterOp.REGISTER_BUFFERS2, Blob("IIQQQ", words), 32, ring)


REGISTERED, REPLACE = 1, 2
SECOND: Final = Fd("second")
_CLONES: Final = (
    case(
        "clones: tags",
        "the source's come to the source when it gives its buffers up; copies have none, and outlive them",
        Setup(),
        Setup("second"),
        pipe(),
        tagged("second", 55, 56),
        clone(SECOND),
        Register(RegisterOp.UNREGISTER_BUFFERS, ring="second"),
        look_again(),
        look_again("second"),
        run(fixed(Op.WRITE_FIXED, 1, "pipe.w", 1, data(2), 8)),
        Register(RegisterOp.UNREGISTER_BUFFERS),
        look_again(),
        look_again("second"),
        since=(6, 13),
    ),
    case(
        "clones: what they replace",
        "the tags of what goes come to this ring, those of what stays wait",
        Setup(),
        Setup("second"),
        tagged("ring", 71, 72, 73, 74),
        tagged("second", 81, 82),
        clone(SECOND, REPLACE, 1, 2, 1),
        look_again(),
        clone(SECOND, REPLACE, 0, 4, 2),
        look_again(),
        Register(RegisterOp.UNREGISTER_BUFFERS),
        look_again(),
        look_again("second"),
        since=(6, 13),
    ),
    case(
        "clones: of the ring's own",
        "with REPLACE into other places, without their tags; EBUSY without it",
        Setup(),
        tagged("ring", 71, 72, 73),
        clone(Fd("ring")),
        clone(Fd("ring"), REPLACE, 0, 1, 2),
        look_again(),
        clone(Fd("ring"), REPLACE, 0, 6, 1),
        look_again(),
        Register(RegisterOp.UNREGISTER_BUFFERS),
        look_again(),
        since=(6, 15),
    ),
    case(
        "clones: from a ring by its registered number",
        "as by its descriptor; EBADF, EINVAL for numbers without a ring",
        Setup(),
        Setup("second"),
        tagged("second", 0),
        Register(RegisterOp.REGISTER_RING_FDS, Blob("IIQ", (3, 0, SECOND)), 1),
        clone(4, REGISTERED),
        clone(16, REGISTERED),
        clone(3, REGISTERED),
        clone(3, REGISTERED),
        clone(3, REGISTERED | REPLACE),
        Register(RegisterOp.UNREGISTER_RING_FDS, Blob("IIQ", (3, 0, 0)), 1),
        clone(3, REGISTERED | REPLACE),
        Register(RegisterOp.UNREGISTER_BUFFERS),
        since=(6, 13),
    ),
    case(
        "clones: places and numbers",
        "EINVAL for a place without a number, for more than there are and beyond the most; EOVERFLOW",
        Setup(),
        Setup("second"),
        clone(SECOND, nr=1),
        tagged("second", 0, 0, 0),
        [
            (clone(SECOND, 0, src_off, dst_off, nr), Register(RegisterOp.UNREGISTER_BUFFERS))
            for src_off, dst_off, nr in (
                (1, 0, 0),
                (0, 1, 0),
                (4, 0, 0),
                (1, 0, 2),
                (1, 0, 3),
                (0, 0, 4),
                (3, 0, 1),
                (0xFFFFFFFF, 0, 1),
                (0xFFFFFFFF, 0, 2),
                (0, 0xFFFFFFFF, 1),
                (0, 0xFFFFFFFF, 2),
                (0, 16383, 1),
                (0, 16383, 2),
                (0, 16384, 1),
                (0, 2, 3),
            )
        ],
        since=(6, 15),
    ),
    case(
        "clones: what is looked at first",
        "flags, buffers that are there, reserved words, the source, places, and what the source has",
        Setup(),
        Setup("second"),
        pipe(),
        clone(9999, 64, 1),
        clone(9999, 0, 1, pad=1),
        clone(9999, 0, 1),
        clone(Fd("pipe.r"), 0, 1),
        clone(SECOND, 0, 1),
        clone(SECOND),
        tagged("ring", 0),
        clone(9999, 64, 1, pad=1),
        clone(9999, 0, 1, pad=1),
        clone(9999, REPLACE, 1, pad=1),
        clone(9999, REPLACE, 1),
        clone(SECOND, REPLACE, 1),
        clone(SECOND, REPLACE),
        since=(6, 15),
    ),
)

CASES: Final = (*_BUFFERS, *_MORE_BUFFERS, *_CLONES)
