"""Errors that say whose fault it was: our caller's, the other side's, a design's, or what Linux would answer.

For the life of a resource trio's own `trio.BusyResourceError`, `trio.ClosedResourceError` and
`trio.BrokenResourceError` are used.
"""

from __future__ import annotations

import os


class IopfError(Exception):
    """Any error of this library."""


class UsageError(IopfError, ValueError):
    """Our caller asked for something that cannot be; nothing has changed."""


def check_fits(bits: int, **numbers: int) -> None:
    """Raises: UsageError, one of these is no number of so many bits without a sign: no field has room for it."""
    for name, number in numbers.items():
        if not 0 <= number < 1 << bits:
            raise UsageError(f"{name} is a number of {bits} bits without a sign, not {number}")


class PeerError(IopfError):
    """The other side of the shared memory broke the ABI."""


class DesignError(IopfError):
    """A delivery design written in Python broke a rule of the seam: the message names the rule and what was found."""


class KernelError(IopfError, OSError):
    """The emulated kernel refused a call; `errno` is exactly what Linux returns.

    Pass the errno and the name of the call: ``KernelError(errno.EBUSY, "IOMMU_DESTROY")``.
    """

    def __init__(self, errno: int, call: str) -> None:
        super().__init__(errno, f"{call}: {os.strerror(errno)}")
