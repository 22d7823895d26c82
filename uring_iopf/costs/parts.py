"""Where the latency of a fault goes: its parts, from sums of the times at which groups came to a waypoint.

The mean time from one waypoint to the next is the difference of two sums, over the number of groups. So no group is
followed, and the parts add up to the mean latency.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, Final, NamedTuple


class Waypoint(NamedTuple):
    """A place on a group's way."""

    groups: int
    """The groups that have come to it."""
    ns: int
    """The sum of the times at which they came, in nanoseconds, modulo 2**64."""


class Waypoints(NamedTuple):
    """The waypoints of a channel, in their order. A design without user space has no *received* and no *answered*."""

    queued: Waypoint
    """The IOMMU's driver has put the group into the queue."""
    taken: Waypoint
    """The design's half in the kernel has taken it out."""
    received: Waypoint
    """A receive of the client returned it."""
    answered: Waypoint
    """The client called with the answer."""
    accepted: Waypoint
    """The queue has the answer. Answers that the kernel gives for a client do not count."""

    @classmethod
    def from_c(cls, waypoints: Any) -> Waypoints:
        """Return the values of a ``struct uiopf_waypoints *``."""
        each = ((one.groups, one.ns) for one in (getattr(waypoints, name) for name in cls._fields))
        return cls(*(Waypoint(int(groups), int(ns)) for groups, ns in each))


def _part(what: str) -> Any:
    return dataclasses.field(metadata={"what": what})


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """The mean latency of a group in parts, in nanoseconds."""

    hardware: float = _part("from the request to the fault queue, and from the accepted answer to the repeated access")
    queueing: float = _part("in the fault queue, until the design takes it")
    delivery: float = _part("from there until the client has received it")
    handler: float = _part("with the client, until it calls with the answer; without user space, with the handler")
    answer: float = _part("from that call until the kernel has the answer")

    @property
    def total(self) -> float:
        """The mean latency."""
        return self.hardware + self.queueing + self.delivery + self.handler + self.answer

    @classmethod
    def of(cls, waypoints: Waypoints, latency: Waypoint) -> Parts | None:
        """Return the parts; None: no group, or not all groups came to all waypoints, so that there is no common mean.

        *latency*: the groups that the function has got answers to, and the sum of their latencies.
        """
        queued, taken, received, answered, accepted = waypoints
        if not received.groups and not answered.groups:
            received, answered = taken, accepted
        on_the_way = queued, taken, received, answered, accepted
        if not latency.groups or {one.groups for one in on_the_way} != {latency.groups}:
            return None
        apart = [_step(this, following) for this, following in itertools.pairwise(on_the_way)]
        # Not sum(), which from Python 3.12 on rounds otherwise: virtual time has one result in all of them.
        return cls(latency.ns / latency.groups - math.fsum(apart), *apart)


def _step(this: Waypoint, following: Waypoint) -> float:
    """The mean time from one waypoint to the next."""
    difference = (following.ns - this.ns) % 2**64
    return (difference - 2**64 * (difference >> 63)) / this.groups


PARTS: Final[dict[str, str]] = {one.name: one.metadata["what"] for one in dataclasses.fields(Parts)}
"""A line on each part, by its name, in the order of the way."""
