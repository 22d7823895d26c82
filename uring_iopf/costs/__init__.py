"""The costs of delivery: its counters, and where its time goes."""

from uring_iopf.costs.counters import COUNTERS, CostCounter, Counters, Counts, PerFault, Unit, total
from uring_iopf.costs.parts import PARTS, Parts, Waypoint, Waypoints

__all__ = [
    "COUNTERS",
    "PARTS",
    "CostCounter",
    "Counters",
    "Counts",
    "Parts",
    "PerFault",
    "Unit",
    "Waypoint",
    "Waypoints",
    "total",
]
