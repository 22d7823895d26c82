"""When ``uring-today`` reads: a completion says that something arrived, once; and what ends its poll."""

from __future__ import annotations

import pytest

from tests.scene import SLEEP, SPIN, Client, Scene
from uring_iopf._core import ffi, lib
from uring_iopf.core import Driver
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.machine import Machine
from uring_iopf.testing.compare import compare_designs

WAITS = pytest.mark.parametrize("wait", [SLEEP, SPIN], ids=["sleep", "spin"])


@pytest.mark.parametrize("wait", ["sleep", "spin"])
@pytest.mark.parametrize("in_flight", [1, 16, 64, 500])
def test_enter_read_and_write_are_made_once_for_all_that_wait(in_flight: int, wait: str) -> None:
    (result,) = compare_designs(["uring-today"], in_flight=in_flight, wait=wait).values()
    cost = result.per_fault
    assert cost.system_calls == pytest.approx(3 / in_flight, abs=0.01)
    assert cost.wakeups == pytest.approx(1 / in_flight if wait == "sleep" else 0, abs=0.01)
    assert cost.bytes_copied == pytest.approx(40 + 8 + 16 / in_flight, abs=0.1)
    assert (cost.empty_polls, cost.ends, cost.punts) == (0, 0, 0)


def test_beside_a_worker_that_polls_a_look_is_no_call() -> None:
    with Machine(driver="sqpoll", wait="spin", in_flight=1) as machine:
        channel = machine.open("uring-today")
        assert isinstance(channel, NativeChannel)
        machine.start()
        served = ffi.new("struct uiopf_served *")
        while not machine.is_idle():
            assert lib.uiopf_client_serve(channel.c, machine.address_space.c, 5075, 10**9, served) == 0
        assert served.faults == 5075
        cost = channel.cost()
        assert cost.system_calls == 2 * 5075
        assert cost.ends == 0


def overflow(client: Client, scene: Scene) -> None:
    """A completion for each arrival, and nobody takes one, until there is no room and the poll ends."""
    for _ in range(300):
        scene.queue.report()
        lib.uiopf_channel_prepare_sleep(client.c)  # it enters, and so the completion is posted
        lib.uiopf_channel_awake(client.c)
    assert client.cost("ends") == 0


def receive_until_it_has_ended(client: Client) -> list[int]:
    """The ring shows what had no room by and by, so it takes a few looks."""
    got: list[int] = []
    for _ in range(10):
        client.wait()
        got += client.receive()
        if client.cost("ends"):
            return got
    raise AssertionError("the poll goes on")


@WAITS
def test_a_poll_that_overflows_the_completion_queue_ends_and_is_posted_again(wait: int) -> None:
    with Scene("uring-today", wait=wait) as scene:
        client = scene.client
        overflow(client, scene)
        assert receive_until_it_has_ended(client) == list(range(300))
        assert client.cost("ends") == 1
        scene.queue.report(2)
        assert client.receive_all() == [300, 301]
        assert client.cost("ends") == 1


@WAITS
def test_what_a_read_has_left_behind_is_read_without_another_completion(wait: int) -> None:
    with Scene("uring-today", wait=wait) as scene:
        client = scene.client
        scene.queue.report(3)
        assert client.wait() == 1
        assert client.receive(1) == [0]
        before = client.cost("system_calls")
        assert client.wait() == 1
        assert client.cost("system_calls") == before, "it knows without a call"
        assert lib.uiopf_channel_prepare_sleep(client.c) == 1
        assert client.receive(1) == [1]
        assert client.receive(2) == [2]
        assert client.cost("system_calls") == before + 2
        assert client.wait() == 0


def test_the_largest_group_may_be_what_was_left() -> None:
    """Three messages of room are not enough for a group of four, so a read that left three may have left one behind."""
    with Machine(None, driver="inline", group=4, in_flight=8) as machine:
        channel = machine.open("uring-today")
        assert isinstance(channel, NativeChannel)
        for n in range(3):
            machine.endpoint.access(1, 0x1000 * 4 * n, 1, pages=4)
        channel.turn()
        assert channel.wait()
        messages = ffi.new("struct iommu_hwpt_pgfault[11]")
        assert lib.uiopf_channel_receive(channel.c, messages, 11) == 8
        assert lib.uiopf_channel_receive(channel.c, messages, 11) == 4
        assert not channel.wait()


@WAITS
def test_a_group_that_another_reader_takes_costs_a_look_and_ends_nothing(wait: int) -> None:
    with Scene("uring-today", wait=wait) as scene:
        client = scene.client
        scene.queue.report()
        assert client.wait() == 1
        assert scene.steal() == (0, 1)
        assert client.receive() == []
        assert client.wait() == 0
        scene.queue.report()
        assert client.receive_all() == [1]
        assert client.cost("ends") == 0


def test_a_poll_that_fails_is_an_end_and_is_posted_again() -> None:
    with Scene("uring-today") as scene:
        client = scene.client
        overflow(client, scene)
        lib.uiopf_core_uninstall(scene.core.c, scene.queue.fd + 1, ffi.NULL)  # the number is the client's only one
        assert receive_until_it_has_ended(client) == list(range(300))
        for ends in (2, 3, 4):
            assert (client.wait(), client.receive()) == (1, [])
            assert client.cost("ends") == ends
        assert lib.uiopf_core_install(scene.core.c, lib.uiopf_faultq_file(scene.queue.c)) == scene.queue.fd + 1
        scene.queue.report()
        assert client.receive_all() == [300]


@pytest.mark.parametrize("driver", [Driver.INLINE, Driver.ENTER, Driver.SQPOLL])
@WAITS
def test_faults_one_by_one_are_all_received(driver: Driver, wait: int) -> None:
    with Scene("uring-today", driver, wait=wait) as scene:
        client = scene.client
        for n in range(200):
            scene.queue.report()
            while len(client.received) == n:
                client.wait()
                client.receive()
            client.answer(client.received[-1][1])
        client.flush()
        assert [grpid for grpid, _ in client.received] == list(range(200))
        assert client.cost("answer_errors") == 0
        assert client.cost("ends") == 0
