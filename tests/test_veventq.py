"""Virtual IOMMUs and their event queues: what is read, what is lost, what is refused in which order, who holds whom."""

import errno
import select
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.bench import GETEVENTS, Arena, data_address
from uring_iopf.abi import CqeFlags, Op
from uring_iopf.abi.iommufd import HwptAllocFlags, HwptDataType, VeventqType, ViommuType
from uring_iopf.core import Core, Driver
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.iommufd import (
    MOCK_FORMAT,
    MOCK_VEVENTQ_TYPE,
    MOCK_VIOMMU_TYPE,
    SMMUV3_DRIVER,
    CmdqvEvent,
    Context,
    Device,
    EventQueueCounts,
    MockDevice,
    MockIommu,
    NestedHWPT,
    SelftestEvent,
    Smmuv3Event,
    Viommu,
    VirtualEvent,
    VirtualEventQueue,
    forward_smmuv3_event,
    unpack_events,
)
from uring_iopf.rings import Cqe, Ring, Sqe

FAULT, PASID, PARENT = HwptAllocFlags.FAULT_ID_VALID, HwptAllocFlags.PASID, HwptAllocFlags.NEST_PARENT
POLLIN = select.POLLIN | select.POLLRDNORM
RECORD = 12


class World:
    """A mock device that has the number 0x99 in a guest, and is attached to the guest's table."""

    def __init__(self, core: Core | None = None, *, depth: int = 2, virt_id: int = 0x99) -> None:
        self.context = Context(core, kernel="7.2")
        self.ioas = self.context.ioas_alloc()
        self.device = self.context.mock_device(self.ioas)
        self.parent = self.context.hwpt_alloc_paging(self.device, self.ioas, nest_parent=True)
        self.viommu = self.context.viommu_alloc(self.device, self.parent, MOCK_VIOMMU_TYPE)
        self.queue = self.context.veventq_alloc(self.viommu, MOCK_VEVENTQ_TYPE, depth)
        self.vdevice = self.context.vdevice_alloc(self.viommu, self.device, virt_id)
        self.nested = self.nested_table(self.viommu)
        self.device.replace(self.nested)

    def nested_table(self, viommu: Viommu, **fields: int) -> NestedHWPT:
        table = self.context.hwpt_alloc(
            self.device, viommu, data_type=MOCK_FORMAT.data_type, data=MOCK_FORMAT.blank, **fields
        )
        assert isinstance(table, NestedHWPT)
        return table

    def raise_events(self, count: int) -> None:
        for _ in range(count):
            self.device.raise_event()

    def read(self, length: int) -> list[tuple[int, int]]:
        """Flags and sequence number of what a read returned."""
        return [(event.flags, event.sequence) for event in unpack_events(self.queue.read(length), RECORD)]

    def picture(self) -> object:
        """Everything that a refused call could have changed."""
        return (
            [(one.id, type(one), one.users) for one in self.context],
            self.device.hwpt,
            self.device.virtual,
            self.queue.counts(),
        )


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.context.close()


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(KernelError) as error:
        call()
    assert error.value.errno is not None
    return error.value.errno


# ---- reading ----


def test_an_event_is_read_with_the_virtual_id_of_its_device(world: World) -> None:
    assert world.queue.poll() == 0
    world.device.raise_event()
    assert world.queue.poll() == POLLIN
    assert world.queue.read(100) == struct.pack("<3I", 0, 0, 0x99)
    assert (world.queue.read(RECORD), world.queue.poll()) == (b"", 0)
    world.device.raise_event()
    (event,) = world.queue.read_events()
    assert event == VirtualEvent(0, 1, SelftestEvent(0x99).pack())
    assert SelftestEvent.unpack(event.data) == SelftestEvent(0x99)
    assert not event.lost


def test_a_full_queue_ends_with_a_header_of_lost_events_until_one_is_stored(world: World) -> None:
    world.raise_events(5)
    assert world.queue.counts() == EventQueueCounts(reported=5, stored=2, lost=3, delivered=0)
    assert world.read(2 * RECORD) == [(0, 0), (0, 1)]
    assert world.queue.poll() == POLLIN, "the header is there to be read"
    world.raise_events(2)
    assert world.read(100) == [(0, 5), (0, 6)], "the gap says it, so the header is gone"
    world.raise_events(3)
    assert world.read(2 * RECORD + 7) == [(0, 7), (0, 8)], "no room for the header: it stays"
    events = world.queue.read_events()
    assert events == [VirtualEvent(1, 9, b"")]
    assert events[0].lost
    assert world.queue.counts() == EventQueueCounts(reported=10, stored=6, lost=4, delivered=6)


