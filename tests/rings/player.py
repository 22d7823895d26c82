"""Plays programs: all of what a client does is here, once; what a kernel does is left to a subclass.

The client's side of a ring is the same for both kernels: mappings at io_uring's offsets, words where the parameters say
they are. Nothing sleeps to let things happen. What a step sets off in a kernel has happened when the step is over,
since there is one task; for what comes by itself (a time that is over, a worker of the kernel) a program has `Wait`,
which knows what it waits for.
"""

from __future__ import annotations

import abc
import array
import fcntl
import mmap
import os
import platform
import pty
import select
import shutil
import signal
import socket
import stat
import struct
import tempfile
import termios
import threading
import time
import tty
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, assert_never

from cffi import FFI

from tests.rings import language as say
from tests.rings.language import (
    ARENA_SIZE,
    EXT_ARG,
    GETEVENTS,
    At,
    Blob,
    Fd,
    Hole,
    HostFd,
    Operand,
    Program,
    Seen,
    Soon,
)
from uring_iopf._core import ffi as native
from uring_iopf.abi import RegisterOp, SetupFlags
from uring_iopf.rings import ClientRing, Sqe

SHORT_FIELDS: Final = {"flags": 8, "ioprio": 16, "fd": 32, "buf_group": 16, "personality": 16}
"""Bits of the SQE's fields that a program may give too large numbers for; `Sqe` cuts the longer ones itself."""
SIZES: Final = {"B": 8, "H": 16, "I": 32, "Q": 64}
HOLE_SIZE: Final = 1 << 16
FUTEX: Final = b"202" if platform.machine() == "x86_64" else b"98"
"""The system call that Python's locks sleep in."""
PART: Final = 1024
"""Bytes of memory that a digest is of."""
NOTHING: Final = bytes(PART)
AGAIN: Final = -11
BOUND_S: Final = 10
"""Nothing that is waited for takes as long."""
TERMINAL_S: Final = 0.02
"""What a terminal's other end does not have by then, somebody has read, or there was no room."""


def _waiting(fd: int) -> int:
    """Bytes that wait to be read."""
    there = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, there)
    return there[0]


@contextmanager
def _as_socket(fd: int) -> Iterator[socket.socket]:
    """No duplicate: its number might be one that a request is to find closed."""
    one = socket.socket(fileno=fd)
    try:
        yield one
    finally:
        one.detach()


