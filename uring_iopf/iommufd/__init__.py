"""The emulated iommufd: what a client opens as /dev/iommu, object by object, with Linux's rules and errnos."""

from uring_iopf.iommufd.context import Context
from uring_iopf.iommufd.device import Device, DeviceCounts, MockDevice, SelftestDevice, VirtualFunction
from uring_iopf.iommufd.driver import MOCK_DRIVER, SELFTEST_VIOMMU_TYPE, SMMUV3_DRIVER, VTD_DRIVER, IommuDriver
from uring_iopf.iommufd.events import (
    SELFTEST_EVENT_TYPE,
    CmdqvEvent,
    EventQueue,
    EventQueueCounts,
    SelftestEvent,
    Smmuv3Event,
    VirtualEvent,
    unpack_events,
)
from uring_iopf.iommufd.fault import FaultMessage, FaultQueue, FaultQueueCounts, Personality, unpack_messages
from uring_iopf.iommufd.hwpt import HWPT, IOAS, MOCK_FORMAT, VTD_FORMAT, NestedFormat, NestedHWPT, PagingHWPT
from uring_iopf.iommufd.mock import DriverResponse, MockIommu, MockResponse
from uring_iopf.iommufd.objects import Object, ObjectRef
from uring_iopf.iommufd.queue_file import QueueFile
from uring_iopf.iommufd.versions import VERSIONS, KernelVersion, RefusedFunctions
from uring_iopf.iommufd.viommu import Vdevice, Viommu, VirtualEventQueue, VirtualIdentity, forward_smmuv3_event

__all__ = [
    "CmdqvEvent",
    "Context",
    "Device",
    "DeviceCounts",
    "DriverResponse",
    "EventQueue",
    "EventQueueCounts",
    "FaultMessage",
    "FaultQueue",
    "FaultQueueCounts",
    "forward_smmuv3_event",
    "HWPT",
    "IOAS",
    "IommuDriver",
    "KernelVersion",
    "MOCK_DRIVER",
    "MOCK_FORMAT",
    "MockDevice",
    "MockIommu",
    "MockResponse",
    "NestedFormat",
    "NestedHWPT",
    "Object",
    "ObjectRef",
    "PagingHWPT",
    "Personality",
    "QueueFile",
    "RefusedFunctions",
    "SELFTEST_EVENT_TYPE",
    "SELFTEST_VIOMMU_TYPE",
    "SelftestDevice",
    "SelftestEvent",
    "SMMUV3_DRIVER",
    "Smmuv3Event",
    "unpack_events",
    "unpack_messages",
    "Vdevice",
    "VERSIONS",
    "Viommu",
    "VirtualEvent",
    "VirtualEventQueue",
    "VirtualFunction",
    "VirtualIdentity",
    "VTD_DRIVER",
    "VTD_FORMAT",
]
