"""Differences that are known, each with its reason on the conformance page, and what runs into them.

A case or a program that runs into one is skipped by its id and counted; the counts are printed at the end of a run.
"""

from __future__ import annotations

import collections
import errno
import functools
import itertools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from tests.rings.language import (
    BUFFERS,
    EXT_ARG,
    FILE_KINDS,
    At,
    Blob,
    Drain,
    Enter,
    Fd,
    Fill,
    HostFd,
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
from tests.rings.player import PART
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
    def cqes(self) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """What they say, whenever each was taken."""
        return [cqe for _, cqe in self.theirs], [cqe for _, cqe in self.ours]

    @property
    def results(self) -> tuple[list[int], list[int]]:
        return [cqe[0] for _, cqe in self.theirs], [cqe[0] for _, cqe in self.ours]

    @property
    def only(self) -> list[tuple[int, ...]]:
        """The completions that only one of them has."""
        theirs, ours = self.cqes
        return [cqe for cqe in theirs if cqe not in ours] + [cqe for cqe in ours if cqe not in theirs]

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
_READS: Final = _MOVE - {Op.WRITE, Op.WRITEV, Op.WRITE_FIXED, Op.WRITEV_FIXED, Op.SEND}
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
BUFFER: Final = 1024
"""From one provided buffer to the next."""
_FAR: Final = 1 << 17
"""More than any of them moves."""
_UNUSED_FLAGS: Final = 0x7FC0
"""Of a CQE, below the id of a buffer."""
_LINKS: Final = SqeFlags.IO_LINK | SqeFlags.IO_HARDLINK
_WIDE: Final = 1 << 15
_SKIP: Final = 32
"""IORING_CQE_F_SKIP: nothing but this is in such a CQE."""
_OF_A_MOMENT: Final = frozenset(
    -one
    for one in (errno.EAGAIN, errno.EFAULT, errno.ECANCELED, errno.ENOBUFS, errno.EINTR, errno.ECONNRESET, errno.EPIPE)
)
"""What a request that moves data may end with because of what others have done before; not of what it asks for."""
_OF_A_SEARCH: Final = frozenset({-errno.ENOENT, -errno.EALREADY, -errno.ETIME})
"""What those end with that look for others, and no request that moves data or polls."""
_WHEN_TRIED: Final = frozenset({-errno.EOPNOTSUPP, -errno.EINVAL})
"""What only one that has been tried finds, and not one that waits."""
_BUFFER, _MORE, _NONEMPTY, _BUF_MORE = 1, 2, 4, 16
_TRUNC: Final = 0x20
_BUNDLE: Final = 16
_ALL, _BY_FD, _ANY, _BY_OPCODE = 1, 2, 4, 0x20
"""How ASYNC_CANCEL looks for requests."""
_OUTSIDE: Final = frozenset(-one for one in (errno.EAGAIN, errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN))
"""What a call outside the rings is returned because of what these have done."""
_ALWAYS: Final = 0x8 | 0x10 | 0x20 | 0x2000
"""POLLERR, POLLHUP, POLLNVAL, POLLRDHUP: in a mask without being asked for."""
_LONGEST_BUFFER: Final = 4096
_LONGEST_MESSAGE: Final = 1 << 16
_URGENT: Final = 0x2 | 0x80 | 0x200
"""POLLPRI, POLLRDBAND, POLLWRBAND: in the wake-ups of sockets, and in no poll."""


def _polls(d: Difference) -> bool:
    """A poll of a file of the host: it is woken by more, and its mask says what holds by then.

    That is more than the wake-up said, and never urgent data. It is less only where another request has been there.
    """
    theirs, ours = d.results
    if d.sqe.opcode != Op.POLL_ADD or d.kinds() <= {"ring"} or not _may_be_of_poll(d):
        return False
    masks = [functools.reduce(operator.or_, (res for res in some if res > 0), 0) for some in (theirs, ours)]
    less = masks[0] & ~masks[1] & ~_URGENT
    return not less or any(_moves(step) and _same_file(step, d.sqe) for step in d.program.steps)


def _may_be_of_poll(d: Difference) -> bool:
    """Whether what only one of them has are masks of events that were asked for, or its end by another."""
    asked = _number(d.sqe, "op_flags")
    for step in d.program.steps:  # which may ask for other events
        if isinstance(step, Sqe) and step.opcode == Op.POLL_REMOVE and step.ring == d.sqe.ring:
            asked |= _number(step, "op_flags")
    masks = asked & 0xFFFF | _ALWAYS
    more = _may_have(d.sqe)
    urgent = [_URGENT if cqe in d.cqes[0] else 0 for cqe in d.only]
    return all(
        (cqe[0] == ECANCELED or (cqe[0] > 0 and not cqe[0] & ~(masks | extra))) and not cqe[1] & ~more
        for cqe, extra in zip(d.only, urgent, strict=True)
    )


def _behind_a_silent_poll(d: Difference) -> bool:
    """In a chain behind such a poll that says nothing of its success: whether it was woken shows here first."""
    chain = next((chain for chain in _chains(d.program) if d.sqe in chain), [])
    return _is_sooner_or_later(d) and any(
        one.opcode == Op.POLL_ADD
        and _fields(one).get("flags", 0) & SqeFlags.CQE_SKIP_SUCCESS
        and _fields(one).get("fd") in [Fd(name + end) for name, kind in d.files.items() for end in FILE_KINDS[kind]]
        for one in chain[: chain.index(d.sqe)]
    )


def _is_sooner_or_later(d: Difference) -> bool:
    """Whether one of them has only gone further, or has cancelled it before."""
    theirs, ours = d.cqes
    n = min(len(theirs), len(ours))
    alike = theirs[:n] == ours[:n] or any(cqe[:2] == (ECANCELED, 0) for cqe in d.only)
    return alike and all(cqe[:2] == (ECANCELED, 0) or _is_its_own(d.sqe, cqe) for cqe in d.only)


def _is_its_own(sqe: Sqe, cqe: tuple[int, ...]) -> bool:
    """Whether a request of this opcode can end so by itself."""
    res, flags = cqe[:2]
    if sqe.opcode in _MOVE:
        return flags & ~_may_have(sqe) == 0 and (res <= _room(sqe) if res >= 0 else res not in _OF_A_SEARCH)
    if sqe.opcode == Op.POLL_ADD:
        return not flags & ~_may_have(sqe) and (res >= 0 or res not in _OF_A_SEARCH)
    if sqe.opcode == Op.NOP and res not in (EBADF, EINVAL, -errno.EFAULT):
        return res == (_signed(_number(sqe, "len")) if _number(sqe, "op_flags") & 1 else 0)
    return sqe.opcode == Op.NOP or not flags & ~(_MORE if sqe.opcode == Op.TIMEOUT else 0)


def _polls_first_for_an_end(d: Difference) -> bool:
    """A multishot receive that polls first: ours has reported the end, too."""
    theirs, ours = d.cqes
    return (
        d.sqe.opcode == Op.RECV
        and _number(d.sqe, "ioprio") & 3 == 3
        and ours[: len(theirs)] == theirs
        and all(cqe[0] == 0 and not cqe[1] & ~_NONEMPTY for cqe in ours[len(theirs) :])
    )


def _one_of_several(d: Difference) -> bool:
    """One of several requests that may wait for the same file."""
    same = [one for one in d.program.steps if _moves(one) and _same_file(one, d.sqe)]
    return d.sqe.opcode in _MOVE and len(same) > 1 and _may_be_of_move(d)


def _may_be_of_move(d: Difference, also: frozenset[int] = frozenset()) -> bool:
    """Whether what only one of them has depends on what there is to be moved, and not on what the request asks for."""
    most, may_have = _room(d.sqe), _may_have(d.sqe)
    ends = _OF_A_MOMENT | also | (frozenset() if d.theirs and d.ours else _WHEN_TRIED)
    return all(
        (0 <= cqe[0] <= most or cqe[0] in ends) and not cqe[1] & ~may_have and not any(cqe[2:]) for cqe in d.only
    )


def _may_have(sqe: Sqe) -> int:
    """The flags that completions of one that moves data, or polls, can have."""
    if sqe.opcode == Op.POLL_ADD:
        return _MORE if _number(sqe, "len") & 1 else 0
    flags = _NONEMPTY if sqe.opcode == Op.RECV else 0
    if _number(sqe, "flags") & SqeFlags.BUFFER_SELECT:
        flags |= 0xFFFF0000 | _BUFFER | _BUF_MORE
    if sqe.opcode == Op.READ_MULTISHOT or (sqe.opcode == Op.RECV and _number(sqe, "ioprio") & 2):
        flags |= _MORE
    return flags


def _room(sqe: Sqe) -> int:
    """The most bytes that it can move."""
    fields = _fields(sqe)
    if _number(sqe, "flags") & SqeFlags.BUFFER_SELECT:
        return min(_number(sqe, "len") or _LONGEST_BUFFER, _LONGEST_BUFFER)
    vector = fields.get("addr")
    if isinstance(vector, Blob):
        return sum(length for length in vector.values[1::2][: _number(sqe, "len")] if isinstance(length, int))
    truncated = sqe.opcode == Op.RECV and _number(sqe, "op_flags") & _TRUNC  # says how long the message was
    return _LONGEST_MESSAGE if truncated else _number(sqe, "len")


def _number(sqe: Sqe, name: str) -> int:
    value = _fields(sqe).get(name, 0)
    return value if isinstance(value, int) else 0


def _moves(step: Step) -> TypeGuard[Sqe]:
    return isinstance(step, Sqe) and step.opcode in _MOVE


def _same_file(one: Sqe, other: Sqe) -> bool:
    """Or the other end of it, or a file by its slot, which may be the same."""
    fds = [_fields(step).get("fd") for step in (one, other)]
    names = {_base(fd.name) if isinstance(fd, Fd) else fd for fd in fds}
    return len(names) == 1 or any(isinstance(fd, int) and fd >= 0 for fd in fds)


def _regular(d: Difference) -> bool:
    """A request on a regular file, which ours does not have: there it is no descriptor, and an empty slot."""
    if "file" not in d.files.values() or [cqe[:2] for cqe in d.cqes[1]] != [(EBADF, 0)]:
        return False
    sends = d.sqe.opcode == Op.MSG_RING and d.fields.get("addr", 0)  # a registered file
    return bool(sends or d.sqe.opcode in (Op.FILES_UPDATE, Op.CLOSE) or "file" in d.kinds())


def _bundles(d: Difference) -> bool:
    fields = d.fields
    bundle = fields.get("ioprio", 0) & 16 and fields.get("flags", 0) & SqeFlags.BUFFER_SELECT
    return d.sqe.opcode in (Op.RECV, Op.SEND) and bool(bundle) and [cqe[:2] for cqe in d.cqes[1]] == [(EINVAL, 0)]


def _own_eventfd(d: Difference) -> bool:
    """A request on an eventfd that a ring signals, where workers are about, or another such request."""
    if Fd("told") != d.fields.get("fd") or not (_by_worker(d.program) or _several_on_it(d.program)):
        return False
    if d.sqe.opcode == Op.POLL_ADD:
        return _may_be_of_poll(d)
    return d.sqe.opcode in _MOVE and _may_be_of_move(d, _WHEN_TRIED)  # a smaller buffer may be next


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
        self.all = theirs, ours = self._cqes(expected), self._cqes(got)
        """The completions of all requests."""
        self.differing = {key: (theirs[key], ours[key]) for key in (*theirs, *ours) if theirs[key] != ours[key]}
        self.places = {_key(sqe): (n, at) for n, chain in enumerate(_chains(program)) for at, sqe in enumerate(chain)}
        """Of each request the chain, and its place in it."""
        self.steps = {_key(step): n for n, step in enumerate(program.steps) if isinstance(step, Sqe)}
        self.reasons: dict[Key, str] = {}
        self.moved: set[Key] = set()

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
        self.moved = self._moved()
        if not all(self._follows(n) for n, (_, theirs, ours) in enumerate(self.pairs) if theirs != ours):
            return ""
        if not self._others_are_in_order():
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

    def _moved(self) -> set[Key]:
        """Requests that may complete at another moment: those with a reason, and what depends on them."""
        moved = set(self.reasons)
        left = (set(self.sqes) | set(self.differing)) - moved
        new = moved
        while new:
            new = {key for key in left if any(self._depends_on(key, cause) for cause in new)}
            moved |= new
            left -= new
        return moved

    def _depends_on(self, key: Key, cause: Key) -> bool:
        """Whether what becomes of one request says what becomes of the other, or when."""
        sqe, other = self.sqes.get(key), self.sqes.get(cause)
        if other is None:
            return False
        if sqe is None:  # the completion that a message has posted
            return other.opcode == Op.MSG_RING and _fields(other).get("off") == key[1]
        if self.places[key][0] == self.places[cause][0] and self.places[key] > self.places[cause]:
            return True
        if sqe.opcode in _CANCEL:
            return self._may_find(sqe, key, cause)
        if other.opcode in _CANCEL and self._may_find(other, cause, key):
            return True
        if _number(sqe, "flags") & SqeFlags.IO_DRAIN:
            return key[0] == cause[0] and self.steps[key] > self.steps[cause]
        return sqe.opcode in (_MOVE | {Op.POLL_ADD}) and other.opcode in _MOVE and _same_file(sqe, other)

    def _may_find(self, cancel: Sqe, by: Key, what: Key) -> bool:
        """Whether one that cancels may have looked at another request."""
        if by[0] != what[0] or (what in self.steps and self.steps[what] > self.steps[by]):
            return False
        how = _number(cancel, "op_flags") if cancel.opcode == Op.ASYNC_CANCEL else 0
        if not how & (_BY_FD | _ANY | _BY_OPCODE):
            return bool(_fields(cancel).get("addr", 0) == what[1])
        target = self.sqes.get(what)
        if how & _ANY or target is None:
            return True
        return not how & _BY_OPCODE or _number(cancel, "len") == target.opcode

    def _comes_of(self, key: Key, cause: Key) -> bool:
        """Whether what became of one request, whose reason is known, says what became of the other."""
        if not self._depends_on(key, cause) or self._goes_on_behind_one_that_failed(key):
            return False
        sqe = self.sqes.get(key)
        d = Difference(sqe or self.sqes[cause], *self.differing[key], self.files, self.program)
        if sqe is None:
            return _is_sooner_or_later(d) and all(cqe[0] == _signed(_number(self.sqes[cause], "len")) for cqe in d.only)
        if _is_sooner_or_later(d):
            return True
        if sqe.opcode in _CANCEL:
            most = len(self.sqes) if _number(sqe, "op_flags") & _ALL else 0
            return all((cqe[0] in _OF_A_SEARCH or 0 <= cqe[0] <= most) and not cqe[1] for cqe in d.only)
        return _may_be_of_poll(d) if sqe.opcode == Op.POLL_ADD else sqe.opcode in _MOVE and _may_be_of_move(d)

    def _goes_on_behind_one_that_failed(self, key: Key) -> bool:
        """Whether the one before it in a chain has been cancelled, and it has not."""
        chain, place = self.places.get(key, (0, 0))
        if not place:
            return False
        before = next(one for one, where in self.places.items() if where == (chain, place - 1))
        if not _number(self.sqes[before], "flags") & SqeFlags.IO_LINK:
            return False
        return any(
            any(cqe[0] == ECANCELED for _, cqe in some[before]) and any(cqe[0] != ECANCELED for _, cqe in some[key])
            for some in self.all
        )

    # ---- other steps ----

    def _follows(self, n: int) -> bool:
        """Whether another step than the taking of completions may differ for these reasons, and so."""
        step, theirs, ours = self.pairs[n]
        if isinstance(step, Reap):
            return True
        if isinstance(step, Enter):
            return self._is_there_or_not(step.ring) and self._enters(n)
        if isinstance(step, Wait):
            return self._is_there_or_not(step.ring) and self.waits(n)
        if isinstance(step, Told):
            return self._is_told(n)
        if isinstance(step, Look):
            return self.looks(step, theirs, ours)
        if isinstance(step, Read | Write | Drain | Fill):
            moves = [self.sqes[key] for key in self.moved if key in self.sqes and self.sqes[key].opcode in _MOVE]
            return any(self._is_on(sqe, step.file) for sqe in moves) and all(
                _may_be_outside(step, seen) for seen in (theirs, ours)
            )
        if isinstance(step, Register):
            return self._registers(step, theirs, ours)
        return False

    def _is_there_or_not(self, ring: str) -> bool:
        """Whether the ring has completions that come at another moment."""
        return any(key[0] == ring for key in self.reasons)

    def _enters(self, n: int) -> bool:
        """What was there when it returned: whether that was enough, and whether there is more than the CQ holds."""
        step, theirs, ours = self.pairs[n]
        assert isinstance(step, Enter)
        waits = step.min_complete and step.flags & EXT_ARG
        if theirs[1:2] != ours[1:2] or not (theirs[0] == ours[0] or (waits and {theirs[0], ours[0]} == {0, ETIME})):
            return False
        setups = [one for one in self.program.steps[:n] if isinstance(one, Setup) and one.ring == step.ring]
        if not setups:
            return False
        setup = setups[-1]
        shown = SqFlags.TASKRUN if setup.flags & SetupFlags.TASKRUN_FLAG else 0
        other = (theirs[2] ^ ours[2]) if theirs[2:] else 0
        if other & SqFlags.CQ_OVERFLOW and step.ring in _small(self.program):
            shown |= SqFlags.CQ_OVERFLOW
            # What is kept back is so for want of room.
            for seen, place in ((theirs, 1), (ours, 2)):
                taken = self._taken_next(n, place)
                if (
                    seen[2] & SqFlags.CQ_OVERFLOW
                    and taken is not None
                    and taken < (setup.cq_entries or 2 * setup.entries)
                ):
                    return False
        return not other & ~shown

    def _taken_next(self, n: int, place: int) -> int | None:
        """How many completions are taken by the next step that takes all of the ring; None: by none."""
        ring = getattr(self.pairs[n][0], "ring", "")
        for step, *seen in self.pairs[n + 1 :]:
            if isinstance(step, Reap) and step.ring == ring:
                return sum(isinstance(cqe, list) for cqe in seen[place - 1]) if step.most == 1 << 16 else None
        return None

    def waits(self, n: int) -> bool:
        """It ended with as many as it asks for, or with what is taken next; nothing is lost."""
        step, *both = self.pairs[n]
        assert isinstance(step, Wait)
        for place, seen in enumerate(both, 1):
            taken = self._taken_next(n, place)
            if not 0 <= seen <= step.count or (taken is not None and taken < seen):
                return False
        return bool(both[1] == step.count or self._taken_next(n, 2) == both[1])

    def _is_told(self, n: int) -> bool:
        """Whether another number of completions came to the ring that signals it, since it was last asked."""
        step = self.pairs[n][0]
        assert isinstance(step, Told)
        ring = next(
            (
                one.ring
                for one in self.program.steps[n::-1]
                if isinstance(one, Register)
                and one.op in (RegisterOp.REGISTER_EVENTFD, RegisterOp.REGISTER_EVENTFD_ASYNC)
                and isinstance(one.arg, Blob)
                and one.arg.values == (HostFd(step.file),)
            ),
            None,
        )
        first = next((m for m in range(n - 1, -1, -1) if self.pairs[m][0] == step), 0)
        for m, (one, theirs, ours) in enumerate(self.pairs[first:], first):
            if isinstance(one, Reap) and one.ring == ring:
                if len(theirs) != len(ours):
                    return True
                if m > n:
                    break
        return False

    def looks(self, step: Look, theirs: Seen, ours: Seen) -> bool:
        """Whether it is what these requests read that is other."""
        begin = step.at.offset
        differ = [(begin, step.count or 64)]
        if isinstance(theirs, list) and isinstance(ours, list) and not step.format:
            changed = {n for n, _ in (one for one in theirs + ours if (one in theirs) != (one in ours))}
            differ = [(begin + n, PART) for n in changed]
        places = [place for key in self.moved if key in self.sqes for place in self._reads_into(key)]
        return all(any(a < b + m and b < a + n for b, m in places) for a, n in differ)

    def _reads_into(self, key: Key) -> list[tuple[int, int]]:
        """Where the data of a request are put, and how many at most: its own memory, or the buffers that it names."""
        sqe = self.sqes[key]
        if sqe.opcode not in _READS:
            return []
        if _number(sqe, "flags") & SqeFlags.BUFFER_SELECT:
            cqes = [cqe for some in self.all for _, cqe in some[key] if cqe[1] & _BUFFER]
            several = 8 if _number(sqe, "ioprio") & _BUNDLE else 1
            return [(BUFFERS + BUFFER * (cqe[1] >> 16), several * BUFFER) for cqe in cqes]
        at = _fields(sqe).get("addr")
        if isinstance(at, Blob):
            return [
                (one.offset, length)
                for one, length in zip(at.values[::2], at.values[1::2], strict=True)
                if isinstance(one, At) and isinstance(length, int)
            ]
        return [(at.offset, _number(sqe, "len"))] if isinstance(at, At) else []

    def _registers(self, step: Register, theirs: Seen, ours: Seen) -> bool:
        """A call that looks for what waits, or how far the buffers of a group are used."""
        if not isinstance(step.arg, Blob):
            return False
        if step.op == RegisterOp.REGISTER_SYNC_CANCEL:
            target, fd, how, *_ = step.arg.values
            if (
                isinstance(fd, Fd)
                and self.files.get(_base(fd.name)) == "file"
                and isinstance(how, int)
                and how & _BY_FD
            ):
                return bool(ours == EBADF)
            most = len(self.sqes) if isinstance(how, int) and how & _ALL else 0
            if not all(one in (ENOENT, ETIME, EALREADY) or 0 <= one <= most for one in (theirs, ours)):
                return False
            here = [key for key in self.moved if key[0] == step.ring]
            return bool(here) if how else (step.ring, target) in here
        if step.op == RegisterOp.REGISTER_PBUF_STATUS:
            selects = [self.sqes[key] for key in self.moved if key in self.sqes and key[0] == step.ring]
            group = any(
                _number(sqe, "flags") & SqeFlags.BUFFER_SELECT and _number(sqe, "buf_group") == step.arg.values[0]
                for sqe in selects
            )
            heads = [int.from_bytes(bytes.fromhex(seen[1][8:16]), "little") for seen in (theirs, ours)]
            others = [(seen[0], seen[1][:8], seen[1][16:]) for seen in (theirs, ours)]
            return group and others[0] == others[1] and max(heads) < 1 << 16
        return False

    def _others_are_in_order(self) -> bool:
        """Whether the completions of all other requests were posted in the same order, where that is looked at."""
        orders: list[dict[object, list[Key]]] = [collections.defaultdict(list), collections.defaultdict(list)]
        for n, (step, *both) in enumerate(self.pairs):
            if isinstance(step, Reap) and step.order:
                for order, seen in zip(orders, both, strict=True):
                    order[step.ring if step.ring in self.small else n] += [
                        key for cqe in seen if (key := (step.ring, cqe[0])) not in self.moved
                    ]
        return orders[0] == orders[1]

    @staticmethod
    def _is_on(sqe: Sqe, file: str) -> bool:
        fd = _fields(sqe).get("fd")
        return isinstance(fd, int) or (isinstance(fd, Fd) and _base(fd.name) == _base(file))


def _signed(number: int) -> int:
    """A CQE's result of these 32 bits."""
    return (number & 0xFFFFFFFF) - ((number & 0x80000000) << 1)


def _may_be_outside(step: Read | Write | Drain | Fill, seen: Seen) -> bool:
    """Whether a call outside the rings can have shown this, on a file that they have used, too."""
    if isinstance(seen, int):
        if seen < 0:
            return seen in _OUTSIDE
        return not isinstance(step, Read) and seen <= (len(step.data) if isinstance(step, Write) else _FAR)
    return (
        isinstance(step, Read)
        and isinstance(seen, str)
        and seen != "no file"
        and _is_written(bytes.fromhex(seen)[: step.count + 1], step.count)
    )


def _is_written(data: bytes, most: int) -> bool:
    """Whether programs write such bytes: 0, 1, 2 and so on in each piece, or the same; the first may lack bytes."""
    pieces = itertools.pairwise(data)
    return len(data) <= most and not data[:1] > b"\xc8" and all(b in (0, a, a + 1, ord("f")) for a, b in pieces)


def _key(sqe: Sqe) -> Key:
    return sqe.ring, _fields(sqe)["user_data"]


def _woken_for_nothing(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> bool:
    """Whether all that differs is that ours shows task work, of what has been woken and waits again."""
    return all(
        isinstance(step, Enter)
        and theirs[:2] == ours[:2]
        and ours[2:] == [theirs[2] | SqFlags.TASKRUN]
        and _shows_work(program, step.ring)
        and _waits_for_a_file(program, got, n, step.ring)
        for n, (step, theirs, ours) in enumerate(zip(program.steps, expected, got, strict=True))
        if theirs != ours
    )


def _shows_work(program: Program, ring: str) -> bool:
    return any(
        isinstance(step, Setup) and step.ring == ring and step.flags & SetupFlags.TASKRUN_FLAG for step in program.steps
    )


def _waits_for_a_file(program: Program, outcome: Sequence[Seen], n: int, ring: str) -> bool:
    """Whether a request of the ring that has been submitted before a step completes behind it, if at all."""
    files = {Fd(step.name + end) for step in program.steps if isinstance(step, Open) for end in FILE_KINDS[step.kind]}
    waits = {
        _number(step, "user_data")
        for step in program.steps[:n]
        if isinstance(step, Sqe) and step.ring == ring and step.opcode in (_MOVE | {Op.POLL_ADD})
        if _fields(step).get("fd") in files or _number(step, "flags") & SqeFlags.FIXED_FILE
    }
    for step, seen in zip(program.steps[:n], outcome, strict=False):
        if isinstance(step, Reap) and step.ring == ring:
            waits -= {cqe[0] for cqe in seen if isinstance(cqe, list) and not cqe[2] & _MORE}
    return bool(waits)


def _beside_its_signals(program: Program, expected: Sequence[Seen], got: Sequence[Seen]) -> list[Seen]:
    """Our outcome, with theirs where all that differs is how often an eventfd was signalled, to who reads that.

    See `_own_eventfd`.
    """
    if not (_by_worker(program) or _several_on_it(program)):
        return list(got)
    compared = _Comparison(program, expected, got, set())
    on_it = [step for step in program.steps if isinstance(step, Sqe) and ("fd", Fd("told")) in step.fields]
    compared.moved = {_key(step) for step in on_it}
    rings = {step.ring for step in on_it}
    return [
        theirs
        if theirs != ours
        and (
            isinstance(step, Told)
            or (isinstance(step, Read) and step.file == "told" and all(map(_is_count, (theirs, ours))))
            or (isinstance(step, Wait) and step.ring in rings and compared.waits(n))
            or (isinstance(step, Look) and compared.looks(step, theirs, ours))
        )
        else ours
        for n, (step, theirs, ours) in enumerate(zip(program.steps, expected, got, strict=True))
    ]


def _is_count(seen: Seen) -> bool:
    """Whether an eventfd can have shown this: a count that a few signals come to, or that there is none."""
    return bool(seen == -errno.EAGAIN or (isinstance(seen, str) and len(seen) == 16 and seen[4:] == "0" * 12))


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
    setups = [step for step in program.steps if isinstance(step, Setup)]
    polled = {step.ring for step in setups if step.flags & SetupFlags.SQPOLL}  # of which no flags are looked at
    room = {step.ring: step.cq_entries or 2 * step.entries for step in setups}
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
            _note(left, step.ring, step.ring in polled and len(ours) - (not step.order) == room[step.ring])
        elif isinstance(step, Word) and step.name == "sq_flags":  # the last steps of a program
            _note(left, step.ring, isinstance(theirs, int) and bool(theirs & SqFlags.CQ_OVERFLOW))
    same = all(
        sorted(theirs) == sorted(ours) or (ring in left and _are_others(theirs, ours))
        for ring, (theirs, ours) in of_rings.items()
    )
    return next((reasons[ring] for ring in differ), "") if same else ""


def _note(rings: set[str], ring: str, is_one: bool) -> None:
    if is_one:
        rings.add(ring)
    else:
        rings.discard(ring)


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
    """Whether ours has left the last slot of a CQ for both sizes unused, and Linux has used it once more.

    Its CQE of 16 bytes comes before the one of 32 then, and the slot behind is taken a second time. Of ours both wait,
    and all behind comes as late: in the end one of the two has taken more of the same, unless nothing is left.
    """
    mixed = {step.ring for step in program.steps if isinstance(step, Setup) and step.flags & SetupFlags.CQE_MIXED}
    of_rings: dict[str, list[tuple[Seen, Seen]]] = collections.defaultdict(list)
    for step, theirs, ours in zip(program.steps, expected, got, strict=True):
        if isinstance(step, Reap):
            of_rings[step.ring].append((theirs, ours))
    rings = {ring for ring, reaps in of_rings.items() if any(theirs != ours for theirs, ours in reaps)}
    if len(rings) != 1 or not rings <= mixed:
        return False
    (ring,) = rings
    for step, theirs, ours in zip(program.steps, expected, got, strict=True):
        if theirs != ours and not isinstance(step, Reap) and not _says_what_is_kept(step, ring, theirs, ours):
            return False
    reaps = of_rings[ring]
    at = next(n for n, (theirs, ours) in enumerate(reaps) if theirs != ours)
    theirs, ours = reaps[at]
    if not ours or len(theirs) < len(ours) or not _is_skip(ours[-1]) or theirs[: len(ours) - 1] != ours[:-1]:
        return False
    early, again = theirs[len(ours) - 1], theirs[len(ours) :]
    if (len(early) > 3 and early[2] & _WIDE) or _is_skip(early) or again not in ([], theirs[:1]):
        return False
    if any(_slots(theirs) != _slots(ours) for theirs, ours in reaps[at + 1 :]):
        return False
    left = [[cqe for seen in reaps[at + 1 :] for cqe in seen[which] if not _is_skip(cqe)] for which in (0, 1)]
    left[0][1:1] = [early]  # of ours it comes behind the one of 32 bytes
    if not left[0][0][2] & _WIDE:
        return False
    n = min(map(len, left))
    if left[0][:n] != left[1][:n]:
        return False
    fewer = expected if len(left[0]) == n else got  # keeps the others back
    flags = [seen for step, seen in zip(program.steps, fewer, strict=True) if step == Word("sq_flags", ring)]
    return len(left[0]) == len(left[1]) or all(seen & SqFlags.CQ_OVERFLOW for seen in flags[-1:])


def _slots(cqes: Seen) -> int:
    return sum(2 if cqe[2] & _WIDE else 1 for cqe in cqes)


def _is_skip(cqe: Seen) -> bool:
    return bool(cqe[:3] == [0, 0, _SKIP])


def _says_what_is_kept(step: Step, ring: str, theirs: Seen, ours: Seen) -> bool:
    """Whether it differs only by the flag that there are more completions than the CQ of this ring has room for."""
    if getattr(step, "ring", "") != ring:
        return False
    if isinstance(step, Enter):
        return bool(theirs[:2] == ours[:2] and theirs[2] ^ ours[2] == SqFlags.CQ_OVERFLOW)
    return isinstance(step, Word) and step.name == "sq_flags" and theirs ^ ours == SqFlags.CQ_OVERFLOW


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
