"""An exception at any bytecode of any call: it comes out, nothing is left, and what is there works or is closed."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import random
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
import trio

import uring_iopf
from tests.interrupts import Before, Interrupt, allocated, interrupted, points
from tests.registered import one_of_each_kind
from tests.ways import DRIVERS, dealt
from uring_iopf import AccessResult, FaultPerm, FunctionParts, Machine
from uring_iopf._native import ffi
from uring_iopf.abi import Op
from uring_iopf.abi.iommufd import IoctlNr
from uring_iopf.clients.batch import BatchClient
from uring_iopf.clients.groups import FaultGroup, receive_groups
from uring_iopf.clients.sync import serve_once
from uring_iopf.core import Core, Driver
from uring_iopf.designs import resolve
from uring_iopf.handles import NotCopied
from uring_iopf.hardware.endpoint import Endpoint
from uring_iopf.hardware.guest import GuestSpace
from uring_iopf.hardware.iommus.amd import AmdIommu
from uring_iopf.hardware.iommus.device import DeviceFaults
from uring_iopf.hardware.iommus.device_log import DeviceLog
from uring_iopf.hardware.iommus.riscv import RiscvIommu
from uring_iopf.hardware.iommus.smmuv3 import SmmuV3Iommu
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.page_tables import PageTables
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.hardware.translator import DeviceTlb, Translator
from uring_iopf.hardware.work_queues import WorkQueue, WorkQueues
from uring_iopf.iommufd import MOCK_DRIVER, MOCK_VEVENTQ_TYPE, MOCK_VIOMMU_TYPE, Context
from uring_iopf.iommufd.devices.fault_handler import DeviceFaultHandler, ReportFlags
from uring_iopf.iommufd.spaces.second_stage import SecondStage
from uring_iopf.rings import ProvidedBuffers, Ring, Sqe, Window
from uring_iopf.server import RingServer
from uring_iopf.server.attached import AttachableRing
from uring_iopf.workloads import ROW, Workload, load_workload

MOST: Final = int(os.environ.get("INTERRUPTS_MOST", "50"))
"""Opcodes at which each call is interrupted; of more, every so many-th, by the seed that pytest's header prints."""


def look(machine: Machine) -> None:
    """Let the other side have its turn, and the kernel's part that runs in the client's calls."""
    machine.channel.turn()
    if machine.design.has_client:
        machine.channel.prepare_sleep()
        machine.channel.awake()


def still_serves(machine: Machine) -> None:
    """A fault made now is delivered and answered."""
    channel = machine.channel
    page = 0x7000_0000 + 0x1000 * random.randrange(1 << 20)
    ticket = machine.endpoint.access(1, page, FaultPerm.READ)
    until = time.monotonic() + 5
    while machine.endpoint.result(ticket) is AccessResult.PENDING:
        assert time.monotonic() < until, f"a fault stays where it is: {machine.account()}"
        look(machine)
        if machine.design.has_client:
            serve_once(channel, machine.address_space)
    assert machine.endpoint.result(ticket) is AccessResult.OK


def accounts(machine: Machine) -> None:
    """Whatever was under way is answered, by the client or for it."""
    machine.detach()
    machine.core.stop_worker()
    for _ in range(3):
        machine.core.produce()
    account = machine.account()
    assert account.lost == 0, account


@dataclass(frozen=True)
class Case:
    """A call, what it is made on, and what must hold after an exception out of it."""

    make: Callable[[], Any]
    call: Callable[[Any], object]
    after: Callable[[Any], object] = lambda _: None


def machine(driver: str = "inline", design: str | None = None, **how: Any) -> Callable[[], Machine]:
    def make() -> Machine:
        made = Machine(None, driver=driver, **how)
        if design is not None:
            made.open(design)
        return made

    return make


def with_queue() -> Machine:
    made = Machine(None, driver="sqpoll")
    made.open_queue(start_worker=False)
    return made


def opens_again(one: Machine) -> None:
    """An open that was interrupted can be made again."""
    if not one._opened:
        one.open("fd")
    still_serves(one)
    accounts(one)
    one.close()


