"""The emulated side as one object: its clock, who turns its steps, and its quiet moments."""

from __future__ import annotations

import enum
import errno
import functools
import re
from typing import TYPE_CHECKING

from uring_iopf._native import CCore, check, interruptible, lib
from uring_iopf.errors import HostError, UsageError, check_fits, check_signed
from uring_iopf.handles import Handle, open_on, owned

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

FOREVER = 2**64 - 1
"""A time in nanoseconds that never comes."""


class Driver(enum.IntEnum):
    """Who turns the producer's and the consumer's steps (``cdefs/core/core.h``)."""

    INLINE = 0
    """No thread: the calls themselves. Deterministic."""
    ENTER = 1
    """A worker is the hardware; the kernel's part runs in the client's system calls."""
    SQPOLL = 2
    """The worker is the hardware and the kernel."""


class Clock(enum.IntEnum):
    """What time the steps are given."""

    MANUAL = 0
    """Stands still until `Core.tick`."""
    MONOTONIC = 1
    """CLOCK_MONOTONIC."""
    COUNTER = 2
    """The processor's counter, where it runs at a constant rate."""


@functools.cache
def _calibration() -> int:
    return lib.uiopf_counter_calibrate(20_000_000)


def _version(kernel: str) -> tuple[int, int]:
    version = re.fullmatch(r"(\d{1,3})\.(\d{1,2})", kernel) if isinstance(kernel, str) else None
    if not version or (int(version[1]), int(version[2])) < (6, 12):
        raise UsageError(f"kernel must be a version from '6.12' on, such as '7.2', not {kernel!r}")
    return int(version[1]), int(version[2])


class Core(Handle[CCore]):
    """One emulated machine's kernel and hardware side.

    *live*: emulated system calls and wake-ups are paid for with real ones, and time passes; otherwise nothing outside
    is touched, unless a worker runs, and the clock stands still until `tick`. *clock* overrides the choice of clock.
    *kernel*: whose rings these are, ``"6.12"`` or any later version: each feature is there from the release that
    brought it.

    A context manager; `close` stops the worker. Objects made on a core must be closed before it.
    """

    _what = "core"

    def __init__(self, *, live: bool = False, clock: Clock | None = None, kernel: str = "6.12") -> None:
        super().__init__()
        version = _version(kernel)
        if clock is not None and not isinstance(clock, Clock):
            raise UsageError(f"clock must be a Clock or None, not {clock!r}")
        ns_per_count = 0
        if clock is None:
            clock = Clock.COUNTER if live else Clock.MANUAL
        if clock is Clock.COUNTER:
            ns_per_count = _calibration()
            if not ns_per_count:
                clock = Clock.MONOTONIC
        self.live = live
        self.clock = clock
        self._make(lib.uiopf_core_let_go, lib.uiopf_core_new, clock, ns_per_count, live)
        lib.uiopf_core_set_kernel(self.c, *version)

    def follow(self, kernel: str) -> None:
        """Make rings as this Linux does, from the next one on. Raises: UsageError, it is no version from 6.12 on."""
        lib.uiopf_core_set_kernel(self.c, *_version(kernel))

    @property
    def driver(self) -> Driver:
        """Who turns the steps now."""
        return Driver(lib.uiopf_core_driver(self.c))

    def now_ns(self) -> int:
        """The core's time."""
        return lib.uiopf_core_now(self.c)

    def tick(self, now_ns: int) -> None:
        """Set a manual clock; time does not go back."""
        if self.clock is not Clock.MANUAL:
            raise UsageError(f"tick sets a manual clock only, and this core's clock is {self.clock.name}")
        check_fits(64, now_ns=now_ns)
        if now_ns < self.now_ns():
            raise UsageError(f"now_ns must be {self.now_ns()} or more, the clock's time now, not {now_ns}")
        lib.uiopf_core_tick(self.c, now_ns)

    def next_ns(self) -> int | None:
        """When something happens by itself (an open loop's next arrival, a ring's time-out), or None."""
        when = lib.uiopf_core_next_ns(self.c)
        return None if when == FOREVER else when

    def produce(self) -> int:
        """Turn the producer once: hardware, drivers, reports. Return how much was done; 0 where a worker does it."""
        return interruptible("produce", lib.uiopf_core_produce, self.c)

    def consume(self) -> int:
        """Turn the consumer once: SQPOLL rings and designs in the kernel. Return how much was done."""
        return interruptible("consume", lib.uiopf_core_consume, self.c)

    def install_host_file(self, fd: int) -> int:
        """Give rings of this core a descriptor of the host's that can be polled: a pipe, an eventfd, a socket.

        It is duplicated, and never blocks the core. Return its number for SQEs; `uninstall` closes that.
        Raises: KernelError(EPERM), it cannot be polled; KernelError(EMFILE).
        """
        check_signed(32, fd=fd)
        return check(lib.uiopf_core_install_host(self.c, fd), "install_host_file")

    def uninstall(self, fd: int) -> None:
        """Close a number that `install_host_file` returned. Requests that hold the file keep it until they end."""
        check_signed(32, fd=fd)
        lib.uiopf_core_uninstall(self.c, fd)

    def start_worker(self, driver: Driver, *, cpu: int = -1, idle_ns: int = FOREVER) -> None:
        """Give the steps to a thread, which sleeps after *idle_ns* without work.

        It runs on *cpu*, if that is not negative and the host lets it.

        Raises: KernelError(EBUSY), there is one already; HostError, the host has no thread, or no descriptor, for it.
        """
        if driver not in (Driver.ENTER, Driver.SQPOLL):
            raise UsageError(f"driver must be Driver.ENTER or Driver.SQPOLL for a worker, not {driver!r}")
        check_signed(32, cpu=cpu)
        check_fits(64, idle_ns=idle_ns)
        rc = lib.uiopf_core_start(self.c, driver, cpu, idle_ns)
        if rc < 0 and rc != -errno.EBUSY:
            raise HostError(-rc, "the host refused a thread or a descriptor for the worker")
        check(rc, "start_worker")

    @property
    def yields(self) -> bool:
        """Whether spinning gives the processor away at each look: the worker has no other than its starter's."""
        return bool(lib.uiopf_core_yields(self.c))

    def worker(self) -> object:
        """Return a value that keeps the worker: when nothing refers to it any more, the worker is stopped."""
        return owned(lib.uiopf_core_stop_held, lib.uiopf_core_hold, self.c)

    def worker_sleeps(self) -> int:
        """How often the worker has fallen asleep."""
        return lib.uiopf_core_worker_sleeps(self.c)

    def stop_worker(self) -> None:
        """Join the worker, if there is one. The steps are inline again."""
        lib.uiopf_core_stop(self.c)

    def close(self) -> None:
        """Stop the worker and free the core. Closing again does nothing.

        Raises: UsageError, something made on it is still open; nothing has changed.
        """
        if self._c is not None and (still_open := {one._what for one in open_on(self)}):
            raise UsageError(f"objects on this core are still open; close them first: {', '.join(sorted(still_open))}")
        self.end()

    def end(self) -> None:
        """The same, whatever is still open: it stays in memory, without a worker, until the last of that is closed."""
        if self._c is not None:
            lib.uiopf_core_stop(self.c)
            self._c = None

    def _abandon(self) -> None:
        if self._c is not None:
            lib.uiopf_core_abandon(self._c)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
