"""Every handle, every method: after its end, in the child of a fork, on a copy, from two threads. None crashes."""

from __future__ import annotations

import copy
import gc
import inspect
import itertools
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from tests.interrupts import Before
from uring_iopf import FaultPerm, FunctionParts, Load, Machine
from uring_iopf.abi import Op
from uring_iopf.clients.batch import BatchClient
from uring_iopf.clients.groups import receive_groups
from uring_iopf.clients.trio_client import TrioClient
from uring_iopf.core import Core, Driver
from uring_iopf.designs import native_channel
from uring_iopf.errors import KernelError, UsageError
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
from uring_iopf.iommufd import MOCK_DRIVER, MOCK_FORMAT, MOCK_VEVENTQ_TYPE, MOCK_VIOMMU_TYPE, Context
from uring_iopf.iommufd.devices.fault_handler import DeviceFaultHandler, ReportFlags
from uring_iopf.machine_parts import QueueKey
from uring_iopf.rings import ProvidedBuffers, Ring, Sqe, Window
from uring_iopf.server import RingServer
from uring_iopf.server.attached import AttachableRing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REFUSALS: Final = (
    UsageError,
    KernelError,
    trio.ClosedResourceError,
    trio.EndOfChannel,
    NotImplementedError,
    StopAsyncIteration,
)
"""What a handle may say. Anything else is a bug."""


class Came(Exception):
    """As Ctrl-C does."""


@dataclass
class Made:
    """A handle, what it depends on, and what ends both."""

    handle: Any
    parents: list[Any]
    """Whose end is not its own, nearest first."""


def hardware() -> Made:
    core = Core()
    iommu = VtdIommu(core)
    space = AddressSpace()
    endpoint = Endpoint(iommu)
    endpoint.use_tables(space)
    endpoint.enable_pri()
    endpoint.access(1, 0x1000, FaultPerm.READ)
    return Made(endpoint, [space, iommu, core])


def part(at: int) -> Callable[[], Made]:
    def make() -> Made:
        made = hardware()
        return Made(made.parents[at], [made.handle, *(one for one in made.parents if one is not made.parents[at])])

    return make


def machine(design: str = "fd", driver: str = "inline") -> Machine:
    made = Machine(None, driver=driver)
    made.open(design)
    made.endpoint.access(1, 0x1000, FaultPerm.READ)
    made.channel.turn()
    return made


def machine_of_two(design: str = "fd", driver: str = "inline") -> Machine:
    """Two functions, each with two queues."""
    functions = (FunctionParts("nic", pasids=(1, 2)), FunctionParts("gpu", pasids=(1, 2)))
    made = Machine(None, driver=driver, queues="pasid", functions=functions)
    made.open_each(design)
    made.functions["nic"].endpoint.access(1, 0x1000, FaultPerm.READ)
    made.functions["gpu"].endpoint.access(2, 0x1000, FaultPerm.READ)
    made.core.produce()
    return made


def of_two(take: Callable[[Machine], Any]) -> Made:
    one = machine_of_two()
    return Made(take(one), [one])


def of_machine(take: Callable[[Machine], Any], design: str = "fd", driver: str = "inline") -> Callable[[], Made]:
    def make() -> Made:
        one = machine(design, driver)
        return Made(take(one), [one])

    return make


def group(one: Machine) -> Any:
    while not (groups := receive_groups(one.channel)):
        one.channel.turn()
    return groups[0]


def of_context(take: Callable[[Context], Any]) -> Callable[[], Made]:
    def make() -> Made:
        core = Core()
        context = Context(core)
        return Made(take(context), [context, core])

    return make


def device(context: Context) -> Any:
    return context.bind(context.mock.c, 0x100, 8, driver=MOCK_DRIVER)


def paging(context: Context) -> Any:
    return context.hwpt_alloc_paging(device(context), context.ioas_alloc(), nest_parent=True)


def fault_handler(one: Machine) -> Any:
    translator = Translator(one.core, first=PageTables("vtd-first", pasids=4))
    return DeviceFaultHandler(one.iommu, one.device, translator, flags=ReportFlags.NESTED_L1)


def viommu(context: Context) -> Any:
    one = device(context)
    parent = context.hwpt_alloc_paging(one, context.ioas_alloc(), nest_parent=True)
    return context.viommu_alloc(one, parent, MOCK_VIOMMU_TYPE)


