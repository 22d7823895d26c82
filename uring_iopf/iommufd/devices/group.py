"""Groups of devices that the IOMMU cannot tell apart, and their attachments by PASID.

Source: drivers/iommu/iommufd/device.c (``iommufd_group``), Linux 6.12 and 7.2.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from uring_iopf.errors import KernelError
from uring_iopf.handles import Step
from uring_iopf.iommufd.devices.identity import Identified

if TYPE_CHECKING:
    from uring_iopf._native import CDevice
    from uring_iopf.iommufd.objects import ObjectTable
    from uring_iopf.iommufd.spaces.hwpt import HWPT

NO_PASID: Final = 0
"""The key for requests without a PASID, as in Linux. Requests with PASID 0 are the same to the kernel."""


class Member(Identified, Protocol):
    """The attributes of a device that the others in its group use."""

    max_pasids: int
    reserved: tuple[tuple[int, int], ...]

    @property
    def c(self) -> CDevice:
        """The C object."""


@dataclass
class Attachment:
    """One PASID's table, and the devices that were attached to it one by one.

    From the first attach on, the table belongs to every device of the group. Linux still counts each device.
    """

    hwpt: HWPT
    devices: list[Member] = field(default_factory=list)


class DeviceGroup:
    """Devices that share their attachments. Pass the same group to several `Context.bind` calls."""

    def __init__(self) -> None:
        self.devices: list[Member] = []
        """The devices that are bound."""
        self.attachments: dict[int, Attachment] = {}
        """The attachments by PASID. `NO_PASID` is the key of the devices themselves."""
        self._owner: ObjectTable | None = None

    def joining(self, device: Member, table: ObjectTable) -> list[Step]:
        """The steps that add a device. Raises: KernelError(EPERM), the group's devices belong to another context."""
        if self.devices and self._owner is not table:
            raise KernelError(errno.EPERM, "iommu_device_claim_dma_owner")
        return [partial(setattr, self, "_owner", table), partial(self.devices.append, device)]

    def leaving(self, device: Member) -> Step:
        """The step that removes a device, which is not attached."""
        return partial(self.devices.remove, device)

    def is_attached(self, device: Member, pasid: int) -> bool:
        """Whether this device itself was attached."""
        at = self.attachments.get(pasid)
        return at is not None and device in at.devices

    def has_pasids(self) -> bool:
        """Whether any PASID is attached."""
        return any(pasid != NO_PASID for pasid in self.attachments)

    def takes_pasids(self) -> bool:
        """Whether PASIDs can be attached beside the table of the devices themselves."""
        at = self.attachments.get(NO_PASID)
        return at is None or at.hwpt.pasid_compatible
