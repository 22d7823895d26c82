"""The designs that come with the library, and one that does not, through the same suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from my_design import Doorbell
from tests.costs_alone import ALONE
from tests.on_host import available
from tests.registered import before_the_merge, registered
from tests.ways import WAITS, crossed, dealt
from uring_iopf._native import check, ffi, lib
from uring_iopf.abi.iommufd import PageResponse
from uring_iopf.designs import names, resolve
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.hardware.pri import PriRegister
from uring_iopf.lab.cell import measure_cell
from uring_iopf.lab.spec import CellSpec
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import FunctionParts, MachineParts
from uring_iopf.testing.conformance import DesignConformance
from uring_iopf.workloads import Workload, load_workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.abi.records import FaultMessage
    from uring_iopf.lab.result import CellResult


for _design in names():
    _name = f"Test{_design.title().replace('-', '')}"
    _alone = ALONE[_design].sleep if _design in ALONE else None
    _facts = {"design": _design, "alone": _alone, "__module__": __name__}
    globals()[_name] = type(_name, (DesignConformance,), _facts)


class TestADesignWrittenInPython(DesignConformance):
    design = Doorbell


def test_the_costs_of_each_design_are_said_beforehand() -> None:
    assert list(ALONE) == names()


def test_the_registry_has_what_c_has_in_its_order() -> None:
    in_c: list[str] = []
    while info := lib.uiopf_design_info(len(in_c)):
        in_c.append(ffi.string(info.name).decode())
    assert names() == in_c
    assert [resolve(name).index for name in in_c] == list(range(len(in_c)))
    assert resolve("fd").year == "2024"
    assert all(0 < len(resolve(name).summary) <= 56 for name in in_c), "a line of 80 columns, behind name and year"


def test_what_c_says_of_a_design_is_known_of_it() -> None:
    handler, multishot, linked = resolve("handler"), resolve("uring-multishot"), resolve("uring-linked")
    assert (handler.has_client, handler.has_ring, handler.proposed) == (False, False, False)
    assert (multishot.has_client, multishot.has_ring, multishot.proposed) == (True, True, True)
    assert (linked.has_client, linked.has_ring, linked.proposed) == (True, True, False)
    assert [name for name in names() if resolve(name).commands] == ["uring-cmd", "uring-fetch", "uring-batch"]


def test_a_design_is_found_by_module_and_class() -> None:
    info = resolve("my_design:Doorbell")
    assert (info.name, info.inline_only) == ("doorbell", True)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "nosuch",
            "handler, region-v8, region-v9, region, eventfd, fd, uring-today, uring-multishot, uring-linked",
        ),
        ("nosuch_module:X", "cannot import"),
        ("my_design:Nosuch", "has no 'Nosuch'"),
        ("pathlib:Path", "must be a subclass"),
    ],
)
def test_a_name_that_is_none_says_what_to_do(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        resolve(spec)


def test_a_design_in_python_needs_the_inline_driver() -> None:
    with Machine(None, driver="enter") as machine, pytest.raises(UsageError, match="driver='inline'"):
        machine.open(Doorbell)


def test_mine_needs_fewer_system_calls(compare_designs: Callable[..., dict[str, CellResult]]) -> None:
    results = compare_designs([Doorbell, "fd"], workload="gcc-compile", seed=1)
    assert results["doorbell"].per_fault.system_calls < results["fd"].per_fault.system_calls


@pytest.mark.parametrize(
    ("flags", "works"), [(0, True), (1, True), (2, True), (4, False), (6, True)], ids=lambda value: str(value)
)
def test_the_handler_hears_what_its_report_flags_ask_for(flags: int, works: bool) -> None:
    """A page request does not say which stage faulted: it counts as stage 1, and L2 alone does not hear of it."""
    with Machine(None, driver="inline", report_flags=flags) as machine:
        channel = machine.open("handler")
        ticket = machine.endpoint.access(1, 0x1000, 1)
        for _ in range(3):
            channel.turn()
        assert machine.endpoint.result(ticket).name == ("OK" if works else "INVALID")


@pytest.mark.parametrize("flags", [3, 5, 7, 8])
def test_flat_excludes_the_nested_stages(flags: int) -> None:
    with Machine(None, driver="inline", report_flags=flags) as machine, pytest.raises(KernelError, match="Invalid"):
        machine.open("handler")


@pytest.mark.parametrize("in_flight", [1, 7, 64])
def test_a_spinning_client_gets_everything_too(
    in_flight: int, compare_designs: Callable[..., dict[str, CellResult]]
) -> None:
    results = compare_designs([*available(), Doorbell], in_flight=in_flight, wait="spin")
    assert {result.answered for result in results.values()} == {5075}


@pytest.mark.parametrize("design", [*names(), Doorbell])
def test_more_pages_than_there_are_credits_wait_in_the_device(
    design: str, compare_designs: Callable[..., dict[str, CellResult]]
) -> None:
    """512 groups of 32 pages would be eight times the IOMMU's queue."""
    (result,) = compare_designs([design], in_flight=512, group=32).values()
    assert result.answered == result.faults == 5075


