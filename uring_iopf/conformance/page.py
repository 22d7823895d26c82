"""``uring-iopf conformance report``: the page of known differences, of coverage, and of differences between kernels.

The page is Markdown. It does not depend on the time or the machine.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import textwrap
from typing import TYPE_CHECKING, Final

from uring_iopf.conformance.coverage import Coverage, shown
from uring_iopf.conformance.known_differences import (
    BY_HAND,
    RECORDINGS,
    REFERENCES,
    RING_RECORDINGS,
    SECTIONS,
    KnownDifference,
)
from uring_iopf.conformance.known_scripts import CAUSES, KNOWN_SCRIPTS
from uring_iopf.iommufd import VERSIONS, KernelVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from uring_iopf.conformance.command import Recording

TITLE: Final = "# Conformance"

HEAD: Final = """\
This page lists the judges that the emulator is compared with, and every known difference with its reason.
`uring-iopf conformance report` writes it; its text is in `uring_iopf/conformance/known_differences.py`."""

KERNELS: Final = """\
`Context(kernel=...)` chooses the kernel. The table has all rules of `uring_iopf/iommufd/versions.py`. With 7.2, VT-d
accepts page requests without a PASID, too."""

COVERAGE: Final = """\
The table has the number of each outcome of each operation in the recordings. Then come the hardware's events: the
results of reported faults, and the codes of page responses.
[How to replay a recording](../how-to/replay-a-recording.md) explains the operations."""

RING_COVERAGE: Final = """\
The table has the same for rings on fault files: Linux's own (merged), and two that were patched. They are
`Personality.MERGED`, `PROPOSED` (keyed) and `PROPOSED_UNKEYED`. Completions are counted by their results."""

KNOWN_RECORDED: Final = """\
These scripts differ from the recordings of rings on fault files. `uring-iopf conformance golden` counts them apart, and
notices each one that differs otherwise, or no longer. Scripts that went differently when the kernel was run again are
not compared. When a worker thread runs is Linux's scheduler's choice: a script is replayed with other times of such
threads, too, and one of them must give all that was recorded."""

BEYOND: Final = "These refusals are in no recording, but in tests written by hand:"


def page(recordings: Sequence[Recording] = ()) -> str:
    """Return the page, with a newline at its end. *recordings*: their coverage is on the page, if there are any."""
    coverage: dict[str, Coverage] = {}
    rings: dict[str, Coverage] = {}
    for recording in recordings:
        for script in recording.scripts:
            if script.fault_file is None:
                coverage.setdefault(recording.kernel, Coverage()).add(script)
            else:
                rings.setdefault(f"{script.kernel}, {script.fault_file}", Coverage()).add(script)
    rings = dict(sorted(rings.items()))
    blocks = [TITLE, HEAD, "## Judges", _references(coverage, rings), "## Differences between kernels", KERNELS]
    blocks.append(_versions())
    if coverage:
        blocks += ["## Coverage of the recordings", COVERAGE, _coverage(coverage), BEYOND, _by_hand()]
    if rings:
        blocks += ["## Coverage of the recordings of rings", RING_COVERAGE, _coverage(rings)]
    if KNOWN_SCRIPTS:
        blocks += ["## Recorded scripts that differ", KNOWN_RECORDED, _known_scripts()]
    for section in SECTIONS:
        blocks += [f"## {section.title}", section.before, _known(section.rows), section.after]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("|" + "|".join(f" {_cell(cell)} " if cell else " " for cell in line) + "|" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# ---- what it is held against ----


def _references(coverage: dict[str, Coverage], rings: dict[str, Coverage]) -> str:
    given = _recordings(coverage, "a recording of Linux {}") or f"recordings of Linux {' and '.join(VERSIONS)}"
    with_rings = _recordings(rings, "a recording of Linux {} fault file") or "recordings of rings on fault files"
    return _table(
        ("part", "reference", "how"),
        [
            (one.part, one.reference.replace(RECORDINGS, given).replace(RING_RECORDINGS, with_rings), one.how)
            for one in REFERENCES
        ],
    )


def _recordings(coverage: dict[str, Coverage], what: str) -> str:
    return "; ".join(
        f"{what.format(name)}: {counts.named:,} named scenarios, {counts.scripts - counts.named:,} random "
        f"scripts, {counts.steps:,} steps" + (f", {counts.not_compared} not compared" if counts.not_compared else "")
        for name, counts in coverage.items()
    )


# ---- what kernels differ in ----


def _versions() -> str:
    said = _attribute_docs(KernelVersion)
    rows = []
    for field in dataclasses.fields(KernelVersion):
        if field.name == "name":
            continue
        values = [getattr(version, field.name) for version in VERSIONS.values()]
        text = said.get(field.name) or _type_doc(values[0]) or field.name.replace("_", " ")
        rows.append([text.removesuffix("."), *map(_value, values)])
    return _table(["", *VERSIONS], rows)


def _attribute_docs(of: type) -> dict[str, str]:
    """The strings below a class's fields, which Python itself does not keep."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and _is_text(after):
            found[before.target.id] = " ".join(ast.literal_eval(after.value).split())  # type: ignore[attr-defined]
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _type_doc(value: object) -> str:
    """The docstring of an enum's class, for a field without a docstring."""
    return " ".join((type(value).__doc__ or "").split()) if isinstance(value, enum.Enum) else ""


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, enum.Flag):
        return ", ".join(str(flag.name) for flag in value) or "none"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, (tuple, frozenset, set)):
        return ", ".join(sorted(map(_value, value))) or "none"
    return "none" if value is None else str(value)


# ---- what is covered ----


def _coverage(coverage: dict[str, Coverage]) -> str:
    columns = [dict(counts.rows()) for counts in coverage.values()]
    used = {name for column in columns for name in column if column[name]}
    rows = [[f"`{name}`", *(shown(column[name]) for column in columns)] for name in columns[0] if name in used]
    return _table(["operation", *coverage], rows)


def _by_hand() -> str:
    return _table(
        ("operation", "errno", "when", "test"),
        [(f"`{one.operation}`", one.errno, one.when, f"`{one.test}`") for one in BY_HAND],
    )


# ---- known differences ----


def _known(rows: Iterable[KnownDifference]) -> str:
    return _table(("difference", "reason", "test"), list(_known_rows(rows)))


def _known_rows(rows: Iterable[KnownDifference]) -> Iterator[tuple[str, str, str]]:
    for one in rows:
        shown = f"`{one.test}`" if one.test else f"judge: `{one.id}`" if one.id else ""
        yield one.difference, one.reason, shown


def _known_scripts() -> str:
    rows = []
    for (kernel, file), scripts in KNOWN_SCRIPTS.items():
        for cause, why in CAUSES.items():
            names = [name for name, one in scripts.items() if one.cause == cause]
            if names:
                rows.append((f"{kernel}, {file}", why.difference, why.reason, ", ".join(f"`{one}`" for one in names)))
    return _table(("recording", "difference", "reason", "scripts"), rows)
