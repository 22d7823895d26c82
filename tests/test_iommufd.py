"""What the recorded scripts do not reach: ids in great numbers, refusals, who holds whom, and the end."""

import errno
import select
import struct
from collections.abc import Callable, Iterator

import pytest

from uring_iopf.abi.iommufd import FaultPerm, HwptAllocFlags, HwptDataType, PageResponse
from uring_iopf.core import Core
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.iommufd import (
    MOCK_DRIVER,
    MOCK_FORMAT,
    Context,
    Device,
    DriverResponse,
    FaultQueue,
    MockDevice,
    MockIommu,
    MockResponse,
    Personality,
    VirtualFunction,
)
from uring_iopf.iommufd.objects import IdAllocator

INVALID = DriverResponse.INVALID
PASID, FAULT, PARENT = HwptAllocFlags.PASID, HwptAllocFlags.FAULT_ID_VALID, HwptAllocFlags.NEST_PARENT


class World:
    """A device, a nested table with a fault queue for it, and what that takes."""

    def __init__(self, kernel: str = "6.12") -> None:
        self.context = Context(kernel=kernel)
        self.ioas = self.context.ioas_alloc()
        self.device = self.context.mock_device(self.ioas)
        assert self.device.hwpt is not None
        self.auto = self.device.hwpt
        self.queue = self.context.fault_queue_alloc()
        self.parent = self.context.hwpt_alloc_paging(self.device, self.ioas, nest_parent=True)
        self.nested = self.context.hwpt_alloc_nested(self.device, self.parent, fault=self.queue)

    def faulting(self) -> "World":
        """With the device on the nested table: one group read, one waiting, one unfinished."""
        self.device.replace(self.nested)
        self.device.report(1, 0x1000, pasid=1)
        self.queue.read(40)
        self.device.report(2, 0x2000, pasid=1)
        self.device.report(3, 0x3000, pasid=1, last=False)
        return self

    def picture(self) -> object:
        """Everything that a refused call could have changed."""
        return (
            [(one.id, type(one), one.users) for one in self.context],
            self.device.hwpt if self.device.exists else None,
            self.device.counts() if self.device.exists else None,
            self.queue.counts() if self.queue.exists else None,
            self.queue.closed,
            self.context.mock.take(),
        )


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.context.close()


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(KernelError) as caught:
        call()
    assert caught.value.errno is not None
    return caught.value.errno


# ---- ids ----


def test_ids_are_the_lowest_free_ones() -> None:
    ids = IdAllocator()
    assert [ids.take() for _ in range(5)] == [1, 2, 3, 4, 5]
    for number in (4, 2, 5):
        ids.give(number)
    assert [ids.take() for _ in range(4)] == [2, 4, 5, 6]


def test_a_million_ids_come_back_lowest_first_and_are_kept_once() -> None:
    ids = IdAllocator()
    many = 1_000_000
    assert max(ids.take() for _ in range(many)) == many
    for number in range(many, 0, -1):
        ids.give(number)
    assert sum(bits.bit_count() for bits in ids._freed.values()) == many
    assert [ids.take() for _ in range(1000)] == list(range(1, 1001))


def test_taking_and_giving_again_and_again_leaves_nothing_behind() -> None:
    ids = IdAllocator()
    for _ in range(100_000):  # each leaves it as it was
        ids.give(ids.take())
    assert (ids._freed, ids._blocks, ids._next) == ({0: 1 << 1}, [0], 2)


def test_objects_that_come_and_go_use_one_id() -> None:
    with Context() as context:
        assert {destroyed_at_once(context) for _ in range(10_000)} == {1}
        assert list(context) == []


def destroyed_at_once(context: Context) -> int:
    made = context.ioas_alloc()
    context.destroy(made)
    return made.id


def test_ids_run_out_as_the_xarray_does() -> None:
    ids = IdAllocator(last=2)
    ids.take()
    ids.take()
    assert refused(ids.take) == errno.EBUSY
    ids.give(1)
    assert ids.take() == 1


def test_an_object_that_is_gone_is_not_the_one_that_has_its_id_now() -> None:
    with Context() as context:
        old = context.ioas_alloc()
        context.destroy(old)
        new = context.ioas_alloc()
        assert new.id == old.id
        assert refused(lambda: context.destroy(old)) == errno.ENOENT
        assert context.get(old.id) is new
        context.destroy(old.id)
        assert not new.exists


