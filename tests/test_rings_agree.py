"""Families of requests on the host's io_uring and on ours: the same programs, the same outcome.

What is written down is what a client can see: return values, completions in their order (where Linux has one: what a
worker thread does comes as it pleases), what has become of memory and files. Ours follows the host's version.
"""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.ring_helper import GETEVENTS, Sqe, cancel, nop
from tests.ring_world import HostWorld, OurWorld, Player, Surroundings, host_version
from uring_iopf.abi import Op, RegisterOp, SetupFlags, SqeFlags

if TYPE_CHECKING:
    from collections.abc import Callable

FIXED, _, LINK, _, ASYNC, SELECT, SKIP = (int(flag) for flag in SqeFlags)
CLAMP, DISABLED, ALL_OF_IT = int(SetupFlags.CLAMP), int(SetupFlags.R_DISABLED), int(SetupFlags.SUBMIT_ALL)
DEFER = int(SetupFlags.DEFER_TASKRUN | SetupFlags.SINGLE_ISSUER)
TASKRUN = int(SetupFlags.TASKRUN_FLAG)
MS = 1_000_000
PAGE = 4096
TRIES: Final = 3  # times pass on both: what a busy machine has not done in time is no difference, but a lasting one is


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


def timeout(
    p: Player, user_data: int, ns: int = 2 * MS, *, offset: int = 0x100, seconds: int = 0, **fields: int
) -> Sqe:
    fields = {"addr": p.timespec(seconds, ns, offset), "len": 1, "user_data": user_data} | fields
    return Sqe(Op.TIMEOUT, **fields)


def poll_remove(user_data: int, target: int, **fields: int) -> Sqe:
    return Sqe(Op.POLL_REMOVE, addr=target, user_data=user_data, **fields)


# ---- sockets -------------------------------------------------------------------------------------


def receive(p: Player, user_data: int, **fields: int) -> Sqe:
    return Sqe(Op.RECV, **({"fd": p.fd("s"), "addr": p.at(PAGE), "len": 8, "user_data": user_data} | fields))


def provided(
    p: Player, group: int, *lengths: int, flags: int = 0, base: int = 4 * PAGE, offset: int = 8 * PAGE
) -> None:
    """Register a ring of buffers from id 0 on."""
    ring = b"".join(struct.pack("=QIHH", p.at(offset + 256 * i), n, i, 0) for i, n in enumerate(lengths))
    p.world.put(base, ring.ljust(16 * 8, b"\0"))
    p.world.put(base + 14, struct.pack("=H", len(lengths)))
    p.register(RegisterOp.REGISTER_PBUF_RING, struct.pack("=QIHHI5I", p.at(base), 8, group, flags, *[0] * 6), 1)


def multishot_receives(p: Player) -> None:
    provided(p, 1, 16, 16, 16, 16)
    p.run(receive(p, 1, ioprio=2, len=0, addr=0, flags=SELECT, buf_group=1))
    p.write("t", b"abc")
    p.settle()
    p.write("t", b"x" * 20)
    p.settle()
    p.write("t", b"y" * 30)
    p.settle()
    p.note(p.world.get(8 * PAGE, 16))
    p.write("t", b"more")
    p.run(receive(p, 1, len=0, addr=0, flags=SELECT, buf_group=1))
    provided(p, 2, 16, 16, 16, 16, base=5 * PAGE)
    p.run(receive(p, 2, ioprio=2, len=0, addr=0, flags=SELECT, buf_group=2))
    p.run(receive(p, 3, ioprio=3, len=0, addr=0, flags=SELECT, buf_group=2))
    p.run(cancel(9, 2), cancel(9, 3))
    p.run(receive(p, 2, ioprio=2, len=0, addr=0, flags=SELECT, buf_group=2))
    p.shut("t")
    p.settle()


