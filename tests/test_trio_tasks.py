"""Several tasks share a trio client: whoever answers, no answer waits for a flush, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from my_design import Doorbell
from tests.registered import registered
from tests.ways import WAITS, WAYS, Rotation, name_of
from uring_iopf import FaultGroup, FaultPerm, Load, LoadMode, Machine, PageResponse, TrioClient
from uring_iopf.designs.channel import Wait
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.designs.registry import resolve
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.machine import Account
from uring_iopf.workloads import ROW, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from uring_iopf.designs.base import Design

PAGE = 4096
BASE = 0x7F00_0000_0000
LONG_S = 20  # a test that takes so long has failed
IN_FLIGHT = 8

Case = tuple["str | type[Design]", str, str]

IN_C = registered(has_client=True)
CASES: list[Case] = [
    *((design, driver, wait) for design in IN_C for driver, wait in WAYS),
    *((Doorbell, "inline", wait) for wait in WAITS),
]
every_design_in_turn = Rotation("case", CASES, each=1)
every_design = pytest.mark.parametrize("design", [*IN_C, Doorbell], ids=name_of)


def pages(n: int, gap_ns: int = 1) -> Workload:
    rows = b"".join(ROW.pack(i * gap_ns, BASE + i * PAGE, 1, FaultPerm.READ) for i in range(n))
    return Workload(f"{n} pages", rows)


def a_machine(case: Case, n: int) -> Machine:
    return Machine(pages(n), driver=case[1], wait=case[2], in_flight=IN_FLIGHT)


async def read_page() -> None:
    """What a pager does before it answers: other tasks run meanwhile, and the receiver goes to sleep."""
    await trio.to_thread.run_sync(lambda: None)


async def serve(client: TrioClient, group: FaultGroup) -> None:
    await read_page()
    client.address_space.map(group)
    group.respond()


# ---- who answers ----


@every_design_in_turn
async def test_workers_answer_while_one_task_receives(case: Case) -> None:
    with a_machine(case, 120) as machine, trio.fail_after(LONG_S):
        async with machine.connect(case[0]) as client, trio.open_nursery() as nursery:
            send, take = trio.open_memory_channel[FaultGroup](4)

            async def worker() -> None:
                async for group in take:
                    await serve(client, group)

            for _ in range(3):
                nursery.start_soon(worker)
            async with send:
                async for batch in client:
                    for group in batch:
                        await send.send(group)
        assert machine.account() == Account(120, 120, 0, 0, 0)


@every_design_in_turn
async def test_a_task_for_each_group_answers_it(case: Case) -> None:
    with a_machine(case, 120) as machine, trio.fail_after(LONG_S):
        async with machine.connect(case[0]) as client, trio.open_nursery() as nursery:
            async for batch in client:
                for group in batch:
                    nursery.start_soon(serve, client, group)
        assert machine.account() == Account(120, 120, 0, 0, 0)


@every_design_in_turn
async def test_workers_that_all_receive_need_no_receiver(case: Case) -> None:
    """Each answers half of its batch, does something else for a while, and answers the rest."""
    with a_machine(case, 120) as machine, trio.fail_after(LONG_S):
        async with machine.connect(case[0]) as client, trio.open_nursery() as nursery:

            async def worker() -> None:
                async for batch in client:
                    for n, group in enumerate(batch):
                        if n == len(batch) // 2:
                            await read_page()
                        client.address_space.map(group)
                        group.respond()

            for _ in range(3):
                nursery.start_soon(worker)
        assert machine.account() == Account(120, 120, 0, 0, 0)


@every_design_in_turn
async def test_a_capacity_limiter_bounds_who_answers(case: Case) -> None:
    limiter = trio.CapacityLimiter(2)
    with a_machine(case, 120) as machine, trio.fail_after(LONG_S):
        async with machine.connect(case[0]) as client, trio.open_nursery() as nursery:

            async def limited(group: FaultGroup) -> None:
                async with limiter:
                    await serve(client, group)

            async for batch in client:
                for group in batch:
                    nursery.start_soon(limited, group)
        assert machine.account() == Account(120, 120, 0, 0, 0)


@every_design_in_turn
async def test_a_time_out_in_the_middle_of_a_batch_loses_nothing(case: Case) -> None:
    """What was answered before stays answered; the rest can be answered after it, and so the next batches."""
    timed_out = failed = 0
    with a_machine(case, 120) as machine, trio.fail_after(LONG_S):
        async with machine.connect(case[0]) as client:
            async for batch in client:
                try:
                    with trio.fail_after(0.001 if timed_out < 3 else LONG_S):
                        for n, group in enumerate(batch):
                            if timed_out < 3 and n == len(batch) // 2:
                                await trio.sleep_forever()
                            client.address_space.map(group)
                            group.respond()
                except trio.TooSlowError:
                    timed_out += 1
                    for group in batch:
                        if not group.answered:
                            failed += 1
                            group.respond(PageResponse.INVALID)
        assert timed_out == 3
        assert failed >= 3
        assert machine.account() == Account(120, 120, 0, 0, 0)
        assert machine.endpoint.counts().invalid == failed


@every_design_in_turn
async def test_a_nursery_that_crashes_accounts_for_all(case: Case) -> None:
    """The error comes out; what was answered counts as the client's, sent or not, and the rest is answered for it."""

    class Crash(Exception):
        pass

    served = 0
    with a_machine(case, 1000) as machine, trio.fail_after(LONG_S):

        async def crashing(client: TrioClient, group: FaultGroup) -> None:
            nonlocal served
            await read_page()
            if served == 40:
                raise Crash
            client.address_space.map(group)
            group.respond()
            served += 1

        async def run() -> None:
            async with machine.connect(case[0]) as client, trio.open_nursery() as nursery:
                async for batch in client:
                    for group in batch:
                        nursery.start_soon(crashing, client, group)

        with pytest.raises(ExceptionGroup) as caught:
            await run()
        assert caught.group_contains(Crash)
        account = machine.account()
        assert account.answered == served == 40
        assert (account.lost, account.unmapped) == (0, 0)
        assert account.sent == account.answered + account.auto_answered


