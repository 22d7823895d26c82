"""``uring-iopf compare``: replay a workload through delivery designs and print a table."""

from __future__ import annotations

import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uring_iopf.commands.shared import (
    INTERRUPTED,
    OK,
    UNACCOUNTED,
    DesignFacts,
    Parser,
    Parts,
    listed,
    number_above_zero,
    open_json,
    whole_number,
)
from uring_iopf.costs import COUNTERS
from uring_iopf.errors import UsageError
from uring_iopf.machine_parts import DEFAULT_WORKLOAD, MOST_IN_FLIGHT, MOST_IN_GROUP, MachineParts

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from uring_iopf.lab.compare import Plan

DEFAULT_IN_FLIGHT: Final = (1, 16, 64)
LOADS: Final = ("closed", "trace", "poisson")
MOST_REPEATS: Final = 1000

MOST_RATE: Final = 1e9
MOST_DURATION_S: Final = 3600.0

_COLUMNS: Final = (
    ("driver", "who runs the kernel's part; a design without a ring has system calls alone, and nothing to poll"),
    ("faults/s", "page requests answered per second, all replays together"),
    ("p50 .. max", "from the device's request until the answer has reached it; in an open loop from when it was due"),
    *((" ".join(one.column.split()), f"per fault: {one.what}") for one in COUNTERS if one.column is not None),
    ("faults", "how many were measured"),
    ("answered", "faults that the client answered"),
    ("answered for", "faults answered INVALID in its stead (detach, replace, close)"),
    ("lost", "faults that got no answer; anything but 0 is an error"),
    ("min, max", "with --repeat: the slowest and the fastest measurement of the row"),
)

_STATUSES: Final = (
    ("0", "every fault of every cell is accounted for"),
    ("1", "some are not, or the JSON could not be written; standard error says what is missing"),
    ("2", "the command was not understood; nothing was measured"),
    ("130", "interrupted by Ctrl-C, after printing what was measured so far, marked as partial"),
    ("143, 129", "the same, by SIGTERM or SIGHUP"),
)


def add_options(parser: Parser, parts: Parts) -> None:
    """Add what the command takes."""
    parser.description = (
        "Replay a real program's page faults through delivery designs.\nPrint how fast each design is, and "
        "what a fault costs."
    )
    add = parser.add_argument
    add(
        "--workload",
        metavar="NAME|FILE",
        default=DEFAULT_WORKLOAD,
        help=f"what to replay: a bundled trace, or your own (default: {DEFAULT_WORKLOAD})",
    )
    add(
        "--design",
        metavar="NAME|MODULE:CLASS",
        action="append",
        help="what to compare; give it several times for several (default: all that are written in C)",
    )
    add(
        "--client",
        choices=("native", "trio", "batch"),
        default="native",
        help="who answers: a C loop, a trio program with an object per fault, or Python with NumPy arrays "
        "(default: native)",
    )
    add(
        "--driver",
        choices=("both", "enter", "sqpoll"),
        default="both",
        help="who runs the kernel's part for designs with a ring: the client in its system calls (enter), a polling "
        "thread (sqpoll), or a row for each (default: both)",
    )
    add(
        "--wait",
        choices=("spin", "sleep"),
        default="spin",
        help="what a client does that has nothing to do: look again, or sleep until it is woken (default: spin)",
    )
    add(
        "--in-flight",
        metavar="N",
        action="append",
        type=whole_number(1, MOST_IN_FLIGHT),
        help=f"groups of faults outstanding at once, up to {MOST_IN_FLIGHT}; give it several times for several "
        f"(default: {', '.join(map(str, DEFAULT_IN_FLIGHT))}; in an open loop as many as there can be)",
    )
    add(
        "--load",
        choices=LOADS,
        default="closed",
        help="when faults come: when an answer makes room (closed), at the trace's own times, or at random "
        "(default: closed)",
    )
    add(
        "--rate",
        metavar="N",
        action="append",
        type=number_above_zero(MOST_RATE),
        help="faults per second that an open loop offers; give it several times for latency against rate "
        "(default for trace: as recorded)",
    )
    add(
        "--duration",
        metavar="SECONDS",
        type=number_above_zero(MOST_DURATION_S),
        default=1.0,
        help="how long each row is measured; in a closed loop at least so long, until it has 100,000 faults "
        "(default: 1)",
    )
    add(
        "--group",
        metavar="N",
        type=whole_number(1, MOST_IN_GROUP),
        default=1,
        help=f"pages in one group at most, up to {MOST_IN_GROUP}: neighbours in the trace that are asked for and "
        "answered together (default: 1)",
    )
    add(
        "--repeat",
        metavar="N",
        type=whole_number(1, MOST_REPEATS),
        default=1,
        help="measure every cell N times and print the one in the middle by faults/s; the JSON has all (default: 1)",
    )
    add(
        "--seed",
        metavar="N",
        type=whole_number(0, 2**64 - 1),
        default=0,
        help="from which the times of --load poisson are drawn (default: 0)",
    )
    add(
        "--json",
        metavar="FILE",
        help="everything goes there too, with what it takes to do it again; -: standard output",
    )
    parser.late_epilog = lambda: _epilog(parts)
    parser.set_defaults(run=run, parser=parser)


