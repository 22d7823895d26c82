"""The command line: ``uring-iopf compare``, ``check``, ``bench``, ``calibrate``, ``conformance`` and ``serve``.

Only what parsing needs is imported up here, so that help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final

from uring_iopf.commands.shared import INTERRUPTED, REAL, UNACCOUNTED, USAGE, Parser, Parts, formatter
from uring_iopf.commands.signals import Interrupts
from uring_iopf.errors import UsageError
from uring_iopf.reports.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT: Final = """\
Compare ways of delivering I/O page faults to user space.

A device that shares a program's memory accesses a page that is not mapped: an
I/O page fault. The IOMMU reports the fault. A program in user space maps the
page and answers. A delivery design is the way of the fault from the kernel to
that program, and of the answer back. Several designs were proposed for Linux.
Here they run side by side, on an emulated device, IOMMU and kernel. No special
kernel, no hardware and no root are needed.
"""

_EXAMPLES: Final = """\
examples:
  uring-iopf compare
      replay the page faults of a compiler through every design
  uring-iopf compare --workload my.csv --design fd --design my_package:Mine
      compare your own design with the one in Linux, on your own trace
  uring-iopf compare --load poisson --rate 100000 --rate 1000000
      measure latency at two rates of faults

`uring-iopf COMMAND --help` explains a command. `uring-iopf compare --help`
lists the designs and the workloads, and explains the columns of the table. The
documentation is in the project's folder docs/. Start with docs/tutorial.md,
which answers a first fault.
"""


# Each command has a module in this folder, which adds its options.
_COMMANDS: Final = {
    "compare": "replay a real program's page faults through delivery designs and print a table",
    "check": "test your own design with the suite that every design must pass",
    "bench": "measure the speed of the library itself, beside reference measurements",
    "calibrate": "measure the prices of this machine, for predictions in virtual time",
    "conformance": "compare the emulated iommufd with recordings of real kernels",
    "serve": "deliver page faults to other processes, over rings that they map with liburing",
}


class _Closed(io.TextIOBase):
    """In place of a standard output that was closed (a shell's ``>&-``), where Python has None."""

    def write(self, _text: str) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class _VersionAction(argparse.Action):
    """``--version``. It looks up the version only when the option is given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        from uring_iopf.reports.output import StandardOutputError, write_out

        try:
            write_out(sys.stdout, f"uring-iopf {metadata.version('uring-iopf')}\n")
        except StandardOutputError as error:
            raise SystemExit(_cannot_print(error)) from None
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
    _replace_closed_streams()
    with Interrupts() as interrupts:
        return interrupts.status(_run(argv, parts))


def _replace_closed_streams() -> None:
    """Let writes to a standard output that was closed be errors, and those to standard error be nothing."""
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = io.StringIO()  # nobody reads it


def _cannot_print(error: Exception) -> int:
    from uring_iopf.reports.output import discard_output

    discard_output()
    sys.stderr.write(f"uring-iopf: standard output: {error}\n")
    return UNACCOUNTED


def _run(argv: Sequence[str] | None, parts: Parts) -> int:
    """Run the command. A signal may come at any moment."""
    try:
        with undisturbed():
            arguments = build_parser(parts).parse_args(argv)
        return _told(arguments, parts)
    except KeyboardInterrupt:
        sys.stderr.write("uring-iopf: interrupted\n")
        return INTERRUPTED


def _told(arguments: argparse.Namespace, parts: Parts) -> int:
    """Run the command, and say its errors in a line."""
    with undisturbed():
        from uring_iopf.reports.output import StandardOutputError, discard_output
        from uring_iopf.reports.text import plain

    try:
        return int(arguments.run(arguments, parts))
    except UsageError as error:
        # A file's name may have anything in it, also what a terminal obeys.
        sys.stderr.write("\n".join(map(plain, f"{arguments.parser.prog}: {error}\n".split("\n"))))
        return USAGE
    except ImportError as error:
        if error.name != "uring_iopf._core":
            raise
        sys.stderr.write(f"{arguments.parser.prog}: {error}\n")  # the compiled part: the text says what to do
        return USAGE
    except BrokenPipeError:
        discard_output()  # its reader (head, less) closed the pipe
        return UNACCOUNTED
    except StandardOutputError as error:
        return _cannot_print(error)
