"""Functions that speak PRI: registers, requests made field by field, virtual functions, resets, unbound functions.

What a function does is judged by ``c/pri.c``, a model of the capability. Here it is seen through the public names, and
a model of the driver's half judges what becomes of every request, for both kernels: which are reported, answered for,
passed over, or wait, and which answers come back.
"""

from __future__ import annotations

import errno
from collections import Counter
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from uring_iopf import Machine
from uring_iopf.abi import FaultPerm, PageResponse
from uring_iopf.core import Core
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.limits import REQUEST_QUEUES
from uring_iopf.hardware.load import Load
from uring_iopf.hardware.pri import PageRequest, PrgAnswer, PrgResponse, PriControl, PriRegister, PriStatus
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import Context, Device, FaultQueue
from uring_iopf.machine_function import Account, accounts_of
from uring_iopf.workloads import ROW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf.hardware.iommus.iommu import Iommu

PAGE = 4096
READ = FaultPerm.READ
RF, UPRGI, STOPPED = PriStatus.RF, PriStatus.UPRGI, PriStatus.STOPPED
PRPR = PriStatus.PRPR
STRANGERS = PageRequest(PAGE, read=True, pasid=3, requester_id=0x7777)


class Site:
    """Functions behind one IOMMU, each with a device and a fault queue, on a core without a worker."""

    def __init__(
        self, kernel: str = "7.2", *, functions: int = 1, virtual: bool = False, pool: int = 64, retries: int = 0
    ) -> None:
        self.stack = ExitStack()
        self.core = self.stack.enter_context(Core(kernel=kernel))
        self.context = Context(self.core)
        self.iommu = self.make_iommu()
        self.stack.callback(self.iommu.close)
        self.ends: list[Endpoint] = []
        for n in range(functions):
            physical = self.ends[0] if n and virtual else None
            self.ends.append(self.make_end(0x100 + n, retries, physical))
            self.stack.callback(self.ends[-1].close)
        self.stack.callback(self.context.close)
        self.devices = [self.context.bind(self.iommu, one.requester_id, pool) for one in self.ends]
        parent = self.context.hwpt_alloc_paging(self.devices[0], self.context.ioas_alloc(), nest_parent=True)
        self.queues: list[FaultQueue] = [self.context.fault_queue_alloc() for _ in self.ends]
        self.tables = [
            self.context.hwpt_alloc_nested(device, parent, fault=queue)
            for device, queue in zip(self.devices, self.queues, strict=True)
        ]
        for n in range(functions):
            self.iommu.bind(self.ends[n], self.devices[n])
            self.devices[n].attach(self.tables[n])

    def make_iommu(self) -> Iommu:
        """The IOMMU of this kernel's driver."""
        return VtdIommu(self.core, needs_pasid=self.context.version.vtd_needs_pasid)

    def make_end(self, requester_id: int, retries: int, physical: Endpoint | None) -> Endpoint:
        return Endpoint(self.iommu, requester_id=requester_id, group_most=8, retries=retries, physical=physical)

    @property
    def end(self) -> Endpoint:
        return self.ends[0]

    @property
    def device(self) -> Device:
        return self.devices[0]

    @property
    def queue(self) -> FaultQueue:
        return self.queues[0]

    def turn(self) -> None:
        """Long enough for everything that was given to come back."""
        for _ in range(3):
            self.core.produce()

    def answer(self, code: PageResponse = PageResponse.SUCCESS) -> int:
        """Answer all that the first queue has."""
        cookies = {message.cookie for message in self.queue.read_messages()}
        for cookie in cookies:
            self.queue.respond(cookie, code)
        self.turn()
        return len(cookies)

    def close(self) -> None:
        self.stack.close()


@pytest.fixture
def site() -> Iterator[Site]:
    one = Site()
    yield one
    one.close()


def read(one: Endpoint) -> tuple[int, int]:
    return one.read_pri(PriRegister.CONTROL), one.read_pri(PriRegister.STATUS)


def rows(n: int) -> bytes:
    """Reads of neighbouring pages."""
    return b"".join(ROW.pack(0, at * PAGE, 1, READ) for at in range(n))


def accounts(site: Site) -> list[Account]:
    functions = [
        SimpleNamespace(endpoint=one, device=device) for one, device in zip(site.ends, site.devices, strict=True)
    ]
    return accounts_of(site.core, functions)  # type: ignore[arg-type]


def refused(call: Any, *arguments: Any) -> int:
    with pytest.raises(KernelError) as caught:
        call(*arguments)
    assert caught.value.errno is not None
    return caught.value.errno