def of_core(make: Callable[[Core], Any]) -> Callable[[], Made]:
    def made() -> Made:
        core = Core()
        return Made(make(core), [core])

    return made


HANDLES: Final[dict[str, Callable[[], Made]]] = {
    "Endpoint": hardware,
    "AddressSpace": part(0),
    "GuestSpace": lambda: Made(GuestSpace(PageTables("vtd-first", pasids=4), 16), []),
    "Machine of two stages": lambda: Made(Machine(None, driver="inline", stage2=0.5), []),
    "VtdIommu": part(1),
    "AmdIommu": of_core(AmdIommu),
    "SmmuV3Iommu": of_core(SmmuV3Iommu),
    "RiscvIommu": of_core(RiscvIommu),
    "DeviceFaults": of_core(DeviceFaults),
    "DeviceLog": of_core(DeviceLog),
    "PageTables": lambda: Made(PageTables("vtd-first", pasids=4), []),
    "Translator": of_core(lambda core: Translator(core, first=PageTables("vtd-first", pasids=4))),
    "DeviceTlb": of_core(lambda core: DeviceTlb(Translator(core, second=PageTables("arm-stage2")))),
    "DeviceFaultHandler": of_machine(fault_handler),
    "Core": part(2),
    "Machine": lambda: Made(machine(), []),
    "Machine sqpoll": lambda: Made(machine("uring-multishot", "sqpoll"), []),
    "Machine of two": lambda: Made(machine_of_two(), []),
    "Machine of two sqpoll": lambda: Made(machine_of_two("uring-multishot", "sqpoll"), []),
    "Function": lambda: of_two(lambda one: one.functions["nic"]),
    "Endpoint of two": lambda: of_two(lambda one: one.functions["gpu"].endpoint),
    "NativeChannel of two": lambda: of_two(lambda one: one.channels[QueueKey("gpu", 2)]),
    "NativeChannel": of_machine(lambda one: one.channel),
    "NativeChannel ring": of_machine(lambda one: one.channel, "uring-multishot", "sqpoll"),
    "PythonChannel": of_machine(lambda one: one.channel, "my_design:Doorbell"),
    "BatchClient": of_machine(lambda one: BatchClient(one.channel, one.address_space)),  # type: ignore[arg-type]
    "TrioClient": of_machine(lambda one: TrioClient(one.channel, one.address_space, lambda: True, inline=one.core)),
    "FaultGroup": of_machine(group),
    "Context": of_context(lambda context: context),
    "Device": of_context(device),
    "MockDevice": of_context(lambda context: context.mock_device(context.ioas_alloc())),
    "MockIommu": of_context(lambda context: context.mock),
    "IOAS": of_context(lambda context: context.ioas_alloc()),
    "FaultQueue": of_context(lambda context: context.fault_queue_alloc()),
    "PagingHWPT": of_context(paging),
    "Viommu": of_context(viommu),
    "VirtualEventQueue": of_context(lambda context: context.veventq_alloc(viommu(context), MOCK_VEVENTQ_TYPE, 4)),
    "Ring": of_core(lambda core: Ring(core, 8)),
    "ClientRing": of_core(lambda core: Ring(core, 8).client),
    "Window": of_core(lambda core: Window(4096)),
    "ProvidedBuffers": of_core(lambda core: ProvidedBuffers(Ring(core, 8), 1, 4, 64)),
    "AttachableRing": of_core(lambda core: AttachableRing(core, [], entries=8, cq_entries=16)),
}

