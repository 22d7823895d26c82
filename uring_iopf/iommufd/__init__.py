"""The emulated iommufd: what a client opens as /dev/iommu, object by object, with Linux's rules and errnos."""

from uring_iopf.iommufd.client_memory import ClientMemory
from uring_iopf.iommufd.context import Context
from uring_iopf.iommufd.device import Device, DeviceCounts, MockDevice, SelftestDevice, VirtualFunction
from uring_iopf.iommufd.fault import FaultMessage, FaultQueue, FaultQueueCounts, Personality, unpack_messages
from uring_iopf.iommufd.hwpt import HWPT, MOCK_FORMAT, VTD_FORMAT, NestedFormat, NestedHWPT, PagingHWPT
from uring_iopf.iommufd.ioas import IOAS, Geometry, Mapping
from uring_iopf.iommufd.mock import DriverResponse, MockIommu, MockResponse
from uring_iopf.iommufd.objects import Object, ObjectRef
from uring_iopf.iommufd.versions import VERSIONS, KernelVersion, RefusedFunctions

__all__ = [
    "ClientMemory",
    "Context",
    "Device",
    "DeviceCounts",
    "DriverResponse",
    "FaultMessage",
    "FaultQueue",
    "FaultQueueCounts",
    "Geometry",
    "HWPT",
    "IOAS",
    "KernelVersion",
    "MOCK_FORMAT",
    "Mapping",
    "MockDevice",
    "MockIommu",
    "MockResponse",
    "NestedFormat",
    "NestedHWPT",
    "Object",
    "ObjectRef",
    "PagingHWPT",
    "Personality",
    "RefusedFunctions",
    "SelftestDevice",
    "VERSIONS",
    "VTD_FORMAT",
    "VirtualFunction",
    "unpack_messages",
]