@every_design_in_turn
async def test_an_answer_is_sent_while_another_task_receives(case: Case) -> None:
    """Nothing else comes that would wake the receiver: it is woken to send it, or it is sent at once."""
    design, driver, wait = case
    with Machine(None, driver=driver, wait=wait) as machine, trio.fail_after(LONG_S):
        async with machine.connect(design) as client, trio.open_nursery() as nursery:
            tickets = [machine.endpoint.access(1, BASE + n * PAGE, FaultPerm.READ) for n in range(3)]
            groups: list[FaultGroup] = []
            while len(groups) < 3:
                groups += await client.receive()
            nursery.start_soon(client.receive)
            for n, group in enumerate(groups):
                await read_page()
                client.address_space.map(group)
                group.respond()
                while machine.endpoint.result(tickets[n]) is AccessResult.PENDING:
                    await read_page()
            nursery.cancel_scope.cancel()
        assert machine.account() == Account(3, 3, 0, 0, 0)


@pytest.mark.parametrize(("driver", "design"), [("inline", "fd"), ("enter", "fd"), ("enter", "uring-multishot")])
async def test_answers_of_one_pass_leave_in_one_call(driver: str, design: str) -> None:
    """The receiver that sleeps is woken once for all of them."""
    with Machine(None, driver=driver, live=False) as machine, trio.fail_after(LONG_S):
        async with machine.connect(design) as client, trio.open_nursery() as nursery:
            tickets = [machine.endpoint.access(1, BASE + n * PAGE, FaultPerm.READ) for n in range(16)]
            groups: list[FaultGroup] = []
            while len(groups) < 16:
                groups += await client.receive()
            nursery.start_soon(client.receive)
            await trio.testing.wait_all_tasks_blocked()
            before = machine.channel.cost().system_calls
            for group in groups:
                client.address_space.map(group)
                group.respond()
            while machine.endpoint.result(tickets[-1]) is AccessResult.PENDING:
                await read_page()
            nursery.cancel_scope.cancel()
            # fd: one write. A ring: one enter, which is the wait as well.
            assert machine.channel.cost().system_calls - before <= 2


# ---- inline: what makes work wakes who waits ----


async def fault_by_access(machine: Machine) -> None:
    machine.endpoint.access(1, BASE, FaultPerm.READ)


async def fault_by_turn(machine: Machine) -> None:
    machine.endpoint.access(1, BASE, FaultPerm.READ)
    machine.channel.turn()


async def fault_by_produce(machine: Machine) -> None:
    machine.endpoint.access(1, BASE, FaultPerm.READ)
    machine.core.produce()


async def fault_by_enabling(machine: Machine) -> None:
    machine.endpoint.disable_pri()
    machine.endpoint.access(1, BASE, FaultPerm.READ)
    await trio.sleep(1)
    machine.endpoint.enable_pri()


async def fault_by_tick(machine: Machine) -> None:
    machine.endpoint.set_rows(pages(1).rows)
    machine.endpoint.start(Load(LoadMode.POISSON, rate=1e-3, seed=5))
    machine.core.produce()
    due = machine.core.next_ns()
    assert due is not None
    machine.core.tick(due)


async def fault_by_start(machine: Machine) -> None:
    machine.endpoint.set_rows(pages(1).rows)
    machine.endpoint.start(Load())


@every_design
@pytest.mark.parametrize(
    "how", [fault_by_access, fault_by_turn, fault_by_produce, fault_by_enabling, fault_by_tick, fault_by_start]
)
async def test_inline_what_makes_a_fault_wakes_a_client_that_waits(
    autojump_clock: MockClock, design: str | type[Design], how: Callable[[Machine], object]
) -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect(design) as client, trio.open_nursery() as nursery:

            async def later() -> None:
                await trio.sleep(1)
                await how(machine)  # type: ignore[misc]

            nursery.start_soon(later)
            with trio.fail_after(5):  # virtual
                (group,) = await client.receive()
            assert group.faults[0].addr == BASE


