"""Intel VT-d."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from uring_iopf._native import lib
from uring_iopf.errors import UsageError, check_fits, check_whole
from uring_iopf.hardware.iommus.iommu import Iommu, dropped_flag
from uring_iopf.hardware.iommus.spans import Span, ats_word, covering

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.core import Core

REVISIONS: Final[Mapping[int, str]] = {4: "vtd", 3: "vtd-3", 2: "vtd-2"}
"""The name of the model of each revision."""
_IOTLB: Final = 2
_DEV_IOTLB: Final = 3
_WAIT: Final = 5
_PIOTLB: Final = 6
_PASID_CACHE: Final = 7
_DEV_EIOTLB: Final = 8


class VtdRegister(enum.IntEnum):
    """Offsets of the registers of the page request queue, all read only here. Source: Linux's intel/iommu.h."""

    PQH = 0xC0
    """Where the driver reads next, in bytes."""
    PQT = 0xC8
    """Where the IOMMU writes next, in bytes."""
    PQA = 0xD0
    """The queue's size, 2^n pages of 4 KiB, in bits 2:0. Its address is 0."""
    PRS = 0xDC
    """`VtdPrs`."""
    PECTL = 0xE0
    """`VtdPectl`."""


class VtdPrs(enum.IntFlag):
    """Bits of the page request status register. Either raises the interrupt."""

    PPR = 1 << 0
    """The last request of a group is in the queue."""
    PRO = 1 << 1
    """The queue has overflowed; it takes nothing more until the driver clears this."""


class VtdPectl(enum.IntFlag):
    """Bits of the page request event control register."""

    IP = 1 << 30
    """An interrupt waits behind the mask."""
    IM = 1 << 31
    """The interrupt is masked: by `Iommu.interrupt_held`."""