TWO: Final = (FunctionParts("nic", pasids=(1, 2)), FunctionParts("gpu", pasids=(1, 2)))


def opens_each_again(one: Machine) -> None:
    """The same of a machine with several queues: what an interrupted call has made is gone, or all of it is there."""
    if not one._opened:
        assert not one.queues
        assert not one.channels
        one.open_each("fd")
    assert list(one.queues) == list(one.channels) == list(one.parts.queue_keys())
    for function in one.functions.values():
        function.endpoint.access(2, 0x1000, FaultPerm.READ)
    accounts(one)
    assert [each.sent >= each.auto_answered for each in one.accounts().values()] == [True, True]
    one.close()


def serves_on(one: Machine) -> None:
    still_serves(one)
    accounts(one)
    one.close()


def closes(one: Any) -> None:
    """It is closed by now, or can be."""
    one.close()
    one.close()


def nothing() -> None:
    """For calls that make what they are about."""


def hardware() -> tuple[Core, VtdIommu, AddressSpace, Endpoint]:
    core = Core()
    iommu = VtdIommu(core)
    return core, iommu, AddressSpace(), Endpoint(iommu)


def end(parts: tuple[Core, VtdIommu, AddressSpace, Endpoint]) -> None:
    core, iommu, space, endpoint = parts
    endpoint.close()
    iommu.close()
    space.close()
    core.close()


def page_tables() -> PageTables:
    return PageTables("vtd-second")


def core_and_tables() -> tuple[Core, PageTables]:
    return Core(), PageTables("vtd-first")


def translator() -> tuple[Core, PageTables, Translator]:
    core, tables = core_and_tables()
    tables.map(0x1000, 0x2000)
    return core, tables, Translator(core, first=tables)


def end_tables(parts: tuple[Any, ...]) -> None:
    """What stands on the core first."""
    for one in reversed(parts):
        one.close()


class World:
    """A context with a device on a mock IOMMU, a queue, and tables that carry it."""

    def __init__(self) -> None:
        self.core = Core()
        self.context = Context(self.core, kernel="7.2")
        self.ioas = self.context.ioas_alloc()
        self.other = self.context.ioas_alloc()
        self.free = self.context.ioas_alloc()
        self.mock = self.context.mock_device(self.ioas)
        self.device = self.context.bind(self.context.mock.c, 0x100, 64, driver=MOCK_DRIVER)
        self.queue = self.context.fault_queue_alloc()
        self.parent = self.context.hwpt_alloc_paging(self.device, self.ioas, nest_parent=True)
        self.table = self.context.hwpt_alloc_nested(self.device, self.parent, fault=self.queue)
        self.viommu = self.context.viommu_alloc(self.device, self.parent, MOCK_VIOMMU_TYPE)

    def attached(self) -> World:
        self.device.attach(self.table)
        self.device.report(1, 0x1000)
        return self


def attached() -> World:
    return World().attached()


def on_a_space() -> World:
    world = World()
    world.device.attach(world.other)
    return world


def with_a_pasid() -> World:
    world = World()
    table = world.context.hwpt_alloc_paging(world.device, world.other, pasid=True)
    world.device.attach(table)
    world.device.attach(table, pasid=3)
    return world


def world_ends(world: World) -> None:
    """The counts of users are right: everything goes, and a queue can be made and used before that."""
    queue = world.context.fault_queue_alloc()
    queue.close()
    world.context.destroy(queue)
    if world.device.exists:
        world.device.unbind()
    assert all(one.users >= 0 for one in world.context)
    world.context.close()
    assert list(world.context) == []
    world.core.close()


def ioctl(world: World) -> None:
    struct = bytearray(bytes(ffi.buffer(ffi.new("struct iommu_ioas_alloc *", {"size": 12}))))
    world.context.ioctl(IoctlNr.IOAS_ALLOC.request, struct)


