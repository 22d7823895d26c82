"""Hardware page tables (HWPTs). A device is attached to one, and its faults go to the HWPT's queue.

These objects have no page-table entries. The endpoint walks the tables of an `AddressSpace`.
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
"""The queues that a table can have. Linux has no `ReportQueue`; only a context with *generic_reports* has them."""


class HWPT(Object):
    """A hardware page table."""

    fault: FaultQueue | None = None
    """Its fault queue."""
    reports: ReportQueue | None = None
    """Its queue of other reports, instead of a fault queue."""

    def __init__(self, table: ObjectTable, iommu: CIommu, flags: HwptAllocFlags) -> None:
        super().__init__(table)
        self.flags = flags
        self.iommu = iommu
        """The C object of the IOMMU whose devices can use it."""

    space: IOAS
    """Its address space; for a nested table, its parent's."""

    @property
    def pasid_compatible(self) -> bool:
        """Whether it can be attached to a PASID, or to a device beside attached PASIDs (IOMMU_HWPT_ALLOC_PASID)."""
        return HwptAllocFlags.PASID in self.flags

    def leaving(self) -> list[Step]:
        """The steps that release the queue and the IOMMU."""
        steps = [queue.putting() for queue in (self.fault, self.reports) if queue is not None]
        return [*steps, partial(setattr, self, "iommu", NO_IOMMU)]

    def carry(self, queue: AnyQueue) -> None:
        """Set the queue for the faults, or other reports, of attached devices. Call it before `enter`."""
        if isinstance(queue, FaultQueue):
            self.fault = queue
        else:
            self.reports = queue
        self._entering.append(queue.holding())

    def detaching(self, devices: int = 1) -> list[Step]:
        """The steps that remove *devices* attached devices. A table made by an attach is destroyed with the last."""
        return [self.putting() for _ in range(devices)]


class PagingHWPT(HWPT):
    """A table that the kernel manages, over an `IOAS`. *geometry*: the IOVAs that it can translate.

    Raises: KernelError(EADDRINUSE or EINVAL), a mapping or an allowed range of the space is outside the geometry.
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
        """Whether an attach to the space has made it, and not HWPT_ALLOC."""
        self._entering.append(ioas.holding())
        if auto:
            self._entering.append(partial(ioas.auto_hwpts.append, self))

    @property
    def is_nest_parent(self) -> bool:
        """Whether nested tables can be made on it."""
        return HwptAllocFlags.NEST_PARENT in self.flags

    def leaving(self) -> list[Step]:
        """The steps that release the space and the fault queue."""
        steps = [*super().leaving(), *self.ioas.removing_domain(self), self.ioas.putting()]
        if self.auto:
            steps.append(partial(self.ioas.auto_hwpts.remove, self))
        return steps

    def detaching(self, devices: int = 1) -> list[Step]:
        """The steps that remove *devices* attached devices."""
        steps = super().detaching(devices)
        if self.auto and self.users == devices:
            steps += [*self.leaving(), *self._table.removing(self)]
        return steps


class NestedHWPT(HWPT):
    """A table that the client manages, on a *parent* that translates its output addresses."""

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
        """The object that HWPT_ALLOC named, which the table holds: the parent, or the virtual IOMMU of the parent."""
        self._entering.append(self.made_on.holding())

    def leaving(self) -> list[Step]:
        """The steps that release the parent or virtual IOMMU, and the fault queue."""
        return [*super().leaving(), self.made_on.putting()]


def auto_tables(ioas: IOAS) -> list[PagingHWPT]:
    """The tables that attaches to this space have made, oldest first."""
    return [one for one in ioas.auto_hwpts if isinstance(one, PagingHWPT)]


def check_paging(version: KernelVersion, flags: int, data: DriverData) -> None:
    """Raises: KernelError(EOPNOTSUPP), a paging table cannot have these flags or data."""
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
    """Return the description of a nested table, as the driver copies it.

    Raises: KernelError(EOPNOTSUPP or EINVAL), a nested table cannot have these flags or data, or this parent.
    """
    if flags & ~int(version.nested_flags) or not data:
        raise KernelError(errno.EOPNOTSUPP, ALLOC)
    if parent.auto or not parent.is_nest_parent or parent.iommu != iommu:
        raise KernelError(errno.EINVAL, ALLOC)
    return nested.copy(kind, data)
