"""The rules of an IOMMU's driver, as data: each driver is an `IommuDriver`, and each of its rules is a field."""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from uring_iopf.abi.iommufd import HwInfoType, HwptAllocFlags
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.client_memory import copied
from uring_iopf.iommufd.geometry import DEFAULT_GEOMETRY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uring_iopf.iommufd.client_memory import DriverData
    from uring_iopf.iommufd.geometry import Geometry

HWPT_ALLOC: Final = "IOMMU_HWPT_ALLOC"
VIOMMU_ALLOC: Final = "IOMMU_VIOMMU_ALLOC"


class DriverResponse(enum.IntEnum):
    """The kernel's answer to a driver. These codes are neither the client's (`PageResponse`) nor PCIe's.

    Source: linux/iommu.h, ``iommu_page_response_code``, Linux 6.12.
    """

    SUCCESS = 0
    INVALID = 1
    FAILURE = 2


def _as_given(data: bytes) -> bytes:
    return data


def _always(_data: bytes) -> bool:
    return True


@dataclass(frozen=True)
class NestedFormat:
    """A driver's format for the description of a nested table."""

    data_type: int
    """``iommu_hwpt_alloc.data_type``."""
    size_bytes: int
    """The size of the struct, in bytes."""
    wrong_type: int
    """The errno for another type."""
    checked: Callable[[bytes], bytes] = _as_given
    """Returns the description as the driver keeps it. Raises: KernelError, a guest may not have it."""
    translates: Callable[[bytes], bool] = _always
    """Whether a device attached by this description uses the guest's tables, and does not only abort or bypass."""

    def copy(self, data_type: int, data: DriverData) -> bytes:
        """Copy and check a description. Raises: KernelError, as ``iommu_copy_struct_from_user`` and the driver."""
        if data_type != self.data_type:
            raise KernelError(self.wrong_type, HWPT_ALLOC)
        if len(data) != self.size_bytes:
            raise KernelError(errno.EINVAL, HWPT_ALLOC)  # a longer one too, unlike an ioctl's own struct
        return self.checked(copied(data))

    @property
    def blank(self) -> bytes:
        """A description in which everything is 0."""
        return bytes(self.size_bytes)


@dataclass(frozen=True)
class HardwareInfo:
    """A driver's information on its IOMMU. Source: GET_HW_INFO, Linux 6.12 and 7.2."""

    geometry: Geometry = DEFAULT_GEOMETRY
    """The geometry of its paging tables."""
    info_type: int = HwInfoType.NONE
    """``iommu_hw_info.out_data_type``; NONE: the driver gives no information, as some in Linux."""
    info: bytes = b""
    """The struct of that type."""
    ats: bool = False
    """Whether its devices can use ATS."""


@dataclass(frozen=True)
class ViommuFormat:
    """A driver's rules for one type of virtual IOMMU."""

    data_least: int = 0
    """The least bytes of data in VIOMMU_ALLOC, if it has any."""
    data_most: int | None = None
    """The most bytes of data; None: the driver ignores the data."""
    data_required: bool = False
    """Whether data are required."""
    virtual_id_bits: int = 64
    """The most bits of a device's number in the guest."""

    def check_data(self, data: DriverData) -> None:
        """Raises: KernelError(EINVAL), missing, too short or too long; KernelError(EFAULT), a byte has no window."""
        if self.data_most is None:
            return
        if not data and self.data_required:
            raise KernelError(errno.EINVAL, VIOMMU_ALLOC)
        if data and not self.data_least <= len(data) <= self.data_most:
            raise KernelError(errno.EINVAL, VIOMMU_ALLOC)
        copied(data)  # the content does not matter here


@dataclass(frozen=True)
class IommuDriver:
    """The rules of a driver. Devices behind it share one `MockIommu` or another model."""

    name: str
    nested_format: NestedFormat
    hardware: HardwareInfo
    user_pasid_tables: bool
    """A nested table attached to a device takes the faults of every PASID that has no table of its own
    (``iommu_ops.user_pasid_table``)."""
    pasids: bool
    """Paging tables can be attached to PASIDs (``iommu_domain_ops.set_dev_pasid``)."""
    nested_pasids: bool
    """Nested tables can."""
    nests_on_parents: bool = True
    """Nested tables can be made on a paging table; else on a virtual IOMMU only."""
    viommu_types: Mapping[int, ViommuFormat] = field(default_factory=lambda: MappingProxyType({}))
    """The types of virtual IOMMU that it has, by ``iommu_viommu_alloc.type``."""
    viommu_nested_flags: HwptAllocFlags = HwptAllocFlags.FAULT_ID_VALID | HwptAllocFlags.PASID
    """The flags that a nested table on a virtual IOMMU can have."""
    keeps_identity: bool = False
    """It looks up a device's virtual id only when the virtual IOMMU changes; False: at each attach."""
    passes_over_paging_data: bool = False
    """It ignores the data of a paging table, in kernels with `KernelVersion.mock_passes_over_paging_data`."""

    def has_pasids(self, *, nested: bool) -> bool:
        """Whether such a table can be attached to a PASID."""
        return self.nested_pasids if nested else self.pasids
