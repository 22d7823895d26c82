"""The ring engine on an inline core, held to what a running kernel's io_uring was seen to do.

The file is a fault queue's: ``proposed``, which answers as a pipe or a packet socket does, stands where those stood in
the observations (Linux 6.18, where it agrees with the sources of 6.12, our base); ``merged`` is held to the table
measured on the real fault file of Linux 7.2. Groups of faults are numbered 0, 1, 2 … in the order of their reports.
"""

import errno
import os
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pytest

from tests.bench import (
    ARENA_ADDRESS,
    GETEVENTS,
    MERGED,
    MESSAGE,
    POLLIN,
    POLLOUT,
    POLLRDNORM,
    PROPOSED,
    RESPONSE,
    Arena,
    Bench,
    Queue,
    bad,
    buffer_address,
    cancel,
    data_address,
    group_of,
    inject,
    nop,
    returned,
)
from tests.rings.host import refusal
from uring_iopf._core import ffi, lib
from uring_iopf.abi import AsyncCancelFlags, CqeFlags, EnterFlags, Op, RegisterOp, SetupFlags, SqeFlags
from uring_iopf.abi.iommufd import FaultPerm
from uring_iopf.core import Core, Driver
from uring_iopf.errors import KernelError
from uring_iopf.hardware.endpoint import Endpoint
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import Context, Personality
from uring_iopf.rings import Cqe, Ring, Sqe, Window

MORE, BUFFER = CqeFlags.F_MORE, CqeFlags.F_BUFFER
SELECT, SKIP, FIXED, ASYNC = (
    SqeFlags.BUFFER_SELECT,
    SqeFlags.CQE_SKIP_SUCCESS,
    SqeFlags.FIXED_FILE,
    SqeFlags.ASYNC,
)
ALL, BY_FD, ANY, FD_FIXED, USERDATA, BY_OP = (
    AsyncCancelFlags.ALL,
    AsyncCancelFlags.FD,
    AsyncCancelFlags.ANY,
    AsyncCancelFlags.FD_FIXED,
    AsyncCancelFlags.USERDATA,
    AsyncCancelFlags.OP,
)
KERNEL_ADDRESS: Final = 0xFFFF_8000_0000_0000
TASK_SIZE: Final = 0x7FFF_FFFF_F000
CQ_OVERFLOW, EVENTFD_DISABLED = 2, 1


def buffer(bid: int, *more: int) -> int:
    """The flags of a CQE that reports buffer *bid*."""
    return bid << 16 | BUFFER | sum(more)


def users(cqes: Sequence[Cqe]) -> list[int]:
    return [cqe.user_data for cqe in cqes]


def done(user_data: int, res: int = MESSAGE, flags: int = 0) -> Cqe:
    return Cqe(user_data, res, flags)


def failed(user_data: int, error: int) -> Cqe:
    return Cqe(user_data, -error, 0)


# ---- what is refused, and when -------------------------------------------------------------------

INIT, ISSUE = "before it starts", "when it is started"


@dataclass(frozen=True)
class Refusal:
    """One SQE, whose `fd` is the file's unless it is named, and what becomes of it."""

    name: str
    op: Op | int
    fields: dict[str, int]
    error: int  # 0: accepted
    when: str = INIT
    res: int | None = 0  # of an accepted one; None: it waits

    @property
    def id(self) -> str:
        return f"{self.op.name if isinstance(self.op, Op) else self.op}-{self.name}".replace(" ", "_")


READ_FIELDS: Final = {"addr": data_address(1), "len": MESSAGE}
MULTISHOT_FIELDS: Final = {"flags": int(SELECT)}
GOOD: Final[dict[Op, dict[str, int]]] = {
    Op.NOP: {},
    Op.READ: READ_FIELDS,
    Op.WRITE: {"addr": data_address(1), "len": 0},
    Op.READ_MULTISHOT: MULTISHOT_FIELDS,
    Op.POLL_ADD: {"op_flags": POLLIN},
    Op.ASYNC_CANCEL: {},
}
WAITS: Final[dict[Op, int | None]] = {
    Op.NOP: 0,
    Op.READ: None,
    Op.WRITE: 0,
    Op.READ_MULTISHOT: None,
    Op.POLL_ADD: None,
    Op.ASYNC_CANCEL: -errno.ENOENT,
}
OPS: Final = tuple(GOOD)
EINVAL, EFAULT, EBADF, EOPNOTSUPP, ENOENT, ENOBUFS, ECANCELED, ESPIPE, EAGAIN = (
    errno.EINVAL,
    errno.EFAULT,
    errno.EBADF,
    errno.EOPNOTSUPP,
    errno.ENOENT,
    errno.ENOBUFS,
    errno.ECANCELED,
    errno.ESPIPE,
    errno.EAGAIN,
)


