"""The plain loop in Python: for designs written in Python, and for whoever has no event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.abi.iommufd import PageResponse
from uring_iopf.clients.groups import receive_groups

if TYPE_CHECKING:
    from uring_iopf.designs.channel import Channel
    from uring_iopf.hardware.tables import AddressSpace


def serve_once(channel: Channel, space: AddressSpace) -> int:
    """Receive what waits, make its pages present, answer with success. Return how many faults; it never waits."""
    served = 0
    for group in receive_groups(channel):
        space.map(group)
        group.respond(PageResponse.SUCCESS)
        served += len(group)
    channel.flush()
    return served
