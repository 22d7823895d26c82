"""``uring-iopf calibrate``: measure the prices of this machine, and write them as a cost model."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uring_iopf.commands.shared import Parser, Parts, listed, open_json, open_output
from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    import argparse

_EXAMPLES: Final = """\
examples:
  uring-iopf calibrate --quick
      rough prices first, in a few seconds
  uring-iopf calibrate -o mine.json
      measure, and write the model mine.json"""

_STATUSES: Final = (
    ("0", "every price that this machine allows was measured; the output lists the rest"),
    ("1", "the table, the model or the JSON could not be written"),
    ("2", "an argument is wrong; nothing was measured"),
    ("130", "interrupted by Ctrl-C; the prices so far were printed, and no model was written"),
    ("143, 129", "interrupted by SIGTERM or SIGHUP, in the same way"),
)
_NAME: Final = "calibrated"


def _epilog() -> str:
    import textwrap

    from uring_iopf.costs.model import PRICES

    lines = ["prices:"]
    for fact in PRICES.values():
        lines.append(f"  {fact.name} ({fact.unit})")
        said = f"{fact.what}; paid by {fact.who}"
        lines += textwrap.wrap(said, 80, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n\n".join([_EXAMPLES, "\n".join(lines), listed("exit status", _STATUSES)])


def add_options(parser: Parser, _parts: Parts) -> None:
    """Add the description and the options of the command."""
    parser.late_epilog = _epilog
    parser.description = (
        "Measure what this machine charges for what delivery designs do: a system call,\n"
        "a wake-up, a cache line from another core, and the emulator's own work for a\n"
        "fault. Every price is measured in each of several rounds. The table shows the\n"
        "median, and how far the rounds lie apart. The whole run takes less than a\n"
        "minute. Stop other programs first: they change the prices."
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the prices to FILE as a cost model, named after the file; - is standard output",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="also write all measurements of all rounds to FILE as JSON; - is standard output",
    )
    parser.add_argument("--quick", action="store_true", help="make fewer and shorter rounds; the prices are rougher")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, parts: Parts) -> int:
    """Measure, print, and return the exit status."""
    if arguments.output is not None and arguments.output == arguments.json:
        raise UsageError(f"--output and --json both name {arguments.output}; give two files")
    with ExitStack() as stack:
        model_file = open_output(stack, arguments.output)
        json_file = open_json(stack, arguments.json)
        on_stdout = any(one is not None and one.is_stdout for one in (model_file, json_file))
        name = _NAME if model_file is None or model_file.is_stdout else Path(arguments.output).stem
        return parts.calibrate(
            out=sys.stderr if on_stdout else sys.stdout,
            model_file=model_file,
            json_file=json_file,
            name=name,
            quick=arguments.quick,
        )
