"""What a bench makes of what cannot be measured, and where its children find the package."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from uring_iopf.errors import UsageError
from uring_iopf.lab import bench
from uring_iopf.lab.bench import VENDORS, Bench
from uring_iopf.lab.processors import two_processors
from uring_iopf.lab.result import Floor
from uring_iopf.reports import bench as report


def failing(error: Exception) -> float:
    raise error


@pytest.mark.parametrize(
    ("measure", "reason"),
    [
        pytest.param(partial(failing, OSError(24, "Too many open files")), "Too many open files", id="no descriptors"),
        pytest.param(partial(failing, MemoryError()), "MemoryError", id="no memory"),
        pytest.param(partial(failing, RuntimeError("no progress for 5 s")), "no progress for 5 s", id="a cell failed"),
        pytest.param(partial(failing, UsageError("not here")), "not here", id="refused"),
        pytest.param(lambda: 0.0, "cannot", id="the host has no such call"),
    ],
)
def test_what_cannot_be_measured_is_missing_with_its_reason(measure: Callable[[], float], reason: str) -> None:
    run = Bench(("one", "other"), ())
    assert run.attempt("one", measure) is None
    assert reason in run.missing["one"]
    assert run.attempt("other", lambda: 2.0) == 2.0
    assert run.attempt("one", lambda: 1.0) is None  # it is not tried again: its side of a ratio would be of one round
    assert run.missing.keys() == {"one"}


def test_ctrl_c_is_not_something_that_cannot_be_measured() -> None:
    def interrupted() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Bench((), ()).attempt("one", interrupted)


def test_children_do_not_import_a_package_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uring_iopf").mkdir()
    (tmp_path / "uring_iopf" / "__init__.py").write_text("raise SystemExit('a checkout that was never built')")
    monkeypatch.chdir(tmp_path)
    imports = bench._imports()
    assert imports["heavy_modules"] == []
    assert imports["help_ms"] > 0
    assert imports["python_ms"] > 0


OVER = {
    "path_vs_bare_rings_1": "path_1 / bare_rings_1",
    "path_vs_bare_rings_16": "path_16 / bare_rings_16",
    "path_vs_bare_rings_64": "path_64 / bare_rings_64",
    "path_vs_handler_64": "path_64 / handler_64",
    "path_enter_64_vs_sqpoll_64": "path_enter_64 / path_64",
    "path_vs_host_fd_64": "path_64 / host_fd_64",
    "path_vs_host_stream_64": "path_64 / host_stream_64",
    "nop_vs_host_1": "nop_1 / host_nop_1",
    "nop_vs_host_8": "nop_8 / host_nop_8",
    "nop_vs_host_64": "nop_64 / host_nop_64",
    "replace_100k_vs_10k": "replace_100k / replace_10k_10",
    "ids_1m_vs_1k": "ids_1m / ids_1k",
}


def test_a_ratio_is_what_its_name_says_and_not_the_other_way_round() -> None:
    names = sorted({name for both in OVER.values() for name in both.split(" / ")} | set(VENDORS.values()))
    primes = (
        2,
        3,
        5,
        7,
        11,
        13,
        17,
        19,
        23,
        29,
        31,
        37,
        41,
        43,
        47,
        53,
        59,
        61,
        67,
        71,
        73,
        79,
        83,
        89,
        97,
        101,
        103,
        107,
    )
    sample = {name: float(prime) for name, prime in zip(names, primes, strict=False)}
    assert len(sample) == len(names)
    run = Bench(tuple(names), (), samples=[sample])
    expected = {}
    vendors = [sample[name] for name in VENDORS.values()]
    if len(vendors) > 1:
        expected["vendor_vs_plain"] = min(vendors) / max(vendors)
    for ratio, both in OVER.items():
        ours, theirs = both.split(" / ")
        expected[ratio] = sample[ours] / sample[theirs]
    assert run.ratios() == expected


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    rounds = [{"path_64": ours, "handler_64": theirs} for ours, theirs in ((1.0, 2.0), (9.0, 3.0), (4.0, 4.0))]
    run = Bench(("path_64", "handler_64"), (), samples=rounds)
    assert run.ratios() == {"path_vs_handler_64": 1.0}
    assert run.medians(["path_64", "handler_64"]) == {"path_64": 4.0, "handler_64": 3.0}


def test_the_floor_is_printed_with_its_units() -> None:
    floor = Floor(200.0, 11_000.0, 120.0, together=0.997, bare_rings_per_s={})
    text = report._text(report.document(Bench((), (), floor=floor), quick=True))
    assert "floor: cache_line 200 ns, eventfd 11.0 us, system_call 120 ns\n" in text
    assert "both processors ran at the same time for 99.7% of the time\n" in text


def test_every_ratio_is_of_rates_that_are_measured() -> None:
    names = {name for name, _ in bench._meters()}
    if two_processors() is None:  # two sides that spin are left out there
        names |= {*(f"bare_rings_{n}" for n in bench.IN_FLIGHT), "host_stream_64"}
    assert {"path_enter_64", "handler_64"} < names
    assert {side for sides in bench.RATIOS.values() for side in sides} <= names | {"batch_64"}
