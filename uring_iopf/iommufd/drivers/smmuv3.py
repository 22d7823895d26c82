"""What the SMMUv3 driver makes of a guest's stream table entry: the description of a nested table.

Source: arm-smmu-v3-iommufd.c, arm_smmu_validate_vste, Linux 7.2; fields: Arm SMMUv3 (IHI 0070), ch. 5.2.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

from uring_iopf.abi.iommufd import VeventqType
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.drivers.driver import HWPT_ALLOC as ALLOC

EVENT_TYPE: Final = VeventqType.ARM_SMMUV3

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
    """Return the entry as the driver keeps it: one that is not valid as zeros, which abort.

    *data*: its first two words, 16 bytes. Raises: KernelError(EIO), it sets what a guest may not, or what is reserved.
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
