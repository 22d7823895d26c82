"""The trio client's looks: one test for each loss that the header of ``clients/trio_client.py`` names."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.registered import registered
from tests.ways import DRIVERS, Rotation
from uring_iopf import FaultGroup, FaultPerm, Machine, TrioClient
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.machine import Account
from uring_iopf.workloads import ROW, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

PAGE = 4096
BASE = 0x7F00_0000_0000
LONG_S = 5  # a test that takes so long has failed

DESIGNS = registered(has_client=True)
every_design = pytest.mark.parametrize("design", DESIGNS)
every_driver = Rotation("design, driver", ((design, driver) for design in DESIGNS for driver in DRIVERS), each=2)


def fault(machine: Machine, n: int, count: int = 1) -> int:
    """Touch a page, or neighbours as one group, and let the hardware report it where no worker does."""
    ticket = machine.endpoint.access(1, BASE + n * PAGE, FaultPerm.READ, pages=count)
    machine.core.produce()
    return ticket


def numbers(batch: list[FaultGroup]) -> list[int]:
    return [(group.faults[0].addr - BASE) // PAGE for group in batch]


class Wrapped:
    """A channel of which one method does something before or after."""

    def __init__(
        self, channel: Any, name: str, before: Callable[[], object] = int, after: Callable[[Any], object] = bool
    ) -> None:
        self._channel = channel
        self._name = name
        self._before = before
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._channel, name)
        if name != self._name:
            return found

        def call(*arguments: object) -> object:
            self._before()
            result = found(*arguments)
            self._after(result)
            return result

        return call


def wrap(client: TrioClient, name: str, **what: Any) -> None:
    client._channel = Wrapped(client._channel, name, **what)


@every_driver
async def test_a_fault_that_comes_before_the_sleep_is_seen(design: str, driver: str) -> None:
    with Machine(None, driver=driver, live=True) as machine:
        async with machine.connect(design) as client:
            made = False

            def before() -> None:
                nonlocal made
                if made:
                    return
                made = True
                fault(machine, 3)
                while not machine.queue.poll():  # a worker reports it
                    if driver == "sqpoll" and design.startswith("uring-") and ring_has_it(machine):
                        break

            wrap(client, "prepare_sleep", before=before)
            with trio.fail_after(LONG_S):
                assert numbers(await client.receive()) == [3]


def ring_has_it(machine: Machine) -> bool:
    """The worker has taken it out of the queue, into the ring."""
    return machine.queue.counts().delivered_groups == 1


@every_design
async def test_the_last_answers_are_turned(autojump_clock: MockClock, design: str) -> None:
    """With one group at a time, every fault but the first waits for an answer, which a client that sleeps has sent."""
    workload = Workload("20 pages", b"".join(ROW.pack(n, BASE + n * PAGE, 1, FaultPerm.READ) for n in range(20)))
    with Machine(workload, driver="inline", in_flight=1) as machine:
        async with machine.connect(design) as client:
            # A ring's answers leave with the call that prepares to sleep; what else might turn them is left out.
            wrap(client, "answer", after=lambda _: None)
            with trio.fail_after(LONG_S):
                async for batch in client:
                    for group in batch:
                        client.address_space.map(group)
                        group.respond()
        assert machine.account() == Account(20, 20, 0, 0, 0)


async def test_what_came_before_the_end_is_delivered() -> None:
    with Machine(None, driver="inline") as machine:
        channel = machine.open("fd")

        def finished() -> bool:
            if machine.endpoint.counts().sent == 0:
                fault(machine, 4)
            return True

        client = TrioClient(channel, machine.address_space, finished, inline=machine.core)
        with trio.fail_after(LONG_S):
            assert numbers(await client.receive()) == [4]
            with pytest.raises(trio.EndOfChannel):
                await client.receive()


async def test_a_receiver_that_leaves_messages_wakes_who_sleeps() -> None:
    """One batch holds 512 messages; who takes the first is told of all of them, and does not come again."""
    with Machine(None, driver="inline", live=True, group=2) as machine:
        async with machine.connect("eventfd") as client, trio.open_nursery() as nursery:
            rest: list[FaultGroup] = []

            async def sleeper() -> None:
                rest.extend(await client.receive())

            nursery.start_soon(sleeper)
            await wait_all_tasks_blocked()
            for n in range(300):
                machine.endpoint.access(1, BASE + 2 * n * PAGE, FaultPerm.READ, pages=2)
            while machine.core.produce():
                pass
            first = await client.receive()  # before the sleeper has a chance
            assert len(first) == 256
            with trio.fail_after(LONG_S):
                while not rest:
                    await trio.sleep(0)
            assert len(rest) == 44


async def test_every_task_comes_to_the_end_also_who_sleeps() -> None:
    """The signal of the end is taken by the task that reads the eventfd; the sleeper hears of it from there."""
    with Machine(None, driver="inline", live=True) as machine:
        channel = machine.open("eventfd")
        over = False
        client = TrioClient(channel, machine.address_space, lambda: over, inline=machine.core)
        ends = 0

        async def sleeper() -> None:
            nonlocal ends
            with suppress(trio.EndOfChannel):
                await client.receive()
            ends += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper)
            await wait_all_tasks_blocked()
            over = True
            os.eventfd_write(channel.eventfd, 1)
            with pytest.raises(trio.EndOfChannel):
                await client.receive()
            with trio.fail_after(LONG_S):
                while not ends:
                    await trio.sleep(0)


@pytest.mark.parametrize("waits", ["asleep", "parked"])
async def test_an_answer_given_to_a_cancelled_receiver_is_sent(waits: str) -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect("fd") as client, trio.open_nursery() as nursery:
            ticket = fault(machine, 1)
            (group,) = await client.receive()
            scopes = [trio.CancelScope() for _ in range(2 if waits == "parked" else 1)]

            async def receiver(scope: trio.CancelScope) -> None:
                with scope:
                    await client.receive()

            for scope in scopes:
                nursery.start_soon(receiver, scope)
                await wait_all_tasks_blocked()
            for scope in scopes:
                scope.cancel()
            client.address_space.map(group)
            group.respond()
            await wait_all_tasks_blocked()
            machine.core.produce()
            assert machine.endpoint.result(ticket) is AccessResult.OK


async def test_an_answer_given_during_the_last_checkpoint_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect("fd") as client:
            ticket = fault(machine, 1)
            (group,) = await client.receive()
            fault(machine, 2)
            checkpoint = trio.lowlevel.cancel_shielded_checkpoint

            async def answer_meanwhile() -> None:
                client.address_space.map(group)
                group.respond()
                await checkpoint()

            with monkeypatch.context() as patch:
                patch.setattr(trio.lowlevel, "cancel_shielded_checkpoint", answer_meanwhile)
                assert numbers(await client.receive()) == [2]
            machine.core.produce()
            assert machine.endpoint.result(ticket) is AccessResult.OK


@every_design
async def test_groups_in_hand_are_returned_although_cancelled_meanwhile(design: str) -> None:
    """The checkpoint after a batch was taken is shielded: it yields, and does not throw the batch away."""
    with Machine(None, driver="inline") as machine:
        async with machine.connect(design) as client:
            fault(machine, 7)
            scope = trio.CancelScope()
            wrap(client, "receive", after=lambda messages: scope.cancel() if messages else None)
            got: list[FaultGroup] = []
            with scope:
                got = await client.receive()
            assert numbers(got) == [7]


@every_driver
async def test_when_the_sleeper_is_cancelled_the_other_is_woken(design: str, driver: str) -> None:
    with Machine(None, driver=driver, live=True) as machine:
        async with machine.connect(design) as client, trio.open_nursery() as nursery:
            got: list[int] = []
            scope = trio.CancelScope()

            async def sleeper() -> None:
                with scope:
                    await client.receive()

            async def parked() -> None:
                got.extend(numbers(await client.receive()))

            nursery.start_soon(sleeper)
            await wait_all_tasks_blocked()
            nursery.start_soon(parked)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            fault(machine, 9)
            with trio.fail_after(LONG_S):
                while not got:
                    await trio.sleep(0)
            assert got == [9]
