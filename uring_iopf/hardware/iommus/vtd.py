"""Intel VT-d."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf._native import CIommu, CPort, CVtd, ffi, lib
from uring_iopf.handles import Handle, owned

if TYPE_CHECKING:
    from uring_iopf.core import Core


class VtdIommu(Handle[CIommu]):
    """An Intel VT-d unit: its page request queue, its invalidation queue, and Linux' driver for both.

    *needs_pasid*: requests without a PASID are refused, as Linux 6.12 does. *drains*: detach and replace first see to
    it that what is on the way is reported to whom it was meant for; without it a request can meet the next attachment,
    and is counted there as stale (`DeviceCounts`).
    """

    _what = "IOMMU"
    _vtd: CVtd | None = None

    def __init__(self, core: Core, *, needs_pasid: bool = True, drains: bool = True) -> None:
        super().__init__()
        self.core = self._on = core
        self.drains = drains
        flags = (lib.UIOPF_VTD_NEEDS_PASID if needs_pasid else 0) | (0 if drains else lib.UIOPF_VTD_UNDRAINED)
        self._vtd = owned(lib.uiopf_vtd_free, lib.uiopf_vtd_new, core.c, flags)
        if self._vtd is None:
            raise MemoryError("no memory for an IOMMU")
        self._make(lib.uiopf_iommu_let_go, lib.uiopf_vtd_hold_iommu, self._vtd)

    @property
    def vtd(self) -> CVtd:
        """The C object, as a VT-d unit."""
        vtd = self._vtd
        if vtd is None:
            raise self._refusal()
        return vtd

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
        """Take no more endpoints and devices; free it with the last that is behind it. Closing again does nothing."""
        self._vtd = self._c = None

    def _disown(self) -> None:
        super()._disown()
        self._vtd = None
