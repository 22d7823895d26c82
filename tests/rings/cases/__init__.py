"""The table: one program for each thing that Linux is known to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.rings.cases import (
    buffers,
    calls,
    cancels,
    chains,
    ends,
    feeding,
    files,
    messages,
    multishots,
    nops,
    polls,
    registered_buffers,
    registered_files,
    resizing,
    restrictions,
    ring_files,
    selected,
    submission,
    threads,
    times,
    waitall,
    workers,
)

if TYPE_CHECKING:
    from tests.rings.language import Case

CASES: Final[tuple[Case, ...]] = (
    *calls.CASES,
    *submission.CASES,
    *nops.CASES,
    *chains.CASES,
    *polls.CASES,
    *cancels.CASES,
    *times.CASES,
    *messages.CASES,
    *files.CASES,
    *buffers.CASES,
    *multishots.CASES,
    *ends.CASES,
    *waitall.CASES,
    *workers.CASES,
    *selected.CASES,
    *feeding.CASES,
    *registered_files.CASES,
    *registered_buffers.CASES,
    *restrictions.CASES,
    *resizing.CASES,
    *ring_files.CASES,
    *threads.CASES,
)
