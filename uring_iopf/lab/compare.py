"""A comparison: every design at every number of faults in flight, one cell after another, and the machine's floor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from uring_iopf.errors import IopfError, UsageError, told_with_place
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.lab.fit import reasons_against
from uring_iopf.lab.forecast import Forecasts, Predictor
from uring_iopf.lab.processors import two_processors
from uring_iopf.lab.spec import CellInterrupted, CellSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from uring_iopf.costs.model import CostModel
    from uring_iopf.lab.forecast import MakeModel
    from uring_iopf.lab.result import CellResult, Floor
    from uring_iopf.machine_parts import MachineParts
    from uring_iopf.workloads import Workload

    MeasureCell: TypeAlias = Callable[[CellSpec, Callable[[float], None]], CellResult]
    MeasureFloor: TypeAlias = Callable[[Iterable[int]], Floor]
    OnProgress: TypeAlias = Callable[[str, float], None]

PATIENCE: Final = 10.0
"""A measurement in a closed loop is stopped after so many times its seconds, even with fewer faults than planned."""
CALIBRATION_S: Final = 30.0
"""The time that a calibration takes, about: its part of the progress."""


@dataclass(frozen=True)
class Plan:
    """The plan of a comparison. Every design gets the same client and the same machine, with each of *in_flight*.

    *parts*: the machine. *drivers*: the drivers of designs that are measured with others than the one of *parts*.
    *load*: ``closed``, ``trace`` or ``poisson``. *rates*: the rates of an open loop, in faults per second (None: the
    recorded rate of a trace). *repeat*: the number of measurements of each cell. *seconds* and *faults*: a measurement
    in a closed loop must reach both, but stops after `PATIENCE`; in an open loop it takes *seconds*. *names*: the
    name of each design that is given as ``MODULE:CLASS``. *about*: a line of text on each design, by its name.
    *bounds*: the names of the designs without user space, which are bounds for the others. *ways*: machines of two
    stages, one for each way to know which has faulted; every design gets each of them in place of *parts*. *model*: the
    prices of virtual time, in which a closed loop ends with its faults, and *seconds* are those of the model; None:
    everything is measured live. *both*: every cell is measured live and predicted, by *model*, or by one that the run
    measures first. *match*: the name of a group in all designs' answers, ``cookie`` or ``index``; None: as
    each was proposed. *left_out*: the names of designs that cannot do so, and would be among *designs* otherwise.
    """

    parts: MachineParts
    designs: tuple[str, ...]
    in_flight: tuple[int, ...]
    client: str = "native"
    repeat: int = 1
    seconds: float = 1.0
    faults: int = 100_000
    drivers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    load: str = "closed"
    rates: tuple[float | None, ...] = (None,)
    names: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    bounds: frozenset[str] = frozenset()
    ways: tuple[MachineParts, ...] = ()
    model: CostModel | None = None
    match: str | None = None
    left_out: tuple[str, ...] = ()
    both: bool = False

    @property
    def mode(self) -> str:
        """The mode of the cells, ``live`` or ``virtual``."""
        return "live" if self.is_live else "virtual"

    @property
    def is_live(self) -> bool:
        """Whether the cells are measured on this machine."""
        return self.both or self.model is None

    @property
    def workload(self) -> Workload:
        """The workload to replay."""
        assert self.parts.workload is not None, "a comparison replays something"
        return self.parts.workload

    @property
    def cells(self) -> tuple[CellSpec, ...]:
        """The cells of the table: all designs at one load, then all designs at the next."""
        return tuple(
            self._cell(parts, design, driver, in_flight, rate)
            for rate in self.rates
            for in_flight in self.in_flight
            for design in self.designs
            for driver in self.drivers.get(design, (self.parts.driver,))
            for parts in self.ways or (self.parts,)
        )

    def _cell(self, parts: MachineParts, design: str, driver: str, in_flight: int, rate: float | None) -> CellSpec:
        parts = replace(parts, driver=driver, in_flight=in_flight)
        if self.load == "closed":
            seconds, limit_s = self.seconds, self.seconds * PATIENCE
            return CellSpec(
                design,
                self.client,
                parts,
                seconds=seconds,
                faults=self.faults,
                limit_s=limit_s,
                split=True,
                mode=self.mode,
            )
        mode = LoadMode[self.load.upper()]
        recorded = self.workload.mean_rate
        offered = recorded if rate is None else rate
        speed = offered / recorded if mode is LoadMode.TRACE else 1.0  # the faults of others may have no times
        load = Load(mode, in_flight, parts.group, speed=speed, rate=offered, seed=parts.seed)
        parts = replace(parts, load=load)
        seconds = self.seconds
        return CellSpec(
            design,
            self.client,
            parts,
            seconds=seconds,
            faults=1,
            limit_s=seconds,
            rate=offered,
            split=True,
            mode=self.mode,
        )


@dataclass(frozen=True)
class Comparison:
    """The results of a plan.

    *results*: a result for each cell that was measured, in the plan's order; of several measurements, the median by
    faults/s. *measurements*: all measurements, in the order in which they were made. *floor* and *floor_after*: the
    floor of the machine before and after the measurements. *partial*: the run was interrupted. *unfit*: the reasons not
    to trust the results. *rounds*: for each of *results*, all measurements of its cell. *calibrated*: the model that
    the run has measured for its predictions; None: it has measured none.
    """

    plan: Plan
    results: tuple[CellResult, ...]
    measurements: tuple[CellResult, ...]
    floor: Floor | None
    partial: bool = False
    floor_after: Floor | None = None
    unfit: tuple[str, ...] = ()
    rounds: tuple[tuple[CellResult, ...], ...] = ()
    calibrated: CostModel | None = None

    @property
    def model(self) -> CostModel | None:
        """The prices of virtual time; None: there were none."""
        return self.calibrated or self.plan.model

    @property
    def unaccounted(self) -> tuple[CellResult, ...]:
        """The measurements in which a fault is not accounted for."""
        return tuple(result for result in self.measurements if not result.accounted)


def run_comparison(
    plan: Plan,
    *,
    on_progress: OnProgress | None = None,
    measure_cell: MeasureCell | None = None,
    measure_floor: MeasureFloor | None = None,
    make_model: MakeModel | None = None,
    predictor: Predictor | None = None,
) -> Comparison:
    """Measure every cell of *plan*; on Ctrl-C return what there is, marked as partial.

    Repetitions go round by round, so that what disturbs the machine for a while does not fall on one cell alone, and
    an interrupted run has the whole table early. A cell that fails stands in the result with its error; the others
    are measured all the same. In virtual time there is no floor, and nothing can be unfit: the machine does not matter.
    A plan with *both* predicts each cell after its first measurement. *make_model* measures the prices for that, if the
    plan has none. *on_progress* is told what is being measured, and the share of all that is done.

    Raises: UsageError, the plan asks for something that cannot be.
    """
    measure = measure_cell or _real_measure_cell(plan)
    cells = plan.cells
    forecasts = Forecasts(cells, plan.model, predictor or _real_predictor()) if plan.both else None
    calibration = CALIBRATION_S / plan.seconds if forecasts is not None and forecasts.needs_model else 0.0
    total = len(cells) * plan.repeat + calibration + (0 if forecasts is None else forecasts.wanted)
    done = 0.0
    by_cell: list[list[CellResult]] = [[] for _ in cells]
    measurements: list[CellResult] = []
    floor: Floor | None = None
    floor_after: Floor | None = None
    interrupted = False
    real_floor = measure_floor or _real_measure_floor()

    def keep(index: int, result: CellResult) -> None:
        if forecasts is not None:
            result = forecasts.beside(index, result)
        measurements.append(result)
        by_cell[index].append(result)

    def report(label: str, within: float = 0.0) -> None:
        if on_progress is not None:
            on_progress(label, min((done + within) / total, 1.0))

    def measured(spec: CellSpec) -> CellResult:
        report(spec.label)
        name = plan.names.get(spec.design, spec.design)
        return _measured(measure, spec, name, lambda share: report(spec.label, share))

    try:
        if plan.is_live:
            report("floor of this machine")
            floor = real_floor(plan.in_flight)
        if forecasts is not None and calibration:
            assert make_model is not None, "a plan with both and no model needs one who measures it"
            forecasts.calibrate(make_model, lambda label, share: report(label, share * calibration))
            done += calibration
        for number in range(len(cells) * plan.repeat):
            index = number % len(cells)
            try:
                result = measured(cells[index])
                done += 1
            except CellInterrupted as interruption:
                if interruption.result is not None:
                    keep(index, interruption.result)
                raise
            try:
                if forecasts is not None and forecasts.is_due(index):
                    label = f"{cells[index].label}, predicted"
                    report(label)
                    forecasts.make(index, partial(report, label))
                    done += 1
            finally:
                keep(index, result)
        if plan.is_live:
            floor_after = real_floor(plan.in_flight)
        report("done")
    except KeyboardInterrupt:
        interrupted = True
    rounds = tuple(tuple(of_cell) for of_cell in by_cell if of_cell)
    results = tuple(map(median, rounds))
    unfit: tuple[str, ...] = ()
    if plan.is_live:
        floors = [one for one in (floor, floor_after) if one is not None]
        unfit = reasons_against(floors, measurements, one_processor=two_processors() is None)
    calibrated = None
    if forecasts is not None and plan.model is None:
        calibrated = forecasts.model
        unfit = tuple(dict.fromkeys((*unfit, *(f"calibration: {why}" for why in forecasts.unfit))))
    return Comparison(plan, results, tuple(measurements), floor, interrupted, floor_after, unfit, rounds, calibrated)


def _real_measure_cell(plan: Plan) -> MeasureCell:
    if plan.is_live:
        from uring_iopf.lab import cell  # loads the compiled part

        return cell.measure_cell
    from uring_iopf.costs.virtual import prices_of
    from uring_iopf.lab import virtual

    assert plan.model is not None, "virtual time has prices"
    return partial(virtual.play_cell, prices=prices_of(plan.model))


def _real_predictor() -> Predictor:
    from uring_iopf.costs.virtual import host_prices_of, prices_of
    from uring_iopf.designs.registry import resolve
    from uring_iopf.lab import virtual

    def play(spec: CellSpec, on_progress: Callable[[float], None], model: CostModel) -> CellResult:
        prices = host_prices_of(model) if resolve(spec.design).on_host else prices_of(model)
        return virtual.play_cell(spec, on_progress, prices=prices, as_live=True)

    return Predictor(virtual.why_not, play)


def _real_measure_floor() -> MeasureFloor:
    from uring_iopf.lab import floor

    return floor.measure_floor


def _measured(measure_cell: MeasureCell, spec: CellSpec, name: str, on_progress: Callable[[float], None]) -> CellResult:
    try:
        return measure_cell(spec, on_progress)
    except UsageError:
        raise  # it would be the same for the next cell
    except (IopfError, OSError, MemoryError) as error:
        return replace(spec.nothing_measured(error=f"{type(error).__name__}: {error}"), design=name)
    except Exception as error:
        # A mistake in somebody's design, most likely. The others' results are kept; where it was helps to mend it.
        return replace(spec.nothing_measured(error=told_with_place(error)), design=name)


def median(results: Sequence[CellResult]) -> CellResult:
    """The measurement in the middle by faults/s (of two, the slower); complete ones, as long as there are any."""
    complete = [result for result in results if not result.partial] or results
    return sorted(complete, key=lambda result: result.faults_per_s)[(len(complete) - 1) // 2]
