"""``uring-iopf bench``: measure the whole path beside its references."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from uring_iopf.commands.shared import Parser, Parts, listed, open_json

if TYPE_CHECKING:
    import argparse

_EXAMPLES: Final = """\
examples:
  uring-iopf bench --quick
      rough numbers first
  uring-iopf bench --json bench.json
      all measurements, also as JSON"""

_STATUSES: Final = (
    ("0", "everything that this machine allows was measured; the output lists the rest"),
    ("1", "the table or the JSON could not be written"),
    ("2", "an argument is wrong; nothing was measured"),
    ("130", "interrupted by Ctrl-C; the results so far were printed"),
    ("143, 129", "interrupted by SIGTERM or SIGHUP, in the same way"),
)


def add_options(parser: Parser, _parts: Parts) -> None:
    """Add the description and the options of the command."""
    parser.epilog = "\n\n".join([_EXAMPLES, listed("exit status", _STATUSES)])
    parser.description = (
        "Measure the library itself: the whole path of a fault, with each client, and the\n"
        "time of an import. Reference measurements run beside it: bare rings, and the\nhost's own poll, read and "
        "write. Compare the ratios; rates vary from run to run."
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="also write all results to FILE as JSON; - is standard output",
    )
    parser.add_argument("--quick", action="store_true", help="make fewer and shorter rounds; the numbers are rougher")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, parts: Parts) -> int:
    """Measure, print, and return the exit status."""
    with ExitStack() as stack:
        json_file = open_json(stack, arguments.json)
        out = sys.stderr if json_file is not None and json_file.is_stdout else sys.stdout
        return parts.bench(out=out, json_file=json_file, quick=arguments.quick)
