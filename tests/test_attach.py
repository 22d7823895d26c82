"""Attachment beyond the recordings: order of checks, groups of devices, PASIDs, virtual functions, limits, draining.

Each test is one scenario; those with a *kernel* go by both, or by the one that has what they show.
"""

from __future__ import annotations

import errno
import math
import select
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from uring_iopf._native import check, ffi, lib
from uring_iopf.abi.iommufd import FaultPerm, PageResponse
from uring_iopf.core import Core, Driver
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import (
    IOAS,
    LOST_GROUPS,
    MOCK_DRIVER,
    SMMUV3_DRIVER,
    Context,
    Device,
    DeviceGroup,
    DriverResponse,
    FaultQueue,
    IommuDriver,
    MockIommu,
    NestedHWPT,
    PagingHWPT,
    QueueLimits,
    VirtualFunction,
)
from uring_iopf.iommufd.objects import Object, ObjectTable
from uring_iopf.machine import Account, Machine

SUCCESS, INVALID, FAILURE = DriverResponse
BOTH = pytest.mark.parametrize("kernel", ["6.12", "7.2"])
PF_HAS_PRI, PF_HAS_NONE = VirtualFunction(pf_has_pri=True), VirtualFunction(pf_has_pri=False)


class Heard(NamedTuple):
    """An answer, by the device itself."""

    device: Device
    grpid: int
    code: DriverResponse = INVALID


class World:
    """Devices behind the mock IOMMU, and tables for them: most tests need two of everything."""

    def __init__(
        self, kernel: str = "7.2", *, virtual_pri_reset: bool = False, limits: QueueLimits | None = None
    ) -> None:
        self.context = Context(kernel=kernel, virtual_pri_reset=virtual_pri_reset)
        self.pasid = self.context.version.pasid_attach
        self.devices: list[Device] = []
        self.ioas = self.context.ioas_alloc()
        self.maker = self.device()
        self.queue = self.context.fault_queue_alloc(limits=limits or QueueLimits())
        self.other_queue = self.context.fault_queue_alloc()
        self.parent = self.context.hwpt_alloc_paging(self.maker, self.ioas, nest_parent=True, pasid=self.pasid)
        self.plain = self.nested()
        self.table = self.nested(self.queue)
        self.other = self.nested(self.other_queue)

    def device(
        self,
        group: DeviceGroup | None = None,
        *,
        max_pasids: int = 64,
        function: VirtualFunction | None = None,
        driver: IommuDriver = MOCK_DRIVER,
        reserved: tuple[tuple[int, int], ...] = (),
    ) -> Device:
        made = self.context.bind(
            self.context.mock.c,
            len(self.devices),
            256,
            driver=driver,
            group=group,
            max_pasids=max_pasids,
            virtual_function=function,
            reserved=reserved,
        )
        self.devices.append(made)
        return made

    def group(self, *members: VirtualFunction | None) -> list[Device]:
        """Two devices that share what they are attached to, or as many as there are *members*."""
        group = DeviceGroup()
        return [self.device(group, function=function) for function in members or (None, None)]

    def nested(self, queue: FaultQueue | None = None, *, pasid: bool | None = None) -> NestedHWPT:
        return self.context.hwpt_alloc_nested(
            self.maker, self.parent, fault=queue, pasid=self.pasid if pasid is None else pasid
        )

    def paging(self, queue: FaultQueue | None = None, *, pasid: bool | None = None) -> PagingHWPT:
        return self.context.hwpt_alloc_paging(
            self.maker, self.ioas, fault=queue, pasid=self.pasid if pasid is None else pasid
        )

    def heard(self) -> list[Heard]:
        by_id = {device.id: device for device in self.devices}
        return [Heard(by_id[one.dev_id], one.grpid, one.code) for one in self.context.mock.take()]

    def indices(self) -> list[int]:
        """The group indices that were answered since the last time."""
        return [one.grpid for one in self.heard()]


@pytest.fixture
def world() -> Iterator[World]:
    """By the rules of 7.2."""
    made = World()
    yield made
    made.context.close()


@pytest.fixture
def old_world() -> Iterator[World]:
    """By the rules of 6.12."""
    made = World("6.12")
    yield made
    made.context.close()


@pytest.fixture
def any_world(kernel: str) -> Iterator[World]:
    made = World(kernel)
    yield made
    made.context.close()


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(KernelError) as caught:
        call()
    assert caught.value.errno is not None
    return caught.value.errno


def indices(queue: FaultQueue) -> list[int]:
    """The group indices that wait, read."""
    return [message.grpid for message in queue.read_messages()]


# ---- the order of the checks ----


@BOTH
def test_a_device_that_is_gone_is_noticed_before_a_table_that_is_not_there(any_world: World) -> None:
    device = any_world.device()
    device.unbind()
    for call in (device.attach, device.replace):
        assert refused(lambda call=call: call(99)) == errno.ENOENT  # type: ignore[misc]
        assert refused(lambda call=call: call(any_world.queue)) == errno.ENOENT  # type: ignore[misc]


def test_a_pasid_is_refused_in_6_12_before_anything_is_looked_up(old_world: World) -> None:
    device = old_world.device()
    for call in (device.attach, device.replace):
        assert refused(lambda call=call: call(99, pasid=1)) == errno.EINVAL  # type: ignore[misc]
    assert refused(lambda: device.detach(pasid=1)) == errno.EINVAL
    assert device.attach(old_world.table, pasid=0) is old_world.table, "PASID 0 is the device itself"


