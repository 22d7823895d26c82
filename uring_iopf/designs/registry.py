"""The designs, by name. The designs in C come from the list in C (``cdefs/designs/table.c``)."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Final

from uring_iopf.errors import UsageError, told_with_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uring_iopf.designs.base import Design


@dataclass(frozen=True, slots=True)
class DesignInfo:
    """A design, before it is opened.

    *index*: the number of a design in C; None: a design in Python. *matches*: the ways in which its client's answers
    may name a group: ``cookie``, or ``index`` (device, PASID and group index, with `QueueLimits.by_group_index` where
    both are there); empty: it has no client. *has_client*: it has a client in user space. *has_ring*: it has a ring,
    which a worker can poll. *on_host*: its calls are the host's own, so it measures the host's kernel, and not the
    emulated one. *proposed*: it needs the proposed fault file, with reads posted ahead. *commands*: it needs the file
    that has URING_CMDs as well (`Personality.COMMANDS`). *signals_awake*: its eventfd is written also for a client that
    does not sleep. *most_faults*: the faults that it has room for until the client receives them, beyond which it
    refuses; None: any number. *python*: the class of a design in Python.
    """

    name: str
    year: str
    summary: str
    index: int | None = None
    matches: tuple[str, ...] = ("cookie",)
    has_client: bool = True
    has_ring: bool = False
    on_host: bool = False
    proposed: bool = False
    commands: bool = False
    signals_awake: bool = False
    most_faults: int | None = None
    python: type[Design] | None = None

    @property
    def polled(self) -> bool:
        """Whether a worker can poll for what the client sends, so that the driver ``sqpoll`` makes a difference."""
        return self.has_ring or self.on_host

    @property
    def inline_only(self) -> bool:
        """Whether the design is in Python, and so runs with the driver ``inline`` only."""
        return self.python is not None


_MATCHES: Final = (("cookie",), ("index",), ("cookie", "index"))
"""By ``enum uiopf_match``."""


@cache
def _native() -> tuple[DesignInfo, ...]:
    """The designs in C, in the order of its list."""
    from uring_iopf._native import ffi, lib  # loads the extension, so it is imported on first use

    found: list[DesignInfo] = []
    while c := lib.uiopf_design_info(index := len(found)):
        name, year, summary = (ffi.string(text).decode() for text in (c.name, c.year, c.summary))
        found.append(
            DesignInfo(
                name,
                year,
                summary,
                index,
                matches=_MATCHES[c.match] if c.has_client else (),
                has_client=bool(c.has_client),
                has_ring=bool(c.has_ring),
                on_host=bool(c.on_host),
                proposed=bool(c.personality),
                commands=c.personality == lib.UIOPF_COMMANDS,
                signals_awake=bool(c.signals_awake),
                most_faults=c.most_faults or None,
            )
        )
    return tuple(found)


def names() -> list[str]:
    """The names of the designs that come with the library, oldest first."""
    return [info.name for info in _native()]


def resolve(spec: str | type[Design]) -> DesignInfo:
    """Return the facts of a design. *spec*: a name, ``MODULE:CLASS``, or a subclass of `Design`.

    Raises: UsageError, there is no such design, it cannot be imported, or the class is no complete design.
    """
    if not isinstance(spec, str):
        return _of_class(spec)
    for info in _native():
        if info.name == spec:
            return info
    if ":" in spec:
        return _of_class(_load(spec))
    raise UsageError(
        f"there is no design {spec!r}; give one of {', '.join(names())}, or your own as MODULE:CLASS (a subclass of "
        "uring_iopf.designs.Design)"
    )


def check_names(named: Iterable[tuple[object, str]]) -> None:
    """Raises: UsageError, two of these designs have one name. Results are known by it, so they would be confused."""
    seen: dict[str, object] = {}
    for design, name in named:
        if name in seen:
            raise UsageError(
                f"two designs have the name {name!r}: {seen[name]!r} and {design!r}; set `name` in one of them"
            )
        seen[name] = design


def _load(spec: str) -> object:
    module_name, _, class_name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"design {spec!r}: cannot import {module_name!r}: {error}") from error
    except (Exception, SystemExit) as error:  # a mistake in the module, or a name that no module can have
        raise UsageError(f"design {spec!r}: cannot import {module_name!r}: {told_with_place(error)}") from error
    try:
        return getattr(module, class_name)
    except AttributeError:
        raise UsageError(f"design {spec!r}: module {module_name!r} has no {class_name!r}") from None


def _of_class(candidate: object) -> DesignInfo:
    from uring_iopf.costs import Counters
    from uring_iopf.designs.base import Design

    if not (isinstance(candidate, type) and issubclass(candidate, Design)):
        raise UsageError(f"a design must be a subclass of uring_iopf.designs.Design, not {candidate!r}")
    needed = ("publish", "collect", "receive", "answer")
    if missing := [method for method in needed if getattr(candidate, method) is getattr(Design, method)]:
        raise UsageError(f"{candidate.__name__} is incomplete; a design must define {', '.join(missing)} too")
    if not isinstance(candidate.name, str) or not isinstance(candidate.year, str):
        raise UsageError(
            f"{candidate.__name__}: name and year must be strings, not {candidate.name!r} and {candidate.year!r}"
        )
    if not isinstance(candidate.alone, (Counters, NoneType)):
        raise UsageError(f"{candidate.__name__}: alone must be Counts or None, not {candidate.alone!r}")
    name = candidate.name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", candidate.__name__).lower()
    doc = (candidate.__doc__ or "").strip().splitlines()
    return DesignInfo(
        name,
        candidate.year,
        doc[0] if doc else "",
        proposed=candidate.proposed,
        signals_awake=candidate.signals_awake,
        python=candidate,
    )
