"""Whatever numbers a caller comes with: a refusal is a `KernelError` or a `UsageError`, and has changed nothing."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uring_iopf import Context, KernelError, UsageError
from uring_iopf.abi.iommufd import HwptDataType
from uring_iopf.iommufd import (
    IOAS,
    MOCK_DRIVER,
    SMMUV3_DRIVER,
    VTD_DRIVER,
    ClientMemory,
    Device,
    FaultQueue,
    QueueLimits,
)
from uring_iopf.iommufd.devices.device import VirtualFunction
from uring_iopf.iommufd.devices.viommu import Viommu, VirtualEventQueue
from uring_iopf.iommufd.objects import Object
from uring_iopf.iommufd.spaces.hwpt import HWPT

if TYPE_CHECKING:
    from uring_iopf.iommufd.drivers.base import IommuDriver

KERNELS: Final = ("6.12", "7.2")
#: For each of many calls: an eighth of what one test has.
EXAMPLES: Final = (settings.default or settings()).max_examples // 8

WIDTHS: Final = (0, 8, 16, 20, 31, 32, 63, 64, 70)
#: Around each width, and the ids of a small context.
NUMBERS = st.one_of(
    st.integers(0, 24),
    st.sampled_from([sign * 2**bits + by for bits in WIDTHS for by in (-1, 0, 1) for sign in (1, -1)]),
)
IDS = st.integers(1, 16) | NUMBERS
SMALL = st.one_of(st.integers(-2, 70000), st.sampled_from([2**31, 2**32, 2**64]))
DATA = st.one_of(st.binary(max_size=80), st.just(bytes(16)), st.just(bytes(4)))
FLAGS = st.one_of(st.integers(-1, 31), NUMBERS)
DRIVERS = (VTD_DRIVER, SMMUV3_DRIVER, MOCK_DRIVER)


def state(context: Context) -> object:
    """All that a refused call must leave as it was."""
    out: list[object] = []
    for one in context:
        seen: tuple[Any, ...] = (type(one).__name__, one.id, one.users)
        if isinstance(one, IOAS):
            seen += (list(one.mappings()), one.iova_ranges(), one.iova_alignment, one.large_pages)
        if isinstance(one, Device):
            seen += (one.hwpt, one.pasids(), one.virtual, one.vdevice)
        if isinstance(one, HWPT):
            seen += (one.fault, one.reports)
        if isinstance(one, Viommu):
            seen += (dict(one.vdevices),)
        out.append(seen)
    return out


def furnish(context: Context) -> None:
    """One of each kind that this kernel has."""
    mock = context.mock_device(context.ioas_alloc())
    context.fault_queue_alloc()
    parent = context.hwpt_alloc_paging(mock, 1, nest_parent=True)
    nested = context.hwpt_alloc_nested(mock, parent)
    mock.replace(nested)
    for driver in DRIVERS:
        context.bind(context.mock.c, 7, 8, driver=driver)
    if context.version.virtual_iommus:
        viommu = context.viommu_alloc(mock, parent, 0xDEADBEEF, data=bytes(8))
        context.vdevice_alloc(viommu, mock, 5)
        context.veventq_alloc(viommu, 0xBABEBEEF, 4)
    if context.generic_reports:
        context.report_queue_alloc(1)


Strategy = st.SearchStrategy[Any]
Draw = Callable[[Strategy], Any]
Call = Callable[[Context, Draw], object]


def on_any(kind: type[Object], method: str, *arguments: Strategy, **named: Strategy) -> Call:
    """A method of one of the context's objects of a kind."""

    def call(context: Context, draw: Draw) -> object:
        having = [one for one in context if isinstance(one, kind)]
        if not having:
            return None
        one = draw(st.sampled_from(having))
        return getattr(one, method)(*map(draw, arguments), **{name: draw(value) for name, value in named.items()})

    return call


def on_context(method: str, *arguments: Strategy, **named: Strategy) -> Call:
    def call(context: Context, draw: Draw) -> object:
        return getattr(context, method)(*map(draw, arguments), **{name: draw(value) for name, value in named.items()})

    return call


def bind(context: Context, draw: Draw) -> object:
    driver: IommuDriver = draw(st.sampled_from(DRIVERS))
    return context.bind(
        context.mock.c,
        draw(NUMBERS),
        draw(SMALL),
        driver=driver,
        max_pasids=draw(NUMBERS),
        virtual_function=draw(st.none() | st.builds(VirtualFunction, st.booleans())),
        reserved=draw(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=2)),
    )


def ioctl(context: Context, draw: Draw) -> object:
    """Any request, with a struct of any length whose words are such numbers; pointers lead to a page or nowhere."""
    memory = ClientMemory()
    memory.add(0x1000, bytearray(4096))
    words = draw(st.lists(NUMBERS | st.just(0x1000), max_size=14))
    arg = bytearray(b"".join((word & 0xFFFF_FFFF).to_bytes(4, "little") for word in words))
    if arg and draw(st.booleans()):
        arg[0:4] = len(arg).to_bytes(4, "little")
    request = draw(st.integers(0x3B80, 0x3BA5) | NUMBERS)
    return context.ioctl(request, arg, memory if draw(st.booleans()) else None)


