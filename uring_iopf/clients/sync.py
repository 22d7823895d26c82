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
    served = _answer_what_waits(channel, space, code_of)
    channel.flush()
    return served


def serve(
    channel: Channel,
    space: AddressSpace,
    faults: int,
    code_of: Callable[[FaultGroup], PageResponse] | None = None,
    *,
    until: Callable[[], bool] | None = None,
) -> int:
    """Receive and answer, and wait between, until about so many faults have been served; return how many.

    It is the native client's loop (``cdefs/designs/client.c``). It ends earlier when a wait finds that nothing has
    come: inline, when nothing is left to do; or when *until* says so. What it has answered has been sent.
    """
    served = 0
    while served < faults and channel.wait():
        served += _answer_what_waits(channel, space, code_of)
        if until is not None and until():
            break
    channel.flush()
    return served


def _answer_what_waits(
    channel: Channel, space: AddressSpace, code_of: Callable[[FaultGroup], PageResponse] | None
) -> int:
    served = 0
    for group in receive_groups(channel):
        code = PageResponse.SUCCESS if code_of is None else code_of(group)
        if code == PageResponse.SUCCESS:
            space.map(group)
        group.respond(code)
        served += len(group)
    return served