def test_only_stored_events_count_for_the_depth(world: World) -> None:
    world.raise_events(3)
    assert world.read(RECORD) == [(0, 0)]
    world.raise_events(2)
    assert world.read(100) == [(0, 1), (0, 3), (1, 4)]


@pytest.mark.parametrize(
    ("waiting", "length", "expected"),
    [
        (0, 7, errno.EINVAL),
        (0, 8, []),
        (0, 0, errno.EINVAL),
        (2, 7, errno.EINVAL),
        (2, 8, errno.EINVAL),
        (2, 11, errno.EINVAL),
        (2, 12, [(0, 0)]),
        (2, 23, [(0, 0)]),
        (2, 24, [(0, 0), (0, 1)]),
        (3, 31, [(0, 0), (0, 1)]),
        (3, 32, [(0, 0), (0, 1), (1, 2)]),
    ],
)
def test_a_read_returns_whole_records(
    world: World, waiting: int, length: int, expected: int | list[tuple[int, int]]
) -> None:
    world.raise_events(waiting)
    before = world.queue.counts()
    if isinstance(expected, int):
        assert refused(lambda: world.queue.read(length)) == expected
        assert world.queue.counts() == before
        assert len(world.read(100)) == waiting, "nothing was lost by it"
    else:
        assert world.read(length) == expected


def test_the_file_cannot_be_written(world: World) -> None:
    for data in (b"", b"12345678"):
        assert refused(lambda data=data: world.queue.write(data)) == errno.EINVAL  # type: ignore[misc]


def test_a_closed_file_is_no_file(world: World) -> None:
    world.queue.close()
    for call in (world.queue.poll, world.queue.close, lambda: world.queue.read(100), lambda: world.queue.write(b"")):
        assert refused(call) == errno.EBADF
    world.device.raise_event()
    assert world.queue.counts().stored == 1, "closing it does not end the queue"


def test_a_queue_of_another_size_of_events_says_so() -> None:
    one = struct.pack("<2I4s", 0, 0, b"data")
    lost = struct.pack("<2I", 1, 1)
    assert unpack_events(one + lost, 12) == [VirtualEvent(0, 0, b"data"), VirtualEvent(1, 1, b"")]
    for broken in (one + b"1234", one[:11]):
        with pytest.raises(UsageError):
            unpack_events(broken, 12)


# ---- through a ring ----


def test_a_ring_polls_and_reads_an_event_queue() -> None:
    with Core() as core:
        world = World(core)
        arena, ring = Arena(), Ring(core, 8)
        ring.add_window(arena)
        world.queue.set_nonblocking(True)
        fd = world.queue.fd
        poll = Sqe(Op.POLL_ADD, user_data=1, fd=fd, op_flags=select.POLLIN | select.POLLOUT, len=1)
        assert ring.run(poll) == []
        world.device.raise_event()
        ring.enter(0, 0, GETEVENTS)
        assert ring.reap() == [Cqe(1, select.POLLIN, CqeFlags.F_MORE)]
        read = Sqe(Op.READ, user_data=2, fd=fd, addr=data_address(2), len=100)
        assert ring.run(read) == [Cqe(2, RECORD, 0)]
        assert arena.read(data_address(2), RECORD) == struct.pack("<3I", 0, 0, 0x99)
        at = Sqe(Op.READ, user_data=3, fd=fd, addr=data_address(3), len=4, off=1)
        assert ring.run(at) == [Cqe(3, -errno.ESPIPE, 0)], "looked at before the length"
        write = Sqe(Op.WRITE, user_data=4, fd=fd, addr=data_address(4), len=8)
        assert ring.run(write) == [Cqe(4, -errno.EINVAL, 0)]
        world.queue.close()
        assert refused(lambda: world.context.destroy(world.queue)) == errno.EBUSY, "the poll holds the file"
        ring.close()
        arena.close()
        world.context.close()


