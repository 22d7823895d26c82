"""One ioctl on its way: the kernel's copy of the struct, the client's, and what every ioctl does with them.

Source: drivers/iommu/iommufd/main.c, Linux 6.12.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from uring_iopf._native import CData, ffi
from uring_iopf.errors import KernelError
from uring_iopf.iommufd.client_memory import ClientMemory, UserData
from uring_iopf.iommufd.objects import Object

if TYPE_CHECKING:
    from uring_iopf.iommufd.calls import Calls
    from uring_iopf.iommufd.spaces.ioas import IOAS

T = TypeVar("T", bound=Object)


@dataclass
class IoctlState:
    """The state that only the ioctls of a context use."""

    account_mm: bool = False
    """OPTION_RLIMIT_MODE: whether pinned memory is charged to the process, not to the user. Nothing is pinned here."""
    vfio_ioas: IOAS | None = None
    """VFIO_IOAS: the space that VFIO's compatibility would use."""


@dataclass
class Call:
    """One ioctl that is being done."""

    name: str
    """The name in the uAPI header."""
    context: Calls
    state: IoctlState
    cmd: CData
    """The kernel's copy of the struct."""
    extra: bytearray
    """The kernel's copy of further fields after the struct, which exist with `Context.generic_reports`."""
    memory: ClientMemory
    client: memoryview
    """The client's struct, in the size that it gives."""

    def refuse(self, number: int) -> KernelError:
        """Return the error of this call, for the caller to raise."""
        return KernelError(number, self.name)

    def supported(self, condition: bool) -> None:
        """Raises: KernelError(EOPNOTSUPP), *condition* does not hold."""
        if not condition:
            raise self.refuse(errno.EOPNOTSUPP)

    def get(self, number: int, kind: type[T]) -> T:
        """The object of that kind. Raises: KernelError(ENOENT), none has this id."""
        return self.context.table.get(number, kind, self.name)

    def copy_out(self, offset: int, data: bytes) -> None:
        """Write into the client's struct. Raises: KernelError(EFAULT), it is read-only."""
        if self.client.readonly:
            raise self.refuse(errno.EFAULT)
        self.client[offset : offset + len(data)] = data

    def respond(self) -> None:
        """Give the struct back, as much as the client has of it (iommufd_ucmd_respond)."""
        data = bytes(ffi.buffer(self.cmd)) + bytes(self.extra)
        self.copy_out(0, data[: self.client.nbytes])

    def respond_with(self, made: Any) -> None:
        """Give the struct back with what was made, which does not stay if that fails."""
        try:
            self.respond()
        except KernelError:
            if not getattr(made, "closed", True):
                made.close()
            self.context.table.destroy(made, self.name)
            raise

    def user_data(self, address: int, length: int) -> UserData:
        """A driver's struct. If it cannot be read that is said when the driver copies it, and not before."""
        return UserData(self.memory, address, length)
