"""VT-d, as its driver describes it to iommufd. Source: drivers/iommu/intel/iommu.c, Linux 6.12 and 7.2."""

from __future__ import annotations

import errno
import struct
from typing import Final

from uring_iopf.abi.iommufd import HwInfoType, HwptDataType
from uring_iopf.iommufd.drivers.base import HardwareInfo, IommuDriver, NestedFormat

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

VTD_FORMAT: Final = NestedFormat(data_type=HwptDataType.VTD_S1, size_bytes=24, wrong_type=errno.EOPNOTSUPP)
"""Its first stage. Source: iommufd.h, iommu_hwpt_vtd_s1, Linux 6.12."""
VTD_DRIVER: Final = IommuDriver(
    "intel",
    VTD_FORMAT,
    HardwareInfo(
        info_type=HwInfoType.INTEL_VTD,
        info=struct.pack("<2I2Q", 0, 0, _CAP, _ECAP),  # iommu_hw_info_vtd
        ats=True,
    ),
    user_pasid_tables=True,
    pasids=True,
    nested_pasids=True,
)
"""VT-d in scalable mode. Linux attaches each of its PASIDs; here a nested table takes those that are not, so that a
client need not know beforehand which PASIDs a function will use."""
