"""The host's own io_uring, by raw system calls."""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import re
import select
import struct
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from tests.rings.language import EXT_ARG, GETEVENTS, Close, Fd, Setup, Sqe, Write
from tests.rings.player import AGAIN, Player, Ring, ffi, libc, parameters
from uring_iopf.abi import MmapOffset, Op, SetupFlags
from uring_iopf.rings import ClientRing
from uring_iopf.rings import Sqe as Entry

if TYPE_CHECKING:
    from tests.rings.language import Outside, Program, Seen, Step

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_MEMBARRIER: Final = 324 if platform.machine() == "x86_64" else 283
_OP_CLOSE: Final = 19


def _call(number: int, *args: int) -> int:
    """Make a system call; return what it returns, or -errno."""
    result = int(libc.syscall(number, *(ffi.cast("long", a) for a in args)))
    return -ffi.errno if result == -1 else result


def version() -> tuple[int, int]:
    """Of the host's Linux: major, minor."""
    major, minor = re.findall(r"\d+", platform.release())[:2]
    return int(major), int(minor)


def refusal() -> str:
    """Why the host is not the judge; empty where it is. RINGS_JUDGE=recorded makes it so that it is not."""
    if os.environ.get("RINGS_JUDGE") == "recorded":
        return "RINGS_JUDGE=recorded"
    params = ffi.new("unsigned[30]")
    fd = _call(_SETUP, 1, int(ffi.cast("uintptr_t", params)))
    if fd < 0:
        return os.strerror(-fd)
    os.close(fd)
    return ""


def _busy(task: str, pollers: bool) -> bool:
    """Whether a thread of this process runs, or is about to. It is asked several times in each call."""
    try:
        with open(f"/proc/self/task/{task}/stat", "rb", 0) as file:  # noqa: PTH123
            text = file.read()
    except OSError:  # it has ended
        return False
    name, _, rest = text.rpartition(b")")
    return rest.split()[0] in (b"R", b"D") and (pollers or b"(iou-sqp" not in name)


