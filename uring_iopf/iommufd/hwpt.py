"""Hardware page tables: what a device is attached to, and where its faults go from there.

The tables' contents are not here: what a device can reach is in the page tables that the endpoint walks.
Source: drivers/iommu/iommufd/hw_pagetable.c, Linux 6.12.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uring_iopf.abi.iommufd import HwptAllocFlags, HwptDataType
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.ioas import DEFAULT_GEOMETRY, Geometry
from uring_iopf.iommufd.ioas import IOAS as IOAS
from uring_iopf.iommufd.objects import Object, ObjectTable

if TYPE_CHECKING:
    from uring_iopf._native import CData
    from uring_iopf.iommufd.fault import FaultQueue
    from uring_iopf.iommufd.versions import KernelVersion

ALLOC = "IOMMU_HWPT_ALLOC"


@dataclass(frozen=True)
class NestedFormat:
    """How an IOMMU's driver takes the description of a nested table."""

    data_type: int
    """``iommu_hwpt_alloc.data_type``."""
    size_bytes: int
    """Of the struct that describes it."""
    wrong_type: int
    """The errno for another type."""

    def check(self, data_type: int, data: bytes) -> None:
        """Raises: KernelError, as ``iommu_copy_struct_from_user`` and the driver before it."""
        if data_type != self.data_type:
            raise KernelError(self.wrong_type, ALLOC)
        if len(data) < self.size_bytes:
            raise KernelError(errno.EINVAL, ALLOC)
        if any(data[self.size_bytes :]):
            raise KernelError(errno.E2BIG, ALLOC)

    @property
    def blank(self) -> bytes:
        """A description in which everything is 0."""
        return bytes(self.size_bytes)


MOCK_FORMAT: Final = NestedFormat(data_type=0xDEAD, size_bytes=4, wrong_type=errno.EINVAL)
"""The selftest's mock IOMMU. Source: iommufd_test.h, IOMMU_HWPT_DATA_SELFTEST, Linux 6.12."""
VTD_FORMAT: Final = NestedFormat(data_type=HwptDataType.VTD_S1, size_bytes=24, wrong_type=errno.EOPNOTSUPP)
"""VT-d's first stage. Source: iommufd.h, iommu_hwpt_vtd_s1, and intel/iommu.c, Linux 6.12."""


class HWPT(Object):
    """A hardware page table. *fault*: the queue that faults of attached devices go to."""

    user_managed: bool
    """Whether it takes the faults of every PASID: a nested table does, since the user manages its PASIDs."""

    def __init__(self, table: ObjectTable, iommu: CData, fault: FaultQueue | None) -> None:
        super().__init__(table)
        self.iommu = iommu
        """The C object of the IOMMU whose devices can use it."""
        self.fault = fault
        if fault is not None:
            fault.hold()

    def release(self) -> None:
        """Let go of the fault queue."""
        if self.fault is not None:
            self.fault.put()

    def detached(self) -> None:
        """Count one attached device less; a table that was made for devices goes with the last."""
        self.put()


class PagingHWPT(HWPT):
    """A table that the kernel manages, over an `IOAS`, of which it can translate what its *geometry* has.

    Raises: KernelError(EADDRINUSE or EINVAL), it does not suit what is mapped or allowed there.
    """

    user_managed = False

    def __init__(
        self,
        table: ObjectTable,
        iommu: CData,
        ioas: IOAS,
        flags: HwptAllocFlags,
        fault: FaultQueue | None = None,
        *,
        auto: bool = False,
        geometry: Geometry = DEFAULT_GEOMETRY,
    ) -> None:
        super().__init__(table, iommu, fault)
        try:
            ioas.add_domain(self, geometry)
        except KernelError:
            super().release()
            table.remove(self)
            raise
        self.ioas = ioas
        self.flags = flags
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
        self.ioas.remove_domain(self)
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

    user_managed = True

    def __init__(
        self, table: ObjectTable, iommu: CData, parent: PagingHWPT, data: bytes, fault: FaultQueue | None = None
    ) -> None:
        super().__init__(table, iommu, fault)
        self.parent = parent
        self.data = data
        """The driver's description of it, as given."""
        parent.hold()

    def release(self) -> None:
        """Let go of the parent, and the fault queue."""
        super().release()
        self.parent.put()


def check_paging(version: KernelVersion, flags: int, data: bytes) -> None:
    """Raises: KernelError(EOPNOTSUPP), a paging table cannot be made so."""
    # int(): an inverted flag enumeration has only the bits that it knows.
    queue_on_parent = HwptAllocFlags.NEST_PARENT | HwptAllocFlags.FAULT_ID_VALID
    if flags & ~int(version.paging_flags) or flags & queue_on_parent == queue_on_parent or data:
        raise KernelError(errno.EOPNOTSUPP, ALLOC)


def check_nested(
    version: KernelVersion, flags: int, parent: PagingHWPT, nested: NestedFormat, iommu: CData, kind: int, data: bytes
) -> None:
    """Raises: KernelError(EOPNOTSUPP, EINVAL or E2BIG), a nested table cannot be made so, or not on that parent."""
    if flags & ~int(version.nested_flags) or not data:
        raise KernelError(errno.EOPNOTSUPP, ALLOC)
    if parent.auto or not parent.is_nest_parent or parent.iommu != iommu:
        raise KernelError(errno.EINVAL, ALLOC)
    nested.check(kind, data)
