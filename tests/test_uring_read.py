"""How many READs ``uring-read`` posts ahead, when they are posted again, and what ends one; no fault is lost by it."""

from __future__ import annotations

import pytest

from tests.scene import SLEEP, SPIN, Scene
from uring_iopf._core import lib
from uring_iopf.core import Driver
from uring_iopf.testing.compare import compare_designs

MOST_READS = 32
MOST_WAKES = 126  # of a READ that finds nothing each time (Linux's APOLL_MAX_RETRY)


@pytest.mark.parametrize(("in_flight", "reads"), [(1, 1), (2, 2), (31, 31), (32, 32), (33, 32), (500, 32)])
def test_as_many_reads_wait_as_groups_may_be_in_flight(in_flight: int, reads: int) -> None:
    with Scene("uring-read", in_flight=in_flight) as scene:
        scene.queue.report(80)
        received: list[int] = []
        while len(received) < 80:
            assert scene.client.wait() == 1
            batch = scene.client.receive()
            assert len(batch) == min(reads, 80 - len(received))
            received += batch
        assert received == list(range(80))
        assert scene.client.cost("ends") == 0


@pytest.mark.parametrize("driver", [Driver.INLINE, Driver.SQPOLL])
def test_a_read_that_has_read_something_is_no_end(driver: Driver) -> None:
    with Scene("uring-read", driver, in_flight=4) as scene:
        for n in range(50):
            scene.queue.report()
            while len(scene.client.received) == n:
                scene.client.wait()
                scene.client.receive()
            scene.client.answer(scene.client.received[-1][1])
        assert [grpid for grpid, _ in scene.client.received] == list(range(50))
        assert scene.client.cost("ends") == 0


def test_reads_that_are_woken_in_vain_end_and_are_posted_again() -> None:
    """The newest READ has each fault. The others are woken in vain, so often and no more."""
    with Scene("uring-read", in_flight=8) as scene:
        for n in range(MOST_WAKES):
            scene.queue.report()
            assert scene.client.receive_all() == [n]
        assert scene.client.cost("ends") == 0
        scene.queue.report()
        assert scene.client.receive_all() == [MOST_WAKES]
        assert scene.client.cost("ends") == 7
        for n in range(MOST_WAKES + 1, 600):
            scene.queue.report()
            assert scene.client.receive_all() == [n]
        assert scene.client.cost("ends") % 7 == 0
        assert scene.client.cost("punts") == 0
        scene.queue.report(8)
        assert scene.client.wait() == 1
        assert scene.client.receive() == list(range(600, 608)), "all eight wait again"


@pytest.mark.parametrize("wait", [SLEEP, SPIN], ids=["sleep", "spin"])
def test_a_read_is_submitted_by_the_call_that_sends_its_answer(wait: int) -> None:
    with Scene("uring-read", wait=wait) as scene:
        scene.queue.report()
        assert scene.client.receive_all() == [0]
        before = scene.client.cost("system_calls")
        copied = scene.client.cost("bytes_copied")
        scene.client.answer(1)
        scene.client.flush()
        assert scene.client.cost("system_calls") == before + 1
        read = 64 if wait == SPIN else 0  # the wait that found nothing more has submitted it
        assert scene.client.cost("bytes_copied") - copied == 64 + 8 + read
        scene.queue.report()
        assert scene.client.receive_all() == [1]


def test_a_flush_makes_no_call_for_reads_alone() -> None:
    with Scene("uring-read", wait=SPIN) as scene:
        scene.queue.report()
        assert scene.client.wait() == 1
        assert scene.client.receive() == [0]
        before = scene.client.cost("system_calls")
        scene.client.flush()
        assert scene.client.wait() == 0, "there is nothing to receive, and nothing to send but the READ"
        assert scene.client.cost("system_calls") == before


def test_a_receive_while_another_task_sleeps_submits_its_reads() -> None:
    """The one that sleeps makes no call, and with no READ posted nothing would complete."""
    with Scene("uring-read") as scene:
        c = scene.client.c
        assert lib.uiopf_channel_prepare_sleep(c) == 0
        scene.queue.report()
        before, copied = scene.client.cost("system_calls"), scene.client.cost("bytes_copied")
        while not scene.client.receive():
            pass
        assert scene.client.cost("bytes_copied") - copied == 40 + 16 + 64
        assert scene.client.cost("system_calls") - before == 2, "it has looked, and submitted"
        lib.uiopf_channel_awake(c)


def test_a_completion_queue_that_overflows_loses_no_fault() -> None:
    with Scene("uring-read") as scene:
        for _ in range(10):
            scene.client.answer(*([999] * 32))  # each is a completion of its own, since it is refused
            scene.client.flush()
        scene.queue.report(3)
        assert scene.client.receive_all() == [0, 1, 2]
        assert scene.client.cost("answer_errors") == 320


@pytest.mark.parametrize(("in_flight", "calls"), [(1, 1), (16, 1 / 16), (32, 1 / 32), (64, 1 / 32), (512, 1 / 32)])
def test_a_call_carries_as_many_faults_as_reads_are_posted(in_flight: int, calls: float) -> None:
    (result,) = compare_designs(["uring-read"], in_flight=in_flight).values()
    cost = result.per_fault
    assert cost.system_calls == pytest.approx(calls, abs=0.002)
    assert cost.wakeups == pytest.approx(1 / in_flight, abs=0.002)
    assert cost.bytes_copied == pytest.approx(192, abs=0.5)
    assert (cost.ends, cost.punts) == (0, 0)


@pytest.mark.parametrize("in_flight", [1, 16, 64])
def test_a_spinning_client_makes_one_call_more(in_flight: int) -> None:
    (result,) = compare_designs(["uring-read"], in_flight=in_flight, wait="spin").values()
    assert result.per_fault.system_calls == pytest.approx(1 / min(in_flight, 32) + 1 / in_flight, abs=0.002)
    assert result.per_fault.wakeups == 0


def test_answers_that_a_client_has_kept_leave_together_with_reads() -> None:
    """The submission queue has room for an answer to each group in flight, and for the READs of the last receive."""
    with Scene("uring-read", in_flight=64) as scene:
        client = scene.client
        scene.queue.report(64)
        for _ in range(2):
            assert client.wait() == 1
            assert len(client.receive()) == 32
        before = client.cost("system_calls")
        client.answer(*(cookie for _, cookie in client.received))
        assert client.cost("system_calls") == before
        client.flush()
        assert client.cost("system_calls") == before + 1
        assert client.cost("answer_errors") == 0