def _out_of_the_way(fd: int) -> int:
    """The same file by a number that no program has closed: a worker that finds its file by then must find nothing."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 512)
    os.close(fd)
    return moved


class HostPlayer(Player):
    """Plays on the host's kernel."""

    def __init__(self) -> None:
        super().__init__()
        self._wait_argument = self.memory.bytes[-64:]
        self._main = str(threading.get_native_id())
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._puts_off = self._signals_itself = False

    def play(self, program: Program) -> list[Seen]:
        self._puts_off = any(isinstance(one, Setup) and one.flags & SetupFlags.DEFER_TASKRUN for one in program.steps)
        self._signals_itself = False
        return super().play(program)

    def step(self, step: Step) -> Seen:
        if self._puts_off and isinstance(step, Sqe) and ("fd", Fd("told")) in step.fields:
            self._signals_itself = True
        return super().step(step)

    def close(self) -> None:
        os.close(self._spare)
        self._wait_argument.release()
        super().close()

    def sys_setup(self, entries: int, params: int) -> int:
        return _call(_SETUP, entries, params)

    def sys_make(self) -> None:
        params = ffi.new("unsigned[30]")
        os.close(_call(_SETUP, 1, int(ffi.cast("uintptr_t", params))))

    def sys_map(self, handle: int, offset: int, length: int) -> mmap.mmap:
        return mmap.mmap(handle, length, offset=offset)

    def sys_ring(self, handle: int, params: Any) -> ClientRing:
        return ClientRing(handle, params, size_bytes=2**64 - 1, sqes_offset=MmapOffset.SQES)

    def sys_enter(self, fd: int, to_submit: int, min_complete: int, flags: int, arg: int, size: int) -> int:
        returned = _call(_ENTER, fd, to_submit, min_complete, flags, arg, size)
        if self._signals_itself:  # who is woken by a ring's signal is the cause of another, a grace period of RCU later
            for _ in range(3):  # MEMBARRIER_CMD_GLOBAL takes as long, and what was put off comes a little later
                _call(_MEMBARRIER, 1, 0, 0)
        return returned

    def sys_register(self, fd: int, op: int, arg: int, nr: int) -> int:
        return _call(_REGISTER, fd, op, arg, nr)

    def sys_close(self, handle: int) -> None:
        os.close(handle)

    def sys_nonblock(self, handle: int) -> None:
        os.set_blocking(handle, False)

    def number(self, name: str) -> int:
        if name in self.rings:
            return self.rings[name].handle
        return self.files.get(name, 9999)

    def opened(self, name: str) -> None:
        pass

    def forget(self, name: str) -> None:
        pass

    def settle(self) -> None:
        self.settled()

    def settled(self) -> None:
        """Wait for the threads that io_uring has made in this process (workers, pollers), and for the helper.

        For a poller only where each sleeps as soon as it can, after a millisecond.
        What they have been given makes them run at once; they sleep when it is done, or waits for something. To look at
        them takes a descriptor, and not one that the program has closed: a worker might find it.
        """
        os.close(self._spare)  # the lowest
        try:
            self._wait_for_threads()
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _wait_for_threads(self) -> None:
        quiet, until, own = 0, time.monotonic() + 1, str(threading.get_native_id())
        while quiet < 2:  # what a worker has ended may begin something else in our next system call
            tasks = [task for task in os.listdir("/proc/self/task") if task not in (own, self._main)]  # noqa: PTH208
            if not tasks:
                return
            quiet = 0 if any(_busy(task, self.impatient) for task in tasks) else quiet + 1
            if time.monotonic() > until:
                return
            if not quiet:
                os.sched_yield()

    def together(self, steps: tuple[Outside, ...]) -> list[Seen]:
        """Do these in one system call: task work of all other rings of the thread runs when a call returns.

        A ring with DEFER_TASKRUN leaves its task work until its client enters, and that of a ring with SQPOLL belongs
        to another thread: beside these any calls will do.
        """
        if all(ring.flags & (SetupFlags.DEFER_TASKRUN | SetupFlags.SQPOLL) for ring in self.rings.values()):
            return super().together(steps)
        bytes_ = [ffi.from_buffer(step.data if isinstance(step, Write) else b"") for step in steps]
        seen: list[Seen] = [None] * len(steps)
        made = ffi.new("unsigned[30]", [0, 0, SetupFlags.SUBMIT_ALL, *(0,) * 27])
        handle = _out_of_the_way(_call(_SETUP, len(steps), int(ffi.cast("uintptr_t", made))))
        with closing(self.sys_ring(handle, parameters(list(made)))) as ring:
            for n, (step, what) in enumerate(zip(steps, bytes_, strict=True)):
                assert isinstance(step, Write | Close), "another call would let the rings have a turn"
                if step.file not in self.files:
                    seen[n] = "no file"
                elif isinstance(step, Close):
                    ring.fill(Entry(_OP_CLOSE, fd=self.files.pop(step.file), user_data=n))
                elif not self._ready(self.files[step.file], select.POLLOUT):
                    seen[n] = AGAIN
                else:
                    at, length = int(ffi.cast("uintptr_t", what)), len(step.data)
                    ring.fill(Entry(Op.WRITE, fd=self.files[step.file], addr=at, len=length, off=-1, user_data=n))
            count = ring.publish()
            done = _call(_ENTER, handle, count, 0, 0, 0, 0)
            results = ring.reap(len(steps))
        os.close(handle)
        assert (done, len(results)) == (count, count), "something had to wait"
        for cqe in results:
            seen[cqe.user_data] = None if isinstance(steps[cqe.user_data], Close) else cqe.res
        self.settled()
        return seen

    def wait(self, ring: Ring, count: int) -> None:
        at = self.memory.address + len(self.memory.bytes) - 64
        struct.pack_into(
            "=QIIQqq", self._wait_argument, 0, 0, 0, 0, at + 24, *divmod(int(self.patience_s * 1e9), 10**9)
        )
        until = time.monotonic() + self.patience_s
        while True:  # a TIMEOUT that fires ends a call before all is there
            _call(_ENTER, ring.handle, 0, count, GETEVENTS | EXT_ARG, at, 24)
            if self.available(ring) >= count or time.monotonic() > until:
                return
