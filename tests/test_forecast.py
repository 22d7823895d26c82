"""Predictions beside measurements (``compare --mode both``): which cells, by which prices, what the table and JSON say.

No cell is measured here but in the last tests, which compare a real prediction with virtual time by itself.
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from my_design import Doorbell
from uring_iopf.commands import main as cli
from uring_iopf.commands.shared import Parts as Commands
from uring_iopf.costs import Parts
from uring_iopf.costs.model import CostModel
from uring_iopf.costs.virtual import digest_of, host_prices_of, prices_of
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.iommufd import QueueLimits
from uring_iopf.lab.compare import Comparison, Plan, run_comparison
from uring_iopf.lab.forecast import INTERRUPTED, Predictor
from uring_iopf.lab.result import CellResult, Floor, Latency, Predicted
from uring_iopf.lab.spec import CellInterrupted, CellSpec
from uring_iopf.lab.virtual import NO_CLIENT, NO_LIMITS, NO_STAGES, play_cell, why_not
from uring_iopf.machine_parts import FunctionParts, MachineParts
from uring_iopf.reports import comparison as report
from uring_iopf.reports.document import environment, this_machine
from uring_iopf.workloads import ROW, Workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TINY: Final = Workload("tiny", ROW.pack(0, 0x1000, 1, 1))
PARTS: Final = MachineParts(TINY, driver="enter", wait="spin")
MODEL: Final = CostModel.load("round-numbers")
HERE: Final = environment()
MINE: Final = replace(MODEL, name="mine", machine=this_machine(HERE)[0], kernel=this_machine(HERE)[1])
PLAN: Final = Plan(PARTS, designs=("fd", "mine"), in_flight=(1, 64), model=MINE, both=True)
FLOOR: Final = Floor(100.0, 40_000.0, 80.0)
STARTED: Final = datetime(2026, 1, 2, tzinfo=UTC)
SPLIT: Final = Parts(1.0, 2.0, 3.0, 4.0, 5.0)


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has: with one, every comparison says that it is unfit."""
    monkeypatch.setattr("uring_iopf.lab.compare.two_processors", lambda: (0, 1))


def good(spec: CellSpec, *, faults_per_s: float = 1e6, p50: int = 1000) -> CellResult:
    found = replace(spec.nothing_measured(), faults=1000, answered=1000, replays=1, faults_per_s=faults_per_s)
    return replace(found, latency_ns=Latency(p50, 2000, 3000, 4000), parts_ns=SPLIT)


