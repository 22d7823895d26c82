"""Virtual time: one result for one seed, times that a calculation by hand predicts, and nothing lost in any design.

`Predicted` is the judge: a calculation from what the page on virtual time says of cores and prices, which shares no
code with what it judges.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import uring_iopf
from my_design import Doorbell
from tests.costs_alone import ALONE
from tests.on_host import refusal
from uring_iopf._native import ffi, lib
from uring_iopf.commands import main as cli
from uring_iopf.costs import COUNTERS
from uring_iopf.costs.model import PRICES, CostModel, Price
from uring_iopf.costs.virtual import (
    DEFAULT_MODEL,
    MULTISHOT_BYTES,
    NOP_BYTES,
    digest_of,
    host_prices_of,
    in_c,
    prices_of,
)
from uring_iopf.designs import names, resolve
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.lab.cell import count_cell
from uring_iopf.lab.spec import CellInterrupted, CellSpec
from uring_iopf.lab.virtual import PlayedMachine, play_cell
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import IOMMUS, MachineParts
from uring_iopf.workloads import ROW, Workload, load_workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.lab.result import CellResult

DESIGNS: Final = [name for name in names() if not resolve(name).on_host]
WAYS: Final = [
    (name, driver)
    for name in DESIGNS
    for driver in (
        ("enter", "sqpoll") if resolve(name).polled else ("enter",) if resolve(name).has_client else ("sqpoll",)
    )
]

LIVE_WAYS: Final = [
    *WAYS,
    *(
        (name, driver)
        for name in names()
        if resolve(name).on_host and not refusal(name)
        for driver in ("enter", "sqpoll")
    ),
]

#: In nanoseconds, by the fields in C: all different, and even, so that halves and doubles are exact.
ROUND: Final[Mapping[str, float]] = {
    "system_call": 106,
    "empty_poll": 118,
    "packet_sent": 502,
    "packet_received": 302,
    "copy_byte": 2,
    "sqe": 14,
    "cqe": 18,
    "punt": 2002,
    "look": 10,
    "line": 58,
    "sleep": 1014,
    "wake": 902,
    "wake_up": 3022,
    "sent": 22,
    "answered": 26,
    "walk": 34,
    "interrupt": 402,
    "taken": 38,
    "accepted": 46,
    "client": 62,
}


PACKETS: Final = {"packet_sent", "packet_received"}


def tiny(faults: int) -> Workload:
    return Workload("tiny", b"".join(ROW.pack(10 * n, 0x1000 * (n + 1), 1, 1) for n in range(faults)))


def played(
    design: str,
    driver: str = "enter",
    *,
    wait: str = "spin",
    in_flight: int = 1,
    faults: int = 40,
    prices: Mapping[str, float] = ROUND,
    passes: int = 1,
    as_live: bool = False,
    **options: Any,
) -> CellResult:
    parts = MachineParts(tiny(faults), driver=driver, wait=wait, in_flight=in_flight, **options)
    spec = CellSpec(design, "native", parts, seconds=0.0, faults=faults * passes, mode="virtual")
    return play_cell(spec, lambda _share: None, prices=prices, as_live=as_live)


def busy_ns(result: CellResult) -> float:
    return result.faults * 1e9 / result.faults_per_s


# ---- a calculation by hand ----


@dataclass
class Predicted:
    """The total time of some faults, one at a time: three cores, each with its time, and the prices.

    Hardware: for a request it walks and sends, an interrupt reports what it has sent; for an answer it pays the line,
    and walks. What it reports is there when its turn ends.
    """

    price: Mapping[str, float]
    faults: int

    @property
    def reports(self) -> float:
        return self.price["sent"] + self.price["walk"] + self.price["interrupt"]

    @property
    def hears(self) -> float:
        return self.price["line"] + self.price["answered"] + self.price["walk"]

    def handler(self) -> float:
        """The kernel's core pays the line, takes the group and answers it; the client has no core."""
        reported, answered = self.reports, 0.0
        for _ in range(self.faults):
            answered = reported + self.price["line"] + self.price["taken"] + self.price["accepted"]
            reported = answered + self.hears + self.reports
        return answered

    def handler_on_one_worker(self) -> float:
        """No line travels, and the core takes turns: hardware, kernel, and the hardware again."""
        price = self.price
        serves = price["taken"] + price["accepted"]
        between = price["answered"] + price["walk"]
        return self.faults * (self.reports + serves) + (self.faults - 1) * between

    def host_fd_spins(self) -> float:
        """The client is the kernel, too: it sends and reads the packet, and writes and takes out the answer."""
        price = self.price
        look = price["empty_poll"] + price["look"]
        sends = price["system_call"] + price["packet_sent"]
        receives = price["system_call"] + price["packet_received"]
        looks, reported, answered = look, self.reports, 0.0
        for _ in range(self.faults):
            read = looks + look * max(0, math.ceil((reported - looks) / look))
            received = read + price["taken"] + sends + receives + price["line"]
            answered = received + price["client"] + sends + receives + price["accepted"]
            reported = answered + self.hears + self.reports
            looks = answered + look
        return answered

    def _serves(self, read: float) -> float:
        """The client reads at this time: when its answer is with the hardware."""
        price = self.price
        received = read + price["system_call"] + price["taken"] + price["line"] + 40 * price["copy_byte"]
        return received + price["client"] + price["system_call"] + price["accepted"]

    def fd_spins(self) -> float:
        look = self.price["empty_poll"] + self.price["look"]
        looks, reported, answered = look, self.reports, 0.0
        for _ in range(self.faults):
            read = looks + look * max(0, math.ceil((reported - looks) / look))
            answered = self._serves(read)
            reported = answered + self.hears + self.reports
            looks = answered + 8 * self.price["copy_byte"] + look
        return answered

    def fd_sleeps(self) -> float:
        price = self.price
        polled, reported, answered = price["system_call"], self.reports, 0.0
        for _ in range(self.faults):
            if (
                reported < polled
            ):  # poll(2) finds it, but the eventfd has been written: the client had said that it sleeps
                read, woke = polled, 0.0
            else:
                read = max(polled + price["sleep"], reported) + price["wake_up"]
                woke = price["wake"]
            answered = self._serves(read)
            hardware = max(answered, reported + woke)
            reported = hardware + self.hears + self.reports
            polled = answered + 8 * price["copy_byte"] + price["system_call"]
        return hardware


