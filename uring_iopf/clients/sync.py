"""The plain loop in Python: for designs written in Python, and for whoever has no event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.abi.iommufd import PageResponse
from uring_iopf.clients.groups import receive_groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.clients.groups import FaultGroup
    from uring_iopf.designs.channel import Channel
    from uring_iopf.hardware.tables import AddressSpace


def serve_once(
    channel: Channel, space: AddressSpace, code_of: Callable[[FaultGroup], PageResponse] | None = None
) -> int:
    """Receive what waits and answer it; return how many faults. It never waits.

    *code_of* says how a group is answered, SUCCESS where there is none; with SUCCESS its pages are made present.
    """
    served = 0
    for group in receive_groups(channel):
        code = PageResponse.SUCCESS if code_of is None else code_of(group)
        if code == PageResponse.SUCCESS:
            space.map(group)
        group.respond(code)
        served += len(group)
    channel.flush()
    return served
