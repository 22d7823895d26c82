"""Invalidation commands from Python: the words of each method, and translations that go with them, or do not.

What a command drops is judged in ``c/invalidate.c`` and by ``test_two_stages_machine.py``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.test_amd import AmdSite
from tests.test_pri import PAGE, Site, refused
from tests.test_riscv import RiscvSite
from tests.test_smmuv3 import SmmuSite
from tests.test_two_stages import TABLES_AT, Host, Staged
from tests.test_vtd_revisions import OldSite, RevisionSite
from uring_iopf import FaultPerm, KernelError, UsageError
from uring_iopf.core import Core
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.device import DeviceFaults
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.iommus.smmuv3 import SmmuV3Iommu
from uring_iopf.hardware.iommus.spans import Span, ats_word, covering
from uring_iopf.hardware.page_tables import PageFormat, PageTables
from uring_iopf.hardware.translator import Translator
from uring_iopf.iommufd.spaces.second_stage import SecondStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

R, W = FaultPerm.READ, FaultPerm.WRITE
ARM: Final = (PageFormat.ARM_STAGE1, PageFormat.ARM_STAGE2)
SITES: Final = {
    "smmuv3": SmmuSite,
    "vtd": Site,
    "vtd-3": RevisionSite,
    "vtd-2": OldSite,
    "amd": AmdSite,
    "riscv": RiscvSite,
}


# ---- words, by hand ----


class Recorder:
    """A driver's methods, and the words that they would have given."""

    def __init__(self, iommu: Iommu, monkeypatch: pytest.MonkeyPatch) -> None:
        self.words: list[tuple[int, ...]] = []
        monkeypatch.setattr(iommu, "command", lambda *words: self.words.append(words))


