"""The clients that come with the library, through the suite that every client must pass; and the batch client's own."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar

import pytest
import trio

from tests.ways import Rotation
from uring_iopf import AccessResult, FaultGroup, FaultPerm, Machine, PageResponse, TrioClient, UsageError
from uring_iopf.clients.batch import BatchClient
from uring_iopf.clients.groups import receive_groups
from uring_iopf.clients.native import NativeClient
from uring_iopf.clients.sync import serve_once
from uring_iopf.core import Driver
from uring_iopf.testing.clients import BASE, PAGE, WAYS, ClientConformance, Way, nap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    CodeOf = Callable[[int, int], PageResponse]


CLIENTS = itertools.count()


def code_of_group(code_of: CodeOf) -> Callable[[FaultGroup], PageResponse]:
    return lambda group: code_of(group.pasid, group.faults[-1].addr)


class OurClient(ClientConformance):
    """The suite, of which each test takes a share of the ways, and each client's tests other shares."""

    rotation: ClassVar[Rotation]

    def __init_subclass__(cls) -> None:
        cls.rotation = Rotation("way", ((w.design, w.driver, w.wait) for w in WAYS), each=1, start=next(CLIENTS))
        for name in dir(ClientConformance):
            if name.startswith("test_"):
                cls.rotation.add(name)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "way" in metafunc.fixturenames:
            ways = [Way(*case) for case in self.rotation.cases(metafunc.function.__name__)]
            metafunc.parametrize("way", ways, ids=str, indirect=True)

    @pytest.fixture
    def way(self, request: pytest.FixtureRequest) -> Way:
        way: Way = request.param
        return way


class TestSync(OurClient):
    def serve(self, machine: Machine, until: Callable[[], bool], code_of: CodeOf) -> int:
        served = 0
        while not until():
            served += serve_once(machine.channel, machine.address_space, code_of_group(code_of))
            nap(machine)
        return served


class TestSyncWithoutWaiting(OurClient):
    """It looks, and looks again, and never says that it will sleep."""

    def serve(self, machine: Machine, until: Callable[[], bool], code_of: CodeOf) -> int:
        served = 0
        while not until():
            if machine.driver is Driver.INLINE:
                machine.channel.turn()
            served += serve_once(machine.channel, machine.address_space, code_of_group(code_of))
        return served


class TestTrio(OurClient):
    """One task receives, others answer."""

    def serve(self, machine: Machine, until: Callable[[], bool], code_of: CodeOf) -> int:
        served = 0
        inline = machine.core if machine.driver is Driver.INLINE else None

        async def main() -> None:
            client = TrioClient(
                machine.channel, machine.address_space, lambda: False, inline=inline, spin=machine.wait.name == "SPIN"
            )
            send, take = trio.open_memory_channel[FaultGroup](0)
            stop = trio.CancelScope()

            async def worker(take: trio.MemoryReceiveChannel[FaultGroup]) -> None:
                nonlocal served
                async with take:
                    async for group in take:
                        code = code_of_group(code_of)(group)
                        if code is PageResponse.SUCCESS:
                            client.address_space.map(group)
                        group.respond(code)
                        served += len(group)

            async def receiver() -> None:
                async with send:
                    with stop:
                        async for batch in client:
                            with trio.CancelScope(shield=True):  # what was received is answered
                                for group in batch:
                                    await send.send(group)

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(worker, take.clone())
                take.close()
                nursery.start_soon(receiver)
                while not until():
                    await trio.sleep(0.0005)
                stop.cancel()
            client.flush()

        try:
            trio.run(main)
        except BaseExceptionGroup as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None
        return served


class TestBatch(OurClient):
    def serve(self, machine: Machine, until: Callable[[], bool], code_of: CodeOf) -> int:
        client = BatchClient(machine.channel, machine.address_space)  # type: ignore[arg-type]
        served = 0
        while not until():
            faults = client.receive()
            n = len(faults)
            if n:
                client.map(n)
            ends = [at + 1 for at in range(n) if faults["flags"][at] & 2]
            codes = [code_of(int(faults["pasid"][end - 1]), int(faults["addr"][end - 1])) for end in ends]
            for at, (end, code) in enumerate(zip(ends, codes, strict=True)):
                if at + 1 == len(ends) or codes[at + 1] is not code:  # a run of one code in one call
                    client.respond(end, code)
            served += n
            nap(machine)
        machine.channel.flush()
        return served


class TestNative(OurClient):
    chooses = False

    def serve(self, machine: Machine, until: Callable[[], bool], code_of: CodeOf) -> int:
        client = NativeClient(machine.channel, machine.address_space)  # type: ignore[arg-type]
        while not until():
            client.serve(1, 1_000_000)
            if machine.driver is Driver.INLINE:
                machine.channel.turn()
        return client.served


# ---- the batch client checks what it is given ----


