"""`compare_designs`: it replays the whole workload through each design, or fails and says why."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from my_design import Doorbell
from tests.design_twins import FdTwin
from tests.on_host import available
from uring_iopf.abi.iommufd import PageResponse
from uring_iopf.abi.records import LOST_GROUPS, FaultMessage
from uring_iopf.designs.channel import in_groups
from uring_iopf.designs.python_channel import PythonChannel
from uring_iopf.errors import DesignError, UsageError
from uring_iopf.hardware.load import Load, LoadMode
from uring_iopf.iommufd import QueueLimits
from uring_iopf.machine import Machine
from uring_iopf.machine_parts import MOST_IN_FLIGHT, FunctionParts, MachineOptions, MachineParts
from uring_iopf.testing import compare
from uring_iopf.testing.compare import ReplayError, _missing, compare_designs
from uring_iopf.testing.strategies import options, workloads
from uring_iopf.workloads import Workload, load_workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_iopf.designs import Design
    from uring_iopf.lab.result import CellResult


EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"

# ---- designs that do not serve every fault ----


class OneOnly(FdTwin):
    """delivers one group, and no more"""

    def publish(self) -> int:
        if self.source.taken:
            return 0
        self.file += self.source.take()[:1]
        self.wake()
        return 1


class LosesAnswers(FdTwin):
    """forgets every seventh answer"""

    given = 0

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        for response in responses:
            self.given += 1
            if self.given % 7:
                self.held.append(response)


class LosesGroups(FdTwin):
    """drops every seventh group on its way to the client"""

    seen = 0

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        kept = []
        for group in super().receive():
            self.seen += 1
            if self.seen % 7:
                kept.append(group)
        return kept


class DeliversTwice(FdTwin):
    """delivers each group twice"""

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        return [*super().receive()] * 2


class SaysInvalid(FdTwin):
    """turns the client's success into a failure"""

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        super().answer([(cookie, PageResponse.INVALID) for cookie, _ in responses])


class AnswersTwice(FdTwin):
    """answers each group twice; the second time is refused"""

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        super().answer([*responses, *responses])


class AnswersTwiceInSecret(AnswersTwice):
    """the same, and says half of it"""

    def collect(self) -> int:
        return super().collect() // 2


class WakesNobody(FdTwin):
    """lets its client sleep"""

    def wake(self) -> None:
        pass


class Restless(FdTwin):
    """says that it does something, and does not"""

    def publish(self) -> int:
        return 1


class Raises(FdTwin):
    """has a mistake"""

    def collect(self) -> int:
        raise ZeroDivisionError("a mistake")