def test_a_worker_wakes_a_poll_for_each_event() -> None:
    with Core() as core:
        world = World(core, depth=100)
        ring = Ring(core, 8)
        core.start_worker(Driver.SQPOLL, idle_ns=0)
        fd = world.queue.fd
        assert ring.submit(Sqe(Op.POLL_ADD, user_data=1, fd=fd, op_flags=select.POLLIN, len=1)) == 1
        for turn in range(20):
            world.device.raise_event()
            assert ring.enter(0, 1, GETEVENTS, timeout_ns=10**10) == 0
            assert {cqe.res for cqe in ring.reap()} == {select.POLLIN}
            assert world.read(RECORD) == [(0, turn)]
        core.stop_worker()
        ring.close()
        world.context.close()


# ---- what is refused, and what is looked at first ----

MISSING = 12345
Call = Callable[[World], object]


def viommu(**fields: object) -> Call:
    def call(w: World) -> object:
        given: dict[str, object] = {"device": w.device, "hwpt": w.parent, "viommu_type": MOCK_VIOMMU_TYPE}
        given |= {name: value(w) if callable(value) else value for name, value in fields.items()}
        return w.context.viommu_alloc(**given)  # type: ignore[arg-type]

    return call


def veventq(**fields: object) -> Call:
    def call(w: World) -> object:
        given: dict[str, object] = {"viommu": w.viommu, "event_type": 7, "depth": 1}
        given |= {name: value(w) if callable(value) else value for name, value in fields.items()}
        return w.context.veventq_alloc(**given)  # type: ignore[arg-type]

    return call


def nested(**fields: object) -> Call:
    def call(w: World) -> object:
        given: dict[str, object] = {
            "device": w.device,
            "pt": w.viommu,
            "data_type": MOCK_FORMAT.data_type,
            "data": bytes(4),
        }
        return w.context.hwpt_alloc(**(given | fields))  # type: ignore[arg-type]

    return call


REFUSALS: dict[str, tuple[Call, int]] = {
    "flags before the device": (viommu(flags=1, device=MISSING), errno.EOPNOTSUPP),
    "type 0 before the device": (viommu(viommu_type=0, device=MISSING), errno.EOPNOTSUPP),
    "the device before the type": (viommu(viommu_type=1, device=MISSING), errno.ENOENT),
    "the type before the table": (viommu(viommu_type=ViommuType.ARM_SMMUV3, hwpt=MISSING), errno.EOPNOTSUPP),
    "a table that is not there": (viommu(hwpt=MISSING), errno.ENOENT),
    "a space for a table": (viommu(hwpt=lambda w: w.ioas), errno.ENOENT),
    "a nested table for a parent": (viommu(hwpt=lambda w: w.nested), errno.ENOENT),
    "a table for a device": (viommu(device=lambda w: w.parent), errno.ENOENT),
    "no nest parent": (
        viommu(hwpt=lambda w: w.context.hwpt_alloc_paging(w.device, w.ioas)),
        errno.EINVAL,
    ),
    "data that is too short": (viommu(data=bytes(7)), errno.EINVAL),
    "data that is too long": (viommu(data=bytes(25)), errno.EINVAL),
    "queue flags before the depth": (veventq(flags=1, depth=0), errno.EOPNOTSUPP),
    "queue type 0 before the depth": (veventq(event_type=0, depth=0), errno.EOPNOTSUPP),
    "depth 0 before the virtual IOMMU": (veventq(depth=0, viommu=MISSING), errno.EINVAL),
    "a depth beyond 2**19": (veventq(depth=2**19 + 1), errno.EINVAL),
    "no virtual IOMMU": (veventq(viommu=MISSING), errno.ENOENT),
    "a parent for a virtual IOMMU": (veventq(viommu=lambda w: w.parent), errno.ENOENT),
    "a second queue of a type": (veventq(event_type=MOCK_VEVENTQ_TYPE), errno.EEXIST),
    "the virtual IOMMU before the device": (lambda w: w.context.vdevice_alloc(w.parent, w.ioas, 1), errno.ENOENT),
    "no device": (lambda w: w.context.vdevice_alloc(w.viommu, MISSING, 1), errno.ENOENT),
    "a second virtual device of a device": (lambda w: w.context.vdevice_alloc(w.viommu, w.device, 1), errno.EEXIST),
    "table flags on a virtual IOMMU": (nested(flags=PARENT), errno.EOPNOTSUPP),
    "a table on a virtual IOMMU without data": (nested(data=b"", data_type=0), errno.EOPNOTSUPP),
    "a type without data": (nested(data=b""), errno.EINVAL),
    "table data of another type": (nested(data_type=HwptDataType.ARM_SMMUV3), errno.EOPNOTSUPP),
    "table data before the fault queue": (nested(data=bytes(3), flags=FAULT, fault=MISSING), errno.EINVAL),
    "no fault queue": (nested(flags=FAULT, fault=MISSING), errno.ENOENT),
    "an attached table": (lambda w: w.context.destroy(w.nested), errno.EBUSY),
    "a virtual IOMMU that is used": (lambda w: w.context.destroy(w.viommu), errno.EBUSY),
    "a parent that is used": (lambda w: w.context.destroy(w.parent), errno.EBUSY),
    "a queue whose file is open": (lambda w: w.context.destroy(w.queue), errno.EBUSY),
    "attaching to a virtual IOMMU": (lambda w: w.device.replace(w.viommu), errno.EINVAL),
}


