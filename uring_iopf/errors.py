"""Errors that say whose fault it was: our caller's, the other side's, a design's, the host's, or what Linux answers.

For the life of a resource trio's own `trio.BusyResourceError`, `trio.ClosedResourceError` and
`trio.BrokenResourceError` are used.
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
    """Our caller asked for something that cannot be; nothing has changed."""


def whole(name: str, number: object) -> int:
    """Return *number* as an int. Raises: UsageError, it is no whole number; the message has *name*."""
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {number!r}") from None


def check_whole(name: str, number: object, least: int, most: int, of: str = "") -> None:
    """Raises: UsageError, *number* is no whole number from *least* to *most*. *of*: what these are, for the message."""
    if not least <= whole(name, number) <= most:
        raise UsageError(f"{name} must be {least} to {most}{of}, not {number}")


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
    """Raises: UsageError, one of these is no number of so many bits without a sign: no field has room for it."""
    for name, number in numbers.items():
        if not 0 <= whole(name, number) < 1 << bits:
            raise UsageError(f"{name} must be 0 to 2^{bits} - 1, not {number}")


def check_signed(bits: int, **numbers: object) -> None:
    """Raises: UsageError, one of these is no number of so many bits with a sign."""
    for name, number in numbers.items():
        if not -(1 << bits - 1) <= whole(name, number) < 1 << bits - 1:
            raise UsageError(f"{name} must be -2^{bits - 1} to 2^{bits - 1} - 1, not {number}")


def check_all_signed(bits: int, name: str, numbers: object) -> list[int]:
    """Return *numbers* as a list. Raises: UsageError, they are no sequence of numbers of so many bits with a sign."""
    try:
        found: list[int] = list(numbers)  # type: ignore[call-overload]
    except TypeError:
        raise UsageError(f"{name} must be a sequence of whole numbers, not {numbers!r}") from None
    for at, number in enumerate(found):
        check_signed(bits, **{f"{name}[{at}]": number})
    return found


def pairs(name: str, given: object) -> Iterator[tuple[int, int]]:
    """Each pair of whole numbers, as it is taken. Raises: UsageError, it is none, or *given* has no pairs."""
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


class PeerError(IopfError):
    """The other side of the shared memory broke the ABI."""


class DesignError(IopfError):
    """A delivery design broke a rule: the message says what was found, names the rule, and what it says.

    *rule*: its name in `uring_iopf.designs.rules`; None where there is none.
    """

    def __init__(self, message: str, rule: str | None = None) -> None:
        super().__init__(message)
        self.rule = rule


class KernelError(IopfError, OSError):
    """The emulated kernel refused a call; `errno` is exactly what Linux returns.

    Pass the errno and the name of the call: ``KernelError(errno.EBUSY, "IOMMU_DESTROY")``.
    """

    def __init__(self, errno: int, call: str) -> None:
        super().__init__(errno, f"{call}: {os.strerror(errno)}")


class HostError(IopfError, OSError):
    """The host refused what the library needs: a thread, or a descriptor. `errno` is the host's.

    Without memory it is MemoryError.
    """

    def __init__(self, errno: int, what: str) -> None:
        super().__init__(errno, f"{what}: {os.strerror(errno)}")
