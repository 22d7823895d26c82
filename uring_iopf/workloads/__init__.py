"""Workloads: the page faults of real programs, bundled or from a file. They know no hardware and no kernel."""

from uring_iopf.workloads.workload import BUNDLED, ROW, TraceError, Workload, bundled_names, load_workload

__all__ = ["BUNDLED", "ROW", "TraceError", "Workload", "bundled_names", "load_workload"]
