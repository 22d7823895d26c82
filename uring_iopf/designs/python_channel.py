"""An open design that is written in Python.

It is called as the C seam calls a design (``cdefs/designs/design.h``), and holds it to the rules of
`uring_iopf.designs.rules` that can be seen here. A design that breaks one gets a DesignError that names it.
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
"""Looks in a row at nothing, though the design says that there is something."""
MOST_TURNS: Final = 100_000
"""Turns of a replay that serves nothing."""


class PythonChannel(Handle["Design"]):
    """A design written in Python: inline, on one thread."""

    _what = "channel"

    def __init__(self, core: Core, design: Design) -> None:
        super().__init__()
        self._core = self._on = core
        self._c = design
        self._pending: list[tuple[int, int]] = []
        self._given = 0
        """Answers handed to the design."""
        self._collected = 0
        """Answers that it says it has passed on."""
        self._published = 0
        """Groups that it says it has made visible."""
        self._in_vain = 0
        """Times that `receive` has returned nothing since the client last had to wait, or received."""
        self._visible = 0
        """Groups that should be visible: poll would not sleep."""
        self._received = 0
        """Groups that the design has returned."""
        self._asleep = False
        """The client sleeps on the eventfd, or is about to."""
        self._shut = False
        self._turner = owned(lib.uiopf_turner_free, lib.uiopf_turner_new, core.c)
        if self._turner is None:
            raise no_room(self._what)
        design._rouse = weakref.WeakMethod(self._rouse)  # not to hold one another: a forgotten machine is noticed

    @property
    def design(self) -> Design:
        """Both halves. Raises: UsageError, closed."""
        if (design := self._c) is None:  # a design may be false
            raise self._refusal()
        return design

    @property
    def eventfd(self) -> int:
        """What an event loop sleeps on."""
        if self._turner is None:
            raise self._refusal()
        return lib.uiopf_turner_eventfd(self._turner)

    # ---- the client's half ----

    def receive_plain(self) -> Sequence[FaultMessage]:
        """The same: they are named tuples already."""
        return self.receive()

    def receive(self) -> list[FaultMessage]:
        """Messages of whole groups, without waiting. Raises: DesignError, they are none."""
        self._hand_over()
        design = self.design
        messages = self._checked(design.receive())
        self._in_vain = 0 if messages else self._in_vain + 1
        if not messages:
            self._visible = 0
            design.flush()  # a client that spins comes here again and again, and nowhere else
        return messages

    def _checked(self, groups: object) -> list[FaultMessage]:
        """What the design's `receive` returned, as messages one behind the other. Raises: DesignError."""
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
        """Answer a group at the next flush. Raises: UsageError, a code that the queue refuses; the client has gone."""
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
        """Whether an answer to this is among those that will be sent."""
        return any(pending == cookie for pending, _ in self._pending)

    def shut(self) -> None:
        """The client goes: what it has answered is sent, and from now on its answers are refused."""
        self._shut = True
        if self._c is not None:
            self.flush()

    def flush(self) -> None:
        """Send what has been answered."""
        self._hand_over()
        self.design.flush()

    def _hand_over(self) -> None:
        """Give the design the answers that have gathered: one call for all of them."""
        if self._pending:
            pending, self._pending = self._pending, []
            self.design.answer(pending)
            self._given += len(pending)

    def wait(self) -> bool:
        """Wait as the design's client does, while the other side has its turns; False: nothing came, or ever will."""
        self._hand_over()
        design = self.design
        if self._waits(design):
            return True
        if not design.sleeps:
            return self.turn() > 0
        try:
            design.asleep = True
            while True:  # not for ever: `turn` lets a design move no more than there is
                did = self.turn()
                if not design.asleep:
                    return True
                if not did:
                    return False
        finally:
            design.asleep = False

    def _waits(self, design: Design) -> bool:
        """Call the design's `wait`; whether there is something to receive, so that a call to sleep returns at once."""
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
        """True: something is there. False: sleep on the eventfd, then call `awake`.

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
        """The sleep that was prepared is over."""
        self._asleep = False
        if self._turner is None:
            raise self._refusal()
        self.design.asleep = False
        lib.uiopf_turner_unlist(self._turner)
        with suppress(BlockingIOError):
            os.eventfd_read(self.eventfd)

    def _rouse(self) -> None:
        """Wake the client that sleeps on the eventfd: once is enough."""
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self.eventfd, 1)

    # ---- the other side ----

    def turn(self) -> int:
        """Collect the answers, turn the hardware, publish what it reports. Raises: DesignError, rules are broken."""
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
        """How many groups or answers a half has moved."""
        if not isinstance(count, int) or count < 0:
            raise broken("progress", f"{self._named(method)} returned {_shown(count)}, not the number that it moved")
        return count

    def unfinished(self) -> list[str]:
        """Which rules the design has broken, where nothing goes on any more: each with what is missing."""
        design, found = self.design, []
        source = design.source
        if kept := source.taken - self._received:
            found.append(
                f"{kept} of {source.taken} groups taken did not reach the client (rules 'once', 'wake', 'wait')"
            )
        # An answer that the design itself finds bad may be counted without being passed on.
        if (held := self._given - source.answered - (design.cost.answer_errors - source.refused)) > 0:
            found.append(f"{held} of {self._given} answers did not reach the fault queue (rules 'answers', 'flush')")
        return found

    def cost(self) -> Counts:
        """What the design says that it has cost so far."""
        return self.design.cost.counts()

    def close(self) -> None:
        """Let go of both halves. Closing again does nothing."""
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
    """A value for an error, not too long, and the same every time."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return text if len(text) <= 100 else f"{text[:97]}..."
