"""The native client (C) from Python: the fastest, which makes every page present and answers SUCCESS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf._native import check, ffi, lib
from uring_iopf.designs.native_channel import refuse
from uring_iopf.handles import NotCopied

if TYPE_CHECKING:
    from uring_iopf.designs.native_channel import NativeChannel
    from uring_iopf.hardware.tables import AddressSpace

SLICE_NS = 20_000_000


class NativeClient(NotCopied):
    """Serves a design written in C by a loop in C (``cdefs/designs/client.c``). One thread at a time."""

    def __init__(self, channel: NativeChannel, address_space: AddressSpace) -> None:
        self._channel = channel
        self.address_space = address_space
        self._served = ffi.new("struct uiopf_served *")

    def serve(self, faults: int, during_ns: int = SLICE_NS) -> int:
        """Serve at most about so many faults, for at most so long; return how many. It sends what it has answered.

        Raises: UsageError, another thread is in a call of this channel's; KernelError, as `AddressSpace.map`.
        """
        before = self.served
        rc = lib.uiopf_client_serve(self._channel.c, self.address_space.c, faults, during_ns, self._served)
        if rc < 0:
            refuse(rc, "serve")
        check(int(self._served.error), "serve")
        return self.served - before

    @property
    def served(self) -> int:
        """Faults answered so far, also by a call that a signal's exception ended."""
        return int(self._served.faults)
