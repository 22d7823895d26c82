"""The printed tables of a comparison, and its JSON document.

The text suits terminals and mails: plain ASCII, at most `WIDTH` columns, no trailing blanks.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from uring_iopf.costs import COUNTERS, PARTS, Unit
from uring_iopf.costs.virtual import digest_of
from uring_iopf.lab.compare import PATIENCE
from uring_iopf.machine_parts import IOMMUS
from uring_iopf.reports.document import this_machine
from uring_iopf.reports.text import WIDTH, duration, paragraph, plain, rate, three_digits

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from uring_iopf.costs import CostCounter
    from uring_iopf.costs.model import CostModel
    from uring_iopf.iommufd import QueueLimits
    from uring_iopf.lab.compare import Comparison, Plan
    from uring_iopf.lab.result import CellResult, LimitCounts, StageCosts
    from uring_iopf.machine_parts import MachineParts

SCHEMA: Final = 2
"""The number is raised when a key of the JSON document is removed or changes its meaning."""

# ---- the tables ----

_GAP: Final = "  "
_NARROWEST_NAME: Final = 12

_MARKS: Final[tuple[tuple[str, Callable[[CellResult], bool]], ...]] = (
    ("*", lambda cell: cell.mode == "inline"),
    ("<", lambda cell: cell.limited),
    (">", lambda cell: _overloaded(cell)),
    ("~", lambda cell: cell.partial),
    ("!", lambda cell: not cell.accounted),
    ("^", lambda cell: _mostly_emulated(cell)),
)

_EMULATED: Final = 1 / 3
"""The share of a row's time per fault above which the simulated hardware may decide its place."""


def _mostly_emulated(cell: CellResult) -> bool:
    return cell.mode != "inline" and cell.emulated is not None and cell.emulated > _EMULATED


_KEEPS_UP: Final = 0.95
"""The share of an open loop's rate that a design must reach, or its row is marked as overloaded."""


def _overloaded(cell: CellResult) -> bool:
    """Whether the rate was higher than the design could serve.

    A lower number of faults/s alone does not show that: a trace is uneven, and the mean of a few random times is off.
    If a design serves too few faults, they queue up: the last faults of a pass have waited for the same share of its
    time as the share of faults that the design could not serve. So the latency is looked at too.
    """
    if cell.rate is None or not cell.accounted or not 0 < cell.faults_per_s < _KEEPS_UP * cell.rate:
        return False
    pass_ns = cell.faults / cell.faults_per_s * 1e9 / (cell.replays + 1)
    return cell.latency_ns.p99 > (1 - _KEEPS_UP) / 2 * pass_ns


_Column = tuple[str, "Callable[[CellResult], str]"]  # header, lines apart by \n; value

_DRIVER: Final[_Column] = ("driver", lambda cell: "-" if cell.client == "kernel" else cell.driver)


def _timed(value: Callable[[CellResult], str]) -> Callable[[CellResult], str]:
    """A dash for a cell that ran inline, or without a fault; else the time.

    Beside the times of two threads, the time of an inline cell would be taken for one of them.
    """
    return lambda cell: "-" if cell.mode == "inline" or not cell.faults else value(cell)


_SPEED: Final[tuple[_Column, ...]] = (
    ("faults/s", _timed(lambda cell: rate(cell.faults_per_s))),
    ("own", _timed(lambda cell: "-" if cell.emulated is None else f"{cell.emulated:.0%}")),
    ("p50", _timed(lambda cell: duration(cell.latency_ns.p50))),
    ("p99", _timed(lambda cell: duration(cell.latency_ns.p99))),
    ("p99.9", _timed(lambda cell: duration(cell.latency_ns.p99_9))),
    ("max", _timed(lambda cell: duration(cell.latency_ns.max))),
)


def _percent(error: float | None) -> str:
    return "-" if error is None else f"{error:+.0%}"


_BESIDE: Final[tuple[_Column, ...]] = (
    ("\nfaults/s", _timed(lambda cell: rate(cell.faults_per_s))),
    ("pre-\ndicted", lambda cell: "-" if cell.predicted is None else rate(cell.predicted.faults_per_s)),
    ("\nerror", lambda cell: _percent(cell.error_of_rate)),
    ("\np50", _timed(lambda cell: duration(cell.latency_ns.p50))),
    ("pre-\ndicted", lambda cell: "-" if cell.predicted is None else duration(cell.predicted.latency_ns.p50)),
    ("\nerror", lambda cell: _percent(cell.error_of_p50)),
)

