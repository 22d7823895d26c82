"""The errors of this library. The class tells the cause: the caller, the peer, a design, the host, or a Linux errno.

A resource that is busy, closed or broken raises trio's own `trio.BusyResourceError`, `trio.ClosedResourceError` or
`trio.BrokenResourceError`.
"""

from __future__ import annotations

import math
import operator
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class IopfError(Exception):
    """Any error of this library."""


class UsageError(IopfError, ValueError):
    """The caller gave an argument or made a call that is not allowed. Nothing has changed."""


def whole(name: str, number: object) -> int:
    """Return *number* as an int. Raises: UsageError, it is no whole number. The message begins with *name*."""
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {number!r}") from None


def check_whole(name: str, number: object, least: int, most: int, of: str = "") -> None:
    """Raises: UsageError, *number* is no whole number from *least* to *most*. *of*: text that follows the range."""
    if not least <= whole(name, number) <= most:
        raise UsageError(f"{name} must be {least} to {most}{of}, not {number}")


def check_is(what: str, kind: type | tuple[type, ...], **given: object) -> None:
    """Raises: UsageError, one of *given* is no *kind*. *what*: the kind in words, with its article."""
    for name, one in given.items():
        if not isinstance(one, kind):
            raise UsageError(f"{name} must be {what}, not {one!r}")


def check_bytes(**given: object) -> None:
    """Raises: UsageError, one of *given* is neither bytes, a bytearray nor a memoryview."""
    check_is("bytes, a bytearray or a memoryview", (bytes, bytearray, memoryview), **given)


def check_positive(name: str, number: object) -> None:
    """Raises: UsageError, *number* is not positive and finite, or no number at all."""
    try:
        known = math.isfinite(number) and number > 0  # type: ignore[arg-type, operator]
    except (TypeError, OverflowError):
        known = False
    if not known:
        raise UsageError(f"{name} must be a number above 0, and finite, not {number!r}")


def check_not_negative(name: str, number: object) -> None:
    """Raises: UsageError, *number* is below 0, or no number at all; it may be infinite."""
    try:
        known = number >= 0  # type: ignore[operator]
    except TypeError:
        known = False
    if not known:
        raise UsageError(f"{name} must be a number, 0 or more, not {number!r}")


def check_fits(bits: int, **numbers: object) -> None:
    """Raises: UsageError, one of *numbers* is no unsigned number of *bits* bits, and would not fit its field."""
    for name, number in numbers.items():
        if not 0 <= whole(name, number) < 1 << bits:
            raise UsageError(f"{name} must be 0 to 2^{bits} - 1, not {number}")


def check_signed(bits: int, **numbers: object) -> None:
    """Raises: UsageError, one of *numbers* is no signed number of *bits* bits."""
    for name, number in numbers.items():
        if not -(1 << bits - 1) <= whole(name, number) < 1 << bits - 1:
            raise UsageError(f"{name} must be -2^{bits - 1} to 2^{bits - 1} - 1, not {number}")


def check_all_signed(bits: int, name: str, numbers: object) -> list[int]:
    """Return *numbers* as a list. Raises: UsageError, they are no sequence of signed numbers of *bits* bits."""
    try:
        found: list[int] = list(numbers)  # type: ignore[call-overload]
    except TypeError:
        raise UsageError(f"{name} must be a sequence of whole numbers, not {numbers!r}") from None
    for at, number in enumerate(found):
        check_signed(bits, **{f"{name}[{at}]": number})
    return found


def pairs(name: str, given: object) -> Iterator[tuple[int, int]]:
    """Iterate over pairs of whole numbers. Raises: UsageError, *given* is no sequence, or has another element."""
    try:
        each = iter(given)  # type: ignore[call-overload]
    except TypeError:
        raise UsageError(f"{name} must be a sequence of pairs (first, last), not {given!r}") from None
    for at, pair in enumerate(each):
        try:
            first, last = pair
        except (TypeError, ValueError):
            raise UsageError(f"{name}[{at}] must be a pair (first, last), not {pair!r}") from None
        yield whole(f"{name}[{at}]: first", first), whole(f"{name}[{at}]: last", last)


def told_with_place(error: BaseException) -> str:
    """The class and text of *error*, and where it was raised: the last place outside this package, if there is one."""
    import traceback  # slow to load, for an error

    package = f"{os.path.dirname(__file__)}{os.sep}"  # noqa: PTH120  # pathlib is slow to load, too
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(package)]
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return "".join([text, *(f" ({frame.filename}:{frame.lineno})" for frame in (theirs or frames)[-1:])])


class PeerError(IopfError):
    """The other side of the shared memory, or of a socket, broke the ABI."""


class DesignError(IopfError):
    """A delivery design broke a rule. The message has the finding, the name of the rule, and its text.

    *rule*: the name in `uring_iopf.designs.rules`; None: the mistake has no rule.
    """

    def __init__(self, message: str, rule: str | None = None) -> None:
        super().__init__(message)
        self.rule = rule


class KernelError(IopfError, OSError):
    """The emulated kernel refused a call. `errno` is the one that Linux returns.

    *call*: the name of the call, for the message: ``KernelError(errno.EBUSY, "IOMMU_DESTROY")``.
    """

    def __init__(self, errno: int, call: str) -> None:
        super().__init__(errno, f"{call}: {os.strerror(errno)}")


class HostError(IopfError, OSError):
    """The host refused a thread or a descriptor that the library needs. `errno` is the host's.

    A lack of memory raises MemoryError.
    """

    def __init__(self, errno: int, what: str) -> None:
        super().__init__(errno, f"{what}: {os.strerror(errno)}")
