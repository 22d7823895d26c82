"""I/O address spaces and hardware page tables: what a device is attached to, and where its faults go from there.

The tables' contents are not here: what a device can reach is in the page tables that the endpoint walks.
Source: drivers/iommu/iommufd/{ioas,hw_pagetable}.c, Linux 6.12.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeAlias

from uring_iopf.abi.iommufd import HwptAllocFlags
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.driver import HWPT_ALLOC as ALLOC
from uring_iopf.iommufd.fault import FaultQueue
from uring_iopf.iommufd.objects import Object, ObjectTable
from uring_iopf.iommufd.reports import ReportQueue

if TYPE_CHECKING:
    from uring_iopf._native import CData
    from uring_iopf.iommufd.driver import NestedFormat
    from uring_iopf.iommufd.versions import KernelVersion
    from uring_iopf.iommufd.viommu import Viommu


AnyQueue: TypeAlias = FaultQueue | ReportQueue
"""What a table can carry; the second, which is not in Linux, only in a context that has such queues."""


class IOAS(Object):
    """An I/O address space: what paging tables are made for. Their mappings are not emulated."""

    def __init__(self, table: ObjectTable) -> None:
        super().__init__(table)
        self.auto_hwpts: list[PagingHWPT] = []
        """Tables made because a device was attached to the space itself; each goes with its last device."""


class HWPT(Object):
    """A hardware page table. *fault*: the queue that faults, or other reports, of attached devices go to."""

    def __init__(self, table: ObjectTable, iommu: CData, flags: HwptAllocFlags, fault: AnyQueue | None) -> None:
        super().__init__(table)
        self.flags = flags
        self.iommu = iommu
        """The C object of the IOMMU whose devices can use it."""
        self.fault = fault if isinstance(fault, FaultQueue) else None
        """Its fault queue."""
        self.reports = fault if isinstance(fault, ReportQueue) else None
        """A queue of other reports, which it has instead."""
        self._queue = fault
        if fault is not None:
            fault.hold()

    @property
    def pasid_compatible(self) -> bool:
        """Whether it can be attached to a PASID, or to a device beside attached PASIDs (IOMMU_HWPT_ALLOC_PASID)."""
        return HwptAllocFlags.PASID in self.flags

    def release(self) -> None:
        """Let go of the queue."""
        if self._queue is not None:
            self._queue.put()

    def detached(self) -> None:
        """Count one attached device less; a table that was made for devices goes with the last."""
        self.put()


class PagingHWPT(HWPT):
    """A table that the kernel manages, over an `IOAS`."""

    def __init__(
        self,
        table: ObjectTable,
        iommu: CData,
        ioas: IOAS,
        flags: HwptAllocFlags,
        fault: AnyQueue | None = None,
        *,
        auto: bool = False,
    ) -> None:
        super().__init__(table, iommu, flags, fault)
        self.ioas = ioas
        self.auto = auto
        """Made by an attach to the space, not by HWPT_ALLOC."""
        ioas.hold()
        if auto:
            ioas.auto_hwpts.append(self)

    @property
    def is_nest_parent(self) -> bool:
        """Whether nested tables can be made on it."""
        return HwptAllocFlags.NEST_PARENT in self.flags

    def release(self) -> None:
        """Let go of the space, and the fault queue."""
        super().release()
        if self.auto:
            self.ioas.auto_hwpts.remove(self)
        self.ioas.put()

    def detached(self) -> None:
        """Count one attached device less."""
        super().detached()
        if self.auto and not self.users:
            self._table.destroy(self, "detach")


class NestedHWPT(HWPT):
    """A table that the user manages, on a parent that translates what it points to."""

    def __init__(
        self,
        table: ObjectTable,
        iommu: CData,
        parent: PagingHWPT,
        flags: HwptAllocFlags,
        data: bytes,
        fault: AnyQueue | None = None,
        *,
        viommu: Viommu | None = None,
    ) -> None:
        super().__init__(table, iommu, flags, fault)
        self.parent = parent
        self.data = data
        """The driver's description of it, as given."""
        self.viommu = viommu
        """What it was made on, if not on the parent itself: it holds that, which holds the parent."""
        self._made_on: Object = parent if viommu is None else viommu
        self._made_on.hold()

    def release(self) -> None:
        """Let go of the parent or virtual IOMMU, and the fault queue."""
        super().release()
        self._made_on.put()


def check_paging(version: KernelVersion, flags: int, data: bytes) -> None:
    """Raises: KernelError(EOPNOTSUPP), a paging table cannot be made so."""
    # int(): an inverted flag enumeration has only the bits that it knows.
    queue_on_parent = HwptAllocFlags.NEST_PARENT | HwptAllocFlags.FAULT_ID_VALID
    if flags & ~int(version.paging_flags) or flags & queue_on_parent == queue_on_parent or data:
        raise KernelError(errno.EOPNOTSUPP, ALLOC)


def check_nested(
    version: KernelVersion, flags: int, parent: PagingHWPT, nested: NestedFormat, iommu: CData, kind: int, data: bytes
) -> None:
    """Raises: KernelError(EOPNOTSUPP or EINVAL), a nested table cannot be made so, or not on that parent."""
    if flags & ~int(version.nested_flags) or not data:
        raise KernelError(errno.EOPNOTSUPP, ALLOC)
    if parent.auto or not parent.is_nest_parent or parent.iommu != iommu:
        raise KernelError(errno.EINVAL, ALLOC)
    nested.check(kind, data)
