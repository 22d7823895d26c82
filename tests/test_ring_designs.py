"""What holds for each design on a ring, whatever it posts."""

from __future__ import annotations

import pytest

from tests.scene import SLEEP, SPIN, Scene
from uring_iopf.core import Driver


@pytest.mark.parametrize("design", ["uring-today", "uring-multishot", "uring-linked", "uring-read"])
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
