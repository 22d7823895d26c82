"""A device that reports its faults itself, through the public names.

The bits are judged by ``c/device.c``. Here a model of the device and of its driver says what becomes of every
operation, in any order of what they and a client do, with an event queue that overflows and is switched off.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.test_pri import PAGE, READ, Site, accounts
from uring_iopf import Machine
from uring_iopf.abi import FaultPerm, PageResponse
from uring_iopf.clients.batch import BatchClient
from uring_iopf.clients.groups import receive_groups
from uring_iopf.clients.native import NativeClient
from uring_iopf.clients.sync import serve_once
from uring_iopf.core import Core
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.errors import UsageError
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.device import DeviceFaults
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.machine_function import Account
from uring_iopf.machine_parts import FunctionParts, MachineParts

if TYPE_CHECKING:
    from uring_iopf.designs.channel import Channel

PLACES, MOST, PREFETCH = 4, 3, 2


class DeviceSite(Site):
    """Functions of one device, with tables of their own, and an event queue with two places."""

    def __init__(self, *, functions: int = 1) -> None:
        super().__init__(functions=functions)
        self.space = AddressSpace()
        self.stack.callback(self.space.close)
        for one in self.ends:
            one.use_tables(self.space)

    def make_iommu(self) -> DeviceFaults:
        self.adapter = DeviceFaults(self.core, entries=2)
        return self.adapter

    def make_end(self, requester_id: int, retries: int, physical: Endpoint | None) -> Endpoint:
        return Endpoint(
            self.iommu,
            requester_id=requester_id,
            stalls=PLACES,
            group_most=MOST,
            retries=retries,
            physical=physical,
            prefetch=PREFETCH,
        )


def test_a_message_has_the_length_that_the_device_would_like() -> None:
    site = DeviceSite()
    ticket = site.end.access(5, 0x12345, READ, pages=2)
    site.turn()
    messages = site.queue.read_messages()
    assert [(one.pasid, one.addr, one.length, one.flags) for one in messages] == [
        (5, 0x12345, 3 * PAGE, 1),
        (5, 0x12345 + PAGE, 3 * PAGE, 3),
    ]
    assert {one.perm for one in messages} == {READ | FaultPerm.WRITE}, "what the region allows"
    for address in range(0x12000, 0x12000 + 4 * PAGE, PAGE):
        site.space.map_page(5, address, READ)
    site.queue.respond(messages[0].cookie, PageResponse.SUCCESS)
    site.turn()
    assert site.end.result(ticket) is AccessResult.OK
    assert site.end.result(site.end.access(5, 0x14000, READ)) is AccessResult.PENDING
    site.turn()
    assert site.end.counts().sent == 2, "the page that was wanted, too, faults no more"
    site.close()


@pytest.mark.parametrize("client", ["handler", "native", "sync", "batch", "objects"])
def test_a_client_maps_all_that_the_device_would_like(client: str) -> None:
    """Pages behind the one that faulted fault no more. Those that cannot be mapped are left out."""
    with (
        Machine(None, driver="inline", iommu="device", table_pages=64) as machine,
        closing(Endpoint(machine.iommu, requester_id=0x200, stalls=4, prefetch=3)) as end,
    ):
        device = machine.context.bind(machine.iommu, 0x200, 16)
        machine.iommu.bind(end, device)
        end.use_tables(machine.address_space)
        channel = machine.open("handler" if client == "handler" else "fd")
        assert machine.device.hwpt is not None
        device.attach(machine.device.hwpt)
        tickets = [end.access(3, 0x12345, READ), end.access(4, (1 << 47) - 1, READ)]
        machine.core.produce()
        serve(client, machine, channel)
        machine.core.produce()
        assert [end.result(ticket) for ticket in tickets] == [AccessResult.OK] * 2
        behind = [machine.address_space.allows(3, 0x12000 + n * PAGE, READ) for n in range(5)]
        assert behind == [True] * 4 + [False]
        device.unbind()


def serve(client: str, machine: Machine, channel: Channel) -> None:
    space = machine.address_space
    assert isinstance(channel, NativeChannel)
    if client == "handler":
        machine.core.consume()
    elif client == "native":
        NativeClient(channel, space).serve(2)
    elif client == "batch":
        BatchClient(channel, space).serve_once()
    elif client == "sync":
        assert serve_once(channel, space) == 2
    else:
        for group in receive_groups(channel):
            space.map(SimpleNamespace(faults=group.faults))
            group.respond()
    channel.flush()


def test_what_a_device_has_not_is_refused() -> None:
    with Core() as core, ExitStack() as stack:
        vtd = VtdIommu(core)
        stack.callback(vtd.close)
        adapter = DeviceFaults(core)
        stack.callback(adapter.close)
        with pytest.raises(UsageError, match="give stalls"):
            Endpoint(adapter)
        with pytest.raises(UsageError, match="prefetch needs a device"):
            Endpoint(vtd, prefetch=1)
        with pytest.raises(UsageError, match="stalls need an IOMMU"):
            Endpoint(vtd, stalls=1)
        stack.enter_context(closing(Endpoint(adapter, stalls=4)))
        with pytest.raises(UsageError, match="requester_id 0x100 is another function's"):
            Endpoint(adapter, stalls=4)
        for entries in (0, 1, 3, 8192, True, "8"):
            with pytest.raises(UsageError, match="a power of two, 2 to 4096"):
                DeviceFaults(core, entries=entries)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="stalls of function must be 1 or more"):
        MachineParts(iommu="device", functions=(FunctionParts(stalls=0),))
    with pytest.raises(UsageError, match="credits of function must be 8 or more"):
        MachineParts(iommu="device", group=8, functions=(FunctionParts(stalls=4),))


def test_a_machine_may_have_several_functions_of_a_device() -> None:
    functions = (FunctionParts("one", stalls=8), FunctionParts("two"))
    with Machine("gcc-compile", driver="sqpoll", iommu="device", group=4, functions=functions) as machine:
        machine.open("handler")
        machine.start()
        for one in machine.functions.values():
            assert one.endpoint.wait(1, 60_000_000_000)
        machine.detach()
        n = len(machine.workload) if machine.workload is not None else 0
        assert set(machine.accounts().values()) == {Account(n, n, 0, 0, 0)}
        assert [one.endpoint.stalls for one in machine.functions.values()] == [8, 64]


@dataclass
class Operation:
    """An access of so many pages."""

    pasid: int
    address: int
    perm: FaultPerm
    pages: int
    result: AccessResult = AccessResult.PENDING


@dataclass
class Reporting:
    """What becomes of the operations of one function."""

    bound: bool = True
    attached: bool = True
    outside: list[int] = field(default_factory=list)  # tickets
    operation: dict[int, Operation] = field(default_factory=dict)  # by ticket
    ticket: dict[int, int] = field(default_factory=dict)  # by tag
    outstanding: set[int] = field(default_factory=set)  # tags
    entries: list[int] = field(default_factory=list)  # tags, in the event queue, or kept by the device
    waiting: list[int] = field(default_factory=list)  # tags, in the fault queue
    held: dict[int, int] = field(default_factory=dict)  # tags, by cookie
    groups: int = 0
    sent: int = 0
    answered: int = 0
    auto_answered: int = 0
    unexpected: int = 0

    def pages(self, tags: list[int] | set[int]) -> int:
        return sum(self.operation[self.ticket[tag]].pages for tag in tags)


class DeviceMachine(RuleBasedStateMachine):
    """Two functions with four places each, in any order of what they, the driver and a client do."""

    @initialize()
    def begin(self) -> None:
        self.site = DeviceSite(functions=2)
        self.model = [Reporting(), Reporting()]
        self.by_driver: list[tuple[int, int, PageResponse]] = []  # in front of those by clients
        self.by_client: list[tuple[int, int, PageResponse]] = []
        self.own: list[tuple[int, int]] = []  # what the device fails by itself
        self.mapped: dict[tuple[int, int], FaultPerm] = {}
        self.hold = ExitStack()
        self.is_held = self.is_disabled = False

    def teardown(self) -> None:
        if not hasattr(self, "site"):
            return
        if self.is_held:
            self.hold_the_interrupt()
        for _ in range(12):  # more than the most operations by what there are places
            self.produce()
            for n in range(2):
                self.read(n)
                for cookie in list(self.model[n].held):
                    self.answer(n, cookie, PageResponse.INVALID)
        self.every_fault_is_somewhere()
        for one, function in zip(self.site.ends, self.model, strict=True):
            assert one.counts().outstanding == one.counts().waiting == 0, "each has its result, and each place is free"
            assert AccessResult.PENDING not in [one.result for one in function.operation.values()]
        self.site.close()

    # ---- the model ----

    def allowed(self, operation: Operation) -> bool:
        need = FaultPerm.WRITE if operation.perm & FaultPerm.WRITE else FaultPerm.READ
        first = operation.address // PAGE
        there = [self.mapped.get((operation.pasid, page)) for page in range(first, first + operation.pages)]
        return all(one is not None and (need is FaultPerm.READ or bool(one & FaultPerm.WRITE)) for one in there)

    def end(self, n: int, tag: int, code: PageResponse) -> None:
        function = self.model[n]
        if tag not in function.outstanding:
            function.unexpected += 1
            return
        function.outstanding.remove(tag)
        operation = function.operation[function.ticket[tag]]
        if code is PageResponse.SUCCESS:
            operation.result = AccessResult.OK if self.allowed(operation) else AccessResult.UNMAPPED
        else:
            operation.result = AccessResult.INVALID

    def execute(self) -> None:
        for n, tag, code in [*self.by_driver, *self.by_client]:
            self.end(n, tag, code)
        for n, tag in self.own:
            self.end(n, tag, PageResponse.INVALID)
        self.by_driver, self.by_client, self.own = [], [], []

    def interrupt(self) -> None:
        for n, function in enumerate(self.model):
            if function.attached:
                function.waiting += function.entries
            else:  # each entry is answered, not only the last
                for tag in function.entries:
                    pages = function.pages([tag])
                    function.auto_answered += pages
                    self.by_driver += [(n, tag, PageResponse.INVALID)] * pages
            function.entries = []

    def drain(self) -> None:
        self.execute()
        self.interrupt()

    def send(self, n: int) -> None:
        function = self.model[n]
        for ticket in list(function.outside):  # one that is too large does not hold up those behind it
            operation = function.operation[ticket]
            if function.pages(function.outstanding) + operation.pages > PLACES:
                continue
            function.outside.remove(ticket)
            if self.allowed(operation):
                operation.result = AccessResult.OK
                continue
            tag = function.groups
            function.groups += 1
            function.sent += operation.pages
            function.ticket[tag] = ticket
            function.outstanding.add(tag)
            if function.bound and not self.is_disabled:
                function.entries.append(tag)
            else:
                function.auto_answered += operation.pages
                self.own.append((n, tag))

    # ---- what is done ----

    @rule(
        n=st.integers(0, 1),
        pasid=st.integers(1, 2),
        page=st.integers(0, 3),
        offset=st.integers(0, PAGE - 1),
        perm=st.sampled_from([READ, FaultPerm.WRITE, FaultPerm.EXEC, READ | FaultPerm.WRITE]),
        pages=st.integers(1, MOST),
    )
    def access(self, n: int, pasid: int, page: int, offset: int, perm: FaultPerm, pages: int) -> None:
        function, address = self.model[n], page * PAGE + offset
        if len(function.outside) < 8:
            ticket = self.site.ends[n].access(pasid, address, perm, pages=pages)
            function.operation[ticket] = Operation(pasid, address, perm, pages)
            function.outside.append(ticket)

    @rule(pasid=st.integers(1, 2), page=st.integers(0, 5), perm=st.sampled_from([READ, FaultPerm.WRITE, None]))
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
            self.send(n)
        if not self.is_held:
            self.interrupt()

    @rule()
    def hold_the_interrupt(self) -> None:
        """Entries then fill the two places of the event queue, and more wait in the device."""
        if self.is_held:
            self.hold.close()
        else:
            self.hold.enter_context(self.site.adapter.interrupt_held())
        self.is_held = not self.is_held

    @rule()
    def disable_or_enable(self) -> None:
        self.is_disabled = not self.is_disabled
        if self.is_disabled:
            self.site.adapter.disable_faults()
        else:
            self.site.adapter.enable_faults()

    @rule(n=st.integers(0, 1))
    def read(self, n: int) -> None:
        self.produce()
        function = self.model[n]
        messages = iter(self.site.queues[n].read_messages())
        for tag in function.waiting:
            operation = function.operation[function.ticket[tag]]
            cookies = set()
            for at in range(operation.pages):
                message = next(messages)
                assert (message.pasid, message.addr) == (operation.pasid, operation.address + at * PAGE)
                assert message.perm == READ | FaultPerm.WRITE
                assert message.flags == (3 if at + 1 == operation.pages else 1)
                assert message.grpid == self.site.ends[n].requester_id << 16 | tag
                assert message.length == (1 + PREFETCH) * PAGE
                cookies.add(message.cookie)
            (cookie,) = cookies
            function.held[cookie] = tag
        assert next(messages, None) is None
        function.waiting = []

    @precondition(lambda self: any(one.held for one in self.model))
    @rule(data=st.data(), code=st.sampled_from([PageResponse.SUCCESS, PageResponse.INVALID]))
    def respond(self, data: st.DataObject, code: PageResponse) -> None:
        n = data.draw(st.sampled_from([n for n, one in enumerate(self.model) if one.held]))
        self.answer(n, data.draw(st.sampled_from(sorted(self.model[n].held))), code)

    def answer(self, n: int, cookie: int, code: PageResponse) -> None:
        self.site.queues[n].respond(cookie, code)
        function = self.model[n]
        tag = function.held.pop(cookie)
        function.answered += function.pages([tag])
        self.by_client.append((n, tag, code))

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
            function.auto_answered += function.pages(tags)
            self.by_client += [(n, tag, PageResponse.INVALID) for tag in tags]
            function.waiting, function.held = [], {}
        function.attached = not function.attached

    @rule(n=st.integers(0, 1))
    def unbind_or_bind(self, n: int) -> None:
        function = self.model[n]
        if function.bound:
            self.site.adapter.unbind(self.site.devices[n])
            self.drain()
            self.drain()
        else:
            self.site.adapter.bind(self.site.ends[n], self.site.devices[n])
        function.bound = not function.bound

    @rule(n=st.integers(0, 1))
    def reset(self, n: int) -> None:
        """The function begins anew; what waits for a page is answered as ever."""
        self.site.ends[n].reset()
        function = self.model[n]
        for ticket in function.outside:
            function.operation[ticket].result = AccessResult.FAILED
        function.outside = []

    @invariant()
    def every_fault_is_somewhere(self) -> None:
        if not hasattr(self, "site"):
            return
        assert self.site.adapter.lost() == 0
        for one, function, account in zip(self.site.ends, self.model, accounts(self.site), strict=True):
            counts = one.counts()
            assert (counts.outstanding, counts.waiting) == (function.pages(function.outstanding), len(function.outside))
            assert account._replace(awaited=0, unmapped=0) == Account(
                sent=function.sent,
                answered=function.answered,
                auto_answered=function.auto_answered,
                pending=function.pages([*function.entries, *function.waiting, *function.held.values()]),
                lost=0,
                unmapped=0,
            )
            results = {ticket: operation.result for ticket, operation in function.operation.items()}
            assert {ticket: one.result(ticket) for ticket in results} == results
            assert (counts.unexpected, counts.pri_status) == (function.unexpected, 0)


TestDevice = DeviceMachine.TestCase
TestDevice.settings = settings(settings(), stateful_step_count=40)
