"""Hardware that translates addresses by page tables of one or two stages, with an IOTLB, and devices' own TLBs."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import CDeviceTlb, CTranslator, ffi, lib
from uring_iopf.core import Core
from uring_iopf.errors import UsageError, check_fits, check_is, check_whole
from uring_iopf.handles import Handle, no_room
from uring_iopf.hardware.page_tables import PageTables

if TYPE_CHECKING:
    from uring_iopf._native import CData

MOST_DOMAIN: Final = 0xFFFF
"""The highest domain of a translator."""
MOST_TAG: Final = 0xFFFFF
"""The highest tag of a PASID."""
MOST_PLACES: Final = 4096
"""The most translations that a TLB keeps."""
DEFAULT_PLACES: Final = 64
"""The translations that a TLB keeps by default."""
_ANY_PASID: Final = (1 << 32) - 1
_MOST_ADDRESS: Final = (1 << 64) - 1


class WalkEnd(enum.IntEnum):
    """Why a translation has ended."""

    TRANSLATED = 0
    """There is an address."""
    NOT_PRESENT = 1
    """An entry is not present; in Arm's formats also one of a reserved type."""
    RESERVED_BIT = 2
    """A reserved bit is set, such as an address bit of a large page that is not aligned."""
    NOT_ACCESSED = 3
    """The access flag of Arm's formats is clear, and hardware may not set it."""
    NO_RIGHT = 4
    """The page does not allow the access."""
    NO_SUCH_ADDRESS = 5
    """The address has more bits than the tables have; in VT-d's first stage, it is not canonical."""
    NO_MEMORY = 6
    """An entry would be where there is no memory."""
    NO_TABLES = 7
    """There are no tables for this PASID."""
    RESTLESS = 8
    """An entry was changed during each of 17 walks."""


class Translated(NamedTuple):
    """The result of a translation."""

    address: int | None
    """The address in memory; None if a stage has ended the walk."""
    size: int
    """The bytes of the page that a TLB keeps: the smaller of the two stages' pages. 0 if there is no address."""
    stage: int
    """The stage that has ended the walk, 1 or 2; 0: translated."""
    reason: WalkEnd
    """Why it has ended."""
    level: int
    """The level of that stage's tables at which it ended: 4 the root's, 1 that of 4 KiB pages. 0: before the tables."""
    of_table: bool
    """Stage 2 has ended it for the address of a table of stage 1, and not for the address itself."""
    writes_table: bool
    """… in which hardware was to set an accessed or dirty bit."""
    intermediate: int
    """The intermediate address that stage 2 was to translate. 0 if no such address was made."""


class TranslatorCounts(NamedTuple):
    """Counts of a translator."""

    translations: int
    """Translations that were asked for."""
    iotlb_hits: int
    """Look-ups that the IOTLB answered; a nested walk looks up each address of a table, too."""
    walks: int
    """Walks of stage 1."""
    second_walks: int
    """Walks of stage 2; up to five in one of stage 1."""
    entries: int
    """Entries of tables that were loaded."""
    bits_set: int
    """Entries in which an accessed or dirty bit was set."""
    restarts: int
    """Walks that began anew because an entry had changed."""
    looks: int
    """Walks of software, `Translator.look`."""
    looked_at: int
    """Entries that these have loaded."""


def translated(found: CData) -> Translated:
    """Return what a ``struct uiopf_translated`` says."""
    ended = bool(found.stage)
    return Translated(
        None if ended else int(found.address),
        0 if ended else 1 << found.size_shift,
        int(found.stage),
        WalkEnd(found.reason),
        int(found.level),
        bool(found.of_table),
        bool(found.writes_table),
        int(found.intermediate),
    )


def range_of(address: int, length: int) -> tuple[int, int]:
    """Return the first and the last address of a range. Raises: UsageError, it has none, or goes beyond 64 bits."""
    check_fits(64, address=address)
    check_whole("length", length, 1, _MOST_ADDRESS + 1 - address, " bytes")
    return address, address + length - 1


