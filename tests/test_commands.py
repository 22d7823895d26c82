"""The commands of a fault file, one by one: what each returns, what ends it, and that no fault is lost by that."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.bench import (
    ARENA_ADDRESS,
    ARENA_SIZE,
    COMMANDS,
    MERGED,
    MESSAGE,
    PROPOSED,
    Bench,
    buffer_address,
    cancel,
    data_address,
)
from uring_iopf._core import ffi, lib
from uring_iopf.abi import AsyncCancelFlags, CqeFlags, Op, SetupFlags, SqeFlags, UringCmdFlags
from uring_iopf.abi.records import pack_response, unpack_messages
from uring_iopf.rings import Ring, Sqe

if TYPE_CHECKING:
    from uring_iopf.rings import Cqe

RECEIVE, RESPOND, FETCH, COMMIT_AND_FETCH, FETCH_BATCH, COMMIT_BATCH = range(0x3BC0, 0x3BC6)
MORE = CqeFlags.F_MORE
DATA = struct.Struct("<QQ")
TIMESPEC = struct.Struct("<qq")


def bench(
    *, personality: int = COMMANDS, flags: int = SetupFlags.CQE32, kernel: str = "7.2", cq_entries: int = 0
) -> Bench:
    return Bench(personality, flags=flags, kernel=kernel, cq_entries=cq_entries)


def command(b: Bench, op: int, user_data: int = 1, *, flags: int = 0, **fields: int) -> Sqe:
    return Sqe(Op.URING_CMD, flags, user_data=user_data, **({"fd": b.queue.fd, "off": op} | fields))


def respond(b: Bench, cookie: int, code: int = 0, user_data: int = 2, **fields: int) -> Sqe:
    return command(b, RESPOND, user_data, addr3=cookie | code << 32, **fields)


class Fault(NamedTuple):
    """The fields of a message, in its order, without the reserved one."""

    flags: int
    dev_id: int
    pasid: int
    grpid: int
    perm: int
    addr: int
    length: int
    cookie: int


def big_cqe(one: Cqe) -> tuple[int, int]:
    assert one.big_cqe is not None
    return one.big_cqe


def faults_of(cqes: list[Cqe]) -> list[Fault]:
    """Decode completions as docs/reference/fault-commands.md has them."""
    found: list[Fault] = []
    rest = list(cqes)
    while rest:
        one = rest.pop(0)
        assert one.flags & 0xFFFF == MORE
        assert not one.flags >> 25 & 1, "a second one without the first"
        address, word = big_cqe(one)
        pasid, grpid, length = word >> 32 & 0xFFFFF, word >> 52 | (one.flags >> 28) << 12, 0
        if one.flags >> 24 & 1:
            assert (pasid, grpid) == (0, 0)
            second = rest.pop(0)
            assert (second.res, second.flags >> 25 & 1) == (one.res, 1)
            both, length = big_cqe(second)
            pasid, grpid = both & 0xFFFFFFFF, both >> 32
        flags = one.flags >> 16 & 7 | (0x80000000 if one.flags >> 19 & 1 else 0)
        perm = one.flags >> 20 & 15
        found.append(Fault(flags, word & 0xFFFFFFFF, pasid, grpid, perm, address, length, one.res))
    return found


def enter(b: Bench) -> list[Cqe]:
    """Let what has come be posted."""
    b.ring.enter(0, 0, 1)
    return b.ring.reap()


REFUSED: dict[str, tuple[int, dict[str, int], int]] = {
    "unknown": (0, {}, errno.EINVAL),
    "the number before the first": (RECEIVE - 1, {}, errno.EINVAL),
    "unknown, far away": (0xFFFFFFFF, {}, errno.EINVAL),
    "receive with an address": (RECEIVE, {"addr": 1}, errno.EINVAL),
    "receive with a length": (RECEIVE, {"len": 1}, errno.EINVAL),
    "receive with data": (RECEIVE, {"addr3": 1}, errno.EINVAL),
    "receive with more data": (RECEIVE, {"pad2": 1 << 63}, errno.EINVAL),
    "respond with an address": (RESPOND, {"addr": 1 << 63, "addr3": 1}, errno.EINVAL),
    "respond with a length": (RESPOND, {"len": 8, "addr3": 1}, errno.EINVAL),
    "respond with more data": (RESPOND, {"addr3": 1, "pad2": 1}, errno.EINVAL),
    "respond to nothing": (RESPOND, {"addr3": 2}, errno.EINVAL),
    "respond to 0": (RESPOND, {}, errno.EINVAL),
    "respond far away": (RESPOND, {"addr3": 0xFFFFFFFF}, errno.EINVAL),
    "respond with a bad code": (RESPOND, {"addr3": 1 | 2 << 32}, errno.EINVAL),
}


@pytest.mark.parametrize(("op", "fields", "error"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_command_is_refused_and_changes_nothing(op: int, fields: dict[str, int], error: int) -> None:
    with bench() as b:
        b.queue.report(2)
        b.queue.read()  # the first has a cookie, 1, and waits for its answer
        for flags, more in ((0, {}), (SqeFlags.BUFFER_SELECT, {"op_flags": UringCmdFlags.MULTISHOT})):
            sqe = command(b, op, flags=flags, **fields, **more)
            assert [(one.res, one.flags) for one in b.ring.run(sqe)] == [(-error, 0)]
        assert b.queue.waiting() == 1
        assert b.queue.answers() == []
        assert [one.res for one in b.ring.run(respond(b, 1))] == [0]
        assert b.queue.answers() == [(0, 0)]


@pytest.mark.parametrize("personality", [MERGED, PROPOSED])
@pytest.mark.parametrize("op", [RECEIVE, RESPOND])
def test_other_fault_files_have_no_commands(personality: int, op: int) -> None:
    with bench(personality=personality) as b:
        assert [one.res for one in b.ring.run(command(b, op))] == [-errno.EOPNOTSUPP]


@pytest.mark.parametrize(("flags", "kernel"), [(0, "7.2"), (SetupFlags.CQE32, "6.12"), (SetupFlags.CQE32, "6.15")])
def test_faults_are_posted_only_where_a_multishot_has_wide_completions(flags: int, kernel: str) -> None:
    with bench(flags=flags, kernel=kernel) as b:
        assert [one.res for one in b.ring.run(command(b, RECEIVE))] == [-errno.EINVAL]


@pytest.mark.parametrize("mixed", [False, True])
def test_a_command_posts_each_fault_until_it_is_cancelled(mixed: bool) -> None:
    with bench(flags=SetupFlags.CQE_MIXED if mixed else SetupFlags.CQE32) as b:
        b.queue.report(2)
        wide = CqeFlags.F_32 if mixed else 0
        got = [one for one in b.ring.run(command(b, RECEIVE)) if not one.flags & CqeFlags.F_SKIP]
        assert {one.flags & wide for one in got} == {wide}
        assert [one.res for one in got] == [1, 2]
        b.queue.report(1)
        assert [one.res for one in enter(b) if not one.flags & CqeFlags.F_SKIP] == [3]
        ended = [one for one in b.ring.run(cancel(9, 1)) if not one.flags & CqeFlags.F_SKIP]
        assert sorted((one.user_data, one.res) for one in ended) == [(1, -errno.ECANCELED), (9, 0)]
        b.queue.report(1)
        assert enter(b) == []
        assert b.queue.waiting() == 1, "what comes later stays where it is"
        assert b.ring.pending() == 0


CANCELS: dict[str, dict[str, int]] = {
    "by its number": {"target": 1},
    "all": {"cancel_flags": AsyncCancelFlags.ALL, "target": 1},
    "any": {"cancel_flags": AsyncCancelFlags.ANY},
    "by file": {"cancel_flags": AsyncCancelFlags.FD},
    "by operation": {"cancel_flags": AsyncCancelFlags.OP, "len": Op.URING_CMD},
}


@pytest.mark.parametrize("how", CANCELS)
def test_each_way_to_cancel_finds_a_command_that_waits(how: str) -> None:
    with bench() as b:
        assert b.ring.run(command(b, RECEIVE)) == []
        ended = b.ring.run(cancel(9, fd=b.queue.fd, **CANCELS[how]))
        assert (1, -errno.ECANCELED) in [(one.user_data, one.res) for one in ended]


def test_a_linked_timeout_ends_a_command_that_waits() -> None:
    with bench() as b:
        b.arena.write(b.arena.address, TIMESPEC.pack(0, 1000))
        timeout = Sqe(Op.LINK_TIMEOUT, addr=b.arena.address, len=1, user_data=3)
        assert b.ring.run(command(b, RECEIVE, flags=SqeFlags.IO_LINK), timeout) == []
        b.queue.report(1)
        assert [one.res for one in enter(b)] == [1]
        b.core.tick(1000)
        assert sorted((one.user_data, one.res) for one in enter(b)) == [(1, -errno.ECANCELED), (3, -errno.ETIME)]


def test_a_ring_that_is_closed_leaves_the_rest_in_the_queue() -> None:
    with bench() as b:
        assert b.ring.run(command(b, RECEIVE)) == []
        b.queue.report(3)  # it is called, and does not run any more
        b.ring.close()
        assert b.queue.waiting() == 3


def test_a_cancel_between_the_call_and_the_run_takes_nothing_along() -> None:
    with bench() as b:
        assert b.ring.run(command(b, RECEIVE)) == []
        b.queue.report(3)
        ended = b.ring.run(cancel(9, 1))
        taken = [one.res for one in ended if one.user_data == 1 and one.flags & MORE]
        assert len(taken) + b.queue.waiting() == 3
        assert [one.res for one in ended if one.user_data == 1][-1] == -errno.ECANCELED


@pytest.mark.parametrize("pages", [1, 3])
def test_without_room_it_ends_and_the_group_stays_first(pages: int) -> None:
    with bench(cq_entries=8) as b:
        b.queue.report(9, pages=pages)
        first = b.ring.run(command(b, RECEIVE))
        assert len(first) == (8 if pages == 1 else 6 + 1), "the end is kept, or has room itself"
        groups = [one.grpid for one in faults_of([one for one in first if one.flags & MORE])]
        seen = list(groups)
        while b.queue.waiting():
            more = enter(b) + b.ring.run(command(b, RECEIVE))
            assert all(one.res == -errno.ENOBUFS for one in more if not one.flags & MORE)
            seen += [one.grpid for one in faults_of([one for one in more if one.flags & MORE])]
        assert seen == [n for n in range(9) for _ in range(pages)]


@pytest.mark.parametrize("addr", [0, 0xFFF, 0x7FFF_FFFF_F000, 2**64 - 1])
@pytest.mark.parametrize("perm", [1, 2, 4, 8, 15])
@pytest.mark.parametrize(("pasid", "grpid"), [(0, 0), (0xFFFFF, 0xFFFF), (5, 0x1000), (0x100000, 1), (1, 0x10000)])
def test_a_fault_in_a_completion_is_the_message_that_a_read_has(addr: int, perm: int, pasid: int, grpid: int) -> None:
    with bench() as b:
        for _ in range(2):
            lib.uiopf_device_report(b.queue.device, 3, pasid, grpid, perm, addr)
        data = b.queue.read()
        assert isinstance(data, bytes)
        (message,) = unpack_messages(data)
        got = b.ring.run(command(b, RECEIVE))
        assert len(got) == (1 if pasid < 1 << 20 and grpid < 1 << 16 else 2)
        (fault,) = faults_of(got)
        said = (message.flags, message.dev_id, message.pasid, message.grpid, message.perm, message.addr)
        assert (*said, 0, message.cookie + 1) == fault


def test_a_loss_is_told_where_it_happened() -> None:
    with bench() as b:
        limits = ffi.new("struct uiopf_faultq_limits *", {"depth": 2})
        assert lib.uiopf_faultq_limit(b.queue.c, limits) == 0
        b.queue.report(5)
        first, second, lost = faults_of(b.ring.run(command(b, RECEIVE)))
        assert (first.grpid, second.grpid) == (0, 1)
        assert (lost.flags, lost.length, lost.cookie) == (0x80000000, 3, 0)


@pytest.mark.parametrize("code", [0, 1])
def test_an_answer_needs_no_memory(code: int) -> None:
    with bench(flags=0, kernel="6.12") as b:
        b.queue.report(2)
        b.queue.read()
        b.queue.read()
        assert b.ring.run(respond(b, 2, code, flags=SqeFlags.CQE_SKIP_SUCCESS)) == []
        assert b.queue.answers() == [(1, code)]
        assert [one.res for one in b.ring.run(respond(b, 2, flags=SqeFlags.CQE_SKIP_SUCCESS))] == [-errno.EINVAL]


# ---- FETCH and COMMIT_AND_FETCH ----


def fetch(b: Bench, user_data: int, **fields: int) -> Sqe:
    return command(b, FETCH, user_data, **({"addr": data_address(user_data), "len": MESSAGE} | fields))


def commit(b: Bench, user_data: int, cookie: int, code: int = 0, **fields: int) -> Sqe:
    return fetch(b, user_data, **({"off": COMMIT_AND_FETCH, "addr3": cookie | code << 32} | fields))


def results(cqes: list[Cqe]) -> list[tuple[int, int]]:
    return [(one.user_data, one.res) for one in cqes]


FETCHES_REFUSED: dict[str, tuple[dict[str, int], int]] = {
    "no memory": ({"addr": 0}, errno.EFAULT),
    "memory that ends": ({"addr": ARENA_ADDRESS + ARENA_SIZE - MESSAGE + 1}, errno.EFAULT),
    "no length": ({"len": 0}, errno.EINVAL),
    "no whole message": ({"len": MESSAGE + 8}, errno.EINVAL),
    "more data": ({"pad2": 1}, errno.EINVAL),
    "a buffer to select": ({"flags": SqeFlags.BUFFER_SELECT, "op_flags": UringCmdFlags.MULTISHOT}, errno.EINVAL),
}


@pytest.mark.parametrize(("fields", "error"), FETCHES_REFUSED.values(), ids=FETCHES_REFUSED)
@pytest.mark.parametrize("waiting", [0, 2])
def test_a_fetch_that_cannot_be_served_answers_and_takes_nothing(
    fields: dict[str, int], error: int, waiting: int
) -> None:
    with bench() as b:
        b.queue.report(1 + waiting)
        b.queue.read()
        assert results(b.ring.run(commit(b, 1, 1, **fields))) == [(1, -error)]
        assert results(b.ring.run(fetch(b, 1, **fields))) == [(1, -error)]
        assert b.queue.answers() == []
        assert b.queue.waiting() == waiting


@pytest.mark.parametrize("data", [1, 1 << 32])
def test_a_fetch_has_no_answer(data: int) -> None:
    with bench() as b:
        assert results(b.ring.run(fetch(b, 1, addr3=data))) == [(1, -errno.EINVAL)]


@pytest.mark.parametrize(("cookie", "code"), [(2, 0), (0, 0), (1, 2), (1, 3)])
def test_a_refused_answer_ends_its_command_and_takes_nothing(cookie: int, code: int) -> None:
    with bench() as b:
        b.queue.report(2)
        b.queue.read()
        assert results(b.ring.run(commit(b, 1, cookie, code))) == [(1, -errno.EINVAL)]
        assert b.queue.answers() == []
        assert b.queue.waiting() == 1


@pytest.mark.parametrize("pages", [1, 3])
def test_one_command_answers_the_last_group_and_waits_for_the_next(pages: int) -> None:
    with bench() as b:
        room = {"len": 3 * MESSAGE}
        assert b.ring.run(fetch(b, 1, **room)) == []
        for n in range(5):
            b.queue.report(1, pages=pages)
            assert results(enter(b)) == [(1, pages * MESSAGE)]
            messages = unpack_messages(b.arena.read(data_address(1), pages * MESSAGE))
            assert [(one.grpid, one.cookie) for one in messages] == [(n, 1)] * pages
            assert b.ring.run(commit(b, 1, 1, n % 2, **room)) == []
            assert b.queue.answers() == [(n, n % 2)], "once, and not again when the command is called"


def test_a_group_that_is_too_large_stays_first() -> None:
    with bench() as b:
        b.queue.report(1, pages=3)
        assert results(b.ring.run(fetch(b, 1, len=2 * MESSAGE))) == [(1, -errno.EINVAL)]
        assert results(b.ring.run(fetch(b, 1, len=4 * MESSAGE))) == [(1, 3 * MESSAGE)]


def test_each_group_calls_one_command_the_one_that_has_waited_longest() -> None:
    with bench() as b:
        assert b.ring.run(*(fetch(b, n) for n in range(1, 7))) == []
        b.queue.report(2)
        assert results(enter(b)) == [(1, MESSAGE), (2, MESSAGE)]
        assert b.ring.run(fetch(b, 1)) == []
        b.queue.report(5)
        assert results(enter(b)) == [(n, MESSAGE) for n in (3, 4, 5, 6, 1)]
        assert b.groups([]) == []
        b.queue.report(1)
        assert enter(b) == []
        assert results(b.ring.run(fetch(b, 2))) == [(2, MESSAGE)]


def test_a_command_that_is_cancelled_after_its_call_passes_its_turn_on() -> None:
    """Before anything runs the first is called; it is cancelled, and the second must have the group."""
    with bench() as b, Ring(b.core, 8) as other:
        other.add_window(b.arena)
        assert b.ring.run(fetch(b, 1)) == []
        assert other.run(fetch(b, 2)) == []
        b.queue.report(1)
        other.enter(0, 0, 1)  # the queue calls the first, whose ring does not run
        assert other.reap() == []
        b.ring.close()
        other.enter(0, 0, 1)
        assert results(other.reap()) == [(2, MESSAGE)]
        assert b.queue.waiting() == 0


def test_a_command_whose_memory_has_gone_passes_its_turn_on() -> None:
    with bench() as b, Ring(b.core, 8) as other:
        other.add_window(b.arena)
        small = fetch(b, 1, len=MESSAGE)
        assert b.ring.run(small) == []
        assert other.run(fetch(b, 2, len=2 * MESSAGE)) == []
        b.queue.report(1, pages=2)
        assert results(enter(b)) == [(1, -errno.EINVAL)]
        other.enter(0, 0, 1)
        assert results(other.reap()) == [(2, 2 * MESSAGE)]


def test_a_reader_may_take_what_a_command_was_called_for() -> None:
    with bench() as b, Ring(b.core, 8) as other:
        other.add_window(b.arena)
        assert b.ring.run(fetch(b, 1)) == []
        b.queue.report(1)
        other.enter(0, 0, 1)
        b.queue.read()
        assert enter(b) == []
        b.queue.report(1)
        assert results(enter(b)) == [(1, MESSAGE)]


def test_many_commands_wait_and_none_is_lost() -> None:
    with Bench(COMMANDS, kernel="7.2", entries=256) as b:
        for n in range(200):
            assert b.ring.run(fetch(b, n, addr=ARENA_ADDRESS + MESSAGE * n)) == []
        for n in range(0, 200, 2):
            assert sorted(results(b.ring.run(cancel(999, n)))) == [(n, -errno.ECANCELED), (999, 0)]
        b.queue.report(50)
        assert results(enter(b)) == [(n, MESSAGE) for n in range(1, 101, 2)]
        assert b.ring.pending() == 50


# ---- FETCH_BATCH and COMMIT_BATCH ----


def fetch_batch(b: Bench, user_data: int = 1, **fields: int) -> Sqe:
    multishot = {"flags": SqeFlags.BUFFER_SELECT, "op_flags": UringCmdFlags.MULTISHOT}
    return command(b, FETCH_BATCH, user_data, **(multishot | fields))


def commit_batch(b: Bench, *answers: tuple[int, int], user_data: int = 2, **fields: int) -> Sqe:
    data = b"".join(pack_response(cookie, code) for cookie, code in answers)
    b.arena.write(data_address(user_data), data)
    return command(b, COMMIT_BATCH, user_data, **({"addr": data_address(user_data), "len": len(data)} | fields))


def batches(b: Bench, cqes: list[Cqe]) -> list[list[int]]:
    """The group ids of each completion's buffer."""
    found: list[list[int]] = []
    for one in cqes:
        assert one.flags & 0xFFFF == MORE | CqeFlags.F_BUFFER
        data = b.arena.read(buffer_address(one.flags >> 16), one.res)
        found.append([message.grpid for message in unpack_messages(data)])
    return found


