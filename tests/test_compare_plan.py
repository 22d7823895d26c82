"""Comparisons: which cells, in which order, what is kept of them, and what an interruption leaves."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import cast

import pytest

from my_design import Doorbell
from uring_iopf.abi.records import FaultMessage
from uring_iopf.errors import KernelError, PeerError, UsageError
from uring_iopf.lab.clock import STUCK_LOOKS, STUCK_S, RunningClock
from uring_iopf.lab.compare import Comparison, Plan, median, run_comparison
from uring_iopf.lab.floor import measure_floor
from uring_iopf.lab.result import CellResult, Floor
from uring_iopf.lab.spec import CellInterrupted, CellSpec
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import MachineParts
from uring_iopf.workloads import ROW, Workload

TINY = Workload("tiny", ROW.pack(0, 0x1000, 1, 1))
PARTS = MachineParts(TINY, driver="enter", wait="spin")
PLAN = Plan(PARTS, designs=("fd", "mine"), in_flight=(1, 64))
FLOOR = Floor(100.0, 40_000.0, 80.0)


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has: with one, every comparison says that it is unfit."""
    monkeypatch.setattr("uring_iopf.lab.compare.two_processors", lambda: (0, 1))


def measured(spec: CellSpec, *, faults_per_s: float = 1e6, partial: bool = False) -> CellResult:
    empty = spec.nothing_measured(partial=partial)
    return replace(empty, faults=1000, answered=1000, replays=1000, faults_per_s=faults_per_s)


@dataclass
class FakeLab:
    """Measures nothing: answers each call by the next of `script` (an exception is raised), then with good results."""

    script: list[CellResult | BaseException | None] = field(default_factory=list)
    floor: Floor | BaseException = FLOOR
    asked: list[CellSpec] = field(default_factory=list)
    floors: list[tuple[int, ...]] = field(default_factory=list)

    def measure_cell(self, spec: CellSpec, on_progress: Callable[[float], None]) -> CellResult:
        self.asked.append(spec)
        on_progress(0.5)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, BaseException):
            raise step
        return step or measured(spec)

    def measure_floor(self, in_flight: Iterable[int]) -> Floor:
        self.floors.append(tuple(in_flight))
        if isinstance(self.floor, BaseException):
            raise self.floor
        return self.floor

    def run(self, plan: Plan, on_progress: Callable[[str, float], None] | None = None) -> Comparison:
        return run_comparison(
            plan, on_progress=on_progress, measure_cell=self.measure_cell, measure_floor=self.measure_floor
        )


def test_every_design_is_measured_at_every_number_in_flight() -> None:
    lab = FakeLab()
    comparison = lab.run(PLAN)
    order = [(1, "fd"), (1, "mine"), (64, "fd"), (64, "mine")]
    assert [(spec.parts.in_flight, spec.design) for spec in lab.asked] == order
    assert [(result.in_flight, result.design) for result in comparison.results] == order
    assert comparison.floor == comparison.floor_after == FLOOR
    assert lab.floors == [(1, 64), (1, 64)]
    assert not comparison.partial
    assert not comparison.unaccounted


def test_a_cell_is_told_all_of_the_plan() -> None:
    parts = MachineParts(TINY, driver="sqpoll", wait="sleep", group=4, seed=9)
    plan = Plan(parts, ("fd",), (8,), client="trio", seconds=0.1, faults=10)
    lab = FakeLab()
    lab.run(plan)
    assert lab.asked == [CellSpec("fd", "trio", replace(parts, in_flight=8), 0.1, 10, limit_s=1.0, split=True)]


def test_repetitions_go_round_by_round() -> None:
    lab = FakeLab()
    comparison = lab.run(replace(PLAN, in_flight=(1,), repeat=3))
    assert [spec.design for spec in lab.asked] == ["fd", "mine"] * 3
    assert len(comparison.measurements) == 6
    assert [result.design for result in comparison.results] == ["fd", "mine"]


