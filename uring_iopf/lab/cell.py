"""Measure one cell of a comparison: replay a workload through a design until there is enough to tell."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from uring_iopf._native import check, ffi, lib
from uring_iopf.core import Driver
from uring_iopf.costs import total
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.designs.python_channel import MOST_TURNS, PythonChannel
from uring_iopf.designs.registry import resolve
from uring_iopf.errors import IopfError, UsageError
from uring_iopf.hardware.load import LoadMode
from uring_iopf.lab.clock import SLICE_NS, STUCK_S, RunningClock, StandingClock
from uring_iopf.lab.processors import client_and_worker_apart
from uring_iopf.lab.result import CellResult, Latency
from uring_iopf.lab.spec import CellInterrupted, CellSpec
from uring_iopf.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.designs.base import Design
    from uring_iopf.designs.channel import Channel
    from uring_iopf.hardware.endpoint import Endpoint
    from uring_iopf.lab.clock import ReplayClock
    from uring_iopf.machine_parts import MachineParts

FOREVER_NS = 2**62


class Serve(Protocol):
    """How a client takes part in a pass."""

    def __call__(self, start: bool, /) -> int:
        """Serve what there is for a short while, after starting a pass if *start*; return how many faults."""


@dataclass(slots=True)
class _Progress:
    """What the passes of a cell have come to so far."""

    replays: int = 0
    client_cpu_ns: int = 0
    error: str | None = None
    end: int | None = None
    """When the cell's time is over; None: never."""
    cut: bool = False
    """It was over before the last pass had sent all: it ended with what was outstanding then."""
    timed: bool = False
    """The cell is measured for a time, and not until a number of faults is reached."""
    seen: object = None
    """What the function had sent and got back when nothing was served for long."""


def measure_cell(spec: CellSpec, on_progress: Callable[[float], None]) -> CellResult:
    """Replay *spec* live until it has run for its time and its number of faults, or its limit of time is over.

    Tables are reset off the clock.

    *on_progress* is told the share that is done, 0 to 1. Raises: UsageError, a design or client that cannot be;
    CellInterrupted, with what was measured until Ctrl-C.
    """
    if len(spec.parts.functions) > 1 or len(spec.parts.queue_keys()) > 1:
        raise UsageError(
            "a measurement is of one function on one queue: several have no latency and no rate in common; "
            "`compare_designs` counts what they cost"
        )
    driver = "inline" if resolve(spec.design).inline_only else spec.parts.driver
    with client_and_worker_apart() as cpu:
        live = replace(spec, parts=replace(spec.parts, driver=driver, live=True, cpu=cpu))
        return _replay(live, spec.design, RunningClock(), on_progress)


def count_cell(design: str | type[Design], parts: MachineParts) -> CellResult:
    """Replay the workload of *parts*, inline, once: counts alone, the same every time. Raises: UsageError."""
    spec = CellSpec(resolve(design).name, "native", parts, seconds=0.0, faults=1)
    return _replay(spec, design, StandingClock(), lambda _share: None)


def _replay(
    spec: CellSpec, design: str | type[Design], clock: ReplayClock, on_progress: Callable[[float], None]
) -> CellResult:
    """The loop of every replay: passes until there is enough, and the account."""
    progress = _Progress()
    with Machine(spec.parts) as machine:
        machine.open_each(design)
        serve = _server(machine, spec, progress, clock)
        try:
            _run(machine, spec, serve, progress, clock, on_progress)
        except KeyboardInterrupt:
            result = _result(machine, spec, progress, clock, partial=True)
            raise CellInterrupted(result if result.faults else None) from None
        return _result(machine, spec, progress, clock, partial=False)


def _run(
    machine: Machine,
    spec: CellSpec,
    serve: Serve,
    progress: _Progress,
    clock: ReplayClock,
    on_progress: Callable[[float], None],
) -> None:
    faults = _rows(machine)
    progress.end = clock.end(spec.limit_s)
    progress.timed = spec.rate is not None
    while True:
        machine.address_space.reset()
        if not _one_pass(machine, spec, serve, progress, clock, on_progress):
            return
        progress.replays += 1
        busy_s = max(one.endpoint.counts().busy_ns for one in machine.functions.values()) / 1e9
        timed = busy_s / spec.seconds if spec.seconds > 0 else 1.0
        share = min(timed, progress.replays * faults / max(spec.faults, 1))
        on_progress(min(share, 1.0))
        if share >= 1 or (progress.end is not None and clock.over(progress.end)):
            return


