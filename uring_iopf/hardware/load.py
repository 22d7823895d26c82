"""When a function faults, and how much at once. It loads no compiled code: what a machine is made of has it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import UsageError, check_fits, check_positive, check_whole

if TYPE_CHECKING:
    from typing import Self

    from uring_iopf._native import CData

MOST_IN_FLIGHT: Final = 512
"""PRG indices of a PCI function: groups that can be outstanding at once."""
MOST_IN_GROUP: Final = 32
"""Pages in one page request group."""
DEFAULT_IN_FLIGHT: Final = 16
DEFAULT_GROUP: Final = 1
DEFAULT_SEED: Final = 0


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
    """How a function goes through its rows. Raises: UsageError, a field that cannot be.

    *in_flight*: groups outstanding at most. *group*: pages in one group at most, neighbours in the rows and of one
    PASID. *speed*: how many times faster than recorded (TRACE). *rate*: faults a second (POISSON), drawn from *seed*.

    None for *in_flight*, *group* or *seed*: as the machine says. Without a machine they are 16, 1 and 0.
    """

    mode: LoadMode = LoadMode.CLOSED
    in_flight: int | None = None
    group: int | None = None
    speed: float = 1.0
    rate: float = 1e6
    seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.mode, LoadMode):
            raise UsageError(f"mode must be a LoadMode, not {self.mode!r}")
        if self.in_flight is not None:
            check_in_flight(self.in_flight)
        if self.group is not None:
            check_group(self.group)
        check_positive("speed", self.speed)
        check_positive("rate", self.rate)
        if self.seed is not None:
            check_fits(64, seed=self.seed)

    def filled(self, in_flight: int = DEFAULT_IN_FLIGHT, group: int = DEFAULT_GROUP, seed: int = DEFAULT_SEED) -> Self:
        """Return the same with these in place of None."""
        return replace(
            self,
            in_flight=in_flight if self.in_flight is None else self.in_flight,
            group=group if self.group is None else self.group,
            seed=seed if self.seed is None else self.seed,
        )

    def as_c(self) -> CData:
        """The same as ``struct uiopf_load``."""
        from uring_iopf._native import ffi

        full = self.filled()
        return ffi.new(
            "struct uiopf_load *",
            {
                "mode": full.mode,
                "in_flight": full.in_flight,
                "group": full.group,
                "speed": full.speed,
                "rate": full.rate,
                "seed": full.seed,
            },
        )


def check_in_flight(in_flight: object) -> None:
    """Raises: UsageError, a function has not so many group indices."""
    check_whole("in_flight", in_flight, 1, MOST_IN_FLIGHT, ", the group indices of a function")


def check_group(group: object) -> None:
    """Raises: UsageError, no group has so many pages."""
    check_whole("group", group, 1, MOST_IN_GROUP, " pages")
