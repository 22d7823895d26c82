"""Families of requests on the host's io_uring and on ours: the same programs, the same outcome.

What is written down is what a client can see: return values, completions in their order (where Linux has one: what a
worker thread does comes as it pleases), what has become of memory and files. Ours follows the host's version.
"""

from __future__ import annotations

import errno
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.ring_helper import GETEVENTS, Sqe, bad, cancel, inject, nop
from tests.ring_world import HostWorld, OurWorld, Player, Surroundings, host_version
from uring_iopf.abi import EnterFlags, Op, RegisterOp, SetupFlags, SqeFlags

if TYPE_CHECKING:
    from collections.abc import Callable

FIXED, DRAIN, LINK, HARD, ASYNC, SELECT, SKIP = (int(flag) for flag in SqeFlags)
CLAMP, DISABLED, ALL_OF_IT = int(SetupFlags.CLAMP), int(SetupFlags.R_DISABLED), int(SetupFlags.SUBMIT_ALL)
DEFER = int(SetupFlags.DEFER_TASKRUN | SetupFlags.SINGLE_ISSUER)
TASKRUN = int(SetupFlags.TASKRUN_FLAG)
WAIT = int(GETEVENTS | EnterFlags.EXT_ARG)
MS = 1_000_000
PAGE = 4096
WAITALL, DONTWAIT = 0x100, 0x40


@dataclass(frozen=True)
class Program:
    play: Callable[[Player], None]
    flags: int = 0
    entries: int = 16
    cq_entries: int = 0
    since: tuple[int, int] = (6, 12)

    @property
    def id(self) -> str:
        return f"{self.play.__name__}-{self.flags:x}" if self.flags else self.play.__name__


def read(p: Player, user_data: int, name: str = "r", **fields: int) -> Sqe:
    return Sqe(Op.READ, **({"fd": p.fd(name), "addr": p.at(PAGE), "len": 8, "user_data": user_data} | fields))


def write(p: Player, user_data: int, name: str = "w", **fields: int) -> Sqe:
    return Sqe(Op.WRITE, **({"fd": p.fd(name), "addr": p.at(PAGE), "len": 8, "user_data": user_data} | fields))


def poll(p: Player, user_data: int, name: str = "r", events: int = 1, **fields: int) -> Sqe:
    return Sqe(Op.POLL_ADD, **({"fd": p.fd(name), "op_flags": events, "user_data": user_data} | fields))


def timeout(p: Player, user_data: int, ns: int = 2 * MS, *, offset: int = 0x100, seconds: int = 0, **fields: int) -> Sqe:
    fields = {"addr": p.timespec(seconds, ns, offset), "len": 1, "user_data": user_data} | fields
    return Sqe(Op.TIMEOUT, **fields)


def link_timeout(p: Player, user_data: int, ns: int = 2 * MS, *, offset: int = 0x120, **fields: int) -> Sqe:
    return Sqe(Op.LINK_TIMEOUT, **({"addr": p.timespec(0, ns, offset), "len": 1, "user_data": user_data} | fields))


def remove(user_data: int, target: int, **fields: int) -> Sqe:
    return Sqe(Op.TIMEOUT_REMOVE, addr=target, user_data=user_data, **fields)


def poll_remove(user_data: int, target: int, **fields: int) -> Sqe:
    return Sqe(Op.POLL_REMOVE, addr=target, user_data=user_data, **fields)


# ---- chains --------------------------------------------------------------------------------------


def chains(p: Player) -> None:
    p.submit(nop(1, flags=LINK), nop(2, flags=LINK), nop(3), nop(4))
    p.settle()
    p.submit(nop(1, flags=LINK), inject(2, -5, flags=LINK), nop(3, flags=LINK), nop(4), nop(5))
    p.settle()
    p.submit(nop(1, flags=HARD), inject(2, -5, flags=HARD), nop(3, flags=LINK), nop(4), nop(5))
    p.settle()
    p.run(nop(1, flags=HARD), inject(2, -5, flags=LINK), nop(3, flags=HARD), nop(4))
    p.run(nop(1, flags=LINK | HARD), inject(2, -5, flags=LINK | HARD), nop(3))


