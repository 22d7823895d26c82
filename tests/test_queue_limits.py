"""The limits of a fault queue as axes of a comparison: what every design makes of them, fault by fault.

A small model says which groups a full queue loses. It is written from the rule alone: so many groups may wait, and one
more is answered at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from my_design import Doorbell
from tests.on_host import available
from uring_iopf.commands.main import main
from uring_iopf.designs import names, resolve
from uring_iopf.iommufd import AS_LINUX, DriverResponse, FaultQueue, QueueLimits
from uring_iopf.lab.cell import count_cell, measure_cell
from uring_iopf.lab.result import CellResult, LimitCounts
from uring_iopf.lab.spec import CellSpec
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import FunctionParts, MachineParts
from uring_iopf.workloads import ROW, Workload, load_workload

INVALID = DriverResponse.INVALID
GCC = load_workload("gcc-compile")
ROWS = Workload("rows", b"".join(ROW.pack(n, n << 12, 1, 1) for n in range(200)))
FEW = QueueLimits(depth=4, depth_response=INVALID)
DESIGNS = available()


class Silent(Doorbell):
    """takes groups, and shows none of them to its client"""

    def publish(self) -> int:
        self.source.take()
        return 0


def check_account(result: CellResult) -> None:
    """Every fault has one place: answered, answered for, or lost by the depth."""
    assert result.accounted, result.missing
    assert result.limits is not None
    assert result.faults == result.answered + result.auto_answered + result.limits.lost_faults
    assert result.limits.timed_out_faults <= result.auto_answered
    assert result.lost == 0


# ---- a full queue ----


def lost_and_seen(pages: int, in_flight: int, depth: int, reads: Sequence[int]) -> tuple[list[int], list[int]]:
    """The pages that are lost, and those that a client reads: *reads* groups a turn, in turn, each answered at once.

    In a turn the function asks for pages until *in_flight* are outstanding. An answer makes room in the next turn.
    """
    waiting: list[int] = []
    lost: list[int] = []
    seen: list[int] = []
    page = turn = 0
    while page < pages or waiting:
        asked = range(page, min(pages, page + in_flight - len(waiting)))
        page = asked.stop
        for one in asked:
            (waiting if len(waiting) < depth else lost).append(one)
        read = reads[turn % len(reads)]
        seen += waiting[:read]
        del waiting[:read]
        turn += 1
    return lost, seen


def read_groups(queue: FaultQueue, most: int) -> tuple[list[int], int]:
    """The pages of the next groups of one page, and how many groups were lost before, between and behind them."""
    pages: list[int] = []
    told = 0
    while len(pages) < most and (messages := queue.read_messages(1)):
        (message,) = messages
        if message.lost:
            told += message.lost
        else:
            pages.append(message.addr >> 12)
            queue.respond(message.cookie)
    return pages, told


@pytest.mark.parametrize("reads", [(4,), (1,), (2, 0, 4, 1)], ids=str)
@pytest.mark.parametrize("depth", [1, 4, 15, 16])
def test_a_full_queue_loses_exactly_the_groups_of_the_model(depth: int, reads: tuple[int, ...]) -> None:
    lost, seen = lost_and_seen(len(ROWS), 16, depth, reads)
    assert sorted(lost + seen) == list(range(len(ROWS)))
    limits = QueueLimits(depth=depth, depth_response=INVALID)
    with Machine(ROWS, driver="inline", in_flight=16, limits=limits) as machine:
        machine.open("fd")
        machine.start()
        pages: list[int] = []
        told = turn = 0
        while not machine.is_idle():
            machine.core.produce()
            some, of_some = read_groups(machine.queue, reads[turn % len(reads)])
            pages += some
            told += of_some
            turn += 1
            assert turn < 10_000
        told += read_groups(machine.queue, 1)[1]
        counts = machine.queue.counts()
    assert pages == seen
    assert told == counts.lost_groups == counts.lost_faults == len(lost)
    assert (len(lost) > 0) is (depth < 16)


@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_loses_what_the_model_says_and_accounts_for_it(design: str) -> None:
    """On one thread each design takes all that waits in each turn."""
    lost, seen = lost_and_seen(len(GCC), 16, 4, (4,))
    result = count_cell(design, MachineParts(GCC, driver="inline", in_flight=16, limits=FEW))
    check_account(result)
    assert (result.replays, result.faults, result.answered, result.auto_answered) == (1, len(GCC), len(seen), 0)
    match = next(iter(resolve(design).matches), None)
    assert result.limits == LimitCounts(4, None, match, len(lost), len(lost))


def test_faults_of_larger_groups_are_counted_one_by_one() -> None:
    result = count_cell("fd", MachineParts(GCC, driver="inline", in_flight=16, group=4, limits=FEW))
    check_account(result)
    assert result.limits is not None
    assert result.limits.lost_groups < result.limits.lost_faults <= 4 * result.limits.lost_groups


@pytest.mark.parametrize("iommu", ["smmuv3-stall", "amd", "riscv", "device", "device-log"])
def test_every_iommu_goes_on_after_a_loss(iommu: str) -> None:
    result = count_cell("fd", MachineParts(GCC, driver="inline", in_flight=16, iommu=iommu, limits=FEW))
    check_account(result)
    assert result.lost_by_depth > 0
    assert result.replays == 1


def test_a_failure_ends_a_pass_of_page_requests() -> None:
    """As Linux answers out of memory: the function stops, so nothing waits for ever, and nothing more is asked for."""
    result = count_cell("fd", MachineParts(GCC, driver="inline", in_flight=16, limits=QueueLimits(depth=4)))
    check_account(result)
    assert (result.faults, result.lost_by_depth) == (16, 12)


# ---- a time-out ----


@pytest.mark.parametrize("design", [design for design in DESIGNS if resolve(design).has_client])
def test_a_time_out_answers_what_a_dead_client_leaves(design: str) -> None:
    """The client never comes. The pass ends all the same, in a closed loop of 16, and all is answered for it.

    A design with room for so many faults refuses those that find it full, as nobody empties it.
    """
    limits = QueueLimits(timeout_ns=1000, timeout_response=INVALID)
    with Machine(ROWS, driver="inline", in_flight=16, limits=limits) as machine:
        machine.open(design)
        machine.start()
        for _ in range(2 * len(ROWS)):
            machine.core.produce()
            machine.core.consume()
            machine.core.tick(machine.core.now_ns() + 1000)
        assert machine.is_idle()
        counts, account = machine.queue.counts(), machine.account()
        assert (account.sent, account.auto_answered, account.awaited) == (len(ROWS), len(ROWS), 0)
        room = resolve(design).most_faults or len(ROWS)
        assert counts.timed_out_groups == counts.timed_out_faults == min(room, len(ROWS))


def test_a_replay_of_a_dead_client_ends_too() -> None:
    limits = QueueLimits(timeout_ns=50_000, timeout_response=INVALID)
    spec = CellSpec("tests.test_queue_limits:Silent", "native", MachineParts(ROWS, in_flight=64, limits=limits))
    result = measure(spec)
    check_account(result)
    assert result.limits is not None
    assert result.faults == result.auto_answered == result.limits.timed_out_faults > 0


def measure(spec: CellSpec) -> CellResult:
    return measure_cell(replace(spec, seconds=0.01, faults=1, limit_s=2.0), lambda _share: None)


@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_accounts_for_each_fault_with_all_limits(design: str, driver: str) -> None:
    """A time-out as short as an answer takes: some come in time, some late, and some are astray."""
    limits = QueueLimits(depth=8, depth_response=INVALID, timeout_ns=20_000, timeout_response=INVALID)
    parts = MachineParts(GCC, driver=driver, wait="sleep", in_flight=16, limits=limits)
    check_account(measure(CellSpec(design, "native", parts)))


@pytest.mark.parametrize("client", ["trio", "batch"])
def test_every_client_goes_on_after_losses_and_time_outs(client: str) -> None:
    limits = QueueLimits(depth=8, depth_response=INVALID, timeout_ns=100_000, timeout_response=INVALID)
    parts = MachineParts(ROWS, driver="sqpoll", wait="sleep", in_flight=16, limits=limits)
    check_account(measure(CellSpec("uring-multishot", client, parts)))


def test_a_late_answer_reaches_the_group_that_has_the_cookie_by_then() -> None:
    """The lowest free cookie is the next one: what a time-out has freed is another group's at once."""
    limits = QueueLimits(timeout_ns=1000, timeout_response=INVALID)
    with Machine(ROWS, driver="inline", in_flight=1, limits=limits) as machine:
        channel = machine.open("fd")
        machine.start()
        machine.core.produce()
        (late,) = channel.receive()
        machine.core.tick(1000)
        while machine.endpoint.counts().sent < 2:
            machine.core.produce()
        (other,) = channel.receive()
        assert (other.addr != late.addr, other.cookie) == (True, late.cookie)
        channel.answer(late.cookie, 0)
        channel.flush()
        machine.core.produce()
        assert machine.account().unmapped == 1
        assert channel.cost().answer_errors == 0


