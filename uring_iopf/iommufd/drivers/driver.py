"""What iommufd asks an IOMMU's driver: what it can do, and how it takes the tables that a user describes."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from uring_iopf.abi.iommufd import HwptDataType, ViommuType
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.client_memory import copied
from uring_iopf.iommufd.drivers.mock import MOCK_VIOMMU_TYPE

if TYPE_CHECKING:
    from uring_iopf.iommufd.client_memory import DriverData

HWPT_ALLOC: Final = "IOMMU_HWPT_ALLOC"


@dataclass(frozen=True)
class NestedFormat:
    """How a driver takes the description of a nested table."""

    data_type: int
    """``iommu_hwpt_alloc.data_type``."""
    size_bytes: int
    """Of the struct that describes it."""
    wrong_type: int
    """The errno for another type."""

    def copy(self, data_type: int, data: DriverData) -> bytes:
        """Raises: KernelError, as ``iommu_copy_struct_from_user`` and the driver before it."""
        if data_type != self.data_type:
            raise KernelError(self.wrong_type, HWPT_ALLOC)
        if len(data) != self.size_bytes:
            raise KernelError(errno.EINVAL, HWPT_ALLOC)  # a longer one too, unlike an ioctl's own struct
        return copied(data)

    @property
    def blank(self) -> bytes:
        """A description in which everything is 0."""
        return bytes(self.size_bytes)


MOCK_FORMAT: Final = NestedFormat(data_type=0xDEAD, size_bytes=4, wrong_type=errno.EINVAL)
"""The selftest's mock IOMMU. Source: iommufd_test.h, IOMMU_HWPT_DATA_SELFTEST, Linux 6.12."""
VTD_FORMAT: Final = NestedFormat(data_type=HwptDataType.VTD_S1, size_bytes=24, wrong_type=errno.EOPNOTSUPP)
"""VT-d's first stage. Source: iommufd.h, iommu_hwpt_vtd_s1, and intel/iommu.c, Linux 6.12."""
SMMUV3_FORMAT: Final = NestedFormat(data_type=HwptDataType.ARM_SMMUV3, size_bytes=16, wrong_type=errno.EINVAL)
"""SMMUv3's first stage. Source: iommufd.h, iommu_hwpt_arm_smmuv3, Linux 7.2."""


@dataclass(frozen=True)
class IommuDriver:
    """A driver's answers. Devices behind it share one `MockIommu` or other model."""

    name: str
    nested_format: NestedFormat
    user_pasid_tables: bool
    """A nested table attached to a device takes the faults of every PASID that has no table of its own
    (``iommu_ops.user_pasid_table``)."""
    pasids: bool
    """Paging tables can be attached to PASIDs (``iommu_domain_ops.set_dev_pasid``)."""
    nested_pasids: bool
    """Nested tables can."""
    viommu_types: frozenset[int] = field(default_factory=frozenset)
    """``iommu_viommu_alloc.type`` that it has."""

    def has_pasids(self, *, nested: bool) -> bool:
        """Whether such a table can be attached to a PASID."""
        return self.nested_pasids if nested else self.pasids


MOCK_DRIVER: Final = IommuDriver(
    "mock",
    MOCK_FORMAT,
    user_pasid_tables=True,
    pasids=True,
    nested_pasids=True,
    viommu_types=frozenset({MOCK_VIOMMU_TYPE}),
)
"""Source: drivers/iommu/iommufd/selftest.c, Linux 6.12 and 7.2."""
VTD_DRIVER: Final = IommuDriver("intel", VTD_FORMAT, user_pasid_tables=True, pasids=True, nested_pasids=True)
"""VT-d. Linux attaches each of its PASIDs; here a nested table takes those that are not, so that a client need not know
beforehand which PASIDs a function will use."""
SMMUV3_DRIVER: Final = IommuDriver(
    "arm-smmu-v3",
    SMMUV3_FORMAT,
    user_pasid_tables=True,
    pasids=True,
    nested_pasids=False,
    viommu_types=frozenset({ViommuType.ARM_SMMUV3, ViommuType.TEGRA241_CMDQV}),
)
"""SMMUv3, with the Tegra241's command queues. Source: drivers/iommu/arm/arm-smmu-v3, Linux 7.2."""
