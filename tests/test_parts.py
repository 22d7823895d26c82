"""Where the latency of a fault goes.

The judge of the sums: the clock is moved by hand, and after each call the counts that the queue and the function keep
for other ends say how many groups have come to each waypoint in it. Which call is next is drawn.
"""

from __future__ import annotations

import errno
import itertools
import random
from contextlib import closing
from dataclasses import asdict, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from uring_iopf.costs import PARTS, Parts, Waypoint, Waypoints
from uring_iopf.designs import names, resolve
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.errors import KernelError
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.lab.cell import measure_cell
from uring_iopf.lab.spec import CellInterrupted, CellSpec
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import MachineParts
from uring_iopf.workloads import ROW, Workload, load_workload

if TYPE_CHECKING:
    from collections.abc import Callable

GCC = load_workload("gcc-compile")
SEEDS = range(6)


class Model:
    """The sums as they must be, from counts at the end of each call, during which the clock stands still."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        channel = machine.channel
        assert isinstance(channel, NativeChannel)
        self.channel = channel
        self.sums = dict.fromkeys(("sent", "queued", "taken", "received", "answered", "accepted", "ended"), (0, 0))
        self.unanswered: list[int] = []

    def come(self, place: str, groups: int) -> None:
        before, ns = self.sums[place]
        self.sums[place] = before + groups, ns + groups * self.machine.core.now_ns()

    def call(self, what: Callable[[], object]) -> None:
        before = self.counts()
        what()
        for place, groups in self.counts().items():
            self.come(place, groups - before[place])

    def counts(self) -> dict[str, int]:
        endpoint, queue = self.machine.endpoint.counts(), self.machine.queue.counts()
        return {
            "sent": endpoint.sent_groups,
            "queued": queue.delivered_groups + queue.waiting_groups,
            "taken": queue.delivered_groups,
            "accepted": queue.answered_groups,
            "ended": endpoint.latency_count,
        }

    def receive(self) -> None:
        messages = self.channel.receive()
        for message in messages:
            self.machine.address_space.map_page(message.pasid, message.addr, message.perm)
        cookies = list(dict.fromkeys(message.cookie for message in messages))
        self.come("received", len(cookies))
        self.unanswered += cookies

    def answer(self, draw: random.Random) -> None:
        if self.unanswered:
            self.come("answered", 1)
            self.channel.answer(self.unanswered.pop(draw.randrange(len(self.unanswered))), 0)

    @property
    def waypoints(self) -> Waypoints:
        return Waypoints(*(Waypoint(*self.sums[name]) for name in Waypoints._fields))


def played(design: str, seed: int) -> tuple[Model, Machine]:
    """Serve a small load in steps that are drawn, with other times between them each time."""
    draw = random.Random(f"{design} {seed}")
    workload = Workload("drawn", b"".join(ROW.pack(n, n // 3 << 13 | n % 3 << 12, 1, 1) for n in range(60)))
    machine = Machine(workload, driver="inline", in_flight=draw.choice([1, 3, 16]), group=draw.choice([1, 3]))
    machine.open(design)
    model = Model(machine)
    model.channel.watch()
    machine.core.tick(draw.randrange(1, 10**9))
    model.call(machine.start)
    steps: list[Callable[[], object]] = [
        machine.core.produce,
        machine.core.consume,
        model.receive,
        lambda: model.answer(draw),
        model.channel.flush,
        lambda: machine.core.tick(machine.core.now_ns() + draw.randrange(1000)),
    ]
    if not machine.design.has_client:
        del steps[2:5]
    while not machine.is_idle():
        model.call(draw.choice(steps))
    return model, machine


@pytest.mark.parametrize("design", names())
@pytest.mark.parametrize("seed", SEEDS)
def test_each_group_adds_its_time_where_it_comes(design: str, seed: int) -> None:
    model, machine = played(design, seed)
    with machine:
        found = model.channel.waypoints()
        assert found == model.waypoints
        groups, sent_ns = model.sums["sent"]
        counts = machine.endpoint.counts()
        assert (counts.latency_count, counts.latency_sum_ns) == (groups, model.sums["ended"][1] - sent_ns)
        assert groups == found.accepted.groups > 0
        parts = Parts.of(found, Waypoint(counts.latency_count, counts.latency_sum_ns))
        assert parts is not None
        assert parts.total == pytest.approx(counts.latency_sum_ns / groups)
        at = {name: ns / groups for name, (_, ns) in model.sums.items()}
        if not machine.design.has_client:
            at |= {"received": at["taken"], "answered": at["accepted"]}
        assert asdict(parts) == pytest.approx(
            {
                "hardware": at["queued"] - at["sent"] + at["ended"] - at["accepted"],
                "queueing": at["taken"] - at["queued"],
                "delivery": at["received"] - at["taken"],
                "handler": at["answered"] - at["received"],
                "answer": at["accepted"] - at["answered"],
            },
            abs=1e-3,
        )


IN_ONE_CALL = {
    "handler": {"delivery", "handler", "answer"},
    "region-v8": {"queueing", "answer"},
    "region-v9": {"queueing", "answer"},
    "region": {"queueing"},
    "eventfd": {"delivery", "answer"},
    "fd": {"delivery"},
    "uring-today": {"delivery"},
    "host-fd": {"answer"},
}
"""Parts that begin and end in one call, during which this clock stands still: a read takes a group and returns it.

