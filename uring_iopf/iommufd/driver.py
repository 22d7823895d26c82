"""What an IOMMU's driver adds to iommufd's own rules: one value for each driver.

Source: drivers/iommu/{intel/iommu.c, arm/arm-smmu-v3/arm-smmu-v3-iommufd.c}, iommufd/selftest.c, Linux 7.2.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

from uring_iopf.abi.iommufd import HwptDataType, ViommuType
from uring_iopf.iommufd.hwpt import MOCK_FORMAT, VTD_FORMAT, NestedFormat

SELFTEST_VIOMMU_TYPE: Final = 0xDEADBEEF
"""The mock IOMMU's own type of virtual IOMMU. Source: iommufd_test.h, IOMMU_VIOMMU_TYPE_SELFTEST, Linux 7.2."""

SMMUV3_FORMAT: Final = NestedFormat(data_type=HwptDataType.ARM_SMMUV3, size_bytes=16, wrong_type=errno.EINVAL)
"""The two words of a guest's stream table entry. Source: iommufd.h, iommu_hwpt_arm_smmuv3, Linux 7.2."""


@dataclass(frozen=True)
class IommuDriver:
    """What differs between drivers."""

    name: str
    nested_format: NestedFormat
    """How it takes the description of a nested table."""
    user_pasid_tables: bool
    """Whether a nested table brings the user's PASID table, so that it takes the faults of every PASID."""
    pasids: bool
    """Whether tables can be attached to single PASIDs."""
    viommu_types: frozenset[int]
    """The types of virtual IOMMU it can make (`ViommuType`)."""


MOCK_DRIVER: Final = IommuDriver(
    name="mock",
    nested_format=MOCK_FORMAT,
    user_pasid_tables=True,
    pasids=True,
    viommu_types=frozenset({SELFTEST_VIOMMU_TYPE}),
)
VTD_DRIVER: Final = IommuDriver(
    name="vtd", nested_format=VTD_FORMAT, user_pasid_tables=False, pasids=True, viommu_types=frozenset()
)
SMMUV3_DRIVER: Final = IommuDriver(
    name="smmuv3",
    nested_format=SMMUV3_FORMAT,
    user_pasid_tables=True,
    pasids=True,
    viommu_types=frozenset({ViommuType.ARM_SMMUV3, ViommuType.TEGRA241_CMDQV}),
)
