"""Imports run downwards only: rows of rooms, no circle of modules or of folders, and no arrow that runs up.

Every import is read from the source, wherever in a module it stands: at the top, in a function, and under
``TYPE_CHECKING``. A type that is named is a dependency as well: a reader has to know it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PACKAGE: Final = Path(__file__).resolve().parent.parent / "uring_iopf"
ROOT: Final = PACKAGE.name

ROWS: Final[Mapping[str, tuple[set[str], ...]]] = {
    "": (
        {"_core", "errors"},
        {"abi", "costs"},
        {"_native"},
        {"handles"},
        {"core", "workloads"},
        {"hardware", "rings"},
        {"iommufd"},
        {"designs"},
        {"clients"},
        {"machine_parts"},
        {"machine_function"},
        {"machine_stages"},
        {"machine"},
        {"lab", "server"},
        {"reports", "testing"},
        {"conformance"},
        {"commands"},
        {"__main__"},
    ),
    "iommufd": (
        {"client_memory", "geometry", "objects", "versions"},
        {"drivers"},
        {"queues"},
        {"spaces"},
        {"devices"},
        {"calls"},
        {"selftest", "uapi"},
        {"context"},
    ),
}
"""From the ground up, the rooms of the package, and of folders in it. A module imports from rooms below its own. Rooms
in one row stand beside each other: none imports another."""


class Arrow(NamedTuple):
    """One import: a module of ours, the line, and the module of ours that it names."""

    source: str
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.source} (line {self.line}) -> {self.target}"


class Imports(ast.NodeVisitor):
    """Every import of one module: its line, and the dotted names that it asks for."""

    def __init__(self, text: str, package: list[str], *, type_checking: bool = True) -> None:
        self.found: list[tuple[int, str]] = []
        self._package = package
        self._type_checking = type_checking
        self.visit(ast.parse(text))

    def visit_If(self, node: ast.If) -> None:
        if not self._type_checking and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [(node.lineno, alias.name) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = self._package[: len(self._package) + 1 - node.level] if node.level else []
        source = [*above, *([node.module] if node.module else [])]
        self.found += [(node.lineno, ".".join([*source, alias.name])) for alias in node.names]


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name without the package's; a folder's face by the folder's name."""
    found = {".".join(path.relative_to(package).with_suffix("").parts): path for path in package.rglob("*.py")}
    return {"" if name == "__init__" else name.removesuffix(".__init__"): path for name, path in found.items()}


def imports(package: Path, path: Path, *, type_checking: bool = True) -> list[tuple[int, str]]:
    above = [package.name, *path.relative_to(package).parent.parts]
    return Imports(path.read_text(encoding="utf-8"), above, type_checking=type_checking).found


def arrows(package: Path) -> list[Arrow]:
    """Every import of one module of ours by another; the longest name that is a module is the one that is meant."""
    known = {*modules(package), *(path.stem for path in package.glob("*.pyi"))}
    found = set()
    for source, path in modules(package).items():
        for line, name in imports(package, path):
            first, *parts = name.split(".")
            if first != package.name:
                continue
            while parts and ".".join(parts) not in known:
                parts.pop()
            found.add(Arrow(source, line, ".".join(parts)))
    return sorted(found)


def faces(package: Path) -> set[str]:
    """The folders whose ``__init__.py`` hands names on."""
    return {name for name, path in modules(package).items() if path.name == "__init__.py"}


def between_rooms(of: Iterable[Arrow], folder: str, faces: set[str]) -> dict[tuple[str, str], list[Arrow]]:
    """The arrows from room to room of a folder. A room is a module, or a folder with all that is in it.

    A folder's face is no room of it: it hands on what the rooms have. What imports it from within stands with the
    arrows into ``""``.
    """

    def room(module: str) -> str | None:
        inside = module.split(".")[folder.count(".") + 1 if folder else 0 :]
        if module == folder:
            return ""
        return inside[0] if module.startswith(f"{folder}." if folder else "") else None

    found: dict[tuple[str, str], list[Arrow]] = defaultdict(list)
    for arrow in of:
        source, target = room(arrow.source), room(arrow.target)
        if source and target is not None and source != target and (target or folder in faces):
            found[source, target].append(arrow)
    return found


def circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The strongly connected components with more than one node (Tarjan 1972), each sorted."""
    follow: dict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        follow[source].append(target)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in follow[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in list(follow):
        if node not in index:
            visit(node)
    return found


def circles_in(package: Path) -> Iterator[str]:
    """Every circle, of the rooms of each folder and so of all modules, with the arrows that close it."""
    all_arrows, all_faces = arrows(package), faces(package)
    for folder in sorted(all_faces):
        edges = between_rooms(all_arrows, folder, all_faces)
        for circle in circles(edges):
            closing = [arrow for pair, some in edges.items() if set(pair) <= set(circle) for arrow in some]
            yield f"in {folder or package.name}: {', '.join(circle)}: " + "; ".join(map(str, sorted(closing)))


def upward_in(package: Path, rows: Mapping[str, tuple[set[str], ...]]) -> Iterator[str]:
    """Every arrow that does not run into a lower row, and every import of a folder's face from within it."""
    all_arrows, all_faces = arrows(package), faces(package)
    for folder in sorted(all_faces):
        floors = {room: floor for floor, rooms in enumerate(rows.get(folder, ())) for room in rooms}
        for (source, target), some in between_rooms(all_arrows, folder, all_faces).items():
            if target == "":
                yield from (f"a face from within: {arrow}" for arrow in some)
            elif floors and floors[target] >= floors[source]:
                yield from (f"up, or along a row: {arrow}" for arrow in some)


# ---- the package ----


def test_every_module_has_a_room() -> None:
    for folder, rows in ROWS.items():
        inside = [name.removeprefix(f"{folder}." if folder else "") for name in modules(PACKAGE) if name != folder]
        here = {
            name.split(".")[0]
            for name, whole in zip(inside, [n for n in modules(PACKAGE) if n != folder], strict=True)
            if whole.startswith(f"{folder}." if folder else "")
        }
        assert here == set().union(*rows) - {"_core"}, folder


def test_no_circle() -> None:
    assert list(circles_in(PACKAGE)) == []


def test_no_import_runs_upwards() -> None:
    assert list(upward_in(PACKAGE, ROWS)) == []


def test_contributing_has_the_same_rows() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    fence = text.partition("Imports run downwards only")[2].split("```")[1]
    said = [set(line.split(", ")) for line in fence.split("\n") if line]
    assert said == [shown for rooms in reversed(ROWS[""]) if (shown := rooms - {"__main__", "_core"})]
    places = text.partition("## Where things are")[2].partition("Imports run")[0]
    missing = {room for rooms in ROWS[""] for room in rooms if f"uring_iopf/{room}" not in places}
    assert missing <= {"__main__", "_core", "abi", "errors"}, "a room without a row in the table of places"


def test_the_core_is_given_time_and_waiting() -> None:
    """Below the designs nothing sleeps, waits or looks at a clock by itself."""
    floors = {room: floor for floor, rooms in enumerate(ROWS[""]) for room in rooms}
    for name, path in modules(PACKAGE).items():
        if name and floors[name.split(".")[0]] < floors["designs"]:
            used = {imported.split(".")[0] for _, imported in imports(PACKAGE, path, type_checking=False)}
            assert not used & {"time", "trio", "threading"}, name


# ---- the reader itself ----


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small package: ``top`` uses ``low.a``, which uses ``low.b``."""
    package = tmp_path / "house"
    (package / "low").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "low" / "__init__.py").write_text("from house.low.a import A")
    (package / "low" / "a.py").write_text("from house.low.b import B")
    (package / "low" / "b.py").write_text("")
    (package / "top.py").write_text("from house.low import A")
    return package


HOUSE_ROWS: Final = {"": ({"low"}, {"top"})}


def test_a_clean_house_is_clean(house: Path) -> None:
    assert list(circles_in(house)) == []
    assert list(upward_in(house, HOUSE_ROWS)) == []


@pytest.mark.parametrize(
    "text",
    [
        "from house.low.a import A",
        "import house.low.a",
        "from house.low import a",
        "from .a import A",
        "from . import a",
        "def f() -> None:\n    from house.low.a import A",
        "if TYPE_CHECKING:\n    from house.low.a import A",
    ],
)
def test_a_circle_is_named_with_its_arrows(house: Path, text: str) -> None:
    (house / "low" / "b.py").write_text(text)
    (found,) = circles_in(house)
    line = 1 + text.count("\n")
    assert found == f"in low: a, b: low.a (line 1) -> low.b; low.b (line {line}) -> low.a"


def test_a_circle_of_folders_is_one_even_without_a_circle_of_modules(house: Path) -> None:
    (house / "low" / "b.py").write_text("import house.side.one")
    (house / "side").mkdir()
    (house / "side" / "__init__.py").write_text("")
    (house / "side" / "one.py").write_text("")
    (house / "side" / "two.py").write_text("import house.low.a")
    assert list(circles_in(house)) == [
        "in house: low, side: low.b (line 1) -> side.one; side.two (line 1) -> low.a",
    ]


def test_an_arrow_that_runs_up_is_named(house: Path) -> None:
    (house / "top.py").write_text("")
    (house / "low" / "b.py").write_text("\nimport house.top")
    assert list(upward_in(house, HOUSE_ROWS)) == ["up, or along a row: low.b (line 2) -> top"]


def test_a_face_that_is_imported_from_within_is_named(house: Path) -> None:
    (house / "low" / "b.py").write_text("from house.low import A")
    assert list(upward_in(house, HOUSE_ROWS)) == ["a face from within: low.b (line 1) -> low"]
