"""A client's memory, through which the emulated kernel resolves the pointers in requests."""

from __future__ import annotations

import errno
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, TypeAlias

from uring_iopf.errors import KernelError, UsageError, check_is

if TYPE_CHECKING:
    from collections.abc import Iterator

Buffer: TypeAlias = bytes | bytearray | memoryview
DriverData: TypeAlias = "bytes | UserData"
"""A struct for a driver: bytes of the program, or the place of the struct in a client's memory."""

_END: Final = 2**64


class ClientMemory:
    """Windows that map a client's addresses to buffers. An access to an address without a window returns EFAULT.

    An access may cross from one window into the next if they touch.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._windows: list[memoryview] = []

    def add(self, address: int, buffer: Buffer) -> None:
        """Map *buffer* at a client's address. It is readable, and writeable if the buffer is. It is not copied.

        Raises: UsageError, the buffer is empty or not contiguous, or the range goes beyond 64 bits or overlaps another.
        """
        view = memoryview(buffer)
        if not view.nbytes or not view.c_contiguous:
            raise UsageError("buffer must be contiguous and have at least one byte")
        if not 0 <= address <= _END - view.nbytes:
            raise UsageError(f"address must be 0 to 2^64 - {view.nbytes}, for {view.nbytes} bytes, not {address:#x}")
        at = bisect_right(self._starts, address)
        follows = at > 0 and self._starts[at - 1] + self._windows[at - 1].nbytes > address
        if follows or (at < len(self._starts) and address + view.nbytes > self._starts[at]):
            raise UsageError(
                f"the {view.nbytes} bytes from {address:#x} overlap with another window; windows must not overlap"
            )
        self._starts.insert(at, address)
        self._windows.insert(at, view.cast("B"))

    def read(self, address: int, length: int) -> bytes:
        """Copy *length* bytes from the client. Raises: KernelError(EFAULT), a byte has no window."""
        return b"".join(self._pieces("copy_from_user", address, length))

    def write(self, address: int, data: bytes) -> None:
        """Copy *data* to the client. Raises: KernelError(EFAULT), a byte has no writeable window; nothing is copied."""
        done = 0
        for piece in self._writeable("copy_to_user", address, len(data)):
            piece[:] = data[done : done + len(piece)]
            done += len(piece)

    def clear(self, address: int, length: int) -> None:
        """Fill *length* bytes of the client with 0. Raises: KernelError(EFAULT), as `write`."""
        for piece in self._writeable("clear_user", address, length):
            piece[:] = bytes(len(piece))

    def _pieces(self, call: str, address: int, length: int) -> list[memoryview]:
        return list(self._walk(call, address, length))

    def _writeable(self, call: str, address: int, length: int) -> list[memoryview]:
        pieces = self._pieces(call, address, length)
        if any(piece.readonly for piece in pieces):
            raise KernelError(errno.EFAULT, call)
        return pieces

    def _walk(self, call: str, address: int, length: int) -> Iterator[memoryview]:
        at = bisect_right(self._starts, address) - 1
        while length > 0:
            offset = address - self._starts[at] if 0 <= at < len(self._starts) else -1
            if offset < 0 or offset >= self._windows[at].nbytes:
                raise KernelError(errno.EFAULT, call)
            piece = self._windows[at][offset : offset + length]
            yield piece
            address, length, at = address + len(piece), length - len(piece), at + 1


class UserData:
    """Bytes at a client's address. Only their number is known until a driver copies them."""

    def __init__(self, memory: ClientMemory, address: int, length: int) -> None:
        self._memory, self._address, self._length = memory, address, length

    def __len__(self) -> int:
        return self._length

    def copy(self) -> bytes:
        """Copy the bytes from the client. Raises: KernelError(EFAULT), a byte has no window."""
        return self._memory.read(self._address, self._length)


def check_driver_data(data: object) -> None:
    """Raises: UsageError, *data* are no struct for a driver."""
    check_is("bytes, or UserData of a client's memory", (bytes, bytearray, UserData), data=data)


def copied(data: DriverData) -> bytes:
    """Return *data* as a driver copies them. Raises: KernelError(EFAULT), a byte has no window."""
    return data if isinstance(data, bytes) else data.copy()
