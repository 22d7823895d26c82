"""Recordings of a real kernel's iommufd, and of rings on its fault files: the format, and the loading of a file.

A file is JSON Lines, gzipped or plain. Each line is a script, with a name and steps. A step has an operation, its
results, and the hardware's events meanwhile. A script with rings also names its kernel and its fault file. Loading
checks everything, and an error names the place, so that a replay can rely on its script.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from uring_iopf.errors import UsageError

Step: TypeAlias = Mapping[str, Any]
"""``op``, a list of words, and what was recorded of it."""

OPERATIONS: Final[Mapping[str, str]] = {
    "ioas": "name",
    "dev": "name object",
    "devf": "name object u32",
    "fault": "name [u32]",
    "hwpt": "name object object u32 [object]",
    "nested": "name object object u32 [object]",
    "replace": "name object",
    "pattach": "name u32 object",
    "preplace": "name u32 object",
    "pdetach": "name u32",
    "pri": "name pasid u32 u32 u64 which",
    "read": "name u64",
    "write": "name {answer}",
    "poll": "name",
    "close": "name",
    "viommu": "name object object [u32] [u32]",
    "vdevice": "name object object u64",
    "veventq": "name object u32 [u32] [u32]",
    "vevent": "name",
    "readev": "name u64",
    "writeev": "name",
    "detach": "name",
    "destroy": "object",
    "end": "",
}
"""Operations of iommufd, with the kinds of operands. An operand in [] is optional; one in {} may be repeated."""

RING_OPERATIONS: Final[Mapping[str, str]] = {
    "nonblock": "name which01",
    "ring": "name u32 u32 [u32]",
    "buffers": "name u16 u32 [u16]",
    "unbuffers": "name u16",
    "give": "name u16 u32 u16 {u16}",
    "files": "name name {name}",
    "sqe read": "name u32 u8 file u32 [i64]",
    "sqe readsel": "name u32 u8 file u32 u16",
    "sqe mshot": "name u32 u8 file u16",
    "sqe write": "name u32 u8 file {answer}",
    "sqe poll": "name u32 u8 file u32 u32",
    "sqe pollremove": "name u32 u8 u32",
    "sqe cancel": "name u32 u8 u32 u32 [file]",
    "sqe nop": "name u32 u8",
    "enter": "name u32 u32 u32",
    "reap": "name [u32]",
    "kick": "name",
    "settle": "u32",
    "closering": "name",
}
"""Operations of scripts with rings, which have those of iommufd besides. An ``sqe`` is counted by its kind."""

FAULT_FILES: Final = ("merged", "keyed", "unkeyed")
"""The fault files of scripts with rings: Linux's own, and two that were patched."""

_NUMBER: Final = r"(0x[0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,19})"
_NAME: Final = r"[A-Za-z][A-Za-z0-9_]{0,31}"
_KINDS: Final[Mapping[str, re.Pattern[str]]] = {
    kind: re.compile(pattern)
    for kind, pattern in {
        "name": _NAME,
        "object": rf"{_NAME}|#{_NUMBER}",
        "u32": _NUMBER,
        "u64": _NUMBER,
        "pasid": f"-|{_NUMBER}",
        "which": "last|more",
        "which01": "[01]",
        "u8": _NUMBER,
        "u16": _NUMBER,
        "i64": f"-?{_NUMBER}",
        "file": rf"{_NAME}|#-?{_NUMBER}",
        # a cookie by number or by the recorder's book-keeping, and a code; or bytes beyond
        "answer": rf"(?:#{_NUMBER}|[oc][0-9]{{1,9}}):{_NUMBER}|\+{_NUMBER}",
    }.items()
}
"""The captured parts are numbers. `_bits` returns their greatest number of bits."""

_BITS: Final[Mapping[str, int]] = {"u8": 8, "u16": 16, "i64": 63, "u64": 64}

