"""Compare designs in a test: on one thread, by counts only, with reproducible results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.designs.registry import check_names, resolve
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
    """A design did not serve the whole workload. *result*: its own result. *results*: those of designs that did.

    It is an AssertionError, so that it fails a test. It is also raised under ``python -O``.
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
    """Replay *workload* once through each design. Return the results, by the names of the designs.

    Everything runs on the calling thread, with a clock that stands still. So every count is reproducible, and results
    have no times (`faults_per_s` and the latencies are 0). *designs*: names, MODULE:CLASS or classes. *options*: parts
    of the machine, by their names in `MachineParts`. The driver is ``inline``, and the load is a closed loop.

    When it returns, each design has served every fault: the client answered each once, with SUCCESS, and mapped its
    page. With *stage2* that are the faults of stage 1; the kernel serves those of stage 2.

    Raises: UsageError, no such design or workload, two designs of one name, another driver, or a load with times;
    ReplayError, a design has not served every fault; DesignError, a design has broken a rule. Exceptions of a design
    are passed on.
    """
    if options.setdefault("driver", "inline") != "inline":
        raise UsageError(
            f"driver must be 'inline' in compare_designs, not {options['driver']!r}, because results with a thread are "
            "not the same every time"
        )
    chosen = _listed(designs)
    check_names((design, resolve(design).name) for design in chosen)
    parts = MachineParts.of(workload, **options)
    if parts.workload is None:
        raise UsageError("workload must not be None in compare_designs, because without one there is nothing to replay")
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


def _listed(designs: object) -> list[str | type[Design]]:
    """The designs as a list. Raises: UsageError, one design in place of a sequence, or none at all."""
    if isinstance(designs, (str, type)):
        raise UsageError(f"designs must be a sequence of designs, not {designs!r}; put it into a list")
    try:
        chosen: list[str | type[Design]] = list(designs)  # type: ignore[call-overload]
    except TypeError:
        raise UsageError(f"designs must be a sequence of designs, not {designs!r}") from None
    if not chosen:
        raise UsageError("designs must have one design or more; a comparison of none would pass without a replay")
    return chosen


def _missing(result: CellResult) -> list[str]:
    """The reasons why this is no replay of the whole workload; empty: it is one."""
    missing = list(result.missing)
    if not missing and result.replays != 1:
        missing.append(f"{result.replays} passes over the workload have ended, not 1")
    of_the_host = 0 if result.stages is None else result.stages.by_host + result.stages.gone
    if for_it := result.auto_answered + result.lost_by_depth - of_the_host:
        missing.append(f"{for_it:,} faults were answered for the client")
    if result.answer_errors:
        missing.append(f"{result.answer_errors:,} answers were refused")
    return missing
