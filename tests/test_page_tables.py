"""Page tables of two stages and the hardware that walks them, from Python.

The formats' words and the walk are judged in ``c/tables.c``. Here a machine maps, unmaps, cleans, invalidates and
accesses, beside a model of dicts that knows no entry: what is mapped, and what hardware still keeps of what was.
"""

from __future__ import annotations

import errno
import mmap
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from uring_iopf import FaultPerm, KernelError, UsageError
from uring_iopf.core import Core
from uring_iopf.hardware.page_tables import PageEntry, PageFormat, PageTables
from uring_iopf.hardware.translator import DeviceTlb, Translated, Translator, WalkEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

R, W, X, PRIV = FaultPerm.READ, FaultPerm.WRITE, FaultPerm.EXEC, FaultPerm.PRIV
KIB4, MIB2, GIB1 = 1 << 12, 1 << 21, 1 << 30
TABLES_AT: Final = 0x20_0000_0000
"""The intermediate address of stage 1's tables, which stage 2 maps by a page of 2 MiB."""


@pytest.fixture
def core() -> Iterator[Core]:
    one = Core()
    yield one
    one.close()


def refusal(call: Callable[[], object]) -> int | None:
    try:
        call()
    except KernelError as error:
        return error.errno
    return None


# ---- the model ----


@dataclass
class Page:
    """What somebody has mapped, and what hardware has done with it."""

    address: int
    to: int
    size: int
    perm: int
    accessed: bool = False
    dirty: bool = False

    def has(self, address: int) -> bool:
        return self.address <= address < self.address + self.size

    def overlaps(self, address: int, size: int) -> bool:
        return self.address < address + size and address < self.address + self.size


def rights(table_format: PageFormat, perm: int, *, privileged: bool) -> int:
    """What a page of this permission allows, in the words of the formats' descriptions."""
    asked = perm & (R | W | X)
    if table_format is PageFormat.VTD_SECOND:  # it knows neither privilege nor execution
        return (asked & W) | (R | X if asked & (R | X) else 0)
    if table_format is PageFormat.ARM_STAGE2:  # privilege is for execution alone
        return asked & (R | W) if perm & PRIV and not privileged else asked
    if perm & PRIV and not privileged:
        return 0
    if table_format is PageFormat.ARM_STAGE1 and privileged and not perm & PRIV:
        return (asked | R) & ~X
    return asked | R


def allows(table_format: PageFormat, page: Page, access: int) -> bool:
    have = rights(table_format, page.perm, privileged=bool(access & PRIV))
    return not access & (R | W | X) & ~have


@dataclass
class Kept:
    """A translation in a TLB: of a whole walk, or of stage 2 alone (no PASID)."""

    pasid: int | None
    address: int
    to: int
    size: int
    allowed: frozenset[int]

    def overlaps(self, address: int, length: int) -> bool:
        return self.address < address + length and address < self.address + self.size


ACCESSES: Final = [access | priv for access in range(1, 8) for priv in (0, PRIV)]


