"""A group of faults, as a client in Python holds it: one object, answered once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from uring_iopf.abi.iommufd import PageResponse
from uring_iopf.abi.records import FaultMessage
from uring_iopf.designs.channel import in_groups
from uring_iopf.errors import UsageError
from uring_iopf.handles import NotCopied

if TYPE_CHECKING:
    from uring_iopf.abi.records import Message
    from uring_iopf.designs.channel import Channel


_COOKIE: Final = FaultMessage._fields.index("cookie")


class FaultGroup(NotCopied):
    """One or more faults that are answered together. The last one has LAST_PAGE.

    `faults` are the messages as they were read (`FaultMessage`: pasid, addr, perm, …).
    """

    __slots__ = ("_channel", "messages")

    # Named tuples are made on the first use of `faults`, because they take longer than the rest of a receive.
    messages: tuple[Message, ...]
    """The faults, perhaps as plain tuples of a message's fields in their order (`FaultMessage`)."""
    _channel: Channel | None

    @property
    def faults(self) -> tuple[FaultMessage, ...]:
        """The messages, as they were read."""
        messages = self.messages
        if not isinstance(messages[-1], FaultMessage):
            self.messages = messages = tuple(map(FaultMessage._make, messages))
        return cast("tuple[FaultMessage, ...]", messages)

    def respond(self, code: PageResponse = PageResponse.SUCCESS) -> None:
        """Answer the group, without await. SUCCESS: the device tries again. INVALID: the access fails.

        If the worker stands still, the call waits for it. An exception of a signal handler then leaves the group
        unanswered.

        Raises: UsageError, the group is answered already, the queue refuses *code*, or the client or the machine is
        closed. After any other error than the first, the group can still be answered if its client is open.
        """
        channel = self._channel
        if channel is None:
            raise UsageError(f"this group is answered already; answer a group once: {self!r}")
        try:  # from here on, an exception must leave the group answered or unanswered, and never in between
            self._channel = None
            channel.answer(self.messages[-1][_COOKIE], code)
        except BaseException:
            if not channel.has_taken(self.messages[-1][_COOKIE]):
                self._channel = channel
            raise

    @property
    def answered(self) -> bool:
        """Whether `respond` was called."""
        return self._channel is None

    @property
    def cookie(self) -> int:
        """The cookie by which the answer names the group. After the answer another group can have it."""
        return self.faults[-1].cookie

    @property
    def pasid(self) -> int:
        """The PASID of the last fault. Linux merges groups of two PASIDs that use one group index."""
        return self.faults[-1].pasid

    @property
    def dev_id(self) -> int:
        """The iommufd id of the device."""
        return self.faults[-1].dev_id

    @property
    def grpid(self) -> int:
        """The group index (PRGI), or the stall tag, that the device gave the group."""
        return self.faults[-1].grpid

    def __len__(self) -> int:
        return len(self.messages)

    def __repr__(self) -> str:
        pages = ", ".join(f"{fault.addr:#x}" for fault in self.faults)
        return f"<FaultGroup cookie={self.cookie} pasid={self.pasid} grpid={self.grpid} pages={pages}>"


def receive_groups(channel: Channel) -> list[FaultGroup]:
    """Receive the groups that wait in a channel."""
    groups = []
    for messages in in_groups(channel.receive_plain()):
        group = FaultGroup()  # set the fields here: that takes half the time of an __init__
        group.messages = messages
        group._channel = channel
        groups.append(group)
    return groups
