"""Several work queues in one function share its credits and indices; one is drained while the others go on."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.test_pri import PAGE, READ, Site, refused
from uring_iopf import Machine
from uring_iopf.abi import PageResponse
from uring_iopf.core import Core
from uring_iopf.errors import UsageError
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.limits import IOMMUS
from uring_iopf.hardware.work_queues import WorkCounts, WorkQueues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf.abi.records import FaultMessage
    from uring_iopf.hardware.work_queues import WorkQueue

PENDING, UNMAPPED, INVALID = AccessResult.PENDING, AccessResult.UNMAPPED, AccessResult.INVALID
FAILED = AccessResult.FAILED


@pytest.fixture
def site() -> Iterator[Site]:
    one = Site()
    yield one
    one.close()


def answer(site: Site, messages: list[FaultMessage], code: PageResponse = PageResponse.SUCCESS) -> None:
    for cookie in {message.cookie for message in messages}:
        site.queue.respond(cookie, code)
    site.turn()


def test_queues_share_the_functions_credits_and_indices(site: Site) -> None:
    site.end.enable_pri(6)
    queues = WorkQueues(site.end)
    first, second = queues.add(1), queues.add(2)
    taken = [first.submit(n * PAGE, READ, pages=2) for n in range(3)]
    waits = second.submit(PAGE, READ, pages=2)
    site.turn()
    messages = site.queue.read_messages()
    assert {message.pasid for message in messages} == {1}, "no credit is left for the other"
    assert second.result(waits) is PENDING
    answer(site, messages[:2])
    (late,) = {message.grpid for message in site.queue.read_messages()}
    assert late not in {message.grpid for message in messages[2:]}, "an index is in use once, whoever uses it"
    assert first.result(taken[0]) is UNMAPPED
    assert second.counts() == WorkCounts(1, 1, 0, 0, 0, 0, 0)
    assert first.counts() == WorkCounts(3, 2, 0, 1, 0, 0, 0)


def test_a_full_queue_refuses_and_the_others_do_not(site: Site) -> None:
    site.end.enable_pri()
    queues = WorkQueues(site.end)
    small, large = queues.add(1, size=2), queues.add(2, size=1022)
    for _ in range(2):
        small.submit(PAGE, READ)
    assert refused(small.submit, PAGE, READ) == errno.EAGAIN
    large.submit(PAGE, READ)
    site.turn()
    answer(site, site.queue.read_messages())
    small.submit(PAGE, READ)


def test_what_cannot_be_is_refused(site: Site) -> None:
    queues = WorkQueues(site.end)
    one = queues.add(1, size=1000)
    for options, says in [
        ({"pasid": 1}, "there is one with 1"),
        ({"pasid": 2, "size": 25}, "size must be 24 or less"),
        ({"pasid": 2, "size": 0}, "size must be 1 to 1024"),
        ({"pasid": 1 << 20}, "pasid"),
    ]:
        with pytest.raises(UsageError, match=says):
            queues.add(**options)
    with pytest.raises(UsageError, match="endpoint must be an Endpoint"):
        WorkQueues(5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not stopped"):
        one.waiting()
    site.end.enable_pri()
    number = one.submit(PAGE, READ)
    site.turn()
    assert one.stop() == 1
    with pytest.raises(UsageError, match="1 page requests of this queue wait"):
        one.resume()
    site.answer(PageResponse.INVALID)
    assert one.result(number) is INVALID
    with pytest.raises(UsageError, match="once"):
        one.result(number)


def test_one_queue_is_stopped_and_drained_while_the_others_go_on(site: Site) -> None:
    site.end.enable_pri(4)
    queues = WorkQueues(site.end)
    gone, stays = queues.add(1), queues.add(2)
    sent = gone.submit(PAGE, READ, pages=3)
    site.turn()
    unsent = gone.submit(PAGE, READ, pages=2)
    other = stays.submit(8 * PAGE, READ)
    assert gone.stop() == 3
    assert gone.result(unsent) is FAILED, "it had asked for nothing"
    assert refused(gone.submit, PAGE, READ) == errno.EPERM
    site.turn()
    messages = site.queue.read_messages()
    assert [message.pasid for message in messages] == [1, 1, 1, 2]
    answer(site, messages[3:])
    assert stays.result(other) is UNMAPPED
    assert (gone.stop(), gone.waiting(), gone.result(sent)) == (3, 3, PENDING)
    answer(site, messages[:3], PageResponse.INVALID)
    assert gone.waiting() == 0
    assert gone.result(sent) is INVALID
    gone.resume()
    gone.submit(PAGE, READ)
    site.turn()
    assert site.answer() == 1
    assert site.end.counts().unexpected == 0


def test_results_outlive_many_accesses_of_other_queues(site: Site) -> None:
    site.end.enable_pri()
    queues = WorkQueues(site.end)
    patient, busy = queues.add(1, size=8), queues.add(2, size=64)
    numbers = [patient.submit(n * PAGE, READ) for n in range(8)]
    for _ in range(1500):
        while len(busy._pending) >= 64:
            site.turn()
            site.answer()
            busy.look()
        busy.submit(PAGE, READ)
    assert [patient.result(number) for number in numbers] == [UNMAPPED] * 8


@pytest.mark.parametrize("iommu", IOMMUS)
def test_a_drained_queue_has_sent_its_last_behind_each_iommu_with_a_worker_beside_it(iommu: str) -> None:
    with Machine(None, driver="sqpoll", iommu=iommu) as machine:
        channel = machine.open("fd")
        queues = WorkQueues(machine.endpoint)
        each = [queues.add(pasid, size=64) for pasid in (1, 2, 3)]
        drained, others = each[1], each[::2]
        stopped = False
        until = time.monotonic() + 30
        goal = 600
        while min(one.counts().submitted for one in others) < goal or any(one.counts().pending for one in each):
            assert time.monotonic() < until
            for one in each:
                if (
                    one.counts().submitted < goal
                    and one.counts().pending < one.size
                    and not (one is drained and stopped)
                ):
                    one.submit(one.counts().submitted * PAGE, READ)
            if not stopped and drained.counts().submitted > 100:
                drained.stop()
                stopped = True
            done = stopped and drained.waiting() == 0
            for message in channel.receive():
                assert not (done and message.pasid == 2), "it was drained"
                if message.flags & 2:
                    channel.answer(message.cookie, PageResponse.INVALID)
            channel.flush()
        counts = drained.counts()
        assert 100 < counts.submitted < goal
        assert counts.invalid + counts.failed == counts.submitted
        assert [(*one.counts()[:2], one.counts().invalid) for one in others] == [(goal, 0, goal)] * 2
        assert machine.endpoint.counts().unexpected == 0
        assert machine.account().lost == 0


class QueuesMachine(RuleBasedStateMachine):
    """Three queues with few credits, in any order: work ends once, and a drained queue says nothing more."""

    @initialize(allocation=st.integers(3, 12))
    def begin(self, allocation: int) -> None:
        self.site = Site()
        self.site.end.enable_pri(allocation)
        self.queues = WorkQueues(self.site.end)
        self.each = [self.queues.add(pasid, size=5) for pasid in (1, 2, 3)]
        self.stopped: set[int] = set()
        self.work: dict[tuple[int, int], AccessResult] = {}
        self.messages: list[list[FaultMessage]] = []

    def teardown(self) -> None:
        if not hasattr(self, "site"):
            return
        for _ in range(40):
            self.read()
            while self.messages:
                self.answer(0, PageResponse.INVALID)
            self.site.turn()
        for one in self.each:
            assert one.counts().pending == 0
        counts = self.site.end.counts()
        assert (counts.outstanding, counts.unexpected) == (0, 0), "every credit is back"
        self.site.close()

    def queue(self, n: int) -> WorkQueue:
        return self.each[n]

    @rule(n=st.integers(0, 2), pages=st.integers(1, 3))
    def submit(self, n: int, pages: int) -> None:
        one = self.queue(n)
        if one.pasid in self.stopped:
            assert refused(one.submit, PAGE, READ) in (errno.EPERM, errno.EAGAIN)
        elif one.counts().pending == one.size:
            assert refused(one.submit, PAGE, READ) == errno.EAGAIN
        else:
            self.work[one.pasid, one.submit(PAGE * len(self.work), READ, pages=pages)] = PENDING

    @rule()
    def turn(self) -> None:
        self.site.core.produce()

    @rule()
    def read(self) -> None:
        groups: dict[int, list[FaultMessage]] = {}
        for message in self.site.queue.read_messages():
            groups.setdefault(message.cookie, []).append(message)
        self.messages += groups.values()

    @precondition(lambda self: self.messages)
    @rule(n=st.integers(0, 20), code=st.sampled_from([PageResponse.SUCCESS, PageResponse.INVALID]))
    def answer(self, n: int, code: PageResponse) -> None:
        group = self.messages.pop(n % len(self.messages))
        self.site.queue.respond(group[0].cookie, code)

    @rule(n=st.integers(0, 2), marker=st.booleans())
    def stop(self, n: int, marker: bool) -> None:
        self.queue(n).stop(marker=marker)
        self.stopped.add(self.queue(n).pasid)

    @rule(n=st.integers(0, 2))
    def resume(self, n: int) -> None:
        one = self.queue(n)
        if one.pasid in self.stopped and one.waiting():
            with pytest.raises(UsageError, match="drain it first"):
                one.resume()
        else:
            one.resume()
            self.stopped.discard(one.pasid)

    @invariant()
    def work_ends_once_and_a_drained_queue_has_nothing_outstanding(self) -> None:
        if not hasattr(self, "site"):
            return
        for one in self.each:
            counts = one.counts()
            assert counts.submitted == sum(counts[1:])
            if one.pasid in self.stopped and not one.waiting():
                assert not [group for group in self.messages if group[0].pasid == one.pasid]
                assert counts.pending == 0
        for (pasid, number), before in self.work.items():
            if before is PENDING:
                self.work[pasid, number] = self.queue(pasid - 1).result(number)


TestQueues = QueuesMachine.TestCase
TestQueues.settings = settings(settings(), stateful_step_count=40)


def test_a_closed_function_has_no_queues() -> None:
    with Core() as core:
        iommu = VtdIommu(core)
        end = Endpoint(iommu)
        one = WorkQueues(end).add(1)
        end.close()
        with pytest.raises(UsageError):
            one.submit(PAGE, READ)
        iommu.close()
