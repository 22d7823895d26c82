"""Which ways of a design a test takes: not every test every way, but a suite every way of every design.

A way is a driver and a wait mode, or what else a suite varies. All ways of all designs in each test of a suite would be
thousands of tests that differ in nothing: a fault in one way of a design shows in most tests that take that way. So the
tests of a suite take turns. The first test takes the first way of the first design, the second way of the second one,
and so on; the next test begins one way further. Which ways a test takes depends on its place in the file alone, and
each test's id says them. ``tests/test_ways.py`` has the table. With EVERY_WAY=1 in the environment, a test takes all;
WAYS_START=N begins N shares further.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytest

EVERY_WAY = os.environ.get("EVERY_WAY", "0") not in ("", "0")
START = int(os.environ.get("WAYS_START", "0"))
DRIVERS = ("inline", "enter", "sqpoll")
WAITS = ("sleep", "spin")

Case = tuple[Any, ...]
Test = TypeVar("Test", bound=Callable[..., object])


def crossed(first: Sequence[Any], second: Sequence[Any]) -> list[Case]:
    """All pairs, in an order in which neighbours differ in both members."""
    return [
        (one, second[(place + shift) % len(second)]) for shift in range(len(second)) for place, one in enumerate(first)
    ]


def dealt(subjects: Iterable[Case], others: Sequence[Any]) -> list[Case]:
    """Each subject with one of the others, in turn, and each lap from another one; with EVERY_WAY with each of them."""
    found: list[Case] = []
    for place, subject in enumerate(subjects):
        other = others[(START + place + place // len(others)) % len(others)]
        found += [(*subject, one) for one in (others if EVERY_WAY else (other,))]
    return found


WAYS = crossed(DRIVERS, WAITS)


def name_of(one: object) -> str:
    return one.__name__ if isinstance(one, type) else str(one)


class Rotation:
    """The cases of a suite. As a decorator it gives a test its share of them.

    *arguments* and *indirect*: the test's parameters, as `pytest.mark.parametrize` has them. *cases*: all of them. The
    first *of* members of a case are its subject, such as the design, or design and client; the others are the way.
    *each*: how many ways of each subject a test takes. *start*: the way with which the first test begins.
    """

    def __init__(
        self, arguments: str, cases: Iterable[Case], *, each: int, of: int = 1, start: int = 0, indirect: Any = False
    ) -> None:
        self.arguments = arguments
        self.each = each
        self.of = of
        self.start = start
        self.indirect = indirect
        self.tests: list[str] = []
        self.ways: dict[Case, list[Case]] = {}
        for case in cases:
            self.ways.setdefault(tuple(case[:of]), []).append(tuple(case[of:]))

    def add(self, test: str) -> None:
        """Give the test of this name its place."""
        assert test not in self.tests, f"two tests have the name {test}"
        self.tests.append(test)

    def all(self) -> list[Case]:
        """The cases, all of them."""
        return [(*subject, *way) for subject, ways in self.ways.items() for way in ways]

    def share(self, test: str) -> list[Case]:
        """The cases of one test."""
        found: list[Case] = []
        place = START + self.start + self.tests.index(test)
        for number, (subject, ways) in enumerate(self.ways.items()):
            first = (place + number) * self.each
            taken = {(first + n) % len(ways) for n in range(self.each)}
            found += [(*subject, *way) for n, way in enumerate(ways) if n in taken]
        return found

    def cases(self, test: str) -> list[Case]:
        """The cases that the test takes now: its share, or with EVERY_WAY all."""
        return self.all() if EVERY_WAY else self.share(test)

    def __call__(self, test: Test) -> Test:
        self.add(test.__name__)
        cases = self.cases(test.__name__)
        ids = ["-".join(map(name_of, case)) for case in cases]
        decorated: Test = pytest.mark.parametrize(self.arguments, cases, ids=ids, indirect=self.indirect)(test)
        return decorated
