"""The IOMMUs by the names of their models, each made as its vendor's class."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from uring_iopf.hardware.iommus.amd import AmdIommu
from uring_iopf.hardware.iommus.device import DeviceFaults
from uring_iopf.hardware.iommus.device_log import DeviceLog
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.iommus.riscv import RiscvIommu
from uring_iopf.hardware.iommus.smmuv3 import SmmuV3Iommu
from uring_iopf.hardware.iommus.vtd import REVISIONS, VtdIommu

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uring_iopf.core import Core

_MAKERS: Final[Mapping[str, Callable[..., Iommu]]] = {
    **{name: partial(VtdIommu, revision=revision) for revision, name in REVISIONS.items()},
    "smmuv3": SmmuV3Iommu,
    "amd": AmdIommu,
    "riscv": RiscvIommu,
    "device": DeviceFaults,
    "device-log": DeviceLog,
}


def make_iommu(core: Core, model: str, *, needs_pasid: bool = False, drains: bool = True) -> Iommu:
    """Make an IOMMU of this model, as the class of its vendor; a model without one is an `Iommu`.

    *needs_pasid* and *drains*: as for `Iommu`. Raises: UsageError, no such model.
    """
    if (make := _MAKERS.get(model)) is None:
        return Iommu(core, model, needs_pasid=needs_pasid, drains=drains)
    needs = {"needs_pasid": needs_pasid} if model == REVISIONS[4] else {}
    return make(core, drains=drains, **needs)