def limited_receives(p: Player) -> None:
    provided(p, 1, 16, 16, 16, 16, 16)
    p.run(receive(p, 1, ioprio=2, len=4, addr=0, flags=SELECT, buf_group=1))
    p.write("t", b"abcdef")
    p.settle()
    p.run(cancel(9, 1))
    p.run(receive(p, 1, ioprio=2, len=0, addr=0, flags=SELECT, buf_group=1, file_index=6))
    p.write("t", b"abc")
    p.settle()
    p.write("t", b"abcdef")
    p.settle()


def multishot_reads(p: Player) -> None:
    def multishot(user_data: int, name: str = "r", group: int = 1, **fields: int) -> Sqe:
        fields = {"fd": p.fd(name), "flags": SELECT, "buf_group": group, "user_data": user_data} | fields
        return Sqe(Op.READ_MULTISHOT, **fields)

    provided(p, 1, 16, 16, 16, 16)
    p.run(multishot(1))
    for text in (b"abc", b"x" * 20):
        p.write("w", text)
        p.settle()
    p.run(cancel(9, 1))
    p.write("w", b"abcd")
    p.submit(nop(5), multishot(1), nop(6))
    p.settle()
    p.shut("w")
    p.settle()
    p.run(multishot(2))
    p.run(multishot(3, "e", group=7))


# ---- provided buffers ----------------------------------------------------------------------------


def provide(p: Player, user_data: int, count: int = 1, first: int = 0, **fields: int) -> Sqe:
    fields = {"fd": count, "off": first, "addr": p.at(8 * PAGE), "len": 16, "buf_group": 1} | fields
    return Sqe(Op.PROVIDE_BUFFERS, user_data=user_data, **fields)


def unprovide(user_data: int, count: int, **fields: int) -> Sqe:
    return Sqe(Op.REMOVE_BUFFERS, **({"fd": count, "buf_group": 1, "user_data": user_data} | fields))


def selected(p: Player, user_data: int, **fields: int) -> Sqe:
    fields = {"flags": SELECT, "buf_group": 1, "addr": 0, "len": 0} | fields
    return read(p, user_data, "r", **fields)


def classic_buffers(p: Player) -> None:
    p.run(unprovide(1, 1))
    p.run(selected(p, 1))
    p.run(provide(p, 1, 3, 10), provide(p, 2, 1, 7, len=4))
    p.write("w", b"abc")
    p.run(selected(p, 1))
    p.run(selected(p, 1))
    p.write("w", b"abcdef")
    p.settle()
    p.run(selected(p, 1, len=2))
    p.run(cancel(9, 1))
    p.write("w", b"abcdef")
    p.run(selected(p, 1, len=2), selected(p, 2), selected(p, 3))
    p.run(provide(p, 1, 1, 5, addr=8))
    p.run(selected(p, 1))
    p.run(provide(p, 1, 1, 5), selected(p, 1, op_flags=0x40000000))
    p.run(provide(p, 1, 4), unprovide(2, 2), unprovide(3, 9), unprovide(4, 1))
    for fields in (
        {"fd": 0},
        {"fd": 65537},
        {"fd": -1},
        {"len": 0},
        {"off": 65536},
        {"off": 65535, "fd": 2},
        {"addr": 2**64 - 8},
        {"addr": 0xFFFF_8000_0000_0000},
        {"op_flags": 1},
        {"file_index": 1},
        {"ioprio": 1},
        {"flags": SELECT},
    ):
        p.run(provide(p, 1, **fields))
    for count, fields in (
        (0, {}),
        (65537, {}),
        (1, {"addr": 1}),
        (1, {"len": 1}),
        (1, {"off": 1}),
        (1, {"op_flags": 1}),
    ):
        p.run(unprovide(1, count, **fields))
    provided(p, 1, 16)
    p.run(provide(p, 1), unprovide(2, 1))
    p.register(RegisterOp.UNREGISTER_PBUF_RING, struct.pack("=QIHHI5I", 0, 0, 1, 0, *[0] * 6), 1)
    p.run(provide(p, 1))
    provided(p, 1, 16)
    p.register(RegisterOp.UNREGISTER_PBUF_RING, struct.pack("=QIHHI5I", 0, 0, 1, 0, *[0] * 6), 1)


