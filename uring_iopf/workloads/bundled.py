"""The bundled traces, and the loading of a workload by its name or path."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import UsageError
from uring_iopf.workloads.trace import SHOWN, TraceError, parse_trace, read_trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.workloads.workload import Workload

BUNDLED: Final[Mapping[str, str]] = {
    "gcc-compile": "gcc -O2 on one file of 100 lines",
    "numpy-sort": "NumPy: 20 M random doubles, 4 M gathered by random index, sorted, summed",
    "sqlite-index": "SQLite: 400,000 inserts, an index over them, 20,000 range queries",
    "parallel-sort": "seq, shuf and GNU sort in a pipe, 3 M lines",
    "git-repack": "git: one repository repacked with 2 threads",
}
"""The bundled traces, smallest first, each with the program that was recorded."""

STANDARD_INPUT: Final = "-"

_TRACES: Final = Path(__file__).with_name("traces")


def bundled_names() -> list[str]:
    """The names of the bundled traces, smallest first."""
    return list(BUNDLED)


def load_workload(name_or_path: str | Path) -> Workload:
    """Return a workload: a bundled one by its name, or one from a trace file, CSV, gzipped or plain.

    *name_or_path*: a bundled name, a path, or ``-`` for standard input. Raises: TraceError, the file cannot be read or
    a line is malformed; UsageError, there is no such name or file.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise UsageError(f"workload must be a name or a path, not {name_or_path!r}")
    name = str(name_or_path)
    path = Path(name_or_path)
    if name in BUNDLED:
        path = _TRACES / f"{name}.csv.gz"
    elif name == STANDARD_INPUT:
        return _from_standard_input()
    elif not _exists(path):
        shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
        raise UsageError(
            f"there is no workload or file {shown!r}; give a bundled workload ({', '.join(BUNDLED)}), the path of a "
            "trace (CSV, gzipped or plain), or - for standard input"
        )
    return read_trace(path, name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or in a folder that may not be searched
        return False


def _from_standard_input() -> Workload:
    name = "standard input"
    try:
        content = sys.stdin.buffer.read()
    except (AttributeError, OSError, ValueError) as error:  # there is none, or it is closed
        found = "a closed one" if sys.stdin is None else str(error) or type(error).__name__
        raise TraceError(name, None, "a stream that can be read", found) from error
    return parse_trace(content, name)
