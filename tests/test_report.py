"""The table and the JSON document, for given results."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from uring_iopf.costs import Parts, PerFault
from uring_iopf.iommufd import DriverResponse, QueueLimits
from uring_iopf.lab.compare import Comparison, Plan
from uring_iopf.lab.result import CellResult, Floor, Latency, LimitCounts
from uring_iopf.machine_parts import MachineParts
from uring_iopf.reports import comparison as report
from uring_iopf.reports import text as text_of
from uring_iopf.reports.document import environment, json_text
from uring_iopf.workloads import ROW, Workload

INVALID = DriverResponse.INVALID
TINY = Workload("tiny", ROW.pack(0, 0x1000, 1, 1) + ROW.pack(9, 0x2000, 2, 2))
FLOOR = Floor(110.4, 44_417.0, 77.0, together=0.9981, bare_rings_per_s={16: 17_123_456.0})
ABOUT = {"uring-multishot": "READ_MULTISHOT posted ahead", "fd": "read and write on one fd"}
STARTED = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
MACHINE: dict[str, Any] = {
    "python": "3.11.7",
    "uring_iopf": "0.1.0",
    "c_sources": "0123456789ab",
    "cffi": "1.17",
    "trio": "0.27",
    "numpy": None,
    "platform": "Linux-6.12-x86_64",
    "kernel": "6.12.1",
    "cpu": "A Processor",
    "cpus": 2,
}
GOOD = CellResult(
    design="fd",
    client="native",
    driver="enter",
    wait="spin",
    mode="live",
    workload="tiny",
    iommu="vtd",
    in_flight=16,
    group=1,
    replays=197,
    faults=1_000_000,
    answered=999_990,
    auto_answered=10,
    lost=0,
    unmapped=0,
    answer_errors=0,
    faults_per_s=1_234_567.0,
    latency_ns=Latency(p50=812, p99=1_234, p99_9=45_600, max=7_890_123),
    per_fault=PerFault(system_calls=2.0, wakeups=0.0312, bytes_copied=56.0, client_cpu_ns=345.6, empty_polls=0.5),
    emulation_ns=40.5,
)


def compared(
    *results: CellResult,
    partial: bool = False,
    floor: Floor | None = FLOOR,
    repeat: int = 1,
    bounds: frozenset[str] = frozenset(),
) -> Comparison:
    designs = tuple(dict.fromkeys(result.design for result in results)) or ("fd",)
    in_flight = tuple(dict.fromkeys(result.in_flight for result in results)) or (1,)
    parts = MachineParts(TINY, driver="enter", wait="spin", seed=7)
    plan = Plan(parts, designs, in_flight, repeat=repeat, about=ABOUT, bounds=bounds)
    rounds = tuple((result,) * repeat for result in results)
    return Comparison(plan, results, results * repeat, floor, partial, floor, rounds=rounds)


def rendered(comparison: Comparison, **machine: object) -> str:
    return report.render(comparison, {**MACHINE, **machine})


# ---- numbers ----


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1e-9, "<0.001"),
        (0.0312, "0.031"),
        (0.99949, "0.999"),
        (0.9996, "1.00"),
        (1, "1.00"),
        (9.996, "10.0"),
        (56.0, "56.0"),
        (99.96, "100"),
        (999.4, "999"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert text_of.three_digits(value) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.6, "1.00k"),
        (812_345, "812k"),
        (999_600, "1.00M"),
        (12.34e6, "12.3M"),
        (2e9, "2.00G"),
    ],
)
def test_rates(per_second: float, text: str) -> None:
    assert text_of.rate(per_second) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (5, "5 ns"),
        (812, "812 ns"),
        (44.44, "44.4 ns"),
        (999.7, "1.00 us"),
        (1_234, "1.23 us"),
        (999_600, "1.00 ms"),
        (45_100_000, "45.1 ms"),
        (3_200_000_000, "3.20 s"),
    ],
)
def test_durations(ns: float, text: str) -> None:
    assert text_of.duration(ns) == text


# ---- the text ----


def test_the_whole_text_for_two_cells() -> None:
    one = replace(GOOD, in_flight=1, design="uring-multishot", replays=20, faults=100_000, answered=100_000)
    one = replace(one, auto_answered=0)
    assert rendered(compared(one, GOOD)) == (
        """\
workload   tiny: 2 faults on 2 pages in 2 address spaces, content CONTENT
load       closed loop: an answer makes room for the next fault; groups of 1
           page at most
