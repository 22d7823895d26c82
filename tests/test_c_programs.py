"""The C programs in ``c/``, each linked with the whole library and run under the sanitizers.

Each begins with what it tests and how it draws; `compiled.py` compiles the library.
"""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests import compiled
from tests.compiled import ENVIRONMENT, HERE, SANITIZERS

#: Name and arguments. Seeds are fixed here; a program that is run by hand takes the time for one, and prints it.
PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    "idmap": ["1"],
    "histogram": ["1"],
    "memory": [],
    "walk": ["1"],
    "tables": ["2000", "1"],
    "invalidate": ["20000", "1"],
    "records": ["1"],
    "faultq": ["200000", "1"],
    "region": ["100000", "1"],
    "vtd": [],
    "vtd_revisions": [],
    "smmuv3": [],
    "amd": [],
    "device": [],
    "device_log": [],
    "riscv": [],
    "pri": ["100000", "1"],
    "outside": ["20000", "1"],
    "nesting": ["500", "1"],
    "account": ["20000", "1"],
    "attach": ["20000"],
    "hostfile": ["20000", "1"],
    "rings": ["60000", "2", "1"],
    "control": ["3", "1"],
    "host": ["4000", "1"],
    "attachable": ["2", "1"],
    "eventq": ["10000", "1"],
    "found": [],
    "waiters": ["1", "1", "2"],
    "virtual": ["100", "1"],
    "no_memory": [],
    "bounds": [],
    "prices": [],
    "hostile": [os.environ.get("HOSTILE_SECONDS", "6"), "1"],
}

#: Fewer steps where the thread sanitizer is ten times slower: every eighth cell; no trees, which one thread walks.
UNDER_THREAD: Final[Mapping[str, Sequence[str]]] = {"waiters": ["1", "1", "8"], "tables": ["0", "1"]}

#: In these there is no second thread, and nothing for the thread sanitizer to see; it takes minutes with it. `virtual`
#: has coroutines, which designs/virtual.c tells the sanitizer of: each switch orders what was before it, so it sees no
#: race. Without that order it would see false ones: in virtual time a core stands still because its turn has not come.
#: Races of the same code are looked for where threads run it (`rings`, `control`, `attach`, `waiters`).
ONE_THREAD: Final = frozenset({"account", "idmap", "invalidate", "pri", "outside", "virtual", "no_memory", "bounds"})

#: No sanitizer, but a count of the library's steps; these programs say what is too many.
STEPS: Final = "steps"
COUNTS_STEPS: Final = frozenset({"bounds"})


@pytest.mark.parametrize(
    ("program", "sanitizer"),
    [
        pytest.param(program, sanitizer, id=f"{program}-{sanitizer}")
        for program in PROGRAMS
        for sanitizer in SANITIZERS
        if not (sanitizer == "thread" and program in ONE_THREAD)
        and not (sanitizer == STEPS and program not in COUNTS_STEPS)
    ],
)
def test_a_c_program_runs_without_a_complaint(program: str, sanitizer: str, build_directory: Path) -> None:
    arguments = (UNDER_THREAD if sanitizer == "thread" and program in UNDER_THREAD else PROGRAMS)[program]
    binary = compiled.program(program, build_directory, sanitizer)
    done = subprocess.run(
        [binary, *arguments],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-8000:]}"
    assert "Sanitizer" not in done.stderr, done.stderr


def test_every_input_that_a_fuzzer_kept_runs_without_a_complaint(build_directory: Path) -> None:
    """``fuzz/corpus/``, by a ``main`` of the target's own: a fuzzer is needed to find inputs, not to run them."""
    source = HERE / "fuzz" / "engine_fuzz.c"
    binary = compiled.program("engine_fuzz", build_directory, "address+undefined", source)
    inputs = sorted((HERE / "fuzz" / "corpus").iterdir())
    done = subprocess.run(
        [binary, *inputs], env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-8000:]}"
    assert "Sanitizer" not in done.stderr, done.stderr
    assert f"{len(inputs)} inputs" in done.stdout


def test_every_program_is_run() -> None:
    assert {path.stem for path in (HERE / "c").glob("*.c")} == set(PROGRAMS)


def test_what_can_run_longer_is_in_the_soak() -> None:
    soak = (HERE.parent / ".ci" / "soak").read_text(encoding="utf-8")
    assert [name for name, arguments in PROGRAMS.items() if arguments and not re.search(rf"\b{name}\b", soak)] == []
