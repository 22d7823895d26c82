"""Rings where the host can be no judge: in virtual time, beside a worker, of other versions, from other threads."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.bench import (
    ARENA_ADDRESS,
    ARENA_SIZE,
    GETEVENTS,
    MESSAGE,
    Bench,
    buffer_address,
    cancel,
    data_address,
    group_of,
    nop,
    returned,
)
from uring_iopf._core import ffi, lib
from uring_iopf.abi import CqeFlags, EnterFlags, MmapOffset, Op, PbufRingFlags, RegisterOp, SetupFlags, SqeFlags
from uring_iopf.core import Core, Driver
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.iommufd import Context
from uring_iopf.machine import Machine
from uring_iopf.rings import BufferRing, Cqe, KernelRing, Ring, Sqe

LINK, DRAIN, FIXED, SELECT = SqeFlags.IO_LINK, SqeFlags.IO_DRAIN, SqeFlags.FIXED_FILE, SqeFlags.BUFFER_SELECT
MORE = CqeFlags.F_MORE
SECOND: Final = 10**9
TIMES_AT: Final = ARENA_ADDRESS + 0x8000


def timeout(bench: Bench, user_data: int, ns: int, op: Op = Op.TIMEOUT, **fields: int) -> Sqe:
    at = TIMES_AT + 16 * user_data
    bench.arena.write(at, struct.pack("=qq", ns // SECOND, ns % SECOND))
    return Sqe(op, **({"addr": at, "len": 1, "user_data": user_data} | fields))


def failed(user_data: int, error: int, flags: int = 0) -> Cqe:
    return Cqe(user_data, -error, flags)


# ---- virtual time --------------------------------------------------------------------------------


def test_a_timeout_fires_when_the_manual_clock_says_so() -> None:
    with Bench() as bench:
        ring, core = bench.ring, bench.core
        assert core.next_ns() is None
        assert ring.run(timeout(bench, 1, 500), timeout(bench, 2, 300), timeout(bench, 3, SECOND)) == []
        assert core.next_ns() == 300
        core.tick(299)
        assert ring.run() == []
        core.tick(300)
        assert ring.run() == [failed(2, errno.ETIME)]
        assert core.next_ns() == 500
        core.tick(SECOND)
        assert ring.run() == [failed(1, errno.ETIME), failed(3, errno.ETIME)]
        assert core.next_ns() is None
        assert ring.pending() == 0


def test_an_absolute_time_is_the_manual_clocks_whatever_clock_is_named() -> None:
    with Bench() as bench:
        ring = bench.ring
        bench.core.tick(1000)
        for clock in (0, 4, 8):
            ring.run(timeout(bench, 1 + clock, 2000, op_flags=1 | clock))
        assert ring.run(timeout(bench, 7, 1000, op_flags=1)) == [failed(7, errno.ETIME)]
        bench.core.tick(2000)
        assert sorted(cqe.user_data for cqe in ring.run()) == [1, 5, 9]


def test_many_timeouts_fire_in_the_order_of_their_times() -> None:
    with Bench(entries=512, cq_entries=2048) as bench:
        ring = bench.ring
        order = [(i * 2654435761) % 1009 for i in range(400)]
        for start in range(0, 400, 100):
            sqes = []
            for at in order[start : start + 100]:
                place = ARENA_ADDRESS + 0x8000 + 16 * at
                bench.arena.write(place, struct.pack("=qq", 0, 1 + at))
                sqes.append(Sqe(Op.TIMEOUT, addr=place, len=1, user_data=at))
            assert ring.submit(*sqes) == 100
        removed = set(order[::7])
        for at in sorted(removed):
            assert ring.run(Sqe(Op.TIMEOUT_REMOVE, addr=at, user_data=5000))[0] == Cqe(5000, 0, 0)
        fired = []
        while (when := bench.core.next_ns()) is not None:
            bench.core.tick(when)
            fired += [cqe.user_data for cqe in ring.run()]
        assert fired == sorted(set(order) - removed)


def test_a_repeated_timeout_keeps_its_distance_from_when_it_was_seen() -> None:
    with Bench() as bench:
        ring = bench.ring
        ring.run(timeout(bench, 1, 100, op_flags=64, off=3))
        bench.core.tick(250)  # late
        assert ring.run() == [failed(1, errno.ETIME, MORE)]
        assert bench.core.next_ns() == 350
        bench.core.tick(350)
        assert ring.run() == [failed(1, errno.ETIME, MORE)]
        bench.core.tick(450)
        assert ring.run() == [failed(1, errno.ETIME)]


def test_a_repeated_timeout_ends_at_a_full_queue() -> None:
    with Bench(entries=2, cq_entries=2) as bench:
        ring = bench.ring
        ring.run(timeout(bench, 1, 100, op_flags=64))
        for now in (100, 200, 300):
            bench.core.tick(now)
            assert ring.enter(0) == 0
        assert ring.reap() == [failed(1, errno.ETIME, MORE)] * 2
        assert ring.run() == [failed(1, errno.ETIME)]
        assert ring.pending() == 0


def test_a_link_timeout_gives_a_fault_queue_its_reader_back() -> None:
    with Bench() as bench:
        ring = bench.ring
        sqes = (bench.read(1, flags=int(LINK)), timeout(bench, 2, 100, Op.LINK_TIMEOUT))
        assert ring.run(*sqes) == []
        bench.core.tick(100)
        assert ring.run() == [failed(2, errno.ETIME), failed(1, errno.ECANCELED)]
        assert ring.run(*sqes) == []
        bench.queue.report()
        assert ring.run() == [Cqe(1, MESSAGE, 0), failed(2, errno.ECANCELED)]
        bench.core.tick(SECOND)
        assert ring.run() == []
        assert bench.core.next_ns() is None


def test_read_map_answer_as_one_chain() -> None:
    """A fault is read, and its answer is written, without a return to the client between the two."""
    with Bench() as bench:
        answer = bench.write(2, cookie=1, code=1)
        assert bench.ring.run(bench.read(1, flags=int(LINK)), answer) == []
        bench.queue.report()
        assert bench.ring.run() == [Cqe(1, MESSAGE, 0), Cqe(2, 8, 0)]
        assert bench.queue.answers() == [(0, 1)]


def test_a_drained_answer_waits_for_the_read() -> None:
    with Bench() as bench:
        bench.ring.run(bench.read(1), bench.write(2, cookie=1, flags=int(DRAIN)), nop(3))
        assert bench.ring.pending() == 3
        bench.queue.report()
        assert bench.ring.run() == [Cqe(1, MESSAGE, 0), Cqe(2, 8, 0), Cqe(3, 0, 0)]
        assert bench.queue.answers() == [(0, 0)]


def test_closing_a_ring_gives_back_what_waits_in_it() -> None:
    with Bench() as bench:
        ring = Ring(bench.core, 8)
        ring.add_window(bench.arena)
        ring.run(timeout(bench, 1, 100), timeout(bench, 2, 100, off=4))
        ring.run(bench.read(1, flags=int(LINK)), timeout(bench, 3, 100, Op.LINK_TIMEOUT, flags=int(LINK)), nop(4))
        ring.run(bench.read(2), nop(5, flags=int(DRAIN)), bench.read(6, flags=int(LINK)), nop(7))
        ring.close()
        bench.core.tick(SECOND)
        bench.core.consume()
        assert bench.core.next_ns() is None  # and the bench closes the queue, which no request holds


def test_an_inline_wait_for_virtual_time_is_an_error() -> None:
    with Bench() as bench:
        bench.ring.submit(timeout(bench, 1, 100))
        assert returned(lambda: bench.ring.enter(0, 1, GETEVENTS)) == -errno.EDEADLK


# ---- vectors and registered buffers on a fault queue ---------------------------------------------


def test_a_vector_takes_a_message_in_pieces() -> None:
    with Bench() as bench:
        ring = bench.ring
        segments = [(data_address(1), 16), (data_address(2), 24)]
        bench.arena.write(TIMES_AT, b"".join(struct.pack("=QQ", *segment) for segment in segments))
        bench.queue.report()
        sqe = Sqe(Op.READV, fd=bench.queue.fd, addr=TIMES_AT, len=2, user_data=9)
        assert ring.run(sqe) == [Cqe(9, MESSAGE, 0)]
        assert group_of(bench.arena.read(data_address(1), 16) + bench.arena.read(data_address(2), 24)) == 0


def vector(bench: Bench, op: Op, user_data: int, *segments: tuple[int, int]) -> Sqe:
    bench.arena.write(TIMES_AT, b"".join(struct.pack("=QQ", *segment) for segment in segments))
    return Sqe(op, fd=bench.queue.fd, addr=TIMES_AT, len=len(segments), user_data=user_data)


HOLE: Final = ARENA_ADDRESS + ARENA_SIZE


def test_a_vector_takes_groups_up_to_a_hole() -> None:
    """Groups in front of it are delivered; the one that would go into it stays first."""
    with Bench() as bench:
        ring, arena = bench.ring, bench.arena
        bench.queue.report(3)
        reads = vector(bench, Op.READV, 1, (data_address(1), 16), (data_address(2), 0), (HOLE - 70, 104))
        assert ring.run(reads) == [Cqe(1, 2 * MESSAGE, 0)]
        assert group_of(arena.read(data_address(1), 16) + arena.read(HOLE - 70, 24)) == 0
        assert group_of(arena.read(HOLE - 46, MESSAGE)) == 1
        assert ring.run(vector(bench, Op.READV, 2, (HOLE - 39, 2 * MESSAGE))) == [failed(2, errno.EFAULT)]
        assert bench.queue.waiting() == 1
        assert ring.run(vector(bench, Op.READV, 3, (HOLE - 40, MESSAGE), (HOLE, MESSAGE))) == [Cqe(3, MESSAGE, 0)]
        assert group_of(arena.read(HOLE - 40, MESSAGE)) == 2
        assert ring.run(vector(bench, Op.READV, 4, (data_address(4), 100))) == [failed(4, errno.ESPIPE)]
        assert ring.run(vector(bench, Op.READV, 5, (HOLE, 0))) == [Cqe(5, 0, 0)]


def test_a_vector_takes_no_group_that_is_larger() -> None:
    with Bench() as bench:
        bench.queue.report(pages=3)
        pieces = [(data_address(1), 50), (data_address(2), 30)]
        assert bench.ring.run(vector(bench, Op.READV, 1, *pieces)) == [failed(1, errno.EINVAL)]
        pieces.append((data_address(3), 80))
        assert bench.ring.run(vector(bench, Op.READV, 2, *pieces)) == [Cqe(2, 3 * MESSAGE, 0)]


def test_a_vector_answers_up_to_a_hole() -> None:
    with Bench() as bench:
        ring, arena = bench.ring, bench.arena
        bench.queue.report(4)
        assert len(bench.queue.read(4 * MESSAGE)) == 4 * MESSAGE  # type: ignore[arg-type]
        arena.write(data_address(1), struct.pack("=IIII", 1, 0, 2, 1))
        parts = [(data_address(1), 3), (data_address(1) + 3, 9), (data_address(1) + 12, 4), (HOLE, 8)]
        assert ring.run(vector(bench, Op.WRITEV, 1, *parts)) == [Cqe(1, 16, 0)]
        assert bench.queue.answers() == [(0, 0), (1, 1)]
        assert ring.run(vector(bench, Op.WRITEV, 2, (HOLE, 8))) == [failed(2, errno.EFAULT)]
        arena.write(data_address(1), struct.pack("=IIII", 3, 0, 9, 0))
        assert ring.run(vector(bench, Op.WRITEV, 3, *[(data_address(1), 16)] * 1024)) == [Cqe(3, 8, 0)]
        assert ring.run(vector(bench, Op.WRITEV, 4, (data_address(1), 4))) == [failed(4, errno.ESPIPE)]
        assert bench.queue.answers() == [(2, 0)]


def test_faults_are_read_and_answered_with_fixed_files_and_buffers() -> None:
    with Bench() as bench:
        ring = bench.ring
        iov = ffi.new("uint64_t[2]", [data_address(0), 4096])
        assert ring.register(RegisterOp.REGISTER_BUFFERS, iov, 1) == 0
        ring.register_files([bench.queue.fd])
        bench.queue.report()
        fixed = {"fd": 0, "flags": int(FIXED)}
        assert ring.run(bench.read(1, **fixed)) == [Cqe(1, MESSAGE, 0)]
        bench.arena.write(data_address(2), struct.pack("=II", 1, 1))
        write = Sqe(Op.WRITE_FIXED, addr=data_address(2), len=8, user_data=2, **fixed)
        assert ring.run(write) == [Cqe(2, 8, 0)]
        assert bench.queue.answers() == [(0, 1)]
        lib.uiopf_core_uninstall(bench.core.c, bench.queue.fd, ffi.NULL)
        assert lib.uiopf_faultq_free(bench.queue.c) == -errno.EBUSY  # the slot holds it
        ring.unregister_files()


# ---- beside a worker -----------------------------------------------------------------------------


@pytest.mark.parametrize("driver", [Driver.ENTER, Driver.SQPOLL])
def test_a_waiting_client_is_woken_by_a_timer(driver: Driver) -> None:
    flags = SetupFlags.SQPOLL if driver is Driver.SQPOLL else 0
    with Bench(live=True, flags=int(flags)) as bench:
        ring = bench.ring
        bench.core.start_worker(driver, idle_ns=0)
        for _ in range(3):
            ring.push(timeout(bench, 1, 3_000_000))
            assert ring.enter(1, 1, GETEVENTS | EnterFlags.SQ_WAKEUP) == 1
            assert ring.reap() == [failed(1, errno.ETIME)]
        bench.core.stop_worker()


def test_a_polling_worker_tells_the_client_of_a_deferred_ring_of_a_timer() -> None:
    """The client, who is in no call, runs what the timer comes to when it enters."""
    flags = SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN | SetupFlags.TASKRUN_FLAG
    with Bench(live=True, flags=int(flags)) as bench:
        event = os.eventfd(0, os.EFD_CLOEXEC)
        ring, taskrun = bench.ring, 4
        ring.register_eventfd(event)
        bench.core.start_worker(Driver.SQPOLL, idle_ns=0)
        ring.push(timeout(bench, 1, 3_000_000))
        ring.enter(1)
        assert select.select([event], [], [], 20)[0]
        assert ring.word("sq_flags") == taskrun
        assert not ring.reap()
        assert ring.run() == [failed(1, errno.ETIME)]
        bench.core.stop_worker()
        ring.unregister_eventfd()
        os.close(event)


@pytest.mark.parametrize("driver", [Driver.INLINE, Driver.ENTER, Driver.SQPOLL])
def test_a_waiting_client_is_woken_by_a_pipe_of_the_host(driver: Driver) -> None:
    flags = SetupFlags.SQPOLL if driver is Driver.SQPOLL else 0
    reader, writer = os.pipe()
    with Bench(live=True, flags=int(flags)) as bench:
        ring = bench.ring
        fd = bench.core.install_host_file(reader)
        if driver is not Driver.INLINE:
            bench.core.start_worker(driver, idle_ns=0)
        for text in (b"one", b"two"):
            later = threading.Timer(0.01, os.write, (writer, text))
            ring.push(Sqe(Op.READ, fd=fd, addr=data_address(1), len=8, user_data=1))
            if driver is Driver.SQPOLL:
                assert ring.enter(1, 0, EnterFlags.SQ_WAKEUP) == 1
            later.start()
            submit = 0 if driver is Driver.SQPOLL else 1

            def wait() -> int:
                return ring.enter(submit, 1, GETEVENTS | EnterFlags.SQ_WAKEUP)  # noqa: B023

            while returned(wait) < 0 and driver is Driver.INLINE:
                submit = 0
            assert ring.reap() == [Cqe(1, 3, 0)]
            assert bench.arena.read(data_address(1), 3) == text
            later.join()
        bench.core.stop_worker()
        bench.core.uninstall(fd)
    os.close(reader)
    os.close(writer)


def test_a_message_wakes_the_client_of_another_ring() -> None:
    with Bench(live=True) as bench:
        other = Ring(bench.core, 8)
        fd = other.fd
        bench.core.start_worker(Driver.ENTER, idle_ns=0)
        got: list[int] = []
        waiting = threading.Thread(target=lambda: got.append(returned(lambda: other.enter(0, 1, GETEVENTS))))
        waiting.start()
        assert bench.ring.run(Sqe(Op.MSG_RING, fd=fd, off=77, len=5, user_data=1)) == [Cqe(1, 0, 0)]
        waiting.join(10)
        assert got == [0]
        assert other.reap() == [Cqe(77, 5, 0)]
        bench.core.stop_worker()
        other.close()


def test_a_pipe_that_nobody_reads_is_installed_without_a_signal() -> None:
    """Not even where SIGPIPE ends the program: installing asks the pipe what it promises."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with Core() as core:
            reader, writer = os.pipe()
            os.close(reader)
            core.uninstall(core.install_host_file(writer))
            os.close(writer)
    finally:
        signal.signal(signal.SIGPIPE, before)


