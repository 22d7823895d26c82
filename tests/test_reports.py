"""The generic report object: a queue of other reports than page faults, carried by a table."""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING

import pytest

from uring_iopf.abi.iommufd import HwptAllocFlags, VeventqType
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.iommufd import (
    MOCK_FORMAT,
    CmdqvEvent,
    Context,
    DriverResponse,
    FaultQueue,
    MockDevice,
    MockResponse,
    PagingHWPT,
    ReportQueue,
    Smmuv3Event,
)
from uring_iopf.iommufd.objects import Object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENT = Smmuv3Event((0x1234_0000_0010, 2, 3, 4))


class World:
    """A mock device, a nest parent, and a report queue for SMMUv3's events."""

    def __init__(self, kernel: str) -> None:
        self.context = Context(kernel=kernel, generic_reports=True)
        self.ioas = self.context.ioas_alloc()
        self.device: MockDevice = self.context.mock_device(self.ioas)
        self.parent: PagingHWPT = self.context.hwpt_alloc_paging(self.device, self.ioas, nest_parent=True)
        self.queue: ReportQueue = self.context.report_queue_alloc(VeventqType.ARM_SMMUV3)

    def table(self, queue: Object) -> Object:
        return self.context.hwpt_alloc(
            self.device,
            self.parent,
            HwptAllocFlags.FAULT_ID_VALID,
            fault=queue,
            data_type=MOCK_FORMAT.data_type,
            data=MOCK_FORMAT.blank,
        )


@pytest.fixture(params=["6.12", "7.2"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    with world.context:
        yield world


def refused(call: Callable[[], object]) -> int | None:
    with pytest.raises(KernelError) as caught:
        call()
    return caught.value.errno


def test_a_device_reports_to_the_queue_of_its_table(world: World) -> None:
    assert refused(lambda: world.device.report_event(VeventqType.ARM_SMMUV3, EVENT.pack())) == errno.EOPNOTSUPP
    world.device.replace(world.table(world.queue))
    assert world.queue.poll() == 0
    world.device.report_event(VeventqType.ARM_SMMUV3, EVENT.pack())
    world.device.report_event(VeventqType.ARM_SMMUV3, EVENT.pack())
    assert world.queue.poll() == select.POLLIN | select.POLLRDNORM
    events = world.queue.read_events()
    assert [event.sequence for event in events] == [0, 1]
    assert {Smmuv3Event.unpack(event.data) for event in events} == {EVENT}
    world.device.replace(world.ioas)
    assert refused(lambda: world.device.report_event(VeventqType.ARM_SMMUV3, EVENT.pack())) == errno.EOPNOTSUPP


def test_a_queue_takes_its_own_type_only(world: World) -> None:
    world.device.replace(world.table(world.queue))
    other = CmdqvEvent((1, 2)).pack()
    assert refused(lambda: world.device.report_event(VeventqType.TEGRA241_CMDQV, other)) == errno.EOPNOTSUPP
    with pytest.raises(UsageError, match="in this queue, not 16 bytes"):
        world.device.report_event(VeventqType.ARM_SMMUV3, other)
    assert world.queue.read_events() == []


def test_such_a_table_takes_no_page_faults(world: World) -> None:
    world.device.replace(world.table(world.queue))
    assert refused(lambda: world.device.report(7, 0x1000, pasid=3)) == errno.EINVAL
    assert world.context.mock.take() == [MockResponse(world.device.id, 3, 7, DriverResponse.INVALID)]
    assert world.queue.read_events() == []


def test_the_table_holds_the_queue(world: World) -> None:
    table = world.table(world.queue)
    world.queue.close()
    assert refused(lambda: world.context.destroy(world.queue)) == errno.EBUSY
    world.context.destroy(table)
    world.context.destroy(world.queue)
    assert not world.queue.exists


def test_an_old_caller_sees_no_change(world: World) -> None:
    queue = world.context.fault_queue_alloc()
    assert isinstance(queue, FaultQueue)
    world.device.replace(world.table(queue))
    world.device.report(7, 0x1000, pasid=3)
    assert [message.grpid for message in queue.read_messages()] == [7]


def test_it_is_there_only_where_it_was_asked_for() -> None:
    with Context() as context:
        assert refused(lambda: context.report_queue_alloc(VeventqType.ARM_SMMUV3)) == errno.E2BIG
    with Context(generic_reports=True) as context:
        assert refused(lambda: context.report_queue_alloc(VeventqType.ARM_SMMUV3, 1)) == errno.EOPNOTSUPP
        assert refused(lambda: context.report_queue_alloc(0)) == errno.EOPNOTSUPP
        assert refused(lambda: context.report_queue_alloc(77)) == errno.EOPNOTSUPP
        assert list(context) == []