@pytest.mark.parametrize(("call", "number"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_call_changes_nothing(world: World, call: Call, number: int) -> None:
    if call is REFUSALS["no nest parent"][0]:  # it makes the table itself
        table = world.context.hwpt_alloc_paging(world.device, world.ioas)
        call = viommu(hwpt=table)
    free = world.context.ioas_alloc()
    world.context.destroy(free)
    before = world.picture()
    assert refused(lambda: call(world)) == number
    assert world.picture() == before
    assert world.context.ioas_alloc().id == free.id, "no id was kept"


def test_a_virtual_id_is_taken_once(world: World) -> None:
    other = world.context.mock_device(world.ioas)
    assert refused(lambda: world.context.vdevice_alloc(world.viommu, other, 0x99)) == errno.EEXIST
    elsewhere = world.context.viommu_alloc(other, world.parent, MOCK_VIOMMU_TYPE)
    vdevice = world.context.vdevice_alloc(elsewhere, other, 0x99)
    assert refused(lambda: world.context.vdevice_alloc(world.viommu, other, 1)) == errno.EEXIST, "one for each device"
    world.context.destroy(vdevice)
    assert world.context.vdevice_alloc(world.viommu, other, 2**64 - 1).virt_id == 2**64 - 1
    for number in (-1, 2**64):
        with pytest.raises(UsageError):
            world.context.vdevice_alloc(world.viommu, other, number)


def test_an_older_kernel_has_none_of_it() -> None:
    with Context(kernel="6.12") as context:
        for call in (
            lambda: context.viommu_alloc(1, 2, 1, flags=1),
            lambda: context.vdevice_alloc(1, 2, 3),
            lambda: context.veventq_alloc(1, 2, 0),
        ):
            assert refused(call) == errno.ENOTTY


def test_a_device_behind_another_iommu_is_refused(world: World) -> None:
    iommu = MockIommu(world.context.core)
    stranger = world.context.bind(iommu.c, 1, 64, driver=world.device.driver)
    for call in (
        lambda: world.context.vdevice_alloc(world.viommu, stranger, 1),
        lambda: world.context.viommu_alloc(stranger, world.parent, MOCK_VIOMMU_TYPE),
        lambda: nested(device=stranger, flags=PARENT)(world),
        lambda: stranger.attach(world.nested),
    ):
        assert refused(call) == errno.EINVAL
    stranger.unbind()
    iommu.close()


# ---- attaching ----


def test_a_table_on_a_virtual_iommu_needs_a_virtual_device_there(world: World) -> None:
    other = world.context.mock_device(world.ioas)
    before = other.hwpt
    assert refused(lambda: other.replace(world.nested)) == errno.ENOENT
    assert other.hwpt is before
    assert refused(other.raise_event) == errno.ENOENT
    elsewhere = world.context.viommu_alloc(other, world.parent, MOCK_VIOMMU_TYPE)
    world.context.vdevice_alloc(elsewhere, other, 5)
    assert refused(lambda: other.replace(world.nested)) == errno.ENOENT, "it has one, but on another"


def test_the_virtual_id_is_the_one_found_at_the_attach(world: World) -> None:
    world.context.destroy(world.vdevice)
    world.device.raise_event()
    world.context.vdevice_alloc(world.viommu, world.device, 7)
    world.device.raise_event()
    assert [SelftestEvent.unpack(event.data).virt_id for event in world.queue.read_events()] == [0x99, 0x99]
    # The mock looks again only when the virtual IOMMU is another.
    world.device.replace(world.nested_table(world.viommu))
    world.device.raise_event()
    world.device.replace(world.ioas)
    assert refused(world.device.raise_event) == errno.ENOENT
    world.device.replace(world.nested)
    world.device.raise_event()
    assert [SelftestEvent.unpack(event.data).virt_id for event in world.queue.read_events()] == [0x99, 7]


@pytest.mark.parametrize(("virt_id", "reported"), [(0, None), (1 << 32, 0), (0x1_0000_0007, 7)])
def test_the_mock_reports_32_bits_of_a_virtual_id_and_none_for_0(virt_id: int, reported: int | None) -> None:
    world = World(virt_id=virt_id)
    if reported is None:
        assert refused(world.device.raise_event) == errno.ENOENT
    else:
        world.device.raise_event()
        assert world.queue.read(RECORD) == struct.pack("<3I", 0, 0, reported)
    world.context.close()


def test_without_a_queue_of_the_type_there_is_nobody_to_report_to(world: World) -> None:
    world.queue.close()
    world.context.destroy(world.queue)
    assert refused(world.device.raise_event) == errno.EOPNOTSUPP
    other = world.context.veventq_alloc(world.viommu, 7, 1)
    assert refused(world.device.raise_event) == errno.EOPNOTSUPP
    with pytest.raises(UsageError):
        other.read_events()
    again = world.context.veventq_alloc(world.viommu, MOCK_VEVENTQ_TYPE, 1)
    world.device.raise_event()
    assert again.read_events() == [VirtualEvent(0, 0, SelftestEvent(0x99).pack())], "a new queue counts from 0"


def test_faults_of_a_table_on_a_virtual_iommu_go_to_its_fault_queue(world: World) -> None:
    queue = world.context.fault_queue_alloc()
    table = world.nested_table(world.viommu, flags=FAULT | PASID, fault=queue.id)
    assert (table.made_on, table.parent) == (world.viommu, world.parent)
    world.device.replace(table)
    world.device.report(1, 0x1000, pasid=3)
    assert [message.pasid for message in queue.read_messages()] == [3]


# ---- who holds whom, and the end ----


def test_everything_can_be_destroyed_in_order(world: World) -> None:
    world.device.replace(world.ioas)
    world.queue.close()
    for one in (world.nested, world.vdevice, world.queue, world.viommu, world.parent):
        world.context.destroy(one)
    assert refused(world.device.raise_event) == errno.ENOENT


def test_a_table_on_a_virtual_iommu_holds_that_and_not_the_parent(world: World) -> None:
    parent_users, viommu_users = world.parent.users, world.viommu.users
    world.nested_table(world.viommu)
    assert (world.parent.users, world.viommu.users) == (parent_users, viommu_users + 1)


def test_a_virtual_device_goes_before_its_device_and_its_id_is_never_used_again(world: World) -> None:
    number, users = world.vdevice.id, world.viommu.users
    world.device.unbind()
    assert not world.vdevice.exists
    # Its device's attachment is gone, too.
    assert world.viommu.users == users - 1
    assert refused(lambda: world.context.destroy(number)) == errno.ENOENT
    assert refused(lambda: world.context.get(number)) == errno.ENOENT
    freed = {world.device.id, world.device.stdev.id}
    made = [world.context.ioas_alloc().id for _ in range(5)]
    assert freed <= set(made)
    assert number not in made
    again = world.context.mock_device(world.ioas)
    assert world.context.vdevice_alloc(world.viommu, again, 0x99).virt_id == 0x99, "its virtual id is free"


def test_an_id_that_the_user_gave_back_is_used_again(world: World) -> None:
    number = world.vdevice.id
    world.context.destroy(world.vdevice)
    world.device.unbind()
    assert number in [world.context.ioas_alloc().id for _ in range(4)]


def test_a_context_ends_with_events_unread(world: World) -> None:
    world.raise_events(5)
    world.context.close()
    assert list(world.context) == []
    assert refused(world.queue.counts) == errno.ENOENT


def test_a_queue_of_the_greatest_depth_holds_as_many_as_come() -> None:
    world = World(depth=2**19)
    world.raise_events(20_000)
    assert world.queue.counts() == EventQueueCounts(reported=20_000, stored=20_000, lost=0, delivered=0)
    events = unpack_events(world.queue.read(20_000 * RECORD), RECORD)
    assert [event.sequence for event in events] == list(range(20_000))
    world.context.close()


# ---- SMMUv3 ----

ENTRY_ABORT, ENTRY_BYPASS, ENTRY_TRANSLATE, ENTRY_INVALID = (
    struct.pack("<2Q", word, 0) for word in (0b0001, 0b1001, 0b1011, 0b1010)
)
TRANSLATION, STALL, STAGE_2 = 0x10, 1 << 31, 1 << 39
STREAM = 0x1234 << 32


class Smmu:
    """A device behind an SMMUv3, with the StreamID 0x77 in a guest, on a table that translates."""

    def __init__(self, kind: int = ViommuType.ARM_SMMUV3, data: bytes = b"") -> None:
        self.core = Core()
        self.context = Context(self.core, kernel="7.2")
        self.iommu = MockIommu(self.core)
        ioas = self.context.ioas_alloc()
        self.device = self.context.bind(self.iommu.c, 0x10, 64, driver=SMMUV3_DRIVER)
        self.parent = self.context.hwpt_alloc_paging(self.device, ioas, nest_parent=True)
        self.viommu = self.context.viommu_alloc(self.device, self.parent, kind, data=data)

    def table(self, data: bytes, flags: int = 0) -> NestedHWPT:
        made = self.context.hwpt_alloc(self.device, self.viommu, flags, data_type=HwptDataType.ARM_SMMUV3, data=data)
        assert isinstance(made, NestedHWPT)
        return made

    def queue(self, kind: int = VeventqType.ARM_SMMUV3) -> VirtualEventQueue:
        return self.context.veventq_alloc(self.viommu, kind, 8)

    def close(self) -> None:
        self.context.close()
        self.iommu.close()
        self.core.close()


@pytest.fixture
def smmu() -> Iterator[Smmu]:
    smmu = Smmu()
    yield smmu
    smmu.close()


def test_a_guest_sees_an_event_with_its_own_stream_id(smmu: Smmu) -> None:
    queue = smmu.queue()
    smmu.context.vdevice_alloc(smmu.viommu, smmu.device, 0x77)
    smmu.device.attach(smmu.table(ENTRY_TRANSLATE))
    event = Smmuv3Event((STREAM | 0xABCDE << 12 | TRANSLATION, 0x0000_0005, 0xDEAD_B000, 0x9))
    assert (event.stream_id, event.event_id, event.forwarded) == (0x1234, TRANSLATION, True)
    forward_smmuv3_event(smmu.device, event)
    (read,) = queue.read_events()
    seen = Smmuv3Event.unpack(read.data)
    assert seen == Smmuv3Event((0x77 << 32 | 0xABCDE << 12 | TRANSLATION, 5, 0xDEAD_B000, 9))
    assert read.data == struct.pack("<4Q", *seen.evt)


def test_just_the_guests_own_events_are_forwarded(smmu: Smmu) -> None:
    queue = smmu.queue()
    smmu.context.vdevice_alloc(smmu.viommu, smmu.device, 0x77)
    smmu.device.attach(smmu.table(ENTRY_TRANSLATE))
    forwarded = set()
    for event_id in range(256):
        for flags in (0, STALL, STAGE_2, STALL | STAGE_2):
            event = Smmuv3Event((STREAM | event_id, flags, 0, 0))
            if not event.forwarded:
                assert refused(lambda event=event: forward_smmuv3_event(smmu.device, event)) == errno.EOPNOTSUPP  # type: ignore[misc]
                continue
            forward_smmuv3_event(smmu.device, event)
            assert len(queue.read_events()) == 1
            forwarded.add((event_id, flags))
    # bad STE, stream disabled, bad substream, bad CD; translation, address size, access, permission
    assert forwarded == {(number, 0) for number in (0x04, 0x06, 0x08, 0x0A, 0x10, 0x11, 0x12, 0x13)}


@pytest.mark.parametrize(
    ("entry", "attaches"),
    [(ENTRY_ABORT, True), (ENTRY_BYPASS, True), (ENTRY_INVALID, True), (ENTRY_TRANSLATE, False)],
    ids=["abort", "bypass", "not valid", "translate"],
)
def test_only_a_table_that_translates_needs_a_virtual_device(smmu: Smmu, entry: bytes, attaches: bool) -> None:
    smmu.queue()
    table = smmu.table(entry)
    if not attaches:
        assert refused(lambda: smmu.device.attach(table)) == errno.ENOENT
        return
    smmu.device.attach(table)
    event = Smmuv3Event((STREAM | TRANSLATION, 0, 0, 0))
    assert refused(lambda: forward_smmuv3_event(smmu.device, event)) == errno.EOPNOTSUPP, "no number to report it under"
    # It looks at each attach, unlike the mock.
    smmu.context.vdevice_alloc(smmu.viommu, smmu.device, 0x77)
    smmu.device.replace(smmu.table(ENTRY_TRANSLATE))
    forward_smmuv3_event(smmu.device, event)


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ((0b0111, 0), errno.EIO),  # Config 3 is reserved
        ((0b1101, 0), errno.EIO),  # stage 2 only is not for guests
        ((1 << 52 | 0b1011, 0), errno.EIO),  # a bit between S1ContextPtr and S1CDMax
        ((0b1011, 1 << 8), errno.EIO),
        ((0b1011, 2 << 28), errno.EIO),  # EATS: split-stage ATS
        ((0b1011, 1 << 28), None),
        ((1 << 63 | 0xF_FFFF_FFFF_FFC0 & (1 << 52) - 1 | 0b11_1011, 0x0800_00FF), None),
        ((0b0110, 1 << 8), None),  # not valid: not looked at
    ],
)
def test_what_a_guests_stream_table_entry_may_say(smmu: Smmu, words: tuple[int, int], number: int | None) -> None:
    data = struct.pack("<2Q", *words)
    if number is None:
        assert smmu.table(data).data == (data if words[0] & 1 else bytes(16))
    else:
        assert refused(lambda: smmu.table(data)) == number


