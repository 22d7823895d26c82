"""One open design between a fault queue and a client: what the generic clients use, whatever the design is made of."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from uring_iopf._native import CData, check, ffi, lib
from uring_iopf.abi.iommufd import FaultFlags
from uring_iopf.errors import UsageError
from uring_iopf.iommufd.queues.fault import LOST_GROUPS, FaultMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uring_iopf.core import Core
    from uring_iopf.designs.base import Design
    from uring_iopf.designs.registry import DesignInfo
    from uring_iopf.hardware.tables import AddressSpace
    from uring_iopf.iommufd import FaultQueue

_MESSAGE: Final = struct.Struct("<5I4xQ2I")
RECEIVE_MOST: Final = 512
"""Messages in one receive, at most."""


class Wait(enum.IntEnum):
    """What a client does when there is nothing."""

    SPIN = 0
    SLEEP = 1


@dataclass(slots=True)
class ChannelCost:
    """What a channel's two halves have cost so far."""

    system_calls: int = 0
    empty_polls: int = 0
    wakeups: int = 0
    bytes_copied: int = 0
    answer_errors: int = 0
    ends: int = 0
    punts: int = 0


class Channel(Protocol):
    """What a generic client needs of an open design."""

    @property
    def eventfd(self) -> int:
        """What an event loop sleeps on."""

    def receive(self) -> list[FaultMessage]:
        """Messages of whole groups, without waiting."""

    def answer(self, cookie: int, code: int) -> None:
        """Answer a group; it is sent at the latest when the client looks for more, or by a flush."""

    def flush(self) -> None:
        """Send what has been answered."""

    def prepare_sleep(self) -> bool:
        """True: something is there. False: the eventfd will be readable when something is; then call `awake`."""

    def awake(self) -> None:
        """The sleep that was prepared is over."""

    def turn(self) -> int:
        """Inline only: turn the other side once; return how much was done."""

    def cost(self) -> ChannelCost:
        """What it has cost so far."""

    def close(self) -> None:
        """Let go of both halves."""


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
        self._c: CData | None = out[0]
        self._messages = ffi.new("struct iommu_hwpt_pgfault[]", RECEIVE_MOST)
        self._bytes = memoryview(ffi.buffer(self._messages))

    @property
    def c(self) -> CData:
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
        if n <= 0:
            check(n, "receive")
            return []
        return list(map(FaultMessage._make, _MESSAGE.iter_unpack(self._bytes[: n * _MESSAGE.size])))

    def answer(self, cookie: int, code: int) -> None:
        """Answer a group; it is sent at the latest when the client looks for more, or by a flush."""
        try:
            rc = lib.uiopf_channel_answer_one(self._c, cookie, code)
        except TypeError:  # cffi's, for None; looking beforehand would cost every answer
            raise UsageError("this channel is closed") from None
        if rc < 0:
            check(rc, "answer")

    def flush(self) -> None:
        """Send what has been answered."""
        check(lib.uiopf_channel_flush(self.c), "flush")

    def prepare_sleep(self) -> bool:
        """True: something is there. False: sleep on the eventfd, then call `awake`."""
        return bool(check(lib.uiopf_channel_prepare_sleep(self.c), "prepare to sleep"))

    def awake(self) -> None:
        """The sleep that was prepared is over."""
        lib.uiopf_channel_awake(self.c)

    def turn(self) -> int:
        """Inline only: turn the other side once; return how much was done."""
        return self._core.produce() + self._core.consume()

    def cost(self) -> ChannelCost:
        """What it has cost so far."""
        cost = ffi.new("struct uiopf_cost *")
        lib.uiopf_channel_cost(self.c, cost)
        return ChannelCost(
            cost.system_calls,
            cost.empty_polls,
            cost.wakeups,
            cost.bytes_copied,
            cost.answer_errors,
            cost.ends,
            cost.punts,
        )

    def close(self) -> None:
        """Let go of both halves."""
        if self._c is not None:
            lib.uiopf_channel_close(self._c)
            self._c = None


class PythonChannel:
    """A design written in Python: inline, on one thread."""

    def __init__(self, core: Core, design: Design) -> None:
        self._core = core
        self.design = design
        self._pending: list[tuple[int, int]] = []

    @property
    def eventfd(self) -> int:
        """There is none."""
        raise UsageError("a design written in Python runs inline: there is nothing to sleep on")

    def receive(self) -> list[FaultMessage]:
        """Messages of whole groups, without waiting."""
        self.flush()
        return list(self.design.receive())

    def answer(self, cookie: int, code: int) -> None:
        """Answer a group at the next flush."""
        self._pending.append((cookie, code))

    def flush(self) -> None:
        """Send what has been answered."""
        if self._pending:
            pending, self._pending = self._pending, []
            self.design.answer(pending)

    def prepare_sleep(self) -> bool:
        """It never sleeps: True."""
        self.flush()
        return True

    def awake(self) -> None:
        """It never sleeps."""

    def turn(self) -> int:
        """Collect the answers, turn the hardware, publish what it reports."""
        self.flush()
        did = self.design.collect()
        did += self._core.produce()
        return did + self.design.publish()

    def cost(self) -> ChannelCost:
        """What the design says that it has cost so far."""
        cost = self.design.cost
        return ChannelCost(cost.system_calls, cost.empty_polls, cost.wakeups, cost.bytes_copied, cost.answer_errors)

    def close(self) -> None:
        """Let go of both halves."""
        self.design.release()


def in_groups(messages: Iterable[FaultMessage]) -> list[tuple[FaultMessage, ...]]:
    """Cut messages into their groups: each ends with the message that has LAST_PAGE. Records of losses are left out."""
    groups: list[tuple[FaultMessage, ...]] = []
    partial: list[FaultMessage] = []
    last_page = int(FaultFlags.LAST_PAGE)
    for message in messages:
        if message[0] & last_page and not partial:
            groups.append((message,))
            continue
        if message[0] & LOST_GROUPS:
            continue
        partial.append(message)
        if message[0] & last_page:
            groups.append(tuple(partial))
            partial = []
    return groups
