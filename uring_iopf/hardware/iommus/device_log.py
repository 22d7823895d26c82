"""An accelerator that reports its faults itself, in its event log, without an IOMMU."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from uring_iopf.hardware.iommus.device import ReportingDevice
from uring_iopf.hardware.limits import REQUEST_QUEUES

if TYPE_CHECKING:
    from uring_iopf.core import Core


class IdxdRegister(IntEnum):
    """The accelerator's registers, as far as the log goes."""

    GENCAP = 0x10
    GENCFG = 0x80
    GENCTRL = 0x88
    EVLCFG = 0xE0
    EVLCFG_SIZE = 0xE8
    EVLSTATUS = 0xF0


class DeviceLog(ReportingDevice):
    """An Intel DSA whose work queues do not block on faults: an event log, and a driver for it.

    It takes the place of the IOMMU: its work queues are each an `Endpoint` with *stalls*. *entries*: those of the log,
    a power of two, 2 to 4,096, of which one stays free; a real log has 64 or more. *drains*: as for `Iommu`. Raises:
    UsageError, another number of entries.
    """

    _model_name = "device-log"

    def __init__(self, core: Core, *, entries: int = REQUEST_QUEUES["device-log"] + 1, drains: bool = True) -> None:
        super().__init__(core, entries=entries, drains=drains)
