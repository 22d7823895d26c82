"""A ring that another process attaches to: the kernel's side of it, and the descriptors that go there."""

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
"""Of a client's memory for buffers, all of which is charged at once."""


class Attachment(NamedTuple):
    """What a client is sent: descriptors, which stay the ring's own, and the sizes in bytes of two of them."""

    ring_fd: int
    data_fd: int
    completion_eventfd: int
    wake_eventfd: int
    ring_size: int
    data_size: int


class AttachableRing(Handle[CEngine]):
    """An SQPOLL ring on *core* for one client in another process, which maps its memfd with ``io_uring_queue_mmap``.

    *files*: descriptors of the core that its requests may name, by their place here (IOSQE_FIXED_FILE); it reaches no
    others. *groups*, *group_entries*: buffer rings that are registered, and mapped at io_uring's offsets.
    *data_bytes*: the client's memory for buffers.

    Raises: KernelError(EINVAL), sizes, or more than 4,096 entries in a group; KernelError(ENOSYS), the host has no
    io_submit, by which the client is signalled. Source: io_uring_setup(2), io_uring_register(2), Linux 6.12.
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
        """What its client is to be sent."""
        out = ffi.new("struct uiopf_attachment *")
        lib.uiopf_engine_attachment(self.c, out)
        return Attachment(*(getattr(out, field) for field in Attachment._fields))

    def attach(self, data_address: int, *, kicks: bool) -> None:
        """Take the client's word for where it has its data, and for whether it will kick a sleeping worker.

        Raises: KernelError(EINVAL), no such address; KernelError(EBUSY), it has said so before.
        """
        check_fits(64, data_address=data_address)
        check(lib.uiopf_engine_attach(self.c, data_address, kicks), "attach")

    def pending(self) -> int:
        """How many of its requests have not ended."""
        return lib.uiopf_engine_pending(self.c)

    def close(self) -> None:
        """Free it, with whatever is under way; the client's mappings stay, and nobody looks at them any more."""
        self._c = None
