"""A ring for a client in another process: the kernel's side, and the descriptors for the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import CData, CEngine, check, ffi, lib
from uring_iopf.abi import RegisterOp, SetupFlags
from uring_iopf.errors import check_all_signed, check_fits, check_whole
from uring_iopf.handles import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uring_iopf.core import Core


MOST_DATA_BYTES: Final = 1 << 30
"""The most bytes of a client's memory for buffers. All of them are charged at once."""


class Attachment(NamedTuple):
    """The descriptors for a client, which the ring owns, and the sizes of two of them."""

    ring_fd: int
    """The memfd of the ring."""
    data_fd: int
    """The memfd of the client's memory for buffers."""
    completion_eventfd: int
    """The eventfd that the kernel signals with each CQE."""
    wake_eventfd: int
    """The eventfd by which the client wakes a sleeping worker."""
    ring_size: int
    """The size of the ring's memory, in bytes."""
    data_size: int
    """The size of the memory for buffers, in bytes."""


class AttachableRing(Handle[CEngine]):
    """An SQPOLL ring on *core* for one client in another process, which maps its memfd with ``io_uring_queue_mmap``.

    *files*: the only descriptors of the core that its requests can use, by their index (IOSQE_FIXED_FILE). *entries*
    and *cq_entries*: the numbers of SQEs and CQEs. *groups*, *group_entries*: the number of registered buffer rings,
    and the entries of each. The client maps them at io_uring's offsets. *data_bytes*: the size of the client's memory
    for buffers.

    Raises: KernelError(EINVAL), bad sizes, or more than 4,096 entries in a group; KernelError(ENOSYS), the host has no
    io_submit, which signals the client. Source: io_uring_setup(2), io_uring_register(2), Linux 6.12.
    """

    _what = "ring"

    def __init__(
        self,
        core: Core,
        files: Sequence[int],
        *,
        entries: int,
        cq_entries: int,
        groups: int = 1,
        group_entries: int = 64,
        data_bytes: int = 1 << 16,
    ) -> None:
        check_fits(32, entries=entries, cq_entries=cq_entries, groups=groups, group_entries=group_entries)
        check_whole("data_bytes", data_bytes, 0, MOST_DATA_BYTES)
        descriptors = check_all_signed(32, "files", files)
        self.params: CData = ffi.new(
            "struct io_uring_params *",
            {"flags": SetupFlags.CQSIZE | SetupFlags.SUBMIT_ALL, "cq_entries": cq_entries},
        )
        config = ffi.new(
            "struct uiopf_attachable *", {"groups": groups, "group_entries": group_entries, "data_size": data_bytes}
        )
        super().__init__()
        error = ffi.new("int *")
        make, free = lib.uiopf_attachable_new, lib.uiopf_engine_free
        try:
            self._make(free, make, core.c, entries, self.params, config, error)
        except MemoryError:
            check(error[0], "set up an attachable ring")
            raise
        self._on = core
        try:
            if descriptors:
                fds = ffi.new("int32_t[]", descriptors)
                check(lib.uiopf_register(self.c, RegisterOp.REGISTER_FILES, fds, len(descriptors)), "register files")
        except BaseException:
            self.close()
            raise

    @property
    def attachment(self) -> Attachment:
        """The descriptors and sizes for the client."""
        out = ffi.new("struct uiopf_attachment *")
        lib.uiopf_engine_attachment(self.c, out)
        return Attachment(*(getattr(out, field) for field in Attachment._fields))

    def attach(self, data_address: int, *, kicks: bool) -> None:
        """Attach the client. *data_address*: the client's address of its data. *kicks*: it wakes a sleeping worker.

        Raises: KernelError(EINVAL), a bad address; KernelError(EBUSY), a client is attached already.
        """
        check_fits(64, data_address=data_address)
        check(lib.uiopf_engine_attach(self.c, data_address, kicks), "attach")

    def pending(self) -> int:
        """The number of requests that have not completed."""
        return lib.uiopf_engine_pending(self.c)

    def close(self) -> None:
        """Free the ring and its pending requests. The client's mappings stay, but are unused."""
        self._c = None