def test_an_object_of_another_context_is_our_callers_mistake() -> None:
    with Context() as one, Context() as other, pytest.raises(UsageError, match="another context"):
        one.destroy(other.ioas_alloc())


def test_a_kernel_that_is_not_here_is_our_callers_mistake() -> None:
    with pytest.raises(UsageError, match=r"6\.12"):
        Context(kernel="2.6")


# ---- refusals ----

REFUSED: dict[str, tuple[int, Callable[[World], object]]] = {
    "destroy nothing": (errno.ENOENT, lambda w: w.context.destroy(0)),
    "destroy what never was": (errno.ENOENT, lambda w: w.context.destroy(99)),
    "a queue with flags": (errno.EOPNOTSUPP, lambda w: w.context.fault_queue_alloc(1)),
    "a mock device on nothing": (errno.ENOENT, lambda w: w.context.mock_device(99)),
    "a mock device on a queue": (errno.EINVAL, lambda w: w.context.mock_device(w.queue)),
    "a table for no device": (errno.ENOENT, lambda w: w.context.hwpt_alloc(99, w.ioas)),
    "a table for a device id that is a table": (errno.ENOENT, lambda w: w.context.hwpt_alloc(w.auto, w.ioas)),
    "a table on nothing": (errno.EINVAL, lambda w: w.context.hwpt_alloc(w.device, 99)),
    "a table on a queue": (errno.EINVAL, lambda w: w.context.hwpt_alloc(w.device, w.queue)),
    "a table with data of no type": (errno.EINVAL, lambda w: w.context.hwpt_alloc(w.device, w.parent, data=b"1234")),
    "a table with a type and no data": (
        errno.EINVAL,
        lambda w: w.context.hwpt_alloc(w.device, w.parent, data_type=MOCK_FORMAT.data_type),
    ),
    "a paging table with data": (
        errno.EOPNOTSUPP,
        lambda w: w.context.hwpt_alloc(w.device, w.ioas, data_type=MOCK_FORMAT.data_type, data=b"1234"),
    ),
    "a paging table with a queue": (
        errno.EOPNOTSUPP,
        lambda w: w.context.hwpt_alloc_paging(w.device, w.ioas, fault=w.queue),
    ),
    "a nest parent with a queue": (
        errno.EOPNOTSUPP,
        lambda w: w.context.hwpt_alloc_paging(w.device, w.ioas, nest_parent=True, fault=w.queue),
    ),
    "a nested table without data": (errno.EOPNOTSUPP, lambda w: w.context.hwpt_alloc(w.device, w.parent)),
    "a nested table of another vendor": (
        errno.EOPNOTSUPP,
        lambda w: w.context.hwpt_alloc(w.device, w.parent, data_type=HwptDataType.VTD_S1, data=bytes(24)),
    ),
    "a nested table with too little data": (
        errno.EINVAL,
        lambda w: w.context.hwpt_alloc(w.device, w.parent, data_type=MOCK_FORMAT.data_type, data=b"123"),
    ),
    "a nested table with too much data": (
        errno.EINVAL,
        lambda w: w.context.hwpt_alloc(w.device, w.parent, data_type=MOCK_FORMAT.data_type, data=b"1234\0"),
    ),
    "a nested table on a nested one": (errno.EINVAL, lambda w: w.context.hwpt_alloc_nested(w.device, w.nested)),
    "a nested table with no such queue": (
        errno.ENOENT,
        lambda w: w.context.hwpt_alloc_nested(w.device, w.parent, fault=99),
    ),
    "a nested table with a queue that is a table": (
        errno.ENOENT,
        lambda w: w.context.hwpt_alloc_nested(w.device, w.parent, fault=w.parent),
    ),
    "attach to the same table again": (errno.EBUSY, lambda w: w.device.attach(w.nested)),
    "attach to another table": (errno.EINVAL, lambda w: w.device.attach(w.parent)),
    "attach to the space": (errno.EINVAL, lambda w: w.device.attach(w.ioas)),
    "replace by nothing": (errno.ENOENT, lambda w: w.device.replace(99)),
    "replace by a queue": (errno.EINVAL, lambda w: w.device.replace(w.queue)),
    "replace by a device": (errno.EINVAL, lambda w: w.device.replace(w.device)),
    "read a bad length": (errno.ESPIPE, lambda w: w.queue.read(41)),
    "read into no room": (errno.EINVAL, lambda w: w.queue.read(0)),
    "read a negative length": (errno.EINVAL, lambda w: w.queue.read(-40)),
    "read more than one read can": (errno.ESPIPE, lambda w: w.queue.read(40 << 40)),
    "write a bad length": (errno.ESPIPE, lambda w: w.queue.write(bytes(7))),
    "respond with a driver's code": (errno.EINVAL, lambda w: w.queue.respond(1, DriverResponse.FAILURE)),
    "respond to a cookie that is not live": (errno.EINVAL, lambda w: w.queue.respond(2)),
}


