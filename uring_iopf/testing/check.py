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
    """How a case ended."""

    OK = "ok"
    FAILED = "FAILED"
    SKIPPED = "skipped"


class Outcome(NamedTuple):
    """One case: what it says, the wait where it runs for both, how it ended, why, and which rule was broken."""

    case: str
    wait: str | None
    verdict: Verdict
    why: str = ""
    rule: str | None = None


def check_design(
    spec: str | type[Design], on_outcome: Callable[[Outcome], None] = lambda _one: None, *, only: str = ""
) -> list[Outcome]:
    """Run every case of the suite with a design: a name, MODULE:CLASS or a class. Return what came out of each.

    *on_outcome* is called as each case ends. What a design raises is the outcome of the case. *only*: those cases whose
    names have this in them. Raises: UsageError, as `resolve`; there is no such case.
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
    """The names of the cases, in their order: sentences, as they are printed."""
    return [name.removeprefix("test_").replace("_", " ") for name in vars(DesignSuite) if name.startswith("test_")]


def _cases(suite: DesignSuite) -> Iterator[tuple[str, Callable[..., None], str | None]]:
    """Each case in the order of the source: its name as a sentence, and once for each wait if it has a machine."""
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
    """What a design raised, and where."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    theirs: list[Any] = [frame for frame in frames if not Path(frame.filename).is_relative_to(_PACKAGE)]
    where = (theirs or frames)[-1]
    return f"{text}\nin {where.name}, {where.filename}:{where.lineno}"
