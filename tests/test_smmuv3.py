"""SMMUv3 through the public names: what it answers by itself, its driver, and functions whose faults stall.

The bits are judged by ``c/smmuv3.c``. Here a model of the SMMU and of the driver says what becomes of every request, in
any order of overflows, aborts, and a queue that is switched off.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.test_pri import PAGE, READ, DriverMachine, Group, ModelFunction, Site, accounts, refused
from uring_iopf.abi import FaultPerm, PageResponse
from uring_iopf.errors import UsageError
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.smmuv3 import SmmuError, SmmuRegister, SmmuV3Iommu
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.limits import REQUEST_QUEUES
from uring_iopf.hardware.pri import PageRequest, PrgAnswer, PrgResponse, PriRegister, PriStatus
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.machine_function import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

SUCCESS, INVALID, FAILURE = PrgResponse.SUCCESS, PrgResponse.INVALID, PrgResponse.FAILURE
ENTRIES = REQUEST_QUEUES["smmuv3"]
STRANGER = 0x7777


class SmmuSite(Site):
    """Functions behind one SMMUv3."""

    iommu: SmmuV3Iommu
    denies = False

    def make_iommu(self) -> SmmuV3Iommu:
        return SmmuV3Iommu(self.core, linux_denies_pri=self.denies)


class DenyingSite(SmmuSite):
    denies = True


class StallSite(SmmuSite):
    """The same with functions that stall, and tables of their own."""

    stalls = 3

    def __init__(self, *, functions: int = 1) -> None:
        super().__init__(functions=functions)
        self.space = AddressSpace()
        self.stack.callback(self.space.close)
        for one in self.ends:
            one.use_tables(self.space)

    def make_end(self, requester_id: int, retries: int, physical: Endpoint | None) -> Endpoint:
        return Endpoint(self.iommu, requester_id=requester_id, stalls=self.stalls, retries=retries, physical=physical)


@pytest.fixture
def site() -> Iterator[SmmuSite]:
    one = SmmuSite()
    one.end.enable_pri()
    yield one
    one.close()


# ---- PRI ----


def test_an_access_goes_the_whole_way(site: SmmuSite) -> None:
    ticket = site.end.access(5, PAGE, READ, pages=3)
    site.turn()
    messages = site.queue.read_messages()
    assert [(one.pasid, one.grpid, one.addr, one.flags) for one in messages] == [
        (5, 0, PAGE, 1),
        (5, 0, 2 * PAGE, 1),
        (5, 0, 3 * PAGE, 3),
    ]
    site.queue.respond(messages[0].cookie, 1)
    site.turn()
    assert site.end.result(ticket) is AccessResult.INVALID


def test_linuxs_driver_denies_page_requests_and_so_stops_the_function() -> None:
    site = DenyingSite()
    site.end.enable_pri()
    ticket = site.end.access(5, PAGE, READ, pages=3)
    site.turn()
    assert site.queue.read_messages() == []
    assert site.end.result(ticket) is AccessResult.FAILED
    assert site.end.counts().pri_status == PriStatus.RF | PriStatus.STOPPED
    (account,) = accounts(site)
    assert (account.auto_answered, account.passed_over, account.lost) == (1, 2, 0)
    site.close()


def test_a_queue_that_is_switched_off_stops_the_function_and_one_that_is_on_again_does_not(site: SmmuSite) -> None:
    site.iommu.disable_pri_queue()
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5))
    site.turn()
    assert site.end.take_answers() == [PrgAnswer(7, FAILURE)]
    site.end.disable_pri()
    site.end.enable_pri()
    site.iommu.enable_pri_queue()
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5))
    site.turn()
    assert site.answer() == 1
    assert site.end.take_answers() == [PrgAnswer(7, SUCCESS)]
    (account,) = accounts(site)
    assert (account.sent, account.answered, account.auto_answered, account.lost) == (2, 1, 1, 0)


@pytest.mark.parametrize("synchronous", [True, False])
def test_a_write_that_aborts_is_answered_or_lost(site: SmmuSite, synchronous: bool) -> None:
    site.iommu.abort_pri_queue(synchronous=synchronous)
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5))
    site.turn()
    assert site.end.take_answers() == [PrgAnswer(7, FAILURE)] * synchronous
    (account,) = accounts(site)
    assert (account.auto_answered, account.lost) == (int(synchronous), int(not synchronous))
    assert site.iommu.lost() == (not synchronous)


class SmmuMachine(DriverMachine):
    """Requests of any fields, with a queue that fills up, is switched off, and whose writes abort."""

    site: SmmuSite
    denies = False
    last_only = False  # PRIQ_IRQ_CFG2.LO is 0
    places = None

    def make_site(self) -> SmmuSite:
        self.queued = 0
        self.off = self.overflowed = self.aborted = self.incomplete = False
        self.abort: bool | None = None  # the next write aborts, synchronously or not
        return (DenyingSite if self.denies else SmmuSite)(functions=2)

    # ---- the model ----

    def arrive(self, function: ModelFunction | None, request: PageRequest) -> None:
        answer: PrgResponse | None = None
        if self.off or self.aborted:
            self.incomplete = True
            answer = FAILURE
        elif self.overflowed or self.queued == ENTRIES:
            self.overflowed = True
            answer = SUCCESS
        elif self.abort is not None:
            answer = FAILURE if self.abort else None
            self.aborted, self.abort = True, None
            self.incomplete = True
            if function is not None and answer is None:
                function.lost += not self.is_marker(request)
        else:
            self.queued += 1
            super().arrive(function, request)
        if function is not None and answer is not None and not self.is_marker(request):
            function.auto_answered += 1
            if answer is FAILURE or request.last:
                function.answer(request, answer)

    def take(self, function: ModelFunction, request: PageRequest) -> None:
        marker = self.is_marker(request)
        if self.denies or not (function.bound or marker):
            if request.last:
                function.auto_answered += not marker
                function.answer(request, FAILURE if self.denies else INVALID)
                function.end(request.prg_index)
            else:
                function.passed_over += 1
        elif marker:
            pass
        elif not function.attached:
            function.auto_answered += 1
            function.answer(request, INVALID)
        elif request.last:
            pages = function.partial.pop(request.prg_index, 0) + 1
            function.ended.pop(request.prg_index, 0)
            function.waiting.append(Group(request.prg_index, pages, request))
        else:
            function.partial[request.prg_index] = function.partial.get(request.prg_index, 0) + 1

    def interrupt(self) -> None:
        super().interrupt()
        if self.overflowed or self.incomplete:
            for function in self.model.values():
                if function.bound:
                    function.passed_over += sum(function.partial.values())
                    function.partial.clear()
                    function.ended.clear()
        self.queued = 0
        self.overflowed = self.aborted = self.incomplete = False

    # ---- what is done ----

    @rule(room=st.integers(0, 3))
    def fill(self, room: int) -> None:
        """Requests that come to nothing, of nobody."""
        if self.off or self.overflowed or self.aborted or self.abort is not None:
            return
        while self.queued < ENTRIES - room:
            self.site.end.send(PageRequest(read=True, last=False, requester_id=STRANGER))
            self.queued += 1

    @rule()
    def switch_the_queue(self) -> None:
        self.off = not self.off
        if self.off:
            self.site.iommu.disable_pri_queue()
        else:
            self.site.iommu.enable_pri_queue()

    @rule(synchronous=st.booleans())
    def abort_a_write(self, synchronous: bool) -> None:
        self.site.iommu.abort_pri_queue(synchronous=synchronous)
        self.abort = synchronous

    @rule(n=st.integers(0, 1))
    def recover(self, n: int) -> None:
        """What a driver does after a failure."""
        self.switch(n, "reset")
        self.switch(n, "enable")


class DenyingMachine(SmmuMachine):
    """The same with Linux's driver."""

    denies = True


