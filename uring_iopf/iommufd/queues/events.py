"""Event queues as their file: read and poll. And what the events of each type hold.

The queue itself is C (``cdefs/faults/eventq.c``).
Source: drivers/iommu/iommufd/eventq.c and driver.c, iommufd.h, Linux 7.2.
"""

from __future__ import annotations

import errno
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import CEventQueue, check, ffi, lib
from uring_iopf.abi.iommufd import VeventFlags, VeventqType
from uring_iopf.errors import KernelError, UsageError, check_bytes, check_whole, whole
from uring_iopf.iommufd.drivers.mock import MOCK_VEVENTQ_TYPE
from uring_iopf.iommufd.queues.file import MAX_RW_COUNT, QueueCalls, QueueFile, unset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from uring_iopf.core import Core
    from uring_iopf.iommufd.objects import ObjectTable

MOST_EVENTS: Final = 1 << 19
"""The greatest depth. Source: iommufd_veventq_alloc, Linux 7.2."""
_HEADER: Final = struct.Struct("<2I")
_SMMUV3: Final = struct.Struct("<4Q")
_CMDQV: Final = struct.Struct("<2Q")
_SELFTEST: Final = struct.Struct("<I")
_FORWARDED: Final = frozenset({0x04, 0x06, 0x08, 0x0A, 0x10, 0x11, 0x12, 0x13})
_CALLS: Final = QueueCalls("event queue", lib.uiopf_eventq_file, lib.uiopf_eventq_busy, lib.uiopf_eventq_let_go)


# ---- what is read ----


class VirtualEvent(NamedTuple):
    """One record. Source: iommufd.h, ``iommufd_vevent_header`` and what follows it, Linux 7.2."""

    flags: int
    """`VeventFlags`."""
    sequence: int
    """The number of the report: 0 to 2^31 - 1, then 0 again. Lost reports count too, so a gap is their number."""
    data: bytes
    """The event, of the queue's type; empty for a record of lost events."""

    @property
    def lost(self) -> bool:
        """Whether this is a record of lost events, of which *sequence* is the newest."""
        return bool(self.flags & VeventFlags.LOST_EVENTS)


def unpack_events(data: bytes, size_bytes: int) -> list[VirtualEvent]:
    """Return the records in the data of a read.

    *size_bytes*: the size of a record, with its header of 8 bytes. A record of lost events is a header only.
    Raises: UsageError, *data* are not whole records of that size.
    """
    check_whole("size_bytes", size_bytes, _HEADER.size, 2**31 - 1)
    events = []
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise UsageError(f"data must be whole records of {size_bytes} bytes; the last one has half a header")
        flags, sequence = _HEADER.unpack_from(data, at)
        end = at + (_HEADER.size if flags & VeventFlags.LOST_EVENTS else size_bytes)
        if end > len(data):
            raise UsageError(f"data must be whole records of {size_bytes} bytes; the last one has half an event")
        events.append(VirtualEvent(flags, sequence, bytes(data[at + _HEADER.size : end])))
        at = end
    return events


# ---- what events hold ----


class Smmuv3Event(NamedTuple):
    """An event of an SMMUv3's event queue: four words.

    Source: Arm SMMUv3 (IHI 0070), ch. 7; iommufd.h, iommu_vevent_arm_smmuv3, Linux 7.2.
    """

    evt: tuple[int, int, int, int]

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """From its 32 bytes."""
        return cls(_SMMUV3.unpack(data))

    def pack(self) -> bytes:
        """Its 32 bytes."""
        return _SMMUV3.pack(*self.evt)

    @property
    def event_id(self) -> int:
        """The type of the event: 0x10 is a translation fault."""
        return self.evt[0] & 0xFF

    @property
    def stream_id(self) -> int:
        """The StreamID of the device: the hardware's in the hardware's event, the virtual one in a guest's event."""
        return self.evt[0] >> 32

    @property
    def stalled(self) -> bool:
        """Whether the transaction is stalled: the event is a fault, for the fault queue."""
        return bool(self.evt[1] >> 31 & 1)

    @property
    def stage_2(self) -> bool:
        """Whether stage 2, the host's, faulted. A guest must not see such an event."""
        return bool(self.evt[1] >> 39 & 1)

    @property
    def forwarded(self) -> bool:
        """Whether the event goes to the event queue of the device's virtual IOMMU.

        Such events are the guest's own mistakes: in its stream table entry, its context descriptor, or its first stage.
        Source: arm_smmu_handle_event, Linux 7.2.
        """
        return self.event_id in _FORWARDED and not self.stalled and not self.stage_2

    def seen_by_guest(self, virt_id: int) -> Smmuv3Event:
        """Return the event with the virtual StreamID, 32 bits. Source: arm_vmaster_report_event, Linux 7.2."""
        first, *others = self.evt
        return Smmuv3Event((first & 0xFFFF_FFFF | (virt_id & 0xFFFF_FFFF) << 32, others[0], others[1], others[2]))


