"""``uring-iopf conformance``: replay recordings of real kernels, or write the page of known differences."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from uring_iopf.commands.shared import OK, UNACCOUNTED, Parser, Parts, formatter, listed, open_json
from uring_iopf.reports.undisturbed import undisturbed

if TYPE_CHECKING:
    import argparse

_GOLDEN_STATUSES: Final = (
    ("0", "every value of every step is as recorded"),
    ("1", "a value differs, or the table or the JSON could not be written"),
    ("2", "an argument or a recording is wrong; nothing was replayed"),
    ("130", "interrupted by Ctrl-C; the results so far were printed, marked as partial"),
    ("143, 129", "interrupted by SIGTERM or SIGHUP, in the same way"),
)

_REPORT_STATUSES: Final = (
    ("0", "the page was written"),
    ("1", "the page could not be written; an old page is left as it was"),
    ("2", "an argument or a recording is wrong; an old page is left as it was"),
    ("130", "interrupted by Ctrl-C; an old page is left as it was"),
    ("143, 129", "interrupted by SIGTERM or SIGHUP, in the same way"),
)

_EXAMPLES: Final = """\
examples:
  uring-iopf conformance golden tests/data/golden/*.jsonl.gz
      replay the recordings in a checkout of the project
  uring-iopf conformance report --output conformance.md
      write the page of known differences"""

_GOLDEN_EXAMPLES: Final = """\
examples:
  uring-iopf conformance golden tests/data/golden/*.jsonl.gz
      replay the recordings in a checkout of the project
  uring-iopf conformance golden --kernel 7.2 my.jsonl
      replay a file whose name does not have the kernel's version"""

_REPORT_EXAMPLES: Final = """\
examples:
  uring-iopf conformance report
      print the page
  uring-iopf conformance report tests/data/golden/*.jsonl.gz --output page.md
      write the page to a file, with the coverage of two recordings"""


def add_options(parser: Parser, _parts: Parts) -> None:
    """Add the description and the options of the command."""
    parser.description = "Compare the emulated iommufd with recordings of real kernels."
    parser.epilog = _EXAMPLES
    whats = parser.add_subparsers(title="commands", metavar="COMMAND", dest="what", required=True, parser_class=Parser)
    _add_golden(whats)
    _add_report(whats)


def _add_golden(whats: Any) -> None:
    parser = whats.add_parser(
        "golden",
        help="replay recordings, and print the differences and the coverage",
        description="Replay recorded scripts step by step. Print each value that differs from the\n"
        "recording on a line of its own, with the script and the step (counted from 0).\n"
        "Then print how often each operation ended with each errno, and a line of totals.",
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", nargs="+", help="a recording: JSON Lines, gzipped or plain")
    parser.add_argument(
        "--kernel",
        metavar="VERSION",
        help="the kernel to emulate: 6.12 or 7.2 (default: the version in the file's name, as in iommufd-7.2.jsonl.gz)",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="also write the differences and the counts to FILE as JSON; - is standard output",
    )
    parser.late_epilog = lambda: "\n\n".join([_GOLDEN_EXAMPLES, listed("exit status", _GOLDEN_STATUSES)])
    parser.set_defaults(run=_golden, parser=parser)


def _add_report(whats: Any) -> None:
    parser = whats.add_parser(
        "report",
        help="write the page of known differences",
        description="Write the conformance page, in Markdown. It lists the judges that the emulator\nis "
        "compared with, the differences between kernels, the coverage of the given\nrecordings, and every known "
        "difference with its reason.",
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", nargs="*", help="a recording whose coverage the page lists")
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: standard output)")
    parser.late_epilog = lambda: "\n\n".join([_REPORT_EXAMPLES, listed("exit status", _REPORT_STATUSES)])
    parser.set_defaults(run=_report, parser=parser)


def _golden(arguments: argparse.Namespace, _parts: Parts) -> int:
    with undisturbed():
        from uring_iopf.conformance import command as conformance

    with ExitStack() as stack:
        json_file = open_json(stack, arguments.json, inputs=arguments.file)
        out = sys.stderr if json_file is not None and json_file.is_stdout else sys.stdout
        return conformance.golden(arguments.file, kernel=arguments.kernel, out=out, json_file=json_file)


def _report(arguments: argparse.Namespace, _parts: Parts) -> int:
    with undisturbed():
        from uring_iopf.conformance.command import open_recording
        from uring_iopf.conformance.page import page
        from uring_iopf.reports.output import Output

    text = page([open_recording(file) for file in arguments.file])
    with Output("--output", arguments.output or "-", inputs=arguments.file) as output:
        complaint = output.write(text)
    if complaint is not None:
        sys.stderr.write(f"uring-iopf: {complaint}\n")
        return UNACCOUNTED
    return OK
