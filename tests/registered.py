"""Which designs a test is for: those of the registry of which certain facts hold, and never a list by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.designs import DesignInfo, names, resolve

if TYPE_CHECKING:
    from collections.abc import Callable


def registered(*, where: Callable[[DesignInfo], bool] = lambda _info: True, **facts: object) -> list[str]:
    """The names of the designs in C whose `DesignInfo` has these facts, oldest first; at least one."""
    infos = [resolve(name) for name in names()]
    found = [info.name for info in infos if where(info) and all(getattr(info, fact) == facts[fact] for fact in facts)]
    assert found, f"the registry has no design with {facts}"
    return found


def before_the_merge(info: DesignInfo) -> bool:
    """Whether its client speaks as was proposed before Linux 6.11 (2024) fixed messages and answers.

    There each page is a message with a place for private data, and an answer may be FAILURE.
    """
    return info.has_client and info.year.isdecimal() and int(info.year) < 2024


def one_of_each_kind() -> list[str]:
    """The oldest design of each kind, where a test is too slow for all: what Python knows of them is the same."""
    kinds: dict[tuple[object, ...], str] = {}
    for name in names():
        info = resolve(name)
        file = (info.proposed, info.commands)
        kind = (info.has_client, info.has_ring, info.on_host, info.signals_awake, info.most_faults is None, *file)
        kinds.setdefault(kind, name)
    return list(kinds.values())
