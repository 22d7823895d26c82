"""The fault queue as its file: read, write, poll, close.

The queue itself is C (``cdefs/faults/faultq.c``). Source: drivers/iommu/iommufd/fault.c, Linux 6.12.
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import CFaultQueue, check, ffi, interruptible, lib
from uring_iopf.abi.iommufd import FaultFlags, PageResponse
from uring_iopf.abi.records import MESSAGE_BYTES, FaultMessage, pack_response, unpack_messages
from uring_iopf.errors import KernelError, UsageError, check_bytes, check_fits, check_whole, whole
from uring_iopf.iommufd.drivers.base import DriverResponse
from uring_iopf.iommufd.queues.file import MAX_RW_COUNT, QueueCalls, QueueFile, unset

if TYPE_CHECKING:
    from uring_iopf.core import Core
    from uring_iopf.iommufd.objects import ObjectTable


class Personality(enum.IntEnum):
    """The behaviour of a fault queue's file.

    `PROPOSED` is the one that we propose. Its wake-ups say POLLIN, as those of pipes, sockets and eventfds. A request
    that waits for other events is not woken, and none of the woken ones polls the file again: a multishot read takes
    the fault with one call of the file. The price is paid by clients that share a queue: if another reader has taken
    the group first, a poll still completes with POLLIN, and a multishot read without buffers with ENOBUFS. A queue that
    has one reader behaves the same with both. Source: io_poll_wake, Linux 7.2.
    """

    MERGED = 0
    """Linux's: a read of an empty queue returns 0 bytes. Rings post reads ahead behind a linked poll."""
    PROPOSED = 1
    """Proposed: a read of an empty queue returns EAGAIN, and rings can post reads ahead. A fault wakes with POLLIN."""
    PROPOSED_UNKEYED = 2
    """As `PROPOSED`, but a fault wakes without saying why, as in Linux, so that each woken request polls the file."""
    COMMANDS = 3
    """As `PROPOSED`, and with URING_CMDs that take faults and answer them. No kernel has them."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits that Linux's fault queue does not have, each off by default. Raises: UsageError, a value out of range."""

    depth: int | None = None
    """The most groups that may wait to be read. The next one is answered at once, and a message reports it
    (`LOST_GROUPS`). None: no limit."""
    timeout_ns: int | None = None
    """The longest time from the report of a group to its answer, in nanoseconds of the core's clock. After it a turn of
    the producer answers for the client, as in the 2023 RFC, and a later answer returns EINVAL. None: no limit."""
    timeout_response: DriverResponse = DriverResponse.FAILURE
    """The answer after the time-out: INVALID or FAILURE."""
    by_group_index: bool = False
    """Whether answers may name device, PASID and group index (`FaultQueue.respond_to`) instead of the cookie."""
    depth_response: DriverResponse = DriverResponse.FAILURE
    """The answer to a group beyond *depth*: FAILURE, which stops the page requests of a PCIe function, or INVALID, with
    which it goes on."""

    def __post_init__(self) -> None:
        if self.depth is not None:
            check_whole("depth", self.depth, 1, 2**32 - 1, " groups, or None")
        if self.timeout_ns is not None:
            check_whole("timeout_ns", self.timeout_ns, 1, 2**63 - 1, ", or None")
        for name in ("depth_response", "timeout_response"):
            if (response := getattr(self, name)) not in (DriverResponse.INVALID, DriverResponse.FAILURE):
                raise UsageError(f"{name} must be DriverResponse.INVALID or DriverResponse.FAILURE, not {response!r}")
        if not isinstance(self.by_group_index, bool):
            raise UsageError(f"by_group_index must be True or False, not {self.by_group_index!r}")


AS_LINUX: Final = QueueLimits()
"""No limits."""


class FaultQueueCounts(NamedTuple):
    """The counts of a fault queue's groups and faults."""

    delivered_groups: int
    """Groups that the client has read."""
    answered_groups: int
    """Groups that the client has answered."""
    answered_faults: int
    """Faults that the client has answered."""
    auto_answered_groups: int
    """Groups that the kernel has answered for the client: at detach, replace or close, or after a time-out."""
    auto_answered_faults: int
    """Faults that the kernel has answered for the client."""
    waiting_groups: int
    """Groups that wait to be read now."""
    unanswered_groups: int
    """Groups that were read and wait for an answer now."""
    timed_out_groups: int
    """Groups that the kernel has answered after a time-out; *auto_answered_groups* counts them too."""
    timed_out_faults: int
    """Faults that the kernel has answered after a time-out; *auto_answered_faults* counts them too."""
    lost_groups: int
    """Groups that were never queued, because *depth* groups were waiting, and were answered `depth_response`."""
    lost_faults: int
    """Faults of those groups."""


_CALLS: Final = QueueCalls("fault queue", lib.uiopf_faultq_file, lib.uiopf_faultq_busy, lib.uiopf_faultq_let_go)