client     native, wait spin
each row   replayed into fresh tables for 1 s at least and 100,000 faults
machine    A Processor, 2 usable processors, Linux 6.12.1; uring_iopf 0.1.0,
           Python 3.11.7

Rows: the designs, in the order in which they were proposed or given.
  uring-multishot  READ_MULTISHOT posted ahead
  fd               read and write on one fd
Drivers: the thread that runs the kernel's part.
  enter            the client's thread, in its system calls

Speed and latency

design           driver  faults/s  own     p50      p99    p99.9      max
1 in flight:
uring-multishot  enter      1.23M   5%  812 ns  1.23 us  45.6 us  7.89 ms

16 in flight:
fd               enter      1.23M   5%  812 ns  1.23 us  45.6 us  7.89 ms

Cost per fault

                         system             bytes  client
design           driver   calls  wake-ups  copied     CPU     faults
1 in flight:
uring-multishot  enter     2.00     0.031    56.0  346 ns    100,000

16 in flight:
fd               enter     2.00     0.031    56.0  346 ns  1,000,000

Account of all faults

                                              answered
design           driver     faults  answered       for  lost
1 in flight:
uring-multishot  enter     100,000   100,000         0     0

16 in flight:
fd               enter   1,000,000   999,990        10     0

floor of this machine, measured in the same run:
  a cache line, there and back between two processors     110 ns
  an eventfd, there and back between two threads         44.4 us
  a system call that does nothing                          77 ns
  both processors ran at the same time                     99.8%
  bare rings, 16 in flight, messages/s                     17.1M
""".replace("CONTENT", TINY.digest)
    )


def test_every_number_stands_below_its_own_heading() -> None:
    """A result that has a different value in each field, which no other of them could be taken for."""
    text = rendered(compared(GOOD))
    speed = text.split("Speed and latency\n\n")[1].split("\n")
    assert speed[0].split() == ["design", "driver", "faults/s", "own", "p50", "p99", "p99.9", "max"]
    assert re.split(r" {2,}", speed[2]) == ["fd", "enter", "1.23M", "5%", "812 ns", "1.23 us", "45.6 us", "7.89 ms"]
    cost = text.split("Cost per fault\n\n")[1].split("\n")
    assert cost[0].split() == ["system", "bytes", "client"]
    assert cost[1].split() == ["design", "driver", "calls", "wake-ups", "copied", "CPU", "faults"]
    assert re.split(r" {2,}", cost[3]) == ["fd", "enter", "2.00", "0.031", "56.0", "346 ns", "1,000,000"]


def test_a_design_without_user_space_is_set_apart_below_the_others() -> None:
    bound = replace(GOOD, design="handler", client="kernel", driver="sqpoll")
    text = rendered(compared(bound, GOOD, replace(GOOD, driver="sqpoll"), bounds=frozenset({"handler"})))
    lines = text.split("Speed and latency\n\n")[1].split("\n")[1:5]
    assert [line.split()[:2] for line in lines] == [["16", "in"], ["fd", "enter"], ["fd", "sqpoll"], ["(handler)", "-"]]
    assert "In parentheses, below the others: a bound, which has no user space." in text


def test_both_drivers_of_a_design_stand_in_one_block_and_are_explained() -> None:
    text = rendered(compared(GOOD, replace(GOOD, driver="sqpoll")))
    assert text.count("16 in flight:") == 3
    assert re.findall(r"^  (enter|sqpoll) +(the client's thread|a worker thread), ", text, re.M) == [
        ("enter", "the client's thread"),
        ("sqpoll", "a worker thread"),
    ]


def test_an_open_loop_has_its_percentiles_by_rate() -> None:
    slow = replace(GOOD, load="poisson", rate=100_000.0, faults_per_s=99_500.0, in_flight=512)
    fast = replace(slow, rate=2e6, faults_per_s=1.5e6, latency_ns=Latency(10**6, 2 * 10**6, 3 * 10**6, 4 * 10**6))
    fast = replace(fast, replays=19)  # of 33 ms each
    comparison = compared(slow, fast)
    plan = replace(comparison.plan, load="poisson", rates=(1e5, 2e6))
    text = rendered(replace(comparison, plan=plan))
    speed = text.split("Speed and latency\n\n")[1].split("\n\nCost")[0]
    assert speed == (
        "design  driver  faults/s  own      p50      p99    p99.9      max\n"
        "100k faults/s offered, at most 512 in flight:\n"
        "fd      enter      99.5k   0%   812 ns  1.23 us  45.6 us  7.89 ms\n"
        "\n"
        "2.00M faults/s offered, at most 512 in flight:\n"
        "fd >    enter      1.50M   6%  1.00 ms  2.00 ms  3.00 ms  4.00 ms"
    )
    assert "> overloaded: " in text
    assert "with exponential gaps, at the rate; groups of 1 page at most, seed 7" in " ".join(text.split())


@pytest.mark.parametrize(
    ("changes", "marked"),
    [
        ({}, True),
        ({"rate": 1.04e6}, False),
        ({"latency_ns": Latency(10**3, 10**4, 10**5, 10**6)}, False),
        ({"rate": None}, False),
        ({"faults": 0, "answered": 0, "auto_answered": 0, "faults_per_s": 0.0}, False),
    ],
    ids=["too much", "nearly as much", "an uneven stretch of a trace", "a closed loop", "nothing came"],
)
def test_a_row_that_cannot_keep_up_is_marked(changes: dict[str, Any], marked: bool) -> None:
    """A second's worth of faults at half the rate offered: the last of them have waited for half a second."""
    late = Latency(250_000_000, 490_000_000, 499_000_000, 500_000_000)
    cell = replace(GOOD, load="poisson", rate=2e6, faults_per_s=1e6, replays=0, latency_ns=late)
    assert ("fd > " in rendered(compared(replace(cell, **changes)))) == marked


