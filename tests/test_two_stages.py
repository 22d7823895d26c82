"""Functions that translate by tables of two stages: which accesses make a page request or stall, and what ends them.

The walk itself is judged in ``c/tables.c`` and by ``test_page_tables.py``, the words of a stall in ``c/smmuv3.c``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import pytest

from tests.test_machine import turn
from tests.test_pri import PAGE, Site
from tests.test_smmuv3 import SmmuSite
from uring_iopf import FaultPerm, KernelError, Machine, PageResponse, UsageError
from uring_iopf.clients.groups import receive_groups
from uring_iopf.core import Core
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.hardware.page_tables import PageFormat, PageTables
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.hardware.translator import Translator, WalkEnd
from uring_iopf.iommufd import IOAS, Context
from uring_iopf.iommufd.spaces.second_stage import SecondStage
from uring_iopf.workloads import ROW

if TYPE_CHECKING:
    from collections.abc import Iterator

R, W, X = FaultPerm.READ, FaultPerm.WRITE, FaultPerm.EXEC
MIB2: Final = 1 << 21
TABLES_AT: Final = 0x2000_0000
"""The guest's address of its tables."""


class Staged:
    """A site whose first function has two stages: stage 1 the guest's, stage 2 the host's."""

    def __init__(self, site: Site, first: PageFormat, second: PageFormat, *, tracks: bool = True, **more: int) -> None:
        self.site = site
        self.guest = PageTables(first, pasids=8, base=TABLES_AT)
        self.host = PageTables(second, tracks=tracks)
        self.host.map(TABLES_AT, 0, size=MIB2)
        self.translator = Translator(site.core, first=self.guest, second=self.host)
        site.stack.callback(self.translator.close)
        site.end.use_translator(self.translator, **more)
        if not site.end.stalls:
            site.end.enable_pri()

    def access(self, address: int, perm: int = R, pasid: int = 5) -> int:
        ticket = self.site.end.access(pasid, address, perm)
        self.site.turn()
        return ticket

    def answered(self, code: PageResponse = PageResponse.SUCCESS) -> list[int]:
        """Answer what the queue has; the addresses."""
        messages = self.site.queue.read_messages()
        for message in messages:
            self.site.queue.respond(message.cookie, code)
        self.site.turn()
        return [message.addr for message in messages]


