"""The trio client: one await per batch, answers without awaiting.

A checkpoint costs about 2 µs, some twenty times what a design costs, so nothing here awaits per fault. Tasks share a
client: any number may wait in `receive`, and any task may answer any group.

**Who waits.** trio lets one task wait for a descriptor; a second gets BusyResourceError. So one task, the *sleeper*,
waits on the channel's eventfd for all, and the others are parked. Whenever the sleeper leaves `_wait`, in whatever way,
all that are parked run again and look for themselves; one of them is the next sleeper.

**The races.** Between any look and the sleep that follows it the other side may move: a worker is another thread, and
other tasks run at each checkpoint. Each look below prevents one loss. A test fails without it, by the name given.

==============================================  ======================================================================
where                                           what would be lost
==============================================  ======================================================================
`prepare_sleep` says that something is there    A fault that came after `_take` has looked, and before the
                                                channel was listed to be woken: nobody tells of it again.
                                                (a_fault_that_comes_before_the_sleep)
a turn once the sleep is prepared (inline)      `prepare_sleep` sends the last answers, which makes room for faults.
                                                Nobody but a client turns the hardware that would send them.
                                                (the_last_answers_are_turned)
a second look after *finished*                  A group that came between the look that found nothing and the word that
                                                nothing more comes. (what_came_before_the_end)
`_rouse` by who takes a batch                   The design `eventfd` is woken by a count that one read takes as a whole.
                                                Who has read it may leave messages behind for the sleeper.
                                                (a_receiver_that_leaves_messages)
`_rouse` by who comes to the end                The same, of the signal that the load is over: the sleeper would never
                                                hear of it. (every_task_comes_to_the_end)
`_send` on every way out of `receive`           An answer given while we waited relies on us to send it. Cancelled, or
                                                in the last checkpoint, we do not look again, which would.
                                                (an_answer_given_to_a_cancelled_receiver,
                                                an_answer_given_during_the_last_checkpoint)
the shield of the last checkpoint               A batch in hand: nobody else has these groups. Cancelled here they would
                                                never be answered. (groups_in_hand_are_returned)
*unpark_all* on every way out                   The sleeper was cancelled, and nobody waits on the descriptor.
                                                (the_other_is_woken)
==============================================  ======================================================================

**Answers while a task sleeps.** Some designs hold answers back until the client's next call, so that one system call
carries many. The sleeper makes no call. So a channel wakes it for the first answer that is held back (C:
``designs/channel.c``, `rouse`), and it sends all that have gathered by then: as many as other tasks gave in one pass of
trio's scheduler. Sending each at once would cost a call per answer; not sending them was a hang, since a load with all
its groups outstanding waits for one of them.

**Inline** there is no worker: a client that waits turns the other side, and while it sleeps it is woken by whatever
makes work for a turn (C: ``core/core.h``, `uiopf_turner`). Turns that find nothing wake nobody, or two clients on one
core would wake each other for ever. A load with times waits for the core's clock, which stands still inline. From the
first time that something waits for it, the clock follows trio's, and the sleep ends when it is due: with trio's
autojump clock hours take no time, with trio's own clock they take hours.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from uring_iopf.clients.groups import FaultGroup, receive_groups
from uring_iopf.core import Clock
from uring_iopf.handles import NotCopied

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.core import Core
    from uring_iopf.designs.channel import Channel
    from uring_iopf.hardware.tables import AddressSpace


@dataclass(frozen=True, slots=True)
class TrioClientStatistics:
    """What a `TrioClient` does and has done."""

    tasks_waiting_receive: int
    """In `receive`, also those that are about to return."""
    is_open: bool
    batches: int
    """Received so far."""
    groups: int
    """In them."""


class TrioClient(NotCopied, trio.abc.ReceiveChannel[list[FaultGroup]]):
    """The client's end of a design: a channel of batches of fault groups, to iterate over.

    Any task may receive, and any may answer what another has received.

    *finished* says whether nothing more will come: iteration ends then. *inline*: the core, where no worker turns its
    steps; the client does while it waits. *timed*: its clock follows trio's from the beginning, and not only from the
    first time that something waits for it. *spin*: beside a worker, the client never sleeps, but yields to other tasks
    between two looks.
    """

    def __init__(
        self,
        channel: Channel,
        address_space: AddressSpace,
        finished: Callable[[], bool],
        *,
        inline: Core | None = None,
        timed: bool = False,
        spin: bool = False,
    ) -> None:
        self._channel = channel
        self.address_space = address_space
        """Where pages are made present."""
        self._finished = finished
        self._inline = inline
        self._clock = _FollowingClock(inline, timed) if inline is not None else None
        self._spin = spin and inline is None
        self._waiting = False
        self._asleep = False
        self._others = trio.lowlevel.ParkingLot()
        self._closed = False
        self._receiving = self._batches = self._groups = 0

    async def receive(self) -> list[FaultGroup]:
        """Return the groups that wait, at least one. A cancelled call has consumed nothing.

        What was answered before is sent first, and what other tasks answer meanwhile is sent, too. Raises:
        trio.EndOfChannel, nothing more will come; trio.ClosedResourceError, the client is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._receiving += 1
        try:
            while not (batch := self._take()):
                await self._wait()
            self._rouse()
            await trio.lowlevel.cancel_shielded_checkpoint()  # we hold groups: they must not be lost now
            return batch
        finally:
            self._receiving -= 1
            self._send()

    def receive_nowait(self) -> list[FaultGroup]:
        """Return the groups that wait, at least one.

        Raises: trio.WouldBlock, there is none; trio.EndOfChannel, and nothing more will come; trio.ClosedResourceError.
        """
        if not (batch := self._take()):
            raise trio.WouldBlock
        return batch

    def _take(self) -> list[FaultGroup]:
        """Take what waits, perhaps nothing. Raises: trio.EndOfChannel, trio.ClosedResourceError."""
        if self._closed:
            raise trio.ClosedResourceError
        batch = receive_groups(self._channel)
        if not batch and self._finished():
            batch = receive_groups(self._channel)  # it may have come between the two looks
            if not batch:
                self._rouse()
                raise trio.EndOfChannel
        if batch:
            self._batches += 1
            self._groups += len(batch)
        return batch

    def flush(self) -> None:
        """Send what has been answered, for a client that does something else for a while.

        `receive` does it too, and what is answered while any task is in `receive` is sent without it.
        """
        if self._closed:
            raise trio.ClosedResourceError
        self._channel.flush()

    async def _wait(self) -> None:
        """Until there may be something."""
        if self._turn() or self._spin:
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
                if self._turn():  # the last answers went out just now
                    await trio.lowlevel.checkpoint()
                else:
                    await self._sleep()
            finally:
                self._awake()
        finally:
            # Also when cancelled: one of the others waits from now on.
            self._waiting = False
            self._others.unpark_all()

    def _turn(self) -> bool:
        """Inline: turn the other side once. Return whether it did anything."""
        if self._clock is None:
            return False
        self._clock.follow()
        return bool(self._channel.turn())

    async def _sleep(self) -> None:
        """Until the eventfd is readable, or, inline, until something is due."""
        if self._clock is None:
            await trio.lowlevel.wait_readable(self._channel.eventfd)
            return
        with trio.move_on_at(self._clock.due()):
            await trio.lowlevel.wait_readable(self._channel.eventfd)

    def _send(self) -> None:
        """Send what other tasks have answered meanwhile, relying on us."""
        if not self._closed:
            self._channel.flush()

    def _rouse(self) -> None:
        """Let the task that sleeps look for itself: what it is to be woken for, we may have seen or taken instead."""
        if self._asleep:
            os.eventfd_write(self._channel.eventfd, 1)

    def _awake(self) -> None:
        if self._asleep:
            self._channel.awake()
            self._asleep = False

    def close(self) -> None:
        """Send what has been answered, and take and answer no more.

        Tasks in `receive` get trio.ClosedResourceError, first the one that sleeps, which wakes the others. An answer
        from now on is a UsageError; what was not answered the kernel answers when the machine detaches. Closing again
        does nothing.
        """
        self._closed = True
        if self._asleep:
            # The sleeping task runs again only later, when the channel may be gone: its sleep is ended here.
            trio.lowlevel.notify_closing(self._channel.eventfd)
            self._awake()
        self._channel.shut()

    async def aclose(self) -> None:
        """The same as `close`, and a checkpoint, as for every asynchronous resource."""
        self.close()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> TrioClientStatistics:
        """What it does and has done."""
        return TrioClientStatistics(self._receiving, not self._closed, self._batches, self._groups)


