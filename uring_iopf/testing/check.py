"""Run the suite that every design must pass, without pytest: ``uring-iopf check``."""

from __future__ import annotations

import enum
import inspect
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from uring_iopf.designs.registry import resolve
from uring_iopf.errors import DesignError, UsageError
from uring_iopf.testing.design_suite import WAITS, DesignSuite, NotApplicable, open_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from uring_iopf.designs.base import Design

_PACKAGE = Path(__file__).resolve().parent.parent


class Verdict(enum.Enum):
    """The result of a case."""

    OK = "ok"
    FAILED = "FAILED"
    SKIPPED = "skipped"


class Outcome(NamedTuple):
    """The outcome of one case."""

    case: str
    """The name of the case, a sentence."""
    wait: str | None
    """The wait mode, if the case runs for both; else None."""
    verdict: Verdict
    """The result."""
    why: str = ""
    """The finding of a case that failed, or the reason of one that was skipped."""
    rule: str | None = None
    """The name of the rule that the design broke, if there is one."""


def check_design(
    spec: str | type[Design], on_outcome: Callable[[Outcome], None] = lambda _one: None, *, only: str = ""
) -> list[Outcome]:
    """Run every case of the suite with a design. Return the outcomes.

    *spec*: a name, MODULE:CLASS or a class. *on_outcome*: called at the end of each case. *only*: run only the cases
    with this text in their names. An exception of the design fails the case. Raises: UsageError, there is no such
    design (see `resolve`) or no such case.
    """
    resolve(spec)
    if not any(only in name for name in case_names()):
        raise UsageError(f"no case of the suite has {only!r} in its name; without it, all cases run and are listed")
    suite = type("Suite", (DesignSuite,), {"design": spec})()
    outcomes: list[Outcome] = []
    for name, case, wait in _cases(suite):
        if only not in name:
            continue
        outcomes.append(Outcome(name, wait, *_run(suite, case, wait)))
        on_outcome(outcomes[-1])
    return outcomes


def case_names() -> list[str]:
    """The names of the cases, in order. Each is a sentence."""
    return [name.removeprefix("test_").replace("_", " ") for name in vars(DesignSuite) if name.startswith("test_")]


def _cases(suite: DesignSuite) -> Iterator[tuple[str, Callable[..., None], str | None]]:
    """The cases in the order of the source. A case with a machine comes once for each wait mode."""
    for name in case_names():
        case = getattr(suite, f"test_{name.replace(' ', '_')}")
        waits: tuple[str | None, ...] = WAITS if "machine" in inspect.signature(case).parameters else (None,)
        for wait in waits:
            yield name, case, wait


def _run(suite: DesignSuite, case: Callable[..., None], wait: str | None) -> tuple[Verdict, str, str | None]:
    try:
        if wait is None:
            case()
        else:
            with open_machine(suite.design, wait) as machine:
                case(machine)
    except NotApplicable as reason:
        return Verdict.SKIPPED, str(reason), None
    except DesignError as error:
        return Verdict.FAILED, str(error), error.rule
    except (Exception, SystemExit) as error:
        return Verdict.FAILED, _told(error), None
    return Verdict.OK, "", None


def _told(error: Exception | SystemExit) -> str:
    """The text of an exception of a design, with its place in the design's code."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    theirs: list[Any] = [frame for frame in frames if not Path(frame.filename).is_relative_to(_PACKAGE)]
    where = (theirs or frames)[-1]
    return f"{text}\nin {where.name}, {where.filename}:{where.lineno}"
