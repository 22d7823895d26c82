"""A host and its guest map a page; the host removes it, and forgets to invalidate."""

from uring_iopf import FaultPerm
from uring_iopf.core import Core
from uring_iopf.hardware.page_tables import PageFormat, PageTables
from uring_iopf.hardware.translator import Translator

MIB2 = 2 << 20
core = Core()
host = PageTables(PageFormat.VTD_SECOND)
guest = PageTables(PageFormat.VTD_FIRST, base=0x2000_0000)
host.map(0x2000_0000, 0, size=MIB2)  # the guest's tables are at 0 in memory
guest.map(0x7000, 0x5000)
translator = Translator(core, first=guest, second=host)
print(translator.translate(0x7123, FaultPerm.READ))  # stage=2, NOT_PRESENT, intermediate=0x5123
host.map(0x5000, 0x9000)
print(translator.translate(0x7123, FaultPerm.READ))  # address=0x9123
host.unmap(0x5000)
print(translator.translate(0x7123, FaultPerm.READ))  # address=0x9123: nobody has invalidated it
translator.invalidate_second(0x5000)
translator.invalidate(0x7000)
print(translator.translate(0x7123, FaultPerm.READ))  # stage=2, NOT_PRESENT
translator.close()
core.close()
