"""Designs on the host's own system calls: who wakes whom."""

from __future__ import annotations

import threading
import time
from typing import Final

import pytest

from uring_iopf._native import lib
from uring_iopf.abi.iommufd import PageResponse
from uring_iopf.designs import names, resolve
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.machine import Machine

DESIGNS: Final = [name for name in names() if resolve(name).on_host]
LONG_NS: Final = 450_000_000  # longer than any of these takes, and short enough that one call waits for so long
AT_ONCE_S: Final = 0.3


def sleep_until(machine: Machine, channel: NativeChannel) -> float:
    """Touch a page while the client sleeps in its call. Return how long it slept after that."""
    began: list[float] = []

    def touch() -> None:
        time.sleep(0.03)  # the client sleeps by then, and so does a worker
        began.append(time.monotonic())
        machine.endpoint.access(1, 0x7000_0000 + 0x1000 * int(machine.account().sent), 1)

    thread = threading.Thread(target=touch)
    thread.start()
    found = lib.uiopf_channel_wait(channel.c, LONG_NS)
    ended = time.monotonic()
    thread.join()
    assert found == 1
    return ended - began[0]


@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
@pytest.mark.parametrize("design", DESIGNS)
def test_a_client_that_sleeps_is_woken_by_the_packet(design: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `enter` by the hardware's thread; and what it answers then reaches a worker that sleeps."""
    monkeypatch.setattr("uring_iopf.machine.DEFAULT_IDLE_NS", 1)
    with Machine(None, driver=driver, wait="sleep", in_flight=4) as machine:
        channel = machine.open(design)
        assert isinstance(channel, NativeChannel)
        for n in range(1, 4):
            assert sleep_until(machine, channel) < AT_ONCE_S
            (message,) = channel.receive()
            time.sleep(0.01)
            channel.answer(message.cookie, PageResponse.INVALID)
            channel.flush()
            until = time.monotonic() + AT_ONCE_S
            while machine.queue.counts().answered_faults < n and time.monotonic() < until:
                time.sleep(0.001)
            assert machine.queue.counts().answered_faults == n
        assert channel.cost().wakeups == 3