def status(p: Player, group: int, resv: int = 0) -> None:
    p.note(p.register(RegisterOp.REGISTER_PBUF_STATUS, struct.pack("=10I", group, 0, resv, *[0] * 7), 1)[:8])


def rings_of_buffers(p: Player) -> None:
    provided(p, 1, 16, 16, 16)
    status(p, 1)
    p.write("w", b"abc")
    p.run(selected(p, 1))
    status(p, 1)
    status(p, 1, 1)
    status(p, 2)
    p.run(selected(p, 1))
    status(p, 1)
    p.write("w", b"x" * 40)
    p.settle()
    p.run(selected(p, 1, len=4), selected(p, 2))
    status(p, 1)


def incremental_buffers(p: Player) -> None:
    provided(p, 1, 40, 40, flags=2)
    for length in (10, 30, 50):
        p.write("w", b"x" * length)
        p.run(selected(p, 1))
        p.note(
            struct.unpack_from("=QI", p.world.get(4 * PAGE, 32))[1],
            struct.unpack_from("=I", p.world.get(4 * PAGE, 32), 24),
        )
        status(p, 1)
    p.run(selected(p, 1))
    provided(p, 2, 16, 16, flags=2, base=5 * PAGE)
    p.run(receive(p, 1, ioprio=2, len=0, addr=0, flags=SELECT, buf_group=2))
    for length in (4, 8, 4, 20):
        p.write("t", b"y" * length)
        p.settle()


# ---- polls ---------------------------------------------------------------------------------------


def polls(p: Player) -> None:
    p.run(poll(p, 1), poll(p, 2, len=1), poll(p, 3, events=4))
    p.write("w", b"a")
    p.settle(ordered=False)
    p.write("w", b"b")
    p.settle()
    p.read("r")
    p.settle()
    p.write("w", b"b")
    p.settle()
    p.run(poll_remove(9, 2))
    p.run(poll_remove(9, 2))
    p.run(poll(p, 4, len=1))
    p.run(cancel(9, 4))
    p.run(poll(p, 5, "e", events=5), poll(p, 6, "e", len=1))
    p.write("e", struct.pack("=Q", 1))
    p.settle()
    p.run(poll(p, 7, "s", events=5), poll(p, 8, "s", events=1 | 0x2000))
    p.shut("t")
    p.settle()


def polls_updated(p: Player) -> None:
    p.run(poll(p, 1))
    p.run(poll_remove(9, 1, len=4, off=5))
    p.run(poll_remove(9, 1, len=4, off=6))
    p.run(poll_remove(9, 5, len=2, op_flags=4))
    p.write("w", b"a")
    p.settle()
    p.run(poll_remove(9, 5))
    p.read("r")
    p.run(poll(p, 1, "w", events=1))
    p.run(poll_remove(9, 1, len=2, op_flags=4))
    p.run(poll(p, 1, len=1))
    p.run(poll_remove(9, 1, len=7, off=8, op_flags=1))
    p.write("w", b"a")
    p.settle()
    p.run(poll_remove(9, 8, len=2, op_flags=1))
    p.run(poll_remove(9, 8))
    p.run(poll(p, 1, "r2"), read(p, 2, "r2"))
    p.run(poll_remove(9, 2), poll_remove(9, 2, len=4, off=3))
    for fields in (
        {"len": 1},
        {"len": 8},
        {"len": 16},
        {"buf_group": 1},
        {"file_index": 1},
        {"off": 1},
        {"op_flags": 1},
        {"len": 2, "off": 1},
        {"len": 4, "op_flags": 1},
        {"ioprio": 1},
        {"flags": SELECT},
    ):
        p.run(poll_remove(9, 1, **fields))
    p.run(poll_remove(9, 1, flags=SKIP))
    p.run(poll_remove(9, 1, flags=SKIP))


