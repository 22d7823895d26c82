"""``uring-iopf compare``: replay a workload through delivery designs and print a table."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentTypeError
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
    add_fault_file,
    listed,
    number_above_zero,
    open_json,
    reached_in_flight,
    whole_number,
)
from uring_iopf.costs import COUNTERS, PARTS
from uring_iopf.costs.virtual import DEFAULT_MODEL
from uring_iopf.errors import UsageError
from uring_iopf.hardware.limits import DEFAULT_STALLS, IOMMU_TITLES, STALLING
from uring_iopf.machine_parts import (
    DEFAULT_WORKLOAD,
    IOMMUS,
    KNOWN_BY,
    MOST_IN_FLIGHT,
    MOST_IN_GROUP,
    FunctionParts,
    MachineParts,
)
from uring_iopf.reports.undisturbed import undisturbed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from uring_iopf.costs.model import CostModel
    from uring_iopf.iommufd import QueueLimits
    from uring_iopf.lab.compare import Plan

DEFAULT_IN_FLIGHT: Final = (1, 16, 64)
ALL_ON_HOST: Final = "host"
LOADS: Final = ("closed", "trace", "poisson")
MOST_REPEATS: Final = 1000

MOST_RATE: Final = 1e9
MOST_DURATION_S: Final = 3600.0
MOST_TIMEOUT_S: Final = 3600.0

_COLUMNS: Final = (
    ("driver", "the thread that runs the kernel's part (see --driver)"),
    ("faults/s", "page requests answered per second, over all replays"),
    (
        "own",
        "the share of the row's time per fault that the simulated device and IOMMU take, which no processor of a real "
        "machine runs; ^ marks a row above a third",
    ),
    (
        "predicted, error",
        "with --mode both: the same in virtual time, and how far the prediction is off, as a share of the measurement: "
        "+100% is twice, -50% is half",
    ),
    (
        "p50 .. max",
        "percentiles of the latency: the time from the device's page request until the answer reaches the device; in "
        "an open loop, the time from the moment at which the request was due",
    ),
    *((" ".join(one.column.split()), f"per fault: {one.what}") for one in COUNTERS if one.column is not None),
    *((name, f"mean time of a group: {what}") for name, what in PARTS.items()),
    ("faults", "the number of faults that were measured"),
    ("answered", "faults that the client answered"),
    ("answered for", "faults that the kernel answered INVALID in the client's place (detach, replace, close)"),
    ("known by", "with --stage2: how the kernel knew which stage had faulted (see --stage-known-by)"),
    ("to client, by host", "with --stage2: pages of stage 1, and of stage 2, which the kernel mapped"),
    (
        "walks .. locks",
        "with --stage2, per page: walks of the tables in software, entries that these loaded, calls of the "
        "registered handler, and times that the container's lock was taken",
    ),
    ("lost", "faults that nobody answered; any number but 0 is an error"),
    (
        "lost, depth",
        "with --depth: faults that found the fault queue full, and that the client has not seen; faults/s and the "
        "latency count them too",
    ),
    ("not served", "with --depth or --timeout: the share of the faults that the client did not answer"),
    ("timed out", "with --timeout: faults, a part of answered for, for which the client was too late"),
    (
        "late, refused",
        "with --timeout: answers that the kernel refused, because their group had been answered, and no other had its "
        "cookie or index",
    ),
    (
        "late, astray",
        "with --timeout: faults whose group got such an answer, because it had that cookie or index by then, as far as "
        "it shows: the answer was SUCCESS, and the page was not there",
    ),
    ("min, max", "with --repeat: the slowest and the fastest measurement of the row"),
)

_EXAMPLES: Final = """\
examples:
  uring-iopf compare
      the designs in C but those on the host, with 1, 16 and 64 groups in flight
  uring-iopf compare --design fd --design uring-multishot --wait sleep
      two designs, with a client that sleeps while it has no work
  uring-iopf compare --design host --design fd --wait sleep
      what the host's own system calls take, beside the emulated ones
  uring-iopf compare --iommu smmuv3 --stage2 unpinned --design fd --in-flight 16
      two stages of page tables: what it costs to know which of them faulted
  uring-iopf compare --load poisson --rate 100000 --rate 1000000
      latency at two rates of faults
  uring-iopf compare --mode virtual --wait sleep --seed 7
      the same on every machine: time by the prices of a cost model
  uring-iopf compare --mode both --model mine.json
      each row measured, and predicted by the prices that `calibrate` found here
  uring-iopf compare --workload sqlite-index --repeat 5 --json result.json
      each row measured five times, on another trace, with all results as JSON"""

_STATUSES: Final = (
    ("0", "every fault of every row is accounted for"),
    ("1", "faults are not accounted for, or the table or the JSON could not be written; standard error says which"),
    ("2", "an argument or the workload is wrong; nothing was measured"),
    ("130", "interrupted by Ctrl-C; the results so far were printed, marked as partial"),
    ("143, 129", "interrupted by SIGTERM or SIGHUP, in the same way"),
)


def add_options(parser: Parser, parts: Parts) -> None:
    """Add the description and the options of the command."""
    parser.description = (
        "Replay a real program's page faults through delivery designs. Print the speed of\neach design, "
        "and the cost of a fault."
    )
    add = parser.add_argument
    add(
        "--workload",
        metavar="NAME|FILE",
        default=DEFAULT_WORKLOAD,
        help=f"the trace to replay: a bundled one, or a file (default: {DEFAULT_WORKLOAD})",
    )
    add(
        "--design",
        metavar="NAME|MODULE:CLASS",
        action="append",
        help="a design to measure; may be repeated; host: those on the host's own system calls, which measure the "
        "host's kernel and not the emulated one, and so are not among the defaults (default: all other designs in C)",
    )
    add(
        "--client",
        choices=("native", "trio", "batch"),
        default="native",
        help="the program that answers: a loop in C (native), a trio program with an object for each fault (trio), or "
        "Python with NumPy arrays (batch) (default: native)",
    )
    add(
        "--driver",
        choices=("both", "enter", "sqpoll"),
        default="both",
        help="the thread that runs the kernel's part of a design with a ring: the client's, in its system calls "
        "(enter), or a worker that polls (sqpoll); both: a row for each. A design with neither a ring nor a socket of "
        "the host always runs in system calls (default: both)",
    )
    add(
        "--mode",
        choices=("live", "virtual", "both"),
        default="live",
        help="live: two threads of this machine, in real time; virtual: one thread, on which each side has a simulated "
        "core, in the time of a cost model: one seed, one result, on any machine. Virtual time has the native client "
        "and the designs in C that are not on the host. both: each row is measured live and predicted in virtual time, "
        "with the error of the prediction; a row that virtual time cannot have is measured only (default: live)",
    )
    add(
        "--model",
        metavar="NAME|FILE",
        help="the cost model of virtual time: one that comes with the package, or a file that `uring-iopf calibrate` "
        f"wrote (default with --mode virtual: {DEFAULT_MODEL}; with --mode both the prices of this machine, measured "
        "first, which takes up to a minute)",
    )
    add_fault_file(parser)
    add(
        "--iommu",
        metavar="NAME",
        choices=IOMMUS,
        default=IOMMUS[0],
        help="the IOMMU that page requests go through, with its own formats and its driver: "
        f"{', '.join(f'{IOMMU_TITLES[name]} ({name})' for name in IOMMUS)} (default: {IOMMUS[0]})",
    )
    add(
        "--stalls",
        metavar="N",
        type=whole_number(1, MOST_IN_FLIGHT),
        help=f"the places in which the device's transactions stall, or its operations wait, 1 to {MOST_IN_FLIGHT}; "
        f"only with --iommu {' or '.join(STALLING)} (default: {DEFAULT_STALLS})",
    )
    add(
        "--stage2",
        metavar="pinned|unpinned|SHARE",
        type=_share,
        help="give the device two stages of page tables: stage 1 the client's, stage 2 the host's, of which "
        "everything, nothing, or a share from 0 to 1 is pinned. The kernel serves faults of stage 2 itself. A table "
        "shows what it costs to know the stage (default: one stage)",
    )
    add(
        "--stage-known-by",
        metavar="WAY",
        action="append",
        choices=("all", *KNOWN_BY),
        help="how the kernel knows which stage has faulted, with --stage2; may be repeated. hardware: a stall says it, "
        "with SMMUv3. driver: the driver walks the tables. handler: the registered handler filters. nobody: all of "
        "stage 2 is pinned for these rows. all: each that the IOMMU allows (default: all)",
    )
    add(
        "--depth",
        metavar="N",
        type=whole_number(1, MOST_IN_FLIGHT),
        help=f"the most groups that may wait in the fault queue, 1 to {MOST_IN_FLIGHT}. One more is lost: the kernel "
        "answers INVALID and counts it. Linux has no limit; people argue whether a slow client may hold that many "
        "groups, and whether it must be told of a loss (default: no limit)",
    )
    add(
        "--timeout",
        metavar="SECONDS",
        type=number_above_zero(MOST_TIMEOUT_S),
        help=f"the longest time from a report to its answer, above 0, up to {MOST_TIMEOUT_S:g}, for example 0.1; then "
        "the kernel answers INVALID for the client. Linux waits for ever, as PCIe allows; the RFC of 2023 did not, so "
        "that a client that hangs does not hang the device (default: no limit)",
    )
    add(
        "--match",
        choices=("cookie", "index"),
        help="the name of a group in an answer: the cookie that came with it (cookie), or device, PASID and group "
        "index, as before Linux 6.11 (index). With a cookie the kernel searches nothing; without one it has none. "
        "A design that can do both does as asked; one that cannot is left out, or refused if --design names it "
        "(default: each as it was proposed)",
    )
    add(
        "--wait",
        choices=("spin", "sleep"),
        default="spin",
        help="a client without work polls again at once (spin), or sleeps until it is woken (sleep) (default: spin)",
    )
    add(
        "--in-flight",
        metavar="N",
        action="append",
        type=whole_number(1, MOST_IN_FLIGHT),
        help=f"groups that may be outstanding at once, 1 to {MOST_IN_FLIGHT}; may be repeated (default: "
        f"{', '.join(map(str, DEFAULT_IN_FLIGHT))}; in an open loop the most that the workload reaches)",
    )
    add(
        "--load",
        choices=LOADS,
        default="closed",
        help="when faults come: in a closed loop, when an answer makes room (closed), or in an open loop, at the times "
        "in the trace (trace) or at random times (poisson) (default: closed)",
    )
    add(
        "--rate",
        metavar="N",
        action="append",
        type=number_above_zero(MOST_RATE),
        help=f"faults per second in an open loop, above 0, up to {MOST_RATE:g}; may be repeated; --load poisson needs "
        "it (default with --load trace: the recorded rate)",
    )
    add(
        "--duration",
        metavar="SECONDS",
        type=number_above_zero(MOST_DURATION_S),
        default=1.0,
        help=f"the time to measure each row, above 0, up to {MOST_DURATION_S:g}; a closed loop goes on until it has "
        "100,000 faults, and in virtual time ends with them (default: 1)",
    )
    add(
        "--group",
        metavar="N",
        type=whole_number(1, MOST_IN_GROUP),
        default=1,
        help=f"the most pages in one group, 1 to {MOST_IN_GROUP}; neighbours in the trace form a group, which one "
        "answer ends (default: 1)",
    )
    add(
        "--repeat",
        metavar="N",
        type=whole_number(1, MOST_REPEATS),
        default=1,
        help=f"measure each row N times, 1 to {MOST_REPEATS}, and print the median by faults/s; the JSON has every "
        "measurement (default: 1)",
    )
    add(
        "--seed",
        metavar="N",
        type=whole_number(0, 2**64 - 1),
        default=0,
        help="the seed of the random times of --load poisson, 0 to 2^64 - 1 (default: 0)",
    )
    add(
        "--json",
        metavar="FILE",
        help="also write all results, the arguments and the environment to FILE as JSON; - is standard output",
    )
    parser.late_epilog = lambda: _epilog(parts)
    parser.set_defaults(run=run, parser=parser)


def _share(text: str) -> float:
    """The share of stage 2 that is pinned."""
    words = {"pinned": 1.0, "unpinned": 0.0}
    try:
        share = words[text] if text in words else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ArgumentTypeError(f"{text!r} is not pinned, unpinned, or a share from 0 to 1")
    return share


def _epilog(parts: Parts) -> str:
    from uring_iopf.workloads import BUNDLED

    designs = [parts.resolve_design(name) for name in parts.design_names()]
    designs.sort(key=lambda design: not design.has_client)
    own_design = ("MODULE:CLASS", "your own design; Python searches the current directory first")
    own_trace = (
        "FILE",
        "CSV, gzipped or plain, with the header time_ns,pasid,thread,address,access; - is standard input",
    )
    return "\n\n".join(
        [
            _EXAMPLES,
            listed("designs", [*map(_described, designs), own_design]),
            listed("workloads", [*BUNDLED.items(), own_trace]),
            listed("columns of the table", _COLUMNS),
            listed("exit status", _STATUSES),
        ]
    )


def _described(design: DesignFacts) -> tuple[str, str]:
    return design.name, design.summary if design.year == "-" else f"{design.summary} ({design.year})"


def _plan(arguments: argparse.Namespace, parts: Parts) -> Plan:
    """Return the plan of the comparison. Raises: UsageError."""
    from uring_iopf.lab.compare import Plan

    if arguments.client == "batch" and not parts.is_installed("numpy"):
        raise UsageError("--client batch: NumPy is not installed; install it with `pip install 'uring-iopf[numpy]'`")
    if arguments.stalls and arguments.iommu not in STALLING:
        raise UsageError(f"--stalls: no transaction stalls with --iommu {arguments.iommu}; leave --stalls out")
    model = _model(arguments)
    machine = MachineParts.of(
        arguments.workload,
        driver="enter" if arguments.driver == "both" else arguments.driver,
        wait=arguments.wait,
        fault_file=arguments.fault_file,
        iommu=arguments.iommu,
        group=arguments.group,
        seed=arguments.seed,
        functions=() if arguments.stalls is None else (FunctionParts(stalls=arguments.stalls),),
        limits=_limits(arguments),
    )
    designs = _designs(arguments.design, parts)
    facts = {spec: parts.resolve_design(spec) for spec in designs}
    left_out = _without_match(facts, arguments.match, given=bool(arguments.design))
    designs = tuple(spec for spec in designs if spec in facts)
    from uring_iopf.designs.registry import check_names  # loads the compiled part, which a mistake above does not need

    check_names((spec, fact.name) for spec, fact in facts.items())
    if arguments.mode == "virtual":
        from uring_iopf.lab.virtual import check_playable

        for fact in facts.values():
            check_playable(fact)
    ways = _ways(machine, arguments)
    reached = [_in_flight(one, arguments.in_flight, arguments.load) for one in ways or (machine,)]
    return Plan(
        machine,
        designs=designs,
        in_flight=min(reached, key=max),
        client=arguments.client,
        repeat=arguments.repeat,
        seconds=arguments.duration,
        drivers={spec: _drivers(fact, arguments.driver) for spec, fact in facts.items()},
        load=arguments.load,
        rates=_rates(machine, arguments.load, arguments.rate),
        names={spec: fact.name for spec, fact in facts.items()},
        about={fact.name: f"{str(fact.year).strip('-'):<4} {fact.summary}" for fact in facts.values()},
        bounds=frozenset(fact.name for fact in facts.values() if not fact.has_client),
        ways=ways,
        model=model,
        match=arguments.match,
        left_out=left_out,
        both=arguments.mode == "both",
    )


def _without_match(facts: dict[str, DesignFacts], match: str | None, *, given: bool) -> tuple[str, ...]:
    """Take the designs out whose answers do not name a group so, and return their names.

    Raises: UsageError, such a design is *given*.
    """
    unfit = [
        spec for spec, fact in facts.items() if match is not None and fact.has_client and match not in fact.matches
    ]
    if unfit and given:
        (other,) = facts[unfit[0]].matches
        raise UsageError(
            f"--match {match}: the answers of {unfit[0]} have a place for {_NAMED[other]} only; leave --match or the "
            "design out"
        )
    return tuple(facts.pop(spec).name for spec in unfit)


_NAMED: Final = {"cookie": "a cookie", "index": "device, PASID and group index"}


def _limits(arguments: argparse.Namespace) -> QueueLimits | None:
    """The limits of the fault queue; None: as Linux.

    With FAILURE, which Linux answers out of memory, a PCIe function would stop its page requests, and so the replay.
    """
    if arguments.depth is None and arguments.timeout is None and arguments.match is None:
        return None
    from uring_iopf.iommufd import DriverResponse, QueueLimits  # loads the compiled part

    return QueueLimits(
        depth=arguments.depth,
        depth_response=DriverResponse.INVALID,
        timeout_ns=None if arguments.timeout is None else max(1, round(arguments.timeout * 1e9)),
        timeout_response=DriverResponse.INVALID,
        by_group_index=arguments.match == "index",
    )


def _model(arguments: argparse.Namespace) -> CostModel | None:
    """The prices of virtual time; None: live, or they are to be measured. Raises: UsageError."""
    if arguments.mode == "live":
        if arguments.model is not None:
            raise UsageError("--model: live time has no prices; add --mode virtual or both, or leave --model out")
        return None
    if arguments.mode == "both":
        return None if arguments.model is None else _with_all_prices(arguments.model)
    if arguments.client != "native":
        raise UsageError(f"--client {arguments.client}: virtual time has the native client only; leave --client out")
    if arguments.stage2 is not None:
        raise UsageError("--stage2: virtual time has no prices for two stages of page tables; leave --stage2 out")
    for option in ("depth", "timeout"):
        if getattr(arguments, option) is not None:
            raise UsageError(
                f"--{option}: a pass of virtual time ends when its client has served all faults, which it will not; "
                f"leave --{option} out"
            )
    return _with_all_prices(arguments.model or DEFAULT_MODEL)


def _with_all_prices(name: str) -> CostModel:
    """Load a model. A price that is missing is said before anything is measured. Raises: UsageError."""
    from uring_iopf.costs.model import CostModel
    from uring_iopf.costs.virtual import prices_of

    model = CostModel.load(name)
    prices_of(model)
    return model


def _ways(machine: MachineParts, arguments: argparse.Namespace) -> tuple[MachineParts, ...]:
    """A machine for each way to know which stage has faulted; empty: there is one stage. Raises: UsageError."""
    given: Sequence[str] | None = arguments.stage_known_by
    if arguments.stage2 is None:
        if given:
            raise UsageError("--stage-known-by: there is one stage; add --stage2 pinned, unpinned or SHARE")
        return ()
    chosen = list(dict.fromkeys(given or ["all"]))
    if "all" in chosen:
        # Only a stall says its stage, and it is a group of one page.
        speaks = machine.iommu in ("smmuv3", "smmuv3-stall") and machine.group == 1
        chosen = [way for way in KNOWN_BY if way != "hardware" or speaks]
    found = []
    for way in chosen:
        stalls = way == "hardware" and machine.iommu == "smmuv3"
        found.append(
            machine.with_options(
                iommu="smmuv3-stall" if stalls else machine.iommu,
                stage2=1.0 if way == "nobody" else arguments.stage2,
                known_by=way,
            )
        )
    return tuple(found)


def _in_flight(machine: MachineParts, given: Sequence[int] | None, load: str) -> tuple[int, ...]:
    """The numbers in flight. A default beyond what the workload reaches is lowered.

    Raises: UsageError, a given number is beyond what the workload reaches.
    """
    most = reached_in_flight(machine, given or ())
    defaults = DEFAULT_IN_FLIGHT if load == "closed" else (most,)
    return tuple(dict.fromkeys(given or (min(number, most) for number in defaults)))


def _drivers(design: DesignFacts, wanted: str) -> tuple[str, ...]:
    """The drivers with which a design is measured. Some leave a worker nothing to poll."""
    if design.inline_only:
        return ("inline",)
    if not design.has_client:
        return ("sqpoll",)  # the kernel by itself
    if not design.polled:
        return ("enter",)
    return ("enter", "sqpoll") if wanted == "both" else (wanted,)


def _rates(machine: MachineParts, load: str, given: Sequence[float] | None) -> tuple[float | None, ...]:
    """The rates of an open loop, in faults per second. Raises: UsageError."""
    if load == "closed":
        if given:
            raise UsageError(
                "--rate: a closed loop has no rate; add --load poisson or --load trace, or leave --rate out"
            )
        return (None,)
    if load == "poisson" and not given:
        raise UsageError("--load poisson: the rate is missing; add --rate N, the faults per second")
    assert machine.workload is not None
    if load == "trace" and math.isinf(machine.workload.mean_rate):
        raise UsageError(
            f"--load trace: all faults of {machine.workload.name} have the same time, so the trace has no rate; use "
            "--load poisson --rate N"
        )
    return tuple(dict.fromkeys(given or [machine.workload.mean_rate]))


def _designs(specs: Sequence[str] | None, parts: Parts) -> tuple[str, ...]:
    names = parts.design_names()
    facts = {name: parts.resolve_design(name) for name in names}
    if not specs:
        return tuple(name for name, fact in facts.items() if not fact.inline_only and not fact.on_host)
    on_host = [name for name, fact in facts.items() if fact.on_host]
    specs = [name for spec in specs for name in ((spec == ALL_ON_HOST and on_host) or [spec])]
    for spec in specs:
        if ":" in spec:
            # `python -m` searches the current directory, a console script does not: make them alike.
            if (here := str(Path.cwd())) not in sys.path:
                sys.path.insert(0, here)
        elif spec not in names:
            raise UsageError(
                f"--design {spec!r}: there is no such design; the designs are {', '.join(names)}; name your own as "
                "MODULE:CLASS (my_package:Mine), which Python must be able to import from the current directory"
            )
        parts.resolve_design(spec)
    return tuple(dict.fromkeys(specs))


def run(arguments: argparse.Namespace, parts: Parts) -> int:
    """Measure every cell, print the table, and return the exit status."""
    with undisturbed():
        from dataclasses import replace
        from datetime import UTC, datetime

        from uring_iopf.lab.compare import run_comparison
        from uring_iopf.reports import comparison as report
        from uring_iopf.reports.document import environment, json_text
        from uring_iopf.reports.output import write_out
        from uring_iopf.reports.progress import progress

    plan = _plan(arguments, parts)
    started = datetime.now(UTC)
    made_with = environment()
    with ExitStack() as stack:
        json_file = open_json(stack, arguments.json, inputs=[arguments.workload])
        with progress() as on_progress:
            comparison = run_comparison(
                plan,
                on_progress=on_progress,
                measure_cell=parts.measure_cell,
                measure_floor=parts.measure_floor,
                make_model=parts.make_model,
                predictor=parts.predictor,
            )
        if (stranger := report.of_another_machine(comparison, made_with)) is not None:
            comparison = replace(comparison, unfit=(*comparison.unfit, stranger))
        complaints = [f"not accounted for: {complaint}" for complaint in report.complaints(comparison)]
        if json_file is not None:  # before the table: the table's reader (head, less) may close the pipe
            content = report.document(
                comparison, arguments=_repeatable(arguments, plan), started=started, environment=made_with
            )
            if (complaint := json_file.write(json_text(content))) is not None:
                complaints.append(complaint)  # for example a full disk: the table is still printed
    out = sys.stderr if json_file is not None and json_file.is_stdout else sys.stdout
    write_out(out, report.render(comparison, made_with))
    # Standard error repeats the warnings and explains the exit status, for a caller that keeps only the table.
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
    (function,) = plan.parts.each_function()
    ways = [way.stage_known_by for way in plan.ways]
    filled: dict[str, Any] = {"stalls": function.stalls or None, "in_flight": list(plan.in_flight), "rate": rates}
    if not plan.is_live:
        filled["model"] = arguments.model or DEFAULT_MODEL
    return {**given, "design": list(plan.designs), **filled, "stage_known_by": ways or None}
