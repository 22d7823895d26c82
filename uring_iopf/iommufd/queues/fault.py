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
from uring_iopf.errors import KernelError, UsageError, check_fits, check_whole, whole
from uring_iopf.iommufd.drivers.base import DriverResponse
from uring_iopf.iommufd.queues.file import MAX_RW_COUNT, QueueCalls, QueueFile, unset

if TYPE_CHECKING:
    from uring_iopf.core import Core
    from uring_iopf.iommufd.objects import ObjectTable


class Personality(enum.IntEnum):
    """What the fault queue's file can do."""

    MERGED = 0
    """As Linux has it: an empty queue reads as 0 bytes, and rings cannot post reads ahead."""
    PROPOSED = 1
    """Ours: an empty queue is EAGAIN, and reads can be posted ahead. Everything else is the same."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What Linux's fault queue has not; each is off by default. Raises: UsageError, a limit that makes no sense."""

    depth: int | None = None
    """Groups that may wait to be read. One more is answered FAILURE at once, and a message says so (`LOST_GROUPS`)."""
    timeout_ns: int | None = None
    """From the report of a group to its answer, read or not. After it the queue answers for the client, as the 2023 RFC
    did; a later answer is EINVAL. By the core's clock, in a turn of the producer."""
    timeout_response: DriverResponse = DriverResponse.FAILURE
    """What it answers then: INVALID or FAILURE."""
    by_group_index: bool = False
    """Answers may name device, PASID and group index (`FaultQueue.respond_to`), as before the cookie."""

    def __post_init__(self) -> None:
        if self.depth is not None:
            check_whole("depth", self.depth, 1, 2**32 - 1, " groups, or None")
        if self.timeout_ns is not None:
            check_whole("timeout_ns", self.timeout_ns, 1, 2**63 - 1, ", or None")
        if self.timeout_response not in (DriverResponse.INVALID, DriverResponse.FAILURE):
            raise UsageError(
                "timeout_response must be DriverResponse.INVALID or DriverResponse.FAILURE, not "
                f"{self.timeout_response!r}"
            )
        if not isinstance(self.by_group_index, bool):
            raise UsageError(f"by_group_index must be True or False, not {self.by_group_index!r}")


AS_LINUX: Final = QueueLimits()
"""No limits."""


class FaultQueueCounts(NamedTuple):
    """What has gone through a fault queue, and what is in it."""

    delivered_groups: int
    answered_groups: int
    answered_faults: int
    """By the client, as are the groups."""
    auto_answered_groups: int
    auto_answered_faults: int
    """INVALID, for the client: detach, replace or close."""
    waiting_groups: int
    """Now: to be read."""
    unanswered_groups: int
    """Now: read, to be answered."""
    timed_out_groups: int
    """Of those answered for the client: not answered in time."""
    lost_groups: int
    """Never queued, since *depth* groups were waiting, and answered FAILURE."""


_CALLS: Final = QueueCalls("fault queue", lib.uiopf_faultq_file, lib.uiopf_faultq_busy, lib.uiopf_faultq_let_go)


class FaultQueue(QueueFile[CFaultQueue]):
    """A fault object and its file. Made by `Context.fault_queue_alloc`, open.

    Closing the file drops the file's reference and nothing else: what is unanswered stays so, and only detach, replace
    or destruction of what the devices are attached to answers it. A closed file cannot be opened again.
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
            check(lib.uiopf_faultq_limit(self.c, in_c), call)

    def read(self, length: int) -> bytes:
        """Return the oldest groups, whole, as many as fit into *length* bytes; each gets the lowest free cookie.

        Never waits. With nothing to read, 0 bytes (`Personality.PROPOSED`: EAGAIN).

        Raises: KernelError(ESPIPE), *length* is no multiple of 40, checked first; KernelError(EINVAL), the oldest
        group does not fit, and stays; KernelError(EBADF), closed. Source: iommufd_fault_fops_read, Linux 6.12.
        """
        c = self._file("read")
        if whole("length", length) < 0:
            raise KernelError(errno.EINVAL, "read")
        length = min(length, MAX_RW_COUNT)
        # A length that is no multiple is refused before the memory is looked at.
        to = unset("uint8_t[]", 0 if length % MESSAGE_BYTES else length)
        done = interruptible("read", lib.uiopf_faultq_read, c, to, length)
        return bytes(ffi.buffer(to, done))

    def read_messages(self, most: int = 64) -> list[FaultMessage]:
        """Return the messages of the oldest groups, whole groups, at most *most* messages.

        Raises: KernelError(EINVAL), the oldest group has more than *most*, and stays; else as `read`.
        """
        return unpack_messages(self.read(whole("most", most) * MESSAGE_BYTES))

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Answer with what *data* holds, in order; return how many bytes were taken, stopping before a bad response.

        A response is 8 bytes: cookie, code (``iommu_hwpt_page_response``).

        Raises: KernelError(ESPIPE), the length is no multiple of 8, nothing was taken; KernelError(EINVAL), the first
        is bad: a code that is not 0 or 1 (looked at first; the cookie stays live), or an unknown cookie;
        KernelError(EBADF), closed. Source: iommufd_fault_fops_write, Linux 6.12.
        """
        c = self._file("write")
        source = ffi.from_buffer(data)
        return interruptible("write", lib.uiopf_faultq_write, c, source, min(len(source), MAX_RW_COUNT))

    def respond(self, cookie: int, code: PageResponse | int = PageResponse.SUCCESS) -> None:
        """Answer one group.

        Raises: KernelError(EINVAL), no such cookie is live, or the code is not 0 or 1; KernelError(EBADF), closed;
        UsageError, a number is none of 32 bits.
        """
        check_fits(32, cookie=cookie, code=code)
        self.write(pack_response(cookie, code))

    def respond_to(
        self, dev_id: int, grpid: int, code: PageResponse | int = PageResponse.SUCCESS, *, pasid: int | None = None
    ) -> None:
        """Answer the oldest group that was read of a device (its id), group index and PASID; None: one without.

        Raises: KernelError(EOPNOTSUPP), the queue was made without `QueueLimits.by_group_index`; KernelError(EINVAL),
        no such group is live, or the code; KernelError(EBADF), closed; UsageError, a number is none of 32 bits.
        Source: IOMMU_PAGE_RESPONSE of the 2023 RFC.
        """
        c = self._file("page response")
        check_fits(32, dev_id=dev_id, grpid=grpid, code=code, pasid=pasid or 0)
        flags = 0 if pasid is None else FaultFlags.PASID_VALID
        check(lib.uiopf_faultq_answer_index(c, dev_id, flags, pasid or 0, grpid, code), "page response")

    def poll(self) -> int:
        """Return what holds now: POLLOUT always; POLLIN | POLLRDNORM while a group waits to be read.

        Raises: KernelError(EBADF), closed.
        """
        return lib.uiopf_faultq_poll(self._file("poll"))

    def counts(self) -> FaultQueueCounts:
        """What has gone through, and what is in it. Raises: KernelError(ENOENT), destroyed."""
        counts = ffi.new("struct uiopf_faultq_counts *")
        lib.uiopf_faultq_counts(self.c, counts)
        return FaultQueueCounts(*(getattr(counts, field) for field in FaultQueueCounts._fields))