IOMMUFD: Final[dict[str, tuple[Callable[[], World], Callable[[World], object]]]] = {
    "Context()": (World, lambda world: Context(world.core).close()),
    "ioas_alloc": (World, lambda world: world.context.ioas_alloc()),
    "fault_queue_alloc": (World, lambda world: world.context.fault_queue_alloc()),
    "hwpt_alloc_paging": (World, lambda world: world.context.hwpt_alloc_paging(world.device, world.ioas)),
    "hwpt_alloc_nested": (
        World,
        lambda world: world.context.hwpt_alloc_nested(world.device, world.parent, fault=world.queue),
    ),
    "viommu_alloc": (
        World,
        lambda world: world.context.viommu_alloc(world.device, world.parent, MOCK_VIOMMU_TYPE),
    ),
    "vdevice_alloc": (World, lambda world: world.context.vdevice_alloc(world.viommu, world.device, 5)),
    "veventq_alloc": (World, lambda world: world.context.veventq_alloc(world.viommu, MOCK_VEVENTQ_TYPE, 4)),
    "destroy": (World, lambda world: world.context.destroy(world.table)),
    "bind": (World, lambda world: world.context.bind(world.context.mock.c, 0x200, 8, driver=MOCK_DRIVER)),
    "mock_device": (World, lambda world: world.context.mock_device(world.other)),
    "ioctl": (World, ioctl),
    "Device.attach": (World, lambda world: world.device.attach(world.table)),
    "Device.attach to a space": (World, lambda world: world.device.attach(world.other)),
    "Device.replace": (attached, lambda world: world.device.replace(world.ioas)),
    "Device.replace from a space": (on_a_space, lambda world: world.device.replace(world.table)),
    "Device.detach": (attached, lambda world: world.device.detach()),
    "Device.detach from a space": (on_a_space, lambda world: world.device.detach()),
    "Device.detach a PASID": (with_a_pasid, lambda world: world.device.detach(pasid=3)),
    "Device.unbind with a PASID": (with_a_pasid, lambda world: world.device.unbind()),
    "Device.unbind": (attached, lambda world: world.device.unbind()),
    "Device.report": (attached, lambda world: world.device.report(2, 0x2000)),
    "Device.counts": (attached, lambda world: world.device.counts()),
    "MockDevice.unbind": (World, lambda world: world.mock.unbind()),
    "FaultQueue.read": (attached, lambda world: world.queue.read_messages()),
    "FaultQueue.close": (attached, lambda world: world.queue.close()),
    "IOAS.map": (World, lambda world: world.ioas.map(0x2000, user_va=0x10000)),
    "IOAS.unmap_all": (World, lambda world: world.ioas.unmap_all()),
    "IOAS.reserve": (World, lambda world: world.ioas.reserve("somebody", 0x1000, 0x2000)),
    "IOAS.allow_iovas": (World, lambda world: world.free.allow_iovas([(0x10000, 0x20000)])),
    "IOAS.set_large_pages": (World, lambda world: world.ioas.set_large_pages(False)),
    "Context.close": (attached, lambda world: world.context.close()),
}


def context_ends(world: World) -> None:
    world.context.close()
    assert list(world.context) == []
    world.core.close()


def windowed(core: Core) -> None:
    with Window(4096) as window, Ring(core, 8) as ring:
        ring.add_window(window)


def served(driver: str = "inline", design: str = "uring-multishot") -> tuple[Machine, FaultGroup]:
    """A machine, and a group that its client has."""
    one = machine(driver, design)()
    one.endpoint.access(1, 0x1000, FaultPerm.READ)
    until = time.monotonic() + 5
    while not (groups := receive_groups(one.channel)):
        assert time.monotonic() < until
        look(one)
    return one, groups[0]


def serves_or_not(state: tuple[Machine, object]) -> None:
    """A group may be lost with what was interrupted; it is answered at the end, and others are served."""
    serves_on(state[0])


def batch(driver: str = "inline") -> tuple[Machine, BatchClient]:
    one = machine(driver, "uring-multishot")()
    one.endpoint.access(1, 0x1000, FaultPerm.READ)
    look(one)
    return one, BatchClient(one.channel, one.address_space)  # type: ignore[arg-type]


