"""A channel: one open design between a fault queue and a client. The generic clients use any design through it."""

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
    """The wait mode of a client without work."""

    SPIN = 0
    """Poll again at once."""
    SLEEP = 1
    """Sleep until a wake-up."""


class Channel(Protocol):
    """The calls of an open design that a generic client uses."""

    @property
    def eventfd(self) -> int:
        """The eventfd on which an event loop sleeps."""

    def receive(self) -> list[FaultMessage]:
        """Return the messages of the whole groups that wait, perhaps none, without waiting."""

    def receive_plain(self) -> Sequence[Message]:
        """Do what `receive` does. The messages may be plain tuples, which are faster."""

    def answer(self, cookie: int, code: int) -> None:
        """Answer a group. The answer is sent at the latest by the next `receive`, `wait` or `flush`.

        While the client sleeps (after `prepare_sleep`), the answer is sent at once, or the eventfd wakes the client,
        which then sends it.
        """

    def shut(self) -> None:
        """End the client: send the answers held back, and refuse later ones."""

    def has_taken(self, cookie: int) -> bool:
        """Whether the last answer was to this group, for a caller whose `answer` was interrupted by an exception."""

    def flush(self) -> None:
        """Send the answers that are held back."""

    def wait(self) -> bool:
        """Wait for a group in the machine's wait mode: spin, or sleep, for a millisecond at most.

        Return False if no group came. Without a worker the call runs the other side meanwhile, and False means that no
        work is left.
        """

    def prepare_sleep(self) -> bool:
        """Prepare a sleep on the eventfd. Return True if a group waits already.

        After False, the eventfd becomes readable when a group comes. Then call `awake`. Without a worker the eventfd
        becomes readable when there is work for a `turn`.
        """

    def awake(self) -> None:
        """End the sleep that was prepared."""

    def turn(self) -> int:
        """Run the other side once, if there is no worker. Return the amount of work done."""

    def cost(self) -> Counts:
        """Return the costs so far."""

    def close(self) -> None:
        """Close both halves."""


def bad_code(code: object) -> UsageError:
    """The error for an answer whose code the queue refuses."""
    return UsageError(f"code must be PageResponse.SUCCESS (0) or INVALID (1) for this group, not {code!r}")


def client_gone() -> UsageError:
    """The error for an answer after the client's end."""
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
