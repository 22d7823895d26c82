"""The table of cost counters, each with its name, unit, side, and the rule of counting.

`Counters` is the table: it has a field for each counter, with the facts. Everything else follows from it: the counts of
a channel or a ring (`Counts`), the averages (`PerFault`), the printed columns, the keys in JSON, the help, and the page
on comparing. A counter of ``struct uiopf_cost`` has the same name here; a test compares the two.
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
    """The unit of a counter. It decides how a number is printed."""

    EVENTS = "events"
    BYTES = "bytes"
    NANOSECONDS = "ns"


class CostCounter(NamedTuple):
    """The facts of one counter."""

    name: str
    unit: Unit
    whose: str
    """The side that counts it: the client's, the kernel's, or both."""
    what: str
    """The events or bytes that are counted; the text follows the words "per fault:"."""
    but_not: str
    """The events or bytes that are not counted, or an empty string."""
    price: str | None
    """The price of each in a cost model, which virtual time charges; None: it has none."""
    column: str | None
    """The heading of the column in the table, with newlines; None: the counter is in the JSON only."""
    in_c: bool
    """Whether ``struct uiopf_cost`` has the counter."""


def _counter(
    unit: Unit,
    whose: str,
    what: str,
    *,
    but_not: str = "",
    price: str | None = None,
    column: str | None = None,
    in_c: bool = True,
) -> Any:
    """Return a field that starts at 0, with the facts of a counter."""
    return dataclasses.field(default=0, metadata={"facts": (unit, whose, what, but_not, price, column, in_c)})


@dataclasses.dataclass(slots=True)
class Counters(Generic[Number]):
    """A number for each counter."""

    system_calls: Number = _counter(
        Unit.EVENTS,
        "client",
        "calls by the client that moved data or waited",
        but_not="polls that found nothing while the client spins; opening and closing",
        price="system_call",
        column="system\ncalls",
    )
    empty_polls: Number = _counter(
        Unit.EVENTS, "client", "calls by a spinning client that found nothing", price="system_call"
    )
    wakeups: Number = _counter(
        Unit.EVENTS,
        "kernel",
        "wake-ups of a sleeping client; each eventfd write counts, even if the client does not sleep",
        but_not="wake-ups of the worker, which plays the hardware and the kernel's thread; the end of a pass",
        price="eventfd_write",
        column="\nwake-ups",
    )
    bytes_copied: Number = _counter(
        Unit.BYTES,
        "both",
        "bytes between kernel and client, in both directions: messages, answers, SQEs, CQEs, eventfd counters",
        but_not="page-table entries, which the client stores in every design",
        price="copy_byte",
        column="bytes\ncopied",
    )
    answer_errors: Number = _counter(Unit.EVENTS, "kernel", "answers that the kernel refused")
    ends: Number = _counter(
        Unit.EVENTS,
        "kernel",
        "multishot requests that ended and were armed again, and one-shot reads that ended without data",
        but_not="one-shot reads that have read something",
    )
    punts: Number = _counter(
        Unit.EVENTS,
        "kernel",
        "requests that the kernel handed to a thread of its own, because their file may block",
        price="wake_up",
    )
    sqes: Number = _counter(
        Unit.EVENTS, "kernel", "SQEs that the ring took, whatever became of their requests", price="request"
    )
    cqes: Number = _counter(
        Unit.EVENTS,
        "kernel",
        "places of the CQ that it filled, or of the host's CQ that the client emptied; a CQE of 32 bytes takes two in "
        "a ring that has both sizes",
        but_not="completions that were skipped, because the request asked for that",
        price="request",
    )
    packets_sent: Number = _counter(
        Unit.EVENTS, "both", "packets that were put into a socket of the host", price="packet_send"
    )
    packets_received: Number = _counter(
        Unit.EVENTS, "both", "packets that were taken out of a socket of the host", price="packet_receive"
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
        """Return the counters of a ``struct uiopf_cost *``."""
        return cls(**{one.name: getattr(cost, one.name) for one in COUNTERS if one.in_c})

    def per_fault(self, faults: int) -> PerFault:
        """Return the averages over *faults* faults (at least 1)."""
        return Counters(**{one.name: getattr(self, one.name) / max(faults, 1) for one in COUNTERS})


Counts: TypeAlias = Counters[int]
"""Counts so far."""
PerFault: TypeAlias = Counters[float]
"""Averages per fault, with both sides added up. The processor time is the client's only."""

COUNTERS: Final[tuple[CostCounter, ...]] = tuple(
    CostCounter(one.name, *one.metadata["facts"]) for one in dataclasses.fields(Counters)
)
"""Every counter, in the order of the table."""


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of several counts."""
    of_all = list(counts)
    return Counts(**{one.name: sum(getattr(each, one.name) for each in of_all) for one in COUNTERS})