def replaying(driver: str, design: str) -> Callable[[None], None]:
    """A trio program from beginning to end."""

    async def main() -> None:
        async with Machine(SHORT, driver=driver).connect(design) as client:
            async for groups in client:
                for group in groups:
                    client.address_space.map(group)
                    group.respond()

    return lambda _: trio.run(main)


def accessing(driver: str) -> Callable[[None], None]:
    """Accesses that are awaited beside the client."""

    async def main() -> None:
        machine = Machine(None, driver=driver)

        async def device() -> None:
            await machine.access(1, 0x1000, FaultPerm.READ)
            machine.finish()

        async with machine.connect("fd") as client, trio.open_nursery() as nursery:
            nursery.start_soon(device)
            async for groups in client:
                for group in groups:
                    client.address_space.map(group)
                    group.respond()

    def run(_: object) -> None:
        try:
            trio.run(main)
        except BaseExceptionGroup as group:  # a nursery's
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None

    return run


STAGE_2_PAGES: Final = 20
PAGE: Final = 0x1000


class Second:
    """An IOAS of two mappings, 16 and 4 pages, and tables of stage 2 that are filled from it."""

    def __init__(self) -> None:
        self.core = Core()
        self.context = Context(self.core, kernel="7.2")
        self.ioas = self.context.ioas_alloc()
        self.ioas.map(16 * PAGE, user_va=0x7000_0000, iova=0)
        self.ioas.map(4 * PAGE, user_va=0x9000_0000, iova=32 * PAGE)
        self.tables = PageTables("vtd-second")
        self.second = SecondStage(self.ioas, self.tables)

    def pages(self) -> list[int]:
        return [at for at in range(40) if self.tables.look(at * PAGE)]


def pinned() -> Second:
    one = Second()
    one.second.pin()
    return one


def filled() -> Second:
    one = Second()
    one.second.fill(0, FaultPerm.READ)
    return one


def pins_again(one: Second) -> None:
    """Whatever the call has done, pinning maps all that the IOAS has, and unpinning leaves nothing."""
    there = [at for at in range(40) if one.ioas.find(at * PAGE)]
    assert set(one.pages()) <= set(there), "the IOAS has it no more, and stage 2 still has"
    one.second.pin()
    assert one.pages() == there
    assert one.second.is_pinned()
    one.ioas.map(PAGE, user_va=0x6000_0000, iova=20 * PAGE)
    assert one.second.fill(20 * PAGE, FaultPerm.READ)
    for at in there:
        assert one.second.fill(at * PAGE, FaultPerm.READ)
    one.second.unpin()
    assert not one.pages()
    one.second.close()
    one.tables.close()
    one.context.close()
    one.core.close()


def unmaps_again(one: Second) -> None:
    """An unmap that was interrupted is made, or can be made again."""
    if one.ioas.find(32 * PAGE):
        one.second.update()
        assert one.ioas.unmap(32 * PAGE, 4 * PAGE) == 4 * PAGE
    assert max(one.pages(), default=0) < 32
    pins_again(one)


def second_closes(one: Second) -> None:
    one.second.close()
    assert not one.pages()
    one.context.close()
    one.core.close()


def work_queue() -> tuple[Core, VtdIommu, AddressSpace, Endpoint, WorkQueue]:
    core, iommu, space, endpoint = hardware()
    endpoint.use_tables(space)
    endpoint.enable_pri()
    return core, iommu, space, endpoint, WorkQueues(endpoint).add(1, size=8)


def worked() -> tuple[Core, VtdIommu, AddressSpace, Endpoint, WorkQueue]:
    parts = work_queue()
    parts[2].map_page(1, 0x1000, FaultPerm.READ)
    assert parts[4].submit(0x1000, FaultPerm.READ) == 0
    parts[0].produce()
    return parts


