"""iommufd once more, as simple as can be: lists, dicts, and the kernel's rules. For the machine that compares the two.

Nothing is counted that can be asked: who uses an object, and what a queue or a device has outstanding, is looked up in
what there is. Written from drivers/iommu/iommufd and drivers/iommu/io-pgfault.c, Linux 6.12 and 7.2, and from what
`QueueLimits` and `Context` say of the switches beyond them.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple, TypeVar

from uring_iopf.iommufd import LOST_GROUPS, FaultMessage

SUCCESS, INVALID, FAILURE = range(3)
NEST_PARENT, DIRTY_TRACKING, FAULT_ID_VALID, PASID = 1, 2, 4, 8
NO_PASID = 0
PLENTY = 1 << 30
MOST_GROUPS = 256
"""What a bound device has room for: groups, and faults before the last ones of their groups."""


class Refused(Exception):
    """The model's refusal, with Linux's errno."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.number = number


class Answer(NamedTuple):
    """What the hardware hears."""

    device: int
    pasid: int
    grpid: int
    code: int


class Event(NamedTuple):
    sequence: int
    virt_id: int | None  # None: the record of a loss


# ---- the objects ----


@dataclass(eq=False)
class Thing:
    number: int


@dataclass(eq=False)
class Space(Thing):
    pass


@dataclass(eq=False)
class Table(Thing):
    iommu: int
    made_on: Space | Table | Viommu
    flags: int
    queue: Queue | None = None
    auto: bool = False

    @property
    def nested(self) -> bool:
        return not isinstance(self.made_on, Space)

    @property
    def takes_pasids(self) -> bool:
        return bool(self.flags & PASID)

    @property
    def viommu(self) -> Viommu | None:
        return self.made_on if isinstance(self.made_on, Viommu) else None


@dataclass(eq=False)
class Viommu(Thing):
    iommu: int
    parent: Table


@dataclass(eq=False)
class Vdevice(Thing):
    viommu: Viommu
    device: Device
    virt_id: int


@dataclass(eq=False)
class EventQueue(Thing):
    viommu: Viommu
    kind: int
    depth: int
    open: bool = True
    events: list[Event] = field(default_factory=list)
    lost: Event | None = None
    reported: int = 0

    def report(self, virt_id: int) -> None:
        sequence, self.reported = self.reported, self.reported + 1
        if len(self.events) < self.depth:
            self.events.append(Event(sequence, virt_id))
            self.lost = None
        else:
            self.lost = Event(sequence, None)

    def read(self, length: int) -> list[Event]:
        if not self.open:
            raise Refused(errno.EBADF)
        if length < 8:
            raise Refused(errno.EINVAL)
        records = [*self.events, *([self.lost] if self.lost else [])]
        taken = 0
        for record in records:
            length -= 8 if record.virt_id is None else 12
            if length < 0:
                break
            taken += 1
        if records and not taken:
            raise Refused(errno.EINVAL)
        if taken == len(records):
            self.lost = None
        del self.events[:taken]
        return records[:taken]


@dataclass(eq=False)
class Group:
    """A page request group that its device has completed."""

    device: Device
    at: Attachment
    faults: list[FaultMessage]  # without a cookie
    came: int


@dataclass(eq=False)
class Queue(Thing):
    proposed: bool = False
    depth: int | None = None
    timeout: int | None = None
    timeout_code: int = FAILURE
    by_index: bool = False
    lost_code: int = FAILURE
    open: bool = True
    waiting: list[Group] = field(default_factory=list)  # oldest first
    live: dict[int, Group] = field(default_factory=dict)  # in the order of delivery
    zero_is_cookie: bool = False
    untold: int = 0
    ahead: list[Group] = field(default_factory=list)  # what waited when the newest loss came: told of before it
    tally: Counter[str] = field(default_factory=Counter)

    @property
    def tells_loss(self) -> bool:
        return bool(self.untold) and not {*self.ahead} & {*self.waiting}

    @property
    def readable(self) -> bool:
        return bool(self.waiting) or self.tells_loss

    @property
    def outstanding(self) -> list[Group]:
        return [*self.waiting, *self.live.values()]

    def read(self, length: int) -> list[FaultMessage]:
        if not self.open:
            raise Refused(errno.EBADF)
        if length % 40:
            raise Refused(errno.ESPIPE)
        if self.proposed and length and not self.readable:
            raise Refused(errno.EAGAIN)
        if self.proposed and not length and not self.waiting:  # a group that waits does not fit
            return []
        room = length // 40
        messages: list[FaultMessage] = []
        while self.readable:
            need = 1 if self.tells_loss else len(self.waiting[0].faults)
            if need > room:
                if messages:
                    break
                raise Refused(errno.EINVAL)
            messages += self.lost_message() if self.tells_loss else self.deliver()
            room -= need
            if not room and not self.tells_loss:
                break
        return messages

    def lost_message(self) -> list[FaultMessage]:
        lost, self.untold = self.untold, 0
        return [FaultMessage(LOST_GROUPS, 0, 0, 0, 0, 0, lost, 0)]

    def deliver(self) -> list[FaultMessage]:
        group = self.waiting.pop(0)
        cookie = next(n for n in count(0 if self.zero_is_cookie else 1) if n not in self.live)
        self.live[cookie] = group
        self.tally["delivered"] += 1
        return [fault._replace(cookie=cookie) for fault in group.faults]


