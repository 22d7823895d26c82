"""``uring-iopf bench``: measure the whole path beside its references."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from uring_iopf.commands.shared import Parser, Parts, open_json

if TYPE_CHECKING:
    import argparse


def add_options(parser: Parser, _parts: Parts) -> None:
    """Add what the command takes."""
    parser.description = (
        "Measure the whole path and its references in one run: the bare rings, the\n"
        "host's own poll, read and write, the Python clients, imports. What counts are\nthe ratios."
    )
    parser.add_argument(
        "--json", metavar="FILE", help="rates, ratios and the environment go there too; - is standard output"
    )
    parser.add_argument("--quick", action="store_true", help="shorter runs, for a look; the numbers are rougher")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, parts: Parts) -> int:
    """Measure, print, and return the exit status."""
    with ExitStack() as stack:
        json_file = open_json(stack, arguments.json)
        out = sys.stderr if json_file is not None and json_file.is_stdout else sys.stdout
        return parts.bench(out=out, json_file=json_file, quick=arguments.quick)
