"""What iommufd learns of an IOMMU from its driver: the reach of its tables, and what GET_HW_INFO tells.

Source: drivers/iommu/intel/iommu.c and drivers/iommu/iommufd/selftest.c, Linux 6.12 and 7.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from uring_iopf.abi.iommufd import HwInfoType
from uring_iopf.iommufd.drivers.driver import MOCK_DRIVER, VTD_DRIVER
from uring_iopf.iommufd.spaces.ioas import DEFAULT_GEOMETRY, Geometry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.iommufd.drivers.driver import IommuDriver


@dataclass(frozen=True)
class HardwareInfo:
    """What one driver says."""

    geometry: Geometry
    """Of its paging tables."""
    info_type: int
    """``iommu_hw_info.out_data_type``; NONE where the driver tells nothing."""
    info: bytes
    """The struct of that type."""
    max_pasid_log2: int
    """Of its devices; 0 where PASIDs are off."""
    ats: bool
    """Whether its devices can use ATS."""


# Registers of the VT-d that is emulated. Source: VT-d 4.x, 11.4.2 and 11.4.3.
_CAP: Final = 6 | 0x4 << 8 | 47 << 16
"""65,536 domains, tables of four levels, addresses of 48 bits."""
_COHERENT, _QUEUED_INVALIDATION, _DEVICE_TLB, _SNOOP_CONTROL = 1 << 0, 1 << 1, 1 << 2, 1 << 7
_NESTED, _PAGE_REQUESTS, _PASID, _SCALABLE = 1 << 26, 1 << 29, 1 << 40, 1 << 43
_SECOND_STAGE, _FIRST_STAGE = 1 << 46, 1 << 47
_PASID_BITS: Final = 20
_ECAP: Final = (
    _COHERENT
    | _QUEUED_INVALIDATION
    | _DEVICE_TLB
    | _SNOOP_CONTROL
    | _NESTED
    | _PAGE_REQUESTS
    | (_PASID_BITS - 1) << 35
    | _PASID
    | _SCALABLE
    | _SECOND_STAGE
    | _FIRST_STAGE
)

MOCK_HARDWARE: Final = HardwareInfo(
    geometry=Geometry(2048, 1 << 24, (1 << 31) - 1),
    info_type=0xFEEDBEEF,  # IOMMU_HW_INFO_TYPE_SELFTEST
    info=struct.pack("<2I", 0, 0xDEADBEEF),  # iommu_test_hw_info: flags, test_reg
    max_pasid_log2=0,
    ats=False,
)
"""The selftest's mock IOMMU. Source: iommufd_test.h and selftest.c, Linux 6.12."""
VTD_HARDWARE: Final = HardwareInfo(
    geometry=DEFAULT_GEOMETRY,
    info_type=HwInfoType.INTEL_VTD,
    info=struct.pack("<2I2Q", 0, 0, _CAP, _ECAP),  # iommu_hw_info_vtd
    max_pasid_log2=_PASID_BITS,
    ats=True,
)
"""VT-d in scalable mode."""
_SILENT: Final = HardwareInfo(
    geometry=DEFAULT_GEOMETRY, info_type=HwInfoType.NONE, info=b"", max_pasid_log2=0, ats=False
)

_HARDWARE: Final[Mapping[str, HardwareInfo]] = MappingProxyType(
    {MOCK_DRIVER.name: MOCK_HARDWARE, VTD_DRIVER.name: VTD_HARDWARE}
)


def hardware_info(driver: IommuDriver) -> HardwareInfo:
    """Of the IOMMU that this driver is for. One that is not here tells nothing, as some in Linux."""
    return _HARDWARE.get(driver.name, _SILENT)