SLOW_HARDWARE: Final = {**ROUND, "interrupt": 40_002}
QUICK_HARDWARE: Final = {**ROUND, "interrupt": 0, "walk": 0, "sent": 2, "answered": 2, "line": 2}


@pytest.mark.parametrize("prices", [ROUND, SLOW_HARDWARE, QUICK_HARDWARE], ids=["round", "slow", "quick"])
@pytest.mark.parametrize("faults", [1, 2, 40])
def test_the_time_of_faults_one_by_one_is_as_predicted(faults: int, prices: Mapping[str, float]) -> None:
    predicted = Predicted(prices, faults)
    by_handler = played("handler", "sqpoll", faults=faults, prices=prices)
    assert busy_ns(by_handler) == pytest.approx(predicted.handler(), rel=1e-12)
    assert busy_ns(played("fd", faults=faults, prices=prices)) == pytest.approx(predicted.fd_spins(), rel=1e-12)
    asleep = played("fd", wait="sleep", faults=faults, prices=prices)
    assert busy_ns(asleep) == pytest.approx(predicted.fd_sleeps(), rel=1e-12)


@pytest.mark.parametrize("prices", [ROUND, SLOW_HARDWARE, QUICK_HARDWARE], ids=["round", "slow", "quick"])
@pytest.mark.parametrize("faults", [1, 2, 40])
def test_the_time_of_a_live_run_is_as_predicted(faults: int, prices: Mapping[str, float]) -> None:
    """Hardware and kernel on one core; and sockets of the host, whose packets have their copies in them."""
    predicted = Predicted({**prices, "copy_byte": 0}, faults)
    by_handler = played("handler", "sqpoll", faults=faults, prices=prices, as_live=True)
    assert busy_ns(by_handler) == pytest.approx(predicted.handler_on_one_worker(), rel=1e-12)
    by_host = played("host-fd", faults=faults, prices=predicted.price, as_live=True)
    assert busy_ns(by_host) == pytest.approx(predicted.host_fd_spins(), rel=1e-12)


