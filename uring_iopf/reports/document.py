"""The common part of every JSON document: the environment of a run, and the format."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def environment() -> dict[str, Any]:
    """The environment of a run, for every JSON document: versions, processor, kernel."""
    from uring_iopf._native import source_hash

    return {
        "python": platform.python_version(),
        "uring_iopf": _version("uring-iopf"),
        "c_sources": source_hash()[:12],
        "cffi": _version("cffi"),
        "trio": _version("trio"),
        "numpy": _version("numpy"),
        "platform": platform.platform(),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.machine()


def this_machine(here: Mapping[str, Any]) -> tuple[str, str]:
    """The names of the machine and of its kernel in a model, from an environment."""
    processors = f"{here['cpus']} processor{'s' if here['cpus'] > 1 else ''}"
    return f"{here['cpu']}, {processors}", f"Linux {here['kernel']}"


def json_text(content: Mapping[str, Any]) -> str:
    """Return *content* as people and programs read it."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