# ---- the messages ----


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (PageRequest(read=True), 0x5),
        (PageRequest(write=True, last=False), 0x2),
        (PageRequest(0x7FFF_DEAD_B000, prg_index=511, read=True, write=True), 0x0000_7FFF_DEAD_BFFF),
        (PageRequest(0xFFFF_FFFF_FFFF_F000, prg_index=256), 0xFFFF_FFFF_FFFF_F804),
        (PageRequest.stop_marker(5), 0x4),
    ],
)
def test_a_request_has_these_bits(request_: PageRequest, message: int) -> None:
    """By hand, from the table of the message's bits: R 0, W 1, L 2, index 11:3, address 63:12."""
    assert request_.message == message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"address": 0x1001}, "lowest 12 bits are 0, not 0x1001"),
        ({"address": 1 << 64}, "address"),
        ({"prg_index": 512}, "0 to 511"),
        ({"prg_index": -1}, "0 to 511"),
        ({"pasid": 1 << 20}, "pasid"),
        ({"execute": True}, "give a pasid"),
        ({"privileged": True}, "give a pasid"),
        ({"requester_id": 1 << 16}, "requester_id"),
    ],
)
def test_a_request_that_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        PageRequest(**fields)


# ---- registers ----


def test_the_capability_as_a_driver_finds_it(site: Site) -> None:
    assert site.end.read_pri(PriRegister.HEADER) & 0xFFFF == 0x13
    assert site.end.read_pri(PriRegister.CAPACITY) == 2048
    assert site.end.read_pri(PriRegister.ALLOCATION) == 0
    assert read(site.end) == (0, STOPPED | PRPR)
    site.end.write_pri(PriRegister.CAPACITY, 5)
    assert site.end.read_pri(PriRegister.CAPACITY) == 2048, "read only"
    site.end.write_pri(PriRegister.ALLOCATION, 5000)
    assert site.end.read_pri(PriRegister.ALLOCATION) == 2048
    assert refused(site.end.read_pri, 2) == refused(site.end.write_pri, 16, 1) == errno.EINVAL


def test_stopping_takes_until_the_last_answer(site: Site) -> None:
    site.end.enable_pri()
    site.end.access(1, PAGE, READ)
    site.turn()
    site.end.write_pri(PriRegister.CONTROL, 0)
    assert read(site.end) == (0, PRPR), "it waits for its answer"
    assert refused(site.end.enable_pri) == errno.EBUSY
    site.answer()
    assert read(site.end) == (0, STOPPED | PRPR)
    site.end.enable_pri()
    assert read(site.end) == (PriControl.ENABLE, PRPR)


def test_a_reset_forgets_and_a_late_answer_is_unexpected(site: Site) -> None:
    site.end.enable_pri()
    ticket = site.end.access(1, PAGE, READ, pages=3)
    site.turn()
    assert refused(site.end.reset_pri) == errno.EBUSY
    site.end.write_pri(PriRegister.CONTROL, PriControl.ENABLE | PriControl.RESET)
    assert site.end.counts().outstanding == 3, "no reset while it is enabled"
    site.end.write_pri(PriRegister.CONTROL, PriControl.RESET)
    assert read(site.end) == (0, STOPPED | PRPR)
    assert site.end.result(ticket) is AccessResult.FAILED
    counts = site.end.counts()
    assert (counts.cleared, counts.cleared_groups, counts.outstanding) == (3, 1, 0)
    site.end.enable_pri()
    site.answer()
    assert read(site.end) == (PriControl.ENABLE, UPRGI | PRPR)
    assert site.end.take_answers() == [PrgAnswer(0, PrgResponse.SUCCESS)]
    site.end.write_pri(PriRegister.STATUS, RF)
    assert read(site.end)[1] == UPRGI | PRPR
    site.end.write_pri(PriRegister.STATUS, UPRGI)
    assert read(site.end)[1] == PRPR


def test_after_a_response_failure_nothing_is_listened_to_until_it_is_enabled_anew() -> None:
    """A pool of one group: Linux answers the next ones FAILURE, by its own number, 2."""
    site = Site(pool=1)
    site.end.enable_pri()
    tickets = [site.end.access(1, PAGE * n, READ) for n in range(300)]
    site.turn()
    counts = site.end.counts()
    assert counts.failed
    assert counts.pri_status == RF
    assert counts.ignored == counts.failed - 1, "the first was heard"
    waiting = site.end.access(1, PAGE * 999, READ)
    while site.answer():
        pass
    assert site.end.counts().pri_status == RF | STOPPED
    assert {site.end.result(ticket) for ticket in tickets} == {AccessResult.FAILED}, (
        "even where the answer said SUCCESS"
    )
    assert site.end.result(waiting) is AccessResult.PENDING
    assert read(site.end) == (PriControl.ENABLE, RF | STOPPED | PRPR)
    site.end.disable_pri()
    site.end.reset_pri()
    assert read(site.end) == (0, RF | STOPPED | PRPR)
    site.end.enable_pri()
    assert read(site.end) == (PriControl.ENABLE, PRPR)
    site.turn()
    assert site.answer() == 1
    assert site.end.result(waiting) is AccessResult.UNMAPPED
    site.close()


# ---- credits ----


