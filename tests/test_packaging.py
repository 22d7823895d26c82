"""What is shipped, what imports what, and that the two sides of the seam to C say the same."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import uring_iopf
from uring_iopf import _native

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "uring_iopf"
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def in_a_new_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


# ---- the compiled part ----


def test_the_extension_was_built_from_the_sources_beside_it() -> None:
    assert _native.source_hash() == _native._sources_hash(ROOT / "cdefs")


def test_the_build_script_and_the_check_hash_alike() -> None:
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['source_hash']())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "cdefs" / "build.py")], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == _native._sources_hash(ROOT / "cdefs")


def test_a_stale_extension_is_refused_at_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cdefs").mkdir()
    (tmp_path / "cdefs" / "build.py").write_text("# of another version")
    monkeypatch.setattr(_native, "__file__", str(tmp_path / "uring_iopf" / "_native.py"))
    monkeypatch.delenv("URING_IOPF_SKIP_BUILD_CHECK", raising=False)
    with pytest.raises(ImportError, match=r"built from other C sources.*pip install -e"):
        _native.check_build()
    monkeypatch.setenv("URING_IOPF_SKIP_BUILD_CHECK", "1")
    _native.check_build()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkout that was never built, and the folder of what was installed from it by `pip install .`."""
    checkout, site = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("site")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, site / "uring_iopf", ignore=ignore)
    shutil.copytree(PACKAGE, checkout / "uring_iopf", ignore=shutil.ignore_patterns("__pycache__", "_core*.so"))
    shutil.copytree(ROOT / "cdefs", checkout / "cdefs", ignore=ignore)
    return checkout, site


def in_the_checkout(checkout: tuple[Path, Path], *arguments: str) -> subprocess.CompletedProcess[str]:
    folder, site = checkout
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_checkout_works_with_what_was_installed_from_it(checkout: tuple[Path, Path]) -> None:
    code = "import uring_iopf; uring_iopf.Machine(None).close(); print(uring_iopf._native.ffi, uring_iopf.__file__)"
    done = in_the_checkout(checkout, "-c", code)
    assert done.stderr == ""
    assert str(checkout[0] / "uring_iopf" / "__init__.py") in done.stdout
    done = in_the_checkout(checkout, "-m", "uring_iopf", "compare", "--workload", "nonsense")
    assert "there is no workload or file 'nonsense'" in done.stderr
    done = in_the_checkout(checkout, "-m", "uring_iopf", "compare", "--help")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_checkout_that_hides_another_uring_iopf_says_so(checkout: tuple[Path, Path]) -> None:
    changed = checkout[0] / "cdefs" / "core" / "core.c"
    text = changed.read_text()
    changed.write_text(text + "/* of another day */\n")
    try:
        done = in_the_checkout(checkout, "-c", "import uring_iopf; uring_iopf.Machine")
        command = in_the_checkout(checkout, "-m", "uring_iopf", "compare")
    finally:
        changed.write_text(text)
    assert f"ImportError: the checkout in {checkout[0]} hides the installed uring_iopf in {checkout[1]}" in done.stderr
    assert "start Python in another folder to use the installed one" in done.stderr
    assert "pip install -e ." in done.stderr
    assert command.returncode == 2
    assert command.stderr.startswith(
        f"uring-iopf compare: the checkout in {checkout[0]} hides the installed uring_iopf"
    )
    assert command.stderr.count("\n") == 1


def test_a_checkout_without_an_installed_package_says_how_to_install_it(checkout: tuple[Path, Path]) -> None:
    code = f"import sys; sys.path[1:] = [p for p in sys.path[1:] if p != {str(ROOT)!r}]; import uring_iopf._native"
    done = in_the_checkout((checkout[0], checkout[0] / "nothing"), "-c", code)
    assert "compiled part is missing: install the package" in done.stderr


def test_the_package_says_its_version_and_names() -> None:
    assert uring_iopf.__version__ == metadata.version("uring-iopf") == PROJECT["version"]
    assert {*uring_iopf.__all__, "__version__"} <= set(dir(uring_iopf))
    assert dir(uring_iopf) == sorted(dir(uring_iopf))


