"""AMD's IOMMU through the public names: its log, what it answers by itself, and Linux's driver.

The bits are judged by ``c/amd.c``. Here a model of the log and of the driver says what becomes of every request, in any
order of overflows, answers of the IOMMU's own, and a log that is switched off.
"""

from __future__ import annotations

import errno
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.test_pri import PAGE, READ, DriverMachine, ModelFunction, Site, Verdict, accounts, refused, rows
from uring_iopf import Machine
from uring_iopf.core import Core
from uring_iopf.errors import UsageError
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.hardware.iommus.amd import AmdControl, AmdIommu, AmdRegister, AmdStatus
from uring_iopf.hardware.iommus.device import DeviceFaults
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.limits import REQUEST_QUEUES
from uring_iopf.hardware.load import Load
from uring_iopf.hardware.pri import PageRequest, PrgAnswer, PrgResponse, PriStatus
from uring_iopf.machine_function import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

SUCCESS, INVALID, FAILURE = PrgResponse.SUCCESS, PrgResponse.INVALID, PrgResponse.FAILURE
LINUXS_FAILURE = 2
"""What Linux's driver says for FAILURE. Functions take it for one."""
ENTRIES = REQUEST_QUEUES["amd"]
STRANGERS = PageRequest(read=True, requester_id=0x7777)
"""Of a function that nobody knows: the driver drops it without a word."""
RUNS = AmdStatus.PPR_RUN
ON = AmdControl.PPR | AmdControl.PPR_INT | AmdControl.PPR_LOG


class AmdSite(Site):
    """Functions behind one AMD IOMMU."""

    iommu: AmdIommu

    def make_iommu(self) -> AmdIommu:
        return AmdIommu(self.core)

    def status(self) -> AmdStatus:
        return AmdStatus(self.iommu.read_register(AmdRegister.STATUS))

    def fill(self) -> None:
        head = self.iommu.read_register(AmdRegister.PPR_LOG_HEAD)
        while (self.iommu.read_register(AmdRegister.PPR_LOG_TAIL) - head) // 16 % (ENTRIES + 1) != ENTRIES:
            self.end.send(STRANGERS)


@pytest.fixture
def site() -> Iterator[AmdSite]:
    one = AmdSite()
    one.end.enable_pri()
    yield one
    one.close()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"log_entries": 1024}, "512 or 32768, not 1024"),
        ({"auto_response": 2}, "a PrgResponse or None, not 2"),
        ({"early_threshold": 0x8000}, "0 to 32767"),
        ({"early_threshold": -1}, "0 to 32767"),
    ],
)
def test_an_option_that_cannot_be_is_refused(option: dict[str, Any], says: str) -> None:
    with Core() as core, pytest.raises(UsageError, match=says):
        AmdIommu(core, **option)


def test_registers_are_there_by_their_offsets() -> None:
    with Core() as core:
        with closing(AmdIommu(core, auto_response=INVALID, early_threshold=100)) as iommu:
            assert iommu.read_register(AmdRegister.CONTROL) == ON | AmdControl.PPR_AUTO_RESPONSE
            assert iommu.read_register(AmdRegister.PPR_LOG_BASE) == 9 << 56
            assert iommu.read_register(AmdRegister.STATUS) == RUNS
            assert iommu.read_register(AmdRegister.PPR_AUTO_RESPONSE) == INVALID
            assert iommu.read_register(AmdRegister.PPR_OVERFLOW_EARLY) == 1 << 31 | 100
            assert refused(iommu.read_register, 0x2028) == refused(iommu.write_register, 0x19, 0) == errno.EINVAL
        with closing(AmdIommu(core, log_entries=32768)) as iommu:
            assert iommu.read_register(AmdRegister.PPR_LOG_BASE) == 15 << 56
        with closing(VtdIommu(core)) as vtd:
            assert (refused(vtd.read_register, 0), refused(vtd.write_register, 0, 0)) == (
                errno.EINVAL,
                errno.EOPNOTSUPP,
            )
        with closing(DeviceFaults(core)) as none:
            assert refused(none.read_register, 0) == refused(none.write_register, 0, 0) == errno.EOPNOTSUPP


