"""The command line: what it accepts, what it says, and the status it ends with."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest

from uring_iopf.commands import main as cli
from uring_iopf.commands.shared import Parts
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.iommufd import DriverResponse, QueueLimits
from uring_iopf.lab.result import CellResult, Floor
from uring_iopf.lab.spec import CellInterrupted, CellSpec
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import MachineParts
from uring_iopf.reports import progress as progress_module
from uring_iopf.reports.output import Output
from uring_iopf.reports.progress import INTERVAL_S, progress
from uring_iopf.workloads import bundled_names

INVALID = DriverResponse.INVALID


@dataclass(frozen=True)
class FakeDesign:
    name: str
    summary: str = "a summary of one line"
    year: str = "2024"
    inline_only: bool = False
    has_client: bool = True
    on_host: bool = False
    polled: bool = False
    matches: tuple[str, ...] = ("cookie",)


DESIGNS = {
    design.name: design
    for design in (
        FakeDesign("bound", has_client=False),
        FakeDesign("fd"),
        FakeDesign("ring", polled=True),
        FakeDesign("py", "", "-", True),
        FakeDesign("of-host", on_host=True, polled=True),
    )
}


OLD = {"old": FakeDesign("old", matches=("index",)), "both": FakeDesign("both", matches=("cookie", "index"))}
"""Designs that are there for tests of what answers name."""
WITH_OLD = [*DESIGNS, *OLD]


def resolve(spec: str) -> FakeDesign:
    if spec == "gone:Mine":
        raise UsageError("gone:Mine: no module named 'gone'")
    return DESIGNS.get(spec) or OLD.get(spec) or FakeDesign(spec)


def good(spec: CellSpec) -> CellResult:
    return replace(spec.nothing_measured(), faults=1000, answered=1000, replays=1, faults_per_s=1e6)


def measure(spec: CellSpec, _on_progress: Callable[[float], None]) -> CellResult:
    return good(spec)


def floor(_in_flight: Iterable[int]) -> Floor:
    return Floor(100.0, 40_000.0, 80.0)


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has: with one, every comparison says that it is unfit."""
    monkeypatch.setattr("uring_iopf.lab.compare.two_processors", lambda: (0, 1))


PARTS = Parts(
    design_names=lambda: list(DESIGNS),
    resolve_design=resolve,
    measure_cell=measure,
    measure_floor=floor,
    is_installed=lambda _module: True,
)


def run(*argv: str, parts: Parts = PARTS) -> int:
    try:
        return cli.main(argv, parts)
    except SystemExit as end:
        return int(end.code or 0)


def cells_asked_for(*argv: str, parts: Parts = PARTS) -> list[CellSpec]:
    asked: list[CellSpec] = []

    def remember(spec: CellSpec, _on_progress: Callable[[float], None]) -> CellResult:
        asked.append(spec)
        return good(spec)

    assert run("compare", *argv, parts=parts._replace(measure_cell=remember)) == 0
    return asked


def test_a_signal_that_comes_while_modules_are_loaded_is_a_clear_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str, *_: object) -> None:
        if name == "uring_iopf.reports.output":
            raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "uring_iopf.reports.output")
    monkeypatch.setattr("sys.meta_path", [SimpleNamespace(find_spec=interrupted), *sys.meta_path])
    assert run("compare") == 130
    assert capsys.readouterr().err == "uring-iopf: interrupted\n"


def test_random_times_need_none_in_the_trace(tmp_path: Path) -> None:
    trace = tmp_path / "one.csv"
    trace.write_text("time_ns,pasid,thread,address,access\n5,1,0,0x1000,r\n")
    (cell,) = cells_asked_for("--workload", str(trace), "--load", "poisson", "--rate", "100", "--design", "fd")
    assert cell.parts.load == Load(LoadMode.POISSON, 1, 1, rate=100.0, seed=0)


