"""The result of one measured cell of a comparison, for tables and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.costs import Parts, PerFault


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time from a group's request to its answer, in nanoseconds.

    Of 1,000 groups, 999 do not exceed *p99_9*.
    """

    p50: int = 0
    p99: int = 0
    p99_9: int = 0
    max: int = 0


@dataclass(frozen=True, slots=True)
class Floor:
    """The costs of round trips on this machine, in nanoseconds; None: not measurable here."""

    cache_line_ns: float | None
    eventfd_ns: float | None
    system_call_ns: float | None
    together: float | None = None
    """The share of the time, 0 to 1, in which the two processors ran at the same time."""
    bare_rings_per_s: Mapping[int, float] = field(default_factory=dict)
    """Messages per second through two rings without a design, by the number in flight."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields by their names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StageCosts:
    """Which stage faulted, how the kernel knew, and what that cost. Counts are of pages, the costs of all together."""

    known_by: str
    """``hardware``, ``driver``, ``handler`` or ``nobody``: see `MachineParts.known_by`."""
    pinned: float
    """The share of the guest's memory that was pinned."""
    to_guest: int = 0
    """Pages of stage 1, which went to the client."""
    by_host: int = 0
    """Pages of stage 2, which the kernel mapped."""
    refused: int = 0
    gone: int = 0
    """Pages that were there by the time of the walk."""
    walks: int = 0
    """Walks of the tables in software."""
    entries: int = 0
    """Entries that these walks loaded."""
    calls: int = 0
    """Calls of the registered handler."""
    locks: int = 0
    """Times that the container's lock was taken."""
    wrong: int = 0
    """With ``nobody``: pages of stage 2 all the same, among *refused*."""

    @property
    def pages(self) -> int:
        """The pages that were looked at."""
        return self.to_guest + self.by_host + self.refused + self.gone


@dataclass(frozen=True, slots=True)
class LimitCounts:
    """The limits of the fault queues, and the groups and faults that met them."""

    depth: int | None
    """The most groups that might wait to be read; None: no limit."""
    timeout_ns: int | None
    """The longest time to an answer, in nanoseconds; None: no limit."""
    match: str | None = None
    """The name of a group in answers, ``cookie`` or ``index`` (device, PASID and group index); None: no client."""
    lost_groups: int = 0
    lost_faults: int = 0
    """Those that found *depth* groups waiting. The kernel answered them at once; the client has not seen them."""
    timed_out_groups: int = 0
    timed_out_faults: int = 0
    """Those that were not answered in time, and were answered for the client."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """The same cell in virtual time, by the prices of a cost model."""

    faults_per_s: float
    latency_ns: Latency
    parts_ns: Parts | None = None
    """Where the mean latency goes; None: not every group went all the way."""


@dataclass(frozen=True, slots=True)
class CellResult:
    """The measurement of one design with one client and one load.

    *mode*: ``live``, on two threads, in real time; ``virtual``, on one thread, in the time of a cost model; or
    ``inline``, on one thread, for a design in Python, whose *client* is ``sync`` and whose *driver* is ``inline``.
    *in_flight*: the number that was asked for, or the most that the workload and the function's credits reach, if that
    is less. *load*: ``closed``, ``trace`` or ``poisson``. *rate*: the faults per second of an open loop; None: a closed
    loop. *partial*: the measurement was interrupted. *limited*: it was stopped by its limit of time, with fewer faults
    than planned. *error*: the reason why it failed; None: it did not. *auto_answered*: without those that a queue's
    depth has lost. *limits*: None, there were none. *stages*: the costs of knowing the stage; None: there was one.
    *parts_ns*: where the mean latency goes, live from a short replay of its own; None: it was not asked for, or not
    every group went all the way. *emulation_ns*: from the same replay, the time per fault of the simulated hardware,
    which no processor of a real machine runs; None in virtual time, where it has a core of its own. *predicted*: the
    prediction for a cell that was measured live; None: none was asked for, or *not_predicted* is the reason why there
    is none.
    """

    design: str
    client: str
    driver: str
    wait: str
    mode: str
    workload: str
    iommu: str
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
    stages: StageCosts | None = None
    limits: LimitCounts | None = None
    parts_ns: Parts | None = None
    emulation_ns: float | None = None
    predicted: Predicted | None = None
    not_predicted: str | None = None

    @property
    def known_by(self) -> str | None:
        """How the kernel knew which stage had faulted; None: there was one."""
        return None if self.stages is None else self.stages.known_by

    @property
    def lost_by_depth(self) -> int:
        """The faults that found the fault queue full."""
        return 0 if self.limits is None else self.limits.lost_faults

    @property
    def astray(self) -> int:
        """The faults of groups that got the late answer to another, as far as their page was missing.

        A cookie or an index that is free again is soon another group's. *unmapped* counts them.
        """
        return self.unmapped if self.limits is not None and self.limits.timed_out_groups else 0

    @property
    def emulated(self) -> float | None:
        """The simulated hardware's share of the time per fault; it may be over 1, as it has a thread of its own."""
        if self.emulation_ns is None or not self.faults_per_s:
            return None
        return self.emulation_ns * self.faults_per_s / 1e9

    @property
    def error_of_rate(self) -> float | None:
        """The prediction's error in faults per second, as a share of the measurement; None: there is none of the two.

        A prediction of twice the rate has the error 1, one of half the rate -0.5.
        """
        return None if self.predicted is None else _off(self.predicted.faults_per_s, self.faults_per_s)

    @property
    def error_of_p50(self) -> float | None:
        """The same of the median latency."""
        return None if self.predicted is None else _off(self.predicted.latency_ns.p50, self.latency_ns.p50)

    @property
    def accounted(self) -> bool:
        """Whether every fault was answered, by the client, for it or for want of depth, each SUCCESS with a page."""
        return not self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """The reasons why `accounted` is False, in words; empty: it is True."""
        reasons = []
        if self.error is not None:
            reasons.append(self.error)
        if self.lost:
            reasons.append(f"{self.lost:,} lost")
        if self.unmapped > self.astray:
            reasons.append(f"{self.unmapped:,} answered with SUCCESS, but the page was not mapped")
        answers = self.answered + self.auto_answered + self.lost_by_depth
        if answers + self.lost != self.faults:
            reasons.append(f"{answers:,} answers to {self.faults:,} faults")
        return tuple(reasons)

    def to_json(self) -> dict[str, Any]:
        """Return the fields by their names, and `accounted`; in `predicted` also the errors of two of its numbers."""
        content = {**asdict(self), "accounted": self.accounted}
        if self.predicted is not None:
            content["predicted"]["error"] = {"faults_per_s": self.error_of_rate, "p50": self.error_of_p50}
        return content


def _off(predicted: float, measured: float) -> float | None:
    return predicted / measured - 1 if predicted and measured else None
