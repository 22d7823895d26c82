"""The ioctls by number and struct: every check of each, what comes back, and that refusals leave nothing behind."""

import errno
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uring_iopf._core import ffi
from uring_iopf.abi.iommufd import (
    HwInfoFlags,
    HwInfoType,
    HwptAllocFlags,
    IoasMapFlags,
    IoctlNr,
    OptionId,
    OptionOp,
    PageResponse,
    VeventqType,
    VfioIoasOp,
)
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.iommufd import (
    IOAS,
    MOCK_VIOMMU_TYPE,
    ClientMemory,
    Context,
    Device,
    FaultQueue,
    Mapping,
    MockDevice,
    PagingHWPT,
    ReportQueue,
    Vdevice,
    Viommu,
    VirtualEventQueue,
)
from uring_iopf.iommufd.objects import Object
from uring_iopf.iommufd.uapi.operations import OPERATIONS, Operation, operations

DOC = Path(__file__).parent.parent / "docs" / "reference" / "ioctl.md"
U64 = 2**64 - 1
VA = 0x7F00_0000_0000
AT = 0x5000_0000
"""Where a test's client memory begins."""
FIXED, WRITE, READ = IoasMapFlags.FIXED_IOVA, IoasMapFlags.WRITEABLE, IoasMapFlags.READABLE
BY_NR = {one.nr: one for one in OPERATIONS}
NEW = [one.nr for one in OPERATIONS if one.since == "7.2"]

KNOWN = {
    name: getattr(errno, name)
    for name in [
        "E2BIG",
        "EADDRINUSE",
        "EBADF",
        "EBUSY",
        "EEXIST",
        "EFAULT",
        "EINVAL",
        "EIO",
        "EMSGSIZE",
        "ENODEV",
        "ENOENT",
        "ENOSPC",
        "ENOTTY",
        "EOPNOTSUPP",
        "EOVERFLOW",
        "EPERM",
    ]
}
"""What a call can be refused with; the page lists them."""
NAMES = {number: name for name, number in KNOWN.items()}


class Refused(Exception):
    """A call's errno, and the struct as it is then."""

    def __init__(self, number: int, cmd: Any) -> None:
        super().__init__(NAMES[number])
        self.cmd = cmd


class Client:
    """A context with what calls can name, made through ioctls: an address space, a fault queue; and two devices."""

    def __init__(self, kernel: str = "6.12") -> None:
        self.context = Context(kernel=kernel)
        self.memory = ClientMemory()
        self.window = bytearray(256)
        self.memory.add(AT, self.window)
        self.ioas = self.call(IoctlNr.IOAS_ALLOC).out_ioas_id
        self.mock = self.context.mock_device(self.ioas)
        self.vtd = self.context.bind(self.context.mock.c, 9, 4)
        made = self.call(IoctlNr.FAULT_QUEUE_ALLOC)
        self.queue, self.fd = made.out_fault_id, made.out_fault_fd
        self.parent = self.call(
            IoctlNr.HWPT_ALLOC, dev_id=self.mock.id, pt_id=self.ioas, flags=HwptAllocFlags.NEST_PARENT
        ).out_hwpt_id

    def call(self, nr: IoctlNr, **fields: Any) -> Any:
        """One ioctl with a full struct; returns the struct. Raises: Refused."""
        cmd = ffi.new(f"struct {BY_NR[nr].struct} *", {"size": BY_NR[nr].size, **fields})
        self.raw(nr.request, ffi.buffer(cmd), cmd)
        return cmd

    def raw(self, request: int, arg: Any, cmd: Any = None) -> None:
        try:
            given = None if arg is None else memoryview(arg)
            assert self.context.ioctl(request, given, self.memory) == 0
        except KernelError as error:
            raise Refused(error.errno or 0, cmd) from error

    def errno(self, nr: IoctlNr, **fields: Any) -> str:
        """How one ioctl is refused, which leaves all as it was."""
        return self.refused(lambda: self.call(nr, **fields))

    def refused(self, call: Callable[[], object]) -> str:
        before = picture(self.context)
        with pytest.raises(Refused) as caught:
            call()
        assert picture(self.context) == before
        return str(caught.value)

    def get(self, number: int, kind: type[Any]) -> Any:
        found = self.context.get(number)
        assert isinstance(found, kind)
        return found


def picture(context: Context) -> object:
    """What clients could tell apart, mappings too."""
    return [(one.id, type(one), one.users, spaces(one), files(one), attached(one)) for one in context]


def spaces(one: Object) -> object:
    if not isinstance(one, IOAS):
        return None
    return list(one.mappings()), one.iova_ranges(), one.iova_alignment, one.large_pages


def files(one: Object) -> object:
    return (one.fd, one.counts()) if isinstance(one, FaultQueue) else None


def attached(one: Object) -> object:
    return one.hwpt.id if isinstance(one, Device) and one.hwpt else None


