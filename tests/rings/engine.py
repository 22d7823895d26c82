"""Our engine, given the same: real pipes and sockets, the same memory at the same addresses, and the same clock."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any, Final

from tests.rings.language import ARENA_SIZE, EXT_ARG, GETEVENTS
from tests.rings.player import Player, Ring
from uring_iopf._core import ffi, lib
from uring_iopf.abi import RegisterOp, SetupFlags
from uring_iopf.core import FOREVER, Clock, Core

if TYPE_CHECKING:
    from tests.rings.language import Program, Seen

PATIENCE_NS: Final = 60_000_000_000
"""What fires later than this is meant not to."""
NOWHERE: Final = 9999


class EnginePlayer(Player):
    """Plays on the engine, as the rings of one version of Linux. Each program has a core of its own.

    The core has the host's clock, so that the engine's own waiting is played, too; what is compared is never a time.
    """

    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        self._core = Core(live=True, clock=Clock.MONOTONIC)
        self._numbers: dict[str, int] = {}
        self._engines: dict[int, Any] = {}

    def play(self, program: Program) -> list[Seen]:
        self._core = Core(live=True, clock=Clock.MONOTONIC)
        lib.uiopf_core_set_kernel(self._core.c, *self.kernel)
        return super().play(program)

    def clean(self) -> None:
        super().clean()
        self._core.close()

    # ---- system calls ----

    def sys_setup(self, entries: int, params: int) -> int:
        out = ffi.new("struct uiopf_engine **")
        rc = int(lib.uiopf_setup(self._core.c, entries, ffi.cast("struct io_uring_params *", params), out))
        if rc < 0:
            return rc
        window = ffi.cast("void *", self.memory.address)
        assert lib.uiopf_engine_add_window(out[0], self.memory.address, ARENA_SIZE, window) == 0
        handle = len(self._engines) + 1
        self._engines[handle] = out[0]
        file = lib.uiopf_engine_file(out[0])
        self._numbers[f"ring {handle}"] = int(lib.uiopf_core_install(self._core.c, file))
        return handle

    def sys_map(self, handle: int, offset: int, length: int) -> mmap.mmap:
        fd, at, size = ffi.new("int *"), ffi.new("uint64_t *"), ffi.new("uint64_t *")
        rc = int(lib.uiopf_engine_mmap(self._engines[handle], offset, fd, at, size))
        if rc < 0:
            raise OSError(-rc, "mmap")
        assert length <= (size[0] + 4095 & ~4095)
        return mmap.mmap(fd[0], length, offset=at[0])

    def sys_enter(self, fd: int, to_submit: int, min_complete: int, flags: int, arg: int, size: int) -> int:
        at = ffi.cast("void *", arg)
        rc = int(lib.uiopf_enter_fd(self._core.c, fd & 0xFFFFFFFF, to_submit, min_complete, flags, at, size))
        self.settle(but=fd)
        return rc

    def sys_register(self, fd: int, op: int, arg: int, nr: int) -> int:
        rc = int(lib.uiopf_register_fd(self._core.c, fd & 0xFFFFFFFF, op, ffi.cast("void *", arg), nr))
        if op != RegisterOp.REGISTER_RESIZE_RINGS:  # what is mapped here is the ring that was
            self.settle()
        return rc

    def sys_close(self, handle: int) -> None:
        lib.uiopf_core_uninstall(self._core.c, self._numbers.pop(f"ring {handle}"))
        lib.uiopf_engine_free(self._engines.pop(handle))
        self._engines[handle] = None  # a number is used once

    # ---- files ----

    def opened(self, name: str) -> None:
        self._numbers[name] = int(lib.uiopf_core_install_host(self._core.c, self.files[name]))

    def number(self, name: str) -> int:
        if name in self.rings:
            return self._numbers[f"ring {self.rings[name].handle}"]
        return self._numbers.get(name, NOWHERE)

    def forget(self, name: str) -> None:
        number = self._numbers.pop(name)
        if number >= 0:  # a file that cannot be polled has none
            lib.uiopf_core_uninstall(self._core.c, number)

    # ---- time ----

    def settle(self, but: int = NOWHERE) -> None:
        """What Linux runs before a system call of the process returns: the task work of all its rings.

        The engine does that when it is entered to submit something; where task work is put off it only listens to
        wake-ups then. Nothing may be there to be submitted meanwhile.
        """
        for name, ring in list(self.rings.items()):
            if ring.flags & SetupFlags.SQPOLL or self.number(name) == but:
                continue
            tail = ring.load("sq_tail")
            ring.store("sq_tail", ring.load("sq_head"))
            lib.uiopf_enter(self._engines[ring.handle], 1, 0, 0, FOREVER)
            ring.store("sq_tail", tail)

    def wait(self, ring: Ring, count: int) -> None:
        """What has a time waits for it; what comes later than that is meant not to come."""
        engine = self._engines[ring.handle]
        while True:
            before = self.available(ring)
            while lib.uiopf_core_consume(self._core.c):
                pass
            lib.uiopf_enter(engine, 0, 0, GETEVENTS, FOREVER)
            if self.available(ring) >= count >= 0:
                return
            if self.available(ring) > before:
                continue
            left = lib.uiopf_core_next_ns(self._core.c) - self._core.now_ns()
            if left > PATIENCE_NS:
                return
            lib.uiopf_enter(engine, 0, before + 1, GETEVENTS | EXT_ARG, max(left, 0) + 1)
