"""One open design between a fault queue and a client: what the generic clients use, whatever the design is made of."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol, TypeVar

from uring_iopf.abi.iommufd import FaultFlags
from uring_iopf.abi.records import LOST_GROUPS
from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uring_iopf.abi.records import FaultMessage, Message
    from uring_iopf.costs import Counts


AnyMessage = TypeVar("AnyMessage", bound="Message")


class Wait(enum.IntEnum):
    """What a client does when there is nothing."""

    SPIN = 0
    SLEEP = 1


class Channel(Protocol):
    """What a generic client needs of an open design."""

    @property
    def eventfd(self) -> int:
        """What an event loop sleeps on."""

    def receive(self) -> list[FaultMessage]:
        """Messages of whole groups, without waiting."""

    def receive_plain(self) -> Sequence[Message]:
        """The same, perhaps as plain tuples, for clients that look at few of the fields."""

    def answer(self, cookie: int, code: int) -> None:
        """Answer a group; it is sent at the latest when the client looks for more, or by a flush.

        While the client sleeps (after `prepare_sleep`), it is sent at once, or the eventfd wakes the client to send it.
        """

    def shut(self) -> None:
        """The client goes: what it has answered is sent, and from now on its answers are refused."""

    def has_taken(self, cookie: int) -> bool:
        """Whether the last answer was to this group: for who was interrupted in `answer`."""

    def flush(self) -> None:
        """Send what has been answered."""

    def wait(self) -> bool:
        """Wait as the design's client does, by its machine's *wait*: spinning, or asleep for a millisecond at most.

        False: nothing came. Inline the other side has its turns meanwhile, and False says that nothing is left to do.
        """

    def prepare_sleep(self) -> bool:
        """True: something is there. False: the eventfd will be readable when something is; then call `awake`.

        Inline the eventfd becomes readable when there is work for a `turn`.
        """

    def awake(self) -> None:
        """The sleep that was prepared is over."""

    def turn(self) -> int:
        """Inline only: turn the other side once; return how much was done."""

    def cost(self) -> Counts:
        """What it has cost so far."""

    def close(self) -> None:
        """Let go of both halves."""


def bad_code(code: object) -> UsageError:
    """What an answer with a code that the queue refuses raises."""
    return UsageError(f"code must be PageResponse.SUCCESS (0) or INVALID (1) for this group, not {code!r}")


def client_gone() -> UsageError:
    """What an answer after the client's end raises."""
    return UsageError("this client is closed; the kernel answers the groups that it has left unanswered")


def in_groups(messages: Iterable[AnyMessage]) -> list[tuple[AnyMessage, ...]]:
    """Cut messages into their groups: each ends with the message that has LAST_PAGE. Records of losses are left out."""
    groups: list[tuple[AnyMessage, ...]] = []
    partial: list[AnyMessage] = []
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
