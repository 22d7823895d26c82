"""The floor of this machine: what a round trip costs before any design is involved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf._native import lib
from uring_iopf.lab.processors import two_processors
from uring_iopf.lab.result import Floor

if TYPE_CHECKING:
    from collections.abc import Iterable

DURING_NS = 50_000_000
"""For how long each is measured."""


def measure_floor(in_flight: Iterable[int] = (), *, during_ns: int = DURING_NS) -> Floor:
    """Measure a cache line and an eventfd there and back between two threads, and a system call that does nothing.

    And the bare rings with each of *in_flight*, and whether the two processors run at the same time. On the two
    processors that a cell uses (`two_processors`). Two threads that spin need two; with one they are not measurable.
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
    """The nanoseconds of one, of so many a second; C says 0 when it could not measure."""
    return 1e9 / per_second if per_second > 0 else None
