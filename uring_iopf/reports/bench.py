"""The printed text of ``uring-iopf bench``, and its JSON document."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from uring_iopf.hardware.limits import IOMMU_TITLES
from uring_iopf.lab.bench import HEAVY, VENDORS, measure
from uring_iopf.machine_parts import IOMMUS
from uring_iopf.reports.document import environment, json_text
from uring_iopf.reports.output import write_out
from uring_iopf.reports.progress import progress
from uring_iopf.reports.text import duration, rate

if TYPE_CHECKING:
    from typing import TextIO

    from uring_iopf.lab.bench import Bench
    from uring_iopf.reports.output import Output

SCHEMA: Final = 1
"""The number is raised when a key of the JSON document is removed or changes its meaning."""

MEANINGS: Final = {
    "bare_rings": "messages, CQEs and SQEs between two processors, without a design",
    "path": "the whole path: uring-multishot, native client, driver sqpoll, wait spin",
    "path_enter": "the whole path with the driver enter: the kernel runs in the client's calls",
    "handler": "the design handler: the kernel answers by itself, without a ring or a client",
    **{
        name.rpartition("_")[0]: f"the same behind {IOMMU_TITLES[iommu]}"
        for iommu, name in VENDORS.items()
        if iommu != IOMMUS[0]
    },
    "host_fd": "the host's poll, read and write on a seqpacket socket, one message in each call",
    "host_stream": "the host's stream socket, many messages in each call, spinning",
    "nop": "NOP requests through an emulated ring, inline, without the cost of system calls",
    "host_nop": "NOP requests through the host's io_uring",
    "trio": "the whole path with the trio client: an object and an answer call for each fault",
    "batch": "the whole path with the batch client: NumPy arrays",
    "virtual_faults_per_s": "uring-multishot in virtual time, by the host's clock",
    "replace_100k": "replace a table while 100,000 groups are outstanding",
    "replace_10k_10": "replace a table ten times, each time with 10,000 groups outstanding",
    "ids_1m": "free an id and allocate one, with 1,000,000 in use",
    "ids_1k": "free an id and allocate one, with 1,000 in use",
}
"""The meaning of each rate and time. A number at the end of a rate's name is the groups in flight, or in a call."""


def run(*, out: TextIO, json_file: Output | None, quick: bool) -> int:
    """Measure everything, write the text to *out* and the JSON to *json_file* (if given), and return the exit status.

    0: done; 1: the JSON could not be written; 130: interrupted. *quick*: see `uring_iopf.lab.bench.measure`.
    """
    with progress() as tell:
        bench = measure(quick=quick, tell=tell)
    content = document(bench, quick=quick)
    complaint = None if json_file is None else json_file.write(json_text(content))
    write_out(out, _text(content))
    if complaint is not None:  # for example a full disk: the text was printed all the same
        sys.stderr.write(f"uring-iopf: {complaint}\n")
    if bench.partial:
        return 130
    return 0 if complaint is None else 1


def document(bench: Bench, *, quick: bool) -> dict[str, Any]:
    """All measurements, with the environment."""
    return {
        "schema": SCHEMA,
        "rates": bench.medians(bench.meters),
        "seconds": bench.medians(bench.timers),
        "ratios": bench.ratios(),
        "memory": bench.memory,
        "imports": bench.imports,
        "floor": None if bench.floor is None else bench.floor.to_json(),
        "rounds": bench.samples,
        "environment": environment(),
        "arguments": {"quick": quick},
        "missing": bench.missing,
        "partial": bench.partial,
    }


def _text(document: dict[str, Any]) -> str:
    env = document["environment"]
    lines = [f"{env['cpu']}, {env.get('cpus')} processors, Linux {env.get('kernel')}"]
    lines += ["", "rates (median of the rounds)"]
    for name, value in document["rates"].items():
        lines.append(f"  {name:<16} {rate(value):>8}/s   {MEANINGS.get(name) or MEANINGS[name.rpartition('_')[0]]}")
    lines += ["", "times (median of the rounds)"]
    lines += [
        f"  {name:<16} {duration(value * 1e9):>10}   {MEANINGS[name]}" for name, value in document["seconds"].items()
    ]
    lines += ["", "ratios (median of the rounds' ratios)"]
    lines += [f"  {name:<24} {value:8.3g}" for name, value in document["ratios"].items()]
    if memory := document["memory"]:
        lines += ["", f"memory: {memory['kib_grown']} KiB more after {memory['faults']:,} faults"]
    if imports := document["imports"]:
        heavy = ", ".join(imports["heavy_modules"]) or f"none of {', '.join(HEAVY)}"
        lines += [
            f"import uring_iopf: {imports['import_ms']:.1f} ms beyond Python's own {imports['python_ms']:.1f} ms; "
            f"loads {heavy}",
            f"uring-iopf --help: {imports['help_ms']:.1f} ms",
        ]
    if floor := document["floor"]:
        times = {name.removesuffix("_ns"): ns for name, ns in floor.items() if name.endswith("_ns") and ns}
        lines += ["", "floor: " + ", ".join(f"{name} {duration(ns)}" for name, ns in times.items())]
        if floor["together"] is not None:
            lines += [f"both processors ran at the same time for {floor['together']:.1%} of the time"]
    if document["missing"]:
        lines += ["", "not measured here"]
        lines += [f"  {name:<24} {reason}" for name, reason in document["missing"].items()]
    if document["partial"]:
        lines += ["", "PARTIAL: interrupted; the numbers are those measured until then"]
    return "\n".join(lines) + "\n"
