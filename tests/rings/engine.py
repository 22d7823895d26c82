"""Our engine, given the same: real pipes and sockets, the same memory at the same addresses, and the same clock."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any, Final

from tests.rings.language import ARENA_SIZE, EXT_ARG, GETEVENTS
from tests.rings.player import Player, Ring
from uring_iopf._core import ffi, lib
from uring_iopf.abi import SetupFlags
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
        return handle

    def sys_map(self, handle: int, offset: int, length: int) -> mmap.mmap:
        fd, at, size = ffi.new("int *"), ffi.new("uint64_t *"), ffi.new("uint64_t *")
        rc = int(lib.uiopf_engine_mmap(self._engines[handle], offset, fd, at, size))
        if rc < 0:
            raise OSError(-rc, "mmap")
        assert length <= (size[0] + 4095 & ~4095)
        return mmap.mmap(fd[0], length, offset=at[0])

    def sys_enter(self, handle: int, to_submit: int, min_complete: int, flags: int, arg: int, size: int) -> int:
        engine = self._engines[handle]
        return int(lib.uiopf_enter_ext(engine, to_submit, min_complete, flags, ffi.cast("void *", arg), size))

    def sys_register(self, handle: int, op: int, arg: int, nr: int) -> int:
        return int(lib.uiopf_register(self._engines[handle], op, ffi.cast("void *", arg), nr))

    def sys_close(self, handle: int) -> None:
        for name, number in list(self._numbers.items()):
            if name == f"ring {handle}":
                lib.uiopf_core_uninstall(self._core.c, number)
                del self._numbers[name]
        lib.uiopf_engine_free(self._engines.pop(handle))
        self._engines[handle] = None  # a number is used once

    # ---- files ----

    def number(self, name: str) -> int:
        if name in self.rings:
            handle = self.rings[name].handle
            if (key := f"ring {handle}") not in self._numbers:
                file = lib.uiopf_engine_file(self._engines[handle])
                self._numbers[key] = int(lib.uiopf_core_install(self._core.c, file))
            return self._numbers[key]
        if name not in self.files:
            return NOWHERE
        if name not in self._numbers:
            self._numbers[name] = int(lib.uiopf_core_install_host(self._core.c, self.files[name]))
        return self._numbers[name]

    def forget(self, name: str) -> None:
        if name in self._numbers:
            lib.uiopf_core_uninstall(self._core.c, self._numbers.pop(name))

    # ---- time ----

    def settle(self) -> None:
        """What Linux runs before the process's system call returns: task work of all rings, but not where it is put off.

        The engine does that when it is entered to submit something. Nothing may be there to be submitted meanwhile.
        """
        for ring in list(self.rings.values()):
            if ring.flags & (SetupFlags.DEFER_TASKRUN | SetupFlags.SQPOLL):
                continue
            ring.store("sq_tail", ring.load("sq_head"))
            lib.uiopf_enter(self._engines[ring.handle], 1, 0, 0, FOREVER)
            ring.store("sq_tail", ring.tail)

    def wait(self, ring: Ring, count: int) -> None:
        """What has a time waits for it; what comes later than that is meant not to come."""
        engine = self._engines[ring.handle]
        while True:
            while lib.uiopf_core_consume(self._core.c):
                pass
            lib.uiopf_enter(engine, 0, 0, GETEVENTS, FOREVER)
            left = lib.uiopf_core_next_ns(self._core.c) - self._core.now_ns()
            if self.available(ring) >= count >= 0 or left > PATIENCE_NS:
                return
            more = self.available(ring) + 1
            lib.uiopf_enter(engine, 0, more, GETEVENTS | EXT_ARG, max(left, 0) + 1)