class TlbModel:
    """No place is ever used twice in these tests: the first that was kept is the first that is found."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []

    def find(self, pasid: int | None, address: int, access: int) -> int | None:
        for one in list(self.kept):
            if one.pasid == pasid and one.overlaps(address, 1):
                if access in one.allowed:
                    return one.to + address - one.address
                self.kept.remove(one)
        return None

    def keep(self, pasid: int | None, address: int, to: int, size: int, allowed: frozenset[int]) -> None:
        self.kept.append(Kept(pasid, address & -size, to & -size, size, allowed))

    def invalidate(self, goes: Callable[[Kept], bool]) -> int:
        were = len(self.kept)
        self.kept = [one for one in self.kept if not goes(one)]
        return were - len(self.kept)


VENDORS: Final = {
    "vtd": (PageFormat.VTD_FIRST, PageFormat.VTD_SECOND),
    "arm": (PageFormat.ARM_STAGE1, PageFormat.ARM_STAGE2),
}
PASIDS: Final = st.integers(0, 1)
SIZES: Final = st.sampled_from([KIB4, KIB4, MIB2, GIB1])
PERMS: Final = st.sampled_from([R | W, R | W, R, W, R | W | X, R | X, R | W | PRIV, R | W | X | PRIV])
PLACES: Final = st.sampled_from([0, KIB4, MIB2, GIB1])
USUAL: Final = st.sampled_from([R, W, R | W, X, R | X, R | PRIV, W | PRIV, X | PRIV])


class StaleTranslationsAreUsedUntilTheyAreInvalidated(RuleBasedStateMachine):
    """One stage or two, of either vendor: each result is the model's, and so is each accessed and dirty bit."""

    @initialize(vendor=st.sampled_from(sorted(VENDORS)), stages=st.sampled_from([(1,), (2,), (1, 2), (1, 2)]))
    def begins(self, vendor: str, stages: tuple[int, ...]) -> None:
        first_format, second_format = VENDORS[vendor]
        self.core = Core()
        base = TABLES_AT if 2 in stages else 0
        self.first = PageTables(first_format, pasids=2, base=base) if 1 in stages else None
        self.second = PageTables(second_format) if 2 in stages else None
        self.mapped: dict[int, list[Page]] = {0: [], 1: []}
        self.second_mapped: list[Page] = []
        self.without_tables = {0, 1}
        if self.second is not None:
            self.second.map(TABLES_AT, 0, size=MIB2)
        self.translator = Translator(self.core, first=self.first, second=self.second, places=4096)
        self.device = DeviceTlb(self.translator, places=4096)
        self.iotlb, self.device_tlb = TlbModel(), TlbModel()
        self.seen: Counter[str] = Counter()

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.device.close()
            self.translator.close()
            for tables in (self.first, self.second):
                if tables is not None:
                    tables.close()
            self.core.close()

    # ---- software ----

    def map_in(self, tables: PageTables, pages: list[Page], page: Page, pasid: int) -> None:
        there = any(one.overlaps(page.address, page.size) for one in pages)
        seen = refusal(lambda: tables.map(page.address, page.to, size=page.size, perm=page.perm, pasid=pasid))
        assert seen == (errno.EEXIST if there else None)
        if not there:
            pages.append(page)

    def unmap_in(self, tables: PageTables, pages: list[Page], address: int, pasid: int) -> None:
        there = next((one for one in pages if one.has(address)), None)
        if there is None:
            assert refusal(lambda: tables.unmap(address, pasid=pasid)) == errno.ENOENT
        else:
            assert tables.unmap(address, pasid=pasid) == there.size
            pages.remove(there)

    @rule(pasid=PASIDS, address=PLACES, to=PLACES, size=SIZES, perm=PERMS)
    def the_client_maps(self, pasid: int, address: int, to: int, size: int, perm: int) -> None:
        if self.first is None:
            return
        self.without_tables.discard(pasid)
        self.map_in(self.first, self.mapped[pasid], Page(address & -size, to & -size, size, perm), pasid)

    @rule(pasid=PASIDS, address=PLACES)
    def the_client_unmaps(self, pasid: int, address: int) -> None:
        if self.first is None:
            return
        self.unmap_in(self.first, self.mapped[pasid], address, pasid)

    @rule(address=PLACES, to=PLACES, size=SIZES, perm=PERMS)
    def the_host_maps(self, address: int, to: int, size: int, perm: int) -> None:
        if self.second is None:
            return
        self.map_in(self.second, self.second_mapped, Page(address & -size, to & -size, size, perm), 0)

    @rule(address=PLACES)
    def the_host_unmaps(self, address: int) -> None:
        if self.second is None:
            return
        self.unmap_in(self.second, self.second_mapped, address, 0)

    @rule(pasid=PASIDS, address=PLACES, second=st.booleans())
    def somebody_cleans(self, pasid: int, address: int, second: bool) -> None:
        tables, pages = (self.second, self.second_mapped) if second else (self.first, self.mapped[pasid])
        page = next((one for one in pages if one.has(address)), None)
        if tables is None or page is None:
            return
        assert tables.clean(address, pasid=0 if second else pasid) == (page.accessed, page.dirty)
        page.accessed = page.dirty = False

    @rule(pasid=st.one_of(PASIDS, st.none()), address=PLACES, size=SIZES, device=st.booleans())
    def pages_are_invalidated(self, pasid: int | None, address: int, size: int, device: bool) -> None:
        def goes(one: Kept) -> bool:
            return one.overlaps(address & -size, size) and one.pasid is not None and pasid in (None, one.pasid)

        if device:
            assert self.device.invalidate(address & -size, size, pasid=pasid) == self.device_tlb.invalidate(goes)
        else:
            assert self.translator.invalidate(address & -size, size, pasid=pasid) == self.iotlb.invalidate(goes)

    @rule(pasid=PASIDS)
    def a_pasid_is_invalidated(self, pasid: int) -> None:
        assert self.translator.invalidate_pasid(pasid) == self.iotlb.invalidate(lambda one: one.pasid == pasid)

    @rule(address=PLACES, size=SIZES)
    def stage_2_is_invalidated(self, address: int, size: int) -> None:
        were = self.iotlb.invalidate(lambda one: one.pasid is None and one.overlaps(address & -size, size))
        assert self.translator.invalidate_second(address & -size, size) == were

    @rule()
    def all_is_invalidated(self) -> None:
        were = self.iotlb.invalidate(lambda one: True)
        # Beside those of the model, the IOTLB keeps the page that has the tables of stage 1.
        assert self.translator.invalidate_all() - were in ((0, 1) if self.first and self.second else (0,))
        were = self.device_tlb.invalidate(lambda one: True)
        assert self.device.invalidate_all() == were

    # ---- hardware ----

    def walk(self, tables: PageTables, pages: list[Page], address: int, access: int) -> Page | WalkEnd:
        page = next((one for one in pages if one.has(address)), None)
        if page is None:
            return WalkEnd.NOT_PRESENT
        if not allows(tables.format, page, access):
            return WalkEnd.NO_RIGHT
        self.seen["dirty"] += bool(access & W) and not page.dirty
        page.accessed = True
        page.dirty |= bool(access & W)
        return page

    def kept_accesses(self, tables: PageTables, page: Page) -> frozenset[int]:
        """A page that has not been written yet is walked for its first write."""
        known = [access for access in ACCESSES if allows(tables.format, page, access)]
        return frozenset(access for access in known if page.dirty or not access & W)

    def through_second(self, address: int, access: int) -> tuple[int, int, frozenset[int]] | WalkEnd:
        """Where it leads, the size of the page, and what is known to be allowed."""
        if self.second is None:
            return address, GIB1, frozenset(ACCESSES)
        for one in self.iotlb.kept:
            if one.pasid is None and one.overlaps(address, 1) and access in one.allowed:
                self.iotlb.find(None, address, access)
                return one.to + address - one.address, one.size, one.allowed
        self.iotlb.find(None, address, access)
        page = self.walk(self.second, self.second_mapped, address, access)
        if isinstance(page, WalkEnd):
            return page
        allowed = self.kept_accesses(self.second, page)
        to = page.to + address - page.address
        self.iotlb.keep(None, address, to, page.size, allowed)
        return to, page.size, allowed

    def expected(
        self, pasid: int, address: int, access: int
    ) -> tuple[int, int, int, frozenset[int]] | tuple[int, WalkEnd]:
        """(address, size of the whole, PASID, what is allowed), or the stage that ends it and why."""
        if self.first is None:
            two = self.through_second(address, access)
            return (2, two) if isinstance(two, WalkEnd) else (two[0], two[1], 0, two[2])
        for one in self.iotlb.kept:
            if one.pasid == pasid and one.overlaps(address, 1) and access in one.allowed:
                self.iotlb.find(pasid, address, access)
                self.note_stale(one.to + address - one.address, pasid, address)
                return one.to + address - one.address, one.size, pasid, one.allowed
        self.iotlb.find(pasid, address, access)
        if pasid in self.without_tables:
            return 1, WalkEnd.NO_TABLES
        page = self.walk(self.first, self.mapped[pasid], address, access)
        if isinstance(page, WalkEnd):
            return 1, page
        two = self.through_second(page.to + address - page.address, access)
        if isinstance(two, WalkEnd):
            return 2, two
        to, size, allowed = two[0], min(two[1], page.size), two[2] & self.kept_accesses(self.first, page)
        self.iotlb.keep(pasid, address, to, size, allowed)
        return to, size, pasid, allowed

    @rule(pasid=PASIDS, address=PLACES, inside=st.integers(0, KIB4 - 1), access=USUAL)
    def the_iommu_translates(self, pasid: int, address: int, inside: int, access: int) -> None:
        self.compare(self.translator.translate(address + inside, access, pasid=pasid), pasid, address + inside, access)

    def compare(self, seen: Translated, pasid: int, address: int, access: int) -> None:
        wanted = self.expected(pasid, address, access)
        if isinstance(wanted[1], WalkEnd):
            self.seen[f"stage {wanted[0]} {wanted[1].name}"] += 1
            assert (seen.address, seen.stage, seen.reason) == (None, *wanted)
            assert not seen.of_table
        else:
            assert (seen.address, seen.size, seen.stage) == (*wanted[:2], 0)

    @rule(pasid=PASIDS, address=PLACES, access=USUAL)
    def the_device_translates(self, pasid: int, address: int, access: int) -> None:
        kept = self.device_tlb.find(pasid, address, access)
        seen = self.device.translate(address, access, pasid=pasid)
        if kept is not None:
            assert seen.address == kept
            self.note_stale(kept, pasid, address, "of the device, ")
            return
        wanted = self.expected(pasid, address, access)
        if isinstance(wanted[1], WalkEnd):
            assert (seen.stage, seen.reason) == wanted
        else:
            assert len(wanted) == 4
            assert seen.address == wanted[0]
            self.device_tlb.keep(pasid, address, wanted[0], wanted[1], wanted[3])

    def note_stale(self, kept: int, pasid: int, address: int, whose: str = "") -> None:
        """Counts a translation that was kept, and that the tables would not give now."""
        at: int | None = address
        for pages in ([self.mapped[pasid]] if self.first else []) + ([self.second_mapped] if self.second else []):
            page = next((one for one in pages if at is not None and one.has(at)), None)
            at = None if page is None or at is None else page.to + at - page.address
        self.seen[f"{whose}{'gone' if at is None else 'moved' if at != kept else 'same'}"] += 1

    @invariant()
    def software_reads_what_is_mapped_and_what_hardware_did(self) -> None:
        if not hasattr(self, "core"):
            return
        for pasid in range(2):
            if self.first is not None and pasid not in self.without_tables:
                for page in self.mapped[pasid]:
                    self.same(self.first.look(page.address, pasid=pasid), page)
        if self.second is not None:
            for page in self.second_mapped:
                self.same(self.second.look(page.address), page)

    @staticmethod
    def same(entry: PageEntry | None, page: Page) -> None:
        assert entry is not None
        dirty = page.dirty
        assert (entry.address, entry.to, entry.size) == (page.address, page.to, page.size)
        assert (entry.accessed, entry.dirty) == (page.accessed, dirty)


