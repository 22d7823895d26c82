"""The thing one starts: an endpoint, an IOMMU, its driver, an iommufd context and one delivery design, put together."""

from __future__ import annotations

import errno
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from uring_iopf.core import FOREVER, Core, Driver
from uring_iopf.designs.base import open_design
from uring_iopf.designs.channel import Channel, Wait
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.designs.python_channel import PythonChannel
from uring_iopf.designs.registry import resolve
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.handles import NotCopied, Unshared, foreign, open_on, unwatch, watch
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import AS_LINUX, Context, DeviceGroup, FaultQueue, NestedHWPT, Object, Personality
from uring_iopf.machine_function import Account, Function, accounts_of
from uring_iopf.machine_parts import ALL, DEFAULT_WORKLOAD, FunctionParts, MachineParts, QueueKey

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self, Unpack

    from uring_iopf.clients.trio_client import TrioClient
    from uring_iopf.designs.base import Design
    from uring_iopf.designs.registry import DesignInfo
    from uring_iopf.iommufd import Device
    from uring_iopf.machine_parts import MachineOptions
    from uring_iopf.workloads import Workload

__all__ = ["Account", "Connection", "ConnectionToEach", "DEFAULT_IDLE_NS", "Function", "Machine"]

T = TypeVar("T")

_Before: TypeAlias = tuple[frozenset[Object], tuple[Unshared, ...], bool]
_NOTHING: Final[_Before] = (frozenset(), (), False)

DEFAULT_IDLE_NS = 1_000_000
"""What a worker spins before it sleeps, where its client sleeps too."""


