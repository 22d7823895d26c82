"""AMD's IOMMU."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from uring_iopf._native import lib
from uring_iopf.errors import UsageError, check_fits, check_whole
from uring_iopf.hardware.iommus.iommu import Iommu, dropped_flag
from uring_iopf.hardware.iommus.spans import Span, ats_word, covering
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

    The methods ``invalidate_*`` and ``completion_wait`` give commands as Linux's driver makes them. They are in the
    queue when they return, and the hardware's next turn carries them out. Source: Linux 6.12,
    drivers/iommu/amd/iommu.c.

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

    def invalidate_iommu_pages(
        self, domain: int, address: int = 0, length: int = 0, *, pasid: int | None = None
    ) -> None:
        """INVALIDATE_IOMMU_PAGES: translations in the IOTLB go, of a range that is a power of two and covers this one.

        *pasid*: a guest's addresses under it (GN). None: those of stage 2, and all through both stages of the domain.
        *length* 0: all addresses.
        """
        check_fits(64, address=address, length=length)
        check_fits(16, domain=domain)
        check_fits(20, pasid=pasid or 0)
        self.command(3 << 60 | domain << 32 | (pasid or 0), _pages(address, length) | _PDE | _gn(pasid))

    def invalidate_iotlb_pages(
        self, device_id: int, address: int = 0, length: int = 0, *, pasid: int | None = None
    ) -> None:
        """INVALIDATE_IOTLB_PAGES: translations in the function's own TLB go. *length* 0: all.

        *pasid*: under this one, of 16 bits; None: under any.
        """
        check_fits(64, address=address, length=length)
        check_fits(16, device_id=device_id, pasid=pasid or 0)
        number = pasid or 0
        word0 = 4 << 60 | device_id << 32 | device_id | (number >> 8) << 16 | (number & 0xFF) << 48
        self.command(word0, _pages(address, length) | _gn(pasid))

    def invalidate_devtab_entry(self, device_id: int) -> None:
        """INVALIDATE_DEVTAB_ENTRY: the IOMMU drops a function's entry, and those of its PASIDs."""
        check_fits(16, device_id=device_id)
        self.command(2 << 60 | device_id)

    def invalidate_iommu_all(self) -> None:
        """INVALIDATE_IOMMU_ALL: everything goes that the IOMMU keeps. Functions' own TLBs are not affected."""
        self.command(8 << 60)

    def flush_stage_2(self, domain: int, address: int = 0, length: int = 0) -> None:
        """Give the commands that Linux gives after an unmap in stage 2, and wait for them. *length* 0: all addresses.

        The functions' own TLBs are invalidated as a whole: these do not know intermediate addresses.
        """
        check_fits(64, address=address, length=length)
        check_fits(16, domain=domain)
        self.invalidate_iommu_pages(domain, address, length)
        for device_id in self.functions_of(domain):
            self.invalidate_iotlb_pages(device_id)
        self.completion_wait()
        self.finish_commands()

    def completion_wait(self) -> None:
        """COMPLETION_WAIT: when it has been carried out (`completed_commands`), so have the commands before it."""
        self.command(1 << 60)


_PDE: Final = 2


def _gn(pasid: int | None) -> int:
    return 0 if pasid is None else 4


def _pages(address: int, length: int) -> int:
    return ats_word(covering(address, length) if length else Span(0, 52), 1)
