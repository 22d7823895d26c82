"""A raw ring on an inline core, and a fault queue with a device to report on: what the ring tests are written with."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from uring_iopf._core import ffi, lib
from uring_iopf.abi import EnterFlags, Op, RegisterOp, SetupFlags, SqeFlags
from uring_iopf.core import Core

MESSAGE, RESPONSE = 40, 8
MERGED, PROPOSED = 0, 1
FOREVER = 2**64 - 1
GETEVENTS = EnterFlags.GETEVENTS
POLLIN, POLLOUT, POLLRDNORM = 0x1, 0x4, 0x40

ARENA_ADDRESS = 0x7000_0000_0000  # where the client says its memory is
ARENA_SIZE = 1 << 18

_SQE = struct.Struct("=BBHiQQIIQHHIQQ")
_CQE_WORDS = {
    "sq_head": 0,
    "sq_tail": 4,
    "cq_head": 8,
    "cq_tail": 12,
    "sq_dropped": 32,
    "sq_flags": 36,
    "cq_flags": 40,
    "cq_overflow": 44,
}


class Cqe(NamedTuple):
    """What a CQE holds, in its order."""

    user_data: int
    res: int
    flags: int


@dataclass(frozen=True)
class Sqe:
    """An SQE by its fields; those that a test does not name are 0."""

    opcode: int = 0
    flags: int = 0
    ioprio: int = 0
    fd: int = 0
    off: int = 0
    addr: int = 0
    len: int = 0
    op_flags: int = 0
    user_data: int = 0
    buf_group: int = 0
    personality: int = 0
    file_index: int = 0
    addr3: int = 0
    pad2: int = 0

    def packed(self) -> bytes:
        return _SQE.pack(
            self.opcode,
            self.flags,
            self.ioprio,
            self.fd,
            self.off & (2**64 - 1),
            self.addr & (2**64 - 1),
            self.len & (2**32 - 1),
            self.op_flags & (2**32 - 1),
            self.user_data & (2**64 - 1),
            self.buf_group,
            self.personality,
            self.file_index,
            self.addr3,
            self.pad2,
        )


def nop(user_data: int, **fields: int) -> Sqe:
    return Sqe(Op.NOP, user_data=user_data, **fields)


def inject(user_data: int, res: int, **fields: int) -> Sqe:
    return Sqe(Op.NOP, user_data=user_data, op_flags=1, len=res, **fields)


def bad(user_data: int) -> Sqe:
    """One that is refused before it starts: no such operation."""
    return Sqe(255, user_data=user_data)


def cancel(user_data: int, target: int = 0, cancel_flags: int = 0, **fields: int) -> Sqe:
    return Sqe(Op.ASYNC_CANCEL, user_data=user_data, addr=target, op_flags=cancel_flags, **fields)


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
        lib.uiopf_core_uninstall(self._core.c, self.fd)
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


class Ring:
    """One ring, with the client's mapping of it and an arena that requests may point into."""

    def __init__(self, core: Core, entries: int = 8, *, cq_entries: int = 0, flags: int = 0) -> None:
        if cq_entries:
            flags |= SetupFlags.CQSIZE
        params = ffi.new("struct io_uring_params *", {"flags": flags, "cq_entries": cq_entries})
        out = ffi.new("struct uiopf_engine **")
        rc = lib.uiopf_setup(core.c, entries, params, out)
        if rc < 0:
            raise OSError(-rc, "setup")
        self.engine, self.features = out[0], params.features
        self.sq_entries, self.cq_entries = params.sq_entries, params.cq_entries
        self.fd = int(lib.uiopf_engine_fd(self.engine))
        self._array = params.sq_off.array
        size, sqes = lib.uiopf_engine_size(self.engine), lib.uiopf_engine_sqes_offset(self.engine)
        self.client = lib.uiopf_client_ring_map(self.fd, params, size, sqes)
        assert self.client
        # The arena begins on a page, here as well as at the client's address.
        self._arena = ffi.new("uint8_t[]", ARENA_SIZE + 4096)
        skip = -int(ffi.cast("uintptr_t", self._arena)) % 4096
        self.arena = memoryview(ffi.buffer(self._arena))[skip : skip + ARENA_SIZE]
        assert lib.uiopf_engine_add_window(self.engine, ARENA_ADDRESS, ARENA_SIZE, self._arena + skip) == 0
        self._buffer_tail: dict[int, int] = {}

    def close(self) -> None:
        lib.uiopf_client_ring_unmap(self.client)
        lib.uiopf_engine_free(self.engine)
        self.arena.release()

    def word(self, name: str) -> int:
        return int(lib.uiopf_client_load(self.client, _CQE_WORDS[name]))

    def store(self, name: str, value: int) -> None:
        lib.uiopf_client_store(self.client, _CQE_WORDS[name], value & 0xFFFFFFFF)

    def push(self, *sqes: Sqe, slots: Sequence[int] | None = None) -> None:
        """Fill in *sqes* and publish them; *slots* replaces what goes into the SQ array."""
        for i, sqe in enumerate(sqes):
            slot = lib.uiopf_client_push(self.client, ffi.from_buffer("struct io_uring_sqe *", sqe.packed()))
            assert slot >= 0
            self.set_index(slot, slots[i] if slots is not None else slot)
        lib.uiopf_client_submit(self.client)

    def set_index(self, slot: int, index: int) -> None:
        """Store *index* into the SQ array, where the ring has one. It stays until it is stored again."""
        if self._array:
            lib.uiopf_client_store(self.client, self._array + 4 * slot, index)

    def enter(self, to_submit: int, min_complete: int = 0, flags: int = 0, *, timeout_ns: int = FOREVER) -> int:
        return int(lib.uiopf_enter(self.engine, to_submit, min_complete, flags, timeout_ns))

    def submit(self, *sqes: Sqe, flags: int = 0) -> int:
        """Push, and enter for as many."""
        self.push(*sqes)
        return self.enter(len(sqes), 0, flags)

    def reap(self, most: int = 1 << 10) -> list[Cqe]:
        out = ffi.new("struct io_uring_cqe[]", most)
        n = lib.uiopf_client_reap(self.client, out, most)
        return [Cqe(out[i].user_data, out[i].res, out[i].flags) for i in range(n)]

    def run(self, *sqes: Sqe) -> list[Cqe]:
        """Submit in one enter that asks for events; return the completions."""
        assert self.submit(*sqes, flags=GETEVENTS) == len(sqes)
        return self.reap()

    def register(self, op: RegisterOp, arg: object, nr_args: int) -> int:
        return int(lib.uiopf_register(self.engine, op, arg, nr_args))

    def pending(self) -> int:
        return int(lib.uiopf_engine_pending(self.engine))

    # ---- buffers: group g has its ring at page g of the arena, and its buffers in the upper half ----

    def register_buffers(self, group: int, entries: int = 8) -> int:
        reg = ffi.new(
            "struct io_uring_buf_reg *",
            {"ring_addr": ARENA_ADDRESS + 4096 * group, "ring_entries": entries, "bgid": group},
        )
        self._buffer_tail[group] = 0
        return self.register(RegisterOp.REGISTER_PBUF_RING, reg, 1)

    def unregister_buffers(self, group: int) -> int:
        reg = ffi.new("struct io_uring_buf_reg *", {"bgid": group})
        return self.register(RegisterOp.UNREGISTER_PBUF_RING, reg, 1)

    def provide(self, group: int, *ids: int, length: int = MESSAGE, entries: int = 8, address: int = 0) -> None:
        for bid in ids:
            slot = self._buffer_tail[group] % entries
            at = 4096 * group + 16 * slot
            struct.pack_into("=QIH", self.arena, at, address or self.buffer_address(bid), length, bid)
            self._buffer_tail[group] += 1
        struct.pack_into("=H", self.arena, 4096 * group + 14, self._buffer_tail[group] & 0xFFFF)

    @staticmethod
    def buffer_address(bid: int) -> int:
        return ARENA_ADDRESS + ARENA_SIZE // 2 + 1024 * bid

    def at(self, address: int, length: int) -> bytes:
        """What the client's memory holds."""
        start = address - ARENA_ADDRESS
        return bytes(self.arena[start : start + length])

    def put(self, address: int, data: bytes) -> None:
        start = address - ARENA_ADDRESS
        self.arena[start : start + len(data)] = data


