"""Two functions behind one SMMUv3: the accelerator's transactions stall, the network card has PRI."""

from contextlib import ExitStack, closing

from uring_iopf.abi import FaultFlags, FaultPerm, PageResponse
from uring_iopf.core import Core
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.smmuv3 import SmmuV3Iommu
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import Context

PASID, PAGE = 1, 4096

with ExitStack() as stack:
    core = stack.enter_context(Core())
    space = stack.enter_context(closing(AddressSpace()))
    iommu = stack.enter_context(closing(SmmuV3Iommu(core)))
    accelerator = stack.enter_context(closing(Endpoint(iommu, requester_id=0x100, stalls=2)))
    card = stack.enter_context(closing(Endpoint(iommu, requester_id=0x200, group_most=8)))
    context = stack.enter_context(closing(Context(core)))

    queue = context.fault_queue_alloc()
    names = {}
    for name, function in {"accelerator": accelerator, "card": card}.items():
        device = context.bind(iommu, function.requester_id, 64)
        iommu.bind(function, device)
        parent = context.hwpt_alloc_paging(device, context.ioas_alloc(), nest_parent=True)
        device.attach(context.hwpt_alloc_nested(device, parent, fault=queue))
        function.use_tables(space)
        names[device.id] = name
    card.enable_pri(16)

    # Five transactions, of which two find a place to stall in; and eight pages in one group.
    stalled = [accelerator.access(PASID, 0x10040 + n * PAGE, FaultPerm.READ) for n in range(5)]
    asked = card.access(PASID, 0x80000, FaultPerm.WRITE, pages=8)

    while AccessResult.PENDING in {*map(accelerator.result, stalled), card.result(asked)}:
        core.produce()
        counts = accelerator.counts()
        print(f"accelerator: {counts.outstanding} stalled, {counts.waiting} outside")
        for message in queue.read_messages():
            space.map_page(message.pasid, message.addr, message.perm)
            print(f"  {names[message.dev_id]}: {message.addr:#x}, group {message.grpid}")
            if message.flags & FaultFlags.LAST_PAGE:
                queue.respond(message.cookie, PageResponse.SUCCESS)

    assert {*map(accelerator.result, stalled), card.result(asked)} == {AccessResult.OK}
    assert iommu.lost() == 0
