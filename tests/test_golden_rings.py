"""Rings on the fault file do, step by step, what Linux 6.12 and 7.2 were recorded doing.

The recordings are of three fault files: Linux's own (`merged`), and Linux's with a patch that makes reads wait, whose
wake-ups say POLLIN (`keyed`) or nothing (`unkeyed`).
"""

from __future__ import annotations

import copy
import functools
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uring_iopf.conformance.command import Recording, golden, open_recording
from uring_iopf.conformance.golden import Script, load, outcome_of, replay
from uring_iopf.conformance.known_scripts import CAUSES, KNOWN_SCRIPTS, known_of
from uring_iopf.conformance.recording import RING_OPERATIONS, RecordingError, operation_of
from uring_iopf.conformance.worker_times import WorkerTimes

GOLDEN = Path(__file__).parent / "data" / "golden"
OLD, NEW, KEYED, UNKEYED = (
    str(GOLDEN / f"rings-on-a-{name}.jsonl.gz")
    for name in ("merged-fault-file-6.12", "merged-fault-file-7.2", "fault-file", "fault-file-unkeyed")
)
FILES = {("6.12", "merged"): OLD, ("7.2", "merged"): NEW, ("7.2", "keyed"): KEYED, ("7.2", "unkeyed"): UNKEYED}
MOST_LISTED = 0.05
"""Of the scripts of a file, and of all."""

Steps = list[dict[str, Any]]


@functools.cache
def recording_of(file: str) -> Recording:
    return open_recording(file)


@functools.cache
def scripts_of(file: str) -> dict[str, Script]:
    return {script.name: script for script in recording_of(file).scripts}


@pytest.mark.parametrize(
    ("file", "label", "scripts", "named", "steps", "not_compared", "values", "later_workers"),
    [
        (OLD, "Linux 6.12, merged fault file", 195, 135, 14_301, 7, 53_505, 0),
        (NEW, "Linux 7.2, merged fault file", 195, 135, 14_301, 17, 47_735, 19),
        (KEYED, "Linux 7.2, keyed fault file", 218, 138, 16_203, 10, 55_596, 0),
        (UNKEYED, "Linux 7.2, unkeyed fault file", 218, 138, 16_203, 0, 62_985, 2),
    ],
    ids=["6.12-merged", "7.2-merged", "7.2-keyed", "7.2-unkeyed"],
)
def test_rings_on_a_fault_file_go_as_recorded(
    file: str, label: str, scripts: int, named: int, steps: int, not_compared: int, values: int, later_workers: int
) -> None:
    """The numbers say that nothing is passed over in silence."""
    recording = recording_of(file)
    recording.replay(lambda: None)
    assert [str(difference) for difference in recording.differences][:20] == []
    coverage = recording.coverage
    assert (recording.label, coverage.scripts, coverage.named, coverage.steps) == (label, scripts, named, steps)
    assert (coverage.not_compared, coverage.values, recording.later_workers) == (not_compared, values, later_workers)
    (key,) = {(script.kernel, script.fault_file) for script in recording.scripts}
    assert recording.listed == len(KNOWN_SCRIPTS.get((str(key[0]), str(key[1])), {}))


def test_every_operation_of_rings_is_recorded() -> None:
    used = {
        operation_of(step["op"]) for file in FILES.values() for one in scripts_of(file).values() for step in one.steps
    }
    assert used >= set(RING_OPERATIONS)


# ---- what is listed ----


def test_what_is_listed_is_in_a_recording_and_has_a_cause() -> None:
    for key, known in KNOWN_SCRIPTS.items():
        there = scripts_of(FILES[key])
        assert {one.cause for one in known.values()} <= CAUSES.keys()
        assert not [name for name in known if name not in there or there[name].varies]
    assert {one.cause for known in KNOWN_SCRIPTS.values() for one in known.values()} == CAUSES.keys()


def test_few_scripts_are_listed() -> None:
    """Of each recording and of all together."""
    scripts = {key: len(scripts_of(file)) for key, file in FILES.items()}
    listed = {key: len(KNOWN_SCRIPTS.get(key, {})) for key in FILES}
    assert KNOWN_SCRIPTS.keys() <= FILES.keys()
    assert {key: count for key, count in listed.items() if count > MOST_LISTED * scripts[key]} == {}
    assert sum(listed.values()) <= MOST_LISTED * sum(scripts.values())


def first_listed() -> Script:
    key, known = next((key, known) for key, known in KNOWN_SCRIPTS.items() if known)
    return scripts_of(FILES[key])[next(iter(known))]


def as_the_emulator_does(script: Script) -> Script:
    """The script with the recorded values replaced, where they differ, by the emulator's."""
    steps = copy.deepcopy([dict(step) for step in script.steps])
    for difference in replay(script):
        steps[difference.step][difference.field] = difference.got
    return Script(script.name, steps, script.kernel, script.fault_file)


