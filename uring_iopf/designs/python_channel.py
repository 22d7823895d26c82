"""An open design that is written in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.errors import UsageError
from uring_iopf.handles import Handle

if TYPE_CHECKING:
    from uring_iopf.core import Core
    from uring_iopf.costs import Counts
    from uring_iopf.designs.base import Design
    from uring_iopf.iommufd import FaultMessage


class PythonChannel(Handle["Design"]):
    """A design written in Python: inline, on one thread."""

    _what = "channel"

    def __init__(self, core: Core, design: Design) -> None:
        super().__init__()
        self._core = self._on = core
        self._c = design
        self._pending: list[tuple[int, int]] = []

    @property
    def design(self) -> Design:
        """Both halves. Raises: UsageError, closed."""
        return self.c

    @property
    def eventfd(self) -> int:
        """There is none."""
        raise UsageError("a design written in Python runs inline: there is nothing to sleep on")

    def receive(self) -> list[FaultMessage]:
        """Messages of whole groups, without waiting."""
        self.flush()
        return list(self.design.receive())

    def answer(self, cookie: int, code: int) -> None:
        """Answer a group at the next flush."""
        if self._c is None:
            raise self._refusal()
        self._pending.append((cookie, code))

    def has_taken(self, cookie: int) -> bool:
        """Whether an answer to this is among those that will be sent."""
        return any(pending == cookie for pending, _ in self._pending)

    def flush(self) -> None:
        """Send what has been answered."""
        if self._pending:
            pending, self._pending = self._pending, []
            self.design.answer(pending)

    def prepare_sleep(self) -> bool:
        """It never sleeps: True."""
        self.flush()
        return True

    def awake(self) -> None:
        """It never sleeps."""

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
            design.release()
