"""A section that the signals which end a command do not interrupt."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def undisturbed() -> Iterator[None]:
    """Block Ctrl-C, SIGTERM and SIGHUP. One that comes meanwhile is handled at the end of the section.

    Results are written in such a section, and modules are loaded: KeyboardInterrupt in one of the import system's
    callbacks would be printed as ignored, and lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