def test_a_listed_difference_that_has_gone_is_noticed() -> None:
    script = first_listed()
    recording = Recording("gone", str(script.kernel), [as_the_emulator_does(script)])
    recording.replay(lambda: None)
    (difference,) = recording.differences
    assert (difference.field, difference.got, recording.listed) == ("listed", "0", 0)


def test_a_listed_script_that_differs_otherwise_is_noticed() -> None:
    script = first_listed()
    steps = copy.deepcopy([dict(step) for step in script.steps])
    steps[0]["id"] = 77
    recording = Recording("other", str(script.kernel), [Script(script.name, steps, script.kernel, script.fault_file)])
    recording.replay(lambda: None)
    known = known_of(script)
    assert known is not None
    assert len(recording.differences) == known.values + 2  # with the new one, and that the list is wrong
    assert recording.differences[-1].field == "listed"


# ---- the check itself can fail ----

ROUND_TRIP, MULTISHOT, OVERFLOW, RACE = (
    "a-read-posted-ahead-waits-for-a-fault,flags=0x3000",
    "multishot-round-trips,flags=0x3000",
    "cq-overflow-by-a-multishot,flags=0x3000",
    "multishot-runs-out-of-buffers,flags=0x3000",
)


def edit(verb: str, field: str, change: Callable[[Any], object]) -> Callable[[Steps], tuple[int, str]]:
    """Change a value of the first such step that has one; say where a difference must be seen."""

    def changed(steps: Steps) -> tuple[int, str]:
        index = next(i for i, step in enumerate(steps) if operation_of(step["op"]) == verb and step.get(field))
        steps[index][field] = change(steps[index][field])
        return index, field

    return changed


def cqe(key: str, value: object) -> Callable[[Any], object]:
    def change(cqes: Any) -> object:
        assert cqes[0][key] != value
        return [cqes[0] | {key: value}, *cqes[1:]]

    return change


CHANGES: dict[str, tuple[str, Callable[[Steps], tuple[int, str]]]] = {
    "the size of a CQ": (ROUND_TRIP, edit("ring", "cq", lambda _: 8)),
    "what enter returns": (ROUND_TRIP, edit("enter", "ret", lambda _: 2)),
    "whose completion it is": (ROUND_TRIP, edit("reap", "cqes", cqe("ud", 9))),
    "a result": (ROUND_TRIP, edit("reap", "cqes", cqe("res", 80))),
    "a completion's flags": (MULTISHOT, edit("reap", "cqes", cqe("flags", 1))),
    "a completion without its message": (ROUND_TRIP, edit("reap", "cqes", lambda all_: [all_[0] | {"msgs": []}])),
    "a completion less": (ROUND_TRIP, edit("reap", "cqes", lambda all_: all_[1:])),
    "a completion more": (ROUND_TRIP, edit("reap", "cqes", lambda all_: [*all_, all_[0]])),
    "the flags word": (OVERFLOW, edit("reap", "sq_flags", lambda _: 4)),
    "a response": (ROUND_TRIP, edit("enter", "hw", lambda _: [])),
    "the bytes that a write holds": (ROUND_TRIP, edit("sqe write", "count", lambda _: 16)),
}


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=CHANGES)
def test_a_changed_expectation_is_noticed(name: str, change: Callable[[Steps], tuple[int, str]]) -> None:
    script = scripts_of(KEYED)[name]
    assert list(replay(script)) == []
    steps = copy.deepcopy([dict(step) for step in script.steps])
    where = change(steps)
    seen = list(replay(Script(name, steps, script.kernel, script.fault_file)))
    assert where in [(difference.step, difference.field) for difference in seen]


@pytest.mark.parametrize(("kernel", "file"), [("6.12", "keyed"), ("7.2", "merged"), ("7.2", "unkeyed")])
def test_another_fault_file_is_another_outcome(kernel: str, file: str) -> None:
    """What is recorded with one file does not come out with the rules of another."""
    scripts = [script for script in scripts_of(KEYED).values() if not script.varies]
    other = [Script(script.name, script.steps, kernel, file) for script in scripts]
    assert any(list(replay(script)) for script in other)


def test_a_script_that_varies_is_counted_and_not_compared() -> None:
    script = scripts_of(KEYED)[ROUND_TRIP]
    steps = copy.deepcopy([dict(step) for step in script.steps])
    steps[0]["id"] = 77
    recording = Recording("varies", "7.2", [Script(script.name, steps, script.kernel, script.fault_file, varies=True)])
    recording.replay(lambda: None)
    assert recording.differences == []
    assert (recording.coverage.scripts, recording.coverage.not_compared, recording.coverage.values) == (1, 1, 0)


# ---- worker threads that run later ----

LATE = "several-reads-posted-ahead,flags=0,nonblock=False"


def test_a_worker_that_runs_later_is_no_difference() -> None:
    outcome = outcome_of(scripts_of(NEW)[LATE])
    assert (outcome.differences, outcome.later_workers) == ((), True)
    assert not outcome_of(scripts_of(OLD)[LATE]).later_workers


