"""Intel VT-d."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.hardware.iommus.iommu import Iommu

if TYPE_CHECKING:
    from uring_iopf.core import Core


class VtdIommu(Iommu):
    """An Intel VT-d unit: a page request queue, an invalidation queue, and Linux's driver for both.

    *needs_pasid*: page requests without a PASID are refused, as in Linux 6.12. *drains*: detach and replace first
    report the page requests in the queue to the old attachment. Without draining, such a request can reach the next
    attachment, which counts it as stale (`DeviceCounts`).
    """

    def __init__(self, core: Core, *, needs_pasid: bool = True, drains: bool = True) -> None:
        super().__init__(core, "vtd", needs_pasid=needs_pasid, drains=drains)
