"""Scenes: several steps that belong together, with a ring and a file of their own, for `tests.rings.wide`.

What single requests of a random program seldom come to is set up here, and nothing else is about: time-outs of links
that fire, since what they guard waits for what never comes; messages of 32 bytes; chains that are longer than a turn;
what a worker does where there are data; tags; rings that get no turn between two things that happen outside.
Each scene has a table of what it asks for, and a number chooses a row; `asked` finds the same rows in any program.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from tests.rings import setups, threads
from tests.rings.language import (
    GETEVENTS,
    MS,
    Blob,
    Close,
    Enter,
    Fd,
    Free,
    Look,
    Operand,
    Outside,
    Reap,
    Register,
    Setup,
    Shutdown,
    Sqe,
    Step,
    Together,
    Wait,
    Write,
    buffer,
    data,
    timespec,
)
from tests.rings.scene import (
    ASYNC,
    CLASSIC,
    DEFER,
    DISABLED,
    DRAIN,
    ENDS,
    HARD,
    LAZY,
    LINK,
    MIXED,
    POLLED,
    SELECT,
    SOCKETS,
    SUBMIT_ALL,
    kind_of,
    kinds_of_files,
    turn,
)
from uring_iopf.abi import MsgRingFlags, NopFlags, Op, RegisterOp, SetupFlags, SqeFlags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rings.language import Program
    from tests.rings.scene import Row, Scene

CQE_F_32: Final = 1 << 15
TURN: Final = 24
"""SQEs that a polling thread took at a time."""
DRAWN_FIRST: Final = tuple(kind for kind in ENDS if kind != "pty")
"""Kinds of file of the first tables, whose rows recorded programs name by their numbers."""


# ---- time-outs of links that fire ----

TIMES: Final = (0, 1, MS)
_GUARDED: Final = (*product((Op.READ, Op.READV, Op.POLL_ADD), (*DRAWN_FIRST, "eventfd")), *product((Op.RECV,), SOCKETS))
_FIRES: Final = (*product(TIMES, _GUARDED), *product(TIMES, product((Op.READ, Op.READV, Op.POLL_ADD), ("pty",))))


def fires(scene: Scene, which: int, b: bytes) -> list[Step]:
    """A time-out of a request that waits for nothing that comes. The next time is looked for when it has gone by."""
    ns, (op, kind) = _FIRES[which]
    opened, end, _ = scene.file(kind)
    fields: dict[str, Operand] = {"fd": Fd(end), "addr": data(1), "len": 8}
    if op is Op.POLL_ADD:
        fields = {"fd": Fd(end), "op_flags": 1}
    elif op is Op.READV:
        fields |= {"addr": Blob("2Q", (data(1), 8)), "len": 1}
    behind = (0, LINK, HARD)[b[0] % 3]
    steps: list[Step] = [Setup("scene", 16, LAZY[b[1] % len(LAZY)] | (b[1] >> 4 & 1) * SUBMIT_ALL), opened]
    steps.append(scene.sqe(op, flags=(LINK, LINK, HARD)[b[2] % 3], **fields))
    flags = (0, 1, 4, 8, 32)[b[3] % 5]
    steps.append(scene.sqe(Op.LINK_TIMEOUT, addr=timespec(0, ns), len=1, op_flags=flags, flags=behind))
    steps += [scene.sqe(Op.NOP, fd=-1) for _ in range(bool(behind) + (b[0] >> 4) % 2)]
    return [*steps, *turn(), Free("scene")]


def _of_fires(program: Program) -> Iterator[Row]:
    before, kinds = None, kinds_of_files(program)
    for step in program.steps:
        if not isinstance(step, Sqe):
            continue
        fields = dict(step.fields)
        when = fields.get("addr")
        if step.opcode == Op.LINK_TIMEOUT and before and isinstance(when, Blob) and when.values[0] == 0:
            fd = dict(before.fields).get("fd")
            yield _row_of_fires(int(when.values[1]), Op(before.opcode), kind_of(fd, kinds))  # type: ignore[arg-type]
        before = step


def _row_of_fires(ns: int, op: Op, kind: str) -> Row:
    return "LINK_TIMEOUT", f"of {ns} ns that fires", op.name, kind


# ---- messages of 32 bytes ----

_PASS: Final = int(MsgRingFlags.FLAGS_PASS)
_PASSED: Final = (CQE_F_32, CQE_F_32 | 3, 3, 1 << 16 | CQE_F_32 | 1, 0)
_PASSES: Final = tuple(product((MIXED, 0, MIXED | DEFER, DEFER), (8, 16)))


def passes(scene: Scene, which: int, b: bytes) -> list[Step]:
    """Messages that pass CQE_F_32, among shorter ones: the CQ has room for all, and its end is passed."""
    target, entries = _PASSES[which]
    steps: list[Step] = [Setup("scene", 16, LAZY[b[0] % len(LAZY)]), Setup("target", entries, target)]
    for at in range(2 + b[1] % 3):
        for n in range(1 + (b[2] >> at) % 4):
            flags = _PASSED[(b[3] + at + n * (b[4] % 3)) % len(_PASSED)] if n else CQE_F_32
            fields: dict[str, Operand] = {"off": 5000 + scene.number(), "len": b[4], "op_flags": _PASS}
            steps.append(scene.sqe(Op.MSG_RING, fd=Fd("target"), file_index=flags, **fields))
        steps.append(Enter(-1, 0, GETEVENTS, ring="scene", look=False))
        steps += [*turn("target"), *turn()]
    return [*steps, Free("scene"), Free("target")]


def _of_passes(program: Program) -> Iterator[Row]:
    flags = {step.ring: step.flags for step in program.steps if isinstance(step, Setup)}
    for step in program.steps:
        fields = dict(step.fields) if isinstance(step, Sqe) and step.opcode == Op.MSG_RING else {}
        to, passed, how = fields.get("fd"), fields.get("file_index", 0), fields.get("op_flags", 0)
        passes_it = isinstance(passed, int) and passed & CQE_F_32 and isinstance(how, int) and how & _PASS
        if passes_it and isinstance(to, Fd) and to.name in flags:
            yield _row_of_passes(flags[to.name])


def _row_of_passes(target: int) -> Row:
    return "MSG_RING", "CQE_F_32", *(str(flag.name) for flag in SetupFlags if flag & target & (MIXED | DEFER))


# ---- chains that are longer than a turn ----

_INSIDE: Final = ("nothing", "a failure", "a refusal", "a time-out", "a silent one")
_LONG: Final = tuple(product((*LAZY, POLLED), _INSIDE))


def long_chain(scene: Scene, which: int, b: bytes) -> list[Step]:
    """A chain of more than a turn, all published before anybody looks; something is in it."""
    mode, inside = _LONG[which]
    polled = bool(mode & POLLED)
    steps: list[Step] = [Setup("scene", 64, mode | (DISABLED if polled else 0), sq_thread_idle=1)]
    count, link, at = TURN + 2 + b[0] % 30, (LINK, HARD)[b[1] & 1], b[2] % (TURN + 1)
    opened, end, _ = scene.file("pipe")
    steps.append(opened)
    for n in range(count):
        flags = link if n < count - 1 else 0
        if n == at and inside == "a refusal":
            steps.append(scene.sqe(Op(Op.NOP), fd=-1, flags=flags, op_flags=1 << 20))
        elif n == at and inside == "a failure":
            steps.append(scene.sqe(Op.NOP, fd=-1, flags=flags, op_flags=int(NopFlags.INJECT_RESULT), len=0xFFFFFFFB))
        elif n == at and inside == "a time-out":
            steps.append(scene.sqe(Op.READ, fd=Fd(end), addr=data(1), len=8, flags=flags))
            steps.append(scene.sqe(Op.LINK_TIMEOUT, addr=timespec(0, TIMES[b[3] % 3]), len=1, flags=flags))
        else:
            silent = int(SqeFlags.CQE_SKIP_SUCCESS) if inside == "a silent one" and n >= at else 0
            steps.append(scene.sqe(Op.NOP, fd=-1, flags=flags | silent))
    if polled:  # nothing behind it: how much a thread takes at a time is its own choice; Linux's takes 8 or all
        steps += [Register(RegisterOp.REGISTER_ENABLE_RINGS, 0, 0, "scene"), Wait(-1, "scene"), Reap(ring="scene")]
    else:
        steps += [*(scene.sqe(Op.NOP, fd=-1) for _ in range(b[4] % 4)), *turn()]
    return [*steps, Free("scene")]


def _of_long_chain(program: Program) -> Iterator[Row]:
    flags, length = 0, 0
    for step in program.steps:
        if isinstance(step, Setup):
            flags, length = step.flags, 0
        elif isinstance(step, Enter | Register):
            length = 0
        elif isinstance(step, Sqe):
            linked = dict(step.fields).get("flags", 0)
            length = length + 1 if isinstance(linked, int) and linked & (LINK | HARD) else 0
            if length == TURN + 1:
                yield _row_of_long_chain(flags)


def _row_of_long_chain(mode: int) -> Row:
    return "chain", f"of more than {TURN}", *(str(f.name) for f in SetupFlags if f & mode & ~DISABLED & ~SUBMIT_ALL)


# ---- what a worker does where there are data ----

_WORKED: Final = (
    *product((Op.READ, Op.READV, Op.WRITE), DRAWN_FIRST),
    *product((Op.RECV, Op.SEND), SOCKETS),
)
_WORKS: Final = (
    *product((ASYNC, DRAIN, ASYNC | DRAIN), _WORKED),
    *product((ASYNC, DRAIN, ASYNC | DRAIN), product((Op.READ, Op.READV, Op.WRITE), ("pty",))),
)


def works(scene: Scene, which: int, b: bytes) -> list[Step]:
    """One request for a worker, or behind a drain, that has what it needs."""
    flags, (op, kind) = _WORKS[which]
    opened, read, write = scene.file(kind)
    steps: list[Step] = [Setup("scene", 16, LAZY[b[0] % len(LAZY)]), opened]
    length = (8, 64, 1, 200)[b[1] % 4]
    fields: dict[str, Operand] = {"addr": data(2), "len": length}
    if op in (Op.WRITE, Op.SEND):
        fields |= {"fd": Fd(write), "addr": data(0)}
    else:
        steps.append(Write(read if kind == "eventfd" else write, bytes(range(1 + b[2] % 32))))
        fields["fd"] = Fd(read)
    if op is Op.READV:
        fields |= {"addr": Blob("2Q", (data(2), length)), "len": 1}
    if op in (Op.READ, Op.RECV) and b[3] & 1:
        steps.append(
            scene.sqe(Op.PROVIDE_BUFFERS, fd=2, addr=buffer(240), len=64, off=240, buf_group=CLASSIC),
        )
        steps += turn()
        flags |= SELECT
        fields |= {"addr": 0, "buf_group": CLASSIC}
    steps += [scene.sqe(op, flags=flags, **fields), *turn(), Look(data(2), 256)]
    return [*steps, Free("scene")]


def _of_works(program: Program) -> Iterator[Row]:
    kinds, full = kinds_of_files(program), set()
    for step in program.steps:
        if isinstance(step, Write):
            full.add(step.file.partition(".")[0])
        fields = dict(step.fields) if isinstance(step, Sqe) else {}
        fd, flags = fields.get("fd"), fields.get("flags", 0)
        if isinstance(step, Sqe) and isinstance(fd, Fd) and isinstance(flags, int) and step.opcode in {*_OF_WORKERS}:
            op = Op(step.opcode)
            if op in (Op.WRITE, Op.SEND) or fd.name.partition(".")[0] in full:
                yield _row_of_works(flags & (ASYNC | DRAIN), op, kind_of(fd, kinds))


_OF_WORKERS: Final = (Op.READ, Op.READV, Op.WRITE, Op.RECV, Op.SEND)


def _row_of_works(flags: int, op: Op, kind: str) -> Row:
    names = [str(flag.name) for flag in SqeFlags if flag & flags]
    return op.name, *names, kind, "which has what it needs"


# ---- tags ----

_TAGGED: Final = (
    (RegisterOp.REGISTER_FILES2, RegisterOp.REGISTER_FILES_UPDATE2, RegisterOp.UNREGISTER_FILES),
    (RegisterOp.REGISTER_BUFFERS2, RegisterOp.REGISTER_BUFFERS_UPDATE, RegisterOp.UNREGISTER_BUFFERS),
)
_TAGS: Final = tuple(product(range(2), range(4)))
"""Files or buffers, and how they go: by an update, by two, with the table, with the ring's next table."""