ARGUMENTS: Final[dict[str, Callable[[], Any]]] = {
    "access": lambda: 1, "addr": lambda: 0x1000, "address": lambda: 0x1000, "arg": lambda: bytearray(64),
    "argument": lambda: b"\0" * 64, "buffer_id": lambda: 0, "call": lambda: "call", "capacity": lambda: 8,
    "code": lambda: 0, "cookie": lambda: 1, "cqe": lambda: None, "data": lambda: b"\0" * 8,
    "data_address": lambda: 4096,
    "depth": lambda: 4, "design": lambda: "fd", "dev_id": lambda: 1, "device": lambda: 1, "devices": lambda: 1,
    "driver": lambda: Driver.SQPOLL, "enabled": lambda: True, "endpoint": lambda: 1,
    "event_type": lambda: MOCK_VEVENTQ_TYPE,
    "eventfd": lambda: -1, "fd": lambda: 3, "files": list, "first": lambda: 0x1000, "flags": lambda: 0,
    "geometry": lambda: MOCK_DRIVER.hardware.geometry, "group": lambda: _Faults(), "grpid": lambda: 1,
    "hwpt": lambda: 1,
    "index": lambda: 0, "ioas": lambda: 1, "iommu": lambda: 1, "iova": lambda: 0, "kernel": lambda: "7.2",
    "kicks": lambda: True, "kind": lambda: MOCK_VEVENTQ_TYPE, "last": lambda: 0x1FFF, "length": lambda: 4096,
    "load": Load, "min_complete": lambda: 0, "n": lambda: 0, "name": lambda: "sq_tail", "nonblocking": lambda: True,
    "now_ns": lambda: 1, "object_id": lambda: 1, "offset": lambda: 0, "opcode": lambda: 0, "owner": lambda: "owner",
    "parent": lambda: 1, "pasid": lambda: 1, "passes": lambda: 0, "perm": lambda: 1, "pieces": list, "pt": lambda: 1,
    "queue": lambda: None, "ranges": list, "readable": lambda: True, "register": lambda: 4, "request": lambda: 0x3B80,
    "requester_id": lambda: 0x300, "rows": lambda: b"", "share": lambda: 0.5, "size": lambda: 64, "slot": lambda: 0,
    "source": lambda: None, "source_iova": lambda: 0, "space": lambda: None, "sqe": lambda: Sqe(opcode=Op.NOP),
    "ticket": lambda: 0, "timeout_ns": lambda: 0, "to_submit": lambda: 0, "user_va": lambda: 0x1000, "value": lambda: 0,
    "viommu": lambda: 1, "viommu_type": lambda: MOCK_VIOMMU_TYPE, "virt_id": lambda: 5, "which": lambda: 1,
    "window": lambda: Window(4096), "writeable": lambda: True, "start": lambda: 0, "large_pages": lambda: True,
    "domains": list, "most": lambda: 1, "pasids": lambda: 1, "data_type": lambda: MOCK_FORMAT.data_type,
    "translator": lambda: None, "word0": lambda: 0x46, "level": lambda: 1, "to": lambda: 0x2000,
    "sid": lambda: 0x300, "granule": lambda: 4096, "ssid": lambda: 1, "asid": lambda: 1, "vmid": lambda: 0,
    "domain": lambda: 0, "follower": lambda: None, "tag": lambda: 1, "device_id": lambda: 0x300, "pid": lambda: 1,
    "words": lambda: (0, 0),
}  # fmt: skip
"""What a parameter of this name is given. A new one needs a line here."""


class _Faults:
    faults: tuple[Any, ...] = ()


STEPS: Final = {
    *("enter", "entering", "holding", "putting", "leaving", "unbinding", "detaching", "carry", "reserving", "end_leak"),
    *("unreserving", "adding_domain", "add_domain", "removing_domain", "check_nested", "vdevice_of", "insert_pieces"),
}
"""For iommufd's own calls: they make the steps of a change, or take objects that were looked up."""


def methods(handle: Any) -> list[str]:
    """The public names of a handle's type, what ends it last."""
    names = [name for name in dir(type(handle)) if not name.startswith("_") and name not in STEPS]
    return sorted(names, key=lambda name: name in ("close", "aclose", "unbind", "end"))


def use(handle: Any, name: str) -> object:
    """Call a method, with arguments that suit its parameters; or read a property."""
    found = getattr(handle, name)
    if not inspect.ismethod(found):
        return found
    given: dict[str, Any] = {}
    for parameter in inspect.signature(found).parameters.values():
        if parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            given[parameter.name] = ARGUMENTS[parameter.name]()
    if not inspect.iscoroutinefunction(found):
        return found(**given)

    async def main() -> object:
        with trio.move_on_after(0.05):
            return await found(**given)
        return None

    return trio.run(main)


def tried(handle: Any, name: str) -> BaseException | None:
    """What it raised, which is a refusal."""
    try:
        use(handle, name)
    except REFUSALS as error:
        return error
    except (TypeError, ValueError) as error:
        return error  # an argument of the table's means nothing here
    except AttributeError as error:
        if "NoneType" in str(error):
            return error  # it was None
        raise
    return None


def end(one: Any) -> None:
    for name in ("close", "unbind"):
        if hasattr(type(one), name):
            with suppress(*REFUSALS):
                getattr(one, name)()
            return