def works_on(parts: tuple[Core, VtdIommu, AddressSpace, Endpoint, WorkQueue]) -> None:
    """All that the function was given is in the queue's counts, and no result is lost."""
    core, iommu, space, endpoint, queue = parts
    queue.stop()
    queue.resume()
    ticket = queue.submit(0x2000, FaultPerm.READ)
    counts = queue.counts()
    assert counts.submitted == ticket + 1 == sum(counts[1:])
    for number in range(ticket + 1):
        assert queue.result(number) in AccessResult
    end((core, iommu, space, endpoint))


def newcomer() -> tuple[RingServer, socket.socket, TemporaryDirectory[str]]:
    """A client waits to be taken in."""
    place = TemporaryDirectory()
    server = RingServer(f"{place.name}/s", lambda: Machine(SHORT, driver="sqpoll"), reply_timeout_s=0)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(server.path))
    return server, client, place


def taken_in() -> tuple[RingServer, socket.socket, TemporaryDirectory[str]]:
    state = newcomer()
    state[0].serve(interval_s=0)
    return state


def server_ends(state: tuple[RingServer, socket.socket, TemporaryDirectory[str]]) -> None:
    """A client that is left in the middle is ended: the server gets rid of it by itself."""
    server, client, place = state
    if not server._closed:
        for _ in range(4):
            server.serve(interval_s=0)
        assert not server.sessions
    client.close()
    server.close()
    assert not server.path.exists()
    place.cleanup()


def handled() -> tuple[Machine, Translator]:
    made = Machine(None, driver="inline")
    made.open("fd")
    return made, Translator(made.core, first=PageTables("vtd-first", pasids=4))


def handle_faults(state: tuple[Machine, Translator]) -> None:
    one, translator = state
    assert one.device is not None
    handler = DeviceFaultHandler(one.iommu, one.device, translator, flags=ReportFlags.NESTED_L1)
    handler.update(add=ReportFlags.NESTED_L1)
    handler.counts()
    handler.close()


def handles_again(state: tuple[Machine, Translator]) -> None:
    gc.collect()  # all of it: what was interrupted may have outlived a collection of the youngest
    handle_faults(state)
    state[1].close()
    state[0].close()


def provided(ring: Ring) -> None:
    ProvidedBuffers(ring, 1, 4, 64)


SHORT: Final = Workload("short", load_workload("gcc-compile").rows[: 40 * ROW.size])

DESIGNS: Final = one_of_each_kind()  # those of a kind differ in what C does alone


def opening(design: str) -> Callable[[Machine], object]:
    return lambda one: one.open(design)


def calling(name: str) -> Callable[[Any], object]:
    return lambda one: getattr(one, name)()


