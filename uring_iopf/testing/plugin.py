"""The pytest plugin: installed with the package, loaded when a test asks for a fixture of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.lab.result import CellResult


# Failures of the suites show values. The plugin itself is loaded by now, and so is the folder: each suite by its name.
pytest.register_assert_rewrite("uring_iopf.testing.clients", "uring_iopf.testing.conformance")


@pytest.fixture(scope="session")
def compare_designs() -> Callable[..., dict[str, CellResult]]:
    """`uring_iopf.testing.compare.compare_designs`: replay a workload through designs, deterministically.

    The fixture has no state, so its scope is the session, and hypothesis can call it for each example.
    """
    from uring_iopf.testing.compare import compare_designs

    return compare_designs