class Translator(Handle[CTranslator]):
    """An IOMMU's translation by tables of stage 1 (*first*), of stage 2 (*second*), or of both, with an IOTLB.

    Where both are given, *first* makes intermediate addresses, which *second* translates; also the addresses of the
    tables of *first*. *places*: the translations that the IOTLB keeps, 0 to 4,096.

    A translation that is kept is used without a look at the tables. Software that removes a page, takes a right from
    it, or cleans it must invalidate the translation. A right that is added is seen at once.

    *domain*: the number by which commands in an IOMMU's queue name it: a VMID, a domain id, or a GSCID, of 16 bits.

    Raises: UsageError, no tables, tables of the wrong stage, or a number out of range; MemoryError.
    """

    _what = "translator"

    def __init__(
        self,
        core: Core,
        *,
        first: PageTables | None = None,
        second: PageTables | None = None,
        places: int = DEFAULT_PLACES,
        domain: int = 0,
    ) -> None:
        super().__init__()
        check_is("a Core", Core, core=core)
        check_whole("places", places, 0, MOST_PLACES)
        check_whole("domain", domain, 0, MOST_DOMAIN)
        for name, tables, stage in (("first", first, 1), ("second", second, 2)):
            if tables is not None and not (isinstance(tables, PageTables) and tables.stage == stage):
                raise UsageError(f"{name} must be PageTables of stage {stage}, not {tables!r}")
        if first is None and second is None:
            raise UsageError("a translator needs tables: give first, second or both")
        if second is not None and second.base:
            raise UsageError(f"second must have the base 0, since nothing translates its addresses, not {second.base}")
        if second is None and first is not None and first.base:
            raise UsageError(f"first must have the base 0 without a second stage, not {first.base}")
        self._on = core
        self.core = core
        self.first = first
        self.second = second
        self.places = places
        self.domain = domain
        c = [ffi.NULL if tables is None else tables.c for tables in (first, second)]
        self._make(lib.uiopf_translator_free, lib.uiopf_translator_new, core.c, *c, places)
        lib.uiopf_translator_set_domain(self.c, domain)

    def set_tag(self, pasid: int, tag: int) -> None:
        """Set the number by which commands name a PASID's translations: Arm's ASID, RISC-V's PSCID. At first: its own.

        A function that has used the PASID keeps the number, and the tables, until a command invalidates the context.
        PASIDs with one tag share their translations. Raises: UsageError, a number out of range, or no stage 1.
        """
        check_whole("tag", tag, 0, MOST_TAG)
        if self.first is None:
            raise UsageError("a translator without a first stage has no PASIDs")
        check_whole("pasid", pasid, 0, self.first.pasids - 1)
        if lib.uiopf_translator_set_tag(self.c, pasid, tag) < 0:
            raise no_room("tag")

    def translate(self, address: int, access: int, *, pasid: int = 0) -> Translated:
        """Translate an access, `FaultPerm`, as hardware does for a function. Accessed and dirty bits are set.

        *pasid*: whose tables of stage 1; stage 2 alone has no PASIDs. Raises: UsageError, a number out of range.
        """
        found = ffi.new("struct uiopf_translated *")
        lib.uiopf_translator_translate(self.c, *_access(address, access, pasid), found)
        return translated(found)

    def look(self, address: int, access: int, *, pasid: int = 0) -> Translated:
        """Walk the tables as they are now, as software does to learn which stage a page request is about.

        No bit is set. No TLB is used or filled. `TranslatorCounts.looks` counts these walks.
        Raises: as `translate`.
        """
        found = ffi.new("struct uiopf_translated *")
        lib.uiopf_translator_look(self.c, *_access(address, access, pasid), found)
        return translated(found)

    def invalidate(self, address: int, length: int = 4096, *, pasid: int | None = None) -> int:
        """Invalidate translations of these addresses, through all stages. Return how many there were.

        *pasid*: of one PASID; None: of all. VT-d calls it a PASID-selective page invalidation, Arm CMD_TLBI_NH_VA. If
        there is only stage 2, use `invalidate_second`.
        """
        first, last = range_of(address, length)
        return lib.uiopf_translator_invalidate(self.c, pasid_or_any(pasid), first, last)

    def invalidate_pasid(self, pasid: int) -> int:
        """Invalidate all translations of a PASID, as CMD_TLBI_NH_ASID. Return how many there were."""
        check_fits(20, pasid=pasid)
        return lib.uiopf_translator_invalidate(self.c, pasid, 0, _MOST_ADDRESS)

    def invalidate_second(self, address: int, length: int = 4096) -> int:
        """Invalidate what is kept of stage 2 alone, for intermediate addresses. Return how many there were.

        Translations through both stages stay: software invalidates these, too, as with CMD_TLBI_S2_IPA.
        """
        first, last = range_of(address, length)
        return lib.uiopf_translator_invalidate_second(self.c, first, last)

    def invalidate_all(self) -> int:
        """Invalidate everything. Return how many translations there were. Devices' own TLBs are not affected."""
        return lib.uiopf_translator_invalidate_all(self.c)

    def counts(self) -> TranslatorCounts:
        """Return its counts."""
        counts = ffi.new("struct uiopf_translator_counts *")
        lib.uiopf_translator_get_counts(self.c, counts)
        return TranslatorCounts(*(int(getattr(counts, name)) for name in TranslatorCounts._fields))

    def close(self) -> None:
        """Close it. It is freed with the last device TLB that uses it. Closing again does nothing."""
        self._c = None


