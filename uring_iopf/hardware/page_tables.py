"""Page tables of one stage of translation, in the formats of VT-d and Arm, as software writes them.

`PageTables` is software's side: it makes entries in memory that it shares with the hardware. The hardware that
walks them is in `uring_iopf.hardware.translator`.
"""

from __future__ import annotations

import enum
import errno
from itertools import count, takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import CPageTables, ffi, lib
from uring_iopf.abi.iommufd import FaultPerm
from uring_iopf.errors import KernelError, UsageError, check_fits, check_whole
from uring_iopf.handles import Handle
from uring_iopf.hardware.limits import MOST_PASIDS, MOST_TABLE_PAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf._native import CFormat

PAGE_SIZES: Final = (1 << 12, 1 << 21, 1 << 30)
"""4 KiB, 2 MiB and 1 GiB, in the order of their levels."""
_ADDRESS_BITS: Final = 48
_LEVELS: Final = 4


class PageFormat(enum.Enum):
    """A format of page tables."""

    VTD_FIRST = "vtd-first"
    """VT-d's first stage, which is that of x86-64."""
    VTD_SECOND = "vtd-second"
    """VT-d's second stage."""
    ARM_STAGE1 = "arm-stage1"
    """AArch64's stage 1 with pages of 4 KiB, as SMMUv3 walks it."""
    ARM_STAGE2 = "arm-stage2"
    """AArch64's stage 2 with pages of 4 KiB."""

    @property
    def stage(self) -> int:
        """The stage that the format is for: 1 or 2."""
        return lib.uiopf_format_stage(_FORMATS[self.value])


_FORMATS: Final[Mapping[str, CFormat]] = {
    ffi.string(lib.uiopf_format_name(one)).decode(): one
    for one in takewhile(lambda one: one != ffi.NULL, map(lib.uiopf_format_at, count()))
}


class PageEntry(NamedTuple):
    """A page that is mapped."""

    address: int
    """The page's first byte."""
    to: int
    """The address to which it is translated."""
    size: int
    """Its size in bytes."""
    word: int
    """The entry, in its format."""
    user: FaultPerm
    """The rights of accesses: READ, WRITE, EXEC, as far as the tables above leave them."""
    privileged: FaultPerm
    """The same for privileged accesses."""
    accessed: bool
    """Whether hardware has used it. Always true in Arm's format if hardware does not track accesses."""
    dirty: bool
    """Whether hardware has written to it."""


def level_of(size: int) -> int:
    """Return the level of a page size. Raises: UsageError, no page has the size."""
    if size not in PAGE_SIZES:
        raise UsageError(f"size must be one of {', '.join(map(str, PAGE_SIZES))}, not {size!r}")
    return PAGE_SIZES.index(size) + 1


