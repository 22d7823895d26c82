"""A simple model of Linux's fault queue and the emulated one do the same, call after call.

The model is written from the kernel's rules (drivers/iommu/iommufd/fault.c, drivers/iommu/io-pgfault.c, Linux 6.12)
with lists and dicts, and knows nothing of how the emulator does it. Every report that has a PASID has one of its own,
so that an answer at the hardware says whose it is.
"""

from __future__ import annotations

import errno
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from uring_iopf.errors import KernelError
from uring_iopf.iommufd import HWPT, Context, FaultMessage, FaultQueue, MockDevice, NestedHWPT, PagingHWPT

SUCCESS, INVALID = 0, 1


class Refused(Exception):
    """The model's refusal, with Linux's errno."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.number = number


@dataclass(frozen=True)
class Answer:
    """What the hardware hears."""

    device: int
    pasid: int
    grpid: int
    code: int


@dataclass(eq=False)
class Group:
    device: ModelDevice
    attachment: object
    faults: list[FaultMessage]  # without a cookie

    def answer(self, code: int) -> Answer:
        last = self.faults[-1]
        return Answer(self.device.number, last.pasid, last.grpid, code)


@dataclass(eq=False)
class ModelQueue:
    waiting: list[Group] = field(default_factory=list)  # oldest first
    live: dict[int, Group] = field(default_factory=dict)
    zero_is_cookie: bool = False
    open: bool = True
    exists: bool = True
    tables: int = 0

    def read(self, length: int) -> list[FaultMessage]:
        if not self.open:
            raise Refused(errno.EBADF)
        if length % 40:
            raise Refused(errno.ESPIPE)
        room = length // 40
        messages: list[FaultMessage] = []
        while self.waiting:
            group = self.waiting[0]
            if len(group.faults) > room:
                if messages:
                    break
                raise Refused(errno.EINVAL)
            cookie = 0 if self.zero_is_cookie else 1
            while cookie in self.live:
                cookie += 1
            self.live[cookie] = self.waiting.pop(0)
            messages += [fault._replace(cookie=cookie) for fault in group.faults]
            room -= len(group.faults)
            if not room:
                break
        return messages

    def write(self, responses: list[tuple[int, int]], beyond: int) -> tuple[int, list[Answer]]:
        if not self.open:
            raise Refused(errno.EBADF)
        if beyond:
            raise Refused(errno.ESPIPE)
        answers: list[Answer] = []
        for cookie, code in responses:
            if code in (SUCCESS, INVALID) and cookie in self.live:
                answers.append(self.live.pop(cookie).answer(code))
                continue
            if code in (SUCCESS, INVALID) and cookie == 0 and self.live:
                self.zero_is_cookie = True  # the xarray's reserved entry is gone
            if not answers:
                raise Refused(errno.EINVAL)
            break
        return 8 * len(answers), answers

    def drop(self, attachment: object) -> list[Answer]:
        """What Linux answers itself: the unread, newest first, then the read, by rising cookie."""
        unread = [group for group in self.waiting if group.attachment is attachment]
        read = sorted(cookie for cookie, group in self.live.items() if group.attachment is attachment)
        self.waiting = [group for group in self.waiting if group.attachment is not attachment]
        return [group.answer(INVALID) for group in [*reversed(unread), *(self.live.pop(cookie) for cookie in read)]]


@dataclass(eq=False)
class ModelTable:
    queue: ModelQueue | None
    exists: bool = True
    devices: int = 0


@dataclass(eq=False)
class ModelDevice:
    number: int  # the object id, which only the emulator gives out
    table: ModelTable | None = None
    attachment: object = None
    partial: list[FaultMessage] = field(default_factory=list)

    def attach(self, table: ModelTable | None) -> list[Answer]:
        """To a table or, with None, to nothing."""
        if table is self.table and table is not None:
            return []
        old, attachment = self.table, self.attachment
        self.table, self.attachment = table, object()
        if table is not None:
            table.devices += 1
        if table is None or table.queue is None:
            self.partial.clear()
        if old is None:
            return []
        old.devices -= 1
        return old.queue.drop(attachment) if old.queue else []

    def report(self, fault: FaultMessage) -> tuple[int, list[Answer]]:
        if self.table is None or self.table.queue is None:
            return errno.EINVAL, [Answer(self.number, fault.pasid, fault.grpid, INVALID)]
        if fault.flags & 2:
            same = [one for one in self.partial if one.grpid == fault.grpid]
            self.partial = [one for one in self.partial if one.grpid != fault.grpid]
            self.table.queue.waiting.append(Group(self, self.attachment, [*same, fault]))
        else:
            self.partial.append(fault)
        return 0, []


@dataclass(eq=False)
class Device:
    model: ModelDevice
    real: MockDevice


@dataclass(eq=False)
class Queue:
    model: ModelQueue
    real: FaultQueue


@dataclass(eq=False)
class Table:
    model: ModelTable
    real: HWPT


def outcome_of(call: Callable[[], object]) -> object:
    """What a call on either side came to."""
    try:
        return call()
    except KernelError as error:
        return "errno", error.errno
    except Refused as refused:
        return "errno", refused.number


WHICH = st.integers(0, 11)  # one of what there is, counted round
CODES = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 15])


class ModelAndEmulatorAgree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.context = Context()
        self.ioas = self.context.ioas_alloc()
        self.maker = self.context.mock_device(self.ioas)  # tables are made for its IOMMU; it never faults
        self.parent: PagingHWPT = self.context.hwpt_alloc_paging(self.maker, self.ioas, nest_parent=True)
        self.plain = Table(ModelTable(None), self.context.hwpt_alloc_nested(self.maker, self.parent))
        self.tables = [self.plain]
        self.queues: list[Queue] = []
        self.devices: list[Device] = []
        self.heard: Counter[Answer] = Counter()  # from the emulator
        self.expected: Counter[tuple[int, int, int]] = Counter()  # groups that want one answer each
        self.pasid = 0
        self.queue_is_made()
        self.queue_is_made()
        self.table_is_made(0)
        for table in (1, 1, 2):
            self.device_is_made(table)

    # ---- the two, side by side ----

    def hears(self, expected: Iterable[Answer], *, ordered: bool = True) -> None:
        """Compare what reached the hardware since the last time."""
        seen = [Answer(one.dev_id, one.pasid, one.grpid, one.code) for one in self.context.mock.take()]
        self.heard.update(seen)
        if ordered:
            assert seen == list(expected)
        else:
            assert Counter(seen) == Counter(expected)

    def move(self, device: Device, table: Table) -> None:
        call = device.real.replace if device.model.table else device.real.attach
        if table.model.exists:
            assert call(table.real) is table.real
            self.hears(device.model.attach(table.model))
        else:
            assert outcome_of(lambda: call(table.real)) == ("errno", errno.ENOENT)
            self.hears([])

    # ---- objects: one rule, so that most steps are traffic ----

    @rule(
        change=st.sampled_from(
            [
                "table_is_made",
                "table_is_destroyed",
                "queue_is_destroyed",
                "file_is_closed",
                "device_is_made",
                "device_goes",
            ]
        ),
        which=WHICH,
    )
    def objects_change(self, change: str, which: int) -> None:
        getattr(self, change)(which)
        if sum(queue.model.open for queue in self.queues) < 2:
            self.queue_is_made()

    def queue_is_made(self) -> None:
        self.queues.append(Queue(ModelQueue(), self.context.fault_queue_alloc()))
        self.table_is_made(len(self.queues) - 1)

    def table_is_made(self, which: int) -> None:
        queue = self.queues[which % len(self.queues)]
        result = outcome_of(lambda: self.context.hwpt_alloc_nested(self.maker, self.parent, fault=queue.real))
        if queue.model.exists:
            assert isinstance(result, NestedHWPT)
            self.tables.append(Table(ModelTable(queue.model), result))
            queue.model.tables += 1
        else:
            assert result == ("errno", errno.ENOENT)

    def device_is_made(self, which: int) -> None:
        if len(self.devices) > 3:
            return
        table = self.tables[which % len(self.tables)]
        if table.model.exists:
            real = self.context.mock_device(table.real)
            self.devices.append(Device(ModelDevice(real.id), real))
            self.devices[-1].model.attach(table.model)
        else:
            assert outcome_of(lambda: self.context.mock_device(table.real)) == ("errno", errno.ENOENT)
            self.hears([])

    def device_goes(self, which: int) -> None:
        if len(self.devices) < 3:
            return
        device = self.devices.pop(which % len(self.devices))
        self.context.destroy(device.real.stdev)
        self.hears(device.model.attach(None))
        assert outcome_of(lambda: device.real.report(1, 0x1000)) == ("errno", errno.ENOENT)

    def table_is_destroyed(self, which: int) -> None:
        table = self.tables[which % len(self.tables)]
        number = 0 if table.model.exists else errno.ENOENT
        if table.model.exists and table.model.devices:
            number = errno.EBUSY
        assert outcome_of(lambda: self.context.destroy(table.real)) == (("errno", number) if number else None)
        if not number:
            table.model.exists = False
            if table.model.queue:
                table.model.queue.tables -= 1
        self.hears([])

    def queue_is_destroyed(self, which: int) -> None:
        queue = self.queues[which % len(self.queues)]
        number = 0 if queue.model.exists else errno.ENOENT
        if queue.model.exists and (queue.model.open or queue.model.tables):
            number = errno.EBUSY
        assert outcome_of(lambda: self.context.destroy(queue.real)) == (("errno", number) if number else None)
        if not number:
            queue.model.exists = False
            assert not queue.model.waiting
            assert not queue.model.live
        self.hears([])

    def file_is_closed(self, which: int) -> None:
        queue = self.queues[which % len(self.queues)]
        expected = None if queue.model.open else ("errno", errno.EBADF)
        assert outcome_of(queue.real.close) == expected
        queue.model.open = False
        self.hears([])

    # ---- attachment ----

    @rule(
        change=st.sampled_from(
            ["device_is_moved_away_and_back", "device_is_moved_to_where_it_is", "device_is_detached"]
        ),
        which=WHICH,
    )
    def attachment_changes(self, change: str, which: int) -> None:
        getattr(self, change)(which)

    @rule(which=WHICH, to=WHICH)
    def device_is_moved(self, which: int, to: int) -> None:
        self.move(self.devices[which % len(self.devices)], self.tables[to % len(self.tables)])

    def device_is_moved_away_and_back(self, which: int) -> None:
        """Its unfinished groups do not survive that."""
        device = self.devices[which % len(self.devices)]
        table, hwpt = device.model.table, device.real.hwpt
        self.move(device, self.plain)
        if table is not None and hwpt is not None:
            self.move(device, Table(table, hwpt))

    def device_is_moved_to_where_it_is(self, which: int) -> None:
        device = self.devices[which % len(self.devices)]
        if device.real.hwpt is not None:
            device.real.replace(device.real.hwpt)
        self.hears([])

    def device_is_detached(self, which: int) -> None:
        device = self.devices[which % len(self.devices)]
        device.real.detach()
        self.hears(device.model.attach(None))

    # ---- faults ----

    @rule(
        which=WHICH,
        with_pasid=st.booleans(),
        grpid=st.integers(0, 2),
        perm=st.integers(0, 15),
        page=st.integers(0, 2**52 - 1),
        last=st.booleans(),
    )
    def device_reports(self, which: int, with_pasid: bool, grpid: int, perm: int, page: int, last: bool) -> None:
        device = self.devices[which % len(self.devices)]
        self.pasid += 1
        pasid = self.pasid if with_pasid else None
        fault = FaultMessage(2 * last + with_pasid, device.model.number, pasid or 0, grpid, perm, page << 12, 0, 0)
        number, answers = device.model.report(fault)
        result = outcome_of(lambda: device.real.report(grpid, page << 12, pasid=pasid, perm=perm, last=last))
        assert result == (("errno", number) if number else None)
        if last or number:
            self.expected[device.model.number, pasid or 0, grpid] += 1
        self.hears(answers)

    @rule(first=WHICH, groups=st.integers(2, 30), unfinished_every=st.integers(2, 9))
    def devices_report_many(self, first: int, groups: int, unfinished_every: int) -> None:
        for one in range(groups):
            self.device_reports(first + one, True, one % 3, 1, one, last=one % unfinished_every != 1)

    # ---- the client: rather where there is something to do ----

    def one_of(self, queues: list[Queue], which: int) -> Queue:
        queues = queues or self.queues
        return queues[which % len(queues)]

    @rule(which=WHICH, length=st.sampled_from([0, 40, 40, 80, 120, 400, 40_000, 39, 41]))
    def client_reads(self, which: int, length: int) -> None:
        queue = self.one_of([queue for queue in self.queues if queue.model.waiting], which)
        expected = outcome_of(lambda: queue.model.read(length))
        if length % 40:
            assert outcome_of(lambda: queue.real.read(length)) == expected
        else:
            assert outcome_of(lambda: queue.real.read_messages(length // 40)) == expected
        self.hears([])

    @rule(
        which=WHICH,
        responses=st.lists(st.tuples(st.sampled_from([0, 0, 1, 2, 3, 4, 5, 99, 2**32 - 1]), CODES), max_size=4),
        beyond=st.sampled_from([0, 0, 0, 0, 1, 7]),
    )
    def client_answers_by_number(self, which: int, responses: list[tuple[int, int]], beyond: int) -> None:
        self.client_writes(self.one_of(self.queues, which), responses, beyond)

    @rule(which=WHICH, picks=st.lists(st.tuples(WHICH, CODES), min_size=1, max_size=8))
    def client_answers_what_is_live(self, which: int, picks: list[tuple[int, int]]) -> None:
        """Sometimes one cookie twice, and sometimes with a code that is none."""
        queue = self.one_of([queue for queue in self.queues if queue.model.live], which)
        if live := sorted(queue.model.live):
            self.client_writes(queue, [(live[pick % len(live)], code) for pick, code in picks], 0)

    def client_writes(self, queue: Queue, responses: list[tuple[int, int]], beyond: int) -> None:
        answers: list[Answer] = []

        def model() -> int:
            count, got = queue.model.write(responses, beyond)
            answers.extend(got)
            return count

        data = b"".join(struct.pack("<2I", *one) for one in responses) + bytes(beyond)
        assert outcome_of(lambda: queue.real.write(data)) == outcome_of(model)
        self.hears(answers)

    # ---- always ----

    @invariant()
    def poll_and_counts_say_the_same(self) -> None:
        for queue in self.queues:
            if queue.model.open:
                assert queue.real.poll() == (0x4 | (0x41 if queue.model.waiting else 0))
            if queue.model.exists:
                counts = queue.real.counts()
                assert counts.waiting_groups == len(queue.model.waiting)
                assert counts.unanswered_groups == len(queue.model.live)

    @invariant()
    def no_group_is_answered_twice(self) -> None:
        for answer, times in self.heard.items():
            assert not answer.pasid or times == 1

    def teardown(self) -> None:
        """The end answers the rest, and then every group has had its answer."""
        self.context.close()
        groups = [group for queue in self.queues for group in (*queue.model.waiting, *queue.model.live.values())]
        self.hears([group.answer(INVALID) for group in groups], ordered=False)
        answered: Counter[tuple[int, int, int]] = Counter()
        for answer, times in self.heard.items():
            answered[answer.device, answer.pasid, answer.grpid] += times
        assert answered == self.expected


ModelAndEmulatorAgree.TestCase.settings = settings(
    settings(), stateful_step_count=80, suppress_health_check=[HealthCheck.too_slow]
)
TestModelAndEmulatorAgree = ModelAndEmulatorAgree.TestCase
