"""The channel of a design in Python.

It calls a design in the same way as C does (``cdefs/designs/design.h``). It checks those rules of
`uring_iopf.designs.rules` that can be checked here. A broken rule raises a DesignError, which names the rule.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from uring_iopf._native import lib
from uring_iopf.abi.iommufd import FaultFlags, PageResponse
from uring_iopf.abi.records import FaultMessage
from uring_iopf.designs.channel import bad_code, client_gone
from uring_iopf.designs.rules import broken
from uring_iopf.handles import Handle, no_room, owned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uring_iopf.core import Core
    from uring_iopf.costs import Counts
    from uring_iopf.designs.base import Design

_SUCCESS_OR_INVALID = (PageResponse.SUCCESS, PageResponse.INVALID)
_LAST_PAGE: Final = int(FaultFlags.LAST_PAGE)
MOST_IN_VAIN: Final = 1000
"""The most receives in a row that return no group, although the design's `wait` has returned True."""
MOST_TURNS: Final = 100_000
"""The most turns of a replay that serves no fault."""


class PythonChannel(Handle["Design"]):
    """The channel of a design in Python. It runs inline, on one thread."""

    _what = "channel"

    def __init__(self, core: Core, design: Design) -> None:
        super().__init__()
        self._core = self._on = core
        self._c = design
        self._pending: list[tuple[int, int]] = []
        self._given = 0
        """Answers given to the design."""
        self._collected = 0
        """The sum of the numbers that `collect` has returned."""
        self._published = 0
        """The sum of the numbers that `publish` has returned."""
        self._in_vain = 0
        """Receives without a group since the client last waited, or received a group."""
        self._visible = 0
        """Groups that should be visible, so that a poll would not sleep."""
        self._received = 0
        """Groups that `receive` has returned."""
        self._asleep = False
        """Whether the client sleeps on the eventfd, or is about to."""
        self._shut = False
        self._turner = owned(lib.uiopf_turner_free, lib.uiopf_turner_new, core.c)
        if self._turner is None:
            raise no_room(self._what)
        # A weak reference: with a cycle, a machine that was not closed would not be collected, and give no warning.
        design._rouse = weakref.WeakMethod(self._rouse)

    @property
    def design(self) -> Design:
        """The design, with both halves. Raises: UsageError, the channel is closed."""
        if (design := self._c) is None:  # a design may be false
            raise self._refusal()
        return design

    @property
    def eventfd(self) -> int:
        """The eventfd on which an event loop sleeps."""
        if self._turner is None:
            raise self._refusal()
        return lib.uiopf_turner_eventfd(self._turner)

    # ---- the client's half ----

    def receive_plain(self) -> Sequence[FaultMessage]:
        """Do what `receive` does, whose messages are named tuples."""
        return self.receive()

    def receive(self) -> list[FaultMessage]:
        """Return the messages of the whole groups that wait, without waiting. Raises: DesignError, a broken rule."""
        self._hand_over()
        design = self.design
        messages = self._checked(design.receive())
        self._in_vain = 0 if messages else self._in_vain + 1
        if not messages:
            self._visible = 0
            design.flush()  # a client that spins calls `receive` again and again, and nothing else
        return messages

    def _checked(self, groups: object) -> list[FaultMessage]:
        """Check the return value of the design's `receive`, and return its messages. Raises: DesignError."""
        if not isinstance(groups, Sequence):
            raise broken("groups", f"{self._named('receive')} returned {_shown(groups)}, not a sequence of groups")
        messages: list[FaultMessage] = []
        for group in groups:
            if isinstance(group, FaultMessage) or not isinstance(group, Sequence):
                raise broken(
                    "groups", f"{self._named('receive')} returned {_shown(group)} in place of a group of messages"
                )
            for at, message in enumerate(group, 1):
                if not isinstance(message, FaultMessage):
                    raise broken(
                        "groups",
                        f"{self._named('receive')} returned a group with {_shown(message)}, not a FaultMessage",
                    )
                if bool(message.flags & _LAST_PAGE) != (at == len(group)):
                    which = f"message {at} of the {len(group)} of a group"
                    has = "has LAST_PAGE" if at < len(group) else "has no LAST_PAGE"
                    raise broken("groups", f"{self._named('receive')}: {which} {has}")
            if not group:
                raise broken("groups", f"{self._named('receive')} returned a group without messages")
            messages += group
        self._received += len(groups)
        self._visible -= len(groups)
        if self._received > (taken := self.design.source.taken):
            raise broken(
                "once",
                f"{self._named('receive')} has returned {self._received} groups, but the design has taken {taken}",
            )
        return messages

    def answer(self, cookie: int, code: int) -> None:
        """Answer a group at the next flush. Raises: UsageError, the queue refuses *code*, or the client has ended."""
        if self._shut:
            raise client_gone()
        known = isinstance(code, int) and code in _SUCCESS_OR_INVALID
        if not known and not self.design.source.takes(cookie, code):
            raise bad_code(code)
        if self._c is None:
            raise self._refusal()
        self._pending.append((cookie, code))
        if self._asleep:
            self._rouse()

    def has_taken(self, cookie: int) -> bool:
        """Whether an answer to this group waits to be sent."""
        return any(pending == cookie for pending, _ in self._pending)

    def shut(self) -> None:
        """End the client: send the answers held back, and refuse later ones."""
        self._shut = True
        if self._c is not None:
            self.flush()

    def flush(self) -> None:
        """Send the answers that are held back."""
        self._hand_over()
        self.design.flush()

    def _hand_over(self) -> None:
        """Give the design all answers since the last call, in one call."""
        if self._pending:
            pending, self._pending = self._pending, []
            self.design.answer(pending)
            self._given += len(pending)

    def wait(self) -> bool:
        """Wait for a group, and run the other side meanwhile. Return False if no group came and no work is left."""
        self._hand_over()
        design = self.design
        if self._waits(design):
            return True
        if not design.sleeps:
            return self.turn() > 0
        try:
            design.asleep = True
            while True:  # this ends, because `turn` raises if a design claims more progress than there can be
                did = self.turn()
                if not design.asleep:
                    return True
                if not did:
                    return False
        finally:
            design.asleep = False

    def _waits(self, design: Design) -> bool:
        """Call the design's `wait`. Return whether a group waits, so that a call to sleep would return at once."""
        there = design.wait()
        if not isinstance(there, bool):
            raise broken("wait", f"{self._named('wait')} returned {_shown(there)}, not True or False")
        if not there:
            self._in_vain = 0
        elif self._in_vain > MOST_IN_VAIN:
            raise broken(
                "wait",
                f"{self._named('wait')} returned True {MOST_IN_VAIN:,} times, but there was nothing to receive",
            )
        return there or self._visible > 0

    def prepare_sleep(self) -> bool:
        """Prepare a sleep. Return True if a group waits already. After False, sleep on the eventfd, then call `awake`.

        The eventfd is written when the design wakes its client, and when there is work for a turn.
        """
        self._hand_over()
        design = self.design
        if self._waits(design):
            return True
        if self._turner is None:
            raise self._refusal()
        lib.uiopf_turner_list(self._turner)
        self._asleep = design.asleep = True
        return False

    def awake(self) -> None:
        """End the sleep that was prepared."""
        self._asleep = False
        if self._turner is None:
            raise self._refusal()
        self.design.asleep = False
        lib.uiopf_turner_unlist(self._turner)
        with suppress(BlockingIOError):
            os.eventfd_read(self.eventfd)

    def _rouse(self) -> None:
        """Wake the client that sleeps on the eventfd, once for each sleep."""
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self.eventfd, 1)

    # ---- the other side ----

    def turn(self) -> int:
        """Collect the answers, run the hardware, and publish its faults. Raises: DesignError, a broken rule."""
        design = self.design
        collected = self._moved("collect", design.collect())
        self._collected += collected
        if self._collected > self._given:
            raise broken(
                "progress",
                f"{self._named('collect')} has returned {self._collected} answers, but only {self._given} were "
                "given to the design",
            )
        did = collected + self._core.produce()
        published = self._moved("publish", design.publish())
        self._published += published
        self._visible += published
        if self._published > (taken := design.source.taken):
            raise broken(
                "progress",
                f"{self._named('publish')} has returned {self._published} groups, but the design has taken {taken}",
            )
        if published and design.asleep:
            raise broken(
                "wake",
                f"{self._named('publish')} made {published} groups visible, but did not wake the sleeping client",
            )
        return did + published

    def _moved(self, method: str, count: object) -> int:
        """Check the number of groups or answers that a half returned, and return it."""
        if not isinstance(count, int) or count < 0:
            raise broken("progress", f"{self._named(method)} returned {_shown(count)}, not the number that it moved")
        return count

    def unfinished(self) -> list[str]:
        """The rules that the design has broken when a replay stands still, each with the missing groups or answers."""
        design, found = self.design, []
        source = design.source
        if kept := source.taken - self._received:
            found.append(
                f"{kept} of {source.taken} groups taken did not reach the client (rules 'once', 'wake', 'wait')"
            )
        # A design may count an answer as refused without passing it to the fault queue.
        if (held := self._given - source.answered - (design.cost.answer_errors - source.refused)) > 0:
            found.append(f"{held} of {self._given} answers did not reach the fault queue (rules 'answers', 'flush')")
        return found

    def cost(self) -> Counts:
        """Return the costs that the design has reported so far."""
        return self.design.cost.counts()

    def close(self) -> None:
        """Close both halves. Closing again does nothing."""
        design = self._c
        if design is not None:
            self._c = None
            self._turner = None
            design.release()

    def _disown(self) -> None:
        super()._disown()
        self._turner = None

    def _named(self, method: str) -> str:
        return f"{type(self.design).__name__}.{method}"


def _shown(value: object) -> str:
    """The text of a value in an error: 100 characters at most, and without addresses, so that it is reproducible."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return text if len(text) <= 100 else f"{text[:97]}..."
