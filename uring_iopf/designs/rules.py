"""The rules that every delivery design follows: what it delivers, and what it counts.

They stand here once. `PythonChannel` and the conformance suite name the rule that a design has broken, ``uring-iopf
check --help`` lists them, and a test holds the page docs/reference/design-rules.md to this table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uring_iopf.errors import DesignError

if TYPE_CHECKING:
    from collections.abc import Mapping

RULES: Final[Mapping[str, str]] = {
    # ---- what it delivers ----
    "groups": "`receive` returns whole groups: each is a sequence of messages, of which the last alone has LAST_PAGE",
    "once": "each group that the design takes from the fault queue reaches the client once, and unchanged",
    "order": "the groups of one PASID reach the client in the order in which the fault queue has them",
    "answers": "each answer reaches the fault queue once, for its own group and with its own code",
    "flush": "after `flush`, and before its client sleeps, the design holds no answer back",
    "wait": "`wait` returns True if there is something to receive, or False; then the client sleeps, or looks again",
    "wake": "a client that sleeps is woken when groups become visible to it; in Python by `self.wake()`",
    "progress": "`publish` and `collect` return how many groups or answers they moved, and 0 if there were none",
    "detach": "after a detach the kernel has answered: a later answer of the client's is refused, and harms nobody",
    # ---- what it counts ----
    "count: nothing": "where nothing faults, a spinning client's look is one empty poll at most; nothing else counts",
    "count: sleep": "a client that sleeps makes a system call for it: poll, epoll_wait or io_uring_enter",
    "count: wake-ups": "one wake-up for each eventfd write and each sleeper woken; a spinning client needs none",
    "count: bytes": "each byte between kernel and client counts once: messages, answers, and what frames them",
    "count: calls": "a call that moved data or waited is a system call; a flush with nothing to send makes none",
    "count: refusals": "each answer that the kernel refuses counts once",
    "count: the same": "the same faults count the same, every time",
    "count: as said": "one fault by itself, with a sleeping client, counts what the design says in `alone`",
}
"""Each rule by its name. Those of counting have names that begin with ``count:``."""


def broken(rule: str, found: str) -> DesignError:
    """The error that names a rule, what it says, and what was found instead."""
    return DesignError(f"{found}\nrule {rule!r}: {RULES[rule]}", rule)
