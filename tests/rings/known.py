"""Differences that are known, each with its reason on the conformance page, and what runs into them.

A case or a program that runs into one is skipped by its id and counted; the counts are printed at the end of a run.
"""

from __future__ import annotations

import collections
import errno
import functools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from tests.rings.language import (
    FILE_KINDS,
    Drain,
    Enter,
    Fd,
    Fill,
    Look,
    Open,
    Read,
    Reap,
    Register,
    Setup,
    Sqe,
    Told,
    Wait,
    Word,
    Write,
)
from uring_iopf.abi import Op, RegisterOp, SetupFlags, SqeFlags, SqFlags
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
    "bundle: a multishot": "rings-bundles",
    "resize: larger": "rings-resize",
    "resize: smaller": "rings-resize",
    "resize: CQ only": "rings-resize",
    "end: stream, poll first": "rings-poll-first-end",
    "message: to itself, behind many others": "rings-message-order",
    "socket: an urgent byte, and whether there is more, tcp": "rings-urgent",
    "socket: an urgent byte, and whether there is more, stream": "rings-urgent",
    "links: many, with one behind them, for a polling thread": "rings-turns",
}
"""Cases that run into a known difference, by their names."""

ORDER: Final = "rings-order"
HALF: Final = "rings-half"


def _fields(sqe: Sqe) -> dict[str, Any]:
    return dict(sqe.fields)


Key = tuple[str, int]
"""The completions of one request: a ring, and a user_data."""
Cqes = list[tuple[int, tuple[int, ...]]]
"""Of one request: the step that took each, and what it says behind the user_data."""


@dataclass(frozen=True)
class Difference:
    """One request whose completions are not the same."""

    sqe: Sqe
    theirs: Cqes
    ours: Cqes
    files: Mapping[str, str]
    """The kinds of the program's files, by name."""
    program: Program

    @property
    def fields(self) -> dict[str, Any]:
        return _fields(self.sqe)

    @property
    def results(self) -> tuple[list[int], list[int]]:
        return [cqe[0] for _, cqe in self.theirs], [cqe[0] for _, cqe in self.ours]

    def kinds(self) -> set[str]:
        """Of the file that it is on; of a registered one it may be any."""
        fd = self.fields.get("fd")
        if isinstance(fd, Fd):
            return {self.files.get(_base(fd.name), "ring")}
        return set(self.files.values()) if self.fields.get("flags", 0) & SqeFlags.FIXED_FILE else set()


def _base(name: str) -> str:
    return name.partition(".")[0]


_MOVE: Final = frozenset(
    {
        *(Op.READ, Op.READV, Op.READ_FIXED, Op.READV_FIXED, Op.READ_MULTISHOT, Op.RECV),
        *(Op.WRITE, Op.WRITEV, Op.WRITE_FIXED, Op.WRITEV_FIXED, Op.SEND),
    }
)
_CANCEL: Final = frozenset({Op.ASYNC_CANCEL, Op.POLL_REMOVE, Op.TIMEOUT_REMOVE, Op.LINK_TIMEOUT})
EBADF, EINVAL, ECANCELED, ENOENT, EALREADY, EINTR, ETIME = -9, -22, -125, -2, -114, -4, -62
_ERRNOS: Final = frozenset(
    {
        *(errno.EAGAIN, errno.EBADF, errno.EBADFD, errno.EFAULT, errno.EINVAL, errno.ENOENT, errno.EALREADY),
        *(errno.ECANCELED, errno.ETIME, errno.ENOBUFS, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.EPIPE, errno.ENOTSOCK),
        *(errno.ENOTCONN, errno.EMSGSIZE, errno.ECONNRESET, errno.EACCES, errno.ENXIO, errno.ESPIPE, errno.EINTR),
    }
)
"""What requests of drawn programs may end with."""
_FAR: Final = 1 << 17
"""More than any of them moves."""
_UNUSED_FLAGS: Final = 0x7FC0
"""Of a CQE, below the id of a buffer."""
_LINKS: Final = SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK
_SKIP: Final = 32
"""IORING_CQE_F_SKIP: nothing but this is in such a CQE."""
_URGENT: Final = 0x2 | 0x80 | 0x200
"""POLLPRI, POLLRDBAND, POLLWRBAND: in the wake-ups of sockets, and in no poll."""


