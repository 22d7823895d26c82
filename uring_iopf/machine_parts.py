"""The parts of a machine, as data. `Machine`, comparisons, cells, the commands and the test fixture all use them.

This module defines the meaning, the default and the limits of each part, once. It does not load the extension, so
that a command can refuse a mistake at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict, TypeVar

from uring_iopf.errors import UsageError, check_fits, check_whole
from uring_iopf.hardware.limits import (
    DEFAULT_PASIDS,
    DEFAULT_STALLS,
    DEFAULT_TABLE_PAGES,
    DEVICES,
    DRIVEN_PASIDS,
    IOMMUS,
    MOST_PASIDS,
    MOST_TABLE_PAGES,
    PAGE_FORMATS,
    REQUEST_QUEUES,
    STALLING,
)
from uring_iopf.hardware.load import (
    DEFAULT_GROUP,
    DEFAULT_IN_FLIGHT,
    DEFAULT_SEED,
    MOST_IN_FLIGHT,
    MOST_IN_GROUP,
    Load,
    check_group,
    check_in_flight,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Self, Unpack

    from uring_iopf.iommufd import QueueLimits
    from uring_iopf.workloads import Workload

__all__ = [
    "DEFAULT_IN_FLIGHT",
    "DEFAULT_WORKLOAD",
    "DRIVERS",
    "FAULT_FILES",
    "FunctionParts",
    "IOMMUS",
    "KERNELS",
    "KNOWN_BY",
    "MOST_CREDITS",
    "MOST_FUNCTIONS",
    "MOST_IN_FLIGHT",
    "MOST_IN_GROUP",
    "MachineOptions",
    "MachineParts",
    "QUEUES",
    "QueueKey",
    "Unit",
    "WAITS",
]

T = TypeVar("T")

KERNELS: Final = ("6.12", "7.2")
DRIVERS: Final = ("inline", "enter", "sqpoll")
WAITS: Final = ("spin", "sleep")
KNOWN_BY: Final = ("hardware", "driver", "handler", "nobody")
QUEUES: Final = ("one", "device", "pasid", "shared")
FAULT_FILES: Final = ("keyed", "unkeyed")
DEFAULT_WORKLOAD: Final = "gcc-compile"
MOST_RETRIES: Final = 31
"""The most times that a function asks again for a page."""
MOST_BEGUN: Final = 1024
"""The most PASIDs that have tables from the beginning, with two stages, because nobody knows which are used."""
MOST_FUNCTIONS: Final = 16
"""The most functions behind one emulated VT-d, which has room for the answers of so many."""
MOST_CREDITS: Final = MOST_IN_FLIGHT * MOST_IN_GROUP
"""The most page requests that a function can have outstanding: all its groups, each with the most pages."""
FIRST_REQUESTER_ID: Final = 0x0100


def model_of(iommu: str) -> str:
    """The model of the IOMMU that has this name."""
    return STALLING.get(iommu, iommu)


def share_of_credits(group: int, functions: int = 1, iommu: str = IOMMUS[0]) -> int:
    """The page requests that each of *functions* functions may have outstanding, in groups of *group* pages at most.

    All functions together get no more than the queue of *iommu* holds, so that it never overflows and loses requests.
    """
    return min(MOST_IN_FLIGHT * group, REQUEST_QUEUES[model_of(iommu)] // functions)


class _Unsaid(int):
    """A default. A load's own value takes its place; a value that the user gave would contradict the load's."""


class QueueKey(NamedTuple):
    """The name of one of a machine's fault queues. A plain tuple works too: ``("nic", 1)``."""

    function: str
    """The name of the function, or of the group of devices; ``all``: the one queue for all."""
    pasid: int | None
    """The PASID, if each PASID has a queue; else None."""


ALL: Final = QueueKey("all", None)


