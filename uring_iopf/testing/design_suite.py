"""The cases that every delivery design must pass. `DesignConformance` runs them by pytest, `uring-iopf check` without.

This module does not import pytest, and uses no assert. A case that fails raises a DesignError, also under
``python -O``. The error has the finding, and names the rule of `uring_iopf.designs.rules` that the design broke.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, ClassVar, NoReturn

from uring_iopf.abi.iommufd import FaultFlags, FaultPerm, PageResponse
from uring_iopf.clients.groups import receive_groups
from uring_iopf.clients.sync import serve
from uring_iopf.costs import COUNTERS
from uring_iopf.designs.registry import resolve
from uring_iopf.designs.rules import broken
from uring_iopf.machine import Machine
from uring_iopf.testing.compare import ReplayError, compare_designs
from uring_iopf.workloads import ROW, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uring_iopf.clients.groups import FaultGroup
    from uring_iopf.costs import Counts
    from uring_iopf.designs.base import Design
    from uring_iopf.designs.registry import DesignInfo
    from uring_iopf.lab.result import CellResult

PAGE = 4096
BASE = 0x7F00_0000_0000
READ, WRITE = FaultPerm.READ, FaultPerm.WRITE
WAITS = ("sleep", "spin")
MOST_TURNS = 10_000
COUNTED = tuple(one.name for one in COUNTERS if one.in_c)
LEAST_MESSAGE_BYTES, LEAST_ANSWER_BYTES = 8, 4
"""The least bytes of a message (an address) and of an answer (a cookie)."""


class NotApplicable(Exception):  # noqa: N818  this is no error: the case is skipped, with a reason
    """A case does not apply to this design."""


def open_machine(design: str | type[Design], wait: str) -> Machine:
    """Return a machine with the design open, and up to four pages in a group. Each case makes its own faults."""
    machine = Machine(None, driver="inline", in_flight=64, group=4, wait=wait)
    try:
        machine.open(design)
    except BaseException:
        machine.close()
        raise
    return machine


class DesignSuite:
    """The cases: the methods whose names begin with ``test_``. Cases with a *machine* run for both wait modes."""

    design: ClassVar[str | type[Design]]
    """The design: a class, a name or ``MODULE:CLASS``."""
    alone: ClassVar[Counts | None] = None
    """The costs of one fault by itself, with a client that sleeps; None: the `alone` of a design in Python."""

    # ---- helpers of the cases ----

    def skip(self, reason: str) -> NoReturn:
        """Skip a case that does not apply to this design."""
        raise NotApplicable(reason)

    @property
    def info(self) -> DesignInfo:
        """The facts of the design."""
        return resolve(self.design)

    @property
    def has_client(self) -> bool:
        """Whether the design has a client in user space."""
        return self.info.has_client

    def needs_a_client(self) -> None:
        """Skip a case that needs a client if the design has none."""
        if not self.has_client:
            self.skip("the design has no user-space client")

    def same(self, rule: str, what: str, found: object, expected: object) -> None:
        """Raises: DesignError, *found* does not equal *expected*."""
        if found != expected:
            raise broken(rule, f"{what}: {found!r}, expected {expected!r}")

    def holds(self, rule: str, what: str, condition: bool) -> None:
        """Raises: DesignError, *condition* is false."""
        if not condition:
            raise broken(rule, what)

    def turn(self, machine: Machine) -> None:
        """Run the hardware and the kernel's half until they have no work, and a few times more."""
        idle = 0
        for _ in range(MOST_TURNS):
            idle = 0 if machine.channel.turn() else idle + 1
            if idle == 4:
                return
        raise broken("progress", f"the design reported progress in each of {MOST_TURNS:,} turns")

    def receive(self, machine: Machine) -> list[FaultGroup]:
        """Return the groups that the client receives after some turns of the other side."""
        self.turn(machine)
        if self.has_client:  # as an event loop does before it would sleep: a ring's client enters here
            machine.channel.prepare_sleep()
            machine.channel.awake()
        groups: list[FaultGroup] = []
        while batch := receive_groups(machine.channel):  # one receive may leave something behind
            groups += batch
        return groups

    def receive_one(self, machine: Machine, rule: str = "once") -> FaultGroup:
        """Return the group that the client receives. Raises: DesignError, it is not exactly one."""
        groups = self.receive(machine)
        self.same(rule, "groups received, of one that was reported", len(groups), 1)
        return groups[0]

    def respond(self, machine: Machine, group: FaultGroup, code: PageResponse = PageResponse.SUCCESS) -> None:
        """Answer a group, flush, and let the answer reach the hardware."""
        group.respond(code)
        machine.channel.flush()
        self.turn(machine)

    def access(self, machine: Machine, number: int, *, pages: int = 1, pasid: int = 1) -> int:
        """Access pages that no other *number* accesses. Return the ticket."""
        return machine.endpoint.access(pasid, BASE + number * 4 * PAGE, READ, pages=pages)

    def results(self, machine: Machine, tickets: Iterable[int]) -> list[str]:
        """Return the names of the accesses' results."""
        return [machine.endpoint.result(ticket).name for ticket in tickets]

    def replay(self, workload: str | Workload = "gcc-compile", **options: object) -> CellResult:
        """Replay a whole workload through the design. Raises: DesignError, the design did not serve it."""
        try:
            (result,) = compare_designs([self.design], workload=workload, **options).values()  # type: ignore[arg-type]
        except ReplayError as error:
            how = ", ".join(f"{name} {value}" for name, value in options.items())
            raise broken("answers", f"the design did not serve a whole workload with {how}: {error}") from None
        return result

    def steadily(self, wait: str) -> dict[str, float]:
        """Return the costs of one fault by itself, without the costs that occur only at the beginning and the end."""
        short, long = (self.replay(pages(n), in_flight=1, wait=wait) for n in (20, 60))
        return {  # whole counts first: the difference of two averages would be off by their rounding
            name: (round(getattr(long.per_fault, name) * 60) - round(getattr(short.per_fault, name) * 20)) / 40
            for name in COUNTED
        }

    def spent(self, machine: Machine, before: Counts) -> dict[str, int]:
        """Return the counts since *before*."""
        now = machine.channel.cost()
        return {name: getattr(now, name) - getattr(before, name) for name in COUNTED}

    def warm(self, machine: Machine) -> Counts:
        """Serve one fault, so that the costs of the beginning are over. Return the counts."""
        self.needs_a_client()
        self.access(machine, 1000)
        serve(machine.channel, machine.address_space, 1)
        self.turn(machine)
        machine.channel.wait()
        return machine.channel.cost()

    # ---- what a design delivers ----

    def test_a_fault_is_delivered_answered_and_retried(self, machine: Machine) -> None:
        ticket = machine.endpoint.access(1, BASE, READ)
        if self.has_client:
            group = self.receive_one(machine)
            self.same("answers", "the access, before it is answered", self.results(machine, [ticket]), ["PENDING"])
            fault = group.faults[0]
            self.same("once", "PASID, address and permission", (group.pasid, fault.addr, fault.perm), (1, BASE, READ))
            machine.address_space.map(group)
            self.respond(machine, group)
        self.turn(machine)
        self.same("answers", "the access, after it is answered", self.results(machine, [ticket]), ["OK"])

    def test_every_fault_of_a_real_program_is_answered_once(self) -> None:
        for in_flight in (1, 16, 64):
            self.replay(in_flight=in_flight)
        self.replay(wait="spin")

    def test_groups_of_a_real_program_are_answered_once(self) -> None:
        self.replay(group=4)

    def test_groups_are_delivered_whole(self, machine: Machine) -> None:
        self.needs_a_client()
        machine.endpoint.access(1, BASE, READ, pages=3)
        machine.endpoint.access(2, BASE, WRITE, pages=2)
        groups = self.receive(machine)
        self.same(
            "groups",
            "pages of each group",
            [[(fault.addr - BASE) // PAGE for fault in group.faults] for group in groups],
            [[0, 1, 2], [0, 1]],
        )
        self.same(
            "groups",
            "LAST_PAGE of each message",
            [[bool(fault.flags & FaultFlags.LAST_PAGE) for fault in group.faults] for group in groups],
            [[False, False, True], [False, True]],
        )

    def test_faults_are_delivered_in_their_order(self, machine: Machine) -> None:
        self.needs_a_client()
        for n in range(20):
            machine.endpoint.access(1, BASE + n * PAGE, READ)
        addresses = [group.faults[0].addr for group in self.receive(machine)]
        self.same("order", "pages received", [(a - BASE) // PAGE for a in addresses], list(range(20)))

    def test_many_groups_of_all_sizes_are_delivered_once(self, machine: Machine) -> None:
        self.needs_a_client()
        tickets = [self.access(machine, n, pages=1 + n % 4, pasid=n % 3) for n in range(200)]
        faults = sum(1 + n % 4 for n in range(200))
        served = serve(machine.channel, machine.address_space, faults)
        self.turn(machine)
        self.same("once", "faults received", served, faults)
        self.same("answers", "accesses that are not OK", self.unlike_ok(machine, tickets), [])
        self.same("answers", "refused answers", machine.channel.cost().answer_errors, 0)

    def unlike_ok(self, machine: Machine, tickets: Iterable[int]) -> list[str]:
        """The results that are not OK."""
        return [result for result in self.results(machine, tickets) if result != "OK"]

    def test_answers_may_come_in_any_order(self, machine: Machine) -> None:
        self.needs_a_client()
        tickets = [machine.endpoint.access(1, BASE + n * PAGE, READ) for n in range(5)]
        groups = self.receive(machine)
        for group in reversed(groups):
            machine.address_space.map(group)
            group.respond()
        machine.channel.flush()
        self.turn(machine)
        self.same("answers", "the accesses", self.results(machine, tickets), ["OK"] * 5)

    def test_each_group_gets_its_own_code(self, machine: Machine) -> None:
        """A design that delivers INVALID once must not deliver INVALID for the next group."""
        self.needs_a_client()
        for turn, count in enumerate((2, 9, 1, 1)):
            tickets = [self.access(machine, 20 * turn + n) for n in range(count)]
            groups = self.receive(machine)
            self.same("once", "groups received", len(groups), count)
            expected = ["INVALID" if (n + turn) % 2 else "OK" for n in range(count)]
            for group, result in zip(groups, expected, strict=True):
                if result == "OK":
                    machine.address_space.map(group)
                group.respond(PageResponse.SUCCESS if result == "OK" else PageResponse.INVALID)
            machine.channel.flush()
            self.turn(machine)
            self.same("answers", "the accesses", self.results(machine, tickets), expected)
        self.same("answers", "refused answers", machine.channel.cost().answer_errors, 0)

    def test_success_without_a_mapping_is_noticed(self, machine: Machine) -> None:
        self.needs_a_client()
        ticket = machine.endpoint.access(1, BASE, READ)
        self.respond(machine, self.receive_one(machine))
        self.same("answers", "the access to a page that was not mapped", self.results(machine, [ticket]), ["UNMAPPED"])
        self.same("answers", "faults without a mapping", machine.account().unmapped, 1)

    # ---- when answers leave ----

    def test_a_flush_sends_what_was_answered(self, machine: Machine) -> None:
        """A flush must send even a single answer, because the client may never give another."""
        self.needs_a_client()
        for number, count in enumerate((1, 3, 7, 9)):
            tickets = [self.access(machine, 20 * number + n) for n in range(count)]
            for group in self.receive(machine):
                machine.address_space.map(group)
                group.respond()
            machine.channel.flush()
            self.turn(machine)
            found = self.results(machine, tickets)
            self.same("flush", f"{count} accesses, after their answers and a flush", found, ["OK"] * count)

    def test_answers_are_sent_before_the_client_waits(self, machine: Machine) -> None:
        self.needs_a_client()
        tickets = [self.access(machine, n) for n in range(3)]
        for group in self.receive(machine):
            machine.address_space.map(group)
            group.respond()
        for _ in range(3):
            if machine.channel.wait():
                machine.channel.receive()
        found = self.results(machine, tickets)
        self.same("flush", "accesses, answered by a client that then waits", found, ["OK"] * 3)

    def test_answers_are_sent_before_an_event_loop_sleeps(self, machine: Machine) -> None:
        self.needs_a_client()
        ticket = self.access(machine, 0)
        group = self.receive_one(machine)
        machine.address_space.map(group)
        group.respond()
        machine.channel.prepare_sleep()
        self.turn(machine)
        machine.channel.awake()
        found = self.results(machine, [ticket])
        self.same("flush", "an access, answered before the event loop sleeps", found, ["OK"])

    def test_answers_are_sent_when_a_client_that_spins_finds_nothing(self) -> None:
        """A client that spins receives again and again, and makes no other call."""
        self.needs_a_client()
        with open_machine(self.design, "spin") as machine:
            tickets = [self.access(machine, n) for n in range(3)]
            for group in self.receive(machine):
                machine.address_space.map(group)
                group.respond()
            self.same("once", "messages received, with nothing there", len(machine.channel.receive()), 0)
            self.turn(machine)
            found = self.results(machine, tickets)
            self.same("flush", "accesses, answered by a client that then finds nothing", found, ["OK"] * 3)

    # ---- sleeping and waking ----

    def test_a_client_that_waits_gets_what_comes(self, machine: Machine) -> None:
        self.needs_a_client()
        for n in range(3):
            self.same("wait", "`wait`, with nothing to come", machine.channel.wait(), False)
            ticket = self.access(machine, n)
            self.same("wake", "`wait`, with a fault to come", machine.channel.wait(), True)
            groups = receive_groups(machine.channel)
            self.same("wake", "groups received by a client that was woken", len(groups), 1)
            machine.address_space.map(groups[0])
            self.respond(machine, groups[0])
            self.same("answers", "the access", self.results(machine, [ticket]), ["OK"])

    def test_a_client_does_not_sleep_on_what_is_there(self, machine: Machine) -> None:
        """A group that became visible while the client was awake causes no wake-up, so `wait` must notice it."""
        self.needs_a_client()
        for n in range(3):
            self.access(machine, n)
            self.turn(machine)
            self.same("wait", "`wait`, with a group that is visible", machine.channel.wait(), True)
            self.same("wait", "groups received", len(receive_groups(machine.channel)), 1)

    def test_an_event_loop_is_woken(self, machine: Machine) -> None:
        self.needs_a_client()
        for n in range(3):
            self.same("wait", "`prepare_sleep`, with nothing there", machine.channel.prepare_sleep(), False)
            self.access(machine, n)
            readable, _, _ = select.select([machine.channel.eventfd], [], [], 0)
            machine.channel.awake()
            self.holds("wake", "the eventfd of a client that sleeps is not readable after a fault", bool(readable))
            self.receive_one(machine, "wake")

    def test_nothing_is_delivered_where_nothing_faults(self, machine: Machine) -> None:
        self.needs_a_client()
        self.same("once", "groups received, before any fault", len(self.receive(machine)), 0)
        machine.address_space.map_page(1, BASE, READ)
        ticket = machine.endpoint.access(1, BASE, READ)
        self.same("once", "groups received of an access to a mapped page", len(self.receive(machine)), 0)
        self.same("once", "that access", self.results(machine, [ticket]), ["OK"])

    # ---- bad answers, and the end ----

    def test_a_made_up_answer_disturbs_nobody(self, machine: Machine) -> None:
        self.needs_a_client()
        ticket = machine.endpoint.access(1, BASE, READ)
        group = self.receive_one(machine)
        for cookie in (0, group.cookie + 1, 0xFFFF_FFFF):
            machine.channel.answer(cookie, PageResponse.SUCCESS)
            machine.channel.flush()
        self.turn(machine)
        machine.channel.receive()  # designs that complete refusals count them here
        found = self.results(machine, [ticket])
        self.same("answers", "an access, after answers to other groups", found, ["PENDING"])
        self.same("count: refusals", "refused answers, of 3 made-up ones", machine.channel.cost().answer_errors, 3)
        machine.address_space.map(group)
        self.respond(machine, group)
        self.same("answers", "the access, after its own answer", self.results(machine, [ticket]), ["OK"])

    def test_an_answer_given_twice_is_refused_once(self, machine: Machine) -> None:
        self.needs_a_client()
        machine.endpoint.access(1, BASE, READ)
        group = self.receive_one(machine)
        machine.address_space.map(group)
        self.respond(machine, group)
        machine.channel.answer(group.cookie, PageResponse.SUCCESS)
        machine.channel.flush()
        self.turn(machine)
        machine.channel.receive()
        self.same("count: refusals", "refused answers, of 2 to one group", machine.channel.cost().answer_errors, 1)
        self.same("answers", "faults that were answered", machine.account().answered, 1)

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
        self.same("detach", "the accesses", self.results(machine, tickets), ["OK"] + ["INVALID"] * 5)
        account = machine.account()
        found = (account.sent, account.answered, account.auto_answered, account.lost)
        self.same("detach", "faults sent, answered, answered for, lost", found, (7, 1, 6, 0))

    def test_an_answer_after_detach_is_refused(self, machine: Machine) -> None:
        self.needs_a_client()
        machine.endpoint.access(1, BASE, READ)
        group = self.receive_one(machine)
        machine.detach()
        self.respond(machine, group)
        machine.channel.receive()
        self.same("detach", "refused answers, of one after the detach", machine.channel.cost().answer_errors, 1)
        self.same("detach", "faults that are lost", machine.account().lost, 0)

    # ---- counting ----

    def test_where_nothing_faults_nothing_counts(self) -> None:
        self.needs_a_client()
        with open_machine(self.design, "spin") as machine:
            before = self.warm(machine)
            for _ in range(5):
                machine.channel.wait()
                machine.channel.receive()
            spent = self.spent(machine, before)
            looks = spent.pop("empty_polls")
            self.holds("count: nothing", f"{looks} empty polls in 5 looks of a client that spins", looks <= 5)
            self.same("count: nothing", "counts of 5 looks at nothing", spent, dict.fromkeys(spent, 0))

    def test_a_client_that_sleeps_pays_for_it(self) -> None:
        self.needs_a_client()
        with open_machine(self.design, "sleep") as machine:
            before = self.warm(machine)
            for _ in range(5):
                self.same("wait", "`wait`, with nothing to come", machine.channel.wait(), False)
            self.paid(machine, before, "5 sleeps")
            before = machine.channel.cost()
            for _ in range(5):
                self.same("wait", "`prepare_sleep`, with nothing there", machine.channel.prepare_sleep(), False)
                machine.channel.awake()
            self.paid(machine, before, "5 sleeps of an event loop")

    def paid(self, machine: Machine, before: Counts, what: str) -> None:
        """Check that each of five sleeps was at least one call, and that nothing else was counted."""
        spent = self.spent(machine, before)
        calls = spent.pop("system_calls")
        self.holds("count: sleep", f"{calls} system calls for {what}", calls >= 5)
        self.same("count: sleep", f"other counts of {what}", spent, dict.fromkeys(spent, 0))

    def test_waking_counts_once_and_a_client_that_spins_needs_no_wake_up(self) -> None:
        self.needs_a_client()
        for wait in WAITS:
            with open_machine(self.design, wait) as machine:
                before = self.warm(machine)
                for n in range(4):
                    self.access(machine, n)
                    serve(machine.channel, machine.address_space, 1)
                    machine.channel.wait()
                expected = 4 if wait == "sleep" or self.info.signals_awake else 0
                what = f"wake-ups of 4 faults, each by itself, wait {wait}"
                self.same("count: wake-ups", what, self.spent(machine, before)["wakeups"], expected)

    def test_each_message_and_each_answer_counts_its_bytes(self, machine: Machine) -> None:
        self.needs_a_client()
        before = self.warm(machine)
        for n in range(8):
            self.access(machine, n)
        groups = self.receive(machine)
        delivered = self.spent(machine, before)["bytes_copied"]
        least = 8 * LEAST_MESSAGE_BYTES
        self.holds("count: bytes", f"{delivered} bytes for 8 messages: at least {least}", delivered >= least)
        before = machine.channel.cost()
        for group in groups:
            machine.address_space.map(group)
            group.respond()
        machine.channel.flush()
        self.turn(machine)
        answered = self.spent(machine, before)["bytes_copied"]
        least = 8 * LEAST_ANSWER_BYTES
        self.holds("count: bytes", f"{answered} bytes for 8 answers: at least {least}", answered >= least)

    def test_a_batch_costs_no_more_than_its_faults_by_themselves(self) -> None:
        """A higher cost in a batch means that something was counted twice, or for each poll."""
        self.needs_a_client()
        for wait in WAITS:
            alone = self.steadily(wait)
            with open_machine(self.design, wait) as machine:
                before = self.warm(machine)
                for n in range(16):
                    self.access(machine, n)
                serve(machine.channel, machine.address_space, 16)
                self.turn(machine)
                spent = self.spent(machine, before)
            for name, rule in (
                ("system_calls", "count: calls"),
                ("bytes_copied", "count: bytes"),
                ("wakeups", "count: wake-ups"),
            ):
                most = 16 * alone[name]
                what = f"{name}, wait {wait}: {spent[name]} for 16 faults in a batch, {most:g} for 16 by themselves"
                self.holds(rule, what, spent[name] <= most)

    def test_a_flush_of_nothing_costs_nothing(self, machine: Machine) -> None:
        before = self.warm(machine)
        for _ in range(3):
            machine.channel.flush()
        spent = self.spent(machine, before)
        self.same("count: calls", "counts of 3 flushes of nothing", spent, dict.fromkeys(spent, 0))

    def test_one_fault_costs_what_the_design_says(self) -> None:
        self.needs_a_client()
        said = self.alone
        if said is None and self.info.python is not None:
            said = self.info.python.alone
        if said is None:
            self.skip("the design does not declare the costs of one fault in `alone`")
        found = self.steadily("sleep")
        expected = {name: getattr(said, name) for name in COUNTED}
        self.same("count: as said", "counts of one fault by itself", found, expected)

    def test_counts_are_the_same_every_time(self) -> None:
        for wait in WAITS:
            first, second = (self.replay(pages(500), in_flight=8, wait=wait) for _ in range(2))
            self.same("count: the same", f"a second replay, wait {wait}", second, first)


def pages(n: int) -> Workload:
    """Return a workload of *n* neighbouring pages of one address space, each with one fault."""
    return Workload(f"{n} pages", b"".join(ROW.pack(i, BASE + i * PAGE, 1, READ) for i in range(n)))