def refusals() -> list[Refusal]:
    cases = []

    def case(name: str, op: Op | int, error: int, when: str = INIT, res: int | None = 0, **fields: int) -> None:
        add(name, op, error, when, res, fields)

    def add(name: str, op: Op | int, error: int, when: str, res: int | None, fields: dict[str, int]) -> None:
        base = GOOD.get(op, {}) if isinstance(op, Op) else {}
        cases.append(Refusal(name, op, base | fields, error, when, res))

    def accepted(name: str, op: Op, **fields: int) -> None:
        add(name, op, 0, INIT, WAITS[op], fields)

    for op in OPS:
        accepted("as it is", op)
        case("unknown flag", op, EINVAL, flags=0x80)
        case("personality", op, EINVAL, personality=1)
        case("ioprio 1", op, EINVAL, ioprio=1)
        case("ioprio 0xffff", op, EINVAL, ioprio=0xFFFF)
        accepted("addr3", op, addr3=1)
        for ioprio in (0x2000, 0x4000, 0x4004, 0x6000, 8):
            if op in (Op.READ, Op.WRITE):
                accepted(f"ioprio {ioprio:#x}", op, ioprio=ioprio)
            else:
                case(f"ioprio {ioprio:#x}", op, EINVAL, ioprio=ioprio)
        if op in (Op.NOP, Op.WRITE, Op.POLL_ADD, Op.ASYNC_CANCEL):
            case("buffer select", op, EOPNOTSUPP, flags=int(SELECT))
        if op in (Op.NOP, Op.ASYNC_CANCEL):
            accepted("no file", op, fd=-1)
            accepted("fixed file", op, flags=int(FIXED))
        else:
            for fd in (-1, 2, 999, 9999, 2**31 - 1, -(2**31)):
                case(f"fd {fd}", op, EBADF, ISSUE, fd=fd)
            case("fixed file", op, EBADF, ISSUE, fd=0, flags=GOOD[op].get("flags", 0) | int(FIXED))
    for opcode in (65, 128, 255):
        case("no such operation", opcode, EINVAL)
        case("no such operation, and an unknown flag", opcode, EINVAL, flags=0x80)
    case("select, priority and personality", Op.NOP, EOPNOTSUPP, flags=int(SELECT), ioprio=1, personality=1)

    for flag in (2, 4, 8, 16, 32, 64, 1 << 31, 17):  # after 6.12
        case(f"flags {flag:#x}", Op.NOP, EINVAL, op_flags=flag, len=7)
    case("injected result", Op.NOP, 0, op_flags=1, len=7, res=7)
    case("injected error", Op.NOP, 0, op_flags=1, len=2**32 - 5, res=-5)
    accepted("everything else", Op.NOP, off=5, addr=5, len=5, buf_group=1, file_index=1, pad2=1)

    for op in (Op.READ, Op.WRITE):
        accepted("buffer index", op, buf_group=1)
        accepted("offset -1", op, off=-1)
        case("offset 1", op, ESPIPE, ISSUE, off=1)
        case("offset -2", op, EINVAL, ISSUE, off=-2)
        case("offset at the end", op, ESPIPE if op is Op.WRITE else EINVAL, ISSUE, off=2**63 - 1)
        case("kernel address", op, EFAULT, addr=KERNEL_ADDRESS)
        case("kernel address, nothing to move", op, EFAULT, addr=KERNEL_ADDRESS, len=0)
        case("over the end of user space", op, EFAULT, addr=TASK_SIZE - 8, len=16)
        case("kernel address, and a bad file", op, EFAULT, addr=KERNEL_ADDRESS, fd=-1)
        case("bad address, and a bad file", op, EBADF, ISSUE, addr=8, fd=-1)
        case("nothing to move", op, 0, addr=0, len=0)
    case("nowhere", Op.WRITE, EFAULT, ISSUE, addr=0, len=RESPONSE)
    case("half beside the window", Op.WRITE, EFAULT, ISSUE, addr=ARENA_ADDRESS - 4, len=RESPONSE)
    accepted("nowhere", Op.READ, addr=0)
    case("an odd length", Op.READ, ESPIPE, ISSUE, len=MESSAGE + 1)
    for op in (Op.READ, Op.WRITE, Op.READ_MULTISHOT):
        for flag, error in ((1, EINVAL), (0x30, EINVAL), (0x40, EOPNOTSUPP), (0x41, EOPNOTSUPP), (0x80, EOPNOTSUPP)):
            case(f"rw_flags {flag:#x}", op, error, ISSUE, op_flags=flag)
        case("all rw_flags", op, EOPNOTSUPP, ISSUE, op_flags=-1)
        case("bad rw_flags, and a bad file", op, EBADF, ISSUE, op_flags=0x40, fd=-1)
        for flag in (2, 4, 0x10, 0x20):
            accepted(f"rw_flags {flag:#x}", op, op_flags=flag)
    for op in (Op.READ, Op.READ_MULTISHOT):
        case("not to wait", op, EAGAIN, ISSUE, op_flags=8)

    case("no buffer select", Op.READ_MULTISHOT, EINVAL, flags=0)
    case("address", Op.READ_MULTISHOT, EINVAL, addr=1)
    case("length", Op.READ_MULTISHOT, EINVAL, len=1)
    case("length, and a bad file", Op.READ_MULTISHOT, EINVAL, len=1, fd=-1)
    case("kernel address", Op.READ_MULTISHOT, EINVAL, addr=KERNEL_ADDRESS)
    for op in (Op.READ, Op.READ_MULTISHOT):
        select = {"flags": int(SELECT), "len": 0, "addr": 0, "buf_group": 9}
        add("no such buffers", op, ENOBUFS, ISSUE, 0, select)
        add("no such buffers, and a bad file", op, EBADF, ISSUE, 0, select | {"fd": -1})
        add("no such buffers, and bad rw_flags", op, ENOBUFS, ISSUE, 0, select | {"op_flags": 0x40})
        case("select and an address", op, EINVAL if op is Op.READ_MULTISHOT else 0, res=None, flags=int(SELECT), addr=8)

    for name, value in (("off", 5), ("addr", 1), ("buf_group", 1)):
        add(name, Op.POLL_ADD, EINVAL, INIT, 0, {name: value})
    for flag in (2, 3, 4, 8, 9, 16, 32, 1 << 31):
        case(f"len {flag:#x}", Op.POLL_ADD, EINVAL, len=flag)
    case("multishot and skip", Op.POLL_ADD, EINVAL, len=1, flags=int(SKIP))
    case("ready", Op.POLL_ADD, 0, res=POLLOUT, op_flags=POLLOUT)
    case("ready, multishot but only once", Op.POLL_ADD, 0, res=POLLOUT, op_flags=POLLOUT | 1 << 30, len=1)
    accepted("nothing asked for", Op.POLL_ADD, op_flags=0)
    accepted("exclusively", Op.POLL_ADD, op_flags=POLLIN | 1 << 28)
    accepted("file index", Op.POLL_ADD, file_index=1)

    case("off", Op.ASYNC_CANCEL, EINVAL, off=5)
    case("file index", Op.ASYNC_CANCEL, EINVAL, file_index=1)
    case("off, and a bad file", Op.ASYNC_CANCEL, EINVAL, off=5, fd=-1, op_flags=int(BY_FD))
    for flags in (0, 8, 16, 32, 48):
        case(f"nothing matches {flags}", Op.ASYNC_CANCEL, ENOENT, ISSUE, fd=-1, op_flags=flags)
    for flags in (1, 4, 5, 9, 12, 17, 20, 21, 33, 49):
        case(f"nothing matches {flags}", Op.ASYNC_CANCEL, 0, fd=-1, op_flags=flags)
    for flags in (2, 18, 34, 50):
        case(f"no file {flags}", Op.ASYNC_CANCEL, EBADF, ISSUE, fd=999, op_flags=flags)
        case(f"a file without requests {flags}", Op.ASYNC_CANCEL, ENOENT, ISSUE, op_flags=flags)
    for flags in (3, 19, 35, 51):
        case(f"no file {flags}", Op.ASYNC_CANCEL, EBADF, ISSUE, fd=999, op_flags=flags)
        case(f"a file without requests {flags}", Op.ASYNC_CANCEL, 0, op_flags=flags)
    for flags in (10, 11):
        case(f"fixed file {flags}", Op.ASYNC_CANCEL, EBADF, ISSUE, op_flags=flags)
    for flags in (6, 7, 36, 37, 64, 65, 1 << 31):
        case(f"no such combination {flags:#x}", Op.ASYNC_CANCEL, EINVAL, op_flags=flags)
    return cases


@pytest.mark.parametrize("case", refusals(), ids=lambda case: case.id)
def test_an_sqe_is_checked_as_linux_does(case: Refusal) -> None:
    with Bench(PROPOSED) as bench:
        ring = bench.ring
        bench.buffers(0).give(1)
        sqe = Sqe(case.op, **({"fd": bench.queue.fd, "user_data": 5} | case.fields))
        ring.push(sqe, nop(6))
        # An error before the start ends the batch, one at the start does not. What a file says to a write comes by task
        # work, behind the batch; what is found out before the file is asked does not.
        ends_batch = case.error != 0 and case.when == INIT
        by_task_work = case.op is Op.WRITE and case.when == ISSUE and case.error in (ESPIPE, EFAULT)
        assert ring.enter(2, 0, GETEVENTS) == (1 if ends_batch else 2)
        expected = []
        if case.error:
            expected.append(failed(5, case.error))
        elif case.res is not None:
            expected.append(done(5, case.res))
        behind = [] if ends_batch else [done(6, 0)]
        assert ring.reap() == (behind + expected if by_task_work else expected + behind)
        assert ring.pending() == (1 if not case.error and case.res is None else 0)
        if ends_batch:
            assert ring.enter(1, 0, GETEVENTS) == 1
            assert ring.reap() == [done(6, 0)]


def test_an_unmapped_address_is_found_out_by_data_which_stays() -> None:
    with Bench() as bench:
        assert bench.ring.run(bench.read(1, addr=8)) == []
        bench.queue.report()
        assert bench.ring.run() == [failed(1, EFAULT)]
        assert bench.queue.waiting() == 1


# ---- enter ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    name: str
    sqes: Sequence[Sqe]
    enters: Sequence[tuple[int, Sequence[int]]]  # for each enter that asks for all: it returns, user_data completed
    setup: int = 0
    slots: Sequence[int] | None = None
    dropped: int = 0


FAR: Final = 99
BATCHES: Final = [
    Batch("a bad one ends it", [nop(1), bad(2), nop(3), nop(4)], [(2, [1, 2]), (2, [3, 4])]),
    Batch("unless all are to be submitted", [nop(1), bad(2), nop(3), nop(4)], [(4, [1, 2, 3, 4])], 0x80),
    Batch("bad ones first", [bad(1), bad(2), nop(3)], [(1, [1]), (1, [2]), (1, [3])]),
    Batch("a bad one last", [nop(1), bad(2)], [(2, [1, 2])]),
    Batch("errors later do not end it", [nop(1), Sqe(Op.READ, fd=-1, user_data=2), nop(3)], [(3, [1, 2, 3])]),
    Batch("a bad index", [nop(1), nop(2), nop(3), nop(4)], [(1, [1]), (2, [3, 4])], 0, [0, FAR, 2, 3], 1),
    Batch(
        "a bad index, all",
        [nop(1), nop(2), nop(3), nop(4)],
        [(1, [1]), (2, [3, 4])],
        0x80,
        [0, FAR, 2, 3],
        1,
    ),
    Batch("a bad index first", [nop(1), nop(2)], [(0, []), (1, [2])], 0, [8, 1], 1),
    Batch("only bad indices", [nop(1), nop(2)], [(0, []), (0, []), (0, [])], 0, [8, 2**32 - 1], 2),
    Batch("indices in any order", [nop(1), nop(2), nop(3)], [(3, [3, 3, 1])], 0, [2, 2, 0]),
    Batch("no array", [nop(1), bad(2), nop(3)], [(2, [1, 2]), (1, [3])], int(SetupFlags.NO_SQARRAY)),
]


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch.name.replace(" ", "_"))
def test_a_batch_is_submitted_as_linux_does(batch: Batch) -> None:
    with Bench(flags=batch.setup) as bench:
        ring = bench.ring
        ring.push(*batch.sqes, slots=batch.slots)
        left = len(batch.sqes)
        for returned, completed in batch.enters:
            before = ring.word("sq_head")
            assert ring.enter(left, 0, GETEVENTS) == returned
            assert users(ring.reap()) == completed
            left -= ring.word("sq_head") - before
        assert left == 0
        assert ring.word("sq_dropped") == batch.dropped


def test_to_submit_beyond_what_is_there_returns_the_count_without_waiting() -> None:
    with Bench() as bench:
        bench.ring.push(nop(1))
        assert bench.ring.enter(5, 3, GETEVENTS) == 1
        assert bench.ring.enter(5, 1, GETEVENTS) == 0


