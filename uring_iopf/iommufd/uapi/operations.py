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
from typing import TYPE_CHECKING, Final

from uring_iopf._native import ffi
from uring_iopf.abi.iommufd import IoctlNr
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.client_memory import ClientMemory
from uring_iopf.iommufd.uapi import queues, spaces, tables
from uring_iopf.iommufd.uapi.call import Call, IoctlState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uring_iopf.iommufd.calls import Calls
    from uring_iopf.iommufd.client_memory import Buffer

_U32: Final = 4


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
    Operation(_NR.DESTROY, tables.destroy, "iommu_destroy", "id"),
    Operation(_NR.IOAS_ALLOC, spaces.ioas_alloc, "iommu_ioas_alloc", "out_ioas_id"),
    Operation(_NR.IOAS_ALLOW_IOVAS, spaces.ioas_allow_iovas, "iommu_ioas_allow_iovas", "allowed_iovas"),
    Operation(_NR.IOAS_COPY, spaces.ioas_copy, "iommu_ioas_copy", "src_iova"),
    Operation(_NR.IOAS_IOVA_RANGES, spaces.ioas_iova_ranges, "iommu_ioas_iova_ranges", "out_iova_alignment"),
    Operation(_NR.IOAS_MAP, spaces.ioas_map, "iommu_ioas_map", "iova"),
    Operation(_NR.IOAS_UNMAP, spaces.ioas_unmap, "iommu_ioas_unmap", "length"),
    Operation(_NR.OPTION, spaces.option, "iommu_option", "val64"),
    Operation(_NR.VFIO_IOAS, spaces.vfio_ioas, "iommu_vfio_ioas", "__reserved"),
    Operation(_NR.HWPT_ALLOC, tables.hwpt_alloc, "iommu_hwpt_alloc", "__reserved"),
    Operation(_NR.GET_HW_INFO, tables.get_hw_info, "iommu_hw_info", "__reserved"),
    Operation(
        _NR.HWPT_SET_DIRTY_TRACKING, tables.hwpt_set_dirty_tracking, "iommu_hwpt_set_dirty_tracking", "__reserved"
    ),
    Operation(_NR.HWPT_GET_DIRTY_BITMAP, tables.hwpt_get_dirty_bitmap, "iommu_hwpt_get_dirty_bitmap", "data"),
    Operation(_NR.HWPT_INVALIDATE, tables.hwpt_invalidate, "iommu_hwpt_invalidate", "__reserved"),
    Operation(_NR.FAULT_QUEUE_ALLOC, queues.fault_queue_alloc, "iommu_fault_alloc", "out_fault_fd", reports_bytes=8),
    Operation(_NR.IOAS_MAP_FILE, spaces.ioas_map_file, "iommu_ioas_map_file", "iova", "7.2"),
    Operation(_NR.VIOMMU_ALLOC, queues.viommu_alloc, "iommu_viommu_alloc", "out_viommu_id", "7.2"),
    Operation(_NR.VDEVICE_ALLOC, queues.vdevice_alloc, "iommu_vdevice_alloc", "virt_id", "7.2"),
    Operation(_NR.IOAS_CHANGE_PROCESS, spaces.ioas_change_process, "iommu_ioas_change_process", "__reserved", "7.2"),
    Operation(_NR.VEVENTQ_ALLOC, queues.veventq_alloc, "iommu_veventq_alloc", "out_veventq_fd", "7.2"),
    Operation(_NR.HW_QUEUE_ALLOC, queues.hw_queue_alloc, "iommu_hw_queue_alloc", "length", "7.2"),
)
"""Every ioctl there is, by number. Source: main.c, ``iommufd_ioctl_ops``, Linux 6.12 and 7.2."""


def _release(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split("."))


@cache
def operations(kernel: str) -> Mapping[int, Operation]:
    """The ioctls that a kernel has, by number."""
    return MappingProxyType({int(one.nr): one for one in OPERATIONS if _release(one.since) <= _release(kernel)})


def perform(context: Calls, state: IoctlState, request: int, arg: Buffer | None, memory: ClientMemory | None) -> int:
    """iommufd_fops_ioctl(). See `Context.ioctl`."""
    table = operations(context.version.name)
    request &= 0xFFFF_FFFF
    nr = request & 0xFF
    # Linux asks VFIO's compatibility about numbers beyond its table, before it looks at the argument.
    if not min(table) <= nr <= max(table):
        raise KernelError(errno.ENOTTY, "ioctl")
    client = memoryview(b"" if arg is None else arg).cast("B")
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
    call = Call(name, context, state, cmd, bytearray(data[operation.size :]), memory or ClientMemory(), client)
    operation.run(call)
    return 0