def test_two_designs_of_one_name_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Their rows could not be told apart, and the lines that describe them were mixed up."""
    parts = PARTS._replace(resolve_design=lambda _spec: FakeDesign("mine"))
    assert run("compare", "--design", "a:Mine", "--design", "b:Mine", parts=parts) == 2
    assert "two designs have the name 'mine': 'a:Mine' and 'b:Mine'" in capsys.readouterr().err


# ---- what is measured ----


def test_by_default_all_designs_in_c_are_compared_on_a_compiler() -> None:
    cells = cells_asked_for()
    assert [(cell.parts.in_flight, cell.design, cell.parts.driver) for cell in cells] == [
        (in_flight, design, driver)
        for in_flight in (1, 16, 64)
        for design, driver in (("bound", "sqpoll"), ("fd", "enter"), ("ring", "enter"), ("ring", "sqpoll"))
    ]
    assert {(c.workload.name, c.client, c.parts.wait, c.parts.group, c.parts.seed, c.parts.load) for c in cells} == {
        ("gcc-compile", "native", "spin", 1, 0, None)
    }
    assert {(cell.seconds, cell.faults, cell.limit_s, cell.rate) for cell in cells} == {(1.0, 100_000, 10.0, None)}


HOST = [("of-host", "enter"), ("of-host", "sqpoll")]


@pytest.mark.parametrize(
    ("driver", "rows"),
    [
        (
            "both",
            [("bound", "sqpoll"), ("fd", "enter"), ("ring", "enter"), ("ring", "sqpoll"), ("py", "inline"), *HOST],
        ),
        ("enter", [("bound", "sqpoll"), ("fd", "enter"), ("ring", "enter"), ("py", "inline"), HOST[0]]),
        ("sqpoll", [("bound", "sqpoll"), ("fd", "enter"), ("ring", "sqpoll"), ("py", "inline"), HOST[1]]),
    ],
)
def test_only_what_can_be_polled_is_measured_with_a_driver_that_polls(driver: str, rows: list[tuple[str, str]]) -> None:
    designs = [word for design in DESIGNS for word in ("--design", design)]
    cells = cells_asked_for("--driver", driver, "--in-flight", "1", *designs)
    assert [(cell.design, cell.parts.driver) for cell in cells] == rows


def test_designs_on_the_host_are_measured_when_they_are_asked_for() -> None:
    """They measure the host's kernel: beside the emulated ones by default they would look like one more of these."""
    for name in ("of-host", "host"):
        cells = cells_asked_for("--design", "fd", "--design", name, "--in-flight", "1", "--driver", "enter")
        assert [cell.design for cell in cells] == ["fd", "of-host"]
    none = PARTS._replace(design_names=lambda: ["fd"])
    assert run("compare", "--design", "host", parts=none) == 2


def test_every_option_reaches_the_cell() -> None:
    options = "--workload numpy-sort --design ring --client trio --driver sqpoll --wait sleep --in-flight 48 --group 32"
    more = "--seed 18446744073709551615 --duration 2.5 --fault-file unkeyed"
    (cell,) = cells_asked_for(*options.split(), *more.split())
    parts = MachineParts(
        cell.workload, driver="sqpoll", wait="sleep", in_flight=48, group=32, seed=2**64 - 1, fault_file="unkeyed"
    )
    assert cell == CellSpec("ring", "trio", parts, seconds=2.5, limit_s=25.0, split=True)
    assert cell.workload.name == "numpy-sort"


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ("--depth 4", QueueLimits(depth=4, depth_response=INVALID, timeout_response=INVALID)),
        ("--timeout 0.25", QueueLimits(timeout_ns=250_000_000, depth_response=INVALID, timeout_response=INVALID)),
        ("--timeout 0.000000001", QueueLimits(timeout_ns=1, depth_response=INVALID, timeout_response=INVALID)),
        ("--match cookie", QueueLimits(depth_response=INVALID, timeout_response=INVALID)),
        ("--match index", QueueLimits(by_group_index=True, depth_response=INVALID, timeout_response=INVALID)),
        (
            "--depth 512 --timeout 3600 --match index",
            QueueLimits(512, 3600 * 10**9, INVALID, by_group_index=True, depth_response=INVALID),
        ),
    ],
    ids=str,
)
def test_limits_are_those_of_the_machine(options: str, limits: QueueLimits) -> None:
    parts = PARTS._replace(design_names=lambda: WITH_OLD)
    (cell,) = cells_asked_for("--design", "both", "--in-flight", "1", *options.split(), parts=parts)
    assert cell.parts.limits == limits
    with Machine(cell.parts) as machine:
        machine.open("fd")
        assert machine.queue.limits == limits


