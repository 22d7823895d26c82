"""Provided buffers: the kernel chooses a buffer when data are there, not when a request is made.

Source: io_uring_register(2), IORING_REGISTER_PBUF_RING, Linux 6.12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uring_iopf._native import ffi, lib
from uring_iopf.abi import RegisterOp
from uring_iopf.errors import UsageError, check_fits, check_whole, whole
from uring_iopf.handles import NotCopied
from uring_iopf.rings.window import PAGE, Window

if TYPE_CHECKING:
    from uring_iopf.rings.entries import Cqe
    from uring_iopf.rings.kernel import KernelRing

_ENTRY_BYTES: Final = 16
MOST_ENTRIES: Final = 32768


class BufferRing(NotCopied):
    """The ring of a buffer group, in a *window* of the client's memory, at a client's *address*.

    *group*: the number of the group, 16 bits. *entries*: a power of two, 1 to 32,768; each takes 16 bytes. *flags*:
    `PbufRingFlags`. *min_left*: with INC, an incremental buffer with fewer bytes left is finished.

    Raises: KernelError(EINVAL), bad *entries*, or an address that is not the start of a page; KernelError(EEXIST), the
    group has buffers already; KernelError(EFAULT), no window of the ring covers the address; UsageError, *window* does
    not cover it.
    """

    def __init__(
        self,
        ring: KernelRing,
        group: int,
        entries: int,
        window: Window,
        address: int,
        *,
        flags: int = 0,
        min_left: int = 0,
    ) -> None:
        check_fits(64, address=address)
        check_fits(32, entries=entries, min_left=min_left)
        check_fits(16, group=group, flags=flags)
        window.read(address, entries * _ENTRY_BYTES)  # it is all in there
        self._ring = ring
        self._window = window
        self._address = address
        self._entries = entries
        self._tail = 0
        self.group = group
        reg = ffi.new(
            "struct io_uring_buf_reg *",
            {
                "ring_addr": address,
                "ring_entries": entries,
                "bgid": group,
                "flags": int(flags),
                "min_left": min_left,
            },
        )
        ring.register(RegisterOp.REGISTER_PBUF_RING, reg, 1)

    def provide(self, buffer_id: int, address: int, length_bytes: int) -> None:
        """Give the kernel a buffer at a client's address, as the last in its queue.

        The client owns the buffer again when a CQE names it. The kernel may have *entries* buffers at once, which is
        not checked. Raises: UsageError, *buffer_id* has more than 16 bits, or the window is closed.
        """
        check_fits(16, buffer_id=buffer_id)
        check_fits(32, length_bytes=length_bytes)
        check_fits(64, address=address)
        slot = self._tail & (self._entries - 1)
        memory = ffi.from_buffer("uint8_t[]", self._window.memory, require_writable=True)
        try:
            ring = memory + (self._address - self._window.address)
            entry = ffi.cast("struct io_uring_buf *", ring + _ENTRY_BYTES * slot)
            entry.addr, entry.len, entry.bid = address, length_bytes, buffer_id
            self._tail = self._tail + 1 & 0xFFFF
            lib.uiopf_client_publish_buffers(ffi.cast("struct io_uring_buf_ring *", ring), self._tail)
        finally:
            ffi.release(memory)

    def head(self) -> int:
        """The number of buffers that the kernel has used, 16 bits. Source: IORING_REGISTER_PBUF_STATUS, Linux 6.12."""
        status = ffi.new("struct io_uring_buf_status *", {"buf_group": self.group})
        self._ring.register(RegisterOp.REGISTER_PBUF_STATUS, status, 1)
        return int(status.head)

    def unregister(self) -> None:
        """End the group. Buffers of pending requests stay in use. Raises: KernelError(ENOENT), it has ended already."""
        reg = ffi.new("struct io_uring_buf_reg *", {"bgid": self.group})
        self._ring.register(RegisterOp.UNREGISTER_PBUF_RING, reg, 1)


class ProvidedBuffers(NotCopied):
    """A group of *count* buffers of *length_bytes* each, in memory of its own. The kernel has all of them at first.

    *count*: a power of two, 1 to 32,768. For fault messages, a buffer must hold the largest group, with 40 bytes for
    each page. The buffers are freed when *ring* is closed.

    Raises: UsageError, *count* is no such power of two; KernelError, as `BufferRing`.
    """

    def __init__(self, ring: KernelRing, group: int, count: int, length_bytes: int, *, flags: int = 0) -> None:
        check_whole("length_bytes", length_bytes, 1, 2**31 - 1)
        if not 1 <= whole("count", count) <= MOST_ENTRIES or count & (count - 1):
            raise UsageError(f"count must be a power of two, 1 to {MOST_ENTRIES}, not {count}")
        self.length_bytes = length_bytes
        header = (count * _ENTRY_BYTES + PAGE - 1) & ~(PAGE - 1)
        self._window = Window(header + count * length_bytes)
        ring.add_window(self._window)
        self._start = self._window.address + header
        self.ring = BufferRing(ring, group, count, self._window, self._window.address, flags=flags)
        for number in range(count):
            self.give_back(number)

    @property
    def group(self) -> int:
        """The group's number, for SQEs."""
        return self.ring.group

    def data(self, cqe: Cqe) -> bytes:
        """Return a copy of the data of a completion. Raises: UsageError, it names no buffer, or it failed."""
        if cqe.buffer_id is None or cqe.res < 0:
            raise UsageError(f"cqe must be one that succeeded and names a buffer, not {cqe}")
        return self._window.read(self._start + cqe.buffer_id * self.length_bytes, cqe.res)

    def give_back(self, buffer_id: int) -> None:
        """Give a buffer back to the kernel, as the last in its queue."""
        check_fits(16, buffer_id=buffer_id)
        self.ring.provide(buffer_id, self._start + buffer_id * self.length_bytes, self.length_bytes)

    def take(self, cqe: Cqe) -> bytes:
        """Return a copy of the data of a completion, and give its buffer back. Raises: UsageError, as `data`."""
        data = self.data(cqe)
        assert cqe.buffer_id is not None
        self.give_back(cqe.buffer_id)
        return data
