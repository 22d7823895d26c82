"""The constants of the iommufd ABI, grouped by the field they go into.

Members keep the uapi name without its prefix. Those marked ``7.2`` are not in Linux 6.12; they may
have come with any release in between.

Source: linux/iommufd.h, Linux 6.12.117 and 7.2.13.
"""

from enum import IntEnum, IntFlag
from typing import Final

IOMMUFD_TYPE: Final = 0x3B
"""The type byte (``;``) of every request."""


class IoctlNr(IntEnum):
    """Number of an iommufd ioctl: the low byte of its request.

    Source: linux/iommufd.h, IOMMUFD_CMD_*, Linux 6.12 and 7.2.
    """

    DESTROY = 0x80
    IOAS_ALLOC = 0x81
    IOAS_ALLOW_IOVAS = 0x82
    IOAS_COPY = 0x83
    IOAS_IOVA_RANGES = 0x84
    IOAS_MAP = 0x85
    IOAS_UNMAP = 0x86
    OPTION = 0x87
    VFIO_IOAS = 0x88
    HWPT_ALLOC = 0x89
    GET_HW_INFO = 0x8A
    HWPT_SET_DIRTY_TRACKING = 0x8B
    HWPT_GET_DIRTY_BITMAP = 0x8C
    HWPT_INVALIDATE = 0x8D
    FAULT_QUEUE_ALLOC = 0x8E
    IOAS_MAP_FILE = 0x8F  # 7.2
    VIOMMU_ALLOC = 0x90  # 7.2
    VDEVICE_ALLOC = 0x91  # 7.2
    IOAS_CHANGE_PROCESS = 0x92  # 7.2
    VEVENTQ_ALLOC = 0x93  # 7.2
    HW_QUEUE_ALLOC = 0x94  # 7.2

    @property
    def request(self) -> int:
        """The whole request, as ``ioctl`` takes it: no direction and no size in it."""
        return IOMMUFD_TYPE << 8 | self


class FaultFlags(IntFlag):
    """``iommu_hwpt_pgfault.flags``.

    VT-d's and AMD's drivers let a third bit through, 0x4, which is the kernel's own.

    Source: linux/iommufd.h, IOMMU_PGFAULT_FLAGS_*, Linux 6.12 and 7.2.
    """

    PASID_VALID = 0x1
    LAST_PAGE = 0x2


class FaultPerm(IntFlag):
    """``iommu_hwpt_pgfault.perm``: the permission that the device's access needs.

    Source: linux/iommufd.h, IOMMU_PGFAULT_PERM_*, Linux 6.12 and 7.2.
    """

    READ = 0x1
    WRITE = 0x2
    EXEC = 0x4
    PRIV = 0x8


class PageResponse(IntEnum):
    """``iommu_hwpt_page_response.code``: a client's answer. The kernel refuses every other code.

    Source: linux/iommufd.h, IOMMUFD_PAGE_RESP_*, Linux 6.12 and 7.2.
    """

    SUCCESS = 0
    INVALID = 1


class HwptAllocFlags(IntFlag):
    """``iommu_hwpt_alloc.flags``.

    Source: linux/iommufd.h, IOMMU_HWPT_ALLOC_* and IOMMU_HWPT_FAULT_ID_VALID, Linux 6.12 and 7.2.
    """

    NEST_PARENT = 0x1
    DIRTY_TRACKING = 0x2
    FAULT_ID_VALID = 0x4
    PASID = 0x8  # 7.2


class HwptDataType(IntEnum):
    """``iommu_hwpt_alloc.data_type``: which struct describes the table.

    Source: linux/iommufd.h, IOMMU_HWPT_DATA_*, Linux 6.12 and 7.2.
    """

    NONE = 0
    VTD_S1 = 1
    ARM_SMMUV3 = 2  # 7.2
    AMD_GUEST = 3  # 7.2


class VtdS1Flags(IntFlag):
    """``iommu_hwpt_vtd_s1.flags``.

    Source: linux/iommufd.h, IOMMU_VTD_S1_*, Linux 6.12 and 7.2.
    """

    SRE = 0x1
    EAFE = 0x2
    WPE = 0x4


class InvalidateDataType(IntEnum):
    """``iommu_hwpt_invalidate.data_type``: which struct its entries are.

    Source: linux/iommufd.h, IOMMU_*_INVALIDATE_DATA_*, Linux 6.12 and 7.2.
    """

    VTD_S1 = 0
    ARM_SMMUV3 = 1  # 7.2


class VtdInvalidateFlags(IntFlag):
    """``iommu_hwpt_vtd_s1_invalidate.flags``.

    Source: linux/iommufd.h, IOMMU_VTD_INV_FLAGS_*, Linux 6.12 and 7.2.
    """

    LEAF = 0x1