def test_a_tail_beyond_the_entries_submits_no_more_than_there_are() -> None:
    with Bench(entries=4) as bench:
        bench.ring.push(nop(1), nop(2), nop(3), nop(4))
        bench.ring.store("sq_tail", 10)
        assert bench.ring.enter(100) == 4
        assert bench.ring.enter(100) == 4
        assert bench.ring.enter(100) == 2
        assert bench.ring.word("sq_head") == 10


@pytest.mark.parametrize("flag", [256, 512, 1 << 31])
def test_an_unknown_enter_flag_consumes_nothing(flag: int) -> None:
    with Bench() as bench:
        bench.ring.push(nop(1))
        assert returned(lambda: bench.ring.enter(1, 0, flag | GETEVENTS)) == -EINVAL
        assert bench.ring.word("sq_head") == 0


@pytest.mark.parametrize(("min_complete", "flags"), [(0, GETEVENTS), (0, 0), (5, 0)])
def test_an_enter_with_nothing_to_do_returns_0(min_complete: int, flags: int) -> None:
    with Bench() as bench:
        assert bench.ring.enter(0, min_complete, flags) == 0


def test_min_complete_is_cut_to_the_queue() -> None:
    with Bench(entries=4, cq_entries=8) as bench:
        for _ in range(2):
            bench.ring.submit(*(nop(i) for i in range(4)))
        assert bench.ring.enter(0, 1000, GETEVENTS) == 0


def test_a_wait_that_times_out_says_so_only_with_an_empty_queue() -> None:
    with Bench(live=True) as bench:
        wait = GETEVENTS | EnterFlags.EXT_ARG
        bench.ring.submit(bench.read(1))
        bench.core.start_worker(Driver.ENTER, idle_ns=0)
        assert returned(lambda: bench.ring.enter(0, 1, wait, timeout_ns=0)) == -errno.ETIME
        assert returned(lambda: bench.ring.enter(0, 1, wait, timeout_ns=3_000_000)) == -errno.ETIME
        bench.ring.push(nop(2))
        assert bench.ring.enter(1, 2, wait, timeout_ns=1_000_000) == 1
        assert bench.ring.enter(0, 3, wait, timeout_ns=1_000_000) == 0
        assert users(bench.ring.reap()) == [2]
        bench.core.stop_worker()


def test_an_inline_wait_for_what_cannot_come_is_an_error() -> None:
    with Bench() as bench:
        bench.ring.submit(bench.read(1))
        assert returned(lambda: bench.ring.enter(0, 1, GETEVENTS)) == -errno.EDEADLK


@pytest.mark.parametrize("flag", [EnterFlags.SQ_WAKEUP, EnterFlags.SQ_WAIT])
def test_flags_for_a_polling_thread_are_ignored_without_one(flag: int) -> None:
    with Bench() as bench:
        bench.ring.push(nop(1))
        assert bench.ring.enter(1, 0, flag) == 1


# ---- setup ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "cq_entries", "flags", "expected"),
    [
        (1, 0, 0, (1, 2)),
        (5, 0, 0, (8, 16)),
        (8, 9, 0, (8, 16)),
        (32768, 0, 0, (32768, 65536)),
        (40000, 0, SetupFlags.CLAMP, (32768, 65536)),
        (4, 100_000, SetupFlags.CLAMP, (4, 65536)),
        (0, 0, 0, None),
        (32769, 0, 0, None),
        (8, 4, 0, None),
        (8, 65537, 0, None),
        (8, 0, SetupFlags.CQSIZE, None),
        (8, 0, 1 << 31, None),
    ],
)
def test_sizes_are_rounded_and_checked(
    entries: int, cq_entries: int, flags: int, expected: tuple[int, int] | None
) -> None:
    with Core() as core:
        if expected is None:
            with pytest.raises(KernelError, match="setup") as caught:
                Ring(core, entries, cq_entries=cq_entries, flags=flags)
            assert caught.value.errno == EINVAL
        else:
            ring = Ring(core, entries, cq_entries=cq_entries, flags=flags)
            assert (ring.sq_entries, ring.cq_entries) == expected
            ring.close()


# ---- reads posted ahead --------------------------------------------------------------------------


@dataclass(frozen=True)
class Posted:
    """Reads posted one enter each, then one fault at a time."""

    reads: int
    order: Sequence[int]
    cancelled: int = 0


@pytest.mark.parametrize("nonblock", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        Posted(2, [2, 1]),
        Posted(3, [3, 1, 2]),
        Posted(5, [5, 1, 4, 2, 3]),
        Posted(5, [5, 1, 4, 2], cancelled=3),
    ],
    ids=lambda case: f"{case.reads}-{case.cancelled}",
)
def test_the_newest_read_is_served_and_the_others_change_places(case: Posted, nonblock: bool) -> None:
    with Bench(nonblock=nonblock) as bench:
        for i in range(case.reads):
            assert bench.ring.run(bench.read(i + 1)) == []
        if case.cancelled:
            assert bench.ring.run(cancel(90, case.cancelled)) == [
                done(90, 0),
                failed(case.cancelled, ECANCELED),
            ]
        served = []
        for _ in case.order:
            bench.queue.report()
            cqes = bench.ring.run()
            assert [cqe.res for cqe in cqes] == [MESSAGE]
            served += bench.groups(cqes)
        assert served == [(user, group) for group, user in enumerate(case.order)]


@pytest.mark.parametrize("at_once", [2, 3])
def test_faults_that_came_together_are_served_newest_read_first(at_once: int) -> None:
    with Bench() as bench:
        bench.ring.submit(*(bench.read(i) for i in (1, 2, 3)))
        bench.queue.report(at_once)
        assert bench.groups(bench.ring.run()) == [(3, 0), (2, 1), (1, 2)][:at_once]


def test_a_new_read_in_a_batch_takes_what_older_ones_were_woken_for() -> None:
    with Bench() as bench:
        assert bench.ring.run(bench.read(1)) == []
        bench.queue.report()
        assert users(bench.ring.run(bench.read(2))) == [2]
        bench.queue.report()
        assert users(bench.ring.run()) == [1]


def test_the_newest_stays_the_first_after_others_have_completed() -> None:
    with Bench() as bench:
        bench.ring.submit(*(bench.read(i) for i in (1, 2, 3)))
        served = []
        for newer in (4, 5, None, None):
            bench.queue.report()
            served += users(bench.ring.run())
            if newer:
                bench.ring.run(bench.read(newer))
        assert served == [3, 4, 5, 1]


def test_polls_report_although_a_read_has_taken_the_fault() -> None:
    with Bench() as bench:
        for sqe in (bench.poll(1, len=1), bench.poll(6, len=1), bench.read(8)):
            assert bench.ring.run(sqe) == []
        bench.queue.report()
        assert bench.ring.run() == [done(8), done(6, POLLIN, MORE), done(1, POLLIN, MORE)]


def test_a_multishot_read_keeps_its_place_among_others() -> None:
    with Bench() as bench:
        bench.buffers(0).give(0, 1)
        bench.ring.run(bench.read_multishot(1))
        for i in (10, 11, 12):
            bench.ring.run(bench.read(i))
        served = []
        for _ in range(4):
            bench.queue.report()
            served += users(bench.ring.run())
        assert served == [12, 10, 11, 1]


def test_a_short_buffer_stops_at_whole_groups() -> None:
    with Bench() as bench:
        bench.queue.report(3)
        assert bench.ring.run(bench.read(1, len=2 * MESSAGE)) == [done(1, 2 * MESSAGE)]
        bench.queue.report(1, pages=3)
        assert bench.ring.run(bench.read(2, len=3 * MESSAGE)) == [done(2, MESSAGE)]
        assert bench.ring.run(bench.read(3, len=2 * MESSAGE)) == [failed(3, EINVAL)]
        assert bench.ring.run(bench.read(4, len=3 * MESSAGE)) == [done(4, 3 * MESSAGE)]


def test_a_read_of_nothing_completes_at_once_and_takes_nothing() -> None:
    """A group that waits does not fit into 0 bytes. Linux's own file is not called for 0 bytes (loop_rw_iter)."""
    with Bench() as bench:
        assert bench.ring.run(bench.read(1, len=0)) == [done(1, 0)]
        bench.queue.report()
        assert bench.ring.run(bench.read(2, len=0)) == [failed(2, EINVAL)]
        assert bench.queue.waiting() == 1
    with Bench(personality=MERGED, nonblock=True) as bench:
        bench.queue.report()
        assert bench.ring.run(bench.read(1, len=0)) == [done(1, 0)]
        assert bench.queue.waiting() == 1


def test_a_request_keeps_the_file_when_its_descriptor_goes() -> None:
    with Bench() as bench:
        bench.ring.run(bench.read(1))
        lib.uiopf_core_uninstall(bench.core.c, bench.queue.fd, ffi.NULL)
        assert bench.ring.run(bench.read(2)) == [failed(2, EBADF)]
        assert lib.uiopf_faultq_free(bench.queue.c) == -errno.EBUSY
        bench.queue.report()
        assert bench.ring.run() == [done(1)]


