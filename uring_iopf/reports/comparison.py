"""What is printed of a comparison, and its JSON document.

The text goes into terminals and mails alike: plain ASCII, at most `WIDTH` columns, no trailing blanks.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from uring_iopf.costs import COUNTERS, Unit
from uring_iopf.reports.text import WIDTH, duration, paragraph, plain, rate, three_digits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from uring_iopf.costs import CostCounter
    from uring_iopf.lab.compare import Comparison
    from uring_iopf.lab.result import CellResult, Floor

SCHEMA: Final = 1
"""Goes up when a key of the JSON document changes its meaning or goes away."""

# ---- the table ----

_GAP: Final = "  "
_NARROWEST_NAME: Final = 12

_MARKS: Final[tuple[tuple[str, Callable[[CellResult], bool]], ...]] = (
    ("*", lambda cell: cell.mode == "inline"),
    ("~", lambda cell: cell.partial),
    ("!", lambda cell: not cell.accounted),
)

_Column = tuple[str, "Callable[[CellResult], str]"]  # header, lines apart by \n; value


def _timed(value: Callable[[CellResult], str]) -> Callable[[CellResult], str]:
    """A time, but not of a cell that ran inline: beside those of two threads it would be read as one of them."""
    return lambda cell: "-" if cell.mode == "inline" else value(cell)


_SPEED: Final[tuple[_Column, ...]] = (
    ("faults/s", _timed(lambda cell: rate(cell.faults_per_s))),
    ("p50", _timed(lambda cell: duration(cell.latency_ns.p50))),
    ("p99", _timed(lambda cell: duration(cell.latency_ns.p99))),
    ("p99.9", _timed(lambda cell: duration(cell.latency_ns.p99_9))),
    ("max", _timed(lambda cell: duration(cell.latency_ns.max))),
    ("faults", lambda cell: f"{cell.faults:,}"),
    ("replays", lambda cell: f"{cell.replays:,}"),
)

_PRINTED: Final = {Unit.EVENTS: three_digits, Unit.BYTES: rate, Unit.NANOSECONDS: duration}


def _average(counter: CostCounter) -> Callable[[CellResult], str]:
    """What a fault cost on average, by one counter."""
    printed = _PRINTED[counter.unit]

    def average(cell: CellResult) -> str:
        return printed(getattr(cell.per_fault, counter.name))

    return _timed(average) if counter.unit is Unit.NANOSECONDS else average


_COST: Final[tuple[_Column, ...]] = (
    *((one.column, _average(one)) for one in COUNTERS if one.column is not None),
    ("\nanswered", lambda cell: f"{cell.answered:,}"),
    ("answered\nfor", lambda cell: f"{cell.auto_answered:,}"),
    ("\nlost", lambda cell: f"{cell.lost:,}"),
)


def _marks(cell: CellResult) -> str:
    return "".join(mark for mark, holds in _MARKS if holds(cell))


def _shortened(name: str, width: int) -> str:
    """The end of a long name: of MODULE:CLASS that is the telling part."""
    return name if len(name) <= width else ".." + name[2 - width :]


def _table(results: Sequence[CellResult], columns: Sequence[_Column]) -> Iterator[str]:
    """The lines of one table, a block for each number in flight."""
    header = [("in\nflight", [str(cell.in_flight) for cell in results])]
    header += [(title, [value(cell) for cell in results]) for title, value in columns]
    height = 1 + max(title.count("\n") for title, _ in header)
    titles = [title.rjust(len(title) + height - 1 - title.count("\n"), "\n").split("\n") for title, _ in header]
    widths = [max(map(len, [*title, *cells])) for title, (_, cells) in zip(titles, header, strict=True)]

    marks = [_marks(cell) for cell in results]
    mark_width = max(map(len, marks))
    room = WIDTH - sum(widths) - len(_GAP) * len(widths) - mark_width - bool(mark_width)
    names = [_shortened(plain(cell.design), max(room, _NARROWEST_NAME)) for cell in results]
    labels = [f"{name} {mark}" if mark else name for name, mark in zip(names, marks, strict=True)]
    label_width = max(map(len, [*labels, "design"]))

    def line(label: str, cells: Iterable[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return _GAP.join([first, label.ljust(label_width), *others]).rstrip()

    for n in range(height):
        yield line("design" if n == height - 1 else "", [title[n] for title in titles])
    for n, cell in enumerate(results):
        if n and results[n - 1].in_flight != cell.in_flight:
            yield ""
        yield line(labels[n], [cells[n] for _, cells in header])


def _captions(comparison: Comparison, environment: Mapping[str, Any]) -> Iterator[str]:
    plan = comparison.plan
    workload = plan.workload
    spaces = workload.address_spaces
    machine = f"{environment['cpu']}, {environment['cpus']} usable processors, Linux {environment['kernel']}"
    versions = f"uring_iopf {environment['uring_iopf']}, Python {environment['python']}"
    trace = f"{len(workload):,} faults in {spaces} address space{'s' * (spaces != 1)}, content {workload.digest}"
    for label, text in (
        ("workload", f"{workload.name}: {trace}"),
        ("client", f"{plan.client}, driver {plan.parts.driver}, wait {plan.parts.wait}"),
        ("group", f"{plan.parts.group} page{'s' * (plan.parts.group != 1)} at most"),
        ("each cell", f"replayed into fresh tables for at least {plan.seconds:g} s and {plan.faults:,} faults"),
        *((("", f"measured {plan.repeat} times, the median by faults/s is shown"),) if plan.repeat > 1 else ()),
        ("machine", f"{machine}; {versions}"),
    ):
        yield paragraph(text, label=f"{label:<11}")


def _floor(floor: Floor | None) -> Iterator[str]:
    if floor is None:
        yield "floor of this machine: interrupted before it was measured"
        return
    yield "floor of this machine, measured in the same run:"
    for what, ns in (
        ("a cache line, there and back between two processors", floor.cache_line_ns),
        ("an eventfd, there and back between two threads", floor.eventfd_ns),
        ("a system call that does nothing", floor.system_call_ns),
    ):
        yield f"  {what:<52} {'not measurable here' if ns is None else duration(ns):>9}"


def _footnotes(comparison: Comparison) -> Iterator[str]:
    """What the marks mean that occur."""
    results = comparison.results
    if any(cell.mode == "inline" for cell in results):
        yield paragraph(
            "inline: the design is written in Python, and runs on one thread with a plain Python client, whatever "
            "client and driver stand above. Its counts per fault compare with the others'. Its times do not, so "
            "there is a dash for each; the JSON has them.",
            label="* ",
        )
    if any(cell.partial for cell in results):
        yield paragraph("partial: interrupted before it had run for its time; what it had come to.", label="~ ")
    if comparison.unaccounted:
        yield paragraph("not every fault is accounted for:", label="! ")
    for complaint in complaints(comparison):
        yield paragraph(complaint, label="  ")


def complaints(comparison: Comparison) -> list[str]:
    """A line for each cell in which not every fault is accounted for: which it is, and what is missing."""
    lines = Counter(
        f"{plain(cell.design)}, {cell.in_flight} in flight: {plain('; '.join(cell.missing))}"
        for cell in comparison.unaccounted
    )
    return [line if times == 1 else f"{line} (in {times} measurements)" for line, times in lines.items()]


def render(comparison: Comparison, environment: Mapping[str, Any]) -> str:
    """The whole text, with a newline at its end."""
    lines: list[str] = []
    plan = comparison.plan
    if comparison.partial:
        total = len(plan.cells) * plan.repeat
        complete = sum(not cell.partial for cell in comparison.measurements)
        lines += [f"PARTIAL: interrupted when {complete} of {total} measurements were complete.", ""]
    lines += [*_captions(comparison, environment), ""]
    if comparison.results:
        lines += ["Speed and latency", "", *_table(comparison.results, _SPEED), ""]
        lines += ["Cost per fault, and what became of all", "", *_table(comparison.results, _COST), ""]
    else:
        lines += ["Nothing was measured.", ""]
    if footnotes := list(_footnotes(comparison)):
        lines += [*footnotes, ""]
    lines += _floor(comparison.floor)
    return "\n".join(lines) + "\n"


# ---- the JSON document ----


def document(
    comparison: Comparison, *, arguments: Mapping[str, Any], started: datetime, environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, and what it takes to do it again.

    `results` are the cells of the table; `measurements` every measurement, where cells were measured more than once.
    """
    plan = comparison.plan
    workload = plan.workload
    return {
        "schema": SCHEMA,
        "started": started.isoformat(timespec="seconds"),
        "partial": comparison.partial,
        "arguments": dict(arguments),
        "seed": plan.parts.seed,
        "workload": {
            "name": workload.name,
            "digest": workload.digest,
            "faults": len(workload),
            "address_spaces": workload.address_spaces,
            "table_pages": workload.table_pages,
        },
        "results": [result.to_json() for result in comparison.results],
        "measurements": [result.to_json() for result in comparison.measurements] if plan.repeat > 1 else [],
        "floor": None if comparison.floor is None else comparison.floor.to_json(),
        "environment": dict(environment),
    }
