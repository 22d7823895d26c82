"""The pytest plugin: installed with the package, loaded when a test asks for a fixture of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.lab.result import CellResult


@pytest.fixture
def compare_designs() -> Callable[..., dict[str, CellResult]]:
    """`uring_iopf.testing.compare.compare_designs`: replay a workload through designs, deterministically."""
    from uring_iopf.testing.compare import compare_designs

    return compare_designs
