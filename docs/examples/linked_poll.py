"""The same on Linux's fault file as it is: the multishot read is linked to a poll."""

from select import POLLIN

from uring_iopf.abi import SqeFlags
from uring_iopf.abi.records import pack_response, unpack_messages
from uring_iopf.core import Core
from uring_iopf.iommufd import Context
from uring_iopf.rings import ProvidedBuffers, Ring, Sqe, Window

RECEIVE, ANSWER = 1, 2

with Core() as core, Window(4096) as window, Context(core) as context, Ring(core, 8) as ring:
    ioas = context.ioas_alloc()
    device = context.mock_device(ioas)
    parent = context.hwpt_alloc_paging(device, ioas, nest_parent=True)
    queue = context.fault_queue_alloc()  # as in Linux 6.12
    queue.set_nonblocking(True)
    device.replace(context.hwpt_alloc_nested(device, parent, fault=queue))

    ring.add_window(window)
    buffers = ProvidedBuffers(ring, 0, 4, 40)
    linked = SqeFlags.IO_LINK | SqeFlags.CQE_SKIP_SUCCESS
    poll = Sqe.poll_add(RECEIVE, queue.fd, POLLIN, flags=linked)
    assert ring.run(poll, Sqe.read_multishot(RECEIVE, queue.fd, buffers.group)) == []  # nothing yet

    for grpid in (7, 8, 9):
        device.report(grpid=grpid, addr=0x1000)
        for cqe in ring.run():
            (fault,) = unpack_messages(buffers.take(cqe))
            print(f"group {fault.grpid}; more to come: {cqe.more}")
            window.write(window.address, pack_response(fault.cookie, 0))
            ring.run(Sqe.write(ANSWER, queue.fd, window.address, 8))