def cancelled_at_once(p: Player) -> None:
    def cancel_now(target: int = 0, fd: int = -1, flags: int = 0, opcode: int = 0, pad: int = 0, pad2: int = 0) -> None:
        argument = struct.pack("=QiIqqB7BQQQ", target, fd, flags, -1, -1, opcode, pad, *[0] * 6, pad2, 0, 0)
        p.register(RegisterOp.REGISTER_SYNC_CANCEL, argument, 1)
        p.settle(ordered=False)

    p.run(read(p, 1), read(p, 1), poll(p, 2), timeout(p, 3, 10**9))
    cancel_now(9)
    cancel_now(1)
    cancel_now(1, flags=1)
    cancel_now(3)
    cancel_now(flags=32, opcode=int(Op.POLL_ADD))
    p.run(read(p, 1), read(p, 1), poll(p, 2), timeout(p, 3, 10**9))
    cancel_now(fd=p.fd("r"), flags=3)
    cancel_now(flags=4)
    cancel_now(flags=4)
    cancel_now(fd=999, flags=2)
    cancel_now(fd=0, flags=2 | 8)
    cancel_now(flags=64)
    cancel_now(pad=1)
    cancel_now(pad2=1)


# ---- more than one ring --------------------------------------------------------------------------


def message(p: Player, user_data: int, fd: int, **fields: int) -> Sqe:
    return Sqe(Op.MSG_RING, **({"fd": fd, "user_data": user_data} | fields))


def messages(p: Player) -> None:
    other = p.world.more_ring(entries=2, cq_entries=2)
    dead = p.world.more_ring(flags=DISABLED)
    fd, own = other.fd("ring"), p.fd("ring")

    def say(**fields: int) -> None:
        p.run(message(p, 1, fd, **fields))
        other.enter(0, 0, GETEVENTS)
        p.note("there", *other.reap())

    say(off=77, len=5)
    say(off=77, len=2**32 - 5)
    say(off=77, len=5, flags=SKIP)
    say(off=77, len=5, file_index=3, op_flags=2)
    for fields in (
        {"file_index": 3},
        {"op_flags": 1},
        {"op_flags": 4},
        {"buf_group": 1},
        {"personality": 1},
        {"addr": 2},
        {"addr3": 1},
        {"ioprio": 1},
        {"flags": SELECT},
        {"addr": 1},
        {"addr": 1, "len": 1},
    ):
        say(**fields)
    p.run(message(p, 1, -1), message(p, 2, p.fd("r")), message(p, 3, dead.fd("ring"), off=1))
    p.run(message(p, 1, own, off=78, len=6), ordered=False)
    p.run(message(p, 1, own, addr=1))
    p.run(*(message(p, i, fd, off=i) for i in range(5)))
    p.note(other.word("sq_flags") & 2)
    for _ in range(3):
        other.enter(0, 0, GETEVENTS)
        p.note("there", *other.reap())


def messages_with_files(p: Player) -> None:
    other = p.world.more_ring()
    fd = other.fd("ring")
    p.run(message(p, 1, fd, addr=1, file_index=1))
    p.register(RegisterOp.REGISTER_FILES, struct.pack("=3i", p.fd("r"), -1, p.fd("w")), 3)

    def give(slot: int, to: int, **fields: int) -> None:
        p.run(message(p, 1, fd, addr=1, addr3=slot, file_index=to, off=77, **fields))
        other.enter(0, 0, GETEVENTS)
        p.note("there", *other.reap())

    give(0, 1)
    give(0, 2**32 - 1)
    p.note(other.register(RegisterOp.REGISTER_FILES2, bytearray(struct.pack("=IIQQQ", 3, 1, 0, 0, 0)), 32))
    give(0, 1)
    give(2, 2)
    give(1, 2)
    give(9, 2)
    give(0, 4)
    give(0, 2**32 - 1)
    give(0, 2**32 - 1)
    give(0, 1, op_flags=1)
    other.push(Sqe(Op.WRITE, FIXED, fd=1, addr=p.at(PAGE), len=4, user_data=3))
    p.note(other.enter(1, 1, GETEVENTS), *other.reap())
    p.read("r")