CASES: Final[dict[str, Case]] = {
    "Core()": Case(nothing, lambda _: Core().close()),
    "Core.start_worker": Case(lambda: Core(live=True), lambda core: core.start_worker(Driver.SQPOLL), closes),
    "Core.stop_worker": Case(lambda: Core(live=True), lambda core: core.stop_worker(), closes),
    "Core.close": Case(Core, lambda core: core.close(), closes),
    "AddressSpace()": Case(nothing, lambda _: AddressSpace().close()),
    "PageTables()": Case(nothing, lambda _: PageTables("arm-stage1").close()),
    "PageTables.map": Case(page_tables, lambda tables: tables.map(0x1000, 0x2000), closes),
    "Translator()": Case(core_and_tables, lambda parts: Translator(parts[0], first=parts[1]).close(), end_tables),
    "Translator.translate": Case(translator, lambda parts: parts[2].translate(0x1000, FaultPerm.READ), end_tables),
    "DeviceTlb()": Case(translator, lambda parts: DeviceTlb(parts[2]).close(), end_tables),
    "AddressSpace.map_page": Case(AddressSpace, lambda space: space.map_page(1, 0x1000, FaultPerm.READ), closes),
    "VtdIommu()": Case(Core, lambda core: VtdIommu(core).close(), closes),
    "Endpoint()": Case(hardware, lambda parts: Endpoint(parts[1], requester_id=0x200).close(), end),
    "Endpoint.use_tables": Case(hardware, lambda parts: parts[3].use_tables(parts[2]), end),
    "Endpoint.enable_pri": Case(hardware, lambda parts: parts[3].enable_pri(), end),
    "Endpoint.access": Case(hardware, lambda parts: parts[3].access(1, 0x1000, FaultPerm.READ), end),
    "Endpoint.counts": Case(hardware, lambda parts: parts[3].counts(), end),
    "AmdIommu()": Case(Core, lambda core: AmdIommu(core).close(), closes),
    "SmmuV3Iommu()": Case(Core, lambda core: SmmuV3Iommu(core).close(), closes),
    "RiscvIommu()": Case(Core, lambda core: RiscvIommu(core).close(), closes),
    "DeviceFaults()": Case(Core, lambda core: DeviceFaults(core).close(), closes),
    "DeviceLog()": Case(Core, lambda core: DeviceLog(core).close(), closes),
    "VtdIommu.command": Case(hardware, lambda parts: parts[1].command(0x46), end),
    "VtdIommu.flush_stage_2": Case(hardware, lambda parts: parts[1].flush_stage_2(0), end),
    "GuestSpace()": Case(nothing, lambda _: GuestSpace(PageTables("vtd-first", pasids=4), 16).close()),
    "SecondStage()": Case(Second, lambda one: SecondStage(one.ioas, PageTables("vtd-second")).close(), pins_again),
    "SecondStage.pin": Case(Second, lambda one: one.second.pin(), pins_again),
    "SecondStage.pin beside a fill": Case(filled, lambda one: one.second.pin(), pins_again),
    "SecondStage.fill": Case(Second, lambda one: one.second.fill(0x3000, FaultPerm.READ), pins_again),
    "SecondStage.unpin": Case(pinned, lambda one: one.second.unpin(), pins_again),
    "SecondStage.clear": Case(pinned, lambda one: one.second.clear(), pins_again),
    "SecondStage.catch_up": Case(pinned, lambda one: one.second.catch_up(), pins_again),
    "SecondStage.close": Case(pinned, lambda one: one.second.close(), second_closes),
    "IOAS.unmap in stage 2": Case(pinned, lambda one: one.ioas.unmap(32 * PAGE, 4 * PAGE), unmaps_again),
    "IOAS.unmap_all in stage 2": Case(pinned, lambda one: one.ioas.unmap_all(), unmaps_again),
    "WorkQueues.add": Case(hardware, lambda parts: WorkQueues(parts[3]).add(1), end),
    "WorkQueue.submit": Case(work_queue, lambda parts: parts[4].submit(0x1000, FaultPerm.READ), works_on),
    "WorkQueue.look": Case(worked, lambda parts: parts[4].look(), works_on),
    "WorkQueue.counts": Case(worked, lambda parts: parts[4].counts(), works_on),
    "WorkQueue.stop": Case(work_queue, lambda parts: parts[4].stop(), works_on),
    "DeviceFaultHandler()": Case(handled, handle_faults, handles_again),
    "ProvidedBuffers()": Case(lambda: Ring(Core(), 8), provided, closes),
    "RingServer.serve a newcomer": Case(newcomer, lambda state: state[0].serve(interval_s=0), server_ends),
    "RingServer.close with a client": Case(taken_in, lambda state: state[0].close(), server_ends),
    "Machine()": Case(nothing, lambda _: Machine(None).close()),
    "Machine.close": Case(machine("sqpoll", "uring-multishot"), lambda one: one.close(), closes),
    "Machine.start": Case(lambda: Machine(driver="inline"), lambda one: one.start(), closes),
    "Machine() of two": Case(nothing, lambda _: Machine(None, functions=TWO, queues="pasid").close()),
    "Machine.open_each": Case(
        machine(functions=TWO, queues="pasid"), lambda one: one.open_each("uring-multishot"), opens_each_again
    ),
    "Machine.open_each sqpoll": Case(
        machine("sqpoll", functions=TWO, queues="device"), lambda one: one.open_each("fd"), opens_each_again
    ),
    "Machine.accounts": Case(machine("sqpoll", "fd", functions=TWO), lambda one: one.accounts(), closes),
    "Machine.open_queue": Case(machine("sqpoll"), lambda one: one.open_queue(), closes),
    "Machine.start_worker": Case(with_queue, lambda one: one.start_worker(), closes),
    **{
        f"Machine.open {design} {driver}": Case(machine(driver), opening(design), opens_again)
        for design, driver in dealt(((design,) for design in DESIGNS), DRIVERS)
    },
    **{
        f"Machine.{name} {driver}": Case(machine(driver, "uring-multishot"), calling(name), closes)
        for name in ("account", "detach", "is_idle")
        for driver in ("inline", "sqpoll")
    },
    **{
        f"Machine.account and on, {driver}": Case(
            machine(driver, "uring-multishot"), lambda one: one.account(), serves_on
        )
        for driver in ("inline", "enter", "sqpoll")
    },
    **{f"iommufd: {name}": Case(make, call, world_ends) for name, (make, call) in IOMMUFD.items()},
    "iommufd: Context.close": Case(attached, lambda world: world.context.close(), context_ends),
    **{
        f"FaultGroup.respond {driver}": Case(partial(served, driver), lambda state: state[1].respond(), serves_or_not)
        for driver in ("inline", "sqpoll")
    },
    **{
        f"sync client, {design}": Case(
            partial(served, "inline", design),
            lambda state: serve_once(state[0].channel, state[0].address_space),
            serves_or_not,
        )
        for design in DESIGNS
        if resolve(design).has_client
    },
    "BatchClient.serve_once": Case(batch, lambda state: state[1].serve_once(), serves_or_not),
    "Ring()": Case(Core, lambda core: Ring(core, 8).close(), closes),
    "Ring.run": Case(lambda: Ring(Core(), 8), lambda ring: ring.run(Sqe(opcode=Op.NOP)), calling("close")),
    "Ring.add_window": Case(Core, windowed, closes),
    "AttachableRing()": Case(Core, lambda core: AttachableRing(core, [], entries=8, cq_entries=16).close(), closes),
    **{
        f"trio, {driver} {design}": Case(nothing, replaying(driver, design))
        for driver, design in (("inline", "fd"), ("sqpoll", "uring-multishot"), ("enter", "eventfd"))
    },
    **{f"Machine.access, {driver}": Case(nothing, accessing(driver)) for driver in ("inline", "sqpoll")},
}


