"""Generated programs, as many as one likes: `python -m tests.rings.bulk [--seed N] [--programs N | --seconds N]`.

Programs are numbered. The same seed and number are the same program; a run begins with number 0. Each is played on the
host and on the engine. One that differs is made smaller before it is shown: actions are left out, bytes become 0.
"""

from __future__ import annotations

import argparse
import collections
import random
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final

from tests.rings import known
from tests.rings.drawn import ensured
from tests.rings.engine import EnginePlayer
from tests.rings.generate import ACTION, HEADER, assemble
from tests.rings.host import HostPlayer, refusal, version
from tests.rings.judge import shown
from tests.rings.language import waiting_for
from tests.rings.player import NoInstancesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.rings.language import Program, Seen

PLAYS: Final = 20
"""Linux's worker threads and timers come when they come, and one outcome of several is what Linux does."""
PATIENCE_S: Final = (0.2, 2.0, 10.0)
"""For what the engine came to, and the host does not: at first, later, and at last."""
MOST_ACTIONS: Final = 18
TRIES: Final = 400
"""Smaller programs that are tried for one that differs."""
SPAN: Final = 250
"""Programs of one process."""
STANDSTILL_S: Final = 300
"""A program, with all its plays and its smaller ones, that takes longer stands still: it is shown, and left."""


@dataclass(frozen=True)
class Bytes:
    """What a program is read from."""

    header: bytes
    actions: list[bytes]

    def program(self) -> Program:
        return assemble(self.header, self.actions)

    def __str__(self) -> str:
        return f"{self.header.hex()} {' '.join(action.hex() for action in self.actions)}"


def draw(seed: int, number: int) -> Bytes:
    """The program of this number."""
    random_ = random.Random(f"{seed} {number}")
    header = random_.randbytes(HEADER)
    actions = [random_.randbytes(ACTION) for _ in range(random_.randrange(4, MOST_ACTIONS))]
    return Bytes(*ensured(number, header, actions))


@dataclass(frozen=True)
class Difference:
    """What two kernels made of one program."""

    program: Program
    expected: list[Seen]
    got: list[Seen]

    def __str__(self) -> str:
        return shown(self.program, self.expected, self.got)


@dataclass(frozen=True)
class Excused:
    """Two outcomes of one program that differ by what is known."""

    id: str
    program: Program
    expected: list[Seen]
    got: list[Seen]


