"""The dispatcher in virtual time: who is served first, and that both devices' accounts are exact."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dispatcher import MACHINE, PAGE, PRIORITY, Dispatcher
from uring_iopf import AccessResult, FaultGroup, FaultPerm, FunctionParts, Machine


class SlowDispatcher(Dispatcher):
    """Each group takes a second."""

    async def fetch(self, group: FaultGroup) -> None:
        await trio.sleep(len(group))


BY_HAND = replace(
    MACHINE, driver="inline", functions=(FunctionParts("nic", pasids=(1, 2)), FunctionParts("gpu", pasids=(1, 2)))
)


@pytest.mark.trio
async def test_the_most_urgent_is_served_first_however_late_it_came(autojump_clock: MockClock) -> None:
    with Machine(BY_HAND) as machine:
        async with machine.connect_each("uring-multishot") as clients, trio.open_nursery() as nursery:
            dispatcher = SlowDispatcher(clients)
            nursery.start_soon(dispatcher.run, 1)

            async def access(function: str, pasid: int, page: int) -> None:
                end = machine.functions[function]
                assert await end.access(pasid, page * PAGE, FaultPerm.READ) is AccessResult.OK

            async with trio.open_nursery() as devices:
                for number, (function, pasid) in enumerate(reversed(PRIORITY)):  # the least urgent first
                    devices.start_soon(access, function, pasid, 10 * number)
                    devices.start_soon(access, function, pasid, 10 * number + 1)
                await trio.sleep(2.5)  # the first three are served, or nearly
                devices.start_soon(access, "nic", 1, 100)
            machine.finish()
        accounts = machine.accounts()
    first, *others = dispatcher.served  # whichever came before all others
    early = sorted([*PRIORITY, *PRIORITY], key=PRIORITY.__getitem__)
    early.remove(first)
    assert others == [*early[:2], *sorted([*early[2:], ("nic", 1)], key=PRIORITY.__getitem__)]
    assert trio.current_time() == pytest.approx(9, abs=0.1)
    assert {name: (one.sent, one.answered, one.lost) for name, one in accounts.items()} == {
        "nic": (5, 5, 0),
        "gpu": (4, 4, 0),
    }


@pytest.mark.trio
@pytest.mark.parametrize("design", ["fd", "eventfd", "uring-multishot"])
async def test_all_loads_are_served_by_any_design(design: str, autojump_clock: MockClock) -> None:
    with Machine(replace(MACHINE, driver="inline")) as machine:
        async with machine.connect_each(design) as clients:
            dispatcher = SlowDispatcher(clients)
            await dispatcher.run(workers=8)
        assert len(dispatcher.served) == 800
        assert trio.current_time() == pytest.approx(100, abs=1)
        assert machine.account().answered == machine.account().sent == 800
