"""Virtual IOMMUs, the virtual devices behind them, and their event queues.

A virtual IOMMU stands for the part of a physical one that a guest has: its stage 2 is a nest parent, and nested tables
can be made on it instead. A virtual device says which number the guest has given to a device.

Source: drivers/iommu/iommufd/{viommu,eventq,driver,hw_pagetable}.c, Linux 7.2.
"""

from __future__ import annotations

import errno
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf.abi.iommufd import HwptAllocFlags, ViommuType
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.client_memory import copied
from uring_iopf.iommufd.drivers import smmuv3
from uring_iopf.iommufd.drivers.driver import HWPT_ALLOC as ALLOC
from uring_iopf.iommufd.drivers.driver import MOCK_DRIVER, SMMUV3_DRIVER
from uring_iopf.iommufd.drivers.mock import MOCK_VIOMMU_TYPE
from uring_iopf.iommufd.objects import Object, ObjectRef, ObjectTable
from uring_iopf.iommufd.queues.events import EVENT_BYTES, MOST_EVENTS, EventQueue
from uring_iopf.iommufd.spaces.hwpt import HWPT, NestedHWPT, PagingHWPT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.core import Core
    from uring_iopf.iommufd.client_memory import DriverData
    from uring_iopf.iommufd.devices.device import Device
    from uring_iopf.iommufd.queues.events import Smmuv3Event

VIOMMU_ALLOC, VDEVICE_ALLOC, VEVENTQ_ALLOC = "IOMMU_VIOMMU_ALLOC", "IOMMU_VDEVICE_ALLOC", "IOMMU_VEVENTQ_ALLOC"


class _DataRule(NamedTuple):
    """What a driver takes as the data of VIOMMU_ALLOC."""

    required: bool
    least: int
    """Bytes."""
    most: int


_DATA: Final[Mapping[int, _DataRule]] = MappingProxyType(
    {
        MOCK_VIOMMU_TYPE: _DataRule(required=False, least=8, most=24),
        ViommuType.TEGRA241_CMDQV: _DataRule(required=True, least=16, most=16),
        # ARM_SMMUV3 is not here: it does not look.
    }
)


class Viommu(Object):
    """A virtual IOMMU, which holds its *parent*. Made by `Context.viommu_alloc`.

    What a driver writes back into the *data* (pages to map into the guest) is not emulated.
    """

    def __init__(self, table: ObjectTable, device: Device, parent: PagingHWPT, kind: int, data: DriverData) -> None:
        rule = _DATA.get(kind)
        if parent.iommu != device.iommu:
            raise KernelError(errno.EINVAL, VIOMMU_ALLOC)
        if rule and ((rule.required and not data) or (data and not rule.least <= len(data) <= rule.most)):
            raise KernelError(errno.EINVAL, VIOMMU_ALLOC)
        if rule:
            copied(data)  # and nothing in them matters here
        super().__init__(table)
        self.type = kind
        """`ViommuType`, or the mock's."""
        self.iommu = device.iommu
        """The C object of the IOMMU that it is a part of."""
        self.driver = device.driver
        self.parent = parent
        self.vdevices: dict[int, Vdevice] = {}
        """By virtual id."""
        self._queues: dict[int, VirtualEventQueue] = {}
        parent.hold()

    def release(self) -> None:
        """Let go of the parent."""
        self.parent.put()

    def vdevice_of(self, device: Device) -> Vdevice | None:
        """The virtual device that stands for *device* here. Source: iommufd_viommu_get_vdev_id, Linux 7.2."""
        return device.vdevice if device.vdevice is not None and device.vdevice.viommu is self else None

    def report_event(self, kind: int, data: bytes) -> None:
        """Report an event of type *kind* (`VeventqType`), as a driver does from its interrupt thread.

        A device's reports by hand, these too, are part of the control plane: its one thread makes them.

        Raises: KernelError(EOPNOTSUPP), no queue of that type; else as `EventQueue.report`.
        Source: iommufd_viommu_report_event, Linux 7.2.
        """
        queue = self._queues.get(kind)
        if queue is None:
            raise KernelError(errno.EOPNOTSUPP, "iommufd_viommu_report_event")
        queue.report(data)

    def check_nested(self, device: Device, flags: int, data_type: int, data: DriverData) -> bytes:
        """Return the description of a nested table here, as the driver keeps it.

        Raises: KernelError(EINVAL), *device* is behind another IOMMU, or *data* are of another type or length;
        KernelError(EOPNOTSUPP), flags that it does not take, or no data; KernelError(EIO), a description that cannot
        be. Source: iommufd_viommu_alloc_hwpt_nested, Linux 7.2.
        """
        if device.iommu != self.iommu:
            raise KernelError(errno.EINVAL, ALLOC)
        if flags & ~int(HwptAllocFlags.FAULT_ID_VALID | HwptAllocFlags.PASID) or not data:
            raise KernelError(errno.EOPNOTSUPP, ALLOC)
        if self.driver is SMMUV3_DRIVER and flags & HwptAllocFlags.PASID:
            raise KernelError(errno.EOPNOTSUPP, ALLOC)
        copy = self.driver.nested_format.copy(data_type, data)
        return smmuv3.check_stream_table_entry(copy) if self.driver is SMMUV3_DRIVER else copy


