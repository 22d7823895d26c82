"""Designs that the host may refuse (a kernel without io_uring, a sandbox): why, and what is left."""

from __future__ import annotations

from functools import cache

from uring_iopf.designs import names, resolve
from uring_iopf.errors import KernelError
from uring_iopf.machine import Machine


@cache
def refusal(design: str) -> str:
    """Why this host refuses the design; empty: it does not."""
    if not resolve(design).on_host:
        return ""
    with Machine(None, driver="inline") as machine:
        try:
            machine.open(design)
        except KernelError as error:
            return str(error)
    return ""


def available() -> list[str]:
    """The designs that come with the library, without those that this host refuses."""
    return [name for name in names() if not refusal(name)]