def tags(scene: Scene, which: int, b: bytes) -> list[Step]:
    """Files or buffers with tags, what waits for them and what replaces them."""
    what, how = _TAGS[which]
    first, update, last = _TAGGED[what]
    opened, read, write = scene.file(("pipe", "stream")[b[0] & 1])
    steps: list[Step] = [Setup("scene", 16, LAZY[b[1] % len(LAZY)]), opened]
    entries = Blob("3i", (Fd(read), Fd(write), -1)) if what == 0 else Blob("6Q", (data(40), 64, data(41), 4096, 0, 0))
    numbers = Blob("3Q", (7000 + b[2] % 3, 7100, 0 if what == 0 else b[2] & 4 and 7300))
    steps.append(Register(first, Blob("IIQQQ", (3, 0, 0, entries, numbers)), 32, "scene"))
    fields: dict[str, Operand] = {"addr": data(40), "len": 8}
    if what == 0:
        steps.append(scene.sqe(Op.READ, fd=0, flags=int(SqeFlags.FIXED_FILE), **fields))
    else:
        steps.append(scene.sqe(Op.READ_FIXED, fd=Fd(read), buf_group=0, **fields))
    steps += turn()
    for n in range((1, 2, 0, 0)[how]):
        slot = (b[3] + n) % 3
        new = Blob("i", (Fd(read) if b[4] & 1 else -1,)) if what == 0 else Blob("2Q", (data(42), 64))
        again = Blob("Q", (7200 + n if what or b[4] & 1 else 0,))
        steps.append(Register(update, Blob("IIQQII", (slot, 0, new, again, 1, 0)), 32, "scene"))
        steps += turn()
    if how == 3:
        steps.append(Write(write, b"12345678"))
        steps += turn()
    steps.append(Register(last, 0, 0, "scene"))
    steps += turn()
    steps.append(Write(write, b"abcdefgh"))
    steps += turn()
    return [*steps, Free("scene")]


