"""Differences that are known, each with its reason on the conformance page, and what runs into them.

A case or a program that runs into one is skipped by its id and counted; the counts are printed at the end of a run.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, Final

from tests.rings.language import (
    Blob,
    Close,
    Enter,
    Fd,
    Hole,
    Look,
    Open,
    Read,
    Reap,
    Register,
    Setup,
    Shutdown,
    Sqe,
    Together,
    Told,
    Wait,
)
from uring_iopf.abi import Op, RegisterOp, SqeFlags
from uring_iopf.conformance.known_differences import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.rings.language import Program, Seen, Step

IDS: Final = frozenset(row.id for section in SECTIONS for row in section.rows if row.id)

CASES: Final[Mapping[str, str]] = {
    "register: arguments that cannot be read": "register-arguments",
    "poll: a regular file": "regular-files",
    "multishot: a file that cannot be polled": "regular-files",
    "overflow: a head beyond the tail": "rings-head",
    "message: of 32 bytes, room for half of one": "rings-half",
    "message: of 32 bytes, the end of a queue of such": "rings-wide-message",
    "bundle: a receive": "rings-bundles",
    "bundle: without select": "rings-bundles",
    "bundle: a multishot": "rings-bundles",
    "resize: larger": "rings-resize",
    "resize: smaller": "rings-resize",
    "resize: CQ only": "rings-resize",
    "end: stream, poll first": "rings-poll-first-end",
}
"""Cases that run into a known difference, by their names."""

ORDER: Final = "rings-order"
TOLD: Final = "rings-told"


def _counts(sqe: Sqe, _program: Program) -> bool:
    """A TIMEOUT that counts others."""
    return sqe.opcode == Op.TIMEOUT and bool(dict(sqe.fields).get("off"))


def _polls(sqe: Sqe, _program: Program) -> bool:
    """A poll of a file of the host, or an update of one, which may have been woken by now."""
    return sqe.opcode in (Op.POLL_ADD, Op.POLL_REMOVE)


def _polls_first_for_an_end(sqe: Sqe, program: Program) -> bool:
    """A multishot receive that polls first, where a stream may end."""
    fields = dict(sqe.fields)
    steps = [one for step in program.steps for one in (step.steps if isinstance(step, Together) else (step,))]
    return (
        sqe.opcode == Op.RECV
        and int(fields.get("ioprio", 0)) & 3 == 3  # type: ignore[arg-type]
        and any(isinstance(step, Close | Shutdown) for step in steps)
    )


def _nowhere(sqe: Sqe, program: Program) -> bool:
    """A request with memory that is not there, or another on the same file: what came for it may be lost on Linux."""
    return any(_is_nowhere(step) and (step == sqe or _same_file(step, sqe)) for step in program.steps)


def _is_nowhere(step: object) -> bool:
    if not isinstance(step, Sqe) or step.opcode not in _MOVE:
        return False
    fields = dict(step.fields)
    selects = int(fields.get("flags", 0)) & SqeFlags.BUFFER_SELECT  # type: ignore[arg-type]
    address = fields.get("addr", 0)
    return not selects and (address == 0 or isinstance(address, Hole))


def _cancels_nowhere(step: Register, program: Program) -> bool:
    """Whether a SYNC_CANCEL is for a request that ours has ended at once, since its memory is not there."""
    target = step.arg.values[0] if isinstance(step.arg, Blob) else None
    return any(
        _is_nowhere(one) and dict(one.fields)["user_data"] == target for one in program.steps if isinstance(one, Sqe)
    )


def _same_file(one: object, other: Sqe) -> bool:
    """Or the other end of it, or a file by its slot, which may be the same."""
    if not isinstance(one, Sqe):
        return False
    fds = [dict(step.fields).get("fd") for step in (one, other)]
    names = {fd.name.partition(".")[0] if isinstance(fd, Fd) else fd for fd in fds}
    return len(names) == 1 or any(isinstance(fd, int) and fd >= 0 for fd in fds)


def _reads_from(step: object, file: str) -> bool:
    fd = dict(step.fields).get("fd") if isinstance(step, Sqe) else None
    return isinstance(fd, int) or (isinstance(fd, Fd) and fd.name == file)


def _one_of_several(sqe: Sqe, program: Program) -> bool:
    """One of several requests that may wait for the same file."""
    waiting = (*_MOVE, Op.READ_MULTISHOT, Op.READ_FIXED, Op.WRITE_FIXED)
    same = [
        step for step in program.steps if isinstance(step, Sqe) and step.opcode in waiting and _same_file(step, sqe)
    ]
    return sqe.opcode in waiting and len(same) > 1


def _cancels(sqe: Sqe, program: Program) -> bool:
    """One of several that cancel."""
    return _is_cancel(sqe) and sum(map(_is_cancel, program.steps)) > 1


def _is_cancel(step: Step) -> bool:
    if isinstance(step, Register):
        return step.op == RegisterOp.REGISTER_SYNC_CANCEL
    return isinstance(step, Sqe) and step.opcode in (Op.ASYNC_CANCEL, Op.POLL_REMOVE, Op.TIMEOUT_REMOVE)


_MOVE: Final = (Op.READ, Op.WRITE, Op.READV, Op.WRITEV, Op.RECV, Op.SEND)
REQUESTS: Final[Mapping[str, Callable[[Sqe, Program], bool]]] = {
    "rings-counts": _counts,
    "rings-poll-first-end": _polls_first_for_an_end,
    "rings-host-poll": _polls,
    "rings-fault": _nowhere,
    "rings-host-waiters": _one_of_several,
    "rings-cancel-again": _cancels,
}
"""Requests that run into one in any program."""


def _has(program: Program, wanted: Callable[[Sqe, Mapping[str, Any]], object]) -> bool:
    return any(wanted(step, dict(step.fields)) for step in program.steps if isinstance(step, Sqe))


def _files_of(program: Program, *kinds: str) -> bool:
    return any(isinstance(step, Open) and step.kind in kinds for step in program.steps)


def _multishot(op: int, fields: Mapping[str, Any]) -> bool:
    return op == Op.READ_MULTISHOT or (op == Op.RECV and bool(fields.get("ioprio", 0) & 2))


def _by_worker(program: Program) -> bool:
    """Whether a worker thread may start one: it is asked for, drains, or is of a chain that a call leaves open."""
    by = SqeFlags.ASYNC | SqeFlags.IO_DRAIN | SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK
    return _has(program, lambda _, fields: fields.get("flags", 0) & by)


PENDING: Final[Mapping[str, Callable[[Program], bool]]] = {
    "pending: multishots by a worker": lambda program: (
        _by_worker(program) and _has(program, lambda sqe, fields: _multishot(sqe.opcode, fields))
    ),
    "pending: cancels by a worker": lambda program: (
        _by_worker(program) and _has(program, lambda sqe, _: sqe.opcode == Op.ASYNC_CANCEL)
    ),
    "pending: files that do not wait, by a worker": lambda program: (
        _by_worker(program) and any(isinstance(step, Open) and step.nonblock for step in program.steps)
    ),
    "pending: reads of a ring's eventfd": lambda program: any(
        isinstance(step, Open) and step.name == "told" for step in program.steps
    ),
    "pending: bundles": lambda program: _has(
        program, lambda sqe, fields: sqe.opcode in (Op.RECV, Op.SEND) and fields.get("ioprio", 0) & 16
    ),
    "pending: messages": lambda program: _has(program, lambda sqe, _: sqe.opcode == Op.MSG_RING),
    "pending: other files": lambda program: _files_of(program, "pty", "epoll", "file"),
}
"""Kinds that are being mended: a program of such a kind is played, and not judged. To be emptied."""

counted: collections.Counter[str] = collections.Counter()
"""How often which was run into, in this process; and how many programs were played in all."""


def explanation(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> str:
    """The id of the known difference that these two outcomes differ by; empty where there is none."""
    known = _explanation(program, expected, got)
    return known or next((name for name, is_of in PENDING.items() if is_of(program)), "")


def _explanation(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> str:
    if _same_but_for_order(program, expected, got) and _chains_in_order(program, got):
        return ORDER
    if _told_for_nothing(program, expected, got):
        return TOLD
    all_theirs: list[Seen] = []
    all_ours: list[Seen] = []
    first: str | None = None
    for step, theirs, ours in zip(program.steps, expected, got, strict=True):
        if isinstance(step, Reap):
            all_theirs += theirs
            all_ours += ours
            if first is None and sorted(theirs, key=str) != sorted(ours, key=str):
                first = _of_requests(program, theirs, ours)
        elif isinstance(step, Read) and theirs != ours:
            return (
                "rings-fault" if any(_is_nowhere(one) and _reads_from(one, step.file) for one in program.steps) else ""
            )
        elif isinstance(step, Register) and step.op == RegisterOp.REGISTER_SYNC_CANCEL and theirs != ours:
            if sum(map(_is_cancel, program.steps)) > 1:
                return "rings-cancel-again"
            return "rings-fault" if _cancels_nowhere(step, program) else ""
        elif theirs != ours and not _follows(step, theirs, ours):
            return ""
    if sorted(all_theirs, key=str) == sorted(all_ours, key=str) and not first:
        waiting = any(isinstance(step, Sqe) and _one_of_several(step, program) for step in program.steps)
        return "rings-host-waiters" if waiting else ""
    return _of_requests(program, all_theirs, all_ours) or first or ""


def _told_for_nothing(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> bool:
    """Whether all that differs is that ours signalled an eventfd once more, or Linux when nothing had been posted."""
    posted = 0
    for step, theirs, ours in zip(program.steps, expected, got, strict=True):
        if isinstance(step, Reap) and step.ring == "ring":
            posted += sum(isinstance(cqe, list) for cqe in theirs + ours)
        if theirs != ours and not (isinstance(step, Told) and (ours or not posted)):
            return False
        if isinstance(step, Told):
            posted = 0
    return True


def _follows(step: Step, theirs: Seen, ours: Seen) -> bool:
    """Whether it is another because of what has been completed: a wait, flags, the contents of memory."""
    if isinstance(step, Enter):
        return theirs[:2] == ours[:2] or {theirs[0], ours[0]} <= {0, -62}
    return isinstance(step, Look | Told | Wait)


def _of_requests(program: Program, theirs: Seen, ours: Seen) -> str:
    """The known difference that the requests run into whose completions are not the same."""
    differ = [cqe[0] for cqe in [*theirs, *ours] if isinstance(cqe, list) and theirs.count(cqe) != ours.count(cqe)]
    for chain in _chains(program):
        if any(dict(step.fields)["user_data"] in differ or _posts(step) in differ for step in chain):
            for id_, runs_into in REQUESTS.items():
                if any(runs_into(step, program) for step in chain):
                    return id_
    return ""


def _chains(program: Program) -> list[list[Sqe]]:
    """Requests, those of a chain together: what becomes of one becomes of those behind it."""
    chains: list[list[Sqe]] = []
    last: dict[str, list[Sqe]] = {}
    for step in program.steps:
        if isinstance(step, Sqe):
            chain = last.pop(step.ring, [])
            if not chain:
                chains.append(chain)
            chain.append(step)
            if int(dict(step.fields).get("flags", 0)) & (SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK):  # type: ignore[arg-type]
                last[step.ring] = chain
    return chains


def _posts(step: Sqe) -> int:
    """The user_data of the completion that a message posts; -1 for other requests."""
    return int(dict(step.fields).get("off", -1)) if step.opcode == Op.MSG_RING else -1  # type: ignore[arg-type]


def _same_but_for_order(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> bool:
    """Whether each step has the same completions; those of one request are in the same order.

    In a small CQ, and where some are taken, the order says which ones: there all those of a ring are compared.
    """
    small = {step.ring for step in program.steps if isinstance(step, Setup) and step.cq_entries}
    small |= {step.ring for step in program.steps if isinstance(step, Reap) and step.most < 1 << 16}
    all_theirs: list[Seen] = []
    all_ours: list[Seen] = []
    for step, theirs, ours in zip(program.steps, expected, got, strict=True):
        if isinstance(step, Reap) and (step.order or step.ring in small):
            if step.ring in small:
                all_theirs += [cqe for cqe in theirs if isinstance(cqe, list)]
                all_ours += [cqe for cqe in ours if isinstance(cqe, list)]
            elif sorted(theirs, key=_user_data) != sorted(ours, key=_user_data):
                return False
        elif theirs != ours:
            return False
    return sorted(all_theirs, key=_user_data) == sorted(all_ours, key=_user_data)


def _user_data(cqe: Sequence[int]) -> int:
    return cqe[0]


def _chains_in_order(program: Program, outcome: Sequence[Seen]) -> bool:
    """Whether members of a chain that both worked have completed one after the other."""
    seen: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
    for step, cqes in zip(program.steps, outcome, strict=True):
        if isinstance(step, Reap):
            seen[step.ring] += [(cqe[0], cqe[1]) for cqe in cqes if isinstance(cqe, list)]
    last: dict[str, int] = {}
    for step in program.steps:
        if not isinstance(step, Sqe):
            continue
        fields = dict(step.fields)
        number = int(fields["user_data"])  # type: ignore[arg-type]
        before = last.pop(step.ring, None)
        if before is not None:
            places = {cqe[0]: n for n, cqe in enumerate(seen[step.ring]) if cqe[1] >= 0}
            if before in places and number in places and places[before] > places[number]:
                return False
        if int(fields.get("flags", 0)) & (SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK):  # type: ignore[arg-type]
            last[step.ring] = number
    return True
