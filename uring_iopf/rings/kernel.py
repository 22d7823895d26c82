"""The kernel's side of a ring: io_uring's three system calls, mmap, and the table of the client's memory.

Refusals raise `KernelError` with Linux's errno. docs/reference/rings.md lists the differences between versions.
Source: io_uring/io_uring.c and register.c, Linux 6.12 and 7.2.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import CData, CEngine, Memory, check, ffi, interruptible, lib
from uring_iopf.abi import EnterFlags, Features, RegisterOp, SetupFlags
from uring_iopf.core import FOREVER
from uring_iopf.costs import Counts
from uring_iopf.errors import check_all_signed, check_fits, check_signed, whole
from uring_iopf.handles import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uring_iopf.core import Core
    from uring_iopf.rings.window import Window


_U32: Final = 2**32 - 1


class Mapped(NamedTuple):
    """The memory that ``mmap`` of a ring's descriptor would map."""

    fd: int
    """The descriptor of the memory, which belongs to the ring."""
    offset: int
    """The offset in that memory, in bytes."""
    length: int
    """The length, in bytes."""


def enter_fd(
    core: Core, fd: int, to_submit: int, min_complete: int, flags: int, argument: Memory = ffi.NULL, size: int = 0
) -> int:
    """Call io_uring_enter(2) for a descriptor of the core (`KernelRing.fd`), or for a ring with REGISTERED_RING.

    Raises: KernelError(EBADF or EOPNOTSUPP), *fd* is no ring; else as `KernelRing.enter_ext`.
    """
    check_fits(32, to_submit=to_submit, min_complete=min_complete, flags=flags)
    check_fits(64, size=size)
    rc = lib.uiopf_enter_fd(core.c, whole("fd", fd) & _U32, to_submit, min_complete, flags, argument, size)
    return check(rc, "io_uring_enter")


def register_fd(core: Core, fd: int, opcode: int, arg: Memory = ffi.NULL, nr_args: int = 0) -> int:
    """Call io_uring_register(2) for a descriptor of the core or, with USE_REGISTERED_RING, a registered ring.

    Raises: KernelError(EBADF or EOPNOTSUPP), *fd* is no ring; else as `KernelRing.register`.
    """
    check_fits(32, opcode=opcode, nr_args=nr_args)
    return check(lib.uiopf_register_fd(core.c, whole("fd", fd) & _U32, opcode, arg, nr_args), "io_uring_register")


