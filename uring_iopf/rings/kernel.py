"""The kernel's side of a ring: io_uring's three system calls, mmap, and the table of the client's memory.

Refusals are `KernelError` with Linux's errno. What holds for which version says docs/reference/rings.md.
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
    """What ``mmap`` of a ring's descriptor would map."""

    fd: int
    """The descriptor of the memory; the ring's own."""
    offset: int
    """In that, in bytes."""
    length: int
    """In bytes."""


def enter_fd(
    core: Core, fd: int, to_submit: int, min_complete: int, flags: int, argument: Memory = ffi.NULL, size: int = 0
) -> int:
    """io_uring_enter(2) by a descriptor of the core (`KernelRing.fd`), or with REGISTERED_RING by a registered number.

    Raises: KernelError(EBADF or EOPNOTSUPP), it is no ring; else as `KernelRing.enter_ext`.
    """
    check_fits(32, to_submit=to_submit, min_complete=min_complete, flags=flags)
    check_fits(64, size=size)
    rc = lib.uiopf_enter_fd(core.c, whole("fd", fd) & _U32, to_submit, min_complete, flags, argument, size)
    return check(rc, "io_uring_enter")


def register_fd(core: Core, fd: int, opcode: int, arg: Memory = ffi.NULL, nr_args: int = 0) -> int:
    """io_uring_register(2) by a descriptor of the core, or with USE_REGISTERED_RING in *opcode* by a registered number.

    Raises: KernelError(EBADF or EOPNOTSUPP), it is no ring; else as `KernelRing.register`.
    """
    check_fits(32, opcode=opcode, nr_args=nr_args)
    return check(lib.uiopf_register_fd(core.c, whole("fd", fd) & _U32, opcode, arg, nr_args), "io_uring_register")


