"""SMMUv3 through the public names: what it answers by itself, its driver, and functions whose faults stall.

The bits are judged by ``c/smmuv3.c``. Here a model of the SMMU and of the driver says what becomes of every request, in
any order of overflows, aborts, and a queue that is switched off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.test_pri import PAGE, READ, DriverMachine, ModelFunction, Site, accounts
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.hardware.iommus.smmuv3 import SmmuV3Iommu
from uring_iopf.hardware.limits import REQUEST_QUEUES
from uring_iopf.hardware.pri import PageRequest, PrgAnswer, PrgResponse, PriStatus

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

    def make_site(self) -> SmmuSite:
        self.queued = 0
        self.off = self.overflowed = self.aborted = False
        self.abort: bool | None = None  # the next write aborts, synchronously or not
        return (DenyingSite if self.denies else SmmuSite)(functions=2)

    # ---- the model ----

    def arrive(self, function: ModelFunction | None, request: PageRequest) -> None:
        answer: PrgResponse | None = None
        if self.off or self.aborted:
            answer = FAILURE
        elif self.overflowed or self.queued == ENTRIES:
            self.overflowed = True
            answer = SUCCESS
        elif self.abort is not None:
            answer = FAILURE if self.abort else None
            self.aborted, self.abort = True, None
            if function is not None and answer is None:
                function.lost += not self.is_marker(request)
        else:
            self.queued += 1
            super().arrive(function, request)
        if function is not None and answer is not None and not self.is_marker(request):
            function.auto_answered += 1
            if answer is FAILURE or request.last:
                function.answers[request.prg_index, answer] += 1

    def take(self, function: ModelFunction, request: PageRequest) -> None:
        marker = self.is_marker(request)
        if self.denies or not (function.bound or marker):
            if request.last:
                function.auto_answered += not marker
                function.answers[request.prg_index, FAILURE if self.denies else INVALID] += 1
            else:
                function.passed_over += 1
        elif marker:
            pass
        elif not function.attached:
            function.auto_answered += 1
            function.answers[request.prg_index, INVALID] += 1
        elif request.last:
            pages = function.partial.pop(request.prg_index, 0) + 1
            function.waiting.append((request.prg_index, pages))
        else:
            function.partial[request.prg_index] = function.partial.get(request.prg_index, 0) + 1

    def interrupt(self) -> None:
        super().interrupt()
        if self.overflowed:
            for function in self.model.values():
                if function.bound:
                    function.passed_over += sum(function.partial.values())
                    function.partial.clear()
        self.queued = 0
        self.overflowed = self.aborted = False

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


SOME = settings(settings(), stateful_step_count=40)
TestSmmu = SmmuMachine.TestCase
TestSmmu.settings = SOME
TestDenying = DenyingMachine.TestCase
TestDenying.settings = SOME
