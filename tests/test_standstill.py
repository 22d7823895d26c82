"""The other side stands still: no call of a client's waits for it in silence, and no answer is lost or sent twice.

A call that hangs in C cannot be ended from within, so what might hang runs beside the test, which waits for it with a
limit; and what is interrupted by a signal stands on the main thread, while another lets the other side go in the end.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.quiet import quiescent
from tests.registered import registered
from tests.ways import DRIVERS, WAITS, WAYS, Rotation, crossed
from uring_iopf import FaultPerm, Machine
from uring_iopf._native import ffi, interruptible, lib
from uring_iopf.clients.batch import BatchClient
from uring_iopf.clients.groups import FaultGroup, receive_groups
from uring_iopf.clients.trio_client import TrioClient
from uring_iopf.core import FOREVER
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.machine import Account
from uring_iopf.workloads import ROW, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PAGE = 4096
BASE = 0x7F00_0000_0000
LIMIT_S = 20.0  # what takes so long has failed
PAGES = 100  # more than the rings of a machine for 16 in flight hold
SLICE_NS = 1_000_000

DESIGNS = registered(where=lambda info: info.has_client and (info.most_faults is None or info.most_faults >= PAGES))
CLIENTS = ("sync", "batch", "native", "trio")
ARGUMENTS = "design, client, driver, wait"
every_client = Rotation(
    ARGUMENTS, ((design, client, *way) for design in DESIGNS for client in CLIENTS for way in WAYS), of=2, each=2
)
# Beside a worker, which may be held up; and a trio client's calls are the sync client's.
every_client_beside_a_worker = Rotation(
    ARGUMENTS,
    (
        (design, client, *way)
        for design in DESIGNS
        for client in ("sync", "batch", "native")
        for way in crossed(("enter", "sqpoll"), WAITS)
    ),
    of=2,
    each=2,
)
ONE_PAGE = Workload("one page", ROW.pack(0, BASE, 1, FaultPerm.READ))


@contextmanager
def a_machine(design: str, driver: str, wait: str) -> Iterator[tuple[Machine, NativeChannel]]:
    """A machine for 16 in flight, whose load is never started: the accesses are made by hand, and are more."""
    with Machine(ONE_PAGE, driver=driver, wait=wait, in_flight=16) as machine:
        channel = machine.open(design)
        assert isinstance(channel, NativeChannel)
        yield machine, channel


def touch(machine: Machine) -> list[int]:
    tickets = [machine.endpoint.access(1, BASE + n * PAGE, FaultPerm.READ) for n in range(PAGES)]
    machine.core.produce()
    return tickets


def look(channel: NativeChannel) -> None:
    """As a client does before it receives: without a worker, a ring's completions are made by the call that waits."""
    lib.uiopf_channel_wait(channel.c, 1_000_000)


def all_groups(channel: NativeChannel) -> list[FaultGroup]:
    groups: list[FaultGroup] = []
    while len(groups) < PAGES:
        look(channel)
        groups += receive_groups(channel)
    return groups


def let_the_worker_sleep(machine: Machine) -> None:
    """One that spins never does. A control call wakes it, and it falls asleep again."""
    if machine.driver.name == "INLINE" or machine.wait.name == "SPIN":
        return
    before = machine.core.worker_sleeps()
    with quiescent(machine.core):
        pass
    while machine.core.worker_sleeps() == before:
        pass


