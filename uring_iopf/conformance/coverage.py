"""The coverage of recorded scripts: the number of each outcome of each operation, and of the hardware's events."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from uring_iopf.conformance.recording import OPERATIONS, Script
from uring_iopf.iommufd import DriverResponse

OK: Final = "0"
"""Stands for success, as in the recordings."""

REPORT, RESPONSE = "report", "response"
"""The hardware's events: a fault reported to the kernel, and a page response to a device."""

_RESPONSES: Final = {int(code): code.name for code in DriverResponse}


@dataclass
class Coverage:
    """Counts of scripts, of steps, and of each outcome of each operation."""

    scripts: int = 0
    named: int = 0
    """Scripts that are scenarios, not random ones."""
    steps: int = 0
    operations: Mapping[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in OPERATIONS})
    """By operation, in the order of the format: how often each errno, `OK` for none. Nothing is left out."""
    hardware: Mapping[str, Counter[str]] = field(default_factory=lambda: {REPORT: Counter(), RESPONSE: Counter()})
    """Results of `REPORT` (an errno, or `OK`) and codes of `RESPONSE` (SUCCESS, INVALID, FAILURE)."""

    def add(self, script: Script) -> None:
        """Count one script, one that `recording.load` has checked."""
        self.scripts += 1
        self.named += not script.name.startswith("random-")
        self.steps += len(script.steps)
        for step in script.steps:
            self.operations[step["op"][0]][step["errno"]] += 1
            for event in step["hw"]:
                if event["ev"] == "report":
                    self.hardware[REPORT][errno_name(-event["ret"])] += 1
                else:
                    self.hardware[RESPONSE][_RESPONSES.get(event["code"], str(event["code"]))] += 1

    def add_all(self, scripts: Iterable[Script]) -> None:
        """Count several scripts."""
        for script in scripts:
            self.add(script)

    def rows(self) -> list[tuple[str, Counter[str]]]:
        """Operations, then what the hardware saw, each with its outcomes."""
        return [*self.operations.items(), *self.hardware.items()]


def errno_name(number: int) -> str:
    """The name of an errno as the recordings have it: `OK` for 0, and EOPNOTSUPP, not ENOTSUP, for 95."""
    if number == 0:
        return OK
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, str(number))


def in_order(outcomes: Counter[str]) -> list[tuple[str, int]]:
    """Outcomes and counts: success first, then by name."""
    return sorted(outcomes.items(), key=lambda item: (item[0] not in (OK, DriverResponse.SUCCESS.name), item[0]))


def shown(outcomes: Counter[str]) -> str:
    """Outcomes and counts in words, as ``0: 50, EBADF: 2``; a dash for none at all."""
    return ", ".join(f"{end}: {count:,}" for end, count in in_order(outcomes)) or "-"
