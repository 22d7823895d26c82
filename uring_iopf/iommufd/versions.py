"""The differences between kernels, in one table. Everything else in this package is the same for all kernels."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from uring_iopf.abi.iommufd import HwInfoFlags, HwptAllocFlags
from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRTY_TRACKING, FAULT_ID_VALID, NEST_PARENT, PASID = (
    HwptAllocFlags.DIRTY_TRACKING,
    HwptAllocFlags.FAULT_ID_VALID,
    HwptAllocFlags.NEST_PARENT,
    HwptAllocFlags.PASID,
)


class RefusedFunctions(enum.Enum):
    """The PCIe virtual functions that may not use a table with a fault queue."""

    ALL = "every virtual function"
    WITH_PRI = "those whose physical function has the PRI capability: it is shared, and so is a Response Failure"


@dataclass(frozen=True)
class KernelVersion:
    """The rules of one kernel that other kernels do not share."""

    name: str
    paging_flags: HwptAllocFlags
    """The flags that HWPT_ALLOC accepts for a paging table. FAULT_ID_VALID: such a table may have a fault queue."""
    nested_flags: HwptAllocFlags
    """The flags that HWPT_ALLOC accepts for a nested table."""
    refused_functions: RefusedFunctions
    mock_passes_over_paging_data: bool
    """Whether the mock IOMMU accepts data for a paging table and ignores them."""
    mock_device_flags: int
    """The flags of a mock device: 1 no dirty tracking, 2 large addresses, 4 PASIDs."""
    pasid_attach: bool
    """Whether a PASID can be attached to a table of its own."""
    virtual_iommus: bool
    """Whether there are virtual IOMMUs, virtual devices and their event queues."""
    attached_is_busy: bool
    """Whether an attach of an attached device returns EBUSY for every table; else EINVAL for another table."""
    one_device_reports: bool
    """Whether only the device of a group that makes the attachment has its faults enabled."""
    vtd_needs_pasid: bool
    """Whether VT-d's driver answers a page request without a PASID itself, INVALID."""
    hw_info_flags: HwInfoFlags
    """The flags that GET_HW_INFO accepts."""
    hw_info_says_pasids: bool
    """Whether GET_HW_INFO says how many PASIDs a device has; else the field is reserved."""
    hw_info_says_no_ats: bool
    """Whether GET_HW_INFO reports that a device has no ATS."""
    invalidates_nested_only: bool
    """Whether HWPT_INVALIDATE accepts a nested table only (another object returns ENOENT); else it accepts a virtual
    IOMMU too, and another object returns EINVAL."""


VERSIONS: Final[Mapping[str, KernelVersion]] = MappingProxyType(
    {
        version.name: version
        for version in (
            KernelVersion(
                name="6.12",
                paging_flags=NEST_PARENT | DIRTY_TRACKING,
                nested_flags=FAULT_ID_VALID,
                refused_functions=RefusedFunctions.ALL,
                mock_passes_over_paging_data=False,
                mock_device_flags=3,
                pasid_attach=False,
                virtual_iommus=False,
                attached_is_busy=False,
                one_device_reports=True,
                vtd_needs_pasid=True,
                hw_info_flags=HwInfoFlags(0),
                hw_info_says_pasids=False,
                hw_info_says_no_ats=False,
                invalidates_nested_only=True,
            ),
            KernelVersion(
                name="7.2",
                paging_flags=NEST_PARENT | DIRTY_TRACKING | FAULT_ID_VALID | PASID,
                nested_flags=FAULT_ID_VALID | PASID,
                refused_functions=RefusedFunctions.WITH_PRI,
                mock_passes_over_paging_data=True,
                mock_device_flags=7,
                pasid_attach=True,
                virtual_iommus=True,
                attached_is_busy=True,
                one_device_reports=False,
                vtd_needs_pasid=False,
                hw_info_flags=HwInfoFlags.INPUT_TYPE,
                hw_info_says_pasids=True,
                hw_info_says_no_ats=True,
                invalidates_nested_only=False,
            ),
        )
    }
)
"""The emulated kernels, by name, the oldest first."""


def kernel_version(name: str) -> KernelVersion:
    """Return the rules of a kernel. Raises: UsageError, this kernel is not emulated."""
    try:
        return VERSIONS[name]
    except KeyError:
        raise UsageError(f"kernel must be one of {', '.join(VERSIONS)}; not {name!r}") from None


def rules_of(kernel: str) -> KernelVersion:
    """The rules of a version of Linux from 6.12 on: of the newest that is known here and not newer than it."""
    return [one for one in VERSIONS.values() if _number(one.name) <= _number(kernel)][-1]


def _number(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split(".")))
