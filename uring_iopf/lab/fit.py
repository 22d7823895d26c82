"""Decide whether a machine was fit for a measurement. The reasons against it are sentences for table and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uring_iopf.lab.result import CellResult, Floor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

USUAL_NS: Final = (
    ("cache_line_ns", "a cache line takes {} there and back", 10.0, 1_000.0),
    ("eventfd_ns", "an eventfd takes {} there and back", 500.0, 500_000.0),
    ("system_call_ns", "a system call that does nothing takes {}", 20.0, 2_000.0),
)
"""The usual bounds of the floor. A sandbox that traces calls, processors that the host runs in turn, or a wrong clock
give values outside."""
TOGETHER: Final = 0.9
"""Both processors must run at once for this share of the time."""
CHANGE: Final = 3.0
"""The largest factor between the cache line's times before and after a run."""
ABOVE_RINGS: Final = 1.25
"""The largest factor by which a path may appear faster than the bare rings, which vary by that much themselves."""
SPREAD: Final = 2.0
"""The largest factor between the rates of one cell's repetitions."""


def reasons_against(
    floors: Sequence[Floor], measurements: Sequence[CellResult], *, one_processor: bool
) -> tuple[str, ...]:
    """The reasons not to trust the results of a run, the weightiest first; empty: there is none.

    *floors*: the floors measured before and after the run. *measurements*: all of them. *one_processor*: client and
    kernel shared one.
    """
    found: list[str] = []
    if one_processor:
        found.append(
            "there is only one processor, on which client and kernel take turns; spinning means nothing here, and no "
            "row is comparable with one that was measured on two processors; use a machine with two"
        )
    found += _out_of_bounds(floors)
    found += _changed(floors)
    found += _beyond_the_rings(floors, measurements)
    found += _spread(measurements)
    return tuple(dict.fromkeys(found))


def _out_of_bounds(floors: Sequence[Floor]) -> Iterator[str]:
    together = min((floor.together for floor in floors if floor.together is not None), default=1.0)
    if together < TOGETHER:
        yield (
            f"the two processors ran at the same time for only {together:.0%} of the time; other programs, or the host "
            "of a virtual machine, used them; stop other programs and measure again"
        )
    for name, what, least, most in USUAL_NS:
        values = [value for floor in floors if (value := getattr(floor, name)) is not None]
        beyond = [value for value in values if not least <= value <= most]
        if beyond:
            yield f"{what.format(_duration(max(beyond)))}; {_duration(least)} to {_duration(most)} is usual"


def _changed(floors: Sequence[Floor]) -> Iterator[str]:
    lines = [floor.cache_line_ns for floor in floors if floor.cache_line_ns is not None]
    if lines and max(lines) > CHANGE * min(lines):
        before, after = _duration(lines[0]), _duration(lines[-1])
        yield (
            f"the machine changed during the run: a cache line took {before} before the run and {after} after it; "
            "measure again"
        )


def _beyond_the_rings(floors: Iterable[Floor], measurements: Iterable[CellResult]) -> Iterator[str]:
    """A path through user space cannot be faster than bare rings: if it is, one of the two numbers is wrong.

    Bare rings carry messages of one fault each. The faults of a group have one answer, so the groups are compared, as
    far as the client answered them.
    """
    bare: dict[int, float] = {}
    for floor in floors:
        for in_flight, rate in floor.bare_rings_per_s.items():
            bare[in_flight] = max(rate, bare.get(in_flight, 0.0))
    for cell in measurements:
        if cell.mode != "live" or cell.client == "kernel" or cell.in_flight not in bare:
            continue
        groups_per_s = cell.faults_per_s / cell.group * (cell.answered / cell.faults if cell.faults else 1.0)
        if groups_per_s > ABOVE_RINGS * bare[cell.in_flight]:
            yield (
                f"{cell.design}, {cell.driver}, {cell.in_flight} in flight: {groups_per_s:,.0f} groups/s are more than "
                f"bare rings without a design reach ({bare[cell.in_flight]:,.0f}); measure again"
            )


def _spread(measurements: Iterable[CellResult]) -> Iterator[str]:
    rates: dict[tuple[object, ...], list[float]] = {}
    for cell in measurements:
        if cell.faults_per_s and not cell.partial:
            key = (cell.design, cell.driver, cell.in_flight, cell.known_by, cell.rate)
            rates.setdefault(key, []).append(cell.faults_per_s)
    for (design, driver, in_flight, known_by, _), of_cell in rates.items():
        if max(of_cell) > SPREAD * min(of_cell):
            stage = "" if known_by is None else f", stage known by {known_by}"
            yield (
                f"{design}, {driver}, {in_flight} in flight{stage}: {len(of_cell)} measurements vary from "
                f"{min(of_cell):,.0f} to {max(of_cell):,.0f} faults/s, by more than {SPREAD:g} times"
            )


def _duration(ns: float) -> str:
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"
