"""An open design that is written in Python."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from uring_iopf._native import lib
from uring_iopf.abi.iommufd import PageResponse
from uring_iopf.designs.channel import bad_code, client_gone
from uring_iopf.handles import Handle, owned

if TYPE_CHECKING:
    from uring_iopf.core import Core
    from uring_iopf.costs import Counts
    from uring_iopf.designs.base import Design
    from uring_iopf.iommufd import FaultMessage

_SUCCESS_OR_INVALID = (PageResponse.SUCCESS, PageResponse.INVALID)


class PythonChannel(Handle["Design"]):
    """A design written in Python: inline, on one thread."""

    _what = "channel"

    def __init__(self, core: Core, design: Design) -> None:
        super().__init__()
        self._core = self._on = core
        self._c = design
        self._pending: list[tuple[int, int]] = []
        self._asleep = False
        self._shut = False
        self._turner = owned(lib.uiopf_turner_free, lib.uiopf_turner_new, core.c)
        if self._turner is None:
            raise MemoryError("no memory, or no descriptor, for: channel")

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

    def receive(self) -> list[FaultMessage]:
        """Messages of whole groups, without waiting."""
        self.flush()
        return list(self.design.receive())

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
        if self._pending:
            pending, self._pending = self._pending, []
            self.design.answer(pending)
            if self._asleep:
                self._rouse()  # the kernel's half has answers to collect

    def prepare_sleep(self) -> bool:
        """False: sleep on the eventfd, then call `awake`. The eventfd is written when there is work for a turn."""
        self.flush()
        if self._turner is None:
            raise self._refusal()
        lib.uiopf_turner_list(self._turner)
        self._asleep = True
        return False

    def awake(self) -> None:
        """The sleep that was prepared is over."""
        self._asleep = False
        if self._turner is None:
            raise self._refusal()
        lib.uiopf_turner_unlist(self._turner)
        with suppress(BlockingIOError):
            os.eventfd_read(self.eventfd)

    def _rouse(self) -> None:
        """Wake the client that sleeps: once is enough."""
        self._asleep = False
        os.eventfd_write(self.eventfd, 1)

    def turn(self) -> int:
        """Collect the answers, turn the hardware, publish what it reports."""
        self.flush()
        did = self.design.collect()
        did += self._core.produce()
        return did + self.design.publish()

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
