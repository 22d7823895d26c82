"""What a machine is made of: defaults, limits, and that every place which has a copy of them says the same."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from uring_iopf import Load, LoadMode, Machine, UsageError
from uring_iopf.commands.main import build_parser
from uring_iopf.core import DEFAULT_KERNEL, Driver
from uring_iopf.designs.channel import Wait
from uring_iopf.hardware.endpoint import GROUP_INDICES
from uring_iopf.iommufd import VERSIONS, QueueLimits
from uring_iopf.machine_parts import (
    DRIVERS,
    KERNELS,
    MOST_IN_FLIGHT,
    QUEUES,
    WAITS,
    FunctionParts,
    MachineOptions,
    MachineParts,
    QueueKey,
)
from uring_iopf.testing.compare import compare_designs
from uring_iopf.workloads import Workload, load_workload

if typing.TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
FIELDS = {field.name: field for field in dataclasses.fields(MachineParts)}


def test_the_parts_agree_with_the_layers_that_use_them() -> None:
    assert {driver.name.lower() for driver in Driver} == set(DRIVERS)
    assert {wait.name.lower() for wait in Wait} == set(WAITS)
    assert MOST_IN_FLIGHT == GROUP_INDICES
    assert FIELDS["kernel"].default == DEFAULT_KERNEL
    assert set(KERNELS) == set(VERSIONS)


def test_the_options_are_the_parts_besides_the_workload() -> None:
    assert [*MachineOptions.__annotations__] == [name for name in FIELDS if name != "workload"]
    for name, kind in MachineOptions.__annotations__.items():
        assert FIELDS[name].type == kind.__forward_arg__, name


def test_the_commands_have_the_same_defaults_or_the_page_says_why_not() -> None:
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    for command, others in (("serve", ("in_flight",)), ("compare", ("driver", "wait", "in_flight"))):
        arguments = vars(build_parser().parse_args([command, *(["--socket", "s"] if command == "serve" else [])]))
        for name in FIELDS.keys() & arguments.keys() - {"workload", "load"}:
            default = FIELDS[name].default
            assert (arguments[name] == default) is (name not in others), f"{command} --{name}"
        (row,) = re.findall(rf"^\| `uring-iopf {command}` \| (.*?) \|", page, re.MULTILINE)
        for name in others:
            assert f"--{name.replace('_', '-')}" in row


def test_the_page_on_names_has_every_part_with_its_default() -> None:
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    for name, field in FIELDS.items():
        if field.default in (None, ()):  # in words, or of the machine alone
            assert said[name]
        else:
            assert said[name] == (f'`"{field.default}"`' if isinstance(field.default, str) else str(field.default)), (
                name
            )


WRONG = (None, "x", -1, 2**63, 2**64, 1.5, math.nan, math.inf, b"x", object())
"""For a field of any type, most of these are wrong."""
TAKEN: dict[type, dict[str, tuple[object, ...]]] = {
    MachineParts: {
        "workload": (None,),
        "seed": (2**63,),
        "load": (None,),
        "live": (None,),
        "cpu": (-1,),
        "limits": (None,),
        "fault_file": ("keyed", "unkeyed"),
        "iommu": ("vtd",),
        "drains": (),
        "stage2": (None,),
        "known_by": (None,),
        "pasid_table": (None,),
        "table_pages": (None,),
    },
    FunctionParts: {
        "name": ("x",),
        "requester_id": (None,),
        "workload": (None,),
        "load": (None,),
        "device_group": (None, "x"),
        "credits": (None,),
        "stalls": (None,),
    },
    Load: {
        "in_flight": (None,),
        "group": (None,),
        "speed": (2**63, 2**64, 1.5),
        "rate": (2**63, 2**64, 1.5),
        "seed": (None, 2**63),
    },
    QueueLimits: {"depth": (None,), "timeout_ns": (None,)},
}
"""Which of them are right, by field."""


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        pytest.param(kind, field.name, value, id=f"{kind.__name__}.{field.name}-{value!r:.12}")
        for kind, right in TAKEN.items()
        for field in dataclasses.fields(kind)
        for value in WRONG
        if value not in right.get(field.name, ())
    ],
)
def test_a_field_that_cannot_be_is_refused_when_it_is_given_by_its_name(kind: type, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"^{name}\b"):
        kind(**{name: value})
    if kind is MachineParts and name != "workload":
        with pytest.raises(UsageError, match=rf"^{name}\b"):
            Machine(None, **{name: value})  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=rf"^{name}\b"):
            MachineParts().with_options(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, right in TAKEN.items() for name in right])
def test_what_a_field_takes_is_taken(kind: type, name: str) -> None:
    for value in TAKEN[kind][name]:
        assert getattr(kind(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MachineParts(driver="thread"), "driver must be one of inline, enter, sqpoll; not 'thread'"),
        (lambda: MachineParts(fault_file="merged"), "fault_file must be one of keyed, unkeyed; not 'merged'"),
        (lambda: MachineParts(in_flight=0), "in_flight must be 1 to 512, the group indices of a function, not 0"),
        (lambda: MachineParts(in_flight=513), "in_flight must be 1 to 512, the group indices of a function, not 513"),
        (lambda: MachineParts(group=33), "group must be 1 to 32 pages, not 33"),
        (lambda: MachineParts(cpu=1024), "cpu must be -1 to 1023"),
        (lambda: MachineParts(report_flags=2**32), "report_flags must be 0 to 2^32 - 1, not"),
        (lambda: MachineParts(pasid_table=0), "pasid_table must be 1 to 1048576"),
        (lambda: MachineParts(pasid_table=2**20 + 1), "pasid_table must be 1 to 1048576"),
        (lambda: MachineParts(table_pages=2**20 + 1), "table_pages must be 1 to 1048576"),
        (lambda: FunctionParts(requester_id=2**16), "requester_id must be 0 to 2^16 - 1, not"),
        (lambda: FunctionParts(credits=0), "credits must be 1 to 16384"),
        (lambda: FunctionParts(credits=16385), "credits must be 1 to 16384"),
        (lambda: FunctionParts(pasids=(0,)), "each of pasids must be 1 to 1048575, not 0"),
        (lambda: FunctionParts(pasids=(2**20,)), "each of pasids must be 1 to 1048575, not 1048576"),
        (lambda: FunctionParts(pasids=(3, 3)), "pasids must have each PASID once"),
        (lambda: FunctionParts(name=""), "name must be a string that is not empty"),
        (lambda: MachineParts(functions=(1,)), "functions must have FunctionParts only, not 1"),  # type: ignore[arg-type]
        (lambda: MachineParts().with_options(credits=3), "a machine has no option 'credits'"),  # type: ignore[call-arg]
        (lambda: Machine(None, credits=3), "a machine has no option 'credits'"),  # type: ignore[call-arg]
    ],
)
def test_limits_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        make()


# ---- what contradicts itself ----

BIG = Workload.from_faults([(0, n << 30, 70, 1) for n in range(700)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_flight": 256, "load": Load(in_flight=16)}, "in_flight is 256 for the machine, but 16 in its load"),
        ({"in_flight": 16, "load": Load(in_flight=256)}, "in_flight is 16 for the machine, but 256 in its load"),
        ({"group": 8, "load": Load(group=1)}, "group is 8 for the machine, but 1 in its load"),
        ({"seed": 1, "load": Load(seed=2)}, "seed is 1 for the machine, but 2 in its load"),
        (
            {"functions": (FunctionParts(), FunctionParts())},
            "functions must have different values of name; two have 'function'",
        ),
        (
            {"functions": (FunctionParts("a", requester_id=0x200), FunctionParts("b"))},
            "functions must have different values of requester_id; two have 512",
        ),
        ({"functions": tuple(FunctionParts(f"f{n}") for n in range(17))}, "functions must have 16 members at most"),
        ({"functions": (FunctionParts(credits=4, load=Load(group=8)),)}, "credits of function must be 8 or more"),
        (
            {"functions": (FunctionParts("a"), FunctionParts("b", device_group="a"))},
            "device_group must differ from the names of functions, not 'a'",
        ),
        ({"workload": BIG, "pasid_table": 70}, "pasid_table must be 71 or more, because PASID 70 is used"),
        ({"workload": BIG, "table_pages": 1024}, "table_pages must be 1403 or more"),
        ({"queues": "pasid"}, "queues='pasid' needs the pasids of the function function"),
        ({"queues": "pasid", "workload": BIG, "kernel": "6.12"}, "attaches PASIDs, which kernel 6.12 cannot"),
        (
            {"queues": "shared", "functions": (FunctionParts(pasids=(1,)),), "kernel": "6.12"},
            "attaches PASIDs, which kernel 6.12 cannot",
        ),
        (
            {"queues": "pasid", "workload": Workload.from_faults([(0, 0, 0, 1)])},
            "excludes PASID 0, which is the device's own",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parts_that_contradict_each_other_are_refused(options: dict[str, typing.Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        MachineParts(**options)


@pytest.mark.parametrize(
    ("options", "load"),
    [
        ({"in_flight": 256, "group": 8, "seed": 3, "load": Load(LoadMode.POISSON)}, (256, 8, 3)),
        ({"load": Load(LoadMode.POISSON, in_flight=256, group=8, seed=3)}, (256, 8, 3)),
        ({"in_flight": 256, "load": Load(in_flight=256)}, (256, 1, 0)),
        ({"load": Load(LoadMode.POISSON)}, (16, 1, 0)),
        ({}, (16, 1, 0)),
    ],
    ids=str,
)
def test_the_machine_and_its_load_say_the_same(options: dict[str, typing.Any], load: tuple[int, int, int]) -> None:
    parts = MachineParts(**options)
    made = parts.make_load()
    assert (parts.in_flight, parts.group, parts.seed) == (made.in_flight, made.group, made.seed) == load
    again = dataclasses.replace(parts, wait="spin")
    assert (again.in_flight, again.group, again.seed) == load


def test_a_comparison_s_in_flight_is_not_taken_where_a_load_says_another() -> None:
    parts = MachineParts(load=Load(LoadMode.POISSON, in_flight=256))
    with pytest.raises(UsageError, match="in_flight is 64 for the machine, but 256 in its load"):
        dataclasses.replace(parts, in_flight=64)
    assert dataclasses.replace(MachineParts(load=Load(LoadMode.POISSON)), in_flight=64).make_load().in_flight == 64


def test_numbers_of_other_kinds_become_plain_ones_that_go_into_json() -> None:
    numpy = pytest.importorskip("numpy")
    parts = MachineParts(in_flight=numpy.int64(3), functions=(FunctionParts(pasids=tuple(numpy.arange(1, 3))),))
    assert json.dumps([parts.in_flight, parts.functions[0].pasids, parts.seed]) == "[3, [1, 2], 0]"
    assert pickle.loads(pickle.dumps(parts)) == parts
    # A sum of NumPy's and a number of 64 bits overflows.
    for load in (None, Load(LoadMode.POISSON, seed=numpy.int64(3), group=numpy.uint8(2), in_flight=numpy.uint8(200))):
        loads = MachineParts(seed=numpy.int64(3), load=load, functions=(FunctionParts("a"), FunctionParts("b"))).loads()
        assert [one.seed for one in loads] == [3, 4]
        assert json.dumps([one.in_flight for one in loads]) == ("[16, 16]" if load is None else "[200, 200]")


def test_any_whole_number_is_a_number() -> None:
    class Seven:
        """It knows no arithmetic."""

        def __index__(self) -> int:
            return 7

    seven: Any = Seven()
    assert MachineParts(in_flight=seven, group=seven, seed=seven).make_load() == Load(LoadMode.CLOSED, 7, 7, seed=7)
    workload = Workload.from_faults([(seven, 0, seven, seven)])
    assert list(workload) == [(7, 0, 7, 7)]
    with Machine(workload, driver="inline", in_flight=seven, group=seven) as machine:
        machine.core.tick(seven)
        machine.open("fd")
        assert machine.endpoint.result(machine.endpoint.access(seven, 4096, seven, pages=seven)).name == "PENDING"


def test_functions_take_from_the_machine_what_they_do_not_say() -> None:
    one, two = load_workload("gcc-compile"), load_workload("numpy-sort")
    parts = MachineParts(
        one,
        in_flight=32,
        group=2,
        seed=7,
        functions=[FunctionParts("nic"), FunctionParts("gpu", 0x42, workload=two, load=Load(LoadMode.TRACE, group=4))],  # type: ignore[arg-type]
    )
    nic, gpu = parts.each_function()
    assert (nic.requester_id, nic.workload, gpu.requester_id, gpu.workload) == (0x100, one, 0x42, two)
    assert nic.credits == gpu.credits == 1023  # of the 2,047 that the IOMMU's queue holds
    assert parts.loads() == [
        Load(LoadMode.CLOSED, in_flight=32, group=2, seed=7),
        Load(LoadMode.TRACE, in_flight=32, group=4, seed=8),
    ]
    assert parts.pages_of_tables == 1024
    assert MachineParts(load_workload("sqlite-index"), functions=parts.functions).pages_of_tables == 927 + 229


@pytest.mark.parametrize("queues", QUEUES)
def test_the_queues_have_names_before_there_are_any(queues: str) -> None:
    functions = (FunctionParts("nic", pasids=(1, 2)), FunctionParts("a", device_group="g"), FunctionParts("b"))
    if queues == "pasid":
        functions = (functions[0], FunctionParts("a", pasids=(5,), device_group="g"), FunctionParts("b", pasids=(5,)))
    keys = MachineParts(queues=queues, functions=functions).queue_keys()
    assert (
        keys
        == {
            "one": (QueueKey("all", None),),
            "shared": (QueueKey("all", None),),
            "device": (("nic", None), ("g", None), ("b", None)),
            "pasid": (("nic", 1), ("nic", 2), ("g", 5), ("b", 5)),
        }[queues]
    )


# ---- workloads in memory ----


def test_a_workload_is_made_of_faults_in_memory_and_gives_them_back() -> None:
    faults = [(0, 0x1000, 1, 1), (5, 0x7FFF_FFFF_F000, 2**20 - 1, 7), (5, 0, 0, 4)]
    made = Workload.from_faults(faults, name="mine")
    assert (made.name, list(made), len(made), made.pasids) == ("mine", faults, 3, 2**20)
    assert Workload.from_faults(iter(load_workload("gcc-compile")), name="gcc-compile") == load_workload("gcc-compile")


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([], "a workload needs at least one fault"),
        (5, "faults must be tuples (time_ns, address, pasid, perm), not 5"),
        ([5], "fault 0: a fault must be a tuple (time_ns, address, pasid, perm), not 5"),
        ([(0, 0, 0)], "fault 0: a fault must be a tuple (time_ns"),
        ([(0, 0, 0, 1), (-1, 0, 0, 1)], "fault 1: time_ns must be 0 to 2^63 - 1, not -1"),
        ([(2**63, 0, 0, 1)], "fault 0: time_ns must be 0 to 2^63 - 1, not"),
        ([(1.5, 0, 0, 1)], "fault 0: time_ns must be a whole number, not 1.5"),
        ([(1, 0, 0, 1), (0, 0, 0, 1)], "fault 1: time_ns must be 1 or more, the time of the fault before it, not 0"),
        ([(0, 0x1001, 0, 1)], "fault 0: address must be a multiple of 0x1000, not 0x1001"),
        ([(0, 2**47, 0, 1)], "fault 0: address must be 0 to"),
        ([(0, "x", 0, 1)], "fault 0: address must be a whole number, not 'x'"),
        ([(0, 0, 2**20, 1)], "fault 0: pasid must be 0 to 1048575, not 1048576"),
        ([(0, 0, None, 1)], "fault 0: pasid must be a whole number, not None"),
        ([(0, 0, 0, 0)], "fault 0: perm must be 1 to 7, not 0"),
        ([(0, 0, 0, 8)], "fault 0: perm must be 1 to 7, not 8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_in_memory_that_cannot_be_is_refused_by_its_number(faults: typing.Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        Workload.from_faults(faults)


@pytest.mark.parametrize("rows", [b"", b"x", bytes(25), None, [1]])
def test_rows_that_are_no_rows_are_refused(rows: typing.Any) -> None:
    with pytest.raises(UsageError, match=r"^rows must be bytes, 24 for each fault"):
        Workload("mine", rows)


# ---- the same everywhere ----


def test_a_machine_says_what_it_was_made_of() -> None:
    parts = MachineParts.of(None, driver="inline", in_flight=8, group=2, seed=5)
    with Machine(parts, in_flight=4) as machine:
        assert machine.parts == dataclasses.replace(parts, in_flight=4)
        assert (machine.in_flight, machine.group, machine.driver, machine.live) == (4, 2, Driver.INLINE, False)
        assert machine.load == Load(LoadMode.CLOSED, in_flight=4, group=2, seed=5)


def test_a_workload_is_found_by_its_name() -> None:
    assert MachineParts.of().workload == load_workload("gcc-compile")
    with pytest.raises(UsageError, match="there is no workload or file 'nosuch'"):
        MachineParts.of("nosuch")


def test_a_comparison_in_a_test_takes_every_part_but_another_driver() -> None:
    with pytest.raises(UsageError, match="driver must be 'inline'"):
        compare_designs(["fd"], driver="sqpoll")
    (result,) = compare_designs(["fd"], in_flight=8, group=2, wait="spin").values()
    assert (result.in_flight, result.group, result.wait) == (8, 2, "spin")


@pytest.mark.parametrize(
    ("given", "group", "expected"),
    [
        ((None, None), 32, (1023, 1023)),
        ((2000, None), 32, (2000, 47)),
        ((2000, None, None), 1, (2000, 23, 23)),
        ((100, None), 1, (100, 512)),  # no more than it can use: one page for each group index
        ((2016, None), 32, (2016, 1023)),  # 31 are left, and the group has 32: the user has given too many
        ((4096, 4096), 32, (4096, 4096)),
    ],
)
def test_functions_without_credits_share_what_the_others_leave(
    given: tuple[int | None, ...], group: int, expected: tuple[int, ...]
) -> None:
    functions = tuple(FunctionParts(str(n), credits=one) for n, one in enumerate(given))
    parts = MachineParts(functions=functions, group=group)
    assert tuple(one.credits for one in parts.each_function()) == expected
