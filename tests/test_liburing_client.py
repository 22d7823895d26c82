"""Programs that know liburing and the hello, in other processes, served for real; and liburing's view of a ring.

They need liburing's headers (Debian: ``apt install liburing-dev``). Without them these tests are skipped, and say so;
with URING_IOPF_REQUIRE_LIBURING set, as ``.ci/run`` does, they fail.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.compiled import FLAGS, gcc, program
from uring_iopf._native import ffi, lib
from uring_iopf.core import Core, Driver
from uring_iopf.errors import KernelError, PeerError, UsageError
from uring_iopf.machine import Machine
from uring_iopf.server import ClientResult, Ending, RingServer
from uring_iopf.server.attached import AttachableRing
from uring_iopf.server.hello import Reply, parse_reply_untrusted

HERE: Final = Path(__file__).resolve().parent
GCC_COMPILE: Final = 5075
"""Faults in the bundled trace of that name."""
HANGS_S: Final = 120
"""Nothing takes so long unless it hangs."""


# ---- building ----


@pytest.fixture(scope="session")
def with_liburing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for programs, where there are headers to build them with."""
    found = subprocess.run(
        ["gcc", "-E", "-"], input="#include <liburing.h>", capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        how = "liburing's headers are missing; on Debian: apt install liburing-dev"
        if "URING_IOPF_REQUIRE_LIBURING" in os.environ:
            pytest.fail(how)
        pytest.skip(how)
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="session")
def client(with_liburing: Path) -> Path:
    binary = with_liburing / "liburing_client"
    gcc(*FLAGS, HERE / "clients" / "liburing_client.c", "-o", binary, "-luring")
    return binary


# ---- a server beside the test ----


