"""The thing one starts: an endpoint, an IOMMU, its driver, an iommufd context and one delivery design, put together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from uring_iopf._native import check, ffi, interruptible, lib
from uring_iopf.core import FOREVER, Core, Driver
from uring_iopf.designs.base import open_design
from uring_iopf.designs.channel import Channel, Wait
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.designs.python_channel import PythonChannel
from uring_iopf.designs.registry import resolve
from uring_iopf.errors import UsageError
from uring_iopf.handles import NotCopied, Unshared, foreign, open_on, unwatch, watch
from uring_iopf.hardware.endpoint import GROUP_INDICES, AccessResult, Endpoint
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.load import LoadMode
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import Context, FaultQueue, NestedHWPT, Personality
from uring_iopf.machine_parts import DEFAULT_WORKLOAD, MachineParts

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self, Unpack

    from uring_iopf.clients.accesses import Accesses
    from uring_iopf.clients.trio_client import TrioClient
    from uring_iopf.designs.base import Design
    from uring_iopf.designs.registry import DesignInfo
    from uring_iopf.machine_parts import MachineOptions
    from uring_iopf.workloads import Workload

REQUESTER_ID = 0x0100
PRQ_ENTRIES = 2048
"""What Linux sets up as VT-d's page request queue; one entry stays free."""
DEFAULT_IDLE_NS = 1_000_000
"""What a worker spins before it sleeps, where its client sleeps too."""


class Account(NamedTuple):
    """Where every fault is, at one moment: sent = answered + auto_answered + pending + lost."""

    sent: int
    answered: int
    """By the client."""
    auto_answered: int
    """For it: by detach, by the generic layer, by the driver."""
    lost: int
    """Neither answered nor held by anything. A run with one has failed."""
    unmapped: int
    """Of the answered: with success, and the page was not there."""
    pending: int = 0
    """Not answered yet: in the IOMMU's queue, in a group without its last fault, or in the fault queue."""
    awaited: int = 0
    """What the function still waits for: the pending ones, and answers on their way. More than these when nothing is on
    the way any more (after `Machine.detach`): answers are lost."""