WORDS: Final[dict[str, list[tuple[Callable[[Any], object], list[tuple[int, ...]]]]]] = {
    "smmuv3": [
        (lambda s: s.cfgi_ste(0xAB12), [(0x0000_AB12_0000_0003, 1)]),
        (lambda s: s.cfgi_cd(0xAB12, 0xFEDCB), [(0x0000_AB12_FEDC_B005, 1)]),
        (lambda s: s.cfgi_cd_all(0xAB12), [(0x0000_AB12_0000_0006,)]),
        (lambda s: s.cfgi_all(), [(0x04, 0x1F)]),
        (lambda s: s.tlbi_nh_all(7), [(0x0000_0007_0000_0010,)]),
        (lambda s: s.tlbi_nh_asid(0x1234, 7), [(0x1234_0007_0000_0011,)]),
        # one page of 4 KiB: NUM 0, SCALE 0, TG 1, TTL 3, leaf
        (lambda s: s.tlbi_nh_va(0x7FFF_1234_5678, 1, asid=5, vmid=7), [(0x0005_0007_0000_0012, 0x7FFF_1234_5701)]),
        # 2 MiB is 512 pages: 1 << 9; as one page of 2 MiB its level is 2, as one of 1 GiB 1
        (lambda s: s.tlbi_nh_va(2 << 20, 2 << 20, asid=5, granule=2 << 20), [(0x0005_0000_0090_0012, 0x20_0601)]),
        (lambda s: s.tlbi_nh_vaa(0, 1 << 30, vmid=7, granule=1 << 30), [(0x0000_0007_0120_0013, 0x501)]),
        # 39 pages: 7 of 1 (39 & 31), then 32 by SCALE 5
        (
            lambda s: s.tlbi_s2_ipa(0x10_0000, 39 * PAGE, vmid=7),
            [(0x0000_0007_0000_602A, 0x10_0701), (0x0000_0007_0050_002A, 0x10_7701)],
        ),
        (lambda s: s.tlbi_s12_vmall(7), [(0x0000_0007_0000_0028,)]),
        (lambda s: s.tlbi_nsnh_all(), [(0x30,)]),
        # pages 7 to 10 need 0 to 15, as arm_smmu_atc_inv_to_cmd() explains it; 8 to 11 are a range
        (lambda s: s.atc_inv(0xAB12, 7 * PAGE, 4 * PAGE, ssid=5), [(0x0000_AB12_0000_5840, 4)]),
        (lambda s: s.atc_inv(0xAB12, 8 * PAGE, 4 * PAGE), [(0x0000_AB12_0000_0040, 0x8002)]),
        (lambda s: s.atc_inv(0xAB12, ssid=0), [(0x0000_AB12_0000_0040, 52)]),
        (lambda s: s.sync(), [(0x46,)]),
    ],
    "vtd": [
        (lambda v: v.flush_iotlb(), [(0x12,)]),
        (lambda v: v.flush_iotlb(7), [(0x0007_0022,)]),
        (lambda v: v.flush_iotlb(7, 0x5000, 2 * PAGE), [(0x0007_0032, 0x4002)]),
        (lambda v: v.flush_piotlb(7, 0xFEDCB), [(0x000F_EDCB_0007_0026,)]),
        (lambda v: v.flush_piotlb(7, 1, 0x5123, 1), [(0x0000_0001_0007_0036, 0x5000)]),
        (lambda v: v.flush_pasid_cache(), [(0x37,)]),
        (lambda v: v.flush_pasid_cache(7), [(0x0007_0007,)]),
        (lambda v: v.flush_pasid_cache(7, 1), [(0x0000_0001_0007_0017,)]),
        (lambda v: v.flush_dev_iotlb(0xAB12), [(0x0000_AB12_0000_0003, 0x7FFF_FFFF_FFFF_F001)]),
        (lambda v: v.flush_dev_iotlb(0xAB12, 0x5000, PAGE), [(0x0000_AB12_0000_0003, 0x5000)]),
        (lambda v: v.flush_dev_iotlb(0xAB12, 0x4000, 2 * PAGE), [(0x0000_AB12_0000_0003, 0x4001)]),
        (lambda v: v.flush_dev_iotlb_pasid(0xAB12, 1, 0x8000, 4 * PAGE), [(0x0000_0001_AB12_0008, 0x9800)]),
        (lambda v: v.flush_dev_iotlb_pasid(0xAB12, 1), [(0x0000_0001_AB12_0008, 0x7FFF_FFFF_FFFF_F800)]),
        (lambda v: v.wait(), [(0x25,)]),
    ],
    "amd": [
        (lambda a: a.invalidate_iommu_pages(7), [(0x3000_0007_0000_0000, 0x7FFF_FFFF_FFFF_F003)]),
        (lambda a: a.invalidate_iommu_pages(7, 0x5000, PAGE), [(0x3000_0007_0000_0000, 0x5002)]),
        (lambda a: a.invalidate_iommu_pages(7, 0x5000, 2 * PAGE, pasid=1), [(0x3000_0007_0000_0001, 0x5007)]),
        (lambda a: a.invalidate_iotlb_pages(0xAB12), [(0x4000_AB12_0000_AB12, 0x7FFF_FFFF_FFFF_F001)]),
        (
            lambda a: a.invalidate_iotlb_pages(0xAB12, 0x4000, PAGE, pasid=0x1234),
            [(0x4034_AB12_0012_AB12, 0x4004)],
        ),
        (lambda a: a.invalidate_devtab_entry(0xAB12), [(0x2000_0000_0000_AB12,)]),
        (lambda a: a.invalidate_iommu_all(), [(0x8000_0000_0000_0000,)]),
        (lambda a: a.completion_wait(), [(0x1000_0000_0000_0000,)]),
    ],
    "riscv": [
        (lambda r: r.iotinval_vma(), [(0x01,)]),
        (lambda r: r.iotinval_vma(pscid=0x21), [(0x0000_0001_0002_1001,)]),
        (
            lambda r: r.iotinval_vma(0x5123, PAGE, gscid=7, pscid=0x21),
            [(0x0000_7003_0002_1401, 0x1400), (0x0000_7003_0002_1401, 0x1800)],
        ),
        (lambda r: r.iotinval_vma(0, 2 << 20, gscid=7), [(0x0000_7002_0000_0001,)]),
        (lambda r: r.iotinval_gvma(), [(0x81,)]),
        (lambda r: r.iotinval_gvma(0x5000, PAGE, gscid=7), [(0x0000_7002_0000_0481, 0x1400)]),
        (lambda r: r.iodir_inval_ddt(), [(0x03,)]),
        (lambda r: r.iodir_inval_ddt(0xAB12), [(0x00AB_1202_0000_0003,)]),
        (lambda r: r.iodir_inval_pdt(0xAB12, 1), [(0x00AB_1202_0000_1083,)]),
        (lambda r: r.ats_inval(0xAB12), [(0x00AB_1200_0000_0004, 0x7FFF_FFFF_FFFF_F800)]),
        (lambda r: r.ats_inval(0xAB12, 0x4000, 2 * PAGE, pid=1), [(0x00AB_1201_0000_1004, 0x4800)]),
        (lambda r: r.iofence(), [(0x02,)]),
    ],
}


