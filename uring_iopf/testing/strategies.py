"""Strategies of hypothesis: workloads, and the options of a machine that replays them. Needs hypothesis.

.. code-block:: python

    from hypothesis import given
    from uring_iopf.testing.strategies import options, workloads

    @given(workloads(), options())
    def test_mine_never_makes_more_calls(compare_designs, workload, options):
        results = compare_designs([Mine, "fd"], workload=workload, **options)
        assert results["mine"].per_fault.system_calls <= results["fd"].per_fault.system_calls
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from uring_iopf.abi.iommufd import FaultPerm
from uring_iopf.errors import UsageError
from uring_iopf.machine_parts import MOST_IN_FLIGHT, MOST_IN_GROUP, WAITS, MachineOptions
from uring_iopf.workloads import ROW, Workload
from uring_iopf.workloads.workload import ADDRESSES, PAGE, PASIDS

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

_GAPS_NS: Final = 10_000_000
_RUN: Final = 40
"""Neighbouring pages in a row, at most: more than the largest group."""


def workloads(*, most_faults: int = 200, pasids: int = 8) -> SearchStrategy[Workload]:
    """Workloads of 1 to *most_faults* faults in address spaces 0 to *pasids* - 1.

    They have runs of neighbours, which form groups, pages that are far apart, and pages that fault again. They shrink
    to one fault. Raises: UsageError, a number out of range.
    """
    if most_faults < 1 or not 1 <= pasids <= PASIDS:
        raise UsageError(f"most_faults must be 1 or more, and pasids 1 to {PASIDS}, not {most_faults} and {pasids}")
    return _workloads(most_faults, pasids)


@st.composite
def _workloads(draw: DrawFn, most_faults: int, pasids: int) -> Workload:
    run = st.tuples(
        st.integers(0, pasids - 1),
        st.one_of(st.integers(0, 600), st.integers(0, ADDRESSES // PAGE - _RUN)),
        st.integers(1, _RUN),
        st.sampled_from((FaultPerm.READ, FaultPerm.WRITE, FaultPerm.EXEC)),
        st.integers(0, _GAPS_NS),
    )
    rows: list[bytes] = []
    now_ns = 0
    for pasid, first, length, perm, gap_ns in draw(st.lists(run, min_size=1, max_size=max(1, most_faults // 8))):
        now_ns += gap_ns
        rows += [ROW.pack(now_ns, (first + n) * PAGE, pasid, perm) for n in range(length)]
    return Workload("generated", b"".join(itertools.islice(rows, most_faults)))


def options() -> SearchStrategy[MachineOptions]:
    """Options of an inline machine, for `compare_designs` or `Machine`: in flight, group and wait."""
    return st.builds(
        MachineOptions,
        in_flight=st.one_of(st.integers(1, 16), st.integers(1, MOST_IN_FLIGHT)),
        group=st.integers(1, MOST_IN_GROUP),
        wait=st.sampled_from(WAITS),
    )
