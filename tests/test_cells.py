"""What a cell says of itself, held against what is known of it otherwise."""

from __future__ import annotations

import re
import time

import pytest

from uring_iopf.hardware.endpoint import Endpoint
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.lab.cell import count_cell, measure_cell
from uring_iopf.lab.result import CellResult, Latency
from uring_iopf.lab.spec import CellSpec
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import MachineParts
from uring_iopf.workloads import ROW, Workload, load_workload

GCC = load_workload("gcc-compile")


def measured(design: str, driver: str, in_flight: int) -> tuple[CellResult, float]:
    """A cell, and how long it took altogether, in seconds."""
    parts = MachineParts(GCC, driver=driver, wait="spin", in_flight=in_flight)
    began = time.monotonic()
    result = measure_cell(CellSpec(design, "native", parts, seconds=0.05, faults=1), lambda _share: None)
    return result, time.monotonic() - began


@pytest.mark.parametrize("in_flight", [1, 64])
@pytest.mark.parametrize(
    ("design", "driver"), [("fd", "enter"), ("uring-multishot", "sqpoll"), ("handler", "sqpoll")], ids=lambda v: str(v)
)
def test_faults_a_second_agree_with_the_clock_and_with_the_latencies(design: str, driver: str, in_flight: int) -> None:
    """However fast a machine is: so many faults cannot have taken longer than the cell, nor less than their latencies.

    Half of all groups took p50 at least, and *in_flight* of them at most were under way at once. (Latencies are 1 % off
    at most, and answers that arrive together share a time.)
    """
    result, took_s = measured(design, driver, in_flight)
    faults = result.replays * len(GCC)
    busy_s = faults / result.faults_per_s
    assert result.faults == result.answered == faults
    assert 0.05 <= busy_s <= took_s
    assert busy_s >= 0.4 * faults * result.latency_ns.p50 / 1e9 / in_flight
    assert 0 < result.latency_ns.p50 <= result.latency_ns.p99 <= result.latency_ns.p99_9 <= 1.01 * result.latency_ns.max
    assert result.latency_ns.max <= took_s * 1e9


def test_each_latency_is_of_its_own_share(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def of(_endpoint: Endpoint, share: float) -> int:
        asked.append(share)
        return round(share * 1e6)

    monkeypatch.setattr(Endpoint, "latency_ns", of)
    assert count_cell("fd", MachineParts(GCC, driver="inline")).latency_ns == Latency(500_000, 990_000, 999_000, 0)
    assert asked == [0.5, 0.99, 0.999]


def test_one_group_in_a_thousand_decides_between_percentiles() -> None:
    """985 groups take 100 ns, ten 10 us, four 1 ms, and one 100 ms: the function's own clock is moved so."""
    pages = 1000
    workload = Workload("made", b"".join(ROW.pack(n, n << 12, 1, 1) for n in range(pages)))
    slow = {986: 10_000, 996: 1_000_000, 1000: 100_000_000}
    with Machine(MachineParts(workload, driver="inline", in_flight=1)) as machine:
        channel = machine.open("fd")
        machine.start()
        took = 100
        for number in range(1, pages + 1):
            took = slow.get(number, took)
            machine.core.produce()
            machine.core.tick(machine.core.now_ns() + took)
            (fault,) = channel.receive()
            machine.address_space.map_page(fault.pasid, fault.addr, fault.perm)
            channel.answer(fault.cookie, 0)
            channel.flush()
            machine.core.produce()
        assert machine.is_idle()
        shares = [machine.endpoint.latency_ns(share) for share in (0.5, 0.99, 0.999, 1.0)]
        assert shares == pytest.approx([100, 10_000, 1_000_000, 100_000_000], rel=0.01)
        assert machine.endpoint.counts().latency_max_ns == 100_000_000


def test_what_the_iommu_lost_is_an_error_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Iommu, "lost", lambda _iommu: 3)
    result = count_cell("fd", MachineParts(GCC, driver="inline"))
    assert result.missing == ("the IOMMU's queues lost 3 requests or answers",)
    assert not result.accounted


def test_what_a_queue_of_the_iommu_has_no_room_for_is_counted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function with more credits than the queue has entries, which a machine never gives, fills it in one turn."""
    monkeypatch.setattr("uring_iopf.machine_parts.REQUEST_QUEUES", {"vtd": 1 << 20})
    many = Workload("many", b"".join(ROW.pack(n, n << 12, 1, 1) for n in range(20_000)))
    result = count_cell("fd", MachineParts(many, driver="inline", in_flight=512, group=32))
    error, *_ = result.missing
    assert re.fullmatch(r"stuck: \d+ faults got no answer .*; the IOMMU's queues lost [1-9]\d{3,} requests .*", error)


def test_answers_that_outnumber_their_faults_are_an_error_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Machine.account

    def doubled(machine: Machine) -> object:
        account = honest(machine)
        return account._replace(answered=2 * account.answered, lost=account.lost - account.answered)

    monkeypatch.setattr(Machine, "account", doubled)
    assert "there are 5075 more answers than faults" in count_cell("fd", MachineParts(GCC, driver="inline")).missing


def test_costs_are_of_one_fault() -> None:
    for in_flight in (1, 16):
        result = count_cell("fd", MachineParts(GCC, driver="inline", in_flight=in_flight))
        assert result.per_fault.bytes_copied == 40 + 8
        assert 2 / in_flight <= result.per_fault.system_calls <= 3