@pytest.mark.parametrize(
    ("design", "error", "said"),
    [
        (OneOnly, ReplayError, "groups taken did not reach the client"),
        (LosesAnswers, ReplayError, r"; 16 of \d+ answers did not reach the fault queue"),
        (LosesGroups, ReplayError, "groups taken did not reach the client"),
        (DeliversTwice, DesignError, "DeliversTwice.receive has returned 32 groups, but the design has taken 16"),
        (SaysInvalid, ReplayError, "5075 faults got INVALID"),
        (
            AnswersTwice,
            DesignError,
            "AnswersTwice.collect has returned 32 answers, but only 16 were given to the design",
        ),
        (AnswersTwiceInSecret, ReplayError, "5,075 answers were refused"),
        (WakesNobody, DesignError, r"WakesNobody.publish made 16 groups visible, but did not wake the sleeping client"),
        (Restless, DesignError, "Restless.publish has returned 1 groups, but the design has taken 0\nrule 'progress'"),
        (Raises, ZeroDivisionError, "a mistake"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_design_that_does_not_serve_every_fault_fails_and_says_why(
    design: type[Design], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        compare_designs([design], in_flight=16)


def test_answers_that_the_design_itself_refused_have_not_been_lost() -> None:
    with Machine(None, driver="inline") as machine:
        channel = machine.open(LosesAnswers)
        assert isinstance(channel, PythonChannel)
        for cookie in range(100, 110):  # the seventh is lost, the others are refused
            channel.answer(cookie, PageResponse.SUCCESS)
        channel.flush()
        channel.turn()
        assert channel.cost().answer_errors == 9
        assert channel.unfinished() == ["1 of 10 answers did not reach the fault queue (rules 'answers', 'flush')"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"replays": 0}, ["0 passes over the workload have ended, not 1"]),
        ({"replays": 2}, ["2 passes over the workload have ended, not 1"]),
        ({"answered": 5072, "auto_answered": 3}, ["3 faults were answered for the client"]),
        ({"answered": 5072, "lost": 3}, ["3 lost"]),
        ({"unmapped": 1}, ["1 answered with SUCCESS, but the page was not mapped"]),
        ({"answer_errors": 1}, ["1 answers were refused"]),
        ({"error": "no"}, ["no"]),
    ],
    ids=str,
)
def test_a_result_that_lacks_anything_is_none(changes: dict[str, Any], said: list[str]) -> None:
    (result,) = compare_designs(["fd"]).values()
    assert _missing(replace(result, **changes)) == said


def test_what_the_others_came_to_is_in_the_error() -> None:
    with pytest.raises(ReplayError) as failure:
        compare_designs(["fd", LosesAnswers, "eventfd"], in_flight=16)
    assert isinstance(failure.value, AssertionError)
    assert list(failure.value.results) == ["fd"]
    assert failure.value.results["fd"].answered == 5075
    assert failure.value.result.design == "loses-answers"
    assert 0 < failure.value.result.answered < 5075


def test_it_fails_without_assertions_too(tmp_path: Path) -> None:
    """``python -O`` leaves out every assert."""
    program = tmp_path / "one_only.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            sys.path.insert(0, ".")
            from my_design import Doorbell
            from uring_iopf.testing.compare import ReplayError, compare_designs

            class Silent(Doorbell):
                def answer(self, responses):
                    pass

            assert False, "there are no assertions here"
            try:
                compare_designs([Silent])
            except ReplayError as error:
                print(error)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-O", str(program)], cwd=EXAMPLES, capture_output=True, text=True, timeout=120, check=True
    )
    assert "silent: stuck: 16 faults got no answer" in done.stdout


@pytest.mark.parametrize("design", ["fd", FdTwin, Doorbell])
def test_what_a_queue_with_a_depth_refuses_is_no_replay_of_the_whole_workload(design: str | type[Design]) -> None:
    with pytest.raises(ReplayError, match="faults were answered for the client"):
        compare_designs([design], in_flight=16, limits=QueueLimits(depth=4))


def test_a_record_of_losses_is_no_group() -> None:
    """It stands anywhere between messages, and belongs to no group."""
    last, first = FaultMessage(2, 1, 1, 1, 1, 0x1000, 0, 7), FaultMessage(0, 1, 1, 2, 1, 0x2000, 0, 8)
    second, lost = first._replace(flags=2), FaultMessage(LOST_GROUPS, 0, 0, 0, 0, 0, 3, 0)
    assert in_groups([lost, last, lost, first, lost, second, lost]) == [(last,), (first, second)]


class Namesake(Doorbell):
    """another design with the name of one that there is"""

    name = "fd"


@pytest.mark.parametrize("designs", [["fd", Namesake], ["fd", "fd"], [Doorbell, "my_design:Doorbell"]])
def test_two_designs_of_one_name_are_refused(designs: list[str | type[Design]]) -> None:
    """One's results would stand under the other's name."""
    with pytest.raises(UsageError, match="two designs have the name"):
        compare_designs(designs)


@pytest.mark.parametrize("designs", ["fd", Doorbell, [], (), None, 5])
def test_designs_are_a_sequence_of_one_or_more(designs: Any) -> None:
    with pytest.raises(UsageError, match=r"^designs must "):
        compare_designs(designs)


