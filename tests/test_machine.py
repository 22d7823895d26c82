"""`Machine`: the three programs that the library is for, loads, answers, and where every fault goes."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import textwrap
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from select import POLLIN
from typing import TYPE_CHECKING, Any

import pytest
import trio

from my_design import Doorbell
from tests.registered import registered
from tests.ways import DRIVERS, WAITS, dealt
from uring_iopf import (
    AccessResult,
    Context,
    Design,
    FaultPerm,
    KernelError,
    Load,
    LoadMode,
    Machine,
    PageResponse,
    UsageError,
)
from uring_iopf.abi import EnterFlags, SetupFlags
from uring_iopf.clients.groups import receive_groups
from uring_iopf.clients.sync import serve_once
from uring_iopf.core import Core
from uring_iopf.designs import Cost, FaultSource, names
from uring_iopf.hardware.endpoint import Endpoint
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import FaultMessage
from uring_iopf.machine import Account
from uring_iopf.rings import Ring, Sqe
from uring_iopf.workloads import ROW, Workload, load_workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from uring_iopf.lab.result import CellResult

PAGE = 4096
BASE = 0x7F00_0000_0000
READ, WRITE, EXEC = FaultPerm.READ, FaultPerm.WRITE, FaultPerm.EXEC
WITH_A_CLIENT = registered(has_client=True)


def workload(times_ns: Iterable[int], *, perm: int = READ, pasid: int = 1) -> Workload:
    """A fault on a page of its own at each of these times."""
    return Workload("made", b"".join(ROW.pack(t, BASE + n * PAGE, pasid, perm) for n, t in enumerate(times_ns)))


def turn(machine: Machine, times: int = 4) -> None:
    for _ in range(times):
        machine.channel.turn()


def serve(machine: Machine) -> int:
    """Turn, serve what is there, turn: the answers have arrived."""
    turn(machine)
    machine.channel.prepare_sleep()
    machine.channel.awake()
    served = serve_once(machine.channel, machine.address_space)
    turn(machine)
    return served


# ---- the three programs ----


async def test_a_trio_client_app() -> None:
    seen = 0
    async with Machine().connect("uring-multishot") as queue:
        async for batch in queue:
            for group in batch:
                queue.address_space.map(group)
                group.respond(PageResponse.SUCCESS)
                seen += 1
    assert seen == len(load_workload("gcc-compile"))


MINE = '''
"""A design outside the package."""

from uring_iopf.designs import Design


class Mine(Design):
    """takes everything in one call"""

    def __init__(self, source, cost):
        super().__init__(source, cost)
        self.faults, self.answers = [], []

    def publish(self):
        groups = self.source.take()
        self.faults += groups
        if groups:
            self.wake()
        return len(groups)

    def collect(self):
        answers, self.answers = self.answers, []
        for cookie, code in answers:
            if not self.source.answer(cookie, code):
                self.cost.answer_error()
        return len(answers)

    def receive(self):
        self.cost.system_call(found=bool(self.faults))
        faults, self.faults = self.faults, []
        return faults

    def answer(self, responses):
        self.answers += responses
'''


def test_a_new_design_in_python_alone_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "my_package.py").write_text(MINE)
    command = ["compare", "--design=my_package:Mine", "--design=fd", "--in-flight=16", "--json=compare.json"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "uring_iopf", *command],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    mine, fd = json.loads((tmp_path / "compare.json").read_text())["results"]
    assert (mine["design"], mine["mode"], fd["design"], fd["mode"]) == ("mine", "inline", "fd", "live")
    for cell in (mine, fd):
        assert (cell["lost"], cell["auto_answered"]) == (0, 0)
        assert cell["faults"] == cell["answered"] >= 100_000
    assert "mine" in done.stdout
    assert "fd" in done.stdout


class Mine(Design):
    """The design of the third program: one call takes all that waits; answers need none."""

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        super().__init__(source, cost)
        self._faults: list[Sequence[FaultMessage]] = []
        self._answers: list[tuple[int, int]] = []

    def publish(self) -> int:
        groups = self.source.take()
        self._faults += groups
        if groups:
            self.wake()
        return len(groups)

    def collect(self) -> int:
        answers, self._answers = self._answers, []
        return sum(self.source.answer(cookie, code) for cookie, code in answers)

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        self.cost.system_call(found=bool(self._faults))
        faults, self._faults = self._faults, []
        return faults

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        self._answers += responses


def test_mine_needs_fewer_system_calls(compare_designs: Callable[..., dict[str, CellResult]]) -> None:
    results = compare_designs([Mine, "fd"], workload="gcc-compile", seed=1)
    assert results["mine"].per_fault.system_calls < results["fd"].per_fault.system_calls


def test_the_fixture_comes_with_the_package(tmp_path: Path) -> None:
    """Nothing of this test suite is needed for it: another project's tests have it too."""
    (tmp_path / "my_package.py").write_text(MINE)
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            from my_package import Mine

            def test_mine_needs_fewer_system_calls(compare_designs):
                results = compare_designs([Mine, "fd"], workload="gcc-compile", seed=1)
                assert results["mine"].per_fault.system_calls < results["fd"].per_fault.system_calls
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"workload": "nosuch"}, "there is no workload or file 'nosuch'"),
        ({"driver": "poll"}, "driver must be one of inline, enter, sqpoll; not 'poll'"),
        ({"wait": "forever"}, "wait must be one of spin, sleep; not 'forever'"),
        ({"in_flight": 0}, "in_flight must be 1 to 512"),
        ({"in_flight": 513}, "in_flight must be 1 to 512"),
        ({"group": 0}, "group must be 1 to 32"),
        ({"group": 33}, "group must be 1 to 32"),
        ({"kernel": "5.4"}, "kernel must be one of 6.12, 7.2; not '5.4'"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_an_argument_that_cannot_be_is_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Machine(**arguments)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_a_machine_that_cannot_be_made_leaves_nothing_open() -> None:
    Machine(None, driver="inline").close()
    before = open_files()
    for _ in range(3):
        with pytest.raises(UsageError):
            Machine(None, kernel="5.4")
    assert open_files() == before


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("design", names())
def test_a_closed_machine_has_given_everything_back(design: str, driver: str) -> None:
    def one() -> None:
        with Machine("gcc-compile", driver=driver) as machine:
            machine.open(design)
            machine.start()

    one()
    before = open_files()
    one()
    assert open_files() == before


def test_closing_again_does_nothing() -> None:
    machine = Machine(None)
    machine.open("fd")
    machine.close()
    machine.close()
    with pytest.raises(UsageError, match="closed"):
        machine.account()


def test_a_pass_at_a_time() -> None:
    with Machine(workload([0, 0]), driver="inline") as machine:
        machine.open("fd")
        machine.start()
        with pytest.raises(KernelError, match="busy"):
            machine.start()
        assert serve(machine) == 2
        assert machine.is_idle()
        machine.start()  # all pages are there now, but a load asks all the same: the tables are the client's to reset
        assert serve(machine) == 2


# ---- accounts ----


@pytest.mark.parametrize(
    ("design", "driver", "wait"), dealt(((design, driver) for design in names() for driver in DRIVERS), WAITS)
)
def test_a_detach_in_the_middle_leaves_nothing_unaccounted_for(design: str, driver: str, wait: str) -> None:
    """sent = answered + answered for, whatever was under way."""
    for served in (0, 1, 7):
        with Machine("gcc-compile", driver=driver, wait=wait, in_flight=16, group=3) as machine:
            channel = machine.open(design)
            machine.start()
            for _ in range(served):
                channel.turn()
                if machine.design.has_client:
                    serve_once(channel, machine.address_space)
            machine.detach()
            account = machine.account()
            assert account.lost == account.unmapped == 0
            assert account.sent == account.answered + account.auto_answered
            counts = machine.device.counts()
            assert counts.dropped == 0


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
@pytest.mark.parametrize("design", names())
def test_a_workload_is_served_under_each_kernel(design: str, kernel: str) -> None:
    with Machine("gcc-compile", driver="inline", kernel=kernel) as machine:
        machine.open(design)
        machine.start()
        while not machine.is_idle():
            machine.channel.turn()
            if machine.design.has_client:
                serve(machine)
        assert machine.account() == Account(5075, 5075, 0, 0, 0)


def test_two_machines_at_once_share_nothing() -> None:
    with Machine(None, driver="inline") as one, Machine(None, driver="inline") as other:
        one.open("fd")
        other.open("uring-multishot")
        ticket = one.endpoint.access(1, BASE, READ)
        assert serve(other) == 0
        assert other.account() == Account(0, 0, 0, 0, 0)
        assert serve(one) == 1
        assert one.endpoint.result(ticket) is AccessResult.OK
        assert one.address_space.allows(1, BASE, READ)
        assert not other.address_space.allows(1, BASE, READ)


async def test_two_live_machines_serve_at_once() -> None:
    served = [0, 0]

    async def run(n: int, driver: str) -> None:
        with Machine("gcc-compile", driver=driver) as machine:
            async with machine.connect() as client:
                async for batch in client:
                    for group in batch:
                        client.address_space.map(group)
                        group.respond()
                    served[n] += len(batch)
            assert machine.account() == Account(5075, 5075, 0, 0, 0)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, 0, "sqpoll")
            nursery.start_soon(run, 1, "enter")
    assert served == [5075, 5075]