@dataclass(eq=False)
class Attachment:
    """One switch of a group of devices, or of one of their PASIDs, to a table: what Linux has a handle for."""

    table: Table
    dev_id: int
    devices: list[Device]  # attached one by one
    reporting: set[Device] | None  # None: all of the group

    def takes(self, device: Device) -> bool:
        return self.table.queue is not None and (self.reporting is None or device in self.reporting)


@dataclass(eq=False)
class Sharing:
    """Devices that the IOMMU cannot tell apart."""

    devices: list[Device] = field(default_factory=list)
    at: dict[int, Attachment] = field(default_factory=dict)


@dataclass(eq=False)
class Device(Thing):
    sharing: Sharing
    iommu: int = 0
    max_pasids: int = 0
    function: bool | None = None  # a virtual function; whether its physical one has PRI
    shares_pri: bool = False
    paused: bool = False
    unplugged: bool = False
    partial: list[FaultMessage] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)
    """How many of those, by group index, are of a group that has had its answer meanwhile."""
    free_groups: int = PLENTY
    free_faults: int = PLENTY
    identity: tuple[Viommu, int] | None = None
    tally: Counter[str] = field(default_factory=Counter)
    mock: bool = False
    refuses_1024: bool = False  # the next table for that PASID, which the selftest's driver then fails

    def pasids(self) -> list[int]:
        return sorted(pasid for pasid, at in self.sharing.at.items() if pasid != NO_PASID and self in at.devices)


@dataclass(eq=False)
class Selftest(Thing):
    device: Device | None = None


# ---- what is done with them ----

T = TypeVar("T", bound=Thing)