def test_an_access_that_waits_for_credits_holds_up_no_smaller_one(site: Site) -> None:
    site.end.enable_pri(8)
    first = site.end.access(1, PAGE, READ, pages=5)
    large = site.end.access(1, 100 * PAGE, READ, pages=4)
    small = site.end.access(1, 200 * PAGE, READ, pages=3)
    site.turn()
    assert site.end.counts().outstanding == 8
    assert site.answer() == 2
    assert [site.end.result(ticket) for ticket in (first, small)] == [AccessResult.UNMAPPED] * 2
    assert site.end.result(large) is AccessResult.PENDING
    assert site.answer() == 1
    assert site.end.result(large) is AccessResult.UNMAPPED


def test_a_load_whose_credits_are_taken_away_is_cut_into_smaller_groups() -> None:
    with Machine(None, driver="inline", group=8) as machine:
        machine.open("fd")
        machine.endpoint.set_rows(rows(64))
        machine.endpoint.start(Load(group=8, in_flight=4))
        machine.endpoint.write_pri(PriRegister.ALLOCATION, 3)
        machine.core.produce()
        assert machine.endpoint.counts().outstanding == 3
        assert machine.endpoint.counts().sent_groups == 1


def test_a_pass_ends_where_no_credit_will_ever_come(site: Site) -> None:
    site.end.set_rows(rows(10))
    site.end.enable_pri()
    site.end.start(Load(group=1, in_flight=4))
    site.end.write_pri(PriRegister.ALLOCATION, 0)
    site.turn()
    assert site.end.passes() == 1


# ---- asking again ----


def test_a_page_that_is_not_there_after_success_is_asked_for_again_as_often_as_was_said() -> None:
    site = Site(retries=3)
    site.end.enable_pri()
    with closing(AddressSpace(8, 8)) as space:
        site.end.use_tables(space)
        never = site.end.access(1, PAGE, READ, pages=2)
        site.turn()
        for _ in range(4):
            assert site.end.result(never) is AccessResult.PENDING
            assert site.answer() == 1
        assert site.end.result(never) is AccessResult.UNMAPPED
        counts = site.end.counts()
        assert (counts.sent, counts.retried, counts.unmapped, counts.succeeded) == (8, 6, 2, 0)
        partly = site.end.access(1, 8 * PAGE, READ, pages=3)
        site.turn()
        space.map_page(1, 9 * PAGE, READ)
        site.answer()
        assert [message.addr for message in site.queue.read_messages()] == [8 * PAGE, 10 * PAGE], "what is missing"
        space.map_page(1, 8 * PAGE, READ)
        space.map_page(1, 10 * PAGE, READ)
        site.queue.respond(1, PageResponse.SUCCESS)
        site.turn()
        assert site.end.result(partly) is AccessResult.OK
        counts = site.end.counts()
        assert (counts.sent, counts.retried, counts.unmapped, counts.succeeded) == (13, 8, 2, 3)
    site.close()


# ---- what a driver must refuse ----


@dataclass(frozen=True)
class Refusal:
    fields: dict[str, Any]
    answered: bool  # INVALID
    since: str = "6.12"  # both kernels, or only the older one