# ---- groups ----


@pytest.mark.parametrize("design", WITH_A_CLIENT)
def test_a_load_gathers_neighbours_of_one_pasid_into_groups(design: str) -> None:
    rows = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (1, 3)]
    made = Workload("made", b"".join(ROW.pack(0, BASE + n * PAGE, pasid, READ) for pasid, n in rows))
    with Machine(made, driver="inline", group=2) as machine:
        machine.open(design)
        machine.start()
        turn(machine)
        machine.channel.prepare_sleep()
        machine.channel.awake()
        groups = receive_groups(machine.channel)
        assert [[(one.pasid, (one.addr - BASE) // PAGE) for one in group.faults] for group in groups] == [
            [(1, 0), (1, 1)],
            [(1, 2)],
            [(2, 0), (2, 1)],
            [(1, 3)],
        ]


def test_more_pages_than_a_group_holds_are_refused() -> None:
    with Machine(None, group=4) as machine:
        with pytest.raises(KernelError, match=r"5 pages in one group, which has 4 at most .*: Invalid argument"):
            machine.endpoint.access(1, BASE, READ, pages=5)
        assert machine.endpoint.counts().sent == 0


def test_faults_are_accounted_for_before_a_design_is_open_too() -> None:
    with Machine("gcc-compile", driver="inline", in_flight=8) as machine:
        assert machine.account() == Account(0, 0, 0, 0, 0)
        machine.start()
        machine.core.produce()
        account = machine.account()
        assert account.auto_answered == account.sent > 0
        machine.open("fd")
        served = 0
        while not machine.is_idle():
            served += serve(machine)
        account = machine.account()
        assert (account.sent, account.lost, account.answered) == (5075, 0, served)
        assert served == 5075 - account.auto_answered
    with pytest.raises(UsageError, match="this machine is closed"):
        machine.account()


# ---- answers, and what the function makes of them ----


@pytest.mark.parametrize("design", WITH_A_CLIENT)
def test_an_invalid_answer_is_an_answer(design: str) -> None:
    with Machine(workload([0, 0, 0]), driver="inline") as machine:
        machine.open(design)
        machine.start()
        turn(machine)
        machine.channel.prepare_sleep()
        machine.channel.awake()
        for group in receive_groups(machine.channel):
            group.respond(PageResponse.INVALID)
        machine.channel.flush()
        turn(machine)
        counts = machine.endpoint.counts()
        assert (counts.invalid, counts.succeeded, counts.pri_status) == (3, 0, 0)
        assert machine.account() == Account(3, 3, 0, 0, 0)
        assert machine.is_idle()


@pytest.mark.parametrize(("asked", "told"), [(READ, READ), (WRITE, WRITE), (READ | WRITE, READ | WRITE), (EXEC, READ)])
def test_a_fault_says_what_was_to_be_done(asked: int, told: int) -> None:
    """A function behind VT-d asks to read for a fetch, since Linux refuses more; the page must allow the fetch."""
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        ticket = machine.endpoint.access(1, BASE, asked)
        turn(machine)
        (group,) = receive_groups(machine.channel)
        assert group.faults[0].perm == told
        machine.address_space.map(group)
        group.respond()
        machine.channel.flush()
        turn(machine)
        assert machine.endpoint.result(ticket) is (AccessResult.UNMAPPED if asked & EXEC else AccessResult.OK)


def test_a_mapping_for_reading_does_not_do_for_a_write() -> None:
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        ticket = machine.endpoint.access(1, BASE, WRITE)
        turn(machine)
        (group,) = receive_groups(machine.channel)
        machine.address_space.map_page(1, BASE, READ)
        group.respond()
        machine.channel.flush()
        turn(machine)
        assert machine.endpoint.result(ticket) is AccessResult.UNMAPPED
        assert machine.account().unmapped == 1


@contextmanager
def forgetful_kernel(capacity: int) -> Iterator[tuple[Core, Endpoint]]:
    """A function that may ask for more than its kernel has memory for: the rest is answered FAILURE."""
    with ExitStack() as stack:
        core = stack.enter_context(Core(kernel="6.12"))
        iommu = VtdIommu(core)
        stack.callback(iommu.close)
        space = AddressSpace(64, 64)
        stack.callback(space.close)
        endpoint = Endpoint(iommu, capacity=1024, group_most=1)
        stack.callback(endpoint.close)
        context = Context(core)
        stack.callback(context.close)
        device = context.bind(iommu.c, endpoint.requester_id, capacity)
        stack.callback(lambda: iommu.unbind(device))
        iommu.bind(endpoint, device)
        parent = context.hwpt_alloc_paging(device, context.ioas_alloc(), nest_parent=True)
        device.attach(context.hwpt_alloc_nested(device, parent, fault=context.fault_queue_alloc()))
        endpoint.use_tables(space)
        endpoint.enable_pri()
        yield core, endpoint


RF, STOPPED = 0x1, 0x100


def test_a_failure_stops_page_requests_until_they_are_reset() -> None:
    """Source: PCI Express Base Specification, Page Request Status: RF, Stopped."""
    with forgetful_kernel(capacity=2) as (core, endpoint):
        tickets = [endpoint.access(1, BASE + n * PAGE, READ) for n in range(500)]
        for _ in range(3):
            core.produce()
        results = [endpoint.result(ticket) for ticket in tickets]
        assert results.count(AccessResult.FAILED) == endpoint.counts().failed > 0
        assert endpoint.counts().pri_status == RF, "Stopped is set when all has been answered"
        waiting = endpoint.access(1, BASE + 999 * PAGE, READ)
        sent = endpoint.counts().sent
        for _ in range(3):
            core.produce()
        assert endpoint.result(waiting) is AccessResult.PENDING
        assert endpoint.counts().sent == sent
        with pytest.raises(KernelError, match="busy"):
            endpoint.reset_pri()  # it is still enabled
        endpoint.disable_pri()
        endpoint.reset_pri()
        assert endpoint.counts().pri_status == RF | STOPPED, "RF stays until PRI is enabled"
        endpoint.enable_pri(1)
        assert endpoint.counts().pri_status == 0


@pytest.mark.parametrize(
    ("design", "fault_file", "poll"),
    [
        ("uring-multishot", "keyed", [(1, POLLIN)]),
        ("uring-multishot", "unkeyed", []),
        ("fd", "keyed", []),
        ("fd", "unkeyed", []),
    ],
)
def test_the_proposed_fault_file_can_be_chosen(design: str, fault_file: str, poll: list[tuple[int, int]]) -> None:
    """With a key in its wake-ups, a poll completes for a group that the design has taken before."""
    with Machine(None, driver="inline", fault_file=fault_file) as machine:
        channel = machine.open(design)
        with Ring(machine.core, 8, flags=SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN) as ring:
            ring.push(Sqe.poll_add(1, machine.queue.fd, POLLIN))
            ring.enter(1)
            machine.endpoint.access(1, BASE, READ)
            assert channel.wait()
            assert len(receive_groups(channel)) == 1
            ring.enter(0, 0, EnterFlags.GETEVENTS)
            assert [(cqe.user_data, cqe.res) for cqe in ring.reap()] == poll


def test_nothing_is_sent_while_page_requests_are_off() -> None:
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        machine.endpoint.disable_pri()
        ticket = machine.endpoint.access(1, BASE, READ)
        assert serve(machine) == 0
        assert machine.endpoint.result(ticket) is AccessResult.PENDING
        machine.endpoint.enable_pri()
        assert serve(machine) == 1
        assert machine.endpoint.result(ticket) is AccessResult.OK
        with pytest.raises(KernelError, match="busy"):
            machine.endpoint.enable_pri()


def test_credits_bound_what_is_outstanding() -> None:
    with Machine(None, driver="inline", group=4) as machine:
        machine.open("fd")
        machine.endpoint.disable_pri()
        machine.endpoint.enable_pri(6)
        for n in range(3):
            machine.endpoint.access(1, BASE + 4 * n * PAGE, READ, pages=4)
        turn(machine)
        assert machine.endpoint.counts().outstanding == 4  # a second group would need two more than there are
        assert [serve(machine) for _ in range(3)] == [4, 4, 4]


# ---- loads with times of their own: the clock is set by hand, so latencies are exact ----


@contextmanager
def open_loop(rows: Workload, load: Load) -> Iterator[Machine]:
    with Machine(rows, driver="inline", load=load) as machine:
        machine.open("fd")
        machine.start()
        yield machine


def test_a_trace_s_rows_come_when_their_time_has_come() -> None:
    with open_loop(workload([500, 1500, 1500, 5500]), Load(LoadMode.TRACE, in_flight=4)) as machine:
        arrivals = []
        while not machine.is_idle():
            served = serve(machine)
            arrivals.append((machine.core.now_ns(), served))
            if (when := machine.core.next_ns()) is not None:
                machine.core.tick(when)
        assert [arrival for arrival in arrivals if arrival[1]] == [(0, 1), (1000, 2), (5000, 1)]
        assert machine.endpoint.counts().busy_ns == 5000
        assert machine.endpoint.counts().latency_max_ns == 0


def test_speed_makes_a_trace_faster() -> None:
    with open_loop(workload([0, 1000, 2000]), Load(LoadMode.TRACE, in_flight=4, speed=10.0)) as machine:
        serve(machine)
        assert machine.core.next_ns() == 100
        machine.core.tick(99)
        assert serve(machine) == 0
        machine.core.tick(100)
        assert serve(machine) == 1
        assert machine.core.next_ns() == 200


def test_latency_counts_from_the_intended_time_also_when_the_function_was_busy() -> None:
    """A client that stalls must not slow down the load that measures it."""
    with open_loop(workload([0, 100, 200]), Load(LoadMode.TRACE, in_flight=1)) as machine:
        turn(machine)
        machine.core.tick(130)
        (group,) = receive_groups(machine.channel)  # the first fault waits for 130 ns; the second is due, and unsent
        assert machine.endpoint.counts().sent == 1
        machine.address_space.map(group)
        group.respond()
        machine.channel.flush()
        turn(machine)
        assert machine.endpoint.counts().sent == 2
        machine.core.tick(350)
        serve(machine)  # the second, from 100 to 350; the third, due at 200, follows
        serve(machine)
        assert machine.is_idle()
        assert machine.endpoint.counts().latency_max_ns == 250
        assert [machine.endpoint.latency_ns(share) for share in (0.0, 0.33, 0.66, 1.0)] == [130, 130, 150, 250]


def poisson_arrivals(seed: int, n: int = 400, rate: float = 1e6) -> list[int]:
    with open_loop(workload([0] * n), Load(LoadMode.POISSON, in_flight=64, rate=rate, seed=seed)) as machine:
        arrivals: list[int] = []
        while not machine.is_idle():
            arrivals += [machine.core.now_ns()] * serve(machine)
            if (when := machine.core.next_ns()) is not None:
                machine.core.tick(when)
        assert machine.account() == Account(n, n, 0, 0, 0)
        assert machine.endpoint.counts().latency_max_ns <= 1  # the clock counts whole nanoseconds
        return arrivals


def test_poisson_arrivals_are_the_seed_s() -> None:
    assert poisson_arrivals(1) == poisson_arrivals(1)
    assert poisson_arrivals(1) != poisson_arrivals(2)


def test_poisson_gaps_are_exponential() -> None:
    """Mean and share of long gaps, far within what 400 draws from a fixed seed may be off."""
    arrivals = poisson_arrivals(3)
    gaps = [after - before for before, after in pairwise(arrivals)]
    assert sum(gaps) / len(gaps) == pytest.approx(1000, rel=0.2)
    assert sum(gap > 1000 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), rel=0.25)


def test_arrivals_that_nobody_serves_wait_in_the_function() -> None:
    with open_loop(workload([0] * 50), Load(LoadMode.POISSON, in_flight=8, rate=1e9, seed=1)) as machine:
        machine.core.tick(1_000_000)
        turn(machine)
        assert machine.endpoint.counts().outstanding == 8
        machine.detach()
        assert machine.account() == Account(8, 0, 8, 0, 0)


# ---- the histogram, through a machine ----


def test_quantiles_are_right_to_a_hundredth() -> None:
    """Latencies made by hand: one fault at a time, answered when the clock has been moved by a drawn amount."""
    drawn = random.Random(7)
    latencies = [round(10 ** drawn.uniform(1, 9)) for _ in range(500)]
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        for n, latency in enumerate(latencies):
            machine.endpoint.access(1, BASE + n * PAGE, READ)
            machine.core.produce()
            machine.core.tick(machine.core.now_ns() + latency)
            assert serve(machine) == 1
        latencies.sort()
        for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0):
            exact = latencies[math.ceil(share * len(latencies)) - 1]
            assert machine.endpoint.latency_ns(share) == pytest.approx(exact, rel=0.01)
        assert machine.endpoint.counts().latency_max_ns == latencies[-1]
        assert machine.endpoint.counts().latency_count == 500