class MachineOptions(TypedDict, total=False):
    """The types of the parts without the workload, for calls that take them by name. `MachineParts` explains them."""

    kernel: str
    driver: str
    wait: str
    in_flight: int
    group: int
    seed: int
    load: Load | None
    live: bool | None
    cpu: int
    report_flags: int
    functions: tuple[FunctionParts, ...]
    queues: str
    limits: QueueLimits | None
    fault_file: str
    iommu: str
    drains: bool
    stage2: float | None
    known_by: str | None
    pasid_table: int | None
    table_pages: int | None


@dataclass(frozen=True)
class FunctionParts:
    """One PCI function of a machine. Raises: UsageError, a part that is not allowed."""

    name: str = "function"
    """The key of the function in `Machine.functions`, and of its queues."""
    requester_id: int | None = None
    """Bus, device and function number, 16 bits; None: 0x100 for the first function, 0x200 for the second, …"""
    workload: Workload | None = None
    """The faults of the function; None: the workload of the machine."""
    load: Load | None = None
    """The times of the faults; None: the load of the machine. Fields of the load that are None have the machine's
    values. The first function has the machine's *seed*, the second has the next number, …"""
    pasids: tuple[int, ...] = ()
    """The PASIDs that have a table of their own if *queues* is ``pasid`` or ``shared``. Empty, with ``pasid``: the
    PASIDs of the workload."""
    device_group: str | None = None
    """Functions with the same value are one group of devices, which the IOMMU cannot tell apart; None: a group of its
    own."""
    credits: int | None = None
    """Page requests that may be outstanding; None: a share of what the others' leave of the IOMMU's queue, which then
    never overflows. A function that stalls has none of its own: each of its places is a credit."""
    retries: int = 0
    """How often the function asks again for a page that is not mapped after SUCCESS, 0 to 31."""
    stalls: int | None = None
    """The places in which transactions of the function stall, 1 to 512, its own. It sends no page requests then, and
    its groups have one page. 0: it sends page requests. None: 0, or 64 if the machine has ``iommu="smmuv3-stall"``.
    With ``iommu="device"``: the pages that operations of the device may wait for, 64 if None. With
    ``iommu="device-log"``: the operations that may wait for a page."""

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        if self.requester_id is not None:
            check_fits(16, requester_id=self.requester_id)
        _check_workload(self.workload)
        _check_load(self.load)
        _set(self, "pasids", _tuple("pasids", self.pasids))
        for pasid in self.pasids:
            check_whole("each of pasids", pasid, 1, MOST_PASIDS - 1)
        _set(self, "pasids", tuple(int(pasid) for pasid in self.pasids))
        if len(set(self.pasids)) < len(self.pasids):
            raise UsageError(f"pasids must have each PASID once, not {self.pasids}")
        if self.device_group is not None:
            _check_text("device_group", self.device_group)
        if self.credits is not None:
            check_whole("credits", self.credits, 1, MOST_CREDITS)
        check_whole("retries", self.retries, 0, MOST_RETRIES)
        if self.stalls is not None:
            check_whole("stalls", self.stalls, 0, MOST_IN_FLIGHT)
        if self.stalls and self.credits not in (None, self.stalls):
            raise UsageError(
                f"credits must be left out for {self.name}, which stalls and sends no page requests; or give stalls=0"
            )
        _make_plain(self, "requester_id", "credits", "retries", "stalls")


