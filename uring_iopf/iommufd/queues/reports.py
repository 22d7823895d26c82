"""The generic report object: a fault queue of another type than page faults. Never built in Linux.

In July 2024, when the fault object was reviewed, Nicolin Chen and Jason Gunthorpe sketched it: a type appended to
``iommu_fault_alloc``, 0 for page faults, so that an old caller sees no change; the other types are events that a driver
has and nobody answers. It was given up for the event queues of virtual IOMMUs, from which the records are taken here.
A table carries such a queue as it carries a fault queue, and devices attached to the table report to it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import KernelError
from uring_iopf.iommufd.queues.events import EVENT_BYTES, MOST_EVENTS, EventQueue

if TYPE_CHECKING:
    from uring_iopf.core import Core
    from uring_iopf.iommufd.objects import ObjectTable

FAULT_QUEUE_ALLOC: Final = "IOMMU_FAULT_QUEUE_ALLOC"
PAGE_FAULTS: Final = 0
"""The type of page faults. A caller that does not know the field gives 0."""


class ReportQueue(EventQueue):
    """A queue of events of one *type* (`VeventqType`, or the mock's), made by `Context.fault_queue_alloc`, open.

    It holds as many as a virtual IOMMU's queue may at most; the sketch names no limit.
    """

    def __init__(self, table: ObjectTable, core: Core, kind: int) -> None:
        if kind not in EVENT_BYTES:
            raise KernelError(errno.EOPNOTSUPP, FAULT_QUEUE_ALLOC)
        self.type = kind
        super().__init__(table, core, MOST_EVENTS, EVENT_BYTES[kind], FAULT_QUEUE_ALLOC)