def test_without_a_fault_there_is_no_latency() -> None:
    with Machine(None) as machine:
        assert machine.endpoint.latency_ns(0.5) == 0


# ---- designs ----


def test_one_design_on_a_machine() -> None:
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        with pytest.raises(UsageError, match="a design is open on this machine already"):
            machine.open("fd")


def test_a_refused_design_changes_nothing() -> None:
    with Machine(None, driver="enter") as machine:
        for refused in ("nosuch", Doorbell):
            with pytest.raises(UsageError):
                machine.open(refused)
        machine.open("fd")


def test_a_manual_clock_is_the_only_one_that_can_be_set() -> None:
    with Machine(None, driver="sqpoll") as machine, pytest.raises(UsageError, match="manual clock"):
        machine.core.tick(1)
    with Machine(None, driver="inline") as machine:
        machine.core.tick(5)
        with pytest.raises(UsageError, match="now_ns must be 5 or more"):
            machine.core.tick(4)


def test_accesses_by_hand_are_bounded() -> None:
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        for _ in range(1024):
            machine.endpoint.access(1, BASE, READ)
        with pytest.raises(KernelError, match="busy"):
            machine.endpoint.access(1, BASE, READ)


@pytest.mark.parametrize("perm", [0, int(FaultPerm.PRIV)])
def test_an_access_must_ask_for_something(perm: int) -> None:
    """As a page request that neither reads nor writes it would be a stop marker, and wait for ever."""
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        with pytest.raises(KernelError, match="Invalid"):
            machine.endpoint.access(1, BASE, perm)
        good, bad = ROW.pack(0, BASE, 1, READ), ROW.pack(0, BASE, 1, perm)
        with pytest.raises(KernelError, match="Invalid"):
            machine.endpoint.set_rows(good + bad)
        machine.endpoint.set_rows(good)