@BOTH
def test_an_object_that_is_not_there_wins_over_one_that_is_no_table(any_world: World) -> None:
    device = any_world.device()
    assert refused(lambda: device.attach(99)) == errno.ENOENT
    for wrong in (any_world.queue, any_world.maker):
        assert refused(lambda wrong=wrong: device.attach(wrong)) == errno.EINVAL  # type: ignore[misc]
        assert refused(lambda wrong=wrong: device.replace(wrong)) == errno.EINVAL  # type: ignore[misc]
    gone = any_world.nested()
    any_world.context.destroy(gone)
    assert refused(lambda: device.attach(gone)) == errno.ENOENT


@pytest.mark.parametrize(("kernel", "another"), [("6.12", errno.EINVAL), ("7.2", errno.EBUSY)])
def test_attaching_an_attached_device_is_busy_in_7_2_whatever_the_table(any_world: World, another: int) -> None:
    device = any_world.device()
    device.attach(any_world.table)
    assert refused(lambda: device.attach(any_world.table)) == errno.EBUSY
    assert refused(lambda: device.attach(any_world.other)) == another
    assert refused(lambda: device.attach(any_world.ioas)) == another
    assert (any_world.table.users, any_world.other.users, device.users) == (1, 0, 2)


@pytest.mark.parametrize(("kernel", "number"), [("6.12", errno.EINVAL), ("7.2", errno.EBUSY)])
def test_being_attached_is_noticed_before_what_is_wrong_with_the_table(any_world: World, number: int) -> None:
    """Another IOMMU's table, for a virtual function that may not have its queue: nobody comes to look."""
    function = any_world.device(function=PF_HAS_PRI)
    function.attach(any_world.plain)
    iommu = MockIommu(any_world.context.core)
    stranger = any_world.context.bind(iommu.c, 9, 64, driver=MOCK_DRIVER)
    parent = any_world.context.hwpt_alloc_paging(stranger, any_world.ioas, nest_parent=True)
    table = any_world.context.hwpt_alloc_nested(stranger, parent, fault=any_world.queue)
    assert refused(lambda: function.attach(table)) == number
    assert refused(lambda: function.replace(table)) == errno.EINVAL
    stranger.unbind()
    iommu.close()


def test_a_table_for_no_pasids_wins_over_a_driver_that_cannot_attach_any(world: World) -> None:
    device = world.device(driver=SMMUV3_DRIVER)
    without, stream = world.nested(pasid=False), world.nested(pasid=True)
    assert refused(lambda: device.attach(without, pasid=1)) == errno.EINVAL
    assert refused(lambda: device.attach(stream, pasid=1)) == errno.EOPNOTSUPP
    assert refused(lambda: device.attach(stream, pasid=64)) == errno.EOPNOTSUPP, "before the device's own limit"
    assert refused(lambda: device.attach(world.paging(), pasid=64)) == errno.EINVAL


def test_the_selftests_driver_refuses_every_second_table_for_pasid_1024(world: World) -> None:
    """As it does for testing the way back of a replace: the old table stays, and so does what it has outstanding."""
    device, other = (world.context.mock_device(world.parent, 4) for _ in range(2))
    device.attach(world.table, pasid=1024)
    device.report(5, 0x1000, pasid=1024)
    for _ in range(2):
        assert refused(lambda: device.replace(world.plain, pasid=1024)) == errno.ENOMEM
        assert device.attached_to(1024) is world.table
        assert not world.context.mock.take()
        device.replace(world.other, pasid=1024)
        device.replace(world.table, pasid=1025) if device.attached_to(1025) else device.attach(world.table, pasid=1025)
        assert [one.code for one in world.context.mock.take()] == [DriverResponse.INVALID]
        assert refused(lambda: device.replace(world.table, pasid=1024)) == errno.ENOMEM
        device.replace(world.table, pasid=1024)
        device.report(5, 0x1000, pasid=1024)
    device.replace(world.table, pasid=1024)  # the one it has: the driver is not asked
    other.attach(world.plain, pasid=1024)  # each device has a memory of its own
    device.detach(pasid=1024)
    device.attach(world.plain, pasid=1024)
    assert refused(lambda: device.replace(world.table, pasid=1024)) == errno.ENOMEM


def test_a_driver_that_cannot_attach_pasids_wins_over_a_table_of_another_iommu(world: World) -> None:
    iommu = MockIommu(world.context.core)
    device = world.context.bind(iommu.c, 9, 64, driver=SMMUV3_DRIVER)
    assert refused(lambda: device.attach(world.table, pasid=1)) == errno.EOPNOTSUPP
    assert refused(lambda: device.attach(world.paging(), pasid=1)) == errno.EINVAL
    device.unbind()
    iommu.close()


def test_a_virtual_function_is_refused_before_its_driver_is_asked(world: World) -> None:
    function = world.device(function=PF_HAS_PRI, driver=SMMUV3_DRIVER)
    assert refused(lambda: function.attach(world.table, pasid=1)) == errno.EINVAL
    assert refused(lambda: function.attach(world.plain, pasid=1)) == errno.EOPNOTSUPP


# ---- spaces ----


@BOTH
def test_a_space_makes_one_table_for_all_who_come_and_it_goes_with_the_last(any_world: World) -> None:
    first, second, third = (any_world.device() for _ in range(3))
    auto = first.attach(any_world.ioas)
    assert isinstance(auto, PagingHWPT)
    assert (auto.auto, auto.fault, auto.users) == (True, None, 1)
    assert second.attach(any_world.ioas) is auto
    assert auto.users == 2
    assert refused(lambda: any_world.context.destroy(auto)) == errno.EBUSY
    assert second.replace(any_world.ioas) is auto, "where it is"
    first.detach()
    second.replace(any_world.table)
    assert not auto.exists
    assert third.attach(any_world.ioas).id == auto.id, "the lowest free id"


@BOTH
def test_a_space_passes_over_tables_that_were_asked_for(any_world: World) -> None:
    mine = any_world.paging()
    device = any_world.device()
    assert device.attach(any_world.ioas) is not mine
    assert mine.users == 0