def test_smmuv3_has_nested_tables_on_virtual_iommus_only(smmu: Smmu) -> None:
    assert refused(lambda: smmu.context.hwpt_alloc_nested(smmu.device, smmu.parent)) == errno.EOPNOTSUPP
    table = smmu.context.hwpt_alloc_nested(smmu.device, smmu.viommu)
    assert table.made_on is smmu.viommu


def test_smmuv3_tables_are_for_no_pasid(smmu: Smmu) -> None:
    assert refused(lambda: smmu.table(ENTRY_TRANSLATE, PASID)) == errno.EOPNOTSUPP


def test_a_tegra241_wants_data_and_reports_which_queues_have_errors() -> None:
    smmu = Smmu(ViommuType.TEGRA241_CMDQV, bytes(16))
    queue = smmu.queue(VeventqType.TEGRA241_CMDQV)
    smmu.viommu.report_event(VeventqType.TEGRA241_CMDQV, CmdqvEvent((1, 1 << 63)).pack())
    assert [CmdqvEvent.unpack(event.data) for event in queue.read_events()] == [CmdqvEvent((1, 1 << 63))]
    for data in (b"", bytes(15), bytes(17)):
        assert (
            refused(
                lambda data=data: smmu.context.viommu_alloc(  # type: ignore[misc]
                    smmu.device, smmu.parent, ViommuType.TEGRA241_CMDQV, data=data
                )
            )
            == errno.EINVAL
        )
    assert refused(lambda: smmu.context.vdevice_alloc(smmu.viommu, smmu.device, 1 << 32)) == errno.EINVAL
    with pytest.raises(UsageError):
        smmu.viommu.report_event(VeventqType.TEGRA241_CMDQV, b"short")
    smmu.close()


def test_vtd_has_no_virtual_iommus(world: World) -> None:
    iommu = MockIommu(world.context.core)
    device = world.context.bind(iommu.c, 1, 64)
    assert isinstance(device, Device)
    assert not isinstance(device, MockDevice)
    parent = world.context.hwpt_alloc_paging(device, world.ioas, nest_parent=True)
    for kind in (*ViommuType, MOCK_VIOMMU_TYPE):
        assert refused(lambda kind=kind: world.context.viommu_alloc(device, parent, kind)) == errno.EOPNOTSUPP  # type: ignore[misc]
    device.unbind()
    world.context.destroy(parent)
    iommu.close()