_ALWAYS: Final = frozenset({"op", "ret", "errno", "hw"})
_SOMETIMES: Final = frozenset(
    {"id", "stdev", "hwpt", "pt", "msgs", "responses", "count", "vevents", "revents"}
    | {"sq", "cq", "cqes", "sq_flags", "overflow"}
)
_EVENTS: Final = {"report": {"ev", "dev", "ret"}, "resp": {"ev", "dev", "pasid", "grpid", "code"}}

_GZIP_MAGIC: Final = b"\x1f\x8b"
_SHOWN: Final = 60  # characters of what is wrong that stand in the message


@dataclass(frozen=True)
class Script:
    """One recorded script."""

    name: str
    steps: Sequence[Step]
    kernel: str | None = None
    """The version of the kernel; None: the file's name has it."""
    fault_file: str | None = None
    """One of `FAULT_FILES`, for a script with rings."""
    varies: bool = False
    """Whether the kernel did not do the same each time: such a script is not compared."""

    @property
    def named(self) -> bool:
        """Whether it is a scenario, not a random script."""
        return not self.name.startswith("random-")


class RecordingError(UsageError):
    """A recording cannot be read, or a line of it is malformed.

    `file` and `line` (counted from 1; None: the whole file) are the place.
    """

    def __init__(self, file: str, line: int | None, what: str) -> None:
        super().__init__(f"{file}: {what}" if line is None else f"{file}, line {line}: {what}")
        self.file = file
        self.line = line


def kernel_of(path: Path | str) -> str | None:
    """The kernel version in a file's name: ``6.12`` in ``iommufd-6.12.jsonl.gz``; None: the name has none."""
    versions = set(re.findall(r"(?<![\w.])v?(\d+\.\d+)(?![0-9])", Path(path).name))
    return versions.pop() if len(versions) == 1 else None


