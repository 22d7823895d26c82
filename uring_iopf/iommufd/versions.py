"""What differs between kernels, in one table; everything else in this package is the same for all of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from uring_iopf.abi.iommufd import HwptAllocFlags
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
    """Which PCIe virtual functions may not use a table that carries a fault queue."""

    ALL = "every virtual function"
    WITH_PRI = "those whose physical function has the PRI capability: it is shared, and so is a Response Failure"


@dataclass(frozen=True)
class KernelVersion:
    """The rules of one kernel that others do not share."""

    name: str
    paging_flags: HwptAllocFlags
    """What HWPT_ALLOC takes for a paging table. With FAULT_ID_VALID, such a table may carry a fault queue."""
    nested_flags: HwptAllocFlags
    """What HWPT_ALLOC takes for a nested table."""
    refused_functions: RefusedFunctions
    mock_passes_over_paging_data: bool
    """Whether the mock IOMMU accepts data for a paging table and does not look at it."""
    virtual_iommus: bool
    """Whether there are virtual IOMMUs, virtual devices and virtual event queues."""


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
                virtual_iommus=False,
            ),
            # Of what only the newer kernel has, attachment of PASIDs is not here yet.
            KernelVersion(
                name="7.2",
                paging_flags=NEST_PARENT | DIRTY_TRACKING | FAULT_ID_VALID | PASID,
                nested_flags=FAULT_ID_VALID | PASID,
                refused_functions=RefusedFunctions.WITH_PRI,
                mock_passes_over_paging_data=True,
                virtual_iommus=True,
            ),
        )
    }
)
"""The kernels there are, by name."""


def kernel_version(name: str) -> KernelVersion:
    """The rules of one kernel. Raises: UsageError, there is no such kernel here."""
    try:
        return VERSIONS[name]
    except KeyError:
        raise UsageError(f"no kernel {name!r} here; there are {', '.join(VERSIONS)}") from None
