"""Fault queues for clients in other processes: rings that they map as io_uring's, handed out over a Unix socket.

`RingServer` is the thing one starts; how a client is written says docs/how-to/attach-a-process.md.
"""

from uring_iopf.server.ring_server import RingServer
from uring_iopf.server.session import ClientResult, Ending

__all__ = ["ClientResult", "Ending", "RingServer"]