def chains_that_cannot_start(p: Player) -> None:
    p.submit(nop(1, flags=LINK), Sqe(255, LINK, user_data=2), nop(3), nop(4))
    p.settle()
    p.submit(nop(1, flags=LINK), bad(2), nop(3), nop(4))
    p.submit()
    p.enter(2, 0, GETEVENTS)
    p.settle()
    p.submit(Sqe(255, LINK, user_data=2), nop(3), nop(4))
    p.settle()
    p.submit(nop(1, flags=HARD), Sqe(255, HARD, user_data=2), nop(3, flags=HARD), nop(4), nop(5))
    p.settle()
    p.submit(Sqe(255, LINK, user_data=1), Sqe(255, LINK, user_data=2), bad(3), nop(4))
    p.settle()
    p.run(nop(1, flags=LINK), Sqe(Op.READ, LINK, fd=-1, user_data=2), nop(3))


def open_chains(p: Player) -> None:
    p.run(nop(1), nop(2, flags=LINK), nop(3, flags=LINK))
    p.run(nop(1), inject(2, -5, flags=LINK), nop(3, flags=HARD))
    p.world.push(nop(1, flags=LINK), nop(2, flags=LINK), nop(3))
    p.enter(2, 0, GETEVENTS)
    p.enter(1, 0, GETEVENTS)
    p.settle(ordered=False)


def silent_chains(p: Player) -> None:
    p.run(inject(1, -5, flags=LINK | SKIP), nop(2, flags=LINK), nop(3, flags=SKIP))
    p.run(inject(1, -5, flags=LINK), nop(2, flags=LINK | SKIP), nop(3, flags=SKIP))
    p.run(nop(1, flags=LINK | SKIP), nop(2, flags=LINK), nop(3, flags=SKIP))
    p.run(nop(1, flags=LINK | SKIP), Sqe(255, LINK, user_data=2), nop(3))
    p.run(nop(1, flags=LINK | SKIP), inject(2, -5, flags=LINK | SKIP), nop(3), nop(4))
    p.run(read(p, 1, flags=LINK | SKIP), nop(2, flags=SKIP))
    p.run(cancel(9, 1))


def short_reads_break_chains(p: Player) -> None:
    p.write("w", b"12345")
    p.run(read(p, 1, flags=LINK), nop(2))
    p.write("w", b"12345678")
    p.run(read(p, 1, flags=LINK), nop(2))
    p.run(read(p, 1, flags=LINK), nop(2, flags=LINK), nop(3))
    p.write("w", b"123")
    p.settle()
    p.run(read(p, 1, flags=HARD), nop(2))
    p.write("w", b"123")
    p.settle()
    p.run(write(p, 1, flags=LINK), read(p, 2, flags=LINK), nop(3))


def a_chain_waits_for_its_first(p: Player) -> None:
    p.run(read(p, 1, flags=LINK), write(p, 2, "w2", flags=LINK), read(p, 3, "r2", addr=p.at(2 * PAGE)))
    p.run(cancel(9, 2), cancel(9, 3), nop(5))
    p.write("w", b"abcdefgh")
    p.settle()
    p.note(p.world.get(2 * PAGE, 8))
    p.run(read(p, 1, flags=LINK), nop(2, flags=LINK), nop(3))
    p.run(cancel(9, 1))


# ---- drain and ASYNC -----------------------------------------------------------------------------


def drains(p: Player) -> None:
    p.run(nop(1), nop(2, flags=DRAIN), nop(3))
    p.run(read(p, 1), nop(2, flags=DRAIN), nop(3), nop(4))
    p.run(nop(5))
    p.write("w", b"abcdefgh")
    p.settle(ordered=False)
    p.run(nop(6), nop(7))


def drains_in_chains(p: Player) -> None:
    p.run(nop(1), nop(2, flags=LINK), nop(3, flags=LINK | DRAIN), nop(4), nop(5), nop(6), ordered=False)
    p.run(read(p, 1), nop(2, flags=LINK), nop(3, flags=DRAIN), nop(4), nop(5))
    p.write("w", b"abcdefgh")
    p.settle(ordered=False)
    p.run(read(p, 1), nop(2, flags=DRAIN | LINK), inject(3, -5, flags=LINK), nop(4), nop(5))
    p.write("w", b"abcdefgh")
    p.settle(ordered=False)


def drains_of_several(p: Player) -> None:
    p.run(read(p, 1), nop(2, flags=DRAIN), read(p, 3, "r2"), nop(4, flags=DRAIN), nop(5))
    p.write("w", b"abcdefgh")
    p.settle(ordered=False)
    p.write("w2", b"abcdefgh")
    p.settle(ordered=False)
    p.run(poll(p, 1, len=1), nop(2, flags=DRAIN), nop(3))
    p.write("w", b"abcdefgh")
    p.settle()


def no_drain_after_skip(p: Player) -> None:
    p.run(nop(1, flags=SKIP))
    p.run(nop(2, flags=DRAIN), nop(3))
    p.run(nop(2, flags=DRAIN | SKIP), nop(3))


def drains_with_skip(p: Player) -> None:
    p.run(nop(2, flags=DRAIN | SKIP), nop(3))


def by_workers(p: Player) -> None:
    p.run(nop(1, flags=ASYNC), nop(2))
    p.run(read(p, 1, flags=ASYNC))
    p.write("w", b"abcdefgh")
    p.settle()
    p.run(read(p, 1, flags=ASYNC), ordered=False)
    p.run(cancel(9, 1))
    p.run(nop(1, flags=ASYNC | LINK), nop(2, flags=LINK), nop(3))
    p.run(inject(1, -5, flags=ASYNC | LINK), nop(2, flags=LINK), nop(3))
    p.run(poll(p, 1, flags=ASYNC))
    p.run(cancel(9, 1))
    p.run(bad(1), nop(2))
    p.run(nop(3, flags=ASYNC | SKIP))


# ---- time-outs -----------------------------------------------------------------------------------


def timeouts(p: Player) -> None:
    p.run(timeout(p, 1), nop(2))
    p.settle()
    p.run(timeout(p, 1, 0), nop(2), ordered=False)
    p.run(timeout(p, 1, flags=LINK), nop(2))
    p.run(timeout(p, 1, flags=HARD), nop(2))
    p.run(timeout(p, 1, flags=LINK, op_flags=32), nop(2))
    p.run(timeout(p, 1, flags=SKIP), timeout(p, 2, flags=SKIP, op_flags=32))
    for clock in (0, 4, 8):
        p.run(timeout(p, 1, op_flags=clock))