def end_all(made: Made) -> None:
    end(made.handle)
    for parent in made.parents:
        end(parent)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", HANDLES)
def test_every_method_of_a_closed_handle_refuses_or_works(kind: str) -> None:
    for name in methods(HANDLES[kind]().handle):
        made = HANDLES[kind]()
        end(made.handle)
        tried(made.handle, name)
        end(made.handle)
        end_all(made)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", HANDLES)
def test_every_method_of_a_handle_whose_parents_are_closed_refuses_or_works(kind: str) -> None:
    for name in methods(HANDLES[kind]().handle):
        made = HANDLES[kind]()
        for parent in made.parents:
            end(parent)
        tried(made.handle, name)
        end_all(made)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", HANDLES)
def test_no_handle_is_copied(kind: str) -> None:
    made = HANDLES[kind]()
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(UsageError, match="cannot be copied"):
            copied(made.handle)
    end_all(made)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", HANDLES)
def test_every_method_refuses_in_the_child_of_a_fork(kind: str) -> None:
    names = methods(HANDLES[kind]().handle)
    made = HANDLES[kind]()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            told = []
            for name in names:
                error = tried(made.handle, name)
                if isinstance(error, UsageError) and "process" in str(error):
                    told.append(name)
            end_all(made)
            os.write(write, f"{len(told)} told".encode())
            os._exit(0)
        except BaseException as error:
            os.write(write, repr(error).encode())
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, said
    if kind not in ("FaultGroup", "PagingHWPT", "Viommu", "ProvidedBuffers"):  # those of one method, or of values
        assert not said.startswith("0 "), "nothing was refused"
    if isinstance(made.handle, Machine):
        assert made.handle.account().lost in (0, 1), "the parent's is as it was"
    end_all(made)


def again(handle: Any, name: str, together: threading.Barrier, wrong: list[BaseException]) -> None:
    """One of the threads."""
    try:
        together.wait()
        for _ in range(5):
            tried(handle, name)
    except BaseException as error:
        wrong.append(error)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", HANDLES)
def test_two_threads_may_use_and_close_a_handle_at_once(kind: str) -> None:
    for name in methods(HANDLES[kind]().handle):
        made = HANDLES[kind]()
        wrong: list[BaseException] = []
        together = threading.Barrier(3)

        args = (made.handle, name, together, wrong)
        threads = [threading.Thread(target=again, args=args) for _ in range(2)]
        for thread in threads:
            thread.start()
        together.wait()
        end(made.handle)
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), f"{name} does not come back"
        assert not wrong, f"{name}: {wrong}"
        end_all(made)


@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
def test_a_machine_is_closed_while_another_thread_is_in_a_call_of_its_client(driver: str) -> None:
    refused: list[UsageError] = []

    def receives_for_good(channel: Any, begun: threading.Event) -> None:
        try:
            while True:
                channel.receive()
                begun.set()
        except UsageError as error:
            refused.append(error)

    for _ in range(10):
        with Machine(None, driver=driver) as one:
            begun = threading.Event()
            thread = threading.Thread(target=receives_for_good, args=(one.open("uring-multishot"), begun))
            thread.start()
            begun.wait()
        thread.join()
    assert [str(error) for error in refused] == ["this channel is closed"] * 10


