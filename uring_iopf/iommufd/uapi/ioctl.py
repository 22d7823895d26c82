"""The ioctls of /dev/iommu, by number and struct: `Context.ioctl`.

One table, `OPERATIONS`, says what there is: the struct (declared in ``cdefs/abi/iommufd.h``), how much of it a client
must bring at least, since which kernel, and the function. A function checks what only the struct can get wrong
(reserved fields, pointers), in Linux's order, and leaves the rest to the Python calls.
Source: drivers/iommu/iommufd/main.c, iommufd_fops_ioctl, Linux 6.12 and 7.2.
"""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from uring_iopf._native import CData, ffi
from uring_iopf.abi.iommufd import (
    DirtyBitmapFlags,
    DirtyTrackingFlags,
    HwCapabilities,
    HwInfoFlags,
    HwInfoType,
    HwQueueType,
    IoasMapFlags,
    IoctlNr,
    OptionId,
    OptionOp,
    VeventqType,
    VfioIoasOp,
    ViommuType,
)
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.client_memory import ClientMemory, UserData
from uring_iopf.iommufd.devices.device import Device
from uring_iopf.iommufd.devices.viommu import Viommu
from uring_iopf.iommufd.drivers.hardware_info import hardware_info
from uring_iopf.iommufd.objects import Object
from uring_iopf.iommufd.queues.reports import PAGE_FAULTS
from uring_iopf.iommufd.spaces.hwpt import NestedHWPT, PagingHWPT
from uring_iopf.iommufd.spaces.ioas import COPY, IOAS, MAP, MAP_FILE, ULONG_MAX, check_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from uring_iopf.iommufd.client_memory import Buffer
    from uring_iopf.iommufd.context import Context

VEVENTQ_MAX_DEPTH: Final = 1 << 19

T = TypeVar("T", bound=Object)

_U32: Final = 4
_RANGE: Final = 16  # iommu_iova_range: start, last
_MAP_FLAGS: Final = int(IoasMapFlags.FIXED_IOVA | IoasMapFlags.WRITEABLE | IoasMapFlags.READABLE)


@dataclass
class IoctlState:
    """What a context keeps for its ioctls alone."""

    account_mm: bool = False
    """OPTION_RLIMIT_MODE: whether pinned memory is charged to the process, not to the user. Nothing is pinned here."""
    vfio_ioas: IOAS | None = None
    """VFIO_IOAS: the space that VFIO's compatibility would use."""


@dataclass
class Call:
    """One ioctl on its way."""

    operation: Operation
    context: Context
    state: IoctlState
    cmd: CData
    """The kernel's copy of the struct."""
    extra: bytearray
    """What the kernel's struct has beyond it, with `Context.generic_reports`."""
    memory: ClientMemory
    client: memoryview
    """The client's struct, all that it says it has."""

    @property
    def name(self) -> str:
        """As the uAPI header has it."""
        return f"IOMMU_{self.operation.nr.name}"

    def refuse(self, number: int) -> KernelError:
        """An error of this call, to be raised."""
        return KernelError(number, self.name)

    def supported(self, condition: bool) -> None:
        """Raises: KernelError(EOPNOTSUPP), *condition* does not hold."""
        if not condition:
            raise self.refuse(errno.EOPNOTSUPP)

    def get(self, number: int, kind: type[T]) -> T:
        """The object of that kind. Raises: KernelError(ENOENT), none has this id."""
        return self.context._table.get(number, kind, self.name)

    def copy_out(self, offset: int, data: bytes) -> None:
        """Write into the client's struct. Raises: KernelError(EFAULT), it is read-only."""
        if self.client.readonly:
            raise self.refuse(errno.EFAULT)
        self.client[offset : offset + len(data)] = data

    def respond(self) -> None:
        """Give the struct back, as much as the client has of it (iommufd_ucmd_respond)."""
        data = bytes(ffi.buffer(self.cmd)) + bytes(self.extra)
        self.copy_out(0, data[: self.client.nbytes])

    def respond_with(self, made: Any) -> None:
        """Give the struct back with what was made, which does not stay if that fails."""
        try:
            self.respond()
        except KernelError:
            if not getattr(made, "closed", True):
                made.close()
            self.context._table.destroy(made, self.name)
            raise

    def user_data(self, address: int, length: int) -> UserData:
        """A driver's struct. If it cannot be read that is said when the driver copies it, and not before."""
        return UserData(self.memory, address, length)


# ---- spaces ----