class VtdIommu(Iommu):
    """An Intel VT-d unit: a page request queue, an invalidation queue, and Linux's driver for both.

    *needs_pasid*: page requests without a PASID are refused, as in Linux 6.12; None: they are. *drains*: detach and
    replace first report the page requests in the queue to the old attachment. Without draining, such a request can
    reach the next attachment, which counts it as stale (`DeviceCounts`).

    *revision*: of VT-d's specification. 4: 32 bytes for each page request, without private data. 3: the same with
    private data, and the driver of Linux until 6.9, which gives them back. 2: 16 bytes, 23 bits of private data, and
    stream responses, and the formats of Linux 4.4 to 4.20. The drivers of 3 and 2 refuse requests without a PASID.

    *dropped*: the hardware's answer to the last request of a group that finds the queue full: ``success``, ``failure``
    or ``nothing``. The specification is not at hand, and QEMU's model answers nothing.

    *forgets_private_data*: with revision 3, the driver of Linux since 6.10, which does not know private data.

    The methods ``flush_*`` and ``wait`` give descriptors as Linux's driver makes them. They are in the queue when they
    return, and the hardware's next turn carries them out. Source: VT-d 6.5.2; Linux 6.12,
    drivers/iommu/intel/{iommu.h,dmar.c,cache.c,pasid.c}.

    Raises: UsageError, a revision or *dropped* that there is not, *needs_pasid* False with an older one, or
    *forgets_private_data* with another one.
    """

    def __init__(
        self,
        core: Core,
        *,
        needs_pasid: bool | None = None,
        drains: bool = True,
        revision: int = 4,
        forgets_private_data: bool = False,
        dropped: str = "nothing",
    ) -> None:
        check_whole("revision", revision, 2, 4, " of VT-d")
        if revision != 4 and needs_pasid is not None and not needs_pasid:
            raise UsageError(f"the driver of VT-d {revision} refuses requests without a PASID; leave out needs_pasid")
        if forgets_private_data and revision != 3:
            raise UsageError(f"forgets_private_data needs revision=3, not {revision!r}")
        self.revision = revision
        self._own_flags = dropped_flag(dropped) | (lib.UIOPF_MODEL_FORGETS_PRIVATE if forgets_private_data else 0)
        super().__init__(core, REVISIONS[revision], needs_pasid=needs_pasid is not False, drains=drains)

    def flush_iotlb(self, domain: int | None = None, address: int = 0, length: int = 0) -> None:
        """IOTLB invalidation (qi_flush_iotlb): translations of stage 2 go, and all through both stages of the domain.

        *domain* None: of all domains. *length* 0: of all addresses of the domain.
        """
        check_fits(64, address=address, length=length)
        check_fits(16, domain=domain or 0)
        if domain is None:
            self.command(_IOTLB | 1 << 4)
        elif not length:
            self.command(_IOTLB | 2 << 4 | domain << 16)
        else:
            span = covering(address, length)
            self.command(_IOTLB | 3 << 4 | domain << 16, span.address | span.order)

    def flush_piotlb(self, domain: int, pasid: int, address: int = 0, length: int = 0) -> None:
        """PASID-based IOTLB invalidation (qi_flush_piotlb): translations of stage 1, and through both stages, go.

        *length* 0: of all addresses of the PASID.
        """
        check_fits(64, address=address, length=length)
        check_fits(16, domain=domain)
        check_fits(20, pasid=pasid)
        named = _PIOTLB | domain << 16 | pasid << 32
        if not length:
            self.command(named | 2 << 4)
        else:
            span = covering(address, length)
            self.command(named | 3 << 4, span.address | span.order)

    def flush_pasid_cache(self, domain: int | None = None, pasid: int | None = None) -> None:
        """PASID-cache invalidation (qi_flush_pasid_cache): the IOMMU drops the entry of a PASID: its tables.

        *pasid* None: of all PASIDs of the domain. *domain* None: of all domains.
        """
        check_fits(16, domain=domain or 0)
        check_fits(20, pasid=pasid or 0)
        if domain is None:
            self.command(_PASID_CACHE | 3 << 4)
        elif pasid is None:
            self.command(_PASID_CACHE | domain << 16)
        else:
            self.command(_PASID_CACHE | 1 << 4 | domain << 16 | pasid << 32)

    def flush_dev_iotlb(self, sid: int, address: int = 0, length: int = 0) -> None:
        """Device-TLB invalidation (qi_flush_dev_iotlb): translations in a function's own TLB go, under any PASID.

        *length* 0: all.
        """
        check_fits(64, address=address, length=length)
        check_fits(16, sid=sid)
        self.command(_DEV_IOTLB | sid << 32, ats_word(_span(address, length), 1))

    def flush_dev_iotlb_pasid(self, sid: int, pasid: int, address: int = 0, length: int = 0) -> None:
        """PASID-based device-TLB invalidation (qi_flush_dev_iotlb_pasid): the same, under one PASID."""
        check_fits(64, address=address, length=length)
        check_fits(16, sid=sid)
        check_fits(20, pasid=pasid)
        self.command(_DEV_EIOTLB | sid << 16 | pasid << 32, ats_word(_span(address, length), 1 << 11))

    def flush_stage_2(self, domain: int, address: int = 0, length: int = 0) -> None:
        """Give the descriptors that Linux gives after an unmap in a nesting parent, and wait for them.

        *length* 0: all addresses. The functions' own TLBs are invalidated as a whole: these do not know intermediate
        addresses. Source: cache_tag_flush_range.
        """
        check_fits(64, address=address, length=length)
        self.flush_iotlb(domain, address, length)
        for sid in self.functions_of(domain):
            self.flush_dev_iotlb(sid)
        self.wait()
        self.finish_commands()

    def wait(self) -> None:
        """Invalidation wait: when it has been carried out (`completed_commands`), so have the descriptors before it."""
        self.command(_WAIT | 1 << 5)


def _span(address: int, length: int) -> Span:
    return covering(address, length) if length else Span(0, 52)
