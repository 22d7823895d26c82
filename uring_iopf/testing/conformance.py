"""What every delivery design must do, as tests: subclass `DesignConformance` and name the design.

.. code-block:: python

    from uring_iopf.testing.conformance import DesignConformance

    class TestMine(DesignConformance):
        design = Mine           # a class, a name, or "MODULE:CLASS"

Each test is one behaviour; each runs inline, on one thread, and leaves nothing to chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from uring_iopf.abi.iommufd import FaultFlags, FaultPerm, PageResponse
from uring_iopf.clients.groups import receive_groups
from uring_iopf.designs.registry import resolve
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.machine import Machine
from uring_iopf.testing.compare import compare_designs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf.clients.groups import FaultGroup
    from uring_iopf.designs.base import Design

PAGE = 4096
BASE = 0x7F00_0000_0000
READ, WRITE = FaultPerm.READ, FaultPerm.WRITE


class DesignConformance:
    """Subclass it in a test module, with `design` set."""

    design: ClassVar[str | type[Design]]

    @pytest.fixture
    def machine(self) -> Iterator[Machine]:
        """A machine with the design open, up to four pages a group, and no load but what a test makes."""
        with Machine(None, driver="inline", in_flight=64, group=4) as machine:
            machine.open(self.design)
            yield machine

    @property
    def has_client(self) -> bool:
        """Whether user space takes part."""
        return resolve(self.design).has_client

    def turn(self, machine: Machine, times: int = 4) -> None:
        """Let the hardware and the kernel's half have their turns."""
        for _ in range(times):
            machine.channel.turn()

    def receive(self, machine: Machine) -> list[FaultGroup]:
        """What the client gets after some turns of the other side."""
        self.turn(machine)
        if self.has_client:  # as an event loop does before it would sleep: a ring's client enters here
            machine.channel.prepare_sleep()
            machine.channel.awake()
        return receive_groups(machine.channel)

    def respond(self, machine: Machine, group: FaultGroup, code: PageResponse = PageResponse.SUCCESS) -> None:
        """Answer, send, and let the answer reach the hardware."""
        group.respond(code)
        machine.channel.flush()
        self.turn(machine)

    def needs_a_client(self) -> None:
        """Pass over what a design without a client cannot show."""
        if not self.has_client:
            pytest.skip("the design has no user-space client")

    # ---- what a design must do ----

    def test_a_fault_is_delivered_answered_and_retried(self, machine: Machine) -> None:
        ticket = machine.endpoint.access(1, BASE, READ)
        if self.has_client:
            (group,) = self.receive(machine)
            assert machine.endpoint.result(ticket) is AccessResult.PENDING
            assert (group.pasid, group.faults[0].addr, group.faults[0].perm) == (1, BASE, READ)
            machine.address_space.map(group)
            self.respond(machine, group)
        self.turn(machine)
        assert machine.endpoint.result(ticket) is AccessResult.OK

    def test_every_fault_of_a_real_program_is_answered_once(self) -> None:
        for in_flight in (1, 16, 64):
            (result,) = compare_designs([self.design], in_flight=in_flight).values()
            assert (result.answered, result.auto_answered, result.lost) == (result.faults, 0, 0)

    def test_groups_are_delivered_whole(self, machine: Machine) -> None:
        self.needs_a_client()
        machine.endpoint.access(1, BASE, READ, pages=3)
        machine.endpoint.access(2, BASE, WRITE, pages=2)
        groups = self.receive(machine)
        assert [[fault.addr - BASE for fault in group.faults] for group in groups] == [
            [0, PAGE, 2 * PAGE],
            [0, PAGE],
        ]
        for group in groups:
            assert [bool(fault.flags & FaultFlags.LAST_PAGE) for fault in group.faults] == [
                *[False] * (len(group) - 1),
                True,
            ]

    def test_groups_of_a_real_program_are_accounted_for(self) -> None:
        (result,) = compare_designs([self.design], in_flight=16, group=4).values()
        assert result.answered == result.faults

    def test_faults_are_delivered_in_their_order(self, machine: Machine) -> None:
        self.needs_a_client()
        for n in range(20):
            machine.endpoint.access(1, BASE + n * PAGE, READ)
        assert [group.faults[0].addr for group in self.receive(machine)] == [BASE + n * PAGE for n in range(20)]

    def test_answers_may_come_in_any_order(self, machine: Machine) -> None:
        self.needs_a_client()
        tickets = [machine.endpoint.access(1, BASE + n * PAGE, READ) for n in range(5)]
        groups = self.receive(machine)
        for group in reversed(groups):
            machine.address_space.map(group)
            group.respond()
        machine.channel.flush()
        self.turn(machine)
        assert [machine.endpoint.result(ticket) for ticket in tickets] == [AccessResult.OK] * 5

    def test_an_invalid_answer_fails_the_access(self, machine: Machine) -> None:
        self.needs_a_client()
        bad, good = machine.endpoint.access(1, BASE, READ), machine.endpoint.access(1, BASE + PAGE, READ)
        first, second = self.receive(machine)
        self.respond(machine, first, PageResponse.INVALID)
        machine.address_space.map(second)
        self.respond(machine, second)
        assert machine.endpoint.result(bad) is AccessResult.INVALID
        assert machine.endpoint.result(good) is AccessResult.OK

    def test_success_without_a_mapping_is_noticed(self, machine: Machine) -> None:
        self.needs_a_client()
        ticket = machine.endpoint.access(1, BASE, READ)
        (group,) = self.receive(machine)
        self.respond(machine, group)
        assert machine.endpoint.result(ticket) is AccessResult.UNMAPPED
        assert machine.account().unmapped == 1

    def test_a_made_up_answer_disturbs_nobody(self, machine: Machine) -> None:
        self.needs_a_client()
        ticket = machine.endpoint.access(1, BASE, READ)
        (group,) = self.receive(machine)
        for cookie in (0, group.cookie + 1, 0xFFFF_FFFF):
            machine.channel.answer(cookie, PageResponse.SUCCESS)
            machine.channel.flush()
        self.turn(machine)
        machine.channel.receive()  # designs that complete refusals count them here
        assert machine.endpoint.result(ticket) is AccessResult.PENDING
        assert machine.channel.cost().answer_errors == 3
        machine.address_space.map(group)
        self.respond(machine, group)
        assert machine.endpoint.result(ticket) is AccessResult.OK

    def test_an_answer_given_twice_is_refused_once(self, machine: Machine) -> None:
        self.needs_a_client()
        machine.endpoint.access(1, BASE, READ)
        (group,) = self.receive(machine)
        machine.address_space.map(group)
        self.respond(machine, group)
        machine.channel.answer(group.cookie, PageResponse.SUCCESS)
        machine.channel.flush()
        self.turn(machine)
        machine.channel.receive()
        assert machine.channel.cost().answer_errors == 1
        assert machine.account().answered == 1

    def test_detach_answers_for_the_client(self, machine: Machine) -> None:
        self.needs_a_client()
        tickets = [machine.endpoint.access(1, BASE + n * PAGE, READ) for n in range(6)]
        groups = self.receive(machine)
        machine.address_space.map(groups[0])
        self.respond(machine, groups[0])
        machine.endpoint.access(1, BASE + 6 * PAGE, READ)
        self.turn(machine)
        machine.detach()
        self.turn(machine)
        results = [machine.endpoint.result(ticket) for ticket in tickets]
        assert results == [AccessResult.OK] + [AccessResult.INVALID] * 5
        account = machine.account()
        assert (account.sent, account.answered, account.auto_answered, account.lost) == (7, 1, 6, 0)

    def test_an_answer_after_detach_is_refused(self, machine: Machine) -> None:
        self.needs_a_client()
        machine.endpoint.access(1, BASE, READ)
        (group,) = self.receive(machine)
        machine.detach()
        self.respond(machine, group)
        machine.channel.receive()
        assert machine.channel.cost().answer_errors == 1
        assert machine.account().lost == 0

    def test_nothing_is_delivered_where_nothing_faults(self, machine: Machine) -> None:
        self.needs_a_client()
        assert self.receive(machine) == []
        machine.address_space.map_page(1, BASE, READ)
        ticket = machine.endpoint.access(1, BASE, READ)
        assert self.receive(machine) == []
        assert machine.endpoint.result(ticket) is AccessResult.OK

    def test_counts_are_the_same_every_time(self) -> None:
        first, second = (compare_designs([self.design], in_flight=8) for _ in range(2))
        assert first == second