def _ioas_alloc(call: Call) -> None:
    call.supported(not call.cmd.flags)
    made = call.context.ioas_alloc()
    call.cmd.out_ioas_id = made.id
    call.respond_with(made)


def _ioas_allow_iovas(call: Call) -> None:
    cmd = call.cmd
    call.supported(not cmd.__reserved)
    ioas = call.get(cmd.ioas_id, IOAS)

    def ranges() -> Iterator[tuple[int, int]]:
        for at in range(cmd.allowed_iovas, cmd.allowed_iovas + cmd.num_iovas * _RANGE, _RANGE):
            data = call.memory.read(at, _RANGE)
            yield int.from_bytes(data[:8], sys.byteorder), int.from_bytes(data[8:], sys.byteorder)

    ioas.allow_iovas(ranges())


def _ioas_iova_ranges(call: Call) -> None:
    cmd = call.cmd
    call.supported(not cmd.__reserved)
    ioas = call.get(cmd.ioas_id, IOAS)
    room, ranges = cmd.num_iovas, ioas.iova_ranges()
    for index, (first, last) in enumerate(ranges[:room]):
        data = first.to_bytes(8, sys.byteorder) + last.to_bytes(8, sys.byteorder)
        call.memory.write(cmd.allowed_iovas + index * _RANGE, data)
    cmd.num_iovas = len(ranges)
    cmd.out_iova_alignment = ioas.iova_alignment
    call.respond()
    if len(ranges) > room:
        raise call.refuse(errno.EMSGSIZE)


def _permissions(flags: int) -> dict[str, bool]:
    return {"readable": bool(flags & IoasMapFlags.READABLE), "writeable": bool(flags & IoasMapFlags.WRITEABLE)}


def _fixed(flags: int, iova: int) -> int | None:
    return iova if flags & IoasMapFlags.FIXED_IOVA else None


def _ioas_map(call: Call) -> None:
    cmd = call.cmd
    call.supported(not (cmd.flags & ~_MAP_FLAGS or cmd.__reserved))
    allow = _permissions(cmd.flags)
    check_map(MAP, cmd.iova, cmd.length, **allow)
    ioas = call.get(cmd.ioas_id, IOAS)
    cmd.iova = ioas.map(cmd.length, user_va=cmd.user_va, iova=_fixed(cmd.flags, cmd.iova), **allow)
    call.respond()  # Linux leaves the mapping, should this fail


def _ioas_map_file(call: Call) -> None:
    cmd = call.cmd
    call.supported(not cmd.flags & ~_MAP_FLAGS)
    allow = _permissions(cmd.flags)
    check_map(MAP_FILE, cmd.iova, cmd.length, **allow)
    ioas = call.get(cmd.ioas_id, IOAS)
    cmd.iova = ioas.map_file(cmd.length, fd=cmd.fd, start=cmd.start, iova=_fixed(cmd.flags, cmd.iova), **allow)
    call.respond()


def _ioas_copy(call: Call) -> None:
    cmd = call.cmd
    call.supported(not cmd.flags & ~_MAP_FLAGS)
    allow = _permissions(cmd.flags)
    check_map(COPY, max(cmd.src_iova, cmd.dst_iova), cmd.length, **allow)
    pieces = call.get(cmd.src_ioas_id, IOAS).pieces(cmd.src_iova, cmd.length)
    ioas = call.get(cmd.dst_ioas_id, IOAS)
    cmd.dst_iova = ioas.insert_pieces(pieces, _fixed(cmd.flags, cmd.dst_iova), **allow)
    call.respond()


def _ioas_unmap(call: Call) -> None:
    cmd = call.cmd
    cmd.length = call.get(cmd.ioas_id, IOAS).unmap(cmd.iova, cmd.length)
    call.respond()


def _ioas_change_process(call: Call) -> None:
    """Only memory of files can go to another process; who is charged for it is not modelled."""
    call.supported(not call.cmd.__reserved)
    for one in call.context:
        if isinstance(one, IOAS) and any(mapping.fd is None for mapping in one.mappings()):
            raise call.refuse(errno.EINVAL)


def _option(call: Call) -> None:
    cmd = call.cmd
    call.supported(not cmd.__reserved)
    if cmd.option_id == OptionId.RLIMIT_MODE:
        call.supported(not cmd.object_id)
        _option_rlimit_mode(call)
    elif cmd.option_id == OptionId.HUGE_PAGES:
        _option_huge_pages(call, call.get(cmd.object_id, IOAS))
    else:
        raise call.refuse(errno.EOPNOTSUPP)
    call.copy_out(ffi.offsetof("struct iommu_option", "val64"), int(cmd.val64).to_bytes(8, sys.byteorder))


