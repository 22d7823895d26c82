"""A workload: the page faults of a program, packed as the endpoint accepts them."""

from __future__ import annotations

import functools
import hashlib
import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from uring_iopf.errors import UsageError, check_fits, check_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Self

ROW: Final = struct.Struct("<QQII")
"""``struct uiopf_access`` of ``cdefs/abi/api.h``: time_ns, address, pasid, access."""

PASIDS: Final = 1 << 20
"""The number of PASIDs in PCIe, which have 20 bits."""

ADDRESSES: Final = 1 << 47
"""The end of user addresses: the lower canonical half of 48 bits."""

PAGE: Final = 4096

PERMISSIONS: Final[Mapping[bytes, int]] = {b"r": 1, b"w": 2, b"x": 4}
"""A trace's letters as IOMMU_PGFAULT_PERM_READ, _WRITE and _EXEC."""


@dataclass(frozen=True)
class Workload:
    """Page faults, in the order in which a program took them.

    *rows*: a ``struct uiopf_access`` of 24 bytes for each fault, little-endian, which C reads as it is. The values are
    not checked here; `load_workload` and `from_faults` check them. Raises: UsageError, *rows* are not whole rows, or
    are empty.
    """

    name: str
    rows: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise UsageError(f"name must be a string, not {self.name!r}")
        if not isinstance(self.rows, bytes) or not self.rows or len(self.rows) % ROW.size:
            raise UsageError(
                f"rows must be bytes, {ROW.size} for each fault, at least one; `Workload.from_faults` packs them"
            )

    @classmethod
    def from_faults(cls, faults: Iterable[tuple[int, int, int, int]], *, name: str = "faults") -> Self:
        """Make a workload of faults in memory, each ``(time_ns, address, pasid, perm)``, as iteration returns them.

        *time_ns*: nanoseconds, rising or equal. *address*: a multiple of 4,096, below 2^47. *pasid*: below 2^20.
        *perm*: one or more of `FaultPerm.READ`, WRITE and EXEC. Raises: UsageError, with the number of the bad fault,
        counted from 0.
        """
        rows: list[bytes] = []
        before = 0
        for number, fault in enumerate(_each(faults)):
            try:
                before, address, pasid, perm = _checked(fault, before)
            except UsageError as error:
                raise UsageError(f"fault {number}: {error}") from None
            rows.append(ROW.pack(before, address, pasid, perm))
        if not rows:
            raise UsageError("a workload needs at least one fault")
        return cls(name, b"".join(rows))

    def __len__(self) -> int:
        """The number of faults."""
        return len(self.rows) // ROW.size

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        """Each fault: time_ns, address, pasid, IOMMU_PGFAULT_PERM_*."""
        return ROW.iter_unpack(self.rows)

    @functools.cached_property
    def pasids(self) -> int:
        """The entries that a PASID table needs: the highest PASID plus 1."""
        return 1 + self.used_pasids[-1]

    @functools.cached_property
    def used_pasids(self) -> tuple[int, ...]:
        """The PASIDs of the faults, in rising order."""
        return tuple(sorted({pasid for _, _, pasid, _ in self}))

    @property
    def address_spaces(self) -> int:
        """The number of different PASIDs."""
        return len(self.used_pasids)

    @functools.cached_property
    def pages(self) -> int:
        """The number of different pages."""
        return len({(pasid, address) for _, address, pasid, _ in self})

    @functools.cached_property
    def table_pages(self) -> int:
        """The exact number of pages of 4-level tables that map every page of the workload.

        These are a root for each PASID, and a table for each 512 GiB, 1 GiB and 2 MiB of it that has a page.
        """
        lowest = {(pasid, address >> 21) for _, address, pasid, _ in self}
        middle = {(pasid, region >> 9) for pasid, region in lowest}
        upper = {(pasid, region >> 9) for pasid, region in middle}
        return len(lowest) + len(middle) + len(upper) + self.address_spaces

    @functools.cached_property
    def mean_rate(self) -> float:
        """The recorded average of faults per second; infinite if all faults have the same time."""
        first, last = (ROW.unpack_from(self.rows, at)[0] for at in (0, len(self.rows) - ROW.size))
        return len(self) * 1e9 / (last - first) if last > first else math.inf

    @functools.cached_property
    def digest(self) -> str:
        """The first 12 hexadecimal digits of the content's SHA-256. It does not depend on the name."""
        return hashlib.sha256(self.rows).hexdigest()[:12]


def _each(faults: object) -> Iterator[object]:
    try:
        return iter(faults)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise UsageError(f"faults must be tuples (time_ns, address, pasid, perm), not {faults!r}") from None


def _checked(fault: object, before: int) -> tuple[int, int, int, int]:
    """Return the fault. Raises: UsageError, it is no fault, or its time is before that of the fault before it."""
    time_ns: int
    try:
        time_ns, address, pasid, perm = cast("tuple[int, int, int, int]", fault)
    except (TypeError, ValueError):
        raise UsageError(f"a fault must be a tuple (time_ns, address, pasid, perm), not {fault!r}") from None
    check_fits(63, time_ns=time_ns)
    check_whole("address", address, 0, ADDRESSES - PAGE)
    check_whole("pasid", pasid, 0, PASIDS - 1)
    check_whole("perm", perm, 1, 7)
    time_ns, address = int(time_ns), int(address)  # another type may not know the comparison and the remainder
    if time_ns < before:
        raise UsageError(f"time_ns must be {before} or more, the time of the fault before it, not {time_ns}")
    if address % PAGE:
        raise UsageError(f"address must be a multiple of {PAGE:#x}, not {address:#x}")
    return time_ns, address, pasid, perm