def test_each_iommu_gets_its_own_table_of_a_space(world: World) -> None:
    iommu = MockIommu(world.context.core)
    here, there = world.device(), world.context.bind(iommu.c, 9, 64, driver=MOCK_DRIVER)
    tables = [here.attach(world.ioas), there.attach(world.ioas)]
    assert tables[0] is not tables[1]
    assert [table.iommu == iommu.c for table in tables] == [False, True]
    assert world.ioas.auto_hwpts == tables
    there.unbind()
    assert world.ioas.auto_hwpts == tables[:1]
    iommu.close()


def test_a_space_is_nothing_for_a_pasid_or_beside_one(world: World) -> None:
    device = world.device()
    before = [(one.id, one.users) for one in world.context]
    assert refused(lambda: device.attach(world.ioas, pasid=1)) == errno.EINVAL
    assert [(one.id, one.users) for one in world.context] == before
    device.attach(world.table)
    device.attach(world.table, pasid=1)
    before = [(one.id, one.users) for one in world.context]
    assert refused(lambda: device.replace(world.ioas)) == errno.EINVAL
    assert refused(lambda: device.replace(world.ioas, pasid=1)) == errno.EINVAL
    assert [(one.id, one.users) for one in world.context] == before
    device.detach(pasid=1)
    device.replace(world.ioas)


# ---- groups of devices ----


@BOTH
def test_a_group_is_attached_to_one_table_and_let_go_one_by_one(any_world: World) -> None:
    first, second = any_world.group()
    first.attach(any_world.table)
    assert (first.hwpt, second.hwpt) == (any_world.table, None)
    assert refused(lambda: second.attach(any_world.other)) == errno.EINVAL
    assert refused(lambda: second.attach(any_world.ioas)) == errno.EINVAL
    assert refused(lambda: second.replace(any_world.table)) == errno.EINVAL, "it is not attached itself"
    second.detach()
    assert any_world.table.users == 1, "nothing to detach"
    second.attach(any_world.table)
    assert any_world.table.users == 2
    first.report(1, 0x1000)
    first.detach()
    assert any_world.indices() == [], "the other holds it"
    assert indices(any_world.queue) == [1]
    second.detach()
    assert any_world.indices() == [1]
    assert any_world.table.users == 0
    assert first.attach(any_world.other) is any_world.other


def test_who_was_attached_first_is_whose_faults_a_group_has(world: World) -> None:
    first, second = world.group()
    second.attach(world.table)
    first.attach(world.table)
    first.report(1, 0x1000)
    second.report(2, 0x2000)
    assert [message.dev_id for message in world.queue.read_messages()] == [second.id, second.id]
    world.queue.respond(1)
    world.queue.respond(2)
    assert world.heard() == [Heard(first, 1, SUCCESS), Heard(second, 2, SUCCESS)], "each hears of its own"
    first.replace(world.other)
    second.report(3, 0x3000)
    assert [message.dev_id for message in world.other_queue.read_messages()] == [first.id]


def test_one_devices_replace_moves_its_group_and_answers_for_all(world: World) -> None:
    first, second = world.group()
    first.attach(world.table)
    second.attach(world.table)
    for number in range(4):
        (first, second)[number % 2].report(number, 0x1000)
    world.queue.read_messages(2)
    second.replace(world.other)
    assert world.heard() == [Heard(second, 3), Heard(first, 2), Heard(first, 0), Heard(second, 1)]
    assert (first.hwpt, second.hwpt) == (world.other, world.other)
    assert (world.table.users, world.other.users) == (0, 2)
    first.report(5, 0x1000)
    assert indices(world.other_queue) == [5]


def test_one_device_of_a_group_reports_in_6_12(old_world: World) -> None:
    """It switches faults on for the device that makes the attachment, and that one keeps them."""
    first, second = old_world.group()
    first.attach(old_world.table)
    second.attach(old_world.table)
    first.report(1, 0x1000)
    assert refused(lambda: second.report(2, 0x2000)) == errno.EINVAL
    assert old_world.heard() == [Heard(second, 2)]
    second.replace(old_world.other)
    assert old_world.heard() == [Heard(first, 1)]
    first.report(3, 0x3000)
    assert refused(lambda: second.report(4, 0x4000)) == errno.EINVAL
    assert [message.dev_id for message in old_world.other_queue.read_messages()] == [second.id], (
        "the switch is second's"
    )
    second.replace(old_world.plain)
    second.replace(old_world.table)
    second.report(5, 0x5000)
    assert refused(lambda: first.report(6, 0x6000)) == errno.EINVAL, "now it is second's turn"


def test_all_devices_of_a_group_report_in_7_2_and_so_does_one_that_comes_later(world: World) -> None:
    first, second = world.group()
    first.attach(world.table)
    third = world.device(first.group)
    for number, device in enumerate((first, second, third)):
        device.report(number, 0x1000)
    assert indices(world.queue) == [0, 1, 2]
    third.unbind()
    assert world.heard() == [Heard(third, 2)], "its own part ends, the others' stays"
    world.queue.respond(1)
    world.queue.respond(2)
    assert world.indices() == [0, 1]


@BOTH
def test_a_group_belongs_to_one_context(any_world: World) -> None:
    group = DeviceGroup()
    mine = any_world.device(group)
    with Context(any_world.context.core) as other:
        iommu = other.mock
        assert refused(lambda: other.bind(iommu.c, 1, 64, driver=MOCK_DRIVER, group=group)) == errno.EPERM
        assert list(other) == []
        mine.unbind()
        assert other.bind(iommu.c, 1, 64, driver=MOCK_DRIVER, group=group).group is group


# ---- what becomes of unfinished groups ----


