"""Deliver I/O page faults to user space: rings, a simulated IOMMU, and designs to compare.

The names here are the ones to start with; each is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uring_iopf.abi.iommufd import FaultPerm, PageResponse
    from uring_iopf.clients.groups import FaultGroup
    from uring_iopf.clients.trio_client import TrioClient
    from uring_iopf.designs.base import Design
    from uring_iopf.errors import DesignError, HostError, IopfError, KernelError, PeerError, UsageError
    from uring_iopf.hardware.endpoint import AccessResult
    from uring_iopf.hardware.load import Load, LoadMode
    from uring_iopf.iommufd import Context, QueueLimits
    from uring_iopf.machine import Machine
    from uring_iopf.machine_function import Account
    from uring_iopf.machine_parts import FunctionParts, MachineParts
    from uring_iopf.workloads import Workload

__all__ = [
    "AccessResult",
    "Account",
    "Context",
    "Design",
    "DesignError",
    "FaultGroup",
    "FaultPerm",
    "FunctionParts",
    "HostError",
    "IopfError",
    "KernelError",
    "Load",
    "LoadMode",
    "Machine",
    "MachineParts",
    "PageResponse",
    "PeerError",
    "QueueLimits",
    "TrioClient",
    "UsageError",
    "Workload",
]

_WHERE = {
    "AccessResult": "hardware.endpoint",
    "Account": "machine_function",
    "Context": "iommufd",
    "Design": "designs.base",
    "DesignError": "errors",
    "FaultGroup": "clients.groups",
    "FaultPerm": "abi.iommufd",
    "FunctionParts": "machine_parts",
    "HostError": "errors",
    "IopfError": "errors",
    "KernelError": "errors",
    "Load": "hardware.load",
    "LoadMode": "hardware.load",
    "Machine": "machine",
    "MachineParts": "machine_parts",
    "PageResponse": "abi.iommufd",
    "PeerError": "errors",
    "QueueLimits": "iommufd",
    "TrioClient": "clients.trio_client",
    "UsageError": "errors",
    "Workload": "workloads",
}


__version__: str


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib import metadata  # slow to load, for those who ask

        try:
            return metadata.version("uring-iopf")
        except metadata.PackageNotFoundError:
            return "unknown"  # a folder of sources that nobody has installed
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