@dataclass
class Lab:
    """Measures and predicts nothing, and writes down what it was asked for; `at` has what happens instead, by step."""

    refused: dict[str, str] = field(default_factory=dict)
    at: dict[tuple[str, str, int], Callable[[CellSpec], CellResult]] = field(default_factory=dict)
    unfit: tuple[str, ...] = ()
    asked: list[tuple[object, ...]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    def step(self, what: str, spec: CellSpec) -> CellResult:
        key = what, spec.design, spec.parts.in_flight
        self.asked.append(key)
        assert spec.mode == {"measure": "live", "predict": "virtual"}[what]
        return self.at[key](spec) if key in self.at else good(spec, faults_per_s=1.5e6 if what == "predict" else 1e6)

    def measure(self, spec: CellSpec, on_progress: Callable[[float], None]) -> CellResult:
        on_progress(0.5)
        return self.step("measure", spec)

    def play(self, spec: CellSpec, on_progress: Callable[[float], None], model: CostModel) -> CellResult:
        self.models.append(model.name)
        on_progress(0.5)
        return self.step("predict", spec)

    def make_model(self, tell: Callable[[str, float], None]) -> tuple[CostModel, tuple[str, ...]]:
        self.asked.append(("calibrate",))
        tell("system_call", 0.5)
        return MINE, self.unfit

    @property
    def predictor(self) -> Predictor:
        return Predictor(lambda spec: self.refused.get(spec.design), self.play)

    def run(self, plan: Plan, on_progress: Callable[[str, float], None] | None = None) -> Comparison:
        return run_comparison(
            plan,
            on_progress=on_progress,
            measure_cell=self.measure,
            measure_floor=lambda _in_flight: FLOOR,
            make_model=self.make_model,
            predictor=self.predictor,
        )


def interrupted(_spec: CellSpec) -> CellResult:
    raise KeyboardInterrupt


def cells(comparison: Comparison) -> list[tuple[str, int, float | None, str | None]]:
    return [(one.design, one.in_flight, one.error_of_rate, one.not_predicted) for one in comparison.results]


# ---- which cells ----


def test_each_cell_is_predicted_once_after_its_first_measurement() -> None:
    lab = Lab()
    comparison = lab.run(replace(PLAN, in_flight=(1,), repeat=3))
    first = [("measure", "fd", 1), ("predict", "fd", 1), ("measure", "mine", 1), ("predict", "mine", 1)]
    assert lab.asked == [*first, *[("measure", "fd", 1), ("measure", "mine", 1)] * 2]
    assert lab.models == ["mine", "mine"]
    assert len(comparison.measurements) == 6
    assert {one.predicted for one in comparison.measurements} == {
        Predicted(1.5e6, Latency(1000, 2000, 3000, 4000), SPLIT)
    }
    assert {one.mode for one in comparison.measurements} == {"live"}
    assert cells(comparison) == [("fd", 1, 0.5, None), ("mine", 1, 0.5, None)]
    assert comparison.floor == comparison.floor_after == FLOOR
    assert comparison.calibrated is None
    assert comparison.model is MINE


def test_without_a_model_the_run_begins_with_a_calibration() -> None:
    lab = Lab(unfit=("it was disturbed",))
    comparison = lab.run(replace(PLAN, model=None, in_flight=(1,)))
    assert lab.asked[0] == ("calibrate",)
    assert lab.asked.count(("calibrate",)) == 1
    assert comparison.calibrated is comparison.model is MINE
    assert comparison.unfit == ("calibration: it was disturbed",)
    assert cells(comparison) == [("fd", 1, 0.5, None), ("mine", 1, 0.5, None)]


def test_a_cell_that_cannot_be_predicted_has_the_reason() -> None:
    lab = Lab(refused={"mine": "it has no prices"})
    comparison = lab.run(replace(PLAN, in_flight=(1,)))
    assert cells(comparison) == [("fd", 1, 0.5, None), ("mine", 1, None, "it has no prices")]
    assert ("predict", "mine", 1) not in lab.asked


def test_nothing_is_calibrated_where_nothing_can_be_predicted() -> None:
    lab = Lab(refused={"fd": "no", "mine": "no"})
    comparison = lab.run(replace(PLAN, model=None))
    assert ("calibrate",) not in lab.asked
    assert comparison.model is None
    assert len(comparison.results) == 4


def failing(_spec: CellSpec) -> CellResult:
    raise KernelError(16, "attach")


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (failing, "KernelError: [Errno 16] attach: Device or resource busy"),
        (lambda spec: replace(good(spec), lost=2, answered=998), "2 lost"),
        (lambda spec: replace(good(spec), error="stuck"), "stuck"),
    ],
    ids=["raises", "loses", "is stuck"],
)
def test_a_prediction_that_fails_is_a_reason_and_the_others_go_on(
    step: Callable[[CellSpec], CellResult], reason: str
) -> None:
    comparison = Lab(at={("predict", "fd", 1): step}).run(replace(PLAN, in_flight=(1,)))
    assert cells(comparison) == [("fd", 1, None, reason), ("mine", 1, 0.5, None)]
    assert not comparison.unaccounted, "the measurement is what it was"


# ---- interruptions ----


def test_an_interruption_of_a_prediction_leaves_the_measurement() -> None:
    comparison = Lab(at={("predict", "mine", 1): interrupted}).run(PLAN)
    assert comparison.partial
    assert cells(comparison) == [("fd", 1, 0.5, None), ("mine", 1, None, INTERRUPTED)]
    assert not comparison.results[1].partial


def test_an_interruption_of_a_measurement_leaves_what_it_had() -> None:
    def half(spec: CellSpec) -> CellResult:
        raise CellInterrupted(replace(good(spec), partial=True))

    comparison = Lab(at={("measure", "mine", 1): half}).run(PLAN)
    assert cells(comparison) == [("fd", 1, 0.5, None), ("mine", 1, None, INTERRUPTED)]
    assert [one.partial for one in comparison.results] == [False, True]


