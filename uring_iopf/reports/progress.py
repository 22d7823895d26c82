"""The progress of a long run on a terminal: a bar if rich is installed, else a line; nothing without a terminal.

Drawing takes time from the measurement. So no thread draws beside it, and updates within `INTERVAL_S` are not drawn.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

INTERVAL_S: Final = 0.25
_WIDTH: Final = 72


@contextmanager
def progress(
    stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str, float], None]]:
    """A context manager that gives a function to report progress: a label, and the share that is done, from 0 to 1.

    *stream*: standard error unless given. The drawing is erased at the end, also after an exception.
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield _nothing
        return
    drawn = _bar(stream) if _have_rich() else _line(stream)
    with drawn as draw:
        last_label, last_time = "", -INTERVAL_S

        def seldom(label: str, share: float) -> None:
            nonlocal last_label, last_time
            now = clock()
            if label != last_label or now - last_time >= INTERVAL_S:
                last_label, last_time = label, now
                draw(label, share)

        yield seldom


def _nothing(_label: str, _share: float) -> None:
    pass


def _have_rich() -> bool:
    from importlib.util import find_spec

    return find_spec("rich") is not None


@contextmanager
def _bar(stream: TextIO) -> Iterator[Callable[[str, float], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TaskProgressColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(
        *columns, console=Console(file=stream), transient=True, auto_refresh=False, redirect_stdout=sys.stdout.isatty()
    ) as bar:
        task = bar.add_task("", total=1.0)

        def draw(label: str, share: float) -> None:
            bar.update(task, completed=share, description=label, refresh=True)

        yield draw


@contextmanager
def _line(stream: TextIO) -> Iterator[Callable[[str, float], None]]:
    def draw(label: str, share: float) -> None:
        stream.write(f"\r{f'{share:4.0%} {label}'[:_WIDTH]:<{_WIDTH}}")
        stream.flush()

    try:
        yield draw
    finally:
        stream.write("\r" + " " * _WIDTH + "\r")
        stream.flush()