def test_the_spread_over_repetitions_is_shown() -> None:
    rates = [1e6, 1.5e6, 1.2e6]
    measurements = tuple(replace(GOOD, faults_per_s=one) for one in rates)
    comparison = compared(measurements[2], repeat=3)
    text = rendered(replace(comparison, measurements=measurements, rounds=(measurements,)))
    spread = text.split("Spread: faults/s in the 3 measurements of each row\n\n")[1].split("\n\n")[0]
    assert spread == (
        "design  driver    min  median    max  max/min\n16 in flight:\nfd      enter   1.00M   1.20M  1.50M     1.50"
    )
    assert "Spread" not in rendered(compared(GOOD))


def test_why_a_machine_is_unfit_stands_above_all() -> None:
    reasons = ("a cache line takes 3 us there and back", "there is one processor")
    text = rendered(replace(compared(GOOD), unfit=reasons))
    assert text.startswith(
        "UNFIT: do not trust these numbers:\n  - a cache line takes 3 us there and back\n  - there is one processor\n\n"
    )
    assert "UNFIT" not in rendered(compared(GOOD))


def test_where_all_was_answered_by_the_client_a_sentence_says_so() -> None:
    plain = replace(GOOD, answered=1_000_000, auto_answered=0)
    text = rendered(compared(plain, replace(plain, driver="sqpoll")))
    assert "All faults: 2,000,000 answered, 0 answered for the client, 0 lost.\n" in text
    assert "Account of all faults" not in text
    assert "Account of all faults" in rendered(compared(plain, GOOD))


WIDEST = replace(
    GOOD,
    design="a_package.with_a.long_path:AndAClassWithAnEvenLongerName",
    mode="inline",
    in_flight=512,
    replays=123_456,
    faults=1_234_567_890,
    answered=1_234_567_890,
    auto_answered=123_456_789,
    lost=123_456_789,
    latency_ns=Latency(812_000, 812_000, 812_000, 812_000),
    per_fault=PerFault(system_calls=123.4, wakeups=123.4, bytes_copied=123_456.0, client_cpu_ns=812_000.0),
    partial=True,
    error="KernelError: [Errno 16] something went wrong: " + "and it takes long to say what it was; " * 5,
)


@pytest.mark.parametrize(
    "comparison",
    [
        compared(),
        compared(GOOD),
        compared(WIDEST, GOOD, partial=True),
        compared(WIDEST, floor=None, repeat=3),
        compared(replace(GOOD, design="d\u00e9sir\n\x1b[31m")),
    ],
    ids=["nothing", "one", "wide", "wide, three times", "a strange name"],
)
def test_every_line_can_be_pasted_into_a_mail(comparison: Comparison) -> None:
    long_name = replace(TINY, name="/a/long/path" * 15 + "/na\u00efve.csv")
    plan = replace(comparison.plan, parts=replace(comparison.plan.parts, workload=long_name))
    text = rendered(replace(comparison, plan=plan), cpu="An (R) Processor (TM) with a name " * 5)
    assert text.isascii()
    assert text.endswith("\n")
    for line in text.split("\n"):
        assert len(line) <= text_of.WIDTH <= 80
        assert line == line.rstrip()
        assert line.isprintable()


