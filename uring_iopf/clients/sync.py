"""The synchronous client: a plain loop, for designs in Python and for programs without an event loop."""

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
    """Receive the groups that wait, and answer them. Return the number of faults. It never waits.

    *code_of*: returns the answer to a group; None: all answers are SUCCESS. The pages of a group are mapped if its
    answer is SUCCESS. Raises: as `FaultGroup.respond` and `AddressSpace.map`.
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
    """Receive and answer groups, and wait between, until *faults* faults or more are served. Return their number.

    It is the native client's loop (``cdefs/designs/client.c``). It ends earlier if a wait ends without a fault (with
    the driver ``inline``: when no work is left), or if *until* returns True. All answers are sent when it returns.
    *code_of*: see `serve_once`.
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
