"""Recorded scripts with rings in which the emulator is known to differ from the kernel, each with its cause.

`uring-iopf conformance golden` counts such a script apart, if as many values differ as are listed here. A script that
differs otherwise, or no longer, is a difference. The conformance page has the causes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.conformance.recording import Script


@dataclass(frozen=True)
class Cause:
    """Why scripts differ."""

    difference: str
    reason: str


@dataclass(frozen=True)
class KnownScript:
    """A script that differs."""

    cause: str
    """A key of `CAUSES`."""
    values: int
    """The number of values that differ."""


CAUSES: Final[Mapping[str, Cause]] = {
    "open": Cause("when task work runs and in which order, and which request a cancel finds", "not there yet"),
    "worker": Cause(
        "a request on a blocking file that a worker thread has completes at once",
        "7.2 starts the thread when the submitter's time is over, and the emulator has no such time",
    ),
}

KNOWN_SCRIPTS: Final[Mapping[tuple[str, str], Mapping[str, KnownScript]]] = {
    ("6.12", "merged"): {
        "drain-behind-a-read,flags=0x3000": KnownScript("open", 4),
        "random-600019": KnownScript("open", 1),
        "random-600050": KnownScript("open", 1),
    },
    ("7.2", "merged"): {
        "a-read-posted-ahead-waits-for-a-fault,flags=0,nonblock=False": KnownScript("worker", 4),
        "a-read-finds-a-fault-at-once,flags=0,nonblock=False": KnownScript("worker", 4),
        "several-reads-posted-ahead,flags=0,nonblock=False": KnownScript("worker", 4),
        "multishot-round-trips,flags=0x3000,nonblock=False": KnownScript("open", 4),
        "multishot-round-trips,flags=0,nonblock=False": KnownScript("worker", 4),
        "multishot-runs-out-of-buffers,flags=0,nonblock=False": KnownScript("worker", 2),
        "answers-good-and-bad,flags=0,nonblock=False": KnownScript("worker", 9),
        "cancels,flags=0,nonblock=False": KnownScript("worker", 4),
        "polls,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "polls,flags=0,nonblock=False": KnownScript("worker", 4),
        "an-answer-linked-to-a-read,flags=0,nonblock=False": KnownScript("worker", 16),
        "a-multishot-behind-a-poll,flags=0x3000,nonblock=False": KnownScript("open", 4),
        "a-multishot-behind-a-poll,flags=0,nonblock=False": KnownScript("worker", 4),
        "drain-behind-a-read,flags=0x3000": KnownScript("open", 6),
        "drain-behind-a-read,flags=0": KnownScript("open", 2),
        "random-600001": KnownScript("open", 4),
        "random-600007": KnownScript("open", 2),
        "random-600010": KnownScript("worker", 4),
        "random-600016": KnownScript("open", 4),
        "random-600019": KnownScript("open", 1),
        "random-600023": KnownScript("open", 6),
        "random-600029": KnownScript("open", 4),
        "random-600036": KnownScript("open", 4),
        "random-600041": KnownScript("worker", 4),
        "random-600043": KnownScript("worker", 4),
    },
    ("7.2", "keyed"): {
        "two-rings-on-one-file,flags=0": KnownScript("open", 8),
        "two-rings-with-multishots,flags=0": KnownScript("open", 16),
        "random-152": KnownScript("open", 5),
    },
    ("7.2", "unkeyed"): {
        "a-read-that-always-comes-too-late,flags=0x3000": KnownScript("open", 3),
        "a-read-that-always-comes-too-late,flags=0": KnownScript("open", 4),
        "drain-behind-a-read,flags=0x3000": KnownScript("open", 2),
        "drain-behind-a-read,flags=0": KnownScript("open", 2),
        "two-rings-on-one-file,flags=0": KnownScript("open", 8),
        "two-rings-with-multishots,flags=0": KnownScript("open", 16),
        "random-152": KnownScript("open", 6),
    },
}
"""By kernel and fault file, then by name."""


def known_of(script: Script) -> KnownScript | None:
    """Return what is known of a script, or None."""
    return KNOWN_SCRIPTS.get((str(script.kernel), str(script.fault_file)), {}).get(script.name)