def _of_tags(program: Program) -> Iterator[Row]:
    for step in program.steps:
        if isinstance(step, Register) and isinstance(step.arg, Blob):
            numbers = [value.values for value in step.arg.values if isinstance(value, Blob)]
            if any(isinstance(one, int) and 7000 <= one < 8000 for values in numbers for one in values):
                yield _row_of_tags(RegisterOp(step.op))


def _row_of_tags(op: RegisterOp) -> Row:
    return "register", op.name, "with tags"


# ---- rings that are left alone ----

_HAPPENS: Final = ("write", "shutdown", "close")
_ALONE: Final = (
    *(
        (kind, what, op)
        for kind in DRAWN_FIRST
        for what in _HAPPENS
        for op in ((Op.RECV, Op.POLL_ADD, Op.READ) if kind in SOCKETS else (Op.READ_MULTISHOT, Op.POLL_ADD, Op.READ))
        if what != "shutdown" or kind in ("stream", "seqpacket", "tcp")
    ),
    *product(("pty",), ("write", "close"), (Op.READ_MULTISHOT, Op.POLL_ADD, Op.READ)),
    *product(("udp", "dgram"), ("shutdown",), (Op.RECV, Op.POLL_ADD, Op.READ)),
)
_WITHOUT_END: Final = ("udp", "dgram")
"""Sockets whose other end is told of no shutdown."""


