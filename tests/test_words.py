"""The texts of the package: docstrings, help and errors begin with the thing that they are about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
MODULES: Final = sorted((ROOT / "uring_iopf").rglob("*.py"))
CLAUSE: Final = re.compile(r"(?:^|[.:;]\s+)(?:who|what|whoever|whatever)\b", re.IGNORECASE | re.MULTILINE)
"""A sentence, or the part of one after a colon, that begins with a clause in place of a noun."""
SHOWN: Final = {"add_argument", "add_parser", "add", "ArgumentParser", "listed", "broken", "warn"}
"""Calls whose texts a user reads, besides those that make an error."""


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The text of each string below a node; formatted values in it are an ellipsis."""
    for one in ast.walk(node):
        if isinstance(one, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in one.values]
            yield one.lineno, "".join(map(str, parts))
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.lineno, one.value


def shown(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The texts of errors, warnings and help."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in SHOWN or name.endswith("Error"):
                yield from texts(node)


def documented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The docstrings of a module, its classes, functions and attributes."""
    for node in ast.walk(tree):
        for one in getattr(node, "body", []) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) else []:
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str):
                yield one.lineno, one.value.value


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_sentence_begins_with_who_or_what(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [
        f"{name_of(path)}:{line}: {text[match.start() :][:60]!r}"
        for line, text in {*shown(tree), *documented(tree)}
        if (match := CLAUSE.search(text)) is not None
    ]
    assert not found, "a sentence begins with a clause in place of its subject (CONTRIBUTING.md, Words)"


def test_the_texts_are_found() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in MODULES]
    assert sum(len(list(documented(tree))) for tree in trees) > 1000
    assert sum(len(list(shown(tree))) for tree in trees) > 300


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("What it has cost so far.", True),
        ("Close it. Whoever waits is woken.", True),
        ("*size*: what is read at most.", True),
        ("The costs so far.", False),
        ("Return what C returned.", False),
    ],
)
def test_a_clause_is_recognised(text: str, bad: bool) -> None:
    assert (CLAUSE.search(text) is not None) == bad
