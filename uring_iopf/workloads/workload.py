"""A workload: the page faults of a program, packed as the endpoint takes them."""

from __future__ import annotations

import functools
import hashlib
import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROW: Final = struct.Struct("<QQII")
"""``struct uiopf_access`` of ``cdefs/abi/api.h``: time_ns, address, pasid, access."""

PASIDS: Final = 1 << 20
"""PCIe's PASIDs have 20 bits."""

ADDRESSES: Final = 1 << 47
"""Where user addresses end: the lower canonical half of 48 bits."""

PAGE: Final = 4096

PERMISSIONS: Final[Mapping[bytes, int]] = {b"r": 1, b"w": 2, b"x": 4}
"""A trace's letters as IOMMU_PGFAULT_PERM_READ, _WRITE and _EXEC."""


@dataclass(frozen=True)
class Workload:
    """Page faults in the order in which a program took them.

    *rows*: one ``struct uiopf_access`` of 24 bytes each, little-endian; C takes the buffer as it is. The rows are
    trusted: `load_workload` has checked them.
    """

    name: str
    rows: bytes = field(repr=False)

    def __len__(self) -> int:
        """How many faults."""
        return len(self.rows) // ROW.size

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        """Each fault: time_ns, address, pasid, IOMMU_PGFAULT_PERM_*."""
        return ROW.iter_unpack(self.rows)

    @functools.cached_property
    def pasids(self) -> int:
        """How many entries the PASID table needs: the highest PASID and one."""
        return 1 + max(pasid for _, _, pasid, _ in self)

    @functools.cached_property
    def address_spaces(self) -> int:
        """How many different PASIDs occur."""
        return len({pasid for _, _, pasid, _ in self})

    @functools.cached_property
    def pages(self) -> int:
        """How many different pages it faults on."""
        return len({(pasid, address) for _, address, pasid, _ in self})

    @functools.cached_property
    def table_pages(self) -> int:
        """How many pages of 4-level tables it takes to map every page: not one more, not one less.

        A root for each PASID that occurs, and a table for each 512 GiB, 1 GiB and 2 MiB of it that is touched.
        """
        lowest = {(pasid, address >> 21) for _, address, pasid, _ in self}
        middle = {(pasid, region >> 9) for pasid, region in lowest}
        upper = {(pasid, region >> 9) for pasid, region in middle}
        return len(lowest) + len(middle) + len(upper) + self.address_spaces

    @functools.cached_property
    def mean_rate(self) -> float:
        """Faults a second, as recorded, on average; infinite when all came at once."""
        first, last = (ROW.unpack_from(self.rows, at)[0] for at in (0, len(self.rows) - ROW.size))
        return len(self) * 1e9 / (last - first) if last > first else math.inf

    @functools.cached_property
    def digest(self) -> str:
        """The start of the content's SHA-256, in hex: the same for the same faults, whatever the file was called."""
        return hashlib.sha256(self.rows).hexdigest()[:12]
