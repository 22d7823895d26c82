"""The times and the sizes of a function's faults. This module does not load the extension: `MachineParts` uses it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import UsageError, check_fits, check_positive, check_whole

if TYPE_CHECKING:
    from typing import Self

    from uring_iopf._native import CData

MOST_IN_FLIGHT: Final = 512
"""The PRG indices of a PCI function, and so the most groups that can be outstanding at once."""
MOST_IN_GROUP: Final = 32
"""The most pages in one page request group."""
DEFAULT_IN_FLIGHT: Final = 16
DEFAULT_GROUP: Final = 1
DEFAULT_SEED: Final = 0


class LoadMode(enum.IntEnum):
    """The times of a load's faults."""

    CLOSED = 0
    """Closed loop: a fault comes as soon as an answer makes room."""
    TRACE = 1
    """Open loop: faults come at the times in the trace, divided by a speed. Latency counts from the time at which a
    fault was due, even if the function was still busy."""
    POISSON = 2
    """Open loop: faults come at random times, with a mean rate and exponential gaps. Latency counts as for TRACE."""


@dataclass(frozen=True, slots=True)
class Load:
    """The times and sizes of a function's faults. Raises: UsageError, a field that is not allowed.

    *in_flight*: the most groups outstanding at once, 1 to 512. *group*: the most pages in one group, 1 to 32; its pages
    are neighbours in the rows, of one PASID. *speed*: the factor by which TRACE is faster than recorded. *rate*: faults
    per second of POISSON. *seed*: the seed of POISSON's random times, 64 bits.

    If *in_flight*, *group* or *seed* is None, the machine's value is used. Without a machine they are 16, 1 and 0.
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
        for name in ("in_flight", "group", "seed"):  # NumPy's numbers, and others, which overflow in a sum
            if (number := getattr(self, name)) is not None:
                object.__setattr__(self, name, int(number))

    def filled(self, in_flight: int = DEFAULT_IN_FLIGHT, group: int = DEFAULT_GROUP, seed: int = DEFAULT_SEED) -> Self:
        """Return a copy with these values in place of None."""
        return replace(
            self,
            in_flight=in_flight if self.in_flight is None else self.in_flight,
            group=group if self.group is None else self.group,
            seed=seed if self.seed is None else self.seed,
        )

    def as_c(self) -> CData:
        """The load as ``struct uiopf_load``."""
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
    """Raises: UsageError, *in_flight* is not 1 to 512, the number of a function's group indices."""
    check_whole("in_flight", in_flight, 1, MOST_IN_FLIGHT, ", the group indices of a function")


def check_group(group: object) -> None:
    """Raises: UsageError, *group* is not 1 to 32 pages."""
    check_whole("group", group, 1, MOST_IN_GROUP, " pages")