@pytest.mark.parametrize(("number", "call"), REFUSED.values(), ids=REFUSED)
def test_a_refused_call_changes_nothing(world: World, number: int, call: Callable[[World], object]) -> None:
    world.faulting()
    before = world.picture()
    assert refused(lambda: call(world)) == number
    assert world.picture() == before


def test_a_nested_table_needs_a_parent_that_was_asked_for(world: World) -> None:
    assert refused(lambda: world.context.hwpt_alloc_nested(world.device, world.auto)) == errno.EINVAL
    plain = world.context.hwpt_alloc_paging(world.device, world.ioas)
    assert refused(lambda: world.context.hwpt_alloc_nested(world.device, plain)) == errno.EINVAL


def test_without_a_descriptor_there_is_no_queue() -> None:
    with Context() as context:
        queues = [context.fault_queue_alloc() for _ in range(1024 - 3)]
        assert [queue.fd for queue in queues] == list(range(3, 1024))
        assert refused(context.fault_queue_alloc) == errno.EMFILE
        assert len(list(context)) == len(queues)
        queues[7].close()
        assert context.fault_queue_alloc().fd == 10


@pytest.mark.parametrize(
    "call",
    [
        lambda d, w: d.attach(w.nested),
        lambda d, w: d.replace(w.nested),
        lambda d, w: d.detach(),
        lambda d, w: d.unbind(),
        lambda d, w: d.report(1, 0x1000),
        lambda d, w: d.counts(),
        lambda d, w: w.context.hwpt_alloc(d, w.ioas),
        lambda d, w: w.context.destroy(d.stdev),
    ],
    ids=["attach", "replace", "detach", "unbind", "report", "counts", "hwpt_alloc", "destroy"],
)
def test_a_device_that_is_gone_takes_no_calls(world: World, call: Callable[[MockDevice, World], object]) -> None:
    world.device.unbind()
    assert refused(lambda: call(world.device, world)) == errno.ENOENT


# ---- who holds whom ----

Deed = Callable[[World], None]
HELD: dict[str, tuple[str, list[Deed], list[Deed]]] = {  # what is held; what comes before; what lets it go
    "by its open file": ("queue", [lambda w: w.context.destroy(w.nested)], [lambda w: w.queue.close()]),
    "by a table it is for": ("queue", [lambda w: w.queue.close()], [lambda w: w.context.destroy(w.nested)]),
    "by a nested table": ("parent", [], [lambda w: w.context.destroy(w.nested)]),
    "by an attached device": (
        "nested",
        [lambda w: void(w.device.replace(w.nested))],
        [lambda w: void(w.device.replace(w.parent))],
    ),
    "by tables": (
        "ioas",
        [],
        [
            lambda w: w.context.destroy(w.nested),
            lambda w: w.context.destroy(w.parent),
            lambda w: w.device.unbind(),
        ],
    ),
}


def void(result: object) -> None:
    """Drop a result."""


@pytest.mark.parametrize(("name", "before", "let_go"), HELD.values(), ids=HELD)
def test_what_is_held_cannot_be_destroyed(world: World, name: str, before: list[Deed], let_go: list[Deed]) -> None:
    for deed in before:
        deed(world)
    for deed in let_go:
        picture = world.picture()
        assert refused(lambda: world.context.destroy(getattr(world, name))) == errno.EBUSY
        assert world.picture() == picture
        deed(world)
    world.context.destroy(getattr(world, name))
    assert not getattr(world, name).exists


@pytest.mark.parametrize("name", ["auto", "device"])
def test_what_was_made_with_a_mock_device_goes_only_with_it(world: World, name: str) -> None:
    assert refused(lambda: world.context.destroy(getattr(world, name))) == errno.EBUSY
    world.context.destroy(world.device.stdev)
    assert not getattr(world, name).exists


