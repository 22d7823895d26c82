"""The IOMMU that Linux tests iommufd with: faults are reported by hand, and a log keeps the answers that reach it.

Source: drivers/iommu/iommufd/selftest.c, Linux 6.12.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import CData, ffi, lib, made
from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from uring_iopf.core import Core

MOCK_VIOMMU_TYPE: Final = 0xDEADBEEF
"""The type of the mock's virtual IOMMU. Source: iommufd_test.h, ``IOMMU_VIOMMU_TYPE_SELFTEST``, Linux 7.2."""

MOCK_VEVENTQ_TYPE: Final = 0xBEEFBEEF
"""The type of its event queue. Source: iommufd_test.h, ``IOMMU_VEVENTQ_TYPE_SELFTEST``, Linux 7.2."""

_BATCH = 256


class DriverResponse(enum.IntEnum):
    """What a driver is told to answer: the kernel's own codes, neither the client's nor PCIe's.

    Source: linux/iommu.h, ``iommu_page_response_code``, Linux 6.12.
    """

    SUCCESS = 0
    INVALID = 1
    FAILURE = 2


class MockResponse(NamedTuple):
    """An answer that reached the mock hardware."""

    dev_id: int
    pasid: int
    grpid: int
    code: DriverResponse


class MockIommu:
    """A mock IOMMU on a core."""

    def __init__(self, core: Core) -> None:
        self._c: CData | None = made(lib.uiopf_mock_new(core.c), "a mock IOMMU")
        self._kept: list[MockResponse] = []

    @property
    def c(self) -> CData:
        """The C object as an IOMMU. Raises: UsageError, closed."""
        if self._c is None:
            raise UsageError("this mock IOMMU is closed")
        return lib.uiopf_mock_iommu(self._c)

    def take(self) -> list[MockResponse]:
        """Take the answers out of the log, oldest first. After `close` too: those that the end brought."""
        taken, self._kept = self._kept, []
        if self._c is not None:
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
