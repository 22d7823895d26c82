"""``uring-iopf serve`` as a process: how it ends, whom it refuses, and that no client ends the service to others."""

from __future__ import annotations

import errno
import mmap
import os
import platform
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from uring_iopf import Machine
from uring_iopf._native import ffi, lib
from uring_iopf.abi import MmapOffset, SqeFlags
from uring_iopf.abi.iommufd import PageResponse
from uring_iopf.abi.records import MESSAGE_BYTES, RESPONSE_BYTES, pack_response, unpack_messages
from uring_iopf.rings import ClientRing, Sqe
from uring_iopf.server import RingServer

LIMIT_S = 60
"""For anything that is waited for; far more than it takes."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START = "from uring_iopf.commands.main import main; raise SystemExit(main())"
HELD = f"""
import signal
from uring_iopf.commands.main import main
signal.pthread_sigmask(signal.SIG_UNBLOCK, {[int(number) for number in SIGNALS]})
raise SystemExit(main())
"""
"""For a program that is started with these signals blocked. They wait while Python itself starts, which may lose them:
an exception in a callback of the import system is printed as ignored."""


SYSTEM_CALLS: Final = {
    "x86_64": {"memfd_create": 319, "eventfd2": 290, "clone3": 435},
    "aarch64": {"memfd_create": 279, "eventfd2": 19, "clone3": 435},
}
"""Calls that a new session makes, by the machine's numbers for them."""


def refusing(call: str, reason: int) -> str:
    """A start that lets the main thread have no more of one system call, once SIGUSR1 has come, and says so."""
    return f"""
import ctypes, signal, struct
from uring_iopf.commands.main import main
libc = ctypes.CDLL(None, use_errno=True)
# seccomp(2): load the number of the call; if it is this one, return the errno; allow all others.
load, equal, end, allow, errno_ = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000
rules = [(load, 0, 0, 0), (equal, 0, 1, {SYSTEM_CALLS[platform.machine()][call]}),
         (end, 0, 0, errno_ | {reason}), (end, 0, 0, allow)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("@HP", len(rules), ctypes.addressof(code)))
def refuse(*_):
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, mode_filter, program):
        raise OSError(ctypes.get_errno(), "prctl")
    print("refuses {call}", flush=True)
signal.signal(signal.SIGUSR1, refuse)
raise SystemExit(main())
"""


