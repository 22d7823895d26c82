"""Machines of several functions, PASIDs and queues: who gets which fault, in whose account it is, what is refused."""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING, Any

import pytest
import trio

from my_design import Doorbell
from tests.on_host import available
from tests.registered import registered
from uring_iopf import (
    AccessResult,
    FaultGroup,
    FaultPerm,
    FunctionParts,
    HostError,
    KernelError,
    Load,
    LoadMode,
    Machine,
    PageResponse,
    QueueLimits,
    UsageError,
    Workload,
)
from uring_iopf.clients.sync import serve_once
from uring_iopf.core import Core, Driver
from uring_iopf.designs import FaultSource
from uring_iopf.hardware.endpoint import Endpoint
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import Context
from uring_iopf.lab.cell import measure_cell
from uring_iopf.lab.spec import CellSpec
from uring_iopf.machine_function import Account
from uring_iopf.machine_parts import QUEUES, MachineParts
from uring_iopf.testing.compare import compare_designs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uring_iopf import TrioClient
    from uring_iopf.machine_parts import QueueKey

PAGE = 4096
BASE = 0x1F00_0000_0000
READ = FaultPerm.READ
WITH_A_CLIENT = registered(has_client=True)


def pages(n: int, pasids: Iterable[int] = (1,), *, base: int = BASE) -> Workload:
    """Faults on pages of their own, of each PASID in turn."""
    of = list(pasids)
    return Workload.from_faults((0, base + at * PAGE, of[at % len(of)], READ) for at in range(n))


def two(**options: Any) -> tuple[FunctionParts, FunctionParts]:
    """A network card and an accelerator with two PASIDs each, of which both use PASID 2."""
    return FunctionParts("nic", pasids=(1, 2), **options), FunctionParts("gpu", pasids=(2, 3), **options)


def is_exact(account: Account) -> bool:
    return account.sent == account.answered + account.auto_answered + account.pending + account.lost


def check_accounts(machine: Machine) -> dict[str, Account]:
    """Each is exact, nothing is lost, and they add up to the machine's."""
    at_rest = machine.is_idle() or machine.driver is Driver.INLINE
    accounts = machine.accounts()
    assert all(is_exact(one) and not one.lost for one in accounts.values()), accounts
    if at_rest:
        assert Account(*map(sum, zip(*accounts.values(), strict=True))) == machine.account()
    return accounts


def serve(machine: Machine) -> None:
    """Serve every queue until the loads are over, inline."""
    while not machine.is_idle():
        done = 0
        for channel in machine.channels.values():
            channel.prepare_sleep()  # a client's call, in which the kernel of some designs runs
            channel.awake()
            done += serve_once(channel, machine.address_space) + channel.turn()
        assert done or machine.is_idle(), f"stuck: {machine.accounts()}"


# ---- several functions at once ----


@pytest.mark.parametrize("queues", QUEUES)
@pytest.mark.parametrize("design", [*WITH_A_CLIENT, Doorbell], ids=str)
def test_functions_that_fault_at_once_have_separate_accounts_that_add_up(design: Any, queues: str) -> None:
    functions = (
        FunctionParts("nic", workload=pages(300, (1, 2)), pasids=(1, 2)),
        FunctionParts("gpu", workload=pages(200, (2, 3), base=2 * BASE), pasids=(2, 3), load=Load(group=4)),
        FunctionParts("disk", workload=pages(100, (1, 9), base=3 * BASE), pasids=(1, 9)),
    )
    with Machine(None, driver="inline", functions=functions, queues=queues) as machine:
        machine.open_each(design)
        assert list(machine.channels) == list(machine.queues) == list(machine.parts.queue_keys())
        machine.start()
        machine.core.produce()
        accounts = check_accounts(machine)
        assert all(one.pending for one in accounts.values()), "all of them fault at once"
        serve(machine)
        accounts = check_accounts(machine)
        assert {name: one.answered for name, one in accounts.items()} == {"nic": 300, "gpu": 200, "disk": 100}
        assert machine.iommu.lost() == 0


@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
@pytest.mark.parametrize("queues", QUEUES)
@pytest.mark.trio
async def test_trio_clients_of_every_queue_serve_all_functions(queues: str, driver: str) -> None:
    functions = (
        FunctionParts("nic", workload=pages(2000, (1, 2))),
        FunctionParts("gpu", workload=pages(3000, (2, 3), base=2 * BASE), load=Load(in_flight=64)),
    )
    with Machine(None, driver=driver, functions=functions, queues=queues) as machine:
        with trio.fail_after(60):
            async with machine.connect_each("uring-multishot") as clients, trio.open_nursery() as nursery:

                async def run(client: TrioClient) -> None:
                    async for batch in client:
                        for group in batch:
                            client.address_space.map(group)
                            group.respond()

                for client in clients.values():
                    nursery.start_soon(run, client)
        accounts = check_accounts(machine)
        assert {name: one.answered for name, one in accounts.items()} == {"nic": 2000, "gpu": 3000}


