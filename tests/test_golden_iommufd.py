"""The emulated iommufd does, step by step, what Linux 6.12 and 7.2 were recorded doing."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uring_iopf.conformance.golden import Script, kernel_of, load, replay
from uring_iopf.conformance.recording import OPERATIONS

FILES = sorted((Path(__file__).parent / "data" / "golden").glob("iommufd-*.jsonl.gz"))
RECORDED = {str(kernel_of(file)): load(file) for file in FILES}
NAMED = {
    kernel: {script.name: script for script in scripts if not script.name.startswith("random-")}
    for kernel, scripts in RECORDED.items()
}
SCENARIOS = [(kernel, script) for kernel, scripts in NAMED.items() for script in scripts.values()]
OF_6_12 = NAMED["6.12"]


@pytest.mark.parametrize(("kernel", "named", "scripts", "steps"), [("6.12", 25, 425, 23_684), ("7.2", 32, 732, 43_677)])
def test_the_recording_is_whole(kernel: str, named: int, scripts: int, steps: int) -> None:
    assert len(NAMED[kernel]) == named
    assert len(RECORDED[kernel]) == scripts
    assert sum(len(script.steps) for script in RECORDED[kernel]) == steps


def test_every_operation_of_the_format_is_recorded() -> None:
    used = {step["op"][0] for scripts in RECORDED.values() for script in scripts for step in script.steps}
    assert used == set(OPERATIONS)


@pytest.mark.parametrize(
    ("kernel", "script"), SCENARIOS, ids=[f"{kernel}-{script.name}" for kernel, script in SCENARIOS]
)
def test_a_named_scenario_goes_as_recorded(kernel: str, script: Script) -> None:
    assert [str(difference) for difference in replay(script, kernel=kernel)] == []


@pytest.mark.parametrize("kernel", RECORDED)
def test_random_scripts_go_as_recorded(kernel: str) -> None:
    scripts = [script for script in RECORDED[kernel] if script.name not in NAMED[kernel]]
    differences = [difference for script in scripts for difference in replay(script, kernel=kernel)]
    names = {difference.script for difference in differences}
    assert not differences, f"in {len(names)} scripts, first:\n" + "\n".join(map(str, differences[:10]))


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

EVENTS, PASIDS = "veventq-basic-sequence", "pasid-attach-routes-faults"


def virtual_event(name: str, value: object, which: int = 0) -> Callable[[Steps], tuple[int, str]]:
    """Change one of the events of the first read that returned some, or of a later one."""

    def change(steps: Steps) -> tuple[int, str]:
        index = [i for i, step in enumerate(steps) if step.get("vevents")][which]
        assert steps[index]["vevents"][0].get(name) != value
        steps[index]["vevents"][0][name] = value
        return index, "vevents"

    return change


CHANGES_7_2: dict[str, tuple[str, Callable[[Steps], tuple[int, str]]]] = {
    "a device with PASIDs": (PASIDS, set_to("devf", "hwpt", 5)),
    "a table attached to a PASID": (PASIDS, event("preplace", lambda hw: hw.clear())),
    "a PASID that was refused": (PASIDS, set_to("pattach", "errno", "EBUSY")),
    "a table that a PASID was moved to": (PASIDS, set_to("preplace", "pt", 8)),
    "a PASID's answers when it is detached": (PASIDS, event("pdetach", lambda hw: hw[0].update(pasid=7))),
    "a virtual IOMMU's id": (EVENTS, set_to("viommu", "id", 9)),
    "a virtual device's id": (EVENTS, set_to("vdevice", "id", 9)),
    "an event queue's id": (EVENTS, set_to("veventq", "id", 9)),
    "an event that was refused": ("veventq-errors", set_to("vevent", "errno", "EINVAL")),
    "a write to an event queue": ("veventq-errors", set_to("writeev", "errno", "EBADF")),
    "a virtual event's number": (EVENTS, virtual_event("sequence", 1)),
    "a virtual event's device": (EVENTS, virtual_event("virt_id", 1)),
    "a virtual event's flags": (EVENTS, virtual_event("flags", 1)),
    "a lost event's number": (EVENTS, virtual_event("sequence", 7, which=3)),
    "a lost event with a device": (EVENTS, virtual_event("virt_id", 1, which=3)),
    "no virtual events": (EVENTS, without("readev", "vevents")),
}
CASES = {name: ("6.12", *case) for name, case in CHANGES.items()} | {
    name: ("7.2", *case) for name, case in CHANGES_7_2.items()
}


@pytest.mark.parametrize(("kernel", "name", "change"), CASES.values(), ids=CASES)
def test_a_changed_expectation_is_noticed(kernel: str, name: str, change: Callable[[Steps], tuple[int, str]]) -> None:
    steps = copy.deepcopy([dict(step) for step in NAMED[kernel][name].steps])
    where = change(steps)
    seen = list(replay(Script(name, steps), kernel=kernel))
    assert where in [(difference.step, difference.field) for difference in seen]
    assert all(difference.script == name for difference in seen)


def test_the_order_of_responses_at_the_end_does_not_matter() -> None:
    steps = copy.deepcopy([dict(step) for step in OF_6_12[CLOSED].steps])
    steps[-1]["hw"].reverse()
    assert list(replay(Script(CLOSED, steps), kernel="6.12")) == []


@pytest.mark.parametrize(
    "op",
    [
        ["nonsense"],
        ["pri", "d0", "1", "2", "3", "0x1000", "middle"],
        ["read", "f0"],
        ["read", "f0", "forty"],
        ["read", "f0", "-40", "-40"],
        ["pri", "d0", "1", "2", "3", "0x10000000000000000", "last"],
        ["write", "f0", "o0:0"],
        ["end", "now"],
    ],
    ids=" ".join,
)
def test_an_operation_that_cannot_be_replayed_is_a_difference(op: list[str]) -> None:
    """In a script that was made by a program: files are checked when they are loaded."""
    steps = [*OF_6_12[ROUND_TRIP].steps[:6], {"op": op, "ret": 0, "errno": "0", "hw": []}]
    (difference,) = replay(Script("made-up", steps), kernel="6.12")
    assert (difference.step, difference.field) == (6, "op")
    assert "not supported" in str(difference)