def test_a_machine_waits_for_a_channel_whose_close_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or that another thread is closing: it is not open any more, and not freed yet."""
    one = Machine(None)
    channel: Any = one.open("uring-multishot")
    held = [channel.c]  # as a call of another thread has it

    def interrupted(_: float) -> None:
        raise Came

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=interrupted)
    monkeypatch.setattr(native_channel, "time", clock)
    with pytest.raises(Came):
        channel.close()
    clock.sleep = lambda _: held.clear()
    one.close()
    assert not held


@pytest.mark.parametrize("driver", ["inline", "sqpoll"])
def test_a_forgotten_machine_gives_a_warning_and_everything_back(driver: str) -> None:
    machine("uring-multishot", driver).close()
    gc.collect()
    before = Before()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        machine("uring-multishot", driver)
        threads = before.new_threads()
        gc.collect()
    assert not threads, "its worker is gone at once"
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == [
        f"<Machine None, {driver}> was not closed: use it in a with block, or close it"
    ]
    before.nothing_is_left()


def test_a_machine_that_is_open_at_the_end_of_the_program_ends_with_it() -> None:
    program = "from uring_iopf import Machine; machine = Machine(); machine.open('uring-multishot'); machine.start()"
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_leaves_a_server_to_its_parent(tmp_path: Path) -> None:
    with RingServer(tmp_path / "socket", Machine) as server:
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(20)
                with pytest.raises(UsageError, match="process"):
                    server.serve(interval_s=0)
                server.stop()
                server.close()
                server.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert server.path.is_socket()
        assert server.serve(interval_s=0), "the child has not stopped it"
    assert not server.path.exists()


def test_a_core_names_what_is_still_open() -> None:
    made = hardware()
    core = made.parents[-1]
    with pytest.raises(UsageError, match="IOMMU, endpoint"):
        core.close()
    assert core.produce() > 0, "it is as it was"
    end_all(made)


def leaves_parts_open(core: Core) -> None:
    with core:
        core.start_worker(Driver.SQPOLL)
        _parts = VtdIommu(core), Ring(core, 8)
        raise Came


def leaves_a_ring_at_the_queue(context: Context) -> None:
    """A read that waits holds the queue, and the ring is open still."""
    with context:
        queue, ring = context.fault_queue_alloc(), Ring(context.core, 8)
        assert ring.run(Sqe.poll_add(1, queue.fd, select.POLLIN)) == []
        raise Came


def leaves_a_ring_at_the_machine(machine: Machine) -> None:
    with machine:
        queue = machine.open_queue(start_worker=False)
        ring = Ring(machine.core, 8)
        assert ring.run(Sqe.poll_add(1, queue.fd, select.POLLIN)) == []
        raise Came


def leaves_a_ring_at_a_connection() -> None:
    async def main() -> None:
        machine = Machine(None)
        async with machine.connect("fd"):
            ring = Ring(machine.core, 8)
            (queue,) = machine.queues.values()
            assert ring.run(Sqe.poll_add(1, queue.fd, select.POLLIN)) == []
            raise Came

    trio.run(main)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    "block",
    [
        lambda: leaves_parts_open(Core()),
        lambda: leaves_a_ring_at_the_queue(Context()),
        lambda: leaves_a_ring_at_the_machine(Machine(None)),
        leaves_a_ring_at_a_connection,
    ],
    ids=["core", "context", "machine", "connection"],
)
def test_an_exception_comes_out_of_a_with_block_that_cannot_be_closed(block: Callable[[], None]) -> None:
    gc.collect()
    before = Before()
    with pytest.raises(Came) as raised:
        block()
    raised.value.__traceback__ = None
    del raised
    gc.collect()
    before.nothing_is_left()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("first", range(6))
def test_parts_made_by_hand_are_closed_in_any_order(first: int) -> None:
    """Two functions behind one IOMMU: after each close, what is left is used, and refuses or works."""
    for order in itertools.permutations(range(6)):
        if order[0] != first:
            continue
        core = Core()
        context, iommu, space = Context(core), VtdIommu(core), AddressSpace()
        ends = [Endpoint(iommu, requester_id=rid, capacity=8, group_most=1) for rid in (0x100, 0x200)]
        parent = None
        for one in ends:
            bound = context.bind(iommu, one.requester_id, 8)
            iommu.bind(one, bound)
            one.use_tables(space)
            one.enable_pri()
            parent = parent or context.hwpt_alloc_paging(bound, context.ioas_alloc(), nest_parent=True)
            bound.attach(context.hwpt_alloc_nested(bound, parent, fault=context.fault_queue_alloc()))
            one.access(1, 0x1000, FaultPerm.READ)
        parts: list[Any] = [core, context, iommu, space, *ends]
        for at in order:
            with suppress(*REFUSALS):
                parts[at].close()
            for one in ends:
                with suppress(*REFUSALS):
                    one.access(1, 0x2000, FaultPerm.READ)
            with suppress(*REFUSALS):
                core.produce()
        core.end()


def test_two_threads_may_ask_to_be_told_at_once() -> None:
    """Each call puts a longer list in place of the one there is, or a new one."""
    with Machine(None, driver="inline") as one, os.fdopen(os.eventfd(0), "rb") as file:
        together = threading.Barrier(4)

        def ask(also: bool) -> None:
            together.wait()
            for _ in range(200):
                one.endpoint.tell_when_done(file.fileno(), also=also)

        threads = [threading.Thread(target=ask, args=(also,)) for also in (True, False, True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        one.tell_when_done(-1)
