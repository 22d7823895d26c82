"""What programs ask for: `python -m tests.rings.drawn [--seed N] [--programs N]` prints how often what was drawn.

A row is an opcode, one of its flags (of the SQE, or of its own), and a kind of file; or an opcode and two flags, of
either kind; or one or two flags of setup; or what a scene sets up. Every row is of the library's own lists. What is
random would now and then leave one out, so the programs of a run, by their numbers, have each row among them once in
any case (`ensured`).
"""

from __future__ import annotations

import argparse
import collections
from itertools import combinations, product
from typing import TYPE_CHECKING, Final

from tests.rings import scenes
from tests.rings.language import Blob, Elsewhere, Enter, Fd, Meanwhile, Open, Register, Setup, Sqe
from tests.rings.wide import (
    EVERY_SETUP,
    FILES,
    MANY,
    MODES,
    OF_FILES,
    OPERATIONS,
    OPTIONS,
    OTHERS,
    PAIRS,
    PAIRS_OF_SETUP,
    SQE_FLAGS,
    Flag,
)
from uring_iopf.abi import EnterFlags, NopFlags, Op, RegisterOp, SetupFlags, SqeFlags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rings.language import Program, Step

Row = tuple[str, ...]
Row_ = tuple[Op, tuple[int, ...], tuple[Flag, ...], str]
"""A row as an operation, flags of its SQE, flags of its own, and a kind of file."""
NO_FILE: Final = "none"
DEFERRED_MODE: Final = int(SetupFlags.SINGLE_ISSUER | SetupFlags.DEFER_TASKRUN)
FIXED: Final = int(SqeFlags.FIXED_FILE)


def _flag(flag: int) -> str:
    return SqeFlags(flag).name or f"{flag:#x}"


def _option(option: Flag) -> str:
    return f"{option[0]} {option[1]:#x}"


def _kinds(op: Op, flag: int = 0) -> tuple[str, ...]:
    """Kinds of file that an operation is asked for; a ring cannot be registered."""
    if op not in OF_FILES:
        return (NO_FILE,)
    return tuple(kind for kind in FILES if flag != FIXED or kind != "ring")


def _singles(kind: str) -> list[Row_]:
    """An operation with one flag, of one kind of file."""
    of_sqe = [(op, (flag,), (), kind) for op in OPERATIONS for flag in SQE_FLAGS if kind in _kinds(op, flag)]
    own = [(op, (), (option,), kind) for op in OPERATIONS for option in OPTIONS[op] if kind in _kinds(op)]
    return [*of_sqe, *own]


_SINGLE: Final = tuple(row for kind in (NO_FILE, *FILES) for row in _singles(kind))
_TWOS: Final = tuple(
    singles[at : at + 2] for singles in map(_singles, (NO_FILE, *FILES)) for at in range(0, len(singles), 2)
)
"""Rows that one program may have: of the same kind of file."""
_DOUBLE: Final = tuple((op, pair, (), "") for op in OPERATIONS for pair in combinations(SQE_FLAGS, 2)) + tuple(
    (op, (), pair, "") for op in OPERATIONS for pair in combinations(OPTIONS[op], 2)
)
_MIXED: Final = tuple((op, (flag,), (option,), "") for op in OPERATIONS for flag in SQE_FLAGS for option in OPTIONS[op])
"""A flag of the SQE and one of the operation's own."""
REGISTERS: Final = frozenset(RegisterOp) - {
    RegisterOp.REGISTER_IOWQ_MAX_WORKERS,
    RegisterOp.REGISTER_NAPI,
    RegisterOp.UNREGISTER_NAPI,
    RegisterOp.REGISTER_SEND_MSG_RING,
    RegisterOp.REGISTER_ZCRX_IFQ,
    RegisterOp.REGISTER_MEM_REGION,
    RegisterOp.REGISTER_QUERY,
    RegisterOp.REGISTER_ZCRX_CTRL,
    RegisterOp.REGISTER_BPF_FILTER,
}
"""All but those that are listed as not there."""
DEFERRED_ROW: Final = ("DEFER_TASKRUN", f"{MANY} completions or more at a time")
BEHIND_ROW: Final = ("POLL_ADD", "of a ring, again and again, behind a chain of the same call")
ROWS: Final[tuple[Row, ...]] = (
    *((op.name, *map(_flag, flags), *map(_option, options), kind) for op, flags, options, kind in _SINGLE),
    *((op.name, *map(_flag, flags), *map(_option, options)) for op, flags, options, _ in (*_DOUBLE, *_MIXED)),
    *(("setup", str(SetupFlags(flag).name)) for flag in EVERY_SETUP),
    *(("setup", str(SetupFlags(a).name), str(SetupFlags(b).name)) for a, b in PAIRS_OF_SETUP),
    *(("register", op.name) for op in REGISTERS),
    *(("enter", str(flag.name)) for flag in EnterFlags),
    DEFERRED_ROW,
    BEHIND_ROW,
    *scenes.ROWS,
)