def test_a_table_made_for_devices_serves_them_all_and_goes_with_the_last(world: World) -> None:
    second = world.context.mock_device(world.ioas)
    assert second.hwpt is world.auto
    world.device.replace(world.parent)
    assert world.auto.exists
    second.detach()
    assert not world.auto.exists
    assert second.attach(world.ioas).id == world.auto.id
    assert second.hwpt is not world.auto


def test_a_failed_replace_by_a_space_leaves_no_table_behind(world: World) -> None:
    world.device.detach()
    before = world.picture()
    assert refused(lambda: world.device.replace(world.ioas)) == errno.EINVAL
    assert world.picture() == before


def test_detaching_twice_is_nothing_the_second_time(world: World) -> None:
    world.device.detach()
    before = world.picture()
    world.device.detach()
    assert world.picture() == before


def test_unbinding_answers_what_is_outstanding(world: World) -> None:
    world.faulting().device.unbind()
    gone = world.device.id
    assert world.context.mock.take() == [MockResponse(gone, 1, 2, INVALID), MockResponse(gone, 1, 1, INVALID)]
    assert not world.device.stdev.exists
    assert world.nested.users == 0


# ---- the queue's file ----


def test_a_closed_file_leaves_its_groups_to_detach(world: World) -> None:
    world.faulting().queue.close()
    world.device.report(4, 0x4000, pasid=1)
    counts = world.queue.counts()
    assert (counts.waiting_groups, counts.unanswered_groups) == (2, 1)
    assert world.context.mock.take() == []
    assert refused(lambda: world.context.destroy(world.queue)) == errno.EBUSY
    world.device.replace(world.parent)
    assert [answer.grpid for answer in world.context.mock.take()] == [4, 2, 1]
    world.context.destroy(world.nested)
    world.context.destroy(world.queue)


@pytest.mark.parametrize(
    "call",
    [
        lambda q: q.read(40),
        lambda q: q.read_messages(),
        lambda q: q.write(bytes(8)),
        lambda q: q.respond(1),
        lambda q: q.poll(),
        lambda q: q.fd,
        lambda q: q.set_nonblocking(True),
        lambda q: q.close(),
    ],
    ids=["read", "read_messages", "write", "respond", "poll", "fd", "set_nonblocking", "close"],
)
def test_a_closed_file_is_no_file(world: World, call: Callable[[FaultQueue], object]) -> None:
    world.queue.close()
    assert refused(lambda: call(world.queue)) == errno.EBADF