@pytest.mark.parametrize("changed", ["packet_sent", "packet_received", "empty_poll", "look", "line", "taken", "client"])
def test_every_price_of_a_packet_is_charged_where_the_prediction_charges_it(changed: str) -> None:
    predicted = Predicted({**ROUND, "copy_byte": 0, changed: ROUND[changed] + 1000}, 10)
    by_host = played("host-fd", faults=10, prices=predicted.price, as_live=True)
    assert busy_ns(by_host) == pytest.approx(predicted.host_fd_spins(), rel=1e-12)


@pytest.mark.parametrize("changed", [name for name in ROUND if name not in ("sqe", "cqe", "punt", *PACKETS)])
def test_every_price_is_charged_where_the_prediction_charges_it(changed: str) -> None:
    prices = {**ROUND, changed: ROUND[changed] + 1000}
    predicted = Predicted(prices, 10)
    found = [
        busy_ns(played("handler", "sqpoll", faults=10, prices=prices)),
        busy_ns(played("fd", faults=10, prices=prices)),
        busy_ns(played("fd", wait="sleep", faults=10, prices=prices)),
    ]
    assert found == pytest.approx([predicted.handler(), predicted.fd_spins(), predicted.fd_sleeps()], rel=1e-12)


# ---- what must hold between two runs ----


@pytest.mark.parametrize("in_flight", [1, 16])
@pytest.mark.parametrize("wait", ["spin", "sleep"])
@pytest.mark.parametrize(("design", "driver"), WAYS)
def test_twice_the_prices_take_twice_the_time(design: str, driver: str, wait: str, in_flight: int) -> None:
    double = {name: 2 * price for name, price in ROUND.items()}
    once = played(design, driver, wait=wait, in_flight=in_flight)
    twice = played(design, driver, wait=wait, in_flight=in_flight, prices=double)
    assert once.accounted
    assert busy_ns(twice) == pytest.approx(2 * busy_ns(once), rel=1e-12)
    assert twice.latency_ns.max == 2 * once.latency_ns.max
    assert replace(twice.per_fault, client_cpu_ns=0) == replace(once.per_fault, client_cpu_ns=0)
    assert twice.per_fault.client_cpu_ns == 2 * once.per_fault.client_cpu_ns
    assert once.parts_ns is not None
    assert twice.parts_ns is not None
    assert twice.parts_ns.total == 2 * once.parts_ns.total


@pytest.mark.parametrize("wait", ["spin", "sleep"])
@pytest.mark.parametrize(("design", "driver"), LIVE_WAYS)
def test_as_live_nothing_is_lost_and_twice_the_prices_take_twice_the_time(design: str, driver: str, wait: str) -> None:
    """One worker for hardware and kernel, and the designs on the host, at several numbers in flight."""
    double = {name: 2 * price for name, price in ROUND.items()}
    for in_flight in (1, 16):
        once = played(design, driver, wait=wait, in_flight=in_flight, as_live=True)
        assert once.accounted, once.missing
        assert once.answered == 40
        twice = played(design, driver, wait=wait, in_flight=in_flight, prices=double, as_live=True)
        assert busy_ns(twice) == pytest.approx(2 * busy_ns(once), rel=1e-12)
        if driver == "enter" and not resolve(design).on_host:
            assert once == played(design, driver, wait=wait, in_flight=in_flight)
        if in_flight == 1 and driver == "enter":
            said, cost = getattr(ALONE[design], wait), once.per_fault
            expected = (said.system_calls, said.wakeups, said.packets_sent, said.packets_received)
            found = (cost.system_calls, cost.wakeups, cost.packets_sent, cost.packets_received)
            assert found == pytest.approx(expected, abs=0.06)


def test_one_worker_is_not_faster_than_two_cores() -> None:
    for design, driver in WAYS:
        if driver == "sqpoll" and resolve(design).has_client:
            one, two = (played(design, driver, in_flight=32, faults=512, as_live=as_live) for as_live in (True, False))
            # A client that is slower than either saves the line between the two.
            assert one.faults_per_s < (1 if design == "uring-multishot" else 1.02) * two.faults_per_s, design


