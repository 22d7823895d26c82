"""Functions with two stages behind each IOMMU, in any order of faults, fills, unmaps, commands and resets.

A model of the caches judges each access: what is kept, under which tag, and what a command names. A translation that a
command names is never used again; one that no command names goes on being used, stale or not. The client's account must
balance after each step, and each request has one answer in the end. The words of commands are judged in
``c/invalidate.c``; here they come from the drivers' methods, through queues, between faults.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.test_amd import AmdSite
from tests.test_pri import PAGE, Site, accounts
from tests.test_riscv import RiscvSite
from tests.test_smmuv3 import SmmuSite
from tests.test_vtd_revisions import OldSite, RevisionSite
from uring_iopf import FaultPerm, PageResponse
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.page_tables import PageFormat, PageTables
from uring_iopf.hardware.translator import Translator
from uring_iopf.iommufd.spaces.second_stage import SecondStage

if TYPE_CHECKING:
    from collections.abc import Callable

R, W = FaultPerm.READ, FaultPerm.WRITE
MIB2: Final = 2 << 20
TABLES_AT: Final = 0x2000_0000
PASIDS: Final = (1, 2)
PAGES: Final = 4
"""Of a function's addresses, and of its guest's memory."""
MEMORY: Final = 0x100_0000
"""The first intermediate address of the guest's memory."""
MOST_WAITING: Final = 6
TABLES: Final = -1
"""Beside pages of the guest's memory: the page of its tables, which stage 2 always has."""


class StallingSite(SmmuSite):
    def make_end(self, requester_id: int, retries: int, physical: Endpoint | None) -> Endpoint:
        return Endpoint(self.iommu, requester_id=requester_id, stalls=8, retries=retries, physical=physical)


class Kept(NamedTuple):
    to: int
    """The page in memory."""
    rights: FaultPerm


@dataclass
class GuestPage:
    page: int
    """Of the guest's memory."""
    perm: FaultPerm
    dirty: bool = False


@dataclass
class Waiting:
    """An access whose page was asked for."""

    pasid: int
    page: int
    perm: FaultPerm
    tries: int = 0


@dataclass
class Staged:
    """A function, its guest's tables, and what is kept of them."""

    tree: dict[tuple[int, int], GuestPage] = field(default_factory=dict)
    tags: dict[int, int] = field(default_factory=dict)
    contexts: dict[int, int] = field(default_factory=dict)  # a PASID's tag
    whole: dict[tuple[int, int], Kept] = field(default_factory=dict)  # by tag and page
    second: dict[int, Kept] = field(default_factory=dict)
    device: dict[tuple[int, int], Kept] = field(default_factory=dict)
    waiting: dict[int, Waiting] = field(default_factory=dict)  # by ticket
    held: dict[int, int] = field(default_factory=dict)  # tickets by cookie; of a request that was forgotten: -1
    results: dict[int, AccessResult] = field(default_factory=dict)
    stage: int = 0
    """That has ended its last translation without an address."""


def find(kept: dict[Any, Kept], key: Any, need: FaultPerm) -> Kept | None:
    one = kept.get(key)
    if one is not None and not one.rights & need:
        del kept[key]  # the tables are walked
        return None
    return one


