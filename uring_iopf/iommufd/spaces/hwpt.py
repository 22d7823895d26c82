"""Hardware page tables: what a device is attached to, and where its faults go from there.

The tables' contents are not here: what a device can reach is in the page tables that the endpoint walks.
Source: drivers/iommu/iommufd/hw_pagetable.c, Linux 6.12.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from uring_iopf.abi.iommufd import HwptAllocFlags
from uring_iopf.errors import KernelError
from uring_iopf.handles import Step
from uring_iopf.iommufd.drivers.base import HWPT_ALLOC as ALLOC
from uring_iopf.iommufd.geometry import DEFAULT_GEOMETRY
from uring_iopf.iommufd.objects import NO_IOMMU, Object, ObjectTable
from uring_iopf.iommufd.queues.fault import FaultQueue
from uring_iopf.iommufd.queues.reports import ReportQueue
from uring_iopf.iommufd.spaces.ioas import IOAS

if TYPE_CHECKING:
    from uring_iopf._native import CIommu
    from uring_iopf.iommufd.client_memory import DriverData
    from uring_iopf.iommufd.drivers.base import NestedFormat
    from uring_iopf.iommufd.geometry import Geometry
    from uring_iopf.iommufd.versions import KernelVersion


AnyQueue: TypeAlias = FaultQueue | ReportQueue
"""What a table can carry; the second, which is not in Linux, only in a context that has such queues."""


class HWPT(Object):
    """A hardware page table."""

    fault: FaultQueue | None = None
    """Its fault queue."""
    reports: ReportQueue | None = None
    """A queue of other reports, which it has instead."""

    def __init__(self, table: ObjectTable, iommu: CIommu, flags: HwptAllocFlags) -> None:
        super().__init__(table)
        self.flags = flags
        self.iommu = iommu
        """The C object of the IOMMU whose devices can use it."""

    space: IOAS
    """What its addresses are, or (nested) what its parent's are."""

    @property
    def pasid_compatible(self) -> bool:
        """Whether it can be attached to a PASID, or to a device beside attached PASIDs (IOMMU_HWPT_ALLOC_PASID)."""
        return HwptAllocFlags.PASID in self.flags

    def leaving(self) -> list[Step]:
        """What lets go of the queue, and of the IOMMU."""
        steps = [queue.putting() for queue in (self.fault, self.reports) if queue is not None]
        return [*steps, partial(setattr, self, "iommu", NO_IOMMU)]

    def carry(self, queue: AnyQueue) -> None:
        """Give it the queue that faults, or other reports, of attached devices go to. Before `enter`."""
        if isinstance(queue, FaultQueue):
            self.fault = queue
        else:
            self.reports = queue
        self._entering.append(queue.holding())

    def detaching(self, devices: int = 1) -> list[Step]:
        """What counts so many attached devices less; a table that was made for devices goes with the last."""
        return [self.putting() for _ in range(devices)]


class PagingHWPT(HWPT):
    """A table that the kernel manages, over an `IOAS`, of which it can translate what its *geometry* has.

    Raises: KernelError(EADDRINUSE or EINVAL), it does not suit what is mapped or allowed there.
    """

    def __init__(
        self,
        table: ObjectTable,
        iommu: CIommu,
        ioas: IOAS,
        flags: HwptAllocFlags,
        *,
        auto: bool = False,
        geometry: Geometry = DEFAULT_GEOMETRY,
    ) -> None:
        super().__init__(table, iommu, flags)
        self._entering += ioas.adding_domain(self, geometry)
        self.ioas = self.space = ioas
        self.auto = auto
        """Made by an attach to the space, not by HWPT_ALLOC."""
        self._entering.append(ioas.holding())
        if auto:
            self._entering.append(partial(ioas.auto_hwpts.append, self))

    @property
    def is_nest_parent(self) -> bool:
        """Whether nested tables can be made on it."""
        return HwptAllocFlags.NEST_PARENT in self.flags

    def leaving(self) -> list[Step]:
        """What lets go of the space, and the fault queue."""
        steps = [*super().leaving(), *self.ioas.removing_domain(self), self.ioas.putting()]
        if self.auto:
            steps.append(partial(self.ioas.auto_hwpts.remove, self))
        return steps

    def detaching(self, devices: int = 1) -> list[Step]:
        """What counts so many attached devices less."""
        steps = super().detaching(devices)
        if self.auto and self.users == devices:
            steps += [*self.leaving(), *self._table.removing(self)]
        return steps


class NestedHWPT(HWPT):
    """A table that the user manages, on a parent that translates what it points to."""

    def __init__(
        self,
        table: ObjectTable,
        iommu: CIommu,
        parent: PagingHWPT,
        flags: HwptAllocFlags,
        data: bytes,
        *,
        made_on: Object | None = None,
    ) -> None:
        super().__init__(table, iommu, flags)
        self.parent = parent
        self.space = parent.ioas
        self.data = data
        """The driver's description of it, as given."""
        self.made_on: Object = parent if made_on is None else made_on
        """What HWPT_ALLOC named: the parent itself, or the virtual IOMMU that holds the parent. The table holds it."""
        self._entering.append(self.made_on.holding())

    def leaving(self) -> list[Step]:
        """What lets go of what it was made on, and of the fault queue."""
        return [*super().leaving(), self.made_on.putting()]


def auto_tables(ioas: IOAS) -> list[PagingHWPT]:
    """The tables that attaches to this space have made, oldest first."""
    return [one for one in ioas.auto_hwpts if isinstance(one, PagingHWPT)]


def check_paging(version: KernelVersion, flags: int, data: DriverData) -> None:
    """Raises: KernelError(EOPNOTSUPP), a paging table cannot be made so."""
    # int(): an inverted flag enumeration has only the bits that it knows.
    queue_on_parent = HwptAllocFlags.NEST_PARENT | HwptAllocFlags.FAULT_ID_VALID
    if flags & ~int(version.paging_flags) or flags & queue_on_parent == queue_on_parent or data:
        raise KernelError(errno.EOPNOTSUPP, ALLOC)


def check_nested(
    version: KernelVersion,
    flags: int,
    parent: PagingHWPT,
    nested: NestedFormat,
    iommu: CIommu,
    kind: int,
    data: DriverData,
) -> bytes:
    """The table's description, as the driver copies it.

    Raises: KernelError(EOPNOTSUPP or EINVAL), a nested table cannot be made so, or not on that parent.
    """
    if flags & ~int(version.nested_flags) or not data:
        raise KernelError(errno.EOPNOTSUPP, ALLOC)
    if parent.auto or not parent.is_nest_parent or parent.iommu != iommu:
        raise KernelError(errno.EINVAL, ALLOC)
    return nested.copy(kind, data)