def test_fruitless_wakes_end_a_read_only_of_a_file_that_may_not_block() -> None:
    for nonblock in (False, True):
        with Bench(nonblock=nonblock) as bench:
            bench.ring.run(bench.read(1))
            for i in range(126):
                bench.queue.report()
                assert users(bench.ring.run(bench.read(2))) == [2], i
            bench.queue.report()
            last = bench.ring.run(bench.read(2))
            assert last == ([done(2), failed(1, EAGAIN)] if nonblock else [done(2)])


# ---- multishot reads and buffers -----------------------------------------------------------------


def multishot_bench(*buffers: int, live: bool = False, entries: int = 8, cq_entries: int = 0) -> Bench:
    bench = Bench(live=live, entries=entries, cq_entries=cq_entries)
    bench.buffers(0).give(*buffers)
    return bench


def test_a_multishot_read_posts_the_first_in_its_place_and_the_rest_behind_the_batch() -> None:
    with multishot_bench(0, 1, 2, 3) as bench:
        bench.queue.report(3)
        cqes = bench.ring.run(nop(8), bench.read_multishot(1), nop(9))
        message = [done(1, MESSAGE, buffer(i, MORE)) for i in range(3)]
        assert cqes == [done(8, 0), message[0], done(9, 0), *message[1:]]
        for i in range(3):
            assert group_of(bench.arena.read(buffer_address(i), MESSAGE)) == i
        assert bench.ring.pending() == 1


def test_a_read_behind_it_takes_what_a_multishot_was_woken_for() -> None:
    with multishot_bench(0, 1) as bench:
        bench.queue.report(2)
        cqes = bench.ring.run(bench.read_multishot(1), bench.read(2), nop(3))
        assert cqes == [done(1, MESSAGE, buffer(0, MORE)), done(2), done(3, 0)]
        assert bench.ring.pending() == 1


def test_a_multishot_that_runs_out_of_buffers_ends_and_loses_nothing() -> None:
    with multishot_bench(0, 1) as bench:
        bench.ring.run(bench.read_multishot(1))
        bench.queue.report(3)
        served = [done(1, MESSAGE, buffer(i, MORE)) for i in range(2)]
        assert bench.ring.run() == [*served, failed(1, ENOBUFS)]
        bench.buffers(0).give(2)
        assert bench.ring.run() == []  # buffers alone do nothing
        assert bench.ring.run(bench.read_multishot(4)) == [done(4, MESSAGE, buffer(2, MORE))]


def test_exactly_as_many_buffers_as_messages_are_enough() -> None:
    with multishot_bench(0, 1) as bench:
        bench.queue.report(2)
        served = [done(1, MESSAGE, buffer(i, MORE)) for i in range(2)]
        assert bench.ring.run(bench.read_multishot(1)) == served
        assert bench.ring.run() == []
        bench.queue.report()
        assert bench.ring.run() == [failed(1, ENOBUFS)]
        assert bench.queue.waiting() == 1


@pytest.mark.parametrize("faults", [0, 1])
def test_a_multishot_without_buffers_ends_in_its_place(faults: int) -> None:
    with multishot_bench() as bench:
        bench.queue.report(faults)
        cqes = bench.ring.run(nop(8), bench.read_multishot(1), nop(9))
        assert cqes == [done(8, 0), failed(1, ENOBUFS), done(9, 0)]


def test_buffers_that_are_unregistered_end_it_at_the_next_message() -> None:
    with multishot_bench(0, 1) as bench:
        bench.ring.run(bench.read_multishot(1))
        bench.buffers(0).unregister()
        assert returned(bench.buffers(0).unregister) == -ENOENT
        assert bench.ring.run() == []
        bench.queue.report()
        assert bench.ring.run() == [failed(1, ENOBUFS)]


def test_of_two_multishots_the_newest_wins_and_the_other_wants_a_buffer_too() -> None:
    with multishot_bench(0, 1, 2) as bench:
        bench.ring.run(bench.read_multishot(1))
        bench.ring.run(bench.read_multishot(2))
        for i in range(2):
            bench.queue.report()
            assert bench.ring.run() == [done(2, MESSAGE, buffer(i, MORE))]
        bench.queue.report()
        assert bench.ring.run() == [done(2, MESSAGE, buffer(2, MORE)), failed(1, ENOBUFS)]


def test_a_buffer_too_small_ends_a_multishot_and_is_not_taken() -> None:
    with multishot_bench() as bench:
        bench.buffers(0).give(3, length=MESSAGE)
        bench.queue.report(1, pages=2)
        assert bench.ring.run(bench.read_multishot(1)) == [failed(1, EINVAL)]
        bench.queue.report()
        assert bench.queue.read(3 * MESSAGE) != 0
        bench.queue.report()
        assert bench.ring.run(bench.read_multishot(2)) == [done(2, MESSAGE, buffer(3, MORE))]


def test_a_buffer_where_no_memory_is_ends_a_multishot_when_data_comes() -> None:
    with multishot_bench() as bench:
        bench.buffers(0).give(3, address=0x1000)
        assert bench.ring.run(bench.read_multishot(1)) == []
        bench.queue.report()
        assert bench.ring.run() == [failed(1, EFAULT)]
        assert bench.queue.waiting() == 1


def test_a_cancelled_multishot_has_taken_no_buffer() -> None:
    with multishot_bench(5) as bench:
        bench.ring.run(bench.read_multishot(1))
        assert bench.ring.run(cancel(9, 1)) == [done(9, 0), failed(1, ECANCELED)]
        bench.queue.report()
        assert bench.ring.run(bench.read_multishot(2)) == [done(2, MESSAGE, buffer(5, MORE))]


@pytest.mark.parametrize(("length", "buffer_length", "res"), [(0, 40, 40), (100, 40, 40), (40, 64, 40), (100, 80, 80)])
def test_a_selected_read_moves_the_smaller_of_request_and_buffer(length: int, buffer_length: int, res: int) -> None:
    with multishot_bench() as bench:
        bench.buffers(0).give(7, length=buffer_length)
        assert bench.ring.run(bench.read_select(1, len=length)) == []
        bench.queue.report(2)
        assert bench.ring.run() == [done(1, res, buffer(7))]


def test_of_two_selected_reads_the_loser_of_the_last_buffer_ends() -> None:
    with multishot_bench(4) as bench:
        bench.ring.run(bench.read_select(1))
        bench.ring.run(bench.read_select(2))
        bench.queue.report()
        assert bench.ring.run() == [done(2, MESSAGE, buffer(4)), failed(1, ENOBUFS)]


def test_a_selected_read_without_a_buffer_does_not_wait() -> None:
    with multishot_bench() as bench:
        assert bench.ring.run(bench.read_select(1)) == [failed(1, ENOBUFS)]


def test_a_cancelled_selected_read_has_taken_no_buffer() -> None:
    with multishot_bench(4) as bench:
        bench.ring.run(bench.read_select(1))
        assert bench.ring.run(cancel(9, 1)) == [done(9, 0), failed(1, ECANCELED)]
        bench.queue.report()
        assert bench.ring.run(bench.read_select(2)) == [done(2, MESSAGE, buffer(4))]


def test_the_ring_of_buffers_wraps() -> None:
    with multishot_bench(*range(8)) as bench:
        bench.ring.run(bench.read_multishot(1))
        for i in range(100):
            bench.queue.report()
            assert bench.ring.run() == [done(1, MESSAGE, buffer(i % 8, MORE))]
            bench.buffers(0).give(i % 8)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, errno.EEXIST),
        ({"bgid": 1, "ring_entries": 0}, EINVAL),
        ({"bgid": 1, "ring_entries": 3}, EINVAL),
        ({"bgid": 1, "ring_entries": 65536}, EINVAL),
        ({"bgid": 1, "ring_addr": 0}, EFAULT),
        ({"bgid": 1, "ring_addr": ARENA_ADDRESS + 16}, EINVAL),
        ({"bgid": 1, "ring_addr": 0x1000}, EFAULT),
        ({"bgid": 1, "ring_entries": 32768}, EFAULT),  # longer than the arena
        ({"bgid": 1, "flags": 8}, EINVAL),
        ({"bgid": 1, "min_left": 1}, EINVAL),
        ({"bgid": 1, "resv": [0, 0, 0, 0, 1]}, EINVAL),
    ],
    ids=str,
)
def test_a_ring_of_buffers_is_checked_as_linux_does(fields: dict[str, object], error: int) -> None:
    with multishot_bench() as bench:
        reg = ffi.new("struct io_uring_buf_reg *", {"ring_addr": ARENA_ADDRESS, "ring_entries": 8} | fields)
        assert returned(lambda: bench.ring.register(RegisterOp.REGISTER_PBUF_RING, reg, 1)) == -error
        assert returned(lambda: bench.ring.register(RegisterOp.REGISTER_PBUF_RING, ffi.NULL, 1)) == -EINVAL
        assert returned(lambda: bench.ring.register(RegisterOp.REGISTER_PBUF_RING, reg, 2)) == -EINVAL


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_cancel_completes_before_its_target() -> None:
    with Bench() as bench:
        cqes = bench.ring.run(bench.read(1), nop(50), cancel(91, 1), nop(51))
        assert cqes == [done(50, 0), done(91, 0), done(51, 0), failed(1, ECANCELED)]


