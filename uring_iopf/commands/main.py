"""The command line: ``uring-iopf compare``, ``bench``, ``conformance`` and ``serve``.

Only what parsing needs is imported up here, so that help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TextIO

    from _typeshed import SupportsWrite

    from uring_iopf.lab.compare import MeasureCell, MeasureFloor, Plan
    from uring_iopf.machine import Account

DEFAULT_WORKLOAD: Final = "gcc-compile"
DEFAULT_IN_FLIGHT: Final = (1, 16, 64)
MOST_IN_FLIGHT: Final = 512
MOST_IN_GROUP: Final = 32
MOST_REPEATS: Final = 1000
_HELP_WIDTH: Final = 98

# Exit statuses
OK: Final = 0
UNACCOUNTED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130  # as shells have it: 128 + SIGINT


# ---- what the commands stand on ----


class DesignFacts(Protocol):
    """What the command line needs to know of a design."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def summary(self) -> str: ...  # noqa: D102
    @property
    def year(self) -> object: ...  # noqa: D102
    @property
    def inline_only(self) -> bool: ...  # noqa: D102


class Bench(Protocol):
    """``uring_iopf.lab.bench.run``: prints to *out*, writes the JSON document, returns the exit status."""

    def __call__(self, *, out: TextIO, json_file: TextIO | None, quick: bool) -> int: ...  # noqa: D102


def _design_names() -> Sequence[str]:
    from uring_iopf.designs import registry

    return registry.names()


def _resolve_design(spec: str) -> DesignFacts:
    from uring_iopf.designs import registry

    return registry.resolve(spec)


def _run_bench(*, out: TextIO, json_file: TextIO | None, quick: bool) -> int:
    from uring_iopf.lab import bench

    return bench.run(out=out, json_file=json_file, quick=quick)


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


@dataclass(frozen=True)
class Parts:
    """The rest of the library as the command line sees it, loaded when it is used. Tests give their own."""

    design_names: Callable[[], Sequence[str]] = _design_names
    resolve_design: Callable[[str], DesignFacts] = _resolve_design
    measure_cell: MeasureCell | None = None  # run_comparison knows the real ones
    measure_floor: MeasureFloor | None = None
    bench: Bench = _run_bench
    is_installed: Callable[[str], bool] = _is_installed


REAL: Final = Parts()


# ---- what help says ----

_ABOUT: Final = """\
Compare ways of delivering I/O page faults to user space.

A device with shared virtual memory touches a page that is not there; the IOMMU queues a page
request; a program in user space makes the page present and answers. Linux has seen half a dozen
designs for how that program hears of the fault and how it answers. Here such designs run side by
side, on an emulated device, IOMMU and kernel: no special kernel, no hardware, no root.
"""

_EXAMPLES: Final = """\
examples:
  uring-iopf compare
      replay the page faults of a compiler through every design, and print a table
  uring-iopf compare --workload my.csv --design fd --design my_package:Mine --in-flight 64
      your own trace, and your own design beside the one that Linux has

`uring-iopf compare --help` lists the designs and the workloads and says what the columns mean.
Documentation: the project's docs/ folder, first tutorial.md (answer your first fault).
"""

_COLUMNS: Final = (
    ("in flight", "groups of faults that the device leaves unanswered at most"),
    ("faults/s", "page requests answered per second, all replays together"),
    ("p50 .. max", "from the device's request until the answer has reached it"),
    ("faults, replays", "how many were measured, and how often the trace was replayed for that"),
    ("system calls", "per fault: calls that did something or waited, not those that looked in vain while spinning"),
    ("wake-ups", "per fault: eventfd writes because someone was, or may have been, asleep"),
    ("bytes copied", "per fault: between kernel and client, in both directions"),
    ("client CPU", "per fault: processor time of the client's thread"),
    ("answered", "faults that the client answered"),
    ("answered for", "faults answered INVALID in its stead (detach, replace, close)"),
    ("lost", "faults that got no answer; anything but 0 is an error"),
)

