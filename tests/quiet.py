"""The quiescent point, held across statements, for tests. The package holds it within one call of C only."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from uring_iopf._native import interruptible, lib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf.core import Core


@contextmanager
def quiescent(core: Core) -> Iterator[None]:
    """Hold it."""
    interruptible("quiescent", lib.uiopf_control_try_begin, core.c)
    try:
        yield
    finally:
        lib.uiopf_control_end(core.c)