def test_a_long_design_name_keeps_its_end() -> None:
    assert "LongerName * " in rendered(compared(replace(WIDEST, partial=False, error=None, auto_answered=0, lost=0)))


def test_nothing_measured_says_so() -> None:
    text = rendered(compared(partial=True, floor=None))
    assert "PARTIAL: interrupted when 0 of 1 measurements were complete." in text
    assert "Nothing was measured." in text
    assert "floor of this machine: not measured, because the run was interrupted" in text


@pytest.mark.parametrize(
    ("changes", "mark", "explanation"),
    [
        ({"mode": "inline"}, "fd *", "* inline: "),
        ({"limited": True}, "fd <", "< limited: stopped after 10 s, with fewer than 100,000 faults.\n"),
        ({"partial": True}, "fd ~", "~ partial: "),
        (
            {"lost": 3, "answered": 999_987},
            "fd !",
            "! faults are not accounted for:\n  fd, enter, 16 in flight: 3 lost\n",
        ),
        ({"unmapped": 2}, "fd !", "fd, enter, 16 in flight: 2 answered with SUCCESS, but the page was not mapped\n"),
        ({"answered": 5}, "fd !", "fd, enter, 16 in flight: 15 answers to 1,000,000 faults\n"),
        ({"error": "KernelError: no"}, "fd !", "fd, enter, 16 in flight: KernelError: no\n"),
        ({"mode": "inline", "partial": True, "error": "no"}, "fd *~!", "~ partial: "),
    ],
    ids=["inline", "limited", "partial", "lost", "unmapped", "answers are missing", "error", "all of them"],
)
def test_marks_are_explained(changes: dict[str, Any], mark: str, explanation: str) -> None:
    text = rendered(compared(replace(GOOD, **changes)))
    assert text.count(f"\n{mark} ") == 3  # once in each table
    assert explanation in text


def test_times_of_an_inline_row_are_not_printed_beside_real_ones() -> None:
    """Python's own time is in each of them; the counts compare."""
    text = rendered(compared(replace(GOOD, mode="inline"), replace(GOOD, in_flight=64)))
    rows = [line.split() for line in text.split("\n") if line.startswith("fd ")]
    assert rows[0::2] == [
        ["fd", "*", "enter", "-", "-", "-", "-", "-", "-"],
        ["fd", "*", "enter", "2.00", "0.031", "56.0", "-", "1,000,000"],
        ["fd", "*", "enter", "1,000,000", "999,990", "10", "0"],
    ]
    assert "-" not in rows[1] + rows[3]
    assert "the table has dashes" in " ".join(text.split())


def test_a_cell_without_a_fault_has_no_times() -> None:
    """It failed, or at the rate offered none came: 0 ns would be read as a latency."""
    text = rendered(compared(replace(GOOD, faults=0, answered=0, auto_answered=0, error="no"), GOOD))
    row = next(line for line in text.split("\n") if line.startswith("fd ! "))
    assert row.split() == ["fd", "!", "enter", "-", "-", "-", "-", "-", "-"]


def test_marks_that_do_not_occur_are_not_explained() -> None:
    text = rendered(compared(GOOD))
    for word in ("inline", "partial", "PARTIAL", "accounted", "limited", "overloaded", "!", "*", "~", "<", ">", "^"):
        assert word not in text


def test_what_a_hidden_repetition_lacks_is_told() -> None:
    bad = replace(GOOD, lost=1, answered=999_989)
    comparison = replace(compared(GOOD, repeat=3), measurements=(GOOD, bad, GOOD))
    assert "! faults are not accounted for:\n  fd, enter, 16 in flight: 1 lost\n" in rendered(comparison)


def test_what_several_repetitions_lack_is_told_once() -> None:
    bad = replace(GOOD, lost=1, answered=999_989)
    assert report.complaints(compared(bad, repeat=3)) == ["fd, enter, 16 in flight: 1 lost (in 3 measurements)"]