@pytest.mark.parametrize("name", WORDS)
def test_each_method_gives_these_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = SITES[name]()
    recorder = Recorder(site.iommu, monkeypatch)
    for give, words in WORDS[name]:
        recorder.words.clear()
        give(site.iommu)
        assert recorder.words == words
    site.close()


@pytest.mark.parametrize(
    ("first", "pages", "span"),
    [(0, 1, (0, 0)), (7, 1, (7, 0)), (7, 2, (0, 4)), (8, 4, (8, 2)), (7, 4, (0, 4)), (5, 2, (4, 2)), (4, 3, (4, 2))],
)
def test_the_smallest_power_of_two_covers_a_range(first: int, pages: int, span: tuple[int, int]) -> None:
    assert covering(first * PAGE, pages * PAGE) == Span(span[0] * PAGE, span[1])
    assert covering(first * PAGE + 5, pages * PAGE - 5).order == span[1]


def test_everything_is_a_span_too() -> None:
    assert covering(0, 1 << 64) == Span(0, 52)
    assert ats_word(covering(0, 1 << 64), 1) == 0x7FFF_FFFF_FFFF_F001


# ---- what they do ----


@pytest.fixture(params=SITES)
def staged(request: pytest.FixtureRequest) -> Iterator[Staged]:
    site = SITES[request.param](retries=1)
    yield Staged(site, *ARM)
    site.close()


def invalidates(site: Site, *, domain: int = 0, pasid: int = 5) -> None:
    """Each vendor's way to take a page of a PASID away: the IOTLB's, then the function's own."""
    iommu: Any = site.iommu
    rid, at = site.end.requester_id, 0x7000
    if isinstance(site, SmmuSite):
        iommu.tlbi_nh_va(at, asid=pasid, vmid=domain)
        iommu.sync()
        iommu.atc_inv(rid, at, PAGE, ssid=pasid)
        iommu.sync()
    elif isinstance(site, AmdSite):
        iommu.invalidate_iommu_pages(domain, at, PAGE, pasid=pasid)
        iommu.invalidate_iotlb_pages(rid, at, PAGE, pasid=pasid)
        iommu.completion_wait()
    elif isinstance(site, RiscvSite):
        iommu.iotinval_vma(at, PAGE, pscid=pasid, gscid=domain)
        iommu.ats_inval(rid, at, PAGE, pid=pasid)
        iommu.iofence()
    else:
        iommu.flush_piotlb(domain, pasid, at, PAGE)
        iommu.flush_dev_iotlb_pasid(rid, pasid, at, PAGE)
        iommu.wait()


def test_an_unmap_is_seen_once_its_commands_are_carried_out(staged: Staged) -> None:
    site = staged.site
    staged.guest.map(0x7000, 0x5000, pasid=5)
    staged.guest.map(0x8000, 0x5000, pasid=5)
    staged.host.map(0x5000, 0x9000)
    staged.access(0x7000)
    staged.access(0x8000)
    staged.guest.unmap(0x7000, pasid=5)
    staged.guest.unmap(0x8000, pasid=5)
    assert site.end.result(staged.access(0x7000)) is AccessResult.OK
    before = site.iommu.completed_commands()
    invalidates(site)
    assert site.iommu.completed_commands() == before
    site.turn()
    assert site.iommu.completed_commands() > before
    assert site.end.result(staged.access(0x7000)) is AccessResult.PENDING
    assert site.end.result(staged.access(0x8000)) is AccessResult.OK, "nobody has named it"


