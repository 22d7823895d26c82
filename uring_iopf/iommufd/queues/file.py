"""The common part of fault queues and event queues: an object with one file, which rings can use, too.

Source: drivers/iommu/iommufd/eventq.c, ``iommufd_eventq``, Linux 7.2.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, NamedTuple

from uring_iopf._native import CFile, check, ffi, lib
from uring_iopf.errors import KernelError
from uring_iopf.handles import Handle, Pointer, Step, foreign
from uring_iopf.iommufd.objects import Object, ObjectTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.core import Core

MAX_RW_COUNT: Final = 0x7FFF_F000
"""The kernel cuts the length of every read and write to this number of bytes. Source: linux/fs.h, Linux 6.12."""

unset: Final = ffi.new_allocator(should_clear_after_alloc=False)
"""Allocates memory to read into, without clearing it, because the part that a read does not fill is unused."""


class QueueCalls(NamedTuple, Generic[Pointer]):
    """The C functions of one kind of queue."""

    what: str
    """The name of the queue in errors."""
    file: Callable[[Pointer], CFile]
    busy: Callable[[Pointer], int]
    let_go: Callable[[Pointer], None]


class QueueFile(Object, Handle[Pointer]):
    """A queue and its file, which is open at first.

    Closing the file only drops the file's reference. A closed file cannot be opened again.
    """

    def __init__(
        self,
        table: ObjectTable,
        core: Core,
        calls: QueueCalls[Pointer],
        new: Callable[..., Pointer],
        how: int,
        call: str,
    ) -> None:
        Object.__init__(self, table)
        Handle.__init__(self)
        self._core = core
        self._calls = calls
        self._make(calls.let_go, new, core.c, how)
        # Of a queue that does not come to be entered, C forgets the descriptor when it frees it.
        self._fd: int | None = check(lib.uiopf_core_install(core.c, calls.file(self.c)), call)
        self._entering.append(self.holding())  # the file's

    def _refusal(self) -> Exception:
        if self._is_foreign:
            return foreign(self._calls.what)
        return KernelError(errno.ENOENT, self._calls.what)

    @property
    def fd(self) -> int:
        """Its descriptor in rings of this core. It is none of this process. Raises: KernelError(EBADF), closed."""
        if self._fd is None:
            raise KernelError(errno.EBADF, self._calls.what)
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._fd is None

    def set_nonblocking(self, nonblocking: bool) -> None:
        """Set or clear O_NONBLOCK, which rings obey; `read` never waits. Raises: KernelError(EBADF), closed."""
        file = self._calls.file(self._file("fcntl"))
        check(lib.uiopf_core_set_nonblock(self._core.c, file, nonblocking), "fcntl")

    def close(self) -> None:
        """Close the file, and drop its reference. Raises: KernelError(EBADF), it is closed already."""
        if self._is_foreign:
            return
        self._table.begin()
        uninstall = partial(lib.uiopf_core_uninstall, self._core.c, self.fd, self._calls.file(self.c))
        self._table.change("close", uninstall, partial(setattr, self, "_fd", None), self.putting())

    def leaving(self) -> list[Step]:
        """The steps that free the queue. Raises: KernelError(EBUSY), requests of a ring still hold the file."""
        check(self._calls.busy(self.c), "IOMMU_DESTROY")
        return [partial(setattr, self, "_c", None)]

    def _file(self, call: str) -> Pointer:
        if self._fd is None:
            raise KernelError(errno.EBADF, call)
        return self.c