def _epilog(parts: Parts) -> str:
    from uring_iopf.workloads import BUNDLED

    designs = [parts.resolve_design(name) for name in parts.design_names()]
    designs.sort(key=lambda design: not design.has_client)
    own_design = ("MODULE:CLASS", "a design of your own; the current directory is looked at first")
    own_trace = ("FILE", "CSV, gzipped or plain, with the header time_ns,pasid,thread,address,access; - for stdin")
    return "\n\n".join(
        [
            listed("designs", [*map(_described, designs), own_design]),
            listed("workloads", [*BUNDLED.items(), own_trace]),
            listed("what the columns mean", _COLUMNS),
            listed("exit status", _STATUSES),
        ]
    )


def _described(design: DesignFacts) -> tuple[str, str]:
    return design.name, design.summary if design.year == "-" else f"{design.summary} ({design.year})"


def _plan(arguments: argparse.Namespace, parts: Parts) -> Plan:
    """What to compare. Raises: UsageError."""
    from uring_iopf.lab.compare import Plan

    if arguments.client == "batch" and not parts.is_installed("numpy"):
        raise UsageError("--client batch needs NumPy: pip install uring-iopf[numpy]")
    machine = MachineParts.of(
        arguments.workload,
        driver="enter" if arguments.driver == "both" else arguments.driver,
        wait=arguments.wait,
        group=arguments.group,
        seed=arguments.seed,
    )
    designs = _designs(arguments.design, parts)
    facts = {spec: parts.resolve_design(spec) for spec in designs}
    return Plan(
        machine,
        designs=designs,
        in_flight=_in_flight(machine, arguments.in_flight, arguments.load),
        client=arguments.client,
        repeat=arguments.repeat,
        seconds=arguments.duration,
        drivers={spec: _drivers(fact, arguments.driver) for spec, fact in facts.items()},
        load=arguments.load,
        rates=_rates(machine, arguments.load, arguments.rate),
        about={fact.name: f"{str(fact.year).strip('-'):<4} {fact.summary}" for fact in facts.values()},
        bounds=frozenset(fact.name for fact in facts.values() if not fact.has_client),
    )


def _in_flight(machine: MachineParts, given: Sequence[int] | None, load: str) -> tuple[int, ...]:
    """The numbers in flight; of the defaults as much as this workload can reach. Raises: UsageError, it cannot."""
    from uring_iopf.lab.reach import most_in_flight

    assert machine.workload is not None
    most = most_in_flight(machine.workload, machine.group)
    for number in given or ():
        if number > most:
            raise UsageError(
                f"--in-flight {number}: of {machine.workload.name}, in groups of {machine.group} at most, {most} can "
                "be in flight and no more"
            )
    defaults = DEFAULT_IN_FLIGHT if load == "closed" else (most,)
    return tuple(dict.fromkeys(given or (min(number, most) for number in defaults)))


