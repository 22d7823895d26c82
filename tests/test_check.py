"""``uring-iopf check``: it names the rule that a design breaks, whatever the design, and ends as other commands do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from tests.design_twins import EventfdTwin, FdTwin
from tests.on_host import available
from uring_iopf.abi.records import MESSAGE_BYTES, RESPONSE_BYTES
from uring_iopf.commands.main import main
from uring_iopf.costs import Counts
from uring_iopf.designs import Cost, Design, FaultSource
from uring_iopf.designs.rules import RULES
from uring_iopf.errors import UsageError
from uring_iopf.testing.check import Outcome, Verdict, check_design

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uring_iopf.abi.records import FaultMessage

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
LIMIT_S = 60


def failures(design: str | type[Design], only: str = "") -> list[Outcome]:
    return [outcome for outcome in check_design(design, only=only) if outcome.verdict is Verdict.FAILED]


# ---- designs that batch, as users write them ----


class BoundedDoorbell(Design):
    """a ring of 64 messages; the doorbell is rung for 8 answers, or when the client has nothing to do"""

    SLOTS, BELL = 64, 8
    alone: ClassVar[Counts | None] = Counts(system_calls=2, wakeups=1, bytes_copied=MESSAGE_BYTES + RESPONSE_BYTES)

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        super().__init__(source, cost)
        self.backlog: deque[Sequence[FaultMessage]] = deque()
        self.ring: list[Sequence[FaultMessage]] = []
        self.answers: list[tuple[int, int]] = []
        self.rung: list[tuple[int, int]] = []

    def publish(self) -> int:
        self.backlog.extend(self.source.take())
        n = 0
        while self.backlog and sum(map(len, self.ring)) + len(self.backlog[0]) <= self.SLOTS:
            group = self.backlog.popleft()
            self.ring.append(group)
            self.cost.copied(MESSAGE_BYTES * len(group))
            n += 1
        if n:
            self.wake()
        return n

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        ring, self.ring = self.ring, []
        return ring

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        self.answers += responses
        if len(self.answers) >= self.BELL:
            self.flush()

    def flush(self) -> None:
        if self.answers:
            self.rung += self.answers
            self.answers = []
            self.cost.system_call()

    def wait(self) -> bool:
        return bool(self.ring) or super().wait()

    def collect(self) -> int:
        rung, self.rung = self.rung, []
        for cookie, code in rung:
            self.cost.copied(RESPONSE_BYTES)
            if not self.source.answer(cookie, code):
                self.cost.answer_error()
        return len(rung)


class PerPasid(Design):
    """a queue for each address space: epoll, a read of each that has something, one write for all answers"""

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        super().__init__(source, cost)
        self.queues: dict[int, list[Sequence[FaultMessage]]] = {}
        self.answers: list[tuple[int, int]] = []

    def publish(self) -> int:
        groups = self.source.take()
        for group in groups:
            self.queues.setdefault(group[-1].pasid, []).append(group)
        if groups:
            self.wake()
        return len(groups)

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        out: list[Sequence[FaultMessage]] = []
        for queue in filter(None, self.queues.values()):
            self.cost.system_call()
            self.cost.copied(MESSAGE_BYTES * sum(map(len, queue)))
            out += queue
            queue.clear()
        if not out:
            self.cost.system_call(found=False)
        return out

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        self.cost.system_call()
        self.cost.copied(RESPONSE_BYTES * len(responses))
        self.answers += responses

    def collect(self) -> int:
        answers, self.answers = self.answers, []
        for cookie, code in answers:
            if not self.source.answer(cookie, code):
                self.cost.answer_error()
        return len(answers)


class OneAtATime(FdTwin):
    """a read returns one group, though there are more"""

    alone = None

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        self.flush()
        groups, self.file = self.file[:1], self.file[1:]
        self.cost.system_call(found=bool(groups))
        self.cost.copied(MESSAGE_BYTES * sum(map(len, groups)))
        return groups


class TakesItsTime(BoundedDoorbell):
    """the kernel's half collects one answer in a turn"""

    def collect(self) -> int:
        rung, self.rung = self.rung[1:], self.rung[:1]
        n = super().collect()
        self.rung = rung
        return n


class OwnNames(FdTwin):
    """its client names groups by numbers of its own, and gets them in a deque"""

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        super().__init__(source, cost)
        self.cookies: dict[int, int] = {}
        self.last = 1_000_000

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        named: deque[Sequence[FaultMessage]] = deque()
        for group in super().receive():
            self.last += 10
            self.cookies[self.last] = group[-1].cookie
            named.append(deque(message._replace(cookie=self.last) for message in group))
        return named

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        super().answer([(self.cookies.pop(cookie, 0), code) for cookie, code in responses])


