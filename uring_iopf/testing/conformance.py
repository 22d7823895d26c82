"""What every delivery design must do, as tests: subclass `DesignConformance` and name the design.

.. code-block:: python

    from uring_iopf.testing.conformance import DesignConformance

    class TestMine(DesignConformance):
        design = Mine           # a class, a name, or "MODULE:CLASS"

Each test is one behaviour; each runs inline, on one thread, and leaves nothing to chance. Without pytest:
``uring-iopf check MODULE:CLASS``. The cases are in `uring_iopf.testing.design_suite`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from uring_iopf.testing.design_suite import WAITS, DesignSuite, open_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf.machine import Machine


class DesignConformance(DesignSuite):
    """Subclass it in a test module, with `design` set."""

    @pytest.fixture(params=WAITS)
    def machine(self, request: pytest.FixtureRequest) -> Iterator[Machine]:
        """A machine with the design open, whose client sleeps, and one whose client spins."""
        with open_machine(self.design, request.param) as machine:
            yield machine

    def skip(self, reason: str) -> NoReturn:
        """Pass over a test that says nothing of this design."""
        pytest.skip(reason)
