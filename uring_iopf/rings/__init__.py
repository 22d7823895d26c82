"""io_uring's rings: both sides of one, its entries, the client's memory and provided buffers."""

from uring_iopf.rings.buffers import BufferRing, ProvidedBuffers
from uring_iopf.rings.client import ClientRing
from uring_iopf.rings.entries import Cqe, Sqe, WideSqe
from uring_iopf.rings.kernel import KernelRing, Mapped, enter_fd, register_fd
from uring_iopf.rings.ring import Ring
from uring_iopf.rings.window import Window

__all__ = [
    "BufferRing",
    "ClientRing",
    "Cqe",
    "KernelRing",
    "Mapped",
    "ProvidedBuffers",
    "Ring",
    "Sqe",
    "WideSqe",
    "Window",
    "enter_fd",
    "register_fd",
]
