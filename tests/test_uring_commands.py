"""The designs on URING_CMDs: what each posts, what ends it, and what a fault costs; no fault is lost by an end."""

from __future__ import annotations

import pytest

from tests.registered import registered
from tests.scene import SLEEP, SPIN, Client, Scene
from uring_iopf._core import lib
from uring_iopf.core import Driver
from uring_iopf.testing.compare import compare_designs

WAITS = pytest.mark.parametrize("wait", [SLEEP, SPIN], ids=["sleep", "spin"])
DRIVERS = pytest.mark.parametrize("driver", [Driver.INLINE, Driver.ENTER, Driver.SQPOLL])
DESIGNS = registered(commands=True)


@pytest.mark.parametrize("wait", ["sleep", "spin"])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("in_flight", [1, 16, 64, 500])
@pytest.mark.parametrize(("design", "each", "once"), [("uring-cmd", 32, 64), ("uring-fetch", 40, 80)])
def test_a_fault_costs_what_was_said_beforehand(
    design: str, each: int, once: int, in_flight: int, group: int, wait: str
) -> None:
    """*each*: bytes for each fault. *once*: for each group."""
    (result,) = compare_designs([design], in_flight=in_flight, group=group, wait=wait).values()
    cost, fits = result.per_fault, result.faults // group
    assert cost.system_calls == pytest.approx((1 if wait == "sleep" else 2) / in_flight / group, abs=0.004)
    assert cost.wakeups == pytest.approx(1 / in_flight / group if wait == "sleep" else 0, abs=0.002)
    posted = 64 * (in_flight if design == "uring-fetch" else 1) / result.faults  # at first, without an answer
    assert cost.bytes_copied == pytest.approx(each + once / group + posted, abs=2 * once / fits + 0.1)
    assert (cost.empty_polls, cost.answer_errors, cost.ends, cost.punts) == (0, 0, 0, 0)


@DRIVERS
@WAITS
@pytest.mark.parametrize("design", DESIGNS)
def test_faults_one_by_one_are_all_received(design: str, driver: Driver, wait: int) -> None:
    with Scene(design, driver, wait=wait, in_flight=4) as scene:
        client = scene.client
        for n in range(200):
            scene.queue.report()
            while len(client.received) == n:
                client.wait()
                client.receive()
            client.answer(client.received[-1][1])
        client.flush()
        assert [grpid for grpid, _ in client.received] == list(range(200))
        assert (client.cost("answer_errors"), client.cost("ends")) == (0, 0)


@WAITS
@pytest.mark.parametrize("design", DESIGNS)
def test_a_client_that_never_answers_goes_on_receiving(design: str, wait: int) -> None:
    """Its groups are answered for it, when the table is detached; its commands must not be used up by that."""
    with Scene(design, wait=wait, in_flight=2) as scene:
        for n in range(0, 40, 4):
            scene.queue.report(4)
            assert scene.client.receive_all() == [n, n + 1, n + 2, n + 3]
        assert scene.queue.answers() == []


@WAITS
@pytest.mark.parametrize("design", DESIGNS)
def test_answers_beyond_what_was_received_are_refused_each(design: str, wait: int) -> None:
    with Scene(design, wait=wait, in_flight=4) as scene:
        scene.queue.report(2)
        assert scene.client.receive_all() == [0, 1]
        scene.client.answer(1, 1, 2, 999, 2, 1)
        scene.client.flush()
        assert sorted(scene.queue.answers()) == [(0, 0), (1, 0)]
        scene.queue.report(3)
        assert scene.client.receive_all() == [2, 3, 4]
        assert scene.client.cost("answer_errors") == 4


@pytest.mark.parametrize("design", DESIGNS)
def test_what_was_detached_is_answered_late_and_costs_no_later_fault(design: str) -> None:
    with Scene(design, in_flight=4) as scene:
        queue = scene.queue
        queue.report(4)
        assert scene.client.receive_all() == [0, 1, 2, 3]
        lib.uiopf_detach(queue.device, lib.UIOPF_NO_PASID)
        assert queue.answers() == [(n, 1) for n in range(4)]
        assert lib.uiopf_attach(queue.device, lib.UIOPF_NO_PASID, queue.c, lib.UIOPF_USER_MANAGED) == 0
        scene.client.answer(1, 2)
        scene.client.flush()
        queue.report(6)
        assert scene.client.receive_all() == [4, 5, 6, 7, 8, 9]
        assert scene.client.cost("answer_errors") == 2


def test_a_completion_queue_without_room_ends_the_command_and_loses_nothing() -> None:
    with Scene("uring-cmd") as scene:
        client = scene.client
        for n in range(10):
            scene.queue.report(30)
            lib.uiopf_channel_prepare_sleep(client.c)  # it enters, and so they are posted
            lib.uiopf_channel_awake(client.c)
            assert scene.queue.waiting() == max(30 * (n + 1) - 256, 0)
        assert client.receive_all() == list(range(300))
        assert client.cost("ends") == 1


def test_a_receive_takes_no_more_messages_than_it_has_room_for() -> None:
    with Scene("uring-cmd", in_flight=8) as scene:
        scene.queue.report(2, pages=3)
        assert scene.client.wait() == 1
        assert scene.client.receive(2) == []
        assert scene.client.receive(5) == [0, 0, 0]
        assert scene.client.receive(5) == [1, 1, 1]