def _read(fd: int, count: int) -> bytes:
    """What is ready; never a wait: a socket that has nothing but MSG_OOB is ready to be polled, and not to be read."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return os.read(fd, count)
    with _as_socket(fd) as one:
        return one.recv(count, socket.MSG_DONTWAIT)


class NoInstancesError(Exception):
    """The host has no inotify instance left (fs.inotify.max_user_instances).

    A ring that holds itself, by a request of its own that waits for it, is never freed by the host, even when its
    process has ended; nor are the files that it holds. Programs draw such rings, and after some hundred thousand of
    them there is no instance left until the host is started again.
    """


ffi = FFI()
ffi.cdef("""
long syscall(long number, ...);
int timerfd_create(int clock, int flags);
int timerfd_settime(int fd, int flags, const char *when, void *before);
int inotify_init1(int flags);
int inotify_add_watch(int fd, const char *path, uint32_t mask);
void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
int munmap(void *addr, size_t length);
""")
libc: Any = ffi.dlopen(None)


def _tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for end in (one, other):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def _udp() -> tuple[socket.socket, socket.socket]:
    ends = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
    for end in ends:
        end.bind(("127.0.0.1", 0))
    for end, other in (ends, ends[::-1]):
        end.connect(other.getsockname())
    return ends


_INTERNET: Final = {"tcp": _tcp, "udp": _udp}


class Memory:
    """The arena: pages at an address of their own, with nothing behind them."""

    def __init__(self) -> None:
        private_anonymous = 0x22
        whole = libc.mmap(ffi.NULL, ARENA_SIZE + HOLE_SIZE, 0, private_anonymous, -1, 0)
        self.address = int(ffi.cast("uintptr_t", whole))
        fixed = 0x10
        libc.mmap(whole, ARENA_SIZE, 3, private_anonymous | fixed, -1, 0)
        self._whole = whole
        self.bytes = memoryview(ffi.buffer(whole, ARENA_SIZE))
        self._used = 0

    def clear(self) -> None:
        """As new: what is not touched again costs nothing."""
        fixed_private_anonymous = 0x32
        libc.mmap(self._whole, ARENA_SIZE, 3, fixed_private_anonymous, -1, 0)
        self._used = 0

    def place(self, size: int) -> int:
        """Room for a struct: its offset. As many as there is room for, one behind the other."""
        at = say.BLOBS + self._used
        self._used += (size + 15) & ~15
        assert at + size <= say.DATA, "too many structs for one program"
        return at

    def close(self) -> None:
        self.bytes.release()
        libc.munmap(self._whole, ARENA_SIZE + HOLE_SIZE)


@dataclass
class Ring:
    """One ring that a program has."""

    handle: int
    params: list[int]
    """The 30 words of struct io_uring_params as setup left them."""
    client: ClientRing

    @property
    def flags(self) -> int:
        return self.params[2]

    def load(self, name: str) -> int:
        return self.client.load(name)  # type: ignore[arg-type]

    def store(self, name: str, value: int) -> None:
        self.client.store(name, value)  # type: ignore[arg-type]


def parameters(words: list[int]) -> Any:
    """The struct of these words. RESIZE_RINGS does not say where the SQ array is, and puts it where setup does."""
    params = native.new("struct io_uring_params *")
    native.memmove(params, struct.pack("=30I", *words), 120)
    if not params.sq_off.array and not params.flags & SetupFlags.NO_SQARRAY:
        before = params.cq_off.cqes + 16 * params.cq_entries
        if params.flags & SetupFlags.CQE32:
            before *= 2  # as Linux has it, which doubles the header as well
        params.sq_off.array = (before + 63) & ~63
    return params


@contextmanager
def bounded(blocks: bool) -> Iterator[None]:
    """A wait without an end would hang the tests: a signal ends it, and -EINTR is what is compared."""
    if not blocks:
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, BOUND_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def pack(format_: str, values: tuple[int, ...]) -> bytes:
    """Values into a struct, each cut to the size of its place."""
    codes = "".join(code * int(count or 1) for count, code in _codes(format_))
    signed = {"b": "B", "h": "H", "i": "I", "q": "Q"}
    codes = "".join(signed.get(code, code) for code in codes)
    return struct.pack("=" + codes, *(v & (1 << SIZES[code]) - 1 for v, code in zip(values, codes, strict=True)))


def _codes(format_: str) -> list[tuple[str, str]]:
    out, count = [], ""
    for char in format_:
        if char.isdigit():
            count += char
        else:
            out.append((count, char))
            count = ""
    return out


class Helper:
    """A thread that calls what it is given."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Seen] | None] = SimpleQueue()
        self._results: SimpleQueue[Seen] = SimpleQueue()
        self.busy = False
        """Whether it is in a call whose result nobody has asked for."""
        self._thread = threading.Thread(target=self._run, name="helper", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while call := self._calls.get():
            self._results.put(call())

    def call(self, call: Callable[[], Seen]) -> Seen:
        self.begin(call)
        return self.end()

    def begin(self, call: Callable[[], Seen]) -> None:
        self.busy = True
        self._calls.put(call)

    def end(self) -> Seen:
        """Wait for what was begun: what it returned."""
        result = self._results.get()
        self.busy = False
        return result

    def until_asleep(self) -> None:
        """Until the call that was begun has ended, or sleeps in the kernel for something else than Python's locks."""
        until = time.monotonic() + BOUND_S
        while self._results.empty() and time.monotonic() < until:
            task = f"/proc/self/task/{self._thread.native_id}/"
            with open(task + "syscall", "rb", 0) as call, open(task + "stat", "rb", 0) as state:  # noqa: PTH123
                number, is_ = call.read().split()[0], state.read().rpartition(b")")[2].split()[0]
            if is_ == b"S" and number not in (b"running", FUTEX):
                return
            time.sleep(0)

    def close(self) -> None:
        self._calls.put(None)
        self._thread.join()


class Player(abc.ABC):
    """One kernel, and whatever a program has made on it."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.rings: dict[str, Ring] = {}
        self.impatient = True
        """Whether all threads that poll a ring sleep as soon as they can."""
        self.files: dict[str, int] = {}
        self._folder: Path | None = None
        self.patience_s: float = BOUND_S
        """Nothing that a program waits for takes longer."""
        self._watching: set[str] = set()
        """Files that are told of files that are made."""

    @cached_property
    def helper(self) -> Helper:
        """Another thread, which has had a ring: whether a thread ever had one is for Linux to know."""
        helper = Helper()
        helper.call(self.sys_make)
        return helper

    # ---- what a kernel does ----

    @abc.abstractmethod
    def sys_setup(self, entries: int, params: int) -> int:
        """io_uring_setup(2) with the parameters at an address: a handle, or -errno."""

    def sys_make(self) -> None:  # noqa: B027
        """Make a ring, and close it."""

    @abc.abstractmethod
    def sys_map(self, handle: int, offset: int, length: int) -> mmap.mmap:
        """mmap(2) of a ring. Raises: OSError."""

    @abc.abstractmethod
    def sys_ring(self, handle: int, params: Any) -> ClientRing:
        """The client's mapping of a ring, which has these parameters."""

    @abc.abstractmethod
    def sys_enter(self, fd: int, to_submit: int, min_complete: int, flags: int, arg: int, size: int) -> int: ...

    def sys_enter_beside(self, fd: int, to_submit: int, min_complete: int, flags: int, arg: int, size: int) -> int:
        """The same, and no more, in another thread, while this one goes on."""
        return self.sys_enter(fd, to_submit, min_complete, flags, arg, size)

    @abc.abstractmethod
    def sys_register(self, fd: int, op: int, arg: int, nr: int) -> int: ...

    @abc.abstractmethod
    def sys_close(self, handle: int) -> None:
        """Close a ring."""

    @abc.abstractmethod
    def sys_nonblock(self, handle: int) -> None:
        """fcntl(2): set O_NONBLOCK of a ring."""

    @abc.abstractmethod
    def number(self, name: str) -> int:
        """What this kernel knows a file or a ring by."""

    @abc.abstractmethod
    def opened(self, name: str) -> None:
        """A file has been opened."""

    @abc.abstractmethod
    def forget(self, name: str) -> None:
        """A file is about to be closed."""

    @abc.abstractmethod
    def settle(self) -> None:
        """What a system call of the process has set off happens before that returns."""

    def settled(self) -> None:  # noqa: B027
        """The kernel's own threads have done what there was to do."""

    @abc.abstractmethod
    def wait(self, ring: Ring, count: int) -> None:
        """Until so many completions are there, or nothing more comes."""

    def together(self, steps: tuple[say.Outside, ...]) -> list[Seen]:
        """Do these, and let no ring have a turn in between."""
        return [self.outside(step) for step in steps]

    # ---- playing ----

    def play(self, program: Program) -> list[Seen]:
        """What each step shows."""
        with ExitStack() as stack:
            stack.callback(self.clean)
            return [self.step(step) for step in program.steps]

    def clean(self) -> None:
        """Close what the program left open. Rings go first."""
        for name in list(self.rings):
            self._free(name)
        for name in list(self.files):
            self._close(name)
        self.memory.clear()
        self.impatient = True
        self._watching.clear()

    def close(self) -> None:
        if "helper" in self.__dict__:
            self.helper.close()
        if self._folder is not None:
            shutil.rmtree(self._folder)
        self.memory.close()

    def resolve(self, operand: Operand) -> int:
        if isinstance(operand, int):
            return operand
        if isinstance(operand, At):
            return self.memory.address + operand.offset
        if isinstance(operand, Hole):
            return self.memory.address + ARENA_SIZE + operand.offset
        if isinstance(operand, Fd):
            return self.number(operand.name)
        if isinstance(operand, HostFd):
            return self.files.get(operand.name, 9999)
        if isinstance(operand, Blob):
            return self.memory.address + self._lay(operand)[0]
        if isinstance(operand, Soon):
            when = divmod(time.clock_gettime_ns(operand.clock) + operand.ns, 10**9)
            return self.memory.address + self._lay(Blob("qq", when))[0]
        assert_never(operand)

    def _lay(self, blob: Blob) -> tuple[int, int]:
        """Lay a struct into the arena: its offset and its size."""
        packed = pack(blob.format, tuple(self.resolve(value) for value in blob.values))
        at = self.memory.place(len(packed))
        self.memory.bytes[at : at + len(packed)] = packed
        return at, len(packed)

    def step(self, step: say.Step) -> Seen:
        if isinstance(step, say.Setup):
            return self._setup(step)
        if isinstance(step, say.Open):
            return self._open(step)
        if isinstance(step, say.Put):
            packed = pack(step.format, tuple(self.resolve(value) for value in step.values))
            self.memory.bytes[step.at.offset : step.at.offset + len(packed)] = packed
            return None
        if isinstance(step, say.PutBytes):
            self.memory.bytes[step.at.offset : step.at.offset + len(step.data)] = step.data
            return None
        if isinstance(step, say.Look):
            return self._look(step)
        if isinstance(step, say.Together):
            together = self.together(step.steps)
            self.settle()
            return together
        if isinstance(step, say.Elsewhere):
            elsewhere = self.helper.call(lambda: self.step(step.step))
            self.settle()
            return elsewhere
        if isinstance(step, say.Meanwhile):
            return self._meanwhile(step)
        if isinstance(step, say.Outside):
            seen = self.outside(step)
            self.settle()
            return seen
        ring = self.rings.get(step.ring)
        if ring is None:
            return "no ring"
        if isinstance(step, say.Sqe):
            return self._push(ring, step)
        if isinstance(step, say.Enter):
            return self._enter(ring, step)
        if isinstance(step, say.Wait):
            self.wait(ring, step.count)
            return min(self.available(ring), step.count) if step.count >= 0 else self.available(ring)
        if isinstance(step, say.Reap):
            cqes = self._reap(ring, step.most)
            return cqes if step.order else ["in any order", *sorted(cqes)]
        if isinstance(step, say.Register):
            return self._register(ring, step)
        if isinstance(step, say.MapPut):
            return self._map_put(ring, step)
        if isinstance(step, say.Word):
            return ring.load(step.name)
        if isinstance(step, say.Store):
            ring.store(step.name, step.value)
            return None
        if isinstance(step, say.Params):
            p = ring.params
            words = [ring.load(name) for name in ("sq_mask", "sq_entries", "cq_mask", "cq_entries")]
            return {"features": p[5], "sq_off": p[10:17], "cq_off": p[20:27], "words": words}
        if isinstance(step, say.Free):
            self._free(step.ring)
            return None
        if isinstance(step, say.Nonblock):
            self.sys_nonblock(ring.handle)
            return None
        assert_never(step)

    # ---- rings ----

    def _setup(self, step: say.Setup) -> Seen:
        words = [0] * 30
        words[1], words[2], words[3], words[4] = step.cq_entries, step.flags, step.sq_thread_cpu, step.sq_thread_idle
        words[6], words[7] = self.resolve(step.wq_fd) & 0xFFFFFFFF, step.resv
        at = self.memory.place(120)
        struct.pack_into("=30I", self.memory.bytes, at, *words)
        handle = self.sys_setup(step.entries, self.memory.address + at)
        if handle < 0:
            return handle
        self._free(step.ring)
        made = list(struct.unpack_from("=30I", self.memory.bytes, at))
        self.rings[step.ring] = Ring(handle, made, self._mapped(handle, made))
        if step.flags & SetupFlags.SQPOLL:
            self.impatient &= step.sq_thread_idle == 1
        return [0, made[0], made[1]]

    def _mapped(self, handle: int, params: list[int]) -> ClientRing:
        client = self.sys_ring(handle, parameters(params))
        if client.has_array:  # as a kernel leaves it, which a client that resizes a ring depends on
            for slot in range(client.sq_entries):
                client.set_index(slot, 0)
        return client

    def _map_put(self, ring: Ring, step: say.MapPut) -> int:
        try:
            with self.sys_map(ring.handle, step.offset, step.length) as memory:
                packed = pack(step.format, tuple(self.resolve(value) for value in step.values))
                memory[step.at : step.at + len(packed)] = packed
        except OSError as error:
            return -(error.errno or 0)
        return 0

    def _free(self, name: str) -> None:
        ring = self.rings.pop(name, None)
        if ring is not None:
            ring.client.close()
            self.sys_close(ring.handle)

    def _push(self, ring: Ring, step: say.Sqe) -> Seen:
        if ring.client.space() <= 0:
            return "full"
        fields = {name: self.resolve(operand) for name, operand in step.fields}
        for name, bits in SHORT_FIELDS.items():
            fields[name] = fields.get(name, 0) & (1 << bits) - 1
        fields["fd"] -= fields["fd"] >> 31 << 32  # it has a sign
        slot = ring.client.fill(Sqe(step.opcode, **fields))
        if slot is None:
            return "full"
        if ring.client.has_array:
            ring.client.set_index(slot, slot if step.index is None else step.index)
        ring.client.publish()
        return None

    def _enter(self, ring: Ring, step: say.Enter) -> Seen:
        given = self._arguments(ring, step)
        if step.thread:
            returned = self.helper.call(lambda: self.sys_enter(*given))
        else:
            with bounded(bool(step.flags & GETEVENTS and step.min_complete and not step.flags & EXT_ARG)):
                returned = self.sys_enter(*given)
        self.settled()
        if ring.flags & SetupFlags.SQPOLL:  # the thread takes SQEs when it likes
            return [returned]
        return [returned, ring.load("sq_head"), *((ring.load("sq_flags") & 6,) if step.look else ())]

    def _meanwhile(self, step: say.Meanwhile) -> Seen:
        ring = self.rings.get(step.enter.ring)
        if ring is None:
            return "no ring"
        given = self._arguments(ring, step.enter)
        self.helper.begin(lambda: self.sys_enter_beside(*given))
        try:
            self.helper.until_asleep()
            seen = [self.step(one) for one in step.steps]
        finally:
            returned = self.helper.end()
        self.settle()
        return [returned, *seen]

    def _arguments(self, ring: Ring, step: say.Enter) -> tuple[int, int, int, int, int, int]:
        to_submit = step.to_submit
        if to_submit < 0:
            to_submit = ring.client.sq_entries - ring.client.space()
        least = min(step.min_complete, self._most_waited_for(ring if step.fd is None else None))
        return self._given(step), to_submit, least, step.flags, self.resolve(step.arg), step.size

    def _most_waited_for(self, ring: Ring | None) -> int:
        """So many completions may be waited for on this ring, or on whichever of them.

        With one slot left of a queue of both sizes, and a CQE of 32 bytes that waits for two, Linux 6.18 tries to flush
        its backlog for ever if a call waits for that slot, too: it never sleeps, takes no signal, and can't be killed.
        """
        asked = self.rings.values() if ring is None else (ring,)
        mixed = [one.client.cq_entries - 1 for one in asked if one.flags & SetupFlags.CQE_MIXED]
        return min(mixed, default=0xFFFFFFFF)

    def _given(self, step: say.Enter | say.Register) -> int:
        return self.number(step.ring) if step.fd is None else self.resolve(step.fd)

    def available(self, ring: Ring) -> int:
        """How many completions the client has not taken, as the shared words say."""
        return ring.load("cq_tail") - ring.load("cq_head") & 0xFFFFFFFF

    def _reap(self, ring: Ring, most: int) -> list[Seen]:
        return [[cqe.user_data, cqe.res, cqe.flags, *(cqe.big_cqe or ())] for cqe in ring.client.reap(most)]

    def _register(self, ring: Ring, step: say.Register) -> Seen:
        at, size = (0, 0) if not isinstance(step.arg, Blob) else self._lay(step.arg)
        arg = self.memory.address + at if size else self.resolve(step.arg)
        returned = self.sys_register(self._given(step), step.op, arg, step.nr)
        self.settled()
        if returned == 0 and step.op == RegisterOp.REGISTER_RESIZE_RINGS and size:
            flags = ring.params[2]
            ring.client.close()
            ring.params = list(struct.unpack_from("=30I", self.memory.bytes, at))
            ring.params[2] = flags
            ring.client = self._mapped(ring.handle, ring.params)
        if step.look:
            return [returned, bytes(self.memory.bytes[at : at + size]).hex()]
        return returned

    def _look(self, step: say.Look) -> Seen:
        at = step.at.offset
        if step.count > 256:
            parts = [
                (n, self.memory.bytes[at + n : at + min(n + PART, step.count)]) for n in range(0, step.count, PART)
            ]
            return [[n, f"{zlib.crc32(part):08x}"] for n, part in parts if part != NOTHING[: len(part)]]
        if not step.format:
            return bytes(self.memory.bytes[at : at + step.count]).hex()
        values = struct.unpack_from("=" + step.format, self.memory.bytes, at)
        start = self.memory.address
        return [f"arena+{v - start:#x}" if start <= v < start + ARENA_SIZE else v for v in values]

    # ---- files ----

    def _open(self, step: say.Open) -> Seen:
        ends = self._ends(step)
        if not isinstance(ends, tuple):
            return ends
        opened = dict(zip((step.name + end for end in say.FILE_KINDS[step.kind]), ends, strict=True))
        self.files |= opened
        if step.kind == "inotify":
            self._watching.add(step.name)
        for one_name in opened:
            self.opened(one_name)
        return None

    def _ends(self, step: say.Open) -> tuple[int, ...] | Seen:
        """The descriptors of a new file."""
        nonblock = os.O_NONBLOCK if step.nonblock else 0
        kind = step.kind
        if kind in ("pipe", "packet"):
            ends = os.pipe2(os.O_CLOEXEC | nonblock | (os.O_DIRECT if kind == "packet" else 0))
            if step.value:
                fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, step.value)
            return ends
        if kind == "fifo":
            path = self.folder / "fifo"
            os.mkfifo(path)
            ends = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            path.unlink()
            for end in ends:
                os.set_blocking(end, not step.nonblock)
            return ends
        if kind == "eventfd":
            flags = os.EFD_CLOEXEC | (os.EFD_NONBLOCK if step.nonblock else 0)
            return (os.eventfd(step.value, flags | (os.EFD_SEMAPHORE if step.semaphore else 0)),)
        if kind == "timerfd":
            return (self._timerfd(step),)
        if kind == "inotify":
            fd = libc.inotify_init1(os.O_CLOEXEC | nonblock)
            if fd < 0:
                raise NoInstancesError("the host has no inotify instance left (fs.inotify.max_user_instances)")
            libc.inotify_add_watch(fd, os.fsencode(self.folder), 0x100)  # IN_CREATE
            return (fd,)
        if kind == "epoll":
            inner = os.eventfd(step.value, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            with select.epoll() as outer:
                outer.register(inner, select.EPOLLIN)
                os.set_blocking(outer.fileno(), not step.nonblock)
                return os.dup(outer.fileno()), inner
        if kind == "pty":
            ends = pty.openpty()
            tty.setraw(ends[1])
            for end in ends:
                os.set_inheritable(end, False)
                os.set_blocking(end, not step.nonblock)
            return ends
        if kind == "file":
            return (os.memfd_create(step.name),)
        kinds = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
        pair = socket.socketpair(socket.AF_UNIX, kinds[kind]) if kind in kinds else _INTERNET[kind]()
        for one in pair:
            one.setblocking(not step.nonblock)
        return tuple(one.detach() for one in pair)

    @staticmethod
    def _timerfd(step: say.Open) -> int:
        """With a value it has run out that often; otherwise it never does."""
        fd = int(libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | (os.O_NONBLOCK if step.nonblock else 0)))
        if step.value:
            libc.timerfd_settime(fd, 0, struct.pack("=4q", 0, 0, 0, 1), ffi.NULL)
            select.select([fd], [], [], BOUND_S)
        return fd

    @property
    def folder(self) -> Path:
        """Of the player's own, for files by name."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="rings-"))
        return self._folder

    def _close(self, name: str) -> None:
        fd = self.files.pop(name, None)
        if fd is not None:
            self.forget(name)
            os.close(fd)

    def outside(self, step: say.Outside) -> Seen:
        fd = self.files.get(step.file)
        if fd is None:
            return "no file"
        try:
            if isinstance(step, say.Write) and step.file in self._watching:
                (self.folder / "event").touch()  # which makes an event
                (self.folder / "event").unlink()
                return None
            if isinstance(step, say.Write):
                return self._write(step.file, fd, step.data) if self._ready(fd, select.POLLOUT) else AGAIN
            if isinstance(step, say.Read):
                return _read(fd, step.count).hex() if self._ready(fd, select.POLLIN) else AGAIN
            if isinstance(step, say.Told):
                return bool(self._ready(fd, select.POLLIN) and os.read(fd, 8))
            if isinstance(step, say.Fill):
                return self._fill(fd)
            if isinstance(step, say.Drain):
                return self._drain(fd)
            if isinstance(step, say.Close):
                self._close(step.file)
                return None
            with _as_socket(fd) as one:
                one.shutdown(step.how)
        except OSError as error:
            return -(error.errno or 0)
        return None

    def call_returned(self) -> None:  # noqa: B027
        """A system call of several that are one step has returned: what Linux does before that is done."""

    def _write(self, name: str, fd: int, data: bytes) -> int:
        """A terminal's bytes reach its other end by a worker of the kernel: wait for them, unless somebody reads."""
        end, _, side = name.partition(".")
        other = self.files.get(f"{end}.{'a' if side == 'b' else 'b'}")
        if other is None or not os.isatty(fd):
            return os.write(fd, data)
        before = _waiting(other)
        n = os.write(fd, data)
        until = time.monotonic() + TERMINAL_S
        while _waiting(other) < before + n and time.monotonic() < until:
            time.sleep(0.0005)
        return n

    @staticmethod
    def _ready(fd: int, events: int) -> bool:
        poll = select.poll()
        poll.register(fd, events)
        return bool(poll.poll(0))

    def _fill(self, fd: int) -> int:
        was, total = fcntl.fcntl(fd, fcntl.F_GETFL), 0
        fcntl.fcntl(fd, fcntl.F_SETFL, was | os.O_NONBLOCK)
        try:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        total += os.write(fd, b"f" * size)
                        self.call_returned()
                except BlockingIOError:
                    pass
        finally:
            fcntl.fcntl(fd, fcntl.F_SETFL, was)
        return total

    def _drain(self, fd: int) -> int:
        """What is there when it begins: what a ring writes into the room that this makes stays."""
        there = _waiting(fd)
        total = 0
        while total < there and self._ready(fd, select.POLLIN):
            total += len(_read(fd, min(there - total, 65536)))
        return total
