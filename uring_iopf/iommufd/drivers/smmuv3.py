"""SMMUv3, with the Tegra241's command queues, and the driver's checks of a guest's stream table entry.

The entry is the description of a nested table. Source: arm-smmu-v3-iommufd.c, arm_smmu_validate_vste,
Linux 7.2; fields: Arm SMMUv3 (IHI 0070), ch. 5.2.
"""

from __future__ import annotations

import errno
import struct
from types import MappingProxyType
from typing import Final

from uring_iopf.abi.iommufd import HwptAllocFlags, HwptDataType, ViommuType
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.drivers.base import HWPT_ALLOC as ALLOC
from uring_iopf.iommufd.drivers.base import HardwareInfo, IommuDriver, NestedFormat, ViommuFormat

_WORDS: Final = struct.Struct("<2Q")


def _bits(last: int, first: int) -> int:
    return (1 << last + 1) - (1 << first)


_VALID: Final = 1
_ABORT, _BYPASS, _S1_TRANSLATE = 0, 4, 5
# Word 0: V, Config, S1Fmt, S1ContextPtr, S1CDMax. Word 1: S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS.
_ALLOWED: Final = (_bits(51, 0) | _bits(63, 59), _bits(7, 0) | _bits(27, 27) | _bits(29, 28))


def _config(word: int) -> int:
    return word >> 1 & 7


def check_stream_table_entry(data: bytes) -> bytes:
    """Return the entry as the driver keeps it. An entry that is not valid becomes zeros, which abort.

    *data*: its first two words, 16 bytes. Raises: KernelError(EIO), it sets reserved bits, or bits not for guests.
    """
    words = _WORDS.unpack(data)
    if not words[0] & _VALID:
        return bytes(_WORDS.size)
    if any(word & ~allowed for word, allowed in zip(words, _ALLOWED, strict=True)):
        raise KernelError(errno.EIO, ALLOC)
    if _config(words[0]) not in (_ABORT, _BYPASS, _S1_TRANSLATE) or words[1] >> 28 & 3 > 1:
        raise KernelError(errno.EIO, ALLOC)
    return data


def translates(data: bytes) -> bool:
    """Whether a device attached to this entry uses the guest's tables, and does not only abort or bypass."""
    return _config(_WORDS.unpack(data)[0]) == _S1_TRANSLATE


SMMUV3_FORMAT: Final = NestedFormat(
    data_type=HwptDataType.ARM_SMMUV3,
    size_bytes=_WORDS.size,
    wrong_type=errno.EINVAL,
    checked=check_stream_table_entry,
    translates=translates,
)
"""SMMUv3's first stage. Source: iommufd.h, iommu_hwpt_arm_smmuv3, Linux 7.2."""
SMMUV3_DRIVER: Final = IommuDriver(
    "arm-smmu-v3",
    SMMUV3_FORMAT,
    HardwareInfo(),
    user_pasid_tables=True,
    pasids=True,
    nested_pasids=False,
    nests_on_parents=False,
    viommu_types=MappingProxyType(
        {
            ViommuType.ARM_SMMUV3: ViommuFormat(),
            ViommuType.TEGRA241_CMDQV: ViommuFormat(
                data_least=16, data_most=16, data_required=True, virtual_id_bits=32
            ),
        }
    ),
    viommu_nested_flags=HwptAllocFlags.FAULT_ID_VALID,
)
"""Source: drivers/iommu/arm/arm-smmu-v3, Linux 7.2."""
