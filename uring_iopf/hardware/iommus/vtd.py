"""Intel VT-d."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uring_iopf._native import lib
from uring_iopf.errors import UsageError, check_whole
from uring_iopf.hardware.iommus.iommu import Iommu, dropped_flag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.core import Core

REVISIONS: Final[Mapping[int, str]] = {4: "vtd", 3: "vtd-3", 2: "vtd-2"}
"""The name of the model of each revision."""


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