@pytest.mark.trio
async def test_every_queue_gets_the_faults_that_are_its_own() -> None:
    came: dict[tuple[str, int | None], set[tuple[int, int]]] = {}
    with Machine(None, driver="inline", functions=two(), queues="pasid") as machine:
        ids = {one.device.id: name for name, one in machine.functions.items()}
        async with machine.connect_each("fd") as clients, trio.open_nursery() as nursery:

            async def run(key: QueueKey, client: TrioClient) -> None:
                async for batch in client:
                    for group in batch:
                        came.setdefault(key, set()).add((group.dev_id, group.pasid))
                        client.address_space.map(group)
                        group.respond()

            for key, client in clients.items():
                nursery.start_soon(run, key, client)
            for name, pasids in (("nic", (1, 2)), ("gpu", (2, 3))):
                for pasid in pasids:
                    access = machine.functions[name].access
                    assert await access(pasid, BASE + pasid * PAGE * 8 + len(name), READ) is AccessResult.OK
            machine.finish()
    assert {key: {(ids[device], pasid) for device, pasid in some} for key, some in came.items()} == {
        ("nic", 1): {("nic", 1)},
        ("nic", 2): {("nic", 2)},
        ("gpu", 3): {("gpu", 3)},
    }, "one address space a PASID: what the network card made present, the accelerator finds"


def test_a_pasid_without_a_queue_is_refused_and_accounted_for() -> None:
    with Machine(None, driver="inline", functions=two(), queues="pasid") as machine:
        machine.open_each("fd")
        nic = machine.functions["nic"].endpoint
        ticket = nic.access(7, BASE, READ, pages=1)
        machine.core.produce()
        machine.core.produce()
        assert nic.result(ticket) is AccessResult.INVALID
        assert check_accounts(machine)["nic"].auto_answered == 1


@pytest.mark.parametrize("queues", QUEUES)
def test_what_nobody_answers_is_answered_for_each_function(queues: str) -> None:
    with Machine(None, driver="inline", functions=two(), queues=queues) as machine:
        machine.open_each("fd")
        for name, pasid, n in (("nic", 1, 5), ("gpu", 3, 7)):
            for at in range(n):
                machine.functions[name].endpoint.access(pasid, BASE + at * PAGE, READ)
        machine.core.produce()
        assert {name: one.pending for name, one in check_accounts(machine).items()} == {"nic": 5, "gpu": 7}
        machine.detach()
        accounts = check_accounts(machine)
        assert {name: one.auto_answered for name, one in accounts.items()} == {"nic": 5, "gpu": 7}
        assert machine.account().pending == machine.account().awaited == 0
        assert all(one.device.hwpt is None and not one.device.pasids() for one in machine.functions.values())


@pytest.mark.parametrize("driver", ["enter", "sqpoll"])
@pytest.mark.parametrize("queues", QUEUES)
@pytest.mark.trio
async def test_accounts_are_exact_at_any_time_while_functions_fault(queues: str, driver: str) -> None:
    functions = (
        FunctionParts("nic", workload=pages(5000, (1, 2)), load=Load(in_flight=64)),
        FunctionParts("gpu", workload=pages(5000, (2, 3), base=2 * BASE), load=Load(in_flight=8, group=4)),
    )
    looks = 0
    with Machine(None, driver=driver, functions=functions, queues=queues) as machine, trio.fail_after(60):
        async with machine.connect_each("uring-multishot") as clients, trio.open_nursery() as nursery:

            async def run(client: TrioClient) -> None:
                nonlocal looks
                async for batch in client:
                    for group in batch:
                        client.address_space.map(group)
                        group.respond()
                    looks += 1
                    check_accounts(machine)

            for client in clients.values():
                nursery.start_soon(run, client)
        assert looks > 10
        assert [one.answered for one in check_accounts(machine).values()] == [5000, 5000]


def test_devices_that_the_iommu_cannot_tell_apart_share_a_queue() -> None:
    functions = (*two(device_group="g"), FunctionParts("disk", pasids=(1,)))
    with Machine(None, driver="inline", functions=functions, queues="device") as machine:
        machine.open_each("fd")
        assert list(machine.queues) == [("g", None), ("disk", None)]
        for one in machine.functions.values():
            one.endpoint.access(1, BASE, READ)
        machine.core.produce()
        assert [queue.counts().waiting_groups for queue in machine.queues.values()] == [2, 1]
        nic, gpu, disk = machine.functions.values()
        assert nic.device.group is gpu.device.group is not disk.device.group
        assert [one.pending for one in check_accounts(machine).values()] == [1, 1, 1]


