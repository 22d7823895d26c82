"""The specification of one cell of a comparison, and the exception for a measurement that is interrupted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uring_iopf.costs import PerFault
from uring_iopf.lab.result import CellResult, Latency, LimitCounts, StageCosts

if TYPE_CHECKING:
    from uring_iopf.machine_parts import MachineParts
    from uring_iopf.workloads import Workload


@dataclass(frozen=True)
class CellSpec:
    """One cell: replay the workload of *parts* through *design* until it has reached both *seconds* and *faults*.

    *design*: a name, or MODULE:CLASS. *client*: ``native``, ``trio`` or ``batch``. *limit_s*: it sends no more faults
    after so many seconds. *rate*: the faults per second of an open loop in *parts*. *split*: another, short replay
    finds the parts of the latency. *mode*: ``live``, or ``virtual``, in which *seconds* do not matter.
    """

    design: str
    client: str
    parts: MachineParts
    seconds: float = 1.0
    faults: int = 100_000
    limit_s: float = math.inf
    rate: float | None = None
    split: bool = False
    mode: str = "live"

    @property
    def workload(self) -> Workload:
        """The workload to replay."""
        assert self.parts.workload is not None, "a cell replays something"
        return self.parts.workload

    @property
    def label(self) -> str:
        """The name of the cell in messages."""
        offered = "" if self.rate is None else f", {self.rate:,.0f} faults/s offered"
        known = self.parts.stage_known_by
        stage = "" if known is None else f", stage known by {known}"
        return f"{self.design}, {self.parts.driver}, {self.parts.in_flight} in flight{offered}{stage}"

    @property
    def load_name(self) -> str:
        """The name of the load: ``closed``, ``trace`` or ``poisson``."""
        return "closed" if self.parts.load is None else self.parts.load.mode.name.lower()

    def nothing_measured(self, *, error: str | None = None, partial: bool = False) -> CellResult:
        """The result of a cell in which no fault was replayed."""
        known, limits = self.parts.stage_known_by, self.parts.limits
        return CellResult(
            design=self.design,
            client=self.client,
            driver=self.parts.driver,
            wait=self.parts.wait,
            mode=self.mode,
            workload=self.workload.name,
            iommu=self.parts.iommu,
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
            load=self.load_name,
            rate=self.rate,
            stages=None if known is None else StageCosts(known, self.parts.stage2 or 0.0),
            limits=None if limits is None else LimitCounts(limits.depth, limits.timeout_ns),
        )


class CellInterrupted(KeyboardInterrupt):
    """Ctrl-C during the measurement of a cell. `result`: the result until then, or None if it has no fault.

    It is a KeyboardInterrupt, so that callers that do not know it stop too.
    """

    def __init__(self, result: CellResult | None = None) -> None:
        super().__init__()
        self.result = result