class DirtyTrackingFlags(IntFlag):
    """``iommu_hwpt_set_dirty_tracking.flags``.

    Source: linux/iommufd.h, IOMMU_HWPT_DIRTY_TRACKING_*, Linux 6.12 and 7.2.
    """

    ENABLE = 0x1


class DirtyBitmapFlags(IntFlag):
    """``iommu_hwpt_get_dirty_bitmap.flags``.

    Source: linux/iommufd.h, IOMMU_HWPT_GET_DIRTY_BITMAP_*, Linux 6.12 and 7.2.
    """

    NO_CLEAR = 0x1


class ViommuType(IntEnum):
    """``iommu_viommu_alloc.type``. ``DEFAULT`` is reserved.

    Source: linux/iommufd.h, IOMMU_VIOMMU_TYPE_*, Linux 7.2.
    """

    DEFAULT = 0  # 7.2
    ARM_SMMUV3 = 1  # 7.2
    TEGRA241_CMDQV = 2  # 7.2


class VeventqType(IntEnum):
    """``iommu_veventq_alloc.type``: which events. ``DEFAULT`` is reserved.

    Source: linux/iommufd.h, IOMMU_VEVENTQ_TYPE_*, Linux 7.2.
    """

    DEFAULT = 0  # 7.2
    ARM_SMMUV3 = 1  # 7.2
    TEGRA241_CMDQV = 2  # 7.2


class VeventFlags(IntFlag):
    """``iommufd_vevent_header.flags``.

    Source: linux/iommufd.h, IOMMU_VEVENTQ_FLAG_*, Linux 7.2.
    """

    LOST_EVENTS = 0x1  # 7.2


class HwQueueType(IntEnum):
    """``iommu_hw_queue_alloc.type``. ``DEFAULT`` is reserved.

    Source: linux/iommufd.h, IOMMU_HW_QUEUE_TYPE_*, Linux 7.2.
    """

    DEFAULT = 0  # 7.2
    TEGRA241_CMDQV = 1  # 7.2


class HwInfoFlags(IntFlag):
    """``iommu_hw_info.flags``.

    Source: linux/iommufd.h, IOMMU_HW_INFO_FLAG_*, Linux 7.2.
    """

    INPUT_TYPE = 0x1  # 7.2


class HwInfoType(IntEnum):
    """``iommu_hw_info.out_data_type``, and in 7.2 ``in_data_type``, where 0 is ``DEFAULT``.

    Source: linux/iommufd.h, IOMMU_HW_INFO_TYPE_*, Linux 6.12 and 7.2.
    """

    NONE = 0
    DEFAULT = 0  # 7.2: the same number, as a question
    INTEL_VTD = 1
    ARM_SMMUV3 = 2  # 7.2
    TEGRA241_CMDQV = 3  # 7.2
    AMD = 4  # 7.2


class HwCapabilities(IntFlag):
    """``iommu_hw_info.out_capabilities``.

    Source: linux/iommufd.h, IOMMU_HW_CAP_*, Linux 6.12 and 7.2.
    """

    DIRTY_TRACKING = 0x1
    PCI_PASID_EXEC = 0x2
    PCI_PASID_PRIV = 0x4
    PCI_ATS_NOT_SUPPORTED = 0x8  # 7.2


class VtdInfoFlags(IntFlag):
    """``iommu_hw_info_vtd.flags``.

    Source: linux/iommufd.h, IOMMU_HW_INFO_VTD_*, Linux 6.12 and 7.2.
    """

    ERRATA_772415_SPR17 = 0x1


class IoasMapFlags(IntFlag):
    """``flags`` of IOAS_MAP, IOAS_MAP_FILE and IOAS_COPY.

    Source: linux/iommufd.h, IOMMU_IOAS_MAP_*, Linux 6.12 and 7.2.
    """

    FIXED_IOVA = 0x1
    WRITEABLE = 0x2
    READABLE = 0x4


class OptionId(IntEnum):
    """``iommu_option.option_id``.

    Source: linux/iommufd.h, IOMMU_OPTION_*, Linux 6.12 and 7.2.
    """

    RLIMIT_MODE = 0
    HUGE_PAGES = 1


class OptionOp(IntEnum):
    """``iommu_option.op``.

    Source: linux/iommufd.h, IOMMU_OPTION_OP_*, Linux 6.12 and 7.2.
    """

    SET = 0
    GET = 1


class VfioIoasOp(IntEnum):
    """``iommu_vfio_ioas.op``.

    Source: linux/iommufd.h, IOMMU_VFIO_IOAS_*, Linux 6.12 and 7.2.
    """

    GET = 0
    SET = 1
    CLEAR = 2
