"""The emulated iommufd and a simple model of it do the same, call after call, by the rules of both kernels.

Every return value and errno, every id (the lowest free one), who uses what, every message, and every answer that the
hardware hears, in Linux's order, is the model's (``iommufd_model.py``). Beside that, after each step: every group that
the hardware asked for an answer waits, has been read, or has been answered, once; and the counts add up.
"""

from __future__ import annotations

import errno
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.iommufd_model import (
    DIRTY_TRACKING,
    FAULT_ID_VALID,
    INVALID,
    MOST_GROUPS,
    NEST_PARENT,
    NO_PASID,
    PASID,
    Answer,
    Device,
    Event,
    EventQueue,
    Model,
    Queue,
    Refused,
    Selftest,
    Sharing,
    Space,
    Table,
    Thing,
    Vdevice,
    Viommu,
)
from uring_iopf import iommufd
from uring_iopf.abi.iommufd import IoctlNr
from uring_iopf.abi.records import pack_responses
from uring_iopf.core import Core
from uring_iopf.errors import KernelError
from uring_iopf.iommufd import (
    MOCK_DRIVER,
    MOCK_FORMAT,
    MOCK_VEVENTQ_TYPE,
    MOCK_VIOMMU_TYPE,
    ClientMemory,
    Context,
    DeviceGroup,
    DriverResponse,
    FaultMessage,
    MockIommu,
    Object,
    Personality,
    QueueLimits,
    VirtualFunction,
)
from uring_iopf.iommufd.selftest import MOCK_PASIDS

KINDS: dict[type[Thing], type[Object]] = {
    Space: iommufd.IOAS,
    Table: iommufd.HWPT,
    Queue: iommufd.FaultQueue,
    Selftest: iommufd.SelftestDevice,
    Device: iommufd.Device,
    Viommu: iommufd.Viommu,
    Vdevice: iommufd.Vdevice,
    EventQueue: iommufd.VirtualEventQueue,
}
M = TypeVar("M")
R = TypeVar("R")
T = TypeVar("T", bound=Thing)
O = TypeVar("O", bound=Object)  # noqa: E741  an object


class Errno(NamedTuple):
    name: str


def outcome_of(call: Callable[[], R]) -> R | Errno:
    """What a call on either side came to."""
    try:
        return call()
    except KernelError as error:
        return Errno(errno.errorcode[error.errno or 0])
    except Refused as refused:
        return Errno(errno.errorcode[refused.number])


WHICH = st.integers(0, 4095)
"""One of what there is; seldom one of what there was, or something else altogether."""
FEW, SHORT, LONG, BY_INDEX = 2 << 3, 2 << 5, 3 << 5, 1 << 8
"""Of what `make_queue` is told: groups that may wait, time to answer, answers by group index."""
BLANK = 0x1000
"""The client's address of what describes its nested tables."""
CODES = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 15])
PASIDS = st.sampled_from([None, None, 1, 2, 3, 0, 17, 1024, MOCK_PASIDS])
NEW_ONES = [
    "queue",
    "queue",
    "table",
    "table",
    "table",
    "table",
    "space",
    "bound_device",
    "bound_device",
    "mock_device",
    "viommu",
    "vdevice",
    "vdevice",
    "event_queue",
]
ENDS = [
    *["something_unused_is_destroyed"] * 3,
    "anything_is_destroyed",
    "file_is_closed",
    "device_is_unbound",
    "pri_is_reset",
]
CALLS: dict[str, tuple[int, dict[str, st.SearchStrategy[Any]]]] = {
    "object_is_made": (4, {"kind": st.sampled_from(NEW_ONES), "which": WHICH}),
    "object_ends": (2, {"change": st.sampled_from(ENDS), "which": WHICH}),
    "device_is_attached": (
        3,
        {"which": WHICH, "to": WHICH, "pasid": PASIDS, "replace": st.booleans(), "anything": st.booleans()},
    ),
    "device_is_moved": (4, {"which": WHICH, "to": WHICH, "key": st.integers(0, 3)}),
    "device_is_detached": (2, {"which": WHICH, "pasid": PASIDS}),
    "device_reports": (
        5,
        {
            "which": WHICH,
            "pasid": PASIDS,
            "grpid": st.integers(0, 2),
            "perm": st.integers(0, 15),
            "page": st.integers(0, 2**52 - 1),
            "last": st.booleans(),
        },
    ),
    "devices_report_many": (
        6,
        {
            "which": WHICH,
            "groups": st.sampled_from([2, 4, 8, 8, 8, 8, 30, 30, 300]),
            "unfinished_every": st.integers(2, 9),
        },
    ),
    "time_passes": (3, {"ns": st.sampled_from([1, 9, 10, 50, 100])}),
    "client_reads": (6, {"which": WHICH, "length": st.sampled_from([0, 40, 40, 80, 120, 400, 400, 40_000, 39, 41])}),
    "client_answers_by_number": (
        2,
        {
            "which": WHICH,
            "responses": st.lists(st.tuples(st.sampled_from([0, 0, 1, 2, 3, 4, 5, 99, 2**32 - 1]), CODES), max_size=4),
            "beyond": st.sampled_from([0, 0, 0, 0, 1, 7]),
        },
    ),
    "client_answers_what_is_live": (
        4,
        {"which": WHICH, "picks": st.lists(st.tuples(WHICH, CODES), min_size=1, max_size=8)},
    ),
    "client_answers_by_index": (3, {"which": WHICH, "pick": WHICH, "code": CODES}),
    "device_raises_events": (2, {"which": WHICH, "times": st.integers(1, 4)}),
    "guest_reads_events": (2, {"which": WHICH, "length": st.sampled_from([0, 7, 8, 11, 12, 20, 24, 120])}),
}
"""What can happen, how often, and with what."""
CALL = st.sampled_from([name for name, (times, _) in CALLS.items() for _ in range(times)]).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries(CALLS[name][1]))
)


