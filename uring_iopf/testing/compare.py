"""Compare designs in a test: on one thread, with counters only, the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.designs.registry import resolve
from uring_iopf.errors import IopfError, UsageError
from uring_iopf.hardware.load import LoadMode
from uring_iopf.lab.cell import count_cell
from uring_iopf.machine_parts import DEFAULT_WORKLOAD, MachineParts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Unpack

    from uring_iopf.designs.base import Design
    from uring_iopf.lab.result import CellResult
    from uring_iopf.machine_parts import MachineOptions
    from uring_iopf.workloads import Workload


class ReplayError(IopfError, AssertionError):
    """A design did not serve the whole workload: *result* is what it came to, *results* those of all that did.

    An AssertionError, so that a test fails by it; raised, so that it is raised under ``python -O`` too.
    """

    def __init__(self, message: str, result: CellResult, results: Mapping[str, CellResult]) -> None:
        super().__init__(message)
        self.result = result
        self.results = dict(results)


def compare_designs(
    designs: Iterable[str | type[Design]],
    *,
    workload: str | Path | Workload = DEFAULT_WORKLOAD,
    **options: Unpack[MachineOptions],
) -> dict[str, CellResult]:
    """Replay *workload* once through each design; return the results by the designs' names.

    Everything runs on the calling thread, with a clock that stands still: results are the same every time, to the last
    count, and say nothing about time (`faults_per_s` and the latencies are 0). *designs*: names, MODULE:CLASS or
    classes. *options*: of the machine, by their names in `MachineParts`; the driver is ``inline``, the loop is closed.

    Each design has then served every fault: each was answered once, by the client, with success, and found its page.

    Raises: UsageError, no such design or workload, two designs of one name, another driver, a load with times;
    ReplayError, a design has not served every fault; DesignError, it has broken a rule; and what it raises itself.
    """
    if options.setdefault("driver", "inline") != "inline":
        raise UsageError(
            f"driver must be 'inline' in compare_designs, not {options['driver']!r}, because results with a thread are "
            "not the same every time"
        )
    chosen = list(designs)
    _check_names(chosen)
    parts = MachineParts.of(workload, **options)
    if any(one.mode is not LoadMode.CLOSED for one in parts.loads()):
        raise UsageError(
            "load must be a closed loop in compare_designs, whose clock stands still; timed faults would never come"
        )
    results: dict[str, CellResult] = {}
    for design in chosen:
        result = count_cell(design, parts)
        if missing := _missing(result):
            raise ReplayError(f"{result.design}: {', '.join(missing)}", result, results)
        results[result.design] = result
    return results


def _check_names(designs: Iterable[str | type[Design]]) -> None:
    """Results have their designs' names. Raises: UsageError, two have the same; or as `resolve`."""
    seen: dict[str, str | type[Design]] = {}
    for design in designs:
        name = resolve(design).name
        if name in seen:
            raise UsageError(
                f"two designs have the name {name!r}: {seen[name]!r} and {design!r}; set `name` in one of them"
            )
        seen[name] = design


def _missing(result: CellResult) -> list[str]:
    """Why this is no replay of the whole workload."""
    missing = list(result.missing)
    if not missing and result.replays != 1:
        missing.append(f"{result.replays} passes over the workload have ended, not 1")
    if result.auto_answered:
        missing.append(f"{result.auto_answered:,} faults were answered for the client")
    if result.answer_errors:
        missing.append(f"{result.answer_errors:,} answers were refused")
    return missing
