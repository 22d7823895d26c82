"""Differences that are excused: each excuse is shown by outcomes that were seen, and hides no others."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.rings import known
from tests.rings.excused import Example, read
from tests.rings.judge import shown
from tests.rings.language import (
    Drain,
    Enter,
    Fd,
    Fill,
    Look,
    Program,
    Read,
    Reap,
    Register,
    Seen,
    Setup,
    Sqe,
    Step,
    Told,
    Wait,
    Word,
    Write,
)
from uring_iopf.abi import Op, SetupFlags, SqeFlags, SqFlags

EXAMPLES: Final = read()
EIO: Final = -5
"""What no request here ends with."""
ENOENT, ENOTSOCK = -2, -88
"""What some requests end with: those that look for others, and those on a socket."""
UNUSED: Final = 0x4000
READ_OR_WRITE: Final = frozenset(
    {
        *(Op.READ, Op.READV, Op.READ_FIXED, Op.READV_FIXED, Op.READ_MULTISHOT, Op.RECV),
        *(Op.WRITE, Op.WRITEV, Op.WRITE_FIXED, Op.WRITEV_FIXED, Op.SEND),
    }
)
MORE, NONEMPTY, SKIP = 2, 4, 32
NOBODY: Final = 987654
"""Of no request's user_data."""
MEMORY_OF_NOBODY: Final = 36 * 4096
"""Neither a page that requests read into, nor a provided buffer."""
FAR: Final = 1 << 20
"""More than any request here moves, counts or hands out."""


def _name(example: Example) -> str:
    return f"{example.id}-{example.header.hex()}"


def _completions(program: Program, outcome: list[Seen]) -> dict[tuple[str, int], list[Seen]]:
    found: dict[tuple[str, int], list[Seen]] = {}
    for step, seen in zip(program.steps, outcome, strict=True):
        if isinstance(step, Reap):
            for cqe in seen:
                if isinstance(cqe, list):
                    found.setdefault((step.ring, cqe[0]), []).append(cqe[1:])
    return found


def _changed(example: Example) -> Iterator[tuple[str, list[Seen]]]:
    """The engine's outcome with one thing in it that nothing excuses; and what that is."""
    program = example.program()
    judged = _Judged(example)
    for n, step in enumerate(program.steps):
        for what, place, *seen in judged.others(n, step):
            got = (
                [*example.got[:n], *seen, *example.got[n + 1 :]]
                if place is None
                else _with(example.got, n, place, *seen)
            )
            if got[n] not in (example.expected[n], example.got[n]):
                yield f"step {n}, {step}: {what}", got


Other = tuple[Any, ...]
"""What is other, the place in what was seen (None: all of it), and what is there instead."""