def test_an_access_goes_the_whole_way(site: AmdSite) -> None:
    ticket = site.end.access(5, PAGE, READ, pages=3)
    site.turn()
    messages = site.queue.read_messages()
    assert [(one.pasid, one.addr, one.flags) for one in messages] == [(5, PAGE, 5), (5, 2 * PAGE, 5), (5, 3 * PAGE, 7)]
    site.queue.respond(messages[0].cookie, INVALID)
    site.turn()
    assert site.end.result(ticket) is AccessResult.INVALID


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("pasid", [None, 0, 0xFFFF, (1 << 20) - 1])
def test_what_linux_refuses_is_answered_failure_whether_it_is_last_or_not(
    site: AmdSite, pasid: int | None, last: bool
) -> None:
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=pasid, last=last))
    site.turn()
    assert site.end.take_answers() == [PrgAnswer(7, LINUXS_FAILURE)]
    assert site.end.counts().pri_status == PriStatus.RF | PriStatus.STOPPED
    (account,) = accounts(site)
    assert (account.sent, account.auto_answered, account.lost) == (1, 1, 0)


def test_an_overflow_loses_a_request_and_the_function_waits_until_a_reset(site: AmdSite) -> None:
    site.fill()
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5))
    assert site.status() == AmdStatus.PPR_OVERFLOW | AmdStatus.PPR_INT
    site.turn()
    assert site.status() == RUNS, "Linux restarts the log"
    (account,) = accounts(site)
    assert (account.sent, account.lost, site.iommu.lost(), site.iommu.strangers()) == (1, 1, 1, ENTRIES)
    assert site.end.counts().outstanding == 1
    site.end.reset()
    site.end.enable_pri()
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5))
    site.turn()
    assert site.answer() == 1


@pytest.mark.parametrize("code", PrgResponse)
def test_with_auto_response_nothing_is_lost(site: AmdSite, code: PrgResponse) -> None:
    site.iommu.write_register(AmdRegister.PPR_AUTO_RESPONSE, code)
    site.iommu.write_register(AmdRegister.CONTROL, ON | AmdControl.PPR_AUTO_RESPONSE)
    site.fill()
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5, last=False))
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5))
    site.turn()
    assert site.end.take_answers() == [PrgAnswer(7, code)]
    (account,) = accounts(site)
    assert (account.sent, account.auto_answered, account.lost, site.iommu.lost()) == (2, 2, 0, 0)
    counts = site.end.counts()
    assert (counts.iommu_answered, counts.outstanding) == (2, 0)


@pytest.mark.parametrize("dropped", [None, "success"], ids=["auto response", "dropped"])
@pytest.mark.parametrize("reported", [True, False])
def test_what_was_logged_of_a_group_that_the_iommu_has_answered_is_not_lost(
    reported: bool, dropped: str | None
) -> None:
    class Answering(AmdSite):
        def make_iommu(self) -> AmdIommu:
            return AmdIommu(self.core, dropped=dropped) if dropped else AmdIommu(self.core, auto_response=SUCCESS)

    site = Answering()
    site.end.enable_pri()
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5, last=False))
    if reported:
        site.turn()
    site.fill()
    for index in (7, 8):  # the second has nothing in the log
        site.end.send(PageRequest(PAGE, prg_index=index, read=True, pasid=5))
    site.turn()
    assert site.end.take_answers() == [PrgAnswer(7, SUCCESS), PrgAnswer(8, SUCCESS)]
    assert accounts(site) == [Account(3, 0, 2, 0, 3, pending=1)], "the driver keeps it, as Linux's"
    site.end.send(PageRequest(PAGE, prg_index=7, read=True, pasid=5, last=False))
    site.turn()
    site.device.detach()
    assert accounts(site) == [Account(4, 0, 3, 1, 3, awaited=1)], "the new group has no answer yet"
    site.close()


