"""AMD's IOMMU."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from uring_iopf._native import lib
from uring_iopf.errors import UsageError, check_whole
from uring_iopf.hardware.iommus.iommu import Iommu, dropped_flag
from uring_iopf.hardware.pri import PrgResponse

if TYPE_CHECKING:
    from uring_iopf.core import Core

LOG_ENTRIES: Final = (512, 32768)
"""The sizes of the log that Linux sets up: the usual one, and one for an erratum."""
MOST_THRESHOLD: Final = 0x7FFF


class AmdRegister(enum.IntEnum):
    """Offsets of the registers that page requests have. Source: Linux drivers/iommu/amd/amd_iommu_types.h."""

    CONTROL = 0x18
    """`AmdControl`."""
    PPR_LOG_BASE = 0x38
    """Read only: the log's size, as the power of two of its entries, in bits 59:56."""
    STATUS = 0x2020
    """`AmdStatus`. A write clears each bit where it has a 1, except PPR_RUN."""
    PPR_LOG_HEAD = 0x2030
    """Where the driver reads next, in bytes. Read only here."""
    PPR_LOG_TAIL = 0x2038
    """Where the IOMMU writes next, in bytes. Read only."""
    PPR_AUTO_RESPONSE = 0x2080
    """Bits 3:0: the code, `PrgResponse`, with which the IOMMU answers by itself."""
    PPR_OVERFLOW_EARLY = 0x2088
    """Bits 14:0: a number of entries, the early threshold. Bit 31: it is used."""


class AmdControl(enum.IntFlag):
    """Bits of the Control register."""

    PPR_LOG = 1 << 13
    PPR_INT = 1 << 14
    """The driver's interrupt. Without it the driver reads the log only to drain it."""
    PPR = 1 << 15
    PPR_AUTO_RESPONSE = 1 << 39
    """The IOMMU answers page requests that the log cannot take, instead of losing them."""


class AmdStatus(enum.IntFlag):
    """Bits of the Status register."""

    PPR_OVERFLOW = 1 << 5
    """A page request found no room in the log, and was lost. Nothing is logged before the log is enabled anew."""
    PPR_INT = 1 << 6
    """An entry has been written since this bit was cleared."""
    PPR_RUN = 1 << 7
    """Page requests are logged."""
    PPR_OVERFLOW_EARLY = 1 << 18
    """A page request found as many entries in the log as the early threshold."""


class AmdIommu(Iommu):
    """An AMD IOMMU: a log of peripheral page requests (PPR), a command buffer, and Linux's driver for both.

    *drains*: as `Iommu`. *log_entries*: 512, or 32768; one less can be in the log. *auto_response*: the IOMMU answers
    page requests that the log cannot take with this code. None: they are lost, and the function waits for an answer
    until a reset. *early_threshold*: from so many entries on, the log counts as too full for more if *auto_response*
    is given; else only a status bit is set. Linux uses neither.

    *dropped*: without auto response, the IOMMU's answer to the last request of a group that the log does not take:
    ``success``, ``failure`` or ``nothing``. The specification is not at hand.

    Raises: UsageError, a size, a code, a threshold or *dropped* that is not allowed.
    """

    def __init__(
        self,
        core: Core,
        *,
        drains: bool = True,
        log_entries: int = LOG_ENTRIES[0],
        auto_response: PrgResponse | None = None,
        early_threshold: int | None = None,
        dropped: str = "nothing",
    ) -> None:
        if log_entries not in LOG_ENTRIES:
            raise UsageError(f"log_entries must be {' or '.join(map(str, LOG_ENTRIES))}, not {log_entries!r}")
        if auto_response is not None and auto_response not in tuple(PrgResponse):
            raise UsageError(f"auto_response must be a PrgResponse or None, not {auto_response!r}")
        if early_threshold is not None:
            check_whole("early_threshold", early_threshold, 0, MOST_THRESHOLD, " entries")
        large = log_entries == LOG_ENTRIES[1]
        self._own_flags = dropped_flag(dropped) | (lib.UIOPF_MODEL_LARGE_LOG if large else 0)
        super().__init__(core, "amd", drains=drains)
        if early_threshold is not None:
            self.write_register(AmdRegister.PPR_OVERFLOW_EARLY, early_threshold | 1 << 31)
        if auto_response is not None:
            control = self.read_register(AmdRegister.CONTROL) | AmdControl.PPR_AUTO_RESPONSE
            self.write_register(AmdRegister.PPR_AUTO_RESPONSE, auto_response)
            self.write_register(AmdRegister.CONTROL, control)
