"""The RISC-V IOMMU through the public names: its page-request queue, what it answers by itself, and its driver.

The bits are judged by ``c/riscv.c``. Here a model of the queue and of the driver says what becomes of every request, in
any order of overflows, faults, and a queue that is switched off.
"""

from __future__ import annotations

import errno
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.test_pri import PAGE, READ, DriverMachine, ModelFunction, Site, Verdict, accounts, refused
from uring_iopf.core import Core
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.hardware.iommus.riscv import RiscvIommu, RiscvPqcsr, RiscvRegister
from uring_iopf.hardware.limits import REQUEST_QUEUES
from uring_iopf.hardware.pri import PageRequest, PrgAnswer, PrgResponse, PriStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

SUCCESS, INVALID, FAILURE = PrgResponse.SUCCESS, PrgResponse.INVALID, PrgResponse.FAILURE
ENTRIES = REQUEST_QUEUES["riscv"]
STRANGERS = PageRequest(read=True, last=False, requester_id=0x7777)
"""Of a function that nobody knows, and not the last: the driver drops it."""
ON = RiscvPqcsr.PQEN | RiscvPqcsr.PIE


class RiscvSite(Site):
    """Functions behind one RISC-V IOMMU."""

    iommu: RiscvIommu

    def make_iommu(self) -> RiscvIommu:
        return RiscvIommu(self.core)

    def pqcsr(self) -> RiscvPqcsr:
        return RiscvPqcsr(self.iommu.read_register(RiscvRegister.PQCSR))

    def fill(self) -> None:
        while self.iommu.read_register(RiscvRegister.PQT) != ENTRIES:
            self.end.send(STRANGERS)


@pytest.fixture
def site() -> Iterator[RiscvSite]:
    one = RiscvSite()
    one.end.enable_pri()
    yield one
    one.close()


def test_registers_are_there_by_their_offsets() -> None:
    with Core() as core, closing(RiscvIommu(core)) as iommu:
        assert iommu.read_register(RiscvRegister.PQCSR) == ON | RiscvPqcsr.PQON
        assert iommu.read_register(RiscvRegister.PQB) == 11
        assert refused(iommu.read_register, 0x48) == refused(iommu.write_register, 0x51, 0) == errno.EINVAL


@pytest.mark.parametrize("pasid", [0, 5, (1 << 20) - 1])
def test_an_access_goes_the_whole_way(site: RiscvSite, pasid: int) -> None:
    ticket = site.end.access(pasid, PAGE, READ, pages=3)
    site.turn()
    messages = site.queue.read_messages()
    assert [(one.pasid, one.addr, one.flags) for one in messages] == [
        (pasid, PAGE, 1),
        (pasid, 2 * PAGE, 1),
        (pasid, 3 * PAGE, 3),
    ]
    site.queue.respond(messages[0].cookie, INVALID)
    site.turn()
    assert site.end.result(ticket) is AccessResult.INVALID


def test_an_overflow_is_answered_with_success_so_that_the_function_asks_again(site: RiscvSite) -> None:
    site.fill()
    ticket = site.end.access(5, PAGE, READ, pages=2)
    site.core.produce()
    site.turn()
    assert site.end.result(ticket) is AccessResult.UNMAPPED, "it was told to ask again, and nothing is there"
    (account,) = accounts(site)
    assert (account.sent, account.auto_answered, account.lost, site.iommu.lost()) == (2, 2, 0, 0)
    assert site.pqcsr() == ON | RiscvPqcsr.PQON, "the driver has cleared pqof"
    site.end.access(5, PAGE, READ)
    site.turn()
    assert site.answer() == 1


@pytest.mark.parametrize("faults", [True, False])
def test_a_queue_that_is_off_or_faults_stops_the_function(site: RiscvSite, faults: bool) -> None:
    if faults:
        site.iommu.fault_queue()
    else:
        site.iommu.write_register(RiscvRegister.PQCSR, RiscvPqcsr.PIE)
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5))
    site.turn()
    assert site.end.take_answers() == [PrgAnswer(7, FAILURE)]
    assert site.end.counts().pri_status == PriStatus.RF | PriStatus.STOPPED
    site.iommu.write_register(RiscvRegister.PQCSR, ON)
    site.end.disable_pri()
    site.end.enable_pri()
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5))
    site.turn()
    assert site.answer() == 1
    (account,) = accounts(site)
    assert (account.sent, account.answered, account.auto_answered, account.lost) == (2, 1, 1, 0)


class RiscvMachine(DriverMachine):
    """Requests of any fields, with a queue that fills up, faults, and is switched off."""

    site: RiscvSite
    last_only = False
    places = None

    def make_site(self) -> RiscvSite:
        self.entries = self.fills = 0
        self.on = True
        self.faults = self.faulted = self.overflowed = False
        return RiscvSite(functions=2)

    # ---- the model ----

    def arrive(self, function: ModelFunction | None, request: PageRequest) -> None:
        code: PrgResponse | None = None
        if not self.on or self.faulted:
            code = FAILURE
        elif self.overflowed or self.entries == ENTRIES:
            self.overflowed = True
            code = SUCCESS
        elif self.faults:
            self.faulted, self.faults = True, False
            code = FAILURE
        else:
            self.entries += 1
            super().arrive(function, request)
        if function is not None and code is not None and not self.is_marker(request):
            function.auto_answered += 1
            if request.last:
                function.answer(request, code)

    def verdict(self, function: ModelFunction, request: PageRequest) -> Verdict | int:
        if self.is_marker(request):
            return Verdict.A_MARKER
        if not function.bound:
            return INVALID if request.last else Verdict.PASSED_OVER
        return Verdict.REPORTED

    def interrupt(self) -> None:
        super().interrupt()
        if self.overflowed or self.faulted:
            self.pass_over()
        self.entries = 0
        self.overflowed = self.faulted = False

    def pass_over(self) -> None:
        for function in self.model.values():
            if function.bound:
                function.passed_over += sum(function.partial.values())
                function.partial.clear()

    # ---- what is done ----

    @precondition(lambda self: self.on and not (self.overflowed or self.faulted or self.faults) and not self.fills)
    @rule(room=st.integers(0, 3), n=st.integers(0, 1), index=st.integers(0, 511))
    def fill(self, room: int, n: int, index: int) -> None:
        """So much that a few more, or the next one, overflow it."""
        self.fills += 1
        while self.entries < ENTRIES - room:
            self.site.end.send(STRANGERS)
            self.entries += 1
        self.send_one(n, PageRequest(PAGE, index, read=True, pasid=1))

    @rule()
    def switch_the_queue(self) -> None:
        if self.on:
            self.interrupt()  # what is in it is processed first
            self.pass_over()
        self.on = not self.on
        self.site.iommu.write_register(RiscvRegister.PQCSR, ON if self.on else RiscvPqcsr.PIE)

    @rule()
    def fault(self) -> None:
        self.site.iommu.fault_queue()
        self.faults = True

    @rule(n=st.integers(0, 1))
    def recover(self, n: int) -> None:
        """What a driver does after a failure."""
        self.switch(n, "reset")
        self.switch(n, "enable")


TestRiscv = RiscvMachine.TestCase
TestRiscv.settings = settings(settings(), stateful_step_count=40)