def test_software_can_wait_for_its_commands(staged: Staged) -> None:
    staged.guest.map(0x7000, 0x5000, pasid=5)
    staged.host.map(0x5000, 0x9000)
    staged.access(0x7000)
    staged.guest.unmap(0x7000, pasid=5)
    with staged.site.iommu.interrupt_held():
        invalidates(staged.site)
        staged.site.iommu.finish_commands()
    assert staged.site.end.result(staged.access(0x7000)) is AccessResult.PENDING


def test_waiting_goes_over_an_illegal_command() -> None:
    site = SmmuSite()
    site.iommu.command(0xFF)
    site.iommu.sync()
    site.iommu.finish_commands()
    assert (site.iommu.completed_commands(), site.iommu.illegal_commands()) == (2, 1), "CMD_SYNC took its place"
    site.close()


def test_a_pasid_that_was_removed_is_used_until_its_context_is_invalidated(staged: Staged) -> None:
    """The function goes on by the root that hardware keeps: into tables that are somebody else's by now."""
    site, iommu, rid = staged.site, staged.site.iommu, staged.site.end.requester_id
    staged.guest.map(0x7000, 0x5000, pasid=5)
    staged.host.map(0x5000, 0x9000)
    staged.host.map(0x6000, 0xA000)
    staged.access(0x7000)
    staged.guest.remove_pasid(5)
    with pytest.raises(KernelError) as none:
        staged.guest.remove_pasid(5)
    assert none.value.errno == errno.ENOENT
    assert staged.guest.used_pages == 0
    staged.guest.map(0x8000, 0x6000, pasid=6)  # its tables are in the same pages
    assert staged.translator.look(0x8000, R, pasid=5).stage == 1
    assert site.end.result(staged.access(0x8000)) is AccessResult.OK, "as PASID 5"
    every: Any = iommu
    if isinstance(site, SmmuSite):
        every.cfgi_cd(rid, 5)
    elif isinstance(site, AmdSite):
        every.invalidate_devtab_entry(rid)
    elif isinstance(site, RiscvSite):
        every.iodir_inval_pdt(rid, 5)
    else:
        every.flush_pasid_cache(0, 5)
    iommu.finish_commands()
    site.end.invalidate(0, 1 << 64)
    staged.translator.invalidate_all()
    assert site.end.result(staged.access(0x8000)) is AccessResult.PENDING


def test_a_reset_ends_what_the_functions_own_tlb_keeps(staged: Staged) -> None:
    staged.guest.map(0x7000, 0x5000, pasid=5)
    staged.host.map(0x5000, 0x9000)
    staged.access(0x7000)
    staged.guest.unmap(0x7000, pasid=5)
    staged.translator.invalidate_all()
    assert staged.site.end.result(staged.access(0x7000)) is AccessResult.OK
    staged.site.end.reset()
    staged.site.end.enable_pri()
    assert staged.site.end.result(staged.access(0x7000)) is AccessResult.PENDING