NEAR: Final = 0.3
"""The largest error of a prediction that counts as near."""

_KNOWN: Final[_Column] = ("known\nby", lambda cell: cell.known_by or "-")


def _pages(value: Callable[[StageCosts], str]) -> Callable[[CellResult], str]:
    """A dash for a cell in which no page was looked at."""
    return lambda cell: "-" if cell.stages is None or not cell.stages.pages else value(cell.stages)


def _per_page(name: str) -> Callable[[CellResult], str]:
    return _pages(lambda stages: three_digits(getattr(stages, name) / stages.pages))


_STAGES: Final[tuple[_Column, ...]] = (
    _KNOWN,
    ("to\nclient", _pages(lambda stages: f"{stages.to_guest:,}")),
    ("by\nhost", _pages(lambda stages: f"{stages.by_host:,}")),
    ("\nwalks", _per_page("walks")),
    ("\nentries", _per_page("entries")),
    ("\ncalls", _per_page("calls")),
    ("\nlocks", _per_page("locks")),
)

_PRINTED: Final = {Unit.EVENTS: three_digits, Unit.BYTES: rate, Unit.NANOSECONDS: duration}


def _average(counter: CostCounter) -> Callable[[CellResult], str]:
    """The average of one counter per fault."""
    printed = _PRINTED[counter.unit]

    def average(cell: CellResult) -> str:
        return printed(getattr(cell.per_fault, counter.name))

    return _timed(average) if counter.unit is Unit.NANOSECONDS else average


_COST: Final[tuple[_Column, ...]] = (
    *((one.column, _average(one)) for one in COUNTERS if one.column is not None),
    ("\nfaults", lambda cell: f"{cell.faults:,}"),
)


def _part(name: str) -> Callable[[CellResult], str]:
    """One part of the mean latency, or a dash."""
    return lambda cell: "-" if cell.parts_ns is None else duration(getattr(cell.parts_ns, name))


_PARTS: Final[tuple[_Column, ...]] = tuple((name, _part(name)) for name in PARTS)

_ENDS: Final[tuple[_Column, ...]] = (
    ("\nfaults", lambda cell: f"{cell.faults:,}"),
    ("\nanswered", lambda cell: f"{cell.answered:,}"),
    ("answered\nfor", lambda cell: f"{cell.auto_answered:,}"),
    ("\nlost", lambda cell: f"{cell.lost:,}"),
)


def _of_limits(value: Callable[[LimitCounts], int]) -> Callable[[CellResult], str]:
    return lambda cell: "-" if cell.limits is None else f"{value(cell.limits):,}"


_NOT_SERVED: Final[_Column] = (
    "not\nserved",
    lambda cell: f"{1 - cell.answered / cell.faults:.1%}" if cell.faults else "-",
)
"""Beside the speed: a fault that the client has not seen is answered sooner."""

_BY_DEPTH: Final[_Column] = ("lost,\ndepth", _of_limits(lambda counts: counts.lost_faults))

_LATE: Final[tuple[_Column, ...]] = (
    ("timed\nout", _of_limits(lambda counts: counts.timed_out_faults)),
    ("late,\nrefused", lambda cell: f"{cell.answer_errors:,}"),
    ("late,\nastray", lambda cell: f"{cell.astray:,}"),
)


def _has_depth(plan: Plan) -> bool:
    return plan.parts.limits is not None and plan.parts.limits.depth is not None


def _has_timeout(plan: Plan) -> bool:
    return plan.parts.limits is not None and plan.parts.limits.timeout_ns is not None


def _known(comparison: Comparison) -> tuple[_Column, ...]:
    """The column that tells the rows of two stages apart."""
    return (_KNOWN,) if comparison.plan.ways else ()


def _marks(cell: CellResult) -> str:
    return "".join(mark for mark, holds in _MARKS if holds(cell))


def _shortened(name: str, width: int) -> str:
    """The end of a long name, because the end of MODULE:CLASS tells most."""
    return name if len(name) <= width else ".." + name[2 - width :]


def _block(cell: CellResult) -> tuple[float, int]:
    """The rate and the number in flight, which the rows of a block share."""
    return cell.rate or 0.0, cell.in_flight


def _block_title(cell: CellResult) -> str:
    if cell.rate is None:
        return f"{cell.in_flight} in flight"
    return f"{rate(cell.rate)} faults/s offered, at most {cell.in_flight} in flight"


