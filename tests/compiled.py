"""The library in C, compiled for tests: once a run for each sanitizer, whichever tests link with it.

A compiler without a sanitizer's run-time library is a failure: that is where races and stray pointers are found, and a
test that is skipped finds none.

``python -m tests.compiled DIRECTORY SANITIZER NAME ARGUMENT...`` runs a program of ``c/`` as the tests do, for as long
as its arguments say; what is compiled stays in the directory for the next.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE: Final = Path(__file__).resolve().parent
CDEFS: Final = HERE.parent / "cdefs"
FLAGS: Final = ["-std=gnu11", "-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", f"-I{CDEFS}"]

#: The last is none: at every edge of its code the library calls ``__sanitizer_cov_trace_pc``, which a program counts.
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


def gcc(*arguments: str | Path) -> None:
    """Run the compiler; what it complains of is the failure."""
    done = subprocess.run(["gcc", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@cache
def library_objects(directory: Path, sanitizer: str) -> tuple[Path, ...]:
    """Compile every C file of the library into *directory*; return the objects, which a shared library can take."""
    target = directory / sanitizer
    target.mkdir(parents=True, exist_ok=True)
    sources = sorted(CDEFS.rglob("*.c"))
    objects = tuple(target / f"{source.relative_to(CDEFS).as_posix().replace('/', '-')}.o" for source in sources)

    def compile_one(source: Path, to: Path) -> None:
        gcc(*FLAGS, "-std=c11", "-fPIC", *SANITIZERS[sanitizer], "-c", source, "-o", to)

    if not (target / "complete").exists():
        with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
            list(pool.map(compile_one, sources, objects))
        (target / "complete").touch()
    return objects


_ALLOCATIONS: Final = ["-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray,--wrap=aligned_alloc"]
#: What a program is linked with besides.
LINKED_WITH: Final[Mapping[str, Sequence[str]]] = {
    "bounds": _ALLOCATIONS,
    "no_memory": _ALLOCATIONS,
    "host": ["-Wl,--wrap=send,--wrap=recv,--wrap=read,--wrap=ppoll,--wrap=syscall"],
}


def program(name: str, directory: Path, sanitizer: str, *sources: Path, also: Sequence[str] = ()) -> Path:
    """Link a test program's sources with the library, by default those of its name in ``c/``; return the binary."""
    sources = sources or (HERE / "c" / f"{name}.c",)
    also = [*also, *LINKED_WITH.get(name, ())]
    binary = directory / f"{name}-{sanitizer}"
    objects = library_objects(directory, sanitizer)
    flags = () if sanitizer == "steps" else SANITIZERS[sanitizer]  # the program's own steps are not counted
    gcc(*FLAGS, *flags, *sources, *objects, "-o", binary, *also, "-pthread", "-lm")
    return binary


def main(directory: str, sanitizer: str, name: str, *arguments: str) -> None:
    """Become the program."""
    binary = program(name, Path(directory), sanitizer)
    os.execve(binary, [str(binary), *arguments], os.environ | ENVIRONMENT)


if __name__ == "__main__":
    main(*sys.argv[1:])