class OneEnter(FdTwin):
    """one call sends the answers and sleeps, as io_uring_enter"""

    alone = Counts(system_calls=2, wakeups=1, bytes_copied=MESSAGE_BYTES + RESPONSE_BYTES)

    def wait(self) -> bool:
        if self.file:
            return True
        self.written += self.held
        if self.held or self.sleeps:
            self.cost.system_call()
        self.held = []
        return False


@pytest.mark.parametrize(
    "design", [FdTwin, EventfdTwin, BoundedDoorbell, PerPasid, OneAtATime, TakesItsTime, OwnNames, OneEnter]
)
def test_a_design_that_follows_the_rules_passes(design: type[Design]) -> None:
    assert failures(design) == []


# ---- designs with one mistake each: the rule that each breaks is named ----


class FlatMessages(FdTwin):
    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        return [message for group in super().receive() for message in group]  # type: ignore[misc]


class NoList(FdTwin):
    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        super().receive()
        return None  # type: ignore[return-value]


class SplitsGroups(FdTwin):
    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        return [[message] for group in super().receive() for message in group]


class Repeats(FdTwin):
    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        groups = super().receive()
        return [*groups, *groups]


class DropsEveryThird(FdTwin):
    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        return [group for n, group in enumerate(super().receive()) if n % 3 != 2]


class Reverses(FdTwin):
    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        return super().receive()[::-1]


class StickyCode(FdTwin):
    worst = 0

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        for cookie, code in responses:
            self.worst = max(self.worst, code)
            self.held.append((cookie, self.worst))


class LosesTheLast(FdTwin):
    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        super().answer(responses[:-1] if len(responses) > 2 else responses)


class NeverFlushes(BoundedDoorbell):
    alone = None

    def flush(self) -> None:
        if len(self.answers) >= self.BELL:
            super().flush()


class SleepsOnAnswers(FdTwin):
    def wait(self) -> bool:
        if self.sleeps:
            self.cost.system_call()
        return bool(self.file)


class NoWake(FdTwin):
    def wake(self) -> None:
        pass


class WaitSaysNothing(FdTwin):
    def wait(self) -> bool:
        super().wait()
        return None  # type: ignore[return-value]


class WaitsForNothing(FdTwin):
    def wait(self) -> bool:
        super().wait()
        return True


class PublishSaysNothing(FdTwin):
    def publish(self) -> int:
        super().publish()
        return None  # type: ignore[return-value]


class CollectSaysMore(FdTwin):
    def collect(self) -> int:
        return super().collect() + 1


class AnswersFromTheGrave(FdTwin):
    """it says of each answer that it was fine"""

    def collect(self) -> int:
        written, self.written = self.written, []
        for cookie, code in written:
            self.source.answer(cookie, code)
            self.cost.copied(RESPONSE_BYTES)
        return len(written)


class PollsForFree(FdTwin):
    def wait(self) -> bool:
        self.flush()
        return bool(self.file)


class LooksArePaid(FdTwin):
    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        groups = super().receive()
        if not groups:
            self.cost.empty_polls -= 1
            self.cost.system_call()
        return groups


class WakesAllTheTime(FdTwin):
    def wake(self) -> None:
        self.signal()


class WakesTwice(FdTwin):
    def wake(self) -> None:
        super().wake()
        if self.sleeps:
            self.cost.wakeup()


class FreeMessages(FdTwin):
    alone = None

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        before = self.cost.bytes_copied
        groups = super().receive()
        self.cost.bytes_copied = before
        return groups


class FreeAnswers(FdTwin):
    alone = None

    def collect(self) -> int:
        before = self.cost.bytes_copied
        n = super().collect()
        self.cost.bytes_copied = before
        return n


class BytesTwice(FdTwin):
    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        groups = super().receive()
        self.cost.copied(MESSAGE_BYTES * sum(map(len, groups)))
        return groups


class PaysForTheBatch(FdTwin):
    alone = None

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        groups = super().receive()
        if len(groups) > 1:
            self.cost.copied(1000 * len(groups))
        return groups


class EmptyBell(FdTwin):
    def flush(self) -> None:
        if not self.held:
            self.cost.system_call()
        super().flush()


class RefusalsTwice(FdTwin):
    def collect(self) -> int:
        before = self.cost.answer_errors
        n = super().collect()
        self.cost.answer_errors += self.cost.answer_errors - before
        return n


