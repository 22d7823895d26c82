"""A guest's address spaces: tables of stage 1 in a real format, whose pages get frames of its memory in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uring_iopf._native import ffi, lib
from uring_iopf.errors import UsageError, check_whole
from uring_iopf.hardware.page_tables import PAGE_SIZES, PageTables
from uring_iopf.hardware.tables import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_FRAMES: Final = 1 << 28
"""The most page frames of a guest: 1 TiB."""


class GuestSpace(AddressSpace):
    """An `AddressSpace` in the tables of stage 1 of a guest, so that every client of the package can be the guest.

    *tables*: of stage 1. *frames*: the guest's memory in pages of 4 KiB, from the intermediate address 0. Each page
    that is mapped gets the next frame. *pasids*: the PASIDs that have tables from the start; others get them with their
    first page. Any thread may map.

    Raises: UsageError, *tables* are not of stage 1, or a number out of range; MemoryError, also if there are too few
    table pages for *pasids*.
    """

    _what = "guest's address space"

    def __init__(self, tables: PageTables, frames: int, *, pasids: Sequence[int] = ()) -> None:
        if not isinstance(tables, PageTables) or tables.stage != 1:
            raise UsageError(f"tables must be PageTables of stage 1, not {tables!r}")
        check_whole("frames", frames, 1, MOST_FRAMES)
        for pasid in pasids:
            check_whole("each of pasids", pasid, 0, tables.pasids - 1)
        self.tables = tables
        self.frames = frames
        self._begun = tuple(pasids)
        super().__init__(tables.pasids, tables.table_pages)

    def _make_space(self) -> None:
        pasids = ffi.new("uint32_t[]", list(self._begun))
        self._make(lib.uiopf_space_free, lib.uiopf_space_of_guest, self.tables.c, self.frames, pasids, len(self._begun))

    @property
    def fd(self) -> int:
        """The memfd of its tables."""
        return self.tables.fd

    def used_bytes(self) -> int:
        """The bytes of the tables made so far."""
        return self.tables.used_pages * PAGE_SIZES[0]

    def _no_room(self) -> str:
        return f"all {self.table_pages} table pages or all {self.frames} page frames are in use"