REFUSED = {
    "no PASID": Refusal({"pasid": None}, answered=True, since="6.12 only"),
    "no PASID, not last": Refusal({"pasid": None, "last": False}, answered=False, since="6.12 only"),
    "not canonical": Refusal({"address": 1 << 47}, answered=True),
    "not canonical, not last": Refusal({"address": 1 << 47, "last": False}, answered=False),
    "privileged": Refusal({"privileged": True}, answered=True),
    "execute and read": Refusal({"execute": True}, answered=True),
    "execute alone, taken for a stop marker": Refusal({"execute": True, "read": False}, answered=False),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
def test_what_a_driver_refuses_is_answered_or_passed_over_as_linux_does(kernel: str, name: str) -> None:
    site, case = Site(kernel), REFUSED[name]
    site.end.enable_pri()
    site.end.send(PageRequest(**{"pasid": 5, "read": True, "prg_index": 7, **case.fields}))
    site.end.send(PageRequest.stop_marker(1))  # the last of something: it raises the interrupt
    site.turn()
    counts = site.device.counts()
    if case.since == "6.12 only" and kernel == "7.2":
        assert (counts.refused, counts.passed_over) == (0, 0)
        assert counts.reported == 1
        if case.answered:
            assert [(message.flags & 1, message.pasid) for message in site.queue.read_messages()] == [(0, 0)]
    else:
        assert (counts.refused, counts.passed_over) == (int(case.answered), int(not case.answered))
        assert site.queue.read_messages() == []
        assert site.end.take_answers() == [PrgAnswer(7, PrgResponse.INVALID)] * case.answered
        assert site.end.counts().outstanding == (not case.answered), "who is not answered waits for a reset"
    site.close()


def test_a_stop_marker_costs_no_credit_and_is_not_answered(site: Site) -> None:
    site.end.enable_pri(1)
    for _ in range(5):
        site.end.send(PageRequest.stop_marker(5))
    site.turn()
    assert site.end.counts().sent == site.end.counts().outstanding == 0
    assert site.device.counts() == (0, 0, 0, 0, 0, 0)
    assert site.end.take_answers() == []


def test_a_group_is_reported_with_its_last_request_and_may_be_made_of_any(site: Site) -> None:
    site.end.enable_pri()
    for n in range(3):
        site.end.send(PageRequest(PAGE * n, prg_index=9, read=True, pasid=5, last=False))
    site.turn()
    assert site.queue.read_messages() == []
    for _ in range(5):
        site.end.send(PageRequest(0, 9, read=True, pasid=5, last=False))
    assert refused(site.end.send, PageRequest(0, 9, read=True, pasid=5)) == errno.E2BIG
    assert site.end.counts().outstanding == 8
    site.end.reset()
    site.end.enable_pri()
    site.end.send(PageRequest(0, prg_index=9, read=True, pasid=5))
    assert refused(site.end.send, PageRequest(0, prg_index=9, read=True, pasid=5)) == errno.EBUSY
    site.turn()
    assert len(site.queue.read_messages()) == 9, "the driver knows nothing of the reset: the old ones are of this group"


def test_sending_needs_pri_and_credits(site: Site) -> None:
    assert refused(site.end.send, PageRequest(read=True)) == errno.EPERM
    assert refused(site.end.send, PageRequest.stop_marker(1)) == errno.EPERM
    site.end.enable_pri(1)
    site.end.send(PageRequest(read=True))
    assert refused(site.end.send, PageRequest(read=True, prg_index=1)) == errno.ENOSPC
    with pytest.raises(UsageError, match="PageRequest"):
        site.end.send(5)  # type: ignore[arg-type]


def test_a_request_with_anothers_requester_id_is_the_others() -> None:
    site = Site(functions=2)
    site.ends[0].send(PageRequest(PAGE, 3, read=True, pasid=5, requester_id=0x101))
    site.ends[0].send(PageRequest(PAGE, 3, read=True, pasid=5, requester_id=0x7777))
    site.turn()
    assert site.queue.read_messages() == []
    (message,) = site.queues[1].read_messages()
    assert message.dev_id == site.devices[1].id
    site.queues[1].respond(message.cookie, PageResponse.SUCCESS)
    site.turn()
    assert site.ends[1].counts().forged == 1
    assert site.ends[1].counts().unexpected == 1, "the answer goes to whom the request seems to be from"
    assert site.ends[0].take_answers() == []
    assert site.iommu.strangers() == 1
    site.close()


def test_an_unbound_function_is_answered_invalid(site: Site) -> None:
    site.end.enable_pri()
    site.iommu.unbind(site.device)
    ticket = site.end.access(1, PAGE, READ, pages=4)
    site.turn()
    assert site.end.result(ticket) is AccessResult.INVALID
    counts = site.end.counts()
    assert (counts.unbound, counts.unbound_passed_over, counts.outstanding) == (1, 3, 0)
    site.iommu.bind(site.end, site.device)
    ticket = site.end.access(1, PAGE, READ)
    site.turn()
    assert site.answer() == 1
    assert site.end.result(ticket) is AccessResult.UNMAPPED


def test_unbinding_reports_what_is_on_the_way_first(site: Site) -> None:
    site.end.enable_pri()
    site.end.send(PageRequest(PAGE, 3, read=True, pasid=5))
    site.iommu.unbind(site.device)
    site.turn()
    assert len(site.queue.read_messages()) == 1
    with pytest.raises(UsageError, match="Device"):
        site.iommu.unbind(5)  # type: ignore[arg-type]
    other = Site()
    with pytest.raises(UsageError, match="behind this IOMMU"):
        site.iommu.unbind(other.device)
    other.close()


# ---- resets ----


def test_a_function_level_reset_ends_everything_of_the_function(site: Site) -> None:
    site.end.set_rows(rows(100))
    site.end.enable_pri(8)
    site.end.start(Load(group=2, in_flight=2))
    sent = site.end.access(1, PAGE, READ)
    waits = site.end.access(1, PAGE, READ, pages=8)
    site.turn()
    site.end.reset()
    assert read(site.end) == (0, STOPPED | PRPR)
    assert site.end.read_pri(PriRegister.ALLOCATION) == 0
    assert [site.end.result(ticket) for ticket in (sent, waits)] == [AccessResult.FAILED] * 2
    site.turn()
    assert site.end.passes() == 1
    assert site.end.counts().outstanding == 0
    site.end.enable_pri()
    assert site.answer() > 0
    assert site.end.counts().unexpected > 0, "its driver did not wait for what was on the way"


# ---- a PASID's end ----


def test_a_pasid_that_is_stopped_asks_for_nothing_more(site: Site) -> None:
    site.end.enable_pri(4)
    sent = site.end.access(1, PAGE, READ, pages=3)
    site.turn()
    waits = site.end.access(1, PAGE, READ, pages=2)
    other = site.end.access(2, PAGE, READ)
    assert site.end.stop_pasid(1, marker=True) == 3
    assert site.end.result(waits) is AccessResult.FAILED
    assert refused(site.end.access, 1, PAGE, READ) == errno.EPERM
    assert site.end.stop_pasid(1) == 3
    assert site.answer() == 1
    assert site.end.stop_pasid(1) == 0, "it has been drained"
    assert site.end.result(sent) is AccessResult.UNMAPPED
    assert site.answer() == 1
    assert site.end.result(other) is AccessResult.UNMAPPED
    site.end.resume_pasid(1)
    site.end.access(1, PAGE, READ)
    site.turn()
    assert site.answer() == 1


def test_rows_of_a_stopped_pasid_are_passed_over(site: Site) -> None:
    site.end.set_rows(b"".join(ROW.pack(0, at * PAGE, 1 + at % 2, READ) for at in range(40)))
    site.end.enable_pri()
    site.end.stop_pasid(1)
    site.end.start(Load(group=1, in_flight=4))
    while not site.end.passes():
        site.turn()
        site.answer()
    assert site.end.counts().sent == 20


def test_so_many_pasids_can_be_stopped(site: Site) -> None:
    for pasid in range(64):
        site.end.stop_pasid(pasid)
    site.end.stop_pasid(5)
    assert refused(site.end.stop_pasid, 64) == errno.ENOSPC
    site.end.resume_pasid(9)
    site.end.stop_pasid(64)


# ---- virtual functions ----


def test_a_virtual_function_has_its_physical_functions_credits_and_failures() -> None:
    site = Site(functions=2, virtual=True)
    physical, virtual = site.ends
    assert refused(virtual.read_pri, PriRegister.CONTROL) == errno.ENOENT
    assert refused(virtual.write_pri, PriRegister.CONTROL, 1) == errno.ENOENT
    assert refused(virtual.enable_pri) == errno.EINVAL
    physical.enable_pri(3)
    virtual.enable_pri()
    virtual.access(1, PAGE, READ, pages=2)
    site.turn()
    physical.access(1, PAGE, READ, pages=2)
    site.turn()
    assert (virtual.counts().outstanding, physical.counts().outstanding) == (2, 0)
    virtual.disable_pri()
    virtual.reset_pri()
    assert read(physical)[0] == PriControl.ENABLE, "these do nothing"
    virtual.reset()
    site.turn()
    assert (virtual.counts().outstanding, physical.counts().outstanding) == (0, 2)
    physical.disable_pri()
    physical.reset_pri()
    assert physical.counts().cleared == 2
    site.close()


def test_a_virtual_function_outlives_its_physical_one() -> None:
    with Core() as core:
        iommu = VtdIommu(core)
        physical = Endpoint(iommu, capacity=4)
        virtual = Endpoint(iommu, requester_id=0x101, physical=physical)
        physical.enable_pri()
        physical.close()
        assert virtual.capacity == 4
        virtual.access(1, PAGE, READ)
        core.produce()
        assert virtual.counts().outstanding == 1
        virtual.close()
        iommu.close()


def test_pri_is_not_enabled_with_fewer_credits_than_a_virtual_function_waits_for() -> None:
    site = Site(functions=2, virtual=True)
    ticket = site.ends[1].access(1, PAGE, READ, pages=8)
    with pytest.raises(UsageError, match="more pages than 7 credits"):
        site.ends[0].enable_pri(7)
    site.ends[0].enable_pri(8)
    site.core.produce()
    assert site.ends[1].counts().outstanding == 8
    assert site.ends[1].result(ticket) is AccessResult.PENDING
    site.close()


def test_a_virtual_function_needs_a_physical_one_of_its_iommu(site: Site) -> None:
    virtual = Endpoint(site.iommu, requester_id=0x200, physical=site.end)
    for physical, says in [(virtual, "not a virtual one"), (5, "an Endpoint")]:
        with pytest.raises(UsageError, match=says):
            Endpoint(site.iommu, requester_id=0x300, physical=physical)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="behind one IOMMU"):
        Endpoint(VtdIommu(site.core), requester_id=0x300, physical=site.end)
    with pytest.raises(UsageError, match="physical function's, 2048, not 4"):
        Endpoint(site.iommu, requester_id=0x300, physical=site.end, capacity=4)
    virtual.close()


