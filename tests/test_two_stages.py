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
from uring_iopf.hardware.load import Load
from uring_iopf.hardware.page_tables import PageFormat, PageTables
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.hardware.translator import Translator, WalkEnd
from uring_iopf.workloads import ROW

if TYPE_CHECKING:
    from collections.abc import Iterator

R, W, X = FaultPerm.READ, FaultPerm.WRITE, FaultPerm.EXEC
MIB2: Final = 1 << 21
TABLES_AT: Final = 0x2000_0000
"""The guest's address of its tables."""


class Staged:
    """A site whose first function has two stages: stage 1 the guest's, stage 2 the host's."""

    def __init__(self, site: Site, first: PageFormat, second: PageFormat, **more: int) -> None:
        self.site = site
        self.guest = PageTables(first, pasids=8, base=TABLES_AT)
        self.host = PageTables(second)
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