def test_a_group_goes_to_the_client_and_back(world: World) -> None:
    world.device.replace(world.nested)
    write = FaultPerm.READ | FaultPerm.WRITE
    world.device.report(7, 0x1000, pasid=5, perm=write, last=False)
    assert not world.queue.poll() & select.POLLIN
    world.device.report(7, 0x2000, pasid=5)
    assert world.queue.poll() & select.POLLIN
    assert world.queue.read_messages() == [
        (1, world.device.id, 5, 7, write, 0x1000, 0, 1),
        (3, world.device.id, 5, 7, FaultPerm.READ, 0x2000, 0, 1),
    ]
    world.queue.respond(1, PageResponse.INVALID)
    assert world.context.mock.take() == [MockResponse(world.device.id, 5, 7, INVALID)]
    assert world.queue.counts() == (1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0)
    assert world.device.counts() == (2, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("data", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_a_write_says_how_far_it_came(world: World, data: Callable[[bytes], bytes]) -> None:
    world.device.replace(world.nested)
    for group in (1, 2, 3):
        world.device.report(group, 0x1000)
    world.queue.read_messages()
    assert world.queue.write(data(struct.pack("<6I", 3, 0, 9, 0, 1, 0))) == 8
    assert [answer.grpid for answer in world.context.mock.take()] == [3]


def test_a_group_larger_than_the_read_stays(world: World) -> None:
    world.device.replace(world.nested)
    world.device.report(1, 0x1000, last=False)
    world.device.report(1, 0x2000)
    assert refused(lambda: world.queue.read_messages(1)) == errno.EINVAL
    assert len(world.queue.read_messages(2)) == 2


@pytest.mark.parametrize(("live", "cookies"), [(0, [1, 2]), (1, [0, 2]), (2, [0, 3])])
def test_an_answer_to_cookie_0_frees_it_while_another_is_live(world: World, live: int, cookies: list[int]) -> None:
    """Linux's own accident: see ``cdefs/faults/faultq.c``."""
    world.device.replace(world.nested)
    for group in range(live):
        world.device.report(group, 0x1000)
    assert len(world.queue.read_messages()) == live
    assert refused(lambda: world.queue.respond(0)) == errno.EINVAL
    for group in range(2):
        world.device.report(100 + group, 0x1000)
    assert [message.cookie for message in world.queue.read_messages()] == cookies
    world.queue.respond(cookies[0])
    assert [answer.grpid for answer in world.context.mock.take()] == [100]
    world.device.detach()
    rest = [answer.grpid for answer in world.context.mock.take()]
    assert rest == [*range(live), 101]


def test_only_the_proposed_file_says_not_yet() -> None:
    with Context() as context:
        merged = context.fault_queue_alloc()
        proposed = context.fault_queue_alloc(personality=Personality.PROPOSED)
        assert merged.read(40) == b""
        assert refused(lambda: proposed.read(40)) == errno.EAGAIN
        assert proposed.read(0) == b""
        assert refused(lambda: proposed.read(39)) == errno.ESPIPE


# ---- devices of any IOMMU ----


def test_a_bound_device_starts_detached_and_is_its_drivers(world: World) -> None:
    iommu = MockIommu(world.context.core)
    unbound: list[str] = []
    device = world.context.bind(iommu.c, 0x10, 64, driver=MOCK_DRIVER, on_unbind=lambda: unbound.append("yes"))
    assert device.hwpt is None
    assert device.attach(world.ioas) is not world.auto, "another IOMMU's table does not fit"
    assert refused(lambda: device.replace(world.nested)) == errno.EINVAL
    assert refused(lambda: world.context.hwpt_alloc_nested(device, world.parent)) == errno.EINVAL
    assert refused(lambda: world.context.destroy(device)) == errno.EBUSY
    device.unbind()
    assert unbound == ["yes"]
    assert not device.exists
    iommu.close()


def test_a_device_that_outran_its_capacity_is_answered_failure(world: World) -> None:
    iommu = MockIommu(world.context.core)
    device = world.context.bind(iommu.c, 0x10, 256, driver=MOCK_DRIVER)
    parent = world.context.hwpt_alloc_paging(device, world.ioas, nest_parent=True)
    device.attach(world.context.hwpt_alloc_nested(device, parent, fault=world.queue))
    for group in range(257):
        device.report(group, 0x1000)
    assert iommu.take() == [MockResponse(device.id, 0, 256, DriverResponse.FAILURE)]
    device.unbind()
    iommu.close()


def test_a_mock_device_grows_with_what_it_has_outstanding(world: World) -> None:
    world.device.replace(world.nested)
    many = 5000
    for group in range(many):
        world.device.report(group, 0x1000, last=False)
        world.device.report(group, 0x2000)
    assert [message.grpid for message in world.queue.read_messages(2 * many)][::2] == list(range(many))
    world.device.detach()
    assert world.context.mock.take() == [MockResponse(world.device.id, 0, group, INVALID) for group in range(many)]


# ---- virtual functions, and other rules of a version ----

PLAIN, WITH_QUEUE = "a plain table", "a table with a queue"


@pytest.mark.parametrize(
    ("kernel", "function", "to", "number"),
    [
        ("6.12", None, WITH_QUEUE, 0),
        ("6.12", VirtualFunction(pf_has_pri=True), PLAIN, 0),
        ("6.12", VirtualFunction(pf_has_pri=True), WITH_QUEUE, errno.EINVAL),
        ("6.12", VirtualFunction(pf_has_pri=False), WITH_QUEUE, errno.EINVAL),
        ("7.2", None, WITH_QUEUE, 0),
        ("7.2", VirtualFunction(pf_has_pri=True), PLAIN, 0),
        ("7.2", VirtualFunction(pf_has_pri=True), WITH_QUEUE, errno.EINVAL),
        ("7.2", VirtualFunction(pf_has_pri=False), WITH_QUEUE, 0),
    ],
)
@pytest.mark.parametrize("attached_before", [False, True], ids=["attach", "replace"])
def test_virtual_functions_may_not_always_have_faults(
    kernel: str, function: VirtualFunction | None, to: str, number: int, attached_before: bool
) -> None:
    world = World(kernel)
    with world.context as context:
        iommu = MockIommu(context.core)
        device = context.bind(iommu.c, 0, 64, driver=MOCK_DRIVER, virtual_function=function)
        parent = context.hwpt_alloc_paging(device, world.ioas, nest_parent=True)
        tables = {PLAIN: parent, WITH_QUEUE: context.hwpt_alloc_nested(device, parent, fault=world.queue)}
        if attached_before:
            device.attach(world.ioas)
        call = device.replace if attached_before else device.attach
        if number:
            old = device.hwpt
            assert refused(lambda: call(tables[to])) == number
            assert device.hwpt is old
        else:
            assert call(tables[to]) is tables[to]
        device.unbind()
        iommu.close()


@pytest.mark.parametrize(
    ("kernel", "flags", "number"),
    [
        ("6.12", FAULT, errno.EOPNOTSUPP),
        ("7.2", FAULT, 0),
        ("6.12", PASID, errno.EOPNOTSUPP),
        ("7.2", PASID, 0),
        ("6.12", PARENT, 0),
        ("7.2", PARENT | FAULT, errno.EOPNOTSUPP),
        ("7.2", 0x10, errno.EOPNOTSUPP),
    ],
)
def test_what_a_paging_table_may_have_is_the_versions_choice(kernel: str, flags: int, number: int) -> None:
    world = World(kernel)
    with world.context as context:
        if number:
            assert refused(lambda: context.hwpt_alloc(world.device, world.ioas, flags, fault=world.queue)) == number
        else:
            made = context.hwpt_alloc(world.device, world.ioas, flags, fault=world.queue)
            assert made.fault is (world.queue if flags & FAULT else None)


def test_a_paging_table_takes_faults_without_a_pasid_only() -> None:
    world = World("7.2")
    with world.context as context:
        world.device.replace(context.hwpt_alloc_paging(world.device, world.ioas, fault=world.queue))
        world.device.report(1, 0x1000)
        assert refused(lambda: world.device.report(2, 0x1000, pasid=1)) == errno.EINVAL
        assert [message.grpid for message in world.queue.read_messages()] == [1]


# ---- the end ----


def test_closing_a_context_answers_and_frees_everything(world: World) -> None:
    core, context = world.context.core, world.faulting().context
    context.close()
    assert [answer.grpid for answer in context.mock.take()] == [2, 1]
    assert list(context) == []
    assert world.queue.closed
    with pytest.raises(UsageError, match="closed"):
        core.now_ns()
    context.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.ioas_alloc(),
        lambda c: c.fault_queue_alloc(),
        lambda c: c.hwpt_alloc(1, 1),
        lambda c: c.hwpt_alloc_paging(1, 1),
        lambda c: c.hwpt_alloc_nested(1, 1),
        lambda c: c.destroy(1),
        lambda c: c.mock_device(1),
        lambda c: c.mock,
    ],
)
def test_a_closed_context_takes_no_calls(call: Callable[[Context], object]) -> None:
    context = Context()
    context.close()
    assert refused(lambda: call(context)) == errno.EBADF


def test_a_given_core_stays_open_and_serves_several_contexts() -> None:
    with Core() as core:
        with Context(core) as one, Context(core) as other:
            assert one.ioas_alloc().id == other.ioas_alloc().id == 1
            assert one.fault_queue_alloc().fd != other.fault_queue_alloc().fd
        assert core.now_ns() == 0


def test_a_bound_device_is_unbound_before_its_iommu_may_go() -> None:
    with Core() as core:
        iommu = MockIommu(core)
        order: list[str] = []
        with Context(core) as context:
            device: Device = context.bind(
                iommu.c, 1, 64, driver=MOCK_DRIVER, on_unbind=lambda: order.append("detached")
            )
            ioas, queue = context.ioas_alloc(), context.fault_queue_alloc()
            parent = context.hwpt_alloc_paging(device, ioas, nest_parent=True)
            device.attach(context.hwpt_alloc_nested(device, parent, fault=queue))
            device.report(9, 0x1000, pasid=2)
        assert order == ["detached"]
        iommu.close()
        assert iommu.take() == [MockResponse(device.id, 2, 9, INVALID)]
