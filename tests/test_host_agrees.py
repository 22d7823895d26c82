"""The same small programs on the host's own io_uring and on ours: same return values, same completions.

Only what no kernel since 6.1 has changed, and what does not need a file of ours: there is a file that is never ready
(an empty pipe there, an empty fault queue here), and one that cannot be open. What is asked of the engine alone, and on
one version, is in ``test_engine``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import pytest

from tests.host_ring import HostRing
from tests.ring_helper import GETEVENTS, Bench, Cqe, Sqe, bad, cancel, data_address, inject, nop
from uring_iopf._core import ffi
from uring_iopf.abi import AsyncCancelFlags, Op, RegisterOp, SetupFlags, SqeFlags

FILE: Final = -1000  # stands for the file that is never ready
ALL, BY_FD, ANY, FD_FIXED = (int(flag) for flag in list(AsyncCancelFlags)[:4])
SKIP, SELECT, FIXED = int(SqeFlags.CQE_SKIP_SUCCESS), int(SqeFlags.BUFFER_SELECT), int(SqeFlags.FIXED_FILE)


class AnyRing(Protocol):
    """What a program may do."""

    def push(self, *sqes: Sqe, slots: Sequence[int] | None = None) -> None: ...
    def enter(self, to_submit: int, min_complete: int = 0, flags: int = 0) -> int: ...
    def reap(self, most: int = ...) -> list[Cqe]: ...
    def word(self, name: str) -> int: ...
    def store(self, name: str, value: int) -> None: ...
    def register(self, op: RegisterOp, arg: object, nr_args: int) -> int: ...


class Player:
    """Plays a program on a ring, and writes down what can be seen."""

    def __init__(self, ring: AnyRing, file: int, memory: int) -> None:
        self.ring, self.file, self.memory = ring, file, memory
        self.seen: list[object] = []

    def _real(self, sqe: Sqe) -> Sqe:
        fields = dict(vars(sqe))
        if sqe.fd == FILE:
            fields["fd"] = self.file
        if sqe.opcode in (Op.READ, Op.WRITE) and sqe.addr == -1:
            fields["addr"] = self.memory
        return Sqe(**fields)

    def push(self, *sqes: Sqe, slots: Sequence[int] | None = None) -> None:
        self.ring.push(*(self._real(sqe) for sqe in sqes), slots=slots)

    def enter(self, *arguments: int) -> None:
        returned = self.ring.enter(*arguments)
        self.seen.append(("enter", returned, self.ring.word("sq_head"), self.ring.word("sq_flags") & 2))

    def reap(self, most: int = 100) -> None:
        self.seen.append(("reap", *self.ring.reap(most)))

    def note(self, *words: str) -> None:
        self.seen.append(tuple(self.ring.word(word) for word in words))

    def run(self, *sqes: Sqe) -> None:
        self.push(*sqes)
        self.enter(len(sqes), 0, GETEVENTS)
        self.reap()


@dataclass(frozen=True)
class Program:
    name: str
    play: Callable[[Player], None]
    entries: int = 8
    cq_entries: int = 0
    flags: int = 0


def refused(name: str, *sqes: Sqe, flags: int = 0) -> Program:
    """Each SQE alone, with a NOP behind it that shows whether the batch went on."""

    def play(player: Player) -> None:
        for sqe in sqes:
            player.push(sqe, nop(77))
            player.enter(2, 0, GETEVENTS)
            player.reap()
            player.enter(2, 0, GETEVENTS)
            player.reap()

    return Program(name, play, flags=flags)


def read(user_data: int = 5, **fields: int) -> Sqe:
    return Sqe(Op.READ, **({"fd": FILE, "addr": -1, "len": 40, "user_data": user_data} | fields))


def poll(user_data: int = 5, **fields: int) -> Sqe:
    return Sqe(Op.POLL_ADD, **({"fd": FILE, "op_flags": 1, "user_data": user_data} | fields))


def batches(player: Player) -> None:
    player.push(nop(1), bad(2), nop(3), nop(4))
    player.enter(4, 0, GETEVENTS)
    player.reap()
    player.enter(2, 0, GETEVENTS)
    player.reap()
    player.push(bad(1), bad(2), nop(3))
    for _ in range(3):
        player.enter(3, 3, GETEVENTS)
    player.reap()
    player.run(nop(1), Sqe(Op.READ, fd=-1, user_data=2), nop(3))
    player.run(nop(1), bad(2))


def bad_indices(player: Player) -> None:
    player.push(nop(1), nop(2), nop(3), nop(4), slots=[0, 99, 2, 3])
    player.enter(4, 0, GETEVENTS)
    player.enter(2, 0, GETEVENTS)
    player.reap()
    player.push(nop(5), nop(6), slots=[8, 5])
    player.enter(2, 0, GETEVENTS)
    player.enter(1, 0, GETEVENTS)
    player.reap()
    player.note("sq_dropped")


def counts_and_flags(player: Player) -> None:
    player.enter(0, 0, GETEVENTS)
    player.enter(0, 0, 0)
    player.enter(0, 5, 0)
    player.enter(3, 1, GETEVENTS)
    player.push(nop(1))
    player.enter(1, 0, 1 << 30)
    player.enter(5, 3, GETEVENTS)
    player.push(nop(2))
    player.enter(1, 0, 2)
    player.push(nop(3))
    player.enter(1, 0, 4)
    player.enter(0, 3, GETEVENTS)
    player.enter(0, 2, GETEVENTS)
    player.reap()


def tail_ahead(player: Player) -> None:
    player.push(nop(1), nop(2), nop(3), nop(4))
    player.ring.store("sq_tail", 10)
    for _ in range(4):
        player.enter(100)
    player.reap()


def overflow(player: Player) -> None:
    for i in range(0, 8, 2):
        player.push(nop(i), inject(i + 1, i))
        player.enter(2)
    player.note("cq_overflow", "cq_tail")
    player.reap(1)
    player.enter(0)
    player.push(nop(8))
    player.enter(1)
    player.reap()
    player.reap()
    for _ in range(4):
        player.enter(0, 0, GETEVENTS)
        player.reap()
    player.push(nop(9), nop(10))
    player.enter(2)
    player.push(nop(11))
    player.enter(1, 0, GETEVENTS)
    player.reap()
    player.enter(0, 1, GETEVENTS)
    player.reap()
    player.note("cq_overflow")


def full_queue_waits_for_nothing(player: Player) -> None:
    for _ in range(3):
        player.push(nop(1), nop(2))
        player.enter(2)
    player.enter(0, 2, GETEVENTS)
    player.enter(0, 1000, GETEVENTS)


def cancels(player: Player) -> None:
    player.run(read(1), nop(50), cancel(91, 1), nop(51))
    player.run(cancel(91, 1))
    player.run(poll(2), poll(3, len=1), read(4))
    player.run(cancel(9, 2))
    player.run(cancel(9, 3))
    player.run(cancel(9, 2), cancel(10, 4))
    player.run(cancel(5, 5), cancel(5, 5, ALL), cancel(6, 0, ANY))
    player.run(cancel(7, 1), read(1), cancel(8, 1))
    player.run(read(6), read(6), poll(6))
    player.run(cancel(9, 6))
    player.run(cancel(9, 6, ALL))


def cancel_all(player: Player) -> None:
    player.run(*(read(i) for i in range(1, 6)))
    player.push(cancel(9, 0, ANY))
    player.enter(1, 0, GETEVENTS)
    got = player.ring.reap()
    player.seen.append((got[0], sorted(got[1:])))  # the order is that of a hash table, and of one version
    player.run(read(1), read(2))
    player.push(cancel(9, 0, ALL | BY_FD, fd=FILE))
    player.enter(1, 0, GETEVENTS)
    got = player.ring.reap()
    player.seen.append((got[0], sorted(got[1:])))


def silent_cancels(player: Player) -> None:
    player.run(read(1, flags=SKIP))
    player.run(cancel(9, 1, flags=SKIP))
    player.run(cancel(9, 1, flags=SKIP))
    player.run(cancel(9, 1, ALL, flags=SKIP))


def event_counts(player: Player) -> None:
    fd = os.eventfd(0, os.EFD_NONBLOCK)

    def count() -> None:
        try:
            player.seen.append(os.eventfd_read(fd))
        except BlockingIOError:
            player.seen.append(0)

    argument = ffi.new("int *", fd)
    address = int(ffi.cast("uintptr_t", argument))
    ours = isinstance(player.ring, HostRing)
    player.seen.append(player.ring.register(RegisterOp.REGISTER_EVENTFD, address if ours else argument, 1))
    player.seen.append(player.ring.register(RegisterOp.REGISTER_EVENTFD, address if ours else argument, 1))
    player.run(nop(1), nop(2), nop(3))
    count()
    for i in range(3):
        player.run(nop(i))
    count()
    player.push(bad(1))
    player.enter(1)
    count()
    player.run(nop(1, flags=SKIP))
    count()
    player.ring.store("cq_flags", 1)
    player.run(nop(2))
    count()
    player.ring.store("cq_flags", 0)
    player.run()
    count()
    os.close(fd)


MULTISHOT: Final = {"fd": FILE, "user_data": 5}
PROGRAMS: Final = [
    Program("batches", batches),
    Program("batches, all submitted", batches, flags=int(SetupFlags.SUBMIT_ALL)),
    Program("bad indices", bad_indices),
    Program("bad indices, all submitted", bad_indices, flags=int(SetupFlags.SUBMIT_ALL)),
    Program("counts and flags", counts_and_flags),
    Program("a tail ahead of the entries", tail_ahead, entries=4, cq_entries=64),
    Program("overflow", overflow, entries=2, cq_entries=2),
    Program("a full queue waits for nothing", full_queue_waits_for_nothing, entries=2, cq_entries=2),
    Program("cancels", cancels),
    Program("cancel all", cancel_all, cq_entries=32),
    Program("silent cancels", silent_cancels),
    Program("eventfd", event_counts),
    refused("no such operation", Sqe(255, user_data=5), Sqe(200, flags=0x80, user_data=5)),
    refused("nop: unknown flag", nop(5, flags=0x80)),
    refused("nop: select", nop(5, flags=SELECT), nop(5, flags=SELECT, ioprio=1, personality=1)),
    refused("nop: ioprio", nop(5, ioprio=1), nop(5, ioprio=0x2000)),
    refused("nop: personality", nop(5, personality=1)),
    refused("nop: any file", nop(5, fd=-1), nop(5, fd=9999)),
    refused("nop: other fields", nop(5, off=5, addr=5, buf_group=1)),
    refused("nop: silent", nop(5, flags=SKIP)),
    refused("read: flag and personality", read(flags=0x80), read(personality=1)),
    refused("read: ioprio", read(ioprio=1), read(ioprio=0xFFFF), read(ioprio=0x8000)),
    refused("read: no file", read(fd=-1), read(fd=9999)),
    refused("read: fixed file", read(fd=0, flags=FIXED), read(fd=-1, flags=FIXED)),
    refused("read: kernel address", read(addr=0xFFFF_8000_0000_0000), read(addr=0xFFFF_8000_0000_0000, fd=-1)),
    refused("read: over the end", read(addr=0x7FFF_FFFF_EFF8), read(addr=0x7FFF_FFFF_F008, len=0)),
    refused("read: bad address, no file", read(addr=8, fd=-1)),
    refused("read: flags", read(op_flags=1), read(op_flags=-1), read(op_flags=1, fd=-1)),
    refused("read: not to wait", read(op_flags=8)),
    refused("read: no buffers", read(flags=SELECT, addr=0, buf_group=9), read(flags=SELECT, buf_group=9, fd=-1)),
    refused("read: no buffers, bad flags", read(flags=SELECT, addr=0, buf_group=9, op_flags=0x40000000)),
    refused("read: offset", read(off=-2), read(off=2**63 - 1)),
    refused("write: select", Sqe(Op.WRITE, SELECT, user_data=5)),
    refused("write: ioprio", Sqe(Op.WRITE, ioprio=1, user_data=5)),
    refused("write: no file", Sqe(Op.WRITE, fd=-1, user_data=5, addr=-1), Sqe(Op.WRITE, fd=9999, user_data=5)),
    refused("write: kernel address", Sqe(Op.WRITE, fd=-1, user_data=5, addr=0xFFFF_8000_0000_0000, len=8)),
    refused("multishot: no select", Sqe(Op.READ_MULTISHOT, **MULTISHOT)),
    refused("multishot: ioprio", Sqe(Op.READ_MULTISHOT, SELECT, ioprio=1, **MULTISHOT)),
    refused("poll: select", poll(flags=SELECT)),
    refused("poll: fields", poll(off=5), poll(addr=1), poll(buf_group=1)),
    refused("poll: len", poll(len=2), poll(len=4), poll(len=16), poll(len=1 << 31)),
    refused("poll: multishot and silent", poll(len=1, flags=SKIP)),
    refused("poll: no file", poll(fd=-1), poll(fd=9999)),
    refused("cancel: select", cancel(5, flags=SELECT)),
    refused("cancel: fields", cancel(5, off=5), cancel(5, file_index=1), cancel(5, ioprio=1)),
    refused("cancel: flags", cancel(5, 1, ANY | BY_FD), cancel(5, 1, ANY | BY_FD | ALL), cancel(5, 1, 1 << 31)),
    refused("cancel: nothing there", cancel(5, 1), cancel(5, 1, ALL), cancel(5, 1, ANY), cancel(5, 1, FD_FIXED)),
    refused("cancel: no file", *(cancel(5, 1, f, fd=9999) for f in (BY_FD, BY_FD | ALL, BY_FD | FD_FIXED))),
    refused("cancel: a file without requests", cancel(5, 1, BY_FD, fd=FILE), cancel(5, 1, BY_FD | ALL, fd=FILE)),
]


@pytest.fixture(scope="module")
def host() -> None:
    try:
        ring = HostRing(1)
    except OSError as error:
        pytest.skip(f"the host refuses io_uring: {error}")
    ring.close()


@pytest.fixture
def never_ready() -> Iterator[int]:
    """A pipe with nothing in it, whose other end stays open."""
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


def supported(ring: HostRing, op: Op) -> bool:
    probe = ffi.new("uint8_t[]", 16 + 8 * 256)
    assert ring.register(RegisterOp.REGISTER_PROBE, int(ffi.cast("uintptr_t", probe)), 256) == 0
    return bool(probe[16 + 8 * int(op) + 2] & 1)


def on_the_host(program: Program, file: int) -> list[object]:
    memory = ffi.new("uint8_t[4096]")
    ring = HostRing(program.entries, cq_entries=program.cq_entries, flags=program.flags)
    try:
        if program.name.startswith("multishot") and not supported(ring, Op.READ_MULTISHOT):
            pytest.skip("the host has no READ_MULTISHOT")
        player = Player(ring, file, int(ffi.cast("uintptr_t", memory)))
        program.play(player)
        return player.seen
    finally:
        ring.close()


def on_ours(program: Program) -> list[object]:
    with Bench(live=True, entries=program.entries, cq_entries=program.cq_entries, flags=program.flags) as bench:
        player = Player(bench.ring, bench.queue.fd, data_address(1))
        program.play(player)
        return player.seen


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name.replace(" ", "_"))
def test_the_host_and_the_engine_agree(program: Program, never_ready: int) -> None:
    assert on_ours(program) == on_the_host(program, never_ready)
