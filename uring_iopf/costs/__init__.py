"""What delivering faults costs: the counters."""

from uring_iopf.costs.counters import COUNTERS, CostCounter, Counters, Counts, PerFault, Unit, total

__all__ = ["COUNTERS", "CostCounter", "Counters", "Counts", "PerFault", "Unit", "total"]
