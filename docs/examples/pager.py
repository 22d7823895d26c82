"""A demand pager: workers read pages from a file, a limited number at once, and give up on those that take too long."""

import os
import tempfile
from dataclasses import dataclass

import trio

from uring_iopf import FaultGroup, Machine, PageResponse, TrioClient

PAGE = 4096
FILE_PAGES = 256


@dataclass
class Pager:
    """Serves the faults of a client from a file."""

    queue: TrioClient
    file: int  # its descriptor
    timeout_s: float = 1.0
    served: int = 0
    given_up: int = 0

    async def run(self, workers: int, waiting: int) -> None:
        """One task receives; *workers* answer; *waiting* groups may be between them before the receiver waits."""
        send, receive = trio.open_memory_channel[FaultGroup](waiting)
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(self.work, receive.clone())
            receive.close()
            async with send:
                async for batch in self.queue:
                    for group in batch:
                        await send.send(group)  # back-pressure: what we do not take waits in the fault queue

    async def work(self, receive: trio.MemoryReceiveChannel[FaultGroup]) -> None:
        """Answer groups until no more come."""
        async with receive:
            async for group in receive:
                with trio.move_on_after(self.timeout_s) as limit:
                    for fault in group.faults:
                        await self.read(fault.addr // PAGE % FILE_PAGES)
                if limit.cancelled_caught:
                    self.given_up += 1
                    group.respond(PageResponse.INVALID)  # the device's access fails
                else:
                    self.served += 1
                    self.queue.address_space.map(group)
                    group.respond()  # no flush: the receiver is woken to send it

    async def read(self, number: int) -> bytes:
        """One page of the file. The read blocks, so that a thread makes it; nobody waits for one that was given up."""
        return await trio.to_thread.run_sync(os.pread, self.file, PAGE, number * PAGE, abandon_on_cancel=True)


async def main() -> None:
    """Serve the page faults of a compilation."""
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(FILE_PAGES * PAGE))
        file.flush()
        with Machine("gcc-compile", in_flight=32) as machine:
            async with machine.connect("uring-multishot") as queue:
                pager = Pager(queue, file.fileno())
                await pager.run(workers=4, waiting=8)
            account = machine.account()
    print(f"{pager.served} groups served, {pager.given_up} given up; {account.lost} of {account.sent} faults lost")


if __name__ == "__main__":
    trio.run(main)
