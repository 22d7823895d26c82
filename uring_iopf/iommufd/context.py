"""One open of /dev/iommu: its objects, and the calls that make and destroy them.

Source: drivers/iommu/iommufd/main.c, Linux 6.12.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from uring_iopf.abi.iommufd import HwptAllocFlags, HwptDataType
from uring_iopf.core import Core
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.device import Device, MockDevice, VirtualFunction
from uring_iopf.iommufd.fault import FaultQueue, Personality
from uring_iopf.iommufd.hardware_info import hardware_info
from uring_iopf.iommufd.hwpt import (
    ALLOC,
    HWPT,
    MOCK_FORMAT,
    VTD_FORMAT,
    NestedFormat,
    NestedHWPT,
    PagingHWPT,
    check_nested,
    check_paging,
)
from uring_iopf.iommufd.ioas import IOAS
from uring_iopf.iommufd.ioctl import IoctlState, perform
from uring_iopf.iommufd.mock import MockIommu
from uring_iopf.iommufd.objects import Object, ObjectRef, ObjectTable
from uring_iopf.iommufd.versions import kernel_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from uring_iopf._native import CData
    from uring_iopf.iommufd.client_memory import Buffer, ClientMemory


class Context:
    """An open of /dev/iommu on *core*, or on an inline core of its own that it closes, by the rules of one *kernel*.

    Where a call names an object, it takes the object or its id. Ids count from 1, the lowest free one first. Every
    refusal is a `KernelError` with Linux's errno, and has changed nothing.

    A context manager; see `close`. Raises: UsageError, no such kernel here.
    """

    def __init__(self, core: Core | None = None, *, kernel: str = "6.12") -> None:
        self.version = kernel_version(kernel)
        """What differs in this kernel."""
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

    def fault_queue_alloc(self, flags: int = 0, *, personality: Personality = Personality.MERGED) -> FaultQueue:
        """Make a fault queue, with its file open.

        Raises: KernelError(EOPNOTSUPP), *flags* are not 0; KernelError(EMFILE), no descriptor is free.
        Source: IOMMU_FAULT_QUEUE_ALLOC, Linux 6.12.
        """
        self._check_open("IOMMU_FAULT_QUEUE_ALLOC")
        if flags:
            raise KernelError(errno.EOPNOTSUPP, "IOMMU_FAULT_QUEUE_ALLOC")
        return FaultQueue(self._table, self.core, personality)

    def hwpt_alloc(
        self,
        device: ObjectRef,
        pt: ObjectRef,
        flags: int = 0,
        *,
        fault: ObjectRef = 0,
        data_type: int = HwptDataType.NONE,
        data: bytes = b"",
    ) -> HWPT:
        """Make a page table for the IOMMU of *device*, exactly as the ioctl does.

        *pt*: an address space, for a `PagingHWPT`; or a paging table made with NEST_PARENT, for a `NestedHWPT`, which
        *data* of *data_type* describes. *fault*: its fault queue; looked at only where *flags* (`HwptAllocFlags`) have
        FAULT_ID_VALID.

        Raises: KernelError(ENOENT), no such device or fault queue; KernelError(EINVAL), nothing to make it on, or
        *data* and *data_type* do not fit together; KernelError(EOPNOTSUPP), flags or data that this kind of table does
        not take in this kernel; KernelError(E2BIG), data beyond what the driver knows; KernelError(EADDRINUSE), what
        is mapped or allowed in the space does not suit. Source: IOMMU_HWPT_ALLOC, Linux 6.12 and 7.2.
        """
        self._check_open(ALLOC)
        if (data_type == HwptDataType.NONE) != (not data):
            raise KernelError(errno.EINVAL, ALLOC)
        owner = self._table.get(device, Device, ALLOC)
        parent = self._table.get(pt, Object, ALLOC, missing=errno.EINVAL)
        if isinstance(parent, IOAS):
            if owner.nested_format is MOCK_FORMAT and self.version.mock_passes_over_paging_data:
                data = b""
            check_paging(self.version, flags, data)
            return PagingHWPT(
                self._table,
                owner.iommu,
                parent,
                HwptAllocFlags(flags),
                self._queue(flags, fault),
                geometry=hardware_info(owner.nested_format).geometry,
            )
        if isinstance(parent, PagingHWPT):
            check_nested(self.version, flags, parent, owner.nested_format, owner.iommu, data_type, data)
            return NestedHWPT(self._table, owner.iommu, parent, data, self._queue(flags, fault))
        raise KernelError(errno.EINVAL, ALLOC)

    def hwpt_alloc_paging(
        self, device: ObjectRef, ioas: ObjectRef, *, nest_parent: bool = False, fault: ObjectRef | None = None
    ) -> PagingHWPT:
        """Make a paging table, on which nested ones can be made or not, with a fault queue or without.

        Raises: KernelError, as `hwpt_alloc`; a fault queue here is EOPNOTSUPP in 6.12.
        """
        flags = HwptAllocFlags.NEST_PARENT if nest_parent else HwptAllocFlags(0)
        hwpt = self.hwpt_alloc(device, ioas, flags | _fault_flag(fault), fault=fault or 0)
        assert isinstance(hwpt, PagingHWPT), "without data, a table on another is refused"
        return hwpt

    def hwpt_alloc_nested(self, device: ObjectRef, parent: ObjectRef, *, fault: ObjectRef | None = None) -> NestedHWPT:
        """Make a nested table, described by zeros, with a fault queue or without.

        Raises: KernelError, as `hwpt_alloc`.
        """
        self._check_open(ALLOC)
        kind = self._table.get(device, Device, ALLOC).nested_format
        hwpt = self.hwpt_alloc(
            device, parent, _fault_flag(fault), fault=fault or 0, data_type=kind.data_type, data=kind.blank
        )
        assert isinstance(hwpt, NestedHWPT), "with data, a table on a space is refused"
        return hwpt

    def destroy(self, which: ObjectRef) -> None:
        """Destroy an object.

        Raises: KernelError(ENOENT), no such object; KernelError(EBUSY), something uses it: an open file a fault queue,
        a table its queue and its space or parent, an attached device its table, a driver its device, requests in a
        ring the file they are for. Source: IOMMU_DESTROY, Linux 6.12.
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

    def mock_device(self, pt: ObjectRef) -> MockDevice:
        """Make a mock device, bind it and attach it to *pt*: three ids, its `stdev`, its own and its table's.

        Raises: KernelError, as `Device.attach`. Source: IOMMU_TEST_OP_MOCK_DOMAIN, Linux 6.12.
        """
        self._check_open("IOMMU_TEST_OP_MOCK_DOMAIN")
        return MockDevice(self._table, self.core, self.version, self.mock.c, pt)

    def bind(
        self,
        iommu: CData,
        requester_id: int,
        capacity: int,
        *,
        nested_format: NestedFormat = VTD_FORMAT,
        virtual_function: VirtualFunction | None = None,
        on_unbind: Callable[[], object] | None = None,
    ) -> Device:
        """Bind a device that is behind *iommu* (a C object on this core). It is not attached.

        *capacity*: how many requests it may have outstanding. *on_unbind* is called when the binding ends, detached
        already, before the C object goes. Source: iommufd_device_bind, Linux 6.12.
        """
        self._check_open("iommufd_device_bind")
        return Device(
            self._table,
            self.core,
            self.version,
            iommu,
            requester_id,
            capacity,
            nested_format=nested_format,
            virtual_function=virtual_function,
            on_unbind=on_unbind,
        )

    # ---- the end ----

    def close(self) -> None:
        """End everything, as when the process that has it open exits: files are closed, devices unbound, all destroyed.

        What is unanswered is answered INVALID. Closing again does nothing.

        Raises: KernelError(EBUSY), requests of a ring still hold a fault queue: close the ring, then close again.
        Source: iommufd_fops_release, Linux 6.12.
        """
        if self.closed:
            return
        for one in self._table:
            if isinstance(one, FaultQueue) and not one.closed:
                one.close()
            elif isinstance(one, Device) and not isinstance(one, MockDevice):
                one.unbind()
        # Linux goes through all objects and takes those that nobody uses, until none is left.
        while before := len(self._table):
            for one in self._table:
                if one.exists and not one.users:
                    self._table.destroy(one, "close")
            assert len(self._table) < before, "objects use each other in a circle"
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

    def _queue(self, flags: int, fault: ObjectRef) -> FaultQueue | None:
        if not flags & HwptAllocFlags.FAULT_ID_VALID:
            return None
        return self._table.get(fault, FaultQueue, ALLOC)


def _fault_flag(fault: ObjectRef | None) -> HwptAllocFlags:
    return HwptAllocFlags(0) if fault is None else HwptAllocFlags.FAULT_ID_VALID
