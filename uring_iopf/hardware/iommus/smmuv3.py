"""Arm's SMMUv3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf._native import check, lib
from uring_iopf.hardware.iommus.iommu import Iommu

if TYPE_CHECKING:
    from uring_iopf.core import Core


class SmmuV3Iommu(Iommu):
    """An SMMUv3: a PRI queue, a command queue, and a driver for both.

    *linux_denies_pri*: the driver denies page requests by Response Failure, as Linux's does; otherwise it reports them,
    as the series of 2021 did. *drains*: as for `Iommu`.
    """

    def __init__(self, core: Core, *, linux_denies_pri: bool = False, drains: bool = True) -> None:
        self._own_flags = lib.UIOPF_MODEL_DENIES if linux_denies_pri else 0
        super().__init__(core, "smmuv3", drains=drains)

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
        check(lib.uiopf_smmuv3_abort_priq(self.model, synchronous), "abort a write to the PRI queue")