class _FollowingClock:
    """An inline core's clock, which follows trio's once something waits for it.

    A nanosecond of the one is a nanosecond of the other. A clock that is set by hand besides goes on from there. A core
    with a clock that runs by itself is left alone.
    """

    def __init__(self, core: Core, timed: bool) -> None:
        self._core = core
        self._sets = core.clock is Clock.MANUAL
        self._follows = timed and self._sets
        self._offset_ns: int | None = None
        """What the core's time is ahead of trio's."""
        self._set_ns = 0

    def follow(self) -> None:
        """Move the core's clock to where trio's is."""
        if not self._follows:
            return
        trio_ns = round(trio.current_time() * 1e9)
        now_ns = self._core.now_ns()
        if self._offset_ns is None or now_ns != self._set_ns:  # at first, or set by hand
            self._offset_ns, self._set_ns = now_ns - trio_ns, now_ns
        elif (to_ns := trio_ns + self._offset_ns) > now_ns:
            self._core.tick(to_ns)
            self._set_ns = to_ns

    def due(self) -> float:
        """When something happens by itself, in trio's time; never: math.inf."""
        when, now_ns = self._core.next_ns(), self._core.now_ns()
        if when is None:
            return math.inf
        if not self._sets:
            return trio.current_time() + (when - now_ns) / 1e9
        if when <= now_ns:
            return math.inf  # the turn before found it due already, and nothing of ours to do
        self._follows = True
        self.follow()
        assert self._offset_ns is not None, "it follows by now"
        due = (when - self._offset_ns) / 1e9
        while round(due * 1e9) + self._offset_ns < when:  # not a nanosecond early: nothing would be due
            due = math.nextafter(due, math.inf)
        return due
