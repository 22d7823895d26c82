"""Every public constructor and method of the hardware and of iommufd, with each argument of a wrong type.

Each refuses by an error of the caller's that names the argument, before anything has changed. Not by what came of it
inside: no AttributeError, no word of cffi's, and no errno of Linux's.
"""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.test_handles import ARGUMENTS, HANDLES, end_all, methods
from uring_iopf import Load
from uring_iopf.core import Core
from uring_iopf.errors import UsageError
from uring_iopf.hardware.endpoint import Endpoint
from uring_iopf.hardware.iommus.amd import AmdIommu
from uring_iopf.hardware.iommus.device import DeviceFaults
from uring_iopf.hardware.iommus.device_log import DeviceLog
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.iommus.riscv import RiscvIommu
from uring_iopf.hardware.iommus.smmuv3 import SmmuV3Iommu
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.page_tables import PageTables
from uring_iopf.hardware.pri import PageRequest
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.hardware.translator import DeviceTlb, Translator
from uring_iopf.hardware.work_queues import WorkQueues
from uring_iopf.iommufd import ClientMemory, Context, DeviceGroup, MockIommu, QueueLimits
from uring_iopf.iommufd.spaces.second_stage import SecondStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONSTRUCTORS: Final[dict[Callable[..., Any], Callable[[], dict[str, Any]]]] = {
    Endpoint: lambda: {"iommu": VtdIommu(Core())},
    Iommu: lambda: {"core": Core(), "model": "vtd"},
    VtdIommu: lambda: {"core": Core()},
    AmdIommu: lambda: {"core": Core()},
    SmmuV3Iommu: lambda: {"core": Core()},
    RiscvIommu: lambda: {"core": Core()},
    DeviceFaults: lambda: {"core": Core()},
    DeviceLog: lambda: {"core": Core()},
    AddressSpace: dict,
    PageTables: lambda: {"table_format": "vtd-first"},
    Translator: lambda: {"core": Core(), "first": PageTables("vtd-first")},
    DeviceTlb: lambda: {"translator": Translator(Core(), first=PageTables("vtd-first"))},
    WorkQueues: lambda: {"endpoint": Endpoint(VtdIommu(Core()))},
    SecondStage: lambda: {"ioas": Context(Core()).ioas_alloc(), "tables": PageTables("vtd-second")},
    PageRequest: lambda: {"pasid": 1},
    Load: dict,
    Context: dict,
    MockIommu: lambda: {"core": Core()},
    QueueLimits: dict,
    ClientMemory: dict,
    DeviceGroup: dict,
}
"""With arguments that are right."""

KINDS: Final = (
    *("Endpoint", "AddressSpace", "VtdIommu", "AmdIommu", "SmmuV3Iommu", "RiscvIommu", "DeviceFaults", "PageTables"),
    *("Translator", "DeviceTlb", "Context", "Device", "MockDevice", "MockIommu", "IOAS", "FaultQueue", "PagingHWPT"),
    *("Viommu", "VirtualEventQueue"),
)
"""Of `HANDLES`."""


RIGHT: Final[dict[str, Callable[[Any], Any]]] = {
    "iommu": lambda context: context.mock,
    "source": lambda space: space,
}
"""Arguments that must be right, for another to be looked at: made of the handle."""


def wrong(annotation: str) -> Iterator[object]:
    """Values that suit no parameter that says so."""
    names = set(re.findall(r"\w+", annotation))
    if names <= {"bool", "None"} or names & {"object", "Follower"}:
        return  # anything is true or false, or may be an owner
    yield object()
    if not names & {"str", "PageFormat"}:
        yield "wrong"
    if "None" not in names:
        yield None
    if "int" in names and "float" not in names:
        yield 1.5


def parameters(call: Callable[..., Any]) -> list[inspect.Parameter]:
    return [
        one
        for one in inspect.signature(call).parameters.values()
        if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def check_refusal(call: Callable[..., Any], given: dict[str, Any], name: str, value: object) -> str | None:
    """What is wrong with the refusal; None: nothing."""
    told = f"{getattr(call, '__qualname__', call)}({name}={value!r})"
    try:
        call(**{**given, name: value})
    except (UsageError, TypeError) as error:
        if not re.search(rf"\b{name}\b", str(error)):
            return f"{told}: does not name it: {error}"
        return None
    except BaseException as error:
        return f"{told}: {error!r}"
    return f"{told}: is accepted"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("make", CONSTRUCTORS, ids=lambda make: make.__name__)
def test_a_constructor_names_the_argument_that_has_the_wrong_type(make: Callable[..., Any]) -> None:
    found = []
    for parameter in parameters(make):
        for value in wrong(str(parameter.annotation)):
            found.append(check_refusal(make, CONSTRUCTORS[make](), parameter.name, value))
    assert not [one for one in found if one]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_method_names_the_argument_that_has_the_wrong_type(kind: str) -> None:
    found = []
    for name in methods(HANDLES[kind]().handle):
        call = getattr(HANDLES[kind]().handle, name)
        if not inspect.ismethod(call) or name == "check_open":
            continue
        for parameter in parameters(call):
            for value in wrong(str(parameter.annotation)):
                made = HANDLES[kind]()
                needed = [one.name for one in parameters(call) if one.default is one.empty]
                given = {one: RIGHT[one](made.handle) if one in RIGHT else ARGUMENTS[one]() for one in needed}
                found.append(check_refusal(getattr(made.handle, name), given, parameter.name, value))
                with suppress(Exception):
                    end_all(made)
    assert not [one for one in found if one]