class Machine(Unshared):
    """An emulated machine with PCI functions that fault, all behind one IOMMU, and one delivery design.

    *workload*: a bundled trace's name, a trace file, a `Workload`, None for accesses made by hand
    (``machine.endpoint.access``), or `MachineParts`, which have one. *options*: the parts besides, by their names in
    `MachineParts`, where each is explained and has its default.

    Use it with `connect` from trio, or as a context manager with `open`; where it has several queues, with
    `connect_each` and `open_each`. One design is connected at a time, once. A machine that was not closed, and that
    nothing refers to any more, gives a ResourceWarning; its worker stops.
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
            parts = workload.with_options(**options)
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
        self._functions: dict[str, Function] = {}
        self._queues: dict[QueueKey, FaultQueue] = {}
        self._channels: dict[QueueKey, Channel] = {}
        self.functions: Mapping[str, Function] = MappingProxyType(self._functions)
        """By their names."""
        self.queues: Mapping[QueueKey, FaultQueue] = MappingProxyType(self._queues)
        """Once a design is open: its fault queues, by function and PASID. See `MachineParts.queues`."""
        self.channels: Mapping[QueueKey, Channel] = MappingProxyType(self._channels)
        """The design on each."""
        self._fed_by: dict[QueueKey, list[Function]] = {}
        self._before = _NOTHING
        self._endpoints: list[Endpoint] = []
        self._entered = False
        self._clients: list[TrioClient] = []
        try:
            self._build(parts)
            self._closed = False
            watch(self, f"{self!r} was not closed: use it in a with block, or close it")
        except BaseException:
            self._close_parts()
            raise

    def _build(self, parts: MachineParts) -> None:
        """Make the hardware and the kernel around it; what has been made is closed when the rest fails."""
        self.core = Core(live=self.live)
        self._worker: object = self.core.worker()
        self.address_space = AddressSpace(parts.pasid_entries, parts.pages_of_tables)
        self.context = Context(self.core, kernel=parts.kernel)
        self.core.follow(parts.kernel)
        self.iommu = VtdIommu(self.core, needs_pasid=self.context.version.vtd_needs_pasid)
        ioas = self.context.ioas_alloc()
        groups: dict[str, DeviceGroup] = {}
        for one, load in zip(parts.each_function(), parts.loads(), strict=True):
            group = None
            if one.device_group is not None:
                group = groups.setdefault(one.device_group, DeviceGroup())
            self._plug_in(one, load, group)
        self._parent = self.context.hwpt_alloc_paging(self._first.device, ioas, nest_parent=True)

    def _plug_in(self, parts: FunctionParts, load: Load, group: DeviceGroup | None) -> None:
        """Bind a function, give it tables, turn PRI on."""
        assert parts.requester_id is not None, "all is decided"
        assert parts.credits is not None, "all is decided"
        assert load.group is not None, "all is decided"
        endpoint = Endpoint(self.iommu, requester_id=parts.requester_id, capacity=parts.credits, group_most=load.group)
        self._endpoints.append(endpoint)
        device = self.context.bind(self.iommu, parts.requester_id, parts.credits, group=group)
        self.iommu.bind(endpoint, device)
        endpoint.use_tables(self.address_space)
        endpoint.enable_pri(parts.credits)
        if parts.workload is not None:
            endpoint.set_rows(parts.workload.rows)
        self._functions[parts.name] = Function(self.core, parts, load, endpoint, device)

    # ---- what there is one of ----

    @property
    def _first(self) -> Function:
        return next(iter(self.functions.values()))

    @property
    def function(self) -> Function:
        """The function. Raises: UsageError, there are several: they are in `functions`."""
        if len(self.functions) > 1:
            raise UsageError(
                f"this machine has several functions ({', '.join(self.functions)}); choose one of machine.functions"
            )
        return self._first

    @property
    def endpoint(self) -> Endpoint:
        """The function's hardware. Raises: UsageError, as `function`."""
        return self.function.endpoint

    @property
    def device(self) -> Device:
        """The function, as iommufd knows it. Raises: UsageError, as `function`."""
        return self.function.device

    @property
    def queue(self) -> FaultQueue:
        """The fault queue. Raises: UsageError, no design is open, or there are several: they are in `queues`."""
        return self._only(self.queues, "queue")

    @property
    def channel(self) -> Channel:
        """The design that is open. Raises: UsageError, none is, or there are several: they are in `channels`."""
        return self._only(self.channels, "channel")

    def _only(self, these: Mapping[QueueKey, T], what: str) -> T:
        if len(these) == 1:
            return next(iter(these.values()))
        if not these:
            raise UsageError(f"this machine has no {what} yet; open a design first")
        raise UsageError(
            f"this machine has {len(these)} {what}s, one for each of {self._keys()}; choose one of machine.{what}s"
        )

    def _keys(self) -> str:
        return ", ".join(str(tuple(key)) for key in self.parts.queue_keys())

    def _check_one_queue(self, instead: str) -> None:
        if len(keys := self.parts.queue_keys()) > 1:
            raise UsageError(f"this machine has {len(keys)} queues, one for each of {self._keys()}; use `{instead}`")

    @property
    def outstanding_most(self) -> int:
        """Groups that all functions together may have outstanding at once; accesses by hand know no limit."""
        return sum(one.outstanding_most for one in self.functions.values())

    @property
    def group_most(self) -> int:
        """Pages in a group at most."""
        return max(one.group_most for one in self.functions.values())

    # ---- opening a design ----

    def open(self, design: str | type[Design]) -> Channel:
        """Attach a table with a fault queue, put a design on the queue, and start the worker.

        If that fails, or a signal's exception comes, the machine is as it was, and can be opened again.

        *design*: a name, ``MODULE:CLASS``, or a class. Raises: UsageError, there is one already; no such design; or the
        machine has several queues: `open_each`.
        """
        self._check_one_queue("open_each")
        self.open_each(design)
        return self.channel

    def open_each(self, design: str | type[Design]) -> Mapping[QueueKey, Channel]:
        """The same with as many queues as the machine has: a channel of the design on each. Return them by queue."""
        self._check_can_open()
        info = resolve(design)
        if info.inline_only and self.driver is not Driver.INLINE:
            raise UsageError(f"{info.name} is a design in Python, which needs driver='inline'")
        self._remember()
        try:
            self._opened = True
            self.design = info
            self._attach_queues(Personality.PROPOSED if info.proposed else Personality.MERGED)
            self._start_worker(self._driver_for(info))
            for key in self.queues:
                self._channels[key] = self._open_channel(info, key)
        except BaseException:
            self._unopen()
            raise
        self._before = _NOTHING
        return self.channels

    def open_queue(self, *, start_worker: bool = True) -> FaultQueue:
        """Attach a table with a fault queue, without a design on it, and start the worker as for a ring of SQPOLL.

        For clients that are elsewhere: `uring_iopf.server` puts a ring on it. The queue suits pre-posted reads.
        *start_worker*: False leaves that to `start_worker`, so that what is made before waits for no worker's turn.
        Raises: UsageError, as `open`; or nothing would turn an attached client's ring, with another driver; or the
        machine has several queues, and such a client has one.
        """
        if self.driver is not Driver.SQPOLL:
            raise UsageError(
                f"a queue for a client in another process needs driver='sqpoll', not {self.parts.driver!r}, because "
                "that client makes no calls that could run the kernel"
            )
        if len(self.parts.queue_keys()) > 1:
            raise UsageError(
                "a client in another process has one queue, which needs queues='one' or queues='shared', not "
                f"{self.parts.queues!r}"
            )
        self._check_can_open()
        self._remember()
        try:
            self._opened = True
            self._attach_queues(Personality.PROPOSED)
            if start_worker:
                self._start_worker(Driver.SQPOLL)
        except BaseException:
            self._unopen()
            raise
        self._before = _NOTHING
        return self.queue

    def _check_can_open(self) -> None:
        self._check_open()
        if self._opened:
            raise UsageError("a design is open on this machine already; make another machine for another design")

    def start_worker(self) -> None:
        """Start the worker that `open_queue` has not. Raises: KernelError(EBUSY), it runs; HostError."""
        self._check_open()
        self._start_worker(Driver.SQPOLL)

    def _attach_queues(self, personality: Personality) -> None:
        shared: FaultQueue | None = None
        table: NestedHWPT | None = None
        by_key = self.parts.queues in ("device", "pasid")
        for unit in self.parts.units():
            functions = [self.functions[one.name] for one in unit.functions]
            key = QueueKey(unit.name, None) if by_key else ALL
            if self.parts.queues == "pasid":
                table = self._nested(functions, pasid=True)
            elif self.parts.queues == "device":
                table = self._nested(functions, queue=self._new_queue(key, personality))
            else:
                if shared is None:
                    shared = self._new_queue(key, personality)
                if table is None or self.parts.queues == "shared":
                    table = self._nested(functions, queue=shared, pasid=bool(unit.pasids))
            self._feeds(key, functions)
            for function in functions:
                function.device.attach(table)
            for pasid in unit.pasids:
                key = QueueKey(unit.name, pasid) if by_key else ALL
                queue = shared or self._new_queue(key, personality)
                own = self._nested(functions, queue=queue, pasid=True)
                self._feeds(key, functions)
                for function in functions:
                    function.device.attach(own, pasid=pasid)

    def _new_queue(self, key: QueueKey, personality: Personality) -> FaultQueue:
        limits = AS_LINUX if self.parts.limits is None else self.parts.limits
        self._queues[key] = queue = self.context.fault_queue_alloc(personality=personality, limits=limits)
        return queue

    def _nested(self, functions: list[Function], *, queue: FaultQueue | None = None, pasid: bool = False) -> NestedHWPT:
        return self.context.hwpt_alloc_nested(functions[0].device, self._parent, fault=queue, pasid=pasid)

    def _feeds(self, key: QueueKey, functions: list[Function]) -> None:
        fed_by = self._fed_by.setdefault(key, [])
        fed_by += [one for one in functions if one not in fed_by]

    def _start_worker(self, driver: Driver) -> None:
        if self.driver is not Driver.INLINE:
            idle_ns = DEFAULT_IDLE_NS if self.wait is Wait.SLEEP else FOREVER
            self.core.start_worker(driver, cpu=self.parts.cpu, idle_ns=idle_ns)

    def _remember(self) -> None:
        """What there is before `open`, which a refused one leaves alone: the user may have made something."""
        self._before = (frozenset(self.context), tuple(open_on(self.core)), self.core.driver is not Driver.INLINE)

    def _unopen(self) -> None:
        """Take back what `open` has done so far; what is not there yet, or not any more, is passed over."""
        objects, open_before, worker_before = self._before
        self._channels.clear()
        for channel in open_on(self.core):  # it may not have been stored yet
            if isinstance(channel, (NativeChannel, PythonChannel)) and channel not in open_before:
                channel.close()
        if not worker_before:
            self.core.stop_worker()
        for function in self.functions.values():
            _detach(function.device, objects)
        for table in self.context:
            if isinstance(table, NestedHWPT) and table not in objects:
                self.context.destroy(table)
        for queue in self.context:
            if isinstance(queue, FaultQueue) and queue not in objects:
                if not queue.closed:
                    queue.close()
                self.context.destroy(queue)
        self._queues.clear()
        self._fed_by.clear()
        self.__dict__.pop("design", None)
        self._opened = False

    def _driver_for(self, info: DesignInfo) -> Driver:
        """A worker that polls rings has none to poll for a design of system calls: those run where they are made."""
        return Driver.ENTER if info.has_client and not info.has_ring else self._ring_driver(info)

    def _ring_driver(self, info: DesignInfo) -> Driver:
        """A design without a client runs wherever the kernel runs: in the worker."""
        return self.driver if info.has_client else Driver.SQPOLL

    def _open_channel(self, info: DesignInfo, key: QueueKey) -> Channel:
        functions = self._fed_by[key]
        if info.python is not None:
            most, sleeps = sum(one.in_flight * one.group_most for one in functions), self.wait is Wait.SLEEP
            design = open_design(info.python, self.core, self.queues[key], most, sleeps=sleeps)
            return PythonChannel(self.core, design)
        return NativeChannel(
            self.core,
            self.queues[key],
            info,
            wait=self.wait,
            in_flight=sum(one.outstanding_most for one in functions),
            group_most=max(one.group_most for one in functions),
            space=None if info.has_client else self.address_space,
            report_flags=self.parts.report_flags,
        )

    def connect(self, design: str | type[Design] = "uring-multishot") -> Connection:
        """Open a design and be its trio client; the load starts, and iteration ends when all of it is answered.

        To be used with ``async with``. On leaving, what is unanswered is answered for the client; the machine is
        closed, unless it was entered itself. Raises: UsageError, a design without a user-space client, or the machine
        has several queues: `connect_each`.
        """
        return Connection(self, design)

    def connect_each(self, design: str | type[Design] = "uring-multishot") -> ConnectionToEach:
        """The same with as many queues as the machine has: ``async with`` gives a client of each, by queue."""
        return ConnectionToEach(self, design)

    def _connect_each(self, design: str | type[Design]) -> dict[QueueKey, TrioClient]:
        from uring_iopf.clients.trio_client import TrioClient  # trio is for those who use it

        info = resolve(design)
        if not info.has_client:
            raise UsageError(f"{info.name} runs in the kernel alone and has no client; use `open`, or another design")
        clients = {}
        for key, channel in self.open_each(design).items():
            functions = self._fed_by[key]
            clients[key] = client = TrioClient(
                channel,
                self.address_space,
                partial(_are_served, functions),
                inline=self.core if self.driver is Driver.INLINE else None,
                timed=any(one.workload is not None and one.load.mode is not LoadMode.CLOSED for one in functions),
                spin=self.wait is Wait.SPIN,
            )
            self._clients.append(client)
        self.tell_when_done(-1)
        for key, channel in self.channels.items():
            for function in self._fed_by[key]:
                function.endpoint.tell_when_done(channel.eventfd, also=True)
        if self._with_workload():
            self.start()
        return clients

    def _disconnect(self) -> None:
        """End the clients: what they have answered still counts as answered, the rest is answered for them."""
        for client in self._clients:
            client.close()
        if not self._closed:
            # A worker may not have come to the last answers yet, and inline nobody else would.
            for channel in self.channels.values():
                channel.turn()
            self.detach()

    def tell_when_done(self, eventfd: int) -> None:
        """Signal an eventfd at the end of each pass of each function; -1: none. Who sleeps on it does not oversleep."""
        for function in self.functions.values():
            function.endpoint.tell_when_done(eventfd)

    # ---- running ----

    def _with_workload(self) -> list[Function]:
        return [one for one in self.functions.values() if one.workload is not None]

    @property
    def started(self) -> int:
        """Passes over the workload that were started; of several functions, the most of any."""
        return max(one.started for one in self.functions.values())

    def start(self) -> None:
        """Begin a pass over the workload, in every function that has one; where none has, over rows set by hand.

        Raises: KernelError(EBUSY), one is under way, and none was begun.
        """
        self._check_open()
        if not self.is_idle():
            raise KernelError(errno.EBUSY, "start a load")
        for one in self._with_workload() or self.functions.values():
            one.start()

    def finish(self) -> None:
        """No more accesses will be made by hand: a client's iteration ends when those that were made have ended.

        Where there is a workload, iteration ends when that is served as well, and needs no call.
        """
        self._check_open()
        for one in self.functions.values():
            one.finish()

    def is_idle(self) -> bool:
        """Whether every pass that was started has ended: all sent, all answered."""
        return all(one.is_idle() for one in self.functions.values())

    async def access(self, pasid: int, address: int, perm: int, *, pages: int = 1) -> AccessResult:
        """Make one access to neighbouring pages, as `Endpoint.access`, and return what became of it. Needs trio.

        Cancelled, the access goes on, and nobody is told of its end. Inline it turns the hardware while it waits.
        Raises: as `Endpoint.access`; trio.ClosedResourceError, the machine was closed meanwhile; UsageError, it has
        several functions: each has an `access` of its own.
        """
        self._check_open()
        return await self.function.access(pasid, address, perm, pages=pages)

    def detach(self) -> None:
        """Send no more, and let the kernel answer for the client what it has not answered."""
        for one in self.functions.values():
            one.endpoint.cancel()
        for one in self.functions.values():
            if one.device.exists:
                _detach(one.device)
        # The answers are on their way; without a worker somebody must turn the hardware.
        self.core.produce()

    def account(self) -> Account:
        """Where every fault of all functions is now. After `detach` none is pending.

        Raises: UsageError, no design has been opened.
        """
        return Account(*map(sum, zip(*self.accounts().values(), strict=True)))

    def accounts(self) -> dict[str, Account]:
        """The same of each function, by name, all at one moment: they add up to `account`. Raises: as `account`."""
        if not self._opened:
            raise UsageError("no design has been opened, so there are no faults to account for; open one first")
        functions = list(self.functions.values())
        return dict(zip(self.functions, accounts_of(self.core, functions), strict=True))

    def close(self) -> None:
        """Close everything, in order. Closing again does nothing, or what an exception has left to be done.

        Raises: KernelError(EBUSY), requests of a ring still hold the queue: close the ring, then close again.
        """
        self._closed = True
        for client in self._clients:
            client.close()
        for function in self.functions.values():
            function.close_accesses()
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
        for endpoint in self._endpoints:
            endpoint.close()
        for name in ("iommu", "address_space"):
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