@pytest.mark.parametrize("kind", ["read", "multishot", "poll", "poll multishot", "async read"])
def test_every_waiting_request_can_be_cancelled(kind: str) -> None:
    with multishot_bench(0) as bench:
        sqe = {
            "read": bench.read(1),
            "multishot": bench.read_multishot(1),
            "poll": bench.poll(1),
            "poll multishot": bench.poll(1, len=1),
            "async read": bench.read(1, flags=int(ASYNC)),
        }[kind]
        bench.ring.run(sqe)
        assert bench.ring.run(cancel(9, 1)) == [done(9, 0), failed(1, ECANCELED)]
        assert bench.ring.run(cancel(9, 1)) == [failed(9, ENOENT)]
        bench.queue.report()
        assert bench.ring.run() == []


@pytest.mark.parametrize(
    ("flags", "order"),
    [(int(ALL | ANY), [3, 1, 5, 4, 2]), (int(ANY), [3, 1, 5, 4, 2]), (int(ALL | BY_FD), [3, 1, 5, 4, 2])],
)
def test_many_are_cancelled_in_the_order_of_a_hash_table(flags: int, order: list[int]) -> None:
    with Bench(cq_entries=32) as bench:
        bench.ring.run(*(bench.read(i) for i in range(1, 6)))
        cqes = bench.ring.run(cancel(9, fd=bench.queue.fd, cancel_flags=flags))
        assert cqes == [done(9, 5), *(failed(i, ECANCELED) for i in order)]


@pytest.mark.parametrize(
    ("cq_entries", "posted", "order"),
    [
        (32, [17, 3, 1000, 0, 65531, 42], [42, 0, 3, 17, 65531, 1000]),
        (32, [7, 7, 7], [7, 7, 7]),
    ],
)
def test_the_hash_is_linuxs(cq_entries: int, posted: list[int], order: list[int]) -> None:
    with Bench(cq_entries=cq_entries) as bench:
        bench.ring.run(*(bench.read(user) for user in posted))
        cqes = bench.ring.run(cancel(9, cancel_flags=int(ANY)))
        assert cqes == [done(9, len(posted)), *(failed(user, ECANCELED) for user in order)]


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_buckets_follow_the_size_of_the_queue(bits: int) -> None:
    """Against the hash written down once more, for tables of several sizes."""
    entries = 1 << (bits + 5)
    posted = [(i * 0x1234_5678_9ABC_DEF1 + 7) % 2**64 for i in range(40)]
    with Bench(entries=64, cq_entries=max(entries, 64)) as bench:
        bits = max(bits, 1)
        bench.ring.run(*(bench.read(user) for user in posted))
        cqes = bench.ring.run(cancel(9, cancel_flags=int(ANY)))
        assert cqes[0] == done(9, len(posted))

        def bucket(user: int) -> int:
            return (user * 0x61C8864680B583EB % 2**64) >> (64 - bits)

        newest_first = list(reversed(posted))
        assert users(cqes[1:]) == sorted(newest_first, key=bucket)  # sorted() keeps the order of equals


def test_one_by_file_or_operation_is_taken_in_that_order_too() -> None:
    for flags, fields in ((BY_FD, {}), (BY_OP, {"len": int(Op.READ)}), (BY_OP, {"len": 256 + int(Op.READ)})):
        with Bench(cq_entries=32) as bench:
            bench.ring.run(*(bench.read(i) for i in (1, 2, 3)))
            for target in (3, 1, 2):
                cqes = bench.ring.run(cancel(9, cancel_flags=int(flags), fd=bench.queue.fd, **fields))
                assert cqes == [done(9, 0), failed(target, ECANCELED)]
            cqes = bench.ring.run(cancel(9, cancel_flags=int(flags), fd=bench.queue.fd, **fields))
            assert cqes == [failed(9, ENOENT)]


def test_of_several_with_the_same_number_the_newest_is_cancelled() -> None:
    with Bench() as bench:
        bench.ring.run(bench.read(1), bench.poll(1))
        assert bench.ring.run(cancel(9, 1)) == [done(9, 0), failed(1, ECANCELED)]
        bench.queue.report()
        assert bench.ring.run() == [done(1)]  # the read is still there


def test_all_conditions_must_hold() -> None:
    with multishot_bench(0) as bench:
        bench.ring.run(bench.read(1), bench.read_multishot(2), bench.poll(3), bench.poll(4, len=1))

        def count(flags: int, target: int = 0, **fields: int) -> int:
            sqe = cancel(9, target, flags | int(ALL), fd=bench.queue.fd, **fields)
            return bench.ring.run(sqe)[0].res

        assert count(int(BY_OP), len=int(Op.WRITE)) == 0
        assert count(int(BY_OP | USERDATA), 1, len=int(Op.POLL_ADD)) == 0
        assert count(int(BY_FD | USERDATA), 9) == 0
        assert count(0, 2**32 + 1) == 0  # all 64 bits
        assert count(int(BY_OP), len=int(Op.POLL_ADD)) == 2
        assert count(int(BY_FD | BY_OP), len=int(Op.READ_MULTISHOT)) == 1
        assert count(int(BY_FD | USERDATA), 1) == 1


def test_a_cancel_never_finds_itself_nor_what_comes_later() -> None:
    with Bench() as bench:
        assert bench.ring.run(cancel(5, 5)) == [failed(5, ENOENT)]
        assert bench.ring.run(cancel(5, 5, int(ALL)), cancel(6, 0, int(ANY))) == [
            done(5, 0),
            done(6, 0),
        ]
        assert bench.ring.run(cancel(5, 1), bench.read(1)) == [failed(5, ENOENT)]


def test_a_cancel_wins_against_a_wake_and_the_fault_stays() -> None:
    with Bench() as bench:
        bench.ring.run(bench.read(1))
        bench.queue.report()
        assert bench.ring.run(cancel(51, 1)) == [done(51, 0), failed(1, ECANCELED)]
        assert bench.queue.waiting() == 1


def test_a_completed_request_is_not_found() -> None:
    with Bench() as bench:
        bench.queue.report()
        assert bench.ring.run(bench.read(1), cancel(9, 1)) == [done(1), failed(9, ENOENT)]


def test_a_duplicate_of_the_descriptor_matches_by_its_file() -> None:
    with Bench() as bench:
        other = int(lib.uiopf_core_install(bench.core.c, lib.uiopf_faultq_file(bench.queue.c)))
        bench.ring.run(bench.read(1))
        cqes = bench.ring.run(cancel(9, fd=other, cancel_flags=int(BY_FD)))
        assert cqes == [done(9, 0), failed(1, ECANCELED)]
        lib.uiopf_core_uninstall(bench.core.c, other, ffi.NULL)


# ---- more completions than there is room for -----------------------------------------------------


def test_what_does_not_fit_is_kept_in_order_until_events_are_asked_for() -> None:
    with Bench(entries=2, cq_entries=2) as bench:
        ring = bench.ring
        for i in range(0, 6, 2):
            assert ring.submit(nop(i), nop(i + 1)) == 2
        assert ring.word("sq_flags") == CQ_OVERFLOW
        assert ring.word("cq_overflow") == 0
        assert users(ring.reap(1)) == [0]
        # Neither of these looks at what was kept; the new one goes behind it though there is room.
        assert ring.enter(0) == 0
        assert ring.submit(nop(6)) == 1
        assert users(ring.reap()) == [1]
        assert ring.reap() == []
        assert ring.enter(0, 0, GETEVENTS) == 0
        assert ring.word("sq_flags") == CQ_OVERFLOW  # a part of it
        assert users(ring.reap()) == [2, 3]
        assert ring.submit(nop(7), flags=GETEVENTS) == 1
        assert users(ring.reap()) == [4, 5]
        assert ring.enter(0, 1, GETEVENTS) == 0  # does not wait: there were some
        assert ring.word("sq_flags") == 0
        assert users(ring.reap()) == [6, 7]


def test_a_full_queue_with_a_backlog_waits_for_nothing() -> None:
    with Bench(entries=4, cq_entries=4) as bench:
        bench.ring.submit(*(nop(i) for i in range(4)))
        bench.ring.submit(nop(4))
        assert bench.ring.enter(0, 2, GETEVENTS) == 0


