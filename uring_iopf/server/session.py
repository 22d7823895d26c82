"""One client and its machine, from the hello to the account. No call here waits; the server calls on socket events."""

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
from uring_iopf.handles import held
from uring_iopf.server import hello
from uring_iopf.server.attached import AttachableRing

if TYPE_CHECKING:
    from uring_iopf.machine import Account, Machine

_PAGE = 4096
_LEAST_ENTRIES = 64
_MOST_BUFFERS = 4096


class State(enum.Enum):
    """The state of a session. It ends with an `Ending`, from any state."""

    GREETED = "the hello was sent, and the server waits for the reply"
    SERVING = "the ring is attached, and the load runs"
    DONE = "every fault of the load is answered, the goodbye was sent, and the client may leave"


class Ending(enum.Enum):
    """The end of a client."""

    FINISHED = "every fault of the load was answered"
    LEFT = "the client closed the socket, or died, before that"
    REFUSED = "the client broke the protocol"
    STOPPED = "the server was stopped, or the client's time to reply was over"


@dataclass(frozen=True, slots=True)
class ClientResult:
    """The result of one client. Its account has sent = answered + auto_answered, with no fault pending or lost."""

    number: int
    """The number of the client, counted from 1 in the order of arrival."""
    pid: int
    """The process id of the client, as the host's kernel reports it."""
    ending: Ending
    """The end of the client."""
    reason: str
    """The mistake of a client that was refused, or the time-out; else empty."""
    account: Account
    """The account of the client's faults."""
    pending: int
    """The requests that had not completed when the ring was freed."""
    worker_sleeps: int
    """The number of times that the worker that polled the ring fell asleep."""

    @property
    def complete(self) -> bool:
        """Whether every fault was answered, by the client or for it."""
        account = self.account
        return account.lost == account.pending == account.awaited == 0


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


class Session:
    """Owns a client's socket and machine, and closes both.

    Raises: as `AttachableRing`; the machine is closed then, and the caller still owns the socket.
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
            self._done = held(os.eventfd, 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(self._done.close)
            self.done_fd = self._done.fileno()
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
        """Send the hello, with the descriptors. Raises: OSError, the client has left already."""
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
        """Handle a message of the client. Return its ending if it has ended, else None.

        Raises: PeerError, the client broke the protocol.
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
        """Handle the end of a pass. Send the goodbye if every function's pass has ended."""
        os.eventfd_read(self.done_fd)
        if self.state is not State.SERVING or not self.machine.is_idle():
            return
        self.state = State.DONE
        with suppress(OSError):  # it has gone; its socket says so
            self.connection.send(hello.pack_goodbye(self.machine.account().answered))

    def progress(self) -> tuple[int, int]:
        """The number of faults that the client has answered, and the number of all faults."""
        workloads = [one.workload for one in self.machine.functions.values()]
        return self.machine.account().answered, sum(len(one) for one in workloads if one is not None)

    def end(self, ending: Ending, reason: str = "") -> ClientResult | None:
        """Free the ring, detach, so that the kernel answers the remaining groups, and close everything.

        Return the result. If an exception has interrupted an earlier call, close the rest and return None.
        """
        if self._ended:
            self._stack.close()
            return None
        self._ended = True
        with self._stack:
            # Stop the worker first: each call below would wait for a running worker until it gets a processor.
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