NEVER_PAID: Final = {
    "handler": PACKETS
    | {"empty_poll", "system_call", "copy_byte", "sqe", "cqe", "punt", "look", "sleep", "wake", "wake_up", "client"},
    "fd": PACKETS | {"sqe", "cqe", "punt", "sleep", "wake", "wake_up"},
    "eventfd": PACKETS | {"sqe", "cqe", "punt", "sleep", "wake", "wake_up"},
    "uring-multishot": PACKETS | {"punt", "sleep", "wake", "wake_up"},
}
"""The prices that a design with a spinning client does not pay."""


@pytest.mark.parametrize("design", NEVER_PAID)
def test_a_price_counts_for_those_who_pay_it_and_for_no_others(design: str) -> None:
    driver = "enter" if resolve(design).has_client else "sqpoll"
    before = played(design, driver, in_flight=4)
    for name in ROUND:
        for changed in (0, ROUND[name] + 5000):
            after = played(design, driver, in_flight=4, prices={**ROUND, name: changed})
            assert (after == before) == (name in NEVER_PAID[design]), (name, changed)


@pytest.mark.parametrize("wait", ["spin", "sleep"])
@pytest.mark.parametrize(("design", "driver"), WAYS)
def test_all_prices_may_be_nothing(design: str, driver: str, wait: str) -> None:
    """Time stands still, and all ends all the same."""
    result = played(design, driver, wait=wait, in_flight=8, prices=dict.fromkeys(ROUND, 0))
    assert result.accounted
    assert result.answered == 40
    assert result.latency_ns.max == 0


@pytest.mark.parametrize(("design", "driver"), WAYS)
def test_more_in_flight_is_not_slower(design: str, driver: str) -> None:
    rates = [played(design, driver, in_flight=n, faults=512).faults_per_s for n in (1, 2, 8, 32)]
    assert all(more >= 0.99 * fewer for fewer, more in itertools.pairwise(rates)), rates


# ---- every design ----


@pytest.mark.parametrize("in_flight", [1, 16])
@pytest.mark.parametrize("wait", ["spin", "sleep"])
@pytest.mark.parametrize(("design", "driver"), WAYS)
def test_nothing_is_lost_and_the_counts_are_those_of_the_design(
    design: str, driver: str, wait: str, in_flight: int
) -> None:
    workload = load_workload("sqlite-index")
    parts = MachineParts(workload, driver=driver, wait=wait, in_flight=in_flight)
    spec = CellSpec(design, "native", parts, seconds=0.0, faults=1, mode="virtual")
    result = play_cell(spec, lambda _share: None, prices=ROUND)
    assert result.accounted, result.missing
    assert result.mode == "virtual"
    assert (result.faults, result.answered, result.replays) == (len(workload), len(workload), 1)
    assert result.parts_ns is not None
    counts = play_cell(spec, lambda _share: None, prices=ROUND)
    assert counts == result
    if in_flight == 1 and driver == "enter":
        said, cost = getattr(ALONE[design], wait), result.per_fault
        expected = (said.system_calls, said.wakeups, said.bytes_copied)
        assert (cost.system_calls, cost.wakeups, cost.bytes_copied) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
@pytest.mark.parametrize("design", ["uring-multishot", "uring-read", "uring-linked"])
def test_the_ring_counts_what_it_takes_and_fills(design: str, driver: str) -> None:
    """A fault by itself: one completion (the read's; of a linked read, the poll's is skipped), and an SQE to answer."""
    cost = played(design, driver, faults=400).per_fault
    sqes = 2 if design == "uring-read" else 1
    assert (cost.sqes, cost.cqes) == pytest.approx((sqes, 1), abs=0.02)
    inline = count_cell(design, MachineParts(tiny(400), driver="inline", wait="spin", in_flight=1)).per_fault
    assert (inline.sqes, inline.cqes) == pytest.approx((sqes, 1), abs=0.02)