class KernelRing(Handle[CEngine]):
    """A ring on *core*, as io_uring_setup makes it.

    *entries*: SQEs, rounded up to a power of two. *cq_entries*: CQEs, with CQSIZE, which it sets; 0 for twice as many.
    *flags*: `SetupFlags`. *sq_thread_idle_ms*: of SQPOLL, which a core with a worker turns. *params*: a ``struct
    io_uring_params *`` that is used as it is, in place of all these; setup writes into it.

    Raises: KernelError(EINVAL or EFAULT), flags or sizes that cannot be; KernelError(ENOMEM).
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
        """What setup wrote: sizes, features, and where everything is in the ring."""
        self.flags = SetupFlags(params.flags)
        self.features = Features(params.features)

    @property
    def sq_entries(self) -> int:
        """How many SQEs it has."""
        return int(self.params.sq_entries)

    @property
    def cq_entries(self) -> int:
        """How many CQEs it has."""
        return int(self.params.cq_entries)

    # ---- system calls ----

    def enter(self, to_submit: int, min_complete: int = 0, flags: int = 0, *, timeout_ns: int = FOREVER) -> int:
        """Submit, and with GETEVENTS wait for *min_complete* CQEs; return how many SQEs were taken.

        *flags*: `EnterFlags`. *timeout_ns*: with EXT_ARG, for how long to wait.

        Raises: KernelError(EDEADLK), inline, and nothing that is waited for can come; KernelError(ETIME), the time is
        over; KernelError(EBADR), CQEs have been lost; KernelError, what Linux has besides.
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

    def enter_ext(self, to_submit: int, min_complete: int, flags: int, argument: Memory, size: int) -> int:
        """The same with io_uring_enter's own *argument* of *size* bytes; addresses in it are the client's."""
        check_fits(32, to_submit=to_submit, min_complete=min_complete, flags=flags)
        check_fits(64, size=size)
        return check(lib.uiopf_enter_ext(self.c, to_submit, min_complete, flags, argument, size), "io_uring_enter")

    def register(self, opcode: int, arg: Memory = ffi.NULL, nr_args: int = 0) -> int:
        """Do what io_uring_register does; return what it returns.

        *opcode*: `RegisterOp`. *arg*: a cffi object that is read, and written where Linux writes; addresses in it are
        the client's.

        Raises: KernelError, Linux's errno. Source: io_uring_register(2), Linux 6.12.
        """
        check_fits(32, opcode=opcode, nr_args=nr_args)
        return check(lib.uiopf_register(self.c, opcode, arg, nr_args), "io_uring_register")

    def register_files(self, files: Sequence[int]) -> None:
        """Register descriptors of the core; requests with FIXED_FILE name them by their place. -1 leaves one empty.

        Raises: KernelError(EBUSY), there are some; KernelError(EBADF), a descriptor is not open.
        """
        descriptors = check_all_signed(32, "files", files)
        self.register(RegisterOp.REGISTER_FILES, ffi.new("int32_t[]", descriptors), len(descriptors))

    def unregister_files(self) -> None:
        """Forget them; requests that are under way keep theirs. Raises: KernelError(ENXIO), there are none."""
        self.register(RegisterOp.UNREGISTER_FILES)

    def register_eventfd(self, fd: int) -> None:
        """Signal an eventfd of the host, which is duplicated, with each CQE. Raises: KernelError(EBUSY), it has one."""
        check_signed(32, fd=fd)
        self.register(RegisterOp.REGISTER_EVENTFD, ffi.new("int32_t *", fd), 1)

    def unregister_eventfd(self) -> None:
        """Signal it no more. Raises: KernelError(ENXIO), it has none."""
        self.register(RegisterOp.UNREGISTER_EVENTFD)

    def mmap(self, offset: int) -> Mapped:
        """Say what ``mmap`` at *offset* (`MmapOffset`) maps. After RESIZE_RINGS it is another descriptor.

        Raises: KernelError(ENOMEM), nothing is there. Source: io_uring_mmap, Linux 6.12.
        """
        check_fits(64, offset=offset)
        fd, at, length = ffi.new("int *"), ffi.new("uint64_t *"), ffi.new("uint64_t *")
        check(lib.uiopf_engine_mmap(self.c, offset, fd, at, length), "mmap")
        return Mapped(fd[0], at[0], length[0])

    # ---- what is not a system call ----

    @property
    def memory(self) -> Mapped:
        """The whole ring in one piece: header, CQEs, SQ array, and from `sqes_offset` the SQEs."""
        return Mapped(lib.uiopf_engine_fd(self.c), 0, lib.uiopf_engine_size(self.c))

    @property
    def sqes_offset(self) -> int:
        """Where the SQEs begin in `memory`, in bytes."""
        return lib.uiopf_engine_sqes_offset(self.c)

    def add_window(self, window: Window) -> None:
        """Let requests reach a window; what none covers is EFAULT. The window stays open until the ring is closed.

        Raises: KernelError(ENOSPC), there are 16; KernelError(EINVAL), it overlaps with another.
        """
        self._windows.append(window.hold())
        rc = lib.uiopf_engine_add_window(self.c, window.address, window.length_bytes, self._windows[-1])
        if rc < 0:
            self._windows.pop()
        check(rc, "add a window")

    @property
    def fd(self) -> int:
        """Its descriptor among those of the core, so that requests can poll it and send to it; made when asked for."""
        if self._number is None:
            file = lib.uiopf_engine_file(self.c)
            self._number = check(lib.uiopf_core_install(self._core.c, file), "install a ring")
        return self._number

    def pending(self) -> int:
        """How many requests have not ended."""
        return lib.uiopf_engine_pending(self.c)

    def cost(self) -> Counts:
        """What its system calls have cost so far."""
        cost = ffi.new("struct uiopf_cost *")
        lib.uiopf_engine_cost(self.c, cost)
        return Counts.from_c(cost)

    def close(self) -> None:
        """Cancel what is under way and free it. Mappings stay, and nobody reads them. Closing again does nothing."""
        self._c = self._number = None
        self._windows = []
