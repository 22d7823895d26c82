"""The ioctls of address spaces, and the options."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final

from uring_iopf._native import ffi
from uring_iopf.abi.iommufd import IoasMapFlags, OptionId, OptionOp, VfioIoasOp
from uring_iopf.iommufd.spaces.ioas import COPY, IOAS, MAP, MAP_FILE, check_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf.iommufd.uapi.call import Call

_RANGE: Final = 16  # iommu_iova_range: start, last
_MAP_FLAGS: Final = int(IoasMapFlags.FIXED_IOVA | IoasMapFlags.WRITEABLE | IoasMapFlags.READABLE)


def ioas_alloc(call: Call) -> None:
    """IOMMU_IOAS_ALLOC."""
    call.supported(not call.cmd.flags)
    made = call.context.ioas_alloc()
    call.cmd.out_ioas_id = made.id
    call.respond_with(made)


def ioas_allow_iovas(call: Call) -> None:
    """IOMMU_IOAS_ALLOW_IOVAS."""
    cmd = call.cmd
    call.supported(not cmd.__reserved)
    ioas = call.get(cmd.ioas_id, IOAS)

    def ranges() -> Iterator[tuple[int, int]]:
        for at in range(cmd.allowed_iovas, cmd.allowed_iovas + cmd.num_iovas * _RANGE, _RANGE):
            data = call.memory.read(at, _RANGE)
            yield int.from_bytes(data[:8], sys.byteorder), int.from_bytes(data[8:], sys.byteorder)

    ioas.allow_iovas(ranges())


def ioas_iova_ranges(call: Call) -> None:
    """IOMMU_IOAS_IOVA_RANGES."""
    cmd = call.cmd
    call.supported(not cmd.__reserved)
    ioas = call.get(cmd.ioas_id, IOAS)
    room, ranges = cmd.num_iovas, ioas.iova_ranges()
    for index, (first, last) in enumerate(ranges[:room]):
        data = first.to_bytes(8, sys.byteorder) + last.to_bytes(8, sys.byteorder)
        call.memory.write(cmd.allowed_iovas + index * _RANGE, data)
    cmd.num_iovas = len(ranges)
    cmd.out_iova_alignment = ioas.iova_alignment
    call.respond()
    if len(ranges) > room:
        raise call.refuse(errno.EMSGSIZE)


def _permissions(flags: int) -> dict[str, bool]:
    return {"readable": bool(flags & IoasMapFlags.READABLE), "writeable": bool(flags & IoasMapFlags.WRITEABLE)}


def _fixed(flags: int, iova: int) -> int | None:
    return iova if flags & IoasMapFlags.FIXED_IOVA else None


def ioas_map(call: Call) -> None:
    """IOMMU_IOAS_MAP."""
    cmd = call.cmd
    call.supported(not (cmd.flags & ~_MAP_FLAGS or cmd.__reserved))
    allow = _permissions(cmd.flags)
    check_map(MAP, cmd.iova, cmd.length, **allow)
    ioas = call.get(cmd.ioas_id, IOAS)
    cmd.iova = ioas.map(cmd.length, user_va=cmd.user_va, iova=_fixed(cmd.flags, cmd.iova), **allow)
    call.respond()  # Linux leaves the mapping, should this fail


def ioas_map_file(call: Call) -> None:
    """IOMMU_IOAS_MAP_FILE."""
    cmd = call.cmd
    call.supported(not cmd.flags & ~_MAP_FLAGS)
    allow = _permissions(cmd.flags)
    check_map(MAP_FILE, cmd.iova, cmd.length, **allow)
    ioas = call.get(cmd.ioas_id, IOAS)
    cmd.iova = ioas.map_file(cmd.length, fd=cmd.fd, start=cmd.start, iova=_fixed(cmd.flags, cmd.iova), **allow)
    call.respond()


def ioas_copy(call: Call) -> None:
    """IOMMU_IOAS_COPY."""
    cmd = call.cmd
    call.supported(not cmd.flags & ~_MAP_FLAGS)
    allow = _permissions(cmd.flags)
    check_map(COPY, max(cmd.src_iova, cmd.dst_iova), cmd.length, **allow)
    pieces = call.get(cmd.src_ioas_id, IOAS).pieces(cmd.src_iova, cmd.length)
    ioas = call.get(cmd.dst_ioas_id, IOAS)
    cmd.dst_iova = ioas.insert_pieces(pieces, _fixed(cmd.flags, cmd.dst_iova), **allow)
    call.respond()


def ioas_unmap(call: Call) -> None:
    """IOMMU_IOAS_UNMAP."""
    cmd = call.cmd
    cmd.length = call.get(cmd.ioas_id, IOAS).unmap(cmd.iova, cmd.length)
    call.respond()


def ioas_change_process(call: Call) -> None:
    """Only memory of files can go to another process. Its charge to a process or user is not modelled."""
    call.supported(not call.cmd.__reserved)
    for one in call.context:
        if isinstance(one, IOAS) and any(mapping.fd is None for mapping in one.mappings()):
            raise call.refuse(errno.EINVAL)


def option(call: Call) -> None:
    """IOMMU_OPTION."""
    cmd = call.cmd
    call.supported(not cmd.__reserved)
    if cmd.option_id == OptionId.RLIMIT_MODE:
        call.supported(not cmd.object_id)
        _option_rlimit_mode(call)
    elif cmd.option_id == OptionId.HUGE_PAGES:
        _option_huge_pages(call, call.get(cmd.object_id, IOAS))
    else:
        raise call.refuse(errno.EOPNOTSUPP)
    call.copy_out(ffi.offsetof("struct iommu_option", "val64"), int(cmd.val64).to_bytes(8, sys.byteorder))


def _option_rlimit_mode(call: Call) -> None:
    """The client is taken for one with CAP_SYS_RESOURCE."""
    cmd = call.cmd
    if cmd.op == OptionOp.GET:
        cmd.val64 = call.state.account_mm
        return
    call.supported(cmd.op == OptionOp.SET)
    if len(call.context.table):
        raise call.refuse(errno.EBUSY)
    if cmd.val64 > 1:
        raise call.refuse(errno.EINVAL)
    call.state.account_mm = bool(cmd.val64)


def _option_huge_pages(call: Call, ioas: IOAS) -> None:
    cmd = call.cmd
    if cmd.op == OptionOp.GET:
        cmd.val64 = ioas.large_pages
        return
    call.supported(cmd.op == OptionOp.SET)
    if cmd.val64 > 1:
        raise call.refuse(errno.EINVAL)
    ioas.set_large_pages(bool(cmd.val64))


def vfio_ioas(call: Call) -> None:
    """IOMMU_VFIO_IOAS."""
    cmd, state = call.cmd, call.state
    call.supported(not cmd.__reserved)
    if cmd.op == VfioIoasOp.GET:
        if state.vfio_ioas is None or not state.vfio_ioas.exists:
            raise call.refuse(errno.ENODEV)
        cmd.ioas_id = state.vfio_ioas.id
        call.respond()
    elif cmd.op == VfioIoasOp.SET:
        state.vfio_ioas = call.get(cmd.ioas_id, IOAS)
    else:
        call.supported(cmd.op == VfioIoasOp.CLEAR)
        state.vfio_ioas = None