ELSEWHERE: Final = {
    **dict.fromkeys(("Handle", "Unshared", "Object", "HWPT", "QueueFile", "ReportQueue", "EventQueue"), "a base"),
    **dict.fromkeys(("Iommu", "ReportingDevice", "KernelRing", "BufferRing"), "a base"),
    **dict.fromkeys(("ObjectTable", "Calls"), "the inside of Context"),
    **dict.fromkeys(("PagingHWPT", "NestedHWPT", "Viommu", "Vdevice", "VirtualEventQueue"), "made by Context's calls"),
    **dict.fromkeys(("MockIommu", "SelftestDevice"), "made by Context, and Context.mock_device"),
    **dict.fromkeys(("Function", "NativeChannel", "PythonChannel"), "made, used and ended by Machine's calls"),
    **dict.fromkeys(("Connection", "ConnectionToEach", "TrioClient", "Accesses"), "the trio programs"),
    "NativeClient": "a thread of C, which Machine.open makes and ends",
    "ClientRing": "the half of Ring that owns nothing",
    "Window": "Ring.add_window makes and closes one",
    "PlayedMachine": "runs on one thread to the end within a call, and is made of Machine",
}
"""Classes that no case is named after, and why, or where they are."""


def kinds_of(base: type) -> Iterator[type]:
    found: list[type] = base.__subclasses__()
    for one in found:
        yield one
        yield from kinds_of(one)


