"""The table of cost counters: the name, the unit, who pays, what counts and what does not.

`Counters` is the table: a field for each, with its facts. All else follows from it: what a channel or a ring has
counted (`Counts`), the averages (`PerFault`), the columns that are printed, the keys in JSON, the help and the page on
comparing. A counter of ``struct uiopf_cost`` has the name that it has there; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

Number = TypeVar("Number", int, float)


class Unit(enum.Enum):
    """Of what there are so many; it decides how a number is printed."""

    EVENTS = "events"
    BYTES = "bytes"
    NANOSECONDS = "ns"


class CostCounter(NamedTuple):
    """The facts of one counter."""

    name: str
    unit: Unit
    whose: str
    """Which side it is counted on: the client's, the kernel's, or both."""
    what: str
    """What counts, in words that stand behind "per fault:"."""
    but_not: str
    """What does not, or an empty string."""
    column: str | None
    """Its heading in the table, lines apart by a newline; None: it is in the JSON alone."""
    in_c: bool
    """Whether it is in ``struct uiopf_cost``."""


def _counter(
    unit: Unit, whose: str, what: str, *, but_not: str = "", column: str | None = None, in_c: bool = True
) -> Any:
    """A field that starts at 0, with a counter's facts."""
    return dataclasses.field(default=0, metadata={"facts": (unit, whose, what, but_not, column, in_c)})


@dataclasses.dataclass(slots=True)
class Counters(Generic[Number]):
    """A number for each counter."""

    system_calls: Number = _counter(
        Unit.EVENTS,
        "client",
        "calls by the client that moved data or waited",
        but_not="polls that found nothing while the client spins; opening and closing",
        column="system\ncalls",
    )
    empty_polls: Number = _counter(Unit.EVENTS, "client", "calls by a spinning client that found nothing")
    wakeups: Number = _counter(
        Unit.EVENTS,
        "kernel",
        "wake-ups of a sleeping client; each eventfd write counts, even if the client does not sleep",
        but_not="wake-ups of the worker, which plays the hardware and the kernel's thread; the end of a pass",
        column="\nwake-ups",
    )
    bytes_copied: Number = _counter(
        Unit.BYTES,
        "both",
        "bytes between kernel and client, in both directions: messages, answers, SQEs, CQEs, eventfd counters",
        but_not="page-table entries, which the client stores in every design",
        column="bytes\ncopied",
    )
    answer_errors: Number = _counter(Unit.EVENTS, "kernel", "answers that the kernel refused")
    ends: Number = _counter(Unit.EVENTS, "kernel", "multishot requests that ended and were armed again")
    punts: Number = _counter(
        Unit.EVENTS, "kernel", "requests that the kernel handed to a thread of its own, because their file may block"
    )
    client_cpu_ns: Number = _counter(
        Unit.NANOSECONDS,
        "client",
        "processor time of the client's thread during the measurement",
        but_not="the worker's",
        column="client\nCPU",
        in_c=False,
    )

    @classmethod
    def from_c(cls, cost: Any) -> Self:
        """What a ``struct uiopf_cost *`` says."""
        return cls(**{one.name: getattr(cost, one.name) for one in COUNTERS if one.in_c})

    def per_fault(self, faults: int) -> PerFault:
        """The averages over so many faults, 1 at least."""
        return Counters(**{one.name: getattr(self, one.name) / max(faults, 1) for one in COUNTERS})


Counts: TypeAlias = Counters[int]
"""What has been counted so far."""
PerFault: TypeAlias = Counters[float]
"""What a fault cost on average, both sides added up; the time is the client's alone."""

COUNTERS: Final[tuple[CostCounter, ...]] = tuple(
    CostCounter(one.name, *one.metadata["facts"]) for one in dataclasses.fields(Counters)
)
"""Every counter, in the order of the table."""


def total(counts: Iterable[Counts]) -> Counts:
    """Everything that several have counted, added up."""
    of_all = list(counts)
    return Counts(**{one.name: sum(getattr(each, one.name) for each in of_all) for one in COUNTERS})
