"""The listener: takes clients in, calls their sessions when sockets do, and says what became of each."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from uring_iopf.errors import PeerError, UsageError
from uring_iopf.server.hello import pack_refusal
from uring_iopf.server.session import ClientResult, Ending, Session, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from uring_iopf.machine import Machine

Ended: TypeAlias = "Callable[[ClientResult], None]"
Attached: TypeAlias = "Callable[[Session], None]"


class RingServer:
    """Serves fault queues to processes that connect to the Unix socket at *path*, a machine of its own to each.

    *new_machine*: makes the machine for one client, with ``driver="sqpoll"`` and a workload, which is replayed once the
    client has attached; a client that has answered all of it is told so. What one does, or leaves undone, no other
    notices: they share nothing but this loop. *most_clients*: at once; who comes then is told EBUSY.
    *reply_timeout_s*: how long a client may take to answer the hello, and to go after the goodbye. *buffer_groups*:
    buffer rings in the ring's descriptor; without any it is 256 MiB long and not 2 GiB, nearly all of it holes.
    *on_attach*, *on_end*: called as it happens.

    The socket is for this user alone (mode 0600). A context manager; `close` ends every client.
    Raises: UsageError, somebody serves at *path*, or there is something else.
    """

    def __init__(
        self,
        path: str | Path,
        new_machine: Callable[[], Machine],
        *,
        most_clients: int = 4,
        reply_timeout_s: float = 10.0,
        buffer_groups: int = 1,
        on_attach: Attached | None = None,
        on_end: Ended | None = None,
    ) -> None:
        self.path = Path(path)
        self._new_machine = new_machine
        self._most_clients = most_clients
        self._reply_timeout_s = reply_timeout_s
        self._buffer_groups = buffer_groups
        self._on_attach = on_attach
        self._on_end = on_end
        self._came = 0
        self._deadlines: dict[Session, float] = {}  # of those who owe a reply, or should have gone
        self._sessions: list[Session] = []
        self.results: list[ClientResult] = []
        """Of all who have gone, in that order."""
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        try:
            self._listener = _listen(self.path)
        except BaseException:
            self._selector.close()
            os.close(self._stop_fd)
            raise
        self._stopped = self._closed = False
        self._selector.register(self._stop_fd, selectors.EVENT_READ, self._on_stop)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Who is being served now."""
        return tuple(self._sessions)

    def serve(self, clients: int | None = None, *, interval_s: float | None = None) -> bool:
        """Serve until that many clients have gone (None: for ever), or `stop`. Return whether it was not the latter.

        *interval_s*: return after so long in any case, for callers with something else to do.
        """
        until = None if interval_s is None else time.monotonic() + interval_s
        while not self._stopped and (clients is None or len(self.results) < clients):
            for key, _ in self._selector.select(self._timeout(until)):
                if not self._stopped:
                    key.data()
            self._end_late()
            if until is not None and time.monotonic() >= until:
                break
        return not self._stopped

    def stop(self) -> None:
        """Make `serve` return. From any thread, or a signal handler."""
        os.eventfd_write(self._stop_fd, 1)

    def close(self) -> None:
        """End every client, answering for it what it has not answered, and take the socket away."""
        if self._closed:
            return
        self._closed = True
        while self._sessions:
            self._end(self._sessions[0], Ending.STOPPED)
        self._selector.close()
        self._listener.close()
        os.close(self._stop_fd)
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- what sockets call ----

    def _on_stop(self) -> None:
        self._stopped = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED):
                return
            raise
        connection.setblocking(False)
        if len(self._sessions) >= self._most_clients:
            with connection:
                _try_to_send(connection, pack_refusal(errno.EBUSY))
            return
        self._came += 1
        session = Session(connection, self._new_machine(), self._came, buffer_groups=self._buffer_groups)
        self._sessions.append(session)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._on_message(session))
        self._selector.register(session.done_fd, selectors.EVENT_READ, lambda: self._on_done(session))
        self._deadlines[session] = time.monotonic() + self._reply_timeout_s
        try:
            session.greet()
        except OSError:
            self._end(session, Ending.LEFT)

    def _on_message(self, session: Session) -> None:
        if session not in self._sessions:
            return  # it ended earlier in the same round
        owed_reply = session.state is State.GREETED
        try:
            ending = session.on_message()
        except PeerError as error:
            self._end(session, Ending.REFUSED, str(error))
            return
        if ending is not None:
            self._end(session, ending)
        elif owed_reply and session.state is State.SERVING:
            self._deadlines.pop(session, None)
            if self._on_attach is not None:
                self._on_attach(session)

    def _on_done(self, session: Session) -> None:
        if session not in self._sessions:
            return
        session.on_done()
        if session.state is State.DONE:
            self._deadlines[session] = time.monotonic() + self._reply_timeout_s

    def _timeout(self, until: float | None) -> float | None:
        times = [*self._deadlines.values(), *([] if until is None else [until])]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _end_late(self) -> None:
        now = time.monotonic()
        for session in [late for late, deadline in self._deadlines.items() if deadline <= now]:
            if session.state is State.DONE:
                self._end(session, Ending.FINISHED)
            else:
                self._end(session, Ending.STOPPED, f"no reply within {self._reply_timeout_s:g} s")

    def _end(self, session: Session, ending: Ending, reason: str = "") -> None:
        self._sessions.remove(session)
        self._deadlines.pop(session, None)
        self._selector.unregister(session.connection)
        self._selector.unregister(session.done_fd)
        result = session.end(ending, reason)
        self.results.append(result)
        if self._on_end is not None:
            self._on_end(result)


def _try_to_send(connection: socket.socket, message: bytes) -> None:
    with suppress(OSError):  # it has gone
        connection.send(message)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        path.chmod(0o600)  # before anybody can connect
        listener.listen()
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot serve at {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Take away a socket whose server has gone. Raises: UsageError, it has not, or it is no socket."""
    if not path.exists():
        return
    if not path.is_socket():
        raise UsageError(f"cannot serve at {path}: there is a file that is no socket")
    # Of another type, so that a server that is there never hears of it: EPROTOTYPE, or it would be taken for a client.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise UsageError(f"cannot serve at {path}: {error.strerror}") from error
    raise UsageError(f"cannot serve at {path}: somebody does already")
