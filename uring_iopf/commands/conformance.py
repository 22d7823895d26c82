"""``uring-iopf conformance``: replay recordings of real kernels, or write the page of known differences."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from uring_iopf.commands.shared import OK, UNACCOUNTED, Parser, Parts, formatter, listed, open_json

if TYPE_CHECKING:
    import argparse

_GOLDEN_STATUSES: Final = (
    ("0", "every value of every step is as recorded"),
    ("1", "some are not, or the JSON could not be written"),
    ("2", "the command or a file was not understood; nothing was replayed"),
    ("130", "interrupted by Ctrl-C, after printing what was replayed so far, marked as partial"),
    ("143, 129", "the same, by SIGTERM or SIGHUP"),
)


def add_options(parser: Parser, _parts: Parts) -> None:
    """Add what the command takes."""
    parser.description = "Hold the emulated iommufd against recordings of real kernels."
    whats = parser.add_subparsers(title="commands", metavar="COMMAND", dest="what", required=True, parser_class=Parser)
    _add_golden(whats)
    _add_report(whats)


def _add_golden(whats: Any) -> None:
    parser = whats.add_parser(
        "golden",
        help="replay recordings, and print what differs and what they cover",
        description="Replay recorded scripts step by step. Prints each value that is not as recorded,\n"
        "one a line, with script and step (from 0); how often each operation ended with\n"
        "each errno; and a line of counts.",
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", nargs="+", help="recorded scripts: JSON Lines, gzipped or plain")
    parser.add_argument(
        "--kernel",
        metavar="VERSION",
        help="by whose rules: 6.12 or 7.2 (default: what the file's name says, as iommufd-7.2.jsonl.gz)",
    )
    parser.add_argument("--json", metavar="FILE", help="write differences and counts there too; - is standard output")
    parser.late_epilog = lambda: listed("exit status", _GOLDEN_STATUSES)
    parser.set_defaults(run=_golden, parser=parser)


def _add_report(whats: Any) -> None:
    parser = whats.add_parser(
        "report",
        help="write the page of known differences and of what recordings cover",
        description="Write the conformance page, in Markdown: what the emulator is held against, what\n"
        "kernels differ in, what the given recordings cover, and every known difference\nwith its reason.",
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", nargs="*", help="recordings whose coverage is on the page")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: standard output)")
    parser.set_defaults(run=_report, parser=parser)


def _golden(arguments: argparse.Namespace, _parts: Parts) -> int:
    from uring_iopf.conformance import command as conformance

    with ExitStack() as stack:
        json_file = open_json(stack, arguments.json, inputs=arguments.file)
        out = sys.stderr if json_file is not None and json_file.is_stdout else sys.stdout
        return conformance.golden(arguments.file, kernel=arguments.kernel, out=out, json_file=json_file)


def _report(arguments: argparse.Namespace, _parts: Parts) -> int:
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
