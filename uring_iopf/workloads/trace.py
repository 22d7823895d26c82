"""Traces: CSV files of page faults, gzipped or plain, read and checked line by line."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import UsageError
from uring_iopf.workloads.workload import ADDRESSES, PAGE, PASIDS, PERMISSIONS, ROW, Workload

if TYPE_CHECKING:
    from pathlib import Path

HEADER: Final = b"time_ns,pasid,thread,address,access"

SHOWN: Final = 60
"""The most characters of a bad value in an error message."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_INSTEAD: Final = "{} -dc FILE | uring-iopf compare --workload -"
_OTHERS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x28\xb5\x2f\xfd", f"a zstd file; try {_INSTEAD.format('zstd')}"),
    (b"\xfd7zXZ\x00", f"an xz file; try {_INSTEAD.format('xz')}"),
    (b"BZh", f"a bzip2 file; try {_INSTEAD.format('bzip2')}"),
    (b"\x04\x22\x4d\x18", f"an lz4 file; try {_INSTEAD.format('lz4')}"),
    (b"PK\x03\x04", "a zip file; unpack it"),
    (b"PERFILE2", "a recording of perf; docs/how-to/own-trace.md explains how to make a trace of it"),
    (b"\xff\xfe", "UTF-16; write it as UTF-8"),
    (b"\xfe\xff", "UTF-16; write it as UTF-8"),
)
"""Other formats, by their first bytes, each with the remedy."""


class TraceError(UsageError):
    """A trace file cannot be read, or a line of it is malformed.

    `file` and `line` (counted from 1; None: the whole file) are the place. `expected` and `found` are the mistake.
    """

    def __init__(self, file: str, line: int | None, expected: str, found: str) -> None:
        where = file if line is None else f"{file}, line {line}"
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.file = file
        self.line = line
        self.expected = expected
        self.found = found


def read_trace(path: Path, name: str) -> Workload:
    """Return the workload of a trace file, with the name *name*. Raises: TraceError, unreadable or malformed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TraceError(name, None, "a file that can be read", f"{error.strerror}") from error
    return parse_trace(content, name)


def parse_trace(content: bytes, name: str) -> Workload:
    """Return the workload of a trace file's content. Raises: TraceError, it is malformed."""
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise TraceError(name, None, "a whole gzip file", f"a damaged one ({error})") from error
    for magic, what in _OTHERS:
        if content.startswith(magic):
            raise TraceError(name, None, "CSV, plain or gzipped", what)
    return Workload(name, _parse(content.removeprefix(_BOM), name))


_ROW: Final = rb"([0-9]{1,19}),([0-9]{1,7}),[0-9]{1,10},0x([0-9a-fA-F]{1,16}),([rwx])"
_ROW_SYNTAX: Final = re.compile(_ROW)

# The same syntax column by column, to explain the mistake in a line that does not match.
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
    while lines and not lines[-1].strip():
        lines.pop()  # editors and spreadsheets leave empty ones behind
    if not lines:
        raise TraceError(name, 1, f"the header {HEADER.decode()}", "an empty file")
    extra = lines[0].removeprefix(HEADER)
    if len(extra) == len(lines[0]) or (extra and not extra.startswith(b",")):
        raise TraceError(name, 1, _header_hint(lines[0]), _quoted(lines[0]))
    if len(lines) == 1:
        raise TraceError(name, 2, "at least one fault", "the end of the file")
    columns = extra.count(b",")
    syntax = re.compile(_ROW + b",[^,]*" * columns) if columns else _ROW_SYNTAX
    match, pack, permissions = syntax.fullmatch, ROW.pack, PERMISSIONS
    rows: list[bytes] = []
    before = 0
    for number, line in enumerate(lines[1:], 2):
        row = match(line)
        if row is None:
            raise TraceError(name, number, *_malformed(line, columns))
        time_text, pasid_text, address_text, access = row.groups()
        time_ns, pasid, address = int(time_text), int(pasid_text), int(address_text, 16)
        if time_ns < before or pasid >= PASIDS or address >= ADDRESSES or address % PAGE:
            raise TraceError(name, number, *_out_of_range(time_ns, pasid, address, before))
        before = time_ns
        rows.append(pack(time_ns, address, pasid, permissions[access]))
    return b"".join(rows)


def _header_hint(line: bytes) -> str:
    """The expectation of the first line, with a hint for frequent mistakes."""
    header = f"the header {HEADER.decode()}"
    if _ROW_SYNTAX.match(line):
        return f"{header} before the first row"
    names = {name.strip().lower() for name in re.split(rb"[,;\t ]", line.replace(b'"', b""))}
    if names >= set(HEADER.split(b",")):
        return f"{header} exactly: with commas, in this order, further columns after these"
    return header


def _malformed(line: bytes, extra: int) -> tuple[str, str]:
    """The expectation and the finding for a line that is no row. *extra*: the number of further columns."""
    values = line.split(b",")
    if len(values) != len(_COLUMNS) + extra:
        further = f" and {extra} more" if extra else ""
        return f"{len(_COLUMNS) + extra} columns ({HEADER.decode()}{further})", _quoted(line)
    for (column, syntax, expected), value in zip(_COLUMNS, values, strict=False):
        if not syntax.fullmatch(value):
            return f"{column} to be {expected}", _quoted(value)
    raise AssertionError("every column is well-formed, but not the line")  # the two syntaxes say the same


def _out_of_range(time_ns: int, pasid: int, address: int, before: int) -> tuple[str, str]:
    """The expectation and the finding for a row with a value out of range."""
    if time_ns < before:
        return f"time_ns to be {before} or more, the time of the line before it", str(time_ns)
    if pasid >= PASIDS:
        return f"pasid to be a whole number below {PASIDS}", str(pasid)
    if address >= ADDRESSES:
        return f"address to be a user address, below {ADDRESSES:#x}", f"{address:#x}"
    return f"address to be a multiple of {PAGE:#x}", f"{address:#x}"


def _quoted(value: bytes) -> str:
    text = value.decode(errors="backslashreplace")
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