def test_an_answer_without_a_page_is_no_late_one_if_nothing_timed_out() -> None:
    timed = LimitCounts(None, 1000)
    good = CellSpec("fd", "native", MachineParts(ROWS)).nothing_measured()
    for limits, astray in ((None, 0), (timed, 0), (LimitCounts(None, 1000, "cookie", 0, 0, 1, 1), 1)):
        result = replace(good, faults=2, answered=2, unmapped=1, limits=limits)
        assert (result.astray, result.accounted) == (astray, bool(astray))


# ---- what an answer names ----


BY_INDEX = QueueLimits(by_group_index=True)


def test_what_each_design_answers_by() -> None:
    matches = {name: resolve(name).matches for name in names()}
    assert {name for name, of in matches.items() if of == ()} == {"handler"}
    assert {name for name, of in matches.items() if of == ("index",)} == {"region-v8", "region-v9", "region", "eventfd"}
    assert {name for name, of in matches.items() if of == ("cookie", "index")} == {"fd", "uring-today"}
    assert resolve(Doorbell).matches == ("cookie",)


@pytest.mark.parametrize("design", [name for name in DESIGNS if "index" in resolve(name).matches])
@pytest.mark.parametrize(("in_flight", "group"), [(1, 1), (16, 1), (16, 4)])
def test_a_design_that_answers_by_index_serves_all(design: str, in_flight: int, group: int) -> None:
    parts = MachineParts(GCC, driver="inline", in_flight=in_flight, group=group, limits=BY_INDEX)
    result = count_cell(design, parts)
    check_account(result)
    assert (result.answered, result.answer_errors) == (len(GCC), 0)
    assert result.limits == LimitCounts(None, None, "index")


