"""Draw the life of a fault group from the table in ``cdefs/faults/iopf.h``: ``python docs/life_of_a_group.py``.

Prints the part of ``docs/explanation/path.md`` between the two comments that name this file; a test holds that page to
it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
HEADER: Final = ROOT / "cdefs" / "faults" / "iopf.h"
BEGIN: Final = "<!-- drawn by docs/life_of_a_group.py -->"
END: Final = "<!-- end of what docs/life_of_a_group.py draws -->"
OUTSIDE: Final = "-"
"""The state of what is no group yet."""


class Way(NamedTuple):
    """One way out of a state."""

    state: str
    event: str
    next: str
    done: str


def ways(header: str) -> list[Way]:
    """The rows of the table in the header's first comment, without its headings."""
    comment = header[: header.index("*/")]
    rows = [line.lstrip(" *").split("|") for line in comment.splitlines() if line.count("|") == 3]
    return [Way(*(cell.strip() for cell in row)) for row in rows[1:]]


def drawn(rows: list[Way]) -> str:
    """A state diagram, and the table with what each event does."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for way in rows:
        arrows.setdefault((way.state, way.next), []).append(way.event.replace(",", ""))
    lines = [BEGIN, "", "```mermaid", "stateDiagram-v2"]
    for (state, after), events in arrows.items():
        lines.append(f"    {'[*]' if state == OUTSIDE else state} --> {after} : {'<br>'.join(events)}")
    lines += [f"    {end} --> [*]" for end in ends(rows)]
    lines += ["```", "", "| state | event | next | what is done |", "| --- | --- | --- | --- |"]
    lines += [f"| {'no group yet' if way.state == OUTSIDE else way.state} | {way.event} | {way.next} | {way.done} |"
              for way in rows]  # fmt: skip
    return "\n".join([*lines, "", END])


def ends(rows: list[Way]) -> list[str]:
    """The states that nothing leads on from, in the order of the table."""
    states = {way.state for way in rows}
    return list(dict.fromkeys(way.next for way in rows if way.next not in states))


if __name__ == "__main__":
    print(drawn(ways(HEADER.read_text(encoding="utf-8"))))  # noqa: T201  that is what it is for
