"""Compare designs in a test: on one thread, with counters only, the same every time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from uring_iopf._native import ffi, lib
from uring_iopf.clients.sync import serve_once
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.errors import UsageError
from uring_iopf.lab.result import CellResult
from uring_iopf.lab.spec import CellSpec
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import DEFAULT_WORKLOAD, MachineParts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Unpack

    from uring_iopf.designs.base import Design
    from uring_iopf.machine_parts import MachineOptions
    from uring_iopf.workloads import Workload

FOREVER_NS = 2**62


def compare_designs(
    designs: Iterable[str | type[Design]],
    *,
    workload: str | Path | Workload = DEFAULT_WORKLOAD,
    **options: Unpack[MachineOptions],
) -> dict[str, CellResult]:
    """Replay *workload* once through each design; return the results by the designs' names.

    Everything runs on the calling thread, with a clock that stands still: results are the same every time, to the last
    count, and say nothing about time (`faults_per_s` and the latencies are 0). *designs*: names, MODULE:CLASS or
    classes. *options*: of the machine, by their names in `MachineParts`; the driver is ``inline``.

    Raises: UsageError, no such design or workload, or another driver; AssertionError, a fault not accounted for.
    """
    if options.setdefault("driver", "inline") != "inline":
        raise UsageError("a comparison in a test runs inline: with a thread it would not be the same every time")
    parts = MachineParts.of(workload, **options)
    results: dict[str, CellResult] = {}
    for design in designs:
        result = replay_inline(design, parts)
        assert result.accounted, f"{result.design}: {', '.join(result.missing)}"
        results[result.design] = result
    return results


def replay_inline(design: str | type[Design], parts: MachineParts) -> CellResult:
    """One pass of the parts' workload through one design, on this thread."""
    workload = parts.workload
    assert workload is not None, "there is something to replay"
    with Machine(parts) as machine:
        channel = machine.open(design)
        machine.start()
        if isinstance(channel, NativeChannel) and machine.design.has_client:
            served = ffi.new("struct uiopf_served *")
            lib.uiopf_client_serve(channel.c, machine.address_space.c, len(workload), FOREVER_NS, served)
        while not machine.is_idle():
            did = channel.turn()
            if machine.design.has_client:
                did += serve_once(channel, machine.address_space)
            if not did:
                break  # nothing more will come of it: what is missing shows in the account
        machine.detach()
        account, cost = machine.account(), channel.cost()
        name = machine.design.name
        python, has_client = machine.design.inline_only, machine.design.has_client
    spec = CellSpec(name, "native", parts)
    return replace(
        spec.nothing_measured(),
        client="sync" if python else "native" if has_client else "kernel",
        mode="inline",
        replays=1,
        faults=account.sent,
        answered=account.answered,
        auto_answered=account.auto_answered,
        lost=account.lost,
        unmapped=account.unmapped,
        answer_errors=cost.answer_errors,
        per_fault=cost.per_fault(account.sent),
    )