def _polls(d: Difference) -> bool:
    """A poll of a file of the host: it is woken by more, and its mask says what holds by then.

    That is more than the wake-up said, and never urgent data. It is less only where another request has been there.
    """
    theirs, ours = d.results
    if d.sqe.opcode != Op.POLL_ADD or d.kinds() <= {"ring"}:
        return False
    masks = [functools.reduce(operator.or_, (res for res in some if res > 0), 0) for some in (theirs, ours)]
    less = masks[0] & ~masks[1] & ~_URGENT
    return not less or any(_moves(step) and _same_file(step, d.sqe) for step in d.program.steps)


def _behind_a_silent_poll(d: Difference) -> bool:
    """In a chain behind such a poll that says nothing of its success: whether it was woken shows here first."""
    chain = next((chain for chain in _chains(d.program) if d.sqe in chain), [])
    return any(
        one.opcode == Op.POLL_ADD
        and _fields(one).get("flags", 0) & SqeFlags.CQE_SKIP_SUCCESS
        and _fields(one).get("fd") in [Fd(name + end) for name, kind in d.files.items() for end in FILE_KINDS[kind]]
        for one in chain[: chain.index(d.sqe)]
    )


def _polls_first_for_an_end(d: Difference) -> bool:
    """A multishot receive that polls first: ours has reported the end, too."""
    theirs, ours = d.results
    return d.sqe.opcode == Op.RECV and d.fields.get("ioprio", 0) & 3 == 3 and ours[: len(theirs)] == theirs


def _one_of_several(d: Difference) -> bool:
    """One of several requests that may wait for the same file."""
    same = [one for one in d.program.steps if _moves(one) and _same_file(one, d.sqe)]
    return d.sqe.opcode in _MOVE and len(same) > 1


def _moves(step: Step) -> TypeGuard[Sqe]:
    return isinstance(step, Sqe) and step.opcode in _MOVE


def _same_file(one: Sqe, other: Sqe) -> bool:
    """Or the other end of it, or a file by its slot, which may be the same."""
    fds = [_fields(step).get("fd") for step in (one, other)]
    names = {_base(fd.name) if isinstance(fd, Fd) else fd for fd in fds}
    return len(names) == 1 or any(isinstance(fd, int) and fd >= 0 for fd in fds)


def _regular(d: Difference) -> bool:
    """A request on a regular file, which ours does not have: there it is no descriptor, and an empty slot."""
    if "file" not in d.files.values():
        return False
    if d.sqe.opcode in (Op.FILES_UPDATE, Op.CLOSE):
        return True
    sends = d.sqe.opcode == Op.MSG_RING and d.fields.get("addr", 0)  # a registered file
    return bool(sends or "file" in d.kinds()) and d.results[1] == [EBADF]


def _bundles(d: Difference) -> bool:
    fields = d.fields
    bundle = fields.get("ioprio", 0) & 16 and fields.get("flags", 0) & SqeFlags.BUFFER_SELECT
    return d.sqe.opcode in (Op.RECV, Op.SEND) and bool(bundle) and d.results[1] == [EINVAL]


def _own_eventfd(d: Difference) -> bool:
    """A request on an eventfd that a ring signals, where workers are about, or another such request."""
    return Fd("told") == d.fields.get("fd") and (_by_worker(d.program) or _several_on_it(d.program))


def _several_on_it(program: Program) -> bool:
    """Whether several requests are on the eventfd of a ring that puts its work off."""
    return any(isinstance(step, Setup) and step.flags & SetupFlags.DEFER_TASKRUN for step in program.steps) and (
        sum(_moves(step) and ("fd", Fd("told")) in step.fields for step in program.steps) > 1
    )


def _by_worker(program: Program) -> bool:
    """Whether a thread may start one: a poller, or a worker that is asked for, by a drain, or of a chain left open."""
    if any(isinstance(step, Setup) and step.flags & SetupFlags.SQPOLL for step in program.steps):
        return True
    by = SqeFlags.ASYNC | SqeFlags.IO_DRAIN | SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK
    return any(isinstance(step, Sqe) and _fields(step).get("flags", 0) & by for step in program.steps)


