"""The trio client: who waits, who is woken, and what cancellation leaves behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from my_design import Doorbell
from tests.registered import before_the_merge, registered
from tests.ways import DRIVERS, WAITS, WAYS, Rotation, dealt, name_of
from uring_iopf import FaultGroup, FaultPerm, Load, LoadMode, Machine, PageResponse, TrioClient, UsageError
from uring_iopf.clients.trio_client import TrioClientStatistics
from uring_iopf.designs.registry import resolve
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.machine import Account
from uring_iopf.workloads import ROW, Workload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from trio.testing import MockClock

    from uring_iopf.designs.base import Design

PAGE = 4096
BASE = 0x7F00_0000_0000
LONG_S = 10  # a test that takes so long has failed

IN_C = registered(has_client=True)
every_design_in_c = pytest.mark.parametrize("design", IN_C)
every_design = pytest.mark.parametrize("design", [*IN_C, Doorbell], ids=name_of)
# A design in Python runs inline.
PLACES = [*((design, driver) for design in IN_C for driver in DRIVERS), (Doorbell, "inline")]
every_place = pytest.mark.parametrize("place", PLACES, ids=lambda place: "-".join(map(name_of, place)))
every_case = Rotation(
    "case",
    [*((design, *way) for design in IN_C for way in WAYS), *((Doorbell, "inline", wait) for wait in WAITS)],
    each=3,
)
every_design_by_hand = Rotation(
    "design, by_hand", ((design, driver) for design in IN_C for driver in DRIVERS), each=1, indirect=["by_hand"]
)


def pages(n: int, pasid: int = 1) -> Workload:
    return Workload(f"{n} pages", b"".join(ROW.pack(i, BASE + i * PAGE, pasid, FaultPerm.READ) for i in range(n)))


def fault(machine: Machine, *numbers: int) -> list[int]:
    """Touch pages by hand, and turn the hardware where no worker does."""
    tickets = [machine.endpoint.access(1, BASE + n * PAGE, FaultPerm.READ) for n in numbers]
    machine.core.produce()
    return tickets


def numbers(batch: list[FaultGroup]) -> list[int]:
    return [(one.addr - BASE) // PAGE for group in batch for one in group.faults]


def serve(client: TrioClient, batch: list[FaultGroup]) -> None:
    for group in batch:
        client.address_space.map(group)
        group.respond(PageResponse.SUCCESS)


async def receive(client: TrioClient, n: int) -> list[FaultGroup]:
    """So many groups, which a worker may bring one by one."""
    groups: list[FaultGroup] = []
    with trio.fail_after(LONG_S):
        while len(groups) < n:
            groups += await client.receive()
    return groups


@pytest.fixture
def by_hand(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine without a load, whose wake-ups are real: other tasks make the faults."""
    with Machine(None, driver=request.param, live=True) as machine:
        yield machine


# ---- cancellation ----


@every_design_in_c
async def test_a_cancelled_receive_consumes_no_group(autojump_clock: MockClock, design: str) -> None:
    machine = Machine(None, driver="inline")
    async with machine.connect(design) as client:
        with trio.move_on_after(3600) as waited:  # virtual seconds: takes no real time
            await client.receive()
        assert waited.cancelled_caught
        machine.endpoint.access(1, BASE + 2 * PAGE, FaultPerm.READ)
        assert numbers(await client.receive()) == [2]


@every_design_in_c
async def test_a_receive_that_is_cancelled_beforehand_leaves_what_waits(design: str) -> None:
    machine = Machine(None, driver="inline")
    async with machine.connect(design) as client:
        fault(machine, 5)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.receive()
        assert scope.cancelled_caught
        assert numbers(await client.receive()) == [5]


async def test_receive_is_a_checkpoint_also_when_groups_wait() -> None:
    machine = Machine(None, driver="inline")
    async with machine.connect() as client:
        fault(machine, 0)
        with trio.testing.assert_checkpoints():
            await client.receive()


# ---- several tasks ----


@every_design_by_hand
async def test_two_tasks_may_receive_at_once(by_hand: Machine, design: str) -> None:
    """Nobody gets trio.BusyResourceError, and every group goes to one of them."""
    async with by_hand.connect(design) as client, trio.open_nursery() as nursery:
        got: list[int] = []

        async def receiver() -> None:
            batch = await client.receive()
            got.extend(numbers(batch))
            serve(client, batch)

        with trio.fail_after(LONG_S):
            nursery.start_soon(receiver)
            nursery.start_soon(receiver)
            await wait_all_tasks_blocked(0.001)
            fault(by_hand, 1)
            while not got:
                await trio.sleep(0.001)
            assert got == [1]
            await wait_all_tasks_blocked(0.001)
            fault(by_hand, 2)
            while len(got) < 2:
                await trio.sleep(0.001)
        assert got == [1, 2]


