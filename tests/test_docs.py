"""What the documentation says is so: examples run, quotations are exact, links lead somewhere, nothing is left out."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import uring_iopf
from uring_iopf.commands import main as cli
from uring_iopf.commands.shared import Parser
from uring_iopf.costs import Counters, Parts
from uring_iopf.lab import bench
from uring_iopf.lab.result import CellResult, Floor, Latency
from uring_iopf.reports.document import environment

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
TESTS = [example for example in EXAMPLES if example.name.startswith("test_")]

# A comment in front of a block says where its text is from: all of a file, or consecutive lines of it.
QUOTATION = re.compile(r"<!-- (file|part of): (\S+) -->\n+```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def reference(page: str) -> str:
    return (DOCS / "reference" / page).read_text(encoding="utf-8")


# ---- examples ----


def run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        input="5 1 2 0x1000 0x4\n",  # a fault as bpftrace prints it, for the program that converts them
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one not in TESTS], ids=name_of)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    """Programs as programs; modules that others import at least import."""
    run(tmp_path, "-W", "error", str(example))


def test_the_examples_that_are_tests_pass(tmp_path: Path) -> None:
    """By one pytest: to begin takes it longer than they do."""
    assert TESTS
    run(tmp_path, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *map(str, TESTS))


# ---- quotations ----

INDENTS = ("", " " * 4, " " * 8, " " * 12, "\t")
QUOTATIONS: list[tuple[Path, str, str, str]] = [
    (page, match[1], match[2], match[3]) for page in PAGES for match in QUOTATION.finditer(page.read_text("utf-8"))
]


def quotation_id(value: object) -> str:
    return name_of(value) if isinstance(value, Path) else str(value) if len(str(value)) < 40 else "text"


@pytest.mark.parametrize(("page", "how", "path", "text"), QUOTATIONS, ids=quotation_id)
def test_a_quotation_is_what_the_file_says(page: Path, how: str, path: str, text: str) -> None:
    content = (page.parent / path).read_text(encoding="utf-8")
    if how == "file":
        assert text == content
    else:
        assert any(textwrap.indent(text, by) in content for by in INDENTS), "no such lines"


def test_the_tutorial_quotes_its_examples() -> None:
    quoted = {(how, path) for page, how, path, _ in QUOTATIONS if page.name == "tutorial.md"}
    assert {("file", "examples/first_fault.py"), ("file", "examples/my_design.py")} <= quoted


def test_the_first_fault_takes_twenty_lines() -> None:
    assert len((DOCS / "examples" / "first_fault.py").read_text(encoding="utf-8").splitlines()) <= 22


# ---- links ----


def slug(heading: str) -> str:
    """How a heading is linked to."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        if anchor:
            assert anchor in {slug(heading) for heading in HEADING.findall(prose(target))}, f"{link}: no such heading"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_a_page_is_reached_from_the_index(page: Path) -> None:
    index = DOCS / "index.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(prose(index))}
    assert page == index or page in linked


# ---- terms ----

GLOSSARY = DOCS / "reference" / "glossary.md"
TERMS = re.findall(r"^### (.+)$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
TAUGHT = [ROOT / "README.md", DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
NO_PROSE = re.compile(r"^```.*?^```$|^#+ [^\n]*$|^<!--.*?-->$|`[^`\n]*`|\[[^\]]*\]\([^)]*\)", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", TAUGHT, ids=name_of)
def test_the_first_use_of_a_term_leads_to_the_glossary(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    bare = NO_PROSE.sub(lambda match: re.sub(r"[^\n]", "\0", match[0]), text)
    to = os.path.relpath(GLOSSARY, page.parent)
    missing = []
    for term in TERMS:
        used = re.search(rf"\b{re.escape(term)}s?\b".replace(r"\ ", r"\s"), bare, re.IGNORECASE)
        linked = text.find(f"({to}#{slug(term)})")
        if used is not None and not 0 <= linked < used.start():
            missing.append(f"{used[0]!r}, at {text[: used.start()].count(chr(10)) + 1}")
    assert missing == []


def test_the_glossary_knows_the_terms_that_it_uses_for_others() -> None:
    links = re.findall(r"\]\(#([^)]+)\)", GLOSSARY.read_text(encoding="utf-8"))
    assert set(links) <= {slug(term) for term in TERMS}
    assert len(TERMS) == len(set(map(slug, TERMS))) >= 30


# ---- the references leave nothing out ----


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The long options of a command line and of its commands."""
    if isinstance(parser, Parser):
        parser.complete()
    found = set()
    for action in parser._actions:
        found |= {option for option in action.option_strings if option.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            found |= set().union(*map(options, action.choices.values()))
    return found


def test_the_command_page_names_the_options_there_are() -> None:
    assert set(OPTION.findall(reference("command.md"))) == options(cli.build_parser())


@pytest.mark.parametrize("name", uring_iopf.__all__)
def test_a_public_name_is_on_the_python_page(name: str) -> None:
    assert f"`{name}" in reference("python-api.md")


@pytest.mark.parametrize("of", [CellResult, Latency, Parts, Counters, Floor], ids=lambda of: of.__name__)
def test_the_json_page_names_every_field(of: type) -> None:
    missing = [field.name for field in dataclasses.fields(of) if f"`{field.name}`" not in reference("json.md")]
    assert not missing


def test_the_json_page_names_the_environment_and_the_ratios() -> None:
    page = reference("json.md")
    assert not [name for name in [*environment(), *bench.RATIOS] if f"`{name}`" not in page]


# ---- the life of a group ----


def life() -> ModuleType:
    """The script that draws it, as a module."""
    spec = importlib.util.spec_from_file_location("life_of_a_group", ROOT / "docs" / "life_of_a_group.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_life_of_a_group_is_drawn_from_its_table() -> None:
    script = life()
    page = (ROOT / "docs" / "explanation" / "path.md").read_text(encoding="utf-8")
    assert script.drawn(script.ways(script.HEADER.read_text(encoding="utf-8"))) in page, (
        "docs/explanation/path.md is not what `python docs/life_of_a_group.py` prints"
    )


def test_a_group_is_answered_once_and_by_somebody() -> None:
    script = life()
    rows = script.ways(script.HEADER.read_text(encoding="utf-8"))
    assert script.ends(rows) == ["ANSWERED_FOR", "FORGOTTEN", "ANSWERED"]
    reached = {script.OUTSIDE}
    while more := {row.next for row in rows if row.state in reached} - reached:
        reached |= more
    assert {row.state for row in rows} <= reached
    # A group that a client may see (it has a place in the queue) cannot be forgotten.
    assert {row.state for row in rows if row.next == "FORGOTTEN"} == {"PARTIAL"}