def test_an_interruption_of_the_calibration_leaves_nothing() -> None:
    class Impatient(Lab):
        def make_model(self, _tell: Callable[[str, float], None]) -> tuple[CostModel, tuple[str, ...]]:
            raise KeyboardInterrupt

    lab = Impatient()
    comparison = lab.run(replace(PLAN, model=None))
    assert comparison.partial
    assert not comparison.results
    assert comparison.model is None
    assert not lab.asked


# ---- progress ----


def test_progress_covers_calibration_measurements_and_predictions() -> None:
    told: list[tuple[str, float]] = []
    plan = replace(PLAN, model=None, in_flight=(1,), seconds=30.0)  # a calibration is as long as a cell
    Lab().run(plan, on_progress=lambda label, share: told.append((label, share)))
    label = "{}, enter, 1 in flight{}"
    assert told == [
        ("floor of this machine", 0.0),
        ("system_call", 0.1),
        *[
            (label.format(design, kind), (1 + n + half) / 5)
            for n, (design, kind) in enumerate(
                [("fd", ""), ("fd", ", predicted"), ("mine", ""), ("mine", ", predicted")]
            )
            for half in (0, 0.5)
        ],
        ("done", 1.0),
    ]


# ---- what is said ----


def rendered(comparison: Comparison) -> str:
    return report.render(comparison, HERE)


def beside(comparison: Comparison) -> list[str]:
    text = rendered(comparison)
    return text[text.index("Predicted beside measured") :].split("\n\nAll faults")[0].splitlines()


def test_the_table_has_prediction_and_error_beside_the_measurement() -> None:
    comparison = Lab(
        refused={"mine": "it has no prices"}, at={("predict", "fd", 64): lambda spec: good(spec, p50=400)}
    ).run(PLAN)
    lines = [line.split() for line in beside(comparison)]
    titles = ["design", "driver", "faults/s", "dicted", "error", "p50", "dicted", "error"]
    assert lines == [
        ["Predicted", "beside", "measured"],
        [],
        ["pre-", "pre-"],
        titles,
        ["1", "in", "flight:"],
        ["fd", "enter", "1.00M", "1.50M", "+50%", "1.00", "us", "1.00", "us", "+0%"],
        ["mine", "enter", "1.00M", "-", "-", "1.00", "us", "-", "-"],
        [],
        ["64", "in", "flight:"],
        ["fd", "enter", "1.00M", "1.00M", "+0%", "1.00", "us", "400", "ns", "-60%"],
        ["mine", "enter", "1.00M", "-", "-", "1.00", "us", "-", "-"],
        [],
        ["faults/s", "within", "30%:", "1", "of", "2", "rows"],
        ["p50", "within", "30%:", "1", "of", "2", "rows"],
        ["not", "predicted:", "mine:", "it", "has", "no", "prices"],
    ]
    assert all(len(line) <= 80 for line in rendered(comparison).splitlines())


def test_where_nothing_is_predicted_only_the_reasons_are_said() -> None:
    comparison = Lab(refused={"fd": "no prices", "mine": "no prices"}).run(PLAN)
    assert beside(comparison) == ["Predicted beside measured", "", "not predicted: fd, mine: no prices"]


def test_the_model_is_named(tmp_path: Path) -> None:
    said = " ".join(rendered(Lab().run(PLAN)).split())
    name = f"live, and predicted in virtual time by the prices of mine ({MINE.machine}; digest {digest_of(MINE)})"
    assert name in said
    assert "which this run has measured" not in said
    calibrated = Lab().run(replace(PLAN, model=None))
    assert f"{name}, which this run has measured" in " ".join(rendered(calibrated).split())
    without = Lab(refused={"fd": "no", "mine": "no"}).run(replace(PLAN, model=None))
    assert "live; no prices were measured for predictions" in " ".join(rendered(without).split())


def written(comparison: Comparison) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    content = report.document(comparison, arguments=arguments, started=STARTED, environment=HERE)
    back: dict[str, Any] = json.loads(json.dumps(content))
    return back