def _rows(comparison: Comparison) -> list[CellResult]:
    """The results as they stand in a table: in the plan's order, in each block those without user space last."""
    bounds = comparison.plan.bounds
    blocks = list(dict.fromkeys(map(_block, comparison.results)))
    return sorted(comparison.results, key=lambda cell: (blocks.index(_block(cell)), cell.design in bounds))


def _table(rows: Sequence[CellResult], columns: Sequence[_Column], bounds: Container[str]) -> Iterator[str]:
    """The lines of one table, a block for each load."""
    table = [(title, [value(cell) for cell in rows]) for title, value in (_DRIVER, *columns)]
    height = 1 + max(title.count("\n") for title, _ in table)
    titles = [title.rjust(len(title) + height - 1 - title.count("\n"), "\n").split("\n") for title, _ in table]
    widths = [max(map(len, [*title, *cells])) for title, (_, cells) in zip(titles, table, strict=True)]

    marks = [_marks(cell) for cell in rows]
    mark_width = max(map(len, marks))
    room = WIDTH - sum(widths) - len(_GAP) * len(widths) - mark_width - bool(mark_width)
    labels = []
    for cell, mark in zip(rows, marks, strict=True):
        is_bound = cell.design in bounds
        name = _shortened(plain(cell.design), max(room, _NARROWEST_NAME) - 2 * is_bound)
        label = f"({name})" if is_bound else name
        labels.append(f"{label} {mark}" if mark else label)
    label_width = max(map(len, [*labels, "design"]))

    def line(label: str, cells: Iterable[str]) -> str:
        driver, *others = (cell for cell in cells)
        numbers = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        return _GAP.join([label.ljust(label_width), driver.ljust(widths[0]), *numbers]).rstrip()

    for n in range(height):
        yield line("design" if n == height - 1 else "", [title[n] for title in titles])
    for n, cell in enumerate(rows):
        if not n or _block(rows[n - 1]) != _block(cell):
            yield from [""] * bool(n)
            yield f"{_block_title(cell)}:"
        yield line(labels[n], [cells[n] for _, cells in table])


def _spread(comparison: Comparison) -> Iterator[str]:
    """The table of the spread between the measurements of each cell."""
    rates = {id(cell): [one.faults_per_s for one in of_cell] for cell, of_cell in _by_cell(comparison)}
    columns: tuple[_Column, ...] = (
        ("min", _timed(lambda cell: rate(min(rates[id(cell)])))),
        ("median", _timed(lambda cell: rate(cell.faults_per_s))),
        ("max", _timed(lambda cell: rate(max(rates[id(cell)])))),
        ("max/min", lambda cell: three_digits(max(rates[id(cell)]) / (min(rates[id(cell)]) or math.inf))),
    )
    yield f"Spread: faults/s in the {comparison.plan.repeat} measurements of each row"
    yield ""
    yield from _table(_rows(comparison), (*_known(comparison), *columns), comparison.plan.bounds)


def _by_cell(comparison: Comparison) -> Iterator[tuple[CellResult, tuple[CellResult, ...]]]:
    yield from zip(comparison.results, comparison.rounds, strict=True)


# ---- around the tables ----

_DRIVERS: Final = {
    "enter": "the client's thread, in its system calls",
    "sqpoll": "a worker thread, which polls the ring",
    "inline": "one thread, which runs everything in turns",
}

_WAYS: Final = {
    "hardware": "a stall says which stage has faulted (smmuv3-stall)",
    "driver": "the driver walks the tables for each page, in its interrupt",
    "handler": "the driver reports all, and the handler filters, under its lock",
    "nobody": "all of stage 2 is pinned, so it is always stage 1",
}

_LOADS: Final = {
    "closed": "closed loop: an answer makes room for the next fault",
    "trace": "open loop: faults come at the times in the trace, scaled to the rate",
    "poisson": "open loop: faults come at random times, with exponential gaps, at the rate",
}


def _two_stages(ways: Sequence[MachineParts]) -> str:
    share = max(way.stage2 or 0.0 for way in ways if way.stage_known_by != "nobody" or len(ways) == 1)
    pinned = {0.0: "nothing", 1.0: "everything"}.get(share, f"{share:.0%}")
    return f"stage 1 the client's, stage 2 the host's, with {pinned} pinned; the kernel serves stage 2"


def _time(comparison: Comparison) -> str | None:
    """The clock of the results, and the prices; None: real time, of which there is nothing to say."""
    plan, model = comparison.plan, comparison.model
    if not plan.both:
        return None if model is None else _virtual_time(model)
    if model is None:
        return "live; no prices were measured for predictions"
    measured = "" if comparison.calibrated is None else ", which this run has measured"
    return (
        f"live, and predicted in virtual time by the prices of {plain(model.name)} ({plain(model.machine)}; digest "
        f"{digest_of(model)}){measured}"
    )