class StagedMachine(RuleBasedStateMachine):
    """The model, and what is common to all IOMMUs."""

    make: ClassVar[Callable[..., Site]]
    formats: ClassVar = (PageFormat.ARM_STAGE1, PageFormat.ARM_STAGE2)
    has_tags: ClassVar = False
    domains: tuple[int, int]

    @initialize(
        domains=st.sampled_from([(5, 5), (5, 6)]), flushed=st.booleans(), warm=st.sampled_from([True, True, False])
    )
    def begin(self, domains: tuple[int, int], flushed: bool, warm: bool) -> None:
        self.site = type(self).make(functions=2, retries=1)
        self.domains = domains
        self.flushed = flushed
        self.model = [Staged(), Staged()]
        self.memory: dict[int, Kept] = {}  # the IOAS
        self.mapped: dict[int, Kept] = {}  # stage 2
        self.completed = 0
        self.unexpected = [0, 0]
        self.ioas = self.site.context.ioas_alloc()
        self.host = PageTables(self.formats[1], tracks=False)
        self.host.map(TABLES_AT, 0, size=MIB2)
        self.second = SecondStage(self.ioas, self.host)
        self.guests = [PageTables(self.formats[0], pasids=4, base=TABLES_AT, tracks=False) for _ in range(2)]
        self.translators = []
        for n, guest in enumerate(self.guests):
            for pasid in PASIDS:
                guest.map(0x4000_0000, 0, pasid=pasid)  # it has tables
                self.model[n].tags[pasid] = pasid
            one = Translator(self.site.core, first=guest, second=self.host, places=2048, domain=domains[n])
            self.translators.append(one)
            end = self.site.ends[n]
            end.use_translator(one, places=0 if end.stalls else 2048)
            if not end.stalls:
                end.enable_pri()
        for page in range(PAGES):
            self.map_memory(page, page + 1, writeable=True)
        if flushed:
            for domain in sorted(set(domains)):
                self.second.flush_with(self.site.iommu, domain)
                self.completed += self.completes
        if warm:  # both guests have mapped everything, and all of it has been used
            self.the_host_pins_or_unpins(0, PAGES - 1, pin=True)
            for n, pasid in ((0, 1), (0, 2), (1, 1)):
                for page in range(PAGES):
                    self.map_guest(n, pasid, page, page, R | W)
                self.all_that_is_found_is_accessed(n, pasid)

    completes: ClassVar = 1
    """Commands of a flush of stage 2 that say that those before have been carried out."""

    def teardown(self) -> None:
        if not hasattr(self, "site"):
            return
        for n in range(2):
            while self.model[n].held:
                self.respond_one(n, min(self.model[n].held), PageResponse.INVALID)
        self.all_is_well()
        self.all_is_counted()
        for end, account, function in zip(self.site.ends, accounts(self.site), self.model, strict=True):
            assert end.counts().outstanding == 0, "each place and credit is back"
            assert (account.pending, account.awaited, account.lost) == (0, 0, 0)
            assert AccessResult.PENDING not in function.results.values()
        self.second.close()
        self.second.close()
        assert self.host.look(MEMORY) is None
        for one in self.translators:
            one.close()
        self.site.close()

    # ---- the model ----

    def through_second(self, n: int, page: int, need: FaultPerm) -> Kept | None:
        function = self.model[n]
        kept = find(function.second, page, need)
        if kept is None:
            kept = self.mapped.get(page)
            if kept is None or not kept.rights & need:
                function.stage = 2
                return None
            function.second[page] = kept
        return kept

    def translate(self, n: int, pasid: int, page: int, need: FaultPerm) -> int | None:
        """The page in memory that the access reaches."""
        function = self.model[n]
        has_own = not self.site.ends[n].stalls
        kept = find(function.device, (pasid, page), need) if has_own else None
        if kept is not None:
            return kept.to
        tag = function.contexts.setdefault(pasid, function.tags[pasid])
        kept = find(function.whole, (tag, page), need)
        if kept is None:
            function.second[TABLES] = Kept(0, R | W)
            guest = function.tree.get((pasid, page))
            if guest is None or not guest.perm & need:
                function.stage = 1
                return None
            known = guest.perm
            if self.formats[0] is PageFormat.VTD_FIRST:
                guest.dirty |= need is W
                known = guest.perm if guest.dirty else R
            below = self.through_second(n, guest.page, need)
            if below is None:
                return None
            kept = Kept(below.to, known & below.rights)
            function.whole[tag, page] = kept
        if has_own:
            function.device[pasid, page] = kept
        return kept.to

    def drop(
        self,
        *,
        whole: Callable[[int, int, int], bool] = lambda n, tag, page: False,
        second: Callable[[int, int], bool] = lambda n, page: False,
        device: Callable[[int, int, int], bool] = lambda n, pasid, page: False,
        contexts: Callable[[int, int], bool] = lambda n, pasid: False,
    ) -> None:
        for n, function in enumerate(self.model):
            function.whole = {key: one for key, one in function.whole.items() if not whole(n, *key)}
            function.second = {key: one for key, one in function.second.items() if not second(n, key)}
            function.device = {key: one for key, one in function.device.items() if not device(n, *key)}
            function.contexts = {key: one for key, one in function.contexts.items() if not contexts(n, key)}

    # ---- what is done ----

    def settle(self) -> None:
        self.site.turn()

    def take(self, n: int, ticket: int) -> None:
        """The request of an access that the function has just made, which its client reads at once."""
        function = self.model[n]
        (message,) = self.site.queues[n].read_messages()
        asked = function.waiting[ticket]
        assert (message.pasid, message.addr // PAGE, message.perm) == (asked.pasid, asked.page, asked.perm)
        assert message.dev_id == self.site.devices[n].id
        function.held[message.cookie] = ticket
        end = self.site.ends[n].last_end()
        assert end is not None
        assert end.stage == function.stage
        look = self.translators[n].look(message.addr, message.perm, pasid=message.pasid)
        assert look.stage == function.stage, "what is stale is what was there: it asks for nothing that is there"

    @rule(
        n=st.integers(0, 1),
        pasid=st.sampled_from(PASIDS),
        page=st.integers(0, PAGES - 1),
        perm=st.sampled_from([R, R, W]),
    )
    def access(self, n: int, pasid: int, page: int, perm: FaultPerm) -> None:
        function = self.model[n]
        if len(function.waiting) == MOST_WAITING:
            return
        ticket = self.site.ends[n].access(pasid, page * PAGE, perm)
        self.settle()
        if self.translate(n, pasid, page, perm) is not None:
            function.results[ticket] = AccessResult.OK
            return
        function.results[ticket] = AccessResult.PENDING
        function.waiting[ticket] = Waiting(pasid, page, perm)
        self.take(n, ticket)

    @precondition(lambda self: any(one.held for one in self.model))
    @rule(
        data=st.data(),
        code=st.sampled_from([PageResponse.SUCCESS] * 3 + [PageResponse.INVALID]),
        fills=st.booleans(),
        memory=st.integers(0, PAGES - 1),
    )
    def serve(self, data: st.DataObject, code: PageResponse, fills: bool, memory: int) -> None:
        """Find the stage by a walk; the guest maps, or the host fills, or nobody does; then answer."""
        n = data.draw(st.sampled_from([n for n, one in enumerate(self.model) if one.held]))
        function = self.model[n]
        cookie = data.draw(st.sampled_from(sorted(function.held)))
        asked = function.waiting.get(function.held[cookie])
        if asked is not None and fills:
            look = self.translators[n].look(asked.page * PAGE, asked.perm, pasid=asked.pasid)
            if look.stage == 1:
                self.map_guest(n, asked.pasid, asked.page, memory, R | asked.perm)
            elif look.stage == 2:
                page = (look.intermediate - MEMORY) // PAGE
                has = self.memory.get(page)
                there = self.second.fill(look.intermediate, asked.perm)
                assert there == (has is not None and bool(has.rights & asked.perm))
                if there and has is not None:
                    self.mapped.setdefault(page, has)
        self.respond_one(n, cookie, code)

    def respond_one(self, n: int, cookie: int, code: PageResponse) -> None:
        function = self.model[n]
        ticket = function.held.pop(cookie)
        self.site.queues[n].respond(cookie, code)
        self.settle()
        asked = function.waiting.get(ticket)
        if asked is None:  # the function has forgotten it
            self.unexpected[n] += 1
        elif code is PageResponse.INVALID:
            function.results[ticket] = AccessResult.INVALID
            del function.waiting[ticket]
        elif self.translate(n, asked.pasid, asked.page, asked.perm) is not None:
            function.results[ticket] = AccessResult.OK
            del function.waiting[ticket]
        elif asked.tries:
            function.results[ticket] = AccessResult.UNMAPPED
            del function.waiting[ticket]
        else:
            asked.tries = 1
            self.take(n, ticket)

    def map_guest(self, n: int, pasid: int, page: int, memory: int, perm: FaultPerm) -> None:
        tree = self.model[n].tree
        if (pasid, page) in tree:
            self.guests[n].unmap(page * PAGE, pasid=pasid)
        self.guests[n].map(page * PAGE, MEMORY + memory * PAGE, perm=perm, pasid=pasid)
        tree[pasid, page] = GuestPage(memory, perm)

    @rule(
        n=st.integers(0, 1),
        pasid=st.sampled_from(PASIDS),
        page=st.integers(0, PAGES - 1),
        memory=st.none() | st.integers(0, PAGES - 1),
        perm=st.sampled_from([R, R | W, R | W]),
    )
    def the_guest_maps_or_unmaps(self, n: int, pasid: int, page: int, memory: int | None, perm: FaultPerm) -> None:
        """And says nothing to hardware: that is for a command."""
        if memory is not None:
            self.map_guest(n, pasid, page, memory, perm)
        elif self.model[n].tree.pop((pasid, page), None):
            self.guests[n].unmap(page * PAGE, pasid=pasid)

    def map_memory(self, page: int, to: int, *, writeable: bool) -> None:
        self.ioas.map(PAGE, user_va=to * PAGE, iova=MEMORY + page * PAGE, writeable=writeable)
        self.memory[page] = Kept(to, R | W if writeable else R)

    @rule(page=st.integers(0, PAGES - 1), to=st.integers(1, 1000), writeable=st.booleans())
    def the_host_changes_its_memory(self, page: int, to: int, writeable: bool) -> None:
        """A removal from the IOAS goes from stage 2, and from the caches if an IOMMU flushes; those that map do not."""
        if page not in self.memory:
            self.map_memory(page, to, writeable=writeable)
            return
        assert self.ioas.unmap(MEMORY + page * PAGE, PAGE) == PAGE
        del self.memory[page]
        assert self.host.look(MEMORY + page * PAGE) is None
        if self.mapped.pop(page, None) and self.flushed:
            self.drop(whole=lambda n, tag, at: True, second=lambda n, at: at == page, device=lambda n, pasid, at: True)
            self.completed += self.completes * len(set(self.domains))

    @rule(page=st.integers(0, PAGES - 1), more=st.integers(0, 2), pin=st.booleans())
    def the_host_pins_or_unpins(self, page: int, more: int, pin: bool) -> None:
        first, last = MEMORY + page * PAGE, MEMORY + (page + more) * PAGE + PAGE - 1
        pages = range(page, page + more + 1)
        if pin:
            new = [at for at in pages if at in self.memory and at not in self.mapped]
            assert self.second.pin(first, last) == len(new) * PAGE
            self.mapped.update({at: self.memory[at] for at in new})
        else:
            gone = [at for at in pages if at in self.mapped]
            assert self.second.unpin(first, last) == [(MEMORY + at * PAGE, PAGE) for at in gone]
            for at in gone:
                del self.mapped[at]

    @precondition(lambda self: self.has_tags)
    @rule(n=st.integers(0, 1), pasid=st.sampled_from(PASIDS), tag=st.sampled_from([1, 2, 0x31]))
    def a_context_gets_another_tag(self, n: int, pasid: int, tag: int) -> None:
        self.translators[n].set_tag(pasid, tag)
        self.model[n].tags[pasid] = tag

    @rule(data=st.data(), count=st.integers(1, 3))
    def software_invalidates(self, data: st.DataObject, count: int) -> None:
        """One command or several, carried out one after the other."""
        for _ in range(count):
            commands = self.commands(
                n=data.draw(st.integers(0, 1)),
                pasid=data.draw(st.sampled_from(PASIDS)),
                tag=data.draw(st.sampled_from([1, 2, 0x31])),
                page=data.draw(st.integers(0, PAGES - 1)),
                pages=data.draw(st.sampled_from([1, 1, 2, 3])),
                domain=data.draw(st.sampled_from([5, 5, 6, 7])),
            )
            give, effect = data.draw(st.sampled_from(list(commands)))
            give()
            self.drop(**effect)
        self.settle()

    @rule()
    def all_is_counted(self) -> None:
        """Calls that invalidate everything say how much there was: as much as the model has kept."""
        for function, end, translator in zip(self.model, self.site.ends, self.translators, strict=True):
            assert translator.invalidate_all() == len(function.whole) + len(function.second)
            assert end.invalidate(0, 1 << 64) == len(function.device)
            function.whole, function.second, function.device = {}, {}, {}

    @rule(n=st.integers(0, 1), pasid=st.sampled_from(PASIDS))
    def all_that_is_found_is_accessed(self, n: int, pasid: int) -> None:
        """By what is kept, and by the tables: nothing is asked for."""
        for page in range(PAGES):
            guest = self.model[n].tree.get((pasid, page))
            if guest is not None and guest.page in self.mapped:
                self.access(n, pasid, page, R)

    @rule(data=st.data())
    def software_waits(self, data: st.DataObject) -> None:
        self.wait()
        self.completed += 1
        if data.draw(st.booleans()):
            self.site.iommu.finish_commands()
        else:
            self.settle()

    @rule(n=st.integers(0, 1))
    def detach_and_attach(self, n: int) -> None:
        function = self.model[n]
        self.site.devices[n].detach()
        self.site.devices[n].attach(self.site.tables[n])
        self.settle()
        for ticket in function.held.values():
            if function.waiting.pop(ticket, None) is None:
                self.unexpected[n] += 1
            else:
                function.results[ticket] = AccessResult.INVALID
        function.held = {}

    @rule(n=st.integers(0, 1))
    def reset(self, n: int) -> None:
        """The function forgets what it has asked for, and what its TLB keeps; what stalls is the IOMMU's, and stays."""
        end, function = self.site.ends[n], self.model[n]
        end.reset()
        function.device = {}
        if not end.stalls:
            function.results.update(dict.fromkeys(function.waiting, AccessResult.FAILED))
            function.waiting = {}
            end.enable_pri()

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "site"):
            return
        assert self.site.iommu.completed_commands() == self.completed
        for n, account in enumerate(accounts(self.site)):
            function, end = self.model[n], self.site.ends[n]
            assert {ticket: end.result(ticket) for ticket in function.results} == function.results
            assert account.sent == account.answered + account.auto_answered + account.pending
            assert (account.lost, account.passed_over, account.pending) == (0, 0, len(function.held))
            counts = end.counts()
            assert (counts.outstanding, counts.unexpected) == (len(function.waiting), self.unexpected[n])
            results = Counter(function.results.values())
            assert results[AccessResult.PENDING] == len(function.waiting)

    # ---- a vendor's ----

    def wait(self) -> None:
        raise NotImplementedError

    def commands(
        self, *, n: int, pasid: int, tag: int, page: int, pages: int, domain: int
    ) -> list[tuple[Callable[[], object], dict[str, Any]]]:
        """Commands, and what each drops: arguments of `drop`."""
        raise NotImplementedError