def _option_rlimit_mode(call: Call) -> None:
    """The client is taken for one with CAP_SYS_RESOURCE."""
    cmd = call.cmd
    if cmd.op == OptionOp.GET:
        cmd.val64 = call.state.account_mm
        return
    call.supported(cmd.op == OptionOp.SET)
    if len(call.context._table):
        raise call.refuse(errno.EBUSY)
    if cmd.val64 > 1:
        raise call.refuse(errno.EINVAL)
    call.state.account_mm = bool(cmd.val64)


def _option_huge_pages(call: Call, ioas: IOAS) -> None:
    cmd = call.cmd
    if cmd.op == OptionOp.GET:
        cmd.val64 = ioas.large_pages
        return
    call.supported(cmd.op == OptionOp.SET)
    if cmd.val64 > 1:
        raise call.refuse(errno.EINVAL)
    ioas.set_large_pages(bool(cmd.val64))


def _vfio_ioas(call: Call) -> None:
    cmd, state = call.cmd, call.state
    call.supported(not cmd.__reserved)
    if cmd.op == VfioIoasOp.GET:
        if state.vfio_ioas is None or not state.vfio_ioas.exists:
            raise call.refuse(errno.ENODEV)
        cmd.ioas_id = state.vfio_ioas.id
        call.respond()
    elif cmd.op == VfioIoasOp.SET:
        state.vfio_ioas = call.get(cmd.ioas_id, IOAS)
    else:
        call.supported(cmd.op == VfioIoasOp.CLEAR)
        state.vfio_ioas = None


# ---- tables, devices ----


def _destroy(call: Call) -> None:
    call.context.destroy(call.cmd.id)


def _hwpt_alloc(call: Call) -> None:
    cmd = call.cmd
    call.supported(not cmd.__reserved)
    made = call.context.hwpt_alloc(
        cmd.dev_id,
        cmd.pt_id,
        cmd.flags,
        fault=cmd.fault_id,
        data_type=cmd.data_type,
        data=call.user_data(cmd.data_uptr, cmd.data_len),
    )
    cmd.out_hwpt_id = made.id
    call.respond_with(made)


def _get_hw_info(call: Call) -> None:
    cmd, version = call.cmd, call.context.version
    call.supported(not cmd.flags & ~int(version.hw_info_flags))
    call.supported(not any(cmd.__reserved))
    hardware = hardware_info(call.get(cmd.dev_id, Device).driver)
    if cmd.flags & HwInfoFlags.INPUT_TYPE and hardware.info:
        call.supported(cmd.in_data_type in (HwInfoType.DEFAULT, hardware.info_type))
    copied = min(cmd.data_len, len(hardware.info))
    call.memory.write(cmd.data_uptr, hardware.info[:copied])
    call.memory.clear(cmd.data_uptr + copied, cmd.data_len - copied)
    cmd.data_len = len(hardware.info)
    cmd.out_data_type = hardware.info_type
    cmd.out_max_pasid_log2 = hardware.max_pasid_log2
    # No driver here tracks dirty pages, and no device has PASIDs with execute permission or privileged mode.
    no_ats = version.hw_info_says_no_ats and not hardware.ats
    cmd.out_capabilities = HwCapabilities.PCI_ATS_NOT_SUPPORTED if no_ats else 0
    call.respond()


def _hwpt_set_dirty_tracking(call: Call) -> None:
    call.supported(not call.cmd.flags & ~int(DirtyTrackingFlags.ENABLE))
    call.get(call.cmd.hwpt_id, PagingHWPT)
    raise call.refuse(errno.EOPNOTSUPP)


def _hwpt_get_dirty_bitmap(call: Call) -> None:
    cmd = call.cmd
    call.supported(not (cmd.flags & ~int(DirtyBitmapFlags.NO_CLEAR) or cmd.__reserved))
    page_mask = call.get(cmd.hwpt_id, PagingHWPT).ioas.iova_alignment - 1
    # iommufd_check_iova_range(), in arithmetic of 64 bits: a length of 0 is one of 2**64.
    last = cmd.iova + (cmd.length - 1) % 2**64
    if last > ULONG_MAX:
        raise call.refuse(errno.EOVERFLOW)
    ends = cmd.iova | (last + 1) % 2**64
    if ends & page_mask or not cmd.page_size or ends & (cmd.page_size - 1):
        raise call.refuse(errno.EINVAL)
    raise call.refuse(errno.EOPNOTSUPP)