class Served:
    """A server in a thread. What its clients came to is in ``server.results`` when the block is left."""

    def __init__(self, server: RingServer, path: Path, client: Path) -> None:
        self.server = server
        self.path = path
        self._client = client

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [str(self._client), str(self.path), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: object, status: int = 0) -> dict[str, int]:
        """Run a client to its end; what it counted."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=HANGS_S)
        assert process.returncode == status, err
        words = out.split()
        return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}


@contextmanager
def serving(
    path: Path, client: Path, *, clients: int, most_clients: int = 4, in_flight: int = 16, group: int = 1
) -> Iterator[Served]:
    """Serve so many clients, all of whom must have gone within a generous time after the block."""
    failed: list[BaseException] = []

    def new_machine() -> Machine:
        return Machine("gcc-compile", driver="sqpoll", wait="sleep", in_flight=in_flight, group=group)

    with RingServer(path, new_machine, most_clients=most_clients) as server:

        def serve() -> None:
            try:
                server.serve(clients)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Served(server, path, client)
        except BaseException:
            server.stop()
            raise
        finally:
            thread.join(HANGS_S)
            if thread.is_alive():
                server.stop()
                thread.join()
                failed.append(AssertionError("the server did not see its clients go"))
    if failed:
        raise failed[0]


def served_alone(
    tmp_path: Path, client: Path, *arguments: object, status: int = 0, **machine: int
) -> tuple[ClientResult, dict[str, int]]:
    """One client by itself: what the server says of it, and what it says."""
    with serving(tmp_path / "socket", client, clients=1, **machine) as served:
        counted = served.run(*arguments, status=status)
    (result,) = served.server.results
    assert result.complete
    return result, counted


# ---- clients that finish ----

FINISH: Final[Mapping[str, list[object]]] = {
    "looking again and again": [],
    "asleep in poll on the eventfd": ["wait"],
    "that kicks a worker that sleeps": ["wait", "nap", 100],
    "that promises no kick, and lets the worker fall asleep": ["wait", "no-kick", "nap", 250],
    "that submits before it has replied": ["early", 20],
    "that does, and promises no kick": ["wait", "no-kick", "early", 20],
    "that reads no completions for a while": ["overflow", 1000],
    "that does, asleep in poll": ["wait", "overflow", 1000],
}


@pytest.mark.parametrize("arguments", FINISH.values(), ids=FINISH)
def test_every_fault_is_answered_by_a_client(arguments: list[object], tmp_path: Path, client: Path) -> None:
    result, counted = served_alone(tmp_path, client, *arguments)
    assert result.ending is Ending.FINISHED
    assert result.account[:4] == (GCC_COMPILE, GCC_COMPILE, 0, 0)
    assert result.account.unmapped == 0
    assert counted["faults"] == counted["answers"] == GCC_COMPILE


def test_groups_of_several_pages_are_answered_once_each(tmp_path: Path, client: Path) -> None:
    result, counted = served_alone(tmp_path, client, "wait", in_flight=64, group=8)
    assert result.account.answered == counted["faults"] == GCC_COMPILE
    assert counted["answers"] < counted["faults"]


def test_a_worker_that_sleeps_is_kicked_awake(tmp_path: Path, client: Path) -> None:
    """The client waits for NEED_WAKEUP before each of these answers, so without a kick it would never go on."""
    result, counted = served_alone(tmp_path, client, "wait", "nap", 100)
    assert counted["naps"] == GCC_COMPILE // 100
    assert counted["kicks"] > 0
    assert result.worker_sleeps >= counted["naps"] > 0


def test_completions_beyond_the_ring_come_late_and_all(tmp_path: Path, client: Path) -> None:
    _, counted = served_alone(tmp_path, client, "overflow", 1000)
    assert counted["nops"] == 1000 * (GCC_COMPILE // 1000)


# ---- clients that do not ----


def test_the_faults_of_a_client_that_dies_are_answered_for_it(tmp_path: Path, client: Path) -> None:
    result, _ = served_alone(tmp_path, client, "die", 100, status=3)
    assert result.ending is Ending.LEFT
    account = result.account
    assert account.answered < 100 <= account.sent < GCC_COMPILE
    assert account.auto_answered == account.sent - account.answered > 0
    assert result.pending == 1, "its multishot read was under way"


NONSENSE: Final = {"bad-magic": "0xbad", "bad-address": "data address in", "chatter": "send nothing after its reply"}


@pytest.mark.parametrize(("how", "reason"), NONSENSE.items(), ids=NONSENSE)
def test_nonsense_is_refused_and_the_client_beside_it_undisturbed(
    how: str, reason: str, tmp_path: Path, client: Path
) -> None:
    with (
        serving(tmp_path / "socket", client, clients=2) as served,
        served.start("wait", "no-kick", "nap", 500) as good,
    ):
        served.run(how, status=1)
        _, err = good.communicate(timeout=HANGS_S)
    assert good.returncode == 0, err
    by_ending = {result.ending: result for result in served.server.results}
    assert reason in by_ending[Ending.REFUSED].reason
    assert by_ending[Ending.FINISHED].account.answered == GCC_COMPILE
    assert all(result.complete for result in served.server.results)


def test_clients_come_one_after_the_other_and_at_once(tmp_path: Path, client: Path) -> None:
    with serving(tmp_path / "socket", client, clients=5) as served:
        served.run("wait")
        served.run("die", 7, status=3)
        three = [served.start("wait") for _ in range(3)]
        for process in three:
            with process:
                _, err = process.communicate(timeout=HANGS_S)
            assert process.returncode == 0, err
    endings = [result.ending for result in served.server.results]
    assert sorted(ending.name for ending in endings) == ["FINISHED"] * 4 + ["LEFT"]
    assert all(result.complete for result in served.server.results)


def test_who_comes_when_it_is_full_is_told(tmp_path: Path, client: Path) -> None:
    path = tmp_path / "socket"
    with serving(path, client, clients=1, most_clients=1) as served, connected(path) as first:
        greeting(first)
        with served.start() as second:
            _, err = second.communicate(timeout=HANGS_S)
        assert second.returncode == 1
        assert os.strerror(errno.EBUSY) in err
    assert [result.ending for result in served.server.results] == [Ending.LEFT]


# ---- hellos by hand ----


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(HANGS_S)
        connection.connect(str(path))
        yield connection


@contextmanager
def descriptors(connection: socket.socket) -> Iterator[list[int]]:
    fds = greeting(connection)
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def greeting(connection: socket.socket) -> list[int]:
    message, fds, _, _ = socket.recv_fds(connection, 512, 5)
    assert len(message) == ffi.sizeof("struct uiopf_hello")
    assert len(fds) == 5
    return fds


def reply(address: int, *, magic: int = 0x46504955, version: int = 1, size: int = 24, flags: int = 0) -> bytes:
    return struct.pack("=IHHIIQ", magic, version, size, flags, 0, address)


def test_a_reply_is_as_the_header_says() -> None:
    assert ffi.sizeof("struct uiopf_hello_reply") == len(reply(0))
    assert int.from_bytes(b"UIPF", "little") == lib.UIOPF_HELLO_MAGIC
    assert parse_reply_untrusted(reply(4096, flags=1)) == Reply(4096, kicks=True)
    assert parse_reply_untrusted(reply(8192)) == Reply(8192, kicks=False)


def test_the_page_has_the_hello_as_it_is() -> None:
    page = (HERE.parent / "docs" / "how-to" / "attach-a-process.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`\w+`(?:, `\w+`)*) \|", page, re.MULTILINE)
    fields = [(int(offset), re.findall(r"\w+", names)) for offset, names in rows]
    for offset, names in fields:
        assert ffi.offsetof("struct uiopf_hello", names[0]) == offset, names[0]
    struct_fields = [name for name, _ in ffi.typeof("struct uiopf_hello").fields]
    assert [name for _, names in fields for name in names] == struct_fields


BAD_REPLIES: Final[Mapping[str, bytes]] = {
    "short": reply(4096)[:-1],
    "long": reply(4096) + b"\0",
    "another magic": reply(4096, magic=1),
    "another version": reply(4096, version=2),
    "another size": reply(4096, size=32),
    "unknown flags": reply(4096, flags=2),
}


@pytest.mark.parametrize("data", BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_a_bad_reply_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        parse_reply_untrusted(data)


def one_machine() -> Machine:
    return Machine("gcc-compile", driver="sqpoll", wait="sleep")


def test_who_says_nothing_is_let_go(tmp_path: Path) -> None:
    with RingServer(tmp_path / "socket", one_machine, reply_timeout_s=0.0) as server, connected(server.path) as silent:
        assert server.serve(1)
        with descriptors(silent):
            assert silent.recv(1) == b""
    (result,) = server.results
    assert result.ending is Ending.STOPPED
    assert "no reply" in result.reason


def test_a_server_that_ends_answers_for_its_clients(tmp_path: Path) -> None:
    attached = threading.Event()
    with RingServer(tmp_path / "socket", one_machine, on_attach=lambda _: attached.set()) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        with connected(server.path) as idle, descriptors(idle):
            idle.send(reply(1 << 30))
            assert attached.wait(HANGS_S)
            server.stop()
            thread.join()
            server.close()
            assert idle.recv(1) == b""
    (result,) = server.results
    assert result.ending is Ending.STOPPED
    assert result.complete
    assert result.account.answered == 0
    assert not server.path.exists()


def test_a_path_is_served_by_one(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with RingServer(path, one_machine) as server:
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(UsageError, match="another server uses this socket"):
            RingServer(path, one_machine)
        server.serve(interval_s=0)
        assert server.results == [], "asking was no client"
    path.write_text("mine")
    with pytest.raises(UsageError, match="no socket"):
        RingServer(path, one_machine)
    assert path.read_text() == "mine"


def test_a_socket_that_was_left_behind_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
        dead.listen()
    with RingServer(path, one_machine):
        pass
    assert not path.exists()


# ---- what a client may do to what it was given ----


@contextmanager
def attachable(core: Core, **sizes: int) -> Iterator[AttachableRing]:
    ring = AttachableRing(core, [], **{"entries": 8, "cq_entries": 16} | sizes)
    try:
        yield ring
    finally:
        ring.close()


def test_the_memfd_is_no_longer_than_its_parts_need() -> None:
    with Core() as core:
        with attachable(core, groups=0) as ring:
            assert ring.attachment.ring_size == 0x10000000 + 4096
        with attachable(core, groups=3, group_entries=512) as ring:
            assert ring.attachment.ring_size == 0x80000000 + (2 << 16) + 512 * 16
            assert os.fstat(ring.attachment.ring_fd).st_blocks * 512 <= 64 << 10, "the holes are holes"


@pytest.mark.parametrize("sizes", [{"group_entries": 8192}, {"group_entries": 48}, {"groups": 65}], ids=str)
def test_buffer_rings_that_would_overlap_are_refused(sizes: dict[str, int]) -> None:
    with Core() as core, pytest.raises(KernelError) as refused, attachable(core, **sizes):
        pass
    assert refused.value.errno == errno.EINVAL


def test_a_client_can_fill_holes_but_neither_cut_nor_grow() -> None:
    with Core() as core, attachable(core) as ring:
        fd, size = ring.attachment.ring_fd, ring.attachment.ring_size
        for length in (0, size - 4096, size + 4096):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, length)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        before = os.fstat(fd).st_blocks
        assert os.pwrite(fd, b"x", 0x08000000) == 1
        assert os.fstat(fd).st_blocks > before


def test_a_full_blocking_eventfd_does_not_stop_the_worker() -> None:
    """A client fills its eventfd and makes it blocking; completions still come, and the worker can still be stopped."""
    with Core(live=True) as core, attachable(core) as ring:
        attachment = ring.attachment
        fcntl.fcntl(attachment.completion_eventfd, fcntl.F_SETFL, 0)
        os.eventfd_write(attachment.completion_eventfd, 2**64 - 2)
        ring.attach(1 << 30, kicks=False)  # the worker looks at it by itself: it may sleep before the second four
        with nops(ring, core) as submit:
            submit(4)
            core.start_worker(Driver.SQPOLL, idle_ns=0)
            submit(4)
            wait_for(lambda: submit.completed() == 8)
            core.stop_worker()


def test_a_kicked_worker_reads_no_eventfd() -> None:
    with Core(live=True) as core, attachable(core) as ring:
        ring.attach(1 << 30, kicks=True)
        fcntl.fcntl(ring.attachment.wake_eventfd, fcntl.F_SETFL, 0)
        with nops(ring, core) as submit:
            core.start_worker(Driver.SQPOLL, idle_ns=0)
            for round_ in range(1, 6):
                wait_for(submit.worker_sleeps)
                submit(1)
                os.eventfd_write(ring.attachment.wake_eventfd, 1)
                wait_for(lambda wanted=round_: submit.completed() == wanted)  # type: ignore[misc]
            core.stop_worker()
        assert os.eventfd_read(ring.attachment.wake_eventfd) == 5


@pytest.mark.parametrize("driver", [Driver.INLINE, Driver.SQPOLL])
def test_what_a_client_submits_before_it_attaches_waits_for_that(driver: Driver) -> None:
    """Its pointers mean nothing before it has said where its memory is; the SQEs stay in the ring until then."""
    with Core(live=driver is Driver.SQPOLL) as core, attachable(core) as ring, nops(ring, core) as submit:
        if driver is Driver.SQPOLL:
            core.start_worker(driver, idle_ns=0)
        submit(3)
        for _ in range(3):
            slept = core.worker_sleeps()
            with pytest.raises(KernelError):
                ring.attach(1, kicks=True)  # an address that is refused changes nothing, but wakes the worker
            core.consume()
            if driver is Driver.SQPOLL:
                wait_for(lambda before=slept: core.worker_sleeps() > before)  # type: ignore[misc]
            assert submit.completed() == 0
        ring.attach(1 << 30, kicks=True)
        core.consume()
        wait_for(lambda: submit.completed() == 3)
        core.stop_worker()


def test_an_attached_client_reaches_registered_files_alone() -> None:
    with Core() as core, attachable(core) as ring, nops(ring, core) as submit:
        ring.attach(1 << 30, kicks=False)
        pair = socket.socketpair()
        with pair[0], pair[1]:
            fd = lib.uiopf_core_install_host(core.c, pair[0].fileno())
            assert fd >= 0
            poll, close, files_update, provide = 6, 19, 20, 31
            for opcode, wanted in (
                (poll, errno.EBADF),
                (close, errno.EBADF),
                (files_update, errno.EACCES),
                (provide, errno.EACCES),
            ):
                assert submit.one(opcode, fd=fd, length=0 if opcode in (poll, close) else 1) == -wanted
            core.uninstall(fd)


class Nops:
    """A client's side of an attachable ring, by the words of its memory."""

    def __init__(self, ring: AttachableRing, core: Core) -> None:
        self._core = core
        self._map = mmap.mmap(ring.attachment.ring_fd, 4096)
        self._sqes = mmap.mmap(ring.attachment.ring_fd, 4096, offset=0x10000000)
        self._cqes = int(ring.params.cq_off.cqes)
        self._tail = 0

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("=I", self._map, at)[0])

    def __call__(self, n: int) -> None:
        for _ in range(n):
            self._push(0)

    def _push(self, opcode: int, *, fd: int = 0, length: int = 0) -> None:
        sqe = struct.pack("=BBHiQQI", opcode, 0, 0, fd, 0, 0, length).ljust(64, b"\0")
        self._sqes[64 * (self._tail % 8) : 64 * (self._tail % 8) + 64] = sqe
        self._tail += 1
        struct.pack_into("=I", self._map, 4, self._tail)

    def one(self, opcode: int, *, fd: int, length: int) -> int:
        """Submit one; its result."""
        before = self.completed()
        self._push(opcode, fd=fd, length=length)
        self._core.consume()
        assert self.completed() == before + 1
        return int(struct.unpack_from("=i", self._map, self._cqes + 16 * (before % 16) + 8)[0])

    def completed(self) -> int:
        return self._word(12)

    def worker_sleeps(self) -> bool:
        return bool(self._word(36) & 1)

    def close(self) -> None:
        self._map.close()
        self._sqes.close()


