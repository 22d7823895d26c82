"""A file that a command writes when it has measured: all of it, or what was there before stays."""

from __future__ import annotations

import os
import signal
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self, TextIO

_STDOUT: Final = "-"


class Output:
    """Where *option* says that something is to be written; ``-`` is standard output.

    A regular file is written beside its place and renamed, so nobody ever reads a half of it, and a full disk or an
    interruption leaves the old one. What is no regular file (``/dev/stderr``, a pipe) is written to. *inputs*: files
    that the command reads, which it must not write over.

    A context manager; without `write` nothing is left behind.

    Raises: UsageError, it cannot be written or is an input: before anything is measured.
    """

    def __init__(self, option: str, path: str, *, inputs: Iterable[str] = ()) -> None:
        self._name = f"{option} {path}"
        self.is_stdout = path == _STDOUT
        """Then what people read goes to standard error."""
        self._beside: Path | None = None
        self._target = Path(path)
        self._file: TextIO | None = None
        if self.is_stdout:
            return
        try:
            for other in inputs:
                if self._target.exists() and Path(other).exists() and self._target.samefile(other):
                    raise UsageError(f"{self._name}: the command reads that file; give another name")
            self._open()
        except (OSError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{self._name}: {getattr(error, 'strerror', None) or error}") from error

    def _open(self) -> None:
        mode = self._target.stat().st_mode if self._target.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            self._file = self._target.open("w", encoding="utf-8")
            return
        if mode is not None:
            self._target.open("r+", encoding="utf-8").close()  # a file that may not be written is not replaced either
        self._target = self._target.resolve()  # a link stays one
        descriptor, name = tempfile.mkstemp(prefix=f".{self._target.name[:64]}.", dir=self._target.parent, text=True)
        self._beside = Path(name)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self._beside.chmod(stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())

    def write(self, text: str) -> str | None:
        """Write all of it, once. Return what went wrong, in a sentence; None, it is there."""
        file = sys.stdout if self.is_stdout else self._file
        assert file is not None, "not closed"
        try:
            with _undisturbed():
                file.write(text)
                file.flush()
                if self._beside is not None:
                    os.fsync(file.fileno())
                    self._beside.replace(self._target)
                    self._beside = None
        except BrokenPipeError:
            raise
        except OSError as error:
            return f"{self._name}: {error.strerror}"
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beside is not None:
            with suppress(OSError):
                self._beside.unlink()
        if self._file is not None:
            with suppress(OSError):  # what could not be written was told by `write`
                self._file.close()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def _undisturbed() -> Iterator[None]:
    """An interruption waits until what was measured is written."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
