"""Measure the prices of this machine, for a cost model: each a few times, in turn.

All prices are measured in each round, and a price is the median of the rounds. So a machine that changes during the run
shows in the spread of every price. Within a round a measurement is repeated in pieces that are shorter than a
scheduler's slice, and the round's value is their median: most pieces are undisturbed, even if other programs run.
"""

from __future__ import annotations

import datetime
import os
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import check, ffi, lib
from uring_iopf.costs.model import PRICES, CostModel, Price
from uring_iopf.errors import IopfError
from uring_iopf.lab.fit import reasons_against
from uring_iopf.lab.floor import measure_floor
from uring_iopf.lab.processors import pairs, two_processors
from uring_iopf.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from uring_iopf.designs.native_channel import NativeChannel
    from uring_iopf.lab.result import Floor

SOURCE: Final = "measured by uring-iopf calibrate"
LEAST_ROUNDS: Final = 7
MOST_ROUNDS: Final = 21
LIMIT_S: Final = 30.0
"""After so many seconds no round begins, if there were `LEAST_ROUNDS`."""
IN_FLIGHT: Final = 64
"""The groups in flight, and the requests of one call, for the prices of the emulator's own work."""
DESIGN: Final = "uring-multishot"
COPIES: Final = (64, 4096)
"""The sizes of the two copies, in bytes, that tell a copy's fixed part and its bytes apart."""

_SAMPLES: Final = 4096
_PIECE_NS: Final = 500_000
"""A program that takes the processor away does so every few milliseconds: most pieces must fall between two times."""
_WAKE_NS: Final = 100_000_000

NOT_MEASURED: Final = {
    "interrupt": "a program cannot cause an interrupt of an IOMMU, nor see when its driver runs",
    "table_walk": "no IOMMU here walks page tables for this program; the emulator's walks are part of fault_hardware",
}
"""The prices that are never measured, with the reasons."""

PACKETS: Final = {
    "packet_send": lib.UIOPF_PACKET_SEND,
    "packet_receive": lib.UIOPF_PACKET_RECEIVE,
    "packet_look": lib.UIOPF_PACKET_LOOK,
}
"""The kind of call of each price of a packet."""

Prices = dict[str, float]


class Meter(NamedTuple):
    """One measurement, of one price or of several that can only be measured together."""

    names: tuple[str, ...]
    measure: Callable[[], Prices]
    """Measure once; prices in nanoseconds. One that is left out, or not above 0, could not be measured."""


@dataclass
class Calibration:
    """The results of a run."""

    rounds: list[Prices] = field(default_factory=list)
    """The prices of each round, in nanoseconds, by name."""
    missing: dict[str, str] = field(default_factory=dict)
    """The reasons why a price could not be measured here, by name."""
    floor: Floor | None = None
    floor_after: Floor | None = None
    unfit: tuple[str, ...] = ()
    """The reasons not to trust the prices."""
    partial: bool = False
    """Whether the run was interrupted."""

    def prices(self) -> dict[str, Price]:
        """The price of each name that was measured in at least one round."""
        found = {}
        for name in PRICES:
            values = [prices[name] for prices in self.rounds if name in prices]
            if values and name not in self.missing:
                found[name] = Price(_rounded(statistics.median(values)), _rounded(spread(values)))
        return found

    def model(self, name: str, machine: str, kernel: str) -> CostModel:
        """The prices as a model, dated today."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        prices = self.prices()
        not_yet = {price: "the run was interrupted before it was measured" for price in PRICES if self.partial}
        missing = {price: why for price, why in (not_yet | self.missing).items() if price not in prices}
        return CostModel(name, machine, kernel, SOURCE, today, prices, missing)


def spread(values: Sequence[float]) -> float:
    """Half of the distance between the quartiles, over the median; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return (third - first) / 2 / statistics.median(values)


def _rounded(number: float) -> float:
    """Four significant digits: more are noise, and hard to read in a file."""
    return float(f"{number:.4g}")


def calibrate(
    *,
    quick: bool,
    tell: Callable[[str, float], None],
    meters: Sequence[Meter] | None = None,
    floor: Callable[[], Floor] = measure_floor,
    clock: Callable[[], float] = time.monotonic,
) -> Calibration:
    """Measure all prices, in turn, round by round. On Ctrl-C return the results until then, marked as partial.

    *quick*: make `LEAST_ROUNDS` short rounds; the prices are rougher. *tell*: called with the name of the measurement,
    and the share that is done. *meters*, *floor*, *clock*: the measurements, and a clock in seconds; those of this
    machine unless given.
    """
    found = Calibration(missing=dict(NOT_MEASURED))
    rounds = LEAST_ROUNDS if quick else MOST_ROUNDS
    try:
        if meters is None:
            meters, missing = meters_here(quick=quick)
            found.missing |= missing
        tell("floor of this machine", 0.0)
        found.floor = floor()
        end = clock() + LIMIT_S
        for number in range(rounds):
            if number >= LEAST_ROUNDS and clock() >= end:
                break
            of_round: Prices = {}
            found.rounds.append(of_round)
            for at, meter in enumerate(meters):
                share = (number + at / len(meters)) / rounds
                tell(f"{', '.join(meter.names)}, round {number + 1} of {rounds}", share)
                _measure(meter, of_round, found.missing)
        tell("floor of this machine", 1.0)
        found.floor_after = floor()
    except KeyboardInterrupt:
        found.partial = True
    for name in PRICES:
        if not (found.partial or name in found.missing or any(name in prices for prices in found.rounds)):
            found.missing[name] = "this machine cannot measure it"
    floors = [one for one in (found.floor, found.floor_after) if one is not None]
    found.unfit = reasons_against(floors, [], one_processor=two_processors() is None)
    return found