def timeouts_by_the_clock(p: Player) -> None:
    for clock, flags in ((time.CLOCK_MONOTONIC, 0), (time.CLOCK_BOOTTIME, 4), (time.CLOCK_REALTIME, 8)):
        soon = time.clock_gettime_ns(clock) + 3 * MS
        p.run(timeout(p, 1, soon % 10**9, seconds=soon // 10**9, op_flags=1 | flags))
        p.run(timeout(p, 1, 0, seconds=1, op_flags=1 | flags))


def refused_timeouts(p: Player) -> None:
    def both(**fields: int) -> None:
        p.run(timeout(p, 1, **fields))
        p.run(nop(7, flags=LINK), link_timeout(p, 2, **fields))

    for fields in (
        {"len": 0},
        {"len": 2},
        {"op_flags": 0x200},
        {"op_flags": 12},
        {"op_flags": 65},
        {"op_flags": 2},
        {"op_flags": 16},
        {"addr": 8},
        {"addr": 0},
        {"buf_group": 1},
        {"file_index": 1},
        {"addr3": 1},
        {"pad2": 1},
        {"ioprio": 1},
        {"ns": -1},
    ):
        both(**fields)
    p.run(timeout(p, 1, seconds=-1))
    p.run(timeout(p, 1, flags=SELECT))
    p.run(nop(7, flags=LINK), link_timeout(p, 2, off=1))
    p.run(timeout(p, 5, 2 * 10**9))
    p.run(remove(9, 5))
    p.run(link_timeout(p, 1), nop(3))
    p.run(nop(1), link_timeout(p, 2), nop(3))
    p.run(nop(1, flags=LINK), link_timeout(p, 2, flags=LINK), link_timeout(p, 3), nop(4))


def counted_timeouts(p: Player) -> None:
    far = 10**9
    p.run(timeout(p, 1, far, off=2), nop(2))
    p.run(nop(3))
    p.run(timeout(p, 1, far, off=1), timeout(p, 2, far, off=3), timeout(p, 3, far, off=2))
    p.run(nop(4))
    p.run(nop(5))
    p.run(nop(6), nop(7))
    p.run(timeout(p, 1, 2 * MS, off=5), nop(2))
    p.settle()
    p.run(timeout(p, 1, far, off=1, flags=LINK), nop(2))
    p.run(nop(3))
    p.run(nop(1), nop(2), timeout(p, 3, far, off=1))
    p.run(nop(4))


def repeated_timeouts(p: Player) -> None:
    p.world.push(timeout(p, 1, 1 * MS, off=3, op_flags=64))
    p.enter(1, 3, GETEVENTS)
    p.settle()
    p.world.push(timeout(p, 1, 1 * MS, op_flags=64))
    p.enter(1, 1, GETEVENTS)
    p.note([(c.user_data, c.res, c.flags) for c in p.world.reap()][:1])
    p.world.push(remove(9, 1))
    p.enter(1, 0, GETEVENTS)
    time.sleep(0.004)
    p.enter(0, 0, GETEVENTS)
    p.note([(c.user_data, c.res, c.flags) for c in p.world.reap() if c.res != -errno.ETIME])
    p.run(timeout(p, 1, 1 * MS, off=1, op_flags=64))


def removed_timeouts(p: Player) -> None:
    far = 10**9
    p.run(timeout(p, 1, far), timeout(p, 2, far), timeout(p, 2, far))
    p.run(remove(9, 1))
    p.run(remove(9, 1))
    p.run(remove(9, 2))
    p.run(cancel(8, 2))
    p.run(timeout(p, 1, far, flags=LINK), nop(2))
    p.run(remove(9, 1))
    p.run(timeout(p, 1, far, flags=SKIP), timeout(p, 3, far))
    p.run(cancel(8, 0, 4))
    p.run(timeout(p, 3, far), timeout(p, 3, far), read(p, 3))
    p.run(cancel(8, 3, 1))
    p.run(timeout(p, 3, far), read(p, 3))
    p.run(cancel(8, 3))
    p.run(cancel(8, 3))
    p.run(timeout(p, 3, far))
    p.run(Sqe(Op.ASYNC_CANCEL, len=int(Op.TIMEOUT), op_flags=32, user_data=8))
    p.run(timeout(p, 3, far))
    p.run(Sqe(Op.ASYNC_CANCEL, fd=p.fd("r"), op_flags=3, user_data=8))
    p.run(remove(9, 3))
    for fields in (
        {"len": 1},
        {"buf_group": 1},
        {"file_index": 1},
        {"addr3": 1},
        {"pad2": 1},
        {"op_flags": 1},
        {"op_flags": 2 | 12},
        {"op_flags": 2 | 4},
        {"op_flags": 2 | 64},
        {"op_flags": 2, "off": 8},
        {"op_flags": 2, "off": p.timespec(-1, 0, 0x180)},
        {"op_flags": 16},
        {"flags": FIXED},
        {"ioprio": 1},
    ):
        p.run(remove(9, 77, **fields))


def updated_timeouts(p: Player) -> None:
    far = 10**9
    soon = p.timespec(0, 1 * MS, 0x180)
    p.run(timeout(p, 1, far))
    p.run(remove(9, 1, op_flags=2, off=soon))
    p.run(remove(9, 1, op_flags=2, off=soon))
    p.run(timeout(p, 1, far, off=1))
    p.submit(remove(9, 1, op_flags=2, off=p.timespec(0, 20 * MS, 0x180)))
    p.run(nop(2))
    time.sleep(0.02)
    p.settle()
    p.run(read(p, 1, flags=LINK), link_timeout(p, 2, far))
    p.run(remove(9, 2, op_flags=2 | 16, off=p.timespec(0, 1 * MS, 0x180)))
    p.run(remove(9, 2, op_flags=2 | 16, off=p.timespec(0, 1 * MS, 0x180)))
    p.run(timeout(p, 1, far))
    p.run(remove(9, 1, op_flags=2 | 1, off=p.timespec(1, 0, 0x180)))


def linked_timeouts(p: Player) -> None:
    p.run(read(p, 1, flags=LINK), link_timeout(p, 2))
    p.settle()
    p.run(nop(1, flags=LINK), link_timeout(p, 2), nop(3))
    p.run(read(p, 1, flags=LINK), link_timeout(p, 2, flags=LINK), nop(3))
    p.settle()
    p.run(read(p, 1, flags=LINK), link_timeout(p, 2, 10**9, flags=LINK), nop(3))
    p.write("w", b"abcdefgh")
    p.settle()
    p.run(read(p, 1, flags=LINK), link_timeout(p, 2, 10**9))
    p.run(cancel(9, 2))
    p.run(cancel(9, 1))
    p.run(inject(1, -5, flags=LINK), link_timeout(p, 2), nop(3))
    p.run(inject(1, -5, flags=LINK), link_timeout(p, 2, flags=LINK), nop(3))
    p.run(nop(1, flags=LINK), read(p, 2, flags=LINK), link_timeout(p, 3, flags=LINK), nop(4))
    p.settle()
    p.run(read(p, 1, flags=HARD), link_timeout(p, 2, flags=HARD), nop(3))
    p.settle()
    p.run(read(p, 1, flags=LINK | ASYNC), link_timeout(p, 2))
    p.settle()
    p.run(poll(p, 1, flags=LINK), link_timeout(p, 2, flags=SKIP))
    p.settle()
    p.run(timeout(p, 1, 10**9, flags=LINK), link_timeout(p, 2))
    p.settle()


# ---- waiting -------------------------------------------------------------------------------------


def getevents(p: Player, *, ns: int | None = None, least_us: int = 0) -> bytes:
    at = p.timespec(0, ns, 0x1C0) if ns is not None else 0
    return struct.pack("=QIIQ", 0, 0, least_us, at)


def waits_with_times(p: Player) -> None:
    def enter(to_submit: int, least: int, flags: int, argument: bytes | None, size: int | None = None) -> None:
        size = size if size is not None else len(argument or b"")
        p.note("enter", p.world.enter_ext(to_submit, least, flags, argument, size), *p.world.reap())

    enter(0, 1, WAIT, getevents(p, ns=MS))
    enter(0, 0, WAIT, getevents(p, ns=MS))
    enter(0, 1, WAIT, getevents(p, ns=0))
    enter(0, 1, WAIT, getevents(p, ns=MS), 16)
    enter(0, 1, WAIT, struct.pack("=QIIQ", 0, 0, 0, 8))
    enter(0, 1, WAIT, None, 24)
    enter(0, 1, int(EnterFlags.EXT_ARG), None, 24)
    p.world.push(nop(1))
    enter(1, 2, WAIT, getevents(p, ns=MS))
    p.world.push(nop(1))
    enter(1, 1, WAIT, getevents(p, ns=MS))
    enter(0, 1, WAIT, getevents(p, least_us=1000))
    enter(0, 2, WAIT, getevents(p, ns=3 * MS, least_us=1000))
    p.world.push(nop(1))
    enter(1, 2, WAIT, getevents(p, ns=10**9 - 1, least_us=1000))
    p.world.push(timeout(p, 1, 3 * MS, op_flags=32))
    enter(1, 2, WAIT, getevents(p, ns=10**9 - 1, least_us=1000))
    p.world.push(timeout(p, 1, 2 * MS))
    enter(1, 3, WAIT, getevents(p, ns=10**9 - 1))
    p.world.push(timeout(p, 1, 2 * MS), nop(2))
    enter(2, 8, WAIT, getevents(p))
    soon = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 2 * MS
    argument = struct.pack("=QIIQ", 0, 0, 0, p.timespec(soon // 10**9, soon % 10**9, 0x1C0))
    enter(0, 1, WAIT | int(EnterFlags.ABS_TIMER), argument)
    p.register(RegisterOp.REGISTER_CLOCK, struct.pack("=4I", time.CLOCK_BOOTTIME, 0, 0, 0), 0)
    enter(0, 1, WAIT | int(EnterFlags.ABS_TIMER), argument)
    for number in (1, 7, 0, 11):
        p.register(RegisterOp.REGISTER_CLOCK, struct.pack("=4I", number, 0, 0, 0), 0)
    p.register(RegisterOp.REGISTER_CLOCK, struct.pack("=4I", 7, 1, 0, 0), 0)
    p.register(RegisterOp.REGISTER_CLOCK, struct.pack("=4I", 7, 0, 0, 0), 1)


def waits_for_files(p: Player) -> None:
    p.world.push(read(p, 1), timeout(p, 2, 5 * MS))
    p.enter(2, 1, GETEVENTS)
    p.reap()
    p.write("w", b"abcdefgh")
    p.enter(0, 1, GETEVENTS)
    p.reap()


def deferred_task_work(p: Player) -> None:
    p.world.push(nop(1, flags=LINK), nop(2), nop(3))
    p.enter(3)
    p.note(p.world.word("sq_flags"))
    p.reap()
    p.enter(0)
    p.reap()
    p.enter(0, 0, GETEVENTS)
    p.note(p.world.word("sq_flags"))
    p.reap()
    p.world.push(read(p, 1))
    p.enter(1)
    p.write("w", b"abcdefgh")
    p.enter(0)
    p.reap()
    p.enter(0, 1, GETEVENTS)
    p.reap()


PROGRAMS: Final = [
    Program(chains),
    Program(chains, DEFER),
    Program(chains_that_cannot_start),
    Program(chains_that_cannot_start, ALL_OF_IT),
    Program(open_chains),
    Program(silent_chains),
    Program(short_reads_break_chains),
    Program(a_chain_waits_for_its_first),
    Program(drains),
    Program(drains_in_chains),
    Program(drains_of_several),
    Program(no_drain_after_skip),
    Program(drains_with_skip),
    Program(by_workers),
    Program(timeouts),
    Program(timeouts_by_the_clock),
    Program(refused_timeouts),
    Program(counted_timeouts),
    Program(repeated_timeouts),
    Program(removed_timeouts),
    Program(updated_timeouts),
    Program(linked_timeouts),
    Program(waits_with_times),
    Program(waits_with_times, DEFER),
    Program(waits_for_files),
    Program(deferred_task_work, DEFER),
    Program(deferred_task_work, DEFER | TASKRUN),
]


@pytest.fixture(scope="module")
def host() -> None:
    try:
        with ExitStack() as stack:
            HostWorld(Surroundings(stack), stack)
    except OSError as error:
        pytest.skip(f"the host refuses io_uring: {error}")


def played(kind: type[HostWorld | OurWorld], program: Program) -> list[object]:
    how = {"entries": program.entries, "cq_entries": program.cq_entries, "flags": program.flags}
    with ExitStack() as stack:
        around = Surroundings(stack)
        player = Player(kind(around, stack, **how), around)
        program.play(player)
        return player.seen


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.id)
def test_the_host_and_the_engine_agree(program: Program) -> None:
    if host_version() < program.since:
        pytest.skip(f"the host is older than {program.since}")
    assert played(OurWorld, program) == played(HostWorld, program)