@pytest.mark.parametrize("armed_before", [True, False])
def test_a_multishot_read_that_meets_a_full_queue_ends_with_its_message(armed_before: bool) -> None:
    with multishot_bench(0, 1, 2, 3, entries=2, cq_entries=2) as bench:
        if armed_before:
            bench.ring.submit(bench.read_multishot(1))
            bench.queue.report(5)
            bench.ring.run()
        else:
            bench.queue.report(5)
            bench.ring.submit(bench.read_multishot(1), flags=GETEVENTS)
        cqes = bench.ring.reap() if not armed_before else []
        cqes += bench.ring.run()
        assert bench.queue.waiting() == 2
        assert bench.ring.pending() == 0
        if not armed_before:
            expected = [done(1, MESSAGE, buffer(i, MORE)) for i in range(2)] + [done(1, MESSAGE, buffer(2))]
            assert cqes == expected


def test_a_multishot_read_ends_at_a_backlog_although_there_is_room() -> None:
    with multishot_bench(0, 1, entries=2, cq_entries=2) as bench:
        bench.ring.submit(bench.read_multishot(1))
        bench.ring.submit(nop(2), nop(3))
        bench.ring.submit(nop(4))
        assert users(bench.ring.reap()) == [2, 3]
        bench.queue.report(2)
        bench.ring.submit(nop(5))  # runs task work without a flush
        assert bench.ring.reap() == []
        assert bench.ring.run() == [done(4, 0), done(5, 0)]
        assert bench.ring.run() == [done(1, MESSAGE, buffer(0))]
        assert bench.queue.waiting() == 1


def test_a_skipping_multishot_read_loses_its_message_to_a_full_queue() -> None:
    with multishot_bench(0, 1, entries=2, cq_entries=2) as bench:
        bench.ring.submit(bench.read_multishot(1, flags=int(SELECT | SKIP)))
        bench.ring.submit(nop(2), nop(3))
        bench.queue.report(1)
        assert bench.ring.submit(flags=GETEVENTS) == 0
        assert bench.ring.word("sq_flags") == 0
        assert users(bench.ring.reap()) == [2, 3]
        assert bench.queue.waiting() == 0
        assert bench.ring.pending() == 0


def test_a_multishot_poll_ends_at_a_full_queue() -> None:
    with Bench(entries=2, cq_entries=2) as bench:
        bench.ring.submit(bench.poll(1, len=1))
        for _ in range(4):
            bench.queue.report()
            bench.ring.enter(0, 0, GETEVENTS)
        assert bench.ring.reap() == [done(1, POLLIN, MORE)] * 2
        assert bench.ring.run() == [done(1, POLLIN)]
        assert bench.ring.pending() == 0


def test_a_client_that_never_reads_loses_what_the_charge_does_not_cover() -> None:
    with Bench(entries=4096, cq_entries=4096) as bench:
        ring = bench.ring

        def submit_many(count: int, sqe: bytes) -> int:
            for _ in range(count):  # a million of them take a minute by `push`
                assert lib.uiopf_client_push_wide(ring.client.c, sqe) >= 0
            return ring.client.publish()

        for _ in range(1 + 256 + 1):  # the queue, a million kept, and one batch more
            assert submit_many(4096, nop(0).pack()) == 4096
            ring.enter(4096)
        assert ring.word("cq_overflow") == 4096
        for _ in range(1 + 256):  # while there is something to read, nobody has to wait
            assert ring.enter(0, 4096, GETEVENTS) == 0
            assert len(ring.reap()) == 4096
        assert ring.enter(0, 0, GETEVENTS) == 0
        submit_many(1, nop(1).pack())
        assert ring.enter(1, 2, GETEVENTS) == 1  # it says that first, and there is something to read
        assert ring.enter(0, 2, GETEVENTS) == 0
        assert ring.reap() == [done(1, 0)]
        assert returned(lambda: ring.enter(0, 1, GETEVENTS)) == -errno.EBADR  # said once
        assert returned(lambda: ring.enter(0, 1, GETEVENTS)) == -errno.EDEADLK


# ---- silent successes ----------------------------------------------------------------------------


def test_successes_can_be_silent_and_failures_not() -> None:
    skip = int(SKIP)
    with multishot_bench(0, 1, 2) as bench:
        ring, queue = bench.ring, bench.queue
        assert ring.run(nop(1, flags=skip), inject(2, 7, flags=skip), nop(3)) == [done(3, 0)]
        assert ring.run(inject(2, -7, flags=skip)) == [done(2, -7)]
        assert ring.run(Sqe(255, flags=skip, user_data=4)) == [failed(4, EINVAL)]
        queue.report(2)
        assert ring.run(bench.read(1, flags=skip)) == []
        assert ring.run(bench.read(2, flags=skip, len=2 * MESSAGE)) == [done(2)]  # short
        assert ring.run(bench.write(3, 1, flags=skip)) == []
        assert ring.run(bench.write(3, 1, flags=skip)) == [failed(3, EINVAL)]  # answered already
        assert ring.run(bench.read(4, flags=skip)) == []
        queue.report()
        assert ring.run() == []
        assert queue.waiting() == 0
        for length, buffer_length, silent in ((0, 40, True), (100, 40, True), (100, 80, False)):
            buffers = bench.arena.buffers(ring, 1)
            buffers.give(5, length=buffer_length)
            queue.report()
            sqe = bench.read_select(5, flags=int(SELECT | SKIP), len=length, buf_group=1)
            assert ring.run(sqe) == ([] if silent else [done(5, MESSAGE, buffer(5))])
            buffers.unregister()
        assert ring.run(bench.poll(6, POLLOUT, flags=skip)) == []
        assert ring.run(bench.poll(7, flags=skip)) == []
        queue.report()
        assert ring.run() == []
        assert ring.pending() == 0


def test_silent_cancels() -> None:
    skip = int(SKIP)
    with Bench() as bench:
        ring = bench.ring
        ring.run(bench.read(1, flags=skip))
        assert ring.run(cancel(9, 1, flags=skip)) == [failed(1, ECANCELED)]
        assert ring.run(cancel(9, 1, flags=skip)) == [failed(9, ENOENT)]
        assert ring.run(cancel(9, 1, int(ALL), flags=skip)) == []


def test_a_silent_multishot_read_is_silent_only_at_its_end() -> None:
    with multishot_bench(0, 1) as bench:
        assert bench.ring.run(bench.read_multishot(1, flags=int(SELECT | SKIP))) == []
        bench.queue.report(1)
        assert bench.ring.run() == [done(1, MESSAGE, buffer(0, MORE))]
        assert bench.ring.run(cancel(9, 1)) == [done(9, 0), failed(1, ECANCELED)]
        bench.queue.report(2)
        cqes = bench.ring.run(bench.read_multishot(2, flags=int(SELECT | SKIP)))
        assert cqes == [done(2, MESSAGE, buffer(1, MORE)), failed(2, ENOBUFS)]


# ---- polls ---------------------------------------------------------------------------------------


def test_a_multishot_poll_reports_each_arrival_once_though_nothing_is_read() -> None:
    with Bench() as bench:
        bench.ring.run(bench.poll(1, len=1))
        for _ in range(3):
            bench.queue.report()
            assert bench.ring.run() == [done(1, POLLIN, MORE)]
            assert bench.ring.run() == []
        bench.queue.report(3)
        assert bench.ring.run() == [done(1, POLLIN, MORE)]


def test_what_is_ready_is_reported_at_once_or_behind_the_batch() -> None:
    with Bench() as bench:
        bench.queue.report()
        assert bench.ring.run(bench.poll(1), nop(2)) == [done(1, POLLIN), done(2, 0)]
        assert bench.ring.run(bench.poll(1, len=1), nop(2)) == [done(2, 0), done(1, POLLIN, MORE)]


@pytest.mark.parametrize(
    ("events", "res"),
    [(POLLIN, POLLIN), (POLLRDNORM, POLLRDNORM), (POLLIN | POLLRDNORM, 65), (POLLIN | POLLOUT, 5), (0xFFFFFFFF, 69)],
)
def test_a_poll_reports_what_was_asked_for(events: int, res: int) -> None:
    with Bench() as bench:
        bench.queue.report()
        assert bench.ring.run(bench.poll(1, events)) == [done(1, res)]


def test_two_multishot_polls_are_called_newest_first() -> None:
    with Bench() as bench:
        bench.ring.run(bench.poll(1, len=1))
        bench.ring.run(bench.poll(6, len=1))
        bench.queue.report()
        assert users(bench.ring.run()) == [6, 1]


def test_a_poll_that_is_woken_twice_looks_again() -> None:
    with Bench() as bench:
        bench.ring.run(bench.poll(1, len=1))
        bench.ring.run(bench.poll(2))
        bench.queue.report(2)
        assert bench.queue.read(2 * MESSAGE) != 0
        assert bench.ring.run() == [done(2, POLLIN)]  # the one-shot was woken once
        bench.queue.report()
        assert bench.queue.read() != 0
        assert bench.ring.run() == [done(1, POLLIN, MORE)]  # one wake is believed


# ---- the eventfd ---------------------------------------------------------------------------------


class Counted:
    """A live ring with a registered eventfd."""

    def __init__(self, bench: Bench) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.ring = bench.ring
        assert self.register() == 0

    def register(self) -> int:
        return returned(lambda: self.ring.register_eventfd(self.fd))

    def unregister(self) -> int:
        return returned(self.ring.unregister_eventfd)

    def count(self) -> int:
        try:
            return os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self.fd)


