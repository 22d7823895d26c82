"""The base class of designs in Python.

A design has two halves. The kernel's half takes groups from a `FaultSource`, makes them visible to the client, and
passes the client's answers back to the source. The client's half receives groups and answers them. A design reports the
costs that it would have in a real kernel to its `Cost`. `uring_iopf.designs.rules` has the rules of a design.

Designs in Python run on one thread, in batches, with the driver ``inline``. Every table marks them. Their counts are
comparable with those of any design, their times only with each other's.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, ClassVar

from uring_iopf._native import CData, ffi, lib
from uring_iopf.abi.iommufd import PageResponse
from uring_iopf.abi.records import MESSAGE_BYTES, RESPONSE_BYTES, FaultMessage, pack_response, unpack_messages
from uring_iopf.costs import COUNTERS, Counters, Counts
from uring_iopf.designs.channel import in_groups
from uring_iopf.errors import DesignError, UsageError, check_fits, check_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uring_iopf.core import Core
    from uring_iopf.iommufd import FaultQueue


class Cost(Counters[int]):
    """The costs that a design reports. *live*: each reported system call makes a real one."""

    __slots__ = ("_live",)  # a counter with a wrong name is an error

    def __init__(self, *, live: bool = False) -> None:
        super().__init__()
        self._live = live

    def counts(self) -> Counts:
        """Return a copy of the counts so far."""
        return Counts(**{one.name: getattr(self, one.name) for one in COUNTERS})

    def system_call(self, *, found: bool = True) -> None:
        """Count a system call of the client. *found*: it moved data or waited; False: it was an empty poll."""
        if found:
            self.system_calls += 1
        else:
            self.empty_polls += 1
        if self._live:
            os.getppid()

    def wakeup(self) -> None:
        """Count a wake-up. `Design.wake` and `Design.signal` call this."""
        self.wakeups += 1

    def copied(self, length_bytes: int) -> None:
        """Count *length_bytes* bytes that went from the kernel to the client, or back."""
        check_fits(64, length_bytes=length_bytes)
        self.bytes_copied += length_bytes

    def answer_error(self) -> None:
        """Count an answer that the kernel refused."""
        self.answer_errors += 1

    def ended(self) -> None:
        """Count a multishot request that ended and was armed again, or a one-shot read that ended without data."""
        self.ends += 1

    def punted(self) -> None:
        """Count a request that the kernel handed to a thread of its own, because its file may block."""
        self.punts += 1


class FaultSource:
    """The kernel's side of a fault queue, for a design. Its calls are no system calls and cost nothing.

    *most*: the most messages that one `take` returns.
    """

    def __init__(self, queue: FaultQueue, most: int) -> None:
        check_whole("most", most, 1, 1 << 24, " messages")
        self._queue = queue
        self._most = most
        self._buffer: CData = ffi.new("uint8_t[]", most * MESSAGE_BYTES)
        self.taken = 0
        """The groups that `take` has returned so far."""
        self.answered = 0
        """The answers that were passed to `answer` so far, including those that the kernel refused."""
        self.refused = 0
        """The answers that the kernel refused."""

    def take(self) -> list[tuple[FaultMessage, ...]]:
        """Return the groups that wait, oldest first, each with its messages. Their cookies are live from now on.

        Like a read of the queue's file, it returns the groups that fit into its buffer, perhaps not all. Call it until
        it returns an empty list, or again at the next `Design.publish`. Raises: UsageError, the oldest group alone does
        not fit into the buffer.
        """
        length = self._most * MESSAGE_BYTES
        while (done := lib.uiopf_faultq_read(self._queue.c, self._buffer, length)) == -errno.EINTR:
            pass
        if done == -errno.EINVAL:
            raise UsageError(
                f"the oldest group has more than {self._most} messages, the most that this source takes at once; make "
                "smaller groups (`group` of the machine)"
            )
        if done <= 0:
            return []
        groups = in_groups(unpack_messages(ffi.buffer(self._buffer, done)))
        self.taken += len(groups)
        return groups

    def takes(self, cookie: int, code: int) -> bool:
        """Whether the kernel would accept the code of this answer. The cookie need not be live."""
        try:
            while (rc := lib.uiopf_faultq_takes(self._queue.c, cookie, code)) == -errno.EINTR:
                pass
        except (TypeError, OverflowError):  # cffi's, for what is no number of 32 bits
            return False
        return bool(rc)

    def answer(self, cookie: int, code: int = PageResponse.SUCCESS) -> bool:
        """Answer the group with this cookie. Return False if the kernel refuses: a bad code, or no such live cookie.

        Raises: UsageError, *cookie* or *code* is no number of 32 bits.
        """
        response = pack_response(cookie, code)
        while (done := lib.uiopf_faultq_write(self._queue.c, response, RESPONSE_BYTES)) == -errno.EINTR:
            pass
        self.answered += 1
        if done == RESPONSE_BYTES:
            return True
        self.refused += 1
        return False


class Design:
    """The base class of your own delivery design. Commands and calls accept it as ``MODULE:CLASS``, or as the class.

    The driver and the generic clients call the methods, on one thread. A design must define `publish`, `collect`,
    `receive` and `answer`. It defines the others if it holds answers back, or sleeps in its own way.
    """

    name: ClassVar[str] = ""
    """The name in tables; empty: the name of the class, in lower case."""
    year: ClassVar[str] = "-"
    """The year in tables."""
    proposed: ClassVar[bool] = False
    """Whether the design needs the proposed fault file, whose read returns EAGAIN when it is empty."""
    signals_awake: ClassVar[bool] = False
    """Whether the kernel writes the eventfd also for a client that does not sleep, by `signal`."""
    alone: ClassVar[Counts | None] = None
    """The costs of one fault by itself, with a client that sleeps. The conformance suite compares them with the counts;
    None: it does not."""

    source: FaultSource
    """The fault queue."""
    cost: Cost
    """The costs that the design reports."""
    sleeps = False
    """Whether a client without work sleeps (``wait="sleep"``), or polls again at once (``wait="spin"``)."""
    asleep = False
    """Whether the client sleeps now, until `wake`."""
    _rouse: Callable[[], Callable[[], None] | None] = staticmethod(lambda: None)

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        self.source = source
        self.cost = cost

    # ---- the kernel's half ----

    def publish(self) -> int:
        """Make groups from ``self.source.take()`` visible to the client. Return their number.

        Call ``self.wake()`` if any group became visible.
        """
        raise NotImplementedError

    def collect(self) -> int:
        """Pass the answers that the client has sent to ``self.source.answer``. Return their number."""
        raise NotImplementedError

    def wake(self) -> None:
        """Wake the client if it sleeps, and count one wake-up. Otherwise do nothing and count nothing."""
        if self.asleep:
            self.signal()

    def signal(self) -> None:
        """Write the client's eventfd, even if it does not sleep, and count one wake-up. See `signals_awake`."""
        self.cost.wakeup()
        if self.asleep:
            self.asleep = False
            if (rouse := self._rouse()) is not None:
                rouse()

    # ---- the client's half ----

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        """Return the groups that are visible, each with its messages, without waiting. The list may be empty."""
        raise NotImplementedError

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        """Answer groups. *responses*: pairs of cookie and code (`PageResponse`), one or more, since the last call.

        The design may hold the answers back until `flush`.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Send the answers that `answer` has held back, if any, so that `collect` finds them.

        It is called when the client flushes, and when `receive` has returned no group.
        """

    def wait(self) -> bool:
        """Return True if there is something to receive. Otherwise send the answers held back, and return False.

        It is called whenever the client has no work, even if the client spins. If it `sleeps`, count the call that it
        sleeps in. This implementation counts a poll, which returns at once if groups are visible. A design whose client
        can look into shared memory first can save that call.
        """
        self.flush()
        if self.sleeps:
            self.cost.system_call()  # poll
        return False

    def release(self) -> None:
        """Release the resources of the design, because the channel closes. A detach then answers the open groups."""


def open_design(kind: type[Design], core: Core, queue: FaultQueue, most: int, *, sleeps: bool = False) -> Design:
    """Return an open design of this class on a queue. *most*: the most messages that may be outstanding.

    Raises: DesignError, its ``__init__`` does not call the base class's.
    """
    design = kind(FaultSource(queue, most), Cost(live=core.live))
    if not hasattr(design, "source") or not hasattr(design, "cost"):
        raise DesignError(f"{kind.__name__}.__init__ must call super().__init__(source, cost)")
    design.sleeps = sleeps
    return design
