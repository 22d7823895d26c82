"""The RISC-V IOMMU."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from uring_iopf._native import check, lib
from uring_iopf.errors import check_fits, check_whole
from uring_iopf.hardware.iommus.iommu import Iommu, dropped_flag
from uring_iopf.hardware.iommus.spans import PAGE, Span, ats_word, covering
from uring_iopf.hardware.translator import range_of

if TYPE_CHECKING:
    from uring_iopf.core import Core

_AT_ONCE: Final = 2 << 20
"""Linux's limit: beyond it, all addresses are invalidated by one command."""


class RiscvRegister(enum.IntEnum):
    """Offsets of the registers that page requests have. Source: RISC-V IOMMU Architecture Specification 1.0."""

    PQB = 0x38
    """Read only: the binary logarithm of the queue's entries, less one, in bits 4:0."""
    PQH = 0x40
    """Where the driver reads next, an index. Read only here."""
    PQT = 0x44
    """Where the IOMMU writes next, an index. Read only."""
    PQCSR = 0x50
    """`RiscvPqcsr`."""
    IPSR = 0x54
    """Bit 3, PIP: the page-request queue's interrupt is pending. A write clears it where it has a 1."""


class RiscvPqcsr(enum.IntFlag):
    """Bits of the page-request queue's control and status register."""

    PQEN = 1 << 0
    """The queue is enabled. From 0 to 1, the queue is empty and both errors are cleared."""
    PIE = 1 << 1
    """A new record and an error set PIP, the interrupt of the driver."""
    PQMF = 1 << 8
    """A record could not be written (memory fault). A write clears it where it has a 1."""
    PQOF = 1 << 9
    """A page request found the queue full (overflow). A write clears it where it has a 1."""
    PQON = 1 << 16
    """Read only: the queue is on."""


class RiscvIommu(Iommu):
    """A RISC-V IOMMU: a page-request queue, a command queue, and a driver for both.

    Linux has no driver for its page requests. This one does what the specification asks of software. *drains*: as
    `Iommu`. *dropped*: the IOMMU's answer to the last request of a group that overflows the queue: ``success``, as
    the reference model, ``failure`` or ``nothing``. The specification lets it answer, or not.

    The methods ``iotinval_*``, ``iodir_*``, ``ats_inval`` and ``iofence`` give commands; each is in the queue when it
    returns, and is carried out by the hardware's next turn. Source: RISC-V IOMMU specification 1.0, in-memory queues.

    Raises: UsageError, *dropped* is none of these.
    """

    def __init__(self, core: Core, *, drains: bool = True, dropped: str = "success") -> None:
        self._own_flags = dropped_flag(dropped)
        super().__init__(core, "riscv", drains=drains)

    def fault_queue(self) -> None:
        """Let the write of the next record fault, which sets PQMF.

        The IOMMU answers that page request and all later ones with Response Failure, until the driver has cleared PQMF
        at its next interrupt.
        """
        check(lib.uiopf_riscv_fault_queue(self.model), "fault the page-request queue")

    def iotinval_vma(
        self, address: int = 0, length: int = 0, *, pscid: int | None = None, gscid: int | None = None
    ) -> None:
        """IOTINVAL.VMA: translations of stage 1, and through both stages, go. A command for each page, up to 2 MiB.

        *gscid*: of this guest; None: of functions without stage 2. *pscid*: of one process; None: of all. *length* 0:
        of all addresses, as beyond 2 MiB. Source: riscv_iommu_iotlb_inval, Linux 7.2.
        """
        check_fits(64, address=address, length=length)
        check_fits(20, pscid=pscid or 0)
        named = 0 if pscid is None else 1 << 32 | pscid << 12
        self._iotinval(0x01 | named | _guest(gscid), address, length)

    def iotinval_gvma(self, address: int = 0, length: int = 0, *, gscid: int | None = None) -> None:
        """IOTINVAL.GVMA: translations of stage 2 go, and all through both stages of the guest. *gscid* None: of all."""
        check_fits(64, address=address, length=length)
        self._iotinval(0x81 | _guest(gscid), address, length)

    def iodir_inval_ddt(self, device_id: int | None = None) -> None:
        """IODIR.INVAL_DDT: the IOMMU drops a function's entry, and those of its processes. None: of all functions."""
        check_fits(24, device_id=device_id or 0)
        self.command(0x03 | (0 if device_id is None else 1 << 33 | device_id << 40))

    def iodir_inval_pdt(self, device_id: int, pid: int) -> None:
        """IODIR.INVAL_PDT: the IOMMU drops the entry of one process of a function: its tables, and its PSCID."""
        check_fits(24, device_id=device_id)
        check_fits(20, pid=pid)
        self.command(0x83 | 1 << 33 | pid << 12 | device_id << 40)

    def ats_inval(self, requester_id: int, address: int = 0, length: int = 0, *, pid: int | None = None) -> None:
        """ATS.INVAL: translations in the function's own TLB go. *length* 0: all. *pid* None: of all processes."""
        check_fits(64, address=address, length=length)
        check_fits(16, requester_id=requester_id)
        check_fits(20, pid=pid or 0)
        span = covering(address, length) if length else Span(0, 52)
        named = 0 if pid is None else 1 << 32 | pid << 12
        self.command(0x04 | named | requester_id << 40, ats_word(span, 1 << 11))

    def flush_stage_2(self, domain: int, address: int = 0, length: int = 0) -> None:
        """Give the commands that follow an unmap in stage 2, and wait for them. *length* 0: all addresses.

        The functions' own TLBs are invalidated as a whole: these do not know intermediate addresses.
        """
        check_fits(64, address=address, length=length)
        check_fits(16, domain=domain)
        self.iotinval_gvma(address, length, gscid=domain)
        for requester_id in self.functions_of(domain):
            self.ats_inval(requester_id)
        self.iofence()
        self.finish_commands()

    def iofence(self) -> None:
        """IOFENCE.C: when it has been carried out (`completed_commands`), so have the commands before it."""
        self.command(0x02)

    def _iotinval(self, word0: int, address: int, length: int) -> None:
        check_whole("length", length, 0, 1 << 64, " bytes")
        if not length or length >= _AT_ONCE:
            self.command(word0)
            return
        first, last = range_of(address, length)
        for page in range(first // PAGE * PAGE, last + 1, PAGE):
            self.command(word0 | 1 << 10, page >> 2)


def _guest(gscid: int | None) -> int:
    check_fits(16, gscid=gscid or 0)
    return 0 if gscid is None else 1 << 33 | gscid << 44