def _virtual_time(model: CostModel) -> str:
    return (
        f"virtual, by the prices of {plain(model.name)} ({plain(model.machine)}; digest {digest_of(model)}); the "
        "machine above does not matter. Predictions are unproven until they have been checked against real kernels"
    )


_MATCHES: Final = {
    "cookie": "an answer names its group by the cookie that the kernel gave it",
    "index": "an answer names device, PASID and group index",
}


def _limits(limits: QueueLimits) -> str:
    """The limits of the fault queue, each in its words."""
    said = []
    if (depth := limits.depth) is not None:
        groups = f"{depth} group{'s' * (depth != 1)}"
        said.append(f"at most {groups} wait to be read; one more is lost, and answered {limits.depth_response.name}")
    if limits.timeout_ns is not None:
        after = duration(limits.timeout_ns)
        said.append(f"the kernel answers {limits.timeout_response.name} after {after} without an answer")
    return "; ".join(said)


def _match(plan: Plan) -> str:
    """The way in which answers name groups, and the designs that are left out for it."""
    text = _MATCHES[plan.match or ""]
    return f"{text}; without {', '.join(plan.left_out)}, which cannot" if plan.left_out else text


def _captions(comparison: Comparison, environment: Mapping[str, Any]) -> Iterator[str]:
    plan = comparison.plan
    workload = plan.workload
    spaces = workload.address_spaces
    usable = f"{environment['cpus']} usable processor{'s' * (environment['cpus'] != 1)}"
    machine = f"{environment['cpu']}, {usable}, Linux {environment['kernel']}"
    versions = f"uring_iopf {environment['uring_iopf']}, Python {environment['python']}"
    trace = (
        f"{len(workload):,} faults on {workload.pages:,} pages in {spaces} address space{'s' * (spaces != 1)}, "
        f"content {workload.digest}"
    )
    seed = f", seed {plan.parts.seed}" if plan.load == "poisson" else ""
    groups = f"groups of {plan.parts.group} page{'s' * (plan.parts.group != 1)} at most"
    least = f" at least and {plan.faults:,} faults" if plan.load == "closed" else ""
    how_long = f"for {plan.seconds:g} s{least}"
    if not plan.is_live and plan.load == "closed":
        how_long = f"until it has {plan.faults:,} faults"
    for label, text in (
        ("workload", f"{workload.name}: {trace}"),
        ("load", f"{_LOADS[plan.load]}; {groups}{seed}"),
        ("client", f"{plan.client}, wait {plan.parts.wait}"),
        *((("IOMMU", plan.parts.iommu),) if plan.parts.iommu != IOMMUS[0] else ()),
        *((("stages", _two_stages(plan.ways)),) if plan.ways else ()),
        *((("limits", limits),) if plan.parts.limits and (limits := _limits(plan.parts.limits)) else ()),
        *((("answers", _match(plan)),) if plan.match else ()),
        ("each row", f"replayed into fresh tables {how_long}"),
        *((("", f"measured {plan.repeat} times, the median by faults/s is shown"),) if plan.repeat > 1 else ()),
        ("machine", f"{machine}; {versions}"),
        *((("time", time),) if (time := _time(comparison)) else ()),
    ):
        yield paragraph(text, label=f"{label:<11}")


def _legend(comparison: Comparison) -> Iterator[str]:
    """A line for each design and driver that occurs, in the order of the rows."""
    rows = _rows(comparison)
    about, bounds = comparison.plan.about, comparison.plan.bounds
    names = list(dict.fromkeys(cell.design for cell in sorted(rows, key=lambda cell: cell.design in bounds)))
    labels = {name: f"({plain(name)})" if name in bounds else plain(name) for name in names}
    width = min(max(map(len, labels.values())), 20)
    yield "Rows: the designs, in the order in which they were proposed or given."
    for name in names:
        yield paragraph(about.get(name) or "-", label=f"  {_shortened(labels[name], 20):<{width}}  ")
    drivers = list(dict.fromkeys(cell.driver for cell in rows if cell.design not in bounds))
    if bounds & set(names):
        yield "  In parentheses, below the others: a bound, which has no user space."
    if drivers:
        yield "Drivers: the thread that runs the kernel's part."
        for driver in drivers:
            yield paragraph(_DRIVERS.get(driver, "-"), label=f"  {driver:<{width}}  ")
    if ways := list(dict.fromkeys(cell.known_by for cell in rows if cell.known_by)):
        yield "Known by: how the kernel knows which stage has faulted."
        for way in ways:
            yield paragraph(_WAYS[way], label=f"  {way:<{width}}  ")


