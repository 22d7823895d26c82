"""A dispatcher: a network card and an accelerator, two processes on each, and the most urgent fault is served first."""

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from uring_iopf import FaultGroup, FaultPerm, FunctionParts, Machine, MachineParts, TrioClient, Workload

PAGE = 4096
PRIORITY = {("nic", 1): 0, ("gpu", 1): 1, ("nic", 2): 2, ("gpu", 2): 3}  # by function and PASID; 0 goes first


def touched(pages: int, address: int) -> Workload:
    """Two processes (PASIDs 1 and 2) that touch so many pages in turn."""
    return Workload.from_faults((0, address + n * PAGE, 1 + n % 2, FaultPerm.READ) for n in range(pages))


MACHINE = MachineParts(
    functions=(
        FunctionParts("nic", workload=touched(400, 0x1000_0000)),
        FunctionParts("gpu", workload=touched(400, 0x2000_0000)),
    ),
    queues="pasid",  # a fault queue for each process on each device: four
    in_flight=32,
)


@dataclass
class Dispatcher:
    """Receives from all clients, and serves by priority."""

    clients: Mapping[tuple[str, int | None], TrioClient]
    served: list[tuple[str, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._heap: list[tuple[int, int, tuple[str, int | None], FaultGroup]] = []
        self._order = itertools.count()  # of two that are as urgent, the older one
        self._waiting = trio.Semaphore(0)  # counts what is in the heap

    async def run(self, workers: int) -> None:
        """Serve until all loads are over. So many groups are served at once."""
        async with trio.open_nursery() as serving:
            for _ in range(workers):
                serving.start_soon(self.work)
            async with trio.open_nursery() as receiving:
                for key, client in self.clients.items():
                    receiving.start_soon(self.receive, key, client)
            serving.cancel_scope.cancel()  # a client's iteration ends when all is answered: the workers are idle

    async def receive(self, key: tuple[str, int | None], client: TrioClient) -> None:
        """Sort in what comes from one queue."""
        async for batch in client:
            for group in batch:
                heapq.heappush(self._heap, (PRIORITY[key], next(self._order), key, group))
                self._waiting.release()

    async def work(self) -> None:
        """Serve one group after the other, always the most urgent."""
        while True:
            await self._waiting.acquire()
            _, _, key, group = heapq.heappop(self._heap)
            await self.fetch(group)
            self.clients[key].address_space.map(group)
            group.respond()
            self.served.append(key)

    async def fetch(self, group: FaultGroup) -> None:
        """Get what the pages hold: from a disk, or from another machine."""
        await trio.sleep(0.001 * len(group))


async def main() -> None:
    """Serve both devices, and say what became of each one's faults."""
    with Machine(MACHINE) as machine:
        async with machine.connect_each("uring-multishot") as clients:
            dispatcher = Dispatcher(clients)
            await dispatcher.run(workers=8)
        for name, account in machine.accounts().items():
            print(f"{name}: {account.answered} faults answered of {account.sent}, {account.lost} lost")


if __name__ == "__main__":
    trio.run(main)
