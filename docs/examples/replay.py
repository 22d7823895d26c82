"""Answer every page fault of a compiler run, and say what became of them."""

import trio

from uring_iopf import Machine, PageResponse


async def main() -> None:
    with Machine("gcc-compile", in_flight=16) as machine:
        async with machine.connect("uring-multishot") as queue:
            async for batch in queue:
                for group in batch:
                    queue.address_space.map(group)
                    group.respond(PageResponse.SUCCESS)
        print(machine.account())


trio.run(main)