@pytest.mark.parametrize("in_flight", [1, 5, 64, 300])
def test_as_many_commands_wait_as_groups_may_be_in_flight(in_flight: int) -> None:
    with Scene("uring-fetch", in_flight=in_flight) as scene:
        scene.queue.report(2 * in_flight)
        assert scene.client.wait() == 1
        assert scene.client.receive() == list(range(in_flight))
        scene.client.answer(*(cookie for _, cookie in scene.client.received))
        copied = scene.client.cost("bytes_copied")
        assert scene.client.wait() == 1
        assert scene.client.receive() == list(range(in_flight, 2 * in_flight))
        assert scene.client.cost("bytes_copied") - copied == (64 + 16 + 40) * in_flight


def test_an_answer_without_a_place_left_goes_by_itself() -> None:
    with Scene("uring-fetch", in_flight=2) as scene:
        scene.queue.report(2)
        assert scene.client.receive_all() == [0, 1]  # the look that found nothing more has posted both again
        copied = scene.client.cost("bytes_copied")
        scene.client.answer(1, 2)
        scene.client.flush()
        assert scene.client.cost("bytes_copied") - copied == 2 * 64
        assert scene.queue.answers() == [(0, 0), (1, 0)]
        scene.queue.report(2)
        assert scene.client.receive_all() == [2, 3]


@pytest.mark.parametrize("design", DESIGNS)
def test_a_client_that_closes_leaves_what_it_has_not_received(design: str) -> None:
    with Scene(design, in_flight=4) as scene:
        other = Client(scene.core, scene.queue, design, in_flight=4)
        scene.queue.report(3)
        other.wait()
        other.close()
        delivered = 3 - scene.queue.waiting()
        scene.queue.report(3)
        got = scene.client.receive_all()
        assert got == sorted(got)
        assert set(range(3, 6)) <= set(got)
        assert len(got) + delivered >= 6
        assert scene.queue.waiting() == 0


@pytest.mark.parametrize("wait", ["sleep", "spin"])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("in_flight", [1, 16, 64])
def test_a_batch_has_one_completion_and_one_command(in_flight: int, group: int, wait: str) -> None:
    (result,) = compare_designs(["uring-batch"], in_flight=in_flight, group=group, wait=wait).values()
    cost, faults, at_once = result.per_fault, result.faults, in_flight * group
    assert cost.system_calls == pytest.approx((1 if wait == "sleep" else 2) / at_once, abs=0.004)
    assert cost.wakeups == pytest.approx(1 / at_once if wait == "sleep" else 0, abs=0.002)
    cqes, sqes = 1 / min(at_once, 64), 1 / in_flight / group
    assert cost.bytes_copied == pytest.approx(40 + 8 / group + 32 * cqes + 64 * sqes, abs=1000 / faults)
    assert (cost.empty_polls, cost.answer_errors, cost.ends, cost.punts) == (0, 0, 0, 0)


def test_a_batch_has_64_messages_and_64_answers_at_most() -> None:
    (result,) = compare_designs(["uring-batch"], in_flight=500).values()
    assert result.per_fault.bytes_copied == pytest.approx(48 + 96 / 64, abs=0.1)
    assert result.per_fault.system_calls == pytest.approx(1 / 500, abs=0.001)


@WAITS
def test_answers_of_several_calls_are_one_command(wait: int) -> None:
    with Scene("uring-batch", wait=wait, in_flight=64) as scene:
        scene.queue.report(40)
        assert scene.client.receive_all() == list(range(40))
        copied = scene.client.cost("bytes_copied")
        scene.client.answer(*range(1, 11))
        scene.client.flush()
        assert scene.client.cost("bytes_copied") - copied == 64 + 10 * 8
        scene.client.answer(*range(11, 41))
        scene.client.flush()
        assert scene.client.cost("bytes_copied") - copied == 2 * 64 + 40 * 8
        assert scene.queue.answers() == [(n, 0) for n in range(40)]


def test_a_batch_is_received_in_parts_and_keeps_its_buffer_until_the_last() -> None:
    with Scene("uring-batch", in_flight=16) as scene:
        scene.queue.report(5, pages=3)
        assert scene.client.wait() == 1
        assert scene.client.receive(7) == [0, 0, 0, 1, 1, 1]
        scene.queue.report(1)
        calls = scene.client.cost("system_calls")
        assert scene.client.wait() == 1
        assert lib.uiopf_channel_prepare_sleep(scene.client.c) == 1
        assert scene.client.receive(2) == []
        assert scene.client.receive(5) == [2, 2, 2]
        assert scene.client.receive(6) == [3, 3, 3, 4, 4, 4]
        assert scene.client.cost("system_calls") == calls
        assert scene.client.receive_all() == [5]


def test_without_a_buffer_left_the_command_ends_and_loses_nothing() -> None:
    with Scene("uring-batch") as scene:
        client = scene.client
        for n in range(70):  # there are 64 buffers
            scene.queue.report()
            lib.uiopf_channel_prepare_sleep(client.c)  # it enters, and so it is posted
            lib.uiopf_channel_awake(client.c)
            assert scene.queue.waiting() == max(n + 1 - 64, 0)
        assert client.receive_all() == list(range(70))
        assert client.cost("ends") == 1
