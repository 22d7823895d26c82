"""What goes into a ring and what comes out of it: SQEs and CQEs, as values.

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
    """A submission queue entry, by its fields; those that are not given are 0.

    Numbers are cut to their field, so that -1 is all ones. The class methods make the requests that a client of a fault
    queue has most use for; each takes further *fields* by name.
    """

    opcode: int = 0
    """`Op`."""
    flags: int = 0
    """`SqeFlags`."""
    ioprio: int = 0
    """For accept, receive and send: flags of the operation."""
    fd: int = 0
    """A descriptor of the core (`FaultQueue.fd`, `Core.install_host_file`), or a registered file's place with
    FIXED_FILE."""
    off: int = 0
    addr: int = 0
    """A client's address, in a `Window`; or the ``user_data`` of a target."""
    len: int = 0
    """Bytes, or a count."""
    op_flags: int = 0
    """The operation's flags: ``rw_flags``, ``poll32_events``, ``timeout_flags`` and others share this place."""
    user_data: int = 0
    """Comes back in the CQE, of 64 bits."""
    buf_group: int = 0
    """Of provided buffers, with BUFFER_SELECT; ``buf_index`` shares this place."""
    personality: int = 0
    file_index: int = 0
    addr3: int = 0
    pad2: int = 0
    """``__pad2``: must be 0."""

    def pack(self) -> bytes:
        """Its 64 bytes. Raises: UsageError, a field does not fit."""
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
        """Does nothing; completes with 0."""
        return cls(Op.NOP, user_data=user_data, **fields)

    @classmethod
    def read(cls, user_data: int, fd: int, addr: int, length: int, **fields: int) -> Self:
        """Read at most *length* bytes to *addr*; completes with how many, or -errno."""
        return cls(Op.READ, user_data=user_data, fd=fd, addr=addr, len=length, **fields)

    @classmethod
    def read_multishot(cls, user_data: int, fd: int, group: int, **fields: int) -> Self:
        """Read again and again into provided buffers of *group*: a CQE per read, with F_MORE until the last.

        A fault queue takes it only with `Personality.PROPOSED`, or with O_NONBLOCK behind a linked POLL_ADD.
        """
        flags = fields.pop("flags", 0) | SqeFlags.BUFFER_SELECT
        return cls(Op.READ_MULTISHOT, flags, user_data=user_data, fd=fd, buf_group=group, **fields)

    @classmethod
    def write(cls, user_data: int, fd: int, addr: int, length: int, **fields: int) -> Self:
        """Write *length* bytes from *addr*; completes with how many were taken, or -errno."""
        return cls(Op.WRITE, user_data=user_data, fd=fd, addr=addr, len=length, **fields)

    @classmethod
    def poll_add(cls, user_data: int, fd: int, events: int, *, multishot: bool = False, **fields: int) -> Self:
        """Completes with the events, of *events* (``select.POLLIN`` and others), that hold; at once if some do."""
        mode = PollFlags.ADD_MULTI if multishot else 0
        return cls(Op.POLL_ADD, user_data=user_data, fd=fd, op_flags=events, len=mode, **fields)

    @classmethod
    def async_cancel(cls, user_data: int, target: int = 0, cancel_flags: int = 0, **fields: int) -> Self:
        """Cancel the request with ``user_data`` *target*, or those that *cancel_flags* (`AsyncCancelFlags`) name."""
        return cls(Op.ASYNC_CANCEL, user_data=user_data, addr=target, op_flags=cancel_flags, **fields)

    @classmethod
    def timeout(cls, user_data: int, addr: int, count: int = 0, timeout_flags: int = 0, **fields: int) -> Self:
        """Completes with -ETIME after the time at *addr* (``struct __kernel_timespec``, 16 bytes).

        Or with 0 once *count* other CQEs have come, if *count* is not 0. *timeout_flags*: `TimeoutFlags`.
        """
        return cls(Op.TIMEOUT, user_data=user_data, addr=addr, len=1, off=count, op_flags=timeout_flags, **fields)


@dataclass(frozen=True, slots=True)
class WideSqe(Sqe):
    """A submission queue entry of 128 bytes, for rings with SQE128."""

    cmd: bytes = b""
    """What follows the first 64 bytes, at most 64 more."""

    def pack(self) -> bytes:
        """Its 128 bytes. Raises: UsageError, a field does not fit."""
        if len(self.cmd) > WIDE_SQE_BYTES - SQE_BYTES:
            raise UsageError(f"cmd must have {WIDE_SQE_BYTES - SQE_BYTES} bytes at most, not {len(self.cmd)}")
        return (Sqe.pack(self) + self.cmd).ljust(WIDE_SQE_BYTES, b"\0")


class Cqe(NamedTuple):
    """A completion queue entry."""

    user_data: int
    """The request's."""
    res: int
    """What the system call would return: a count, or -errno."""
    flags: int
    """`CqeFlags`, and the id of a provided buffer in the upper 16 bits."""
    big_cqe: tuple[int, int] | None = None
    """The two words more of a CQE of 32 bytes (CQE32, or F_32 in a CQE_MIXED ring)."""

    @property
    def more(self) -> bool:
        """Whether its request goes on, and another CQE comes."""
        return bool(self.flags & CqeFlags.F_MORE)

    @property
    def buffer_id(self) -> int | None:
        """The provided buffer that holds the data, or None."""
        return self.flags >> CQE_BUFFER_SHIFT if self.flags & CqeFlags.F_BUFFER else None
