"""Machines of two stages: every design and client as the guest, the kernel as the host, and what the table says."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.test_machine import turn
from tests.ways import dealt
from uring_iopf import FaultPerm, FunctionParts, KernelError, Machine, PageResponse, UsageError
from uring_iopf.clients.groups import receive_groups
from uring_iopf.commands.main import main
from uring_iopf.designs import names
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.hardware.guest import GuestSpace
from uring_iopf.hardware.limits import IOMMUS, PAGE_FORMATS
from uring_iopf.hardware.page_tables import PageTables
from uring_iopf.lab.cell import count_cell
from uring_iopf.machine_parts import KNOWN_BY, MachineParts
from uring_iopf.testing.compare import compare_designs

if TYPE_CHECKING:
    from uring_iopf.lab.result import StageCosts

PAGE = 4096
R, W, X = FaultPerm.READ, FaultPerm.WRITE, FaultPerm.EXEC
WAYS = {
    "vtd, the driver walks": ("vtd", 0.0, "driver"),
    "vtd-3, half pinned, the handler filters": ("vtd-3", 0.5, "handler"),
    "vtd-2, a quarter pinned": ("vtd-2", 0.25, None),
    "smmuv3, pinned": ("smmuv3", 1.0, None),
    "smmuv3-stall, hardware tells": ("smmuv3-stall", 0.0, None),
    "smmuv3-stall, the handler filters": ("smmuv3-stall", 0.0, "handler"),
    "smmuv3-stall, the driver walks all the same": ("smmuv3-stall", 0.5, "driver"),
}
"""The IOMMU, the share of stage 2 that is pinned, and who knows the stage of a fault; None: as the IOMMU does."""
GUESTS = dict.fromkeys(dealt(((design,) for design in names() * 2), list(WAYS)))
"""Each design in one way or two."""


def costs(design: str, parts: MachineParts) -> StageCosts:
    result = count_cell(design, parts)
    assert result.accounted, result.missing
    assert result.stages is not None
    assert result.stages.by_host + result.stages.gone == result.auto_answered
    assert result.stages.to_guest == result.answered
    assert result.stages.pages == result.faults
    return result.stages


def parts_of(way: str) -> MachineParts:
    iommu, stage2, known_by = WAYS[way]
    return MachineParts.of("gcc-compile", driver="inline", iommu=iommu, stage2=stage2, known_by=known_by, in_flight=8)


@cache
def costs_of_fd(way: str) -> StageCosts:
    return costs("fd", parts_of(way))


@pytest.mark.parametrize(("design", "way"), GUESTS)
def test_every_design_is_a_guest(design: str, way: str) -> None:
    """What the guest, the host and nobody has of the faults does not depend on the design."""
    iommu, stage2, known_by = WAYS[way]
    parts = parts_of(way)
    one, other = costs(design, parts), costs_of_fd(way)
    assert (one.to_guest, one.by_host, one.gone) == (other.to_guest, other.by_host, other.gone)
    assert one.known_by == (known_by or parts.stage_known_by)
    assert (one.by_host == 0) is (stage2 == 1)
    walks = one.known_by == "driver" or (one.known_by == "handler" and iommu != "smmuv3-stall")
    if one.known_by == "nobody":
        assert one.walks <= 1, "the trace has a page that two faults at a time may ask for"
    else:
        assert (one.walks > 0) is walks
    assert one.wrong == 0
    assert one.refused == 0


def test_designs_are_guests_in_every_way() -> None:
    assert {way for _, way in GUESTS} == set(WAYS)


@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
@pytest.mark.parametrize("client", ["native", "trio", "batch"])
def test_every_client_is_a_guest_on_two_threads(
    driver: str, client: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "out.json"
    arguments = [
        "--iommu",
        "smmuv3",
        "--stage2",
        "0.5",
        "--design",
        "uring-multishot",
        "--in-flight",
        "8",
        "--wait",
        "sleep",
    ]
    more = ["--client", client, "--driver", driver, "--duration", "0.01", "--json", str(file)]
    assert main(["compare", *arguments, *more]) == 0
    out = capsys.readouterr().out
    assert "Which stage faulted?" in out
    found = json.loads(file.read_text())
    assert found["arguments"]["stage_known_by"] == ["hardware", "driver", "handler", "nobody"]
    assert [one["stages"]["known_by"] for one in found["results"]] == found["arguments"]["stage_known_by"]
    assert [one["iommu"] for one in found["results"]] == ["smmuv3-stall", *["smmuv3"] * 3]
    for one in found["results"]:
        stages = one["stages"]
        assert one["accounted"]
        assert stages["to_guest"] == one["answered"]
        assert stages["by_host"] + stages["gone"] == one["auto_answered"]


def test_the_page_has_the_counts() -> None:
    page = (Path(__file__).parent.parent / "docs/reference/page-tables.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (hardware|driver|handler|nobody) \| (\d) \| (.*) \|$", page, re.MULTILINE)
    assert [one[0] for one in told] == ["hardware", "driver", "handler", "nobody"]
    for known_by, pinned, numbers in told:
        iommu = "smmuv3-stall" if known_by == "hardware" else "smmuv3"
        parts = MachineParts.of(
            "gcc-compile", driver="inline", iommu=iommu, stage2=float(pinned), known_by=known_by, in_flight=16
        )
        one = costs("fd", parts)
        assert [int(number.replace(",", "")) for number in numbers.split(" | ")] == [
            one.to_guest, one.by_host, one.gone, one.walks, one.entries, one.calls, one.locks
        ]  # fmt: skip


# ---- parts ----


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"known_by": "driver"}, "known_by='driver' needs two stages; give stage2"),
        ({"stage2": 0.5, "known_by": "nobody"}, "known_by='nobody' needs stage2=1"),
        ({"stage2": 0.5, "known_by": "hardware"}, "known_by='hardware' needs functions that stall"),
        ({"stage2": 0.5, "known_by": "guess"}, "known_by must be one of hardware, driver, handler, nobody"),
        (
            {"stage2": 0, "report_flags": 1},
            "report_flags must be one of 0, 2, 4, 6 with stage2 and known_by='driver', not 1",
        ),
        ({"stage2": 0, "report_flags": 3}, "report_flags must be one of 0, 2, 4, 6"),
        ({"stage2": 1, "report_flags": 6}, "report_flags must be one of 0, 2 with stage2 and known_by='nobody', not 6"),
        ({"stage2": 1.5}, "stage2 must be a share from 0 to 1, or None, not 1.5"),
        ({"stage2": True}, "stage2 must be a share from 0 to 1, or None, not True"),
        *(
            ({"stage2": 0.5, "iommu": one}, f"stage2 needs an IOMMU with page tables of two stages, .*, not '{one}'")
            for one in IOMMUS
            if one not in PAGE_FORMATS
        ),
    ],
)
def test_parts_that_cannot_be_are_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=f"^{why}"):
        MachineParts(**options)  # type: ignore[arg-type]


def test_the_default_way_follows_from_the_machine() -> None:
    assert MachineParts().stage_known_by is None
    assert MachineParts(stage2=0).stage_known_by == "driver"
    assert MachineParts(stage2=1).stage_known_by == "nobody"
    assert MachineParts(stage2=0, iommu="smmuv3-stall").stage_known_by == "hardware"
    mixed = (FunctionParts("a", stalls=4), FunctionParts("b"))
    assert MachineParts(stage2=0, iommu="smmuv3", functions=mixed).stage_known_by == "driver"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--stage-known-by", "driver"], "--stage-known-by: there is one stage; add --stage2"),
        (["--stage2", "half"], "--stage2: 'half' is not pinned, unpinned, or a share from 0 to 1"),
        (["--stage2", "nan"], "--stage2: 'nan' is not pinned, unpinned, or a share from 0 to 1"),
        (["--stage2", "0.5", "--iommu", "amd"], "stage2 needs an IOMMU with page tables of two stages"),
        (["--stage2", "0.5", "--stage-known-by", "hardware"], "known_by='hardware' needs functions that stall"),
    ],
)
def test_the_command_refuses_what_cannot_be(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["compare", *arguments])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else -1
    assert status == 2
    assert why in " ".join(capsys.readouterr().err.split())


# ---- by hand ----


def test_a_machines_kernel_serves_its_own_stage() -> None:
    """The guest maps a page; the function asks again, and no client hears of it."""
    with Machine(None, driver="inline", iommu="vtd", stage2=0, in_flight=4) as machine:
        channel = machine.open("fd")
        ticket = machine.endpoint.access(5, 0x7000, W)
        turn(machine)
        channel.prepare_sleep()
        channel.awake()
        (group,) = receive_groups(channel)
        machine.address_space.map(group)
        group.respond(PageResponse.SUCCESS)
        channel.flush()
        turn(machine)
        assert machine.endpoint.result(ticket) is AccessResult.OK
        assert receive_groups(channel) == []
        account = machine.account()
        assert (account.sent, account.answered, account.auto_answered, account.lost) == (2, 1, 1, 0)
        assert machine.stages is not None
        assert machine.stages.counts()._replace(entries=0) == (2, 1, 1, 0, 0, 2, 0, 2, 1, 0)
        machine.reset_tables()
        assert machine.endpoint.result(machine.endpoint.access(5, 0x7000, W)) is AccessResult.PENDING


@pytest.mark.parametrize("known_by", KNOWN_BY)
def test_a_function_that_stalls_does_so_under_any_pasid(known_by: str) -> None:
    """An SMMU aborts what has no tables, so that nobody would be asked: they are there from the beginning."""
    pinned = known_by == "nobody"
    with Machine(None, driver="inline", iommu="smmuv3-stall", stage2=pinned * 1.0, known_by=known_by) as machine:
        machine.open("handler")
        for pasid in (0, 1, 5, 63):
            ticket = machine.endpoint.access(pasid, 0x7000, W)
            turn(machine)
            turn(machine)
            assert machine.endpoint.result(ticket) is AccessResult.OK
        assert machine.stages is not None
        assert machine.stages.counts().to_guest == 4
        machine.reset_tables()
        assert machine.endpoint.result(machine.endpoint.access(63, 0x7000, W)) is AccessResult.PENDING


def test_a_pasid_table_too_long_for_that_needs_the_pasids() -> None:
    with pytest.raises(UsageError, match=r"pasid_table=1025 .* give pasids to function"):
        MachineParts(None, iommu="smmuv3-stall", stage2=0, pasid_table=1025)
    MachineParts(None, iommu="smmuv3-stall", stage2=0, pasid_table=1024)
    MachineParts(None, iommu="smmuv3", stage2=0, pasid_table=1025)
    MachineParts(iommu="smmuv3-stall", stage2=0, pasid_table=1 << 20, functions=(FunctionParts(pasids=(1 << 19,)),))


def test_report_flags_are_the_kernels_own_handlers() -> None:
    with Machine(None, driver="inline", stage2=0, report_flags=2) as machine:
        machine.open("fd")
        machine.address_space.map_page(5, 0x7000, R)
        ticket = machine.endpoint.access(5, 0x7000, R)
        turn(machine)
        assert machine.endpoint.result(ticket) is AccessResult.INVALID  # of stage 2, which nobody wants to hear of


def test_two_functions_have_one_guest_and_a_handler_each() -> None:
    two = (FunctionParts("nic", pasids=(1,)), FunctionParts("gpu", pasids=(1,), stalls=4))
    with Machine(None, driver="inline", iommu="smmuv3", stage2=0, functions=two) as machine:
        machine.open("fd")
        machine.address_space.map_page(1, 0x7000, R)
        for name, served in (("nic", 1), ("gpu", 0)):
            ticket = machine.functions[name].endpoint.access(1, 0x7000, R)
            turn(machine)
            assert machine.functions[name].endpoint.result(ticket) is AccessResult.OK
            assert machine.stages is not None
            assert machine.stages.handlers[name].counts().by_host == served
        assert sum(one.sent for one in machine.accounts().values()) == 1


def test_functions_of_one_workload_share_its_pages() -> None:
    two = (FunctionParts("a"), FunctionParts("b"))
    (result,) = compare_designs(["fd"], workload="gcc-compile", stage2=0.5, functions=two, queues="device").values()
    assert result.stages is not None
    assert result.stages.by_host > 1000
    assert result.stages.to_guest == result.answered


# ---- a host beside a worker ----


def test_pages_are_pinned_and_unpinned_while_a_handler_fills() -> None:
    with Machine("gcc-compile", driver="sqpoll", stage2=0, in_flight=64) as machine:
        machine.open("handler")
        machine.start()
        assert machine.stages is not None
        second = machine.stages.second
        for _ in range(20):
            second.pin()
            second.unpin()
            if machine.is_idle():
                break
        while not machine.is_idle():
            second.pin()
        assert not machine.account().lost


def test_a_second_stage_that_is_closed_is_filled_no_more() -> None:
    with Machine(None, driver="inline", stage2=0) as machine:
        machine.open("handler")
        assert machine.stages is not None
        machine.address_space.map_page(3, 0x1000, R)
        machine.stages.second.close()
        ticket = machine.endpoint.access(3, 0x1000, R)
        turn(machine)
        assert machine.endpoint.result(ticket) is AccessResult.INVALID
        assert machine.stages.host.look(0) is None
        assert machine.stages.counts().refused == 1


def test_the_child_of_a_fork_leaves_the_parents_stage_2_alone() -> None:
    with Machine(None, driver="inline", stage2=0.5) as machine:
        assert machine.stages is not None
        second = machine.stages.second
        child = os.fork()
        if not child:
            refused = 0
            for call in (second.unpin, second.pin, second.update, second.clear, lambda: second.fill(0, R)):
                try:
                    call()
                except UsageError as error:
                    refused += "belongs to the parent process" in str(error)
            second.close()
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        assert machine.stages.host.look(0) is not None


# ---- a guest's address space ----


def test_a_guests_pages_get_frames_in_turn() -> None:
    tables = PageTables("vtd-first", pasids=4, base=1 << 30)
    space = GuestSpace(tables, 3, pasids=(1,))
    assert (space.pasids, space.table_pages, space.fd) == (4, 64, tables.fd)
    space.map_page(1, 0x7000, R)
    space.map_page(2, 0x7000, W)
    space.map_page(1, 0x7FFF, W | X)  # more rights for the same page
    entry = tables.look(0x7000, pasid=1)
    assert entry is not None
    assert (entry.to, entry.user) == (0, R | W | X)
    entry = tables.look(0x7000, pasid=2)
    assert entry is not None
    assert entry.to == PAGE
    assert space.allows(1, 0x7123, W)
    assert not space.allows(2, 0x7000, X)
    space.unmap_page(1, 0x7000)
    space.unmap_page(1, 0x7000)
    assert not space.allows(1, 0x7000, R)
    space.map_page(3, 0, R)
    with pytest.raises(KernelError, match=r"all 3 page frames are in use"):
        space.map_page(3, PAGE, R)
    with pytest.raises(KernelError, match="PASID table has 4 entries"):
        space.map_page(4, 0, R)
    used = space.used_bytes()
    space.reset()
    assert space.used_bytes() == PAGE < used
    space.map_page(3, 0, R)
    entry = tables.look(0, pasid=3)
    assert entry is not None
    assert entry.to == 0


def test_what_a_guests_space_refuses() -> None:
    tables = PageTables("arm-stage1", pasids=2, table_pages=1)
    with pytest.raises(UsageError, match="tables must be PageTables of stage 1"):
        GuestSpace(PageTables("arm-stage2"), 1)
    with pytest.raises(UsageError, match="frames must be 1 to"):
        GuestSpace(tables, 0)
    with pytest.raises(UsageError, match="each of pasids must be 0 to 1"):
        GuestSpace(tables, 1, pasids=(2,))
    with pytest.raises(MemoryError):
        GuestSpace(tables, 1, pasids=(0, 1))  # two roots, and one page for tables
