"""Traces: what is read, what is refused and how, and that C takes the result as it is."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from uring_iopf._core import ffi, lib
from uring_iopf.errors import UsageError
from uring_iopf.workloads import BUNDLED, TraceError, Workload, bundled_names, load_workload

HEADER = b"time_ns,pasid,thread,address,access\n"
GOOD = HEADER + b"0,1,0,0x7f1824615000,x\n4000,1,3,0x1000,w\n4000,3,0,0x7ffffffff000,r\n"


def saved(folder: Path, content: bytes, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_trace_is_read_in_its_order(tmp_path: Path) -> None:
    workload = load_workload(saved(tmp_path, GOOD))
    assert list(workload) == [(0, 0x7F1824615000, 1, 4), (4000, 0x1000, 1, 2), (4000, 0x7FFFFFFFF000, 3, 1)]
    assert len(workload) == 3
    assert workload.pasids == 4
    assert workload.address_spaces == 2


def test_a_workload_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, GOOD)
    assert load_workload(str(path)).name == str(path)
    assert load_workload("numpy-sort").name == "numpy-sort"


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(GOOD),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.removesuffix(b"\n"),
        GOOD.replace(b"0x7f1824615000", b"0x00007F1824615000"),
        b"\xef\xbb\xbf" + GOOD,
        GOOD + b"\n \n\n",
        GOOD.replace(b"\n", b"\r\n") + b"\r\n\r\n",
        GOOD.replace(b"access", b"access,comm,ip")
        .replace(b",x\n", b",x,gcc,0x1\n")
        .replace(b",w\n", b",w,,\n")
        .replace(b",r\n", b",r,a b,\xff\n"),
        b"".join(line + b",\n" for line in GOOD.splitlines()),
    ],
    ids=[
        "gzipped, whatever its name",
        "lines that end as on Windows",
        "no newline at the end",
        "upper-case, padded",
        "a byte order mark",
        "blank last lines",
        "blank last lines of Windows",
        "further columns",
        "a further column, empty",
    ],
)
def test_the_same_faults_are_the_same_workload(content: bytes, tmp_path: Path) -> None:
    plain = load_workload(saved(tmp_path, GOOD, "plain.csv"))
    other = load_workload(saved(tmp_path, content, "other.csv"))
    assert other.rows == plain.rows
    assert other.digest == plain.digest == hashlib.sha256(plain.rows).hexdigest()[:12]


@pytest.mark.parametrize(
    ("line", "expected", "found"),
    [
        (b"", "5 columns (time_ns,pasid,thread,address,access)", "''"),
        (b"5000,1,0,0x1000", "5 columns (time_ns,pasid,thread,address,access)", "'5000,1,0,0x1000'"),
        (b"5000,1,0,0x1000,r,", "5 columns (time_ns,pasid,thread,address,access)", "'5000,1,0,0x1000,r,'"),
        (b"5e3,1,0,0x1000,r", "time_ns to be a whole number of at most 19 digits", "'5e3'"),
        (b"-1,1,0,0x1000,r", "time_ns to be a whole number of at most 19 digits", "'-1'"),
        (b"9" * 5000 + b",1,0,0x1000,r", "time_ns to be a whole number of at most 19 digits", f"'{'9' * 60}...'"),
        (b"3999,1,0,0x1000,r", "time_ns to be 4000 or more, the time of the line before it", "3999"),
        (b"5000,,0,0x1000,r", "pasid to be a whole number below 1048576", "''"),
        (b"5000,1048576,0,0x1000,r", "pasid to be a whole number below 1048576", "1048576"),
        (b"5000,12345678,0,0x1000,r", "pasid to be a whole number below 1048576", "'12345678'"),
        (b"5000,1,main,0x1000,r", "thread to be a whole number of at most 10 digits", "'main'"),
        (b"5000,1,0,4096,r", "address to be a hexadecimal number with 0x", "'4096'"),
        (b"5000,1,0,0x1_000,r", "address to be a hexadecimal number with 0x", "'0x1_000'"),
        (b"5000,1,0,0x1008,r", "address to be a multiple of 0x1000", "0x1008"),
        (b"5000,1,0,0x800000000000,r", "address to be a user address, below 0x800000000000", "0x800000000000"),
        (b"5000,1,0,0xffffffff81000000,r", "address to be a user address, below 0x800000000000", "0xffffffff81000000"),
        (b"5000,1,0,0x1000,rw", "access to be r, w or x", "'rw'"),
        (b"5000,1,0,0x1000, r", "access to be r, w or x", "' r'"),
        (b"5000,1,0,0x1000,\xff", "access to be r, w or x", r"'\\xff'"),
    ],
    ids=lambda value: value[:32].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_a_bad_line_is_refused_with_its_place(line: bytes, expected: str, found: str, tmp_path: Path) -> None:
    path = saved(tmp_path, GOOD + line + b"\n6000,1,0,0x1000,r\n")
    with pytest.raises(TraceError) as refused:
        load_workload(path)
    error = refused.value
    assert (error.file, error.line, error.expected, error.found) == (str(path), 5, expected, found)
    assert str(error) == f"{path}, line 5: expected {expected}, found {found}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ", line 1: expected the header time_ns,pasid,thread,address,access, found an empty file"),
        (b"0,1,0,0x1000,r\n", ", line 1: expected the header .*, found '0,1,0,0x1000,r'"),
        (HEADER, ", line 2: expected at least one fault, found the end of the file"),
        (gzip.compress(b""), ", line 1: expected the header .*, found an empty file"),
        (gzip.compress(GOOD)[:-9], ": expected a whole gzip file, found a damaged one"),
        (gzip.compress(GOOD)[:20] + b"?" * 40, ": expected a whole gzip file, found a damaged one"),
        (b"\x1f\x8bno", ": expected a whole gzip file, found a damaged one"),
        (b"0,1,0,0x1000,r\n", ", line 1: expected the header .* before the first row, found "),
        (GOOD.replace(b",", b";"), ", line 1: expected the header .* exactly: with commas, in this order, .*, found "),
        (GOOD.replace(b"time_ns,pasid", b"pasid,time_ns"), ", line 1: expected the header .* exactly: "),
        (GOOD.replace(b"time_ns", b"Time_ns"), ", line 1: expected the header .* exactly: "),
        (GOOD.replace(b"access", b"accessed"), ", line 1: expected the header [a-z_,]+, found "),
        (b"\n" + GOOD, ", line 1: expected the header [a-z_,]+, found ''"),
        (b"\n\n", ", line 1: expected the header [a-z_,]+, found an empty file"),
        (GOOD.replace(b"access", b"access,comm"), ", line 2: expected 6 columns .*access and 1 more.*, found "),
        (GOOD.decode().encode("utf-16"), ": expected CSV, plain or gzipped, found UTF-16; write it as UTF-8"),
        (b"\x28\xb5\x2f\xfd123", ": expected CSV, plain or gzipped, found a zstd file; try zstd -dc FILE | uring-iopf"),
        (
            lzma.compress(GOOD),
            ": expected CSV, plain or gzipped, found an xz file; try xz -dc FILE | uring-iopf compare",
        ),
        (bz2.compress(GOOD), ": expected CSV, plain or gzipped, found a bzip2 file; try bzip2 -dc FILE | uring-iopf"),
        (b"PK\x03\x04...", ": expected CSV, plain or gzipped, found a zip file; unpack it"),
        (b"PERFILE2....", ": expected CSV, plain or gzipped, found a recording of perf; docs/how-to/own-trace.md"),
    ],
    ids=[
        *("empty", "no header", "only a header", "gzipped nothing", "cut short", "overwritten", "hardly gzip"),
        *(
            "a row first",
            "semicolons",
            "another order",
            "a capital",
            "another name",
            "a blank line first",
            "blank lines",
        ),
        *("too few values", "UTF-16", "zstd", "xz", "bzip2", "zip", "perf.data"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(TraceError, match=re.escape(str(path)) + message):
        load_workload(path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="expected a file that can be read, found Is a directory"):
        load_workload(tmp_path)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "/" + "a/" * 3000, "\0", "a\0b", "\udcff", "", "/proc/self/mem", "\n", "~"], ids=ascii
)
def test_an_odd_name_is_refused_as_any_other(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_workload(name)
    assert len(str(refused.value)) < 400


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(content: bytes) -> SimpleNamespace:
        return SimpleNamespace(buffer=io.BytesIO(content))

    for content in (GOOD, gzip.compress(GOOD)):
        monkeypatch.setattr("sys.stdin", given(content))
        workload = load_workload("-")
        assert (workload.name, len(workload)) == ("standard input", 3)
    monkeypatch.setattr("sys.stdin", given(b""))
    with pytest.raises(TraceError, match="standard input, line 1: expected the header"):
        load_workload("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(TraceError, match="standard input: expected a stream that can be read"):
        load_workload("-")


RECORDED_BY_PERF = """\
  557/557   33166.211290601: exceptions:page_fault_user: address=0x7f6e5f5aee06 ip=0x7f6e5f5967ad error_code=0x6
  558/558   33166.211285896: exceptions:page_fault_user: address=0x7f6e5f595b70 ip=0x7f6e5f595b70 error_code=0x14
  557/560   33166.211296843: exceptions:page_fault_user: address=0x7f6e5f57bd40 ip=0x7f6e5f596a13 error_code=0x4
  557/557   33166.211298176: exceptions:page_fault_user: address=0xffffffffff600000 ip=0x7f6e5f596a07 error_code=0x5
