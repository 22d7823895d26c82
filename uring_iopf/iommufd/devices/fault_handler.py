"""The device-fault handler of 2021: which stage of a page fault it wants to hear of, and how the stage is known.

A fault of stage 1 is the guest's, and goes to the fault queue. A fault of stage 2 is the host's: the kernel maps the
page and answers, without a client. A stall says its stage, a page request does not. Source: "Add IOPF support for VFIO
passthrough", RFC v3, April 2021, and its review.
"""

from __future__ import annotations

import enum
import errno
from typing import Final, NamedTuple

from uring_iopf._native import CNesting, ffi, lib
from uring_iopf.errors import KernelError, UsageError, check_fits
from uring_iopf.handles import Handle
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.translator import Translator
from uring_iopf.iommufd.devices.device import Device
from uring_iopf.iommufd.spaces.second_stage import SecondStage

_ALL: Final = (1 << 32) - 1


class ReportFlags(enum.IntFlag):
    """The stages whose faults a handler wants to hear of."""

    FLAT = 1
    """All faults, whatever the stage: the device has one. Not together with the others."""
    NESTED_L1 = 2
    """Faults of stage 1."""
    NESTED_L2 = 4
    """Faults of stage 2."""


class KnownBy(enum.IntEnum):
    """How the kernel knows which stage has faulted."""

    HARDWARE = 0
    """The request says it: an event of an SMMUv3 stall."""
    DRIVER = 1
    """The driver walks the tables, for each request, in its interrupt."""
    HANDLER = 2
    """The driver reports all. The registered handler filters, under the container's lock, and walks if it must."""
    NOBODY = 3
    """All of stage 2 is pinned, so it is stage 1. A page that the guest was asked for before is walked."""


class HandlerCounts(NamedTuple):
    """Counts of a handler. Each page is one of *to_guest*, *by_host*, *refused* and *gone*."""

    faults: int
    """Pages that were looked at."""
    to_guest: int
    """Pages of stage 1, which went to the fault queue. (A page that cannot be served takes its whole group back.)"""
    by_host: int
    """Pages of stage 2, which the host mapped."""
    refused: int
    """Pages of a stage that the handler does not want, and pages that the host does not have."""
    gone: int
    """Pages that had an address by the time of the walk: answered SUCCESS."""
    walks: int
    """Walks of the tables in software."""
    entries: int
    """Entries that these walks have loaded."""
    calls: int
    """Calls of the registered handler."""
    locks: int
    """Times that the container's lock was taken."""
    wrong: int
    """With `KnownBy.NOBODY`: pages whose fault was of stage 2 all the same. They are among *refused*."""


class DeviceFaultHandler(Handle[CNesting]):
    """A handler that is registered for the faults of a device with two stages, until it is closed.

    *device*: bound to *iommu*; its function translates by *translator*. *second*: the host's memory, whose pages of
    stage 2 are mapped; None if the handler does not want faults of stage 2. *known_by*: how the stage is known.
    *flags*: `ReportFlags`. A fault of a stage that is not among them is answered INVALID. With FLAT all faults go to
    the queue, as without a handler.

    Faults that are of no attached queue are refused as ever, before any of this. With `KnownBy.NOBODY` *second* is all
    pinned, and stays so: until the handler is closed, unpinning is refused (EBUSY). If its IOAS changes so that a part
    is not pinned, the driver walks from then on (`KnownBy.DRIVER`). Stage 2 can still end a walk: at a write to what
    may only be read, or where stage 1 leads out of the memory. The guest is asked for such a page once. The second
    request is walked, and answered INVALID (`HandlerCounts.wrong`). A stall says its stage: it is answered at once.

    Raises: KernelError(EBUSY), the device has a handler; KernelError(EINVAL), the flags contradict each other or
    *known_by*, or *translator* is on another core or does not walk the tables of *second*, or a part of *second* is not
    pinned; KernelError(EOPNOTSUPP), the device's requests do not say their stage; KernelError(ENODEV), the device is
    not bound to *iommu*; UsageError, an argument of another kind; MemoryError.
    """

    _what = "device-fault handler"

    def __init__(
        self,
        iommu: Iommu,
        device: Device,
        translator: Translator,
        second: SecondStage | None = None,
        *,
        known_by: KnownBy = KnownBy.DRIVER,
        flags: ReportFlags = ReportFlags.NESTED_L1 | ReportFlags.NESTED_L2,
    ) -> None:
        super().__init__()
        for name, value, kind in (
            ("iommu", iommu, Iommu),
            ("device", device, Device),
            ("translator", translator, Translator),
        ):
            if not isinstance(value, kind):
                raise UsageError(f"{name} must be a {kind.__name__}, not {value!r}")
        if second is not None and not isinstance(second, SecondStage):
            raise UsageError(f"second must be a SecondStage or None, not {second!r}")
        if not isinstance(known_by, KnownBy):
            raise UsageError(f"known_by must be a KnownBy, not {known_by!r}")
        check_fits(32, flags=flags)
        self.iommu = iommu
        self.device = device
        self.translator = translator
        self.second = second
        self.known_by = known_by
        self._on = iommu.core
        if second is not None:
            second.update()
            if known_by is KnownBy.NOBODY and not second.is_pinned():
                raise KernelError(errno.EINVAL, "register: not all of stage 2 is pinned")
        host = ffi.NULL if second is None else second.host
        try:
            self._make(
                lib.uiopf_nesting_free,
                lib.uiopf_model_nest,
                *(iommu.model, device.c, translator.c, host, known_by, flags),
            )
        except MemoryError:
            if ffi.errno not in (0, errno.ENOMEM):
                raise KernelError(ffi.errno, "register a device-fault handler") from None
            raise
        if known_by is KnownBy.NOBODY and second is not None:
            second.relied_on_by.append(self)

    def update(self, *, keep: int = _ALL, add: int = 0) -> None:
        """Change what the handler wants to hear of: the flags that are in *keep* stay, those in *add* are added.

        Raises: KernelError(EINVAL), a registration with these flags would be refused; they stay as they were.
        Source: iommu_update_device_fault_handler() of the 2021 series.
        """
        check_fits(32, keep=keep, add=add)
        if (rc := lib.uiopf_nesting_update(self.c, keep, add)) < 0:
            raise KernelError(-rc, "update a device-fault handler")

    def begin_anew(self) -> None:
        """Forget what the guest has been asked for, as its tables begin anew. Only `KnownBy.NOBODY` keeps that."""
        lib.uiopf_nesting_begin_anew(self.c)

    def counts(self) -> HandlerCounts:
        """Return its counts."""
        counts = ffi.new("struct uiopf_nesting_counts *")
        lib.uiopf_nesting_get_counts(self.c, counts)
        return HandlerCounts(*(int(getattr(counts, name)) for name in HandlerCounts._fields))

    def may_not_rely(self) -> None:
        """Not all of stage 2 is pinned any more, since the IOAS has changed. The driver walks from now on."""
        if self._c is not None:
            lib.uiopf_nesting_walk(self._c)
            self.known_by = KnownBy.DRIVER
        self._rely_no_more()

    def close(self) -> None:
        """Unregister it. Closing again does nothing."""
        self._c = None
        self._rely_no_more()

    def _rely_no_more(self) -> None:
        if self.second is not None and self in self.second.relied_on_by:
            self.second.relied_on_by.remove(self)