@pytest.mark.parametrize(
    "change",
    [
        edit("reap", "cqes", cqe("res", 80)),
        edit("reap", "cqes", cqe("ud", 9)),
        edit("reap", "cqes", lambda all_: all_[1:]),
        edit("reap", "cqes", lambda all_: all_[::-1]),
        edit("end", "hw", lambda all_: all_[1:]),
    ],
    ids=["a result", "whose it is", "one less", "the order", "a response"],
)
def test_a_change_is_noticed_whenever_workers_run(change: Callable[[Steps], tuple[int, str]]) -> None:
    script = scripts_of(NEW)[LATE]
    steps = copy.deepcopy([dict(step) for step in script.steps])
    where = change(steps)
    outcome = outcome_of(Script(LATE, steps, script.kernel, script.fault_file))
    assert where in [(difference.step, difference.field) for difference in outcome.differences]


def test_times_of_workers_are_tried_one_after_another() -> None:
    """First all run later and later. Then all, none or one run at each moment; the last moment is changed first."""
    times, seen = WorkerTimes(), []
    while True:
        seen.append((times.choose(1), times.choose(2)))
        if not times.advance():
            break
    assert seen == [(1, 2), (0, 2), (0, 0), (1, 0), (1, 1), (0, 2), (0, 0), (0, 1)]


# ---- the command ----


def lines_with(file: str, *names: str) -> bytes:
    with gzip.open(file) as lines:
        return b"".join(line for line in lines if json.loads(line)["name"] in names)


def test_the_command_counts_rings_in(tmp_path: Path) -> None:
    """Kernel and fault file are each script's own, whatever the name of the file."""
    file, out = tmp_path / "mine.jsonl", io.StringIO()
    file.write_bytes(lines_with(OLD, ROUND_TRIP, MULTISHOT) + lines_with(UNKEYED, ROUND_TRIP, MULTISHOT))
    assert golden([str(file)], kernel=None, out=out, json_file=None) == 0
    lines = out.getvalue().splitlines()
    steps = sum(len(scripts_of(of)[name].steps) for of in (OLD, UNKEYED) for name in (ROUND_TRIP, MULTISHOT))
    label = "Linux 6.12 and 7.2, merged fault file, unkeyed fault file"
    assert lines[0] == f"{file}, {label}: 4 scripts (4 named), {steps} steps"
    assert lines[-1] == f"scripts 4 steps {steps} differences 0"
    table = {row[:16].strip(): row[16:].split() for row in lines if row.startswith("  ")}
    assert table["sqe mshot"] == ["2", "0:", "2"]
    assert table["completion"][1] == "0:"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"kernel": 7}, "expected a version as kernel, found 7"),
        ({"fault_file": "mine"}, "expected one of merged, keyed, unkeyed as fault_file, found 'mine'"),
        ({"varies": 1}, "expected true or false as varies, found 1"),
        ({"more": 1}, "expected keys name and steps, or also kernel and fault_file"),
        (
            {"steps": [{"op": ["sqe", "r0", "accept"], "ret": 0, "errno": "0", "hw": []}]},
            "expected an operation of the",
        ),
        ({"steps": [{"op": ["sqe"], "ret": 0, "errno": "0", "hw": []}]}, "expected an operation of the format"),
        ({"steps": [{"op": ["reap", "r0"], "ret": 0, "errno": "0", "hw": [], "cqes": 5}]}, "expected a list as cqes"),
        (
            {"steps": [{"op": ["reap", "r0"], "ret": 0, "errno": "0", "hw": [], "cqes": [{"ud": 1}]}]},
            "a completion with",
        ),
        (
            {
                "steps": [
                    {
                        "op": ["reap", "r0"],
                        "ret": 0,
                        "errno": "0",
                        "hw": [],
                        "cqes": [{"ud": "1", "res": 0, "flags": 0}],
                    }
                ]
            },
            "numbers in a completion",
        ),
        ({"steps": [{"op": ["nonblock", "f0", "2"], "ret": 0, "errno": "0", "hw": []}]}, "which01 as operand 2"),
    ],
    ids=["kernel", "fault file", "varies", "key", "sqe", "bare sqe", "cqes", "half a cqe", "a cqe in words", "flag"],
)
def test_a_broken_script_with_rings_is_refused(change: dict[str, object], what: str, tmp_path: Path) -> None:
    script = {"name": "x", "kernel": "7.2", "fault_file": "keyed", "steps": []} | change
    file = tmp_path / "rings.jsonl"
    file.write_text(json.dumps(script))
    with pytest.raises(RecordingError) as caught:
        load(file)
    assert what in str(caught.value)


def test_a_script_for_another_kernel_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rings-7.2.jsonl"
    file.write_text(json.dumps({"name": "x", "kernel": "6.13", "fault_file": "keyed", "steps": []}))
    with pytest.raises(RecordingError, match=r"kernel 6\.13 is not emulated"):
        open_recording(str(file))
