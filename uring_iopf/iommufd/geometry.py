"""The geometry of an IOMMU's paging tables. Drivers declare it, and address spaces enforce it."""

from __future__ import annotations

from typing import Final, NamedTuple

PAGE_SIZE: Final = 4096


class Geometry(NamedTuple):
    """The IOVAs that paging tables can translate. Source: linux/iommu.h, ``iommu_domain_geometry``, Linux 6.12."""

    page_size: int
    """The smallest page, in bytes."""
    first: int
    """The first IOVA that is translated."""
    last: int
    """The last IOVA that is translated."""


DEFAULT_GEOMETRY: Final = Geometry(PAGE_SIZE, 0, 2**48 - 1)
"""Four levels of 4 KiB tables."""
