"""The base of designs written in Python.

A design has two halves. The kernel's half takes groups from a `FaultSource` and makes them visible, and takes the
client's answers to it; the client's half receives and answers. What happens in between is the design, and whatever it
would cost in a real kernel it says to its `Cost`. The rules that it follows are in `uring_iopf.designs.rules`.

Designs in Python run on one thread, in batches, with the inline driver, and are marked so in every table: their counts
can be compared with any design's, their times only with each other's.
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
    """What a design says that it costs. When live, a system call is paid for with a real one."""

    def __init__(self, *, live: bool = False) -> None:
        super().__init__()
        self._live = live

    def counts(self) -> Counts:
        """A copy of what it has said so far."""
        return Counts(**{one.name: getattr(self, one.name) for one in COUNTERS})

    def system_call(self, *, found: bool = True) -> None:
        """The client made a system call that moved data or waited; *found* is False for a look that found nothing."""
        if found:
            self.system_calls += 1
        else:
            self.empty_polls += 1
        if self._live:
            os.getppid()

    def wakeup(self) -> None:
        """The kernel wrote an eventfd. `Design.wake` and `Design.signal` do that, and say it here."""
        self.wakeups += 1

    def copied(self, length_bytes: int) -> None:
        """So many bytes went from the kernel to the client, or back."""
        check_fits(64, length_bytes=length_bytes)
        self.bytes_copied += length_bytes

    def answer_error(self) -> None:
        """The kernel refused an answer."""
        self.answer_errors += 1

    def ended(self) -> None:
        """A multishot request ended, and was armed again."""
        self.ends += 1

    def punted(self) -> None:
        """A request was handed to a worker thread of the kernel's, since its file may block."""
        self.punts += 1


class FaultSource:
    """The kernel's side of a fault queue, for a design: no system call, no cost of its own."""

    def __init__(self, queue: FaultQueue, most: int) -> None:
        check_whole("most", most, 1, 1 << 24, " messages")
        self._queue = queue
        self._most = most
        self._buffer: CData = ffi.new("uint8_t[]", most * MESSAGE_BYTES)
        self.taken = 0
        """Groups that `take` has returned so far."""
        self.answered = 0
        """Answers that were passed to `answer` so far, good ones and others."""
        self.refused = 0
        """Of these, those that the kernel refused."""

    def take(self) -> list[tuple[FaultMessage, ...]]:
        """The groups that wait, oldest first, each with its messages; their cookies are live from now on.

        As a read of the queue's file it returns what its buffer holds: perhaps not all of them. Call it until it
        returns nothing, or again at the next `Design.publish`. Raises: UsageError, the oldest group alone does not fit:
        nobody would ever get it.
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
        """Whether the kernel would find the code of this answer good, whether or not there is such a group."""
        try:
            while (rc := lib.uiopf_faultq_takes(self._queue.c, cookie, code)) == -errno.EINTR:
                pass
        except (TypeError, OverflowError):  # cffi's, for what is no number of 32 bits
            return False
        return bool(rc)

    def answer(self, cookie: int, code: int = PageResponse.SUCCESS) -> bool:
        """Answer the group behind a cookie; False where the kernel refuses: a bad code, or no such cookie is live."""
        response = pack_response(cookie, code)
        while (done := lib.uiopf_faultq_write(self._queue.c, response, RESPONSE_BYTES)) == -errno.EINTR:
            pass
        self.answered += 1
        if done == RESPONSE_BYTES:
            return True
        self.refused += 1
        return False


class Design:
    """A delivery design of one's own: subclass it, and name it as ``MODULE:CLASS``.

    The methods are called by the driver and by the generic clients, on one thread. `publish`, `collect`, `receive` and
    `answer` must be there; the others have a meaning if the design holds answers back, or sleeps in its own way.
    """

    name: ClassVar[str] = ""
    """In tables; without one, the class's, in lower case."""
    year: ClassVar[str] = "-"
    proposed: ClassVar[bool] = False
    """Whether the fault file is to be the proposed one (its read says EAGAIN when empty)."""
    signals_awake: ClassVar[bool] = False
    """Whether the kernel writes its eventfd also for a client that does not sleep, by `signal`."""
    alone: ClassVar[Counts | None] = None
    """What one fault by itself costs, with a client that sleeps. The conformance suite holds the design to it."""

    source: FaultSource
    cost: Cost
    sleeps = False
    """Whether the client sleeps when it has nothing to do (``wait="sleep"``); otherwise it looks again and again."""
    asleep = False
    """Whether it sleeps now: until `wake`."""
    _rouse: Callable[[], Callable[[], None] | None] = staticmethod(lambda: None)

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        self.source = source
        self.cost = cost

    # ---- the kernel's half ----

    def publish(self) -> int:
        """Make waiting groups, from ``self.source.take()``, visible to the client; return how many.

        When some have become visible, call ``self.wake()``.
        """
        raise NotImplementedError

    def collect(self) -> int:
        """Take what the client has sent, and pass it to ``self.source.answer``; return how many answers."""
        raise NotImplementedError

    def wake(self) -> None:
        """Wake the client if it sleeps: one wake-up. One that does not sleep needs none, and nothing is counted."""
        if self.asleep:
            self.signal()

    def signal(self) -> None:
        """Write the client's eventfd, whether or not it sleeps: one wake-up. See `signals_awake`."""
        self.cost.wakeup()
        if self.asleep:
            self.asleep = False
            if (rouse := self._rouse()) is not None:
                rouse()

    # ---- the client's half ----

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        """Return the groups that are visible, each with its messages, without waiting; none if there are none."""
        raise NotImplementedError

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        """Answer groups: cookies and codes (`PageResponse`), all that were given since the last call, at least one.

        They may be held back, until `flush`.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Send what `answer` has held back, if there is anything: `collect` finds it.

        It is called when the client asks for it, and when `receive` has returned nothing.
        """

    def wait(self) -> bool:
        """Return True if there is something to receive; otherwise send what is held back, and prepare to wait.

        It is called whenever the client has nothing to do, also if it spins; one that `sleeps` pays for its sleep. This
        one is poll: a call that returns at once if groups are visible. A client that looks into memory first saves it.
        """
        self.flush()
        if self.sleeps:
            self.cost.system_call()  # poll
        return False

    def release(self) -> None:
        """Let go of what the design holds: the channel closes. What is unanswered the detach that follows answers."""


def open_design(kind: type[Design], core: Core, queue: FaultQueue, most: int, *, sleeps: bool = False) -> Design:
    """An open design of this class on a queue; *most*: messages that may be outstanding."""
    design = kind(FaultSource(queue, most), Cost(live=core.live))
    if not hasattr(design, "source") or not hasattr(design, "cost"):
        raise DesignError(f"{kind.__name__}.__init__ must call super().__init__(source, cost)")
    design.sleeps = sleeps
    return design