def test_a_burst_beyond_the_log_is_told_to_ask_again() -> None:
    """A machine's own IOMMU, by its registers."""
    with Machine(None, driver="inline", iommu="amd", group=8) as machine:
        machine.open("handler")
        machine.iommu.write_register(AmdRegister.CONTROL, ON | AmdControl.PPR_AUTO_RESPONSE)
        machine.iommu.write_register(AmdRegister.PPR_OVERFLOW_EARLY, 1 << 31 | 40)
        machine.endpoint.set_rows(rows(4000))
        machine.endpoint.start(Load(group=8, in_flight=60))
        while not machine.endpoint.passes():
            machine.core.produce()
            machine.core.consume()
        account = machine.account()
        assert account.sent == account.answered + account.auto_answered == 4000
        assert account.lost == machine.iommu.lost() == 0
        assert account.auto_answered > 100, "it is a burst"


class AmdMachine(DriverMachine):
    """Requests of any fields, with a log that fills up, answers by itself, and is switched off."""

    site: AmdSite
    last_only = False
    places = None

    def make_site(self) -> AmdSite:
        self.entries = self.fills = 0
        self.runs = self.on = True
        self.overflowed = False
        self.room = ENTRIES
        self.code: PrgResponse | None = None
        return AmdSite(functions=2)

    # ---- the model ----

    def arrive(self, function: ModelFunction | None, request: PageRequest) -> None:
        if self.is_marker(request):
            return
        early = self.entries >= self.room
        if self.code is not None and self.on and (not self.runs or early or self.entries == ENTRIES):
            if function is not None:
                function.auto_answered += 1
                if request.last:
                    function.answer(request, self.code)
                    function.in_queue.append(request.prg_index)  # the driver keeps what it has of it
        elif self.runs and self.entries < ENTRIES:
            self.entries += 1
            super().arrive(function, request)
        else:
            self.overflowed |= self.runs
            self.runs = False
            if function is not None:
                function.lost += 1

    def verdict(self, function: ModelFunction, request: PageRequest) -> Verdict | int:
        if request.pasid is None or not 0 < request.pasid < 0xFFFF:
            return LINUXS_FAILURE
        return Verdict.REPORTED if function.bound else INVALID

    def interrupt(self) -> None:
        super().interrupt()
        self.entries = 0
        if self.overflowed:
            self.runs = self.on = True
        self.overflowed = False

    # ---- what is done ----

    @precondition(lambda self: self.runs and self.code is None and self.fills < 2)
    @rule(room=st.integers(0, 3), n=st.integers(0, 1), index=st.integers(0, 511))
    def fill(self, room: int, n: int, index: int) -> None:
        """So much that a few more, or the next one, overflow it."""
        self.fills += 1
        while self.entries < ENTRIES - room:
            self.site.end.send(STRANGERS)
            self.entries += 1
        self.send_one(n, PageRequest(PAGE, index, read=True, pasid=1))

    @rule()
    def switch_the_log(self) -> None:
        self.on = not self.on
        self.runs = self.on and not self.overflowed
        self.write_control()

    @rule(code=st.none() | st.sampled_from(PrgResponse))
    def answer_by_itself(self, code: PrgResponse | None) -> None:
        self.code = code
        self.site.iommu.write_register(AmdRegister.PPR_AUTO_RESPONSE, code or 0)
        self.write_control()

    @rule(room=st.none() | st.integers(0, 3))
    def warn_early(self, room: int | None) -> None:
        self.room = ENTRIES if room is None else room
        self.site.iommu.write_register(AmdRegister.PPR_OVERFLOW_EARLY, 0 if room is None else 1 << 31 | room)

    def write_control(self) -> None:
        control = ON if self.on else ON & ~AmdControl.PPR_LOG
        if self.code is not None:
            control |= AmdControl.PPR_AUTO_RESPONSE
        self.site.iommu.write_register(AmdRegister.CONTROL, control)

    @rule(n=st.integers(0, 1))
    def recover(self, n: int) -> None:
        """What a driver does after a failure."""
        self.switch(n, "reset")
        self.switch(n, "enable")


TestAmd = AmdMachine.TestCase
TestAmd.settings = settings(settings(), stateful_step_count=40)