class _Connection(NotCopied):
    """A machine that is opened for trio clients, and ends with them."""

    def __init__(self, machine: Machine, design: str | type[Design]) -> None:
        self._machine = machine
        self._design = design
        self._connected = False
        self._closes = not machine._entered

    def _connect(self) -> dict[QueueKey, TrioClient]:
        try:
            clients = self._machine._connect_each(self._design)
            self._connected = True
        except BaseException:
            self._end()
            raise
        return clients

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._connected:
                self._machine._disconnect()
        finally:
            self._end()

    def _end(self) -> None:
        if self._closes:
            self._machine.close()


class Connection(_Connection):
    """What `Machine.connect` returns: ``async with`` it, for the client."""

    async def __aenter__(self) -> TrioClient:
        try:
            self._machine._check_one_queue("connect_each")
        except BaseException:
            self._end()
            raise
        (client,) = self._connect().values()
        return client


class ConnectionToEach(_Connection):
    """What `Machine.connect_each` returns: ``async with`` it, for a client of each queue."""

    async def __aenter__(self) -> dict[QueueKey, TrioClient]:
        return self._connect()


def _are_served(functions: Sequence[Function]) -> bool:
    return all(one.is_served() for one in functions)


def _detach(device: Device, but: Container[Object] = ()) -> None:
    """Detach a device and its PASIDs, but for what is attached to these tables."""
    for pasid in device.pasids():
        if device.attached_to(pasid) not in but:
            device.detach(pasid=pasid)
    if device.hwpt is not None and device.hwpt not in but:
        device.detach()