class ModelAndEmulatorAgree(RuleBasedStateMachine):
    kernel: str

    @initialize(virtual_pri_reset=st.booleans(), seeds=st.lists(WHICH, min_size=6, max_size=6))
    def start(self, virtual_pri_reset: bool, seeds: list[int]) -> None:
        self.context = Context(Core(kernel=self.kernel), virtual_pri_reset=virtual_pri_reset)
        self.model = Model(self.kernel, virtual_pri_reset)
        self.iommus = [self.context.mock, MockIommu(self.context.core)]
        self.real: dict[Thing, Object] = {}
        self.groups: dict[Sharing, DeviceGroup] = {}
        self.heard: Counter[tuple[int, int, int]] = Counter()
        self.memory = ClientMemory()
        self.memory.add(BLANK, bytearray(MOCK_FORMAT.blank))
        self.pasid = 1000
        self.agreed = True
        self.make_space(0)
        self.make_mock_device(0)
        device, space = self.one(Device), self.one(Space)
        parent = self.make_table_of(device, space, NEST_PARENT | (PASID if self.model.new else 0), None, data=False)
        for seed, limits in zip(seeds, (0, SHORT | FEW, LONG | FEW | BY_INDEX), strict=False):
            self.make_queue(seed if seed % 3 == 2 else limits)
        flags = FAULT_ID_VALID | (PASID if self.model.new else 0)
        tables = [self.make_table_of(device, parent, flags, queue, data=True) for queue in self.model.every(Queue) * 2]
        if self.model.new:
            tables.append(self.make_table_of(device, space, flags, self.one(Queue), data=False))
        guests = self.guest_gets(device, parent) if self.model.new else tables[0]
        for seed in seeds[3:]:
            self.make_bound_device(seed)
        for number, one in enumerate(self.model.every(Device)):
            table = guests if one is device else tables[seeds[number] % len(tables)]
            self.change(one, table, NO_PASID, replace=one is device)

    def guest_gets(self, device: Device, parent: Table) -> Table:
        """A virtual IOMMU with an event queue, the device by a number, and a table there."""
        viommu = self.make_viommu_of(device, parent)
        assert viommu is not None
        self.make_vdevice_of(viommu, device, 5)
        self.make_event_queue(33)
        return self.make_table_of(device, viommu, FAULT_ID_VALID | PASID, self.one(Queue), data=True)

    @rule(call=CALL)
    def something_happens(self, call: tuple[str, dict[str, Any]]) -> None:
        """One rule: of several, Hypothesis leaves some out in each run, and what is looked for takes most of them."""
        name, arguments = call
        getattr(self, name)(**arguments)

    # ---- the two, side by side ----

    def agree(self, model: Callable[[], M], real: Callable[[], R]) -> tuple[M, R] | None:
        """Do it on both sides; both succeed, or are refused with the same errno. Then compare what was heard."""
        self.agreed = False
        expected = outcome_of(model)
        got = outcome_of(real)
        if isinstance(expected, Errno) or isinstance(got, Errno):
            assert expected == got
            self.hears()
            self.agreed = True
            return None
        self.hears()
        self.agreed = True
        return expected, got

    def hears(self, *, ordered: bool = True) -> None:
        """Compare what reached the hardware since the last time."""
        for number, iommu in enumerate(self.iommus):
            expected = [answer for to, answer in self.model.log if to == number]
            seen = [Answer(one.dev_id, one.pasid, one.grpid, one.code) for one in iommu.take()]
            assert seen == expected if ordered else Counter(seen) == Counter(expected)
            self.heard.update(answer[:3] for answer in seen)
        self.model.log.clear()

    def make(self, model: Callable[[], T], real: Callable[[], Object]) -> T | None:
        made = self.agree(model, real)
        if made is None:
            return None
        thing, one = made
        self.knows(thing, one)
        return thing

    def knows(self, thing: Thing, one: Object) -> None:
        assert (one.id, isinstance(one, KINDS[type(thing)])) == (thing.number, True)
        assert self.real.setdefault(thing, one) is one

    def one(self, kind: type[T], which: int = 0, *, loosely: bool = False) -> T:
        """One that there is; *loosely*: or, sometimes, one that is gone, or of another kind."""
        if loosely and which % 16 == 15:
            things = list(self.real)
            return things[which // 16 % len(things)]  # type: ignore[return-value]  # that is the point
        found = self.model.every(kind)
        return found[which // 16 % len(found)]

    def any_of(self, kind: type[T], which: int) -> T | None:
        return self.one(kind, which) if self.model.every(kind) else None

    def ref(self, thing: Thing, which: int = 0) -> Object | int:
        """What stands for it in a call: itself, or its id."""
        return thing.number if which % 2 and self.model.exists(thing) else self.real[thing]

    def by_number(self, nr: IoctlNr, out: int, form: str, *fields: int) -> Object:
        """Make an object by the ioctl; *out*: where in the struct its id comes back."""
        arg = bytearray(struct.pack("=I" + form, 4 + struct.calcsize("=" + form), *fields))
        self.context.ioctl(nr.request, arg, self.memory)
        return self.context.get(struct.unpack_from("=I", arg, out)[0])

    def named(self, which: int, *things: Thing | None) -> bool:
        """Whether a call is to be made by the ioctl, which has ids only."""
        return which % 2 == 1 and all(thing is None or self.model.exists(thing) for thing in things)

    def of(self, thing: Thing, kind: type[O]) -> O:
        one = self.real[thing]
        assert isinstance(one, kind)
        return one

    # ---- objects ----

    def object_is_made(self, kind: str, which: int) -> None:
        if len(self.model.things) < 40:
            getattr(self, f"make_{kind}")(which)

    def make_space(self, which: int) -> None:
        def model() -> Space:
            space = Space(self.model.free_id())
            self.model.add(space)
            return space

        self.make(
            model, lambda: self.by_number(IoctlNr.IOAS_ALLOC, 8, "2I", 0, 0) if which % 2 else self.context.ioas_alloc()
        )

    def make_queue(self, which: int) -> None:
        personality = Personality(which % 8 == 7)
        limits = QueueLimits(
            depth=(None, None, 3, 4)[which // 8 % 4],
            timeout_ns=(None, None, 10, 100)[which // 32 % 4],
            timeout_response=(DriverResponse.FAILURE, DriverResponse.INVALID)[which // 128 % 2],
            by_group_index=bool(which // 256 % 2),
            depth_response=(DriverResponse.FAILURE, DriverResponse.INVALID)[which // 512 % 2],
        )

        def model() -> Queue:
            queue = Queue(
                self.model.free_id(),
                personality is Personality.PROPOSED,
                limits.depth,
                limits.timeout_ns,
                limits.timeout_response,
                limits.by_group_index,
                limits.depth_response,
            )
            self.model.add(queue)
            return queue

        self.make(model, lambda: self.context.fault_queue_alloc(personality=personality, limits=limits))

    def make_table(self, which: int) -> None:
        """Of all kinds; half of them nested, with a queue, and right."""
        device = self.one(Device, which * 7, loosely=True)
        queue: Thing = self.one(Queue, which, loosely=True) if self.model.every(Queue) else device
        on: Thing = self.any_of((Table, Space, Viommu, Table)[which % 4], which) or device
        data = not isinstance(on, Space)
        flags = (FAULT_ID_VALID, FAULT_ID_VALID | PASID, FAULT_ID_VALID, PASID | NEST_PARENT)[which // 4 % 4]
        if which % 4 == 3:  # anything
            flags = which // 16 % (2 * (NEST_PARENT | DIRTY_TRACKING | FAULT_ID_VALID | PASID))
            data = which // 512 % 4 > 0
            on = self.one(Table, which, loosely=True)
        self.make_table_of(device, on, flags, queue, data)

    def make_table_of(self, device: Thing, on: Thing, flags: int, queue: Thing | None, data: bool) -> Table:
        kind, blank = (MOCK_FORMAT.data_type, MOCK_FORMAT.blank) if data else (0, b"")

        def real() -> Object:
            if self.named(self.model.free_id(), device, on, queue):
                numbers = (flags, device.number, on.number, 0, 0, kind, len(blank), BLANK)
                return self.by_number(IoctlNr.HWPT_ALLOC, 16, "7IQ2I", *numbers, queue.number if queue else 0, 0)
            fault = self.ref(queue) if queue else 0
            return self.context.hwpt_alloc(
                self.ref(device), self.ref(on), flags, fault=fault, data_type=kind, data=blank
            )

        made = self.make(lambda: self.model.make_table(device, on, flags, queue, data), real)
        return made or self.one(Table)

    def make_mock_device(self, which: int) -> None:
        pt: Thing = self.one(Space if which % 4 == 0 else Table, which, loosely=True)
        with_pasids = which // 4 % 2
        made = self.agree(
            lambda: self.model.make_mock_device(pt, MOCK_PASIDS * with_pasids),
            lambda: self.context.mock_device(self.ref(pt), 4 * with_pasids),
        )
        if made is not None:
            stdev, real = made
            assert stdev.device is not None
            assert real.hwpt is not None
            self.knows(stdev, real.stdev)
            self.knows(stdev.device, real)
            self.knows(stdev.device.sharing.at[NO_PASID].table, real.hwpt)

    def make_bound_device(self, which: int) -> None:
        """Alone or with up to two others; some are virtual functions, some behind another IOMMU."""
        iommu = int(which % 8 == 7)
        function = (None, None, None, True, False)[which // 8 % 5]
        max_pasids = (8, 8, 3, 0)[which // 64 % 4]
        sharing = Sharing()
        if which // 256 % 4 and self.model.every(Device):
            theirs = self.one(Device, which).sharing
            if theirs in self.groups and len(theirs.devices) < 3 and theirs.devices:
                sharing, iommu = theirs, theirs.devices[0].iommu
        group = self.groups.setdefault(sharing, DeviceGroup())
        self.make(
            lambda: self.model.bind(sharing, max_pasids, function, iommu, MOST_GROUPS),
            lambda: self.context.bind(
                self.iommus[iommu].c,
                which,
                MOST_GROUPS,
                driver=MOCK_DRIVER,
                group=group,
                max_pasids=max_pasids,
                virtual_function=None if function is None else VirtualFunction(function),
            ),
        )

    def make_viommu(self, which: int) -> None:
        parents = [table for table in self.model.every(Table) if table.flags & NEST_PARENT]
        parent = parents[which % len(parents)] if parents and which % 4 else self.one(Table, which * 3, loosely=True)
        self.make_viommu_of(self.one(Device, which, loosely=True), parent)

    def make_viommu_of(self, device: Thing, parent: Thing) -> Viommu | None:
        def real() -> Object:
            if self.named(self.model.free_id(), device, parent):
                numbers = (0, MOCK_VIOMMU_TYPE, device.number, parent.number, 0, 0, 0, 0)
                return self.by_number(IoctlNr.VIOMMU_ALLOC, 20, "7IQ", *numbers)
            return self.context.viommu_alloc(self.ref(device), self.ref(parent), MOCK_VIOMMU_TYPE)

        return self.make(lambda: self.model.make_viommu(device, parent), real)

    def make_vdevice(self, which: int) -> None:
        viommu: Thing = self.any_of(Viommu, which) or self.one(Space)
        self.make_vdevice_of(viommu, self.one(Device, which, loosely=True), which % 7)

    def make_vdevice_of(self, viommu: Thing, device: Thing, virt_id: int) -> None:
        def real() -> Object:
            if self.named(virt_id, viommu, device):
                numbers = (viommu.number, device.number, 0, virt_id)
                return self.by_number(IoctlNr.VDEVICE_ALLOC, 12, "3IQ", *numbers)
            return self.context.vdevice_alloc(self.ref(viommu), self.ref(device), virt_id)

        self.make(lambda: self.model.make_vdevice(viommu, device, virt_id), real)

    def make_event_queue(self, which: int) -> None:
        viommu = self.any_of(Viommu, which) or self.one(Space)
        kind = (MOCK_VEVENTQ_TYPE, MOCK_VEVENTQ_TYPE, 1)[which % 3]
        self.make(
            lambda: self.model.make_event_queue(viommu, kind, which % 5),
            lambda: self.context.veventq_alloc(self.ref(viommu), kind, which % 5),
        )

    def object_ends(self, change: str, which: int) -> None:
        getattr(self, change)(which)

    def anything_is_destroyed(self, which: int) -> None:
        thing = self.one(Thing, which, loosely=True)

        def real() -> None:
            if self.named(which, thing):
                self.context.ioctl(IoctlNr.DESTROY.request, bytearray(struct.pack("=2I", 8, thing.number)))
            else:
                self.context.destroy(self.ref(thing, which // 2))

        self.agree(lambda: self.model.destroy(thing), real)

    def something_unused_is_destroyed(self, which: int) -> None:
        kind: type[Thing] = (Table, Selftest, Vdevice, Viommu, Queue, EventQueue)[which % 6]
        uses = self.model.uses()
        unused = [thing for thing in self.model.every(kind) if not uses[thing]]
        if len(unused) > (kind is Selftest):
            thing = unused[which // 6 % len(unused)]
            self.agree(lambda: self.model.destroy(thing), lambda: self.context.destroy(self.ref(thing)))

    def file_is_closed(self, which: int) -> None:
        kind = EventQueue if which % 2 and self.model.every(EventQueue) else Queue
        if sum(queue.open for queue in self.model.every(Queue)) < 3 and kind is Queue:
            return
        queue = self.one(kind, which)
        assert isinstance(queue, Queue | EventQueue)
        if kind is Queue:
            got = outcome_of(self.of(queue, iommufd.FaultQueue).close)
        else:
            got = outcome_of(self.of(queue, iommufd.VirtualEventQueue).close)
        assert got == (None if queue.open else Errno("EBADF"))
        queue.open = False
        self.hears()

    def device_is_unbound(self, which: int) -> None:
        device = self.one(Device, which, loosely=True)
        if isinstance(device, Device) and device.sharing in self.groups and len(self.model.every(Device)) > 2:
            self.agree(lambda: self.model.unbind(device), self.of(device, iommufd.Device).unbind)

    # ---- attachment ----

    def change(self, device: Device, pt: Thing, pasid: int | None, *, replace: bool) -> None:
        real = self.of(device, iommufd.Device)
        call = real.replace if replace else real.attach
        made = self.agree(
            lambda: self.model.change(device, pt, pasid or NO_PASID, replace=replace),
            lambda: call(self.ref(pt, device.number), pasid=pasid),
        )
        if made is not None:
            self.knows(*made)
            if self.model.exists(device):
                assert real.attached_to(pasid or NO_PASID) is made[1]

    def device_is_attached(self, which: int, to: int, pasid: int | None, replace: bool, anything: bool) -> None:
        device = self.one(Device, which, loosely=True)
        if not isinstance(device, Device):
            return
        pt: Thing = self.one(Thing if anything else Table, to, loosely=True)
        self.change(device, pt, pasid, replace=replace)

    def device_is_moved(self, which: int, to: int, key: int) -> None:
        """To a table that fits, or to none; then its queue has something to answer."""
        device = self.one(Device, which)
        fitting = [table for table in self.model.every(Table) if self.fits(device, table)]
        pasid = ([NO_PASID, *device.pasids()] * 4)[key]
        if device.unplugged or not fitting:
            return
        table = fitting[to % len(fitting)]
        replace = pasid in device.sharing.at and device in device.sharing.at[pasid].devices
        self.change(device, table, pasid, replace=replace)

    def fits(self, device: Device, table: Table) -> bool:
        return table.iommu == device.iommu and table.takes_pasids == self.model.new

    def device_is_detached(self, which: int, pasid: int | None) -> None:
        device = self.one(Device, which)
        if not device.unplugged:
            real = self.of(device, iommufd.Device)
            self.agree(lambda: self.model.detach(device, pasid or NO_PASID), lambda: real.detach(pasid=pasid))

    # ---- faults ----

    def device_reports(self, which: int, pasid: int | None, grpid: int, perm: int, page: int, last: bool) -> None:
        """Every unattached PASID is a new one, so that the answer says whose it is."""
        device = self.one(Device, which, loosely=True)
        if not isinstance(device, Device):
            return
        if pasid == 17:
            self.pasid += 1
            pasid = self.pasid
        fault = FaultMessage(2 * last + (pasid is not None), device.number, pasid or 0, grpid, perm, page << 12, 0, 0)
        real = self.of(device, iommufd.Device)
        self.agree(
            lambda: self.model.report(device, fault),
            lambda: real.report(grpid, page << 12, pasid=pasid, perm=perm, last=last),
        )

    def devices_report_many(self, which: int, groups: int, unfinished_every: int) -> None:
        faulting = [
            device for device in self.model.every(Device) if (at := self.model.handler(device, None)) and at.table.queue
        ]
        for one in range(groups if faulting else 0):
            device = faulting[(which + one // (1 if which % 2 else 60)) % len(faulting)]
            number = self.model.every(Device).index(device) * 16
            self.device_reports(number, 17 if which % 3 else None, one % 3, 1, one, last=one % unfinished_every != 1)

    def pri_is_reset(self, which: int) -> None:
        device = self.one(Device, which)

        def model() -> None:
            if not device.shares_pri:
                raise Refused(errno.EOPNOTSUPP)
            device.paused = False

        self.agree(model, self.of(device, iommufd.Device).reset_pri)

    def time_passes(self, ns: int) -> None:
        self.context.core.tick(self.model.now + ns)
        self.agree(lambda: self.model.pass_time(self.model.now + ns), self.context.core.produce)
        next_ns, deadline = self.context.core.next_ns(), self.model.deadline()
        assert deadline is None or (next_ns is not None and next_ns <= deadline), "it would be late"

    # ---- the client: rather where there is something to do ----

    def queue_with(self, which: int, wanted: Callable[[Queue], object]) -> Queue | None:
        queues = [queue for queue in self.model.every(Queue) if wanted(queue)] or self.model.every(Queue)
        return queues[which % len(queues)] if queues else None

    def client_reads(self, which: int, length: int) -> None:
        queue = self.queue_with(which, lambda queue: queue.readable and queue.open)
        if queue is None:
            return
        real = self.of(queue, iommufd.FaultQueue)
        read = self.agree(
            lambda: queue.read(length),
            lambda: iommufd.unpack_messages(real.read(length)),
        )
        assert read is None or read[0] == read[1]

    def client_answers_by_number(self, which: int, responses: list[tuple[int, int]], beyond: int) -> None:
        if self.model.every(Queue):
            self.client_writes(self.one(Queue, which), responses, beyond)

    def client_answers_what_is_live(self, which: int, picks: list[tuple[int, int]]) -> None:
        """Sometimes one cookie twice, and sometimes with a code that is none."""
        queue = self.queue_with(which, lambda queue: queue.live and queue.open)
        if queue is not None and (live := sorted(queue.live)):
            self.client_writes(queue, [(live[pick % len(live)], code) for pick, code in picks], 0)

    def client_writes(self, queue: Queue, responses: list[tuple[int, int]], beyond: int) -> None:
        data = pack_responses(responses) + bytes(beyond)
        done = self.agree(
            lambda: self.model.write(queue, responses, beyond),
            lambda: self.of(queue, iommufd.FaultQueue).write(data),
        )
        assert done is None or done[0] == done[1]

    def client_answers_by_index(self, which: int, pick: int, code: int) -> None:
        queue = self.queue_with(which, lambda queue: queue.live and queue.by_index)
        if queue is None or (not queue.by_index and which % 4):
            return
        dev_id, grpid, pasid = pick % 9, pick % 3, (None, 1, 2)[pick % 5 % 3]
        if queue.live and pick % 8:
            last = list(queue.live.values())[pick // 8 % len(queue.live)].faults[-1]
            dev_id, grpid, pasid = last.dev_id, last.grpid, last.pasid if last.flags & 1 else None
        self.agree(
            lambda: self.model.respond_to(queue, dev_id, grpid, code, pasid),
            lambda: self.of(queue, iommufd.FaultQueue).respond_to(dev_id, grpid, code, pasid=pasid),
        )

    # ---- events ----

    def device_raises_events(self, which: int, times: int) -> None:
        mocks = [stdev.device for stdev in self.model.every(Selftest) if stdev.device]
        for _ in range(times if mocks else 0):
            device = mocks[which % len(mocks)]
            self.agree(
                lambda: self.model.raise_event(device, MOCK_VEVENTQ_TYPE),  # noqa: B023  called at once
                self.of(device, iommufd.MockDevice).raise_event,
            )

    def guest_reads_events(self, which: int, length: int) -> None:
        queue = self.any_of(EventQueue, which)
        if queue is None:
            return
        real = self.of(queue, iommufd.VirtualEventQueue)
        read = self.agree(lambda: queue.read(length), lambda: iommufd.unpack_events(real.read(length), 12))
        if read is not None:
            assert read[0] == [
                Event(one.sequence, None if one.lost else struct.unpack("<I", one.data)[0]) for one in read[1]
            ]

    # ---- always ----

    @invariant()
    def ids_are_the_same_and_so_are_users(self) -> None:
        uses = self.model.uses()
        assert [(one.id, one.users) for one in self.context] == [
            (number, uses[thing]) for number, thing in sorted(self.model.things.items())
        ]

    @invariant()
    def poll_says_the_same(self) -> None:
        for queue in self.model.every(Queue):
            if queue.open:
                assert self.of(queue, iommufd.FaultQueue).poll() == (0x4 | (0x41 if queue.readable else 0))
        for events in self.model.every(EventQueue):
            if events.open:
                readable = bool(events.events or events.lost)
                assert self.of(events, iommufd.VirtualEventQueue).poll() == (0x41 if readable else 0)

    @invariant()
    def counts_are_the_same_and_add_up(self) -> None:
        reported = self.model.past["reported"]
        settled = sum(self.model.past[name] for name in ("answered_faults", "auto_faults", "refused", "dropped"))
        for queue in self.model.every(Queue):
            counts, tally = self.of(queue, iommufd.FaultQueue).counts(), queue.tally
            assert counts == (
                *(tally[name] for name in ("delivered", "answered_groups", "answered_faults")),
                *(tally[name] for name in ("auto_groups", "auto_faults")),
                len(queue.waiting),
                len(queue.live),
                *(tally[name] for name in ("timed_out", "timed_out_faults", "lost", "lost_faults")),
            )
            settled += counts.answered_faults + counts.auto_answered_faults
            settled += sum(len(group.faults) for group in queue.outstanding)
        for device in self.model.every(Device):
            real = self.of(device, iommufd.Device)
            device_counts = real.counts()
            assert device_counts == (*(device.tally[name] for name in ("reported", "refused", "dropped")), 0, 0, 0)
            assert real.pri_paused == device.paused
            reported += device_counts.reported
            settled += device_counts.refused + device_counts.dropped + len(device.partial)
        assert reported == settled

    @invariant()
    def every_group_waits_or_is_read_or_was_answered_once(self) -> None:
        found = Counter(self.heard)
        for queue in self.model.every(Queue):
            found.update(self.model.key(group) for group in queue.outstanding if not group.device.unplugged)
        assert found == +self.model.asked

    def teardown(self) -> None:
        """The end answers the rest, and then every group has had its answer."""
        if not hasattr(self, "agreed"):
            return
        self.context.close()
        self.iommus[1].close()
        self.context.core.close()
        if not self.agreed:
            return
        for queue in self.model.every(Queue):
            for group in queue.outstanding:
                self.model.hardware_hears(group.device, group.faults[-1], INVALID)
        self.hears(ordered=False)
        assert self.heard == +self.model.asked


class Linux612(ModelAndEmulatorAgree):
    kernel = "6.12"


class Linux72(ModelAndEmulatorAgree):
    kernel = "7.2"


HOW = settings(
    settings(),
    max_examples=settings().max_examples // 2,  # two machines, and a long way each
    stateful_step_count=80,
    suppress_health_check=[HealthCheck.too_slow],
)
Linux612.TestCase.settings = Linux72.TestCase.settings = HOW
TestLinux612 = Linux612.TestCase
TestLinux72 = Linux72.TestCase
