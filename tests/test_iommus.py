"""Every IOMMU, through the public names: the names that there are, and what a machine with each does."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing
from dataclasses import astuple, replace
from typing import TYPE_CHECKING

import pytest

from tests.registered import registered
from tests.test_cli import run
from uring_iopf import Machine
from uring_iopf.abi import FaultPerm, PageResponse
from uring_iopf.core import Core, Driver
from uring_iopf.designs import resolve
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.amd import AmdIommu
from uring_iopf.hardware.iommus.device import DeviceFaults
from uring_iopf.hardware.iommus.device_log import DeviceLog
from uring_iopf.hardware.iommus.iommu import Iommu, model_names
from uring_iopf.hardware.iommus.riscv import RiscvIommu, RiscvPqcsr, RiscvRegister
from uring_iopf.hardware.iommus.smmuv3 import SmmuRegister, SmmuV3Iommu
from uring_iopf.hardware.iommus.vtd import REVISIONS, VtdIommu
from uring_iopf.hardware.limits import DEVICES, IOMMUS, MODELS, REQUEST_QUEUES, STALLING
from uring_iopf.hardware.load import Load
from uring_iopf.hardware.pri import PageRequest, PrgAnswer, PrgResponse, PriRegister, PriStatus
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import Context
from uring_iopf.lab.cell import count_cell
from uring_iopf.machine_function import Account
from uring_iopf.machine_parts import DRIVERS, FunctionParts, MachineParts
from uring_iopf.workloads import ROW, Workload, load_workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
PAGE = 4096
WITH_PRI = tuple(one for one in MODELS if one not in DEVICES)
"""Those whose functions may have PRI."""
NAMES_LENGTHS = ("device", "device-log")
"""Those whose faults say how much the device would like to have."""


def group_of(iommu: str) -> int:
    """A stall is a group of one page; a device has fewer places than an IOMMU's queue."""
    return 1 if iommu in STALLING else 4


def test_python_and_c_have_the_same_models_in_the_same_order() -> None:
    assert tuple(model_names()) == MODELS
    assert {*MODELS, *STALLING} == set(IOMMUS)


@pytest.mark.parametrize("iommu", IOMMUS)
def test_a_machine_has_the_iommu_of_its_vendor(iommu: str) -> None:
    vendor = {
        "amd": AmdIommu,
        "riscv": RiscvIommu,
        "device": DeviceFaults,
        "device-log": DeviceLog,
        "smmuv3": SmmuV3Iommu,
    }
    for drains in (True, False):
        with Machine(None, driver="inline", iommu=iommu, drains=drains) as machine:
            assert type(machine.iommu) is vendor.get(iommu.removesuffix("-stall"), VtdIommu)
            assert machine.iommu.model_name == iommu.removesuffix("-stall")
            assert machine.iommu.drains == drains
            if isinstance(machine.iommu, VtdIommu):
                assert REVISIONS[machine.iommu.revision] == iommu


@pytest.mark.parametrize("pasid", [0, 0xFFFF])
def test_a_workload_that_amds_driver_answers_failure_is_refused(pasid: int) -> None:
    """Its function would stop, and its pass would end before its rows."""
    workload = Workload.from_faults([(0, PAGE, pasid, FaultPerm.READ)])
    says = f"reports PASIDs from 1 to 65534 only, but the function nic has faults of PASID {pasid}"
    with pytest.raises(UsageError, match=says):
        MachineParts(workload, iommu="amd", functions=(FunctionParts("nic"),))
    if pasid:
        with pytest.raises(UsageError, match=says):
            MachineParts(iommu="amd", functions=(FunctionParts("nic", pasids=(1, pasid)),))
    for iommu in set(IOMMUS) - {"amd"}:
        with Machine(workload, driver="inline", iommu=iommu) as machine:
            machine.open("handler")
            machine.start()
            machine.core.produce()
            machine.core.consume()
            machine.core.produce()
            assert machine.account() == Account(1, 1, 0, 0, 0)


