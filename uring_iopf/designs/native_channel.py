"""An open design that is written in C."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from uring_iopf._native import CChannel, check, ffi, interruptible, lib
from uring_iopf.abi.records import MESSAGE_BYTES, unpack_messages
from uring_iopf.costs import Counts
from uring_iopf.designs.channel import Wait
from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from uring_iopf.abi.records import FaultMessage
    from uring_iopf.core import Core
    from uring_iopf.designs.registry import DesignInfo
    from uring_iopf.hardware.tables import AddressSpace
    from uring_iopf.iommufd import FaultQueue

RECEIVE_MOST: Final = 512
"""Messages in one receive, at most."""


class NativeChannel:
    """A design written in C. One thread at a time."""

    def __init__(
        self,
        core: Core,
        queue: FaultQueue,
        info: DesignInfo,
        *,
        wait: Wait,
        in_flight: int,
        group_most: int,
        space: AddressSpace | None = None,
        report_flags: int = 0,
    ) -> None:
        if info.index is None:
            raise UsageError(f"{info.name} is written in Python")
        config = ffi.new(
            "struct uiopf_channel_config *",
            {"wait": wait, "in_flight": in_flight, "group_most": group_most, "report_flags": report_flags},
        )
        out = ffi.new("struct uiopf_channel **")
        check(
            lib.uiopf_channel_open(core.c, queue.c, info.index, config, ffi.NULL if space is None else space.c, out),
            f"open {info.name}",
        )
        self._core = core
        self._c: CChannel | None = out[0]
        self._messages = ffi.new("struct iommu_hwpt_pgfault[]", RECEIVE_MOST)
        self._bytes = memoryview(ffi.buffer(self._messages))

    @property
    def c(self) -> CChannel:
        """The C object, for the native and the batch client."""
        if self._c is None:
            raise UsageError("this channel is closed")
        return self._c

    @property
    def eventfd(self) -> int:
        """What an event loop sleeps on."""
        return lib.uiopf_channel_eventfd(self.c)

    def receive(self) -> list[FaultMessage]:
        """Messages of whole groups, without waiting."""
        n = lib.uiopf_channel_receive(self.c, self._messages, RECEIVE_MOST)
        if n < 0:
            n = interruptible("receive", lib.uiopf_channel_receive, self.c, self._messages, RECEIVE_MOST)
        if not n:
            return []
        return unpack_messages(self._bytes[: n * MESSAGE_BYTES])

    def answer(self, cookie: int, code: int) -> None:
        """Answer a group; it is sent at the latest when the client looks for more, or by a flush."""
        try:
            rc = lib.uiopf_channel_answer_one(self._c, cookie, code)  # type: ignore[arg-type]
        except TypeError:  # cffi's, for None; looking beforehand would cost every answer
            raise UsageError("this channel is closed") from None
        if rc < 0:
            if rc != -errno.EINTR:
                check(rc, "answer")
            interruptible("answer", lib.uiopf_channel_answer_one, self.c, cookie, code)

    def has_taken(self, cookie: int) -> bool:
        """Whether this was the last answer that was taken, for who did not see `answer` return."""
        return self._c is not None and lib.uiopf_channel_last_answered(self._c) == cookie

    def flush(self) -> None:
        """Send what has been answered."""
        interruptible("flush", lib.uiopf_channel_flush, self.c)

    def prepare_sleep(self) -> bool:
        """True: something is there. False: sleep on the eventfd, then call `awake`."""
        return bool(interruptible("prepare to sleep", lib.uiopf_channel_prepare_sleep, self.c))

    def awake(self) -> None:
        """The sleep that was prepared is over."""
        lib.uiopf_channel_awake(self.c)

    def turn(self) -> int:
        """Inline only: turn the other side once; return how much was done."""
        return self._core.produce() + self._core.consume()

    def cost(self) -> Counts:
        """What it has cost so far."""
        cost = ffi.new("struct uiopf_cost *")
        lib.uiopf_channel_cost(self.c, cost)
        return Counts.from_c(cost)

    def close(self) -> None:
        """Let go of both halves."""
        if self._c is not None:
            lib.uiopf_channel_close(self._c)
            self._c = None