@pytest.mark.parametrize(
    ("rates", "middle"),
    [([5], 5), ([5, 3], 3), ([9, 1, 5], 5), ([9, 1, 5, 6], 5)],
    ids=["one", "of two the slower", "of three", "of four the slower of two"],
)
def test_the_median_is_shown(rates: list[float], middle: float) -> None:
    spec = PLAN.cells[0]
    lab = FakeLab([measured(spec, faults_per_s=rate) for rate in rates])
    comparison = lab.run(Plan(PARTS, ("fd",), (1,), repeat=len(rates)))
    assert [result.faults_per_s for result in comparison.results] == [middle]
    assert [result.faults_per_s for result in comparison.measurements] == rates


def test_a_partial_measurement_counts_only_where_there_is_no_complete_one() -> None:
    spec = PLAN.cells[0]
    complete, partial = measured(spec, faults_per_s=9), measured(spec, faults_per_s=1, partial=True)
    assert median([complete, partial]) is complete
    assert median([partial]) is partial


def test_what_is_missing_in_any_repetition_is_found() -> None:
    bad = replace(measured(PLAN.cells[0], faults_per_s=1), lost=1)
    comparison = FakeLab([bad]).run(Plan(PARTS, ("fd",), (1,), repeat=3))
    assert comparison.results[0].accounted
    assert comparison.unaccounted == (bad,)


# ---- progress ----


def test_progress_names_the_cell_and_grows_to_one() -> None:
    told: list[tuple[str, float]] = []
    FakeLab().run(PLAN, on_progress=lambda label, share: told.append((label, share)))
    assert told == [
        ("floor of this machine", 0.0),
        ("fd, enter, 1 in flight", 0.0),
        ("fd, enter, 1 in flight", 0.125),
        ("mine, enter, 1 in flight", 0.25),
        ("mine, enter, 1 in flight", 0.375),
        ("fd, enter, 64 in flight", 0.5),
        ("fd, enter, 64 in flight", 0.625),
        ("mine, enter, 64 in flight", 0.75),
        ("mine, enter, 64 in flight", 0.875),
        ("done", 1.0),
    ]


# ---- interruptions ----


def test_an_interruption_leaves_what_was_measured() -> None:
    comparison = FakeLab([None, None, KeyboardInterrupt()]).run(PLAN)
    assert comparison.partial
    assert [result.in_flight for result in comparison.results] == [1, 1]
    assert comparison.floor == FLOOR


def test_an_interrupted_cell_leaves_what_it_had() -> None:
    half = measured(PLAN.cells[1], partial=True)
    comparison = FakeLab([None, CellInterrupted(half)]).run(PLAN)
    assert comparison.partial
    assert comparison.results[1:] == (half,)


def test_an_interrupted_cell_may_have_nothing() -> None:
    comparison = FakeLab([None, CellInterrupted()]).run(PLAN)
    assert comparison.partial
    assert len(comparison.results) == 1


def test_an_interruption_of_a_repetition_keeps_the_complete_one() -> None:
    plan = Plan(PARTS, ("fd",), (1,), repeat=5)
    half = measured(plan.cells[0], faults_per_s=1, partial=True)
    comparison = FakeLab([None, CellInterrupted(half)]).run(plan)
    assert comparison.partial
    assert [result.partial for result in comparison.results] == [False]
    assert [result.partial for result in comparison.measurements] == [False, True]


def test_an_interruption_of_the_floor_leaves_nothing() -> None:
    lab = FakeLab(floor=KeyboardInterrupt())
    comparison = lab.run(PLAN)
    assert comparison.partial
    assert comparison.floor is None
    assert not comparison.results
    assert not lab.asked


def test_an_interruption_by_the_one_who_is_told_is_one_too() -> None:
    def interrupt(_label: str, share: float) -> None:
        if share > 0.3:
            raise KeyboardInterrupt

    assert len(FakeLab().run(PLAN, on_progress=interrupt).results) == 1


def test_an_interrupted_cell_stops_whoever_does_not_know_it() -> None:
    assert issubclass(CellInterrupted, KeyboardInterrupt)


