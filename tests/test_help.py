"""`--help` of every command: it fits a terminal, explains each option, and shows examples that work."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from uring_iopf.commands.main import build_parser, main
from uring_iopf.commands.shared import Parser


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser of each command, by the words after ``uring-iopf``."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, of_word in action.choices.items():
                if isinstance(of_word, Parser):
                    of_word.complete()
                yield from parsers(of_word, f"{name} {word}".strip())


COMMANDS = dict(parsers(build_parser()))


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_the_commands_are_found() -> None:
    assert set(COMMANDS) == {
        "",
        "compare",
        "check",
        "bench",
        "calibrate",
        "conformance",
        "conformance golden",
        "conformance report",
        "serve",
    }


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "uring-iopf")
def test_a_help_fits_a_terminal(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert [line for line in help_of(command, capsys).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "uring-iopf")
def test_a_help_explains_each_option_each_choice_each_default_and_each_limit(command: str) -> None:
    parser = COMMANDS[command]
    assert parser.description
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert [one.dest for one in action._choices_actions if one.help] == list(action.choices)
            continue
        text = action.help
        assert text, action.option_strings
        if action.default not in (None, "", False, argparse.SUPPRESS):
            shown = f"{action.default:g}" if isinstance(action.default, float) else str(action.default)
            assert text.endswith(f"(default: {shown})"), action.option_strings
        for choice in action.choices or ():
            assert re.search(rf"\b{choice}\b", text), f"{action.option_strings}: {choice} is not explained"
        if callable(action.type):
            with pytest.raises(argparse.ArgumentTypeError) as refused:
                action.type("no number")
            most = str(refused.value).split()[-1]
            assert most.replace(str(2**64 - 1), "2^64 - 1") in text, f"{action.option_strings}: {most} is the limit"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "uring-iopf")
def test_a_help_shows_examples_that_the_command_accepts(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples = help_of(command, capsys).partition("\nexamples:\n")[2].partition("\n\n")[0]
    lines = [line.strip() for line in examples.splitlines() if line.startswith("  uring-iopf ")]
    assert lines, "no examples"
    for line in lines:
        assert line.startswith(f"uring-iopf {command}".strip())
        build_parser().parse_args(line.split()[1:])


@pytest.mark.parametrize(
    "command", [name for name, parser in COMMANDS.items() if parser.get_default("run")], ids=lambda command: command
)
def test_a_help_lists_the_exit_statuses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = re.findall(r"^  ([0-9][0-9, ]*?)  ", help_of(command, capsys).partition("\nexit status:\n")[2], re.M)
    assert listed == ["0", "1", "2", "130", "143, 129"]
