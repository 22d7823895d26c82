"""A ring on an inline core, memory for it, and a fault queue with a device to report on: what ring tests start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from uring_iopf._core import ffi, lib
from uring_iopf.abi import EnterFlags, Op, SqeFlags
from uring_iopf.abi.records import MESSAGE_BYTES, RESPONSE_BYTES, pack_response, unpack_messages
from uring_iopf.core import Core
from uring_iopf.errors import KernelError
from uring_iopf.rings import BufferRing, Cqe, KernelRing, Ring, Sqe, Window

MESSAGE, RESPONSE = MESSAGE_BYTES, RESPONSE_BYTES
MERGED, PROPOSED, COMMANDS = 0, 1, 3
GETEVENTS = EnterFlags.GETEVENTS
POLLIN, POLLOUT, POLLRDNORM = 0x1, 0x4, 0x40

ARENA_ADDRESS = 0x7000_0000_0000  # where the client says its memory is
ARENA_SIZE = 1 << 18


def returned(call: Callable[[], int | None]) -> int:
    """What a system call returns: its result, or -errno."""
    try:
        return call() or 0
    except KernelError as error:
        return -(error.errno or 0)


nop = Sqe.nop
cancel = Sqe.async_cancel


def inject(user_data: int, res: int, **fields: int) -> Sqe:
    """A NOP with that result."""
    return nop(user_data, op_flags=1, len=res, **fields)


def bad(user_data: int) -> Sqe:
    """One that is refused before it starts: no such operation."""
    return Sqe(255, user_data=user_data)


class Queue:
    """A fault queue with one device attached that is reported on by hand, and its descriptor for rings."""

    def __init__(self, core: Core, personality: int = PROPOSED, *, nonblock: bool = False) -> None:
        self._core = core
        self.mock = lib.uiopf_mock_new(core.c)
        self.c = lib.uiopf_faultq_new(core.c, personality)
        self.device = lib.uiopf_device_new(core.c, lib.uiopf_mock_iommu(self.mock), 7, 0, 64, 1)
        assert lib.uiopf_attach(self.device, lib.UIOPF_NO_PASID, self.c, lib.UIOPF_USER_MANAGED) == 0
        self.fd = int(lib.uiopf_core_install(core.c, lib.uiopf_faultq_file(self.c)))
        lib.uiopf_core_set_nonblock(core.c, lib.uiopf_faultq_file(self.c), nonblock)
        self._next_group = 0

    def close(self) -> None:
        lib.uiopf_detach(self.device, lib.UIOPF_NO_PASID)
        lib.uiopf_core_uninstall(self._core.c, self.fd, ffi.NULL)
        assert lib.uiopf_faultq_free(self.c) == 0
        lib.uiopf_device_free(self.device)
        lib.uiopf_mock_free(self.mock)

    def report(self, count: int = 1, *, pages: int = 1) -> None:
        """Report groups of *pages* faults each. Their group ids are 0, 1, 2 … over the queue's life."""
        for _ in range(count):
            for page in range(pages):
                flags = 1 | (2 if page == pages - 1 else 0)
                lib.uiopf_device_report(self.device, flags, 5, self._next_group, 1, (self._next_group << 16) + page)
            self._next_group += 1

    def read(self, length: int = MESSAGE) -> bytes | int:
        """read(2): the bytes, or -errno."""
        to = ffi.new("uint8_t[]", max(length, 1))
        n = int(lib.uiopf_faultq_read(self.c, to, length))
        return bytes(ffi.buffer(to, n)) if n >= 0 else n

    def waiting(self) -> int:
        counts = ffi.new("struct uiopf_faultq_counts *")
        lib.uiopf_faultq_counts(self.c, counts)
        return int(counts.waiting_groups)

    def answers(self) -> list[tuple[int, int]]:
        """What reached the device: (group id, code), oldest first."""
        out = ffi.new("struct uiopf_mock_response[64]")
        n = lib.uiopf_mock_take(self.mock, out, 64)
        return [(out[i].grpid, out[i].code) for i in range(n)]


