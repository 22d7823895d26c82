"""What a calibration makes of its measurements, judged with measurements and a clock of the tests' own; and one run."""

from __future__ import annotations

import errno
import itertools
import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.on_host import refusal
from uring_iopf._native import ffi, lib
from uring_iopf.commands.main import main
from uring_iopf.costs.model import PRICES, CostModel, Price
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.errors import UsageError
from uring_iopf.lab import calibration
from uring_iopf.lab.calibration import LEAST_ROUNDS, LIMIT_S, MOST_ROUNDS, Calibration, Meter, calibrate, spread
from uring_iopf.lab.processors import Pairs, pairs, two_processors
from uring_iopf.lab.result import Floor
from uring_iopf.machine import Machine
from uring_iopf.reports.calibration import document, text

GOOD: Final = Floor(100.0, 10_000.0, 100.0, together=1.0)


def run(
    meters: Sequence[Meter], *, quick: bool = True, clock: Callable[[], float] = lambda: 0.0, floor: Floor = GOOD
) -> Calibration:
    return calibrate(quick=quick, tell=lambda _label, _share: None, meters=meters, floor=lambda: floor, clock=clock)


def meter(name: str, values: Iterator[float] | float, calls: list[str] | None = None) -> Meter:
    def measure() -> dict[str, float]:
        if calls is not None:
            calls.append(name)
        return {name: values if isinstance(values, (int, float)) else next(values)}

    return Meter((name,), measure)


# ---- rounds ----


def test_a_price_is_the_median_of_the_rounds_with_its_spread() -> None:
    found = run([meter("sleep", iter([900.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0]))])
    # Sorted: 100 200 300 400 500 600 900; the quartiles are 250 and 550.
    assert found.prices() == {"sleep": Price(400.0, 0.375)}


@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=30), st.floats(1e-3, 1e3))
def test_a_spread_has_no_unit_and_no_order(values: list[float], by: float) -> None:
    assert spread(values) >= 0
    assert spread(values) == spread(sorted(values))
    assert spread([by * value for value in values]) == pytest.approx(spread(values), rel=1e-6, abs=1e-9)
    assert spread([values[0]] * len(values)) == 0
    assert spread([*values, *values]) <= (max(values) - min(values)) / 2 / statistics.median(values) + 1e-9


def test_prices_are_measured_in_turn_and_not_one_after_the_other() -> None:
    calls: list[str] = []
    run([meter(name, 1.0, calls) for name in ("sleep", "wake_up", "request")])
    assert calls == ["sleep", "wake_up", "request"] * LEAST_ROUNDS
    assert LEAST_ROUNDS >= 7


@pytest.mark.parametrize(
    ("quick", "seconds", "rounds"),
    [
        pytest.param(True, 0.0, LEAST_ROUNDS, id="quick"),
        pytest.param(False, 0.0, MOST_ROUNDS, id="a fast machine"),
        pytest.param(False, LIMIT_S / 10, 10, id="a slow machine"),
        pytest.param(False, LIMIT_S, LEAST_ROUNDS, id="a very slow machine"),
    ],
)
def test_no_round_begins_when_the_time_is_over(quick: bool, seconds: float, rounds: int) -> None:
    """*seconds* pass in each round. There are never fewer than seven rounds."""
    now = 0.0

    def slow() -> dict[str, float]:
        nonlocal now
        now += seconds
        return {"sleep": 5.0}

    found = run([Meter(("sleep",), slow)], quick=quick, clock=lambda: now)
    assert len(found.rounds) == rounds
    assert not found.partial


def test_progress_rises_to_the_end() -> None:
    shares: list[float] = []
    meters = [meter("sleep", 1.0), meter("wake_up", 1.0)]
    calibrate(
        quick=True,
        tell=lambda _label, share: shares.append(share),
        meters=meters,
        floor=lambda: GOOD,
        clock=lambda: 0.0,
    )
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(shares) == 2 + LEAST_ROUNDS * len(meters)


# ---- what cannot be measured ----


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "OSError: [Errno 24] Too many open files"),
        (MemoryError(), "MemoryError"),
        (UsageError("not here"), "UsageError: not here"),
    ],
    ids=["no descriptors", "no memory", "refused"],
)
def test_a_measurement_that_fails_has_a_reason_and_is_not_tried_again(error: Exception, reason: str) -> None:
    calls: list[str] = []

    def failing() -> dict[str, float]:
        calls.append("failing")
        raise error

    found = run([Meter(("eventfd_write", "wake_up"), failing), meter("sleep", 5.0)])
    assert calls == ["failing"]
    assert found.prices() == {"sleep": Price(5.0)}
    assert found.missing["eventfd_write"] == found.missing["wake_up"] == reason