# ---- the driver's half, in any order ----


class Group(NamedTuple):
    """What the generic layer has: which answer it wants, how many pages, and the request that ended it."""

    prgi: int
    pages: int
    last: PageRequest


@dataclass
class ModelFunction:
    """What the driver and the queue know of a function."""

    bound: bool = True
    attached: bool = True
    sent: int = 0
    answered: int = 0
    auto_answered: int = 0
    passed_over: int = 0
    lost: int = 0
    in_queue: list[PageRequest | int] = field(default_factory=list)  # an index: the IOMMU has answered it by then
    partial: dict[int, int] = field(default_factory=dict)  # requests by index
    ended: dict[int, int] = field(default_factory=dict)  # the first so many of these have been answered, and are kept
    waiting: list[Group] = field(default_factory=list)  # groups that a read will have
    held: dict[int, Group] = field(default_factory=dict)  # the same, by cookie
    answers: Counter[tuple[int, int]] = field(default_factory=Counter)
    on_the_way: list[tuple[int, int, PageRequest]] = field(default_factory=list)  # the same; and to which request
    # The function's own side: its credits are out with the groups that wait for an answer.
    out: Counter[int] = field(default_factory=Counter)  # requests by index
    own: dict[int, PageRequest] = field(default_factory=dict)  # the last of each index
    enabled: bool = True
    deaf: bool = False  # it has had a Response Failure

    def answer(self, request: PageRequest, code: int) -> None:
        """The hardware is told to answer the group that ends with this request."""
        self.answers[request.prg_index, code] += 1
        self.on_the_way.append((request.prg_index, code, request))

    def arrived(self, index: int, code: int) -> None:
        """An answer has come: the group's credits are back. A Response Failure while it stops gives all back.

        An answer to what somebody else sent in its name, or to what it sent before a reset, may name a group that is
        outstanding, too. The function knows it by what the answer brings back, if that is anything.
        """
        found = next((one for one in self.on_the_way if one[:2] == (index, code)), None)
        if found is not None:
            self.on_the_way.remove(found)
        if index in self.out and (found is None or self.knows(self.own[index], found[2])):
            del self.out[index]
        if code not in (PrgResponse.SUCCESS, PrgResponse.INVALID) and not self.deaf:
            self.deaf = True
            if not self.enabled:
                self.out.clear()

    @staticmethod
    def knows(own: PageRequest, answered: PageRequest) -> bool:
        """Private data come back in every answer to what had them, and of a stream the page."""
        return (
            own.private_data in (None, answered.private_data)
            and own.stream == answered.stream
            and (not own.stream or own.address >> 12 == answered.address >> 12)
        )

    def forget(self) -> None:
        """A reset: nothing is waited for any more."""
        self.out.clear()
        self.deaf = False

    def end(self, index: int) -> None:
        """The group has been answered without a client."""
        self.ended[index] = self.partial.get(index, 0)