def test_an_unknown_model_is_refused_with_the_names_that_there_are() -> None:
    with Core() as core, pytest.raises(UsageError, match=f"model must be one of {', '.join(MODELS)}, not 'smmu'"):
        Iommu(core, "smmu")
    with pytest.raises(UsageError, match="iommu must be one of"):
        MachineParts(iommu="smmu")


@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
@pytest.mark.parametrize("iommu", IOMMUS)
def test_a_trace_is_replayed_through_each_with_nothing_lost(iommu: str, driver: str) -> None:
    workload = load_workload("gcc-compile")
    with Machine(workload, driver=driver, iommu=iommu, group=group_of(iommu), in_flight=64) as machine:
        machine.open("handler")
        machine.start()
        assert machine.endpoint.wait(1, 60_000_000_000)
        machine.detach()
        assert machine.account() == Account(len(workload), len(workload), 0, 0, 0)
        assert machine.iommu.lost() == 0


IOCTL_OF_2019 = ("region-v8", "region-v9")
PRIVATE_DATA = ("vtd-3", "vtd-2")
"""Those of which a request, and then its answer, has data that are private to the function."""


@pytest.mark.parametrize(
    ("iommu", "design"),
    [
        (iommu, design)
        for iommu in IOMMUS
        for design in registered(has_client=True)
        if not (design in IOCTL_OF_2019 and iommu in PRIVATE_DATA)
    ],
)
def test_each_design_counts_the_same_behind_each(iommu: str, design: str) -> None:
    group = group_of(iommu)
    in_flight = min(64, (resolve(design).most_faults or 512) // group)  # a function without credits would send more
    parts = MachineParts(load_workload("gcc-compile"), driver="inline", iommu=iommu, in_flight=in_flight, group=group)
    result = count_cell(design, parts)
    assert result.missing == ()
    expected = count_cell(design, parts.with_options(iommu="vtd")).per_fault
    if design == "uring-cmd" and iommu in NAMES_LENGTHS:
        # A second CQE, for the length.
        expected = replace(expected, bytes_copied=expected.bytes_copied + 32, cqes=expected.cqes + 1)
    assert astuple(result.per_fault) == pytest.approx(astuple(expected))


@pytest.mark.parametrize("design", IOCTL_OF_2019)
@pytest.mark.parametrize("iommu", PRIVATE_DATA)
def test_private_data_make_the_argument_of_the_ioctl_of_2019_longer(iommu: str, design: str) -> None:
    parts = MachineParts(load_workload("gcc-compile"), driver="inline", iommu=iommu, in_flight=64)
    result, without = (count_cell(design, parts.with_options(iommu=one)).per_fault for one in (iommu, "vtd"))
    assert result.bytes_copied == pytest.approx(without.bytes_copied + 20)
    assert replace(result, bytes_copied=without.bytes_copied) == without


@pytest.mark.parametrize("replaces", [True, False], ids=["replace", "detach and attach"])
@pytest.mark.parametrize("drains", [True, False])
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("iommu", IOMMUS)
def test_a_request_between_sent_and_reported_is_stale_where_nothing_drains(
    iommu: str, driver: str, drains: bool, replaces: bool
) -> None:
    with Machine(None, driver=driver, iommu=iommu, drains=drains) as machine:
        machine.open("fd")
        context, device = machine.context, machine.device
        parent = context.hwpt_alloc_paging(device, context.ioas_alloc(), nest_parent=True)
        other = context.fault_queue_alloc()
        table = context.hwpt_alloc_nested(device, parent, fault=other)
        with machine.iommu.interrupt_held():
            machine.endpoint.access(1, PAGE, FaultPerm.READ)
            until(lambda: machine.account().pending == 1, machine)
            assert device.counts().reported == 0, "it is in the IOMMU's queue"
            if replaces:
                device.replace(table)
            else:
                device.detach()
                device.attach(table)
        until(lambda: device.counts().reported == 1, machine)
        assert device.counts().stale == (not drains)
        until(lambda: bool(other.counts().waiting_groups) == (not drains), machine)
        account = machine.account()
        assert (account.sent, account.pending, account.auto_answered, account.lost) == (1, not drains, drains, 0)


def until(holds: Callable[[], bool], machine: Machine) -> None:
    """Turn the hardware, or let the worker do it, until this holds; the test's own limit ends it otherwise."""
    while not holds():
        if machine.driver is Driver.INLINE:
            machine.core.produce()
        else:
            time.sleep(0.001)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("iommu", WITH_PRI)
def test_the_queue_of_each_holds_what_the_table_says(iommu: str, more: int) -> None:
    """A burst of so many requests in one turn of the hardware fits; one more does not, in that turn."""
    holds = REQUEST_QUEUES[iommu]
    with Core() as core, ExitStack() as stack:
        context = Context(core)
        unit = Iommu(core, iommu)
        stack.callback(unit.close)
        endpoint = Endpoint(unit, capacity=holds + 32, group_most=32)
        stack.callback(endpoint.close)
        stack.callback(context.close)
        device = context.bind(unit, endpoint.requester_id, 2 * holds)
        unit.bind(endpoint, device)
        parent = context.hwpt_alloc_paging(device, context.ioas_alloc(), nest_parent=True)
        device.attach(context.hwpt_alloc_nested(device, parent, fault=context.fault_queue_alloc()))
        endpoint.enable_pri()
        endpoint.set_rows(b"".join(ROW.pack(0, n * PAGE, 1, FaultPerm.READ) for n in range(holds + more)))
        endpoint.start(Load(in_flight=512, group=32))
        core.produce()
        assert endpoint.counts().sent == holds + more
        assert device.counts().reported == holds
        endpoint.reset()


@pytest.mark.parametrize("iommu", WITH_PRI)
def test_answers_that_wait_for_the_hardware_arrive_although_a_function_is_plugged_in(iommu: str) -> None:
    """The command queues grow for the new functions, with what is in them: the driver's answers, and a client's."""
    with Machine(None, driver="inline", iommu=iommu) as machine, ExitStack() as stack:
        with machine.iommu.interrupt_held():
            for index in range(200):  # nothing is attached: each will be refused
                machine.endpoint.send(PageRequest(PAGE, index, read=True, pasid=1))
            stack.callback(Endpoint(machine.iommu, requester_id=0x200).close)
        until(lambda: machine.endpoint.counts().outstanding == 0, machine)
        machine.open("fd")
        for index in range(200):
            machine.endpoint.send(PageRequest(PAGE, index, read=True, pasid=1))
        machine.core.produce()
        while messages := machine.queue.read_messages():
            for message in messages:
                machine.queue.respond(message.cookie, PageResponse.INVALID)
        stack.callback(Endpoint(machine.iommu, requester_id=0x300).close)
        until(lambda: machine.endpoint.counts().outstanding == 0, machine)
        assert len(machine.endpoint.take_answers()) == 400
        assert machine.account() == Account(400, 200, 200, 0, 0)
        assert machine.iommu.lost() == 0


def test_an_answer_walks_no_tables_that_are_gone() -> None:
    """Of a command that the hardware has looked at, and that an illegal one before it has stopped."""
    with Core() as core, ExitStack() as stack:
        iommu = stack.enter_context(closing(SmmuV3Iommu(core)))
        endpoint = stack.enter_context(closing(Endpoint(iommu, capacity=4096, group_most=16)))
        space = AddressSpace()
        space.map_page(1, PAGE, FaultPerm.READ)
        endpoint.use_tables(space)
        endpoint.enable_pri()
        stack.enter_context(iommu.interrupt_held())
        endpoint.send(PageRequest(PAGE, 0, read=True, pasid=1, last=False))
        iommu.command(0xFF, 0)
        iommu.command(0x41 | 1 << 11 | 1 << 12 | endpoint.requester_id << 32, 2 << 12)  # Success, for group 0
        core.produce()
        assert iommu.illegal_commands() == 1
        endpoint.use_tables(None)
        space.close()
        for n in range(REQUEST_QUEUES["smmuv3"]):  # the last one does not fit: the SMMU answers it with Success
            endpoint.send(PageRequest(PAGE, n // 16 + 1, read=True, pasid=1, last=False))
        endpoint.send(PageRequest(2 * PAGE, 0, read=True, pasid=1))
        core.produce()
        assert endpoint.take_answers() == [PrgAnswer(0, PrgResponse.SUCCESS)]
        assert endpoint.counts().unmapped == 2


@pytest.mark.parametrize("iommu", WITH_PRI)
def test_two_functions_do_not_share_a_requester_id(iommu: str) -> None:
    """The requests of the one were reported as the other's, and so were the answers."""
    with Machine(None, driver="inline", iommu=iommu) as machine:
        physical = machine.endpoint
        for more in [{}, {"physical": physical}]:
            with pytest.raises(UsageError, match="requester_id 0x100 is another function's behind this IOMMU"):
                Endpoint(machine.iommu, **more)  # type: ignore[arg-type]
        other = Endpoint(machine.iommu, requester_id=0x200)
        with pytest.raises(UsageError, match="0x200"):
            Endpoint(machine.iommu, requester_id=0x200)
        other.close()
        Endpoint(machine.iommu, requester_id=0x200).close()


@pytest.mark.parametrize("iommu", WITH_PRI)
def test_a_report_by_hand_names_nothing_that_an_answers_format_has_no_room_for(iommu: str) -> None:
    """Of an index or a PASID too large, the rest was in the next field: another code, or another function's id."""
    with Machine(None, driver="inline", iommu=iommu) as machine:
        machine.open("fd")
        with pytest.raises(UsageError, match="requester_id must be 0 to 2\\^16 - 1 behind this IOMMU"):
            machine.context.bind(machine.iommu, 1 << 16, 8)
        for grpid, pasid in [(512, 1), (0x3005, 1), (5, 1 << 20)]:
            with pytest.raises(UsageError, match="grpid must be 0 to 511 and pasid 0 to 2\\^20 - 1"):
                machine.device.report(grpid, PAGE, pasid=pasid)
        machine.device.report(511, PAGE, pasid=(1 << 20) - 1)
        (message,) = machine.queue.read_messages()
        assert (message.grpid, message.pasid) == (511, (1 << 20) - 1)
        machine.queue.respond(message.cookie, PageResponse.INVALID)
        machine.core.produce()
        assert machine.endpoint.take_answers() == [PrgAnswer(511, PrgResponse.INVALID)]


@pytest.mark.parametrize("iommu", WITH_PRI)
def test_what_a_driver_keeps_of_a_group_that_it_has_answered_is_not_lost(iommu: str) -> None:
    """The last request came while no device was bound. Linux keeps the first; a detach drops it."""
    with Machine(None, driver="inline", iommu=iommu, group=2) as machine:
        machine.open("fd")
        endpoint, device = machine.endpoint, machine.device
        endpoint.send(PageRequest(PAGE, 7, read=True, pasid=1, last=False))
        machine.core.produce()
        machine.iommu.unbind(device)
        endpoint.send(PageRequest(2 * PAGE, 7, read=True, pasid=1))
        until(lambda: endpoint.counts().outstanding == 0, machine)
        assert endpoint.take_answers() == [PrgAnswer(7, PrgResponse.INVALID)]
        assert machine.account() == Account(2, 0, 1, 0, 0, pending=1)
        machine.iommu.bind(endpoint, device)
        endpoint.send(PageRequest(PAGE, 8, read=True, pasid=1, last=False))
        machine.core.produce()
        machine.detach()
        assert machine.account() == Account(3, 0, 2, 1, 0, awaited=1), "nobody has answered the other group"
        assert device.counts().dropped == 1


def answer_what_waits(machine: Machine, code: PageResponse) -> None:
    for cookie in {message.cookie for message in machine.queue.read_messages()}:
        machine.queue.respond(cookie, code)
    machine.core.produce()


@pytest.mark.parametrize("reset", ["function", "capability"])
@pytest.mark.parametrize("iommu", WITH_PRI)
def test_what_was_on_the_way_at_a_reset_is_answered_to_nobody(iommu: str, reset: str) -> None:
    """The requests are with the IOMMU, their answers come late, and the function is told by UPRGI."""
    with Machine(None, driver="inline", iommu=iommu, group=2) as machine:
        machine.open("fd")
        endpoint = machine.endpoint
        with machine.iommu.interrupt_held():
            tickets = [endpoint.access(1, n * PAGE, FaultPerm.READ, pages=2) for n in (1, 5)]
            until(lambda: endpoint.counts().outstanding == 4, machine)
            endpoint.disable_pri()
            (endpoint.reset if reset == "function" else endpoint.reset_pri)()
            assert [endpoint.result(ticket) for ticket in tickets] == [AccessResult.FAILED] * 2
            assert endpoint.counts().outstanding == 0, "every credit is back"
            endpoint.enable_pri()
        until(lambda: machine.queue.counts().waiting_groups == 2, machine)
        assert endpoint.counts().pri_status == 0
        answer_what_waits(machine, PageResponse.SUCCESS)
        until(lambda: endpoint.counts().unexpected == 2, machine)
        assert endpoint.counts().pri_status == PriStatus.UPRGI
        for written in (PriStatus.RF, PriStatus.UPRGI):
            endpoint.write_pri(PriRegister.STATUS, written)
            assert endpoint.counts().pri_status == PriStatus.UPRGI & ~written, "each bit is cleared by its own"
        later = endpoint.access(1, PAGE, FaultPerm.READ)
        until(lambda: machine.queue.counts().waiting_groups == 1, machine)
        answer_what_waits(machine, PageResponse.INVALID)
        until(lambda: endpoint.result(later) is AccessResult.INVALID, machine)
        assert machine.account() == Account(5, 5, 0, 0, 0)


@pytest.mark.parametrize("iommu", WITH_PRI)
def test_a_failure_of_a_virtual_function_stops_all_that_share_its_capability(iommu: str) -> None:
    """The generic layer has no room for so many groups of the virtual function, and answers FAILURE for itself."""
    with Machine(None, driver="inline", iommu=iommu) as machine:
        machine.open("fd")
        physical = machine.endpoint
        with closing(Endpoint(machine.iommu, requester_id=0x101, physical=physical)) as virtual:
            device = machine.context.bind(machine.iommu, 0x101, 1)
            machine.iommu.bind(virtual, device)
            assert machine.device.hwpt is not None
            device.attach(machine.device.hwpt)
            before = physical.access(1, PAGE, FaultPerm.READ)
            until(lambda: machine.queue.counts().waiting_groups == 1, machine)
            tickets = [virtual.access(1, PAGE, FaultPerm.READ) for _ in range(300)]
            until(lambda: virtual.counts().pri_status == PriStatus.RF, machine)
            assert physical.counts().pri_status == PriStatus.RF
            after = physical.access(1, PAGE, FaultPerm.READ)
            while virtual.counts().outstanding or physical.counts().outstanding:
                answer_what_waits(machine, PageResponse.SUCCESS)
            assert physical.counts().pri_status == PriStatus.RF | PriStatus.STOPPED
            assert physical.result(before) is AccessResult.FAILED, "it was not listened to any more"
            assert physical.result(after) is AccessResult.PENDING
            assert AccessResult.FAILED in {virtual.result(ticket) for ticket in tickets}
            physical.disable_pri()
            physical.enable_pri()
            assert virtual.counts().pri_status == 0
            until(lambda: machine.queue.counts().waiting_groups > 0, machine)
            while physical.result(after) is AccessResult.PENDING:
                answer_what_waits(machine, PageResponse.INVALID)
            assert physical.result(after) is AccessResult.INVALID
            device.unbind()


def discard_in_riscv(machine: Machine) -> None:
    machine.iommu.write_register(RiscvRegister.PQCSR, RiscvPqcsr.PIE)


def discard_in_smmuv3(machine: Machine) -> None:
    machine.iommu.write_register(SmmuRegister.CR0, 0)


@pytest.mark.parametrize(("iommu", "discard"), [("riscv", discard_in_riscv), ("smmuv3", discard_in_smmuv3)])
def test_a_group_whose_last_request_was_answered_by_a_queue_that_is_off_joins_no_later_one(
    iommu: str, discard: Callable[[Machine], None]
) -> None:
    with Machine(None, driver="inline", iommu=iommu, group=2) as machine:
        machine.open("fd")
        endpoint = machine.endpoint
        endpoint.send(PageRequest(PAGE, 7, read=True, pasid=1, last=False))
        machine.core.produce()
        register = RiscvRegister.PQCSR if iommu == "riscv" else SmmuRegister.CR0
        before = machine.iommu.read_register(register)
        discard(machine)
        endpoint.send(PageRequest(2 * PAGE, 7, read=True, pasid=1))
        until(lambda: endpoint.counts().outstanding == 0, machine)
        assert endpoint.take_answers() == [PrgAnswer(7, PrgResponse.FAILURE)]
        machine.iommu.write_register(register, before)
        endpoint.disable_pri()
        endpoint.enable_pri()
        endpoint.send(PageRequest(3 * PAGE, 7, read=True, pasid=1))
        machine.core.produce()
        (message,) = machine.queue.read_messages()
        assert message.addr == 3 * PAGE
        machine.queue.respond(message.cookie, PageResponse.INVALID)
        machine.core.produce()
        assert machine.account() == Account(3, 1, 1, 0, 0, passed_over=1)


def test_an_interrupt_that_is_held_twice_waits_until_both_have_let_it_go() -> None:
    with Machine(None, driver="inline") as machine:
        with machine.iommu.interrupt_held():
            with machine.iommu.interrupt_held():
                pass
            machine.endpoint.send(PageRequest(PAGE, read=True, pasid=1))
            machine.core.produce()
            assert machine.account().pending == 1
        machine.core.produce()
        assert machine.account().pending == 0


def test_a_driver_reads_the_record_that_was_put_in_place_of_another() -> None:
    with Machine(None, driver="inline", kernel="6.12") as machine:
        iommu = machine.iommu
        with iommu.interrupt_held():
            with pytest.raises(KernelError, match="No such file"):
                iommu.write_record((0, 0, 0, 0))
            machine.endpoint.send(PageRequest(PAGE, read=True, pasid=1))
            machine.core.produce()
            words = iommu.read_record()
            for wrong in ((0,) * 3, (0,) * 5, (), (1 << 64, 0, 0, 0), (-1, 0, 0, 0), 7):
                with pytest.raises(UsageError, match=r"words(\[\d\])? must be"):
                    iommu.write_record(wrong)  # type: ignore[arg-type]
            with pytest.raises(KernelError, match="Invalid"):
                iommu.write_record(words, 1)
            assert iommu.read_record() == words
            other = (words[0] & ~(1 << 8), *words[1:])  # as it is, without a PASID
            iommu.write_record(other)
            assert iommu.read_record() == other
            assert not iommu.read_command(refusal=True)
        machine.core.produce()
        assert not iommu.read_record()
        assert iommu.read_command(refusal=True)[0] & 1 << 4 == 0  # refused; and has no PASID either


def test_a_function_that_stalls_sends_no_stop_marker() -> None:
    """It has no PRI, and what is in the PRI queue is another function's."""
    with Core() as core, closing(SmmuV3Iommu(core)) as iommu, closing(Endpoint(iommu, stalls=4)) as endpoint:
        assert endpoint.stop_pasid(1, marker=True) == 0
        assert iommu.read_register(SmmuRegister.PRIQ_PROD) == 0


@pytest.mark.parametrize("iommu", IOMMUS)
def test_compare_names_the_iommu_in_its_results(iommu: str, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    arguments = ("--design", "fd", "--in-flight", "4", "--duration", "0.01", "--iommu", iommu, "--json", str(file))
    assert run("compare", *arguments) == 0
    content = json.loads(file.read_text())
    assert {result["iommu"] for result in content["results"]} == {iommu}
    assert content["arguments"]["iommu"] == iommu


@pytest.mark.parametrize("group", [1, 4, 32])
@pytest.mark.parametrize("iommu", IOMMUS)
def test_a_result_has_the_number_in_flight_that_was_reached(iommu: str, group: int) -> None:
    """Not the one that was asked for: the machine gives no function more credits than the queue holds."""
    if group > 1 and iommu in ("smmuv3-stall", "device-log"):
        return  # which is refused
    workload = Workload.from_faults((0, n * PAGE, 1, FaultPerm.READ) for n in range(3 * REQUEST_QUEUES["riscv"]))
    parts = MachineParts(workload, iommu=iommu, driver="inline", group=group, in_flight=512)
    with Machine(parts) as machine:
        machine.open("fd")
        machine.start()
        with machine.iommu.interrupt_held():  # nobody answers, and so it does not get beyond this
            for _ in range(8):
                machine.core.produce()
            counts = machine.endpoint.counts()
        assert counts.outstanding <= REQUEST_QUEUES[machine.iommu.model_name]
        assert machine.iommu.lost() == 0
    result = count_cell("fd", parts)
    assert result.in_flight == counts.sent_groups <= 512
    assert result.missing == ()


@pytest.mark.parametrize("iommu", WITH_PRI)
def test_a_result_shows_that_credits_by_hand_have_overflowed_the_queue(iommu: str) -> None:
    workload = Workload.from_faults((0, n * PAGE, 1, FaultPerm.READ) for n in range(3 * REQUEST_QUEUES["riscv"]))
    functions = (FunctionParts(credits=2 * REQUEST_QUEUES["riscv"]),)
    parts = MachineParts(workload, iommu=iommu, driver="inline", group=32, in_flight=512, functions=functions)
    result = count_cell("fd", parts)
    assert result.in_flight == 2 * REQUEST_QUEUES["riscv"] // 32
    assert not result.accounted
    assert result.error or result.lost or result.unmapped or result.auto_answered


# ---- functions that stall ----


def test_no_more_transactions_stall_than_there_are_places() -> None:
    workload, most = load_workload("gcc-compile"), 0
    with Machine(
        workload, driver="inline", iommu="smmuv3-stall", in_flight=64, functions=(FunctionParts(stalls=3),)
    ) as machine:
        machine.open("fd")
        machine.start()
        while not machine.is_idle():
            machine.core.produce()
            counts = machine.endpoint.counts()
            most = max(most, counts.outstanding)
            assert counts.waiting <= 61, "in flight, and without a place"
            for message in machine.queue.read_messages():
                machine.address_space.map_page(message.pasid, message.addr, message.perm)
                machine.queue.respond(message.cookie, 0)
        assert most == 3
        assert machine.account() == Account(len(workload), len(workload), 0, 0, 0)


@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
def test_one_machine_has_functions_of_both_kinds(driver: str) -> None:
    workload = load_workload("gcc-compile")
    functions = (FunctionParts("nic"), FunctionParts("gpu", stalls=8))
    with Machine(workload, driver=driver, iommu="smmuv3", functions=functions) as machine:
        machine.open("handler")
        machine.start()
        until(machine.is_idle, machine)
        machine.detach()
        assert set(machine.accounts().values()) == {Account(len(workload), len(workload), 0, 0, 0)}
        assert [one.endpoint.stalls for one in machine.functions.values()] == [0, 8]


def test_what_contradicts_a_stall_is_refused() -> None:
    for iommu in set(IOMMUS) - {"smmuv3", "smmuv3-stall", *DEVICES}:
        with pytest.raises(
            UsageError, match=f"needs iommu='smmuv3' or 'smmuv3-stall' or 'device' or 'device-log', not '{iommu}'"
        ):
            MachineParts(iommu=iommu, functions=(FunctionParts(stalls=4),))
    with pytest.raises(UsageError, match="group must be 1 for the function function"):
        MachineParts(iommu="smmuv3-stall", group=2)
    with pytest.raises(UsageError, match="group must be 1 for the function gpu"):
        MachineParts(iommu="smmuv3", group=2, functions=(FunctionParts("nic"), FunctionParts("gpu", stalls=4)))
    with pytest.raises(UsageError, match="credits must be left out for gpu"):
        FunctionParts("gpu", stalls=4, credits=5)
    with pytest.raises(UsageError, match="or give stalls=0"):
        MachineParts(iommu="smmuv3-stall", functions=(FunctionParts(credits=5),))
    parts = MachineParts(iommu="smmuv3-stall", group=2, functions=(FunctionParts(credits=5, stalls=0),))
    assert [(one.credits, one.stalls) for one in parts.each_function()] == [(5, 0)]
    (stalls,) = MachineParts(iommu="smmuv3-stall").each_function()
    assert (stalls.credits, stalls.stalls) == (64, 64)
    assert FunctionParts(**vars(stalls)) == stalls, "it can be made again of what it was made of"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--iommu", "smmuv3-stall", "--in-flight", "65"),
            "--stalls 64 and --iommu smmuv3-stall, reaches 64 groups in flight",
        ),
        (("--iommu", "smmuv3-stall", "--stalls", "8", "--in-flight", "9"), "reaches 8 groups in flight at most"),
        (("--iommu", "smmuv3-stall", "--group", "2"), "group must be 1"),
        (("--iommu", "smmuv3", "--stalls", "8"), "no transaction stalls with --iommu smmuv3"),
        (("--iommu", "amd", "--in-flight", "512", "--group", "32"), "reaches 19 groups in flight at most"),
    ],
)
def test_compare_refuses_what_cannot_be_in_flight(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", "--workload", "gcc-compile", "--design", "fd", *arguments) == 2
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("number", "group", "most"), [(512, 32, 63), (256, 8, 255), (64, 32, 63)])
def test_serve_refuses_in_the_words_of_compare_what_cannot_be_in_flight(
    number: int, group: int, most: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The credits are the queue's 2,047 places, and a group begins only with credit for a whole one."""
    file = tmp_path / "trace.csv"
    file.write_text("time_ns,pasid,thread,address,access\n" + "".join(f"{n},1,0,{n << 13:#x},r\n" for n in range(4000)))
    numbers = ("--workload", str(file), "--in-flight", str(number), "--group", str(group))
    said = []
    for command in (("compare", "--design", "fd"), ("serve", "--socket", str(tmp_path / "socket"))):
        assert run(*command, *numbers) == 2
        said.append(capsys.readouterr().err.partition("--in-flight ")[2])
    assert said[0] == said[1]
    assert f"reaches {most} groups in flight at most; give 1 to {most}" in " ".join(said[0].split())
    assert not (tmp_path / "socket").exists()


def test_compare_shows_no_more_in_flight_than_there_are_places(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    arguments = ("--design", "fd", "--duration", "0.01", "--iommu", "smmuv3-stall", "--stalls", "20")
    assert run("compare", *arguments, "--json", str(file)) == 0
    content = json.loads(file.read_text())
    assert {result["in_flight"] for result in content["results"]} == {1, 16, 20}
    assert content["arguments"]["stalls"] == 20