A design that is not named has none."""


def test_what_was_drawn_takes_time_in_every_other_part() -> None:
    """Else a part that is always 0 would look right."""
    for design in names():
        took: set[str] = set()
        for seed in SEEDS:
            model, machine = played(design, seed)
            with machine:
                counts = machine.endpoint.counts()
                parts = Parts.of(model.channel.waypoints(), Waypoint(counts.latency_count, counts.latency_sum_ns))
                assert parts is not None
                took |= {name for name, ns in asdict(parts).items() if ns}
        assert set(PARTS) - took == IN_ONE_CALL.get(design, set()), design
        assert "hardware" in took, design


def test_a_channel_that_nobody_watches_adds_nothing() -> None:
    with Machine(GCC, driver="inline") as machine:
        channel = machine.open("fd")
        assert isinstance(channel, NativeChannel)
        machine.endpoint.access(1, 4096, 1)
        machine.core.produce()
        (message,) = channel.receive()
        channel.answer(message.cookie, 0)
        channel.flush()
        assert set(channel.waypoints()) == {Waypoint(0, 0)}


def test_one_channel_of_a_queue_watches_and_the_next_may_when_it_has_gone() -> None:
    with Machine(GCC, driver="inline") as machine:
        first = machine.open("fd")
        assert isinstance(first, NativeChannel)
        first.watch()
        with pytest.raises(KernelError) as refused:
            first.watch()
        assert refused.value.errno == errno.EBUSY
        info = resolve("fd")
        second = NativeChannel(machine.core, machine.queue, info, wait=machine.wait, in_flight=1, group_most=1)
        with closing(second):
            with pytest.raises(KernelError) as refused:
                second.watch()
            assert refused.value.errno == errno.EBUSY
            first.close()
            machine.endpoint.access(1, 4096, 1)
            machine.core.produce()
            second.watch()
            (message,) = second.receive()
            assert [one.groups for one in second.waypoints()] == [0, 1, 1, 0, 0]
            second.answer(message.cookie, 0)
            second.flush()
            assert [one.groups for one in second.waypoints()] == [0, 1, 1, 1, 1]


def test_the_hardware_takes_time_only_while_it_has_work_and_somebody_watches() -> None:
    """By the processor's clock: less than goes by around it, and nothing in turns that find nothing."""
    with Machine(GCC, driver="inline", live=True) as machine:
        channel = machine.open("fd")
        assert isinstance(channel, NativeChannel)
        clock = machine.core.now_ns

        def work() -> int:
            machine.endpoint.access(1, 4096, 1, pages=1)
            began = clock()
            machine.core.produce()
            took = clock() - began
            (message,) = channel.receive()
            channel.answer(message.cookie, 1)
            channel.flush()
            began = clock()
            machine.core.produce()
            return took + clock() - began

        work()
        assert channel.hardware_ns() == 0
        channel.watch()
        for _ in range(100):
            machine.core.produce()
        assert channel.hardware_ns() == 0
        around = sum(work() for _ in range(100))
        taken = channel.hardware_ns()
        assert 0 < taken < around
        for _ in range(100):
            machine.core.produce()
        assert channel.hardware_ns() == taken
        channel.close()


def way(*at: tuple[int, int]) -> Waypoints:
    return Waypoints(*(Waypoint(*one) for one in at))


