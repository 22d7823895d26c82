"""The host's own io_uring, by raw system calls."""

from __future__ import annotations

import mmap
import os
import platform
import re
import struct
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from tests.rings.language import EXT_ARG, GETEVENTS, Close, Write
from tests.rings.player import BOUND_S, Player, Ring, ffi, libc, parameters
from uring_iopf.abi import MmapOffset, Op, SetupFlags
from uring_iopf.rings import ClientRing, Sqe

if TYPE_CHECKING:
    from tests.rings.language import Outside, Seen

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_RWF_NOWAIT: Final = 8
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


class HostPlayer(Player):
    """Plays on the host's kernel."""

    def __init__(self) -> None:
        super().__init__()
        self._wait_argument = self.memory.bytes[-64:]

    def close(self) -> None:
        self._wait_argument.release()
        super().close()

    def sys_setup(self, entries: int, params: int) -> int:
        return _call(_SETUP, entries, params)

    def sys_map(self, handle: int, offset: int, length: int) -> mmap.mmap:
        return mmap.mmap(handle, length, offset=offset)

    def sys_ring(self, handle: int, params: Any) -> ClientRing:
        return ClientRing(handle, params, size_bytes=2**64 - 1, sqes_offset=MmapOffset.SQES)

    def sys_enter(self, fd: int, to_submit: int, min_complete: int, flags: int, arg: int, size: int) -> int:
        return _call(_ENTER, fd, to_submit, min_complete, flags, arg, size)

    def sys_register(self, fd: int, op: int, arg: int, nr: int) -> int:
        return _call(_REGISTER, fd, op, arg, nr)

    def sys_close(self, handle: int) -> None:
        os.close(handle)

    def number(self, name: str) -> int:
        if name in self.rings:
            return self.rings[name].handle
        return self.files.get(name, 9999)

    def opened(self, name: str) -> None:
        pass

    def forget(self, name: str) -> None:
        pass

    def settle(self) -> None:
        pass

    def together(self, steps: tuple[Outside, ...]) -> list[Seen]:
        """Do these in one system call: task work of all other rings of the thread runs when a call returns.

        A ring with DEFER_TASKRUN leaves its task work until its client enters, and that of a ring with SQPOLL belongs
        to another thread: beside these any calls will do.
        """
        if all(ring.flags & (SetupFlags.DEFER_TASKRUN | SetupFlags.SQPOLL) for ring in self.rings.values()):
            return super().together(steps)
        bytes_ = [ffi.from_buffer(step.data if isinstance(step, Write) else b"") for step in steps]
        made = ffi.new("unsigned[30]", [0, 0, SetupFlags.SUBMIT_ALL, *(0,) * 27])
        handle = _call(_SETUP, len(steps), int(ffi.cast("uintptr_t", made)))
        with closing(self.sys_ring(handle, parameters(list(made)))) as ring:
            for step, what in zip(steps, bytes_, strict=True):
                assert isinstance(step, Write | Close), "another call would let the rings have a turn"
                if isinstance(step, Close):
                    ring.fill(Sqe(_OP_CLOSE, fd=self.files.pop(step.file)))
                else:
                    at = int(ffi.cast("uintptr_t", what))
                    fd, length = self.files[step.file], len(step.data)
                    ring.fill(Sqe(Op.WRITE, fd=fd, addr=at, len=length, off=-1, op_flags=_RWF_NOWAIT))
            ring.publish()
            done = _call(_ENTER, handle, len(steps), 0, 0, 0, 0)
            results = [cqe.res for cqe in ring.reap(len(steps))]
        os.close(handle)
        assert (done, len(results)) == (len(steps), len(steps)), "something had to wait"
        return [None if isinstance(step, Close) else res for step, res in zip(steps, results, strict=True)]

    def wait(self, ring: Ring, count: int) -> None:
        at = self.memory.address + len(self.memory.bytes) - 64
        struct.pack_into("=QIIQqq", self._wait_argument, 0, 0, 0, 0, at + 24, BOUND_S, 0)
        until = time.monotonic() + BOUND_S
        while True:  # a TIMEOUT that fires ends a call before all is there
            _call(_ENTER, ring.handle, 0, count, GETEVENTS | EXT_ARG, at, 24)
            if self.available(ring) >= count or time.monotonic() > until:
                return
