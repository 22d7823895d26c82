"""Answer the page faults of a device: first one made by hand, then those of a real program."""

import trio

from uring_iopf import FaultPerm, Machine, PageResponse


async def main() -> None:
    machine = Machine(workload=None)
    async with machine.connect("uring-multishot") as queue:
        ticket = machine.endpoint.access(pasid=1, address=0x7F00_0000_0000, perm=FaultPerm.WRITE)
        (group,) = await queue.receive()
        print("asked for:", group)
        queue.address_space.map(group)  # a page-table entry, stored in shared memory
        group.respond(PageResponse.SUCCESS)  # into the submission ring; no await
        queue.flush()
        while machine.endpoint.result(ticket).name == "PENDING":
            await trio.sleep(0)
        print("the access:", machine.endpoint.result(ticket).name)


trio.run(main)