class FaultQueue(QueueFile[CFaultQueue]):
    """A fault queue, and its file. `Context.fault_queue_alloc` makes it, with the file open.

    Closing the file only drops the file's reference. Open groups stay open until a detach, a replace, or the
    destruction of the table answers them. A closed file cannot be opened again.
    """

    def __init__(
        self, table: ObjectTable, core: Core, personality: Personality, limits: QueueLimits = AS_LINUX
    ) -> None:
        if not isinstance(personality, Personality):
            raise UsageError(f"personality must be a Personality, not {personality!r}")
        if not isinstance(limits, QueueLimits):
            raise UsageError(f"limits must be QueueLimits, not {limits!r}")
        self.personality = personality
        self.limits = limits
        call = "IOMMU_FAULT_QUEUE_ALLOC"
        super().__init__(table, core, _CALLS, lib.uiopf_faultq_new, personality, call)
        if limits != AS_LINUX:
            in_c = ffi.new("struct uiopf_faultq_limits *")
            in_c.depth = limits.depth or 0
            in_c.by_index = limits.by_group_index
            in_c.timeout_ns = limits.timeout_ns or 0
            in_c.timeout_code = limits.timeout_response
            in_c.lost_code = limits.depth_response
            check(lib.uiopf_faultq_limit(self.c, in_c), call)

    def read(self, length: int) -> bytes:
        """Return the oldest whole groups, as many as fit into *length* bytes. Each gets the lowest free cookie.

        It never waits. If no group waits, it returns 0 bytes (with `Personality.PROPOSED` it raises EAGAIN).

        Raises: KernelError(ESPIPE), *length* is no multiple of 40, which is checked first; KernelError(EINVAL), the
        oldest group does not fit, and stays; KernelError(EBADF), closed. Source: iommufd_fault_fops_read, Linux 6.12.
        """
        c = self._file("read")
        if whole("length", length) < 0:
            raise KernelError(errno.EINVAL, "read")
        length = min(length, MAX_RW_COUNT)
        # A length that is no multiple is refused before the memory is used.
        to = unset("uint8_t[]", 0 if length % MESSAGE_BYTES else length)
        done = interruptible("read", lib.uiopf_faultq_read, c, to, length)
        return bytes(ffi.buffer(to, done))

    def read_messages(self, most: int = 64) -> list[FaultMessage]:
        """Return the messages of the oldest groups, whole groups, at most *most* messages.

        Raises: KernelError(EINVAL), the oldest group has more than *most*, and stays; else as `read`.
        """
        return unpack_messages(self.read(whole("most", most) * MESSAGE_BYTES))

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Answer groups, in order. *data*: responses of 8 bytes each, cookie and code (``iommu_hwpt_page_response``).

        It stops before a bad response. Return the number of bytes that were accepted.

        Raises: KernelError(ESPIPE), the length is no multiple of 8, and no response was accepted; KernelError(EINVAL),
        the first response is bad: a code that is not 0 or 1 (checked first; the cookie stays live), or an unknown
        cookie; KernelError(EBADF), closed. Source: iommufd_fault_fops_write, Linux 6.12.
        """
        c = self._file("write")
        check_bytes(data=data)
        source = ffi.from_buffer(data)
        return interruptible("write", lib.uiopf_faultq_write, c, source, min(len(source), MAX_RW_COUNT))

    def respond(self, cookie: int, code: PageResponse | int = PageResponse.SUCCESS) -> None:
        """Answer one group.

        Raises: KernelError(EINVAL), no such cookie is live, or *code* is not 0 or 1; KernelError(EBADF), closed;
        UsageError, a number is out of range (32 bits).
        """
        check_fits(32, cookie=cookie, code=code)
        self.write(pack_response(cookie, code))

    def respond_to(
        self, dev_id: int, grpid: int, code: PageResponse | int = PageResponse.SUCCESS, *, pasid: int | None = None
    ) -> None:
        """Answer the oldest group that was read with this device id, group index and PASID (None: without a PASID).

        Raises: KernelError(EOPNOTSUPP), the queue was made without `QueueLimits.by_group_index`; KernelError(EINVAL),
        no such group is live, or *code* is bad; KernelError(EBADF), closed; UsageError, a number is out of range (32
        bits). Source: IOMMU_PAGE_RESPONSE of the 2023 RFC.
        """
        c = self._file("page response")
        check_fits(32, dev_id=dev_id, grpid=grpid, code=code, pasid=pasid or 0)
        flags = 0 if pasid is None else FaultFlags.PASID_VALID
        interruptible("page response", lib.uiopf_faultq_answer_index, c, dev_id, flags, pasid or 0, grpid, code)

    def poll(self) -> int:
        """Return the events that hold now: always POLLOUT, and POLLIN | POLLRDNORM while a group waits to be read.

        Raises: KernelError(EBADF), closed.
        """
        return lib.uiopf_faultq_poll(self._file("poll"))

    def counts(self) -> FaultQueueCounts:
        """Return the counts of groups and faults. Raises: KernelError(ENOENT), destroyed."""
        counts = ffi.new("struct uiopf_faultq_counts *")
        lib.uiopf_faultq_counts(self.c, counts)
        return FaultQueueCounts(*(getattr(counts, field) for field in FaultQueueCounts._fields))
