"""The entries of a ring: SQEs and CQEs, as values.

Source: linux/io_uring.h, ``struct io_uring_sqe`` and ``struct io_uring_cqe``, Linux 6.12 and 7.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf.abi import CQE_BUFFER_SHIFT, CqeFlags, Op, PollFlags, SqeFlags
from uring_iopf.errors import UsageError, check_fits, check_signed, whole

if TYPE_CHECKING:
    from typing import Self

_SQE: Final = struct.Struct("<BBHiQQIIQHHIQQ")
SQE_BYTES: Final = _SQE.size
WIDE_SQE_BYTES: Final = 128
"""With SQE128."""
_U32: Final = 2**32 - 1
_U64: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Sqe:
    """A submission queue entry. Fields that are not given are 0.

    Numbers in fields of 32 and 64 bits are cut to their field, so that -1 is all ones. The class methods make the
    requests that clients of a fault queue use most; each accepts further *fields* by name.
    """

    opcode: int = 0
    """`Op`, 8 bits."""
    flags: int = 0
    """`SqeFlags`, 8 bits."""
    ioprio: int = 0
    """Flags of the operation, for accept, receive and send, 16 bits."""
    fd: int = 0
    """A descriptor of the core (`FaultQueue.fd`, `Core.install_host_file`), or, with FIXED_FILE, the index of a
    registered file."""
    off: int = 0
    """An offset or another argument of the operation, 64 bits."""
    addr: int = 0
    """A client's address, in a `Window`, or the ``user_data`` of a target, 64 bits."""
    len: int = 0
    """A length in bytes, or a count, 32 bits."""
    op_flags: int = 0
    """Flags of the operation, 32 bits: ``rw_flags``, ``poll32_events``, ``timeout_flags`` and others."""
    user_data: int = 0
    """A number that the CQE returns, 64 bits."""
    buf_group: int = 0
    """The group of provided buffers, with BUFFER_SELECT, 16 bits; also ``buf_index``."""
    personality: int = 0
    """A registered personality, 16 bits."""
    file_index: int = 0
    """``file_index`` or ``splice_fd_in``, 32 bits."""
    addr3: int = 0
    """A third address, 64 bits."""
    pad2: int = 0
    """``__pad2``, which must be 0."""

    def pack(self) -> bytes:
        """Return the 64 bytes of the entry. Raises: UsageError, a field is out of range; the message names it."""
        try:
            return _SQE.pack(
                self.opcode,
                self.flags,
                self.ioprio,
                self.fd,
                self.off & _U64,
                self.addr & _U64,
                self.len & _U32,
                self.op_flags & _U32,
                self.user_data & _U64,
                self.buf_group,
                self.personality,
                self.file_index & _U32,
                self.addr3 & _U64,
                self.pad2 & _U64,
            )
        except (struct.error, TypeError) as error:
            self._check_fields()
            raise UsageError(f"the fields of an SQE must be whole numbers: {error}") from error

    def _check_fields(self) -> None:
        """Raises: UsageError, which names the field."""
        check_fits(8, opcode=self.opcode, flags=self.flags)
        check_fits(16, ioprio=self.ioprio, buf_group=self.buf_group, personality=self.personality)
        check_signed(32, fd=self.fd)
        for name in ("off", "addr", "len", "op_flags", "user_data", "file_index", "addr3", "pad2"):
            whole(name, getattr(self, name))

    @classmethod
    def nop(cls, user_data: int, **fields: int) -> Self:
        """Make a request that does nothing. It completes with 0."""
        return cls(Op.NOP, user_data=user_data, **fields)

    @classmethod
    def read(cls, user_data: int, fd: int, addr: int, length: int, **fields: int) -> Self:
        """Read at most *length* bytes to *addr*. It completes with the number of bytes, or -errno."""
        return cls(Op.READ, user_data=user_data, fd=fd, addr=addr, len=length, **fields)

    @classmethod
    def read_multishot(cls, user_data: int, fd: int, group: int, **fields: int) -> Self:
        """Read again and again into provided buffers of *group*. Each read has a CQE, with F_MORE except the last.

        A fault queue accepts it only with `Personality.PROPOSED`, or with O_NONBLOCK after a linked POLL_ADD.
        """
        flags = fields.pop("flags", 0) | SqeFlags.BUFFER_SELECT
        return cls(Op.READ_MULTISHOT, flags, user_data=user_data, fd=fd, buf_group=group, **fields)

    @classmethod
    def write(cls, user_data: int, fd: int, addr: int, length: int, **fields: int) -> Self:
        """Write *length* bytes from *addr*. It completes with the number of bytes written, or -errno."""
        return cls(Op.WRITE, user_data=user_data, fd=fd, addr=addr, len=length, **fields)

    @classmethod
    def poll_add(cls, user_data: int, fd: int, events: int, *, multishot: bool = False, **fields: int) -> Self:
        """Poll for *events* (``select.POLLIN`` and others). It completes with the events that hold, when one holds."""
        mode = PollFlags.ADD_MULTI if multishot else 0
        return cls(Op.POLL_ADD, user_data=user_data, fd=fd, op_flags=events, len=mode, **fields)

    @classmethod
    def async_cancel(cls, user_data: int, target: int = 0, cancel_flags: int = 0, **fields: int) -> Self:
        """Cancel the request with ``user_data`` *target*, or the requests of *cancel_flags* (`AsyncCancelFlags`)."""
        return cls(Op.ASYNC_CANCEL, user_data=user_data, addr=target, op_flags=cancel_flags, **fields)

    @classmethod
    def timeout(cls, user_data: int, addr: int, count: int = 0, timeout_flags: int = 0, **fields: int) -> Self:
        """Wait for a time-out: -ETIME after the time at *addr* (``struct __kernel_timespec``, 16 bytes).

        If *count* is not 0, it completes with 0 after *count* other CQEs. *timeout_flags*: `TimeoutFlags`.
        """
        return cls(Op.TIMEOUT, user_data=user_data, addr=addr, len=1, off=count, op_flags=timeout_flags, **fields)


@dataclass(frozen=True, slots=True)
class WideSqe(Sqe):
    """A submission queue entry of 128 bytes, for rings with SQE128."""

    cmd: bytes = b""
    """The data after the first 64 bytes, 64 bytes at most."""

    def pack(self) -> bytes:
        """Return the 128 bytes of the entry. Raises: UsageError, a field is out of range, or *cmd* is too long."""
        if len(self.cmd) > WIDE_SQE_BYTES - SQE_BYTES:
            raise UsageError(f"cmd must have {WIDE_SQE_BYTES - SQE_BYTES} bytes at most, not {len(self.cmd)}")
        return (Sqe.pack(self) + self.cmd).ljust(WIDE_SQE_BYTES, b"\0")


class Cqe(NamedTuple):
    """A completion queue entry."""

    user_data: int
    """The ``user_data`` of the request."""
    res: int
    """The result of the request: a count, or -errno."""
    flags: int
    """`CqeFlags`, and the id of a provided buffer in the upper 16 bits."""
    big_cqe: tuple[int, int] | None = None
    """The last two words of a CQE of 32 bytes (CQE32, or F_32 in a CQE_MIXED ring)."""

    @property
    def more(self) -> bool:
        """Whether the request goes on, so that another CQE follows."""
        return bool(self.flags & CqeFlags.F_MORE)

    @property
    def buffer_id(self) -> int | None:
        """The provided buffer that holds the data, or None."""
        return self.flags >> CQE_BUFFER_SHIFT if self.flags & CqeFlags.F_BUFFER else None
