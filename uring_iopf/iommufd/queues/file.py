"""What fault queues and event queues have in common: an object with one file, which a ring can have, too.

Source: drivers/iommu/iommufd/eventq.c, ``iommufd_eventq``, Linux 7.2.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Generic, NamedTuple

from uring_iopf._native import CFile, Pointer, check, ffi, lib, made
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.objects import Object, ObjectTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.core import Core

MAX_RW_COUNT: Final = 0x7FFF_F000
"""What the kernel cuts the length of every read and write to. Source: linux/fs.h, Linux 6.12."""

unset: Final = ffi.new_allocator(should_clear_after_alloc=False)
"""Memory to read into: what a read does not fill is not looked at."""


class QueueCalls(NamedTuple, Generic[Pointer]):
    """The C functions of one kind of queue."""

    what: str
    """Its name, for errors."""
    file: Callable[[Pointer], CFile]
    free: Callable[[Pointer], int]


class QueueFile(Object, Generic[Pointer]):
    """A queue and its file, open when it is made.

    Closing the file drops the file's reference and nothing else. A closed file cannot be opened again.
    """

    def __init__(
        self, table: ObjectTable, core: Core, calls: QueueCalls[Pointer], make: Callable[[], Pointer], call: str
    ) -> None:
        super().__init__(table)
        self._core = core
        self._calls = calls
        self._c: Pointer | None = None
        try:
            self._c = made(make(), f"the {calls.what}")
            self._fd: int | None = check(lib.uiopf_core_install(core.c, calls.file(self._c)), call)
        except BaseException:
            QueueFile.release(self)
            table.remove(self)
            raise
        self.hold()  # the file's

    @property
    def c(self) -> Pointer:
        """The C object, for the layers above; closing the file does not end it. Raises: KernelError(ENOENT), gone."""
        if self._c is None:
            raise KernelError(errno.ENOENT, self._calls.what)
        return self._c

    @property
    def fd(self) -> int:
        """Its descriptor in the rings of this core; not one of this process. Raises: KernelError(EBADF), closed."""
        if self._fd is None:
            raise KernelError(errno.EBADF, self._calls.what)
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._fd is None

    def set_nonblocking(self, nonblocking: bool) -> None:
        """Set or clear O_NONBLOCK, which rings look at; `read` never waits. Raises: KernelError(EBADF), closed."""
        file = self._calls.file(self._file("fcntl"))
        check(lib.uiopf_core_set_nonblock(self._core.c, file, nonblocking), "fcntl")

    def close(self) -> None:
        """Close the file: drop its reference. Raises: KernelError(EBADF), closed already."""
        lib.uiopf_core_uninstall(self._core.c, self.fd)
        self._fd = None
        self.put()

    def release(self) -> None:
        """Free the queue. Raises: KernelError(EBUSY), requests of a ring still hold the file."""
        if self._c is not None:
            check(self._calls.free(self._c), "IOMMU_DESTROY")
            self._c = None

    def _file(self, call: str) -> Pointer:
        if self._fd is None:
            raise KernelError(errno.EBADF, call)
        return self.c