@BOTH
def test_unfinished_groups_go_along_to_a_table_with_a_queue_and_end_without_one(any_world: World) -> None:
    device = any_world.device()
    device.attach(any_world.table)
    device.report(1, 0x1000, last=False)
    device.replace(any_world.other)
    device.report(1, 0x2000)
    assert [message.addr for message in any_world.other_queue.read_messages()] == [0x1000, 0x2000]
    device.report(2, 0x1000, last=False)
    device.replace(any_world.plain)
    device.replace(any_world.table)
    device.report(2, 0x2000)
    assert [message.addr for message in any_world.queue.read_messages()] == [0x2000]
    device.report(3, 0x1000, last=False)
    device.detach()
    assert device.counts().dropped == 2
    assert any_world.indices() == [1, 2], "an unfinished group is never answered"


def test_unfinished_groups_stay_while_any_pasid_has_a_queue(world: World) -> None:
    device = world.device()
    device.attach(world.table)
    device.attach(world.other, pasid=5)
    device.report(1, 0x1000, last=False)
    device.detach()
    device.report(1, 0x2000, pasid=5)
    assert [message.addr for message in world.other_queue.read_messages()] == [0x1000, 0x2000]
    device.report(2, 0x1000, pasid=5, last=False)
    device.detach(pasid=5)
    assert device.counts().dropped == 1


# ---- PASIDs ----


def test_each_pasid_has_a_queue_of_its_own_and_is_answered_by_itself(world: World) -> None:
    device = world.device()
    queues = [world.context.fault_queue_alloc() for _ in range(3)]
    for pasid, queue in enumerate(queues, 1):
        device.attach(world.nested(queue), pasid=pasid)
    assert device.pasids() == [1, 2, 3]
    for pasid in (1, 2, 3):
        device.report(10 + pasid, 0x1000, pasid=pasid)
        device.report(20 + pasid, 0x1000, pasid=pasid)
    assert refused(lambda: device.report(1, 0x1000)) == errno.EINVAL, "the device itself is attached to nothing"
    assert refused(lambda: device.report(2, 0x1000, pasid=4)) == errno.EINVAL
    assert world.indices() == [1, 2]
    assert queues[0].read_messages()[0].pasid == 1
    device.replace(world.other, pasid=1)
    assert world.indices() == [11, 21]
    device.detach(pasid=2)
    assert world.indices() == [22, 12]
    assert indices(queues[2]) == [13, 23]
    device.report(31, 0x1000, pasid=1)
    assert indices(world.other_queue) == [31]


def test_pasids_without_a_table_fall_back_to_a_user_managed_one(world: World) -> None:
    device = world.device()
    device.attach(world.table)
    device.attach(world.other, pasid=5)
    device.report(1, 0x1000, pasid=5)
    device.report(2, 0x1000, pasid=6)
    device.report(3, 0x1000)
    assert (indices(world.other_queue), indices(world.queue)) == ([1], [2, 3])
    device.detach(pasid=5)
    device.report(4, 0x1000, pasid=5)
    assert indices(world.queue) == [4], "its own table is gone"
    device.replace(world.paging(world.queue))
    assert refused(lambda: device.report(5, 0x1000, pasid=6)) == errno.EINVAL, "the kernel manages these"
    device.report(6, 0x1000)
    assert indices(world.queue) == [6]


def test_a_pasid_with_a_table_without_a_queue_does_not_fall_back(world: World) -> None:
    device = world.device()
    device.attach(world.table)
    device.attach(world.plain, pasid=5)
    assert refused(lambda: device.report(1, 0x1000, pasid=5)) == errno.EINVAL
    assert world.heard() == [Heard(device, 1)]
    assert indices(world.queue) == []


def test_pasid_0_is_the_device_itself(world: World) -> None:
    device = world.device()
    assert device.attach(world.table, pasid=0) is world.table
    assert (device.hwpt, device.pasids()) == (world.table, [])
    device.report(1, 0x1000, pasid=0)
    assert [(message.flags & 1, message.pasid) for message in world.queue.read_messages()] == [(1, 0)]
    device.replace(world.other, pasid=0)
    assert world.indices() == [1]
    device.detach(pasid=0)
    assert device.hwpt is None


def test_a_pasid_must_be_one_of_the_devices(world: World) -> None:
    device, none = world.device(max_pasids=64), world.device(max_pasids=0)
    device.attach(world.table, pasid=63)
    for pasid in (64, 2**20, 2**32 - 1):
        assert refused(lambda pasid=pasid: device.attach(world.table, pasid=pasid)) == errno.EINVAL  # type: ignore[misc]
    assert refused(lambda: none.attach(world.table, pasid=1)) == errno.EINVAL
    for pasid in (-1, 2**32):
        with pytest.raises(UsageError, match="pasid must be 0 to"):
            device.attach(world.table, pasid=pasid)


def test_a_groups_smallest_pasid_limit_counts(world: World) -> None:
    group = DeviceGroup()
    wide, narrow = world.device(group, max_pasids=64), world.device(group, max_pasids=8)
    world.device(group, max_pasids=0)
    assert refused(lambda: wide.attach(world.table, pasid=8)) == errno.EINVAL
    wide.attach(world.table, pasid=7)
    narrow.report(1, 0x1000, pasid=7)
    assert indices(world.queue) == [1]


def test_tables_made_without_the_pasid_flag_do_not_go_with_pasids(world: World) -> None:
    device = world.device()
    without = world.nested(world.queue, pasid=False)
    assert refused(lambda: device.attach(without, pasid=1)) == errno.EINVAL
    device.attach(without)
    assert refused(lambda: device.attach(world.table, pasid=1)) == errno.EINVAL, "beside such a table none"
    device.replace(world.table)
    device.attach(world.table, pasid=1)
    assert refused(lambda: device.replace(without)) == errno.EINVAL
    assert refused(lambda: device.replace(without, pasid=1)) == errno.EINVAL
    device.detach()
    assert refused(lambda: device.attach(without)) == errno.EINVAL
    device.detach(pasid=1)
    device.attach(without)