@every_design_by_hand
@pytest.mark.parametrize("cancelled", [0, 1], ids=["the first", "the second"])
async def test_when_one_of_two_receivers_is_cancelled_the_other_is_woken(
    by_hand: Machine, design: str, cancelled: int
) -> None:
    scopes = trio.CancelScope(), trio.CancelScope()
    got: list[int] = []
    async with by_hand.connect(design) as client, trio.open_nursery() as nursery:

        async def receiver(n: int) -> None:
            with scopes[n]:
                got.extend(numbers(await client.receive()))

        for n in range(2):
            nursery.start_soon(receiver, n)
            await wait_all_tasks_blocked(0.001)
        scopes[cancelled].cancel()
        await wait_all_tasks_blocked(0.001)
        with trio.fail_after(LONG_S):
            fault(by_hand, 9)
            while not got:
                await trio.sleep(0.001)
    assert got == [9]
    assert [scope.cancelled_caught for scope in scopes] == [cancelled == 0, cancelled == 1]


@pytest.mark.parametrize("wait", ["spin", "sleep"])
@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
async def test_many_tasks_serve_a_workload_together(driver: str, wait: str) -> None:
    machine = Machine(pages(3000), driver=driver, wait=wait, in_flight=32)
    with machine:
        served: list[int] = []
        async with machine.connect() as client, trio.open_nursery() as nursery:

            async def server() -> None:
                async for batch in client:
                    served.extend(numbers(batch))
                    serve(client, batch)

            with trio.fail_after(LONG_S):
                for _ in range(4):
                    nursery.start_soon(server)
                while not machine.is_idle():
                    await trio.sleep(0.001)
        assert sorted(served) == list(range(3000))
        assert machine.account() == Account(3000, 3000, 0, 0, 0)


# ---- the end ----


@every_design_by_hand
async def test_closing_the_client_wakes_its_receivers(by_hand: Machine, design: str) -> None:
    async with by_hand.connect(design) as client, trio.open_nursery() as nursery:
        errors: list[BaseException] = []

        async def receiver() -> None:
            try:
                await client.receive()
            except trio.ClosedResourceError as error:
                errors.append(error)

        nursery.start_soon(receiver)
        nursery.start_soon(receiver)
        await wait_all_tasks_blocked(0.001)
        client.close()
        client.close()
        with trio.fail_after(LONG_S):
            while len(errors) < 2:
                await trio.sleep(0.001)
        with pytest.raises(trio.ClosedResourceError):
            await client.receive()
        with pytest.raises(trio.ClosedResourceError):
            client.receive_nowait()
        with pytest.raises(trio.ClosedResourceError):
            client.flush()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_receivers_that_outlive_the_connection_are_told(driver: str) -> None:
    """The machine is gone by the time that they run again; they must not trip over that."""
    machine = Machine(None, driver=driver, live=True)
    async with trio.open_nursery() as nursery:
        told = 0

        async def receiver(client: TrioClient) -> None:
            nonlocal told
            with pytest.raises(trio.ClosedResourceError):
                await client.receive()
            told += 1

        async with machine.connect() as client:
            nursery.start_soon(receiver, client)
            nursery.start_soon(receiver, client)
            await wait_all_tasks_blocked(0.001)
        nursery.cancel_scope.deadline = trio.current_time() + LONG_S
    assert told == 2


@every_case
async def test_iteration_ends_when_the_workload_is_served(case: tuple[str | type[Design], str, str]) -> None:
    design, driver, wait = case
    with Machine(pages(500), driver=driver, wait=wait) as machine:
        async with machine.connect(design) as client:
            with trio.fail_after(LONG_S):
                async for batch in client:
                    serve(client, batch)
                with pytest.raises(trio.EndOfChannel):
                    await client.receive()
        assert machine.account() == Account(500, 500, 0, 0, 0)


async def test_every_task_that_iterates_comes_to_the_end() -> None:
    """One sleeps for all; the others must not be left parked when nothing more comes."""
    async with Machine(pages(200), driver="sqpoll").connect() as client, trio.open_nursery() as nursery:

        async def server() -> None:
            async for batch in client:
                serve(client, batch)

        nursery.cancel_scope.deadline = trio.current_time() + LONG_S
        for _ in range(5):
            nursery.start_soon(server)
    assert not nursery.cancel_scope.cancelled_caught