def is_canonical(address: int) -> bool:
    return not (address + (1 << 47)) >> 48 & 0xFFFF


class Verdict(Enum):
    """What a driver does with a request that it does not answer."""

    REPORTED = "it goes on to the generic layer"
    PASSED_OVER = "it is dropped, and nobody is answered"
    A_MARKER = "nobody waits for an answer"


class DriverMachine(RuleBasedStateMachine):
    """Requests of any fields, from two functions, through an IOMMU and its driver, of one kernel: here VT-d's."""

    kernel = "7.2"
    last_only = True  # a request that is not its group's last raises no interrupt
    places: int | None = REQUEST_QUEUES["vtd"]  # of the queue; None: this is another's machine

    def make_site(self) -> Site:
        return Site(self.kernel, functions=2)

    @initialize()
    def begin(self) -> None:
        self.site = self.make_site()
        self.model = {one.requester_id: ModelFunction() for one in self.site.ends}
        self.raised = self.overflown = False
        self.used = self.filled = 0
        self.logged: dict[int, Counter[tuple[int, int]]] = {rid: Counter() for rid in self.model}
        for one in self.site.ends:
            one.enable_pri()

    def teardown(self) -> None:
        if hasattr(self, "site"):
            self.drain()
            for n, function in enumerate(self.model.values()):
                self.read(n)
                for cookie in sorted(function.held):
                    self.answer(n, cookie, PageResponse.SUCCESS)
            self.drain()
            for rid, function in self.model.items():
                assert self.logged[rid] == function.answers, "each answer came, and none besides"
            for one, function in zip(self.site.ends, self.model.values(), strict=True):
                # What was answered is back. The rest was lost to a full queue, or passed over, or has no last.
                assert one.counts().outstanding == function.out.total()
                one.reset()
                assert one.counts().outstanding == 0, "every credit is back"
                self.use_every_credit(one, 16)
            self.site.close()

    @staticmethod
    def use_every_credit(one: Endpoint, number: int) -> None:
        one.enable_pri(number)
        for n in range(number):
            one.send(PageRequest(PAGE, n // 8, read=True, pasid=1, last=False))
        with pytest.raises(KernelError) as caught:
            one.send(PageRequest(PAGE, 511, read=True, pasid=1))
        assert caught.value.errno == errno.ENOSPC
        assert one.counts().outstanding == number

    # ---- the model ----

    def verdict(self, function: ModelFunction, request: PageRequest) -> Verdict | int:
        """What the driver does with a request; a number: the code of its answer."""
        asks = request.read or request.write
        bad = (
            (request.pasid is None and self.kernel == "6.12")
            or not is_canonical(request.address)
            or (request.privileged and asks)
            or (request.execute and request.read)
        )
        if not bad and request.last and not asks:
            return Verdict.A_MARKER if self.is_marker(request) else Verdict.PASSED_OVER
        if bad or not function.bound:
            return PrgResponse.INVALID if request.last else Verdict.PASSED_OVER
        return Verdict.REPORTED

    def arrive(self, function: ModelFunction | None, request: PageRequest) -> None:
        """What the hardware does with a request, which may be a stranger's."""
        if self.places is not None and (self.overflown or self.used == self.places):
            self.raised = self.overflown = True
            if function is not None and not self.is_marker(request):
                function.lost += 1
            return
        self.used += 1
        self.raised |= request.last  # others wait in the queue for one that is
        if function is not None:
            function.in_queue.append(request)

    def take(self, function: ModelFunction, request: PageRequest) -> None:
        verdict = self.verdict(function, request)
        if verdict is Verdict.PASSED_OVER:
            function.passed_over += 1
        elif isinstance(verdict, int):
            function.auto_answered += not self.is_marker(request)
            function.answer(request, verdict)
            function.end(request.prg_index)
        elif verdict is not Verdict.REPORTED:
            pass
        elif not function.attached:
            function.auto_answered += 1
            function.answer(request, PrgResponse.INVALID)
        elif request.last:
            pages = function.partial.pop(request.prg_index, 0) + 1
            function.ended.pop(request.prg_index, 0)
            function.waiting.append(Group(request.prg_index, pages, request))
        else:
            function.partial[request.prg_index] = function.partial.get(request.prg_index, 0) + 1

    def interrupt(self) -> None:
        self.raised = False
        for function in self.model.values():
            for request in function.in_queue:
                if isinstance(request, PageRequest):
                    self.take(function, request)
                else:
                    function.end(request)
            function.in_queue.clear()
        if self.overflown:
            for function in self.model.values():
                if function.bound:  # the last requests of its groups may be among those that are lost
                    ended = sum(function.ended.values())
                    function.auto_answered += ended
                    function.lost += sum(function.partial.values()) - ended
                    function.partial.clear()
                    function.ended.clear()
        self.used, self.overflown = 0, False

    def end_groups(self, function: ModelFunction, groups: list[Group]) -> None:
        for group in groups:
            function.auto_answered += group.pages
            function.answer(group.last, PrgResponse.INVALID)

    def drain(self) -> None:
        self.site.turn()
        if self.raised or not self.last_only:
            self.interrupt()
        self.look()

    def look(self) -> None:
        for one in self.site.ends:
            for prgi, code in one.take_answers():
                self.logged[one.requester_id][prgi, code] += 1
                self.model[one.requester_id].arrived(prgi, code)

    # ---- what is done ----

    @rule(
        n=st.integers(0, 1),
        address=st.sampled_from([0, 0x1000, 0x7FFF_FFFF_F000, 1 << 47, 0xFFFF_8000_0000_0000, 0xFFFF_0000_0000_0000]),
        index=st.integers(0, 4) | st.integers(0, 511),
        bits=st.sampled_from(list(product([False, True], repeat=3))),
        pasid=st.none() | st.integers(1, 3) | st.just((1 << 20) - 1),
        prefix=st.sampled_from([(False, False)] * 3 + [(True, False), (False, True), (True, True)]),
        to=st.sampled_from([None] * 6 + [0x100, 0x101, 0x7777]),
    )
    def send(
        self,
        n: int,
        address: int,
        index: int,
        bits: tuple[bool, bool, bool],
        pasid: int | None,
        prefix: tuple[bool, bool],
        to: int | None,
    ) -> None:
        execute, privileged = prefix if pasid is not None else (False, False)
        self.send_one(n, PageRequest(address, index, *bits, pasid, execute, privileged, to))

    def send_one(self, n: int, request: PageRequest) -> None:
        sender = self.site.ends[n]
        try:
            sender.send(request)
        except KernelError:
            return  # which, when, is judged by c/pri.c
        function = self.model.get(sender.requester_id if request.requester_id is None else request.requester_id)
        if function is not None:
            function.sent += not self.is_marker(request)
            if request.requester_id in (None, sender.requester_id) and not self.is_marker(request):
                function.out[request.prg_index] += 1
                function.own[request.prg_index] = request
        self.arrive(function, request)

    @precondition(lambda self: self.places is not None and not self.overflown and self.filled < 2)
    @rule(room=st.integers(0, 3), n=st.integers(0, 1), index=st.integers(0, 511))
    def fill_the_queue(self, room: int, n: int, index: int) -> None:
        """So much that a few more, or the next one, overflow it."""
        assert self.places is not None
        self.filled += 1
        while self.used < self.places - room:
            self.site.end.send(STRANGERS)
            self.arrive(None, STRANGERS)
        self.send_one(n, PageRequest(PAGE, index, read=True, pasid=1))

    @rule()
    def produce(self) -> None:
        self.site.core.produce()
        if self.raised or not self.last_only:
            self.interrupt()

    @rule(n=st.integers(0, 1))
    def read(self, n: int) -> None:
        self.produce()  # what a drain has reported is shown by the hardware's next turn
        function = self.model[self.site.ends[n].requester_id]
        messages = self.site.queues[n].read_messages()
        pages: Counter[int] = Counter(message.cookie for message in messages)
        last = {message.cookie: message.grpid for message in messages}
        assert [(last[cookie], count) for cookie, count in pages.items()] == [group[:2] for group in function.waiting]
        function.held.update(zip(pages, function.waiting, strict=True))
        function.waiting = []

    @precondition(lambda self: any(one.held for one in self.model.values()))
    @rule(data=st.data(), code=st.sampled_from([PageResponse.SUCCESS, PageResponse.INVALID]))
    def respond(self, data: st.DataObject, code: PageResponse) -> None:
        n = data.draw(st.sampled_from([n for n, one in enumerate(self.model.values()) if one.held]))
        function = self.model[self.site.ends[n].requester_id]
        self.answer(n, data.draw(st.sampled_from(sorted(function.held))), code)

    def answer(self, n: int, cookie: int, code: PageResponse) -> None:
        function = self.model[self.site.ends[n].requester_id]
        self.site.queues[n].respond(cookie, code)
        group = function.held.pop(cookie)
        function.answered += group.pages
        function.answer(group.last, int(code))

    @rule(n=st.integers(0, 1))
    def detach_or_attach(self, n: int) -> None:
        function = self.model[self.site.ends[n].requester_id]
        if not function.attached:
            self.site.devices[n].attach(self.site.tables[n])
            self.interrupt()  # both first wait until the queue is empty
            function.attached = True
            return
        self.site.devices[n].detach()
        self.interrupt()
        function.attached = False
        ended = sum(function.ended.values())
        function.auto_answered += ended
        function.lost += sum(function.partial.values()) - ended  # dropped with the last attachment, as in Linux
        function.partial.clear()
        function.ended.clear()
        self.end_groups(function, function.waiting + list(function.held.values()))
        function.waiting, function.held = [], {}

    @rule(n=st.integers(0, 1))
    def unbind_or_bind(self, n: int) -> None:
        function = self.model[self.site.ends[n].requester_id]
        if function.bound:
            self.site.iommu.unbind(self.site.devices[n])
            self.interrupt()
        else:
            self.site.iommu.bind(self.site.ends[n], self.site.devices[n])
        function.bound = not function.bound

    @rule(n=st.integers(0, 1), how=st.sampled_from(["disable", "reset", "function", "enable"]))
    def switch(self, n: int, how: str) -> None:
        one = self.site.ends[n]
        function = self.model[one.requester_id]
        self.look()  # what has arrived by now
        if how == "function":
            one.reset()
            function.enabled = False
            function.forget()
        elif how == "enable":
            with suppress(KernelError):
                one.enable_pri()
                function.enabled, function.deaf = True, False
        else:
            one.disable_pri()
            function.enabled = False
            if how == "reset":
                one.reset_pri()
                function.forget()

    @invariant()
    def every_request_is_somewhere(self) -> None:
        if not hasattr(self, "site"):
            return
        self.look()
        for one, account in zip(self.site.ends, accounts(self.site), strict=True):
            function = self.model[one.requester_id]
            in_queue = [one for one in function.in_queue if isinstance(one, PageRequest)]
            pending = len([one for one in in_queue if not self.is_marker(one)]) + sum(function.partial.values())
            pending += sum(group.pages for group in [*function.waiting, *function.held.values()])
            assert account._replace(awaited=0, unmapped=0) == Account(
                sent=function.sent,
                answered=function.answered,
                auto_answered=function.auto_answered,
                passed_over=function.passed_over,
                pending=pending,
                lost=function.lost,
                unmapped=0,
            )
            assert self.logged[one.requester_id] <= function.answers
            counts = one.counts()
            assert counts.outstanding == function.out.total()
            assert counts.sent == (
                counts.succeeded
                + counts.unmapped
                + counts.retried
                + counts.invalid
                + counts.failed
                + counts.cleared
                + counts.outstanding
            )

    @staticmethod
    def is_marker(request: PageRequest) -> bool:
        return request.message & 7 == 4 and request.flags == 1


class OlderDriverMachine(DriverMachine):
    """The same with the driver that needs a PASID."""

    kernel = "6.12"


SOME = settings(settings(), stateful_step_count=40)
TestDriver = DriverMachine.TestCase
TestDriver.settings = SOME
TestOlderDriver = OlderDriverMachine.TestCase
TestOlderDriver.settings = SOME