def test_a_failure_in_a_later_round_takes_the_price_away() -> None:
    """Half of the rounds would say nothing of the rest of the run."""
    values = iter([1.0, 2.0])

    def failing() -> dict[str, float]:
        try:
            return {"sleep": next(values)}
        except StopIteration:
            raise OSError(errno.EMFILE, "full") from None

    found = run([Meter(("sleep",), failing)])
    assert found.prices() == {}
    assert "full" in found.missing["sleep"]


@pytest.mark.parametrize("nothing", [{}, {"sleep": 0.0}, {"sleep": -1.0}], ids=["left out", "0", "below 0"])
def test_a_measurement_of_nothing_is_missing(nothing: dict[str, float]) -> None:
    found = run([Meter(("sleep",), lambda: nothing)])
    assert found.prices() == {}
    assert found.missing["sleep"] == "this machine cannot measure it"


def test_every_price_is_there_or_missing_with_a_reason() -> None:
    found = run([meter("sleep", 1234.56789)])
    model = found.model("mine", "a machine", "Linux 6.12")
    assert dict(model.prices) == {"sleep": Price(1235.0)}, "four digits"
    assert set(model.missing) == set(PRICES) - {"sleep"}
    assert all(model.missing.values())
    assert "interrupt" in model.missing
    assert CostModel.loads(model.dumps()) == model


def test_ctrl_c_keeps_what_was_measured() -> None:
    def interrupted() -> dict[str, float]:
        raise KeyboardInterrupt

    found = run([meter("sleep", 5.0), Meter(("wake_up",), interrupted)])
    assert found.partial
    assert found.rounds == [{"sleep": 5.0}]
    model = found.model("mine", "", "")
    assert model.ns("sleep") == 5.0
    assert model.missing["wake_up"] == "the run was interrupted before it was measured"
    assert model.missing["table_walk"] != model.missing["wake_up"]


def test_one_processor_has_no_prices_between_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "two_processors", lambda: None)
    meters, missing = calibration.meters_here(quick=True)
    between = {"eventfd_write", "wake_up", "cache_line_same_cache", "cache_line_other"}
    assert missing == dict.fromkeys(between, "there is only one processor")
    measured = {name for one in meters for name in one.names}
    assert measured == set(PRICES) - between - {"interrupt", "table_walk"}
    found = run([meter("sleep", 1.0)])
    assert found.unfit[0].startswith("there is only one processor")


@pytest.mark.parametrize("two", [Pairs((0, 1), None, "", "why not"), Pairs((0, 1), (0, 4))], ids=["same", "both"])
def test_every_price_has_one_measurement_or_one_reason(two: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "two_processors", lambda: (0, 1))
    monkeypatch.setattr(calibration, "pairs", lambda: two)
    meters, missing = calibration.meters_here(quick=False)
    names = [name for one in meters for name in one.names]
    assert sorted([*names, *missing, "interrupt", "table_walk"]) == sorted(PRICES)
    assert missing.get("cache_line_other", "why not") == "why not"


def test_a_machine_that_changes_is_unfit() -> None:
    floors = iter([GOOD, Floor(900.0, 10_000.0, 100.0, together=0.5)])
    found = calibrate(
        quick=True,
        tell=lambda _label, _share: None,
        meters=[meter("sleep", 1.0)],
        floor=lambda: next(floors),
        clock=lambda: 0.0,
    )
    assert any("at the same time for only 50%" in why for why in found.unfit)
    assert any("the machine changed during the run" in why for why in found.unfit)


# ---- arithmetic of single prices ----


