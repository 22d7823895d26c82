"""What holds for each design on a ring, whatever it posts."""

from __future__ import annotations

import pytest

from tests.registered import registered
from tests.scene import SLEEP, SPIN, Client, Scene
from uring_iopf.core import Driver

DESIGNS = registered(has_ring=True)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("in_flight", [1, 4])
def test_two_consumers_receive_each_group_once(design: str, in_flight: int) -> None:
    with Scene(design, in_flight=in_flight) as scene:
        other = Client(scene.core, scene.queue, design, in_flight=in_flight)
        scene.stack.callback(other.close)
        for _ in range(20 * in_flight):
            scene.queue.report(3)
            other.receive_all()
            scene.client.receive_all()
        assert sorted(other.received + scene.client.received) == [(n, n + 1) for n in range(60 * in_flight)]


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("driver", [Driver.ENTER, Driver.SQPOLL])
@pytest.mark.parametrize("wait", [SLEEP, SPIN], ids=["sleep", "spin"])
def test_beside_another_reader_each_fault_is_received_once(design: str, driver: Driver, wait: int) -> None:
    """Two consumers and a worker, whatever the order: who loses a race goes on, and every group is answered."""
    rounds = 30
    with Scene(design, driver, wait=wait, in_flight=4) as scene:
        client, stolen = scene.client, []
        for n in range(rounds):
            scene.queue.report(2)
            if n % 3:
                client.wait()
            grpid, cookie = scene.steal()
            if cookie:
                stolen.append(grpid)
                scene.give_back(cookie)
            while len(stolen) + len(client.received) < 2 * (n + 1):
                client.wait()
                before = len(client.received)
                client.receive()
                client.answer(*(cookie for _, cookie in client.received[before:]))
            client.flush()
        assert sorted(stolen + [grpid for grpid, _ in client.received]) == list(range(2 * rounds))
        assert client.cost("answer_errors") == 0
