"""Which processors a measurement uses, and what spinning is where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.on_host import available
from uring_iopf._native import lib
from uring_iopf.core import Core, Driver
from uring_iopf.designs import resolve
from uring_iopf.lab.cell import measure_cell
from uring_iopf.lab.floor import measure_floor
from uring_iopf.lab.processors import client_and_worker_apart, two_processors
from uring_iopf.lab.spec import CellSpec
from uring_iopf.machine_parts import MachineParts
from uring_iopf.workloads import load_workload

ALLOWED = sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("allowed", "client", "worker"),
    [({0, 1}, {1}, 0), ({9, 3, 5}, {5}, 3), ({7}, {7}, -1)],
    ids=["the first two", "none but its own", "one"],
)
def test_client_and_worker_run_on_the_first_two_of_the_caller_s_processors(
    allowed: set[int], client: set[int], worker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = allowed
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: mask)

    def move(_pid: int, to: set[int]) -> None:
        nonlocal mask
        mask = to

    monkeypatch.setattr(os, "sched_setaffinity", move)
    with client_and_worker_apart() as cpu:
        assert (mask, cpu) == (client, worker)
    assert mask == allowed
    assert two_processors() == (None if len(allowed) == 1 else tuple(sorted(allowed)[:2]))


def threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


def masks_during(work: Callable[[], object]) -> set[frozenset[int]]:
    """The processors that this thread, and any that *work* makes, may use: at many moments during it."""
    seen: set[frozenset[int]] = set()
    others = threads() - {threading.get_native_id()}
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for thread in threads() - others:
                with suppress(ProcessLookupError):
                    seen.add(frozenset(os.sched_getaffinity(thread)))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        work()
    finally:
        done.set()
        looker.join()
    return seen


def cell() -> CellSpec:
    machine = MachineParts(load_workload("gcc-compile"), driver="enter", wait="spin")
    return CellSpec("fd", "native", machine, seconds=0.01, faults=1)


@pytest.mark.parametrize(
    "work",
    [
        lambda: measure_cell(cell(), lambda _share: None),
        lambda: measure_floor(during_ns=2_000_000),
        lambda: lib.uiopf_measure_host_fd(4, 2_000_000),
    ],
    ids=["a cell", "the floor", "the host's own calls"],
)
def test_a_measurement_leaves_the_caller_s_processors_to_no_other(work: Callable[[], object]) -> None:
    before = os.sched_getaffinity(0)
    own = {ALLOWED[-1]}
    os.sched_setaffinity(0, own)
    try:
        seen = masks_during(work)
        assert os.sched_getaffinity(0) == own
    finally:
        os.sched_setaffinity(0, before)
    assert seen == {frozenset(own)}


@pytest.mark.skipif(len(ALLOWED) < 2, reason="needs two processors")
def test_a_worker_yields_only_where_it_shares_its_only_processor() -> None:
    before = os.sched_getaffinity(0)
    first, second = ALLOWED[:2]
    yields = {}
    try:
        for name, mask, cpu in (
            ("two", {first, second}, -1),
            ("one", {second}, -1),
            ("one, and it is named", {second}, second),
            ("one each", {second}, first),
        ):
            os.sched_setaffinity(0, mask)
            with Core() as core:
                core.start_worker(Driver.SQPOLL, cpu=cpu)
                yields[name] = core.yields
                core.stop_worker()
                assert not core.yields
    finally:
        os.sched_setaffinity(0, before)
    assert yields == {"two": False, "one": True, "one, and it is named": True, "one each": False}


# Without a yield at each look, a fault takes two of the scheduler's slices: the trace takes 40 s and more.
ON_ONE = """
import json, os, sys
from dataclasses import asdict
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from uring_iopf.lab.cell import measure_cell
from uring_iopf.lab.spec import CellSpec
from uring_iopf.machine_parts import MachineParts
from uring_iopf.workloads import load_workload
workload, results = load_workload("gcc-compile"), []
for design in sys.argv[1].split(","):
    for driver in ("enter", "sqpoll"):
        for client in sys.argv[2:]:
            parts = MachineParts(workload, driver=driver, wait="spin", in_flight=1)
            result = measure_cell(CellSpec(design, client, parts, seconds=0.0, faults=1), lambda share: None)
            results.append([result.design, result.answered, result.missing])
print(json.dumps(results))
"""


ON_ONE_DESIGNS = [name for name in available() if resolve(name).has_client]


def test_a_spinning_client_gets_on_where_there_is_one_processor() -> None:
    clients = ["native", "trio", "batch"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", ON_ONE, ",".join(ON_ONE_DESIGNS), *clients],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected: list[object] = [[design, 5075, []] for design in ON_ONE_DESIGNS for _ in range(2 * len(clients))]
    assert json.loads(done.stdout) == expected
