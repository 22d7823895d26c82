"""A ring of the host's and one of ours with the same surroundings, so that one program can be played on both.

Each world has memory that requests may point into, pipes, a socket pair and an eventfd under the same names, and a
ring. Ours has the host's descriptors installed as files, runs on real time, and follows the host's version.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import socket
import struct
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Protocol

from tests.host_ring import HostRing, system_call
from tests.ring_helper import ARENA_ADDRESS, ARENA_SIZE, GETEVENTS, Cqe, Ring, Sqe
from uring_iopf._core import ffi, lib
from uring_iopf.core import Core

if TYPE_CHECKING:
    pass

ENTER, REGISTER = 426, 427
SETTLE_S: Final = 0.004


def host_version() -> tuple[int, int]:
    """Return the host's kernel version."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    assert found
    return int(found[1]), int(found[2])


class World(Protocol):
    """What a program may do, besides what it does with `Player`."""

    address: int
    ring: Any

    def push(self, *sqes: Sqe) -> None: ...
    def enter(self, to_submit: int, min_complete: int = 0, flags: int = 0) -> int: ...
    def enter_ext(self, to_submit: int, min_complete: int, flags: int, argument: bytes | None, size: int) -> int: ...
    def register(self, op: int, argument: bytearray | None, nr_args: int) -> int: ...
    def reap(self) -> list[Cqe]: ...
    def word(self, name: str) -> int: ...
    def store(self, name: str, value: int) -> None: ...
    def enter_fd(self, fd: int, to_submit: int, flags: int) -> int: ...
    def register_fd(self, fd: int, op: int, argument: bytearray | None, nr_args: int) -> int: ...
    def put(self, offset: int, data: bytes) -> None: ...
    def get(self, offset: int, length: int) -> bytes: ...
    def fd(self, name: str) -> int: ...
    def more_ring(self, entries: int = 16, cq_entries: int = 0, flags: int = 0) -> World: ...


class Surroundings:
    """Pipes ``r`` to ``w`` and ``r2`` to ``w2``, a stream socket pair ``s`` and ``t``, an eventfd ``e``."""

    def __init__(self, stack: ExitStack) -> None:
        self.real: dict[str, int] = {}
        for reader, writer in (("r", "w"), ("r2", "w2")):
            self.real[reader], self.real[writer] = os.pipe()
        for name, end in zip("st", socket.socketpair(), strict=True):
            self.real[name] = end.detach()
        self.real["e"] = os.eventfd(0)
        stack.callback(self.close)

    def close(self) -> None:
        for fd in self.real.values():
            os.close(fd)
        self.real.clear()

    def shut(self, name: str) -> None:
        """Close this end."""
        os.close(self.real.pop(name))


