"""The emulated kernel and hardware as one object: the clock, the steps, and the thread that runs them."""

from __future__ import annotations

import enum
import errno
import functools
import re
from typing import TYPE_CHECKING, Final

from uring_iopf._native import CCore, check, interruptible, lib
from uring_iopf.errors import HostError, UsageError, check_fits, check_signed
from uring_iopf.handles import Handle, open_on, owned

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

FOREVER = 2**64 - 1
"""A time in nanoseconds that never comes."""


class Driver(enum.IntEnum):
    """The thread that runs the producer's and the consumer's steps (``cdefs/core/core.h``)."""

    INLINE = 0
    """One thread: calls run the steps themselves, deterministically."""
    ENTER = 1
    """A worker runs the hardware, and the kernel's part runs in the client's system calls."""
    SQPOLL = 2
    """A worker runs the hardware and the kernel."""


class Clock(enum.IntEnum):
    """The clock that the steps use."""

    MANUAL = 0
    """A clock that stands still until `Core.tick`."""
    MONOTONIC = 1
    """CLOCK_MONOTONIC."""
    COUNTER = 2
    """The processor's counter, if it runs at a constant rate; else CLOCK_MONOTONIC."""


@functools.cache
def _calibration() -> int:
    return lib.uiopf_counter_calibrate(20_000_000)


DEFAULT_KERNEL: Final = "7.2"
"""The version of Linux that is emulated where none is given."""


def _version(kernel: str) -> tuple[int, int]:
    version = re.fullmatch(r"(\d{1,3})\.(\d{1,2})", kernel) if isinstance(kernel, str) else None
    if not version or (int(version[1]), int(version[2])) < (6, 12):
        raise UsageError(f"kernel must be a version from '6.12' on, such as '7.2', not {kernel!r}")
    return int(version[1]), int(version[2])


class Core(Handle[CCore]):
    """The kernel and the hardware of one emulated machine.

    *live*: each emulated system call and wake-up makes a real one, and time passes. Without it they are only counted
    (a worker still makes real wake-ups), and the clock stands still until `tick`. *clock* overrides this choice of
    clock. *kernel*: the version of Linux whose rings are emulated, ``"6.12"`` or later. A ring has each feature from
    the release that introduced it.

    A context manager. `close` stops the worker. Close the objects made on a core before the core.

    Raises: UsageError, no such clock or version; MemoryError; HostError, no descriptor is free.
    """

    _what = "core"

    def __init__(self, *, live: bool = False, clock: Clock | None = None, kernel: str = DEFAULT_KERNEL) -> None:
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
        self._kernel = kernel
        self._make(lib.uiopf_core_let_go, lib.uiopf_core_new, clock, ns_per_count, live)
        lib.uiopf_core_set_kernel(self.c, *version)

    @property
    def kernel(self) -> str:
        """The version of Linux that is emulated."""
        return self._kernel

    @property
    def driver(self) -> Driver:
        """The thread that runs the steps now."""
        return Driver(lib.uiopf_core_driver(self.c))

    def now_ns(self) -> int:
        """The time of the core's clock, in nanoseconds."""
        return lib.uiopf_core_now(self.c)

    def tick(self, now_ns: int) -> None:
        """Set a manual clock. Raises: UsageError, the clock is not manual, or *now_ns* is before its time."""
        if self.clock is not Clock.MANUAL:
            raise UsageError(f"tick sets a manual clock only, and this core's clock is {self.clock.name}")
        check_fits(64, now_ns=now_ns)
        now_ns = int(now_ns)
        if now_ns < self.now_ns():
            raise UsageError(f"now_ns must be {self.now_ns()} or more, the clock's time now, not {now_ns}")
        lib.uiopf_core_tick(self.c, now_ns)

    def next_ns(self) -> int | None:
        """The time of the next event that needs no call (an open loop's fault, a ring's time-out), or None."""
        when = lib.uiopf_core_next_ns(self.c)
        return None if when == FOREVER else when

    def produce(self) -> int:
        """Run one producer step: hardware, drivers, reports. Return the amount of work done; 0 if a worker does it."""
        return interruptible("produce", lib.uiopf_core_produce, self.c)

    def consume(self) -> int:
        """Run one consumer step: SQPOLL rings, and designs in the kernel. Return the amount of work done."""
        return interruptible("consume", lib.uiopf_core_consume, self.c)

    def install_host_file(self, fd: int) -> int:
        """Make a descriptor of the host (a pipe, an eventfd, a socket) usable by rings of this core.

        The descriptor is duplicated, and never blocks the core. Return its number for SQEs, which `uninstall` closes.
        Raises: KernelError(EPERM), the descriptor cannot be polled; KernelError(EMFILE), no number is free.
        """
        check_signed(32, fd=fd)
        return check(lib.uiopf_core_install_host(self.c, fd), "install_host_file")

    def uninstall(self, fd: int) -> None:
        """Close a number that `install_host_file` returned. Requests that hold the file keep it until they end.

        Raises: KernelError(EBADF), `install_host_file` did not return *fd*, or it is closed already.
        """
        check_signed(32, fd=fd)
        check(lib.uiopf_core_uninstall_host(self.c, fd), "uninstall")

    def start_worker(self, driver: Driver, *, cpu: int = -1, idle_ns: int = FOREVER) -> None:
        """Start a worker, a thread that runs the steps of *driver*, and sleeps after *idle_ns* without work.

        *cpu*: the processor for the worker, if the host allows it; -1: any.

        Raises: KernelError(EBUSY), a worker runs already; HostError, the host has no thread or descriptor for it.
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
        """Whether a spinning thread yields at each poll, because worker and client have one processor only."""
        return bool(lib.uiopf_core_yields(self.c))

    def worker(self) -> object:
        """Return a value that keeps the worker running. The worker is stopped when nothing refers to the value."""
        return owned(lib.uiopf_core_stop_held, lib.uiopf_core_hold, self.c)

    def worker_sleeps(self) -> int:
        """The number of times that the worker has fallen asleep."""
        return lib.uiopf_core_worker_sleeps(self.c)

    def stop_worker(self) -> None:
        """Stop and join the worker, if one runs. The driver is inline again."""
        lib.uiopf_core_stop(self.c)

    def close(self) -> None:
        """Stop the worker and free the core. Closing again does nothing.

        Raises: UsageError, an object on this core is still open. Nothing has changed then.
        """
        if self._c is not None and (still_open := {one._what for one in open_on(self)}):
            raise UsageError(f"objects on this core are still open; close them first: {', '.join(sorted(still_open))}")
        self.end()

    def end(self) -> None:
        """Close the core even if objects on it are open. Its memory is freed when the last of them is closed."""
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
        if error is None:
            self.close()
        else:
            self.end()  # what is still open says less than the exception that came between