TestStaleTranslations = StaleTranslationsAreUsedUntilTheyAreInvalidated.TestCase


@pytest.mark.parametrize("stages", [(1,), (2,), (1, 2)], ids=["stage 1", "stage 2", "both"])
@pytest.mark.parametrize("vendor", VENDORS)
def test_long_runs_see_every_stale_translation_and_every_end(vendor: str, stages: tuple[int, ...]) -> None:
    """The same rules, drawn by a plain generator: a few thousand steps on one set of tables."""
    seen: Counter[str] = Counter()
    for seed in range(4):
        draw = Random(f"{vendor} {stages} {seed}")
        machine = StaleTranslationsAreUsedUntilTheyAreInvalidated()
        machine.begins(vendor=vendor, stages=stages)
        for _ in range(1500):
            long_run_step(machine, draw)
            machine.software_reads_what_is_mapped_and_what_hardware_did()
        seen += machine.seen
        machine.teardown()
    wanted = {"same", "gone", "moved", "of the device, same", "of the device, gone", "of the device, moved", "dirty"}
    wanted |= {f"stage {stage} {end}" for stage in stages for end in ("NOT_PRESENT", "NO_RIGHT")}
    if stages == (2,):  # what stage 2 keeps is looked up page by page, and not counted
        wanted -= {"same", "gone", "moved"}
    assert {what for what in wanted if seen[what] < 5} == set(), seen