def test_a_pasid_is_busy_by_itself(world: World) -> None:
    device = world.device()
    device.attach(world.table, pasid=1)
    assert refused(lambda: device.attach(world.table, pasid=1)) == errno.EBUSY
    assert refused(lambda: device.attach(world.other, pasid=1)) == errno.EBUSY
    assert refused(lambda: device.replace(world.other, pasid=2)) == errno.EINVAL
    assert refused(lambda: device.replace(world.other)) == errno.EINVAL
    device.detach(pasid=2)
    assert (world.table.users, device.users) == (1, 2)


def test_smmuv3_attaches_paging_tables_to_pasids_and_no_nested_ones(world: World) -> None:
    device = world.device(driver=SMMUV3_DRIVER)
    assert refused(lambda: device.attach(world.table, pasid=1)) == errno.EOPNOTSUPP
    paging = world.paging(world.queue)
    device.attach(paging, pasid=1)
    assert refused(lambda: device.replace(world.table, pasid=1)) == errno.EOPNOTSUPP
    device.report(1, 0x1000, pasid=1)
    assert indices(world.queue) == [1]


def test_a_groups_pasid_is_attached_for_all_and_let_go_one_by_one(world: World) -> None:
    first, second = world.group()
    first.attach(world.table, pasid=5)
    second.attach(world.table, pasid=5)
    second.report(1, 0x1000, pasid=5)
    assert [message.dev_id for message in world.queue.read_messages()] == [first.id]
    first.detach(pasid=5)
    assert (first.pasids(), second.pasids(), world.indices()) == ([], [5], [])
    second.detach(pasid=5)
    assert world.indices() == [1]


def test_closing_the_file_leaves_each_pasids_groups_to_its_own_detach(world: World) -> None:
    device = world.device()
    device.attach(world.table, pasid=1)
    device.attach(world.table, pasid=2)
    device.report(1, 0x1000, pasid=1)
    device.report(2, 0x1000, pasid=2)
    world.queue.close()
    device.report(3, 0x1000, pasid=2)
    assert world.indices() == []
    device.detach(pasid=2)
    assert world.indices() == [3, 2]
    device.detach(pasid=1)
    assert world.indices() == [1]
    world.context.destroy(world.table)
    world.context.destroy(world.queue)


def test_unbinding_detaches_pasids_first(world: World) -> None:
    device = world.device()
    device.attach(world.table)
    for pasid in (7, 3):
        device.attach(world.other, pasid=pasid)
        device.report(pasid, 0x1000, pasid=pasid)
    device.report(1, 0x1000)
    device.unbind()
    assert world.heard() == [Heard(device, 3), Heard(device, 7), Heard(device, 1)]
    assert (world.table.users, world.other.users) == (0, 0)


def test_a_mock_device_that_goes_with_pasids_attached_keeps_its_id_and_hears_nothing(world: World) -> None:
    context = world.context
    device = context.mock_device(world.ioas, 4)
    world.devices.append(device)
    device.replace(world.table)
    device.attach(world.other, pasid=5)
    device.report(1, 0x1000)
    device.report(2, 0x1000, pasid=5)
    context.destroy(device.stdev)
    assert world.heard() == [Heard(device, 1)], "the device itself is detached"
    assert (device.exists, device.unplugged, device.pasids(), device.users) == (True, True, [5], 1)
    assert refused(lambda: context.destroy(device)) == errno.EBUSY
    assert refused(lambda: context.destroy(world.other)) == errno.EBUSY
    assert context.ioas_alloc().id == device.stdev.id, "only that id is free"
    assert refused(lambda: device.report(3, 0x1000, pasid=5)) == errno.ENOENT
    assert refused(lambda: device.attach(world.table)) == errno.ENOENT
    assert refused(lambda: device.detach(pasid=5)) == errno.ENOENT
    assert indices(world.other_queue) == [2]
    world.other_queue.respond(1)
    assert world.heard() == [], "nobody is there to hear it"
    assert world.other_queue.counts().answered_groups == 1


# ---- virtual functions ----


@pytest.mark.parametrize(
    ("kernel", "function", "number"),
    [
        ("6.12", PF_HAS_PRI, errno.EINVAL),
        ("6.12", PF_HAS_NONE, errno.EINVAL),
        ("7.2", PF_HAS_PRI, errno.EINVAL),
        ("7.2", PF_HAS_NONE, 0),
    ],
)
def test_a_virtual_function_may_have_faults_in_7_2_if_the_physical_one_has_no_pri(
    any_world: World, function: VirtualFunction, number: int
) -> None:
    device = any_world.device(function=function)
    for call, table in ((device.attach, any_world.plain), (device.replace, any_world.parent)):
        call(table)
    if number:
        assert refused(lambda: device.replace(any_world.table)) == number
        device.detach()
        assert refused(lambda: device.attach(any_world.table)) == number
    else:
        device.replace(any_world.table)
        device.report(1, 0x1000)
        assert indices(any_world.queue) == [1]


@pytest.mark.parametrize(("function", "number"), [(PF_HAS_PRI, errno.EINVAL), (PF_HAS_NONE, 0)])
def test_the_rule_is_asked_for_a_pasid_too(world: World, function: VirtualFunction, number: int) -> None:
    device = world.device(function=function)
    device.attach(world.plain, pasid=1)
    for call, pasid in ((device.replace, 1), (device.attach, 2)):
        if number:
            assert refused(lambda: call(world.table, pasid=pasid)) == number  # noqa: B023  called at once
        else:
            call(world.table, pasid=pasid)


