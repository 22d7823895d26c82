"""When a machine is called unfit for what was measured on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from uring_iopf.lab.fit import reasons_against
from uring_iopf.lab.result import CellResult, Floor
from uring_iopf.lab.spec import CellSpec
from uring_iopf.machine_parts import MachineParts
from uring_iopf.workloads import ROW, Workload

FIT = Floor(200.0, 11_000.0, 120.0, together=0.99, bare_rings_per_s={1: 2e6, 16: 17e6})
PARTS = MachineParts(Workload("tiny", ROW.pack(0, 0x1000, 1, 1)), driver="enter", wait="spin", in_flight=16)
CELL = replace(CellSpec("fd", "native", PARTS).nothing_measured(), faults=1000, answered=1000, faults_per_s=8e6)


def reasons(*floors: Floor, cells: tuple[CellResult, ...] = (CELL,), one_processor: bool = False) -> tuple[str, ...]:
    return reasons_against(floors or (FIT,), cells, one_processor=one_processor)


def test_nothing_speaks_against_a_machine_as_it_should_be() -> None:
    assert reasons(FIT, FIT) == ()
    assert reasons_against((), (), one_processor=False) == ()


def test_one_processor_is_unfit_for_spinning() -> None:
    (reason,) = reasons(Floor(None, 2_000.0, 120.0), one_processor=True)
    assert reason.startswith("there is only one processor, ")
    assert "spinning means nothing here" in reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cache_line_ns": 1_001.0}, "a cache line takes 1 us there and back; 10 ns to 1 us is usual"),
        ({"cache_line_ns": 3.0}, "a cache line takes 3 ns there and back"),
        ({"eventfd_ns": 600_000.0}, "an eventfd takes 600 us there and back; 500 ns to 500 us is usual"),
        ({"system_call_ns": 5_000.0}, "a system call that does nothing takes 5 us; 20 ns to 2 us is usual"),
        ({"system_call_ns": 1.0}, "a system call that does nothing takes 1 ns"),
        ({"together": 0.5}, "the two processors ran at the same time for only 50% of the time"),
        ({"together": 0.0}, "the two processors ran at the same time for only 0% of the time"),
    ],
    ids=str,
)
def test_a_floor_out_of_bounds_is_unfit_before_or_after(changes: dict[str, float], reason: str) -> None:
    bad = replace(FIT, **changes)  # type: ignore[arg-type]
    for floors in ((bad,), (FIT, bad), (bad, FIT), (bad, bad)):
        found = reasons(*floors)
        assert sum(one.startswith(reason) for one in found) == 1
    assert len(reasons(bad, bad)) == 1


def test_a_machine_that_changes_meanwhile_is_unfit() -> None:
    slower = replace(FIT, cache_line_ns=601.0)
    (reason,) = reasons(FIT, slower)
    assert reason == (
        "the machine changed during the run: a cache line took 200 ns before the run and 601 ns after it; measure again"
    )
    assert reasons(FIT, replace(FIT, cache_line_ns=599.0)) == ()


def test_a_path_faster_than_the_bare_rings_cannot_be() -> None:
    assert reasons(cells=(replace(CELL, faults_per_s=21e6),)) == ()
    (reason,) = reasons(cells=(replace(CELL, in_flight=1, faults_per_s=2e6), replace(CELL, faults_per_s=22e6)))
    assert reason == (
        "fd, enter, 16 in flight: 22,000,000 groups/s are more than bare rings without a design reach (17,000,000); "
        "measure again"
    )


@pytest.mark.parametrize(
    "changes",
    [{"client": "kernel"}, {"mode": "inline"}, {"in_flight": 64}, {"group": 2}],
    ids=["no user space", "inline", "no rings were measured", "groups of two"],
)
def test_what_the_bare_rings_do_not_bound_is_not_held_against_them(changes: dict[str, object]) -> None:
    assert reasons(cells=(replace(CELL, faults_per_s=22e6, **changes),)) == ()  # type: ignore[arg-type]


def test_the_better_of_two_measurements_of_the_rings_is_the_bound() -> None:
    slow = replace(FIT, bare_rings_per_s={16: 1e6})
    assert reasons(slow, FIT) == reasons(FIT, slow) == ()


def test_repetitions_that_lie_far_apart_are_unfit() -> None:
    apart = [replace(CELL, faults_per_s=rate) for rate in (4e6, 5e6, 8.1e6)]
    (reason,) = reasons(cells=tuple(apart))
    assert (
        reason
        == "fd, enter, 16 in flight: 3 measurements vary from 4,000,000 to 8,100,000 faults/s, by more than 2 times"
    )
    assert reasons(cells=tuple(apart[:2])) == ()
    other = replace(apart[0], driver="sqpoll"), replace(apart[2], in_flight=1), replace(apart[2], partial=True)
    assert reasons(replace(FIT, bare_rings_per_s={}), cells=(apart[1], *other)) == ()
