"""Devices that report their faults themselves, to their own drivers, without an IOMMU; and the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from uring_iopf._native import check, lib
from uring_iopf.errors import UsageError
from uring_iopf.hardware.iommus.iommu import Iommu

if TYPE_CHECKING:
    from uring_iopf.core import Core

MOST_ENTRIES = 4096
"""The most entries of the queue between such a device and its driver."""


class ReportingDevice(Iommu):
    """A device that takes the place of the IOMMU: its functions are each an `Endpoint` with *stalls*.

    *entries*: those of the queue between the device and its driver, a power of two, 2 to 4,096. *drains*: as for
    `Iommu`. Raises: UsageError, another number of entries.
    """

    _model_name: ClassVar[str]

    def __init__(self, core: Core, *, entries: int, drains: bool = True) -> None:
        if not isinstance(entries, int) or not 2 <= entries <= MOST_ENTRIES or entries & (entries - 1):
            raise UsageError(f"entries must be a power of two, 2 to {MOST_ENTRIES}, not {entries!r}")
        self._own_flags = (entries.bit_length() - 1) << lib.UIOPF_MODEL_ENTRIES_SHIFT
        super().__init__(core, self._model_name, drains=drains)

    def enable_faults(self) -> None:
        """Let operations wait for their pages, as at first."""
        check(lib.uiopf_device_model_enable(self.model, 1), "enable the event queue")

    def disable_faults(self) -> None:
        """Let every operation that finds no page fail, as without a queue. Those that wait go on waiting."""
        check(lib.uiopf_device_model_enable(self.model, 0), "disable the event queue")


class DeviceFaults(ReportingDevice):
    """An RDMA adapter with on-demand paging: an event queue, a command queue, and a driver for both.

    It takes the place of the IOMMU: its functions are each an `Endpoint` with *stalls*. *entries*: those of the event
    queue, a power of two, 2 to 4,096. *drains*: as for `Iommu`. Raises: UsageError, another number of entries.
    """

    _model_name = "device"

    def __init__(self, core: Core, *, entries: int = MOST_ENTRIES, drains: bool = True) -> None:
        super().__init__(core, entries=entries, drains=drains)
