"""The emulated iommufd does, step by step, what Linux 6.12 was recorded doing."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uring_iopf.testing.golden import Script, load, replay

SCRIPTS = load(Path(__file__).parent / "data" / "golden" / "iommufd-6.12.jsonl.gz")
NAMED = {script.name: script for script in SCRIPTS if not script.name.startswith("random-")}


def test_the_recording_is_whole() -> None:
    assert len(NAMED) == 25
    assert len(SCRIPTS) == 425
    assert sum(len(script.steps) for script in SCRIPTS) == 23_684


@pytest.mark.parametrize("script", NAMED.values(), ids=NAMED)
def test_a_named_scenario_goes_as_recorded(script: Script) -> None:
    assert [str(difference) for difference in replay(script)] == []


def test_random_scripts_go_as_recorded() -> None:
    differences = [difference for script in SCRIPTS if script.name not in NAMED for difference in replay(script)]
    scripts = {difference.script for difference in differences}
    assert not differences, f"in {len(scripts)} scripts, first:\n" + "\n".join(map(str, differences[:10]))


# ---- the check itself can fail ----

Steps = list[dict[str, Any]]


def first(steps: Steps, verb: str, having: str) -> int:
    return next(i for i, step in enumerate(steps) if step["op"][0] == verb and step.get(having))


def set_to(verb: str, name: str, value: object) -> Callable[[Steps], tuple[int, str]]:
    """Change what the first such step recorded; say where a difference must be seen."""

    def change(steps: Steps) -> tuple[int, str]:
        index = next(i for i, step in enumerate(steps) if step["op"][0] == verb)
        assert steps[index].get(name) != value
        steps[index][name] = value
        return index, name

    return change


def message(name: str, value: object) -> Callable[[Steps], tuple[int, str]]:
    def change(steps: Steps) -> tuple[int, str]:
        index = first(steps, "read", "msgs")
        assert steps[index]["msgs"][0][name] != value
        steps[index]["msgs"][0][name] = value
        return index, "msgs"

    return change


def event(verb: str, edit: Callable[[list[dict[str, Any]]], object]) -> Callable[[Steps], tuple[int, str]]:
    def change(steps: Steps) -> tuple[int, str]:
        index = first(steps, verb, "hw")
        edit(steps[index]["hw"])
        return index, "hw"

    return change


def without(verb: str, name: str) -> Callable[[Steps], tuple[int, str]]:
    def change(steps: Steps) -> tuple[int, str]:
        index = first(steps, verb, name)
        del steps[index][name]
        return index, name

    return change


ROUND_TRIP, CLOSED, DETACHED, ERRORS, COOKIES = (
    "single-fault-round-trip",
    "close-the-context-with-faults-outstanding",
    "detach-answers-what-is-outstanding",
    "allocation-errors",
    "cookies-are-reused-lowest-first",
)

CHANGES: dict[str, tuple[str, Callable[[Steps], tuple[int, str]]]] = {
    "a return value": (ROUND_TRIP, set_to("write", "ret", 16)),
    "an errno": (ERRORS, set_to("nested", "errno", "EINVAL")),
    "an id": (ROUND_TRIP, set_to("hwpt", "id", 8)),
    "a mock device's own id": (ROUND_TRIP, set_to("dev", "stdev", 3)),
    "a table that was made for a device": (ROUND_TRIP, set_to("dev", "hwpt", 3)),
    "a table that was attached": (ROUND_TRIP, set_to("replace", "pt", 6)),
    "what poll says": (ROUND_TRIP, set_to("poll", "revents", 5)),
    "bytes passed to write": (ROUND_TRIP, set_to("write", "count", 12)),
    "a cookie passed to write": (COOKIES, set_to("write", "responses", [[3, 0]])),
    "a message's flags": (ROUND_TRIP, message("flags", 2)),
    "a message's device": (ROUND_TRIP, message("dev", "d1")),
    "a message's pasid": (ROUND_TRIP, message("pasid", 2)),
    "a message's group": (ROUND_TRIP, message("grpid", 3)),
    "a message's permissions": (ROUND_TRIP, message("perm", 1)),
    "a message's address": (ROUND_TRIP, message("addr", 0)),
    "a message's length": (ROUND_TRIP, message("length", 4096)),
    "a message's cookie": (ROUND_TRIP, message("cookie", 2)),
    "no messages": (ROUND_TRIP, without("read", "msgs")),
    "a response's code": (ROUND_TRIP, event("write", lambda hw: hw[0].update(code=1))),
    "a report's result": (ROUND_TRIP, event("pri", lambda hw: hw[0].update(ret=-22))),
    "a response less": (DETACHED, event("detach", lambda hw: hw.pop())),
    "a response more": (DETACHED, event("detach", lambda hw: hw.append(hw[0]))),
    "two responses in another order": (DETACHED, event("detach", lambda hw: hw.reverse())),
    "a response less at the end": (CLOSED, event("end", lambda hw: hw.pop())),
    "a response twice at the end": (CLOSED, event("end", lambda hw: hw.append(hw[0]))),
}


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=CHANGES)
def test_a_changed_expectation_is_noticed(name: str, change: Callable[[Steps], tuple[int, str]]) -> None:
    steps = copy.deepcopy([dict(step) for step in NAMED[name].steps])
    where = change(steps)
    seen = list(replay(Script(name, steps)))
    assert where in [(difference.step, difference.field) for difference in seen]
    assert all(difference.script == name for difference in seen)


def test_the_order_of_responses_at_the_end_does_not_matter() -> None:
    steps = copy.deepcopy([dict(step) for step in NAMED[CLOSED].steps])
    steps[-1]["hw"].reverse()
    assert list(replay(Script(CLOSED, steps))) == []


@pytest.mark.parametrize(
    "op",
    [
        ["pattach", "d0", "1", "n0"],
        ["viommu", "v0", "d0", "p0"],
        ["devf", "d1", "a0", "4"],
        ["readev", "e0", "12"],
        ["nonsense"],
        ["pri", "d0", "1", "2", "3", "0x1000", "middle"],
        ["read", "f0"],
        ["read", "f0", "forty"],
        ["write", "f0", "o0:0"],
        ["end", "now"],
    ],
    ids=" ".join,
)
def test_an_operation_that_cannot_be_replayed_is_a_difference(op: list[str]) -> None:
    steps = [*NAMED[ROUND_TRIP].steps[:6], {"op": op, "ret": 0, "errno": "0", "hw": []}]
    (difference,) = replay(Script("made-up", steps))
    assert (difference.step, difference.field) == (6, "op")
    assert "not supported" in str(difference)
