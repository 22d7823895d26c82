"""I/O address spaces: the ranges of I/O virtual addresses (IOVAs), and their mappings.

A mapping has the target of a range, a user address or an offset in a file, and its permissions. The memory is not read
or pinned. Source: drivers/iommu/iommufd/{ioas,io_pagetable,pages}.c, Linux 6.12 and 7.2.
"""

from __future__ import annotations

import errno
import heapq
from bisect import bisect_left, bisect_right
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from uring_iopf.errors import KernelError, UsageError, check_fits, pairs, whole
from uring_iopf.handles import Step, quietly
from uring_iopf.iommufd.geometry import PAGE_SIZE
from uring_iopf.iommufd.objects import Object, ObjectTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from uring_iopf.iommufd.geometry import Geometry

HUGE_PAGE_SIZE: Final = 2 << 20
"""The greatest alignment of an IOVA that the kernel chooses: ``HPAGE_SIZE`` of x86-64."""
ULONG_MAX: Final = 2**64 - 1

MAP, MAP_FILE, COPY, UNMAP = "IOMMU_IOAS_MAP", "IOMMU_IOAS_MAP_FILE", "IOMMU_IOAS_COPY", "IOMMU_IOAS_UNMAP"


class Mapping(NamedTuple):
    """A range of IOVAs, and its target. Linux calls it an area."""

    iova: int
    """The first IOVA."""
    length: int
    """The length in bytes."""
    address: int
    """The target: a user address, or an offset in the file *fd*."""
    fd: int | None
    """The descriptor of the file; None: the target is a user address."""
    readable: bool
    writeable: bool
    source_writeable: bool
    """Whether the first mapping of this memory was writeable. If not, a copy may not be writeable."""

    @property
    def last(self) -> int:
        """Its last IOVA."""
        return self.iova + self.length - 1


class Piece(NamedTuple):
    """A part of a mapping's target. `Mapping` explains the fields."""

    address: int
    length: int
    fd: int | None
    source_writeable: bool


class Follower(Protocol):
    """Tables that have mappings of a space in them, and from which these go as they are removed from the space."""

    gone: list[tuple[int, int]]
    """Ranges, first and last IOVA, whose mappings are removed and that are still to be seen to."""

    def catch_up(self) -> None:
        """See to them."""


def check_map(call: str, iova: int, length: int, readable: bool, writeable: bool) -> None:
    """Check the arguments that Linux checks before it looks up the space.

    Raises: KernelError(EOVERFLOW), *iova* or *length* is 2^64 - 1 or more; KernelError(EINVAL), no permission is given.
    """
    if iova >= ULONG_MAX or length >= ULONG_MAX:
        raise KernelError(errno.EOVERFLOW, call)
    if not (readable or writeable):
        raise KernelError(errno.EINVAL, call)


def _fit(first: int, last: int, length: int, alignment: int, offset: int) -> int | None:
    """The lowest aligned start for *length* bytes in *first* to *last*, or None (``__alloc_iova_check_range``).

    As Linux: the offset is or-ed in after aligning, and a range of one byte is never taken.
    """
    start = (first + alignment - 1) & ~(alignment - 1) | offset
    if first + alignment - 1 > ULONG_MAX or start >= last or last - start < length - 1:
        return None
    return start


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted spans, with those that touch or overlap made one."""
    out: list[tuple[int, int]] = []
    for first, last in spans:
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return out


def _holes(used: Iterable[tuple[int, int]], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The parts of *first* to *last* that sorted spans leave free."""
    at = first
    for start, end in used:
        if start > last:
            break
        if start > at:
            yield at, start - 1
        at = max(at, end + 1)
    if at <= last:
        yield at, last


def _meets(spans: Sequence[tuple[int, int]], first: int, last: int) -> bool:
    """Whether one of sorted spans that do not overlap has an address of *first* to *last*."""
    at = bisect_right(spans, (last, ULONG_MAX))
    return at > 0 and spans[at - 1][1] >= first


