"""`python -m tests.rings.excused SEED PROGRAMS`: play programs, and keep some of those that differ by what is known.

What is kept shows each excuse of `tests.rings.known` by outcomes that were seen. The tests change them, to see that
an excuse hides nothing else.
"""

from __future__ import annotations

import collections
import gzip
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

from tests.rings.bulk import SPAN, Bytes, Excused, Judge, play
from tests.rings.generate import ACTION
from tests.rings.language import waiting_for
from tests.rings.recorded import PLACE

if TYPE_CHECKING:
    from tests.rings.language import Program, Seen

FILE: Final = PLACE / "excused.json.gz"
MOST: Final = 6
"""Of one excuse."""


@dataclass(frozen=True)
class Example:
    """A program that was excused, and what two kernels made of it."""

    id: str
    header: bytes
    actions: bytes
    expected: list[Seen]
    got: list[Seen]

    def program(self) -> Program:
        actions = [self.actions[at : at + ACTION] for at in range(0, len(self.actions), ACTION)]
        return waiting_for(Bytes(self.header, actions).program(), self.got)


def read() -> list[Example]:
    if not FILE.exists():
        return []
    document: dict[str, list[Any]] = json.loads(gzip.decompress(FILE.read_bytes()))
    return [
        Example(id_, bytes.fromhex(header), bytes.fromhex(actions), expected, got)
        for id_, examples in document.items()
        for header, actions, expected, got in examples
    ]


def _write(examples: list[Example]) -> None:
    document: dict[str, list[Any]] = {}
    for one in sorted(examples, key=lambda one: (one.id, len(one.actions))):
        kept = document.setdefault(one.id, [])
        row = [one.header.hex(), one.actions.hex(), one.expected, one.got]
        if len(kept) < MOST and row[:2] not in [before[:2] for before in kept]:
            kept.append(row)
    FILE.write_bytes(gzip.compress((json.dumps(document, separators=(",", ":")) + "\n").encode(), mtime=0))


def _span(seed: int, first: int) -> list[Example]:
    found: list[Example] = []

    def keep(bytes_: Bytes, excused: Excused) -> None:
        got = json.loads(json.dumps(excused.got))
        found.append(Example(excused.id, bytes_.header, b"".join(bytes_.actions), excused.expected, got))

    judge = Judge()
    for number in range(first, first + SPAN):
        difference = play(judge, seed, number, keep)
        if difference:
            print(f"\n{difference}\n", flush=True)  # noqa: T201
    judge.close()
    return found


def _main() -> int:
    seed, programs = int(sys.argv[1]), int(sys.argv[2])
    examples = read()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for first in range(0, programs, SPAN):
            examples += pool.submit(_span, seed, first).result()
            _write(examples)
    counts = collections.Counter(one.id for one in read())
    print(", ".join(f"{count} {id_}" for id_, count in sorted(counts.items())))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(_main())