class _Judged:
    """What each step of a program could not have shown, for the reason that its outcome is excused by."""

    def __init__(self, example: Example) -> None:
        self.program, self.got, self.expected = example.program(), example.got, example.expected
        self.theirs, self.ours = (_completions(self.program, one) for one in (example.expected, example.got))
        self.alone = _alone(self.program)
        self.sqes = {(one.ring, _of(one, "user_data")): one for one in self.program.steps if isinstance(one, Sqe)}
        self.setups = {one.ring: one for one in self.program.steps if isinstance(one, Setup)}

    def others(self, n: int, step: Step) -> Iterator[Other]:
        seen = self.got[n]
        if isinstance(step, Reap):
            yield from self._reap(step, seen)
        elif isinstance(step, Enter) and isinstance(seen, list):
            yield from self._enter(n, step, seen)
        elif isinstance(step, Wait):
            yield "one more", None, seen + 1
            yield "one less", None, seen - 1
        elif isinstance(step, Told) and isinstance(seen, bool):
            yield from self._told(n, step, seen)
        elif isinstance(step, Look):
            yield from self._look(seen)
        elif isinstance(step, Read) and isinstance(seen, str) and seen:
            yield "the last byte is another", None, seen[:-2] + "ee"
            yield "there is another byte", None, seen + "ee"
        elif isinstance(step, Read | Write | Drain | Fill) and isinstance(seen, int):
            yield "another errno", None, EIO
            yield "more", None, abs(seen) + FAR
        elif isinstance(step, Register):
            if isinstance(seen, int):
                yield "another errno", None, EIO
                yield "more", None, abs(seen) + FAR
            elif isinstance(seen, list):
                yield "another errno", 0, EIO
                yield "other memory", 1, seen[1][:-2] + "ee"
        elif isinstance(step, Word) and isinstance(seen, int):
            yield "another bit", None, seen ^ 0x40000000

    def _reap(self, step: Reap, seen: list[Seen]) -> Iterator[Other]:
        cqes = [(place, cqe) for place, cqe in enumerate(seen) if isinstance(cqe, list)]
        for place, cqe in cqes:
            key = (step.ring, cqe[0])
            for res in (EIO, cqe[1] + FAR):
                yield f"{cqe} ends with {res}", place, [cqe[0], res, *cqe[2:]]
            if key in self.theirs:  # otherwise nobody says how it ends
                res = ENOENT if self._moves_or_polls(key) else ENOTSOCK
                yield f"{cqe} ends with another errno", place, [cqe[0], res, *cqe[2:]]
            for flags in (UNUSED, *self._of_no_use(key, cqe)):
                yield f"{cqe} has flags of no use", place, [*cqe[:2], cqe[2] ^ flags, *cqe[3:]]
            if key in self.alone and self.theirs.get(key) == self.ours[key]:
                yield f"{cqe} is lost", place
                yield f"{cqe} comes twice", place, cqe, cqe
        yield "one of no request", len(seen), [NOBODY, 0, 0]
        for (place, one), (_, other) in pairwise(cqes):
            if step.order and {(step.ring, one[0]), (step.ring, other[0])} <= self.alone and one[0] != other[0]:
                yield f"{one} comes behind {other}", slice(place, place + 2), other, one

    def _moves_or_polls(self, key: tuple[str, int]) -> bool:
        sqe = self.sqes.get(key)
        return sqe is not None and (sqe.opcode == Op.POLL_ADD or sqe.opcode in READ_OR_WRITE)

    def _of_no_use(self, key: tuple[str, int], cqe: list[int]) -> Iterator[int]:
        """Flags that no CQE of such a request has, whatever becomes of it."""
        sqe = self.sqes.get(key)
        if sqe is None or key not in self.theirs or cqe[2] & SKIP:
            return
        multishot = sqe.opcode in (Op.READ_MULTISHOT, Op.TIMEOUT) or (
            _of(sqe, "len") & 1 if sqe.opcode in (Op.POLL_ADD, Op.POLL_REMOVE) else _of(sqe, "ioprio") & 2
        )
        if not multishot:
            yield MORE
        if sqe.opcode != Op.RECV:
            yield NONEMPTY
        if not _of(sqe, "flags") & SqeFlags.BUFFER_SELECT:
            yield 1 << 16 | 1

    def _enter(self, n: int, step: Enter, seen: list[int]) -> Iterator[Other]:
        yield "another errno", 0, EIO
        if len(seen) > 1:
            yield "another head", 1, seen[1] + 1
        if len(seen) > 2:
            setup = self.setups[step.ring]
            if not setup.flags & SetupFlags.TASKRUN_FLAG:
                yield "the flag of task work", 2, seen[2] ^ SqFlags.TASKRUN
            if not seen[2] & SqFlags.CQ_OVERFLOW and self._taken_next(n, step.ring) < setup.entries:
                yield "the flag of an overflow", 2, seen[2] ^ SqFlags.CQ_OVERFLOW

    def _taken_next(self, n: int, ring: str) -> int:
        """How many completions are taken next; a CQ that keeps others back is full."""
        reaps = (m for m in range(n, len(self.got)) if isinstance(self.program.steps[m], Reap))
        m = next((m for m in reaps if self.program.steps[m].ring == ring), None)  # type: ignore[union-attr]
        step = None if m is None else self.program.steps[m]
        return len(self.got[m]) if m and isinstance(step, Reap) and step.most == 1 << 16 else FAR

    def _told(self, n: int, step: Told, seen: bool) -> Iterator[Other]:
        """Not where requests are on it, nor where the ring has completed another number until it was looked at."""
        counts = [
            [len(outcome[m]) for m, one in enumerate(self.program.steps) if isinstance(one, Reap)]
            for outcome in (self.expected, self.got)
        ]
        if (
            self.expected[n] == seen
            and counts[0] == counts[1]
            and not any(("fd", Fd(step.file)) in sqe.fields for sqe in self.sqes.values())
        ):
            yield "the opposite", None, not seen

    @staticmethod
    def _look(seen: Seen) -> Iterator[Other]:
        """Where no request puts anything: in what is written from, and between the places that are read into."""
        if not isinstance(seen, list) or not all(isinstance(one, list) for one in seen):
            return
        yield "memory of nobody", len(seen), [MEMORY_OF_NOBODY, "01234567"]
        for place, (at, _) in enumerate(seen):
            if at == 0:
                yield "what is written from", place, [at, "01234567"]


def _of(sqe: Sqe, name: str) -> int:
    value = dict(sqe.fields).get(name, 0)
    return value if isinstance(value, int) else 0


def _alone(program: Program) -> set[tuple[str, int]]:
    """NOPs that are in no chain, behind no drain, and in no overflow: whatever becomes of others, they end."""
    sqes = [step for step in program.steps if isinstance(step, Sqe)]
    flags = [_of(sqe, "flags") for sqe in sqes]
    if any(some & (SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK | SqeFlags.IO_DRAIN) for some in flags):
        return set()
    return {(sqe.ring, _of(sqe, "user_data")) for sqe in sqes if sqe.opcode == Op.NOP}


def _with(outcome: list[Seen], step: int, place: int | slice, *what: Seen) -> list[Seen]:
    """The outcome, with something else, or with nothing, in a place of what was seen at a step."""
    changed = list(outcome)
    changed[step] = copy.copy(changed[step])
    changed[step][place if isinstance(place, slice) else slice(place, place + 1)] = what
    return changed


def test_each_excuse_is_shown() -> None:
    seen = {example.id for example in EXAMPLES} | set(known.CASES.values())
    assert {*known.REQUESTS, known.ORDER, known.HALF} <= seen
    assert {known.ORDER, known.HALF} <= {example.id for example in EXAMPLES}  # outcomes as a whole, not requests


@pytest.mark.parametrize("example", EXAMPLES, ids=_name)
def test_what_was_seen_is_excused(example: Example) -> None:
    program = example.program()
    assert known.explanation(program, example.expected, example.got) == example.id, shown(
        program, example.expected, example.got
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=_name)
def test_nothing_else_is_excused_beside_it(example: Example) -> None:
    program = example.program()
    hidden = [what for what, got in _changed(example) if known.explanation(program, example.expected, got)]
    assert not hidden