class SaysLess(FdTwin):
    alone = Counts(system_calls=2, wakeups=1, bytes_copied=MESSAGE_BYTES + RESPONSE_BYTES)


class Moody(FdTwin):
    alone = None
    moods = 0

    def collect(self) -> int:
        if n := super().collect():
            type(self).moods += 1
            self.cost.copied(self.moods // 200 % 2)
        return n


BROKEN: dict[type[Design], tuple[str, str]] = {
    FlatMessages: ("groups", "delivered answered"),
    NoList: ("groups", "delivered answered"),
    SplitsGroups: ("groups", "delivered whole"),
    Repeats: ("once", "delivered answered"),
    DropsEveryThird: ("once", "many groups"),
    Reverses: ("order", "in their order"),
    StickyCode: ("answers", "its own code"),
    LosesTheLast: ("answers", "any order"),
    NeverFlushes: ("flush", "a flush sends"),
    SleepsOnAnswers: ("flush", "before the client waits"),
    NoWake: ("wake", "that waits gets"),
    WaitSaysNothing: ("wait", "that waits gets"),
    WaitsForNothing: ("wait", "many groups"),
    PublishSaysNothing: ("progress", "delivered answered"),
    CollectSaysMore: ("progress", "delivered answered"),
    AnswersFromTheGrave: ("detach", "after detach"),
    PollsForFree: ("count: sleep", "pays for it"),
    LooksArePaid: ("count: nothing", "nothing counts"),
    WakesAllTheTime: ("count: wake-ups", "waking counts once"),
    WakesTwice: ("count: wake-ups", "waking counts once"),
    FreeMessages: ("count: bytes", "counts its bytes"),
    FreeAnswers: ("count: bytes", "counts its bytes"),
    BytesTwice: ("count: as said", "what the design says"),
    PaysForTheBatch: ("count: bytes", "a batch"),
    EmptyBell: ("count: calls", "flush of nothing"),
    RefusalsTwice: ("count: refusals", "made up"),
    SaysLess: ("count: as said", "what the design says"),
    Moody: ("count: the same", "every time"),
}
"""Each with the rule that it breaks, and a case that shows it."""


@pytest.mark.parametrize("design", BROKEN, ids=lambda design: design.__name__)
def test_a_design_with_a_mistake_is_told_the_rule(design: type[Design]) -> None:
    rule, case = BROKEN[design]
    found = failures(design, case)
    assert rule in {outcome.rule for outcome in found}
    for outcome in found:
        assert outcome.rule is not None, outcome.why
        assert f"rule {outcome.rule!r}: {RULES[outcome.rule]}" in outcome.why


def test_each_rule_is_broken_by_some_design_above() -> None:
    """So none is a rule that nothing holds."""
    assert {rule for rule, _ in BROKEN.values()} == set(RULES)


# ---- the command ----


def test_it_prints_each_case_and_a_line_of_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "my_design:Doorbell", "handler"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "doorbell (my_design:Doorbell)"
    assert "  ok      a flush sends what was answered [sleep]" in lines
    assert "doorbell (my_design:Doorbell): 49 passed" in lines
    assert lines[-1] == "handler: 5 passed, 44 skipped"
    assert "  skipped groups are delivered whole [spin]" in lines
    assert err == ""
    assert out.isascii()


def test_a_failure_shows_what_was_found_and_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    spec = f"{__name__}:LosesTheLast"
    assert main(["check", "--failures", "--case", "order", spec]) == 1
    found = "the accesses: ['PENDING', 'OK', 'OK', 'OK', 'OK'], expected ['OK', 'OK', 'OK', 'OK', 'OK']"
    assert capsys.readouterr().out == (
        f"loses-the-last ({spec})\n"
        "  FAILED  answers may come in any order [sleep]\n"
        f"          {found}\n"
        f"          rule 'answers': {RULES['answers']}\n"
        "  FAILED  answers may come in any order [spin]\n"
        "          the same as: answers may come in any order [sleep]\n"
        f"loses-the-last ({spec}): 2 passed, 2 failed\n"
        "rules broken: 'answers'\n"
    )


def test_cases_are_chosen_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--case", "detach", "fd"]) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines()[-1] == "fd: 4 passed"
    assert main(["check", "--case", "nosuch", "fd"]) == 2
    assert "no case of the suite has 'nosuch' in its name" in capsys.readouterr().err


MISTAKES = {
    "zero": "def receive(self):\n        return 1 / 0",
    "exits": "def receive(self):\n        raise SystemExit(0)",
    "no_init": "def __init__(self, source, cost):\n        pass",
    "init_raises": "def __init__(self, source, cost):\n        raise RuntimeError('no')",
}


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("zero", "ZeroDivisionError: division by zero\n          in receive, "),
        ("exits", "SystemExit: 0\n"),
        ("no_init", "Mine.__init__ must call super().__init__(source, cost)"),
        ("init_raises", "RuntimeError: no\n          in __init__, "),
    ],
)
def test_a_mistake_in_the_code_is_shown_with_its_place(
    mistake: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"mistake_{mistake}"
    (tmp_path / f"{module}.py").write_text(
        f"from my_design import Doorbell\n\n\nclass Mine(Doorbell):\n    {MISTAKES[mistake]}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--case", "deliver", f"{module}:Mine"]) == 1
    out, err = capsys.readouterr()
    assert said in out
    assert "the same as: " in out  # not thirty times the same
    assert err == ""


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nosuch", "there is no design 'nosuch'"),
        ("nosuch_module:X", "cannot import"),
        (":X", "cannot import ''"),
        ("broken_module:X", "SyntaxError: "),
        ("raising_module:X", "KeyError: 'gone' ("),
        ("ending_module:X", "SystemExit: 0 ("),
        ("unready:Mine", "Mine is incomplete; a design must define collect, receive, answer too"),
        ("unready:Named", "name and year must be strings"),
        ("unready:Counted", "alone must be Counts or None"),
    ],
)
def test_what_is_no_design_is_refused_before_anything_runs(
    spec: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_module.py").write_text("class X(:\n")
    (tmp_path / "raising_module.py").write_text("{}['gone']\n")
    (tmp_path / "ending_module.py").write_text("import sys\n\nsys.exit(0)\n")
    (tmp_path / "unready.py").write_text(
        "from my_design import Doorbell\nfrom uring_iopf import Design\n\n\n"
        "class Mine(Design):\n    def publish(self):\n        return 0\n\n\n"
        "class Named(Doorbell):\n    name = 5\n\n\nclass Counted(Doorbell):\n    alone = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["check", "fd", spec]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.startswith("uring-iopf check: ")
    with pytest.raises(UsageError):
        check_design(spec)


def test_the_help_teaches_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", "--help"])
    assert end.value.code == 0
    out, _ = capsys.readouterr()
    assert all(name in out for name in RULES)
    assert "exit status:" in out
    assert max(map(len, out.splitlines())) <= 80


def run_check(*arguments: str, flags: Sequence[str] = (), **options: object) -> subprocess.Popen[str]:
    code = (
        "import sys; sys.modules['pytest'] = None; from uring_iopf.commands.main import main; raise SystemExit(main())"
    )
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, *flags, "-c", code, "check", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parent.parent)])},
        **options,
    )  # type: ignore[call-overload]  # fmt: skip
    return process


