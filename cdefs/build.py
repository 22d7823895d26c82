"""Build ``uring_iopf._core``: every C file here, and the declarations that Python may use.

The headers in ``DECLARATIONS`` are read twice, by cffi and by the compiler. cffi knows neither ``#include`` nor
``#pragma``, so those lines are left out for it; nothing else is changed.

The extension carries a hash of the sources it was built from, so that a stale one is noticed (``uring_iopf/_native.py``
checks it in a checkout).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
DECLARATIONS = ("abi/io_uring.h", "abi/iommufd.h", "abi/hardware.h", "abi/hello.h", "abi/cost.h", "abi/api.h")
COMPILE_ARGS = ["-std=c11", "-O3", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
# Small functions in many files, called once per fault: let the compiler see across them. Hidden, since it may not
# inline what another library could put itself in front of. No vectors of neighbouring counters: a load that is wider
# than the store before it waits until that has left the processor, behind all that wait for lines from another core.
OPTIMISE_ARGS = ["-flto=auto", "-fvisibility=hidden", "-fno-tree-slp-vectorize"]
# cffi's own generated code is compiled with the same flags; what it does not keep to is named here.
GENERATED_ARGS = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]


def sources() -> list[Path]:
    """Every C file of the library, sorted; test programs and fuzzers live elsewhere."""
    return sorted(HERE.rglob("*.c"))


def source_hash() -> str:
    """SHA-256 over names and contents of everything the extension is made from."""
    digest = hashlib.sha256()
    for path in sorted([*HERE.rglob("*.[ch]"), HERE / "build.py"]):
        digest.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def declarations() -> str:
    """The headers as cffi can read them."""
    lines: list[str] = []
    for name in DECLARATIONS:
        text = (HERE / name).read_text(encoding="utf-8")
        lines += [line for line in text.splitlines() if not line.startswith(("#include", "#pragma"))]
    return "\n".join(lines)


def relative(path: Path) -> str:
    """Setuptools wants paths relative to where it runs: the project's root."""
    return os.path.relpath(path, HERE.parent)


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "uring_iopf._core",
    "\n".join(f'#include "{name}"' for name in DECLARATIONS),
    sources=[relative(path) for path in sources()],
    include_dirs=[relative(HERE)],
    define_macros=[("UIOPF_SOURCE_HASH", f'"{source_hash()}"')],
    extra_compile_args=COMPILE_ARGS + OPTIMISE_ARGS + GENERATED_ARGS + os.environ.get("UIOPF_CFLAGS", "").split(),
    extra_link_args=["-pthread", *OPTIMISE_ARGS, "-O3", *os.environ.get("UIOPF_LDFLAGS", "").split()],
    libraries=["m"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
