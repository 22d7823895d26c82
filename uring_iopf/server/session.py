"""One client and its machine from the hello to the account. Nothing here waits; the server calls when a socket does."""

from __future__ import annotations

import enum
import os
import socket
import struct
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uring_iopf.abi.records import MESSAGE_BYTES
from uring_iopf.errors import KernelError, PeerError
from uring_iopf.server import hello
from uring_iopf.server.attached import AttachableRing

if TYPE_CHECKING:
    from uring_iopf.machine import Account, Machine

_PAGE = 4096
_LEAST_ENTRIES = 64
_MOST_BUFFERS = 4096


class State(enum.Enum):
    """Where a session is. It ends in `Ending`, from any of these."""

    GREETED = "the hello is sent, its reply is waited for"
    SERVING = "the ring is attached, and the load runs"
    DONE = "all of the load is answered, the goodbye is sent, and the client may go"


class Ending(enum.Enum):
    """How a client went."""

    FINISHED = "all of the load was answered"
    LEFT = "it closed the socket, or died, before that"
    REFUSED = "it said what no client says"
    STOPPED = "the server was stopped, or its time to reply was over"


@dataclass(frozen=True, slots=True)
class ClientResult:
    """What became of one client, and of its faults: sent = answered + auto_answered, nothing pending, nothing lost."""

    number: int
    """From 1, in the order in which they came."""
    pid: int
    """Of who connected, as the host's kernel says."""
    ending: Ending
    reason: str
    """What was wrong with what a refused client said; empty otherwise."""
    account: Account
    pending: int
    """Requests that were under way when its ring was freed."""
    worker_sleeps: int
    """How often the worker that polled its ring fell asleep."""

    @property
    def complete(self) -> bool:
        """Whether every fault was answered: by the client, or for it."""
        account = self.account
        return account.lost == account.pending == account.awaited == 0


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


class Session:
    """Owns the socket and the machine that it is given, and closes both.

    Raises: whatever making the ring raises, with the machine closed; the socket is still the caller's then.
    """

    def __init__(self, connection: socket.socket, machine: Machine, number: int, *, buffer_groups: int = 1) -> None:
        self.connection = connection
        self.machine = machine
        self.number = number
        self.state = State.GREETED
        self.pid = _peer_pid(connection)
        with ExitStack() as stack:
            stack.callback(machine.close)
            queue = machine.open_queue(start_worker=False)
            self.done_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, self.done_fd)
            entries = _power_of_two(max(machine.outstanding_most, _LEAST_ENTRIES))
            buffers = min(2 * entries, _MOST_BUFFERS)
            # Room for every buffer, a whole number of cache lines each, and for the answer of every SQE.
            stride = (machine.group_most * MESSAGE_BYTES + 63) // 64 * 64
            self.ring = AttachableRing(
                machine.core,
                [queue.fd],
                entries=entries,
                cq_entries=4 * entries,
                groups=buffer_groups,
                group_entries=buffers,
                data_bytes=-(-(buffers * (stride + 16) + 8 * entries) // _PAGE) * _PAGE,
            )
            stack.callback(self.ring.close)
            machine.start_worker()
            self._buffers, self._buffer_groups = buffers, buffer_groups
            self._ended = False
            self._stack = ExitStack()
            self._stack.callback(connection.close)  # the last to go
            self._stack.push(stack.pop_all())

    def greet(self) -> None:
        """Send the hello, with the descriptors. Raises: OSError, the client has gone already."""
        space = self.machine.address_space
        attachment = self.ring.attachment
        message = hello.pack_hello(
            self.ring.params,
            queue=0,
            ring_size=attachment.ring_size,
            data_size=attachment.data_size,
            space_size=os.fstat(space.fd).st_size,
            first_table=space.used_bytes(),
            pasids=space.pasids,
            in_flight=self.machine.outstanding_most,
            group_most=self.machine.group_most,
            buffer_groups=self._buffer_groups,
            buffer_entries=self._buffers,
        )
        socket.send_fds(
            self.connection,
            [message],
            [
                attachment.ring_fd,
                attachment.data_fd,
                space.fd,
                attachment.completion_eventfd,
                attachment.wake_eventfd,
            ],
        )

    def on_message(self) -> Ending | None:
        """Take what the client sent. Return how it ended, if it has.

        Raises: PeerError, it said what no client says.
        """
        try:
            data = self.connection.recv(hello.MOST_BYTES + 1)
        except BlockingIOError:
            return None
        except ConnectionError:
            data = b""
        if not data:
            return Ending.FINISHED if self.state is State.DONE else Ending.LEFT
        if self.state is not State.GREETED:
            raise PeerError(f"a client must send nothing after its reply, not {len(data)} bytes")
        reply = hello.parse_reply_untrusted(data)
        try:
            self.ring.attach(reply.data_address, kicks=reply.kicks)
        except KernelError as error:
            raise PeerError(
                f"the data address in the client's reply must be one of its mappings, not {reply.data_address:#x}"
            ) from error
        self.state = State.SERVING
        self.machine.tell_when_done(self.done_fd)
        self.machine.start()
        return None

    def on_done(self) -> None:
        """A pass has ended: say so to the client, if that was all."""
        os.eventfd_read(self.done_fd)
        if self.state is not State.SERVING or not self.machine.is_idle():
            return
        self.state = State.DONE
        with suppress(OSError):  # it has gone; its socket says so
            self.connection.send(hello.pack_goodbye(self.machine.account().answered))

    def progress(self) -> tuple[int, int]:
        """How many faults the client has answered by now, and how many there are."""
        workloads = [one.workload for one in self.machine.functions.values()]
        return self.machine.account().answered, sum(len(one) for one in workloads if one is not None)

    def end(self, ending: Ending, reason: str = "") -> ClientResult | None:
        """Free the ring, answer for the client what it has not answered, close everything. Return the account.

        Where an exception has ended this before, close what is left, and return None.
        """
        if self._ended:
            self._stack.close()
            return None
        self._ended = True
        with self._stack:
            # First, so that the rest waits for no worker: each call to one that runs takes until it has a processor.
            self.machine.core.stop_worker()
            pending = self.ring.pending()
            self.ring.close()
            self.machine.detach()
            self.machine.core.produce()  # the last answers reach the function
            return ClientResult(
                self.number,
                self.pid,
                ending,
                reason,
                self.machine.account(),
                pending,
                self.machine.core.worker_sleeps(),
            )


def _peer_pid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])
