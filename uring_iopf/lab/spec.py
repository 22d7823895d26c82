"""What to measure: one cell of a comparison, and how its measurement ends early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uring_iopf.costs import PerFault
from uring_iopf.lab.result import CellResult, Latency

if TYPE_CHECKING:
    from uring_iopf.workloads import Workload


@dataclass(frozen=True)
class CellSpec:
    """One cell: replay *workload* through *design* until *seconds* and *faults* have both been reached.

    *design*: a registered name, or MODULE:CLASS. *in_flight*: groups outstanding at once; *group*: pages in one at
    most.
    """

    workload: Workload
    design: str
    client: str
    driver: str
    wait: str
    in_flight: int
    group: int
    seed: int
    seconds: float = 1.0
    faults: int = 100_000

    @property
    def label(self) -> str:
        """For people: which cell this is."""
        return f"{self.design}, {self.in_flight} in flight"

    def nothing_measured(self, *, error: str | None = None, partial: bool = False) -> CellResult:
        """The result of a cell in which no fault was replayed."""
        return CellResult(
            design=self.design,
            client=self.client,
            driver=self.driver,
            wait=self.wait,
            mode="live",
            workload=self.workload.name,
            in_flight=self.in_flight,
            group=self.group,
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