@dataclass(frozen=True)
class MachineParts:
    """The parts of a `Machine`. Raises: UsageError, a part that is not allowed, or parts that contradict each other."""

    workload: Workload | None = None
    """The faults of the functions; None: accesses are made by hand (``machine.endpoint.access``)."""
    kernel: str = "7.2"
    """The version of Linux whose rules iommufd and the rings follow: ``6.12`` or ``7.2``."""
    driver: str = "sqpoll"
    """The threads. ``sqpoll``: a worker runs the hardware and the kernel. ``enter``: a worker runs the hardware, and
    the kernel runs in the client's calls. ``inline``: one thread runs everything, deterministically."""
    wait: str = "sleep"
    """A client without work sleeps until it is woken (``sleep``), or polls again at once (``spin``). A worker without
    work does the same; with ``sleep`` it spins for a millisecond first."""
    in_flight: int = _Unsaid(DEFAULT_IN_FLIGHT)
    """The most groups of a function that are outstanding at once, 1 to 512. The *load* may give it instead."""
    group: int = _Unsaid(DEFAULT_GROUP)
    """The most pages in one group, 1 to 32. Neighbours in the workload form a group. The *load* may give it instead."""
    seed: int = _Unsaid(DEFAULT_SEED)
    """The seed of the random times of a load; a closed loop has none. The *load* may give it instead."""
    load: Load | None = None
    """The times of the faults; None: a closed loop."""
    live: bool | None = None
    """True: each emulated system call and wake-up makes a real one, and time passes. False: they are only counted, and
    without a worker the clock stands still until ``core.tick``; a worker still makes real wake-ups. None: True, except
    with the driver ``inline``."""
    cpu: int = -1
    """The processor for the worker, if the host allows it; -1: any."""
    report_flags: int = 0
    """The stages that the design ``handler`` wants to hear of, or, with *stage2*, the kernel's own handler: 1 FLAT (not
    with *stage2*), 2 NESTED_L1, 4 NESTED_L2; 0: FLAT, or, with *stage2*, all that *known_by* allows."""
    functions: tuple[FunctionParts, ...] = ()
    """The PCI functions, all behind one IOMMU; empty: one function, with the name ``function``."""
    queues: str = "one"
    """The fault queues. ``one``: all functions are attached to one table with one queue. ``device``: each function, or
    each group of devices, has a table with a queue. ``pasid``: each of a function's *pasids* has a table with a queue;
    faults of other PASIDs are refused. ``shared``: each function and each of its *pasids* has a table, and all tables
    have one queue."""
    limits: QueueLimits | None = None
    """Limits of every fault queue, which Linux does not have; None: no limits."""
    fault_file: str = "keyed"
    """The file of the fault queues, for designs that need the proposed one. ``keyed``: a fault wakes with POLLIN, as we
    propose (`Personality.PROPOSED`). ``unkeyed``: it wakes without saying why, as Linux's (`PROPOSED_UNKEYED`). Other
    designs have Linux's own file."""
    iommu: str = IOMMUS[0]
    """The model of the IOMMU, with its own format of page requests and of answers, and its driver. ``smmuv3-stall`` is
    an SMMUv3, too: its functions stall unless their *stalls* say otherwise. ``device`` is no IOMMU: the device reports
    its faults to its own driver."""
    drains: bool = True
    """Whether detach and replace first wait for the page requests on the way. Without that a request can reach the next
    attachment, which counts it as stale (``device.counts()``)."""
    stage2: float | None = None
    """The share of the guest's memory that is pinned in stage 2, from 0 (none of it) to 1 (all). The clients of the
    machine are the guest then, with page tables of stage 1 in the format of the IOMMU, and the kernel serves faults of
    stage 2 itself (`Machine.stages`). None: one flat stage."""
    known_by: str | None = None
    """How the kernel knows which stage has faulted, with *stage2*. ``hardware``: a stall says it. ``driver``: the
    driver walks the tables. ``handler``: the registered handler filters. ``nobody``: all of stage 2 is pinned, so it is
    stage 1. None: ``nobody`` if all is pinned; else ``hardware`` if the functions stall, and ``driver`` if not."""
    pasid_table: int | None = None
    """Entries of the PASID table; None: as many as the workloads and *pasids* need, 64 at least."""
    table_pages: int | None = None
    """The 4 KiB pages for the page tables of all PASIDs together; None: as many as the workloads need, 1,024 at least.
    1,024 pages map about 2,000 MiB in one piece, or 340 pages that are far apart."""

    def __post_init__(self) -> None:
        _check_workload(self.workload)
        _check_choice("kernel", self.kernel, KERNELS)
        _check_choice("iommu", self.iommu, IOMMUS)
        _check_choice("driver", self.driver, DRIVERS)
        _check_choice("wait", self.wait, WAITS)
        check_in_flight(self.in_flight)
        check_group(self.group)
        check_fits(64, seed=self.seed)
        _check_load(self.load)
        if self.live is not None and not isinstance(self.live, bool):
            raise UsageError(f"live must be True, False or None, not {self.live!r}")
        check_whole("cpu", self.cpu, -1, 1023, ", -1 for any")
        check_fits(32, report_flags=self.report_flags)
        _make_plain(self, "in_flight", "group", "seed", "cpu", "report_flags")
        self._agree_with_load()
        _set(self, "functions", _tuple("functions", self.functions))
        self._check_functions()
        _check_choice("queues", self.queues, QUEUES)
        if self.limits is not None:
            _check_limits(self.limits)
        _check_choice("fault_file", self.fault_file, FAULT_FILES)
        if not isinstance(self.drains, bool):
            raise UsageError(f"drains must be True or False, not {self.drains!r}")
        if self.pasid_table is not None:
            check_whole("pasid_table", self.pasid_table, 1, MOST_PASIDS)
        if self.table_pages is not None:
            check_whole("table_pages", self.table_pages, 1, MOST_TABLE_PAGES)
        _make_plain(self, "pasid_table", "table_pages")
        self._check_tables()
        self._check_pasids()
        self._check_queues()
        self._check_stages()

    # ---- contradictions ----

    def _agree_with_load(self) -> None:
        """Use the load's values where the machine has defaults. Raises: UsageError, the two have different values."""
        for name in ("in_flight", "group", "seed"):
            ours, its = getattr(self, name), None if self.load is None else getattr(self.load, name)
            if its is None or its == ours:
                continue
            if not isinstance(ours, _Unsaid):
                raise UsageError(f"{name} is {ours} for the machine, but {its} in its load; give it in one place only")
            _set(self, name, its)

    def _check_functions(self) -> None:
        if len(self.functions) > MOST_FUNCTIONS:
            raise UsageError(
                f"functions must have {MOST_FUNCTIONS} members at most, the room behind one IOMMU, not "
                f"{len(self.functions)}"
            )
        for one in self.functions:
            if not isinstance(one, FunctionParts):
                raise UsageError(f"functions must have FunctionParts only, not {one!r}")
        each = list(self.each_function())
        _check_different("name", [one.name for one in each])
        _check_different("requester_id", [one.requester_id for one in each])
        for one, load in zip(each, self.loads(), strict=True):
            assert one.credits is not None, "each has its share"
            assert load.group is not None, "it is filled"
            if one.stalls:
                self._check_stalls(one.name, load.group)
            elif self.iommu in DEVICES:
                raise UsageError(f"stalls of {one.name} must be 1 or more, because a function of a device has no PRI")
            if one.credits < load.group:
                raise UsageError(
                    f"credits of {one.name} must be {load.group} or more, one for each page of a group, not "
                    f"{one.credits}; the group would wait forever"
                )
        units = {one.name for one in each if one.device_group is None}
        if clash := units & {one.device_group for one in each}:
            raise UsageError(f"device_group must differ from the names of functions, not {clash.pop()!r}")

    def _check_stalls(self, name: str, group: int) -> None:
        if self.iommu not in (able := [one for one in IOMMUS if model_of(one) in STALLING.values()]):
            raise UsageError(
                f"the function {name} stalls, which needs iommu={' or '.join(map(repr, able))}, not {self.iommu!r}"
            )
        if group > 1 and self.iommu != "device":
            raise UsageError(
                f"group must be 1 for the function {name}, which stalls, because a stall is a group of one page, not "
                f"{group}"
            )

    def _check_tables(self) -> None:
        most, pages = self._most_pasid(), self._pages_needed()
        if self.pasid_table is not None and self.pasid_table <= most:
            raise UsageError(
                f"pasid_table must be {most + 1} or more, because PASID {most} is used, not {self.pasid_table}"
            )
        if self.table_pages is not None and self.table_pages < pages:
            raise UsageError(f"table_pages must be {pages} or more for these workloads, not {self.table_pages}")

    def _check_pasids(self) -> None:
        """A FAILURE stops the page requests of a function, and so its workload."""
        first, last = DRIVEN_PASIDS.get(self.iommu, (0, MOST_PASIDS - 1))
        for one in self.each_function():
            for pasid in (*one.pasids, *_used(one.workload)):
                if not first <= pasid <= last:
                    raise UsageError(
                        f"iommu={self.iommu!r} has a driver that reports PASIDs from {first} to {last} only, but the "
                        f"function {one.name} has faults of PASID {pasid}; give another workload or iommu"
                    )

    def _check_queues(self) -> None:
        if self.kernel == "6.12" and (self.queues == "pasid" or any(unit.pasids for unit in self.units())):
            raise UsageError(
                f"queues={self.queues!r} attaches PASIDs, which kernel 6.12 cannot; give kernel='7.2', or no pasids"
            )
        if self.queues != "pasid":
            return
        for one in self.each_function():
            if not own_pasids(one):
                raise UsageError(
                    f"queues='pasid' needs the pasids of the function {one.name}, which has no workload; give pasids"
                )
            if 0 in own_pasids(one):
                raise UsageError(
                    f"queues='pasid' excludes PASID 0, which is the device's own, but the workload of {one.name} has "
                    "faults of PASID 0; give other queues"
                )

    def _check_stages(self) -> None:
        if self.known_by is not None:
            _check_choice("known_by", self.known_by, KNOWN_BY)
        if self.stage2 is None:
            if self.known_by is not None:
                raise UsageError(f"known_by={self.known_by!r} needs two stages; give stage2, the share that is pinned")
            return
        if isinstance(self.stage2, bool) or not isinstance(self.stage2, (int, float)) or not 0 <= self.stage2 <= 1:
            raise UsageError(f"stage2 must be a share from 0 to 1, or None, not {self.stage2!r}")
        _set(self, "stage2", float(self.stage2))
        if self.iommu not in PAGE_FORMATS:
            raise UsageError(
                f"stage2 needs an IOMMU with page tables of two stages, {', '.join(PAGE_FORMATS)}, not {self.iommu!r}"
            )
        if self.known_by == "nobody" and self.stage2 < 1:
            raise UsageError(
                "known_by='nobody' needs stage2=1, because only with all of stage 2 pinned is every fault of stage 1"
            )
        allowed = (0, 2) if self.stage_known_by == "nobody" else (0, 2, 4, 6)
        if self.report_flags not in allowed:
            raise UsageError(
                f"report_flags must be one of {', '.join(map(str, allowed))} with stage2 and "
                f"known_by={self.stage_known_by!r}, not {self.report_flags}: 2 is NESTED_L1, 4 NESTED_L2"
            )
        if self.known_by == "hardware" and (silent := [one.name for one in self.each_function() if not one.stalls]):
            raise UsageError(
                f"known_by='hardware' needs functions that stall, because a page request does not say its stage; "
                f"{', '.join(silent)} sends page requests (give iommu='smmuv3-stall', or stalls)"
            )

        name = self.stalls_under_any_pasid()
        if name is not None and self.pasid_entries > MOST_BEGUN:
            raise UsageError(
                f"pasid_table={self.pasid_entries} is too many with stage2 and the function {name}, which stalls and "
                f"has no workload: each PASID must have tables, or its transactions abort; give pasids to {name}, or "
                f"a pasid_table of at most {MOST_BEGUN}"
            )

    def stalls_under_any_pasid(self) -> str | None:
        """The name of a function with two stages that stalls under PASIDs that nobody knows beforehand, or None.

        An SMMUv3 stalls no transaction whose PASID has no tables (no context descriptor): it aborts.
        """
        if self.stage2 is None:
            return None
        each = (one.name for one in self.each_function() if one.stalls and one.workload is None and not one.pasids)
        return next(each, None)

    def _most_pasid(self) -> int:
        used = [pasid for one in self.each_function() for pasid in (*one.pasids, *_used(one.workload))]
        return max(used, default=0)

    def _pages_needed(self) -> int:
        workloads = {id(one.workload): one.workload for one in self.each_function() if one.workload is not None}
        return sum(one.table_pages for one in workloads.values())

    # ---- values that follow from the parts ----

    @classmethod
    def of(
        cls, workload: str | Path | Workload | None = DEFAULT_WORKLOAD, **options: Unpack[MachineOptions]
    ) -> MachineParts:
        """Make the parts, with a workload by its name or path. Raises: UsageError, as the class and `load_workload`."""
        from uring_iopf.workloads import Workload, load_workload  # heavy for those who only look

        known = workload is None or isinstance(workload, Workload)
        return cls(**cls.checked(workload=workload if known else load_workload(workload), **options))  # type: ignore[arg-type]

    @classmethod
    def checked(cls, **options: object) -> dict[str, object]:
        """Return *options*. Raises: UsageError, an option is not the name of a part."""
        names = [field.name for field in fields(cls)]
        if unknown := [name for name in options if name not in names]:
            raise UsageError(f"a machine has no option {unknown[0]!r}; it has {', '.join(names)}")
        return options

    def with_options(self, **options: Unpack[MachineOptions]) -> Self:
        """Return a copy with other *options*. Raises: UsageError, as the class."""
        return replace(self, **self.checked(**options))  # type: ignore[arg-type]

    @property
    def is_live(self) -> bool:
        """*live*, with the default filled in."""
        return self.driver != "inline" if self.live is None else self.live

    @property
    def stage_known_by(self) -> str | None:
        """*known_by*, with the default filled in; None: there is one stage."""
        if self.stage2 is None or self.known_by is not None:
            return self.known_by
        if self.stage2 == 1:
            return "nobody"
        return "hardware" if all(one.stalls for one in self.each_function()) else "driver"

    def make_load(self) -> Load:
        """*load*, with the defaults filled in."""
        return (Load() if self.load is None else self.load).filled(self.in_flight, self.group, self.seed)

    def each_function(self) -> Iterator[FunctionParts]:
        """The functions, with the defaults filled in: requester id, workload, credits and stalls."""
        functions = self.functions or (FunctionParts(),)
        share = self._share(functions)
        for number, one in enumerate(functions):
            default = DEFAULT_STALLS if self.iommu in STALLING else 0
            stalls = default if one.stalls is None else one.stalls
            yield replace(
                one,
                requester_id=FIRST_REQUESTER_ID * (number + 1) if one.requester_id is None else one.requester_id,
                workload=self.workload if one.workload is None else one.workload,
                credits=(stalls or share) if one.credits is None else one.credits,
                stalls=stalls,
            )

    def _share(self, functions: tuple[FunctionParts, ...]) -> int:
        """The credits of a function that has not been given any."""
        group, given = self._largest_group(), [one.credits for one in functions if one.credits is not None]
        others = len(functions) - len(given)
        left = REQUEST_QUEUES[model_of(self.iommu)] - sum(given)
        if given and others and left >= others * group:
            return min(MOST_IN_FLIGHT * group, left // others)
        return share_of_credits(group, len(functions), self.iommu)

    def loads(self) -> list[Load]:
        """The load of each function, with the defaults filled in."""
        functions = self.functions or (FunctionParts(),)
        ours = self.make_load()
        assert ours.in_flight is not None, "it is filled"
        assert ours.group is not None, "it is filled"
        assert ours.seed is not None, "it is filled"
        found = []
        for number, one in enumerate(functions):
            seed = (ours.seed + number) % 2**64
            own = replace(ours, seed=None) if one.load is None else one.load
            found.append(own.filled(ours.in_flight, ours.group, seed))
        return found

    def _largest_group(self) -> int:
        groups = [one.load.group for one in self.functions if one.load is not None and one.load.group is not None]
        return max([self.group, *groups])

    def units(self) -> list[Unit]:
        """The functions and groups of devices that are attached, in order."""
        members: dict[str, list[FunctionParts]] = {}
        for one in self.each_function():
            members.setdefault(one.name if one.device_group is None else one.device_group, []).append(one)
        return [Unit(name, tuple(some), self._tables_of(some)) for name, some in members.items()]

    def _tables_of(self, functions: Iterable[FunctionParts]) -> tuple[int, ...]:
        if self.queues == "pasid":
            return tuple(sorted({pasid for one in functions for pasid in own_pasids(one)}))
        if self.queues == "shared":
            return tuple(sorted({pasid for one in functions for pasid in one.pasids}))
        return ()

    def queue_keys(self) -> tuple[QueueKey, ...]:
        """The names of the queues that the machine will have."""
        if self.queues == "pasid":
            return tuple(QueueKey(unit.name, pasid) for unit in self.units() for pasid in unit.pasids)
        if self.queues == "device":
            return tuple(QueueKey(unit.name, None) for unit in self.units())
        return (ALL,)

    @property
    def pasid_entries(self) -> int:
        """*pasid_table*, with the default filled in."""
        return max(DEFAULT_PASIDS, self._most_pasid() + 1) if self.pasid_table is None else self.pasid_table

    @property
    def pages_of_tables(self) -> int:
        """*table_pages*, with the default filled in."""
        return max(DEFAULT_TABLE_PAGES, self._pages_needed()) if self.table_pages is None else self.table_pages


@dataclass(frozen=True)
class Unit:
    """Functions that are attached together: one function, or a group of devices."""

    name: str
    functions: tuple[FunctionParts, ...]
    pasids: tuple[int, ...]
    """The PASIDs that have a table of their own."""


def own_pasids(function: FunctionParts) -> tuple[int, ...]:
    """The PASIDs of a function that get a table of their own if PASIDs have tables."""
    return function.pasids or _used(function.workload)


def _used(workload: Workload | None) -> tuple[int, ...]:
    return () if workload is None else workload.used_pasids


# ---- checks ----


def _set(parts: object, name: str, value: object) -> None:
    object.__setattr__(parts, name, value)  # they are frozen for everybody else


def _make_plain(parts: object, *names: str) -> None:
    """Convert NumPy's whole numbers, and others, to int, so that they can be written as JSON."""
    for name in names:
        if (value := getattr(parts, name)) is not None and not isinstance(value, _Unsaid):
            _set(parts, name, int(value))


def _check_choice(what: str, given: object, choices: tuple[str, ...]) -> None:
    if not isinstance(given, str) or given not in choices:
        raise UsageError(f"{what} must be one of {', '.join(choices)}; not {given!r}")


def _check_different(what: str, values: list[T]) -> None:
    for number, value in enumerate(values):
        if value in values[:number]:
            raise UsageError(f"functions must have different values of {what}; two have {value!r}")


def _check_text(what: str, given: object) -> None:
    if not isinstance(given, str) or not given:
        raise UsageError(f"{what} must be a string that is not empty, not {given!r}")


def _tuple(what: str, given: Iterable[object]) -> tuple[object, ...]:
    if isinstance(given, (str, bytes)):
        raise UsageError(f"{what} must be a sequence, not {given!r}")
    try:
        return tuple(given)
    except TypeError:
        raise UsageError(f"{what} must be a sequence, not {given!r}") from None


def _check_workload(given: object) -> None:
    if given is None:
        return
    from uring_iopf.workloads import Workload  # heavy for those who only look

    if not isinstance(given, Workload):
        raise UsageError(
            f"workload must be a Workload or None, not {given!r}; `load_workload` returns one by its name or path"
        )


def _check_load(given: object) -> None:
    if given is not None and not isinstance(given, Load):
        raise UsageError(f"load must be a Load or None, not {given!r}")


def _check_limits(given: object) -> None:
    # This loads the extension, which a caller with limits has loaded already.
    from uring_iopf.iommufd import QueueLimits

    if not isinstance(given, QueueLimits):
        raise UsageError(f"limits must be QueueLimits or None, not {given!r}")