@contextmanager
def tap() -> Iterator[tuple[int, socket.socket]]:
    """A TAP device, and a socket that sends frames to it. Nothing else does."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"there is no TAP device to be had: {error}")
    try:
        made = fcntl.ioctl(
            fd, 0x400454CA, struct.pack("16sH22x", b"uiopf%d", 0x1002)
        )  # TUNSETIFF, TAP without a header
        name = made[:16].rstrip(b"\0").decode()
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sends:
            fcntl.ioctl(sends, 0x8914, struct.pack("16sH14x", name.encode(), 1))  # SIOCSIFFLAGS, IFF_UP
            sends.bind((name, 0x88B5))
            yield fd, sends
    except PermissionError as error:
        pytest.skip(f"there is no TAP device to be had: {error}")
    finally:
        os.close(fd)


def test_installing_a_tap_device_takes_none_of_its_frames() -> None:
    """Installing finds out what the file promises. A read would take a frame, with whatever memory."""
    no_wait = 8
    with tap() as (file, sends), Bench(live=True) as bench:
        frames = [bytes(6) + bytes([2] * 6) + b"\x88\xb5" + bytes([n] * 50) for n in range(3)]
        for frame in frames[:2]:
            sends.send(frame)
        assert select.select([file], [], [], 20)[0]
        fd = bench.core.install_host_file(file)
        of_it = {"addr": data_address(1), "length": 64, "op_flags": no_wait}
        for frame in frames[:2]:
            assert bench.ring.run(Sqe.read(1, fd, **of_it)) == [Cqe(1, 64, 0)]
            assert bench.arena.read(data_address(1), 64) == frame
        assert bench.ring.run(Sqe.read(1, fd, **of_it)) == [failed(1, errno.EAGAIN)]
        bench.core.uninstall(fd)


def test_a_regular_file_cannot_be_installed() -> None:
    with Core() as core, Path(__file__).open("rb") as file:
        with pytest.raises(KernelError) as caught:
            core.install_host_file(file.fileno())
        assert caught.value.errno == errno.EPERM


def test_uninstall_takes_only_what_install_host_file_gave() -> None:
    """Not a ring, not a fault queue, not what is closed by now; what another file's number is stays open."""
    context = Context()
    core = context.core
    reader, writer = os.pipe()
    with Ring(core, 8) as ring:
        queue = context.fault_queue_alloc()
        fd = core.install_host_file(reader)
        close = partial(Sqe, Op.CLOSE, user_data=1)
        for other in (-1, 0, 2, ring.fd, queue.fd, fd + 1, 1 << 20, -(1 << 31), (1 << 31) - 1):
            with pytest.raises(KernelError, match="uninstall") as caught:
                core.uninstall(other)
            assert caught.value.errno == errno.EBADF, other
        core.uninstall(fd)
        with pytest.raises(KernelError):
            core.uninstall(fd)
        fd = core.install_host_file(reader)
        assert ring.run(close(fd=fd)) == [Cqe(1, 0, 0)]
        with pytest.raises(KernelError):
            core.uninstall(fd)
        # The queue's number is closed by a ring and given to the pipe: closing the queue leaves it alone.
        number = queue.fd
        assert ring.run(close(fd=number)) == [Cqe(1, 0, 0)]
        assert core.install_host_file(reader) == number
        queue.close()
        os.write(writer, b"here")
        assert ring.run(Sqe(Op.POLL_ADD, fd=number, op_flags=1, user_data=2)) == [Cqe(2, 1, 0)]
        core.uninstall(number)
    context.close()
    os.close(reader)
    os.close(writer)