def rings_are_polled(p: Player) -> None:
    other = p.world.more_ring(entries=2, cq_entries=2)
    fd = other.fd("ring")
    p.run(Sqe(Op.POLL_ADD, fd=fd, op_flags=1, user_data=1), Sqe(Op.POLL_ADD, fd=fd, op_flags=5, user_data=2))
    other.push(nop(1))
    other.enter(1)
    p.settle()
    p.run(Sqe(Op.POLL_ADD, fd=fd, op_flags=5, user_data=2))
    p.run(Sqe(Op.READ, fd=fd, addr=p.at(PAGE), len=8, user_data=3), Sqe(Op.URING_CMD, fd=fd, user_data=4))
    p.run(Sqe(Op.WRITE, fd=fd, addr=p.at(PAGE), len=8, user_data=3))


# ---- register ------------------------------------------------------------------------------------


def what_there_is(p: Player) -> None:
    probe = p.register(RegisterOp.REGISTER_PROBE, bytes(16 + 8 * 256), 256)
    p.note(probe[0], probe[1])
    ours = (0, 1, 2, 4, 5, 6, 7, 11, 12, 14, 15, 19, 20, 22, 23, 26, 27, 31, 32, 40, 46, 49, 60, 61)
    p.note([probe[16 + 8 * op + 2] for op in ours])
    p.note(p.register(RegisterOp.REGISTER_PROBE, bytes(16 + 8 * 4), 4)[:32])
    p.register(RegisterOp.REGISTER_PROBE, bytes(16 + 8 * 257), 257)
    p.register(RegisterOp.REGISTER_PROBE, b"\1" + bytes(15 + 8 * 4), 4)
    p.register(RegisterOp.REGISTER_PROBE, bytes(16), 0)
    for op in range(31):
        if op not in (int(RegisterOp.REGISTER_PERSONALITY), 19, 27, 28):
            p.register(op, None, 0)
            p.register(op, None, 1)
    p.register(63, None, 0)


def personalities(p: Player) -> None:
    p.register(RegisterOp.REGISTER_PERSONALITY, None, 0)
    p.register(RegisterOp.REGISTER_PERSONALITY, None, 0)
    p.register(RegisterOp.UNREGISTER_PERSONALITY, None, 1)
    p.register(RegisterOp.UNREGISTER_PERSONALITY, None, 1)
    p.register(RegisterOp.REGISTER_PERSONALITY, None, 0)
    p.run(nop(1, personality=2), nop(1, personality=1), nop(1, personality=3))
    p.register(RegisterOp.REGISTER_PERSONALITY, None, 1)


def restriction(kind: int, value: int) -> bytes:
    return struct.pack("=HBB3I", kind, value, 0, 0, 0, 0)