def alone(scene: Scene, which: int, b: bytes) -> list[Step]:
    """Data, and something behind them, before the ring that waits has a turn."""
    kind, what, op = _ALONE[which]
    if not scene.lazy and what == "shutdown":
        what = "close"
    opened, read, write = scene.file(kind)
    steps: list[Step] = [Setup("scene", 16, DEFER if scene.lazy else LAZY[b[0] % len(LAZY)]), opened]
    fields: dict[str, Operand] = {"fd": Fd(read), "addr": data(3), "len": (64, 8, 4)[b[1] % 3]}
    if op is Op.POLL_ADD:
        fields = {"fd": Fd(read), "op_flags": (1, 0x2001)[b[1] & 1], "len": b[2] & 1}
    elif op in (Op.RECV, Op.READ_MULTISHOT):
        steps.append(scene.sqe(Op.PROVIDE_BUFFERS, fd=4, addr=buffer(240), len=64, off=240, buf_group=CLASSIC))
        steps += turn()
        fields = {"fd": Fd(read), "flags": SELECT, "buf_group": CLASSIC}
        if op is Op.RECV:
            fields["ioprio"] = 2
    steps += [scene.sqe(op, **fields), *turn()]
    behind: dict[str, Outside] = {
        "write": Write(write, bytes(range(1 + b[3] % 20))),
        "shutdown": Shutdown(read if b[5] & 1 else write, b[6] % 3) if kind in _WITHOUT_END else Shutdown(write, 1),
        "close": Close(write),
    }
    both = (Write(write, bytes(range(1 + b[4] % 20))), behind[what])
    # A worker of the kernel brings a terminal's bytes to its other end, when others may have had a turn.
    steps += both if kind == "pty" and not scene.lazy else [Together(both)]
    return [*steps, *turn(), *turn(), Free("scene")]


