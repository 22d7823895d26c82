"""The clocks of a replay: the host's, with a worker, or a clock that stands still, on one thread."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uring_iopf.machine import Machine

SLICE_NS = 40_000_000
"""The longest call of C. Signal handlers, and so Ctrl-C, run between two calls."""
STUCK_S = 5.0
"""A pass without progress for so many seconds is given up."""
STUCK_LOOKS = 100
"""A pass is given up only after so many looks without progress, too. The client with the longest turns makes about 125
looks in `STUCK_S`."""
SETTLE_S = 1.0
"""The longest time, in seconds, to wait for the last answers after the detach."""


class ReplayClock(Protocol):
    """The clock of a replay."""

    runs: bool
    """Whether time passes, so that faults can come later."""
    stuck: str
    """The words after "faults got no answer" when `wait` has returned False."""

    def cpu_ns(self) -> int:
        """The processor time of this thread, in nanoseconds."""

    def slice_end(self) -> int:
        """The time at which a turn of the client that begins now must end."""

    def end(self, limit_s: float) -> int | None:
        """The time after *limit_s* seconds; None: it never comes."""

    def over(self, end: int) -> bool:
        """Whether the time *end* has come."""

    def progressed(self) -> None:
        """Note that a fault was served."""

    def wait(self, machine: Machine) -> bool:
        """Wait after a turn without a fault. Return False if no more faults will come."""

    def settle(self, machine: Machine) -> None:
        """Wait for the answers that are on their way."""


class RunningClock:
    """The host's clock."""

    runs = True
    stuck = f"for {STUCK_S:g} s"

    def __init__(self) -> None:
        self.progressed()

    def cpu_ns(self) -> int:
        """The processor time of this thread, in nanoseconds."""
        return time.thread_time_ns()

    def slice_end(self) -> int:
        """The time at which a turn of the client that begins now must end."""
        return time.monotonic_ns() + SLICE_NS

    def end(self, limit_s: float) -> int | None:
        """The time after *limit_s* seconds; None: it never comes."""
        return None if math.isinf(limit_s) else time.monotonic_ns() + round(limit_s * 1e9)

    def over(self, end: int) -> bool:
        """Whether the time *end* has come."""
        return time.monotonic_ns() >= end

    def progressed(self) -> None:
        """Note that a fault was served."""
        self._last = time.monotonic()
        self._looks = 0

    def wait(self, machine: Machine) -> bool:
        """Wait for a millisecond. Return False if no fault was served for `STUCK_S`, in `STUCK_LOOKS` looks or more.

        The number of looks matters too: a machine that stood still itself (suspended, or a paused virtual one) has
        made none meanwhile.
        """
        self._looks += 1
        return (
            machine.endpoint.wait(machine.started, 1_000_000)
            or time.monotonic() - self._last <= STUCK_S
            or self._looks < STUCK_LOOKS
        )

    def settle(self, machine: Machine) -> None:
        """Wait for the answers that are on their way."""
        deadline = time.monotonic() + SETTLE_S
        while machine.endpoint.counts().outstanding and time.monotonic() < deadline:
            machine.core.produce()


class StandingClock:
    """A clock that stands still, for replays that only count and are reproducible."""

    runs = False
    stuck = "with nothing left to do"

    def cpu_ns(self) -> int:
        """Nothing is timed."""
        return 0

    def slice_end(self) -> int:
        """It never comes."""
        return 0

    def end(self, limit_s: float) -> int | None:  # noqa: ARG002
        """It never comes."""
        return None

    def over(self, end: int) -> bool:  # noqa: ARG002
        """It never comes."""
        return False

    def progressed(self) -> None:
        """Nothing waits for it."""

    def wait(self, machine: Machine) -> bool:  # noqa: ARG002
        """Return False: without a worker, no work is left after a turn without a fault."""
        return False

    def settle(self, machine: Machine) -> None:
        """Run the hardware until it has no work."""
        while machine.core.produce():
            pass