class Machine(Unshared):
    """An emulated machine with one faulting PCI function and one delivery design.

    *workload*: a bundled trace's name, a trace file, a `Workload`, None for accesses made by hand
    (``machine.endpoint.access``), or `MachineParts`, which have one. *options*: the parts besides, by their names in
    `MachineParts`, where each is explained and has its default.

    Use it with `connect` from trio, or as a context manager with `open`. One design is connected at a time, once. A
    machine that was not closed, and that nothing refers to any more, gives a ResourceWarning; its worker stops.
    """

    _what = "machine"
    _closed = True  # there is nothing yet
    _opened = False

    def __init__(
        self,
        workload: str | Path | Workload | MachineParts | None = DEFAULT_WORKLOAD,
        **options: Unpack[MachineOptions],
    ) -> None:
        super().__init__()
        if isinstance(workload, MachineParts):
            parts = replace(workload, **options)
        else:
            parts = MachineParts.of(workload, **options)
        self.parts = parts
        """What it was made of."""
        self.workload = parts.workload
        self.driver = Driver[parts.driver.upper()]
        self.wait = Wait[parts.wait.upper()]
        self.in_flight = parts.in_flight
        self.group = parts.group
        self.load = parts.make_load()
        self.live = parts.is_live
        self._cpu = parts.cpu
        self._report_flags = parts.report_flags
        self.started = 0
        """Passes over the workload that were started."""
        self._entered = False
        self._finished = False
        self._accesses: Accesses | None = None
        self._client: TrioClient | None = None
        try:
            self._build(parts.kernel)
            self._closed = False
            watch(self, f"{self!r} was not closed: use it in a with block, or close it")
        except BaseException:
            self._close_parts()
            raise

    def _build(self, kernel: str) -> None:
        """Make the hardware and the kernel around it; what has been made is closed when the rest fails."""
        self.core = Core(live=self.live)
        self._worker: object = self.core.worker()
        pasids = max(64, self.workload.pasids if self.workload else 0)
        pages = self.workload.table_pages if self.workload else 1024
        self.address_space = AddressSpace(pasids, pages)
        self.context = Context(self.core, kernel=kernel)
        self.core.follow(kernel)
        self.iommu = VtdIommu(self.core, needs_pasid=self.context.version.vtd_needs_pasid)
        # No more requests outstanding than the IOMMU's queue holds: it could overflow otherwise, and lose some.
        credit = min(GROUP_INDICES * self.group, PRQ_ENTRIES - 1)
        self.endpoint = Endpoint(self.iommu, requester_id=REQUESTER_ID, capacity=credit, group_most=self.group)
        self._plug_in(credit)

    def _plug_in(self, credit: int) -> None:
        """Bind the function, give it tables, turn PRI on."""
        ioas = self.context.ioas_alloc()
        self.device = self.context.bind(self.iommu.c, REQUESTER_ID, credit)
        check(lib.uiopf_vtd_bind(self.iommu.vtd, self.endpoint.c, self.device.c), "bind to the IOMMU")
        self._parent = self.context.hwpt_alloc_paging(self.device, ioas, nest_parent=True)
        self.endpoint.use_tables(self.address_space)
        self.endpoint.enable_pri(credit)
        if self.workload is not None:
            self.endpoint.set_rows(self.workload.rows)

    # ---- opening a design ----

    def open(self, design: str | type[Design]) -> Channel:
        """Attach a table with a fault queue, put a design on the queue, and start the worker.

        If that fails, or a signal's exception comes, the machine is as it was, and can be opened again.

        *design*: a name, ``MODULE:CLASS``, or a class. Raises: UsageError, there is one already; or no such design.
        """
        self._check_can_open()
        info = resolve(design)
        if info.inline_only and self.driver is not Driver.INLINE:
            raise UsageError(f"{info.name} is written in Python and runs with driver='inline' only")
        try:
            self._opened = True
            self.design = info
            self._attach_queue(Personality.PROPOSED if info.proposed else Personality.MERGED)
            self._start_worker(self._driver_for(info))
            self.channel = self._open_channel(info)
        except BaseException:
            self._unopen()
            raise
        return self.channel

    def open_queue(self, *, start_worker: bool = True) -> FaultQueue:
        """Attach a table with a fault queue, without a design on it, and start the worker as for a ring of SQPOLL.

        For clients that are elsewhere: `uring_iopf.server` puts a ring on it. The queue suits pre-posted reads.
        *start_worker*: False leaves that to `start_worker`, so that what is made before waits for no worker's turn.
        Raises: UsageError, as `open`; or nothing would turn an attached client's ring, with another driver.
        """
        if self.driver is not Driver.SQPOLL:
            raise UsageError("a client that is elsewhere makes no calls that could run the kernel: driver='sqpoll'")
        self._check_can_open()
        try:
            self._opened = True
            self._attach_queue(Personality.PROPOSED)
            if start_worker:
                self._start_worker(Driver.SQPOLL)
        except BaseException:
            self._unopen()
            raise
        return self.queue

    def _check_can_open(self) -> None:
        self._check_open()
        if self._opened:
            raise UsageError("this machine has its design already; make another machine for another design")

    def start_worker(self) -> None:
        """Start the worker that `open_queue` has not. Raises: KernelError(EBUSY), it runs; KernelError(EAGAIN)."""
        self._check_open()
        self._start_worker(Driver.SQPOLL)

    def _attach_queue(self, personality: Personality) -> None:
        self.queue = self.context.fault_queue_alloc(personality=personality)
        table = self.context.hwpt_alloc_nested(self.device, self._parent, fault=self.queue)
        self.device.attach(table)

    def _start_worker(self, driver: Driver) -> None:
        if self.driver is not Driver.INLINE:
            idle_ns = DEFAULT_IDLE_NS if self.wait is Wait.SLEEP else FOREVER
            self.core.start_worker(driver, cpu=self._cpu, idle_ns=idle_ns)

    def _unopen(self) -> None:
        """Take back what `open` has done so far; what is not there yet, or not any more, is passed over."""
        self.__dict__.pop("channel", None)
        for channel in open_on(self.core):  # it may not have been stored yet
            if isinstance(channel, (NativeChannel, PythonChannel)):
                channel.close()
        self.core.stop_worker()
        self.device.detach()
        for table in self.context:
            if isinstance(table, NestedHWPT):
                self.context.destroy(table)
        for queue in self.context:
            if isinstance(queue, FaultQueue):
                if not queue.closed:
                    queue.close()
                self.context.destroy(queue)
        self.__dict__.pop("queue", None)
        self._opened = False

    def _driver_for(self, info: DesignInfo) -> Driver:
        """A worker that polls rings has none to poll for a design of system calls: those run where they are made."""
        return Driver.ENTER if info.has_client and not info.has_ring else self._ring_driver(info)

    def _ring_driver(self, info: DesignInfo) -> Driver:
        """A design without a client runs wherever the kernel runs: in the worker."""
        return self.driver if info.has_client else Driver.SQPOLL

    def _open_channel(self, info: DesignInfo) -> Channel:
        if info.python is not None:
            most, sleeps = self.in_flight * self.group, self.wait is Wait.SLEEP
            return PythonChannel(self.core, open_design(info.python, self.core, self.queue, most, sleeps=sleeps))
        return NativeChannel(
            self.core,
            self.queue,
            info,
            wait=self.wait,
            in_flight=self._outstanding_most(),
            group_most=self.group,
            space=None if info.has_client else self.address_space,
            report_flags=self._report_flags,
        )

    def _outstanding_most(self) -> int:
        """Groups that a client may have at once, for which a design makes room; accesses by hand know no limit."""
        return GROUP_INDICES if self.workload is None else max(self.in_flight, self.load.in_flight)

    def connect(self, design: str | type[Design] = "uring-multishot") -> Connection:
        """Open a design and be its trio client; the load starts, and iteration ends when all of it is answered.

        To be used with ``async with``. On leaving, what is unanswered is answered for the client; the machine is
        closed, unless it was entered itself. Raises: UsageError, a design without a user-space client.
        """
        return Connection(self, design)

    def _connect(self, design: str | type[Design]) -> TrioClient:
        from uring_iopf.clients.trio_client import TrioClient  # trio is for those who use it

        info = resolve(design)
        if not info.has_client:
            raise UsageError(f"{info.name} runs in the kernel alone: there is nothing to connect to")
        channel = self.open(design)
        client = TrioClient(
            channel,
            self.address_space,
            self._is_served,
            inline=self.core if self.driver is Driver.INLINE else None,
            timed=self.workload is not None and self.load.mode is not LoadMode.CLOSED,
            spin=self.wait is Wait.SPIN,
        )
        self._client = client
        self.tell_when_done(channel.eventfd)
        if self.workload is not None:
            self.start()
        return client

    def _disconnect(self, client: TrioClient) -> None:
        """End a client: what it has answered still counts as answered, the rest is answered for it."""
        client.close()
        if not self._closed:
            self.channel.turn()  # a worker may not have come to the last answers yet, and inline nobody else would
            self.detach()

    def tell_when_done(self, eventfd: int) -> None:
        """Signal an eventfd at the end of each pass; -1: none. A client that sleeps on it does not oversleep."""
        check(lib.uiopf_endpoint_set_done_eventfd(self.endpoint.c, eventfd), "tell when done")

    # ---- running ----

    def start(self) -> None:
        """Begin a pass over the workload. Raises: KernelError(EBUSY), one is under way."""
        self.endpoint.start(self.load)
        self.started += 1

    def finish(self) -> None:
        """No more accesses will be made by hand: a client's iteration ends when those that were made have ended.

        Where there is a workload, iteration ends when that is served as well, and needs no call.
        """
        self._check_open()
        self._finished = True
        self.endpoint.finish()

    def _is_served(self) -> bool:
        return (self._finished or self.workload is not None) and self.endpoint.is_served(self.started)

    def is_idle(self) -> bool:
        """Whether every pass that was started has ended: all sent, all answered."""
        return self.endpoint.passes() >= self.started

    async def access(self, pasid: int, address: int, perm: int, *, pages: int = 1) -> AccessResult:
        """Make one access to neighbouring pages, as `Endpoint.access`, and return what became of it. Needs trio.

        Cancelled, the access goes on, and nobody is told of its end. Inline it turns the hardware while it waits.
        Raises: as `Endpoint.access`; trio.ClosedResourceError, the machine was closed meanwhile.
        """
        import trio

        from uring_iopf.clients.accesses import Accesses

        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        if self._accesses is None:
            self._accesses = Accesses(self.endpoint, self.core)
        return await self._accesses.wait(self.endpoint.access(pasid, address, perm, pages=pages))

    def detach(self) -> None:
        """Send no more, and let the kernel answer for the client what it has not answered."""
        self.endpoint.cancel()
        if self.device.exists:
            self.device.detach()
        # The answers are on their way; without a worker somebody must turn the hardware.
        self.core.produce()

    def account(self) -> Account:
        """Where every fault is now. After `detach` none is pending. Raises: UsageError, no design has been opened."""
        if not self._opened:
            raise UsageError("no design is open: there is nothing to account for")
        counts = ffi.new("struct uiopf_account *")
        interruptible("account", lambda: lib.uiopf_account(self.endpoint.c, self.queue.c, self.device.c, counts))
        sent, answered = int(counts.endpoint.sent), int(counts.queue.answered_faults)
        auto_answered = int(counts.queue.auto_answered_faults + counts.device.refused)
        pending = int(counts.pending)
        return Account(
            sent=sent,
            answered=answered,
            auto_answered=auto_answered,
            pending=pending,
            lost=sent - answered - auto_answered - pending,
            unmapped=int(counts.endpoint.unmapped),
            awaited=int(counts.endpoint.outstanding),
        )

    def close(self) -> None:
        """Close everything, in order. Closing again does nothing, or what an exception has left to be done.

        Raises: KernelError(EBUSY), requests of a ring still hold the queue: close the ring, then close again.
        """
        self._closed = True
        for one in (self._client, self._accesses):
            if one is not None:
                one.close()
        self._close_parts()

    def _close_parts(self) -> None:
        """Each is never closed halfway, and again without harm. The child of a fork has nothing left to close."""
        unwatch(self)
        if self._is_foreign:
            return
        parts = self.__dict__
        if "core" in parts:
            for one in open_on(self.core):
                if isinstance(one, (NativeChannel, PythonChannel)):
                    one.close()
        if "context" in parts and not self.context.closed:
            self.core.stop_worker()
            self.context.close()
        for name in ("endpoint", "iommu", "address_space"):
            if name in parts:
                parts[name].close()
        if "core" in parts:
            self.core.end()
        self._worker = None

    def _check_open(self) -> None:
        if self._is_foreign:
            raise foreign(self._what)
        if self._closed:
            raise UsageError("this machine is closed")

    def __repr__(self) -> str:
        name = self.workload.name if self.workload is not None else None
        return f"<Machine {name}, {self.driver.name.lower()}{', closed' if self._closed else ''}>"

    def _disown(self) -> None:
        super()._disown()
        self._worker = None
        unwatch(self)

    def __enter__(self) -> Self:
        self._check_open()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Connection(NotCopied):
    """What `Machine.connect` returns: ``async with`` it, for the client."""

    def __init__(self, machine: Machine, design: str | type[Design]) -> None:
        self._machine = machine
        self._design = design
        self._client: TrioClient | None = None
        self._closes = not machine._entered

    async def __aenter__(self) -> TrioClient:
        try:
            self._client = self._machine._connect(self._design)
        except BaseException:
            self._end()
            raise
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._client is not None:
                self._machine._disconnect(self._client)
        finally:
            self._end()

    def _end(self) -> None:
        if self._closes:
            self._machine.close()