class CmdqvEvent(NamedTuple):
    """The logical command queues of a Tegra241 that have errors. Source: iommufd.h, Linux 7.2."""

    lvcmdq_err_map: tuple[int, int]
    """A bit for each queue, 64 in a word."""

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """From its 16 bytes."""
        return cls(_CMDQV.unpack(data))

    def pack(self) -> bytes:
        """Its 16 bytes."""
        return _CMDQV.pack(*self.lvcmdq_err_map)


class SelftestEvent(NamedTuple):
    """The event of the mock IOMMU. Source: iommufd_test.h, iommu_viommu_event_selftest, Linux 7.2."""

    virt_id: int

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """From its 4 bytes."""
        return cls(*_SELFTEST.unpack(data))

    def pack(self) -> bytes:
        """Its 4 bytes: a longer virtual id loses its upper half."""
        return _SELFTEST.pack(self.virt_id & 0xFFFF_FFFF)


EVENT_BYTES: Final[Mapping[int, int]] = MappingProxyType(
    {
        VeventqType.ARM_SMMUV3: _SMMUV3.size,
        VeventqType.TEGRA241_CMDQV: _CMDQV.size,
        MOCK_VEVENTQ_TYPE: _SELFTEST.size,
    }
)
"""The size of an event's data, in bytes, by the queue's type. A queue of another type gets no events."""


# ---- the queue ----


class EventQueueCounts(NamedTuple):
    """The counts of a queue's events."""

    reported: int
    """Events that were reported."""
    stored: int
    """Events that were stored in the queue."""
    lost: int
    """Events that were lost, because the queue was full or there was no memory."""
    delivered: int
    """Stored events that were read."""


class EventQueue(QueueFile[CEventQueue]):
    """A queue of events, and its file. It holds *depth* events; further events are lost.

    *event_bytes*: the size of an event's data, in bytes; None: it is not known.
    """

    def __init__(self, table: ObjectTable, core: Core, depth: int, event_bytes: int | None, call: str) -> None:
        self.depth = depth
        self.event_bytes = event_bytes
        super().__init__(table, core, _CALLS, lib.uiopf_eventq_new, depth, call)

    def report(self, data: bytes) -> None:
        """Report an event, as a driver does. If the queue is full, the event is lost, which is no error.

        Raises: KernelError(ENOMEM), the event is lost, because there is no memory; KernelError(ENOENT), the queue is
        destroyed; UsageError, *data* have the wrong size. Source: iommufd_viommu_report_event, Linux 7.2.
        """
        check_bytes(data=data)
        if len(data) != self.event_bytes:
            raise UsageError(f"data must be an event of {self.event_bytes} bytes in this queue, not {len(data)} bytes")
        check(lib.uiopf_eventq_report(self.c, ffi.from_buffer(data), len(data)), "iommufd_viommu_report_event")

    def read(self, length: int) -> bytes:
        """Return the oldest records, whole, as many as fit into *length* bytes.

        Never waits. With nothing to read, 0 bytes. Ring requests with a position other than 0 get ESPIPE.

        Raises: KernelError(EINVAL), *length* is less than 8, also when there is nothing to read, or the oldest record
        does not fit, and stays; KernelError(EBADF), closed. Source: iommufd_veventq_fops_read, Linux 7.2.
        """
        c = self._file("read")
        if whole("length", length) < 0:
            raise KernelError(errno.EINVAL, "read")
        length = min(length, MAX_RW_COUNT)
        to = unset("uint8_t[]", length)
        done = check(lib.uiopf_eventq_read(c, to, length), "read")
        return bytes(ffi.buffer(to, done))

    def read_events(self, most: int = 64) -> list[VirtualEvent]:
        """Return the oldest records, at most *most* of them unless some are of lost events.

        Raises: UsageError, the size of its events is not known; KernelError, as `read`.
        """
        if self.event_bytes is None:
            raise UsageError("the size of events of this queue's type is not known; use `read`")
        size = _HEADER.size + self.event_bytes
        return unpack_events(self.read(whole("most", most) * size), size)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Refused, always: the file has no such method. Raises: KernelError(EINVAL); KernelError(EBADF), closed."""
        check_bytes(data=data)
        source = ffi.from_buffer(data)
        return check(lib.uiopf_eventq_write(self._file("write"), source, len(source)), "write")

    def poll(self) -> int:
        """Return what holds now: POLLIN | POLLRDNORM while there is something to read; never POLLOUT.

        Raises: KernelError(EBADF), closed.
        """
        return lib.uiopf_eventq_poll(self._file("poll"))

    def counts(self) -> EventQueueCounts:
        """Return the counts of its events. Raises: KernelError(ENOENT), destroyed."""
        counts = ffi.new("struct uiopf_eventq_counts *")
        lib.uiopf_eventq_counts(self.c, counts)
        return EventQueueCounts(*(getattr(counts, field) for field in EventQueueCounts._fields))