def _floor(comparison: Comparison) -> Iterator[str]:
    floor = comparison.floor
    if not comparison.plan.is_live:
        yield "floor of this machine: none, because virtual time does not use the machine"
        return
    if floor is None:
        yield "floor of this machine: not measured, because the run was interrupted"
        return
    yield "floor of this machine, measured in the same run:"
    for what, ns in (
        ("a cache line, there and back between two processors", floor.cache_line_ns),
        ("an eventfd, there and back between two threads", floor.eventfd_ns),
        ("a system call that does nothing", floor.system_call_ns),
    ):
        yield f"  {what:<52} {'not measurable here' if ns is None else duration(ns):>9}"
    if floor.together is not None:
        yield f"  {'both processors ran at the same time':<52} {floor.together:>9.1%}"
    for in_flight, messages in floor.bare_rings_per_s.items():
        yield f"  {f'bare rings, {in_flight} in flight, messages/s':<52} {rate(messages):>9}"


def _footnotes(comparison: Comparison) -> Iterator[str]:
    """Explain the marks that occur in the tables."""
    results = comparison.results
    if any(cell.mode == "inline" for cell in results):
        yield paragraph(
            "inline: the design is written in Python. It runs on one thread, with a plain Python client, and ignores "
            "--client and --driver. Its counts per fault are comparable with the other rows. Its times are not, so "
            "the table has dashes; the JSON has the times.",
            label="* ",
        )
    if any(cell.limited for cell in results):
        limit = PATIENCE * comparison.plan.seconds
        yield paragraph(
            f"limited: stopped after {limit:g} s, with fewer than {comparison.plan.faults:,} faults.", label="< "
        )
    if any(map(_overloaded, results)):
        yield paragraph(
            "overloaded: the design is slower than the rate. Faults waited in the device, so the latency is the time "
            "in that queue. It grows with the duration of the measurement.",
            label="> ",
        )
    if any(map(_mostly_emulated, results)):
        yield paragraph(
            "own: the simulated function and IOMMU, which no processor of a real machine runs, take over a third of "
            "the row's time per fault. Differences between such rows may be the emulator's.",
            label="^ ",
        )
    if any(cell.partial for cell in results):
        yield paragraph("partial: interrupted; the row has the faults measured until then.", label="~ ")
    if comparison.unaccounted:
        yield paragraph("faults are not accounted for:", label="! ")
    for complaint in complaints(comparison):
        yield paragraph(complaint, label="  ")


def _what_became_of_all(comparison: Comparison) -> Iterator[str]:
    """A sentence, where every fault was answered by the client; else a table."""
    rows = _rows(comparison)
    columns = (*_known(comparison), *_ENDS, *([_BY_DEPTH] if _has_depth(comparison.plan) else []))
    if all(cell.faults == cell.answered for cell in rows):
        faults = sum(cell.faults for cell in rows)
        yield f"All faults: {faults:,} answered, 0 answered for the client, 0 lost."
        return
    yield "Account of all faults"
    yield ""
    yield from _table(rows, columns, comparison.plan.bounds)


def of_another_machine(comparison: Comparison, environment: Mapping[str, Any]) -> str | None:
    """The reason not to trust the errors of predictions, if the prices are another machine's; None: they are not."""
    plan = comparison.plan
    if not plan.both or plan.model is None:
        return None
    theirs, here = (plan.model.machine, plan.model.kernel), this_machine(environment)
    if theirs == here:
        return None
    theirs_said, here_said = (plain(", ".join(part for part in one if part)) for one in (theirs, here))
    return (
        f"the prices of {plain(plan.model.name)} are of another machine ({theirs_said}) than the measurements "
        f"({here_said}); the error of a prediction says nothing then; leave --model out, or calibrate here"
    )