def _of_alone(program: Program) -> Iterator[Row]:
    kinds, op = kinds_of_files(program), Op.NOP
    for step in program.steps:
        if isinstance(step, Sqe) and step.ring == "scene":
            op = Op(step.opcode)
        elif isinstance(step, Together):
            last = step.steps[-1]
            yield _row_of_alone(kinds.get(last.file.partition(".")[0], ""), type(last).__name__.lower(), op)


def _row_of_alone(kind: str, what: str, op: Op) -> Row:
    return op.name, kind, f"left alone between a write and a {what}"


# ---- tags under copies ----

_CLONE: Final = int(RegisterOp.REGISTER_CLONE_BUFFERS)
_REPLACE: Final = 2
_GOES: Final = (
    "the buffer by an update",
    "the table",
    "the ring",
    "the copied buffer by an update",
    "the copied table",
    "the ring of the copy",
    "the copied table by another copy",
)
_READS: Final = ("nobody", "its ring", "the ring of the copy")
_CLONES: Final = tuple(product(_GOES, _READS))


def clones(scene: Scene, which: int, b: bytes) -> list[Step]:
    """Buffers with tags, copied into another ring, which may have some with tags; one of the two goes before the other.

    A request may still read into the buffer that goes.
    """
    goes, reads = _CLONES[which]
    opened, read, write = scene.file(("pipe", "stream")[b[0] & 1])
    rings = ("scene", "target")
    steps: list[Step] = [opened, *(Setup(ring, 16, LAZY[(b[1] >> 4 * n) % len(LAZY)]) for n, ring in enumerate(rings))]
    entries = Blob("6Q", (data(40), 64, data(41), 4096, data(43), 128))
    steps.append(_with_tags("scene", entries, (7000, 7001 if b[2] & 1 else 0, 7002)))
    own = b[2] & 2
    if own:
        steps.append(_with_tags("target", entries, (7100, 0, 7102)))
    src, dst, count = ((0, 0, 0), (0, 1, 2), (1, 0, 2), (0, 2, 1))[b[3] & 3]
    clone = Blob("iIIIII2I", (Fd("scene"), _REPLACE if own or b[2] & 4 else 0, src, dst, count, 0, 0, 0))
    steps.append(Register(_CLONE, clone, 1, "target"))
    if reads != "nobody":
        ring, slot = (rings[0], src) if reads == "its ring" else (rings[1], dst)
        fields: dict[str, Operand] = {"fd": Fd(read), "addr": data(40 + src), "len": 8, "buf_group": slot}
        steps.append(scene.sqe_of(ring, Op.READ_FIXED, **fields))
    both = [step for ring in rings for step in turn(ring)]
    where, slot = (rings[1], dst) if "copied" in goes or goes.endswith("copy") else (rings[0], src)
    new = Blob("2Q", (data(42), 64)) if b[4] & 1 else Blob("2Q", (0, 0))
    update = Blob("IIQQII", (slot, 0, new, Blob("Q", (7200 if b[4] & 1 else 0,)), 1, 0))
    gone: dict[str, Step] = {
        _GOES[0]: Register(RegisterOp.REGISTER_BUFFERS_UPDATE, update, 32, where),
        _GOES[1]: Register(RegisterOp.UNREGISTER_BUFFERS, 0, 0, where),
        _GOES[2]: Free(where),
        _GOES[6]: Register(_CLONE, Blob("iIIIII2I", (Fd("scene"), _REPLACE, 0, 0, 0, 0, 0, 0)), 1, where),
    }
    gone |= {_GOES[n + 3]: gone[_GOES[n]] for n in range(3)}
    steps += [*both, gone[goes], *both, Write(write, b"12345678"), *both, Write(write, b"abcdefgh"), *both]
    steps += [step for ring in rings for step in (Register(RegisterOp.UNREGISTER_BUFFERS, 0, 0, ring), *turn(ring))]
    return [*steps, Free("scene"), Free("target")]


