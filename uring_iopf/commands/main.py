"""The command line: ``uring-iopf compare``, ``check``, ``bench``, ``conformance`` and ``serve``.

Only what parsing needs is imported up here, so that help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final

from uring_iopf.commands.shared import INTERRUPTED, REAL, UNACCOUNTED, USAGE, Parser, Parts, formatter
from uring_iopf.commands.signals import Interrupts
from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT: Final = """\
Compare ways of delivering I/O page faults to user space.

A device with shared virtual memory touches a page that is not there. The IOMMU
queues a page request. A program in user space makes the page present and
answers. Linux has seen half a dozen designs for how that program hears of the
fault and how it answers. Here such designs run side by side, on an emulated
device, IOMMU and kernel: no special kernel, no hardware, no root.
"""

_EXAMPLES: Final = """\
examples:
  uring-iopf compare
      the page faults of a compiler, replayed through every design, as a table
  uring-iopf compare --workload my.csv --design fd --design my_package:Mine
      your own trace, and your own design beside the one that Linux has
  uring-iopf compare --load poisson --rate 100000 --rate 1000000
      latency against the rate of faults that is offered

`uring-iopf compare --help` lists the designs and the workloads and says what
the columns mean. Documentation: the project's docs/ folder, first tutorial.md
(answer your first fault).
"""


# A module of this folder for each, which adds the options.
_COMMANDS: Final = {
    "compare": "replay real programs' faults through delivery designs and print a table",
    "check": "run the suite that every design must pass on your own design",
    "bench": "measure the whole path beside its references: bare rings, the host's own calls",
    "conformance": "replay recordings of real kernels, or write the page of known differences",
    "serve": "hand faults to programs that connect, over rings that they map as io_uring's",
}


class _VersionAction(argparse.Action):
    """``--version``, looked up when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        sys.stdout.write(f"uring-iopf {metadata.version('uring-iopf')}\n")
        parser.exit()


def build_parser(parts: Parts = REAL) -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        "uring-iopf", description=_ABOUT, epilog=_EXAMPLES, formatter_class=formatter, allow_abbrev=False
    )
    parser.add_argument(
        "--version", action=_VersionAction, nargs=0, dest=argparse.SUPPRESS, help="print the version and exit"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=Parser
    )
    for name, what in _COMMANDS.items():
        command = commands.add_parser(name, help=what, formatter_class=formatter, allow_abbrev=False)
        command.late_options = partial(_add_options, name, parts)
    return parser


def _add_options(name: str, parts: Parts, parser: Parser) -> None:
    import_module(f"uring_iopf.commands.{name}").add_options(parser, parts)


def main(argv: Sequence[str] | None = None, parts: Parts = REAL) -> int:
    """Run the command line *argv* (this process's by default) and return its exit status.

    Raises: SystemExit, as argparse does, after help and for options that it refuses.
    """
    arguments = build_parser(parts).parse_args(argv)
    with Interrupts() as interrupts:
        return interrupts.status(_run(arguments, parts))


def _run(arguments: argparse.Namespace, parts: Parts) -> int:
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
