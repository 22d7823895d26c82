"""`python -m tests.rings.record`: play the table and some generated programs on the host's io_uring, and write it down.

Each is played several times; what is not the same every time is not recorded, and said. With `--missing` what has been
recorded of this kernel stays, and only new or changed cases are played.
"""

from __future__ import annotations

import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final, TypeVar

from tests.rings import known
from tests.rings.bulk import draw
from tests.rings.cases import CASES
from tests.rings.engine import EnginePlayer
from tests.rings.generate import ACTION
from tests.rings.host import HostPlayer, refusal, version
from tests.rings.language import waiting_for
from tests.rings.recorded import Recording, read, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.rings.language import Case, Program, Seen

TIMES, ATTEMPTS, PROGRAMS, SEED = 5, 10, 400, 1
SPAN: Final = 100
"""How many of them one process plays: the host keeps threads of rings that are no longer used until that ends."""

T = TypeVar("T")


def _settled(host: HostPlayer, program: Program, attempts: int = 1) -> list[Seen] | None:
    for _ in range(attempts):
        first = host.play(program)
        if all(host.play(program) == first for _ in range(TIMES - 1)):
            return first
    return None


def _table() -> list[Case]:
    return [case for case in CASES if case.since <= version()]


def _add_missing() -> int:
    """Play what is not recorded as it is."""
    before, host, unsteady = read(ACTION), HostPlayer(), []
    cases = {}
    for case in _table():
        digest = case.program.digest
        if before.cases.get(case.name, ("", []))[0] == digest:
            cases[case.name] = before.cases[case.name]
            continue
        outcome = _settled(host, case.program, ATTEMPTS)
        print(f"{case.name}: {'not the same every time' if outcome is None else 'recorded'}")  # noqa: T201
        if outcome is None:
            unsteady.append(case.name)
        else:
            cases[case.name] = digest, outcome
    host.close()
    print(write(Recording(before.kernel, before.machine, cases, before.programs)))  # noqa: T201
    return int(bool(unsteady))


def _of_cases(numbers: range) -> list[list[Seen] | None]:
    host = HostPlayer()
    outcomes = [_settled(host, case.program, ATTEMPTS) for case in _table()[numbers.start : numbers.stop]]
    host.close()
    return outcomes


def _of_programs(numbers: range) -> list[list[Seen] | None]:
    host, engine = HostPlayer(), EnginePlayer(version())
    host.patience_s = 0.5
    outcomes: list[list[Seen] | None] = []
    for number in numbers:
        program = draw(SEED, number).program()
        got = engine.play(program)
        outcome = _settled(host, waiting_for(program, got))
        holds = outcome is not None and (outcome == got or known.explanation(program, outcome, got))
        outcomes.append(outcome if holds else None)
    host.close()
    engine.close()
    return outcomes


def _in_spans(function: Callable[[range], list[T]], count: int, what: str) -> Iterator[tuple[int, T]]:
    """What the function makes of each number below *count*."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for first in range(0, count, SPAN):
            numbers = range(first, min(first + SPAN, count))
            yield from zip(numbers, pool.submit(function, numbers).result(), strict=True)
            print(f"{numbers.stop} of {count} {what}", file=sys.stderr)  # noqa: T201


def _main() -> int:
    reason = refusal()
    if reason:
        print(f"the host refuses io_uring: {reason}", file=sys.stderr)  # noqa: T201
        return 1
    if sys.argv[1:] == ["--missing"] and read(ACTION).kernel == version():
        return _add_missing()
    table, cases, unsteady = _table(), {}, []
    for number, outcome in _in_spans(_of_cases, len(table), "cases"):
        case = table[number]
        if outcome is None:
            unsteady.append(case.name)
        else:
            cases[case.name] = (case.program.digest, outcome)
    programs = []
    for number, outcome in _in_spans(_of_programs, PROGRAMS, "programs"):
        bytes_ = draw(SEED, number)
        if outcome is not None:
            programs.append((bytes_.header, bytes_.actions, bytes_.program().digest, outcome))
    path = write(Recording(version(), platform.uname().release, cases, programs))
    print(f"{path}: Linux {platform.uname().release}, {len(cases)} cases, {len(programs)} programs")  # noqa: T201
    print(f"not the same every time: {', '.join(unsteady) or 'none'}; {PROGRAMS - len(programs)} programs")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(_main())