def _with_tags(ring: str, entries: Blob, tags: tuple[int, ...]) -> Register:
    what = Blob("IIQQQ", (3, 0, 0, entries, Blob("3Q", tags)))
    return Register(RegisterOp.REGISTER_BUFFERS2, what, 32, ring)


def _of_clones(program: Program) -> Iterator[Row]:
    copied, reads, gone = False, "nobody", False
    for step in program.steps:
        if isinstance(step, Register) and step.op == _CLONE and step.ring == "target" and not copied:
            copied, reads, gone = True, "nobody", False
        elif isinstance(step, Sqe) and copied and step.opcode == Op.READ_FIXED:
            reads = _READS[1] if step.ring == "scene" else _READS[2]
        elif isinstance(step, Register | Free) and copied and not gone and step.ring in ("scene", "target"):
            gone = True
            if isinstance(step, Register) and step.op == _CLONE:
                yield _row_of_clones(_GOES[6], reads)
            else:
                how = 2 if isinstance(step, Free) else int(step.op == RegisterOp.UNREGISTER_BUFFERS)
                yield _row_of_clones(_GOES[how + 3 * (step.ring == "target")], reads)
        if isinstance(step, Free) and step.ring == "target":
            copied = False


def _row_of_clones(goes: str, reads: str) -> Row:
    return "register", "CLONE_BUFFERS", f"with tags, and {goes} goes first", f"while {reads} reads into it"


_FIRST_ROWS: Final = ((fires, 96), (passes, 8), (long_chain, 25), (works, 102), (tags, 8), (alone, 57))
"""With the rows that recorded programs name by their numbers: these stay what they are."""
_LATER_ROWS: Final = (
    (fires, len(_FIRES) - 96),
    (works, len(_WORKS) - 102),
    (alone, len(_ALONE) - 57),
    (clones, len(_CLONES)),
    (setups.used, len(setups.USED)),
    *threads.SCENES,
)
"""The same scenes with rows that are behind those, and scenes that came later."""
_LATER: Final = 120
"""A number below it is one of the first."""
_SKIPPED: Final = dict(_FIRST_ROWS)
_BY_NUMBER: Final = (*enumerate(_FIRST_ROWS), *enumerate(_LATER_ROWS, _LATER))
EVERY: Final = tuple((number, which) for number, (_, rows) in _BY_NUMBER for which in range(rows))
"""Each row of each scene, by the numbers of both."""
LEFT_ALONE: Final = tuple(
    first + n
    for first, all_ in ((0, _FIRST_ROWS), (_LATER, _LATER_ROWS))
    for n, one in enumerate(all_)
    if one[0] is alone
)
"""The numbers of scenes in whose programs no ring may have a turn by itself."""
ROWS: Final[tuple[Row, ...]] = tuple(
    dict.fromkeys(
        (
            *(_row_of_fires(ns, op, kind) for ns, (op, kind) in _FIRES),
            *(_row_of_passes(target) for target, _ in _PASSES),
            *(_row_of_long_chain(mode) for mode, _ in _LONG),
            *(_row_of_works(flags, op, kind) for flags, (op, kind) in _WORKS),
            *(_row_of_tags(op) for ops in _TAGGED for op in ops[:2]),
            *(_row_of_alone(*row) for row in _ALONE),
            *(_row_of_clones(*row) for row in _CLONES),
            *(setups.row_of_used(pair) for pair in setups.USED),
            *threads.ROWS,
        )
    )
)


def play(scene: Scene, b: bytes) -> list[Step]:
    """The scene that bytes ask for: its number, the row's in two bytes, and how."""
    row = b[1] | b[2] << 8
    if b[0] < _LATER:
        one, rows = _FIRST_ROWS[b[0] % len(_FIRST_ROWS)]
        return one(scene, row % rows, b[3:])
    one, rows = _LATER_ROWS[(b[0] - _LATER) % len(_LATER_ROWS)]
    return one(scene, _SKIPPED.get(one, 0) + row % rows, b[3:])


def asked(program: Program) -> Iterator[Row]:
    """The rows that a program has."""
    for find in (_of_fires, _of_passes, _of_long_chain, _of_works, _of_tags, _of_alone, _of_clones):
        yield from find(program)
    yield from setups.of_used(program)
    yield from threads.asked(program)
