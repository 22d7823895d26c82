"""The RISC-V IOMMU."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from uring_iopf._native import check, lib
from uring_iopf.hardware.iommus.iommu import Iommu, dropped_flag

if TYPE_CHECKING:
    from uring_iopf.core import Core


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
