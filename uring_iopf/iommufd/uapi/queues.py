"""The ioctls of fault queues, virtual IOMMUs and their event queues."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final

from uring_iopf.abi.iommufd import HwQueueType, VeventqType, ViommuType
from uring_iopf.iommufd.devices.device import Device
from uring_iopf.iommufd.devices.viommu import Viommu
from uring_iopf.iommufd.queues.events import MOST_EVENTS
from uring_iopf.iommufd.queues.reports import PAGE_FAULTS
from uring_iopf.iommufd.spaces.ioas import ULONG_MAX

if TYPE_CHECKING:
    from uring_iopf.iommufd.uapi.call import Call

_U32: Final = 4


def fault_queue_alloc(call: Call) -> None:
    """IOMMU_FAULT_QUEUE_ALLOC."""
    kind = int.from_bytes(call.extra[:_U32], sys.byteorder)
    call.supported(not (call.cmd.flags or any(call.extra[_U32:])))
    context = call.context
    made = context.report_queue_alloc(kind) if kind != PAGE_FAULTS else context.fault_queue_alloc()
    call.cmd.out_fault_id, call.cmd.out_fault_fd = made.id, made.fd
    call.respond_with(made)


def viommu_alloc(call: Call) -> None:
    """IOMMU_VIOMMU_ALLOC."""
    cmd = call.cmd
    call.supported(not (cmd.flags or cmd.type == ViommuType.DEFAULT))
    call.get(cmd.dev_id, Device)
    data = call.user_data(cmd.data_uptr, cmd.data_len)
    made = call.context.viommu_alloc(cmd.dev_id, cmd.hwpt_id, cmd.type, cmd.flags, data=data)
    cmd.out_viommu_id = made.id
    call.respond_with(made)


def vdevice_alloc(call: Call) -> None:
    """IOMMU_VDEVICE_ALLOC."""
    cmd = call.cmd
    made = call.context.vdevice_alloc(cmd.viommu_id, cmd.dev_id, cmd.virt_id)
    cmd.out_vdevice_id = made.id
    call.respond_with(made)


def veventq_alloc(call: Call) -> None:
    """IOMMU_VEVENTQ_ALLOC."""
    cmd = call.cmd
    call.supported(not (cmd.flags or cmd.__reserved or cmd.type == VeventqType.DEFAULT))
    if not 0 < cmd.veventq_depth <= MOST_EVENTS:
        raise call.refuse(errno.EINVAL)
    made = call.context.veventq_alloc(cmd.viommu_id, cmd.type, cmd.veventq_depth, cmd.flags)
    cmd.out_veventq_id, cmd.out_veventq_fd = made.id, made.fd
    call.respond_with(made)


def hw_queue_alloc(call: Call) -> None:
    """IOMMU_HW_QUEUE_ALLOC."""
    cmd = call.cmd
    call.supported(not (cmd.flags or cmd.type == HwQueueType.DEFAULT))
    if not cmd.length:
        raise call.refuse(errno.EINVAL)
    if cmd.nesting_parent_iova + cmd.length - 1 > ULONG_MAX:
        raise call.refuse(errno.EOVERFLOW)
    call.get(cmd.viommu_id, Viommu)
    raise call.refuse(errno.EOPNOTSUPP)  # no driver here has them
