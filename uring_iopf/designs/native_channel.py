"""An open design that is written in C."""

from __future__ import annotations

import errno
import time
import weakref
from typing import TYPE_CHECKING, Final

from uring_iopf._native import CChannel, check, ffi, lib
from uring_iopf.abi.records import MESSAGE_BYTES, FaultMessage, unpack_plain
from uring_iopf.costs import Counts, Waypoints
from uring_iopf.designs.channel import Wait, bad_code, client_gone
from uring_iopf.errors import UsageError, check_fits
from uring_iopf.handles import Handle

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.abi.records import Message
    from uring_iopf.core import Core
    from uring_iopf.designs.registry import DesignInfo
    from uring_iopf.hardware.tables import AddressSpace
    from uring_iopf.iommufd import FaultQueue

RECEIVE_MOST: Final = 512
"""The most messages of one receive."""

_WAIT_NS: Final = 1_000_000
_CALL_S: Final = 2.0
"""A call of the client's half returns far sooner: each looks for signals every 20 ms."""
_answer_one: Final = lib.uiopf_channel_answer_one  # called once a group: not looked up each time


class _Kept:
    """Goes just after the channel was freed in C."""


def refuse(rc: int, call: str) -> None:
    """Raise the error of a call. Raises: UsageError, another thread is in a call; KernelError, another errno."""
    if rc == -errno.EALREADY:
        raise UsageError(
            "another thread is in a call of this channel; use a channel from one thread at a time"
        ) from None
    check(rc, call)


def again(call: str, function: Callable[..., int], channel: Handle[CChannel], *arguments: object) -> int:
    """Repeat a call while it returns EINTR; see `interruptible`. Raises: as `refuse`."""
    while (rc := function(channel.c, *arguments)) == -errno.EINTR:
        pass
    if rc < 0:
        refuse(rc, call)
    return rc


def refuse_answer(rc: int, code: object) -> None:
    """Raise the error of an answer. Raises: UsageError, a bad code, or the client has ended; else as `refuse`."""
    if rc == -errno.EDOM:
        raise bad_code(code)
    if rc == -errno.ESHUTDOWN:
        raise client_gone()
    refuse(rc, "answer")


def answer_again(function: Callable[..., int], channel: Handle[CChannel], code: object, *arguments: object) -> None:
    """Repeat an answer while it returns EINTR. Raises: as `refuse_answer`."""
    while (rc := function(channel.c, *arguments)) == -errno.EINTR:
        pass
    if rc < 0:
        refuse_answer(rc, code)


