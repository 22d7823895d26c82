"""The generic clients of a channel: trio, synchronous, and in batches; the native one is C, ``cdefs/client.c``."""

from uring_iopf.clients.groups import FaultGroup
from uring_iopf.clients.trio_client import TrioClient

__all__ = ["FaultGroup", "TrioClient"]