def long_run_step(machine: StaleTranslationsAreUsedUntilTheyAreInvalidated, draw: Random) -> None:
    pasid, address, to = draw.randrange(2), draw.choice([0, KIB4, MIB2, GIB1]), draw.choice([0, KIB4, MIB2, GIB1])
    size = draw.choice([KIB4, KIB4, MIB2, GIB1])
    perm = draw.choice([R | W, R | W, R, R | W | X, R | W | X | PRIV])
    access = draw.choice([R, R, W, X, R | PRIV])
    chance = draw.random()
    if chance < 0.1:
        machine.the_client_maps(pasid=pasid, address=address, to=to, size=size, perm=perm)
    elif chance < 0.2:
        machine.the_host_maps(address=address, to=to, size=size, perm=perm)
    elif chance < 0.25:
        machine.the_client_unmaps(pasid=pasid, address=address)
    elif chance < 0.3:
        machine.the_host_unmaps(address=address)
    elif chance < 0.33:
        machine.somebody_cleans(pasid=pasid, address=address, second=draw.random() < 0.5)
    elif chance < 0.39:
        machine.pages_are_invalidated(pasid=pasid, address=address, size=size, device=draw.random() < 0.5)
    elif chance < 0.4:
        machine.a_pasid_is_invalidated(pasid=pasid)
    elif chance < 0.44:
        machine.stage_2_is_invalidated(address=address, size=size)
    elif chance < 0.45:
        machine.all_is_invalidated()
    elif chance < 0.8:
        machine.the_iommu_translates(pasid=pasid, address=address, inside=draw.randrange(KIB4), access=access)
    else:
        machine.the_device_translates(pasid=pasid, address=address, access=access)


