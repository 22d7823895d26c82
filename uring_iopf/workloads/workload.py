"""Workloads: the page faults of a program, read from a trace and packed as the endpoint takes them."""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROW: Final = struct.Struct("<QQII")
"""``struct uiopf_access`` of ``cdefs/api.h``: time_ns, address, pasid, access."""

PASIDS: Final = 1 << 20
"""PCIe's PASIDs have 20 bits."""

ADDRESSES: Final = 1 << 47
"""Where user addresses end: the lower canonical half of 48 bits."""

PAGE: Final = 4096

HEADER: Final = b"time_ns,pasid,thread,address,access"

PERMISSIONS: Final[Mapping[bytes, int]] = {b"r": 1, b"w": 2, b"x": 4}
"""A trace's letters as IOMMU_PGFAULT_PERM_READ, _WRITE and _EXEC."""

BUNDLED: Final[Mapping[str, str]] = {
    "gcc-compile": "gcc -O2 on one file of 100 lines",
    "numpy-sort": "NumPy: 20 M random doubles, 4 M gathered by random index, sorted, summed",
    "sqlite-index": "SQLite: 400,000 inserts, an index over them, 20,000 range queries",
    "parallel-sort": "seq, shuf and GNU sort in a pipe, 3 M lines",
    "git-repack": "git: one repository repacked with 2 threads",
}
"""The traces that come with the package, smallest first, and what ran."""

_TRACES: Final = Path(__file__).with_name("traces")
_GZIP_MAGIC: Final = b"\x1f\x8b"
_SHOWN: Final = 60  # characters of a bad value that stand in the message


class TraceError(UsageError):
    """A trace file is not as it should be.

    `file`, `line` (from 1; None when the file as a whole is meant), `expected` and `found` say where and what.
    """

    def __init__(self, file: str, line: int | None, expected: str, found: str) -> None:
        where = file if line is None else f"{file}, line {line}"
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.file = file
        self.line = line
        self.expected = expected
        self.found = found


@dataclass(frozen=True)
class Workload:
    """Page faults in the order in which a program took them.

    *rows*: one ``struct uiopf_access`` of 24 bytes each, little-endian; C takes the buffer as it is. The rows are
    trusted: `load_workload` has checked them.
    """

    name: str
    rows: bytes = field(repr=False)

    def __len__(self) -> int:
        """How many faults."""
        return len(self.rows) // ROW.size

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        """Each fault: time_ns, address, pasid, IOMMU_PGFAULT_PERM_*."""
        return ROW.iter_unpack(self.rows)

    @functools.cached_property
    def pasids(self) -> int:
        """How many entries the PASID table needs: the highest PASID and one."""
        return 1 + max(pasid for _, _, pasid, _ in self)

    @functools.cached_property
    def address_spaces(self) -> int:
        """How many different PASIDs occur."""
        return len({pasid for _, _, pasid, _ in self})

    @functools.cached_property
    def table_pages(self) -> int:
        """How many pages of 4-level tables it takes to map every page: not one more, not one less.

        A root for each PASID that occurs, and a table for each 512 GiB, 1 GiB and 2 MiB of it that is touched.
        """
        lowest = {(pasid, address >> 21) for _, address, pasid, _ in self}
        middle = {(pasid, region >> 9) for pasid, region in lowest}
        upper = {(pasid, region >> 9) for pasid, region in middle}
        return len(lowest) + len(middle) + len(upper) + self.address_spaces

    @functools.cached_property
    def digest(self) -> str:
        """The start of the content's SHA-256, in hex: the same for the same faults, whatever the file was called."""
        return hashlib.sha256(self.rows).hexdigest()[:12]


def bundled_names() -> list[str]:
    """The names of the traces that come with the package, smallest first."""
    return list(BUNDLED)