def beside(work: Callable[[], None]) -> None:
    """Run it on a thread that may hang."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


def settle(machine: Machine, channel: NativeChannel, tickets: list[int]) -> None:
    """Look until every access has its result."""
    while AccessResult.PENDING in map(machine.endpoint.result, tickets):
        look(channel)
        assert channel.receive() == []
        channel.turn()
    assert {machine.endpoint.result(ticket) for ticket in tickets} == {AccessResult.OK}


class Clients:
    """Each answers what `all_groups`, or its own receive, has brought; it may be called again after an exception."""

    def __init__(self, machine: Machine, channel: NativeChannel) -> None:
        self.machine = machine
        self.channel = channel
        self.steps = 0
        self.groups: list[FaultGroup] = []
        self.batch = BatchClient(channel, machine.address_space)
        self.pages: set[int] = set()
        self.served = ffi.new("struct uiopf_served *")

    def receive(self, client: str) -> None:
        """What is received before the other side stands still."""
        if client in ("sync", "trio"):
            self.groups = all_groups(self.channel)
        elif client == "batch":
            while not self.batch.received:
                look(self.channel)
                self.batch.receive()

    def sync(self) -> None:
        for group in self.groups:
            if not group.answered:
                self.machine.address_space.map(group)
                group.respond()
                self.steps += 1
        self.channel.flush()

    def trio(self) -> None:
        async def main() -> None:
            inline = self.machine.core if self.machine.driver.name == "INLINE" else None
            client = TrioClient(
                self.channel, self.machine.address_space, lambda: False, inline=inline, spin=not self.machine.wait.value
            )
            self.sync()
            client.flush()

        trio.run(main)

    def native(self) -> None:
        while (left := PAGES - int(self.served.faults)) > 0:
            rc = lib.uiopf_client_serve(self.channel.c, self.machine.address_space.c, left, SLICE_NS, self.served)
            assert rc == 0
            self.channel.turn()
        self.channel.flush()

    def all_of_a_batch(self) -> None:
        """What was received is answered, whole, and once; then the rest."""
        while True:
            if (n := self.batch.received) and not self.batch.answered:
                self.pages.update(self.batch.faults["addr"][:n].tolist())
                self.batch.map(n)
                self.batch.respond(n)
            if len(self.pages) == PAGES:
                break
            look(self.channel)
            self.batch.receive()
        self.channel.flush()

    def run(self, client: str) -> None:
        {"sync": self.sync, "trio": self.trio, "native": self.native, "batch": self.all_of_a_batch}[client]()


@every_client
def test_more_answers_than_there_is_room_for_all_arrive(
    design: str, client: str, driver: str, wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the worker sleeps, which nobody has woken since the queue is full of what was published before."""
    monkeypatch.setattr("uring_iopf.machine.DEFAULT_IDLE_NS", 1)

    def work() -> None:
        with a_machine(design, driver, wait) as (machine, channel):
            clients = Clients(machine, channel)
            tickets = touch(machine)
            clients.receive(client)
            let_the_worker_sleep(machine)
            clients.run(client)
            settle(machine, channel, tickets)
            assert channel.cost().answer_errors == 0
            assert machine.account() == Account(PAGES, PAGES, 0, 0, 0)

    beside(work)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("design", DESIGNS)
def test_a_thread_may_answer_in_its_own_quiescent_section(design: str, driver: str) -> None:
    """The worker does not come before the section ends: whoever holds it does the kernel's part."""

    def work() -> None:
        with a_machine(design, driver, "sleep") as (machine, channel):
            tickets = touch(machine)
            groups = all_groups(channel)
            with quiescent(machine.core):
                for group in groups:
                    machine.address_space.map(group)
                    group.respond()
                channel.flush()
            settle(machine, channel, tickets)
            assert machine.account() == Account(PAGES, PAGES, 0, 0, 0)

    beside(work)


# ---- signals ----


class Stopped(Exception):
    """What the handler raises."""


@contextmanager
def standing_still(machine: Machine, steps: Callable[[], int]) -> Iterator[None]:
    """Another thread holds the quiescent point, and signals this one until a handler raises here.

    It raises where nothing has moved between two signals, so that the call is one that waits. Where it cannot, the
    section ends after a while, and with it what waits for it: the test fails, and does not hang.
    """
    held, waiting, raised, over = (threading.Event() for _ in range(4))
    seen = [-1]
    main = threading.get_ident()

    def handler(_number: int, _frame: FrameType | None) -> None:
        if not waiting.is_set() or over.is_set():
            return
        if steps() == seen[0] and not raised.is_set():
            raised.set()
            raise Stopped
        seen[0] = steps()

    def hold() -> None:
        with quiescent(machine.core):
            held.set()
            for _ in range(int(LIMIT_S / 4 / 0.01)):
                signal.pthread_kill(main, signal.SIGUSR1)
                if raised.wait(0.01):
                    break
            over.set()

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=hold, daemon=True)
    try:
        thread.start()
        held.wait(LIMIT_S)
        waiting.set()
        yield
    finally:
        thread.join(LIMIT_S)
        signal.signal(signal.SIGUSR1, before)
    assert not thread.is_alive()


