"""The two stages of a machine: a guest's tables, a host's memory, and the kernel's handler for stage 2."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from uring_iopf.hardware.guest import GuestSpace
from uring_iopf.hardware.limits import PAGE_FORMATS
from uring_iopf.hardware.page_tables import PAGE_SIZES, PageTables
from uring_iopf.hardware.translator import Translator
from uring_iopf.iommufd.devices.fault_handler import DeviceFaultHandler, HandlerCounts, KnownBy, ReportFlags
from uring_iopf.iommufd.spaces.second_stage import SecondStage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uring_iopf.core import Core
    from uring_iopf.hardware.iommus.iommu import Iommu
    from uring_iopf.iommufd.spaces.ioas import IOAS
    from uring_iopf.machine_function import Function
    from uring_iopf.machine_parts import MachineParts

DEFAULT_FRAMES: Final = 1 << 16
"""The page frames of a guest whose functions have no workload: 256 MiB."""
HOST_MEMORY: Final = 1 << 40
"""Where the guest's memory is in the host's."""
RETRIES: Final = 3
"""How often a function of two stages asks again at least. A page needs an answer for each stage that has none."""
_PAGE, _LARGE, _HUGE = PAGE_SIZES


class Stages:
    """The two stages of a machine. `Machine.stages` has it.

    The guest's memory is as large as its functions' workloads, each once, have faults. It is in the machine's IOAS from
    0 on, and the guest's tables are behind it; those are always pinned.
    """

    def __init__(self, core: Core, ioas: IOAS, parts: MachineParts) -> None:
        assert parts.stage2 is not None, "the caller looks"
        first, second = PAGE_FORMATS[parts.iommu]
        each = list(parts.each_function())
        workloads = {id(one.workload): one.workload for one in each if one.workload is not None}  # they share the pages
        frames = sum(map(len, workloads.values())) or DEFAULT_FRAMES
        used = [one.workload.used_pasids for one in each if one.workload is not None]
        pasids = sorted({*chain.from_iterable(one.pasids for one in each), *chain.from_iterable(used)})
        if parts.stalls_under_any_pasid() is not None:
            pasids = list(range(parts.pasid_entries))
        self.share = parts.stage2
        """The share of the guest's memory that is pinned."""
        self.bytes = frames * _PAGE
        """The bytes of the guest's memory."""
        pages = parts.pages_of_tables + len(pasids)
        self._tables_at = -(-self.bytes // _HUGE) * _HUGE
        self._tables_size = -(-pages * _PAGE // _LARGE) * _LARGE
        self.guest = PageTables(first, pasids=parts.pasid_entries, table_pages=pages, base=self._tables_at)
        """The guest's tables of stage 1."""
        self.host = PageTables(second, table_pages=frames // 512 + self._tables_size // _LARGE + 16)
        """The host's tables of stage 2."""
        self.space = GuestSpace(self.guest, frames, pasids=pasids)
        """The address spaces in which clients map."""
        ioas.map(self.bytes, user_va=HOST_MEMORY, iova=0)
        self.second = SecondStage(ioas, self.host)
        """The guest's memory, from which stage 2 is filled."""
        self.translator = Translator(core, first=self.guest, second=self.host)
        """The hardware that walks both."""
        self.handlers: dict[str, DeviceFaultHandler] = {}
        """The kernel's handler of each function, by the function's name."""
        self._functions: list[Function] = []
        self._known_by = KnownBy[(parts.stage_known_by or "").upper()]
        both = ReportFlags.NESTED_L1 | ReportFlags.NESTED_L2
        default = ReportFlags.NESTED_L1 if self._known_by is KnownBy.NOBODY else both
        self._flags = ReportFlags(parts.report_flags or default)
        self._pin()

    def _pin(self) -> None:
        """Map the guest's tables, and the pinned part of its memory."""
        for at in range(0, self._tables_size, _LARGE):
            self.host.map(self._tables_at + at, at, size=_LARGE)
        if pinned := int(self.bytes // _PAGE * self.share) * _PAGE:
            self.second.pin(0, pinned - 1)

    def take_in(self, iommu: Iommu, function: Function) -> None:
        """Let a function translate by these tables, and register a handler for its device."""
        function.endpoint.use_translator(self.translator)
        self._functions.append(function)
        self.handlers[function.name] = DeviceFaultHandler(
            iommu, function.device, self.translator, self.second, known_by=self._known_by, flags=self._flags
        )

    def reset(self) -> None:
        """Unmap the guest's pages, and what is not pinned. No function may have faults outstanding."""
        self.space.reset()
        if not self.second.relied_on_by:
            self.second.clear()
            self._pin()
        self.translator.invalidate_all()
        for handler in self.handlers.values():
            handler.begin_anew()
        for function in self._functions:
            function.endpoint.use_translator(self.translator)  # with nothing kept, also of the PASIDs' tables

    def counts(self) -> HandlerCounts:
        """The counts of all handlers together."""
        each = [handler.counts() for handler in self.handlers.values()]
        return HandlerCounts(*(sum(values) for values in zip(*each, strict=True)))

    def close(self) -> None:
        """Close the parts. Closing again does nothing."""
        for one in self._parts():
            one.close()

    def _parts(self) -> Iterable[DeviceFaultHandler | Translator | SecondStage | GuestSpace | PageTables]:
        return (*self.handlers.values(), self.translator, self.second, self.space, self.host, self.guest)
