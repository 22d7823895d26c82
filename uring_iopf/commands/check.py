"""``uring-iopf check``: run the suite that every design must pass, without pytest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uring_iopf.commands.shared import INTERRUPTED, OK, UNACCOUNTED, Parser, Parts, listed
from uring_iopf.reports.undisturbed import undisturbed

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

    from uring_iopf.testing.check import Outcome

_DESCRIPTION: Final = """\
Run the suite that every delivery design must pass, and print each case. The
suite runs on one thread. A case that fails prints the rule that the design
broke, the value that was found and the value that was expected. The command
works without pytest. To run the suite in your own tests, subclass
uring_iopf.testing.conformance.DesignConformance.
"""

_EXAMPLES: Final = """\
examples:
  uring-iopf check my_package:Mine
      the class Mine, a subclass of uring_iopf.Design, in my_package.py
  uring-iopf check fd
      a design that comes with the library
  uring-iopf check --case sleep fd
      only the cases with "sleep" in their names"""

_STATUSES: Final = (
    ("0", "every case passed or was skipped, because it does not apply to the design"),
    ("1", "a case failed, or standard output could not be written"),
    ("2", "an argument is wrong, or there is no such design; nothing was checked"),
    ("130", "interrupted by Ctrl-C; the cases that had ended were printed"),
    ("143, 129", "interrupted by SIGTERM or SIGHUP, in the same way"),
)


def add_options(parser: Parser, _parts: Parts) -> None:
    """Add the description and the options of the command."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "design",
        metavar="NAME|MODULE:CLASS",
        nargs="+",
        help="a design to check; Python searches the current directory first",
    )
    parser.add_argument("--case", metavar="TEXT", default="", help="run only the cases with TEXT in their names")
    parser.add_argument("--failures", action="store_true", help="print only the cases that failed")
    parser.late_epilog = _epilog
    parser.set_defaults(run=run, parser=parser)


def _epilog() -> str:
    from uring_iopf.designs.rules import RULES

    delivers = [(name, text) for name, text in RULES.items() if not name.startswith("count")]
    counts = [(name, text) for name, text in RULES.items() if name.startswith("count")]
    return "\n\n".join(
        [
            _EXAMPLES,
            listed("rules of delivery", delivers),
            listed("rules of counting", counts),
            listed("exit status", _STATUSES),
        ]
    )


def run(arguments: argparse.Namespace, _parts: Parts) -> int:
    """Run the suite with each design, and return the exit status."""
    with undisturbed():
        from uring_iopf.designs.registry import resolve
        from uring_iopf.testing.check import check_design

    here = str(Path.cwd())
    if here not in sys.path:  # a console script does not search the current directory, `python -m` does
        sys.path.insert(0, here)
    specs = list(dict.fromkeys(arguments.design))
    infos = [resolve(spec) for spec in specs]  # all of them, before the first is run
    failed = 0
    for spec, info in zip(specs, infos, strict=True):
        report = _Report(sys.stdout, f"{info.name} ({spec})" if info.name != spec else spec, arguments.failures)
        try:
            check_design(spec, report.add, only=arguments.case)
        except KeyboardInterrupt:
            report.end()
            sys.stderr.write("uring-iopf: interrupted; the suite has not ended\n")
            return INTERRUPTED
        report.end()
        failed += report.failed
    return UNACCOUNTED if failed else OK


class _Report:
    """Prints the cases of one design as they end."""

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
        """The number of cases that have failed."""
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
        from uring_iopf.reports.output import write_out
        from uring_iopf.reports.text import plain

        write_out(self._out, "\n".join(map(plain, text.split("\n"))))
