"""The C programs in ``c/``, each linked with the whole library and run under the sanitizers.

The objects are compiled once for each sanitizer. A compiler without its run-time libraries is a failure: this is where
races and stray pointers are found, and a test that is skipped finds none.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).resolve().parent
CDEFS: Final = HERE.parent / "cdefs"
FLAGS: Final = ["-std=c11", "-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]

SANITIZERS: Final[Mapping[str, Sequence[str]]] = {
    "address+undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"],
    "thread": ["-fsanitize=thread"],
    "steps": ["-fsanitize-coverage=trace-pc"],
}
ENVIRONMENT: Final = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}

#: Name and arguments. Seeds are fixed here; a program that is run by hand takes the time for one, and prints it.
PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    "idmap": ["1"],
    "histogram": ["1"],
    "memory": [],
    "walk": ["1"],
    "records": ["1"],
    "faultq": ["200000", "1"],
    "vtd": [],
    "attach": ["20000"],
    "hostfile": ["20000", "1"],
    "rings": ["60000", "2", "1"],
    "control": ["3", "1"],
    "attachable": ["2", "1"],
    "eventq": ["30000", "1"],
    "found": [],
    "no_memory": [],
    "bounds": [],
    "hostile": [os.environ.get("HOSTILE_SECONDS", "6"), "1"],
}

#: What a program is linked with besides.
LINKED_WITH: Final[Mapping[str, Sequence[str]]] = {
    "no_memory": ["-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray,--wrap=aligned_alloc"],
    "bounds": ["-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray,--wrap=aligned_alloc"],
}


#: In these there is no second thread, and nothing for the thread sanitizer to see; it takes minutes with it.
ONE_THREAD: Final = frozenset({"no_memory", "bounds"})

#: No sanitizer: at every edge of its code the library calls ``__sanitizer_cov_trace_pc``, which counts, in this one.
STEPS: Final = "steps"
COUNTS_STEPS: Final = frozenset({"bounds"})


@pytest.fixture(scope="session")
def build_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("c")


def gcc(*arguments: str | Path) -> None:
    done = subprocess.run(["gcc", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@cache
def library_objects(directory: Path, sanitizer: str) -> tuple[Path, ...]:
    """Compile every C file of the library; return the objects."""
    target = directory / sanitizer
    target.mkdir()
    sources = sorted(CDEFS.rglob("*.c"))
    objects = tuple(target / f"{source.relative_to(CDEFS).as_posix().replace('/', '-')}.o" for source in sources)

    def compile_one(source: Path, to: Path) -> None:
        gcc(*FLAGS, *SANITIZERS[sanitizer], f"-I{CDEFS}", "-c", source, "-o", to)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(compile_one, sources, objects))
    return objects


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
    objects = library_objects(build_directory, sanitizer)
    binary = build_directory / f"{program}-{sanitizer}"
    source = HERE / "c" / f"{program}.c"
    linked_with = LINKED_WITH.get(program, [])
    flags = [] if sanitizer == STEPS else SANITIZERS[sanitizer]
    gcc(*FLAGS, *flags, f"-I{CDEFS}", source, *objects, "-o", binary, *linked_with, "-pthread", "-lm")
    done = subprocess.run(
        [binary, *PROGRAMS[program]],
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
    objects = library_objects(build_directory, "address+undefined")
    binary = build_directory / "engine_fuzz"
    source = HERE / "fuzz" / "engine_fuzz.c"
    gcc(*FLAGS, *SANITIZERS["address+undefined"], f"-I{CDEFS}", source, *objects, "-o", binary, "-pthread", "-lm")
    inputs = sorted((HERE / "fuzz" / "corpus").iterdir())
    done = subprocess.run(
        [binary, *inputs], env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-8000:]}"
    assert "Sanitizer" not in done.stderr, done.stderr
    assert f"{len(inputs)} inputs" in done.stdout


def test_every_program_is_run() -> None:
    assert {path.stem for path in (HERE / "c").glob("*.c")} == set(PROGRAMS)