@every_client_beside_a_worker
def test_a_signal_comes_through_while_the_other_side_stands_still(
    design: str, client: str, driver: str, wait: str
) -> None:
    """Its handler's exception ends the call, and afterwards every group is answered once."""
    with a_machine(design, driver, wait) as (machine, channel):
        clients = Clients(machine, channel)
        tickets = touch(machine)
        clients.receive(client)
        with pytest.raises(Stopped), standing_still(machine, lambda: clients.steps):
            clients.run(client)
        clients.run(client)
        settle(machine, channel, tickets)
        assert channel.cost().answer_errors == 0
        assert machine.account() == Account(PAGES, PAGES, 0, 0, 0)


@pytest.mark.parametrize("design", DESIGNS)
def test_who_waits_for_a_quiet_moment_hears_signals(design: str) -> None:
    with a_machine(design, "sqpoll", "sleep") as (machine, channel):
        with pytest.raises(Stopped), standing_still(machine, lambda: 0), quiescent(machine.core):
            pass
        tickets = touch(machine)
        for group in all_groups(channel):
            machine.address_space.map(group)
            group.respond()
        settle(machine, channel, tickets)
        assert machine.account() == Account(PAGES, PAGES, 0, 0, 0)


@pytest.mark.parametrize("design", DESIGNS)
def test_an_exception_at_any_point_of_respond_leaves_a_group_answered_or_not(design: str) -> None:
    """As a handler may raise one: it is known afterwards, and no answer is lost or sent twice."""

    class Raised(Exception):
        pass

    with a_machine(design, "inline", "sleep") as (machine, channel):
        tickets = touch(machine)
        groups = all_groups(channel)
        assert len(groups) == PAGES
        completed = 0
        for n, group in enumerate(groups):
            machine.address_space.map(group)
            left = n + 1

            def trace(frame: FrameType, event: str, _argument: object) -> Any:
                nonlocal left
                frame.f_trace_opcodes = True
                if event == "opcode" and frame.f_code.co_name in ("respond", "answer"):
                    left -= 1
                    if not left:
                        raise Raised
                return trace

            before = sys.gettrace()  # whoever measures coverage
            sys.settrace(trace)
            try:
                group.respond()
                completed += 1
            except Raised:
                pass
            finally:
                sys.settrace(before)
            if not group.answered:
                group.respond()
        assert completed > 0  # the last ones had fewer opcodes than that: every one was tried
        channel.flush()
        settle(machine, channel, tickets)
        assert channel.cost().answer_errors == 0
        assert machine.account() == Account(PAGES, PAGES, 0, 0, 0)


def test_more_answers_in_a_call_than_messages_in_a_receive_are_refused() -> None:
    with a_machine("uring-multishot", "inline", "sleep") as (_machine, channel):
        messages = ffi.new("struct iommu_hwpt_pgfault[]", 513)
        assert lib.uiopf_channel_answer_groups(channel.c, messages, 513, 0, 0) == -22
        assert lib.uiopf_channel_answer_groups(channel.c, messages, 512, 0, 0) == 0  # no group ends in them
        assert lib.uiopf_channel_answer_groups(channel.c, messages, 0, 0, 0) == 0


def test_a_wait_without_a_limit_comes_back_to_look_for_signals() -> None:
    """One that arrives just before the sleep does not end it."""
    with a_machine("uring-multishot", "sqpoll", "sleep") as (machine, channel):
        assert lib.uiopf_channel_wait(channel.c, FOREVER) == -4
        machine.endpoint.access(1, BASE, FaultPerm.READ)
        assert interruptible("wait", lib.uiopf_channel_wait, channel.c, FOREVER) == 1