# ---- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["", "6", "6.11", "5.19", "six", "6.12.1"])
def test_a_kernel_is_a_version_from_6_12_on(kernel: str) -> None:
    with pytest.raises(UsageError, match=r"6\.12"):
        Core(kernel=kernel)


@pytest.mark.parametrize("kernel", ["6.12", "6.18", "7.1", "7.2", "7.9"])
def test_a_context_goes_by_the_kernel_of_its_core(kernel: str) -> None:
    """Rings of one kernel beside an iommufd of another are no machine that there is."""
    rules = "6.12" if kernel < "7.2" else "7.2"
    with Core(kernel=kernel) as core:
        assert core.kernel == kernel
        for given in (None, rules):
            with Context(core, kernel=given) as context:
                assert context.version.name == rules
        with pytest.raises(UsageError, match=f"Core.kernel={'6.12' if rules == '7.2' else '7.2'!r}"):
            Context(core, kernel="6.12" if rules == "7.2" else "7.2")
    for name in ("6.12", "7.2"):
        with Context(kernel=name) as context:
            assert (context.version.name, context.core.kernel) == (name, name)
        with Machine(None, kernel=name) as machine:
            assert (machine.context.version.name, machine.core.kernel) == (name, name)


def opened(kernel: str, flags: int) -> bool | int:
    with Core(kernel=kernel) as core:
        try:
            Ring(core, 4, flags=flags).close()
        except OSError as error:
            return error.errno or -1
        return True


