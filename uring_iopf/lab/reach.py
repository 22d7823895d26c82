"""The most groups of a workload that can be in flight at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.machine_parts import MOST_IN_FLIGHT, share_of_credits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring_iopf.workloads import Workload


def most_in_flight(workload: Workload, group: int, credit: int | None = None) -> int:
    """The most groups, of *group* pages at most, that a closed loop can have outstanding.

    Three numbers limit it: the group indices of a function, the groups of the workload, and *credit*, the requests that
    the function may have outstanding (None: a machine's default). A group begins only if there is credit for *group*.
    """
    if credit is None:
        credit = share_of_credits(group)
    if group == 1:
        return min(credit, len(workload))
    sizes = list(_group_sizes(workload, group))
    most = first = pages = 0
    for last, size in enumerate(sizes):
        while pages + group > credit:  # before the last of them begins
            pages -= sizes[first]
            first += 1
        pages += size
        most = max(most, last - first + 1)
    return min(most, MOST_IN_FLIGHT)


def _group_sizes(workload: Workload, group: int) -> Iterator[int]:
    """The sizes of the groups into which the function cuts its rows: rows of one PASID, *group* at most."""
    size, of = 0, -1
    for _, _, pasid, _ in workload:
        if size and (pasid != of or size == group):
            yield size
            size = 0
        size, of = size + 1, pasid
    if size:
        yield size