# ---- stalls ----


def test_a_transaction_waits_in_the_smmu_and_is_tried_again() -> None:
    site = StallSite()
    tickets = [site.end.access(5, 0x12345 + n * PAGE, READ) for n in range(5)]
    site.turn()
    messages = site.queue.read_messages()
    assert [(one.pasid, one.addr, one.perm, one.flags) for one in messages] == [
        (5, 0x12345 + n * PAGE, READ, 3) for n in range(3)
    ]
    assert (site.end.counts().outstanding, site.end.counts().waiting) == (3, 2)
    site.space.map_page(5, 0x12000, READ)
    site.queue.respond(messages[0].cookie, PageResponse.SUCCESS)
    site.queue.respond(messages[1].cookie, PageResponse.INVALID)
    site.turn()
    assert [site.end.result(ticket) for ticket in tickets[:3]] == [
        AccessResult.OK,
        AccessResult.INVALID,
        AccessResult.PENDING,
    ]
    assert (site.end.counts().outstanding, site.end.counts().waiting) == (3, 0)
    site.close()


def test_a_function_that_stalls_has_no_pri() -> None:
    site = StallSite()
    for call in [
        lambda: site.end.read_pri(PriRegister.CONTROL),
        lambda: site.end.write_pri(PriRegister.CONTROL, 1),
    ]:
        assert refused(call) == errno.ENOENT
    assert refused(site.end.enable_pri) == refused(site.end.reset_pri) == errno.EINVAL
    assert refused(site.end.send, PageRequest(read=True)) == errno.EPERM
    assert refused(lambda: site.end.access(1, 0, READ, pages=2)) == errno.EINVAL
    site.close()


