"""The clients of a replay. Each starts a pass, on request, and serves faults for a short while."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from uring_iopf._native import check, ffi, lib
from uring_iopf.core import Driver
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.designs.python_channel import MOST_TURNS
from uring_iopf.errors import IopfError
from uring_iopf.lab.clock import SLICE_NS, STUCK_S

if TYPE_CHECKING:
    from uring_iopf.designs.channel import Channel
    from uring_iopf.lab.replay import Replay

FOREVER_NS = 2**62


class Serve(Protocol):
    """A client of a replay."""

    def __call__(self, start: bool, /) -> int:
        """Start a pass if *start*, then serve faults for a short while. Return their number."""


def server(replay: Replay) -> Serve:
    """Return the client of the cell. With the driver ``inline`` it is the loop of the design's language."""
    if replay.machine.driver is Driver.INLINE:
        return _serve_inline(replay)
    if not replay.machine.design.has_client:
        return _serve_nothing(replay)
    return {"native": _serve_native, "batch": _serve_batch, "trio": _serve_trio}[replay.spec.client](replay)


def _serve_nothing(replay: Replay) -> Serve:
    machine = replay.machine

    def serve(start: bool) -> int:
        if start:
            machine.start()
        return 0

    return serve


def _serve_native(replay: Replay) -> Serve:
    machine = replay.machine
    channel = machine.channel
    assert isinstance(channel, NativeChannel), "designs in Python have their own"
    served = ffi.new("struct uiopf_served *")
    space, endpoint = machine.address_space.c, machine.endpoint.c
    rows = len(replay.spec.workload)

    def serve(start: bool) -> int:
        before = int(served.faults)
        if start:
            machine.function.started += 1
            load = machine.function.load.as_c()
            check(
                lib.uiopf_client_replay(channel.c, space, endpoint, load, rows, SLICE_NS, served), "replay a workload"
            )
        # No more than is left of this pass: the client then returns with its last answer, or with the pass.
        elif (left := rows * machine.started - before) > 0:
            lib.uiopf_client_go_on(channel.c, space, endpoint, machine.started, left, SLICE_NS, served)
        replay.client_cpu_ns = int(served.cpu_ns)
        if served.error:
            raise IopfError(f"the native client stopped with an error: {os.strerror(-served.error)}")
        return int(served.faults) - before

    return serve


def _serve_batch(replay: Replay) -> Serve:
    from uring_iopf.clients.batch import BatchClient

    machine = replay.machine
    channel = machine.channel
    assert isinstance(channel, NativeChannel), "designs in Python have their own"
    client = BatchClient(channel, machine.address_space)
    sleeps = machine.wait.name == "SLEEP"

    def serve(start: bool) -> int:
        began = time.thread_time_ns()
        until = time.monotonic_ns() + SLICE_NS
        served = 0
        if start:
            machine.start()
        while not machine.is_idle() and time.monotonic_ns() < until:
            if sleeps:
                lib.uiopf_channel_wait(channel.c, 1_000_000)
            for _ in range(64):
                served += client.serve_once()
        replay.client_cpu_ns += time.thread_time_ns() - began
        return served

    return serve


def _serve_trio(replay: Replay) -> Serve:
    import trio

    from uring_iopf.abi.iommufd import PageResponse
    from uring_iopf.clients.trio_client import TrioClient

    machine = replay.machine
    machine.tell_when_done(machine.channel.eventfd)
    served = 0

    async def one_pass() -> None:
        nonlocal served
        client = TrioClient(
            machine.channel,
            machine.address_space,
            machine.is_idle,
            spin=machine.wait.name == "SPIN",
        )
        success = PageResponse.SUCCESS
        map_pages = client.address_space.map
        with trio.move_on_after(min(STUCK_S, replay.left_s())):
            async for batch in client:
                for group in batch:
                    map_pages(group)
                    group.respond(success)
                    served += len(group.messages)

    def serve(start: bool) -> int:
        before = served
        if start:
            machine.start()
        began = time.thread_time_ns()
        trio.run(one_pass)
        replay.client_cpu_ns += time.thread_time_ns() - began
        return served - before

    return serve


def _serve_inline(replay: Replay) -> Serve:
    """Serve on this thread: first the loop of the design's language, then turns until the last answers arrive."""
    from uring_iopf.clients.sync import serve as serve_plainly

    machine, clock = replay.machine, replay.clock
    channels, space, has_client = list(machine.channels.values()), machine.address_space, machine.design.has_client
    rows = replay.rows
    left = 0

    def client(channel: Channel) -> int:
        """Serve until no more faults come. Both loops do the same, so that counts are comparable."""
        if isinstance(channel, NativeChannel):
            by_c = ffi.new("struct uiopf_served *")
            lib.uiopf_client_serve(channel.c, space.c, left, FOREVER_NS, by_c)
            return int(by_c.faults)
        end = clock.slice_end()
        return serve_plainly(channel, space, left, until=lambda: clock.over(end))

    def serve(start: bool) -> int:
        nonlocal left
        began = clock.cpu_ns()
        if start:
            machine.start()
            left = rows
        all_served = 0
        for channel in channels:
            served = client(channel) if has_client else 0
            left -= served
            all_served += served
            for _ in range(MOST_TURNS):
                if machine.is_idle() or not channel.turn():
                    break
        replay.client_cpu_ns += clock.cpu_ns() - began
        return all_served

    return serve
