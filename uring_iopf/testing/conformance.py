"""The suite that every delivery design must pass, for pytest: subclass `DesignConformance`, and set `design`.

.. code-block:: python

    from uring_iopf.testing.conformance import DesignConformance

    class TestMine(DesignConformance):
        design = Mine           # a class, a name, or "MODULE:CLASS"

Each test checks one behaviour. It runs inline, on one thread, and is reproducible. ``uring-iopf check MODULE:CLASS``
runs the same cases without pytest. The cases are in `uring_iopf.testing.design_suite`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from uring_iopf.testing.design_suite import WAITS, DesignSuite, open_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf.machine import Machine


class DesignConformance(DesignSuite):
    """The suite. Subclass it in a test module, and set `design`: a class, a name or ``MODULE:CLASS``."""

    @pytest.fixture(params=WAITS)
    def machine(self, request: pytest.FixtureRequest) -> Iterator[Machine]:
        """A machine with the design open, whose client sleeps, and one whose client spins."""
        with open_machine(self.design, request.param) as machine:
            yield machine

    def skip(self, reason: str) -> NoReturn:
        """Skip a test that does not apply to this design."""
        pytest.skip(reason)
