"""The processors of a measurement. They are among those that the caller may use."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


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
