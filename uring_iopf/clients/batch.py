"""The batch client: NumPy arrays, and one C call for each step of a batch. It needs ``uring-iopf[numpy]``."""

from __future__ import annotations

import errno
import operator
from typing import TYPE_CHECKING, Any

from uring_iopf._native import check, ffi, lib
from uring_iopf.abi.iommufd import FaultFlags, PageResponse
from uring_iopf.abi.records import MESSAGE_FIELDS
from uring_iopf.designs.channel import bad_code
from uring_iopf.designs.native_channel import RECEIVE_MOST, NativeChannel, again, answer_again, refuse_answer
from uring_iopf.errors import UsageError
from uring_iopf.handles import NotCopied

try:
    import numpy as np
except ImportError as error:
    raise UsageError(
        "the batch client needs NumPy, which is not installed; install it with `pip install 'uring-iopf[numpy]'`"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from uring_iopf.hardware.tables import AddressSpace

FAULT = np.dtype([(name.removeprefix("__"), "<" + code) for name, code in MESSAGE_FIELDS])
"""The element of a structured array of fault messages, 40 bytes."""

_LAST_PAGE = int(FaultFlags.LAST_PAGE)


class BatchClient(NotCopied):
    """A client that receives and answers arrays of faults, through a design in C. One thread at a time may use it.

    `receive` returns a view of an array, which the next `receive` overwrites.
    """

    def __init__(self, channel: NativeChannel, address_space: AddressSpace) -> None:
        if not isinstance(channel, NativeChannel):
            raise UsageError(f"channel must be that of a design in C, whose messages are in an array, not {channel!r}")
        self._channel = channel
        self.address_space = address_space
        self._c_faults = ffi.new("struct iommu_hwpt_pgfault[]", RECEIVE_MOST)
        self.faults: NDArray[Any] = np.frombuffer(ffi.buffer(self._c_faults), dtype=FAULT)
        self._flags = self.faults["flags"]

    def receive(self) -> NDArray[Any]:
        """Return the messages of the groups that wait, as an array of `FAULT`; it is empty if no group waits."""
        return self.faults[: self._receive()]

    def map(self, n: int) -> None:
        """Map the pages of the first *n* messages of the last `receive`.

        Raises: UsageError, *n* is more than the messages received; KernelError, as `AddressSpace.map`.
        """
        self._map(self._checked(n))

    def respond(self, n: int, code: PageResponse = PageResponse.SUCCESS) -> None:
        """Answer every group that ends among the first *n* messages received, and is not answered yet.

        So the parts of a batch can be answered one after the other, each with its own *code*. The next `receive` sends
        the answers at the latest. Raises: UsageError, *n* is more than the messages received, all of these groups are
        answered already, or the queue refuses the code; no group is answered then.
        """
        n = self._checked(n)
        answered = self.answered
        if answered and n and int(np.count_nonzero(self._flags[:n] & _LAST_PAGE)) <= answered:
            raise UsageError(
                f"respond({n}): every group among the first {n} messages is answered already; answer a group once"
            )
        self._respond(n, answered, code)

    def serve_once(self) -> int:
        """Receive the groups that wait, map their pages, and answer SUCCESS. Return the number of faults."""
        n = self._receive()
        if n:
            self._map(n)
            self._respond(n, 0, PageResponse.SUCCESS)
        return n

    def _map(self, n: int) -> None:
        check(int(lib.uiopf_space_map_messages(self.address_space.c, self._c_faults, n)), "map")

    def _respond(self, n: int, answered: int, code: PageResponse) -> None:
        """Answer the groups among the first *n* messages but for the first *answered* groups."""
        channel = self._channel.c
        try:
            rc = lib.uiopf_channel_answer_groups(channel, self._c_faults, n, answered, code)
        except (TypeError, OverflowError):  # cffi's: the code is no number of 32 bits
            raise bad_code(code) from None
        if rc < 0:
            if rc != -errno.EINTR:
                refuse_answer(rc, code)
            answer_again(lib.uiopf_channel_answer_groups, self._channel, code, self._c_faults, n, answered, code)

    @property
    def received(self) -> int:
        """The number of messages of the last `receive`, also of one that a signal's exception has ended."""
        return lib.uiopf_channel_received(self._channel.c)

    @property
    def answered(self) -> int:
        """Groups answered since the last `receive`. A `respond` that a signal's exception ended adds all or none."""
        return lib.uiopf_channel_answered(self._channel.c)

    def _checked(self, n: object) -> int:
        try:
            number = operator.index(n)  # type: ignore[arg-type]
        except TypeError:
            raise UsageError(f"n must be a whole number, not {n!r}") from None
        if not 0 <= number <= self.received:
            raise UsageError(f"n must be 0 to {self.received}, the messages of the last receive, not {number}")
        return int(number)

    def _receive(self) -> int:
        n = lib.uiopf_channel_receive(self._channel.c, self._c_faults, RECEIVE_MOST)
        if n < 0:
            n = again("receive", lib.uiopf_channel_receive, self._channel, self._c_faults, RECEIVE_MOST)
        return n
