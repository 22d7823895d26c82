"""Predictions beside measurements: cells that are measured live, played in virtual time by the prices of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from uring_iopf.errors import IopfError
from uring_iopf.lab.result import Predicted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uring_iopf.costs.model import CostModel
    from uring_iopf.lab.result import CellResult
    from uring_iopf.lab.spec import CellSpec

    Tell: TypeAlias = Callable[[str, float], None]
    MakeModel: TypeAlias = Callable[[Tell], tuple[CostModel, tuple[str, ...]]]
    """Measures the prices of this machine, and says why they are not to be trusted. Raises: KeyboardInterrupt."""

INTERRUPTED: Final = "the run was interrupted before it"
"""The reason why a cell has no prediction, where the run ended too early."""


class Predictor(NamedTuple):
    """The functions that predict a cell. Tests pass their own."""

    why_not: Callable[[CellSpec], str | None]
    """The reason why a cell cannot be predicted; None: it can. Raises: UsageError, there is no such design."""
    play: Callable[[CellSpec, Callable[[float], None], CostModel], CellResult]
    """Play a cell by the prices of a model. Raises: CellInterrupted, IopfError, OSError, MemoryError."""


class Forecasts:
    """The predictions for some cells, each made once, by *model*, or by one that `calibrate` measures."""

    def __init__(self, cells: Sequence[CellSpec], model: CostModel | None, predictor: Predictor) -> None:
        self.model = model
        self.unfit: tuple[str, ...] = ()
        """The reasons not to trust the model that was measured."""
        self._predictor = predictor
        self._cells = [replace(cell, mode="virtual") for cell in cells]
        self._why_not = [predictor.why_not(cell) for cell in self._cells]
        self._made: dict[int, Predicted | str] = {}

    @property
    def wanted(self) -> int:
        """The number of cells that can be predicted."""
        return self._why_not.count(None)

    @property
    def needs_model(self) -> bool:
        """Whether prices have to be measured first."""
        return self.model is None and self.wanted > 0

    def calibrate(self, make_model: MakeModel, tell: Tell) -> None:
        """Measure the prices. Raises: KeyboardInterrupt; UsageError, prices are missing that this machine lacks."""
        from uring_iopf.costs.virtual import prices_of

        model, self.unfit = make_model(tell)
        prices_of(model)
        self.model = model

    def is_due(self, index: int) -> bool:
        """Whether this cell can be predicted and was not yet."""
        return self._why_not[index] is None and index not in self._made

    def make(self, index: int, on_progress: Callable[[float], None]) -> None:
        """Predict a cell. Raises: KeyboardInterrupt."""
        assert self.model is not None, "prices come first"
        try:
            result = self._predictor.play(self._cells[index], on_progress, self.model)
        except (IopfError, OSError, MemoryError) as error:
            self._made[index] = f"{type(error).__name__}: {error}"
            return
        if result.missing:
            self._made[index] = "; ".join(result.missing)
        else:
            self._made[index] = Predicted(result.faults_per_s, result.latency_ns, result.parts_ns)

    def beside(self, index: int, measured: CellResult) -> CellResult:
        """The measurement of this cell with its prediction, or with the reason why it has none."""
        made = self._why_not[index] or self._made.get(index, INTERRUPTED)
        if isinstance(made, str):
            return replace(measured, not_predicted=made)
        return replace(measured, predicted=made)
