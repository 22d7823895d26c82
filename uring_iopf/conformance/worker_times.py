"""The times at which worker threads run, while a script is replayed.

When a thread runs is the scheduler's: it is no rule of io_uring's, and no recording has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

LATEST: Final = 24
"""The most moments by which all threads run later, before each moment is chosen by itself."""


@dataclass
class WorkerTimes:
    """One choice of times: at each moment at which threads could run, how many of the requests that wait for them do.

    To begin with, each runs as early as it can. `advance` goes on to the next choice: no thread runs before the second
    moment, before the third, and so on; then each moment is chosen by itself, the last one first.
    """

    chosen: list[int] = field(default_factory=list)
    """The number of each choice that was fixed; those behind are 0."""
    offered: list[int] = field(default_factory=list)
    """How many choices there were, at each moment so far."""
    _later: int = 0
    _first: list[int] = field(default_factory=list)

    def choose(self, asked: int) -> int:
        """Return how many of *asked* requests go on now: all of them by default, or none, or one."""
        moment = len(self.offered)
        self.offered.append(2 if asked == 1 else 3)
        return (asked, 0, 1)[self.chosen[moment] if moment < len(self.chosen) else 0]

    def advance(self) -> bool:
        """Prepare the next choice. Return False if there is none."""
        if self._later == 0:
            self._first = self.offered.copy()
        if self._later <= LATEST:
            self._later += 1
            if self._later <= min(LATEST, len(self.offered)):
                self.chosen = [1] * self._later
                self.offered.clear()
                return True
            self._later = LATEST + 1
            self.chosen, self.offered = [], self._first
        return self._next_of_all()

    def _next_of_all(self) -> bool:
        chosen = (self.chosen + [0] * len(self.offered))[: len(self.offered)]
        while chosen and chosen[-1] + 1 >= self.offered[len(chosen) - 1]:
            chosen.pop()
        self.offered.clear()
        if not chosen:
            return False
        chosen[-1] += 1
        self.chosen = chosen
        return True
