"""What one measured cell of a comparison came to: numbers only, as they go into tables and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.costs import PerFault


@dataclass(frozen=True, slots=True)
class Latency:
    """From a group's request to its answer, in nanoseconds; p99_9 is what 999 of 1,000 groups do not exceed."""

    p50: int = 0
    p99: int = 0
    p99_9: int = 0
    max: int = 0


@dataclass(frozen=True, slots=True)
class Floor:
    """What no design can beat on this machine: there and back, in nanoseconds. None: not measurable here."""

    cache_line_ns: float | None
    eventfd_ns: float | None
    system_call_ns: float | None
    together: float | None = None
    """The share of the time, 0 to 1, in which the two processors ran at the same time."""
    bare_rings_per_s: Mapping[int, float] = field(default_factory=dict)
    """Messages a second through two rings and nothing else, by how many are in flight."""

    def to_json(self) -> dict[str, Any]:
        """The same under the same names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CellResult:
    """One design, one client, one load, measured.

    *mode*: ``live``, on two threads and paid for in real time, or ``inline``, on one thread, since the design is
    written in Python; *client* and *driver* then say ``sync`` and ``inline``. *load*: ``closed``, ``trace`` or
    ``poisson``; *rate*: the faults a second that an open one offered, None for a closed one. *partial*: interrupted
    before its time. *limited*: stopped by its limit of time, before it had enough. *error*: why it could not be
    measured.
    """

    design: str
    client: str
    driver: str
    wait: str
    mode: str
    workload: str
    in_flight: int
    group: int
    replays: int
    faults: int
    answered: int
    auto_answered: int
    lost: int
    unmapped: int
    answer_errors: int
    faults_per_s: float
    latency_ns: Latency
    per_fault: PerFault
    partial: bool = False
    error: str | None = None
    load: str = "closed"
    rate: float | None = None
    limited: bool = False

    @property
    def accounted(self) -> bool:
        """Whether every fault was answered, by the client or for it, and found its page when it was to."""
        return not self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """What stands in the way of `accounted`, in words."""
        reasons = []
        if self.error is not None:
            reasons.append(self.error)
        if self.lost:
            reasons.append(f"{self.lost:,} lost")
        if self.unmapped:
            reasons.append(f"{self.unmapped:,} answered with success, but without a mapping")
        answers = self.answered + self.auto_answered
        if answers + self.lost != self.faults:
            reasons.append(f"{answers:,} answers to {self.faults:,} faults")
        return tuple(reasons)

    def to_json(self) -> dict[str, Any]:
        """Every field under its name, and `accounted`."""
        return {**asdict(self), "accounted": self.accounted}