def test_the_eventfd_is_told_once_a_flush() -> None:
    with multishot_bench(0, 1, 2, 3, live=True) as bench:
        told = Counted(bench)
        ring = bench.ring
        ring.run(nop(1), nop(2), nop(3))
        assert told.count() == 1
        for i in range(3):
            ring.run(nop(i))
        assert told.count() == 3
        ring.run(bench.read(1))
        assert told.count() == 0
        bench.queue.report()
        ring.run()
        assert told.count() == 1
        ring.run(bench.read_multishot(1))
        ring.run(cancel(9, 1))
        assert told.count() == 2  # the batch, and task work
        bench.queue.report(3)
        ring.run(bench.read_multishot(2), nop(3))
        assert told.count() == 2
        ring.submit(bad(4))
        assert told.count() == 1
        ring.run(nop(5, flags=int(SKIP)))
        assert told.count() == 0
        told.close()


def test_the_eventfd_is_told_of_what_fits_and_of_flushes() -> None:
    with Bench(entries=4, cq_entries=4, live=True) as bench:
        told = Counted(bench)
        bench.ring.submit(*(nop(i) for i in range(3)))
        bench.ring.submit(*(nop(i) for i in range(3)))  # one fits
        assert told.count() == 2
        bench.ring.submit(nop(7))
        assert told.count() == 0
        bench.ring.reap(2)
        bench.ring.run()
        assert told.count() == 1
        told.close()


def test_a_disabled_eventfd_is_told_by_the_next_flush_and_not_before() -> None:
    with Bench(live=True) as bench:
        told = Counted(bench)
        bench.ring.store("cq_flags", EVENTFD_DISABLED)
        bench.ring.run(nop(1))
        assert told.count() == 0
        bench.ring.store("cq_flags", 0)
        bench.ring.enter(0, 0, GETEVENTS)
        assert told.count() == 0
        bench.ring.submit(nop(2, flags=int(SKIP)))
        assert told.count() == 1
        bench.ring.submit(nop(2, flags=int(SKIP)))
        assert told.count() == 0
        told.close()


def test_registering_an_eventfd_tells_nothing_of_before() -> None:
    with Bench(live=True) as bench:
        told = Counted(bench)
        assert told.register() == -errno.EBUSY
        assert told.unregister() == 0
        assert told.unregister() == -errno.ENXIO
        bench.ring.run(nop(1))
        assert told.register() == 0
        bench.ring.run(nop(2, flags=int(SKIP)))
        assert told.count() == 0
        bench.ring.run(nop(3))
        assert told.count() == 1
        told.close()


# ---- both fault files, as measured ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("personality", "nonblock"), [(MERGED, False), (MERGED, True), (PROPOSED, False), (PROPOSED, True)]
)
class TestFaultFile:
    """The table of what Linux's own fault file does under io_uring, and what the proposed one does instead."""

    def test_a_read_posted_on_an_empty_queue(self, personality: int, nonblock: bool) -> None:
        with Bench(personality, nonblock=nonblock) as bench:
            at_once = bench.ring.run(bench.read(1))
            assert at_once == ([done(1, 0)] if personality == MERGED and nonblock else [])
            bench.queue.report()
            assert bench.ring.run() == ([] if at_once else [done(1)])

    @pytest.mark.parametrize("off", [0, -1])
    def test_a_read_with_a_fault_waiting(self, personality: int, nonblock: bool, off: int) -> None:
        with Bench(personality, nonblock=nonblock) as bench:
            bench.queue.report()
            assert bench.ring.run(bench.read(1, off=off)) == [done(1)]

    def test_a_write_of_an_answer(self, personality: int, nonblock: bool) -> None:
        with Bench(personality, nonblock=nonblock) as bench:
            bench.queue.report()
            bench.ring.run(bench.read(1))
            assert bench.ring.run(bench.write(2, cookie=1, code=1)) == [done(2, RESPONSE)]
            assert bench.queue.answers() == [(0, 1)]

    def test_a_multishot_read(self, personality: int, nonblock: bool) -> None:
        with Bench(personality, nonblock=nonblock) as bench:
            bench.buffers(0).give(0, 1, 2)
            at_once = bench.ring.run(bench.read_multishot(1))
            assert at_once == ([done(1, 0)] if personality == MERGED and nonblock else [])
            later = []
            for _ in range(2):
                bench.queue.report()
                later += bench.ring.run()
            served = [done(1, MESSAGE, buffer(i, MORE)) for i in range(2)]
            assert later == (served if personality == PROPOSED else [])
            assert bench.queue.waiting() == (0 if personality == PROPOSED else 2)

    def test_a_multishot_poll(self, personality: int, nonblock: bool) -> None:
        with Bench(personality, nonblock=nonblock) as bench:
            bench.ring.run(bench.poll(1, len=1))
            for _ in range(3):
                bench.queue.report()
                assert bench.ring.run() == [done(1, POLLIN, MORE)]
                assert bench.ring.run() == []

    def test_a_read_that_is_not_to_wait(self, personality: int, nonblock: bool) -> None:
        with Bench(personality, nonblock=nonblock) as bench:
            error = EOPNOTSUPP if personality == MERGED else EAGAIN
            assert bench.ring.run(bench.read(1, op_flags=8)) == [failed(1, error)]


def test_a_blocking_merged_file_costs_a_worker_each_time() -> None:
    with Bench(MERGED) as bench:
        bench.ring.run(bench.read(1))
        bench.queue.report()
        bench.ring.run()
        bench.ring.run(bench.write(2, 1))
        assert bench.ring.cost().punts == 2


def test_a_blocking_merged_file_is_tried_again_before_a_worker_is_asked() -> None:
    """127 times by task work, of which a deferred ring runs one round a call; a call that waits makes all of them."""
    deferred = SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN
    with Bench(MERGED, flags=deferred) as bench:
        bench.queue.report(2)
        assert bench.ring.run(bench.read(1)) == []
        for _ in range(124):
            assert bench.ring.run() == []
        assert bench.ring.run(Sqe.async_cancel(2, 1)) == [failed(2, errno.ENOENT)]
        assert bench.ring.cost().punts == 1
        assert bench.ring.run() == [done(1)]
        bench.ring.push(bench.write(3, 1))
        assert bench.ring.enter(1, 1, EnterFlags.GETEVENTS) == 1
        assert bench.ring.reap() == [done(3, 8)]
        bench.ring.push(bench.read(4))
        assert bench.ring.enter(1, 1, EnterFlags.GETEVENTS) == 1
        assert bench.ring.reap() == [done(4)]


def test_a_worker_keeps_the_buffer_that_it_selected_when_it_fails() -> None:
    with Bench(MERGED) as bench:
        bench.buffers(0).give(0, 1, length=8)
        bench.queue.report()
        assert bench.ring.run(bench.read(1, len=8, flags=SqeFlags.BUFFER_SELECT)) == [done(1, -errno.ESPIPE, buffer(0))]


def test_of_two_reads_by_workers_the_loser_reads_nothing() -> None:
    """The merged file's read does not block: a worker that comes late completes with 0."""
    with Bench(MERGED) as bench:
        bench.ring.run(bench.read(1))
        bench.ring.run(bench.read(2))
        bench.queue.report()
        assert bench.ring.run() == [done(2), done(1, 0)]


def test_a_merged_multishot_that_does_not_block_delivers_what_is_there_and_stays() -> None:
    with Bench(MERGED, nonblock=True) as bench:
        bench.buffers(0).give(*range(4))
        bench.queue.report(2)
        served = [done(1, MESSAGE, buffer(i, MORE)) for i in range(3)]
        assert bench.ring.run(bench.read_multishot(1)) == served[:2]
        bench.queue.report()
        assert bench.ring.run() == served[2:]


DEFERRED = 0x3000  # SINGLE_ISSUER and DEFER_TASKRUN
LINKED = SqeFlags.IO_LINK | SqeFlags.CQE_SKIP_SUCCESS


@pytest.mark.parametrize("flags", [0, DEFERRED], ids=["plain", "deferred"])
def test_a_merged_multishot_behind_a_poll_delivers_each_fault_that_follows(flags: int) -> None:
    """A call that waits for a completion runs the poll, which has none, and then the read."""
    with Bench(MERGED, nonblock=True, flags=flags) as bench:
        bench.buffers(0).give(*range(4))
        assert bench.ring.run(bench.poll(1, flags=LINKED), bench.read_multishot(2)) == []
        for n in range(4):
            bench.queue.report()
            bench.ring.enter(0, 1, GETEVENTS)
            assert bench.ring.reap() == [done(2, MESSAGE, buffer(n, MORE))]