def test_what_cannot_be_measured_of_the_floor_is_said() -> None:
    text = rendered(compared(GOOD, floor=replace(FLOOR, cache_line_ns=None)))
    assert "a cache line, there and back between two processors  not measurable here\n" in text


# ---- accounting ----


@pytest.mark.parametrize(
    ("changes", "accounted"),
    [
        ({}, True),
        ({"answer_errors": 5}, True),
        ({"partial": True}, True),
        ({"lost": 1}, False),
        ({"answered": 1}, False),
        ({"auto_answered": 11}, False),
        ({"unmapped": 1}, False),
        ({"error": ""}, False),
    ],
    ids=str,
)
def test_a_cell_is_accounted_for_when_every_fault_is(changes: dict[str, Any], accounted: bool) -> None:
    cell = replace(GOOD, **changes)
    assert cell.accounted == accounted
    assert bool(cell.missing) != accounted


# ---- JSON ----


def written(comparison: Comparison) -> dict[str, Any]:
    content = report.document(comparison, arguments={"client": "native"}, started=STARTED, environment=MACHINE)
    back: dict[str, Any] = json.loads(json_text(content))
    return back


def test_the_json_document_has_what_it_takes_to_do_it_again() -> None:
    content = written(compared(GOOD))
    assert content["schema"] == 2
    assert content["started"] == "2024-01-02T03:04:05+00:00"
    assert content["partial"] is False
    assert content["arguments"] == {"client": "native"}
    assert content["seed"] == 7
    assert content["environment"] == MACHINE
    assert content["floor"] == content["floor_after"]
    assert content["floor"] == {
        "cache_line_ns": 110.4,
        "eventfd_ns": 44_417.0,
        "system_call_ns": 77.0,
        "together": 0.9981,
        "bare_rings_per_s": {"16": 17_123_456.0},
    }
    assert content["fit"] == {"is_fit": True, "reasons": []}
    assert content["workload"] == {
        "name": "tiny",
        "digest": TINY.digest,
        "faults": 2,
        "pages": 2,
        "address_spaces": 2,
        "table_pages": TINY.table_pages,
    }


def test_a_json_result_has_its_keys() -> None:
    (result,) = written(compared(GOOD))["results"]
    assert result == {
        "design": "fd",
        "client": "native",
        "driver": "enter",
        "wait": "spin",
        "mode": "live",
        "workload": "tiny",
        "iommu": "vtd",
        "in_flight": 16,
        "group": 1,
        "replays": 197,
        "faults": 1_000_000,
        "answered": 999_990,
        "auto_answered": 10,
        "lost": 0,
        "unmapped": 0,
        "answer_errors": 0,
        "faults_per_s": 1_234_567.0,
        "latency_ns": {"p50": 812, "p99": 1_234, "p99_9": 45_600, "max": 7_890_123},
        "per_fault": {
            "system_calls": 2.0,
            "wakeups": 0.0312,
            "bytes_copied": 56.0,
            "client_cpu_ns": 345.6,
            "empty_polls": 0.5,
            "answer_errors": 0,
            "ends": 0,
            "punts": 0,
            "sqes": 0,
            "cqes": 0,
            "packets_sent": 0,
            "packets_received": 0,
        },
        "partial": False,
        "error": None,
        "load": "closed",
        "rate": None,
        "limited": False,
        "stages": None,
        "limits": None,
        "parts_ns": None,
        "emulation_ns": 40.5,
        "predicted": None,
        "not_predicted": None,
        "accounted": True,
    }


def test_the_parts_of_the_latency_are_in_the_json_and_in_a_table() -> None:
    split = replace(GOOD, parts_ns=Parts(hardware=12.5, queueing=1_234.0, delivery=0.0, handler=45_600.0, answer=7.0))
    (result,) = written(compared(split))["results"]
    assert result["parts_ns"] == {
        "hardware": 12.5,
        "queueing": 1_234.0,
        "delivery": 0.0,
        "handler": 45_600.0,
        "answer": 7.0,
    }
    text = rendered(compared(split, replace(GOOD, design="eventfd")))
    table = text[text.index("Where the latency goes") :].splitlines()
    assert table[2].split() == ["design", "driver", "hardware", "queueing", "delivery", "handler", "answer"]
    assert table[4].endswith("  7 ns")
    assert table[4].split() == ["fd", "enter", "12.5", "ns", "1.23", "us", "0", "ns", "45.6", "us", "7", "ns"]
    assert table[5].split() == ["eventfd", "enter", *"-----"]


