"""The table of counters, and that all that is made from it says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from uring_iopf._native import ffi
from uring_iopf.costs import COUNTERS, Counters, Counts, PerFault, Unit
from uring_iopf.designs import Cost

ROOT = Path(__file__).resolve().parent.parent


def test_the_counters_of_c_are_in_the_table_in_the_order_of_c() -> None:
    fields = [name for name, _ in ffi.typeof("struct uiopf_cost").fields]
    assert [one.name for one in COUNTERS if one.in_c] == fields


def test_what_c_has_counted_is_taken_over() -> None:
    names = [one.name for one in COUNTERS if one.in_c]
    cost = ffi.new("struct uiopf_cost *", {name: 1 + n for n, name in enumerate(names)})
    counts = Counts.from_c(cost)
    assert [getattr(counts, name) for name in names] == list(range(1, 1 + len(names)))
    assert counts.client_cpu_ns == 0


def test_an_average_is_of_each_counter() -> None:
    counts = Counts(**{one.name: 10 * (1 + n) for n, one in enumerate(COUNTERS)})
    averages = counts.per_fault(4)
    assert [getattr(averages, one.name) for one in COUNTERS] == [2.5 * (1 + n) for n in range(len(COUNTERS))]
    assert Counts(system_calls=3).per_fault(0).system_calls == 3
    assert PerFault() == Counters()


def test_a_counter_with_a_wrong_name_is_an_error() -> None:
    cost = Cost()
    with pytest.raises(AttributeError, match="wakups"):
        cost.wakups = 1  # type: ignore[attr-defined]


def test_a_design_counts_by_what_it_says() -> None:
    cost = Cost()
    cost.system_call()
    cost.system_call(found=False)
    cost.wakeup()
    cost.copied(48)
    cost.answer_error()
    for _ in range(2):
        cost.ended()
    for _ in range(3):
        cost.punted()
    before = cost.counts()
    cost.system_call()
    assert before == Counts(system_calls=1, empty_polls=1, wakeups=1, bytes_copied=48, answer_errors=1, ends=2, punts=3)


@pytest.mark.parametrize("one", COUNTERS, ids=lambda one: one.name)
def test_every_counter_says_what_it_counts(one: object) -> None:
    assert isinstance(one, tuple)
    _, unit, whose, what, *_ = one
    assert isinstance(unit, Unit)
    assert whose in ("client", "kernel", "both")
    assert len(what) > 10


def test_the_page_on_comparing_has_the_table() -> None:
    page = (ROOT / "docs" / "explanation" / "comparing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert rows == [(one.name, one.whose, one.what, one.but_not or "-") for one in COUNTERS]
    printed = ", ".join(f"`{one.name}`" for one in COUNTERS if one.column is not None)
    assert f"The table prints {printed};" in page