@pytest.mark.parametrize(
    ("flags", "since", "before"),
    [
        (int(SetupFlags.HYBRID_IOPOLL | SetupFlags.IOPOLL), "6.13", "6.12"),
        (int(SetupFlags.CQE_MIXED), "6.18", "6.17"),
        (int(SetupFlags.SQE_MIXED), "6.19", "6.18"),
        (int(SetupFlags.SQ_REWIND | SetupFlags.NO_SQARRAY), "7.0", "6.19"),
    ],
)
def test_a_setup_flag_is_there_from_its_release_on(flags: int, since: str, before: str) -> None:
    assert opened(since, flags) is True
    assert opened("7.2", flags) is True
    assert opened(before, flags) == errno.EINVAL


@pytest.mark.parametrize(
    ("kernel", "last", "features"),
    [("6.12", 57, 0xFFFF), ("6.14", 57, 0x1FFFF), ("6.18", 62, 0x3FFFF), ("7.2", 64, 0x3FFFF)],
)
def test_probe_and_features_are_the_versions(kernel: str, last: int, features: int) -> None:
    with Core(kernel=kernel) as core:
        ring = Ring(core, 8)
        probe = ffi.new("char[]", 16 + 8 * 256)
        assert ring.register(RegisterOp.REGISTER_PROBE, probe, 256) == 0
        assert (ord(probe[0]), ord(probe[1])) == (last, last + 1)
        assert ring.features == features
        ring.close()


