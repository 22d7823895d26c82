"""The table: one program for each thing that Linux is known to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.rings.cases import (
    buffers,
    calls,
    files,
    messages,
    multishots,
    nops,
    operations,
    polls,
    resources,
    submission,
)

if TYPE_CHECKING:
    from tests.rings.language import Case

CASES: Final[tuple[Case, ...]] = (
    *calls.CASES,
    *submission.CASES,
    *nops.CASES,
    *polls.CASES,
    *operations.CASES,
    *messages.CASES,
    *files.CASES,
    *buffers.CASES,
    *multishots.CASES,
    *resources.CASES,
)
