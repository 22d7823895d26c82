"""The engine does what the host's io_uring does: a table of cases, and programs that nobody thought of.

Both are programs of `tests.rings.language`, played on the host by raw system calls and on the engine. Where the host
refuses io_uring, recorded outcomes are the judge instead (`python -m tests.rings.record` makes them); the header of the
run says which it is. To look at a difference: `python -m tests.rings.judge NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import pytest

from tests.rings import known
from tests.rings.bulk import draw, play_spans
from tests.rings.cases import CASES
from tests.rings.drawn import Drawn
from tests.rings.engine import EnginePlayer
from tests.rings.generate import ACTION, HEADER, assemble
from tests.rings.host import HostPlayer, refusal, version
from tests.rings.judge import shown
from tests.rings.language import GETEVENTS, Case, Enter, Fd, Program, Seen, Setup
from tests.rings.player import NoInstancesError
from tests.rings.recorded import Recording, read
from uring_iopf.abi import SetupFlags

HOST: Final = not refusal()
PROGRAMS: Final = 5000
PLAYED: Final = int(os.environ.get("RINGS_PROGRAMS", PROGRAMS))
"""Of these, the first so many are played here; ``.ci/run`` plays the others beside the tests."""


@pytest.fixture(scope="module")
def recording() -> Recording:
    return read(ACTION)


@pytest.fixture(scope="module")
def host() -> Iterator[HostPlayer]:
    if not HOST:
        pytest.skip(f"the host refuses io_uring ({refusal()}): recordings are the judge")
    player = HostPlayer()
    yield player
    player.close()


@pytest.fixture(scope="module")
def engine(recording: Recording) -> Iterator[EnginePlayer]:
    player = EnginePlayer(version() if HOST else recording.kernel)
    yield player
    player.close()


PLAYS: Final = 20


def play_until(host: HostPlayer, program: Program, wanted: list[Seen]) -> list[Seen]:
    """What the host does: what is wanted, if it ever does that; else what it did last.

    On a busy machine Linux's worker threads and timers come when they come, and one outcome of several is what Linux
    does. The engine has to do one that the host was seen to do, or to differ by what is known.
    """
    for _ in range(PLAYS):
        outcome = host.play(program)
        if outcome == wanted or known.explanation(program, outcome, wanted):
            break
    return outcome


def compare(program: Program, expected: list[Seen], got: list[Seen]) -> None:
    """They are the same, or differ by what is known; that is counted."""
    if expected == got:
        return
    explanation = known.explanation(program, expected, got)
    assert explanation, "\n" + shown(program, expected, got)
    known.counted[explanation] += 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_the_engine_does_what_linux_does(case: Case, engine: EnginePlayer, recording: Recording) -> None:
    if case.name in known.CASES:
        known.counted[known.CASES[case.name]] += 1
        pytest.skip(f"known difference {known.CASES[case.name]}")
    if case.since > engine.kernel:
        pytest.skip(f"Linux {engine.kernel} does not have that yet")
    try:
        got = engine.play(case.program)
    except NoInstancesError as error:
        pytest.skip(f"not played: {error}")
    if HOST:
        player = HostPlayer()
        try:
            expected = play_until(player, case.program, got)
        except NoInstancesError as error:
            pytest.skip(f"not played: {error}")
        finally:
            player.close()
    else:
        digest, expected = recording.cases[case.name]
        assert digest == case.program.digest, "recorded from another program: python -m tests.rings.record"
    assert expected == got, f"{case.shows}\n" + shown(case.program, expected, got)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """What the programs of this run ask for."""
    return Drawn()


@pytest.mark.skipif(not HOST, reason="the host refuses io_uring: recordings are the judge")
def test_the_engine_does_what_linux_does_with_any_program() -> None:
    for _, differences in play_spans(int(os.environ["RINGS_SEED"]), 0, PLAYED):
        assert not differences, "\n\n".join(differences)


def test_nothing_is_left_out_of_the_programs(drawn: Drawn) -> None:
    """Each opcode with each of its flags, of each kind of file, and each two of its flags; all flags of setup."""
    for number in range(drawn.programs, PROGRAMS):
        drawn.count(draw(int(os.environ["RINGS_SEED"]), number).program())
    assert not drawn.missing()


def test_the_engine_does_what_was_recorded_of_any_program(recording: Recording) -> None:
    """Also where the host is the judge: what another kernel did."""
    player = EnginePlayer(recording.kernel)
    for header, actions, digest, expected in recording.programs:
        program = assemble(header, actions)
        assert digest == program.digest, (
            "the generator reads these bytes otherwise by now: python -m tests.rings.record"
        )
        try:
            got = player.play(program)
        except NoInstancesError:
            known.counted["not played, for want of inotify instances on the host"] += 1
            continue
        known.counted["recorded programs"] += 1
        compare(program, expected, got)
    player.close()


def test_the_table_is_recorded(recording: Recording) -> None:
    for case in CASES:
        if case.since <= recording.kernel:
            assert recording.cases[case.name][0] == case.program.digest, f"python -m tests.rings.record: {case.name}"


def test_the_host_is_as_recorded(host: HostPlayer, recording: Recording) -> None:
    """A recording is of this kernel, or of none that is here."""
    if version() != recording.kernel:
        pytest.skip(f"recorded of {recording.kernel}, and this is {version()}")
    for case in CASES:
        if case.name in recording.cases:
            expected = recording.cases[case.name][1]
            try:
                got = play_until(host, case.program, expected)
            except NoInstancesError:
                known.counted["not played, for want of inotify instances on the host"] += 1
                continue
            assert expected == got, f"{case.name}\n" + shown(case.program, expected, got)


def test_names_are_of_one_case_each() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_known_differences_are_on_the_page_and_the_other_way_round() -> None:
    assert set(known.CASES) <= {case.name for case in CASES}
    assert {*known.CASES.values(), *known.REQUESTS, known.ORDER} == known.IDS


def test_known_differences_are_still_there(host: HostPlayer) -> None:
    """What has become the same is struck from the list."""
    player = EnginePlayer(version())
    for case in CASES:
        if case.name in known.CASES and not case.needs:
            assert host.play(case.program) != player.play(case.program), case.name
    player.close()


@pytest.mark.parametrize("thread", [False, True], ids=["own", "another's"])
@pytest.mark.parametrize(("flags", "asked"), [(SetupFlags.CQE_MIXED, 7), (0, 8)], ids=["both sizes", "one size"])
def test_nothing_waits_for_the_last_slot_of_a_queue_of_both_sizes(
    flags: int, asked: int, thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host would never let go of the process."""
    player = EnginePlayer((6, 18))
    given: list[int] = []
    enter = player.sys_enter_beside

    def entered(fd: int, to_submit: int, least: int, flags: int, arg: int, size: int) -> int:
        given.append(least)
        return enter(fd, to_submit, 0, flags, arg, size)

    monkeypatch.setattr(player, "sys_enter_beside", entered)  # which all calls go through
    waits = [Enter(0, 8, GETEVENTS, thread=int(thread)), Enter(0, 8, GETEVENTS, fd=Fd("ring"), thread=int(thread))]
    player.play(Program((Setup(entries=4, flags=int(flags)), *waits)))
    player.close()
    assert given == [asked, asked]


def test_bytes_of_zero_are_the_plainest_program(engine: EnginePlayer) -> None:
    """So that what is found shrinks to what matters."""
    program = assemble(bytes(HEADER), [bytes(ACTION)])
    assert [seen for seen in engine.play(program) if seen][:4] == [[0, 64, 128], [1, 1, 0], [[1, 0, 0]], [0, 1, 0]]