class Judge:
    """Both kernels."""

    def __init__(self) -> None:
        self.host, self.engine = HostPlayer(), EnginePlayer(version())

    def close(self) -> None:
        self.host.close()
        self.engine.close()

    def difference(self, program: Program, plays: int = PLAYS) -> Difference | Excused | None:
        """Of one program, if there is any.

        The engine has to do what the host was seen to do, or to differ by what is known.
        """
        found = None
        for play in range(plays):
            self.host.patience_s = PATIENCE_S[min(play * len(PATIENCE_S) // PLAYS, len(PATIENCE_S) - 1)]
            if play % 4 == 0:  # the loopback, and timers, are as late for the engine
                got = self.engine.play(program)
            asked = waiting_for(program, got)
            expected = self.host.play(asked)
            if expected == got:
                return None
            # A call that asks for more does more at once: asked for as many as the host, ours must do the same.
            if expected == self.engine.play(asked):
                return None
            explanation = known.explanation(asked, expected, got)
            if explanation:
                return Excused(explanation, asked, expected, got)
            found = Difference(asked, expected, got)
        return found

    def differs(self, bytes_: Bytes, plays: int) -> bool:
        return isinstance(self.difference(bytes_.program(), plays), Difference)

    def smaller(self, bytes_: Bytes, plays: int = 4) -> Bytes:
        """The smallest that is found of those that differ, too."""
        left = TRIES

        def is_no_worse(header: bytes, actions: list[bytes]) -> bool:
            nonlocal left, bytes_
            tried = Bytes(header, actions)
            if left <= 0 or tried == bytes_:
                return False
            left -= 1
            if not self.differs(tried, plays):
                return False
            bytes_ = tried
            return True

        several = max(len(bytes_.actions) // 2, 1)
        while several:
            at = 0
            while at < len(bytes_.actions):
                if not is_no_worse(bytes_.header, bytes_.actions[:at] + bytes_.actions[at + several :]):
                    at += several
            several //= 2
        for at in range(HEADER):
            h = bytes_.header
            any(is_no_worse(h[:at] + bytes([n]) + h[at + 1 :], bytes_.actions) for n in _below(h[at]))
        for which in range(len(bytes_.actions)):
            for at in range(ACTION):
                before, one, behind = bytes_.actions[:which], bytes_.actions[which], bytes_.actions[which + 1 :]
                any(
                    is_no_worse(bytes_.header, [*before, one[:at] + bytes([n]) + one[at + 1 :], *behind])
                    for n in _below(one[at])
                )
        return bytes_


def _below(byte: int) -> list[int]:
    """Simpler bytes, the simplest first."""
    return sorted({0, byte & 1, byte & 0xF, *(byte & ~(1 << bit) for bit in range(3))} - {byte})


def play(judge: Judge, seed: int, number: int, keep: Callable[[Bytes, Excused], None] | None = None) -> str:
    """One program. Return how the two differ, with the program made small; empty if they do not.

    *keep* is called with what is excused.
    """
    bytes_ = draw(seed, number)
    try:
        found = judge.difference(bytes_.program())
    except NoInstancesError:
        known.counted["not played, for want of inotify instances on the host"] += 1
        return ""
    if not isinstance(found, Difference):
        known.counted["programs"] += 1
        if found:
            known.counted[found.id] += 1
            if keep:
                keep(bytes_, found)
        return ""
    small = judge.smaller(bytes_)
    again = judge.difference(small.program())
    return f"seed {seed}, program {number}: {small}\n{again if isinstance(again, Difference) else found}"


class StandstillError(Exception):
    """A program takes for ever."""


@contextmanager
def _watched(seconds: float) -> Iterator[None]:
    """Raise StandstillError when it takes longer. Not by SIGALRM, by which the player bounds calls that wait."""

    def give_up(*_: object) -> None:
        raise StandstillError

    before = signal.signal(signal.SIGUSR2, give_up)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGUSR2))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR2, before)


def _span(seed: int, first: int, programs: int) -> tuple[list[str], collections.Counter[str]]:
    judge = Judge()
    differences = []
    for number in range(first, first + programs):
        try:
            with _watched(STANDSTILL_S):
                found = play(judge, seed, number)
        except StandstillError:
            found = f"seed {seed}, program {number} stands still, here:\n{traceback.format_exc()}"
            judge = Judge()
        if found:
            differences.append(found)
    judge.close()
    return differences, known.counted


def play_spans(seed: int, first: int, programs: int) -> Iterator[tuple[int, list[str]]]:
    """Play so many programs, a span after the other, each in a process of its own. How long it was, and what differs.

    The host leaves threads of rings behind that its programs have stopped using (46 after 600 programs), and to look at
    all threads at each step took three times as long in the end. They go with the process.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for at in range(first, first + programs, SPAN):
            n = min(SPAN, first + programs - at)
            differences, counted = pool.submit(_span, seed, at, n).result()
            known.counted.update(counted)
            yield n, differences


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rings.bulk", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--first", type=int, default=0, help="the number of the first program")
    parser.add_argument("--programs", type=int, help="so many, or the run has failed; else as many as the time allows")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--failures", type=int, default=10, help="how many differences are shown at most")
    asked = parser.parse_args()
    if refusal():
        print(f"nothing to compare with: the host refuses io_uring ({refusal()})")  # noqa: T201
        return 0
    began, number, failures = time.monotonic(), asked.first, 0
    most = 1 << 62 if asked.programs is None else asked.programs
    for played, differences in play_spans(asked.seed, asked.first, most):
        number += played
        failures += len(differences)
        for one in differences:
            print(f"\n{one}\n", flush=True)  # noqa: T201
        if failures >= asked.failures or time.monotonic() - began >= asked.seconds:
            break
    took = time.monotonic() - began
    words = ", ".join(f"{count:,} {what}" for what, count in sorted(known.counted.items()))
    rate = (number - asked.first) / took
    print(f"seed {asked.seed}, from {asked.first}: {words}; {rate:.0f} a second; {failures} differ")  # noqa: T201
    if asked.programs is not None and number - asked.first < asked.programs:
        print(f"{number - asked.first:,} of {asked.programs:,} programs were played in {took:.0f} s")  # noqa: T201
        return 1
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(_main())