@pytest.mark.parametrize("iommu", IOMMUS)
@pytest.mark.parametrize("group", [1, 4])
def test_every_iommu_can_be_played(iommu: str, group: int) -> None:
    if group > 1 and iommu in ("smmuv3-stall", "device-log"):
        group = 1  # a stall, or an operation with one fault at a time, is a group of one page
    result = played("fd", in_flight=8, faults=200, iommu=iommu, group=group)
    assert result.accounted, result.missing
    assert result.answered == 200


def test_passes_follow_each_other_and_their_times_add_up() -> None:
    one, three = played("fd"), played("fd", passes=3)
    assert (three.replays, three.faults, three.answered) == (3, 120, 120)
    assert three.faults_per_s == pytest.approx(one.faults_per_s, rel=0.02)


# ---- open loops ----


def test_an_open_loop_sends_at_its_times() -> None:
    """Far slower than the design: each fault is alone, and its latency is that of a fault by itself."""
    load = Load(LoadMode.TRACE, speed=0.0001)  # 100 us apart
    alone, apart = played("fd", faults=20), played("fd", faults=20, load=load)
    assert apart.accounted
    look = ROUND["system_call"] + ROUND["look"]
    assert abs(apart.latency_ns.p50 - alone.latency_ns.p50) <= look + alone.latency_ns.p50 * 0.03
    assert busy_ns(apart) == pytest.approx(19 * 100_000, rel=0.01)


def test_an_open_loop_ends_with_its_time() -> None:
    parts = MachineParts(tiny(400), driver="enter", wait="spin", load=Load(LoadMode.POISSON, 64, 1, rate=1e6))
    spec = CellSpec("fd", "native", parts, seconds=0.001, faults=1, limit_s=0.001, rate=1e6, mode="virtual")
    result = play_cell(spec, lambda _share: None, prices=ROUND)
    assert result.accounted, result.missing
    assert 900 <= result.faults <= 1100
    again = play_cell(spec, lambda _share: None, prices=ROUND)
    assert again == result
    other = replace(spec, parts=parts.with_options(load=Load(LoadMode.POISSON, 64, 1, rate=1e6, seed=1)))
    assert play_cell(other, lambda _share: None, prices=ROUND) != result


# ---- one seed, one result ----


OPTIONS: Final = ("--mode", "virtual", "--in-flight", "16", "--seed", "7", "--design")


def results_of(tmp_path: Path, name: str, *options: str) -> str:
    """The text of `results` in the JSON of another process."""
    path = tmp_path / f"{name}.json"
    command = [sys.executable, "-P", "-m", "uring_iopf", "compare", *OPTIONS, *options, "--json", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    content = json.loads(path.read_text(encoding="utf-8"))
    digest = digest_of(CostModel.load(DEFAULT_MODEL))
    assert content["model"] == {"name": DEFAULT_MODEL, "digest": digest, "calibrated": None}
    assert content["floor"] is None
    return json.dumps(content["results"])


def test_two_processes_have_the_same_results_to_the_byte(tmp_path: Path) -> None:
    options = ("fd", "--design", "uring-multishot", "--wait", "sleep")
    assert results_of(tmp_path, "one", *options) == results_of(tmp_path, "two", *options)
    poisson = ("fd", "--load", "poisson", "--rate", "2e6", "--duration", "0.01")
    assert results_of(tmp_path, "three", *poisson) == results_of(tmp_path, "four", *poisson)


def another_python() -> tuple[str, str]:
    """The interpreter of another version that can load the extension, and its version; or "", and why there is none.

    ``OTHER_PYTHON`` names one; else each of the PATH is tried.
    """
    names = [os.environ.get("OTHER_PYTHON", ""), *(f"python3.{minor}" for minor in range(20, 10, -1))]
    why = []
    for path in filter(None, map(shutil.which, filter(None, names))):
        command = [path, "-c", "import sys; print('.'.join(map(str, sys.version_info[:2]))); import cffi"]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        version = tried.stdout.strip()
        if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
            continue
        if tried.returncode == 0:
            return path, version
        why.append(f"{path} {'has no cffi' if 'cffi' in tried.stderr else 'does not run'}")
    return "", "; ".join(why) or "there is only one Python"


def test_two_pythons_have_the_same_results_to_the_byte(tmp_path: Path) -> None:
    """All designs of virtual time, by another Python, which loads the same extension."""
    python, version = another_python()
    if not python:
        pytest.skip(f"{version}; set OTHER_PYTHON to one of another version, with cffi")
    here = Path(uring_iopf.__file__).parent.parent
    found: list[tuple[str, str]] = []
    for command in ([sys.executable, "-P"], [python, "-P"]):
        path = tmp_path / f"{len(found)}.json"
        options = ["--mode", "virtual", "--seed", "7", "--wait", "sleep", "--json", str(path)]
        subprocess.run(
            [*command, "-m", "uring_iopf", "compare", *options],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(here)},
        )
        content = json.loads(path.read_text(encoding="utf-8"))
        text = path.read_text(encoding="utf-8")
        found.append((content["environment"]["python"], text[text.index('"results"') : text.index('"measurements"')]))
    (one, ours), (two, theirs) = found
    assert two.startswith(f"{version}.")
    assert one != two
    assert len(ours) > 10_000
    assert ours == theirs


