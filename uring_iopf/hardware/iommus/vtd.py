"""Intel VT-d."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from uring_iopf._native import CDevice, CEndpoint, CIommu, CPort, CVtd, check, ffi, lib
from uring_iopf.errors import UsageError
from uring_iopf.handles import Handle, no_room, owned

if TYPE_CHECKING:
    from uring_iopf.core import Core


class SupportsEndpoint(Protocol):
    """A PCI function, such as `uring_iopf.hardware.endpoint.Endpoint`."""

    @property
    def c(self) -> CEndpoint:
        """The C object."""


class SupportsDevice(Protocol):
    """An iommufd device, such as `Context.bind` returns."""

    @property
    def c(self) -> CDevice:
        """The C object."""


class VtdIommu(Handle[CIommu]):
    """An Intel VT-d unit: a page request queue, an invalidation queue, and Linux's driver for both.

    *needs_pasid*: page requests without a PASID are refused, as in Linux 6.12. *drains*: detach and replace first
    report the page requests in the queue to the old attachment. Without draining, such a request can reach the next
    attachment, which counts it as stale (`DeviceCounts`).
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
        """The C object to which functions connect."""
        return lib.uiopf_vtd_port(self.vtd)

    def bind(self, endpoint: SupportsEndpoint, device: SupportsDevice) -> None:
        """Bind a function behind this IOMMU to an iommufd device. The driver reports its page requests to the device.

        Raises: KernelError(EBUSY), the function is bound, or another function has its requester id;
        KernelError(EINVAL), one of the two is behind another IOMMU, or their requester ids differ; KernelError(ENOSPC),
        16 functions are bound; UsageError, *endpoint* is no function, or *device* is no device.
        """
        vtd = self.vtd
        try:
            rc = lib.uiopf_vtd_bind(vtd, endpoint.c, device.c)
        except (AttributeError, TypeError):  # no handles, or cffi's, for handles of something else
            raise UsageError(
                f"endpoint and device must be an Endpoint and a Device, not {endpoint!r} and {device!r}"
            ) from None
        check(rc, "bind to the IOMMU")

    def unbind(self, device: SupportsDevice) -> None:
        """Unbind a device's function. Page requests on the way are reported first; later ones are refused.

        Does nothing if the device is not bound. Raises: UsageError, *device* is no device, or is behind another IOMMU.
        """
        vtd = self.vtd
        try:
            rc = lib.uiopf_vtd_unbind(vtd, device.c)
        except (AttributeError, TypeError):
            rc = -1
        if rc < 0:
            raise UsageError(f"device must be a Device behind this IOMMU, not {device!r}")

    def strangers(self) -> int:
        """The number of page requests that had the requester id of no function behind this IOMMU."""
        counts = ffi.new("struct uiopf_vtd_counts *")
        lib.uiopf_vtd_get_counts(self.vtd, counts)
        return int(counts.strangers)

    def lost(self) -> int:
        """The number of page requests that overflowed the queue, and of answers that did not reach the hardware."""
        counts = ffi.new("struct uiopf_vtd_counts *")
        lib.uiopf_vtd_get_counts(self.vtd, counts)
        return int(counts.overflowed + counts.commands_lost)

    def close(self) -> None:
        """Close it. It is freed with the last function and device behind it. Closing again does nothing."""
        self._vtd = self._c = None

    def _disown(self) -> None:
        super()._disown()
        self._vtd = None
