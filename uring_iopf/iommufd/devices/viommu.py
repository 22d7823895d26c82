"""Virtual IOMMUs, the virtual devices behind them, and their event queues.

A virtual IOMMU is a guest's part of a physical IOMMU. Its stage 2 is a nest parent. Nested tables can be made on the
virtual IOMMU instead of the parent. A virtual device has the guest's number of a device.

Source: drivers/iommu/iommufd/{viommu,eventq,driver,hw_pagetable}.c, Linux 7.2.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Protocol

from uring_iopf.errors import KernelError, check_bytes, whole
from uring_iopf.handles import Step
from uring_iopf.iommufd.drivers.base import HWPT_ALLOC as ALLOC
from uring_iopf.iommufd.drivers.base import VIOMMU_ALLOC
from uring_iopf.iommufd.objects import NO_IOMMU, Object, ObjectRef, ObjectTable
from uring_iopf.iommufd.queues.events import EVENT_BYTES, MOST_EVENTS, EventQueue
from uring_iopf.iommufd.spaces.hwpt import PagingHWPT

if TYPE_CHECKING:
    from uring_iopf._native import CIommu
    from uring_iopf.core import Core
    from uring_iopf.iommufd.client_memory import DriverData
    from uring_iopf.iommufd.drivers.base import IommuDriver

VDEVICE_ALLOC, VEVENTQ_ALLOC = "IOMMU_VDEVICE_ALLOC", "IOMMU_VEVENTQ_ALLOC"


class BehindIommu(Protocol):
    """The attributes of a device that a virtual IOMMU uses."""

    iommu: CIommu
    driver: IommuDriver
    vdevice: Vdevice | None


class Viommu(Object):
    """A virtual IOMMU, which holds its *parent*. Made by `Context.viommu_alloc`.

    A driver's output in the *data* (pages to map into the guest) is not emulated.
    """

    def __init__(
        self, table: ObjectTable, device: BehindIommu, parent: PagingHWPT, kind: int, data: DriverData
    ) -> None:
        if parent.iommu != device.iommu:
            raise KernelError(errno.EINVAL, VIOMMU_ALLOC)
        self.format = device.driver.viommu_types[kind]
        """The driver's rules for this type."""
        self.format.check_data(data)
        super().__init__(table)
        self.type = kind
        """`ViommuType`, or the mock's."""
        self.iommu = device.iommu
        """The C object of its physical IOMMU."""
        self.driver = device.driver
        self.parent = parent
        self.vdevices: dict[int, Vdevice] = {}
        """The virtual devices, by virtual id."""
        self._queues: dict[int, VirtualEventQueue] = {}
        self._entering.append(parent.holding())

    def leaving(self) -> list[Step]:
        """The steps that release the parent."""
        return [self.parent.putting(), partial(setattr, self, "iommu", NO_IOMMU)]

    def vdevice_of(self, device: BehindIommu) -> Vdevice | None:
        """The virtual device that stands for *device* here. Source: iommufd_viommu_get_vdev_id, Linux 7.2."""
        return device.vdevice if device.vdevice is not None and device.vdevice.viommu is self else None

    def report_event(self, kind: int, data: bytes) -> None:
        """Report an event of type *kind* (`VeventqType`), as a driver does from its interrupt thread.

        Only the thread that makes the control calls of a context may report by hand.

        Raises: KernelError(EOPNOTSUPP), no queue of that type; else as `EventQueue.report`.
        Source: iommufd_viommu_report_event, Linux 7.2.
        """
        whole("kind", kind)
        check_bytes(data=data)
        queue = self._queues.get(kind)
        if queue is None:
            raise KernelError(errno.EOPNOTSUPP, "iommufd_viommu_report_event")
        queue.report(data)

    def check_nested(self, device: BehindIommu, flags: int, data_type: int, data: DriverData) -> bytes:
        """Return the description of a nested table here, as the driver keeps it.

        Raises: KernelError(EINVAL), *device* is behind another IOMMU, or *data* are of another type or length;
        KernelError(EOPNOTSUPP), flags that it does not take, or no data; KernelError(EIO), a description that cannot
        be. Source: iommufd_viommu_alloc_hwpt_nested, Linux 7.2.
        """
        if device.iommu != self.iommu:
            raise KernelError(errno.EINVAL, ALLOC)
        if flags & ~int(self.driver.viommu_nested_flags) or not data:
            raise KernelError(errno.EOPNOTSUPP, ALLOC)
        return self.driver.nested_format.copy(data_type, data)


