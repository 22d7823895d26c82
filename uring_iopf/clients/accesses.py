"""Tasks that wait for accesses made by hand: `Machine.access`.

As in the trio client, one task waits on an eventfd for all, and the others are parked. When that task leaves, for any
reason, all tasks look at their results again. The endpoint writes the eventfd after it has stored an access's result.
So a result that comes after a look makes the eventfd readable, and the eventfd is emptied before the next look. Without
a worker, the task that waits runs the hardware. It is woken when there is work for the hardware.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from uring_iopf._native import lib
from uring_iopf.core import Driver
from uring_iopf.errors import UsageError
from uring_iopf.handles import NotCopied, no_room, owned
from uring_iopf.hardware.endpoint import AccessResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.core import Core
    from uring_iopf.hardware.endpoint import Endpoint


class Accesses(NotCopied):
    """The tasks that wait for accesses of one endpoint."""

    def __init__(self, endpoint: Endpoint, core: Core) -> None:
        self._endpoint = endpoint
        self._core = core
        self._turner = owned(lib.uiopf_turner_free, lib.uiopf_turner_new, core.c)
        if self._turner is None:
            raise no_room("waiting for accesses")
        self._eventfd = lib.uiopf_turner_eventfd(self._turner)
        self._waiting = False
        self._closed = False
        self._others = trio.lowlevel.ParkingLot()
        self._lock = threading.Lock()
        self._token: object = None
        self._tasks = 0
        endpoint.tell_accesses(self._eventfd)

    async def make(self, access: Callable[[], int]) -> AccessResult:
        """Call *access*, which makes an access and returns its ticket, and wait for its result.

        Raises: as *access*; trio.ClosedResourceError, the machine was closed; UsageError, tasks of another `trio.run`
        wait for accesses of this function, and a task of this one could not wake them.
        """
        token = trio.lowlevel.current_trio_token()
        with self._lock:
            if self._tasks and self._token is not token:
                raise UsageError(
                    "tasks of another trio.run await accesses of this function; await them in one trio.run at a time"
                )
            self._token = token
            self._tasks += 1
        try:
            return await self._wait(access())
        finally:
            self._tasks -= 1

    async def _wait(self, ticket: int) -> AccessResult:
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            if (result := self._endpoint.result(ticket)) is not AccessResult.PENDING:
                break
            if self._waiting:
                await self._others.park()
            else:
                await self._sleep()
        await trio.lowlevel.checkpoint()
        return result

    async def _sleep(self) -> None:
        """Sleep until an access may have ended."""
        turner = self._turner
        if turner is None:
            raise trio.ClosedResourceError
        try:
            self._waiting = True
            if self._core.driver is Driver.INLINE:
                lib.uiopf_turner_list(turner)
                if self._core.produce():
                    await trio.lowlevel.checkpoint()
                    return
            await trio.lowlevel.wait_readable(self._eventfd)
        finally:
            self._waiting = False
            self._others.unpark_all()
            if not self._closed:
                lib.uiopf_turner_unlist(turner)
                with suppress(BlockingIOError):
                    os.eventfd_read(self._eventfd)

    def close(self) -> None:
        """End all waits by trio.ClosedResourceError. Closing again does nothing."""
        self._closed = True
        if self._waiting:
            trio.lowlevel.notify_closing(self._eventfd)
        self._turner = None