def test_an_sqe_of_128_bytes_takes_two_slots_of_a_mixed_ring() -> None:
    with Core(kernel="7.2") as core:
        ring = Ring(core, 4, flags=int(SetupFlags.SQE_MIXED))
        ring.push(nop(1), Sqe(Op.NOP128, user_data=2), nop(99), nop(3))
        assert ring.enter(4, 0, GETEVENTS) == 4
        assert ring.reap() == [Cqe(1, 0, 0), Cqe(2, 0, 0), Cqe(3, 0, 0)]
        ring.push(nop(1), nop(2), nop(3), Sqe(Op.NOP128, user_data=4))  # it would wrap
        assert ring.enter(4, 0, GETEVENTS) == 4
        assert ring.reap()[-1] == failed(4, errno.EINVAL)
        ring.close()


def test_a_rewound_ring_begins_each_call_at_its_first_slot() -> None:
    with Core(kernel="7.2") as core:
        ring = Ring(core, 4, flags=int(SetupFlags.SQ_REWIND | SetupFlags.NO_SQARRAY))
        ring.push(nop(1), nop(2))
        for _ in range(2):
            assert ring.enter(2, 0, GETEVENTS) == 2
            assert ring.reap() == [Cqe(1, 0, 0), Cqe(2, 0, 0)]
        ring.close()


