"""One open of /dev/iommu: its objects, its ioctls, its devices, and its end.

Source: drivers/iommu/iommufd/main.c, Linux 6.12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.core import DEFAULT_KERNEL, Core
from uring_iopf.errors import UsageError, check_bytes, check_is, pairs, whole
from uring_iopf.handles import Handle, leave
from uring_iopf.iommufd.calls import Calls
from uring_iopf.iommufd.client_memory import ClientMemory
from uring_iopf.iommufd.devices.device import Device, VirtualFunction
from uring_iopf.iommufd.devices.group import DeviceGroup
from uring_iopf.iommufd.drivers.base import IommuDriver
from uring_iopf.iommufd.drivers.mock import MockIommu
from uring_iopf.iommufd.drivers.vtd import VTD_DRIVER
from uring_iopf.iommufd.objects import check_refs
from uring_iopf.iommufd.queues.file import QueueFile
from uring_iopf.iommufd.selftest import MockDevice
from uring_iopf.iommufd.uapi.call import IoctlState
from uring_iopf.iommufd.uapi.operations import perform
from uring_iopf.iommufd.versions import kernel_version, rules_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from uring_iopf._native import CIommu
    from uring_iopf.iommufd.client_memory import Buffer
    from uring_iopf.iommufd.objects import ObjectRef


class Context(Calls):
    """An open of /dev/iommu, with the rules of one *kernel* (``6.12`` or ``7.2``).

    *core*: the core; None: an inline core of its own, which it closes. *kernel* is for a core of its own. On a given
    core the rules are those of the core's kernel, since its rings and this context belong to one machine. Up to 7.1
    they are those of 6.12.

    A call that names an object accepts the object or its id. Ids count from 1, the lowest free one first. A refusal
    raises `KernelError` with Linux's errno, and changes nothing.

    Two switches go beyond Linux. *virtual_pri_reset*: virtual functions that share PRI may have faults. A Response
    Failure then stops the page requests of that function only, until `Device.reset_pri`, and the hardware gets INVALID
    (reviewers sketched this emulation in 2024). *generic_reports*: `report_queue_alloc` makes queues of other reports
    than page faults.

    A context manager; see `close`. Raises: UsageError, no such kernel, or it contradicts the core's.
    """

    def __init__(
        self,
        core: Core | None = None,
        *,
        kernel: str | None = None,
        virtual_pri_reset: bool = False,
        generic_reports: bool = False,
    ) -> None:
        if core is not None:
            check_is("a Core or None", Core, core=core)
        if kernel is not None:
            kernel_version(kernel)
        on = Core(kernel=kernel or DEFAULT_KERNEL) if core is None else core
        version = rules_of(on.kernel)
        if kernel is not None and kernel_version(kernel) is not version:
            raise UsageError(f"kernel is {kernel!r}, but the core emulates {on.kernel!r}: make Core(kernel={kernel!r})")
        super().__init__(on, version, generic_reports=generic_reports)
        self.virtual_pri_reset = virtual_pri_reset
        self._owns_core = core is None
        self._on = core
        self._mock: MockIommu | None = None
        self._ioctl_state = IoctlState()

    def ioctl(self, request: int, arg: Buffer | None, memory: ClientMemory | None = None) -> int:
        """Do what ``ioctl`` on /dev/iommu does, by the request's number. Return 0.

        *arg*: the uAPI struct in native byte order, into which results are written; None: a null pointer. *memory*: the
        client's memory, to which the struct's pointers point; None: every pointer returns EFAULT.

        Raises: KernelError, Linux's errno. Source: iommufd_fops_ioctl, Linux 6.12 and 7.2.
        """
        self.check_open("ioctl")
        whole("request", request)
        if arg is not None:
            check_bytes(arg=arg)
        if memory is not None:
            check_is("a ClientMemory or None", ClientMemory, memory=memory)
        return perform(self, self._ioctl_state, request, arg, memory)

    # ---- devices ----

    @property
    def mock(self) -> MockIommu:
        """The IOMMU of this context's mock devices, with the log of its answers. It stays usable after `close`."""
        if self._mock is None:
            self.check_open("IOMMU_TEST_OP_MOCK_DOMAIN")
            self._mock = MockIommu(self.core)
        return self._mock

    def mock_device(self, pt: ObjectRef, flags: int = 0) -> MockDevice:
        """Make a mock device, bind it and attach it to *pt*: three ids, its `stdev`, its own and its table's.

        *flags*: 4 gives it 2^20 PASIDs (7.2); 1 and 2 concern dirty tracking and addresses, and change nothing here.

        Raises: KernelError(EINVAL), other flags; else as `Device.attach`. Source: IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
        Linux 6.12 and 7.2.
        """
        self.check_open("IOMMU_TEST_OP_MOCK_DOMAIN")
        whole("flags", flags)
        check_refs(pt=pt)
        return MockDevice(self.table, self.core, self.version, self.mock.c, pt, flags)

    def bind(
        self,
        iommu: CIommu | Handle[CIommu],
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
        """Bind a device that is behind *iommu* (an `Iommu` or `MockIommu` on this core). Return it, not attached.

        *requester_id*: bus, device and function number. *capacity*: the most requests that may be outstanding, 1 to
        2^20. *driver*: the driver of its IOMMU. *group*: the group of devices that the IOMMU cannot tell apart; None: a
        group of its own. *max_pasids*: the PASIDs of its PASID capability; 0: it has no such capability.
        *virtual_function*: given for a PCIe virtual function. *reserved*: pairs (first, last) of addresses that it
        cannot reach through an address space; nothing may be mapped there while it is attached. *on_unbind*: called at
        the end of the binding, after the detach and before the C object is freed.

        Raises: KernelError(EPERM), the group belongs to another context; UsageError, a number out of range, or a
        requester id of more than 16 bits behind an `Iommu`.
        Source: iommufd_device_bind, Linux 6.12.
        """
        self.check_open("iommufd_device_bind")
        ranges = list(pairs("reserved", reserved))
        check_is("an IommuDriver", IommuDriver, driver=driver)
        if group is not None:
            check_is("a DeviceGroup or None", DeviceGroup, group=group)
        if virtual_function is not None:
            check_is("a VirtualFunction or None", VirtualFunction, virtual_function=virtual_function)
        if not (on_unbind is None or callable(on_unbind)):
            raise UsageError(f"on_unbind must be a function or None, not {on_unbind!r}")
        device = Device(
            self.table,
            self.core,
            self.version,
            iommu.c if isinstance(iommu, Handle) else iommu,
            requester_id,
            capacity,
            driver=driver,
            group=group,
            max_pasids=max_pasids,
            virtual_function=virtual_function,
            reserved=ranges,
            shares_pri=self.virtual_pri_reset and virtual_function is not None and virtual_function.pf_has_pri,
            on_unbind=on_unbind,
        )
        return device.enter()

    # ---- the end ----

    def close(self) -> None:
        """Close every file, unbind every device, and destroy every object, as at the exit of the process.

        Open groups are answered INVALID. Closing again does nothing.

        Raises: KernelError(EBUSY), requests of a ring still hold a queue: close the ring, then close again.
        Source: iommufd_fops_release, Linux 6.12.
        """
        if self.closed or self._is_foreign:
            return
        for one in self.table:
            if isinstance(one, QueueFile) and not one.closed:
                one.close()
            elif isinstance(one, Device) and not isinstance(one, MockDevice):
                one.unbind()
        # Linux goes through all objects, and destroys those without a user, until none is left.
        while before := len(self.table):
            for one in self.table:
                if one.exists and not one.users:
                    self.table.destroy(one, "close")
            if len(self.table) < before:
                continue
            # Linux stops here, and leaks the tables to which an unplugged mock device has attached PASIDs.
            leaked = [one for one in self.table if isinstance(one, MockDevice)]
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
        leave(self.close, error)