@pytest.mark.parametrize("design", ["fd", "uring-today"])
def test_an_answer_by_index_costs_a_call_each_of_28_bytes(design: str) -> None:
    """By cookie one write of 8 bytes each takes all that a read has brought: 16 answers."""
    workload = Workload("sixteen", ROWS.rows[: 16 * ROW.size])
    each = [
        count_cell(design, MachineParts(workload, driver="inline", in_flight=16, limits=limits)).per_fault
        for limits in (AS_LINUX, BY_INDEX)
    ]
    calls = [round(16 * one.system_calls) for one in each]
    copied = [round(16 * one.bytes_copied) for one in each]
    assert calls[1] - calls[0] == 16 - 1
    assert copied[1] - copied[0] == 16 * (28 - 8)


def test_an_answer_by_index_is_refused_twice_and_for_what_was_never_received() -> None:
    with Machine(ROWS, driver="inline", in_flight=4, limits=BY_INDEX) as machine:
        channel = machine.open("fd")
        machine.start()
        machine.core.produce()
        first, *_ = channel.receive()
        for cookie in (first.cookie, first.cookie, 99, 0):
            channel.answer(cookie, 0)
        channel.flush()
        assert channel.cost().answer_errors == 3
        assert machine.queue.counts().answered_groups == 1


def test_functions_of_one_queue_are_answered_by_their_own_index() -> None:
    """Both use the same group indices: the device tells them apart."""
    two = (FunctionParts("a"), FunctionParts("b"))
    with Machine(ROWS, driver="inline", in_flight=4, functions=two, limits=BY_INDEX) as machine:
        channel = machine.open("fd")
        machine.start()
        machine.core.produce()
        messages = channel.receive()
        assert len({message.grpid for message in messages}) < len(messages) == 8
        for message in reversed(messages):
            machine.address_space.map_page(message.pasid, message.addr, message.perm)
            channel.answer(message.cookie, 0)
        channel.flush()
        assert channel.cost().answer_errors == 0
        assert machine.queue.counts().answered_groups == 8


# ---- the command ----


def compared(file: Path, *arguments: str) -> Any:
    more = ["--in-flight", "16", "--duration", "0.01", "--wait", "sleep", "--json", str(file)]
    assert main(["compare", *arguments, *more]) == 0
    return json.loads(file.read_text())


def test_a_row_that_loses_faults_says_so_and_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--design", "fd", "--depth", "4", "--timeout", "0.5", "--match", "index"]
    content = compared(tmp_path / "out.json", *arguments)
    (result,) = content["results"]
    limits = result["limits"]
    assert (limits["depth"], limits["timeout_ns"], limits["match"]) == (4, 500_000_000, "index")
    assert result["faults"] == result["answered"] + result["auto_answered"] + limits["lost_faults"]
    assert result["accounted"]
    assert limits["lost_faults"] > 0
    out = capsys.readouterr().out
    assert f"{limits['lost_faults']:,}" in out
    assert f"{1 - result['answered'] / result['faults']:.1%}" in out
