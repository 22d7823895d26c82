"""The mock IOMMU of Linux's iommufd selftest. Faults are reported by hand, and a log keeps the answers.

Source: drivers/iommu/iommufd/selftest.c, Linux 6.12.
"""

from __future__ import annotations

import errno
import struct
from types import MappingProxyType
from typing import Final, NamedTuple

from uring_iopf._native import CIommu, CMock, ffi, lib
from uring_iopf.core import Core
from uring_iopf.errors import check_is
from uring_iopf.handles import Handle, no_room, owned
from uring_iopf.iommufd.drivers.base import DriverResponse, HardwareInfo, IommuDriver, NestedFormat, ViommuFormat
from uring_iopf.iommufd.geometry import Geometry

MOCK_VIOMMU_TYPE: Final = 0xDEADBEEF
"""The type of the mock's virtual IOMMU. Source: iommufd_test.h, ``IOMMU_VIOMMU_TYPE_SELFTEST``, Linux 7.2."""

MOCK_VEVENTQ_TYPE: Final = 0xBEEFBEEF
"""The type of its event queue. Source: iommufd_test.h, ``IOMMU_VEVENTQ_TYPE_SELFTEST``, Linux 7.2."""

MOCK_FORMAT: Final = NestedFormat(data_type=0xDEAD, size_bytes=4, wrong_type=errno.EOPNOTSUPP)
"""The description of its nested tables. Source: iommufd_test.h, IOMMU_HWPT_DATA_SELFTEST, Linux 6.12."""

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


class MockIommu(Handle[CIommu]):
    """A mock IOMMU on a core."""

    _what = "mock IOMMU"
    _mock: CMock | None = None

    def __init__(self, core: Core) -> None:
        super().__init__()
        check_is("a Core", Core, core=core)
        self._on = core
        self._kept: list[MockResponse] = []
        self._mock = owned(lib.uiopf_mock_free, lib.uiopf_mock_new, core.c)
        if self._mock is None:
            raise no_room("mock IOMMU")
        self._make(lib.uiopf_iommu_let_go, lib.uiopf_mock_hold_iommu, self._mock)

    def take(self) -> list[MockResponse]:
        """Return the answers in the log, oldest first, and empty the log. After `close` it returns the last ones.

        Raises: MemoryError, the log had no memory, so answers are missing.
        """
        mock = self._mock
        if mock is not None:
            if lib.uiopf_mock_lost(mock):
                raise MemoryError("a mock IOMMU had no memory for its log, so answers are missing in it")
            out = ffi.new("struct uiopf_mock_response[]", _BATCH)
            while n := lib.uiopf_mock_take(mock, out, _BATCH):
                self._kept += [
                    MockResponse(one.device_id, one.pasid, one.grpid, DriverResponse(one.code)) for one in out[0:n]
                ]
        taken, self._kept = self._kept, []
        return taken

    def close(self) -> None:
        """Keep the log, and free the IOMMU with its last device. Closing again does nothing."""
        self._kept = self.take()
        self._mock = self._c = None

    def _disown(self) -> None:
        super()._disown()
        self._mock = None