def _hwpt_invalidate(call: Call) -> None:
    cmd = call.cmd
    try:
        call.supported(not cmd.__reserved)
        if cmd.entry_num and not (cmd.data_uptr and cmd.entry_len):
            raise call.refuse(errno.EINVAL)
        if call.context.version.invalidates_nested_only:
            call.get(cmd.hwpt_id, NestedHWPT)
        else:
            target = call.get(cmd.hwpt_id, Object)
            if not isinstance(target, (NestedHWPT, Viommu)):
                raise call.refuse(errno.EINVAL)
        raise call.refuse(errno.EOPNOTSUPP)
    finally:  # it says how many entries were done, above all when it fails
        cmd.entry_num = 0
        call.respond()


# ---- queues, virtual IOMMUs ----


def _fault_queue_alloc(call: Call) -> None:
    kind = int.from_bytes(call.extra[:_U32], sys.byteorder)
    call.supported(not (call.cmd.flags or any(call.extra[_U32:])))
    context = call.context
    made = context.report_queue_alloc(kind) if kind != PAGE_FAULTS else context.fault_queue_alloc()
    call.cmd.out_fault_id, call.cmd.out_fault_fd = made.id, made.fd
    call.respond_with(made)


def _viommu_alloc(call: Call) -> None:
    cmd = call.cmd
    call.supported(not (cmd.flags or cmd.type == ViommuType.DEFAULT))
    call.get(cmd.dev_id, Device)
    data = call.user_data(cmd.data_uptr, cmd.data_len)
    made = call.context.viommu_alloc(cmd.dev_id, cmd.hwpt_id, cmd.type, cmd.flags, data=data)
    cmd.out_viommu_id = made.id
    call.respond_with(made)


def _vdevice_alloc(call: Call) -> None:
    cmd = call.cmd
    made = call.context.vdevice_alloc(cmd.viommu_id, cmd.dev_id, cmd.virt_id)
    cmd.out_vdevice_id = made.id
    call.respond_with(made)


def _veventq_alloc(call: Call) -> None:
    cmd = call.cmd
    call.supported(not (cmd.flags or cmd.__reserved or cmd.type == VeventqType.DEFAULT))
    if not 0 < cmd.veventq_depth <= VEVENTQ_MAX_DEPTH:
        raise call.refuse(errno.EINVAL)
    made = call.context.veventq_alloc(cmd.viommu_id, cmd.type, cmd.veventq_depth, cmd.flags)
    cmd.out_veventq_id, cmd.out_veventq_fd = made.id, made.fd
    call.respond_with(made)


def _hw_queue_alloc(call: Call) -> None:
    cmd = call.cmd
    call.supported(not (cmd.flags or cmd.type == HwQueueType.DEFAULT))
    if not cmd.length:
        raise call.refuse(errno.EINVAL)
    if cmd.nesting_parent_iova + cmd.length - 1 > ULONG_MAX:
        raise call.refuse(errno.EOVERFLOW)
    call.get(cmd.viommu_id, Viommu)
    raise call.refuse(errno.EOPNOTSUPP)  # no driver here has them


# ---- the table ----


@dataclass(frozen=True)
class Operation:
    """One ioctl."""

    nr: IoctlNr
    run: Callable[[Call], None] = field(repr=False)
    struct: str
    last: str
    """The member that a client's struct must have at least; later ones came with later kernels, and may be missing."""
    since: str = "6.12"
    """The first kernel here that has it."""
    reports_bytes: int = 0
    """How much longer the struct is with `Context.generic_reports`."""

    @property
    def size(self) -> int:
        """Of the kernel's struct, in bytes."""
        return int(ffi.sizeof(f"struct {self.struct}"))

    @property
    def minimum(self) -> int:
        """How many bytes a client must bring."""
        fields = dict(ffi.typeof(f"struct {self.struct}").fields)
        return int(fields[self.last].offset + ffi.sizeof(fields[self.last].type))