def test_sixteen_functions_fill_the_iommu_s_queue_without_overflowing_it() -> None:
    functions = tuple(FunctionParts(f"f{n}", load=Load(in_flight=512)) for n in range(16))
    with Machine(pages(1000), driver="inline", functions=functions) as machine:
        machine.open("fd")
        machine.start()
        machine.core.produce()
        assert sum(one.endpoint.counts().outstanding for one in machine.functions.values()) == 16 * 127
        serve(machine)
        assert machine.iommu.lost() == 0
        assert check_accounts(machine)["f15"].answered <= 1000
        assert machine.account().lost == 0


def test_more_credits_than_the_iommu_s_queue_holds_overflow_it_and_the_account_says_what_was_lost() -> None:
    functions = tuple(FunctionParts(f"f{n}", load=Load(in_flight=512, group=32), credits=2048) for n in range(2))
    with Machine(pages(3000), driver="inline", functions=functions) as machine:
        machine.open("fd")
        machine.start()
        machine.core.produce()
        assert machine.iommu.lost() > 0
        machine.detach()
        accounts = machine.accounts()
        assert all(is_exact(one) for one in accounts.values())
        assert machine.account().lost == sum(one.lost for one in accounts.values()) > 0


# ---- comparisons ----


@pytest.mark.parametrize("queues", QUEUES)
def test_designs_are_compared_with_several_functions_and_queues(queues: str) -> None:
    functions = (
        FunctionParts("nic", workload=pages(300, (1, 2))),
        FunctionParts("gpu", workload=pages(200, (2, 3), base=2 * BASE), load=Load(in_flight=4)),
    )
    designs: list[Any] = [*available(), Doorbell]
    results = compare_designs(designs, workload=pages(1), functions=functions, queues=queues)
    again = compare_designs(designs, workload=pages(1), functions=functions, queues=queues)
    assert {name: one.faults for name, one in results.items()} == dict.fromkeys(results, 500)
    assert results == again
    assert results["handler"].per_fault.system_calls == 0 < results["uring-multishot"].per_fault.system_calls


def test_a_function_s_load_with_times_is_refused_where_the_clock_stands_still() -> None:
    with pytest.raises(UsageError, match="load must be a closed loop"):
        compare_designs(["fd"], workload=pages(1), functions=two(load=Load(LoadMode.POISSON)))


@pytest.mark.parametrize("options", [{"functions": two()}, {"functions": two()[:1], "queues": "pasid"}], ids=str)
def test_a_measurement_of_several_is_refused(options: Any) -> None:
    spec = CellSpec("fd", "native", MachineParts(pages(10, (1, 2)), driver="enter", **options))
    with pytest.raises(UsageError, match="needs a machine with one function and one queue"):
        measure_cell(spec, lambda _share: None)


def test_a_group_larger_than_a_design_can_take_is_an_error() -> None:
    with Context() as context:
        device = context.mock_device(context.ioas_alloc())
        queue = context.fault_queue_alloc()
        parent = context.hwpt_alloc_paging(device, context.ioas_alloc(), nest_parent=True)
        device.replace(context.hwpt_alloc_nested(device, parent, fault=queue))
        device.report(0, 0x1000, last=False)
        device.report(0, 0x2000)
        with pytest.raises(UsageError, match="the oldest group has more than 1 messages"):
            FaultSource(queue, 1).take()
        ((first, last),) = FaultSource(queue, 2).take()
        assert (first.addr, last.addr) == (0x1000, 0x2000)


# ---- limits, tables, clocks ----


def test_limits_are_every_queue_s() -> None:
    limits = QueueLimits(depth=2, timeout_ns=100)
    with Machine(None, driver="inline", functions=two(), queues="device", limits=limits) as machine:
        machine.open_each("fd")
        for one in machine.functions.values():
            for at in range(5):
                one.endpoint.access(1, BASE + at * PAGE, READ)
        machine.core.produce()
        assert [queue.limits for queue in machine.queues.values()] == [limits, limits]
        assert [queue.counts().lost_groups for queue in machine.queues.values()] == [3, 3]
        machine.core.tick(101)
        machine.core.produce()
        assert [queue.counts().timed_out_groups for queue in machine.queues.values()] == [2, 2]
        assert [one.auto_answered for one in check_accounts(machine).values()] == [5, 5]