def test_a_comparison_without_a_workload_is_refused() -> None:
    """There was nothing to replay, again and again."""
    nothing: Any = None
    workload = Workload.from_faults([(0, 0, 1, 1)])
    for functions in ((), (FunctionParts(workload=workload),)):
        with pytest.raises(UsageError, match=r"^workload must not be None"):
            compare_designs(["fd"], workload=nothing, functions=functions)


def test_a_load_with_times_is_refused_where_time_stands_still() -> None:
    with pytest.raises(UsageError, match="stands still"):
        compare_designs(["fd"], load=Load(LoadMode.TRACE))
    (result,) = compare_designs(["fd"], load=Load(LoadMode.CLOSED, in_flight=3)).values()
    assert result.answered == 5075


# ---- the fixture, and hypothesis ----

DESIGNS = [*available(), Doorbell, FdTwin]


@settings(max_examples=25)
@given(workload=workloads(), how=options())
def test_every_design_serves_every_workload(
    compare_designs: Callable[..., dict[str, CellResult]], workload: Workload, how: MachineOptions
) -> None:
    """The fixture is of the session's scope: hypothesis refuses one of a function's."""
    results = compare_designs(DESIGNS, workload=workload, **how)
    assert len(results) == len(DESIGNS)
    faults = {result.faults for result in results.values()}
    assert len(faults) == 1
    assert 1 <= faults.pop() <= len(workload)
    assert all(result.answered == result.faults for result in results.values())
    assert results["fd"].per_fault == results["fd-twin"].per_fault


@settings(max_examples=50)
@given(workloads(most_faults=30, pasids=3))
def test_a_workload_that_is_drawn_is_a_trace(workload: Workload) -> None:
    """As one that was read from a file: times do not go back, pages are pages."""
    times = [time_ns for time_ns, *_ in workload]
    assert 1 <= len(workload) <= 30
    assert times == sorted(times)
    assert all(address % 4096 == 0 and address < 1 << 47 for _, address, _, _ in workload)
    assert {pasid for _, _, pasid, _ in workload} <= {0, 1, 2}
    assert {perm for *_, perm in workload} <= {1, 2, 4}


@settings(max_examples=50)
@given(options(), st.data())
def test_options_that_are_drawn_make_a_machine(how: MachineOptions, data: st.DataObject) -> None:
    parts = MachineParts.of(data.draw(workloads(most_faults=3)), **how)
    assert 1 <= parts.in_flight <= MOST_IN_FLIGHT


def test_a_workload_of_no_faults_or_spaces_is_refused() -> None:
    for wrong in ({"most_faults": 0}, {"pasids": 0}, {"pasids": 1 << 21}):
        with pytest.raises(UsageError, match="most_faults must be 1 or more"):
            workloads(**wrong)


def test_counts_are_of_this_workload_and_no_other() -> None:
    small = Workload("small", load_workload("gcc-compile").rows[: 24 * 10])
    (result,) = compare_designs(["fd"], workload=small, in_flight=1).values()
    assert (result.faults, result.replays) == (10, 1)


def test_each_suite_that_asserts_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name: an editable install lists no files from which pytest would know it."""
    rewritten: list[str] = []
    monkeypatch.setattr("pytest.register_assert_rewrite", lambda *given: rewritten.extend(given))
    testing = Path(compare.__file__).parent
    runpy.run_path(str(testing / "plugin.py"))
    asserting = [
        path.stem
        for path in testing.glob("*.py")
        if any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text())))
    ]
    assert asserting
    assert {f"uring_iopf.testing.{name}" for name in asserting} <= set(rewritten)


def test_the_suites_show_values_when_they_fail(tmp_path: Path) -> None:
    """Their asserts are rewritten, also where the package is installed as editable."""
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            from uring_iopf.testing.clients import ClientConformance

            class TestIt(ClientConformance):
                def serve(self, machine, until, code_of):
                    return 17
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-k", "nothing_comes"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "assert 17 == 0" in done.stdout
