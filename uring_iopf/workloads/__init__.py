"""Workloads: the page faults of real programs, bundled or from a file. They know no hardware and no kernel."""

from uring_iopf.workloads.bundled import BUNDLED, bundled_names, load_workload
from uring_iopf.workloads.trace import TraceError
from uring_iopf.workloads.workload import ROW, Workload

__all__ = ["BUNDLED", "ROW", "TraceError", "Workload", "bundled_names", "load_workload"]
