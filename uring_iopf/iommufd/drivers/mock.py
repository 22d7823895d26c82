"""The IOMMU that Linux tests iommufd with: faults are reported by hand, and a log keeps the answers that reach it.

Source: drivers/iommu/iommufd/selftest.c, Linux 6.12.
"""

from __future__ import annotations

import errno
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import CIommu, CMock, ffi, lib, made
from uring_iopf.errors import UsageError
from uring_iopf.iommufd.drivers.base import DriverResponse, HardwareInfo, IommuDriver, NestedFormat, ViommuFormat
from uring_iopf.iommufd.geometry import Geometry

if TYPE_CHECKING:
    from uring_iopf.core import Core

MOCK_VIOMMU_TYPE: Final = 0xDEADBEEF
"""The type of the mock's virtual IOMMU. Source: iommufd_test.h, ``IOMMU_VIOMMU_TYPE_SELFTEST``, Linux 7.2."""

MOCK_VEVENTQ_TYPE: Final = 0xBEEFBEEF
"""The type of its event queue. Source: iommufd_test.h, ``IOMMU_VEVENTQ_TYPE_SELFTEST``, Linux 7.2."""

MOCK_FORMAT: Final = NestedFormat(data_type=0xDEAD, size_bytes=4, wrong_type=errno.EINVAL)
"""How its nested tables are described. Source: iommufd_test.h, IOMMU_HWPT_DATA_SELFTEST, Linux 6.12."""

MOCK_DRIVER: Final = IommuDriver(
    "mock",
    MOCK_FORMAT,
    HardwareInfo(
        geometry=Geometry(2048, 1 << 24, (1 << 31) - 1),
        info_type=0xFEEDBEEF,  # IOMMU_HW_INFO_TYPE_SELFTEST
        info=struct.pack("<2I", 0, 0xDEADBEEF),  # iommu_test_hw_info: flags, test_reg
    ),
    user_pasid_tables=True,
    pasids=True,
    nested_pasids=True,
    viommu_types=MappingProxyType({MOCK_VIOMMU_TYPE: ViommuFormat(data_least=8, data_most=24)}),
    keeps_identity=True,
    passes_over_paging_data=True,
)
"""Source: drivers/iommu/iommufd/selftest.c and iommufd_test.h, Linux 6.12 and 7.2."""

_BATCH = 256


class MockResponse(NamedTuple):
    """An answer that reached the mock hardware."""

    dev_id: int
    pasid: int
    grpid: int
    code: DriverResponse


class MockIommu:
    """A mock IOMMU on a core."""

    def __init__(self, core: Core) -> None:
        self._c: CMock | None = made(lib.uiopf_mock_new(core.c), "a mock IOMMU")
        self._kept: list[MockResponse] = []

    @property
    def c(self) -> CIommu:
        """The C object as an IOMMU. Raises: UsageError, closed."""
        if self._c is None:
            raise UsageError("this mock IOMMU is closed")
        return lib.uiopf_mock_iommu(self._c)

    def take(self) -> list[MockResponse]:
        """Take the answers out of the log, oldest first. After `close` too: those that the end brought.

        Raises: MemoryError, some are missing for want of it.
        """
        taken, self._kept = self._kept, []
        if self._c is not None:
            if lib.uiopf_mock_lost(self._c):
                raise MemoryError("answers are missing in the log of a mock IOMMU")
            out = ffi.new("struct uiopf_mock_response[]", _BATCH)
            while n := lib.uiopf_mock_take(self._c, out, _BATCH):
                taken += [
                    MockResponse(one.device_id, one.pasid, one.grpid, DriverResponse(one.code)) for one in out[0:n]
                ]
        return taken

    def close(self) -> None:
        """Free it, and keep its log. Its devices must be gone."""
        if self._c is not None:
            self._kept = self.take()
            lib.uiopf_mock_free(self._c)
            self._c = None
