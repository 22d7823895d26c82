"""Compare designs in a test: on one thread, with counters only, the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.errors import UsageError
from uring_iopf.lab.cell import count_cell
from uring_iopf.machine_parts import DEFAULT_WORKLOAD, MachineParts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Unpack

    from uring_iopf.designs.base import Design
    from uring_iopf.lab.result import CellResult
    from uring_iopf.machine_parts import MachineOptions
    from uring_iopf.workloads import Workload


def compare_designs(
    designs: Iterable[str | type[Design]],
    *,
    workload: str | Path | Workload = DEFAULT_WORKLOAD,
    **options: Unpack[MachineOptions],
) -> dict[str, CellResult]:
    """Replay *workload* once through each design; return the results by the designs' names.

    Everything runs on the calling thread, with a clock that stands still: results are the same every time, to the last
    count, and say nothing about time (`faults_per_s` and the latencies are 0). *designs*: names, MODULE:CLASS or
    classes. *options*: of the machine, by their names in `MachineParts`; the driver is ``inline``.

    Raises: UsageError, no such design or workload, or another driver; AssertionError, a fault not accounted for.
    """
    if options.setdefault("driver", "inline") != "inline":
        raise UsageError("a comparison in a test runs inline: with a thread it would not be the same every time")
    parts = MachineParts.of(workload, **options)
    results: dict[str, CellResult] = {}
    for design in designs:
        result = count_cell(design, parts)
        assert result.accounted, f"{result.design}: {', '.join(result.missing)}"
        results[result.design] = result
    return results
