"""Replay a trace of one's own through two designs, and count their system calls."""

from pathlib import Path

from uring_iopf.testing.compare import compare_designs

trace = Path(__file__).with_name("two_programs.csv")
for name, result in compare_designs(["fd", "uring-multishot"], workload=trace, in_flight=2).items():
    print(f"{name}: {result.answered} answered, {result.per_fault.system_calls:.2f} system calls a fault")
