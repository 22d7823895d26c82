"""Measure a cell in virtual time: one thread, each side on a simulated core, time by the prices of a cost model.

The designs, the engine, the hardware and the native client are those that run live (``cdefs/designs/virtual.c``).
Nothing of the host is in the result.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from uring_iopf._native import check, ffi, lib
from uring_iopf.core import FOREVER, Clock, Core
from uring_iopf.costs import Parts, Waypoint
from uring_iopf.costs.virtual import in_c
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.designs.registry import resolve
from uring_iopf.errors import IopfError, UsageError
from uring_iopf.handles import owned
from uring_iopf.lab.cell import next_load, result_of
from uring_iopf.lab.clock import StandingClock
from uring_iopf.lab.replay import Replay
from uring_iopf.lab.spec import CellInterrupted
from uring_iopf.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uring_iopf.core import Driver
    from uring_iopf.lab.result import CellResult
    from uring_iopf.lab.spec import CellSpec
    from uring_iopf.machine_parts import MachineParts

TURNS: Final = 100_000
"""Turns of cores in one call of C, some tens of milliseconds. Signal handlers, and so Ctrl-C, run between two calls."""


class PlayedMachine(Machine):
    """A machine whose threads are played: its clock is moved by hand, and its driver has no worker."""

    def _make_core(self, parts: MachineParts) -> Core:
        return Core(live=True, clock=Clock.MANUAL, kernel=parts.kernel)

    def _start_worker(self, driver: Driver) -> None:
        check(lib.uiopf_core_play(self.core.c, driver), "play the core")


NO_CLIENT: Final = "virtual time has the native client only"
NO_STAGES: Final = "virtual time has no prices for two stages of page tables"
NO_LIMITS: Final = "a pass of virtual time ends when its client has served all faults, which with a limit it will not"
"""Reasons why a cell cannot be played, whatever its design."""


class Playable(Protocol):
    """The facts of a design that decide whether it can be played."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def inline_only(self) -> bool: ...  # noqa: D102
    @property
    def on_host(self) -> bool: ...  # noqa: D102


IN_PYTHON: Final = "it is written in Python and has no prices"


def check_playable(info: Playable) -> None:
    """Raises: UsageError, virtual time by itself cannot have this design: it would need Python, or the host."""
    why = IN_PYTHON if info.inline_only else "its calls are the host's own" if info.on_host else None
    if why is not None:
        raise UsageError(f"virtual time cannot have {info.name}: {why}; leave the design out, or measure it live")


def why_not(spec: CellSpec) -> str | None:
    """The reason why a cell cannot be played; None: it can. Raises: UsageError, there is no such design."""
    limits = spec.parts.limits
    if resolve(spec.design).inline_only:
        return IN_PYTHON
    if spec.client != "native":
        return NO_CLIENT
    if spec.parts.stage2 is not None:
        return NO_STAGES
    if limits is not None and (limits.depth is not None or limits.timeout_ns is not None):
        return NO_LIMITS
    if len(spec.parts.functions) > 1 or len(spec.parts.queue_keys()) > 1:
        return "virtual time has one function and one queue"
    return None


def play_cell(
    spec: CellSpec, on_progress: Callable[[float], None], *, prices: Mapping[str, float], as_live: bool = False
) -> CellResult:
    """Replay *spec* in virtual time until it has reached its number of faults, or in an open loop its limit of time.

    *prices*: nanoseconds, by the fields of ``struct uiopf_prices``. *on_progress*: called with the share that is done.
    *as_live*: play what a live run measures: under ``sqpoll`` hardware and kernel have one core, as they are one
    thread; and designs on the host, whose calls are made, and have prices.
    Raises: UsageError, no such design, or one that cannot be played, another client than the native one, two stages, or
    several functions or queues; CellInterrupted, on Ctrl-C, with the result until then.
    """
    if not as_live:
        check_playable(resolve(spec.design))
    if (why := why_not(spec)) is not None:
        raise UsageError(f"{spec.label} cannot be played: {why}; measure it live")
    with PlayedMachine(spec.parts) as machine:
        machine.open_each(spec.design)
        replay = Replay(machine, spec, StandingClock())
        try:
            _play(replay, in_c(prices), on_progress, as_live=as_live)
        except KeyboardInterrupt:
            result = _result(replay, partial=True)
            raise CellInterrupted(result if result.faults else None) from None
        return _result(replay, partial=False)


def _play(replay: Replay, prices: Mapping[str, int], on_progress: Callable[[float], None], *, as_live: bool) -> None:
    """Run passes until the cell has enough."""
    machine = replay.machine
    channel = machine.channel
    assert isinstance(channel, NativeChannel), "designs in Python are refused"
    space, endpoint = machine.address_space.c, machine.endpoint.c
    in_struct = ffi.new("struct uiopf_prices *", dict(prices))
    virtual = owned(lib.uiopf_virtual_free, lib.uiopf_virtual_new, channel.c, space, endpoint, in_struct, as_live)
    if virtual is None:
        check(-ffi.errno, "play the channel in virtual time")
    try:
        _passes(replay, virtual, on_progress)
    finally:
        ffi.release(virtual)  # all come to rest, whatever they were doing: the machine can be used again


def _passes(replay: Replay, virtual: Any, on_progress: Callable[[float], None]) -> None:
    machine, spec = replay.machine, replay.spec
    counts = ffi.new("struct uiopf_virtual_counts *")
    until_ns = FOREVER if not replay.timed or math.isinf(spec.limit_s) else round(spec.limit_s * 1e9)
    share = 0.0
    while share < 1:
        machine.reset_tables()
        next_load(machine)
        check(lib.uiopf_virtual_start(virtual, machine.function.load.as_c(), replay.rows, until_ns), "start a pass")
        machine.function.started += 1
        while lib.uiopf_virtual_run(virtual, TURNS):
            on_progress(share)
        lib.uiopf_virtual_get(virtual, counts)
        replay.client_cpu_ns = int(counts.client_ns)
        if counts.error:
            raise IopfError(f"the native client stopped with errno {-counts.error}")
        if not machine.is_idle():
            replay.error = f"stuck: {machine.account().awaited} faults got no answer, with nothing left to do"
            return
        if counts.cut:
            replay.cut = True
            return
        replay.replays += 1
        replay.sent = machine.endpoint.counts().sent
        share = replay.replays * replay.rows / max(spec.faults, 1)
        if replay.timed:
            share = min(share, counts.now_ns / until_ns)
        on_progress(min(share, 1.0))


def _result(replay: Replay, *, partial: bool) -> CellResult:
    machine = replay.machine
    channel, counts = machine.channel, machine.endpoint.counts()
    assert isinstance(channel, NativeChannel), "designs in Python are refused"
    parts = Parts.of(channel.waypoints(), Waypoint(counts.latency_count, counts.latency_sum_ns))
    return replace(result_of(replay, partial=partial), parts_ns=parts)