class Drawn:
    """Counts rows."""

    def __init__(self) -> None:
        self.programs = 0
        self.counts: collections.Counter[Row] = collections.Counter()

    def missing(self) -> list[Row]:
        return [row for row in ROWS if not self.counts[row]]

    def count(self, program: Program) -> None:
        self.programs += 1
        self.counts.update(scenes.asked(program))
        kinds: dict[str, str] = {"told": "told"}
        slots: dict[str, list[str]] = {}  # of each ring
        deferred: set[str] = set()  # rings
        put_off, chained = 0, False
        for step in _by_any_thread(program):
            if isinstance(step, Open) and step.name != "told":
                kinds[step.name] = step.kind
            elif isinstance(step, Setup):
                kinds[step.ring] = "ring"
                names = [str(SetupFlags(flag).name) for flag in EVERY_SETUP if step.flags & flag]
                self.counts.update(("setup", name) for name in names)
                self.counts.update(("setup", *pair) for pair in combinations(names, 2))
                (deferred.add if step.flags & SetupFlags.DEFER_TASKRUN else deferred.discard)(step.ring)
            elif isinstance(step, Register):
                self.counts[("register", RegisterOp(step.op).name)] += 1
                if step.op == RegisterOp.REGISTER_FILES and isinstance(step.arg, Blob):
                    slots[step.ring] = [
                        kinds[fd.name.partition(".")[0]] if isinstance(fd, Fd) else "" for fd in step.arg.values
                    ]
            elif isinstance(step, Enter):
                self.counts.update(("enter", str(flag.name)) for flag in EnterFlags if step.flags & flag)
                if step.flags & EnterFlags.GETEVENTS:
                    put_off = 0
                chained = False
            elif isinstance(step, Sqe) and step.opcode in OPTIONS:
                self._count(step, kinds, slots.get(step.ring, []))
                put_off += (
                    step.ring in deferred and step.opcode == Op.NOP and dict(step.fields).get("op_flags") == NopFlags.TW
                )
                self.counts[DEFERRED_ROW] += put_off == MANY
                self.counts[BEHIND_ROW] += chained and _polls_a_ring(step, kinds)
                chained |= _heads_a_chain(step)

    def _count(self, sqe: Sqe, kinds: dict[str, str], slots: list[str]) -> None:
        op, fields = Op(sqe.opcode), dict(sqe.fields)
        flags = fields.get("flags", 0)
        assert isinstance(flags, int)
        kind, fd = NO_FILE, fields.get("fd")
        if op in OF_FILES and isinstance(fd, Fd):
            kind = kinds[fd.name.partition(".")[0]]
        elif op in OF_FILES and isinstance(fd, int):
            kind = slots[fd] if flags & FIXED and 0 <= fd < len(slots) else ""
        of_sqe = [_flag(flag) for flag in SQE_FLAGS if flags & flag]
        own = [_option(option) for option in OPTIONS[op] if _has(fields.get(option[0], 0), option[1])]
        self.counts.update((op.name, name, kind) for name in of_sqe + own)
        self.counts.update(
            (op.name, *pair) for pair in (*combinations(of_sqe, 2), *combinations(own, 2), *product(of_sqe, own))
        )


def _by_any_thread(program: Program) -> Iterator[Step]:
    """Its steps, also those of its other thread."""
    for step in program.steps:
        if isinstance(step, Meanwhile):
            yield step.enter
            yield from step.steps
        else:
            yield step.step if isinstance(step, Elsewhere) else step


def _heads_a_chain(sqe: Sqe) -> bool:
    fields = dict(sqe.fields)
    return fields.get("op_flags") == NopFlags.TW and fields.get("flags") in (SqeFlags.IO_LINK, SqeFlags.IO_HARDLINK)


def _polls_a_ring(sqe: Sqe, kinds: dict[str, str]) -> bool:
    fields = dict(sqe.fields)
    fd = fields.get("fd")
    return sqe.opcode == Op.POLL_ADD and fields.get("len") == 1 and isinstance(fd, Fd) and kinds.get(fd.name) == "ring"


