"""By which time a workload is replayed: the host's, beside a worker, or one that stands still, on one thread."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uring_iopf.machine import Machine

SLICE_NS = 40_000_000
"""The longest time in C at a stretch: Ctrl-C is noticed between two."""
STUCK_S = 5.0
"""Without any progress for so long, a pass is given up, and its faults are counted where they are."""
STUCK_LOOKS = 100
"""… and so many looks: a quarter more are made in that time by the client with the longest turns."""
SETTLE_S = 1.0
"""How long answers that are on their way may take after the detach."""


class ReplayClock(Protocol):
    """What a replay asks of time."""

    runs: bool
    """Whether what does not come at once may still come."""
    stuck: str
    """How `wait` says that nothing more comes, in words that stand behind the number of faults."""

    def cpu_ns(self) -> int:
        """What this thread has run."""

    def slice_end(self) -> int:
        """When a turn of the client is to end that begins now."""

    def end(self, limit_s: float) -> int | None:
        """When so many seconds are over; None: never."""

    def over(self, end: int) -> bool:
        """Whether that time has come."""

    def progressed(self) -> None:
        """A fault was served."""

    def wait(self, machine: Machine) -> bool:
        """Nothing was served: let the machine go on. False: nothing more will come."""

    def settle(self, machine: Machine) -> None:
        """Let the answers arrive that are on their way."""


class RunningClock:
    """The host's time."""

    runs = True
    stuck = f"for {STUCK_S:g} s"

    def __init__(self) -> None:
        self.progressed()

    def cpu_ns(self) -> int:
        """What this thread has run."""
        return time.thread_time_ns()

    def slice_end(self) -> int:
        """When a turn of the client is to end that begins now."""
        return time.monotonic_ns() + SLICE_NS

    def end(self, limit_s: float) -> int | None:
        """When so many seconds are over; None: never."""
        return None if math.isinf(limit_s) else time.monotonic_ns() + round(limit_s * 1e9)

    def over(self, end: int) -> bool:
        """Whether that time has come."""
        return time.monotonic_ns() >= end

    def progressed(self) -> None:
        """A fault was served."""
        self._last = time.monotonic()
        self._looks = 0

    def wait(self, machine: Machine) -> bool:
        """Nothing was served: look again in a millisecond. False: nothing was served for `STUCK_S`.

        That takes many looks, too: a machine that stood still itself (a suspended one, a paused virtual one) has had
        none meanwhile.
        """
        self._looks += 1
        return (
            machine.endpoint.wait(machine.started, 1_000_000)
            or time.monotonic() - self._last <= STUCK_S
            or self._looks < STUCK_LOOKS
        )

    def settle(self, machine: Machine) -> None:
        """Let the answers arrive that are on their way."""
        deadline = time.monotonic() + SETTLE_S
        while machine.endpoint.counts().outstanding and time.monotonic() < deadline:
            machine.core.produce()


class StandingClock:
    """Time stands still, and costs nothing: a replay counts, and comes out the same every time."""

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
        """All that could be done has been."""
        return False

    def settle(self, machine: Machine) -> None:
        """Turn the hardware until it has nothing to do."""
        while machine.core.produce():
            pass
