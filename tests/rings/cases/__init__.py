"""The table: one program for each thing that Linux is known to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.rings.cases import buffers, calls, chains, files, operations, resources, submission, times

if TYPE_CHECKING:
    from tests.rings.language import Case

CASES: Final[tuple[Case, ...]] = (
    *calls.CASES,
    *submission.CASES,
    *chains.CASES,
    *operations.CASES,
    *times.CASES,
    *files.CASES,
    *buffers.CASES,
    *resources.CASES,
)
