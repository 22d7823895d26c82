"""The traces that come with the package, and how a workload is asked for: by their names, or as a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import UsageError
from uring_iopf.workloads.trace import read_trace

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
"""The traces that come with the package, smallest first, and what ran."""

_TRACES: Final = Path(__file__).with_name("traces")


def bundled_names() -> list[str]:
    """The names of the traces that come with the package, smallest first."""
    return list(BUNDLED)


def load_workload(name_or_path: str | Path) -> Workload:
    """Return a bundled workload by its name, or one that is read from a CSV file, gzipped or plain.

    Raises: TraceError, a line (or the whole file) is not as it should be; UsageError, there is no such name or file.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise UsageError(f"a workload is a name or a path, not {name_or_path!r}")
    name = str(name_or_path)
    path = Path(name_or_path)
    if name in BUNDLED:
        path = _TRACES / f"{name}.csv.gz"
    elif not path.exists():
        raise UsageError(
            f"no workload {name!r}: the bundled ones are {', '.join(BUNDLED)}; "
            "the path of a trace file is taken too (CSV, gzipped or plain)"
        )
    return read_trace(path, name)
