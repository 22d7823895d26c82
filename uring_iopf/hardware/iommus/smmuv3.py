"""Arm's SMMUv3."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from uring_iopf._native import check, ffi, lib
from uring_iopf.errors import check_fits
from uring_iopf.hardware.iommus.iommu import Iommu

if TYPE_CHECKING:
    from uring_iopf.core import Core


class SmmuRegister(enum.IntEnum):
    """Offsets of registers. Source: IHI 0070, chapter 6."""

    IDR0 = 0x0
    """Read only: the features. Both stages, Hyp, ATS, PRI, and stalls that also end without an error."""
    CR0 = 0x20
    """`SmmuCr0`. Only PRIQEN can be changed here."""
    GERROR = 0x60
    """`SmmuError`. An error is active if its bit differs from the bit in GERRORN."""
    GERRORN = 0x64
    """A write that makes the bit of an active error equal to that in GERROR acknowledges the error."""
    CMDQ_PROD = 0x98
    """Read only: the commands that were given, modulo 2^20."""
    CMDQ_CONS = 0x9C
    """Read only: the commands that were carried out, modulo 2^20, and in bits 30:24 the reason of an error. 1: the next
    command is illegal (CERROR_ILL)."""
    EVENTQ_PROD = 0x100A8
    """Where the SMMU writes the next event, an index with a wrap bit. Read only."""
    EVENTQ_CONS = 0x100AC
    """Where the driver reads next. Read only here."""
    PRIQ_PROD = 0x100C8
    """Where the SMMU writes the next page request, an index with a wrap bit, and OVFLG in bit 31. Read only."""
    PRIQ_CONS = 0x100CC
    """Where the driver reads next, and OVACKFLG in bit 31. Read only here."""


class SmmuCr0(enum.IntFlag):
    """Bits of CR0."""

    SMMUEN = 1 << 0
    PRIQEN = 1 << 1
    EVENTQEN = 1 << 2
    CMDQEN = 1 << 3


class SmmuError(enum.IntFlag):
    """Bits of GERROR and GERRORN."""

    CMDQ_ERR = 1 << 0
    """No command is carried out: the next one is illegal."""
    PRIQ_ABT_ERR = 1 << 3
    """A write to the PRI queue was aborted."""


class SmmuV3Iommu(Iommu):
    """An SMMUv3: a PRI queue, an event queue for stalls, a command queue, and a driver for them.

    *linux_denies_pri*: the driver denies page requests by Response Failure, as Linux's does; otherwise it reports them,
    as the series of 2021 did. *drains*: as for `Iommu`.
    """

    def __init__(self, core: Core, *, linux_denies_pri: bool = False, drains: bool = True) -> None:
        self._own_flags = lib.UIOPF_MODEL_DENIES if linux_denies_pri else 0
        super().__init__(core, "smmuv3", drains=drains)

    def command(self, word0: int, word1: int = 0) -> None:
        """Put a command of two words into the command queue, as any software might, behind those of the driver.

        The SMMU stops at an illegal command, with GERROR.CMDQ_ERR. The driver puts CMD_SYNC in its place at its next
        interrupt, as Linux's does, and `illegal_commands` counts it.
        """
        check_fits(64, word0=word0, word1=word1)
        check(lib.uiopf_smmuv3_command(self.model, word0, word1), "give a command")

    def illegal_commands(self) -> int:
        """The number of illegal commands at which the SMMU has stopped."""
        counts = ffi.new("struct uiopf_model_counts *")
        lib.uiopf_model_get_counts(self.model, counts)
        return int(counts.illegal)

    def enable_pri_queue(self) -> None:
        """Set CR0.PRIQEN, as it is at first."""
        check(lib.uiopf_smmuv3_enable_priq(self.model, 1), "enable the PRI queue")

    def disable_pri_queue(self) -> None:
        """Clear CR0.PRIQEN: the SMMU answers every page request by Response Failure."""
        check(lib.uiopf_smmuv3_enable_priq(self.model, 0), "disable the PRI queue")

    def abort_pri_queue(self, *, synchronous: bool = True) -> None:
        """Let the next write to the PRI queue abort, and set GERROR.PRIQ_ABT_ERR.

        The SMMU answers a request whose write aborts synchronously by Response Failure, and all others until the driver
        has acknowledged the error at its next interrupt. Without *synchronous* the request is lost.
        """
        check(lib.uiopf_smmuv3_abort_priq(self.model, bool(synchronous)), "abort a write to the PRI queue")