@pytest.mark.parametrize(
    ("match", "designs", "without"),
    [("index", ["bound", "old", "both"], "fd, ring"), ("cookie", ["bound", "fd", "ring", "both"], "old")],
)
def test_designs_that_cannot_name_groups_so_are_left_out_with_a_sentence(
    match: str, designs: list[str], without: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = PARTS._replace(design_names=lambda: WITH_OLD)
    cells = cells_asked_for("--match", match, "--in-flight", "1", "--driver", "enter", parts=parts)
    assert [cell.design for cell in cells] == designs
    assert f"without {without}, which cannot" in " ".join(capsys.readouterr().out.split())


def test_a_design_that_is_asked_for_and_cannot_name_groups_so_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parts = PARTS._replace(design_names=lambda: WITH_OLD)
    assert run("compare", "--match", "cookie", "--design", "fd", "--design", "old", parts=parts) == 2
    message = "--match cookie: the answers of old have a place for device, PASID and group index only; leave --match or"
    assert message in capsys.readouterr().err


def test_what_is_given_twice_is_measured_once() -> None:
    options = ["--design", "fd", "--design", "py", "--design", "fd", "--in-flight", "8", "--in-flight", "8"]
    assert [cell.design for cell in cells_asked_for(*options)] == ["fd", "py"]


def test_a_design_of_ones_own_is_looked_for_where_one_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    assert [cell.design for cell in cells_asked_for("--design", "mine:Mine", "--in-flight", "1")] == ["mine:Mine"]
    assert sys.path == [str(tmp_path), "/elsewhere"]


def test_repeat_measures_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(cells_asked_for("--design", "fd", "--in-flight", "1", "--repeat", "3")) == 3
    assert "measured 3 times, the median by faults/s is shown" in capsys.readouterr().out


# ---- open loops ----


def test_an_open_loop_is_measured_at_every_rate_for_its_time() -> None:
    options = "--design fd --load poisson --rate 1000 --rate 2.5e6 --duration 3 --seed 7 --group 2"
    cells = cells_asked_for(*options.split())
    loads = [cell.parts.load for cell in cells]
    assert [cell.rate for cell in cells] == [1000, 2.5e6]
    assert [(load.mode, load.rate, load.seed, load.group) for load in loads if load] == [
        (LoadMode.POISSON, 1000, 7, 2),
        (LoadMode.POISSON, 2.5e6, 7, 2),
    ]
    assert {(cell.seconds, cell.limit_s, cell.faults) for cell in cells} == {(3.0, 3.0, 1)}
    assert {(cell.parts.in_flight, load.in_flight) for cell, load in zip(cells, loads, strict=True) if load} == {
        (512, 512)
    }


def test_a_trace_s_times_are_scaled_to_the_rate() -> None:
    cells = cells_asked_for(*["--design", "fd", "--load", "trace", "--rate", "1e6", "--in-flight", "64"])
    recorded = cells_asked_for(*["--design", "fd", "--load", "trace"])
    mean = cells[0].workload.mean_rate
    assert [(cell.rate, cell.parts.load and cell.parts.load.speed) for cell in cells] == [(1e6, 1e6 / mean)]
    assert [(cell.rate, cell.parts.load and cell.parts.load.speed) for cell in recorded] == [(mean, 1)]
    assert cells[0].parts.in_flight == 64


def test_a_trace_without_times_has_none_to_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "my.csv"
    trace.write_text("time_ns,pasid,thread,address,access\n5,1,0,0x1000,r\n5,1,0,0x2000,r\n")
    assert run("compare", "--workload", str(trace), "--load", "trace") == 2
    assert f"--load trace: all faults of {trace} have the same time" in capsys.readouterr().err


# ---- how many can be in flight ----


def test_of_the_default_numbers_in_flight_those_are_measured_that_can_be(tmp_path: Path) -> None:
    trace = tmp_path / "my.csv"
    trace.write_text("time_ns,pasid,thread,address,access\n" + "5,1,0,0x1000,r\n" * 5)
    cells = cells_asked_for("--workload", str(trace), "--design", "fd")
    assert [cell.parts.in_flight for cell in cells] == [1, 5]


def test_a_number_in_flight_that_cannot_be_names_the_greatest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "my.csv"
    trace.write_text("time_ns,pasid,thread,address,access\n" + "5,1,0,0x1000,r\n" * 5)
    assert run("compare", "--workload", str(trace), "--in-flight", "5") == 0
    assert run("compare", "--workload", str(trace), "--in-flight", "6") == 2
    message = (
        f"--in-flight 6: the workload {trace}, with --group 1 and --iommu vtd, reaches 5 groups in flight at most; "
        "give 1 to 5\n"
    )
    assert capsys.readouterr().err.endswith(message)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--in-flight 0", "argument --in-flight: '0' is not a whole number from 1 to 512"),
        ("--in-flight 513", "'513' is not a whole number from 1 to 512"),
        ("--in-flight 1,16", "'1,16' is not a whole number from 1 to 512"),
        ("--in-flight=-1", "'-1' is not a whole number from 1 to 512"),
        ("--in-flight 1_6", "'1_6' is not a whole number from 1 to 512"),
        ("--group 33", "'33' is not a whole number from 1 to 32"),
        ("--group 0", "'0' is not a whole number from 1 to 32"),
        ("--repeat 0", "'0' is not a whole number from 1 to 1000"),
        ("--seed 18446744073709551616", "is not a whole number from 0 to 18446744073709551615"),
        (f"--seed {'9' * 5000}", "is not a whole number from 0 to 18446744073709551615"),
        ("--client curio", "argument --client: invalid choice: 'curio'"),
        ("--driver inline", "argument --driver: invalid choice: 'inline'"),
        ("--wait nap", "argument --wait: invalid choice: 'nap'"),
        ("--work gcc-compile", "unrecognized arguments: --work"),
        ("--workload gcc", "there is no workload or file 'gcc'; give a bundled workload (gcc-compile, numpy-sort"),
        ("--rate 1000", "--rate: a closed loop has no rate; add --load poisson or --load trace"),
        ("--load poisson", "--load poisson: the rate is missing; add --rate N"),
        ("--load poisson --rate 0", "argument --rate: '0' is not a number above 0 and up to 1e+09"),
        ("--load poisson --rate=-5", "argument --rate: '-5' is not a number above 0 and up to 1e+09"),
        ("--load poisson --rate nan", "argument --rate: 'nan' is not a number above 0 and up to 1e+09"),
        ("--load poisson --rate 1e10", "argument --rate: '1e10' is not a number above 0 and up to 1e+09"),
        ("--load poisson --rate 1,2", "argument --rate: '1,2' is not a number above 0 and up to 1e+09"),
        ("--load open --rate 1", "argument --load: invalid choice: 'open'"),
        ("--depth 0", "argument --depth: '0' is not a whole number from 1 to 512"),
        ("--depth 513", "argument --depth: '513' is not a whole number from 1 to 512"),
        ("--depth 1.5", "argument --depth: '1.5' is not a whole number from 1 to 512"),
        ("--timeout 0", "argument --timeout: '0' is not a number above 0 and up to 3600"),
        ("--timeout=-1", "argument --timeout: '-1' is not a number above 0 and up to 3600"),
        ("--timeout 3601", "argument --timeout: '3601' is not a number above 0 and up to 3600"),
        ("--timeout 100ms", "argument --timeout: '100ms' is not a number above 0 and up to 3600"),
        ("--match grpid", "argument --match: invalid choice: 'grpid'"),
        (
            "--match index --design fd",
            "--match index: the answers of fd have a place for a cookie only; leave --match or the design out",
        ),
        ("--duration 0", "argument --duration: '0' is not a number above 0 and up to 3600"),
        ("--duration 1h", "argument --duration: '1h' is not a number above 0 and up to 3600"),
        ("--in-flight 512 --group 32", "the workload gcc-compile, with --group 32 and --iommu vtd, reaches "),
        (
            "--design fdd",
            "--design 'fdd': there is no such design; the designs are bound, fd, ring, py, of-host; name",
        ),
        ("--design gone:Mine", "gone:Mine: no module named 'gone'"),
        (
            "--json /nowhere/at/all.json",
            "--json /nowhere/at/all.json: the file cannot be written",
        ),
    ],
    ids=lambda value: value[:40],
)
def test_a_bad_option_is_refused_before_anything_is_measured(
    options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(_spec: CellSpec, _on_progress: Callable[[float], None]) -> CellResult:
        raise AssertionError("measured")

    assert run("compare", *options.split(), parts=PARTS._replace(measure_cell=never)) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert not out


def test_the_batch_client_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "--client", "batch", parts=PARTS._replace(is_installed=lambda module: module != "numpy")) == 2
    assert "pip install 'uring-iopf[numpy]'" in capsys.readouterr().err


