"""An accelerator that reports its faults in its event log, through the public names.

The bits are judged by ``c/device_log.c``. Here a model of the accelerator and of its driver says what becomes of every
operation, in any order of what they and a client do, with a log that overflows and is switched off.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.test_device import DeviceMachine, DeviceSite, Operation, Reporting
from tests.test_pri import PAGE, READ
from uring_iopf import Machine
from uring_iopf.abi import FaultPerm, PageResponse
from uring_iopf.core import Core
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.device_log import DeviceLog, IdxdRegister
from uring_iopf.hardware.load import Load
from uring_iopf.machine_function import Account
from uring_iopf.machine_parts import FunctionParts, MachineParts

PLACES, MOST = 4, 3
WRITE = FaultPerm.WRITE


class LogSite(DeviceSite):
    """Work queues of one accelerator, with tables of their own, and a log of which one place can be used."""

    def make_iommu(self) -> DeviceLog:  # type: ignore[override]
        self.log = DeviceLog(self.core, entries=2)
        return self.log

    def make_end(self, requester_id: int, retries: int, physical: Endpoint | None) -> Endpoint:
        return Endpoint(
            self.iommu,
            requester_id=requester_id,
            stalls=PLACES,
            group_most=MOST,
            retries=retries,
            physical=physical,
        )


def test_an_operation_has_one_fault_after_the_other_and_its_records_say_how_far_it_came() -> None:
    site = LogSite()
    site.space.map_page(5, 0x12000, READ)
    ticket = site.end.access(5, 0x12345, READ, pages=3)
    for place, missing in enumerate((0x13000, 0x14000)):
        site.turn()
        (message,) = site.queue.read_messages()
        assert (message.pasid, message.addr, message.length, message.flags) == (5, missing, 0, 3)
        assert message.perm == READ
        assert site.end.counts().outstanding == 1
        site.space.map_page(5, missing, READ)
        site.queue.respond(message.cookie, PageResponse.SUCCESS)
        address, status, fault, _ = site.log.read_command()
        assert address == 0x7F00_0000_0000 | site.end.requester_id << 18 | place << 5
        assert (status & 0xFFFF_FFFF, status >> 32, fault) == (3, missing - 0x12345, missing)
    site.turn()
    assert site.end.result(ticket) is AccessResult.OK
    assert site.end.counts().sent == 2
    site.close()


def test_a_full_log_makes_operations_wait_and_shows_it() -> None:
    site = LogSite()
    with site.log.interrupt_held():
        for n in range(3):
            site.end.access(1, n * PAGE, WRITE)
        site.turn()
        assert site.log.read_register(IdxdRegister.EVLSTATUS) == 1 << 62 | 1 << 32
        assert site.log.waited() == 2
        assert site.end.counts().outstanding == 3
    site.turn()
    messages = site.queue.read_messages()
    assert [(one.addr, one.perm) for one in messages] == [(n * PAGE, WRITE) for n in range(3)]
    for message in messages:
        site.queue.respond(message.cookie, PageResponse.INVALID)
    site.turn()
    assert site.log.waited() == 2
    assert site.log.lost() == site.end.counts().outstanding == 0
    site.close()


def test_what_an_accelerator_has_not_is_refused() -> None:
    with Core() as core, ExitStack() as stack:
        log = stack.enter_context(closing(DeviceLog(core)))
        assert log.read_register(IdxdRegister.EVLCFG_SIZE) == 1024
        with pytest.raises(UsageError, match="give stalls"):
            Endpoint(log)
        with pytest.raises(UsageError, match="prefetch needs a device that can say so"):
            Endpoint(log, stalls=4, prefetch=1)
        end = stack.enter_context(closing(Endpoint(log, stalls=1, group_most=2)))
        assert end.access(1, 0, READ, pages=2) == 0, "one place is enough"
        with pytest.raises(KernelError, match="2 at most"):
            end.access(1, 0, READ, pages=3)
        with pytest.raises((UsageError, KernelError)):
            end.start(Load(in_flight=1, group=2))
        for entries in (0, 1, 3, 8192, True, "8"):
            with pytest.raises(UsageError, match="a power of two, 2 to 4096"):
                DeviceLog(core, entries=entries)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="stalls of function must be 1 or more"):
        MachineParts(iommu="device-log", functions=(FunctionParts(stalls=0),))
    with pytest.raises(UsageError, match="group must be 1 for the function function"):
        MachineParts(iommu="device-log", group=2)


def test_a_machine_may_have_several_work_queues_of_an_accelerator() -> None:
    functions = (FunctionParts("one", stalls=8), FunctionParts("two"))
    with Machine("gcc-compile", driver="sqpoll", iommu="device-log", functions=functions) as machine:
        machine.open("handler")
        machine.start()
        for one in machine.functions.values():
            assert one.endpoint.wait(1, 60_000_000_000)
        machine.detach()
        n = len(machine.workload) if machine.workload is not None else 0
        assert set(machine.accounts().values()) == {Account(n, n, 0, 0, 0)}
        assert [one.endpoint.stalls for one in machine.functions.values()] == [8, 64]


@dataclass
class Queue(Reporting):
    """What becomes of the operations of one work queue. Each has one fault at a time, by its tag."""

    page: dict[int, int] = field(default_factory=dict)  # of its operation, by tag

    def pages(self, tags: list[int] | set[int]) -> int:
        return len(tags)


class LogMachine(DeviceMachine):
    """Two work queues with four places each, in any order of what they, the driver and a client do."""

    site: LogSite
    model: list[Queue]  # type: ignore[assignment]

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.site.close()
        self.site = self.site_of_log()
        self.model = [Queue(), Queue()]
        self.interrupts = True

    def site_of_log(self) -> LogSite:
        site = LogSite(functions=2)
        site.adapter = site.log  # type: ignore[assignment]
        return site

    def teardown(self) -> None:
        if hasattr(self, "interrupts") and not self.interrupts:
            self.switch_the_interrupt()
        super().teardown()

    def missing(self, operation: Operation, page: int) -> int:
        """The first page from this one on that is not there."""
        need = WRITE if operation.perm & WRITE else READ
        while page < operation.pages:
            there = self.mapped.get((operation.pasid, operation.address // PAGE + page))
            if there is None or (need is WRITE and not there & WRITE):
                break
            page += 1
        return page

    def fault(self, n: int, ticket: int, page: int) -> None:
        queue = self.model[n]
        tag = queue.groups
        queue.groups += 1
        queue.sent += 1
        queue.ticket[tag] = ticket
        queue.page[tag] = page
        queue.outstanding.add(tag)
        if queue.bound and not self.is_disabled:
            queue.entries.append(tag)
        else:
            queue.auto_answered += 1
            self.own.append((n, tag))

    def end(self, n: int, tag: int, code: PageResponse) -> None:
        queue = self.model[n]
        if tag not in queue.outstanding:
            queue.unexpected += 1
            return
        queue.outstanding.remove(tag)
        ticket = queue.ticket[tag]
        operation = queue.operation[ticket]
        missing = self.missing(operation, queue.page[tag])
        if code is not PageResponse.SUCCESS:
            operation.result = AccessResult.INVALID
        elif missing == operation.pages:
            operation.result = AccessResult.OK
        elif missing == queue.page[tag]:
            operation.result = AccessResult.UNMAPPED
        else:
            self.fault(n, ticket, missing)

    def send(self, n: int) -> None:
        queue = self.model[n]
        for ticket in list(queue.outside):
            operation = queue.operation[ticket]
            if len(queue.outstanding) == PLACES:
                break
            queue.outside.remove(ticket)
            missing = self.missing(operation, 0)
            if missing == operation.pages:
                operation.result = AccessResult.OK
            else:
                self.fault(n, ticket, missing)

    @rule()
    def produce(self) -> None:
        self.site.core.produce()
        self.execute()
        for n in range(2):
            self.send(n)
        if not self.is_held and self.interrupts:
            self.interrupt()

    @rule()
    def switch_the_interrupt(self) -> None:
        self.interrupts = not self.interrupts
        self.site.log.write_register(IdxdRegister.GENCTRL, 4 if self.interrupts else 0)

    @rule(n=st.integers(0, 1))
    def read(self, n: int) -> None:
        self.produce()
        queue = self.model[n]
        messages = iter(self.site.queues[n].read_messages())
        for tag in queue.waiting:
            operation, page = queue.operation[queue.ticket[tag]], queue.page[tag]
            message = next(messages)
            address = (operation.address // PAGE + page) * PAGE if page else operation.address
            assert (message.pasid, message.addr) == (operation.pasid, address)
            assert message.perm == (WRITE if operation.perm & WRITE else READ)
            assert (message.flags, message.length) == (3, 0)
            assert (message.grpid >> 13, message.grpid & 511) == (self.site.ends[n].requester_id, tag)
            queue.held[message.cookie] = tag
        assert next(messages, None) is None
        queue.waiting = []


TestLog = LogMachine.TestCase
TestLog.settings = settings(settings(), stateful_step_count=40)