def _has(value: object, bit: int) -> bool:
    return isinstance(value, int) and bool(value & bit)


_NUMBERS: Final[dict[tuple[int, bool], dict[tuple[int, ...], tuple[int, int]]]] = {
    (n, second): {
        ((number % n,) if b4 < 192 else (number % n, number // n % n)): (b4, b8)
        for b8 in range(256)
        for b4 in (range(192, 256) if second else range(96, 192))
        for number in (b4 - 96 + 160 * b8,)
    }
    for n in {len(options) for options in OPTIONS.values() if options}
    for second in (False, True)
}
"""By the number of an operation's own flags: the two bytes that choose one or two of them."""


def _action(op: Op, flags: tuple[int, ...], options: tuple[Flag, ...], behind: bytes) -> bytes:
    """The action that asks for it."""
    action = bytearray(behind)
    action[0], action[1], action[2], action[4] = 0, OPERATIONS.index(op), 0, 0
    if flags:
        action[2] = 128 + PAIRS.index(flags)
    if options:
        indices = tuple(OPTIONS[op].index(option) for option in options)
        action[4], action[8] = _NUMBERS[len(OPTIONS[op]), len(options) > 1][indices]
    action[9] = 0
    return bytes(action)


PLAIN: Final = 2
"""Every how many-th program is of few kinds, with much of each."""


def ensured(number: int, header: bytes, actions: list[bytes]) -> tuple[bytes, list[bytes]]:
    """The program of this number, some of whose actions are those of which it is the turn."""
    head = bytearray(header)
    if number % PLAIN == 0:
        head[7] &= ~3
        return bytes(head), actions
    head[7] |= 1
    turn = number // PLAIN
    asked = []
    for (op, flags, options, kind), action in zip(_TWOS[turn % len(_TWOS)], actions, strict=False):
        one = _action(op, flags, options, action)
        if kind in FILES:
            others = header[2] - header[2] % len(FILES)
            head[2] = (others if others + len(FILES) <= 256 else 0) + FILES.index(kind)
            head[4] &= ~2  # no other file
            one = one[:5] + bytes([one[5] & ~1]) + one[6:]
            if FIXED in flags:
                head[4] |= 4
                one = one[:3] + bytes(1) + one[4:]
        asked.append(one)
    op, flags, options, _ = _DOUBLE[turn % len(_DOUBLE)]
    asked.append(_action(op, flags, options, actions[2]))
    op, flags, options, _ = _MIXED[turn % len(_MIXED)]
    asked.append(_action(op, flags, options, actions[3]))
    extra = turn % (len(OTHERS) + 9)
    if extra < len(OTHERS):
        asked.append(bytes([15, 5, extra]) + actions[2][3:])
    elif extra < len(OTHERS) + 6:
        asked.append(bytes([15, 6, extra - len(OTHERS)]) + actions[2][3:])
    elif extra == len(OTHERS) + 6:
        head[0] = 0
        asked.append(bytes([15, 4, 1]) + actions[2][3:6] + bytes([1, 0]) + actions[2][8:9] + bytes(1) + actions[2][10:])
    else:
        head[0], head[1] = MODES.index(DEFERRED_MODE), 0
        asked.append(bytes([15, 7]) + actions[2][2:9] + bytes([0]) + actions[2][10:])
    pair = turn % len(PAIRS_OF_SETUP)
    asked.append(bytes([14, 11, pair & 0xFF, pair >> 8]) + actions[3][4:])
    scene, which = scenes.EVERY[turn % len(scenes.EVERY)]
    first = bytes([15, 4, 2 * scene, which & 0xFF, which >> 8]) + actions[1][5:]
    if scene in scenes.LEFT_ALONE:  # no ring may have a turn of itself
        head[0], head[1] = MODES.index(DEFERRED_MODE), 0
        head[4] &= ~1
    return bytes(head), [first, *asked, *actions[4:]]


def _main() -> None:
    from tests.rings.bulk import draw

    parser = argparse.ArgumentParser(prog="python -m tests.rings.drawn", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--programs", type=int, default=5000)
    asked = parser.parse_args()
    drawn = Drawn()
    for number in range(asked.programs):
        drawn.count(draw(asked.seed, number).program())
    for row in ROWS:
        print(f"{drawn.counts[row]:7} {' | '.join(row)}")  # noqa: T201
    print(f"{len(ROWS)} rows, {len(drawn.missing())} of them never, in {drawn.programs} programs")  # noqa: T201


if __name__ == "__main__":
    _main()