_STATUSES: Final = (
    ("0", "every fault of every cell is accounted for"),
    ("1", "some are not, or the JSON could not be written; standard error says what is missing"),
    ("2", "the command was not understood; nothing was measured"),
    ("130", "interrupted by Ctrl-C, after printing what was measured so far, marked as partial"),
)

_GOLDEN_STATUSES: Final = (
    ("0", "every value of every step is as recorded"),
    ("1", "some are not, or the JSON could not be written"),
    ("2", "the command or a file was not understood; nothing was replayed"),
    ("130", "interrupted by Ctrl-C, after printing what was replayed so far, marked as partial"),
)


_SERVE: Final = """\
Hand I/O page faults to programs in other processes.

Who connects to the socket gets an emulated machine of its own: a ring that it maps with liburing's
io_uring_queue_mmap(), page tables, and the page faults of a workload, once. It makes pages present
by storing page-table entries, answers with WRITEs, and is told when all is answered. How such a
client is written says docs/how-to/attach-a-process.md; a whole one is in tests/clients/.
"""

_SERVE_STATUSES: Final = (
    ("0", "the first client has gone (--once), and every fault was answered, by it or for it"),
    ("1", "some fault was answered by nobody"),
    ("2", "the command was not understood, or the socket cannot be made"),
    ("130", "ended by Ctrl-C; clients that were there have been answered for"),
)


class _Parser(argparse.ArgumentParser):
    """Finds what stands below the options when the help is printed, not before."""

    late_epilog: Callable[[], str] | None = None

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        if self.late_epilog is not None:
            self.epilog = self.late_epilog()
        super().print_help(file)


def _compare_epilog(parts: Parts) -> str:
    from uring_iopf.workloads import BUNDLED

    designs = [parts.resolve_design(name) for name in parts.design_names()]
    own_design = ("MODULE:CLASS", "a design of your own; the current directory is looked at first")
    own_trace = ("FILE", "CSV, gzipped or plain, with the header time_ns,pasid,thread,address,access")
    return "\n\n".join(
        [
            _listed("designs", [*map(_described, designs), own_design]),
            _listed("workloads", [*BUNDLED.items(), own_trace]),
            _listed("what the columns mean", _COLUMNS),
            _listed("exit status", _STATUSES),
        ]
    )


def _described(design: DesignFacts) -> tuple[str, str]:
    return design.name, design.summary if design.year == "-" else f"{design.summary} ({design.year})"


def _listed(title: str, entries: Iterable[tuple[str, str]]) -> str:
    """A list of names with what they are, one below the other."""
    lines = [f"{title}:"]
    for name, text in entries:
        lines += textwrap.wrap(text, _HELP_WIDTH, initial_indent=f"  {name:<16} ", subsequent_indent=" " * 19)
    return "\n".join(lines)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=27, width=_HELP_WIDTH)