class Server:
    """The command in a process of its own, and clients that connect to it."""

    def __init__(
        self,
        path: Path,
        *options: str,
        ignoring: tuple[signal.Signals, ...] = (),
        held: bool = False,
        start: str = START,
    ) -> None:
        self.path = path

        def ignore() -> None:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_BLOCK if held else signal.SIG_UNBLOCK, SIGNALS)

        self.process = subprocess.Popen(
            [sys.executable, "-c", HELD if held else start, "serve", "--socket", str(path), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=ignore,
        )

    def is_ready(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.settimeout(LIMIT_S)
        client.connect(str(self.path))
        return client

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end; return the status, and what it said after the first line."""
        try:
            out, error = self.process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, out, error


def hello(client: socket.socket) -> int:
    """Take the hello, close its descriptors, and return its status."""
    data, fds, _, _ = socket.recv_fds(client, 512, 8)
    for fd in fds:
        os.close(fd)
    message = ffi.new("struct uiopf_hello *")
    ffi.memmove(message, data, ffi.sizeof(message[0]))
    assert bool(fds) == (message.status == 0)
    return int(message.status)


@contextmanager
def serving(
    path: Path, *options: str, ignoring: tuple[signal.Signals, ...] = (), start: str = START
) -> Iterator[Server]:
    server = Server(path, *options, ignoring=ignoring, start=start)
    try:
        assert server.is_ready().startswith("serving ")
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


class Attached:
    """A client that has replied, without liburing: its ring, and the memory for its data."""

    def __init__(self, connection: socket.socket, stack: ExitStack) -> None:
        said, fds, _, _ = socket.recv_fds(connection, 512, 5)
        for fd in fds:
            stack.callback(os.close, fd)
        ring, data, _, self._told, _ = fds
        self._hello = ffi.new("struct uiopf_hello *")
        ffi.memmove(self._hello, said, ffi.sizeof(self._hello[0]))
        assert self._hello.status == 0
        self.data = mmap.mmap(data, self._hello.data_size)
        self.address = int(ffi.cast("uintptr_t", ffi.from_buffer(self.data)))
        sqes = int(MmapOffset.SQES)
        params = ffi.addressof(self._hello, "params")
        self.ring = stack.enter_context(closing(ClientRing(ring, params, size_bytes=sqes + 4096, sqes_offset=sqes)))
        size = ffi.sizeof("struct uiopf_hello_reply")
        magic, version = lib.UIOPF_HELLO_MAGIC, lib.UIOPF_HELLO_VERSION
        connection.send(struct.pack("=IHHIIQ", magic, version, size, 0, 0, self.address))

    @property
    def queue(self) -> int:
        """The fault queue among the registered files."""
        return int(self._hello.queue)

    @property
    def in_flight(self) -> int:
        """The groups that wait for an answer at once, at most."""
        return int(self._hello.in_flight)

    def submit(self, *sqes: Sqe) -> None:
        for sqe in sqes:
            assert self.ring.fill(sqe) is not None
        self.ring.publish()

    def until(self, last: int) -> list[tuple[int, int]]:
        """Wait for the completion with this user_data; return those that have come: user_data, res."""
        seen: list[tuple[int, int]] = []
        while last not in (user_data for user_data, _ in seen):
            assert select.select([self._told], [], [], LIMIT_S)[0]
            os.eventfd_read(self._told)
            seen += [(cqe.user_data, cqe.res) for cqe in self.ring.reap()]
        return seen

    def answers_a_fault(self, user_data: int) -> None:
        """Read a group, which the function has reported or does when earlier ones are answered, and answer it."""
        to, answer, fixed = self.address, self.address + MESSAGE_BYTES, SqeFlags.FIXED_FILE
        self.submit(Sqe.read(user_data, self.queue, to, MESSAGE_BYTES, off=-1, flags=fixed))
        assert self.until(user_data) == [(user_data, MESSAGE_BYTES)]
        (message,) = unpack_messages(self.data[:MESSAGE_BYTES])
        response = pack_response(message.cookie, PageResponse.INVALID)
        self.data[MESSAGE_BYTES : MESSAGE_BYTES + RESPONSE_BYTES] = response
        self.submit(Sqe.write(user_data + 1, self.queue, answer, RESPONSE_BYTES, off=-1, flags=fixed))
        assert self.until(user_data + 1) == [(user_data + 1, RESPONSE_BYTES)]


@pytest.mark.parametrize(
    ("options", "polled"),
    [
        pytest.param((), [(1, select.POLLIN)], id="by default"),
        pytest.param(("--fault-file", "keyed"), [(1, select.POLLIN)], id="keyed"),
        pytest.param(("--fault-file", "unkeyed"), [], id="unkeyed"),
    ],
)
def test_a_key_completes_a_client_s_poll_for_a_group_that_its_read_has_taken(
    options: tuple[str, ...], polled: list[tuple[int, int]], tmp_path: Path
) -> None:
    """Poll and read wait for the same group, and the read is woken first. One group at most is outstanding."""
    with (
        serving(tmp_path / "socket", "--in-flight", "1", *options) as server,
        server.connect() as connection,
        ExitStack() as stack,
    ):
        client = Attached(connection, stack)
        to, answer, queue, fixed = client.address, client.address + MESSAGE_BYTES, client.queue, SqeFlags.FIXED_FILE
        client.submit(Sqe.read(0, queue, to, MESSAGE_BYTES, off=-1, flags=fixed))
        assert client.until(0) == [(0, MESSAGE_BYTES)]
        (message,) = unpack_messages(client.data[:MESSAGE_BYTES])
        response = pack_response(message.cookie, PageResponse.INVALID)
        client.data[MESSAGE_BYTES : MESSAGE_BYTES + RESPONSE_BYTES] = response
        client.submit(
            Sqe.poll_add(1, queue, select.POLLIN, flags=fixed),
            Sqe.read(2, queue, to, MESSAGE_BYTES, off=-1, flags=fixed),
            Sqe.write(3, queue, answer, RESPONSE_BYTES, off=-1, flags=fixed),
        )
        seen = client.until(2)
        client.submit(Sqe.nop(4))  # whatever the group completes comes before this
        assert seen + client.until(4) == [(3, RESPONSE_BYTES), (2, MESSAGE_BYTES), *polled, (4, 0)]


@pytest.mark.parametrize(("pages", "told"), [(4000, 16), (3, 3)])
def test_a_client_is_told_a_number_in_flight_that_the_workload_reaches(pages: int, told: int, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    rows = "".join(f"{page},1,0,{page << 13:#x},r\n" for page in range(pages))
    file.write_text("time_ns,pasid,thread,address,access\n" + rows)
    path = tmp_path / "socket"
    with serving(path, "--workload", str(file)) as server, server.connect() as connection, ExitStack() as stack:
        assert Attached(connection, stack).in_flight == told


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_it_with_an_account_and_without_its_socket(
    number: signal.Signals, times: int, tmp_path: Path
) -> None:
    with serving(tmp_path / "socket") as server, server.connect() as client:
        assert hello(client) == 0
        for _ in range(times):
            server.process.send_signal(number)
        status, out, error = server.ended()
    assert status == 128 + number
    assert "client 1" in out
    assert out.splitlines()[-1] == "1 client: sent 0 = answered 0 + answered for it 0 + pending 0 + lost 0"
    assert not error
    assert not (tmp_path / "socket").exists()


def test_at_whatever_moment_of_its_start_it_ends_it_leaves_no_socket(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    moments = random.Random(seed)
    for n in range(12):
        path = tmp_path / f"socket{n}"
        server = Server(path, held=True)
        number = moments.choice(SIGNALS)
        try:
            server.process.wait(moments.uniform(0.0, 0.5))
        except subprocess.TimeoutExpired:
            server.process.send_signal(number)
        status, _, _ = server.ended()
        # By the signal itself before the command has taken it over, or by the command.
        assert status in (-number, 128 + number), status
        assert not path.exists()


def test_a_signal_that_comes_just_before_a_wait_is_heard(tmp_path: Path) -> None:
    """Python runs its handler after the wait, which has an end, even if nobody connects."""
    waits: list[float | None] = []
    with RingServer(tmp_path / "socket", lambda: Machine("gcc-compile", driver="sqpoll")) as server:

        def select(timeout: float | None) -> list[object]:
            waits.append(timeout)
            if len(waits) == 3:
                server._on_stop()
            return []

        server._selector.select = select  # type: ignore[assignment, method-assign]
        assert not server.serve()
    assert waits == [1.0, 1.0, 1.0]


def test_a_signal_that_was_ignored_from_the_start_stays_so(tmp_path: Path) -> None:
    with serving(tmp_path / "socket", ignoring=(signal.SIGINT, signal.SIGHUP)) as server:
        server.process.send_signal(signal.SIGINT)
        server.process.send_signal(signal.SIGHUP)
        with server.connect() as client:
            assert hello(client) == 0
        server.process.terminate()
        assert server.ended()[0] == 128 + signal.SIGTERM


def test_who_reads_its_output_may_go(tmp_path: Path) -> None:
    with serving(tmp_path / "socket") as server:
        assert server.process.stdout
        server.process.stdout.close()
        for _ in range(3):  # each end of a client is a line that nobody reads
            with server.connect() as client:
                assert hello(client) == 0
        server.process.terminate()
        assert server.process.wait(LIMIT_S) == 128 + signal.SIGTERM
        assert server.process.stderr
        assert server.process.stderr.read() == ""
    assert not (tmp_path / "socket").exists()


def test_without_descriptors_a_client_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    with serving(tmp_path / "socket") as server, server.connect() as first:
        assert hello(first) == 0
        pid = server.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        for spare in range(24):  # from none at all to nearly enough for a session
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + spare, before[1]))
            with server.connect() as client:
                status = hello(client)
            if status == 0:
                break
            # A pointer that C could not make is ENOMEM, whatever the host had none of.
            assert status in (errno.EMFILE, errno.ENOMEM), errno.errorcode.get(status, status)
        assert spare > 4  # a session takes more than that
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        with server.connect() as client:
            assert hello(client) == 0
        server.process.terminate()
        status, out, _ = server.ended()
    assert status == 128 + signal.SIGTERM
    assert "refused: Too many open files" in out
    assert out.count("client 1 ") == 1  # the first one was there to the end


def _is_complete(out: str, answered: int) -> bool:
    """Whether client 1 was there to the end; another fault may have been on its way then."""
    (line,) = (line for line in out.splitlines() if line.startswith("client 1 "))
    return (
        f": stopped; sent {answered} = answered {answered} " in line
        or f": stopped; sent {answered + 1} = answered {answered} " in line
    )


def test_without_memory_a_client_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "socket", "--in-flight", "1") as server,
        server.connect() as connection,
        ExitStack() as stack,
    ):
        first = Attached(connection, stack)
        first.answers_a_fault(0)
        pid = server.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_AS)
        refused = 0
        for spare in (0, *(1 << bits for bits in range(16, 34))):  # from none at all to more than enough for a session
            used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * mmap.PAGESIZE
            resource.prlimit(pid, resource.RLIMIT_AS, (used + spare, before[1]))
            with server.connect() as client:
                status = hello(client)
            first.answers_a_fault(10 + 2 * refused)
            if status == 0:
                break
            assert status == errno.ENOMEM, errno.errorcode.get(status, status)
            refused += 1
        assert refused > 4  # a session takes more than that
        resource.prlimit(pid, resource.RLIMIT_AS, (used, before[1]))
        with server.connect() as client:
            assert hello(client) == errno.ENOMEM
        resource.prlimit(pid, resource.RLIMIT_AS, before)
        with server.connect() as client:
            assert hello(client) == 0
        first.answers_a_fault(1000)
        server.process.terminate()
        status, out, error = server.ended()
    assert status == 128 + signal.SIGTERM
    assert out.count("refused: Cannot allocate memory") == refused + 1
    assert _is_complete(out, 3 + refused)
    assert not error


@pytest.mark.skipif(platform.machine() not in SYSTEM_CALLS, reason="the numbers of its system calls are not known here")
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("memfd_create", errno.ENOMEM),  # a pointer that C could not make, whatever the reason
        ("eventfd2", errno.EACCES),
        ("clone3", errno.EACCES),
    ],
)
def test_under_seccomp_a_client_is_refused_and_the_others_go_on(call: str, reason: int, tmp_path: Path) -> None:
    """A filter that comes while one is served, and refuses with EACCES what another session would call."""
    with (
        serving(tmp_path / "socket", "--in-flight", "1", start=refusing(call, errno.EACCES)) as server,
        server.connect() as connection,
        ExitStack() as stack,
    ):
        first = Attached(connection, stack)
        first.answers_a_fault(0)
        server.process.send_signal(signal.SIGUSR1)
        assert server.process.stdout
        while server.process.stdout.readline() != f"refuses {call}\n":
            assert server.process.poll() is None
        for n in range(3):
            with server.connect() as client:
                assert hello(client) == reason
            first.answers_a_fault(10 + 2 * n)
        server.process.terminate()
        status, out, error = server.ended()
    assert status == 128 + signal.SIGTERM
    assert out.count(f"refused: {os.strerror(reason)}") == 3
    assert _is_complete(out, 4)
    assert not error


def test_a_socket_that_another_server_put_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with RingServer(path, Machine):
        path.unlink()
        with RingServer(path, Machine):
            pass
        assert not path.exists()  # its own
        path.touch()
    assert path.exists()


def test_stopping_a_closed_server_touches_nothing(tmp_path: Path) -> None:
    server = RingServer(tmp_path / "socket", Machine)
    server.close()
    files = [(tmp_path / str(n)).open("wb") for n in range(8)]  # one of them has the number that the server gave up
    server.stop()
    server.close()
    for file in files:
        file.close()
    assert [(tmp_path / str(n)).stat().st_size for n in range(8)] == [0] * 8


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(LIMIT_S)
    client.connect(str(path))
    return client


def test_no_machine_is_made_for_who_has_gone_before_its_turn(tmp_path: Path) -> None:
    path, made = tmp_path / "socket", []

    def new_machine() -> Machine:
        made.append(Machine(driver="sqpoll"))
        return made[-1]

    with RingServer(path, new_machine, most_clients=1) as server:
        for _ in range(100):
            connected(path).close()
        with connected(path) as newcomer:
            while not made:
                assert server.serve(interval_s=0)
            assert hello(newcomer) == 0
        assert server.serve(clients=1)
        assert len(made) == 1
        assert not server.refused


@pytest.mark.parametrize("how", ["gone", "late"])
def test_a_newcomer_does_not_wait_for_all_whose_sessions_end(tmp_path: Path, how: str) -> None:
    """Clients that have gone, and clients that have not answered the hello in their time."""
    path, happened, most = tmp_path / "socket", list[str](), 8

    def new_machine() -> Machine:
        happened.append("came")
        return Machine(driver="sqpoll")

    with (
        RingServer(path, new_machine, most_clients=most + 2, on_end=lambda _: happened.append("went")) as server,
        ExitStack() as sockets,
    ):
        clients = [sockets.enter_context(connected(path)) for _ in range(most)]
        while len(server.sessions) < most:
            assert server.serve(interval_s=0)
        for client in clients:
            assert hello(client) == 0
            if how == "gone":
                client.close()
        if how == "late":
            server._deadlines = dict.fromkeys(server._deadlines, 0.0)
        happened.clear()
        waiting = [sockets.enter_context(connected(path)) for _ in range(2)]
        assert server.serve(clients=most)
        assert happened[:4] == ["went", "came", "went", "came"]
        for newcomer in waiting:
            assert hello(newcomer) == 0


def test_a_session_whose_end_was_interrupted_is_ended_by_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, machines = tmp_path / "socket", list[Machine]()

    def new_machine() -> Machine:
        machines.append(Machine(driver="sqpoll"))
        return machines[-1]

    def interrupted(_: Machine) -> None:
        raise KeyboardInterrupt

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with RingServer(path, new_machine) as server:
        with connected(path) as client:
            while not server.sessions:
                assert server.serve(interval_s=0)
            assert hello(client) == 0
        monkeypatch.setattr(Machine, "detach", interrupted)
        with pytest.raises(KeyboardInterrupt):
            server.serve(clients=1)
        assert server.sessions  # not lost
        monkeypatch.undo()
    assert not server.sessions
    assert not server.results  # nobody knows its account any more
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
