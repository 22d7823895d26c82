"""Measure one cell of a comparison: replay a workload through a design, for a time and a number of faults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from uring_iopf.core import Driver
from uring_iopf.costs import Parts, Waypoint, total
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.designs.python_channel import PythonChannel
from uring_iopf.designs.registry import resolve
from uring_iopf.errors import DesignError, UsageError, told_with_place
from uring_iopf.hardware.load import LoadMode
from uring_iopf.lab.clock import RunningClock, StandingClock
from uring_iopf.lab.processors import client_and_worker_apart
from uring_iopf.lab.reach import most_in_flight
from uring_iopf.lab.replay import Replay
from uring_iopf.lab.result import CellResult, Latency, LimitCounts, StageCosts
from uring_iopf.lab.serving import server
from uring_iopf.lab.spec import CellInterrupted, CellSpec
from uring_iopf.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.designs.base import Design
    from uring_iopf.hardware.endpoint import Endpoint
    from uring_iopf.lab.clock import ReplayClock
    from uring_iopf.lab.serving import Serve
    from uring_iopf.machine_parts import MachineParts

SPLIT_S: Final = 0.1
SPLIT_FAULTS: Final = 10_000
"""Seconds and faults for which a latency is split into parts; in an open loop only the time counts."""
SPLIT_LIMIT_S: Final = 1.0


def measure_cell(spec: CellSpec, on_progress: Callable[[float], None]) -> CellResult:
    """Replay *spec* live until it has reached its time and its number of faults, or until its limit of time is over.

    Tables are reset outside the measured time. *on_progress*: called with the share that is done, 0 to 1. Raises:
    UsageError, no such design or client, or a machine with several functions or queues; DesignError, the own code of a
    design in Python raised UsageError or SystemExit; CellInterrupted, on Ctrl-C, with the result until then.
    """
    if len(spec.parts.functions) > 1 or len(spec.parts.queue_keys()) > 1:
        raise UsageError(
            "a measurement needs a machine with one function and one queue, because several have no common latency or "
            "rate; use `compare_designs` to count the costs of several"
        )
    inline_only = resolve(spec.design).inline_only
    driver = "inline" if inline_only else spec.parts.driver
    with client_and_worker_apart() as cpu:
        live = replace(spec, parts=replace(spec.parts, driver=driver, live=True, cpu=cpu))
        try:
            result = _replay(live, spec.design, RunningClock(), on_progress)
            return _with_parts(live, result) if spec.split and not inline_only else result
        except (UsageError, SystemExit) as error:
            if not inline_only:
                raise
            # The design's own mistake, such as a bad cookie. As a mistake in the plan it would end the comparison.
            raise DesignError(told_with_place(error)) from error


def count_cell(design: str | type[Design], parts: MachineParts) -> CellResult:
    """Replay the workload of *parts* inline, once, for reproducible counts without times. Raises: UsageError."""
    spec = CellSpec(resolve(design).name, "native", parts, seconds=0.0, faults=1)
    return _replay(spec, design, StandingClock(), lambda _share: None)


def _replay(
    spec: CellSpec, design: str | type[Design], clock: ReplayClock, on_progress: Callable[[float], None]
) -> CellResult:
    """Run passes until the cell has enough, and return the result."""
    with Machine(spec.parts) as machine:
        machine.open_each(design)
        replay = Replay(machine, spec, clock)
        try:
            _run(replay, on_progress)
        except KeyboardInterrupt:
            result = result_of(replay, partial=True)
            raise CellInterrupted(result if result.faults else None) from None
        return result_of(replay, partial=False)


def _with_parts(spec: CellSpec, result: CellResult) -> CellResult:
    """Replay *spec* a short while again, with the time taken at each waypoint, and return *result* with its parts.

    Not in the measurement itself: looking at the clock that often takes up to a fifth of a fast design's time.
    """
    if not result.accounted:
        return result
    seconds = min(spec.seconds, SPLIT_S)
    limit_s = min(spec.limit_s, SPLIT_S if spec.rate is not None else SPLIT_LIMIT_S)
    short = replace(spec, seconds=seconds, faults=min(spec.faults, SPLIT_FAULTS), limit_s=limit_s)
    try:
        with Machine(spec.parts) as machine:
            machine.open_each(spec.design)
            channel = machine.channel
            assert isinstance(channel, NativeChannel), "designs in Python have no times"
            channel.watch()
            replay = Replay(machine, short, RunningClock())
            _run(replay, lambda _share: None)
            short_result = result_of(replay, partial=False)
            counts = machine.endpoint.counts()
            parts = Parts.of(channel.waypoints(), Waypoint(counts.latency_count, counts.latency_sum_ns))
            emulation_ns = channel.hardware_ns() / max(short_result.faults, 1)
    except KeyboardInterrupt:
        raise CellInterrupted(result) from None
    if missing := short_result.missing:
        return replace(result, error=f"while the latency was split into parts: {'; '.join(missing)}")
    return replace(result, parts_ns=parts, emulation_ns=emulation_ns)


def _run(replay: Replay, on_progress: Callable[[float], None]) -> None:
    machine, spec, clock = replay.machine, replay.spec, replay.clock
    serve = server(replay)
    replay.end = clock.end(spec.limit_s)
    while True:
        machine.reset_tables()
        if not _one_pass(replay, serve, on_progress):
            return
        replay.replays += 1
        replay.sent = sum(one.endpoint.counts().sent for one in machine.functions.values())
        busy_s = max(one.endpoint.counts().busy_ns for one in machine.functions.values()) / 1e9
        timed = busy_s / spec.seconds if spec.seconds > 0 else 1.0
        share = min(timed, replay.replays * replay.rows / max(spec.faults, 1))
        on_progress(min(share, 1.0))
        if share >= 1 or (replay.end is not None and clock.over(replay.end)):
            return


def _one_pass(replay: Replay, serve: Serve, on_progress: Callable[[float], None]) -> bool:
    """Serve one pass. Return False if it is stuck (*replay* has the error), or was cut off by the limit of time."""
    machine, clock = replay.machine, replay.clock
    clock.progressed()
    next_load(machine)
    serve(True)
    while not machine.is_idle():
        if serve(False):
            clock.progressed()
        elif clock.wait(machine):
            pass  # it may come yet
        elif clock.runs and _gets_on(replay):
            clock.progressed()
        else:
            replay.error = f"stuck: {machine.account().awaited} faults got no answer {clock.stuck}"
            for channel in machine.channels.values():
                if isinstance(channel, PythonChannel):
                    replay.error = "; ".join([replay.error, *channel.unfinished()])
            return False
        if replay.end is not None and not replay.cut and clock.over(replay.end):
            for function in machine.functions.values():
                function.endpoint.cancel()  # what is outstanding is still answered, and counts
            replay.cut = True
        if replay.timed:
            on_progress(1.0 if replay.cut else 1 - min(1.0, replay.left_s() / replay.spec.limit_s))
    return not replay.cut


def next_load(machine: Machine) -> None:
    """Give each pass of a random load another seed. All of them follow from the first."""
    for function, first in zip(machine.functions.values(), machine.parts.loads(), strict=True):
        if function.load.mode is LoadMode.POISSON:
            function.load = replace(function.load, seed=((first.seed or 0) + function.started) % 2**64)


def _gets_on(replay: Replay) -> bool:
    """Whether a load makes progress without the client: its faults pause, or the kernel answers them."""
    functions = replay.machine.functions.values()
    counts = [(one.sent, one.outstanding) for one in (function.endpoint.counts() for function in functions)]
    seen, replay.seen = replay.seen, counts
    is_open = any(function.load.mode is not LoadMode.CLOSED for function in functions)
    return counts != seen or (is_open and not any(outstanding for _, outstanding in counts))


# ---- the result ----


def result_of(replay: Replay, *, partial: bool) -> CellResult:
    """Stop the machine, and return the result from its counters."""
    machine, spec = replay.machine, replay.spec
    endpoints = [one.endpoint for one in machine.functions.values()]
    measured = [endpoint.counts() for endpoint in endpoints]
    cost = total(channel.cost() for channel in machine.channels.values())
    cost.client_cpu_ns = replay.client_cpu_ns
    machine.detach()
    replay.clock.settle(machine)
    account = machine.account()
    counts = [endpoint.counts() for endpoint in endpoints]
    failed = sum(one.invalid + one.failed for one in counts)
    error = replay.error
    if error is None and account.lost < 0:
        error = f"there are {-account.lost} more answers than faults"
    # Every client here answers SUCCESS. Other answers must be those that the kernel gave for the client. A function
    # that got a FAILURE ignores what comes after it.
    if error is None and (bad := failed - account.auto_answered - sum(one.ignored for one in counts)) > 0:
        error = f"{bad} faults got INVALID or FAILURE, but not from the kernel"
    if lost := machine.iommu.lost():  # added to another error, because it may be its cause
        error = "; ".join([*([error] if error else []), f"the IOMMU's queues lost {lost} requests or answers"])
    # Taken before the detach: a pass that was cut off has added neither its time nor its faults.
    busy_ns = max(one.busy_ns for one in measured)
    # One whose time was over has ended, with fewer faults than the workload has.
    # With two stages a row can make several faults, or none. With limits a FAILURE can end a pass early.
    plain = machine.stages is None and machine.parts.limits is None
    whole = replay.replays * replay.rows if plain else replay.sent
    served = sum(one.sent for one in measured) if replay.cut and not partial else whole
    result = spec.nothing_measured(partial=partial, error=error)
    limits = _limits(machine, result.limits)
    return replace(
        result,
        design=machine.design.name,
        client=_client_name(machine, spec),
        driver="inline" if machine.driver is Driver.INLINE else machine.core.driver.name.lower(),
        mode="inline" if machine.driver is Driver.INLINE else spec.mode,
        in_flight=_reached(machine, spec),
        limited=spec.rate is None and served < spec.faults and replay.end is not None and not partial and not error,
        replays=replay.replays,
        faults=account.sent,
        answered=account.answered,
        auto_answered=account.auto_answered - (0 if limits is None else limits.lost_faults),
        lost=max(account.lost, account.awaited),
        unmapped=account.unmapped,
        answer_errors=cost.answer_errors,
        faults_per_s=served * 1e9 / busy_ns if busy_ns else 0.0,
        latency_ns=_latency(endpoints),
        per_fault=cost.per_fault(account.sent),
        stages=_stages(machine, result.stages),
        limits=limits,
    )


def _reached(machine: Machine, spec: CellSpec) -> int:
    """The number in flight, as far as the workload and the credits of the only function let it come."""
    if len(machine.functions) > 1:
        return spec.parts.in_flight
    (one,) = machine.functions.values()
    return min(spec.parts.in_flight, most_in_flight(spec.workload, one.group_most, one.credits))


def _stages(machine: Machine, planned: StageCosts | None) -> StageCosts | None:
    if machine.stages is None or planned is None:
        return None
    counts = machine.stages.counts()._asdict()
    return replace(planned, **{name: counts[name] for name in counts if name != "faults"})


def _limits(machine: Machine, planned: LimitCounts | None) -> LimitCounts | None:
    if planned is None:
        return None
    counts = [queue.counts() for queue in machine.queues.values()]
    names = ("lost_groups", "lost_faults", "timed_out_groups", "timed_out_faults")
    by_index = machine.parts.limits is not None and machine.parts.limits.by_group_index
    ways = machine.design.matches
    match = None if not ways else "index" if by_index and "index" in ways else ways[0]
    return replace(planned, match=match, **{name: sum(getattr(one, name) for one in counts) for name in names})


def _latency(endpoints: list[Endpoint]) -> Latency:
    """The latency of the only function. Several functions are replayed without a clock, so they have none."""
    if len(endpoints) > 1:
        return Latency()
    (one,) = endpoints
    return Latency(one.latency_ns(0.5), one.latency_ns(0.99), one.latency_ns(0.999), one.counts().latency_max_ns)


def _client_name(machine: Machine, spec: CellSpec) -> str:
    if machine.design.inline_only:
        return "sync"
    return spec.client if machine.design.has_client else "kernel"