def restricted(p: Player) -> None:
    p.world.push(nop(1))
    p.enter(1, 0, GETEVENTS)
    p.enter(0, 0, 1 << 30)
    only = RegisterOp.REGISTER_RESTRICTIONS
    p.register(only, restriction(4, 0), 1)
    p.register(only, restriction(0, 200), 1)
    p.register(only, restriction(1, 200), 1)
    p.register(only, None, 1)
    everything = [(1, int(Op.NOP)), (1, int(Op.READ)), (2, LINK | SKIP), (3, 0), (0, int(RegisterOp.REGISTER_EVENTFD))]
    p.register(only, b"".join(restriction(*one) for one in everything), len(everything))
    p.register(only, restriction(0, 1), 1)
    p.register(RegisterOp.REGISTER_ENABLE_RINGS, None, 1)
    p.register(RegisterOp.REGISTER_ENABLE_RINGS, None, 0)
    p.register(RegisterOp.REGISTER_ENABLE_RINGS, None, 0)
    p.register(RegisterOp.REGISTER_EVENTFD, None, 1)
    p.register(RegisterOp.UNREGISTER_EVENTFD, None, 0)
    p.run()
    p.enter(1, 0, GETEVENTS)
    p.reap()
    p.run(write(p, 1), nop(2))
    p.enter(1, 0, GETEVENTS)
    p.run(nop(2, flags=ASYNC))
    p.run(nop(2, flags=LINK), nop(3, flags=SKIP), Sqe(255, user_data=4))
    p.run(nop(5, flags=0x80))
    p.run(nop(5, ioprio=1))


def required_flags(p: Player) -> None:
    only = RegisterOp.REGISTER_RESTRICTIONS
    p.register(only, restriction(1, 0) + restriction(3, ASYNC), 2)
    p.register(RegisterOp.REGISTER_ENABLE_RINGS, None, 0)
    p.run(nop(1), nop(2))
    p.enter(1, 0, GETEVENTS)
    p.run(nop(1, flags=ASYNC))
    p.run(nop(1, flags=ASYNC | LINK))


def unrestricted(p: Player) -> None:
    p.world.push(nop(1))
    p.enter(1)
    p.register(RegisterOp.REGISTER_PROBE, bytes(16 + 8 * 4), 4)
    p.register(RegisterOp.REGISTER_ENABLE_RINGS, None, 0)
    p.run()
    p.enter(1, 0, GETEVENTS)
    p.reap()
    p.register(only := RegisterOp.REGISTER_RESTRICTIONS, restriction(1, 0), 1)
    p.note(only)


def eventfds_for_workers(p: Player) -> None:
    fd = os.eventfd(0, os.EFD_NONBLOCK)

    def count() -> None:
        try:
            p.note("told", os.eventfd_read(fd))
        except BlockingIOError:
            p.note("told", 0)

    bad_fd, pipe = struct.pack("=i", 999), struct.pack("=i", p._around.real["r"])
    asynchronous = RegisterOp.REGISTER_EVENTFD_ASYNC
    for argument in (bad_fd, pipe, struct.pack("=i", fd), struct.pack("=i", fd), None):
        p.register(asynchronous, argument, 1)
    p.run(nop(1))
    count()
    p.run(nop(1, flags=ASYNC))
    count()
    p.run(read(p, 1))
    p.write("w", b"abcdefgh")
    p.settle()
    count()
    p.register(RegisterOp.UNREGISTER_EVENTFD, None, 0)
    p.register(RegisterOp.UNREGISTER_EVENTFD, None, 0)
    p.register(RegisterOp.REGISTER_EVENTFD, struct.pack("=i", fd), 2)
    os.close(fd)


def commands(p: Player) -> None:
    def command(**fields: int) -> Sqe:
        return Sqe(Op.URING_CMD, **({"fd": p.fd("r"), "user_data": 1} | fields))

    for fields in (
        {},
        {"off": 1 << 32},
        {"op_flags": 4},
        {"op_flags": 1},
        {"op_flags": 2},
        {"flags": SELECT},
        {"fd": -1},
    ):
        p.run(command(**fields))
    p.run(command(flags=SELECT, op_flags=2), command(flags=SELECT, op_flags=3), command(ioprio=1))


def nops(p: Player) -> None:
    p.register(RegisterOp.REGISTER_FILES, struct.pack("=i", p.fd("r")), 1)
    p.register(RegisterOp.REGISTER_BUFFERS, struct.pack("=QQ", p.at(PAGE), 8), 1)
    for flags in range(64):
        p.run(nop(flags, op_flags=flags, fd=p.fd("w") if flags & 4 == 0 else 0, len=9))
        p.run(nop(flags, op_flags=flags, fd=7777, len=9, buf_group=3), nop(2))
    p.run(nop(1, op_flags=16, flags=LINK), nop(2))
    p.run(nop(1, op_flags=64), nop(2, op_flags=1 << 31))


