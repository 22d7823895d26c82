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
        "a-read-posted-ahead-waits-for-a-fault,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "a-read-finds-a-fault-at-once,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "several-reads-posted-ahead,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "reads-that-are-refused,flags=0x3000": KnownScript("open", 1),
        "reads-that-are-refused,flags=0": KnownScript("open", 1),
        "reads-that-are-refused,flags=0x3000,nonblock=False": KnownScript("open", 8),
        "reads-that-are-refused,flags=0,nonblock=False": KnownScript("open", 2),
        "multishot-round-trips,flags=0x3000,nonblock=False": KnownScript("open", 12),
        "multishot-runs-out-of-buffers,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "answers-good-and-bad,flags=0x3000,nonblock=False": KnownScript("open", 9),
        "cancels,flags=0x3000,nonblock=False": KnownScript("open", 6),
        "cancels,flags=0,nonblock=False": KnownScript("open", 1),
        "polls,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "an-answer-linked-to-a-read,flags=0x3000,nonblock=False": KnownScript("open", 20),
        "a-multishot-behind-a-poll,flags=0x3000,nonblock=False": KnownScript("open", 12),
        "drain-behind-a-read,flags=0x3000": KnownScript("open", 4),
        "close-with-reads-posted,flags=0x3000,nonblock=False": KnownScript("open", 4),
        "a-worker-is-asked-for-a-multishot,flags=0x3000": KnownScript("open", 10),
        "a-worker-is-asked-for-a-multishot,flags=0": KnownScript("open", 10),
        "random-600001": KnownScript("open", 14),
        "random-600006": KnownScript("open", 1),
        "random-600007": KnownScript("open", 6),
        "random-600012": KnownScript("open", 15),
        "random-600015": KnownScript("open", 31),
        "random-600016": KnownScript("open", 25),
        "random-600019": KnownScript("open", 1),
        "random-600023": KnownScript("open", 27),
        "random-600025": KnownScript("open", 4),
        "random-600027": KnownScript("open", 7),
        "random-600028": KnownScript("open", 4),
        "random-600029": KnownScript("open", 12),
        "random-600032": KnownScript("open", 22),
        "random-600034": KnownScript("open", 2),
        "random-600036": KnownScript("open", 3),
        "random-600037": KnownScript("open", 26),
        "random-600038": KnownScript("open", 19),
        "random-600039": KnownScript("open", 2),
        "random-600040": KnownScript("open", 17),
        "random-600046": KnownScript("open", 16),
        "random-600047": KnownScript("open", 1),
        "random-600048": KnownScript("open", 5),
        "random-600050": KnownScript("open", 9),
        "random-600052": KnownScript("open", 28),
        "random-600054": KnownScript("open", 2),
        "random-600055": KnownScript("open", 10),
        "random-600057": KnownScript("open", 7),
        "random-600060": KnownScript("open", 1),
    },
    ("7.2", "merged"): {
        "a-read-posted-ahead-waits-for-a-fault,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "a-read-posted-ahead-waits-for-a-fault,flags=0,nonblock=False": KnownScript("worker", 4),
        "a-read-finds-a-fault-at-once,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "a-read-finds-a-fault-at-once,flags=0,nonblock=False": KnownScript("worker", 4),
        "several-reads-posted-ahead,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "several-reads-posted-ahead,flags=0,nonblock=False": KnownScript("worker", 4),
        "reads-that-are-refused,flags=0x3000": KnownScript("open", 1),
        "reads-that-are-refused,flags=0": KnownScript("open", 1),
        "reads-that-are-refused,flags=0x3000,nonblock=False": KnownScript("open", 8),
        "reads-that-are-refused,flags=0,nonblock=False": KnownScript("open", 2),
        "multishot-round-trips,flags=0x3000,nonblock=False": KnownScript("open", 11),
        "multishot-round-trips,flags=0,nonblock=False": KnownScript("worker", 4),
        "multishot-runs-out-of-buffers,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "multishot-runs-out-of-buffers,flags=0,nonblock=False": KnownScript("worker", 2),
        "answers-good-and-bad,flags=0x3000,nonblock=False": KnownScript("open", 9),
        "answers-good-and-bad,flags=0,nonblock=False": KnownScript("worker", 9),
        "cancels,flags=0x3000,nonblock=False": KnownScript("open", 6),
        "cancels,flags=0,nonblock=False": KnownScript("worker", 4),
        "polls,flags=0x3000,nonblock=False": KnownScript("open", 2),
        "polls,flags=0,nonblock=False": KnownScript("worker", 4),
        "an-answer-linked-to-a-read,flags=0x3000": KnownScript("open", 4),
        "an-answer-linked-to-a-read,flags=0x3000,nonblock=False": KnownScript("open", 20),
        "an-answer-linked-to-a-read,flags=0,nonblock=False": KnownScript("worker", 16),
        "a-multishot-behind-a-poll,flags=0x3000": KnownScript("open", 4),
        "a-multishot-behind-a-poll,flags=0x3000,nonblock=False": KnownScript("open", 14),
        "a-multishot-behind-a-poll,flags=0,nonblock=False": KnownScript("worker", 4),
        "drain-behind-a-read,flags=0x3000": KnownScript("open", 6),
        "drain-behind-a-read,flags=0": KnownScript("open", 2),
        "close-with-reads-posted,flags=0x3000,nonblock=False": KnownScript("open", 4),
        "a-worker-is-asked-for-a-multishot,flags=0x3000": KnownScript("open", 10),
        "a-worker-is-asked-for-a-multishot,flags=0": KnownScript("open", 10),
        "random-600001": KnownScript("open", 16),
        "random-600007": KnownScript("open", 6),
        "random-600010": KnownScript("worker", 6),
        "random-600012": KnownScript("open", 15),
        "random-600015": KnownScript("open", 31),
        "random-600016": KnownScript("open", 25),
        "random-600019": KnownScript("open", 1),
        "random-600023": KnownScript("open", 27),
        "random-600029": KnownScript("open", 15),
        "random-600032": KnownScript("open", 22),
        "random-600033": KnownScript("open", 4),
        "random-600036": KnownScript("open", 5),
        "random-600037": KnownScript("open", 26),
        "random-600041": KnownScript("worker", 4),
        "random-600043": KnownScript("worker", 4),
        "random-600046": KnownScript("open", 18),
        "random-600047": KnownScript("open", 1),
        "random-600055": KnownScript("open", 10),
        "random-600060": KnownScript("open", 1),
    },
    ("7.2", "keyed"): {
        "reads-that-are-refused,flags=0x3000": KnownScript("open", 1),
        "reads-that-are-refused,flags=0": KnownScript("open", 1),
        "reads-that-are-refused,flags=0x3000,nonblock=False": KnownScript("open", 1),
        "reads-that-are-refused,flags=0,nonblock=False": KnownScript("open", 1),
        "an-answer-linked-to-a-read,flags=0x3000": KnownScript("open", 4),
        "an-answer-linked-to-a-read,flags=0x3000,nonblock=False": KnownScript("open", 4),
        "a-cancel-by-file-after-a-read-came-too-late,flags=0x3000": KnownScript("open", 4),
        "a-cancel-by-file-after-a-read-came-too-late,flags=0": KnownScript("open", 4),
        "two-queues-called-in-the-order-of-arrival,flags=0x3000,devices=2,queues=2": KnownScript("open", 1),
        "a-group-taken-away-before-it-is-looked-at,flags=0x3000,queues=2": KnownScript("open", 4),
        "two-rings-on-one-file,flags=0": KnownScript("open", 8),
        "two-rings-with-multishots,flags=0": KnownScript("open", 16),
        "events-are-asked-for-or-not,flags=0x3200": KnownScript("open", 2),
        "random-12": KnownScript("open", 2),
        "random-24": KnownScript("open", 1),
        "random-26": KnownScript("open", 3),
        "random-30": KnownScript("open", 2),
        "random-40": KnownScript("open", 3),
        "random-52": KnownScript("open", 4),
        "random-54": KnownScript("open", 4),
        "random-56": KnownScript("open", 1),
        "random-58": KnownScript("open", 4),
        "random-88": KnownScript("open", 1),
        "random-106": KnownScript("open", 1),
        "random-108": KnownScript("open", 4),
        "random-114": KnownScript("open", 1),
        "random-116": KnownScript("open", 2),
        "random-124": KnownScript("open", 1),
        "random-126": KnownScript("open", 1),
        "random-136": KnownScript("open", 1),
        "random-144": KnownScript("open", 1),
        "random-152": KnownScript("open", 5),
    },
    ("7.2", "unkeyed"): {
        "reads-that-are-refused,flags=0x3000": KnownScript("open", 1),
        "reads-that-are-refused,flags=0": KnownScript("open", 1),
        "reads-that-are-refused,flags=0x3000,nonblock=False": KnownScript("open", 1),
        "reads-that-are-refused,flags=0,nonblock=False": KnownScript("open", 1),
        "an-answer-linked-to-a-read,flags=0x3000": KnownScript("open", 4),
        "an-answer-linked-to-a-read,flags=0x3000,nonblock=False": KnownScript("open", 4),
        "a-read-that-always-comes-too-late,flags=0x3000": KnownScript("open", 3),
        "a-read-that-always-comes-too-late,flags=0": KnownScript("open", 4),
        "a-cancel-by-file-after-a-read-came-too-late,flags=0x3000": KnownScript("open", 4),
        "a-cancel-by-file-after-a-read-came-too-late,flags=0": KnownScript("open", 4),
        "two-queues-called-in-the-order-of-arrival,flags=0x3000,devices=2,queues=2": KnownScript("open", 1),
        "a-group-taken-away-before-it-is-looked-at,flags=0x3000,queues=2": KnownScript("open", 2),
        "drain-behind-a-read,flags=0x3000": KnownScript("open", 2),
        "drain-behind-a-read,flags=0": KnownScript("open", 2),
        "two-rings-on-one-file,flags=0": KnownScript("open", 8),
        "two-rings-with-multishots,flags=0": KnownScript("open", 16),
        "events-are-asked-for-or-not,flags=0x3200": KnownScript("open", 2),
        "random-12": KnownScript("open", 2),
        "random-24": KnownScript("open", 1),
        "random-26": KnownScript("open", 3),
        "random-30": KnownScript("open", 2),
        "random-40": KnownScript("open", 3),
        "random-52": KnownScript("open", 4),
        "random-54": KnownScript("open", 4),
        "random-56": KnownScript("open", 1),
        "random-88": KnownScript("open", 1),
        "random-106": KnownScript("open", 1),
        "random-108": KnownScript("open", 4),
        "random-114": KnownScript("open", 1),
        "random-116": KnownScript("open", 2),
        "random-124": KnownScript("open", 1),
        "random-126": KnownScript("open", 1),
        "random-136": KnownScript("open", 1),
        "random-144": KnownScript("open", 1),
        "random-152": KnownScript("open", 6),
    },
}
"""By kernel and fault file, then by name."""


def known_of(script: Script) -> KnownScript | None:
    """Return what is known of a script, or None."""
    return KNOWN_SCRIPTS.get((str(script.kernel), str(script.fault_file)), {}).get(script.name)