LIVE = dealt(
    ((design, *way) for design in [*names(), "my_design:Doorbell"] for way in crossed(("enter", "sqpoll"), WAITS)),
    ("native", "trio", "batch"),
)


@pytest.mark.parametrize(("design", "driver", "wait", "client"), LIVE)
def test_a_live_cell_loses_nothing(design: str, driver: str, wait: str, client: str) -> None:
    parts = MachineParts.of("gcc-compile", driver=driver, wait=wait, group=2)
    spec = CellSpec(design, client, parts, seconds=0.0, faults=1)
    result = measure_cell(spec, lambda _share: None)
    assert result.accounted, result.missing
    assert result.faults == result.answered == 5075 * result.replays
    assert result.mode == ("inline" if "Doorbell" in design else "live")


@pytest.mark.parametrize("client", ["native", "batch"])
def test_every_replay_of_a_cell_is_counted_once(client: str) -> None:
    """A pass that nobody counted would be in the time and not in the rate."""
    parts = MachineParts.of("gcc-compile", wait="spin", in_flight=64)
    spec = CellSpec("uring-multishot", client, parts, seconds=0.0, faults=300_000)
    result = measure_cell(spec, lambda _share: None)
    assert result.replays == 60
    assert result.faults == 60 * 5075


@pytest.mark.parametrize("design", registered(has_ring=True))
def test_a_worker_that_sleeps_costs_no_call_beyond_the_one_that_waits(
    design: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a client of Linux's SQPOLL has it: io_uring_enter wakes the thread, and waits, at once."""
    monkeypatch.setattr("uring_iopf.machine.DEFAULT_IDLE_NS", 1)
    with Machine(driver="sqpoll", wait="sleep", in_flight=1) as machine:
        channel = machine.open(design)
        assert isinstance(channel, NativeChannel)
        machine.start()
        served = ffi.new("struct uiopf_served *")
        while not machine.is_idle():
            check(lib.uiopf_client_serve(channel.c, machine.address_space.c, 5075, 10**9, served), "serve")
        assert served.faults == 5075
        assert lib.uiopf_core_worker_sleeps(machine.core.c) > 0
        # Waits that ended by their time-out, on a busy machine, are calls as well.
        assert channel.cost().system_calls <= 5075 * (ALONE[design].sleep.system_calls + 0.1)


@pytest.mark.parametrize("trace", ["numpy-sort", "sqlite-index", "parallel-sort", "git-repack"])
def test_every_bundled_trace_replays_through_every_design(
    trace: str, compare_designs: Callable[..., dict[str, CellResult]]
) -> None:
    results = compare_designs([*available(), Doorbell], workload=trace, in_flight=32)
    assert {result.faults for result in results.values()} == {len(load_workload(trace))}


class Silent(Doorbell):
    """takes faults, and answers none"""

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        list(responses)


def test_a_design_that_answers_nothing_is_given_up_at_once_where_time_stands_still(
    compare_designs: Callable[..., dict[str, CellResult]],
) -> None:
    with pytest.raises(AssertionError, match="silent: stuck: 16 faults got no answer with nothing left to do"):
        compare_designs([Silent], in_flight=16)


def test_a_ring_of_the_region_has_room_for_all_but_one_of_its_entries() -> None:
    assert [resolve(design).most_faults for design in ("region-v8", "region-v9", "region")] == [63, 511, 511]


@pytest.mark.parametrize("design", registered(where=lambda info: info.most_faults is not None))
def test_a_machine_has_no_more_credits_than_the_design_has_room(design: str) -> None:
    room = resolve(design).most_faults
    assert room is not None
    two = (FunctionParts("nic"), FunctionParts("gpu"))
    for functions, share in (((FunctionParts("nic"),), room), (two, room // 2)):
        with Machine(None, driver="inline", functions=functions, queues="shared") as machine:
            machine.open(design)
            for one in machine.functions.values():
                assert one.credits == one.endpoint.read_pri(PriRegister.ALLOCATION) == share
    with Machine(None, driver="inline", functions=two, queues="device") as machine:
        machine.open_each(design)
        assert [one.credits for one in machine.functions.values()] == [room, room]
    with Machine(None, driver="inline", functions=(FunctionParts("nic", credits=5),)) as machine:
        machine.open(design)
        assert machine.function.credits == 5


def test_a_machine_that_could_not_open_a_design_has_its_credits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with Machine(None, driver="inline") as machine:
        before = machine.endpoint.read_pri(PriRegister.ALLOCATION)
        with monkeypatch.context() as patched:
            patched.setattr(Machine, "_open_channel", None)
            with pytest.raises(TypeError, match="not callable"):
                machine.open("region-v8")
        assert machine.function.credits == machine.endpoint.read_pri(PriRegister.ALLOCATION) == before
        machine.open("fd")
        assert machine.function.credits == before


def test_a_design_refuses_the_stalls_that_it_has_no_room_for() -> None:
    rows = Workload.from_faults((0, (0x10000 + n) << 12, 5, 3) for n in range(64))
    with Machine(rows, driver="inline", iommu="smmuv3-stall", in_flight=64) as machine:
        machine.open("region-v8")
        machine.start()
        for _ in range(200):
            machine.core.produce()
        assert machine.function.credits == 64
        account = machine.account()
        assert account.lost == 0
        assert account.auto_answered + account.pending >= 64
        assert account.auto_answered >= 1


@pytest.mark.parametrize("design", registered(has_client=True))
def test_a_fault_that_is_reported_by_hand_is_heard_of(design: str) -> None:
    with Machine(None, driver="inline", in_flight=4) as machine:
        channel = machine.open(design)
        machine.function.device.report(3, 0x100000, pasid=5)
        while not (messages := channel.receive()):
            assert channel.wait()
        assert [(one.grpid, one.addr) for one in messages] == [(3, 0x100000)]
        channel.answer(messages[0].cookie, PageResponse.SUCCESS)
        channel.flush()
        assert machine.queue.counts().answered_faults == 1


@pytest.mark.parametrize("design", registered(where=before_the_merge))
@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_client_has_no_more_of_a_group_than_it_has_room_for(design: str, most: int) -> None:
    """These gather messages one by one; what is beyond the room must not be written behind it."""
    with Machine(None, driver="inline", in_flight=64, group=most) as machine:
        channel = machine.open(design)
        for page in range(40):
            machine.function.device.report(3, page << 12, pasid=5, last=page == 39)
        messages: list[FaultMessage] = []
        while not messages:
            assert channel.wait()
            messages = channel.receive()
        assert [one.addr >> 12 for one in messages] == [*range(most - 1), 39]
        channel.answer(messages[-1].cookie, PageResponse.SUCCESS)
        channel.flush()
        assert machine.queue.counts().answered_faults == 40


def test_a_group_is_not_larger_than_a_designs_room() -> None:
    with (
        Machine(None, driver="inline", functions=tuple(FunctionParts(f"f{n}") for n in range(2)), group=32) as machine,
        pytest.raises(UsageError, match="group must be 31 or less for f0, because region-v8 has no room"),
    ):
        machine.open("region-v8")


def test_more_faults_than_a_ring_holds_are_refused_and_counted_without_a_call_of_the_client() -> None:
    """By a function that is given more credits than the kernel meant it to have."""
    with Machine(None, driver="inline") as machine:
        channel = machine.open("region-v8")
        machine.endpoint.write_pri(PriRegister.ALLOCATION, 100)
        tickets = [machine.endpoint.access(1, 0x1000 * n, 1) for n in range(70)]
        for _ in range(3):
            machine.core.produce()
        found = [machine.endpoint.result(ticket).name for ticket in tickets]
        assert found == ["PENDING"] * 63 + ["INVALID"] * 7
        assert machine.account().auto_answered == 7
        assert len(channel.receive()) == 63
