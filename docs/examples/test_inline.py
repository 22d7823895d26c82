"""A trio client without a thread beside it: the same every time, and an hour takes no time."""

import pytest
import trio
from trio.testing import MockClock

from uring_iopf import AccessResult, FaultPerm, Machine

PAGE = 0x7F00_0000_0000


@pytest.mark.trio
async def test_a_client_that_waits_an_hour_has_lost_nothing(autojump_clock: MockClock) -> None:
    machine = Machine(workload=None, driver="inline")
    async with machine.connect("fd") as queue:
        with trio.move_on_after(3600) as hour:  # virtual seconds
            await queue.receive()
        assert hour.cancelled_caught

        ticket = machine.endpoint.access(pasid=1, address=PAGE, perm=FaultPerm.READ)
        (group,) = await queue.receive()
        assert machine.endpoint.result(ticket) is AccessResult.PENDING
        queue.address_space.map(group)
        group.respond()
        queue.flush()
        machine.core.produce()  # the answer reaches the hardware, which tries again
        assert machine.endpoint.result(ticket) is AccessResult.OK