def registered_rings(p: Player) -> None:
    by_number, register, unregister = 16, RegisterOp.REGISTER_RING_FDS, RegisterOp.UNREGISTER_RING_FDS
    own, pipe = p.fd("ring"), p.fd("r")

    def one(offset: int, data: int, resv: int = 0) -> bytes:
        return struct.pack("=IIQ", offset & 0xFFFFFFFF, resv, data)

    def enter(fd: int, flags: int = 0) -> None:
        p.world.push(nop(1))
        p.note("enter", p.world.enter_fd(fd, 1, flags), *p.world.reap())
        p.run()

    for fd in (own, pipe, -1, 9999):
        enter(fd)
        enter(fd, 1 << 30)
        p.note(p.world.register_fd(fd, int(RegisterOp.UNREGISTER_FILES), None, 0))
        p.note(p.world.register_fd(fd, 100, None, 0))
    for number in (0, 3, 15, 16, -1):
        enter(number, by_number)
    p.note(p.register(register, one(-1, own), 1)[:4])
    enter(0, by_number)
    p.note(p.world.register_fd(0, int(RegisterOp.UNREGISTER_FILES) | 1 << 31, None, 0))
    p.note(p.world.register_fd(5, int(RegisterOp.UNREGISTER_FILES) | 1 << 31, None, 0))
    p.note(p.world.register_fd(16, int(RegisterOp.UNREGISTER_FILES) | 1 << 31, None, 0))
    p.register(register, one(0, own), 1)
    p.register(register, one(3, own), 1)
    p.register(register, one(16, own), 1)
    p.register(register, one(4, own, 1), 1)
    p.register(register, one(4, pipe), 1)
    p.register(register, one(4, 9999), 1)
    p.register(register, one(5, own) + one(4, 9999), 2)
    p.register(register, one(6, own), 0)
    p.register(register, one(6, own) * 17, 17)
    p.register(unregister, one(3, 0) + one(16, 0), 2)
    p.register(unregister, one(16, 0), 1)
    p.register(unregister, one(7, 0), 1)
    p.register(unregister, one(0, own), 1)
    for number in (0, 3, 5):
        enter(number, by_number)
    p.register(unregister, one(0, 0) + one(5, 0), 2)


# ---- other forms of rings ------------------------------------------------------------------------

CQE32, CQE_MIXED, SQE128 = int(SetupFlags.CQE32), int(SetupFlags.CQE_MIXED), int(SetupFlags.SQE128)


def wide_completions(p: Player) -> None:
    for i in range(4):
        p.world.push(nop(i, op_flags=32, off=7, addr=8), nop(10 + i), nop(20 + i, op_flags=33, len=5, off=9))
        p.enter(3, 0, GETEVENTS)
        p.note(*p.world.ring.reap_words())
    for i in range(4):
        p.world.push(nop(i, op_flags=32, off=7, addr=i), nop(10 + i))
        p.enter(2)
    p.note(p.world.word("sq_flags") & 2)
    for _ in range(4):
        p.note(*p.world.ring.reap_words())
        p.enter(0, 0, GETEVENTS)


def resized(p: Player) -> None:
    ring = p.world.ring
    p.world.push(*(nop(i) for i in range(6)))
    p.enter(4, 0, GETEVENTS)
    for how in ((0,), (8, 4, 8), (8, 0, 8), (70000,), (8, 0, 1), (8, 0, 0x10)):
        p.note(ring.resize(*how), ring.sq_entries, ring.cq_entries)
    p.note([p.world.word(name) for name in ("sq_head", "sq_tail", "cq_head", "cq_tail", "sq_dropped", "sq_flags")])
    p.reap()
    p.world.push(*(nop(10 + i) for i in range(5)))
    p.note(ring.resize(4), ring.resize(16), ring.sq_entries, ring.cq_entries)
    p.note(ring.resize(16, 2, 8), ring.resize(70000, 0, 0x10), ring.sq_entries, ring.cq_entries)