@pytest.mark.parametrize(("kernel", "refused"), [("6.12", True), ("7.2", False)])
def test_a_time_in_the_sqe_itself_came_after_6_12(kernel: str, *, refused: bool) -> None:
    with Core(kernel=kernel) as core:
        ring = Ring(core, 8)
        cqes = ring.run(Sqe(Op.TIMEOUT, addr=100, len=1, op_flags=128, user_data=1))
        assert cqes == ([failed(1, errno.EINVAL)] if refused else [])
        core.tick(100)
        assert ring.run() == ([] if refused else [failed(1, errno.ETIME)])
        ring.close()


def test_an_opcode_that_is_not_here_is_refused_as_by_a_kernel_built_without_it() -> None:
    with Core() as core:
        ring = Ring(core, 8)
        for op in (Op.FSYNC, Op.OPENAT, Op.SPLICE, Op.SENDMSG, Op.FUTEX_WAIT):
            assert ring.run(Sqe(op, user_data=1)) == [failed(1, errno.EOPNOTSUPP)]
            assert ring.run(Sqe(op, flags=0x80, user_data=1)) == [failed(1, errno.EINVAL)]
            assert ring.run(Sqe(op, personality=9, user_data=1)) == [failed(1, errno.EINVAL)]
        ring.close()


