"""One replay under way: a machine, what is measured on it, by which clock, and what its passes have come to."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uring_iopf.lab.clock import ReplayClock
    from uring_iopf.lab.spec import CellSpec
    from uring_iopf.machine import Machine


@dataclass(slots=True)
class Replay:
    """What the loop of a cell, its client and its result share."""

    machine: Machine
    spec: CellSpec
    clock: ReplayClock
    replays: int = 0
    """Passes that have ended, whole."""
    client_cpu_ns: int = 0
    error: str | None = None
    end: int | None = None
    """When the cell's time is over, on the host's clock; None: never."""
    cut: bool = False
    """It was over before the last pass had sent all: it ended with what was outstanding then."""
    seen: object = None
    """What the functions had sent and got back when nothing was served for long."""

    @property
    def rows(self) -> int:
        """Faults of one pass, all functions together."""
        return sum(len(one.workload or ()) for one in self.machine.functions.values())

    @property
    def timed(self) -> bool:
        """Whether the cell is measured for a time, and not until a number of faults is reached."""
        return self.spec.rate is not None

    def left_s(self) -> float:
        """Seconds until the cell's time is over; infinite without a limit, and while the rest is answered."""
        if self.end is None or self.cut:
            return math.inf
        return max(0.0, (self.end - time.monotonic_ns()) / 1e9)
