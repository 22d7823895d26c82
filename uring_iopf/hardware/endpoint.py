"""A PCI function with page requests behind an IOMMU."""

from __future__ import annotations

import enum
import errno
from functools import partial
from operator import call
from typing import TYPE_CHECKING, NamedTuple

from uring_iopf._native import CEndpoint, check, ffi, lib
from uring_iopf.errors import HostError, KernelError, UsageError, check_fits, check_is, check_signed, check_whole
from uring_iopf.handles import Handle, at_once, no_room
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.load import MOST_IN_FLIGHT, Load
from uring_iopf.hardware.pri import PageRequest, PrgAnswer, PriRegister
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.hardware.translator import (
    DEFAULT_PLACES,
    MOST_PLACES,
    Translated,
    Translator,
    pasid_or_any,
    range_of,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Callable


_SLICE_NS = 20_000_000

MOST_REQUESTS = 1 << 20
"""The most page requests that a function may have outstanding."""
MOST_PAGES = 1 << 12
"""The most pages in one group. Memory for so many is allocated for each group."""
ROW_BYTES = 24
"""The size of ``struct uiopf_access``."""
DEFAULT_CAPACITY = 2048
"""A function's Outstanding Page Request Capacity by default."""
MOST_RETRIES = 31
"""The most times that a function asks again for a page."""
MOST_ANSWERS = 1024
"""The most answers that are kept for `Endpoint.take_answers`."""
GROUP_INDICES = MOST_IN_FLIGHT
"""The PRG indices of a function, and so the most groups that can be outstanding at once."""


class AccessResult(enum.IntEnum):
    """The result of an access made by hand."""

    PENDING = 0
    """The access waits for an answer."""
    OK = 1
    """The page was mapped, at once or after the answer."""
    UNMAPPED = 2
    """The answer was SUCCESS, but the page was not mapped."""
    INVALID = 3
    """The answer was INVALID."""
    FAILED = 4
    """The answer was FAILURE, or a reset ended the access."""
    TERMINATED = 5
    """The transaction stalled, and ended without an error: it read zeros, or wrote nothing."""


class EndpointCounts(NamedTuple):
    """Counts of a function's page requests and of their answers.

    sent = succeeded + unmapped + retried + invalid + failed + cleared + outstanding, at any time. Stop markers are not
    counted.
    """

    sent: int
    """Page requests that were sent."""
    sent_groups: int
    """Groups that were sent."""
    succeeded: int
    """Page requests whose answer was SUCCESS, and whose page was mapped when the function tried again."""
    unmapped: int
    """Page requests whose answer was SUCCESS, but whose page was not mapped."""
    retried: int
    """Page requests whose answer was SUCCESS, whose page was not mapped, and which were sent again."""
    invalid: int
    """Page requests whose answer was INVALID."""
    failed: int
    """Page requests whose answer was FAILURE, or came after one."""
    unexpected: int
    """Answers to a group index that is not outstanding."""
    ignored: int
    """Answers that came after a Response Failure; the function ignores what they say."""
    cleared: int
    """Page requests that a reset has made the function forget."""
    cleared_groups: int
    """Groups of these."""
    forged: int
    """Page requests with this function's requester id that another function sent."""
    unbound: int
    """Page requests that the driver answered with INVALID because no device was bound to the function."""
    unbound_passed_over: int
    """Page requests that the driver dropped without an answer, because no device was bound and they were not last."""
    iommu_answered: int
    """Page requests that the IOMMU answered without its driver, because its queue could not take them."""
    waiting: int
    """Pages that wait for a credit, or for a place to stall in."""
    outstanding: int
    """Page requests that wait for an answer."""
    busy_ns: int
    """The times of all passes added up, each from its start to its last answer, in nanoseconds."""
    latency_max_ns: int
    """The longest latency of a group, in nanoseconds."""
    latency_count: int
    """The groups whose latency was measured."""
    latency_sum_ns: int
    """Their latencies, added up, in nanoseconds."""
    pri_status: int
    """`PriStatus`: RF, UPRGI and STOPPED. PRPR, which is always set, is left out."""


def _check(rc: int, call: str, pages: int) -> int:
    if rc == -errno.ENOSPC:
        raise UsageError(
            f"{call}: a group of {pages} pages needs {pages} credits, and this function has fewer; give it more "
            "(`Endpoint.enable_pri`), or make smaller groups"
        )
    return check(rc, call)


def _check_told(rc: int, eventfd: int) -> None:
    """Raises: UsageError, this descriptor is not open; HostError, no descriptor is free for a duplicate."""
    if rc == -errno.EBADF:
        raise UsageError(f"eventfd must be an open descriptor, not {eventfd}")
    if rc < 0:
        raise HostError(-rc, "the eventfd cannot be duplicated")


class Endpoint(Handle[CEndpoint]):
    """A PCI function with PRI: credits, 512 group indices, and groups of up to *group_most* pages.

    *requester_id*: bus, device and function number, 16 bits. *capacity*: PRI's Outstanding Page Request Capacity, in
    page requests, 1 to 2^20; None: 2,048. *group_most*: 1 to 4,096 pages. PRI is off until `enable_pri`.

    *retries*: how often the function asks again for a page that is not mapped after SUCCESS, 0 to 31. Only then is the
    page counted as unmapped, and the access ends with `AccessResult.UNMAPPED`.

    *physical*: the physical function of this one, which is then a virtual function: the two have one capability, with
    its credits and its failures. The capacity is the physical function's.

    *stalls*: the function has no PRI. Its transactions stall in the IOMMU, which has so many places for them, up to
    512; a transaction without a place waits. Each is a group of one page, with its stall tag as its index. *stage*: the
    stage of translation that has no page, 1 or 2. Only SMMUv3 has stalls.

    Of a device that reports its faults itself (`DeviceFaults`), *stalls* is needed: so many pages of its operations may
    wait. Its groups have up to *group_most* pages. *prefetch*: the pages behind each that the function would like to
    have, too, 0 to 65,535; the length of its messages says so. Of an accelerator with an event log (`DeviceLog`), so
    many operations may wait, of up to *group_most* pages. Each has one fault at a time, at its first page that is not
    there, in a group of its own; there is no *prefetch*.

    *private_data*: the last request of each group carries data private to the function, which its answer must bring
    back: an answer without them is unexpected. Only VT-d before revision 4 carries such data.

    *streams*: each request of its loads and accesses is one of a stream: no group, but answered by itself, with its
    address. Groups have one page then. Only VT-d's revision 2 has streams.

    Raises: UsageError, a number out of range, a requester id that another function behind the IOMMU has, a physical
    function behind another IOMMU, *stalls* behind an IOMMU that has none, or with a capacity or a physical function,
    *private_data* behind an IOMMU that carries none, *streams* behind one that has none; MemoryError.
    """

    _what = "endpoint"

    def __init__(
        self,
        iommu: Iommu,
        *,
        requester_id: int = 0x0100,
        capacity: int | None = None,
        group_most: int = 32,
        retries: int = 0,
        physical: Endpoint | None = None,
        stalls: int = 0,
        stage: int = 1,
        private_data: bool = False,
        prefetch: int = 0,
        streams: bool = False,
    ) -> None:
        super().__init__()
        check_is("an Iommu", Iommu, iommu=iommu)
        check_fits(16, requester_id=requester_id)
        if capacity is not None:
            check_whole("capacity", capacity, 1, MOST_REQUESTS, " page requests")
        check_whole("group_most", group_most, 1, MOST_PAGES, " pages")
        check_whole("retries", retries, 0, MOST_RETRIES)
        check_whole("stalls", stalls, 0, GROUP_INDICES)
        check_whole("stage", stage, 1, 2)
        check_whole("prefetch", prefetch, 0, 0xFFFF, " pages")
        if private_data and not iommu.carries_private_data:
            raise UsageError(f"private_data needs an IOMMU that carries it, such as VT-d 3, not {iommu.model_name!r}")
        if streams:
            if not lib.uiopf_port_has_streams(iommu.port):
                raise UsageError(f"streams need an IOMMU that has them, such as VT-d 2, not {iommu.model_name!r}")
            group_most = 1
        self._on = iommu.core
        self.iommu = iommu
        self.requester_id = requester_id
        self.group_most = group_most
        self.physical = physical
        self.stalls = stalls
        self.stage = stage
        self.prefetch = prefetch
        reports = bool(lib.uiopf_port_only_stalls(iommu.port))
        if stalls:
            self._check_stalls(capacity)
            self.group_most = group_most if reports else 1
        if reports != bool(stalls) and (reports or prefetch):
            raise UsageError("a function of a device that reports its faults has no PRI: give stalls")
        if prefetch and (not reports or lib.uiopf_port_one_fault(iommu.port)):
            raise UsageError(f"prefetch needs a device that can say so, such as DeviceFaults, not {iommu.model_name!r}")
        if reports:
            self.capacity = stalls
            sizes = (requester_id, stalls, group_most, prefetch)
            self._plug_in(lib.uiopf_endpoint_new_reporting, iommu.core.c, iommu.port, *sizes)
        elif stalls:
            self.capacity = stalls
            places = (requester_id, stalls, stage)
            self._plug_in(lib.uiopf_endpoint_new_stalling, iommu.core.c, iommu.port, *places)
        elif physical is None:
            self.capacity = DEFAULT_CAPACITY if capacity is None else capacity
            arguments = (iommu.core.c, iommu.port, requester_id, self.capacity, group_most)
            self._plug_in(lib.uiopf_endpoint_new, *arguments)
        else:
            self.capacity = self._capacity_of(physical, iommu, capacity)
            self._plug_in(lib.uiopf_endpoint_new_virtual, physical.c, requester_id, group_most)
        self.retries = retries
        self.private_data = private_data
        lib.uiopf_endpoint_set_retries(self.c, retries)
        if private_data:
            lib.uiopf_endpoint_send_private_data(self.c, 1)
        self.streams = streams
        if streams:
            lib.uiopf_endpoint_send_streams(self.c, 1)

    def _plug_in(self, make: Callable[..., CEndpoint], *arguments: object) -> None:
        try:
            # The port is a part of the model.
            self._make(lib.uiopf_endpoint_free, make, *arguments, keep=[self.iommu.model])
        except MemoryError:
            if ffi.errno != errno.EEXIST:
                raise
            raise UsageError(
                f"requester_id {self.requester_id:#x} is another function's behind this IOMMU; give a free one"
            ) from None

    def _check_stalls(self, capacity: int | None) -> None:
        if not lib.uiopf_port_stalls(self.iommu.port):
            raise UsageError(f"stalls need an IOMMU that has them, such as SmmuV3Iommu, not {self.iommu.model_name!r}")
        if self.physical is not None or capacity is not None:
            raise UsageError("a function that stalls has no PRI: leave out capacity and physical")

    @staticmethod
    def _capacity_of(physical: object, iommu: Iommu, capacity: int | None) -> int:
        if not isinstance(physical, Endpoint):
            raise UsageError(f"physical must be an Endpoint, not {physical!r}")
        if physical.physical is not None:
            raise UsageError("physical must be a physical function, and not a virtual one")
        if physical.iommu is not iommu:
            raise UsageError("a virtual function and its physical function must be behind one IOMMU")
        if capacity is not None and capacity != physical.capacity:
            raise UsageError(
                f"capacity must be left out, or be the physical function's, {physical.capacity}, not {capacity}"
            )
        return physical.capacity

    def enable_pri(self, allocation: int | None = None) -> None:
        """Enable PRI with *allocation* credits, at most the capacity; None: the capacity. As Linux's pci_enable_pri().

        For a virtual function this only checks that its physical function's PRI is enabled.

        Raises: KernelError(EBUSY), PRI is enabled, or not stopped; KernelError(EINVAL), the physical function's is not
        enabled, or the function stalls; UsageError, a group that waits to be sent has more pages than credits.
        """
        wanted = self.capacity if allocation is None else allocation
        check_fits(32, allocation=wanted)
        rc = lib.uiopf_endpoint_enable_pri(self.c, wanted)
        if rc == -errno.ENOSPC:
            raise UsageError(f"a group that waits to be sent has more pages than {wanted} credits; give more credits")
        check(rc, "enable PRI")

    def disable_pri(self) -> None:
        """Disable PRI. The function sends no more page requests, and is stopped when all have been answered.

        For a virtual function this does nothing.
        """
        lib.uiopf_endpoint_disable_pri(self.c)

    def reset_pri(self) -> None:
        """Make the function forget all outstanding page requests; late answers are then unexpected.

        RF and UPRGI are cleared by the next `enable_pri`. For a virtual function this does nothing.
        Raises: KernelError(EBUSY), PRI is enabled; KernelError(EINVAL), the function stalls.
        """
        check(lib.uiopf_endpoint_reset_pri(self.c), "reset PRI")

    def read_pri(self, register: PriRegister) -> int:
        """Read a register of the Page Request Extended Capability.

        Raises: KernelError(EINVAL), no such register; KernelError(ENOENT), a virtual function, or one that stalls, has
        no capability.
        """
        check_fits(32, register=register)
        return check(lib.uiopf_endpoint_read_pri(self.c, register), "read a PRI register")

    def write_pri(self, register: PriRegister, value: int) -> None:
        """Write a register, as a driver does that keeps no rule of Linux's: PRI can be enabled before it has stopped.

        An allocation of more than the capacity becomes the capacity. With fewer credits than the load's groups have
        pages, its groups are cut. Raises: as `read_pri`.
        """
        check_fits(32, register=register, value=value)
        check(lib.uiopf_endpoint_write_pri(self.c, register, value), "write a PRI register")

    def reset(self) -> None:
        """Function level reset: the pass ends, accesses by hand end with FAILED, and PRI is as after power-on.

        Requests on their way to the IOMMU stay there; their answers are unexpected. The reset of a physical function
        also ends what its virtual functions have outstanding. Stalled transactions stay in the IOMMU, and end with
        their answers. (Linux restores the registers afterwards; we do not.)
        """
        lib.uiopf_endpoint_reset(self.c)

    def stop_pasid(self, pasid: int, *, marker: bool = False) -> int:
        """Send no more page requests of a PASID. Return how many of its page requests wait for their answers.

        Rows of the PASID are passed over, accesses that wait to be sent end with FAILED, and new ones are refused,
        until `resume_pasid`. Call it again to see what still waits. *marker*: send a stop marker behind what was sent.

        Raises: KernelError(ENOSPC), 64 PASIDs are stopped; UsageError, *pasid* has more than 20 bits.
        """
        check_fits(20, pasid=pasid)
        return check(lib.uiopf_endpoint_stop_pasid(self.c, pasid, bool(marker)), "stop a PASID")

    def resume_pasid(self, pasid: int) -> None:
        """Allow page requests of a PASID that was stopped. Does nothing if it was not."""
        check_fits(20, pasid=pasid)
        lib.uiopf_endpoint_resume_pasid(self.c, pasid)

    def send(self, request: PageRequest) -> None:
        """Send a page request at once, with the fields as given.

        Requests of one index form a group until one is the last. Its answer is kept for `take_answers`.

        Raises: KernelError(EPERM), PRI is not enabled, or has failed; KernelError(ENOSPC), no credit is left;
        KernelError(EBUSY), the index is in use by a group that waits for its answer; KernelError(E2BIG), the group has
        *group_most* pages already; KernelError(EOPNOTSUPP), the IOMMU does not carry the request's private data, or has
        no streams; UsageError, *request* is no `PageRequest`.
        """
        if not isinstance(request, PageRequest):
            raise UsageError(f"request must be a PageRequest, not {request!r}")
        raw = ffi.new(
            "struct uiopf_raw_request *",
            {
                "requester_id": self.requester_id if request.requester_id is None else request.requester_id,
                "pasid": request.pasid or 0,
                "flags": request.flags,
                "message": request.message,
                "private_data": request.private_data or (0, 0),
            },
        )
        check(lib.uiopf_endpoint_send_raw(self.c, raw), "send a page request")

    def take_answers(self) -> list[PrgAnswer]:
        """Take the answers to requests that `send` has sent, and to no outstanding group, oldest first.

        The last 1,024 answers are kept.
        """
        answers = ffi.new("struct uiopf_prg_answer[]", MOST_ANSWERS)
        n = lib.uiopf_endpoint_take_raw_answers(self.c, answers, MOST_ANSWERS)
        return [PrgAnswer(int(answers[at].index), int(answers[at].code)) for at in range(n)]

    def use_tables(self, space: AddressSpace | None) -> None:
        """Translate by the tables of *space*; None: no address is mapped. Raises: UsageError, it is no space."""
        if space is not None:
            check_is("an AddressSpace or None", AddressSpace, space=space)
        lib.uiopf_endpoint_set_tables(self.c, ffi.NULL if space is None else space.c)

    def use_translator(self, translator: Translator, *, places: int | None = None) -> None:
        """Translate by *translator*, that is by tables of one or two stages, in place of those of `use_tables`.

        An access whose address is translated needs no page request. Any other makes one, whichever stage has ended the
        walk; after SUCCESS the function translates again. A transaction that stalls says in its event which stage has
        ended it, and why. Ends that do not stall, `WalkEnd.NO_MEMORY` and `WalkEnd.NO_TABLES`, make it fail as after
        INVALID.

        *places*: the translations that the function's own TLB keeps; software invalidates them (`invalidate`). None:
        64, or 0 for a function that stalls, because such a function has no TLB.

        Raises: UsageError, no translator, one on another core, a TLB in a function that stalls, or a number out of
        range; MemoryError.
        """
        if places is None:
            places = 0 if self.stalls else DEFAULT_PLACES
        check_whole("places", places, 0, MOST_PLACES)
        if self.stalls and places:
            raise UsageError(f"places must be 0, not {places}: a function that stalls has no TLB of its own")
        if not isinstance(translator, Translator):
            raise UsageError(f"translator must be a Translator, not {translator!r}")
        if translator.core is not self.iommu.core:
            raise UsageError("translator must be on the core of the function's IOMMU")
        if lib.uiopf_endpoint_set_translator(self.c, translator.c, places) < 0:
            raise no_room("device TLB")

    def invalidate(self, address: int, length: int = 4096, *, pasid: int | None = None) -> int:
        """Invalidate what the function's own TLB keeps of these addresses. Return how many translations there were.

        *pasid*: of one PASID; None: of all. PCIe calls it an ATS invalidation.
        Raises: KernelError(ENOENT), the function has no translator; UsageError, a number out of range.
        """
        first, last = range_of(address, length)
        which = pasid_or_any(pasid)
        return check(lib.uiopf_endpoint_invalidate(self.c, which, first, last), "invalidate a device TLB")

    def last_end(self) -> Translated | None:
        """Return how the function's last translation that found no address has ended; None: there was none.

        This is the hardware's knowledge: a page request does not carry it.
        """
        found = ffi.new("struct uiopf_translated *")
        lib.uiopf_endpoint_get_ended(self.c, found)
        return translated(found) if found.stage else None

    def set_rows(self, rows: bytes) -> None:
        """Set the accesses of the following passes: *rows* of ``struct uiopf_access``, 24 bytes each.

        Raises: KernelError(EBUSY), a pass is under way; KernelError(EINVAL), an access that neither reads, writes nor
        executes, or a PASID of more than 20 bits; UsageError, *rows* are not whole rows.
        """
        if not isinstance(rows, (bytes, bytearray, memoryview)) or len(rows) % ROW_BYTES:
            raise UsageError(f"rows must be bytes, {ROW_BYTES} for each access, not {rows!r:.40}")
        data = ffi.from_buffer("struct uiopf_access[]", rows)
        check(lib.uiopf_endpoint_set_rows(self.c, data, len(data)), "set rows")

    def start(self, load: Load) -> None:
        """Start a pass over the rows.

        Raises: KernelError(EBUSY), a pass is under way; KernelError(EINVAL), a bad load; UsageError, a group of the
        load has more pages than the function has credits, and would wait forever.
        """
        if not isinstance(load, Load):
            raise UsageError(f"load must be a Load, not {load!r}")
        _check(lib.uiopf_endpoint_start(self.c, load.as_c()), "start a load", load.filled().group or 0)

    def cancel(self) -> None:
        """Send no more rows. The pass ends with the last answer."""
        lib.uiopf_endpoint_cancel(self.c)

    def passes(self) -> int:
        """The number of passes that have ended."""
        return lib.uiopf_endpoint_passes(self.c)

    def wait(self, passes: int, timeout_ns: int) -> bool:
        """Spin until *passes* passes have ended. Return False if *timeout_ns* nanoseconds are over before that."""
        check_fits(32, passes=passes)
        check_signed(65, timeout_ns=timeout_ns)
        while timeout_ns > 0:  # in slices: signal handlers run in between
            if lib.uiopf_endpoint_wait(self.c, passes, min(timeout_ns, _SLICE_NS)):
                return True
            timeout_ns -= _SLICE_NS
        return bool(lib.uiopf_endpoint_wait(self.c, passes, 0))

    def access(self, pasid: int, address: int, perm: int, *, pages: int = 1) -> int:
        """Make one access to *pages* neighbouring pages from *address*. Return a ticket for `result`.

        *perm*: `FaultPerm`. The next producer step makes the access. Pages that are not mapped fault, as one group.

        Raises: KernelError(EBUSY), 1,024 accesses are pending; KernelError(EINVAL), *pages* is more than a group holds,
        *perm* neither reads, writes nor executes, or *pasid* has more than 20 bits; KernelError(EPERM), *pasid* was
        stopped; UsageError, *pages* is more than
        the function's credits, and the access would wait forever.
        """
        c = self.c
        try:
            ticket = lib.uiopf_endpoint_access(c, pasid, address, perm, pages)
        except (TypeError, OverflowError):  # cffi's
            check_fits(32, pasid=pasid, perm=perm, pages=pages)
            check_fits(64, address=address)
            ticket = lib.uiopf_endpoint_access(c, int(pasid), int(address), int(perm), int(pages))
        return ticket if ticket >= 0 else self._refuse_access(ticket, pages)

    def _access_noted(self, note: set[int], pasid: int, address: int, perm: int, pages: int) -> int:
        """As `access`. The ticket is in *note* as soon as there is one, also if a signal handler raises then."""
        check_fits(32, pasid=pasid, perm=perm, pages=pages)
        check_fits(64, address=address)
        did: list[int] = []
        access = partial(lib.uiopf_endpoint_access, self.c, int(pasid), int(address), int(perm), int(pages))
        at_once(partial(did.extend, map(call, (access,))), partial(note.update, filter((0).__le__, did)))
        return did[0] if did[0] >= 0 else self._refuse_access(did[0], pages)

    def _refuse_access(self, ticket: int, pages: int) -> int:
        if ticket == -errno.EINVAL and pages > self.group_most:
            raise KernelError(
                errno.EINVAL,
                f"access to {pages} pages in one group, which has {self.group_most} at most (`group` of the machine)",
            )
        return _check(ticket, "access", pages)

    def result(self, ticket: int) -> AccessResult:
        """The result of an access. A ticket is valid for 1,024 further accesses.

        Raises: UsageError, none of the last 1,024 accesses has this ticket.
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

        *also*: keep the eventfds of earlier calls, which the new one replaces otherwise. The eventfd is duplicated.
        Raises: UsageError, *eventfd* is not open; HostError, no descriptor is free for the duplicate.
        """
        check_signed(32, eventfd=eventfd)
        tell = lib.uiopf_endpoint_add_done_eventfd if also else lib.uiopf_endpoint_set_done_eventfd
        _check_told(tell(self.c, eventfd), eventfd)

    def finish(self) -> None:
        """Declare that no more accesses will be made by hand."""
        lib.uiopf_endpoint_finish(self.c)

    def is_served(self, passes: int) -> bool:
        """Whether *passes* passes have ended, and every access made by hand."""
        check_fits(32, passes=passes)
        return bool(lib.uiopf_endpoint_is_served(self.c, passes))

    def counts(self) -> EndpointCounts:
        """The counts of page requests and answers so far."""
        counts = ffi.new("struct uiopf_endpoint_counts *")
        lib.uiopf_endpoint_get_counts(self.c, counts)
        return EndpointCounts(*(getattr(counts, field) for field in EndpointCounts._fields))

    def latency_ns(self, share: float) -> int:
        """The latency that this *share* of all groups (0 to 1) does not exceed, in nanoseconds, accurate to 1 %.

        Raises: UsageError, *share* is not 0 to 1.
        """
        try:
            known = 0 <= share <= 1
        except TypeError:
            known = False
        if not known:
            raise UsageError(f"share must be 0 to 1, not {share!r}")
        return lib.uiopf_endpoint_latency(self.c, round(share * 1_000_000))

    def close(self) -> None:
        """Free the function. Its outstanding page requests get no answer. Closing again does nothing."""
        self._c = None
