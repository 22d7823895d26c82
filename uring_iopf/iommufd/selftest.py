"""The devices that Linux tests iommufd with, behind the mock IOMMU.

Source: drivers/iommu/iommufd/selftest.c, Linux 6.12 and 7.2.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

from uring_iopf._native import lib
from uring_iopf.errors import KernelError
from uring_iopf.handles import Step
from uring_iopf.iommufd.devices.device import Device
from uring_iopf.iommufd.drivers.mock import MOCK_DRIVER, MOCK_VEVENTQ_TYPE
from uring_iopf.iommufd.objects import Object, ObjectRef, ObjectTable
from uring_iopf.iommufd.queues.events import SelftestEvent

if TYPE_CHECKING:
    from uring_iopf._native import CIommu
    from uring_iopf.core import Core
    from uring_iopf.iommufd.versions import KernelVersion

MOCK_CAPACITY = 256
"""The requests for which a mock device has room at first."""
MOCK_HAS_PASIDS = 4
"""A mock device's flag: it supports PASIDs. Source: iommufd_test.h, MOCK_FLAGS_DEVICE_PASID, Linux 7.2."""
MOCK_REFUSES_PASID = 1024
"""A mock device fails every second time that a table is set for this PASID: ENOMEM, to test the way back of a replace.
Source: selftest.c, mock_domain_set_dev_pasid_nop, Linux 7.2."""
MOCK_PASIDS = 1 << 20
"""The number of PASIDs of such a device. Source: iommufd_test.h, MOCK_PASID_WIDTH, Linux 7.2."""


class SelftestDevice(Object):
    """The selftest's own object, which owns a mock device: destroying it detaches and unbinds the device."""

    def __init__(self, table: ObjectTable) -> None:
        super().__init__(table)
        self.device: MockDevice | None = None

    def leaving(self) -> list[Step]:
        """The steps that unbind the device, which is detached."""
        if self.device is None:
            return []
        return [*self.device._unbinding_from_selftest(), partial(setattr, self, "device", None)]


class MockDevice(Device):
    """A device behind the mock IOMMU, made by `Context.mock_device`. It may have any number of requests outstanding."""

    def __init__(
        self, table: ObjectTable, core: Core, version: KernelVersion, iommu: CIommu, pt: ObjectRef, flags: int = 0
    ) -> None:
        if flags & ~version.mock_device_flags:
            raise KernelError(errno.EINVAL, "IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS")
        self._refuses_next = False
        self.stdev = SelftestDevice(table).enter()
        """The selftest's object. Destroying it removes the device."""
        try:
            super().__init__(
                table,
                core,
                version,
                iommu,
                0,
                MOCK_CAPACITY,
                growable=True,
                driver=MOCK_DRIVER,
                max_pasids=MOCK_PASIDS if flags & MOCK_HAS_PASIDS else 0,
            )
            table.begin()
            self.enter(partial(setattr, self.stdev, "device", self))
            self.attach(pt)
        except BaseException:
            table.destroy(self.stdev, "IOMMU_TEST_OP_MOCK_DOMAIN")
            raise

    def raise_event(self) -> None:
        """Report an event of the selftest's type to the virtual IOMMU of the table that it is attached to.

        Raises: KernelError(ENOENT), it is attached to no nested table on one, or has the virtual id 0 there, or is
        gone; else as `Viommu.report_event`. Source: iommufd_test_trigger_vevent, Linux 7.2.
        """
        if not self.exists or self.unplugged or self.virtual is None or not self.virtual.virt_id:
            raise KernelError(errno.ENOENT, "IOMMU_TEST_OP_TRIGGER_VEVENT")
        viommu, virt_id = self.virtual
        viommu.report_event(MOCK_VEVENTQ_TYPE, SelftestEvent(virt_id).pack())

    def unbind(self) -> None:
        """Destroy the selftest's object, and with it the device. Raises: KernelError(ENOENT), it is gone."""
        self._table.destroy(self._table.get(self.stdev, SelftestDevice, "IOMMU_DESTROY"), "IOMMU_DESTROY")

    def _setting_pasid(self, call: str, pasid: int) -> list[Step]:
        if pasid != MOCK_REFUSES_PASID:
            return []
        if self._refuses_next:
            self._refuses_next = False
            raise KernelError(errno.ENOMEM, call)
        return [partial(setattr, self, "_refuses_next", True)]

    def _clearing_pasid(self, pasid: int) -> list[Step]:
        return [partial(setattr, self, "_refuses_next", False)] if pasid == MOCK_REFUSES_PASID else []

    def _unbinding_from_selftest(self) -> list[Step]:
        """iommufd_selftest_destroy(): only the device itself is detached.

        PASIDs that are still attached keep the object, its id and its tables until the context ends. The device is gone
        then, and answers reach no hardware (recorded: random-2065, partial-fault-with-two-attached-pasids).
        """
        if not self.pasids():
            return self.unbinding()
        self.detach()
        self._table.begin()
        return [
            *([] if self.vdevice is None else self.vdevice.revoking()),
            partial(lib.uiopf_device_unplug, self.c),
            partial(setattr, self, "unplugged", True),
            self.putting(),
        ]

    def end_leak(self) -> None:
        """Detach the PASIDs of a device that was unplugged with them, at the end of the context."""
        for pasid in self.pasids():
            self._detach(pasid)