def _drivers(design: DesignFacts, wanted: str) -> tuple[str, ...]:
    """With which it is measured: what has no ring has nothing that could be polled, whoever wants that."""
    if design.inline_only:
        return ("inline",)
    if not design.has_client:
        return ("sqpoll",)  # the kernel by itself
    if not design.has_ring:
        return ("enter",)
    return ("enter", "sqpoll") if wanted == "both" else (wanted,)


def _rates(machine: MachineParts, load: str, given: Sequence[float] | None) -> tuple[float | None, ...]:
    """What an open loop offers. Raises: UsageError."""
    if load == "closed":
        if given:
            raise UsageError("--rate is what an open loop offers: give --load poisson or --load trace too")
        return (None,)
    if load == "poisson" and not given:
        raise UsageError("--load poisson needs --rate, the faults per second that are offered")
    assert machine.workload is not None
    if load == "trace" and math.isinf(machine.workload.mean_rate):
        raise UsageError(f"--load trace: the faults of {machine.workload.name} all have the same time")
    return tuple(dict.fromkeys(given or [machine.workload.mean_rate]))


def _designs(specs: Sequence[str] | None, parts: Parts) -> tuple[str, ...]:
    names = parts.design_names()
    if not specs:
        return tuple(name for name in names if not parts.resolve_design(name).inline_only)
    for spec in specs:
        if ":" in spec:
            # A console script does not look at the current directory, `python -m` does: make them alike.
            if (here := str(Path.cwd())) not in sys.path:
                sys.path.insert(0, here)
        elif spec not in names:
            raise UsageError(
                f"no design {spec!r}: there are {', '.join(names)}; or give MODULE:CLASS, a design of your own that "
                "Python can import from here (my_package:Mine)"
            )
        parts.resolve_design(spec)
    return tuple(dict.fromkeys(specs))


def run(arguments: argparse.Namespace, parts: Parts) -> int:
    """Measure every cell, print the table, and return the exit status."""
    from datetime import UTC, datetime

    from uring_iopf.lab.compare import run_comparison
    from uring_iopf.reports import comparison as report
    from uring_iopf.reports.document import environment, json_text
    from uring_iopf.reports.progress import progress

    plan = _plan(arguments, parts)
    started = datetime.now(UTC)
    made_with = environment()
    with ExitStack() as stack:
        json_file = open_json(stack, arguments.json, inputs=[arguments.workload])
        with progress() as on_progress:
            comparison = run_comparison(
                plan, on_progress=on_progress, measure_cell=parts.measure_cell, measure_floor=parts.measure_floor
            )
        complaints = [f"not accounted for: {complaint}" for complaint in report.complaints(comparison)]
        if json_file is not None:  # first, since whoever reads the table may go away
            content = report.document(
                comparison, arguments=_repeatable(arguments, plan), started=started, environment=made_with
            )
            if (complaint := json_file.write(json_text(content))) is not None:
                complaints.append(complaint)  # a full disk, say: what was measured is still printed
    out = sys.stderr if json_file is not None and json_file.is_stdout else sys.stdout
    out.write(report.render(comparison, made_with))
    out.flush()
    # For those who keep only the table: what it is not worth, and what is behind the status.
    for reason in comparison.unfit:
        sys.stderr.write(f"uring-iopf: do not trust these numbers: {reason}\n")
    for complaint in complaints:
        sys.stderr.write(f"uring-iopf: {complaint}\n")
    if comparison.partial:
        sys.stderr.write("uring-iopf: interrupted; the results are partial\n")
        return INTERRUPTED
    return UNACCOUNTED if complaints else OK


def _repeatable(arguments: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """The arguments with the defaults filled in."""
    given = {name: value for name, value in vars(arguments).items() if name not in ("command", "run", "parser")}
    rates = [rate for rate in plan.rates if rate is not None]
    return {**given, "design": list(plan.designs), "in_flight": list(plan.in_flight), "rate": rates}
