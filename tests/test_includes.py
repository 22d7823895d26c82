"""The C files keep to their rooms: rows of folders, rows of files in each, no circle, and no arrow that runs up.

A file is a header and its source together: ``core/core`` is ``core.h`` and ``core.c``. Two kinds of arrow run from one
file to another: an ``#include``, and the use of a function or table that the other defines. The second kind is needed
since ``abi/api.h`` declares what Python may call, wherever it is: an include of that shows nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.test_imports import circles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CDEFS: Final = Path(__file__).resolve().parent.parent / "cdefs"

ROWS: Final[Mapping[str, tuple[set[str], ...]]] = {
    "": ({"abi"}, {"base"}, {"core"}, {"faults", "rings"}, {"hardware"}, {"designs"}, {"measure"}),
    "abi": ({"cost", "hardware", "hello", "io_uring", "iommufd"}, {"api"}),
    "base": ({"atomics", "idmap", "lifetime", "source_hash"}, {"clock", "memory", "records"}),
    "core": ({"file"}, {"core"}, {"notify", "worker"}, {"life"}),
    "faults": ({"eventq", "fault_cqe", "iopf", "watch"}, {"policy"}, {"faultq"}, {"report"}, {"attach"}),
    "rings": (
        {"hostfile", "ring"},
        {"engine"},
        {"buffers", "ringfile", "waiters"},
        {"completion"},
        {"attachable", "resources"},
        {"request"},
        {"operation", "timer"},
        {"cancel", "submit"},
        {"enter", "register", "requests", "turn"},
        {"calls", "setup"},
    ),
    "rings/requests": (
        {"requests"},
        {"again"},
        {"cancel", "command", "files", "message", "net", "nop", "poll", "provide", "rw", "timeout"},
        {"table"},
    ),
    "hardware": (
        {"histogram", "pri", "request", "tables"},
        {"guest"},
        {"load", "walk"},
        {"endpoint"},
        {"account", "pri_calls", "raw"},
        {"endpoint_path"},
        {"iommu"},
    ),
    "hardware/tables": ({"format", "tlb"}, {"arm", "stages", "vtd"}, {"software", "table"}, {"host", "translator"}),
    "hardware/iommu": (
        {"commands", "invalidate", "mock", "nesting"},
        {"model"},
        {"model_path", "reporting"},
        {"amd", "device", "device_log", "riscv", "smmuv3", "vtd"},
        {"vtd_2"},
        {"table"},
    ),
    "designs": (
        {"design"},
        {"channel"},
        {"client", "file_client", "handler", "host_socket", "named", "region_layout", "ring_client", "told"},
        {
            "eventfd",
            "fd",
            "host_fd",
            "host_uring",
            "region_kernel",
            "uring_batch",
            "uring_cmd",
            "uring_fetch",
            "uring_linked",
            "uring_multishot",
            "uring_read",
            "uring_today",
        },
        {"region_find"},
        {"region"},
        {"table", "virtual"},
    ),
    "measure": ({"look", "nop", "pair"}, {"prices", "references", "work"}),
}
"""From the ground up, the folders, and the files and folders in each. A file uses what is in rows below its own; those
in one row stand beside each other: none knows another."""

COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
INCLUDE: Final = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"(?P<name>[^"]+)"', re.MULTILINE)
RETURNS: Final = r"^(?!static (?!inline)|typedef\b|#|return\b|else\b)[A-Za-z_][\w \t\*\(\)]*?[ \*]"
FUNCTION: Final = re.compile(RETURNS + r"(?P<name>uiopf_\w+)\([^;{]*\)\n\{", re.MULTILINE)
TABLE: Final = re.compile(r"^const [\w \*]*?\b(?P<name>uiopf_\w+)(?:\[[^\]]*\])? = ", re.MULTILINE)
DECLARED: Final = re.compile(RETURNS + r"(?P<name>uiopf_\w+)(?:\([^;{]*\)|\[\]|);", re.MULTILINE)
USED: Final = re.compile(r"(?<!struct )(?<!enum )\b(?P<name>uiopf_\w+)")


class Arrow(NamedTuple):
    """One use of a file by another, and where it is."""

    source: str
    target: str
    where: str

    def __str__(self) -> str:
        return f"{self.where} -> {self.target}"


class Source(NamedTuple):
    """One ``.c`` or ``.h`` file, with blanks for its comments, so that lines keep their numbers."""

    unit: str
    path: str
    text: str


def read(root: Path) -> list[Source]:
    """Every C file below a folder."""

    def blank(comment: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", comment[0])

    return [
        Source(
            path.relative_to(root).with_suffix("").as_posix(),
            path.relative_to(root).as_posix(),
            COMMENT.sub(blank, path.read_text(encoding="utf-8")),
        )
        for path in sorted(root.rglob("*.[ch]"))
    ]


def owners(sources: Iterable[Source]) -> dict[str, str]:
    """Which file defines a function or a table."""
    return {
        found["name"]: one.unit
        for one in sources
        for pattern in (FUNCTION, TABLE)
        for found in pattern.finditer(one.text)
    }


def line_of(one: Source, found: re.Match[str]) -> int:
    return one.text.count("\n", 0, found.start("name")) + 1


def arrows(root: Path) -> list[Arrow]:
    """Every include of one file by another, and the first use of each name that another defines."""
    sources = read(root)
    owner = owners(sources)
    arrow: dict[tuple[str, str, str], Arrow] = {}
    for one in sources:
        for found in INCLUDE.finditer(one.text):
            target, where = found["name"].rpartition(".")[0], f"{one.path} (line {line_of(one, found)})"
            if target != one.unit:
                arrow.setdefault((one.path, target, "#include"), Arrow(one.unit, target, f"{where} includes"))
        declared = {found.start("name") for found in DECLARED.finditer(one.text)}
        for found in USED.finditer(one.text):
            name, target = found["name"], owner.get(found["name"])
            if target not in {None, one.unit} and found.start("name") not in declared:
                where = f"{one.path} (line {line_of(one, found)}) uses {name}"
                arrow.setdefault((one.path, target or "", name), Arrow(one.unit, target or "", where))
    return sorted(arrow.values())


def folders(root: Path) -> list[str]:
    return ["", *sorted({folder for one in read(root) for folder in parents(one.unit)})]


def parents(unit: str) -> Iterator[str]:
    while "/" in unit:
        unit = unit.rpartition("/")[0]
        yield unit


def room(unit: str, folder: str) -> str | None:
    """The file or folder right in a folder that a file is, or is in."""
    inside = unit if not folder else unit.removeprefix(f"{folder}/") if unit.startswith(f"{folder}/") else ""
    return inside.split("/")[0] or None


def between_rooms(of: Iterable[Arrow], folder: str) -> dict[tuple[str, str], list[Arrow]]:
    found: dict[tuple[str, str], list[Arrow]] = defaultdict(list)
    for arrow in of:
        source, target = room(arrow.source, folder), room(arrow.target, folder)
        if source and target and source != target:
            found[source, target].append(arrow)
    return found


def circles_in(root: Path) -> Iterator[str]:
    """Every circle of what is in one folder, and so of all files, with the arrows that close it."""
    of = arrows(root)
    for folder in folders(root):
        edges = between_rooms(of, folder)
        for circle in circles(edges):
            closing = [arrow for pair, some in edges.items() if set(pair) <= set(circle) for arrow in some]
            yield f"in {folder or root.name}: {', '.join(circle)}: " + "; ".join(map(str, sorted(closing)))


def upward_in(root: Path, rows: Mapping[str, tuple[set[str], ...]]) -> Iterator[str]:
    """Every arrow that does not run into a lower row."""
    of = arrows(root)
    for folder in folders(root):
        floors = {name: floor for floor, names in enumerate(rows.get(folder, ())) for name in names}
        for (source, target), some in between_rooms(of, folder).items():
            if floors.get(target, -1) >= floors.get(source, len(floors)):  # what has no floor, another test names
                yield from (f"up, or along a row: {arrow}" for arrow in some)


def declared_elsewhere(root: Path) -> Iterator[str]:
    """Every header that declares a function which another file has; ``abi`` is for that."""
    sources = read(root)
    owner = owners(sources)
    for one in sources:
        if one.path.endswith(".h") and not one.path.startswith("abi/"):
            for found in DECLARED.finditer(one.text):
                name = found["name"]
                if owner.get(name) not in {None, one.unit}:
                    yield f"{one.path} (line {line_of(one, found)}) declares {name} of {owner[name]}"


# ---- the library ----


def test_every_file_has_a_room() -> None:
    here: dict[str, set[str]] = defaultdict(set)
    for one in read(CDEFS):
        for folder in ("", *parents(one.unit)):
            here[folder].add(room(one.unit, folder) or "")
    assert {folder: set().union(*rows) for folder, rows in ROWS.items()} == here


def test_no_circle() -> None:
    assert list(circles_in(CDEFS)) == []


def test_no_arrow_runs_upwards() -> None:
    assert list(upward_in(CDEFS, ROWS)) == []


def test_a_header_declares_what_its_own_file_has() -> None:
    assert list(declared_elsewhere(CDEFS)) == []


def test_what_python_calls_is_found() -> None:
    """The reader sees definitions: all that ``api.h`` declares has one."""
    (api,) = (one for one in read(CDEFS) if one.path == "abi/api.h")
    declared = {found["name"] for found in DECLARED.finditer(api.text) if "(" in found[0]}
    assert len(declared) > 100
    assert declared - set(owners(read(CDEFS))) == set()


# ---- the reader itself ----

HOUSE_ROWS: Final = {"": ({"low"}, {"top"}), "low": ({"a"}, {"b"})}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """``top/t`` uses ``low/b``, which uses ``low/a``; a header for Python declares all."""
    for folder in ("abi", "low", "top"):
        (tmp_path / folder).mkdir()
    (tmp_path / "abi" / "api.h").write_text("int uiopf_a(struct uiopf_b *b);\nint uiopf_b(void);\nint uiopf_t(void);\n")
    (tmp_path / "low" / "a.h").write_text("#pragma once\nint uiopf_a(struct uiopf_b *b);\n")
    (tmp_path / "low" / "a.c").write_text('#include "low/a.h"\n\nint uiopf_a(struct uiopf_b *b)\n{\n\treturn !b;\n}\n')
    (tmp_path / "low" / "b.c").write_text(
        '#include "low/a.h"\n\nint uiopf_b(void)\n{\n\treturn uiopf_a(NULL);\t/* not uiopf_t() */\n}\n'
    )
    (tmp_path / "top" / "t.c").write_text("int uiopf_t(void)\n{\n\treturn uiopf_b();\n}\n")
    return tmp_path


def add(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_a_clean_house_is_clean(house: Path) -> None:
    assert list(circles_in(house)) == []
    assert list(upward_in(house, HOUSE_ROWS)) == []
    assert list(declared_elsewhere(house)) == []


def test_an_include_that_runs_up_is_named(house: Path) -> None:
    (house / "top" / "t.h").write_text("#pragma once\n")
    add(house / "low" / "b.c", '#include "top/t.h"\n')
    assert list(upward_in(house, HOUSE_ROWS)) == ["up, or along a row: low/b.c (line 7) includes -> top/t"]


def test_a_call_that_runs_up_is_named_without_an_include(house: Path) -> None:
    add(house / "low" / "a.c", "\nint uiopf_c(void)\n{\n\treturn uiopf_b();\n}\n")
    assert list(upward_in(house, HOUSE_ROWS)) == ["up, or along a row: low/a.c (line 10) uses uiopf_b -> low/b"]


def test_a_table_that_is_used_is_an_arrow(house: Path) -> None:
    add(house / "top" / "t.c", "\nconst struct uiopf_ops uiopf_table[2] = { { uiopf_t } };\n")
    add(house / "low" / "b.c", "\nstatic const struct uiopf_ops *ops = uiopf_table;\n")
    assert list(upward_in(house, HOUSE_ROWS)) == ["up, or along a row: low/b.c (line 8) uses uiopf_table -> top/t"]


def test_a_circle_is_named_with_its_arrows(house: Path) -> None:
    add(house / "low" / "a.c", "\nstatic int again(void)\n{\n\treturn uiopf_b();\n}\n")
    assert list(circles_in(house)) == [
        "in low: a, b: low/a.c (line 10) uses uiopf_b -> low/b; low/b.c (line 1) includes -> low/a; "
        "low/b.c (line 5) uses uiopf_a -> low/a"
    ]


def test_a_circle_of_folders_is_one_even_without_a_circle_of_files(house: Path) -> None:
    (house / "top" / "u.h").write_text("#pragma once\n")
    add(house / "low" / "a.h", '#include "top/u.h"\n')
    (found,) = circles_in(house)
    assert found.startswith(f"in {house.name}: low, top: low/a.h (line 3) includes -> top/u; top/t.c (line 3) uses")


def test_a_header_that_declares_what_another_file_has_is_named(house: Path) -> None:
    add(house / "low" / "a.h", "int uiopf_b(void);\n")
    assert list(declared_elsewhere(house)) == ["low/a.h (line 3) declares uiopf_b of low/b"]
