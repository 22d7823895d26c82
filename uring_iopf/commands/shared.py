"""Shared by the commands: exit statuses, the layout of help, the parsing of numbers, the files that they write."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from uring_iopf.errors import UsageError
from uring_iopf.reports.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import ExitStack
    from typing import TextIO

    from _typeshed import SupportsWrite

    from uring_iopf.costs.model import CostModel
    from uring_iopf.lab.compare import MeasureCell, MeasureFloor
    from uring_iopf.lab.forecast import MakeModel, Predictor
    from uring_iopf.machine_parts import MachineParts
    from uring_iopf.reports.output import Output

_HELP_WIDTH: Final = 80

# Exit statuses
OK: Final = 0
UNACCOUNTED: Final = 1
USAGE: Final = 2
SIGNALLED: Final = 128  # a shell reports 128 plus the number of the signal
INTERRUPTED: Final = SIGNALLED + 2


# ---- the parts of the library that the commands use ----


class DesignFacts(Protocol):
    """The facts of a design that the command line uses."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def summary(self) -> str: ...  # noqa: D102
    @property
    def year(self) -> object: ...  # noqa: D102
    @property
    def inline_only(self) -> bool: ...  # noqa: D102
    @property
    def has_client(self) -> bool: ...  # noqa: D102
    @property
    def on_host(self) -> bool: ...  # noqa: D102
    @property
    def polled(self) -> bool: ...  # noqa: D102
    @property
    def matches(self) -> tuple[str, ...]: ...  # noqa: D102


class Bench(Protocol):
    """``uring_iopf.reports.bench.run``: prints to *out*, writes the JSON document, returns the exit status."""

    def __call__(self, *, out: TextIO, json_file: Output | None, quick: bool) -> int: ...  # noqa: D102


class Calibrate(Protocol):
    """``uring_iopf.reports.calibration.run``: prints to *out*, writes the files, returns the exit status."""

    def __call__(  # noqa: D102
        self, *, out: TextIO, model_file: Output | None, json_file: Output | None, name: str, quick: bool
    ) -> int: ...


def reached_in_flight(machine: MachineParts, given: Iterable[int]) -> int:
    """The most groups of the workload that can be outstanding at once, with these credits and groups.

    Raises: UsageError, a number of *given* is beyond that.
    """
    from uring_iopf.lab.reach import most_in_flight

    assert machine.workload is not None
    (function,) = machine.each_function()
    most = most_in_flight(machine.workload, machine.group, function.credits)
    stalls = f", --stalls {function.stalls}" if function.stalls else ""
    for number in given:
        if number > most:
            raise UsageError(
                f"--in-flight {number}: the workload {machine.workload.name}, with --group {machine.group}{stalls} and "
                f"--iommu {machine.iommu}, reaches {most} groups in flight at most; give 1 to {most}"
            )
    return most


def _design_names() -> Sequence[str]:
    from uring_iopf.designs import registry

    return registry.names()


def _resolve_design(spec: str) -> DesignFacts:
    from uring_iopf.designs import registry

    return registry.resolve(spec)


def _run_bench(*, out: TextIO, json_file: Output | None, quick: bool) -> int:
    with undisturbed():
        from uring_iopf.reports import bench

    return bench.run(out=out, json_file=json_file, quick=quick)


def _run_calibrate(*, out: TextIO, model_file: Output | None, json_file: Output | None, name: str, quick: bool) -> int:
    with undisturbed():
        from uring_iopf.reports import calibration

    return calibration.run(out=out, model_file=model_file, json_file=json_file, name=name, quick=quick)


def _measured_model(tell: Callable[[str, float], None]) -> tuple[CostModel, tuple[str, ...]]:
    from uring_iopf.reports import calibration

    return calibration.measured_model(tell)


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


class Parts(NamedTuple):
    """The functions of the library that the commands call. They import on first use. Tests pass their own."""

    design_names: Callable[[], Sequence[str]] = _design_names
    resolve_design: Callable[[str], DesignFacts] = _resolve_design
    measure_cell: MeasureCell | None = None  # run_comparison knows the real ones
    measure_floor: MeasureFloor | None = None
    make_model: MakeModel = _measured_model
    predictor: Predictor | None = None  # as measure_cell
    bench: Bench = _run_bench
    calibrate: Calibrate = _run_calibrate
    is_installed: Callable[[str], bool] = _is_installed


REAL: Final = Parts()


# ---- help and arguments ----


class Parser(argparse.ArgumentParser):
    """The parser of a command. It adds its options when it parses, and its epilog when the help is printed.

    So the list of commands, and each command, loads no other command's modules.
    """

    late_options: Callable[[Parser], None] | None = None
    late_epilog: Callable[[], str] | None = None

    def complete(self) -> None:
        """Add the options, once."""
        add, self.late_options = self.late_options, None
        if add is not None:
            add(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: D102
        self.complete()
        return super().parse_known_args(args, namespace)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:  # noqa: D102
        if self.late_epilog is not None:
            self.epilog = self.late_epilog()
        super().print_help(file)


def add_fault_file(parser: Parser) -> None:
    """Add ``--fault-file``."""
    from uring_iopf.machine_parts import FAULT_FILES

    parser.add_argument(
        "--fault-file",
        choices=FAULT_FILES,
        default="keyed",
        help="the proposed fault file, for designs that need it: a fault wakes with POLLIN, as we propose (keyed), or "
        "without saying why, as Linux's file (unkeyed) (default: keyed)",
    )


def listed(title: str, entries: Iterable[tuple[str, str]]) -> str:
    """A titled list of names, each with its explanation."""
    lines = [f"{title}:"]
    for name, text in entries:
        lines += textwrap.wrap(text, _HELP_WIDTH, initial_indent=f"  {name:<16} ", subsequent_indent=" " * 19)
    return "\n".join(lines)


def formatter(prog: str) -> argparse.HelpFormatter:
    """Return a formatter that keeps the line breaks of descriptions and epilogs."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=27, width=_HELP_WIDTH)


def number_above_zero(most: float) -> Callable[[str], float]:
    """Return a function that parses a decimal number above 0, and at most *most*."""

    def parse(text: str) -> float:
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?(e[0-9]{1,2})?", text, re.ASCII) and 0 < float(text) <= most:
            return float(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to {most:g}")

    return parse


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a function that parses a decimal whole number from *least* to *most*."""

    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")

    return parse


# ---- files that a command writes ----


def open_json(stack: ExitStack, path: str | None, *, inputs: Iterable[str] = ()) -> Output | None:
    """Open the file before anything is measured, so that a file that cannot be written is refused at once.

    *inputs*: files that the command reads, and must not overwrite.
    """
    from uring_iopf.reports.output import Output

    return None if path is None else stack.enter_context(Output("--json", path, inputs=inputs))


def open_output(stack: ExitStack, path: str | None) -> Output | None:
    """Do what `open_json` does for the file that ``--output`` names."""
    from uring_iopf.reports.output import Output

    return None if path is None else stack.enter_context(Output("--output", path))