class HostWorld:
    """The host's io_uring. Raises: OSError, it is refused."""

    def __init__(
        self,
        around: Surroundings,
        stack: ExitStack,
        entries: int = 16,
        cq_entries: int = 0,
        flags: int = 0,
        memory: mmap.mmap | None = None,
    ) -> None:
        self._around, self._stack = around, stack
        self._memory = memory or mmap.mmap(-1, ARENA_SIZE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.ring = HostRing(entries, cq_entries=cq_entries, flags=flags)
        stack.callback(self.ring.close)
        self.push, self.enter, self.reap = self.ring.push, self.ring.enter, self.ring.reap
        self.word, self.store = self.ring.word, self.ring.store

    def enter_ext(self, to_submit: int, min_complete: int, flags: int, argument: bytes | None, size: int) -> int:
        buffer = ctypes.create_string_buffer(argument, len(argument)) if argument is not None else None
        return system_call(
            ENTER, self.ring.fd, to_submit, min_complete, flags, ctypes.addressof(buffer) if buffer else 0, size
        )

    def register(self, op: int, argument: bytearray | None, nr_args: int) -> int:
        if argument is None:
            return system_call(REGISTER, self.ring.fd, op, 0, nr_args)
        buffer = ctypes.create_string_buffer(bytes(argument), max(1, len(argument)))
        result = system_call(REGISTER, self.ring.fd, op, ctypes.addressof(buffer), nr_args)
        argument[:] = buffer.raw[: len(argument)]
        return result

    def enter_fd(self, fd: int, to_submit: int, flags: int) -> int:
        return system_call(ENTER, fd, to_submit, 0, flags, 0, 0)

    def register_fd(self, fd: int, op: int, argument: bytearray | None, nr_args: int) -> int:
        assert argument is None
        return system_call(REGISTER, fd, op, 0, nr_args)

    def put(self, offset: int, data: bytes) -> None:
        self._memory[offset : offset + len(data)] = data

    def get(self, offset: int, length: int) -> bytes:
        return self._memory[offset : offset + length]

    def fd(self, name: str) -> int:
        return self.ring.fd if name == "ring" else self._around.real[name]

    def more_ring(self, entries: int = 16, cq_entries: int = 0, flags: int = 0) -> HostWorld:
        return HostWorld(self._around, self._stack, entries, cq_entries, flags, self._memory)


class OurWorld:
    """Ours, of the host's version."""

    def __init__(
        self,
        around: Surroundings,
        stack: ExitStack,
        entries: int = 16,
        cq_entries: int = 0,
        flags: int = 0,
        core: Core | None = None,
    ) -> None:
        self._stack = stack
        self._around = around
        if core is None:
            core = stack.enter_context(Core(live=True, kernel="{}.{}".format(*host_version())))
        self._core = core
        self.ring = Ring(core, entries, cq_entries=cq_entries, flags=flags)
        stack.callback(self.ring.close)
        self.address = ARENA_ADDRESS
        self._fds: dict[str, int] = {}
        for name, fd in around.real.items():
            self._fds[name] = core.install_host_file(fd)
        self._fds["ring"] = lib.uiopf_core_install(core.c, lib.uiopf_engine_file(self.ring.engine))
        stack.callback(self._uninstall)
        self.push, self.enter, self.reap = self.ring.push, self.ring.enter, self.ring.reap
        self.word, self.store = self.ring.word, self.ring.store

    def _uninstall(self) -> None:
        for fd in self._fds.values():
            lib.uiopf_core_uninstall(self._core.c, fd)

    def enter_ext(self, to_submit: int, min_complete: int, flags: int, argument: bytes | None, size: int) -> int:
        buffer = ffi.NULL if argument is None else ffi.new("char[]", argument)
        return int(lib.uiopf_enter_ext(self.ring.engine, to_submit, min_complete, flags, buffer, size))

    def register(self, op: int, argument: bytearray | None, nr_args: int) -> int:
        if argument is None:
            return int(lib.uiopf_register(self.ring.engine, op, ffi.NULL, nr_args))
        buffer = ffi.new("char[]", max(1, len(argument)))
        ffi.memmove(buffer, bytes(argument), len(argument))
        result = int(lib.uiopf_register(self.ring.engine, op, buffer, nr_args))
        argument[:] = bytes(ffi.buffer(buffer, len(argument)))
        return result

    def enter_fd(self, fd: int, to_submit: int, flags: int) -> int:
        return int(lib.uiopf_enter_fd(self._core.c, fd & 0xFFFFFFFF, to_submit, 0, flags, ffi.NULL, 0))

    def register_fd(self, fd: int, op: int, argument: bytearray | None, nr_args: int) -> int:
        assert argument is None
        return int(lib.uiopf_register_fd(self._core.c, fd & 0xFFFFFFFF, op, ffi.NULL, nr_args))

    def put(self, offset: int, data: bytes) -> None:
        self.ring.put(ARENA_ADDRESS + offset, data)

    def get(self, offset: int, length: int) -> bytes:
        return self.ring.at(ARENA_ADDRESS + offset, length)

    def fd(self, name: str) -> int:
        return self._fds[name]

    def forget(self, name: str) -> None:
        """Uninstall the descriptor of this name."""
        lib.uiopf_core_uninstall(self._core.c, self._fds.pop(name))

    def more_ring(self, entries: int = 16, cq_entries: int = 0, flags: int = 0) -> OurWorld:
        return OurWorld(_nothing_around(), self._stack, entries, cq_entries, flags, self._core)


def _nothing_around() -> Surroundings:
    around = Surroundings.__new__(Surroundings)
    around.real = {}
    return around


class Player:
    """Plays a program in a world, and writes down what can be seen."""

    def __init__(self, world: World, around: Surroundings) -> None:
        self.world, self._around = world, around
        self.seen: list[Any] = []

    def at(self, offset: int) -> int:
        """The address of this offset in the memory."""
        return self.world.address + offset

    def fd(self, name: str) -> int:
        return self.world.fd(name)

    def note(self, *what: object) -> None:
        self.seen.append(what)

    def submit(self, *sqes: Sqe, flags: int = GETEVENTS) -> None:
        """One enter; then what has completed when it has returned is written down, in order."""
        self.world.push(*sqes)
        self.note("enter", self.world.enter(len(sqes), 0, flags), *self.world.reap())

    def settle(self, *, ordered: bool = True) -> None:
        """What has completed when everything had its time."""
        cqes: list[Cqe] = []
        for _ in range(2):
            time.sleep(SETTLE_S)
            self.world.enter(0, 0, GETEVENTS)
            cqes += self.world.reap()
        self.note("later", *(cqes if ordered else sorted(cqes)))

    def run(self, *sqes: Sqe, ordered: bool = True) -> None:
        """Submit, and wait until all have had their time: what a worker thread does comes as it pleases."""
        self.world.push(*sqes)
        submitted = self.world.enter(len(sqes), 0, GETEVENTS)
        cqes = self.world.reap()
        for _ in range(2):
            time.sleep(SETTLE_S)
            self.world.enter(0, 0, GETEVENTS)
            cqes += self.world.reap()
        self.note("run", submitted, *(cqes if ordered else sorted(cqes)))

    def each(self, *sqes: Sqe) -> None:
        """Each SQE alone."""
        for sqe in sqes:
            self.run(sqe)

    def enter(self, to_submit: int, min_complete: int = 0, flags: int = 0) -> None:
        self.note("enter", self.world.enter(to_submit, min_complete, flags))

    def reap(self) -> None:
        self.note("reap", *self.world.reap())

    def write(self, name: str, data: bytes) -> None:
        """Write to the other side of a request, by hand."""
        os.write(self._around.real[name], data)

    def read(self, name: str, length: int = 4096) -> None:
        self.note("read", os.read(self._around.real[name], length))

    def shut(self, name: str) -> None:
        """Close an end that no request is on."""
        forget = getattr(self.world, "forget", None)
        if forget:
            forget(name)
        self._around.shut(name)

    def register(self, op: int, argument: bytes | None = None, nr_args: int = 1) -> bytes:
        """Write down what it returns; return the argument as it was left."""
        buffer = None if argument is None else bytearray(argument)
        self.note("register", int(op), self.world.register(op, buffer, nr_args))
        return bytes(buffer or b"")

    # ---- things that programs put into memory ----

    def timespec(self, seconds: int = 0, ns: int = 0, offset: int = 0x100) -> int:
        self.world.put(offset, struct.pack("=qq", seconds, ns))
        return self.at(offset)

    def vector(self, *segments: tuple[int, int], offset: int = 0x200) -> int:
        data = b"".join(struct.pack("=QQ", at, length) for at, length in segments)
        self.world.put(offset, data)
        return self.at(offset)

    def numbers(self, *numbers: int, offset: int = 0x400, form: str = "i") -> int:
        self.world.put(offset, struct.pack(f"={len(numbers)}{form}", *numbers))
        return self.at(offset)
