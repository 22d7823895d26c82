"""The pager in virtual time: which faults time out, how long the others take, and where faults wait."""

import pytest
import trio
from trio.testing import MockClock

from pager import PAGE, Pager
from uring_iopf import AccessResult, FaultPerm, Machine

BASE = 0x7F00_0000_0000


class SlowPager(Pager):
    """Reading takes a second a page; page 7 would take an hour."""

    async def read(self, number: int) -> bytes:
        await trio.sleep(3600 if number == 7 else 1)
        return bytes(PAGE)


@pytest.mark.trio
async def test_a_page_that_takes_too_long_fails_its_own_access_alone(autojump_clock: MockClock) -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect() as queue, trio.open_nursery() as nursery:
            pager = SlowPager(queue, file=-1, timeout_s=10)
            nursery.start_soon(pager.run, 4, 8)
            results: dict[int, AccessResult] = {}

            async def access(number: int) -> None:
                results[number] = await machine.access(1, BASE + number * PAGE, FaultPerm.READ)

            async with trio.open_nursery() as device:
                for number in range(20):
                    device.start_soon(access, number)
            machine.finish()
    assert results == {number: AccessResult.INVALID if number == 7 else AccessResult.OK for number in range(20)}
    assert (pager.served, pager.given_up) == (19, 1)
    assert trio.current_time() < 20  # virtual; one after the other they would take 29 seconds


@pytest.mark.trio
async def test_while_all_workers_are_busy_faults_wait_in_their_queue(autojump_clock: MockClock) -> None:
    with Machine(None, driver="inline") as machine:
        async with machine.connect("fd") as queue, trio.open_nursery() as nursery:
            nursery.start_soon(SlowPager(queue, file=-1).run, 1, 0)
            for number in range(3):  # one is read, one is about to be handed over, one waits behind it
                machine.endpoint.access(1, BASE + number * PAGE, FaultPerm.READ)
            await trio.sleep(0.5)
            for number in range(10, 20):
                machine.endpoint.access(1, BASE + number * PAGE, FaultPerm.READ)
            machine.core.produce()
            assert machine.queue.counts().waiting_groups == 10
            machine.finish()
        assert machine.account().answered == 13
