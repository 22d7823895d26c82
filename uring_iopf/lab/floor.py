"""The floor of this machine: the cost of round trips without any design."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf._native import lib
from uring_iopf.lab.processors import two_processors
from uring_iopf.lab.result import Floor

if TYPE_CHECKING:
    from collections.abc import Iterable

DURING_NS = 50_000_000
"""The time of each measurement, in nanoseconds."""


def measure_floor(in_flight: Iterable[int] = (), *, during_ns: int = DURING_NS) -> Floor:
    """Measure the floor, on the two processors that a cell uses (`two_processors`).

    It measures a cache line and an eventfd, there and back between two threads, a system call that does nothing, the
    bare rings with each of *in_flight*, and the share of the time in which both processors run. Threads that spin need
    two processors; with one processor, their values are None.
    """
    two = two_processors() is not None
    rings = {n: lib.uiopf_measure_bare_rings(n, during_ns) for n in in_flight if two}
    return Floor(
        cache_line_ns=_each_ns(lib.uiopf_measure_cache_line(during_ns)) if two else None,
        eventfd_ns=_each_ns(lib.uiopf_measure_eventfd(during_ns)),
        system_call_ns=_each_ns(lib.uiopf_measure_system_call(during_ns)),
        together=lib.uiopf_measure_together(4 * during_ns) if two else None,  # one short disturbance is not the rule
        bare_rings_per_s={n: rate for n, rate in rings.items() if rate > 0},
    )


def _each_ns(per_second: float) -> float | None:
    """Convert a rate into nanoseconds for each. C returns 0 if it could not measure; then return None."""
    return 1e9 / per_second if per_second > 0 else None