@pytest.fixture
def batch() -> Iterator[tuple[Machine, BatchClient, list[int]]]:
    """Six groups, two of them of two pages: eight messages."""
    with Machine(None, driver="inline", group=2) as machine:
        client = BatchClient(machine.open("fd"), machine.address_space)  # type: ignore[arg-type]
        tickets = [
            machine.endpoint.access(1, BASE + 2 * n * PAGE, FaultPerm.READ, pages=1 + n % 3 // 2) for n in range(6)
        ]
        machine.core.produce()
        assert len(client.receive()) == 8
        yield machine, client, tickets


def results(machine: Machine, tickets: list[int]) -> list[str]:
    machine.channel.flush()
    machine.core.produce()
    return [machine.endpoint.result(ticket).name for ticket in tickets]


@pytest.mark.parametrize("n", [9, 513, 100_000_000, 2**40, -1, 1.5, "2", None])
def test_a_batch_is_no_larger_than_what_was_received(batch: tuple[Machine, BatchClient, list[int]], n: object) -> None:
    machine, client, tickets = batch
    for call in (client.map, client.respond):
        with pytest.raises(UsageError, match=r"^n must be "):
            call(n)  # type: ignore[arg-type]
    assert results(machine, tickets) == ["PENDING"] * 6
    client.map(8)
    client.respond(8)
    assert results(machine, tickets) == ["OK"] * 6


def test_a_batch_is_answered_in_parts_each_with_a_code(batch: tuple[Machine, BatchClient, list[int]]) -> None:
    machine, client, tickets = batch
    client.map(8)
    client.respond(1)
    client.respond(2, PageResponse.INVALID)
    with pytest.raises(UsageError, match="answered already"):
        client.respond(3)  # the third message is the first of a group of two
    client.respond(5)
    client.respond(8, PageResponse.INVALID)
    assert results(machine, tickets) == ["OK", "INVALID", "OK", "OK", "INVALID", "INVALID"]
    assert machine.channel.cost().answer_errors == 0


def test_groups_of_a_batch_are_answered_once(batch: tuple[Machine, BatchClient, list[int]]) -> None:
    machine, client, tickets = batch
    client.map(8)
    client.respond(8)
    for n in (8, 4, 1):
        with pytest.raises(UsageError, match="answered already"):
            client.respond(n)
    client.respond(0)
    assert results(machine, tickets) == ["OK"] * 6
    assert machine.channel.cost().answer_errors == 0


@pytest.mark.parametrize("code", [2, 3, -1, 2**32, "ok", None, 1.0])
def test_a_code_that_the_queue_refuses_answers_no_group_of_a_batch(
    batch: tuple[Machine, BatchClient, list[int]], code: object
) -> None:
    machine, client, tickets = batch
    with pytest.raises(UsageError, match="code must be PageResponse"):
        client.respond(8, code)  # type: ignore[arg-type]
    assert client.answered == 0
    client.map(8)
    client.respond(8)
    assert results(machine, tickets) == ["OK"] * 6


def test_a_batch_client_after_the_end_of_its_machine_is_an_error() -> None:
    with Machine(None, driver="inline") as machine:
        client = BatchClient(machine.open("fd"), machine.address_space)  # type: ignore[arg-type]
    for call in (client.receive, client.serve_once, lambda: client.respond(0), lambda: client.map(0)):
        with pytest.raises(UsageError, match="closed"):
            call()


def test_a_batch_client_needs_a_design_in_c() -> None:
    with Machine(None, driver="inline") as machine, pytest.raises(UsageError, match="design in C"):
        BatchClient(machine.open("my_design:Doorbell"), machine.address_space)  # type: ignore[arg-type]


def test_a_batch_client_serves_all_that_waits_at_once() -> None:
    with Machine(None, driver="inline", group=2) as machine:
        client = BatchClient(machine.open("fd"), machine.address_space)  # type: ignore[arg-type]
        assert client.serve_once() == 0
        tickets = [machine.endpoint.access(1, BASE + 2 * n * PAGE, FaultPerm.READ, pages=1 + n % 2) for n in range(6)]
        machine.core.produce()
        assert (client.serve_once(), client.answered) == (9, 6)
        with pytest.raises(UsageError, match="answered already"):
            client.respond(9)
        assert results(machine, tickets) == ["OK"] * 6


def test_the_native_client_says_what_it_has_served() -> None:
    with Machine(None, driver="inline") as machine:
        client = NativeClient(machine.open("fd"), machine.address_space)  # type: ignore[arg-type]
        assert client.serve(1) == 0
        ticket = machine.endpoint.access(1, BASE, FaultPerm.READ)
        assert (client.serve(1), client.served) == (1, 1)
        machine.core.produce()
        assert machine.endpoint.result(ticket) is AccessResult.OK


def test_a_group_is_mapped_by_its_messages_as_by_its_faults() -> None:
    """Plain tuples are what a group has until somebody asks for its faults; a user's own group may have only these."""
    with Machine(None, driver="inline", group=2) as machine:
        channel = machine.open("fd")
        space = machine.address_space
        for n, perm in enumerate((FaultPerm.READ, FaultPerm.WRITE)):
            machine.endpoint.access(1, BASE + 2 * n * PAGE, perm, pages=2)
        machine.core.produce()
        by_messages, by_faults = receive_groups(channel)
        assert (len(by_messages), by_messages.cookie, by_messages.pasid) == (2, by_messages.messages[-1][7], 1)
        space.map(by_messages)
        faults = by_faults.faults
        assert faults == by_faults.messages
        assert [(one.pasid, one.addr, one.perm) for one in faults] == [
            (1, BASE + (2 + n) * PAGE, FaultPerm.WRITE) for n in range(2)
        ]
        space.map(SimpleNamespace(faults=faults))
        assert [space.allows(1, BASE + n * PAGE, FaultPerm.READ) for n in range(5)] == [True] * 4 + [False]
        assert [space.allows(1, BASE + n * PAGE, FaultPerm.WRITE) for n in range(5)] == [False] * 2 + [True] * 2 + [
            False
        ]