@pytest.mark.parametrize(("emulation_ns", "share", "is_marked"), [(100.0, "20%", False), (200.0, "40%", True)])
def test_a_row_that_is_mostly_the_emulators_own_is_marked(emulation_ns: float, share: str, is_marked: bool) -> None:
    row = replace(GOOD, faults_per_s=2e6, emulation_ns=emulation_ns)
    text = rendered(compared(row))
    line = next(line for line in text.splitlines() if line.startswith("fd") and "2.00M" in line)
    assert share in line.split()
    assert ("fd ^" in line) == is_marked
    assert ("own: the simulated function and IOMMU" in text) == is_marked


def test_a_row_whose_hardware_was_not_timed_has_a_dash() -> None:
    text = rendered(compared(replace(GOOD, emulation_ns=None)))
    assert text[text.index("Speed and latency") :].splitlines()[4].split()[3] == "-"


def with_limits(*results: CellResult, **plan: Any) -> Comparison:
    comparison = compared(*results)
    limits = QueueLimits(4, 100_000_000, INVALID, depth_response=INVALID)
    changed = replace(comparison.plan, parts=replace(comparison.plan.parts, limits=limits), **plan)
    return replace(comparison, plan=changed)


def test_limits_have_a_line_and_columns_of_their_own() -> None:
    counts = LimitCounts(4, 100_000_000, "cookie", 250_000, 250_000, 1_234, 1_235)
    row = replace(GOOD, answered=748_765, auto_answered=1_235, limits=counts, answer_errors=77, unmapped=5)
    text = rendered(with_limits(row, match="cookie", left_out=("eventfd",)))
    said = " ".join(text.split())
    assert (
        "limits at most 4 groups wait to be read; one more is lost, and answered INVALID; the kernel answers " in said
    )
    assert "answers INVALID after 100 ms without an answer" in said
    assert "answers an answer names its group by the cookie that the kernel gave it; without eventfd, which" in said
    speed = text[text.index("Speed and latency") :].splitlines()
    assert speed[2].split() == ["not"]
    assert " ".join(speed[3].split()) == "design driver faults/s own p50 p99 p99.9 max served"
    assert speed[5].split()[-1] == "25.1%"
    account = text[text.index("Account of all faults") :].splitlines()
    assert account[2].split() == ["answered", "lost,"]
    heads = "design driver faults answered for lost depth"
    assert " ".join(account[3].split()) == heads
    assert account[5].split() == ["fd", "enter", "1,000,000", "748,765", "1,235", "0", "250,000"]
    late = text[text.index("Faults that timed out") :].splitlines()
    assert late[2].split() == ["timed", "late,", "late,"]
    assert late[3].split() == ["design", "driver", "out", "refused", "astray"]
    assert late[5].split() == ["fd", "enter", "1,235", "77", "5"]
    assert "not accounted for" not in text
    assert max(map(len, text.splitlines())) <= 80
    (result,) = written(with_limits(row))["results"]
    assert result["limits"] == {
        "depth": 4,
        "timeout_ns": 100_000_000,
        "match": "cookie",
        "lost_groups": 250_000,
        "lost_faults": 250_000,
        "timed_out_groups": 1_234,
        "timed_out_faults": 1_235,
    }


def test_without_parts_there_is_no_table_of_them() -> None:
    assert "Where the latency goes" not in rendered(compared(GOOD))


@pytest.mark.parametrize(("repeat", "kept"), [(1, 0), (3, 3)])
def test_the_json_document_has_every_repetition(repeat: int, kept: int) -> None:
    content = written(compared(GOOD, repeat=repeat))
    assert len(content["results"]) == 1
    assert len(content["measurements"]) == kept


def test_an_interrupted_document_is_partial() -> None:
    content = written(compared(replace(GOOD, partial=True), partial=True, floor=None))
    assert content["partial"] is True
    assert content["floor"] is None
    assert content["results"][0]["partial"] is True


def test_the_json_document_is_json_or_nothing() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        written(compared(replace(GOOD, faults_per_s=math.nan)))


def test_the_environment_is_this_one() -> None:
    made_with = environment()
    assert made_with.keys() == MACHINE.keys()
    assert made_with["cpus"] >= 1
    assert made_with["cpu"]
    assert made_with["uring_iopf"]
    json.dumps(made_with)