# ---- interruption, and what is refused ----


def test_an_interrupted_cell_has_the_results_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of a pass, whatever each side is doing: all come to rest, and no fault is lost."""
    monkeypatch.setattr("uring_iopf.lab.virtual.TURNS", 57)
    for design, driver in WAYS:
        for wait in ("spin", "sleep"):
            calls = 0

            def stop(_share: float) -> None:
                nonlocal calls
                calls += 1
                if calls == 3:
                    raise KeyboardInterrupt

            parts = MachineParts(tiny(2000), driver=driver, wait=wait, in_flight=16)
            spec = CellSpec(design, "native", parts, seconds=0.0, faults=2000, mode="virtual")
            with pytest.raises(CellInterrupted) as caught:
                play_cell(spec, stop, prices=ROUND)
            result = caught.value.result
            assert result is not None, design
            assert result.partial
            assert 0 < result.faults < 2000
            assert result.lost == 0


@pytest.mark.parametrize("turns", [1, 7, 1000])
def test_the_length_of_a_slice_makes_no_difference(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    before = played("uring-multishot", "sqpoll", wait="sleep", in_flight=8)
    monkeypatch.setattr("uring_iopf.lab.virtual.TURNS", turns)
    assert played("uring-multishot", "sqpoll", wait="sleep", in_flight=8) == before


def test_a_design_that_cannot_be_played_is_refused() -> None:
    with pytest.raises(UsageError, match="virtual time cannot have host-fd: its calls are the host's own"):
        played("host-fd")
    with pytest.raises(UsageError, match="virtual time cannot have doorbell: it is written in Python"):
        played("my_design:Doorbell")
    assert resolve(Doorbell).inline_only


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model round-numbers", "--model: live time has no prices; add --mode virtual or both, or leave --model out"),
        ("--mode virtual --client trio", "--client trio: virtual time has the native client only"),
        ("--mode virtual --stage2 pinned", "--stage2: virtual time has no prices for two stages"),
        ("--mode virtual --depth 4", "--depth: a pass of virtual time ends when its client has served all faults"),
        ("--mode virtual --timeout 1", "--timeout: a pass of virtual time ends when its client has served all faults"),
        ("--mode virtual --design host-fd", "virtual time cannot have host-fd"),
        ("--mode virtual --model nowhere", "there is no cost model 'nowhere'"),
        ("--mode virtual --model graviton3", "the cost model graviton3 lacks prices: system_call ("),
    ],
)
def test_what_virtual_time_cannot_have_is_said_before_anything_is_measured(
    options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *options.split()]) == 2
    assert message in capsys.readouterr().err


def test_a_machine_that_runs_is_not_played() -> None:
    prices = ffi.new("struct uiopf_prices *", in_c(ROUND))
    with Machine(tiny(4), driver="enter") as machine:
        channel = machine.open("fd")
        assert lib.uiopf_virtual_new(channel.c, machine.address_space.c, machine.endpoint.c, prices, 0) == ffi.NULL  # type: ignore[attr-defined]
    with PlayedMachine(tiny(4), driver="enter") as machine:
        channel = machine.open("fd")
        with pytest.raises(KernelError, match="busy"):
            machine._start_worker(machine.driver)
        virtual = lib.uiopf_virtual_new(channel.c, machine.address_space.c, machine.endpoint.c, prices, 0)  # type: ignore[attr-defined]
        assert virtual != ffi.NULL
        assert lib.uiopf_virtual_new(channel.c, machine.address_space.c, machine.endpoint.c, prices, 0) == ffi.NULL  # type: ignore[attr-defined]
        lib.uiopf_virtual_free(virtual)


# ---- prices ----


def test_the_default_model_has_all_prices_but_those_that_no_program_can_measure() -> None:
    model = CostModel.load(DEFAULT_MODEL)
    assert set(PRICES) - set(model.prices) == {"interrupt", "table_walk"}
    fields = [name for name, _ in ffi.typeof("struct uiopf_prices").fields]
    assert sorted(prices_of(model)) == sorted(fields) == sorted(ROUND)


def test_a_model_s_prices_are_charged_once() -> None:
    """A fault of uring-multishot takes `fault_kernel` with its copies and its ring, and a NOP takes `request`."""
    model = CostModel.load(DEFAULT_MODEL)
    prices = prices_of(model)
    nop = prices["sqe"] + prices["cqe"] + NOP_BYTES * prices["copy_byte"]
    assert nop == pytest.approx(model.ns("request"))
    multishot = prices["taken"] + prices["accepted"] + prices["sqe"] + prices["cqe"]
    assert multishot + MULTISHOT_BYTES * prices["copy_byte"] == pytest.approx(model.ns("fault_kernel"))
    assert prices["sent"] + prices["answered"] == model.ns("fault_hardware")
    call = model.ns("system_call")
    assert prices["wake"] + call == model.ns("eventfd_write")


def test_a_packet_is_charged_with_its_call_once() -> None:
    model = CostModel.load(DEFAULT_MODEL)
    prices, emulated = host_prices_of(model), prices_of(model)
    assert prices["system_call"] + prices["packet_sent"] == model.ns("packet_send")
    assert prices["system_call"] + prices["packet_received"] == model.ns("packet_receive")
    assert prices["empty_poll"] == model.ns("packet_look")
    assert prices["sqe"] + prices["cqe"] == model.ns("host_request")
    assert (emulated["packet_sent"], emulated["packet_received"]) == (0, 0)
    assert emulated["empty_poll"] == emulated["system_call"]
    without = {name: price for name, price in model.prices.items() if name != "packet_look"}
    assert prices_of(replace(model, prices=without)) == emulated
    with pytest.raises(UsageError, match="lacks prices: packet_look"):
        host_prices_of(replace(model, prices=without))


def test_a_cache_line_goes_through_the_common_cache_if_there_is_one() -> None:
    model = CostModel.load(DEFAULT_MODEL)
    assert prices_of(model)["line"] == model.ns("cache_line_same_cache")
    apart = {name: price for name, price in model.prices.items() if name != "cache_line_same_cache"}
    assert prices_of(replace(model, prices=apart))["line"] == model.ns("cache_line_other")
    neither = {name: price for name, price in apart.items() if name != "cache_line_other"}
    with pytest.raises(UsageError, match="lacks prices: cache_line_same_cache"):
        prices_of(replace(model, prices=neither))


def test_a_price_that_is_too_small_for_its_parts_leaves_nothing_negative() -> None:
    model = CostModel.load(DEFAULT_MODEL)
    small = replace(model, prices={**model.prices, "fault_kernel": Price(1.0), "eventfd_write": Price(1.0)})
    assert min(prices_of(small).values()) == 0


def test_a_price_of_more_than_a_day_is_refused() -> None:
    with pytest.raises(UsageError, match="a price of more than a day: sleep; give smaller ones"):
        in_c({**ROUND, "sleep": 1e15})
    assert in_c({"copy_byte": 0.03125}) == {"copy_byte": 32}


def test_every_price_of_a_counter_is_in_the_models() -> None:
    assert {one.price for one in COUNTERS} - {None} <= set(PRICES)
    assert {one.name for one in COUNTERS if one.price is None} == {"answer_errors", "ends", "client_cpu_ns"}