def data_address(user_data: int) -> int:
    """Where a request of this number reads to or writes from."""
    return ARENA_ADDRESS + 0x10000 + 1024 * (user_data % 64)


def group_of(message: bytes) -> int:
    """The group id in a message."""
    return int(struct.unpack_from("=I", message, 12)[0])


class Bench:
    """A core, a queue and a ring, closed in the right order."""

    def __init__(self, personality: int = PROPOSED, *, nonblock: bool = False, live: bool = False, **ring: int) -> None:
        with ExitStack() as stack:
            self.core = stack.enter_context(Core(live=live))
            self.queue = Queue(self.core, personality, nonblock=nonblock)
            stack.callback(self.queue.close)
            self.ring = Ring(self.core, **ring)
            stack.callback(self.ring.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

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
        self.ring.put(address, struct.pack("=II", cookie, code))
        fields = {"fd": self.queue.fd, "addr": address, "len": RESPONSE} | fields
        return Sqe(Op.WRITE, user_data=user_data, **fields)

    def poll(self, user_data: int, events: int = POLLIN, **fields: int) -> Sqe:
        fields = {"fd": self.queue.fd} | fields
        return Sqe(Op.POLL_ADD, user_data=user_data, op_flags=events, **fields)

    def groups(self, cqes: Sequence[Cqe]) -> list[tuple[int, int]]:
        """For completed READs: (user_data, group id read), in the order of the completions."""
        return [(c.user_data, group_of(self.ring.at(data_address(c.user_data), MESSAGE))) for c in cqes]
