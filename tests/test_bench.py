"""What a bench makes of what cannot be measured, and where its children find the package."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from uring_iopf.errors import UsageError
from uring_iopf.lab import bench
from uring_iopf.lab.bench import Bench
from uring_iopf.lab.processors import two_processors


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
    assert imports["help_ms"] > imports["python_ms"]


def test_every_ratio_is_of_rates_that_are_measured() -> None:
    names = {name for name, _ in bench._meters()}
    if two_processors() is None:  # two sides that spin are left out there
        names |= {*(f"bare_rings_{n}" for n in bench.IN_FLIGHT), "host_stream_64"}
    assert {"path_enter_64", "handler_64"} < names
    assert {side for sides in bench.RATIOS.values() for side in sides} <= names | {"batch_64"}