@pytest.fixture(params=["6.12", "7.2"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    made = Client(request.param)
    yield made
    made.context.close()


@pytest.fixture
def new() -> Iterator[Client]:
    made = Client("7.2")
    yield made
    made.context.close()


@pytest.fixture
def old() -> Iterator[Client]:
    made = Client("6.12")
    yield made
    made.context.close()


# ---- the table ----

MINIMA = {
    "DESTROY": 8,
    "IOAS_ALLOC": 12,
    "IOAS_ALLOW_IOVAS": 24,
    "IOAS_COPY": 40,
    "IOAS_IOVA_RANGES": 32,
    "IOAS_MAP": 40,
    "IOAS_UNMAP": 24,
    "OPTION": 24,
    "VFIO_IOAS": 12,
    "HWPT_ALLOC": 24,
    "GET_HW_INFO": 32,
    "HWPT_SET_DIRTY_TRACKING": 16,
    "HWPT_GET_DIRTY_BITMAP": 48,
    "HWPT_INVALIDATE": 32,
    "FAULT_QUEUE_ALLOC": 16,
    "IOAS_MAP_FILE": 40,
    "VIOMMU_ALLOC": 24,
    "VDEVICE_ALLOC": 24,
    "IOAS_CHANGE_PROCESS": 8,
    "VEVENTQ_ALLOC": 28,
    "HW_QUEUE_ALLOC": 40,
}


def test_every_number_has_its_operation_and_minimum() -> None:
    assert {one.nr.name: one.minimum for one in OPERATIONS} == MINIMA
    assert [one.nr for one in OPERATIONS] == list(IoctlNr)
    assert {*operations("7.2")} - {*operations("6.12")} == set(range(0x8F, 0x95))


def test_the_page_lists_every_operation() -> None:
    row = re.compile(r"^\| (0x3b\w\w) \| `IOMMU_(\w+)` \| (\d+) \| (\d+) \| ([\d.]+) \|", re.MULTILINE)
    listed = [(int(one[0], 16), one[1], int(one[2]), int(one[3]), one[4]) for one in row.findall(DOC.read_text())]
    assert listed == [(one.nr.request, one.nr.name, one.minimum, one.size, one.since) for one in OPERATIONS]


# ---- before the operation ----


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.nr.name)
def test_sizes_are_checked_before_anything_else(one: Operation) -> None:
    made = Client("7.2")
    request, size = one.nr.request, one.size
    long = bytearray(struct.pack("=I", size + 16).ljust(size + 16, b"\0"))
    cases = {
        "too short for its size": (bytes(3), "EFAULT"),
        "size 0": (bytes(64), "EINVAL"),
        "below the minimum": (struct.pack("=I", one.minimum - 1).ljust(64, b"\xff"), "EINVAL"),
        "shorter than it says": (struct.pack("=I", size).ljust(size - 1, b"\0"), "EFAULT"),
        "shorter than it says, beyond the struct": (bytes(long[:-1]), "EFAULT"),
        "an unknown tail": (bytes(long[:-1]) + b"\1", "E2BIG"),
    }
    for why, (data, expected) in cases.items():
        assert made.refused(lambda data=data: made.raw(request, bytearray(data))) == expected, why  # type: ignore[misc]
    made.context.close()


def test_a_tail_of_zeros_is_taken_and_left_alone(client: Client) -> None:
    arg = bytearray(struct.pack("=4I", 16, 0, 0xFFFF_FFFF, 0))
    client.raw(IoctlNr.IOAS_ALLOC.request, arg)
    number = max(one.id for one in client.context)
    assert arg == struct.pack("=4I", 16, 0, number, 0)
    longer = bytearray(struct.pack("=4I", 12, 0, 0, 0xABCD))
    client.raw(IoctlNr.IOAS_ALLOC.request, longer)
    assert longer == struct.pack("=4I", 12, 0, number + 1, 0xABCD), "nothing beyond size is read or written"


def test_a_short_struct_gets_back_as_much_as_it_brought(client: Client) -> None:
    arg = bytearray(struct.pack("=6I", 24, 0, client.mock.id, client.ioas, 0, 0)) + bytearray(b"\xee" * 24)
    client.raw(IoctlNr.HWPT_ALLOC.request, arg)
    client.get(struct.unpack_from("=I", arg, 16)[0], PagingHWPT)
    assert arg[24:] == b"\xee" * 24


@pytest.mark.parametrize("request_number", [0, 0x7F, 0x3B00, 0x3B7F, 0x3B95, 0x3BFF, 0x3B64, 0x3B71, -1])
def test_numbers_outside_the_table_are_not_looked_at(client: Client, request_number: int) -> None:
    assert client.refused(lambda: client.raw(request_number, b"")) == "ENOTTY"


@pytest.mark.parametrize("wrong", [0x80, 0x3C80, 0x4000_3B80, 0x8004_3B80, 0x0008_3B80])
def test_a_request_is_more_than_its_number(client: Client, wrong: int) -> None:
    assert client.refused(lambda: client.raw(wrong, bytearray(8))) == "ENOTTY"
    assert client.refused(lambda: client.raw(wrong, bytearray(3))) == "EFAULT", "its size is read first"
    assert client.refused(lambda: client.raw(wrong, None)) == "EFAULT", "a null pointer"


def test_bits_beyond_32_are_cut_off(client: Client) -> None:
    client.raw(0xFFFF_0000_0000_0000 | IoctlNr.IOAS_ALLOC.request, bytearray(struct.pack("=3I", 12, 0, 0)))


@pytest.mark.parametrize("nr", NEW, ids=lambda nr: nr.name)
def test_an_older_kernel_does_not_know_newer_numbers(old: Client, nr: IoctlNr) -> None:
    assert old.refused(lambda: old.raw(nr.request, b"")) == "ENOTTY"


def test_a_closed_context_is_a_closed_file() -> None:
    context = Context()
    context.close()
    with pytest.raises(KernelError) as caught:
        context.ioctl(IoctlNr.IOAS_ALLOC.request, bytearray(12))
    assert caught.value.errno == errno.EBADF


# ---- read-only structs ----


@pytest.mark.parametrize(
    ("nr", "fields"),
    [
        (IoctlNr.IOAS_ALLOC, {}),
        (IoctlNr.FAULT_QUEUE_ALLOC, {}),
        (IoctlNr.HWPT_ALLOC, {"dev_id": "mock", "pt_id": "ioas"}),
        (IoctlNr.GET_HW_INFO, {"dev_id": "mock"}),
        (IoctlNr.HWPT_INVALIDATE, {"__reserved": 1}),
        (IoctlNr.OPTION, {"option_id": OptionId.HUGE_PAGES, "op": OptionOp.GET, "object_id": "ioas"}),
    ],
    ids=lambda value: value.name if isinstance(value, IoctlNr) else "",
)
def test_what_cannot_be_told_is_not_made(client: Client, nr: IoctlNr, fields: dict[str, Any]) -> None:
    named = {"mock": client.mock.id, "ioas": client.ioas}
    cmd = ffi.new(
        f"struct {BY_NR[nr].struct} *",
        {"size": BY_NR[nr].size} | {name: named.get(value, value) for name, value in fields.items()},
    )
    assert client.refused(lambda: client.raw(nr.request, bytes(ffi.buffer(cmd)))) == "EFAULT"
    assert client.call(IoctlNr.FAULT_QUEUE_ALLOC).out_fault_fd == client.fd + 1, "its descriptor is free again"


def test_a_mapping_that_cannot_be_told_stays(client: Client) -> None:
    """As Linux, which does not take it back."""
    fresh = client.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    cmd = ffi.new("struct iommu_ioas_map *", {"size": 40, "flags": READ, "ioas_id": fresh, "length": 4096})
    with pytest.raises(Refused, match="EFAULT"):
        client.raw(IoctlNr.IOAS_MAP.request, bytes(ffi.buffer(cmd)))
    assert len(list(client.get(fresh, IOAS).mappings())) == 1


def test_destroy_writes_nothing(client: Client) -> None:
    fresh = client.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    client.raw(IoctlNr.DESTROY.request, struct.pack("=2I", 8, fresh))
    with pytest.raises(KernelError):
        client.context.get(fresh)


# ---- objects ----


def test_destroy(client: Client) -> None:
    assert client.errno(IoctlNr.DESTROY, id=0) == "ENOENT"
    assert client.errno(IoctlNr.DESTROY, id=0xFFFF_FFFF) == "ENOENT"
    assert client.errno(IoctlNr.DESTROY, id=client.ioas) == "EBUSY"
    client.call(IoctlNr.DESTROY, id=client.parent)
    assert client.errno(IoctlNr.DESTROY, id=client.parent) == "ENOENT"


def test_a_space_is_made(client: Client) -> None:
    assert client.errno(IoctlNr.IOAS_ALLOC, flags=1) == "EOPNOTSUPP"
    number = client.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    client.get(number, IOAS)


def test_a_fault_queue_is_made_with_its_descriptor(client: Client) -> None:
    assert client.errno(IoctlNr.FAULT_QUEUE_ALLOC, flags=1) == "EOPNOTSUPP"
    queue = client.get(client.queue, FaultQueue)
    assert queue.fd == client.fd
    made = client.call(IoctlNr.FAULT_QUEUE_ALLOC)
    assert (made.out_fault_id, made.out_fault_fd) == (client.parent + 1, client.fd + 1)


def test_a_queue_made_by_ioctl_takes_faults(client: Client) -> None:
    nested = client.call(
        IoctlNr.HWPT_ALLOC,
        dev_id=client.mock.id,
        pt_id=client.parent,
        flags=HwptAllocFlags.FAULT_ID_VALID,
        fault_id=client.queue,
        data_type=0xDEAD,
        data_len=4,
        data_uptr=AT,
    ).out_hwpt_id
    client.mock.replace(nested)
    client.mock.report(3, 0x1000, pasid=1)
    queue = client.get(client.queue, FaultQueue)
    (message,) = queue.read_messages()
    assert (message.dev_id, message.addr) == (client.mock.id, 0x1000)
    queue.respond(message.cookie, PageResponse.SUCCESS)


def test_generic_reports_lengthen_the_queues_struct(client: Client) -> None:
    def request(kind: int, reserved: int = 0, flags: int = 0) -> tuple[int, ...]:
        arg = bytearray(struct.pack("=6I", 24, flags, 0, 0, kind, reserved))
        client.raw(IoctlNr.FAULT_QUEUE_ALLOC.request, arg)
        return struct.unpack("=6I", arg)

    assert client.refused(lambda: request(1)) == "E2BIG", "not without the switch"
    request(0)
    client.context.generic_reports = True
    assert client.refused(lambda: request(0, reserved=1)) == "EOPNOTSUPP"
    assert client.refused(lambda: request(1, flags=1)) == "EOPNOTSUPP"
    assert client.refused(lambda: request(77)) == "EOPNOTSUPP", "no such type"
    number = client.call(IoctlNr.FAULT_QUEUE_ALLOC).out_fault_id
    client.get(number, FaultQueue)
    size, _, number, fd, kind, reserved = request(1)
    assert (size, kind, reserved) == (24, 1, 0)
    assert client.get(number, ReportQueue).fd == fd
    assert client.get(number, ReportQueue).type == 1
    client.get(request(0)[2], FaultQueue)


# ---- mappings ----


def test_map_checks_in_linuxs_order(client: Client) -> None:
    """Each case has every mistake that is looked for later, too."""
    wrong: dict[str, Any] = {"flags": 8, "__reserved": 1, "length": U64, "iova": U64, "ioas_id": 0}
    nr = IoctlNr.IOAS_MAP
    assert client.errno(nr, **wrong) == "EOPNOTSUPP"
    wrong["flags"] = FIXED
    assert client.errno(nr, **wrong) == "EOPNOTSUPP"
    wrong["__reserved"] = 0
    assert client.errno(nr, **wrong) == "EOVERFLOW"
    wrong["length"] = 0
    assert client.errno(nr, **wrong) == "EOVERFLOW"
    wrong["iova"] = 1
    assert client.errno(nr, **wrong) == "EINVAL"
    wrong["flags"] = FIXED | READ
    assert client.errno(nr, **wrong) == "ENOENT"
    wrong["ioas_id"] = client.queue
    assert client.errno(nr, **wrong) == "ENOENT"
    wrong |= {"ioas_id": client.ioas, "user_va": U64}
    assert client.errno(nr, **wrong) == "EINVAL"
    wrong["length"] = 2
    assert client.errno(nr, **wrong) == "EOVERFLOW"
    wrong["user_va"] = 1
    assert client.errno(nr, **wrong) == "EINVAL"
    assert client.errno(nr, flags=READ, iova=U64, length=4096, ioas_id=client.ioas) == "EOVERFLOW", "though unused"


def test_map_tells_where(client: Client) -> None:
    fresh = client.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    made = client.call(IoctlNr.IOAS_MAP, flags=READ, ioas_id=fresh, user_va=VA, length=0x2000, iova=0x77)
    assert made.iova == 0x2000
    made = client.call(IoctlNr.IOAS_MAP, flags=FIXED | WRITE, ioas_id=fresh, user_va=VA, length=9, iova=0x77)
    assert made.iova == 0x77
    assert list(client.get(fresh, IOAS).mappings()) == [
        Mapping(0x77, 9, VA, None, False, True, True),
        Mapping(0x2000, 0x2000, VA, None, True, False, False),
    ]
    assert client.errno(IoctlNr.IOAS_MAP, flags=FIXED | READ, ioas_id=fresh, length=1, iova=0x7F) == "EEXIST"


def test_map_file(new: Client) -> None:
    nr, fresh = IoctlNr.IOAS_MAP_FILE, new.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    wrong: dict[str, Any] = {"flags": 8, "length": U64, "iova": 0, "ioas_id": 0, "fd": -1, "start": U64}
    assert new.errno(nr, **wrong) == "EOPNOTSUPP"
    wrong["flags"] = FIXED
    assert new.errno(nr, **wrong) == "EOVERFLOW"
    wrong["length"] = 0
    assert new.errno(nr, **wrong) == "EINVAL"
    wrong["flags"] = FIXED | READ | WRITE
    assert new.errno(nr, **wrong) == "ENOENT"
    wrong["ioas_id"] = fresh
    assert new.errno(nr, **wrong) == "EINVAL"
    wrong["length"] = 2
    assert new.errno(nr, **wrong) == "EOVERFLOW"
    wrong["start"] = 0x5001
    assert new.errno(nr, **wrong) == "EBADF"
    wrong["fd"] = 12
    assert new.call(nr, **wrong).iova == 0
    assert list(new.get(fresh, IOAS).mappings()) == [Mapping(0, 2, 0x5001, 12, True, True, True)]


def test_copy_checks_the_source_first(client: Client) -> None:
    nr, fresh = IoctlNr.IOAS_COPY, client.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    client.call(IoctlNr.IOAS_MAP, flags=FIXED | READ, ioas_id=fresh, user_va=VA, length=0x2000, iova=0x1000)
    wrong: dict[str, Any] = {"flags": 8, "length": U64, "src_iova": U64, "dst_iova": U64}
    assert client.errno(nr, **wrong) == "EOPNOTSUPP"
    wrong["flags"] = FIXED
    for name in ("length", "src_iova", "dst_iova"):
        assert client.errno(nr, **wrong) == "EOVERFLOW"
        wrong[name] = 0
    assert client.errno(nr, **wrong) == "EINVAL"
    wrong["flags"] = FIXED | WRITE
    assert client.errno(nr, **wrong) == "ENOENT"
    wrong["src_ioas_id"] = fresh
    assert client.errno(nr, **wrong) == "EINVAL", "no length"
    wrong["length"] = 0x2000
    assert client.errno(nr, **wrong) == "ENOENT", "not mapped"
    wrong["src_iova"] = 0x1000
    assert client.errno(nr, **wrong) == "ENOENT", "no such destination"
    wrong["dst_ioas_id"] = fresh
    assert client.errno(nr, **wrong) == "EEXIST"
    wrong["dst_iova"] = 0x10000
    assert client.errno(nr, **wrong) == "EPERM"
    wrong["flags"] = READ
    assert client.call(nr, **wrong).dst_iova == 0x4000
    assert list(client.get(fresh, IOAS).mappings())[1] == Mapping(0x4000, 0x2000, VA, None, True, False, False)


def test_unmap(client: Client) -> None:
    nr, fresh = IoctlNr.IOAS_UNMAP, client.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    assert client.errno(nr, iova=0, length=U64) == "ENOENT"
    assert client.errno(nr, ioas_id=fresh, iova=1, length=U64) == "EOVERFLOW"
    assert client.errno(nr, ioas_id=fresh, iova=U64, length=1) == "EOVERFLOW"
    assert client.errno(nr, ioas_id=fresh, iova=5, length=0) == "EINVAL"
    assert client.errno(nr, ioas_id=fresh, iova=5, length=5) == "ENOENT"
    assert client.call(nr, ioas_id=fresh, length=U64).length == 0
    for iova in (0x1000, 0x9000):
        client.call(IoctlNr.IOAS_MAP, flags=FIXED | READ, ioas_id=fresh, length=0x1000, iova=iova)
    assert client.call(nr, ioas_id=fresh, iova=0, length=0x9000).length == 0x1000
    assert client.call(nr, ioas_id=fresh, iova=0, length=U64).length == 0x1000


def test_ranges_are_told_as_far_as_there_is_room(client: Client) -> None:
    nr = IoctlNr.IOAS_IOVA_RANGES
    ioas = client.get(client.ioas, IOAS)
    ioas.reserve("device", 0x2000_0000, 0x2FFF_FFFF)
    assert client.errno(nr, ioas_id=0, __reserved=1) == "EOPNOTSUPP"
    assert client.errno(nr, ioas_id=0, num_iovas=9, allowed_iovas=1) == "ENOENT"
    assert client.errno(nr, ioas_id=client.ioas, num_iovas=2, allowed_iovas=AT + 256 - 16) == "EFAULT"
    with pytest.raises(Refused, match="EMSGSIZE") as caught:
        client.call(nr, ioas_id=client.ioas, num_iovas=1, allowed_iovas=AT)
    assert (caught.value.cmd.num_iovas, caught.value.cmd.out_iova_alignment) == (2, ioas.iova_alignment)
    assert struct.unpack_from("=4Q", client.window) == (1 << 24, 0x1FFF_FFFF, 0, 0)
    made = client.call(nr, ioas_id=client.ioas, num_iovas=3, allowed_iovas=AT)
    assert made.num_iovas == 2
    assert struct.unpack_from("=6Q", client.window) == (1 << 24, 0x1FFF_FFFF, 0x3000_0000, (1 << 31) - 1, 0, 0)
    with pytest.raises(Refused, match="EMSGSIZE"):
        client.call(nr, ioas_id=client.ioas)


def test_allowed_ranges_are_read_one_by_one(client: Client) -> None:
    nr, fresh = IoctlNr.IOAS_ALLOW_IOVAS, client.call(IoctlNr.IOAS_ALLOC).out_ioas_id

    def allow(*ranges: tuple[int, int], at: int = AT, count: int | None = None) -> Any:
        struct.pack_into(f"={2 * len(ranges)}Q", client.window, at - AT, *(end for one in ranges for end in one))
        return client.call(nr, ioas_id=fresh, num_iovas=len(ranges) if count is None else count, allowed_iovas=at)

    assert client.errno(nr, __reserved=1) == "EOPNOTSUPP"
    assert client.errno(nr, num_iovas=1, allowed_iovas=1) == "ENOENT"
    assert client.errno(nr, ioas_id=fresh, num_iovas=1, allowed_iovas=U64 - 3) == "EFAULT"
    assert client.refused(lambda: allow((7, 7), at=AT + 240, count=0xFFFF_FFFF)) == "EINVAL", (
        "before what cannot be read"
    )
    assert client.refused(lambda: allow((7, 9), at=AT + 240, count=2)) == "EFAULT"
    assert client.refused(lambda: allow((7, 9), (1, 7))) == "EINVAL"
    allow((0x5000, 0x5FFF))
    made = client.call(IoctlNr.IOAS_MAP, flags=READ, ioas_id=fresh, user_va=VA, length=0x1000)
    assert made.iova == 0x5000
    client.call(nr, ioas_id=fresh, num_iovas=0, allowed_iovas=1)
    client.get(fresh, IOAS).reserve("device", 0x8000, 0x8FFF)
    assert client.refused(lambda: allow((0, 0x8000))) == "EADDRINUSE"


def test_change_process_is_for_files_only(new: Client) -> None:
    nr = IoctlNr.IOAS_CHANGE_PROCESS
    assert new.errno(nr, __reserved=1) == "EOPNOTSUPP"
    fresh = new.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    new.call(IoctlNr.IOAS_MAP_FILE, flags=READ, ioas_id=fresh, fd=3, length=4096)
    new.call(nr)
    new.call(IoctlNr.IOAS_MAP, flags=READ, ioas_id=fresh, length=4096)
    assert new.errno(nr) == "EINVAL"


# ---- options ----


def test_the_mode_of_charging_is_chosen_before_there_is_anything() -> None:
    with Context() as context:

        def option(op: int, value: int = 0, **fields: int) -> int:
            cmd = ffi.new("struct iommu_option *", {"size": 24, "op": op, "val64": value, **fields})
            context.ioctl(IoctlNr.OPTION.request, memoryview(ffi.buffer(cmd)))
            return int(cmd.val64)

        def refused(*args: int, **fields: int) -> str:
            with pytest.raises(KernelError) as caught:
                option(*args, **fields)
            return NAMES[caught.value.errno or 0]

        assert option(OptionOp.GET, 7) == 0
        assert refused(OptionOp.SET, 2) == "EINVAL"
        assert refused(2) == "EOPNOTSUPP"
        assert refused(OptionOp.GET, object_id=1) == "EOPNOTSUPP"
        assert refused(OptionOp.GET, __reserved=1) == "EOPNOTSUPP"
        assert refused(OptionOp.GET, option_id=2) == "EOPNOTSUPP"
        assert option(OptionOp.SET, 1) == 1
        assert option(OptionOp.GET) == 1
        context.ioas_alloc()
        assert refused(OptionOp.SET, 2) == "EBUSY"
        assert option(OptionOp.GET) == 1


def test_large_pages_are_an_option_of_a_space(client: Client) -> None:
    fresh = client.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    fields = {"option_id": OptionId.HUGE_PAGES, "object_id": fresh}
    nr = IoctlNr.OPTION
    assert client.call(nr, op=OptionOp.GET, **fields).val64 == 1
    assert client.errno(nr, op=9, option_id=OptionId.HUGE_PAGES) == "ENOENT"
    assert client.errno(nr, op=9, **fields) == "EOPNOTSUPP"
    assert client.errno(nr, op=OptionOp.SET, val64=2, **fields) == "EINVAL"
    client.call(nr, op=OptionOp.SET, **fields)
    assert client.call(nr, op=OptionOp.GET, val64=9, **fields).val64 == 0
    assert client.get(fresh, IOAS).iova_alignment == 4096
    client.call(nr, op=OptionOp.SET, val64=1, **fields)
    client.call(IoctlNr.IOAS_MAP, flags=READ, ioas_id=fresh, length=1)
    assert client.errno(nr, op=OptionOp.SET, **fields) == "EADDRINUSE"


def test_the_space_of_vfios_compatibility(client: Client) -> None:
    nr, fresh = IoctlNr.VFIO_IOAS, client.call(IoctlNr.IOAS_ALLOC).out_ioas_id
    assert client.errno(nr, op=9, __reserved=1) == "EOPNOTSUPP"
    assert client.errno(nr, op=3) == "EOPNOTSUPP"
    assert client.errno(nr, op=VfioIoasOp.GET) == "ENODEV"
    assert client.errno(nr, op=VfioIoasOp.SET, ioas_id=client.queue) == "ENOENT"
    client.call(nr, op=VfioIoasOp.SET, ioas_id=fresh)
    assert client.call(nr, op=VfioIoasOp.GET).ioas_id == fresh
    client.call(nr, op=VfioIoasOp.CLEAR)
    assert client.errno(nr, op=VfioIoasOp.GET) == "ENODEV"
    client.call(nr, op=VfioIoasOp.SET, ioas_id=fresh)
    client.call(IoctlNr.DESTROY, id=fresh)
    assert client.call(IoctlNr.IOAS_ALLOC).out_ioas_id == fresh
    assert client.errno(nr, op=VfioIoasOp.GET) == "ENODEV", "not the one that has its id now"


# ---- tables ----


def test_tables_are_made_from_the_clients_data(client: Client) -> None:
    nr, nested = IoctlNr.HWPT_ALLOC, {"data_type": 0xDEAD, "data_len": 4, "data_uptr": AT}
    mock = client.mock.id
    client.window[:4] = b"\1\2\3\4"
    made = client.call(nr, dev_id=mock, pt_id=client.parent, **nested)
    table = client.get(made.out_hwpt_id, Object)
    assert table.data == b"\1\2\3\4"
    assert client.errno(nr, __reserved=1, data_type=1) == "EOPNOTSUPP"
    assert client.errno(nr, data_type=1) == "EINVAL"
    assert client.errno(nr, data_len=4) == "EINVAL"
    assert client.errno(nr, dev_id=mock, pt_id=client.parent, **nested | {"data_type": 1}) == "EOPNOTSUPP"
    assert client.errno(nr, pt_id=client.parent, **nested) == "ENOENT"
    assert client.errno(nr, dev_id=mock, **nested) == "EINVAL"
    assert client.errno(nr, dev_id=mock, pt_id=client.parent) == "EOPNOTSUPP"
    assert client.errno(nr, dev_id=mock, pt_id=client.parent, flags=0x10, **nested) == "EOPNOTSUPP"
    assert client.errno(nr, dev_id=mock, pt_id=client.mock.id, **nested) == "EINVAL"
    assert client.errno(nr, dev_id=mock, pt_id=client.parent, **nested | {"data_len": 3}) == "EINVAL"
    assert client.errno(nr, dev_id=mock, pt_id=client.parent, **nested | {"data_len": 5}) == "EINVAL"
    wrong_queue = {"flags": HwptAllocFlags.FAULT_ID_VALID, "fault_id": client.ioas}
    assert client.errno(nr, dev_id=mock, pt_id=client.parent, **nested, **wrong_queue) == "ENOENT"
    client.call(nr, dev_id=mock, pt_id=client.parent, __reserved2=1, **nested)  # Linux does not look


def test_data_that_cannot_be_read_is_missed_by_the_driver_only(client: Client) -> None:
    """Everything that is looked at before the driver does is refused as with readable data."""
    nr = IoctlNr.HWPT_ALLOC
    bad = {"data_type": 0xDEAD, "data_len": 0xFFFF_FFFF, "data_uptr": 1, "dev_id": client.mock.id}
    assert client.errno(nr, **bad | {"dev_id": 0}) == "ENOENT"
    assert client.errno(nr, **bad) == "EINVAL"
    assert client.errno(nr, **bad, pt_id=client.parent, flags=0x10) == "EOPNOTSUPP"
    assert client.errno(nr, **bad | {"data_type": 2}, pt_id=client.parent) == "EOPNOTSUPP"
    assert client.errno(nr, **bad | {"data_len": 3}, pt_id=client.parent) == "EINVAL"
    wrong_queue = {"flags": HwptAllocFlags.FAULT_ID_VALID, "fault_id": client.ioas}
    assert client.errno(nr, **bad, pt_id=client.parent) == "EINVAL", "too long"
    assert client.errno(nr, **bad | {"data_len": 4}, pt_id=client.parent, **wrong_queue) == "EFAULT"


def test_data_for_a_paging_table_is_refused_or_passed_over(client: Client) -> None:
    fields = {"dev_id": client.mock.id, "pt_id": client.ioas, "data_type": 0xDEAD, "data_len": 4, "data_uptr": 1}
    if client.context.version.name == "6.12":
        assert client.errno(IoctlNr.HWPT_ALLOC, **fields) == "EOPNOTSUPP"
    else:
        client.get(client.call(IoctlNr.HWPT_ALLOC, **fields).out_hwpt_id, PagingHWPT)


def test_the_mock_iommu_tells_its_struct(client: Client) -> None:
    new = client.context.version.name == "7.2"
    client.window[:] = b"\xee" * 256
    made = client.call(IoctlNr.GET_HW_INFO, dev_id=client.mock.id, data_len=16, data_uptr=AT)
    assert (made.out_data_type, made.data_len, made.out_max_pasid_log2) == (0xFEEDBEEF, 8, 0)
    assert made.out_capabilities == (8 if new else 0), "a mock device has no ATS, and 7.2 says so"
    assert client.window[:16] == struct.pack("=4I", 0, 0xDEADBEEF, 0, 0), "the rest is cleared"
    assert client.window[16:17] == b"\xee"
    made = client.call(IoctlNr.GET_HW_INFO, dev_id=client.mock.id, data_len=3, data_uptr=AT + 100)
    assert made.data_len == 8
    assert client.window[100:104] == b"\0\0\0\xee", "no more than there is room for"
    assert client.call(IoctlNr.GET_HW_INFO, dev_id=client.mock.id).data_len == 8


def test_vtd_tells_its_registers(client: Client) -> None:
    made = client.call(IoctlNr.GET_HW_INFO, dev_id=client.vtd.id, data_len=24, data_uptr=AT)
    assert (made.out_data_type, made.data_len) == (HwInfoType.INTEL_VTD, 24)
    assert made.out_capabilities == 0
    flags, reserved, cap, ecap = struct.unpack_from("=2I2Q", client.window)
    assert (flags, reserved) == (0, 0)
    assert (cap >> 16 & 0x3F) + 1 == 48, "address bits"
    assert cap >> 8 & 0x1F == 1 << 2, "four levels"
    assert (ecap >> 35 & 0x1F) + 1 == 20
    assert all(ecap >> bit & 1 for bit in (1, 26, 29, 40, 43, 46, 47))
    assert not ecap >> 45 & 1, "dirty pages are not tracked"


@pytest.mark.parametrize("pasids", [0, 1, 2, 3, 8, 1000, 1 << 20])
def test_hardware_info_says_how_many_pasids_the_device_has(client: Client, pasids: int) -> None:
    """Of the device, and not of its IOMMU; before 7.2 the field was reserved."""
    nr = IoctlNr.GET_HW_INFO
    device = client.context.bind(client.context.mock.c, 0x77, 8, max_pasids=pasids)
    if client.context.version.name == "6.12":
        assert client.call(nr, dev_id=device.id).out_max_pasid_log2 == 0
        assert client.errno(nr, dev_id=device.id, out_max_pasid_log2=1) == "EOPNOTSUPP"
        return
    log2 = {0: 0, 1: 0, 2: 1, 3: 1, 8: 3, 1000: 9, 1 << 20: 20}[pasids]
    assert client.call(nr, dev_id=device.id, out_max_pasid_log2=7).out_max_pasid_log2 == log2
    mock = client.context.mock_device(client.ioas, 4)
    assert client.call(nr, dev_id=mock.id).out_max_pasid_log2 == 20


def test_hardware_info_is_refused(client: Client) -> None:
    nr, new = IoctlNr.GET_HW_INFO, client.context.version.name == "7.2"
    assert client.errno(nr, flags=2) == "EOPNOTSUPP"
    assert client.errno(nr, flags=HwInfoFlags.INPUT_TYPE) == ("ENOENT" if new else "EOPNOTSUPP")
    for at in range(3):
        assert client.errno(nr, __reserved=[at == 0, at == 1, at == 2]) == "EOPNOTSUPP"
    assert client.errno(nr, dev_id=client.ioas) == "ENOENT"
    for length in (1, 8, 9, 0xFFFF_FFFF):
        assert (
            client.errno(nr, dev_id=client.mock.id, data_len=length, data_uptr=AT + 257 - min(length, 256)) == "EFAULT"
        )


def test_hardware_info_of_a_type(new: Client) -> None:
    nr, flags = IoctlNr.GET_HW_INFO, HwInfoFlags.INPUT_TYPE
    for device, mine in ((new.mock, 0xFEEDBEEF), (new.vtd, HwInfoType.INTEL_VTD)):
        for asked in (HwInfoType.DEFAULT, mine):
            made = new.call(nr, flags=flags, dev_id=device.id, in_data_type=asked)
            assert made.out_data_type == mine
        assert new.errno(nr, flags=flags, dev_id=device.id, in_data_type=HwInfoType.AMD) == "EOPNOTSUPP"
        assert new.call(nr, dev_id=device.id, in_data_type=HwInfoType.AMD).out_data_type == mine


def test_dirty_tracking_is_refused_after_the_checks(client: Client) -> None:
    nr = IoctlNr.HWPT_SET_DIRTY_TRACKING
    assert client.errno(nr, flags=2) == "EOPNOTSUPP"
    assert client.errno(nr, flags=1, hwpt_id=client.ioas) == "ENOENT"
    assert client.errno(nr, flags=1, hwpt_id=client.parent) == "EOPNOTSUPP"
    nr, good = (
        IoctlNr.HWPT_GET_DIRTY_BITMAP,
        {"hwpt_id": client.parent, "iova": 4096, "length": 4096, "page_size": 2048},
    )
    assert client.errno(nr, flags=2) == "EOPNOTSUPP"
    assert client.errno(nr, __reserved=1) == "EOPNOTSUPP"
    assert client.errno(nr, flags=1) == "ENOENT"
    assert client.errno(nr, **good | {"length": 0}) == "EOVERFLOW"
    assert client.errno(nr, **good | {"length": U64}) == "EOVERFLOW"
    alignment = client.get(client.ioas, IOAS).iova_alignment
    for wrong in ({"iova": alignment // 2}, {"length": alignment // 2}, {"page_size": 0}, {"page_size": 8192}):
        assert client.errno(nr, **good | wrong) == "EINVAL"
    assert client.errno(nr, **good | {"page_size": alignment}) == "EOPNOTSUPP"
    assert client.errno(nr, **good | {"iova": 0, "length": 0}) == "EOPNOTSUPP", "0 to 2**64 - 1"


def test_invalidation_is_refused_and_says_that_nothing_was_done(client: Client) -> None:
    nr, new = IoctlNr.HWPT_INVALIDATE, client.context.version.name == "7.2"
    nested = client.context.hwpt_alloc_nested(client.mock, client.parent)
    some = {"entry_num": 3, "entry_len": 8, "data_uptr": AT}
    for fields, expected in (
        ({**some, "__reserved": 1, "entry_len": 0}, "EOPNOTSUPP"),
        ({**some, "entry_len": 0}, "EINVAL"),
        ({**some, "data_uptr": 0}, "EINVAL"),
        ({**some}, "ENOENT"),
        ({**some, "hwpt_id": client.parent}, "EINVAL" if new else "ENOENT"),
        ({**some, "hwpt_id": nested.id}, "EOPNOTSUPP"),
        ({"hwpt_id": nested.id}, "EOPNOTSUPP"),
    ):
        with pytest.raises(Refused, match=expected) as caught:
            client.call(nr, **fields)
        assert caught.value.cmd.entry_num == 0


# ---- virtual IOMMUs ----


def viommu(new: Client, **fields: Any) -> int:
    fields = {"type": MOCK_VIOMMU_TYPE, "dev_id": new.mock.id, "hwpt_id": new.parent} | fields
    return int(new.call(IoctlNr.VIOMMU_ALLOC, **fields).out_viommu_id)


def test_virtual_iommus_are_refused_before_the_driver_is_asked(new: Client) -> None:
    nr = IoctlNr.VIOMMU_ALLOC
    assert new.errno(nr, flags=1, type=1) == "EOPNOTSUPP"
    assert new.errno(nr, type=0) == "EOPNOTSUPP"
    assert new.errno(nr, type=1, dev_id=new.ioas) == "ENOENT"
    assert new.errno(IoctlNr.VDEVICE_ALLOC, viommu_id=new.ioas, dev_id=new.mock.id) == "ENOENT"
    nr = IoctlNr.VEVENTQ_ALLOC
    for wrong in ({"flags": 1}, {"__reserved": 1}, {"type": 0}):
        assert new.errno(nr, **{"type": 1, "veventq_depth": 0} | wrong) == "EOPNOTSUPP"
    for depth in (0, (1 << 19) + 1):
        assert new.errno(nr, type=1, veventq_depth=depth) == "EINVAL"
    assert new.errno(nr, type=1, veventq_depth=1 << 19, viommu_id=new.parent) == "ENOENT"


def test_hardware_queues_are_refused(new: Client) -> None:
    nr, number = IoctlNr.HW_QUEUE_ALLOC, viommu(new)
    assert new.errno(nr, flags=1, type=1) == "EOPNOTSUPP"
    assert new.errno(nr, type=0) == "EOPNOTSUPP"
    assert new.errno(nr, type=1) == "EINVAL"
    assert new.errno(nr, type=1, length=2, nesting_parent_iova=U64) == "EOVERFLOW"
    assert new.errno(nr, type=1, length=1, nesting_parent_iova=U64, viommu_id=new.ioas) == "ENOENT"
    assert new.errno(nr, type=1, length=1, viommu_id=number) == "EOPNOTSUPP"


def test_invalidation_through_a_virtual_iommu_needs_its_driver(new: Client) -> None:
    assert new.errno(IoctlNr.HWPT_INVALIDATE, hwpt_id=viommu(new)) == "EOPNOTSUPP"


def test_virtual_objects_are_made(new: Client) -> None:
    number = viommu(new, data_len=8, data_uptr=AT)
    new.get(number, Viommu)
    vdevice = {"viommu_id": number, "dev_id": new.mock.id, "virt_id": U64}
    read_only = ffi.new("struct iommu_vdevice_alloc *", {"size": 24, **vdevice})
    assert new.refused(lambda: new.raw(IoctlNr.VDEVICE_ALLOC.request, bytes(ffi.buffer(read_only)))) == "EFAULT"
    made = new.call(IoctlNr.VDEVICE_ALLOC, **vdevice)
    assert new.get(made.out_vdevice_id, Vdevice).virt_id == U64
    queue = {"viommu_id": number, "type": VeventqType.ARM_SMMUV3, "veventq_depth": 5}
    read_only = ffi.new("struct iommu_veventq_alloc *", {"size": 32, **queue})
    assert new.refused(lambda: new.raw(IoctlNr.VEVENTQ_ALLOC.request, bytes(ffi.buffer(read_only)))) == "EFAULT"
    made = new.call(IoctlNr.VEVENTQ_ALLOC, **queue)
    assert new.get(made.out_veventq_id, VirtualEventQueue).fd == made.out_veventq_fd == new.fd + 1
    assert new.errno(IoctlNr.VEVENTQ_ALLOC, **queue) == "EEXIST"


def test_a_virtual_iommus_data_are_missed_by_the_driver_only(new: Client) -> None:
    nr, bad = IoctlNr.VIOMMU_ALLOC, {"data_len": 8, "data_uptr": 1}
    good = {"type": MOCK_VIOMMU_TYPE, "dev_id": new.mock.id, "hwpt_id": new.parent}
    assert new.errno(nr, **good | {"hwpt_id": new.ioas}, **bad) == "ENOENT"
    assert new.errno(nr, **good, **bad | {"data_len": 7}) == "EINVAL"
    assert new.errno(nr, **good, **bad) == "EFAULT"


# ---- client memory ----


def test_client_memory_goes_on_where_windows_touch() -> None:
    memory, first, second = ClientMemory(), bytearray(b"abcd"), bytearray(b"efgh")
    memory.add(0x1004, second)
    memory.add(0x1000, first)
    assert memory.read(0x1002, 4) == b"cdef"
    memory.write(0x1003, b"XYZ")
    assert first + second == b"abcXYZgh"
    memory.clear(0x1001, 6)
    assert first + second == b"a\0\0\0\0\0\0h"
    assert memory.read(0x1000, 8) == first + second
    assert memory.read(0, 0) == b""
    for address, length in ((0xFFF, 1), (0xFFF, 2), (0x1007, 2), (0x1008, 1), (U64, 1), (0, 2**32), (0x1000, 2**63)):
        for call in (
            lambda a=address, n=length: memory.read(a, n),
            lambda a=address, n=length: memory.clear(a, n),
        ):
            with pytest.raises(KernelError) as caught:
                call()
            assert caught.value.errno == errno.EFAULT
    assert first + second == b"a\0\0\0\0\0\0h"


def test_read_only_windows_are_not_written() -> None:
    memory, first = ClientMemory(), bytearray(4)
    memory.add(0, first)
    memory.add(4, b"fixed")
    assert memory.read(2, 4) == b"\0\0fi"
    with pytest.raises(KernelError):
        memory.write(2, b"1234")
    assert first == bytes(4)
    memory.write(0, b"1234")


def test_windows_neither_overlap_nor_wrap() -> None:
    memory = ClientMemory()
    memory.add(0x1000, bytes(16))
    memory.add(U64 - 15, bytes(16))
    for address, size in ((0xFFF, 2), (0x100F, 1), (0x1000, 16), (0xF00, 0x1000), (U64, 2), (-1, 1), (0x2000, 0)):
        with pytest.raises(UsageError):
            memory.add(address, bytes(size))
    memory.add(0x1010, bytes(1))
    memory.add(0xFFF, bytes(1))
    assert memory.read(0xFFF, 18) == bytes(18)


# ---- anything at all ----


def test_the_page_names_the_errnos_there_are() -> None:
    section = DOC.read_text().partition("## Errors")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| (E\w+) \|", section, re.MULTILINE)) == set(KNOWN)


def rarely(draw: st.DrawFn) -> bool:
    return draw(st.sampled_from([False] * 15 + [True]))


u32 = st.integers(0, 8) | st.sampled_from([0, 4, 0xDEAD, 4096, 2**32 - 1]) | st.integers(0, 2**32 - 1)
u64 = (
    st.sampled_from([AT, AT + 250, VA, 1 << 24, (1 << 24) + 4096, 0, 1, U64, U64 - 1, 1 << 63])
    | st.integers(0, 8).map(lambda page: 2048 * page)
    | st.integers(0, U64)
)
likely: dict[str, st.SearchStrategy[int]] = {
    "flags": st.sampled_from([0, *map(int, [READ, FIXED | READ, FIXED | READ | WRITE, HwptAllocFlags.NEST_PARENT])]),
    "type": st.sampled_from([0, 1, MOCK_VIOMMU_TYPE]),
    "data_type": st.sampled_from([0, 0, 0xDEAD, 1]),
    "data_len": st.sampled_from([0, 0, 4, 24]),
    "num_iovas": st.integers(0, 3),
    "allowed_iovas": st.just(AT),
    "data_uptr": st.just(AT),
    "length": st.sampled_from([2048, 4096, 8192, U64]),
    "page_size": st.just(4096),
    # What `Client` made: 1 a space, 3 and 5 devices, 6 a queue, 7 a table.
    **dict.fromkeys(["ioas_id", "src_ioas_id", "dst_ioas_id"], st.sampled_from([1, 1, 1, 8])),
    **dict.fromkeys(["dev_id"], st.sampled_from([3, 5])),
    "viommu_id": st.sampled_from([8, 9]),
    **dict.fromkeys(["hwpt_id", "pt_id"], st.sampled_from([1, 7, 7, 8])),
    **dict.fromkeys(["iova", "src_iova", "dst_iova"], st.integers(0, 4).map(lambda page: (1 << 24) + 4096 * page)),
    **dict.fromkeys(["user_va", "start"], st.integers(0, 4).map(lambda page: VA + 2048 * page)),
    "fd": st.integers(0, 9),
}


def field(draw: st.DrawFn, name: str, width: int) -> int:
    """Most often something that may be right."""
    if rarely(draw):
        return draw(u64 if width == 8 else u32)
    if "reserved" in name:
        return 0
    return draw(likely.get(name, u64 if width == 8 else st.integers(0, 7)))


@st.composite
def arguments(draw: st.DrawFn) -> tuple[int, bytes, bool]:
    """A request, its struct and whether that is read-only: well formed but for some of it, or just bytes."""
    one = draw(st.sampled_from(OPERATIONS))
    size = draw(st.sampled_from([one.size, one.minimum, one.size + 8, 0, 7])) if rarely(draw) else one.size
    data = bytearray(struct.pack("=I", size))
    if rarely(draw):
        data += draw(st.binary(max_size=64))
    else:
        for name, info in ffi.typeof(f"struct {one.struct}").fields[1:]:
            width = ffi.sizeof(info.type)
            if info.offset == len(data):  # not the second name of a union
                data += (field(draw, name, width) & (1 << 8 * width) - 1).to_bytes(width, "little")
        tail = b"\1" if rarely(draw) else b"\0"
        data = data[: max(size, 4)].ljust(size, tail)
    request = one.nr.request
    if rarely(draw):
        request = draw(st.integers(0, 2**32 - 1) | st.integers(0x3B00, 0x3BFF))
    return request, bytes(data), rarely(draw)


def objects(context: Context) -> object:
    return [(one.id, type(one), one.users, files(one), attached(one)) for one in context]


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
@given(calls=st.lists(arguments(), min_size=1, max_size=12), contents=st.binary(max_size=64))
def test_whatever_a_client_sends_is_done_or_refused(
    kernel: str, calls: list[tuple[int, bytes, bool]], contents: bytes
) -> None:
    client = Client(kernel)
    client.window[: len(contents)] = contents
    for request, data, read_only in calls:
        before, refused = objects(client.context), 0
        try:
            assert client.context.ioctl(request, data if read_only else bytearray(data), client.memory) == 0
        except KernelError as error:
            refused = error.errno or -1
        if refused:
            assert refused in NAMES
            assert objects(client.context) == before, NAMES[refused]
    client.context.close()


# ---- both faces ----


class PythonFace:
    """The calls of a context, with ids in and out."""

    def __init__(self, kernel: str) -> None:
        self.context = Context(kernel=kernel)
        self.mock: MockDevice = self.context.mock_device(self.ioas_alloc())

    def space(self, number: int) -> IOAS:
        return self.context.table.get(number, IOAS, "test")

    def ioas_alloc(self) -> int:
        return self.context.ioas_alloc().id

    def queue_alloc(self, flags: int) -> tuple[int, int]:
        made = self.context.fault_queue_alloc(flags)
        return made.id, made.fd

    def hwpt_alloc(self, pt: int, flags: int, fault: int, kind: int, length: int) -> int:
        device = self.mock.id
        return self.context.hwpt_alloc(device, pt, flags, fault=fault, data_type=kind, data=bytes(length)).id

    def destroy(self, number: int) -> None:
        self.context.destroy(number)

    def map(self, ioas: int, flags: int, va: int, length: int, iova: int) -> int:
        return self.space(ioas).map(length, user_va=va, **permissions(flags, iova))

    def copy(self, target: int, source: int, flags: int, length: int, source_iova: int, iova: int) -> int:
        from_space = self.space(source)
        from_space.pieces(source_iova, length)  # Linux looks at the source before it does at the other space
        return self.space(target).copy(from_space, source_iova, length, **permissions(flags, iova))

    def unmap(self, ioas: int, iova: int, length: int) -> int:
        return self.space(ioas).unmap(iova, length)

    def allow(self, ioas: int, ranges: list[tuple[int, int]]) -> None:
        self.space(ioas).allow_iovas(ranges)

    def ranges(self, ioas: int) -> tuple[list[tuple[int, int]], int]:
        return self.space(ioas).iova_ranges(), self.space(ioas).iova_alignment

    def large_pages(self, ioas: int, enabled: int) -> None:
        self.space(ioas).set_large_pages(bool(enabled))


def permissions(flags: int, iova: int) -> dict[str, Any]:
    return {"iova": iova if flags & FIXED else None, "readable": bool(flags & READ), "writeable": bool(flags & WRITE)}


class IoctlFace(PythonFace):
    """The same through ioctls."""

    def __init__(self, kernel: str) -> None:
        self.window, self.memory = bytearray(1024), ClientMemory()
        self.memory.add(AT, self.window)
        super().__init__(kernel)

    def do(self, nr: IoctlNr, **fields: Any) -> Any:
        cmd = ffi.new(f"struct {BY_NR[nr].struct} *", {"size": BY_NR[nr].size, **fields})
        self.context.ioctl(nr.request, memoryview(ffi.buffer(cmd)), self.memory)
        return cmd

    def ioas_alloc(self) -> int:
        return int(self.do(IoctlNr.IOAS_ALLOC).out_ioas_id)

    def queue_alloc(self, flags: int) -> tuple[int, int]:
        made = self.do(IoctlNr.FAULT_QUEUE_ALLOC, flags=flags)
        return made.out_fault_id, made.out_fault_fd

    def hwpt_alloc(self, pt: int, flags: int, fault: int, kind: int, length: int) -> int:
        fields = {"dev_id": self.mock.id, "pt_id": pt, "flags": flags, "fault_id": fault, "data_type": kind}
        self.window[:length] = bytes(length)
        return int(self.do(IoctlNr.HWPT_ALLOC, data_len=length, data_uptr=AT, **fields).out_hwpt_id)

    def destroy(self, number: int) -> None:
        self.do(IoctlNr.DESTROY, id=number)

    def map(self, ioas: int, flags: int, va: int, length: int, iova: int) -> int:
        return int(self.do(IoctlNr.IOAS_MAP, ioas_id=ioas, flags=flags, user_va=va, length=length, iova=iova).iova)

    def copy(self, target: int, source: int, flags: int, length: int, source_iova: int, iova: int) -> int:
        ids = {"dst_ioas_id": target, "src_ioas_id": source}
        places = {"src_iova": source_iova, "dst_iova": iova}
        return int(self.do(IoctlNr.IOAS_COPY, flags=flags, length=length, **ids, **places).dst_iova)

    def unmap(self, ioas: int, iova: int, length: int) -> int:
        return int(self.do(IoctlNr.IOAS_UNMAP, ioas_id=ioas, iova=iova, length=length).length)

    def allow(self, ioas: int, ranges: list[tuple[int, int]]) -> None:
        struct.pack_into(f"={2 * len(ranges)}Q", self.window, 0, *(end for one in ranges for end in one))
        self.do(IoctlNr.IOAS_ALLOW_IOVAS, ioas_id=ioas, num_iovas=len(ranges), allowed_iovas=AT)

    def ranges(self, ioas: int) -> tuple[list[tuple[int, int]], int]:
        made = self.do(IoctlNr.IOAS_IOVA_RANGES, ioas_id=ioas, num_iovas=32, allowed_iovas=AT)
        ends = struct.unpack_from(f"={2 * made.num_iovas}Q", self.window)
        return list(zip(ends[::2], ends[1::2], strict=True)), made.out_iova_alignment

    def large_pages(self, ioas: int, enabled: int) -> None:
        self.do(IoctlNr.OPTION, option_id=OptionId.HUGE_PAGES, object_id=ioas, op=OptionOp.SET, val64=enabled)


ids = st.integers(0, 9)
# Without permissions a space is not looked up by the ioctl; the Python call has looked it up by then.
map_flags = st.sampled_from([READ, READ | WRITE, FIXED | READ, FIXED | WRITE, FIXED | READ | WRITE])
pages = st.integers(0, 24).map(lambda number: (1 << 24) + 2048 * number) | st.sampled_from([0, 0x1000, 5, U64 - 1])
lengths = st.integers(0, 6).map(lambda number: 2048 * number) | st.sampled_from([1, U64 - 1, 1 << 63])
addresses = st.sampled_from([VA, VA + 2048, VA + 4096, VA + 1, 0, U64 - 4])
OPS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "ioas_alloc": st.tuples(),
    "queue_alloc": st.tuples(st.sampled_from([0, 0, 0, 1])),
    "hwpt_alloc": st.tuples(ids, st.integers(0, 31), ids, st.sampled_from([0, 1, 0xDEAD]), st.sampled_from([0, 4, 9])),
    "destroy": st.tuples(ids),
    "map": st.tuples(ids, map_flags, addresses, lengths, pages),
    "copy": st.tuples(ids, ids, map_flags, lengths, pages, pages),
    "unmap": st.tuples(ids, pages, lengths | st.just(U64)),
    "allow": st.tuples(ids, st.lists(st.tuples(pages, pages), max_size=3)),
    "ranges": st.tuples(ids),
    "large_pages": st.tuples(ids, st.integers(0, 1)),
}
steps = st.sampled_from(sorted(OPS)).flatmap(lambda name: st.tuples(st.just(name), OPS[name]))


def outcome(face: PythonFace, name: str, args: tuple[Any, ...]) -> object:
    try:
        return getattr(face, name)(*args)
    except KernelError as error:
        return NAMES[error.errno or 0]


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
@given(script=st.lists(steps, max_size=30))
def test_both_faces_make_the_same(kernel: str, script: list[tuple[str, tuple[Any, ...]]]) -> None:
    python, ioctls = PythonFace(kernel), IoctlFace(kernel)
    for name, args in script:
        seen, same = outcome(ioctls, name, args), outcome(python, name, args)
        # What is refused before the id is looked up: the Python call has looked it up already.
        assert same == seen or (seen, same) == ("EOVERFLOW", "ENOENT"), (name, args)
        assert picture(python.context) == picture(ioctls.context)
    python.context.close()
    ioctls.context.close()
