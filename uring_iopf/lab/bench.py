"""The measurements of ``uring-iopf bench``: the path of a fault, beside its references, in one run.

The machines are noisy. So everything is measured in turn, round by round. A rate is the median of the rounds. A ratio
is the median of the rounds' ratios, so that both of its sides were measured in the same minute.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from uring_iopf._native import lib
from uring_iopf.costs.model import CostModel
from uring_iopf.costs.virtual import DEFAULT_MODEL, prices_of
from uring_iopf.errors import IopfError
from uring_iopf.lab.cell import measure_cell
from uring_iopf.lab.floor import measure_floor
from uring_iopf.lab.scale import measure_ids, measure_replace
from uring_iopf.lab.spec import CellSpec
from uring_iopf.lab.virtual import play_cell
from uring_iopf.machine_parts import IOMMUS, MachineParts
from uring_iopf.workloads import load_workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uring_iopf.lab.result import Floor
    from uring_iopf.workloads import Workload

WORKLOAD: Final = "gcc-compile"
IN_FLIGHT: Final = (1, 16, 64)
BATCHES: Final = (1, 8, 64)
"""The numbers of NOPs in one call."""
MEMORY_FAULTS: Final = 50_000_000
HEAVY: Final = ("numpy", "rich", "hypothesis")

Measured = TypeVar("Measured")
Rates = dict[str, float]
Meter = tuple[str, "Callable[[float], float]"]

RATIOS: Final = {
    "path_vs_bare_rings_1": ("path_1", "bare_rings_1"),
    "path_vs_bare_rings_16": ("path_16", "bare_rings_16"),
    "path_vs_bare_rings_64": ("path_64", "bare_rings_64"),
    "path_vs_handler_64": ("path_64", "handler_64"),
    "path_enter_64_vs_sqpoll_64": ("path_enter_64", "path_64"),
    "path_vs_host_fd_64": ("path_64", "host_fd_64"),
    "path_vs_host_stream_64": ("path_64", "host_stream_64"),
    **{f"nop_vs_host_{n}": (f"nop_{n}", f"host_nop_{n}") for n in BATCHES},
}
"""The rates of each ratio."""

VENDORS: Final = {
    iommu: "handler_64" if iommu == IOMMUS[0] else f"handler_{iommu.replace('-', '_')}_64" for iommu in IOMMUS
}
"""The rate of the design ``handler`` behind each IOMMU, whose formats it spends most of its time in."""

GROWTH: Final = {
    "replace_100k_vs_10k": ("replace_100k", "replace_10k_10"),
    "ids_1m_vs_1k": ("ids_1m", "ids_1k"),
}
"""The times of each ratio of growth. A ratio of 1 means that the number of objects makes no difference."""


@dataclass
class Bench:
    """The results of a run. A part that was not measured is empty or None."""

    meters: tuple[str, ...]
    """The names of the rates."""
    timers: tuple[str, ...]
    """The names of the times."""
    samples: list[Rates] = field(default_factory=list)
    """The rates and seconds of each round, by name."""
    floor: Floor | None = None
    memory: dict[str, Any] | None = None
    imports: dict[str, Any] | None = None
    missing: dict[str, str] = field(default_factory=dict)
    """The reasons why a part could not be measured here, by name."""
    partial: bool = False
    """Whether the run was interrupted."""

    def attempt(self, name: str, measure: Callable[[], Measured]) -> Measured | None:
        """Return the result of *measure*. If it fails, keep the reason in `missing`, return None, and never retry."""
        if name in self.missing:
            return None
        try:
            measured = measure()
        except (OSError, MemoryError, RuntimeError, IopfError, subprocess.SubprocessError) as error:
            self.missing[name] = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return None
        if not measured:
            self.missing[name] = "this machine cannot measure it"
            return None
        return measured

    def medians(self, names: Iterable[str]) -> Rates:
        """The medians over the rounds, for each of *names* that was measured."""
        return {name: middle for name in names if (middle := _median(s[name] for s in self.samples if name in s))}

    def ratios(self) -> Rates:
        """The medians of the rounds' ratios. ``vendor_vs_plain``: the slowest IOMMU's rate over the fastest one's."""
        found = {
            name: middle
            for name, (ours, theirs) in (RATIOS | GROWTH).items()
            if (middle := _median(s[ours] / s[theirs] for s in self.samples if s.get(ours) and s.get(theirs)))
        }
        each = self.medians(VENDORS.values())
        if len(each) == len(VENDORS) > 1:
            slowest, fastest = min(each, key=each.__getitem__), max(each, key=each.__getitem__)
            found["vendor_vs_plain"] = statistics.median(
                s[slowest] / s[fastest] for s in self.samples if s.get(slowest) and s.get(fastest)
            )
        return found


def measure(*, quick: bool, tell: Callable[[str, float], None]) -> Bench:
    """Measure everything. On Ctrl-C return the results until then, marked as partial.

    *quick*: make fewer and shorter rounds, and check memory over 2 million faults instead of 50. *tell*: called with
    the name of the measurement, and the share that is done.
    """
    rounds, seconds, memory_faults = (2, 0.15, 2_000_000) if quick else (7, 0.4, MEMORY_FAULTS)
    meters = _meters()
    timers = _timers()
    bench = Bench(tuple(name for name, _ in meters), tuple(name for name, _ in timers))
    steps = rounds * (len(meters) + len(timers)) + 3
    try:
        tell("floor of this machine", 0.0)
        bench.floor = measure_floor()
        done = -1
        for number in range(rounds):
            sample: Rates = {}
            bench.samples.append(sample)
            for name, meter in [*meters, *timers]:
                done += 1
                tell(f"{name}, round {number + 1} of {rounds}", (1 + done) / steps)
                measured = bench.attempt(name, partial(meter, seconds))
                if measured is not None:
                    sample[name] = measured
        tell("memory", (steps - 2) / steps)
        bench.memory = bench.attempt("memory", partial(_memory, memory_faults))
        tell("imports", (steps - 1) / steps)
        bench.imports = bench.attempt("imports", _imports)
        tell("done", 1.0)
    except KeyboardInterrupt:
        bench.partial = True
    return bench