@contextmanager
def nops(ring: AttachableRing, core: Core) -> Iterator[Nops]:
    with ExitStack() as stack:
        submit = Nops(ring, core)
        stack.callback(submit.close)
        yield submit


def wait_for(holds: Callable[[], bool]) -> None:
    """Look until it holds. A generous number of looks, so that what hangs fails."""
    for _ in range(20_000_000):
        if holds():
            return
    raise AssertionError("it never came")


# ---- the command ----


def command(path: Path, *arguments: str) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "uring_iopf", "serve", "--socket", str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline().startswith("serving gcc-compile (5,075 faults")
    return server


def test_the_command_serves_one_client_and_says_what_became_of_its_faults(tmp_path: Path, client: Path) -> None:
    path = tmp_path / "socket"
    with command(path, "--once", "--in-flight", "64") as server:
        subprocess.run([client, path, "wait"], check=True, timeout=HANGS_S, capture_output=True)
        out, err = server.communicate(timeout=HANGS_S)
    assert (server.returncode, err) == (0, "")
    account = "sent 5,075 = answered 5,075 + answered for it 0 + pending 0 + lost 0"
    first, last = out.splitlines()
    assert first.startswith("client 1 (pid ")
    assert first.endswith(f"finished; {account}")
    assert last == f"1 client: {account}"


