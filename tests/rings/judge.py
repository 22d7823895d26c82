"""Two outcomes of one program, and how they are shown when they differ.

`python -m tests.rings.judge [NAME...]` plays the cases whose names contain one of these on both kernels, and shows
where they differ; `--all` shows every step.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.rings.language import Program, Seen


_PLAIN: Final = re.compile(
    r"(, )?(ring='ring'|index=None|order=True|why=''|most=65536|size=0|look=(False|True)|fd=None|thread=0|arg=0|"
    r"cq_entries=0|sq_thread_\w+=[01]|wq_fd=0|resv=0|semaphore=False|min_complete=0)"
)
"""What a step says of itself that is plain."""


def shown(program: Program, expected: Sequence[Seen], got: Sequence[Seen], *, every: bool = True) -> str:
    """The program with what was seen; steps with a difference are marked."""
    lines = []
    for step, theirs, ours in zip(program.steps, expected, got, strict=True):
        text = _PLAIN.sub("", repr(step))
        text = re.sub(r"\((, )", "(", text)
        if theirs != ours:
            lines += [f"!! {text}", f"!!     expected {theirs}", f"!!     got      {ours}"]
        elif every:
            lines.append(f"   {text}" + ("" if theirs is None else f"  ->  {theirs}"))
    return "\n".join(lines)


def _main() -> int:
    from tests.rings.cases import CASES
    from tests.rings.engine import EnginePlayer
    from tests.rings.host import HostPlayer, version

    parser = argparse.ArgumentParser(prog="python -m tests.rings.judge", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--all", action="store_true")
    asked = parser.parse_args()
    host, engine = HostPlayer(), EnginePlayer(version())
    differ = played = 0
    for case in CASES:
        if "register arguments" in case.needs or (asked.names and not any(name in case.name for name in asked.names)):
            continue
        played += 1
        expected, got = host.play(case.program), engine.play(case.program)
        if expected != got:
            differ += 1
        if expected != got or asked.all:
            print(f"## {case.name}: {case.shows}\n\n{shown(case.program, expected, got)}\n")  # noqa: T201
    print(f"{played} cases, {differ} differ")  # noqa: T201
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(_main())