def test_the_table_has_the_size_that_was_given_and_says_so_when_it_is_full() -> None:
    with Machine(None, pasid_table=3, table_pages=4) as machine:
        space = machine.address_space
        assert space.pasids == 3
        space.map_page(1, BASE, READ)
        with pytest.raises(
            KernelError, match=r"map pasid 2.*all 4 table pages are in use; give more table_pages"
        ) as caught:
            space.map_page(2, BASE, READ)
        assert caught.value.errno == errno.ENOMEM
        with pytest.raises(KernelError, match=r"map pasid 3.*the PASID table has 3 entries.*pasid_table") as caught:
            space.map_page(3, BASE, READ)
        assert caught.value.errno == errno.EINVAL
    with Machine(None, functions=(FunctionParts(pasids=(100_000,)),)) as machine:
        assert machine.address_space.pasids == 100_001


@pytest.mark.trio
async def test_a_function_s_open_loop_has_its_own_times_inline(autojump_clock: trio.testing.MockClock) -> None:
    functions = (
        FunctionParts("slow", load=Load(LoadMode.POISSON, rate=10)),
        FunctionParts("fast", load=Load(LoadMode.POISSON, rate=1000)),
    )
    ended: dict[str, float] = {}
    with Machine(pages(100), driver="inline", functions=functions, queues="device", seed=5) as machine:
        async with machine.connect_each("uring-multishot") as clients, trio.open_nursery() as nursery:

            async def run(key: QueueKey, client: TrioClient) -> None:
                async for batch in client:
                    for group in batch:
                        group.respond()
                ended[key.function] = trio.current_time()

            for key, client in clients.items():
                nursery.start_soon(run, key, client)
    assert 5 < ended["slow"] < 20
    assert 0.05 < ended["fast"] < 0.2


# ---- one where several are, and the other way round ----


def test_what_there_is_several_of_is_not_handed_out_as_one() -> None:
    with Machine(None, driver="inline", functions=two(), queues="device") as machine:
        for call, said in (
            (lambda: machine.endpoint, r"several functions \(nic, gpu\)"),
            (lambda: machine.device, r"several functions \(nic, gpu\)"),
            (lambda: machine.function, r"several functions \(nic, gpu\)"),
            (lambda: machine.queue, "no queue yet; open a design first"),
            (lambda: machine.channel, "no channel yet; open a design first"),
            (lambda: machine.open("fd"), r"2 queues.*use `open_each`"),
        ):
            with pytest.raises(UsageError, match=said):
                call()
        machine.open_each("fd")
        for call in (lambda: machine.queue, lambda: machine.channel):
            with pytest.raises(UsageError, match=r"one for each of \('nic', None\), \('gpu', None\)"):
                call()
        for these in (machine.functions, machine.queues, machine.channels):
            with pytest.raises(TypeError, match="does not support item assignment"):
                these["nic"] = None  # type: ignore[index]


def test_a_machine_without_a_workload_goes_through_rows_that_were_set_by_hand() -> None:
    with Machine(None, driver="inline", functions=two()) as machine:
        machine.open("fd")
        machine.functions["gpu"].endpoint.set_rows(pages(20).rows)
        machine.start()
        serve(machine)
        assert {name: one.answered for name, one in check_accounts(machine).items()} == {"nic": 0, "gpu": 20}


@pytest.mark.trio
async def test_a_connection_to_one_of_several_queues_is_refused_and_changes_nothing() -> None:
    with Machine(None, driver="inline", functions=two(), queues="device") as machine:
        with pytest.raises(UsageError, match="use `connect_each`"):
            async with machine.connect("fd"):
                pytest.fail("it has two")
        async with machine.connect_each("fd") as clients:
            assert list(clients) == [("nic", None), ("gpu", None)]


@pytest.mark.trio
async def test_one_queue_is_connected_to_either_way() -> None:
    machine = Machine(pages(10), driver="inline")
    async with machine.connect_each() as clients:
        async for batch in clients["all", None]:  # type: ignore[index]
            for group in batch:
                group.respond()
    with pytest.raises(UsageError, match="closed"):
        machine.start()


def test_a_client_elsewhere_has_one_queue() -> None:
    with (
        Machine(None, functions=two(), queues="device") as machine,
        pytest.raises(UsageError, match="queues='one' or queues='shared'"),
    ):
        machine.open_queue()


def test_a_pass_begins_in_every_function_or_in_none() -> None:
    functions = (FunctionParts("a"), FunctionParts("b"))
    with Machine(pages(10), driver="inline", functions=functions) as machine:
        machine.open("fd")
        machine.functions["b"].start()
        with pytest.raises(KernelError, match="busy"):
            machine.start()
        assert machine.functions["a"].started == 0
        serve(machine)
        machine.start()
        serve(machine)
        assert machine.started == 2


