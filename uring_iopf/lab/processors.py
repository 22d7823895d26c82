"""The processors of a measurement. They are among those that the caller may use."""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_CPUS: Final = Path("/sys/devices/system/cpu")


def two_processors() -> tuple[int, int] | None:
    """The two lowest-numbered processors that this thread may use (`taskset`, a container's set); None: only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else None


@contextmanager
def client_and_worker_apart() -> Iterator[int]:
    """Run this thread, the client, on the second of the two, and give the first, for the worker; -1: only one."""
    before = os.sched_getaffinity(0)
    two = two_processors()
    if two is None:
        yield -1
        return
    os.sched_setaffinity(0, {two[1]})
    try:
        yield two[0]
    finally:
        os.sched_setaffinity(0, before)


class Pairs(NamedTuple):
    """A pair of processors that share a cache, and one that shares none; None: there is none, with the reason."""

    same: tuple[int, int] | None
    other: tuple[int, int] | None
    why_not_same: str = ""
    why_not_other: str = ""


def pairs(cpus: Path = _CPUS) -> Pairs:
    """The lowest-numbered pairs of different cores among those that this thread may use.

    Two hardware threads of one core are no pair. *cpus*: the folder of the kernel's files about processors. A virtual
    machine's caches are those that its host shows to it, which may not be the real ones.
    """
    allowed = sorted(os.sched_getaffinity(0))
    unknown = "the kernel does not say which caches the processors share"
    if len(allowed) < 2:
        return Pairs(None, None, "there is only one processor", "there is only one processor")
    caches = {cpu: _shared(cpus / f"cpu{cpu}" / "cache", "index*/shared_cpu_list") for cpu in allowed}
    if not all(caches.values()):
        return Pairs(None, None, unknown, unknown)
    cores = {cpu: _shared(cpus / f"cpu{cpu}" / "topology", "thread_siblings_list") for cpu in allowed}
    apart = [(a, b) for a, b in itertools.combinations(allowed, 2) if b not in cores[a]]
    if not apart:
        one_core = "all processors are hardware threads of one core"
        return Pairs(None, None, one_core, one_core)
    same = next(((a, b) for a, b in apart if b in caches[a]), None)
    other = next(((a, b) for a, b in apart if b not in caches[a]), None)
    return Pairs(
        same,
        other,
        "" if same else "no two cores share a cache",
        "" if other else "all cores share a cache",
    )


def _shared(folder: Path, names: str) -> set[int]:
    """The processors in the lists of a folder's files, such as ``0-3,8``."""
    found: set[int] = set()
    for path in folder.glob(names):
        for part in path.read_text(encoding="ascii").split(","):
            first, _, last = part.strip().partition("-")
            if first:
                found |= set(range(int(first), int(last or first) + 1))
    return found
