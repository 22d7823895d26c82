"""What to measure: one cell of a comparison, and how its measurement ends early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uring_iopf.costs import PerFault
from uring_iopf.lab.result import CellResult, Latency

if TYPE_CHECKING:
    from uring_iopf.machine_parts import MachineParts
    from uring_iopf.workloads import Workload


@dataclass(frozen=True)
class CellSpec:
    """One cell: replay the workload of *parts* through *design* until *seconds* and *faults* have both been reached.

    *design*: a registered name, or MODULE:CLASS. *client*: ``native``, ``trio`` or ``batch``.
    """

    design: str
    client: str
    parts: MachineParts
    seconds: float = 1.0
    faults: int = 100_000

    @property
    def workload(self) -> Workload:
        """What is replayed."""
        assert self.parts.workload is not None, "a cell replays something"
        return self.parts.workload

    @property
    def label(self) -> str:
        """For people: which cell this is."""
        return f"{self.design}, {self.parts.in_flight} in flight"

    def nothing_measured(self, *, error: str | None = None, partial: bool = False) -> CellResult:
        """The result of a cell in which no fault was replayed."""
        return CellResult(
            design=self.design,
            client=self.client,
            driver=self.parts.driver,
            wait=self.parts.wait,
            mode="live",
            workload=self.workload.name,
            in_flight=self.parts.in_flight,
            group=self.parts.group,
            replays=0,
            faults=0,
            answered=0,
            auto_answered=0,
            lost=0,
            unmapped=0,
            answer_errors=0,
            faults_per_s=0.0,
            latency_ns=Latency(),
            per_fault=PerFault(),
            partial=partial,
            error=error,
        )


class CellInterrupted(KeyboardInterrupt):
    """Ctrl-C while a cell was measured; `result` is what it had come to, if it had come to anything.

    A KeyboardInterrupt, so that whoever does not know it still stops.
    """

    def __init__(self, result: CellResult | None = None) -> None:
        super().__init__()
        self.result = result