def test_an_editable_install_is_a_path_that_type_checkers_follow() -> None:
    """An import hook is not: mypy takes a package behind one for missing."""
    direct = json.loads(metadata.distribution("uring-iopf").read_text("direct_url.json") or "{}")
    if not direct.get("dir_info", {}).get("editable"):
        pytest.skip("the package is not installed as editable")
    files = [str(file) for file in metadata.files("uring-iopf") or []]
    assert not [name for name in files if name.endswith("_finder.py")]
    (path,) = [name for name in files if name.endswith(".pth")]
    assert metadata.distribution("uring-iopf").locate_file(path).read_text().strip() == str(ROOT)


def test_the_build_takes_more_flags_from_the_environment() -> None:
    """A sanitizer's, say; behind the build's own, so that they count."""
    code = (
        "import json, runpy, sys; ffi = runpy.run_path(sys.argv[1])['ffibuilder'];"
        "print(json.dumps([ffi._assigned_source[3][key][-1] for key in ('extra_compile_args', 'extra_link_args')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "cdefs" / "build.py")],
        env=os.environ | {"UIOPF_CFLAGS": "-g -O1", "UIOPF_LDFLAGS": "-s -fno-lto"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == ["-O1", "-fno-lto"]


# ---- the seam to C ----


def declared_in_c() -> dict[str, int]:
    """The functions of ``cdefs/abi/api.h``, and how many parameters each takes."""
    text = (ROOT / "cdefs" / "abi" / "api.h").read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    functions = re.findall(r"\b(uiopf_\w+)\s*\(([^()]*)\)\s*;", text)
    return {name: 0 if words.strip() in ("", "void") else words.count(",") + 1 for name, words in functions}


def typed_in_python() -> dict[str, int]:
    """The methods of the protocol, and how many parameters each takes besides ``self``."""
    methods = {name: value for name, value in vars(_native._Lib).items() if name.startswith("uiopf_")}
    return {name: len(inspect.signature(method).parameters) - 1 for name, method in methods.items()}


def test_the_protocol_types_just_the_functions_that_c_declares() -> None:
    assert len(declared_in_c()) > 50, "the header was understood"
    assert typed_in_python() == declared_in_c()


def test_the_protocol_takes_positional_arguments_only_as_c_does() -> None:
    for name in typed_in_python():
        parameters = inspect.signature(getattr(_native._Lib, name)).parameters.values()
        assert {parameter.kind for parameter in parameters} == {inspect.Parameter.POSITIONAL_ONLY}, name


def pointers_in_c() -> dict[str, list[str | None]]:
    """Of each function, which opaque struct its parameters and its result point to; None: it is something else."""
    text = (ROOT / "cdefs" / "abi" / "api.h").read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    opaque = set(re.findall(r"^struct (uiopf_\w+);", text, re.MULTILINE))
    pointer = re.compile(r"\s*(?:const )?struct (\w+) \*(?:\w+)?\s*")

    def struct(declared: str) -> str | None:
        match = pointer.fullmatch(declared)
        return match[1] if match and match[1] in opaque else None

    functions = re.findall(r"^([^;{}#]*?)\b(uiopf_\w+)\s*\(([^()]*)\)\s*;", text, re.MULTILINE)
    return {
        name: [struct(" ".join(one.split())) for one in (*words.split(","), result)]
        for result, name, words in functions
    }


def test_each_opaque_struct_has_a_type_of_its_own() -> None:
    """No two structs share a type, and no function takes one where C has another."""
    types: dict[str, set[str]] = {}
    for name, structs in pointers_in_c().items():
        signature = inspect.signature(getattr(_native._Lib, name))
        said = [one.annotation for one in list(signature.parameters.values())[1:]] or [""]
        for struct, annotation in zip(structs, [*said, signature.return_annotation], strict=True):
            if struct is None:
                assert not annotation.startswith("C") or annotation == "CData", f"{name}: {annotation}"
            else:
                types.setdefault(struct, set()).add(annotation)
    assert all(len(names) == 1 for names in types.values()), types
    names = [name for some in types.values() for name in some]
    assert len(set(names)) == len(types) > 10
    assert "CData" not in names


def test_the_compiled_module_has_every_function() -> None:
    assert [name for name in declared_in_c() if not hasattr(_native.lib, name)] == []


# ---- imports ----

HEAVY = ("numpy", "rich", "hypothesis", "trio", "pytest")


def test_import_loads_nothing_heavy() -> None:
    assert in_a_new_python(f"import sys, uring_iopf; print([m for m in {HEAVY} if m in sys.modules])") == "[]\n"


def test_the_machine_needs_no_extra() -> None:
    code = f"import sys, uring_iopf.machine; print([m for m in {HEAVY} if m in sys.modules])"
    assert in_a_new_python(code) == "[]\n"


def test_every_public_name_can_be_had() -> None:
    for name in uring_iopf.__all__:
        assert getattr(uring_iopf, name).__name__ == name
    assert sorted(uring_iopf.__all__) == sorted(uring_iopf._WHERE)
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        uring_iopf.nosuch  # noqa: B018


# ---- what is installed ----


def test_types_and_traces_are_installed() -> None:
    files = resources.files("uring_iopf")
    assert files.joinpath("py.typed").is_file()
    assert files.joinpath("_core.pyi").is_file()
    traces = sorted(one.name for one in files.joinpath("workloads", "traces").iterdir() if one.name.endswith(".gz"))
    assert [name.removesuffix(".csv.gz") for name in traces] == sorted(
        ["gcc-compile", "git-repack", "numpy-sort", "parallel-sort", "sqlite-index"]
    )


def test_the_cost_models_are_installed() -> None:
    models = resources.files("uring_iopf").joinpath("costs", "models")
    assert sorted(one.name for one in models.iterdir()) == [
        "epyc-7r13.json",
        "graviton3.json",
        "round-numbers.json",
        "xeon-8173m.json",
        "xeon-8375c.json",
    ]
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert "costs/models/*.json" in tools["setuptools"]["package-data"]["uring_iopf"]


def test_the_installed_package_is_this_one() -> None:
    assert metadata.version("uring-iopf") == PROJECT["version"]
    points = metadata.entry_points()
    assert {point.value for point in points.select(group="console_scripts", name="uring-iopf")} == {
        "uring_iopf.commands.main:main"
    }
    assert {point.value for point in points.select(group="pytest11", name="uring_iopf")} == {
        "uring_iopf.testing.plugin"
    }


def test_the_core_needs_cffi_and_trio_only() -> None:
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in PROJECT["dependencies"]}
    assert names == {"cffi", "trio"}
    assert set(PROJECT["optional-dependencies"]) == {"cli", "numpy", "test"}


def test_the_changelog_has_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{re.escape(PROJECT['version'])}\]?", changelog, re.MULTILINE)


def test_the_licence_is_shipped() -> None:
    assert (ROOT / PROJECT["license-files"][0]).read_text(encoding="utf-8").startswith("MIT License")


# ---- no trace of the machines it was written on ----

TEXT = {".c", ".h", ".py", ".pyi", ".md", ".toml", ".in", ".sh", ".csv", ".json", ""}


def our_files() -> Iterator[Path]:
    for top in (".ci", "cdefs", "docs", "tests", "uring_iopf"):
        yield from (path for path in (ROOT / top).rglob("*") if path.is_file() and path.suffix in TEXT)
    here = (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT)
    yield from (path for path in here if path.name != ".git")  # a file in a work tree beside the first


def test_no_file_names_a_place_on_somebody_s_machine() -> None:
    place = re.compile(r"(?<![\w.$}])/(?:work|root|home/\w+|Users/\w+)/\w")
    cached = {"__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in our_files()
        if not cached & set(path.parts)
        for match in place.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