def load(path: Path | str) -> list[Script]:
    """Return the scripts in a file.

    Raises: RecordingError, the file cannot be read, is malformed, or has no script.
    """
    file, scripts, number = str(path), [], 0
    try:
        with Path(path).open("rb") as raw:
            zipped = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            raw.seek(0)
            for line in gzip.GzipFile(fileobj=raw) if zipped else raw:
                number += 1
                scripts.append(_script(line))
    except _FormatError as error:
        raise RecordingError(file, number, str(error)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordingError(file, number + 1, f"the gzip file is damaged: {error}") from error
    except OSError as error:
        raise RecordingError(file, None, f"the file cannot be read: {error.strerror}") from error
    if not scripts:
        raise RecordingError(file, None, "the file has no script")
    return scripts


# ---- one line ----


class _FormatError(Exception):
    """A mistake in a line."""


def _expect(holds: bool, what: str, found: object) -> None:
    if not holds:
        shown = ascii(found)
        raise _FormatError(f"expected {what}, found {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}")


def _script(line: bytes) -> Script:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, a number of thousands of digits; a nest
        raise _FormatError(f"expected JSON: {error}") from error
    _expect(isinstance(content, dict) and content.keys() >= {"name", "steps"}, "keys name and steps", content)
    rings = content.keys() - {"name", "steps", "varies"}
    keys = content.keys() == {"name", "steps"} or rings == {"kernel", "fault_file"}
    _expect(keys, "keys name and steps, or also kernel and fault_file", sorted(content))
    name, steps = content["name"], content["steps"]
    kernel, fault_file, varies = content.get("kernel"), content.get("fault_file"), content.get("varies", False)
    if rings:
        _expect(isinstance(kernel, str), "a version as kernel", kernel)
        _expect(fault_file in FAULT_FILES, f"one of {', '.join(FAULT_FILES)} as fault_file", fault_file)
        _expect(isinstance(varies, bool), "true or false as varies", varies)
    _expect(isinstance(name, str) and name != "" and name.isprintable(), "a printable name", name)
    _expect(isinstance(steps, list), "a list of steps", steps)
    for index, step in enumerate(steps):
        try:
            _check_step(step, rings=bool(rings))
        except _FormatError as error:
            raise _FormatError(f"script {name}, step {index}: {error}") from error
    return Script(name, steps, kernel, fault_file, varies)


def operation_of(op: Sequence[str]) -> str:
    """The name under which an operation stands in the format: an ``sqe`` has its kind in it."""
    return f"sqe {op[2]}" if op[0] == "sqe" and len(op) > 2 else op[0]


def _check_step(step: Any, *, rings: bool) -> None:
    _expect(isinstance(step, dict), "a step", step)
    _expect(step.keys() >= _ALWAYS, "keys op, ret, errno and hw", sorted(step))
    _expect(step.keys() <= _ALWAYS | _SOMETIMES, "keys of the format only", sorted(step.keys() - _ALWAYS - _SOMETIMES))
    op = step["op"]
    _expect(isinstance(op, list) and op != [] and all(isinstance(word, str) for word in op), "words as op", op)
    _check_operands(op, {**OPERATIONS, **RING_OPERATIONS} if rings else OPERATIONS)
    _expect(_is_number(step["ret"]), "a number as ret", step["ret"])
    _expect(isinstance(step["errno"], str) and step["errno"].isalnum(), "a name as errno", step["errno"])
    _expect(isinstance(step["hw"], list), "a list as hw", step["hw"])
    for event in step["hw"]:
        _check_event(event)
    _check_responses(step.get("responses", []))
    cqes = step.get("cqes", [])
    _expect(isinstance(cqes, list), "a list as cqes", cqes)
    for cqe in cqes:
        _check_cqe(cqe)


def _check_operands(op: list[str], operations: Mapping[str, str]) -> None:
    verb = operation_of(op)
    words = op[1:2] + op[3:] if " " in verb else op[1:]
    _expect(verb in operations, "an operation of the format", verb)
    kinds = operations[verb].split()
    least = sum(kind[0] not in "[{" for kind in kinds)
    any_number = bool(kinds) and kinds[-1][0] == "{"
    fits = least <= len(words) and (any_number or len(words) <= len(kinds))
    _expect(fits, f"operands {operations[verb]!r} of {verb}", words)
    for index, word in enumerate(words):
        kind = kinds[min(index, len(kinds) - 1)].strip("[]{}")
        match = _KINDS[kind].fullmatch(word)
        numbers = [int(number, 0) for number in match.groups() if number] if match else []
        fits = match is not None and all(number >> _bits(kind, word) == 0 for number in numbers)
        _expect(fits, f"{kind} as operand {index + 1} of {verb}", word)


def _bits(kind: str, word: str) -> int:
    """The most bits of a number. Bytes beyond the answers are allocated, so their number is limited to 16 bits."""
    return _BITS.get(kind, 16 if word[0] == "+" else 32)


def _check_event(event: Any) -> None:
    known = isinstance(event, dict) and _EVENTS.get(str(event.get("ev")))
    _expect(bool(known) and event.keys() == known, "an event report or resp with its keys", event)
    numbers = [value for key, value in event.items() if key not in ("ev", "dev")]
    _expect(all(map(_is_number, numbers)), "numbers in an event", event)
    _expect(isinstance(event["dev"], str), "a device's name in an event", event)


def _check_cqe(cqe: Any) -> None:
    fits = isinstance(cqe, dict) and {"ud", "res", "flags"} <= cqe.keys() <= {"ud", "res", "flags", "msgs"}
    _expect(fits, "a completion with ud, res and flags", cqe)
    _expect(all(_is_number(cqe[key]) for key in ("ud", "res", "flags")), "numbers in a completion", cqe)


def _check_responses(responses: Any) -> None:
    _expect(isinstance(responses, list), "a list as responses", responses)
    for pair in responses:
        fits = isinstance(pair, list) and len(pair) == 2
        fits = fits and all(_is_number(value) and 0 <= value < 2**32 for value in pair)
        _expect(fits, "a cookie and a code, both of 32 bits, as response", pair)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