@pytest.mark.parametrize("taken", [False, True])
def test_between_a_poll_and_the_read_behind_it_another_reader_may_come(taken: bool) -> None:
    """A deferred ring's call that waits for nothing runs the poll, and only the next one the read."""
    with Bench(MERGED, nonblock=True, flags=DEFERRED) as bench:
        bench.buffers(0).give(0)
        assert bench.ring.run(bench.poll(1, flags=LINKED), bench.read_multishot(2)) == []
        bench.queue.report()
        assert bench.ring.run() == []
        if taken:
            bench.queue.read()
        assert bench.ring.run() == [done(2, 0) if taken else done(2, MESSAGE, buffer(0, MORE))]


def test_nops_are_measured_on_both_sides() -> None:
    assert lib.uiopf_measure_nop(8, 1_000_000) > 0
    if reason := refusal():
        pytest.skip(f"the host refuses io_uring: {reason}")
    assert lib.uiopf_measure_host_nop(8, 1_000_000) > 0


# ---- when a fault arrives ------------------------------------------------------------------------

FLAGGED: Final = DEFERRED | int(SetupFlags.TASKRUN_FLAG)
TASKRUN: Final = 4


def test_a_fault_shows_taskrun_when_it_arrives() -> None:
    """A client that peeks at its ring's memory enters because of that flag, and of nothing else."""
    with Bench(flags=FLAGGED) as bench:
        bench.ring.run(bench.read(1))
        assert bench.ring.word("sq_flags") == 0
        bench.queue.report()
        assert bench.ring.word("sq_flags") == TASKRUN
        assert bench.ring.run() == [done(1)]
        assert bench.ring.word("sq_flags") == 0


def test_a_fault_writes_a_deferred_ring_s_eventfd_when_it_arrives() -> None:
    with Bench(flags=DEFERRED, live=True) as bench:
        event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            bench.ring.register_eventfd(event)
            bench.ring.run(bench.read(1))
            bench.queue.report()
            assert os.eventfd_read(event) == 1
            bench.ring.unregister_eventfd()
        finally:
            os.close(event)


def test_faults_of_two_queues_complete_in_the_order_of_their_arrival() -> None:
    for first in (0, 1):
        with Bench(flags=DEFERRED) as bench:
            queues = [bench.queue, Queue(bench.core)]
            bench.ring.run(bench.read(1), bench.read(2, fd=queues[1].fd))
            for one in (first, 1 - first):
                queues[one].report()
            assert users(bench.ring.run()) == [first + 1, 2 - first]
            queues[1].close()


def test_a_group_that_is_taken_before_the_ring_s_turn_has_woken_all_the_same() -> None:
    """The wake says POLLIN, which a poll believes. Without a key the poll looks, and waits on."""
    for personality, seen in ((PROPOSED, [done(1, POLLIN | POLLRDNORM)]), (lib.UIOPF_PROPOSED_UNKEYED, [])):
        with Bench(personality, flags=DEFERRED) as bench:
            bench.ring.run(Sqe.poll_add(1, bench.queue.fd, POLLIN | POLLRDNORM))
            bench.queue.report()
            lib.uiopf_detach(bench.queue.device, lib.UIOPF_NO_PASID)
            assert bench.ring.run() == seen
            bench.ring.run(Sqe.async_cancel(9, 1))


def test_a_fault_calls_one_of_the_polls_that_want_to_be_the_only_one() -> None:
    """EPOLLEXCLUSIVE: behind all others, and each fault calls one, as Linux's wake_up_interruptible()."""
    exclusive = 1 << 28
    for groups, seen in ((1, [3, 1, 2]), (2, [3, 1, 2, 4])):
        with Bench(flags=DEFERRED) as bench:
            fd = bench.queue.fd
            polls = [Sqe.poll_add(n, fd, POLLIN | (0 if n in (1, 3) else exclusive)) for n in range(1, 5)]
            bench.ring.run(*polls)
            bench.queue.report(groups)
            assert users(bench.ring.run()) == seen
            bench.ring.run(Sqe.async_cancel(9, 4))


def test_the_hardware_s_thread_shows_taskrun_of_a_ring_whose_client_is_not_in_a_call() -> None:
    rows = struct.pack("<2Q2I", 0, 0x1000, 1, FaultPerm.READ)
    with ExitStack() as stack:
        core = stack.enter_context(Core(live=True))
        context = Context(core)
        iommu = VtdIommu(core, needs_pasid=False)
        stack.callback(iommu.close)
        space = AddressSpace(64, 64)
        stack.callback(space.close)
        endpoint = Endpoint(iommu, capacity=64, group_most=1)
        stack.callback(endpoint.close)
        stack.callback(context.close)
        device = context.bind(iommu.c, 0x100, 64, on_unbind=lambda: iommu.unbind(device))
        iommu.bind(endpoint, device)
        endpoint.use_tables(space)
        endpoint.enable_pri(64)
        endpoint.set_rows(rows)
        parent = context.hwpt_alloc_paging(device, context.ioas_alloc(), nest_parent=True)
        queue = context.fault_queue_alloc(personality=Personality.PROPOSED)
        device.attach(context.hwpt_alloc_nested(device, parent, fault=queue))
        ring = stack.enter_context(Ring(core, 8, flags=FLAGGED))
        window = stack.enter_context(Window(4096))
        ring.add_window(window)
        core.start_worker(Driver.ENTER)
        stack.callback(core.stop_worker)
        ring.submit(Sqe.read(1, queue.fd, window.address, MESSAGE))
        endpoint.start(Load(LoadMode.CLOSED, in_flight=1))
        until = time.monotonic() + 20
        while ring.word("sq_flags") != TASKRUN:
            assert time.monotonic() < until, "the flag never showed"
            os.sched_yield()
        assert [(cqe.user_data, cqe.res) for cqe in ring.run()] == [(1, MESSAGE)]
        endpoint.cancel()
        device.detach()


@pytest.mark.parametrize(("kernel", "calls"), [("6.18", 128), ("7.2", 8)])
def test_newer_kernels_run_deferred_work_that_is_added_meanwhile(kernel: str, calls: int) -> None:
    """The merged file is tried 127 times in vain: once a call, or as often as a call runs task work."""
    with Core(kernel=kernel) as core, Arena() as arena, ExitStack() as stack:
        queue = Queue(core, MERGED)
        stack.callback(queue.close)
        ring = stack.enter_context(Ring(core, 8, flags=DEFERRED))
        ring.add_window(arena)
        queue.report()
        ring.submit(Sqe.read(1, queue.fd, data_address(1), MESSAGE))
        seen = 0
        while not ring.reap():
            ring.enter(0, 0, GETEVENTS)
            seen += 1
            assert seen < 200
        assert seen == calls


@pytest.mark.parametrize(("kernel", "added", "left"), [("6.18", [1, 1, 1], [1, 1, 1]), ("7.2", [1, 20, 20], [1, 1, 0])])
def test_a_deferred_ring_s_eventfd_is_told_of_work_when_the_queue_was_empty(
    kernel: str, added: list[int], left: list[int]
) -> None:
    """A batch of 20 is taken from newer kernels' queue one by one: it is empty while the last one runs, or not yet.

    *added*: a read of the merged file is tried again and again. *left*: of 21 polls the last is left when a poll of
    another file is called.
    """
    with Core(live=True, kernel=kernel) as core, Arena() as arena, ExitStack() as stack:
        merged, file, other = (Queue(core, personality) for personality in (MERGED, PROPOSED, PROPOSED))
        event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        stack.callback(os.close, event)
        for queue in (merged, file, other):
            stack.callback(queue.close)
        rings = [stack.enter_context(Ring(core, 64, flags=DEFERRED)) for _ in range(2)]

        def told() -> int:
            try:
                return os.eventfd_read(event)
            except BlockingIOError:
                return 0

        for ring in rings:
            ring.add_window(arena)
            ring.register_eventfd(event)
        merged.report()
        rings[0].submit(Sqe.read(1, merged.fd, data_address(1), MESSAGE))
        seen = [told()]
        for _ in range(2):
            rings[0].enter(0, 0, GETEVENTS)
            seen.append(told())
        assert seen == added
        rings[1].submit(*(Sqe.poll_add(n, file.fd, POLLIN) for n in range(21)), Sqe.poll_add(21, other.fd, POLLIN))
        file.report()
        seen = [told()]
        rings[1].enter(0, 0, GETEVENTS)
        assert len(rings[1].reap()) == 20
        seen.append(told())
        other.report()
        seen.append(told())
        assert seen == left


def test_the_next_of_a_chain_starts_in_the_next_batch_of_deferred_work() -> None:
    for kernel in ("6.18", "7.2"):
        with Core(kernel=kernel) as core, Arena() as arena, ExitStack() as stack:
            queue = Queue(core)
            stack.callback(queue.close)
            ring = stack.enter_context(Ring(core, 8, flags=DEFERRED))
            ring.add_window(arena)
            ring.submit(Sqe.read(1, queue.fd, data_address(1), MESSAGE, flags=SqeFlags.IO_LINK), Sqe.nop(2))
            queue.report()
            assert users(ring.run()) == [1]
            assert users(ring.run()) == [2]
