"""The emulated iommufd: /dev/iommu and its objects, with Linux's rules and errnos."""

from uring_iopf.abi.records import LOST_GROUPS, FaultMessage, unpack_messages
from uring_iopf.iommufd.client_memory import ClientMemory
from uring_iopf.iommufd.context import Context
from uring_iopf.iommufd.devices.device import Device, DeviceCounts, VirtualFunction
from uring_iopf.iommufd.devices.group import NO_PASID, Attachment, DeviceGroup
from uring_iopf.iommufd.devices.identity import VirtualIdentity, forward_smmuv3_event
from uring_iopf.iommufd.devices.viommu import Vdevice, Viommu, VirtualEventQueue
from uring_iopf.iommufd.drivers.base import DriverResponse, IommuDriver, NestedFormat
from uring_iopf.iommufd.drivers.mock import (
    MOCK_DRIVER,
    MOCK_FORMAT,
    MOCK_VEVENTQ_TYPE,
    MOCK_VIOMMU_TYPE,
    MockIommu,
    MockResponse,
)
from uring_iopf.iommufd.drivers.smmuv3 import SMMUV3_DRIVER
from uring_iopf.iommufd.drivers.vtd import VTD_DRIVER, VTD_FORMAT
from uring_iopf.iommufd.geometry import Geometry
from uring_iopf.iommufd.objects import Object, ObjectRef
from uring_iopf.iommufd.queues.events import (
    CmdqvEvent,
    EventQueue,
    EventQueueCounts,
    SelftestEvent,
    Smmuv3Event,
    VirtualEvent,
    unpack_events,
)
from uring_iopf.iommufd.queues.fault import AS_LINUX, FaultQueue, FaultQueueCounts, Personality, QueueLimits
from uring_iopf.iommufd.queues.file import QueueFile
from uring_iopf.iommufd.queues.reports import ReportQueue
from uring_iopf.iommufd.selftest import MockDevice, SelftestDevice
from uring_iopf.iommufd.spaces.hwpt import HWPT, NestedHWPT, PagingHWPT
from uring_iopf.iommufd.spaces.ioas import IOAS, Mapping
from uring_iopf.iommufd.versions import VERSIONS, KernelVersion, RefusedFunctions

__all__ = [
    "AS_LINUX",
    "Attachment",
    "CmdqvEvent",
    "ClientMemory",
    "Context",
    "Device",
    "DeviceGroup",
    "DeviceCounts",
    "DriverResponse",
    "EventQueue",
    "EventQueueCounts",
    "FaultMessage",
    "FaultQueue",
    "FaultQueueCounts",
    "forward_smmuv3_event",
    "Geometry",
    "HWPT",
    "IOAS",
    "IommuDriver",
    "LOST_GROUPS",
    "NO_PASID",
    "QueueLimits",
    "ReportQueue",
    "KernelVersion",
    "MOCK_DRIVER",
    "MOCK_FORMAT",
    "MOCK_VEVENTQ_TYPE",
    "MOCK_VIOMMU_TYPE",
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
    "QueueFile",
    "RefusedFunctions",
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