QUEUE_LIMITS = st.builds(QueueLimits, depth=st.none() | SMALL, by_group_index=st.booleans())
CALLS: Final[dict[str, Call]] = {
    "ioctl": ioctl,
    "bind": bind,
    "get": on_context("get", NUMBERS),
    "destroy": on_context("destroy", IDS),
    "mock_device": on_context("mock_device", NUMBERS, FLAGS),
    "hwpt_alloc": on_context(
        "hwpt_alloc",
        IDS,
        IDS,
        FLAGS,
        fault=NUMBERS,
        data_type=NUMBERS | st.sampled_from(HwptDataType),
        data=DATA,
    ),
    "hwpt_alloc_paging": on_context(
        "hwpt_alloc_paging", IDS, IDS, nest_parent=st.booleans(), pasid=st.booleans(), fault=st.none() | NUMBERS
    ),
    "hwpt_alloc_nested": on_context("hwpt_alloc_nested", IDS, IDS, pasid=st.booleans(), fault=st.none() | NUMBERS),
    "viommu_alloc": on_context("viommu_alloc", IDS, IDS, NUMBERS | st.just(0xDEADBEEF), FLAGS, DATA),
    "vdevice_alloc": on_context("vdevice_alloc", IDS, IDS, NUMBERS),
    "veventq_alloc": on_context("veventq_alloc", IDS, NUMBERS, SMALL, FLAGS),
    "fault_queue_alloc": on_context("fault_queue_alloc", FLAGS, limits=QUEUE_LIMITS),
    "report_queue_alloc": on_context("report_queue_alloc", NUMBERS, FLAGS),
    "IOAS.map": on_any(
        IOAS, "map", NUMBERS, user_va=NUMBERS, iova=st.none() | NUMBERS, readable=st.booleans(), writeable=st.booleans()
    ),
    "IOAS.map_file": on_any(IOAS, "map_file", NUMBERS, fd=NUMBERS, start=NUMBERS, iova=st.none() | NUMBERS),
    "IOAS.unmap": on_any(IOAS, "unmap", NUMBERS, NUMBERS),
    "IOAS.find": on_any(IOAS, "find", NUMBERS),
    "IOAS.allow_iovas": on_any(IOAS, "allow_iovas", st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3)),
    "IOAS.set_large_pages": on_any(IOAS, "set_large_pages", st.booleans()),
    "Device.attach": on_any(Device, "attach", IDS, pasid=st.none() | NUMBERS),
    "Device.replace": on_any(Device, "replace", IDS, pasid=st.none() | NUMBERS),
    "Device.detach": on_any(Device, "detach", pasid=st.none() | NUMBERS),
    "Device.report": on_any(
        Device, "report", NUMBERS, NUMBERS, pasid=st.none() | NUMBERS, perm=NUMBERS, last=st.booleans()
    ),
    "Device.report_event": on_any(Device, "report_event", NUMBERS, DATA),
    "Device.attached_to": on_any(Device, "attached_to", NUMBERS),
    "FaultQueue.read": on_any(FaultQueue, "read", SMALL),
    "FaultQueue.read_messages": on_any(FaultQueue, "read_messages", SMALL),
    "FaultQueue.write": on_any(FaultQueue, "write", DATA),
    "FaultQueue.respond": on_any(FaultQueue, "respond", NUMBERS, NUMBERS),
    "FaultQueue.respond_to": on_any(FaultQueue, "respond_to", NUMBERS, NUMBERS, NUMBERS, pasid=st.none() | NUMBERS),
    "VirtualEventQueue.read": on_any(VirtualEventQueue, "read", SMALL),
    "VirtualEventQueue.read_events": on_any(VirtualEventQueue, "read_events", SMALL),
    "VirtualEventQueue.report": on_any(VirtualEventQueue, "report", DATA),
    "VirtualEventQueue.write": on_any(VirtualEventQueue, "write", DATA),
    "Viommu.report_event": on_any(Viommu, "report_event", NUMBERS, DATA),
}
#: What has done a part when it is refused, as in Linux.
PARTLY: Final = {"IOAS.unmap", "ioctl"}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_refusal_is_an_errno_or_a_usage_error_and_changes_nothing(
    name: str, kernel: str, data: st.DataObject
) -> None:
    with Context(kernel=kernel, generic_reports=data.draw(st.booleans())) as context:
        furnish(context)
        for _ in range(3):
            before = state(context)
            try:
                CALLS[name](context, data.draw)
            except (KernelError, UsageError):
                assert name in PARTLY or state(context) == before


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_nested_table_on_a_space_is_refused_also_where_the_mock_passes_over_its_description(kernel: str) -> None:
    with Context(kernel=kernel) as context:
        space = context.ioas_alloc()
        device = context.mock_device(space)
        before = state(context)
        with pytest.raises(KernelError, match="IOMMU_HWPT_ALLOC") as refused:
            context.hwpt_alloc_nested(device, space)
        assert refused.value.errno == errno.EOPNOTSUPP
        assert state(context) == before


def test_a_number_that_no_field_has_room_for_is_a_usage_error() -> None:
    with Context() as context:
        queue = context.fault_queue_alloc()
        with pytest.raises(UsageError, match=r"cookie must be 0 to 2\^32 - 1, not -1"):
            queue.respond(-1)
        with pytest.raises(UsageError, match="capacity must be 1 to 1048576"):
            context.bind(context.mock.c, 7, 0)