@pytest.mark.parametrize(("kernel", "number"), [("6.12", 0), ("7.2", errno.EINVAL)])
def test_6_12_does_not_ask_a_function_that_its_group_has_brought_to_a_queue(any_world: World, number: int) -> None:
    """It asks when faults are switched on, which they are already; 7.2 asks every time."""
    physical, function = any_world.group(None, PF_HAS_PRI)
    physical.attach(any_world.table)
    function.attach(any_world.table)
    if number:
        assert refused(lambda: function.replace(any_world.other)) == number
    else:
        assert function.replace(any_world.other) is any_world.other
    physical.replace(any_world.plain)
    assert refused(lambda: function.replace(any_world.table)) == errno.EINVAL


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
def test_a_failure_pauses_one_virtual_function_until_its_reset(kernel: str) -> None:
    """The switch: what reviewers sketched. The hardware hears INVALID, since a failure would stop all functions."""
    world = World(kernel, virtual_pri_reset=True)
    with world.context:
        function, sibling, physical = (world.device(function=kind) for kind in (PF_HAS_PRI, PF_HAS_PRI, None))
        for device in (function, sibling, physical):
            device.attach(world.table)
            device.report(1, 0x1000)
        function.report(2, 0x1000)
        function.report(3, 0x1000, last=False)
        world.queue.read_messages()
        assert refused(lambda: world.queue.respond(3, DriverResponse.FAILURE)) == errno.EINVAL, "not a virtual one"
        world.queue.respond(1, DriverResponse.FAILURE)
        assert world.heard() == [Heard(function, 1, INVALID)]
        assert (function.pri_paused, sibling.pri_paused, physical.pri_paused) == (True, False, False)
        assert refused(lambda: function.report(4, 0x1000)) == errno.EINVAL
        assert refused(lambda: function.report(5, 0x1000, last=False)) == errno.EINVAL
        sibling.report(6, 0x1000)
        assert world.heard() == [Heard(function, 4), Heard(function, 5)]
        world.queue.respond(4, PageResponse.SUCCESS)
        assert world.heard() == [Heard(function, 2, SUCCESS)], "what it had asked before is answered as always"
        function.reset_pri()
        assert not function.pri_paused
        function.report(3, 0x2000)
        assert indices(world.queue) == [6, 3, 3], "the unfinished group has lived through it"
        assert function.counts().refused == 2
        assert refused(physical.reset_pri) == errno.EOPNOTSUPP


def test_a_time_out_and_a_full_queue_pause_a_virtual_function_too() -> None:
    world = World(virtual_pri_reset=True, limits=QueueLimits(depth=1, timeout_ns=100))
    with world.context:
        functions = [world.device(function=PF_HAS_PRI) for _ in range(2)]
        for function in functions:
            function.attach(world.table)
            function.report(1, 0x1000)
        assert world.heard() == [Heard(functions[1], 1, INVALID)]
        assert [function.pri_paused for function in functions] == [False, True]
        world.context.core.tick(100)
        world.context.core.produce()
        assert world.heard() == [Heard(functions[0], 1, INVALID)]
        assert [function.pri_paused for function in functions] == [True, True]


@pytest.mark.parametrize("function", [None, PF_HAS_NONE])
def test_a_device_that_shares_no_pri_has_none_to_reset(world: World, function: VirtualFunction | None) -> None:
    device = world.device(function=function)
    assert refused(device.reset_pri) == errno.EOPNOTSUPP
    device.unbind()
    assert refused(device.reset_pri) == errno.ENOENT


# ---- limits ----


def test_a_full_queue_loses_groups_and_says_so_where_it_was() -> None:
    world = World(limits=QueueLimits(depth=2))
    with world.context:
        device = world.device()
        device.attach(world.table)
        for number in (1, 2):
            device.report(number, 0x1000)
        device.report(3, 0x1000, last=False)
        for number in (3, 4):
            device.report(number, 0x2000)
        assert world.heard() == [Heard(device, 3, FAILURE), Heard(device, 4, FAILURE)]
        assert world.queue.read_messages(1)[0].grpid == 1
        device.report(5, 0x1000)
        messages = world.queue.read_messages()
        assert [(message.grpid, message.lost) for message in messages] == [(2, 0), (0, 2), (5, 0)]
        assert messages[1] == (LOST_GROUPS, 0, 0, 0, 0, 0, 2, 0)
        assert world.queue.counts().lost_groups == 2
        assert device.counts().refused == 3, "faults"
        assert [world.queue.read_messages(), world.queue.poll() & select.POLLIN] == [[], 0]


def test_a_loss_alone_is_something_to_read() -> None:
    world = World(limits=QueueLimits(depth=1))
    with world.context:
        device = world.device()
        device.attach(world.table)
        device.report(1, 0x1000)
        device.report(2, 0x1000)
        assert indices(world.queue)[0] == 1
        device.report(3, 0x1000)
        device.report(4, 0x1000)
        assert world.queue.read_messages(1)[0].grpid == 3
        assert world.queue.poll() & select.POLLIN
        assert refused(lambda: world.queue.read(0)) == errno.EINVAL
        assert [message.lost for message in world.queue.read_messages()] == [1]
        assert not world.queue.poll() & select.POLLIN
        assert refused(lambda: world.queue.respond(0)) == errno.EINVAL, "a record has no cookie"


def test_a_loss_stays_in_its_place_when_later_groups_are_taken_away() -> None:
    world = World(limits=QueueLimits(depth=3))
    with world.context:
        stays, goes = world.device(), world.device()
        stays.attach(world.table)
        goes.attach(world.nested(world.queue))
        for number in (1, 2, 3, 4):
            stays.report(number, 0x1000)
        assert world.queue.read_messages(1)[0].grpid == 1
        goes.report(5, 0x1000)
        goes.detach()
        assert [(message.grpid, message.lost) for message in world.queue.read_messages()] == [(2, 0), (3, 0), (0, 1)]
        assert world.indices() == [4, 5]