def test_the_json_has_prediction_and_model() -> None:
    content = written(Lab(refused={"mine": "no prices"}).run(PLAN))
    latency = {"p50": 1000, "p99": 2000, "p99_9": 3000, "max": 4000}
    parts = {"hardware": 1.0, "queueing": 2.0, "delivery": 3.0, "handler": 4.0, "answer": 5.0}
    error = {"faults_per_s": 0.5, "p50": 0.0}
    predicted = {"faults_per_s": 1.5e6, "latency_ns": latency, "parts_ns": parts, "error": error}
    assert [(one["predicted"], one["not_predicted"]) for one in content["results"]] == [
        (predicted, None),
        (None, "no prices"),
    ] * 2
    assert content["model"] == {"name": "mine", "digest": digest_of(MINE), "calibrated": None}
    calibrated = written(Lab().run(replace(PLAN, model=None)))
    assert calibrated["model"] == {"name": "mine", "digest": digest_of(MINE), "calibrated": MINE.to_json()}
    assert CostModel.loads(json.dumps(calibrated["model"]["calibrated"]), "it") == MINE


def test_nothing_measured_has_no_error() -> None:
    nothing = Lab(at={("measure", "fd", 1): lambda spec: spec.nothing_measured(error="no")}).run(PLAN).results[0]
    assert nothing.predicted is not None
    assert (nothing.error_of_rate, nothing.error_of_p50) == (None, None)


def test_prices_of_another_machine_are_a_reason_not_to_trust_the_errors() -> None:
    comparison = Lab().run(PLAN)
    assert report.of_another_machine(comparison, HERE) is None
    for theirs in (replace(MINE, machine="a PDP-11"), replace(MINE, kernel="Unix V6")):
        why = report.of_another_machine(Lab().run(replace(PLAN, model=theirs)), HERE)
        assert why is not None
        assert f"({theirs.machine}, {theirs.kernel})" in why
    assert report.of_another_machine(Lab().run(replace(PLAN, model=None)), HERE) is None


# ---- the command ----


def commands(lab: Lab) -> Commands:
    return Commands(
        measure_cell=lab.measure,
        measure_floor=lambda _in_flight: FLOOR,
        make_model=lab.make_model,
        predictor=lab.predictor,
    )


def test_the_command_measures_and_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, file = tmp_path / "mine.json", tmp_path / "out.json"
    MINE.save(model)
    options = ["compare", "--mode", "both", "--design", "fd", "--in-flight", "1", "--json", str(file)]
    lab = Lab()
    assert cli.main([*options, "--model", str(model)], commands(lab)) == 0
    assert lab.asked == [("measure", "fd", 1), ("predict", "fd", 1)]
    out, err = capsys.readouterr()
    assert "Predicted beside measured" in out
    assert not err
    content = json.loads(file.read_text())
    assert (content["arguments"]["mode"], content["arguments"]["model"]) == ("both", str(model))
    assert content["results"][0]["predicted"]["faults_per_s"] == 1.5e6
    lab = Lab()
    assert cli.main(options, commands(lab)) == 0
    assert lab.asked == [("calibrate",), ("measure", "fd", 1), ("predict", "fd", 1)]
    content = json.loads(file.read_text())
    assert content["arguments"]["model"] is None
    assert content["model"]["calibrated"] == MINE.to_json()


