"""The trio client: one await per batch, answers without awaiting.

A checkpoint costs about 2 µs, some twenty times what a design costs, so nothing here awaits per fault. Two tasks may
not wait for one descriptor at once; whoever comes first waits for all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from uring_iopf.clients.groups import FaultGroup, receive_groups
from uring_iopf.handles import NotCopied

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from uring_iopf.designs.channel import Channel
    from uring_iopf.hardware.tables import AddressSpace


class TrioClient(NotCopied):
    """The client's end of a design: iterate over batches of fault groups.

    *finished* says whether nothing more will come: iteration ends then. *inline*: no worker turns the other side; the
    client does while it waits. *spin*: it never sleeps, but yields to other tasks between two looks.
    """

    def __init__(
        self,
        channel: Channel,
        address_space: AddressSpace,
        finished: Callable[[], bool],
        *,
        inline: bool,
        spin: bool,
    ) -> None:
        self._channel = channel
        self.address_space = address_space
        """Where pages are made present."""
        self._finished = finished
        self._inline = inline
        self._spin = spin
        self._waiting = False
        self._asleep = False
        self._others = trio.lowlevel.ParkingLot()
        self._closed = False

    async def receive(self) -> list[FaultGroup]:
        """Return the groups that wait, at least one. A cancelled call has consumed nothing.

        What was answered before is sent first. Raises: trio.EndOfChannel, nothing more will come;
        trio.ClosedResourceError, the client is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            batch = self.receive_nowait()
            if batch:
                break
            if self._finished():
                batch = self.receive_nowait()  # it may have come between the two looks
                if batch:
                    break
                self._rouse()
                raise trio.EndOfChannel
            await self._wait()
        self._rouse()
        await trio.lowlevel.cancel_shielded_checkpoint()  # we hold groups: they must not be lost now
        return batch

    def receive_nowait(self) -> list[FaultGroup]:
        """Return the groups that wait, perhaps none. Raises: trio.ClosedResourceError."""
        if self._closed:
            raise trio.ClosedResourceError
        return receive_groups(self._channel)

    def flush(self) -> None:
        """Send what has been answered; `receive` does it too. For a client that does something else for a while."""
        if self._closed:
            raise trio.ClosedResourceError
        self._channel.flush()

    async def _wait(self) -> None:
        """Until there may be something."""
        if self._waiting:
            self._channel.flush()  # whoever sleeps for us has sent its own answers before; ours would stay here
        if self._inline and self._channel.turn():
            self._rouse()
            await trio.lowlevel.checkpoint()
            return
        if self._spin and not self._inline:
            await trio.lowlevel.checkpoint()
            return
        if self._waiting:
            await self._others.park()
            return
        try:
            self._waiting = True
            if self._channel.prepare_sleep():
                await trio.lowlevel.checkpoint()
                return
            try:
                self._asleep = True
                if self._inline and self._channel.turn():  # the last answers went out just now
                    await trio.lowlevel.checkpoint()
                elif not self._finished():
                    await trio.lowlevel.wait_readable(self._channel.eventfd)
            finally:
                self._awake()
        finally:
            # Also when cancelled: one of the others waits from now on.
            self._waiting = False
            self._others.unpark_all()

    def _rouse(self) -> None:
        """Let the task that sleeps look for itself: what it is to be woken for, we may have seen or taken instead."""
        if self._asleep:
            os.eventfd_write(self._channel.eventfd, 1)

    def _awake(self) -> None:
        if self._asleep:
            self._channel.awake()
            self._asleep = False

    def close(self) -> None:
        """Take no more. Tasks in `receive` get trio.ClosedResourceError. Closing again does nothing."""
        self._closed = True
        if self._asleep:
            # The sleeping task runs again only later, when the channel may be gone: its sleep is ended here.
            trio.lowlevel.notify_closing(self._channel.eventfd)
            self._awake()
        self._others.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[FaultGroup]:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