# ---- answers ----


async def test_answering_twice_is_refused_and_sends_nothing() -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect() as client:
            (ticket,) = fault(machine, 1)
            (group,) = await client.receive()
            assert not group.answered
            client.address_space.map(group)
            group.respond()
            assert group.answered
            with pytest.raises(UsageError, match="answered already"):
                group.respond(PageResponse.INVALID)
            client.flush()
            fault(machine)
            assert machine.endpoint.result(ticket) is AccessResult.OK
            assert machine.channel.cost().answer_errors == 0


async def test_flush_sends_answers_without_receiving() -> None:
    with Machine(None, driver="sqpoll") as machine:
        async with machine.connect("fd") as client:
            (ticket,) = fault(machine, 1)
            serve(client, await receive(client, 1))
            assert machine.endpoint.result(ticket) is AccessResult.PENDING
            client.flush()
            with trio.fail_after(LONG_S):
                while machine.endpoint.result(ticket) is AccessResult.PENDING:
                    await trio.sleep(0.001)
            assert machine.endpoint.result(ticket) is AccessResult.OK


async def test_groups_of_several_pages_are_one_object() -> None:
    with Machine(None, driver="inline", group=4) as machine:
        async with machine.connect() as client:
            ticket = machine.endpoint.access(3, BASE, FaultPerm.WRITE, pages=3)
            (group,) = await client.receive()
            assert (len(group), group.pasid) == (3, 3)
            assert [one.addr for one in group.faults] == [BASE, BASE + PAGE, BASE + 2 * PAGE]
            assert repr(group).startswith("<FaultGroup cookie=1 pasid=3 grpid=0 pages=0x7f0000000000, ")
            serve(client, [group])
            client.flush()
            fault(machine)
            assert machine.endpoint.result(ticket) is AccessResult.OK


# ---- leaving ----


@every_place
async def test_leaving_answers_what_is_unanswered(place: tuple[str | type[Design], str]) -> None:
    """What the client has answered counts as answered, sent yet or not; the rest is answered for it."""
    design, driver = place
    with Machine(pages(1000), driver=driver, in_flight=16) as machine:
        answered = 0
        async with machine.connect(design) as client:
            groups = await receive(client, 16)
            serve(client, groups[::2])
            answered = len(groups[::2])
        account = machine.account()
        assert account.answered == answered
        assert account.auto_answered >= 8
        assert (account.lost, account.unmapped) == (0, 0)
        assert account.sent == account.answered + account.auto_answered < 1000
        assert all(not group.answered for group in groups[1::2])


@pytest.mark.parametrize("driver", DRIVERS)
async def test_leaving_with_an_error_passes_it_on_and_answers_too(driver: str) -> None:
    clients: list[TrioClient] = []

    async def fails(machine: Machine) -> None:
        async with machine.connect() as client:
            clients.append(client)
            await receive(client, 1)
            raise ZeroDivisionError

    with Machine(pages(100), driver=driver) as machine:
        with pytest.raises(ZeroDivisionError):
            await fails(machine)
        assert machine.account().lost == 0
        with pytest.raises(trio.ClosedResourceError):
            await clients[0].receive()


@every_design
async def test_an_answer_after_leaving_is_refused_and_says_so(design: str | type[Design]) -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect(design) as client:
            (ticket,) = fault(machine, 1)
            (group,) = await client.receive()
        assert machine.endpoint.result(ticket) is AccessResult.INVALID
        with pytest.raises(UsageError, match="this client is closed"):
            group.respond()
        assert not group.answered
        assert machine.channel.cost().answer_errors == 0


@every_design
@pytest.mark.parametrize("code", ["ok", None, 2, 3, 1.0, -1, 2**32, 2**70, PageResponse])
async def test_a_code_that_the_queue_refuses_is_an_error_and_the_group_stays(
    design: str | type[Design], code: object
) -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect(design) as client:
            (ticket,) = fault(machine, 1)
            (group,) = await client.receive()
            if code == 2 and before_the_merge(resolve(design)):  # FAILURE
                group.respond(code)  # type: ignore[arg-type]
                client.flush()
                machine.channel.turn()
                machine.channel.turn()
                assert machine.endpoint.result(ticket) is AccessResult.FAILED
                return
            with pytest.raises(UsageError, match="code must be PageResponse"):
                group.respond(code)  # type: ignore[arg-type]
            assert not group.answered
            serve(client, [group])
            client.flush()
            machine.channel.turn()
            machine.channel.turn()
            assert machine.endpoint.result(ticket) is AccessResult.OK
            assert machine.channel.cost().answer_errors == 0


