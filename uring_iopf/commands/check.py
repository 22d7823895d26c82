"""``uring-iopf check``: run the suite that every design must pass, without pytest."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uring_iopf.commands.shared import INTERRUPTED, OK, UNACCOUNTED, Parser, Parts, listed

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

    from uring_iopf.testing.check import Outcome

_DESCRIPTION: Final = """\
Run the suite that every delivery design must pass, inline and on one thread,
and print each case. A case that fails names the rule that the design broke, and
shows what was found and what was expected. No pytest is needed. In a project's
own tests, subclass uring_iopf.testing.conformance.DesignConformance.
"""

_EXAMPLES: Final = (
    ("my_package:Mine", "the class Mine, a subclass of uring_iopf.Design, in my_package.py of this directory"),
    ("fd", "a design that comes with the library"),
    ("--case sleep fd", "only the cases that have the word in their names"),
)

_STATUSES: Final = (
    ("0", "every case passed, or says nothing of the design (skipped)"),
    ("1", "a case failed"),
    ("2", "the command was not understood, or there is no such design; nothing was checked"),
    ("130", "interrupted by Ctrl-C, after the cases that have ended"),
    ("143, 129", "the same, by SIGTERM or SIGHUP"),
)


def add_options(parser: Parser, _parts: Parts) -> None:
    """Add what the command takes."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "design", metavar="NAME|MODULE:CLASS", nargs="+", help="what to check; the current directory is searched first"
    )
    parser.add_argument("--case", metavar="TEXT", default="", help="only the cases with TEXT in their names")
    parser.add_argument("--failures", action="store_true", help="print no case that passed or was skipped")
    parser.late_epilog = _epilog
    parser.set_defaults(run=run, parser=parser)


def _epilog() -> str:
    from uring_iopf.designs.rules import RULES

    delivers = [(name, text) for name, text in RULES.items() if not name.startswith("count")]
    counts = [(name, text) for name, text in RULES.items() if name.startswith("count")]
    return "\n\n".join(
        [
            listed("examples", _EXAMPLES),
            listed("the rules of what a design delivers", delivers),
            listed("the rules of what it counts", counts),
            listed("exit status", _STATUSES),
        ]
    )


def run(arguments: argparse.Namespace, _parts: Parts) -> int:
    """Run the suite with each design, and return the exit status."""
    from uring_iopf.designs.registry import resolve
    from uring_iopf.testing.check import check_design

    here = str(Path.cwd())
    if here not in sys.path:  # a console script does not search the current directory, `python -m` does
        sys.path.insert(0, here)
    specs = list(dict.fromkeys(arguments.design))
    infos = [resolve(spec) for spec in specs]  # all of them, before the first is run
    failed = 0
    for spec, info in zip(specs, infos, strict=True):
        try:
            report = _Report(sys.stdout, f"{info.name} ({spec})" if info.name != spec else spec, arguments.failures)
            try:
                check_design(spec, report.add, only=arguments.case)
            except KeyboardInterrupt:
                report.end()
                sys.stderr.write("uring-iopf: interrupted; the suite has not ended\n")
                return INTERRUPTED
            report.end()
        except _CannotPrintError as error:
            # What is left in the buffer would be tried once more while Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.stderr.write(f"uring-iopf: standard output: {error}\n")
            return UNACCOUNTED
        failed += report.failed
    return UNACCOUNTED if failed else OK


class _CannotPrintError(Exception):
    """Standard output takes no more: a full disk, say."""


class _Report:
    """What is printed of one design, as it comes."""

    def __init__(self, out: TextIO, title: str, failures_alone: bool) -> None:
        self._out = out
        self._title = title
        self._failures_alone = failures_alone
        self._counts = {"passed": 0, "failed": 0, "skipped": 0}
        self._told: dict[str, str] = {}
        self._rules: dict[str, None] = {}
        self._write(f"{title}\n")

    @property
    def failed(self) -> int:
        """How many cases have failed."""
        return self._counts["failed"]

    def add(self, outcome: Outcome) -> None:
        """Print a case that has ended."""
        from uring_iopf.testing.check import Verdict

        words = {Verdict.OK: "passed", Verdict.FAILED: "failed", Verdict.SKIPPED: "skipped"}
        self._counts[words[outcome.verdict]] += 1
        name = outcome.case if outcome.wait is None else f"{outcome.case} [{outcome.wait}]"
        if outcome.rule is not None:
            self._rules[outcome.rule] = None
        if outcome.verdict is Verdict.FAILED:
            why = self._told.get(outcome.why, outcome.why)
            self._told[outcome.why] = f"the same as: {name}" if why == outcome.why else why
        elif self._failures_alone:
            return
        else:
            why = outcome.why
        self._write(f"  {outcome.verdict.value:<8}{name}\n" + "".join(f"          {x}\n" for x in why.splitlines()))

    def end(self) -> None:
        """Print the line of counts, and the rules that were broken."""
        counts = ", ".join(f"{n} {what}" for what, n in self._counts.items() if n)
        self._write(f"{self._title}: {counts or 'no case has ended'}\n")
        if self._rules:
            self._write(f"rules broken: {', '.join(map(repr, self._rules))}\n")

    def _write(self, text: str) -> None:
        from uring_iopf.reports.text import plain

        try:
            self._out.write("\n".join(map(plain, text.split("\n"))))
            self._out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _CannotPrintError(error.strerror) from None