@pytest.mark.parametrize("flags", [(), ("-O",)], ids=["", "-O"])
def test_it_needs_no_pytest_and_no_asserts(flags: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text(
        textwrap.dedent(
            """
            from my_design import Doorbell

            class Careless(Doorbell):
                def flush(self):
                    pass
            """
        )
    )
    with run_check("--case", "flush", "fd", "careless:Careless", flags=flags, cwd=tmp_path) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (1, "")
    assert "fd: 4 passed" in out
    assert "rule 'flush': " in out


WAITING = """
import sys, time
from my_design import Doorbell

class Waiting(Doorbell):
    def receive(self):
        if self.source.taken:
            sys.stderr.write("begun\\n")
            sys.stderr.flush()
            while True:
                time.sleep(60)
        return super().receive()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_what_has_ended(number: signal.Signals, tmp_path: Path) -> None:
    """In a design that never returns."""
    (tmp_path / "waiting.py").write_text(WAITING)

    def default() -> None:
        signal.signal(number, signal.SIG_DFL if number is not signal.SIGINT else signal.default_int_handler)

    with run_check("waiting:Waiting", cwd=tmp_path, preexec_fn=default) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + number
    assert out == "waiting (waiting:Waiting)\nwaiting (waiting:Waiting): no case has ended\n"
    assert err == "uring-iopf: interrupted; the suite has not ended\n"


def test_a_reader_that_goes_away_ends_it() -> None:
    with run_check(*available()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(LIMIT_S) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_clear_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "uring_iopf", "check", "fd"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "uring-iopf: standard output: No space left on device\n"
