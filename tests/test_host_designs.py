"""Designs on the host's own system calls: who wakes whom, and what is said where the host refuses one."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
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


WITHOUT: Final = textwrap.dedent(
    """
    import ctypes, struct, sys
    from uring_iopf.commands.main import main

    # A filter, as a sandbox has it: io_uring_setup is refused with EPERM, and all else is allowed.
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050000 | 1), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    if libc.prctl(22, 2, program, 0, 0):
        sys.exit("no filter")
    sys.exit(main(sys.argv[1:]))
    """
)


def test_what_the_host_refuses_is_named_and_the_others_are_measured() -> None:
    options = "compare --design host --design fd --in-flight 1 --duration 0.01 --driver enter --json -"
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT, *options.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.stderr.startswith("no filter"):
        pytest.skip("this host has no seccomp filters")
    assert done.returncode == 1, done.stderr
    results = {one["design"]: one for one in json.loads(done.stdout)["results"]}
    assert set(results) == {*DESIGNS, "fd"}
    for design, result in results.items():
        if design == "host-uring":
            assert "[Errno 1] open host-uring: Operation not permitted" in result["error"]
        else:
            assert result["error"] is None
            assert result["answered"] > 0
    complaints = [line for line in done.stderr.splitlines() if line.startswith("uring-iopf: not accounted for")]
    assert len(complaints) == 1
    assert "host-uring" in complaints[0]
    assert "Operation not permitted" in complaints[0]
