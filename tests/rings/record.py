"""`python -m tests.rings.record`: play the table and some generated programs on the host's io_uring, and write it down.

Each is played several times; what is not the same every time is not recorded, and said.
"""

from __future__ import annotations

import platform
import random
import sys

from tests.rings.cases import CASES
from tests.rings.engine import EnginePlayer
from tests.rings.generate import ACTION, HEADER, assemble
from tests.rings.host import HostPlayer, refusal, version
from tests.rings.language import Program, Seen, waiting_for
from tests.rings.recorded import Recording, write

TIMES, PROGRAMS, SEED = 5, 400, 1


def _main() -> int:
    reason = refusal()
    if reason:
        print(f"the host refuses io_uring: {reason}", file=sys.stderr)  # noqa: T201
        return 1
    host, engine, kernel = HostPlayer(), EnginePlayer(version()), version()

    def settled(program: Program) -> list[Seen] | None:
        first = host.play(program)
        return first if all(host.play(program) == first for _ in range(TIMES - 1)) else None

    cases, programs, unsteady = {}, [], []
    for case in CASES:
        if case.since > kernel:
            continue
        outcome = settled(case.program)
        if outcome is None:
            unsteady.append(case.name)
        else:
            cases[case.name] = (case.program.digest, outcome)
    draw = random.Random(SEED)
    for _ in range(PROGRAMS):
        header = draw.randbytes(HEADER)
        actions = [draw.randbytes(ACTION) for _ in range(draw.randrange(4, 32))]
        program = assemble(header, actions)
        outcome = settled(waiting_for(program, engine.play(program)))
        if outcome is not None:
            programs.append((header, actions, program.digest, outcome))
    path = write(Recording(kernel, platform.uname().release, cases, programs))
    print(f"{path}: Linux {platform.uname().release}, {len(cases)} cases, {len(programs)} programs")  # noqa: T201
    print(f"not the same every time: {', '.join(unsteady) or 'none'}; {PROGRAMS - len(programs)} programs")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(_main())