def _measure(meter: Meter, of_round: Prices, missing: dict[str, str]) -> None:
    """Measure once. A failure is the reason why the prices are missing, and is not tried again."""
    if missing.keys() >= set(meter.names):
        return
    try:
        prices = meter.measure()
    except (OSError, MemoryError, RuntimeError, IopfError) as error:
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        missing |= dict.fromkeys(meter.names, why)
        return
    of_round |= {name: ns for name, ns in prices.items() if ns > 0}


# ---- what is measured ----


def meters_here(*, quick: bool) -> tuple[list[Meter], dict[str, str]]:
    """The measurements that this machine allows, and the reasons for those that it does not, by price."""
    pieces = 9 if quick else 41
    wake_ns = _WAKE_NS // 10 if quick else _WAKE_NS
    meters = [
        Meter(("system_call",), partial(_rate, "system_call", lib.uiopf_measure_system_call, pieces)),
        Meter(("sleep",), partial(_sleep, wake_ns)),
        Meter(("copy_start", "copy_byte"), partial(_copy, pieces)),
        *(
            Meter((name,), partial(_rate, name, partial(lib.uiopf_measure_packets, kind), pieces))
            for name, kind in PACKETS.items()
        ),
        Meter(
            ("host_request",), partial(_rate, "host_request", partial(lib.uiopf_measure_host_nop, IN_FLIGHT), pieces)
        ),
        Meter(("request",), partial(_rate, "request", partial(lib.uiopf_measure_nop, IN_FLIGHT), pieces)),
        Meter(
            ("fault_hardware", "fault_kernel", "fault_client", "empty_look"), partial(_work, 1 if quick else 4, pieces)
        ),
    ]
    missing: dict[str, str] = {}
    if two_processors() is None:
        why = "there is only one processor"
        missing |= dict.fromkeys(("eventfd_write", "wake_up", "cache_line_same_cache", "cache_line_other"), why)
        return meters, missing
    meters.append(Meter(("eventfd_write", "wake_up"), partial(_wake_up, wake_ns)))
    by_cache = pairs()
    for name, pair, without in (
        ("cache_line_same_cache", by_cache.same, by_cache.why_not_same),
        ("cache_line_other", by_cache.other, by_cache.why_not_other),
    ):
        if pair is None:
            missing[name] = without
        else:
            meters.append(Meter((name,), partial(_cache_line, name, pair, pieces)))
    return meters, missing


def _rate(name: str, function: Callable[[int], float], pieces: int) -> Prices:
    rates = [function(_PIECE_NS) for _ in range(pieces)]
    return {name: 1e9 / statistics.median(rates)} if all(rates) else {}


def _cache_line(name: str, pair: tuple[int, int], pieces: int) -> Prices:
    """One way is half of the way there and back."""
    with _on(pair):
        return {of: ns / 2 for of, ns in _rate(name, lib.uiopf_measure_cache_line, pieces).items()}


@contextmanager
def _on(pair: tuple[int, int]) -> Iterator[None]:
    """Let this thread, and those that it starts, run on these two processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(pair))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _copy(pieces: int) -> Prices:
    """A copy's time is taken as a line through two sizes."""
    small, large = COPIES
    times = []
    for size in COPIES:
        (ns,) = _rate("copy", partial(lib.uiopf_measure_copy, size), pieces).values()
        times.append(ns)
    each = (times[1] - times[0]) / (large - small)
    return {"copy_start": times[0] - small * each, "copy_byte": each}


def _sleep(during_ns: int) -> Prices:
    times = ffi.new("uint32_t[]", _SAMPLES)
    n = lib.uiopf_measure_sleep(during_ns, _SAMPLES, times)
    return {"sleep": statistics.median(times[0:n])} if n else {}


def _wake_up(during_ns: int) -> Prices:
    writes, wakes = ffi.new("uint32_t[]", _SAMPLES), ffi.new("uint32_t[]", _SAMPLES)
    n = lib.uiopf_measure_wake_up(during_ns, _SAMPLES, writes, wakes)
    return {"eventfd_write": statistics.median(writes[0:n]), "wake_up": statistics.median(wakes[0:n])} if n else {}


def _work(passes: int, pieces: int) -> Prices:
    """The emulator's own work. The ring polls as with a worker, but this thread runs the steps of all sides."""
    with Machine(driver="sqpoll", wait="spin", in_flight=IN_FLIGHT, live=True) as machine:
        channel: NativeChannel = machine.open(DESIGN)  # type: ignore[assignment]  # the design is in C
        machine.core.stop_worker()
        space, endpoint, load = machine.address_space, machine.endpoint, machine.load.as_c()
        work = ffi.new("struct uiopf_work *")
        for _ in range(passes):
            machine.reset_tables()
            check(lib.uiopf_measure_work(channel.c, space.c, endpoint.c, load, work), "measure the work for a fault")
        looks = _rate("empty_look", lambda piece_ns: lib.uiopf_measure_empty_looks(channel.c, piece_ns), pieces)
    faults = int(work.faults)
    parts: Mapping[str, int] = {
        "fault_hardware": int(work.hardware_ns),
        "fault_kernel": int(work.kernel_ns),
        "fault_client": int(work.client_ns),
    }
    prices = {name: ns / faults for name, ns in parts.items()} if faults else {}
    return prices | looks