@pytest.mark.parametrize("flags", [0, SetupFlags.CQE32, SetupFlags.CQE_MIXED])
def test_one_buffer_gets_all_groups_that_wait_and_have_room(flags: int) -> None:
    with bench(flags=flags) as b:
        b.buffers(0).give(3, 5, 4, 2, 1, length=4 * MESSAGE + 39)
        b.queue.report(6)
        assert batches(b, b.ring.run(fetch_batch(b))) == [[0, 1, 2, 3], [4, 5]]
        b.queue.report(1, pages=3)
        b.queue.report(2)
        assert batches(b, enter(b)) == [[6, 6, 6, 7], [8]]
        b.queue.report(1)
        assert batches(b, enter(b)) == [[9]]
        b.queue.report(1)
        assert results(enter(b)) == [(1, -errno.ENOBUFS)]
        assert b.queue.waiting() == 1
        assert b.ring.pending() == 0


BATCHES_REFUSED: dict[str, tuple[dict[str, int], int]] = {
    "an address": ({"addr": 1}, errno.EINVAL),
    "a length": ({"len": 1}, errno.EINVAL),
    "data": ({"addr3": 1}, errno.EINVAL),
    "more data": ({"pad2": 1}, errno.EINVAL),
    "no multishot": ({"flags": 0, "op_flags": 0}, errno.EINVAL),
    "one without the other": ({"flags": 0}, errno.EINVAL),
    "the other without the one": ({"op_flags": 0}, errno.EINVAL),
    "no such group": ({"buf_group": 7}, errno.ENOBUFS),
}


