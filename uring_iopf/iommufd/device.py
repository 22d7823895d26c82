"""Devices that are bound to a context: what they are attached to, and what they report.

The emulated kernel's own drivers call these (VFIO in Linux), not a client. Source: drivers/iommu/iommufd/device.c and
fault.c, Linux 6.12.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from uring_iopf._native import CData, check, ffi, lib, made
from uring_iopf.abi.iommufd import FaultFlags, FaultPerm, HwptAllocFlags
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.driver import MOCK_DRIVER, IommuDriver
from uring_iopf.iommufd.events import SELFTEST_EVENT_TYPE, SelftestEvent
from uring_iopf.iommufd.hwpt import HWPT, IOAS, PagingHWPT
from uring_iopf.iommufd.objects import Object, ObjectRef, ObjectTable
from uring_iopf.iommufd.versions import RefusedFunctions
from uring_iopf.iommufd.viommu import Vdevice, VirtualIdentity, virtual_identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.core import Core
    from uring_iopf.iommufd.versions import KernelVersion

MOCK_CAPACITY = 256
"""Requests that a mock device has room for at first."""


class DeviceCounts(NamedTuple):
    """What a device reported."""

    reported: int
    """Faults."""
    refused: int
    """Faults that were answered without asking a client: no queue, no memory, or malformed."""
    dropped: int
    """Faults of unfinished groups that were forgotten without an answer."""


class VirtualFunction(NamedTuple):
    """Says that a device is a PCIe virtual function."""

    pf_has_pri: bool
    """Whether its physical function has the PRI capability."""


class Device(Object):
    """A device bound to a context by `Context.bind`. Its driver is a user until it is unbound."""

    def __init__(
        self,
        table: ObjectTable,
        core: Core,
        version: KernelVersion,
        iommu: CData,
        requester_id: int,
        capacity: int,
        *,
        growable: bool = False,
        driver: IommuDriver,
        virtual_function: VirtualFunction | None = None,
        on_unbind: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(table)
        try:
            self._c: CData | None = made(
                lib.uiopf_device_new(core.c, iommu, self.id, requester_id, capacity, growable), "a device"
            )
        except BaseException:
            table.remove(self)
            raise
        self.hold()  # its driver's
        self._version = version
        self._on_unbind = on_unbind
        self.iommu = iommu
        self.requester_id = requester_id
        self.driver = driver
        self.virtual_function = virtual_function
        self.hwpt: HWPT | None = None
        """What it is attached to."""
        self.vdevice: Vdevice | None = None
        """The virtual device that stands for it."""
        self.virtual: VirtualIdentity | None = None
        """Where its events go, and under which number: as the driver found it at the last attach."""

    @property
    def c(self) -> CData:
        """The C object, for the layers above. Raises: KernelError(ENOENT), it is unbound."""
        if self._c is None:
            raise KernelError(errno.ENOENT, "device")
        return self._c

    def attach(self, pt: ObjectRef) -> HWPT:
        """Attach the device to a table, or to an address space and so to a table made for it. Return the table.

        Raises: KernelError(ENOENT), no such object, or the device is unbound; KernelError(EINVAL), not a table or
        space, another IOMMU's, the device is attached to another, or a virtual function that may not have faults;
        KernelError(EBUSY), attached to this one already (6.12 does not look, and damages its list of devices).
        Source: iommufd_device_attach, Linux 6.12 and 7.2.
        """
        return self._change("attach", pt)

    def replace(self, pt: ObjectRef) -> HWPT:
        """Move the device to another table or address space; return the table. With the same one nothing happens.

        The old table's outstanding groups of this device are answered INVALID after the switch. An unfinished group
        goes along to a table with a fault queue, and is forgotten at one without.

        Raises: KernelError(EINVAL), it is not attached; else as `attach`. Nothing has changed then.
        Source: iommufd_device_replace, Linux 6.12 and 7.2.
        """
        return self._change("replace", pt)

    def detach(self) -> None:
        """Detach the device, if it is attached: its outstanding groups are answered INVALID, unfinished ones forgotten.

        Raises: KernelError(ENOENT), it is unbound. Source: iommufd_device_detach, Linux 6.12.
        """
        c = self.c
        if self.hwpt is not None:
            check(lib.uiopf_detach(c), "detach")
            old, self.hwpt, self.virtual = self.hwpt, None, None
            self.put()
            old.detached()

    def unbind(self) -> None:
        """Detach the device if need be, and end the binding, as VFIO does when a device's file is closed.

        Raises: KernelError(ENOENT), it is unbound already. Source: iommufd_device_unbind, Linux 6.12.
        """
        self.detach()
        self.put()
        self._table.destroy(self, "unbind")

    def report(
        self, grpid: int, addr: int, *, pasid: int | None = None, perm: int = FaultPerm.READ, last: bool = True
    ) -> None:
        """Report one page request, as the IOMMU's driver would; *last* completes the group of that index.

        Raises: KernelError(ENOENT), it is unbound; KernelError(EINVAL), nothing takes the fault, and it has been
        answered INVALID; KernelError(ENOMEM), dropped. Source: iommu_report_device_fault, Linux 6.12.
        """
        flags = (FaultFlags.LAST_PAGE if last else 0) | (0 if pasid is None else FaultFlags.PASID_VALID)
        check(
            lib.uiopf_device_report(self.c, flags, pasid or 0, grpid, perm, addr),
            "iommu_report_device_fault",
        )

    def counts(self) -> DeviceCounts:
        """What it reported. Raises: KernelError(ENOENT), it is unbound."""
        counts = ffi.new("struct uiopf_device_counts *")
        lib.uiopf_device_get_counts(self.c, counts)
        return DeviceCounts(counts.reported, counts.refused, counts.dropped)

    def release(self) -> None:
        """Free it. It is detached. A virtual device goes before it."""
        if self.vdevice is not None:
            self.vdevice.revoke()
        if self._on_unbind is not None:
            self._on_unbind()
        lib.uiopf_device_free(self.c)
        self._c = None

    # ---- attach and replace ----

    def _change(self, call: str, pt: ObjectRef) -> HWPT:
        """iommufd_device_change_pt()."""
        if not self.exists:
            raise KernelError(errno.ENOENT, call)
        target = self._table.get(pt, Object, call)
        if isinstance(target, HWPT):
            self._switch(call, target)
            return target
        if isinstance(target, IOAS):
            return self._switch_to_space(call, target)
        raise KernelError(errno.EINVAL, call)

    def _switch_to_space(self, call: str, ioas: IOAS) -> HWPT:
        """iommufd_device_auto_get_domain(): the first table made for the space that fits, or a new one."""
        for hwpt in ioas.auto_hwpts:
            if hwpt.iommu == self.iommu:
                self._switch(call, hwpt)
                return hwpt
        hwpt = PagingHWPT(self._table, self.iommu, ioas, HwptAllocFlags(0), auto=True)
        try:
            self._switch(call, hwpt)
        except BaseException:
            self._table.destroy(hwpt, call)
            raise
        return hwpt

    def _switch(self, call: str, hwpt: HWPT) -> None:
        """iommufd_device_do_attach(), iommufd_device_do_replace()."""
        old = self.hwpt
        if call == "attach":
            if old is not None:
                raise KernelError(errno.EBUSY if old is hwpt else errno.EINVAL, call)
        elif old is None:
            raise KernelError(errno.EINVAL, call)
        elif old is hwpt:
            return
        if hwpt.iommu != self.iommu or self._refused(hwpt):
            raise KernelError(errno.EINVAL, call)
        virtual = virtual_identity(self, hwpt, call)
        switch = lib.uiopf_attach if old is None else lib.uiopf_replace
        check(switch(self.c, hwpt.fault.c if hwpt.fault else ffi.NULL, hwpt.user_managed), call)
        hwpt.hold()
        self.hwpt, self.virtual = hwpt, virtual
        if old is None:
            self.hold()
        else:
            old.detached()

    def _refused(self, hwpt: HWPT) -> bool:
        """Whether it is a virtual function that may not use this table.

        6.12 asks only when faults are switched on (iommufd_fault_iopf_enable), 7.2 at every replace: the same, since
        nothing brings such a function to a first table with a queue.
        """
        if self.virtual_function is None or hwpt.fault is None:
            return False
        return self._version.refused_functions is RefusedFunctions.ALL or self.virtual_function.pf_has_pri


class SelftestDevice(Object):
    """The selftest's own object, which owns a mock device: destroying it detaches and unbinds the device."""

    def __init__(self, table: ObjectTable) -> None:
        super().__init__(table)
        self.device: MockDevice | None = None

    def release(self) -> None:
        """Detach and unbind the device."""
        if self.device is not None:
            self.device._unbind_from_selftest()


