"""Windows: the memory that the addresses in a client's requests name."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

from uring_iopf._native import CData, ffi
from uring_iopf.errors import UsageError, check_whole, whole
from uring_iopf.handles import Unshared, foreign

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PAGE: Final = 4096


class Window(Unshared):
    """A piece of the client's memory, *length_bytes* bytes from *address*, zeros at first.

    *address*: the address in the client's requests, the start of a page; None: the real address of the memory.
    *memory*: a writeable buffer of that length or more to use; None: the window allocates its own.
    `Ring.add_window` adds it to a ring, which holds it until the ring is closed. Several rings may share a window.

    A context manager; see `close`. Raises: UsageError, a length, address or memory that is not allowed.
    """

    _what = "window"

    def __init__(
        self, length_bytes: int, *, address: int | None = None, memory: memoryview | bytearray | None = None
    ) -> None:
        check_whole("length_bytes", length_bytes, 1, 2**47)
        if address is not None:
            whole("address", address)
        if address is not None and (address % PAGE or not 0 <= address <= 2**64 - length_bytes):
            raise UsageError(
                f"address must be a multiple of {PAGE:#x}, 0 to 2^64 - {length_bytes} (the length), not {address:#x}"
            )
        if memory is not None and (given_bytes := memoryview(memory).nbytes) < length_bytes:
            raise UsageError(f"memory must have {length_bytes} bytes or more (length_bytes), not {given_bytes}")
        super().__init__()
        self.length_bytes = length_bytes
        given = mmap.mmap(-1, length_bytes) if memory is None else memory
        self._memory: memoryview | None = memoryview(given)[:length_bytes]
        real = int(ffi.cast("uintptr_t", ffi.from_buffer(self._memory)))
        self.address = real if address is None else address
        """The address in the client's requests."""

    @property
    def memory(self) -> memoryview:
        """The bytes of the window. Raises: UsageError, it is closed."""
        memory = self._memory
        if self._is_foreign:
            raise foreign(self._what)
        if memory is None:
            raise UsageError("this window is closed")
        return memory

    def _offset(self, address: int, length: int) -> int:
        start = whole("address", address) - self.address
        if start < 0 or length < 0 or start + length > self.length_bytes:
            raise UsageError(
                f"address and length: the {length} bytes from {address:#x} must be in this window, which has "
                f"{self.length_bytes} bytes from {self.address:#x}"
            )
        return start

    def read(self, address: int, length: int) -> bytes:
        """Return a copy of *length* bytes at a client's address. Raises: UsageError, they are not all in the window."""
        start = self._offset(address, whole("length", length))
        return bytes(self.memory[start : start + length])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy *data* to a client's address. Raises: UsageError, they are not all in the window."""
        start = self._offset(address, len(data))
        self.memory[start : start + len(data)] = data

    def hold(self) -> CData:
        """The bytes as a C array, for a ring. They live as long as the value."""
        return ffi.from_buffer("uint8_t[]", self.memory, require_writable=True)

    def close(self) -> None:
        """Close the window. Its memory is freed with the last ring that uses it. Closing again does nothing."""
        self._memory = None

    def _disown(self) -> None:
        super()._disown()
        self._memory = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