# ---- a refused open ----


@pytest.mark.parametrize("queues", QUEUES)
@pytest.mark.parametrize("driver", ["inline", "sqpoll"])
def test_a_refused_open_leaves_the_machine_as_it_was(driver: str, queues: str) -> None:
    """The design refuses its flags once its queues are there: they go, and what the user made stays."""
    with Machine(None, driver=driver, functions=two(), queues=queues, report_flags=3) as machine:
        mine = machine.context.fault_queue_alloc()
        before = list(machine.context)
        for _ in range(3):
            with pytest.raises(KernelError, match="open handler"):
                machine.open_each("handler")
            assert list(machine.context) == before
            assert not mine.closed
            assert machine.core.driver is Driver.INLINE
            assert not machine.queues
            assert not machine.channels
            assert all(one.device.hwpt is None and not one.device.pasids() for one in machine.functions.values())
        machine.open_each("fd")
        machine.functions["nic"].endpoint.access(1, BASE, READ)


def test_a_device_that_the_user_has_attached_stays_attached_when_an_open_is_refused() -> None:
    with Machine(None, driver="inline") as machine:
        table = machine.context.hwpt_alloc_paging(machine.device, machine.context.ioas_alloc())
        machine.device.attach(table)
        with pytest.raises(KernelError, match="attach"):
            machine.open("fd")
        assert machine.device.hwpt is table
        machine.device.detach()
        machine.open("fd")


# ---- by hand, with public names alone ----


def test_two_functions_are_put_behind_one_iommu_by_hand() -> None:
    with Core() as core, Context(core) as context:
        iommu = VtdIommu(core)
        ends = [Endpoint(iommu, requester_id=rid, capacity=64, group_most=1) for rid in (0x100, 0x200)]
        devices = [context.bind(iommu, end.requester_id, 64) for end in ends]
        for end, device in zip(ends, devices, strict=True):
            iommu.bind(end, device)
        for end, device, number in ((ends[0], devices[0], errno.EBUSY), (ends[0], devices[1], errno.EINVAL)):
            with pytest.raises(KernelError) as caught:
                iommu.bind(end, device)
            assert caught.value.errno == number
        with pytest.raises(UsageError, match="must be an Endpoint and a Device"):
            iommu.bind(devices[0], ends[0])  # type: ignore[arg-type]
        context.close()
        for end in ends:
            end.close()
        iommu.close()


def test_parts_are_data_that_a_machine_is_made_of_again() -> None:
    parts = MachineParts(None, driver="inline", functions=two(), queues="pasid", limits=QueueLimits(depth=9))
    for _ in range(2):
        with Machine(parts) as machine:
            assert machine.parts == parts
            assert set(machine.open_each("fd")) == {("nic", 1), ("nic", 2), ("gpu", 2), ("gpu", 3)}


def test_groups_of_an_answered_client_are_not_another_s() -> None:
    """The answers of one queue reach its own function, with cookies that both queues have."""
    with Machine(None, driver="inline", functions=two(), queues="device") as machine:
        machine.open_each("fd")
        tickets = [one.endpoint.access(2, BASE, READ) for one in machine.functions.values()]
        machine.core.produce()
        nic, gpu = machine.channels.values()
        (message,) = nic.receive()
        (other,) = gpu.receive()
        assert message.cookie == other.cookie
        nic.answer(message.cookie, PageResponse.INVALID)
        nic.flush()
        machine.core.produce()
        results = [one.endpoint.result(at) for one, at in zip(machine.functions.values(), tickets, strict=True)]
        assert results == [AccessResult.INVALID, AccessResult.PENDING]
        assert isinstance(FaultGroup, type)


# ---- errors by room ----


def test_the_host_s_trouble_is_the_host_s() -> None:
    """No descriptor is free: neither the caller's mistake nor the emulated kernel's errno."""
    with Machine(None, driver="inline") as machine, Core(live=True) as core:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            for call in (
                AddressSpace,
                lambda: core.start_worker(Driver.SQPOLL),
                lambda: machine.open(Doorbell),
                lambda: machine.tell_when_done(0),
            ):
                with pytest.raises(HostError) as caught:
                    call()
                assert caught.value.errno == errno.EMFILE
                assert not isinstance(caught.value, (KernelError, UsageError))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with pytest.raises(UsageError, match="must be an open descriptor"):
            machine.tell_when_done(free)
        machine.open(Doorbell)