class Vdevice(Object):
    """A device by its number in a guest. Made by `Context.vdevice_alloc`; it holds its *viommu*.

    The device is not held: when it is unbound, the virtual device goes first, and its id names nothing ever after.
    """

    def __init__(self, table: ObjectTable, viommu: Viommu, device: Device, virt_id: int) -> None:
        if device.iommu != viommu.iommu:
            raise KernelError(errno.EINVAL, VDEVICE_ALLOC)
        if device.vdevice is not None or virt_id in viommu.vdevices:
            raise KernelError(errno.EEXIST, VDEVICE_ALLOC)
        if viommu.type == ViommuType.TEGRA241_CMDQV and virt_id > 0xFFFF_FFFF:
            raise KernelError(errno.EINVAL, VDEVICE_ALLOC)
        super().__init__(table)
        self.viommu = viommu
        self.device = device
        self.virt_id = virt_id
        viommu.hold()
        viommu.vdevices[virt_id] = self
        device.vdevice = self

    def release(self) -> None:
        """Let go of the virtual IOMMU."""
        self.device.vdevice = None
        del self.viommu.vdevices[self.virt_id]
        self.viommu.put()

    def revoke(self) -> None:
        """End it because the device goes. Source: iommufd_device_pre_destroy, Linux 7.2."""
        self.release()
        self._table.tombstone(self)


class VirtualEventQueue(EventQueue):
    """The event queue of one *type* of a virtual IOMMU, which it holds. Made by `Context.veventq_alloc`, open."""

    def __init__(self, table: ObjectTable, core: Core, viommu: Viommu, kind: int, depth: int) -> None:
        if kind in viommu._queues:
            raise KernelError(errno.EEXIST, VEVENTQ_ALLOC)
        self.viommu = viommu
        self.type = kind
        """`VeventqType`, or the mock's. It need not be one that the virtual IOMMU reports."""
        super().__init__(table, core, depth, EVENT_BYTES.get(kind), VEVENTQ_ALLOC)
        viommu.hold()
        viommu._queues[kind] = self

    def release(self) -> None:
        """Free the queue, with what is unread, and let go of the virtual IOMMU. Raises: KernelError(EBUSY)."""
        super().release()
        del self.viommu._queues[self.type]
        self.viommu.put()


# ---- the ioctls, from where the objects are looked up ----


def alloc_viommu(table: ObjectTable, device: Device, hwpt: ObjectRef, kind: int, data: DriverData) -> Viommu:
    """IOMMU_VIOMMU_ALLOC, once the device is found."""
    if kind not in device.driver.viommu_types:
        raise KernelError(errno.EOPNOTSUPP, VIOMMU_ALLOC)
    parent = table.get(hwpt, PagingHWPT, VIOMMU_ALLOC)
    if not parent.is_nest_parent:
        raise KernelError(errno.EINVAL, VIOMMU_ALLOC)
    return Viommu(table, device, parent, kind, data)


def alloc_veventq(
    table: ObjectTable, core: Core, viommu: ObjectRef, kind: int, depth: int, flags: int
) -> VirtualEventQueue:
    """IOMMU_VEVENTQ_ALLOC: what can be refused by itself is, before the virtual IOMMU is looked for."""
    if flags or not kind:
        raise KernelError(errno.EOPNOTSUPP, VEVENTQ_ALLOC)
    if not 1 <= depth <= MOST_EVENTS:
        raise KernelError(errno.EINVAL, VEVENTQ_ALLOC)
    return VirtualEventQueue(table, core, table.get(viommu, Viommu, VEVENTQ_ALLOC), kind, depth)


# ---- what a driver remembers of an attached device ----


class VirtualIdentity(NamedTuple):
    """Which virtual IOMMU gets a device's events, and which number stands in them."""

    viommu: Viommu
    virt_id: int


def virtual_identity(device: Device, hwpt: HWPT, call: str) -> VirtualIdentity | None:
    """What the driver remembers of *device* when it is attached to *hwpt*, itself and not a PASID; nothing changes.

    None: no nested table on a virtual IOMMU, or on SMMUv3 one that does not translate, without a virtual device.
    Raises: KernelError(ENOENT), the device has no virtual device on the table's virtual IOMMU.
    Source: mock_domain_nop_attach, arm_smmu_attach_prepare_vmaster, Linux 7.2.
    """
    if not isinstance(hwpt, NestedHWPT) or hwpt.viommu is None:
        return None
    viommu = hwpt.viommu
    vdevice = viommu.vdevice_of(device)
    if vdevice is None:
        if device.driver is SMMUV3_DRIVER and not smmuv3.translates(hwpt.data):
            return None
        raise KernelError(errno.ENOENT, call)
    if device.driver is MOCK_DRIVER and device.virtual is not None and device.virtual.viommu is viommu:
        return device.virtual  # the mock looks again only when the virtual IOMMU is another
    return VirtualIdentity(viommu, vdevice.virt_id)


def forward_smmuv3_event(device: Device, event: Smmuv3Event) -> None:
    """Report an event of the hardware's queue to the guest of *device*, with the number that it has there.

    Raises: KernelError(EOPNOTSUPP), it is not for a guest (a stall is for the fault queue), or there is no guest or no
    queue; else as `Viommu.report_event`. Source: arm_smmu_handle_event, Linux 7.2.
    """
    if not event.forwarded or device.virtual is None:
        raise KernelError(errno.EOPNOTSUPP, "arm_smmu_handle_event")
    seen = event.seen_by_guest(device.virtual.virt_id)
    device.virtual.viommu.report_event(smmuv3.EVENT_TYPE, seen.pack())
