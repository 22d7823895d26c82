"""The ioctls of page tables and of what their hardware says."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from uring_iopf.abi.iommufd import DirtyBitmapFlags, DirtyTrackingFlags, HwCapabilities, HwInfoFlags, HwInfoType
from uring_iopf.iommufd.devices.device import Device
from uring_iopf.iommufd.devices.viommu import Viommu
from uring_iopf.iommufd.objects import Object
from uring_iopf.iommufd.spaces.hwpt import NestedHWPT, PagingHWPT
from uring_iopf.iommufd.spaces.ioas import ULONG_MAX

if TYPE_CHECKING:
    from uring_iopf.iommufd.uapi.call import Call


def destroy(call: Call) -> None:
    """IOMMU_DESTROY."""
    call.context.destroy(call.cmd.id)


def hwpt_alloc(call: Call) -> None:
    """IOMMU_HWPT_ALLOC."""
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


def get_hw_info(call: Call) -> None:
    """IOMMU_GET_HW_INFO."""
    cmd, version = call.cmd, call.context.version
    call.supported(not cmd.flags & ~int(version.hw_info_flags))
    call.supported(not any(cmd.__reserved))
    call.supported(version.hw_info_says_pasids or not cmd.out_max_pasid_log2)  # it was reserved before
    device = call.get(cmd.dev_id, Device)
    hardware = device.driver.hardware
    if cmd.flags & HwInfoFlags.INPUT_TYPE and hardware.info:
        call.supported(cmd.in_data_type in (HwInfoType.DEFAULT, hardware.info_type))
    copied = min(cmd.data_len, len(hardware.info))
    call.memory.write(cmd.data_uptr, hardware.info[:copied])
    call.memory.clear(cmd.data_uptr + copied, cmd.data_len - copied)
    cmd.data_len = len(hardware.info)
    cmd.out_data_type = hardware.info_type
    if version.hw_info_says_pasids:
        cmd.out_max_pasid_log2 = max(device.max_pasids.bit_length() - 1, 0)
    # No driver here tracks dirty pages, and no device has PASIDs with execute permission or privileged mode.
    no_ats = version.hw_info_says_no_ats and not hardware.ats
    cmd.out_capabilities = HwCapabilities.PCI_ATS_NOT_SUPPORTED if no_ats else 0
    call.respond()


def hwpt_set_dirty_tracking(call: Call) -> None:
    """IOMMU_HWPT_SET_DIRTY_TRACKING."""
    call.supported(not call.cmd.flags & ~int(DirtyTrackingFlags.ENABLE))
    call.get(call.cmd.hwpt_id, PagingHWPT)
    raise call.refuse(errno.EOPNOTSUPP)


def hwpt_get_dirty_bitmap(call: Call) -> None:
    """IOMMU_HWPT_GET_DIRTY_BITMAP."""
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


def hwpt_invalidate(call: Call) -> None:
    """IOMMU_HWPT_INVALIDATE."""
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