class MockDevice(Device):
    """A device behind the mock IOMMU, made by `Context.mock_device`. It may have any number of requests outstanding."""

    def __init__(self, table: ObjectTable, core: Core, version: KernelVersion, iommu: CData, pt: ObjectRef) -> None:
        self.stdev = SelftestDevice(table)
        """The object to destroy when the device shall go."""
        try:
            super().__init__(table, core, version, iommu, 0, MOCK_CAPACITY, growable=True, driver=MOCK_DRIVER)
            self.stdev.device = self
            self.attach(pt)
        except BaseException:
            table.destroy(self.stdev, "IOMMU_TEST_OP_MOCK_DOMAIN")
            raise

    def raise_event(self) -> None:
        """Report an event of the selftest's type to the virtual IOMMU of what it is attached to.

        Raises: KernelError(ENOENT), it is attached to no nested table on one, or has the virtual id 0 there, or is
        gone; else as `Viommu.report_event`. Source: iommufd_test_trigger_vevent, Linux 7.2.
        """
        if not self.exists or self.virtual is None or not self.virtual.virt_id:
            raise KernelError(errno.ENOENT, "IOMMU_TEST_OP_TRIGGER_VEVENT")
        viommu, virt_id = self.virtual
        viommu.report_event(SELFTEST_EVENT_TYPE, SelftestEvent(virt_id).pack())

    def unbind(self) -> None:
        """Destroy the selftest's object, and with it the device. Raises: KernelError(ENOENT), it is gone."""
        self._table.destroy(self._table.get(self.stdev, SelftestDevice, "IOMMU_DESTROY"), "IOMMU_DESTROY")

    def _unbind_from_selftest(self) -> None:
        super().unbind()