# ---- what it says ----


def nested(core: Core, vendor: str = "vtd", *, tracks: bool = True) -> tuple[PageTables, PageTables, Translator]:
    """*tracks*: of stage 2."""
    first_format, second_format = VENDORS[vendor]
    first, second = PageTables(first_format, base=TABLES_AT), PageTables(second_format, tracks=tracks)
    second.map(TABLES_AT, 0, size=MIB2)
    return first, second, Translator(core, first=first, second=second)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_table_that_stage_2_does_not_have_is_told_apart_from_the_address(core: Core, vendor: str) -> None:
    first, second, translator = nested(core, vendor)
    first.map(0x7000, 0x5000)
    seen = translator.translate(0x7123, R)
    assert (seen.stage, seen.reason, seen.of_table, seen.intermediate) == (2, WalkEnd.NOT_PRESENT, False, 0x5123)
    second.map(0x5000, 0x9000)
    seen = translator.translate(0x7123, R)
    assert (seen.address, seen.intermediate, seen.size) == (0x9123, 0x5123, KIB4)
    second.unmap(TABLES_AT)
    translator.invalidate_all()
    seen = translator.translate(0x7123, R)
    assert (seen.stage, seen.of_table, seen.writes_table, seen.intermediate) == (2, True, False, TABLES_AT)


@pytest.mark.parametrize(
    ("vendor", "tracks", "writes"),
    [("vtd", False, True), ("vtd", True, False), ("arm", False, True), ("arm", True, True)],
)
def test_a_bit_in_a_table_that_stage_2_lets_nobody_write_is_a_fault_of_stage_2(
    core: Core, vendor: str, tracks: bool, writes: bool
) -> None:
    """VT-d's second stage that tracks (SSADE) does not even let hardware read there: revision 5.10, 3.8.1."""
    first, second, translator = nested(core, vendor, tracks=tracks)
    second.map(0x5000, 0x9000)
    first.map(0x7000, 0x5000)
    second.unmap(TABLES_AT)
    second.map(TABLES_AT, 0, size=MIB2, perm=R)
    seen = translator.translate(0x7000, R)
    assert (seen.stage, seen.reason, seen.of_table, seen.writes_table) == (2, WalkEnd.NO_RIGHT, True, writes)
    entry = first.look(0x7000)
    assert entry is not None
    assert not entry.accessed


def test_a_reserved_bit_ends_the_walk_at_its_level(core: Core) -> None:
    tables = PageTables("vtd-first")
    translator = Translator(core, first=tables, places=0)
    tables.map(0x40000000, 0x80000000, size=MIB2)
    word = tables.read_entry(0x40000000, 2)
    tables.write_entry(0x40000000, 2, word | 1 << 13)  # not aligned
    seen = translator.translate(0x40000000, R)
    assert (seen.stage, seen.reason, seen.level) == (1, WalkEnd.RESERVED_BIT, 2)
    assert tables.look(0x40000000) is None
    assert refusal(lambda: tables.read_entry(0x40000000, 1)) == errno.ENOENT


def test_a_client_writes_entries_by_its_own_mapping(core: Core) -> None:
    tables = PageTables("arm-stage1", table_pages=8)
    translator = Translator(core, first=tables)
    tables.map(0, 0x3000)
    entry = tables.read_entry(0, 1).to_bytes(8, "little")
    with mmap.mmap(tables.fd, 8 * KIB4) as memory:
        at = memory.find(entry)
        memory[at : at + 8] = (0x0000_0000_0000_6443).to_bytes(8, "little")
    assert translator.translate(0x10, W).address == 0x6010
    tables.write_entry(0, 4, 0x7000_0003)
    assert refusal(lambda: tables.map(0x1000, 0)) == errno.EFAULT
    assert refusal(lambda: tables.look(0)) == errno.EFAULT


