"""An address space, a mapping and a fault queue, made as a VMM makes them: by ioctls on /dev/iommu."""

import struct

from uring_iopf.abi.iommufd import IoasMapFlags, IoctlNr
from uring_iopf.iommufd import ClientMemory, Context

with Context(kernel="6.12") as context:
    arg = bytearray(struct.pack("=3I", 12, 0, 0))  # struct iommu_ioas_alloc: size, flags, out_ioas_id
    context.ioctl(IoctlNr.IOAS_ALLOC.request, arg)
    ioas_id = struct.unpack_from("=I", arg, 8)[0]

    flags = IoasMapFlags.READABLE | IoasMapFlags.WRITEABLE
    arg = bytearray(struct.pack("=4I3Q", 40, flags, ioas_id, 0, 0x7F00_0000_0000, 0x4000, 0))
    context.ioctl(IoctlNr.IOAS_MAP.request, arg)  # the last field comes back: where the kernel has put it
    assert struct.unpack_from("=Q", arg, 32)[0] == 0x4000

    memory, ranges = ClientMemory(), bytearray(2 * 8)
    memory.add(0x1000, ranges)  # the client's address 0x1000 is this buffer
    context.ioctl(
        IoctlNr.IOAS_IOVA_RANGES.request, bytearray(struct.pack("=4I2Q", 32, ioas_id, 1, 0, 0x1000, 0)), memory
    )
    assert struct.unpack("=2Q", ranges) == (0, 2**64 - 1)

    arg = bytearray(struct.pack("=4I", 16, 0, 0, 0))
    context.ioctl(IoctlNr.FAULT_QUEUE_ALLOC.request, arg)
    fault_id, fault_fd = struct.unpack_from("=2I", arg, 8)
    assert [one.id for one in context] == [ioas_id, fault_id]
    print(f"fault queue {fault_id} has descriptor {fault_fd}")