class IOAS(Object):
    """An I/O address space (IOAS), for which paging tables are made.

    Destroying it removes its mappings. Addresses and lengths are bytes. A number beyond 64 bits raises `UsageError`.
    """

    def __init__(self, table: ObjectTable) -> None:
        super().__init__(table)
        self.auto_hwpts: list[Object] = []
        """The tables that were made because a device was attached to the space itself, oldest first. Each is destroyed
        with its last device."""
        self.iova_alignment = 1
        """IOVAs, lengths and offsets in pages must be multiples of it. It is 1 until a table needs more."""
        self._starts: list[int] = []  # of the mappings; in the same order
        self._mappings: list[Mapping] = []  # by rising IOVA; they do not overlap
        self._reserved: dict[object, tuple[tuple[int, int], ...]] = {}  # by owner
        self._merged_reserved: list[tuple[int, int]] | None = []  # None: to be merged again
        self._allowed: list[tuple[int, int]] = []  # by rising start; they do not overlap
        self._domains: dict[object, Geometry] = {}
        self._large_pages = True
        self._followers: list[Follower] = []

    # ---- mappings ----

    def mappings(self) -> Iterator[Mapping]:
        """Iterate over the mappings, by rising IOVA."""
        return iter(self._mappings[:])

    def find(self, iova: int) -> Mapping | None:
        """Return the mapping with this address, or None, in O(log n)."""
        whole("iova", iova)
        at = self._first(iova, iova)
        return None if at is None else self._mappings[at]

    def map(
        self, length: int, *, user_va: int, iova: int | None = None, readable: bool = True, writeable: bool = True
    ) -> int:
        """Map *length* bytes at a user address. Return the IOVA: *iova*, or the lowest free one if *iova* is None.

        The kernel chooses an IOVA from the allowed ranges, never 0. It has the alignment of the user address, at most
        the next power of two of the length, and at most 2 MiB.

        Raises: KernelError(EOVERFLOW), *length* or *iova* is 2^64 - 1, or a range goes beyond that;
        KernelError(EINVAL), no permission, no length, not aligned to `iova_alignment`, or *iova* is reserved;
        KernelError(EEXIST), the range overlaps with a mapping; KernelError(ENOSPC), no free range;
        KernelError(ENOENT), destroyed. Source: IOMMU_IOAS_MAP, Linux 6.12.
        """
        _check_u64(length=length, user_va=user_va, iova=0 if iova is None else iova)
        check_map(MAP, iova or 0, length, readable, writeable)
        self._check_exists(MAP)
        if user_va + length > ULONG_MAX:
            raise KernelError(errno.EOVERFLOW, MAP)
        return self._insert(MAP, [Piece(user_va, length, None, writeable)], iova, readable, writeable)

    def map_file(
        self,
        length: int,
        *,
        fd: int,
        start: int,
        iova: int | None = None,
        readable: bool = True,
        writeable: bool = True,
    ) -> int:
        """Map *length* bytes from offset *start* of a file. Only its descriptor is recorded. Return the IOVA.

        Raises: KernelError(EBADF), *fd* is negative; else as `map`. Source: IOMMU_IOAS_MAP_FILE, Linux 7.2.
        """
        _check_u64(length=length, start=start, iova=0 if iova is None else iova)
        whole("fd", fd)
        check_map(MAP_FILE, iova or 0, length, readable, writeable)
        self._check_exists(MAP_FILE)
        if not length:
            raise KernelError(errno.EINVAL, MAP_FILE)
        if start + length - 1 > ULONG_MAX:
            raise KernelError(errno.EOVERFLOW, MAP_FILE)
        if fd < 0:
            raise KernelError(errno.EBADF, MAP_FILE)
        return self._insert(MAP_FILE, [Piece(start, length, fd, writeable)], iova, readable, writeable)

    def copy(
        self,
        source: IOAS,
        source_iova: int,
        length: int,
        *,
        iova: int | None = None,
        readable: bool = True,
        writeable: bool = True,
    ) -> int:
        """Map the targets of *length* bytes at *source_iova* of another space, or of this one. Return the IOVA.

        Raises: KernelError(ENOENT), a part is not mapped in *source*; KernelError(EPERM), *writeable*, but the first
        mapping of the memory was not; else as `map`. Source: IOMMU_IOAS_COPY, Linux 6.12.
        """
        if not isinstance(source, IOAS):
            raise UsageError(f"source must be an IOAS, not {source!r}")
        _check_u64(length=length, source_iova=source_iova, iova=0 if iova is None else iova)
        check_map(COPY, max(source_iova, iova or 0), length, readable, writeable)
        pieces = source.pieces(source_iova, length)
        return self.insert_pieces(pieces, iova, readable, writeable)

    def pieces(self, iova: int, length: int) -> list[Piece]:
        """Return the targets of a range, the first half of `copy`.

        Raises: KernelError(ENOENT, EINVAL or EOVERFLOW), as `copy`.
        """
        _check_u64(iova=iova, length=length)
        self._check_exists(COPY)
        last = _last(COPY, iova, length)
        at = self._first(iova, iova)
        out: list[Piece] = []
        while iova <= last:
            if at is None or at == len(self._mappings) or self._mappings[at].iova > iova:
                raise KernelError(errno.ENOENT, COPY)
            one = self._mappings[at]
            end = min(last, one.last)
            out.append(Piece(one.address + iova - one.iova, end - iova + 1, one.fd, one.source_writeable))
            iova, at = end + 1, at + 1
        return out

    def insert_pieces(self, pieces: Sequence[Piece], iova: int | None, readable: bool, writeable: bool) -> int:
        """Map targets, the second half of `copy`. Raises: KernelError, as `copy`."""
        self._check_exists(COPY)
        return self._insert(COPY, pieces, iova, readable, writeable)

    def unmap(self, iova: int, length: int) -> int:
        """Remove the mappings in a range. Return the number of bytes that they had. (0, 2^64 - 1) does `unmap_all`.

        Mappings are never cut. If the range ends inside a mapping, the earlier ones are removed all the same, as in
        Linux.

        Raises: KernelError(ENOENT), the range cuts a mapping, or has none; KernelError(EINVAL), no length;
        KernelError(EOVERFLOW), the range goes beyond 2^64 - 1, or *iova* or *length* is 2^64 - 1.
        Source: IOMMU_IOAS_UNMAP, Linux 6.12.
        """
        _check_u64(iova=iova, length=length)
        self._check_exists(UNMAP)
        if iova == 0 and length == ULONG_MAX:
            return self.unmap_all()
        if iova >= ULONG_MAX or length >= ULONG_MAX:
            raise KernelError(errno.EOVERFLOW, UNMAP)
        last = _last(UNMAP, iova, length)
        first = self._first(iova, last)
        if first is None or self._starts[first] < iova:
            raise KernelError(errno.ENOENT, UNMAP)
        end = bisect_right(self._starts, last)
        cut = self._mappings[end - 1].last > last
        if cut:
            end -= 1
        done = self._remove(first, end)
        if cut:
            raise KernelError(errno.ENOENT, UNMAP)
        return done

    def unmap_all(self) -> int:
        """Remove all mappings. Return the number of bytes that they had. Raises: KernelError(ENOENT), destroyed."""
        self._check_exists(UNMAP)
        return self._remove(0, len(self._mappings))

    # ---- ranges ----

    def iova_ranges(self) -> list[tuple[int, int]]:
        """Return the ranges that are not reserved, as pairs (first, last), including mapped ones.

        Raises: KernelError(ENOENT), destroyed. Source: IOMMU_IOAS_IOVA_RANGES, Linux 6.12.
        """
        self._check_exists("IOMMU_IOAS_IOVA_RANGES")
        return list(_holes(self._reserved_spans, 0, ULONG_MAX))

    def allow_iovas(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Set the ranges, pairs (first, last), from which the kernel chooses IOVAs. An empty list allows all addresses.

        Allowed ranges cannot become reserved. An *iova* that the caller gives may be outside of them.

        Raises: KernelError(EINVAL), a range has fewer than two addresses, or ranges overlap; KernelError(EADDRINUSE), a
        range is reserved; KernelError(ENOENT), destroyed. Nothing has changed then.
        Source: IOMMU_IOAS_ALLOW_IOVAS, Linux 6.12.
        """
        call = "IOMMU_IOAS_ALLOW_IOVAS"
        self._check_exists(call)
        allowed: list[tuple[int, int]] = []
        for first, last in pairs("ranges", ranges):
            _check_u64(first=first, last=last)
            if first >= last or _meets(allowed, first, last):
                raise KernelError(errno.EINVAL, call)
            allowed.insert(bisect_left(allowed, (first, last)), (first, last))
        if any(_meets(self._reserved_spans, first, last) for first, last in allowed):
            raise KernelError(errno.EADDRINUSE, call)
        self._table.change(call, partial(setattr, self, "_allowed", allowed))

    def reserve(self, owner: object, first: int, last: int) -> None:
        """Reserve a range for *owner*, which may have several. No mapping can use it.

        Raises: KernelError(EADDRINUSE), a part is mapped or allowed. Source: iopt_reserve_iova, Linux 6.12.
        """
        self._table.begin()
        self._table.change("reserve", *self.reserving(owner, [(first, last)]))

    def unreserve(self, owner: object) -> None:
        """Release all ranges that *owner* has reserved. Source: iopt_remove_reserved_iova, Linux 6.12."""
        self._table.begin()
        self._table.change("unreserve", *self.unreserving(owner))

    def reserving(self, owner: object, ranges: Sequence[tuple[int, int]]) -> list[Step]:
        """The steps that reserve ranges. Raises: as `reserve`."""
        for first, last in ranges:
            _check_u64(first=first, last=last)
            if last < first:
                raise UsageError(f"first must be at most last, not {first:#x} and {last:#x}")
            if self._first(first, last) is not None or _meets(self._allowed, first, last):
                raise KernelError(errno.EADDRINUSE, "reserve")
        if not ranges:
            return []
        reserved = (*self._reserved.get(owner, ()), *ranges)
        return [partial(self._reserved.__setitem__, owner, reserved), self._forget_merged()]

    def unreserving(self, owner: object) -> list[Step]:
        """The steps that release all ranges of *owner*."""
        return [quietly(partial(self._reserved.pop, owner, None)), self._forget_merged()]

    @property
    def _reserved_spans(self) -> list[tuple[int, int]]:
        """The reserved ranges, sorted and merged."""
        merged = self._merged_reserved
        if merged is None:
            merged = _merged(sorted(span for spans in self._reserved.values() for span in spans))
            self._merged_reserved = merged
        return merged

    def _forget_merged(self) -> Step:
        return partial(setattr, self, "_merged_reserved", None)

    # ---- tables ----

    def add_domain(self, owner: object, geometry: Geometry) -> None:
        """Add a table that translates this space. It raises the alignment, and reserves IOVAs beyond its geometry.

        Raises: KernelError(EADDRINUSE), a mapping is not aligned, or a mapping or an allowed range is beyond the
        geometry; KernelError(EINVAL), its pages are too large. Source: iopt_table_add_domain, Linux 6.12.
        """
        self._table.begin()
        self._table.change("add_domain", *self.adding_domain(owner, geometry))

    def adding_domain(self, owner: object, geometry: Geometry) -> list[Step]:
        """The steps that add a table. Raises: as `add_domain`."""
        alignment = max(geometry.page_size, self.iova_alignment)
        if alignment > PAGE_SIZE:
            raise KernelError(errno.EINVAL, "add_domain")
        if alignment != self.iova_alignment:
            self._check_alignment(alignment)
        beyond = [(0, geometry.first - 1)] if geometry.first > 0 else []
        if geometry.last < ULONG_MAX:
            beyond.append((geometry.last + 1, ULONG_MAX))
        return [
            *self.reserving(owner, beyond),
            partial(self._domains.__setitem__, owner, geometry),
            partial(setattr, self, "iova_alignment", alignment),
        ]

    def removing_domain(self, owner: object) -> list[Step]:
        """The steps that remove a table. Source: iopt_table_remove_domain, Linux 6.12."""
        alignment = self._alignment(self._large_pages, [one for one in self._domains if one is not owner])
        return [
            partial(self._domains.__delitem__, owner),
            *self.unreserving(owner),
            partial(setattr, self, "iova_alignment", alignment),
        ]

    @property
    def large_pages(self) -> bool:
        """Whether tables may use pages beyond 4 KiB. Source: IOMMU_OPTION_HUGE_PAGES, Linux 6.12."""
        return self._large_pages

    def set_large_pages(self, enabled: bool) -> None:
        """Allow or forbid large pages in tables. Without them, all mappings must be aligned to 4 KiB.

        Raises: KernelError(EINVAL), a table has mappings already; KernelError(EADDRINUSE), a mapping is not aligned.
        Source: IOMMU_OPTION_HUGE_PAGES, Linux 6.12.
        """
        if not enabled and self._large_pages and self._domains and self._mappings:
            raise KernelError(errno.EINVAL, "IOMMU_OPTION")
        self._table.begin()
        alignment = self._alignment(enabled, self._domains)
        self._table.change(
            "IOMMU_OPTION",
            partial(setattr, self, "_large_pages", enabled),
            partial(setattr, self, "iova_alignment", alignment),
        )

    def leaving(self) -> list[Step]:
        """The steps that remove the mappings."""
        spans = [(one.iova, one.last) for one in self._mappings]
        return [
            self._mappings.clear,
            self._starts.clear,
            *(partial(one.gone.extend, spans) for one in self._followers),
        ]

    # ---- within ----

    def _check_exists(self, call: str) -> None:
        self._table.begin()
        if not self.exists:
            raise KernelError(errno.ENOENT, call)
        if any(one.gone for one in self._followers):  # an exception has ended an earlier removal
            self.left()

    def _first(self, first: int, last: int) -> int | None:
        """The index of the lowest mapping that has an address of *first* to *last*."""
        at = bisect_right(self._starts, first) - 1
        if at >= 0 and self._mappings[at].last >= first:
            return at
        at += 1
        return at if at < len(self._starts) and self._starts[at] <= last else None

    def _remove(self, first: int, end: int) -> int:
        removed = self._mappings[first:end]
        spans = [(one.iova, one.last) for one in removed]
        those = slice(first, end)
        if self._followers:
            # First, as Linux does: if an exception comes, the space has the mappings still, and they can be removed.
            self._table.change(UNMAP, *(partial(one.gone.extend, spans) for one in self._followers))
            self.left()
            self._check_exists(UNMAP)
            if self._mappings[those] != removed:
                raise UsageError("another thread was changing this space; only one can at a time")
        self._table.change(UNMAP, partial(self._mappings.__delitem__, those), partial(self._starts.__delitem__, those))
        return sum(one.length for one in removed)

    def left(self) -> None:
        """Let the followers catch up with a change, each of them, whatever another raises."""
        with ExitStack() as stack:
            for one in reversed(self._followers):
                stack.callback(one.catch_up)

    def follow(self, follower: Follower) -> None:
        """Let it know of each mapping that is removed from now on, also as the space is destroyed.

        Raises: KernelError(ENOENT), destroyed; UsageError, it is no follower.
        """
        self._check_exists("follow")
        if not isinstance(getattr(follower, "gone", None), list):
            raise UsageError(f"follower must have a list of what is gone, not {follower!r}")
        self._table.change("follow", partial(self._followers.append, follower))

    def unfollow(self, follower: Follower) -> None:
        """End that. Does nothing if it does not follow."""
        if follower in self._followers:
            self._table.begin()
            self._table.change("unfollow", partial(self._followers.remove, follower))

    def _insert(
        self,
        call: str,
        pieces: Sequence[Piece],
        iova: int | None,
        readable: bool,
        writeable: bool,
    ) -> int:
        """iopt_map_pages(): all pieces, one after the other, or nothing."""
        length = sum(piece.length for piece in pieces)
        # iopt_alloc_pages() protects its own rounding up.
        if not length or length > ULONG_MAX - PAGE_SIZE or length & (self.iova_alignment - 1):
            raise KernelError(errno.EINVAL, call)
        if iova is None:
            iova = self._choose(call, pieces[0].address, length)
        else:
            self._check_iova(call, iova, length)
        made: list[Mapping] = []
        at = iova
        for address, size, fd, source_writeable in pieces:
            if writeable and not source_writeable:
                raise KernelError(errno.EPERM, call)
            if address % PAGE_SIZE & (self.iova_alignment - 1):
                raise KernelError(errno.EINVAL, call)
            made.append(Mapping(at, size, address, fd, readable, writeable, source_writeable))
            at += size
        where = bisect_left(self._starts, iova)
        there = slice(where, where)
        self._table.change(
            call,
            partial(self._starts.__setitem__, there, [one.iova for one in made]),
            partial(self._mappings.__setitem__, there, made),
        )
        self.left()
        return iova

    def _check_iova(self, call: str, iova: int, length: int) -> None:
        """iopt_check_iova(). Allowed ranges are not looked at."""
        if iova & (self.iova_alignment - 1):
            raise KernelError(errno.EINVAL, call)
        last = _last(call, iova, length)
        if _meets(self._reserved_spans, iova, last):
            raise KernelError(errno.EINVAL, call)
        if self._first(iova, last) is not None:
            raise KernelError(errno.EEXIST, call)

    def _choose(self, call: str, address: int, length: int) -> int:
        """iopt_alloc_iova(): the lowest place in the lowest allowed range."""
        if length >= ULONG_MAX // 2:
            raise KernelError(errno.EOVERFLOW, call)
        alignment = min(1 << (length - 1).bit_length(), HUGE_PAGE_SIZE)
        if address:
            alignment = min(alignment, address & -address)
        if alignment < self.iova_alignment:
            raise KernelError(errno.EINVAL, call)
        offset = address % PAGE_SIZE
        lowest, highest = PAGE_SIZE, ULONG_MAX - PAGE_SIZE
        for first, last in _merged(self._allowed) or [(lowest, highest)]:
            last = min(last, highest)
            start = _fit(max(first, lowest), last, length, alignment, offset)
            if start is None:
                continue
            for hole_first, hole_last in _holes(self._used(start), start, last):
                found = _fit(hole_first, hole_last, length, alignment, offset)
                if found is not None:
                    return found
        raise KernelError(errno.ENOSPC, call)

    def _used(self, start: int) -> Iterator[tuple[int, int]]:
        """The mapped and reserved ranges at *start* and above, by rising address."""
        mapped = range(max(bisect_right(self._starts, start) - 1, 0), len(self._starts))
        reserved = max(bisect_right(self._reserved_spans, (start, ULONG_MAX)) - 1, 0)
        return heapq.merge(
            ((self._starts[at], self._mappings[at].last) for at in mapped), self._reserved_spans[reserved:]
        )

    def _check_alignment(self, alignment: int) -> None:
        """iopt_check_iova_alignment()."""
        for one in self._mappings:
            if (one.iova | one.length | one.address % PAGE_SIZE) & (alignment - 1):
                raise KernelError(errno.EADDRINUSE, "alignment")

    def _alignment(self, large_pages: bool, domains: Iterable[object]) -> int:
        """iopt_calculate_iova_alignment(), for these tables. Raises: KernelError(EADDRINUSE), a mapping not aligned."""
        pages = [self._domains[owner].page_size for owner in domains]
        alignment = max([1 if large_pages else PAGE_SIZE, *pages])
        if alignment > self.iova_alignment:
            self._check_alignment(alignment)
        return alignment


def _last(call: str, iova: int, length: int) -> int:
    """The last address of a range. Raises: KernelError(EINVAL), no length; KernelError(EOVERFLOW), beyond 64 bits."""
    if not length:
        raise KernelError(errno.EINVAL, call)
    if iova + length - 1 > ULONG_MAX:
        raise KernelError(errno.EOVERFLOW, call)
    return iova + length - 1


def _check_u64(**numbers: int) -> None:
    check_fits(64, **numbers)