def test_the_places_of_a_function_that_stalls_are_its_own() -> None:
    site = StallSite(functions=2)
    for end in site.ends:
        for n in range(StallSite.stalls + 1):
            end.access(5, PAGE + n * PAGE, READ)
    site.turn()
    assert [(end.counts().outstanding, end.counts().waiting) for end in site.ends] == [(StallSite.stalls, 1)] * 2
    site.close()


def test_stalls_need_an_iommu_that_has_them(site: SmmuSite) -> None:
    vtd = VtdIommu(site.core)
    with pytest.raises(UsageError, match="not 'vtd'"):
        Endpoint(vtd, stalls=4)
    vtd.close()
    for more in [{"capacity": 4}, {"physical": site.end}]:
        with pytest.raises(UsageError, match="no PRI"):
            Endpoint(site.iommu, requester_id=0x300, stalls=4, **more)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="0 to 512"):
        Endpoint(site.iommu, requester_id=0x300, stalls=513)
    with pytest.raises(UsageError, match="1 to 2"):
        Endpoint(site.iommu, requester_id=0x300, stalls=1, stage=3)


# ---- commands ----

RESUME, STALL_TERM, PRI_RESP, SYNC = 0x44, 0x45, 0x41, 0x46
RETRY, ABORT = 1, 2
ACTIVE = SmmuError.CMDQ_ERR


def stream(requester_id: int) -> int:
    return requester_id << 32


def test_software_terminates_what_has_stalled() -> None:
    site = StallSite()
    tickets = [site.end.access(5, n * PAGE, READ) for n in range(3)]
    site.turn()
    site.iommu.command(RESUME | stream(site.end.requester_id), 1)
    site.turn()
    assert [site.end.result(one) for one in tickets] == [
        AccessResult.PENDING,
        AccessResult.TERMINATED,
        AccessResult.PENDING,
    ]
    site.iommu.command(STALL_TERM | stream(site.end.requester_id))
    site.turn()
    assert [site.end.result(one) for one in tickets] == [
        AccessResult.INVALID,
        AccessResult.TERMINATED,
        AccessResult.INVALID,
    ]
    assert site.end.counts().outstanding == 0
    (account,) = accounts(site)
    assert (account.pending, account.awaited, account.lost) == (3, 0, 0), "the client has them still"
    site.close()


def test_an_illegal_command_stops_the_smmu_until_the_driver_has_replaced_it(site: SmmuSite) -> None:
    iommu, ticket = site.iommu, site.end.access(5, PAGE, READ)
    site.turn()
    (message,) = site.queue.read_messages()
    with iommu.interrupt_held():
        iommu.command(0xFF)
        site.turn()
        site.queue.respond(message.cookie, PageResponse.INVALID)
        site.turn()
        assert iommu.read_register(SmmuRegister.GERROR) ^ iommu.read_register(SmmuRegister.GERRORN) == ACTIVE
        assert iommu.read_register(SmmuRegister.CMDQ_CONS) == 1 << 24, "CERROR_ILL, at the first command"
        assert iommu.read_register(SmmuRegister.CMDQ_PROD) == 2
        assert site.end.result(ticket) is AccessResult.PENDING
    site.turn()
    site.turn()
    assert site.end.result(ticket) is AccessResult.INVALID
    assert iommu.read_register(SmmuRegister.CMDQ_CONS) == 2
    assert iommu.illegal_commands() == 1


@dataclass(frozen=True)
class Command:
    """A command, as the model knows it: illegal, or with its effect on a function, if it has one."""

    legal: bool = True
    n: int | None = None
    tag: int | None = None  # None: all that stalls
    action: int = ABORT


@dataclass
class Stalling:
    """What becomes of the transactions of one function; each is named by its tag."""

    bound: bool = True
    attached: bool = True
    outside: list[int] = field(default_factory=list)  # tickets
    ticket: dict[int, int] = field(default_factory=dict)  # by tag
    stalled: set[int] = field(default_factory=set)
    events: list[int] = field(default_factory=list)  # that the driver has not read
    waiting: list[int] = field(default_factory=list)  # in the fault queue
    held: dict[int, int] = field(default_factory=dict)  # by cookie
    asked: dict[int, tuple[int, int, FaultPerm]] = field(default_factory=dict)
    results: dict[int, AccessResult] = field(default_factory=dict)
    sent: int = 0
    answered: int = 0
    auto_answered: int = 0
    unexpected: int = 0


class StallMachine(RuleBasedStateMachine):
    """Two functions with three places each, in any order of what they, the driver, a client and other software do."""

    @initialize()
    def begin(self) -> None:
        self.site = StallSite(functions=2)
        self.model = [Stalling(), Stalling()]
        self.by_driver: list[Command] = []  # in front of those by clients
        self.by_client: list[Command] = []
        self.own: list[tuple[int, int]] = []  # what the SMMU aborts by itself
        self.stopped = False
        self.illegal = 0
        self.mapped: dict[tuple[int, int], FaultPerm] = {}
        self.hold = ExitStack()
        self.is_held = False

    def teardown(self) -> None:
        if not hasattr(self, "site"):
            return
        if self.is_held:
            self.hold_the_interrupt()
        for _ in range(self.by_driver.count(Command(legal=False))):
            self.produce()
        for _ in range(12):  # more than the most transactions by what there are places
            self.produce()
            for n in range(2):
                self.read(n)
                for cookie in list(self.model[n].held):
                    self.answer(n, cookie, PageResponse.INVALID)
        self.every_transaction_is_somewhere()
        for one, function in zip(self.site.ends, self.model, strict=True):
            assert one.counts().outstanding == one.counts().waiting == 0, "each has its result, and each place is free"
            assert AccessResult.PENDING not in function.results.values()
        self.site.close()

    # ---- the model ----

    def allowed(self, function: Stalling, ticket: int) -> bool:
        pasid, address, perm = function.asked[ticket]
        need = FaultPerm.WRITE if perm & FaultPerm.WRITE else READ | (perm & FaultPerm.EXEC)
        return not need & ~self.mapped.get((pasid, address // PAGE), FaultPerm(0))

    def end(self, function: Stalling, tag: int, action: int) -> None:
        if tag not in function.stalled:
            function.unexpected += 1
            return
        function.stalled.remove(tag)
        ticket = function.ticket[tag]
        if action & RETRY:
            there = self.allowed(function, ticket)
            function.results[ticket] = AccessResult.OK if there else AccessResult.UNMAPPED
        else:
            function.results[ticket] = AccessResult.INVALID if action == ABORT else AccessResult.TERMINATED

    def carry_out(self, commands: list[Command]) -> None:
        while commands and not self.stopped:
            command = commands[0]
            if not command.legal:
                self.stopped = True
                self.illegal += 1
                return
            commands.pop(0)
            if command.n is None:
                continue
            function = self.model[command.n]
            for tag in sorted(function.stalled) if command.tag is None else [command.tag]:
                self.end(function, tag, command.action)

    def execute(self) -> None:
        self.carry_out(self.by_driver)
        self.carry_out(self.by_client)
        for n, tag in self.own:
            self.end(self.model[n], tag, ABORT)
        self.own.clear()

    def interrupt(self) -> None:
        if self.stopped:
            self.by_driver.pop(0)
            self.stopped = False
        for n, function in enumerate(self.model):
            if function.attached:
                function.waiting += function.events
            else:
                function.auto_answered += len(function.events)
                self.by_driver += [Command(n=n, tag=tag) for tag in function.events]
            function.events = []

    def drain(self) -> None:
        self.execute()
        while self.stopped:
            self.interrupt()
            self.execute()
        self.interrupt()

    def stall(self, n: int) -> None:
        function = self.model[n]
        while function.outside and len(function.stalled) < StallSite.stalls:
            ticket = function.outside.pop(0)
            if self.allowed(function, ticket):
                function.results[ticket] = AccessResult.OK
                continue
            tag = function.sent  # each that there is has been free for longer than those that were used
            function.sent += 1
            function.ticket[tag] = ticket
            function.stalled.add(tag)
            if function.bound:
                function.events.append(tag)
            else:
                function.auto_answered += 1
                self.own.append((n, tag))

    # ---- what is done ----

    @rule(
        n=st.integers(0, 1),
        pasid=st.integers(1, 2),
        page=st.integers(0, 3),
        offset=st.integers(0, PAGE - 1),
        perm=st.sampled_from([READ, FaultPerm.WRITE, FaultPerm.EXEC, READ | FaultPerm.WRITE]),
    )
    def access(self, n: int, pasid: int, page: int, offset: int, perm: FaultPerm) -> None:
        function, address = self.model[n], page * PAGE + offset
        if len(function.outside) < 8:
            ticket = self.site.ends[n].access(pasid, address, perm)
            function.asked[ticket] = (pasid, address, perm)
            function.results[ticket] = AccessResult.PENDING
            function.outside.append(ticket)

    @rule(
        pasid=st.integers(1, 2),
        page=st.integers(0, 3),
        perm=st.sampled_from([READ, FaultPerm.WRITE, FaultPerm.EXEC, None]),
    )
    def map_or_unmap(self, pasid: int, page: int, perm: FaultPerm | None) -> None:
        if perm is None:
            self.site.space.unmap_page(pasid, page * PAGE)
            self.mapped.pop((pasid, page), None)
        else:
            self.site.space.map_page(pasid, page * PAGE, perm)
            self.mapped[pasid, page] = self.mapped.get((pasid, page), READ) | perm

    @rule()
    def produce(self) -> None:
        self.site.core.produce()
        self.execute()
        for n in range(2):
            self.stall(n)
        if not self.is_held:
            self.interrupt()

    @rule()
    def hold_the_interrupt(self) -> None:
        if self.is_held:
            self.hold.close()
        else:
            self.hold.enter_context(self.site.iommu.interrupt_held())
        self.is_held = not self.is_held

    @rule(
        n=st.integers(0, 1), back=st.integers(-1, 4), action=st.integers(0, 3), bits=st.sampled_from([0, 0, 0, 0x400])
    )
    def software_resumes(self, n: int, back: int, action: int, bits: int) -> None:
        """One of the last transactions, or one that there is not yet."""
        tag = max(self.model[n].sent - 1 - back, 0)
        self.command(RESUME | action << 12 | bits | stream(self.site.ends[n].requester_id), tag)
        self.by_driver.append(Command(not bits, n, tag, action))

    @rule(n=st.integers(0, 1))
    def software_terminates(self, n: int) -> None:
        self.command(STALL_TERM | stream(self.site.ends[n].requester_id), 0)
        self.by_driver.append(Command(n=n))

    @rule(
        opcode=st.sampled_from([RESUME, STALL_TERM, PRI_RESP, SYNC, 0x03, 0x05, 0x12, 0x28, 0x40]),
        illegal=st.sampled_from([None, None, 0x00, 0x07, 0x18, 0x47, 0x80]),
        word1=st.sampled_from([0, 1, 0x200, 0x2000, 0x8000, 1 << 63]),
        who=st.sampled_from([STRANGER, 0x10100, 0xFFFFFFFF]),
    )
    def software_commands(self, opcode: int, illegal: int | None, word1: int, who: int) -> None:
        """What concerns nobody, or is illegal."""
        self.command((opcode if illegal is None else illegal) | stream(who), word1)
        self.by_driver.append(Command(illegal is None))

    @rule(n=st.integers(0, 1), index=st.integers(0, 3), code=st.integers(0, 3))
    def software_answers_a_page_request(self, n: int, index: int, code: int) -> None:
        """Of a function that has none."""
        self.command(PRI_RESP | stream(self.site.ends[n].requester_id), index | code << 12)
        self.by_driver.append(Command(code != 3))

    def command(self, word0: int, word1: int) -> None:
        self.site.iommu.command(word0, word1)

    @rule(n=st.integers(0, 1))
    def read(self, n: int) -> None:
        self.produce()
        function = self.model[n]
        messages = self.site.queues[n].read_messages()
        for tag, message in zip(function.waiting, messages, strict=True):
            pasid, address, perm = function.asked[function.ticket[tag]]
            asks = FaultPerm.WRITE if perm & FaultPerm.WRITE else READ | (perm & FaultPerm.EXEC)
            assert (message.pasid, message.addr, message.perm, message.flags) == (pasid, address, asks, 3)
            assert message.grpid == tag
            function.held[message.cookie] = tag
        function.waiting = []

    @precondition(lambda self: any(one.held for one in self.model))
    @rule(data=st.data(), code=st.sampled_from([PageResponse.SUCCESS, PageResponse.INVALID]))
    def respond(self, data: st.DataObject, code: PageResponse) -> None:
        n = data.draw(st.sampled_from([n for n, one in enumerate(self.model) if one.held]))
        self.answer(n, data.draw(st.sampled_from(sorted(self.model[n].held))), code)

    def answer(self, n: int, cookie: int, code: PageResponse) -> None:
        self.site.queues[n].respond(cookie, code)
        tag = self.model[n].held.pop(cookie)
        self.by_client.append(Command(n=n, tag=tag, action=RETRY if code is PageResponse.SUCCESS else ABORT))
        self.model[n].answered += 1

    @rule(n=st.integers(0, 1))
    def detach_or_attach(self, n: int) -> None:
        function = self.model[n]
        if function.attached:
            self.site.devices[n].detach()
        else:
            self.site.devices[n].attach(self.site.tables[n])
        self.drain()  # both first wait until nothing is on its way
        if function.attached:
            tags = [*function.waiting, *function.held.values()]
            function.auto_answered += len(tags)
            self.by_client += [Command(n=n, tag=tag) for tag in tags]
            function.waiting, function.held = [], {}
        function.attached = not function.attached

    @rule(n=st.integers(0, 1))
    def unbind_or_bind(self, n: int) -> None:
        function = self.model[n]
        if function.bound:
            self.site.iommu.unbind(self.site.devices[n])
            self.drain()
            self.drain()
        else:
            self.site.iommu.bind(self.site.ends[n], self.site.devices[n])
        function.bound = not function.bound

    @rule(n=st.integers(0, 1))
    def reset(self, n: int) -> None:
        """The function begins anew; what has stalled is in the SMMU, and stays."""
        self.site.ends[n].reset()
        function = self.model[n]
        for ticket in function.outside:
            function.results[ticket] = AccessResult.FAILED
        function.outside = []

    @invariant()
    def every_transaction_is_somewhere(self) -> None:
        if not hasattr(self, "site"):
            return
        assert self.site.iommu.illegal_commands() == self.illegal
        active = self.site.iommu.read_register(SmmuRegister.GERROR) ^ self.site.iommu.read_register(
            SmmuRegister.GERRORN
        )
        assert active == (ACTIVE if self.stopped else 0)
        for one, function, account in zip(self.site.ends, self.model, accounts(self.site), strict=True):
            counts = one.counts()
            assert (counts.outstanding, counts.waiting) == (len(function.stalled), len(function.outside))
            assert account._replace(awaited=0, unmapped=0) == Account(
                sent=function.sent,
                answered=function.answered,
                auto_answered=function.auto_answered,
                pending=len(function.events) + len(function.waiting) + len(function.held),
                lost=0,
                unmapped=0,
            )
            assert {ticket: one.result(ticket) for ticket in function.results} == function.results
            assert (counts.unexpected, counts.pri_status) == (function.unexpected, 0)


SOME = settings(settings(), stateful_step_count=40)
HALF = settings(SOME, max_examples=settings().max_examples // 2)
TestStall = StallMachine.TestCase
TestStall.settings = SOME
TestSmmu = SmmuMachine.TestCase
TestSmmu.settings = SOME
TestDenying = DenyingMachine.TestCase
TestDenying.settings = HALF
