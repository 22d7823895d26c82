"""Fault queues for clients in other processes. They get rings over a Unix socket, and map them with liburing.

Start with `RingServer`. docs/how-to/attach-a-process.md explains how to write a client.
"""

from uring_iopf.server.ring_server import RingServer
from uring_iopf.server.session import ClientResult, Ending

__all__ = ["ClientResult", "Ending", "RingServer"]