REQUESTS: Final[Mapping[str, Callable[[Difference], bool]]] = {
    "regular-files": _regular,
    "rings-bundles": _bundles,
    "rings-poll-first-end": _polls_first_for_an_end,
    "rings-own-eventfd": _own_eventfd,
    "rings-host-poll": lambda d: _polls(d) or _behind_a_silent_poll(d),
    "rings-host-waiters": _one_of_several,
}
"""Requests that run into one in any program: what is to be seen of each is said here, and no more."""

counted: collections.Counter[str] = collections.Counter()
"""How often which was run into, in this process; and how many programs were played in all."""


def explanation(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> str:
    """The id of the known difference that these two outcomes differ by; empty where there is none."""
    if not _can_be(program, expected, got):
        return ""
    overflows = _overflows(program, expected, got)
    if overflows and _chains_in_order(program, got):
        return overflows
    if _looks_for_a_regular_file(program, expected, got):
        return "regular-files"
    if _half_of_a_wide_one(program, expected, got):
        return HALF
    if _woken_for_nothing(program, expected, got):
        return "rings-host-poll"
    others = _beside_its_signals(program, expected, got)
    if others == expected:
        return "rings-own-eventfd"
    found = (
        _Comparison(program, expected, got, set()).explanation()
        or _Comparison(program, expected, got, _small(program)).explanation()
    )
    # Two rings of a program can each run into a difference of their own.
    return found or (explanation(program, expected, others) if others != got else "")


def _can_be(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> bool:
    """Whether the completions that only one of them has are such as requests of a drawn program can end with."""
    for step, theirs, ours in zip(program.steps, expected, got, strict=True):
        if isinstance(step, Reap) and theirs != ours:
            for cqe in (*theirs, *ours):
                if isinstance(cqe, list) and (cqe not in theirs or cqe not in ours) and not _is_an_end(cqe[1], cqe[2]):
                    return False
    return True


def _is_an_end(res: int, flags: int) -> bool:
    return (-res in _ERRNOS or 0 <= res < _FAR) and not flags & _UNUSED_FLAGS


class _Comparison:
    """Two outcomes, request by request: each that differs must have a reason, and everything else must be the same."""

    def __init__(self, program: Program, expected: Sequence[Seen], got: Sequence[Seen], small: set[str]) -> None:
        self.program, self.small = program, small
        """Rings where the order says which completions are taken when, and that is another."""
        self.pairs = list(zip(program.steps, expected, got, strict=True))
        self.files = {step.name: step.kind for step in program.steps if isinstance(step, Open)}
        self.sqes = {_key(step): step for step in program.steps if isinstance(step, Sqe)}
        theirs, ours = self._cqes(expected), self._cqes(got)
        self.differing = {key: (theirs[key], ours[key]) for key in (*theirs, *ours) if theirs[key] != ours[key]}
        self.reasons: dict[Key, str] = {}

    def _cqes(self, outcome: Sequence[Seen]) -> collections.defaultdict[Key, Cqes]:
        found: collections.defaultdict[Key, Cqes] = collections.defaultdict(list)
        for n, (step, seen) in enumerate(zip(self.program.steps, outcome, strict=True)):
            if isinstance(step, Reap):
                for cqe in seen:
                    if isinstance(cqe, list):
                        found[step.ring, cqe[0]].append((0 if step.ring in self.small else n, tuple(cqe[1:])))
        return found

    def explanation(self) -> str:
        self._find_reasons()
        if not self.differing or set(self.reasons) != set(self.differing):
            return ""
        if not all(self._follows(*pair) for pair in self.pairs if pair[1] != pair[2]):
            return ""
        return next(id_ for id_ in REQUESTS if id_ in self.reasons.values())

    def _find_reasons(self) -> None:
        for key, (theirs, ours) in self.differing.items():
            sqe = self.sqes.get(key)
            if sqe is not None:
                difference = Difference(sqe, theirs, ours, self.files, self.program)
                id_ = next((id_ for id_, holds in REQUESTS.items() if holds(difference)), "")
                if id_:
                    self.reasons[key] = id_
        before = -1
        while before != len(self.reasons):  # what follows from what has a reason
            before = len(self.reasons)
            for key in self.differing.keys() - self.reasons.keys():
                cause = next((cause for cause in self.reasons if self._comes_of(key, cause)), None)
                if cause is not None:
                    self.reasons[key] = self.reasons[cause]

    def _comes_of(self, key: Key, cause: Key) -> bool:
        """Whether what became of one request says what becomes of the other."""
        sqe, other = self.sqes.get(key), self.sqes.get(cause)
        if other is None:
            return False
        if sqe is None:  # the completion that a message has posted
            return other.opcode == Op.MSG_RING and _fields(other).get("off") == key[1]
        if any(other in chain and sqe in chain[chain.index(other) :] for chain in _chains(self.program)):
            return True
        fields = _fields(sqe)
        if fields.get("flags", 0) & SqeFlags.IO_DRAIN and not self.differing[cause][1]:
            return not self.differing[key][1]  # it waits for what has not ended
        if sqe.opcode in _CANCEL:
            return bool(fields.get("addr") == cause[1] or fields.get("op_flags", 0) & 0x27)
        if other.opcode in _CANCEL:  # it has cancelled another
            return any(cqe[0] == ECANCELED for some in self.differing[key] for _, cqe in some)
        return sqe.opcode in (_MOVE | {Op.POLL_ADD}) and other.opcode in _MOVE and _same_file(sqe, other)

    def _follows(self, step: Step, theirs: Seen, ours: Seen) -> bool:
        """Whether another step than the taking of completions may differ for these reasons."""
        reasons = [self.sqes[key] for key in self.reasons if key in self.sqes]
        if isinstance(step, Reap):
            return True
        if isinstance(step, Enter):  # what was there when it returned
            return theirs[:2] == ours[:2] or {theirs[0], ours[0]} <= {0, -62}
        if isinstance(step, Wait | Told):
            return True
        if isinstance(step, Look):
            return any(sqe.opcode in _MOVE for sqe in reasons)
        if isinstance(step, Read | Write | Drain | Fill):
            return any(sqe.opcode in _MOVE and self._is_on(sqe, step.file) for sqe in reasons)
        if isinstance(step, Register):
            if step.op == RegisterOp.REGISTER_SYNC_CANCEL:
                found = all(one >= 0 or one in (ENOENT, ETIME, EALREADY) for one in (theirs, ours))
                return (found and bool(reasons)) or "file" in self.files.values()
            return step.look and any(_fields(sqe).get("flags", 0) & SqeFlags.BUFFER_SELECT for sqe in reasons)
        return False

    @staticmethod
    def _is_on(sqe: Sqe, file: str) -> bool:
        fd = _fields(sqe).get("fd")
        return isinstance(fd, int) or (isinstance(fd, Fd) and _base(fd.name) == _base(file))


def _key(sqe: Sqe) -> Key:
    return sqe.ring, _fields(sqe)["user_data"]


def _woken_for_nothing(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> bool:
    """Whether all that differs is that ours shows task work, of what has been woken and waits again."""
    pairs = [pair for pair in zip(program.steps, expected, got, strict=True) if pair[1] != pair[2]]
    woken = any(isinstance(step, Sqe) and step.opcode in (_MOVE | {Op.POLL_ADD}) for step in program.steps)
    return woken and all(
        isinstance(step, Enter) and theirs[:2] == ours[:2] and ours[2:] == [theirs[2] | SqFlags.TASKRUN]
        for step, theirs, ours in pairs
    )


def _beside_its_signals(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> list[Seen]:
    """Our outcome, with theirs where all that differs is how often an eventfd was signalled, to who reads that.

    See `_own_eventfd`.
    """
    on_it = [
        step.opcode
        for step in program.steps
        if isinstance(step, Sqe) and isinstance(fd := _fields(step).get("fd"), Fd) and fd.name == "told"
    ]
    reads = any(opcode in _MOVE for opcode in on_it)
    may_be = _by_worker(program) or _several_on_it(program)
    return [
        theirs
        if may_be
        and (
            isinstance(step, Told)
            or (isinstance(step, Read) and step.file == "told")
            or (isinstance(step, Wait) and on_it)
            or (isinstance(step, Look) and reads)
        )
        else ours
        for step, theirs, ours in zip(program.steps, expected, got, strict=True)
    ]


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
            if int(_fields(step).get("flags", 0)) & _LINKS:
                last[step.ring] = chain
    return chains


def _small(program: Program) -> set[str]:
    """Rings whose CQ may be full, or of whose completions some are taken."""
    small = {step.ring for step in program.steps if isinstance(step, Setup) and step.cq_entries}
    asked = collections.Counter(step.ring for step in program.steps if isinstance(step, Sqe))
    small |= {step.ring for step in program.steps if isinstance(step, Setup) and asked[step.ring] > 2 * step.entries}
    return small | {step.ring for step in program.steps if isinstance(step, Reap) and step.most < 1 << 16}


def _overflows(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> str:
    """The reason why other completions were taken first, of a CQ that holds less than there are; all else is the same.

    Workers complete in no order, and a poll of a host's file may be called by a later event than Linux's.
    """
    of_rings: dict[str, tuple[list[Seen], list[Seen]]] = collections.defaultdict(lambda: ([], []))
    differ: set[str] = set()
    left: set[str] = set()
    reasons = dict.fromkeys(_small(program) & _rings_of_late_polls(program), "rings-host-poll")
    for step, theirs, ours in zip(program.steps, expected, got, strict=True):
        if isinstance(step, Reap):
            for all_, seen in zip(of_rings[step.ring], (theirs, ours), strict=True):
                all_ += [cqe for cqe in seen if isinstance(cqe, list)]
            if not step.order:
                reasons[step.ring] = ORDER
            if theirs != ours:
                if len(theirs) != len(ours) or step.ring not in reasons:
                    return ""
                differ.add(step.ring)
        elif theirs != ours:
            return ""
        elif isinstance(step, Word) and step.name == "sq_flags":  # the last steps of a program
            if isinstance(theirs, int) and theirs & SqFlags.CQ_OVERFLOW:
                left.add(step.ring)
            else:
                left.discard(step.ring)
    same = all(
        sorted(theirs) == sorted(ours) or (ring in left and _are_others(theirs, ours))
        for ring, (theirs, ours) in of_rings.items()
    )
    return next((reasons[ring] for ring in differ), "") if same else ""


def _are_others(theirs: list[Seen], ours: list[Seen]) -> bool:
    """Whether the completions that differ, of a ring that keeps more, are of requests that the other has kept."""
    only = [cqe for cqe in theirs if cqe not in ours] + [cqe for cqe in ours if cqe not in theirs]
    return all(sum(cqe[0] == other[0] for other in theirs + ours) == 1 for cqe in only)


def _rings_of_late_polls(program: Program) -> set[str]:
    """Where a poll waits for what another request may take."""
    polls = [step for step in program.steps if isinstance(step, Sqe) and step.opcode == Op.POLL_ADD]
    return {poll.ring for poll in polls if any(_moves(step) and _same_file(step, poll) for step in program.steps)}


def _looks_for_a_regular_file(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> bool:
    """Whether all that differs is that a call cannot find what waits for a regular file, which ours does not have."""
    return any(isinstance(step, Open) and step.kind == "file" for step in program.steps) and all(
        isinstance(step, Register) and step.op == RegisterOp.REGISTER_SYNC_CANCEL and ours == EBADF
        for step, theirs, ours in zip(program.steps, expected, got, strict=True)
        if theirs != ours
    )


def _half_of_a_wide_one(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> bool:
    """Whether ours has left the last slot of a CQ for both sizes unused, and Linux has used it once more."""
    mixed = {step.ring for step in program.steps if isinstance(step, Setup) and step.flags & SetupFlags.CQE_MIXED}
    pairs = [pair for pair in zip(program.steps, expected, got, strict=True) if pair[1] != pair[2]]
    if not pairs:
        return False
    step, theirs, ours = pairs[0]
    if not isinstance(step, Reap) or step.ring not in mixed or len(ours) > len(theirs):
        return False
    first = next((pair for pair in zip(theirs, ours, strict=False) if pair[0] != pair[1]), None)
    skips = [isinstance(cqe, list) and cqe[2:3] == [_SKIP] for cqe in first or ()]
    return skips == [False, True] and all(getattr(other, "ring", "") == step.ring for other, _, _ in pairs)


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
        fields = _fields(step)
        number = int(fields["user_data"])
        before = last.pop(step.ring, None)
        if before is not None:
            places = {cqe[0]: n for n, cqe in enumerate(seen[step.ring]) if cqe[1] >= 0}
            if before in places and number in places and places[before] > places[number]:
                return False
        if int(fields.get("flags", 0)) & _LINKS:
            last[step.ring] = number
    return True