_NR = IoctlNr
OPERATIONS: Final = (
    Operation(_NR.DESTROY, _destroy, "iommu_destroy", "id"),
    Operation(_NR.IOAS_ALLOC, _ioas_alloc, "iommu_ioas_alloc", "out_ioas_id"),
    Operation(_NR.IOAS_ALLOW_IOVAS, _ioas_allow_iovas, "iommu_ioas_allow_iovas", "allowed_iovas"),
    Operation(_NR.IOAS_COPY, _ioas_copy, "iommu_ioas_copy", "src_iova"),
    Operation(_NR.IOAS_IOVA_RANGES, _ioas_iova_ranges, "iommu_ioas_iova_ranges", "out_iova_alignment"),
    Operation(_NR.IOAS_MAP, _ioas_map, "iommu_ioas_map", "iova"),
    Operation(_NR.IOAS_UNMAP, _ioas_unmap, "iommu_ioas_unmap", "length"),
    Operation(_NR.OPTION, _option, "iommu_option", "val64"),
    Operation(_NR.VFIO_IOAS, _vfio_ioas, "iommu_vfio_ioas", "__reserved"),
    Operation(_NR.HWPT_ALLOC, _hwpt_alloc, "iommu_hwpt_alloc", "__reserved"),
    Operation(_NR.GET_HW_INFO, _get_hw_info, "iommu_hw_info", "__reserved"),
    Operation(_NR.HWPT_SET_DIRTY_TRACKING, _hwpt_set_dirty_tracking, "iommu_hwpt_set_dirty_tracking", "__reserved"),
    Operation(_NR.HWPT_GET_DIRTY_BITMAP, _hwpt_get_dirty_bitmap, "iommu_hwpt_get_dirty_bitmap", "data"),
    Operation(_NR.HWPT_INVALIDATE, _hwpt_invalidate, "iommu_hwpt_invalidate", "__reserved"),
    Operation(_NR.FAULT_QUEUE_ALLOC, _fault_queue_alloc, "iommu_fault_alloc", "out_fault_fd", reports_bytes=8),
    Operation(_NR.IOAS_MAP_FILE, _ioas_map_file, "iommu_ioas_map_file", "iova", "7.2"),
    Operation(_NR.VIOMMU_ALLOC, _viommu_alloc, "iommu_viommu_alloc", "out_viommu_id", "7.2"),
    Operation(_NR.VDEVICE_ALLOC, _vdevice_alloc, "iommu_vdevice_alloc", "virt_id", "7.2"),
    Operation(_NR.IOAS_CHANGE_PROCESS, _ioas_change_process, "iommu_ioas_change_process", "__reserved", "7.2"),
    Operation(_NR.VEVENTQ_ALLOC, _veventq_alloc, "iommu_veventq_alloc", "out_veventq_fd", "7.2"),
    Operation(_NR.HW_QUEUE_ALLOC, _hw_queue_alloc, "iommu_hw_queue_alloc", "length", "7.2"),
)
"""Every ioctl there is, by number. Source: main.c, ``iommufd_ioctl_ops``, Linux 6.12 and 7.2."""


def _release(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split("."))


@cache
def operations(kernel: str) -> Mapping[int, Operation]:
    """The ioctls that a kernel has, by number."""
    return MappingProxyType({int(one.nr): one for one in OPERATIONS if _release(one.since) <= _release(kernel)})


def perform(context: Context, state: IoctlState, request: int, arg: Buffer, memory: ClientMemory | None) -> int:
    """iommufd_fops_ioctl(). See `Context.ioctl`."""
    table = operations(context.version.name)
    request &= 0xFFFF_FFFF
    nr = request & 0xFF
    # Linux asks VFIO's compatibility about numbers beyond its table, before it looks at the argument.
    if not min(table) <= nr <= max(table):
        raise KernelError(errno.ENOTTY, "ioctl")
    client = memoryview(arg).cast("B")
    if client.nbytes < _U32:
        raise KernelError(errno.EFAULT, "ioctl")
    size = int.from_bytes(client[:_U32], sys.byteorder)
    operation = table[nr]
    if operation.nr.request != request:
        raise KernelError(errno.ENOTTY, "ioctl")
    name = f"IOMMU_{operation.nr.name}"
    if size < operation.minimum:
        raise KernelError(errno.EINVAL, name)
    extra = operation.reports_bytes if context.generic_reports else 0
    known = operation.size + extra
    # copy_struct_from_user()
    if any(client[known:size]):
        raise KernelError(errno.E2BIG, name)
    if client.nbytes < size:
        raise KernelError(errno.EFAULT, name)
    client = client[:size]
    data = bytes(client[:known]).ljust(known, b"\0")
    cmd = ffi.new(f"struct {operation.struct} *")
    ffi.memmove(cmd, data, operation.size)
    call = Call(operation, context, state, cmd, bytearray(data[operation.size :]), memory or ClientMemory(), client)
    operation.run(call)
    return 0
