"""`python -m tests.rings.record`: play the table and some generated programs on the host's io_uring, and write it down.

Each is played several times; what is not the same every time is not recorded, and said.
"""

from __future__ import annotations

import platform
import sys

from tests.rings import known
from tests.rings.bulk import draw
from tests.rings.cases import CASES
from tests.rings.engine import EnginePlayer
from tests.rings.host import HostPlayer, refusal, version
from tests.rings.language import Program, Seen, waiting_for
from tests.rings.recorded import Recording, write

TIMES, ATTEMPTS, PROGRAMS, SEED = 5, 10, 400, 1


def _main() -> int:
    reason = refusal()
    if reason:
        print(f"the host refuses io_uring: {reason}", file=sys.stderr)  # noqa: T201
        return 1
    host, engine, kernel = HostPlayer(), EnginePlayer(version()), version()

    def settled(program: Program, attempts: int = 1) -> list[Seen] | None:
        for _ in range(attempts):
            first = host.play(program)
            if all(host.play(program) == first for _ in range(TIMES - 1)):
                return first
        return None

    cases, programs, unsteady = {}, [], []
    for case in CASES:
        if case.since > kernel:
            continue
        outcome = settled(case.program, ATTEMPTS)
        if outcome is None:
            unsteady.append(case.name)
        else:
            cases[case.name] = (case.program.digest, outcome)
    host.patience_s = 0.5
    for number in range(PROGRAMS):
        bytes_ = draw(SEED, number)
        program = bytes_.program()
        got = engine.play(program)
        outcome = settled(waiting_for(program, got))
        if outcome is not None and (outcome == got or known.explanation(program, outcome, got)):
            programs.append((bytes_.header, bytes_.actions, program.digest, outcome))
    path = write(Recording(kernel, platform.uname().release, cases, programs))
    print(f"{path}: Linux {platform.uname().release}, {len(cases)} cases, {len(programs)} programs")  # noqa: T201
    print(f"not the same every time: {', '.join(unsteady) or 'none'}; {PROGRAMS - len(programs)} programs")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(_main())
