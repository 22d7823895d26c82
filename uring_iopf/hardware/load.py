"""When a function faults, and how much at once."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uring_iopf._native import ffi

if TYPE_CHECKING:
    from uring_iopf._native import CData


class LoadMode(enum.IntEnum):
    """When the next fault of a load comes."""

    CLOSED = 0
    """As soon as an answer makes room."""
    TRACE = 1
    """When the trace says, times a speed; latency counts from then, also if the function was still busy."""
    POISSON = 2
    """At a mean rate, with exponential gaps; latency as for TRACE."""


@dataclass(frozen=True, slots=True)
class Load:
    """How a function goes through its rows.

    *in_flight*: groups outstanding at most. *group*: pages in one group at most, neighbours in the rows and of one
    PASID. *speed*: how many times faster than recorded (TRACE). *rate*: faults a second (POISSON), drawn from *seed*.
    """

    mode: LoadMode = LoadMode.CLOSED
    in_flight: int = 16
    group: int = 1
    speed: float = 1.0
    rate: float = 1e6
    seed: int = 0

    def as_c(self) -> CData:
        """The same as ``struct uiopf_load``."""
        return ffi.new(
            "struct uiopf_load *",
            {
                "mode": self.mode,
                "in_flight": self.in_flight,
                "group": self.group,
                "speed": self.speed,
                "rate": self.rate,
                "seed": self.seed,
            },
        )
