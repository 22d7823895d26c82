"""Differences that are excused: each excuse is shown by outcomes that were seen, and hides no others."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Final

import pytest

from tests.rings import known
from tests.rings.excused import Example, read
from tests.rings.judge import shown
from tests.rings.language import Enter, Program, Reap, Register, Seen, Sqe, Word
from uring_iopf.abi import Op, SqeFlags

EXAMPLES: Final = read()
EIO: Final = -5
"""What no request here ends with."""
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
    theirs, ours = _completions(program, example.expected), _completions(program, example.got)
    alone = _alone(program)
    for n, step in enumerate(program.steps):
        if isinstance(step, Reap):
            for place, cqe in enumerate(example.got[n]):
                if not isinstance(cqe, list):
                    continue
                for res in (EIO, cqe[1] + FAR):
                    yield f"step {n}: {cqe} ends with {res}", _with(example.got, n, place, [cqe[0], res, *cqe[2:]])
                flags = [*cqe[:2], cqe[2] | 0x4000, *cqe[3:]]
                yield f"step {n}: {cqe} has flags of no use", _with(example.got, n, place, flags)
                key = (step.ring, cqe[0])
                if key in alone and theirs.get(key) == ours[key]:
                    yield f"step {n}: {cqe} is lost", _with(example.got, n, place)
                    yield f"step {n}: {cqe} comes twice", _with(example.got, n, place, cqe, cqe)
        elif isinstance(step, Enter) and isinstance(example.got[n], list):
            yield f"step {n}: enter returns {EIO}", _with(example.got, n, 0, EIO)
        elif isinstance(step, Register) and isinstance(example.got[n], int):
            yield f"step {n}: register returns {EIO}", [*example.got[:n], EIO, *example.got[n + 1 :]]
        elif isinstance(step, Word) and isinstance(example.got[n], int):
            other = example.got[n] ^ 0x40000000
            yield f"step {n}: {step.name} is {other:#x}", [*example.got[:n], other, *example.got[n + 1 :]]


def _alone(program: Program) -> set[tuple[str, int]]:
    """NOPs that are in no chain, behind no drain, and in no overflow: whatever becomes of others, they end."""
    sqes = [step for step in program.steps if isinstance(step, Sqe)]
    flags = [int(dict(sqe.fields).get("flags", 0)) for sqe in sqes]  # type: ignore[arg-type]
    if any(some & (SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK | SqeFlags.IO_DRAIN) for some in flags):
        return set()
    return {(sqe.ring, dict(sqe.fields)["user_data"]) for sqe in sqes if sqe.opcode == Op.NOP}  # type: ignore[misc]


def _with(outcome: list[Seen], step: int, place: int, *what: Seen) -> list[Seen]:
    """The outcome, with something else, or with nothing, in a place of what was seen at a step."""
    changed = list(outcome)
    changed[step] = copy.copy(changed[step])
    changed[step][place : place + 1] = what
    return changed


def test_each_excuse_is_shown() -> None:
    seen = {example.id for example in EXAMPLES} | set(known.CASES.values())
    assert {*known.REQUESTS, known.ORDER, known.HALF} <= seen


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
