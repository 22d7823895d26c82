"""The calls that make and destroy a context's objects, each as the ioctl of that name, in Python.

Source: drivers/iommu/iommufd/main.c, Linux 6.12.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from uring_iopf.abi.iommufd import HwptAllocFlags, HwptDataType
from uring_iopf.errors import KernelError, check_fits, whole
from uring_iopf.handles import Unshared
from uring_iopf.iommufd.client_memory import check_driver_data
from uring_iopf.iommufd.devices.device import Device
from uring_iopf.iommufd.devices.viommu import (
    VDEVICE_ALLOC,
    VEVENTQ_ALLOC,
    Vdevice,
    Viommu,
    VirtualEventQueue,
    alloc_veventq,
    alloc_viommu,
)
from uring_iopf.iommufd.drivers.base import HWPT_ALLOC as ALLOC
from uring_iopf.iommufd.drivers.base import VIOMMU_ALLOC
from uring_iopf.iommufd.objects import Object, ObjectRef, ObjectTable, check_refs
from uring_iopf.iommufd.queues.fault import AS_LINUX, FaultQueue, Personality, QueueLimits
from uring_iopf.iommufd.queues.reports import FAULT_QUEUE_ALLOC, ReportQueue
from uring_iopf.iommufd.spaces.hwpt import HWPT, NestedHWPT, PagingHWPT, check_nested, check_paging
from uring_iopf.iommufd.spaces.ioas import IOAS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf.core import Core
    from uring_iopf.iommufd.client_memory import DriverData
    from uring_iopf.iommufd.versions import KernelVersion


class Calls(Unshared):
    """The objects of one open of /dev/iommu, and the calls of a client. `Context` is what one opens."""

    _what = "context"

    def __init__(self, core: Core, version: KernelVersion, *, generic_reports: bool) -> None:
        super().__init__()
        self.version = version
        """The rules of the emulated kernel."""
        self.core = core
        self.generic_reports = generic_reports
        self.table = ObjectTable()
        """The objects by id, for the layers above."""
        self.closed = False

    def _is_open(self) -> bool:
        return not self.closed

    def __iter__(self) -> Iterator[Object]:
        """Its objects, by rising id."""
        return iter(self.table)

    def get(self, object_id: int) -> Object:
        """Return the object that has this id now. Raises: KernelError(ENOENT), no object has it."""
        whole("object_id", object_id)
        return self.table.get(object_id, Object, "get")

    def ioas_alloc(self) -> IOAS:
        """Make an I/O address space. Source: IOMMU_IOAS_ALLOC, Linux 6.12."""
        self.check_open("IOMMU_IOAS_ALLOC")
        return IOAS(self.table).enter()

    def fault_queue_alloc(
        self, flags: int = 0, *, personality: Personality = Personality.MERGED, limits: QueueLimits = AS_LINUX
    ) -> FaultQueue:
        """Make a fault queue, with its file open. *limits*: limits that Linux does not have; none by default.

        Raises: KernelError(EOPNOTSUPP), *flags* are not 0; KernelError(EMFILE), no descriptor is free.
        Source: IOMMU_FAULT_QUEUE_ALLOC, Linux 6.12.
        """
        self.check_open(FAULT_QUEUE_ALLOC)
        if whole("flags", flags):
            raise KernelError(errno.EOPNOTSUPP, FAULT_QUEUE_ALLOC)
        return FaultQueue(self.table, self.core, personality, limits).enter()

    def report_queue_alloc(self, kind: int, flags: int = 0) -> ReportQueue:
        """Make a queue of other reports than page faults, with its file open, in a context with *generic_reports*.

        *kind*: `VeventqType`, or the mock's type. Pass the queue to `hwpt_alloc` like a fault queue;
        `Device.report_event` then reports to it.

        Raises: KernelError(E2BIG), the context has no *generic_reports*, and Linux knows no such field;
        KernelError(EOPNOTSUPP), *flags* are not 0, or no such type; KernelError(EMFILE), no descriptor is free.
        Source: the sketch of July 2024, see `ReportQueue`.
        """
        self.check_open(FAULT_QUEUE_ALLOC)
        whole("kind", kind)
        whole("flags", flags)
        if not self.generic_reports:
            raise KernelError(errno.E2BIG, FAULT_QUEUE_ALLOC)
        if flags:
            raise KernelError(errno.EOPNOTSUPP, FAULT_QUEUE_ALLOC)
        return ReportQueue(self.table, self.core, kind).enter()

    def hwpt_alloc(
        self,
        device: ObjectRef,
        pt: ObjectRef,
        flags: int = 0,
        *,
        fault: ObjectRef = 0,
        data_type: int = HwptDataType.NONE,
        data: DriverData = b"",
    ) -> HWPT:
        """Make a page table for the IOMMU of *device*, exactly as the ioctl does.

        *pt*: an address space, for a `PagingHWPT`; or a paging table made with NEST_PARENT, for a `NestedHWPT`, which
        *data* of *data_type* describes; or a virtual IOMMU, for a nested table on its parent. *fault*: its fault queue,
        which is used only if *flags* (`HwptAllocFlags`) have FAULT_ID_VALID.

        Raises: KernelError(ENOENT), no such device or fault queue; KernelError(EINVAL), nothing to make it on, or
        *data* and *data_type* do not fit together, or *data* is shorter or longer than the driver's struct;
        KernelError(EOPNOTSUPP), flags or data that this kind of table does not take in this kernel; KernelError(EIO),
        an SMMUv3's stream table entry that a guest may not have; KernelError(EADDRINUSE), what is mapped or allowed in
        the space does not suit. Source: IOMMU_HWPT_ALLOC, Linux 6.12 and 7.2.
        """
        self.check_open(ALLOC)
        check_refs(device=device, pt=pt, fault=fault)
        whole("flags", flags)
        whole("data_type", data_type)
        check_driver_data(data)
        if (data_type == HwptDataType.NONE) != (not data):
            raise KernelError(errno.EINVAL, ALLOC)
        owner = self.table.get(device, Device, ALLOC)
        parent = self.table.get(pt, Object, ALLOC, missing=errno.EINVAL)
        hwpt: HWPT
        if isinstance(parent, IOAS):
            if owner.driver.passes_over_paging_data and self.version.mock_passes_over_paging_data:
                data = b""
            check_paging(self.version, flags, data)
            geometry = owner.driver.hardware.geometry
            hwpt = PagingHWPT(self.table, owner.iommu, parent, HwptAllocFlags(flags), geometry=geometry)
        elif isinstance(parent, PagingHWPT):
            if not owner.driver.nests_on_parents:
                raise KernelError(errno.EOPNOTSUPP, ALLOC)
            nested = owner.driver.nested_format
            data = check_nested(self.version, flags, parent, nested, owner.iommu, data_type, data)
            hwpt = NestedHWPT(self.table, owner.iommu, parent, HwptAllocFlags(flags), data)
        elif isinstance(parent, Viommu):
            data = parent.check_nested(owner, flags, data_type, data)
            hwpt = NestedHWPT(self.table, owner.iommu, parent.parent, HwptAllocFlags(flags), data, made_on=parent)
        else:
            raise KernelError(errno.EINVAL, ALLOC)
        if flags & HwptAllocFlags.FAULT_ID_VALID:
            self._carry(hwpt, fault)
        return hwpt.enter()

    def _carry(self, hwpt: HWPT, fault: ObjectRef) -> None:
        """Give a new table its queue. Linux looks up the queue last."""
        queue: Object | None = None
        with suppress(KernelError):
            queue = self.table.get(fault, Object, ALLOC)
        if isinstance(queue, (FaultQueue, ReportQueue)):
            hwpt.carry(queue)
            return
        raise KernelError(errno.ENOENT, ALLOC)

    def hwpt_alloc_paging(
        self,
        device: ObjectRef,
        ioas: ObjectRef,
        *,
        nest_parent: bool = False,
        pasid: bool = False,
        fault: ObjectRef | None = None,
    ) -> PagingHWPT:
        """Make a paging table, with a fault queue or without.

        *nest_parent*: nested ones can be made on it. *pasid*: PASIDs can be attached to it, or beside it.

        Raises: KernelError, as `hwpt_alloc`; a fault queue here is EOPNOTSUPP in 6.12.
        """
        check_refs(device=device, ioas=ioas, fault=fault or 0)
        flags = (HwptAllocFlags.NEST_PARENT if nest_parent else HwptAllocFlags(0)) | _flags(pasid, fault)
        hwpt = self.hwpt_alloc(device, ioas, flags, fault=fault or 0)
        assert isinstance(hwpt, PagingHWPT), "without data, a table on another is refused"
        return hwpt

    def hwpt_alloc_nested(
        self, device: ObjectRef, parent: ObjectRef, *, pasid: bool = False, fault: ObjectRef | None = None
    ) -> NestedHWPT:
        """Make a nested table on a parent or virtual IOMMU, described by zeros, with a fault queue or without.

        *pasid*: as `hwpt_alloc_paging`.

        Raises: KernelError, as `hwpt_alloc`; KernelError(EOPNOTSUPP), *parent* is a space, also where a driver passes
        over the description and makes a paging table.
        """
        self.check_open(ALLOC)
        check_refs(device=device, parent=parent, fault=fault or 0)
        kind = self.table.get(device, Device, ALLOC).driver.nested_format
        if isinstance(self.table.get(parent, Object, ALLOC, missing=errno.EINVAL), IOAS):
            raise KernelError(errno.EOPNOTSUPP, ALLOC)  # a driver that passes over the description would make another
        hwpt = self.hwpt_alloc(
            device, parent, _flags(pasid, fault), fault=fault or 0, data_type=kind.data_type, data=kind.blank
        )
        assert isinstance(hwpt, NestedHWPT), "with data, a table on a space is refused"
        return hwpt

    def viommu_alloc(
        self, device: ObjectRef, hwpt: ObjectRef, viommu_type: int, flags: int = 0, data: DriverData = b""
    ) -> Viommu:
        """Make a virtual IOMMU: a guest's part of the IOMMU of *device*, with the nest parent *hwpt* as its stage 2.

        *viommu_type*: `ViommuType`, or the mock's type. *data*: the driver's struct.

        Raises: KernelError(EOPNOTSUPP), *flags* or type 0, or the driver has no such type; KernelError(ENOENT), no such
        device or paging table; KernelError(EINVAL), no nest parent, of another IOMMU, or *data* of a wrong length;
        KernelError(ENOTTY), not in this kernel. Source: IOMMU_VIOMMU_ALLOC, Linux 7.2.
        """
        self._check_has_viommus(VIOMMU_ALLOC)
        check_refs(device=device, hwpt=hwpt)
        whole("viommu_type", viommu_type)
        whole("flags", flags)
        check_driver_data(data)
        if flags or not viommu_type:
            raise KernelError(errno.EOPNOTSUPP, VIOMMU_ALLOC)
        return alloc_viommu(self.table, self.table.get(device, Device, VIOMMU_ALLOC), hwpt, viommu_type, data)

    def vdevice_alloc(self, viommu: ObjectRef, device: ObjectRef, virt_id: int) -> Vdevice:
        """Give *device* the number *virt_id*, of 64 bits, in the guest of a virtual IOMMU.

        Raises: KernelError(ENOENT), no such virtual IOMMU or device; KernelError(EINVAL), the device is behind another
        IOMMU; KernelError(EEXIST), it has a virtual device already, on whichever virtual IOMMU, or the number is taken;
        KernelError(ENOTTY), not in this kernel; UsageError, no number of 64 bits.
        Source: IOMMU_VDEVICE_ALLOC, Linux 7.2.
        """
        self._check_has_viommus(VDEVICE_ALLOC)
        check_fits(64, virt_id=virt_id)
        check_refs(viommu=viommu, device=device)
        made_on = self.table.get(viommu, Viommu, VDEVICE_ALLOC)
        return Vdevice(self.table, made_on, self.table.get(device, Device, VDEVICE_ALLOC), virt_id).enter()

    def veventq_alloc(self, viommu: ObjectRef, event_type: int, depth: int, flags: int = 0) -> VirtualEventQueue:
        """Make the queue for one type of events of a virtual IOMMU, with its file open.

        *event_type*: `VeventqType`, the mock's, or any other, to which nothing is reported. *depth*: events that it
        holds at most, 1 to 2**19.

        Raises, in this order: KernelError(EOPNOTSUPP), *flags* or type 0; KernelError(EINVAL), no such depth;
        KernelError(ENOENT), no such virtual IOMMU; KernelError(EEXIST), it has a queue of that type;
        KernelError(EMFILE), no descriptor is free. Before all: KernelError(ENOTTY), not in this kernel.
        Source: IOMMU_VEVENTQ_ALLOC, Linux 7.2.
        """
        self._check_has_viommus(VEVENTQ_ALLOC)
        check_refs(viommu=viommu)
        whole("event_type", event_type)
        whole("depth", depth)
        whole("flags", flags)
        return alloc_veventq(self.table, self.core, viommu, event_type, depth, flags)

    def destroy(self, which: ObjectRef) -> None:
        """Destroy an object.

        Raises: KernelError(ENOENT), no such object; KernelError(EBUSY), something uses it: an open file a fault queue,
        a table its queue and its space, parent or virtual IOMMU, a virtual IOMMU its parent, virtual devices and event
        queues their virtual IOMMU, an attached device its table, a driver its device, requests in a ring the file they
        are for. Source: IOMMU_DESTROY, Linux 6.12.
        """
        self.check_open("IOMMU_DESTROY")
        check_refs(which=which)
        self.table.destroy(self.table.get(which, Object, "IOMMU_DESTROY"), "IOMMU_DESTROY")

    def check_open(self, call: str) -> None:
        """Begin a call. Raises: KernelError(EBADF), the context is closed; UsageError, it is the parent process's."""
        self.table.check_own()
        if self.closed:
            raise KernelError(errno.EBADF, call)
        self.table.begin()

    def _check_has_viommus(self, call: str) -> None:
        self.check_open(call)
        if not self.version.virtual_iommus:
            raise KernelError(errno.ENOTTY, call)


def _flags(pasid: bool, fault: ObjectRef | None) -> HwptAllocFlags:
    return (HwptAllocFlags.PASID if pasid else HwptAllocFlags(0)) | (
        HwptAllocFlags(0) if fault is None else HwptAllocFlags.FAULT_ID_VALID
    )