@every_design
@pytest.mark.parametrize("by", ["answer", "flush"])
async def test_inline_an_answer_makes_room_for_what_waits(
    autojump_clock: MockClock, design: str | type[Design], by: str
) -> None:
    """The function has no more credits until the answer has reached it."""
    with Machine(pages(2), driver="inline", in_flight=1) as machine:
        async with machine.connect(design) as client, trio.open_nursery() as nursery:
            (first,) = await client.receive()

            async def later() -> None:
                await trio.sleep(1)
                client.address_space.map(first)
                first.respond()
                if by == "flush":
                    client.flush()

            nursery.start_soon(later)
            with trio.fail_after(5):
                (second,) = await client.receive()
            assert second.faults[0].addr == BASE + PAGE


async def test_inline_two_clients_on_one_core_let_each_other_sleep(autojump_clock: MockClock) -> None:
    """A turn that finds nothing wakes nobody; else the clock would never jump."""
    with Machine(None, driver="inline") as machine:
        async with machine.connect("fd") as client, trio.open_nursery() as nursery:
            other = NativeChannel(
                machine.core,
                machine.context.fault_queue_alloc(),
                resolve("uring-multishot"),
                wait=Wait.SLEEP,
                in_flight=4,
                group_most=1,
            )
            second = TrioClient(other, machine.address_space, lambda: False, inline=machine.core)
            nursery.start_soon(client.receive)
            nursery.start_soon(second.receive)
            with trio.fail_after(LONG_S):
                await trio.sleep(LONG_S / 2)
            machine.endpoint.access(1, BASE, FaultPerm.READ)
            await trio.sleep(1)
            assert machine.queue.counts().waiting_groups == 0  # the first has received it
            nursery.cancel_scope.cancel()
        other.close()


# ---- inline: time ----


async def replayed(design: str | type[Design], load: Load, service_s: float) -> tuple[float, float]:
    """A load with times, a task for each group, which takes a while. Return the core's time and trio's, in seconds."""
    began = trio.current_time()
    with Machine(pages(50, gap_ns=2_000_000), driver="inline", load=load) as machine, trio.fail_after(LONG_S):
        async with machine.connect(design) as client, trio.open_nursery() as nursery:

            async def answer(group: FaultGroup) -> None:
                await trio.sleep(service_s)
                client.address_space.map(group)
                group.respond()

            async for batch in client:
                for group in batch:
                    nursery.start_soon(answer, group)
        assert machine.account() == Account(50, 50, 0, 0, 0)
        assert machine.endpoint.latency_ns(0) == pytest.approx(service_s * 1e9, rel=0.02)
        assert machine.endpoint.latency_ns(1) == pytest.approx(service_s * 1e9, rel=0.02)
        return machine.core.now_ns() / 1e9, trio.current_time() - began


LOADS = [Load(LoadMode.POISSON, in_flight=64, rate=500.0, seed=3), Load(LoadMode.TRACE, in_flight=64)]


@every_design
@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.mode.name)
async def test_inline_a_load_with_times_moves_its_clock_with_trio_s(
    autojump_clock: MockClock, design: str | type[Design], load: Load
) -> None:
    """Arrivals, and the time that tasks take, are virtual: latencies are what the tasks took."""
    core_s, took_s = await replayed(design, load, 0.005)
    assert core_s == pytest.approx(took_s, rel=1e-6)
    assert await replayed(design, load, 0.005) == pytest.approx((core_s, took_s), abs=1e-8)
    if load.mode is LoadMode.TRACE:
        assert took_s == pytest.approx(49 * 0.002 + 0.005)


async def test_inline_a_load_with_times_takes_real_time_by_trio_s_own_clock() -> None:
    load = Load(LoadMode.TRACE, in_flight=64, speed=10.0)
    began = trio.current_time()
    with Machine(pages(20, gap_ns=2_000_000), driver="inline", load=load) as machine, trio.fail_after(LONG_S):
        async with machine.connect("fd") as client:
            async for batch in client:
                for group in batch:
                    client.address_space.map(group)
                    group.respond()
        assert machine.account() == Account(20, 20, 0, 0, 0)
        assert 0.0038 <= machine.core.now_ns() / 1e9 <= trio.current_time() - began


async def test_inline_a_clock_that_is_set_by_hand_goes_on_from_there(autojump_clock: MockClock) -> None:
    load = Load(LoadMode.TRACE, in_flight=64)
    with Machine(pages(3, gap_ns=1_000_000_000), driver="inline", load=load) as machine:
        async with machine.connect("fd") as client:
            times = []
            async for batch in client:
                times.append((round(trio.current_time(), 6), machine.core.now_ns()))
                if len(times) == 1:
                    machine.core.tick(900_000_000)
                for group in batch:
                    client.address_space.map(group)
                    group.respond()
    assert times == [(0, 0), (0.1, 1_000_000_000), (1.1, 2_000_000_000)]


async def test_inline_a_closed_loop_leaves_the_clock_alone(autojump_clock: MockClock) -> None:
    with Machine(pages(20), driver="inline", in_flight=4) as machine:
        async with machine.connect("fd") as client:
            async for batch in client:
                await trio.sleep(1)
                for group in batch:
                    client.address_space.map(group)
                    group.respond()
        assert machine.core.now_ns() == 0