def test_every_public_class_that_owns_something_is_interrupted() -> None:
    for module in pkgutil.walk_packages(uring_iopf.__path__, "uring_iopf."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    public = {
        kind.__name__
        for kind in kinds_of(NotCopied)
        if kind.__module__.startswith("uring_iopf.") and not kind.__name__.startswith("_")
    }
    named = {re.split(r"[.( ]", name.removeprefix("iommufd: "))[0] for name in CASES}
    assert public - named == set(ELSEWHERE), "each has a case, or a reason"


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # between its making and the await
@pytest.mark.filterwarnings("ignore:.*was not closed:ResourceWarning")  # just before the close that a with block makes
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # between its making and the session's
@pytest.mark.parametrize("name", CASES)
def test_an_exception_at_any_bytecode_comes_out_and_leaves_nothing(name: str) -> None:
    case = CASES[name]
    rng = random.Random(int(os.environ["RINGS_SEED"]))

    def run(at: int) -> bool:
        state = case.make()
        came = interrupted(lambda: case.call(state), at)
        case.after(state)
        return came

    def once() -> object:
        return case.call(states[-1])

    states = [case.make()]
    case.call(states[-1])  # what is imported and remembered is by then
    case.after(states[-1])
    states.append(case.make())
    gc.collect()  # what tests before have left would be finalized within the call, and counted as opcodes of it
    where = list(points(once, MOST, rng.randrange(1 << 16)))
    case.after(states[-1])
    states.clear()
    came = run(where[0])
    gc.collect()
    before, bytes_before = Before(), allocated()
    for at in where:
        came |= run(at)
    gc.collect()
    assert came
    before.nothing_is_left()
    assert allocated() - bytes_before < 200_000, "memory of C is left"


# ---- a storm of real signals ----

STORM_S: Final = float(os.environ.get("STORM_SECONDS", "6"))


class Storm:
    """SIGALRM at random moments; its handler raises once for each `arm`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.armed = False
        self.raised = 0

    def handler(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            self.raised += 1
            raise Interrupt

    def strike(self, call: Callable[[], object], within_s: float) -> bool:
        """Call, with a signal at some moment. Return whether the call came to its end."""
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, self.rng.uniform(1e-6, within_s))
            call()
            self.armed = False
        except Interrupt:
            return False
        finally:
            self.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        return True


def live_through(storm: Storm) -> None:
    """A machine's life, with a signal in each of its calls."""
    rng = storm.rng
    made: list[Machine] = []
    driver = rng.choice(("inline", "enter", "sqpoll"))
    storm.strike(lambda: made.append(Machine(SHORT, driver=driver, in_flight=rng.choice((1, 16)))), 1.5e-3)
    if not made:
        return
    (one,) = made
    while not storm.strike(lambda: one.open(rng.choice(DESIGNS)) if not one._opened else None, 8e-4):
        pass
    if "channel" not in one.__dict__:  # the signal came after the open, and before its result
        one.close()
        return
    storm.strike(one.start, 1e-4)
    until = time.monotonic() + 1
    while one.design.has_client and not one.is_idle() and time.monotonic() < until:
        storm.strike(partial(look, one), 3e-4)
        storm.strike(partial(serve_once, one.channel, one.address_space), 3e-4)
        if rng.random() < 0.1:
            break
    for call in (one.account, one.detach):
        while not storm.strike(call, 2e-4):
            pass
    accounts(one)
    while not storm.strike(one.close, 4e-4):
        pass
    one.close()


@pytest.mark.filterwarnings("ignore:.*was not closed:ResourceWarning")
def test_a_storm_of_signals_leaves_nothing() -> None:
    storm = Storm(int(os.environ["RINGS_SEED"]))
    machine("sqpoll", "uring-multishot")().close()
    gc.collect()
    before = Before()
    handler = signal.signal(signal.SIGALRM, storm.handler)
    try:
        until = time.monotonic() + STORM_S
        while time.monotonic() < until:
            live_through(storm)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    gc.collect()
    assert storm.raised > 20
    before.nothing_is_left()
