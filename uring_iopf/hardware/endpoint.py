"""A PCI function with page requests behind an IOMMU."""

from __future__ import annotations

import enum
import errno
from typing import TYPE_CHECKING, NamedTuple

from uring_iopf._native import CEndpoint, check, ffi, lib
from uring_iopf.errors import HostError, UsageError, check_fits, check_signed, check_whole
from uring_iopf.handles import Handle
from uring_iopf.hardware.load import MOST_IN_FLIGHT, Load

if TYPE_CHECKING:
    from uring_iopf.hardware.iommus.vtd import VtdIommu
    from uring_iopf.hardware.tables import AddressSpace

_SLICE_NS = 20_000_000

MOST_REQUESTS = 1 << 20
"""That a function may have outstanding."""
MOST_PAGES = 1 << 12
"""In a group: memory is made for as many in each."""
ROW_BYTES = 24
"""``struct uiopf_access``."""
GROUP_INDICES = MOST_IN_FLIGHT
"""PRG indices of a function: groups that can be outstanding at once."""


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


def _check(rc: int, call: str, pages: int) -> int:
    if rc == -errno.ENOSPC:
        raise UsageError(
            f"{call}: a group of {pages} pages needs {pages} credits, and this function has fewer; give it more "
            "(`Endpoint.enable_pri`), or make smaller groups"
        )
    return check(rc, call)


def _check_told(rc: int, eventfd: int) -> None:
    """Raises: UsageError, this descriptor is not open; HostError, there is none for a duplicate."""
    if rc == -errno.EBADF:
        raise UsageError(f"eventfd must be an open descriptor, not {eventfd}")
    if rc < 0:
        raise HostError(-rc, "the eventfd cannot be duplicated")


