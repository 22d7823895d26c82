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
    """What gets answered: one or more faults, the last with LAST_PAGE.

    `faults` are the messages as they were read (`FaultMessage`: pasid, addr, perm, …).
    """

    __slots__ = ("_channel", "messages")

    # Named tuples are made when somebody looks at them: they take longer than the rest of a receive.
    messages: tuple[Message, ...]
    """`faults`, perhaps as plain tuples of a message's fields in their order (`FaultMessage`)."""
    _channel: Channel | None

    @property
    def faults(self) -> tuple[FaultMessage, ...]:
        """The messages, as they were read."""
        messages = self.messages
        if not isinstance(messages[-1], FaultMessage):
            self.messages = messages = tuple(map(FaultMessage._make, messages))
        return cast("tuple[FaultMessage, ...]", messages)

    def respond(self, code: PageResponse = PageResponse.SUCCESS) -> None:
        """Answer the group; no await. INVALID fails the accesses.

        Where the other side stands still it waits; a signal's exception then leaves the group unanswered.
        Raises: UsageError, the group is answered already, the queue refuses the code, or the client or the machine is
        closed. A group that was not answered by then can still be answered, if its client is open.
        """
        channel = self._channel
        if channel is None:
            raise UsageError(f"this group is answered already; answer a group once: {self!r}")
        try:  # from here on: an exception must find it answered or not, and never in between
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
        """What the answer names it by; another group's once it is answered."""
        return self.faults[-1].cookie

    @property
    def pasid(self) -> int:
        """The address space of its last fault; Linux merges groups of two PASIDs that use one index."""
        return self.faults[-1].pasid

    @property
    def dev_id(self) -> int:
        """The iommufd id of the device."""
        return self.faults[-1].dev_id

    @property
    def grpid(self) -> int:
        """The PRG index, or stall tag, that the device gave it."""
        return self.faults[-1].grpid

    def __len__(self) -> int:
        return len(self.messages)

    def __repr__(self) -> str:
        pages = ", ".join(f"{fault.addr:#x}" for fault in self.faults)
        return f"<FaultGroup cookie={self.cookie} pasid={self.pasid} grpid={self.grpid} pages={pages}>"


def receive_groups(channel: Channel) -> list[FaultGroup]:
    """What waits in a channel, as groups."""
    groups = []
    for messages in in_groups(channel.receive_plain()):
        group = FaultGroup()  # what an __init__ would set is set here: that takes half the time
        group.messages = messages
        group._channel = channel
        groups.append(group)
    return groups
