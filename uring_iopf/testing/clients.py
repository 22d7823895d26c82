"""The suite that every client must pass: subclass `ClientConformance`, and define `serve` with your client.

.. code-block:: python

    from uring_iopf.testing.clients import ClientConformance, nap

    class TestMine(ClientConformance):
        def serve(self, machine, until, code_of):
            client = MyClient(machine.channel, machine.address_space)
            served = 0
            while not until():
                served += client.serve_once(code_of)
                nap(machine)
            client.flush()
            return served

Each test checks one behaviour. It runs with each design in C that has a client, each driver and each wait mode.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import pytest

from uring_iopf.abi.iommufd import FaultPerm, PageResponse
from uring_iopf.core import Driver
from uring_iopf.designs.registry import names, resolve
from uring_iopf.errors import IopfError
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.machine import Account, Machine
from uring_iopf.workloads import ROW, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    CodeOf = Callable[[int, int], PageResponse]

PAGE = 4096
BASE = 0x7F00_0000_0000
LIMIT_S = 60
"""A client fails if it has not served all faults after so many seconds."""


class Way(NamedTuple):
    """A design, a driver and a wait mode with which a client is tested."""

    design: str
    driver: str
    wait: str

    def __str__(self) -> str:
        return "-".join(self)


WAYS = [
    Way(design, driver, wait)
    for design in names()
    if resolve(design).has_client
    for driver in ("inline", "enter", "sqpoll")
    for wait in ("sleep", "spin")
]


def nap(machine: Machine) -> None:
    """Wait for the other side as an event loop does, for a millisecond at most. Without a worker, run it once."""
    channel = machine.channel
    if machine.driver is Driver.INLINE and channel.turn():
        return
    if channel.prepare_sleep():
        return
    try:
        if machine.driver is not Driver.INLINE:
            select.select([channel.eventfd], [], [], 0.001)
    finally:
        channel.awake()


def present(_pasid: int, _address: int) -> PageResponse:
    """Answer SUCCESS, because every page can be mapped."""
    return PageResponse.SUCCESS


def pages(n: int) -> Workload:
    """Return a workload of *n* neighbouring pages of one address space, each with one fault."""
    return Workload(f"{n} pages", b"".join(ROW.pack(i, BASE + i * PAGE, 1, FaultPerm.READ) for i in range(n)))


class ClientConformance:
    """The suite. Subclass it in a test module, and define `serve`."""

    chooses: ClassVar[bool] = True
    """Whether the client can answer INVALID; False: it answers SUCCESS only."""

    def serve(self, machine: Machine, until: Callable[[], bool], code_of: CodeOf) -> int:
        """Serve the open channel of *machine* with your client until *until* returns True. Return the number of faults.

        The answer to a group is ``code_of(pasid, address)`` of its last fault. If it is SUCCESS, map the group's pages
        first. Call *until* now and then, also while no fault comes. When `serve` returns, all answers must be sent, and
        the client must have answered every group that it has received.
        """
        raise NotImplementedError

    @pytest.fixture(params=WAYS, ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:
        """A design, a driver and a wait mode."""
        way: Way = request.param
        return way

    @pytest.fixture
    def machine(self, way: Way) -> Iterator[Machine]:
        """A machine with the design open, and up to four pages in a group. Each test makes its own faults."""
        with Machine(None, driver=way.driver, wait=way.wait, in_flight=64, group=4) as machine:
            machine.open(way.design)
            yield machine

    def serve_all(self, machine: Machine, tickets: Iterable[int], code_of: CodeOf = present) -> list[AccessResult]:
        """Serve until these accesses have ended. Return their results."""
        tickets = list(tickets)

        def ended() -> bool:
            return all(machine.endpoint.result(ticket) is not AccessResult.PENDING for ticket in tickets)

        self.serve(machine, self.within_the_limit(ended), code_of)
        return [machine.endpoint.result(ticket) for ticket in tickets]

    def within_the_limit(self, until: Callable[[], bool]) -> Callable[[], bool]:
        """Return *until*, which fails the test when `LIMIT_S` is over."""
        limit = time.monotonic() + LIMIT_S

        def checked() -> bool:
            assert time.monotonic() < limit, f"the client has not served all faults within {LIMIT_S} s"
            return until()

        return checked

    def replay(self, way: Way, n: int, **options: int) -> tuple[int, Account, int]:
        """Serve a workload of *n* faults. Return the client's count of faults, the account, and the refused answers."""
        with Machine(pages(n), driver=way.driver, wait=way.wait, **options) as machine:  # type: ignore[arg-type]
            machine.open(way.design)
            machine.start()
            served = self.serve(machine, self.within_the_limit(machine.is_idle), present)
            return served, machine.account(), machine.channel.cost().answer_errors

    # ---- what a client must do ----

    # Few faults for 1 in flight: two sides that spin on one processor take a while for each.
    @pytest.mark.parametrize(("in_flight", "faults"), [(1, 30), (16, 240), (512, 1200)])
    def test_every_fault_is_answered_once(self, way: Way, in_flight: int, faults: int) -> None:
        served, account, refused = self.replay(way, faults, in_flight=in_flight)
        assert (account, refused) == (Account(faults, faults, 0, 0, 0), 0)
        assert served == faults

    def test_groups_of_several_pages_are_answered_once(self, way: Way) -> None:
        served, account, refused = self.replay(way, 150, in_flight=8, group=3)
        assert (account, refused) == (Account(150, 150, 0, 0, 0), 0)
        assert served == 150

    def test_a_single_fault_is_served(self, machine: Machine) -> None:
        assert self.serve_all(machine, [machine.endpoint.access(5, BASE, FaultPerm.WRITE)]) == [AccessResult.OK]

    def test_groups_of_different_sizes_are_served_together(self, machine: Machine) -> None:
        tickets = [machine.endpoint.access(1, BASE + 4 * n * PAGE, FaultPerm.READ, pages=1 + n % 4) for n in range(40)]
        assert self.serve_all(machine, tickets) == [AccessResult.OK] * 40
        assert machine.channel.cost().answer_errors == 0

    def test_each_group_gets_its_own_code(self, machine: Machine) -> None:
        """A client that answers INVALID once must not answer INVALID to the next group."""
        if not self.chooses:
            pytest.skip("the client answers SUCCESS only")

        def odd_ones_are_bad(_pasid: int, address: int) -> PageResponse:
            return PageResponse.INVALID if (address - BASE) // PAGE % 2 else PageResponse.SUCCESS

        for turn in range(3):  # in batches, and in batches of one
            count = 1 if turn == 2 else 20
            numbers = [turn * 100 + n for n in range(count)]
            tickets = [machine.endpoint.access(1, BASE + n * PAGE, FaultPerm.READ) for n in numbers]
            results = self.serve_all(machine, tickets, odd_ones_are_bad)
            assert results == [AccessResult.INVALID if n % 2 else AccessResult.OK for n in numbers]
        assert machine.channel.cost().answer_errors == 0

    def test_it_returns_while_nothing_comes(self, machine: Machine) -> None:
        looks = 0

        def soon() -> bool:
            nonlocal looks
            looks += 1
            return looks > 3

        assert self.serve(machine, self.within_the_limit(soon), present) == 0
        assert machine.account() == Account(0, 0, 0, 0, 0)

    def test_another_run_goes_on_where_one_has_stopped(self, way: Way) -> None:
        """The first run must have sent its answers, and must hold no group back."""
        with Machine(pages(300), driver=way.driver, wait=way.wait, in_flight=32) as machine:
            machine.open(way.design)
            machine.start()
            served = 0
            for share in (100, 200):

                def so_many(share: int = share) -> bool:
                    return machine.account().answered >= share

                served += self.serve(machine, self.within_the_limit(so_many), present)
            served += self.serve(machine, self.within_the_limit(machine.is_idle), present)
            assert (served, machine.account()) == (300, Account(300, 300, 0, 0, 0))

    def test_a_page_that_cannot_be_mapped_is_an_error_and_nothing_is_lost(self, machine: Machine) -> None:
        machine.endpoint.access(machine.address_space.pasids, BASE, FaultPerm.READ)  # there is no such table
        with pytest.raises(IopfError):
            self.serve(machine, self.within_the_limit(lambda: False), present)
        machine.detach()
        machine.core.stop_worker()
        machine.core.produce()
        account = machine.account()
        assert (account.sent, account.answered, account.auto_answered, account.lost) == (1, 0, 1, 0)

    def test_what_a_client_leaves_is_answered_for_it(self, machine: Machine) -> None:
        (done,) = self.serve_all(machine, [machine.endpoint.access(1, BASE, FaultPerm.READ)])
        machine.endpoint.access(1, BASE + PAGE, FaultPerm.READ)
        machine.detach()
        machine.core.stop_worker()
        machine.core.produce()
        account = machine.account()
        assert (done, account.answered, account.lost) == (AccessResult.OK, 1, 0)

    def test_after_the_machine_is_closed_it_is_an_error(self, machine: Machine) -> None:
        machine.close()
        with pytest.raises(Exception, match="closed") as error:  # an IopfError, or trio's own
            self.serve(machine, self.within_the_limit(lambda: False), present)
        assert not isinstance(error.value, AssertionError)