def span(page: int, pages: int) -> range:
    """The smallest aligned power of two of pages that has all of these."""
    size = 1
    while page // size != (page + pages - 1) // size:
        size *= 2
    return range(page // size * size, page // size * size + size)


class SmmuStaged(StagedMachine):
    make = SmmuSite
    has_tags = True
    completes = 2
    site: SmmuSite

    def wait(self) -> None:
        self.site.iommu.sync()

    def commands(
        self, *, n: int, pasid: int, tag: int, page: int, pages: int, domain: int
    ) -> list[tuple[Callable[[], object], dict[str, Any]]]:
        smmu, sid, at, length = self.site.iommu, self.site.ends[n].requester_id, page * PAGE, pages * PAGE
        exact, around = range(page, page + pages), span(page, pages)
        of = [one == domain for one in self.domains]
        return [
            (partial(smmu.tlbi_nh_all, domain), {"whole": lambda m, t, p: of[m]}),
            (partial(smmu.tlbi_nh_asid, tag, domain), {"whole": lambda m, t, p: of[m] and t == tag}),
            (
                partial(smmu.tlbi_nh_va, at, length, asid=tag, vmid=domain),
                {"whole": lambda m, t, p: of[m] and t == tag and p in exact},
            ),
            (partial(smmu.tlbi_nh_vaa, at, length, vmid=domain), {"whole": lambda m, t, p: of[m] and p in exact}),
            (
                partial(smmu.tlbi_s12_vmall, domain),
                {"whole": lambda m, t, p: of[m], "second": lambda m, p: of[m]},
            ),
            (
                partial(smmu.tlbi_s2_ipa, MEMORY + at, length, vmid=domain),
                {"second": lambda m, p: of[m] and p in exact},
            ),
            (smmu.tlbi_nsnh_all, {"whole": lambda m, t, p: True, "second": lambda m, p: True}),
            (partial(smmu.atc_inv, sid), {"device": lambda m, s, p: m == n}),
            (partial(smmu.atc_inv, sid, at, length), {"device": lambda m, s, p: m == n and p in around}),
            (
                partial(smmu.atc_inv, sid, at, length, ssid=pasid),
                {"device": lambda m, s, p: m == n and s == pasid and p in around},
            ),
            (partial(smmu.cfgi_cd, sid, pasid), {"contexts": lambda m, s: m == n and s == pasid}),
            (partial(smmu.cfgi_cd_all, sid), {"contexts": lambda m, s: m == n}),
            (partial(smmu.cfgi_ste, sid), {"contexts": lambda m, s: m == n}),
            (smmu.cfgi_all, {"contexts": lambda m, s: True}),
        ]


class StallStaged(SmmuStaged):
    make = StallingSite


class VtdStaged(StagedMachine):
    make = Site
    formats = (PageFormat.VTD_FIRST, PageFormat.VTD_SECOND)

    def wait(self) -> None:
        self.site.iommu.wait()  # type: ignore[attr-defined]

    def commands(
        self, *, n: int, pasid: int, tag: int, page: int, pages: int, domain: int
    ) -> list[tuple[Callable[[], object], dict[str, Any]]]:
        vtd: Any = self.site.iommu
        sid, at, length, around = self.site.ends[n].requester_id, page * PAGE, pages * PAGE, span(page, pages)
        of = [one == domain for one in self.domains]
        return [
            (vtd.flush_iotlb, {"whole": lambda m, t, p: True, "second": lambda m, p: True}),
            (
                partial(vtd.flush_iotlb, domain),
                {"whole": lambda m, t, p: of[m], "second": lambda m, p: of[m]},
            ),
            (
                partial(vtd.flush_iotlb, domain, MEMORY + at, length),
                {"whole": lambda m, t, p: of[m], "second": lambda m, p: of[m] and p in around},
            ),
            (partial(vtd.flush_piotlb, domain, pasid), {"whole": lambda m, t, p: of[m] and t == pasid}),
            (
                partial(vtd.flush_piotlb, domain, pasid, at, length),
                {"whole": lambda m, t, p: of[m] and t == pasid and p in around},
            ),
            (vtd.flush_pasid_cache, {"contexts": lambda m, s: True}),
            (partial(vtd.flush_pasid_cache, domain), {"contexts": lambda m, s: of[m]}),
            (partial(vtd.flush_pasid_cache, domain, pasid), {"contexts": lambda m, s: of[m] and s == pasid}),
            (partial(vtd.flush_dev_iotlb, sid), {"device": lambda m, s, p: m == n}),
            (partial(vtd.flush_dev_iotlb, sid, at, length), {"device": lambda m, s, p: m == n and p in around}),
            (partial(vtd.flush_dev_iotlb_pasid, sid, pasid), {"device": lambda m, s, p: m == n and s == pasid}),
            (
                partial(vtd.flush_dev_iotlb_pasid, sid, pasid, at, length),
                {"device": lambda m, s, p: m == n and s == pasid and p in around},
            ),
        ]


class Vtd3Staged(VtdStaged):
    make = RevisionSite


class Vtd2Staged(VtdStaged):
    make = OldSite


class AmdStaged(StagedMachine):
    make = AmdSite
    site: AmdSite

    def wait(self) -> None:
        self.site.iommu.completion_wait()

    def commands(
        self, *, n: int, pasid: int, tag: int, page: int, pages: int, domain: int
    ) -> list[tuple[Callable[[], object], dict[str, Any]]]:
        amd, rid, at, length, around = (
            self.site.iommu,
            self.site.ends[n].requester_id,
            page * PAGE,
            pages * PAGE,
            span(page, pages),
        )
        of = [one == domain for one in self.domains]
        return [
            (
                partial(amd.invalidate_iommu_pages, domain),
                {"whole": lambda m, t, p: of[m], "second": lambda m, p: of[m]},
            ),
            (
                partial(amd.invalidate_iommu_pages, domain, MEMORY + at, length),
                {"whole": lambda m, t, p: of[m], "second": lambda m, p: of[m] and p in around},
            ),
            (
                partial(amd.invalidate_iommu_pages, domain, pasid=pasid),
                {"whole": lambda m, t, p: of[m] and t == pasid},
            ),
            (
                partial(amd.invalidate_iommu_pages, domain, at, length, pasid=pasid),
                {"whole": lambda m, t, p: of[m] and t == pasid and p in around},
            ),
            (partial(amd.invalidate_iotlb_pages, rid), {"device": lambda m, s, p: m == n}),
            (
                partial(amd.invalidate_iotlb_pages, rid, at, length, pasid=pasid),
                {"device": lambda m, s, p: m == n and s == pasid and p in around},
            ),
            (partial(amd.invalidate_devtab_entry, rid), {"contexts": lambda m, s: m == n}),
            (
                amd.invalidate_iommu_all,
                {"whole": lambda m, t, p: True, "second": lambda m, p: True, "contexts": lambda m, s: True},
            ),
        ]


class RiscvStaged(StagedMachine):
    make = RiscvSite
    has_tags = True
    site: RiscvSite

    def wait(self) -> None:
        self.site.iommu.iofence()

    def commands(
        self, *, n: int, pasid: int, tag: int, page: int, pages: int, domain: int
    ) -> list[tuple[Callable[[], object], dict[str, Any]]]:
        riscv, rid, at, length = self.site.iommu, self.site.ends[n].requester_id, page * PAGE, pages * PAGE
        exact, around = range(page, page + pages), span(page, pages)
        of = [one == domain for one in self.domains]
        return [
            (riscv.iotinval_vma, {}),  # the host's spaces, which have no stage 2
            (partial(riscv.iotinval_vma, gscid=domain), {"whole": lambda m, t, p: of[m]}),
            (partial(riscv.iotinval_vma, gscid=domain, pscid=tag), {"whole": lambda m, t, p: of[m] and t == tag}),
            (
                partial(riscv.iotinval_vma, at, length, gscid=domain, pscid=tag),
                {"whole": lambda m, t, p: of[m] and t == tag and p in exact},
            ),
            (partial(riscv.iotinval_vma, at, length, gscid=domain), {"whole": lambda m, t, p: of[m] and p in exact}),
            (riscv.iotinval_gvma, {"whole": lambda m, t, p: True, "second": lambda m, p: True}),
            (
                partial(riscv.iotinval_gvma, MEMORY + at, length, gscid=domain),
                {"whole": lambda m, t, p: of[m], "second": lambda m, p: of[m] and p in exact},
            ),
            (partial(riscv.ats_inval, rid), {"device": lambda m, s, p: m == n}),
            (
                partial(riscv.ats_inval, rid, at, length, pid=pasid),
                {"device": lambda m, s, p: m == n and s == pasid and p in around},
            ),
            (partial(riscv.iodir_inval_ddt, rid), {"contexts": lambda m, s: m == n}),
            (riscv.iodir_inval_ddt, {"contexts": lambda m, s: True}),
            (partial(riscv.iodir_inval_pdt, rid, pasid), {"contexts": lambda m, s: m == n and s == pasid}),
        ]


SOME = settings(settings(), stateful_step_count=40)
TestSmmu = SmmuStaged.TestCase
TestSmmu.settings = SOME
TestStall = StallStaged.TestCase
TestStall.settings = SOME
TestVtd = VtdStaged.TestCase
TestVtd.settings = SOME
TestVtd3 = Vtd3Staged.TestCase
TestVtd3.settings = SOME
TestVtd2 = Vtd2Staged.TestCase
TestVtd2.settings = SOME
TestAmd = AmdStaged.TestCase
TestAmd.settings = SOME
TestRiscv = RiscvStaged.TestCase
TestRiscv.settings = SOME
