"""The counters of the costs of delivery."""

from uring_iopf.costs.counters import COUNTERS, CostCounter, Counters, Counts, PerFault, Unit, total

__all__ = ["COUNTERS", "CostCounter", "Counters", "Counts", "PerFault", "Unit", "total"]