"""
RECORDED_BY_BPFTRACE = """\
Attaching 1 probe...
33166211290601 557 557 0x7f6e5f5aee06 0x6
33166211285896 558 558 0x7f6e5f595b70 0x14
33166211296843 557 560 0x7f6e5f57bd40 0x4
33166211298176 557 557 0xffffffffff600000 0x5

"""


@pytest.mark.parametrize("recorded", [RECORDED_BY_PERF, RECORDED_BY_BPFTRACE], ids=["perf", "bpftrace"])
def test_what_was_recorded_becomes_a_trace(recorded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Path(__file__).parent.parent / "docs" / "examples" / "faults_to_trace.py"
    done = subprocess.run([sys.executable, str(program)], input=recorded, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "time_ns,pasid,thread,address,access\n"
        "0,1,0,0x7f6e5f595000,x\n"
        "4705,2,0,0x7f6e5f5ae000,w\n"
        "10947,2,1,0x7f6e5f57b000,r\n"
    )
    assert done.stderr == f"{1 if recorded is RECORDED_BY_PERF else 3} other lines were left out\n"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(done.stdout.encode())))
    assert len(load_workload("-")) == 3


def test_a_recording_without_a_fault_is_refused() -> None:
    """As perf prints it without ``--ns``: it became a trace without faults, in silence."""
    program = Path(__file__).parent.parent / "docs" / "examples" / "faults_to_trace.py"
    recorded = RECORDED_BY_PERF.replace("601:", ":").replace("896:", ":").replace("843:", ":").replace("176:", ":")
    done = subprocess.run([sys.executable, str(program)], input=recorded, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("none of 4 lines is a page fault; ")


def test_an_unknown_name_lists_the_bundled_ones_and_mentions_paths() -> None:
    with pytest.raises(UsageError) as refused:
        load_workload("gcc")
    assert str(refused.value).startswith(
        "there is no workload or file 'gcc'; give a bundled workload (gcc-compile, numpy-sort, "
    )
    assert "the path of a trace" in str(refused.value)


def test_a_bundled_name_is_not_looked_for_among_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, GOOD, "gcc-compile")
    monkeypatch.chdir(tmp_path)
    assert len(load_workload("gcc-compile")) == 5075
    assert len(load_workload("./gcc-compile")) == 3


@pytest.mark.parametrize(
    ("name", "faults", "address_spaces", "table_pages", "digest"),
    [
        ("gcc-compile", 5075, 5, 89, "de4addd3c6b1"),
        ("numpy-sort", 6031, 1, 229, "07d86e2542ce"),
        ("sqlite-index", 10816, 41, 927, "ee814c4efab5"),
        ("parallel-sort", 12228, 5, 125, "9b77550f6da3"),
        ("git-repack", 55013, 8, 267, "dcf7fdaf9a53"),
    ],
)
def test_the_bundled_traces_are_what_they_were(
    name: str, faults: int, address_spaces: int, table_pages: int, digest: str
) -> None:
    workload = load_workload(name)
    assert len(workload) == faults
    assert workload.address_spaces == address_spaces
    assert workload.table_pages == table_pages
    assert workload.digest == digest


def test_every_trace_in_the_package_has_a_name_and_a_line_in_its_readme() -> None:
    import uring_iopf.workloads

    folder = Path(uring_iopf.workloads.__file__).parent / "traces"
    assert sorted(path.name.removesuffix(".csv.gz") for path in folder.glob("*.csv.gz")) == sorted(bundled_names())
    readme = folder / "README.md"
    if readme.exists():  # it is not installed
        for name in BUNDLED:
            workload = load_workload(name)
            line = next(line for line in readme.read_text().splitlines() if line.startswith(f"| `{name}`"))
            assert line.endswith(f"| {len(workload):,} | {workload.address_spaces} |")


def test_a_row_of_a_trace_takes_four_calls() -> None:
    """So that 55,013 of them load in a moment, however busy the machine is. More in a row are seen here."""
    begun: Counter[str] = Counter()
    profile = sys.getprofile()
    sys.setprofile(lambda _frame, event, _argument: begun.update([event]))
    try:
        workload = load_workload("git-repack")
    finally:
        sys.setprofile(profile)
    assert len(workload) == 55_013
    assert begun["call"] + begun["c_call"] < 4 * len(workload) + 5_000


def test_c_reads_the_rows_as_they_are(tmp_path: Path) -> None:
    workload = load_workload(saved(tmp_path, GOOD))
    rows = ffi.from_buffer("struct uiopf_access[]", workload.rows)
    assert len(rows) == len(workload)
    assert [(row.time_ns, row.address, row.pasid, row.access) for row in rows] == list(workload)


@pytest.mark.parametrize("name", bundled_names())
@pytest.mark.parametrize("spare", [0, -1], ids=["so many pages", "one page less"])
def test_table_pages_is_exactly_what_mapping_everything_takes(name: str, spare: int) -> None:
    workload = load_workload(name)
    space = lib.uiopf_space_new(workload.pasids, workload.table_pages + spare)
    assert space
    try:
        fitted = all(lib.uiopf_space_map(space, pasid, address, access) == 0 for _, address, pasid, access in workload)
    finally:
        lib.uiopf_space_free(space)
    assert fitted == (spare == 0)


def test_tables_are_counted_at_each_level_and_for_each_pasid(tmp_path: Path) -> None:
    def pages(*rows: bytes) -> int:
        return load_workload(saved(tmp_path, HEADER + b"\n".join(rows))).table_pages

    first = b"0,1,0,0x0,r"
    assert pages(first) == 4
    assert pages(first, first) == 4
    assert pages(first, b"0,1,0,0x1ff000,r") == 4
    assert pages(first, b"0,1,0,0x200000,r") == 5
    assert pages(first, b"0,1,0,0x40000000,r") == 6
    assert pages(first, b"0,1,0,0x8000000000,r") == 7
    assert pages(first, b"0,0,0,0x0,r") == 8


def test_a_workload_prints_without_its_rows() -> None:
    assert repr(Workload("tiny", bytes(24))) == "Workload(name='tiny')"