def test_what_is_not_answered_in_time_is_answered_once_and_late_answers_are_refused() -> None:
    world = World(limits=QueueLimits(timeout_ns=1000))
    with world.context as context:
        device = world.device()
        device.attach(world.table)
        for number in (1, 2, 3):
            context.core.tick(number * 100)
            device.report(number, 0x1000)
        read = world.queue.read_messages(2)
        context.core.tick(1099)
        context.core.produce()
        assert world.heard() == []
        assert context.core.next_ns() == 1100
        context.core.tick(1100)
        context.core.produce()
        assert world.heard() == [Heard(device, 1, FAILURE)]
        assert refused(lambda: world.queue.respond(read[0].cookie)) == errno.EINVAL
        world.queue.respond(read[1].cookie)
        context.core.tick(5000)
        context.core.produce()
        assert world.heard() == [Heard(device, 2, SUCCESS), Heard(device, 3, FAILURE)], "unread, it times out as well"
        counts = world.queue.counts()
        assert (counts.timed_out_groups, counts.auto_answered_groups, counts.answered_groups) == (2, 2, 1)
        assert (counts.waiting_groups, counts.unanswered_groups, context.core.next_ns()) == (0, 0, None)


@pytest.mark.parametrize("first", [0, 1])
def test_the_nearest_of_several_queues_time_outs_comes_first(first: int) -> None:
    world = World()
    with world.context as context:
        queues = [context.fault_queue_alloc(limits=QueueLimits(timeout_ns=ns)) for ns in (1000, 10)]
        devices = [world.device(), world.device()]
        for device, queue in zip(devices, queues, strict=True):
            device.attach(world.nested(queue))
        for one in (first, 1 - first):
            devices[one].report(one, 0x1000)
        context.core.tick(10)
        context.core.produce()
        assert world.heard() == [Heard(devices[1], 1, FAILURE)]
        assert context.core.next_ns() == 1000


def test_a_group_keeps_its_own_time_when_others_are_taken_away() -> None:
    world = World(limits=QueueLimits(timeout_ns=100))
    with world.context as context:
        stays, goes = world.device(), world.device()
        stays.attach(world.table)
        goes.attach(world.nested(world.queue))
        for now, device in enumerate((stays, goes, stays, goes, goes)):
            context.core.tick(10 * now)
            device.report(now, 0x1000)
        goes.detach()
        assert world.indices() == [4, 3, 1]
        for now, expected in ((99, []), (100, [0]), (119, []), (120, [2])):
            context.core.tick(now)
            context.core.produce()
            assert world.indices() == expected


def test_a_timed_out_cookie_is_free_for_the_next_group() -> None:
    world = World(limits=QueueLimits(timeout_ns=10, timeout_response=INVALID))
    with world.context as context:
        device = world.device()
        device.attach(world.table)
        for number in (1, 2):
            device.report(number, 0x1000)
            world.queue.read_messages()
            context.core.tick(context.core.now_ns() + 5)
        context.core.produce()
        device.report(3, 0x1000)
        assert [message.cookie for message in world.queue.read_messages()] == [1]
        assert world.heard() == [Heard(device, 1, INVALID)]


def test_answers_by_index_take_the_oldest_of_what_was_read() -> None:
    world = World(limits=QueueLimits(by_group_index=True))
    with world.context:
        device, other = world.device(), world.device()
        for one in (device, other):
            one.attach(world.table)
        for pasid, addr in ((None, 0x1000), (0, 0x2000), (5, 0x3000), (5, 0x4000)):
            device.report(7, addr, pasid=pasid)
        other.report(7, 0x5000)
        answer = world.queue.respond_to
        assert refused(lambda: answer(device.id, 7)) == errno.EINVAL, "not read yet"
        world.queue.read_messages()
        assert refused(lambda: answer(device.id, 7, pasid=6)) == errno.EINVAL
        assert refused(lambda: answer(device.id, 8)) == errno.EINVAL
        assert refused(lambda: answer(device.id, 7, FAILURE)) == errno.EINVAL
        answer(device.id, 7, pasid=5)
        assert world.context.mock.take() == [(device.id, 5, 7, SUCCESS)]
        assert refused(lambda: world.queue.respond(3)) == errno.EINVAL, "cookie 3 was the older one"
        world.queue.respond(4)
        assert refused(lambda: answer(device.id, 7, pasid=5)) == errno.EINVAL
        answer(device.id, 7, PageResponse.INVALID)
        answer(device.id, 7, pasid=0)
        assert refused(lambda: world.queue.respond(1)) == errno.EINVAL
        answer(other.id, 7)
        assert [one.code for one in world.context.mock.take()] == [SUCCESS, INVALID, SUCCESS, SUCCESS]


def test_a_queue_as_linux_has_it_takes_no_answers_by_index(world: World) -> None:
    assert refused(lambda: world.queue.respond_to(1, 1)) == errno.EOPNOTSUPP
    world.queue.close()
    assert refused(lambda: world.queue.respond_to(1, 1)) == errno.EBADF


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("depth", "timeout_ns") for value in (0, -1, 2**63, 2**64, 1.5, "1", math.nan)),
        *((name, value) for name in ("depth_response", "timeout_response") for value in (SUCCESS, None)),
        ("by_group_index", 2),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_when_it_is_given(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be "):
        QueueLimits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("response", "result", "stopped"), [(FAILURE, AccessResult.FAILED, True), (INVALID, AccessResult.INVALID, False)]
)
def test_a_time_out_reaches_the_function_and_is_in_the_account(
    response: DriverResponse, result: AccessResult, stopped: bool
) -> None:
    """End to end: of three accesses one is answered, one is read and answered too late, one is never read."""
    with Machine(None, driver="inline") as machine:
        machine.open("fd")
        queue, core = machine.queue, machine.core
        limits = {"timeout_ns": 100, "timeout_code": response}
        check(lib.uiopf_faultq_limit(queue.c, ffi.new("struct uiopf_faultq_limits *", limits)), "limit")
        tickets = [machine.endpoint.access(1, page << 12, FaultPerm.READ) for page in (1, 2, 3)]
        core.produce()
        messages = queue.read_messages(2)
        queue.respond(messages[0].cookie, PageResponse.INVALID)
        core.tick(100)
        core.produce()
        assert refused(lambda: queue.respond(messages[1].cookie)) == errno.EINVAL
        core.produce()
        assert [machine.endpoint.result(ticket) for ticket in tickets] == [AccessResult.INVALID, result, result]
        assert bool(machine.endpoint.counts().pri_status & 1) == stopped, "Response Failure"
        assert machine.account() == Account(3, 1, 2, 0, 0)
        assert queue.counts().timed_out_groups == 2