def test_a_bad_trace_line_is_told_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "my.csv"
    trace.write_text("time_ns,pasid,thread,address,access\n0,1,0,0x1000,r\n1,1,0,0x1001,r\n")
    assert run("compare", "--workload", str(trace)) == 2
    message = f"uring-iopf compare: {trace}, line 3: expected address to be a multiple of 0x1000, found 0x1001\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("argv", [[], ["nonsense"]], ids=["nothing", "nonsense"])
def test_a_command_is_required(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv) == 2
    assert "usage: uring-iopf" in capsys.readouterr().err


# ---- how it ends ----


def test_all_accounted_for_is_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare") == 0
    out, err = capsys.readouterr()
    assert "Speed and latency" in out
    assert "floor of this machine" in out
    assert not err


def test_a_machine_that_is_unfit_is_named_in_table_json_and_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(_in_flight: Iterable[int]) -> Floor:
        return Floor(2500.0, 40_000.0, 80.0)

    file = tmp_path / "out.json"
    assert run("compare", "--json", str(file), parts=PARTS._replace(measure_floor=slow)) == 0
    reason = "a cache line takes 2.5 us there and back; 10 ns to 1 us is usual"
    out, err = capsys.readouterr()
    assert err == f"uring-iopf: do not trust these numbers: {reason}\n"
    assert out.startswith(f"UNFIT: do not trust these numbers:\n  - {reason}\n\n")
    assert json.loads(file.read_text())["fit"] == {"is_fit": False, "reasons": [reason]}


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"lost": 7, "answered": 993}, "7 lost"),
        ({"answered": 999}, "999 answers to 1,000 faults"),
        ({"unmapped": 4}, "4 answered with SUCCESS, but the page was not mapped"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_accounted_for_is_a_failure(
    changes: dict[str, Any], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def leaky(spec: CellSpec, _on_progress: Callable[[float], None]) -> CellResult:
        return replace(good(spec), **changes) if (spec.design, spec.parts.in_flight) == ("fd", 16) else good(spec)

    assert run("compare", parts=PARTS._replace(measure_cell=leaky)) == 1
    out, err = capsys.readouterr()
    assert err == f"uring-iopf: not accounted for: fd, enter, 16 in flight: {missing}\n"
    assert f"fd, enter, 16 in flight: {missing}" in out


def test_a_cell_that_fails_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(spec: CellSpec, _on_progress: Callable[[float], None]) -> CellResult:
        raise KernelError(16, "attach")

    assert run("compare", "--design", "fd", "--in-flight", "1", parts=PARTS._replace(measure_cell=failing)) == 1
    assert "fd, enter, 1 in flight: KernelError: [Errno 16] attach" in capsys.readouterr().err


def interrupted_at(in_flight: int, *, leaves: bool) -> Parts:
    def interrupted(spec: CellSpec, _on_progress: Callable[[float], None]) -> CellResult:
        if spec.parts.in_flight == in_flight:
            raise CellInterrupted(replace(good(spec), partial=True) if leaves else None)
        return good(spec)

    return PARTS._replace(measure_cell=interrupted)


@pytest.mark.parametrize(("leaves", "rows"), [(False, 4), (True, 5)], ids=["nothing of the cell", "part of the cell"])
def test_an_interrupted_comparison_prints_what_it_has(
    leaves: bool, rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "partial.json"
    assert run("compare", "--json", str(file), parts=interrupted_at(16, leaves=leaves)) == 130
    out, err = capsys.readouterr()
    assert out.startswith("PARTIAL: interrupted when 4 of 12 measurements were complete.\n")
    assert ("(bound) ~" in out) == leaves
    assert "results are partial" in err
    content = json.loads(file.read_text())
    assert content["partial"] is True
    assert [result["partial"] for result in content["results"]] == [*[False] * 4, True][:rows]


def test_ctrl_c_itself_interrupts(capsys: pytest.CaptureFixture[str]) -> None:
    def pressed(spec: CellSpec, _on_progress: Callable[[float], None]) -> CellResult:
        if spec.parts.in_flight == 16:
            signal.raise_signal(signal.SIGINT)
        return good(spec)

    assert run("compare", parts=PARTS._replace(measure_cell=pressed)) == 130
    assert capsys.readouterr().out.startswith("PARTIAL: interrupted when 4 of 12 measurements were complete.\n")


def test_an_interruption_before_the_measurement_is_one_too(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> Sequence[str]:
        raise KeyboardInterrupt

    assert run("compare", parts=PARTS._replace(design_names=interrupt)) == 130
    assert capsys.readouterr().err == "uring-iopf: interrupted\n"


# ---- the JSON document ----


def test_the_json_file_has_the_arguments_with_their_defaults(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    assert run("compare", "--design", "fd", "--seed", "5", "--json", str(file)) == 0
    content = json.loads(file.read_text())
    assert content["arguments"] == {
        "workload": "gcc-compile",
        "design": ["fd"],
        "client": "native",
        "driver": "both",
        "mode": "live",
        "model": None,
        "fault_file": "keyed",
        "iommu": "vtd",
        "stage2": None,
        "stage_known_by": None,
        "depth": None,
        "timeout": None,
        "match": None,
        "wait": "spin",
        "in_flight": [1, 16, 64],
        "group": 1,
        "stalls": None,
        "load": "closed",
        "rate": [],
        "duration": 1.0,
        "repeat": 1,
        "seed": 5,
        "json": str(file),
    }
    assert content["seed"] == 5
    assert [result["in_flight"] for result in content["results"]] == [1, 16, 64]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_does_not_take_the_table_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "--json", "/dev/full") == 1
    out, err = capsys.readouterr()
    assert "Speed and latency" in out
    assert err == "uring-iopf: --json /dev/full: the file was not written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["compare"], ["conformance", "report"], ["--version"], ["check", "fd"]], ids=str)
@pytest.mark.parametrize("closed", [False, True], ids=["full", "closed"])
def test_a_standard_output_that_accepts_nothing_is_a_clear_line(
    command: list[str], closed: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    why = os.strerror(errno.EBADF if closed else errno.ENOSPC)
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", None if closed else full)
        assert run(*command) == 1
        what = "--output -: the file was not written" if command[0] == "conformance" else "standard output"
        assert capsys.readouterr().err == f"uring-iopf: {what}: {why}\n"


def test_a_closed_standard_output_leaves_the_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "out.json"
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert run("compare", "--json", str(file)) == 1
    assert len(json.loads(file.read_text())["results"]) == 12


def test_the_file_behind_standard_input_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time_ns,pasid,thread,address,access\n0,1,0,0x1000,r\n")
    with trace.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert run("compare", "--workload", "-", "--in-flight", "1", "--json", str(trace)) == 2
    assert "this file is the command's input" in capsys.readouterr().err
    assert trace.read_text().startswith("time_ns")


def test_a_closed_standard_input_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert run("compare", "--workload", "-") == 2
    assert "standard input: expected a stream that can be read, found a closed one" in capsys.readouterr().err


def test_an_error_has_no_character_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "--workload", "a\x1b[2Jb\udcff") == 2
    assert r"'a\x1b[2Jb\udcff'" in capsys.readouterr().err
    assert run("compare", "--json", "/nowhere/a\x1b[2J\udcff") == 2
    assert r"/nowhere/a\x1b[2J\udcff" in capsys.readouterr().err


# ---- help ----


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    for part in ("page faults", "uring-iopf compare --workload my.csv", "compare --help", "tutorial", "bench"):
        assert part in out


def test_help_of_compare_explains_options_designs_workloads_and_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "--help") == 0
    out = capsys.readouterr().out
    for option in [
        "workload",
        "design",
        "client",
        "driver",
        "wait",
        "in-flight",
        "group",
        "repeat",
        "seed",
        "json",
        "load",
        "rate",
        "duration",
    ]:
        assert f"--{option} " in out
    for part in [*DESIGNS, "a summary of one line (2024)", "MODULE:CLASS", *bundled_names(), "answered for", "p50"]:
        assert part in out
    assert max(map(len, out.splitlines())) <= 80


def test_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("uring-iopf 0.")


HEAVY = {"rich", "numpy", "hypothesis", "trio"}


@pytest.mark.parametrize(
    "statement",
    [
        "import uring_iopf",
        "from uring_iopf.commands.main import main; main(['--help'])",
        "from uring_iopf.commands.main import main; main(['compare', '--workload', 'nonsense'])",
        "import runpy; sys.argv[1:] = ['--help']; runpy.run_module('uring_iopf', run_name='__main__')",
    ],
    ids=["import", "--help", "a mistake", "python -m uring_iopf --help"],
)
def test_nothing_heavy_is_loaded_for(statement: str) -> None:
    program = (
        "import contextlib, io, sys\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    {statement}\n"
        f"print(*sorted({HEAVY!r} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = "from test_cli import PARTS, cli; raise SystemExit(cli.main(['compare'], PARTS))"
    here = str(Path(__file__).parent)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        environment = {**os.environ, "PYTHONPATH": here}
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


# ---- bench ----


def test_bench_is_told_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def bench(*, out: TextIO, json_file: Output | None, quick: bool) -> int:
        out.write(f"quick={quick}\n")
        if json_file is not None:
            assert json_file.write("{}") is None
        return 1

    parts = PARTS._replace(bench=bench)
    file = tmp_path / "bench.json"
    assert run("bench", "--quick", "--json", str(file), parts=parts) == 1
    assert run("bench", parts=parts) == 1
    assert capsys.readouterr().out == "quick=True\nquick=False\n"
    assert file.read_text() == "{}"


# ---- progress ----


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_silent_where_nobody_looks() -> None:
    stream = io.StringIO()
    with progress(stream) as tell:
        tell("fd", 0.5)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "one line"])
def test_progress_is_drawn_on_a_terminal_and_taken_away(rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if rich:
        pytest.importorskip("rich")
    monkeypatch.setattr(progress_module, "_have_rich", lambda: rich)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with suppress(KeyboardInterrupt), progress(stream) as tell:
        tell("[fd], 1 in flight", 0.25)
        raise KeyboardInterrupt
    text = stream.getvalue()
    assert "25%" in text
    assert "[fd], 1 in flight" in text
    if rich:
        assert text.endswith("\x1b[1A\x1b[2K")  # the line above, erased
    else:
        assert text.endswith(f"\r{' ' * 72}\r")


def test_progress_is_drawn_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_have_rich", lambda: False)
    now = 100.0
    stream = Terminal()
    with progress(stream, clock=lambda: now) as tell:
        for share in (0.10, 0.11, 0.12):
            tell("fd", share)
        tell("mine", 0.13)
        now += INTERVAL_S
        tell("mine", 0.14)
    assert [line[:5].strip() for line in stream.getvalue().split("\r")[1:-2]] == ["10%", "13%", "14%"]