class PageTables(Handle[CPageTables]):
    """Page tables of one stage, in a sealed memfd of *table_pages* pages of 4 KiB.

    *table_format*: a `PageFormat`, or its value. *pasids*: the address spaces, each with a root of its own; stage 2 has
    one. *base*: the address of the first of these pages. Tables of stage 1 have intermediate addresses where there is a
    stage 2; stage 2 must then map them from *base* to 0, where they are in memory. *tracks*: hardware sets accessed and
    dirty bits, as it always does in VT-d's first stage.

    Any thread may change them. Hardware may walk them meanwhile. Nothing here invalidates what hardware
    keeps: see `Translator.invalidate`.

    Raises: UsageError, a number out of range, or an unknown format; MemoryError; HostError, no descriptor is free.
    """

    _what = "set of page tables"

    def __init__(
        self,
        table_format: PageFormat | str,
        *,
        pasids: int = 1,
        table_pages: int = 64,
        base: int = 0,
        tracks: bool = True,
    ) -> None:
        super().__init__()
        try:
            self.format = PageFormat(table_format)
        except ValueError:
            names = ", ".join(one.value for one in PageFormat)
            raise UsageError(f"table_format must be one of {names}, not {table_format!r}") from None
        self.stage = self.format.stage
        check_whole("pasids", pasids, 1, MOST_PASIDS if self.stage == 1 else 1, f" in stage {self.stage}")
        check_whole("table_pages", table_pages, 1, MOST_TABLE_PAGES)
        most = (1 << _ADDRESS_BITS) - PAGE_SIZES[0] * table_pages
        check_whole("base", base, 0, most)
        if base % PAGE_SIZES[0]:
            raise UsageError(f"base must be a multiple of {PAGE_SIZES[0]}, not {base}")
        self.pasids = pasids
        self.table_pages = table_pages
        self.base = base
        self.tracks = bool(tracks) or self.format is PageFormat.VTD_FIRST
        arguments = (_FORMATS[self.format.value], pasids, table_pages, base, self.tracks)
        self._make(lib.uiopf_pagetables_free, lib.uiopf_pagetables_new, *arguments)

    @property
    def fd(self) -> int:
        """The memfd."""
        return lib.uiopf_pagetables_fd(self.c)

    @property
    def used_pages(self) -> int:
        """The pages that are tables."""
        return lib.uiopf_pagetables_used(self.c)

    def map(
        self,
        address: int,
        to: int,
        *,
        size: int = PAGE_SIZES[0],
        perm: int = FaultPerm.READ | FaultPerm.WRITE,
        pasid: int = 0,
    ) -> None:
        """Map one page of *size* bytes. *perm*: `FaultPerm`; with PRIV the page is for privileged accesses alone.

        A format that cannot say less allows more: all pages of VT-d's first stage and of Arm's stage 1 may be read.

        Raises: KernelError(EINVAL), an address is not aligned or has too many bits, or the format has no such page;
        KernelError(EEXIST), something is mapped there; KernelError(ENOMEM), all table pages are in use;
        KernelError(EFAULT), a table is none of these pages; UsageError, a number out of range, or closed.
        """
        check_fits(64, address=address, to=to)
        check_fits(4, perm=perm)
        level = level_of(size)
        self._check("map", lib.uiopf_pagetables_map(self.c, self._pasid(pasid), address, to, level, perm), address)

    def unmap(self, address: int, *, pasid: int = 0) -> int:
        """Unmap the page that has *address*. Return its size. Its tables stay until a larger page takes their place.

        Raises: KernelError(ENOENT), no page is mapped there; others as `map`.
        """
        check_fits(64, address=address)
        level = self._check("unmap", lib.uiopf_pagetables_unmap(self.c, self._pasid(pasid), address), address)
        return PAGE_SIZES[level - 1]

    def remove_pasid(self, pasid: int) -> None:
        """Take the tables of a PASID away, as software does that clears its entry. Their pages are free at once.

        Hardware that keeps the entry walks those pages, whatever they are now: see `Iommu.command`.
        Raises: KernelError(ENOENT), it has no tables; UsageError, a number out of range, or closed.
        """
        self._check("remove", lib.uiopf_pagetables_remove(self.c, self._pasid(pasid)), 0)

    def look(self, address: int, *, pasid: int = 0) -> PageEntry | None:
        """Return the page that has *address*, or None. Raises: KernelError(EINVAL or EFAULT), as `map`."""
        check_fits(64, address=address)
        found = ffi.new("struct uiopf_mapping *")
        rc = lib.uiopf_pagetables_look(self.c, self._pasid(pasid), address, found)
        if rc == -errno.ENOENT:
            return None
        self._check("look", rc, address)
        return PageEntry(
            found.address,
            found.to,
            PAGE_SIZES[found.level - 1],
            found.word,
            FaultPerm(found.rights & 7),
            FaultPerm(found.rights >> 3),
            bool(found.accessed),
            bool(found.dirty),
        )

    def clean(self, address: int, *, pasid: int = 0) -> tuple[bool, bool]:
        """Clear the accessed and dirty bits of a page. Return what they were.

        Hardware that keeps the translation sets neither again before it is invalidated.

        Raises: KernelError(EOPNOTSUPP), hardware does not track these tables; others as `unmap`.
        """
        check_fits(64, address=address)
        were = self._check("clean", lib.uiopf_pagetables_clean(self.c, self._pasid(pasid), address), address)
        return bool(were & 1), bool(were & 2)

    def read_entry(self, address: int, level: int, *, pasid: int = 0) -> int:
        """Return the entry of *level* on the way to *address*: 4 is the root's, 1 that of a page of 4 KiB.

        Raises: KernelError(ENOENT), there is no table of that level; others as `map`.
        """
        check_fits(64, address=address)
        check_whole("level", level, 1, _LEVELS)
        word = ffi.new("uint64_t *")
        rc = lib.uiopf_pagetables_read(self.c, self._pasid(pasid), address, level, word)
        self._check("read an entry", rc, address)
        return int(word[0])

    def write_entry(self, address: int, level: int, value: int, *, pasid: int = 0) -> None:
        """Write any word into the entry of *level* on the way to *address*. Raises: as `read_entry`."""
        check_fits(64, address=address, value=value)
        check_whole("level", level, 1, _LEVELS)
        rc = lib.uiopf_pagetables_write(self.c, self._pasid(pasid), address, level, value)
        self._check("write an entry", rc, address)

    def begin(self, pasid: int) -> None:
        """Give a PASID tables, empty ones, if it has none. Raises: KernelError(ENOMEM), UsageError, as `map`."""
        self._check("begin", lib.uiopf_pagetables_begin(self.c, self._pasid(pasid)), 0)

    def clear(self) -> None:
        """Unmap everything, of every PASID. Software must invalidate what hardware keeps (`Translator`)."""
        lib.uiopf_pagetables_clear(self.c)

    def close(self) -> None:
        """Close it. The memory is freed with the last translator that walks it. Closing again does nothing."""
        self._c = None

    def _pasid(self, pasid: int) -> int:
        check_whole("pasid", pasid, 0, self.pasids - 1)
        return pasid

    def _check(self, call: str, rc: int, address: int) -> int:
        if rc < 0:
            why = ""
            if rc == -errno.ENOMEM:
                why = f" (all {self.table_pages} table pages are in use; give more table_pages)"
            raise KernelError(-rc, f"{call} address {address:#x}{why}")
        return rc
