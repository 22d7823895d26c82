"""Intel VT-d."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf._native import CIommu, CPort, CVtd, ffi, lib, made
from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from uring_iopf.core import Core


class VtdIommu:
    """An Intel VT-d unit: its page request queue, its invalidation queue, and Linux' driver for both.

    *needs_pasid*: requests without a PASID are refused, as Linux 6.12 does. *drains*: detach and replace first see to
    it that what is on the way is reported to whom it was meant for; without it a request can meet the next attachment,
    and is counted there as stale (`DeviceCounts`).
    """

    def __init__(self, core: Core, *, needs_pasid: bool = True, drains: bool = True) -> None:
        self.core = core
        self.drains = drains
        flags = (lib.UIOPF_VTD_NEEDS_PASID if needs_pasid else 0) | (0 if drains else lib.UIOPF_VTD_UNDRAINED)
        self._vtd: CVtd | None = made(lib.uiopf_vtd_new(core.c, flags), "an IOMMU")

    @property
    def vtd(self) -> CVtd:
        """The C object, as a VT-d unit."""
        if self._vtd is None:
            raise UsageError("this IOMMU is closed")
        return self._vtd

    @property
    def c(self) -> CIommu:
        """The C object, as any IOMMU."""
        return lib.uiopf_vtd_iommu(self.vtd)

    @property
    def port(self) -> CPort:
        """The C object that functions are plugged into."""
        return lib.uiopf_vtd_port(self.vtd)

    def lost(self) -> int:
        """Requests that a full queue did not take, and answers that did not reach the hardware."""
        counts = ffi.new("struct uiopf_vtd_counts *")
        lib.uiopf_vtd_get_counts(self.vtd, counts)
        return int(counts.overflowed + counts.commands_lost)

    def close(self) -> None:
        """Free it; its endpoints must be closed."""
        if self._vtd is not None:
            lib.uiopf_vtd_free(self._vtd)
            self._vtd = None