def _one_pass(
    machine: Machine,
    spec: CellSpec,
    serve: Serve,
    progress: _Progress,
    clock: ReplayClock,
    on_progress: Callable[[float], None],
) -> bool:
    """Serve until the pass has ended. False: it has not, or it was cut off; `progress` says which."""
    clock.progressed()
    _next_load(machine)
    serve(True)
    while not machine.is_idle():
        if serve(False):
            clock.progressed()
        elif clock.wait(machine):
            pass  # it may come yet
        elif clock.runs and _gets_on(machine, progress):
            clock.progressed()
        else:
            progress.error = f"stuck: {machine.account().awaited} faults without an answer {clock.stuck}"
            for channel in machine.channels.values():
                if isinstance(channel, PythonChannel):
                    progress.error = "; ".join([progress.error, *channel.unfinished()])
            return False
        if progress.end is not None and not progress.cut and clock.over(progress.end):
            for function in machine.functions.values():
                function.endpoint.cancel()  # what is outstanding is still answered, and counts
            progress.cut = True
        if progress.timed:
            on_progress(1.0 if progress.cut else 1 - min(1.0, _left_s(progress) / spec.limit_s))
    return not progress.cut


def _rows(machine: Machine) -> int:
    """Faults of one pass, all functions together."""
    return sum(len(one.workload or ()) for one in machine.functions.values())


def _next_load(machine: Machine) -> None:
    """Each pass of a load that is drawn at random is drawn anew; all of them follow from the seed."""
    for function, first in zip(machine.functions.values(), machine.parts.loads(), strict=True):
        if function.load.mode is LoadMode.POISSON:
            function.load = replace(function.load, seed=((first.seed or 0) + function.started) % 2**64)


def _gets_on(machine: Machine, progress: _Progress) -> bool:
    """Whether a load goes on that the client has heard nothing of: in a lull, or answered in the kernel."""
    functions = machine.functions.values()
    counts = [(one.sent, one.outstanding) for one in (function.endpoint.counts() for function in functions)]
    seen, progress.seen = progress.seen, counts
    is_open = any(function.load.mode is not LoadMode.CLOSED for function in functions)
    return counts != seen or (is_open and not any(outstanding for _, outstanding in counts))


# ---- the clients: each starts a pass if it is told to, serves what there is for a short while, and says how many
# faults that was ----


def _server(machine: Machine, spec: CellSpec, progress: _Progress, clock: ReplayClock) -> Serve:
    if machine.driver is Driver.INLINE:
        return _serve_inline(machine, progress, clock)
    if not machine.design.has_client:
        return _serve_nothing(machine)
    if spec.client == "native":
        return _serve_native(machine, spec, progress)
    if spec.client == "batch":
        return _serve_batch(machine, progress)
    return _serve_trio(machine, progress)


def _serve_nothing(machine: Machine) -> Serve:
    def serve(start: bool) -> int:
        if start:
            machine.start()
        return 0

    return serve


def _serve_native(machine: Machine, spec: CellSpec, progress: _Progress) -> Serve:
    channel = machine.channel
    assert isinstance(channel, NativeChannel), "designs in Python have their own"
    served = ffi.new("struct uiopf_served *")
    space, endpoint = machine.address_space.c, machine.endpoint.c
    rows = len(spec.workload)

    def serve(start: bool) -> int:
        before = int(served.faults)
        if start:
            machine.function.started += 1
            load = machine.function.load.as_c()
            check(
                lib.uiopf_client_replay(channel.c, space, endpoint, load, rows, SLICE_NS, served), "replay a workload"
            )
        # No more than is left of this pass: the client then returns with its last answer.
        elif (left := rows * machine.started - before) > 0:
            lib.uiopf_client_serve(channel.c, space, left, SLICE_NS, served)
        progress.client_cpu_ns = int(served.cpu_ns)
        if served.error:
            raise IopfError(f"the native client stopped: {os.strerror(-served.error)}")
        return int(served.faults) - before

    return serve