async def test_closing_the_client_sends_what_it_has_answered() -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect("fd") as client:
            (ticket,) = fault(machine, 1)
            serve(client, await client.receive())
            client.close()
            machine.core.produce()
            assert machine.endpoint.result(ticket) is AccessResult.OK


# ---- as trio's other channels ----


async def test_it_is_a_receive_channel_of_trio() -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect() as client:
            assert isinstance(client, trio.abc.ReceiveChannel)
            with pytest.raises(trio.WouldBlock):
                client.receive_nowait()
            assert client.statistics() == TrioClientStatistics(0, True, 0, 0)
            fault(machine, 1, 2)
            serve(client, await client.receive())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.receive)
                nursery.start_soon(client.receive)
                await wait_all_tasks_blocked()
                assert client.statistics() == TrioClientStatistics(2, True, 1, 2)
                nursery.cancel_scope.cancel()
            with trio.testing.assert_checkpoints():
                await client.aclose()
            assert client.statistics() == TrioClientStatistics(0, False, 1, 2)
            async with client:
                pass
            with pytest.raises(trio.ClosedResourceError):
                client.receive_nowait()


async def test_a_look_without_waiting_takes_what_is_there_and_says_the_end() -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect("fd") as client:
            fault(machine, 1)
            batch = client.receive_nowait()
            assert numbers(batch) == [1]
            serve(client, batch)
            client.flush()
            machine.finish()
            machine.core.produce()
            with pytest.raises(trio.EndOfChannel):
                client.receive_nowait()


# ---- accesses by hand ----


@every_case
async def test_an_access_can_be_awaited(case: tuple[str | type[Design], str, str]) -> None:
    """And iteration ends when no more come, and all that came have ended."""
    design, driver, wait = case
    results: list[AccessResult] = []
    with Machine(None, driver=driver, wait=wait) as machine, trio.fail_after(LONG_S):
        async with machine.connect(design) as client, trio.open_nursery() as nursery:

            async def play_the_device() -> None:
                async with trio.open_nursery() as accesses:
                    for n in range(10):
                        accesses.start_soon(one_access, n)
                results.append(await machine.access(1, BASE, FaultPerm.READ))
                machine.finish()

            async def one_access(n: int) -> None:
                results.append(await machine.access(1, BASE + n * PAGE, FaultPerm.READ))

            nursery.start_soon(play_the_device)
            async for batch in client:
                for group in batch:
                    if group.faults[0].addr == BASE + 3 * PAGE:
                        group.respond(PageResponse.INVALID)
                    else:
                        serve(client, [group])
        assert sorted(results) == [AccessResult.OK] * 10 + [AccessResult.INVALID]
        assert machine.account().lost == 0


@pytest.mark.parametrize("driver", DRIVERS)
async def test_an_access_to_a_page_that_is_there_needs_no_client(driver: str) -> None:
    with Machine(None, driver=driver) as machine, trio.fail_after(LONG_S):
        machine.open("fd")
        machine.address_space.map_page(1, BASE, FaultPerm.READ)
        assert await machine.access(1, BASE, FaultPerm.READ) is AccessResult.OK
        with trio.testing.assert_checkpoints():
            await machine.access(1, BASE, FaultPerm.READ)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_an_access_that_is_cancelled_goes_on(driver: str) -> None:
    with Machine(None, driver=driver) as machine, trio.fail_after(LONG_S):
        async with machine.connect("fd") as client, trio.open_nursery() as nursery:
            with trio.move_on_after(0.001):
                await machine.access(1, BASE, FaultPerm.READ)
            nursery.start_soon(machine.access, 1, BASE + PAGE, FaultPerm.READ)
            serve(client, await receive(client, 2))
            client.flush()
        assert machine.account() == Account(2, 2, 0, 0, 0)


async def test_closing_the_machine_ends_who_waits() -> None:
    with Machine(None, driver="sqpoll") as machine, trio.fail_after(LONG_S):
        async with machine.connect("fd") as client, trio.open_nursery() as nursery:
            ended = 0

            async def ends(call: Callable[[], Awaitable[object]]) -> None:
                nonlocal ended
                with pytest.raises(trio.ClosedResourceError):
                    await call()
                ended += 1

            for _ in range(2):
                nursery.start_soon(ends, lambda: machine.access(1, BASE, FaultPerm.READ))
            await receive(client, 2)
            for _ in range(2):
                nursery.start_soon(ends, client.receive)
            await wait_all_tasks_blocked()
            machine.close()
    assert ended == 4