# ---- trouble ----


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KernelError(16, "attach"), "KernelError: [Errno 16] attach: Device or resource busy"),
        (PeerError("the ring is broken"), "PeerError: the ring is broken"),
        (MemoryError("no memory for a core"), "MemoryError: no memory for a core"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_cell_that_fails_does_not_stop_the_others(error: Exception, told: str) -> None:
    comparison = FakeLab([error]).run(PLAN)
    failed, *others = comparison.results
    assert failed.error == told
    assert failed.faults == 0
    assert [result.accounted for result in others] == [True, True, True]
    assert comparison.unaccounted == (failed,)


def test_a_cell_that_fails_has_the_design_s_name() -> None:
    """As a cell that was measured has: not the module and the class that were given."""
    plan = replace(PLAN, designs=("fd", "my_package:Mine"), names={"my_package:Mine": "mine"}, in_flight=(1,))
    for error in (PeerError("the ring is broken"), ZeroDivisionError("somebody's mistake")):
        results = FakeLab([None, error]).run(plan).results
        assert [(result.design, result.error is None) for result in results] == [("fd", True), ("mine", False)]


def test_a_mistake_in_a_design_is_its_cell_s_error_and_says_where() -> None:
    failed, *others = FakeLab([ZeroDivisionError("somebody's mistake")]).run(PLAN).results
    assert failed.error is not None
    assert re.fullmatch(r"ZeroDivisionError: somebody's mistake \(.*/test_compare_plan\.py:\d+\)", failed.error)
    assert [result.accounted for result in others] == [True, True, True]


class Misled(Doorbell):
    """raises, in its own code, what the library raises for a mistake in the plan"""

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        raise UsageError("a bad cookie")


class Leaving(Doorbell):
    """ends the process"""

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        sys.exit(3)


@pytest.mark.parametrize(("design", "told"), [(Misled, "UsageError: a bad cookie"), (Leaving, "SystemExit: 3")])
def test_a_design_s_own_error_does_not_stop_the_others(design: type[Doorbell], told: str) -> None:
    plan = replace(PLAN, designs=("fd", f"{__name__}:{design.__name__}"), in_flight=(1,), seconds=0.0, faults=1)
    good, failed = run_comparison(plan, measure_floor=lambda _in_flight: Floor(None, None, None)).results
    assert good.accounted
    assert failed.error is not None
    assert re.fullmatch(rf"DesignError: {told} \(.*/test_compare_plan\.py:\d+\)", failed.error)


@pytest.mark.parametrize("error", [UsageError("no such design"), SystemExit("not ours to catch")], ids=repr)
def test_what_is_wrong_with_the_plan_comes_out(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        FakeLab([error]).run(PLAN)


# ---- the floor ----


def test_the_floor_is_measured_in_nanoseconds() -> None:
    floor = measure_floor(during_ns=1_000_000)
    assert floor.system_call_ns is not None
    assert 1 < floor.system_call_ns < 1e6
    assert floor.eventfd_ns is not None
    assert floor.eventfd_ns > floor.system_call_ns


def test_no_cache_line_is_measured_on_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    assert measure_floor(during_ns=1_000_000).cache_line_ns is None


def test_one_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FakeLab().run(PLAN).unfit == ()
    monkeypatch.setattr("uring_iopf.lab.compare.two_processors", lambda: None)
    (reason,) = FakeLab().run(PLAN).unfit
    assert reason.startswith("there is only one processor")


def test_a_machine_that_was_suspended_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle:
        started = 1
        endpoint = SimpleNamespace(wait=lambda _passes, _ns: False)

    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = RunningClock()
    now = 3600.0
    idle = cast("Machine", Idle())
    assert [clock.wait(idle) for _ in range(STUCK_LOOKS)] == [True] * (STUCK_LOOKS - 1) + [False]
    clock.progressed()
    now += STUCK_S / 2
    assert all(clock.wait(idle) for _ in range(2 * STUCK_LOOKS))