@pytest.mark.parametrize("pasid", [1 << 20, 0x1FFFFF, (1 << 22) + 1, 0xFFFFFFFF])
def test_a_pasid_has_20_bits(pasid: int) -> None:
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        with pytest.raises(KernelError, match="Invalid"):
            machine.endpoint.access(pasid, BASE, READ)
        with pytest.raises(KernelError, match="Invalid"):
            machine.endpoint.set_rows(ROW.pack(0, BASE, pasid, READ))


def test_tables_that_begin_anew_are_walked_anew() -> None:
    """Where one page's table was, before a reset, another's is after it."""
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        far = BASE + (1 << 30) + (1 << 21)

        def faulted(address: int, *, map_page: bool) -> AccessResult:
            ticket = machine.endpoint.access(1, address, READ)
            turn(machine)
            (group,) = receive_groups(machine.channel)
            if map_page:
                machine.address_space.map(group)
            group.respond()
            machine.channel.flush()
            turn(machine)
            return machine.endpoint.result(ticket)

        assert faulted(BASE, map_page=True) is AccessResult.OK
        machine.address_space.reset()
        assert faulted(far, map_page=True) is AccessResult.OK
        assert faulted(BASE, map_page=False) is AccessResult.UNMAPPED


def test_messages_are_iommufd_s() -> None:
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        machine.endpoint.access(5, BASE, WRITE)
        turn(machine)
        (message,) = machine.channel.receive()
        # 7: PASID_VALID, LAST_PAGE, and Linux' own bit for an answer with the PASID, which it passes on as well.
        assert message == FaultMessage(
            flags=7, dev_id=machine.device.id, pasid=5, grpid=0, perm=WRITE, addr=BASE, length=0, cookie=1
        )


def test_a_group_that_needs_more_credits_than_there_are_is_refused() -> None:
    """It would wait for ever, and say nothing."""
    rows = b"".join(ROW.pack(n, n * 4096, 1, FaultPerm.READ) for n in range(100))
    with Core() as core, closing(VtdIommu(core)) as iommu, closing(Endpoint(iommu, capacity=8)) as endpoint:
        endpoint.set_rows(rows)
        endpoint.enable_pri()
        with pytest.raises(UsageError, match="a group of 16 pages needs 16 credits"):
            endpoint.start(Load(group=16, in_flight=4))
        with pytest.raises(UsageError, match="needs 9 credits"):
            endpoint.access(1, 0x1000, FaultPerm.READ, pages=9)
        assert endpoint.access(1, 0x1000, FaultPerm.READ, pages=8) == 0
        endpoint.start(Load(group=8, in_flight=4))
        endpoint.disable_pri()
        with pytest.raises(UsageError, match="more pages than 4 credits"):
            endpoint.enable_pri(4)
        endpoint.enable_pri(8)
        core.produce()
        assert endpoint.counts().sent == 8