def test_a_ticket_that_was_never_given_is_an_error() -> None:
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        for ticket in (0, 1, -1, 999, 2**40):
            with pytest.raises(UsageError, match="ticket must be one that"):
                machine.endpoint.result(ticket)
        machine.address_space.map_page(1, BASE, FaultPerm.READ)
        tickets = []
        for _ in range(1026):
            tickets.append(machine.endpoint.access(1, BASE, FaultPerm.READ))
            machine.core.produce()
        assert machine.endpoint.result(tickets[-1]) is machine.endpoint.result(tickets[-1024]) is AccessResult.OK
        with pytest.raises(UsageError, match="ticket must be one that"):
            machine.endpoint.result(tickets[1])


async def test_a_workload_and_accesses_by_hand_end_together(autojump_clock: MockClock) -> None:
    with Machine(pages(5), driver="inline") as machine, trio.fail_after(LONG_S):
        async with machine.connect("fd") as client:
            ticket = machine.endpoint.access(1, BASE + 100 * PAGE, FaultPerm.READ)
            async for batch in client:
                serve(client, batch)
            assert machine.endpoint.result(ticket) is AccessResult.OK
        assert machine.account() == Account(6, 6, 0, 0, 0)


async def test_an_answer_after_the_machine_is_closed_is_our_caller_s_mistake() -> None:
    machine = Machine(None, driver="inline")
    async with machine.connect("fd") as client:
        fault(machine, 1)
        (group,) = await client.receive()
    with pytest.raises(UsageError, match="closed"):
        group.respond()


async def test_the_machine_may_be_closed_inside() -> None:
    with Machine(None, driver="sqpoll") as machine:
        async with machine.connect():
            machine.close()


async def test_a_design_without_a_client_cannot_be_connected_to() -> None:
    with pytest.raises(UsageError, match="has no client"):
        async with Machine().connect("handler"):
            pass
    with Machine() as machine:
        with pytest.raises(UsageError, match="has no client"):
            async with machine.connect("handler"):
                pass
        async with machine.connect("fd"):  # the refused call has changed nothing
            pass


async def test_one_design_at_a_time_and_once() -> None:
    with Machine(None) as machine:
        async with machine.connect():
            with pytest.raises(UsageError, match="a design is open on this machine already"):
                async with machine.connect("fd"):
                    pass


# ---- virtual time ----


@every_design_in_c
async def test_a_workload_inline_takes_no_virtual_time(autojump_clock: MockClock, design: str) -> None:
    start = trio.current_time()
    with Machine(driver="inline") as machine:
        async with machine.connect(design) as client:
            async for batch in client:
                serve(client, batch)
        assert machine.account() == Account(5075, 5075, 0, 0, 0)
    assert trio.current_time() == start


@pytest.mark.parametrize(
    ("design", "driver", "wait"), dealt(((design, driver) for design in IN_C for driver in ("enter", "sqpoll")), WAITS)
)
async def test_beside_a_worker_wake_ups_are_real_whatever_is_paid_for(design: str, driver: str, wait: str) -> None:
    """A client that sleeps hears of nothing else."""
    with Machine(pages(300), driver=driver, wait=wait, live=False) as machine:
        with trio.fail_after(LONG_S):
            async with machine.connect(design) as client:
                async for batch in client:
                    serve(client, batch)
        assert machine.account() == Account(300, 300, 0, 0, 0)


async def test_beside_a_worker_a_clock_that_is_set_moves_an_open_loop_on() -> None:
    load = Load(LoadMode.TRACE, in_flight=4, speed=1.0)
    with Machine(pages(3), driver="sqpoll", live=False, load=load) as machine:  # one access each ns
        with trio.fail_after(LONG_S):
            async with machine.connect() as client:
                for n in range(3):
                    machine.core.tick(n)
                    batch = await client.receive()
                    assert numbers(batch) == [n]
                    serve(client, batch)
        assert machine.account() == Account(3, 3, 0, 0, 0)


def test_the_client_needs_trio_around_it() -> None:
    async def without_trio() -> None:
        async with Machine(None, driver="inline").connect() as client:
            await client.receive()

    with pytest.raises(RuntimeError, match="must be called from async context"):
        asyncio.run(without_trio())
