"""The listener: accepts clients, calls their sessions when sockets are readable, and keeps each client's result."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from uring_iopf.errors import PeerError, UsageError, check_not_negative, check_whole, whole
from uring_iopf.handles import Unshared, at_once, foreign, held
from uring_iopf.server.hello import pack_refusal
from uring_iopf.server.session import ClientResult, Ending, Session, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from uring_iopf.machine import Machine

Ended: TypeAlias = "Callable[[ClientResult], None]"
Attached: TypeAlias = "Callable[[Session], None]"
Refused: TypeAlias = "Callable[[OSError], None]"
Place: TypeAlias = "tuple[int, int]"
"""A file's device and inode."""

_GONE_AGAIN: Final = (errno.EAGAIN, errno.ECONNABORTED)
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_REST_S: Final = 0.1
_LONGEST_WAIT_S: Final = 1.0
"""A signal that comes just before a wait does not end it, and Python runs the signal's handler only after the wait."""
_BACKLOG: Final = 128
"""The most connections that may wait to be accepted."""


class RingServer(Unshared):
    """Serves fault queues to processes that connect to the Unix socket at *path*. Each client gets its own machine.

    *new_machine*: makes the machine for one client, with ``driver="sqpoll"`` and a workload. The workload is replayed
    once the client has attached; the client gets a goodbye when every fault is answered. Clients share only this loop,
    so no client can disturb another. *most_clients*: the most clients at once; more are refused with EBUSY.
    *reply_timeout_s*: the seconds that a client may take to reply to the hello, and to leave after the goodbye.
    *buffer_groups*: the number of buffer rings in the ring's descriptor; with 0 the descriptor is 256 MiB long, else
    2 GiB, nearly all of it holes. *on_attach*, *on_end*, *on_refuse*: called when a client attaches, ends, is refused.

    If there are no descriptors or no memory for a client, it is refused with that errno, and the others go on. Only
    this user may connect to the socket (mode 0600). A context manager; `close` ends every client, and removes the
    socket unless another server has put its own in that place.

    Raises: UsageError, another server uses *path*, it is no socket, or the socket cannot be made.
    """

    _what = "server"

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
        on_refuse: Refused | None = None,
    ) -> None:
        super().__init__()
        check_whole("most_clients", most_clients, 1, 2**31 - 1)
        check_whole("buffer_groups", buffer_groups, 0, 2**16)
        check_not_negative("reply_timeout_s", reply_timeout_s)
        self.path = Path(path)
        self._new_machine = new_machine
        self._most_clients = most_clients
        self._reply_timeout_s = reply_timeout_s
        self._buffer_groups = buffer_groups
        self._on_attach = on_attach
        self._on_end = on_end
        self._on_refuse = on_refuse
        self._came = 0
        self._deadlines: dict[Session, float] = {}  # of those who owe a reply, or should have gone
        self._sessions: list[Session] = []
        self.results: list[ClientResult] = []
        """The results of the clients that have ended, in that order."""
        self.refused = 0
        """The number of clients that were refused, because there was no place, descriptor or memory for them."""
        self._stopped = self._closed = False
        # `stop` may be called by a signal handler in the middle of `close`, and by another thread beside it.
        self._stop_lock = threading.RLock()
        self._accept_again: float | None = None
        with ExitStack() as stack:
            self._stop_file = held(os.eventfd, 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(self._stop_file.close)
            self._spare = held(os.open, os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(self._spare.close)
            self._selector = selectors.DefaultSelector()
            stack.callback(self._selector.close)
            self._listener, self._place = _listen(self.path)
            stack.pop_all()
        self._selector.register(self._stop_file, selectors.EVENT_READ, self._on_stop)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions of the clients that are served now."""
        return tuple(self._sessions)

    def serve(self, clients: int | None = None, *, interval_s: float | None = None) -> bool:
        """Serve until *clients* clients have ended (None: without end), or until `stop`. Return False after `stop`.

        *interval_s*: return after so many seconds in any case, for callers with other work; None: do not.
        """
        if self._is_foreign:
            raise foreign(self._what)
        if clients is not None:
            whole("clients", clients)
        if interval_s is not None and not isinstance(interval_s, (int, float)):
            raise UsageError(f"interval_s must be a number of seconds or None, not {interval_s!r}")
        until = None if interval_s is None else time.monotonic() + interval_s
        while not self._stopped and (clients is None or len(self.results) < clients):
            self._turn(self._timeout(until))
            if until is not None and time.monotonic() >= until:
                break
        return not self._stopped

    def stop(self) -> None:
        """Make `serve` return. Any thread or signal handler may call it. On a closed server it does nothing."""
        with self._stop_lock:
            if not self._closed and not self._is_foreign:
                os.eventfd_write(self._stop_file.fileno(), 1)

    def close(self) -> None:
        """End every client, and remove the socket. The kernel answers the remaining groups of each client.

        A second call does nothing, or the steps that an exception has prevented. In the child of a fork it closes the
        child's descriptors; the clients and the socket belong to the parent.
        """
        with self._stop_lock:
            self._closed = True  # from here on `stop` does not write to the descriptor, which is closed below
        while self._sessions:
            if self._is_foreign:
                self._sessions.pop().connection.close()
            else:
                self._end(self._sessions[0], Ending.STOPPED)
        self._selector.close()
        self._listener.close()
        self._stop_file.close()
        self._spare.close()
        if not self._is_foreign and _place_of(self.path) == self._place:
            self.path.unlink(missing_ok=True)

    def _disown(self) -> None:
        super()._disown()
        self._stop_lock = threading.RLock()  # another thread may have held it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _turn(self, timeout: float) -> None:
        """Handle the events that wait. New clients get every other turn, because starting a session takes time."""
        newcomers = False
        for key, _ in self._selector.select(timeout):
            if self._stopped:
                return
            if key.fileobj is self._listener:
                newcomers = True
                continue
            key.data()
            if len(self._sessions) < self._most_clients:
                self._accept()
        self._end_late()
        if newcomers and not self._stopped:  # this refuses new clients if there is still no place
            self._accept()

    # ---- what sockets call ----

    def _on_stop(self) -> None:
        self._stopped = True

    def _accept(self) -> None:
        """Take in, or refuse, the first of those who wait and are still there."""
        for _ in range(_BACKLOG):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._accept_without_descriptors(error.errno)
                elif error.errno not in _GONE_AGAIN:
                    raise
                return
            connection.setblocking(False)
            if not _has_gone(connection):
                break
            connection.close()  # a machine would be made for nobody, while others wait for theirs
        else:
            return
        if len(self._sessions) >= self._most_clients:
            self._refuse(connection, errno.EBUSY)
        else:
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        try:
            session = Session(connection, self._new_machine(), self._came + 1, buffer_groups=self._buffer_groups)
        except OSError as error:
            self._refuse(connection, error.errno or errno.EIO)
            return
        except MemoryError:
            self._refuse(connection, errno.ENOMEM)
            return
        # With a deadline from the first: one that an exception keeps from being watched is ended then.
        deadline = time.monotonic() + self._reply_timeout_s
        at_once(
            partial(setattr, self, "_came", session.number),
            partial(self._deadlines.__setitem__, session, deadline),
            partial(self._sessions.append, session),
        )
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._on_message(session))
        self._selector.register(session.done_fd, selectors.EVENT_READ, lambda: self._on_done(session))
        try:
            session.greet()
        except OSError:
            self._end(session, Ending.LEFT)

    def _refuse(self, connection: socket.socket, reason: int) -> None:
        with connection:
            _try_to_send(connection, pack_refusal(reason))
        self.refused += 1
        if self._on_refuse is not None:
            self._on_refuse(OSError(reason, os.strerror(reason)))

    def _accept_without_descriptors(self, reason: int) -> None:
        """Accept a client with the spare descriptor, and refuse it, because no other descriptor is free.

        Otherwise the client would wait forever, and the loop would be called for it again and again. If even that fails
        (the whole host has no descriptors), the listener rests for a moment.
        """
        self._spare.close()
        try:
            connection, _ = self._listener.accept()
        except OSError:
            self._selector.unregister(self._listener)
            self._accept_again = time.monotonic() + _REST_S
        else:
            connection.setblocking(False)
            self._refuse(connection, reason)
        with suppress(OSError):
            self._spare = held(os.open, os.devnull, os.O_RDONLY | os.O_CLOEXEC)

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

    def _timeout(self, until: float | None) -> float:
        times = [*self._deadlines.values(), *(time for time in (until, self._accept_again) if time is not None)]
        now = time.monotonic()
        return max(0.0, min(*times, now + _LONGEST_WAIT_S) - now) if times else _LONGEST_WAIT_S

    def _end_late(self) -> None:
        now = time.monotonic()
        if self._accept_again is not None and self._accept_again <= now:
            self._accept_again = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        late = next((session for session, deadline in self._deadlines.items() if deadline <= now), None)
        if late is None:
            return
        # One a turn, which the next follows at once: newcomers come between them.
        if late.state is State.DONE:
            self._end(late, Ending.FINISHED)
        else:
            self._end(late, Ending.STOPPED, f"no reply within {self._reply_timeout_s:g} s")

    def _end(self, session: Session, ending: Ending, reason: str = "") -> None:
        for watched in (session.connection, session.done_fd):
            with suppress(KeyError, ValueError):  # an exception came the last time
                self._selector.unregister(watched)
        self._deadlines.pop(session, None)
        result = session.end(ending, reason)
        # The session stays in the list until here, so that a caller that was interrupted ends it again.
        if result is None:
            self._sessions.remove(session)
            return
        at_once(partial(self._sessions.remove, session), partial(self.results.append, result))
        if self._on_end is not None:
            self._on_end(result)


def _has_gone(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _try_to_send(connection: socket.socket, message: bytes) -> None:
    with suppress(OSError):  # it has gone
        connection.send(message)


def _place_of(path: Path) -> Place | None:
    """The device and inode of the file at a path; None: there is no file."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _listen(path: Path) -> tuple[socket.socket, Place | None]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        place = _place_of(path)
        path.chmod(0o600)  # before anybody can connect
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot serve at {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener, place


def _remove_stale(path: Path) -> None:
    """Remove a socket whose server has ended. Raises: UsageError, a server uses it, or it is no socket."""
    if not path.exists():
        return
    if not path.is_socket():
        raise UsageError(f"cannot serve at {path}: a file that is no socket has this name; give another path")
    # A socket of another type: a running server then returns EPROTOTYPE, and does not see a client.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise UsageError(f"cannot serve at {path}: {error.strerror}") from error
    raise UsageError(f"cannot serve at {path}: another server uses this socket; give another path")
