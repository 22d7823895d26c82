"""Our engine, given the same: real pipes and sockets, the same memory at the same addresses, and the same clock."""

from __future__ import annotations

import mmap
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from tests.rings.language import ARENA_SIZE, EXT_ARG, GETEVENTS
from tests.rings.player import Player, Ring
from uring_iopf._core import ffi, lib
from uring_iopf.abi import MmapOffset, RegisterOp, SetupFlags
from uring_iopf.core import Clock, Core
from uring_iopf.errors import KernelError
from uring_iopf.rings import ClientRing, KernelRing, Window, enter_fd, register_fd

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.rings.language import Program, Seen

PATIENCE_NS: Final = 60_000_000_000
"""What fires later than this is meant not to."""
A_MOMENT_NS: Final = 1_000_000
CALLS_CUT_SHORT: Final = 3
"""That bring nothing: a TIMEOUT that fires ends a call before all is there, and its completion is for the next."""
NOWHERE: Final = 9999


def returned(call: Callable[[], int]) -> int:
    """What a system call returns: its result, or -errno."""
    try:
        return call()
    except KernelError as error:
        return -(error.errno or 0)


class EnginePlayer(Player):
    """Plays on the engine, as the rings of one version of Linux. Each program has a core of its own.

    The core has the host's clock, so that the engine's own waiting is played, too; what is compared is never a time.
    """

    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        self._core = Core(live=True, clock=Clock.MONOTONIC)
        self._numbers: dict[str, int] = {}
        self._engines: dict[int, KernelRing] = {}
        self._made = 0
        self._owners: dict[int, int] = {}
        """By the ring, where it has SINGLE_ISSUER: the thread that may enter it."""

    def play(self, program: Program) -> list[Seen]:
        self._core = Core(live=True, clock=Clock.MONOTONIC, kernel=".".join(map(str, self.kernel)))
        return super().play(program)

    def clean(self) -> None:
        super().clean()
        self._core.close()

    # ---- system calls ----

    def sys_setup(self, entries: int, params: int) -> int:
        try:
            ring = KernelRing(self._core, entries, params=ffi.cast("struct io_uring_params *", params))
        except KernelError as error:
            return -(error.errno or 0)
        ring.add_window(Window(ARENA_SIZE, address=self.memory.address, memory=self.memory.bytes))
        self._made += 1  # a number is used once
        self._engines[self._made] = ring
        self._numbers[f"ring {self._made}"] = ring.fd
        if ring.flags & SetupFlags.SINGLE_ISSUER and not ring.flags & SetupFlags.R_DISABLED:
            self._owners[self._made] = threading.get_ident()
        return self._made

    def sys_map(self, handle: int, offset: int, length: int) -> mmap.mmap:
        fd, at, size = self._engines[handle].mmap(offset)
        assert length <= (size + 4095 & ~4095)
        return mmap.mmap(fd, length, offset=at)

    def sys_ring(self, handle: int, params: Any) -> ClientRing:
        ring = self._engines[handle]
        header, sqes = ring.mmap(MmapOffset.SQ_RING), ring.mmap(MmapOffset.SQES)
        assert (header.fd, header.offset) == (sqes.fd, 0)
        return ClientRing(
            header.fd, params, size_bytes=sqes.offset + (sqes.length + 4095 & ~4095), sqes_offset=sqes.offset
        )

    def sys_enter(self, fd: int, to_submit: int, min_complete: int, flags: int, arg: int, size: int) -> int:
        rc = self.sys_enter_beside(fd, to_submit, min_complete, flags, arg, size)
        self.settle(but=fd)
        return rc

    def sys_enter_beside(self, fd: int, to_submit: int, min_complete: int, flags: int, arg: int, size: int) -> int:
        at = ffi.cast("void *", arg)
        return returned(lambda: enter_fd(self._core, fd, to_submit, min_complete, flags, at, size))

    def sys_register(self, fd: int, op: int, arg: int, nr: int) -> int:
        rc = returned(lambda: register_fd(self._core, fd, op, ffi.cast("void *", arg), nr))
        if op == RegisterOp.REGISTER_ENABLE_RINGS and rc == 0:
            enabled = next(n for n, ring in self._engines.items() if ring.fd == fd)
            if self._engines[enabled].flags & SetupFlags.SINGLE_ISSUER:
                self._owners[enabled] = threading.get_ident()
        if op != RegisterOp.REGISTER_RESIZE_RINGS:  # what is mapped here is the ring that was
            self.settle()
        return rc

    def sys_close(self, handle: int) -> None:
        del self._numbers[f"ring {handle}"]
        self._owners.pop(handle, None)
        self._engines.pop(handle).close()

    def sys_nonblock(self, handle: int) -> None:
        lib.uiopf_core_set_nonblock(self._core.c, lib.uiopf_engine_file(self._engines[handle].c), 1)

    # ---- files ----

    def opened(self, name: str) -> None:
        self._numbers[name] = returned(lambda: self._core.install_host_file(self.files[name]))

    def number(self, name: str) -> int:
        if name in self.rings:
            return self._numbers[f"ring {self.rings[name].handle}"]
        return self._numbers.get(name, NOWHERE)

    def forget(self, name: str) -> None:
        number = self._numbers.pop(name)
        if number >= 0:  # a file that cannot be polled has none
            with suppress(KernelError):  # a ring may have closed it
                self._core.uninstall(number)

    # ---- time ----

    def settle(self, but: int = NOWHERE) -> None:
        """What Linux runs before a system call of the process returns: the task work of all its rings.

        The engine does that when it is entered to submit something; where task work is put off it only listens to
        wake-ups then. Nothing may be there to be submitted meanwhile.
        """
        tails = [(ring, ring.load("sq_tail")) for ring in self.rings.values()]
        for ring, _ in tails:
            ring.store("sq_tail", ring.load("sq_head"))
        for name, ring in [*self.rings.items(), *self.rings.items()]:
            if self.number(name) == but and ring.flags & (SetupFlags.DEFER_TASKRUN | SetupFlags.SQPOLL):
                continue
            if ring.flags & SetupFlags.SQPOLL:  # its thread has been called, if there is anything to do
                self._turn()
            else:
                self._listen(ring)
        for ring, tail in tails:
            ring.store("sq_tail", tail)

    def _listen(self, ring: Ring) -> None:
        """Its task work, which its own thread does, if it has one; one that waits in a call does it there."""
        engine = self._engines[ring.handle]
        if self._owners.get(ring.handle, threading.get_ident()) == threading.get_ident():
            returned(lambda: engine.enter(1))
        elif threading.current_thread() is threading.main_thread() and not self.helper.busy:
            self.helper.call(lambda: returned(lambda: engine.enter(1)))

    def call_returned(self) -> None:
        self.settle()

    def _turn(self) -> None:
        while self._core.consume():
            pass

    def wait(self, ring: Ring, count: int) -> None:
        """What has a time waits for it; what comes later than that is meant not to come."""
        engine = self._engines[ring.handle]
        enough = count if count >= 0 else ring.params[1]  # all that there is room for
        fruitless = 0
        while True:
            before = self.available(ring)
            self._turn()
            if enough > before and ring.flags & SetupFlags.DEFER_TASKRUN:  # asleep, as on the host, while workers work
                rc = returned(lambda: engine.enter(0, enough, GETEVENTS | EXT_ARG, timeout_ns=A_MOMENT_NS))
                fruitless = 0 if self.available(ring) > before else fruitless + 1
                if rc == 0 and self.available(ring) < enough and fruitless < CALLS_CUT_SHORT:
                    continue
            else:
                there = min(before, max(count, 0))  # as the host is asked: one that puts work off does so much of it
                returned(lambda: engine.enter(0, there, GETEVENTS))  # noqa: B023
            if self.available(ring) >= count >= 0:
                return
            if self.available(ring) > before:
                continue
            due = self._core.next_ns()
            left = max((PATIENCE_NS + 1 if due is None else due - self._core.now_ns()), 0)
            if left > PATIENCE_NS:
                return
            wanted = before + 1
            returned(lambda: engine.enter(0, wanted, GETEVENTS | EXT_ARG, timeout_ns=left + 1))  # noqa: B023
