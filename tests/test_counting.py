"""Counting by one set of rules: the same cases for designs in C and in Python, and the page that has the rules."""

from __future__ import annotations

import itertools
import re
import select
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from my_design import Doorbell
from tests.costs_alone import ALONE, alone
from tests.design_twins import EventfdTwin, FdTwin
from tests.registered import registered
from tests.ways import name_of
from uring_iopf.abi.iommufd import FaultPerm
from uring_iopf.clients.groups import receive_groups
from uring_iopf.designs import names, resolve
from uring_iopf.designs.python_channel import PythonChannel
from uring_iopf.designs.rules import RULES
from uring_iopf.machine import Machine
from uring_iopf.testing.compare import compare_designs

if TYPE_CHECKING:
    from uring_iopf.costs import Counts
    from uring_iopf.designs import Design

IN_C = registered(has_client=True)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "design-rules.md"


@pytest.mark.parametrize("wait", ["sleep", "spin"])
@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("in_flight", [1, 7, 64])
@pytest.mark.parametrize(("in_c", "twin"), [("fd", FdTwin), ("eventfd", EventfdTwin)])
def test_a_design_counts_the_same_in_both_languages(
    in_c: str, twin: type[Design], in_flight: int, group: int, wait: str
) -> None:
    """Each counter, over a whole program's faults: so the seam, the loop and the rules are the same."""
    one, other = compare_designs([in_c, twin], in_flight=in_flight, group=group, wait=wait).values()
    assert one.per_fault == other.per_fault
    assert one.faults == other.faults


DOORBELL = alone(40, 8, sleep=(2, 1), spin=(1, 0))


@pytest.mark.parametrize("wait", ["sleep", "spin"])
@pytest.mark.parametrize("design", [*names(), Doorbell], ids=name_of)
def test_one_fault_by_itself_counts_what_can_be_said_beforehand(design: str | type[Design], wait: str) -> None:
    (result,) = compare_designs([design], in_flight=1, wait=wait).values()
    expected = getattr(ALONE[design] if isinstance(design, str) else DOORBELL, wait)
    assert astuple(result.per_fault) == pytest.approx(astuple(expected), abs=0.04)
    # But for the first fault, the last look, SQEs that post the read, and a header that is read every 511 answers.


@pytest.mark.parametrize("design", [*IN_C, Doorbell, FdTwin, EventfdTwin], ids=name_of)
def test_an_event_loop_pays_for_its_sleep_as_well(design: str | type[Design]) -> None:
    """One call for each time that it goes to sleep, over what the design does; and one wake-up when something came."""
    with Machine(None, driver="inline", wait="sleep") as machine:
        channel = machine.open(design)
        assert not channel.prepare_sleep()
        channel.awake()
        before = channel.cost()
        for _ in range(3):
            assert not channel.prepare_sleep()
            channel.awake()
        slept = channel.cost()
        enters = 3 if resolve(design).has_ring else 0  # it submits and looks by a call of its own
        assert slept.system_calls - before.system_calls == 3 + enters
        assert counted_besides(before) == counted_besides(slept)

        assert not channel.prepare_sleep()
        machine.endpoint.access(1, 0x1000, FaultPerm.READ)
        for _ in range(3):
            channel.turn()
        channel.awake()
        channel.prepare_sleep()
        assert len(channel.receive()) == 1
        assert channel.cost().wakeups - slept.wakeups == 1


def test_waking_writes_the_eventfd_of_an_event_loop_that_sleeps_once() -> None:
    """Also where the hardware has no work for a turn: a design may have kept groups back."""
    with Machine(None, driver="inline", wait="sleep") as machine:
        channel = machine.open(Doorbell)
        assert isinstance(channel, PythonChannel)
        assert not channel.prepare_sleep()
        assert not select.select([channel.eventfd], [], [], 0)[0]
        channel.design.wake()
        channel.design.wake()  # it is awake by now
        assert select.select([channel.eventfd], [], [], 0)[0]
        channel.awake()
        assert not select.select([channel.eventfd], [], [], 0)[0]
        channel.design.wake()
        assert channel.cost().wakeups == 1
        channel.design.signal()
        assert channel.cost().wakeups == 2


def test_an_answer_wakes_an_event_loop_that_sleeps_and_a_flush_of_nothing_does_not() -> None:
    with Machine(None, driver="inline", wait="sleep") as machine:
        channel = machine.open(Doorbell)
        for n in range(2):
            machine.endpoint.access(1, 0x1000 * n, FaultPerm.READ)
        for _ in range(3):
            channel.turn()
        first, second = receive_groups(channel)
        assert not channel.prepare_sleep()
        for group in (first, second):
            group.respond()
            assert select.select([channel.eventfd], [], [], 0)[0]
        channel.awake()
        channel.receive()
        assert not channel.prepare_sleep()
        channel.flush()
        assert not select.select([channel.eventfd], [], [], 0)[0]


class PollsAlways(Doorbell):
    """has the wait that is inherited"""

    def wait(self) -> bool:
        return super(Doorbell, self).wait()


@pytest.mark.parametrize("wait", ["sleep", "spin"])
@pytest.mark.parametrize("design", [*IN_C, Doorbell, PollsAlways, FdTwin, EventfdTwin], ids=name_of)
def test_a_wait_finds_what_was_published_before(design: str | type[Design], wait: str) -> None:
    """Nobody wakes a client that is awake: it must not sleep on what is there."""
    with Machine(None, driver="inline", wait=wait) as machine:
        channel = machine.open(design)
        for n in range(3):
            machine.endpoint.access(1, 0x1000 * n, FaultPerm.READ)
            for _ in range(3):
                channel.turn()
            assert channel.wait()
            assert len(channel.receive()) == 1
            assert not channel.wait()
        assert channel.cost().wakeups == (3 if resolve(design).signals_awake else 0)


def counted_besides(cost: Counts) -> tuple[int, ...]:
    return (cost.empty_polls, cost.wakeups, cost.bytes_copied, cost.answer_errors)


def test_an_event_loop_beside_sqpoll_reads_its_eventfd() -> None:
    with Machine(None, driver="sqpoll", wait="sleep") as machine:
        channel = machine.open("uring-multishot")
        copied = []
        for n in range(3):
            assert not channel.prepare_sleep()
            machine.endpoint.access(1, 0x1000 * n, FaultPerm.READ)
            assert select.select([channel.eventfd], [], [], 60)[0]
            before = channel.cost()
            channel.awake()
            after = channel.cost()
            assert after.system_calls - before.system_calls == 1
            assert len(channel.receive()) == 1
            copied.append(channel.cost().bytes_copied)
        # The message, its CQE, and the counter; the first read's own SQE was before.
        assert [b - a for a, b in itertools.pairwise(copied)] == [40 + 16 + 8] * 2


def test_the_page_has_the_rules() -> None:
    rows = re.findall(r"^\| ([a-z: -]+) \| (.*?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: text for name, text in rows if name in RULES} == dict(RULES)
