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
    "threads": Cause(
        "a worker thread runs while a call of the submitter is under way, or beside another one",
        "Linux's scheduler says when; in the replay threads run between calls, one after another",
    ),
    "too late": Cause(
        "a READ that always finds its group gone: -EAGAIN at the 127th wake-up, and in Linux up to four faults later",
        "how often Linux tries it again differs from run to run",
    ),
}

KNOWN_SCRIPTS: Final[Mapping[tuple[str, str], Mapping[str, KnownScript]]] = {
    ("6.12", "merged"): {
        "random-600050": KnownScript("threads", 1),
    },
    ("7.2", "unkeyed"): {
        "a-worker-is-asked-for,flags=0x3000": KnownScript("threads", 4),
        "a-read-that-always-comes-too-late,flags=0x3000": KnownScript("too late", 3),
        "a-read-that-always-comes-too-late,flags=0": KnownScript("too late", 4),
    },
}
"""By kernel and fault file, then by name."""


def known_of(script: Script) -> KnownScript | None:
    """Return what is known of a script, or None."""
    return KNOWN_SCRIPTS.get((str(script.kernel), str(script.fault_file)), {}).get(script.name)
