"""What an IOMMU's paging tables can translate: asked of drivers, enforced by address spaces."""

from __future__ import annotations

from typing import Final, NamedTuple

PAGE_SIZE: Final = 4096


class Geometry(NamedTuple):
    """What an IOMMU's paging tables can translate. Source: linux/iommu.h, ``iommu_domain_geometry``, Linux 6.12."""

    page_size: int
    """The smallest, in bytes."""
    first: int
    last: int
    """IOVAs outside *first* to *last* are not translated."""


DEFAULT_GEOMETRY: Final = Geometry(PAGE_SIZE, 0, 2**48 - 1)
"""Four levels of 4 KiB tables."""
