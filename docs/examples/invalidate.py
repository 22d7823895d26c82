"""A guest removes a page, and its host all of its memory, with the commands that an SMMUv3 needs."""

from uring_iopf import FaultPerm
from uring_iopf.core import Core
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.smmuv3 import SmmuV3Iommu
from uring_iopf.hardware.page_tables import PageTables
from uring_iopf.hardware.translator import Translator
from uring_iopf.iommufd import Context
from uring_iopf.iommufd.spaces.second_stage import SecondStage

SID, VMID, ASID, PASID, MIB2 = 0x100, 7, 0x21, 5, 2 << 20
core = Core()
smmu = SmmuV3Iommu(core)
end = Endpoint(smmu, requester_id=SID)
end.enable_pri()
context = Context(core)


def reaches(address: int) -> bool:
    """Whether the function finds the page. If not, its page request is refused: no device is bound to it."""
    ticket = end.access(PASID, address, FaultPerm.READ)
    for _ in range(3):
        core.produce()
    return end.result(ticket) is AccessResult.OK


guest, host = PageTables("arm-stage1", pasids=8, base=0x2000_0000), PageTables("arm-stage2")
host.map(0x2000_0000, 0, size=MIB2)  # the guest's tables
ioas = context.ioas_alloc()
ioas.map(16 << 12, user_va=0x7000_0000, iova=0)  # the guest's memory
second = SecondStage(ioas, host)
second.pin()
translator = Translator(core, first=guest, second=host, domain=VMID)
translator.set_tag(PASID, ASID)
end.use_translator(translator)
guest.map(0x10_0000, 0x3000, pasid=PASID)
guest.map(0x10_1000, 0x4000, pasid=PASID)
print(reaches(0x10_0000), reaches(0x10_1000))  # True True

guest.unmap(0x10_0000, pasid=PASID)
print(reaches(0x10_0000))  # True: the SMMU and the function keep it
smmu.tlbi_nh_va(0x10_0000, asid=ASID, vmid=VMID)  # the SMMU's first …
smmu.sync()
smmu.atc_inv(SID, 0x10_0000, 4096, ssid=PASID)  # … then the function's own
smmu.sync()
smmu.finish_commands()
print(reaches(0x10_0000), reaches(0x10_1000))  # False True

second.flush_with(smmu, VMID)  # TLBI_S2_IPA, TLBI_NH_ALL and ATC_INV after each removal
ioas.unmap_all()
print(reaches(0x10_1000))  # False

second.close()
translator.close()
end.close()
context.close()
smmu.close()
core.close()
