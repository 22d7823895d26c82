"""The generic clients of a channel: trio, synchronous, in batches; ``cdefs/designs/client.c`` is the native one."""

from uring_iopf.clients.groups import FaultGroup
from uring_iopf.clients.trio_client import TrioClient

__all__ = ["FaultGroup", "TrioClient"]