def _meters() -> list[Meter]:
    """The rates to measure in each round, ordered so that both sides of a ratio are neighbours."""
    workload = load_workload(WORKLOAD)

    def path(
        client: str, in_flight: int, driver: str = "sqpoll", design: str = "uring-multishot", iommu: str = IOMMUS[0]
    ) -> Callable[[float], float]:
        def measure(seconds: float) -> float:
            parts = MachineParts(workload, driver=driver, wait="spin", in_flight=in_flight, iommu=iommu)
            spec = CellSpec(design, client, parts, seconds=seconds, faults=1)
            result = measure_cell(spec, lambda _share: None)
            if not result.accounted:
                raise RuntimeError(f"{spec.label}: {', '.join(result.missing)}")
            return result.faults_per_s

        return measure

    def reference(function: Callable[[int, int], float], in_flight: int) -> Callable[[float], float]:
        return lambda seconds: function(in_flight, int(seconds * 1e9))

    meters: list[Meter] = []
    two_cpus = len(os.sched_getaffinity(0)) > 1
    for n in IN_FLIGHT:
        if two_cpus:  # two sides that never sleep would share one, and measure its scheduler
            meters.append((f"bare_rings_{n}", reference(lib.uiopf_measure_bare_rings, n)))
        meters.append((f"path_{n}", path("native", n)))
    meters.append(("path_enter_64", path("native", 64, "enter")))
    meters += [(name, path("native", 64, design="handler", iommu=iommu)) for iommu, name in VENDORS.items()]
    meters.append(("host_fd_64", reference(lib.uiopf_measure_host_fd, 64)))
    if two_cpus:
        meters.append(("host_stream_64", reference(lib.uiopf_measure_host_stream, 64)))
    for n in BATCHES:
        meters.append((f"nop_{n}", reference(lib.uiopf_measure_nop, n)))
        meters.append((f"host_nop_{n}", reference(lib.uiopf_measure_host_nop, n)))
    meters.append(("virtual_faults_per_s", _virtual(workload)))
    meters.append(("trio_64", path("trio", 64)))
    try:
        import numpy  # noqa: F401
    except ImportError:
        pass
    else:
        meters.append(("batch_64", path("batch", 64)))
    return meters


def _virtual(workload: Workload) -> Callable[[float], float]:
    """The simulated faults per second of the host's time, with 64 in flight. A piece is a fifth of a second or so."""
    prices = prices_of(CostModel.load(DEFAULT_MODEL))
    parts = MachineParts(workload, driver="sqpoll", wait="spin", in_flight=64)

    def measure(seconds: float) -> float:
        spec = CellSpec(
            "uring-multishot", "native", parts, seconds=0.0, faults=round(seconds * 400_000), mode="virtual"
        )
        start = time.perf_counter()
        result = play_cell(spec, lambda _share: None, prices=prices)
        if not result.accounted:
            raise RuntimeError(f"{spec.label}: {', '.join(result.missing)}")
        return result.faults / (time.perf_counter() - start)

    return measure


def _timers() -> list[Meter]:
    """The times to measure in each round."""
    many, few = measure_ids(1_000_000), measure_ids(1000)
    return [
        ("replace_100k", lambda _seconds: measure_replace(100_000, 1)),
        ("replace_10k_10", lambda _seconds: measure_replace(10_000, 10)),
        ("ids_1m", lambda _seconds: many()),
        ("ids_1k", lambda _seconds: few()),
    ]


def _median(values: Any) -> float | None:
    numbers = [value for value in values if value]
    return statistics.median(numbers) if numbers else None


def _resident_kib() -> int:
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123  read once, here and now
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise RuntimeError("/proc/self/status has no VmRSS")


def _memory(faults: int) -> dict[str, Any]:
    """The growth of this process while a machine serves *faults* faults. Nothing is allocated for each fault."""
    workload = load_workload(WORKLOAD)
    parts = MachineParts(workload, driver="sqpoll", wait="spin", in_flight=64)
    warm = CellSpec("uring-multishot", "native", parts, seconds=0.0, faults=1_000_000)
    many = CellSpec("uring-multishot", "native", parts, seconds=0.0, faults=faults)
    before = after = 0

    def watch(share: float) -> None:
        nonlocal before, after
        after = _resident_kib()
        if not before and share > min(0.5, 1_000_000 / faults):
            before = after  # this machine's own memory has been touched by now

    measure_cell(warm, lambda _share: None)
    result = measure_cell(many, watch)
    return {"faults": result.faults, "kib_before": before, "kib_after": after, "kib_grown": after - before}


def _imports() -> dict[str, Any]:
    """The time of an import beyond the start of Python, the heavy modules that it loads, and the time of ``--help``.

    The children import the installed package and not the current folder (``-P``), which may be a checkout of another
    version.
    """

    def fastest_ms(*arguments: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-P", *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
            times.append(time.perf_counter() - start)
        return min(times) * 1000

    code = f"import sys, uring_iopf; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    python_ms = fastest_ms("-c", "pass")
    return {
        "python_ms": python_ms,
        "import_ms": fastest_ms("-c", "import uring_iopf") - python_ms,
        "import_machine_ms": fastest_ms("-c", "import uring_iopf.machine") - python_ms,
        "help_ms": fastest_ms("-m", "uring_iopf", "--help"),
        "heavy_modules": loaded.stdout.split(),
    }
