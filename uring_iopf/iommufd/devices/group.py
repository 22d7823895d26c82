"""Groups of devices that the IOMMU cannot tell apart, and what they are attached to, PASID by PASID.

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
"""Stands for requests without a PASID, as in Linux; those that name it are the same to the kernel."""


class Member(Identified, Protocol):
    """What a device asks of the others in its group."""

    max_pasids: int
    reserved: tuple[tuple[int, int], ...]

    @property
    def c(self) -> CDevice:
        """The C object."""


@dataclass
class Attachment:
    """One PASID's table, and the devices that have been attached to it one by one.

    The table is every device's of the group from the first of them on. Linux keeps count of each all the same.
    """

    hwpt: HWPT
    devices: list[Member] = field(default_factory=list)


class DeviceGroup:
    """Devices that share whatever any of them is attached to. Give the same one to several `Context.bind` calls."""

    def __init__(self) -> None:
        self.devices: list[Member] = []
        """Those bound now."""
        self.attachments: dict[int, Attachment] = {}
        """By PASID; `NO_PASID` is what the devices themselves are attached to."""
        self._owner: ObjectTable | None = None

    def joining(self, device: Member, table: ObjectTable) -> list[Step]:
        """What takes a device in. Raises: KernelError(EPERM), the group's devices belong to another context."""
        if self.devices and self._owner is not table:
            raise KernelError(errno.EPERM, "iommu_device_claim_dma_owner")
        return [partial(setattr, self, "_owner", table), partial(self.devices.append, device)]

    def leaving(self, device: Member) -> Step:
        """What lets a device go; it is attached to nothing."""
        return partial(self.devices.remove, device)

    def is_attached(self, device: Member, pasid: int) -> bool:
        """Whether this very device has been attached."""
        at = self.attachments.get(pasid)
        return at is not None and device in at.devices

    def has_pasids(self) -> bool:
        """Whether any PASID is attached."""
        return any(pasid != NO_PASID for pasid in self.attachments)

    def takes_pasids(self) -> bool:
        """Whether the table of the devices themselves, if there is one, lets PASIDs be attached beside it."""
        at = self.attachments.get(NO_PASID)
        return at is None or at.hwpt.pasid_compatible
