"""Sizes of the emulated hardware's tables and queues. This module does not load the extension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST_QUEUES: Final[Mapping[str, int]] = {
    "vtd": 2047,
    "smmuv3": 2048,
    "amd": 511,
    "riscv": 4095,
    "vtd-3": 2047,
    "vtd-2": 4095,
    "device": 4096,
    "device-log": 1023,
}
"""The page requests that the queue of each IOMMU holds, by the name of its model, as Linux sets it up. Of an event log
Linux makes the size that its administrator asks for."""
IOMMU_TITLES: Final[Mapping[str, str]] = {
    "vtd": "Intel's VT-d, revision 4",
    "smmuv3": "Arm's SMMUv3",
    "smmuv3-stall": "Arm's SMMUv3 with functions that stall",
    "amd": "AMD's IOMMU",
    "riscv": "the RISC-V IOMMU",
    "vtd-3": "VT-d, revision 3, whose requests carry private data",
    "vtd-2": "VT-d, revision 2, with short descriptors",
    "device": "an RDMA adapter that reports its faults without an IOMMU",
    "device-log": "an accelerator that does, in its event log",
}
IOMMUS: Final = tuple(IOMMU_TITLES)
"""The names of the IOMMUs that a machine can have."""
MODELS: Final = tuple(REQUEST_QUEUES)
"""The models of IOMMUs, in the order of their numbers in C."""
PAGE_FORMATS: Final[Mapping[str, tuple[str, str]]] = {
    "vtd": ("vtd-first", "vtd-second"),
    "smmuv3": ("arm-stage1", "arm-stage2"),
    "smmuv3-stall": ("arm-stage1", "arm-stage2"),
    "vtd-3": ("vtd-first", "vtd-second"),
    "vtd-2": ("vtd-first", "vtd-second"),
}
"""The formats of stage 1 and of stage 2 of the IOMMUs that have page tables of two stages here."""
DEVICES: Final = ("device", "device-log")
"""Those that are no IOMMUs, but devices that report their faults themselves. Their functions have no PRI."""
STALLING: Final[Mapping[str, str]] = {"smmuv3-stall": "smmuv3", **{name: name for name in DEVICES}}
"""The IOMMUs whose functions stall unless they say otherwise, and their models. Those of a device always do."""
DEFAULT_STALLS: Final = 64
"""The places behind one of these in which the transactions of a function stall, unless it says otherwise."""
DRIVEN_PASIDS: Final[Mapping[str, tuple[int, int]]] = {"amd": (1, 0xFFFE)}
"""The first and the last PASID whose page requests the driver of an IOMMU reports. It answers FAILURE to others."""
DEFAULT_PASIDS: Final = 64
"""Entries of a PASID table by default."""
MOST_PASIDS: Final = 1 << 20
"""The most entries of a PASID table, because PASIDs have 20 bits."""
DEFAULT_TABLE_PAGES: Final = 1024
"""4 KiB pages for page tables by default."""
MOST_TABLE_PAGES: Final = 1 << 20
"""The most 4 KiB pages for page tables: 4 GiB."""
