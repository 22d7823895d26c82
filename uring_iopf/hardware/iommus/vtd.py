"""Intel VT-d."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from uring_iopf._native import CDevice, CEndpoint, CIommu, CPort, CVtd, check, ffi, lib
from uring_iopf.errors import UsageError
from uring_iopf.handles import Handle, no_room, owned

if TYPE_CHECKING:
    from uring_iopf.core import Core


class SupportsEndpoint(Protocol):
    """A function, as `uring_iopf.hardware.endpoint.Endpoint`."""

    @property
    def c(self) -> CEndpoint:
        """The C object."""


class SupportsDevice(Protocol):
    """A device, as iommufd's `Context.bind` returns it."""

    @property
    def c(self) -> CDevice:
        """The C object."""


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
            raise no_room(self._what)
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

    def bind(self, endpoint: SupportsEndpoint, device: SupportsDevice) -> None:
        """Let the driver know that a function behind this IOMMU is that device of iommufd's: its requests are reported.

        Raises: KernelError(EBUSY), it is bound, or another function has its requester id; KernelError(EINVAL), one of
        the two is behind another IOMMU, or their requester ids differ; KernelError(ENOSPC), there are 16 functions;
        UsageError, they are no function and no device.
        """
        vtd = self.vtd
        try:
            rc = lib.uiopf_vtd_bind(vtd, endpoint.c, device.c)
        except (AttributeError, TypeError):  # no handles, or cffi's, for handles of something else
            raise UsageError(
                f"endpoint and device must be an Endpoint and a Device, not {endpoint!r} and {device!r}"
            ) from None
        check(rc, "bind to the IOMMU")

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