def test_ctrl_c_ends_the_command_with_an_account(tmp_path: Path, client: Path) -> None:
    path = tmp_path / "socket"
    with command(path) as server:
        done = subprocess.run([client, path, "die", "50"], check=False, timeout=HANGS_S)
        assert done.returncode == 3
        assert server.stdout is not None
        assert "left; sent" in server.stdout.readline()
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=HANGS_S)
    assert (server.returncode, err) == (130, "")
    assert out.startswith("1 client: sent ")
    assert out.endswith("+ lost 0\n")
    assert not path.exists()


# ---- two views of one memory ----


@pytest.fixture(scope="session")
def two_views(with_liburing: Path, build_directory: Path) -> Path:
    assert with_liburing.is_dir()
    views = [HERE / "clients" / name for name in ("two_views.c", "our_view.c")]
    return program("two_views", build_directory, "address+undefined", *views, also=["-luring"])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_liburing_and_our_client_see_the_same_after_every_step(seed: int, two_views: Path) -> None:
    done = subprocess.run(
        [two_views, "100000", str(seed)], capture_output=True, text=True, check=False, timeout=HANGS_S
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    counted = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
    assert counted["steps"] == 100_000
    assert min(counted[name] for name in ("nops", "groups", "overflows", "ends", "turns")) > 100