class Endpoint(Handle[CEndpoint]):
    """A PCI function with PRI: credits, 512 group indices, groups of up to *group_most* pages.

    *capacity*: Outstanding Page Request Capacity, in requests. PRI is off until `enable_pri`.
    """

    _what = "endpoint"

    def __init__(
        self, iommu: VtdIommu, *, requester_id: int = 0x0100, capacity: int = 2048, group_most: int = 32
    ) -> None:
        super().__init__()
        check_fits(16, requester_id=requester_id)
        check_whole("capacity", capacity, 1, MOST_REQUESTS, " page requests")
        check_whole("group_most", group_most, 1, MOST_PAGES, " pages")
        self._on = iommu.core
        self.requester_id = requester_id
        self.capacity = capacity
        new, free = lib.uiopf_endpoint_new, lib.uiopf_endpoint_free
        keep: list[object] = [iommu.vtd]  # which the port is a part of
        self._make(free, new, iommu.core.c, iommu.port, requester_id, capacity, group_most, keep=keep)

    def enable_pri(self, allocation: int | None = None) -> None:
        """Turn PRI on with so many credits, at most its capacity.

        Raises: KernelError(EBUSY), it is not stopped; UsageError, a group that is still to be sent has more pages.
        """
        wanted = self.capacity if allocation is None else allocation
        check_fits(32, allocation=wanted)
        rc = lib.uiopf_endpoint_enable_pri(self.c, wanted)
        if rc == -errno.ENOSPC:
            raise UsageError(f"a group that waits to be sent has more pages than {wanted} credits; give more credits")
        check(rc, "enable PRI")

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
        if not isinstance(rows, (bytes, bytearray, memoryview)) or len(rows) % ROW_BYTES:
            raise UsageError(f"rows must be bytes, {ROW_BYTES} for each access, not {rows!r:.40}")
        data = ffi.from_buffer("struct uiopf_access[]", rows)
        check(lib.uiopf_endpoint_set_rows(self.c, data, len(data)), "set rows")

    def start(self, load: Load) -> None:
        """Go through the rows once.

        Raises: KernelError(EBUSY), it is doing so; KernelError(EINVAL), a bad load; UsageError, a group of the load has
        more pages than the function has credits, and it would wait for ever.
        """
        if not isinstance(load, Load):
            raise UsageError(f"load must be a Load, not {load!r}")
        _check(lib.uiopf_endpoint_start(self.c, load.as_c()), "start a load", load.filled().group or 0)

    def cancel(self) -> None:
        """Send no more of the rows; the pass ends with the last answer."""
        lib.uiopf_endpoint_cancel(self.c)

    def passes(self) -> int:
        """How many passes have ended."""
        return lib.uiopf_endpoint_passes(self.c)

    def wait(self, passes: int, timeout_ns: int) -> bool:
        """Spin until so many passes have ended: True, or False when the time is over."""
        check_fits(32, passes=passes)
        check_signed(65, timeout_ns=timeout_ns)
        while timeout_ns > 0:  # in slices: signal handlers run in between
            if lib.uiopf_endpoint_wait(self.c, passes, min(timeout_ns, _SLICE_NS)):
                return True
            timeout_ns -= _SLICE_NS
        return bool(lib.uiopf_endpoint_wait(self.c, passes, 0))

    def access(self, pasid: int, address: int, perm: int, *, pages: int = 1) -> int:
        """Make one access to neighbouring pages, as one group where it faults. Return a ticket for `result`.

        It is sent by the next producer step. A page that is there does not fault.
        Raises: KernelError(EBUSY), 1,024 are pending; KernelError(EINVAL), more pages than a group holds,
        *perm* neither reads, writes nor executes, or *pasid* has more than 20 bits; UsageError, *pages* are more than
        the function has credits, and it would wait for ever.
        """
        c = self.c
        try:
            ticket = lib.uiopf_endpoint_access(c, pasid, address, perm, pages)
        except (TypeError, OverflowError):  # cffi's
            check_fits(32, pasid=pasid, perm=perm, pages=pages)
            check_fits(64, address=address)
            raise
        return ticket if ticket >= 0 else _check(ticket, "access", pages)

    def result(self, ticket: int) -> AccessResult:
        """What became of an access. A ticket is good for 1,024 further accesses.

        Raises: UsageError, no access of the last 1,024 was given this ticket.
        """
        c = self.c
        try:
            rc = lib.uiopf_endpoint_result(c, ticket)
        except (TypeError, OverflowError):  # cffi's, for no number of 64 bits
            rc = -1
        if rc < 0:
            raise UsageError(
                f"ticket must be one that `access` has returned for the last 1,024 accesses, not {ticket!r}"
            )
        return AccessResult(rc)

    def tell_accesses(self, eventfd: int) -> None:
        """Signal an eventfd at the end of each access made by hand; -1: none. Raises: as `tell_when_done`."""
        check_signed(32, eventfd=eventfd)
        _check_told(lib.uiopf_endpoint_set_access_eventfd(self.c, eventfd), eventfd)

    def tell_when_done(self, eventfd: int, *, also: bool = False) -> None:
        """Signal an eventfd at the end of each pass, and of the last access by hand; -1: none.

        *also*: besides those that were given before, which it replaces otherwise. Raises: UsageError, it is not open;
        HostError, there is no descriptor for a duplicate.
        """
        check_signed(32, eventfd=eventfd)
        tell = lib.uiopf_endpoint_add_done_eventfd if also else lib.uiopf_endpoint_set_done_eventfd
        _check_told(tell(self.c, eventfd), eventfd)

    def finish(self) -> None:
        """No more accesses will be made by hand."""
        lib.uiopf_endpoint_finish(self.c)

    def is_served(self, passes: int) -> bool:
        """Whether so many passes have ended, and every access made by hand."""
        check_fits(32, passes=passes)
        return bool(lib.uiopf_endpoint_is_served(self.c, passes))

    def counts(self) -> EndpointCounts:
        """What it has sent, and what came back."""
        counts = ffi.new("struct uiopf_endpoint_counts *")
        lib.uiopf_endpoint_get_counts(self.c, counts)
        return EndpointCounts(*(getattr(counts, field) for field in EndpointCounts._fields))

    def latency_ns(self, share: float) -> int:
        """The latency that this share of all groups (0 to 1) does not exceed, to 1 %."""
        try:
            known = 0 <= share <= 1
        except TypeError:
            known = False
        if not known:
            raise UsageError(f"share must be 0 to 1, not {share!r}")
        return lib.uiopf_endpoint_latency(self.c, round(share * 1_000_000))

    def close(self) -> None:
        """Free it; what it has sent is no longer answered. Closing again does nothing."""
        self._c = None