class DeviceTlb(Handle[CDeviceTlb]):
    """A function's own TLB (PCIe calls it an ATC), before a translator. Its translations are used without the IOMMU.

    Software invalidates it beside the IOTLB, and after it: otherwise it may be filled again from a stale translation.

    Raises: UsageError, a number out of range, or the translator is closed; MemoryError.
    """

    _what = "device TLB"

    def __init__(self, translator: Translator, *, places: int = DEFAULT_PLACES) -> None:
        super().__init__()
        check_is("a Translator", Translator, translator=translator)
        check_whole("places", places, 0, MOST_PLACES)
        self._on = translator.core
        self.translator = translator
        self.places = places
        self._make(lib.uiopf_device_tlb_free, lib.uiopf_device_tlb_new, translator.c, places)

    def translate(self, address: int, access: int, *, pasid: int = 0) -> Translated:
        """Translate an access, by what is kept or by the translator. Raises: as `Translator.translate`."""
        found = ffi.new("struct uiopf_translated *")
        lib.uiopf_device_tlb_translate(self.c, *_access(address, access, pasid), found)
        return translated(found)

    def invalidate(self, address: int, length: int = 4096, *, pasid: int | None = None) -> int:
        """Invalidate translations of these addresses; *pasid* None: of all PASIDs. Return how many there were."""
        first, last = range_of(address, length)
        return lib.uiopf_device_tlb_invalidate(self.c, pasid_or_any(pasid), first, last)

    def invalidate_all(self) -> int:
        """Invalidate everything. Return how many translations there were."""
        return lib.uiopf_device_tlb_invalidate(self.c, _ANY_PASID, 0, _MOST_ADDRESS)

    @property
    def hits(self) -> int:
        """Translations that it has answered by itself."""
        return lib.uiopf_device_tlb_hits(self.c)

    def close(self) -> None:
        """Close it. Closing again does nothing."""
        self._c = None


def _access(address: int, access: int, pasid: int) -> tuple[int, int, int]:
    check_fits(64, address=address)
    check_fits(4, access=access)
    check_fits(20, pasid=pasid)
    return pasid, address, access


def pasid_or_any(pasid: int | None) -> int:
    """Return the number of a PASID, or that of all. Raises: UsageError, it has more than 20 bits."""
    if pasid is None:
        return _ANY_PASID
    check_fits(20, pasid=pasid)
    return pasid
