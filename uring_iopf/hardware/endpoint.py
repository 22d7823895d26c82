"""A PCI function with page requests behind a VT-d IOMMU, and the loads that make it fault."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from uring_iopf._native import CData, check, ffi, lib, made
from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from uring_iopf.core import Core
    from uring_iopf.hardware.tables import AddressSpace

GROUP_INDICES = 512
"""PRG indices of a function: groups that can be outstanding at once."""


class VtdIommu:
    """An Intel VT-d unit: its page request queue, its invalidation queue, and Linux' driver for both.

    *needs_pasid*: requests without a PASID are refused, as Linux 6.12 does. *drains*: detach and replace first see to
    it that what is on the way is reported to whom it was meant for; without it a request can meet the next attachment,
    and is counted there as stale (`DeviceCounts`).
    """

    def __init__(self, core: Core, *, needs_pasid: bool = True, drains: bool = True) -> None:
        self.core = core
        self.drains = drains
        flags = (lib.UIOPF_VTD_NEEDS_PASID if needs_pasid else 0) | (0 if drains else lib.UIOPF_VTD_UNDRAINED)
        self._vtd: CData | None = made(lib.uiopf_vtd_new(core.c, flags), "an IOMMU")

    @property
    def vtd(self) -> CData:
        """The C object, as a VT-d unit."""
        if self._vtd is None:
            raise UsageError("this IOMMU is closed")
        return self._vtd

    @property
    def c(self) -> CData:
        """The C object, as any IOMMU."""
        return lib.uiopf_vtd_iommu(self.vtd)

    def lost(self) -> int:
        """Requests that a full queue did not take, and answers that did not reach the hardware."""
        counts = ffi.new("struct uiopf_vtd_counts *")
        lib.uiopf_vtd_get_counts(self.vtd, counts)
        return int(counts.overflowed + counts.commands_lost)

    def close(self) -> None:
        """Free it; its endpoints must be closed."""
        if self._vtd is not None:
            lib.uiopf_vtd_free(self._vtd)
            self._vtd = None


class LoadMode(enum.IntEnum):
    """When the next fault of a load comes."""

    CLOSED = 0
    """As soon as an answer makes room."""
    TRACE = 1
    """When the trace says, times a speed; latency counts from then, also if the function was still busy."""
    POISSON = 2
    """At a mean rate, with exponential gaps; latency as for TRACE."""


@dataclass(frozen=True, slots=True)
class Load:
    """How a function goes through its rows.

    *in_flight*: groups outstanding at most. *group*: pages in one group at most, neighbours in the rows and of one
    PASID. *speed*: how many times faster than recorded (TRACE). *rate*: faults a second (POISSON), drawn from *seed*.
    """

    mode: LoadMode = LoadMode.CLOSED
    in_flight: int = 16
    group: int = 1
    speed: float = 1.0
    rate: float = 1e6
    seed: int = 0

    def as_c(self) -> CData:
        """The same as ``struct uiopf_load``."""
        return ffi.new(
            "struct uiopf_load *",
            {
                "mode": self.mode,
                "in_flight": self.in_flight,
                "group": self.group,
                "speed": self.speed,
                "rate": self.rate,
                "seed": self.seed,
            },
        )


class AccessResult(enum.IntEnum):
    """What became of an access made by hand."""

    PENDING = 0
    OK = 1
    UNMAPPED = 2
    """Answered with success, and the page was not there."""
    INVALID = 3
    FAILED = 4


class EndpointCounts(NamedTuple):
    """What a function has sent, and what came back; faults are page requests."""

    sent: int
    sent_groups: int
    succeeded: int
    """Answered, and there when tried again."""
    unmapped: int
    """Answered with success, and not there."""
    invalid: int
    failed: int
    unexpected: int
    """Answers to a group index that is not outstanding."""
    outstanding: int
    busy_ns: int
    """From the start of each pass to its last answer, added up."""
    latency_max_ns: int
    latency_count: int
    pri_status: int
    """PCIE_PRI_STATUS bits: RF 1, UPRGI 2, Stopped 0x100."""


class Endpoint:
    """A PCI function with PRI: credits, 512 group indices, groups of up to *group_most* pages.

    *capacity*: Outstanding Page Request Capacity, in requests. PRI is off until `enable_pri`.
    """

    def __init__(
        self, iommu: VtdIommu, *, requester_id: int = 0x0100, capacity: int = 2048, group_most: int = 32
    ) -> None:
        self.requester_id = requester_id
        self.capacity = capacity
        self._c: CData | None = made(
            lib.uiopf_endpoint_new(iommu.core.c, iommu.vtd, requester_id, capacity, group_most), "an endpoint"
        )

    @property
    def c(self) -> CData:
        """The C object, for the layers above."""
        if self._c is None:
            raise UsageError("this endpoint is closed")
        return self._c

    def enable_pri(self, allocation: int | None = None) -> None:
        """Turn PRI on with so many credits, at most its capacity. Raises: KernelError(EBUSY), it is not stopped."""
        check(lib.uiopf_endpoint_enable_pri(self.c, self.capacity if allocation is None else allocation), "enable PRI")

    def disable_pri(self) -> None:
        """Turn PRI off: nothing more is sent."""
        lib.uiopf_endpoint_disable_pri(self.c)

    def reset_pri(self) -> None:
        """Clear RF and UPRGI after a failure. Raises: KernelError(EBUSY), PRI is enabled."""
        check(lib.uiopf_endpoint_reset_pri(self.c), "reset PRI")

    def use_tables(self, space: AddressSpace | None) -> None:
        """Translate by these tables; None: by none."""
        lib.uiopf_endpoint_set_tables(self.c, ffi.NULL if space is None else space.c)

    def set_rows(self, rows: bytes) -> None:
        """Give it what to fault on: ``struct uiopf_access`` of 24 bytes each.

        Raises: KernelError(EBUSY), in a pass; KernelError(EINVAL), an access that neither reads, writes nor executes,
        or a PASID of more than 20 bits.
        """
        data = ffi.from_buffer("struct uiopf_access[]", rows)
        check(lib.uiopf_endpoint_set_rows(self.c, data, len(data)), "set rows")

    def start(self, load: Load) -> None:
        """Go through the rows once. Raises: KernelError(EBUSY), it is doing so; KernelError(EINVAL), a bad load."""
        check(lib.uiopf_endpoint_start(self.c, load.as_c()), "start a load")

    def cancel(self) -> None:
        """Send no more of the rows; the pass ends with the last answer."""
        lib.uiopf_endpoint_cancel(self.c)

    def passes(self) -> int:
        """How many passes have ended."""
        return lib.uiopf_endpoint_passes(self.c)

    def wait(self, passes: int, timeout_ns: int) -> bool:
        """Spin until so many passes have ended: True, or False when the time is over."""
        return bool(lib.uiopf_endpoint_wait(self.c, passes, timeout_ns))

    def access(self, pasid: int, address: int, perm: int, *, pages: int = 1) -> int:
        """Make one access to neighbouring pages, as one group where it faults. Return a ticket for `result`.

        It is sent by the next producer step. A page that is there does not fault.
        Raises: KernelError(EBUSY), 1,024 are pending; KernelError(EINVAL), more pages than a group holds,
        *perm* neither reads, writes nor executes, or *pasid* has more than 20 bits.
        """
        return check(lib.uiopf_endpoint_access(self.c, pasid, address, perm, pages), "access")

    def result(self, ticket: int) -> AccessResult:
        """What became of an access. A ticket is good for 1,024 further accesses."""
        return AccessResult(lib.uiopf_endpoint_result(self.c, ticket))

    def counts(self) -> EndpointCounts:
        """What it has sent, and what came back."""
        counts = ffi.new("struct uiopf_endpoint_counts *")
        lib.uiopf_endpoint_get_counts(self.c, counts)
        return EndpointCounts(*(getattr(counts, field) for field in EndpointCounts._fields))

    def latency_ns(self, share: float) -> int:
        """The latency that this share of all groups (0 to 1) does not exceed, to 1 %."""
        return lib.uiopf_endpoint_latency(self.c, round(share * 1_000_000))

    def close(self) -> None:
        """Free it; what it has sent is no longer answered."""
        if self._c is not None:
            lib.uiopf_endpoint_free(self._c)
            self._c = None