@pytest.mark.parametrize(("fields", "error"), BATCHES_REFUSED.values(), ids=BATCHES_REFUSED)
def test_a_batch_that_cannot_be_fetched_takes_nothing(fields: dict[str, int], error: int) -> None:
    with bench() as b:
        b.buffers(0).give(1)
        b.queue.report(2)
        assert results(b.ring.run(fetch_batch(b, **fields))) == [(1, -error)]
        assert b.queue.waiting() == 2


@pytest.mark.parametrize(
    ("length", "address", "error"),
    [
        (2 * MESSAGE, 0, errno.EINVAL),
        (MESSAGE - 1, 0, errno.EINVAL),
        (3 * MESSAGE, 1 << 40, errno.EFAULT),
    ],
)
def test_a_buffer_that_is_too_small_or_no_memory_takes_nothing(length: int, address: int, error: int) -> None:
    with bench() as b:
        b.buffers(0).give(1, length=length, address=address)
        b.queue.report(1, pages=3)
        assert results(b.ring.run(fetch_batch(b))) == [(1, -error)]
        assert b.queue.waiting() == 1


def test_a_batch_without_room_for_its_completion_is_not_taken() -> None:
    with Bench(COMMANDS, kernel="7.2", cq_entries=8, flags=SetupFlags.CQE32) as b:
        b.buffers(0).give(*range(8), length=MESSAGE)
        b.buffers(0).give(*range(8, 10), length=MESSAGE)
        for n in range(10):
            b.queue.report(1)
            if n == 0:
                b.ring.submit(fetch_batch(b))
            b.ring.enter(0, 0, 1)
        assert b.queue.waiting() == 2
        got = [*b.ring.reap(), *enter(b)]
        assert batches(b, got[:-1]) == [[n] for n in range(8)]
        assert results(got[-1:]) == [(1, -errno.ENOBUFS)]


