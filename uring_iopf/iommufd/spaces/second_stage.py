"""The mappings of an address space as tables of stage 2: all of them beforehand, some, or each when it is needed."""

from __future__ import annotations

import errno
from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final

from uring_iopf._native import lib
from uring_iopf.abi.iommufd import FaultPerm
from uring_iopf.errors import KernelError, UsageError, check_fits, check_is
from uring_iopf.hardware.page_tables import PAGE_SIZES, PageTables
from uring_iopf.iommufd.spaces.ioas import IOAS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf._native import CPageTables
    from uring_iopf.hardware.iommus.iommu import Iommu
    from uring_iopf.iommufd.spaces.ioas import Mapping

_PAGE: Final = PAGE_SIZES[0]
_MOST: Final = 1 << 48


class SecondStage:
    """Tables of stage 2 that are filled from an `IOAS`.

    *ioas*: its IOVAs are the intermediate addresses, and the address of a mapping is where it leads. *tables*: of stage
    2, and filled by nothing else in these ranges. A mapping that does not begin or end at a page of 4 KiB is mapped as
    far as it has whole pages.

    Nothing is in the tables before `pin` or `fill`. A mapping that is removed from the IOAS goes from the tables, too,
    before the call returns, and the IOMMUs of `flush_with` invalidate it, as iommu_unmap() and its sync do. Software
    invalidates the pages that `unpin` returns itself.

    Destroying the IOAS removes all mappings. One thread at a time may use it, and change the IOAS.

    Raises: UsageError, *tables* are not of stage 2, or closed; KernelError(ENOENT), *ioas* is destroyed.
    """

    def __init__(self, ioas: IOAS, tables: PageTables) -> None:
        check_is("an IOAS", IOAS, ioas=ioas)
        if not isinstance(tables, PageTables) or tables.stage != 2:
            raise UsageError(f"tables must be PageTables of stage 2, not {tables!r}")
        self.ioas = ioas
        self.tables = tables
        self.gone: list[tuple[int, int]] = []
        """Ranges that the IOAS has removed, and that are still in the tables: only in the middle of a call."""
        self._c: CPageTables | None = tables.c  # also after its name is closed: hardware walks them
        self._flushed_by: list[tuple[Iommu, int]] = []
        self._unflushed: list[tuple[int, int]] = []
        self.filled = 0
        """The pages that `fill` has mapped."""
        self._pinned: dict[int, int] = {}
        self._starts: list[int] = []  # of these, sorted
        ioas.follow(self)

    def flush_with(self, iommu: Iommu, domain: int) -> None:
        """Let an IOMMU invalidate what is removed: `Iommu.flush_stage_2`, for the translators that have this domain.

        An IOMMU that has been closed flushes no more: close it after its functions.
        Raises: KernelError(EOPNOTSUPP), its model has no such commands.
        """
        iommu.flush_stage_2(domain)
        self._flushed_by.append((iommu, domain))

    def catch_up(self) -> None:
        """Unmap what the IOAS has removed, and let the IOMMUs invalidate it. The IOAS calls this after each removal."""
        while self.gone:
            first, last = self.gone[-1]
            pages = self._pages_in(first, last)
            self._unflushed += pages  # first: a call that is interrupted is made again
            for address, _ in pages:
                self._drop(address)
            if self._unflushed:
                lowest = min(address for address, _ in self._unflushed)
                end = max(address + size for address, size in self._unflushed)
                for iommu, domain in self._flushed_by:
                    if not iommu.closed:
                        iommu.flush_stage_2(domain, lowest, end - lowest)
                self._unflushed.clear()
            self.gone.pop()

    def close(self) -> None:
        """Unmap all of it, invalidate it, and follow the IOAS no more. Closing again does nothing."""
        if self._c is None:
            return
        self.gone.append((0, _MOST - 1))
        self.catch_up()
        self.ioas.unfollow(self)
        self._c = None

    def pin(self, first: int = 0, last: int = _MOST - 1) -> int:
        """Map what the IOAS has from *first* to *last*, by the largest pages that fit. Return the bytes mapped.

        Pages that are mapped already stay. Raises: as `PageTables.map`. Pages that were mapped before stay.
        """
        check_fits(48, first=first, last=last)
        self._begin()
        done = 0
        for mapping in self.ioas.mappings():
            low = -(-max(mapping.iova, first) // _PAGE) * _PAGE
            high = min(mapping.last, last) + 1
            for address, size in self._pages(mapping, low, high):
                self._map(mapping, address, size)
                done += size
        return done

    def unpin(self, first: int = 0, last: int = _MOST - 1) -> list[tuple[int, int]]:
        """Unmap every page that has an address from *first* to *last*. Return (address, size) of each, to invalidate.

        A large page goes as a whole. Raises: as `PageTables.unmap`.
        """
        check_fits(48, first=first, last=last)
        self._begin()
        pages = self._pages_in(first, last)
        for address, _ in pages:
            self._drop(address)
        return pages

    def _begin(self) -> None:
        """Raises: UsageError, closed. A removal that was interrupted is ended first."""
        if self._c is None:
            raise UsageError("the second stage is closed")
        self.catch_up()

    def _pages_in(self, first: int, last: int) -> list[tuple[int, int]]:
        """The address and size of the pages that have an address in a range."""
        return [(at, size) for at in self._starts if at <= last and at + (size := self._pinned.get(at, _PAGE)) > first]

    def _drop(self, address: int) -> None:
        assert self._c is not None
        rc = lib.uiopf_pagetables_unmap(self._c, 0, address)
        if rc < 0 and rc != -errno.ENOENT:  # something else has taken it away
            raise KernelError(-rc, f"unpin {address:#x}")
        self._pinned.pop(address, None)
        del self._starts[bisect_left(self._starts, address)]

    def fill(self, address: int, access: int) -> bool:
        """Map the page of 4 KiB that has *address*, if the IOAS has it with this right. Return whether it does.

        Called for a fault of stage 2 (`Translated.intermediate`). A page that is mapped already stays.
        """
        check_fits(64, address=address)
        check_fits(4, access=access)
        self._begin()
        at = address // _PAGE * _PAGE
        mapping = self.ioas.find(at)
        if mapping is None or at + _PAGE - 1 > mapping.last or access & ~(self._perm(mapping) | FaultPerm.PRIV):
            return False
        if self._is_pinned(at):
            return True
        if not list(self._pages(mapping, at, at + _PAGE)):
            return False
        self._map(mapping, at, _PAGE)
        self.filled += 1
        return True

    def _is_pinned(self, address: int) -> bool:
        return any(self._pinned.get(address // size * size) == size for size in PAGE_SIZES)

    def _map(self, mapping: Mapping, address: int, size: int) -> None:
        to = mapping.address + address - mapping.iova
        try:
            self.tables.map(address, to, size=size, perm=self._perm(mapping))
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
            raise KernelError(errno.EEXIST, f"pin: something else has mapped {address:#x}") from error
        self._pinned[address] = size
        insort(self._starts, address)

    @staticmethod
    def _perm(mapping: Mapping) -> FaultPerm:
        read = FaultPerm.READ | FaultPerm.EXEC if mapping.readable else FaultPerm(0)
        return read | (FaultPerm.WRITE if mapping.writeable else FaultPerm(0))

    def _pages(self, mapping: Mapping, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The pages from *low*, a multiple of 4 KiB, to *high* that are not mapped yet: the largest that fit."""
        distance = mapping.address - mapping.iova
        if distance % _PAGE or not self._perm(mapping):
            return
        while low + _PAGE <= high:
            if self._is_pinned(low):
                low += _PAGE
                continue
            for size in reversed(PAGE_SIZES):
                if low % size == 0 and distance % size == 0 and low + size <= high and not self._has_within(low, size):
                    break
            yield low, size
            low += size

    def _has_within(self, address: int, size: int) -> bool:
        """Whether a page begins in this range, whose first page of 4 KiB is not mapped."""
        at = bisect_left(self._starts, address)
        return at < len(self._starts) and self._starts[at] < address + size