def test_tags_and_domains_are_what_commands_name() -> None:
    site = SmmuSite(functions=2)
    host, guest = PageTables("arm-stage2"), PageTables("arm-stage1", pasids=8, base=TABLES_AT)
    host.map(TABLES_AT, 0, size=2 << 20)
    host.map(0x5000, 0x9000)
    guest.map(0x7000, 0x5000, pasid=5)
    translator = Translator(site.core, first=guest, second=host, domain=0xBEEF)
    translator.set_tag(5, 0xCAFE)
    site.end.use_translator(translator, places=0)
    site.end.enable_pri()
    assert (site.iommu.functions_of(0xBEEF), site.iommu.functions_of(0)) == ([site.end.requester_id], [])
    for asid, vmid, goes in ((5, 0xBEEF, False), (0xCAFE, 0, False), (0xCAFE, 0xBEEF, True)):
        guest.unmap(0x7000, pasid=5) if guest.look(0x7000, pasid=5) else None
        guest.map(0x7000, 0x5000, pasid=5)
        site.end.access(5, 0x7000, R)
        site.turn()
        guest.unmap(0x7000, pasid=5)
        site.iommu.tlbi_nh_asid(asid, vmid)
        site.iommu.finish_commands()
        ticket = site.end.access(5, 0x7000, R)
        site.turn()
        assert (site.end.result(ticket) is AccessResult.PENDING) == goes
    with pytest.raises(UsageError, match="domain must be"):
        Translator(site.core, first=guest, second=host, domain=1 << 16)
    with pytest.raises(UsageError, match="without a first stage"):
        Translator(site.core, second=host).set_tag(0, 1)
    with pytest.raises(UsageError, match="pasid must be"):
        translator.set_tag(8, 1)
    translator.close()
    site.close()


def test_a_device_without_an_iommu_takes_no_commands() -> None:
    with Core() as core:
        device = DeviceFaults(core)
        assert refused(device.command, 1) == errno.EOPNOTSUPP
        assert refused(device.flush_stage_2, 0) == errno.EOPNOTSUPP
        device.close()


# ---- an IOAS that is stage 2 ----


class Two:
    """Two functions of one guest; its host's memory is an IOAS."""

    def __init__(self, site: Site) -> None:
        self.host = Host(site, ARM)
        self.site, self.guest, self.second = site, self.host.staged.guest, self.host.second

    def access(self, address: int) -> AccessResult:
        return self.site.end.result(self.host.staged.access(address))


@pytest.fixture(params=SITES)
def two(request: pytest.FixtureRequest) -> Iterator[Two]:
    site = SITES[request.param](retries=1)
    yield Two(site)
    site.close()


def test_what_the_ioas_removes_is_gone_from_stage_2_and_from_all_tlbs(two: Two) -> None:
    two.host.ioas.map(PAGE, user_va=0x9000_0000, iova=0x100_0000)
    two.second.flush_with(two.site.iommu, 0)
    two.second.pin()
    two.guest.map(0x7000, 0x3000, pasid=5)
    two.guest.map(0x8000, 0x100_0000, pasid=5)
    assert [two.access(at) for at in (0x7000, 0x8000)] == [AccessResult.OK] * 2
    assert two.host.ioas.unmap(0, 16 * PAGE) == 16 * PAGE
    assert two.host.staged.host.look(0x3000) is None
    assert two.access(0x7000) is AccessResult.PENDING
    end = two.site.end.last_end()
    assert end is not None
    assert (end.stage, end.intermediate) == (2, 0x3000)
    assert not two.second.fill(0x3000, R)
    assert two.access(0x8000) is AccessResult.OK, "it is there still"
    two.host.ioas.map(16 * PAGE, user_va=0x7100_0000, iova=0)
    assert two.second.fill(0x3000, R)
    assert two.host.staged.translator.translate(0x7000, R, pasid=5).address == 0x7100_3000


def test_without_an_iommu_to_flush_what_was_removed_is_stale(two: Two) -> None:
    two.second.pin()
    two.guest.map(0x7000, 0x3000, pasid=5)
    assert two.access(0x7000) is AccessResult.OK
    two.host.ioas.unmap_all()
    assert two.host.staged.host.look(0x3000) is None
    assert two.access(0x7000) is AccessResult.OK
    two.site.iommu.flush_stage_2(0)
    assert two.access(0x7000) is AccessResult.PENDING


def test_part_of_it_is_pinned(two: Two) -> None:
    two.second.flush_with(two.site.iommu, 0)
    two.host.ioas.map(PAGE, user_va=0x9000_0000, iova=0x100_0000)
    assert two.second.pin(0x2000, 0x4FFF) == 3 * PAGE
    two.guest.map(0x7000, 0x3000, pasid=5)
    two.guest.map(0x8000, 0x100_0000, pasid=5)
    assert two.access(0x7000) is AccessResult.OK
    before = two.site.iommu.completed_commands()
    two.host.ioas.unmap(0x100_0000, PAGE)
    assert two.site.iommu.completed_commands() == before, "none of it was in stage 2: nothing to invalidate"
    assert two.access(0x7000) is AccessResult.OK
    two.host.ioas.unmap(0, 16 * PAGE)
    assert two.access(0x7000) is AccessResult.PENDING
    assert two.second.unpin() == []