def arrivals(mode: LoadMode, *, passes_over: str | None = None) -> dict[int, int]:
    """When a load asks for each of 100 pages, in ticks of 100 ns; every second needs no request, if it says why."""
    site = Site()
    found: dict[int, int] = {}
    site.end.enable_pri()
    if passes_over == "translator":
        tables = PageTables(PageFormat.VTD_FIRST, pasids=8)
        for n in range(0, 100, 2):
            tables.map(n * PAGE, PAGE, pasid=1)
        site.end.use_translator(Translator(site.core, first=tables))
    if passes_over == "stopped":
        site.end.stop_pasid(2)
    of_even = 2 if passes_over == "stopped" else 1
    site.end.set_rows(b"".join(ROW.pack(900 * n, n * PAGE, 1 if n % 2 else of_even, R) for n in range(100)))
    site.end.start(Load(mode, in_flight=512, rate=1e6, seed=5))
    for tick in range(1500):
        site.core.produce()
        found.update((message.addr // PAGE, tick) for message in site.queue.read_messages())
        site.core.tick(100 * (tick + 1))
    site.close()
    return found


@pytest.mark.parametrize("passes_over", ["stopped", "translator"])
@pytest.mark.parametrize("mode", [LoadMode.POISSON, LoadMode.TRACE])
def test_rows_that_need_no_request_leave_the_others_their_times(mode: LoadMode, passes_over: str) -> None:
    every = arrivals(mode)
    assert len(every) == 100
    assert len(set(every.values())) > 50, "they come one by one"
    assert arrivals(mode, passes_over=passes_over) == {n: tick for n, tick in every.items() if n % 2}


class StallingSite(SmmuSite):
    def make_end(self, requester_id: int, retries: int, physical: Endpoint | None) -> Endpoint:
        return Endpoint(self.iommu, requester_id=requester_id, stalls=4, retries=retries, physical=physical)


KINDS: Final = {
    "VT-d, PRI": (Site, PageFormat.VTD_FIRST, PageFormat.VTD_SECOND),
    "SMMUv3, PRI": (SmmuSite, PageFormat.ARM_STAGE1, PageFormat.ARM_STAGE2),
    "SMMUv3, stall": (StallingSite, PageFormat.ARM_STAGE1, PageFormat.ARM_STAGE2),
}


@pytest.fixture(params=KINDS)
def staged(request: pytest.FixtureRequest) -> Iterator[Staged]:
    make, first, second = KINDS[request.param]
    site = make(retries=1)
    yield Staged(site, first, second)
    site.close()


@pytest.fixture
def by_pri() -> Iterator[Staged]:
    site = Site()
    yield Staged(site, PageFormat.VTD_FIRST, PageFormat.VTD_SECOND)
    site.close()


def test_an_access_that_both_stages_have_asks_for_nothing(staged: Staged) -> None:
    staged.guest.map(0x7000, 0x5000, pasid=5)
    staged.host.map(0x5000, 0x9000)
    ticket = staged.access(0x7008, W)
    assert staged.site.end.result(ticket) is AccessResult.OK
    assert staged.site.end.counts().sent == 0
    page = staged.host.look(0x5000)
    assert page is not None
    assert (page.accessed, page.dirty) == (True, True)


def test_each_stage_that_has_no_page_ends_an_access_and_the_next_try_goes_on(staged: Staged) -> None:
    """The guest maps the page; the function asks again, since the host has none; the host maps it."""
    staged.guest.map(0x100000, 0, pasid=5)  # the PASID has tables
    ticket = staged.access(0x7008)
    end = staged.site.end.last_end()
    assert end is not None
    assert (end.stage, end.reason) == (1, WalkEnd.NOT_PRESENT)
    staged.guest.map(0x7000, 0x5000, pasid=5)
    assert len(staged.answered()) == 1
    assert staged.site.end.result(ticket) is AccessResult.PENDING
    end = staged.site.end.last_end()
    assert end is not None
    assert (end.stage, end.reason, end.of_table, end.intermediate & -PAGE) == (2, WalkEnd.NOT_PRESENT, False, 0x5000)
    staged.host.map(0x5000, 0x9000)
    assert len(staged.answered()) == 1
    assert staged.site.end.result(ticket) is AccessResult.OK
    counts = staged.site.end.counts()
    assert (counts.sent, counts.retried, counts.succeeded) == (2, 1, 1)


def test_success_without_a_page_is_unmapped(staged: Staged) -> None:
    staged.guest.map(0x7000, 0x5000, pasid=5)
    ticket = staged.access(0x7000)
    assert [len(staged.answered()) for _ in range(2)] == [1, 1]  # and once again
    assert staged.site.end.result(ticket) is AccessResult.UNMAPPED
    assert staged.site.end.counts().unmapped == 1


def test_a_page_without_the_right_is_asked_for(staged: Staged) -> None:
    staged.guest.map(0x7000, 0x5000, perm=R, pasid=5)
    staged.host.map(0x5000, 0x9000)
    assert staged.site.end.result(staged.access(0x7000)) is AccessResult.OK
    ticket = staged.access(0x7000, W)
    end = staged.site.end.last_end()
    assert end is not None
    assert (end.stage, end.reason) == (1, WalkEnd.NO_RIGHT)
    assert len(staged.answered(PageResponse.INVALID)) == 1
    assert staged.site.end.result(ticket) is AccessResult.INVALID


def test_a_table_that_the_host_does_not_have_ends_an_access_in_stage_2(staged: Staged) -> None:
    staged.guest.map(0x7000, 0x5000, pasid=5)
    staged.host.unmap(TABLES_AT)
    ticket = staged.access(0x7000)
    end = staged.site.end.last_end()
    assert end is not None
    assert (end.stage, end.of_table, end.writes_table) == (2, True, False)
    assert end.intermediate & -MIB2 == TABLES_AT
    staged.host.map(TABLES_AT, 0, size=MIB2)
    staged.host.map(0x5000, 0x9000)
    assert len(staged.answered()) == 1
    assert staged.site.end.result(ticket) is AccessResult.OK


def test_a_missing_invalidation_shows(staged: Staged) -> None:
    """Of the IOTLB; of the function's own TLB, which a function that stalls does not have."""
    end = staged.site.end
    staged.guest.map(0x7000, 0x5000, pasid=5)
    staged.host.map(0x5000, 0x9000)
    staged.access(0x7000)
    staged.guest.unmap(0x7000, pasid=5)
    assert end.result(staged.access(0x7000)) is AccessResult.OK  # nobody has said anything
    assert end.invalidate(0x7000, pasid=5) == (0 if end.stalls else 1)
    assert end.result(staged.access(0x7000)) is AccessResult.OK  # the IOTLB has it still
    assert staged.translator.invalidate(0x7000, pasid=5) == 1
    wanted = AccessResult.PENDING if end.stalls else AccessResult.OK  # and filled the function's own again
    assert end.result(staged.access(0x7000)) is wanted
    end.invalidate(0x7000)
    assert end.result(staged.access(0x7000)) is AccessResult.PENDING


def test_a_load_asks_only_for_what_is_not_translated(by_pri: Staged) -> None:
    for page in range(8):
        by_pri.guest.map(page * PAGE, page * PAGE, pasid=5)
        if page % 4:
            by_pri.host.map(page * PAGE, page * PAGE)
    end = by_pri.site.end
    end.set_rows(b"".join(ROW.pack(0, page * PAGE, 5, R) for page in range(8)))
    end.start(Load(in_flight=4))
    by_pri.site.turn()
    assert sorted(by_pri.answered()) == [0, 4 * PAGE]
    assert end.passes() == 1
    assert (end.counts().sent, end.counts().unmapped) == (2, 2)


def test_what_does_not_stall_aborts() -> None:
    site = StallingSite()
    staged = Staged(site, PageFormat.ARM_STAGE1, PageFormat.ARM_STAGE2)
    assert site.end.result(staged.access(0x7000)) is AccessResult.INVALID
    end = site.end.last_end()
    assert end is not None
    assert (end.stage, end.reason) == (1, WalkEnd.NO_TABLES)
    assert site.queue.read_messages() == []
    site.close()


@pytest.mark.parametrize("perm", [R, W, X])
def test_a_stall_needs_the_right_of_its_access(perm: FaultPerm) -> None:
    site = StallingSite()
    staged = Staged(site, PageFormat.ARM_STAGE1, PageFormat.ARM_STAGE2)
    staged.guest.map(0x7000, 0x5000, perm=R | perm, pasid=5)
    staged.host.map(0x5000, 0x9000, perm=perm)
    assert [site.end.result(staged.access(0x7000, one)) is AccessResult.OK for one in (R, W, X)] == [
        perm == one for one in (R, W, X)
    ]
    site.close()


def test_flat_tables_take_the_translators_place_and_the_other_way_round(by_pri: Staged) -> None:
    end, space = by_pri.site.end, AddressSpace()
    space.map_page(5, 0x7000, R)
    assert end.result(by_pri.access(0x7000)) is AccessResult.PENDING
    end.use_tables(space)
    assert end.result(by_pri.access(0x7000)) is AccessResult.OK
    assert end.last_end() is None
    with pytest.raises(KernelError) as refused:
        end.invalidate(0x7000)
    assert refused.value.errno == errno.ENOENT
    end.use_translator(by_pri.translator)
    assert end.result(by_pri.access(0x7000)) is AccessResult.PENDING


def test_the_function_keeps_what_it_needs(staged: Staged) -> None:
    """Tables and translator are closed; the function goes on."""
    staged.guest.map(0x7000, 0x5000, pasid=5)
    staged.host.map(0x5000, 0x9000)
    for one in (staged.guest, staged.host, staged.translator):
        one.close()
    assert staged.site.end.result(staged.access(0x7000)) is AccessResult.OK


def test_what_cannot_be_used_is_refused(by_pri: Staged) -> None:
    end = by_pri.site.end
    with pytest.raises(UsageError, match="translator must be a Translator, not None"):
        end.use_translator(None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="places must be 0 to 4096"):
        end.use_translator(by_pri.translator, places=5000)
    other = Core()
    tables = PageTables("vtd-first")
    with pytest.raises(UsageError, match="on the core of the function's IOMMU"):
        end.use_translator(Translator(other, first=tables))
    site = StallingSite()
    translator = Translator(site.core, first=tables)
    with pytest.raises(UsageError, match="a function that stalls has no TLB"):
        site.end.use_translator(translator, places=1)
    translator.close()
    site.close()


@pytest.mark.parametrize("design", ["fd", "uring-multishot"])
def test_a_machines_function_is_given_two_stages(design: str) -> None:
    """The client of any design is a guest that maps in its own tables; the host has mapped all of its memory."""
    with Machine(None, driver="inline", iommu="smmuv3") as machine:
        channel = machine.open(design)
        guest, host = PageTables("arm-stage1", pasids=8), PageTables("arm-stage2")
        host.map(0, 0, size=1 << 30)
        translator = Translator(machine.core, first=guest, second=host)
        machine.endpoint.use_translator(translator)
        ticket = machine.endpoint.access(5, 0x7000, W)
        turn(machine)
        channel.prepare_sleep()
        channel.awake()
        (group,) = receive_groups(channel)
        guest.map(group.faults[0].addr, 0x100000, pasid=5)
        group.respond(PageResponse.SUCCESS)
        channel.flush()
        turn(machine)
        assert machine.endpoint.result(ticket) is AccessResult.OK
        entry = guest.look(0x7000, pasid=5)
        assert entry is not None
        assert entry.dirty
        assert not any(machine.account()[2:])
        translator.close()


# ---- which stage was it? ----


class Host:
    """A host whose memory is an IOAS of 16 pages, with guests' tables in another page; it serves what faults."""

    def __init__(self, site: Site, formats: tuple[PageFormat, PageFormat]) -> None:
        self.ioas = site.context.ioas_alloc()
        self.ioas.map(16 * PAGE, user_va=0x7000_0000, iova=0)
        self.staged = Staged(site, *formats)
        self.second = SecondStage(self.ioas, self.staged.host)
        self.to_guest = 0

    def serve(self, *, tells: bool = False, pinned: bool = False) -> None:
        """Find the stage by hardware's word (a stall), by a walk, or, with all memory pinned, by no walk."""
        site, translator = self.staged.site, self.staged.translator
        for message in site.queue.read_messages():
            if pinned:
                stage, intermediate = 1, 0
            else:
                end = site.end.last_end() if tells else translator.look(message.addr, message.perm, pasid=message.pasid)
                assert end is not None
                stage, intermediate = end.stage, end.intermediate
            if stage == 1:
                self.to_guest += 1
                self.staged.guest.map(
                    message.addr // PAGE * PAGE, message.addr // PAGE % 16 * PAGE, pasid=message.pasid
                )
            else:
                assert self.second.fill(intermediate, message.perm)
            site.queue.respond(message.cookie, PageResponse.SUCCESS)
        site.turn()


def run_host(make: type[Site], formats: tuple[PageFormat, PageFormat], pinned: int, *, tells: bool) -> tuple[int, ...]:
    """Eight accesses, each to a page that neither stage has. (Faults, those of the guest, pages filled, walks.)"""
    site = make(retries=1)
    host = Host(site, formats)
    if pinned:
        assert host.second.pin(0, pinned * PAGE - 1) == pinned * PAGE
    host.staged.guest.map(0x100_0000, 0, pasid=5)  # the PASID has tables
    for page in range(8):
        ticket = host.staged.access(0x20_0000 + page * PAGE)
        for _ in range(3):
            host.serve(tells=tells, pinned=pinned == 16)
        assert site.end.result(ticket) is AccessResult.OK
        found = host.staged.translator.translate(0x20_0000 + page * PAGE, R, pasid=5)
        assert found.address == 0x7000_0000 + page * PAGE
    counts = (site.end.counts().sent, host.to_guest, host.second.filled, host.staged.translator.counts().looks)
    site.close()
    return counts


VTD: Final = (PageFormat.VTD_FIRST, PageFormat.VTD_SECOND)
ARM: Final = (PageFormat.ARM_STAGE1, PageFormat.ARM_STAGE2)


@pytest.mark.parametrize(
    ("make", "formats", "pinned", "tells", "counts"),
    [
        pytest.param(StallingSite, ARM, 0, True, (16, 8, 8, 0), id="hardware tells, unpinned"),
        pytest.param(Site, VTD, 0, False, (16, 8, 8, 16), id="the driver walks, unpinned"),
        pytest.param(Site, VTD, 4, False, (12, 8, 4, 12), id="the driver walks, partly pinned"),
        pytest.param(Site, VTD, 16, False, (8, 8, 0, 0), id="nobody walks, pinned"),
        pytest.param(SmmuSite, ARM, 0, False, (16, 8, 8, 16), id="SMMUv3's PRI: the driver walks"),
    ],
)
def test_the_stage_is_told_found_by_a_walk_or_known(
    make: type[Site], formats: tuple[PageFormat, PageFormat], pinned: int, tells: bool, counts: tuple[int, ...]
) -> None:
    assert run_host(make, formats, pinned, tells=tells) == counts


def test_a_look_finds_what_hardware_found_and_leaves_no_trace(staged: Staged) -> None:
    staged.guest.map(0x7000, 0x5000, pasid=5)
    staged.guest.map(0x8000, 0x6000, pasid=5)
    staged.host.map(0x6000, 0x9000)
    for address in (0x7000, 0x8000, 0x9000, 0x7FFF_FFFF_F000):
        look = staged.translator.look(address, W, pasid=5)
        assert staged.guest.look(address, pasid=5) is None or not staged.guest.look(address, pasid=5).accessed  # type: ignore[union-attr]
        assert look == staged.translator.translate(address, W, pasid=5)
    before = staged.translator.counts()
    staged.host.unmap(0x6000)
    assert staged.translator.translate(0x8000, W, pasid=5).address == 0x9000  # stale
    assert staged.translator.look(0x8000, W, pasid=5).stage == 2
    after = staged.translator.counts()
    assert (after.looks, after.walks, after.bits_set) == (before.looks + 1, before.walks, before.bits_set)
    assert after.looked_at > before.looked_at


# ---- an IOAS as stage 2 ----


@pytest.fixture
def ioas() -> Iterator[IOAS]:
    with Core() as core:
        context = Context(core)
        yield context.ioas_alloc()
        context.close()


def test_a_mapping_is_pinned_by_the_largest_pages_that_fit(ioas: IOAS) -> None:
    gib = 1 << 30
    ioas.map(2 * gib, user_va=4 * gib + gib - MIB2, iova=gib - MIB2)
    ioas.map(3 * PAGE, user_va=0x1000, iova=0)
    ioas.map(PAGE, user_va=0x9000, iova=8 * PAGE, writeable=False)
    tables = PageTables("vtd-second")
    second = SecondStage(ioas, tables)
    assert second.pin() == 2 * gib + 4 * PAGE
    assert second.pin() == 0
    sizes = {at: tables.look(at) for at in (0, PAGE, 8 * PAGE, gib - MIB2, gib, 2 * gib, 3 * gib - 2 * MIB2)}
    assert [(at, one.to, one.size) for at, one in sizes.items() if one] == [
        (0, PAGE, PAGE),
        (PAGE, 2 * PAGE, PAGE),
        (8 * PAGE, 9 * PAGE, PAGE),
        (gib - MIB2, 5 * gib - MIB2, MIB2),
        (gib, 5 * gib, gib),
        (2 * gib, 6 * gib, MIB2),
        (3 * gib - 2 * MIB2, 7 * gib - 2 * MIB2, MIB2),
    ]
    assert sizes[8 * PAGE].user == R | X  # type: ignore[union-attr]
    assert second.unpin(gib + 5, gib + 5) == [(gib, gib)]
    assert tables.look(gib) is None
    assert second.fill(gib + 5, W)
    assert second.pin(gib, gib + 4 * PAGE - 1) == 3 * PAGE  # beside the one that was filled
    assert len(second.unpin()) == 4 + 1 + 511 + 4


def test_only_what_the_ioas_has_is_filled(ioas: IOAS) -> None:
    ioas.map(2 * PAGE, user_va=0x1000, iova=0x4000, writeable=False)
    ioas.map(100, user_va=0x8000, iova=0x10000)
    ioas.map(PAGE, user_va=0x20800, iova=0x20000)
    second = SecondStage(ioas, PageTables("arm-stage2"))
    assert [second.fill(at, access) for at, access in ((0x4008, R), (0x4008, R), (0x5000, W), (0x6000, R))] == [
        True,
        True,
        False,
        False,
    ]
    assert not second.fill(0x10000, R)  # no whole page
    assert not second.fill(0x20000, R)  # its target is not aligned
    assert second.filled == 1
    assert second.pin() == PAGE
    with pytest.raises(UsageError, match="tables must be PageTables of stage 2"):
        SecondStage(ioas, PageTables("arm-stage1"))


def test_a_mapping_of_an_ioas_is_no_stage_2_by_itself() -> None:
    site, space = Site(), AddressSpace()
    site.end.enable_pri()
    site.end.use_tables(space)
    ioas = site.context.ioas_alloc()
    parent = site.context.hwpt_alloc_paging(site.device, ioas, nest_parent=True)
    site.device.replace(site.context.hwpt_alloc_nested(site.device, parent, fault=site.queue))
    ioas.map(PAGE, user_va=0x1000, iova=0x4000)
    ticket = site.end.access(5, 0x4000, R)
    site.turn()
    (message,) = site.queue.read_messages()
    space.map_page(5, 0x4000, R)
    site.queue.respond(message.cookie, PageResponse.SUCCESS)
    site.turn()
    assert site.end.result(ticket) is AccessResult.OK
    ioas.unmap(0x4000, PAGE)
    ticket = site.end.access(5, 0x4000, R)
    site.turn()
    assert site.end.result(ticket) is AccessResult.OK
    site.close()
    space.close()


def test_a_page_that_something_else_has_mapped_is_refused(ioas: IOAS) -> None:
    ioas.map(PAGE, user_va=0x1000, iova=0x4000)
    tables = PageTables("arm-stage2")
    tables.map(0x4000, 0)
    with pytest.raises(KernelError, match="something else has mapped 0x4000"):
        SecondStage(ioas, tables).pin()
