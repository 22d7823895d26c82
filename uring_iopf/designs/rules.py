"""The rules of delivery and of counting, which every delivery design follows.

`PythonChannel` and the conformance suite name the rule that a design has broken. ``uring-iopf check --help`` lists the
rules. A test compares the page docs/reference/design-rules.md with this table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uring_iopf.errors import DesignError

if TYPE_CHECKING:
    from collections.abc import Mapping

RULES: Final[Mapping[str, str]] = {
    # ---- delivery ----
    "groups": "`receive` returns whole groups: each is a sequence of messages, and only the last message has LAST_PAGE",
    "once": "each group that the design takes from the fault queue reaches the client once, and unchanged",
    "order": "the groups of one PASID reach the client in the order of the fault queue",
    "answers": "each answer reaches the fault queue once, for its own group and with its own code",
    "flush": "the design holds no answer back after `flush`, nor while its client sleeps",
    "wait": "`wait` returns True if there is something to receive, else False; then the client sleeps or polls again",
    "wake": "the design wakes a sleeping client when groups become visible to it; in Python it calls `self.wake()`",
    "progress": "`publish` and `collect` return the number of groups or answers that they moved, which can be 0",
    "detach": "a detach answers the waiting groups; the kernel refuses a later answer, which has no other effect",
    # ---- counting ----
    "count: nothing": "a poll of a spinning client that finds no fault counts one empty poll at most, and nothing else",
    "count: sleep": "a client that goes to sleep makes a system call: poll, epoll_wait or io_uring_enter",
    "count: wake-ups": "each eventfd write, or client woken otherwise, is one wake-up; a spinning client needs none",
    "count: bytes": "each byte between kernel and client counts once: messages, answers, SQEs, CQEs and the like",
    "count: calls": "a call that moved data or waited counts one system call; a flush without answers makes no call",
    "count: refusals": "each answer that the kernel refuses counts once",
    "count: the same": "the same faults give the same counts, every time",
    "count: as said": "one fault by itself, with a sleeping client, gives the counts declared in `alone`",
}
"""The text of each rule, by its name. The names of the rules of counting begin with ``count:``."""


def broken(rule: str, found: str) -> DesignError:
    """Return the error for a broken rule: the finding, the name of the rule, and its text."""
    return DesignError(f"{found}\nrule {rule!r}: {RULES[rule]}", rule)
