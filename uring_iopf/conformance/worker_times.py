"""The times at which worker threads run, while a script is replayed.

When a thread runs is the scheduler's: it is no rule of io_uring's, and no recording has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class WorkerTimes:
    """One choice of times: at each moment at which threads could run, how many of the requests that wait for them do.

    `advance` goes on to the next choice, the last moment first. To begin with, each runs as early as it can.
    """

    chosen: list[int] = field(default_factory=list)
    """The number of each choice that was fixed; those behind are 0."""
    offered: list[int] = field(default_factory=list)
    """How many choices there were, at each moment so far."""

    def choose(self, asked: int) -> int:
        """Return how many of *asked* requests go on now: all of them by default, then none, one, two, ..."""
        moment = len(self.offered)
        self.offered.append(asked + 1)
        number = self.chosen[moment] if moment < len(self.chosen) else 0
        return number - 1 if number else asked

    def advance(self) -> bool:
        """Prepare the next choice. Return False if there is none."""
        chosen = (self.chosen + [0] * len(self.offered))[: len(self.offered)]
        while chosen and chosen[-1] + 1 >= self.offered[len(chosen) - 1]:
            chosen.pop()
        self.offered.clear()
        if not chosen:
            return False
        chosen[-1] += 1
        self.chosen = chosen
        return True
