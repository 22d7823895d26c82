"""Work queues of one function: submitters that share its credits and group indices, each with a PASID of its own.

As in Intel's DSA: a queue has a size, and a submission to a full queue is refused, so that no submitter can take the
whole function. The queues compete for the function's credits. One is stopped and drained while the others go on.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf.errors import KernelError, UsageError, check_fits, check_whole
from uring_iopf.handles import NotCopied, at_once
from uring_iopf.hardware.endpoint import AccessResult, Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_SIZE: Final = 1024
"""The most work of one queue, and of all queues of a function together: a function keeps so many accesses."""
_LOOK_AT: Final = MOST_SIZE // 2
"""A result is kept for 1,024 further accesses. After so many all queues look at theirs."""


class WorkCounts(NamedTuple):
    """Where the work of a queue is: submitted is the sum of all others, which `AccessResult` explains."""

    submitted: int
    pending: int
    ok: int
    unmapped: int
    invalid: int
    failed: int
    """Ended by a Response Failure, by a reset, or by `WorkQueue.stop` before anything was asked for."""
    terminated: int
    """Ended without an error by an SMMUv3, if the function stalls."""


class WorkQueue(NotCopied):
    """A submitter of a function. `WorkQueues.add` makes it."""

    def __init__(self, queues: WorkQueues, pasid: int, size: int) -> None:
        self._queues = queues
        self._endpoint = queues.endpoint
        self.pasid = pasid
        self.size = size
        self._pending: set[int] = set()
        self._ended: dict[int, AccessResult] = {}
        self._counts: dict[AccessResult, int] = dict.fromkeys(AccessResult, 0)
        self._stopped = False

    def submit(self, address: int, perm: int, *, pages: int = 1) -> int:
        """Submit an access to *pages* neighbouring pages. Return its number, for `result`.

        Raises: KernelError(EAGAIN), the queue is full, which says retry, as ENQCMD does; KernelError(EPERM), the queue
        is stopped; else as `Endpoint.access`.
        """
        if len(self._pending) >= self.size:
            self.look()
            if len(self._pending) >= self.size:
                raise KernelError(errno.EAGAIN, f"submit: the queue holds {self.size} already")
        self._queues._look_in_time()
        return self._endpoint._access_noted(self._pending, self.pasid, address, perm, pages)

    def result(self, number: int) -> AccessResult:
        """The result of work. It can be asked for until it is not PENDING, once.

        Raises: UsageError, no work of this queue has the number, or its result was taken.
        """
        self.look()
        if number in self._pending:
            return AccessResult.PENDING
        if (found := self._ended.pop(number, None)) is None:
            raise UsageError(f"number must be one that `submit` of this queue has returned, once, not {number!r}")
        return found

    def look(self) -> None:
        """See what has ended."""
        for ticket in sorted(self._pending):
            result = self._endpoint.result(ticket)
            if result is not AccessResult.PENDING:
                at_once(
                    partial(self._ended.__setitem__, ticket, result),
                    partial(self._counts.__setitem__, result, self._counts[result] + 1),
                    partial(self._pending.remove, ticket),
                )

    def stop(self, *, marker: bool = True) -> int:
        """Stop this queue, and no other. Return how many of its page requests wait for an answer.

        Work that has asked for nothing yet ends with FAILED. *marker*: send a stop marker behind what was sent. The
        queue is drained when `waiting` is 0, which takes the answers of a client or a detach of the PASID. Stopping
        again does nothing. Raises: as `Endpoint.stop_pasid`.
        """
        waiting = self._endpoint.stop_pasid(self.pasid, marker=marker and not self._stopped)
        self._stopped = True
        return waiting

    def waiting(self) -> int:
        """The page requests of a stopped queue that wait for an answer. Raises: UsageError, it is not stopped."""
        if not self._stopped:
            raise UsageError("this queue is not stopped; call `stop` first, or nothing says that no more will come")
        return self._endpoint.stop_pasid(self.pasid)

    def resume(self) -> None:
        """End the stop. Raises: UsageError, page requests wait still: an answer to them could end a later group."""
        if self._stopped and (waiting := self.waiting()):
            raise UsageError(f"{waiting} page requests of this queue wait for their answers; drain it first")
        self._endpoint.resume_pasid(self.pasid)
        self._stopped = False

    def counts(self) -> WorkCounts:
        """Where the work submitted so far is."""
        self.look()
        ended = {result.name.lower(): count for result, count in self._counts.items() if result}
        pending = len(self._pending)
        return WorkCounts(submitted=pending + sum(ended.values()), pending=pending, **ended)


class WorkQueues(NotCopied):
    """The work queues of a function, by PASID (`queues`). One thread uses them at a time.

    Raises: UsageError, *endpoint* is no `Endpoint`.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        if not isinstance(endpoint, Endpoint):
            raise UsageError(f"endpoint must be an Endpoint, not {endpoint!r}")
        self.endpoint = endpoint
        self._queues: dict[int, WorkQueue] = {}
        self.queues: Mapping[int, WorkQueue] = self._queues
        self._since = 0

    def add(self, pasid: int, *, size: int = 128) -> WorkQueue:
        """Add a queue that submits under *pasid*, with room for *size* at once, 1 to 1,024 for all queues together.

        Raises: UsageError, another queue has this PASID, or the sizes add up to more than 1,024.
        """
        check_fits(20, pasid=pasid)
        check_whole("size", size, 1, MOST_SIZE, " accesses")
        if pasid in self._queues:
            raise UsageError(f"pasid must differ from the other queues'; there is one with {pasid}")
        if (taken := sum(one.size for one in self._queues.values())) + size > MOST_SIZE:
            raise UsageError(f"size must be {MOST_SIZE - taken} or less beside the other queues, not {size}")
        self._queues[pasid] = queue = WorkQueue(self, int(pasid), int(size))
        return queue

    def _look_in_time(self) -> None:
        """Let all queues look before a submission, after so many. One that is interrupted counts, too."""
        self._since += 1
        if self._since >= _LOOK_AT:
            for queue in self._queues.values():
                queue.look()
            self._since = 0
