"""``uring-iopf conformance``: what it says of recordings, good, doctored and broken, and the page that it writes."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uring_iopf.abi.iommufd import HwptAllocFlags
from uring_iopf.commands import main as cli
from uring_iopf.conformance import command as conformance
from uring_iopf.conformance import golden
from uring_iopf.conformance import page as conformance_page
from uring_iopf.conformance.coverage import Coverage
from uring_iopf.conformance.known_differences import BY_HAND, SECTIONS
from uring_iopf.conformance.recording import OPERATIONS, RecordingError, Script, kernel_of, load
from uring_iopf.iommufd import VERSIONS, KernelVersion
from uring_iopf.reports import progress

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "data" / "golden"
OLD, NEW = (str(GOLDEN / f"iommufd-{kernel}.jsonl.gz") for kernel in ("6.12", "7.2"))
ALL = sorted(map(str, GOLDEN.glob("*.jsonl.gz")))
ROUND_TRIP = "single-fault-round-trip"

Content = dict[str, Any]


def run(*argv: str) -> int:
    try:
        return cli.main(["conformance", *argv])
    except SystemExit as end:
        return int(end.code or 0)


def last_line(out: str) -> str:
    return out.splitlines()[-1]


@functools.cache
def lines_of_old() -> list[bytes]:
    return gzip.decompress(Path(OLD).read_bytes()).splitlines()[:25]


def recorded(*names: str) -> list[Content]:
    """Named scripts of 6.12, to be doctored."""
    return [content for content in map(json.loads, lines_of_old()) if content["name"] in names]


def written(path: Path, scripts: list[Content]) -> str:
    path.write_text("".join(f"{json.dumps(script)}\n" for script in scripts))
    return str(path)


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """A recording of two scripts, not gzipped."""
    return written(tmp_path / "iommufd-6.12.jsonl", recorded(ROUND_TRIP, "read-sizes"))


# ---- what is as recorded ----


def test_both_kernels_recordings_are_replayed_without_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    status = run("golden", OLD, NEW)
    out, err = capsys.readouterr()
    assert last_line(out) == "scripts 1157 steps 67361 differences 0"
    assert (status, err) == (0, "")


def test_the_command_does_it_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uring_iopf", "conformance", "golden", OLD],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert last_line(done.stdout) == "scripts 425 steps 23684 differences 0"


def test_plain_json_lines_do_too(plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("golden", plain) == 0
    assert re.fullmatch(r"scripts 2 steps \d+ differences 0", last_line(capsys.readouterr().out))


def test_what_is_covered_is_counted_file_by_file(plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("golden", plain, OLD) == 0
    out = capsys.readouterr().out
    first, second = (out.index(f"{file}, Linux 6.12: ") for file in (plain, OLD))
    assert first < second
    table = {row.split()[0]: row.split(maxsplit=2)[1:] for row in out[second:].splitlines() if row.startswith("  ")}
    assert list(table) == ["operation", *OPERATIONS, "report", "response"]
    assert table["close"] == ["52", "0: 50, EBADF: 2"]
    assert table["pri"] == ["10,070", "0: 9,247, ENOENT: 823"]
    assert table["report"] == ["9,247", "0: 6,646, EINVAL: 2,601"]
    assert table["response"] == ["5,705", "SUCCESS: 329, INVALID: 5,376"]
    assert table["viommu"] == ["0", "-"]


def test_every_step_is_in_the_coverage() -> None:
    coverage = Coverage()
    coverage.add_all(load(OLD))
    assert sum(ends.total() for ends in coverage.operations.values()) == coverage.steps == 23_684
    assert coverage.operations["pri"]["0"] == coverage.hardware["report"].total(), "each that found its device"


# ---- what is not ----


def doctored(edit: Callable[[list[Content]], object]) -> list[Content]:
    scripts = recorded(ROUND_TRIP, "read-sizes")
    edit(scripts)
    return scripts


def step(scripts: list[Content], verb: str) -> tuple[int, Content]:
    steps = scripts[0]["steps"]
    return next((i, one) for i, one in enumerate(steps) if one["op"][0] == verb)


@pytest.mark.parametrize(
    ("verb", "change", "line"),
    [
        ("hwpt", {"id": 8}, "id: expected 8, got 6"),
        ("read", {"ret": -1}, "ret: expected -1, got 40"),
        ("read", {"errno": "EINVAL"}, 'errno: expected "EINVAL", got "0"'),
        ("poll", {"revents": 5}, "revents: expected 5, got 4"),
        ("pri", {"hw": []}, 'hw: expected [], got [{"ev": "report", "dev": "d0", "ret": 0}]'),
        ("ioas", {"pt": 1}, "pt: expected 1, got (nothing)"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_difference_is_one_line_with_its_place(
    verb: str, change: Content, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = doctored(lambda scripts: step(scripts, verb)[1].update(change))
    index, changed = step(scripts, verb)
    file = written(tmp_path / "iommufd-6.12.jsonl", scripts)
    assert run("golden", file) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"{file}: {ROUND_TRIP}, step {index} `{' '.join(changed['op'])}`: {line}"
    assert last_line(out).endswith(" differences 1")
    assert not err


def test_what_was_recorded_and_is_missing_here_is_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "iommufd-6.12.jsonl.gz", doctored(lambda scripts: step(scripts, "hwpt")[1].pop("id")))
    assert run("golden", file) == 1
    assert "id: expected (nothing), got 6" in capsys.readouterr().out


def test_every_difference_of_every_file_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def edit(scripts: list[Content]) -> None:
        for script in scripts:
            script["steps"][0]["id"] = 77

    files = [written(tmp_path / f"iommufd-6.12.{n}.jsonl", doctored(edit)) for n in "ab"]
    assert run("golden", *files, OLD) == 1
    out = capsys.readouterr().out
    assert out.count("id: expected 77, got 1") == 4
    assert last_line(out).startswith("scripts 429 ")
    assert last_line(out).endswith(" differences 4")


def test_another_kernel_s_rules_are_another_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("golden", OLD, "--kernel", "7.2") == 1
    assert 'errno: expected "EOPNOTSUPP", got "0"' in capsys.readouterr().out


# ---- which kernel ----


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("iommufd-6.12.jsonl.gz", "6.12"),
        ("/a/6.12/iommufd-7.2.jsonl", "7.2"),
        ("iommufd-6.12.117.jsonl.gz", "6.12"),
        ("linux-v7.2.jsonl", "7.2"),
        ("6.12", "6.12"),
        ("iommufd-5.4.jsonl", "5.4"),
        ("iommufd.jsonl.gz", None),
        ("from-6.12-to-7.2.jsonl", None),
        ("iommufd-6.jsonl", None),
        ("", None),
    ],
)
def test_the_kernel_is_in_the_name(name: str, kernel: str | None) -> None:
    assert kernel_of(name) == kernel


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mine.jsonl", [], "mine.jsonl: the file's name has no kernel version; give --kernel, one of 6.12, 7.2"),
        ("iommufd-5.4.jsonl", [], "iommufd-5.4.jsonl: kernel 5.4 is not emulated; give --kernel, one of 6.12, 7.2"),
        ("mine.jsonl", ["--kernel", "6.13"], "--kernel 6.13: this kernel is not emulated; give one of 6.12, 7.2"),
    ],
    ids=["none", "one that is not here", "asked for one that is not here"],
)
def test_a_kernel_that_is_not_known_is_refused(
    name: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / name, recorded(ROUND_TRIP))
    assert run("golden", file, *options) == 2
    out, err = capsys.readouterr()
    assert err.startswith("uring-iopf conformance golden: ")
    assert message in err
    assert not out


def test_a_kernel_can_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("golden", "--kernel", "6.12", written(tmp_path / "mine.jsonl", recorded(ROUND_TRIP))) == 0
    assert "mine.jsonl, Linux 6.12: 1 scripts (1 named)" in capsys.readouterr().out


# ---- broken files ----


def with_step(**change: object) -> bytes:
    (script,) = recorded(ROUND_TRIP)
    script["steps"][1].update(change)
    return json.dumps(script).encode()


def with_op(*words: object) -> bytes:
    return with_step(op=words)


GOOD = json.dumps({"name": "good", "steps": []}).encode()
PLACE = f"script {ROUND_TRIP}, step 1: expected "
BROKEN: dict[str, tuple[bytes, int, str]] = {  # the content, the line that is named, what is said of it
    "not JSON": (GOOD + b"\n{nonsense}\n", 2, "expected JSON: Expecting property name"),
    "an empty line": (GOOD + b"\n\n" + GOOD, 2, "expected JSON"),
    "not text": (b"\xff\xfe\x00", 1, "expected JSON"),
    "half a line": (GOOD[:9], 1, "expected JSON"),
    "nested for ever": (b"[" * 200_000, 1, "expected JSON"),
    "a number without an end": (b"1" * 5000, 1, "expected JSON"),
    "a list": (b"[1, 2]", 1, "expected keys name and steps, found [1, 2]"),
    "no steps": (b'{"name": "x"}', 1, "expected keys name and steps, found {'name': 'x'}"),
    "a key more": (b'{"name": "x", "steps": [], "more": 1}', 1, "expected keys name and steps"),
    "no name": (b'{"name": "", "steps": []}', 1, "expected a printable name, found ''"),
    "a name for terminals": (rb'{"name": "\u001b[2J", "steps": []}', 1, "expected a printable name, found '\\x1b[2J'"),
    "steps that are none": (b'{"name": "x", "steps": 5}', 1, "expected a list of steps, found 5"),
    "a step that is none": (b'{"name": "x", "steps": [5]}', 1, "script x, step 0: expected a step, found 5"),
    "a step without an outcome": (
        GOOD + b'\n{"name": "x", "steps": [{"op": ["end"]}]}',
        2,
        "script x, step 0: expected keys op, ret, errno and hw, found ['op']",
    ),
    "an unknown key": (with_step(more=1), 1, PLACE + "keys of the format only, found ['more']"),
    "an unknown operation": (with_op("vfio", "d0"), 1, PLACE + "an operation of the format, found 'vfio'"),
    "no operation": (with_op(), 1, PLACE + "words as op, found []"),
    "an operation in numbers": (with_op("read", "f0", 40), 1, PLACE + "words as op, found ['read', 'f0', 40]"),
    "too few operands": (with_op("read", "f0"), 1, PLACE + "operands 'name u64' of read, found ['f0']"),
    "too many operands": (with_op("end", "now"), 1, PLACE + "operands '' of end, found ['now']"),
    "a bad number": (with_op("read", "f0", "forty"), 1, PLACE + "u64 as operand 2 of read, found 'forty'"),
    "a number too large": (with_op("pdetach", "d0", "4294967296"), 1, PLACE + "u32 as operand 2 of pdetach"),
    "a bad name": (with_op("close", "f 0"), 1, PLACE + "name as operand 1 of close, found 'f 0'"),
    "a bad PASID": (with_op("pri", "d0", "+", "1", "1", "1", "last"), 1, PLACE + "pasid as operand 2 of pri"),
    "neither last nor more": (with_op("pri", "d0", "-", "1", "1", "1", "mid"), 1, PLACE + "which as operand 6 of pri"),
    "a bad answer": (with_op("write", "f0", "#1:0", "1:0"), 1, PLACE + "answer as operand 3 of write, found '1:0'"),
    "a code too large": (with_op("write", "f0", "#1:0x100000000"), 1, PLACE + "answer as operand 2 of write"),
    "gigabytes beyond": (with_op("write", "f0", "#1:0", "+0x10000"), 1, PLACE + "answer as operand 3 of write"),
    "a return value that is none": (with_step(ret="0"), 1, PLACE + "a number as ret, found '0'"),
    "an errno that is none": (with_step(errno=22), 1, PLACE + "a name as errno, found 22"),
    "no list of events": (with_step(hw={}), 1, PLACE + "a list as hw, found {}"),
    "an unknown event": (with_step(hw=[{"ev": "irq"}]), 1, PLACE + "an event report or resp with its keys"),
    "half an event": (with_step(hw=[{"ev": "report", "ret": 0}]), 1, PLACE + "an event report or resp with its keys"),
    "an event in words": (with_step(hw=[{"ev": "report", "dev": "d0", "ret": "0"}]), 1, PLACE + "numbers in an event"),
    "an event of nobody": (
        with_step(hw=[{"ev": "report", "dev": 3, "ret": 0}]),
        1,
        PLACE + "a device's name in an event",
    ),
    "responses that are none": (with_step(responses=[5]), 1, PLACE + "a cookie and a code, both of 32 bits"),
    "a response too large": (with_step(responses=[[0, 1 << 32]]), 1, PLACE + "a cookie and a code, both of 32 bits"),
    "truncated gzip": (gzip.compress(GOOD)[:-4], 1, "the gzip file is damaged: Compressed file ended"),
    "damaged gzip": (gzip.compress(GOOD)[:-8] + bytes(8), 1, "the gzip file is damaged: CRC check failed"),
    "gzip of nothing known": (b"\x1f\x8b\x00" + bytes(40), 1, "the gzip file is damaged: Unknown compression method"),
}


@pytest.mark.parametrize(("content", "line", "what"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_told_with_its_line(
    content: bytes, line: int, what: str, plain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is replayed then, not even the good file before it."""
    file = Path(plain).with_name("broken-6.12.jsonl")
    file.write_bytes(content)
    assert run("golden", plain, str(file)) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"uring-iopf conformance golden: {file}, line {line}: {what}")
    assert err.count("\n") == 1
    assert len(err) < 300 + len(str(file))
    assert not out


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda _: None, "the file cannot be read: No such file or directory"),
        (Path.mkdir, "the file cannot be read: Is a directory"),
        (Path.touch, "the file has no script"),
        (lambda path: path.write_bytes(gzip.compress(b"")), "the file has no script"),
    ],
    ids=["missing", "a directory", "empty", "empty gzip"],
)
def test_a_file_without_scripts_is_refused(
    make: Callable[[Path], object], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "iommufd-6.12.jsonl"
    make(file)
    assert run("golden", str(file)) == 2
    assert capsys.readouterr().err == f"uring-iopf conformance golden: {file}: {what}\n"


def test_the_error_says_where_to_programs_too(tmp_path: Path) -> None:
    file = tmp_path / "broken"
    file.write_bytes(GOOD + b"\n[]\n")
    with pytest.raises(RecordingError) as caught:
        load(file)
    assert (caught.value.file, caught.value.line) == (str(file), 2)


# ---- the JSON document ----


def test_the_json_document_has_differences_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def edit(scripts: list[Content]) -> None:
        scripts[0]["steps"][0]["id"] = 77
        del scripts[1]["steps"][0]["id"]

    file = written(tmp_path / "iommufd-6.12.jsonl", doctored(edit))
    to = tmp_path / "out.json"
    assert run("golden", file, "--json", str(to)) == 1
    content = json.loads(to.read_text())
    assert (content["schema"], content["partial"]) == (1, False)
    assert content["arguments"] == {"file": [file], "kernel": None}
    (recording,) = content["recordings"]
    counts = f"scripts {recording['scripts']} steps {recording['steps']} differences {len(recording['differences'])}"
    assert counts == last_line(capsys.readouterr().out)
    assert recording["differences"] == [
        {"script": ROUND_TRIP, "step": 0, "op": "ioas a0", "field": "id", "expected": 77, "got": 1},
        {"script": "read-sizes", "step": 0, "op": "ioas a0", "field": "id", "got": 1},
    ]
    assert (recording["file"], recording["kernel"]) == (file, "6.12")
    assert recording["operations"]["ioas"] == {"0": 2}
    assert recording["operations"]["viommu"] == {}
    assert sum(sum(ends.values()) for ends in recording["operations"].values()) == recording["steps"]
    assert list(recording["hardware"]) == ["report", "response"]
    assert "python" in content["environment"]


def test_a_json_file_that_cannot_be_written_is_told(plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("golden", plain, "--json", "/nowhere/at/all.json") == 2
    assert (
        "--json /nowhere/at/all.json: the file cannot be written (No such file or directory)" in capsys.readouterr().err
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--json", "--output"])
def test_a_full_disk_is_told(option: str, plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("golden" if option == "--json" else "report", plain, option, "/dev/full") == 1
    out, err = capsys.readouterr()
    assert err == f"uring-iopf: {option} /dev/full: the file was not written: No space left on device\n"
    assert (out != "") == (option == "--json")


# ---- Ctrl-C ----


def test_ctrl_c_prints_what_was_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = golden.outcome_of

    def pressed(script: Script, *, kernel: str) -> Any:
        if script.name == "read-sizes":
            signal.raise_signal(signal.SIGINT)
        return real(script, kernel=kernel)

    monkeypatch.setattr(conformance, "outcome_of", pressed)
    scripts = doctored(lambda scripts: scripts[0]["steps"][0].update(id=77))
    file, to = written(tmp_path / "iommufd-6.12.jsonl", scripts), tmp_path / "out.json"
    assert run("golden", file, "--json", str(to)) == 130
    out, err = capsys.readouterr()
    assert "PARTIAL: interrupted when 1 of 2 scripts were replayed.\n" in out
    assert last_line(out) == f"scripts 1 steps {len(scripts[0]['steps'])} differences 1"
    assert err == "uring-iopf: interrupted; the counts are partial\n"
    assert json.loads(to.read_text())["partial"] is True


# ---- progress ----


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_how_far_it_is(
    plain: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "_have_rich", lambda: False)
    assert run("golden", plain) == 0
    assert stream.getvalue().startswith("\r 50% iommufd-6.12.jsonl ")
    assert stream.getvalue().endswith(f"\r{' ' * 72}\r")
    assert "%" not in capsys.readouterr().out


# ---- the page ----


def test_the_published_page_is_what_the_command_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", *ALL) == 0
    out, err = capsys.readouterr()
    assert out == (ROOT / "docs" / "reference" / "conformance.md").read_text(encoding="utf-8")
    assert not err


def test_the_page_can_be_written_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "page.md"
    assert run("report", OLD, "--output", str(to)) == 0
    assert capsys.readouterr() == ("", "")
    assert "a recording of Linux 6.12: 25 named scenarios, 400 random scripts, 23,684 steps" in to.read_text()


def test_without_recordings_the_page_has_no_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report") == 0
    out = capsys.readouterr().out
    assert "## Coverage of the recordings" not in out
    assert all(f"## {section.title}" in out for section in SECTIONS)


def test_a_bad_recording_leaves_the_old_page_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to, bad = tmp_path / "page.md", tmp_path / "iommufd-6.12.jsonl"
    to.write_text("old")
    bad.write_text("{")
    assert run("report", str(bad), "--output", str(to)) == 2
    assert f"{bad}, line 1: expected JSON" in capsys.readouterr().err
    assert to.read_text() == "old"


def test_recordings_of_one_kernel_are_counted_together() -> None:
    recording = conformance.open_recording(OLD)
    assert "50 named scenarios, 800 random scripts, 47,368 steps" in conformance_page.page([recording, recording])


def test_the_page_says_what_each_kernel_s_rules_are() -> None:
    """Every field of every version is there, with words of its own and not the field's bare name."""
    text = conformance_page.page()
    table = text[text.index("## Differences between kernels") :].split("\n\n")[2]
    header, _, *rows = table.splitlines()
    assert header == f"| | {' | '.join(VERSIONS)} |"
    assert len(rows) == len(dataclasses.fields(KernelVersion)) - 1
    assert "| The flags that HWPT_ALLOC accepts for a nested table | FAULT_ID_VALID | FAULT_ID_VALID, PASID |" in rows
    assert len({row.split(" | ")[0] for row in rows}) == len(rows)
    assert all(len(row.split(" | ")[0]) > 20 for row in rows)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (False, "no"),
        (HwptAllocFlags(0), "none"),
        (HwptAllocFlags.PASID | HwptAllocFlags.NEST_PARENT, "NEST_PARENT, PASID"),
        (frozenset({"b", "a"}), "a, b"),
        ((), "none"),
        (None, "none"),
        (12, "12"),
    ],
    ids=str,
)
def test_a_kernel_s_rule_in_words(value: object, text: str) -> None:
    assert conformance_page._value(value) == text


def test_a_bar_stays_within_its_cell() -> None:
    assert conformance_page._table(["a", "b"], [["x | y", ""]]) == "| a | b |\n| --- | --- |\n| x \\| y | |"


TESTS = {
    name
    for path in (ROOT / "tests").glob("test_*.py")
    for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
} | {
    f"{path.name}: {name}"
    for path in (ROOT / "tests" / "c").glob("*.c")
    for name in re.findall(r"^static void (\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
}


def test_the_tests_that_are_named_exist() -> None:
    named = [row.test for section in SECTIONS for row in section.rows if row.test] + [row.test for row in BY_HAND]
    assert set(named) <= TESTS
    # One that runs all C programs shows nothing by its name.
    assert "test_a_c_program_runs_without_a_complaint" not in named


def test_no_difference_is_listed_twice() -> None:
    rows = Counter(row.difference for section in SECTIONS for row in section.rows)
    assert [name for name, times in rows.items() if times > 1] == []


def test_what_is_tested_by_hand_is_in_no_recording() -> None:
    coverage = Coverage()
    coverage.add_all([*load(OLD), *load(NEW)])
    assert [one for one in BY_HAND if coverage.operations[one.operation][one.errno]] == []