def test_a_copy_is_a_line_through_two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 ns, and 0.02 ns for each byte."""

    class Copies:
        def uiopf_measure_copy(self, size: int, _during_ns: int) -> float:
            return 1e9 / (3 + 0.02 * size)

    monkeypatch.setattr(calibration, "lib", Copies())
    assert calibration._copy(3) == pytest.approx({"copy_start": 3.0, "copy_byte": 0.02})


def test_a_line_s_one_way_is_half_of_the_way_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[int]] = []

    class Lines:
        def uiopf_measure_cache_line(self, _during_ns: int) -> float:
            asked.append(mask)
            return 1e9 / 80

    mask = before = {1, 2, 3}

    def move(_pid: int, to: set[int]) -> None:
        nonlocal mask
        mask = to

    monkeypatch.setattr(calibration, "lib", Lines())
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: mask)
    monkeypatch.setattr(os, "sched_setaffinity", move)
    assert calibration._cache_line("cache_line_other", (1, 3), 2) == {"cache_line_other": pytest.approx(40.0)}
    assert asked == [{1, 3}, {1, 3}]
    assert mask == before


def test_a_round_is_the_median_of_its_pieces() -> None:
    rates = itertools.cycle([1e9, 1e9, 1e3])
    assert calibration._rate("sleep", lambda _ns: next(rates), 3) == {"sleep": 1.0}
    assert calibration._rate("sleep", lambda _ns: 0.0, 3) == {}


# ---- processors ----


def cpus(folder: Path, caches: dict[int, list[str]], siblings: dict[int, str]) -> Path:
    for cpu, lists in caches.items():
        for n, shared in enumerate(lists):
            (folder / f"cpu{cpu}" / "cache" / f"index{n}").mkdir(parents=True)
            (folder / f"cpu{cpu}" / "cache" / f"index{n}" / "shared_cpu_list").write_text(f"{shared}\n")
    for cpu, shared in siblings.items():
        (folder / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(f"{shared}\n")
    return folder


def each(*groups: str) -> dict[int, list[str]]:
    """Processors 0, 1, …, each with a cache of its own, and one that it shares with its group."""
    return {n: [str(n), group] for n, group in enumerate(groups)}


@pytest.mark.parametrize(
    ("caches", "siblings", "allowed", "same", "other"),
    [
        pytest.param(each("0-1", "0-1"), {}, {0, 1}, (0, 1), "all cores share a cache", id="one cache"),
        pytest.param(each("0", "1"), {}, {0, 1}, "no two cores share a cache", (0, 1), id="none shared"),
        pytest.param(each("0-1", "0-1", "2-3", "2-3"), {}, {0, 1, 2, 3}, (0, 1), (0, 2), id="two and two"),
        pytest.param(each("0,2", "1,3", "0,2", "1,3"), {}, {0, 1, 2, 3}, (0, 2), (0, 1), id="in turn"),
        pytest.param(each("0,2", "1,3", "0,2", "1,3"), {}, {1, 2, 3}, (1, 3), (1, 2), id="not the first"),
        pytest.param(
            each("0-3", "0-3", "0-3", "0-3"),
            {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"},
            {0, 1, 2, 3},
            (0, 2),
            "all cores share a cache",
            id="hardware threads",
        ),
        pytest.param(each("0-1", "0-1"), {0: "0-1", 1: "0-1"}, {0, 1}, "of one core", "of one core", id="one core"),
        pytest.param({}, {}, {0, 1}, "the kernel does not say", "the kernel does not say", id="no files"),
        pytest.param(each("0-1", "0-1"), {}, {0}, "only one processor", "only one processor", id="one processor"),
    ],
)  # fmt: skip
def test_pairs_of_processors_are_told_apart_by_their_caches(
    caches: dict[int, list[str]],
    siblings: dict[int, str],
    allowed: set[int],
    same: tuple[int, int] | str,
    other: tuple[int, int] | str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: allowed)
    found = pairs(cpus(tmp_path, caches, siblings))
    for pair, why, expected in (
        (found.same, found.why_not_same, same),
        (found.other, found.why_not_other, other),
    ):
        if isinstance(expected, str):
            assert pair is None
            assert expected in why
        else:
            assert (pair, why) == (expected, "")


# ---- what C measures ----


def test_samples_stay_within_their_room() -> None:
    guard, most = 0xDEADBEEF, 3
    writes, wakes, sleeps = (ffi.new("uint32_t[]", [guard] * 8) for _ in range(3))
    n = lib.uiopf_measure_sleep(100_000_000, most, sleeps)
    assert 1 <= n <= most
    if two_processors() is not None:
        assert 1 <= lib.uiopf_measure_wake_up(100_000_000, most, writes, wakes) <= most
    for samples in (writes, wakes, sleeps):
        assert list(samples[most:8]) == [guard] * (8 - most)


def test_a_wake_up_leaves_the_caller_s_processors_as_they_were() -> None:
    before = os.sched_getaffinity(0)
    times = ffi.new("uint32_t[]", 8)
    lib.uiopf_measure_sleep(1_000_000, 8, times)
    lib.uiopf_measure_wake_up(1_000_000, 8, times, times)
    assert os.sched_getaffinity(0) == before


def test_a_copy_has_a_size() -> None:
    assert lib.uiopf_measure_copy(1, 10_000) > 0
    assert lib.uiopf_measure_copy(4096, 10_000) > 0
    assert lib.uiopf_measure_copy(0, 10_000) == lib.uiopf_measure_copy(4097, 10_000) == 0


def test_the_work_is_for_every_fault_of_the_pass_and_makes_no_calls() -> None:
    work = ffi.new("struct uiopf_work *")
    with Machine(driver="sqpoll", wait="spin", in_flight=64) as machine:
        channel = machine.open("uring-multishot")
        assert isinstance(channel, NativeChannel)

        def one_pass() -> int:
            machine.reset_tables()
            space, endpoint, load = machine.address_space, machine.endpoint, machine.load
            return lib.uiopf_measure_work(channel.c, space.c, endpoint.c, load.as_c(), work)

        assert one_pass() == -errno.EBUSY, "a worker runs"
        machine.core.stop_worker()
        for passes in (1, 2):
            assert one_pass() == 0
            assert machine.account().answered == 5075 * passes
        assert 0 < work.faults <= 2 * 5075, "all but those of rounds in which the thread was held up"
        assert min(work.hardware_ns, work.kernel_ns, work.client_ns) > 0
        assert (channel.cost().system_calls, channel.cost().wakeups) == (0, 0)
        assert lib.uiopf_measure_empty_looks(channel.c, 1_000_000) > 0
        machine.reset_tables()
        machine.start()
        machine.core.produce()
        machine.core.consume()
        assert lib.uiopf_measure_empty_looks(channel.c, 1_000_000) == 0, "a fault came"


# ---- the command ----


def test_a_quick_run_accounts_for_every_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_file, json_file = tmp_path / "mine.json", tmp_path / "all.json"
    assert main(["calibrate", "--quick", "-o", str(model_file), "--json", str(json_file)]) == 0
    model = CostModel.load(model_file)
    assert model.name == "mine"
    assert sorted([*model.prices, *model.missing]) == sorted(PRICES)
    by_cache = pairs()
    here = {"system_call", "sleep", "copy_start", "copy_byte", "request", "empty_look"}
    here |= {"fault_hardware", "fault_kernel", "fault_client", "packet_send", "packet_receive", "packet_look"}
    here |= set() if refusal("host-uring") else {"host_request"}
    here |= set() if two_processors() is None else {"eventfd_write", "wake_up"}
    here |= {"cache_line_same_cache"} if by_cache.same else set()
    here |= {"cache_line_other"} if by_cache.other else set()
    assert set(model.prices) == here
    assert all(price.ns > 0 for price in model.prices.values())
    everything = json.loads(json_file.read_text())
    assert everything["model"] == json.loads(model_file.read_text())
    assert len(everything["rounds"]) == LEAST_ROUNDS
    assert everything["fit"]["is_fit"] == (not everything["fit"]["reasons"])
    assert (everything["partial"], everything["arguments"]) == (False, {"quick": True})
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        f"uring-iopf: do not trust these numbers: {why}" for why in everything["fit"]["reasons"]
    ]
    for name in PRICES:
        assert f"\n  {name} " in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_a_model_on_standard_output_is_alone_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--quick", "-o", "-"]) == 0
    out, err = capsys.readouterr()
    assert CostModel.loads(out).name == "calibrated"
    assert "paid by" in err


@pytest.mark.parametrize("both", ["-", "one.json"])
def test_two_files_of_one_name_are_refused(both: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "-o", both, "--json", both]) == 2
    assert f"--output and --json both name {both}; give two files" in capsys.readouterr().err


def test_the_table_marks_what_varies() -> None:
    found = run(
        [
            meter("sleep", itertools.cycle([1.0, 1000.0])),
            meter("wake_up", 12_345.0),
            meter("copy_byte", 0.0123456),
        ]
    )
    model = found.model("mine", "a machine", "Linux 6.12")
    lines = text(found, model).splitlines()
    (sleep,) = (line for line in lines if line.startswith("  sleep "))
    assert sleep.split() == ["sleep", "1.00", "ns/sleep", "49950.0%", "~", "the", "sleeper"]
    (wake_up,) = (line for line in lines if line.startswith("  wake_up "))
    assert wake_up.split()[1:4] == ["12,340", "ns/wake-up", "0.0%"]
    assert "~" not in wake_up
    (copy,) = (line for line in lines if line.startswith("  copy_byte "))
    assert copy.split()[1] == "0.012"
    assert any(line.startswith("~ The rounds differ by more than 25%") for line in lines)
    assert not any(line.startswith("UNFIT") for line in lines)
    steady = run([meter("wake_up", 5.0)])
    assert "~" not in text(steady, steady.model("", "", ""))


def test_the_table_of_an_unfit_or_interrupted_run_says_so_first() -> None:
    found = Calibration(rounds=[{"sleep": 5.0}], unfit=("the machine is busy",), partial=True)
    model = found.model("mine", "a machine", "")
    lines = text(found, model).splitlines()
    assert lines[0].startswith("PARTIAL: interrupted; ")
    assert lines[2:4] == ["UNFIT: do not trust these numbers:", "  - the machine is busy"]
    written = document(found, model, {}, quick=False)
    assert written["fit"] == {"is_fit": False, "reasons": ["the machine is busy"]}
    assert (written["partial"], written["floor"]) == (True, None)
