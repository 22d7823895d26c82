"""The trio client: one await for each batch, answers without await.

A checkpoint costs about 2 µs, some twenty times the cost of a design, so nothing here awaits for each fault. Tasks
share a client: any number may wait in `receive`, and any task may answer any group.

**The sleeper.** trio lets one task wait for a descriptor; a second one gets BusyResourceError. So one task, the
*sleeper*, waits on the channel's eventfd for all, and the others are parked. When the sleeper leaves `_wait`, for any
reason, all parked tasks run again and look for groups; one of them is the next sleeper.

**The races.** The other side may move between a look and the sleep after it: a worker is another thread, and other
tasks run at each checkpoint. Each look below prevents one loss. The test in parentheses fails without the look.

==============================================  ======================================================================
place                                           the loss that it prevents
==============================================  ======================================================================
`prepare_sleep` returns True                    A fault came after the look of `_take`, and before the channel was
                                                listed to be woken. No wake-up for it would come.
                                                (a_fault_that_comes_before_the_sleep)
a turn once the sleep is prepared (inline)      `prepare_sleep` sends the last answers, which makes room for faults.
                                                Only a client runs the hardware that would send these faults.
                                                (the_last_answers_are_turned)
a second look after *finished*                  A group came after the look that found nothing, and before *finished*
                                                returned True. (what_came_before_the_end)
`_rouse` by a task that took a batch            The design `eventfd` wakes its client by a counter, which one read
                                                empties. The task that has read it may leave messages behind for the
                                                sleeper. (a_receiver_that_leaves_messages)
`_rouse` by a task that comes to the end        The same for the signal that the load has ended: the sleeper would never
                                                wake. (every_task_comes_to_the_end)
`_send` on every way out of `receive`           An answer that another task gave while this one waited is sent by this
                                                one. A task that is cancelled, or in its last checkpoint, looks no more,
                                                which would send the answer.
                                                (an_answer_given_to_a_cancelled_receiver,
                                                an_answer_given_during_the_last_checkpoint)
the shield of the last checkpoint               The task holds a batch that no other task has. If it were cancelled, the
                                                batch would never be answered. (groups_in_hand_are_returned)
*unpark_all* on every way out                   The sleeper was cancelled, and no task waits on the descriptor.
                                                (the_other_is_woken)
==============================================  ======================================================================

**Answers while a task sleeps.** Some designs hold answers back until the client's next call, so that one system call
carries many. The sleeper makes no call. So a channel wakes the sleeper for the first answer that is held back (C:
``designs/channel.c``, `rouse`). The sleeper sends all answers that other tasks gave in the same pass of trio's
scheduler. A system call for each answer would cost more. Without the wake-up the client would hang, because a load with
all its groups outstanding waits for one of these answers.

**Inline.** With the driver ``inline`` there is no worker: a client that waits runs the other side. While it sleeps, any
call that makes work for the other side wakes it (C: ``core/core.h``, `uiopf_turner`). Turns that find no work wake no
client, because two clients on one core would wake each other forever. A load with times waits for the core's clock,
which stands still inline. Once something waits for that clock, the clock follows trio's, and the sleep ends at the time
that is due. With trio's autojump clock hours pass at once; with trio's own clock they take hours.
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
    """The state and the counts of a `TrioClient`."""

    tasks_waiting_receive: int
    """Tasks in `receive`, including those that are about to return."""
    is_open: bool
    """Whether the client is open."""
    batches: int
    """Batches received so far."""
    groups: int
    """Groups received so far."""


class TrioClient(NotCopied, trio.abc.ReceiveChannel[list[FaultGroup]]):
    """The client's end of a design: a channel of batches of fault groups, to iterate over.

    Any task may receive, and any task may answer a group that another has received. `Machine.connect` makes the client.

    *finished*: returns True when no more groups will come; iteration ends then. *inline*: the core, if it has no
    worker; the client then runs the other side while it waits. *timed*: the core's clock follows trio's from the
    beginning, not only once something waits for it. *spin*: with a worker, the client never sleeps, and lets other
    tasks run between two polls.
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
        """The page tables of the function: `AddressSpace.map` maps the pages of a group."""
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
        """Wait for groups, and return those that wait, at least one. A cancelled call has received no group.

        Earlier answers are sent first. Answers that other tasks give meanwhile are sent, too.

        Raises: trio.EndOfChannel, no more groups will come; trio.ClosedResourceError, the client is closed.
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
        """Return the groups that wait, at least one, without waiting.

        Raises: trio.WouldBlock, no group waits; trio.EndOfChannel, no group waits and no more will come;
        trio.ClosedResourceError, the client is closed.
        """
        if not (batch := self._take()):
            raise trio.WouldBlock
        return batch

    def _take(self) -> list[FaultGroup]:
        """Return the groups that wait, perhaps none. Raises: trio.EndOfChannel, trio.ClosedResourceError."""
        if self._closed:
            raise trio.ClosedResourceError
        batch = receive_groups(self._channel)
        if not batch and self._finished():
            batch = receive_groups(self._channel)  # a group may have come between the first look and *finished*
            if not batch:
                self._rouse()
                raise trio.EndOfChannel
        if batch:
            self._batches += 1
            self._groups += len(batch)
        return batch

    def flush(self) -> None:
        """Send the answers that are held back, before the client does other work for a while.

        `receive` sends them too. Answers that are given while a task is in `receive` are sent without this call.
        Raises: trio.ClosedResourceError, the client is closed.
        """
        if self._closed:
            raise trio.ClosedResourceError
        self._channel.flush()

    async def _wait(self) -> None:
        """Wait until there may be a group."""
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
                if self._turn():  # `prepare_sleep` has sent the last answers
                    await trio.lowlevel.checkpoint()
                else:
                    await self._sleep()
            finally:
                self._awake()
        finally:
            # Also when this task is cancelled: another task must be the sleeper from now on.
            self._waiting = False
            self._others.unpark_all()

    def _turn(self) -> bool:
        """Without a worker, run the other side once. Return whether it did any work."""
        if self._clock is None:
            return False
        self._clock.follow()
        return bool(self._channel.turn())

    async def _sleep(self) -> None:
        """Sleep until the eventfd is readable or, without a worker, until an event is due."""
        if self._clock is None:
            await trio.lowlevel.wait_readable(self._channel.eventfd)
            return
        with trio.move_on_at(self._clock.due()):
            await trio.lowlevel.wait_readable(self._channel.eventfd)

    def _send(self) -> None:
        """Send the answers that other tasks gave while this task was in `receive`."""
        if not self._closed:
            self._channel.flush()

    def _rouse(self) -> None:
        """Wake the sleeper, because this task may have seen or received the group for which the sleeper waits."""
        if self._asleep:
            os.eventfd_write(self._channel.eventfd, 1)

    def _awake(self) -> None:
        if self._asleep:
            self._channel.awake()
            self._asleep = False

    def close(self) -> None:
        """Send the answers that are held back, and end the client.

        Tasks in `receive` get trio.ClosedResourceError. A later answer raises UsageError. The kernel answers the
        remaining groups when the machine detaches. Closing again does nothing.
        """
        self._closed = True
        if self._asleep:
            # The sleeper runs again only later, when the channel may be closed already. So its sleep is ended here.
            trio.lowlevel.notify_closing(self._channel.eventfd)
            self._awake()
        self._channel.shut()

    async def aclose(self) -> None:
        """Call `close`, and do a checkpoint, as every asynchronous resource does."""
        self.close()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> TrioClientStatistics:
        """Return the state and the counts of the client."""
        return TrioClientStatistics(self._receiving, not self._closed, self._batches, self._groups)


class _FollowingClock:
    """Lets the clock of a core without a worker follow trio's clock, once something waits for it.

    A nanosecond of the one is a nanosecond of the other. If the user sets the core's clock, it goes on from there. A
    clock that runs by itself is not changed.
    """

    def __init__(self, core: Core, timed: bool) -> None:
        self._core = core
        self._sets = core.clock is Clock.MANUAL
        self._follows = timed and self._sets
        self._offset_ns: int | None = None
        """The core's time minus trio's."""
        self._set_ns = 0

    def follow(self) -> None:
        """Set the core's clock to trio's time."""
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
        """The time of the next event that needs no call, in trio's time; math.inf: there is none."""
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