class _VersionAction(argparse.Action):
    """``--version``, looked up when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        sys.stdout.write(f"uring-iopf {metadata.version('uring-iopf')}\n")
        parser.exit()


# ---- arguments ----


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")

    return parse


def build_parser(parts: Parts = REAL) -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        "uring-iopf", description=_ABOUT, epilog=_EXAMPLES, formatter_class=_formatter, allow_abbrev=False
    )
    parser.add_argument(
        "--version", action=_VersionAction, nargs=0, dest=argparse.SUPPRESS, help="print the version and exit"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=_Parser
    )
    _add_compare(commands, parts)
    _add_bench(commands)
    _add_conformance(commands)
    _add_serve(commands)
    return parser


def _add_compare(commands: Any, parts: Parts) -> None:
    parser = commands.add_parser(
        "compare",
        help="replay real programs' faults through delivery designs and print a table",
        description="Replay a real program's page faults through delivery designs; print what each of them takes.",
        formatter_class=_formatter,
        allow_abbrev=False,
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
        choices=("enter", "sqpoll"),
        default="enter",
        help="who runs the kernel's part: the client in its system calls, or a polling thread (default: enter)",
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
        type=_whole_number(1, MOST_IN_FLIGHT),
        help=f"groups of faults outstanding at once, up to {MOST_IN_FLIGHT}; give it several times for several "
        f"(default: {', '.join(map(str, DEFAULT_IN_FLIGHT))})",
    )
    add(
        "--group",
        metavar="N",
        type=_whole_number(1, MOST_IN_GROUP),
        default=1,
        help=f"pages in one group at most, up to {MOST_IN_GROUP}: neighbours in the trace that are asked for and "
        "answered together (default: 1)",
    )
    add(
        "--repeat",
        metavar="N",
        type=_whole_number(1, MOST_REPEATS),
        default=1,
        help="measure every cell N times and print the one in the middle by faults/s; the JSON has all (default: 1)",
    )
    add(
        "--seed",
        metavar="N",
        type=_whole_number(0, 2**64 - 1),
        default=0,
        help="for whatever is drawn at random: nothing in a closed loop, which is what is compared (default: 0)",
    )
    add("--json", metavar="FILE", help="write everything there too, and what it takes to do it again")
    parser.late_epilog = lambda: _compare_epilog(parts)
    parser.set_defaults(run=_compare, parser=parser)


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="hand faults to programs that connect, over rings that they map as io_uring's",
        description=_SERVE,
        epilog=_listed("exit status", _SERVE_STATUSES),
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--socket", metavar="PATH", required=True, help="where to listen: a Unix socket, made for this user alone")
    add(
        "--workload",
        metavar="NAME|FILE",
        default=DEFAULT_WORKLOAD,
        help=f"whose faults each client is handed, once: a bundled trace, or your own (default: {DEFAULT_WORKLOAD})",
    )
    add(
        "--in-flight",
        metavar="N",
        type=_whole_number(1, MOST_IN_FLIGHT),
        default=16,
        help=f"groups of faults outstanding at once, up to {MOST_IN_FLIGHT} (default: 16)",
    )
    add(
        "--group",
        metavar="N",
        type=_whole_number(1, MOST_IN_GROUP),
        default=1,
        help=f"pages in one group at most, up to {MOST_IN_GROUP} (default: 1)",
    )
    add(
        "--wait",
        choices=("spin", "sleep"),
        default="sleep",
        help="what the thread that polls a client's ring does after a millisecond without work: look again, or sleep "
        "until the client kicks it (default: sleep)",
    )
    add("--clients", metavar="N", type=_whole_number(1, 64), default=4, help="served at once at most (default: 4)")
    add("--once", action="store_true", help="end when the first client has gone")
    parser.set_defaults(run=_serve, parser=parser)


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure the whole path beside its references: bare rings, the host's own calls",
        description="Measure the whole path and its references in one run: the bare rings, the host's own poll,\n"
        "read and write, the Python clients, imports. What counts are the ratios.",
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", metavar="FILE", help="write rates, ratios and the environment there too")
    parser.add_argument("--quick", action="store_true", help="shorter runs, for a look; the numbers are rougher")
    parser.set_defaults(run=_bench, parser=parser)


def _add_conformance(commands: Any) -> None:
    parser = commands.add_parser(
        "conformance",
        help="replay recordings of real kernels, or write the page of known differences",
        description="Hold the emulated iommufd against recordings of real kernels.",
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    whats = parser.add_subparsers(title="commands", metavar="COMMAND", dest="what", required=True, parser_class=_Parser)
    _add_golden(whats)
    _add_report(whats)


def _add_golden(whats: Any) -> None:
    parser = whats.add_parser(
        "golden",
        help="replay recordings, and print what differs and what they cover",
        description="Replay recorded scripts step by step. Prints each value that is not as recorded, one a line,\n"
        "with script and step (from 0); how often each operation ended with each errno; and a line of counts.",
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", nargs="+", help="recorded scripts: JSON Lines, gzipped or plain")
    parser.add_argument(
        "--kernel",
        metavar="VERSION",
        help="by whose rules: 6.12 or 7.2 (default: what the file's name says, as iommufd-7.2.jsonl.gz)",
    )
    parser.add_argument("--json", metavar="FILE", help="write differences and counts there too")
    parser.late_epilog = lambda: _listed("exit status", _GOLDEN_STATUSES)
    parser.set_defaults(run=_golden, parser=parser)


def _add_report(whats: Any) -> None:
    parser = whats.add_parser(
        "report",
        help="write the page of known differences and of what recordings cover",
        description="Write the conformance page, in Markdown: what the emulator is held against, what kernels differ\n"
        "in, what the given recordings cover, and every known difference with its reason.",
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", nargs="*", help="recordings whose coverage is on the page")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: standard output)")
    parser.set_defaults(run=_report, parser=parser)


# ---- the commands ----


def _plan(arguments: argparse.Namespace, parts: Parts) -> Plan:
    """What to compare. Raises: UsageError."""
    from uring_iopf.lab.compare import Plan
    from uring_iopf.workloads import load_workload

    if arguments.client == "batch" and not parts.is_installed("numpy"):
        raise UsageError("--client batch needs NumPy: pip install uring-iopf[numpy]")
    return Plan(
        workload=load_workload(arguments.workload),
        designs=_designs(arguments.design, parts),
        in_flight=tuple(dict.fromkeys(arguments.in_flight or DEFAULT_IN_FLIGHT)),
        client=arguments.client,
        driver=arguments.driver,
        wait=arguments.wait,
        group=arguments.group,
        repeat=arguments.repeat,
        seed=arguments.seed,
    )


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


def _open_json(stack: ExitStack, path: str | None) -> TextIO | None:
    """Open it before anything is measured: who cannot write it says so now."""
    return None if path is None else _open_to_write(stack, "--json", path)


def _open_to_write(stack: ExitStack, option: str, path: str) -> TextIO:
    try:
        return stack.enter_context(Path(path).open("w", encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from error


def _compare(arguments: argparse.Namespace, parts: Parts) -> int:
    from datetime import UTC, datetime

    from uring_iopf.lab.compare import run_comparison
    from uring_iopf.reports import comparison as report
    from uring_iopf.reports.progress import progress

    plan = _plan(arguments, parts)
    started = datetime.now(UTC)
    environment = report.environment()
    with ExitStack() as stack:
        json_file = _open_json(stack, arguments.json)
        with progress() as on_progress:
            comparison = run_comparison(
                plan, on_progress=on_progress, measure_cell=parts.measure_cell, measure_floor=parts.measure_floor
            )
        complaints = [f"not accounted for: {complaint}" for complaint in report.complaints(comparison)]
        if json_file is not None:  # first, since whoever reads the table may go away
            content = report.document(
                comparison, arguments=_repeatable(arguments, plan), started=started, environment=environment
            )
            try:
                report.write_json(content, json_file)
                json_file.close()
            except OSError as error:  # a full disk, say: what was measured is still printed
                complaints.append(f"--json {arguments.json}: {error.strerror}")
                with suppress(OSError):
                    json_file.close()
    sys.stdout.write(report.render(comparison, environment))
    sys.stdout.flush()
    # What is behind the status goes to standard error, for those who keep only the table.
    for complaint in complaints:
        sys.stderr.write(f"uring-iopf: {complaint}\n")
    if comparison.partial:
        sys.stderr.write("uring-iopf: interrupted; the results are partial\n")
        return INTERRUPTED
    return UNACCOUNTED if complaints else OK


def _repeatable(arguments: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """The arguments with the defaults filled in."""
    given = {name: value for name, value in vars(arguments).items() if name not in ("command", "run", "parser")}
    return {**given, "design": list(plan.designs), "in_flight": list(plan.in_flight)}


def _bench(arguments: argparse.Namespace, parts: Parts) -> int:
    with ExitStack() as stack:
        return parts.bench(out=sys.stdout, json_file=_open_json(stack, arguments.json), quick=arguments.quick)


def _serve(arguments: argparse.Namespace, parts: Parts) -> int:  # noqa: ARG001
    from functools import partial

    from uring_iopf.machine import Account, Machine
    from uring_iopf.reports.progress import progress
    from uring_iopf.server import ClientResult, RingServer
    from uring_iopf.workloads import load_workload

    workload = load_workload(arguments.workload)
    new_machine = partial(
        Machine,
        workload,
        driver="sqpoll",
        wait=arguments.wait,
        in_flight=arguments.in_flight,
        group=arguments.group,
    )

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()  # whoever waits for the first line may be a program

    def on_end(result: ClientResult) -> None:
        how = result.ending.name.lower() + (f" ({result.reason})" if result.reason else "")
        say(f"client {result.number} (pid {result.pid}): {how}; {_account(result.account)}")

    server = RingServer(arguments.socket, new_machine, most_clients=arguments.clients, on_end=on_end)
    interrupted = False
    with server:
        say(f"serving {workload.name} ({len(workload):,} faults to each client) at {arguments.socket}; Ctrl-C ends it")
        try:
            with progress() as on_progress:
                while not server.results or not arguments.once:
                    server.serve(1 if arguments.once else None, interval_s=0.25 if sys.stderr.isatty() else None)
                    for session in server.sessions:
                        answered, total = session.progress()
                        on_progress(f"client {session.number}: {answered:,} of {total:,} answered", answered / total)
        except KeyboardInterrupt:
            interrupted = True
    accounts = [result.account for result in server.results]
    total_of_all = Account(*(sum(column) for column in zip(Account(0, 0, 0, 0, 0), *accounts, strict=True)))
    say(f"{len(accounts)} client{'' if len(accounts) == 1 else 's'}: {_account(total_of_all)}")
    for result in server.results:
        if not result.complete:
            sys.stderr.write(f"uring-iopf: not accounted for: client {result.number}: {result.account}\n")
    if not all(result.complete for result in server.results):
        return UNACCOUNTED
    return INTERRUPTED if interrupted else OK


def _account(of: Account) -> str:
    return f"sent {of.sent:,} = answered {of.answered:,} + answered for it {of.auto_answered:,} + lost {of.lost:,}"


def _golden(arguments: argparse.Namespace, _parts: Parts) -> int:
    from uring_iopf.conformance import command as conformance

    with ExitStack() as stack:
        json_file = _open_json(stack, arguments.json)
        return conformance.golden(arguments.file, kernel=arguments.kernel, out=sys.stdout, json_file=json_file)


def _report(arguments: argparse.Namespace, _parts: Parts) -> int:
    from uring_iopf.conformance.command import open_recording
    from uring_iopf.conformance.page import page

    text = page([open_recording(file) for file in arguments.file])
    if arguments.output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return OK
    try:
        with ExitStack() as stack:
            _open_to_write(stack, "--output", arguments.output).write(text)
    except OSError as error:
        sys.stderr.write(f"uring-iopf: --output {arguments.output}: {error.strerror}\n")
        return UNACCOUNTED
    return OK


def main(argv: Sequence[str] | None = None, parts: Parts = REAL) -> int:
    """Run the command line *argv* (this process's by default) and return its exit status.

    Raises: SystemExit, as argparse does, after help and for options that it refuses.
    """
    arguments = build_parser(parts).parse_args(argv)
    try:
        return int(arguments.run(arguments, parts))
    except UsageError as error:
        sys.stderr.write(f"{arguments.parser.prog}: {error}\n")
        return USAGE
    except KeyboardInterrupt:
        sys.stderr.write("uring-iopf: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (head, less). Python would complain about it once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNACCOUNTED
