"""The virtual identity of an attached device: the virtual IOMMU for its events, and the device's number there.

Source: drivers/iommu/iommufd/driver.c and the drivers, Linux 7.2.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple, Protocol

from uring_iopf.abi.iommufd import VeventqType
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.devices.viommu import BehindIommu, Viommu
from uring_iopf.iommufd.spaces.hwpt import HWPT, NestedHWPT

if TYPE_CHECKING:
    from uring_iopf.iommufd.queues.events import Smmuv3Event


class VirtualIdentity(NamedTuple):
    """The virtual IOMMU for a device's events, and the device's number in them."""

    viommu: Viommu
    virt_id: int


class Identified(BehindIommu, Protocol):
    """A device with a virtual identity."""

    virtual: VirtualIdentity | None


def virtual_identity(device: Identified, hwpt: HWPT, call: str) -> VirtualIdentity | None:
    """Return the identity that *device* gets when it is attached to *hwpt* without a PASID. Nothing changes.

    None: *hwpt* is no nested table on a virtual IOMMU, or its description does not translate and the device has no
    virtual device.
    Raises: KernelError(ENOENT), the device has no virtual device on the table's virtual IOMMU.
    Source: mock_domain_nop_attach, arm_smmu_attach_prepare_vmaster, Linux 7.2.
    """
    if not isinstance(hwpt, NestedHWPT) or not isinstance(hwpt.made_on, Viommu):
        return None
    viommu = hwpt.made_on
    vdevice = viommu.vdevice_of(device)
    if vdevice is None:
        if not device.driver.nested_format.translates(hwpt.data):
            return None
        raise KernelError(errno.ENOENT, call)
    if device.driver.keeps_identity and device.virtual is not None and device.virtual.viommu is viommu:
        return device.virtual
    return VirtualIdentity(viommu, vdevice.virt_id)


def forward_smmuv3_event(device: Identified, event: Smmuv3Event) -> None:
    """Report an event of the hardware's queue to the guest of *device*, with the number that it has there.

    Raises: KernelError(EOPNOTSUPP), it is not for a guest (a stall is for the fault queue), or there is no guest or no
    queue; else as `Viommu.report_event`. Source: arm_smmu_handle_event, Linux 7.2.
    """
    if not event.forwarded or device.virtual is None:
        raise KernelError(errno.EOPNOTSUPP, "arm_smmu_handle_event")
    seen = event.seen_by_guest(device.virtual.virt_id)
    device.virtual.viommu.report_event(VeventqType.ARM_SMMUV3, seen.pack())
