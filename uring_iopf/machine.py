"""`Machine`: PCI functions, an IOMMU and its driver, an iommufd context and one delivery design, put together."""

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
from uring_iopf.handles import NotCopied, Unshared, foreign, leave, open_on, unwatch, watch
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.named import make_iommu
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import AS_LINUX, Context, DeviceGroup, FaultQueue, NestedHWPT, Object, Personality
from uring_iopf.machine_function import Account, Function, accounts_of
from uring_iopf.machine_parts import ALL, DEFAULT_WORKLOAD, FunctionParts, MachineParts, QueueKey, model_of
from uring_iopf.machine_stages import RETRIES, Stages

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
"""The time that a worker spins before it sleeps, in nanoseconds, if ``wait="sleep"``."""


class Machine(Unshared):
    """An emulated machine with PCI functions that fault, all behind one IOMMU, and one delivery design.

    *workload*: the name of a bundled trace, the path of a trace, a `Workload`, None for accesses made by hand
    (``machine.endpoint.access``), or `MachineParts`, which have a workload. *options*: the other parts, by their names
    in `MachineParts`, which explains each and has its default.

    With trio, use `connect`. Without trio, use `open`, with the machine as a context manager. A machine with several
    queues has `connect_each` and `open_each`. A machine opens one design, once. A machine that is garbage-collected
    without `close` gives a ResourceWarning, and its worker stops.

    Raises: UsageError, a part that is not allowed; TraceError, a bad trace; HostError or MemoryError, the host has no
    descriptor or memory.
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
        """The parts that the machine was made of."""
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
        """The functions, by name."""
        self.queues: Mapping[QueueKey, FaultQueue] = MappingProxyType(self._queues)
        """The fault queues, by function and PASID, once a design is open. See `MachineParts.queues`."""
        self.channels: Mapping[QueueKey, Channel] = MappingProxyType(self._channels)
        """The channel of the open design on each fault queue."""
        self.stages: Stages | None = None
        """The guest's and the host's tables, and the kernel's handlers; None: there is one flat stage."""
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
        """Make the hardware and the kernel around it. The caller closes the parts made so far if this raises."""
        self.core = self._make_core(parts)
        self._worker: object = self.core.worker()
        self.context = Context(self.core)
        needs_pasid = parts.iommu == "vtd" and self.context.version.vtd_needs_pasid
        self.iommu = make_iommu(self.core, model_of(parts.iommu), needs_pasid=needs_pasid, drains=parts.drains)
        ioas = self.context.ioas_alloc()
        if parts.stage2 is not None:
            self.stages = Stages(self.core, ioas, parts)
        self.address_space = (
            AddressSpace(parts.pasid_entries, parts.pages_of_tables) if self.stages is None else self.stages.space
        )
        groups: dict[str, DeviceGroup] = {}
        for one, load in zip(parts.each_function(), parts.loads(), strict=True):
            group = None
            if one.device_group is not None:
                group = groups.setdefault(one.device_group, DeviceGroup())
            self._plug_in(one, load, group)
        self._parent = self.context.hwpt_alloc_paging(self._first.device, ioas, nest_parent=True)

    def _make_core(self, parts: MachineParts) -> Core:
        return Core(live=self.live, kernel=parts.kernel)

    def _plug_in(self, parts: FunctionParts, load: Load, group: DeviceGroup | None) -> None:
        """Bind a function, give it tables, and turn PRI on if it has it."""
        assert parts.requester_id is not None, "all is decided"
        assert parts.credits is not None, "all is decided"
        assert load.group is not None, "all is decided"
        endpoint = Endpoint(
            self.iommu,
            requester_id=parts.requester_id,
            capacity=None if parts.stalls else parts.credits,
            group_most=load.group,
            retries=parts.retries if self.stages is None else max(parts.retries, RETRIES),
            private_data=self.iommu.carries_private_data,
            stalls=parts.stalls or 0,
        )
        self._endpoints.append(endpoint)
        device = self.context.bind(self.iommu, parts.requester_id, parts.credits, group=group)
        self.iommu.bind(endpoint, device)
        if self.stages is None:
            endpoint.use_tables(self.address_space)
        if not parts.stalls:
            endpoint.enable_pri(parts.credits)
        if parts.workload is not None:
            endpoint.set_rows(parts.workload.rows)
        self._functions[parts.name] = function = Function(self.core, parts, load, endpoint, device)
        if self.stages is not None:
            self.stages.take_in(self.iommu, function)

    # ---- for machines with one function and one queue ----

    @property
    def _first(self) -> Function:
        return next(iter(self.functions.values()))

    @property
    def function(self) -> Function:
        """The only function. Raises: UsageError, there are several (see `functions`)."""
        if len(self.functions) > 1:
            raise UsageError(
                f"this machine has several functions ({', '.join(self.functions)}); choose one of machine.functions"
            )
        return self._first

    @property
    def endpoint(self) -> Endpoint:
        """The hardware of the only function. Raises: UsageError, as `function`."""
        return self.function.endpoint

    @property
    def device(self) -> Device:
        """The iommufd device of the only function. Raises: UsageError, as `function`."""
        return self.function.device

    @property
    def queue(self) -> FaultQueue:
        """The only fault queue. Raises: UsageError, no design is open, or there are several (see `queues`)."""
        return self._only(self.queues, "queue")

    @property
    def channel(self) -> Channel:
        """The only channel. Raises: UsageError, no design is open, or there are several channels (see `channels`)."""
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
        """The groups that all functions together may have outstanding at once. Accesses by hand are not limited."""
        return sum(one.outstanding_most for one in self.functions.values())

    @property
    def group_most(self) -> int:
        """The most pages in one group."""
        return max(one.group_most for one in self.functions.values())

    # ---- opening a design ----

    def open(self, design: str | type[Design]) -> Channel:
        """Attach a table with a fault queue, open a design on the queue, and start the worker. Return the channel.

        If this raises, also because of a signal, the machine is as before and can be opened again.

        *design*: a name, ``MODULE:CLASS``, or a class. Raises: UsageError, a design was opened before, there is no such
        design, or the machine has several queues (use `open_each`); HostError, the host has no thread or descriptor.
        """
        self._check_one_queue("open_each")
        self.open_each(design)
        return self.channel

    def open_each(self, design: str | type[Design]) -> Mapping[QueueKey, Channel]:
        """Do what `open` does for all queues of the machine. Return a channel of the design for each queue."""
        self._check_can_open()
        info = resolve(design)
        if info.inline_only and self.driver is not Driver.INLINE:
            raise UsageError(f"{info.name} is a design in Python, which needs driver='inline'")
        self._remember()
        try:
            self._opened = True
            self.design = info
            self._attach_queues(self._personality_for(info))
            self._limit_credits(info)
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
            self._attach_queues(self._proposed)
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

    def _personality_for(self, info: DesignInfo) -> Personality:
        if info.commands:
            return Personality.COMMANDS
        return self._proposed if info.proposed else Personality.MERGED

    @property
    def _proposed(self) -> Personality:
        return Personality.PROPOSED if self.parts.fault_file == "keyed" else Personality.PROPOSED_UNKEYED

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

    def _limit_credits(self, info: DesignInfo) -> None:
        """Give the functions no more credits than the design has room for, as a kernel would that knows its ring.

        Raises: as `Function.limit_credits`.
        """
        if info.most_faults is None:
            return
        for functions in self._fed_by.values():
            share = info.most_faults // len(functions)
            for function in functions:
                function.limit_credits(share, info.name)

    def _start_worker(self, driver: Driver) -> None:
        if self.driver is not Driver.INLINE:
            idle_ns = DEFAULT_IDLE_NS if self.wait is Wait.SLEEP else FOREVER
            self.core.start_worker(driver, cpu=self.parts.cpu, idle_ns=idle_ns)

    def _remember(self) -> None:
        """Remember the objects that exist before `open`. `_unopen` keeps them, because the user may have made them."""
        self._before = (frozenset(self.context), tuple(open_on(self.core)), self.core.driver is not Driver.INLINE)

    def _unopen(self) -> None:
        """Undo the steps that `open` has done so far."""
        objects, open_before, worker_before = self._before
        self._channels.clear()
        for function in self.functions.values():
            function.limit_credits(None)
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
        """The driver for a design. A design that leaves a worker nothing to poll runs with ENTER."""
        return Driver.ENTER if info.has_client and not info.polled else self._ring_driver(info)

    def _ring_driver(self, info: DesignInfo) -> Driver:
        """The driver for a design with a ring. A design without a client runs in the worker."""
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
            report_flags=self.parts.report_flags if self.stages is None else 0,
        )

    def reset_tables(self) -> None:
        """Unmap every page of every client, and what is not pinned of stage 2. No fault may be outstanding."""
        self._check_open()
        if self.stages is None:
            self.address_space.reset()
        else:
            self.stages.reset()

    def connect(self, design: str | type[Design] = "uring-multishot") -> Connection:
        """Open a design, start the load, and return a connection, whose ``async with`` block gives a trio client.

        Iteration over the client ends when every fault of the load is answered. At the end of the block, the kernel
        answers the remaining groups for the client, and the machine is closed unless it is used as a context manager
        itself.

        Raises, on entry: UsageError, as `open`, or the design has no client in user space, or the machine has several
        queues (use `connect_each`).
        """
        return Connection(self, design)

    def connect_each(self, design: str | type[Design] = "uring-multishot") -> ConnectionToEach:
        """Do what `connect` does for all queues of the machine. The block gets a trio client for each queue."""
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
        """End the clients. Answers that they gave count; the kernel answers the remaining groups for them."""
        for client in self._clients:
            client.close()
        if not self._closed:
            # The last answers may not have been collected yet, and without a worker nothing else would do it.
            for channel in self.channels.values():
                channel.turn()
            self.detach()

    def tell_when_done(self, eventfd: int) -> None:
        """Signal an eventfd at the end of each function's passes; -1: none. Raises: as `Endpoint.tell_when_done`."""
        for function in self.functions.values():
            function.endpoint.tell_when_done(eventfd)

    # ---- running ----

    def _with_workload(self) -> list[Function]:
        return [one for one in self.functions.values() if one.workload is not None]

    @property
    def started(self) -> int:
        """The number of passes over the workload that were started; with several functions, the highest of theirs."""
        return max(one.started for one in self.functions.values())

    def start(self) -> None:
        """Start a pass over the workload in every function that has one.

        If no function has a workload, start a pass over the rows that `Endpoint.set_rows` has set.

        Raises: KernelError(EBUSY), a pass is under way; no pass was started then.
        """
        self._check_open()
        if not self.is_idle():
            raise KernelError(errno.EBUSY, "start a load")
        for one in self._with_workload() or self.functions.values():
            one.start()

    def finish(self) -> None:
        """Declare that no more accesses will be made by hand. Clients' iteration ends when the earlier ones have ended.

        A machine with a workload needs no call: iteration ends when the workload is served.
        """
        self._check_open()
        for one in self.functions.values():
            one.finish()

    def is_idle(self) -> bool:
        """Whether every pass that was started has ended, with all faults sent and answered."""
        return all(one.is_idle() for one in self.functions.values())

    async def access(self, pasid: int, address: int, perm: int, *, pages: int = 1) -> AccessResult:
        """Make one access to neighbouring pages, as `Endpoint.access` does, and wait for its result. Needs trio.

        If the call is cancelled, the access goes on without it. With the driver ``inline`` the call runs the hardware
        while it waits.

        Raises: as `Endpoint.access`; trio.ClosedResourceError, the machine was closed meanwhile; UsageError, the
        machine has several functions, each of which has its own `access`.
        """
        self._check_open()
        return await self.function.access(pasid, address, perm, pages=pages)

    def detach(self) -> None:
        """Send no more faults, and detach the devices. The kernel answers the remaining groups for the client."""
        for one in self.functions.values():
            one.endpoint.cancel()
        for one in self.functions.values():
            if one.device.exists:
                _detach(one.device)
        # The answers are on their way. Without a worker, this call must run the hardware that receives them.
        self.core.produce()

    def account(self) -> Account:
        """The account of all functions' faults at this moment. After `detach` no fault is pending.

        Before a design is open, the kernel answers each fault by itself. Raises: UsageError, the machine is closed.
        """
        return Account(*map(sum, zip(*self.accounts().values(), strict=True)))

    def accounts(self) -> dict[str, Account]:
        """The account of each function, by name, at one moment. They add up to `account`. Raises: as `account`."""
        self._check_open()
        functions = list(self.functions.values())
        return dict(zip(self.functions, accounts_of(self.core, functions), strict=True))

    def close(self) -> None:
        """Close everything, in order. A second call does nothing, or the steps that an exception has prevented.

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
        if parts.get("stages") is not None:
            self.stages.close()  # type: ignore[union-attr]
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
        leave(self.close, error)


class _Connection(NotCopied):
    """A machine that is open for trio clients, until the end of an ``async with`` block."""

    def __init__(self, machine: Machine, design: str | type[Design]) -> None:
        self._machine = machine
        self._design = design
        self._connected = False
        self._closes = not machine._entered

    def _connect(self) -> dict[QueueKey, TrioClient]:
        try:
            clients = self._machine._connect_each(self._design)
            self._connected = True
        except BaseException as error:
            self._end(error)
            raise
        return clients

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._connected:
                self._machine._disconnect()
        finally:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._closes:
            leave(self._machine.close, error)


class Connection(_Connection):
    """The return value of `Machine.connect`. Its ``async with`` block gets the client."""

    async def __aenter__(self) -> TrioClient:
        try:
            self._machine._check_one_queue("connect_each")
        except BaseException as error:
            self._end(error)
            raise
        (client,) = self._connect().values()
        return client


class ConnectionToEach(_Connection):
    """The return value of `Machine.connect_each`. Its ``async with`` block gets a client for each queue."""

    async def __aenter__(self) -> dict[QueueKey, TrioClient]:
        return self._connect()


def _are_served(functions: Sequence[Function]) -> bool:
    return all(one.is_served() for one in functions)


def _detach(device: Device, but: Container[Object] = ()) -> None:
    """Detach a device and its PASIDs, except those that are attached to the tables *but*."""
    for pasid in device.pasids():
        if device.attached_to(pasid) not in but:
            device.detach(pasid=pasid)
    if device.hwpt is not None and device.hwpt not in but:
        device.detach()
