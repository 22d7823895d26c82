"""Our engine, given the same: real pipes and sockets, the same memory at the same addresses, and a clock by hand."""

from __future__ import annotations

import errno
import mmap
import struct
from typing import TYPE_CHECKING, Any, Final

from tests.rings.language import ARENA_SIZE, EXT_ARG, GETEVENTS
from tests.rings.player import Player, Ring
from uring_iopf._core import ffi, lib
from uring_iopf.abi import EnterFlags, SetupFlags
from uring_iopf.core import FOREVER, Clock, Core

if TYPE_CHECKING:
    from tests.rings.language import Program, Seen

PATIENCE_NS: Final = 60_000_000_000
"""What fires later than this is meant not to."""
NOWHERE: Final = 9999


class EnginePlayer(Player):
    """Plays on the engine, as the rings of one version of Linux. Each program has a core, and so a time, of its own."""

    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        self._core = Core(live=True, clock=Clock.MANUAL)
        self._numbers: dict[str, int] = {}
        self._engines: dict[int, Any] = {}

    def play(self, program: Program) -> list[Seen]:
        self._core = Core(live=True, clock=Clock.MANUAL)
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
        pointer = ffi.cast("void *", arg)
        returned = int(lib.uiopf_enter_ext(engine, to_submit, min_complete, flags, pointer, size))
        if not flags & GETEVENTS or returned not in (to_submit, -errno.EDEADLK):
            return returned
        # The clock stands still, and the engine does not wait for it. It goes on here, to the next time that something
        # waits for, until there is enough, or a TIMEOUT has fired, or the wait is over.
        ring = next(ring for ring in self.rings.values() if ring.handle == handle)
        deadline = self._deadline(flags, arg, size)
        before = self.available(ring)
        while before == self.available(ring) < min(min_complete, ring.params[1]):
            following = min(lib.uiopf_core_next_ns(self._core.c), deadline)
            if following == FOREVER:
                break
            self._core.tick(max(following, self._core.now_ns()))
            lib.uiopf_enter(engine, 0, 0, GETEVENTS, FOREVER)
            if following == deadline:
                break
        if returned == -errno.EDEADLK:
            return 0 if self.available(ring) else -errno.ETIME if deadline < FOREVER else returned
        return returned

    def _deadline(self, flags: int, arg: int, size: int) -> int:
        """When a wait is over, on the core's clock; FOREVER when it has no time."""
        if not flags & EXT_ARG or size != 24:
            return FOREVER
        _, _, least_us, when = struct.unpack_from("=QIIQ", self._bytes(arg, 24))
        now = self._core.now_ns()
        if not self.memory.address <= when < self.memory.address + ARENA_SIZE:
            return now + 1000 * int(least_us) if least_us else FOREVER
        seconds, ns = struct.unpack_from("=qq", self._bytes(when, 16))
        total = int(seconds) * 1_000_000_000 + int(ns)
        return total if flags & EnterFlags.ABS_TIMER else max(now + total, now + 1000 * int(least_us))

    def _bytes(self, address: int, count: int) -> memoryview:
        at = address - self.memory.address
        return self.memory.bytes[at : at + count]

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
        engine = self._engines[ring.handle]
        until = self._core.now_ns() + PATIENCE_NS
        while True:
            while lib.uiopf_core_consume(self._core.c):
                pass
            lib.uiopf_enter(engine, 0, 0, GETEVENTS, FOREVER)
            following = lib.uiopf_core_next_ns(self._core.c)
            if self.available(ring) >= count >= 0 or following > until:
                return
            self._core.tick(max(following, self._core.now_ns()))
