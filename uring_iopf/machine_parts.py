"""What a machine is made of, as data: `Machine`, comparisons, cells, the commands and the test fixture all take it.

The defaults, the limits and what each part means stand here, once. It loads no compiled code, so that a command can
refuse a mistake at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Unpack

    from uring_iopf.hardware.load import Load
    from uring_iopf.workloads import Workload

DRIVERS: Final = ("inline", "enter", "sqpoll")
WAITS: Final = ("spin", "sleep")
DEFAULT_WORKLOAD: Final = "gcc-compile"
MOST_IN_FLIGHT: Final = 512
"""PRG indices of a PCI function: groups that can be outstanding at once."""
MOST_IN_GROUP: Final = 32
"""Pages in one page request group."""


class MachineOptions(TypedDict, total=False):
    """The parts besides the workload, for calls that take them by name; `MachineParts` says what they are."""

    kernel: str
    driver: str
    wait: str
    in_flight: int
    group: int
    seed: int
    load: Load | None
    live: bool | None
    cpu: int
    report_flags: int


@dataclass(frozen=True)
class MachineParts:
    """What a `Machine` is made of. Raises: UsageError, a part that cannot be."""

    workload: Workload | None = None
    """What the function faults on; None for accesses made by hand (``machine.endpoint.access``)."""
    kernel: str = "7.2"
    """Whose rules iommufd and the rings follow."""
    driver: str = "sqpoll"
    """``sqpoll``: a worker is the hardware and the kernel. ``enter``: a worker is the hardware, the kernel runs in the
    client's calls. ``inline``: no thread; deterministic."""
    wait: str = "sleep"
    """What a client does that has nothing to do: ``sleep`` or ``spin``. The worker does the same after a while."""
    in_flight: int = 16
    """Groups outstanding at most, 1 to 512."""
    group: int = 1
    """Pages in a group at most, 1 to 32: neighbours in the workload that are asked for and answered together."""
    seed: int = 0
    """Of whatever is drawn at random in the load; nothing in a closed loop."""
    load: Load | None = None
    """When faults come; None: a closed loop with *in_flight*, *group* and *seed*."""
    live: bool | None = None
    """System calls and wake-ups are paid for with real ones, and time passes; None: unless inline. Beside a worker
    wake-ups are real either way; without it the clock stands still there until ``core.tick``."""
    cpu: int = -1
    """Where the worker should run; -1: anywhere."""
    report_flags: int = 0
    """For the design ``handler``."""

    def __post_init__(self) -> None:
        _check_choice("driver", self.driver, DRIVERS)
        _check_choice("wait", self.wait, WAITS)
        if not 1 <= self.in_flight <= MOST_IN_FLIGHT:
            limit = f"1 to {MOST_IN_FLIGHT}, the group indices of a function"
            raise UsageError(f"in_flight is {limit}; not {self.in_flight}")
        if not 1 <= self.group <= MOST_IN_GROUP:
            raise UsageError(f"group is 1 to {MOST_IN_GROUP} pages, not {self.group}")

    @classmethod
    def of(
        cls, workload: str | Path | Workload | None = DEFAULT_WORKLOAD, **options: Unpack[MachineOptions]
    ) -> MachineParts:
        """The parts with a workload by its name (bundled) or its path. Raises: UsageError, as `load_workload`, too."""
        from uring_iopf.workloads import Workload, load_workload  # heavy for those who only look

        known = workload is None or isinstance(workload, Workload)
        return cls(workload if known else load_workload(workload), **options)  # type: ignore[arg-type]

    @property
    def is_live(self) -> bool:
        """*live*, decided."""
        return self.driver != "inline" if self.live is None else self.live

    def make_load(self) -> Load:
        """*load*, decided."""
        from uring_iopf.hardware.load import Load, LoadMode  # loads the compiled part

        if self.load is not None:
            return self.load
        return Load(LoadMode.CLOSED, in_flight=self.in_flight, group=self.group, seed=self.seed)


def _check_choice(what: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise UsageError(f"{what} is one of {', '.join(choices)}; not {given!r}")
