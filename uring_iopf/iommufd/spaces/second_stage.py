"""The mappings of an address space as tables of stage 2: all of them beforehand, some, or each when it is needed."""

from __future__ import annotations

import errno
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import chain, filterfalse, repeat
from operator import call
from typing import TYPE_CHECKING, Final, Protocol

from uring_iopf._native import check, ffi, lib
from uring_iopf.abi.iommufd import FaultPerm
from uring_iopf.errors import KernelError, UsageError, check_fits, check_is
from uring_iopf.handles import Unshared, at_once, foreign, no_room, owned, quietly
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.page_tables import PAGE_SIZES, PageTables, level_of
from uring_iopf.iommufd.spaces.ioas import IOAS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf._native import CHost, CPageTables
    from uring_iopf.iommufd.spaces.ioas import Mapping


class Relies(Protocol):
    """Somebody who relies on all of it being pinned."""

    def may_not_rely(self) -> None:
        """Not all of it is pinned any more."""


_PAGE: Final = PAGE_SIZES[0]
_MOST: Final = 1 << 48
_IS_GONE: Final = frozenset({1, 2, 3, -errno.ENOENT})
"""Results of unmapping after which the page is gone: its level, or something else has taken it away."""


class SecondStage(Unshared):
    """Tables of stage 2 that are filled from an `IOAS`.

    *ioas*: its IOVAs are the intermediate addresses, and the address of a mapping is where it leads. *tables*: of stage
    2, and filled by nothing else in these ranges. A mapping that does not begin or end at a page of 4 KiB is mapped as
    far as it has whole pages.

    Nothing is in the tables before `pin` or `fill`. A mapping that is removed from the IOAS goes from the tables, too,
    before the call returns, and the IOMMUs of `flush_with` invalidate it, as iommu_unmap() and its sync do. Software
    invalidates the pages that `unpin` returns itself.

    A `DeviceFaultHandler` fills pages, too, from what the IOAS has.

    If an exception of a signal handler comes out of a call, the tables and what is known of them agree. Make the call
    again.

    Destroying the IOAS removes all mappings. One thread at a time may use it, and change the IOAS.

    Raises: UsageError, *tables* are not of stage 2, or closed; KernelError(ENOENT), *ioas* is destroyed;
    MemoryError.
    """

    _what = "second stage"

    def __init__(self, ioas: IOAS, tables: PageTables) -> None:
        super().__init__()
        check_is("an IOAS", IOAS, ioas=ioas)
        if not isinstance(tables, PageTables) or tables.stage != 2:
            raise UsageError(f"tables must be PageTables of stage 2, not {tables!r}")
        self.ioas = ioas
        self.tables = tables
        self.gone: list[tuple[int, int]] = []
        """Ranges that the IOAS is about to remove, and that are still in the tables: only in the middle of a call."""
        self._c: CPageTables | None = tables.c  # also after its name is closed: hardware walks them
        self._flushed_by: list[tuple[Iommu, int]] = []
        self._unflushed: list[tuple[int, int]] = []
        self.relied_on_by: list[Relies] = []
        """Fault handlers that rely on it to be pinned: while there are any, nothing may be unpinned."""
        self._known: list[Mapping] | None = None
        self._closing = self._has_lost = False
        self._pinned: dict[int, int] = {}
        self._host: CHost | None = owned(lib.uiopf_host_free, lib.uiopf_host_new, tables.c)
        if self._host is None:
            raise no_room("second stage")
        ioas.follow(self)
        self.update()

    @property
    def host(self) -> CHost:
        """The C object from which fault handlers fill. Raises: UsageError, closed."""
        if self._host is None:
            raise self._refusal()
        return self._host

    def _refusal(self) -> UsageError:
        return foreign(self._what) if self._is_foreign else UsageError("the second stage is closed")

    def _disown(self) -> None:
        super()._disown()
        self._c = self._host = None

    @property
    def filled(self) -> int:
        """The pages that `fill` has mapped, or a fault handler."""
        counts = ffi.new("struct uiopf_host_counts *")
        lib.uiopf_host_get_counts(self.host, counts)
        return int(counts.filled)

    def update(self) -> None:
        """Tell fault handlers what the IOAS has now. `IOAS` does so after each change. Raises: MemoryError."""
        gone = set(self.gone)
        mappings = [] if self._closing else [one for one in self.ioas.mappings() if (one.iova, one.last) not in gone]
        if mappings != self._known:
            ranges = ffi.new("struct uiopf_host_range[]", len(mappings))
            for at, one in zip(ranges, mappings, strict=True):
                at.first, at.last, at.to, at.perm = one.iova, one.last, one.address, self._perm(one)
            if lib.uiopf_host_set(self.host, ranges, len(mappings)) < 0:
                raise MemoryError("there is no memory for the mappings")
            self._known = mappings
        self._learn()

    def _learn(self) -> None:
        """Learn which pages fault handlers have filled."""
        pages = ffi.new("uint64_t[]", 512)
        take = iter(partial(lib.uiopf_host_take_filled, self.host, pages, len(pages)), 0)
        taken = chain.from_iterable(map(ffi.unpack, repeat(pages), take))
        deque(map(self._pinned.setdefault, taken, repeat(_PAGE)), 0)  # one bytecode: none is taken and not learnt

    def is_pinned(self) -> bool:
        """Whether all that the IOAS has is mapped, so that no fault can be of stage 2."""
        self.update()
        for mapping in self.ioas.mappings():
            low = -(-mapping.iova // _PAGE) * _PAGE
            if next(self._pages(mapping, low, mapping.last + 1), None) is not None:
                return False
        return True

    def clear(self) -> None:
        """Unmap everything, also what others have mapped in the tables, and invalidate nothing.

        Raises: KernelError(EBUSY), as `unpin`.
        """
        self._begin()
        self._check_not_relied_on("clear")
        at_once(partial(lib.uiopf_host_clear, self.host), self._pinned.clear)

    def _check_not_relied_on(self, call: str) -> None:
        if self.relied_on_by:
            raise KernelError(errno.EBUSY, f"{call}: a fault handler relies on all of it being pinned")

    def flush_with(self, iommu: Iommu, domain: int) -> None:
        """Let an IOMMU invalidate what is removed: `Iommu.flush_stage_2`, for the translators that have this domain.

        An IOMMU that has been closed flushes no more: close it after its functions.
        Raises: KernelError(EOPNOTSUPP), its model has no such commands.
        """
        check_is("an Iommu", Iommu, iommu=iommu)
        iommu.flush_stage_2(domain)
        self._flushed_by.append((iommu, domain))

    def catch_up(self) -> None:
        """Unmap what the IOAS removes, and let the IOMMUs invalidate it. The IOAS calls this in each change."""
        c = self._c
        if c is None:
            return
        try:
            self._catch_up(c)
        except UsageError:
            if self._c is not None:
                raise  # otherwise another thread has closed it meanwhile

    def _catch_up(self, c: CPageTables) -> None:
        self.update()  # first: what is removed is filled no more
        self._has_lost |= bool(self.gone)
        while gone := self.gone[-1:]:  # in steps that another thread may make as well, and a signal interrupt
            first, last = gone[0]
            pages = self._pages_in(first, last)
            self._unflushed += pages  # first: a call that is interrupted is made again
            for address, _ in pages:
                self._drop(c, address)
            unflushed = list(self._unflushed)
            if unflushed:
                lowest = min(address for address, _ in unflushed)
                end = max(address + size for address, size in unflushed)
                for iommu, domain in self._flushed_by:
                    if not iommu.closed:
                        iommu.flush_stage_2(domain, lowest, end - lowest)
                self._unflushed.clear()
            with suppress(ValueError):
                self.gone.remove((first, last))
        if self.relied_on_by and (self._has_lost or not self.is_pinned()):
            for one in list(self.relied_on_by):
                one.may_not_rely()
        self._has_lost = False

    def close(self) -> None:
        """Unmap all of it, invalidate it, and follow the IOAS no more. Closing again does nothing."""
        if self._c is None:
            return
        self._closing = True  # handlers that are still registered fill no more
        self.gone.append((0, _MOST - 1))
        self.catch_up()
        with suppress(ValueError):
            self.ioas.unfollow(self)
        self._c = self._host = None

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
            done += self._pin(mapping, low, high)
        return done

    def _pin(self, mapping: Mapping, low: int, high: int) -> int:
        done = 0
        while True:
            known = len(self._pinned)
            try:
                for address, size in self._pages(mapping, low, high):
                    self._map(mapping, address, size)
                    done += size
                    known = len(self._pinned)
            except KernelError as error:
                self._learn()
                if error.errno != errno.EEXIST or len(self._pinned) == known:
                    raise  # it was no fault handler that has been faster
            else:
                return done

    def unpin(self, first: int = 0, last: int = _MOST - 1) -> list[tuple[int, int]]:
        """Unmap every page that has an address from *first* to *last*. Return (address, size) of each, to invalidate.

        A large page goes as a whole. If an exception comes out, some are unmapped: invalidate the whole range then.
        Raises: KernelError(EBUSY), a fault handler relies on it; as `PageTables.unmap`.
        """
        check_fits(48, first=first, last=last)
        self._begin()
        self._check_not_relied_on("unpin")
        pages = self._pages_in(first, last)
        c = self._c
        if c is None:
            raise self._refusal()
        for address, _ in pages:
            self._drop(c, address)
        return pages

    def _begin(self) -> None:
        """Raises: UsageError, closed. A removal that was interrupted is ended first."""
        if self._c is None:
            raise self._refusal()
        was_interrupted = bool(self.gone)
        self.catch_up()
        if was_interrupted:  # the IOAS has the range still
            self.update()

    def _pages_in(self, first: int, last: int) -> list[tuple[int, int]]:
        """The address and size of the pages that have an address in a range."""
        return sorted((at, size) for at, size in list(self._pinned.items()) if at <= last and at + size > first)

    def _drop(self, c: CPageTables, address: int) -> None:
        unmapped = map(call, (partial(lib.uiopf_pagetables_unmap, c, 0, address),))
        rc = at_once(
            partial(next, filterfalse(_IS_GONE.__contains__, unmapped), None),
            quietly(partial(self._pinned.pop, address, None)),
        )
        if isinstance(rc, int):
            raise KernelError(-rc, f"unpin {address:#x}")

    def fill(self, address: int, access: int) -> bool:
        """Map the page of 4 KiB that has *address*, if the IOAS has it with this right. Return whether it does.

        Called for a fault of stage 2 (`Translated.intermediate`). A page that is mapped already stays.
        """
        check_fits(64, address=address)
        check_fits(4, access=access)
        self._begin()
        rc = lib.uiopf_host_fill(self.host, address, access)
        if rc in (-errno.ENOENT, -errno.EACCES):
            return False
        check(rc, f"fill {address:#x}")
        self._learn()
        return True

    def _is_pinned(self, address: int) -> bool:
        return any(self._pinned.get(address // size * size) == size for size in PAGE_SIZES)

    def _map(self, mapping: Mapping, address: int, size: int) -> None:
        to = mapping.address + address - mapping.iova
        c, perm = self.tables.c, self._perm(mapping)
        rc = at_once(
            partial(lib.uiopf_pagetables_map, c, 0, address, to, level_of(size), perm),
            quietly(partial(self._pinned.setdefault, address, size)),
        )
        if rc == -errno.EEXIST:
            raise KernelError(errno.EEXIST, f"pin: something else has mapped {address:#x}")
        if isinstance(rc, int):
            self.tables._check("map", rc, address)

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
        if len(self._pinned) < size // _PAGE:
            return any(address <= at < address + size for at in list(self._pinned))
        return any(at in self._pinned for at in range(address, address + size, _PAGE))
