"""Differences that are known, each with its reason on the conformance page, and what runs into them.

A case or a program that runs into one is skipped by its id and counted; the counts are printed at the end of a run.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Final

from tests.rings.language import Reap, Sqe
from uring_iopf.abi import SqeFlags
from uring_iopf.testing.known_differences import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.rings.language import Program, Seen

IDS: Final = frozenset(row.id for section in SECTIONS for row in section.rows if row.id)

CASES: Final[Mapping[str, str]] = {
    "register: arguments that cannot be read": "register-arguments",
    "poll: a regular file": "regular-files",
    "multishot: a file that cannot be polled": "regular-files",
}
"""Cases that run into a known difference, by their names."""

ORDER: Final = "rings-order"

counted: collections.Counter[str] = collections.Counter()
"""How often which was run into, in this process; and how many programs were played in all."""


def explanation(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> str:
    """The id of the known difference that these two outcomes differ by; empty where there is none."""
    if _same_but_for_order(program, expected, got) and _chains_in_order(program, got):
        return ORDER
    return ""


def _same_but_for_order(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> bool:
    """Whether each step has the same completions; those of one request are in the same order."""
    for step, theirs, ours in zip(program.steps, expected, got, strict=True):
        if theirs == ours:
            continue
        if not isinstance(step, Reap) or not step.order:
            return False
        if sorted(theirs, key=_user_data) != sorted(ours, key=_user_data):
            return False
    return True


def _user_data(cqe: Sequence[int]) -> int:
    return cqe[0]


def _chains_in_order(program: Program, outcome: Sequence[Seen]) -> bool:
    """Whether members of a chain that both worked have completed one after the other."""
    seen: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
    for step, cqes in zip(program.steps, outcome, strict=True):
        if isinstance(step, Reap):
            seen[step.ring] += [(cqe[0], cqe[1]) for cqe in cqes if isinstance(cqe, list)]
    last: dict[str, int] = {}
    for step in program.steps:
        if not isinstance(step, Sqe):
            continue
        fields = dict(step.fields)
        number = int(fields["user_data"])  # type: ignore[arg-type]
        before = last.pop(step.ring, None)
        if before is not None:
            places = {cqe[0]: n for n, cqe in enumerate(seen[step.ring]) if cqe[1] >= 0}
            if before in places and number in places and places[before] > places[number]:
                return False
        if int(fields.get("flags", 0)) & (SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK):  # type: ignore[arg-type]
            last[step.ring] = number
    return True