class KernelRing(Handle[CEngine]):
    """A ring on *core*, as io_uring_setup makes it.

    *entries*: the number of SQEs, rounded up to a power of two. *cq_entries*: the number of CQEs (it sets CQSIZE); 0:
    twice *entries*. *flags*: `SetupFlags`. *sq_thread_idle_ms*: the idle time of SQPOLL, in milliseconds; the core's
    worker polls such a ring. *params*: a ``struct io_uring_params *``, which replaces all other arguments but
    *entries*; setup writes into it.

    Raises: KernelError(EINVAL or EFAULT), bad flags or sizes; KernelError(ENOMEM).
    Source: io_uring_setup(2), Linux 6.12.
    """

    _what = "ring"

    def __init__(
        self,
        core: Core,
        entries: int,
        *,
        cq_entries: int = 0,
        flags: int = 0,
        sq_thread_idle_ms: int = 0,
        params: CData | None = None,
    ) -> None:
        check_fits(32, entries=entries, cq_entries=cq_entries, flags=flags, sq_thread_idle_ms=sq_thread_idle_ms)
        if params is None:
            given = {
                "flags": int(flags) | (SetupFlags.CQSIZE if cq_entries else 0),
                "cq_entries": cq_entries,
                "sq_thread_idle": sq_thread_idle_ms,
            }
            params = ffi.new("struct io_uring_params *", given)
        super().__init__()
        error = ffi.new("int *")
        self._windows: list[object] = []  # until the ring is freed in C
        make, free = lib.uiopf_engine_new, lib.uiopf_engine_free
        try:
            self._make(free, make, core.c, entries, params, error, keep=self._windows)
        except MemoryError:
            check(error[0], "io_uring_setup")
            raise
        self._core = self._on = core
        self._number: int | None = None
        self.params: CData = params
        """The parameters that setup has filled in: sizes, features, and the offsets of everything in the ring."""
        self.flags = SetupFlags(params.flags)
        self.features = Features(params.features)

    @property
    def sq_entries(self) -> int:
        """The number of SQEs."""
        return int(self.params.sq_entries)

    @property
    def cq_entries(self) -> int:
        """The number of CQEs."""
        return int(self.params.cq_entries)

    # ---- system calls ----

    def enter(self, to_submit: int, min_complete: int = 0, flags: int = 0, *, timeout_ns: int = FOREVER) -> int:
        """Submit SQEs and, with GETEVENTS, wait for *min_complete* CQEs. Return the number of SQEs submitted.

        *flags*: `EnterFlags`. *timeout_ns*: with EXT_ARG, the longest wait, in nanoseconds.

        Raises: KernelError(EDEADLK), there is no worker, and no event can end the wait; KernelError(ETIME), the time is
        over; KernelError(EBADR), CQEs have been lost; KernelError, Linux's other errnos.
        Source: io_uring_enter(2), Linux 6.12.
        """
        check_fits(32, to_submit=to_submit, min_complete=min_complete, flags=flags)
        check_fits(64, timeout_ns=timeout_ns)
        if not flags & EnterFlags.EXT_ARG or flags & EnterFlags.ABS_TIMER or timeout_ns == FOREVER:
            return interruptible("io_uring_enter", lib.uiopf_enter, self.c, to_submit, min_complete, flags, timeout_ns)
        until = self._core.now_ns() + timeout_ns
        while (rc := lib.uiopf_enter(self.c, to_submit, min_complete, flags, timeout_ns)) == -errno.EINTR:
            timeout_ns = max(0, until - self._core.now_ns())  # signal handlers have run meanwhile
        return check(rc, "io_uring_enter")

    def replay(self, *, hold_workers: bool = False) -> None:
        """Let the caller choose what is the scheduler's in Linux, for the replay of a recording.

        `work_since` says in which order rings have task work to run. *hold_workers*: a request that is given to a
        worker thread goes on in `run_workers` alone.
        """
        lib.uiopf_engine_replay(self.c, hold_workers)

    def run_workers(self, most: int) -> int:
        """Run up to *most* requests that wait for a worker thread, in order. Return how many still wait.

        None waits unless `replay` holds them: a worker thread runs at the next turn.
        """
        check_fits(32, most=most)
        return interruptible("a worker thread", lib.uiopf_engine_run_workers, self.c, most)

    @property
    def work_since(self) -> int:
        """When the ring, after `replay`, was given task work while it had none; the rings of a core count together.

        The largest number of 64 bits if it has none.
        """
        return lib.uiopf_engine_work_since(self.c)

    def enter_ext(self, to_submit: int, min_complete: int, flags: int, argument: Memory, size: int) -> int:
        """Do what `enter` does, with io_uring_enter's own *argument* of *size* bytes (client addresses)."""
        check_fits(32, to_submit=to_submit, min_complete=min_complete, flags=flags)
        check_fits(64, size=size)
        return check(lib.uiopf_enter_ext(self.c, to_submit, min_complete, flags, argument, size), "io_uring_enter")

    def register(self, opcode: int, arg: Memory = ffi.NULL, nr_args: int = 0) -> int:
        """Do what io_uring_register does, with the same return value.

        *opcode*: `RegisterOp`. *arg*: a cffi object, which is read, and written as Linux does. Addresses in it are the
        client's.

        Raises: KernelError, Linux's errno. Source: io_uring_register(2), Linux 6.12.
        """
        check_fits(32, opcode=opcode, nr_args=nr_args)
        return check(lib.uiopf_register(self.c, opcode, arg, nr_args), "io_uring_register")

    def register_files(self, files: Sequence[int]) -> None:
        """Register descriptors of the core. Requests with FIXED_FILE name them by their index. -1: an empty slot.

        Raises: KernelError(EBUSY), files are registered already; KernelError(EBADF), a descriptor is not open.
        """
        descriptors = check_all_signed(32, "files", files)
        self.register(RegisterOp.REGISTER_FILES, ffi.new("int32_t[]", descriptors), len(descriptors))

    def unregister_files(self) -> None:
        """Unregister all files. Pending requests keep theirs. Raises: KernelError(ENXIO), no files are registered."""
        self.register(RegisterOp.UNREGISTER_FILES)

    def register_eventfd(self, fd: int) -> None:
        """Signal an eventfd of the host, duplicated, with each CQE. Raises: KernelError(EBUSY), one is registered."""
        check_signed(32, fd=fd)
        self.register(RegisterOp.REGISTER_EVENTFD, ffi.new("int32_t *", fd), 1)

    def unregister_eventfd(self) -> None:
        """Unregister the eventfd. Raises: KernelError(ENXIO), none is registered."""
        self.register(RegisterOp.UNREGISTER_EVENTFD)

    def mmap(self, offset: int) -> Mapped:
        """Return the memory that ``mmap`` at *offset* (`MmapOffset`) maps. RESIZE_RINGS changes the descriptor.

        Raises: KernelError(ENOMEM), *offset* has no memory. Source: io_uring_mmap, Linux 6.12.
        """
        check_fits(64, offset=offset)
        fd, at, length = ffi.new("int *"), ffi.new("uint64_t *"), ffi.new("uint64_t *")
        check(lib.uiopf_engine_mmap(self.c, offset, fd, at, length), "mmap")
        return Mapped(fd[0], at[0], length[0])

    # ---- calls that are no system calls ----

    @property
    def memory(self) -> Mapped:
        """The whole ring in one piece: header, CQEs, SQ array, and from `sqes_offset` the SQEs."""
        return Mapped(lib.uiopf_engine_fd(self.c), 0, lib.uiopf_engine_size(self.c))

    @property
    def sqes_offset(self) -> int:
        """The offset of the SQEs in `memory`, in bytes."""
        return lib.uiopf_engine_sqes_offset(self.c)

    def add_window(self, window: Window) -> None:
        """Let requests use the addresses of a window. Addresses without a window return EFAULT.

        The ring holds the window until the ring is closed. Raises: KernelError(ENOSPC), the ring has 16 windows;
        KernelError(EINVAL), it overlaps with another window.
        """
        self._windows.append(window.hold())
        rc = lib.uiopf_engine_add_window(self.c, window.address, window.length_bytes, self._windows[-1])
        if rc < 0:
            self._windows.pop()
        check(rc, "add a window")

    @property
    def fd(self) -> int:
        """The ring's descriptor in the core, for requests that poll the ring or send to it. It is made on first use."""
        if self._number is None:
            file = lib.uiopf_engine_file(self.c)
            self._number = check(lib.uiopf_core_install(self._core.c, file), "install a ring")
        return self._number

    def pending(self) -> int:
        """The number of requests that have not completed."""
        return lib.uiopf_engine_pending(self.c)

    def cost(self) -> Counts:
        """Return the costs of the ring's system calls so far."""
        cost = ffi.new("struct uiopf_cost *")
        lib.uiopf_engine_cost(self.c, cost)
        return Counts.from_c(cost)

    def close(self) -> None:
        """Cancel pending requests, and free the ring. Mappings stay, but are unused. Closing again does nothing."""
        self._c = self._number = None
        self._windows = []
