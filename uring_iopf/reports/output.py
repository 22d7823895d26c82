"""A file that a command writes at its end: either the whole file is new, or the old one stays."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import UsageError
from uring_iopf.reports.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self, TextIO

_STDOUT: Final = "-"
_STDIN: Final = "-"


class StandardOutputError(Exception):
    """Standard output accepts no more: it is closed, or its disk is full. Its text is the reason."""


def write_out(out: TextIO, text: str) -> None:
    """Write *text* to *out*, and flush it. Raises: StandardOutputError; BrokenPipeError, its reader has gone."""
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StandardOutputError(error.strerror or str(error)) from None


def discard_output() -> None:
    """Discard what standard output has not accepted. Python would try, and report it, once more at its exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Output:
    """The file that *option* names; ``-`` is standard output.

    A regular file is written under another name in the same folder, and renamed. So a reader never sees half a file,
    and a full disk or an interruption leaves the old one. A file of another kind (``/dev/stderr``, a pipe) is opened
    and written to. *inputs*: files that the command reads, and must not overwrite.

    A context manager. Without a call of `write` it leaves no file.

    Raises: UsageError, the file cannot be written or is an input. It is raised before anything is measured.
    """

    def __init__(self, option: str, path: str, *, inputs: Iterable[str] = ()) -> None:
        self._name = f"{option} {path}"
        self.is_stdout = path == _STDOUT
        """Whether the file is standard output. The tables go to standard error then."""
        self._beside: Path | None = None
        self._target = Path(path)
        self._file: TextIO | None = None
        if self.is_stdout:
            return
        try:
            for other in inputs:
                if self._target.exists() and _is_file(self._target, other):
                    raise UsageError(f"{self._name}: this file is the command's input; give another name")
            self._open()
        except (OSError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"{self._name}: the file cannot be written ({why}); give another name") from error

    def _open(self) -> None:
        mode = self._target.stat().st_mode if self._target.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            self._file = self._target.open("w", encoding="utf-8")
            return
        if mode is not None:
            self._target.open("r+", encoding="utf-8").close()  # a read-only file must not be replaced either
        self._target = self._target.resolve()  # a symbolic link stays one
        descriptor, name = tempfile.mkstemp(prefix=f".{self._target.name[:64]}.", dir=self._target.parent, text=True)
        self._beside = Path(name)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self._beside.chmod(stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())

    def write(self, text: str) -> str | None:
        """Write the whole text. Call it once. Return None, or an error message if the text could not be written."""
        file = sys.stdout if self.is_stdout else self._file
        assert file is not None, "not closed"
        try:
            with undisturbed():
                file.write(text)
                file.flush()
                if self._beside is not None:
                    os.fsync(file.fileno())
                    self._beside.replace(self._target)
                    self._beside = None
        except BrokenPipeError:
            raise
        except OSError as error:
            return f"{self._name}: the file was not written: {error.strerror}"
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
            with suppress(OSError):  # `write` has returned the error already
                self._file.close()


def _is_file(target: Path, other: str) -> bool:
    """Whether *target* is the file *other*; ``-`` is the file that standard input reads."""
    if other != _STDIN:
        return Path(other).exists() and target.samefile(other)
    try:
        return sys.stdin is not None and os.path.samestat(target.stat(), os.fstat(sys.stdin.fileno()))
    except (OSError, ValueError):  # it is closed, or no file
        return False


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