# ---- who may call, and what is mapped ------------------------------------------------------------


def elsewhere(call: object) -> list[int]:
    """Call it on another thread."""
    got: list[int] = []
    assert callable(call)
    thread = threading.Thread(target=lambda: got.append(call()))
    thread.start()
    thread.join()
    return got


def test_only_the_thread_that_a_ring_belongs_to_may_submit() -> None:
    with Core() as core:
        ring = Ring(core, 8, flags=int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN))
        assert elsewhere(lambda: returned(lambda: ring.enter(1))) == [-errno.EEXIST]
        assert elsewhere(lambda: returned(lambda: ring.enter(0, 0, GETEVENTS))) == [-errno.EEXIST]
        assert elsewhere(lambda: returned(ring.unregister_files)) == [-errno.EEXIST]
        ring.close()
        disabled = Ring(core, 8, flags=int(SetupFlags.SINGLE_ISSUER | SetupFlags.R_DISABLED))
        enable = RegisterOp.REGISTER_ENABLE_RINGS
        assert elsewhere(lambda: disabled.register(enable)) == [0]
        assert returned(lambda: disabled.enter(1)) == -errno.EEXIST
        disabled.close()


def test_a_ring_is_mapped_at_io_urings_offsets() -> None:
    with Core() as core:
        ring = Ring(core, 4)
        memory = ring.memory.fd
        assert ring.mmap(MmapOffset.SQES) == (memory, 4096, 4 * 64)
        assert ring.mmap(MmapOffset.SQ_RING)[:2] == ring.mmap(MmapOffset.CQ_RING)[:2] == (memory, 0)
        for nothing in (MmapOffset.PBUF_RING, 0x20000000):
            with pytest.raises(KernelError) as refused:
                ring.mmap(nothing)
            assert refused.value.errno == errno.ENOMEM
        ring.close()


def test_a_buffer_ring_in_the_kernels_memory_is_mapped_by_the_client() -> None:
    with Bench() as bench:
        ring = bench.ring
        reg = ffi.new("struct io_uring_buf_reg *", {"ring_entries": 8, "bgid": 3, "flags": 1})
        assert ring.register(RegisterOp.REGISTER_PBUF_RING, reg, 1) == 0
        fd, at, length = ring.mmap(MmapOffset.PBUF_RING | 3 << 16)
        assert at == 0
        with mmap.mmap(fd, length) as buffers:
            struct.pack_into("=QIH", buffers, 0, buffer_address(5), MESSAGE, 5)
            struct.pack_into("=H", buffers, 14, 1)
        bench.queue.report()
        assert ring.run(bench.read_multishot(1, buf_group=3)) == [Cqe(1, MESSAGE, 5 << 16 | 1 | MORE)]
        assert ring.run(cancel(2, 1))[0] == Cqe(2, 0, 0)