def test_tables_that_are_empty_make_room_for_a_larger_page(core: Core) -> None:
    tables = PageTables("vtd-second", table_pages=8)
    tables.map(0, 0)
    assert tables.used_pages == 4
    assert refusal(lambda: tables.map(0, 0, size=GIB1)) == errno.EEXIST
    tables.unmap(0)
    tables.map(0, GIB1, size=GIB1)
    assert tables.used_pages == 2
    assert Translator(core, second=tables).translate(5, R).address == GIB1 + 5


def test_one_table_in_two_places_is_given_back_once() -> None:
    tables = PageTables("vtd-second", table_pages=6)
    tables.map(0, 0)
    tables.unmap(0)
    tables.write_entry(MIB2, 2, tables.read_entry(0, 2))
    tables.map(0, GIB1, size=GIB1)
    assert tables.used_pages == 2
    tables.map(GIB1, 0)
    tables.map(2 * GIB1, 0)
    assert tables.used_pages == 6
    assert refusal(lambda: tables.map(3 * GIB1, 0)) == errno.ENOMEM


def test_tables_without_room_say_so() -> None:
    with pytest.raises(KernelError, match="all 3 table pages"):
        PageTables("arm-stage2", table_pages=3).map(0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda core: PageTables("vtd"), "table_format must be one of vtd-first"),
        (lambda core: PageTables("vtd-second", pasids=2), "pasids must be 1 to 1 in stage 2"),
        (lambda core: PageTables("vtd-first", base=5), "base must be a multiple"),
        (lambda core: PageTables("vtd-first").map(0, 0, size=8192), "size must be one of"),
        (lambda core: PageTables("vtd-first").map(0, 0, pasid=1), "pasid must be 0 to 0"),
        (lambda core: Translator(core), "give first, second or both"),
        (lambda core: Translator(core, first=PageTables("vtd-second")), "first must be PageTables of stage 1"),
        (lambda core: Translator(core, first=PageTables("vtd-first", base=4096)), "without a second stage"),
        (lambda core: Translator(core, second=PageTables("vtd-second", base=4096)), "second must have the base 0"),
    ],
)
def test_what_cannot_be_is_refused(core: Core, make: Callable[[Core], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(core)


def test_an_untracked_page_cannot_be_cleaned(core: Core) -> None:
    tables = PageTables("arm-stage2", tracks=False)
    tables.map(0, 0)
    assert refusal(lambda: tables.clean(0)) == errno.EOPNOTSUPP
    translator = Translator(core, second=tables)
    assert translator.translate(0, W).address == 0
    assert translator.counts().bits_set == 0
    tables.write_entry(0, 1, tables.read_entry(0, 1) & ~(1 << 10))  # the access flag
    translator.invalidate_all()
    assert translator.translate(0, W).reason is WalkEnd.NOT_ACCESSED


@pytest.mark.parametrize(("vendor", "second_walks", "bits"), [("vtd", 2, 4), ("arm", 3, 1)])
def test_walks_are_counted(core: Core, vendor: str, second_walks: int, bits: int) -> None:
    """Stage 2 is walked for the tables' page, for what comes out, and by Arm for the first write there."""
    first, second, translator = nested(core, vendor)
    second.map(0, 0, size=MIB2)
    first.map(0x7000, 0x5000)
    for _ in range(3):
        translator.translate(0x7000, R)
    counts = translator.counts()
    assert (counts.translations, counts.walks) == (3, 1)
    assert (counts.second_walks, counts.entries) == (second_walks, 4 + 3 * second_walks)
    # Two translations, the fetches of entries, and the bits set in them; less what was walked.
    assert counts.iotlb_hits == 2 + 4 + bits - (second_walks - 1)


def test_tables_outlive_their_closing_while_a_translator_walks_them(core: Core) -> None:
    first, second, translator = nested(core)
    second.map(0x5000, 0x9000)
    first.map(0x7000, 0x5000)
    device = DeviceTlb(translator)
    first.close()
    second.close()
    translator.close()
    assert device.translate(0x7000, R).address == 0x9000
    device.close()
    with pytest.raises(UsageError, match="this device TLB is closed"):
        device.translate(0x7000, R)