def test_sums_that_have_wrapped_are_right_all_the_same() -> None:
    top = 2**64
    parts = Parts.of(way((2, top - 10), (2, top - 4), (2, 6), (2, 26), (2, 56)), Waypoint(2, 100))
    assert parts == Parts(hardware=(100 - 66) / 2, queueing=3, delivery=5, handler=10, answer=15)


def test_the_parts_are_rounded_alike_by_every_python() -> None:
    """The sum of floats is another one from Python 3.12 on: here the parts are off by a last bit with that before."""
    groups, at = 5075, list(itertools.accumulate([0, 94998, 11075524, 24579062, 13200325]))
    parts = Parts.of(Waypoints(*(Waypoint(groups, ns) for ns in at)), Waypoint(groups, 48973316))
    assert parts is not None
    apart = (parts.queueing, parts.delivery, parts.handler, parts.answer)
    assert parts.hardware == 48973316 / groups - float(sum(map(Fraction, apart)))


def test_without_user_space_the_handler_is_in_the_kernel() -> None:
    parts = Parts.of(way((4, 0), (4, 8), (0, 0), (0, 0), (4, 20)), Waypoint(4, 40))
    assert parts == Parts(hardware=5, queueing=2, delivery=0, handler=3, answer=0)


@pytest.mark.parametrize("place", range(5))
def test_groups_that_did_not_go_all_the_way_have_no_common_mean(place: int) -> None:
    each = [(3, 10)] * 5
    assert Parts.of(way(*each), Waypoint(3, 30)) is not None
    each[place] = 2, 10
    assert Parts.of(way(*each), Waypoint(3, 30)) is None
    assert Parts.of(way(*[(0, 0)] * 5), Waypoint(0, 0)) is None


# ---- in a cell ----


def cell(design: str, **options: object) -> CellSpec:
    parts = MachineParts(GCC, **{"driver": "enter", "wait": "spin", "in_flight": 16, **options})  # type: ignore[arg-type]
    return CellSpec(design, "native", parts, seconds=0.01, faults=1, limit_s=60.0, split=True)


def nothing(_share: float) -> None:
    pass


@pytest.mark.parametrize("design", names())
@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
def test_a_cell_has_its_parts(design: str, driver: str) -> None:
    result = measure_cell(cell(design, driver=driver), nothing)
    assert result.accounted, result.missing
    assert result.parts_ns is not None
    assert result.parts_ns.total > 0
    assert result.parts_ns.queueing + result.parts_ns.handler > 0
    assert result.faults == result.replays * len(GCC), "those of the other replay are not among them"
    assert result.emulation_ns is not None
    assert result.emulation_ns > 0
    without = measure_cell(replace(cell(design, driver=driver), split=False), nothing)
    assert (without.parts_ns, without.emulation_ns) == (None, None)


@pytest.mark.parametrize("client", ["trio", "batch"])
def test_clients_in_python_have_parts(client: str) -> None:
    result = measure_cell(replace(cell("uring-multishot", wait="sleep"), client=client), nothing)
    assert result.parts_ns is not None
    assert result.parts_ns.handler > 0


def test_an_open_loop_has_parts() -> None:
    spec = cell("fd")
    load = Load(LoadMode.POISSON, 16, 1, rate=100_000.0, seed=1)
    spec = replace(spec, parts=replace(spec.parts, load=load), seconds=0.05, limit_s=0.05, rate=100_000.0)
    result = measure_cell(spec, nothing)
    assert result.accounted, result.missing
    assert result.parts_ns is not None


def test_ctrl_c_meanwhile_keeps_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_channel: NativeChannel) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NativeChannel, "watch", interrupted)
    with pytest.raises(CellInterrupted) as stopped:
        measure_cell(cell("fd"), nothing)
    result = stopped.value.result
    assert result is not None
    assert result.accounted
    assert not result.partial
    assert result.faults >= len(GCC)


def test_a_fault_that_is_lost_meanwhile_is_an_error_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[NativeChannel] = []
    watch = NativeChannel.watch

    def remember(channel: NativeChannel) -> None:
        watched.append(channel)
        watch(channel)

    monkeypatch.setattr(NativeChannel, "watch", remember)
    monkeypatch.setattr(Iommu, "lost", lambda _iommu: 2 * len(watched))
    result = measure_cell(cell("fd"), nothing)
    assert result.missing == ("while the latency was split into parts: the IOMMU's queues lost 2 requests or answers",)
