"""The coverage of recorded scripts: the number of each outcome of each operation, and of the hardware's events."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from uring_iopf.conformance.recording import OPERATIONS, RING_OPERATIONS, Script, operation_of
from uring_iopf.iommufd import DriverResponse

OK: Final = "0"
"""Stands for success, as in the recordings."""

REPORT, RESPONSE = "report", "response"
"""The hardware's events: a fault reported to the kernel, and a page response to a device."""

COMPLETION: Final = "completion"
"""Completions of the rings, by their results."""

_RESPONSES: Final = {int(code): code.name for code in DriverResponse}


@dataclass
class Coverage:
    """Counts of scripts, of steps, and of each outcome of each operation."""

    scripts: int = 0
    named: int = 0
    """Scripts that are scenarios, not random ones."""
    steps: int = 0
    not_compared: int = 0
    """Scripts that vary, among those: they are replayed, and not compared."""
    values: int = 0
    """Recorded values that were compared."""
    operations: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in OPERATIONS})
    """By operation, in the order of the format: how often each errno, `OK` for none. Nothing is left out. Operations of
    rings are there if there is a script with rings."""
    hardware: dict[str, Counter[str]] = field(default_factory=lambda: {REPORT: Counter(), RESPONSE: Counter()})
    """Results of `REPORT` (an errno, or `OK`) and codes of `RESPONSE` (SUCCESS, INVALID, FAILURE)."""

    def add(self, script: Script) -> None:
        """Count one script, one that `recording.load` has checked."""
        self.scripts += 1
        self.named += script.named
        self.not_compared += script.varies
        self.steps += len(script.steps)
        if script.fault_file is not None and COMPLETION not in self.hardware:
            self.operations |= {name: Counter() for name in RING_OPERATIONS}
            self.hardware[COMPLETION] = Counter()
        for step in script.steps:
            self.values += 0 if script.varies else len(step.keys() - {"op"})
            self.operations[operation_of(step["op"])][step["errno"]] += 1
            for cqe in step.get("cqes", []):
                self.hardware[COMPLETION][errno_name(-min(cqe["res"], 0))] += 1
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
        """Operations, then what the hardware saw, then completions, each with its outcomes."""
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