def _beside(comparison: Comparison) -> Iterator[str]:
    """The table of predictions beside measurements, how many are near, and why others are missing."""
    rows = _rows(comparison)
    yield "Predicted beside measured"
    yield ""
    if predicted := [cell for cell in rows if cell.predicted is not None]:
        yield from _table(rows, _BESIDE, comparison.plan.bounds)
        yield ""
        for what, every in (
            ("faults/s", [cell.error_of_rate for cell in predicted]),
            ("p50", [cell.error_of_p50 for cell in predicted]),
        ):
            errors = [error for error in every if error is not None]
            near = sum(abs(error) <= NEAR for error in errors)
            yield f"{what} within {NEAR:.0%}: {near} of {len(errors)} rows"
    reasons: dict[str, list[str]] = {}
    for cell in rows:
        if cell.not_predicted is not None:
            of_reason = reasons.setdefault(plain(cell.not_predicted), [])
            if (name := plain(cell.design)) not in of_reason:
                of_reason.append(name)
    for why, names in reasons.items():
        yield paragraph(f"{', '.join(names)}: {why}", label="not predicted: ")


def _unfit(comparison: Comparison) -> Iterator[str]:
    if comparison.unfit:
        yield "UNFIT: do not trust these numbers:"
        for reason in comparison.unfit:
            yield paragraph(reason, label="  - ")
        yield ""


def _known_by(cell: CellResult) -> str:
    return "" if cell.known_by is None else f", stage known by {cell.known_by}"


def complaints(comparison: Comparison) -> list[str]:
    """A line for each cell in which a fault is not accounted for: the cell, and what is missing."""
    lines = Counter(
        f"{plain(cell.design)}, {cell.driver}, {_block_title(cell)}{_known_by(cell)}: {plain('; '.join(cell.missing))}"
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
    lines += [*_unfit(comparison), *_captions(comparison, environment), ""]
    if comparison.results:
        rows = _rows(comparison)
        lines += [*_legend(comparison), ""]
        known = _known(comparison)
        limited = (_has_depth(plan) or _has_timeout(plan)) and not known  # all three have no room
        speed = (*known, *_SPEED, *([_NOT_SERVED] if limited else []))
        lines += ["Speed and latency", "", *_table(rows, speed, plan.bounds), ""]
        lines += ["Cost per fault", "", *_table(rows, (*known, *_COST), plan.bounds), ""]
        if any(cell.parts_ns for cell in rows):
            lines += ["Where the latency goes, on average", "", *_table(rows, (*known, *_PARTS), plan.bounds), ""]
        if plan.both:
            lines += [*_beside(comparison), ""]
        if plan.ways:
            lines += ["Which stage faulted? Pages, and what it cost for each of them to know", ""]
            lines += [*_table(rows, _STAGES, plan.bounds), ""]
        if plan.repeat > 1:
            lines += [*_spread(comparison), ""]
        lines += [*_what_became_of_all(comparison), ""]
        if _has_timeout(plan):
            lines += ["Faults that timed out, and the answers that came after that", ""]
            lines += [*_table(rows, (*known, *_LATE), plan.bounds), ""]
    else:
        lines += ["Nothing was measured.", ""]
    if footnotes := list(_footnotes(comparison)):
        lines += [*footnotes, ""]
    lines += _floor(comparison)
    return "\n".join(lines) + "\n"


# ---- the JSON document ----


def _model(comparison: Comparison) -> dict[str, Any] | None:
    model, measured = comparison.model, comparison.calibrated
    if model is None:
        return None
    calibrated = None if measured is None else measured.to_json()
    return {"name": model.name, "digest": digest_of(model), "calibrated": calibrated}


def document(
    comparison: Comparison, *, arguments: Mapping[str, Any], started: datetime, environment: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole comparison, with the arguments that repeat it.

    `results` has the cells of the table; in virtual time nothing in it depends on the host. `measurements` has every
    measurement if cells were measured more than once.
    """
    plan = comparison.plan
    workload = plan.workload
    return {
        "schema": SCHEMA,
        "started": started.isoformat(timespec="seconds"),
        "partial": comparison.partial,
        "arguments": dict(arguments),
        "seed": plan.parts.seed,
        "model": _model(comparison),
        "fit": {"is_fit": not comparison.unfit, "reasons": list(comparison.unfit)},
        "workload": {
            "name": workload.name,
            "digest": workload.digest,
            "faults": len(workload),
            "pages": workload.pages,
            "address_spaces": workload.address_spaces,
            "table_pages": workload.table_pages,
        },
        "results": [result.to_json() for result in comparison.results],
        "measurements": [result.to_json() for result in comparison.measurements] if plan.repeat > 1 else [],
        "floor": None if comparison.floor is None else comparison.floor.to_json(),
        "floor_after": None if comparison.floor_after is None else comparison.floor_after.to_json(),
        "environment": dict(environment),
    }
