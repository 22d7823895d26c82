"""What a machine is made of: defaults, limits, and that every place which has a copy of them says the same."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import pytest

from uring_iopf import Load, LoadMode, Machine, UsageError
from uring_iopf.core import Driver
from uring_iopf.designs.channel import Wait
from uring_iopf.hardware.endpoint import GROUP_INDICES
from uring_iopf.iommufd import DEFAULT_KERNEL
from uring_iopf.machine_parts import DRIVERS, MOST_IN_FLIGHT, WAITS, MachineOptions, MachineParts
from uring_iopf.testing.compare import compare_designs
from uring_iopf.workloads import load_workload

ROOT = Path(__file__).resolve().parent.parent
FIELDS = {field.name: field for field in dataclasses.fields(MachineParts)}


def test_the_parts_agree_with_the_layers_that_use_them() -> None:
    assert {driver.name.lower() for driver in Driver} == set(DRIVERS)
    assert {wait.name.lower() for wait in Wait} == set(WAITS)
    assert MOST_IN_FLIGHT == GROUP_INDICES
    assert FIELDS["kernel"].default == DEFAULT_KERNEL


def test_the_options_are_the_parts_besides_the_workload() -> None:
    assert [*MachineOptions.__annotations__] == [name for name in FIELDS if name != "workload"]
    types = typing.get_type_hints(MachineOptions, localns={"Load": Load})
    for name, kind in types.items():
        assert FIELDS[name].type == str(kind).replace("uring_iopf.hardware.load.", "").removeprefix(
            "<class '"
        ).removesuffix("'>"), name


def test_the_page_on_names_has_every_part_with_its_default() -> None:
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    for name, field in FIELDS.items():
        if field.default is None:  # in words, or of the machine alone
            assert said[name]
        else:
            assert said[name] == (f'`"{field.default}"`' if isinstance(field.default, str) else str(field.default)), (
                name
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"driver": "thread"}, "driver is one of inline, enter, sqpoll; not 'thread'"),
        ({"wait": "nap"}, "wait is one of spin, sleep; not 'nap'"),
        ({"in_flight": 0}, "in_flight is 1 to 512, the group indices of a function; not 0"),
        ({"in_flight": 513}, "in_flight is 1 to 512, the group indices of a function; not 513"),
        ({"group": 0}, "group is 1 to 32 pages, not 0"),
        ({"group": 33}, "group is 1 to 32 pages, not 33"),
    ],
)
def test_a_part_that_cannot_be_is_refused_before_anything_is_made(options: MachineOptions, message: str) -> None:
    for make in (lambda: MachineParts(**options), lambda: Machine(None, **options)):
        with pytest.raises(UsageError, match=re.escape(message)):
            make()


def test_a_machine_says_what_it_was_made_of() -> None:
    parts = MachineParts.of(None, driver="inline", in_flight=8, group=2, seed=5)
    with Machine(parts, in_flight=4) as machine:
        assert machine.parts == dataclasses.replace(parts, in_flight=4)
        assert (machine.in_flight, machine.group, machine.driver, machine.live) == (4, 2, Driver.INLINE, False)
        assert machine.load == Load(LoadMode.CLOSED, in_flight=4, group=2, seed=5)


def test_a_workload_is_found_by_its_name() -> None:
    assert MachineParts.of().workload == load_workload("gcc-compile")
    with pytest.raises(UsageError, match="no workload 'nosuch'"):
        MachineParts.of("nosuch")


def test_a_comparison_in_a_test_takes_every_part_but_another_driver() -> None:
    with pytest.raises(UsageError, match="runs inline"):
        compare_designs(["fd"], driver="sqpoll")
    (result,) = compare_designs(["fd"], in_flight=8, group=2, wait="spin").values()
    assert (result.in_flight, result.group, result.wait) == (8, 2, "spin")