class NativeChannel(Handle[CChannel]):
    """The channel of a design in C. A call while another thread is in a call raises UsageError."""

    _what = "channel"
    _kept: weakref.ref[object] | None = None

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
        super().__init__()
        self._core = self._on = core
        if info.index is None:
            raise UsageError(f"{info.name} is a design in Python; open it as a PythonChannel")
        config = ffi.new(
            "struct uiopf_channel_config *",
            {"wait": wait, "in_flight": in_flight, "group_most": group_most, "report_flags": report_flags},
        )
        error = ffi.new("int *")
        tables = ffi.NULL if space is None else space.c
        new, free = lib.uiopf_channel_new, lib.uiopf_channel_close
        keep: list[object] = [_Kept()]
        self._kept = weakref.ref(keep[0])
        try:
            self._make(free, new, core.c, queue.c, info.index, config, tables, error, keep=keep)
        except MemoryError:
            self._kept = None  # nothing was made, and the exception's traceback keeps the list that says so
            check(error[0], f"open {info.name}")
            raise
        self._messages = ffi.new("struct iommu_hwpt_pgfault[]", RECEIVE_MOST)
        self._bytes = memoryview(ffi.buffer(self._messages))

    @property
    def eventfd(self) -> int:
        """The eventfd on which an event loop sleeps."""
        return lib.uiopf_channel_eventfd(self.c)

    def receive(self) -> list[FaultMessage]:
        """Return the messages of the whole groups that wait, perhaps none, without waiting."""
        return list(map(FaultMessage._make, self.receive_plain()))

    def receive_plain(self) -> list[Message]:
        """Do what `receive` does, with plain tuples."""
        n = lib.uiopf_channel_receive(self.c, self._messages, RECEIVE_MOST)
        if n < 0:
            n = again("receive", lib.uiopf_channel_receive, self, self._messages, RECEIVE_MOST)
        if not n:
            return []
        return unpack_plain(self._bytes[: n * MESSAGE_BYTES])

    def answer(self, cookie: int, code: int) -> None:
        """Answer a group. The answer is sent at the latest by the next `receive`, `wait` or `flush`.

        Raises: UsageError, *cookie* is no number of 32 bits, the queue refuses *code*, the client has ended, or the
        channel is closed.
        """
        try:
            rc = _answer_one(self._c, cookie, code)  # type: ignore[arg-type]
        except (TypeError, OverflowError):  # cffi's, for None, or for a number that does not fit into 32 bits
            if self._c is None:
                raise self._refusal() from None
            check_fits(32, cookie=cookie)
            raise bad_code(code) from None
        if rc < 0:
            if rc != -errno.EINTR:
                refuse_answer(rc, code)
            answer_again(_answer_one, self, code, cookie, code)

    def private_data(self, cookie: int) -> tuple[int, int] | None:
        """The private data in the message of a group that was received and not answered; None: it has none.

        Only VT-d before revision 4 has such data, and only the message of the design ``eventfd`` a place for them. The
        answer needs none: the driver keeps them, and gives them back to the function.

        Raises: KernelError(EOPNOTSUPP), the design's message has no place; KernelError(EINVAL), no such group.
        """
        check_fits(32, cookie=cookie)
        words = ffi.new("uint64_t[2]")
        if not again("private data", lib.uiopf_channel_private_data, self, cookie, words):
            return None
        return int(words[0]), int(words[1])

    def shut(self) -> None:
        """End the client: send the answers held back, and refuse later ones."""
        if self._c is not None:
            self.flush()
            lib.uiopf_channel_shut(self.c)

    def has_taken(self, cookie: int) -> bool:
        """Whether the last answer was to this group, for a caller whose `answer` was interrupted by an exception."""
        try:
            return lib.uiopf_channel_last_answered(self.c) == cookie
        except UsageError:
            return False

    def flush(self) -> None:
        """Send the answers that are held back."""
        again("flush", lib.uiopf_channel_flush, self)

    def wait(self) -> bool:
        """Wait for a group: spin or sleep, for a millisecond at most. Return False if no group came."""
        return bool(again("wait", lib.uiopf_channel_wait, self, _WAIT_NS))

    def prepare_sleep(self) -> bool:
        """Prepare a sleep. Return True if a group waits already; else sleep on the eventfd, then call `awake`."""
        return bool(again("prepare to sleep", lib.uiopf_channel_prepare_sleep, self))

    def awake(self) -> None:
        """End the sleep that was prepared."""
        again("awake", lib.uiopf_channel_awake, self)

    def turn(self) -> int:
        """Run the other side once, if there is no worker. Return the amount of work done."""
        return self._core.produce() + self._core.consume()

    def cost(self) -> Counts:
        """Return the costs so far."""
        cost = ffi.new("struct uiopf_cost *")
        lib.uiopf_channel_cost(self.c, cost)
        return Counts.from_c(cost)

    def watch(self) -> None:
        """Take the time of every group at each of its waypoints, from now on; see `waypoints`.

        It costs two looks at the clock for each group, and two for each receive and each call with answers. Raises:
        KernelError(EBUSY), a channel of this queue does it already.
        """
        again("watch the groups on their way", lib.uiopf_channel_watch, self)

    def waypoints(self) -> Waypoints:
        """Return the sums of the times, all 0 without `watch`. They fit together while no group is on its way."""
        waypoints = ffi.new("struct uiopf_waypoints *")
        lib.uiopf_channel_get_waypoints(self.c, waypoints)
        return Waypoints.from_c(waypoints)

    def hardware_ns(self) -> int:
        """Nanoseconds that the machine's simulated functions and IOMMUs have taken, while a channel watched.

        Turns in which nothing came or went do not count, nor does the interrupt of the IOMMU's driver: a real kernel
        has that, too. A turn in which the thread was held up counts like the others on average.
        """
        return lib.uiopf_channel_hardware_ns(self.c)

    def close(self) -> None:
        """Let go of both halves. Closing again does nothing.

        A call that another thread is in keeps both until it returns, and is waited for: the queue is in use until then.
        """
        self._c = None
        if self._is_foreign:
            return  # that thread is the parent's
        until = time.monotonic() + _CALL_S
        while self._is_open() and time.monotonic() < until:
            time.sleep(0.0002)

    def _is_open(self) -> bool:
        return self._kept is not None and self._kept() is not None
