"""Stage-1 page tables in shared memory: a client stores entries, the endpoints' translations walk them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Protocol

from uring_iopf._native import CSpace, lib
from uring_iopf.errors import KernelError, UsageError, check_fits, check_whole
from uring_iopf.handles import Handle
from uring_iopf.hardware.limits import DEFAULT_PASIDS, DEFAULT_TABLE_PAGES, MOST_PASIDS, MOST_TABLE_PAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uring_iopf.abi.records import Message

_PAGE: Final = 4096
_map: Final = lib.uiopf_space_map  # called once a fault: not looked up each time


def _messages_of(group: SupportsFaults) -> list[Message]:
    if not hasattr(group, "faults"):
        raise UsageError(f"group must have faults, as a FaultGroup has, not {group!r}")
    return [(0, 0, one.pasid, 0, one.perm, one.addr, getattr(one, "length", 0), 0) for one in group.faults]


class SupportsFault(Protocol):
    """The fields of a fault that `AddressSpace.map` uses; `length` (`FaultMessage`), too, if there is one."""

    @property
    def pasid(self) -> int:
        """The PASID of the address space."""

    @property
    def addr(self) -> int:
        """The address of the page."""

    @property
    def perm(self) -> int:
        """The permission that the access needs, `FaultPerm`."""


class SupportsFaults(Protocol):
    """A group of faults. If it also has `messages` (`Message`, plain tuples), `AddressSpace.map` uses these: faster."""

    @property
    def faults(self) -> Iterable[SupportsFault]:
        """The faults of the group."""


class AddressSpace(Handle[CSpace]):
    """Four-level page tables, with a root for each PASID, in a sealed memfd whose memory is charged when it is made.

    *pasids*: the entries of the PASID table, 1 to 2^20. *table_pages*: the 4 KiB pages for tables behind it, 1 to 2^20.
    Mapping a page is a store with release order into shared memory, without a call. One thread at a time may map.

    Raises: UsageError, a number out of range; MemoryError; HostError, no descriptor is free.
    """

    _what = "address space"

    def __init__(self, pasids: int = DEFAULT_PASIDS, table_pages: int = DEFAULT_TABLE_PAGES) -> None:
        check_whole("pasids", pasids, 1, MOST_PASIDS)
        check_whole("table_pages", table_pages, 1, MOST_TABLE_PAGES)
        super().__init__()
        self.pasids = pasids
        """The entries of the PASID table."""
        self.table_pages = table_pages
        """The pages for the tables of all PASIDs together."""
        self._make_space()

    def _make_space(self) -> None:
        self._make(lib.uiopf_space_free, lib.uiopf_space_new, self.pasids, self.table_pages)

    @property
    def fd(self) -> int:
        """The memfd."""
        return lib.uiopf_space_fd(self.c)

    def used_bytes(self) -> int:
        """The bytes of the memfd in use: the PASID table, and the tables made so far."""
        return lib.uiopf_space_used(self.c)

    def map(self, group: SupportsFaults) -> None:
        """Map every page of a group, with the permission of its fault.

        A device that asks for more than the page says so in the length of its message. These further pages are mapped,
        too, up to the first that cannot be: nothing waits for them.

        Raises: KernelError(ENOMEM), all table pages are in use; KernelError(EINVAL), a PASID beyond the PASID table;
        UsageError, closed.
        """
        c = self._c
        if c is None:
            self._refuse()
        messages: Iterable[Message]
        try:
            messages = group.messages  # type: ignore[attr-defined]
        except AttributeError:
            messages = _messages_of(group)
        for _, _, pasid, _, perm, address, length, _ in messages:
            if (rc := _map(c, pasid, address, perm)) < 0:
                raise self._error("map", rc, pasid, address)
            if length > _PAGE:
                lib.uiopf_space_map_behind(c, pasid, address, length, perm)

    def map_page(self, pasid: int, address: int, perm: int) -> None:
        """Map one page, and add *perm* (`FaultPerm`) to its permissions. Raises: as `map`."""
        check_fits(32, pasid=pasid, perm=perm)
        check_fits(64, address=address)
        if (rc := lib.uiopf_space_map(self.c, pasid, address, perm)) < 0:
            raise self._error("map", rc, pasid, address)

    def unmap_page(self, pasid: int, address: int) -> None:
        """Unmap one page. Raises: as `map`."""
        check_fits(32, pasid=pasid)
        check_fits(64, address=address)
        if (rc := lib.uiopf_space_unmap(self.c, pasid, address)) < 0:
            raise self._error("unmap", rc, pasid, address)

    def allows(self, pasid: int, address: int, perm: int) -> bool:
        """Whether the page is mapped now with the permission *perm*."""
        check_fits(32, pasid=pasid, perm=perm)
        check_fits(64, address=address)
        return bool(lib.uiopf_space_present(self.c, pasid, address, perm))

    def _error(self, call: str, rc: int, pasid: int, address: int) -> KernelError:
        why = ""
        if rc == -errno.ENOMEM:
            why = f" ({self._no_room()})"
        elif pasid >= self.pasids:
            why = f" (the PASID table has {self.pasids} entries; give a Machine a larger pasid_table)"
        return KernelError(-rc, f"{call} pasid {pasid}, address {address:#x}{why}")

    def _no_room(self) -> str:
        return f"all {self.table_pages} table pages are in use; give more table_pages"

    def reset(self) -> None:
        """Unmap everything. No endpoint may walk the tables meanwhile."""
        lib.uiopf_space_reset(self.c)

    def close(self) -> None:
        """Close it. The memory is freed with the last endpoint that walks it. Closing again does nothing."""
        self._c = None