def _serve_batch(machine: Machine, progress: _Progress) -> Serve:
    from uring_iopf.clients.batch import BatchClient

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
        progress.client_cpu_ns += time.thread_time_ns() - began
        return served

    return serve


def _serve_trio(machine: Machine, progress: _Progress) -> Serve:
    import trio

    from uring_iopf.abi.iommufd import PageResponse
    from uring_iopf.clients.trio_client import TrioClient

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
        with trio.move_on_after(min(STUCK_S, _left_s(progress))):
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
        progress.client_cpu_ns += time.thread_time_ns() - began
        return served - before

    return serve


def _left_s(progress: _Progress) -> float:
    """How long until the cell's time is over, in seconds; while the rest is answered, and without a limit: for ever."""
    if progress.end is None or progress.cut:
        return math.inf
    return max(0.0, (progress.end - time.monotonic_ns()) / 1e9)


def _serve_inline(machine: Machine, progress: _Progress, clock: ReplayClock) -> Serve:
    """Everything on this thread: the loop of the design's language, then turns, until the last answers have arrived."""
    from uring_iopf.clients.sync import serve as serve_plainly

    channels, space, has_client = list(machine.channels.values()), machine.address_space, machine.design.has_client
    rows = _rows(machine)
    left = 0

    def client(channel: Channel) -> int:
        """Serve as long as something comes. Both loops are the same, so that counts can be compared."""
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
        progress.client_cpu_ns += clock.cpu_ns() - began
        return all_served

    return serve


# ---- the result ----


def _result(machine: Machine, spec: CellSpec, progress: _Progress, clock: ReplayClock, *, partial: bool) -> CellResult:
    """What the machine's counters say, once it has been brought to rest."""
    endpoints = [one.endpoint for one in machine.functions.values()]
    measured = [endpoint.counts() for endpoint in endpoints]
    cost = total(channel.cost() for channel in machine.channels.values())
    cost.client_cpu_ns = progress.client_cpu_ns
    machine.detach()
    clock.settle(machine)
    account = machine.account()
    counts = [endpoint.counts() for endpoint in endpoints]
    failed = sum(one.invalid + one.failed for one in counts)
    error = progress.error
    if error is None and account.lost < 0:
        error = f"{-account.lost} answers more than faults"
    # Every client here answers SUCCESS; the rest was answered in its stead.
    if error is None and (bad := failed - account.auto_answered) > 0:
        error = f"{bad} faults were answered INVALID or FAILURE, and not by the kernel in the client's stead"
    if lost := machine.iommu.lost():  # said beside another error, of which it may be the cause
        error = "; ".join([*([error] if error else []), f"{lost} requests or answers lost in the IOMMU's queues"])
    # Taken before the detach: a pass that was cut off has added neither its time nor its faults.
    busy_ns = max(one.busy_ns for one in measured)
    # One whose time was over has ended, with fewer faults than the workload has.
    served = sum(one.sent for one in measured) if progress.cut and not partial else progress.replays * _rows(machine)
    result = spec.nothing_measured(partial=partial, error=error)
    return replace(
        result,
        design=machine.design.name,
        client=_client_name(machine, spec),
        driver="inline" if machine.driver is Driver.INLINE else machine.core.driver.name.lower(),
        mode="inline" if machine.driver is Driver.INLINE else "live",
        limited=spec.rate is None and served < spec.faults and progress.end is not None and not partial and not error,
        replays=progress.replays,
        faults=account.sent,
        answered=account.answered,
        auto_answered=account.auto_answered,
        lost=max(account.lost, account.awaited),
        unmapped=account.unmapped,
        answer_errors=cost.answer_errors,
        faults_per_s=served * 1e9 / busy_ns if busy_ns else 0.0,
        latency_ns=_latency(endpoints),
        per_fault=cost.per_fault(account.sent),
    )


def _latency(endpoints: list[Endpoint]) -> Latency:
    """Of the function; of several, the time of none passes (see `measure_cell`)."""
    if len(endpoints) > 1:
        return Latency()
    (one,) = endpoints
    return Latency(one.latency_ns(0.5), one.latency_ns(0.99), one.latency_ns(0.999), one.counts().latency_max_ns)


def _client_name(machine: Machine, spec: CellSpec) -> str:
    if machine.design.inline_only:
        return "sync"
    return spec.client if machine.design.has_client else "kernel"
