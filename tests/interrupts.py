"""Raises an exception at each opcode of a call, as a signal handler would, and sees what is left.

A handler runs between two bytecodes. `sys.settrace` with ``f_trace_opcodes`` comes by at every one of them, so that
what a storm of signals finds once in a thousand runs is found each time.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uring_iopf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PACKAGE: Final = str(Path(uring_iopf.__file__).parent) + os.sep
CONTEXTLIB: Final = contextlib.__file__


class Interrupt(Exception):
    """What the handler raises."""


@dataclass
class Opcodes:
    """Counts the opcodes of the package that are run, and those of contextlib on its behalf; raises at one of them."""

    at: int = 0
    """Which; 0: none."""
    count: int = 0

    def __enter__(self) -> Opcodes:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if code.co_filename == CONTEXTLIB and frame.f_back is not None:
            code = frame.f_back.f_code  # on whose behalf it runs
        if code.co_name == "<module>" or not code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.count += 1
            if self.count == self.at:
                raise Interrupt
        return self._trace


PF_EXITING: Final = 0x4
"""In a thread's flags in /proc: it only has to be cleared away."""
ENDS_WITHIN_S: Final = 30
"""Far more than a thread takes that is to end by itself: the host ends an AIO context within a second."""


def running() -> frozenset[int]:
    """The threads of this process. A joined one may be in /proc for a moment longer; it is marked, and not counted."""
    flags = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            flags[int(task.name)] = int((task / "stat").read_text().rpartition(")")[2].split()[6])
    return frozenset(one for one in flags if not flags[one] & PF_EXITING)


def descriptors() -> int:
    """How many descriptors are open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@dataclass(frozen=True)
class Before:
    """What the process has now, to see later what was left."""

    descriptors: int = field(default_factory=descriptors)
    threads: frozenset[int] = field(default_factory=running)

    def new_threads(self) -> frozenset[int]:
        """Those begun since then. Older ones, which a test before has left to end by themselves, may have ended."""
        return running() - self.threads

    def nothing_is_left(self) -> None:
        """Check it, once the threads that are to end by themselves have."""
        until = time.monotonic() + ENDS_WITHIN_S
        while self.new_threads() and time.monotonic() < until:
            os.sched_yield()
        assert (self.new_threads(), descriptors()) == (frozenset(), self.descriptors)


class _Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names.split())


def allocated() -> int:
    """Bytes that C has allocated and not freed."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def points(call: Callable[[], object], most: int, start: int) -> Iterator[int]:
    """Which opcodes of a call to raise at: all, or *most* of them, evenly from *start*."""
    with Opcodes() as opcodes:
        call()
    stride = max(1, -(-opcodes.count // most))
    return iter(range(1 + start % stride, opcodes.count + 1, stride))


def interrupted(call: Callable[[], object], at: int) -> bool:
    """Call, with the exception at that opcode. Return whether it came; what comes out must be the same."""
    opcodes = Opcodes(at)
    try:
        with opcodes:
            call()
    except Interrupt:
        gc.collect(0)
        return True
    return False
