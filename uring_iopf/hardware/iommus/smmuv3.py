"""Arm's SMMUv3."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from uring_iopf._native import check, lib
from uring_iopf.errors import UsageError, check_fits
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.iommus.spans import PAGE, Span, covering
from uring_iopf.hardware.page_tables import PAGE_SIZES, level_of
from uring_iopf.hardware.translator import range_of

if TYPE_CHECKING:
    from uring_iopf.core import Core

_ALL: Final = 52
_GRANULES_OF_4_KIB: Final = 1 << 10


def _vmid(vmid: int) -> int:
    check_fits(16, vmid=vmid)
    return vmid << 32


def _asid(asid: int) -> int:
    check_fits(16, asid=asid)
    return asid << 48


class SmmuRegister(enum.IntEnum):
    """Offsets of registers. Source: IHI 0070, chapter 6."""

    IDR0 = 0x0
    """Read only: the features. Both stages, Hyp, ATS, PRI, ASIDs and VMIDs of 16 bits, stalls that also end without an
    error."""
    IDR3 = 0xC
    """Read only: RIL, bit 10. CMD_TLBI_* have ranges."""
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

    The SMMU stops at an illegal `command`, with GERROR.CMDQ_ERR. The driver puts CMD_SYNC in its place at its next
    interrupt, as Linux's does, and `illegal_commands` counts it. The methods ``cfgi_*``, ``tlbi_*``, ``atc_inv`` and
    ``sync`` give commands as Linux's driver makes them; each is in the queue when it returns, and is carried out by the
    hardware's next turn. Source: IHI 0070, 4.3 to 4.7; Linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c, 6.12.
    """

    def __init__(self, core: Core, *, linux_denies_pri: bool = False, drains: bool = True) -> None:
        self._own_flags = lib.UIOPF_MODEL_DENIES if linux_denies_pri else 0
        super().__init__(core, "smmuv3", drains=drains)

    def illegal_commands(self) -> int:
        """The number of illegal commands at which the SMMU has stopped."""
        return int(self._counts().illegal)

    def cfgi_ste(self, sid: int) -> None:
        """CMD_CFGI_STE: the SMMU drops the entry of a stream, and all its descriptors. Raises: as `command`."""
        check_fits(32, sid=sid)
        self.command(0x03 | sid << 32, 1)

    def cfgi_cd(self, sid: int, ssid: int) -> None:
        """CMD_CFGI_CD: the SMMU drops the context descriptor of a substream: its tables, and its ASID."""
        check_fits(32, sid=sid)
        check_fits(20, ssid=ssid)
        self.command(0x05 | ssid << 12 | sid << 32, 1)

    def cfgi_cd_all(self, sid: int) -> None:
        """CMD_CFGI_CD_ALL: the same for all substreams of a stream."""
        check_fits(32, sid=sid)
        self.command(0x06 | sid << 32)

    def cfgi_all(self) -> None:
        """CMD_CFGI_ALL: the same for all streams."""
        self.command(0x04, 31)

    def tlbi_nh_all(self, vmid: int = 0) -> None:
        """CMD_TLBI_NH_ALL: translations of stage 1, and through both stages, under a VMID go."""
        self.command(0x10 | _vmid(vmid))

    def tlbi_nh_asid(self, asid: int, vmid: int = 0) -> None:
        """CMD_TLBI_NH_ASID: the same, under an ASID."""
        self.command(0x11 | _vmid(vmid) | _asid(asid))

    def tlbi_nh_va(self, address: int, length: int = PAGE, *, asid: int, vmid: int = 0, granule: int = PAGE) -> None:
        """CMD_TLBI_NH_VA, one or more for a range of pages: the same, of these addresses.

        *granule*: the size of the pages that were mapped there, which the command has as a hint (TTL).
        Source: __arm_smmu_tlb_inv_range, for pages alone and not tables (leaf).
        """
        self._tlbi_range(0x12 | _vmid(vmid) | _asid(asid), address, length, granule)

    def tlbi_nh_vaa(self, address: int, length: int = PAGE, *, vmid: int = 0, granule: int = PAGE) -> None:
        """CMD_TLBI_NH_VAA: the same, under any ASID."""
        self._tlbi_range(0x13 | _vmid(vmid), address, length, granule)

    def tlbi_s12_vmall(self, vmid: int = 0) -> None:
        """CMD_TLBI_S12_VMALL: all translations under a VMID go."""
        self.command(0x28 | _vmid(vmid))

    def tlbi_s2_ipa(self, address: int, length: int = PAGE, *, vmid: int = 0, granule: int = PAGE) -> None:
        """CMD_TLBI_S2_IPA: translations of stage 2 alone go. Those through both stages stay: see `tlbi_nh_all`."""
        self._tlbi_range(0x2A | _vmid(vmid), address, length, granule)

    def tlbi_nsnh_all(self) -> None:
        """CMD_TLBI_NSNH_ALL: all translations go."""
        self.command(0x30)

    def atc_inv(self, sid: int, address: int = 0, length: int = 0, *, ssid: int | None = None) -> None:
        """CMD_ATC_INV: translations in the function's own TLB go.

        They are those of the smallest range that is a power of two and covers this one; *length* 0: all. *ssid*: under
        a PASID; None, and 0, which Linux takes for none: under any.
        Source: arm_smmu_atc_inv_to_cmd.
        """
        check_fits(64, address=address, length=length)
        check_fits(32, sid=sid)
        check_fits(20, ssid=ssid or 0)
        span = covering(address, length) if length else Span(0, _ALL)
        substream = 1 << 11 | ssid << 12 if ssid else 0
        self.command(0x40 | substream | sid << 32, span.address | span.order)

    def flush_stage_2(self, domain: int, address: int = 0, length: int = 0) -> None:
        """Give the commands that Linux gives after an unmap in a nesting parent, and wait for them.

        *length* 0: all addresses. Translations through both stages, and the functions' own TLBs, are invalidated as a
        whole: they are not kept by intermediate addresses. Source: arm_smmu_tlb_inv_range_domain, 6.13.
        """
        check_fits(64, address=address, length=length)
        check_fits(16, domain=domain)
        if length:
            self.tlbi_s2_ipa(address, length, vmid=domain)
            self.tlbi_nh_all(domain)
        else:
            self.tlbi_s12_vmall(domain)
        self.sync()
        for sid in self.functions_of(domain):
            self.atc_inv(sid)
        self.sync()
        self.finish_commands()

    def sync(self) -> None:
        """CMD_SYNC: when it has been carried out (`completed_commands`), so have the commands before it."""
        self.command(0x46)

    def _tlbi_range(self, word0: int, address: int, length: int, granule: int) -> None:
        """Ranges of up to 31 << n pages each, as __arm_smmu_tlb_inv_range() makes them where there is RIL."""
        if granule not in PAGE_SIZES:
            raise UsageError(f"granule must be one of {', '.join(map(str, PAGE_SIZES))}, not {granule!r}")
        level = 4 - level_of(granule)  # Arm's number of it
        first, last = range_of(address, length)
        first, pages = first // PAGE * PAGE, last // PAGE - first // PAGE + 1
        while pages:
            scale = (pages & -pages).bit_length() - 1
            count = pages >> scale & 31
            self.command(word0 | count - 1 << 12 | scale << 20, first | 1 | level << 8 | _GRANULES_OF_4_KIB)
            first += count << scale + 12
            pages -= count << scale

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
