"""The state of one replay: a machine, the cell that is measured on it, the clock, and the passes so far."""

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
    """The state that the loop of a cell, its client and its result share."""

    machine: Machine
    spec: CellSpec
    clock: ReplayClock
    replays: int = 0
    """The complete passes."""
    sent: int = 0
    """The faults of the complete passes."""
    client_cpu_ns: int = 0
    error: str | None = None
    end: int | None = None
    """The time at which the cell ends, on the host's clock; None: it has no limit."""
    cut: bool = False
    """Whether the time ended before the last pass had sent every fault. Its outstanding faults were still answered."""
    seen: object = None
    """The functions' counts at the last look without progress."""

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
