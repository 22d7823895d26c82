"""Measurements that end by time: open loops, and cells that are too slow for their faults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.ways import dealt
from uring_iopf.designs import names, resolve
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.lab import cell
from uring_iopf.lab.cell import measure_cell
from uring_iopf.lab.clock import RunningClock
from uring_iopf.lab.reach import most_in_flight
from uring_iopf.lab.replay import Replay
from uring_iopf.lab.result import CellResult
from uring_iopf.lab.spec import CellSpec
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import MachineParts
from uring_iopf.workloads import ROW, Workload, load_workload

GCC = load_workload("gcc-compile")


def measured(
    design: str, client: str, rate: float, *, seconds: float = 0.1, driver: str = "enter", wait: str = "sleep"
) -> CellResult:
    load = Load(LoadMode.POISSON, in_flight=64, rate=rate, seed=1)
    parts = MachineParts(GCC, driver=driver, wait=wait, in_flight=64, load=load)
    spec = CellSpec(design, client, parts, seconds=seconds, faults=1, limit_s=seconds, rate=rate)
    return measure_cell(spec, lambda _share: None)


DRIVERS = {name: ("enter", "sqpoll") if resolve(name).polled else ("enter",) for name in names()}
CLIENTS = ("native", "trio", "batch")


@pytest.mark.parametrize(
    ("design", "driver", "client"),
    dealt(((design, driver) for design, drivers in DRIVERS.items() for driver in drivers), CLIENTS),
)
def test_an_open_loop_ends_by_time_and_accounts_for_every_fault(design: str, driver: str, client: str) -> None:
    result = measured(design, client, 1000, driver=driver)
    assert (result.missing, result.partial, result.limited) == ((), False, False)
    assert (result.load, result.rate) == ("poisson", 1000)
    assert result.answered == result.faults < len(GCC)
    assert result.replays == 0
    assert (result.faults_per_s > 0) == (result.faults > 0)


@pytest.mark.parametrize("design", ["fd", "handler"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_lull_is_not_taken_for_a_standstill(design: str, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard_of = None
    gets_on = cell._gets_on

    def looked_at(replay: Replay) -> bool:
        """As it is; what it has seen may be more than a look before it has."""
        nonlocal heard_of
        result = gets_on(replay)
        assert isinstance(replay.seen, list)
        heard_of = replay.seen[0]
        return result

    def impatient(_clock: RunningClock, machine: Machine) -> bool:
        """Says that nothing more comes, unless that is true: the fault of the last such word is still outstanding."""
        machine.endpoint.wait(machine.started, 1_000_000)
        counts = machine.endpoint.counts()
        return heard_of is not None and counts.outstanding > 0 and counts.sent == heard_of[0]

    monkeypatch.setattr(cell, "_gets_on", looked_at)
    monkeypatch.setattr(RunningClock, "wait", impatient)
    result = measured(design, client, 50, seconds=0.2, wait="spin")
    assert result.missing == ()
    assert result.faults < len(GCC)  # nor is the time forgotten over it


def test_a_cell_that_is_too_slow_is_stopped_and_says_so() -> None:
    parts = MachineParts(GCC, driver="enter", wait="spin", in_flight=1)
    spec = CellSpec("fd", "native", parts, seconds=3600.0, limit_s=0.05)
    result = measure_cell(spec, lambda _share: None)
    assert (result.missing, result.limited, result.partial) == ((), True, False) or result.faults >= spec.faults
    assert result.faults == result.answered > 0
    assert result.faults_per_s > 0
    assert not measure_cell(replace(spec, seconds=0.0, faults=1, limit_s=3600.0), lambda _share: None).limited


def test_progress_of_an_open_loop_is_the_time() -> None:
    shares: list[float] = []
    load = Load(LoadMode.POISSON, in_flight=64, rate=100, seed=1)
    parts = MachineParts(GCC, driver="enter", wait="sleep", in_flight=64, load=load)
    spec = CellSpec("fd", "native", parts, seconds=0.2, faults=1, limit_s=0.2, rate=100)
    measure_cell(spec, shares.append)
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] == 1


def gaps(seed: int) -> list[int]:
    """When the first faults of a load are sent, inline, as the core's clock is moved from one to the next."""
    load = Load(LoadMode.POISSON, in_flight=64, rate=1e6, seed=seed)
    with Machine(MachineParts(GCC, driver="inline", in_flight=64, load=load, seed=seed)) as machine:
        machine.open("handler")
        machine.start()
        times = []
        for _ in range(20):
            machine.core.produce()
            when = machine.core.next_ns()
            assert when is not None
            times.append(when)
            machine.core.tick(when)
        machine.core.produce()
        return times


def test_a_seed_decides_when_faults_come() -> None:
    assert gaps(1) == gaps(1) != gaps(2)


def test_each_pass_is_drawn_anew_from_the_seed() -> None:
    load = Load(LoadMode.POISSON, in_flight=64, rate=1e6, seed=2**64 - 2)
    with Machine(MachineParts(GCC, driver="inline", in_flight=64, load=load, seed=2**64 - 2)) as machine:
        (function,) = machine.functions.values()
        seeds = []
        for started in range(3):
            function.started = started
            cell.next_load(machine)
            seeds.append(function.load.seed)
    assert seeds == [2**64 - 2, 2**64 - 1, 0]


# ---- how many can be in flight ----


def rows(*pasids: int) -> Workload:
    return Workload("made", b"".join(ROW.pack(n, n << 12, pasid, 1) for n, pasid in enumerate(pasids)))


@pytest.mark.parametrize(
    ("workload", "group", "most"),
    [
        (rows(*[1] * 5), 1, 5),
        (rows(*[1] * 600), 1, 512),
        (rows(*[1] * 5), 2, 3),
        (rows(1, 2, 1, 2, 1), 32, 5),
        (rows(*[1] * 10_000), 32, 63),
        (rows(*[1, 2] * 5_000), 4, 512),
        (rows(*[1, 2] * 5_000), 5, 512),
        (rows(*[1] * 10_000, *[1, 2] * 5_000), 32, 512),
    ],
    ids=["rows", "indices", "groups", "of two spaces", "credits", "credits for one page", "more", "the best stretch"],
)
def test_how_many_groups_can_be_in_flight(workload: Workload, group: int, most: int) -> None:
    assert most_in_flight(workload, group) == most


@pytest.mark.parametrize("group", [1, 3, 5, 32])
def test_so_many_groups_are_in_flight_where_nobody_answers(group: int) -> None:
    workload = rows(*[1 + n % 2 for n in range(100)], *[1] * 3000)
    most = most_in_flight(workload, group)
    with Machine(MachineParts(workload, driver="inline", in_flight=512, group=group)) as machine:
        machine.open("fd")
        machine.start()
        while machine.core.produce():
            pass
        sent = machine.endpoint.counts().sent_groups
    first = most_in_flight(Workload("first", workload.rows[: ROW.size * (2047 + 32)]), group)
    assert sent <= most
    assert sent == first or group != 1
