"""Each suite has every design of the registry, in every way; and nobody writes a list of designs by hand."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import ways
from tests.registered import one_of_each_kind, registered
from tests.ways import DRIVERS, WAITS, Case, Rotation, crossed, dealt
from uring_iopf.core import Driver
from uring_iopf.designs import names, resolve
from uring_iopf.designs.channel import Wait

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS: Final = Path(__file__).resolve().parent
PACKAGE: Final = TESTS.parent / "uring_iopf"


def rotations() -> Iterator[tuple[str, Rotation]]:
    """Every rotation of every test module, at its top or in a class there."""
    for path in sorted(TESTS.glob("test_*.py")):
        if path == Path(__file__).resolve() or "Rotation(" not in path.read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(f"tests.{path.stem}")
        holders: list[ModuleType | type] = [module]
        holders += [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
        for holder in holders:
            for name, one in vars(holder).items():
                if isinstance(one, Rotation):
                    yield f"{path.stem}: {holder.__name__.rpartition('.')[2]}.{name}", one


ROTATIONS: Final = dict(rotations())
every_rotation = pytest.mark.parametrize("rotation", ROTATIONS.values(), ids=ROTATIONS)

ROOM: Final = 100
LEFT_OUT: Final = {"test_standstill": [design for design in names() if (resolve(design).most_faults or ROOM) < ROOM]}
"""Designs that a suite leaves out: those without room for the hundred faults of its tests."""


def test_the_suites_with_a_share_of_the_ways_are_found() -> None:
    files = {name.partition(":")[0] for name in ROTATIONS}
    assert {"test_clients", "test_standstill", "test_trio_client", "test_trio_looks", "test_trio_tasks"} <= files
    assert len([name for name in ROTATIONS if name.startswith("test_clients: ")]) == 5, "one for each client"


@every_rotation
def test_each_design_is_tested_in_each_of_its_ways(rotation: Rotation) -> None:
    """The table: how many tests of the suite take a design in a way, whatever else they vary."""
    table = Counter(dict.fromkeys(((case[0], *case[rotation.of :]) for case in rotation.all()), 0))
    assert len(table) == sum(
        len(ways) for ways in {subject[0]: ways for subject, ways in rotation.ways.items()}.values()
    )
    for test in rotation.tests:
        table.update((case[0], *case[rotation.of :]) for case in rotation.share(test))
    assert [pair for pair, tests in table.items() if not tests] == []


@every_rotation
def test_each_test_takes_each_design(rotation: Rotation) -> None:
    assert rotation.tests
    for test in rotation.tests:
        assert {case[: rotation.of] for case in rotation.share(test)} == rotation.ways.keys(), test


@every_rotation
def test_a_test_takes_a_share_and_not_all_ways(rotation: Rotation) -> None:
    """Else a plain `pytest.mark.parametrize` says more."""
    for test in rotation.tests:
        assert len(rotation.share(test)) < len(rotation.all())


@pytest.mark.parametrize("name", ROTATIONS)
def test_a_suite_has_each_registered_design_that_has_a_client(name: str) -> None:
    """And each of these in the same ways."""
    left_out = LEFT_OUT.get(name.partition(":")[0], [])
    in_c = {subject: ways for subject, ways in ROTATIONS[name].ways.items() if isinstance(subject[0], str)}
    assert list(dict.fromkeys(design for design, *_ in in_c)) == [
        design for design in registered(has_client=True) if design not in left_out
    ]
    assert all(ways == next(iter(in_c.values())) for ways in in_c.values())


def test_drivers_and_waits_are_the_library_s() -> None:
    assert sorted(DRIVERS) == sorted(driver.name.lower() for driver in Driver)
    assert sorted(WAITS) == sorted(wait.name.lower() for wait in Wait)


# ---- the registry ----


def test_designs_are_found_by_their_facts() -> None:
    assert registered() == names()
    assert [*registered(has_client=False), *registered(has_client=True)] == sorted(
        names(), key=lambda name: resolve(name).has_client
    )
    with pytest.raises(AssertionError, match="no design with"):
        registered(has_client=False, has_ring=True)
    with pytest.raises(AttributeError):
        registered(has_wings=True)


def test_a_kind_has_one_design_that_stands_for_it() -> None:
    chosen = one_of_each_kind()
    assert {"handler", "fd", "uring-multishot"} <= set(chosen)
    assert len(chosen) < len(names())


NAMES: Final = frozenset(names())
MOST_BY_HAND: Final = 3
TABLES: Final = {"costs_alone.py": 1, "test_parts.py": 1, "test_queue_limits.py": 1, "test_virtual.py": 1}
"""How many tables of designs a file has: what is said beforehand of each. A test asks each design for its row."""


def designs_in(node: ast.AST) -> set[str]:
    """The designs that a list, tuple, set or dict names, or the tuples in it."""
    parts: list[ast.expr | None] = []
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        parts = [*node.elts]
    elif isinstance(node, ast.Dict):
        parts = [*node.keys]
    flat = chain.from_iterable(part.elts if isinstance(part, ast.Tuple) else (part,) for part in parts if part)
    return {str(one.value) for one in flat if isinstance(one, ast.Constant)} & NAMES


def test_no_list_of_designs_is_written_by_hand() -> None:
    """A design that is added would not be in it."""
    found = Counter[str]()
    for path in chain(TESTS.rglob("*.py"), PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if sum(f'"{name}"' in text for name in NAMES) <= MOST_BY_HAND:
            continue
        for node in ast.walk(ast.parse(text)):
            if len(designs_in(node)) > MOST_BY_HAND:
                found[path.name] += 1
    assert found == TABLES


@pytest.mark.parametrize(
    ("source", "most"),
    [
        ('("fd", "region", "eventfd", "handler")', 4),
        ('[("fd", "enter"), ("fd", "sqpoll"), ("region", "enter")]', 2),
        ('{"fd": 1, "uring-cmd": 2}', 2),
        ('("pipe", "eventfd", 5, None, -1)', 1),
        ("{**{}}", 0),
    ],
)
def test_a_list_by_hand_is_seen(source: str, most: int) -> None:
    assert len(designs_in(ast.parse(source, mode="eval").body)) == most


# ---- the rotation ----


@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 7), st.integers(1, 4), st.integers(0, 20))
def test_tests_take_turns(tests: int, designs: int, ways_each: int, each: int, start: int) -> None:
    cases = [(design, way) for design in range(designs) for way in range(ways_each)]
    rotation = Rotation("case", cases, each=each, start=start)
    for test in range(tests):
        rotation.add(str(test))
    table = Counter[Case]()
    for test in range(tests):
        share = rotation.share(str(test))
        assert Counter(design for design, _ in share) == dict.fromkeys(range(designs), min(each, ways_each))
        assert share == sorted(set(share))
        table.update(share)
    for design in range(designs):
        counts = [table[design, way] for way in range(ways_each)]
        if tests * each >= ways_each:
            assert min(counts) >= 1
        if ways_each % each == 0:
            assert max(counts) - min(counts) <= 1, "no way is tested more often than another"


@given(st.integers(1, 4), st.integers(1, 4))
def test_neighbours_differ_in_both_members(first: int, second: int) -> None:
    pairs = crossed(range(first), range(second))
    assert sorted(pairs) == [(a, b) for a in range(first) for b in range(second)]
    for turn in range(second):
        row = pairs[turn * first : (turn + 1) * first]
        assert [a for a, _ in row] == list(range(first))
        assert all(b != c or second == 1 for (_, b), (_, c) in pairwise(row))


def test_others_are_dealt_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    monkeypatch.setattr(ways, "START", 0)
    monkeypatch.setattr(ways, "EVERY_WAY", False)
    assert dealt(subjects, "xy") == [("a", 1, "x"), ("a", 2, "y"), ("b", 1, "y"), ("b", 2, "x")]
    assert [other for *_, other in dealt(subjects * 3, "xyz")] == list("xyzyzxzxyxyz")
    monkeypatch.setattr(ways, "EVERY_WAY", True)
    assert dealt(subjects, "xyz") == [(*subject, one) for subject in subjects for one in "xyz"]


def test_every_way_is_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = Rotation("case", [("a", 1), ("a", 2), ("b", 1)], each=1)
    rotation.add("x")
    monkeypatch.setattr(ways, "START", 0)
    monkeypatch.setattr(ways, "EVERY_WAY", False)
    assert rotation.cases("x") == [("a", 1), ("b", 1)]
    monkeypatch.setattr(ways, "EVERY_WAY", True)
    assert rotation.cases("x") == [("a", 1), ("a", 2), ("b", 1)]


def test_a_start_moves_all_shares_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = Rotation("case", [(design, way) for design in "ab" for way in range(3)], each=1)
    rotation.add("x")
    monkeypatch.setattr(ways, "EVERY_WAY", False)
    seen = []
    for start in range(3):
        monkeypatch.setattr(ways, "START", start)
        seen += rotation.share("x")
        assert dealt([("a",), ("b",)], "xyz") == [("a", "xyz"[start]), ("b", "yzx"[start])]
    assert seen == [("a", 0), ("b", 1), ("a", 1), ("b", 2), ("a", 2), ("b", 0)]


@pytest.mark.parametrize("said", [{}, {"EVERY_WAY": "0"}, {"EVERY_WAY": "1"}, {"WAYS_START": "7"}], ids=str)
def test_the_environment_says_which_ways(said: dict[str, str]) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ("EVERY_WAY", "WAYS_START")}
    done = subprocess.run(
        [sys.executable, "-c", "from tests.ways import EVERY_WAY, START; print(EVERY_WAY, START)"],
        cwd=TESTS.parent, env=plain | said, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == [str(said.get("EVERY_WAY") == "1"), said.get("WAYS_START", "0")]
