"""One open of /dev/iommu: its objects, and the calls that make and destroy them.

Source: drivers/iommu/iommufd/main.c, Linux 6.12.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from uring_iopf.abi.iommufd import HwptAllocFlags, HwptDataType
from uring_iopf.core import Core
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.iommufd.devices.device import Device, MockDevice, VirtualFunction
from uring_iopf.iommufd.devices.viommu import (
    VDEVICE_ALLOC,
    VEVENTQ_ALLOC,
    VIOMMU_ALLOC,
    Vdevice,
    Viommu,
    VirtualEventQueue,
    alloc_veventq,
    alloc_viommu,
)
from uring_iopf.iommufd.drivers.driver import HWPT_ALLOC as ALLOC
from uring_iopf.iommufd.drivers.driver import MOCK_DRIVER, SMMUV3_DRIVER, VTD_DRIVER, IommuDriver
from uring_iopf.iommufd.drivers.hardware_info import hardware_info
from uring_iopf.iommufd.drivers.mock import MockIommu
from uring_iopf.iommufd.objects import Object, ObjectRef, ObjectTable
from uring_iopf.iommufd.queues.fault import AS_LINUX, FaultQueue, Personality, QueueLimits
from uring_iopf.iommufd.queues.file import QueueFile
from uring_iopf.iommufd.queues.reports import FAULT_QUEUE_ALLOC, ReportQueue
from uring_iopf.iommufd.spaces.hwpt import HWPT, NestedHWPT, PagingHWPT, check_nested, check_paging
from uring_iopf.iommufd.spaces.ioas import IOAS
from uring_iopf.iommufd.uapi.ioctl import IoctlState, perform
from uring_iopf.iommufd.versions import DEFAULT_KERNEL, kernel_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from uring_iopf._native import CData
    from uring_iopf.iommufd.client_memory import Buffer, ClientMemory, DriverData
    from uring_iopf.iommufd.devices.group import DeviceGroup


class Context:
    """An open of /dev/iommu on *core*, or on an inline core of its own that it closes, by the rules of one *kernel*.

    Where a call names an object, it takes the object or its id. Ids count from 1, the lowest free one first. Every
    refusal is a `KernelError` with Linux's errno, and has changed nothing.

    Two switches go beyond Linux. *virtual_pri_reset*: virtual functions that share PRI may have faults; a Response
    Failure then stops the page requests of that function alone, until `Device.reset_pri`, and the hardware is told
    INVALID (what reviewers sketched in 2024 as the emulation that is missing). *generic_reports*: a fault queue can be
    made of another type than page faults (`report_queue_alloc`).

    A context manager; see `close`. Raises: UsageError, no such kernel here.
    """

    def __init__(
        self,
        core: Core | None = None,
        *,
        kernel: str = DEFAULT_KERNEL,
        virtual_pri_reset: bool = False,
        generic_reports: bool = False,
    ) -> None:
        self.version = kernel_version(kernel)
        """What differs in this kernel."""
        self.virtual_pri_reset = virtual_pri_reset
        self.generic_reports = generic_reports
        self.core = Core() if core is None else core
        self._owns_core = core is None
        self._table = ObjectTable()
        self._mock: MockIommu | None = None
        self._ioctl_state = IoctlState()
        self.closed = False

    def __iter__(self) -> Iterator[Object]:
        """Its objects, by rising id."""
        return iter(self._table)

    def get(self, object_id: int) -> Object:
        """The object that has an id now. Raises: KernelError(ENOENT), none."""
        return self._table.get(object_id, Object, "get")

    # ---- the ioctls ----

    def ioctl(self, request: int, arg: Buffer, memory: ClientMemory | None = None) -> int:
        """Do what ``ioctl`` on /dev/iommu does, by the request's number. Return 0.

        *arg*: the uAPI struct, native byte order, into which results are written. *memory*: what pointers in it resolve
        through; without it, none does.

        Raises: KernelError, Linux's errno. Source: iommufd_fops_ioctl, Linux 6.12 and 7.2.
        """
        self._check_open("ioctl")
        return perform(self, self._ioctl_state, request, arg, memory)

    def ioas_alloc(self) -> IOAS:
        """Make an I/O address space. Source: IOMMU_IOAS_ALLOC, Linux 6.12."""
        self._check_open("IOMMU_IOAS_ALLOC")
        return IOAS(self._table)

    def fault_queue_alloc(
        self, flags: int = 0, *, personality: Personality = Personality.MERGED, limits: QueueLimits = AS_LINUX
    ) -> FaultQueue:
        """Make a fault queue, with its file open. *limits*: what Linux has not, none by default.

        Raises: KernelError(EOPNOTSUPP), *flags* are not 0; KernelError(EMFILE), no descriptor is free.
        Source: IOMMU_FAULT_QUEUE_ALLOC, Linux 6.12.
        """
        self._check_open(FAULT_QUEUE_ALLOC)
        if flags:
            raise KernelError(errno.EOPNOTSUPP, FAULT_QUEUE_ALLOC)
        return FaultQueue(self._table, self.core, personality, limits)

    def report_queue_alloc(self, kind: int, flags: int = 0) -> ReportQueue:
        """Make a queue of other reports than page faults, with its file open. In a context with *generic_reports*.

        *kind*: `VeventqType`, or the mock's. It is given to `hwpt_alloc` as a fault queue is; `Device.report_event`
        then reports to it.

        Raises: KernelError(E2BIG), the context has no such queues: a type is more than Linux knows of;
        KernelError(EOPNOTSUPP), *flags* are not 0, or no such type; KernelError(EMFILE), no descriptor is free.
        Source: the sketch of July 2024, see `ReportQueue`.
        """
        self._check_open(FAULT_QUEUE_ALLOC)
        if not self.generic_reports:
            raise KernelError(errno.E2BIG, FAULT_QUEUE_ALLOC)
        if flags:
            raise KernelError(errno.EOPNOTSUPP, FAULT_QUEUE_ALLOC)
        return ReportQueue(self._table, self.core, kind)

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
        *data* of *data_type* describes; or a virtual IOMMU, for a nested table on its parent. *fault*: its fault queue;
        looked at only where *flags* (`HwptAllocFlags`) have FAULT_ID_VALID.

        Raises: KernelError(ENOENT), no such device or fault queue; KernelError(EINVAL), nothing to make it on, or
        *data* and *data_type* do not fit together, or *data* is shorter or longer than the driver's struct;
        KernelError(EOPNOTSUPP), flags or data that this kind of table does not take in this kernel; KernelError(EIO),
        an SMMUv3's stream table entry that a guest may not have; KernelError(EADDRINUSE), what is mapped or allowed in
        the space does not suit. Source: IOMMU_HWPT_ALLOC, Linux 6.12 and 7.2.
        """
        self._check_open(ALLOC)
        if (data_type == HwptDataType.NONE) != (not data):
            raise KernelError(errno.EINVAL, ALLOC)
        owner = self._table.get(device, Device, ALLOC)
        parent = self._table.get(pt, Object, ALLOC, missing=errno.EINVAL)
        hwpt: HWPT
        if isinstance(parent, IOAS):
            if owner.driver is MOCK_DRIVER and self.version.mock_passes_over_paging_data:
                data = b""
            check_paging(self.version, flags, data)
            geometry = hardware_info(owner.driver).geometry
            hwpt = PagingHWPT(self._table, owner.iommu, parent, HwptAllocFlags(flags), geometry=geometry)
        elif isinstance(parent, PagingHWPT):
            if owner.driver is SMMUV3_DRIVER:  # it has nested tables on virtual IOMMUs only
                raise KernelError(errno.EOPNOTSUPP, ALLOC)
            nested = owner.driver.nested_format
            data = check_nested(self.version, flags, parent, nested, owner.iommu, data_type, data)
            hwpt = NestedHWPT(self._table, owner.iommu, parent, HwptAllocFlags(flags), data)
        elif isinstance(parent, Viommu):
            data = parent.check_nested(owner, flags, data_type, data)
            hwpt = NestedHWPT(self._table, owner.iommu, parent.parent, HwptAllocFlags(flags), data, viommu=parent)
        else:
            raise KernelError(errno.EINVAL, ALLOC)
        if flags & HwptAllocFlags.FAULT_ID_VALID:
            self._carry(hwpt, fault)
        return hwpt

    def _carry(self, hwpt: HWPT, fault: ObjectRef) -> None:
        """Give a new table its queue, or undo it: the queue is looked for last."""
        queue: Object | None = None
        with suppress(KernelError):
            queue = self._table.get(fault, Object, ALLOC)
        if isinstance(queue, (FaultQueue, ReportQueue)):
            hwpt.carry(queue)
            return
        self._table.destroy(hwpt, ALLOC)
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
        flags = (HwptAllocFlags.NEST_PARENT if nest_parent else HwptAllocFlags(0)) | _flags(pasid, fault)
        hwpt = self.hwpt_alloc(device, ioas, flags, fault=fault or 0)
        assert isinstance(hwpt, PagingHWPT), "without data, a table on another is refused"
        return hwpt

    def hwpt_alloc_nested(
        self, device: ObjectRef, parent: ObjectRef, *, pasid: bool = False, fault: ObjectRef | None = None
    ) -> NestedHWPT:
        """Make a nested table on a parent or virtual IOMMU, described by zeros, with a fault queue or without.

        *pasid*: as `hwpt_alloc_paging`.

        Raises: KernelError, as `hwpt_alloc`.
        """
        self._check_open(ALLOC)
        kind = self._table.get(device, Device, ALLOC).driver.nested_format
        hwpt = self.hwpt_alloc(
            device, parent, _flags(pasid, fault), fault=fault or 0, data_type=kind.data_type, data=kind.blank
        )
        assert isinstance(hwpt, NestedHWPT), "with data, a table on a space is refused"
        return hwpt

    def viommu_alloc(
        self, device: ObjectRef, hwpt: ObjectRef, viommu_type: int, flags: int = 0, data: DriverData = b""
    ) -> Viommu:
        """Make a virtual IOMMU: a guest's part of the IOMMU of *device*, with the nest parent *hwpt* as its stage 2.

        *viommu_type*: `ViommuType`, or the mock's. *data*: what the driver wants for it.

        Raises: KernelError(EOPNOTSUPP), *flags* or type 0, or the driver has no such type; KernelError(ENOENT), no such
        device or paging table; KernelError(EINVAL), no nest parent, of another IOMMU, or *data* of a wrong length;
        KernelError(ENOTTY), not in this kernel. Source: IOMMU_VIOMMU_ALLOC, Linux 7.2.
        """
        self._check_has_viommus(VIOMMU_ALLOC)
        if flags or not viommu_type:
            raise KernelError(errno.EOPNOTSUPP, VIOMMU_ALLOC)
        return alloc_viommu(self._table, self._table.get(device, Device, VIOMMU_ALLOC), hwpt, viommu_type, data)

    def vdevice_alloc(self, viommu: ObjectRef, device: ObjectRef, virt_id: int) -> Vdevice:
        """Give *device* the number *virt_id*, of 64 bits, in the guest of a virtual IOMMU.

        Raises: KernelError(ENOENT), no such virtual IOMMU or device; KernelError(EINVAL), the device is behind another
        IOMMU; KernelError(EEXIST), it has a virtual device already, on whichever virtual IOMMU, or the number is taken;
        KernelError(ENOTTY), not in this kernel; UsageError, no number of 64 bits.
        Source: IOMMU_VDEVICE_ALLOC, Linux 7.2.
        """
        self._check_has_viommus(VDEVICE_ALLOC)
        if not 0 <= virt_id < 1 << 64:
            raise UsageError(f"a virtual id has 64 bits: {virt_id}")
        made_on = self._table.get(viommu, Viommu, VDEVICE_ALLOC)
        return Vdevice(self._table, made_on, self._table.get(device, Device, VDEVICE_ALLOC), virt_id)

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
        return alloc_veventq(self._table, self.core, viommu, event_type, depth, flags)

    def destroy(self, which: ObjectRef) -> None:
        """Destroy an object.

        Raises: KernelError(ENOENT), no such object; KernelError(EBUSY), something uses it: an open file a fault queue,
        a table its queue and its space, parent or virtual IOMMU, a virtual IOMMU its parent, virtual devices and event
        queues their virtual IOMMU, an attached device its table, a driver its device, requests in a ring the file they
        are for. Source: IOMMU_DESTROY, Linux 6.12.
        """
        self._check_open("IOMMU_DESTROY")
        self._table.destroy(self._table.get(which, Object, "IOMMU_DESTROY"), "IOMMU_DESTROY")

    # ---- devices ----

    @property
    def mock(self) -> MockIommu:
        """The IOMMU of this context's mock devices, with the answers that reached it; also after `close`."""
        if self._mock is None:
            self._check_open("IOMMU_TEST_OP_MOCK_DOMAIN")
            self._mock = MockIommu(self.core)
        return self._mock

    def mock_device(self, pt: ObjectRef, flags: int = 0) -> MockDevice:
        """Make a mock device, bind it and attach it to *pt*: three ids, its `stdev`, its own and its table's.

        *flags*: 4 gives it 2^20 PASIDs (7.2); 1 and 2 concern dirty tracking and addresses, and change nothing here.

        Raises: KernelError(EINVAL), other flags; else as `Device.attach`. Source: IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
        Linux 6.12 and 7.2.
        """
        self._check_open("IOMMU_TEST_OP_MOCK_DOMAIN")
        return MockDevice(self._table, self.core, self.version, self.mock.c, pt, flags)

    def bind(
        self,
        iommu: CData,
        requester_id: int,
        capacity: int,
        *,
        driver: IommuDriver = VTD_DRIVER,
        group: DeviceGroup | None = None,
        max_pasids: int = 1 << 20,
        virtual_function: VirtualFunction | None = None,
        reserved: Sequence[tuple[int, int]] = (),
        on_unbind: Callable[[], object] | None = None,
    ) -> Device:
        """Bind a device that is behind *iommu* (a C object on this core). It is not attached.

        *capacity*: how many requests it may have outstanding. *driver*: its IOMMU's. *group*: the devices that the
        IOMMU cannot tell from it; alone by default. *max_pasids*: of its PASID capability; 0, it has none.
        *virtual_function*: says that it is one. *reserved*: first and last addresses of ranges that it cannot reach
        through an address space, and where nothing may be mapped while it is attached. *on_unbind* is called when the
        binding ends, detached already, before the C object goes.

        Raises: KernelError(EPERM), the group is another context's. Source: iommufd_device_bind, Linux 6.12.
        """
        self._check_open("iommufd_device_bind")
        return Device(
            self._table,
            self.core,
            self.version,
            iommu,
            requester_id,
            capacity,
            driver=driver,
            group=group,
            max_pasids=max_pasids,
            virtual_function=virtual_function,
            reserved=reserved,
            shares_pri=self.virtual_pri_reset and virtual_function is not None and virtual_function.pf_has_pri,
            on_unbind=on_unbind,
        )

    # ---- the end ----

    def close(self) -> None:
        """End everything, as when the process that has it open exits: files are closed, devices unbound, all destroyed.

        What is unanswered is answered INVALID. Closing again does nothing.

        Raises: KernelError(EBUSY), requests of a ring still hold a queue: close the ring, then close again.
        Source: iommufd_fops_release, Linux 6.12.
        """
        if self.closed:
            return
        for one in self._table:
            if isinstance(one, QueueFile) and not one.closed:
                one.close()
            elif isinstance(one, Device) and not isinstance(one, MockDevice):
                one.unbind()
        # Linux goes through all objects and takes those that nobody uses, until none is left.
        while before := len(self._table):
            for one in self._table:
                if one.exists and not one.users:
                    self._table.destroy(one, "close")
            if len(self._table) < before:
                continue
            # Linux stops here, and leaks what a mock device that is gone has attached PASIDs to.
            leaked = [one for one in self._table if isinstance(one, MockDevice)]
            assert leaked, "objects use each other in a circle"
            for device in leaked:
                device.end_leak()
        if self._mock is not None:
            self._mock.close()
        if self._owns_core:
            self.core.close()
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self, call: str) -> None:
        if self.closed:
            raise KernelError(errno.EBADF, call)

    def _check_has_viommus(self, call: str) -> None:
        self._check_open(call)
        if not self.version.virtual_iommus:
            raise KernelError(errno.ENOTTY, call)


def _flags(pasid: bool, fault: ObjectRef | None) -> HwptAllocFlags:
    return (HwptAllocFlags.PASID if pasid else HwptAllocFlags(0)) | (
        HwptAllocFlags(0) if fault is None else HwptAllocFlags.FAULT_ID_VALID
    )
