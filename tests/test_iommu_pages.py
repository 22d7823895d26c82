"""The reference page of each IOMMU has the registers that the code has, and says what is not there."""

from __future__ import annotations

import enum
import errno
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from uring_iopf.core import Core
from uring_iopf.errors import KernelError
from uring_iopf.hardware.iommus.iommu import Iommu, model_names
from uring_iopf.hardware.iommus.named import make_iommu

if TYPE_CHECKING:
    from types import ModuleType

REFERENCE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
PAGES: Final = {
    "vtd": ("vtd", "iommu-vtd.md"),
    "smmuv3": ("smmuv3", "iommu-smmuv3.md"),
    "amd": ("amd", "iommu-amd.md"),
    "riscv": ("riscv", "iommu-riscv.md"),
    "device": ("device", "iommu-device.md"),
    "device-log": ("device_log", "iommu-device-log.md"),
}
"""The module and the page of each model; the revisions of one have one page."""
ASKED: Final = {
    "vtd": "page request descriptors; page group response; LPIG; PQH, PQT, PQA; PRS; PECTL; a full queue; "
    "memory fault; fault recording; invalidation queue; PASID tables; page tables; checks of a request",
    "smmuv3": "PRI queue entries; overflow; own answers; PRI queue that aborts; event queue that aborts; "
    "S2, IPA, CLASS; F_TRANSLATION; other events; STALL_MAX; `CMD_RESUME`; errors of commands; stream table; MSI; page "
    "tables",
    "amd": "PPR log entries; COMPLETE_PPR_REQUEST; status of the log; overflow; auto response; memory fault; "
    "stop markers; PASID Required; event log; command buffer; page tables",
    "riscv": "page-request records; stop markers; pqcsr; pqof; pqmf; own answers; EN_PRI; fault queue; ATS.PRGR; "
    "big-endian; page tables",
    "device": "subtype 2; subtype 0; subtype 1; PAGE_FAULT_RESUME; owner bit; memory fault; registers",
    "device-log": "64 bytes; 0x26 and 0x27; other errors; 128 bytes; registers; a full log; memory fault; interrupt "
    "handles; SWERR",
}
"""What a reader who knows the specification looks for."""


def text_of(model: str) -> str:
    return (REFERENCE / PAGES[model][1]).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def module_of(model: str) -> ModuleType:
    return importlib.import_module(f"uring_iopf.hardware.iommus.{PAGES[model][0]}")


E = TypeVar("E", bound=enum.Enum)


def enums(model: str, kind: type[E]) -> list[type[E]]:
    """The enumerations of this kind that the model's module defines."""
    module = module_of(model)
    found = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, kind)]
    return [one for one in found if one.__module__ == module.__name__]


def registers_of(model: str) -> dict[str, int]:
    return {one.name: int(one) for some in enums(model, enum.IntEnum) if "Register" in some.__name__ for one in some}


def test_every_model_has_a_page() -> None:
    assert {name.partition("-2")[0].partition("-3")[0] for name in model_names()} - {"mock"} == set(PAGES)


@pytest.mark.parametrize("model", PAGES)
def test_the_page_has_the_registers_that_there_are(model: str) -> None:
    on_page: dict[str, int] = {}
    tables = [table for table in text_of(model).split("\n\n") if table.startswith("| register | offset |")]
    for row in "\n".join(tables).splitlines():
        cells = row.split(" | ")
        names = re.findall(r"`(\w+)`", cells[0])
        offsets = re.findall(r"0x[0-9a-f]+", cells[1]) if len(cells) > 1 else []
        if offsets:
            on_page |= dict(zip(names, (int(one, 16) for one in offsets), strict=True))
    assert on_page == registers_of(model)


@pytest.mark.parametrize("model", PAGES)
def test_each_register_can_be_read_and_no_other(model: str) -> None:
    with Core() as core:
        iommu: Iommu = make_iommu(core, model)
        there = registers_of(model)
        for offset in {*there.values(), *range(0, 0x2100, 4), *range(0x10000, 0x10100, 4)}:
            if offset in there.values():
                iommu.read_register(offset)
                continue
            with pytest.raises(KernelError) as refused:
                iommu.read_register(offset)
            assert refused.value.errno == (errno.EINVAL if there else errno.EOPNOTSUPP)
        iommu.close()
    if not there:
        assert "`read_register`" in section(text_of(model), "What of the specification is here")


@pytest.mark.parametrize("model", PAGES)
def test_the_page_has_the_bits_that_there_are(model: str) -> None:
    for flags in enums(model, enum.IntFlag):
        for bit in flags:
            shown = rf"`?\b{bit.name}`? (bit )?{int(bit).bit_length() - 1}\b"
            assert re.search(shown, text_of(model)), f"{flags.__name__}.{bit.name} is not on the page with its bit"


@pytest.mark.parametrize("model", PAGES)
def test_the_page_says_what_of_the_specification_is_there(model: str) -> None:
    rows = [row.split(" | ") for row in section(text_of(model), "What of the specification is here").splitlines()]
    asked = [row[0] for row in rows if len(row) == 2]
    for what in ASKED[model].split("; "):
        assert any(what in one for one in asked), f"{PAGES[model][1]} does not say whether there is {what}"