# ---- what is on the way ----


@pytest.mark.parametrize("drains", [True, False])
def test_replacing_under_a_busy_function_leaves_no_fault_unaccounted(drains: bool) -> None:
    """A worker is the hardware and faults keep coming. Only without a drain may a request meet the next attachment."""
    pages = 512
    rows = b"".join(struct.pack("<2Q2I", 0, page << 12, 1, FaultPerm.READ) for page in range(pages))
    with Core(live=True) as core, ExitStack() as stack:
        context = Context(core)
        iommu = VtdIommu(core, needs_pasid=False, drains=drains)
        stack.callback(iommu.close)
        space = AddressSpace(64, pages)
        stack.callback(space.close)
        endpoint = Endpoint(iommu, capacity=64, group_most=1)
        stack.callback(endpoint.close)
        stack.callback(context.close)
        device = context.bind(iommu.c, 0x100, 64, on_unbind=lambda: iommu.unbind(device))
        iommu.bind(endpoint, device)
        endpoint.use_tables(space)
        endpoint.enable_pri(64)
        endpoint.set_rows(rows)
        ioas = context.ioas_alloc()
        parent = context.hwpt_alloc_paging(device, ioas, nest_parent=True)
        queues = [context.fault_queue_alloc() for _ in range(2)]
        tables = [context.hwpt_alloc_nested(device, parent, fault=queue) for queue in queues]
        device.attach(tables[0])
        core.start_worker(Driver.SQPOLL)
        stack.callback(core.stop_worker)
        endpoint.start(Load(LoadMode.CLOSED, in_flight=32))
        for number in range(1, 400):
            device.replace(tables[number % 2])
            for queue in queues:
                for message in queue.read_messages():
                    if message.cookie % 2:
                        queue.respond(message.cookie, PageResponse.INVALID)
        endpoint.cancel()
        device.detach()
        assert endpoint.wait(1, 5_000_000_000), "every request is answered"
        core.stop_worker()
        sent, counts = endpoint.counts(), device.counts()
        settled = sum(queue.counts().answered_faults + queue.counts().auto_answered_faults for queue in queues)
        assert (sent.sent, sent.outstanding, sent.unexpected) == (settled + counts.refused, 0, 0)
        assert counts.reported == sent.sent
        assert counts.stale == 0 or not drains
        assert all(queue.counts().waiting_groups == queue.counts().unanswered_groups == 0 for queue in queues)


# ---- large numbers ----


def test_100_000_outstanding_groups_are_answered_once_each_when_the_table_is_replaced(world: World) -> None:
    device = world.context.mock_device(world.ioas)
    device.replace(world.table)
    many = 100_000
    for number in range(many):
        device.report(number, 0x1000)
        if number == many // 2 - 1:
            assert len(world.queue.read(40 * many)) == 40 * (many // 2)
    device.replace(world.other)
    answers = world.context.mock.take()
    assert {one.code for one in answers} == {INVALID}
    unread, read = range(many - 1, many // 2 - 1, -1), range(many // 2)
    assert [one.grpid for one in answers] == [*unread, *read]
    assert world.queue.counts()[3:7] == (many, many, 0, 0)
    assert refused(lambda: world.queue.respond(1)) == errno.EINVAL


def test_the_lowest_of_many_ids_that_is_free_is_the_next() -> None:
    """Of objects; a million numbers are in the allocator's own test, and cost a tenth."""
    table = ObjectTable()

    def thing() -> Object:
        table.begin()
        return Object(table).enter()

    many = 100_000
    things = [thing() for _ in range(many)]
    assert [things[0].id, things[-1].id, len(table)] == [1, many, many]
    for number in (50_000, 99_999, 17, 3):
        table.destroy(things[number - 1], "test")
    assert [thing().id for _ in range(5)] == [3, 17, 50_000, 99_999, many + 1]


def test_the_ranges_that_a_device_cannot_reach_are_reserved_where_it_is_attached(world: World) -> None:
    """In no other space: not in the one that it was replaced from, and after a detach in none."""
    first, last = 0x1100_0000, 0x110F_FFFF
    device = world.device(reserved=((first, last),))
    here, there = world.ioas, world.context.ioas_alloc()
    table, other = world.paging(), world.context.hwpt_alloc_paging(world.maker, there, pasid=world.pasid)
    free = here.iova_ranges()
    assert there.iova_ranges() == free
    assert any(start <= first and last <= end for start, end in free)

    def reserved(space: IOAS) -> bool:
        return not any(start <= first and last <= end for start, end in space.iova_ranges())

    for _ in range(2):
        device.attach(table)
        assert (reserved(here), reserved(there)) == (True, False)
        device.replace(other)
        assert (reserved(here), reserved(there)) == (False, True)
        device.replace(table)
        assert (reserved(here), reserved(there)) == (True, False)
        device.detach()
        assert (here.iova_ranges(), there.iova_ranges()) == (free, free)