class Vdevice(Object):
    """A device with its number in a guest. `Context.vdevice_alloc` makes it. It holds its *viommu*.

    It does not hold the device. When the device is unbound, the virtual device is destroyed first, and its id is never
    used again.
    """

    def __init__(self, table: ObjectTable, viommu: Viommu, device: BehindIommu, virt_id: int) -> None:
        if device.iommu != viommu.iommu:
            raise KernelError(errno.EINVAL, VDEVICE_ALLOC)
        if device.vdevice is not None or virt_id in viommu.vdevices:
            raise KernelError(errno.EEXIST, VDEVICE_ALLOC)
        if virt_id.bit_length() > viommu.format.virtual_id_bits:
            raise KernelError(errno.EINVAL, VDEVICE_ALLOC)
        super().__init__(table)
        self.viommu = viommu
        self.device = device
        self.virt_id = virt_id
        self._entering += [
            viommu.holding(),
            partial(viommu.vdevices.__setitem__, virt_id, self),
            partial(setattr, device, "vdevice", self),
        ]

    def leaving(self) -> list[Step]:
        """The steps that release the virtual IOMMU."""
        return [
            partial(setattr, self.device, "vdevice", None),
            partial(self.viommu.vdevices.__delitem__, self.virt_id),
            self.viommu.putting(),
        ]

    def revoking(self) -> list[Step]:
        """The steps that destroy it before its device. Source: iommufd_device_pre_destroy, Linux 7.2."""
        return [*self.leaving(), *self._table.burying(self)]


class VirtualEventQueue(EventQueue):
    """The event queue of one *type* of a virtual IOMMU, which it holds. Made by `Context.veventq_alloc`, open."""

    def __init__(self, table: ObjectTable, core: Core, viommu: Viommu, kind: int, depth: int) -> None:
        if kind in viommu._queues:
            raise KernelError(errno.EEXIST, VEVENTQ_ALLOC)
        self.viommu = viommu
        self.type = kind
        """`VeventqType`, or the mock's. It need not be one that the virtual IOMMU reports."""
        super().__init__(table, core, depth, EVENT_BYTES.get(kind), VEVENTQ_ALLOC)
        self._entering += [viommu.holding(), partial(viommu._queues.__setitem__, kind, self)]

    def leaving(self) -> list[Step]:
        """The steps that free the queue and its events, and release the virtual IOMMU. Raises: KernelError(EBUSY)."""
        return [
            *super().leaving(),
            partial(self.viommu._queues.__delitem__, self.type),
            self.viommu.putting(),
        ]


# ---- the ioctls, from where the objects are looked up ----


def alloc_viommu(table: ObjectTable, device: BehindIommu, hwpt: ObjectRef, kind: int, data: DriverData) -> Viommu:
    """IOMMU_VIOMMU_ALLOC, once the device is found."""
    if kind not in device.driver.viommu_types:
        raise KernelError(errno.EOPNOTSUPP, VIOMMU_ALLOC)
    parent = table.get(hwpt, PagingHWPT, VIOMMU_ALLOC)
    if not parent.is_nest_parent:
        raise KernelError(errno.EINVAL, VIOMMU_ALLOC)
    return Viommu(table, device, parent, kind, data).enter()


def alloc_veventq(
    table: ObjectTable, core: Core, viommu: ObjectRef, kind: int, depth: int, flags: int
) -> VirtualEventQueue:
    """IOMMU_VEVENTQ_ALLOC. Linux checks the arguments before it looks up the virtual IOMMU."""
    if flags or not kind:
        raise KernelError(errno.EOPNOTSUPP, VEVENTQ_ALLOC)
    if not 1 <= depth <= MOST_EVENTS:
        raise KernelError(errno.EINVAL, VEVENTQ_ALLOC)
    return VirtualEventQueue(table, core, table.get(viommu, Viommu, VEVENTQ_ALLOC), kind, depth).enter()