@pytest.mark.parametrize("wide", [False, True])
def test_all_answers_of_a_batch_are_tried_and_the_refused_counted(wide: bool) -> None:
    with bench(flags=SetupFlags.CQE32 if wide else 0) as b:
        b.queue.report(6)
        for _ in range(6):
            b.queue.read()
        answers = ((6, 1), (9, 0), (1, 0), (1, 0), (2, 5), (3, 1), (0, 0))
        (one,) = b.ring.run(commit_batch(b, *answers, flags=SqeFlags.CQE_SKIP_SUCCESS))
        assert (one.res, one.big_cqe) == (-errno.EINVAL, (4, 0) if wide else None)
        assert b.queue.answers() == [(5, 1), (0, 0), (2, 1)]
        assert b.ring.run(commit_batch(b, (2, 0), (4, 0), flags=SqeFlags.CQE_SKIP_SUCCESS)) == []
        assert results(b.ring.run(commit_batch(b, (5, 1)))) == [(2, 0)]
        assert b.queue.answers() == [(1, 0), (3, 0), (4, 1)]


COMMITS_REFUSED: dict[str, tuple[dict[str, int], int]] = {
    "no length": ({"len": 0}, errno.EINVAL),
    "no whole answer": ({"len": 12}, errno.EINVAL),
    "too many": ({"len": 513 * 8}, errno.EINVAL),
    "as many as there can be": ({"len": 0xFFFFFFF8}, errno.EINVAL),
    "data": ({"addr3": 1}, errno.EINVAL),
    "more data": ({"pad2": 1}, errno.EINVAL),
    "no memory": ({"addr": 0}, errno.EFAULT),
    "memory that ends": ({"addr": ARENA_ADDRESS + ARENA_SIZE - 8, "len": 16}, errno.EFAULT),
    "a buffer to select": ({"flags": SqeFlags.BUFFER_SELECT, "op_flags": UringCmdFlags.MULTISHOT}, errno.EINVAL),
}


@pytest.mark.parametrize(("fields", "error"), COMMITS_REFUSED.values(), ids=COMMITS_REFUSED)
def test_a_batch_of_answers_that_is_refused_answers_nothing(fields: dict[str, int], error: int) -> None:
    with bench() as b:
        b.queue.report(1)
        b.queue.read()
        (one,) = b.ring.run(commit_batch(b, (1, 0), **fields))
        assert (one.res, one.big_cqe) == (-error, (0, 0))
        assert b.queue.answers() == []


def test_the_largest_batch_of_answers_is_taken() -> None:
    with bench() as b:
        b.queue.report(1)
        b.queue.read()
        b.arena.write(ARENA_ADDRESS + 0x10000, b"\xff" * 511 * 8 + pack_response(1, 0))
        (one,) = b.ring.run(command(b, COMMIT_BATCH, addr=ARENA_ADDRESS + 0x10000, len=512 * 8))
        assert (one.res, one.big_cqe) == (-errno.EINVAL, (511, 0))
        assert b.queue.answers() == [(0, 0)]