def test_an_access_that_waits_for_a_page_finds_it_removed(two: Two) -> None:
    """The page request is on the way, or the host has filled the page: then it is removed, and SUCCESS comes."""
    two.second.flush_with(two.site.iommu, 0)
    two.guest.map(0x7000, 0x3000, pasid=5)
    ticket = two.host.staged.access(0x7000)
    assert two.second.fill(0x3000, R)
    two.host.ioas.unmap_all()
    assert len(two.host.staged.answered()) == 1
    assert two.site.end.result(ticket) is AccessResult.PENDING, "it asks again"
    two.host.ioas.map(16 * PAGE, user_va=0x7200_0000, iova=0)
    assert two.second.fill(0x3000, R)
    assert len(two.host.staged.answered()) == 1
    assert two.site.end.result(ticket) is AccessResult.OK


def test_two_second_stages_of_one_ioas_both_follow(two: Two) -> None:
    other = PageTables("vtd-second")
    second = SecondStage(two.host.ioas, other)
    assert second.pin() == two.second.pin() == 16 * PAGE
    two.host.ioas.unmap_all()
    assert other.look(0x3000) is two.host.staged.host.look(0x3000) is None
    second.close()
    two.host.ioas.map(PAGE, user_va=0x1000, iova=0)
    assert two.second.pin() == PAGE
    with pytest.raises(UsageError, match="second stage is closed"):
        second.pin()
    two.host.ioas.unmap_all()
    assert two.host.staged.host.look(0) is None
    two.second.close()
    two.second.close()


def test_the_order_of_closing_does_not_matter(two: Two) -> None:
    """The tables' name is closed, and the translator's; the function goes on, and the IOAS is followed to its end."""
    two.second.flush_with(two.site.iommu, 0)
    two.second.pin()
    two.guest.map(0x7000, 0x3000, pasid=5)
    assert two.access(0x7000) is AccessResult.OK
    two.host.staged.host.close()
    two.host.staged.translator.close()
    two.site.context.destroy(two.host.ioas)
    assert two.access(0x7000) is AccessResult.PENDING
    assert not two.second.fill(0x3000, R)
    two.second.close()


def test_an_iommu_that_was_closed_before_flushes_no_more(two: Two) -> None:
    two.second.flush_with(two.site.iommu, 0)
    two.second.pin()
    two.site.iommu.close()
    two.host.ioas.unmap_all()
    assert two.host.staged.host.look(0) is None


def test_closing_it_removes_what_it_has_mapped(two: Two) -> None:
    two.second.flush_with(two.site.iommu, 0)
    two.second.pin()
    two.guest.map(0x7000, 0x3000, pasid=5)
    assert two.access(0x7000) is AccessResult.OK
    two.second.close()
    assert two.access(0x7000) is AccessResult.PENDING


def test_all_iommus_flush(two: Two) -> None:
    """Stage 2 is one; the functions are behind two IOMMUs."""
    smmu = SmmuV3Iommu(two.site.core)
    end = Endpoint(smmu, requester_id=0x500, stalls=2)
    end.use_translator(two.host.staged.translator)
    two.second.flush_with(two.site.iommu, 0)
    two.second.flush_with(smmu, 0)
    two.second.pin()
    two.guest.map(0x7000, 0x3000, pasid=5)
    before = smmu.completed_commands()
    two.host.ioas.unmap_all()
    assert smmu.completed_commands() == before + 2
    end.close()
    smmu.close()


def test_what_does_not_follow_is_refused(two: Two) -> None:
    with pytest.raises(UsageError, match="follower must have"):
        two.host.ioas.follow(5)  # type: ignore[arg-type]
    two.host.ioas.unfollow(5)  # type: ignore[arg-type]