def test_the_command_warns_of_another_machine_s_prices(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["compare", "--mode", "both", "--model", "round-numbers", "--design", "fd", "--in-flight", "1"]
    assert cli.main(options, commands(Lab())) == 0
    out, err = capsys.readouterr()
    assert out.startswith("UNFIT: do not trust these numbers:\n  - the prices of round-numbers are of another machine")
    assert err.startswith("uring-iopf: do not trust these numbers: the prices of round-numbers are of another machine")


def test_ctrl_c_in_a_prediction_ends_the_command_with_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    def pressed(spec: CellSpec) -> CellResult:
        signal.raise_signal(signal.SIGINT)
        return good(spec)

    options = ["compare", "--mode", "both", "--design", "fd", "--in-flight", "1", "--in-flight", "16"]
    assert cli.main(options, commands(Lab(at={("predict", "fd", 16): pressed}))) == 130
    out, err = capsys.readouterr()
    assert out.startswith("PARTIAL: interrupted when 2 of 2 measurements were complete.\n")
    assert f"not predicted: fd: {INTERRUPTED}" in out
    assert "the results are partial" in err


def test_a_model_that_lacks_prices_is_refused_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lab = Lab()
    assert cli.main(["compare", "--mode", "both", "--model", "graviton3"], commands(lab)) == 2
    assert "the cost model graviton3 lacks prices: system_call (" in capsys.readouterr().err
    assert not lab.asked


def test_a_calibration_that_lacks_prices_ends_the_run() -> None:
    class OneProcessor(Lab):
        def make_model(self, _tell: Callable[[str, float], None]) -> tuple[CostModel, tuple[str, ...]]:
            prices = {name: price for name, price in MINE.prices.items() if name != "wake_up"}
            return replace(MINE, prices=prices, missing={"wake_up": "there is only one processor"}), ()

    with pytest.raises(UsageError, match=r"lacks prices: wake_up .*: there is only one processor"):
        OneProcessor().run(replace(PLAN, model=None))


# ---- what virtual time cannot have ----


def spec_of(design: str = "fd", client: str = "native", **options: Any) -> CellSpec:
    return CellSpec(design, client, MachineParts(TINY, driver="enter", **options), mode="virtual")


LIMITS: Final = {"depth": QueueLimits(depth=1), "timeout": QueueLimits(timeout_ns=1)}
TWO: Final = (FunctionParts("nic", workload=TINY), FunctionParts("gpu", workload=TINY))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (spec_of("my_design:Doorbell"), "it is written in Python"),
        (spec_of(client="trio"), NO_CLIENT),
        (spec_of(client="batch"), NO_CLIENT),
        (spec_of(stage2=0.5), NO_STAGES),
        (spec_of(limits=LIMITS["depth"]), NO_LIMITS),
        (spec_of(limits=LIMITS["timeout"]), NO_LIMITS),
        (CellSpec("fd", "native", MachineParts(None, functions=TWO), mode="virtual"), "one function"),
    ],
    ids=lambda value: value.label if isinstance(value, CellSpec) else "",
)
def test_what_cannot_be_played_has_a_reason_and_is_refused(spec: CellSpec, reason: str) -> None:
    assert reason in (why_not(spec) or "")
    with pytest.raises(UsageError, match=reason):
        play_cell(spec, lambda _share: None, prices=prices_of(MODEL))
    assert Doorbell.__module__ == "my_design"


def test_answers_by_index_can_be_played() -> None:
    assert why_not(spec_of(limits=QueueLimits(by_group_index=True))) is None


def test_a_prediction_is_what_virtual_time_finds(tmp_path: Path) -> None:
    """Live, with the real lab: predicted by the same code, from the same prices, as in a run by itself."""
    model = tmp_path / "mine.json"
    MINE.save(model)
    options = ["compare", "--design", "fd", "--design", "host-fd", "--driver", "enter", "--in-flight", "4"]
    options += ["--duration", "0.01", "--model", str(model), "--json"]
    found = {}
    for mode, designs in (("both", []), ("virtual", ["--design", "fd"])):
        file = tmp_path / f"{mode}.json"
        chosen = options if mode == "both" else ["compare", *designs, *options[5:]]
        assert cli.main([*chosen, str(file), "--mode", mode]) in (0, 1)
        found[mode] = json.loads(file.read_text())["results"]
    live, host = found["both"]
    (virtual,) = found["virtual"]
    assert (live["mode"], virtual["mode"]) == ("live", "virtual")
    for key in ("faults_per_s", "latency_ns", "parts_ns"):
        assert live["predicted"][key] == virtual[key]
    assert live["predicted"]["error"]["faults_per_s"] == virtual["faults_per_s"] / live["faults_per_s"] - 1
    assert host["not_predicted"] is None
    played = play_cell(
        CellSpec(
            "host-fd",
            "native",
            MachineParts.of("gcc-compile", driver="enter", wait="spin", in_flight=4),
            mode="virtual",
        ),
        lambda _share: None,
        prices=host_prices_of(MINE),
        as_live=True,
    )
    assert host["predicted"]["faults_per_s"] == played.faults_per_s