class Model:
    def __init__(self, kernel: str, virtual_pri_reset: bool) -> None:
        self.new = kernel == "7.2"
        self.virtual_pri_reset = virtual_pri_reset
        self.now = 0
        self.things: dict[int, Thing] = {}
        self.buried: set[int] = set()  # ids that name nothing any more
        self.log: list[tuple[int, Answer]] = []  # which IOMMU hears what
        self.asked: Counter[tuple[int, int, int]] = Counter()  # groups that the hardware wants one answer for
        self.past: Counter[str] = Counter()  # tallies of what is gone

    def free_id(self) -> int:
        return next(n for n in count(1) if n not in self.things and n not in self.buried)

    def exists(self, thing: Thing) -> bool:
        return self.things.get(thing.number) is thing

    def every(self, kind: type[T]) -> list[T]:
        """Those there are, in the order in which they were made."""
        return [thing for thing in self.things.values() if isinstance(thing, kind)]

    def uses(self) -> Counter[Thing]:
        """How many others keep each object from being destroyed."""
        uses: Counter[Thing] = Counter()
        for one in self.things.values():
            match one:
                case Table():
                    uses.update([one.made_on, *([one.queue] if one.queue else [])])
                case Viommu():
                    uses[one.parent] += 1
                case Vdevice():
                    uses[one.viommu] += 1
                case EventQueue():
                    uses.update([one.viommu, *([one] if one.open else [])])
                case Queue():
                    uses[one] += one.open
                case Device():
                    uses[one] += not one.unplugged
                    for at in one.sharing.at.values():
                        if one in at.devices:
                            uses.update([at.table, one])
        return uses

    # ---- making ----

    def add(self, thing: Thing) -> Thing:
        assert thing.number == self.free_id()
        self.things[thing.number] = thing
        return thing

    def remove(self, thing: Thing) -> None:
        del self.things[thing.number]
        if isinstance(thing, Queue | Device):
            self.past.update(thing.tally)

    def find(self, thing: Thing | None, kind: type[Thing] | tuple[type[Thing], ...], number: int) -> None:
        if thing is None or not self.exists(thing) or not isinstance(thing, kind):
            raise Refused(number)

    def make_table(self, device: Thing, on: Thing, flags: int, queue: Thing | None, data: bool) -> Table:
        self.find(device, Device, errno.ENOENT)
        self.find(on, Thing, errno.EINVAL)
        assert isinstance(device, Device)
        if isinstance(on, Space):
            known = NEST_PARENT | DIRTY_TRACKING | (FAULT_ID_VALID | PASID if self.new else 0)
            parent_with_queue = NEST_PARENT | FAULT_ID_VALID
            # The mock of 7.2 passes over data for a paging table.
            if flags & ~known or flags & parent_with_queue == parent_with_queue or (data and not self.new):
                raise Refused(errno.EOPNOTSUPP)
        elif isinstance(on, Table) and not on.nested:
            if flags & ~(FAULT_ID_VALID | (PASID if self.new else 0)) or not data:
                raise Refused(errno.EOPNOTSUPP)
            if on.auto or not on.flags & NEST_PARENT or on.iommu != device.iommu:
                raise Refused(errno.EINVAL)
        elif isinstance(on, Viommu):
            if on.iommu != device.iommu:
                raise Refused(errno.EINVAL)
            if flags & ~(FAULT_ID_VALID | PASID) or not data:
                raise Refused(errno.EOPNOTSUPP)
        else:
            raise Refused(errno.EINVAL)
        if not flags & FAULT_ID_VALID:
            queue = None
        else:
            self.find(queue, Queue, errno.ENOENT)
        assert queue is None or isinstance(queue, Queue)
        table = Table(self.free_id(), device.iommu, on, flags, queue)
        self.add(table)
        return table

    def make_viommu(self, device: Thing, parent: Thing) -> Viommu:
        self.has_viommus()
        self.find(device, Device, errno.ENOENT)
        self.find(parent, Table, errno.ENOENT)
        assert isinstance(device, Device)
        assert isinstance(parent, Table)
        if parent.nested:
            raise Refused(errno.ENOENT)
        if not parent.flags & NEST_PARENT or parent.iommu != device.iommu:
            raise Refused(errno.EINVAL)
        viommu = Viommu(self.free_id(), device.iommu, parent)
        self.add(viommu)
        return viommu

    def make_vdevice(self, viommu: Thing, device: Thing, virt_id: int) -> Vdevice:
        self.has_viommus()
        self.find(viommu, Viommu, errno.ENOENT)
        self.find(device, Device, errno.ENOENT)
        assert isinstance(viommu, Viommu)
        assert isinstance(device, Device)
        if viommu.iommu != device.iommu:
            raise Refused(errno.EINVAL)
        for one in self.things.values():
            if isinstance(one, Vdevice) and (one.device is device or (one.viommu is viommu and one.virt_id == virt_id)):
                raise Refused(errno.EEXIST)
        vdevice = Vdevice(self.free_id(), viommu, device, virt_id)
        self.add(vdevice)
        return vdevice

    def make_event_queue(self, viommu: Thing, kind: int, depth: int) -> EventQueue:
        self.has_viommus()
        if not depth:
            raise Refused(errno.EINVAL)
        self.find(viommu, Viommu, errno.ENOENT)
        assert isinstance(viommu, Viommu)
        if self.event_queue(viommu, kind):
            raise Refused(errno.EEXIST)
        queue = EventQueue(self.free_id(), viommu, kind, depth)
        self.add(queue)
        return queue

    def has_viommus(self) -> None:
        if not self.new:
            raise Refused(errno.ENOTTY)

    def event_queue(self, viommu: Viommu, kind: int) -> EventQueue | None:
        for one in self.things.values():
            if isinstance(one, EventQueue) and one.viommu is viommu and one.kind == kind:
                return one
        return None

    def bind(self, sharing: Sharing, max_pasids: int, function: bool | None, iommu: int, room: int) -> Device:
        device = Device(
            self.free_id(),
            sharing,
            iommu,
            max_pasids,
            function,
            self.virtual_pri_reset and bool(function),
            free_groups=room,
            free_faults=room,
        )
        self.add(device)
        sharing.devices.append(device)
        return device

    def make_mock_device(self, pt: Thing, max_pasids: int) -> Selftest:
        if max_pasids and not self.new:
            raise Refused(errno.EINVAL)
        stdev = Selftest(self.free_id())
        self.add(stdev)
        stdev.device = self.bind(Sharing(), max_pasids, None, 0, PLENTY)
        stdev.device.mock = True
        try:
            self.change(stdev.device, pt, NO_PASID, replace=False)
        except Refused:
            self.destroy(stdev)
            raise
        return stdev

    # ---- ending ----

    def destroy(self, thing: Thing) -> None:
        self.find(thing, Thing, errno.ENOENT)
        if self.uses()[thing]:
            raise Refused(errno.EBUSY)
        if isinstance(thing, Queue):
            assert not thing.outstanding
        elif isinstance(thing, Selftest) and thing.device is not None:
            device = thing.device
            if device.pasids():  # stay, and keep the object
                self.detach(device, NO_PASID)
                device.unplugged = True
                for group in self.outstanding(device):
                    self.asked[self.key(group)] -= 1
            else:
                self.unbind(device)
        self.remove(thing)

    def unbind(self, device: Device) -> None:
        self.find(device, Device, errno.ENOENT)
        for pasid in device.pasids():
            self.detach(device, pasid)
        self.detach(device, NO_PASID)
        for one in list(self.things.values()):
            if isinstance(one, Vdevice) and one.device is device:
                self.remove(one)
                self.buried.add(one.number)
        sharing = device.sharing
        for pasid in sorted(sharing.at, key=lambda pasid: (pasid == NO_PASID, pasid)):  # what others keep attached
            self.answer_for(sharing.at[pasid], device)
        sharing.devices.remove(device)
        self.drop_partial(device)
        self.remove(device)

    def outstanding(self, device: Device) -> list[Group]:
        return [group for queue in self.every(Queue) for group in queue.outstanding if group.device is device]

    # ---- attachment ----

    def change(self, device: Device, pt: Thing, pasid: int, *, replace: bool) -> Table:
        self.find(device, Device, errno.ENOENT)
        if device.unplugged:
            raise Refused(errno.ENOENT)
        if pasid and not self.new:
            raise Refused(errno.EINVAL)
        self.find(pt, Thing, errno.ENOENT)
        if isinstance(pt, Table):
            self.switch(device, pt, pasid, replace)
            return pt
        if not isinstance(pt, Space):
            raise Refused(errno.EINVAL)
        for table in self.every(Table):
            if table.auto and table.made_on is pt:
                try:
                    self.switch(device, table, pasid, replace)
                except Refused as refused:
                    if refused.number != errno.EINVAL:
                        raise
                else:
                    return table
        table = Table(self.free_id(), device.iommu, pt, 0, auto=True)
        self.add(table)
        try:
            self.switch(device, table, pasid, replace)
        except Refused:
            self.remove(table)
            raise
        return table

    def switch(self, device: Device, table: Table, pasid: int, replace: bool) -> None:
        sharing = device.sharing
        old = sharing.at.get(pasid)
        mine = old is not None and device in old.devices
        if replace:
            if old is None or not mine:
                raise Refused(errno.EINVAL)
            if old.table is table:
                return
        elif old is not None:
            if mine and (self.new or old.table is table):
                raise Refused(errno.EBUSY)
            if old.table is not table:
                raise Refused(errno.EINVAL)
            old.devices.append(device)
            return
        self.check(device, table, pasid, old)
        if device.mock and pasid == 1024:
            device.refuses_1024 = not device.refuses_1024
            if not device.refuses_1024:
                raise Refused(errno.ENOMEM)
        reporting: set[Device] | None = None
        if not self.new:  # switched on for one device, and then for as long as tables take faults
            already = {one for one in sharing.devices if old is not None and old.takes(one)}
            reporting = (already or {device}) if table.queue else set()
        if pasid == NO_PASID:
            self.identify(sharing, table)
        sharing.at[pasid] = Attachment(table, device.number, old.devices if old else [device], reporting)
        if old is not None:
            self.ended(sharing, old)
        self.forget_partial(sharing)

    def check(self, device: Device, table: Table, pasid: int, old: Attachment | None) -> None:
        sharing = device.sharing
        if pasid == NO_PASID:
            fits = table.takes_pasids or not any(sharing.at)
        else:
            base = sharing.at.get(NO_PASID)
            fits = table.takes_pasids and (base is None or base.table.takes_pasids)
            fits &= pasid < device.max_pasids
            fits &= all(pasid < one.max_pasids for one in sharing.devices if one.max_pasids)
        if table.queue and device.function is not None and not device.shares_pri:
            if self.new:
                fits &= not device.function
            else:  # asked when faults are switched on
                fits &= old is not None and old.table.queue is not None
        if not fits or table.iommu != device.iommu:
            raise Refused(errno.EINVAL)
        if pasid == NO_PASID and table.viommu and not all(self.vdevice(one, table.viommu) for one in sharing.devices):
            raise Refused(errno.ENOENT)

    def vdevice(self, device: Device, viommu: Viommu) -> Vdevice | None:
        for one in self.things.values():
            if isinstance(one, Vdevice) and one.device is device and one.viommu is viommu:
                return one
        return None

    def identify(self, sharing: Sharing, table: Table | None) -> None:
        for device in sharing.devices:
            if table is None or table.viommu is None:
                device.identity = None
            elif device.identity is None or device.identity[0] is not table.viommu:
                vdevice = self.vdevice(device, table.viommu)
                assert vdevice is not None
                device.identity = (table.viommu, vdevice.virt_id)

    def detach(self, device: Device, pasid: int) -> None:
        self.find(device, Device, errno.ENOENT)
        if pasid and not self.new:
            raise Refused(errno.EINVAL)
        sharing = device.sharing
        at = sharing.at.get(pasid)
        if at is None or device not in at.devices:
            return
        at.devices.remove(device)
        if not at.devices:
            del sharing.at[pasid]
            if pasid == 1024:
                device.refuses_1024 = False
            if pasid == NO_PASID:
                self.identify(sharing, None)
            self.ended(sharing, at)
            self.forget_partial(sharing)

    def ended(self, sharing: Sharing, at: Attachment) -> None:
        self.answer_for(at)
        if at.table.auto and not self.uses()[at.table]:
            self.remove(at.table)

    def forget_partial(self, sharing: Sharing) -> None:
        for device in sharing.devices:
            if not any(at.takes(device) for at in sharing.at.values()):
                device.free_faults += len(device.partial)
                self.drop_partial(device)

    def drop_partial(self, device: Device) -> None:
        """Unfinished groups end without an answer, unless they have had one: their last request was refused."""
        refused = device.answered.total()
        device.tally["refused"] += refused
        device.tally["dropped"] += len(device.partial) - refused
        device.partial.clear()
        device.answered.clear()

    # ---- faults ----

    def handler(self, device: Device, pasid: int | None) -> Attachment | None:
        at = device.sharing.at
        if not pasid:
            return at.get(NO_PASID)
        if pasid in at:
            return at[pasid]
        base = at.get(NO_PASID)
        return base if base is not None and base.table.nested else None

    def report(self, device: Device, fault: FaultMessage) -> None:
        self.find(device, Device, errno.ENOENT)
        if device.unplugged:
            raise Refused(errno.ENOENT)
        last = bool(fault.flags & 2)
        at = self.handler(device, fault.pasid if fault.flags & 1 else None)
        device.tally["reported"] += 1
        if at is None or not at.takes(device) or device.paused:
            self.refuse(device, [fault], INVALID)
            raise Refused(errno.EINVAL)
        queue = at.table.queue
        assert queue is not None
        if not last:
            if not device.free_faults:
                device.tally["dropped"] += 1
                raise Refused(errno.ENOMEM)
            device.free_faults -= 1
            device.partial.append(fault)
            return
        faults = [one for one in device.partial if one.grpid == fault.grpid]
        device.partial = [one for one in device.partial if one.grpid != fault.grpid]
        del device.answered[fault.grpid]
        faults = [one._replace(dev_id=at.dev_id) for one in [*faults, fault]]
        if not device.free_groups:
            device.free_faults += len(faults) - 1
            self.refuse(device, faults, FAILURE)
        elif queue.depth is not None and len(queue.waiting) >= queue.depth:
            device.free_faults += len(faults) - 1
            queue.tally["lost"] += 1
            queue.tally["lost_faults"] += len(faults)
            queue.untold += 1
            queue.ahead = list(queue.waiting)
            self.refuse(device, faults, queue.lost_code)
        else:
            device.free_groups -= 1
            self.asked[device.number, fault.pasid, fault.grpid] += 1
            queue.waiting.append(Group(device, at, faults, self.now))

    def refuse(self, device: Device, faults: list[FaultMessage], code: int) -> None:
        device.tally["refused"] += len(faults)
        if kept := sum(one.grpid == faults[-1].grpid for one in device.partial):
            device.answered[faults[-1].grpid] = kept
        self.asked[device.number, faults[-1].pasid, faults[-1].grpid] += 1
        self.hardware_hears(device, faults[-1], code)

    def hardware_hears(self, device: Device, fault: FaultMessage, code: int) -> None:
        if code == FAILURE and device.shares_pri:
            device.paused = True
            code = INVALID
        if not device.unplugged:
            self.log.append((device.iommu, Answer(device.number, fault.pasid, fault.grpid, code)))

    def key(self, group: Group) -> tuple[int, int, int]:
        last = group.faults[-1]
        return group.device.number, last.pasid, last.grpid

    def respond(self, queue: Queue, group: Group, code: int, by: str) -> None:
        queue.tally[f"{by}_groups"] += 1
        queue.tally[f"{by}_faults"] += len(group.faults)
        group.device.free_groups += 1
        group.device.free_faults += len(group.faults) - 1
        self.hardware_hears(group.device, group.faults[-1], code)

    def answer_for(self, at: Attachment, device: Device | None = None) -> None:
        """What Linux answers itself: the unread, newest first, then the read, by rising cookie."""
        queue = at.table.queue
        if queue is None:
            return
        ended = {g for g in queue.outstanding if g.at is at and (device is None or g.device is device)}
        unread = [group for group in queue.waiting if group in ended]
        queue.waiting = [group for group in queue.waiting if group not in ended]
        for group in reversed(unread):
            self.respond(queue, group, INVALID, "auto")
        for cookie in sorted(cookie for cookie, group in queue.live.items() if group in ended):
            self.respond(queue, queue.live.pop(cookie), INVALID, "auto")

    def takes_code(self, group: Group | None, code: int) -> bool:
        return code in (SUCCESS, INVALID) or (code == FAILURE and group is not None and group.device.shares_pri)

    def write(self, queue: Queue, responses: list[tuple[int, int]], beyond: int) -> int:
        if not queue.open:
            raise Refused(errno.EBADF)
        if beyond:
            raise Refused(errno.ESPIPE)
        for done, (cookie, code) in enumerate(responses):
            group = queue.live.get(cookie)
            if group is not None and self.takes_code(group, code):
                self.respond(queue, queue.live.pop(cookie), code, "answered")
                continue
            if code in (SUCCESS, INVALID) and cookie == 0 and queue.live:
                queue.zero_is_cookie = True  # the xarray's reserved entry is gone
            if not done:
                raise Refused(errno.EINVAL)
            return 8 * done
        return 8 * len(responses)

    def respond_to(self, queue: Queue, dev_id: int, grpid: int, code: int, pasid: int | None) -> None:
        if not queue.open:
            raise Refused(errno.EBADF)
        if not queue.by_index:
            raise Refused(errno.EOPNOTSUPP)
        for cookie, group in queue.live.items():
            last = group.faults[-1]
            if (last.dev_id, last.pasid if last.flags & 1 else None, last.grpid) == (dev_id, pasid, grpid):
                if self.takes_code(group, code):
                    self.respond(queue, queue.live.pop(cookie), code, "answered")
                    return
                break
        raise Refused(errno.EINVAL)

    def pass_time(self, now: int) -> None:
        """The timer: queue by queue, the newest queue first; oldest groups first."""
        self.now = now
        for queue in reversed(self.every(Queue)):
            if queue.timeout is None:
                continue
            for cookie, group in list(queue.live.items()):
                if now >= group.came + queue.timeout:
                    del queue.live[cookie]
                    self.time_out(queue, group)
            while queue.waiting and now >= queue.waiting[0].came + queue.timeout:
                self.time_out(queue, queue.waiting.pop(0))

    def time_out(self, queue: Queue, group: Group) -> None:
        queue.tally["timed_out"] += 1
        queue.tally["timed_out_faults"] += len(group.faults)
        self.respond(queue, group, queue.timeout_code, "auto")

    def deadline(self) -> int | None:
        return min(
            (group.came + queue.timeout for queue in self.every(Queue) if queue.timeout for group in queue.outstanding),
            default=None,
        )

    # ---- events ----

    def raise_event(self, device: Device, kind: int) -> None:
        if not self.exists(device) or device.identity is None or not device.identity[1]:
            raise Refused(errno.ENOENT)
        viommu, virt_id = device.identity
        queue = self.event_queue(viommu, kind)
        if queue is None:
            raise Refused(errno.EOPNOTSUPP)
        queue.report(virt_id)