def load_workload(name_or_path: str | Path) -> Workload:
    """Return a bundled workload by its name, or one that is read from a CSV file, gzipped or plain.

    Raises: TraceError, a line (or the whole file) is not as it should be; UsageError, there is no such name or file.
    """
    name = str(name_or_path)
    path = Path(name_or_path)
    if name in BUNDLED:
        path = _TRACES / f"{name}.csv.gz"
    elif not path.exists():
        raise UsageError(
            f"no workload {name!r}: the bundled ones are {', '.join(BUNDLED)}; "
            "the path of a trace file is taken too (CSV, gzipped or plain)"
        )
    return Workload(name, _parse(_read(path, name), name))


def _read(path: Path, name: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TraceError(name, None, "a file that can be read", f"{error.strerror}") from error
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise TraceError(name, None, "a whole gzip file", f"a damaged one ({error})") from error


_ROW_SYNTAX: Final = re.compile(rb"([0-9]{1,19}),([0-9]{1,7}),[0-9]{1,10},0x([0-9a-fA-F]{1,16}),([rwx])")

# The same, column by column, for saying what is wrong with a line that does not match.
_COLUMNS: Final = (
    ("time_ns", re.compile(rb"[0-9]{1,19}"), "a whole number of at most 19 digits"),
    ("pasid", re.compile(rb"[0-9]{1,7}"), f"a whole number below {PASIDS}"),
    ("thread", re.compile(rb"[0-9]{1,10}"), "a whole number of at most 10 digits"),
    ("address", re.compile(rb"0x[0-9a-fA-F]{1,16}"), "a hexadecimal number with 0x"),
    ("access", re.compile(rb"[rwx]"), "r, w or x"),
)


def _parse(content: bytes, name: str) -> bytes:
    """Return the rows of a CSV text. This is the hot loop of loading: one match a line, no call but pack."""
    lines = content.splitlines()
    if not lines:
        raise TraceError(name, 1, f"the header {HEADER.decode()}", "an empty file")
    if lines[0] != HEADER:
        raise TraceError(name, 1, f"the header {HEADER.decode()}", _quoted(lines[0]))
    if len(lines) == 1:
        raise TraceError(name, 2, "at least one fault", "the end of the file")
    match, pack, permissions = _ROW_SYNTAX.fullmatch, ROW.pack, PERMISSIONS
    rows: list[bytes] = []
    before = 0
    for number, line in enumerate(lines[1:], 2):
        row = match(line)
        if row is None:
            raise TraceError(name, number, *_malformed(line))
        time_text, pasid_text, address_text, access = row.groups()
        time_ns, pasid, address = int(time_text), int(pasid_text), int(address_text, 16)
        if time_ns < before or pasid >= PASIDS or address >= ADDRESSES or address % PAGE:
            raise TraceError(name, number, *_out_of_range(time_ns, pasid, address, before))
        before = time_ns
        rows.append(pack(time_ns, address, pasid, permissions[access]))
    return b"".join(rows)


def _malformed(line: bytes) -> tuple[str, str]:
    """What was expected of a line that is not a row, and what was found."""
    values = line.split(b",")
    if len(values) != len(_COLUMNS):
        return f"{len(_COLUMNS)} columns ({HEADER.decode()})", _quoted(line)
    for (column, syntax, expected), value in zip(_COLUMNS, values, strict=True):
        if not syntax.fullmatch(value):
            return f"{column} to be {expected}", _quoted(value)
    raise AssertionError("every column is well-formed, but not the line")  # the two syntaxes say the same


def _out_of_range(time_ns: int, pasid: int, address: int, before: int) -> tuple[str, str]:
    """What was expected of a row whose values cannot be, and what was found."""
    if time_ns < before:
        return f"time_ns not to go back from {before}", str(time_ns)
    if pasid >= PASIDS:
        return f"pasid to be a whole number below {PASIDS}", str(pasid)
    if address >= ADDRESSES:
        return f"address to be a user address, below {ADDRESSES:#x}", f"{address:#x}"
    return f"address to be a multiple of {PAGE:#x}", f"{address:#x}"


def _quoted(value: bytes) -> str:
    text = value.decode(errors="backslashreplace")
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
