"""Receives posted ahead on a fault queue, by hand: a ring, provided buffers, a multishot read, answers by WRITE."""

from uring_iopf.abi.records import pack_response, unpack_messages
from uring_iopf.core import Core
from uring_iopf.iommufd import Context, Personality
from uring_iopf.rings import ProvidedBuffers, Ring, Sqe, Window

RECEIVE, ANSWER = 1, 2

with Core() as core, Window(4096) as window, Context(core) as context, Ring(core, 8) as ring:
    ioas = context.ioas_alloc()
    device = context.mock_device(ioas)
    parent = context.hwpt_alloc_paging(device, ioas, nest_parent=True)
    queue = context.fault_queue_alloc(personality=Personality.PROPOSED)
    device.replace(context.hwpt_alloc_nested(device, parent, fault=queue))

    ring.add_window(window)  # what addresses in requests mean
    buffers = ProvidedBuffers(ring, 0, 4, 40)  # group 0: four buffers, a message in each
    assert ring.run(Sqe.read_multishot(RECEIVE, queue.fd, buffers.group)) == []  # nothing yet

    device.report(grpid=7, addr=0x1000)
    for cqe in ring.run():
        (fault,) = unpack_messages(buffers.take(cqe))
        print(f"group {fault.grpid}, address {fault.addr:#x}; more to come: {cqe.more}")
        window.write(window.address, pack_response(fault.cookie, 0))  # 0: success
        ring.run(Sqe.write(ANSWER, queue.fd, window.address, 8))

    print([response.code.name for response in context.mock.take()])