def test_workers_are_shared_only_with_a_ring() -> None:
    with Bench() as bench:
        own = bench.ring.fd
        for fd, flags, result in (
            (own, 0, 0),
            (999, 0, -errno.ENXIO),
            (bench.queue.fd, 0, -errno.EINVAL),
            (own, int(SetupFlags.SQPOLL), -errno.EINVAL),
        ):
            p = ffi.new("struct io_uring_params *", {"flags": int(SetupFlags.ATTACH_WQ) | flags, "wq_fd": fd})
            assert returned(lambda: KernelRing(bench.core, 4, params=p).close()) == result  # noqa: B023


@pytest.mark.parametrize(
    ("flags", "fields", "error"),
    [
        (SetupFlags.NO_MMAP, {}, errno.EFAULT),
        (SetupFlags.NO_MMAP, {"sq_off": {"user_addr": 8}}, errno.EINVAL),
        (SetupFlags.REGISTERED_FD_ONLY, {}, errno.EINVAL),
        (SetupFlags.REGISTERED_FD_ONLY | SetupFlags.NO_MMAP, {}, errno.EFAULT),
        (SetupFlags.SQ_AFF, {}, errno.EINVAL),
        (SetupFlags.SQ_AFF | SetupFlags.SQPOLL, {"sq_thread_cpu": 100_000}, errno.EINVAL),
        (SetupFlags.SQPOLL | SetupFlags.COOP_TASKRUN, {}, errno.EINVAL),
        (0, {"resv": [0, 1, 0]}, errno.EINVAL),
    ],
    ids=str,
)
def test_what_makes_no_sense_here_has_its_errno(flags: int, fields: dict[str, object], error: int) -> None:
    with Core() as core:
        params = ffi.new("struct io_uring_params *", {"flags": int(flags)} | fields)
        assert returned(lambda: KernelRing(core, 4, params=params).close()) == -error


def test_a_polled_ring_refuses_what_cannot_be_polled() -> None:
    with Bench(flags=int(SetupFlags.IOPOLL)) as bench:
        ring = bench.ring
        assert ring.run(nop(1)) == [Cqe(1, 0, 0)]
        assert ring.run(bench.poll(1)) == [failed(1, errno.EINVAL)]
        assert ring.run(bench.read(1)) == [failed(1, errno.EOPNOTSUPP)]
        assert ring.enter(0, 1, GETEVENTS) == 0


def test_a_selected_buffer_of_a_classic_group_goes_with_the_read() -> None:
    with Bench() as bench:
        ring = bench.ring
        give = Sqe(Op.PROVIDE_BUFFERS, fd=1, addr=data_address(3), len=MESSAGE, off=7, buf_group=2, user_data=9)
        assert ring.run(give) == [Cqe(9, 0, 0)]
        assert ring.run(bench.read_select(1, buf_group=2)) == []
        assert ring.run(bench.read_select(2, buf_group=2)) == [failed(2, errno.ENOBUFS)]
        bench.queue.report()
        assert ring.run() == [Cqe(1, MESSAGE, 7 << 16 | 1)]
        assert group_of(bench.arena.read(data_address(3), MESSAGE)) == 0


def test_a_least_that_is_left_decides_when_an_incremental_buffer_is_done_with() -> None:
    with Bench() as bench:
        ring = bench.ring
        incremental = PbufRingFlags.INC
        buffers = BufferRing(ring, 0, 8, bench.arena, ARENA_ADDRESS, flags=incremental, min_left=MESSAGE)
        for bid in (4, 5):
            buffers.provide(bid, buffer_address(bid), 2 * MESSAGE + 8)
        flags = []
        for _ in range(3):
            bench.queue.report()
            flags += [cqe.flags for cqe in ring.run(bench.read_select(1, len=MESSAGE))]
        assert flags == [4 << 16 | 1 | CqeFlags.F_BUF_MORE, 4 << 16 | 1, 5 << 16 | 1 | CqeFlags.F_BUF_MORE]