def not_resized(p: Player) -> None:
    p.note(p.world.ring.resize(8))


def made(p: Player) -> None:
    p.note(p.world.ring.features, p.world.ring.sq_entries, p.world.ring.cq_entries)
    tried: dict[tuple[int, int, int], object] = {}
    bits = [1 << bit for bit in range(22)]
    flags = [
        *bits,
        *(a | b for a in bits for b in bits),
        *(b | DEFER for b in bits),
        *(b | DEFER | TASKRUN for b in bits),
    ]
    for flag in flags:
        for sizes in ((4, 0), (4, 16)):
            if flag & (SetupFlags.SQPOLL | SetupFlags.ATTACH_WQ):
                continue  # a thread each; what descriptor 0 is differs
            try:
                ring = p.world.more_ring(flags=flag, entries=sizes[0], cq_entries=sizes[1]).ring
                tried[flag, *sizes] = (ring.sq_entries, ring.cq_entries)
            except OSError as error:
                tried[flag, *sizes] = error.errno
    for how in ((0, 0, 0), (1, 0, 0), (5, 0, 0), (8, 9, 0), (8, 4, 0), (5, 8, 0), (32769, 0, 0), (40000, 0, CLAMP)):
        try:
            ring = p.world.more_ring(entries=how[0], cq_entries=how[1], flags=how[2]).ring
            tried[how] = (ring.sq_entries, ring.cq_entries)
        except OSError as error:
            tried[how] = error.errno
    p.note(sorted(tried.items()))


MORE_PROGRAMS: Final = [
    Program(registered_rings),
    Program(made),
    Program(wide_completions, CQE32, 4, 8, since=(6, 18)),
    Program(wide_completions, CQE_MIXED, 4, 8, since=(6, 18)),
    Program(wide_completions, ALL_OF_IT, 4, 8, since=(6, 18)),
    Program(resized, DEFER, 8, since=(6, 13)),
    Program(not_resized, since=(6, 13)),
    Program(resized, DEFER | CQE32, 8, since=(6, 13)),
    Program(multishot_receives),
    Program(limited_receives, since=(6, 17)),
    Program(multishot_reads),
    Program(classic_buffers),
    Program(rings_of_buffers),
    Program(incremental_buffers),
    Program(polls),
    Program(polls_updated),
    Program(cancelled_at_once),
    Program(messages),
    Program(messages_with_files),
    Program(rings_are_polled),
    Program(what_there_is),
    Program(personalities),
    Program(restricted, DISABLED),
    Program(required_flags, DISABLED),
    Program(unrestricted, DISABLED),
    Program(eventfds_for_workers),
    Program(commands, since=(6, 18)),
    Program(nops, since=(6, 16)),
]


@pytest.fixture(scope="module")
def host() -> None:
    try:
        with ExitStack() as stack:
            HostWorld(Surroundings(stack), stack)
    except OSError as error:
        pytest.skip(f"the host refuses io_uring: {error}")


def played(kind: type[HostWorld | OurWorld], program: Program) -> list[object]:
    sizes = program.entries, program.cq_entries, program.flags
    with ExitStack() as stack:
        around = Surroundings(stack)
        player = Player(kind(around, stack, *sizes), around)
        program.play(player)
        return player.seen


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("program", MORE_PROGRAMS, ids=lambda program: program.id)
def test_the_host_and_the_engine_agree(program: Program) -> None:
    if host_version() < program.since:
        pytest.skip(f"the host is older than {program.since}")
    for _ in range(TRIES):
        ours, hosts = played(OurWorld, program), played(HostWorld, program)
        if ours == hosts:
            break
    assert ours == hosts
