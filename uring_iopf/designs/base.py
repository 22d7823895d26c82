"""The base of designs written in Python.

A design has two halves. The kernel's half takes groups from a `FaultSource` and makes them visible, and takes the
client's answers to it; the client's half receives and answers. What happens in between is the design, and whatever it
would cost in a real kernel it says to its `Cost`.

Designs in Python run on one thread, in batches, with the inline driver, and are marked so in every table: their counts
can be compared with any design's, their times only with each other's.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, ClassVar

from uring_iopf._native import CData, ffi, lib
from uring_iopf.abi.iommufd import FaultFlags, PageResponse
from uring_iopf.abi.records import MESSAGE_BYTES, RESPONSE_BYTES, FaultMessage, pack_response, unpack_messages
from uring_iopf.costs import COUNTERS, Counters, Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
        """The client made a system call; one that found nothing, while spinning, counts apart."""
        if found:
            self.system_calls += 1
        else:
            self.empty_polls += 1
        if self._live:
            os.getppid()

    def wakeup(self) -> None:
        """The kernel woke somebody who was asleep, or may have been."""
        self.wakeups += 1

    def copied(self, length_bytes: int) -> None:
        """So many bytes went from the kernel to the client, or back."""
        self.bytes_copied += length_bytes

    def answer_error(self) -> None:
        """The kernel refused an answer."""
        self.answer_errors += 1


class FaultSource:
    """The kernel's side of a fault queue, for a design: no system call, no cost of its own."""

    def __init__(self, queue: FaultQueue, most: int) -> None:
        self._queue = queue
        self._most = most
        self._buffer: CData = ffi.new("uint8_t[]", most * MESSAGE_BYTES)

    def take(self) -> list[list[FaultMessage]]:
        """The groups that wait, oldest first, each the list of its messages; their cookies are live from now on."""
        length = self._most * MESSAGE_BYTES
        while (done := lib.uiopf_faultq_read(self._queue.c, self._buffer, length)) == -errno.EINTR:
            pass
        if done <= 0:
            return []
        groups: list[list[FaultMessage]] = [[]]
        for message in unpack_messages(ffi.buffer(self._buffer, done)):
            groups[-1].append(message)
            if message.flags & FaultFlags.LAST_PAGE:
                groups.append([])
        return groups[:-1]

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
        return done == RESPONSE_BYTES


class Design:
    """A delivery design of one's own: subclass it, and name it as ``MODULE:CLASS``.

    The five methods are called by the driver and by the generic clients, on one thread:

    - `publish`, the kernel's half: take groups from ``self.source`` and make them visible;
    - `receive` and `answer`, the client's half;
    - `collect`, the kernel's half: take the client's answers, and pass them to ``self.source.answer``;
    - `release`: the channel closes. What is unanswered is answered by the detach that follows.
    """

    name: ClassVar[str] = ""
    """In tables; without one, the class's, in lower case."""
    year: ClassVar[str] = "-"
    proposed: ClassVar[bool] = False
    """Whether the fault file is to be the proposed one (its read says EAGAIN when empty)."""

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        self.source = source
        self.cost = cost

    def publish(self) -> int:
        """Make waiting groups visible to the client; return how many."""
        raise NotImplementedError

    def collect(self) -> int:
        """Take answers from the client and pass them on; return how many."""
        raise NotImplementedError

    def receive(self) -> Sequence[FaultMessage]:
        """The client's: messages of whole groups, the last of each with LAST_PAGE; empty when there is nothing."""
        raise NotImplementedError

    def answer(self, responses: Iterable[tuple[int, int]]) -> None:
        """The client's: answer groups, pairs of cookie and code (`PageResponse`)."""
        raise NotImplementedError

    def release(self) -> None:
        """Let go of what the design holds."""


def open_design(kind: type[Design], core: Core, queue: FaultQueue, most: int) -> Design:
    """An open design of this class on a queue; *most*: messages that may be outstanding."""
    return kind(FaultSource(queue, most), Cost(live=core.live))