class Arena(Window):
    """Memory at an address of its own. Group g has its buffer ring at page g, and the buffers are in the upper half."""

    def __init__(self) -> None:
        super().__init__(ARENA_SIZE, address=ARENA_ADDRESS)

    def buffers(self, ring: KernelRing, group: int = 0, entries: int = 8) -> Buffers:
        return Buffers(ring, group, entries, self, ARENA_ADDRESS + 4096 * group)


class Buffers(BufferRing):
    """A group's buffers."""

    def give(self, *ids: int, length: int = MESSAGE, address: int = 0) -> None:
        for bid in ids:
            self.provide(bid, address or buffer_address(bid), length)


def buffer_address(bid: int) -> int:
    return ARENA_ADDRESS + ARENA_SIZE // 2 + 1024 * bid


def data_address(user_data: int) -> int:
    """Where a request of this number reads to or writes from."""
    return ARENA_ADDRESS + 0x10000 + 1024 * (user_data % 64)


def group_of(message: bytes) -> int:
    """The group id in a message."""
    (one,) = unpack_messages(message)
    return one.grpid


class Bench:
    """A core, a queue and a ring with an arena, closed in the right order. Its kernel is the oldest, unless named."""

    def __init__(
        self,
        personality: int = PROPOSED,
        *,
        nonblock: bool = False,
        live: bool = False,
        entries: int = 8,
        cq_entries: int = 0,
        flags: int = 0,
        kernel: str = "6.12",
    ) -> None:
        with ExitStack() as stack:
            self.core = stack.enter_context(Core(live=live, kernel=kernel))
            self.queue = Queue(self.core, personality, nonblock=nonblock)
            stack.callback(self.queue.close)
            self.arena = stack.enter_context(Arena())
            self.ring = stack.enter_context(Ring(self.core, entries, cq_entries=cq_entries, flags=flags))
            self.ring.add_window(self.arena)
            self._buffers: dict[int, Buffers] = {}
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def buffers(self, group: int) -> Buffers:
        """The group's buffers, registered when they are asked for first: no buffer is provided then."""
        if group not in self._buffers:
            self._buffers[group] = self.arena.buffers(self.ring, group)
        return self._buffers[group]

    def read(self, user_data: int, **fields: int) -> Sqe:
        fields = {"fd": self.queue.fd, "addr": data_address(user_data), "len": MESSAGE} | fields
        return Sqe(Op.READ, user_data=user_data, **fields)

    def read_select(self, user_data: int, **fields: int) -> Sqe:
        fields = {"fd": self.queue.fd, "flags": SqeFlags.BUFFER_SELECT} | fields
        return Sqe(Op.READ, user_data=user_data, **fields)

    def read_multishot(self, user_data: int, **fields: int) -> Sqe:
        fields = {"fd": self.queue.fd, "flags": SqeFlags.BUFFER_SELECT} | fields
        return Sqe(Op.READ_MULTISHOT, user_data=user_data, **fields)

    def write(self, user_data: int, cookie: int, code: int = 0, **fields: int) -> Sqe:
        address = data_address(user_data)
        self.arena.write(address, pack_response(cookie, code))
        fields = {"fd": self.queue.fd, "addr": address, "len": RESPONSE} | fields
        return Sqe(Op.WRITE, user_data=user_data, **fields)

    def poll(self, user_data: int, events: int = POLLIN, **fields: int) -> Sqe:
        fields = {"fd": self.queue.fd} | fields
        return Sqe(Op.POLL_ADD, user_data=user_data, op_flags=events, **fields)

    def groups(self, cqes: Sequence[Cqe]) -> list[tuple[int, int]]:
        """For completed READs: (user_data, group id read), in the order of the completions."""
        return [(c.user_data, group_of(self.arena.read(data_address(c.user_data), MESSAGE))) for c in cqes]
